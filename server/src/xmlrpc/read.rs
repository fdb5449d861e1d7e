//! Methods that only look.
//!
//! Pure. Without a login each gives the projection for anyone; with one everything but secrets, which are never in reach here: what a
//! template sees is shown as `dumpvars` shows it, and a rendered answer file with its secrets taken out.

use super::fault::Fault;
use super::item::{self, What};
use super::methods::{Asked, nothing};
use super::resolved;
use super::value::{Value, members};
use crate::boot::preview;
use crate::config::{Setting, settings as settings_of};
use crate::install;
use crate::inventory::{Resolved, Row, flatten, repo_problems, resolve_image, resolve_profile, resolve_system};
use crate::model::{Kind, Mac};
use crate::render;
use std::collections::BTreeMap;

/// The version of Cobbler whose methods these are: clients choose their words by it.
const VERSION: (i64, i64, i64) = (3, 3, 10);
/// The same as Cobbler's `version` says it: 3, 3 tenths, 10 thousandths.
const VERSION_NUMBER: f64 = 3.31;

pub(super) fn ping(_: &Asked<'_>) -> Result<Value, Fault> {
    Ok(Value::Bool(true))
}

fn version_text() -> String {
    let (major, minor, patch) = VERSION;
    format!("{major}.{minor}.{patch}")
}

pub(super) fn version(_: &Asked<'_>) -> Result<Value, Fault> {
    Ok(Value::Double(VERSION_NUMBER))
}

pub(super) fn extended_version(_: &Asked<'_>) -> Result<Value, Fault> {
    let (major, minor, patch) = VERSION;
    let product = format!("cordwainer {}", env!("CARGO_PKG_VERSION"));
    Ok(members([
        ("version", version_text().into()),
        ("version_tuple", [major, minor, patch].into_iter().collect()),
        ("gitstamp", product.into()),
        ("gitdate", "".into()),
        ("builddate", "".into()),
    ]))
}

/// Seconds since 1970; of what is served nothing is older than now.
pub(super) fn last_modified_time(asked: &Asked<'_>) -> Result<Value, Fault> {
    Ok(Value::Double(seconds(asked.world.now.0)))
}

/// Milliseconds as seconds with a point.
pub(super) fn seconds(milliseconds: i64) -> f64 {
    let whole = i32::try_from(milliseconds.checked_div(1000).unwrap_or(0)).unwrap_or(i32::MAX);
    f64::from(whole)
}

pub(super) fn token_check(asked: &Asked<'_>) -> Result<Value, Fault> {
    Ok(Value::Bool(asked.is_known()))
}

pub(super) fn user_from_token(asked: &Asked<'_>) -> Result<Value, Fault> {
    Ok(asked.login()?.0.into())
}

pub(super) fn check_access(_: &Asked<'_>) -> Result<Value, Fault> {
    Ok(Value::Int(1))
}

pub(super) fn check_access_no_fail(asked: &Asked<'_>) -> Result<Value, Fault> {
    Ok(Value::Int(i64::from(asked.is_known())))
}

/// True while a system's next network boot installs it.
pub(super) fn is_armed(asked: &Asked<'_>, name: &str) -> bool {
    let world = asked.world;
    let installation = world.installs.by_system.get(name);
    let arm = world.inventory.arm(name).map(|arm| &**arm);
    install::state(arm, installation.map(|seen| &**seen), world.now).is_open()
}

/// An object as the caller may see it.
fn shown(asked: &Asked<'_>, row: &Row) -> BTreeMap<String, Value> {
    if asked.is_known() {
        item::whole(&asked.world.inventory, row, is_armed(asked, row.name().as_str()))
    } else {
        item::public(row)
    }
}

pub(super) fn get(asked: &Asked<'_>) -> Result<Value, Fault> {
    let (what, at) = asked.what()?;
    let name = asked.text(at)?;
    let row = match what {
        What::Kind(kind) => asked.world.inventory.row(kind, name),
        What::Other => None,
    };
    let Some(row) = row else {
        // Cobbler's way to say None.
        return Ok("~".into());
    };
    let mut fields = shown(asked, &row);
    let is_yes = |place: usize| {
        let said = asked.argument(at.saturating_add(place));
        said.is_some_and(|said| matches!(said, Value::Bool(true) | Value::Int(1)))
    };
    // `resolved`: nothing says that it is inherited.
    if is_yes(2) && asked.is_known() {
        let world = asked.world;
        let server = world.config.address.unwrap_or(asked.caller.local).to_string();
        resolved::resolve(&world.inventory, &row, &server, &mut fields);
    }
    // `flatten`: what koan once read as texts.
    if is_yes(1) {
        for name in FLAT {
            if let Some(value) = fields.get_mut(name) {
                *value = flat(value);
            }
        }
    }
    Ok(Value::Struct(fields))
}

