//! What is shown of an installation: every value with its layer, no token, no password hash where it is not the thing asked for.

use super::Session;
use super::transcript::prepared;

const HASH: &str = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/";

fn armed() -> Session {
    let session = prepared(&format!(
        "root_password_hash = \"{HASH}\"\nkernel_options = \"quiet net.ifnames=0\""
    ));
    let tree = session.path("tree");
    session
        .run(&["import", "--path", tree.to_str().unwrap(), "--name", "rocky9"])
        .succeeded();
    session
        .run(&["profile", "edit", "rocky9", "--kernel-options", "console=ttyS0,115200"])
        .succeeded();
    session
        .run(&[
            "system",
            "add",
            "web1",
            "--profile",
            "rocky9",
            "--mac-address",
            "00:00:5e:00:53:01",
            "--kernel-options",
            "!quiet",
            "--netboot-enabled=Y",
        ])
        .succeeded();
    session
}

#[test]
fn explain_names_the_layer_of_each_option_and_hides_the_token() {
    let session = armed();
    let ran = session
        .run(&["boot", "explain", "web1", "--stage", "script", "--arch", "bios"])
        .succeeded();
    let layer_of = |option: &str| {
        let line = ran.out.lines().find(|line| line.trim_start().starts_with(option));
        line.unwrap_or_else(|| panic!("no {option} in {}", ran.out))
            .split("  ")
            .last()
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(layer_of("console=ttyS0,115200"), "profile rocky9");
    assert_eq!(layer_of("net.ifnames=0"), "settings");
    assert_eq!(layer_of("!quiet"), "removed by system web1 (was set by settings)");
    assert_eq!(layer_of("inst.ks="), "signature redhat");
    assert!(ran.out.contains("/i/<token>/"), "{}", ran.out);
    let json = session.run(&["--json", "boot", "explain", "web1"]).succeeded();
    let stages = json.json()["stages"].as_array().unwrap().len();
    assert_eq!(stages, 4);
    // 32 characters of the alphabet of tokens in a row, behind /i/ or /r/, would be one.
    for text in [&ran.out, &json.out] {
        for mark in ["/i/", "/r/"] {
            for (at, _) in text.match_indices(mark) {
                let rest: String = text[at + 3..].chars().take_while(char::is_ascii_alphanumeric).collect();
                assert!(rest.len() < 20, "{rest}");
            }
        }
    }
}

#[test]
fn the_hash_is_in_the_answer_file_and_nowhere_else() {
    let session = armed();
    assert!(
        session
            .run(&["system", "get-autoinstall", "web1"])
            .succeeded()
            .out
            .contains(HASH)
    );
    for arguments in [
        &["system", "dumpvars", "web1"][..],
        &["--json", "profile", "dumpvars", "rocky9"],
        &["system", "report", "web1"],
        &["config", "show"],
        &["export"],
        &["check"],
        &["boot", "explain", "web1"],
    ] {
        let ran = session.run(arguments);
        assert!(!ran.out.is_empty(), "{arguments:?}: {}", ran.err);
        assert!(
            !ran.out.contains("saltsalt") && !ran.err.contains("saltsalt"),
            "{arguments:?}"
        );
    }
    assert!(
        session
            .run(&["system", "dumpvars", "web1"])
            .succeeded()
            .out
            .contains("root_password_hash : (secret)")
    );
}
