//! `distro`, `profile`, `system`, `repo`, `menu` and `image`: add, edit, copy, rename, remove, list, report, find, dumpvars. Each builds a [`Change`] or reads;
//! what a change means is the inventory's business.

use super::args::{Find, MaybeNamed, Named, Object, Rename};
use super::assign::{Fields, OfKind};
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::{arm, preview, wild};
use crate::install;
use crate::inventory::{Change, Inventory, Refused, Row, Shown, field_values, flatten, nearest};
use crate::model::{Inherit, Kind, Mac, Name};
use serde_json::{Map, Value, json};

/// The name that was typed.
pub(super) fn named(text: &str) -> Result<Name, Failure> {
    text.parse().map_err(|error| Failure::said(error, ""))
}

/// The refusal that names the nearest object.
pub(super) fn unknown(inventory: &Inventory, kind: Kind, name: &str) -> Failure {
    Failure::Refused(Refused::Unknown {
        kind,
        name: name.to_owned(),
        near: nearest(inventory, kind, name),
    })
}

pub(super) fn run<K: OfKind>(command: Object<K>, desk: &Desk) -> Result<Ended, Failure> {
    let kind = K::KIND;
    match command {
        Object::Add(options) => {
            let name = named(options.name.get())?;
            let change = Change::Add {
                kind,
                name: name.clone(),
                fields: options.fields.given.clone(),
            };
            store(desk, vec![change], &name, &options.fields)
        }
        Object::Edit(options) => {
            let name = named(options.name.get())?;
            if options.fields.given.is_empty() && options.fields.netboot.is_none() {
                let what = format!("nothing to change on {kind} `{name}`");
                return Err(Failure::usage(
                    what,
                    format!("give a field; cordwainer {kind} edit --help lists them"),
                ));
            }
            let mut changes = Vec::new();
            if !options.fields.given.is_empty() {
                changes.push(Change::Edit {
                    kind,
                    name: name.clone(),
                    fields: options.fields.given.clone(),
                    in_place: options.in_place,
                });
            }
            store(desk, changes, &name, &options.fields)
        }
        Object::Copy(options) => {
            let (name, new_name) = both(&options.names)?;
            let change = Change::Copy {
                kind,
                name,
                new_name: new_name.clone(),
                fields: options.fields.given.clone(),
            };
            store(desk, vec![change], &new_name, &options.fields)
        }
        Object::Rename(names) => {
            let (name, new_name) = both(&names)?;
            desk.rename(kind, name, new_name)
        }
        Object::Remove(options) => {
            let name = named(options.name.get())?;
            desk.change(vec![Change::Remove {
                kind,
                name,
                recursive: options.recursive,
            }])
        }
        Object::List => list(kind, desk),
        Object::Report(which) => report(kind, &which, desk),
        Object::Find(options) => find(&options, desk),
        Object::Dumpvars(which) => dumpvars(kind, &which, desk),
    }
}

fn both(names: &Rename) -> Result<(Name, Name), Failure> {
    let (old, new) = names.get().ok_or_else(|| {
        Failure::usage(
            "one name too many or too few",
            "give NAME NEWNAME, or --name NAME --newname NEWNAME",
        )
    })?;
    Ok((named(old)?, named(new)?))
}

/// Stores the changes; `--netboot-enabled` arms or disarms in the same transaction, so that nothing is half done.
fn store<K: OfKind>(desk: &Desk, mut changes: Vec<Change>, name: &Name, fields: &Fields<K>) -> Result<Ended, Failure> {
    warn_of_template(desk, fields)?;
    match fields.netboot {
        Some(true) => arm::with_changes(desk, changes, name, &arm::Wish::default()),
        Some(false) => {
            let inventory = desk.inventory_about(Kind::System, name.as_str())?;
            if inventory.arm(name.as_str()).is_some() {
                changes.push(Change::Disarm { system: name.clone() });
            } else if changes.is_empty() && inventory.system(name.as_str()).is_none() {
                return Err(unknown(&inventory, Kind::System, name.as_str()));
            }
            desk.change(changes)
        }
        None => desk.change(changes),
    }
}