/// The fields that `flatten` makes texts of.
const FLAT: [&str; 9] = [
    "kernel_options",
    "kernel_options_post",
    "autoinstall_meta",
    "ks_meta",
    "template_files",
    "boot_files",
    "fetchable_files",
    "environment",
    "repos",
];

fn flat(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let texts: Vec<&str> = items.iter().filter_map(Value::text).collect();
            texts.join(" ").into()
        }
        Value::Struct(members) => {
            let words = members.iter().flat_map(|(key, value)| match value {
                Value::Nil => vec![key.clone()],
                Value::Array(items) => items
                    .iter()
                    .filter_map(Value::text)
                    .map(|text| format!("{key}={text}"))
                    .collect(),
                value => vec![format!("{key}={}", value.text().unwrap_or_default())],
            });
            words.collect::<Vec<_>>().join(" ").into()
        }
        value => value.clone(),
    }
}

fn rows<'a>(asked: &Asked<'a>, what: What) -> impl Iterator<Item = Row> + 'a {
    let inventory = &asked.world.inventory;
    let kind = match what {
        What::Kind(kind) => Some(kind),
        What::Other => None,
    };
    kind.into_iter().flat_map(move |kind| {
        inventory
            .names(kind)
            .filter_map(move |name| inventory.row(kind, name.as_str()))
    })
}

pub(super) fn all(asked: &Asked<'_>) -> Result<Value, Fault> {
    let (what, _) = asked.what()?;
    let shown = rows(asked, what).map(|row| Value::Struct(shown(asked, &row)));
    Ok(Value::Array(shown.collect()))
}

/// `get_systems_since(mtime)`: those that were written since then.
pub(super) fn since(asked: &Asked<'_>) -> Result<Value, Fault> {
    let (what, at) = asked.what()?;
    let since = match asked.argument(at) {
        Some(Value::Double(seconds)) => *seconds,
        other => other
            .and_then(Value::number)
            .and_then(|seconds| i32::try_from(seconds).ok())
            .map_or(0.0, f64::from),
    };
    let changed = |row: &Row| {
        let dates = row
            .kind()
            .and_then(|kind| asked.world.inventory.dates(kind, row.name()));
        dates.is_none_or(|dates| seconds(dates.changed.0) >= since.floor())
    };
    let shown = rows(asked, what)
        .filter(changed)
        .map(|row| Value::Struct(shown(asked, &row)));
    Ok(Value::Array(shown.collect()))
}

pub(super) fn names(asked: &Asked<'_>) -> Result<Value, Fault> {
    let (what, _) = asked.what()?;
    Ok(rows(asked, what).map(|row| row.name().to_string()).collect())
}

pub(super) fn has(asked: &Asked<'_>) -> Result<Value, Fault> {
    let (what, at) = asked.what()?;
    let name = asked.text(at)?;
    Ok(Value::Bool(match what {
        What::Kind(kind) => asked.world.inventory.row(kind, name).is_some(),
        What::Other => false,
    }))
}

/// What fits the criteria of the argument at a place.
fn found(asked: &Asked<'_>, what: What, at: usize) -> Result<Vec<BTreeMap<String, Value>>, Fault> {
    let none = BTreeMap::new();
    let criteria = match asked.argument(at) {
        None | Some(Value::Nil) => &none,
        Some(Value::Text(text)) if text.is_empty() => &none,
        Some(value) => value
            .members()
            .ok_or_else(|| Fault::argument("the criteria must be a struct"))?,
    };
    // The one that scripts ask for need not be looked for among all.
    if let (What::Kind(kind), Some(name)) = (what, criteria.get("name").and_then(Value::text))
        && let Some(row) = asked.world.inventory.row(kind, name)
    {
        let fields = shown(asked, &row);
        return Ok(Some(fields)
            .filter(|fields| item::fits(fields, criteria))
            .into_iter()
            .collect());
    }
    let all = rows(asked, what).map(|row| shown(asked, &row));
    Ok(all.filter(|fields| item::fits(fields, criteria)).collect())
}

fn only_names(found: &[BTreeMap<String, Value>]) -> Value {
    Value::Array(found.iter().filter_map(|fields| fields.get("name").cloned()).collect())
}

/// `find_system(criteria, expand, token)`. Ansible's module gives its token where `expand` stands, and wants structs, which a text that
/// is not empty means to Python. `find_items(what, criteria, sort_field, expand)`.
pub(super) fn find(asked: &Asked<'_>) -> Result<Value, Fault> {
    let (what, at) = asked.what()?;
    let found = found(asked, what, at)?;
    let expand = match at {
        0 => asked.argument(1).is_some_and(Value::is_true),
        _ => asked.argument(3).is_none_or(Value::is_true),
    };
    if expand {
        Ok(Value::Array(found.into_iter().map(Value::Struct).collect()))
    } else {
        Ok(only_names(&found))
    }
}

