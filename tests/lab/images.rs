//! Images in real firmware: a kernel, a floppy by memdisk, an ISO by BIOS and by UEFI; each boots once per arming, then the own disk.
//!
//! Every image is made here. The boot sector says its words on the serial line and starts the machine over.

use super::distro;
use super::events::{Seen, seen};
use super::need::{self, Need};
use super::netns::Net;
use super::server::{ADDRESS_NET, AUTHORITATIVE, Server, printed, ready};
use super::vm::{Firmware, Machine};
use crate::iso::medium::{XORRISO, press};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MEMDISK: Need = Need::File("/usr/lib/syslinux/memdisk", "syslinux-common");
const MTOOLS: Need = Need::Program("mcopy", "mtools");
const OWN_DISK: Seen = seen("SCRIPT", &[("dialect", "ipxe"), ("gives", "local boot")]);

/// A boot sector that says `words` on the first serial line, waits for a while, and starts the machine over.
fn boot_sector(words: &str) -> Vec<u8> {
    let code: &[u8] = &[
        0xFA, // cli
        0x31, 0xC0, // xor ax, ax
        0x8E, 0xD8, // mov ds, ax
        0xFC, // cld
        0xBE, 0x40, 0x7C, // mov si, 0x7C40: the words
        0xAC, // next: lodsb
        0x84, 0xC0, // test al, al
        0x74, 0x12, // jz over
        0x88, 0xC3, // mov bl, al
        0xBA, 0xFD, 0x03, // mov dx, 0x3FD: line status
        0xEC, // wait: in al, dx
        0xA8, 0x20, // test al, 0x20: may be written to
        0x74, 0xFB, // jz wait
        0x88, 0xD8, // mov al, bl
        0xBA, 0xF8, 0x03, // mov dx, 0x3F8
        0xEE, // out dx, al
        0xEB, 0xE9, // jmp next
        0xB0, 0xFE, // over: mov al, 0xFE
        0xE6, 0x64, // out 0x64, al: the keyboard controller resets the machine
        0xF4, // hlt
        0xEB, 0xFD, // jmp hlt
    ];
    let mut sector = code.to_vec();
    sector.resize(0x40, 0);
    sector.extend(words.bytes());
    sector.extend(b"\r\n\0");
    assert!(sector.len() <= 510);
    sector.resize(510, 0);
    sector.extend([0x55, 0xAA]);
    sector
}

/// An ISO that a BIOS and UEFI boot.
fn iso(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    fs::create_dir_all(&root).unwrap();
    let mut sector = boot_sector("lab-image: the ISO by BIOS");
    sector.resize(2048, 0);
    fs::write(root.join("bios.bin"), sector).unwrap();
    let early = folder.join("early.cfg");
    let said = "serial --unit=0 --speed=115200\nterminal_output serial\necho lab-image: the ISO by UEFI\nreboot\n";
    fs::write(&early, said).unwrap();
    let loader = folder.join("loader.efi");
    let mut make = Command::new("grub-mkimage");
    make.args(["-O", "x86_64-efi", "-p", "/", "-c"])
        .arg(&early)
        .arg("-o")
        .arg(&loader);
    let _ = printed("grub-mkimage", make.args(["serial", "terminal", "echo", "reboot"]));
    let fat = root.join("efi.img");
    fs::File::create(&fat).unwrap().set_len(2_949_120).unwrap();
    let image = fat.to_str().unwrap();
    let tool = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(name);
        let _ = printed(name, command.env("MTOOLS_SKIP_CHECK", "1").args(arguments));
    };
    tool("mformat", &["-i", image, "-f", "2880", "::"]);
    tool("mmd", &["-i", image, "::/EFI", "::/EFI/BOOT"]);
    tool(
        "mcopy",
        &["-i", image, loader.to_str().unwrap(), "::/EFI/BOOT/BOOTX64.EFI"],
    );
    let iso = folder.join("tool.iso");
    let bios = [
        "-b",
        "bios.bin",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-c",
        "boot.cat",
    ];
    let uefi = ["-eltorito-alt-boot", "-e", "efi.img", "-no-emul-boot"];
    press(&root, &iso, &[&bios[..], &uefi].concat());
    iso
}

