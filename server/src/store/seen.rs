//! `inventory.seen`: the latest version that inventory.db ever held. A file that holds less lost its log.
//!
//! Written after each commit without waiting for the disk: a power cut may leave it behind the truth, never ahead of it. Never an error,
//! for nothing hangs on it but a warning.

#![expect(clippy::disallowed_methods, reason = "keeps one file of the state folder")]

use super::Folder;
use super::database::sum;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

/// Name of the file.
pub(super) const FILE: &str = "inventory.seen";

/// Notes that `version` was stored.
pub(super) fn note(folder: &Folder, version: u64) {
    let _owner = folder.enter();
    let noted = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.file(FILE))
        .and_then(|file| file.write_all_at(line(version).as_bytes(), 0));
    if let Err(error) = noted {
        tracing::debug!("{FILE}: {error}");
    }
}

/// The latest version that was noted; none when that cannot be read.
pub(super) fn latest(folder: &Folder) -> Option<u64> {
    let _owner = folder.enter();
    let text = fs::read_to_string(folder.file(FILE)).ok()?;
    let version = text.split(' ').next()?.parse().ok()?;
    (line(version) == text).then_some(version)
}

fn line(version: u64) -> String {
    let digits = format!("{version:020}");
    format!("{digits} {:08x}\n", sum(&[digits.as_bytes()]))
}
