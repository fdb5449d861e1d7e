//! The values of XML-RPC (xmlrpc.com/spec), as Python's `xmlrpc.client` writes and reads them. Pure.

use std::collections::BTreeMap;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `<nil/>`.
    Nil,
    /// `<boolean>`.
    Bool(bool),
    /// `<int>`, `<i4>`, `<i8>`.
    Int(i64),
    /// `<double>`.
    Double(f64),
    /// `<string>`, or text without a type.
    Text(String),
    /// `<dateTime.iso8601>`, as written.
    Time(String),
    /// `<base64>`.
    Bytes(Vec<u8>),
    /// `<array>`.
    Array(Vec<Self>),
    /// `<struct>`. A name that came twice has its last value.
    Struct(BTreeMap<String, Self>),
}

impl Value {
    /// The text of a string.
    #[must_use]
    pub const fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The members of a struct.
    #[must_use]
    pub const fn members(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Struct(members) => Some(members),
            _ => None,
        }
    }

    /// Whether Python would call it true.
    #[must_use]
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Double(value) => *value != 0.0,
            Self::Text(text) | Self::Time(text) => !text.is_empty(),
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::Array(items) => !items.is_empty(),
            Self::Struct(members) => !members.is_empty(),
        }
    }

    /// A whole number; text that is one counts, as scripts send ports and pages in both ways.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some(i64::from(*value)),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl<T: Into<Self>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

/// A struct from its members.
#[must_use]
pub fn members<K: Into<String>>(all: impl IntoIterator<Item = (K, Value)>) -> Value {
    Value::Struct(all.into_iter().map(|(name, value)| (name.into(), value)).collect())
}
