//! Why state could not be read or written, and what to do about it. Never a value from a row.

use crate::inventory::Refused;
use rusqlite::{ErrorCode, ffi};
use std::path::{Path, PathBuf};

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{}: cannot {doing}: {source}{}", .path.display(), remedy_of(.source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// A file of the state folder belongs to somebody else, or is no plain file.
    #[error("{} {what}; the state folder belongs to uid {expected}: chown it, or move it away", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// `belongs to uid 0`, `is a symbolic link`, ...
        what: String,
        /// Owner of the folder.
        expected: u32,
    },
    /// Others may write into the state folder.
    #[error("{} has mode {mode:04o}, so others could replace the state; chmod 0700 it", .path.display())]
    OpenFolder {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A database of something else.
    #[error("{} is not a database of Cordwainer; move it away, or `cordwainer restore FILE` a backup", .path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{} is damaged ({why}); `cordwainer restore FILE` puts a backup in its place and keeps the damaged file aside", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// One row is damaged.
    #[error("{}: {row} is damaged ({why}); `cordwainer restore FILE` puts a backup in its place", .path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// `system web1`.
        row: String,
        /// What is wrong, without the row's content.
        why: String,
    },
    /// A newer Cordwainer wrote it.
    #[error("{} has schema {found}, this Cordwainer knows up to {known}; it is left as it is: upgrade Cordwainer", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// An older Cordwainer wrote it.
    #[error("{} has schema {found}, this Cordwainer uses {known}; `cordwainer state migrate` (or a start of `cordwainer serve`) brings it up to date after a backup", .path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Somebody holds the state lock.
    #[error("{} is held{}; stop the daemon first (systemctl stop cordwainer)", .path.display(), .holder.as_ref().map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The holder's process id, when it said so.
        holder: Option<u32>,
    },
    /// Another process is writing for too long.
    #[error("{} is being written by another process; try again", .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// No space.
    #[error("{}: the disk is full; free space, nothing was changed", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// SQLite could not make or grow a file of its own.
    #[error("{}: a file beside it cannot be written or grown: is the disk full (df {})? nothing was changed", .path.display(), .path.display())]
    NoRoom {
        /// The database.
        path: PathBuf,
    },
    /// The file was replaced or removed while it was open here.
    #[error("{} was moved or removed while it was in use, so what is written to it now is lost; put it back or `cordwainer restore FILE`, then restart the daemon (systemctl restart cordwainer)", .path.display())]
    Moved {
        /// The database.
        path: PathBuf,
    },
    /// The system failed in opening, reading or writing.
    #[error("{}: the system refuses ({why}); look at its mode and owner, for errors of the disk in `dmesg`, for a quota, and for a limit of file sizes (ulimit -f)", .path.display())]
    Disk {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// The file system does not let it be written.
    #[error("{}: it or its file system is read-only; mount it writable (a disk with errors is made read-only: see `dmesg`)", .path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// A restore was cut off by a crash; what it puts in place is complete.
    #[error("{}: a restore was interrupted; `cordwainer state migrate` (or a start of `cordwainer serve`) finishes it, `cordwainer restore FILE` begins anew", .0.display())]
    HalfRestored(PathBuf),
    /// The disk failed after the moment from which a restore counts.
    #[error("{}: the restore is not finished ({why}); `cordwainer state migrate` (or a start of `cordwainer serve`) finishes it as soon as the disk lets it", .path.display())]
    Unfinished {
        /// The state folder.
        path: PathBuf,
        /// What failed.
        why: String,
    },
    /// The backup would overwrite something.
    #[error("{} exists; a backup overwrites nothing: choose another name", .0.display())]
    Exists(PathBuf),
    /// The key file is not 32 bytes.
    #[error("{} holds {found} bytes instead of 32; restore it from a backup, or remove it: a new one is made, and running installations end", .path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: usize,
    },
    /// The file is no whole backup.
    #[error("{} is not a whole backup: {why}", .path.display())]
    BadBackup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// SQLite failed in another way.
    #[error("{}: {why}; if it goes on, `cordwainer restore FILE` puts a backup in its place", .path.display())]
    Sql {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// The change was refused; nothing is wrong with the store.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Result codes of SQLite for a file beside the database that could not be written or made larger.
const NO_ROOM: [std::ffi::c_int; 3] = [
    ffi::SQLITE_IOERR_SHMOPEN,
    ffi::SQLITE_IOERR_SHMSIZE,
    ffi::SQLITE_IOERR_SHMMAP,
];

/// What to do, where the cause tells.
fn remedy_of(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => "; run it as root, or as the owner of that folder",
        std::io::ErrorKind::StorageFull => "; free space on that disk",
        std::io::ErrorKind::ReadOnlyFilesystem => "; choose a place that can be written, or mount it writable",
        std::io::ErrorKind::NotFound => "; check the path",
        _ => "",
    }
}

impl StoreError {
    /// What the operating system said while something was tried with `path`.
    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, doing, source }
    }

    /// True when the file itself is at fault, and no disk, lock or other version of this program.
    pub(super) const fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::NotOurs { .. } | Self::Sql { .. })
    }

    /// True when it passes as soon as the disk has room, or can be written again.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoRoom { .. } | Self::ReadOnly { .. } | Self::Disk { .. } | Self::Busy { .. } => {
                true
            }
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    std::io::ErrorKind::StorageFull
                        | std::io::ErrorKind::ReadOnlyFilesystem
                        | std::io::ErrorKind::QuotaExceeded
                        | std::io::ErrorKind::FileTooLarge
                ) || source.raw_os_error().map(nix::errno::Errno::from_raw) == Some(nix::errno::Errno::EIO)
            }
            _ => false,
        }
    }

    /// What SQLite said of `path`.
    pub(super) fn sql(path: &Path) -> impl Fn(rusqlite::Error) -> Self + '_ {
        move |error| {
            let path = path.to_owned();
            match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt {
                    path,
                    why: error.to_string(),
                },
                // Nothing of ours comes near that size.
                Some(ErrorCode::TooBig) => Self::Corrupt {
                    path,
                    why: "it names a row of impossible size".to_owned(),
                },
                Some(ErrorCode::NotADatabase) => Self::Corrupt {
                    path,
                    why: "it is not a database".to_owned(),
                },
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
                Some(ErrorCode::DiskFull) => Self::Full { path },
                Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
                // Even a reader needs a little room: SQLite keeps an index of the log beside the file.
                _ if error
                    .sqlite_error()
                    .is_some_and(|error| NO_ROOM.contains(&error.extended_code)) =>
                {
                    Self::NoRoom { path }
                }
                Some(
                    ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::PermissionDenied
                    | ErrorCode::OutOfMemory
                    | ErrorCode::FileLockingProtocolFailed,
                ) => Self::Disk {
                    path,
                    why: error.to_string(),
                },
                _ => Self::Sql {
                    path,
                    why: error.to_string(),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_for_the_log_is_named_as_such() {
        for code in NO_ROOM {
            let failed = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let said = StoreError::sql(Path::new("/s/inventory.db"))(failed).to_string();
            assert!(said.contains("disk full"), "{code}: {said}");
        }
    }
}
