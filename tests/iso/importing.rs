//! `import --path X.iso`: recognised out of the image, served where it lies, refused when it is another one.

use super::medium::{XORRISO, press};
use crate::import::{Bench, el, lab, said};
use crate::lab::need;
use cordwainer::assets::watch::Watcher;
use cordwainer::config::Config;
use cordwainer::distro::import::{ImportRequest, Place};
use cordwainer::distro::tree::{Opened, entries, fetch};
use cordwainer::model::Distro;
use std::fs;
use std::path::PathBuf;
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
fn what_cannot_be_served_is_refused_before_anything_changes() {
    if !need::all("iso::refused", &[&[XORRISO]]) {
        return;
    }
    let bench = lab();
    let request = pressed(&bench, &["-r", "-no-pad"]);
    let refused = |request: &ImportRequest| bench.import(request).unwrap_err().to_string();
    let copy = ImportRequest {
        place: Place::Copy,
        ..request.clone()
    };
    assert!(refused(&copy).contains("is an ISO image, which is served from where it is"));
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
