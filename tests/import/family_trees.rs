//! Faithful trees of every family and version: the metadata that their media have, and small files where the large ones would be.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// One medium.
pub struct Medium {
    pub title: String,
    /// Path and contents.
    pub files: Vec<(String, String)>,
    /// The volume id that the real one has, where it is known.
    pub volume: String,
    /// A `.treeinfo` that productmd writes: name, short name, version, processor.
    pub treeinfo: Option<[String; 4]>,
    /// What cannot be read from it and is said: `--arch`, `--os-version`.
    pub arch: Option<&'static str>,
    pub os_version: Option<&'static str>,
    pub kernel: String,
    pub initrd: Vec<String>,
}

impl Medium {
    fn new(title: &str, volume: &str, kernel: &str, initrd: &[&str]) -> Self {
        let mut medium = Self {
            title: title.to_owned(),
            files: Vec::new(),
            volume: volume.to_owned(),
            treeinfo: None,
            arch: None,
            os_version: None,
            kernel: kernel.to_owned(),
            initrd: initrd.iter().map(|path| (*path).to_owned()).collect(),
        };
        for path in std::iter::once(&kernel).chain(initrd) {
            medium.files.push(((*path).to_owned(), format!("{title}: {path}\n")));
        }
        medium
    }

    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    fn arch(mut self, arch: &'static str) -> Self {
        self.arch = Some(arch);
        self
    }

    fn version(mut self, version: &'static str) -> Self {
        self.os_version = Some(version);
        self
    }

    /// Writes the tree, but for its `.treeinfo`.
    pub fn write(&self, root: &Path) {
        for (path, text) in &self.files {
            let full = root.join(path);
            std::fs::create_dir_all(full.parent().unwrap()).unwrap();
            std::fs::write(full, text).unwrap();
        }
    }
}

const PXEBOOT: (&str, &str) = ("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img");

fn el(name: &str, short: &str, version: &str, arch: &str, volume: &str) -> Medium {
    let (kernel, initrd) = match arch {
        "ppc64le" => ("ppc/ppc64/vmlinuz", "ppc/ppc64/initrd.img"),
        "s390x" => ("images/kernel.img", "images/initrd.img"),
        _ => PXEBOOT,
    };
    let mut medium = Medium::new(&format!("{name} {version} {arch}"), volume, kernel, &[initrd])
        .file(".discinfo", &format!("1715000000.123456\n{name} {version}\n{arch}\n"))
        .file("BaseOS/repodata/repomd.xml", "<repomd/>")
        .file("AppStream/repodata/repomd.xml", "<repomd/>")
        .file("images/install.img", "stage 2")
        .file("media.repo", "[InstallMedia]\n")
        .file("EFI/BOOT/BOOTX64.EFI", "shim")
        .file("EFI/BOOT/grubx64.efi", "grub");
    medium.treeinfo = Some([name, short, version, arch].map(ToOwned::to_owned));
    medium
}

/// EL 7 and older have the old form, `[general]` alone.
fn el7(name: &str, version: &str, volume: &str) -> Medium {
    let (kernel, initrd) = PXEBOOT;
    Medium::new(&format!("{name} {version} x86_64"), volume, kernel, &[initrd])
        .file(
            ".treeinfo",
            &format!(
                "[general]\nname = {name}-{version}\nfamily = {name}\ntimestamp = 1600000000.0\nvariant = \nversion = {version}\n\
                 packagedir = \narch = x86_64\n\n[stage2]\nmainimage = LiveOS/squashfs.img\n\n[images-x86_64]\nkernel = {kernel}\n\
                 initrd = {initrd}\nboot.iso = images/boot.iso\n\n[images-xen]\nkernel = {kernel}\ninitrd = {initrd}\n"
            ),
        )
        .file(".discinfo", &format!("1600000000.000000\n{version}\nx86_64\n"))
        .file("LiveOS/squashfs.img", "stage 2")
        .file("repodata/repomd.xml", "<repomd/>")
        .file("isolinux/isolinux.cfg", "label linux\n  kernel vmlinuz\n")
}

