//! The shell scripts inside an answer file, read out of it as its installer reads them.

use serde_json::Value;

/// The scripts of any answer file of ours, in order.
pub fn scripts_of(text: &str) -> Vec<String> {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        let mut scripts = Vec::new();
        in_json(&value, &mut scripts);
        return scripts;
    }
    if text.starts_with("<?xml") {
        return in_xml(text);
    }
    if text.contains("\nvmaccepteula\n") {
        // Its sections end where the next begins.
        let sections = text.split("\n%").skip(1).filter_map(|section| section.split_once('\n'));
        return sections
            .filter(|(head, _)| !head.starts_with("include"))
            .map(|(_, body)| format!("{body}\n"))
            .collect();
    }
    if text.starts_with("==> ") {
        return in_overlay(text);
    }
    if text.starts_with("#cloud-config") {
        return in_yaml(text);
    }
    in_lines(text)
}

/// Agama's `content`, and the files that Ignition writes and we run.
fn in_json(value: &Value, scripts: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| in_json(item, scripts)),
        Value::Object(map) => {
            if let Some(content) = map.get("content").and_then(Value::as_str) {
                scripts.push(content.to_owned());
            }
            if map.get("path").and_then(Value::as_str) == Some("/etc/cordwainer-install") {
                scripts.push(data(map["contents"]["source"].as_str().unwrap()));
            }
            map.values().for_each(|value| in_json(value, scripts));
        }
        _ => {}
    }
}

/// The text of a `data:` URL.
pub fn data(url: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = url.strip_prefix("data:,").unwrap().bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The files of an overlay that begin as scripts do.
fn in_overlay(text: &str) -> Vec<String> {
    let files = format!("\n{text}");
    let bodies = files.split("\n==> ").filter_map(|file| file.split_once('\n'));
    bodies
        .filter(|(_, body)| body.starts_with("#!/bin/sh\n"))
        .map(|(_, body)| format!("{body}\n"))
        .collect()
}

fn in_xml(text: &str) -> Vec<String> {
    let text = text.replace("]]]]><![CDATA[>", "\u{e000}");
    text.split("<![CDATA[")
        .skip(1)
        .map(|part| part.split("]]>").next().unwrap().replace('\u{e000}', "]]>"))
        .collect()
}

/// Block scalars in a list: `- |`, then lines that stand deeper.
fn in_yaml(text: &str) -> Vec<String> {
    let mut scripts: Vec<String> = Vec::new();
    let mut depth = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(from) = depth {
            if line.is_empty() || indent > from {
                let script = scripts.last_mut().unwrap();
                script.push_str(line.get(from + 2..).unwrap_or(""));
                script.push('\n');
                continue;
            }
            depth = None;
        }
        if line.trim() == "- |" {
            depth = Some(indent);
            scripts.push(String::new());
        }
    }
    scripts
}

/// The shell parts of a kickstart or preseed.
fn in_lines(text: &str) -> Vec<String> {
    let mut scripts = Vec::new();
    let mut inside: Option<String> = None;
    for line in text.lines() {
        if let Some(script) = &mut inside {
            if line == "%end" {
                scripts.extend(inside.take());
            } else {
                script.push_str(line);
                script.push('\n');
            }
        } else if ["%pre", "%post", "%onerror"]
            .iter()
            .any(|section| line.starts_with(section))
        {
            inside = Some(String::new());
        } else if let Some((_, script)) = line.split_once("_command string ") {
            scripts.push(format!("{script}\n"));
        }
    }
    assert!(inside.is_none(), "a section is not closed");
    scripts
}
