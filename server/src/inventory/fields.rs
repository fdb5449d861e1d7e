//! The fields of each kind of object as users name them: one table feeds `edit`, the CLI's options and help, reports and exports.
//!
//! Pure. Never knows what a field resolves to; it shows and sets what the object itself says.

use super::extra::{self, Extras, extra};
use super::value::{self, Shown, Value};
use super::{Assignment, Refused, Row};
use crate::model::{Distro, Image, Inherit, Kind, Menu, Name, Parent, Profile, Repo, System, Tree, vlan_of};
use std::path::PathBuf;

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldDoc {
    /// `kernel_options`; on the command line `--kernel-options`.
    pub name: &'static str,
    /// Other spellings: `kopts`, `kickstart`, `ksmeta`.
    pub aliases: &'static [&'static str],
    /// One line for help and man page.
    pub help: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// True when it belongs to one interface of a system, which `interface` selects.
    pub of_interface: bool,
}

/// What a field's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A word or a sentence.
    Text,
    /// Words separated by blanks or commas.
    List,
    /// `k=v k2 "k3=v w"`; `--in-place` changes single keys.
    Dict,
    /// 1 or 0.
    Flag,
    /// No value of the object: it selects, deletes or renames an interface.
    Selector,
}

/// One field of an object with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldValue {
    /// The field; `name` comes first and is in no table.
    pub field: &'static str,
    /// The interface that it belongs to.
    pub interface: Option<Name>,
    /// The value. Its `Display` is the text that sets it again.
    pub value: Shown,
}

/// Shows a field of an object; the name selects the interface.
type Show<T> = fn(&T, Option<&Name>) -> Shown;
/// Sets a field of an object from text.
type Read<T> = fn(&mut T, &Name, &str, bool) -> Result<(), String>;

/// How to show and to set one field.
struct Access<T: 'static> {
    show: Show<T>,
    read: Read<T>,
}

/// Makes the table of one kind: what users read of each field, and beside it how to reach the field.
macro_rules! fields {
    (@aliases) => { &[] };
    (@aliases $($alias:literal)+) => { &[$($alias),+] };
    (@check) => { |_| Ok(()) };
    (@check $check:path) => { $check };
    (@of_interface own) => { false };
    (@of_interface interface) => { true };
    (@access $object:ty, own, $field:ident, $check:expr) => {
        Access {
            show: |object: &$object, _| object.$field.show(),
            read: |object: &mut $object, _, text, in_place| {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text)?;
                object.$field.read(text, in_place)
            },
        }
    };
    (@access $object:ty, own, ($group:ident . $field:ident), $check:expr) => {
        Access {
            show: |object: &$object, _| object.$group.$field.show(),
            read: |object: &mut $object, _, text, in_place| {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text)?;
                object.$group.$field.read(text, in_place)
            },
        }
    };
    (@access $object:ty, interface, $field:ident, $check:expr) => {
        Access {
            show: |object: &$object, name| {
                name.and_then(|name| object.interfaces.get(name))
                    .map_or(Shown::Nothing, |interface| interface.$field.show())
            },
            read: |object: &mut $object, name, text, in_place| {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text)?;
                // Clearing what is not there makes no interface.
                if text.is_empty() && !object.interfaces.contains_key(name) {
                    return Ok(());
                }
                object.interfaces.entry(name.clone()).or_default().$field.read(text, in_place)
            },
        }
    };
    (@access $object:ty, own, ($show:expr, $read:expr), $check:expr) => {
        Access { show: $show, read: $read }
    };
    ($docs:ident $access:ident $object:ty {
        $($name:literal $([$($alias:literal)+])? $owner:ident $shape:ident $help:literal => $field:tt $(checked $check:path)?;)*
    }) => {
        const $docs: &[FieldDoc] = &[$(FieldDoc {
            name: $name,
            aliases: fields!(@aliases $($($alias)+)?),
            help: $help,
            shape: Shape::$shape,
            of_interface: fields!(@of_interface $owner),
        }),*];
        const $access: &[Access<$object>] = &[
            $(fields!(@access $object, $owner, $field, fields!(@check $($check)?))),*
        ];
    };
}

