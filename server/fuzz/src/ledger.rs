//! A model of a DHCP server's promises: what it granted, what its disk holds, and what every reply must be.
//!
//! It judges one outcome at a time and knows nothing of how the server comes to it.

use super::canary;
use super::world::SERVER;
use cordwainer::boot::World;
use cordwainer::config::DhcpMode;
use cordwainer::dhcp::packet::{Op, code};
use cordwainer::dhcp::{Leases, Link, MessageType, Outcome, Packet, Reply, respond, wall};
use cordwainer::model::{Lease, LeaseState, Mac, Timestamp};
use cordwainer::ports::LiveRow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// IP and UDP headers.
const HEADERS: usize = 28;

/// A DHCP server with the model beside it.
pub struct Ledger {
    world: World,
    link: Link,
    leases: Leases,
    pub now: Timestamp,
    /// What the disk holds.
    disk: BTreeMap<Ipv4Addr, Lease>,
    /// Offers of the last 10 s that were not taken.
    offered: BTreeMap<Ipv4Addr, (Mac, Timestamp)>,
}

impl Ledger {
    pub fn new(world: World, link: Link) -> Self {
        Self {
            now: world.now,
            world,
            link,
            leases: Leases::default(),
            disk: BTreeMap::new(),
            offered: BTreeMap::new(),
        }
    }

    /// The row that the disk holds of `mac`.
    pub fn address_of(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.disk.values().find(|row| row.mac == mac).map(|row| row.address)
    }

    /// What must hold of the whole table.
    pub fn settle(&self) {
        assert!(
            self.leases.rows().eq(self.disk.values()),
            "memory and disk say something else"
        );
        let mut owners = BTreeSet::new();
        for row in self.disk.values().filter(|row| row.state != LeaseState::Quarantined) {
            let subnet = self
                .world
                .config
                .subnet_of(row.address)
                .expect("a row is of a subnet")
                .network;
            assert!(owners.insert((row.mac, subnet)), "{} has two rows on {subnet}", row.mac);
        }
    }

    /// The daemon dies and starts again: what the disk holds is all there is.
    pub fn crash(&mut self) {
        self.settle();
        self.leases = Leases::load(self.disk.values().cloned());
        assert!(
            self.leases.rows().eq(self.disk.values()),
            "what was stored loads as something else"
        );
        self.offered.clear();
    }

    /// One packet, and the reply that leaves, read back. `disk_full`: its rows cannot be written.
    pub fn hear(&mut self, packet: &Packet, disk_full: bool) -> Option<Packet> {
        self.world.now = self.now;
        let outcome = respond(&self.world, &self.link, &mut self.leases, packet, self.now);
        self.judge_texts(packet, &outcome);
        let reply = outcome.reply.as_ref().map(|reply| self.judge_reply(packet, reply));
        let fallback = outcome.fallback.as_ref().map(|reply| self.judge_reply(packet, reply));
        self.judge_state(packet, &outcome, reply.as_ref(), fallback.as_ref());
        let Some(change) = &outcome.change else {
            return reply;
        };
        if disk_full {
            for row in change.undo.iter().rev() {
                self.leases.apply(row);
            }
            assert!(
                self.leases.rows().eq(self.disk.values()),
                "what could not be stored was not taken back"
            );
            return fallback;
        }
        for row in &change.rows {
            self.write(row);
        }
        reply
    }

    fn write(&mut self, row: &LiveRow) {
        match row {
            LiveRow::Lease(lease) => {
                if let Some(before) = self.disk.get(&lease.address)
                    && before.mac != lease.mac
                    && lease.state == LeaseState::Active
                {
                    assert!(
                        before.state == LeaseState::Released || before.expires <= self.now,
                        "{} went to {} while {} had it",
                        lease.address,
                        lease.mac,
                        before.mac
                    );
                }
                assert!(
                    lease.hostname.as_ref().is_none_or(|name| name.len() <= 255),
                    "a host name of any length is stored"
                );
                self.disk.insert(lease.address, lease.clone());
            }
            LiveRow::LeaseGone(address) => {
                self.disk.remove(address);
            }
            LiveRow::Installation(_) => panic!("DHCP writes no installation"),
        }
    }

