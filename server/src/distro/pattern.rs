//! The little language of signature files: `Debian version: {version} ({codename})` reads values out of a line or a path, and the same
//! text with the values known writes one.
//!
//! Pure. `{name}` takes what stands there, `*` passes over anything, a blank fits any run of blanks.

use super::detect::{Look, Source};
use std::collections::BTreeMap;

/// Values read so far, by name.
pub type Values = BTreeMap<String, String>;

/// Longest text that is matched, in characters; a longer one is cut.
const LONGEST: usize = 512;

/// Most paths that one pattern may stand for.
const MOST: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Is(char),
    Blank,
    Any,
    Value(String),
}

/// A pattern as read from a signature file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A brace that is not closed, or a value's name that is not made of letters, digits, dashes and underscores.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '{' => {
                    let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    let closed = text.matches('{').count() == text.matches('}').count();
                    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                    if !closed || name.is_empty() || !name.chars().all(named) {
                        return Err(format!("`{text}`: write {{name}} where a value stands"));
                    }
                    parts.push(Part::Value(name));
                }
                '*' => parts.push(Part::Any),
                c if c.is_whitespace() => {
                    if parts.last() != Some(&Part::Blank) {
                        parts.push(Part::Blank);
                    }
                }
                c => parts.push(Part::Is(c)),
            }
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The values that `text` gives, if the whole of it fits. A value in `known` must stand there as it is.
    #[must_use]
    pub fn read(&self, text: &str, known: &Values) -> Option<Values> {
        let text: Vec<char> = text.chars().take(LONGEST).collect();
        let mut parts = Vec::new();
        for part in &self.parts {
            match part {
                Part::Value(name) => match known.get(name) {
                    Some(value) => parts.extend(value.chars().map(Part::Is)),
                    None => parts.push(part.clone()),
                },
                part => parts.push(part.clone()),
            }
        }
        let mut failed = vec![
            false;
            parts
                .len()
                .saturating_add(1)
                .saturating_mul(text.len().saturating_add(1))
        ];
        let mut spans = Vec::new();
        if !fits(&parts, &text, 0, 0, &mut failed, &mut spans) {
            return None;
        }
        let mut values = known.clone();
        for (name, from, to) in spans {
            let value: String = text.iter().skip(from).take(to.saturating_sub(from)).collect();
            values.insert(name, value.trim().to_owned());
        }
        Some(values)
    }

    /// The text with `values` filled in; none when one is missing or a `*` is left.
    #[must_use]
    pub fn write(&self, values: &Values) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Is(c) => text.push(*c),
                Part::Blank => text.push(' '),
                Part::Any => return None,
                Part::Value(name) => text.push_str(values.get(name)?),
            }
        }
        Some(text)
    }

    /// Every path of `source` that fits, with the values that it gives, in order. `*` and unknown values stay within a component.
    #[must_use]
    pub fn find(&self, source: &dyn Source, known: &Values) -> Vec<(String, Values)> {
        let mut found = vec![(String::new(), known.clone())];
        let components: Vec<&str> = self.text.split('/').filter(|part| !part.is_empty()).collect();
        for component in components {
            let Ok(pattern) = Self::parse(component) else {
                return Vec::new();
            };
            let mut next = Vec::new();
            for (folder, values) in found {
                if let Some(paths) = pattern.write(&values) {
                    // A value may hold a path of its own (`dir`); it was found in this source, so it is clean.
                    next.push((join(&folder, &paths), values));
                    continue;
                }
                for entry in source.list(&folder).unwrap_or_default() {
                    if let Some(values) = pattern.read(&entry.name, &values) {
                        next.push((join(&folder, &entry.name), values));
                    }
                    if next.len() >= MOST {
                        break;
                    }
                }
            }
            found = next;
        }
        found.retain(|(path, _)| source.look(path) != Look::Missing);
        found
    }
}

fn join(folder: &str, name: &str) -> String {
    match (folder, name) {
        ("", name) => name.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, name) => format!("{folder}/{name}"),
    }
}