/// The family of a distro that names none.
pub(super) const NO_BREED: &str = "generic";

fields! { DISTRO_DOCS DISTRO Distro {
    "arch" own Text "Processor: x86_64, i386, aarch64, ppc64le, s390x" => arch;
    "breed" own Text "Family: redhat, debian, ubuntu, suse or another" => (|distro: &Distro, _| distro.breed.show(), |distro: &mut Distro, _, text, in_place| read_breed(distro, text, in_place));
    "os_version" ["osversion"] own Text "Version within the family, such as rhel9 or 12" => os_version checked value::word;
    "kernel" own Text "Path of the kernel: below the tree, or absolute without one" => kernel checked value::kernel;
    "initrd" own List "Paths of the initrds, in the loader's order" => initrd checked value::climbless;
    "tree" own Text "Folder that is served as /d/NAME/" => (|distro: &Distro, _| show_tree(distro), |distro: &mut Distro, _, text, _| read_tree(distro, text));
    "signature" own Text "Signature that supplies kernel arguments and habits of the family" => signature;
    "kernel_options" ["kopts"] own Dict "Kernel command line of the installer" => kernel_options;
    "kernel_options_post" ["kopts_post"] own Dict "Kernel command line of the installed system" => kernel_options_post;
    "autoinstall_meta" ["ks_meta" "ksmeta"] own Dict "Variables of the answer-file template" => autoinstall_meta;
    "boot_loaders" ["boot_loader"] own List "ipxe, grub, pxe; empty: the server chooses" => boot_loaders checked value::loaders;
    "comment" own Text "Free text" => comment;
    "owners" own List "Free words" => owners;
}}

fields! { PROFILE_DOCS PROFILE Profile {
    "distro" own Text "The distro it installs" => (|profile: &Profile, _| show_distro(profile), |profile: &mut Profile, _, text, _| read_distro(profile, text));
    "parent" ["inherit"] own Text "The profile it refines, instead of a distro" => (|profile: &Profile, _| show_parent(profile), |profile: &mut Profile, _, text, _| read_parent(profile, text));
    "autoinstall" ["kickstart" "autoinst"] own Text "Answer-file template below kickstarts/" => autoinstall checked value::below;
    "autoinstall_meta" ["ks_meta" "ksmeta"] own Dict "Variables of the answer-file template" => autoinstall_meta;
    "kernel_options" ["kopts"] own Dict "Kernel command line of the installer" => kernel_options;
    "kernel_options_post" ["kopts_post"] own Dict "Kernel command line of the installed system" => kernel_options_post;
    "name_servers" ["nameservers"] own List "Resolvers of the installed system" => name_servers;
    "name_servers_search" ["nameservers_search"] own List "Search domains" => name_servers_search checked value::domains;
    "proxy" own Text "Proxy URL of the installer" => proxy checked value::proxy;
    "boot_loaders" ["boot_loader"] own List "ipxe, grub, pxe; the first that fits" => boot_loaders checked value::loaders;
    "enable_menu" own Flag "Show it in the boot menu" => enable_menu;
    "virt_type" own Text "Kind of guest: kvm, qemu, xenpv or xenfv" => (virt.kind) checked value::virt_type;
    "virt_ram" own Text "Memory of a guest in MiB" => (virt.ram) checked value::memory;
    "virt_cpus" own Text "Processors of a guest" => (virt.cpus) checked value::cpus;
    "virt_file_size" own List "Sizes of a guest's disks in GiB" => (virt.file_size) checked value::sizes;
    "virt_disk_driver" own Text "Format of a guest's disks: qcow2 or raw" => (virt.disk_driver) checked value::disk_driver;
    "virt_path" own Text "Where a guest's disks are made: a storage pool or its folder" => (virt.path);
    "virt_bridge" own Text "Bridge of the hypervisor that a guest is tied to" => (virt.bridge) checked value::device;
    "virt_auto_boot" own Flag "Start an installed guest with its host" => (virt.auto_boot);
    "virt_pxe_boot" own Flag "Install a guest over PXE" => (virt.pxe_boot);
    "comment" own Text "Free text" => comment;
    "owners" own List "Free words" => owners;
}}

