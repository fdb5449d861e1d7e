//! The boot part of a DHCP reply: which loader, or which URL, a firmware gets (DESIGN 5, the table).

use super::Deciding;
use crate::boot::{Answer, BootFile, Dialect, paths, quirks};
use crate::config::DhcpMode;
use crate::inventory;
use crate::model::{Firmware, Mac};

/// Chooses the boot file.
pub(super) fn choose(deciding: &mut Deciding<'_>) -> Answer {
    if deciding.world.config.dhcp == DhcpMode::Off {
        deciding.trace.held("dhcp off", "[dhcp] mode = \"off\"");
        return Answer::Silence;
    }
    let facts = deciding.facts;
    let (firmware, quirk) = quirks::firmware(facts);
    match quirk {
        Some(quirk) => deciding.trace.held(format!("quirk {}", quirk.name), quirk.symptom),
        None => deciding.trace.passed("quirks", "none is about this machine"),
    }
    let Some(mac) = facts.mac else {
        deciding
            .trace
            .held("no hardware address", "only Ethernet machines can be told apart");
        return Answer::Silence;
    };
    if facts.ipxe.is_none() && firmware.is_none() {
        return no_boot_client(deciding);
    }
    if deciding.system.is_none() && deciding.is_proxy() {
        deciding.trace.held(
            "unknown machine",
            format!("no system has {mac}; a proxy stays silent, so that it disturbs nobody"),
        );
        return Answer::Silence;
    }
    let answer = if facts.ipxe.is_some() {
        for_ipxe(deciding, mac, firmware)
    } else {
        firmware.map_or_else(|| BootFile::None, |firmware| for_firmware(deciding, mac, firmware))
    };
    if answer == BootFile::None && deciding.is_proxy() {
        return Answer::Silence;
    }
    Answer::BootFile(answer)
}

/// An operating system or an installer that wants an address, not a boot.
fn no_boot_client(deciding: &mut Deciding<'_>) -> Answer {
    if deciding.is_proxy() {
        deciding.trace.held(
            "no boot client",
            "the client does not boot from the network, and addresses are another server's",
        );
        Answer::Silence
    } else {
        deciding.trace.held("no boot client", "an address is all it wants");
        Answer::BootFile(BootFile::None)
    }
}

fn for_ipxe(deciding: &mut Deciding<'_>, mac: Mac, firmware: Option<Firmware>) -> BootFile {
    let script = paths::script(mac, Dialect::Ipxe);
    if deciding.facts.ipxe.is_some_and(|ipxe| ipxe.http) {
        deciding.trace.held("ipxe", "iPXE with HTTP: the script's URL at once");
        return BootFile::Url(format!("{}/{script}", deciding.base_url()));
    }
    // Once: our own loader can HTTP; if an iPXE without HTTP is still there afterwards, it gets the script by TFTP.
    let had_loader = deciding
        .world
        .installs
        .sightings
        .values()
        .any(|seen| seen.mac == mac && seen.loader && seen.is_fresh(deciding.world.now));
    if !had_loader
        && let Some(firmware) = firmware
        && let BootFile::Tftp { file, server } = for_firmware(deciding, mac, firmware)
    {
        deciding
            .trace
            .held("ipxe without http", format!("replaced once by {file}, which can"));
        return BootFile::Tftp { file, server };
    }
    deciding.trace.held("ipxe without http", "the script by TFTP");
    BootFile::Tftp {
        file: script,
        server: deciding.facts.local,
    }
}

/// Loader names per firmware and per `boot_loaders` word, best first. The first that is on the disk is used.
fn candidates(firmware: Firmware, word: &str) -> &'static [&'static str] {
    match (firmware, word) {
        (Firmware::Bios, "ipxe") => &["undionly.kpxe"],
        (Firmware::Bios, "pxe") => &["lpxelinux.0", "pxelinux.0"],
        (Firmware::UefiX64 | Firmware::HttpX64, "ipxe") => &["snponly.efi", "ipxe.efi"],
        (Firmware::UefiX64 | Firmware::HttpX64, "grub") => &["bootnetx64.efi", "grubnetx64.efi", "grubx64.efi"],
        (Firmware::UefiArm64 | Firmware::HttpArm64, "ipxe") => &["snponly-arm64.efi", "ipxe-arm64.efi"],
        (Firmware::UefiArm64 | Firmware::HttpArm64, "grub") => &["bootnetaa64.efi", "grubnetaa64.efi", "grubaa64.efi"],
        _ => &[],
    }
}

fn for_firmware(deciding: &mut Deciding<'_>, mac: Mac, firmware: Firmware) -> BootFile {
    let resolved = deciding
        .system
        .as_ref()
        .and_then(|system| inventory::resolve_system(&deciding.world.inventory, system.name.as_str()).ok());
    let wish = resolved.and_then(|resolved| resolved.boot_loaders);
    let (words, chosen_by) = match &wish {
        Some(wish) if !wish.value.is_empty() => (wish.value.clone(), format!("{} says so", wish.layer)),
        _ => (vec!["ipxe".to_owned()], "the usual one".to_owned()),
    };
    for word in &words {
        let names = candidates(firmware, word);
        let Some(name) = names
            .iter()
            .find(|name| deciding.world.assets.loaders.contains_key(**name))
        else {
            let why = match names.first() {
                Some(name) => format!("{name} is not on the disk; `cordwainer check` names its package"),
                None => format!("there is no {word} loader for {firmware}"),
            };
            deciding.trace.passed(format!("loader {word}"), why);
            continue;
        };
        deciding.trace.held(
            format!("firmware {firmware}"),
            format!("loader for {firmware} is {name}: {chosen_by}"),
        );
        if firmware.is_http() {
            return BootFile::Url(format!("{}/{}", deciding.base_url(), paths::loader(name)));
        }
        return BootFile::Tftp {
            file: (*name).to_owned(),
            server: deciding.facts.local,
        };
    }
    deciding
        .trace
        .held("no loader", format!("nothing can be sent to {firmware} {mac}"));
    BootFile::None
}
