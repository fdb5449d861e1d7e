//! From what an admin typed, what the profile's virt_* fields say and what the hypervisor has, to a [`Spec`], or why not.
//!
//! Pure. Never asks libvirt: its facts come in as a [`Host`], and where there are none (`--print-xml`) what cannot be judged is not.

use super::spec::{
    Accel, Backing, Bus, Disk, Firmware, Format, Graphics, Medium, Method, Nic, NicModel, NicSource, Origin, Spec,
    Uuid, XmlEdit,
};
use super::wish::{DiskWish, NicWish};
use crate::model::{Arch, Mac, Name, VirtWish};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Memory where nobody says, in MiB: enough for every installer that does not say otherwise in its signature.
const MEMORY: u32 = 2048;
/// Processors where nobody says.
const VCPUS: u32 = 2;
/// Size of the disk where nobody says: thin, so that it costs what is written.
const DISK: u64 = 20 << 30;
/// Addresses that are tried before a MAC is given up.
const TRIES: u32 = 256;

/// What a hypervisor has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its URI.
    pub uri: String,
    /// Its processor.
    pub arch: Arch,
    /// True when KVM runs guests there, as far as is known.
    pub kvm: bool,
    /// True for a Xen.
    pub xen: bool,
    /// Its storage pools.
    pub pools: Vec<Pool>,
    /// Its networks.
    pub networks: Vec<Network>,
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its folder, or volume group.
    pub path: Option<PathBuf>,
    /// True when it is started.
    pub active: bool,
}

/// A network of libvirt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its bridge on the hypervisor.
    pub bridge: Option<String>,
    /// The hypervisor's address in it.
    pub address: Option<Ipv4Addr>,
    /// True when libvirt gives the addresses itself.
    pub dhcp: bool,
    /// The network of that address.
    #[serde(default)]
    pub network: Option<Ipv4Net>,
    /// How its guests' packets leave it.
    pub forward: Forward,
    /// True when it is started.
    pub active: bool,
}

/// How packets leave a network of libvirt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forward {
    /// Not at all, but to its hypervisor: it has no `<forward>`.
    Isolated,
    /// From the address of its hypervisor (`nat`).
    Translated,
    /// From the guest's own address, over its hypervisor (`route`, `open`).
    Routed,
    /// As if the guest were beside its hypervisor (`bridge`, `private`, `passthrough`, ...).
    Beside,
}

/// Who gives the addresses where the guest boots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Dhcp {
    /// This server, alone or beside another as proxy.
    Ours,
    /// Somebody else; why that is known.
    NotOurs(String),
    /// It cannot be told.
    #[default]
    Unknown,
}

/// What the admin wants, and what is known of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The hypervisor.
    pub connect: String,
    /// Names this making.
    pub job: String,
    /// This server.
    pub owner: String,
    /// Uuid, where the guest has one already.
    pub uuid: Option<Uuid>,
    /// The system that it is.
    pub system: Option<Name>,
    /// Its profile.
    pub profile: Option<Name>,
    /// Processor of its distro.
    pub arch: Option<Arch>,
    /// Least memory that its installer runs in, MiB.
    pub least_memory: Option<u32>,
    /// Its installer reboots before done.
    pub reboots_midway: bool,
    /// This server's address as the guest reaches it.
    pub server: Option<Ipv4Addr>,
    /// Its hypervisor's address, where the guest asks from that.
    pub behind: Option<Ipv4Addr>,
    /// The system's interfaces: hardware address and `virt_bridge`.
    pub interfaces: Vec<(Mac, Option<String>)>,
    /// `--method`.
    pub method: Option<Method>,
    /// `--accel`; none: auto.
    pub accel: Option<Accel>,
    /// `--firmware`.
    pub firmware: Option<Firmware>,
    /// `--memory`, MiB.
    pub memory: Option<u32>,
    /// `--vcpus`.
    pub vcpus: Option<u32>,
    /// `--disk`.
    pub disks: Vec<DiskWish>,
    /// `--network`.
    pub nics: Vec<NicWish>,
    /// `--graphics`.
    pub graphics: Option<Graphics>,
    /// `--autostart`.
    pub autostart: bool,
    /// `--start-paused`.
    pub start_paused: bool,
    /// `--extra-args`.
    pub extra: String,
    /// `--reinstall`.
    pub reinstall: bool,
    /// The CD image.
    pub medium: Option<Medium>,
    /// `--xml-set`.
    pub edits: Vec<XmlEdit>,
    /// Whether KVM would run guests, where there is no [`Host`] to ask.
    pub kvm_guess: bool,
    /// Who gives the addresses.
    pub dhcp: Dhcp,
}