fields! { SYSTEM_DOCS SYSTEM System {
    "profile" own Text "The profile that installs it" => profile;
    "image" own Text "The image that it boots, instead of a profile" => image;
    "hostname" own Text "Host name" => hostname;
    "gateway" own Text "Router of the installed system" => gateway;
    "autoinstall" ["kickstart" "autoinst"] own Text "Answer-file template below kickstarts/" => autoinstall checked value::below;
    "autoinstall_meta" ["ks_meta" "ksmeta"] own Dict "Variables of the answer-file template" => autoinstall_meta;
    "kernel_options" ["kopts"] own Dict "Kernel command line of the installer" => kernel_options;
    "kernel_options_post" ["kopts_post"] own Dict "Kernel command line of the installed system" => kernel_options_post;
    "name_servers" ["nameservers"] own List "Resolvers of the installed system" => name_servers;
    "name_servers_search" ["nameservers_search"] own List "Search domains" => name_servers_search checked value::domains;
    "proxy" own Text "Proxy URL of the installer" => proxy checked value::proxy;
    "boot_loaders" ["boot_loader"] own List "ipxe, grub, pxe; the first that fits" => boot_loaders checked value::loaders;
    "virt_type" own Text "Kind of guest: kvm, qemu, xenpv or xenfv" => (virt.kind) checked value::virt_type;
    "virt_ram" own Text "Memory of a guest in MiB" => (virt.ram) checked value::memory;
    "virt_cpus" own Text "Processors of a guest" => (virt.cpus) checked value::cpus;
    "virt_file_size" own List "Sizes of a guest's disks in GiB" => (virt.file_size) checked value::sizes;
    "virt_disk_driver" own Text "Format of a guest's disks: qcow2 or raw" => (virt.disk_driver) checked value::disk_driver;
    "virt_path" own Text "Where a guest's disks are made: a storage pool or its folder" => (virt.path);
    "virt_auto_boot" own Flag "Start an installed guest with its host" => (virt.auto_boot);
    "virt_pxe_boot" own Flag "Install a guest over PXE" => (virt.pxe_boot);
    "status" own Text "production, testing or another word" => status;
    "comment" own Text "Free text" => comment;
    "owners" own List "Free words" => owners;
    "interface" own Selector "The interface that the following options are about (default: `default`, or the only one)" => (|_: &System, _| Shown::Nothing, |_: &mut System, _, _, _| Ok(()));
    "delete_interface" own Selector "Take this interface out" => (|_: &System, _| Shown::Nothing, |system: &mut System, selected, text, _| delete_interface(system, selected, text));
    "rename_interface" own Selector "Give the selected interface this name" => (|_: &System, _| Shown::Nothing, |system: &mut System, selected, text, _| rename_interface(system, selected, text));
    "mac_address" ["mac" "macaddress"] interface Text "Hardware address" => mac_address;
    "ip_address" ["ip" "ipaddress"] interface Text "IPv4 address; with authoritative DHCP a reservation" => ip_address;
    "netmask" ["subnet"] interface Text "Netmask of a static address" => netmask checked value::netmask;
    "if_gateway" ["ifgateway"] interface Text "Router of this interface" => if_gateway;
    "static" ["is_static"] interface Flag "The installed system keeps the address without DHCP" => is_static;
    "dns_name" ["dnsname"] interface Text "Name of this interface in DNS" => dns_name;
    "virt_bridge" interface Text "Bridge of the hypervisor that a guest is tied to with it" => virt_bridge checked value::device;
    "interface_type" ["bonding" "interfacetype"] interface Text "na, bond, bond_slave, bridge, bridge_slave, bonded_bridge_slave or bmc; the name eth0.100 makes VLAN 100 of eth0" => interface_type;
    "interface_master" ["bonding_master" "interfacemaster"] interface Text "The bond or bridge that it belongs to" => interface_master;
    "bonding_opts" ["bondingopts"] interface Text "Options of a bond: mode=802.3ad miimon=100" => bonding_opts;
    "bridge_opts" ["bridgeopts"] interface Text "Options of a bridge: stp=no forward_delay=0" => bridge_opts;
    "static_routes" ["staticroutes"] interface List "Routes over it: NETWORK/PREFIX:ROUTER" => static_routes;
    "mtu" interface Text "Largest frame in bytes" => mtu;
    "management" interface Flag "The default route goes over it, where several interfaces have a router" => management;
    "client_id" interface Text "DHCP client identifier (option 61), text or 0x..: the address goes to it where its MAC is on no record" => client_id;
    "relay_circuit_id" interface Text "Port of a relay (option 82.1), text or 0x..: the address goes to who is there, where nothing else is known" => relay_circuit_id;
    "relay_remote_id" interface Text "The relay or switch of that port (option 82.2), text or 0x..: alone, or together with the port" => relay_remote_id;
}}

