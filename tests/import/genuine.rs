//! Genuine media: the netboot packages of Debian 12 and 13 for every processor that they are made for, as trees and laid over discs that are
//! made from the package archive's own index.

use super::netboot::gzip;
use super::{Bench, said};
use crate::iso::medium::{XORRISO, press};
use crate::lab::need::{self, DPKG_DEB, Need};
use cordwainer::distro::import::ImportRequest;
use cordwainer::distro::tree;
use cordwainer::model::Distro;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const APT: Need = Need::Program("apt-get", "apt");

/// A package manager's root of its own, which knows Debian 12 and 13 and changes nothing of this machine's.
struct Archive(tempfile::TempDir);

impl Archive {
    /// None, said loudly, where the archive that this machine uses cannot be reached.
    fn open() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["state/lists/partial", "cache/archives/partial", "sources"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("status"), "").unwrap();
        let from = system_archive()?;
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let stanza = |suites: &str, parts: &str, machines: &str| {
            format!(
                "Types: deb\nURIs: {from}\nSuites: {suites}\nComponents: {parts}\nArchitectures: {machines}\nSigned-By: {keys}\n\n"
            )
        };
        let sources = [
            stanza("bookworm trixie", "main", "amd64"),
            stanza("bookworm trixie", "main/debian-installer", "amd64 arm64"),
            stanza("bookworm", "main/debian-installer", "i386"),
        ];
        fs::write(dir.path().join("sources/own.sources"), sources.concat()).unwrap();
        let archive = Self(dir);
        let updated = archive.apt(&["update"]);
        if updated.status.success() {
            return Some(archive);
        }
        let why = String::from_utf8_lossy(&updated.stderr).into_owned();
        assert!(
            std::env::var_os("CORDWAINER_REQUIRE_ALL").is_none(),
            "the package archive cannot be reached: {why}"
        );
        println!("SKIPPED import::genuine: the package archive cannot be reached: {why}");
        None
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn apt(&self, args: &[&str]) -> Output {
        let set = |key: &str, value: &Path| format!("{key}={}", value.display());
        Command::new("apt-get")
            .current_dir(self.0.path())
            .args(["-q", "-o", &set("Dir::State", &self.path("state"))])
            .args(["-o", &set("Dir::State::status", &self.path("status"))])
            .args(["-o", &set("Dir::Cache", &self.path("cache"))])
            .args(["-o", "Dir::Etc::sourcelist=/dev/null"])
            .args(["-o", &set("Dir::Etc::sourceparts", &self.path("sources"))])
            .args(["-o", "APT::Sandbox::User=root", "-o", "APT::Architectures::=amd64"])
            .args(["-o", "APT::Architectures::=arm64", "-o", "APT::Architectures::=i386"])
            .args(args)
            .output()
            .unwrap()
    }

    fn package(&self, name: &str) -> PathBuf {
        let got = self.apt(&["download", name]);
        assert!(got.status.success(), "{name}: {}", String::from_utf8_lossy(&got.stderr));
        let plain = name.split(['/', ':']).next().unwrap();
        let mut found = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
        found
            .find(|path| {
                let file = path.file_name().unwrap().to_string_lossy().into_owned();
                file.starts_with(&format!("{plain}_")) && file.ends_with(".deb")
            })
            .unwrap()
    }

    /// The archive's own index of the installer's packages.
    fn installer_index(&self, suite: &str, arch: &str) -> Vec<u8> {
        let ending = format!("_dists_{suite}_main_debian-installer_binary-{arch}_Packages");
        let lists = fs::read_dir(self.path("state/lists")).unwrap();
        let path = lists
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains(&ending))
            .unwrap_or_else(|| panic!("no index that ends in {ending}"));
        // It may be kept packed.
        let output = Command::new("/usr/lib/apt/apt-helper")
            .arg("cat-file")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", path.display());
        output.stdout
    }
}

/// Where this machine's packages come from.
fn system_archive() -> Option<String> {
    let mut files: Vec<PathBuf> = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|ending| ending == "sources" || ending == "list")
        })
        .collect();
    files.push("/etc/apt/sources.list".into());
    let texts: Vec<String> = files.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let debian = texts
        .iter()
        .find(|text| text.contains("bookworm") && text.contains("main"))?;
    debian.lines().find_map(|line| {
        let listed = line.strip_prefix("URIs:").map(str::trim);
        listed
            .or_else(|| {
                line.strip_prefix("deb ")?
                    .split_whitespace()
                    .find(|word| word.contains("://"))
            })
            .map(str::to_owned)
    })
}