fn debian_netboot(version: &str, codename: &str, arch: &str, kernel: &str) -> Medium {
    let below = format!("debian-installer/{arch}");
    Medium::new(
        &format!("Debian {version} netboot {arch}"),
        "",
        &format!("{below}/{kernel}"),
        &[&format!("{below}/initrd.gz")],
    )
    .file(
        "version.info",
        &format!("Debian version:  {version} ({codename})\nInstaller build: 20230607+deb12u15\n"),
    )
}

fn debian_mirror(version: &str, codename: &str) -> Medium {
    let below = format!("dists/{codename}/main/installer-amd64/current/images/netboot/debian-installer/amd64");
    Medium::new(
        &format!("Debian {version} mirror"),
        "",
        &format!("{below}/linux"),
        &[&format!("{below}/initrd.gz")],
    )
    .file(
        &format!("dists/{codename}/Release"),
        &format!("Origin: Debian\nLabel: Debian\nSuite: stable\nVersion: {version}\nCodename: {codename}\nArchitectures: all amd64 arm64\nSHA256:\n 00 1 main/x\n"),
    )
}

fn ubuntu_live(version: &str, codename: &str, arch: &str) -> Medium {
    let lts = if version.starts_with("25") { "" } else { " LTS" };
    Medium::new(
        &format!("Ubuntu {version} live-server {arch}"),
        &format!("Ubuntu-Server {version}{lts} {arch}"),
        "casper/vmlinuz",
        &["casper/initrd"],
    )
    .file(
        ".disk/info",
        &format!("Ubuntu-Server {version}{lts} \"{codename}\" - Release {arch} (20240827)"),
    )
    .file(".disk/casper-uuid-generic", "0")
    .file("casper/install-sources.yaml", "- default: true\n")
    .file(&format!("ubuntu-{version}-live-server-{arch}.iso"), "iso")
}

fn ubuntu_legacy(version: &str, codename: &str, folder: &str) -> Medium {
    let below = format!("dists/{codename}/main/installer-amd64/current/{folder}/netboot/ubuntu-installer/amd64");
    Medium::new(
        &format!("Ubuntu {version} legacy netboot"),
        "",
        &format!("{below}/linux"),
        &[&format!("{below}/initrd.gz")],
    )
    .file(
        &format!("dists/{codename}/Release"),
        &format!("Origin: Ubuntu\nLabel: Ubuntu\nSuite: {codename}\nVersion: {version}\nCodename: {codename}\nArchitectures: amd64\n"),
    )
}

fn suse15(family: &str, product: &str, version: &str, arch: &str, volume: &str) -> Medium {
    let below = if arch == "x86_64" {
        "boot/x86_64/loader".to_owned()
    } else {
        format!("boot/{arch}")
    };
    let mut medium = Medium::new(
        &format!("{family} {version} {arch}"),
        volume,
        &format!("{below}/linux"),
        &[&format!("{below}/initrd")],
    )
    .file(
        ".treeinfo",
        &format!(
            "[general]\narch = {arch}\nfamily = {family}\nname = {family} {version}\nversion = {version}\nplatforms = {arch}\n\n[header]\n\
             type = productmd.treeinfo\nversion = 1.2\n\n[images-{arch}]\nkernel = {below}/linux\ninitrd = {below}/initrd\n\n[release]\n\
             name = {family}\nshort = {product}\nversion = {version}\n\n[tree]\narch = {arch}\nbuild_timestamp = 1\nplatforms = {arch}\n\
             variants = \n"
        ),
    )
    .file("media.1/media", &format!("SUSE - {product}-{version}-{arch}-Build710.3-Media\n1\n"))
    .file("media.1/products", &format!("/ {product} {version}-1\n"))
    .file("repodata/repomd.xml", "<repomd/>")
    .file(&format!("boot/{arch}/root"), "root");
    if product == "SLES" {
        medium = medium.file("Module-Basesystem/repodata/repomd.xml", "<repomd/>");
    }
    medium
}

