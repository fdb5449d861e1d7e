//! How the interfaces of one system may hang together: masters exist, nothing stands on itself, an address is where it can be. Pure.

use super::Refused;
use crate::model::{Interface, InterfaceType, LONGEST_LINK_NAME, Name, System, vlan_of};
use std::collections::BTreeSet;

fn refused(field: &str, why: String) -> Refused {
    Refused::BadValue {
        field: field.to_owned(),
        why,
    }
}

/// What the interface `name` stands on: the card below a VLAN, the slaves of a bond, the ports of a bridge.
pub(super) fn below<'a>(system: &'a System, name: &str) -> Vec<&'a str> {
    let members = system.interfaces.iter();
    let mut below: Vec<&str> = members
        .filter(|(_, interface)| {
            interface
                .interface_master
                .as_ref()
                .is_some_and(|master| master.as_str() == name)
        })
        .map(|(member, _)| member.as_str())
        .collect();
    if let Some((known, _)) = system.interfaces.get_key_value(name)
        && let Some((parent, _)) = vlan_of(known.as_str())
    {
        below.push(parent);
    }
    below
}

fn stands_on_itself(system: &System, name: &Name) -> bool {
    let mut seen = BTreeSet::new();
    let mut todo = below(system, name.as_str());
    while let Some(next) = todo.pop() {
        if next == name.as_str() {
            return true;
        }
        if seen.insert(next) {
            todo.extend(below(system, next));
        }
    }
    false
}

/// Judges every interface of `system`.
pub(super) fn check(system: &System) -> Result<(), Refused> {
    for (name, interface) in &system.interfaces {
        check_master(system, name, interface)?;
        check_name(system, name, interface)?;
        let kind = interface.kind();
        if interface.bonding_opts.as_ref().is_some_and(|opts| !opts.is_empty()) && !kind.is_bond() {
            return Err(refused(
                "bonding_opts",
                format!("interface `{name}` is no bond; give it --interface-type bond too, or leave the options out"),
            ));
        }
        if interface.bridge_opts.as_ref().is_some_and(|opts| !opts.is_empty()) && kind != InterfaceType::Bridge {
            return Err(refused(
                "bridge_opts",
                format!(
                    "interface `{name}` is no bridge; give it --interface-type bridge too, or leave the options out"
                ),
            ));
        }
        if stands_on_itself(system, name) {
            return Err(refused(
                "interface_master",
                format!("interface `{name}` would stand on itself; choose another master"),
            ));
        }
    }
    Ok(())
}

fn check_master(system: &System, name: &Name, interface: &Interface) -> Result<(), Refused> {
    let kind = interface.kind();
    let Some(master) = &interface.interface_master else {
        return if kind.is_slave() {
            Err(refused(
                "interface_master",
                format!("interface `{name}` is a {kind}, and nothing says of what; give --interface-master"),
            ))
        } else {
            Ok(())
        };
    };
    let wanted = match kind {
        InterfaceType::BondSlave => "bond",
        InterfaceType::BridgeSlave | InterfaceType::BondedBridgeSlave => "bridge",
        _ => {
            return Err(refused(
                "interface_type",
                format!(
                    "interface `{name}` belongs to `{master}`, so its type is bond_slave, bridge_slave or bonded_bridge_slave, not {kind}"
                ),
            ));
        }
    };
    let found = system.interfaces.get(master).map(|interface| interface.kind());
    let fits = match found {
        Some(InterfaceType::Bond | InterfaceType::BondedBridgeSlave) => wanted == "bond",
        Some(InterfaceType::Bridge) => wanted == "bridge",
        _ => false,
    };
    if !fits {
        let what = found.map_or_else(|| "the system does not have".to_owned(), |kind| format!("is a {kind}"));
        return Err(refused(
            "interface_master",
            format!(
                "interface `{name}` is a {kind} of `{master}`, which {what}; add it first: --interface {master} --interface-type {wanted}"
            ),
        ));
    }
    if interface.is_static {
        return Err(refused(
            "static",
            format!("interface `{name}` is part of `{master}`, which has the address of both; set it there"),
        ));
    }
    Ok(())
}

/// A link that is made, rather than found, has a name that the kernel can give.
fn check_name(system: &System, name: &Name, interface: &Interface) -> Result<(), Refused> {
    let vlan = vlan_of(name.as_str());
    let made = vlan.is_some() || interface.kind().is_bond() || interface.kind() == InterfaceType::Bridge;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if made && (name.as_str().len() > LONGEST_LINK_NAME || !name.as_str().chars().all(plain)) {
        return Err(refused(
            "interface",
            format!(
                "`{name}` is no name that Linux gives a link; use at most {LONGEST_LINK_NAME} letters, digits, dots, dashes and underscores"
            ),
        ));
    }
    if let Some((parent, id)) = vlan
        && interface.mac_address.is_none()
        && !system.interfaces.contains_key(parent)
    {
        return Err(refused(
            "interface",
            format!(
                "`{name}` is VLAN {id} of `{parent}`, which the system does not have; add --interface {parent} first, or give this one the card's --mac-address"
            ),
        ));
    }
    Ok(())
}

/// What is not complete yet, though each step towards it may be stored: a bond without slaves, a slave that no machine can be searched for.
pub(super) fn incomplete(system: &System) -> Option<String> {
    system.interfaces.iter().find_map(|(name, interface)| {
        let kind = interface.kind();
        let made = kind.is_bond() || kind == InterfaceType::Bridge;
        if kind.is_bond() && below(system, name.as_str()).is_empty() {
            return Some(format!(
                "its bond `{name}` has no slaves; `cordwainer system edit --name {} --interface NAME --mac-address MAC --interface-type bond_slave --interface-master {name}`",
                system.name
            ));
        }
        if kind.is_slave() && !made && vlan_of(name.as_str()).is_none() && interface.mac_address.is_none() {
            return Some(format!(
                "its interface `{name}` belongs to a {} and has no MAC, by which the installer would find it; give it --mac-address",
                if kind == InterfaceType::BondSlave { "bond" } else { "bridge" }
            ));
        }
        None
    })
}
