//! What the watcher sees on the disk, and that it sees changes.

use super::{Bench, el, lab};
use cordwainer::assets::watch::Watcher;
use cordwainer::config::Config;
use cordwainer::inventory::Inventory;
use std::sync::Arc;

fn watcher(bench: &Bench, loaders: &[&str]) -> Watcher {
    let config = Config {
        overrides: bench.etc(),
        loader_paths: vec![bench.etc().join(loaders[0])],
        ..Config::default()
    };
    let system = loaders[1..].iter().map(|folder| bench.etc().join(folder)).collect();
    Watcher::with_loader_paths(Arc::new(config), system)
}

fn write(bench: &Bench, path: &str, text: &str) {
    let full = bench.etc().join(path);
    std::fs::create_dir_all(full.parent().unwrap()).unwrap();
    std::fs::write(full, text).unwrap();
}

#[test]
fn loaders_are_found_by_the_search_path_and_signed_ones_first() {
    let mut bench = el("Rocky Linux", "9.4", "x86_64");
    write(&bench, "own/undionly.kpxe", "mine");
    write(&bench, "system/undionly.kpxe", "theirs");
    write(&bench, "system/snponly.efi", "snp");
    write(&bench, "system/readme.txt", "no loader");
    write(&bench, "shim/shimx64.efi", "unsigned");
    write(&bench, "shim/shimx64.efi.signed", "signed!");
    let mut watcher = watcher(&bench, &["own", "nowhere", "system", "shim"]);
    let assets = watcher.look(&bench.inventory);
    assert_eq!(
        assets.loaders["undionly.kpxe"].path,
        bench.etc().join("own/undionly.kpxe")
    );
    assert_eq!(assets.loaders["snponly.efi"].size, 3);
    assert_eq!(
        assets.loaders["shimx64.efi"].path,
        bench.etc().join("shim/shimx64.efi.signed")
    );
    assert_eq!(assets.loaders.len(), 3, "{:?}", assets.loaders);

    let imported = bench.imported();
    bench.store(&imported);
    let assets = watcher.look(&bench.inventory);
    let grub = &assets.loaders["new/grubx64.efi"];
    assert_eq!(grub.path, bench.tree().join("EFI/BOOT/grubx64.efi"));
    assert_eq!(assets.loaders["grubx64.efi"], *grub);
    write(&bench, "system/grubx64.efi", "of the system");
    let assets = watcher.look(&bench.inventory);
    assert_eq!(
        assets.loaders["grubx64.efi"].path,
        bench.etc().join("system/grubx64.efi")
    );
    assert_eq!(assets.loaders["new/grubx64.efi"].size, 4);
}

#[test]
fn the_loaders_of_this_machine_are_found() {
    let assets = Watcher::new(Arc::new(Config::default())).look(&Inventory::default());
    for (package, name) in [
        ("/usr/lib/ipxe/undionly.kpxe", "undionly.kpxe"),
        ("/usr/lib/PXELINUX/pxelinux.0", "pxelinux.0"),
    ] {
        if std::path::Path::new(package).exists() {
            assert!(assets.loaders[name].size > 10_000);
        }
    }
    if std::path::Path::new("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed").exists() {
        assert!(assets.loaders.contains_key("grubnetx64.efi"));
    }
}

#[test]
fn a_missing_kernel_degrades_that_distro_alone() {
    let mut bench = lab();
    let imported = bench.imported();
    bench.store(&imported);
    let mut other = imported.distro.clone();
    other.name = "other".parse().unwrap();
    other.kernel = "boot/other".to_owned();
    bench.inventory.put(cordwainer::inventory::Row::Distro(Arc::new(other)));
    let mut watcher = watcher(&bench, &["own"]);
    let assets = watcher.look(&bench.inventory);
    let kernel = assets.media["new"].kernel.clone().unwrap();
    assert_eq!((kernel.size, kernel.path), (6, bench.tree().join("boot/vmlinuz")));
    let problem = assets.media["other"].kernel.clone().unwrap_err();
    assert!(problem.contains("boot/other is missing; bring "), "{problem}");
    assert!(
        problem.ends_with("cordwainer import --path TREE --name other"),
        "{problem}"
    );

    std::fs::rename(bench.tree().join("boot"), bench.tree().join("away")).unwrap();
    let assets = watcher.look(&bench.inventory);
    assert!(assets.media["new"].kernel.is_err() && assets.media["new"].initrd[0].is_err());
    std::fs::rename(bench.tree().join("away"), bench.tree().join("boot")).unwrap();
    bench.put("boot/initrd.img", "");
    let assets = watcher.look(&bench.inventory);
    assert!(assets.media["new"].kernel.is_ok());
    let problem = assets.media["new"].initrd[0].clone().unwrap_err();
    assert!(problem.contains("boot/initrd.img is empty"), "{problem}");
}

