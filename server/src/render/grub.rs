//! Boot scripts for GRUB 2.
//!
//! Every value stands in single quotes, where GRUB reads nothing but the closing quote. `linux` itself then puts a backslash before
//! `\`, `'` and `"` (grub-core/loader/cmdline.c), which the kernel would take as it is: an option with one of these is left out.

use super::command_line::{KernelOption, console, how_to_arm, left_out, options, split_url, url};
use crate::boot::{ImageBoot, ImageStart, Launch, Menu};
use crate::model::{Arch, Firmware};
use std::fmt::Write as _;

/// One word, whatever it holds. Line ends cannot come in: `console`, `url` and the kernel's rules took them out before.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// GRUB's name of a file behind an HTTP URL: `(http,HOST[:PORT])/PATH`. Ports need GRUB 2.12, or a distro's older one with that patch.
fn file(from: &str) -> String {
    let from = url(from);
    match split_url(&from) {
        Some((host, path)) => quoted(&format!("(http,{host}){path}")),
        None => quoted(&from),
    }
}

/// The option as one GRUB word; GRUB adds the kernel's quotes around blanks itself.
fn word(option: &KernelOption) -> Option<String> {
    option.word()?;
    let bare = match &option.value {
        Some(value) => format!("{}={value}", option.key),
        None => option.key.clone(),
    };
    (!bare.contains(['\\', '\'', '"'])).then(|| quoted(&bare))
}

/// Where installed systems keep their loaders on the EFI partition, by the name of the folder.
const FOLDERS: [&str; 13] = [
    "debian",
    "ubuntu",
    "rocky",
    "almalinux",
    "centos",
    "redhat",
    "fedora",
    "oracle",
    "opensuse",
    "sles",
    "suse",
    "arch",
    "systemd",
];

fn loader_paths(firmware: Option<Firmware>) -> Vec<String> {
    let suffixes: &[&str] = match firmware.and_then(Firmware::arch) {
        Some(Arch::X86_64) => &["x64"],
        Some(Arch::Aarch64) => &["aa64"],
        Some(Arch::I386) => &["ia32"],
        _ => &["x64", "aa64"],
    };
    let mut paths = Vec::new();
    for suffix in suffixes {
        for folder in FOLDERS {
            match folder {
                "systemd" => paths.push(format!("/EFI/systemd/systemd-boot{suffix}.efi")),
                folder => {
                    paths.push(format!("/EFI/{folder}/shim{suffix}.efi"));
                    paths.push(format!("/EFI/{folder}/grub{suffix}.efi"));
                }
            }
        }
    }
    paths.push("/EFI/Microsoft/Boot/bootmgfw.efi".to_owned());
    paths.extend(
        suffixes
            .iter()
            .map(|suffix| format!("/EFI/BOOT/BOOT{}.EFI", suffix.to_uppercase())),
    );
    paths
}

/// How GRUB leaves for the own disk: on BIOS the firmware goes on to it; on UEFI the disk's own loader is found and started.
fn own_disk(firmware: Option<Firmware>) -> String {
    if firmware == Some(Firmware::Bios) {
        return "exit\n".to_owned();
    }
    let mut out = String::from("if [ \"$grub_platform\" = efi ]; then\n");
    for module in ["part_gpt", "part_msdos", "fat", "chain", "search_fs_file"] {
        let _ = writeln!(out, "  insmod {module}");
    }
    out.push_str("  for loader in");
    for path in loader_paths(firmware) {
        let _ = write!(out, " \\\n    {path}");
    }
    out.push_str("; do\n    if search --no-floppy --file --set=found \"$loader\"; then\n");
    out.push_str("      echo \"Cordwainer: starting ($found)$loader\"\n");
    out.push_str(
        "      if chainloader \"($found)$loader\"; then\n        boot\n      fi\n    fi\n  done\nfi\nexit 1\n",
    );
    out
}

