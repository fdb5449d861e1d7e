//! Fields that Cobbler's users set and few of ours need: virtual machines as koan makes them, what other daemons of Cobbler's read. They
//! are kept as they were written, inherited as Cobbler inherits them, and shown where they are set.
//!
//! Pure. Never keeps a password: there is no field here that could hold one.

use super::fields::{FieldDoc, Shape};
use super::value::{self, Shown};
use super::{Inventory, Resolved};
use crate::model::{Inherit, Interface, Kind, words};
use std::collections::BTreeMap;

/// Extra fields of one object, by name.
pub(super) type Extra = BTreeMap<String, String>;

/// What a value is to programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A text.
    Text,
    /// A list of words.
    List,
    /// `k=v ...`.
    Dict,
    /// Yes or no.
    Flag,
    /// A whole number.
    Number,
    /// A number with a point.
    Real,
    /// A secret of Cobbler's that is not kept here: it stays empty.
    Withheld,
}

/// One extra field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtraDoc {
    /// Its name, aliases and help, as for every field.
    pub doc: FieldDoc,
    /// What its value is to programs.
    pub form: Form,
    /// What Cobbler says where it was never set.
    pub default: &'static str,
}

const INHERIT: &str = Inherit::<()>::MARK;

macro_rules! extras {
    ($table:ident $of_interface:literal { $($name:literal $([$($alias:literal)+])? $form:ident $default:expr, $help:literal;)* }) => {
        const $table: &[ExtraDoc] = &[$(ExtraDoc {
            doc: FieldDoc {
                name: $name,
                aliases: &[$($($alias),+)?],
                help: $help,
                shape: match Form::$form {
                    Form::List => Shape::List,
                    Form::Dict => Shape::Dict,
                    Form::Flag => Shape::Flag,
                    Form::Text | Form::Number | Form::Real | Form::Withheld => Shape::Text,
                },
                of_interface: $of_interface,
            },
            form: Form::$form,
            default: $default,
        }),*];
    };
}

extras! { DISTRO false {
    "boot_files" Dict "", "Cobbler's further TFTP files; kept, not served";
    "fetchable_files" Dict "", "Cobbler's further HTTP files; kept, not served";
    "template_files" Dict "", "Files that sections of an installation fetch by op/template, as TEMPLATE=/PATH with blanks between";
    "mgmt_classes" List "", "Configuration management classes; kept for scripts";
    "mgmt_parameters" Dict "", "Configuration management parameters; kept for scripts";
    "redhat_management_key" Withheld INHERIT, "A registration key; not kept here";
    "remote_boot_kernel" Text "", "URL of the kernel for other boot servers; kept for scripts";
    "remote_boot_initrd" Text "", "URL of the initrd for other boot servers; kept for scripts";
    "remote_grub_kernel" Text "", "The same in GRUB's words; kept for scripts";
    "remote_grub_initrd" Text "", "The same in GRUB's words; kept for scripts";
    "source_repos" List "", "Repositories of the tree; kept for scripts";
    "tree_build_time" Real "0.0", "When the tree was built; kept for scripts";
}}

extras! { PROFILE false {
    "anonymous_autoinstall" Flag "false", "1: anyone may fetch its answer file, as `koan --profile` needs; it holds what it holds, root's password hash too";
    "koan_hosts" List "", "Addresses of hypervisors whose koan may start the installation of its armed systems";
    "boot_files" Dict INHERIT, "Cobbler's further TFTP files; kept, not served";
    "fetchable_files" Dict INHERIT, "Cobbler's further HTTP files; kept, not served";
    "template_files" Dict "", "Files that sections of an installation fetch by op/template, as TEMPLATE=/PATH with blanks between";
    "mgmt_classes" List INHERIT, "Configuration management classes; kept for scripts";
    "mgmt_parameters" Dict INHERIT, "Configuration management parameters; kept for scripts";
    "redhat_management_key" Withheld INHERIT, "A registration key; not kept here";
    "dhcp_tag" Text "", "Group of another DHCP server's configuration; kept for scripts";
    "display_name" Text "", "What the boot menu calls it; empty: its name";
    "enable_ipxe" ["enable_gpxe"] Flag INHERIT, "Cobbler's choice of iPXE; here --boot-loaders";
    "filename" Text "", "Cobbler's DHCP boot file; here the server chooses, or --boot-loaders";
    "menu" Text "", "The menu that it stands in; empty: the top";
    "next_server_v4" ["next_server"] Text INHERIT, "Cobbler's TFTP server; kept for scripts";
    "next_server_v6" Text INHERIT, "Cobbler's TFTP server; kept for scripts";
    "repos" List "", "Package repositories that its machines get: names of repos, or URLs";
    "server" Text INHERIT, "Cobbler's server address; here the one that the machine reaches";
}}

