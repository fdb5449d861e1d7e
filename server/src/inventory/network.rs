//! The network of an installed system as one plan, which every answer file and kernel command line is written from.
//!
//! Pure. Cards are known by their hardware addresses; names are the record's. Links come before what stands on them.

use super::links;
use crate::model::{
    BondingOpts, BridgeOpts, Interface, InterfaceType, Mac, Name, StaticRoute, Subnet, System, vlan_of,
};
use std::net::Ipv4Addr;

/// All links of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkPlan {
    /// Each after those that it stands on; of the cards the booting one first.
    pub links: Vec<Link>,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name in the record.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Hardware address; cards only.
    pub mac: Option<Mac>,
    /// The bond or bridge that it belongs to.
    pub master: Option<String>,
    /// Where its address comes from.
    pub address: Address,
    /// Routes beside the default one.
    pub routes: Vec<StaticRoute>,
    /// Largest frame, in bytes.
    pub mtu: Option<u16>,
    /// The machine boots by it, or by a card that it is made of.
    pub boots: bool,
    /// VLANs stand on it.
    pub trunk: bool,
}

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A card.
    Card,
    /// A bond of these links.
    Bond {
        /// Names of its slaves.
        members: Vec<String>,
        /// The kernel's options.
        opts: BondingOpts,
    },
    /// A bridge with these ports.
    Bridge {
        /// Names of its ports.
        members: Vec<String>,
        /// Its options.
        opts: BridgeOpts,
    },
    /// A VLAN.
    Vlan {
        /// 1 to 4094.
        id: u16,
        /// The link that it is on.
        on: String,
    },
}

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// It has none: part of another link, a trunk of VLANs, or a card that nothing is said of.
    None,
    /// DHCP.
    Dhcp,
    /// The record.
    Static {
        /// The address.
        ip: Ipv4Addr,
        /// Length of its network's prefix.
        prefix: u8,
        /// The default route's router, on one link only.
        gateway: Option<Ipv4Addr>,
    },
}

impl Address {
    /// The mask of a static address.
    #[must_use]
    pub fn netmask(self) -> Option<Ipv4Addr> {
        match self {
            Self::Static { prefix, .. } => {
                let bits = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
                Some(Ipv4Addr::from_bits(bits))
            }
            Self::None | Self::Dhcp => None,
        }
    }
}

impl Link {
    /// `card`, `bond`, `bridge`, `vlan`.
    #[must_use]
    pub const fn kind_word(&self) -> &'static str {
        match self.kind {
            LinkKind::Card => "card",
            LinkKind::Bond { .. } => "bond",
            LinkKind::Bridge { .. } => "bridge",
            LinkKind::Vlan { .. } => "vlan",
        }
    }

    /// What it stands on.
    pub fn below(&self) -> impl Iterator<Item = &str> {
        let (members, on): (&[String], _) = match &self.kind {
            LinkKind::Card => (&[], None),
            LinkKind::Bond { members, .. } | LinkKind::Bridge { members, .. } => (members, None),
            LinkKind::Vlan { on, .. } => (&[], Some(on.as_str())),
        };
        members.iter().map(String::as_str).chain(on)
    }
}

/// The netmask that counts for an interface: its own, or its subnet's.
#[must_use]
pub fn netmask(interface: &Interface, subnet: Option<&Subnet>) -> Option<Ipv4Addr> {
    interface
        .netmask
        .or_else(|| subnet.map(|subnet| subnet.network.netmask()))
}

/// The router that an interface could have, whichever interface is given the default route.
#[must_use]
pub fn router(interface: &Interface, subnet: Option<&Subnet>, system: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    let mask = netmask(interface, subnet);
    let within = |gateway: &Ipv4Addr| match (interface.ip_address, mask) {
        (Some(address), Some(mask)) => gateway.to_bits() & mask.to_bits() == address.to_bits() & mask.to_bits(),
        _ => false,
    };
    interface
        .if_gateway
        .or_else(|| system.filter(within))
        .or_else(|| subnet.and_then(|subnet| subnet.router))
}

