//! What trees are recognised as, and what is said of those that are not.

use super::{Bench, NETBOOT, el, lab, said, treeinfo};
use cordwainer::assets::watch::Watcher;
use cordwainer::config::Config;
use cordwainer::distro::detect::Wishes;
use cordwainer::distro::import::ImportRequest;
use cordwainer::inventory::Inventory;
use cordwainer::model::Arch;
use std::path::Path;
use std::sync::Arc;

/// (distro, kernel arguments, template) that a tree ends up with.
fn outcome(bench: &Bench, wishes: Wishes) -> (String, String, String) {
    let imported = bench.wishing(wishes).unwrap();
    let assets = Watcher::with_loader_paths(Arc::new(Config::default()), vec![]).look(&Inventory::default());
    let signature = assets.signature_of(&imported.distro).unwrap();
    let distro = &imported.distro;
    (
        format!(
            "{} {} {} {}",
            distro.breed, distro.os_version, distro.arch, imported.detected
        ),
        signature.args_for(&distro.os_version).unwrap_or("-").to_owned(),
        signature.autoinstall_for(&distro.os_version).unwrap_or("-").to_owned(),
    )
}

#[test]
fn the_red_hat_family_is_read_from_its_treeinfo() {
    for (name, version, arch, os_version, template) in [
        ("Red Hat Enterprise Linux", "7.9", "x86_64", "rhel7", "redhat/el7.ks"),
        ("CentOS", "7", "x86_64", "rhel7", "redhat/el7.ks"),
        ("CentOS Linux", "8", "aarch64", "rhel8", "redhat/el8.ks"),
        ("Red Hat Enterprise Linux", "9.4", "ppc64le", "rhel9", "redhat/el9.ks"),
        ("CentOS Stream", "9", "x86_64", "rhel9", "redhat/el9.ks"),
        ("Rocky Linux", "9.4", "x86_64", "rhel9", "redhat/el9.ks"),
        ("AlmaLinux", "9.10", "x86_64", "rhel9", "redhat/el9.ks"),
        ("Oracle Linux", "10.0", "aarch64", "rhel10", "redhat/el10.ks"),
        ("CentOS Stream", "10", "x86_64", "rhel10", "redhat/el10.ks"),
        ("Fedora", "44", "x86_64", "fedora44", "redhat/fedora.ks"),
        ("Fedora-Server", "42", "aarch64", "fedora42", "redhat/fedora.ks"),
    ] {
        let (distro, args, found) = outcome(&el(name, version, arch), Wishes::default());
        assert_eq!(
            distro,
            format!("redhat {os_version} {arch} {name} {version} {arch} (.treeinfo)")
        );
        assert!(
            args.starts_with("inst.ks={answer_url}/ks.cfg inst.repo={repository} inst.stage2={stage2} "),
            "{args}"
        );
        assert_eq!(found, template);
    }
}

#[test]
fn old_treeinfo_has_only_a_general_section_and_old_arguments() {
    let bench = el("x", "1", "x86_64");
    bench.put(
        ".treeinfo",
        "[general]\nfamily = Red Hat Enterprise Linux\ntimestamp = 1.2\nvariant = Server\ntotaldiscs = 1\nversion = 6.10\n\
         discnum = 1\npackagedir = \narch = x86_64\n\n[images-x86_64]\nkernel = images/pxeboot/vmlinuz\ninitrd = images/pxeboot/initrd.img\n\
         boot.iso = images/boot.iso\n\n[images-xen]\nkernel = images/pxeboot/none\n",
    );
    let (distro, args, _) = outcome(&bench, Wishes::default());
    assert_eq!(
        distro,
        "redhat rhel6 x86_64 Red Hat Enterprise Linux 6.10 x86_64 (.treeinfo)"
    );
    assert!(
        args.starts_with("ks={answer_url}/ks.cfg method={repository} "),
        "{args}"
    );
    assert!(said(&bench.imported()).contains("no answer file is shipped for Red Hat Enterprise Linux 6.10"));
}

