//! Every key of cordwainer.toml: what it expects, its default, and what it is for. The parser, its messages and cordwainer.toml(5)
//! all read this table; a key that is not here does not exist.

use std::fmt;

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Before the first `[...]`.
    Top,
    /// `[server]`.
    Server,
    /// `[dhcp]`.
    Dhcp,
    /// `[[subnet]]`, as often as there are networks.
    Subnet,
    /// `[http]`.
    Http,
    /// `[tftp]`.
    Tftp,
    /// `[boot]`.
    Boot,
    /// `[install]`.
    Install,
    /// `[cobbler]`.
    Cobbler,
    /// `[defaults]`.
    Defaults,
}

impl Section {
    /// All, in the order of the man page and of `config show`.
    pub const ALL: [Self; 10] = [
        Self::Top,
        Self::Server,
        Self::Dhcp,
        Self::Subnet,
        Self::Http,
        Self::Tftp,
        Self::Boot,
        Self::Install,
        Self::Cobbler,
        Self::Defaults,
    ];

    /// The word between the brackets; empty for the top.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::Server => "server",
            Self::Dhcp => "dhcp",
            Self::Subnet => "subnet",
            Self::Http => "http",
            Self::Tftp => "tftp",
            Self::Boot => "boot",
            Self::Install => "install",
            Self::Cobbler => "cobbler",
            Self::Defaults => "defaults",
        }
    }

    /// What the section is about, for the man page.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Top => "Keys before the first section.",
            Self::Server => "Where Cordwainer listens, and whom it serves.",
            Self::Dhcp => "How DHCP is spoken.",
            Self::Subnet => {
                "One section for each network on which addresses are given, or whose machines need another binding than the default. \
                 Required in authoritative mode."
            }
            Self::Http => "Boot scripts, kernels, install trees and answer files.",
            Self::Tftp => "Loaders for firmware that knows nothing better.",
            Self::Boot => "What machines are offered.",
            Self::Install => "Installations.",
            Self::Cobbler => "The faces of Cobbler: XML-RPC at /cobbler_api, for koan and for scripts, and its URLs.",
            Self::Defaults => "The root of inheritance: what every profile and system has unless it says otherwise.",
        }
    }
}

/// `[server]`, `[[subnet]]`, `the top of the file`.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => f.write_str("the top of the file"),
            Self::Subnet => f.write_str("[[subnet]]"),
            other => write!(f, "[{}]", other.as_str()),
        }
    }
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDoc {
    /// Where it stands.
    pub section: Section,
    /// Its name. A dash may be written for each underscore.
    pub name: &'static str,
    /// What its value must be, as a message says it after "expected".
    pub expects: &'static str,
    /// The default, in words.
    pub default: &'static str,
    /// What it does, in a sentence or two.
    pub help: &'static str,
}

macro_rules! keys {
    ($($section:ident $name:literal, $expects:literal, $default:literal, $help:literal;)*) => {
        /// Every key, by section.
        pub const KEYS: &[KeyDoc] = &[$(KeyDoc {
            section: Section::$section, name: $name, expects: $expects, default: $default, help: $help,
        }),*];
    };
}

