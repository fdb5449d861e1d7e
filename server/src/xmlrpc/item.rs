//! An object as Cobbler 3.3 shows it: its fields by name, each with the type that Cobbler gives it; and the projection for anyone.
//!
//! Pure. Fields that only we have are left out: a client that counts fields (Terraform's does) reads what it knows.

use super::value::{Value, members};
use crate::inventory::{Form, Inventory, Row, Shape, Shown, extra_docs, field_docs, field_values, resolve_profile};
use crate::model::{Dict, DictValue, Inherit, Kind, Name, Parent, Timestamp};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What an object is to Cobbler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A kind that we have.
    Kind(Kind),
    /// One that we do not have, of which there are none: mgmtclass, package, file.
    Other,
}

impl What {
    pub(super) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "mgmtclass" | "package" | "file" => Self::Other,
            word => Self::Kind(Kind::of(word)?),
        })
    }
}

const INHERIT: &str = Inherit::<()>::MARK;

/// Ours alone.
const OURS: [&str; 8] = [
    "tree",
    "signature",
    "client_id",
    "relay_circuit_id",
    "relay_remote_id",
    "anonymous_autoinstall",
    "koan_hosts",
    "install_disk",
];

/// The interface fields that Cobbler has, all of them and no other.
const INTERFACE: [&str; 23] = [
    "bonding_opts",
    "bridge_opts",
    "cnames",
    "connected_mode",
    "dhcp_tag",
    "dns_name",
    "if_gateway",
    "interface_master",
    "interface_type",
    "ip_address",
    "ipv6_address",
    "ipv6_default_gateway",
    "ipv6_mtu",
    "ipv6_prefix",
    "ipv6_secondaries",
    "ipv6_static_routes",
    "mac_address",
    "management",
    "mtu",
    "netmask",
    "static",
    "static_routes",
    "virt_bridge",
];

/// A dictionary as a struct: a bare key has no value, a repeated one a list.
pub(super) fn dict(dict: &Dict) -> Value {
    members(dict.iter().map(|(key, value)| match value {
        DictValue::Flag => (key.to_owned(), Value::Nil),
        DictValue::Deleted => (format!("!{key}"), Value::Nil),
        DictValue::Values(values) => match values.as_slice() {
            [one] => (key.to_owned(), one.as_str().into()),
            all => (key.to_owned(), all.iter().map(String::as_str).collect()),
        },
    }))
}

fn of_form(form: Form, text: &str) -> Value {
    if text == INHERIT {
        return INHERIT.into();
    }
    match form {
        Form::Text | Form::Withheld => text.into(),
        Form::List => crate::model::words(text, |c| c.is_whitespace() || c == ',')
            .unwrap_or_default()
            .into_iter()
            .collect(),
        Form::Dict => text.parse::<Dict>().map_or_else(|_| text.into(), |it| dict(&it)),
        Form::Flag => Value::Bool(text == "true"),
        Form::Number => text.parse::<i64>().map_or_else(|_| text.into(), Value::Int),
        Form::Real => text.parse::<f64>().map_or_else(|_| text.into(), Value::Double),
    }
}

