//! Objects of Cobbler 3.x as objects of ours, for `migrate cobbler`: what is moved as it is, what is changed on the way, what is left, and
//! why. Pure. Arms nothing: who was enabled is only listed.

use super::{Change, Inventory, edit_all, extra, field, try_fields};
use crate::model::{Dict, DictValue, Inherit, Kind, Name, quoted};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// One object as Cobbler stores it.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// `distro`, `profile`, `system`, `image`, ...
    pub kind: String,
    /// Its fields.
    pub fields: Map<String, Value>,
}

/// What became of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// True when it is here now.
    pub moved: bool,
    /// What was changed on the way, or why it was left.
    pub why: Vec<String>,
}

/// A migration, judged and not yet stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Migration {
    /// The changes that make it.
    pub changes: Vec<Change>,
    /// What becomes of each object, in the order that they are made in.
    pub fates: Vec<Fate>,
    /// Systems that Cobbler would have installed on their next boot.
    pub enabled: Vec<Name>,
    /// Answer-file templates that the objects name.
    pub templates: BTreeSet<String>,
}

const INHERIT: &str = Inherit::<()>::MARK;

/// What Cobbler computes, or says in another field too.
const PASSED_OVER: [&str; 20] = [
    "name",
    "uid",
    "ctime",
    "mtime",
    "depth",
    "children",
    "parent",
    "distro",
    "profile",
    "image",
    "kickstart",
    "ks_meta",
    "interfaces",
    "netboot_enabled",
    "is_subobject",
    "inmemory",
    "supported_boot_loaders",
    "kernel",
    "initrd",
    "source_repos",
];

/// Plans how `all` become objects beside those of `inventory`.
#[must_use]
pub fn migrate(inventory: &Inventory, all: &[Foreign]) -> Migration {
    let mut migration = Migration::default();
    let mut after = inventory.clone();
    let profiles: Profiles<'_> = all
        .iter()
        .filter(|one| one.kind == "profile")
        .map(|one| (text(one, "name"), one))
        .collect();
    for one in in_order(all) {
        let name = text(one, "name");
        let mut fate = Fate {
            kind: one.kind.clone(),
            name: name.clone(),
            moved: false,
            why: Vec::new(),
        };
        match change(one, &name, &profiles, &mut fate.why, &mut migration.templates) {
            Err(why) => fate.why = vec![why],
            Ok(change) => match edit_all(&after, [change.clone()]) {
                Err(refused) => fate.why = vec![refused.to_string()],
                Ok(rows) => {
                    rows.into_iter().for_each(|row| after.apply(row));
                    migration.changes.push(change);
                    fate.moved = true;
                    let enabled = one.kind == "system" && one.fields.get("netboot_enabled") == Some(&Value::Bool(true));
                    migration.enabled.extend(name.parse().ok().filter(|_| enabled));
                }
            },
        }
        migration.fates.push(fate);
    }
    migration
}

/// Cobbler's profiles by name.
type Profiles<'a> = BTreeMap<String, &'a Foreign>;

/// Lists that Cobbler joins with those of the profiles above; here the nearest counts.
const JOINED: [&str; 2] = ["name_servers", "name_servers_search"];