fn agama(title: &str, version: &str) -> Medium {
    Medium::new(
        &format!("{title} {version} Agama"),
        "Install-SUSE-x86_64",
        "boot/x86_64/loader/linux",
        &["boot/x86_64/loader/initrd"],
    )
    .file("LiveOS/squashfs.img", "root")
    .file(
        "boot/grub2/grub.cfg",
        &format!("set timeout=10\nmenuentry \"Install {title} {version}\" --class os {{\n}}\n"),
    )
    .file("agama-installer.iso", "iso")
}

fn alpine(version: &str, arch: &str) -> Medium {
    Medium::new(
        &format!("Alpine {version} {arch}"),
        &format!("alpine-std {version} {arch}"),
        "boot/vmlinuz-lts",
        &["boot/initramfs-lts"],
    )
    .file(".alpine-release", &format!("alpine-standard-{version}-{arch} 240906\n"))
    .file("boot/modloop-lts", "modules")
    .file(&format!("apks/{arch}/APKINDEX.tar.gz"), "index")
}

/// All of tier 1 and tier 2.
pub fn media() -> Vec<Medium> {
    let dashed = |version: &str| version.replace('.', "-");
    let mut all = vec![
        el7("Red Hat Enterprise Linux", "7.9", "RHEL-7.9 Server.x86_64"),
        el7("CentOS", "7", "CentOS 7 x86_64"),
        el7("Oracle Linux Server", "7.9", "OL-7.9 Server.x86_64"),
    ];
    for version in ["8.7", "8.10", "9.1", "9.4", "10.0"] {
        let volume = format!("RHEL-{}-0-BaseOS-x86_64", dashed(version));
        all.push(el("Red Hat Enterprise Linux", "RHEL", version, "x86_64", &volume));
    }
    for arch in ["aarch64", "ppc64le", "s390x"] {
        all.push(el(
            "Red Hat Enterprise Linux",
            "RHEL",
            "9.1",
            arch,
            &format!("RHEL-9-1-0-BaseOS-{arch}"),
        ));
    }
    for version in ["8", "9", "10"] {
        let volume = if version == "8" {
            "CentOS-Stream-8-x86_64-dvd".to_owned()
        } else {
            format!("CentOS-Stream-{version}-BaseOS-x86_64")
        };
        all.push(el("CentOS Stream", "CentOS-Stream", version, "x86_64", &volume));
        all.push(el(
            "AlmaLinux",
            "AlmaLinux",
            version,
            "x86_64",
            &format!("AlmaLinux-{version}-x86_64-dvd"),
        ));
    }
    for version in ["8.10", "9.4", "10.0"] {
        let volume = dashed(version);
        all.push(el(
            "AlmaLinux",
            "AlmaLinux",
            version,
            "x86_64",
            &format!("AlmaLinux-{volume}-x86_64-dvd"),
        ));
        all.push(el(
            "Rocky Linux",
            "Rocky",
            version,
            "x86_64",
            &format!("Rocky-{volume}-x86_64-dvd"),
        ));
        all.push(el(
            "Oracle Linux",
            "OL",
            version,
            "x86_64",
            &format!("OL-{volume}-0-BaseOS-x86_64"),
        ));
    }
    for version in ["37", "41", "42", "43", "44"] {
        let mut fedora = el(
            "Fedora",
            "Fedora",
            version,
            "x86_64",
            &format!("Fedora-S-dvd-x86_64-{version}"),
        );
        fedora = fedora.file("repodata/repomd.xml", "<repomd/>");
        all.push(fedora);
    }
    for (version, codename) in [("11", "bullseye"), ("12", "bookworm"), ("13", "trixie")] {
        for (arch, kernel) in [
            ("amd64", "linux"),
            ("arm64", "linux"),
            ("i386", "linux"),
            ("ppc64el", "vmlinux"),
        ] {
            all.push(debian_netboot(version, codename, arch, kernel));
        }
        all.push(debian_mirror(version, codename));
    }
    for (version, codename) in [
        ("20.04.6", "Focal Fossa"),
        ("22.04.5", "Jammy Jellyfish"),
        ("24.04.1", "Noble Numbat"),
        ("25.04", "Plucky Puffin"),
        ("26.04", "Resolute Raccoon"),
    ] {
        all.push(ubuntu_live(version, codename, "amd64"));
    }
    all.push(ubuntu_live("24.04.1", "Noble Numbat", "arm64"));
    all.push(ubuntu_legacy("18.04", "bionic", "images"));
    all.push(ubuntu_legacy("20.04", "focal", "legacy-images"));
    all.push(suse15(
        "openSUSE Leap",
        "openSUSE-Leap",
        "15.4",
        "x86_64",
        "openSUSE-Leap-15.4-DVD-x86_64",
    ));
    all.push(suse15(
        "openSUSE Leap",
        "openSUSE-Leap",
        "15.6",
        "x86_64",
        "openSUSE-Leap-15.6-DVD-x86_64",
    ));
    all.push(suse15(
        "openSUSE Leap",
        "openSUSE-Leap",
        "15.6",
        "aarch64",
        "openSUSE-Leap-15.6-DVD-aarch64",
    ));
    all.push(suse15(
        "SUSE Linux Enterprise Server",
        "SLES",
        "15.6",
        "x86_64",
        "SLE-15-SP6-Full-x86_64",
    ));
    all.push(agama("SUSE Linux Enterprise Server", "16.0"));
    all.push(agama("openSUSE Leap", "16.0"));
    for version in ["3.16.0", "3.18.9", "3.20.3", "3.22.1"] {
        all.push(alpine(version, "x86_64"));
    }
    all.push(alpine("3.22.1", "aarch64"));
    let coreos = "fedora-coreos-44.20260501.3.0-live";
    all.push(
        Medium::new(
            "Fedora CoreOS files",
            "",
            &format!("{coreos}-kernel.x86_64"),
            &[&format!("{coreos}-initramfs.x86_64.img")],
        )
        .file(&format!("{coreos}-rootfs.x86_64.img"), "root"),
    );
    all.push(
        Medium::new(
            "Fedora CoreOS ISO",
            "fedora-coreos-44.20260501.3.0",
            PXEBOOT.0,
            &[PXEBOOT.1],
        )
        .file("coreos/features.json", "{}")
        .file("images/pxeboot/rootfs.img", "root")
        .arch("x86_64")
        .version("44"),
    );
    all.extend(unverified());
    all
}