impl NetworkPlan {
    /// The plan of `system`, which boots by the card `boots`. `subnet_of` finds the configured subnet of an address.
    #[must_use]
    pub fn of<'a>(system: &System, boots: Option<Mac>, subnet_of: &dyn Fn(Ipv4Addr) -> Option<&'a Subnet>) -> Self {
        let mut links: Vec<Link> = system
            .interfaces
            .iter()
            .filter(|(_, interface)| interface.kind() != InterfaceType::Bmc)
            .map(|(name, interface)| link(system, name, interface, boots, subnet_of))
            .collect();
        links.extend(implied_cards(system, boots));
        let mut plan = Self { links: in_order(links) };
        plan.mark_boots();
        plan.give_addresses(system);
        plan.choose_router(system);
        plan
    }

    /// The link `name`.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// True when only cards are in it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.links.iter().all(|link| link.kind == LinkKind::Card)
    }

    /// The outermost bond or bridge that the booting card is part of, or the card.
    #[must_use]
    pub fn booting(&self) -> Option<&Link> {
        let boots = self.links.iter().filter(|link| link.boots && link.master.is_none());
        boots.max_by_key(|link| link.kind != LinkKind::Card)
    }

    fn mark_boots(&mut self) {
        for place in 0..self.links.len() {
            let carried = self.links.get(place).is_some_and(|link| {
                !matches!(link.kind, LinkKind::Vlan { .. })
                    && link
                        .below()
                        .any(|name| self.link(name).is_some_and(|below| below.boots))
            });
            if let Some(link) = self.links.get_mut(place).filter(|_| carried) {
                link.boots = true;
            }
        }
    }

    fn give_addresses(&mut self, system: &System) {
        let trunks: Vec<String> = self
            .links
            .iter()
            .filter_map(|link| match &link.kind {
                LinkKind::Vlan { on, .. } => Some(on.clone()),
                _ => None,
            })
            .collect();
        for link in &mut self.links {
            link.trunk = trunks.contains(&link.name);
            let recorded = system.interfaces.get(link.name.as_str());
            let reserved = recorded.is_some_and(|interface| interface.ip_address.is_some());
            if link.master.is_some() {
                link.address = Address::None;
            } else if link.address == Address::None {
                let wanted = match link.kind {
                    LinkKind::Vlan { .. } => true,
                    _ if link.trunk => reserved,
                    LinkKind::Bond { .. } | LinkKind::Bridge { .. } => true,
                    LinkKind::Card => link.boots,
                };
                if wanted {
                    link.address = Address::Dhcp;
                }
            }
        }
    }

    /// One default route: the management interface's, else the one of the system's router, else the booting one's, else the first.
    fn choose_router(&mut self, system: &System) {
        let rank = |link: &Link| match link.address {
            Address::Static {
                gateway: Some(gateway), ..
            } => {
                let recorded = system.interfaces.get(link.name.as_str());
                let management = recorded.is_some_and(|interface| interface.management);
                Some((management, system.gateway == Some(gateway), link.boots))
            }
            _ => None,
        };
        let mut best: Option<((bool, bool, bool), String)> = None;
        for link in &self.links {
            if let Some(rank) = rank(link)
                && best.as_ref().is_none_or(|(known, _)| rank > *known)
            {
                best = Some((rank, link.name.clone()));
            }
        }
        for link in &mut self.links {
            if best.as_ref().is_some_and(|(_, name)| *name == link.name) {
                continue;
            }
            if let Address::Static { gateway, .. } = &mut link.address {
                *gateway = None;
            }
        }
    }
}

