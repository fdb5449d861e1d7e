//! `guest` as an admin types it, as far as no hypervisor is needed: what is printed, what is refused, and that nothing is stored by it.

use super::schema;
use crate::cli::Session;
use std::time::Instant;

/// A state with a profile that can be installed.
fn session() -> Session {
    let session = Session::new();
    let kernel = session.write("tree/linux", "kernel");
    let tree = std::path::Path::new(&kernel)
        .parent()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    session.write("tree/initrd.gz", "initrd");
    session
        .run(&[
            "distro",
            "add",
            "lab",
            "--tree",
            &tree,
            "--kernel",
            "linux",
            "--initrd",
            "initrd.gz",
            "--arch",
            "x86_64",
            "--kernel-options",
            "console=ttyS0 say=\"a <b> & c\"",
        ])
        .succeeded();
    session
        .run(&[
            "profile",
            "add",
            "lab",
            "--distro",
            "lab",
            "--virt-ram",
            "768",
            "--virt-bridge",
            "br-nowhere",
            "--virt-file-size",
            "3,4",
        ])
        .succeeded();
    session
}

const CREATE: &[&str] = &["guest", "create", "web1", "--profile", "lab"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [CREATE, more].concat()
}

#[test]
fn the_printed_xml_is_what_the_profile_says_and_libvirt_takes_it() {
    let session = session();
    let ran = session
        .run(&with(&["--print-xml=install", "--accel", "tcg"]))
        .succeeded();
    for part in [
        "<memory unit=\"MiB\">768</memory>",
        "<source bridge=\"br-nowhere\"/>",
        "<on_reboot>destroy</on_reboot>",
        "<cmdline>console=ttyS0 say=&quot;a &lt;b&gt; &amp; c&quot;</cmdline>",
        "volume=\"web1-1.qcow2\"",
        "<domain type=\"qemu\">",
    ] {
        assert!(ran.out.contains(part), "{part} in\n{}", ran.out);
    }
    assert!(ran.err.contains("stand-ins"), "{}", ran.err);
    schema::validate("install", &ran.out);
    schema::define("install", &ran.out);
    let last = session.run(&with(&["--print-xml=final"])).succeeded();
    assert!(!last.out.contains("cmdline"), "{}", last.out);
    schema::validate("final", &last.out);
    let both = session.run(&with(&["--print-xml", "--json"])).succeeded().json();
    assert!(both["install"].as_str().unwrap().contains("<kernel>"), "{both}");
    assert!(!both["final"].as_str().unwrap().contains("<kernel>"), "{both}");
    // Nothing was stored by any of it.
    assert_eq!(session.run(&["system", "list"]).succeeded().out, "");
}

#[test]
fn a_dry_run_says_what_would_be_made() {
    let session = session();
    let ran = session
        .run(&with(&["--dry-run", "--accel", "tcg", "--firmware", "uefi"]))
        .succeeded();
    for part in [
        "web1 on qemu:///system",
        "system   web1, profile lab",
        "kernel",
        "768 MiB",
        "tcg",
        "uefi firmware",
        "default/web1.qcow2, 3",
        "bridge br-nowhere",
    ] {
        assert!(ran.out.contains(part), "{part} in\n{}", ran.out);
    }
    let json = session.run(&with(&["--dry-run", "--json"])).succeeded().json();
    assert_eq!(json["would_make"]["memory"], 768);
    let mac = json["would_make"]["nics"][0]["mac"].as_str().unwrap().to_owned();
    assert!(mac.starts_with("52:54:00:"), "{mac}");
    // The same address each time; another where a system has it.
    let again = session.run(&with(&["--dry-run", "--json"])).succeeded().json();
    assert_eq!(again["would_make"]["nics"][0]["mac"], mac.as_str());
    session
        .run(&["system", "add", "db1", "--profile", "lab", "--mac", &mac])
        .succeeded();
    let other = session.run(&with(&["--dry-run", "--json"])).succeeded().json();
    assert_ne!(other["would_make"]["nics"][0]["mac"], mac.as_str());
    let network = format!("bridge=br0,mac={mac}");
    let taken = session.run(&with(&["--dry-run", "--network", &network])).ended(1);
    assert!(taken.err.contains("belongs to system `db1`"), "{}", taken.err);
}

