//! Leases against a model: every byte a step of some machine, so that a few of them reach every state of the table.

use super::input::Input;
use super::ledger::Ledger;
use super::world::{RELAY, SERVER, link, mac, world};
use cordwainer::config::DhcpMode;
use cordwainer::dhcp::packet::{Op, code};
use cordwainer::dhcp::{MessageType, Packet};
use cordwainer::model::Mac;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// Steps of one input.
const STEPS: usize = 128;

/// Four bytes a step: who, what, which address, circumstances.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut ledger = Ledger::new(world(DhcpMode::Authoritative), link(1500));
    let mut offers: BTreeMap<Mac, Ipv4Addr> = BTreeMap::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let (who, what, which, how) = (input.byte(), input.byte(), input.byte(), input.byte());
        let machine = mac(who % 48);
        let any = if how & 1 == 0 {
            Ipv4Addr::new(192, 168, 77, which % 40)
        } else {
            Ipv4Addr::new(10, 5, 0, which)
        };
        let own = ledger.address_of(machine).unwrap_or(any);
        let offered = offers.get(&machine).copied().unwrap_or(any);
        let mut said = words(machine, MessageType::Request);
        match what % 16 {
            0..=2 => said = words(machine, MessageType::Discover),
            3 => said = with(words(machine, MessageType::Discover), code::REQUESTED_ADDRESS, any),
            4..=6 => said = with(with(said, code::REQUESTED_ADDRESS, offered), code::SERVER_ID, SERVER),
            7 => said = with(with(said, code::REQUESTED_ADDRESS, any), code::SERVER_ID, SERVER),
            8 => said.ciaddr = own,
            9 => said = with(said, code::REQUESTED_ADDRESS, own),
            10 => {
                said = with(
                    with(said, code::REQUESTED_ADDRESS, offered),
                    code::SERVER_ID,
                    Ipv4Addr::new(192, 168, 77, 7),
                )
            }
            11 => {
                said = with(words(machine, MessageType::Release), code::SERVER_ID, SERVER);
                said.ciaddr = own;
                said.source = SocketAddrV4::new(if how & 1 == 0 { own } else { any }, 68);
            }
            12 => {
                let decline = words(machine, MessageType::Decline);
                said = with(with(decline, code::REQUESTED_ADDRESS, own), code::SERVER_ID, SERVER);
            }
            13 => {
                said = words(machine, MessageType::Inform);
                said.ciaddr = any;
            }
            14 => said.ciaddr = any,
            _ => {
                ledger.crash();
                offers.clear();
                continue;
            }
        }
        if how & 2 != 0 {
            said.giaddr = RELAY;
            said.options.insert(code::RELAY_AGENT, vec![1, 2, which, how]);
        }
        if how & 4 != 0 {
            said.options
                .insert(code::VENDOR_CLASS, b"PXEClient:Arch:00000:UNDI:002001".to_vec());
        }
        if how & 8 != 0 {
            said.options.insert(code::LEASE_TIME, vec![0, 0, which, how]);
        }
        let wait = [0, 0, 0, 1, 10, 61, 3600, 50_000][usize::from(how >> 5)];
        ledger.now = ledger.now.plus(Duration::from_secs(wait));
        if let Some(reply) = ledger.hear(&said, how & 16 != 0)
            && reply.message() == Some(MessageType::Offer)
        {
            offers.insert(machine, reply.yiaddr);
        }
    }
    ledger.settle();
}

fn words(mac: Mac, message: MessageType) -> Packet {
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&mac.bytes());
    Packet {
        op: Op::Request,
        htype: 1,
        hlen: 6,
        hops: 0,
        xid: 7,
        secs: 0,
        flags: 0,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        siaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr,
        file: Vec::new(),
        options: BTreeMap::from([(code::MESSAGE_TYPE, vec![message.number()])]),
        bad_options: 0,
        cookie: true,
        source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        port: 67,
    }
}

fn with(mut packet: Packet, code: u8, address: Ipv4Addr) -> Packet {
    packet.options.insert(code, address.octets().to_vec());
    packet
}