#[test]
fn a_mirror_without_the_dot_and_a_disc_without_treeinfo_do() {
    let bench = el("Rocky Linux", "9.4", "x86_64");
    std::fs::rename(bench.tree().join(".treeinfo"), bench.tree().join("treeinfo")).unwrap();
    assert_eq!(bench.imported().detected.os_version, "rhel9");
    std::fs::remove_file(bench.tree().join("treeinfo")).unwrap();
    let imported = bench.imported();
    assert_eq!(imported.detected.to_string(), "Rocky Linux 9.4 x86_64 (.discinfo)");
    assert!(said(&imported).contains("there is no .treeinfo"));
    bench.put(".discinfo", "1619192034.554497\n8.4\nx86_64\n");
    let detected = bench.imported().detected;
    assert_eq!(detected.to_string(), "Red Hat Enterprise Linux 8.4 x86_64 (.discinfo)");
    bench.put(".discinfo", "1323\nFedora 20\nx86_64\n1,2,3\n");
    assert_eq!(bench.imported().detected.os_version, "fedora20");
}

#[test]
fn what_is_newer_than_the_rules_is_taken_with_a_warning() {
    let bench = el("Rocky Linux", "11.2", "x86_64");
    let (distro, args, template) = outcome(&bench, Wishes::default());
    assert!(distro.starts_with("redhat rhel11 "), "{distro}");
    assert!(args.starts_with("inst.ks="), "{args}");
    assert_eq!(template, "redhat/el10.ks");
    let said = said(&bench.imported());
    assert!(
        said.contains("newer than signature redhat knows (up to 10): the newest rules are used"),
        "{said}"
    );
    assert!(!super::said(&el("Rocky Linux", "10.9", "x86_64").imported()).contains("newer"));
    let (distro, ..) = outcome(&el("Nobody's Linux", "3", "x86_64"), Wishes::default());
    assert!(distro.starts_with("redhat fedora3 "), "{distro}");
}

#[test]
fn a_repository_is_no_installation_tree() {
    let bench = Bench::with(&[
        (
            ".treeinfo",
            "[general]\nfamily = Red Hat Enterprise Linux Server\nversion = 7.0\narch = x86_64\n[variant-optional]\nid = optional\n",
        ),
        ("repodata/repomd.xml", ""),
    ]);
    let error = bench.import(&bench.request()).unwrap_err().to_string();
    assert!(
        error.contains("names no kernel and initrd ([images-x86_64]): it is a package repository"),
        "{error}"
    );
    assert!(
        error.contains("remedy      import the tree that holds images/pxeboot"),
        "{error}"
    );
    assert!(error.ends_with("nothing was changed"), "{error}");
    assert!(bench.in_state().is_empty());
}

#[test]
fn a_tree_that_names_what_it_does_not_hold_is_not_complete() {
    let bench = el("Rocky Linux", "9.4", "x86_64");
    std::fs::remove_file(bench.tree().join("images/pxeboot/initrd.img")).unwrap();
    let error = bench.import(&bench.request()).unwrap_err().to_string();
    assert!(
        error.contains("names images/pxeboot/initrd.img, which is not there: the tree is not complete"),
        "{error}"
    );
}

#[test]
fn a_treeinfo_cannot_name_files_outside_its_tree() {
    let bench = el("Rocky Linux", "9.4", "x86_64");
    let text = treeinfo("Rocky Linux", "9.4", "x86_64").replace("images/pxeboot/vmlinuz", "../../../../etc/shadow");
    bench.put(".treeinfo", &text);
    std::fs::remove_file(bench.tree().join(".discinfo")).unwrap();
    assert!(bench.import(&bench.request()).is_err());
    bench.put(".treeinfo", &treeinfo("Rocky\u{1b}[31m Linux", "9.4", "x86_64"));
    let shown = bench.imported().detected.to_string();
    assert!(shown.starts_with("Rocky[31m Linux 9.4"), "{shown}");
}