/// A machine that stands on an image and is armed says `words`, and boots its own disk from then on.
fn boots(server: &mut Server<'_>, name: &str, firmware: Firmware, image: &[&str], words: &str) {
    server.cli(&[&["image", "add", "--name", name][..], image].concat());
    // Nothing stands on its disk, where it is to arrive: the firmware says so, and that is not waited for.
    let mut machine = Machine::new(name, firmware);
    let mac = machine.mac_address().to_owned();
    server.cli(&["system", "add", "--name", name, "--image", name, "--mac-address", &mac]);
    assert_eq!(server.state(name), "idle");
    server.arm(name);
    let mut events = server.events(name);
    let mut vm = machine.power_on(server.net());
    events.wait_for(&[
        seen("SCRIPT", &[("dialect", "ipxe"), ("gives", "image")]),
        seen("IMAGE_BOOTED", &[]),
    ]);
    vm.wait_for(words);
    events.wait_for(&[OWN_DISK]);
    vm.power_cut();
    assert_eq!(server.state(name), "booted");
    assert_eq!(events.count(seen("IMAGE_BOOTED", &[])), 1, "{name}");
    for unwanted in ["FAILED", "HELD", "INSTALLED", "STORE_FAILED"] {
        events.none(Seen::coded(unwanted));
    }
    let report = server.cli(&["system", "report", name]);
    assert!(report.contains("netboot_enabled     : false"), "{report}");
    // Armed again, it would boot it again: nothing has to be said twice for that.
    server.arm(name);
    assert_eq!(server.state(name), "armed");
}

#[test]
fn an_image_boots_once_by_bios() {
    if !ready(
        "an_image_boots_once_by_bios",
        &[MEMDISK, XORRISO, MTOOLS, need::GRUB_MKIMAGE, need::GRUB_EFI],
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let net = Net::new(&[ADDRESS_NET]);
    let mut server = Server::start(&net, AUTHORITATIVE);
    let kernel = distro::tree().join("boot/vmlinuz");
    let options = "console=ttyS0,115200 panic=-1 lab.image=direct";
    boots(
        &mut server,
        "kernel",
        Firmware::BiosIpxeRom,
        &[
            "--image-type=direct",
            "--file",
            kernel.to_str().unwrap(),
            "--kernel-options",
            options,
        ],
        "lab.image=direct",
    );
    let floppy = folder.path().join("floppy.img");
    let mut bytes = boot_sector("lab-image: the floppy by memdisk");
    bytes.resize(1_474_560, 0);
    fs::write(&floppy, bytes).unwrap();
    boots(
        &mut server,
        "floppy",
        Firmware::BiosIpxeRom,
        &["--image-type=memdisk", "--file", floppy.to_str().unwrap()],
        "lab-image: the floppy by memdisk",
    );
    let iso = iso(folder.path());
    let file = iso.to_str().unwrap();
    boots(
        &mut server,
        "cd",
        Firmware::BiosIpxeRom,
        &["--image-type=iso", "--file", file],
        "lab-image: the ISO by BIOS",
    );
}

#[test]
fn an_iso_boots_once_by_uefi() {
    if !ready(
        "an_iso_boots_once_by_uefi",
        &[XORRISO, MTOOLS, need::GRUB_MKIMAGE, need::GRUB_EFI],
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let net = Net::new(&[ADDRESS_NET]);
    let mut server = Server::start(&net, AUTHORITATIVE);
    let iso = iso(folder.path());
    boots(
        &mut server,
        "cd",
        Firmware::OvmfIpxeRom,
        &["--image-type=iso", "--file", iso.to_str().unwrap()],
        "lab-image: the ISO by UEFI",
    );
}