fields! { REPO_DOCS REPO Repo {
    "mirror" own Text "URL that machines fetch packages from" => mirror checked value::mirror;
    "breed" own Text "yum or apt; rsync, rhn and wget are kept, and handed to no machine; empty: what the machine's family reads" => (|repo: &Repo, _| repo.breed.show(), |repo: &mut Repo, _, text, in_place| read_none(&mut repo.breed, text, value::repo_breed, in_place));
    "arch" own Text "Processor: x86_64, i386, ..., src, noarch; kept, the profile that names it decides" => (|repo: &Repo, _| repo.arch.show(), |repo: &mut Repo, _, text, in_place| read_none(&mut repo.arch, text, value::repo_arch, in_place));
    "apt_dists" own List "Suites of an apt mirror; none: the machine's own" => apt_dists checked value::apt_words;
    "apt_components" own List "Components of an apt mirror; none: main" => apt_components checked value::apt_words;
    "priority" own Text "Priority among yum repositories, the lower counts" => priority;
    "proxy" own Text "Proxy URL of machines that read it" => proxy checked value::repo_proxy;
    "comment" own Text "Free text" => comment;
    "owners" own List "Free words" => owners;
}}

fields! { MENU_DOCS MENU Menu {
    "display_name" own Text "What the menu shows; empty: the name" => display_name;
    "parent" own Text "The menu that it stands in" => parent;
    "comment" own Text "Free text" => comment;
    "owners" own List "Free words" => owners;
}}

fields! { IMAGE_DOCS IMAGE Image {
    "image_type" own Text "direct (a kernel), iso, memdisk (a floppy, disk or small CD) or virt-clone (a guest's disk)" => image_type;
    "file" own Text "Where the file lies on the server, from /" => file checked value::image_file;
    "arch" own Text "Processor: x86_64, i386, aarch64, ppc64le, s390x" => arch;
    "breed" own Text "Family, where it has one" => breed checked value::word;
    "os_version" ["osversion"] own Text "Version within the family" => os_version checked value::word;
    "network_count" own Text "Network cards of a guest of it" => network_count;
    "autoinstall" ["kickstart" "autoinst"] own Text "Kept: nothing renders an answer file for an image" => autoinstall checked value::below;
    "kernel_options" ["kopts"] own Dict "Command line of a direct image" => kernel_options;
    "menu" own Text "The menu that it stands in; kept: only who is armed boots an image" => menu;
    "boot_loaders" ["boot_loader"] own List "ipxe, grub, pxe; the first that fits" => boot_loaders checked value::loaders;
    "virt_type" own Text "Kind of guest: kvm, qemu, xenpv or xenfv" => (virt.kind) checked value::virt_type;
    "virt_ram" own Text "Memory of a guest in MiB" => (virt.ram) checked value::memory;
    "virt_cpus" own Text "Processors of a guest" => (virt.cpus) checked value::cpus;
    "virt_file_size" own List "Sizes of a guest's disks in GiB" => (virt.file_size) checked value::sizes;
    "virt_disk_driver" own Text "Format of a guest's disks: qcow2 or raw" => (virt.disk_driver) checked value::disk_driver;
    "virt_path" own Text "Where a guest's disks are made: a storage pool or its folder" => (virt.path);
    "virt_bridge" own Text "Bridge of the hypervisor that a guest is tied to" => (virt.bridge) checked value::device;
    "virt_auto_boot" own Flag "Start a guest with its host" => (virt.auto_boot);
    "comment" own Text "Free text" => comment;
    "owners" own List "Free words" => owners;
}}