/// What a value may be made of, so that `{name} {version}` splits `Rocky Linux 9.4` before the number.
fn may_hold(name: &str, text: &[char]) -> bool {
    match name {
        "version" => {
            text.first().is_some_and(char::is_ascii_digit)
                && text.iter().all(|c| c.is_ascii_alphanumeric() || ".~+-_".contains(*c))
        }
        "arch" | "codename" => text.iter().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(*c)),
        _ => true,
    }
}

/// Depth-first with the shortest value first; what failed once is not tried again, so the cost stays below parts x length squared.
fn fits(
    parts: &[Part],
    text: &[char],
    part: usize,
    at: usize,
    failed: &mut [bool],
    spans: &mut Vec<(String, usize, usize)>,
) -> bool {
    let slot = part.saturating_mul(text.len().saturating_add(1)).saturating_add(at);
    if failed.get(slot).copied().unwrap_or(true) {
        return false;
    }
    let rest = text.get(at..).unwrap_or_default();
    let next = part.saturating_add(1);
    let done = match parts.get(part) {
        None => rest.is_empty(),
        Some(Part::Is(wanted)) => {
            rest.first() == Some(wanted) && fits(parts, text, next, at.saturating_add(1), failed, spans)
        }
        Some(Part::Blank) => {
            let blanks = rest.iter().take_while(|c| c.is_whitespace()).count();
            blanks > 0 && fits(parts, text, next, at.saturating_add(blanks), failed, spans)
        }
        Some(Part::Any) => (0..=rest.len()).any(|n| fits(parts, text, next, at.saturating_add(n), failed, spans)),
        Some(Part::Value(name)) => (1..=rest.len()).any(|n| {
            let to = at.saturating_add(n);
            let kept = spans.len();
            spans.push((name.clone(), at, to));
            let taken = rest.get(..n).unwrap_or_default();
            let good = may_hold(name, taken) && fits(parts, text, next, to, failed, spans);
            if !good {
                spans.truncate(kept);
            }
            good
        }),
    };
    if !done && let Some(slot) = failed.get_mut(slot) {
        *slot = true;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: &str, text: &str) -> Option<String> {
        let values = Pattern::parse(pattern).unwrap().read(text, &Values::new())?;
        let shown: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some(shown.join(" "))
    }

    #[test]
    fn values_are_read_where_they_stand() {
        for (pattern, text, wanted) in [
            (
                "Debian version: {version} ({codename})",
                "Debian version:  12 (bookworm)",
                Some("codename=bookworm version=12"),
            ),
            (
                "{name} {version}",
                "Rocky Linux 9.4",
                Some("name=Rocky Linux version=9.4"),
            ),
            ("{name} {version}", "Rocky Linux", None),
            (
                "Debian GNU/Linux {version} \"{codename}\" - * {arch} *",
                "Debian GNU/Linux 12.11.0 \"Bookworm\" - Official amd64 NETINST with firmware",
                Some("arch=amd64 codename=Bookworm version=12.11.0"),
            ),
            ("Fedora*", "Fedora", Some("")),
            ("Fedora*", "fedora", None),
        ] {
            assert_eq!(read(pattern, text).as_deref(), wanted, "{pattern} on {text}");
        }
    }

    #[test]
    fn hostile_text_costs_no_more_than_its_size() {
        let pattern = Pattern::parse("* {a} * {b} * {c} * {d}!").unwrap();
        assert_eq!(pattern.read(&"9 ".repeat(5000), &Values::new()), None);
    }

    #[test]
    fn what_is_known_is_written_and_must_match() {
        let known: Values = [("arch".to_owned(), "amd64".to_owned())].into();
        let pattern = Pattern::parse("debian-installer/{arch}/linux").unwrap();
        assert_eq!(pattern.write(&known).as_deref(), Some("debian-installer/amd64/linux"));
        assert_eq!(pattern.write(&Values::new()), None);
        assert_eq!(pattern.read("debian-installer/arm64/linux", &known), None);
        for bad in ["{", "a{b", "{}", "{a b}", "}x{"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }
}