/// A list as Cobbler joins it: of the profile furthest above first, each item once.
fn joined(one: &Foreign, key: &str, profiles: &Profiles<'_>) -> Vec<Value> {
    let items = |one: &Foreign| {
        one.fields
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut layers = vec![items(one)];
    let mut at = if one.kind == "system" {
        text(one, "profile")
    } else {
        text(one, "parent")
    };
    // A circle ends when there are more layers than profiles.
    while let Some(above) = profiles.get(&at).filter(|_| layers.len() <= profiles.len()) {
        layers.push(items(above));
        at = text(above, "parent");
    }
    let mut all: Vec<Value> = Vec::new();
    for item in layers.into_iter().rev().flatten() {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

/// Parents before those that stand on them; what is not kept here last.
fn in_order(all: &[Foreign]) -> Vec<&Foreign> {
    let parents: BTreeMap<(&str, String), String> = all
        .iter()
        .filter(|one| matches!(one.kind.as_str(), "profile" | "menu"))
        .map(|one| ((one.kind.as_str(), text(one, "name")), text(one, "parent")))
        .collect();
    let depth = |one: &Foreign| {
        let (mut depth, mut at) = (0_usize, text(one, "parent"));
        while let Some(above) = parents.get(&(one.kind.as_str(), at)).filter(|_| depth < parents.len()) {
            (depth, at) = (depth.saturating_add(1), above.clone());
        }
        depth
    };
    let mut ordered: Vec<(usize, usize, String, &Foreign)> = all
        .iter()
        .map(|one| {
            let kind = match one.kind.as_str() {
                "menu" => 0,
                "repo" => 1,
                "distro" => 2,
                "profile" => 3,
                "image" => 4,
                "system" => 5,
                _ => 6,
            };
            (kind, depth(one), text(one, "name"), one)
        })
        .collect();
    ordered.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
    ordered.into_iter().map(|(.., one)| one).collect()
}

fn text(one: &Foreign, name: &str) -> String {
    let found = one.fields.get(name).and_then(Value::as_str).unwrap_or_default();
    if found == "~" { String::new() } else { found.to_owned() }
}

/// The change that makes an object, and what of it is changed.
fn change(
    one: &Foreign,
    name: &str,
    profiles: &Profiles<'_>,
    why: &mut Vec<String>,
    templates: &mut BTreeSet<String>,
) -> Result<Change, String> {
    let kind = match one.kind.as_str() {
        "distro" => Kind::Distro,
        "profile" => Kind::Profile,
        "system" => Kind::System,
        "repo" => Kind::Repo,
        "menu" => Kind::Menu,
        "image" => Kind::Image,
        other => return Err(format!("there are no objects of the kind {other} here")),
    };
    let name: Name = name.parse().map_err(|error: crate::model::BadName| error.to_string())?;
    let mut fields: Vec<(String, String)> = Vec::new();
    match kind {
        Kind::Distro => distro(one, &mut fields, why),
        Kind::Profile => match (text(one, "parent"), text(one, "distro")) {
            (parent, distro) if parent.is_empty() || parent == distro => fields.push(("distro".to_owned(), distro)),
            (parent, _) => fields.push(("parent".to_owned(), parent)),
        },
        Kind::System => {
            // Cobbler lets a system have both, and then its profile counts.
            let base = ["profile", "image"].map(|field| (field.to_owned(), text(one, field)));
            let base = base.into_iter().find(|(_, name)| !name.is_empty());
            fields.push(base.ok_or("it stands on no profile and no image; give it one in Cobbler first")?);
        }
        Kind::Repo | Kind::Image => {}
        Kind::Menu => fields.push(("parent".to_owned(), text(one, "parent"))),
    }
    let here: BTreeSet<String> = fields.iter().map(|(field, _)| field.clone()).collect();
    for (key, value) in &one.fields {
        if PASSED_OVER.contains(&key.as_str()) || here.contains(key) {
            continue;
        }
        let own = value
            .as_array()
            .filter(|own| JOINED.contains(&key.as_str()) && !own.is_empty());
        let with_above = own
            .map(|own| (own, joined(one, key, profiles)))
            .filter(|(own, all)| *own != all)
            .map(|(_, all)| Value::Array(all));
        if with_above.is_some() {
            why.push(format!(
                "{key}: what the profiles above say is written out, for here the nearest list counts"
            ));
        }
        let Some(value) = plain(key, with_above.as_ref().unwrap_or(value)) else {
            continue;
        };
        let known = field(kind, key).is_ok();
        if !known {
            if !value.is_empty() && value != INHERIT {
                why.push(format!("{key} is no field here and is left out"));
            }
            continue;
        }
        let value = without_own_tree(kind, key, value, &here, why);
        if key == "autoinstall" && !value.is_empty() && value != INHERIT {
            templates.insert(value.clone());
        }
        match try_fields(kind, &[(key.clone(), value.clone())]) {
            Ok(()) => fields.push((key.clone(), value)),
            Err(refused) => why.push(format!("left out: {refused}")),
        }
    }
    if let (Kind::System, Some(interfaces)) = (kind, one.fields.get("interfaces").and_then(Value::as_object)) {
        for (interface, values) in interfaces {
            interface_fields(interface, values, interfaces, &mut fields, why);
        }
    }
    Ok(Change::Add { kind, name, fields })
}

/// A distro's kernel and initrd below the folder that Cobbler's import made, which is served as it is.
fn distro(one: &Foreign, fields: &mut Vec<(String, String)>, why: &mut Vec<String>) {
    let (kernel, initrd) = (text(one, "kernel"), text(one, "initrd"));
    let root = kernel
        .split_once("/distro_mirror/")
        .and_then(|(before, rest)| Some(format!("{before}/distro_mirror/{}", rest.split('/').next()?)))
        .filter(|root| initrd.starts_with(&format!("{root}/")));
    match root {
        Some(root) => {
            let below = |path: &str| {
                path.trim_start_matches(root.as_str())
                    .trim_start_matches('/')
                    .to_owned()
            };
            fields.push(("kernel".to_owned(), below(&kernel)));
            fields.push(("initrd".to_owned(), quoted(&below(&initrd), separates)));
            why.push(format!("its tree is served from {root}"));
            fields.push(("tree".to_owned(), root));
        }
        None => {
            fields.push(("kernel".to_owned(), kernel));
            fields.push(("initrd".to_owned(), quoted(&initrd, separates)));
        }
    }
    let (breed, version) = (text(one, "breed"), text(one, "os_version"));
    let family = match breed.as_str() {
        "redhat" if version.starts_with("fedora") => "fedora",
        "redhat" => "redhat",
        "debian" => "debian",
        "ubuntu" => "ubuntu",
        "suse" => "suse",
        _ => {
            return why.push(format!(
                "the family `{breed}` has no signature here, so its installer's arguments must be given"
            ));
        }
    };
    fields.push(("signature".to_owned(), family.to_owned()));
}

fn separates(c: char) -> bool {
    c.is_whitespace() || c == ','
}

/// Cobbler's import writes where its own server has the tree; here that is known.
fn without_own_tree(kind: Kind, key: &str, value: String, here: &BTreeSet<String>, why: &mut Vec<String>) -> String {
    if kind != Kind::Distro || key != "autoinstall_meta" || !here.contains("tree") {
        return value;
    }
    let Ok(mut dict) = value.parse::<Dict>() else {
        return value;
    };
    if dict.text("tree").is_some_and(|tree| tree.contains("@@http_server@@")) {
        dict.remove("tree");
        why.push("`tree` of its autoinstall_meta is left out: the server knows its own".to_owned());
    }
    dict.to_string()
}

/// A value as the text that sets a field; none where it says nothing.
fn plain(key: &str, value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::String(text) if text == "~" => return None,
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        // Cobbler's sizes have points.
        Value::Number(number) => {
            let text = number.to_string();
            text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
        }
        Value::Array(items) if items.is_empty() && matches!(key, "name_servers" | "name_servers_search") => {
            INHERIT.to_owned()
        }
        Value::Array(items) => {
            let words = items.iter().filter_map(|item| plain("", item));
            words.map(|word| quoted(&word, separates)).collect::<Vec<_>>().join(" ")
        }
        Value::Object(members) => {
            let mut dict = Dict::new();
            for (key, value) in members {
                let value = match value {
                    Value::Array(items) => DictValue::Values(items.iter().filter_map(|item| plain("", item)).collect()),
                    value => match plain("", value) {
                        Some(text) if !text.is_empty() => DictValue::Values(vec![text]),
                        _ => DictValue::Flag,
                    },
                };
                match key.strip_prefix('!') {
                    Some(key) => dict.set(key, DictValue::Deleted),
                    None => dict.set(key, value),
                }
            }
            dict.to_string()
        }
    })
}

/// Why a field of an interface cannot come along beside its others; none where it can. Cobbler judges none of them.
fn out_of_place(key: &str, values: &Value, interfaces: &Map<String, Value>) -> Option<String> {
    let of = |values: &Value, key: &str| values.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, master) = (of(values, "interface_type"), of(values, "interface_master"));
    let above = interfaces.get(&master).map(|above| of(above, "interface_type"));
    let is_slave = kind.ends_with("_slave");
    let fits = matches!(
        (kind.as_str(), above.as_deref()),
        ("bond_slave", Some("bond" | "bonded_bridge_slave")) | ("bridge_slave" | "bonded_bridge_slave", Some("bridge"))
    );
    match key {
        "interface_type" if is_slave && !fits => {
            Some(format!("it is a {kind} of `{master}`, which is none of its kind"))
        }
        "interface_master" if !(is_slave && fits) => Some("it is no part of another".to_owned()),
        "static" if is_slave && fits => Some(format!("it is part of `{master}`, which has the address of both")),
        "bonding_opts" if !matches!(kind.as_str(), "bond" | "bonded_bridge_slave") => Some("it is no bond".to_owned()),
        "bridge_opts" if kind != "bridge" => Some("it is no bridge".to_owned()),
        _ => None,
    }
}

fn interface_fields(
    interface: &str,
    values: &Value,
    interfaces: &Map<String, Value>,
    fields: &mut Vec<(String, String)>,
    why: &mut Vec<String>,
) {
    let mut all = vec![("interface".to_owned(), interface.to_owned())];
    for (key, value) in values.as_object().into_iter().flatten() {
        let Some(value) = plain(key, value) else {
            continue;
        };
        let default = extra(Kind::System, key).is_some_and(|extra| extra.default == value);
        // A bridge that is inherited is the profile's where no field says another.
        if value.is_empty() || value == INHERIT || value == "false" || default || field(Kind::System, key).is_err() {
            continue;
        }
        if let Some(reason) = out_of_place(key, values, interfaces) {
            why.push(format!("left out on {interface}: {key}: {reason}"));
            continue;
        }
        let one = [
            ("interface".to_owned(), interface.to_owned()),
            (key.clone(), value.clone()),
        ];
        match try_fields(Kind::System, &one) {
            Ok(()) => all.push((key.clone(), value)),
            Err(refused) => why.push(format!("left out on {interface}: {refused}")),
        }
    }
    fields.extend(all);
}
