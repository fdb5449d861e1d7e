//! `import --path X.iso`: recognised out of the image, served where it lies, refused when it is another one.

use super::medium::{XORRISO, press};
use crate::import::{Bench, el, lab, said, set_mode};
use crate::lab::need::{self, Need};
use cordwainer::assets::watch::Watcher;
use cordwainer::config::Config;
use cordwainer::distro::checksum::Checksums;
use cordwainer::distro::import::{ImportRequest, Place, forget};
use cordwainer::distro::tree::{Opened, entries, fetch};
use cordwainer::model::Distro;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

fn pressed(bench: &Bench, options: &[&str]) -> ImportRequest {
    let image = bench.tree().with_file_name("dvd.iso");
    let _ = fs::remove_file(&image);
    press(&bench.tree(), &image, options);
    ImportRequest {
        path: image,
        ..bench.request()
    }
}

fn bytes(distro: &Distro, path: &str) -> Vec<u8> {
    let tree = distro.tree.as_ref().unwrap();
    let Opened::File(file) = fetch(&tree.root, tree.iso, path).unwrap() else {
        panic!("{path} is a folder");
    };
    let mut bytes = vec![0; usize::try_from(file.size()).unwrap()];
    assert_eq!(file.fill(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

#[test]
fn a_dvd_is_imported_like_its_unpacked_tree() {
    if !need::all("iso::importing", &[&[XORRISO]]) {
        return;
    }
    for options in [&["-r"][..], &["--norock", "-J"], &["-r", "-J", "-iso-level", "3"]] {
        let bench = el("Rocky Linux", "9.4", "x86_64");
        let folder = bench.imported();
        let imported = bench
            .import(&pressed(&bench, options))
            .unwrap_or_else(|error| panic!("{options:?}: {error}"));
        assert_eq!(imported.detected, folder.detected, "{options:?}");
        let distro = &imported.distro;
        let image = fs::canonicalize(bench.tree().with_file_name("dvd.iso")).unwrap();
        let tree = distro.tree.as_ref().unwrap();
        assert_eq!((&tree.root, tree.in_place), (&image, true));
        assert_eq!(tree.iso.unwrap().size, fs::metadata(&image).unwrap().len());
        assert_eq!((imported.files, imported.bytes), (folder.files, folder.bytes));
        assert!(said(&imported).contains("straight out of "), "{}", said(&imported));
        assert_eq!(bytes(distro, &distro.kernel), b"kernel");
        assert_eq!(bytes(distro, &distro.initrd[0]), b"initrd!");
        assert_eq!(bench.in_state(), [""; 0], "nothing is unpacked");
        // What the inventory keeps of it comes back.
        let text = toml::to_string(distro).unwrap();
        assert_eq!(toml::from_str::<Distro>(&text).unwrap(), *distro);
    }
}

#[test]
fn another_image_in_its_place_is_refused_by_name() {
    if !need::all("iso::another", &[&[XORRISO]]) {
        return;
    }
    let mut bench = lab();
    let request = pressed(&bench, &["-r"]);
    let imported = bench.import(&request).unwrap();
    bench.store(&imported);
    let tree = imported.distro.tree.clone().unwrap();
    let config = Config {
        overrides: bench.etc(),
        ..Config::default()
    };
    let mut watcher = Watcher::with_loader_paths(Arc::new(config), Vec::<PathBuf>::new());
    let mut kernel = |bench: &Bench| watcher.look(&bench.inventory).media["new"].kernel.clone();
    assert_eq!(kernel(&bench).unwrap().size, 6);
    let names: Vec<String> = entries(&tree.root, tree.iso, "boot")
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["initrd.img", "vmlinuz"]);

    // The same bytes written again are the same image only if nothing says otherwise.
    let file = fs::File::options().append(true).open(&tree.root).unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let stamp = fs::metadata(&tree.root).unwrap().modified().unwrap();
    file.set_modified(then).unwrap();
    let problem = kernel(&bench).unwrap_err();
    assert!(
        problem.contains("is another image than the one that was imported"),
        "{problem}"
    );
    assert!(
        problem.ends_with("import the image again: cordwainer import --path ISO --name new"),
        "{problem}"
    );
    let error = fetch(&tree.root, tree.iso, "boot/vmlinuz").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    file.set_modified(stamp).unwrap();
    assert!(kernel(&bench).is_ok(), "the image is back");
    let away = tree.root.with_extension("away");
    fs::rename(&tree.root, &away).unwrap();
    let problem = kernel(&bench).unwrap_err();
    assert!(problem.contains("is missing; bring "), "{problem}");
    // A new pressing in its place, imported again.
    bench.put("boot/vmlinuz", "a newer kernel");
    let again = bench.import(&pressed(&bench, &["-r"])).unwrap();
    bench.store(&again);
    assert_eq!(kernel(&bench).unwrap().size, 14);
    assert_eq!(bytes(&again.distro, "boot/vmlinuz"), b"a newer kernel");
}

#[test]
fn an_image_that_the_service_may_not_read_is_copied_whole_or_not_at_all() {
    if !need::all("iso::copied", &[&[XORRISO]]) {
        return;
    }
    let mut bench = lab();
    let mut request = pressed(&bench, &["-r"]);
    request.service_user = Some("nobody".into());
    set_mode(&request.path, 0o600);
    let in_place = ImportRequest {
        place: Place::InPlace,
        ..request.clone()
    };
    let error = bench.import(&in_place).unwrap_err().to_string();
    assert!(error.contains("leave --in-place out to have it copied"), "{error}");
    let image = fs::read(&request.path).unwrap();
    let sum = sum(&image);
    // What its publisher does not vouch for leaves nothing behind.
    let forged = ImportRequest {
        checksums: Some(Checksums::parse(&format!("{}  dvd.iso\n", "0".repeat(64))).unwrap()),
        ..request.clone()
    };
    let error = bench.import(&forged).unwrap_err().to_string();
    assert!(error.contains(&format!("its SHA-256 sum is {sum}, not 000")), "{error}");
    assert_eq!(bench.in_state(), [""; 0]);
    request.checksums = Some(Checksums::parse(&format!("{sum} *as-published.iso\n")).unwrap());
    let imported = bench.import(&request).unwrap();
    let text = said(&imported);
    assert!(
        text.contains("verified     its SHA-256 sum is one of the publisher's"),
        "{text}"
    );
    assert!(text.contains("straight out of a copy, "), "{text}");
    let tree = imported.distro.tree.clone().unwrap();
    assert!(!tree.in_place);
    assert_eq!(
        bench.in_state(),
        ["distros/.doubt-new", "distros/new", "distros/new/medium.iso"]
    );
    assert_eq!(fs::read(&tree.root).unwrap(), image);
    assert_eq!(bytes(&imported.distro, "boot/vmlinuz"), b"kernel");
    bench.store(&imported);
    imported.keep().unwrap();
    // Imported again from its own copy, it stays; with its folder it goes.
    let again = ImportRequest {
        path: tree.root.clone(),
        ..request.clone()
    };
    let same = bench.import(&again).unwrap();
    assert_eq!(same.distro.tree.as_ref(), Some(&tree));
    forget(&same.distro, &bench.state()).unwrap();
    assert_eq!(bench.in_state(), [""; 0]);
}

#[test]
fn a_disc_in_a_drive_is_copied() {
    if !need::all("iso::drive", &[&[XORRISO], &[Need::Program("losetup", "mount")]]) {
        return;
    }
    let bench = lab();
    let mut request = pressed(&bench, &["-r"]);
    let image = fs::read(&request.path).unwrap();
    // A drive shows more than the disc holds.
    let longer = fs::File::options().append(true).open(&request.path).unwrap();
    longer
        .set_len(u64::try_from(image.len()).unwrap() + 300 * 2048)
        .unwrap();
    let drive = Drive::holding(&request.path);
    request.path.clone_from(&drive.0);
    let in_place = ImportRequest {
        place: Place::InPlace,
        ..request.clone()
    };
    let error = bench.import(&in_place).unwrap_err().to_string();
    assert!(error.contains("is a drive, whose disc will be taken out"), "{error}");
    let imported = bench.import(&request).unwrap();
    let copy = &imported.distro.tree.as_ref().unwrap().root;
    assert_eq!(
        copy,
        &fs::canonicalize(bench.state()).unwrap().join("distros/new/medium.iso")
    );
    assert!(fs::read(copy).unwrap() == image, "the disc's own bytes, and no more");
}

/// A loop device, which is as read-only as a DVD drive.
struct Drive(PathBuf);

impl Drive {
    fn holding(image: &Path) -> Self {
        let told = Command::new("losetup")
            .args(["--read-only", "--find", "--show"])
            .arg(image)
            .output()
            .unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        Self(String::from_utf8(told.stdout).unwrap().trim().into())
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn installers_that_want_the_image_whole_get_it() {
    if !need::all("iso::whole", &[&[XORRISO]]) {
        return;
    }
    let bench = Bench::with(&[
        (
            ".disk/info",
            "Ubuntu-Server 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827)",
        ),
        ("casper/vmlinuz", "kernel"),
        ("casper/initrd", "initrd!"),
    ]);
    let request = pressed(&bench, &["-r"]);
    let imported = bench.import(&request).unwrap();
    let meta = &imported.distro.autoinstall_meta;
    assert_eq!(meta.text("iso"), Some("medium.iso"), "{}", said(&imported));
    assert!(!said(&imported).contains("warning"), "{}", said(&imported));
    assert_eq!(bytes(&imported.distro, "medium.iso"), fs::read(&request.path).unwrap());
    let tree = imported.distro.tree.as_ref().unwrap();
    let root = entries(&tree.root, tree.iso, "").unwrap();
    let names: Vec<&str> = root.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, [".disk", "casper", "medium.iso"]);
    // Nowhere else, and not in place of a file that is really called so.
    assert!(fetch(&tree.root, tree.iso, "casper/medium.iso").is_err());
    bench.put("medium.iso", "a file of the tree");
    let own = bench.import(&pressed(&bench, &["-r"])).unwrap();
    assert_eq!(bytes(&own.distro, "medium.iso"), b"a file of the tree");
}

#[test]
fn what_cannot_be_served_is_refused_before_anything_changes() {
    if !need::all("iso::refused", &[&[XORRISO]]) {
        return;
    }
    let bench = lab();
    let request = pressed(&bench, &["-r", "-no-pad"]);
    let refused = |request: &ImportRequest| bench.import(request).unwrap_err().to_string();
    // A download that was cut off.
    let image = fs::File::options().write(true).open(&request.path).unwrap();
    image
        .set_len(fs::metadata(&request.path).unwrap().len() - 4096)
        .unwrap();
    let error = refused(&request);
    assert!(
        error.contains("dvd.iso cannot be imported as an ISO image: offset "),
        "{error}"
    );
    assert!(
        error.contains("expected an extent inside the image, which may be cut off"),
        "{error}"
    );
    assert!(
        error.contains("remedy") && error.ends_with("nothing was changed"),
        "{error}"
    );
    fs::write(&request.path, "hello").unwrap();
    assert!(refused(&request).contains("expected an ISO 9660 volume descriptor (CD001), found a file of 5 bytes"));
    // An image that is no distro.
    fs::remove_dir_all(bench.tree()).unwrap();
    bench.put("readme", "nothing");
    let error = refused(&pressed(&bench, &["-r"]));
    assert!(error.contains("not recognised as a distro"), "{error}");
}
