//! Who asks, and on which network: what a packet's MAC, client identifier, relay and lease say.
//!
//! Pure. It believes option 82 only from a relay that a subnet lists, and it chooses addresses only: what a machine boots is decided by its MAC.

use super::leases::Leases;
use super::packet::{Packet, code};
use super::respond::Link;
use crate::boot::World;
use crate::config::Config;
use crate::model::{Interface, Mac, Name, Octets, RelayPort, Subnet, System, Timestamp};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Sub-options of option 82 that are read: RFC 3046, 3527 and 5107.
const CIRCUIT_ID: u8 = 1;
const REMOTE_ID: u8 = 2;
const LINK_SELECTION: u8 = 5;
const SERVER_ID_OVERRIDE: u8 = 11;

/// By what a record was found, from the strongest to the weakest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The hardware address is the record's.
    Mac,
    /// Option 61.
    ClientId,
    /// Option 82, sub-options 1 and 2.
    RelayPort,
    /// It holds an address that it got by one of the two above, and asks without them: firmware before the operating system that has
    /// the identifier, or a renewal that goes past the relay.
    Lease,
}

/// `by its client identifier`.
impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mac => "by its MAC",
            Self::ClientId => "by its client identifier",
            Self::RelayPort => "by its port (option 82)",
            Self::Lease => "by the lease that it holds",
        })
    }
}

/// The record of who asks.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) system: Arc<System>,
    name: Name,
    pub(super) by: By,
}

impl Record {
    fn new((system, name): (&Arc<System>, &Name), by: By) -> Self {
        Self {
            system: Arc::clone(system),
            name: name.clone(),
            by,
        }
    }

    /// The interface that asks.
    pub(super) fn interface(&self) -> Option<&Interface> {
        self.system.interfaces.get(&self.name).map(|interface| &**interface)
    }

    /// True when `address` is what the record gives this very interface.
    pub(super) fn has(&self, address: Ipv4Addr) -> bool {
        self.interface()
            .is_some_and(|interface| interface.ip_address == Some(address))
    }
}

/// The record of the sender of `packet`: by its MAC, else by option 61, else by option 82, else by the lease that it holds.
///
/// One MAC is one machine: whose MAC is on record is that machine, whatever else its packets say.
pub(super) fn record(
    world: &World,
    packet: &Packet,
    network: &[&Subnet],
    leases: &Leases,
    now: Timestamp,
) -> Option<Record> {
    let mac = packet.mac()?;
    let inventory = &world.inventory;
    if let Some(system) = inventory.system_by_mac(mac) {
        return system
            .interface_of(mac)
            .map(|(name, _)| Record::new((system, name), By::Mac));
    }
    let by_client = |id: &[u8]| {
        Octets::new(id)
            .and_then(|id| inventory.interface_by_client_id(&id))
            .map(|found| Record::new(found, By::ClientId))
    };
    packet
        .option(code::CLIENT_ID)
        .and_then(by_client)
        .or_else(|| by_port(world, packet))
        .or_else(|| by_lease(world, packet, mac, network, leases, now))
}

/// The most exact record counts: port and relay, then the port alone, then the relay alone.
fn by_port(world: &World, packet: &Packet) -> Option<Record> {
    relay_of(&world.config, packet)?;
    let id = |code| packet.relay_option(code).and_then(|bytes| Octets::new(&bytes));
    let (circuit, remote) = (id(CIRCUIT_ID), id(REMOTE_ID));
    let ports = [
        (circuit.clone(), remote.clone()),
        (circuit.clone(), None),
        (None, remote.clone()),
    ];
    ports
        .into_iter()
        .filter(|(circuit, remote)| circuit.is_some() || remote.is_some())
        .find_map(|(circuit, remote)| {
            world
                .inventory
                .interface_by_relay_port(&RelayPort { circuit, remote })
                .map(|found| Record::new(found, By::RelayPort))
        })
}

