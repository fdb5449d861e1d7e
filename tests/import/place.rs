//! Where trees end up: in place or copied, whole or not at all.

use super::{Bench, el, lab, said, set_mode};
use cordwainer::assets::watch::Watcher;
use cordwainer::config::Config;
use cordwainer::distro::import::{Cause, ImportRequest, Place, Progress, forget, import};
use cordwainer::distro::library::Library;
use cordwainer::inventory::Row;
use cordwainer::model::{DictValue, Parent};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// As for a service that runs as nobody.
fn for_nobody(bench: &Bench, place: Place) -> ImportRequest {
    ImportRequest {
        place,
        service_user: Some("nobody".to_owned()),
        ..bench.request()
    }
}

fn copying(bench: &Bench) -> ImportRequest {
    for_nobody(bench, Place::Copy)
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn a_readable_tree_stays_where_it_is() {
    let bench = el("Rocky Linux", "9.4", "x86_64");
    for place in [Place::Auto, Place::InPlace] {
        let imported = bench.import(&for_nobody(&bench, place)).unwrap();
        let tree = imported.distro.tree.clone().unwrap();
        assert_eq!((tree.root, tree.in_place), (bench.tree(), true));
        assert_eq!((imported.files, imported.bytes > 500), (8, true));
        imported.keep().unwrap();
    }
    // The path as the inventory keeps it does not change when a link on the way does.
    let link = bench.etc().join("current");
    symlink(bench.tree(), &link).unwrap();
    let request = ImportRequest {
        path: link,
        ..for_nobody(&bench, Place::Auto)
    };
    assert_eq!(bench.import(&request).unwrap().distro.tree.unwrap().root, bench.tree());
    assert!(bench.in_state().is_empty(), "{:?}", bench.in_state());
}

#[test]
fn what_the_service_may_not_read_is_copied_and_made_readable() {
    let bench = el("Rocky Linux", "9.4", "x86_64");
    let kernel = bench.tree().join("images/pxeboot/vmlinuz");
    set_mode(&kernel, 0o600);
    let error = bench
        .import(&for_nobody(&bench, Place::InPlace))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!(
            "{} may not be read by the service (user nobody)",
            kernel.display()
        )),
        "{error}"
    );
    assert!(error.contains("leave --in-place out to have it copied"), "{error}");
    let imported = bench.import(&for_nobody(&bench, Place::Auto)).unwrap();
    let tree = imported.distro.tree.clone().unwrap();
    assert_eq!(
        (tree.root.clone(), tree.in_place),
        (bench.state().join("distros/new"), false)
    );
    let copy = tree.root.join("images/pxeboot/vmlinuz");
    assert_eq!(std::fs::read(&copy).unwrap(), b"kernel");
    assert_eq!(std::fs::metadata(&copy).unwrap().mode() & 0o777, 0o644);
    assert_eq!(
        std::fs::metadata(&kernel).unwrap().mode() & 0o777,
        0o600,
        "the original is as it was"
    );
    let readable = "images/pxeboot/initrd.img";
    assert_eq!(
        inode(&tree.root.join(readable)),
        inode(&bench.tree().join(readable)),
        "linked, not copied"
    );
    assert!(
        said(&imported).contains("because the service may not read "),
        "{}",
        said(&imported)
    );
    imported.keep().unwrap();

    // A folder above it is enough to bar the service.
    let bench = lab();
    set_mode(bench.tree().parent().unwrap(), 0o700);
    let error = bench.import(&for_nobody(&bench, Place::InPlace)).unwrap_err();
    assert!(
        matches!(&error.0, Cause::Barred { path, .. } if path == bench.tree().parent().unwrap()),
        "{error}"
    );
}