#[test]
fn refusals_come_before_anything_is_stored() {
    let session = session();
    session.run(&["system", "add", "web1", "--profile", "lab"]).succeeded();
    for (arguments, says) in [
        (with(&["--dry-run"]), "--system web1"),
        (vec!["guest", "create", "x", "--dry-run"], "give --profile PROFILE"),
        (
            vec!["guest", "create", "x", "--profile", "labb", "--dry-run"],
            "did you mean `lab`",
        ),
        (
            vec!["guest", "create", "x", "--system", "web2", "--dry-run"],
            "did you mean `web1`",
        ),
        (
            vec![
                "guest",
                "create",
                "x",
                "--profile",
                "lab",
                "--firmware",
                "uefi-secure",
                "--dry-run",
            ],
            "use --firmware uefi",
        ),
        (
            vec![
                "guest",
                "create",
                "x",
                "--profile",
                "lab",
                "--method",
                "xen-pv",
                "--dry-run",
            ],
            "--connect xen:///system",
        ),
        (
            vec![
                "guest",
                "create",
                "x",
                "--profile",
                "lab",
                "--method",
                "iso",
                "--dry-run",
            ],
            "--iso FILE",
        ),
        (
            vec!["guest", "create", "x", "--method", "import", "--dry-run"],
            "no disk to start from",
        ),
        (
            vec![
                "guest",
                "create",
                "x",
                "--profile",
                "lab",
                "--disk",
                "20,cache=none",
                "--dry-run",
            ],
            "is unknown",
        ),
        (
            vec![
                "guest",
                "create",
                "x",
                "--profile",
                "lab",
                "--xml-set",
                "./name=y",
                "--dry-run",
            ],
            "has its own option",
        ),
        (
            vec![
                "guest",
                "create",
                "x",
                "--profile",
                "lab",
                "--xml-set",
                "./devices/disk[9]/@x=1",
                "--dry-run",
            ],
            "no number 9",
        ),
        (
            vec!["guest", "create", "x", "--profile", "lab", "--uuid", "zz", "--dry-run"],
            "is not a UUID",
        ),
        (
            vec!["guest", "clone", "x", "--from", "../etc", "--dry-run"],
            "is no name",
        ),
    ] {
        let ran = session.run(&arguments);
        assert_ne!(ran.code, 0, "{}", ran.line);
        assert!(ran.err.contains(says), "{says:?} in {:?} of {}", ran.err, ran.line);
    }
    assert_eq!(session.run(&["system", "list"]).succeeded().out, "web1\n");
}

#[test]
fn a_clone_stands_on_its_golden_volume() {
    let session = session();
    let json = session
        .run(&[
            "guest",
            "clone",
            "web2",
            "--from",
            "gold/rocky9.qcow2",
            "--size",
            "30",
            "--network",
            "bridge=br0",
            "--dry-run",
            "--json",
        ])
        .succeeded()
        .json();
    let disk = &json["would_make"]["disks"][0];
    assert_eq!(disk["backing"]["pool"], "gold");
    assert_eq!(disk["backing"]["volume"], "rocky9.qcow2");
    assert_eq!(disk["size"], 30_u64 << 30);
    assert_eq!(json["would_make"]["method"], "import");
}

