//! One file that holds the whole state: both databases as they are at one moment each, and the server key.
//!
//! The file is an SQLite archive (`sqlite3 FILE -A --list` shows it, `-Ax` unpacks it) with a SHA-256 of each part: it is written in one
//! transaction, so a torn one is known as such, and it needs neither a folder nor another format. It holds the key, so it is 0600.
//!
//! A restore never arms: armings of back then are withdrawn and named, or a machine installed since would be wiped.

#![expect(clippy::disallowed_methods, reason = "writes and reads backup files")]

use super::clock::dated;
use super::database::{self, copy, names, set_aside};
use super::folder::{sync, write_into};
use super::{Folder, InventoryDb, LiveDb, Migrated, StateLock, StoreError, inventory_db, key};
use crate::model::{Name, Timestamp};
use rusqlite::{Connection, OpenFlags, params};
use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Tells our archives from others.
const APPLICATION: i32 = 0x4377_6261;

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Systems that were armed in the backup; they are not any more.
    pub disarmed: Vec<Name>,
    /// Folder with the state that was there before.
    pub aside: PathBuf,
    /// Databases that an older Cordwainer had written.
    pub migrated: Vec<Migrated>,
}

/// Writes the whole state into the new file `target`, while daemon and CLI go on.
///
/// # Errors
/// When `target` exists, or something cannot be read or written; then there is no `target`.
pub fn backup(folder: &Folder, target: &Path, now: Timestamp) -> Result<(), StoreError> {
    // What is missing is made first: a backup of a new state is a state too.
    drop(InventoryDb::open(folder)?);
    drop(LiveDb::open_writer(folder)?);
    key::server_key(folder)?;
    let partial = beside(target, ".partial");
    if fs::symlink_metadata(target).is_ok() {
        return Err(StoreError::Exists(target.to_owned()));
    }
    let made = empty(&partial).map_err(|error| match error {
        // The name under which it grows is ours; what was asked for is the target.
        StoreError::Io { source, .. } => StoreError::io(target, "make the backup")(source),
        other => other,
    });
    let written = made
        .and_then(|()| write_parts(folder, &partial, now))
        .and_then(|()| fs::hard_link(&partial, target).map_err(StoreError::io(target, "make the backup")));
    let _ = fs::remove_file(&partial);
    written?;
    match target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync(parent),
        None => sync(Path::new(".")),
    }
}

fn write_parts(folder: &Folder, partial: &Path, now: Timestamp) -> Result<(), StoreError> {
    let sql = StoreError::sql(partial);
    let mut archive = Connection::open(partial).map_err(&sql)?;
    archive
        .pragma_update(None, "application_id", APPLICATION)
        .map_err(&sql)?;
    let transaction = archive.transaction().map_err(&sql)?;
    transaction
        .execute_batch(
            "CREATE TABLE sqlar (name TEXT PRIMARY KEY, mode INT, mtime INT, sz INT, data BLOB);
             CREATE TABLE sums (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL);",
        )
        .map_err(&sql)?;
    let put = |name: &str, bytes: &[u8]| -> Result<(), StoreError> {
        let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        transaction
            .execute(
                "INSERT INTO sqlar VALUES (?1, ?2, ?3, ?4, ?5)",
                params![name, 0o100_600, now.seconds(), size, bytes],
            )
            .and_then(|_| transaction.execute("INSERT INTO sums VALUES (?1, ?2)", params![name, digest(bytes)]))
            .map(|_| ())
            .map_err(&sql)
    };
    for (schema, _) in names() {
        let image = beside(partial, ".image");
        empty(&image)?;
        let bytes = database::open(folder, schema)
            .and_then(|connection| copy(&connection, &image))
            .and_then(|()| fs::read(&image).map_err(StoreError::io(&image, "read the copy")));
        let _ = fs::remove_file(&image);
        put(schema.file, &bytes?)?;
    }
    let key = folder.file(key::FILE);
    let bytes = {
        let _owner = folder.enter();
        fs::read(&key).map_err(StoreError::io(&key, "read the key"))?
    };
    put(key::FILE, &bytes)?;
    transaction.commit().map_err(&sql)?;
    archive.close().map_err(|(_, error)| sql(error))?;
    sync(partial)
}

