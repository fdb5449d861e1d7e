//! `migrate cobbler`: takes the objects, templates and snippets of a Cobbler 3.x over, and says of each what became of it. Arms nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "reads Cobbler's files and writes the templates that are made of them"
)]

use super::args::MigrateCobbler;
use super::desk::Desk;
use super::exit::{Ended, Failure};
use crate::inventory::cobbler::{Fate, Foreign, Migration, migrate};
use crate::render::cheetah;
use crate::xmlrpc::decode::{self, Limits};
use crate::xmlrpc::{Value, encode};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Cobbler's collections: the folder or method, and what one object is.
const COLLECTIONS: [(&str, &str); 9] = [
    ("distros", "distro"),
    ("profiles", "profile"),
    ("systems", "system"),
    ("repos", "repo"),
    ("images", "image"),
    ("menus", "menu"),
    ("mgmtclasses", "mgmtclass"),
    ("packages", "package"),
    ("files", "file"),
];
/// Longest file of one object, template or snippet.
const LONGEST: u64 = 4 * 1024 * 1024;
/// Longest answer of a live server.
const ANSWER: u64 = 512 * 1024 * 1024;

/// What became of one template or snippet.
struct Text {
    name: String,
    moved: bool,
    why: Vec<String>,
}

pub(super) fn cobbler(options: &MigrateCobbler, desk: &Desk) -> Result<Ended, Failure> {
    let is_url = options.from.starts_with("http://") || options.from.starts_with("https://");
    let all = if is_url {
        of_server(&options.from)?
    } else {
        of_folder(Path::new(&options.from))?
    };
    if all.is_empty() {
        return Err(Failure::said(
            format!("there are no objects of Cobbler's in {}", options.from),
            "name the folder that holds collections/ (/var/lib/cobbler), or the URL of a Cobbler server",
        ));
    }
    let migration = migrate(&desk.inventory()?, &all);
    let texts = if is_url {
        migration
            .templates
            .iter()
            .map(|name| {
                left(
                    name,
                    "a server does not give its templates out; run this on Cobbler's host with --from /var/lib/cobbler",
                )
            })
            .collect()
    } else {
        texts(
            &migration,
            Path::new(&options.from),
            &desk.settings.config.overrides,
            options.dry_run,
        )
    };
    if !options.dry_run {
        desk.apply(migration.changes.clone())?;
    }
    tell(&migration, &texts, options.dry_run, desk)
}

fn tell(migration: &Migration, texts: &[Text], dry_run: bool, desk: &Desk) -> Result<Ended, Failure> {
    let moved = migration.fates.iter().filter(|fate| fate.moved).count();
    let left = migration.fates.len().saturating_sub(moved);
    if desk.printer.json {
        let fate = |fate: &Fate| json!({"kind": fate.kind, "name": fate.name, "moved": fate.moved, "why": fate.why});
        let text = |text: &Text| json!({"name": text.name, "moved": text.moved, "why": text.why});
        desk.printer.json(&json!({
            "objects": migration.fates.iter().map(fate).collect::<Vec<_>>(),
            "texts": texts.iter().map(text).collect::<Vec<_>>(),
            "was_enabled": migration.enabled, "dry_run": dry_run,
        }))?;
        return Ok(Ended::Well);
    }
    let mut out = String::new();
    let objects = migration.fates.iter().map(|fate| {
        (
            fate.moved,
            format!("{} {}", fate.kind, fate.name.escape_debug()),
            &fate.why,
        )
    });
    let of_texts = texts.iter().map(|text| (text.moved, text.name.clone(), &text.why));
    for (moved, what, why) in objects.chain(of_texts) {
        let word = match (moved, why.is_empty()) {
            (true, true) => "moved",
            (true, false) => "changed",
            (false, _) => "left",
        };
        match why.split_first() {
            None => out.push_str(&format!("{word:9} {what}\n")),
            Some((first, rest)) => {
                out.push_str(&format!("{word:9} {what}: {first}\n"));
                for more in rest {
                    out.push_str(&format!("          {what}: {more}\n"));
                }
            }
        }
    }
    let planned = if dry_run { " (planned only)" } else { "" };
    out.push_str(&format!("{moved} objects moved, {left} left{planned}\n"));
    desk.printer.data(&out)?;
    if !migration.enabled.is_empty() {
        desk.printer.note(format!(
            "note  {} systems had netboot_enabled in Cobbler; none is armed here. One by one: cordwainer system arm {}",
            migration.enabled.len(),
            migration.enabled.first().map_or("NAME", |name| name.as_str())
        ));
    }
    Ok(Ended::Well)
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::file("cannot read", path, error);
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The names of a folder, in order; none where there is no folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    all.sort();
    all
}

