//! What is true of this server: the configuration after defaults, checks and parsing.
//!
//! Pure. `wire` says what the file may contain and turns it into [`Config`]; nothing here opens a file or asks the host. The keys,
//! what each expects and its default stand in one table, [`KEYS`], which feeds the parser, its messages and the man page.

mod dump;
mod keys;
mod read;
mod settings;
pub mod wire;

pub use dump::dump;
pub use keys::{KEYS, KeyDoc, Section};
pub use read::nearest;
pub use settings::{SETTINGS, Setting, settings};
pub use wire::{ConfigError, Problem};

use crate::model::{Binding, Defaults, Name, Span, Subnet};
use ipnet::Ipv4Net;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// How DHCP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DhcpMode {
    /// Boot information beside another server that gives the addresses.
    #[default]
    Proxy,
    /// We give the addresses.
    Authoritative,
    /// Nothing is answered.
    Off,
}

/// How packets to the DHCP ports are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DhcpListen {
    /// From the UDP port; in proxy mode from the link where another server of this host has the port.
    #[default]
    Auto,
    /// From the UDP port.
    Udp,
    /// From the link, past the ports of this host.
    Packet,
}

/// What an unknown machine gets where we are the DHCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// Its own disk.
    #[default]
    Local,
    /// A menu whose first entry, after a while, is its own disk.
    Menu,
}

/// How far the server speaks as Cobbler does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CobblerFace {
    /// XML-RPC is answered.
    pub api: bool,
    /// A port of the loopback address where it is answered too; 0: none.
    pub port: u16,
    /// `register_new_system` is taken without a login.
    pub register: bool,
    /// Admins switch the power of guests over XML-RPC.
    pub power: bool,
    /// How long a login lasts after it was last used.
    pub session: Span,
}

impl Default for CobblerFace {
    fn default() -> Self {
        Self {
            api: true,
            port: 0,
            register: false,
            power: false,
            session: Span::seconds(3600),
        }
    }
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// State folder.
    pub state: PathBuf,
    /// Interfaces that are served; empty: the interface of the default route.
    pub interfaces: Vec<String>,
    /// Address told to clients; none: the one of the interface that the request came in on.
    pub address: Option<Ipv4Addr>,
    /// Address told to guests of libvirt; none: ours on the route to their network.
    pub guest_address: Option<Ipv4Addr>,
    /// Further networks whose machines are served (TFTP and HTTP sources).
    pub allow: Vec<Ipv4Net>,
    /// How DHCP is spoken.
    pub dhcp: DhcpMode,
    /// How its packets are taken.
    pub dhcp_listen: DhcpListen,
    /// Served networks, in the order written.
    pub subnets: Vec<Subnet>,
    /// HTTP port; 0 means any free one (tests).
    pub http_port: u16,
    /// Where `/metrics` and `/healthz` are also served, beside `http_port`. None: only there.
    pub metrics_listen: Option<SocketAddr>,
    /// TFTP port.
    pub tftp_port: u16,
    /// What an unknown machine gets.
    pub unknown: Unknown,
    /// Root of inheritance.
    pub defaults: Defaults,
    /// How long `system arm` arms when `--for` is not given.
    pub arm_for: Span,
    /// Silence after which an installation counts as failed.
    pub install_timeout: Span,
    /// The faces of Cobbler.
    pub cobbler: CobblerFace,
    /// Folders searched for loaders before the system's own.
    pub loader_paths: Vec<PathBuf>,
    /// Folder with `kickstarts/`, `snippets/` and `distros/` that override the embedded ones.
    pub overrides: PathBuf,
    /// Menu entries' default order is by name; this one comes first.
    pub menu_default: Option<Name>,
}

impl Default for Config {
    /// What holds without a configuration file: proxyDHCP on the interface of the default route.
    fn default() -> Self {
        Self {
            state: PathBuf::from("/var/lib/cordwainer"),
            interfaces: Vec::new(),
            address: None,
            guest_address: None,
            allow: Vec::new(),
            dhcp: DhcpMode::Proxy,
            dhcp_listen: DhcpListen::Auto,
            subnets: Vec::new(),
            http_port: 80,
            metrics_listen: None,
            tftp_port: 69,
            unknown: Unknown::Local,
            defaults: Defaults {
                timezone: "Etc/UTC".to_owned(),
                locale: "en_US.UTF-8".to_owned(),
                keyboard: "us".to_owned(),
                ..Defaults::default()
            },
            arm_for: Span::seconds(4 * 3600),
            install_timeout: Span::seconds(3600),
            cobbler: CobblerFace::default(),
            loader_paths: Vec::new(),
            overrides: PathBuf::from("/etc/cordwainer"),
            menu_default: None,
        }
    }
}

impl DhcpMode {
    /// The word in the configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Authoritative => "authoritative",
            Self::Off => "off",
        }
    }
}

impl DhcpListen {
    /// The word in the configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Udp => "udp",
            Self::Packet => "packet",
        }
    }
}

impl Unknown {
    /// The word in the configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Menu => "menu",
        }
    }
}

impl Config {
    /// The subnet that holds `address`.
    #[must_use]
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.network.contains(&address))
    }

    /// `subnet` and all that share its link, it first, the others in the order written.
    #[must_use]
    pub fn network_of<'a>(&'a self, subnet: &'a Subnet) -> Vec<&'a Subnet> {
        let sharing = |other: &&Subnet| other.shared.is_some() && other.shared == subnet.shared;
        let others = self.subnets.iter().filter(sharing);
        std::iter::once(subnet)
            .chain(others.filter(|other| other.network != subnet.network))
            .collect()
    }

    /// How a request from `address` is tied to a machine: its subnet's rule; without one our leases where we give them, and the
    /// kernel's neighbour entry where another server does.
    #[must_use]
    pub fn binding_of(&self, address: Ipv4Addr) -> Binding {
        match (self.subnet_of(address), self.dhcp) {
            (Some(subnet), _) => subnet.binding,
            (None, DhcpMode::Authoritative) => Binding::Lease,
            (None, DhcpMode::Proxy | DhcpMode::Off) => Binding::Neighbour,
        }
    }
}
