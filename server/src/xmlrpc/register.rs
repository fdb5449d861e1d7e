//! `register_new_system`: a machine adds itself, as cobbler-register asks. Only where the configuration says so, never over what there
//! is, never armed.
//!
//! Pure.

use super::fault::Fault;
use super::methods::{Asked, Outcome};
use super::session::Sessions;
use super::value::Value;
use crate::inventory::Change;
use crate::model::{Hostname, Kind, Mac, Name};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Interfaces of one machine, as in Cobbler.
const INTERFACES: usize = 64;

/// What cobbler-register writes where it knows nothing.
fn known(text: &str) -> bool {
    !matches!(text, "" | "?" | "~")
}

pub(super) fn register(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let world = asked.world;
    if !world.config.cobbler.register {
        return Err(Fault::cx("registration is disabled in cobbler settings"));
    }
    if !sessions.may_try(asked.caller.peer, true, world.now) {
        return Err(Fault::cx("too many registrations; try again in a minute"));
    }
    let info = asked.argument(0).and_then(Value::members);
    let info = info.ok_or_else(|| Fault::argument("argument 1 must be a struct"))?;
    let text = |of: &BTreeMap<String, Value>, field: &str| -> String {
        let found = of.get(field).and_then(Value::text);
        found.unwrap_or_default().trim().to_owned()
    };
    let (name, profile, hostname) = (text(info, "name"), text(info, "profile"), text(info, "hostname"));
    let none = BTreeMap::new();
    let interfaces = info.get("interfaces").and_then(Value::members).unwrap_or(&none);
    let refused = [
        (name.is_empty(), "no system name submitted"),
        (profile.is_empty(), "profile not submitted"),
        (interfaces.is_empty(), "no interfaces submitted"),
        (interfaces.len() >= INTERFACES, "too many interfaces submitted"),
    ];
    if let Some((_, why)) = refused.into_iter().find(|(wrong, _)| *wrong) {
        return Err(Fault::cx(why));
    }
    let inventory = &world.inventory;
    let name: Name = name.parse().map_err(|_| Fault::cx("this is no name of a system"))?;
    if inventory.system(name.as_str()).is_some() {
        return Err(Fault::cx("system name conflicts"));
    }
    if inventory.profile(&profile).is_none() {
        return Err(Fault::cx("there is no such profile"));
    }
    let mut fields = vec![("profile".to_owned(), profile)];
    if known(&hostname) {
        let host: Hostname = hostname.parse().map_err(|_| Fault::cx("this is no host name"))?;
        if inventory.system_by_hostname(&host).is_some() {
            return Err(Fault::cx("hostname conflicts"));
        }
        fields.push(("hostname".to_owned(), hostname));
    }
    let mut taken = 0_usize;
    for (interface, values) in interfaces {
        let Some(values) = values.members() else { continue };
        let (mac, address, mask) = (
            text(values, "mac_address"),
            text(values, "ip_address"),
            text(values, "netmask"),
        );
        if address.contains('/') {
            return Err(Fault::cx("no CIDR ips are allowed"));
        }
        if mac.is_empty() {
            return Err(Fault::cx(&format!(
                "missing MAC address for interface {}",
                shown(interface)
            )));
        }
        let is_bridge = values.get("bridge").and_then(Value::number) == Some(1);
        let parsed: Option<Mac> = mac.parse().ok();
        // The loopback has none; a bridge has its port's.
        let Some(parsed) = parsed.filter(|mac| !mac.is_unusable() && !is_bridge && interface != "lo") else {
            continue;
        };
        if inventory.system_by_mac(parsed).is_some() {
            return Err(Fault::cx(&format!("mac conflict: {parsed}")));
        }
        fields.push(("interface".to_owned(), interface.clone()));
        fields.push(("mac_address".to_owned(), parsed.to_string()));
        if known(&address) {
            let address: Ipv4Addr = address.parse().map_err(|_| Fault::cx("this is no IPv4 address"))?;
            if inventory.system_by_address(address).is_some() {
                return Err(Fault::cx(&format!("ip conflict: {address}")));
            }
            fields.push(("ip_address".to_owned(), address.to_string()));
        }
        if known(&mask) {
            fields.push(("netmask".to_owned(), mask));
        }
        taken = taken.saturating_add(1);
    }
    if taken == 0 {
        return Err(Fault::cx("no interface with a MAC address submitted"));
    }
    Ok(Outcome::Store {
        changes: vec![Change::Add {
            kind: Kind::System,
            name,
            fields,
        }],
        then: Value::Int(0),
        saved: Vec::new(),
        task: None,
    })
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(32).collect()
}
