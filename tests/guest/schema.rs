//! libvirt's verdict on a domain's XML: its RNG schema, and its test driver.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// The schema that libvirt itself validates by.
const SCHEMA: &str = "/usr/share/libvirt/schemas/domain.rng";

/// False, and said aloud, where the tool is not installed.
pub fn has(tool: &str, package: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|folder| folder.join(tool).is_file());
    if !found {
        assert!(
            std::env::var_os("CORDWAINER_REQUIRE_ALL").is_none(),
            "{tool} (package {package}) is not installed and CORDWAINER_REQUIRE_ALL is set"
        );
        eprintln!("SKIPPED: {tool} (package {package}) is not installed");
    }
    found
}

/// A file that holds `text`.
pub fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Panics with the schema's verdict where the domain does not fit it.
pub fn validate(name: &str, xml: &str) {
    if !has("xmllint", "libxml2-utils") {
        return;
    }
    if !Path::new(SCHEMA).exists() {
        assert!(
            std::env::var_os("CORDWAINER_REQUIRE_ALL").is_none(),
            "{SCHEMA} (package libvirt0 or libvirt-daemon-system) is missing and CORDWAINER_REQUIRE_ALL is set"
        );
        eprintln!("SKIPPED: {SCHEMA} is missing");
        return;
    }
    let file = file(xml);
    let output = Command::new("xmllint")
        .args(["--noout", "--relaxng", SCHEMA])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{name}: {}\n{xml}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Has libvirt's test driver define the domain; panics with what it said where it does not.
pub fn define(name: &str, xml: &str) {
    if !has("virsh", "libvirt-clients") {
        return;
    }
    let file = file(xml);
    let output = Command::new("virsh")
        .args(["-c", "test:///default", "define", "--validate"])
        .arg(file.path())
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{name}: {}\n{xml}",
        String::from_utf8_lossy(&output.stderr)
    );
}
