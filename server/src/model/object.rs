//! The objects that machines are made of: distro, profile, system. Field names are Cobbler's.
//!
//! They hold what the admin wrote, not what it resolves to; inheritance is `inventory`'s.

use super::{
    Arch, BondingOpts, BridgeOpts, Dict, Hostname, Inherit, InterfaceType, Mac, Mtu, Name, Octets, RelayPort,
    StaticRoute, Virt,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Which kind of object a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A kernel, an initrd and the tree they come from.
    Distro,
    /// How to install a distro.
    Profile,
    /// One machine.
    System,
    /// A package repository beside the tree.
    Repo,
    /// A group of profiles in the boot menu.
    Menu,
    /// One file that machines are booted from as it is.
    Image,
}

impl Kind {
    /// Every kind, in the order that lists and documents show them.
    pub const ALL: [Self; 6] = [
        Self::Distro,
        Self::Profile,
        Self::System,
        Self::Repo,
        Self::Menu,
        Self::Image,
    ];

    /// The kind of that word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// `distro`, `profile`, `system`, `repo`, `menu` or `image`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Distro => "distro",
            Self::Profile => "profile",
            Self::System => "system",
            Self::Repo => "repo",
            Self::Menu => "menu",
            Self::Image => "image",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The image that a tree is served out of, as it was when it was imported: another one has other files in other places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Medium {
    /// Bytes.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub modified: i64,
}

/// Where the files of an imported tree lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Folder or ISO image that is served as `/d/<distro>/`. Absolute.
    pub root: PathBuf,
    /// True when `root` is the admin's own folder, false when it is a copy that Cordwainer made and may remove.
    pub in_place: bool,
    /// Set when `root` is an ISO image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iso: Option<Medium>,
    /// Folder whose files are seen before those of `root`: what an import laid beside a medium that cannot start an installation by
    /// itself, like the netboot files of a Debian disc. Always a copy of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<PathBuf>,
}

/// A kernel, an initrd, and where the rest of the tree is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distro {
    /// Unique among distros.
    pub name: Name,
    /// Processor it is built for.
    pub arch: Arch,
    /// Family: `redhat`, `debian`, `ubuntu`, `suse`, `lab`, ... as Cobbler names breeds.
    pub breed: String,
    /// Version within the family: `rhel9`, `12`, ...
    pub os_version: String,
    /// Path of the kernel: relative to the tree, or absolute where there is no tree.
    pub kernel: String,
    /// Paths of the initrds, in the order that they are handed to the loader.
    pub initrd: Vec<String>,
    /// The imported tree, if the distro has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
    /// The signature that recognised it, which supplies kernel arguments, minimum RAM and reboot habits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Name>,
    /// Kernel command line of the installer.
    #[serde(default, skip_serializing_if = "Dict::is_empty")]
    pub kernel_options: Dict,
    /// Kernel command line of the installed system.
    #[serde(default, skip_serializing_if = "Dict::is_empty")]
    pub kernel_options_post: Dict,
    /// Template variables.
    #[serde(default, skip_serializing_if = "Dict::is_empty")]
    pub autoinstall_meta: Dict,
    /// `ipxe`, `grub`, `pxe`; empty means that the server chooses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_loaders: Vec<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Free words, kept for Cobbler's users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// Fields of Cobbler's that few use or that mean nothing here, by name: kept for its users' scripts (`inventory::extra_docs`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

/// What a profile stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parent {
    /// A distro.
    Distro(Name),
    /// Another profile: this one is a sub-profile.
    Profile(Name),
}

/// How to install a distro.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Unique among profiles.
    pub name: Name,
    /// The distro, or the profile it refines.
    pub parent: Parent,
    /// Answer-file template, a path below `kickstarts/`.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub autoinstall: Inherit<String>,
    /// Template variables.
    #[serde(default, skip_serializing_if = "Dict::is_empty")]
    pub autoinstall_meta: Dict,
    /// Kernel command line of the installer.
    #[serde(default, skip_serializing_if = "Dict::is_empty")]
    pub kernel_options: Dict,
    /// Kernel command line of the installed system.
    #[serde(default, skip_serializing_if = "Dict::is_empty")]
    pub kernel_options_post: Dict,
    /// Resolvers for the installed system.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub name_servers: Inherit<Vec<Ipv4Addr>>,
    /// Search domains.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub name_servers_search: Inherit<Vec<String>>,
    /// Proxy URL for the installer.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub proxy: Inherit<String>,
    /// Loaders to use, first that fits.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub boot_loaders: Inherit<Vec<String>>,
    /// True when the profile appears in the boot menu.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub enable_menu: Inherit<bool>,
    /// What a guest of it gets.
    #[serde(default, skip_serializing_if = "Virt::is_empty")]
    pub virt: Virt,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Free words, kept for Cobbler's users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// Fields of Cobbler's that few use or that mean nothing here, by name: kept for its users' scripts (`inventory::extra_docs`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

