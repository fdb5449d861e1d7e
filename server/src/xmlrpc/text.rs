//! Templates and snippets by XML-RPC, as Terraform's provider keeps them. Who may read one may change things: admins write passwords into
//! them.
//!
//! Pure: a change leaves as a [`TextChange`], whose path was parsed and whose text is a template.

use super::fault::Fault;
use super::methods::{Asked, Outcome};
use super::session::Sessions;
use super::value::Value;
use crate::assets::Template;
use crate::model::{BadName, TextPath};
use crate::ports::{TextChange, TextFolder};
use crate::render;
use std::sync::Arc;

pub(super) fn templates(asked: &Asked<'_>) -> Result<Value, Fault> {
    Ok(asked.world.assets.templates.keys().cloned().collect())
}

pub(super) fn snippets(asked: &Asked<'_>) -> Result<Value, Fault> {
    Ok(asked.world.assets.snippets.keys().cloned().collect())
}

/// Whether a profile or system names this template itself.
fn is_named(asked: &Asked<'_>, wanted: &str) -> bool {
    let inventory = &asked.world.inventory;
    let is = |own: Option<&String>| own.is_some_and(|own| own == wanted);
    inventory.profiles().any(|profile| is(profile.autoinstall.own()))
        || inventory.systems().any(|system| is(system.autoinstall.own()))
}

pub(super) fn template_in_use(asked: &Asked<'_>) -> Result<Value, Fault> {
    Ok(Value::Bool(is_named(asked, asked.text(0)?)))
}

/// The folder that the method means.
fn folder(asked: &Asked<'_>) -> TextFolder {
    match asked.admitted.method.name.ends_with("_snippet") {
        true => TextFolder::Snippets,
        false => TextFolder::Templates,
    }
}

fn path(asked: &Asked<'_>) -> Result<TextPath, Fault> {
    let path = asked.text(0)?.parse();
    path.map_err(|error: BadName| Fault::cx(&error.to_string()))
}

fn found<'a>(asked: &Asked<'a>, path: &TextPath) -> Result<&'a Arc<Template>, Fault> {
    let assets = &asked.world.assets;
    let texts = match folder(asked) {
        TextFolder::Templates => &assets.templates,
        TextFolder::Snippets => &assets.snippets,
    };
    let found = texts.get(&path.to_string());
    found.ok_or_else(|| Fault::cx(&format!("there is no {} {path}", folder(asked).one())))
}

pub(super) fn read(asked: &Asked<'_>) -> Result<Value, Fault> {
    Ok(Value::Text(found(asked, &path(asked)?)?.text.to_string()))
}

pub(super) fn write(asked: &Asked<'_>, _: &mut Sessions) -> Result<Outcome, Fault> {
    let (path, folder, text) = (path(asked)?, folder(asked), asked.text(1)?);
    let name = match folder {
        TextFolder::Templates => path.to_string(),
        TextFolder::Snippets => format!("snippets/{path}"),
    };
    render::well_formed(&name, text).map_err(|error| {
        Fault::cx(&format!(
            "{error}; one of Cobbler's is converted by `cordwainer template convert`"
        ))
    })?;
    Ok(Outcome::Write(TextChange {
        folder,
        path,
        text: Some(text.to_owned()),
    }))
}

pub(super) fn remove(asked: &Asked<'_>, _: &mut Sessions) -> Result<Outcome, Fault> {
    let (path, folder) = (path(asked)?, folder(asked));
    let template = found(asked, &path)?;
    if template.is_built_in() {
        return Err(Fault::cx(&format!(
            "{} {path} is built in: it can be replaced by writing it, and not removed",
            folder.one()
        )));
    }
    if folder == TextFolder::Templates && is_named(asked, &path.to_string()) {
        return Err(Fault::cx(&format!(
            "template {path} is in use: is_autoinstall_in_use says so of what profiles and systems name"
        )));
    }
    Ok(Outcome::Write(TextChange {
        folder,
        path,
        text: None,
    }))
}
