//! Methods that change something: drafts are gathered by `new_*`, `get_*_handle` and `modify_*`, and `save_*` makes of each the same
//! [`Change`] that the command line would.
//!
//! Pure. A value that a field cannot take is refused where it is given; whether the whole holds is judged when it is saved.

use super::fault::Fault;
use super::item::What;
use super::methods::{Asked, Outcome};
use super::read;
use super::session::{Draft, Sessions};
use super::value::Value;
use crate::install;
use crate::inventory::{
    Assignment, Change, FieldDoc, Inventory, Shape, edit_all, extra_docs, field, field_docs, try_fields,
};
use crate::model::{Arm, ArmId, Dict, DictValue, Inherit, Kind, Name, Secret, base32, quoted};
use crate::render;
use std::collections::BTreeMap;
use std::sync::Arc;

const INHERIT: &str = Inherit::<()>::MARK;
/// How a handle of an object begins that is not saved yet.
const NEW: &str = "___NEW___";
/// Longest user name and password that are looked at, in bytes.
const CREDENTIAL: usize = 512;

/// `login(user, password)`. Both are texts that are not empty: Cobbler once compared a number with the shared secret that it could not
/// read (CVE-2024-47533).
pub(super) fn login(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let failed = || Fault::cx("login failed");
    let (Some(Value::Text(user)), Some(Value::Text(password))) = (asked.argument(0), asked.argument(1)) else {
        return Err(failed());
    };
    if user.is_empty() || password.is_empty() || user.len() > CREDENTIAL || password.len() > CREDENTIAL {
        return Err(failed());
    }
    if !sessions.may_try(asked.caller.peer, false, asked.world.now) {
        return Err(Fault::cx("too many logins; try again in a minute"));
    }
    Ok(Outcome::Verify {
        user: user.clone(),
        password: Secret::new(password.clone()),
    })
}

pub(super) fn logout(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let closed = asked.login().is_ok_and(|(_, token)| sessions.close(token));
    Ok(Outcome::Done(Value::Bool(closed)))
}

/// The kind that is meant, and the place of the argument after it.
fn kind(asked: &Asked<'_>) -> Result<(Kind, usize), Fault> {
    match asked.what()? {
        (What::Kind(kind), at) => Ok((kind, at)),
        (What::Other, _) => Err(Fault::cx(
            "objects of this kind are not kept here; there are distros, profiles, systems, repos, menus and images",
        )),
    }
}

/// The handle of an object that there is.
fn handle_of(kind: Kind, name: &str) -> String {
    format!("{kind}::{name}")
}