fn of_folder(from: &Path) -> Result<Vec<Foreign>, Failure> {
    let inside = from.join("collections");
    let root = if inside.is_dir() { inside } else { from.to_owned() };
    let mut all = Vec::new();
    for (folder, kind) in COLLECTIONS {
        for path in entries(&root.join(folder)) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let fields: Map<String, Json> = serde_json::from_str(&read(&path)?).map_err(|error| {
                Failure::said(format!("{}: {error}", path.display()), "it is no object of Cobbler 3.x")
            })?;
            let kind = kind.to_owned();
            all.push(Foreign { kind, fields });
        }
    }
    Ok(all)
}

fn of_server(url: &str) -> Result<Vec<Foreign>, Failure> {
    let bare = url.trim_end_matches('/');
    let path = bare.split_once("://").map_or("", |(_, rest)| rest);
    let url = if path.contains('/') {
        bare.to_owned()
    } else {
        format!("{bare}/cobbler_api")
    };
    let mut all = Vec::new();
    for (folder, kind) in COLLECTIONS {
        let failed = |why: String| Failure::said(format!("{url}: get_{folder}: {why}"), "");
        let mut answer = ureq::post(&url)
            .header("Content-Type", "text/xml")
            .send(encode::call(&format!("get_{folder}"), &[]))
            .map_err(|error| failed(error.to_string()))?;
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(ANSWER)
            .read_to_vec()
            .map_err(|error| failed(error.to_string()))?;
        match decode::answer(&bytes, Limits::ANSWER) {
            Ok(Ok(Value::Array(items))) => all.extend(items.iter().filter_map(|item| match json_of(item) {
                Json::Object(fields) => Some(Foreign {
                    kind: kind.to_owned(),
                    fields,
                }),
                _ => None,
            })),
            // Newer ones do not have the last of these.
            Ok(Err(fault)) if !matches!(kind, "distro" | "profile" | "system") => {
                tracing::debug!("get_{folder}: {fault}");
            }
            Ok(Err(fault)) => return Err(failed(fault)),
            Ok(Ok(_)) => return Err(failed("the answer is no list".to_owned())),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    Ok(all)
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Nil | Value::Bytes(_) => Json::Null,
        Value::Bool(flag) => json!(flag),
        Value::Int(number) => json!(number),
        Value::Double(number) => json!(number),
        Value::Text(text) | Value::Time(text) => json!(text),
        Value::Array(items) => Json::Array(items.iter().map(json_of).collect()),
        Value::Struct(members) => Json::Object(
            members
                .iter()
                .map(|(name, value)| (name.clone(), json_of(value)))
                .collect(),
        ),
    }
}

fn left(name: &str, why: &str) -> Text {
    Text {
        name: format!("template {name}"),
        moved: false,
        why: vec![why.to_owned()],
    }
}

/// Converts the templates that objects name, and every snippet, into the folder of overrides.
fn texts(migration: &Migration, from: &Path, overrides: &Path, dry_run: bool) -> Vec<Text> {
    let mut all = Vec::new();
    let named: BTreeSet<&String> = migration.templates.iter().collect();
    for name in named {
        let source = from.join("templates").join(name);
        if !source.exists() {
            let why = format!(
                "{} is not there; write kickstarts/{name}, or name another",
                source.display()
            );
            all.push(left(name, &why));
            continue;
        }
        all.push(convert(
            &format!("template {name}"),
            &source,
            &overrides.join("kickstarts").join(name),
            dry_run,
        ));
    }
    let snippets = from.join("snippets");
    let mut folders = vec![snippets.clone()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            let Ok(below) = path.strip_prefix(&snippets) else {
                continue;
            };
            if path.is_dir() && !path.is_symlink() && below.components().count() < 8 {
                folders.push(path);
            } else if path.is_file() {
                let name = format!("snippet {}", below.display());
                all.push(convert(&name, &path, &overrides.join("snippets").join(below), dry_run));
            }
        }
    }
    all
}

fn convert(name: &str, source: &Path, target: &Path, dry_run: bool) -> Text {
    let mut text = Text {
        name: name.to_owned(),
        moved: false,
        why: Vec::new(),
    };
    if target.exists() {
        text.why = vec![format!("{} is there already and stays as it is", target.display())];
        return text;
    }
    let cheetah = match read(source) {
        Ok(read) => read,
        Err(failure) => {
            text.why = vec![failure.text().trim().to_owned()];
            return text;
        }
    };
    let made = match cheetah::convert(&cheetah) {
        Ok(converted) => {
            let say = |note: &cheetah::Note| {
                let must = if note.must {
                    "must be looked at"
                } else {
                    "may mean something else"
                };
                format!("line {} {must}: {}", note.line, note.what)
            };
            text.why = converted.notes.iter().map(say).collect();
            converted.text
        }
        Err(cheetah::Jinja) => cheetah
            .split_once('\n')
            .map_or_else(String::new, |(_, rest)| rest.to_owned()),
    };
    if !dry_run {
        let parent = target.parent().map_or(Ok(()), fs::create_dir_all);
        if let Err(error) = parent.and_then(|()| fs::write(target, made)) {
            text.why = vec![format!("{} cannot be written: {error}", target.display())];
            return text;
        }
    }
    text.moved = true;
    text
}
