//! The command line: every command and option, once. Help, man page, completions and parsing all come from here.

pub mod guest;

use super::assign::{Fields, OfDistro, OfImage, OfKind, OfMenu, OfProfile, OfRepo, OfSystem};
use crate::model::{Arch, Firmware, Span};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What is shown when `cordwainer` is called without a command.
pub const FIRST_STEPS: &str = "\
Cordwainer boots and installs machines over the network. The first steps:

  cordwainer check                                     what is missing on this host
  cordwainer import --path TREE --name NAME            make a distro and a profile from an install tree
  cordwainer system add --name NAME --profile PROFILE --mac-address MAC --netboot-enabled=1
  cordwainer serve                                     answer machines (or: cordwainer install-service)

All commands: cordwainer --help. Why does a machine not boot? cordwainer boot trace NAME
";

/// Network boot server: DHCP, TFTP, HTTP and answer files from imported distro trees
#[derive(Debug, Parser)]
#[command(name = "cordwainer", version, max_term_width = 100)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file [default: /etc/cordwainer/cordwainer.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// State folder; overrides `state` of the configuration
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// A name, given in its place or as --name.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Named {
    /// Name of the object
    #[arg(value_name = "NAME", required_unless_present = "name", conflicts_with = "name")]
    pub place: Option<String>,
    /// The same as an option, as Cobbler's users write it
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// A name that may be left out.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct MaybeNamed {
    /// Name of the object; without it, all
    #[arg(value_name = "NAME", conflicts_with = "name")]
    pub place: Option<String>,
    /// The same as an option, as Cobbler's users write it
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

impl Named {
    /// The name; clap has seen to it that there is one.
    #[must_use]
    pub fn get(&self) -> &str {
        self.place.as_deref().or(self.name.as_deref()).unwrap_or_default()
    }
}

impl MaybeNamed {
    /// The name, if one was given.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.place.as_deref().or(self.name.as_deref())
    }
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer machines: DHCP, TFTP and HTTP, until stopped
    Serve(Serve),
    /// Look for what would keep machines from booting or installing
    Check,
    /// Make a distro and a profile from an install tree
    Import(Import),
    /// Distros: a kernel, an initrd and the tree they come from
    #[command(subcommand)]
    Distro(Object<OfDistro>),
    /// Profiles: how to install a distro
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Systems: the machines
    #[command(subcommand)]
    System(SystemCommand),
    /// Repos: package repositories that the machines of a profile get beside their tree
    #[command(subcommand)]
    Repo(Object<OfRepo>),
    /// Menus: groups of profiles in the boot menu
    #[command(subcommand)]
    Menu(Object<OfMenu>),
    /// Images: single files that machines boot as they are
    #[command(subcommand)]
    Image(Object<OfImage>),
    /// Guests of libvirt: created, installed, started from their disks
    #[command(subcommand)]
    Guest(guest::GuestCommand),
    /// Print the names of all objects, by kind
    List,
    /// Print the fields of all objects as they were set, by kind
    Report(MaybeNamed),
    /// Print kind and name of the objects that are called so, or whose fields match; * and ? are wild
    Find(FindAll),
    /// Look whether everything that is stored can be served, and that the daemon serves it; there is nothing to write
    Sync(Sync),
    /// Cobbler's settings, as far as they mean something here
    #[command(subcommand)]
    Setting(SettingCommand),
    /// Answer-file templates and snippets
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Render every answer file strictly, and say which machine, file and line is wrong
    ValidateAutoinstalls,
    /// Distro families that import recognises
    #[command(subcommand)]
    Signature(SignatureCommand),
    /// How every machine stands
    Status(Status),
    /// What a machine gets, and what it did
    #[command(subcommand)]
    Boot(BootCommand),
    /// Add or replace objects from TOML documents
    Apply(Apply),
    /// Print every object as TOML, for `apply`
    Export(Export),
    /// Take over what another server has
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// Who may log in to Cobbler's XML-RPC
    #[command(subcommand)]
    User(UserCommand),
    /// Copy the state into one file, while the daemon runs or not
    Backup(Backup),
    /// Put the state of a backup in place
    Restore(Restore),
    /// The databases of the state folder
    #[command(subcommand)]
    State(StateCommand),
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write systemd units, manual pages, completions and a first configuration
    InstallService(InstallService),
    /// Show or write the manual pages
    Man(Man),
    /// Print a completion script
    Completions(Completions),
    /// Print the version
    Version,
}

