//! What is wished of a machine's power, in Cobbler's words.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// Switch it on.
    On,
    /// Cut its power.
    Off,
    /// Both, off first.
    Reboot,
    /// Only look.
    Status,
}

impl Power {
    /// `on`, `off`, `reboot` or `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Reboot => "reboot",
            Self::Status => "status",
        }
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Power {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::On, Self::Off, Self::Reboot, Self::Status]
            .into_iter()
            .find(|power| power.as_str() == text)
            .ok_or_else(|| "the power of a machine is switched on or off, by reboot, or asked for by status".to_owned())
    }
}
