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

/// (title, text) of what is judged.
pub type Texts = [(String, String)];

fn one(text: &str) -> Vec<(String, String)> {
    vec![("one".into(), text.into())]
}

/// Writes the texts to files of their titles.
fn folder(texts: &Texts, ending: &str) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (place, (title, text)) in texts.iter().enumerate() {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        };
        let title: String = title.chars().take(80).map(plain).collect();
        let path = folder.path().join(format!("{place}-{title}{ending}"));
        std::fs::write(&path, text).unwrap();
        paths.push(path.to_str().unwrap().to_owned());
    }
    (folder, paths)
}

/// The verdict of `tool` on all texts at once; `clean` judges what it said.
fn batch(
    tool: &str,
    before: &[&str],
    texts: &Texts,
    ending: &str,
    clean: fn(&Output) -> bool,
) -> Option<Result<(), String>> {
    let (_folder, paths) = folder(texts, ending);
    let arguments: Vec<&str> = before.iter().copied().chain(paths.iter().map(String::as_str)).collect();
    let output = run(tool, &arguments, "")?;
    Some(if clean(&output) { Ok(()) } else { Err(said(&output)) })
}

fn succeeds(output: &Output) -> bool {
    output.status.success()
}

fn silent(output: &Output) -> bool {
    output.status.success() && output.stderr.is_empty()
}

/// The verdict of `ksvalidator -v VERSION`; none when it is not installed. `-e` would make a warning an error, but `install` is only
/// deprecated in RHEL7, where it is still asked for by some media.
fn kickstart_verdict(version: &str, texts: &Texts) -> Option<Result<(), String>> {
    batch("ksvalidator", &["-v", version], texts, ".ks", succeeds)
}

/// (version, title, text) of each, one process per version.
pub fn kickstarts(all: &[(&str, String, String)]) {
    let mut versions: Vec<&str> = all.iter().map(|(version, ..)| *version).collect();
    versions.sort_unstable();
    versions.dedup();
    for version in versions {
        let texts: Vec<_> = all
            .iter()
            .filter(|(of, ..)| *of == version)
            .map(|(_, title, text)| (title.clone(), text.clone()))
            .collect();
        if let Some(Err(said)) = kickstart_verdict(version, &texts) {
            panic!("ksvalidator -v {version}: {said}");
        }
    }
}

pub fn kickstart(name: &str, version: &str, text: &str) {
    kickstarts(&[(version, name.into(), text.into())]);
}

/// An unknown type is only a warning there, so nothing may be said at all.
fn preseed_verdict(texts: &Texts) -> Option<Result<(), String>> {
    batch("debconf-set-selections", &["--checkonly"], texts, ".cfg", silent)
}

pub fn preseeds(texts: &Texts) {
    if let Some(Err(said)) = preseed_verdict(texts) {
        panic!("debconf-set-selections: {said}");
    }
}

