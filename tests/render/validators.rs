//! Tools that were not written here. One that is missing is said aloud; with `CORDWAINER_REQUIRE_ALL=1` it is a failure.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Starts `tool` with `input`; none when it is not installed.
fn run(tool: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|folder| folder.join(tool).is_file());
    if !found {
        assert!(
            std::env::var_os("CORDWAINER_REQUIRE_ALL").is_none(),
            "{tool} is not installed and CORDWAINER_REQUIRE_ALL is set"
        );
        eprintln!("SKIPPED: {tool} is not installed, so nothing was validated by it");
        return None;
    }
    let mut child = Command::new(tool)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A validator that stops reading early has its reason; its verdict is what counts.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Some(output)
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// The verdict of `ksvalidator -v VERSION -e`; none when it is not installed.
fn kickstart_verdict(version: &str, text: &str) -> Option<Result<(), String>> {
    let file = file(text);
    // -e makes a warning an error, but `install` is only deprecated in RHEL7, where it is still asked for by some media.
    let output = run("ksvalidator", &["-v", version, file.path().to_str().unwrap()], "")?;
    Some(if output.status.success() {
        Ok(())
    } else {
        Err(said(&output))
    })
}

pub fn kickstart(name: &str, version: &str, text: &str) {
    if let Some(Err(said)) = kickstart_verdict(version, text) {
        panic!("ksvalidator -v {version} on {name}: {said}\n{text}");
    }
}

fn preseed_verdict(text: &str) -> Option<Result<(), String>> {
    let file = file(text);
    let output = run(
        "debconf-set-selections",
        &["--checkonly", file.path().to_str().unwrap()],
        "",
    )?;
    // An unknown type is only a warning there.
    let clean = output.status.success() && output.stderr.is_empty();
    Some(if clean { Ok(()) } else { Err(said(&output)) })
}

pub fn preseed(name: &str, text: &str) {
    if let Some(Err(said)) = preseed_verdict(text) {
        panic!("debconf-set-selections on {name}: {said}\n{text}");
    }
}

fn grub_verdict(text: &str) -> Option<Result<(), String>> {
    let file = file(text);
    let output = run("grub-script-check", &[file.path().to_str().unwrap()], "")?;
    Some(if output.status.success() {
        Ok(())
    } else {
        Err(said(&output))
    })
}

pub fn grub(name: &str, text: &str) {
    if let Some(Err(said)) = grub_verdict(text) {
        panic!("grub-script-check on {name}: {said}\n{text}");
    }
}

/// The POSIX shell's and busybox's opinion, the latter being what installers run.
fn shell_verdict(text: &str) -> Vec<Result<(), String>> {
    [run("sh", &["-n"], text), run("busybox", &["sh", "-n"], text)]
        .into_iter()
        .flatten()
        .map(|output| {
            if output.status.success() {
                Ok(())
            } else {
                Err(said(&output))
            }
        })
        .collect()
}

pub fn shell(name: &str, text: &str) {
    for verdict in shell_verdict(text) {
        if let Err(said) = verdict {
            panic!("sh -n on {name}: {said}\n{text}");
        }
    }
}

fn xml_verdict(text: &str) -> Option<Result<(), String>> {
    let output = run("xmllint", &["--noout", "--nonet", "-"], text)?;
    let clean = output.status.success() && output.stderr.is_empty();
    Some(if clean { Ok(()) } else { Err(said(&output)) })
}

pub fn xml(name: &str, text: &str) {
    if let Some(Err(said)) = xml_verdict(text) {
        panic!("xmllint on {name}: {said}\n{text}");
    }
}

fn ignition_verdict(text: &str) -> Option<Result<(), String>> {
    let file = file(text);
    let output = run("ignition-validate", &[file.path().to_str().unwrap()], "")?;
    let clean = output.status.success() && output.stdout.is_empty() && output.stderr.is_empty();
    Some(if clean { Ok(()) } else { Err(said(&output)) })
}

pub fn ignition(name: &str, text: &str) {
    if let Some(Err(said)) = ignition_verdict(text) {
        panic!("ignition-validate on {name}: {said}\n{text}");
    }
}

/// The verdict of `check-jsonschema` on several texts at once, by a schema below `CORDWAINER_SCHEMAS`; none when either is not there.
pub fn schema_verdict(schema: &str, ending: &str, texts: &[(String, String)]) -> Option<Result<(), String>> {
    let Some(folder) = std::env::var_os("CORDWAINER_SCHEMAS") else {
        eprintln!("SKIPPED: CORDWAINER_SCHEMAS names no folder, so {schema} validated nothing");
        return None;
    };
    let schema = std::path::Path::new(&folder).join(schema);
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec![
        "--base-uri".to_owned(),
        format!("file://{}/", schema.parent().unwrap().display()),
        "--schemafile".to_owned(),
        schema.to_str().unwrap().to_owned(),
    ];
    for (name, text) in texts {
        let path = folder.path().join(format!("{name}.{ending}"));
        std::fs::write(&path, text).unwrap();
        arguments.push(path.to_str().unwrap().to_owned());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = run("check-jsonschema", &arguments, "")?;
    Some(if output.status.success() {
        Ok(())
    } else {
        Err(said(&output))
    })
}

pub fn schema(schema: &str, ending: &str, texts: &[(String, String)]) {
    if let Some(Err(said)) = schema_verdict(schema, ending, texts) {
        panic!("check-jsonschema with {schema}: {said}");
    }
}

#[test]
fn every_validator_bites() {
    let bites = |verdict: Option<Result<(), String>>| verdict.is_none_or(|verdict| verdict.is_err());
    assert!(bites(kickstart_verdict("RHEL9", "install\ntext\n%packages\n@core\n")));
    assert!(bites(kickstart_verdict("RHEL9", "no_such_command\n")));
    assert!(bites(preseed_verdict("d-i only/two\n")));
    assert!(bites(preseed_verdict("d-i passwd/make-user strin x\n")));
    assert!(bites(xml_verdict("<a><b></a>")));
    assert!(bites(ignition_verdict(
        r#"{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"path": "x"}]}}"#
    )));
    let bad = |schema: &str, ending: &str, text: &str| schema_verdict(schema, ending, &[("bad".into(), text.into())]);
    for (schema, ending, text) in [
        ("autoinstall-schema.json", "yaml", "version: 1\nshutdown: maybe\n"),
        ("schema-cloud-config-v1.json", "yaml", "disable_root: 7\n"),
        (
            "schema-network-config-v2.json",
            "yaml",
            "network:\n  version: 2\n  ethernets: 7\n",
        ),
        ("agama/profile.schema.json", "json", r#"{"product": {"ID": "SLES"}}"#),
        ("ignition-v3_5.json", "json", r#"{"ignition": {"version": 3}}"#),
    ] {
        assert!(bites(bad(schema, ending, text)), "{schema}");
    }
    assert!(bites(grub_verdict("menuentry 'x' {\n")));
    assert!(shell_verdict("if true; then\n").iter().all(Result::is_err));
    assert!(!shell_verdict("true\n").is_empty());
}