fn unverified() -> Vec<Medium> {
    vec![
        Medium::new(
            "Arch Linux",
            "ARCH_202409",
            "arch/boot/x86_64/vmlinuz-linux",
            &["arch/boot/x86_64/initramfs-linux.img"],
        )
        .file("arch/version", "2024.09.01\n")
        .file("arch/x86_64/airootfs.sfs", "root"),
        Medium::new(
            "Flatcar",
            "",
            "flatcar_production_pxe.vmlinuz",
            &["flatcar_production_pxe_image.cpio.gz"],
        )
        .file("version.txt", "FLATCAR_BUILD=3975\nFLATCAR_VERSION=3975.2.1\nFLATCAR_BOARD=amd64-usr\n")
        .arch("x86_64"),
        Medium::new("Talos", "", "vmlinuz-amd64", &["initramfs-amd64.xz"]).version("1.8.0"),
        Medium::new("ESXi 8", "ESXI-8.0U2-22380479-STANDARD", "mboot.c32", &[])
            .file(
                "boot.cfg",
                "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix=\nkernel=/b.b00\nkernelopt=runweasel cdromBoot\n\
                 modules=/jumpstrt.gz --- /useropts.gz --- /features.gz --- /k.b00\nbuild=8.0.2-0.0.22380479\nupdated=0\n",
            )
            .file("efi/boot/bootx64.efi", "mboot"),
        Medium::new("ESXi 7", "ESXI-7.0U3-20328353-STANDARD", "mboot.c32", &[])
            .file("boot.cfg", "title=Loading ESXi installer\nkernel=/b.b00\nmodules=/jumpstrt.gz --- /k.b00\nbuild=7.0.3-0.0.20328353\n"),
        Medium::new("XCP-ng", "XCP-ng 8.3.0", "boot/xen.gz", &["boot/vmlinuz", "install.img"]).file(
            ".treeinfo",
            "[platform]\nname = XCP\nversion = 3.4.0\n[branding]\nname = XCP-ng\nversion = 8.3.0\n",
        ),
        Medium::new("Proxmox VE", "PVE", "boot/linux26", &["boot/initrd.img", "proxmox-ve_8.2-1.iso"])
            .file(".cd-info", "ISOINFO_COMMENT=''\nPRODUCT='pve'\nPRODUCTLONG='Proxmox Virtual Environment'\nRELEASE='8.2'\nISORELEASE='1'\n")
            .file("pve-base.squashfs", "root"),
        Medium::new(
            "Windows PE",
            "",
            "wimboot",
            &["bootmgr", "boot/bcd", "boot/boot.sdi", "sources/boot.wim"],
        )
        .version("11"),
        Medium::new("Memtest86+", "", "memtest86+x64.bin", &[]).file("memtest86+x64.efi", "efi").version("6.10"),
        Medium::new("Debian live", "d-live 12.5.0 gn amd64", "live/vmlinuz", &["live/initrd.img"])
            .file(".disk/info", "Official Debian GNU/Linux Live 12.5.0 gnome 2024-02-10T11:30")
            .file("live/filesystem.squashfs", "root")
            .arch("x86_64")
            .version("12"),
        Medium::new("Fedora live", "Fedora-WS-Live-37-1-7", PXEBOOT.0, &[PXEBOOT.1])
            .file("LiveOS/squashfs.img", "root")
            .arch("x86_64")
            .version("37"),
        Medium::new("Ubuntu desktop", "Ubuntu 24.04.1 LTS amd64", "casper/vmlinuz", &["casper/initrd"])
            .file(".disk/info", "Ubuntu 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827.1)")
            .file("ubuntu-24.04.1-desktop-amd64.iso", "iso"),
    ]
}

