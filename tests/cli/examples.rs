//! Every command of the README and of the manual page's EXAMPLES is run, in the order it stands there, on a state of its own.
//!
//! Only names and paths are put in for those of the text. What cannot be run here is named with the reason, and must still be understood.

use super::Session;
use super::transcript::{KEY, prepared, words};
use std::path::Path;

/// What may end with 1 here, and what it says then: there is no daemon, and the host of the tests is no boot server.
const ANSWERS_NO: &[(&str, &str)] = &[
    ("check", "problem"),
    ("boot trace", "the daemon does not run"),
    ("status", ""),
];
/// What is not run, and why. It is asked for its help instead, which needs it to be understood.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "install-service",
        "it changes the host; tests/cli/install.rs runs it below a folder",
    ),
    ("guest", "it needs a hypervisor; tests/guest runs its commands"),
];

/// The commands of the README: those in blocks behind a prompt, and those in the text.
fn of_the_readme() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    for (place, part) in text.split("```").enumerate() {
        if place % 2 == 1 {
            for line in part.lines() {
                let line = ["# ", "$ ", "sudo "]
                    .iter()
                    .fold(line.trim(), |line, prompt| line.strip_prefix(prompt).unwrap_or(line));
                let line = line.split("  #").next().unwrap().trim();
                if line.starts_with("cordwainer ") {
                    found.push(line.to_owned());
                }
            }
        } else {
            let spans = part.split('`').skip(1).step_by(2);
            found.extend(
                spans
                    .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
                    .filter(|span| span.starts_with("cordwainer ")),
            );
        }
    }
    found
}

/// The commands of the EXAMPLES of `cordwainer man 8`.
fn of_the_page(session: &Session) -> Vec<String> {
    let page = session.run(&["man", "--section", "8"]).succeeded().out;
    let examples = page
        .split_once(".SH EXAMPLES\n.nf\n")
        .unwrap()
        .1
        .split_once(".fi")
        .unwrap()
        .0;
    examples.lines().map(|line| line.replace("\\-", "-")).collect()
}

/// A word of an example as it is here: the tree, the files and the machine of this session.
fn here(session: &Session, word: &str) -> String {
    let path = |name: &str| session.path(name).to_str().unwrap().to_owned();
    match word {
        "NAME" => "web1".to_owned(),
        "MAC" => "00:00:5e:00:53:99".to_owned(),
        "COMMAND" => "boot".to_owned(),
        "FILE" => "redhat/el9.ks".to_owned(),
        _ if word.starts_with("/srv/") => path("tree"),
        _ if word.ends_with(".toml") || word.starts_with("/root/") => path(word.rsplit('/').next().unwrap()),
        _ => word.to_owned(),
    }
}

fn run_all(session: &Session, commands: &[String]) {
    for command in commands {
        let typed: Vec<String> = words(command).iter().skip(1).map(|word| here(session, word)).collect();
        let line = typed.join(" ");
        let mut arguments: Vec<&str> = typed.iter().map(String::as_str).collect();
        if NOT_RUN.iter().any(|(start, _)| line.starts_with(start)) {
            arguments.push("--help");
        }
        // The editor of `template edit` changes nothing.
        let ran = session.run_with(&arguments, &[("EDITOR", "true")], "");
        let no = ANSWERS_NO.iter().find(|(start, _)| line.starts_with(start));
        match no {
            Some((_, why)) if ran.code == 1 => {
                assert!(format!("{}{}", ran.out, ran.err).contains(why), "{command}: {ran:?}");
            }
            _ => {
                ran.succeeded();
            }
        }
    }
}

fn session() -> Session {
    prepared(&format!("ssh_authorized_keys = [\"{KEY}\"]"))
}

#[test]
fn the_commands_of_the_readme_run() {
    let commands = of_the_readme();
    assert!(commands.len() > 12, "{commands:#?}");
    for wanted in [
        "cordwainer import",
        "cordwainer system add",
        "cordwainer boot explain",
        "cordwainer check",
    ] {
        assert!(
            commands.iter().any(|command| command.starts_with(wanted)),
            "{commands:#?}"
        );
    }
    run_all(&session(), &commands);
}

#[test]
fn the_examples_of_the_manual_page_run() {
    let session = session();
    let commands = of_the_page(&session);
    assert!(commands.len() >= 10, "{commands:#?}");
    run_all(&session, &commands);
    assert!(session.path("objects.toml").is_file() && session.path("cordwainer.backup").is_file());
}
