//! Images of xorriso read right: names, links, folders, volume texts, boot entries.

use super::medium::{folder, on_disk, ours, press, read, same, tools, unpacked};
use cordwainer::distro::detect::{Look, Source};
use cordwainer::distro::iso_source::{Iso, OpenError, Opened};
use cordwainer::distro::iso9660::{IsoError, Names, Platform};
use std::fs;
use std::path::Path;

fn opened(image: &Path) -> Iso {
    Iso::open(image).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn rock_ridge_is_read_as_others_unpack_it() {
    if !tools("iso::rock_ridge") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = folder(dir.path(), true);
    let truth = on_disk(&root);
    for (name, options) in [
        ("plain", &["-r"][..]),
        ("joliet too", &["-R", "-J", "-joliet-long", "-iso-level", "3"]),
        ("level 1", &["-r", "-iso-level", "1"]),
        (
            "moved folders",
            &["-r", "-iso-level", "2", "-rr_reloc_dir", "/rr_moved"],
        ),
    ] {
        let image = dir.path().join("x.iso");
        press(&root, &image, options);
        let iso = opened(&image);
        assert!(matches!(iso.image().names(), Names::RockRidge { .. }), "{name}");
        let found = ours(&iso);
        if name == "moved folders" {
            let bytes = fs::read(&image).unwrap();
            let moved = |what: &[u8]| bytes.windows(4).any(|four| four == what);
            assert!(moved(b"CL\x0c\x01") && moved(b"RE\x04\x01"), "xorriso moved nothing");
        }
        same(name, &found, &truth);
        let mut theirs = unpacked("bsdtar", &image, dir.path());
        theirs.remove("rr_moved");
        same(&format!("{name}, bsdtar"), &found, &theirs);
        let mut theirs = unpacked("xorriso", &image, dir.path());
        theirs.remove("rr_moved");
        same(&format!("{name}, xorriso"), &found, &theirs);
    }
}

#[test]
fn links_are_followed_inside_the_image_alone() {
    if !tools("iso::links") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = folder(dir.path(), true);
    let image = dir.path().join("x.iso");
    press(&root, &image, &["-r"]);
    let iso = opened(&image);
    for (path, file) in [
        ("dists/stable/Release", "dists/trixie/Release"),
        ("debian/debian/debian/dists/stable/Release", "dists/trixie/Release"),
        ("dists/stable/kernel", "vmlinuz"),
        ("//debian/./vmlinuz", "vmlinuz"),
        ("winding", "vmlinuz"),
        ("README", "README"),
        ("readme", "readme"),
        ("semi;colon", "semi;colon"),
        ("Größe und Weiß.txt", "Größe und Weiß.txt"),
    ] {
        assert!(read(&iso, path) == fs::read(root.join(file)).unwrap(), "{path}");
    }
    let error = |path: &str| iso.at(path).unwrap_err();
    assert!(matches!(error("dangling"), IsoError::Missing(_)));
    assert!(matches!(error("a/climbs"), IsoError::LeadsOut(_)));
    assert!(matches!(error("absolute"), IsoError::LeadsOut(_)));
    assert!(matches!(error("round"), IsoError::TooManyLinks { .. }));
    assert!(matches!(
        error("debian/".repeat(41).as_str()),
        IsoError::TooManyLinks { .. }
    ));
    assert!(matches!(error("a/../vmlinuz"), IsoError::BadPath));
    assert!(matches!(error("vmlinuz\0"), IsoError::BadPath));
    assert!(matches!(error("vmlinuz/x"), IsoError::NotAFolder(_)));
    assert!(
        matches!(error("VMLINUZ"), IsoError::Missing(_)),
        "Rock Ridge names have a case"
    );
    assert!(matches!(iso.at("").unwrap(), Opened::Folder));
    assert!(matches!(iso.at("dists/stable").unwrap(), Opened::Folder));

    let names = |path: &str| -> Vec<(String, bool, u64)> {
        let listed = iso.entries(path).unwrap();
        listed
            .into_iter()
            .map(|entry| (entry.name, entry.is_folder, entry.size))
            .collect()
    };
    let dists = [("stable".to_owned(), true, 0), ("trixie".to_owned(), true, 0)];
    assert_eq!(names("dists"), dists);
    let below = [
        ("Release".to_owned(), false, 4000),
        ("kernel".to_owned(), false, 300_001),
        ("main".to_owned(), true, 0),
    ];
    assert_eq!(names("debian/dists/stable/"), below);
    assert_eq!(
        names("a").len(),
        2,
        "the link that climbs out is not listed: {:?}",
        names("a")
    );
    let contents = iso.walk().unwrap();
    let out: Vec<&str> = contents.leads_out.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(out, ["a/climbs", "absolute"]);
    assert_eq!(contents.links, 8);
    assert_eq!(contents.files, 400 + 11 + 4);
    // What detection sees.
    assert_eq!(iso.look("dists/stable"), Look::Folder);
    assert_eq!(iso.look("nothing"), Look::File(0));
    assert_eq!(iso.look("Nothing"), Look::Missing);
    assert!(matches!(iso.look("absolute"), Look::Unreadable(_)));
    assert_eq!(Source::read(&iso, ".treeinfo", 100).unwrap().len(), 100);
    assert_eq!(Source::read(&iso, ".treeinfo", 100_000).unwrap().len(), 777);
    assert_eq!(Source::list(&iso, "many").unwrap().len(), 402);
}

#[test]
fn without_rock_ridge_joliet_and_then_lower_case_hold() {
    if !tools("iso::names") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = folder(dir.path(), false);
    let image = dir.path().join("x.iso");
    press(&root, &image, &["--norock", "-J", "-joliet-long"]);
    let iso = opened(&image);
    assert_eq!(iso.image().names(), Names::Joliet);
    same("joliet", &ours(&iso), &on_disk(&root));
    assert_eq!(
        read(&iso, "MANY/makefile"),
        fs::read(root.join("many/Makefile")).unwrap()
    );
    same("joliet, bsdtar", &ours(&iso), &unpacked("bsdtar", &image, dir.path()));

    press(&root, &image, &["--norock", "-iso-level", "3"]);
    let iso = opened(&image);
    assert_eq!(iso.image().names(), Names::Plain);
    assert_eq!(read(&iso, "VMLINUZ"), read(&iso, "vmlinuz"));
    assert_eq!(read(&iso, "vmlinuz"), fs::read(root.join("vmlinuz")).unwrap());
    assert_eq!(
        read(&iso, "Dists/Trixie/RELEASE"),
        fs::read(root.join("dists/trixie/Release")).unwrap()
    );
    let ours = ours(&iso);
    assert!(
        ours.keys()
            .all(|path| !path.contains(';') && *path == path.to_lowercase())
    );
    let theirs = unpacked("bsdtar", &image, dir.path());
    let lower = theirs
        .into_iter()
        .map(|(path, bytes)| (path.to_lowercase(), bytes))
        .collect();
    same("plain, bsdtar", &ours, &lower);
}

#[test]
fn the_volume_and_its_boot_entries_are_told() {
    if !tools("iso::volume") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = folder(dir.path(), false);
    fs::write(root.join("boot.bin"), vec![0x90; 2048]).unwrap();
    fs::write(root.join("efi.img"), vec![0xEB; 8192]).unwrap();
    let image = dir.path().join("x.iso");
    let options = [
        "-r",
        "-V",
        "Rocky-9-4-x86_64-dvd",
        "-publisher",
        "THE PUBLISHER",
        "-A",
        "AN APPLICATION",
        "-sysid",
        "LINUX",
        "-b",
        "boot.bin",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-c",
        "boot.cat",
        "-eltorito-alt-boot",
        "-e",
        "efi.img",
        "-no-emul-boot",
    ];
    press(&root, &image, &options);
    let iso = opened(&image);
    let volume = iso.volume();
    assert_eq!(volume.id, "Rocky-9-4-x86_64-dvd");
    assert_eq!(volume.publisher, "THE PUBLISHER");
    assert_eq!(volume.application, "AN APPLICATION");
    assert_eq!(volume.system, "LINUX");
    assert_eq!(volume.declared, iso.medium().size);
    assert!(!volume.udf);
    let entries = iso.image().boot_entries().unwrap();
    let kinds: Vec<_> = entries.iter().map(|entry| (entry.platform, entry.bootable)).collect();
    assert_eq!(kinds, [(Platform::Bios, true), (Platform::Efi, true)]);
    for (entry, name) in entries.iter().zip(["boot.bin", "efi.img"]) {
        let cordwainer::distro::iso9660::Found::File(extents, _) = iso.image().find(name, &()).unwrap() else {
            panic!("{name}");
        };
        assert_eq!(entry.load.offset, extents.runs()[0].offset, "{name}");
        assert!(entry.no_emulation);
    }
    assert_eq!(entries[0].load.length, 2048);
    assert_eq!(entries[1].load.length, 8192);
    press(&root, &image, &["-r"]);
    assert_eq!(opened(&image).image().boot_entries().unwrap(), []);
}

#[test]
fn what_is_no_iso_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.iso");
    fs::write(&file, b"short").unwrap();
    let error = Iso::open(&file).unwrap_err().to_string();
    let expected = "offset 32768: expected an ISO 9660 volume descriptor (CD001), found a file of 5 bytes";
    assert_eq!(error, expected);
    let mut udf = vec![0; 100_000];
    udf[32_769..32_774].copy_from_slice(b"BEA01");
    udf[34_817..34_822].copy_from_slice(b"NSR02");
    fs::write(&file, udf).unwrap();
    assert!(Iso::open(&file).unwrap_err().to_string().ends_with("found UDF alone"));
    assert!(matches!(Iso::open(dir.path()).unwrap_err(), OpenError::NotAFile));
    assert!(matches!(
        Iso::open(&dir.path().join("gone")).unwrap_err(),
        OpenError::Io(_)
    ));
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(
        Iso::open(&dir.path().join("fifo")).unwrap_err(),
        OpenError::NotAFile
    ));
}
