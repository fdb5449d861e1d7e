//! Whether a guest reaches this server, by which address, and whether this server is asked when it boots from the network.
#![expect(
    clippy::disallowed_methods,
    reason = "asks the kernel for the route to a hypervisor, and looks at /dev/kvm and QEMU's bridge helper"
)]

use super::super::exit::Failure;
use super::super::host::local_address;
use crate::config::{Config, DhcpMode};
use crate::dhcp::{Link, links};
use crate::guest::{Dhcp, Forward, Host, Method, Network, NicSource, is_session};
use crate::model::Binding;
use ipnet::Ipv4Net;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

/// How a guest and this server find each other.
pub(super) struct Reach {
    /// Our address as the guest reaches it.
    pub(super) server: Ipv4Addr,
    /// Whether a network boot asks us.
    pub(super) dhcp: Dhcp,
    /// The address that its requests come from, where that is its hypervisor's.
    pub(super) behind: Option<Ipv4Addr>,
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
pub(super) fn find(
    config: &Config,
    (connect, method): (&str, Method),
    source: &NicSource,
    host: Option<&Host>,
) -> Result<Reach, Failure> {
    let network = match source {
        NicSource::Network(name) => host.and_then(|host| host.networks.iter().find(|network| network.name == *name)),
        _ => None,
    };
    let bridge = match source {
        NicSource::User if remote(connect).is_none() => return user(config, method),
        NicSource::User => None,
        NicSource::Bridge(bridge) => Some(bridge.clone()),
        NicSource::Network(_) => network.and_then(|network| network.bridge.clone()),
    };
    if let Some(far) = remote(connect) {
        return elsewhere(config, far, source, network, method);
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
        behind: None,
    })
}

/// How a guest of another host reaches us: from its own address, or from its hypervisor's.
fn elsewhere(
    config: &Config,
    far: &str,
    source: &NicSource,
    network: Option<&Network>,
    method: Method,
) -> Result<Reach, Failure> {
    let what = match (source, network) {
        (NicSource::User, _) => format!("QEMU's own network stack on {far}"),
        (_, Some(network)) => format!("network {} of {far}", network.name),
        _ => String::new(),
    };
    let forward = match source {
        NicSource::User => Forward::Translated,
        _ => network.map_or(Forward::Beside, |network| network.forward),
    };
    if forward == Forward::Isolated {
        return Err(Failure::said(
            format!("{what} is isolated, so its guests do not reach this server"),
            "choose a network that leaves that host, or a bridge: --network bridge=NAME",
        ));
    }
    let server = match config.guest_address {
        Some(address) => address,
        None => route_to(far)?.own,
    };
    let mut reach = Reach {
        server,
        dhcp: Dhcp::Unknown,
        behind: None,
    };
    match forward {
        Forward::Translated => {
            let through = route_to(far)?.there;
            behind(config, through, &what, method)?;
            reach.dhcp = Dhcp::NotOurs(format!("guests of {what} are behind their host's address"));
            reach.behind = Some(through);
        }
        Forward::Routed => {
            if let Some(network) = network
                && let Some(net) = network.network
            {
                routed(config, net, network.dhcp, &what)?;
            }
        }
        Forward::Isolated | Forward::Beside => {}
    }
    Ok(reach)
}

/// Refuses a guest that asks from its hypervisor's address where that gets nothing.
fn behind(config: &Config, through: Ipv4Addr, what: &str, method: Method) -> Result<(), Failure> {
    if !serves(config, through) {
        return Err(Failure::said(
            format!("guests of {what} ask from {through}, which this server does not answer"),
            format!(
                "serve it: allow = [\"{through}/32\"] in [server] of the configuration, then systemctl restart cordwainer"
            ),
        ));
    }
    // Its kernel carries the token, and the token is bound to that address. Without a kernel of ours, only the MAC could tell it.
    if !method.has_kernel() && method.installs() && config.binding_of(through) != Binding::TokenOnly {
        return Err(Failure::said(
            format!("guests of {what} ask from {through}, so --method {method} cannot tell this one from others there"),
            "use --method kernel, whose command line carries the installation's token; or tie it to a bridge: --network bridge=NAME",
        ));
    }
    Ok(())
}

