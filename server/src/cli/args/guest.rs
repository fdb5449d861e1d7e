//! The command line of `guest`: every option of its commands, once.

use crate::guest::wish::{DiskWish, NicWish};
use crate::guest::{Graphics, Method, XmlEdit};
use crate::model::Span;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Where guests are made when nobody says.
pub const CONNECT: &str = "qemu:///system";

/// `guest`.
#[derive(Debug, Subcommand)]
pub enum GuestCommand {
    /// Make a guest, install it, and start it from its disk
    Create(Box<Create>),
    /// Make a guest on a thin copy of a golden volume, in a moment and without an installation
    Clone(Box<CloneGuest>),
    /// Print every guest, its state and how far its installation is
    List(List),
    /// Print what is known of a guest
    Show(OneGuest),
    /// Start a guest from its disk
    Start(OneGuest),
    /// Ask a guest to power off, by its agent or else by ACPI, and wait until it is off
    Shutdown(Shutdown),
    /// Cut a guest's power; an installation that runs is cancelled by it
    Destroy(OneGuest),
    /// Ask a guest to reboot
    Reboot(OneGuest),
    /// Stop a guest's processors
    Suspend(OneGuest),
    /// Let a suspended guest run again
    Resume(OneGuest),
    /// Put a guest's memory on its hypervisor's disk, and stop it
    Save(OneGuest),
    /// Start a saved guest where it was
    Restore(OneGuest),
    /// Start a guest with its hypervisor
    Autostart(Autostart),
    /// Move a running guest to another hypervisor
    Migrate(Migrate),
    /// Talk to a guest's serial console; Ctrl-] ends it
    Console(Console),
    /// Print what a guest's serial console said
    Log(Log),
    /// Wait until a guest's installation has ended
    Wait(Wait),
    /// Install a guest anew: its disks are WIPED; MAC and uuid stay
    Reinstall(Box<Reinstall>),
    /// Take a guest away, with its NVRAM, saved memory and snapshots
    Delete(Delete),
    /// Take a domain that somebody else made as a guest, as it is
    Adopt(Adopt),
    /// Look whether a hypervisor runs guests
    Check(Hypervisor),
    /// Speak to libvirt for all other commands and flip guests to their disks, until stopped
    Supervise(Supervise),
}

/// A guest's name, and where it is.
#[derive(Debug, Clone, Args)]
pub struct OneGuest {
    /// Name of the guest
    #[arg(value_name = "NAME", required_unless_present = "name", conflicts_with = "name")]
    pub place: Option<String>,
    /// The same as an option
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The hypervisor, where several have a guest of that name
    #[arg(long, value_name = "URI")]
    pub connect: Option<String>,
}

impl OneGuest {
    /// The name; clap has seen to it that there is one.
    #[must_use]
    pub fn get(&self) -> &str {
        self.place.as_deref().or(self.name.as_deref()).unwrap_or_default()
    }
}

/// A hypervisor.
#[derive(Debug, Clone, Args)]
pub struct Hypervisor {
    /// The hypervisor: a URI of libvirt, such as qemu+ssh://root@host/system
    #[arg(long, value_name = "URI", default_value = CONNECT)]
    pub connect: String,
}

/// `--accel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccelWish {
    /// KVM where it runs guests, else the translator.
    Auto,
    /// The processor itself.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// `--firmware`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FirmwareWish {
    /// PC BIOS.
    Bios,
    /// UEFI without Secure Boot.
    Uefi,
    /// UEFI with Secure Boot: refused, with the reason.
    UefiSecure,
}

/// `--print-xml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Phases {
    /// The configuration of the first boot.
    Install,
    /// The configuration of all later ones.
    Final,
    /// Both, the first boot's first.
    All,
}