#[test]
fn what_the_services_sandbox_hides_is_copied_though_its_mode_is_open() {
    let bench = lab();
    let folder = std::fs::canonicalize(bench.tree().parent().unwrap()).unwrap();
    let request = ImportRequest {
        hidden: vec!["/nothing".into(), folder.clone()],
        ..bench.request()
    };
    let in_place = ImportRequest {
        place: Place::InPlace,
        ..request.clone()
    };
    let images = crate::lab::need::all("import::hidden", &[&[crate::iso::medium::XORRISO]]);
    let image = folder.join("lab.iso");
    if images {
        crate::iso::medium::press(&bench.tree(), &image, &["-r"]);
    }
    for path in [Some(bench.tree()), images.then_some(image)].into_iter().flatten() {
        let at = |request: &ImportRequest| ImportRequest {
            path: path.clone(),
            ..request.clone()
        };
        let error = bench.import(&at(&in_place)).unwrap_err().to_string();
        assert!(
            error.contains(&format!(
                "lies in {}, and the service's sandbox has one of its own",
                folder.display()
            )) && error.contains("move it elsewhere"),
            "{error}"
        );
        let imported = bench.import(&at(&request)).unwrap();
        assert!(!imported.distro.tree.as_ref().unwrap().in_place);
        let text = said(&imported);
        assert!(text.contains("a copy"), "{text}");
        imported.withdraw().unwrap();
    }
}

#[test]
fn a_wished_copy_shares_nothing_and_keeps_links_and_times() {
    let bench = lab();
    bench.put("dists/bookworm/Release", "x");
    bench.put("odd näme/a b\n'$(c)", "odd");
    let raw = bench.tree().join(std::ffi::OsStr::from_bytes(b"raw-\xff"));
    std::fs::write(&raw, "raw").unwrap();
    symlink("bookworm", bench.tree().join("dists/stable")).unwrap();
    symlink(".", bench.tree().join("debian")).unwrap();
    symlink("nowhere", bench.tree().join("dangling")).unwrap();
    set_mode(&bench.tree().join("boot/vmlinuz"), 0o755);
    let mut seen = Vec::new();
    let library = Library::load(&bench.etc());
    let imported = import(
        &copying(&bench),
        &bench.state(),
        &library,
        &bench.inventory,
        &mut |progress| {
            seen.push(progress);
        },
    )
    .unwrap();
    let root = imported.distro.tree.clone().unwrap().root;
    for path in ["lab/release", "boot/vmlinuz", "odd näme/a b\n'$(c)"] {
        let (old, new) = (bench.tree().join(path), root.join(path));
        assert_eq!(std::fs::read(&old).unwrap(), std::fs::read(&new).unwrap());
        assert_ne!(inode(&old), inode(&new), "{path}");
        assert_eq!(
            std::fs::metadata(&old).unwrap().modified().unwrap(),
            std::fs::metadata(&new).unwrap().modified().unwrap()
        );
    }
    assert_eq!(std::fs::read(root.join(raw.file_name().unwrap())).unwrap(), b"raw");
    assert_eq!(
        std::fs::metadata(root.join("boot/vmlinuz")).unwrap().mode() & 0o777,
        0o755
    );
    for (link, target) in [("dists/stable", "bookworm"), ("debian", "."), ("dangling", "nowhere")] {
        assert_eq!(std::fs::read_link(root.join(link)).unwrap(), PathBuf::from(target));
    }
    assert_eq!(seen.last(), Some(&Progress::Syncing));
    let last = seen.iter().rev().nth(1).unwrap();
    let bytes = imported.bytes;
    assert_eq!(
        *last,
        Progress::Copying {
            files: 6,
            bytes,
            all_files: 6,
            all_bytes: bytes
        }
    );
    // In place, what no URL can name is told.
    let in_place = said(&bench.imported());
    assert!(in_place.contains("is not UTF-8, so it is not served"), "{in_place}");
}

