//! What is known of the machine that asks, gathered once, before anything is decided.

use super::World;
use crate::model::{Firmware, Mac, Name};
use std::net::Ipv4Addr;

/// How the machine was recognised, from the strongest to the weakest (DESIGN 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FoundBy {
    /// It showed a token.
    Token,
    /// The id in the path that we handed out.
    Path,
    /// The PXE exchange of the last minute from that address.
    Exchange,
    /// Our lease of that address.
    Lease,
    /// The kernel's neighbour entry of that address.
    Neighbour,
    /// `chaddr` of its DHCP packet. A claim: it yields a boot answer, never a secret.
    Chaddr,
    /// Nothing.
    Nothing,
}

/// iPXE's own account of itself: option 77 `iPXE` and option 175.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ipxe {
    /// It can fetch by HTTP (175.19).
    pub http: bool,
    /// It can boot a bzImage (175.24).
    pub bzimage: bool,
    /// Its version (175.235), if told.
    pub version: Option<(u8, u8, u8)>,
}

/// The machine that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its hardware address, as recognised.
    pub mac: Option<Mac>,
    /// How it was recognised.
    pub found_by: FoundBy,
    /// Option 93, or what an earlier exchange said.
    pub firmware: Option<Firmware>,
    /// Set when iPXE asks.
    pub ipxe: Option<Ipxe>,
    /// Option 60 as text, escaped.
    pub vendor_class: Option<String>,
    /// Option 97 or what the URL said: the SMBIOS UUID in text form.
    pub uuid: Option<String>,
    /// Where the request came from; none for a DHCP client without an address.
    pub peer: Option<Ipv4Addr>,
    /// The server's address that the client reaches: the one asked, or of the interface, or `[server] address`.
    pub local: Ipv4Addr,
    /// The kernel's neighbour entry of `peer`, read by the shell beforehand.
    pub neighbour: Option<Mac>,
}

impl Facts {
    /// A machine of which nothing is known, reaching the server at `local`.
    #[must_use]
    pub const fn nobody(local: Ipv4Addr) -> Self {
        Self {
            mac: None,
            found_by: FoundBy::Nothing,
            firmware: None,
            ipxe: None,
            vendor_class: None,
            uuid: None,
            peer: None,
            local,
            neighbour: None,
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The boot part of a DHCP offer or ACK: loader, URL, or nothing.
    BootFile,
    /// The boot script in a dialect, from the loader that runs now.
    Script(super::Dialect),
    /// The boot script of whoever has this address, from a loader that tells no MAC.
    ScriptAt(super::Dialect, Ipv4Addr),
    /// A loader by its name, by TFTP or HTTP.
    Loader(String),
    /// A file of a distro's tree: kernel, initrd, packages. The path is below the tree, already normalised, never leaving it.
    TreeFile {
        /// The distro.
        distro: Name,
        /// Path below the tree, `/`-separated, without `.` or `..`.
        path: String,
    },
    /// The file of an image.
    ImageFile(Name),
    /// A file of one installation, by its install token.
    AnswerFile {
        /// As it stood in the URL.
        token: String,
        /// `ks.cfg`, `preseed.cfg`, `answer`, ...
        file: String,
    },
    /// A report of one installation, by its report token.
    Report {
        /// As it stood in the URL.
        token: String,
        /// `partitioning`, `done`, `failed`, or a word of the template's own.
        stage: String,
        /// More words, escaped, at most 1 KiB.
        detail: Option<String>,
    },
    /// Something by one of Cobbler's URLs.
    Cobbler(CobblerAsk),
    /// Something by TFTP or HTTP that no rule knows. Kept so that it is decided, and recorded, like all else.
    Unknown(String),
}

/// What Cobbler's clients ask by its URLs: installers, the sections that run after them, koan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CobblerAsk {
    /// `op/ks`, `op/autoinstall`: an answer file.
    Answer {
        /// Of a system; else of a profile.
        system: bool,
        /// Its name.
        name: String,
        /// The token in the path, if there is one.
        token: Option<String>,
        /// Which of several files; none: the main one.
        file: Option<String>,
    },
    /// `op/autodetect`, `op/findks`: the answer file of whoever asks.
    Autodetect,
    /// `op/ipxe`, `op/gpxe`: the boot script of a system.
    Ipxe {
        /// Its name; none where a MAC was given.
        system: Option<String>,
        /// The image that is asked for instead.
        image: Option<String>,
    },
    /// `op/nopxe`: the machine is installed and shall boot from its disk.
    Nopxe {
        /// Its name.
        system: String,
        /// The report token in the path, if there is one.
        token: Option<String>,
    },
    /// `op/trig`: the installation of a system reached a point.
    Trigger {
        /// `pre`, `post` or `firstboot`.
        mode: String,
        /// Its name; none for a profile, of which nothing is known.
        system: Option<String>,
        /// The report token in the path, if there is one.
        token: Option<String>,
    },
    /// `op/list`: names.
    List(String),
    /// `op/yum`: the repositories of the installed system.
    Yum {
        /// Of a system; else of a profile.
        system: bool,
        /// Its name.
        name: String,
    },
    /// What is the same for anyone.
    Page(CobblerPage),
    /// What virt-install looks for in a Debian tree, which a netboot image does not have.
    DebianTree {
        /// The distro.
        distro: Name,
        /// The path below `current/images/`.
        path: String,
    },
}

/// What Cobbler's service and its web folder give to anyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CobblerPage {
    /// `op/index`, and no operation.
    Index,
    /// `op/settings`.
    Settings,
    /// `op/events`.
    Events,
    /// `op/debug`.
    Debug,
    /// `op/puppet`: the classes of a machine.
    Puppet {
        /// Its name in DNS.
        hostname: Option<String>,
    },
    /// Something of a mirrored repository.
    RepoMirror {
        /// Its name.
        repo: String,
        /// The path below it, normalised.
        path: String,
    },
    /// A file of the folder that the admin made for anyone.
    Public {
        /// The path below it, normalised.
        path: String,
    },
    /// A repository file of a distro's own tree.
    DistroRepo {
        /// `DISTRO-0.repo`.
        file: String,
    },
}

/// One question to [`super::decide()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub facts: Facts,
    /// For what.
    pub ask: Ask,
}

/// Gathers what is known of whoever asks by TFTP or HTTP: the path that we handed out, the last PXE exchange from that address, our
/// lease, the kernel's neighbour entry, in this order (DESIGN 3). A token is judged by `decide`.
#[must_use]
pub fn recognise(
    world: &World,
    path_mac: Option<Mac>,
    peer: Ipv4Addr,
    local: Ipv4Addr,
    neighbour: Option<Mac>,
) -> Facts {
    let sighting = world
        .installs
        .sightings
        .get(&peer)
        .filter(|seen| seen.is_fresh(world.now));
    let lease = world.installs.holders.get(&peer).copied();
    let found = [
        (path_mac, FoundBy::Path),
        (sighting.map(|seen| seen.mac), FoundBy::Exchange),
        (lease, FoundBy::Lease),
        (neighbour, FoundBy::Neighbour),
    ];
    let (mac, found_by) = found
        .into_iter()
        .find_map(|(mac, by)| mac.map(|mac| (Some(mac), by)))
        .unwrap_or((None, FoundBy::Nothing));
    Facts {
        mac,
        found_by,
        firmware: sighting
            .filter(|seen| Some(seen.mac) == mac)
            .and_then(|seen| seen.firmware),
        peer: Some(peer),
        neighbour,
        ..Facts::nobody(world.config.address.unwrap_or(local))
    }
}
