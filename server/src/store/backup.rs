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
use super::{Folder, InventoryDb, LiveDb, Migrated, StateLock, StoreError, inventory_db, key, seen};
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
    for end in ["", "-journal"] {
        let _ = fs::remove_file(beside(&partial, end));
    }
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
        for end in ["", "-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(beside(&image, end));
        }
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
/// When a daemon runs, or the backup is torn, newer, or no backup, or the disk is full; then nothing was changed. A crash leaves the
/// state of before, or a restore that the next start or `state migrate` finishes.
pub fn restore(folder: &Folder, source: &Path, now: Timestamp) -> Result<Restored, StoreError> {
    let lock = StateLock::take(folder)?;
    let parts = read_parts(source)?;
    finish_restore(folder)?;
    // Everything is judged under other names first; only then does the old state move.
    let mut disarmed = Vec::new();
    let aside = replace(folder, "before-restore", now, |fresh| {
        disarmed = unpack(fresh, &parts)?;
        Ok(())
    })?;
    let migrated = database::migrate(folder, &lock, now)?;
    Ok(Restored {
        disarmed,
        aside,
        migrated,
    })
}

/// Files that take the place of the state's as soon as this folder is there.
const READY: &str = ".replace";
/// The same while it is filled.
const STAGING: &str = ".restore";
/// In that folder: the name of the folder that takes what was there before.
const ASIDE: &str = "aside";

/// Replaces files of the state, all or none, whatever crashes: `fill` writes them into a folder, its rename is the moment that counts,
/// and [`finish_restore`] does the rest as often as it takes. What was there is kept in the folder that is returned.
pub(super) fn replace(
    folder: &Folder,
    kept: &str,
    now: Timestamp,
    fill: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<PathBuf, StoreError> {
    let _owner = folder.enter();
    let fresh = folder.file(STAGING);
    remove_folder(&fresh)?;
    make_folder(&fresh)?;
    let name = (0_u32..)
        .map(|number| match number {
            0 => format!("{kept}-{}", dated(now)),
            number => format!("{kept}-{}.{number}", dated(now)),
        })
        .find(|name| fs::symlink_metadata(folder.file(name)).is_err())
        .unwrap_or_default();
    let filled = fill(&fresh).and_then(|()| {
        let note = fresh.join(ASIDE);
        empty(&note)?;
        write_into(&note, name.as_bytes())?;
        sync(&note)?;
        sync(&fresh)?;
        let ready = folder.file(READY);
        fs::rename(&fresh, &ready).map_err(StoreError::io(&ready, "put it in its place"))
    });
    if let Err(error) = filled {
        // A full disk needs the room back.
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    sync(folder.path())
        .and_then(|()| finish_restore(folder))
        .map_err(|error| StoreError::Unfinished {
            path: folder.path().to_owned(),
            why: error.to_string(),
        })?;
    Ok(folder.file(&name))
}

/// Finishes a replacement that a crash interrupted; true when there was one.
pub(super) fn finish_restore(folder: &Folder) -> Result<bool, StoreError> {
    let _owner = folder.enter();
    let ready = folder.file(READY);
    if fs::symlink_metadata(&ready).is_err() {
        return Ok(false);
    }
    let note = ready.join(ASIDE);
    // Without the note everything is in its place already: it goes last.
    if let Some(name) = note_of(&note)? {
        let aside = folder.file(&name);
        match make_folder(&aside) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
        for (part, files) in parts() {
            let fresh = ready.join(&part);
            if fs::symlink_metadata(&fresh).is_err() {
                continue;
            }
            for file in files {
                set_aside(folder, &file, &aside)?;
            }
            let to = folder.file(&part);
            fs::rename(&fresh, &to).map_err(StoreError::io(&to, "put it in its place"))?;
        }
        sync(&aside)?;
        sync(folder.path())?;
        fs::remove_file(&note).map_err(StoreError::io(&note, "remove the note"))?;
    }
    remove_folder(&ready)?;
    sync(folder.path())?;
    Ok(true)
}

fn note_of(note: &Path) -> Result<Option<String>, StoreError> {
    match fs::read_to_string(note) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Ok(name) if !name.is_empty() && !name.starts_with('.') && !name.contains('/') => Ok(Some(name)),
        Ok(_) => Err(StoreError::io(note, "make sense of the note")(
            ErrorKind::InvalidData.into(),
        )),
        Err(error) => Err(StoreError::io(note, "read the note")(error)),
    }
}

/// Refuses to open a database while its replacement is half-way: it would be made anew, and empty.
pub(super) fn refuse_half_restored(folder: &Folder) -> Result<(), StoreError> {
    let ready = folder.file(READY);
    match fs::symlink_metadata(&ready) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        _ => Err(StoreError::HalfRestored(folder.path().to_owned())),
    }
}

/// What a backup consists of, each with the files that go with it.
fn parts() -> impl Iterator<Item = (String, Vec<String>)> {
    names()
        .map(|(schema, files)| {
            let mut files = files.to_vec();
            if schema.file == inventory_db::SCHEMA.file {
                // What it tells is of the file that goes.
                files.push(seen::FILE.to_owned());
            }
            (schema.file.to_owned(), files)
        })
        .chain([(key::FILE.to_owned(), vec![key::FILE.to_owned()])])
}

fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io(path, "remove the left-over folder")(error))
        }
        _ => Ok(()),
    }
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
        sync(&path)?;
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
    let mut found = Vec::new();
    for (name, _) in parts() {
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
        found.push((name, bytes));
    }
    Ok(found)
}
