//! GRUB's own HTTP client: a network image with its http module, started by UEFI HTTP Boot, reads our grub.cfg and loads the lab distro's
//! kernel and initrd over HTTP. GRUB compares header bytes, knows three status codes and reads a kept connection to its end.

use super::events::{Seen, seen};
use super::need;
use super::netns::Net;
use super::server::{ADDRESS_NET, AUTHORITATIVE, Server, printed, ready};
use super::vm::{Firmware, Machine};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the image does by itself: an address by DHCP, then what GRUB does in `normal`, its search for a configuration by hardware address.
const BEGINNING: &str = "serial --unit=0 --speed=115200\nterminal_output serial\necho lab: GRUB runs\nnet_bootp\nnet_ls_addr\n\
                         normal\n";

const MODULES: &[&str] = &[
    "normal",
    "configfile",
    "echo",
    "test",
    "net",
    "efinet",
    "tftp",
    "http",
    "linux",
    "boot",
    "serial",
    "terminal",
    "search",
    "search_fs_file",
    "chain",
    "part_gpt",
    "part_msdos",
    "fat",
    "ext2",
    "regexp",
    "sleep",
];

fn image(folder: &Path) {
    let script = folder.join("early.cfg");
    fs::write(&script, BEGINNING).unwrap();
    let mut make = Command::new("grub-mkimage");
    make.args(["-O", "x86_64-efi", "-p", "(http,10.77.0.1)/grub", "-c"])
        .arg(&script)
        .arg("-o")
        .arg(folder.join("grubnetx64.efi"))
        .args(MODULES);
    let _ = printed("grub-mkimage", &mut make);
}

#[test]
fn grub_loads_kernel_and_initrd_over_http() {
    if !ready(
        "grub_loads_kernel_and_initrd_over_http",
        &[need::GRUB_MKIMAGE, need::GRUB_EFI],
    ) {
        return;
    }
    let loaders = tempfile::tempdir().unwrap();
    image(loaders.path());
    let net = Net::new(&[ADDRESS_NET]);
    let mode = format!(
        "[boot]\nloader_paths = [\"{}\"]\n{AUTHORITATIVE}",
        loaders.path().display()
    );
    let mut server = Server::start(&net, &mode);
    server.import_lab();
    let mut machine = Machine::new("grub", Firmware::OvmfHttp);
    server.add("web1", "lab", &machine, &["--boot-loaders", "grub"]);
    server.arm("web1");
    let mut events = server.events("web1");
    let mut vm = machine.power_on(server.net());
    vm.wait_for("lab: GRUB runs");
    events.wait_for(&[
        seen("HTTP_SENT", &[("role", "loader"), ("path", "grubnetx64.efi")]),
        seen("SCRIPT", &[("dialect", "grub"), ("gives", "install")]),
        seen(
            "HTTP_SENT",
            &[("role", "kernel"), ("path", "boot/vmlinuz"), ("status", "200")],
        ),
        seen(
            "HTTP_SENT",
            &[("role", "initrd"), ("path", "boot/initrd.img"), ("status", "200")],
        ),
        seen("STAGE", &[("stage", "started"), ("reported", "true")]),
    ]);
    vm.power_cut();
    events.none(Seen::coded("HTTP_BROKEN"));
    events.none(seen("TFTP_SENT", &[]));
}
