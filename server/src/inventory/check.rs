//! What must hold of the inventory after every change: references resolve, no chain is a circle, nothing is claimed twice. Pure.

use super::{Inventory, Refused, Row, RowChange, links};
use crate::model::{Hostname, Image, Kind, Mac, Menu, Name, Octets, Parent, Profile, RelayPort, System};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

/// Something that one system only may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// A hardware address.
    Mac(Mac),
    /// An address.
    Address(Ipv4Addr),
    /// A host name, or an interface's DNS name.
    Hostname(Hostname),
    /// A DHCP client identifier.
    ClientId(Octets),
    /// A port of a relay.
    RelayPort(RelayPort),
}

impl Claim {
    /// `mac`, `address`, `hostname`, `client_id`, `relay_port`: as the store names it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Mac(_) => "mac",
            Self::Address(_) => "address",
            Self::Hostname(_) => "hostname",
            Self::ClientId(_) => "client_id",
            Self::RelayPort(_) => "relay_port",
        }
    }

    /// The claimed value as text.
    #[must_use]
    pub fn value(&self) -> String {
        match self {
            Self::Mac(mac) => mac.to_string(),
            Self::Address(address) => address.to_string(),
            Self::Hostname(host) => host.to_string(),
            Self::ClientId(id) => id.to_string(),
            Self::RelayPort(port) => port.to_string(),
        }
    }
}

/// `MAC 52:54:00:7c:1d:4f`, `address 192.0.2.1`, `host name web1`.
impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Mac(_) => "MAC",
            Self::Address(_) => "address",
            Self::Hostname(_) => "host name",
            Self::ClientId(_) => "client identifier",
            Self::RelayPort(_) => "relay",
        };
        write!(f, "{what} {}", self.value())
    }
}

/// Everything that `system` claims. An interface may repeat the system's own host name.
#[must_use]
pub fn claims(system: &System) -> BTreeSet<Claim> {
    let mut all = BTreeSet::new();
    for interface in system.interfaces.values() {
        all.extend(interface.mac_address.map(Claim::Mac));
        all.extend(interface.ip_address.map(Claim::Address));
        all.extend(interface.dns_name.clone().map(Claim::Hostname));
        all.extend(interface.client_id.clone().map(Claim::ClientId));
        all.extend(interface.relay_port().map(Claim::RelayPort));
    }
    all.extend(system.hostname.clone().map(Claim::Hostname));
    all
}