fn link<'a>(
    system: &System,
    name: &Name,
    interface: &Interface,
    boots: Option<Mac>,
    subnet_of: &dyn Fn(Ipv4Addr) -> Option<&'a Subnet>,
) -> Link {
    let members = || {
        let mut members: Vec<(bool, String)> = system
            .interfaces
            .iter()
            .filter(|(_, member)| member.interface_master.as_ref() == Some(name))
            .map(|(member, interface)| (boots.is_none() || interface.mac_address != boots, member.to_string()))
            .collect();
        members.sort();
        members.into_iter().map(|(_, member)| member).collect()
    };
    let kind = match (interface.kind(), vlan_of(name.as_str())) {
        (InterfaceType::Bond | InterfaceType::BondedBridgeSlave, _) => LinkKind::Bond {
            members: members(),
            opts: interface.bonding_opts.clone().unwrap_or_default(),
        },
        (InterfaceType::Bridge, _) => LinkKind::Bridge {
            members: members(),
            opts: interface.bridge_opts.clone().unwrap_or_default(),
        },
        (_, Some((on, id))) => LinkKind::Vlan { id, on: on.to_owned() },
        _ => LinkKind::Card,
    };
    let subnet = interface.ip_address.and_then(subnet_of);
    let mask = netmask(interface, subnet);
    let address = match (interface.ip_address, mask) {
        (Some(ip), Some(mask)) if interface.is_static => Address::Static {
            ip,
            prefix: u8::try_from(mask.to_bits().leading_ones()).unwrap_or(32),
            gateway: router(interface, subnet, system.gateway),
        },
        _ => Address::None,
    };
    Link {
        name: name.to_string(),
        mac: interface.mac_address.filter(|_| kind == LinkKind::Card),
        boots: kind == LinkKind::Card && boots.is_some() && interface.mac_address == boots,
        kind,
        master: interface.interface_master.as_ref().map(Name::to_string),
        address,
        routes: interface.static_routes.clone(),
        mtu: interface.mtu.map(crate::model::Mtu::bytes),
        trunk: false,
    }
}

/// `eth0.100` with a MAC and no `eth0` beside it: the MAC is the card's.
fn implied_cards(system: &System, boots: Option<Mac>) -> impl Iterator<Item = Link> {
    system.interfaces.iter().filter_map(move |(name, interface)| {
        let (parent, _) = vlan_of(name.as_str()).filter(|_| !interface.kind().is_bond())?;
        let mac = interface.mac_address?;
        if system.interfaces.contains_key(parent) {
            return None;
        }
        Some(Link {
            name: parent.to_owned(),
            kind: LinkKind::Card,
            mac: Some(mac),
            master: None,
            address: Address::None,
            routes: Vec::new(),
            mtu: interface.mtu.map(crate::model::Mtu::bytes),
            boots: Some(mac) == boots,
            trunk: true,
        })
    })
}

/// Each link after those that it stands on.
fn in_order(mut links: Vec<Link>) -> Vec<Link> {
    // The booting card first; a stable sort keeps the names' order otherwise.
    links.sort_by_key(|link| !link.boots);
    let mut ordered: Vec<Link> = Vec::new();
    while !links.is_empty() {
        let known = |name: &str| ordered.iter().any(|link| link.name == name);
        let waits = |link: &Link| {
            link.below()
                .any(|name| !known(name) && links.iter().any(|other| other.name == name))
        };
        // What is edited never stands on itself; a damaged record goes on with its first link.
        let next = links.iter().position(|link| !waits(link)).unwrap_or(0);
        ordered.push(links.remove(next));
    }
    ordered
}