#[test]
fn own_texts_override_the_built_in_and_changes_are_seen() {
    let bench = Bench::new();
    let mut watcher = watcher(&bench, &["own"]);
    let none = Inventory::default();
    let assets = watcher.look(&none);
    // Every template that an embedded signature names is built in.
    for signature in assets.signatures.values() {
        for (_, template) in &signature.autoinstall {
            assert!(assets.templates.contains_key(template), "{template}");
        }
    }
    assert!(assets.snippets.contains_key("report"));
    assert_eq!(assets.templates["debian/preseed.cfg"].origin, "built in");
    assert!(!assets.templates.keys().any(|name| name.starts_with("snippets/")));
    assert_eq!(assets.problems, []);
    let again = watcher.look(&none);
    assert!(
        again.templates.ptr_eq(&assets.templates) && again.snippets.ptr_eq(&assets.snippets),
        "a look that finds nothing new keeps what was compiled of the last one"
    );

    write(&bench, "kickstarts/debian/preseed.cfg", "mine");
    write(&bench, "kickstarts/site/deep/own.ks", "own");
    write(&bench, "kickstarts/site/.own.ks.swp", "editor");
    write(&bench, "kickstarts/site/own.ks~", "editor");
    write(&bench, "snippets/per_system/network_config/web1", "snip");
    let assets = watcher.look(&none);
    let mine = assets.templates["debian/preseed.cfg"].clone();
    assert_eq!(
        (&*mine.text, mine.origin.as_str()),
        (
            "mine",
            bench.etc().join("kickstarts/debian/preseed.cfg").to_str().unwrap()
        )
    );
    assert_eq!(&*assets.templates["site/deep/own.ks"].text, "own");
    assert_eq!(&*assets.snippets["per_system/network_config/web1"].text, "snip");
    assert_eq!(
        assets.templates.keys().filter(|name| name.starts_with("site/")).count(),
        1
    );
    let again = watcher.look(&none);
    assert!(
        Arc::ptr_eq(&mine, &again.templates["debian/preseed.cfg"]),
        "what did not change is not read again"
    );

    write(&bench, "kickstarts/debian/preseed.cfg", "mine, changed");
    assert_eq!(
        &*watcher.look(&none).templates["debian/preseed.cfg"].text,
        "mine, changed"
    );
    std::fs::write(bench.etc().join("kickstarts/debian/preseed.cfg"), b"\xff\xfe").unwrap();
    let assets = watcher.look(&none);
    assert_eq!(assets.templates["debian/preseed.cfg"].origin, "built in");
    assert!(
        assets.problems[0].1.contains("what is built in is used instead"),
        "{:?}",
        assets.problems
    );
    std::fs::remove_dir_all(bench.etc().join("kickstarts")).unwrap();
    assert_eq!(watcher.look(&none).problems, []);
}

#[test]
fn a_changed_signature_is_used_and_a_broken_one_is_a_problem() {
    let bench = Bench::new();
    let mut watcher = watcher(&bench, &["own"]);
    let none = Inventory::default();
    let assets = watcher.look(&none);
    let lab = assets.signatures["lab"].clone();
    assert_eq!((lab.answer_file.as_str(), lab.min_ram_for("1")), ("answer", Some(256)));
    let debian = &assets.signatures["debian"];
    for (path, stage) in [
        ("dists/bookworm/Release", None),
        ("dists/bookworm/InRelease", Some("partitioning")),
        (
            "dists/bookworm/main/debian-installer/binary-amd64/Packages.xz",
            Some("started"),
        ),
        ("dists/bookworm/main/binary-amd64/Packages.xz", Some("packages")),
        ("pool/main/b/bash/bash.deb", Some("packages")),
        ("pool/main/p/parted/parted.udeb", None),
    ] {
        assert_eq!(debian.stage_of(path), stage, "{path}");
    }
    assert_eq!(
        assets.signatures["redhat"].stage_of("BaseOS/Packages/b/bash.rpm"),
        Some("packages")
    );
    assert!(assets.signatures["suse"].reboots_midway && !lab.reboots_midway);
    write(&bench, "distros/lab.toml", "tier = 'one'\n");
    let assets = watcher.look(&none);
    assert_eq!(*assets.signatures["lab"], *lab);
    let (what, why) = &assets.problems[0];
    assert!(
        what.ends_with("distros/lab.toml") && why.starts_with("line 1: "),
        "{what}: {why}"
    );
    std::fs::remove_file(bench.etc().join("distros/lab.toml")).unwrap();
    assert_eq!(watcher.look(&none).problems, []);
}