/// `serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Start in authoritative mode although another DHCP server answers on the network
    #[arg(long)]
    pub i_own_this_subnet: bool,
}

/// `import`.
#[derive(Debug, Clone, Args)]
pub struct Import {
    /// The install tree: a folder, an ISO image, a drive with a disc in it, or the http(s) URL of an image
    #[arg(long, value_name = "PATH|URL")]
    pub path: PathBuf,
    /// The publisher's checksums of the image, SHA-256 or SHA-512: his file, its URL, or the sum itself
    #[arg(long, value_name = "FILE|URL|SUM")]
    pub checksum: Option<String>,
    /// Netboot files for a Debian disc, of its own point release: netboot.tar.gz, the folder that it unpacks to, or the package
    /// debian-installer-NN-netboot-ARCH [default: those of the package, where it is installed]
    #[arg(long, value_name = "FILE|DIR")]
    pub netboot: Option<PathBuf>,
    /// Name of the new distro and profile [default: made from what the tree says]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Processor, where the tree does not say or holds several
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Arch>,
    /// Family, where it was not recognised: redhat, debian, generic
    #[arg(long, value_name = "FAMILY")]
    pub breed: Option<String>,
    /// Version within the family
    #[arg(long, value_name = "VERSION")]
    pub os_version: Option<String>,
    /// Kernel, below PATH, where the tree was not recognised
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<String>,
    /// Initrd, below PATH; may be given again
    #[arg(long, value_name = "FILE")]
    pub initrd: Vec<String>,
    /// Answer-file template of the new profile
    #[arg(long, visible_alias = "kickstart", value_name = "TEMPLATE")]
    pub autoinstall: Option<String>,
    /// Where installers get packages, when the tree holds none, like `http://deb.debian.org/debian`
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// More kernel arguments for the installer
    #[arg(long, visible_alias = "kopts", value_name = "K=V ...")]
    pub kernel_options: Option<String>,
    /// Serve the tree from where it is, or fail
    #[arg(long, conflicts_with = "copy")]
    pub in_place: bool,
    /// Copy the tree, even where it could be served from where it is
    #[arg(long)]
    pub copy: bool,
    /// Fetch from this machine, its link, or a cloud's metadata service too, where a URL leads there
    #[arg(long)]
    pub allow_local_address: bool,
    /// Give up on a web server that sends nothing, or less than 1 KiB/s, for so long [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: Option<u64>,
}

/// What can be done with objects of every kind.
#[derive(Debug, Subcommand)]
pub enum Object<K: OfKind> {
    /// Make a new one
    Add(Set<K>),
    /// Change fields
    Edit(Edit<K>),
    /// Make a copy under another name
    Copy(Copy<K>),
    /// Give another name; children follow
    Rename(Rename),
    /// Take one out
    Remove(Remove),
    /// Print the names
    List,
    /// Print the fields as they were set
    Report(MaybeNamed),
    /// Print the names of those whose fields match; * and ? are wild
    Find(Find<K>),
    /// Print what templates see, with everything inherited
    Dumpvars(Named),
}

/// `profile`: what every kind has, and answer files.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// What every kind has.
    #[command(flatten)]
    Object(Object<OfProfile>),
    /// Print the answer file that its machines would fetch
    #[command(visible_alias = "getks")]
    GetAutoinstall(Named),
}

/// `system`: what every kind has, answer files, and arming.
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// What every kind has.
    #[command(flatten)]
    Object(Object<OfSystem>),
    /// Print the answer file that it would fetch
    #[command(visible_alias = "getks")]
    GetAutoinstall(Named),
    /// Let it be installed: its disk is WIPED on its next network boot
    Arm(Arm),
    /// Withdraw the arming: it boots from its disk
    Disarm(Named),
    /// Switch the guest on that the system is
    Poweron(Named),
    /// Cut the power of the guest that the system is
    Poweroff(Named),
    /// Cut the power of the guest that the system is, and switch it on
    Reboot(Named),
    /// Print whether the guest that the system is runs: on or off
    Powerstatus(Named),
}

/// `add`.
#[derive(Debug, Args)]
pub struct Set<K: OfKind> {
    /// Which.
    #[command(flatten)]
    pub name: Named,
    /// Its fields.
    #[command(flatten)]
    pub fields: Fields<K>,
}

