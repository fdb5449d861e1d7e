//! Secrets that occur nowhere else, and the look for them in whatever leaves the server.

use cordwainer::install::{ArmId, ServerKey, Token, TokenKind};
use std::sync::OnceLock;

/// The root password hash of every world.
pub const HASH: &str = "$6$canarysalt$0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Armings of the worlds; each id begins with the word that the look begins with.
pub const ARMS: [&str; 3] = ["canary1", "canary2", "canary3"];

pub fn key() -> ServerKey {
    ServerKey::new([0x5a; 32])
}

pub fn token(arm: &str, kind: TokenKind) -> String {
    Token::derive(&key(), &ArmId(arm.into()), kind).reveal().to_owned()
}

/// What must not be seen, with its name.
pub fn secrets() -> &'static [(String, String)] {
    static SECRETS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let mut all = vec![("the password hash".to_owned(), HASH.to_owned())];
        for arm in ARMS {
            for (what, kind) in [("install", TokenKind::Install), ("report", TokenKind::Report)] {
                all.push((format!("the {what} token of {arm}"), token(arm, kind)));
            }
        }
        all
    })
}

/// The first secret that stands in `bytes`.
pub fn found(bytes: &[u8]) -> Option<&'static str> {
    // All of them hold this word, and hardly anything else does.
    if !holds(bytes, b"canary") {
        return None;
    }
    secrets()
        .iter()
        .find(|(_, secret)| holds(bytes, secret.as_bytes()))
        .map(|(what, _)| what.as_str())
}

pub fn holds(bytes: &[u8], what: &[u8]) -> bool {
    let Some((first, rest)) = what.split_first() else {
        return true;
    };
    let mut from = bytes;
    while let Some(at) = from.iter().position(|byte| byte == first) {
        from = &from[at + 1..];
        if from.starts_with(rest) {
            return true;
        }
    }
    false
}

/// Stops when a secret stands in `bytes`.
pub fn must_not_sing(bytes: &[u8], place: &str) {
    if let Some(what) = found(bytes) {
        panic!("{what} stands in {place}: {}", bytes.escape_ascii());
    }
}