#[test]
fn without_a_supervisor_every_command_says_how_to_start_one() {
    let session = session();
    for arguments in [
        &["guest", "list"][..],
        &["guest", "show", "web1"],
        &["guest", "start", "web1"],
        &["guest", "destroy", "web1"],
        &["guest", "autostart", "web1", "--disable"],
        &["guest", "migrate", "web1", "--to", "qemu+ssh://b/system"],
        &["guest", "console", "web1"],
        &["guest", "log", "web1", "-f"],
        &["guest", "wait", "web1", "--timeout", "1s"],
        &["guest", "reinstall", "web1"],
        &["guest", "delete", "web1", "--disks"],
        &["guest", "adopt", "web1"],
        &["guest", "check"],
    ] {
        let begun = Instant::now();
        let ran = session.run(arguments).ended(1);
        let says = if cfg!(feature = "libvirt") {
            "cordwainer-guests"
        } else {
            "has no libvirt"
        };
        assert!(ran.err.contains(says), "{}: {}", ran.line, ran.err);
        assert!(begun.elapsed().as_secs() < 20, "{}", ran.line);
    }
}

#[cfg(feature = "libvirt")]
#[test]
fn a_guest_with_two_cards_is_a_system_with_two_interfaces() {
    let session = session();
    let ran = session
        .run(&with(&[
            "--connect",
            "test:///default",
            "--method",
            "import",
            "--disk",
            "path=/nowhere/web1.qcow2",
            "--network",
            "network=default,mac=52:54:00:f2:00:01",
            "--network",
            "network=default,mac=52:54:00:f2:00:02",
        ]))
        .succeeded();
    assert!(ran.err.contains("this command is one"), "{}", ran.err);
    assert!(ran.out.contains("installed web1"), "{}", ran.out);
    let report = session.run(&["system", "report", "web1"]).succeeded().out;
    let first = report.find("52:54:00:f2:00:01").unwrap_or_else(|| panic!("{report}"));
    let second = report.find("52:54:00:f2:00:02").unwrap_or_else(|| panic!("{report}"));
    assert!(
        first < second && report.contains("eth0") && report.contains("eth1"),
        "{report}"
    );
}

#[test]
fn a_guest_of_an_image_has_it_as_its_cd_or_stands_on_its_disk() {
    let session = session();
    for (name, kind, file) in [
        ("rescue", "iso", "/srv/rescue.iso"),
        ("golden", "virt-clone", "/var/lib/libvirt/images/golden.qcow2"),
        ("memtest", "direct", "/srv/memtest.bin"),
        ("empty", "iso", ""),
    ] {
        let add = [
            "image",
            "add",
            name,
            "--image-type",
            kind,
            "--file",
            file,
            "--virt-ram",
            "384",
        ];
        session.run(&add).succeeded();
    }
    session
        .run(&[
            "system",
            "add",
            "box",
            "--image",
            "rescue",
            "--mac-address",
            "52:54:00:00:00:0b",
        ])
        .succeeded();
    let of = |image: &str| {
        let create = [
            "guest",
            "create",
            "g1",
            "--image",
            image,
            "--print-xml=all",
            "--accel",
            "tcg",
        ];
        session.run(&create)
    };
    let cd = of("rescue").succeeded().out;
    for part in [
        "<memory unit=\"MiB\">384</memory>",
        "device=\"cdrom\"",
        "/srv/rescue.iso",
    ] {
        assert!(cd.contains(part), "no {part} in {cd}");
    }
    let create = [
        "guest",
        "create",
        "box",
        "--system",
        "box",
        "--print-xml",
        "--accel",
        "tcg",
    ];
    let by_system = session.run(&create).succeeded().out;
    for part in ["/srv/rescue.iso", "52:54:00:00:00:0b"] {
        assert!(by_system.contains(part), "no {part} in {by_system}");
    }
    let create = ["guest", "create", "g1", "--image", "golden", "--dry-run"];
    let clone = session.run(&create).succeeded().out;
    assert!(clone.contains("stands on images/golden.qcow2"), "{clone}");
    for (image, words) in [
        ("memtest", "a guest is made of an iso or of a virt-clone"),
        ("empty", "names no file"),
        ("rescu", "did you mean `rescue`"),
    ] {
        let ran = of(image).ended(1);
        assert!(ran.err.contains(words), "{}", ran.err);
    }
    assert_eq!(session.run(&["system", "list"]).out, "box\n");
}
