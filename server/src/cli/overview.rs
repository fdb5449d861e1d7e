//! `list`, `report` and `find` over all kinds at once, laid out as Cobbler's users know them.

use super::args::FindAll;
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::{object, wild};
use crate::inventory::{Row, Shown, field, field_values};
use crate::model::Kind;
use serde_json::{Map, Value, json};

pub(super) fn list(desk: &Desk) -> Result<Ended, Failure> {
    let inventory = desk.inventory()?;
    let mut text = String::new();
    let mut all = Map::new();
    for kind in Kind::ALL {
        let names: Vec<&str> = inventory.names(kind).map(crate::model::Name::as_str).collect();
        text.push_str(&format!("{kind}s:\n"));
        for name in &names {
            text.push_str(&format!("   {name}\n"));
        }
        text.push('\n');
        all.insert(format!("{kind}s"), json!(names));
    }
    desk.printer.either(&all, text.trim_end_matches('\n'))?;
    if !desk.printer.json {
        desk.printer.data("\n")?;
    }
    Ok(Ended::Well)
}

pub(super) fn report(name: Option<&str>, desk: &Desk) -> Result<Ended, Failure> {
    let inventory = desk.inventory()?;
    let mut text = String::new();
    let mut all = Map::new();
    let mut found = 0_usize;
    for kind in Kind::ALL {
        let mut rows = object::rows(kind, None, &inventory)?;
        rows.retain(|row| name.is_none_or(|name| row.name().as_str() == name));
        found = found.saturating_add(rows.len());
        let values: Vec<Value> = rows.iter().map(|row| object::as_json(row, &inventory, desk)).collect();
        all.insert(format!("{kind}s"), Value::Array(values));
        if rows.is_empty() && name.is_some() {
            continue;
        }
        text.push_str(&format!("{kind}s:\n==========\n"));
        for row in &rows {
            text.push_str(&format!("{}\n", object::as_text(row, &inventory, desk)));
        }
        if rows.is_empty() {
            text.push('\n');
        }
    }
    if let (0, Some(name)) = (found, name) {
        return Err(Failure::said(
            format!("nothing is called `{}`", name.escape_debug()),
            "cordwainer list prints the names",
        ));
    }
    desk.printer.either(&all, &text)?;
    Ok(Ended::Well)
}

/// The field and the glob of `FIELD=GLOB`.
fn criterion(text: &str) -> Result<(&str, &str), Failure> {
    let parts = text.split_once('=').filter(|(field, _)| !field.is_empty());
    let (wanted, glob) = parts.ok_or_else(|| {
        Failure::usage(
            format!("`{}` is no field and value", text.escape_debug()),
            "write --field FIELD=GLOB, such as --field comment='rack 4*'",
        )
    })?;
    let known = Kind::ALL.iter().find_map(|kind| Some(field(*kind, wanted).ok()?.name));
    let known = known.or_else(|| (wanted == "name").then_some("name"));
    let known = known.ok_or_else(|| {
        Failure::usage(
            format!("no kind of object has a field `{}`", wanted.escape_debug()),
            "cordwainer KIND find --help lists them",
        )
    })?;
    Ok((known, glob))
}

fn fits(row: &Row, (wanted, glob): (&str, &str)) -> bool {
    field_values(row)
        .iter()
        .filter(|value| value.field == wanted)
        .any(|value| match &value.value {
            Shown::List(items) => items.iter().any(|item| wild::matches(glob, item)),
            other => wild::matches(glob, &other.to_string()),
        })
}

pub(super) fn find(options: &FindAll, desk: &Desk) -> Result<Ended, Failure> {
    let glob = options.place.as_deref().or(options.name.as_deref());
    if glob.is_none() && options.fields.is_empty() {
        return Err(Failure::usage(
            "nothing to look for",
            "give a name, in which * and ? are wild, or --field FIELD=GLOB",
        ));
    }
    let criteria: Vec<(&str, &str)> = options
        .fields
        .iter()
        .map(|text| criterion(text))
        .collect::<Result<_, _>>()?;
    let inventory = desk.inventory()?;
    let mut text = String::new();
    let mut all = Vec::new();
    for kind in Kind::ALL {
        for row in object::rows(kind, None, &inventory)? {
            let name = row.name().as_str();
            if glob.is_none_or(|glob| wild::matches(glob, name)) && criteria.iter().all(|one| fits(&row, *one)) {
                text.push_str(&format!("{kind} {name}\n"));
                all.push(json!({"kind": kind, "name": name}));
            }
        }
    }
    desk.printer.either(&all, &text)?;
    Ok(if all.is_empty() { Ended::No } else { Ended::Well })
}