/// The name of that kind that looks most like `wanted`, if one does.
#[must_use]
pub fn nearest(inventory: &Inventory, kind: Kind, wanted: &str) -> Option<Name> {
    let limit = 1_usize.max(wanted.chars().count() / 3);
    let wanted = wanted.to_ascii_lowercase();
    inventory
        .names(kind)
        .filter(|name| name.as_str().len().abs_diff(wanted.len()) <= limit)
        .map(|name| {
            let name_lower = name.as_str().to_ascii_lowercase();
            (strsim::damerau_levenshtein(&name_lower, &wanted), name)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name.clone())
}

/// The refusal for an object that is not there.
pub(super) fn unknown(inventory: &Inventory, kind: Kind, name: &str) -> Refused {
    Refused::Unknown {
        kind,
        name: name.to_owned(),
        near: nearest(inventory, kind, name),
    }
}

/// Judges the rows that were written, `after` all of them.
pub(super) fn check(before: &Inventory, after: &Inventory, rows: &[RowChange]) -> Result<(), Refused> {
    let mut claimed: BTreeMap<Claim, Name> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for row in rows {
        let RowChange::Put(row) = row else { continue };
        match row {
            // The last word on an object counts: one commit may write it twice.
            Row::Profile(profile) => {
                if let Some(profile) = after.profile(profile.name.as_str()) {
                    check_profile(after, profile)?;
                }
            }
            Row::System(system) => {
                if let Some(system) = after.system(system.name.as_str())
                    && seen.insert(system.name.clone())
                {
                    check_system(before, after, system, &mut claimed)?;
                }
            }
            Row::Menu(menu) => check_menu(after, menu)?,
            Row::Image(image) => check_image(after, image)?,
            Row::Distro(_) | Row::Repo(_) | Row::Arm(_) => {}
        }
    }
    Ok(())
}

fn check_menu(after: &Inventory, menu: &Menu) -> Result<(), Refused> {
    let mut above = after.menu(menu.name.as_str());
    let mut seen = BTreeSet::new();
    while let Some(at) = above {
        if !seen.insert(&at.name) {
            return Err(Refused::BadValue {
                field: "parent".to_owned(),
                why: format!("menu `{}` would stand within itself; choose another parent", menu.name),
            });
        }
        above = match &at.parent {
            None => None,
            Some(name) => Some(
                after
                    .menu(name.as_str())
                    .ok_or_else(|| unknown(after, Kind::Menu, name.as_str()))?,
            ),
        };
    }
    Ok(())
}

fn check_image(after: &Inventory, image: &Image) -> Result<(), Refused> {
    match &image.menu {
        Some(menu) if after.menu(menu.as_str()).is_none() => Err(unknown(after, Kind::Menu, menu.as_str())),
        _ => Ok(()),
    }
}

fn check_profile(after: &Inventory, profile: &Profile) -> Result<(), Refused> {
    if let Some(menu) = profile.extra.get("menu").filter(|menu| after.menu(menu).is_none()) {
        return Err(unknown(after, Kind::Menu, menu));
    }
    let mut above = profile;
    let mut seen = BTreeSet::from([&profile.name]);
    loop {
        match &above.parent {
            Parent::Distro(name) => {
                return match after.distro(name.as_str()) {
                    Some(_) => Ok(()),
                    None => Err(unknown(after, Kind::Distro, name.as_str())),
                };
            }
            Parent::Profile(name) => {
                if !seen.insert(name) {
                    return Err(Refused::Cycle(profile.name.clone()));
                }
                above = after
                    .profile(name.as_str())
                    .ok_or_else(|| unknown(after, Kind::Profile, name.as_str()))?;
            }
        }
    }
}

fn check_system(
    before: &Inventory,
    after: &Inventory,
    system: &System,
    claimed: &mut BTreeMap<Claim, Name>,
) -> Result<(), Refused> {
    match system.base() {
        Some((kind, name)) if after.row(kind, name.as_str()).is_none() => {
            return Err(unknown(after, kind, name.as_str()));
        }
        Some(_) if system.profile.is_some() && system.image.is_some() => {
            return Err(Refused::BadValue {
                field: "image".to_owned(),
                why: "a system stands on a profile or on an image, not on both; give one of them".to_owned(),
            });
        }
        Some(_) => {}
        None => {
            return Err(Refused::Missing {
                kind: Kind::System,
                name: system.name.clone(),
                field: "profile",
            });
        }
    }
    once_each(system)?;
    links::check(system)?;
    for claim in claims(system) {
        let owner_before = match &claim {
            Claim::Mac(mac) => before.system_by_mac(*mac),
            Claim::Address(address) => before.system_by_address(*address),
            Claim::Hostname(host) => before.system_by_hostname(host),
            Claim::ClientId(id) => before.interface_by_client_id(id).map(|(system, _)| system),
            Claim::RelayPort(port) => before.interface_by_relay_port(port).map(|(system, _)| system),
        };
        // The owner of before counts only if it still claims the thing: it may have given it up in this very change.
        let still = owner_before
            .filter(|owner| owner.name != system.name)
            .and_then(|owner| after.system(owner.name.as_str()))
            .filter(|owner| claims(owner).contains(&claim));
        if let Some(owner) = still {
            return Err(Refused::Claimed {
                what: claim.to_string(),
                owner: owner.name.clone(),
            });
        }
        if let Some(owner) = claimed.insert(claim.clone(), system.name.clone()) {
            return Err(Refused::Claimed {
                what: claim.to_string(),
                owner,
            });
        }
    }
    Ok(())
}

/// A MAC, an address or an identifier stands on one interface only, and is one that a machine can have.
fn once_each(system: &System) -> Result<(), Refused> {
    let (mut macs, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    let (mut clients, mut ports) = (BTreeMap::new(), BTreeMap::new());
    for (name, interface) in &system.interfaces {
        if let Some(mac) = interface.mac_address {
            if mac.is_unusable() {
                return Err(Refused::BadValue {
                    field: "mac_address".to_owned(),
                    why: format!("`{mac}` is a group address or all zeroes; write the machine's own"),
                });
            }
            if let Some(other) = macs.insert(mac, name) {
                return Err(twice("mac_address", &mac, other, name));
            }
        }
        if let Some(address) = interface.ip_address
            && let Some(other) = addresses.insert(address, name)
        {
            return Err(twice("ip_address", &address, other, name));
        }
        if let Some(id) = &interface.client_id
            && let Some(other) = clients.insert(id, name)
        {
            return Err(twice("client_id", id, other, name));
        }
        if let Some(port) = interface.relay_port() {
            let text = port.to_string();
            if let Some(other) = ports.insert(port, name) {
                return Err(twice("relay_circuit_id", &text, other, name));
            }
        }
    }
    Ok(())
}

fn twice(field: &str, value: &dyn fmt::Display, first: &Name, second: &Name) -> Refused {
    Refused::BadValue {
        field: field.to_owned(),
        why: format!("`{value}` is on the interfaces {first} and {second}; it can be on one only"),
    }
}
