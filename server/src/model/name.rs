//! Names of objects and hosts. A `Name` is safe in a path, a log line, a boot script and a template; nothing else becomes one.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a distro, profile, system, template or interface: 1 to 128 of `A-Z a-z 0-9 . _ : + -`, not starting with `.`, `-` or `:`.
///
/// Cobbler's own rule is the same set without `+`; names of imported trees carry it (`g++`-style codenames).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A host name as RFC 1123 section 2.1 allows it, dots included, lower-cased.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Arc<str>);

/// The text is no name.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum BadName {
    /// Not fit as the name of an object.
    #[error(
        "`{0}` is not a name; use 1 to 128 letters, digits, dots, dashes, underscores, and start with a letter or digit"
    )]
    Name(String),
    /// Not fit as a host name.
    #[error(
        "`{0}` is not a host name; use labels of letters, digits and dashes, at most 63 each, joined by dots (RFC 1123)"
    )]
    Hostname(String),
    /// Too many folders above a template or snippet.
    #[error("a template or snippet lies at most five folders deep, and this path has {0} parts")]
    Deep(usize),
}

fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

impl Name {
    /// The text, as the admin wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let starts_well = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        let all_well = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'+' | b'-'));
        if starts_well && all_well && text.len() <= 128 && !text.contains("..") {
            Ok(Self(text.into()))
        } else {
            Err(BadName::Name(shown(text)))
        }
    }
}

impl Hostname {
    /// The whole name, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first label.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.split('.').next().unwrap_or("")
    }

    /// What follows the first dot, if anything does.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, domain)| domain)
    }
}

impl FromStr for Hostname {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !text.is_empty() && text.len() <= 253 && text.split('.').all(label) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(BadName::Hostname(shown(text)))
        }
    }
}

macro_rules! text_value {
    ($kind:ty) => {
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl AsRef<str> for $kind {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $kind {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}
text_value!(Name);
text_value!(Hostname);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_are_refused() {
        for text in ["", ".", "..", "../x", "a/b", "a b", "-x", "a\nb", "a..b", "a$b", "ü"] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        for text in ["web1", "rocky9.4-x86_64", "a:b", "_x"] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn host_names_follow_rfc_1123() {
        assert_eq!("Web1.Lab.Test".parse::<Hostname>().unwrap().as_str(), "web1.lab.test");
        for text in ["", "-a", "a-", "a..b", "a_b", "a b", "a;reboot"] {
            assert!(text.parse::<Hostname>().is_err(), "{text:?}");
        }
    }
}