/// `edit`.
#[derive(Debug, Args)]
pub struct Edit<K: OfKind> {
    /// Which.
    #[command(flatten)]
    pub name: Named,
    /// Change single keys of K=V fields instead of the whole
    #[arg(long)]
    pub in_place: bool,
    /// Its fields.
    #[command(flatten)]
    pub fields: Fields<K>,
}

/// `copy`.
#[derive(Debug, Args)]
pub struct Copy<K: OfKind> {
    /// Both names.
    #[command(flatten)]
    pub names: Rename,
    /// Fields to change on the copy.
    #[command(flatten)]
    pub fields: Fields<K>,
}

/// Two names: of what there is, and the new one.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Rename {
    /// Name of the object
    #[arg(value_name = "NAME", required_unless_present = "name")]
    pub place: Option<String>,
    /// The new name
    #[arg(value_name = "NEWNAME", required_unless_present = "newname")]
    pub new_place: Option<String>,
    /// The name as an option, as Cobbler's users write it
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The new name as an option
    #[arg(long, alias = "new-name", value_name = "NEWNAME")]
    pub newname: Option<String>,
}

impl Rename {
    /// The old and the new name, however they were mixed; `None` when there is a name too many.
    #[must_use]
    pub fn get(&self) -> Option<(&str, &str)> {
        let mut places = self.place.as_deref().into_iter().chain(self.new_place.as_deref());
        let old = self.name.as_deref().or_else(|| places.next())?;
        let new = self.newname.as_deref().or_else(|| places.next())?;
        places.next().is_none().then_some((old, new))
    }
}

/// `remove`.
#[derive(Debug, Clone, Args)]
pub struct Remove {
    /// Which.
    #[command(flatten)]
    pub name: Named,
    /// Its children too
    #[arg(long)]
    pub recursive: bool,
}

/// `find`.
#[derive(Debug, Args)]
pub struct Find<K: OfKind> {
    /// Name to look for; * and ? are wild
    #[arg(long, value_name = "GLOB")]
    pub name: Option<String>,
    /// Globs by field.
    #[command(flatten)]
    pub fields: Fields<K>,
}

/// `system arm`.
#[derive(Debug, Clone, Args)]
pub struct Arm {
    /// Which.
    #[command(flatten)]
    pub name: Named,
    /// How long it waits for the machine: 30m, 4h, 2d [default: `arm_for` of the configuration]
    #[arg(long = "for", value_name = "TIME")]
    pub span: Option<Span>,
    /// Arm a machine again whose installation ended, failed or is held
    #[arg(long)]
    pub again: bool,
}

/// `find`.
#[derive(Debug, Clone, Args)]
pub struct FindAll {
    /// Name to look for; * and ? are wild
    #[arg(value_name = "GLOB", conflicts_with = "name")]
    pub place: Option<String>,
    /// The same as an option
    #[arg(long, value_name = "GLOB")]
    pub name: Option<String>,
    /// A field's value to look for, in objects that have this field; may be given again, and all must fit
    #[arg(long = "field", value_name = "FIELD=GLOB")]
    pub fields: Vec<String>,
}

/// `sync`.
#[derive(Debug, Clone, Args)]
pub struct Sync {
    /// Taken for Cobbler's users: no other DHCP server's configuration is written here
    #[arg(long)]
    pub dhcp: bool,
    /// Taken for Cobbler's users: no DNS server's configuration is written here
    #[arg(long)]
    pub dns: bool,
    /// Look at these systems only
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub systems: Vec<String>,
}

/// `setting`.
#[derive(Debug, Subcommand)]
pub enum SettingCommand {
    /// Print them
    Report(MaybeNamed),
    /// Say where it is changed: the configuration file is never written to
    Edit(SettingEdit),
}

/// `setting edit`.
#[derive(Debug, Clone, Args)]
pub struct SettingEdit {
    /// Which.
    #[command(flatten)]
    pub name: Named,
    /// Its value
    #[arg(long, value_name = "VALUE")]
    pub value: Option<String>,
}

/// `template`.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// Print every template and snippet, and where it comes from
    List,
    /// Print the text of one
    Show(Named),
    /// Edit a copy with $VISUAL or $EDITOR; it is put in place once it renders
    Edit(Named),
    /// Say whose answer files an edit of it changes
    Impact(Named),
    /// Turn a Cheetah template or snippet of Cobbler's into one of ours, and name every line that it could not
    Convert(ConvertTemplate),
}

