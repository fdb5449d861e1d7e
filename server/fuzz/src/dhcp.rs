//! DHCP from bytes to bytes: several packets in a row against one lease table, on a link or through a relay, as server and as proxy.

use super::input::Input;
use super::ledger::Ledger;
use super::world::{address, link, world};
use cordwainer::config::DhcpMode;
use cordwainer::dhcp::packet::sub_options;
use cordwainer::dhcp::wall;
use std::net::SocketAddrV4;
use std::time::Duration;

/// Packets of one input.
const PACKETS: usize = 8;

/// One byte chooses the world; then packets, each after a word of its length and one byte of circumstances.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let choice = input.byte();
    let mode = match choice & 3 {
        0 | 1 => DhcpMode::Authoritative,
        2 => DhcpMode::Proxy,
        _ => DhcpMode::Off,
    };
    let mtu = [1500, 576, 9000, 68][usize::from(choice >> 2 & 3)];
    let mut ledger = Ledger::new(world(mode), link(mtu));
    for _ in 0..PACKETS {
        if input.is_empty() {
            break;
        }
        let length = usize::from(input.word());
        let circumstances = input.byte();
        let bytes = input.take(length);
        let Ok(packet) = wall::parse(bytes) else { continue };
        read_everything(&packet);
        let (source, port) = match circumstances & 3 {
            0 => (SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 68), 67),
            1 => (SocketAddrV4::new(address(1), 68), 67),
            2 => (SocketAddrV4::new(address(2), 4011), 4011),
            _ => (SocketAddrV4::new(packet.giaddr, 67), 67),
        };
        let packet = packet.arrived(source, port);
        let wait = [0, 0, 1, 9, 11, 1800, 3601, 86_400][usize::from(circumstances >> 2 & 7)];
        ledger.now = ledger.now.plus(Duration::from_secs(wait));
        ledger.hear(&packet, circumstances & 0x20 != 0);
        if circumstances & 0x40 != 0 {
            ledger.crash();
        }
    }
    ledger.settle();
}

/// Every accessor of a packet is total, and shows text escaped and bounded.
pub fn read_everything(packet: &cordwainer::dhcp::Packet) {
    for text in [packet.vendor_class(), packet.hostname(), packet.uuid()]
        .into_iter()
        .flatten()
    {
        assert!(
            text.len() <= 255 && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{text:?}"
        );
    }
    let _ = (
        packet.archs(),
        packet.firmware(),
        packet.ipxe(),
        packet.client(),
        packet.max_size(),
    );
    for bytes in packet.options.values() {
        let sub = sub_options(bytes);
        assert!(sub.values().map(Vec::len).sum::<usize>() <= bytes.len());
    }
}
