//! The house rules that a compiler cannot hold: headers, sizes, who may import what, what lies where.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn sources() -> Vec<PathBuf> {
    rust_files(&root().join("server/src"))
}

#[test]
fn every_file_says_what_it_is_for_and_stays_small() {
    let mut wrong = Vec::new();
    let mut lengths = Vec::new();
    for path in sources().into_iter().chain(rust_files(&root().join("tests"))) {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        lengths.push(lines);
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not start with //!", path.display()));
        }
        if lines > 800 {
            wrong.push(format!("{} has {lines} lines; split it below 800", path.display()));
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if ["utils", "util", "helpers", "helper", "common", "manager", "misc"].contains(&stem) {
            wrong.push(format!("{}: name the thing", path.display()));
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= 300, "the median file has {median} lines");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Which modules a module's pure files may use. `ports` is open to the protocols because rows and effects are values.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let core = ["model", "event", "config", "inventory", "install", "assets", "boot"];
    let mut protocol: Vec<&str> = core.to_vec();
    protocol.extend(["render", "ports"]);
    BTreeMap::from([
        ("model", vec![]),
        ("event", vec!["model"]),
        ("config", vec!["model", "event"]),
        ("inventory", vec!["model", "event"]),
        ("install", vec!["model", "event"]),
        ("assets", vec!["model", "event"]),
        ("boot", core[..6].to_vec()),
        ("render", core.to_vec()),
        ("dhcp", protocol.clone()),
        ("tftp", protocol.clone()),
        ("http", protocol.clone()),
        ("xmlrpc", protocol),
        ("distro", vec!["model", "event"]),
        ("guest", vec!["model", "event"]),
    ])
}

/// The modules that a file names in code: `crate::x`, with comments and tests left out.
fn edges(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    code.match_indices("crate::")
        .flat_map(|(at, _)| {
            let rest = &code[at + "crate::".len()..];
            if let Some(list) = rest.strip_prefix('{') {
                list.split('}')
                    .next()
                    .unwrap_or("")
                    .split(',')
                    .map(|part| word(part.trim()))
                    .collect()
            } else {
                vec![word(rest)]
            }
        })
        .filter(|name| !name.is_empty())
        .collect()
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn nobody_imports_what_he_may_not() {
    let allowed = allowed();
    let mut wrong = Vec::new();
    for path in sources() {
        let inside = path.strip_prefix(root().join("server/src")).unwrap().to_path_buf();
        let module = inside
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let io = text.contains("clippy::disallowed_methods");
        for used in edges(&text) {
            if used == module {
                continue;
            }
            let fine = match (module.as_str(), allowed.get(module.as_str())) {
                ("lib" | "main" | "cli", _) => true,
                ("daemon", _) => used != "cli",
                ("ports", _) => used != "cli" && used != "daemon",
                ("store", _) => !["cli", "daemon", "tftp", "http"].contains(&used.as_str()),
                // An IO file: its own pure half, what that may use, the readers of trees and assets, and ports.
                (_, Some(list)) if io => {
                    list.contains(&used.as_str())
                        || ["ports", "config", "inventory", "distro", "assets"].contains(&used.as_str())
                }
                (_, Some(list)) => list.contains(&used.as_str()),
                (other, None) => panic!("{other} is not in the table"),
            };
            if !fine {
                wrong.push(format!("{} may not use {used}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_files_know_no_runtime() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let io = text.contains("clippy::disallowed_methods");
        let module = path.strip_prefix(root().join("server/src")).unwrap();
        let shell = ["cli", "store", "daemon", "daemon.rs", "ports.rs", "main.rs"]
            .iter()
            .any(|shell| module.starts_with(shell));
        // A protocol's `serve` folder is the thin shell around its pure rules.
        let shell = shell || module.iter().any(|part| part == "serve");
        if io || shell {
            continue;
        }
        for banned in [
            "tokio::",
            "std::fs",
            "std::net::UdpSocket",
            "std::net::TcpStream",
            "std::sync::Mutex",
            "HashMap",
        ] {
            let used = text
                .lines()
                .take_while(|line| !line.starts_with("#[cfg(test)]"))
                .any(|line| !line.trim_start().starts_with("//") && line.contains(banned));
            if used {
                wrong.push(format!("{} is pure and names {banned}", module.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_top_level_is_what_was_agreed() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "server",
        "profiles",
        "kickstarts",
        "distros",
        "systemd",
        "tests",
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "target",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || agreed.contains(&name.as_str()),
            "{name} does not belong at the top"
        );
    }
}

#[test]
fn only_print_prints() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let own = path.ends_with("cli/print.rs");
        for macro_name in ["println!", "eprintln!", "print!(", "eprint!("] {
            let used = text
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(macro_name));
            assert!(own || !used, "{} uses {macro_name}", path.display());
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    for path in sources().into_iter().chain(rust_files(&root().join("tests"))) {
        if path.ends_with("tidy/mod.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for mark in ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("] {
            assert!(!text.contains(mark), "{} holds {mark}", path.display());
        }
    }
}

#[test]
fn the_tree_of_crates_stays_small() {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let crates: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    assert!(crates.len() > 50, "the list was not read");
    assert!(crates.len() <= 260, "{} crates; at most 260 (DESIGN 7)", crates.len());
}