/// The path with more at its end.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

/// Makes an empty file for the owner only; one left over from before goes.
fn empty(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(StoreError::io(path, "remove the left-over file")(error));
        }
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(StoreError::io(path, "make the file"))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts the state of a backup in the place of what is there, which is kept aside. Needs the state lock, so it refuses beside a daemon.
///
/// # Errors
/// When a daemon runs, or the backup is torn, newer, or no backup; then nothing was changed.
pub fn restore(folder: &Folder, source: &Path, now: Timestamp) -> Result<Restored, StoreError> {
    let lock = StateLock::take(folder)?;
    let parts = read_parts(source)?;
    let _owner = folder.enter();
    // Everything is judged under other names first; only then does the old state move.
    let fresh = folder.file(".restore");
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(StoreError::io(&fresh, "remove the left-over folder")(error));
        }
        _ => {}
    }
    make_folder(&fresh)?;
    let disarmed = unpack(&fresh, &parts)?;
    let aside = folder.file(&format!("before-restore-{}", dated(now)));
    make_folder(&aside)?;
    for name in names().flat_map(|(_, names)| names).chain([key::FILE.to_owned()]) {
        set_aside(folder, &name, &aside)?;
    }
    for (name, _) in &parts {
        let to = folder.file(name);
        fs::rename(fresh.join(name), &to).map_err(StoreError::io(&to, "put it in its place"))?;
    }
    fs::remove_dir_all(&fresh).map_err(StoreError::io(&fresh, "remove the folder"))?;
    sync(folder.path())?;
    let migrated = database::migrate(folder, &lock, now)?;
    Ok(Restored {
        disarmed,
        aside,
        migrated,
    })
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(StoreError::io(path, "make the folder"))
}

/// Writes the parts into `fresh`, judges them, and withdraws the armings.
fn unpack(fresh: &Path, parts: &[(String, Vec<u8>)]) -> Result<Vec<Name>, StoreError> {
    for (name, bytes) in parts {
        let path = fresh.join(name);
        empty(&path)?;
        write_into(&path, bytes)?;
    }
    let mut disarmed = Vec::new();
    for (schema, _) in names() {
        let path = fresh.join(schema.file);
        database::judge(&path, schema)?;
        if schema.file == inventory_db::SCHEMA.file {
            disarmed = inventory_db::disarm_all(&path)?;
        }
        sync(&path)?;
    }
    Ok(disarmed)
}

/// The parts of a backup, each as it was written.
fn read_parts(source: &Path) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let bad = |why: &str| StoreError::BadBackup {
        path: source.to_owned(),
        why: why.to_owned(),
    };
    fs::metadata(source).map_err(StoreError::io(source, "open the backup"))?;
    let unreadable = |error: rusqlite::Error| bad(&error.to_string());
    let archive = Connection::open_with_flags(
        source,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(unreadable)?;
    let application: i64 = archive
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(unreadable)?;
    if application != i64::from(APPLICATION) {
        return Err(bad("another program wrote it"));
    }
    let wanted: Vec<String> = names()
        .map(|(schema, _)| schema.file.to_owned())
        .chain([key::FILE.to_owned()])
        .collect();
    let mut parts = Vec::new();
    for name in wanted {
        let (bytes, sum): (Vec<u8>, String) = archive
            .query_row(
                "SELECT data, sha256 FROM sqlar JOIN sums USING (name) WHERE name = ?1",
                [&name],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .map_err(|error| bad(&format!("{name}: {error}")))?;
        if digest(&bytes) != sum {
            return Err(bad(&format!("{name} is damaged")));
        }
        parts.push((name, bytes));
    }
    Ok(parts)
}
