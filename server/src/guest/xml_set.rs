//! `--xml-set XPATH=VALUE`: the escape hatch to what no option says, by a small part of XPath that cannot surprise.
//!
//! Pure. A path names elements from the root on, each by its name and, where there are several, by `[N]` or `[@name='value']`; it ends
//! in an element, whose text is set, or in `@name`, which is set. What is not there is made; `VALUE` empty takes it out.

use super::element::{BadXml, Element};
use super::spec::XmlEdit;
use std::str::FromStr;

/// An edit that cannot be made.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum BadEdit {
    /// Not of the form.
    #[error("--xml-set {given}: {why}; write it like ./devices/disk[1]/driver/@cache=none or ./on_crash=restart")]
    Form {
        /// As it was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is nothing there that could be edited.
    #[error("--xml-set {path}: {why}; --print-xml shows what there is")]
    Place {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// What would be edited is what a guest is found by.
    #[error("--xml-set {path}: {what} has its own option, and supervision finds the guest by it")]
    Guarded {
        /// The path.
        path: String,
        /// `name`, `uuid`, `metadata`.
        what: String,
    },
    /// Not XML.
    #[error(transparent)]
    Xml(#[from] BadXml),
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    name: String,
    pick: Pick,
}

/// Which of several elements of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pick {
    /// The only one; where there is none it is made.
    Only,
    /// `[N]`, from 1.
    Nth(usize),
    /// `[@name='value']`.
    With(String, String),
}

/// A path, read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Path {
    steps: Vec<Step>,
    attribute: Option<String>,
}

impl FromStr for XmlEdit {
    type Err = BadEdit;

    /// `XPATH=VALUE`. A `=` inside `[...]` belongs to the path.
    fn from_str(text: &str) -> Result<Self, BadEdit> {
        let mut depth = 0_usize;
        let at = text.char_indices().find(|(_, c)| {
            match c {
                '[' => depth = depth.saturating_add(1),
                ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            *c == '=' && depth == 0
        });
        let form = |why: &str| BadEdit::Form {
            given: shown(text),
            why: why.to_owned(),
        };
        let (at, _) = at.ok_or_else(|| form("there is no `=`"))?;
        let (path, value) = text.split_at_checked(at).ok_or_else(|| form("there is no `=`"))?;
        let value = value.strip_prefix('=').unwrap_or(value);
        if value.chars().any(char::is_control) {
            return Err(form("the value holds a control character"));
        }
        Path::from_str(path)?;
        Ok(Self {
            path: path.to_owned(),
            value: value.to_owned(),
        })
    }
}

fn shown(text: &str) -> String {
    text.chars().take(120).flat_map(char::escape_debug).collect()
}

/// True for what may name an element or attribute here.
fn is_name(text: &str) -> bool {
    let starts = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    starts
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
}

impl FromStr for Path {
    type Err = BadEdit;

