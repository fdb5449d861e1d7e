//! The state lock: held by `serve`, and by what must not run beside it (migration, restore). Freed by the kernel when its holder dies.

#![expect(clippy::disallowed_methods, reason = "opens the lock file")]

use super::StoreError;
use super::folder::{Folder, write_into};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, OpenOptions};

/// Name of the lock file.
const FILE: &str = "state.lock";

/// Holds the state for this process until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _lock: Flock<fs::File>,
}

impl StateLock {
    /// Takes the lock, or says who has it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it.
    pub fn take(folder: &Folder) -> Result<Self, StoreError> {
        let path = folder.file(FILE);
        // Root must not be led by a link to write where only root may.
        let _owner = folder.enter();
        if !folder.has(FILE)? {
            folder.make(FILE, |_| Ok(()))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(StoreError::io(&path, "open the state lock"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                // Only for the message that others get; the lock itself is the kernel's. A full disk has no room for it.
                if let Err(error) = write_into(&path, std::process::id().to_string().as_bytes()) {
                    tracing::debug!("{error}");
                }
                Ok(Self { _lock: lock })
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let holder = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                Err(StoreError::Locked { path, holder })
            }
            Err((_, errno)) => Err(StoreError::io(&path, "take the state lock")(errno.into())),
        }
    }
}
