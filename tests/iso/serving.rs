//! HTTP and TFTP straight out of an image: the real servers, curl as the client.

use super::medium::{XORRISO, folder, press};
use super::{lab_tree, serve};
use crate::cli::Session;
use crate::http::{Lab, curl, curl_text};
use crate::lab::need;
use crate::tftp::reader::{Reader, request, sized};
use crate::tftp::serving::{Nowhere, Serving, pattern, tree_of};
use cordwainer::distro::iso_source::Iso;
use cordwainer::event::What;
use cordwainer::inventory::Row;
use cordwainer::model::Tree;
use cordwainer::tftp::packet::Packet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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

#[test]
fn tftp_never_mixes_two_images_and_refuses_another_one() {
    if !need::all("iso::tftp_changed", &[&[XORRISO]]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, image) = (dir.path().join("original"), dir.path().join("medium.iso"));
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("initrd.gz"), vec![b'o'; 4 << 20]).unwrap();
    press(&root, &image, &["-r"]);
    let medium = Iso::open(&image).unwrap().medium();
    let place = image.clone();
    let serving = Serving::start_with([127, 0, 0, 1], &[], Arc::new(Nowhere), |mut world| {
        let mut inventory = (*world.inventory).clone();
        let mut distro = (**inventory.distro("d1").unwrap()).clone();
        distro.tree = Some(Tree {
            root: place,
            in_place: true,
            iso: Some(medium),
            overlay: None,
        });
        inventory.put(Row::Distro(Arc::new(distro)));
        world.inventory = Arc::new(inventory);
        let mut assets = (*world.assets).clone();
        assets.media.insert("d1".parse().unwrap(), tree_of(&image));
        world.assets = Arc::new(assets);
        world
    });
    let asked = request("d/d1/initrd.gz", sized(1428, 1));
    let whole = Reader::new().get(serving.address, &asked);
    assert_eq!(whole.bytes, vec![b'o'; 4 << 20]);

    // It is written to while it travels: what comes is the old one's, and then an error.
    let mut reader = Reader::new();
    reader.ask(serving.address, &asked);
    let (from, _) = reader.hear();
    reader.ack(from, 0);
    let mut came = 0;
    loop {
        let (from, packet) = reader.hear();
        let block = match packet {
            Packet::Data { block, bytes } => {
                assert!(bytes.iter().all(|byte| *byte == b'o'), "bytes of both came");
                came += bytes.len();
                block
            }
            Packet::Error { .. } => break,
            other => panic!("{other:?}"),
        };
        if block == 20 {
            let file = File::options().write(true).open(&image).unwrap();
            for place in 1..medium.size >> 20 {
                file.write_all_at(&vec![b'n'; 1 << 20], place << 20).unwrap();
            }
            // It may still be the second in which it was made.
            file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
        }
        reader.ack(from, block);
    }
    assert!((20 * 1428..4 << 20).contains(&came), "{came} bytes came");
    serving.heard.wait(|what| match what {
        What::TftpFailed { .. } => Some(()),
        _ => None,
    });
    // Asked for again it is another image than the one that was imported, by its time.
    reader.ask(serving.address, &asked);
    reader.hear_error();
}

#[test]
fn the_loaders_of_an_image_are_sent_as_those_of_an_unpacked_tree() {
    if !need::all("iso::loaders", &[&[XORRISO]]) {
        return;
    }
    let session = Session::new();
    lab_tree(&session);
    // A name that no package of this machine has.
    session.write("lab/EFI/BOOT/BOOTAA64.EFI", "the medium's own loader");
    let image = session.path("one.iso");
    press(&session.path("lab"), &image, &["-r"]);
    session
        .run(&["import", "--path", image.to_str().unwrap(), "--name", "one"])
        .succeeded();
    let (mut daemon, http, tftp) = serve(&session);
    for url in [
        format!("tftp://127.0.0.1:{}/BOOTAA64.EFI", tftp),
        format!("tftp://127.0.0.1:{}/d/one/EFI/BOOT/BOOTAA64.EFI", tftp),
        format!("http://127.0.0.1:{}/l/BOOTAA64.EFI", http),
        format!("http://127.0.0.1:{}/d/one/EFI/BOOT/BOOTAA64.EFI", http),
    ] {
        let got = curl(&[&url]);
        assert_eq!(String::from_utf8_lossy(&got.stdout), "the medium's own loader", "{url}");
    }
    daemon.terminate();
    assert!(daemon.wait_for_exit(Duration::from_secs(30)).success());
}