/// `template convert`.
#[derive(Debug, Clone, Args)]
pub struct ConvertTemplate {
    /// The Cheetah template: a file of /var/lib/cobbler/templates or snippets
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write the result there instead of printing it
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `signature`.
#[derive(Debug, Subcommand)]
pub enum SignatureCommand {
    /// Print the families, and what import looks for
    Report(MaybeNamed),
}

/// `status`.
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Name every machine, idle and installed ones too
    #[arg(long)]
    pub all: bool,
    /// Print Cobbler's table: ip, target, start, state, for scripts that read it
    #[arg(long, conflicts_with = "all")]
    pub cobbler: bool,
}

/// `boot`.
#[derive(Debug, Subcommand)]
pub enum BootCommand {
    /// Say what a machine would get now, by which rule, and where each value comes from
    Explain(Explain),
    /// Show what a machine did, as a timeline
    Trace(Trace),
}

/// Where in its boot a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StageOfBoot {
    /// Its firmware asks by DHCP.
    Rom,
    /// iPXE asks by DHCP.
    Ipxe,
    /// Its loader asks for a boot script.
    Script,
    /// The installer asks for its answer file.
    Answers,
}

/// `boot explain`.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// A system, or a MAC address
    #[arg(value_name = "NAME|MAC", required_unless_present = "name", conflicts_with = "name")]
    pub place: Option<String>,
    /// The same as an option
    #[arg(long, value_name = "NAME|MAC")]
    pub name: Option<String>,
    /// Firmware: bios, uefi, uefi-http, arm64, or a number of DHCP option 93 [default: what the machine booted with last, else uefi]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Firmware>,
    /// Where in its boot it stands [default: the whole way]
    #[arg(long, value_name = "STAGE")]
    pub stage: Option<StageOfBoot>,
}

/// `boot trace`.
#[derive(Debug, Clone, Args)]
pub struct Trace {
    /// A system, or a MAC address
    #[arg(value_name = "NAME|MAC", required_unless_present = "name", conflicts_with = "name")]
    pub place: Option<String>,
    /// The same as an option
    #[arg(long, value_name = "NAME|MAC")]
    pub name: Option<String>,
    /// Go on until stopped
    #[arg(long, short)]
    pub follow: bool,
}

/// `apply`.
#[derive(Debug, Clone, Args)]
pub struct Apply {
    /// A TOML document, or a folder of them
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `export`.
#[derive(Debug, Clone, Args)]
pub struct Export {
    /// Write here instead of printing
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `migrate`.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Objects, templates and snippets of a Cobbler 3.x; says what becomes of each, and arms nothing
    Cobbler(MigrateCobbler),
}

/// `migrate cobbler`.
#[derive(Debug, Clone, Args)]
pub struct MigrateCobbler {
    /// The folder that holds collections/, templates/ and snippets/, or the URL of a running server
    #[arg(long, value_name = "DIR|URL")]
    pub from: String,
    /// Say what would become of each, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `user`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make one; the password is read from standard input
    Add(UserAdd),
    /// Print the names and roles
    List,
    /// Give one another password, read from standard input; the logins end
    Passwd(Named),
    /// Take one out; the logins end
    Remove(Named),
}

/// `user add`.
#[derive(Debug, Clone, Args)]
pub struct UserAdd {
    /// Who.
    #[command(flatten)]
    pub name: Named,
    /// admin: looks, changes and arms; reader: only looks
    #[arg(long, value_name = "ROLE", default_value = "admin", value_parser = ["admin", "reader"])]
    pub role: String,
}

/// `backup`.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// The file to make; it must not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `restore`.
#[derive(Debug, Clone, Args)]
pub struct Restore {
    /// A file that `backup` made
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `state`.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Bring databases of an older version up to date, after a dated copy; not beside a running daemon
    Migrate,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read the file and name every problem
    Check,
    /// Print what is in force, defaults included, secrets hidden
    Show,
}

/// `install-service`.
#[derive(Debug, Clone, Args)]
pub struct InstallService {
    /// Write below DIR instead of /
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `man`.
#[derive(Debug, Clone, Args)]
pub struct Man {
    /// 8: the command, 5: the configuration file, 7: the events
    #[arg(long, value_name = "N", value_parser = ["5", "7", "8"])]
    pub section: Option<String>,
    /// Write the pages into DIR instead of showing one
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `completions`.
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// Which shell
    pub shell: clap_complete::Shell,
}