#[test]
fn links_that_lead_out_and_special_files_are_named() {
    let bench = lab();
    std::fs::write(bench.etc().join("secret"), "secret").unwrap();
    symlink("../../etc/secret", bench.tree().join("boot/out")).unwrap();
    let error = bench.import(&copying(&bench)).unwrap_err().to_string();
    assert!(
        error.starts_with("boot/out leads out of the tree, to ../../etc/secret\n"),
        "{error}"
    );
    symlink("/etc/hostname", bench.tree().join("boot/absolute")).unwrap();
    // By the text it stays inside; by way of the other link it does not.
    symlink("../..", bench.tree().join("lab/up")).unwrap();
    let error = bench.import(&copying(&bench)).unwrap_err().to_string();
    assert!(error.contains("(and 2 more like it)"), "{error}");
    let warned = said(&bench.imported());
    assert!(
        warned.contains("leads out of the tree") && warned.contains("and is not served"),
        "{warned}"
    );
    assert!(bench.in_state().is_empty(), "{:?}", bench.in_state());

    let bench = lab();
    nix::unistd::mkfifo(&bench.tree().join("boot/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = bench.import(&copying(&bench)).unwrap_err().to_string();
    assert!(error.starts_with("boot/pipe is a pipe\n"), "{error}");
    assert!(said(&bench.imported()).contains("boot/pipe is a pipe and is not served"));
}

#[test]
fn importing_again_updates_and_keeps_what_the_admin_set() {
    let mut bench = lab();
    let first = bench.import(&copying(&bench)).unwrap();
    bench.store(&first);
    first.keep().unwrap();
    let mut edited = (**bench.inventory.distro("new").unwrap()).clone();
    edited.kernel_options.set("quiet", DictValue::Flag);
    edited.comment = "mine".to_owned();
    bench.inventory.put(Row::Distro(Arc::new(edited)));

    bench.put(
        "lab/release",
        "[release]\nname = Lab Linux\nversion = 2\narch = aarch64\n",
    );
    std::fs::remove_file(bench.tree().join("boot/initrd.img")).unwrap();
    assert!(bench.import(&copying(&bench)).is_err());
    let copy = bench.state().join("distros/new");
    assert!(
        copy.join("boot/initrd.img").is_file(),
        "a failed import leaves the old copy"
    );

    bench.put("boot/initrd.img", "another");
    let second = bench.import(&copying(&bench)).unwrap();
    assert_eq!(second.profile, None);
    assert_eq!(second.changes().len(), 1);
    assert!(
        said(&second).contains("updated      distro new; profile new stays as it is"),
        "{}",
        said(&second)
    );
    assert!(said(&second).contains("Lab Linux 2 is newer than signature lab knows (up to 1)"));
    let distro = &second.distro;
    assert_eq!((distro.os_version.as_str(), distro.arch.as_str()), ("2", "aarch64"));
    assert_eq!(
        (distro.kernel_options.to_string().as_str(), distro.comment.as_str()),
        ("quiet", "mine")
    );
    // Beside the old one: which of them counts is what the inventory says.
    let new = distro.tree.clone().unwrap().root;
    assert_eq!(new, bench.state().join("distros/new~2"));
    assert_eq!(std::fs::read(new.join("boot/initrd.img")).unwrap(), b"another");

    // While it is not said whether the objects were stored, nobody else may import.
    let error = bench.import(&copying(&bench)).unwrap_err();
    assert!(matches!(error.0, Cause::Busy(_)), "{error}");
    second.withdraw().unwrap();
    assert!(!new.exists());
    assert_eq!(std::fs::read(copy.join("boot/initrd.img")).unwrap(), b"initrd!");
    assert_eq!(
        bench.in_state().iter().filter(|path| path.contains("staging")).count(),
        0
    );

    let second = bench.import(&copying(&bench)).unwrap();
    bench.store(&second);
    second.keep().unwrap();
    assert!(new.exists() && !copy.exists());
    let (old, copy) = (copy, new);
    let third = bench.import(&copying(&bench)).unwrap();
    assert_eq!(third.distro.tree.clone().unwrap().root, old);
    third.withdraw().unwrap();
    // In place from now on: the copy goes once the objects are stored.
    let third = bench.imported();
    bench.store(&third);
    assert!(copy.exists());
    third.keep().unwrap();
    assert!(!copy.exists());
    assert!(bench.in_state().is_empty());
}

#[test]
fn a_copy_can_be_withdrawn_looked_at_again_and_forgotten() {
    let mut bench = lab();
    bench.import(&copying(&bench)).unwrap().withdraw().unwrap();
    assert!(bench.in_state().is_empty(), "{:?}", bench.in_state());
    let imported = bench.import(&copying(&bench)).unwrap();
    bench.store(&imported);
    imported.keep().unwrap();
    let copy = bench.state().join("distros/new");
    let again = ImportRequest {
        path: copy.clone(),
        ..bench.request()
    };
    let imported = bench.import(&again).unwrap();
    let tree = imported.distro.tree.clone().unwrap();
    assert_eq!((tree.root.clone(), tree.in_place), (copy.clone(), false));
    imported.keep().unwrap();
    let distro = bench.inventory.distro("new").unwrap().clone();
    forget(&distro, &bench.state()).unwrap();
    assert!(!copy.exists());
    let mut in_place = (*distro).clone();
    in_place.tree = bench.imported().distro.tree;
    forget(&in_place, &bench.state()).unwrap();
    assert!(bench.tree().join("lab/release").exists(), "the admin's own tree stays");
}

#[test]
fn a_profile_of_that_name_on_another_distro_stops_the_import_before_it_copies() {
    let mut bench = lab();
    let imported = bench.imported();
    let mut profile = imported.profile.clone().unwrap();
    profile.parent = Parent::Distro("other".parse().unwrap());
    bench.inventory.put(Row::Profile(Arc::new(profile)));
    let error = bench.import(&copying(&bench)).unwrap_err().to_string();
    assert!(
        error.starts_with("there is a profile `new` already, and it stands on distro other;"),
        "{error}"
    );
    assert!(bench.in_state().is_empty());
}

#[test]
fn a_copy_that_fails_midway_leaves_nothing() {
    let bench = lab();
    for number in 0..50 {
        bench.put(&format!("pool/{number:02}"), "package");
    }
    let library = Library::load(&bench.etc());
    let pool = bench.tree().join("pool");
    let error = import(
        &copying(&bench),
        &bench.state(),
        &library,
        &bench.inventory,
        &mut |progress| {
            // The admin's rsync takes files away while they are copied.
            if matches!(progress, Progress::Copying { files: 10, .. }) {
                for entry in std::fs::read_dir(&pool).unwrap() {
                    std::fs::remove_file(entry.unwrap().path()).unwrap();
                }
                std::fs::remove_file(bench.tree().join("boot/vmlinuz")).unwrap();
            }
        },
    )
    .unwrap_err()
    .to_string();
    assert!(error.ends_with("nothing was changed"), "{error}");
    assert!(bench.in_state().is_empty(), "{:?}", bench.in_state());
}

#[test]
fn a_copy_larger_than_the_disk_is_refused_before_it_begins() {
    let bench = lab();
    let huge = std::fs::File::create(bench.tree().join("huge.img")).unwrap();
    let Ok(()) = huge.set_len(14 << 40) else {
        eprintln!("skipped: this filesystem has no sparse files of 14 TiB");
        return;
    };
    let error = bench.import(&copying(&bench)).unwrap_err().to_string();
    assert!(error.starts_with("the copy needs 14.0 TiB and "), "{error}");
    assert!(bench.in_state().is_empty(), "{:?}", bench.in_state());
}

const CHILD: &str = "CORDWAINER_TEST_IMPORT_CHILD";

/// This very test binary, running one ignored test on the folder of `bench`.
fn child(test: &str, bench: &Bench) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, bench.tree().parent().unwrap());
    command
}

