//! How the installer itself reaches the network: words for its kernel command line, in the language of its initramfs.
//!
//! Pure. By default the installer uses the card that the machine booted by, as it booted: that this reaches us is proved. Where the
//! variable `installer_network` is `final`, installers that run dracut set up what the installed system will have: bond, bridge, VLAN.

use crate::inventory::network::{Address, Link, LinkKind, NetworkPlan};
use std::net::Ipv4Addr;

/// The languages, by the name of their placeholder in a signature.
pub const LANGUAGES: [&str; 4] = ["net_dracut", "net_initramfs", "net_netcfg", "net_linuxrc"];

/// What the words are made of.
pub(super) struct Wanted<'a> {
    pub(super) plan: &'a NetworkPlan,
    /// Host name without its domain.
    pub(super) hostname: &'a str,
    pub(super) dns: Ipv4Addr,
    /// Set up what the installed system will have.
    pub(super) is_final: bool,
}

struct Fixed {
    ip: Ipv4Addr,
    prefix: u8,
    mask: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
}

fn fixed(link: Option<&Link>) -> Option<Fixed> {
    match link?.address {
        Address::Static { ip, prefix, gateway } => Some(Fixed {
            ip,
            prefix,
            mask: link?.address.netmask()?,
            gateway,
        }),
        Address::None | Address::Dhcp => None,
    }
}

fn or_empty(address: Option<Ipv4Addr>) -> String {
    address.map_or_else(String::new, |address| address.to_string())
}

