//! Which interfaces are served, and their facts as the kernel has them now.
#![expect(
    clippy::disallowed_methods,
    reason = "reads the routing table and interface facts of the host"
)]

use crate::config::Config;
use crate::dhcp::Link;
use crate::model::Mac;
use ipnet::Ipv4Net;
use std::net::{IpAddr, Ipv4Addr};

/// Why the interfaces to serve cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// An interface of the configuration does not exist.
    #[error("there is no interface `{name}`; [server] interfaces may name {present}")]
    Missing {
        /// As configured.
        name: String,
        /// Those that exist.
        present: String,
    },
    /// Nothing is configured and there is no default route.
    #[error("there is no default route to tell which interface to serve; name it: [server] interfaces = [\"{0}\"]")]
    NoDefaultRoute(String),
    /// The interface has no IPv4 address.
    #[error("interface `{0}` has no IPv4 address; give it one, or leave it out of [server] interfaces")]
    NoAddress(String),
}

/// The interfaces that `config` serves: those it names, or the one of the default route.
///
/// # Errors
/// [`LinkError`], with the remedy.
pub fn served(config: &Config) -> Result<Vec<Link>, LinkError> {
    let all = every();
    let names = if config.interfaces.is_empty() {
        vec![default_route().ok_or_else(|| LinkError::NoDefaultRoute(likely(&all)))?]
    } else {
        config.interfaces.clone()
    };
    names
        .into_iter()
        .map(|name| {
            let found = all.iter().find(|link| link.name == name);
            match found {
                None => Err(LinkError::Missing {
                    name,
                    present: all.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", "),
                }),
                Some(link) if link.addresses.is_empty() => Err(LinkError::NoAddress(name)),
                Some(link) => Ok(link.clone()),
            }
        })
        .collect()
}

/// The interface that an admin most likely means: the first with an address that is not the host's own loop.
fn likely(all: &[Link]) -> String {
    let served = |link: &&Link| link.addresses.iter().any(|net| !net.addr().is_loopback());
    let found = all.iter().find(served);
    found.map_or_else(|| "eth0".to_owned(), |link| link.name.clone())
}

/// Every interface of the host.
#[must_use]
pub fn every() -> Vec<Link> {
    pnet_datalink::interfaces()
        .into_iter()
        .map(|interface| {
            let addresses = interface.ips.iter().filter_map(|net| match net.ip() {
                IpAddr::V4(address) => Ipv4Net::new(address, net.prefix()).ok(),
                IpAddr::V6(_) => None,
            });
            Link {
                addresses: addresses.collect(),
                mac: interface
                    .mac
                    .map(|mac| Mac::new(mac.octets()))
                    .filter(|mac| !mac.is_unusable()),
                mtu: mtu(&interface.name),
                index: interface.index,
                name: interface.name,
            }
        })
        .collect()
}

/// The interface `name` as it is now.
#[must_use]
pub fn now(name: &str) -> Option<Link> {
    every().into_iter().find(|link| link.name == name)
}

fn mtu(name: &str) -> u32 {
    std::fs::read_to_string(format!("/sys/class/net/{name}/mtu"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1500)
}

fn default_route() -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/route").ok()?;
    default_route_of(&table)
}

/// The interface of the default route with the least metric, from the text of `/proc/net/route`.
fn default_route_of(table: &str) -> Option<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (name, destination) = (fields.next()?, fields.next()?);
            let metric: u32 = fields.nth(4)?.parse().ok()?;
            let mask = fields.next()?;
            let any =
                |hex: &str| u32::from_str_radix(hex, 16).is_ok_and(|bits| Ipv4Addr::from_bits(bits).is_unspecified());
            (any(destination) && any(mask)).then(|| (metric, name.to_owned()))
        })
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_least_metric_counts() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth1\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(default_route_of(table).unwrap(), "eth0");
        assert_eq!(default_route_of("Iface\n"), None);
    }

    #[test]
    fn a_missing_interface_is_named_with_those_that_exist() {
        let config = Config {
            interfaces: vec!["no-such0".into()],
            ..Config::default()
        };
        let error = served(&config).unwrap_err().to_string();
        assert!(error.contains("`no-such0`") && error.contains("lo"), "{error}");
    }
}
