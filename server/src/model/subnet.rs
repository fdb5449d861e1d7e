//! A served network and its pool of addresses.

use super::{Name, Span};
use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The address of a relay agent, as `giaddr` carries it.
pub type RelayAddress = Ipv4Addr;

/// How a request is tied to the machine that was armed (DESIGN 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// The address must hold our own active lease of that MAC.
    Lease,
    /// The kernel's neighbour entry of the address must be that MAC (proxy mode, on link).
    Neighbour,
    /// The address is in the guest network that Cordwainer made.
    Guest,
    /// The token alone: the admin said so for a routed network.
    TokenOnly,
}

/// An inclusive range of addresses, written `192.168.77.100-192.168.77.200`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address; not below `first`.
    pub last: Ipv4Addr,
}

/// The text was no pool.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a range of addresses; write FIRST-LAST like 192.168.77.100-192.168.77.200")]
pub struct BadPool(pub String);

impl Pool {
    /// True when `address` lies in the range.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// How many addresses the range holds.
    #[must_use]
    pub fn size(&self) -> u64 {
        let (first, last) = (u64::from(self.first.to_bits()), u64::from(self.last.to_bits()));
        last.saturating_sub(first).saturating_add(1)
    }

    /// Every address, in order.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (self.first.to_bits()..=self.last.to_bits()).map(Ipv4Addr::from_bits)
    }
}

impl FromStr for Pool {
    type Err = BadPool;

    fn from_str(text: &str) -> Result<Self, BadPool> {
        let bad = || BadPool(text.chars().take(64).collect());
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        let first: Ipv4Addr = first.trim().parse().map_err(|_| bad())?;
        let last: Ipv4Addr = last.trim().parse().map_err(|_| bad())?;
        if first > last {
            return Err(bad());
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for Pool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Whether "there is no IPv6 router here" is said on the link of a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Advertise {
    /// Where we are the DHCP server of the link, and no router advertises itself there.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Advertise {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// One `[[subnet]]`: what is handed out on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The network.
    pub network: Ipv4Net,
    /// Addresses for machines without a reservation; none: reservations only.
    pub pool: Option<Pool>,
    /// Option 3.
    pub router: Option<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<String>,
    /// Length of a lease.
    pub lease: Span,
    /// Relay agents whose `giaddr` is accepted.
    pub relays: Vec<RelayAddress>,
    /// How answer files are tied to machines here.
    pub binding: Binding,
    /// Whether machines are told that there is no IPv6 router: iPXE waits 16 s for one otherwise.
    pub router_advertisements: Advertise,
    /// Subnets of the same word lie on one link: a machine there may have an address of any of them.
    pub shared: Option<Name>,
    /// `probe = on`: an address is asked for on the wire before it is offered for the first time.
    pub probe: bool,
}
