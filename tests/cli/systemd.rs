//! The units as `install-service` writes them, judged by systemd's own tools.

use super::{Session, missing_tool};
use std::fs;
use std::process::Command;

/// Both units: the boot server and the supervisor of guests.
const UNITS: &[&str] = &["cordwainer.service", "cordwainer-guests.service"];

fn installed() -> Option<(tempfile::TempDir, String)> {
    if missing_tool("systemd-analyze", "systemd") {
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap().to_owned();
    Session::new().run(&["install-service", "--root", &path]).succeeded();
    Some((root, path))
}

#[test]
fn the_unit_verifies_without_a_word() {
    let Some((_keep, root)) = installed() else { return };
    for unit in UNITS {
        let unit = format!("{root}/etc/systemd/system/{unit}");
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", &unit])
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("cordwainer"), "{said}");
    }
}

#[test]
fn the_unit_is_exposed_little() {
    let Some((_keep, root)) = installed() else { return };
    for unit in UNITS {
        let unit = format!("{root}/etc/systemd/system/{unit}");
        // The threshold is ten times the exposure: 2.5.
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=25", "--no-pager", &unit])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn accounts_and_folders_are_accepted() {
    let Some((_keep, root)) = installed() else { return };
    let root_option = format!("--root={root}");
    let (accounts, folders) = (
        format!("{root}/etc/sysusers.d/cordwainer.conf"),
        format!("{root}/etc/tmpfiles.d/cordwainer.conf"),
    );
    for (tool, arguments) in [
        ("systemd-sysusers", vec![root_option.as_str(), &accounts]),
        ("systemd-tmpfiles", vec![root_option.as_str(), "--create", &folders]),
    ] {
        let output = Command::new(tool).args(&arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{tool}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(
        fs::read_to_string(format!("{root}/etc/passwd"))
            .unwrap()
            .contains("cordwainer:")
    );
    assert!(fs::metadata(format!("{root}/var/lib/cordwainer")).unwrap().is_dir());
}

#[test]
fn a_second_installation_changes_nothing_and_keeps_the_configuration() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap().to_owned();
    let session = Session::new();
    let first = session.run(&["install-service", "--root", &path]).succeeded();
    assert!(first.out.contains("written"), "{}", first.out);
    assert!(first.err.contains("systemctl enable --now cordwainer"), "{}", first.err);
    let config = format!("{path}/etc/cordwainer/cordwainer.toml");
    fs::write(&config, "# mine\n").unwrap();
    let second = session.run(&["install-service", "--root", &path]).succeeded();
    assert!(!second.out.contains("written"), "{}", second.out);
    assert!(second.out.contains("kept"), "{}", second.out);
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
}

#[test]
fn a_dry_run_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("not-there");
    let dry = Session::new()
        .run(&[
            "install-service",
            "--dry-run",
            "--json",
            "--root",
            path.to_str().unwrap(),
        ])
        .succeeded();
    assert_eq!(dry.json()["files"][0]["action"], "would write");
    assert!(!path.exists());
}

#[test]
fn the_written_configuration_is_well() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap().to_owned();
    let session = Session::new();
    session.run(&["install-service", "--root", &path]).succeeded();
    let config = format!("{path}/etc/cordwainer/cordwainer.toml");
    session.run(&["--config", &config, "config", "check"]).succeeded();
}

#[test]
fn the_manual_pages_have_no_roff_mistakes() {
    if missing_tool("groff", "groff") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    Session::new()
        .run(&["man", "--dir", dir.path().to_str().unwrap()])
        .succeeded();
    for page in ["cordwainer.8", "cordwainer.toml.5", "cordwainer-events.7"] {
        let output = Command::new("groff")
            .args(["-man", "-ww", "-z", "-Tutf8"])
            .arg(dir.path().join(page))
            .output()
            .unwrap();
        assert!(
            output.stderr.is_empty(),
            "{page}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
