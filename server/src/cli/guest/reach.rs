//! Whether a guest reaches this server, by which address, and whether this server is asked when it boots from the network.
#![expect(
    clippy::disallowed_methods,
    reason = "asks the kernel for the route to a hypervisor, and looks at /dev/kvm"
)]

use super::super::exit::Failure;
use super::super::host::local_address;
use crate::config::{Config, DhcpMode};
use crate::dhcp::{Link, links};
use crate::guest::{Dhcp, Host, NicSource};
use crate::model::Binding;
use ipnet::Ipv4Net;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

/// How a guest and this server find each other.
pub(super) struct Reach {
    /// Our address as the guest reaches it.
    pub(super) server: Ipv4Addr,
    /// Whether a network boot asks us.
    pub(super) dhcp: Dhcp,
}

/// Where libvirt listens at the loopback of a guest's own network stack.
const SLIRP_HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// The host in a libvirt URI; none for this one.
fn remote(connect: &str) -> Option<&str> {
    let (_, rest) = connect.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    (!host.is_empty() && host != "localhost").then_some(host)
}

/// Finds out how a guest on `source` of the hypervisor at `connect` reaches us.
pub(super) fn find(config: &Config, connect: &str, source: &NicSource, host: Option<&Host>) -> Result<Reach, Failure> {
    let network = match source {
        NicSource::Network(name) => host.and_then(|host| host.networks.iter().find(|network| network.name == *name)),
        _ => None,
    };
    let bridge = match source {
        NicSource::User => return user(config),
        NicSource::Bridge(bridge) => Some(bridge.clone()),
        NicSource::Network(_) => network.and_then(|network| network.bridge.clone()),
    };
    if let Some(host) = remote(connect) {
        if let Some(network) = network.filter(|network| network.isolated) {
            return Err(Failure::said(
                format!(
                    "network {} of {host} is isolated, so its guests do not reach this server",
                    network.name
                ),
                "choose a network that leaves that host, or a bridge: --network bridge=NAME",
            ));
        }
        return Ok(Reach {
            server: match config.guest_address {
                Some(address) => address,
                None => route_to(host)?,
            },
            dhcp: Dhcp::Unknown,
        });
    }
    let link = bridge.as_ref().and_then(|bridge| links::now(bridge));
    if let (NicSource::Bridge(bridge), None, true) = (source, &link, host.is_some()) {
        return Err(Failure::said(
            format!("this host has no bridge {bridge}"),
            "make it, or choose another with --network bridge=NAME or network=NAME",
        ));
    }
    let address = match (config.guest_address, &link) {
        (Some(address), _) => address,
        (None, Some(link)) => first(config, link).unwrap_or_else(|| local_address(config, None)),
        (None, None) => local_address(config, None),
    };
    if address.is_loopback() && host.is_some() {
        return Err(Failure::said(
            "this server has no address that the guest could reach",
            "name one: guest_address = \"ADDRESS\" in [server] of the configuration",
        ));
    }
    let foreign = network
        .filter(|network| network.dhcp)
        .map(|network| format!("libvirt gives the addresses of network {} itself", network.name));
    if let Some(net) = link.as_ref().and_then(|link| net_of(link, address)) {
        answered(config, link.as_ref(), net, foreign.as_deref())?;
    }
    Ok(Reach {
        server: address,
        dhcp: asked(config, link.as_ref(), foreign),
    })
}

/// The address on that link that clients are told.
fn first(config: &Config, link: &Link) -> Option<Ipv4Addr> {
    let own = |address: &Ipv4Addr| link.addresses.iter().any(|net| net.addr() == *address);
    config
        .address
        .filter(own)
        .or_else(|| link.addresses.first().map(Ipv4Net::addr))
}

fn net_of(link: &Link, address: Ipv4Addr) -> Option<Ipv4Net> {
    let found = link.addresses.iter().find(|net| net.contains(&address));
    found.or_else(|| link.addresses.first()).copied()
}

/// Refuses a network whose requests this server would not answer, or would answer to nobody there.
fn answered(config: &Config, link: Option<&Link>, net: Ipv4Net, foreign: Option<&str>) -> Result<(), Failure> {
    let named = links::served(config).unwrap_or_default();
    let served = link.is_some_and(|link| named.iter().any(|served| served.name == link.name))
        || config.subnets.iter().any(|subnet| subnet.network.contains(&net.addr()))
        || config.allow.iter().any(|allowed| allowed.contains(&net.addr()));
    let network = net.trunc();
    if !served {
        return Err(Failure::said(
            format!("the guest would be in {network}, whose machines this server does not answer"),
            format!(
                "serve them: allow = [\"{network}\"] in [server] of the configuration, then systemctl restart cordwainer"
            ),
        ));
    }
    if let (Some(why), Binding::Lease) = (foreign, config.binding_of(net.addr())) {
        return Err(Failure::said(
            format!("answer files go only to addresses that this server leased, and in {network} {why}"),
            format!("write [[subnet]] with network = \"{network}\" and binding = \"neighbour\""),
        ));
    }
    Ok(())
}