/// Why no guest is made: the thing, what was expected, the remedy.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// Nothing to make it from.
    #[error("guest `{0}` has no disk to start from; give --disk path=FILE, volume=NAME or backing=VOLUME")]
    NoDisk(Name),
    /// A kind that we make no guests of.
    #[error("guests of kind {kind} are not made; use virt_type kvm, qemu or xenpv, or give --method")]
    Kind {
        /// `virt_type`.
        kind: String,
    },
    /// A processor that we make no guests of.
    #[error("guests for {0} are not made; x86_64, i386 and aarch64 are")]
    Arch(Arch),
    /// The method and the hypervisor do not go together.
    #[error("{uri} cannot do --method {method}; {remedy}")]
    Hypervisor {
        /// Its URI.
        uri: String,
        /// The method.
        method: Method,
        /// What to give instead.
        remedy: &'static str,
    },
    /// The firmware and the guest do not go together.
    #[error("a guest of {what} has no {firmware} firmware; {remedy}")]
    Firmware {
        /// `aarch64`, `Xen`.
        what: String,
        /// What was asked for.
        firmware: Firmware,
        /// What to give instead.
        remedy: &'static str,
    },
    /// No KVM.
    #[error("{uri} has no KVM for {arch}; give --accel tcg, or leave it out, and the translator is used")]
    NoKvm {
        /// Its URI.
        uri: String,
        /// The guest's processor.
        arch: Arch,
    },
    /// No such pool.
    #[error("{uri} has no storage pool {wanted}; it has {}; choose one with --disk SIZE,pool=NAME, or make it: virsh -c {uri} pool-create-as {example} dir --target FOLDER", listed(.have))]
    NoPool {
        /// Its URI.
        uri: String,
        /// Name or folder.
        wanted: String,
        /// A name for the new one.
        example: String,
        /// What there is.
        have: Vec<String>,
    },
    /// A pool or network that is not started.
    #[error("{what} `{name}` of {uri} is not started; virsh -c {uri} {command}-start {name}")]
    Stopped {
        /// Its URI.
        uri: String,
        /// `storage pool` or `network`.
        what: &'static str,
        /// virsh's word.
        command: &'static str,
        /// Which.
        name: String,
    },
    /// A network of libvirt's where an ordinary user's own libvirt has none.
    #[error(
        "guest `{name}` cannot be tied to network `{wanted}`: {uri} is an ordinary user's own libvirt, which makes no networks; use --network user, or --connect qemu:///system"
    )]
    SessionNetwork {
        /// The guest.
        name: Name,
        /// Which.
        wanted: String,
        /// Its URI.
        uri: String,
    },
    /// No such network.
    #[error("{uri} has no network `{wanted}`; it has {}; choose one with --network network=NAME, or a bridge with --network bridge=NAME", listed(.have))]
    NoNetwork {
        /// Its URI.
        uri: String,
        /// Which.
        wanted: String,
        /// What there is.
        have: Vec<String>,
    },
    /// PXE where we are not asked.
    #[error(
        "guest `{name}` cannot boot by PXE: {why}, so this server is never asked; use --method kernel, or tie it to a network that this server serves"
    )]
    NotAsked {
        /// The guest.
        name: Name,
        /// Why.
        why: String,
    },
    /// A MAC that another system has.
    #[error("MAC {mac} belongs to system `{owner}`; leave mac= out, and one is made, or take it from there first")]
    MacTaken {
        /// The address.
        mac: Mac,
        /// Who has it.
        owner: Name,
    },
    /// A MAC that the system does not have.
    #[error(
        "system `{system}` does not have MAC {mac}; leave mac= out, and its own is used, or: cordwainer system edit {system} --mac-address {mac}"
    )]
    OtherMac {
        /// The system.
        system: Name,
        /// The address.
        mac: Mac,
    },
    /// The same address twice.
    #[error("MAC {0} is given to two network cards; leave it out of one")]
    MacTwice(Mac),
    /// No free address was found.
    #[error("no free MAC address was found for guest `{0}`; give one with --network ...,mac=MAC")]
    NoMac(Name),
    /// ISO without an image.
    #[error(
        "guest `{0}` has no CD image; give --iso FILE (of its hypervisor), or a profile whose distro was imported from an ISO image"
    )]
    NoMedium(Name),
    /// Too little memory.
    #[error("{memory} MiB of memory is less than libvirt's guests start with; give --memory 256 or more")]
    Memory {
        /// What was asked for.
        memory: u32,
    },
}

