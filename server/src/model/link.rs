//! How the interfaces of a machine hang together: bonds, bridges, VLANs, routes. Words and spellings are Cobbler's.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Longest name that the kernel gives a network device (IFNAMSIZ less its end).
pub const LONGEST_LINK_NAME: usize = 15;

/// What an interface is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InterfaceType {
    /// Nothing special: a card, or a VLAN where its name says so (`eth0.100`).
    #[default]
    Na,
    /// Made of its slaves.
    Bond,
    /// Part of the bond that `interface_master` names.
    BondSlave,
    /// A bridge.
    Bridge,
    /// A port of the bridge that `interface_master` names.
    BridgeSlave,
    /// A bond that is a port of the bridge that `interface_master` names.
    BondedBridgeSlave,
    /// The baseboard controller's: it has an address, and no installed system has it.
    Bmc,
}

impl InterfaceType {
    /// Every type with its word.
    pub const ALL: [(&'static str, Self); 7] = [
        ("na", Self::Na),
        ("bond", Self::Bond),
        ("bond_slave", Self::BondSlave),
        ("bridge", Self::Bridge),
        ("bridge_slave", Self::BridgeSlave),
        ("bonded_bridge_slave", Self::BondedBridgeSlave),
        ("bmc", Self::Bmc),
    ];

    /// Cobbler's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find_map(|(word, of)| (of == self).then_some(word)).unwrap_or("na")
    }

    /// True for what has a master.
    #[must_use]
    pub const fn is_slave(self) -> bool {
        matches!(self, Self::BondSlave | Self::BridgeSlave | Self::BondedBridgeSlave)
    }

    /// True for what is made of cards.
    #[must_use]
    pub const fn is_bond(self) -> bool {
        matches!(self, Self::Bond | Self::BondedBridgeSlave)
    }
}

impl fmt::Display for InterfaceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is nothing that an interface can have.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum BadLink {
    /// No type.
    #[error(
        "`{0}` is no type of an interface; write na, bond, bond_slave, bridge, bridge_slave, bonded_bridge_slave or bmc"
    )]
    Type(String),
    /// No MTU.
    #[error("`{0}` is no MTU; write a number of bytes from 576 to 65535, such as 9000")]
    Mtu(String),
    /// No route.
    #[error("`{0}` is no route; write NETWORK/PREFIX:ROUTER like 10.0.0.0/8:192.168.77.254")]
    Route(String),
    /// An option that is not written as one.
    #[error("`{0}` is no option; write key=value, several with blanks between")]
    Option(String),
    /// An option that no installer's format can say.
    #[error("`{key}` is no option of a {of}; it has {known}")]
    UnknownOption {
        /// As typed.
        key: String,
        /// `bond` or `bridge`.
        of: &'static str,
        /// Those that there are.
        known: String,
    },
    /// A mode that bonds do not have.
    #[error(
        "`{0}` is no mode of a bond; write balance-rr, active-backup, balance-xor, broadcast, 802.3ad, balance-tlb or balance-alb"
    )]
    Mode(String),
}

fn cut(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

impl FromStr for InterfaceType {
    type Err = BadLink;

    /// Cobbler 2 called the first two `master` and `slave`; nothing at all is `na`.
    fn from_str(text: &str) -> Result<Self, BadLink> {
        let word = text.trim().to_ascii_lowercase().replace('-', "_");
        match word.as_str() {
            "" => Ok(Self::Na),
            "master" => Ok(Self::Bond),
            "slave" => Ok(Self::BondSlave),
            word => {
                let mut all = Self::ALL.into_iter();
                all.find_map(|(known, of)| (known == word).then_some(of))
                    .ok_or_else(|| BadLink::Type(cut(text)))
            }
        }
    }
}

/// Largest frame of a link, in bytes. 576 is what every IPv4 host can take (RFC 791 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtu(u16);

impl Mtu {
    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Mtu {
    type Err = BadLink;

    fn from_str(text: &str) -> Result<Self, BadLink> {
        let bytes = text.trim().parse().ok().filter(|bytes| *bytes >= 576);
        bytes.map(Self).ok_or_else(|| BadLink::Mtu(cut(text)))
    }
}

/// A route of the installed system beside its default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaticRoute {
    /// Where to.
    pub to: ipnet::Ipv4Net,
    /// Over which router.
    pub via: Ipv4Addr,
}

impl fmt::Display for StaticRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.to, self.via)
    }
}

impl FromStr for StaticRoute {
    type Err = BadLink;

