//! What a guest is: every choice made, in values that cannot be wrong once they exist.
//!
//! Pure. Travels as JSON between command and supervisor and stands in the domain's metadata; never holds a secret, for libvirt shows
//! metadata to every reader.

use crate::model::{Arch, Mac, Name};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// A universally unique id as libvirt writes it: lower-case, with dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Uuid(String);

/// The text is no UUID.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{}` is not a UUID; write it like 7c1d4f9a-2c0e-4b57-9f5e-0a6d3f1b9e21", .0.escape_debug())]
pub struct BadUuid(String);

impl Uuid {
    /// The uuid of the guest `name` with the first hardware address `mac`: always the same, so that a guest made twice is one guest,
    /// and so that a reinstalled machine is recognised by option 97 (RFC 9562 section 5.8: version 8, made by our own rule).
    #[must_use]
    pub fn of(name: &Name, mac: Mac) -> Self {
        let digest = Sha256::digest(format!("cordwainer guest {name} {mac}"));
        let mut bytes = [0_u8; 16];
        for (to, from) in bytes.iter_mut().zip(digest) {
            *to = from;
        }
        if let Some(byte) = bytes.get_mut(6) {
            *byte = (*byte & 0x0f) | 0x80;
        }
        if let Some(byte) = bytes.get_mut(8) {
            *byte = (*byte & 0x3f) | 0x80;
        }
        let mut text = String::with_capacity(36);
        for (place, byte) in bytes.into_iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(text: &str) -> Result<Self, BadUuid> {
        let dashes = |place: usize| matches!(place, 8 | 13 | 18 | 23);
        let fits = text.len() == 36
            && text.bytes().enumerate().all(|(place, byte)| {
                if dashes(place) {
                    byte == b'-'
                } else {
                    byte.is_ascii_hexdigit()
                }
            });
        if fits {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(BadUuid(text.chars().take(64).collect()))
        }
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Makes an enum of words: serde, `as_str`, `Display` and `FromStr` all use the same ones.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident $what:literal { $($(#[$vdoc:meta])* $variant:ident $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),* }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word that is typed and stored.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or_else(|| {
                    let known: Vec<&str> = Self::ALL.iter().map(|one| one.as_str()).collect();
                    let text: String = text.chars().take(64).collect();
                    format!("`{}` is no {}; use {}", text.escape_debug(), $what, known.join(", "))
                })
            }
        }
    };
}

words! {
    /// How a guest is installed.
    Method "way to install a guest" {
        /// Kernel and initrd from the hypervisor's disk, a command line that points back at this server.
        Kernel "kernel",
        /// Its network card's boot ROM asks this server.
        Pxe "pxe",
        /// A CD image.
        Iso "iso",
        /// Nothing is installed: its disk is there already.
        Import "import",
        /// Xen, paravirtual: kernel and initrd first, then pygrub.
        XenPv "xen-pv",
    }
}

impl Method {
    /// True when the first boot gets its kernel and initrd from files on the hypervisor.
    #[must_use]
    pub const fn has_kernel(self) -> bool {
        matches!(self, Self::Kernel | Self::XenPv)
    }

    /// True when there is an installation: `import` has none and starts from its disk at once.
    #[must_use]
    pub const fn installs(self) -> bool {
        !matches!(self, Self::Import)
    }
}

words! {
    /// The guest's firmware. Secure Boot is none of them yet: its keys and loaders need an answer of their own.
    Firmware "firmware" {
        /// PC BIOS.
        Bios "bios",
        /// UEFI without Secure Boot and without enrolled keys.
        Uefi "uefi",
    }
}

words! {
    /// What runs the guest's code, decided.
    Accel "accelerator" {
        /// The processor itself.
        Kvm "kvm",
        /// QEMU's translator.
        Tcg "tcg",
        /// Xen.
        Xen "xen",
    }
}

words! {
    /// The format of a disk.
    Format "format of disks" {
        /// Grows as it is written, and may stand on another.
        Qcow2 "qcow2",
        /// The bytes of the disk.
        Raw "raw",
    }
}

words! {
    /// How the guest sees a disk.
    Bus "bus of disks" {
        /// virtio-blk: /dev/vda.
        Virtio "virtio",
        /// virtio-scsi: /dev/sda.
        Scsi "scsi",
        /// AHCI: /dev/sda.
        Sata "sata",
        /// Xen's own: /dev/xvda.
        Xen "xen",
    }
}

words! {
    /// How the guest sees a network card.
    NicModel "model of network cards" {
        /// virtio-net.
        Virtio "virtio",
        /// Intel 82574L, for systems without virtio.
        E1000e "e1000e",
        /// Intel 82540EM.
        E1000 "e1000",
        /// Realtek 8139.
        Rtl8139 "rtl8139",
        /// Xen's own.
        Netfront "netfront",
    }
}

words! {
    /// The guest's screen.
    Graphics "screen" {
        /// None: the serial console only.
        None "none",
        /// VNC on the hypervisor's loopback.
        Vnc "vnc",
        /// SPICE on the hypervisor's loopback.
        Spice "spice",
    }
}

words! {
    /// What the firmware tries first while the guest is installed.
    Order "boot order" {
        /// The disk, which is blank and falls through: no flip is needed, and a finished guest never meets the installer.
        DiskFirst "disk-first",
        /// The medium or the network: a disk that is not blank would boot.
        MediumFirst "medium-first",
    }
}