/// One network interface of a system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interface {
    /// Hardware address; unique over all systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<Mac>,
    /// Address; unique over all systems. With authoritative DHCP it is a reservation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<Ipv4Addr>,
    /// Netmask, for a static address outside every `[[subnet]]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netmask: Option<Ipv4Addr>,
    /// Router of this interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_gateway: Option<Ipv4Addr>,
    /// True when the installed system keeps the address without DHCP.
    #[serde(rename = "static", skip_serializing_if = "std::ops::Not::not")]
    pub is_static: bool,
    /// Name of this interface in DNS; unique over all systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<Hostname>,
    /// Bridge of the hypervisor that a guest is tied to with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virt_bridge: Option<String>,
    /// Option 61 of the machine, by which its address is found where its MAC is on no record; unique over all systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Octets>,
    /// Option 82.1 of the port that the machine is at, likewise; unique over all systems together with the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_circuit_id: Option<Octets>,
    /// Option 82.2 of that port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_remote_id: Option<Octets>,
    /// What it is to others: a bond, a port of a bridge, ... A name such as `eth0.100` makes it a VLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_type: Option<InterfaceType>,
    /// The bond or bridge that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_master: Option<Name>,
    /// Options of a bond.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bonding_opts: Option<BondingOpts>,
    /// Options of a bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_opts: Option<BridgeOpts>,
    /// Routes over it, beside the default one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub static_routes: Vec<StaticRoute>,
    /// Largest frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// The default route goes over this one, where several have a router.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub management: bool,
    /// Fields of Cobbler's interfaces that mean nothing here, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

impl Interface {
    /// What it is to others.
    #[must_use]
    pub fn kind(&self) -> InterfaceType {
        self.interface_type.unwrap_or_default()
    }

    /// The port that it is known to be at, if it is.
    #[must_use]
    pub fn relay_port(&self) -> Option<RelayPort> {
        let (circuit, remote) = (self.relay_circuit_id.clone(), self.relay_remote_id.clone());
        (circuit.is_some() || remote.is_some()).then_some(RelayPort { circuit, remote })
    }
}

/// One machine.
///
/// `netboot_enabled` is no field: it is true exactly while the machine is armed (DESIGN 6), so it lives in the arming.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Unique among systems.
    pub name: Name,
    /// The profile that installs it; a system stands on a profile or on an image, never on both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Name>,
    /// The image that it boots instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Name>,
    /// Host name; unique over all systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// Router of the installed system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// Interfaces by name (`eth0`, `default`, ...). Boxed: a node of the map has room for eleven, of which most machines use one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub interfaces: BTreeMap<Name, Box<Interface>>,
    /// Answer-file template.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub autoinstall: Inherit<String>,
    /// Template variables.
    #[serde(default, skip_serializing_if = "Dict::is_empty")]
    pub autoinstall_meta: Dict,
    /// Kernel command line of the installer.
    #[serde(default, skip_serializing_if = "Dict::is_empty")]
    pub kernel_options: Dict,
    /// Kernel command line of the installed system.
    #[serde(default, skip_serializing_if = "Dict::is_empty")]
    pub kernel_options_post: Dict,
    /// Resolvers for the installed system.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub name_servers: Inherit<Vec<Ipv4Addr>>,
    /// Search domains.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub name_servers_search: Inherit<Vec<String>>,
    /// Proxy URL for the installer.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub proxy: Inherit<String>,
    /// Loaders to use, first that fits.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub boot_loaders: Inherit<Vec<String>>,
    /// What it gets as a guest.
    #[serde(default, skip_serializing_if = "Virt::is_empty")]
    pub virt: Virt,
    /// Cobbler's `status`: production, testing, ... Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Free words, kept for Cobbler's users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// Fields of Cobbler's that few use or that mean nothing here, by name: kept for its users' scripts (`inventory::extra_docs`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

impl System {
    /// What it stands on: the kind and the name of its profile or image. None of a record that was never judged.
    #[must_use]
    pub fn base(&self) -> Option<(Kind, &Name)> {
        let image = || self.image.as_ref().map(|name| (Kind::Image, name));
        self.profile.as_ref().map(|name| (Kind::Profile, name)).or_else(image)
    }

    /// The name of its profile; empty where it stands on an image.
    #[must_use]
    pub fn profile_name(&self) -> &str {
        self.profile.as_ref().map_or("", Name::as_str)
    }

    /// The name of its image; empty where it stands on a profile.
    #[must_use]
    pub fn image_name(&self) -> &str {
        self.image.as_ref().map_or("", Name::as_str)
    }

    /// Every hardware address of the machine.
    pub fn macs(&self) -> impl Iterator<Item = Mac> {
        self.interfaces.values().filter_map(|interface| interface.mac_address)
    }

    /// The interface that has `mac`, with its name.
    #[must_use]
    pub fn interface_of(&self, mac: Mac) -> Option<(&Name, &Interface)> {
        self.interfaces
            .iter()
            .map(|(name, interface)| (name, &**interface))
            .find(|(_, interface)| interface.mac_address == Some(mac))
    }
}
