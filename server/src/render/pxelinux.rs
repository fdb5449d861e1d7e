//! Boot scripts for PXELINUX.
//!
//! A line holds one directive and ends at the line end; nothing else ends a value, and APPEND passes the rest of its line to the kernel as
//! it stands. Files are named as TFTP names from the server's root (`::name`): pxelinux.0 knows no HTTP, lpxelinux.0 knows both.

use super::command_line::{console, how_to_arm, left_out, options, split_url, url};
use crate::boot::{ImageBoot, ImageStart, Launch, Menu};
use std::fmt::Write as _;

fn file(from: &str) -> String {
    let from = url(from);
    match split_url(&from) {
        Some((_, path)) => format!("::{}", path.trim_start_matches('/')),
        None => from,
    }
}

/// The firmware goes on to the next device of its list.
const OWN_DISK: &str = "LABEL own_disk\n  LOCALBOOT -1\n";

/// Starts an installer; when a file is missing, the own disk.
pub(super) fn launch(launch: &Launch) -> String {
    let mut words = Vec::new();
    let mut missing = Vec::new();
    for option in options(&launch.options) {
        match option.word() {
            Some(word) => words.push(word),
            None => missing.push(option.key),
        }
    }
    let said = format!(
        "Cordwainer: installing {} with profile {}",
        launch.system, launch.profile
    );
    let mut out = format!("SAY {}\n", console(&said));
    if let Some(line) = left_out(&missing) {
        let _ = writeln!(out, "SAY {}", console(&line));
    }
    out.push_str("DEFAULT install\nPROMPT 0\nTIMEOUT 1\nONERROR own_disk\nLABEL install\n");
    let _ = writeln!(out, "  KERNEL {}", file(&launch.kernel));
    let initrds: Vec<String> = launch.initrd.iter().map(|from| file(from)).collect();
    if !initrds.is_empty() {
        let _ = writeln!(out, "  INITRD {}", initrds.join(","));
    }
    if !words.is_empty() {
        let _ = writeln!(out, "  APPEND {}", words.join(" "));
    }
    // BOOTIF=01-MAC tells the installer which interface it came by.
    out.push_str("  IPAPPEND 2\n");
    out.push_str(OWN_DISK);
    out
}

/// Boots an image; when a file is missing, the own disk.
pub(super) fn image(boot: &ImageBoot) -> String {
    let (mut words, mut missing) = (Vec::new(), Vec::new());
    for option in options(&boot.options) {
        match option.word() {
            Some(word) => words.push(word),
            None => missing.push(option.key),
        }
    }
    let said = format!("Cordwainer: {} boots image {}, once", boot.system, boot.image);
    let mut out = format!("SAY {}\n", console(&said));
    if let Some(line) = left_out(&missing) {
        let _ = writeln!(out, "SAY {}", console(&line));
    }
    out.push_str("DEFAULT image\nPROMPT 0\nTIMEOUT 1\nONERROR own_disk\nLABEL image\n");
    match &boot.start {
        ImageStart::Kernel => {
            let _ = writeln!(out, "  LINUX {}", file(&boot.url));
        }
        ImageStart::Memdisk { memdisk, words: told } => {
            let _ = writeln!(out, "  LINUX {}\n  INITRD {}", file(memdisk), file(&boot.url));
            words.insert(0, (*told).to_owned());
        }
        // Only iPXE has such drives, and only its scripts are given one.
        ImageStart::Drive => out.push_str("  LOCALBOOT -1\n"),
    }
    if !words.is_empty() {
        let _ = writeln!(out, "  APPEND {}", words.join(" "));
    }
    out.push_str(OWN_DISK);
    out
}

/// Boots the own disk.
pub(super) fn local(because: &str) -> String {
    let said = console(&format!("Cordwainer: booting from the own disk: {because}"));
    format!("SAY {said}\nDEFAULT own_disk\nPROMPT 0\nTIMEOUT 1\n{OWN_DISK}")
}

/// A menu of words to type. Choosing a profile asks for the script again; it answers by what is armed.
pub(super) fn menu(menu: &Menu) -> String {
    let tenths = menu.timeout_ms.div_ceil(100).clamp(1, 35_996);
    let mut out = String::from("SAY Cordwainer: this machine is not armed, so nothing is installed. Type one of:\n");
    out.push_str("SAY   own_disk   boot from the own disk (what happens after the timeout)\n");
    out.push_str(&items(menu, None, 0));
    let _ = writeln!(out, "DEFAULT own_disk\nPROMPT 1\nTIMEOUT {tenths}\nONERROR own_disk");
    out.push_str(OWN_DISK);
    for entry in &menu.entries {
        let _ = writeln!(out, "LABEL {}\n  CONFIG pxelinux.cfg/default", entry.profile);
    }
    out
}

/// What is said of the profiles of one menu, those of menus within it below their titles: any word may be typed at any time.
fn items(menu: &Menu, group: Option<usize>, depth: usize) -> String {
    let mut out = String::new();
    let indent = " ".repeat(depth.saturating_mul(2));
    for (place, one) in menu.groups_in(group) {
        let _ = writeln!(out, "SAY {indent}{}", console(&format!(" {}:", one.title)));
        out.push_str(&items(menu, Some(place), depth.saturating_add(1)));
    }
    for (_, entry) in menu.entries_in(group) {
        let line = format!(
            "  {}   {}, once armed: {}",
            entry.profile,
            entry.title,
            how_to_arm(entry.profile.as_str(), "MAC")
        );
        let _ = writeln!(out, "SAY {indent}{}", console(&line));
    }
    out
}
