//! Faults in the form that Cobbler gives them: the Python class of the error, a colon, its text. Scripts look for words in them.
//!
//! Pure. A fault never carries a path, a secret, or what stood in a call beyond a name.

use crate::inventory::Refused;

/// Why a call was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    /// Cobbler's own kind of error.
    #[must_use]
    pub fn cx(said: &str) -> Self {
        let quote = if said.contains('\'') { '"' } else { '\'' };
        Self(format!("<class 'cobbler.cexceptions.CX'>:{quote}{said}{quote}"))
    }

    /// No such method, or none that is answered here.
    #[must_use]
    pub fn no_method(name: &str) -> Self {
        let shown: String = name.chars().take(64).filter(|c| !c.is_control()).collect();
        Self(format!("<class 'Exception'>:method \"{shown}\" is not supported"))
    }

    /// An argument is missing or has another type than is needed.
    #[must_use]
    pub fn argument(said: &str) -> Self {
        Self(format!("<class 'TypeError'>:{said}"))
    }

    /// The token opens nothing.
    #[must_use]
    pub fn token() -> Self {
        Self::cx("invalid token")
    }

    /// The text.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.0
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::cx(&refused.to_string())
    }
}
