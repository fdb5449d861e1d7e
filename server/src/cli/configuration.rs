//! `config check` and `config show`.

use super::args::Global;
use super::exit::{Ended, Failure};
use super::print::Printer;
use super::settings::{self, PLACE};
use crate::config::{KEYS, KeyDoc, dump};
use serde_json::{Map, Value, json};

/// Reads the file; the error names every problem.
pub(super) fn check(global: &Global, printer: Printer) -> Result<Ended, Failure> {
    let file = global
        .config
        .as_ref()
        .map_or_else(|| PLACE.to_owned(), |path| path.display().to_string());
    match settings::load(global) {
        Err(Failure::Config(error)) if printer.json => {
            let problems: Vec<Value> = error
                .problems
                .iter()
                .map(|problem| json!({"line": problem.line, "problem": problem.what}))
                .collect();
            printer.json(&json!({"file": file, "ok": false, "problems": problems}))?;
            return Ok(Ended::No);
        }
        Err(error) => return Err(error),
        Ok(settings) => {
            let found = settings.file.is_some();
            let text = if found {
                format!(
                    "{file} is well: {} DHCP, {} subnets\n",
                    settings.config.dhcp.as_str(),
                    settings.config.subnets.len()
                )
            } else {
                format!("there is no {file}: the defaults hold (proxyDHCP on the interface of the default route)\n")
            };
            printer.either(
                &json!({"file": found.then_some(file), "ok": true, "problems": []}),
                &text,
            )?;
        }
    }
    Ok(Ended::Well)
}

/// Prints what is in force.
pub(super) fn show(global: &Global, printer: Printer) -> Result<Ended, Failure> {
    let settings = settings::load(global)?;
    let text = dump(&settings.config);
    if printer.json {
        printer.json(&tree(&text))?;
        return Ok(Ended::Well);
    }
    match &settings.file {
        Some(file) => printer.note(format!("# {} and the defaults", file.display())),
        None => printer.note(format!("# the defaults; there is no {PLACE}")),
    }
    printer.data(&text)?;
    Ok(Ended::Well)
}

/// The shown text as JSON, keys without a value as null. `dump` writes TOML that parses.
fn tree(text: &str) -> Value {
    let mut value = toml::from_str::<Value>(text).unwrap_or_default();
    for key in KEYS {
        let section = key.section.as_str();
        let tables: Vec<&mut Map<String, Value>> = if section.is_empty() {
            value.as_object_mut().into_iter().collect()
        } else {
            match value.get_mut(section) {
                Some(Value::Array(items)) => items.iter_mut().filter_map(Value::as_object_mut).collect(),
                Some(Value::Object(table)) => vec![table],
                _ => Vec::new(),
            }
        };
        for table in tables {
            table.entry(key.name).or_insert(Value::Null);
        }
    }
    value
}

/// The first configuration that `install-service` writes: every key, commented out.
pub(super) fn first_file() -> String {
    let mut text = String::from(
        "# Cordwainer. Every key with its default; man cordwainer.toml says more. Check with: cordwainer config check\n",
    );
    let mut last = None;
    for key in KEYS {
        if last != Some(key.section) {
            let header = match key.section {
                crate::config::Section::Top => String::new(),
                // An active header would make an empty subnet, which is an error.
                crate::config::Section::Subnet => "#[[subnet]]\n".to_owned(),
                other => format!("{other}\n"),
            };
            text.push_str(&format!("\n{header}"));
            last = Some(key.section);
        }
        let example = key
            .expects
            .split_once(" like ")
            .map_or_else(|| "...".to_owned(), |(_, example)| example.to_owned());
        text.push_str(&format!("# {} Default: {}.\n", key.help, key.default));
        text.push_str(&format!("#{} = {}\n", key.name, first_example(key, &example)));
    }
    text
}

fn first_example(key: &KeyDoc, example: &str) -> String {
    match key.name {
        "listen" => "\"auto\"".to_owned(),
        "mode" => "\"proxy\"".to_owned(),
        "unknown" => "\"local\"".to_owned(),
        "binding" => "\"token-only\"".to_owned(),
        "router_advertisements" => "\"auto\"".to_owned(),
        "probe" => "\"off\"".to_owned(),
        "session" => "\"60m\"".to_owned(),
        "port" => key.default.to_owned(),
        "menu_default" => "\"debian12\"".to_owned(),
        "root_password_hash" | "shared" => "\"\"".to_owned(),
        "ssh_authorized_keys" => "[]".to_owned(),
        _ if key.expects.starts_with("\"on\" or ") => "\"on\"".to_owned(),
        _ => example.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::wire;

    #[test]
    fn the_first_file_holds_and_its_comments_are_examples_that_hold() {
        assert_eq!(
            wire::parse(&first_file(), "c").unwrap(),
            crate::config::Config::default()
        );
        let lines = first_file()
            .lines()
            .filter_map(example_line)
            .collect::<Vec<_>>()
            .join("\n");
        let config = wire::parse(&lines, "c").unwrap();
        assert_eq!(config.subnets.len(), 1);
    }

    /// Takes the comment sign off the lines that are keys or headers.
    fn example_line(line: &str) -> Option<String> {
        let bare = line.strip_prefix('#').filter(|bare| !bare.starts_with(' '));
        Some(bare.unwrap_or(line).to_owned()).filter(|line| !line.starts_with('#'))
    }

    #[test]
    fn json_has_every_key() {
        let value = tree(&dump(&crate::config::Config::default()));
        assert_eq!(value["server"]["address"], Value::Null);
        assert_eq!(value["dhcp"]["mode"], "proxy");
    }
}
