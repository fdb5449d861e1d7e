//! Boot scripts with hostile options, URLs and titles: nothing ends its word or its line, in any dialect.

use super::input::Input;
use super::template::entry;
use cordwainer::boot::{Dialect, Launch, Menu, MenuEntry, MenuGroup, Script};
use cordwainer::model::Firmware;
use cordwainer::render;

/// One byte chooses the script, then lines end with NUL: a key, a value, a piece of URL; the rest is a sentence.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let choice = input.byte();
    let dialect = [Dialect::Ipxe, Dialect::Grub, Dialect::Pxelinux][usize::from(choice % 3)];
    let firmware = [
        Some(Firmware::Bios),
        Some(Firmware::UefiX64),
        Some(Firmware::UefiArm64),
        None,
    ][usize::from(choice >> 4 & 3)];
    let (key, value, piece) = (input.line(0), input.line(0), input.line(0));
    let sentence = String::from_utf8_lossy(input.0).into_owned();
    let launch = |key: &str, value: &str, piece: &str| {
        let mut options = vec![entry("first", "1"), entry(key, value), entry("last", "2")];
        options[1].values = if value.is_empty() {
            None
        } else {
            Some(vec![value.to_owned(), value.to_owned()])
        };
        render::script(&Script::Launch(Box::new(Launch {
            dialect,
            firmware,
            system: "web1".parse().unwrap(),
            profile: "rocky9".parse().unwrap(),
            kernel: format!("http://192.168.77.1/d/{piece}/vmlinuz"),
            initrd: vec![format!("http://192.168.77.1/d/{piece}/initrd.img")],
            initrd_args: Vec::new(),
            options,
            removed: Vec::new(),
        })))
    };
    let hostile = launch(&key, &value, &piece);
    same_shape(dialect, &hostile, &launch("k", "v", "x"), &[&key, &value, &piece]);
    let whole = |line: &str| line.contains("first=1") && line.contains("last=2");
    assert!(
        hostile.lines().any(whole),
        "{dialect:?}: the options after it are lost:\n{hostile}"
    );
    let local = |because: &str| {
        render::script(&Script::Local {
            dialect,
            firmware,
            because: because.to_owned(),
        })
    };
    same_shape(dialect, &local(&sentence), &local("plain"), &[&sentence]);
    let menu = |title: &str| {
        render::script(&Script::Menu(Menu {
            dialect,
            firmware,
            entries: vec![MenuEntry {
                title: title.to_owned(),
                profile: "rocky9".parse().unwrap(),
                group: Some(0),
            }],
            groups: vec![MenuGroup {
                title: title.to_owned(),
                parent: None,
            }],
            timeout_ms: 1000,
        }))
    };
    same_shape(dialect, &menu(&sentence), &menu("plain"), &[&sentence]);
}

/// The console line about options that the dialect cannot carry. It repeats keys, never values.
fn is_note(line: &str) -> bool {
    ["echo ", "echo '", "echo \"", "SAY "].iter().any(|verb| {
        let said = line.trim_start().strip_prefix(verb);
        said.is_some_and(|said| said.starts_with("Cordwainer: left out, this loader cannot pass them on:"))
    })
}

/// The first words of the lines of a script: what it does, without what it is told.
fn shape(text: &str) -> Vec<&str> {
    text.split('\n')
        .filter(|line| !is_note(line))
        .map(|line| line.split_whitespace().next().unwrap_or(""))
        .collect()
}

fn same_shape(dialect: Dialect, hostile: &str, plain: &str, told: &[&str]) {
    assert_eq!(shape(hostile), shape(plain), "{dialect:?} {told:?}:\n{hostile}");
    assert!(
        !hostile.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')),
        "{dialect:?}: control characters in {hostile:?}"
    );
    for (hostile, plain) in hostile.split('\n').filter(|line| !is_note(line)).zip(plain.split('\n')) {
        match dialect {
            // iPXE joins commands by these words, expands ${} anywhere, and takes a word that begins with # for a comment.
            Dialect::Ipxe => {
                let joints = |line: &str| {
                    line.split_ascii_whitespace()
                        .filter(|word| matches!(*word, "||" | "&&" | ";"))
                        .count()
                };
                assert_eq!(joints(hostile), joints(plain), "{told:?}: {hostile}");
                assert_eq!(
                    hostile.matches("${").count(),
                    plain.matches("${").count(),
                    "{told:?}: {hostile}"
                );
                let comments = |line: &str| line.split_ascii_whitespace().any(|word| word.starts_with('#'));
                assert_eq!(comments(hostile), comments(plain), "{told:?}: {hostile}");
            }
            Dialect::Grub => {
                assert_eq!(open_quote(hostile), open_quote(plain), "{told:?}: {hostile}");
                assert_eq!(grub_joints(hostile), grub_joints(plain), "{told:?}: {hostile}");
            }
            Dialect::Pxelinux => {}
        }
    }
}

/// GRUB's words: single quotes hold all, double quotes all but `\` and `$`, a backslash the next character.
fn grub_scan(line: &str) -> (bool, usize) {
    let (mut quote, mut joints, mut chars) = (None, 0, line.chars());
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => {
                chars.next();
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, ';' | '|' | '&' | '{' | '}' | '<' | '>' | '$' | '#') | (Some('"'), '$') => joints += 1,
            _ => {}
        }
    }
    (quote.is_some(), joints)
}

fn open_quote(line: &str) -> bool {
    grub_scan(line).0
}

fn grub_joints(line: &str) -> usize {
    grub_scan(line).1
}
