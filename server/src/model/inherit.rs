//! `<<inherit>>`: a field that takes its value from the nearest ancestor that has one.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A field's own value, or the wish to inherit it. In files and on the command line the wish is written `<<inherit>>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Inherit<T> {
    /// Take the nearest ancestor's.
    #[default]
    Inherit,
    /// This value.
    Set(T),
}

impl<T> Inherit<T> {
    /// Cobbler's spelling of the wish.
    pub const MARK: &'static str = "<<inherit>>";

    /// The own value, if there is one.
    pub const fn own(&self) -> Option<&T> {
        match self {
            Self::Inherit => None,
            Self::Set(value) => Some(value),
        }
    }

    /// True when the value comes from an ancestor.
    pub const fn is_inherited(&self) -> bool {
        matches!(self, Self::Inherit)
    }
}

impl<T: Serialize> Serialize for Inherit<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Inherit => serializer.serialize_str(Self::MARK),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Inherit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        enum Mark {
            #[serde(rename = "<<inherit>>")]
            Inherit,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<T> {
            Mark(Mark),
            Value(T),
        }
        match Either::deserialize(deserializer)? {
            Either::Mark(Mark::Inherit) => Ok(Self::Inherit),
            Either::Value(value) => Ok(Self::Set(value)),
        }
    }
}