extras! { SYSTEM false {
    "koan_hosts" List "", "Addresses of hypervisors whose koan may start its installation while it is armed";
    "boot_files" Dict INHERIT, "Cobbler's further TFTP files; kept, not served";
    "fetchable_files" Dict INHERIT, "Cobbler's further HTTP files; kept, not served";
    "template_files" Dict "", "Files that sections of an installation fetch by op/template, as TEMPLATE=/PATH with blanks between";
    "mgmt_classes" List INHERIT, "Configuration management classes; kept for scripts";
    "mgmt_parameters" Dict INHERIT, "Configuration management parameters; kept for scripts";
    "redhat_management_key" Withheld INHERIT, "A registration key; not kept here";
    "display_name" Text "", "Name in Cobbler's menus; kept for scripts";
    "enable_ipxe" ["enable_gpxe"] Flag INHERIT, "Cobbler's choice of iPXE; here --boot-loaders";
    "filename" Text INHERIT, "Cobbler's DHCP boot file; here the server chooses, or --boot-loaders";
    "ipv6_autoconfiguration" Flag "false", "Kept for scripts";
    "ipv6_default_device" Text "", "Kept for scripts";
    "next_server_v4" ["next_server"] Text INHERIT, "Cobbler's TFTP server; kept for scripts";
    "next_server_v6" Text INHERIT, "Cobbler's TFTP server; kept for scripts";
    "power_address" Text "", "Address of the power controller; kept for scripts";
    "power_id" Text "", "Its outlet; kept for scripts";
    "power_identity_file" Text "", "Kept for scripts";
    "power_options" Text "", "Kept for scripts";
    "power_pass" Withheld "", "Its password; not kept here";
    "power_type" Text "", "Its kind; kept for scripts";
    "power_user" Text "", "Its user; kept for scripts";
    "repos_enabled" Flag "false", "Kept for scripts";
    "serial_baud_rate" Number "-1", "Kept for scripts; use --kernel-options console=ttyS0,115200";
    "serial_device" Number "-1", "Kept for scripts; use --kernel-options console=ttyS0,115200";
    "server" Text INHERIT, "Cobbler's server address; here the one that the machine reaches";
}}

extras! { INTERFACE true {
    "bonding_opts" ["bondingopts"] Text "", "Options of a bond; kept for scripts";
    "bridge_opts" ["bridgeopts"] Text "", "Options of a bridge; kept for scripts";
    "cnames" List "", "Further names in DNS; kept for scripts";
    "connected_mode" ["connectedmode"] Flag "false", "InfiniBand; kept for scripts";
    "dhcp_tag" ["dhcptag"] Text "", "Group of another DHCP server's configuration; kept for scripts";
    "interface_master" ["interfacemaster"] Text "", "The bond or bridge that it belongs to; kept for scripts";
    "interface_type" ["interfacetype"] Text "na", "bond, bridge, bond_slave, ...; kept for scripts";
    "ipv6_address" ["ipv6address"] Text "", "Kept for scripts";
    "ipv6_default_gateway" ["ipv6defaultgateway"] Text "", "Kept for scripts";
    "ipv6_mtu" ["ipv6mtu"] Text "", "Kept for scripts";
    "ipv6_prefix" ["ipv6prefix"] Text "", "Kept for scripts";
    "ipv6_secondaries" ["ipv6secondaries"] List "", "Kept for scripts";
    "ipv6_static_routes" ["ipv6staticroutes"] List "", "Kept for scripts";
    "management" Flag "false", "The interface for management; kept for scripts";
    "mtu" Text "", "Largest packet; kept for scripts";
    "static_routes" ["staticroutes"] List "", "Kept for scripts";
}}

