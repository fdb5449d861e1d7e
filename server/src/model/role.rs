//! What a user of the network faces may do.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Reader,
    /// Look, change, and arm.
    Admin,
}

impl Role {
    /// `reader` or `admin`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "reader" => Ok(Self::Reader),
            "admin" => Ok(Self::Admin),
            _ => Err("a role is reader or admin".to_owned()),
        }
    }
}

/// How a user stands: his role, and a number that changes with his password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What he may do.
    pub role: Role,
    /// Changes whenever his password does.
    pub stamp: i64,
}
