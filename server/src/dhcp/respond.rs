//! `respond`: one packet, one outcome. Which reply, to where, which rows must be on disk before it leaves, and what is said about it.
//!
//! Pure. The only state it changes is the lease table that it is given. The state task runs it, tests and fuzzing call exactly it.

use super::emit::{Draft, emit};
use super::identity::{self, By, Record};
use super::leases::{Change, Leases};
use super::packet::{Client, MessageType, Op, Packet, code};
use super::{authoritative, proxy};
use crate::boot::{self, Answer, Ask, BootFile, Effect, Facts, FoundBy, World};
use crate::config::DhcpMode;
use crate::event::{Event, What};
use crate::model::{Mac, Subnet, Timestamp};
use ipnet::Ipv4Net;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where DHCP servers listen.
pub const SERVER_PORT: u16 = 67;
/// Where DHCP clients listen.
pub const CLIENT_PORT: u16 = 68;
/// Where PXE clients ask a proxy for the boot file (PXE 2.1 section 2.2.4).
pub const PROXY_PORT: u16 = 4011;

/// The facts of a served interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// `eth0`.
    pub name: String,
    /// The kernel's number of it.
    pub index: u32,
    /// Our addresses on it, each with its network.
    pub addresses: Vec<Ipv4Net>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Longest IP packet in bytes.
    pub mtu: u32,
}

/// Where a reply goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To the relay, port 67.
    Relay(SocketAddrV4),
    /// To a client that has its address.
    Unicast(SocketAddrV4),
    /// To 255.255.255.255, port 68.
    Broadcast,
    /// To a client that has no address yet, by its hardware address (RFC 2131 section 4.1).
    Raw {
        /// Its hardware address.
        mac: Mac,
        /// The address that it is given.
        address: Ipv4Addr,
    },
    /// To a PXE client that asked on port 4011, to the port it asked from.
    ProxyUnicast(SocketAddrV4),
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The DHCP message.
    pub bytes: Vec<u8>,
    /// Where it goes.
    pub destination: Destination,
    /// The address that it comes from: the server identifier.
    pub source: Ipv4Addr,
}

/// What a packet leads to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What to send once `change` is on disk; silence has its reason among `events`.
    pub reply: Option<Reply>,
    /// What to send instead when `change` could not be stored: a renewal for the time that the stored lease still has.
    pub fallback: Option<Reply>,
    /// Rows that must be on disk before `reply` leaves, and how to take them back. An OFFER has none.
    pub change: Option<Change>,
    /// Effects of the decision.
    pub effects: Vec<Effect>,
    /// What happened, for the log.
    pub events: Vec<Event>,
}

/// Answers one packet.
#[must_use]
pub fn respond(world: &World, link: &Link, leases: &mut Leases, packet: &Packet, now: Timestamp) -> Outcome {
    let asking = Asking::new(world, link, leases, packet, now);
    let mut outcome = Outcome::default();
    if packet.op == Op::Reply {
        return outcome;
    }
    let message = packet.message();
    if message.is_none() && packet.option(code::MESSAGE_TYPE).is_some() {
        asking.ignore(&mut outcome, "its message type (option 53) is none that there is");
        return outcome;
    }
    asking.say(
        &mut outcome,
        What::DhcpReceived {
            message: asking.message_word().to_owned(),
            firmware: packet.firmware().map(|firmware| firmware.to_string()),
            client: asking.client_words(),
        },
    );
    let Some(mac) = packet.mac() else {
        asking.ignore(
            &mut outcome,
            format!(
                "hardware type {} with an address of {} bytes; only machines with a MAC address are served",
                packet.htype, packet.hlen
            ),
        );
        return outcome;
    };
    if link.mac == Some(mac) {
        asking.ignore(&mut outcome, "it is this server's own interface");
        return outcome;
    }
    match (world.config.dhcp, message) {
        (DhcpMode::Off, _) => asking.ignore(&mut outcome, "[dhcp] mode = \"off\""),
        (DhcpMode::Proxy, Some(message)) => proxy::respond(&asking, mac, message, leases, &mut outcome),
        (DhcpMode::Proxy, None) => asking.ignore(&mut outcome, "plain BOOTP, and addresses are another server's"),
        (DhcpMode::Authoritative, message) => authoritative::respond(&asking, mac, message, leases, &mut outcome),
    }
    outcome
}