const PRODUCTMD: &str = r#"
import json, sys
from productmd.treeinfo import TreeInfo, Variant
for path, name, short, version, arch, kernel, initrd in json.load(sys.stdin):
    t = TreeInfo()
    t.release.name, t.release.short, t.release.version = name, short, version
    t.tree.arch, t.tree.build_timestamp = arch, 1715000000
    t.tree.platforms.add(arch)
    for uid in ["Server"] if name == "Fedora" else ["BaseOS", "AppStream"]:
        v = Variant(t)
        v.id = v.uid = v.name = uid
        v.type = "variant"
        v.paths.packages, v.paths.repository = uid + "/Packages", uid
        t.variants.add(v)
    t.images.images = {arch: {"kernel": kernel, "initrd": initrd, "boot.iso": "images/boot.iso"}}
    t.stage2.mainimage = "images/install.img"
    t.dump(path)
"#;

/// Has productmd write the `.treeinfo` of every medium that has one, in one process. False when productmd is not there.
pub fn write_treeinfos(media: &[(&Medium, &Path)]) -> bool {
    let rows: Vec<_> = media
        .iter()
        .filter_map(|(medium, root)| {
            let [name, short, version, arch] = medium.treeinfo.as_ref()?;
            Some(serde_json::json!([
                root.join(".treeinfo"),
                name,
                short,
                version,
                arch,
                medium.kernel,
                medium.initrd[0]
            ]))
        })
        .collect();
    let mut child = Command::new("python3")
        .args(["-c", PRODUCTMD])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(serde_json::to_string(&rows).unwrap().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No module named 'productmd'") {
        return false;
    }
    assert!(output.status.success(), "{said}");
    true
}