/// Why the interfaces of `system` cannot be set up as they are, if they cannot.
#[must_use]
pub fn incomplete(system: &System) -> Option<String> {
    links::incomplete(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(interfaces: &str) -> System {
        serde_json::from_str(&format!(
            r#"{{"name": "web1", "profile": "p", "interfaces": {interfaces}}}"#
        ))
        .unwrap()
    }

    fn plan(interfaces: &str) -> NetworkPlan {
        let mac = "52:54:00:00:00:02".parse().ok();
        NetworkPlan::of(&system(interfaces), mac, &|_| None)
    }

    fn said(plan: &NetworkPlan) -> Vec<String> {
        plan.links
            .iter()
            .map(|link| {
                let address = match link.address {
                    Address::None => "-".to_owned(),
                    Address::Dhcp => "dhcp".to_owned(),
                    Address::Static { ip, prefix, gateway } => {
                        let via = gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
                        format!("{ip}/{prefix}{via}")
                    }
                };
                let below: Vec<&str> = link.below().collect();
                format!(
                    "{} {} [{}] {address}{}",
                    link.name,
                    link.kind_word(),
                    below.join(" "),
                    if link.boots { " boots" } else { "" }
                )
            })
            .collect()
    }

    #[test]
    fn a_bridge_over_a_bond_carries_the_address_of_the_boot() {
        let plan = plan(
            r#"{"eth0": {"mac_address": "52:54:00:00:00:01", "interface_type": "bond_slave", "interface_master": "bond0"},
                "eth1": {"mac_address": "52:54:00:00:00:02", "interface_type": "bond_slave", "interface_master": "bond0"},
                "bond0": {"interface_type": "bonded_bridge_slave", "interface_master": "br0", "bonding_opts": "mode=1"},
                "bond0.7": {"ip_address": "192.0.2.7", "netmask": "255.255.255.0", "static": true, "if_gateway": "192.0.2.1"},
                "br0": {"interface_type": "bridge"},
                "ipmi": {"interface_type": "bmc", "mac_address": "52:54:00:00:00:09"}}"#,
        );
        assert_eq!(
            said(&plan),
            [
                "eth1 card [] - boots",
                "eth0 card [] -",
                "bond0 bond [eth1 eth0] - boots",
                "bond0.7 vlan [bond0] 192.0.2.7/24 via 192.0.2.1",
                "br0 bridge [bond0] dhcp boots"
            ]
        );
        assert_eq!(plan.booting().unwrap().name, "br0");
    }

    #[test]
    fn a_trunk_has_no_address_and_a_vlan_may_imply_its_card() {
        let plan = plan(
            r#"{"eth0.7": {"mac_address": "52:54:00:00:00:02", "static": true, "ip_address": "192.0.2.7", "netmask": "255.255.255.0"},
                "eth1": {"mac_address": "52:54:00:00:00:03"}, "eth1.8": {}}"#,
        );
        assert_eq!(
            said(&plan),
            [
                "eth0 card [] - boots",
                "eth0.7 vlan [eth0] 192.0.2.7/24",
                "eth1 card [] -",
                "eth1.8 vlan [eth1] dhcp"
            ]
        );
    }

    #[test]
    fn one_link_only_has_the_default_route() {
        let two = |more: &str| {
            plan(&format!(
                r#"{{"eth0": {{"mac_address": "52:54:00:00:00:01", "static": true, "ip_address": "192.0.2.7", "netmask": "255.255.255.0", "if_gateway": "192.0.2.1"{more}}},
                     "eth1": {{"mac_address": "52:54:00:00:00:02", "static": true, "ip_address": "192.0.3.7", "netmask": "255.255.255.0", "if_gateway": "192.0.3.1"}}}}"#
            ))
        };
        assert_eq!(
            said(&two("")),
            [
                "eth1 card [] 192.0.3.7/24 via 192.0.3.1 boots",
                "eth0 card [] 192.0.2.7/24"
            ]
        );
        assert_eq!(
            said(&two(r#", "management": true"#)),
            [
                "eth1 card [] 192.0.3.7/24 boots",
                "eth0 card [] 192.0.2.7/24 via 192.0.2.1"
            ]
        );
        assert_eq!(two("").links[0].address.netmask(), "255.255.255.0".parse().ok());
    }

    #[test]
    fn a_damaged_record_ends_all_the_same() {
        let plan = plan(
            r#"{"br0": {"interface_type": "bridge"},
                "br0.5": {"interface_type": "bridge_slave", "interface_master": "br0"}}"#,
        );
        assert_eq!(plan.links.len(), 2);
    }
}
