//! `apply` and `export`: the inventory as TOML documents. Applying never arms a machine; it names who was enabled, and the command.
#![expect(clippy::disallowed_methods, reason = "reads the documents")]

use super::args::{Apply, Export};
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::print::with;
use super::service::write_file;
use crate::inventory::{Change, Row, document, edit_all};
use crate::model::{Kind, Name};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// The documents at a path: itself, or every `*.toml` of a folder, by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let meta = fs::metadata(path).map_err(|error| Failure::file("cannot read", path, error))?;
    if !meta.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| Failure::file("cannot list", path, error))? {
        let entry = entry.map_err(|error| Failure::file("cannot list", path, error))?.path();
        if entry.extension().is_some_and(|extension| extension == "toml") {
            files.push(entry);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::said(
            format!("{} holds no *.toml", path.display()),
            "name a document, or a folder that holds some",
        ));
    }
    Ok(files)
}

pub(super) fn apply(options: &Apply, desk: &Desk) -> Result<Ended, Failure> {
    let mut rows: Vec<Row> = Vec::new();
    let mut enabled: Vec<Name> = Vec::new();
    for path in &options.paths {
        for file in files(path)? {
            let text = fs::read_to_string(&file).map_err(|error| Failure::file("cannot read", &file, error))?;
            let read = document::parse(&text, &file.display().to_string())
                .map_err(|error| Failure::said(error, "nothing was changed; mend the document and apply it again"))?;
            for row in read.rows {
                if rows
                    .iter()
                    .any(|seen| seen.kind() == row.kind() && seen.name() == row.name())
                {
                    let kind = row.kind().unwrap_or(Kind::System);
                    return Err(Failure::said(
                        format!(
                            "{}: {kind} `{}` is in another document already",
                            file.display(),
                            row.name()
                        ),
                        "nothing was changed; keep one of them",
                    ));
                }
                rows.push(row);
            }
            enabled.extend(read.enabled);
        }
    }
    let inventory = desk.inventory()?;
    let whole = document::Document { rows, enabled };
    let changes: Vec<Change> = document::changes(&whole, &inventory)
        .into_iter()
        // What is there as it is written is left alone, so that applying twice changes nothing.
        .filter(|change| match change {
            Change::Put(row) => {
                row.kind()
                    .and_then(|kind| inventory.row(kind, row.name().as_str()))
                    .as_ref()
                    != Some(row)
            }
            _ => true,
        })
        .collect();
    let same = whole.rows.len().saturating_sub(changes.len());
    let planned = edit_all(&inventory, changes.clone())?;
    let applied = if options.dry_run {
        desk.only_planned(planned)
    } else {
        desk.apply(changes)?
    };
    if desk.printer.json {
        desk.printer.json(&with(
            applied.json(),
            json!({"unchanged": same, "not_armed": whole.enabled}),
        ))?;
    } else {
        let mut text = applied.text();
        text.push_str(&format!(
            "{} changed, {same} as they were, {}\n",
            applied.rows.len(),
            applied.served.as_str()
        ));
        desk.printer.data(&text)?;
    }
    for name in &whole.enabled {
        desk.printer.note(format!(
            "{name} was enabled in the document and is not armed by it: cordwainer system arm {name}"
        ));
    }
    Ok(Ended::Well)
}

pub(super) fn export(options: &Export, desk: &Desk) -> Result<Ended, Failure> {
    let inventory = desk.inventory()?;
    let rows: Vec<Row> = Kind::ALL
        .into_iter()
        .flat_map(|kind| {
            inventory
                .names(kind)
                .filter_map(|name| inventory.row(kind, name.as_str()))
                .collect::<Vec<_>>()
        })
        .collect();
    let text = document::print(&rows);
    match &options.output {
        Some(path) => {
            write_file(path, text.as_bytes(), 0o600)?;
            let said = format!("exported  {} objects to {}\n", rows.len(), path.display());
            desk.printer
                .either(&json!({"objects": rows.len(), "file": path}), &said)?;
        }
        None if desk.printer.json => {
            let value: serde_json::Value = toml::from_str(&text).unwrap_or_default();
            desk.printer.json(&value)?;
        }
        None => desk.printer.data(&text)?,
    }
    Ok(Ended::Well)
}