/// A template may be written after the object that names it; until then nothing of it can be installed, which is worth a word.
fn warn_of_template<K: OfKind>(desk: &Desk, fields: &Fields<K>) -> Result<(), Failure> {
    let named = fields
        .given
        .iter()
        .find(|(field, _)| field == "autoinstall")
        .map(|(_, value)| value);
    named.map_or(Ok(()), |template| warn_if_missing(desk, template))
}

/// Says so where no template has this name.
pub(super) fn warn_if_missing(desk: &Desk, template: &str) -> Result<(), Failure> {
    if template.is_empty() || template == Inherit::<String>::MARK {
        return Ok(());
    }
    let world = desk.world(Inventory::default())?;
    if !world.assets.templates.contains_key(template) {
        let remedy = preview::missing_template(template, &world);
        desk.printer.note(format!(
            "warning   there is no template {} yet: {remedy}",
            template.escape_debug()
        ));
    }
    Ok(())
}

fn list(kind: Kind, desk: &Desk) -> Result<Ended, Failure> {
    let inventory = desk.inventory()?;
    let names: Vec<&str> = inventory.names(kind).map(Name::as_str).collect();
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    desk.printer.either(&names, &text)?;
    if names.is_empty() && !desk.printer.json {
        let first = match kind {
            Kind::Distro | Kind::Profile => "make one: cordwainer import --path TREE --name NAME",
            Kind::System => "make one: cordwainer system add --name NAME --profile PROFILE --mac-address MAC",
            Kind::Repo => "make one: cordwainer repo add --name NAME --mirror URL",
            Kind::Menu => "make one: cordwainer menu add --name NAME --display-name TEXT",
            Kind::Image => "make one: cordwainer image add --name NAME --image-type iso --file FILE",
        };
        desk.printer.note(format!("no {kind} yet; {first}"));
    }
    Ok(Ended::Well)
}

/// The rows that a report is about: the one named, or all.
pub(super) fn rows(kind: Kind, which: Option<&str>, inventory: &Inventory) -> Result<Vec<Row>, Failure> {
    match which {
        Some(name) => {
            let row = inventory
                .row(kind, name)
                .ok_or_else(|| unknown(inventory, kind, name))?;
            Ok(vec![row])
        }
        None => Ok(inventory
            .names(kind)
            .filter_map(|name| inventory.row(kind, name.as_str()))
            .collect()),
    }
}

fn report(kind: Kind, which: &MaybeNamed, desk: &Desk) -> Result<Ended, Failure> {
    let inventory = match which.get() {
        Some(name) => desk.inventory_about(kind, name)?,
        None => desk.inventory()?,
    };
    let rows = rows(kind, which.get(), &inventory)?;
    if desk.printer.json {
        let all: Vec<Value> = rows.iter().map(|row| as_json(row, &inventory, desk)).collect();
        desk.printer.json(&all)?;
        return Ok(Ended::Well);
    }
    let blocks: Vec<String> = rows.iter().map(|row| as_text(row, &inventory, desk)).collect();
    desk.printer.data(&blocks.join("\n"))?;
    Ok(Ended::Well)
}

/// What Cobbler's `netboot_enabled` says: true exactly while the machine is armed and open.
fn netboot_enabled(name: &str, inventory: &Inventory, desk: &Desk) -> bool {
    let installs = desk.installs();
    let installation = installs.by_system.get(name);
    install::state(
        inventory.arm(name).map(|arm| &**arm),
        installation.map(|seen| &**seen),
        desk.now,
    )
    .is_open()
}

pub(super) fn as_text(row: &Row, inventory: &Inventory, desk: &Desk) -> String {
    let values = field_values(row);
    let width = values
        .iter()
        .map(|value| value.field.len())
        .chain([15])
        .max()
        .unwrap_or(15);
    let mut text = String::new();
    let mut interface = None;
    if let Row::System(system) = row {
        text.push_str(&format!(
            "{:width$} : {}\n",
            "netboot_enabled",
            netboot_enabled(system.name.as_str(), inventory, desk)
        ));
    }
    let mut lines = String::new();
    for value in &values {
        if value.interface != interface {
            interface.clone_from(&value.interface);
            if let Some(name) = &interface {
                lines.push_str(&format!("{:width$} : {name}\n", "interface"));
            }
        }
        lines.push_str(format!("{:width$} : {}", value.field, value.value).trim_end());
        lines.push('\n');
    }
    // The name stands first; what is computed stands behind it.
    match lines.split_once('\n') {
        Some((first, rest)) => format!("{first}\n{text}{rest}"),
        None => text,
    }
}