fn name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|error: crate::model::BadName| error.to_string())
}

/// Cobbler's word for nothing is `none`.
fn read_none(
    field: &mut String,
    text: &str,
    check: fn(&str) -> Result<(), String>,
    in_place: bool,
) -> Result<(), String> {
    check(text)?;
    field.read(if text == "none" { "" } else { text }, in_place)
}

/// No family is [`NO_BREED`], as for a distro that names none: what is printed without the field must be read as the same.
fn read_breed(distro: &mut Distro, text: &str, in_place: bool) -> Result<(), String> {
    value::word(text)?;
    let text = if text.is_empty() { NO_BREED } else { text };
    distro.breed.read(text, in_place)
}

fn show_tree(distro: &Distro) -> Shown {
    distro
        .tree
        .as_ref()
        .map_or(Shown::Nothing, |tree| Shown::Text(tree.root.display().to_string()))
}

fn read_tree(distro: &mut Distro, text: &str) -> Result<(), String> {
    value::climbless(text)?;
    if text.is_empty() {
        distro.tree = None;
        return Ok(());
    }
    if !text.starts_with('/') {
        return Err(format!(
            "`{}` is not absolute; write the folder from /",
            value::cut(text)
        ));
    }
    let root = PathBuf::from(text);
    // A folder that somebody named is theirs: only import, which made a copy, may say that it is ours to remove.
    if distro.tree.as_ref().is_none_or(|tree| tree.root != root) {
        distro.tree = Some(Tree {
            root,
            in_place: true,
            iso: None,
            overlay: None,
        });
    }
    Ok(())
}

fn show_distro(profile: &Profile) -> Shown {
    match &profile.parent {
        Parent::Distro(name) => Shown::Text(name.to_string()),
        Parent::Profile(_) => Shown::Nothing,
    }
}

fn read_distro(profile: &mut Profile, text: &str) -> Result<(), String> {
    profile.parent = Parent::Distro(name(text)?);
    Ok(())
}

fn show_parent(profile: &Profile) -> Shown {
    match &profile.parent {
        Parent::Profile(name) => Shown::Text(name.to_string()),
        Parent::Distro(_) => Shown::Nothing,
    }
}

fn read_parent(profile: &mut Profile, text: &str) -> Result<(), String> {
    profile.parent = Parent::Profile(name(text)?);
    Ok(())
}

fn no_interface(system: &System, wanted: &str) -> String {
    let have: Vec<&str> = system.interfaces.keys().map(Name::as_str).collect();
    format!(
        "system `{}` has no interface `{}`; it has {}",
        system.name,
        value::cut(wanted),
        if have.is_empty() {
            "none".to_owned()
        } else {
            have.join(", ")
        }
    )
}

fn delete_interface(system: &mut System, selected: &Name, text: &str) -> Result<(), String> {
    // Cobbler's is a flag beside --interface; a name says the same in one word.
    let wanted = match text {
        "" | "1" | "true" => selected.as_str(),
        text => text,
    };
    if system.interfaces.remove(wanted).is_none() {
        return Err(no_interface(system, wanted));
    }
    Ok(())
}