/// One packet with all that answering it needs.
pub(super) struct Asking<'a> {
    pub(super) world: &'a World,
    pub(super) link: &'a Link,
    pub(super) packet: &'a Packet,
    pub(super) now: Timestamp,
    /// Our address towards this client.
    pub(super) server: Ipv4Addr,
    /// Our identity towards it (option 54): our address, or what its relay says in 82.11.
    pub(super) identifier: Ipv4Addr,
    /// The subnet that the client is on and those that share its link, or why it is on none of ours.
    pub(super) network: Result<Vec<&'a Subnet>, String>,
    /// The record of the machine.
    pub(super) record: Option<Record>,
}

/// The boot part of a reply.
pub(super) enum BootPart {
    /// No reply at all, and why.
    Silence(String),
    /// This file, by this rule.
    File(BootFile, String),
}

impl<'a> Asking<'a> {
    fn new(world: &'a World, link: &'a Link, leases: &Leases, packet: &'a Packet, now: Timestamp) -> Self {
        let known = |address: &Ipv4Addr| link.addresses.iter().any(|net| net.addr() == *address);
        let towards = |target: Ipv4Addr| {
            link.addresses
                .iter()
                .find(|net| net.contains(&target))
                .map(Ipv4Net::addr)
        };
        // A client that names one of our addresses goes on with that one; others get the address of their own network.
        let server = packet
            .server_id()
            .filter(known)
            .or_else(|| towards(packet.ciaddr))
            .or_else(|| towards(packet.giaddr))
            .or_else(|| {
                let served = |net: &&Ipv4Net| world.config.subnet_of(net.addr()).is_some();
                link.addresses.iter().find(served).map(Ipv4Net::addr)
            })
            .or_else(|| link.addresses.first().map(Ipv4Net::addr))
            .or(world.config.address)
            .unwrap_or(Ipv4Addr::UNSPECIFIED);
        let network = identity::network(world, link, packet);
        let subnets = network.as_deref().unwrap_or_default();
        let record = identity::record(world, packet, subnets, leases, now);
        Self {
            world,
            link,
            packet,
            now,
            server,
            identifier: identity::server_override(&world.config, packet).unwrap_or(server),
            network,
            record,
        }
    }

    /// True when `address` is this server.
    pub(super) fn is_us(&self, address: Ipv4Addr) -> bool {
        self.world.config.address == Some(address) || self.link.addresses.iter().any(|net| net.addr() == address)
    }

    /// True when the client means this server by `address`, as option 54 has it.
    pub(super) fn names_us(&self, address: Ipv4Addr) -> bool {
        self.identifier == address || self.is_us(address)
    }

