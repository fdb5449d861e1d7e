//! The options that set, or look for, an object's fields. They are made from [`field_docs`], the one table of fields, so that help,
//! man page, completions and `edit` cannot disagree.

use crate::inventory::{Assignment, FieldDoc, extra_docs, field_docs};
use crate::model::Kind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::marker::PhantomData;

/// A kind of object as a type, so that each command line part has its own options.
pub trait OfKind: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The kind.
    const KIND: Kind;
    /// Heading of the options in help.
    const HEADING: &'static str;
}

macro_rules! kinds {
    ($($name:ident $kind:ident $heading:literal $doc:literal;)*) => {
        $(
            #[doc = $doc]
            #[derive(Debug, Clone, Copy)]
            pub struct $name;
            impl OfKind for $name {
                const KIND: Kind = Kind::$kind;
                const HEADING: &'static str = $heading;
            }
        )*
    };
}
kinds! {
    OfDistro Distro "Fields of a distro" "Distros.";
    OfProfile Profile "Fields of a profile" "Profiles.";
    OfSystem System "Fields of a system" "Systems.";
    OfRepo Repo "Fields of a repository" "Package repositories.";
    OfMenu Menu "Fields of a menu" "Menus.";
    OfImage Image "Fields of an image" "Images.";
}

/// Field assignments as they were typed, in that order.
#[derive(Debug, Clone)]
pub struct Fields<K> {
    /// Field and value.
    pub given: Vec<Assignment>,
    /// `--netboot-enabled`: arm or disarm. No field: it is true exactly while the machine is armed.
    pub netboot: Option<bool>,
    kind: PhantomData<K>,
}

/// The placeholder that help shows for a field's value.
fn placeholder(name: &str) -> &'static str {
    match name {
        "kernel_options" | "kernel_options_post" | "autoinstall_meta" => "K=V ...",
        "mac_address" => "MAC",
        "ip_address" | "gateway" | "netmask" | "if_gateway" => "ADDRESS",
        "profile" | "distro" | "parent" | "interface" | "menu" | "image" => "NAME",
        "name_servers" | "koan_hosts" => "ADDRESS ...",
        "repos" => "NAME|URL ...",
        "mirror" => "URL",
        "netboot_enabled" | "static" | "enable_menu" | "virt_auto_boot" | "virt_pxe_boot" | "anonymous_autoinstall" => {
            "YES|NO"
        }
        "virt_ram" => "MIB",
        "virt_cpus" => "N",
        "virt_file_size" => "GIB ...",
        "virt_bridge" => "BRIDGE",
        "kernel" | "initrd" | "tree" | "file" => "PATH",
        "image_type" => "direct|iso|memdisk|virt-clone",
        "autoinstall" => "TEMPLATE",
        _ => "VALUE",
    }
}

/// What Cobbler's users type to let a machine be installed.
const NETBOOT: &str = "netboot_enabled";

/// Yes or no as Cobbler takes it.
fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "y" | "on" => Ok(true),
        "0" | "false" | "no" | "n" | "off" => Ok(false),
        _ => Err("expected 1 (arm it) or 0 (disarm it)".to_owned()),
    }
}

/// Fields of Cobbler's that count here too: help shows them with those of our own.
const SHOWN: [&str; 5] = ["repos", "menu", "display_name", "anonymous_autoinstall", "koan_hosts"];

/// The fields that Cobbler's users know, most of them only kept. Help leaves those out.
fn hidden<K: OfKind>() -> impl Iterator<Item = &'static FieldDoc> {
    let known = |name: &str| field_docs(K::KIND).iter().any(|doc| doc.name == name);
    let mut seen = std::collections::BTreeSet::new();
    let new = move |doc: &&'static FieldDoc| !known(doc.name) && seen.insert(doc.name);
    extra_docs(K::KIND).map(|extra| &extra.doc).filter(new)
}

impl<K: OfKind> Args for Fields<K> {
    fn augment_args(mut command: Command) -> Command {
        for doc in hidden::<K>() {
            let aliases = doc.aliases.iter().map(|alias| alias.replace('_', "-"));
            let spelled = doc.name.contains('_').then(|| doc.name.to_owned());
            let aliases: std::collections::BTreeSet<String> = aliases.chain(spelled).collect();
            let arg = Arg::new(doc.name)
                .long(doc.name.replace('_', "-"))
                .aliases(aliases)
                .action(ArgAction::Set)
                .value_name(placeholder(doc.name))
                .help_heading(K::HEADING)
                .hide(!SHOWN.contains(&doc.name) || doc.help.ends_with("kept for scripts"))
                .help(doc.help);
            command = command.arg(arg);
        }
        for doc in field_docs(K::KIND) {
            let aliases: Vec<String> = doc.aliases.iter().map(|alias| alias.replace('_', "-")).collect();
            // Cobbler's users may also write the field's own name with its underscores.
            let spelled = doc.name.contains('_').then(|| doc.name.to_owned());
            let mut arg = Arg::new(doc.name)
                .long(doc.name.replace('_', "-"))
                .visible_aliases(aliases)
                .aliases(spelled)
                .value_name(placeholder(doc.name))
                .action(ArgAction::Set)
                .help_heading(K::HEADING)
                .help(doc.help);
            if doc.name == "delete_interface" {
                // Cobbler's is a flag beside --interface.
                arg = arg.num_args(0..=1).default_missing_value("1");
            }
            command = command.arg(arg);
        }
        if K::KIND == Kind::System {
            let arg = Arg::new(NETBOOT)
                .long("netboot-enabled")
                .aliases(["netboot_enabled", "netboot"])
                .value_name("YES|NO")
                .value_parser(yes_or_no)
                .action(ArgAction::Set)
                .help_heading(K::HEADING)
                .help("1: arm it, its disk is WIPED on its next network boot; 0: disarm it");
            command = command.arg(arg);
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<K: OfKind> FromArgMatches for Fields<K> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Vec::new();
        for doc in field_docs(K::KIND).iter().chain(hidden::<K>()) {
            if let Some(value) = matches.get_one::<String>(doc.name) {
                let at = matches.index_of(doc.name).unwrap_or(usize::MAX);
                // The interface is chosen before anything is set on it, wherever it was typed.
                let at = if doc.name == "interface" { 0 } else { at };
                given.push((at, (doc.name.to_owned(), value.clone())));
            }
        }
        given.sort_by_key(|(at, _)| *at);
        let netboot = match K::KIND {
            Kind::System => matches.get_one::<bool>(NETBOOT).copied(),
            _ => None,
        };
        Ok(Self {
            given: given.into_iter().map(|(_, assignment)| assignment).collect(),
            netboot,
            kind: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