fn listed(have: &[String]) -> String {
    if have.is_empty() {
        "none".to_owned()
    } else {
        have.join(", ")
    }
}

/// A hardware address for the card `place` of the guest `name`: always the same, from the range of QEMU or of Xen. `attempt` gives the
/// next where that is taken.
#[must_use]
pub fn mac_of(name: &Name, place: usize, attempt: u32, xen: bool) -> Mac {
    let digest = Sha256::digest(format!("cordwainer mac {name} {place} {attempt}"));
    let mut low = [0_u8; 3];
    for (to, from) in low.iter_mut().zip(digest) {
        *to = from;
    }
    let [a, b, c] = low;
    if xen {
        // XenSource's range is halved: its upper half is for addresses that were registered.
        Mac::new([0x00, 0x16, 0x3e, a & 0x7f, b, c])
    } else {
        Mac::new([0x52, 0x54, 0x00, a, b, c])
    }
}

/// Makes every choice. `taken` tells who has a hardware address already, other than the system itself.
///
/// # Errors
/// [`Refused`], with the remedy; then nothing was made.
pub fn plan(
    name: &Name,
    options: &Options,
    virt: &VirtWish,
    host: Option<&Host>,
    taken: &dyn Fn(Mac) -> Option<Name>,
) -> Result<Spec, Refused> {
    let method = method(options, virt)?;
    let is_xen = options.connect.starts_with("xen") || host.is_some_and(|host| host.xen);
    match (method, is_xen) {
        (Method::XenPv, false) => {
            return Err(Refused::Hypervisor {
                uri: options.connect.clone(),
                method,
                remedy: "name a Xen: --connect xen:///system",
            });
        }
        (Method::Kernel | Method::Pxe | Method::Iso, true) => {
            return Err(Refused::Hypervisor {
                uri: options.connect.clone(),
                method,
                remedy: "on Xen use --method xen-pv",
            });
        }
        _ => {}
    }
    let pv = method == Method::XenPv;
    let arch = arch(options, host)?;
    let firmware = firmware(options, arch, pv)?;
    let memory = options
        .memory
        .or(virt.ram)
        .unwrap_or_else(|| options.least_memory.unwrap_or(0).max(MEMORY));
    if memory < 32 {
        return Err(Refused::Memory { memory });
    }
    if method == Method::Iso && options.medium.is_none() {
        return Err(Refused::NoMedium(name.clone()));
    }
    let nics = nics(name, options, virt, host, taken, pv)?;
    if method == Method::Pxe {
        asked(name, options, &nics, host)?;
    }
    let disks = disks(name, options, virt, host, (method, pv))?;
    let uuid = match (&options.uuid, nics.first()) {
        (Some(uuid), _) => uuid.clone(),
        (None, nic) => Uuid::of(name, nic.map_or(Mac::new([0; 6]), |nic| nic.mac)),
    };
    // A disk that was there holds something, and would boot.
    let reinstall = options.reinstall
        || (method.installs()
            && disks
                .first()
                .is_some_and(|disk| disk.existing || disk.backing.is_some()));
    Ok(Spec {
        name: name.clone(),
        uuid,
        connect: options.connect.clone(),
        job: options.job.clone(),
        owner: options.owner.clone(),
        system: options.system.clone(),
        profile: options.profile.clone(),
        method,
        arch,
        accel: accel(options, virt, host, (arch, pv))?,
        firmware,
        memory,
        vcpus: options.vcpus.or(virt.cpus).unwrap_or(VCPUS),
        disks,
        nics,
        graphics: options.graphics.unwrap_or(Graphics::None),
        autostart: options.autostart || virt.auto_boot.unwrap_or(false),
        start_paused: options.start_paused,
        extra: options.extra.clone(),
        serial_log: serial_log(name, &options.connect, pv),
        medium: options.medium.clone().filter(|_| method == Method::Iso),
        reinstall,
        reboots_midway: options.reboots_midway,
        server: options.server,
        behind: options.behind,
        edits: options.edits.clone(),
    })
}

