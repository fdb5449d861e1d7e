//! Packets of real firmware (QEMU's SeaBIOS, iPXE ROM and OVMF): each must get what it can boot.

use super::world::{SERVER, Site, add_system, answer, why};
use cordwainer::config::DhcpMode;
use cordwainer::dhcp::packet::Op;
use cordwainer::dhcp::{Client, Destination, MessageType, Packet, wall};
use std::path::{Path, PathBuf};

const SCRIPT: &str = "http://192.168.77.1/b/52-54-00-d8-65-c9/ipxe";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures")
}

/// Client packets of a classic pcap file of Ethernet frames, with what BOOTP they hold.
pub fn client_packets(file: &str) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(folder().join(file)).unwrap();
    assert_eq!(&bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1], "{file} is a little-endian pcap");
    let mut rest = &bytes[24..];
    let mut found = Vec::new();
    while let Some((header, tail)) = rest.split_at_checked(16) {
        let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        let (frame, tail) = tail.split_at(length.min(tail.len()));
        rest = tail;
        // Ethernet II, IPv4 without options, UDP to port 67 or 4011.
        if frame.len() > 42 && frame[12..14] == [8, 0] && frame[14] == 0x45 && frame[23] == 17 {
            let port = u16::from_be_bytes([frame[36], frame[37]]);
            if port == 67 || port == 4011 {
                found.push(frame[42..].to_vec());
            }
        }
    }
    found
}

pub fn files() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".pcap"))
        .collect();
    names.sort();
    names
}

fn packets(file: &str) -> Vec<Packet> {
    client_packets(file)
        .iter()
        .map(|bytes| wall::parse(bytes).unwrap())
        .filter(|packet| packet.op == Op::Request)
        .collect()
}

fn text(packet: &Packet, code: u8) -> String {
    String::from_utf8(packet.option(code).unwrap_or_default().to_vec()).unwrap()
}

/// Every whole capture: which client, the boot file that it must get, and whether it insists on broadcast.
const TABLE: &[(&str, &str, bool)] = &[
    ("pxebios.pcap", SCRIPT, false),
    ("pxenoproxy.pcap", SCRIPT, false),
    ("pxera.pcap", SCRIPT, false),
    ("pxeuefi.pcap", SCRIPT, false),
    ("pxeuefinat.pcap", "snponly.efi", true),
    ("uefihttp.pcap", "http://192.168.77.1/l/snponly.efi", true),
];

#[test]
fn each_firmware_gets_what_it_boots_where_we_give_the_addresses() {
    for (file, boots, broadcast) in TABLE {
        let mut site = Site::new(DhcpMode::Authoritative);
        let packets = packets(file);
        assert!(packets.len() >= 2, "{file}");
        let mut given = None;
        for packet in packets {
            // The REQUEST names the address that the server of the capture gave; ask for ours.
            let mut packet = packet;
            if let Some(address) = given
                && packet.options.contains_key(&50)
            {
                packet.options.insert(50, address);
            }
            let outcome = site.ask(&packet);
            let reply = answer(&outcome);
            let expected = match packet.message().unwrap() {
                MessageType::Discover => MessageType::Offer,
                _ => MessageType::Ack,
            };
            assert_eq!(reply.message(), Some(expected), "{file}: {:?}", why(&outcome));
            assert_eq!(reply.xid, packet.xid);
            assert_eq!(text(&reply, 67), *boots, "{file}");
            assert_eq!(reply.file, boots.as_bytes(), "{file}");
            assert_eq!(reply.siaddr, SERVER, "{file}");
            assert_eq!(reply.option(97), packet.option(97), "{file}");
            assert_eq!(reply.server_id(), Some(SERVER));
            let destination = outcome.reply.as_ref().unwrap().destination;
            assert_eq!(
                destination == Destination::Broadcast,
                *broadcast,
                "{file}: {destination:?}"
            );
            match packet.client() {
                Client::Ipxe(_) => assert_eq!(reply.option(175), Some(&[176, 1, 1][..]), "{file}"),
                Client::Http => assert_eq!(text(&reply, 60), "HTTPClient"),
                _ => assert_eq!(reply.option(60), None, "an address server says no PXEClient"),
            }
            assert_eq!(outcome.change.is_some(), expected == MessageType::Ack, "{file}");
            given = Some(reply.yiaddr.octets().to_vec());
        }
        assert_eq!(site.leases.rows().count(), 1, "{file}: one MAC, one row");
    }
}