/// Refuses a routed network whose guests would get no answer file: they are not on our link, so that no neighbour entry tells whose an
/// address is.
fn routed(config: &Config, net: Ipv4Net, foreign: bool, what: &str) -> Result<(), Failure> {
    let example = net.hosts().next().unwrap_or_else(|| net.network());
    if !serves(config, example) {
        return Err(Failure::said(
            format!("guests of {what} are in {net}, whose machines this server does not answer"),
            format!(
                "serve them: allow = [\"{net}\"] in [server] of the configuration, then systemctl restart cordwainer"
            ),
        ));
    }
    let told = match config.binding_of(example) {
        Binding::Lease | Binding::Guest => !foreign,
        Binding::Neighbour => false,
        Binding::TokenOnly => true,
    };
    if told {
        return Ok(());
    }
    Err(Failure::said(
        format!(
            "guests of {what} ask over a router, and in {net} this server knows no address by its lease or as its neighbour: they would get no answer file"
        ),
        format!("write [[subnet]] with network = \"{net}\" and binding = \"token-only\""),
    ))
}

/// True when machines at this address are answered at all.
fn serves(config: &Config, address: Ipv4Addr) -> bool {
    let named = links::served(config).unwrap_or_default();
    address.is_loopback()
        || named
            .iter()
            .flat_map(|link| &link.addresses)
            .any(|net| net.contains(&address))
        || config.subnets.iter().any(|subnet| subnet.network.contains(&address))
        || config.allow.iter().any(|allowed| allowed.contains(&address))
}

/// Refuses what an ordinary user's own libvirt cannot tie a guest to: only the helper that QEMU's package brings may, where root lets it.
pub(super) fn session_bridge(connect: &str, source: &NicSource) -> Result<(), Failure> {
    let NicSource::Bridge(bridge) = source else {
        return Ok(());
    };
    if !is_session(connect) || remote(connect).is_some() {
        return Ok(());
    }
    let helpers = ["/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper"];
    let is_root = |path: &&str| {
        std::fs::metadata(path)
            .is_ok_and(|helper| std::os::unix::fs::PermissionsExt::mode(&helper.permissions()) & 0o4000 != 0)
    };
    let allowed = std::fs::read_to_string("/etc/qemu/bridge.conf").unwrap_or_default();
    let allows = allowed.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("allow") && words.next().is_some_and(|name| name == bridge || name == "all")
    });
    if helpers.iter().any(is_root) && allows {
        return Ok(());
    }
    Err(Failure::said(
        format!("{connect} is an ordinary user's own libvirt, which may not put a guest on bridge {bridge}"),
        format!(
            "use --network user, or --connect qemu:///system; or let users do it, as root: chmod u+s /usr/lib/qemu/qemu-bridge-helper, and `allow {bridge}` in /etc/qemu/bridge.conf"
        ),
    ))
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

/// QEMU's own network stack brings what a guest sends to our own sockets, from our own address.
fn user(config: &Config, method: Method) -> Result<Reach, Failure> {
    let own = local_address(config, None);
    let server = config
        .guest_address
        .unwrap_or_else(|| if own.is_loopback() { SLIRP_HOST } else { own });
    let through = if server == SLIRP_HOST {
        Ipv4Addr::LOCALHOST
    } else {
        server
    };
    behind(config, through, "QEMU's own network stack", method)?;
    Ok(Reach {
        server,
        dhcp: Dhcp::NotOurs("QEMU's own network stack gives the addresses there".to_owned()),
        behind: Some(through),
    })
}

/// The way to another hypervisor.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Our address on it.
    own: Ipv4Addr,
    /// The hypervisor's.
    there: Ipv4Addr,
}

