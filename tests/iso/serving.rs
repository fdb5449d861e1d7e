//! HTTP and TFTP straight out of an image: the real servers, curl as the client.

use super::medium::{XORRISO, folder, press};
use crate::http::{Lab, curl, curl_text};
use crate::lab::need;
use crate::tftp::serving::{Serving, pattern};
use std::fs;

#[test]
fn http_serves_files_ranges_and_folders_out_of_an_image() {
    if !need::all("iso::http", &[&[XORRISO]]) {
        return;
    }
    let lab = Lab::start();
    let root = folder(&lab.dir.path().join("original"), true);
    fs::write(root.join("big"), pattern(5_000_003)).unwrap();
    fs::remove_dir_all(lab.tree()).unwrap();
    press(&root, &lab.tree(), &["-r", "-J", "-joliet-long"]);
    for path in [
        "big",
        "vmlinuz",
        "nothing",
        "dists/stable/Release",
        "debian/debian/one",
        "semi;colon",
    ] {
        let got = curl(&[&lab.url(&format!("d/lab/{path}"))]);
        assert!(got.status.success(), "{path}");
        assert!(got.stdout == fs::read(root.join(path)).unwrap(), "{path}");
    }
    let url = lab.url("d/lab/big");
    let bytes = pattern(5_000_003);
    for (range, from, to) in [
        ("0-0", 0, 1),
        ("262143-262145", 262_143, 262_146),
        ("-7", 4_999_996, 5_000_003),
    ] {
        assert_eq!(curl(&["-r", range, &url]).stdout, &bytes[from..to], "{range}");
    }
    let partial = lab.dir.path().join("partial");
    fs::write(&partial, &bytes[..1_234_567]).unwrap();
    assert!(
        curl(&["-C", "-", "-o", partial.to_str().unwrap(), &url])
            .status
            .success()
    );
    assert!(fs::read(&partial).unwrap() == bytes, "the resumed file");
    let tag = |path: &str| {
        let head = curl_text(&["-I", &lab.url(path)]);
        assert!(head.contains("200 OK") && head.contains("Last-Modified: "), "{head}");
        let tag = head.lines().find_map(|line| line.strip_prefix("ETag: "));
        tag.unwrap_or_else(|| panic!("no tag in {head}")).trim().to_owned()
    };
    let own = tag("d/lab/big");
    assert_ne!(own, tag("d/lab/vmlinuz"));
    let code = |args: &[&str], path: &str| {
        curl_text(&[&["-o", "/dev/null", "-w", "%{http_code}"], args, &[&lab.url(path)]].concat())
    };
    assert_eq!(code(&["-H", &format!("If-None-Match: {own}")], "d/lab/big"), "304");
    for path in [
        "d/lab/dangling",
        "d/lab/a/climbs",
        "d/lab/absolute",
        "d/lab/round",
        "d/lab/Vmlinuz",
        "d/lab/big/x",
    ] {
        assert_eq!(code(&[], path), "404", "{path}");
    }
    assert_eq!(code(&[], "d/lab/dists"), "301");
    let page = curl_text(&[&lab.url("d/lab/debian/dists/stable/")]);
    assert!(page.contains("Release") && page.contains("kernel"), "{page}");
    // The image is replaced while it is served: the new one's files, with another tag.
    fs::write(root.join("big"), pattern(7)).unwrap();
    fs::remove_file(lab.tree()).unwrap();
    press(&root, &lab.tree(), &["-r"]);
    assert_eq!(curl(&[&url]).stdout, pattern(7));
    assert_ne!(tag("d/lab/big"), own);
}

#[test]
fn tftp_serves_files_out_of_an_image() {
    if !need::all("iso::tftp", &[&[XORRISO]]) {
        return;
    }
    let serving = Serving::start([127, 0, 0, 1], &[]);
    let root = folder(&serving.folder.path().join("original"), true);
    fs::remove_dir_all(serving.tree()).unwrap();
    press(&root, &serving.tree(), &["-r"]);
    for path in ["vmlinuz", "sector1", "dists/stable/Release"] {
        let url = format!("tftp://{}/d/d1/{path}", serving.address);
        let got = curl(&["--tftp-blksize", "1428", &url]);
        assert!(got.status.success(), "{path}: {}", String::from_utf8_lossy(&got.stderr));
        assert!(got.stdout == fs::read(root.join(path)).unwrap(), "{path}");
    }
    let url = format!("tftp://{}/d/d1/dists", serving.address);
    assert_eq!(curl(&[&url]).status.code(), Some(68), "a folder is no file");
}