pub(super) fn handle(asked: &Asked<'_>) -> Result<Value, Fault> {
    let (what, at) = asked.what()?;
    let name = asked.text(at)?;
    match what {
        What::Kind(kind) if read::row(asked, kind, name).is_some() => Ok(handle_of(kind, name).into()),
        What::Kind(kind) => Err(Fault::cx(&format!("internal error, unknown {kind} name {}", cut(name)))),
        What::Other => Err(Fault::cx(&format!("internal error, unknown object name {}", cut(name)))),
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

pub(super) fn new(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let (kind, _) = kind(asked)?;
    let (_, token) = asked.login()?;
    let handle = format!("{NEW}{kind}::{}", base32(asked.random.get(..20).unwrap_or(&[])));
    remember(sessions, token, &handle, Draft::new(kind, None, asked.world.now), asked)?;
    Ok(Outcome::Done(handle.into()))
}

fn remember(sessions: &mut Sessions, token: &str, handle: &str, draft: Draft, asked: &Asked<'_>) -> Result<(), Fault> {
    if sessions.keep(token, handle, draft, asked.world.now) {
        Ok(())
    } else {
        Err(Fault::cx("too much is changed and not saved; save it first"))
    }
}

/// The name of an object that a handle, or itself, names.
pub(super) fn named(asked: &Asked<'_>, kind: Kind, text: &str) -> Result<Name, Fault> {
    let name = text.strip_prefix(&handle_of(kind, "")).unwrap_or(text);
    read::row(asked, kind, name)
        .map(|row| row.name().clone())
        .ok_or_else(|| Fault::cx(&format!("there is no {kind} {}", cut(name))))
}

/// The draft behind a handle; an object that there is has one from its first change on.
pub(super) fn draft(asked: &Asked<'_>, sessions: &Sessions, kind: Kind, handle: &str) -> Result<Draft, Fault> {
    let (_, token) = asked.login()?;
    if let Some(draft) = sessions.draft(token, handle) {
        if draft.kind != kind {
            return Err(Fault::cx(&format!("the handle is one of a {}", draft.kind)));
        }
        // The handle of one that was new and is saved means the object.
        let own = draft.of.as_ref().map(|name| handle_of(kind, name.as_str()));
        let own = own.and_then(|own| sessions.draft(token, &own));
        return Ok(own.unwrap_or(draft).clone());
    }
    if handle.starts_with(NEW) {
        return Err(Fault::cx("unknown handle; it was saved, or not touched for an hour"));
    }
    let name = named(asked, kind, handle)?;
    Ok(Draft::new(kind, Some(name), asked.world.now))
}

/// `modify_system(handle, attribute, value, token)`; false for an attribute that there is not.
pub(super) fn modify(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let (kind, at) = kind(asked)?;
    let (_, token) = asked.login()?;
    let handle = asked.text(at)?;
    let attribute = asked.text(at.saturating_add(1))?;
    let value = asked.argument(at.saturating_add(2));
    let value = value.ok_or_else(|| Fault::argument("the value is missing"))?;
    let mut draft = draft(asked, sessions, kind, handle)?;
    let known = assign(asked, &mut draft, attribute, value)?;
    if known {
        let handle = draft
            .of
            .as_ref()
            .map_or_else(|| handle.to_owned(), |name| handle_of(kind, name.as_str()));
        remember(sessions, token, &handle, draft, asked)?;
    }
    Ok(Outcome::Done(Value::Bool(known)))
}

/// Attributes of Cobbler's that it computes; giving them back changes nothing.
const COMPUTED: [&str; 8] = [
    "depth",
    "ctime",
    "mtime",
    "uid",
    "children",
    "is_subobject",
    "inmemory",
    "supported_boot_loaders",
];

/// Notes one attribute; false when there is none of that name.
fn assign(asked: &Asked<'_>, draft: &mut Draft, attribute: &str, value: &Value) -> Result<bool, Fault> {
    let kind = draft.kind;
    if COMPUTED.contains(&attribute) {
        return Ok(true);
    }
    match (attribute, kind) {
        ("name", _) => return name(draft, value).map(|()| true),
        ("netboot_enabled" | "netboot", Kind::System) => {
            draft.netboot = Some(is_yes(value));
            return Ok(true);
        }
        ("modify_interface", Kind::System) => return interfaces(asked, draft, value).map(|()| true),
        ("delete_interface", Kind::System) => {
            // Cobbler takes the name, or a struct that holds it.
            let of_struct = value.members().and_then(|members| members.get("interface"));
            let name = of_struct.unwrap_or(value).text();
            let name = name.ok_or_else(|| Fault::argument("the interface must be a string"))?;
            draft.fields.push(("delete_interface".to_owned(), name.to_owned()));
            return Ok(true);
        }
        ("rename_interface", Kind::System) => {
            let get = |field: &str| value.members().and_then(|members| members.get(field)?.text());
            let (Some(old), Some(new)) = (get("interface"), get("rename_interface")) else {
                return Err(Fault::argument("rename_interface needs interface and rename_interface"));
            };
            draft.fields.push(("interface".to_owned(), old.to_owned()));
            draft.fields.push(("rename_interface".to_owned(), new.to_owned()));
            return Ok(true);
        }
        // A system and a distro have no other parent.
        ("parent", Kind::System | Kind::Distro | Kind::Repo | Kind::Image) => return Ok(!value.is_true()),
        _ => {}
    }
    let Some(doc) = doc(kind, attribute, false) else {
        return Ok(false);
    };
    let text = text_of(asked, doc, value)?;
    let either: &[&str] = match kind {
        Kind::Profile => &["parent", "distro"],
        Kind::System => &["profile", "image"],
        _ => &[],
    };
    if either.contains(&doc.name) {
        // Terraform's provider gives both, one of them empty.
        if text.is_empty() {
            return Ok(true);
        }
        draft.fields.retain(|(known, _)| !either.contains(&known.as_str()));
    }
    try_fields(kind, &[(doc.name.to_owned(), text.clone())])?;
    draft.set(doc.name, text);
    Ok(true)
}

fn name(draft: &mut Draft, value: &Value) -> Result<(), Fault> {
    let text = value
        .text()
        .ok_or_else(|| Fault::argument("the name must be a string"))?;
    match &draft.of {
        Some(name) if name.as_str() == text => Ok(()),
        Some(name) => Err(Fault::cx(&format!("{name} keeps its name; use rename_{}", draft.kind))),
        None => {
            text.parse::<Name>().map_err(|error| Fault::cx(&error.to_string()))?;
            draft.name = Some(text.to_owned());
            Ok(())
        }
    }
}

fn is_yes(value: &Value) -> bool {
    match value {
        Value::Text(text) => matches!(text.to_lowercase().as_str(), "1" | "true" | "yes" | "y" | "on"),
        value => value.is_true(),
    }
}

/// A name as Cobbler compares those of interface fields: `mac_address`, `macaddress` and `MAC-address` are one.
fn bare(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_lowercase()
}

/// The field that an attribute means; selectors are none.
fn doc(kind: Kind, attribute: &str, of_interface: bool) -> Option<&'static FieldDoc> {
    let fits = |doc: &&FieldDoc| doc.of_interface == of_interface && doc.shape != Shape::Selector;
    if of_interface {
        let wanted = bare(attribute);
        let is = |doc: &&FieldDoc| bare(doc.name) == wanted || doc.aliases.iter().any(|alias| bare(alias) == wanted);
        let own = field_docs(kind).iter().find(|doc| fits(doc) && is(doc));
        return own.or_else(|| {
            extra_docs(kind)
                .map(|extra| &extra.doc)
                .find(|doc| fits(doc) && is(doc))
        });
    }
    field(kind, attribute).ok().filter(fits)
}

/// `{"macaddress-eth0": ..., "ip_address-eth0": ...}`. What is no field is passed over, as Cobbler does.
fn interfaces(asked: &Asked<'_>, draft: &mut Draft, value: &Value) -> Result<(), Fault> {
    let all = value
        .members()
        .ok_or_else(|| Fault::argument("the interfaces must be a struct"))?;
    let mut by_name: BTreeMap<&str, Vec<Assignment>> = BTreeMap::new();
    for (key, value) in all {
        let Some((attribute, interface)) = key.split_once('-') else {
            return Err(Fault::argument("an interface's field is written field-interface"));
        };
        let fields = by_name.entry(interface).or_default();
        if let Some(doc) = doc(Kind::System, attribute, true) {
            fields.push((doc.name.to_owned(), text_of(asked, doc, value)?));
        }
    }
    for (interface, fields) in by_name {
        on_interface(draft, interface, fields)?;
    }
    Ok(())
}

fn on_interface(draft: &mut Draft, interface: &str, fields: Vec<Assignment>) -> Result<(), Fault> {
    let mut all = vec![("interface".to_owned(), interface.to_owned())];
    all.extend(fields);
    try_fields(Kind::System, &all)?;
    draft.fields.extend(all);
    Ok(())
}

/// A value as the text that sets a field to it.
fn text_of(asked: &Asked<'_>, doc: &FieldDoc, value: &Value) -> Result<String, Fault> {
    let scalar = |value: &Value| -> Option<String> {
        Some(match value {
            Value::Text(text) if text == "~" => String::new(),
            Value::Text(text) | Value::Time(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Double(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Nil => String::new(),
            Value::Bytes(_) | Value::Array(_) | Value::Struct(_) => return None,
        })
    };
    let wrong = || Fault::argument(&format!("{} cannot take a value of this type", doc.name));
    let separates = |c: char| c.is_whitespace() || c == ',';
    let text = match value {
        Value::Array(items) => {
            let words = items.iter().map(|item| Some(quoted(&scalar(item)?, separates)));
            words.collect::<Option<Vec<_>>>().ok_or_else(wrong)?.join(" ")
        }
        Value::Struct(members) if doc.shape == Shape::Dict => {
            let mut dict = Dict::new();
            for (key, value) in members {
                let value = match value {
                    Value::Array(items) => {
                        let values: Option<Vec<String>> = items.iter().map(scalar).collect();
                        DictValue::Values(values.ok_or_else(wrong)?)
                    }
                    value => match scalar(value).ok_or_else(wrong)? {
                        text if text.is_empty() => DictValue::Flag,
                        text => DictValue::Values(vec![text]),
                    },
                };
                match key.strip_prefix('!') {
                    Some(key) => dict.set(key, DictValue::Deleted),
                    None => dict.set(key, value),
                }
            }
            dict.to_string()
        }
        value => scalar(value).ok_or_else(wrong)?,
    };
    Ok(match (doc.name, doc.shape) {
        // Cobbler joins the lists of all layers: an empty one adds nothing.
        ("name_servers" | "name_servers_search", _) if text.is_empty() => INHERIT.to_owned(),
        ("mac_address", _) if text == "random" => read::random(asked.random).to_string(),
        // Cobbler's way to say that nothing is wished.
        ("virt_ram" | "virt_cpus" | "virt_file_size", _) if matches!(text.as_str(), "" | "0" | "0.0") => {
            INHERIT.to_owned()
        }
        ("virt_file_size", _) => whole(&text),
        // Nothing of an interface is inherited but its bridge, and that is where none is named.
        _ if doc.of_interface && text == INHERIT => String::new(),
        (_, Shape::Flag) if text.is_empty() => "false".to_owned(),
        _ => text,
    })
}

/// Sizes without what stands behind their points: Cobbler's are numbers with one.
fn whole(sizes: &str) -> String {
    let part = |size: &str| size.trim().split('.').next().unwrap_or_default().to_owned();
    sizes.split(',').map(part).collect::<Vec<_>>().join(",")
}

/// The changes that save a draft: the object's own, and its arming, as `--netboot-enabled` does.
fn changes(asked: &Asked<'_>, draft: Draft) -> Result<Vec<Change>, Fault> {
    let kind = draft.kind;
    let mut all = Vec::new();
    let name = match (draft.of, draft.name) {
        (Some(name), _) => {
            if !draft.fields.is_empty() {
                all.push(Change::Edit {
                    kind,
                    name: name.clone(),
                    fields: draft.fields,
                    in_place: false,
                });
            }
            name
        }
        (None, Some(name)) => {
            let name: Name = name.parse().map_err(|_| Fault::cx("the name is no name"))?;
            all.push(Change::Add {
                kind,
                name: name.clone(),
                fields: draft.fields,
            });
            name
        }
        (None, None) => return Err(Fault::cx("name is required")),
    };
    match draft.netboot {
        Some(true) => arm(asked, &mut all, &name)?,
        Some(false) if asked.world.inventory.arm(name.as_str()).is_some() => all.push(Change::Disarm { system: name }),
        _ => {}
    }
    Ok(all)
}

/// Arms the system after these changes: the same rules and the same refusals as `system arm`. One that is armed stays so.
fn arm(asked: &Asked<'_>, changes: &mut Vec<Change>, name: &Name) -> Result<(), Fault> {
    let world = asked.world;
    let (user, _) = asked.login()?;
    let mut after: Inventory = (*world.inventory).clone();
    for row in edit_all(&world.inventory, changes.clone())? {
        after.apply(row);
    }
    let seen = world.installs.by_system.get(name).map(|seen| &**seen);
    let state = install::state(after.arm(name.as_str()).map(|arm| &**arm), seen, world.now);
    if state.is_open() {
        return Ok(());
    }
    let mut bits = [0_u8; 8];
    for (to, from) in bits.iter_mut().zip(asked.random.iter().rev()) {
        *to = *from;
    }
    let change = Change::Arm {
        arm: Arm {
            id: ArmId::random(u64::from_be_bytes(bits)),
            system: name.clone(),
            at: world.now,
            until: world.now.plus(world.config.arm_for.0),
            by: format!("{user} (XML-RPC)"),
        },
        again: false,
        state,
    };
    edit_all(&after, [change.clone()])?;
    let later = crate::boot::World {
        inventory: Arc::new(after),
        ..world.clone()
    };
    let local = world.config.address.unwrap_or(asked.caller.local);
    render::installable(&later, name, local)
        .map_err(|why| Fault::cx(&format!("system {name} was not armed: {why}")))?;
    changes.push(change);
    Ok(())
}

pub(super) fn save(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let (kind, at) = kind(asked)?;
    let handle = asked.text(at)?;
    let draft = draft(asked, sessions, kind, handle)?;
    let handle = draft
        .of
        .as_ref()
        .map_or_else(|| handle.to_owned(), |name| handle_of(kind, name.as_str()));
    if draft.of.is_some() && draft.is_empty() {
        return Ok(Outcome::Done(Value::Bool(true)));
    }
    Ok(Outcome::Store {
        changes: changes(asked, draft)?,
        then: Value::Bool(true),
        saved: vec![handle],
        task: None,
    })
}

/// Stores these changes at once.
const fn store(changes: Vec<Change>, saved: Vec<String>) -> Outcome {
    Outcome::Store {
        changes,
        then: Value::Bool(true),
        saved,
        task: None,
    }
}

fn new_name(asked: &Asked<'_>, place: usize) -> Result<Name, Fault> {
    let text = asked.text(place)?;
    text.parse()
        .map_err(|error: crate::model::BadName| Fault::cx(&error.to_string()))
}

pub(super) fn copy(asked: &Asked<'_>, _: &mut Sessions) -> Result<Outcome, Fault> {
    let (kind, at) = kind(asked)?;
    let change = Change::Copy {
        kind,
        name: named(asked, kind, asked.text(at)?)?,
        new_name: new_name(asked, at.saturating_add(1))?,
        fields: Vec::new(),
    };
    Ok(store(vec![change], Vec::new()))
}

pub(super) fn rename(asked: &Asked<'_>, _: &mut Sessions) -> Result<Outcome, Fault> {
    let (kind, at) = kind(asked)?;
    let name = named(asked, kind, asked.text(at)?)?;
    let change = Change::Rename {
        kind,
        new_name: new_name(asked, at.saturating_add(1))?,
        name: name.clone(),
    };
    Ok(store(vec![change], vec![handle_of(kind, name.as_str())]))
}

/// `remove_system(name, token, recursive)`; Cobbler's methods take children along unless told otherwise.
pub(super) fn remove(asked: &Asked<'_>, _: &mut Sessions) -> Result<Outcome, Fault> {
    let (kind, at) = kind(asked)?;
    let name = named(asked, kind, asked.text(at)?)?;
    let recursive = asked.argument(at.saturating_add(2)).is_none_or(Value::is_true);
    let saved = vec![handle_of(kind, name.as_str())];
    Ok(store(vec![Change::Remove { kind, name, recursive }], saved))
}

/// `sync(token)`. There is nothing to write; but what this login changed on objects and did not save counts from now on, as it does in
/// Cobbler, where a change is in force once it is made (Terraform's provider relies on it).
pub(super) fn sync(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let (_, token) = asked.login()?;
    let mut all = Vec::new();
    let mut saved = Vec::new();
    for (handle, draft) in sessions.unsaved(token) {
        all.extend(changes(asked, draft)?);
        saved.push(handle);
    }
    if all.is_empty() {
        return Ok(Outcome::Done(Value::Bool(true)));
    }
    Ok(store(all, saved))
}

/// `xapi_object_edit(type, name, add|edit|copy|rename|remove, attributes, token)`: how Cobbler's own command line speaks.
pub(super) fn xapi(asked: &Asked<'_>, _: &mut Sessions) -> Result<Outcome, Fault> {
    let (kind, at) = kind(asked)?;
    let name = asked.text(at)?;
    let edit = asked.text(at.saturating_add(1))?;
    let none = BTreeMap::new();
    let attributes = asked
        .argument(at.saturating_add(2))
        .and_then(Value::members)
        .unwrap_or(&none);
    let newname = || -> Result<Name, Fault> {
        let text = attributes.get("newname").and_then(Value::text);
        let text = text.ok_or_else(|| Fault::cx("newname is required"))?;
        text.parse()
            .map_err(|error: crate::model::BadName| Fault::cx(&error.to_string()))
    };
    match edit {
        "remove" => {
            let recursive = attributes.get("recursive").is_some_and(Value::is_true);
            let name = named(asked, kind, name)?;
            return Ok(store(vec![Change::Remove { kind, name, recursive }], Vec::new()));
        }
        "rename" => {
            let (name, new_name) = (named(asked, kind, name)?, newname()?);
            return Ok(store(vec![Change::Rename { kind, name, new_name }], Vec::new()));
        }
        "add" | "edit" | "copy" => {}
        _ => return Err(Fault::cx("the edit is add, edit, copy, rename or remove")),
    }
    let now = asked.world.now;
    let mut draft = Draft::new(kind, None, now);
    if edit == "add" {
        draft.name = Some(name.to_owned());
    } else {
        draft.of = Some(named(asked, kind, name)?);
    }
    let interface = attributes.get("interface").and_then(Value::text);
    if attributes.contains_key("delete_interface") {
        let interface = interface.ok_or_else(|| Fault::cx("Interface is required for deletion."))?;
        draft.fields.push(("delete_interface".to_owned(), interface.to_owned()));
    } else if let Some(new) = attributes.get("rename_interface").and_then(Value::text) {
        let old = interface.unwrap_or("default").to_owned();
        draft.fields.push(("interface".to_owned(), old));
        draft.fields.push(("rename_interface".to_owned(), new.to_owned()));
    }
    let mut of_interface = Vec::new();
    for (key, value) in attributes {
        match key.as_str() {
            "name" | "newname" | "interface" | "delete_interface" | "rename_interface" | "in_place" | "in-place"
            | "recursive" => {}
            key => match doc(kind, key, true) {
                Some(doc) => of_interface.push((doc.name.to_owned(), text_of(asked, doc, value)?)),
                None => {
                    assign(asked, &mut draft, key, value)?;
                }
            },
        }
    }
    if !of_interface.is_empty() {
        let only = draft
            .of
            .as_ref()
            .and_then(|name| asked.world.inventory.system(name.as_str()))
            .and_then(|system| {
                let mut names = system.interfaces.keys();
                names.next().filter(|_| names.next().is_none()).map(ToString::to_string)
            });
        let interface = interface.map(str::to_owned).or(only);
        on_interface(&mut draft, interface.as_deref().unwrap_or("default"), of_interface)?;
    }
    if edit == "copy" {
        let (Some(name), new_name) = (draft.of.clone(), newname()?) else {
            return Err(Fault::cx("there is nothing to copy"));
        };
        let fields = draft.fields;
        return Ok(store(
            vec![Change::Copy {
                kind,
                name,
                new_name,
                fields,
            }],
            Vec::new(),
        ));
    }
    let in_place = ["in_place", "in-place"]
        .iter()
        .any(|key| attributes.get(*key).is_some_and(is_yes));
    let mut all = changes(asked, draft)?;
    for change in &mut all {
        if let Change::Edit { in_place: place, .. } = change {
            *place = in_place;
        }
    }
    Ok(store(all, Vec::new()))
}