fn by_lease(
    world: &World,
    packet: &Packet,
    mac: Mac,
    network: &[&Subnet],
    leases: &Leases,
    now: Timestamp,
) -> Option<Record> {
    let row = leases.row_of(mac, network)?;
    let system = world.inventory.system_by_address(row.address)?;
    let (name, interface) = system
        .interfaces
        .iter()
        .find(|(_, interface)| interface.ip_address == Some(row.address))?;
    // The identifier is kept in the row from when it was said; the port is not, so only an unbroken lease stands for it, and only where
    // no relay had a chance to say otherwise.
    let said_before = interface
        .client_id
        .as_ref()
        .is_some_and(|id| id.bytes() == row.client_id);
    let past_relay = interface.relay_port().is_some()
        && packet.giaddr.is_unspecified()
        && packet.ciaddr == row.address
        && leases.holder(row.address, now) == Some(mac);
    (said_before || past_relay).then(|| Record::new((system, name), By::Lease))
}

/// The relay that sent `packet`, when a subnet lists it.
pub(super) fn relay_of(config: &Config, packet: &Packet) -> Option<Ipv4Addr> {
    let giaddr = Some(packet.giaddr).filter(|address| !address.is_unspecified())?;
    let listed = config.subnets.iter().any(|subnet| subnet.relays.contains(&giaddr));
    listed.then_some(giaddr)
}

/// RFC 5107: the address that the relay wants to be taken for the server, so that renewals go through it too.
pub(super) fn server_override(config: &Config, packet: &Packet) -> Option<Ipv4Addr> {
    relay_of(config, packet)?;
    address(packet.relay_option(SERVER_ID_OVERRIDE)?.as_slice())
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = bytes.try_into().ok()?;
    Some(Ipv4Addr::from(bytes)).filter(|address| !address.is_unspecified())
}

/// The subnet that the client is on and those that share its link, or why it is on none of ours.
pub(super) fn network<'a>(world: &'a World, link: &Link, packet: &Packet) -> Result<Vec<&'a Subnet>, String> {
    let config = &world.config;
    if !packet.giaddr.is_unspecified() {
        return relayed(config, packet);
    }
    let on_link = |subnet: &Subnet| link.addresses.iter().any(|net| subnet.network.contains(&net.addr()));
    let ciaddr = packet.ciaddr;
    if !ciaddr.is_unspecified()
        && let Some(subnet) = config.subnet_of(ciaddr)
    {
        let network = config.network_of(subnet);
        // A renewal comes straight from the client's own network, past its relay.
        if network
            .iter()
            .any(|subnet| on_link(subnet) || !subnet.relays.is_empty())
        {
            return Ok(network);
        }
    }
    config
        .subnets
        .iter()
        .find(|subnet| on_link(subnet))
        .map(|subnet| config.network_of(subnet))
        .ok_or_else(|| format!("no [[subnet]] holds an address of {}", link.name))
}

/// RFC 3527: a relay that cannot use an address of the client's network as giaddr says it in 82.5, and that counts.
fn relayed<'a>(config: &'a Config, packet: &Packet) -> Result<Vec<&'a Subnet>, String> {
    let giaddr = packet.giaddr;
    let lists = |subnet: &&Subnet| subnet.relays.contains(&giaddr);
    let Some(first) = config.subnets.iter().find(lists) else {
        return Err(format!("relay {giaddr} is in no `relays` of a [[subnet]]"));
    };
    // A relay that one subnet of a link lists speaks for all of them.
    let holding = |address: Ipv4Addr| {
        let network = config.network_of(config.subnet_of(address)?);
        network.iter().any(lists).then_some(network)
    };
    if let Some(link) = packet.relay_option(LINK_SELECTION).and_then(|bytes| address(&bytes)) {
        return holding(link).ok_or_else(|| {
            format!("relay {giaddr} selects the link of {link} (option 82.5), which is in no [[subnet]] that lists the relay")
        });
    }
    if let Some(network) = holding(giaddr) {
        return Ok(network);
    }
    let with_first =
        |other: &Subnet| other.network == first.network || (other.shared.is_some() && other.shared == first.shared);
    if config.subnets.iter().filter(lists).all(with_first) {
        Ok(config.network_of(first))
    } else {
        Err(format!(
            "relay {giaddr} is listed by several [[subnet]]s and lies in none of them, and it selects no link (option 82.5); \
             give it a giaddr in the machine's network, or let it send link selection"
        ))
    }
}
