//! Boot scripts for iPXE.
//!
//! iPXE knows no quoting: it expands `${...}` anywhere in a line, then splits at blanks, and takes the words `||`, `&&` and `;` and words
//! that begin with `#` for itself; a `\` at the end joins the next line. So a value is passed as it is or, where it holds one of these, not at
//! all. The syntax is that of 2019 and later, the oldest that a supported system ships.

use super::command_line::{console, how_to_arm, left_out, options, query, url};
use crate::boot::{ImageBoot, ImageStart, Launch, Menu};
use crate::inventory::Entry;
use crate::model::Firmware;
use std::fmt::Write as _;

/// True when iPXE hands `word` on unchanged. `word` may hold single blanks: iPXE splits at them and joins again with one.
fn carries(word: &str) -> bool {
    let special = |token: &str| token.is_empty() || matches!(token, "||" | "&&" | ";") || token.starts_with('#');
    !word.contains("${") && !word.contains(char::is_control) && !word.split(' ').any(special)
}

/// Text for `echo`, `item` and `menu`: printable, and no word means anything to iPXE.
fn text(said: &str) -> String {
    let plain = console(said).replace("${", "$(").replace('\\', "/");
    let words: Vec<String> = plain
        .split_whitespace()
        .map(|word| match word {
            "||" => "|".to_owned(),
            "&&" => "&".to_owned(),
            ";" => ",".to_owned(),
            word if word.starts_with('#') => format!("'{word}"),
            word => word.to_owned(),
        })
        .collect();
    words.join(" ")
}

/// Names for the initrds: the EFI stub of a kernel finds them by `initrd=NAME` alone, so each must have its own.
fn initrd_names(urls: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (index, url) in urls.iter().enumerate() {
        let base = url
            .split(['?', '#'])
            .next()
            .unwrap_or("")
            .rsplit('/')
            .next()
            .unwrap_or("");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fits = base.starts_with(|c: char| c.is_ascii_alphanumeric()) && base.chars().all(plain) && base.len() <= 64;
        if fits && !names.iter().any(|name| name == base) {
            names.push(base.to_owned());
        } else {
            names.push(format!("initrd-{index}"));
        }
    }
    names
}

/// How iPXE leaves for the machine's own disk. A bare `exit` on UEFI stops in the firmware's menu.
fn own_disk(firmware: Option<Firmware>) -> &'static str {
    const BIOS: &str = "sanboot --no-describe --drive 0x80 || exit\n";
    match firmware {
        Some(Firmware::Bios) => BIOS,
        Some(firmware) if firmware.is_uefi() => "exit 1\n",
        _ => "iseq ${platform} efi && exit 1 ||\nsanboot --no-describe --drive 0x80 || exit\n",
    }
}

/// Starts an installer; three tries, then the own disk.
pub(super) fn launch(launch: &Launch) -> String {
    let names = initrd_names(&launch.initrd);
    let mut words: Vec<String> = names.iter().map(|name| format!("initrd={name}")).collect();
    let (own, missing) = words_of(&launch.options);
    words.extend(own);
    let kernel = url(&launch.kernel);
    let mut out = String::from("#!ipxe\n");
    let _ = writeln!(
        out,
        "echo Cordwainer: installing {} with profile {}",
        text(launch.system.as_str()),
        text(launch.profile.as_str())
    );
    let _ = writeln!(out, "echo Cordwainer: kernel {kernel}");
    if let Some(line) = left_out(&missing) {
        let _ = writeln!(out, "echo {}", text(&line));
    }
    out.push_str("set tries:int32 0\n:fetch\nimgfree\n");
    let _ = writeln!(
        out,
        "kernel {} || goto failed",
        [vec![kernel], words].concat().join(" ")
    );
    for (place, (name, from)) in names.iter().zip(&launch.initrd).enumerate() {
        let args = launch.initrd_args.get(place).map_or("", String::as_str);
        let gap = if args.is_empty() { "" } else { " " };
        let args = if carries(args) { args } else { "" };
        let _ = writeln!(out, "initrd --name {name} {}{gap}{args} || goto failed", url(from));
    }
    out.push_str("boot || goto failed\n:failed\n");
    out.push_str(
        "echo Cordwainer: the installer did not start; the line above says why (error codes: https://ipxe.org/err)\n",
    );
    out.push_str("imgstat ||\ninc tries\niseq ${tries} 3 && goto give_up ||\n");
    out.push_str("echo Cordwainer: trying again in 5 seconds\nsleep 5\ngoto fetch\n:give_up\n");
    out.push_str("echo Cordwainer: tried 3 times; booting from the own disk\nimgfree\n");
    out.push_str(own_disk(launch.firmware));
    out
}

/// The options that iPXE carries as words, and the keys of those that it does not.
fn words_of(entries: &[Entry]) -> (Vec<String>, Vec<String>) {
    let (mut words, mut missing) = (Vec::new(), Vec::new());
    for option in options(entries) {
        match option.word().filter(|word| carries(word)) {
            Some(word) => words.push(word),
            None => missing.push(option.key),
        }
    }
    (words, missing)
}

