//! Wrong input of every kind gets one clear message with the remedy, and the right exit code.

use super::Session;
use std::process::{Command, Stdio};

#[test]
fn no_command_names_the_first_steps() {
    let ran = Session::new().run(&[]).succeeded();
    assert!(ran.out.contains("cordwainer import --path"), "{}", ran.out);
}

#[test]
fn what_is_not_understood_ends_with_2() {
    let session = Session::new();
    for arguments in [
        &["frobnicate"][..],
        &["system"],
        &["system", "ad", "x"],
        &["distro", "rename", "a"],
        &["system", "remove"],
        &["system", "remove", "a", "--name", "b"],
        &["system", "arm", "x", "--for", "soon"],
        &["boot", "explain", "x", "--arch", "abacus"],
        &["import", "--name", "x"],
        &["import", "--path", "/x", "--copy", "--in-place"],
        &["man", "--section", "9"],
        &["completions", "cmd.exe"],
        &["-q", "-v", "version"],
    ] {
        let ran = session.run(arguments).ended(2);
        assert!(
            ran.err.starts_with("error: ") || ran.err.contains("Usage: "),
            "{arguments:?}: {}",
            ran.err
        );
        assert!(ran.out.is_empty(), "{arguments:?}: {}", ran.out);
    }
}

#[test]
fn a_near_miss_is_named() {
    let ran = Session::new().run(&["sytem", "list"]).ended(2);
    assert!(ran.err.contains("'system'"), "{}", ran.err);
}

#[test]
fn a_wrong_configuration_is_named_by_file_and_line() {
    let session = Session::new();
    let file = session.write(
        "c.toml",
        "[dhcp]\nmode = \"authoritative\"\n[[subnet]]\nnetwork = \"192.0.2.0/24\"\nrooter = \"192.0.2.1\"\n",
    );
    let ran = session.run(&["--config", &file, "config", "check"]).ended(1);
    assert_eq!(
        session.redacted(&ran.err),
        "HOME/c.toml:5: unknown key `rooter` in [[subnet]]; did you mean `router`?\n"
    );
    let ran = session.run(&["--config", &file, "--json", "config", "check"]).ended(1);
    assert_eq!(ran.json()["problems"][0]["line"], 5);
    let ran = session.run(&["--config", &file, "config", "show"]).ended(1);
    assert!(ran.out.is_empty());
}

#[test]
fn a_configuration_that_was_named_and_is_not_there_is_an_error() {
    let ran = Session::new()
        .run(&["--config", "/nonexistent/c.toml", "config", "show"])
        .ended(1);
    assert_eq!(ran.err.lines().count(), 2, "{}", ran.err);
    assert!(
        ran.err
            .starts_with("error: there is no configuration file /nonexistent/c.toml\n  remedy  "),
        "{}",
        ran.err
    );
}

#[test]
fn manual_pages_are_told_as_json_too() {
    let session = Session::new();
    let dir = session.path("man");
    let ran = session
        .run(&["--json", "man", "--dir", dir.to_str().unwrap()])
        .succeeded();
    let written = ran.json();
    assert_eq!(written.as_array().unwrap().len(), 3, "{written}");
    assert!(
        session
            .path("man/cordwainer.8")
            .to_str()
            .is_some_and(|path| ran.out.contains(path))
    );
    let shown = session.run(&["--json", "man", "--section", "5"]).succeeded().json();
    assert_eq!(shown["file"], "cordwainer.toml.5");
}

#[test]
fn secrets_of_the_configuration_are_not_shown() {
    let session = Session::new();
    let file = session.write("c.toml", "[defaults]\nroot_password_hash = \"$6$salt$hunter2\"\n");
    for arguments in [
        &["--config", &file, "config", "show"][..],
        &["--config", &file, "--json", "config", "show"],
    ] {
        let ran = session.run(arguments).succeeded();
        assert!(
            ran.out.contains("(secret)") && !ran.out.contains("hunter2"),
            "{}",
            ran.out
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    // The reading end is closed before the page, which is larger than a pipe holds, is written.
    let mut child = Command::new(env!("CARGO_BIN_EXE_cordwainer"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn version_help_and_completions_work_anywhere() {
    let session = Session::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        session.run(&["version"]).succeeded().out,
        format!("cordwainer {version}\n")
    );
    assert_eq!(
        session.run(&["--json", "version"]).succeeded().json()["version"],
        version
    );
    assert!(session.run(&["--help"]).succeeded().out.contains("Usage: cordwainer"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            session
                .run(&["completions", shell])
                .succeeded()
                .out
                .contains("cordwainer")
        );
    }
}