/// The golden volume that a thin disk stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backing {
    /// Its pool.
    pub pool: String,
    /// Its name there.
    pub volume: String,
    /// Its format.
    pub format: Format,
}

/// Where a disk's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "in")]
pub enum Origin {
    /// A volume of a storage pool.
    Pool {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// Where the pool says that it is, once the volume exists. Confinement of libvirt (AppArmor) follows paths and not volumes, so
        /// the XML names the path as soon as it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
    },
    /// A file of the hypervisor that is there already.
    File {
        /// Absolute.
        path: PathBuf,
    },
    /// A block device of the hypervisor.
    Block {
        /// Absolute.
        path: PathBuf,
    },
}

impl Origin {
    /// The path on the hypervisor, when it is known.
    #[must_use]
    pub fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::Pool { path, .. } => path.as_ref(),
            Self::File { path } | Self::Block { path } => Some(path),
        }
    }

    /// True for a block device.
    #[must_use]
    pub fn is_block(&self) -> bool {
        match self {
            Self::Pool { path, .. } => path.as_ref().is_some_and(|path| path.starts_with("/dev")),
            Self::Block { .. } => true,
            Self::File { .. } => false,
        }
    }
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Bytes; none for a disk that is there already, and for a clone of its golden volume's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Where it is.
    pub origin: Origin,
    /// Its format.
    pub format: Format,
    /// How the guest sees it.
    pub bus: Bus,
    /// What it stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<Backing>,
    /// True when it was there before the guest: it is never made, and `delete --disks` leaves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing: bool,
}

/// What a network card is tied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NicSource {
    /// A bridge of the hypervisor.
    Bridge(String),
    /// A network of libvirt.
    Network(String),
    /// QEMU's own network stack: the guest reaches out, nobody reaches it. All that qemu:///session has.
    User,
}

/// One network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// Hardware address.
    pub mac: Mac,
    /// What it is tied to.
    pub source: NicSource,
    /// How the guest sees it.
    pub model: NicModel,
    /// 802.1Q tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// True when the bridge is of Open vSwitch, which must be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub openvswitch: bool,
}

/// One `--xml-set XPATH=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XmlEdit {
    /// Where.
    pub path: String,
    /// What stands there then.
    pub value: String,
}

/// A guest with every choice made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name of the domain.
    pub name: Name,
    /// Its uuid, which its firmware tells as DHCP option 97.
    pub uuid: Uuid,
    /// The hypervisor: a URI of libvirt.
    pub connect: String,
    /// Names this making of the guest: the arming's id where there is an arming.
    pub job: String,
    /// The server that made it.
    pub owner: String,
    /// The system of the inventory that it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Name>,
    /// The profile that installs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Name>,
    /// How it is installed.
    pub method: Method,
    /// Processor.
    pub arch: Arch,
    /// What runs its code.
    pub accel: Accel,
    /// Firmware.
    pub firmware: Firmware,
    /// Memory in MiB.
    pub memory: u32,
    /// Virtual processors.
    pub vcpus: u32,
    /// Disks; the first is the one that boots.
    pub disks: Vec<Disk>,
    /// Network cards; the first is the one that boots.
    pub nics: Vec<Nic>,
    /// Screen.
    pub graphics: Graphics,
    /// Start it with its host, from the moment that it is installed.
    pub autostart: bool,
    /// Start it with its processors stopped, so that somebody can watch from the first byte.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start_paused: bool,
    /// More words for the installer's command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub extra: String,
    /// The CD image of `iso`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Medium>,
    /// Where the hypervisor keeps the serial console's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_log: Option<PathBuf>,
    /// True when its disk held something before: it was installed once, or was cloned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reinstall: bool,
    /// True when its installer reboots before done and goes on from the disk (its distro's signature says so).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reboots_midway: bool,
    /// This server's address as the guest reaches it: what its installer's command line points back at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Ipv4Addr>,
    /// Its hypervisor's address as this server sees it, where the guest asks from that: behind address translation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<Ipv4Addr>,
    /// What the admin changes in the XML, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<XmlEdit>,
}

impl Spec {
    /// What the firmware tries first while it is installed.
    #[must_use]
    pub const fn order(&self) -> Order {
        if self.reinstall {
            Order::MediumFirst
        } else {
            Order::DiskFirst
        }
    }
}

/// A CD image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// A file of the hypervisor.
    File(PathBuf),
    /// Ours, over HTTP; QEMU needs its block driver for it (package qemu-block-extra).
    Http {
        /// Address of this server.
        host: Ipv4Addr,
        /// Port.
        port: u16,
        /// Path from /.
        path: String,
    },
}

/// What the first boot needs beside the spec, known only when it is about to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// Kernel and initrd, as files of the hypervisor.
    Kernel {
        /// Absolute path there.
        kernel: PathBuf,
        /// Absolute path there; several initrds are one file by then.
        initrd: Option<PathBuf>,
        /// One string, as the kernel gets it.
        command_line: String,
    },
    /// The network card.
    Network(Order),
    /// A CD image.
    Cdrom(Medium, Order),
    /// The disk: nothing is installed.
    Disk,
}