fn rename_interface(system: &mut System, selected: &Name, text: &str) -> Result<(), String> {
    let new = name(text)?;
    if system.interfaces.contains_key(&new) && new != *selected {
        return Err(format!(
            "system `{}` has an interface `{new}`; delete it first",
            system.name
        ));
    }
    let Some(interface) = system.interfaces.remove(selected) else {
        return Err(no_interface(system, selected.as_str()));
    };
    // What belongs to it, and the VLANs on it, follow.
    for other in system.interfaces.values_mut() {
        if other.interface_master.as_ref() == Some(selected) {
            other.interface_master = Some(new.clone());
        }
    }
    let on_it: Vec<(Name, Name)> = system
        .interfaces
        .keys()
        .filter_map(|other| match vlan_of(other.as_str())? {
            (parent, id) if parent == selected.as_str() => Some((other.clone(), name(&format!("{new}.{id}")).ok()?)),
            _ => None,
        })
        .collect();
    for (old, renamed) in on_it {
        if let Some(vlan) = system.interfaces.remove(&old) {
            system.interfaces.insert(renamed, vlan);
        }
    }
    system.interfaces.insert(new, interface);
    Ok(())
}

/// The fields of a kind, in the order that a report shows them.
#[must_use]
pub fn field_docs(kind: Kind) -> &'static [FieldDoc] {
    match kind {
        Kind::Distro => DISTRO_DOCS,
        Kind::Profile => PROFILE_DOCS,
        Kind::System => SYSTEM_DOCS,
        Kind::Repo => REPO_DOCS,
        Kind::Menu => MENU_DOCS,
        Kind::Image => IMAGE_DOCS,
    }
}

/// The field that `typed` names: by name or alias, dashes as underscores.
///
/// # Errors
/// [`Refused::NoField`] with the nearest field; for `name` and `netboot_enabled`, which are no fields, what to do instead.
pub fn field(kind: Kind, typed: &str) -> Result<&'static FieldDoc, Refused> {
    let wanted = typed.trim_start_matches('-').replace('-', "_").to_ascii_lowercase();
    let docs = field_docs(kind);
    if let Some(doc) = docs
        .iter()
        .find(|doc| doc.name == wanted || doc.aliases.contains(&wanted.as_str()))
    {
        return Ok(doc);
    }
    if let Some(extra) = extra(kind, &wanted) {
        return Ok(&extra.doc);
    }
    let why = match (wanted.as_str(), kind) {
        ("netboot_enabled" | "netboot", Kind::System) => {
            "a machine is installed only while it is armed; use `cordwainer system arm NAME` or `system disarm NAME`"
        }
        ("name", _) => "a name is changed by rename, not by edit; use `rename --name OLD --newname NEW`",
        _ => {
            let near = docs
                .iter()
                .flat_map(|doc| std::iter::once(&doc.name).chain(doc.aliases))
                .map(|name| (strsim::damerau_levenshtein(name, &wanted), *name))
                .min()
                .filter(|(distance, name)| *distance <= 1_usize.max(name.len() / 3))
                .map(|(_, name)| name.to_owned());
            return Err(Refused::NoField {
                kind,
                field: value::cut(typed),
                near,
            });
        }
    };
    Err(Refused::BadValue {
        field: wanted,
        why: why.to_owned(),
    })
}

