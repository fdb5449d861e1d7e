//! Cobbler's dictionaries: `k=v k2 k3="v with blanks"`, the same key twice for two values, `!key` to delete an inherited one.
//!
//! Order is kept: the last `console=` on a kernel command line is the one that counts.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The value of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DictValue {
    /// A bare key: `quiet`.
    Flag,
    /// `key=value`, once or several times.
    Values(Vec<String>),
    /// `!key`: removes what a parent set.
    Deleted,
}

/// An ordered dictionary as kernel options and template variables are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dict(Vec<(String, DictValue)>);

/// The text was no dictionary.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum BadDict {
    /// A quote was opened and never closed.
    #[error("a quote is not closed in `{0}`; write k=v k2=\"v with blanks\"")]
    Quote(String),
    /// A word without a key before its `=`.
    #[error("`{0}` has no key; write key=value, key, or !key to delete an inherited one")]
    NoKey(String),
    /// A key that could not be written down and read back.
    #[error("`{0}` has blanks, quotes or backslashes in its key; quote the value only: key=\"v with blanks\"")]
    Key(String),
    /// A control character, which would end a line of a boot script.
    #[error("control characters are not allowed in `{0}`")]
    Control(String),
}

impl Dict {
    /// No keys at all.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// True when there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values in the order written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &DictValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&DictValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The last value of `key`, when it has one.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            DictValue::Values(values) => values.last().map(String::as_str),
            DictValue::Flag | DictValue::Deleted => None,
        }
    }

    /// Sets `key`, in its old place if it had one.
    pub fn set(&mut self, key: &str, value: DictValue) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Takes `key` out; true when it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(name, _)| name != key);
        self.0.len() != before
    }

    /// Changes single keys, as `--in-place` does: a key of `other` replaces, `!key` deletes here.
    pub fn merge_in_place(&mut self, other: &Self) {
        for (key, value) in &other.0 {
            if *value == DictValue::Deleted {
                self.remove(key);
            } else {
                self.set(key, value.clone());
            }
        }
    }

    /// Lays a child's keys over this parent's: the child wins, `!key` deletes the parent's.
    pub fn overlay(&mut self, child: &Self) {
        self.merge_in_place(child);
    }

    fn add(&mut self, key: &str, value: &str) {
        if let Some((_, old)) = self.0.iter_mut().find(|(name, _)| name == key) {
            if let DictValue::Values(values) = old {
                values.push(value.to_owned());
            } else {
                *old = DictValue::Values(vec![value.to_owned()]);
            }
        } else {
            self.0.push((key.to_owned(), DictValue::Values(vec![value.to_owned()])));
        }
    }
}

/// Splits like a shell: what `separates` says separates, quotes join, a backslash takes the next character as it is.
pub(crate) fn words(text: &str, separates: fn(char) -> bool) -> Result<Vec<String>, BadDict> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut inside = false;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('"') | None, '\\') => {
                let next = chars.next();
                if next.is_some_and(char::is_control) {
                    return Err(BadDict::Control(text.escape_debug().take(80).collect()));
                }
                word.extend(next);
                inside = true;
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                inside = true;
            }
            (None, c) if separates(c) => {
                if std::mem::take(&mut inside) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, c) if c.is_control() => return Err(BadDict::Control(text.escape_debug().take(80).collect())),
            (_, c) => {
                word.push(c);
                inside = true;
            }
        }
    }
    if quote.is_some() {
        return Err(BadDict::Quote(text.chars().take(80).collect()));
    }
    if inside {
        words.push(word);
    }
    Ok(words)
}

/// True for a key that needs no quotes.
fn is_plain(key: &str) -> bool {
    !key.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\'))
}

impl FromStr for Dict {
    type Err = BadDict;

    fn from_str(text: &str) -> Result<Self, BadDict> {
        let mut dict = Self::new();
        for word in words(text, char::is_whitespace)? {
            match word.split_once('=') {
                Some(("", _)) => return Err(BadDict::NoKey(word)),
                Some((key, _)) if !is_plain(key) => return Err(BadDict::Key(word)),
                Some((key, value)) => dict.add(key, value),
                None => match word.strip_prefix('!') {
                    Some("") => return Err(BadDict::NoKey(word)),
                    Some(key) if !is_plain(key) => return Err(BadDict::Key(word)),
                    Some(key) => dict.set(key, DictValue::Deleted),
                    None => dict.set(&word, DictValue::Flag),
                },
            }
        }
        Ok(dict)
    }
}

/// `text` as one word that [`words`] reads back.
pub(crate) fn quoted(text: &str, separates: fn(char) -> bool) -> String {
    if text.contains(|c: char| separates(c) || matches!(c, '"' | '\'' | '\\')) || text.is_empty() {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text.to_owned()
    }
}

/// As it would be written on a command line; parses back to the same dictionary.
impl fmt::Display for Dict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for (key, value) in &self.0 {
            match value {
                DictValue::Flag => write!(f, "{gap}{}", quoted(key, char::is_whitespace))?,
                DictValue::Deleted => write!(f, "{gap}!{key}")?,
                DictValue::Values(values) => {
                    for value in values {
                        let value = if value.is_empty() {
                            String::new()
                        } else {
                            quoted(value, char::is_whitespace)
                        };
                        write!(f, "{gap}{key}={value}")?;
                        gap = " ";
                    }
                }
            }
            gap = " ";
        }
        Ok(())
    }
}

impl Serialize for Dict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Dict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_what_it_read() {
        for text in [
            "",
            "quiet",
            "console=tty0 console=ttyS0,115200 quiet",
            "a=\"b c\" !d",
            "empty=",
            "a=b=c",
        ] {
            let dict: Dict = text.parse().unwrap();
            assert_eq!(dict.to_string(), text);
        }
    }

    #[test]
    fn the_child_wins_and_deletes() {
        let mut parent: Dict = "a=1 b=2 quiet".parse().unwrap();
        parent.overlay(&"b=3 !quiet c".parse().unwrap());
        assert_eq!(parent.to_string(), "a=1 b=3 c");
    }

    #[test]
    fn broken_text_is_named() {
        assert!(matches!("a=\"b".parse::<Dict>(), Err(BadDict::Quote(_))));
        assert!(matches!("=b".parse::<Dict>(), Err(BadDict::NoKey(_))));
        assert!(matches!("!".parse::<Dict>(), Err(BadDict::NoKey(_))));
        assert!(matches!("'a\u{7}b'".parse::<Dict>(), Err(BadDict::Control(_))));
        assert!(matches!("a=b\\\nreboot".parse::<Dict>(), Err(BadDict::Control(_))));
        assert!(matches!("\"a b\"=c".parse::<Dict>(), Err(BadDict::Key(_))));
        assert!(matches!("\"!a b\"".parse::<Dict>(), Err(BadDict::Key(_))));
    }
}