fn method(options: &Options, virt: &VirtWish) -> Result<Method, Refused> {
    if let Some(method) = options.method {
        return Ok(method);
    }
    match virt.kind.as_deref() {
        Some("xenpv") => Ok(Method::XenPv),
        Some(kind @ ("xenfv" | "vmware" | "vmwarew" | "openvz")) => Err(Refused::Kind { kind: kind.to_owned() }),
        _ if virt.pxe_boot == Some(true) => Ok(Method::Pxe),
        _ => Ok(Method::Kernel),
    }
}

fn arch(options: &Options, host: Option<&Host>) -> Result<Arch, Refused> {
    let arch = options
        .arch
        .or_else(|| host.map(|host| host.arch))
        .unwrap_or(Arch::X86_64);
    match arch {
        Arch::X86_64 | Arch::I386 | Arch::Aarch64 => Ok(arch),
        Arch::Ppc64le | Arch::S390x => Err(Refused::Arch(arch)),
    }
}

fn firmware(options: &Options, arch: Arch, pv: bool) -> Result<Firmware, Refused> {
    match (options.firmware, arch, pv) {
        (Some(firmware @ Firmware::Uefi), _, true) => Err(Refused::Firmware {
            what: "Xen, paravirtual,".to_owned(),
            firmware,
            remedy: "leave --firmware out",
        }),
        (Some(firmware @ Firmware::Bios), Arch::Aarch64, _) => Err(Refused::Firmware {
            what: arch.to_string(),
            firmware,
            remedy: "leave --firmware out, or give --firmware uefi",
        }),
        (None, Arch::Aarch64, false) => Ok(Firmware::Uefi),
        (firmware, ..) => Ok(firmware.unwrap_or(Firmware::Bios)),
    }
}

fn accel(options: &Options, virt: &VirtWish, host: Option<&Host>, (arch, pv): (Arch, bool)) -> Result<Accel, Refused> {
    if pv || host.is_some_and(|host| host.xen) || options.connect.starts_with("xen") {
        return Ok(Accel::Xen);
    }
    let same = |host: &Host| host.arch == arch || (host.arch == Arch::X86_64 && arch == Arch::I386);
    let has_kvm = host.map_or(options.kvm_guess, |host| host.kvm && same(host));
    match options.accel {
        Some(Accel::Kvm) if host.is_some() && !has_kvm => Err(Refused::NoKvm {
            uri: options.connect.clone(),
            arch,
        }),
        Some(accel) => Ok(accel),
        None if virt.kind.as_deref() == Some("qemu") || !has_kvm => Ok(Accel::Tcg),
        None => Ok(Accel::Kvm),
    }
}

/// True for a libvirt that an ordinary user runs for himself.
#[must_use]
pub fn is_session(connect: &str) -> bool {
    let place = connect.split(['?', '#']).next().unwrap_or(connect);
    place.ends_with("/session")
}

/// libvirt's own folder, which its confinement lets QEMU's log daemon write. A session has no such folder that could be named from
/// afar, and Xen's console has no log here.
fn serial_log(name: &Name, connect: &str, pv: bool) -> Option<PathBuf> {
    (!pv && !is_session(connect)).then(|| PathBuf::from(format!("/var/log/libvirt/qemu/{name}-serial.log")))
}

fn nics(
    name: &Name,
    options: &Options,
    virt: &VirtWish,
    host: Option<&Host>,
    taken: &dyn Fn(Mac) -> Option<Name>,
    pv: bool,
) -> Result<Vec<Nic>, Refused> {
    let count = options.nics.len().max(options.interfaces.len()).max(1);
    let own = |mac: Mac| options.interfaces.iter().any(|(known, _)| *known == mac);
    let mut nics: Vec<Nic> = Vec::new();
    for place in 0..count {
        let wish = options.nics.get(place).cloned().unwrap_or_default();
        let interface = options.interfaces.get(place);
        let mac = match (wish.mac, interface) {
            (Some(mac), _) => {
                if let Some(owner) = taken(mac) {
                    return Err(Refused::MacTaken { mac, owner });
                }
                if let (Some(system), false, false) = (&options.system, options.interfaces.is_empty(), own(mac)) {
                    return Err(Refused::OtherMac {
                        system: system.clone(),
                        mac,
                    });
                }
                mac
            }
            (None, Some((mac, _))) => *mac,
            (None, None) => (0..TRIES)
                .map(|attempt| mac_of(name, place, attempt, pv))
                .find(|mac| taken(*mac).is_none() && nics.iter().all(|nic| nic.mac != *mac))
                .ok_or_else(|| Refused::NoMac(name.clone()))?,
        };
        if nics.iter().any(|nic| nic.mac == mac) {
            return Err(Refused::MacTwice(mac));
        }
        let of_interface = interface.and_then(|(_, bridge)| bridge.clone()).map(NicSource::Bridge);
        let source = wish
            .source
            .or(of_interface)
            .or_else(|| nics.last().map(|nic| nic.source.clone()))
            .or_else(|| virt.bridge.clone().map(NicSource::Bridge))
            .unwrap_or_else(|| usual_network(&options.connect, pv));
        if let (NicSource::Network(wanted), Some(host)) = (&source, host) {
            let there = host.networks.iter().any(|network| network.name == *wanted);
            if !there && is_session(&options.connect) {
                return Err(Refused::SessionNetwork {
                    name: name.clone(),
                    wanted: wanted.clone(),
                    uri: options.connect.clone(),
                });
            }
            network(host, wanted)?;
        }
        let model = if pv { NicModel::Netfront } else { NicModel::Virtio };
        nics.push(Nic {
            mac,
            source,
            model: wish.model.unwrap_or(model),
            vlan: wish.vlan,
            openvswitch: wish.openvswitch,
        });
    }
    Ok(nics)
}