impl Wanted<'_> {
    /// The card that the machine boots by.
    fn card(&self) -> Option<&Link> {
        let mut links = self.plan.links.iter();
        links.find(|link| link.boots && link.kind == LinkKind::Card)
    }

    /// The link that will carry the installed system's way to us: the outermost that the booting card is part of, or a VLAN on that.
    fn last(&self) -> Option<&Link> {
        let outermost = self.plan.booting()?;
        if outermost.address != Address::None {
            return Some(outermost);
        }
        let on_it = |link: &&Link| matches!(&link.kind, LinkKind::Vlan { on, .. } if *on == outermost.name);
        let vlans = self.plan.links.iter().filter(on_it);
        let rank = |link: &&Link| {
            let gateway = fixed(Some(link)).is_some_and(|fixed| fixed.gateway.is_some());
            (gateway, link.address != Address::None)
        };
        // The first of equals, as it is written in the record.
        vlans.rev().max_by_key(rank).or(Some(outermost))
    }

    /// The words of one language.
    pub(super) fn words(&self, language: &str) -> Vec<String> {
        match language {
            "net_dracut" if self.is_final && !self.plan.is_plain() => self.dracut_final(),
            "net_dracut" => self.dracut(),
            "net_initramfs" => self.initramfs(),
            "net_netcfg" => self.netcfg(),
            "net_linuxrc" => self.linuxrc(),
            _ => Vec::new(),
        }
    }

    /// dracut.cmdline(7). Without a device the words are about the one that `BOOTIF=` names.
    fn dracut(&self) -> Vec<String> {
        match fixed(self.card()) {
            Some(fixed) => vec![self.dracut_ip(&fixed, ""), format!("nameserver={}", self.dns)],
            None => vec!["ip=dhcp".to_owned()],
        }
    }

    fn dracut_ip(&self, fixed: &Fixed, device: &str) -> String {
        format!(
            "ip={}::{}:{}:{}:{device}:none",
            fixed.ip,
            or_empty(fixed.gateway),
            fixed.mask,
            self.hostname
        )
    }

    /// dracut knows bonds and VLANs by the names of devices only, so each card is given its name by its hardware address.
    fn dracut_final(&self) -> Vec<String> {
        let Some(last) = self.last() else {
            return self.dracut();
        };
        let mut needed = vec![last.name.as_str()];
        let mut done = 0;
        while let Some(name) = needed.get(done).copied() {
            done = done.saturating_add(1);
            for below in self.plan.link(name).into_iter().flat_map(Link::below) {
                if !needed.contains(&below) {
                    needed.push(below);
                }
            }
        }
        let mut words = Vec::new();
        for link in self
            .plan
            .links
            .iter()
            .filter(|link| needed.contains(&link.name.as_str()))
        {
            match &link.kind {
                LinkKind::Card => words.extend(link.mac.map(|mac| format!("ifname={}:{mac}", link.name))),
                LinkKind::Bond { members, opts } => {
                    let opts: Vec<String> = opts
                        .iter()
                        .map(|(key, value)| format!("{key}={}", value.replace(',', ";")))
                        .collect();
                    let mtu = link.mtu.map_or_else(String::new, |mtu| format!(":{mtu}"));
                    words.push(format!(
                        "bond={}:{}:{}{mtu}",
                        link.name,
                        members.join(","),
                        opts.join(",")
                    ));
                }
                LinkKind::Bridge { members, .. } => words.push(format!("bridge={}:{}", link.name, members.join(","))),
                LinkKind::Vlan { on, .. } => words.push(format!("vlan={}:{on}", link.name)),
            }
        }
        match fixed(Some(last)) {
            Some(fixed) => {
                words.push(self.dracut_ip(&fixed, &last.name));
                words.push(format!("nameserver={}", self.dns));
            }
            None => words.push(format!("ip={}:dhcp", last.name)),
        }
        words.push(format!("bootdev={}", last.name));
        words.push("rd.bootif=0".to_owned());
        words
    }

    /// The kernel's own form (Documentation/admin-guide/nfs/nfsroot.rst), which initramfs-tools, casper and Alpine's mkinitfs read;
    /// without a device they take the one that `BOOTIF=` names.
    fn initramfs(&self) -> Vec<String> {
        match fixed(self.card()) {
            Some(fixed) => vec![format!(
                "ip={}::{}:{}:{}::off:{}",
                fixed.ip,
                or_empty(fixed.gateway),
                fixed.mask,
                self.hostname,
                self.dns
            )],
            None => vec!["ip=dhcp".to_owned()],
        }
    }

    /// d-i: what netcfg asks before it can fetch the preseed file.
    fn netcfg(&self) -> Vec<String> {
        let Some(fixed) = fixed(self.card()) else {
            return Vec::new();
        };
        let mut words = vec![
            "netcfg/disable_autoconfig=true".to_owned(),
            format!("netcfg/get_ipaddress={}", fixed.ip),
            format!("netcfg/get_netmask={}", fixed.mask),
        ];
        match fixed.gateway {
            Some(gateway) => words.push(format!("netcfg/get_gateway={gateway}")),
            None => words.push("netcfg/no_default_route=true".to_owned()),
        }
        words.push("netcfg/confirm_static=true".to_owned());
        words
    }

    fn linuxrc(&self) -> Vec<String> {
        match fixed(self.card()) {
            Some(fixed) => {
                let mut words = vec![format!("hostip={}/{}", fixed.ip, fixed.prefix)];
                words.extend(fixed.gateway.map(|gateway| format!("gateway={gateway}")));
                words.push(format!("nameserver={}", self.dns));
                words
            }
            None => vec!["netsetup=dhcp".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::System;

    fn words(interfaces: &str, language: &str, is_final: bool) -> String {
        let system: System = serde_json::from_str(&format!(
            r#"{{"name": "web1", "profile": "p", "interfaces": {interfaces}}}"#
        ))
        .unwrap();
        let plan = NetworkPlan::of(&system, "52:54:00:00:00:01".parse().ok(), &|_| None);
        let wanted = Wanted {
            plan: &plan,
            hostname: "web1",
            dns: Ipv4Addr::new(192, 0, 2, 53),
            is_final,
        };
        wanted.words(language).join(" ")
    }

    const FIXED: &str = r#"{"eth0": {"mac_address": "52:54:00:00:00:01", "static": true, "ip_address": "192.0.2.7",
        "netmask": "255.255.255.0", "if_gateway": "192.0.2.1"}}"#;
    const BOND: &str = r#"{
        "eth0": {"mac_address": "52:54:00:00:00:01", "interface_type": "bond_slave", "interface_master": "bond0"},
        "eth1": {"mac_address": "52:54:00:00:00:02", "interface_type": "bond_slave", "interface_master": "bond0"},
        "eth2": {"mac_address": "52:54:00:00:00:03"},
        "bond0": {"interface_type": "bond", "bonding_opts": "mode=1 arp_ip_target=192.0.2.1,192.0.2.2", "mtu": "9000"},
        "bond0.7": {"static": true, "ip_address": "192.0.2.7", "netmask": "255.255.255.0", "if_gateway": "192.0.2.1"},
        "bond0.8": {}}"#;

    #[test]
    fn each_language_says_a_fixed_address_its_own_way() {
        for (language, said) in [
            (
                "net_dracut",
                "ip=192.0.2.7::192.0.2.1:255.255.255.0:web1::none nameserver=192.0.2.53",
            ),
            (
                "net_initramfs",
                "ip=192.0.2.7::192.0.2.1:255.255.255.0:web1::off:192.0.2.53",
            ),
            (
                "net_netcfg",
                "netcfg/disable_autoconfig=true netcfg/get_ipaddress=192.0.2.7 netcfg/get_netmask=255.255.255.0 \
                 netcfg/get_gateway=192.0.2.1 netcfg/confirm_static=true",
            ),
            (
                "net_linuxrc",
                "hostip=192.0.2.7/24 gateway=192.0.2.1 nameserver=192.0.2.53",
            ),
        ] {
            assert_eq!(words(FIXED, language, false), said);
            assert_eq!(words(FIXED, language, true), said, "one card is final");
        }
    }

    #[test]
    fn a_bond_is_installed_over_the_card_that_booted_unless_said_otherwise() {
        for (language, said) in [
            ("net_dracut", "ip=dhcp"),
            ("net_initramfs", "ip=dhcp"),
            ("net_netcfg", ""),
            ("net_linuxrc", "netsetup=dhcp"),
        ] {
            assert_eq!(words(BOND, language, false), said);
        }
        assert_eq!(
            words(BOND, "net_dracut", true),
            "ifname=eth0:52:54:00:00:00:01 ifname=eth1:52:54:00:00:00:02 \
             bond=bond0:eth0,eth1:mode=active-backup,arp_ip_target=192.0.2.1;192.0.2.2:9000 vlan=bond0.7:bond0 \
             ip=192.0.2.7::192.0.2.1:255.255.255.0:web1:bond0.7:none nameserver=192.0.2.53 bootdev=bond0.7 rd.bootif=0"
        );
    }
}
