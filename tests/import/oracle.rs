//! productmd, the library that writes `.treeinfo` files, as the judge of how we read them; and osinfo-detect of Debian's discs, which no
//! import takes without their netboot files.

use super::families::{OSINFO, osinfo};
use super::{Bench, netboot};
use crate::iso::medium::{XORRISO, press};
use crate::lab::need;
use cordwainer::distro::import::ImportRequest;
use std::process::Command;

const WRITE: &str = r#"
import sys, productmd
from productmd.treeinfo import TreeInfo, Variant
name, short, version, arch, path = sys.argv[1:]
t = TreeInfo()
t.release.name, t.release.short, t.release.version = name, short, version
t.tree.arch, t.tree.build_timestamp = arch, 1715000000
t.tree.platforms.add(arch)
v = Variant(t)
v.id = v.uid = v.name = "BaseOS"
v.type = "variant"
v.paths.packages, v.paths.repository = "BaseOS/Packages", "BaseOS"
t.variants.add(v)
t.images.images = {arch: {"kernel": "images/pxeboot/vmlinuz", "initrd": "images/pxeboot/initrd.img", "boot.iso": "images/boot.iso"}}
t.stage2.mainimage = "images/install.img"
t.checksums.checksums = {"images/boot.iso": ["sha256", "0" * 64]}
t.dump(path)
"#;

const READ: &str = r#"
import sys
from productmd.treeinfo import TreeInfo
t = TreeInfo(); t.load(sys.argv[1])
i = t.images.images[t.tree.arch]
print(t.release.name, t.release.version, t.tree.arch, i["kernel"], i["initrd"], sep="|")
"#;

fn python(script: &str, args: &[&str]) -> Option<String> {
    let output = Command::new("python3").arg("-c").arg(script).args(args).output().ok()?;
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("No module named 'productmd'") {
        return None;
    }
    assert!(output.status.success(), "{error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_productmd_writes_is_read_as_productmd_reads_it() {
    let mut judged = 0;
    for (name, short, version, arch) in [
        ("Rocky Linux", "Rocky", "9.4", "x86_64"),
        ("Red Hat Enterprise Linux", "RHEL", "10.0", "aarch64"),
        ("CentOS Stream", "CentOS-Stream", "10", "ppc64le"),
        ("Fedora", "Fedora", "42", "x86_64"),
    ] {
        let bench = Bench::with(&[
            ("repodata/repomd.xml", "r"),
            ("images/pxeboot/vmlinuz", "k"),
            ("images/pxeboot/initrd.img", "i"),
        ]);
        let path = bench.tree().join(".treeinfo").display().to_string();
        if python(WRITE, &[name, short, version, arch, &path]).is_none() {
            break;
        }
        let wanted = python(READ, &[&path]).unwrap();
        let imported = bench.imported();
        let found = &imported.detected;
        let ours = format!(
            "{}|{}|{}|{}|{}",
            found.name, found.version, found.arch, found.kernel.path, found.initrd[0].path
        );
        assert_eq!(ours, wanted.trim());
        judged += 1;
    }
    if judged == 0 {
        assert!(
            std::env::var_os("CORDWAINER_REQUIRE_ALL").is_none(),
            "pip install productmd"
        );
        eprintln!("skipped: python3 has no productmd");
    }
}

#[test]
fn what_we_take_for_old_treeinfo_productmd_takes_too() {
    let bench = Bench::with(&[
        ("repodata/repomd.xml", "r"),
        ("images/pxeboot/vmlinuz", "k"),
        ("images/pxeboot/initrd.img", "i"),
    ]);
    bench.put(
        ".treeinfo",
        "[general]\nfamily = CentOS\ntimestamp = 1554967041.76\nvariant = \nversion = 7\npackagedir = \narch = x86_64\n\n\
         [stage2]\nmainimage = LiveOS/squashfs.img\n\n[images-x86_64]\nkernel = images/pxeboot/vmlinuz\ninitrd = images/pxeboot/initrd.img\n",
    );
    let imported = bench.imported();
    assert_eq!(imported.detected.to_string(), "CentOS 7 x86_64 (.treeinfo)");
    let path = bench.tree().join(".treeinfo").display().to_string();
    if let Some(theirs) = python(READ, &[&path]) {
        let wanted = "CentOS|7|x86_64|images/pxeboot/vmlinuz|images/pxeboot/initrd.img";
        assert_eq!(theirs.trim(), wanted);
    }
}

#[test]
fn osinfo_detect_calls_debians_discs_what_we_call_them() {
    if !need::all("import::oracle", &[&[XORRISO, OSINFO]]) {
        return;
    }
    let bench = Bench::with(&[
        (
            ".disk/info",
            "Debian GNU/Linux 11.6.0 \"Bullseye\" - Official amd64 DVD Binary-1 20221217-10:42\n",
        ),
        (".disk/base_installable", ""),
        (
            "dists/bullseye/Release",
            "Origin: Debian\nVersion: 11.6\nCodename: bullseye\n",
        ),
        ("install.amd/vmlinuz", "the disc's kernel"),
        ("install.amd/initrd.gz", "the disc's initrd"),
        ("isolinux/isolinux.bin", &"x".repeat(2048)),
    ]);
    let files = netboot::netboot(
        &bench.etc().join("netboot"),
        "amd64",
        "11 (bullseye)",
        "5.10.0-20-amd64",
    );
    let image = bench.tree().with_file_name("debian-11.6.0-amd64-DVD-1.iso");
    let boot = [
        "-b",
        "isolinux/isolinux.bin",
        "-no-emul-boot",
        "-c",
        "isolinux/boot.cat",
    ];
    press(
        &bench.tree(),
        &image,
        &[&["-r", "-V", "Debian 11.6.0 amd64 1"][..], &boot[..]].concat(),
    );
    let request = ImportRequest {
        path: image.clone(),
        netboot: Some(files),
        ..bench.request()
    };
    let imported = bench.import(&request).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        imported.detected.to_string(),
        "Debian GNU/Linux 11.6.0 x86_64 (.disk/info)"
    );
    assert_eq!(imported.distro.kernel, "netboot/debian-installer/amd64/linux");
    assert_eq!(
        osinfo("media", image.to_str().unwrap()).as_deref(),
        Some("Debian 11 (x86_64)")
    );
}
