//! The tools that admins and installers have: tftp-hpa, atftp, curl, busybox. Whatever they ask for must arrive whole.

use super::serving::{Serving, pattern};
use cordwainer::event::What;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs a peer with a deadline; none when it is not installed, which is a failure where all peers are required.
fn run(program: &str, arguments: &[&str], folder: &Path) -> Option<std::process::Output> {
    let child = Command::new("timeout")
        .arg("60")
        .arg(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // timeout(1) says 127 for a command that is not there.
    if child.status.code() == Some(127) {
        assert!(
            std::env::var_os("CORDWAINER_REQUIRE_ALL").is_none_or(|all| all != "1"),
            "{program} is required and not installed"
        );
        eprintln!("SKIPPED: {program} is not installed; its transfers were not tried");
        return None;
    }
    Some(child)
}

pub fn fetched(program: &str, arguments: &[&str], file: &[u8]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let Some(output) = run(program, arguments, folder.path()) else {
        return false;
    };
    let got = std::fs::read(folder.path().join("out")).unwrap_or_default();
    assert!(
        got == file,
        "{program} {arguments:?}: {} of {} bytes after {:?}; {} {}",
        got.len(),
        file.len(),
        began.elapsed(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

/// Block size and window that the server used last for a file of this size.
fn used(server: &Serving, size: usize) -> (u16, u16) {
    server.heard.wait(|what| match what {
        What::TftpSent {
            bytes, blksize, window, ..
        } if *bytes == size as u64 => Some((*blksize, *window)),
        _ => None,
    })
}

#[test]
fn tftp_hpa_fetches() {
    let file = pattern(1_234_567);
    let server = Serving::start([127, 0, 0, 1], &[("loader.efi", &file)]);
    let port = server.address.port().to_string();
    let arguments = ["-m", "octet", "127.0.0.1", &port, "-c", "get", "loader.efi", "out"];
    if fetched("tftp", &arguments, &file) {
        assert_eq!(used(&server, file.len()), (512, 1));
    }
}

#[test]
fn tftp_hpa_fetches_text_in_netascii() {
    let text = "one\ntwo\r\nthree\rfour\n\n".repeat(3000);
    let server = Serving::start([127, 0, 0, 1], &[("notes.txt", text.as_bytes())]);
    let port = server.address.port().to_string();
    fetched(
        "tftp",
        &["-m", "netascii", "127.0.0.1", &port, "-c", "get", "notes.txt", "out"],
        text.as_bytes(),
    );
}

#[test]
fn atftp_fetches_with_every_window() {
    let file = pattern(3_000_001);
    for (window, blksize) in [("1", "512"), ("8", "1428"), ("64", "1468")] {
        let server = Serving::start([127, 0, 0, 1], &[("initrd.img", &file)]);
        let port = server.address.port().to_string();
        let (window_option, block_option) = (format!("windowsize {window}"), format!("blksize {blksize}"));
        let arguments = [
            "--option",
            &block_option,
            "--option",
            &window_option,
            "--option",
            "tsize",
            "-g",
            "-r",
            "initrd.img",
            "-l",
            "out",
            "127.0.0.1",
            &port,
        ];
        if fetched("atftp", &arguments, &file) {
            let (blocks, windows) = used(&server, file.len());
            assert_eq!(
                (blocks.to_string().as_str(), windows.to_string().as_str()),
                (blksize, window)
            );
        }
    }
}

#[test]
fn curl_fetches_with_and_without_options() {
    let file = pattern(2_000_000);
    let server = Serving::start([127, 0, 0, 1], &[("d.img", &file)]);
    let url = format!("tftp://127.0.0.1:{}/d/d1/d.img", server.address.port());
    for more in [
        &["--tftp-blksize", "1400"][..],
        &["--tftp-blksize", "65464"],
        &["--tftp-no-options"],
        &[],
    ] {
        let mut arguments = vec!["-sS", "-o", "out"];
        arguments.extend_from_slice(more);
        arguments.push(&url);
        fetched("curl", &arguments, &file);
    }
    let missing = format!("tftp://127.0.0.1:{}/nothing", server.address.port());
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    if let Some(output) = run("curl", &["-sS", "-o", "out", &missing], folder.path()) {
        assert_eq!(output.status.code(), Some(68), "curl's word for: not found");
        assert!(began.elapsed().as_secs() < 5);
    }
}

#[test]
fn busybox_fetches() {
    let file = pattern(777_777);
    let server = Serving::start([127, 0, 0, 1], &[("vmlinuz", &file)]);
    let port = server.address.port().to_string();
    for blksize in ["512", "1468"] {
        let arguments = [
            "tftp",
            "-g",
            "-b",
            blksize,
            "-r",
            "vmlinuz",
            "-l",
            "out",
            "127.0.0.1",
            &port,
        ];
        fetched("busybox", &arguments, &file);
    }
}

#[test]
fn real_peers_survive_rollover() {
    let file = pattern(40 << 20);
    let server = Serving::start([127, 0, 0, 1], &[("big.iso", &file)]);
    let port = server.address.port().to_string();
    let url = format!("tftp://127.0.0.1:{port}/big.iso");
    fetched(
        "tftp",
        &["-m", "octet", "127.0.0.1", &port, "-c", "get", "big.iso", "out"],
        &file,
    );
    fetched("curl", &["-sS", "-o", "out", "--tftp-blksize", "512", &url], &file);
    let arguments = [
        "--option",
        "windowsize 8",
        "-g",
        "-r",
        "big.iso",
        "-l",
        "out",
        "127.0.0.1",
        &port,
    ];
    fetched("atftp", &arguments, &file);
}