/// What a guest is made of.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The guest")]
pub struct Shape {
    /// Memory in MiB [default: virt_ram of the profile, what its installer needs, 2048]
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u32>,
    /// Processors [default: virt_cpus of the profile, 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub vcpus: Option<u32>,
    /// A network card: bridge=NAME, network=NAME or user; may be given again [default: virt_bridge, network=default]
    #[arg(long = "network", value_name = "bridge=|network=[,mac=,model=,vlan=]")]
    pub networks: Vec<NicWish>,
    /// Firmware [default: bios; uefi on ARM]
    #[arg(long, value_enum, value_name = "bios|uefi")]
    pub firmware: Option<FirmwareWish>,
    /// What runs its code
    #[arg(long, value_enum, value_name = "auto|kvm|tcg", default_value = "auto")]
    pub accel: AccelWish,
    /// Its screen, on the hypervisor's loopback [default: none, the serial console only]
    #[arg(long, value_name = "none|vnc|spice", value_parser = word::<Graphics>)]
    pub graphics: Option<Graphics>,
    /// More kernel arguments for its installer, this time
    #[arg(long, visible_alias = "kopts", value_name = "K=V ...")]
    pub kernel_options: Option<String>,
    /// Start it with its hypervisor, from the moment that it is installed
    #[arg(long)]
    pub autostart: bool,
    /// Start it with its processors stopped; `guest resume` lets them run
    #[arg(long)]
    pub start_paused: bool,
    /// Change the XML before libvirt gets it: `./devices/disk[1]/driver/@cache=none`; an empty VALUE takes out; may be given again
    #[arg(long, value_name = "XPATH=VALUE", value_parser = edit)]
    pub xml_set: Vec<XmlEdit>,
}

/// What happens once it is made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Afterwards")]
pub struct After {
    /// Show its installation until it has ended, at most TIME
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "0s")]
    pub wait: Option<Span>,
    /// Talk to its serial console; Ctrl-] ends that, not the guest
    #[arg(long, conflicts_with = "wait")]
    pub console: bool,
    /// Print the XML that libvirt would get, and make nothing
    #[arg(long, value_enum, value_name = "all|install|final", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub print_xml: Option<Phases>,
    /// Say what would be made, and make nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `guest create`.
#[derive(Debug, Clone, Args)]
pub struct Create {
    /// Name of the guest, and of the system that --profile makes
    #[arg(value_name = "NAME", required_unless_present = "name", conflicts_with = "name")]
    pub place: Option<String>,
    /// The same as an option
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Make a system of this profile, and install it
    #[arg(long, value_name = "NAME", conflicts_with = "system")]
    pub profile: Option<String>,
    /// Install this system, which there is
    #[arg(long, value_name = "NAME")]
    pub system: Option<String>,
    /// A guest of this image: its ISO as a CD, or a thin copy of its disk (virt-clone)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["profile", "system", "method", "iso", "reinstall"])]
    pub image: Option<String>,
    /// How it is installed [default: kernel; pxe or xen-pv where the profile's virt_* fields say so]
    #[arg(long, value_name = "kernel|pxe|iso|import|xen-pv", value_parser = word::<Method>)]
    pub method: Option<Method>,
    /// Where it is made.
    #[command(flatten)]
    pub at: Hypervisor,
    /// A disk: SIZE in GiB, or volume= or path= of one that is there; may be given again [default: virt_file_size, 20]
    #[arg(long = "disk", value_name = "SIZE[,pool=,format=,bus=,backing=]")]
    pub disks: Vec<DiskWish>,
    /// What it is.
    #[command(flatten)]
    pub shape: Shape,
    /// The CD image of --method iso: a file of the hypervisor [default: the image that the distro was imported from]
    #[arg(long, value_name = "FILE")]
    pub iso: Option<PathBuf>,
    /// The uuid, instead of one made from name and MAC
    #[arg(long, value_name = "UUID")]
    pub uuid: Option<String>,
    /// Install a guest of that name anew where there is one: its disks are WIPED; MAC and uuid stay
    #[arg(long)]
    pub reinstall: bool,
    /// What then.
    #[command(flatten)]
    pub after: After,
}