fn access<T>(docs: &[FieldDoc], table: &'static [Access<T>], field: &FieldDoc) -> Option<&'static Access<T>> {
    docs.iter()
        .zip(table)
        .find(|(doc, _)| doc.name == field.name)
        .map(|(_, access)| access)
}

fn set<T: Extras>(
    object: &mut T,
    (kind, docs): (Kind, &[FieldDoc]),
    table: &'static [Access<T>],
    doc: &FieldDoc,
    interface: &Name,
    (text, in_place): (&str, bool),
) -> Result<(), Refused> {
    let done = match (access(docs, table, doc), extra(kind, doc.name)) {
        (Some(access), _) => (access.read)(object, interface, text, in_place),
        (None, Some(field)) => {
            let interface = doc.of_interface.then_some(interface);
            extra::set(object.extras(interface), field, text)
        }
        (None, None) => Ok(()),
    };
    done.map_err(|why| Refused::BadValue {
        field: doc.name.to_owned(),
        why,
    })
}

/// The interface name that is meant when none is given and there is none yet.
fn default_interface() -> Result<Name, Refused> {
    "default"
        .parse()
        .map_err(|error: crate::model::BadName| Refused::BadValue {
            field: "interface".to_owned(),
            why: error.to_string(),
        })
}

/// Sets the fields of an object that has no interfaces.
fn assign<T: Extras>(
    object: &mut T,
    (kind, docs, table): (Kind, &'static [FieldDoc], &'static [Access<T>]),
    fields: &[Assignment],
    in_place: bool,
) -> Result<(), Refused> {
    let none = default_interface()?;
    for (typed, text) in fields {
        set(
            object,
            (kind, docs),
            table,
            field(kind, typed)?,
            &none,
            (text, in_place),
        )?;
    }
    Ok(())
}

/// Sets the fields of a distro.
pub(super) fn assign_distro(distro: &mut Distro, fields: &[Assignment], in_place: bool) -> Result<(), Refused> {
    assign(distro, (Kind::Distro, DISTRO_DOCS, DISTRO), fields, in_place)
}

/// Sets the fields of a profile.
pub(super) fn assign_profile(profile: &mut Profile, fields: &[Assignment], in_place: bool) -> Result<(), Refused> {
    assign(profile, (Kind::Profile, PROFILE_DOCS, PROFILE), fields, in_place)
}

/// Sets the fields of a repository.
pub(super) fn assign_repo(repo: &mut Repo, fields: &[Assignment], in_place: bool) -> Result<(), Refused> {
    assign(repo, (Kind::Repo, REPO_DOCS, REPO), fields, in_place)
}

/// Sets the fields of a menu.
pub(super) fn assign_menu(menu: &mut Menu, fields: &[Assignment], in_place: bool) -> Result<(), Refused> {
    assign(menu, (Kind::Menu, MENU_DOCS, MENU), fields, in_place)
}

/// Sets the fields of an image.
pub(super) fn assign_image(image: &mut Image, fields: &[Assignment], in_place: bool) -> Result<(), Refused> {
    assign(image, (Kind::Image, IMAGE_DOCS, IMAGE), fields, in_place)
}

/// Sets the fields of a system. `interface` selects for what follows it, and the first one also for what stands before it, so that the
/// order of options on a command line does not matter.
pub(super) fn assign_system(system: &mut System, fields: &[Assignment], in_place: bool) -> Result<(), Refused> {
    let mut selected = None;
    for (typed, text) in fields {
        if field(Kind::System, typed)?.name == "interface" {
            selected = Some(interface_name(text)?);
            break;
        }
    }
    for (typed, text) in fields {
        let doc = field(Kind::System, typed)?;
        if doc.name == "interface" {
            selected = Some(interface_name(text)?);
            continue;
        }
        let interface = match (&selected, doc.of_interface || doc.shape == Shape::Selector) {
            (Some(name), _) => name.clone(),
            (None, true) => implied_interface(system, doc)?,
            (None, false) => default_interface()?,
        };
        set(
            system,
            (Kind::System, SYSTEM_DOCS),
            SYSTEM,
            doc,
            &interface,
            (text, in_place),
        )?;
        if doc.name == "rename_interface" && selected.is_some() {
            selected = Some(interface_name(text)?);
        }
    }
    Ok(())
}

fn interface_name(text: &str) -> Result<Name, Refused> {
    name(text).map_err(|why| Refused::BadValue {
        field: "interface".to_owned(),
        why,
    })
}

fn implied_interface(system: &System, doc: &FieldDoc) -> Result<Name, Refused> {
    let default = default_interface()?;
    let mut names = system.interfaces.keys();
    match (names.next(), names.next()) {
        (None, _) => Ok(default),
        (Some(only), None) => Ok(only.clone()),
        _ if system.interfaces.contains_key(&default) => Ok(default),
        // `delete_interface eth1` says which one by itself.
        _ if doc.name == "delete_interface" => Ok(default),
        _ => Err(Refused::BadValue {
            field: doc.name.to_owned(),
            why: format!(
                "system `{}` has the interfaces {}; say which with --interface",
                system.name,
                system
                    .interfaces
                    .keys()
                    .map(Name::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }),
    }
}

fn shown<T>(
    object: &T,
    (docs, table): (&'static [FieldDoc], &[Access<T>]),
    interface: Option<&Name>,
    (kind, extras): (Kind, &extra::Extra),
) -> Vec<FieldValue> {
    let extras = extra::shown(kind, extras, interface.is_some())
        .into_iter()
        .filter(|(name, _)| docs.iter().all(|doc| doc.name != *name))
        .map(|(field, value)| FieldValue {
            field,
            interface: interface.cloned(),
            value,
        });
    docs.iter()
        .zip(table)
        .filter(|(doc, _)| doc.shape != Shape::Selector && doc.of_interface == interface.is_some())
        .map(|(doc, access)| FieldValue {
            field: doc.name,
            interface: interface.cloned(),
            value: (access.show)(object, interface),
        })
        .chain(extras)
        .collect()
}

/// Every field of an object with its own value, `name` first, then the interfaces. An arming has none.
#[must_use]
pub fn field_values(row: &Row) -> Vec<FieldValue> {
    let (name, values) = match row {
        Row::Distro(distro) => (
            &distro.name,
            shown(&**distro, (DISTRO_DOCS, DISTRO), None, (Kind::Distro, &distro.extra)),
        ),
        Row::Profile(profile) => (
            &profile.name,
            shown(
                &**profile,
                (PROFILE_DOCS, PROFILE),
                None,
                (Kind::Profile, &profile.extra),
            ),
        ),
        Row::System(system) => {
            let mut values = shown(&**system, (SYSTEM_DOCS, SYSTEM), None, (Kind::System, &system.extra));
            for (name, interface) in &system.interfaces {
                let extras = (Kind::System, &interface.extra);
                values.extend(shown(&**system, (SYSTEM_DOCS, SYSTEM), Some(name), extras));
            }
            (&system.name, values)
        }
        Row::Repo(repo) => (
            &repo.name,
            shown(&**repo, (REPO_DOCS, REPO), None, (Kind::Repo, &repo.extra)),
        ),
        Row::Menu(menu) => (
            &menu.name,
            shown(&**menu, (MENU_DOCS, MENU), None, (Kind::Menu, &menu.extra)),
        ),
        Row::Image(image) => (
            &image.name,
            shown(&**image, (IMAGE_DOCS, IMAGE), None, (Kind::Image, &image.extra)),
        ),
        Row::Arm(_) => return Vec::new(),
    };
    let mut all = vec![FieldValue {
        field: "name",
        interface: None,
        value: Shown::Text(name.to_string()),
    }];
    all.extend(values);
    all
}

/// What stands in a required field until its value is read.
pub(super) fn empty_profile(name: Name, parent: Parent) -> Profile {
    Profile {
        name,
        parent,
        autoinstall: Inherit::Inherit,
        autoinstall_meta: crate::model::Dict::new(),
        kernel_options: crate::model::Dict::new(),
        kernel_options_post: crate::model::Dict::new(),
        name_servers: Inherit::Inherit,
        name_servers_search: Inherit::Inherit,
        proxy: Inherit::Inherit,
        boot_loaders: Inherit::Inherit,
        enable_menu: Inherit::Inherit,
        virt: crate::model::Virt::default(),
        comment: String::new(),
        owners: Vec::new(),
        extra: std::collections::BTreeMap::new(),
    }
}
