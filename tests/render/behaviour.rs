//! The embedded shell, run for real against a made-up machine: which disk it takes, when it stops, what it reports.

use super::embedded::scripts_of;
use super::fixture::{BESIDE, DHCP, FAMILIES, answer, assets, defaults, world};
use cordwainer::render;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

struct Disk {
    name: &'static str,
    size: &'static str,
    removable: &'static str,
}

const fn disk(name: &'static str) -> Disk {
    Disk {
        name,
        size: "1000",
        removable: "0",
    }
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    reports: Vec<String>,
    chosen: Option<String>,
    console: String,
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the disk script of a family in a machine with `disks`. Paths of the kernel are replaced by a folder; waiting for ever by an exit.
fn run(title: &str, meta: &str, disks: &[Disk], shell: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for name in ["bin", "dev", "sys/block", "tmp"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for disk in disks {
        let block = at("sys/block").join(disk.name);
        fs::create_dir_all(&block).unwrap();
        for (file, text) in [("size", disk.size), ("ro", "0"), ("removable", disk.removable)] {
            fs::write(block.join(file), text).unwrap();
        }
        fs::write(at("dev").join(disk.name), "").unwrap();
    }
    if let Some(first) = disks.first() {
        symlink(at("dev").join(first.name), at("dev/by-name")).unwrap();
    }
    let log = at("reports");
    executable(
        &at("bin/curl"),
        &format!(
            "#!/bin/sh\nfor last; do :; done\necho \"$last\" >> '{}'\nexit 7\n",
            log.display()
        ),
    );
    executable(
        &at("bin/debconf-set"),
        &format!("#!/bin/sh\necho \"$1=$2\" >> '{}'\n", at("debconf").display()),
    );
    let family = *FAMILIES.iter().find(|family| family.title == title).unwrap();
    let text = render::answer_file(&answer(family, DHCP, meta), &world(defaults(), assets())).unwrap();
    // What the installer has read already, and reads again once the script put the disk in; a script that stops changes nothing.
    let unnamed = "path: /dev/cordwainer-disk\n<device>/dev/cordwainer-disk</device>\n";
    match family.template {
        "ubuntu/user-data" => fs::write(at("disk.ks"), unnamed).unwrap(),
        "suse/autoinst.xml" => fs::write(at("profile"), unnamed).unwrap(),
        _ => {}
    }
    for tool in ["coreos-installer", "systemctl"] {
        executable(
            &at(&format!("bin/{tool}")),
            &format!("#!/bin/sh\necho {tool} \"$@\" >> '{}'\n", at("disk.ks").display()),
        );
    }
    let text = match title {
        "fcos44" => render::answer_file(&answer(BESIDE[3], DHCP, meta), &world(defaults(), assets())).unwrap(),
        _ => text,
    };
    let script = scripts_of(&text)
        .into_iter()
        .find(|script| script.contains("/sys/block/*"))
        .unwrap();
    let here = folder.path().to_str().unwrap();
    let script = script
        .replace("/sys/block", &format!("{here}/sys/block"))
        .replace("/dev/console", &format!("{here}/console"))
        .replace("/dev/tty1", "/dev/null")
        .replace("\"/dev/$named\"", &format!("\"{here}/dev/$named\""))
        .replace("/tmp/cordwainer-disk.ks", &format!("{here}/disk.ks"))
        .replace("/autoinstall.yaml", &format!("{here}/disk.ks"))
        .replace("/tmp/profile/autoinst.xml", &format!("{here}/profile"))
        .replace("/tmp/profile/modified.xml", &format!("{here}/disk.ks"))
        .replace("while :; do sleep 3600; done", "exit 9");
    let path = format!("{here}/bin:{}", std::env::var("PATH").unwrap());
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .arg("-c")
        .arg(&script)
        .env("PATH", path)
        .output()
        .unwrap();
    let read = |name: &str| fs::read_to_string(at(name)).unwrap_or_default();
    let chosen = if title.starts_with("debian") {
        read("debconf")
    } else {
        read("disk.ks")
    };
    // Ubuntu's file is there from the start.
    let chosen = if chosen == unnamed { String::new() } else { chosen };
    let stopped = output.status.code() == Some(9);
    assert!(
        stopped || output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Agama names its disk in the profile, or takes the only one; its script only judges.
    assert!(
        family.template.starts_with("agama/") || stopped == chosen.is_empty(),
        "{chosen}"
    );
    Outcome {
        reports: read("reports")
            .lines()
            .map(|line| line.rsplit_once("toke/").unwrap().1.to_owned())
            .collect(),
        chosen: (!chosen.is_empty()).then_some(chosen),
        console: read("console"),
    }
}

const INSTALLERS: [&str; 7] = ["el7", "el9", "debian13-iso", "ubuntu24", "sles15", "sles16", "fcos44"];
const SHELLS: [&[&str]; 2] = [&["sh"], &["busybox", "sh"]];

#[test]
fn the_only_disk_is_taken() {
    for shell in SHELLS {
        for title in INSTALLERS {
            let stick = Disk {
                name: "sdb",
                size: "1000",
                removable: "1",
            };
            let empty = Disk {
                name: "sdc",
                size: "0",
                removable: "0",
            };
            let mut disks = vec![disk("vda"), stick, empty, disk("loop0"), disk("sr0"), disk("dm-0")];
            if title == "sles16" {
                disks.remove(1);
            }
            let seen = run(title, "", &disks, shell);
            let chosen = seen.chosen.as_deref().unwrap_or("");
            if title.starts_with("debian") {
                assert_eq!(chosen, "partman-auto/disk=/dev/vda\ngrub-installer/bootdev=/dev/vda\n");
            } else if title == "ubuntu24" || title == "sles15" {
                assert_eq!(
                    chosen,
                    "path: /dev/DISK\n<device>/dev/vda</device>\n"
                        .replace("DISK", if title == "sles15" { "cordwainer-disk" } else { "vda" })
                );
            } else if title == "fcos44" {
                assert!(
                    chosen.starts_with(
                        "coreos-installer install /dev/vda --insecure-ignition --ignition-url http://192.168.77.1/i/"
                    ),
                    "{chosen}"
                );
                assert!(
                    chosen.ends_with(
                        "/config.ign --append-karg console=ttyS0,115200 --append-karg quiet\nsystemctl reboot\n"
                    ),
                    "{chosen}"
                );
                assert_eq!(seen.reports.last().unwrap(), "done");
                continue;
            } else if title != "sles16" {
                assert!(chosen.contains("ignoredisk --only-use=vda\n"), "{chosen}");
                assert!(
                    chosen.contains("clearpart --all --initlabel --drives=vda\n"),
                    "{chosen}"
                );
            }
            // The reports were refused, and the installation went on.
            assert_eq!(seen.reports.last().unwrap(), "partitioning?detail=vda", "{seen:?}");
        }
    }
}

#[test]
fn the_named_disk_is_taken_from_several() {
    for shell in SHELLS {
        for (title, meta) in INSTALLERS
            .into_iter()
            .flat_map(|title| [(title, "disk=/dev/vdb"), (title, "disk=vdb")])
        {
            let seen = run(title, meta, &[disk("vda"), disk("vdb")], shell);
            if title == "sles16" {
                assert_eq!(seen.reports.last().unwrap(), "partitioning?detail=vdb");
                continue;
            }
            let chosen = seen.chosen.unwrap();
            assert!(chosen.contains("vdb") && !chosen.contains("vda"), "{chosen}");
        }
        let seen = run("el9", "disk=by-name", &[disk("vda"), disk("vdb")], shell);
        assert!(seen.chosen.unwrap().contains("--only-use=vda\n"));
    }
}

#[test]
fn without_certainty_it_stops_and_says_so() {
    for shell in SHELLS {
        for title in INSTALLERS {
            let cases: [(&str, &[Disk], &str); 3] = [
                ("", &[disk("vda"), disk("vdb")], "this machine has 2 disks: vda vdb"),
                ("", &[], "this machine has 0 disks"),
                (
                    "disk=vdz",
                    &[disk("vda")],
                    "the disk vdz is not in this machine; it has: vda",
                ),
            ];
            for (meta, disks, reason) in cases {
                let seen = run(title, meta, disks, shell);
                assert_eq!(seen.chosen, None);
                assert!(seen.console.contains(reason), "{seen:?}");
                let last = seen.reports.last().unwrap();
                assert!(last.starts_with("failed?detail=") && !last.contains(' '), "{last}");
                assert!(
                    !seen.reports.iter().any(|report| report.starts_with("partitioning")),
                    "{seen:?}"
                );
            }
        }
    }
}

#[test]
fn agama_is_not_left_to_choose_among_removable_disks() {
    let stick = Disk {
        name: "sda",
        size: "1000",
        removable: "1",
    };
    let seen = run("sles16", "", &[stick, disk("vda")], &["sh"]);
    assert!(seen.console.contains("the removable disk sda beside vda"), "{seen:?}");
    assert!(seen.reports.last().unwrap().starts_with("failed?detail="), "{seen:?}");
}