#[test]
#[ignore = "the half of the next test that is killed"]
fn child_that_is_killed_in_mid_copy() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let library = Library::load(&folder.join("etc"));
    let request = ImportRequest {
        path: folder.join("tree"),
        name: Some("new".parse().unwrap()),
        place: Place::Copy,
        ..ImportRequest::default()
    };
    let inventory = cordwainer::inventory::Inventory::default();
    let _ = import(&request, &folder.join("state"), &library, &inventory, &mut |progress| {
        if matches!(progress, Progress::Copying { files: 20, .. }) {
            nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    });
    unreachable!("it was to be killed");
}

#[test]
fn a_kill_in_mid_copy_leaves_only_staging_which_the_next_import_removes() {
    use std::os::unix::process::ExitStatusExt;
    let bench = lab();
    for number in 0..50 {
        bench.put(&format!("pool/{number:02}"), "package");
    }
    let status = child("import::place::child_that_is_killed_in_mid_copy", &bench)
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(9), "{status}");
    assert!(!bench.state().join("distros/new").exists());
    assert!(bench.state().join("distros/.staging-new").exists());
    // An import of something else, in place, is the next one.
    let other = lab();
    let request = ImportRequest {
        path: other.tree(),
        name: Some("other".parse().unwrap()),
        ..bench.request()
    };
    bench.import(&request).unwrap().keep().unwrap();
    assert!(bench.in_state().is_empty(), "{:?}", bench.in_state());
    let imported = bench.import(&copying(&bench)).unwrap();
    assert_eq!(imported.files, 53);
    imported.keep().unwrap();
}