/// What a guest is tied to where nobody says.
fn usual_network(connect: &str, pv: bool) -> NicSource {
    if pv {
        NicSource::Bridge("xenbr0".to_owned())
    } else if is_session(connect) {
        NicSource::User
    } else {
        NicSource::Network("default".to_owned())
    }
}

fn network<'h>(host: &'h Host, wanted: &str) -> Result<&'h Network, Refused> {
    let found = host.networks.iter().find(|network| network.name == wanted);
    let network = found.ok_or_else(|| Refused::NoNetwork {
        uri: host.uri.clone(),
        wanted: wanted.to_owned(),
        have: host.networks.iter().map(|network| network.name.clone()).collect(),
    })?;
    if network.active {
        Ok(network)
    } else {
        Err(Refused::Stopped {
            uri: host.uri.clone(),
            what: "network",
            command: "net",
            name: wanted.to_owned(),
        })
    }
}

/// Whether a PXE boot on the first card would ask this server.
fn asked(name: &Name, options: &Options, nics: &[Nic], host: Option<&Host>) -> Result<(), Refused> {
    let why = match nics.first().map(|nic| &nic.source) {
        Some(NicSource::User) => Some("QEMU's own network stack gives the addresses there".to_owned()),
        Some(NicSource::Network(wanted)) => host
            .and_then(|host| host.networks.iter().find(|network| network.name == *wanted))
            .filter(|network| network.dhcp)
            .map(|network| format!("libvirt gives the addresses of network {} itself", network.name)),
        _ => None,
    };
    let why = why.or_else(|| match &options.dhcp {
        Dhcp::NotOurs(why) => Some(why.clone()),
        Dhcp::Ours | Dhcp::Unknown => None,
    });
    match why {
        Some(why) => Err(Refused::NotAsked {
            name: name.clone(),
            why,
        }),
        None => Ok(()),
    }
}

fn disks(
    name: &Name,
    options: &Options,
    virt: &VirtWish,
    host: Option<&Host>,
    (method, pv): (Method, bool),
) -> Result<Vec<Disk>, Refused> {
    let mut wishes = options.disks.clone();
    if wishes.is_empty() {
        if method == Method::Import {
            return Err(Refused::NoDisk(name.clone()));
        }
        let sizes: Vec<u64> = match &virt.file_size {
            Some(sizes) => sizes.iter().map(|gib| u64::from(*gib) << 30).collect(),
            None => vec![DISK],
        };
        wishes = sizes
            .into_iter()
            .map(|size| DiskWish {
                size: Some(size),
                ..DiskWish::default()
            })
            .collect();
    }
    let there = |wish: &DiskWish| wish.path.is_some() || wish.volume.is_some() || wish.backing.is_some();
    if method == Method::Import && !wishes.first().is_some_and(there) {
        return Err(Refused::NoDisk(name.clone()));
    }
    let mut disks = Vec::new();
    for (place, wish) in wishes.into_iter().enumerate() {
        disks.push(disk(name, place, wish, virt, host, (options, pv))?);
    }
    Ok(disks)
}