    /// A network mask may be written for the prefix, as Cobbler has it.
    fn from_str(text: &str) -> Result<Self, BadLink> {
        let bad = || BadLink::Route(cut(text));
        let (to, via) = text.rsplit_once(':').ok_or_else(bad)?;
        let via: Ipv4Addr = via.parse().map_err(|_| bad())?;
        let (network, prefix) = to.split_once('/').ok_or_else(bad)?;
        let network: Ipv4Addr = network.parse().map_err(|_| bad())?;
        let prefix = match prefix.parse::<Ipv4Addr>() {
            Ok(mask) => ipnet::ip_mask_to_prefix(mask.into()).map_err(|_| bad())?,
            Err(_) => prefix.parse().map_err(|_| bad())?,
        };
        let to = ipnet::Ipv4Net::new(network, prefix).map_err(|_| bad())?;
        if via.is_unspecified() || via.is_multicast() || via.is_broadcast() || to.trunc() != to {
            return Err(bad());
        }
        Ok(Self { to, via })
    }
}

/// Options of a bond that every installer's format has a word for, by the kernel's names
/// (Documentation/networking/bonding.rst). The second spelling is netplan's.
pub const BOND_OPTIONS: [(&str, &str); 19] = [
    ("mode", "mode"),
    ("miimon", "mii-monitor-interval"),
    ("updelay", "up-delay"),
    ("downdelay", "down-delay"),
    ("lacp_rate", "lacp-rate"),
    ("xmit_hash_policy", "transmit-hash-policy"),
    ("primary", "primary"),
    ("primary_reselect", "primary-reselect-policy"),
    ("arp_interval", "arp-interval"),
    ("arp_ip_target", "arp-ip-targets"),
    ("arp_validate", "arp-validate"),
    ("arp_all_targets", "arp-all-targets"),
    ("ad_select", "ad-select"),
    ("fail_over_mac", "fail-over-mac-policy"),
    ("num_grat_arp", "gratuitous-arp"),
    ("min_links", "min-links"),
    ("packets_per_slave", "packets-per-slave"),
    ("resend_igmp", "resend-igmp"),
    ("lp_interval", "learn-packet-interval"),
];

/// Options of a bridge, by netplan's names with underscores; NetworkManager and the others have the same words.
pub(super) const BRIDGE_OPTIONS: [&str; 6] = [
    "stp",
    "priority",
    "forward_delay",
    "hello_time",
    "max_age",
    "ageing_time",
];

const MODES: [&str; 7] = [
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
];

fn pairs(text: &str) -> Result<Vec<(String, String)>, BadLink> {
    let pair = |word: &str| {
        let bad = || BadLink::Option(cut(word));
        let (key, value) = word.split_once('=').ok_or_else(bad)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.:+,-".contains(c);
        let well = !value.is_empty() && value.chars().all(plain) && value.len() <= 128;
        if !well {
            return Err(bad());
        }
        Ok((key.to_ascii_lowercase().replace('-', "_"), value.to_owned()))
    };
    text.split(|c: char| c.is_whitespace() || c == ';')
        .filter(|word| !word.is_empty())
        .map(pair)
        .collect()
}

fn unknown(key: &str, of: &'static str, known: &[&str]) -> BadLink {
    BadLink::UnknownOption {
        key: cut(key),
        of,
        known: known.join(", "),
    }
}

