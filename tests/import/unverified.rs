//! What nobody has proven is said to be unproven: in `import`, in `signature report`, in the README and the manual. And a medium that no
//! signature knows is read by its own loader's configuration, whose words can be typed as they stand.

use super::family_trees::media;
use super::{Bench, said};
use crate::cli::Session;
use crate::iso::medium::{XORRISO, press};
use crate::lab::need;
use crate::render::fixture;
use cordwainer::distro::detect::Wishes;
use cordwainer::distro::import::ImportRequest;
use cordwainer::distro::library::Library;
use std::process::Command;

#[test]
fn every_family_of_tier_two_is_called_unverified_wherever_it_is_named() {
    let library = Library::load(&Bench::new().etc());
    let session = Session::new();
    let report = session.run(&["signature", "report"]).succeeded().out;
    let (mut proven, mut unproven) = (0, 0);
    for signature in &library.signatures {
        let line = report
            .lines()
            .find(|line| line.split_whitespace().next() == Some(signature.name.as_str()))
            .unwrap_or_else(|| panic!("{} is not in\n{report}", signature.name));
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[2], signature.tier.to_string(), "{line}");
        assert_eq!(
            words[3],
            if signature.tier == 1 { "yes" } else { "unverified" },
            "{line}"
        );
        match signature.tier {
            1 => proven += 1,
            _ => unproven += 1,
        }
    }
    assert!(proven >= 9 && unproven >= 10, "{proven} {unproven}");
    // What is written for people says the same.
    let readme = std::fs::read_to_string(fixture::root().join("README.md")).unwrap();
    let row = readme
        .lines()
        .find(|line| line.ends_with("nothing: *unverified* |"))
        .unwrap();
    let manual = std::fs::read_to_string(fixture::root().join("server/man/cordwainer.8.tail")).unwrap();
    for name in [
        "Arch",
        "Flatcar",
        "Talos",
        "ESXi",
        "XCP-ng",
        "Proxmox VE",
        "Windows PE",
        "Memtest86+",
        "live",
    ] {
        assert!(row.contains(name), "README: {name} is not in {row}");
        assert!(
            manual.replace('\\', "").contains(name),
            "the manual does not name {name}"
        );
    }
}

#[test]
fn an_import_of_tier_two_says_that_nobody_has_proven_it_and_one_of_tier_one_does_not() {
    let (mut tiers, mut wrong) = ([0, 0], Vec::new());
    for medium in media() {
        if medium.treeinfo.is_some() {
            // productmd writes these, in a test of their own.
            continue;
        }
        let bench = Bench::new();
        medium.write(&bench.tree());
        let request = ImportRequest {
            wishes: Wishes {
                arch: medium.arch.map(|arch| arch.parse().unwrap()),
                os_version: medium.os_version.map(ToOwned::to_owned),
                ..Wishes::default()
            },
            ..bench.request()
        };
        let imported = bench
            .import(&request)
            .unwrap_or_else(|error| panic!("{}: {error}", medium.title));
        let text = said(&imported);
        let first = text.lines().next().unwrap();
        let tier = imported.detected.tier;
        if first.ends_with(&format!("tier {tier}, unverified")) != (tier == 2) {
            wrong.push(first.to_owned());
        }
        tiers[usize::from(tier) - 1] += 1;
    }
    assert_eq!(wrong, [""; 0]);
    assert!(tiers[0] >= 20 && tiers[1] >= 10, "{tiers:?}");
}

/// Takes the command that a refusal offers, and runs it by a shell as an admin would.
fn as_offered(session: &Session, path: &str, name: &str) -> (String, String) {
    let refused = session.run(&["import", "--path", path, "--name", name]).ended(1);
    let offered = refused
        .err
        .split(" starts it so (unverified): ")
        .nth(1)
        .unwrap_or_else(|| panic!("nothing is offered: {}", refused.err));
    let (options, _) = offered.split_once("; or add a file to ").unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "exec \"$BIN\" --config \"$CONFIG\" --state \"$STATE\" --json import --path \"$IMAGE\" --name {name} {options}"
    ));
    let output = command
        .env("BIN", env!("CARGO_BIN_EXE_cordwainer"))
        .env("CONFIG", session.path("session.toml"))
        .env("STATE", session.path("state"))
        .env("IMAGE", path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{options}: {said}");
    (options.to_owned(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_a_mediums_own_loader_says_can_be_typed_as_it_is_offered() {
    let images = need::all("import::own_loader", &[&[XORRISO]]);
    for (name, config, text, kernel, initrd, options) in [
        (
            "isolinux",
            "isolinux/isolinux.cfg",
            "default vesamenu.c32\nlabel check\n  kernel gone\n  append initrd=gone.img\nlabel go\n  kernel my kernel\n  append initrd=initrd.img quiet opt='a b' ---\n"
                .replace("my kernel", "vmlinuz"),
            "isolinux/vmlinuz",
            vec!["isolinux/initrd.img"],
            "opt=",
        ),
        (
            "grub",
            "boot/grub/grub.cfg",
            "menuentry 'Strange OS' {\n  linux /os/k1 root=live quiet\n  initrd /os/i1 /os/i2\n}\n".to_owned(),
            "os/k1",
            vec!["os/i1", "os/i2"],
            "root=live",
        ),
        (
            "entries",
            "loader/entries/strange.conf",
            "title Strange\nlinux /os/kä\u{2019}rn\ninitrd /os/i\noptions quiet\n".to_owned(),
            "os/kä\u{2019}rn",
            vec!["os/i"],
            "quiet",
        ),
    ] {
        let bench = Bench::with(&[(config, &text)]);
        bench.put(kernel, "kernel");
        for path in &initrd {
            bench.put(path, "initrd");
        }
        let session = Session::new();
        let mut paths = vec![(name.to_owned(), bench.tree())];
        if images {
            let image = bench.tree().with_file_name("strange disc.iso");
            press(&bench.tree(), &image, &["-r"]);
            paths.push((format!("{name}-image"), image));
        }
        for (name, path) in paths {
            let (offered, told) = as_offered(&session, path.to_str().unwrap(), &name);
            assert!(offered.starts_with("--breed generic --kernel "), "{offered}");
            let told: serde_json::Value = serde_json::from_str(&told).unwrap();
            let distro = &told["distro"];
            assert_eq!(distro["kernel"], kernel, "{told}");
            assert_eq!(distro["initrd"], serde_json::json!(initrd), "{told}");
            assert_eq!(distro["breed"], "generic");
            assert!(distro["kernel_options"].to_string().contains(options.trim_end_matches('=')), "{told}");
        }
    }
}