fn disk(
    name: &Name,
    place: usize,
    wish: DiskWish,
    virt: &VirtWish,
    host: Option<&Host>,
    (options, pv): (&Options, bool),
) -> Result<Disk, Refused> {
    let bus = wish.bus.unwrap_or(if pv { Bus::Xen } else { Bus::Virtio });
    let made = |origin, format| Disk {
        size: wish.size,
        origin,
        format,
        bus,
        backing: None,
        existing: false,
    };
    let guessed = |text: &str| match text.rsplit_once('.') {
        Some((_, "raw" | "img")) => Format::Raw,
        _ => Format::Qcow2,
    };
    if let Some(path) = &wish.path {
        let is_device = path.starts_with("/dev");
        let format = wish.format.unwrap_or_else(|| match is_device {
            true => Format::Raw,
            false => guessed(&path.display().to_string()),
        });
        let path = path.clone();
        let origin = if is_device {
            Origin::Block { path }
        } else {
            Origin::File { path }
        };
        return Ok(Disk {
            existing: true,
            ..made(origin, format)
        });
    }
    let (pool, folder) = match (&wish.pool, virt.path.as_deref()) {
        (Some(pool), _) => (pool.clone(), None),
        // Cobbler's virt_path: a device is taken as it is, a folder is the pool that lies there, any other word is a pool.
        (None, Some(device)) if device.starts_with("/dev/") && wish.volume.is_none() => {
            let path = PathBuf::from(device);
            return Ok(Disk {
                existing: true,
                size: None,
                ..made(Origin::Block { path }, Format::Raw)
            });
        }
        (None, Some(folder)) if folder.starts_with('/') => pool_at(folder, host, options)?,
        (None, Some(pool)) => (pool.to_owned(), None),
        (None, None) => ("default".to_owned(), None),
    };
    if let Some(host) = host {
        known_pool(host, &pool)?;
    }
    if let Some(volume) = &wish.volume {
        let format = wish.format.unwrap_or_else(|| guessed(volume));
        let origin = Origin::Pool {
            pool,
            volume: volume.clone(),
            path: None,
        };
        return Ok(Disk {
            existing: true,
            ..made(origin, format)
        });
    }
    let of_profile = virt.disk_driver.as_deref().and_then(|driver| driver.parse().ok());
    let format = match (&wish.backing, wish.format) {
        (Some(_), _) => Format::Qcow2,
        (None, format) => format.or(of_profile).unwrap_or(Format::Qcow2),
    };
    let number = if place == 0 { String::new() } else { format!("-{place}") };
    let volume = format!("{name}{number}.{format}");
    let backing = wish.backing.clone().map(|(of, volume)| Backing {
        pool: of.unwrap_or_else(|| pool.clone()),
        format: guessed(&volume),
        volume,
    });
    if let (Some(host), Some(backing)) = (host, &backing) {
        known_pool(host, &backing.pool)?;
    }
    let path = folder.map(|folder| folder.join(&volume));
    Ok(Disk {
        backing,
        ..made(Origin::Pool { pool, volume, path }, format)
    })
}

/// The pool that lies in a folder, and the folder where nobody knows the pools.
fn pool_at(folder: &str, host: Option<&Host>, options: &Options) -> Result<(String, Option<PathBuf>), Refused> {
    let path = Path::new(folder);
    let base = path
        .file_name()
        .map_or_else(|| "images".to_owned(), |name| name.display().to_string());
    let Some(host) = host else {
        return Ok((base, Some(path.to_path_buf())));
    };
    match host.pools.iter().find(|pool| pool.path.as_deref() == Some(path)) {
        Some(pool) => Ok((pool.name.clone(), None)),
        None => Err(Refused::NoPool {
            uri: options.connect.clone(),
            wanted: format!("in {folder}, where virt_path wants the disks"),
            example: base,
            have: host.pools.iter().map(|pool| pool.name.clone()).collect(),
        }),
    }
}

fn known_pool(host: &Host, wanted: &str) -> Result<(), Refused> {
    let pool = host.pools.iter().find(|pool| pool.name == wanted);
    match pool {
        Some(pool) if pool.active => Ok(()),
        Some(_) => Err(Refused::Stopped {
            uri: host.uri.clone(),
            what: "storage pool",
            command: "pool",
            name: wanted.to_owned(),
        }),
        None => Err(Refused::NoPool {
            uri: host.uri.clone(),
            wanted: format!("`{wanted}`"),
            example: wanted.to_owned(),
            have: host.pools.iter().map(|pool| pool.name.clone()).collect(),
        }),
    }
}