extras! { REPO false {
    "autoinstall_meta" ["ks_meta" "ksmeta"] Dict "", "Cobbler's inherited variables; kept for scripts";
    "boot_files" Dict "", "Kept for scripts";
    "createrepo_flags" Text INHERIT, "Flags of Cobbler's own copies; kept for scripts";
    "environment" Dict "", "Environment of Cobbler's own copies; kept for scripts";
    "fetchable_files" Dict "", "Kept for scripts";
    "keep_updated" Flag "false", "Cobbler's copies; kept for scripts";
    "kernel_options" Dict "", "Kept for scripts";
    "kernel_options_post" Dict "", "Kept for scripts";
    "mgmt_classes" List "", "Configuration management classes; kept for scripts";
    "mgmt_parameters" Dict "", "Configuration management parameters; kept for scripts";
    "mirror_locally" Flag "false", "Cobbler's copies; here machines go to the mirror itself";
    "mirror_type" Text "baseurl", "baseurl, mirrorlist or metalink";
    "os_version" Text "", "Kept for scripts";
    "rpm_list" List "", "Cobbler's copies; kept for scripts";
    "rsyncopts" Dict "", "Cobbler's copies; kept for scripts";
    "template_files" Dict "", "Kept for scripts";
    "yumopts" Dict "", "Further lines of a yum repository";
}}

extras! { MENU false {
    "autoinstall_meta" ["ks_meta" "ksmeta"] Dict "", "Cobbler's inherited variables; kept for scripts";
    "boot_files" Dict "", "Kept for scripts";
    "fetchable_files" Dict "", "Kept for scripts";
    "kernel_options" Dict "", "Kept for scripts";
    "kernel_options_post" Dict "", "Kept for scripts";
    "mgmt_classes" List "", "Configuration management classes; kept for scripts";
    "mgmt_parameters" Dict "", "Configuration management parameters; kept for scripts";
    "template_files" Dict "", "Kept for scripts";
}}

extras! { IMAGE false {
    "autoinstall_meta" ["ks_meta" "ksmeta"] Dict "", "Cobbler's inherited variables; kept for scripts";
    "boot_files" Dict "", "Kept for scripts";
    "display_name" Text "", "Name in Cobbler's menus; kept for scripts";
    "fetchable_files" Dict "", "Kept for scripts";
    "kernel_options_post" Dict "", "Kept for scripts";
    "mgmt_classes" List INHERIT, "Configuration management classes; kept for scripts";
    "mgmt_parameters" Dict "", "Configuration management parameters; kept for scripts";
    "template_files" Dict "", "Kept for scripts";
}}

/// The extra fields of a kind, an object's own first, then those of its interfaces. Where a field became one that means something here,
/// [`super::field_docs`] has it too, and that one counts.
pub fn extra_docs(kind: Kind) -> impl Iterator<Item = &'static ExtraDoc> {
    let (own, of_interface): (&'static [ExtraDoc], &'static [ExtraDoc]) = match kind {
        Kind::Distro => (DISTRO, &[]),
        Kind::Profile => (PROFILE, &[]),
        Kind::System => (SYSTEM, INTERFACE),
        Kind::Repo => (REPO, &[]),
        Kind::Menu => (MENU, &[]),
        Kind::Image => (IMAGE, &[]),
    };
    own.iter().chain(of_interface)
}

/// The extra field of that name or alias.
#[must_use]
pub fn extra(kind: Kind, wanted: &str) -> Option<&'static ExtraDoc> {
    extra_docs(kind).find(|extra| extra.doc.name == wanted || extra.doc.aliases.contains(&wanted))
}

/// The value of an extra field as it counts for a profile or system: its own, or that of the nearest profile above that has one.
#[must_use]
pub fn resolved_extra(resolved: &Resolved, name: &str) -> Option<String> {
    let own = resolved.system.as_ref().and_then(|system| system.extra.get(name));
    let above = resolved.profiles.iter().filter_map(|profile| profile.extra.get(name));
    let mut found = own.into_iter().chain(above).filter(|value| *value != INHERIT);
    found.find(|value| !value.is_empty()).cloned()
}