#[test]
fn debian_netboot_is_recognised_from_its_package() {
    if !Path::new(NETBOOT).join("text/version.info").exists() {
        assert!(
            std::env::var_os("CORDWAINER_REQUIRE_ALL").is_none(),
            "apt install debian-installer-12-netboot-amd64"
        );
        eprintln!("skipped: debian-installer-12-netboot-amd64 is not installed");
        return;
    }
    let bench = Bench::new();
    for (path, kernel) in [
        (format!("{NETBOOT}/text"), "debian-installer/amd64/linux"),
        (NETBOOT.to_owned(), "text/debian-installer/amd64/linux"),
        (format!("{NETBOOT}/.."), "amd64/text/debian-installer/amd64/linux"),
    ] {
        let request = ImportRequest {
            path: path.clone().into(),
            ..bench.request()
        };
        let imported = bench.import(&request).unwrap();
        assert_eq!(
            imported.detected.to_string(),
            "Debian GNU/Linux 12 x86_64 (netboot image)",
            "{path}"
        );
        assert_eq!(imported.distro.kernel, kernel);
        assert_eq!(imported.distro.os_version, "12");
        assert_eq!(imported.distro.autoinstall_meta.text("suite"), Some("bookworm"));
        assert!(imported.distro.tree.as_ref().unwrap().in_place);
        let said = said(&imported);
        assert!(said.contains("needs a mirror of the same point release"), "{said}");
        assert!(
            said.contains("mirror       http://deb.debian.org/debian; another one: cordwainer distro edit"),
            "{said}"
        );
        assert!(!said.contains("leads out"), "{said}");
    }
    assert!(bench.in_state().is_empty(), "in place writes nothing");
}

fn mirror(bench: &Bench, codename: &str, version: Option<&str>, arch: &str, kernel: &str) {
    let version = version.map_or(String::new(), |version| format!("Version: {version}\n"));
    bench.put(
        &format!("dists/{codename}/Release"),
        &format!(
            "Origin: Debian\nLabel: Debian\nSuite: x\n{version}Codename: {codename}\nMD5Sum:\n 00 1 main/Packages\n"
        ),
    );
    let images = format!("dists/{codename}/main/installer-{arch}/current/images/netboot/debian-installer/{arch}");
    bench.put(&format!("{images}/{kernel}"), "kernel");
    bench.put(&format!("{images}/initrd.gz"), "initrd");
}

#[test]
fn debian_mirrors_tell_suites_and_architectures_apart() {
    let bench = Bench::new();
    mirror(&bench, "bookworm", Some("12.5"), "amd64", "linux");
    std::os::unix::fs::symlink("bookworm", bench.tree().join("dists/stable")).unwrap();
    let (distro, args, template) = outcome(&bench, Wishes::default());
    assert_eq!(distro, "debian 12 x86_64 Debian 12.5 x86_64 (mirror)");
    assert!(
        args.starts_with("auto=true priority=critical url={answer_url}/preseed.cfg interface=auto "),
        "{args}"
    );
    assert_eq!(template, "debian/preseed.cfg");
    assert!(!said(&bench.imported()).contains("mirror of the same point release"));

    mirror(&bench, "bookworm", Some("12.5"), "ppc64el", "vmlinux");
    mirror(&bench, "sid", None, "amd64", "linux");
    let error = bench.import(&bench.request()).unwrap_err().to_string();
    assert!(
        error.contains("the tree holds Debian 12.5 x86_64, Debian 12.5 ppc64le, Debian sid x86_64"),
        "{error}"
    );
    assert!(error.contains("choose with --arch or --os-version"), "{error}");
    let wish = |arch: Option<&str>, version: Option<&str>| Wishes {
        arch: arch.map(|arch| arch.parse().unwrap()),
        os_version: version.map(str::to_owned),
        breed: None,
    };
    let (distro, ..) = outcome(&bench, wish(Some("ppc64le"), None));
    assert_eq!(distro, "debian 12 ppc64le Debian 12.5 ppc64le (mirror)");
    for wished in ["bookworm", "12"] {
        let (distro, ..) = outcome(&bench, wish(Some("x86_64"), Some(wished)));
        assert_eq!(distro, "debian 12 x86_64 Debian 12.5 x86_64 (mirror)");
    }
    let sid = bench.wishing(wish(None, Some("sid"))).unwrap();
    assert_eq!(sid.distro.os_version, "sid");
    assert_eq!(sid.distro.kernel.split('/').nth(1), Some("sid"));
    assert!(said(&sid).contains("tells no version number: the newest rules are used"));
    let error = bench.wishing(wish(Some("s390x"), None)).unwrap_err().to_string();
    assert!(
        error.contains("--arch says s390x, and the tree holds Debian 12.5"),
        "{error}"
    );
}