/// A field of ours that Cobbler has too.
fn own(kind: Kind, field: &str, shape: Shape, shown: &Shown) -> Value {
    // Cobbler's owners are inherited from its settings, and its dictionaries are until a profile or system has its own.
    let inherited = field == "owners"
        || shape == Shape::Dict && !matches!(kind, Kind::Distro | Kind::Image)
        || field == "boot_loaders" && kind != Kind::Image;
    match (field, kind, shown) {
        ("virt_cpus", Kind::Profile, Shown::Inherit) => return Value::Int(1),
        ("virt_cpus", Kind::Image, Shown::Inherit) => return Value::Int(1),
        ("virt_path" | "virt_bridge", Kind::Image, Shown::Inherit) => return "".into(),
        ("virt_auto_boot", Kind::Image, Shown::Inherit) => return Value::Bool(false),
        ("virt_disk_driver", Kind::Image, Shown::Inherit) => return "raw".into(),
        ("network_count", _, Shown::Text(text)) => return of_form(Form::Number, text),
        ("virt_path", Kind::Profile, Shown::Inherit) => return "".into(),
        ("interface_type", _, Shown::Nothing) => return "na".into(),
        ("virt_pxe_boot", _, Shown::Inherit) => return Value::Bool(false),
        ("virt_ram" | "virt_cpus", _, Shown::Text(text)) => return of_form(Form::Number, text),
        ("virt_file_size", _, Shown::List(items)) => return of_form(Form::Real, &items.join(",")),
        _ => {}
    }
    match (shown, shape) {
        (Shown::Inherit, _) if matches!(field, "name_servers" | "name_servers_search") => Value::Array(Vec::new()),
        (Shown::Inherit, _) => INHERIT.into(),
        (Shown::Nothing, Shape::List | Shape::Dict) if inherited => INHERIT.into(),
        (Shown::Nothing, Shape::List) => Value::Array(Vec::new()),
        (Shown::Nothing, Shape::Dict) => Value::Struct(BTreeMap::new()),
        (Shown::Nothing, Shape::Flag) => Value::Bool(false),
        (Shown::Nothing, _) => "".into(),
        (Shown::Flag(flag), _) => Value::Bool(*flag),
        (Shown::List(items), _) if field == "initrd" => items.first().map_or("", String::as_str).into(),
        (Shown::List(items), _) => items.iter().map(String::as_str).collect(),
        (Shown::Text(text), Shape::Dict) => of_form(Form::Dict, text),
        (Shown::Text(text), Shape::List) => of_form(Form::List, text),
        (Shown::Text(text), _) => text.as_str().into(),
    }
}

