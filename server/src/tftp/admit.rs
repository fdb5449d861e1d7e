//! Who may ask: only machines of served networks, only from ports where no other service answers.
//!
//! Pure. TFTP runs over forgeable datagrams; what is refused here is not answered at all, so that nobody is hit by our answers.

use crate::config::Config;
use ipnet::Ipv4Net;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Transfers that one address may have at a time. A machine needs one; a rack behind one translated address a few.
pub const TRANSFERS_PER_ADDRESS: usize = 8;
/// Transfers in all. Each holds a socket and up to two windows.
pub const TRANSFERS: usize = 4096;

/// Ports whose owners answer to anything: an answer of ours to a forged request could make two servers talk for ever.
/// echo, daytime, qotd, chargen, time, domain, bootps, bootpc, tftp, portmap, ntp, netbios, snmp, cldap, rip, ssdp, mdns, memcached.
const SERVICES: [u16; 20] = [
    0, 7, 13, 17, 19, 37, 53, 67, 68, 69, 111, 123, 137, 138, 161, 389, 520, 1900, 5353, 11211,
];

/// Why a datagram is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// The address is in no served network.
    #[error("{0} is in no served network; add its network to [server] allow if it should be served")]
    Network(Ipv4Addr),
    /// The port belongs to another service.
    #[error("port {0} belongs to another service, so the request is forged")]
    Port(u16),
    /// No machine has such an address.
    #[error("{0} is no address of a machine")]
    Address(Ipv4Addr),
}

/// Judges `peer`, who reached us at `local`. `interfaces` holds the networks of the served interfaces.
///
/// # Errors
/// Why the peer is not answered.
pub fn admit(interfaces: &[Ipv4Net], config: &Config, peer: SocketAddrV4, local: Ipv4Addr) -> Result<(), NotServed> {
    let address = *peer.ip();
    if SERVICES.contains(&peer.port()) {
        return Err(NotServed::Port(peer.port()));
    }
    if address.is_unspecified() || address.is_broadcast() || address.is_multicast() {
        return Err(NotServed::Address(address));
    }
    if address.is_loopback() {
        return if local.is_loopback() {
            Ok(())
        } else {
            Err(NotServed::Address(address))
        };
    }
    let networks = || {
        let subnets = config.subnets.iter().map(|subnet| &subnet.network);
        interfaces.iter().chain(subnets).chain(&config.allow)
    };
    // Below /31 the last address of a network is its broadcast address, and an answer to it would hit everyone.
    if networks().any(|network| network.prefix_len() < 31 && network.broadcast() == address) {
        return Err(NotServed::Address(address));
    }
    if networks().any(|network| network.contains(&address)) {
        Ok(())
    } else {
        Err(NotServed::Network(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_machines_of_served_networks_are_answered() {
        let config = Config {
            allow: vec!["10.9.0.0/16".parse().unwrap()],
            ..Config::default()
        };
        let interfaces = ["192.168.77.0/24".parse().unwrap()];
        let served =
            |peer: &str, local: &str| admit(&interfaces, &config, peer.parse().unwrap(), local.parse().unwrap());
        assert_eq!(served("192.168.77.20:2070", "192.168.77.1"), Ok(()));
        assert_eq!(served("10.9.3.4:49152", "192.168.77.1"), Ok(()));
        assert_eq!(served("127.0.0.1:40000", "127.0.0.2"), Ok(()));
        assert!(matches!(
            served("192.168.78.20:2070", "192.168.77.1"),
            Err(NotServed::Network(_))
        ));
        assert!(matches!(
            served("127.0.0.1:40000", "192.168.77.1"),
            Err(NotServed::Address(_))
        ));
        for forged in [
            "192.168.77.255:2070",
            "255.255.255.255:2070",
            "224.0.0.1:2070",
            "0.0.0.0:2070",
        ] {
            assert!(
                matches!(served(forged, "192.168.77.1"), Err(NotServed::Address(_))),
                "{forged}"
            );
        }
        for port in [0, 7, 19, 53, 67, 69, 123, 1900] {
            let peer = format!("192.168.77.20:{port}");
            assert_eq!(served(&peer, "192.168.77.1"), Err(NotServed::Port(port)));
        }
    }
}
