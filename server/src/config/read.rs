//! Reads values of a TOML document with their lines, and collects every problem instead of stopping at the first.
//!
//! Never puts the value of a secret key into a message.

use super::keys::{KEYS, KeyDoc, Section};
use super::wire::Problem;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    /// The value.
    pub(super) value: T,
    /// Line in the file, from 1.
    pub(super) line: usize,
}

/// One table of the document, known keys only.
pub(super) struct Table<'d> {
    section: Section,
    /// Line of its header.
    pub(super) line: usize,
    values: Vec<(&'static KeyDoc, &'d Spanned<DeValue<'d>>)>,
}

impl Table<'_> {
    /// True when the key stands there, well or badly written.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(doc, _)| doc.name == name)
    }
}

/// The document and what was found wrong with it.
pub(super) struct Reader<'d> {
    text: &'d str,
    pub(super) problems: Vec<Problem>,
}

/// The nearest of `candidates` that a person may have meant.
#[must_use]
pub fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

impl<'d> Reader<'d> {
    pub(super) const fn new(text: &'d str) -> Self {
        Self {
            text,
            problems: Vec::new(),
        }
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(span.start);
        before.filter(|byte| **byte == b'\n').count().saturating_add(1)
    }

    pub(super) fn problem(&mut self, line: usize, what: impl Into<String>) {
        self.problems.push(Problem {
            line: Some(line),
            what: what.into(),
        });
    }

    /// A problem with the value of a key.
    pub(super) fn wrong(&mut self, section: Section, name: &str, line: usize, why: &str) {
        self.problem(line, format!("`{name}` in {section}: {why}"));
    }

    /// Takes the known keys of a table; names each unknown one.
    pub(super) fn table(&mut self, section: Section, line: usize, table: &'d DeTable<'d>) -> Table<'d> {
        let mut values: Vec<(&'static KeyDoc, &'d Spanned<DeValue<'d>>)> = Vec::new();
        for (key, value) in table {
            let (name, line) = (key.get_ref().as_ref(), self.line(&key.span()));
            if section == Section::Top && Section::ALL.iter().any(|known| known.as_str() == name) {
                continue;
            }
            match KeyDoc::find(section, name) {
                Some(doc) if values.iter().any(|(seen, _)| *seen == doc) => {
                    self.problem(line, format!("`{name}` in {section} is given twice; keep one"));
                }
                Some(doc) => values.push((doc, value)),
                None => self.unknown(section, name, line, matches!(value.get_ref(), DeValue::Table(_))),
            }
        }
        Table { section, line, values }
    }