/// Starts an installer; three tries, then the own disk.
pub(super) fn launch(launch: &Launch) -> String {
    let mut words = vec![file(&launch.kernel)];
    let mut missing = Vec::new();
    for option in options(&launch.options) {
        match word(&option) {
            Some(word) => words.push(word),
            None => missing.push(option.key),
        }
    }
    let words = words.join(" ");
    let initrds: Vec<String> = launch.initrd.iter().map(|from| file(from)).collect();
    let initrds = initrds.join(" ");
    let said = format!(
        "Cordwainer: installing {} with profile {}",
        launch.system, launch.profile
    );
    let mut out = format!("echo {}\n", quoted(&console(&said)));
    if let Some(line) = left_out(&missing) {
        let _ = writeln!(out, "echo {}", quoted(&console(&line)));
    }
    out.push_str("insmod http\nfor attempt in 1 2 3; do\n");
    let start = |out: &mut String, linux: &str, initrd: &str| {
        let _ = writeln!(out, "{linux} {words}; then");
        if initrds.is_empty() {
            out.push_str("    boot\n");
        } else {
            let _ = writeln!(out, "    if {initrd} {initrds}; then\n      boot\n    fi");
        }
    };
    start(&mut out, "  if linux", "initrd");
    if launch.firmware != Some(Firmware::Bios) {
        // With Secure Boot the GRUB of EL7 and older boots by these alone.
        start(&mut out, "  elif linuxefi", "initrdefi");
    }
    out.push_str("  fi\n  echo 'Cordwainer: the installer did not start; the line above says why'\n  sleep 5\ndone\n");
    out.push_str("echo 'Cordwainer: tried 3 times; booting from the own disk'\n");
    out.push_str(&own_disk(launch.firmware));
    out
}

/// Boots an image, or the own disk where it cannot be had. On UEFI a file that is no Linux kernel is started as a program of the firmware.
pub(super) fn image(boot: &ImageBoot) -> String {
    let said = format!("Cordwainer: {} boots image {}, once", boot.system, boot.image);
    let mut out = format!("echo {}\n", quoted(&console(&said)));
    let (mut words, mut missing) = (Vec::new(), Vec::new());
    for option in options(&boot.options) {
        match word(&option) {
            Some(word) => words.push(word),
            None => missing.push(option.key),
        }
    }
    if let Some(line) = left_out(&missing) {
        let _ = writeln!(out, "echo {}", quoted(&console(&line)));
    }
    let line = |first: Vec<String>| [first, words.clone()].concat().join(" ");
    let from = file(&boot.url);
    out.push_str("insmod http\n");
    match &boot.start {
        ImageStart::Kernel => {
            let kernel = line(vec![from.clone()]);
            let _ = writeln!(
                out,
                "if [ \"$grub_platform\" = efi ]; then\n  if linux {kernel}; then\n    boot\n  elif chainloader {from}; then\n    boot\n  \
                 fi\nelif linux16 {kernel}; then\n  boot\nfi"
            );
        }
        ImageStart::Memdisk { memdisk, words } => {
            let first = line(vec![file(memdisk), (*words).to_owned()]);
            let _ = writeln!(
                out,
                "if linux16 {first}; then\n  if initrd16 {from}; then\n    boot\n  fi\nfi"
            );
        }
        // Only iPXE has such drives, and only its scripts are given one.
        ImageStart::Drive => {}
    }
    out.push_str("echo 'Cordwainer: the image did not start; booting from the own disk'\nsleep 5\n");
    out.push_str(&own_disk(boot.firmware));
    out
}

/// Boots the own disk.
pub(super) fn local(firmware: Option<Firmware>, because: &str) -> String {
    let said = console(&format!("Cordwainer: booting from the own disk: {because}"));
    format!("echo {}\n{}", quoted(&said), own_disk(firmware))
}

/// A menu whose choices only tell how to arm, then ask for the script again.
pub(super) fn menu(menu: &Menu) -> String {
    let seconds = menu.timeout_ms.div_ceil(1000);
    let mut out = format!("set default=0\nset timeout={seconds}\nmenuentry 'Boot from the own disk' {{\n");
    out.push_str(&own_disk(menu.firmware));
    out.push_str("}\n");
    items(&mut out, menu, None);
    out
}

/// The profiles and menus that stand in one menu. Menus within each other are no deeper than the inventory's.
fn items(out: &mut String, menu: &Menu, group: Option<usize>) {
    for (place, one) in menu.groups_in(group) {
        let _ = writeln!(out, "submenu {} {{", quoted(&console(&one.title)));
        items(out, menu, Some(place));
        out.push_str("}\n");
    }
    for (_, entry) in menu.entries_in(group) {
        let title = console(&format!("Install {} (this machine is not armed)", entry.title));
        let command = console(&how_to_arm(entry.profile.as_str(), "MAC"));
        let _ = writeln!(out, "menuentry {} {{", quoted(&title));
        let _ = writeln!(
            out,
            "  echo 'To install this machine, type on the server, with its hardware address as MAC:'"
        );
        let _ = writeln!(out, "  echo {}", quoted(&command));
        out.push_str("  echo \"This machine: $net_default_mac. Then press Enter here.\"\n  read answer\n");
        out.push_str("  configfile \"$config_file\"\n}\n");
    }
}
