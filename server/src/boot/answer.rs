//! The answers that a decision can have, as values. `render` turns them into text and packets; nothing here does.

use super::Trace;
use crate::assets::Asset;
use crate::install::{Act, ArmId};
use crate::inventory::{Entry, Removed, Resolved, Sourced};
use crate::model::{Firmware, Mac, Medium, Name};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

/// What was decided, why, and what it changes.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What to send.
    pub answer: Answer,
    /// Why, and what was passed over.
    pub trace: Trace,
    /// What changes if it is sent. Explain and previews drop them.
    pub effects: Vec<Effect>,
}

/// When an effect must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Durable before the reply leaves: claim, done.
    Before,
    /// Soon after: seen, stage inferred.
    After,
}

/// A change of live state, idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An input for an installation.
    Install {
        /// When it must hold.
        when: When,
        /// What was heard.
        act: Act,
    },
    /// A machine's boot exchange used this address (memory only, always after).
    Seen {
        /// The machine.
        mac: Mac,
        /// Its address.
        address: Ipv4Addr,
        /// Its firmware, when told.
        firmware: Option<Firmware>,
        /// True when a loader of ours was fetched.
        loader: bool,
    },
}

/// What to send.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Nothing; the reason is the trace's verdict.
    Silence,
    /// There is no such thing, or not for this client: the same 404 for every cause.
    NotFound,
    /// The boot part of a DHCP reply.
    BootFile(BootFile),
    /// A boot script.
    Script(Box<Script>),
    /// A loader, as found on disk.
    Loader(Arc<Asset>),
    /// A file or folder listing below a tree. Whether it is there, only the shell can tell.
    TreeFile {
        /// The distro it belongs to.
        distro: Name,
        /// The tree's folder, or its ISO image.
        root: PathBuf,
        /// The image that `root` must be, where it was imported as one.
        iso: Option<Medium>,
        /// The folder whose files are seen before those of `root`.
        overlay: Option<PathBuf>,
        /// Path below it.
        path: String,
    },
    /// One answer file, to be rendered.
    AnswerFile(Box<AnswerFile>),
    /// The report is taken; the body is one line.
    Accepted,
    /// This text, as Cobbler gives it.
    Text(String),
    /// It is at this URL.
    Elsewhere(String),
    /// A file or folder listing for anyone, by HTTP only. Whether it is there, only the shell can tell.
    Public {
        /// The folder.
        root: PathBuf,
        /// Path below it, normalised.
        path: String,
    },
}

/// The boot part of a DHCP reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootFile {
    /// TFTP: `file` and option 67, from `siaddr` and option 66.
    Tftp {
        /// Name of the loader.
        file: String,
        /// The TFTP server: our own address towards the client.
        server: Ipv4Addr,
    },
    /// HTTP: a URL in option 67 (and `file` when it fits); for UEFI HTTP Boot option 60 is echoed.
    Url(String),
    /// An address, and no boot file: the client is no network boot client.
    None,
}

/// The language of a boot script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// iPXE.
    Ipxe,
    /// GRUB 2.
    Grub,
    /// PXELINUX.
    Pxelinux,
}

impl Dialect {
    /// `ipxe`, `grub`, `pxelinux`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipxe => "ipxe",
            Self::Grub => "grub",
            Self::Pxelinux => "pxelinux",
        }
    }
}

/// What a boot script does. Text is made by `render`, one encoder per dialect.
#[derive(Debug, Clone)]
pub enum Script {
    /// Start an installer.
    Launch(Box<Launch>),
    /// Boot the machine's own disk.
    Local {
        /// The dialect.
        dialect: Dialect,
        /// The firmware, which decides how.
        firmware: Option<Firmware>,
        /// One line for the console: why.
        because: String,
    },
    /// Boot an image.
    Image(Box<ImageBoot>),
    /// Offer profiles; the first entry, after the timeout, is the own disk.
    Menu(Menu),
}