macro_rules! options {
    ($(#[$doc:meta])* $name:ident, $read:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name(Box<[(&'static str, Box<str>)]>);

        impl $name {
            /// Names and values in the order written.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
                self.0.iter().map(|(key, value)| (*key, &**value))
            }

            /// The value of `key`.
            #[must_use]
            pub fn get(&self, key: &str) -> Option<&str> {
                self.iter().find_map(|(name, value)| (name == key).then_some(value))
            }

            /// True when nothing is said.
            #[must_use]
            pub const fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl FromStr for $name {
            type Err = BadLink;

            fn from_str(text: &str) -> Result<Self, BadLink> {
                pairs(text)?.into_iter().map($read).collect::<Result<_, _>>().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let words: Vec<String> = self.iter().map(|(key, value)| format!("{key}={value}")).collect();
                f.write_str(&words.join(" "))
            }
        }
    };
}

options! {
    /// `mode=802.3ad miimon=100`.
    BondingOpts, bond_option
}
options! {
    /// `stp=no forward_delay=0`.
    BridgeOpts, bridge_option
}

fn bond_option((key, value): (String, String)) -> Result<(&'static str, Box<str>), BadLink> {
    let mut all = BOND_OPTIONS.into_iter();
    let Some((known, _)) = all.find(|(kernel, netplan)| *kernel == key || netplan.replace('-', "_") == key) else {
        return Err(unknown(&key, "bond", &BOND_OPTIONS.map(|(kernel, _)| kernel)));
    };
    if known != "mode" {
        return Ok((known, value.into()));
    }
    // The kernel takes the numbers too; netplan and Agama do not.
    let numbered = value.parse::<usize>().ok().and_then(|number| MODES.get(number));
    let named = MODES.iter().find(|mode| **mode == value);
    let mode = numbered.or(named).ok_or_else(|| BadLink::Mode(cut(&value)))?;
    Ok((known, (*mode).into()))
}

fn bridge_option((key, value): (String, String)) -> Result<(&'static str, Box<str>), BadLink> {
    // ifcfg says `delay`.
    let key = if key == "delay" { "forward_delay" } else { &key };
    let mut all = BRIDGE_OPTIONS.into_iter();
    let known = all
        .find(|known| *known == key)
        .ok_or_else(|| unknown(key, "bridge", &BRIDGE_OPTIONS))?;
    let bad = || BadLink::Option(cut(&format!("{known}={value}")));
    if known == "stp" {
        let word = match value.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "1" => "yes",
            "no" | "off" | "false" | "0" => "no",
            _ => return Err(bad()),
        };
        return Ok((known, word.into()));
    }
    let number: u32 = value.parse().map_err(|_| bad())?;
    Ok((known, number.to_string().into()))
}

macro_rules! as_text {
    ($($kind:ty)*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(InterfaceType Mtu StaticRoute BondingOpts BridgeOpts);

/// `eth0.100` is VLAN 100 of `eth0` (IEEE 802.1Q: 1 to 4094).
#[must_use]
pub fn vlan_of(name: &str) -> Option<(&str, u16)> {
    let (parent, id) = name.rsplit_once('.')?;
    let id = id.parse().ok().filter(|id| (1..=4094).contains(id))?;
    (!parent.is_empty()).then_some((parent, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_prints_and_reads_again() {
        for (_, kind) in InterfaceType::ALL {
            assert_eq!(kind.to_string().parse::<InterfaceType>().unwrap(), kind);
        }
        assert_eq!("".parse::<InterfaceType>().unwrap(), InterfaceType::Na);
        assert_eq!("master".parse::<InterfaceType>().unwrap(), InterfaceType::Bond);
        let route: StaticRoute = "10.0.0.0/255.0.0.0:192.0.2.1".parse().unwrap();
        assert_eq!(route.to_string(), "10.0.0.0/8:192.0.2.1");
        assert_eq!(route.to_string().parse::<StaticRoute>().unwrap(), route);
        let bond: BondingOpts = "mode=4 miimon=100 lacp-rate=fast".parse().unwrap();
        assert_eq!(bond.to_string(), "mode=802.3ad miimon=100 lacp_rate=fast");
        let bridge: BridgeOpts = "stp=off delay=0".parse().unwrap();
        assert_eq!(bridge.to_string(), "stp=no forward_delay=0");
        assert_eq!("9000".parse::<Mtu>().unwrap().bytes(), 9000);
        assert_eq!(vlan_of("bond0.4094"), Some(("bond0", 4094)));
    }

    #[test]
    fn what_is_nothing_is_named() {
        for bad in ["bound", "team", "bond slave x"] {
            assert!(bad.parse::<InterfaceType>().is_err(), "{bad}");
        }
        for bad in ["", "0", "575", "65536", "9k"] {
            assert!(bad.parse::<Mtu>().is_err(), "{bad}");
        }
        for bad in [
            "10.0.0.0/8",
            "10.0.0.0:1.2.3.4",
            "10.0.0.1/8:1.2.3.4",
            "10.0.0.0/33:1.2.3.4",
            "0.0.0.0/0:0.0.0.0",
        ] {
            assert!(bad.parse::<StaticRoute>().is_err(), "{bad}");
        }
        for bad in ["mode", "mode=7", "mode=a b", "moed=1", "mode=$(x)", "primary="] {
            assert!(bad.parse::<BondingOpts>().is_err(), "{bad}");
        }
        for bad in ["stp=maybe", "priority=high", "color=red"] {
            assert!(bad.parse::<BridgeOpts>().is_err(), "{bad}");
        }
        for name in ["eth0", "eth0.0", "eth0.4095", ".7", "eth0.x"] {
            assert_eq!(vlan_of(name), None, "{name}");
        }
    }
}