    fn from_str(text: &str) -> Result<Self, BadEdit> {
        let form = |why: String| BadEdit::Form {
            given: shown(text),
            why,
        };
        let rest = text
            .strip_prefix("./")
            .or_else(|| text.strip_prefix("/domain/"))
            .unwrap_or(text);
        if rest.is_empty() || rest.starts_with('/') {
            return Err(form(
                "a path starts with ./ or /domain/, and // is not known here".to_owned(),
            ));
        }
        let mut steps = Vec::new();
        let mut parts = split(rest).into_iter().peekable();
        while let Some(part) = parts.next() {
            if let Some(attribute) = part.strip_prefix('@') {
                if parts.peek().is_some() {
                    return Err(form("an attribute ends the path".to_owned()));
                }
                if !is_name(attribute) {
                    return Err(form(format!("`{}` is no name of an attribute", shown(attribute))));
                }
                return Ok(Self {
                    steps,
                    attribute: Some(attribute.to_owned()),
                });
            }
            steps.push(step(&part).map_err(form)?);
        }
        Ok(Self { steps, attribute: None })
    }
}

/// Splits at slashes outside of `[...]`.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '[' => depth = depth.saturating_add(1),
            ']' => depth = depth.saturating_sub(1),
            '/' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

fn step(text: &str) -> Result<Step, String> {
    let (name, predicate) = match text.split_once('[') {
        None => (text, None),
        Some((name, rest)) => (name, Some(rest.strip_suffix(']').ok_or("a `[` is not closed")?)),
    };
    if !is_name(name) {
        return Err(match name {
            "" => "a step is empty, and // is not known here".to_owned(),
            "*" | "." | ".." => format!("`{name}` is not known here"),
            name => format!("`{}` is no name of an element", shown(name)),
        });
    }
    let pick = match predicate {
        None => Pick::Only,
        Some(predicate) => pick(predicate)?,
    };
    Ok(Step {
        name: name.to_owned(),
        pick,
    })
}

fn pick(predicate: &str) -> Result<Pick, String> {
    if let Ok(place) = predicate.parse::<usize>() {
        return if place == 0 {
            Err("elements are counted from 1".to_owned())
        } else {
            Ok(Pick::Nth(place))
        };
    }
    let unknown = || {
        format!(
            "`[{}]` is not known here; a number or @name='value' stands in brackets",
            shown(predicate)
        )
    };
    let (attribute, value) = predicate
        .strip_prefix('@')
        .and_then(|rest| rest.split_once('='))
        .ok_or_else(unknown)?;
    let value = ['\'', '"']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .ok_or_else(unknown)?;
    if !is_name(attribute) {
        return Err(unknown());
    }
    Ok(Pick::With(attribute.to_owned(), value.to_owned()))
}

/// Makes the edits in order.
///
/// # Errors
/// [`BadEdit`] of the first that cannot be made.
pub fn apply(domain: &mut Element, edits: &[XmlEdit]) -> Result<(), BadEdit> {
    for edit in edits {
        let path = Path::from_str(&edit.path)?;
        guard(&edit.path, &path)?;
        let place = |why: String| BadEdit::Place {
            path: edit.path.clone(),
            why,
        };
        if edit.value.is_empty() {
            take(domain, &path.steps, path.attribute.as_deref()).map_err(place)?;
        } else {
            put(domain, &path.steps, path.attribute.as_deref(), &edit.value).map_err(place)?;
        }
    }
    Ok(())
}

/// Name, uuid and metadata are what supervision finds a guest by.
fn guard(given: &str, path: &Path) -> Result<(), BadEdit> {
    let first = path.steps.first().map(|step| step.name.as_str());
    match first {
        Some(what @ ("name" | "uuid" | "metadata")) => Err(BadEdit::Guarded {
            path: given.to_owned(),
            what: what.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The place of the child that a step names; none where there is none yet.
fn find(element: &Element, step: &Step) -> Result<Option<usize>, String> {
    let mut places = element
        .children
        .iter()
        .enumerate()
        .filter(|(_, child)| child.name == step.name);
    match &step.pick {
        Pick::Nth(nth) => Ok(places.nth(nth.saturating_sub(1)).map(|(place, _)| place)),
        Pick::With(name, value) => Ok(places
            .find(|(_, child)| child.attribute(name) == Some(value))
            .map(|(place, _)| place)),
        Pick::Only => {
            let first = places.next().map(|(place, _)| place);
            let more = places.count();
            if more > 0 {
                return Err(format!(
                    "there are {} elements `{}` in `{}`; say which, as in {}[1]",
                    more.saturating_add(1),
                    step.name,
                    element.name,
                    step.name
                ));
            }
            Ok(first)
        }
    }
}

fn put(element: &mut Element, steps: &[Step], attribute: Option<&str>, value: &str) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        match attribute {
            Some(name) => element.set(name, value.to_owned()),
            None if element.children.is_empty() => value.clone_into(&mut element.text),
            None => return Err(format!("`{}` holds elements, not a text", element.name)),
        }
        return Ok(());
    };
    let place = match find(element, step)? {
        Some(place) => place,
        None => {
            let mut made = Element::new(&step.name);
            match &step.pick {
                Pick::Only => {}
                Pick::With(name, value) => made.set(name, value.clone()),
                Pick::Nth(nth) => {
                    let have = element.children.iter().filter(|child| child.name == step.name).count();
                    if *nth != have.saturating_add(1) {
                        return Err(format!(
                            "`{}` has {have} elements `{}`, so there is no number {nth}",
                            element.name, step.name
                        ));
                    }
                }
            }
            element.children.push(made);
            element.children.len().saturating_sub(1)
        }
    };
    match element.children.get_mut(place) {
        Some(child) => put(child, rest, attribute, value),
        None => Ok(()),
    }
}

fn take(element: &mut Element, steps: &[Step], attribute: Option<&str>) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        if let Some(name) = attribute {
            element.attributes.retain(|(known, _)| known != name);
        }
        return Ok(());
    };
    let place = find(element, step)?.ok_or_else(|| format!("there is no `{}` in `{}`", step.name, element.name))?;
    if rest.is_empty() && attribute.is_none() {
        element.children.remove(place);
        return Ok(());
    }
    match element.children.get_mut(place) {
        Some(child) => take(child, rest, attribute),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "<domain type='kvm'><name>a</name><on_crash>destroy</on_crash><devices>\
        <disk device='disk'><driver name='qemu'/></disk><disk device='cdrom'><readonly/></disk></devices></domain>";

    fn edited(edits: &[&str]) -> Result<String, BadEdit> {
        let mut domain = Element::parse(DOMAIN).unwrap();
        let edits: Vec<XmlEdit> = edits.iter().map(|edit| edit.parse()).collect::<Result<_, _>>()?;
        apply(&mut domain, &edits)?;
        Ok(domain.document())
    }

    #[test]
    fn texts_and_attributes_are_set_made_and_taken_out() {
        let text = edited(&[
            "./on_crash=restart",
            "/domain/devices/disk[1]/driver/@cache=none",
            "./devices/disk[@device='cdrom']/target/@dev=sdb",
            "./devices/disk[@device='cdrom']/readonly=",
            "./devices/watchdog/@model=i6300esb",
            "./cpu/feature[@name='vmx']/@policy=disable",
            "./@type=qemu",
        ])
        .unwrap();
        for part in [
            "<domain type=\"qemu\">",
            "<on_crash>restart</on_crash>",
            "<driver name=\"qemu\" cache=\"none\"/>",
            "<target dev=\"sdb\"/>",
            "<watchdog model=\"i6300esb\"/>",
            "<feature name=\"vmx\" policy=\"disable\"/>",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("readonly"), "{text}");
    }

    #[test]
    fn what_cannot_be_done_says_why() {
        for (edit, says) in [
            ("./on_crash", "there is no `=`"),
            ("//disk/@x=1", "// is not known here"),
            ("./devices//disk=1", "// is not known here"),
            ("./devices/disk/driver/@cache=none", "say which, as in disk[1]"),
            ("./devices/disk[4]/@x=1", "no number 4"),
            ("./devices/disk[0]/@x=1", "counted from 1"),
            ("./devices/disk[last()]/@x=1", "is not known here"),
            ("./devices/*/@x=1", "is not known here"),
            ("./devices/@a/b=1", "an attribute ends the path"),
            ("./devices=1", "holds elements"),
            ("./nothing/@x=", "there is no `nothing`"),
            ("./name=b", "has its own option"),
            ("./uuid=b", "has its own option"),
            ("./on_crash=a\nb", "control character"),
            ("./devices/disk[1/@x=1", "there is no `=`"),
        ] {
            let error = edited(&[edit]).unwrap_err().to_string();
            assert!(error.contains(says), "{edit}: {error}");
        }
    }
}
