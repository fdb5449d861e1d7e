//! A Debian disc and its netboot files: as a tarball, a folder and a package; of the right release, and of wrong ones.

use super::web::{Web, say};
use super::{Bench, said};
use crate::iso::medium::{XORRISO, press};
use crate::lab::need::{self, DPKG_DEB};
use cordwainer::distro::download::Manners;
use cordwainer::distro::import::{Cause, ImportRequest, Place, forget};
use cordwainer::distro::tree;
use cordwainer::model::Distro;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// An initrd whose modules are for the kernel `release`.
pub fn initrd(release: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    for name in [
        "bin/sh".to_owned(),
        format!("lib/modules/{release}/kernel/net.ko"),
        "TRAILER!!!".to_owned(),
    ] {
        archive.extend(b"070701");
        for field in [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() + 1, 0] {
            archive.extend(format!("{field:08X}").bytes());
        }
        archive.extend(name.bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    gzip(&archive)
}

/// The tree of a Debian disc of bookworm, with modules for `kernels`.
pub fn disc(kind: &str, arch: &str, kernels: &[&str]) -> Bench {
    let bench = Bench::with(&[
        (
            ".disk/info",
            &format!(
                "Debian GNU/Linux 12.11.0 \"Bookworm\" - Official {arch} {kind} Binary-1 with firmware 20250517-09:52\n"
            ),
        ),
        (
            "dists/bookworm/Release",
            "Origin: Debian\nVersion: 12.11\nCodename: bookworm\n",
        ),
        ("install.amd/vmlinuz", "the disc's kernel"),
        ("install.amd/initrd.gz", "the disc's initrd"),
        ("pool/main/b/bash/bash_5_amd64.deb", "bash"),
    ]);
    let index: String = kernels
        .iter()
        .map(|kernel| format!("Package: nic-modules-{kernel}-di\nVersion: 1\n\nPackage: anna\n\n"))
        .collect();
    let folder = bench
        .tree()
        .join(format!("dists/bookworm/main/debian-installer/binary-{arch}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("Packages.gz"), gzip(index.as_bytes())).unwrap();
    bench
}

/// Netboot files in `folder`, as netboot.tar.gz unpacks.
pub fn netboot(folder: &Path, arch: &str, version: &str, kernel: &str) -> PathBuf {
    let files = folder.join(format!("debian-installer/{arch}"));
    fs::create_dir_all(files.join("boot-screens")).unwrap();
    fs::write(files.join("linux"), format!("netboot kernel {kernel}")).unwrap();
    fs::write(files.join("initrd.gz"), initrd(kernel)).unwrap();
    fs::write(files.join("bootnetx64.efi"), "shim").unwrap();
    fs::write(files.join("boot-screens/menu.cfg"), "menu").unwrap();
    fs::write(
        folder.join("version.info"),
        format!("Debian version:  {version}\nInstaller build: 20230607\n"),
    )
    .unwrap();
    let _old = fs::remove_file(folder.join("pxelinux.0"));
    std::os::unix::fs::symlink(format!("debian-installer/{arch}/pxelinux.0"), folder.join("pxelinux.0")).unwrap();
    folder.to_path_buf()
}

fn good(bench: &Bench) -> PathBuf {
    netboot(&bench.etc().join("netboot"), "amd64", "12 (bookworm)", "6.1.0-35-amd64")
}

fn tarball(folder: &Path, to: &Path) {
    let status = Command::new("tar")
        .arg("-czf")
        .arg(to)
        .arg("-C")
        .arg(folder)
        .arg(".")
        .status();
    assert!(status.unwrap().success());
}

fn bytes(distro: &Distro, path: &str) -> Vec<u8> {
    let place = tree::Place::from(distro.tree.as_ref().unwrap());
    let tree::Opened::File(file) = place.fetch(path).unwrap() else {
        panic!("{path} is a folder");
    };
    let mut bytes = vec![0; usize::try_from(file.size()).unwrap()];
    assert_eq!(file.fill(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn given(bench: &Bench, netboot: &Path) -> ImportRequest {
    ImportRequest {
        netboot: Some(netboot.to_path_buf()),
        ..bench.request()
    }
}

fn refusal(bench: &Bench, request: &ImportRequest) -> String {
    let error = bench.import(request).unwrap_err().to_string();
    assert!(
        error.contains("remedy") && error.ends_with("nothing was changed"),
        "{error}"
    );
    assert_eq!(bench.in_state(), [""; 0], "{error}");
    error
}

#[test]
fn a_disc_alone_is_told_what_it_needs_and_where_that_is() {
    let bench = disc("DVD", "amd64", &["6.1.0-35-amd64"]);
    let error = refusal(&bench, &bench.request());
    for part in [
        "Debian 12.11.0 amd64 is a disc whose initrd looks for a drive and cannot install over the network",
        "apt install debian-installer-12-netboot-amd64",
        "--netboot FILE with https://deb.debian.org/debian/dists/bookworm/main/installer-amd64/current/images/netboot/netboot.tar.gz",
    ] {
        assert!(error.contains(part), "{error}");
    }
    // Installed, they are found by themselves.
    let images = bench.etc().join("images");
    netboot(
        &images.join("12/amd64/text"),
        "amd64",
        "12 (bookworm)",
        "6.1.0-35-amd64",
    );
    let installed = ImportRequest {
        installed: Some(images),
        ..bench.request()
    };
    let imported = bench.import(&installed).unwrap();
    assert_eq!(
        bytes(&imported.distro, &imported.distro.kernel),
        b"netboot kernel 6.1.0-35-amd64"
    );
    imported.withdraw().unwrap();
    // No disc: the option is told to be out of place.
    let lab = super::lab();
    let error = refusal(&lab, &given(&lab, &good(&bench)));
    assert!(
        error.contains("--netboot is for Debian discs, and this is none"),
        "{error}"
    );
}

#[test]
fn netboot_files_come_as_a_folder_a_tarball_or_a_package() {
    if !need::all("import::netboot", &[&[XORRISO, DPKG_DEB]]) {
        return;
    }
    let mut bench = disc("DVD", "amd64", &["6.1.0-35-amd64", "6.1.0-34-amd64"]);
    let folder = good(&bench);
    let tar = bench.etc().join("netboot.tar.gz");
    tarball(&folder, &tar);
    let package = bench.etc().join("package");
    netboot(
        &package.join("usr/lib/debian-installer/images/12/amd64/text"),
        "amd64",
        "12 (bookworm)",
        "6.1.0-35-amd64",
    );
    netboot(
        &package.join("usr/lib/debian-installer/images/12/amd64/gtk"),
        "amd64",
        "12 (bookworm)",
        "graphical",
    );
    fs::create_dir(package.join("DEBIAN")).unwrap();
    fs::write(
        package.join("DEBIAN/control"),
        "Package: debian-installer-12-netboot-amd64\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n",
    )
    .unwrap();
    let deb = bench.etc().join("netboot.deb");
    let built = Command::new("dpkg-deb")
        .arg("-b")
        .arg(&package)
        .arg(&deb)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let image = bench.tree().with_file_name("dvd.iso");
    press(&bench.tree(), &image, &["-r", "-J"]);

    for from in [
        &folder,
        &tar,
        &deb,
        &package.join("usr/lib/debian-installer/images/12/amd64"),
    ] {
        for (path, place) in [
            (bench.tree(), Place::InPlace),
            (bench.tree(), Place::Copy),
            (image.clone(), Place::InPlace),
            (image.clone(), Place::Copy),
        ] {
            let request = ImportRequest {
                path,
                place,
                ..given(&bench, from)
            };
            let what = format!("{} {place:?}", request.path.display());
            let imported = bench.import(&request).unwrap_or_else(|error| panic!("{what}: {error}"));
            let distro = &imported.distro;
            assert_eq!(distro.os_version, "12");
            assert_eq!(distro.kernel, "netboot/debian-installer/amd64/linux", "{what}");
            assert_eq!(
                bytes(distro, &distro.kernel),
                b"netboot kernel 6.1.0-35-amd64",
                "{what}"
            );
            assert_eq!(bytes(distro, &distro.initrd[0]), initrd("6.1.0-35-amd64"), "{what}");
            assert_eq!(bytes(distro, "pool/main/b/bash/bash_5_amd64.deb"), b"bash", "{what}");
            let meta = |key| distro.autoinstall_meta.text(key);
            assert_eq!(
                (meta("suite"), meta("tree_is_mirror"), meta("unsigned_tree")),
                (Some("bookworm"), Some("yes"), Some("yes"))
            );
            let place = tree::Place::from(distro.tree.as_ref().unwrap());
            let names = |path: &str| -> Vec<String> {
                place
                    .entries(path)
                    .unwrap()
                    .into_iter()
                    .map(|entry| entry.name)
                    .collect()
            };
            assert!(
                names("").starts_with(&[".disk".to_owned(), "dists".to_owned()]),
                "{:?}",
                names("")
            );
            assert!(names("").contains(&"netboot".to_owned()));
            assert_eq!(
                names("netboot/debian-installer/amd64"),
                ["bootnetx64.efi", "initrd.gz", "linux"]
            );
            imported.withdraw().unwrap();
            assert_eq!(bench.in_state(), [""; 0], "{what}");
        }
    }
    // Imported again without them, those of before are used; with the distro they go.
    let request = ImportRequest {
        path: image,
        ..given(&bench, &deb)
    };
    let imported = bench.import(&request).unwrap();
    bench.store(&imported);
    imported.keep().unwrap();
    let before = bench.in_state();
    assert!(
        before.contains(&"distros/new/overlay/netboot/debian-installer/amd64/linux".to_owned()),
        "{before:?}"
    );
    let again = bench
        .import(&ImportRequest {
            netboot: None,
            ..request.clone()
        })
        .unwrap();
    assert_eq!(again.distro.tree, bench.inventory.distro("new").unwrap().tree);
    again.keep().unwrap();
    assert_eq!(bench.in_state(), before);
    // Given anew, they replace the old ones.
    let newer = bench.import(&request).unwrap();
    bench.store(&newer);
    newer.keep().unwrap();
    let after = bench.in_state();
    assert!(
        after.contains(&"distros/new~2".to_owned()) && !after.contains(&"distros/new".to_owned()),
        "{after:?}"
    );
    // The medium is gone: what was laid over it starts nothing any more.
    fs::remove_file(&request.path).unwrap();
    let distro = bench.inventory.distro("new").unwrap().clone();
    assert!(
        tree::Place::from(distro.tree.as_ref().unwrap())
            .fetch(&distro.kernel)
            .is_err()
    );
    forget(&distro, &bench.state()).unwrap();
    assert_eq!(bench.in_state(), [""; 0]);
}

#[test]
fn files_of_another_release_kernel_or_machine_are_refused() {
    let bench = disc("DVD", "amd64", &["6.1.0-35-amd64"]);
    let at = |name: &str| bench.etc().join(name);
    let old = netboot(&at("old"), "amd64", "11 (bullseye)", "5.10.0-1-amd64");
    let error = refusal(&bench, &given(&bench, &old));
    assert!(
        error.contains("old is of Debian 11 (bullseye), and the disc is Debian 12.11.0"),
        "{error}"
    );
    let other = netboot(&at("other"), "amd64", "12 (bookworm)", "6.1.0-50-amd64");
    let error = refusal(&bench, &given(&bench, &other));
    assert!(
        error.contains("starts kernel 6.1.0-50-amd64, and the disc has modules for 6.1.0-35-amd64 alone: the installer would stop with \"no kernel modules were found\""),
        "{error}"
    );
    // With packages from elsewhere it is another matter.
    let mut elsewhere = given(&bench, &other);
    elsewhere.flags.mirror = Some("http://deb.debian.org/debian".to_owned());
    let imported = bench.import(&elsewhere).unwrap();
    let meta = &imported.distro.autoinstall_meta;
    assert_eq!(
        (meta.text("tree_is_mirror"), meta.text("mirror_host")),
        (None, Some("deb.debian.org"))
    );
    imported.withdraw().unwrap();
    let arm = netboot(&at("arm"), "arm64", "12 (bookworm)", "6.1.0-35-arm64");
    let error = refusal(&bench, &given(&bench, &arm));
    assert!(
        error.contains("holds no debian-installer/amd64/linux with its initrd.gz; it holds arm64"),
        "{error}"
    );
    fs::write(at("garbage"), "no archive").unwrap();
    fs::write(at("x.tar.xz"), b"\xFD7zXZ\0rest").unwrap();
    fs::write(at("cut.tar.gz"), &gzip(&vec![1; 100_000])[..50]).unwrap();
    fs::write(at("bad.deb"), "!<arch>\nnothing").unwrap();
    fs::create_dir(at("empty")).unwrap();
    for (file, why) in [
        ("garbage", "neither a tar archive nor a Debian package"),
        ("x.tar.xz", "packed by xz: unpack it"),
        ("bad.deb", "no package that dpkg-deb can open"),
        ("empty", "it holds none at all"),
        ("gone", "No such file"),
        ("cut.tar.gz", "cut.tar.gz: "),
    ] {
        let error = refusal(&bench, &given(&bench, &at(file)));
        assert!(error.contains(why), "{file}: {error}");
    }
}

#[test]
fn a_netinst_disc_needs_a_mirror_that_answers() {
    let bench = disc("NETINST", "amd64", &["6.1.0-35-amd64"]);
    let web = Web::start(
        |head, stream| match head.starts_with("GET /debian/dists/bookworm/Release ") {
            true => say(stream, "200 OK\r\nContent-Length: 2", b"ok"),
            false => say(stream, "404 Not Found\r\nContent-Length: 0", b""),
        },
    );
    let mut request = given(&bench, &good(&bench));
    request.manners = Manners {
        allow_local: true,
        patience: Some(std::time::Duration::from_secs(1)),
        ..Manners::default()
    };
    request.flags.mirror = Some(web.url("nothing"));
    let error = bench.import(&request).unwrap_err();
    assert!(matches!(error.0, Cause::NoMirror { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains(
            "a netinst disc holds the base system alone: the installer needs a mirror of the same point release, and this one does \
             not answer: http://127.0.0.1:"
        ),
        "{error}"
    );
    assert!(
        error.contains("/nothing/dists/bookworm/Release: the server answers 404"),
        "{error}"
    );
    assert_eq!(bench.in_state(), [""; 0]);
    request.flags.mirror = Some(web.url("debian/"));
    let imported = bench.import(&request).unwrap();
    let text = said(&imported);
    assert!(
        text.contains("warning      a netinst disc holds the base system alone"),
        "{text}"
    );
    assert_eq!(imported.distro.autoinstall_meta.text("tree_is_mirror"), None);
    imported.withdraw().unwrap();
}