/// `guest clone`.
#[derive(Debug, Clone, Args)]
pub struct CloneGuest {
    /// Name of the new guest
    #[arg(value_name = "NAME", required_unless_present = "name", conflicts_with = "name")]
    pub place: Option<String>,
    /// The same as an option
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The golden volume; it must not change while a clone stands on it
    #[arg(long, value_name = "[POOL/]VOLUME")]
    pub from: String,
    /// Storage pool of the clone [default: virt_path, default]
    #[arg(long, value_name = "POOL")]
    pub pool: Option<String>,
    /// Size of the clone's disk in GiB [default: the golden volume's]
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Make a system of this profile with it, so that this server knows it
    #[arg(long, value_name = "NAME", conflicts_with = "system")]
    pub profile: Option<String>,
    /// It is this system
    #[arg(long, value_name = "NAME")]
    pub system: Option<String>,
    /// Where it is made.
    #[command(flatten)]
    pub at: Hypervisor,
    /// What it is.
    #[command(flatten)]
    pub shape: Shape,
    /// What then.
    #[command(flatten)]
    pub after: After,
}

/// `guest list`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Of one hypervisor only
    #[arg(long, value_name = "URI")]
    pub connect: Option<String>,
}

/// `guest autostart`.
#[derive(Debug, Clone, Args)]
pub struct Autostart {
    /// Which.
    #[command(flatten)]
    pub guest: OneGuest,
    /// No longer
    #[arg(long)]
    pub disable: bool,
}

/// `guest migrate`.
#[derive(Debug, Clone, Args)]
pub struct Migrate {
    /// Which.
    #[command(flatten)]
    pub guest: OneGuest,
    /// The other hypervisor; both must reach the guest's disks, or --copy-storage
    #[arg(long, value_name = "URI")]
    pub to: String,
    /// Copy its disks there; for that the other host must have a storage pool in the same folder
    #[arg(long)]
    pub copy_storage: bool,
}

/// `guest shutdown`.
#[derive(Debug, Clone, Args)]
pub struct Shutdown {
    /// Which.
    #[command(flatten)]
    pub guest: OneGuest,
    /// How long it may take; with 0s it is asked, and not waited for
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: Span,
    /// Cut its power when it takes longer
    #[arg(long)]
    pub force: bool,
}

/// `guest console`.
#[derive(Debug, Clone, Args)]
pub struct Console {
    /// Which.
    #[command(flatten)]
    pub guest: OneGuest,
    /// Take it from whoever has it
    #[arg(long)]
    pub force: bool,
}

/// `guest log`.
#[derive(Debug, Clone, Args)]
pub struct Log {
    /// Which.
    #[command(flatten)]
    pub guest: OneGuest,
    /// Go on until stopped
    #[arg(long, short)]
    pub follow: bool,
}

/// `guest wait`.
#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// Which.
    #[command(flatten)]
    pub guest: OneGuest,
    /// How long at most [default: until it has ended]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
}

/// `guest reinstall`.
#[derive(Debug, Clone, Args)]
pub struct Reinstall {
    /// Which.
    #[command(flatten)]
    pub guest: OneGuest,
    /// Another profile for its system
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// What then.
    #[command(flatten)]
    pub after: After,
}

/// `guest delete`.
#[derive(Debug, Clone, Args)]
pub struct Delete {
    /// Which.
    #[command(flatten)]
    pub guest: OneGuest,
    /// The disks that were made for it too; those that were there before are never touched
    #[arg(long)]
    pub disks: bool,
    /// Its system of the inventory too
    #[arg(long)]
    pub system: bool,
}

/// `guest adopt`.
#[derive(Debug, Clone, Args)]
pub struct Adopt {
    /// Which.
    #[command(flatten)]
    pub guest: OneGuest,
    /// The system of the inventory that it is
    #[arg(long, value_name = "NAME")]
    pub system: Option<String>,
}

/// `guest supervise`.
#[derive(Debug, Clone, Args)]
pub struct Supervise {
    /// A hypervisor that is watched from the beginning; others are once a guest is made there; may be given again
    #[arg(long, value_name = "URI")]
    pub connect: Vec<String>,
    /// Answer root alone, not the account that this runs as: the network boot server has the same
    #[arg(long)]
    pub root_only: bool,
}

/// A word of an enum of the guests' pure half.
fn word<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T, String> {
    text.parse()
}

/// An edit, with its message without the option's name, which clap says.
fn edit(text: &str) -> Result<XmlEdit, String> {
    text.parse()
        .map_err(|error: crate::guest::xml_set::BadEdit| error.to_string())
}
