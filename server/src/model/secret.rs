//! A value that never shows itself: not in `Debug`, `Display`, logs, exports or XML-RPC.

use serde::Deserialize;
use std::fmt;

/// Wraps what must never be printed. Only [`Secret::reveal`] gives it out, so every leak is greppable.
///
/// `Serialize` is *not* implemented: a struct that holds one cannot be exported by accident. The store writes it through
/// [`Secret::reveal`] on purpose.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Takes a value into hiding.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Call it only where the value is used, never where it could be printed.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_prints() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "(secret) (secret) Some((secret))"
        );
    }
}
