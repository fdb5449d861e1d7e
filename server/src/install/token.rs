//! The two tokens of an arming: one opens the installation's files, one only reports. Derived, never stored.

use super::ArmId;
use crate::model::base32;
use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use std::fmt;

/// The server's key, from a 0600 file outside the databases. Never printed.
#[derive(Clone)]
pub struct ServerKey([u8; 32]);

impl ServerKey {
    /// Takes the bytes of the key file.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(server key)")
    }
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenKind {
    /// Open the answer files of one installation, from the bound address, until done.
    Install,
    /// Report stages and done, from any address.
    Report,
}

/// The arming's id, then 160 bits in lower-case base32 (32 characters of `a-z2-7`). The id finds the installation in a
/// snapshot of any size; the 160 bits prove the right.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(String);

/// Length of the part that proves.
const PROOF: usize = 32;

impl Token {
    /// The token of `kind` for an arming: HMAC-SHA256 of the key, so every render gives the same and nothing is stored.
    #[must_use]
    pub fn derive(key: &ServerKey, arm: &ArmId, kind: TokenKind) -> Self {
        let purpose: &[u8] = match kind {
            TokenKind::Install => b"install\0",
            TokenKind::Report => b"report\0",
        };
        let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(&key.0) else {
            // HMAC takes keys of every length; the type cannot say so. A token nobody can name refuses all.
            return Self(String::new());
        };
        hmac.update(purpose);
        hmac.update(arm.0.as_bytes());
        let digest = hmac.finalize().into_bytes();
        Self(format!("{}{}", arm.0, base32(digest.get(..20).unwrap_or(&[]))))
    }

    /// The arming that a token of a URL claims to belong to. Proves nothing: derive that arming's token and compare.
    #[must_use]
    pub fn claimed_arm(text: &str) -> Option<ArmId> {
        let at = text.len().checked_sub(PROOF)?;
        let (id, _) = text.split_at_checked(at)?;
        let well_formed = !id.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        well_formed.then(|| ArmId(id.to_owned()))
    }

    /// True when `text` is a token of either kind that this key made, for whatever arming, however long ago.
    #[must_use]
    pub fn is_genuine(key: &ServerKey, text: &str) -> bool {
        Self::claimed_arm(text).is_some_and(|arm| {
            [TokenKind::Install, TokenKind::Report]
                .into_iter()
                .any(|kind| Self::derive(key, &arm, kind).matches(text))
        })
    }

    /// The token as it stands in a URL. Never log it; see [`Token::hint`].
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The first characters of the token's own digest: enough to tell two apart in a log, useless to a thief.
    #[must_use]
    pub fn hint(&self) -> String {
        use sha2::Digest as _;
        let digest = Sha256::digest(self.0.as_bytes());
        base32(digest.get(..5).unwrap_or(&[]))
    }

    /// True when `text` is this token, compared in constant time.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        !self.0.is_empty()
            && self.0.len() == text.len()
            && self
                .0
                .bytes()
                .zip(text.bytes())
                .fold(0_u8, |seen, (a, b)| seen | (a ^ b))
                == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(token)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_arming_has_two_tokens_that_never_change() {
        let (key, arm) = (ServerKey::new([7; 32]), ArmId("a1".into()));
        let install = Token::derive(&key, &arm, TokenKind::Install);
        assert_eq!(install.reveal().len(), 34);
        assert_eq!(Token::claimed_arm(install.reveal()), Some(arm.clone()));
        assert_eq!(Token::claimed_arm("short"), None);
        assert!(install.matches(Token::derive(&key, &arm, TokenKind::Install).reveal()));
        assert!(!install.matches(Token::derive(&key, &arm, TokenKind::Report).reveal()));
        assert!(!install.matches(Token::derive(&ServerKey::new([8; 32]), &arm, TokenKind::Install).reveal()));
        assert!(!install.matches(""));
        assert!(
            Token::is_genuine(&key, install.reveal()) && !Token::is_genuine(&ServerKey::new([8; 32]), install.reveal())
        );
        assert!(!Token::is_genuine(&key, "x") && !Token::is_genuine(&key, &install.reveal().replace('a', "b")));
        assert_eq!(format!("{install:?} {key:?}"), "(token) (server key)");
    }

    #[test]
    fn base32_is_rfc_4648() {
        assert_eq!(base32(b"fooba"), "mzxw6ytb");
    }
}
