//! `setting`: Cobbler's settings by their names, as far as they mean something here. They are read out of the configuration, which only
//! an editor changes.

use super::args::SettingEdit;
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::host;
use crate::config::{SETTINGS, Setting, settings};
use serde_json::{Map, Value, json};

fn shown(setting: &Setting) -> Value {
    match setting {
        Setting::Text(text) => json!(text),
        Setting::Number(number) => json!(number),
        Setting::Flag(flag) => json!(flag),
    }
}

pub(super) fn report(name: Option<&str>, desk: &Desk) -> Result<Ended, Failure> {
    let config = &desk.settings.config;
    let mut all = settings(config, host::local_address(config, None));
    if let Some(name) = name {
        all.retain(|(known, _)| *known == name);
        if all.is_empty() {
            return Err(unknown(name));
        }
    }
    let map: Map<String, Value> = all
        .iter()
        .map(|(name, value)| ((*name).to_owned(), shown(value)))
        .collect();
    let width = all.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let text: String = all
        .iter()
        .map(|(name, value)| {
            let value = shown(value);
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            format!("{name:width$} : {value}\n")
        })
        .collect();
    desk.printer.either(&map, &text)?;
    Ok(Ended::Well)
}

fn unknown(name: &str) -> Failure {
    Failure::said(
        format!("there is no setting `{}` here", name.escape_debug()),
        "cordwainer setting report prints those of Cobbler's that mean something here; cordwainer config show prints the configuration",
    )
}

pub(super) fn edit(options: &SettingEdit) -> Result<Ended, Failure> {
    let name = options.name.get();
    let key = SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, key)| *key);
    match key.ok_or_else(|| unknown(name))? {
        "" => Err(Failure::said(
            format!("`{name}` is always so here, and cannot be changed"),
            "cordwainer setting report prints what it is",
        )),
        key => Err(Failure::said(
            format!("`{name}` is not changed by a command: the configuration file is the admin's"),
            format!("write {key}, then systemctl restart cordwainer; cordwainer config check reads the file"),
        )),
    }
}