/// The addresses on the way to another hypervisor: a datagram socket that is connected asks the kernel, and sends nothing.
fn route_to(host: &str) -> Result<Way, Failure> {
    let failed = |why: String| {
        Failure::said(
            format!("this server's address towards guests on {host} is not known: {why}"),
            "name it: guest_address = \"ADDRESS\" in [server] of the configuration",
        )
    };
    let all = (host, 16509)
        .to_socket_addrs()
        .map_err(|error| failed(error.to_string()))?;
    let (there, address) = all
        .into_iter()
        .find_map(|place| match place {
            SocketAddr::V4(there) => Some((place, *there.ip())),
            SocketAddr::V6(_) => None,
        })
        .ok_or_else(|| failed("its name has no IPv4 address".to_owned()))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|error| failed(error.to_string()))?;
    socket.connect(there).map_err(|error| failed(error.to_string()))?;
    match socket.local_addr().map_err(|error| failed(error.to_string()))?.ip() {
        IpAddr::V4(own) if !own.is_loopback() => Ok(Way { own, there: address }),
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
    use crate::guest::{Forward, Host, Method, Network, NicSource};
    use crate::model::Arch;
    use std::net::Ipv4Addr;

    fn far(networks: Vec<Network>) -> Host {
        Host {
            uri: FAR.to_owned(),
            arch: Arch::X86_64,
            kvm: false,
            xen: false,
            pools: Vec::new(),
            networks,
        }
    }

    fn network(name: &str, forward: Forward) -> Network {
        Network {
            name: name.to_owned(),
            bridge: Some("virbr1".to_owned()),
            address: None,
            dhcp: forward == Forward::Translated,
            network: Some("10.9.0.0/24".parse().unwrap()),
            forward,
            active: true,
        }
    }

    /// The far host's address is this one's neighbour only in name: the kernel knows a way to it, and that is all that is asked.
    const FAR: &str = "qemu+tcp://192.0.2.7/system";

    fn config(text: &str) -> Config {
        // Of this machine's own networks the loop alone is served, whatever they are.
        let text = format!("[server]\ninterfaces = [\"lo\"]\nguest_address = \"192.0.2.1\"\n{text}");
        crate::config::wire::parse(&text, "c").unwrap()
    }

    /// What `find` says: the address that the guest asks from, or why it is refused.
    fn judged(text: &str, forward: Forward, method: Method) -> Result<Option<Ipv4Addr>, String> {
        let host = far(vec![network("some", forward)]);
        let source = NicSource::Network("some".to_owned());
        find(&config(text), (FAR, method), &source, Some(&host))
            .map(|reach| reach.behind)
            .map_err(|failure| failure.text())
    }

    #[test]
    fn a_guest_that_would_get_no_answer_is_refused() {
        let refused = |text, forward, method| judged(text, forward, method).unwrap_err();
        let said = refused("", Forward::Isolated, Method::Kernel);
        assert!(said.contains("network some of 192.0.2.7 is isolated"), "{said}");
        let said = refused("", Forward::Routed, Method::Kernel);
        assert!(said.contains("allow = [\"10.9.0.0/24\"]"), "{said}");
        let said = refused("allow = [\"10.9.0.0/24\"]\n", Forward::Routed, Method::Kernel);
        assert!(said.contains("over a router") && said.contains("token-only"), "{said}");
        let subnet = "[[subnet]]\nnetwork = \"10.9.0.0/24\"\nbinding = \"token-only\"\n";
        assert_eq!(judged(subnet, Forward::Routed, Method::Kernel), Ok(None));
        assert_eq!(judged("", Forward::Beside, Method::Kernel), Ok(None));
    }

    #[test]
    fn a_guest_behind_its_hypervisor_asks_from_there() {
        // Without a way to anywhere the kernel says so, and nothing can be judged.
        if std::net::UdpSocket::bind(("0.0.0.0", 0))
            .and_then(|socket| socket.connect(("192.0.2.7", 9)))
            .is_err()
        {
            return;
        }
        let said = judged("", Forward::Translated, Method::Kernel).unwrap_err();
        assert!(
            said.contains("ask from 192.0.2.7") && said.contains("allow = [\"192.0.2.7/32\"]"),
            "{said}"
        );
        let served = "allow = [\"192.0.2.0/24\"]\n";
        assert_eq!(
            judged(served, Forward::Translated, Method::Kernel),
            Ok(Some("192.0.2.7".parse().unwrap()))
        );
        let said = judged(served, Forward::Translated, Method::Iso).unwrap_err();
        assert!(said.contains("--method kernel"), "{said}");
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