    fn judge_texts(&self, packet: &Packet, outcome: &Outcome) {
        for event in &outcome.events {
            let text = event.what.to_string();
            canary::must_not_sing(text.as_bytes(), "an event");
            assert!(
                !text.contains(['\n', '\r', '\u{1b}']),
                "an event has control characters: {text:?}"
            );
        }
        for reply in [&outcome.reply, &outcome.fallback].into_iter().flatten() {
            canary::must_not_sing(&reply.bytes, "a DHCP reply");
            // Only a script that is asked for by HTTP, and judged there, may name the installer.
            for installer in [&b"vmlinuz"[..], b"initrd", b"/i/", b"/r/"] {
                // Identifiers come back as the client sent them.
                let echoed = packet.options.values().any(|value| canary::holds(value, installer));
                assert!(
                    echoed || !canary::holds(&reply.bytes, installer),
                    "a DHCP reply names the installer"
                );
            }
        }
    }

    fn judge_reply(&self, packet: &Packet, reply: &Reply) -> Packet {
        let read = wall::parse(&reply.bytes).expect("our own wall reads it");
        assert_eq!(read.bad_options, 0, "an option is cut off");
        assert_eq!(read.op, Op::Reply);
        assert_eq!(
            (read.xid, read.htype, read.hlen, read.chaddr),
            (packet.xid, packet.htype, packet.hlen, packet.chaddr),
            "it is another client's"
        );
        // Only what a relay sent, and only back to it; the answer to an INFORM goes past it.
        let to_relay =
            !packet.giaddr.is_unspecified() && packet.message() != Some(MessageType::Inform) && packet.cookie;
        assert!(!to_relay || read.giaddr == packet.giaddr, "it is another relay's");
        let relay = packet.option(code::RELAY_AGENT).filter(|_| to_relay);
        assert_eq!(
            read.option(code::RELAY_AGENT),
            relay,
            "option 82 must come back byte for byte"
        );
        // The relay takes option 82 out before the client sees the reply (RFC 3046 section 2.1), so it is not the client's to bound.
        let relayed = relay.map_or(0, |bytes| bytes.len() + 2 * bytes.len().div_ceil(255));
        let link = usize::try_from(self.link.mtu).unwrap().clamp(576, 1500);
        let client = packet.max_size().map_or(576, usize::from);
        let longest = client.min(link) - HEADERS;
        assert!(
            reply.bytes.len() >= 300 && reply.bytes.len() <= longest.max(300 + relayed),
            "{} bytes where {longest} fit",
            reply.bytes.len()
        );
        let message = read.message();
        let fits = match packet.message() {
            // RFC 1534: a client of before DHCP gets no DHCP message.
            None => message.is_none(),
            Some(MessageType::Discover) => message == Some(MessageType::Offer),
            Some(MessageType::Request) => matches!(message, Some(MessageType::Ack | MessageType::Nak)),
            Some(MessageType::Inform) => message == Some(MessageType::Ack),
            _ => false,
        };
        assert!(fits, "{:?} was answered with {message:?}", packet.message());
        read
    }