/// `find_items_paged(what, criteria, sort_field, page, items_per_page)`.
pub(super) fn find_paged(asked: &Asked<'_>) -> Result<Value, Fault> {
    let (what, at) = asked.what()?;
    let found = found(asked, what, at)?;
    let positive = |place: usize, otherwise: i64| {
        let number = asked.argument(place).and_then(Value::number);
        number.filter(|number| *number > 0).unwrap_or(otherwise)
    };
    let all = i64::try_from(found.len()).unwrap_or(i64::MAX);
    let per_page = positive(4, 25);
    let pages = all
        .saturating_sub(1)
        .checked_div(per_page)
        .unwrap_or(0)
        .saturating_add(1)
        .max(1);
    let page = positive(3, 1).min(pages);
    let start = page.saturating_sub(1).saturating_mul(per_page);
    let end = start.saturating_add(per_page).min(all);
    let neighbour = |page: i64| {
        if (1..=pages).contains(&page) {
            Value::Int(page)
        } else {
            Value::Nil
        }
    };
    let items = found
        .into_iter()
        .skip(usize::try_from(start).unwrap_or(usize::MAX))
        .take(usize::try_from(per_page).unwrap_or(usize::MAX))
        .map(Value::Struct);
    let info = [
        ("page", Value::Int(page)),
        ("prev_page", neighbour(page.saturating_sub(1))),
        ("next_page", neighbour(page.saturating_add(1))),
        ("pages", (1..=pages.min(10_000)).collect()),
        ("num_pages", Value::Int(pages)),
        ("num_items", Value::Int(all)),
        ("start_item", Value::Int(start)),
        ("end_item", Value::Int(end)),
        ("items_per_page", Value::Int(per_page)),
        (
            "items_per_page_list",
            [10_i64, 20, 50, 100, 200, 500].into_iter().collect(),
        ),
    ];
    Ok(members([
        ("items", Value::Array(items.collect())),
        ("pageinfo", members(info)),
    ]))
}

/// The profile or system that the first two arguments name, as Cobbler's methods take them; where both do, `first` counts.
fn profile_or_system(asked: &Asked<'_>, first: Kind) -> Result<Option<Resolved>, Fault> {
    let name = |place| {
        asked
            .argument(place)
            .and_then(Value::text)
            .filter(|text| !text.is_empty())
    };
    let inventory = &asked.world.inventory;
    let resolved = match (name(0), name(1)) {
        (Some(profile), None) => resolve_profile(inventory, profile),
        (Some(profile), Some(_)) if first == Kind::Profile => resolve_profile(inventory, profile),
        (_, Some(system)) if inventory.system(system).is_some() => resolve_system(inventory, system),
        _ => return Ok(None),
    };
    resolved.map(Some).map_err(|broken| Fault::cx(&broken.to_string()))
}

/// What templates see of it, secrets as `(secret)`.
fn variables(asked: &Asked<'_>, resolved: Resolved) -> Value {
    let local = asked.world.config.address.unwrap_or(asked.caller.local);
    if resolved.image.is_some() {
        let flat = flatten(&resolved).into_iter();
        return members(flat.map(|(name, value)| (name, Value::Text(value))));
    }
    let Some(answer) = preview(asked.world, resolved, local) else {
        return nothing();
    };
    let all = render::variables(&answer, asked.world);
    members(
        all.iter()
            .map(|variable| (variable.name.to_string(), json(&variable.shown()))),
    )
}

fn json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Value::Double(number.as_f64().unwrap_or(0.0)), Value::Int),
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(json).collect()),
        serde_json::Value::Object(fields) => members(fields.iter().map(|(name, value)| (name.clone(), json(value)))),
    }
}

pub(super) fn blended(asked: &Asked<'_>) -> Result<Value, Fault> {
    let resolved = profile_or_system(asked, Kind::Profile)?;
    let resolved = resolved.ok_or_else(|| Fault::cx("internal error, no system or profile"))?;
    Ok(variables(asked, resolved))
}

/// Of the object that its unique id names, or its name.
pub(super) fn dump_vars(asked: &Asked<'_>) -> Result<Value, Fault> {
    let wanted = asked.text(0)?;
    let inventory = &asked.world.inventory;
    let resolved = match (inventory.system(wanted), inventory.profile(wanted)) {
        (Some(_), _) => resolve_system(inventory, wanted),
        (None, Some(_)) => resolve_profile(inventory, wanted),
        (None, None) if inventory.image(wanted).is_some() => resolve_image(inventory, wanted),
        (None, None) => return Err(Fault::cx("there is no such system, profile or image")),
    };
    let resolved = resolved.map_err(|broken| Fault::cx(&broken.to_string()))?;
    Ok(variables(asked, resolved))
}