#[test]
fn a_debian_cd_is_refused_with_the_remedy() {
    let bench = Bench::with(&[
        (
            ".disk/info",
            "Debian GNU/Linux 12.11.0 \"Bookworm\" - Official amd64 NETINST with firmware 20250517-09:52",
        ),
        (
            "dists/bookworm/Release",
            "Origin: Debian\nVersion: 12.11\nCodename: bookworm\n",
        ),
        ("install.amd/vmlinuz", "kernel"),
        ("install.amd/initrd.gz", "initrd"),
    ]);
    let error = bench.import(&bench.request()).unwrap_err().to_string();
    assert!(
        error.contains("Debian 12.11.0 amd64 is a disc whose initrd looks for a drive"),
        "{error}"
    );
    assert!(
        error.contains("apt install debian-installer-12-netboot-amd64"),
        "{error}"
    );
    std::fs::remove_dir_all(bench.tree().join(".disk")).unwrap();
    let error = bench.import(&bench.request()).unwrap_err().to_string();
    assert!(
        error.contains("package mirror of bookworm without the installer's netboot images"),
        "{error}"
    );
}

#[test]
fn other_families_are_told_apart() {
    let ubuntu = Bench::with(&[
        (
            "dists/focal/Release",
            "Origin: Ubuntu\nSuite: focal\nVersion: 20.04\nCodename: focal\n",
        ),
        (
            "dists/focal/main/installer-amd64/current/legacy-images/netboot/ubuntu-installer/amd64/linux",
            "k",
        ),
        (
            "dists/focal/main/installer-amd64/current/legacy-images/netboot/ubuntu-installer/amd64/initrd.gz",
            "i",
        ),
    ]);
    assert_eq!(
        outcome(&ubuntu, Wishes::default()).0,
        "ubuntu 20.04 x86_64 Ubuntu 20.04 x86_64 (mirror)"
    );
    let netboot = Bench::with(&[
        ("version.info", "Ubuntu version:  18.04 (bionic)\nInstaller build: 1\n"),
        ("ubuntu-installer/amd64/linux", "k"),
        ("ubuntu-installer/amd64/initrd.gz", "i"),
    ]);
    let imported = netboot.imported();
    assert_eq!(imported.distro.os_version, "18.04");
    assert_eq!(
        imported.distro.autoinstall_meta.text("mirror_host"),
        Some("archive.ubuntu.com")
    );
    let live = Bench::with(&[
        (
            ".disk/info",
            "Ubuntu-Server 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827)",
        ),
        ("casper/vmlinuz", "k"),
        ("casper/initrd", "i"),
        (
            "dists/noble/Release",
            "Origin: Ubuntu\nVersion: 24.04\nCodename: noble\n",
        ),
    ]);
    live.put("x-live-server-amd64.iso", "iso");
    let (distro, args, template) = outcome(&live, Wishes::default());
    assert_eq!(
        distro,
        "ubuntu 24.04.1 x86_64 Ubuntu-Server 24.04.1 x86_64 (.disk/info)"
    );
    assert_eq!(
        args,
        "{net_initramfs} url={iso} autoinstall ds=nocloud-net;s={answer_url}/ cloud-config-url=/dev/null BOOTIF={bootif}"
    );
    assert_eq!(template, "ubuntu/user-data");
    let meta = live.imported().distro.autoinstall_meta;
    assert_eq!(meta.text("iso"), Some("x-live-server-amd64.iso"));
    std::fs::remove_file(live.tree().join("x-live-server-amd64.iso")).unwrap();
    assert!(said(&live.imported()).contains("the whole ISO, which is not in the tree"));
    live.put(
        ".disk/info",
        "Ubuntu-Server 20.04.6 LTS \"Focal Fossa\" - Release arm64 (20230314)",
    );
    let (distro, args, _) = outcome(&live, Wishes::default());
    assert!(distro.starts_with("ubuntu 20.04.6 aarch64 "), "{distro}");
    assert!(args.contains(" root=/dev/ram0 ramdisk_size=1500000 "), "{args}");
    live.put(
        ".disk/info",
        "Ubuntu-Server 25.10 \"Questing Quokka\" - Release amd64 (20251007)",
    );
    assert!(outcome(&live, Wishes::default()).0.starts_with("ubuntu 25.10 "));
    live.put(
        ".disk/info",
        "Ubuntu 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827)",
    );
    let error = live.import(&live.request()).unwrap_err().to_string();
    assert!(error.contains("Ubuntu 24.04.1 is no server medium"), "{error}");
    let leap = Bench::with(&[
        (
            ".treeinfo",
            "[general]\narch = x86_64\nfamily = openSUSE Leap\nname = openSUSE Leap 15.6\nversion = 15.6\n[images-x86_64]\n\
             kernel = boot/x86_64/loader/linux\ninitrd = boot/x86_64/loader/initrd\n",
        ),
        ("boot/x86_64/loader/linux", "k"),
        ("boot/x86_64/loader/initrd", "i"),
        ("boot/x86_64/root", "r"),
        ("media.1/products", "/ openSUSE-Leap 15.6-1\n"),
        ("repodata/repomd.xml", ""),
    ]);
    let (distro, args, template) = outcome(&leap, Wishes::default());
    assert_eq!(distro, "suse suse15.6 x86_64 openSUSE Leap 15.6 x86_64 (.treeinfo)");
    assert!(
        args.starts_with("install={repository} instsys={stage2}/boot/{arch}/root autoyast={answer_url}/autoinst.xml "),
        "{args}"
    );
    assert_eq!(template, "suse/autoinst.xml");
    assert_eq!(leap.imported().distro.autoinstall_meta.text("product"), Some("Leap"));
    std::fs::remove_file(leap.tree().join(".treeinfo")).unwrap();
    assert_eq!(
        leap.imported().detected.to_string(),
        "openSUSE-Leap 15.6 x86_64 (media.1/products)"
    );
    leap.put("media.1/products", "/ SLES 15.6-1\n");
    let meta = leap.imported().distro.autoinstall_meta;
    assert_eq!((meta.text("product"), meta.text("addons")), (Some("SLES"), None));
    leap.put("Module-Basesystem/repodata/repomd.xml", "");
    let meta = leap.imported().distro.autoinstall_meta;
    assert_eq!(meta.text("addons"), Some("Basesystem Server-Applications"));
    let agama = Bench::with(&[
        ("LiveOS/squashfs.img", "s"),
        ("boot/x86_64/loader/linux", "k"),
        ("boot/x86_64/loader/initrd", "i"),
    ]);
    let text = said(&agama.imported());
    assert!(
        text.contains("the whole ISO, which is not in the tree") && text.contains("product=SLES"),
        "{text}"
    );
    agama.put("install.iso", "iso");
    assert!(said(&agama.imported()).contains("it does not tell its product"));
    for (title, product) in [
        ("SUSE Linux Enterprise Server 16.0", "SLES"),
        ("openSUSE Leap 16.0", "openSUSE_Leap"),
    ] {
        agama.put(
            "boot/grub2/grub.cfg",
            &format!("set timeout=10\n  menuentry \"Install {title}\" --class os {{\n  }}\n"),
        );
        let (distro, args, template) = outcome(&agama, Wishes::default());
        assert!(
            distro.starts_with("suse suse16.0 x86_64 ") && distro.contains(" 16.0 "),
            "{distro}"
        );
        assert!(
            args.starts_with("root=live:{iso} inst.auto={answer_url}/profile.json "),
            "{args}"
        );
        assert_eq!(template, "agama/profile.json");
        let meta = agama.imported().distro.autoinstall_meta;
        assert_eq!(
            (meta.text("product"), meta.text("iso")),
            (Some(product), Some("install.iso"))
        );
    }
    for (dash, arch) in [(".", "x86_64"), ("-", "aarch64")] {
        let coreos = Bench::with(&[
            (&format!("fedora-coreos-44.20260501.3.0-live-kernel{dash}{arch}"), "k"),
            (&format!("fedora-coreos-44.20260501.3.0-live-initramfs.{arch}.img"), "i"),
        ]);
        assert!(said(&coreos.imported()).contains("live-rootfs image of the same version is not beside"));
        let rootfs = format!("fedora-coreos-44.20260501.3.0-live-rootfs.{arch}.img");
        coreos.put(&rootfs, "r");
        let (distro, args, template) = outcome(&coreos, Wishes::default());
        assert_eq!(
            distro,
            format!("redhat fcos44 {arch} Fedora CoreOS 44.20260501.3.0 {arch} (live-kernel)")
        );
        assert!(
            args.starts_with("coreos.live.rootfs_url={rootfs} ignition.firstboot "),
            "{args}"
        );
        assert_eq!(template, "coreos/config.ign");
        assert_eq!(
            coreos.imported().distro.autoinstall_meta.text("rootfs"),
            Some(rootfs.as_str())
        );
    }
    let xcp = Bench::with(&[(
        ".treeinfo",
        "[platform]\nname = XCP\nversion = 3.2.1\n[branding]\nname = XCP-ng\nversion = 8.3\n",
    )]);
    let error = xcp.import(&xcp.request()).unwrap_err().to_string();
    assert!(
        error.contains("XCP-ng 8.3 needs boot/xen.gz, boot/vmlinuz and install.img"),
        "{error}"
    );
}