/// Cobbler names each object by 32 hexadecimal digits; ours follow from kind and name.
fn uid(kind: Kind, name: &Name) -> String {
    let digest = Sha256::digest(format!("{kind}\0{name}").as_bytes());
    let digits = digest.iter().take(16).flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

/// The object that stands above this one, and how deep it stands.
fn place(inventory: &Inventory, row: &Row) -> (String, i64) {
    let depth_of = |name: &Name| {
        let (mut depth, mut at) = (1_i64, inventory.profile(name.as_str()));
        // A circle cannot be stored; 64 ends one all the same.
        while let Some(Parent::Profile(above)) = at.map(|profile| &profile.parent)
            && depth < 64
        {
            (depth, at) = (depth.saturating_add(1), inventory.profile(above.as_str()));
        }
        depth
    };
    match row {
        Row::Profile(profile) => match &profile.parent {
            Parent::Profile(parent) => (parent.to_string(), depth_of(&profile.name)),
            Parent::Distro(_) => (String::new(), 1),
        },
        // Cobbler counts a system on an image from the settings.
        Row::System(system) => match &system.profile {
            Some(profile) => (String::new(), depth_of(profile).saturating_add(1)),
            None => (String::new(), 1),
        },
        Row::Menu(menu) => {
            let (mut depth, mut at) = (0_i64, menu.parent.as_ref());
            while let Some(above) = at.filter(|_| depth < 64) {
                depth = depth.saturating_add(1);
                at = inventory.menu(above.as_str()).and_then(|above| above.parent.as_ref());
            }
            (menu.parent.as_ref().map(ToString::to_string).unwrap_or_default(), depth)
        }
        Row::Distro(_) | Row::Repo(_) | Row::Image(_) | Row::Arm(_) => (String::new(), 0),
    }
}

/// What is the same for all objects of a kind, worked out once: a list of a thousand asks for it a thousand times.
struct Common {
    /// Cobbler's fields that mean nothing here, with what it says where they were never set.
    unset: BTreeMap<String, Value>,
    /// The same of an interface.
    unset_interface: BTreeMap<String, Value>,
    /// How each of those is read, by its name and whether it is an interface's. One that means something here is not among them.
    forms: BTreeMap<(&'static str, bool), Form>,
    /// What our own fields are.
    shapes: BTreeMap<&'static str, Shape>,
}

impl Common {
    fn new(kind: Kind) -> Self {
        let unset = |of_interface: bool| {
            let extras = extra_docs(kind).filter(move |extra| extra.doc.of_interface == of_interface);
            let extras = extras.filter(|extra| !OURS.contains(&extra.doc.name));
            let values = extras.map(|extra| (extra.doc.name.to_owned(), of_form(extra.form, extra.default)));
            values.collect()
        };
        // Of two of one name the first counts.
        let shapes: BTreeMap<&'static str, Shape> =
            field_docs(kind).iter().rev().map(|doc| (doc.name, doc.shape)).collect();
        let extras: Vec<_> = extra_docs(kind).collect();
        let forms = extras.into_iter().rev();
        let forms = forms.map(|extra| ((extra.doc.name, extra.doc.of_interface), extra.form));
        Self {
            unset: unset(false),
            unset_interface: unset(true),
            forms: forms
                .filter(|((name, _), _)| !shapes.contains_key(name) && *name != "name")
                .collect(),
            shapes,
        }
    }

    fn of(kind: Kind) -> Option<&'static Self> {
        static ALL: OnceLock<BTreeMap<Kind, Common>> = OnceLock::new();
        ALL.get_or_init(|| Kind::ALL.into_iter().map(|kind| (kind, Self::new(kind))).collect())
            .get(&kind)
    }
}

/// Every field of an object, as a user who is logged in sees it. `armed` is what Cobbler calls `netboot_enabled`.
pub(super) fn whole(inventory: &Inventory, row: &Row, armed: bool) -> BTreeMap<String, Value> {
    let Some((kind, common)) = row.kind().and_then(|kind| Some((kind, Common::of(kind)?))) else {
        return BTreeMap::new();
    };
    let mut all = common.unset.clone();
    let mut interfaces: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    if let Row::System(system) = row {
        for name in system.interfaces.keys() {
            interfaces.insert(name.to_string(), common.unset_interface.clone());
        }
    }
    for value in field_values(row) {
        if OURS.contains(&value.field) {
            continue;
        }
        let shown = match common.forms.get(&(value.field, value.interface.is_some())) {
            Some(form) => of_form(*form, &value.value.to_string()),
            None => {
                let shape = common.shapes.get(value.field).copied().unwrap_or(Shape::Text);
                own(kind, value.field, shape, &value.value)
            }
        };
        match &value.interface {
            Some(name) => interfaces
                .entry(name.to_string())
                .or_default()
                .insert(value.field.to_owned(), shown),
            None => all.insert(value.field.to_owned(), shown),
        };
    }
    let (parent, depth) = place(inventory, row);
    let dates = inventory.dates(kind, row.name());
    let date = |at: Option<Timestamp>| Value::Double(at.map_or(0.0, |at| super::read::seconds(at.0)));
    for (name, value) in [
        ("parent", Value::Text(parent)),
        ("depth", Value::Int(depth)),
        ("children", Value::Array(children(inventory, row))),
        ("ctime", date(dates.map(|dates| dates.made))),
        ("mtime", date(dates.map(|dates| dates.changed))),
        ("uid", Value::Text(uid(kind, row.name()))),
        ("is_subobject", Value::Bool(is_subobject(row))),
    ] {
        all.insert(name.to_owned(), value);
    }
    match row {
        Row::Distro(distro) => {
            if let Some(tree) = &distro.tree {
                let below = |path: &str| tree.root.join(path).display().to_string();
                all.insert("kernel".to_owned(), below(&distro.kernel).into());
                let initrd = distro.initrd.first().map(|path| below(path)).unwrap_or_default();
                all.insert("initrd".to_owned(), initrd.into());
            }
            let loaders = ["grub", "pxe", "ipxe"];
            all.insert("supported_boot_loaders".to_owned(), loaders.into_iter().collect());
        }
        Row::System(_) => {
            for interface in interfaces.values_mut() {
                interface.retain(|name, _| INTERFACE.contains(&name.as_str()));
            }
            let interfaces = interfaces
                .into_iter()
                .map(|(name, fields)| (name, Value::Struct(fields)));
            all.insert("interfaces".to_owned(), members(interfaces));
            all.insert("netboot_enabled".to_owned(), Value::Bool(armed));
        }
        Row::Repo(_) => {
            for field in ["arch", "breed"] {
                if all.get(field).and_then(Value::text) == Some("") {
                    all.insert(field.to_owned(), "none".into());
                }
            }
            all.insert(
                "priority".to_owned(),
                of_form(Form::Number, &number_or_99(&all, "priority")),
            );
        }
        Row::Profile(profile) => {
            // Cobbler gives each profile these two when it is made.
            for (name, otherwise) in [("virt_type", "kvm"), ("virt_disk_driver", "raw")] {
                if all.get(name).and_then(Value::text) == Some(INHERIT) {
                    let virt = resolve_profile(inventory, profile.name.as_str()).map(|found| found.virt);
                    let virt = virt.unwrap_or_default();
                    let found = if name == "virt_type" {
                        virt.kind
                    } else {
                        virt.disk_driver
                    };
                    let value = found.map_or_else(|| otherwise.into(), Value::Text);
                    all.insert(name.to_owned(), value);
                }
            }
        }
        Row::Image(_) => {
            let supported = ["grub", "pxe", "ipxe"];
            all.insert("supported_boot_loaders".to_owned(), supported.into_iter().collect());
            all.remove("virt_pxe_boot");
        }
        Row::Menu(_) | Row::Arm(_) => {}
    }
    for (old, new) in [("kickstart", "autoinstall"), ("ks_meta", "autoinstall_meta")] {
        if let Some(value) = all.get(new).cloned() {
            all.insert(old.to_owned(), value);
        }
    }
    all
}

/// A number as text; Cobbler's priority of a repository is 99 until it is said.
fn number_or_99(all: &BTreeMap<String, Value>, field: &str) -> String {
    match all.get(field).and_then(Value::text) {
        None | Some("") => "99".to_owned(),
        Some(text) => text.to_owned(),
    }
}

/// True for a profile that stands on another.
fn is_subobject(row: &Row) -> bool {
    match row {
        Row::Profile(profile) => matches!(profile.parent, Parent::Profile(_)),
        Row::Distro(_) | Row::System(_) | Row::Repo(_) | Row::Menu(_) | Row::Image(_) | Row::Arm(_) => false,
    }
}

fn children(inventory: &Inventory, row: &Row) -> Vec<Value> {
    match row {
        Row::Profile(of) => inventory
            .profiles()
            .filter(|profile| matches!(&profile.parent, Parent::Profile(parent) if *parent == of.name))
            .map(|profile| profile.name.as_str().into())
            .collect(),
        Row::Menu(of) => inventory
            .menus()
            .filter(|menu| menu.parent.as_ref() == Some(&of.name))
            .map(|menu| menu.name.as_str().into())
            .collect(),
        _ => Vec::new(),
    }
}

/// What anyone may see of an object: koan lists by name, finds its own machine by MAC and address, and cobbler-register its profile.
pub(super) fn public(row: &Row) -> BTreeMap<String, Value> {
    let name = ("name", Value::from(row.name().as_str()));
    let fields: Vec<(&str, Value)> = match row {
        Row::Distro(distro) => vec![
            name,
            ("arch", distro.arch.to_string().into()),
            ("breed", distro.breed.as_str().into()),
            ("os_version", distro.os_version.as_str().into()),
        ],
        Row::Profile(profile) => {
            let (distro, parent) = match &profile.parent {
                Parent::Distro(name) => (name.as_str(), ""),
                Parent::Profile(name) => ("", name.as_str()),
            };
            vec![name, ("distro", distro.into()), ("parent", parent.into())]
        }
        Row::System(system) => {
            let interfaces = system.interfaces.iter().map(|(name, interface)| {
                let text = |value: Option<String>| Value::Text(value.unwrap_or_default());
                let fields = [
                    ("mac_address", text(interface.mac_address.map(|mac| mac.to_string()))),
                    ("ip_address", text(interface.ip_address.map(|ip| ip.to_string()))),
                ];
                (name.to_string(), members(fields))
            });
            vec![
                name,
                ("profile", system.profile_name().into()),
                ("image", system.image_name().into()),
                ("interfaces", members(interfaces)),
            ]
        }
        // Where packages are is for who logs in: a mirror's URL may hold a password.
        Row::Repo(_) | Row::Menu(_) => vec![name],
        Row::Image(image) => vec![
            name,
            ("arch", image.arch.to_string().into()),
            ("breed", image.breed.as_str().into()),
            ("os_version", image.os_version.as_str().into()),
            ("image_type", image.image_type.to_string().into()),
        ],
        Row::Arm(_) => Vec::new(),
    };
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// True when an object fits what is looked for, as Cobbler judges it: texts with `*`, `?` and without regard to case, all words of a
/// list, all keys of a struct; a field of an interface fits when one interface's does.
pub(super) fn fits(item: &BTreeMap<String, Value>, criteria: &BTreeMap<String, Value>) -> bool {
    criteria.iter().all(|(field, wanted)| {
        let on_interface = INTERFACE.contains(&field.as_str()).then(|| {
            let interfaces = item.get("interfaces").and_then(Value::members);
            interfaces
                .into_iter()
                .flat_map(BTreeMap::values)
                .filter_map(|interface| interface.members()?.get(field))
                .any(|found| compares(found, wanted))
        });
        on_interface.unwrap_or(false) || item.get(field).is_some_and(|found| compares(found, wanted))
    })
}

fn compares(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (_, Value::Nil) => true,
        (Value::Text(found), wanted) => {
            let wanted = match wanted {
                Value::Text(text) => text.clone(),
                Value::Int(number) => number.to_string(),
                _ => return false,
            };
            glob(&wanted.to_lowercase(), &found.to_lowercase())
        }
        (Value::Bool(found), Value::Text(wanted)) => {
            matches!(wanted.to_lowercase().as_str(), "true" | "1" | "y" | "yes") == *found
        }
        (Value::Bool(found), wanted) => wanted.is_true() == *found,
        (Value::Int(_), wanted) => wanted.number() == found.number(),
        (Value::Array(items), Value::Text(wanted)) => wanted
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .all(|word| items.iter().any(|item| item.text() == Some(word))),
        (Value::Array(items), Value::Array(wanted)) => wanted.iter().all(|one| items.contains(one)),
        (Value::Struct(has), Value::Text(wanted)) => wanted.parse::<Dict>().is_ok_and(|wanted| match dict(&wanted) {
            Value::Struct(wanted) => wanted.iter().all(|(key, value)| has.get(key) == Some(value)),
            _ => false,
        }),
        (Value::Struct(has), Value::Struct(wanted)) => wanted.iter().all(|(key, value)| has.get(key) == Some(value)),
        (found, wanted) => found == wanted,
    }
}

/// `*` and `?`, in time that grows with the product of the lengths at most.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut in_text) = (0_usize, 0_usize);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(in_text) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_text));
                at = at.saturating_add(1);
            }
            Some(p) if *p == '?' || p == c => {
                at = at.saturating_add(1);
                in_text = in_text.saturating_add(1);
            }
            _ => match star {
                Some((back, taken)) => {
                    let taken = taken.saturating_add(1);
                    star = Some((back, taken));
                    (at, in_text) = (back.saturating_add(1), taken);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_pythons() {
        for (pattern, text, fits) in [
            ("*.example.org", "a.example.org", true),
            ("a?c", "abc", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