    fn unknown(&mut self, section: Section, name: &str, line: usize, is_table: bool) {
        let here = || KEYS.iter().filter(|key| key.section == section).map(|key| key.name);
        let (what, hint) = if section == Section::Top && is_table {
            let sections = Section::ALL
                .iter()
                .map(|section| section.as_str())
                .filter(|word| !word.is_empty());
            let near = nearest(name, sections.clone());
            let hint = near.map_or_else(
                || format!("sections are {}", sections.collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            (format!("unknown section `{}`", shown(name)), hint)
        } else {
            let elsewhere = KEYS.iter().find(|key| key.name == name.replace('-', "_"));
            let hint = match (nearest(&name.replace('-', "_"), here()), elsewhere) {
                (_, Some(key)) => format!("it belongs in {}", key.section),
                (Some(near), None) => format!("did you mean `{near}`?"),
                (None, None) => format!("keys there are {}", here().collect::<Vec<_>>().join(", ")),
            };
            (format!("unknown key `{}` in {section}", shown(name)), hint)
        };
        self.problem(line, format!("{what}; {hint}"));
    }

    fn expected(&mut self, doc: &KeyDoc, line: usize, found: &DeValue<'_>) {
        let found = match found {
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::String(_) => "a text",
        };
        let why = format!("found {found}, expected {}", doc.expects);
        self.wrong(doc.section, doc.name, line, &why);
    }

    fn entry(&self, table: &Table<'d>, name: &str) -> Option<(&'static KeyDoc, &'d Spanned<DeValue<'d>>, usize)> {
        let (doc, value) = table.values.iter().find(|(doc, _)| doc.name == name)?;
        Some((doc, value, self.line(&value.span())))
    }

    /// A text.
    pub(super) fn text(&mut self, table: &Table<'d>, name: &str) -> Option<At<String>> {
        let (doc, value, line) = self.entry(table, name)?;
        if let DeValue::String(text) = value.get_ref() {
            let value = text.to_string();
            return Some(At { value, line });
        }
        self.expected(doc, line, value.get_ref());
        None
    }

    /// A list of texts, each with its line.
    pub(super) fn texts(&mut self, table: &Table<'d>, name: &str) -> Option<Vec<At<String>>> {
        let (doc, value, line) = self.entry(table, name)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.expected(doc, line, value.get_ref());
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            let line = self.line(&item.span());
            match item.get_ref() {
                DeValue::String(text) => texts.push(At {
                    value: text.to_string(),
                    line,
                }),
                other => self.expected(doc, line, other),
            }
        }
        Some(texts)
    }

    /// A text that `check` accepts; else its message, or what the key expects.
    pub(super) fn checked<T>(
        &mut self,
        table: &Table<'d>,
        name: &str,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        let text = self.text(table, name)?;
        match check(&text.value) {
            Ok(value) => Some(At { value, line: text.line }),
            Err(why) => {
                self.wrong(table.section, name, text.line, &why);
                None
            }
        }
    }

    /// A list of texts that `check` accepts.
    pub(super) fn checked_list<T>(
        &mut self,
        table: &Table<'d>,
        name: &str,
        mut check: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Vec<At<T>>> {
        let mut values = Vec::new();
        for At { value, line } in self.texts(table, name)? {
            match check(&value) {
                Ok(value) => values.push(At { value, line }),
                Err(why) => self.wrong(table.section, name, line, &why),
            }
        }
        Some(values)
    }

    /// A port number.
    pub(super) fn port(&mut self, table: &Table<'d>, name: &str) -> Option<u16> {
        let (doc, value, line) = self.entry(table, name)?;
        let DeValue::Integer(number) = value.get_ref() else {
            self.expected(doc, line, value.get_ref());
            return None;
        };
        let port = u16::from_str_radix(number.as_str(), number.radix()).ok();
        if port.is_none() {
            let why = format!("{} is not a port; expected {}", shown(number.as_str()), doc.expects);
            self.wrong(doc.section, name, line, &why);
        }
        port
    }
}

/// A parser whose error already says what was expected.
pub(super) fn of<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// An IPv4 address that a host can have.
pub(super) fn host(text: &str) -> Result<Ipv4Addr, String> {
    let bad = || format!("`{}` is not an IPv4 address; write it like 192.168.77.1", shown(text));
    let address: Ipv4Addr = text.parse().map_err(|_| bad())?;
    if address.is_unspecified() || address.is_broadcast() || address.is_multicast() {
        return Err(format!("{address} is no host's address"));
    }
    Ok(address)
}

/// An absolute path.
pub(super) fn path(text: &str) -> Result<std::path::PathBuf, String> {
    if text.starts_with('/') && !text.contains('\0') {
        Ok(text.into())
    } else {
        Err(format!("`{}` is not an absolute path; write it from /", shown(text)))
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let near = nearest(text, words.iter().map(|(word, _)| *word));
            let hint = near
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            format!("`{}` is not one of {}{hint}", shown(text), all.join(", "))
        })
}

/// Text of a small alphabet, so that it is safe in every answer file.
pub(super) fn plain(text: &str, what: &str, example: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= 128
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'.' | b'@' | b','));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("`{}` is not {what}; write it like {example}", shown(text)))
    }
}