#[test]
fn the_lab_distro_speaks_as_agreed() {
    let bench = lab();
    let imported = bench.imported();
    let text = said(&imported);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "recognised   Lab Linux 1 x86_64 (lab/release), signature lab, tier 1"
    );
    assert_eq!(
        lines[1],
        "kernel       boot/vmlinuz 6 B      initrd boot/initrd.img 7 B"
    );
    let serving = format!("serving      in place from {} (", bench.tree().display());
    assert!(
        lines[2].starts_with(&serving) && lines[2].ends_with("); keep the folder there"),
        "{text}"
    );
    assert_eq!(
        lines[3],
        "created      distro new, profile new (answers answer; needs 256 MiB RAM in the machine)"
    );
    assert_eq!(
        lines[4],
        "next         cordwainer system add --name NAME --profile new --mac-address MAC --netboot-enabled=1"
    );
    assert_eq!(lines.len(), 5);
    let (_, args, template) = outcome(&bench, Wishes::default());
    assert_eq!(
        (args.as_str(), template.as_str()),
        ("lab.answer={answer_url}/answer BOOTIF={bootif}", "lab/answer")
    );
    let unnamed = ImportRequest {
        name: None,
        ..bench.request()
    };
    assert_eq!(
        bench.import(&unnamed).unwrap().distro.name.as_str(),
        "lab-linux-1-x86_64"
    );
}