#[test]
#[ignore = "the half of the next test that runs as nobody"]
fn child_that_is_nobody() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let library = Library::load(&folder.join("etc"));
    let request = ImportRequest {
        path: folder.join("tree"),
        name: Some("new".parse().unwrap()),
        ..ImportRequest::default()
    };
    let mut inventory = cordwainer::inventory::Inventory::default();
    let error = import(&request, &folder.join("state"), &library, &inventory, &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("boot/vmlinuz cannot be read: Permission denied"),
        "{error}"
    );
    assert!(
        error.contains("remedy      import as a user that may read it"),
        "{error}"
    );
    let tree = cordwainer::model::Tree {
        root: folder.join("tree"),
        in_place: true,
        iso: None,
        overlay: None,
    };
    let mut distro: cordwainer::model::Distro = toml::from_str(
        "name='new'\narch='x86_64'\nbreed='lab'\nos_version='1'\nkernel='boot/vmlinuz'\ninitrd=['boot/initrd.img']",
    )
    .unwrap();
    distro.tree = Some(tree);
    inventory.put(Row::Distro(Arc::new(distro)));
    let assets = Watcher::with_loader_paths(Arc::new(Config::default()), vec![]).look(&inventory);
    let media = &assets.media["new"];
    let problem = media.kernel.clone().unwrap_err();
    assert!(
        problem.ends_with("may not be read by the service; chmod a+r it, and a+x the folders above it"),
        "{problem}"
    );
    assert_eq!(media.initrd[0].clone().unwrap().size, 7);
}

#[test]
fn an_unreadable_kernel_is_named_by_import_and_by_the_watcher() {
    let bench = lab();
    set_mode(&bench.tree().join("boot/vmlinuz"), 0);
    let name = "import::place::child_that_is_nobody";
    let status = if nix::unistd::geteuid().is_root() {
        // The binary may lie where nobody cannot go: it is run by an open descriptor.
        let copy = bench.etc().join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        set_mode(&copy, 0o755);
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(&copy)
            .args(["--exact", name, "--ignored", "--test-threads=1"])
            .env(CHILD, bench.tree().parent().unwrap())
            .status()
            .unwrap()
    } else {
        child(name, &bench).status().unwrap()
    };
    assert!(status.success(), "{status}");
}