pub fn preseed(name: &str, text: &str) {
    preseeds(&[(name.into(), text.into())]);
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

/// Says each file that the shell cannot read; one process for all.
const EACH: &str = "for f; do $CW_SHELL -n \"$f\" || echo \"BAD ${f##*/}\"; done";

/// The POSIX shell's and busybox's opinion, the latter being what installers run.
fn shell_verdict(texts: &Texts) -> Vec<Result<(), String>> {
    let (_folder, paths) = folder(texts, ".sh");
    let mut verdicts = Vec::new();
    for shell in ["sh", "busybox sh"] {
        let mut arguments = vec![
            "-c".to_owned(),
            format!("CW_SHELL='{shell}'; {EACH}"),
            "each".to_owned(),
        ];
        arguments.extend(paths.iter().cloned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // Busybox calls itself for `sh -n` as fast as a function; dash is started anew for each.
        let Some(output) = run(
            shell.split(' ').next().unwrap(),
            &[&["sh"][..usize::from(shell != "sh")], &arguments[..]].concat(),
            "",
        ) else {
            continue;
        };
        verdicts.push(if silent(&output) && output.stdout.is_empty() {
            Ok(())
        } else {
            Err(said(&output))
        });
    }
    verdicts
}

pub fn shells(texts: &Texts) {
    for verdict in shell_verdict(texts) {
        if let Err(said) = verdict {
            panic!("sh -n: {said}");
        }
    }
}

pub fn shell(name: &str, text: &str) {
    shells(&[(name.into(), text.into())]);
}

fn xml_verdict(texts: &Texts) -> Option<Result<(), String>> {
    batch("xmllint", &["--noout", "--nonet"], texts, ".xml", silent)
}

pub fn xmls(texts: &Texts) {
    if let Some(Err(said)) = xml_verdict(texts) {
        panic!("xmllint: {said}");
    }
}

pub fn xml(name: &str, text: &str) {
    xmls(&[(name.into(), text.into())]);
}

/// It reads one file only, but starts in a blink.
fn ignition_verdict(text: &str) -> Option<Result<(), String>> {
    batch("ignition-validate", &[], &one(text), ".ign", |output| {
        silent(output) && output.stdout.is_empty()
    })
}

pub fn ignition(name: &str, text: &str) {
    if let Some(Err(said)) = ignition_verdict(text) {
        panic!("ignition-validate on {name}: {said}\n{text}");
    }
}

/// `cloud-init schema`, its only command that is called here: the others would set this host up. It reads one file a second.
fn cloud_config_verdict(text: &str) -> Option<Result<(), String>> {
    batch(
        "cloud-init",
        &["schema", "--config-file"],
        &one(text),
        ".yaml",
        succeeds,
    )
}

pub fn cloud_config(name: &str, text: &str) {
    if let Some(Err(said)) = cloud_config_verdict(text) {
        panic!("cloud-init schema on {name}: {said}\n{text}");
    }
}

/// `netplan generate`, which reads a whole configuration and says what does not hang together.
fn netplan_verdict(text: &str) -> Option<Result<(), String>> {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc/netplan");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("one.yaml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = run(
        "netplan",
        &["generate", "--root-dir", root.path().to_str().unwrap()],
        "",
    )?;
    Some(if silent(&output) { Ok(()) } else { Err(said(&output)) })
}

pub fn netplan(name: &str, text: &str) {
    if let Some(Err(said)) = netplan_verdict(text) {
        panic!("netplan generate on {name}: {said}\n{text}");
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
    // One bad file among good ones is enough.
    let among = |good: &str, bad: &str| vec![("good".to_owned(), good.to_owned()), ("bad".to_owned(), bad.to_owned())];
    let ks = "text\nrootpw --lock\n";
    assert!(bites(kickstart_verdict(
        "RHEL9",
        &among(ks, "install\ntext\n%packages\n@core\n")
    )));
    assert!(bites(kickstart_verdict("RHEL9", &among(ks, "no_such_command\n"))));
    assert!(bites(kickstart_verdict(
        "RHEL9",
        &among(ks, "network --device=bond0 --bondslavs=a\n")
    )));
    assert!(kickstart_verdict("RHEL9", &one(ks)).is_none_or(|verdict| verdict.is_ok()));
    let good = "d-i passwd/make-user boolean false\n";
    assert!(bites(preseed_verdict(&among(good, "d-i only/two\n"))));
    assert!(bites(preseed_verdict(&among(good, "d-i passwd/make-user strin x\n"))));
    assert!(bites(xml_verdict(&among("<a/>", "<a><b></a>"))));
    assert!(bites(cloud_config_verdict("#cloud-config\ndisable_root: [7\n")));
    assert!(bites(cloud_config_verdict("#cloud-config\nusers: 7\n")));
    assert!(bites(netplan_verdict(
        "network:\n  version: 2\n  bonds:\n    bond0:\n      interfaces: [eth9]\n"
    )));
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
    assert!(
        shell_verdict(&among("true\n", "if true; then\n"))
            .iter()
            .all(Result::is_err)
    );
    assert!(shell_verdict(&one("true\n")).iter().all(Result::is_ok));
    assert!(!shell_verdict(&one("true\n")).is_empty());
}