#[test]
fn an_unknown_tree_is_described_and_can_be_named() {
    let bench = Bench::with(&[
        ("boot/vmlinuz-lts", "k"),
        ("boot/initramfs-lts", "i"),
        ("apks/x86_64/a.apk", ""),
        ("Ödd näme/fi le", ""),
    ]);
    let error = bench.import(&bench.request()).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].ends_with("tree: not recognised as a distro"), "{error}");
    assert!(
        lines[1].starts_with("  looked for  ") && lines[1].ends_with("(21 families)"),
        "{error}"
    );
    for marker in [
        ".treeinfo",
        ".discinfo",
        ".disk/info",
        "dists/*/Release",
        "media.1/products",
        "lab/release",
    ] {
        assert!(lines[1].contains(marker), "{error}");
    }
    assert_eq!(
        lines[2],
        "  found       a folder with boot/vmlinuz-lts, boot/initramfs-lts and 2 other files"
    );
    assert_eq!(
        lines[3],
        "  remedy      name it: --breed generic --kernel boot/vmlinuz-lts --initrd boot/initramfs-lts; or add a file to /etc/cordwainer/distros"
    );
    assert_eq!(lines[4], "nothing was changed");

    let named = ImportRequest {
        wishes: Wishes {
            breed: Some("generic".to_owned()),
            arch: Some(Arch::Aarch64),
            os_version: None,
        },
        kernel: Some("boot//vmlinuz-lts".to_owned()),
        initrd: vec!["boot/initramfs-lts".to_owned()],
        ..bench.request()
    };
    let imported = bench.import(&named).unwrap();
    assert_eq!(
        (imported.distro.breed.as_str(), imported.distro.arch),
        ("generic", Arch::Aarch64)
    );
    assert_eq!(imported.distro.signature, None);
    assert_eq!(imported.distro.kernel, "boot/vmlinuz-lts");
    for kernel in ["../secret", "boot", "boot/none"] {
        let wrong = ImportRequest {
            kernel: Some(kernel.to_owned()),
            ..named.clone()
        };
        assert!(bench.import(&wrong).is_err(), "{kernel}");
    }
    let empty = Bench::new();
    let error = empty.import(&empty.request()).unwrap_err().to_string();
    assert!(error.contains("found       an empty folder"), "{error}");
    empty.put("x.iso", "");
    let file = ImportRequest {
        path: empty.tree().join("x.iso"),
        ..empty.request()
    };
    assert!(
        empty
            .import(&file)
            .unwrap_err()
            .to_string()
            .contains("cannot be imported as an ISO image")
    );
}

