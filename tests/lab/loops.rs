//! The main job with Cordwainer: each firmware installs the lab distro from the network, and from then on boots its own disk, while the
//! network stays first in its boot order. What is asserted is the order and the content of events, never their times.

use super::distro;
use super::events::{Events, Seen, seen};
use super::need;
use super::netns::Net;
use super::peers;
use super::server::{ADDRESS_NET, AUTHORITATIVE, PROXY, Server, ready};
use super::vm::{Firmware, Machine};
use crate::iso::medium::{XORRISO, press};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const INSTALLER: Seen = seen("SCRIPT", &[("dialect", "ipxe"), ("gives", "install")]);
const OWN_DISK: Seen = seen("SCRIPT", &[("dialect", "ipxe"), ("gives", "local boot")]);
const KERNEL: Seen = seen(
    "HTTP_SENT",
    &[("role", "kernel"), ("path", "boot/vmlinuz"), ("status", "200")],
);

/// From the boot script to the own disk: the same for every firmware.
const INSTALLATION: &[Seen] = &[
    INSTALLER,
    KERNEL,
    seen(
        "HTTP_SENT",
        &[("role", "initrd"), ("path", "boot/initrd.img"), ("status", "200")],
    ),
    seen("ANSWER_FILE", &[("file", "answer"), ("template", "lab/answer")]),
    seen("STAGE", &[("stage", "started"), ("reported", "true")]),
    seen("STAGE", &[("stage", "partitioning"), ("reported", "true")]),
    seen("STAGE", &[("stage", "packages"), ("reported", "true")]),
    seen("STAGE", &[("stage", "bootloader"), ("reported", "true")]),
    seen("INSTALLED", &[]),
];

const OFFER: Seen = seen("DHCP_ANSWERED", &[("message", "OFFER")]);

/// Installs a machine and lets it boot again. `boot` is what comes before each boot script.
fn goes_round(server: &mut Server<'_>, firmware: Firmware, boot: &[Seen]) -> Events {
    server.import_lab();
    installs(server, firmware, boot)
}

/// The same, from what is imported as `lab`.
fn installs(server: &mut Server<'_>, firmware: Firmware, boot: &[Seen]) -> Events {
    let mut machine = Machine::new("loop", firmware);
    server.add("web1", "lab", &machine, &[]);
    assert_eq!(server.state("web1"), "idle");
    server.arm("web1");
    assert_eq!(server.state("web1"), "armed");
    let mut events = server.events("web1");
    let mut vm = machine.power_on(server.net());
    events.wait_for(boot);
    events.wait_for(INSTALLATION);
    assert_eq!(server.state("web1"), "installed");
    events.wait_for(boot);
    events.wait_for(&[OWN_DISK, seen("BOOTED_FROM_DISK", &[])]);
    vm.wait_for("lab-system: booted from disk web1");
    vm.power_cut();
    assert_eq!(server.state("web1"), "installed");
    assert_eq!(events.count(seen("CLAIMED", &[])), 1, "one installation");
    assert_eq!(events.count(KERNEL), 1, "the installer was started once");
    for unwanted in ["FAILED", "HELD", "ANSWER_REFUSED", "HTTP_BROKEN", "STORE_FAILED"] {
        events.none(Seen::coded(unwanted));
    }
    events
}

fn alone(firmware: Firmware, boot: &[Seen]) -> Events {
    let net = Net::new(&[ADDRESS_NET]);
    let mut server = Server::start(&net, AUTHORITATIVE);
    goes_round(&mut server, firmware, boot)
}

fn beside_dnsmasq(firmware: Firmware, boot: &[Seen]) -> Events {
    let net = Net::new(&[ADDRESS_NET]);
    let neighbour = net.host("dhcp", Some("10.77.0.2/24"));
    let _dnsmasq = peers::plain_dhcp(&neighbour);
    let mut server = Server::start(&net, PROXY);
    goes_round(&mut server, firmware, boot)
}

const SCRIPT_URL: Seen = seen("DHCP_ANSWERED", &[("message", "ACK"), ("file", "http://10.77.0.1/b/")]);

#[test]
fn bios_with_ipxe_in_its_rom() {
    if !ready("bios_with_ipxe_in_its_rom", &[]) {
        return;
    }
    let events = alone(
        Firmware::BiosIpxeRom,
        &[
            seen(
                "DHCP_RECEIVED",
                &[("message", "DISCOVER"), ("firmware", "BIOS"), ("client", "iPXE")],
            ),
            OFFER,
            SCRIPT_URL,
        ],
    );
    events.none(seen("TFTP_SENT", &[]));
}