#[test]
fn firmware_and_ipxe_of_one_machine_share_one_address() {
    // Secure Boot: iPXE's ROM runs first, is refused, and OVMF's own PXE follows with another identifier.
    let mut site = Site::new(DhcpMode::Authoritative);
    let discovers: Vec<Packet> = packets("pxeuefisb.pcap")
        .into_iter()
        .filter(|packet| packet.message() == Some(MessageType::Discover))
        .collect();
    assert_eq!(discovers.len(), 2);
    let replies: Vec<Packet> = discovers.iter().map(|packet| answer(&site.ask(packet))).collect();
    assert_eq!(replies[0].yiaddr, replies[1].yiaddr);
    assert_eq!(text(&replies[0], 67), SCRIPT);
    assert_eq!(text(&replies[1], 67), "snponly.efi");
}

#[test]
fn a_bios_without_ipxe_gets_undionly() {
    let mut packet = packets("pxenoproxy.pcap").remove(0);
    for code in [77, 175] {
        packet.options.remove(&code);
    }
    assert_eq!(packet.client(), Client::Pxe);
    let reply = answer(&Site::new(DhcpMode::Authoritative).ask(&packet));
    assert_eq!(reply.file, b"undionly.kpxe");
    assert_eq!(text(&reply, 67), "undionly.kpxe");
    assert_eq!(text(&reply, 66), "192.168.77.1");
}

#[test]
fn beside_another_server_known_machines_get_a_proxy_offer_and_strangers_nothing() {
    for (file, boots, _) in TABLE {
        let mut site = Site::new(DhcpMode::Proxy);
        let discover = packets(file).remove(0);
        let silent = site.ask(&discover);
        assert_eq!(silent.reply, None, "{file}");
        assert!(why(&silent).iter().any(|line| line.contains("not answered")));

        add_system(&mut site.world, "web1", discover.mac().unwrap(), None);
        let outcome = site.ask(&discover);
        let offer = answer(&outcome);
        assert!(offer.yiaddr.is_unspecified(), "a proxy gives no address");
        assert_eq!(offer.siaddr, SERVER);
        assert_eq!(offer.file, boots.as_bytes(), "{file}");
        assert_eq!(offer.option(97), discover.option(97));
        assert_eq!(offer.option(175), None, "no-pxedhcp would cut ourselves off");
        assert_eq!(offer.option(51), None);
        if discover.client() == Client::Http {
            assert_eq!(text(&offer, 60), "HTTPClient");
        } else {
            assert_eq!(text(&offer, 60), "PXEClient");
            assert_eq!(offer.option(43), Some(&[6, 1, 8, 255][..]));
        }
        assert_eq!(outcome.reply.unwrap().destination, Destination::Broadcast);
        assert_eq!(outcome.change, None);
        assert_eq!(site.leases.rows().count(), 0);
    }
}

#[test]
fn captures_that_were_cut_off_pass_the_wall_and_count() {
    // Taken with a snap length of 300: the fixed part and the first options are whole.
    for file in ["dfirst.pcap", "nexit.pcap", "nodhcp.pcap", "nofile.pcap"] {
        let cut = client_packets(file);
        assert!(!cut.is_empty(), "{file}");
        for bytes in cut {
            let packet = wall::parse(&bytes).unwrap();
            assert!(
                packet.message().is_some() && packet.bad_options == 1,
                "{file}: {packet:?}"
            );
        }
    }
}