fn bytes(distro: &Distro, path: &str) -> Vec<u8> {
    let place = tree::Place::from(distro.tree.as_ref().unwrap());
    let tree::Opened::File(file) = place.fetch(path).unwrap_or_else(|error| panic!("{path}: {error}")) else {
        panic!("{path} is a folder");
    };
    let mut bytes = vec![0; usize::try_from(file.size()).unwrap()];
    assert_eq!(file.fill(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

#[test]
fn debians_netboot_packages_start_their_own_discs() {
    if !need::all("import::genuine", &[&[XORRISO, DPKG_DEB, APT]]) {
        return;
    }
    let Some(archive) = Archive::open() else { return };
    let deb = archive.package("bash:amd64");
    let mut tried = 0;
    for (suite, major, point, arch, name) in [
        ("bookworm", "12", "12.15.0", "amd64", "x86_64"),
        ("bookworm", "12", "12.15.0", "arm64", "aarch64"),
        ("bookworm", "12", "12.15.0", "i386", "i386"),
        ("trixie", "13", "13.7.0", "amd64", "x86_64"),
        // The 13th has no installer for i386.
        ("trixie", "13", "13.7.0", "arm64", "aarch64"),
    ] {
        let what = format!("Debian {major} {arch}");
        let package = archive.package(&format!("debian-installer-{major}-netboot-{arch}"));
        let unpacked = archive.path("unpacked");
        let status = Command::new("dpkg-deb")
            .arg("-x")
            .arg(&package)
            .arg(&unpacked)
            .status()
            .unwrap();
        assert!(status.success(), "{what}");
        let text = unpacked.join(format!("usr/lib/debian-installer/images/{major}/{arch}/text"));
        let truth = |file: &str| fs::read(text.join(format!("debian-installer/{arch}/{file}"))).unwrap();

        // The package's tree.
        let bench = Bench::new();
        let request = ImportRequest {
            path: text.clone(),
            ..bench.request()
        };
        let imported = bench.import(&request).unwrap_or_else(|error| panic!("{what}: {error}"));
        let distro = &imported.distro;
        assert_eq!(
            (distro.os_version.as_str(), distro.arch.as_str()),
            (major, name),
            "{what}"
        );
        assert!(bytes(distro, &distro.kernel) == truth("linux"), "{what}");
        assert!(bytes(distro, &distro.initrd[0]) == truth("initrd.gz"), "{what}");
        assert_eq!(distro.autoinstall_meta.text("suite"), Some(suite));

        // A disc of that point release, with the archive's own index of installer packages, and the package beside it.
        let index = archive.installer_index(suite, arch);
        let name_of = if suite == "bookworm" { "Bookworm" } else { "Trixie" };
        bench.put(
            ".disk/info",
            &format!(
                "Debian GNU/Linux {point} \"{name_of}\" - Official {arch} DVD Binary-1 with firmware 20260711-10:00\n"
            ),
        );
        bench.put(
            &format!("dists/{suite}/Release"),
            &format!("Origin: Debian\nCodename: {suite}\nVersion: {major}\n"),
        );
        let folder = format!("dists/{suite}/main/debian-installer/binary-{arch}/");
        bench.put(&folder, "");
        fs::write(bench.tree().join(&folder).join("Packages.gz"), gzip(&index)).unwrap();
        bench.put("pool/main/b/bash/", "");
        fs::copy(&deb, bench.tree().join("pool/main/b/bash/bash.deb")).unwrap();
        bench.put("install/initrd.gz", "the disc's own");
        std::os::unix::fs::symlink(suite, bench.tree().join("dists/stable")).unwrap();
        let image = bench.tree().with_file_name("dvd.iso");
        press(
            &bench.tree(),
            &image,
            &["-r", "-J", "-V", &format!("Debian {point} {arch} 1")],
        );
        let request = ImportRequest {
            path: image,
            netboot: Some(package.clone()),
            ..bench.request()
        };
        let imported = bench.import(&request).unwrap_or_else(|error| panic!("{what}: {error}"));
        let distro = &imported.distro;
        let words = said(&imported);
        assert!(
            words.starts_with(&format!("recognised   Debian GNU/Linux {point} {name} (.disk/info)")),
            "{words}"
        );
        assert!(distro.tree.as_ref().unwrap().in_place, "{words}");
        assert!(bytes(distro, &distro.kernel) == truth("linux"), "{what}");
        assert!(bytes(distro, &distro.initrd[0]) == truth("initrd.gz"), "{what}");
        assert!(
            bytes(distro, "pool/main/b/bash/bash.deb") == fs::read(&deb).unwrap(),
            "{what}"
        );
        imported.withdraw().unwrap();

        // A disc with modules for other kernels is told apart by its genuine kernel's release.
        let old = String::from_utf8_lossy(&index).replace("-modules-6.", "-modules-5.");
        fs::write(bench.tree().join(&folder).join("Packages.gz"), gzip(old.as_bytes())).unwrap();
        let request = ImportRequest {
            path: bench.tree(),
            ..request
        };
        let error = bench.import(&request).unwrap_err().to_string();
        assert!(
            error.contains("starts kernel 6.") && error.contains("no kernel modules were found"),
            "{what}: {error}"
        );
        fs::remove_dir_all(unpacked).unwrap();
        fs::remove_file(package).unwrap();
        tried += 1;
    }
    assert_eq!(tried, 5);
}