/// Everything that a loader needs to start an installer.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The dialect.
    pub dialect: Dialect,
    /// The firmware.
    pub firmware: Option<Firmware>,
    /// The machine.
    pub system: Name,
    /// Its profile, for the console.
    pub profile: Name,
    /// URL of the kernel.
    pub kernel: String,
    /// URLs of the initrds in order.
    pub initrd: Vec<String>,
    /// What follows each in iPXE: its name in the initramfs, or a multiboot module's arguments.
    pub initrd_args: Vec<String>,
    /// The kernel command line, each option with its layer; order counts.
    pub options: Vec<Entry>,
    /// Options that a lower layer deleted.
    pub removed: Vec<Removed>,
}

/// Everything that a loader needs to boot an image.
#[derive(Debug, Clone)]
pub struct ImageBoot {
    /// The dialect.
    pub dialect: Dialect,
    /// The firmware.
    pub firmware: Option<Firmware>,
    /// The machine.
    pub system: Name,
    /// The image.
    pub image: Name,
    /// URL of its file.
    pub url: String,
    /// How it is started.
    pub start: ImageStart,
    /// The kernel command line, each option with its layer; order counts.
    pub options: Vec<Entry>,
    /// Options that a lower layer deleted.
    pub removed: Vec<Removed>,
}

/// How the file of an image is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageStart {
    /// As a kernel.
    Kernel,
    /// As a drive in memory, by SYSLINUX's memdisk.
    Memdisk {
        /// URL of memdisk.
        memdisk: String,
        /// What it is told of the file.
        words: &'static str,
    },
    /// As a drive whose blocks iPXE fetches as they are read.
    Drive,
}

/// A boot menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// The dialect.
    pub dialect: Dialect,
    /// The firmware.
    pub firmware: Option<Firmware>,
    /// Entries beside the own disk.
    pub entries: Vec<MenuEntry>,
    /// Menus within it that hold an entry, each after the one that it stands in.
    pub groups: Vec<MenuGroup>,
    /// Milliseconds until the own disk boots.
    pub timeout_ms: u32,
}

/// One entry of a menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuEntry {
    /// What is shown.
    pub title: String,
    /// The profile.
    pub profile: Name,
    /// The place in `groups` of the menu that it stands in; none: the top.
    pub group: Option<usize>,
}

/// A menu within the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuGroup {
    /// What is shown.
    pub title: String,
    /// The place of the menu that it stands in; none: the top.
    pub parent: Option<usize>,
}

impl Menu {
    /// The menus that stand in this one, with their places.
    pub fn groups_in(&self, group: Option<usize>) -> impl Iterator<Item = (usize, &MenuGroup)> {
        self.groups
            .iter()
            .enumerate()
            .filter(move |(_, one)| one.parent == group)
    }

    /// The entries that stand in this menu, with their places.
    pub fn entries_in(&self, group: Option<usize>) -> impl Iterator<Item = (usize, &MenuEntry)> {
        self.entries
            .iter()
            .enumerate()
            .filter(move |(_, one)| one.group == group)
    }
}

/// One answer file to render, with all that its template may see. Holding it is the right to see secrets: only
/// [`super::decide()`] makes one for a client, after the token and the address were judged.
#[derive(Debug, Clone)]
pub struct AnswerFile {
    /// The machine with all that it inherits.
    pub resolved: Resolved,
    /// The file that was asked for: `ks.cfg`, `preseed.cfg`, `user-data`, ...
    pub file: String,
    /// Path of the template below `kickstarts/`, with the layer that chose it.
    pub template: Sourced<String>,
    /// The arming; none in a preview.
    pub arm: Option<ArmId>,
    /// `http://ADDRESS[:PORT]`, without a slash at the end.
    pub base_url: String,
    /// `BASE/d/DISTRO`, without a slash at the end; empty when the distro has no tree.
    pub tree_url: String,
    /// `BASE/i/TOKEN`: where the other files of the installation are.
    pub answer_url: String,
    /// `BASE/r/TOKEN`: stages are reported to `URL/STAGE`, the end to `URL/done`.
    pub report_url: String,
    /// The interface that boots, when known.
    pub mac: Option<Mac>,
    /// The address that it has now, when known.
    pub address: Option<Ipv4Addr>,
}
