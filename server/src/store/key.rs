//! The server key: 32 random bytes in `server.key`, outside the databases, made once. Never printed, never in a database; a fingerprint
//! of 32 bits in inventory.db tells one key from another and no more.

#![expect(clippy::disallowed_methods, reason = "reads and makes the key file")]

use super::StoreError;
use super::clock::dated;
use super::database::sum;
use super::folder::{Folder, write_into};
use crate::install::{ArmId, ServerKey, Token, TokenKind};
use crate::model::Timestamp;
use std::fs;

/// Name of the key file.
pub(super) const FILE: &str = "server.key";

/// The server's key; made at the first call.
///
/// # Errors
/// When it cannot be read or made, is somebody else's, or is not 32 bytes.
pub fn server_key(folder: &Folder) -> Result<ServerKey, StoreError> {
    let path = folder.file(FILE);
    let _owner = folder.enter();
    if !folder.has(FILE)? {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| StoreError::Io {
            path: path.clone(),
            doing: "get random bytes for the key",
            source: std::io::Error::other(error),
        })?;
        folder.make(FILE, |temporary| write_into(temporary, &bytes))?;
    }
    // Two first starts at once make one key: what is on disk counts.
    let bytes = fs::read(&path).map_err(StoreError::io(&path, "read the key"))?;
    let found = bytes.len();
    <[u8; 32]>::try_from(bytes)
        .map(ServerKey::new)
        .map_err(|_| StoreError::BadKey { path, found })
}

/// Looks whether the key is one, for `check`; none yet is well.
pub(super) fn look(folder: &Folder) -> Result<(), StoreError> {
    let _owner = folder.enter();
    let path = folder.file(FILE);
    if folder.has(FILE)? {
        let bytes = fs::read(&path).map_err(StoreError::io(&path, "read the key"))?;
        if bytes.len() != 32 {
            return Err(StoreError::BadKey {
                path,
                found: bytes.len(),
            });
        }
    }
    Ok(())
}

/// The server's key for a start: one of the wrong length is set aside, told, and made anew, because machines that wait for addresses
/// need no key.
pub(super) fn key_or_new(
    folder: &Folder,
    now: Timestamp,
    tell: &mut dyn FnMut(String),
) -> Result<ServerKey, StoreError> {
    let (path, found) = match server_key(folder) {
        Err(StoreError::BadKey { path, found }) => (path, found),
        other => return other,
    };
    let _owner = folder.enter();
    let aside = folder.file(&format!("{FILE}.bad-{}", dated(now)));
    fs::rename(&path, &aside).map_err(StoreError::io(&path, "move it aside"))?;
    tell(format!(
        "{} held {found} bytes instead of 32 and is kept as {}; a new key was made, so the tokens of installations that run open \
         nothing any more: arm those machines again",
        path.display(),
        aside.display()
    ));
    server_key(folder)
}

/// Tells one key from another.
pub(super) fn fingerprint(key: &ServerKey) -> i64 {
    // The token of an arming that there cannot be: an id has no hyphen.
    let token = Token::derive(key, &ArmId("finger-print".to_owned()), TokenKind::Report);
    i64::from(sum(&[token.reveal().as_bytes()]))
}