fn shown(value: &Shown) -> Value {
    match value {
        Shown::Nothing => Value::Null,
        Shown::Inherit => json!("<<inherit>>"),
        Shown::Text(text) => json!(text),
        Shown::List(items) => json!(items),
        Shown::Flag(flag) => json!(flag),
    }
}

pub(super) fn as_json(row: &Row, inventory: &Inventory, desk: &Desk) -> Value {
    let mut object = Map::new();
    let mut interfaces: Map<String, Value> = Map::new();
    for value in field_values(row) {
        match &value.interface {
            None => {
                object.insert(value.field.to_owned(), shown(&value.value));
            }
            Some(name) => {
                let entry = interfaces.entry(name.to_string()).or_insert_with(|| json!({}));
                if let Some(entry) = entry.as_object_mut() {
                    entry.insert(value.field.to_owned(), shown(&value.value));
                }
            }
        }
    }
    if let Row::System(system) = row {
        object.insert("interfaces".to_owned(), Value::Object(interfaces));
        object.insert(
            "netboot_enabled".to_owned(),
            json!(netboot_enabled(system.name.as_str(), inventory, desk)),
        );
    }
    Value::Object(object)
}

fn find<K: OfKind>(options: &Find<K>, desk: &Desk) -> Result<Ended, Failure> {
    let inventory = desk.inventory()?;
    let matches = |row: &Row| {
        let values = field_values(row);
        let named = options
            .name
            .as_deref()
            .is_none_or(|glob| wild::matches(glob, row.name().as_str()));
        let armed = options
            .fields
            .netboot
            .is_none_or(|wanted| netboot_enabled(row.name().as_str(), &inventory, desk) == wanted);
        let fields = options.fields.given.iter().all(|(field, glob)| {
            // A MAC may be written in any of its spellings.
            let glob = glob.parse::<Mac>().map_or_else(|_| glob.clone(), |mac| mac.to_string());
            values
                .iter()
                .filter(|value| value.field == field)
                .any(|value| match &value.value {
                    Shown::List(items) => items.iter().any(|item| wild::matches(&glob, item)),
                    other => wild::matches(&glob, &other.to_string()),
                })
        });
        named && armed && fields
    };
    let found: Vec<Name> = rows(K::KIND, None, &inventory)?
        .iter()
        .filter(|row| matches(row))
        .map(|row| row.name().clone())
        .collect();
    let text: String = found.iter().map(|name| format!("{name}\n")).collect();
    desk.printer.either(&found, &text)?;
    Ok(if found.is_empty() { Ended::No } else { Ended::Well })
}

fn dumpvars(kind: Kind, which: &Named, desk: &Desk) -> Result<Ended, Failure> {
    let name = which.get();
    let inventory = desk.inventory_about(kind, name)?;
    let variables: Vec<(String, Value)> = if !matches!(kind, Kind::Profile | Kind::System | Kind::Image) {
        let row = inventory
            .row(kind, name)
            .ok_or_else(|| unknown(&inventory, kind, name))?;
        field_values(&row)
            .into_iter()
            .map(|value| (value.field.to_owned(), shown(&value.value)))
            .collect()
    } else {
        let world = desk.world(inventory)?;
        let resolved = preview::resolve(kind, name, &world.inventory)?;
        let flat: Vec<(String, Value)> = flatten(&resolved)
            .into_iter()
            .map(|(name, value)| (name, json!(value)))
            .collect();
        // Without a template nothing is rendered, and the object's own variables are all there is.
        preview::answer(&world, resolved).map_or(flat, |answer| preview::variables(&answer, &world))
    };
    if desk.printer.json {
        let map: Map<String, Value> = variables.into_iter().collect();
        desk.printer.json(&map)?;
        return Ok(Ended::Well);
    }
    let text: String = variables
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            format!("{}\n", format!("{name} : {value}").trim_end())
        })
        .collect();
    desk.printer.data(&text)?;
    Ok(Ended::Well)
}