keys! {
    Top "state", "an absolute path like \"/var/lib/cordwainer\"", "/var/lib/cordwainer",
        "Folder of inventory.db, live.db, events.db, the server key and copied trees. The option --state overrides it.";
    Top "overrides", "an absolute path like \"/etc/cordwainer\"", "/etc/cordwainer",
        "Folder whose kickstarts/, snippets/ and distros/ override the built-in files of the same name.";

    Server "interfaces", "a list of interface names like [\"br0\"]", "the interface of the default route",
        "Interfaces that are served.";
    Server "address", "an IPv4 address like \"192.168.77.1\"", "the address of the interface that the request came in on",
        "Address that machines are told to fetch from.";
    Server "guest_address", "an IPv4 address like \"192.168.122.1\"", "ours on the route to the guest's network",
        "Address that the installers of guests are told to fetch from.";
    Server "allow", "a list of networks like [\"10.20.0.0/16\"]", "none",
        "Further networks whose machines may fetch by TFTP and HTTP, beside those of the interfaces and of each [[subnet]].";

    Dhcp "mode", "\"proxy\", \"authoritative\" or \"off\"", "proxy",
        "proxy adds boot information to the answers of another DHCP server and gives no addresses; authoritative is the DHCP \
         server of each [[subnet]]; off answers no DHCP.";
    Dhcp "listen", "\"auto\", \"udp\" or \"packet\"", "auto",
        "packet takes DHCP packets from the link, past the UDP ports of this host, for a proxy beside another DHCP server on the same host; \
         udp takes them from the ports alone; auto is udp, and in proxy mode packet where another server has the port.";

    Subnet "network", "a network like \"192.168.77.0/24\"", "required",
        "The network. No two may overlap.";
    Subnet "pool", "a range of addresses like \"192.168.77.100-192.168.77.200\"", "none: only machines with an --ip-address get one",
        "Addresses for machines that have no --ip-address of their own. Inside the network.";
    Subnet "router", "an IPv4 address like \"192.168.77.1\"", "none",
        "Router that machines are told. Inside the network, outside the pool.";
    Subnet "dns", "a list of IPv4 addresses like [\"192.168.77.1\"]", "none",
        "Name servers that machines are told.";
    Subnet "domain", "a domain like \"lab.test\"", "none",
        "Domain that machines are told.";
    Subnet "lease", "a length of time like \"12h\"", "12h",
        "Length of a lease.";
    Subnet "relays", "a list of IPv4 addresses like [\"10.0.0.1\"]", "none: only machines on the link",
        "Relay agents (giaddr) whose packets are accepted.";
    Subnet "shared", "a word like \"floor2\"", "none: the subnet has its link to itself",
        "Name of a link that several [[subnet]] sections share, the same in each of them. A machine there gets an address of any of them \
         that holds its reservation or has room, in the order written, and keeps it; a relay that one of them lists speaks for all.";
    Subnet "binding", "\"lease\", \"neighbour\" or \"token-only\"", "lease in authoritative mode, else neighbour",
        "How an answer file is tied to its machine: by our lease of its address, by the kernel's neighbour entry of its address, \
         or by the token alone, which a routed network without our leases needs.";
    Subnet "router_advertisements", "\"auto\", \"on\" or \"off\"", "auto",
        "Whether iPXE is told by IPv6 that there is no IPv6 router here, else it waits 16 s for one on every boot; nobody gets a router, a \
         prefix or an address by it. auto: in authoritative mode, unless a router advertises itself on the link, or this host forwards \
         IPv6 there and may be one. on: always. off: never.";
    Subnet "probe", "\"on\" or \"off\"", "on",
        "on: free addresses of the pool are asked for on the wire (ARP, through a relay ping) before they are offered, so that a machine \
         that took one by hand keeps it and nobody else gets it; no machine waits for that. off: nothing is asked.";

    Http "port", "a port number from 0 to 65535 (0: any free one)", "80",
        "TCP port for machines.";
    Http "metrics_listen", "an address and port like \"127.0.0.1:9090\"", "none",
        "A further address for /metrics and /healthz, and nothing else.";

    Tftp "port", "a port number from 0 to 65535 (0: any free one)", "69",
        "UDP port. Firmware knows no other than 69.";

    Boot "unknown", "\"local\" or \"menu\"", "local",
        "What a machine without a record gets where Cordwainer is the DHCP server: its own disk, or a menu of profiles whose first \
         entry, after a while, is its own disk. In proxy mode it gets nothing.";
    Boot "menu_default", "the name of a profile", "none",
        "The profile that stands first in the menu.";
    Boot "loader_paths", "a list of absolute paths like [\"/srv/loaders\"]", "none",
        "Folders that are searched for boot loaders before those of the system's packages.";

    Install "arm_for", "a length of time like \"4h\"", "4h",
        "How long `system arm` arms a machine when --for is not given.";
    Install "timeout", "a length of time like \"1h\"", "1h",
        "Silence after which an installation counts as failed.";

    Cobbler "api", "\"on\" or \"off\"", "on",
        "XML-RPC at /cobbler_api, for machines of the served networks. Without a login it answers what koan needs and nothing secret; \
         logins are made by `cordwainer user add`. Admins write templates there too, where the server's user may write to the overrides.";
    Cobbler "port", "a port number like 25151, or 0 for none", "0",
        "Also listen there on the loopback address, as Cobbler's daemon does for scripts on its own host.";
    Cobbler "register", "\"on\" or \"off\"", "off",
        "on lets cobbler-register add a machine that is not on record yet, without a login. It never arms one and never changes one.";
    Cobbler "power", "\"on\" or \"off\"", "off",
        "on lets admins switch the power of libvirt guests over XML-RPC (power_system, background_power_system). The supervisor of guests \
         then answers the server's own account too, that one question and no other; restart both.";
    Cobbler "session", "a length of time like \"60m\"", "60m",
        "How long a login lasts after it was last used.";

    Defaults "ssh_authorized_keys", "a list of public keys like [\"ssh-ed25519 AAAA... you@example\"]", "none",
        "Public keys that may log in as root on installed machines.";
    Defaults "root_password_hash", "a crypted password like \"$6$...\" or \"$y$...\" (openssl passwd -6)", "none: no password",
        "Root password of installed machines, crypted. It is a secret: it is never shown, logged or exported.";
    Defaults "kernel_options", "options like \"console=ttyS0,115200 quiet\"", "none",
        "Kernel command line of every installer.";
    Defaults "autoinstall_meta", "variables like \"key=value other=value\"", "none",
        "Template variables of every answer file.";
    Defaults "name_servers", "a list of IPv4 addresses like [\"192.168.77.1\"]", "those of the subnet",
        "Name servers of installed machines.";
    Defaults "name_servers_search", "a list of domains like [\"lab.test\"]", "none",
        "Search domains of installed machines.";
    Defaults "timezone", "a time zone like \"Europe/Berlin\"", "Etc/UTC",
        "Time zone of installed machines.";
    Defaults "locale", "a locale like \"en_US.UTF-8\"", "en_US.UTF-8",
        "Locale of installed machines.";
    Defaults "keyboard", "a keyboard layout like \"us\"", "us",
        "Keyboard layout of installed machines.";
    Defaults "proxy", "a URL like \"http://proxy.lab.test:3128\"", "none",
        "Proxy that installers fetch packages through.";
}

impl KeyDoc {
    /// The entry of a key; `None` when there is none of that name, dashes or underscores.
    #[must_use]
    pub fn find(section: Section, name: &str) -> Option<&'static Self> {
        let name = name.replace('-', "_");
        KEYS.iter().find(|key| key.section == section && key.name == name)
    }
}