/// Whether a DISCOVER on that link is ours to answer.
fn asked(config: &Config, link: Option<&Link>, foreign: Option<String>) -> Dhcp {
    if let Some(why) = foreign {
        return Dhcp::NotOurs(why);
    }
    if config.dhcp == DhcpMode::Off {
        return Dhcp::NotOurs("[dhcp] mode is off".to_owned());
    }
    let Some(link) = link else {
        return Dhcp::Unknown;
    };
    let named = links::served(config).unwrap_or_default();
    if named.iter().any(|served| served.name == link.name) {
        Dhcp::Ours
    } else {
        Dhcp::NotOurs(format!("{} is none of the interfaces in [server]", link.name))
    }
}

/// QEMU's own network stack brings what a guest sends to our own sockets.
fn user(config: &Config) -> Result<Reach, Failure> {
    let server = config.guest_address.unwrap_or_else(|| {
        let own = local_address(config, None);
        if own.is_loopback() { SLIRP_HOST } else { own }
    });
    Ok(Reach {
        server,
        dhcp: Dhcp::NotOurs("QEMU's own network stack gives the addresses there".to_owned()),
    })
}

/// Our address on the way to another hypervisor: a datagram socket that is connected asks the kernel, and sends nothing.
fn route_to(host: &str) -> Result<Ipv4Addr, Failure> {
    let failed = |why: String| {
        Failure::said(
            format!("this server's address towards guests on {host} is not known: {why}"),
            "name it: guest_address = \"ADDRESS\" in [server] of the configuration",
        )
    };
    let all = (host, 16509)
        .to_socket_addrs()
        .map_err(|error| failed(error.to_string()))?;
    let there = all
        .into_iter()
        .find(SocketAddr::is_ipv4)
        .ok_or_else(|| failed("its name has no IPv4 address".to_owned()))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|error| failed(error.to_string()))?;
    socket.connect(there).map_err(|error| failed(error.to_string()))?;
    match socket.local_addr().map_err(|error| failed(error.to_string()))?.ip() {
        IpAddr::V4(address) if !address.is_loopback() => Ok(address),
        _ => Err(failed("the way there is this host's own loop".to_owned())),
    }
}

/// True when KVM can be opened here, for XML that is only printed.
pub(super) fn kvm_here() -> bool {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::{find, remote};
    use crate::config::Config;
    use crate::guest::{Host, Network, NicSource};
    use crate::model::Arch;

    #[test]
    fn a_guest_on_an_isolated_network_of_another_host_is_refused() {
        let network = |name: &str, isolated| Network {
            name: name.to_owned(),
            bridge: Some("virbr1".to_owned()),
            address: None,
            dhcp: false,
            isolated,
            active: true,
        };
        let uri = "qemu+tcp://192.0.2.7/system";
        let host = Host {
            uri: uri.to_owned(),
            arch: Arch::X86_64,
            kvm: false,
            xen: false,
            pools: Vec::new(),
            networks: vec![network("alone", true), network("routed", false)],
        };
        let config = Config {
            guest_address: Some("192.0.2.1".parse().unwrap()),
            ..Config::default()
        };
        let reached = |name: &str| find(&config, uri, &NicSource::Network(name.to_owned()), Some(&host));
        let said = reached("alone").err().map(|failure| failure.text()).unwrap_or_default();
        assert!(said.contains("network alone of 192.0.2.7 is isolated"), "{said}");
        assert!(reached("routed").is_ok());
    }

    #[test]
    fn a_uri_names_another_host_or_none() {
        for (uri, host) in [
            ("qemu:///system", None),
            ("test:///default", None),
            ("qemu+ssh://root@hv1/system", Some("hv1")),
            ("qemu+tcp://192.168.5.2:16509/system?x=y", Some("192.168.5.2")),
            ("qemu+tls://hv1.lab/system", Some("hv1.lab")),
            ("qemu+ssh://localhost/system", None),
            ("nonsense", None),
        ] {
            assert_eq!(remote(uri), host, "{uri}");
        }
    }
}
