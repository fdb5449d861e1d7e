//! The network plan as templates see it: `links`, a list of plain values, each link after those that it stands on.

use crate::inventory::network::{Address, Link, LinkKind, NetworkPlan};
use crate::model::{BOND_OPTIONS, StaticRoute};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A link's name, hardware address and kind, as others refer to it.
fn named(plan: &NetworkPlan, name: &str) -> Value {
    let link = plan.link(name);
    json!({
        "name": name,
        "mac": text(link.and_then(|link| link.mac)),
        "kind": link.map_or("card", Link::kind_word),
    })
}

fn route(route: &StaticRoute) -> Value {
    json!({
        "to": route.to.to_string(),
        "network": route.to.network().to_string(),
        "prefix": route.to.prefix_len(),
        "netmask": route.to.netmask().to_string(),
        "via": route.via.to_string(),
    })
}

fn one(plan: &NetworkPlan, link: &Link) -> Value {
    let (method, ip, prefix, gateway) = match link.address {
        Address::None => ("none", None, 0, None),
        Address::Dhcp => ("dhcp", None, 0, None),
        Address::Static { ip, prefix, gateway } => ("static", Some(ip), prefix, gateway),
    };
    let (members, opts): (&[String], Vec<(&str, &str)>) = match &link.kind {
        LinkKind::Bond { members, opts } => (members, opts.iter().collect()),
        LinkKind::Bridge { members, opts } => (members, opts.iter().collect()),
        LinkKind::Card | LinkKind::Vlan { .. } => (&[], Vec::new()),
    };
    let netplan = |key: &str| {
        let known = BOND_OPTIONS.iter().find(|(kernel, _)| *kernel == key);
        known.map_or_else(|| key.replace('_', "-"), |(_, netplan)| (*netplan).to_owned())
    };
    let (vlan_id, on) = match &link.kind {
        LinkKind::Vlan { id, on } => (json!(id), named(plan, on)),
        _ => (json!(""), json!("")),
    };
    json!({
        "name": link.name,
        "kind": link.kind_word(),
        "mac": text(link.mac),
        "master": link.master.as_ref().map_or_else(|| json!(""), |master| named(plan, master)),
        "members": members.iter().map(|member| named(plan, member)).collect::<Vec<_>>(),
        "opts": opts.iter().map(|(key, value)| json!({"key": key, "netplan": netplan(key), "value": value})).collect::<Vec<_>>(),
        "vlan_id": vlan_id,
        "on": on,
        "method": method,
        "ip": text(ip),
        "prefix": prefix,
        "netmask": text(link.address.netmask()),
        "gateway": text::<Ipv4Addr>(gateway),
        "routes": link.routes.iter().map(route).collect::<Vec<_>>(),
        "mtu": link.mtu.map_or_else(|| json!(""), |mtu| json!(mtu)),
        "boots": link.boots,
        "trunk": link.trunk,
    })
}

/// Every link of `plan`.
pub(super) fn links(plan: &NetworkPlan) -> Value {
    plan.links.iter().map(|link| one(plan, link)).collect()
}