/// True when anyone may fetch the answer file of the profile `name`.
#[must_use]
pub fn is_anonymous(inventory: &Inventory, name: &str) -> bool {
    let own = inventory
        .profile(name)
        .and_then(|profile| profile.extra.get("anonymous_autoinstall"));
    own.is_some_and(|text| value::flag(text).unwrap_or(false))
}

/// Sets an extra field; what it would be anyway is not kept.
pub(super) fn set(extra: &mut Extra, field: &ExtraDoc, text: &str) -> Result<(), String> {
    let text = text.trim();
    let plain = |text: &str| !text.chars().any(char::is_control) && text.len() <= 4096;
    if !plain(text) {
        return Err("control characters and more than 4096 bytes are not taken; write it on one line".to_owned());
    }
    let inherits = text == INHERIT;
    let wrong = |what: &str| Err(format!("`{}` is {what}", value::cut(text)));
    match field.form {
        Form::Withheld if !(text.is_empty() || inherits) => {
            return Err("a secret of this kind is not kept here; leave it empty".to_owned());
        }
        Form::Flag if !(inherits || text.is_empty()) => {
            value::flag(text)?;
        }
        Form::Number if !(inherits || text.is_empty()) && text.parse::<i64>().is_err() => {
            return wrong("no whole number; write it like 2");
        }
        // koan takes `5,10` for two disks.
        Form::Real
            if !inherits
                && !text.is_empty()
                && text
                    .split(',')
                    .any(|part| !part.trim().parse::<f64>().is_ok_and(f64::is_finite)) =>
        {
            return wrong("no number; write it like 5.0");
        }
        Form::Dict if !inherits => {
            text.parse::<crate::model::Dict>().map_err(|error| error.to_string())?;
        }
        Form::List if !inherits => {
            words(text, value::separates_items).map_err(|error| error.to_string())?;
        }
        _ => {}
    }
    let text = match field.form {
        Form::Flag if !inherits && !text.is_empty() => {
            if value::flag(text)? {
                "true"
            } else {
                "false"
            }
        }
        _ => text,
    };
    if text == field.default || field.form == Form::Withheld {
        extra.remove(field.doc.name);
    } else {
        extra.insert(field.doc.name.to_owned(), text.to_owned());
    }
    Ok(())
}

/// The extra fields of an object, or of one of its interfaces, that are set.
pub(super) fn shown(kind: Kind, extra: &Extra, of_interface: bool) -> Vec<(&'static str, Shown)> {
    let docs = extra_docs(kind).filter(|field| field.doc.of_interface == of_interface);
    docs.filter_map(|field| {
        let text = extra.get(field.doc.name)?;
        let value = match field.form {
            _ if text == INHERIT => Shown::Inherit,
            Form::List => Shown::List(words(text, value::separates_items).unwrap_or_default()),
            Form::Flag => Shown::Flag(text == "true"),
            _ => Shown::Text(text.clone()),
        };
        Some((field.doc.name, value))
    })
    .collect()
}

/// An object that has extra fields.
pub(super) trait Extras {
    /// Its own, or those of one of its interfaces, which is made where there is none.
    fn extras(&mut self, interface: Option<&crate::model::Name>) -> &mut Extra;
}

macro_rules! of_its_own {
    ($($object:ident)+) => {$(
        impl Extras for crate::model::$object {
            fn extras(&mut self, _: Option<&crate::model::Name>) -> &mut Extra {
                &mut self.extra
            }
        }
    )+};
}
of_its_own!(Distro Profile Repo Menu Image);

impl Extras for crate::model::System {
    fn extras(&mut self, interface: Option<&crate::model::Name>) -> &mut Extra {
        match interface {
            Some(name) => {
                let interface: &mut Interface = self.interfaces.entry(name.clone()).or_default();
                &mut interface.extra
            }
            None => &mut self.extra,
        }
    }
}
