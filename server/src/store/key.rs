//! The server key: 32 random bytes in `server.key`, outside the databases, made once. Never printed, never in a database.

#![expect(clippy::disallowed_methods, reason = "reads and makes the key file")]

use super::StoreError;
use super::folder::{Folder, write_into};
use crate::install::ServerKey;
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