#[test]
fn from_an_iso_that_is_never_unpacked() {
    if !ready("from_an_iso_that_is_never_unpacked", &[XORRISO]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let image = dir.path().join("lab.iso");
    press(distro::tree(), &image, &["-r", "-J", "-V", "LAB"]);
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).unwrap();
        (metadata.len(), metadata.modified().unwrap())
    };
    let before = stamp(&image);
    let net = Net::new(&[ADDRESS_NET]);
    let mut server = Server::start(&net, AUTHORITATIVE);
    let said = server.cli(&[
        "import",
        "--path",
        image.to_str().unwrap(),
        "--name",
        "lab",
        "--in-place",
    ]);
    assert!(said.contains(&format!("straight out of {}", image.display())), "{said}");
    installs(
        &mut server,
        Firmware::BiosIpxeRom,
        &[
            seen("DHCP_RECEIVED", &[("message", "DISCOVER"), ("client", "iPXE")]),
            OFFER,
            SCRIPT_URL,
        ],
    );
    assert_eq!(stamp(&image), before, "the image is only read");
}

#[test]
fn bios_through_undionly() {
    if !ready("bios_through_undionly", &[]) {
        return;
    }
    let events = alone(
        Firmware::BiosUndionly,
        &[
            seen(
                "DHCP_RECEIVED",
                &[("message", "DISCOVER"), ("firmware", "BIOS"), ("client", "PXEClient")],
            ),
            seen("DHCP_ANSWERED", &[("message", "ACK"), ("file", "undionly.kpxe")]),
            seen("TFTP_SENT", &[("file", "undionly.kpxe")]),
            SCRIPT_URL,
        ],
    );
    assert_eq!(events.count(seen("TFTP_SENT", &[])), 2, "one loader for each boot");
}

#[test]
fn uefi_with_its_own_pxe() {
    if !ready("uefi_with_its_own_pxe", &[]) {
        return;
    }
    let events = alone(
        Firmware::OvmfPxe,
        &[
            seen(
                "DHCP_RECEIVED",
                &[("message", "DISCOVER"), ("firmware", "UEFI"), ("client", "PXEClient")],
            ),
            seen("DHCP_ANSWERED", &[("message", "ACK"), ("file", "snponly.efi")]),
            seen("TFTP_SENT", &[("file", "snponly.efi")]),
            SCRIPT_URL,
        ],
    );
    // Its next entry is HTTP Boot, which asks once more before the disk has its turn.
    assert_eq!(events.count(seen("TFTP_SENT", &[])), 2, "one loader for each boot");
}

#[test]
fn uefi_with_http_boot() {
    if !ready("uefi_with_http_boot", &[]) {
        return;
    }
    let events = alone(
        Firmware::OvmfHttp,
        &[
            seen("DHCP_RECEIVED", &[("message", "DISCOVER"), ("client", "HTTPClient")]),
            seen(
                "DHCP_ANSWERED",
                &[("message", "ACK"), ("file", "http://10.77.0.1/l/snponly.efi")],
            ),
            seen("HTTP_SENT", &[("role", "loader"), ("path", "snponly.efi")]),
            SCRIPT_URL,
        ],
    );
    events.none(seen("TFTP_SENT", &[]));
}

#[test]
fn proxy_beside_dnsmasq_ipxe_in_the_rom() {
    if !ready("proxy_beside_dnsmasq_ipxe_in_the_rom", &[need::DNSMASQ]) {
        return;
    }
    let events = beside_dnsmasq(
        Firmware::BiosIpxeRom,
        &[seen(
            "DHCP_ANSWERED",
            &[("message", "OFFER"), ("file", "http://10.77.0.1/b/"), ("address", "")],
        )],
    );
    events.none(seen("TFTP_SENT", &[]));
}

#[test]
fn proxy_beside_dnsmasq_uefi_with_its_own_pxe() {
    if !ready("proxy_beside_dnsmasq_uefi_with_its_own_pxe", &[need::DNSMASQ]) {
        return;
    }
    let events = beside_dnsmasq(
        Firmware::OvmfPxe,
        &[
            // In the offer itself or, where the firmware did not take it up, from port 4011.
            seen("DHCP_ANSWERED", &[("file", "snponly.efi"), ("address", "")]),
            seen("TFTP_SENT", &[("file", "snponly.efi")]),
            seen("DHCP_ANSWERED", &[("file", "http://10.77.0.1/b/"), ("address", "")]),
        ],
    );
    assert_eq!(events.count(seen("TFTP_SENT", &[])), 2, "one loader for each boot");
}