/// Boots an image; three tries, then the own disk.
pub(super) fn image(boot: &ImageBoot) -> String {
    let (words, missing) = words_of(&boot.options);
    let from = url(&boot.url);
    let mut out = String::from("#!ipxe\n");
    let _ = writeln!(
        out,
        "echo Cordwainer: {} boots image {}, once",
        text(boot.system.as_str()),
        text(boot.image.as_str())
    );
    if let Some(line) = left_out(&missing) {
        let _ = writeln!(out, "echo {}", text(&line));
    }
    out.push_str("set tries:int32 0\n:fetch\nimgfree\n");
    let line = |first: &[String]| [first, &words].concat().join(" ");
    match &boot.start {
        ImageStart::Kernel => {
            let _ = writeln!(out, "kernel {} || goto failed\nboot || goto failed", line(&[from]));
        }
        ImageStart::Memdisk { memdisk, words } => {
            let first = [url(memdisk), (*words).to_owned()];
            let _ = writeln!(
                out,
                "kernel {} || goto failed\ninitrd {from} || goto failed\nboot || goto failed",
                line(&first)
            );
        }
        ImageStart::Drive => {
            let _ = writeln!(out, "sanboot --no-describe {from} || goto failed");
        }
    }
    out.push_str(
        ":failed\necho Cordwainer: the image did not start; the line above says why (error codes: https://ipxe.org/err)\n",
    );
    out.push_str("inc tries\niseq ${tries} 3 && goto give_up ||\n");
    out.push_str("echo Cordwainer: trying again in 5 seconds\nsleep 5\ngoto fetch\n:give_up\n");
    out.push_str("echo Cordwainer: tried 3 times; booting from the own disk\nimgfree\n");
    out.push_str(own_disk(boot.firmware));
    out
}

/// Boots the own disk.
pub(super) fn local(firmware: Option<Firmware>, because: &str) -> String {
    format!(
        "#!ipxe\necho Cordwainer: booting from the own disk: {}\n{}",
        text(because),
        own_disk(firmware)
    )
}

/// The menus and profiles that stand in one menu.
fn items(out: &mut String, menu: &Menu, group: Option<usize>) {
    for (place, one) in menu.groups_in(group) {
        let _ = writeln!(out, "item menu_{place} {} >", text(&one.title));
    }
    for (place, entry) in menu.entries_in(group) {
        let _ = writeln!(out, "item profile_{place} Install {}", text(&entry.title));
    }
}

/// A menu whose choices only tell how to arm; the script is then asked for again, and answers by what is armed.
pub(super) fn menu(menu: &Menu) -> String {
    let mut out = String::from("#!ipxe\n:start\nmenu Cordwainer: this machine is not armed, so nothing is installed\n");
    out.push_str("item own_disk Boot from the own disk\n");
    items(&mut out, menu, None);
    let _ = writeln!(
        out,
        "choose --default own_disk --timeout {} chosen || goto own_disk\ngoto ${{chosen}}",
        menu.timeout_ms
    );
    for (place, group) in menu.groups.iter().enumerate() {
        let back = group
            .parent
            .map_or_else(|| "start".to_owned(), |above| format!("menu_{above}"));
        let _ = writeln!(out, ":menu_{place}\nmenu {}\nitem {back} Back", text(&group.title));
        items(&mut out, menu, Some(place));
        let _ = writeln!(out, "choose chosen || goto {back}\ngoto ${{chosen}}");
    }
    for (index, entry) in menu.entries.iter().enumerate() {
        let profile = entry.profile.as_str();
        let _ = writeln!(
            out,
            ":profile_{index}\necho To install this machine, type on the server:\necho {}",
            // The machine knows its own address; `text` would take the setting apart.
            how_to_arm(&text(profile), "${netX/mac}")
        );
        let _ = writeln!(
            out,
            "prompt Then press a key here ||\nchain --replace --autofree ipxe?profile={} || goto start",
            query(profile)
        );
    }
    out.push_str(":own_disk\necho Cordwainer: booting from the own disk\n");
    out.push_str(own_disk(menu.firmware));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_words_pass() {
        for word in ["a=b", "a=\"b c\"", "a=b;c", "a=b||c", "a=$x", "a=b#c", "---"] {
            assert!(carries(word), "{word}");
        }
        for word in [
            "a=${net0/ip}",
            "a=\"b || c\"",
            "a=\"b  c\"",
            "#a",
            "a=\"b #c\"",
            ";",
            "a=\"\n\"",
        ] {
            assert!(!carries(word), "{word}");
        }
    }

    #[test]
    fn text_means_nothing_to_ipxe() {
        assert_eq!(text("a ${b} || c && d ; #e \\"), "a $(b} | c & d , '#e /");
        assert_eq!(text("a\nexit 1"), "a exit 1");
    }

    #[test]
    fn every_initrd_has_its_own_name() {
        let urls = ["http://a/x/initrd.gz", "http://a/y/initrd.gz", "http://a/z/a%20b"].map(String::from);
        assert_eq!(initrd_names(&urls), ["initrd.gz", "initrd-1", "initrd-2"]);
    }
}