#[test]
fn an_admins_signature_is_used_at_once() {
    let bench = Bench::with(&[
        ("boot/vmlinuz-lts", "k"),
        ("boot/initramfs-lts", "i"),
        (".alpine-release", "3.20.3\n"),
    ]);
    std::fs::create_dir(bench.etc().join("distros")).unwrap();
    std::fs::write(
        bench.etc().join("distros/alpine.toml"),
        "breed = 'alpine'\ntier = 3\nanswer_file = 'x'\nos_version = '{version}'\n[[boot]]\nwhen = '*'\nargs = 'alpine_repo={tree}/apks'\n\
         [[detect]]\nwhat = '.alpine-release'\nfile = ['.alpine-release']\nformat = 'text'\ntext = ['{version}']\n\
         media = [{ kernel = 'boot/vmlinuz-lts', initrd = ['boot/initramfs-lts'] }]\n",
    )
    .unwrap();
    let error = bench.import(&bench.request()).unwrap_err().to_string();
    assert!(
        error.contains("does not tell the processor") && error.contains("say it: --arch x86_64"),
        "{error}"
    );
    let wishes = Wishes {
        arch: Some(Arch::X86_64),
        ..Wishes::default()
    };
    let imported = bench.wishing(wishes).unwrap();
    assert_eq!(imported.distro.os_version, "3.20.3");
    assert_eq!(imported.distro.signature.unwrap().as_str(), "alpine");
}
