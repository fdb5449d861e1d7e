//! `koan --virt` as it is on PyPI, with the real virt-install and a real libvirtd: the guest that it makes installs itself and boots from
//! its disk. The hypervisor is the boot server's own host, as small sites have it.

use super::koan::koan;
use crate::lab::child::{self, Child};
use crate::lab::distro;
use crate::lab::events::{Events, seen};
use crate::lab::libvirtd::{LIBVIRTD, Libvirtd, VIRSH};
use crate::lab::need::{self, Need};
use crate::lab::netns::Net;
use crate::lab::server::{ADDRESS, ADDRESS_NET, AUTHORITATIVE, Server};
use crate::lab::vm::{PATIENCE, Place};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const VIRT_INSTALL: Need = Need::Program("virt-install", "virtinst");
const MAC: &str = "52:54:00:77:00:11";

/// What virt-install looks for in a tree: where kernel and initrd are. Of the lab's own distro it knows nothing else.
const TREEINFO: &str = "[general]\nname = Cordwainer Lab Linux 1.0\nfamily = Cordwainer Lab Linux\nversion = 1.0\narch = x86_64\n\
                        [images-x86_64]\nkernel = boot/vmlinuz\ninitrd = boot/initrd.img\n";

/// The lab distro's tree as a folder of this test's own, to which something may be added.
fn own_tree(folder: &Path) {
    let mut copy = Command::new("cp");
    copy.args(["-r", "--reflink=auto"]).arg(distro::tree()).arg(folder);
    assert!(copy.status().unwrap().success());
}

#[test]
#[ignore = "long: a guest is installed and boots from its disk in QEMU's translator"]
fn a_guest_that_koan_makes_installs_itself_and_boots_from_its_disk() {
    let needs = [need::MACHINES, need::DISTRO, &[LIBVIRTD, VIRSH, VIRT_INSTALL]];
    if !need::all("koan_virt", &needs) {
        return;
    }
    let Some(koan) = koan() else { return };
    let net = Net::new(&[ADDRESS_NET]);
    let _place = Place::take();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let tree = folder.path().join("lab");
    own_tree(&tree);
    let libvirtd = Libvirtd::start_without_kvm(&net);
    let mut server = Server::start(&net, AUTHORITATIVE);
    server.import(&tree, "lab");
    std::fs::write(tree.join(".treeinfo"), TREEINFO).unwrap();
    server.cli(&[
        "profile",
        "edit",
        "lab",
        "--virt-type=qemu",
        "--virt-ram=512",
        "--virt-file-size=1",
        "--virt-bridge=br0",
        &format!("--koan-hosts={ADDRESS}"),
    ]);
    server.add_mac("web1", "lab", MAC, &[]);
    server.arm("web1");
    let mut events = server.events("web1");

    let mut run = libvirtd.host_command(koan.to_str().unwrap());
    run.args(["--server", ADDRESS, "--virt", "--system=web1", "--graphics=none"])
        .args(["--virt-type=qemu", "--qemu-disk-type=virtio", "--qemu-net-type=virtio"])
        .env("HOME", folder.path())
        // The lab distro is in nobody's database of systems.
        .env("VIRTINSTALL_OSINFO_DISABLE_REQUIRE", "1");
    let said = child::run("koan --virt", &mut run, PATIENCE);
    eprintln!("{said}");
    assert_eq!(libvirtd.state("web1").as_deref(), Some("running"), "{said}");
    events.wait_for(&[
        seen("CLAIMED", &[]),
        seen("ANSWER_FILE", &[]),
        seen("STAGE", &[("stage", "partitioning")]),
        seen("INSTALLED", &[]),
    ]);
    // koan lets virt-install go once the guest runs, which then stays off after its first reboot; on a slow machine virt-install still
    // looks when that comes, and starts the guest itself.
    let deadline = Instant::now() + PATIENCE;
    let booted = |events: &Events| events.all().iter().any(|event| event["code"] == "BOOTED_FROM_DISK");
    while !booted(&events) {
        if libvirtd.state("web1").as_deref() == Some("shut off") {
            libvirtd.virsh(&["start", "web1"]);
            break;
        }
        assert!(Instant::now() < deadline, "web1 is {:?}", libvirtd.state("web1"));
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let xml = libvirtd.inactive_xml("web1");
    assert!(!xml.contains("<kernel>") && xml.contains(MAC), "{xml}");
    events.wait_for(&[seen("BOOTED_FROM_DISK", &[])]);
    assert_eq!(server.state("web1"), "installed");
    assert_eq!(events.count(seen("CLAIMED", &[])), 1, "installed once");
    // Taken over, its power is switched by Cobbler's words.
    let uri = libvirtd.uri();
    let mut command = server.command(&["guest", "supervise", "--connect", &uri, "-v"]);
    let mut supervisor = Child::start("cordwainer guest supervise", &mut command);
    supervisor.wait_for_line("connected", PATIENCE);
    let stranger = server.output(&["system", "powerstatus", "web1"]);
    let refused = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(refused.contains("system web1 is no guest"), "{refused}");
    server.cli(&["guest", "adopt", "web1", "--connect", &uri, "--system", "web1"]);
    let state = || libvirtd.state("web1");
    let power = |word: &str| server.cli(&["system", word, "--name", "web1"]);
    assert_eq!(power("powerstatus"), "on\n");
    assert_eq!(power("poweroff"), "system web1 is off\n");
    assert_eq!(state().as_deref(), Some("shut off"));
    assert_eq!(power("powerstatus"), "off\n");
    assert_eq!(power("poweroff"), "system web1 is off already\n");
    assert_eq!(power("poweron"), "system web1 is on\n");
    assert_eq!(state().as_deref(), Some("running"));
    let before = libvirtd.qemu("web1");
    assert_eq!(power("reboot"), "system web1 is on\n");
    assert!(state().as_deref() == Some("running") && libvirtd.qemu("web1") != before);
    assert_eq!(server.json(&["system", "powerstatus", "web1"])["power"], "on");
    libvirtd.virsh(&["destroy", "web1"]);
}