    fn judge_state(&mut self, packet: &Packet, outcome: &Outcome, reply: Option<&Packet>, fallback: Option<&Packet>) {
        let given = reply.map_or(Ipv4Addr::UNSPECIFIED, |reply| reply.yiaddr);
        if self.world.config.dhcp != DhcpMode::Authoritative {
            assert!(
                outcome.change.is_none() && given.is_unspecified(),
                "addresses are another server's"
            );
            return;
        }
        let mac = packet.mac();
        let row = outcome
            .change
            .iter()
            .flat_map(|change| &change.rows)
            .find_map(|row| match row {
                LiveRow::Lease(lease) if lease.state == LeaseState::Active => Some(lease),
                _ => None,
            });
        match reply.and_then(Packet::message) {
            Some(MessageType::Offer) => {
                let mac = mac.expect("an offer goes to a machine");
                self.judge_address(packet, mac, given);
                assert!(outcome.change.is_none(), "an offer is held in memory");
                if let Some((other, until)) = self.offered.get(&given) {
                    // A machine on record takes what strangers were offered.
                    let known = self.world.inventory.system_by_mac(mac).is_some();
                    let stranger = self.world.inventory.system_by_mac(*other).is_none();
                    assert!(
                        *other == mac || *until <= self.now || (known && stranger),
                        "{given} is on offer to {other} and to {mac}"
                    );
                }
                self.offered.retain(|_, (holder, _)| *holder != mac);
                let until = self.now.plus(std::time::Duration::from_secs(10));
                self.offered.insert(given, (mac, until));
            }
            Some(MessageType::Ack) if packet.message() == Some(MessageType::Request) => {
                let mac = mac.expect("an ACK goes to a machine");
                self.judge_address(packet, mac, given);
                let row = row.expect("an ACK without a row on disk");
                assert_eq!((row.address, row.mac), (given, mac));
                let seconds = reply.and_then(Packet::lease_seconds).expect("a lease has a time");
                let end = self.now.plus(std::time::Duration::from_secs(seconds.into()));
                assert_eq!(row.expires, end, "the client and the disk are told different times");
                // What the client gets if the row cannot be stored is what the disk still says.
                if let Some(fallback) = fallback {
                    let stored = &self.disk[&given];
                    let left = fallback.lease_seconds().expect("a lease has a time");
                    assert_eq!((stored.mac, fallback.yiaddr), (mac, given));
                    assert!(self.now.plus(std::time::Duration::from_secs(left.into())) <= stored.expires.max(end));
                    assert!(
                        self.now.plus(std::time::Duration::from_secs(left.into())) <= stored.expires,
                        "more is given than the disk holds"
                    );
                }
                self.offered
                    .retain(|address, (holder, _)| *holder != mac && *address != given);
            }
            Some(MessageType::Ack) => {
                assert!(
                    given.is_unspecified() && outcome.change.is_none(),
                    "an INFORM gives no address"
                );
                assert!(
                    reply.and_then(Packet::lease_seconds).is_none(),
                    "an INFORM gives no time"
                );
            }
            Some(MessageType::Nak) => assert!(given.is_unspecified() && outcome.change.is_none()),
            None if reply.is_some() => {
                let mac = mac.expect("an address goes to a machine");
                self.judge_address(packet, mac, given);
                let row = row.expect("an address without a row on disk");
                assert_eq!((row.address, row.mac), (given, mac));
                self.offered
                    .retain(|address, (holder, _)| *holder != mac && *address != given);
            }
            _ => {
                assert!(
                    row.is_none(),
                    "a lease was written for a client that hears nothing of it"
                );
                // A DECLINE, a foreign server taken, or a silence: the offer may be gone.
                if let Some(mac) = mac {
                    self.offered.retain(|_, (holder, _)| *holder != mac);
                }
            }
        }
    }

    /// The address is one that this machine may have at all.
    fn judge_address(&self, packet: &Packet, mac: Mac, address: Ipv4Addr) {
        let subnet = self.world.config.subnet_of(address).expect("it lies in a subnet");
        assert_ne!(address, SERVER, "the server's own address is given");
        let reserved = self.world.inventory.system_by_address(address);
        // A record can also be found by what else a client says of itself.
        let claims = [code::CLIENT_ID, code::MACHINE_ID]
            .iter()
            .any(|code| packet.option(*code).is_some());
        let own = reserved.is_some_and(|system| {
            claims
                || system
                    .interfaces
                    .values()
                    .any(|interface| interface.ip_address == Some(address) && interface.mac_address == Some(mac))
        });
        assert!(
            own || reserved.is_none(),
            "{address} is reserved for another machine than {mac}"
        );
        if !own {
            assert!(
                subnet.pool.is_some_and(|pool| pool.contains(address)),
                "{address} is no address of the pool"
            );
            assert!(
                subnet.router != Some(address) && !subnet.dns.contains(&address) && !subnet.relays.contains(&address),
                "{address} is infrastructure"
            );
            assert!(
                address != subnet.network.network() && address != subnet.network.broadcast(),
                "{address} is no host's"
            );
        }
        if let Some(row) = self.disk.get(&address) {
            let free = row.mac == mac && row.state != LeaseState::Quarantined
                || row.state == LeaseState::Released
                || row.expires <= self.now;
            assert!(free, "{address} is {}'s ({:?}), and given to {mac}", row.mac, row.state);
        }
    }
}