/// The text of an answer file with every secret taken out.
pub(super) fn without_secrets(asked: &Asked<'_>, resolved: Resolved) -> Result<String, Fault> {
    let local = asked.world.config.address.unwrap_or(asked.caller.local);
    let answer =
        preview(asked.world, resolved, local).ok_or_else(|| Fault::cx("no layer names an answer-file template"))?;
    let mut text = render::answer_file(&answer, asked.world)
        .map_err(|error| Fault::cx(&format!("it does not render: {error}")))?;
    for secret in render::secrets(&answer, asked.world) {
        text = text.replace(&secret, "(secret)");
    }
    Ok(text)
}

pub(super) fn autoinstall(asked: &Asked<'_>) -> Result<Value, Fault> {
    match profile_or_system(asked, Kind::System)? {
        Some(resolved) => without_secrets(asked, resolved).map(Value::Text),
        None => Ok("# system not found".into()),
    }
}

pub(super) fn profile_autoinstall(asked: &Asked<'_>) -> Result<Value, Fault> {
    match resolve_profile(&asked.world.inventory, asked.text(0)?) {
        Ok(resolved) => without_secrets(asked, resolved).map(Value::Text),
        Err(_) => Ok("# profile not found".into()),
    }
}

pub(super) fn system_autoinstall(asked: &Asked<'_>) -> Result<Value, Fault> {
    match resolve_system(&asked.world.inventory, asked.text(0)?) {
        Ok(resolved) => without_secrets(asked, resolved).map(Value::Text),
        Err(_) => Ok("# system not found".into()),
    }
}

/// What clients ask of Cobbler's settings; nothing of the file, and no password.
pub(super) fn settings(asked: &Asked<'_>) -> Result<Value, Fault> {
    let config = &asked.world.config;
    let all = settings_of(config, asked.caller.local);
    Ok(members(all.into_iter().map(|(name, value)| {
        let value = match value {
            Setting::Text(text) => Value::Text(text),
            Setting::Number(number) => Value::Int(number),
            Setting::Flag(flag) => Value::Bool(flag),
        };
        (name, value)
    })))
}

pub(super) fn breeds(asked: &Asked<'_>) -> Result<Value, Fault> {
    let of_distros = asked.world.inventory.distros().map(|distro| distro.breed.clone());
    let all: std::collections::BTreeSet<String> = asked
        .world
        .assets
        .signatures
        .keys()
        .map(ToString::to_string)
        .chain(of_distros)
        .collect();
    Ok(all.into_iter().collect())
}

pub(super) fn archs(_: &Asked<'_>) -> Result<Value, Fault> {
    Ok([
        "i386", "x86_64", "ia64", "ppc", "ppc64", "ppc64le", "s390x", "arm", "aarch64",
    ]
    .into_iter()
    .collect())
}

pub(super) fn loaders(_: &Asked<'_>) -> Result<Value, Fault> {
    Ok(["grub", "pxe", "ipxe"].into_iter().collect())
}

/// A MAC that QEMU's guests may have (locally administered, as libvirt gives them).
pub(super) fn random(bytes: &[u8]) -> Mac {
    let byte = |place: usize| bytes.get(place).copied().unwrap_or(0);
    Mac::new([0x52, 0x54, 0x00, byte(0), byte(1), byte(2)])
}

pub(super) fn random_mac(asked: &Asked<'_>) -> Result<Value, Fault> {
    Ok(random(asked.random).to_string().into())
}

/// What the daemon knows to be wrong; `cordwainer check` looks at more.
pub(super) fn check(asked: &Asked<'_>) -> Result<Value, Fault> {
    let world = asked.world;
    let mut all: Vec<String> = world
        .assets
        .media
        .iter()
        .flat_map(|(distro, media)| {
            let files = std::iter::once(&media.kernel).chain(&media.initrd);
            files.filter_map(move |file| file.as_ref().err().map(|why| format!("distro {distro}: {why}")))
        })
        .collect();
    if world.config.defaults.root_password_hash.is_none() && world.config.defaults.ssh_authorized_keys.is_empty() {
        all.push(
            "no default root password hash or SSH key: machines installed now could not be logged into".to_owned(),
        );
    }
    all.extend(repo_problems(&world.inventory));
    Ok(all.into_iter().collect())
}

/// The object that a kind and name mean.
pub(super) fn row(asked: &Asked<'_>, kind: Kind, name: &str) -> Option<Row> {
    asked.world.inventory.row(kind, name)
}