    /// True when the machine's MAC is on record.
    pub(super) fn is_known(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.by == By::Mac)
    }

    /// `DISCOVER`, or `BOOTP` for a client of before DHCP.
    pub(super) fn message_word(&self) -> &'static str {
        self.packet.message().map_or("BOOTP", MessageType::as_str)
    }

    /// Asks [`boot::decide`] for the boot part. `address` is what the client has or gets.
    pub(super) fn boot(&self, mac: Mac, address: Option<Ipv4Addr>, outcome: &mut Outcome) -> BootPart {
        let client = self.packet.client();
        let request = boot::Request {
            facts: Facts {
                mac: Some(mac),
                found_by: FoundBy::Chaddr,
                firmware: self.packet.firmware().filter(|_| client != Client::Other),
                ipxe: self.packet.ipxe(),
                vendor_class: self.packet.vendor_class(),
                uuid: self.packet.uuid(),
                peer: address,
                ..Facts::nobody(self.world.config.address.unwrap_or(self.server))
            },
            ask: Ask::BootFile,
        };
        let decision = boot::decide(self.world, &request);
        match decision.answer {
            Answer::BootFile(file) => {
                outcome.effects.extend(decision.effects);
                // An answer is told by the name of its rule; `boot explain` has the rest. Silence needs its whole reason.
                let rule = match decision.trace.verdict() {
                    Some(rule) if file != BootFile::None => rule.name.clone(),
                    _ => decision.trace.to_string(),
                };
                BootPart::File(file, rule)
            }
            // Every other answer has no place in a DHCP reply.
            _ => BootPart::Silence(decision.trace.to_string()),
        }
    }

    /// Writes the boot part into a reply, in the shape that the client's firmware reads.
    pub(super) fn put_boot(&self, draft: &mut Draft, file: &BootFile) {
        if let Some(id) = self.packet.option(code::MACHINE_ID)
            && self.packet.client() != Client::Other
        {
            // PXE 2.1 table 2-1: the client drops offers without its own identifier.
            draft.put(code::MACHINE_ID, id);
        }
        match file {
            BootFile::None => {}
            BootFile::Tftp { file, server } => {
                draft.siaddr = *server;
                draft.file.clone_from(file);
                if self.packet.asks_for(code::TFTP_SERVER) {
                    draft.put(code::TFTP_SERVER, server.to_string());
                }
                if self.packet.asks_for(code::BOOT_FILE) || file.len() > 127 {
                    draft.put(code::BOOT_FILE, file.as_bytes());
                }
            }
            BootFile::Url(url) => {
                draft.siaddr = self.world.config.address.unwrap_or(self.server);
                draft.file.clone_from(url);
                draft.put(code::BOOT_FILE, url.as_bytes());
                if self.packet.client() == Client::Http {
                    // UEFI 2.10 section 24.7.2: without the echoed class it is no HTTP Boot offer.
                    draft.put(code::VENDOR_CLASS, *b"HTTPClient");
                }
            }
        }
    }

    /// RFC 6842: the identifier comes back as it came.
    pub(super) fn put_client_id(&self, draft: &mut Draft) {
        if let Some(id) = self.packet.option(code::CLIENT_ID) {
            draft.put(code::CLIENT_ID, id);
        }
    }

    /// The reply as bytes, with the place it goes to.
    pub(super) fn reply(&self, draft: &Draft) -> Reply {
        Reply {
            bytes: emit(self.packet, draft, self.link.mtu),
            destination: self.destination(draft),
            source: self.server,
        }
    }

    /// RFC 2131 section 4.1, and port 4011 of PXE.
    fn destination(&self, draft: &Draft) -> Destination {
        let packet = self.packet;
        if !packet.giaddr.is_unspecified() && !draft.past_relay {
            return Destination::Relay(SocketAddrV4::new(packet.giaddr, SERVER_PORT));
        }
        if packet.port == PROXY_PORT && !packet.source.ip().is_unspecified() {
            return Destination::ProxyUnicast(packet.source);
        }
        if draft.message == Some(MessageType::Nak) {
            return Destination::Broadcast;
        }
        if !packet.ciaddr.is_unspecified() {
            return Destination::Unicast(SocketAddrV4::new(packet.ciaddr, CLIENT_PORT));
        }
        match packet.mac() {
            Some(mac) if packet.is_ethernet() && !packet.wants_broadcast() && !draft.yiaddr.is_unspecified() => {
                Destination::Raw {
                    mac,
                    address: draft.yiaddr,
                }
            }
            _ => Destination::Broadcast,
        }
    }

    /// Notes an event about this client.
    pub(super) fn say(&self, outcome: &mut Outcome, what: What) {
        outcome.events.push(Event {
            at: self.now,
            mac: self.packet.mac(),
            system: self.record.as_ref().map(|record| record.system.name.clone()),
            peer: Some(self.packet.ciaddr)
                .filter(|address| !address.is_unspecified())
                .map(Into::into),
            what,
        });
    }

    /// Notes why there is no answer.
    pub(super) fn ignore(&self, outcome: &mut Outcome, reason: impl Into<String>) {
        let message = self.message_word().to_owned();
        self.say(
            outcome,
            What::DhcpIgnored {
                message,
                reason: reason.into(),
            },
        );
    }

    /// Notes the answer that leaves.
    pub(super) fn answered(&self, outcome: &mut Outcome, draft: &Draft, rule: String) {
        let file = draft
            .options
            .get(&code::BOOT_FILE)
            .map_or(draft.file.as_bytes(), Vec::as_slice);
        self.say(
            outcome,
            What::DhcpAnswered {
                message: draft.message.map_or("BOOTREPLY", MessageType::as_str).to_owned(),
                address: Some(draft.yiaddr).filter(|address| !address.is_unspecified()),
                file: Some(file)
                    .filter(|file| !file.is_empty())
                    .map(|file| String::from_utf8_lossy(file).into_owned()),
                rule,
                durable_us: None,
            },
        );
    }

    /// The effect that ties the address to the machine for the next minute (DESIGN 3).
    pub(super) fn seen(&self, mac: Mac, address: Ipv4Addr) -> Effect {
        Effect::Seen {
            mac,
            address,
            firmware: self.packet.firmware(),
            loader: false,
        }
    }

    fn client_words(&self) -> Option<String> {
        match self.packet.client() {
            Client::Ipxe(ipxe) => Some(match ipxe.version {
                Some((a, b, c)) => format!("iPXE {a}.{b}.{c}"),
                None => "iPXE".to_owned(),
            }),
            Client::Pxe => Some("PXEClient".to_owned()),
            Client::Http => Some("HTTPClient".to_owned()),
            Client::Other => self.packet.vendor_class(),
        }
    }
}
