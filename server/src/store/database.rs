//! Opening a database of ours: made whole or not at all, schemas moved by numbered steps only, durable settings on every connection.
//!
//! Never rewrites a schema that is newer than it knows, and never migrates without a dated copy beside it.

use super::clock::dated;
use super::folder::{Folder, sync};
use super::{StateLock, StoreError, backup as archive};
use crate::model::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, backup};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a writer waits for another one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pages of WAL after which a commit checkpoints by itself. Whoever is idle does it earlier, aside.
const WAL_PAGES: u32 = 8000;

/// One of our databases.
#[derive(Debug)]
pub(super) struct Schema {
    /// Name in the state folder.
    pub(super) file: &'static str,
    /// SQLite's `application_id`, which tells our files from others.
    pub(super) application: i32,
    /// Bytes of a page, of a file that is made anew. Each transaction writes every page that it touches whole.
    pub(super) page: u32,
    /// Step n leads from schema n to n + 1. A step that was released is never changed.
    pub(super) steps: &'static [&'static str],
}

impl Schema {
    /// The schema that this program uses.
    fn known(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }
}

/// A schema that was brought up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The database.
    pub file: PathBuf,
    /// Its schema before.
    pub from: u32,
    /// Its schema now.
    pub to: u32,
    /// The copy of before.
    pub copy: PathBuf,
}

fn all() -> [&'static Schema; 2] {
    [&super::inventory_db::SCHEMA, &super::live_db::SCHEMA]
}

/// Opens the database for reading and writing; makes it when it is not there.
pub(super) fn open(folder: &Folder, schema: &Schema) -> Result<Connection, StoreError> {
    let _owner = folder.enter();
    archive::refuse_half_restored(folder)?;
    if !folder.has(schema.file)? {
        folder.make(schema.file, |temporary| create(temporary, schema))?;
    }
    for companion in ["-wal", "-shm"] {
        folder.has(&format!("{}{companion}", schema.file))?;
    }
    let path = folder.file(schema.file);
    let connection = connect(&path)?;
    let found = schema_of(&connection, &path, schema)?;
    let known = schema.known();
    if found == 0 {
        return Err(no_schema(&path));
    }
    if found < known {
        return Err(StoreError::Older { path, found, known });
    }
    Ok(connection)
}

/// Ours are made with their schema in one step, so only damage takes it away.
fn no_schema(path: &Path) -> StoreError {
    StoreError::Corrupt {
        path: path.to_owned(),
        why: "its header names no schema".to_owned(),
    }
}

/// Connects, with durable settings. Reads once, so that what SQLite makes beside the file is made now, by the folder's owner.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    open().map_err(StoreError::sql(path))
}

/// The schema of an open database, refused when it is not ours or newer.
fn schema_of(connection: &Connection, path: &Path, schema: &Schema) -> Result<u32, StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = pragma("application_id").map_err(StoreError::sql(path))?;
    let found = pragma("user_version").map_err(StoreError::sql(path))?;
    if application != i64::from(schema.application) {
        return Err(StoreError::NotOurs { path: path.to_owned() });
    }
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    let known = schema.known();
    if found > known {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok(found)
}

/// Makes a new database in the empty file `path`.
fn create(path: &Path, schema: &Schema) -> Result<(), StoreError> {
    let make = || -> rusqlite::Result<()> {
        let mut connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW,
        )?;
        connection.pragma_update(None, "page_size", schema.page)?;
        connection.pragma_update(None, "application_id", schema.application)?;
        advance(&mut connection, schema, 0)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Closing moves everything into the one file and takes the WAL away.
        connection.close().map_err(|(_, error)| error)
    };
    make().map_err(StoreError::sql(path))
}

/// Runs the steps from schema `from` on, all or none.
fn advance(connection: &mut Connection, schema: &Schema, from: u32) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in schema.steps.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", schema.known())?;
    transaction.commit()
}

/// Brings every database of the folder to the schema of this program, each after a dated copy. Not beside a running daemon, which the
/// lock proves.
///
/// # Errors
/// When one is newer, damaged, or cannot be written; those before it stay migrated.
pub fn migrate(folder: &Folder, _lock: &StateLock, now: Timestamp) -> Result<Vec<Migrated>, StoreError> {
    archive::finish_restore(folder)?;
    let mut done = Vec::new();
    for schema in all() {
        done.extend(migrate_one(folder, schema, now)?);
    }
    Ok(done)
}

/// The same for a start, which mends a damaged live.db later.
pub(super) fn migrate_leniently(
    folder: &Folder,
    _lock: &StateLock,
    now: Timestamp,
) -> Result<Vec<Migrated>, StoreError> {
    let mut done = Vec::new();
    for schema in all() {
        match migrate_one(folder, schema, now) {
            Err(error) if error.is_damage() && schema.file == super::live_db::SCHEMA.file => {}
            other => done.extend(other?),
        }
    }
    Ok(done)
}

fn migrate_one(folder: &Folder, schema: &Schema, now: Timestamp) -> Result<Option<Migrated>, StoreError> {
    if !folder.has(schema.file)? {
        return Ok(None);
    }
    let _owner = folder.enter();
    let path = folder.file(schema.file);
    let mut connection = connect(&path)?;
    let from = schema_of(&connection, &path, schema)?;
    if from == 0 {
        return Err(no_schema(&path));
    }
    let to = schema.known();
    if from == to {
        return Ok(None);
    }
    let copy_name = format!("{}.schema{from}-{}", schema.file, dated(now));
    folder.make(&copy_name, |temporary| copy(&connection, temporary))?;
    advance(&mut connection, schema, from).map_err(StoreError::sql(&path))?;
    Ok(Some(Migrated {
        file: path,
        from,
        to,
        copy: folder.file(&copy_name),
    }))
}

/// Copies a database, as it is at one moment, into the file `target`.
pub(super) fn copy(from: &Connection, target: &Path) -> Result<(), StoreError> {
    let copied = || -> rusqlite::Result<()> {
        let mut to = Connection::open_with_flags(
            target,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW,
        )?;
        // All pages in one step: writers that come between steps would make it start anew for ever.
        backup::Backup::new(from, &mut to)?.step(-1)?;
        to.close().map_err(|(_, error)| error)
    };
    copied().map_err(StoreError::sql(target))?;
    sync(target)
}

/// Judges a database file that is to become ours: schema, application and every page.
pub(super) fn judge(path: &Path, schema: &Schema) -> Result<(), StoreError> {
    let connection = connect(path)?;
    schema_of(&connection, path, schema)?;
    whole(&connection, path)?;
    connection.close().map_err(|(_, error)| StoreError::sql(path)(error))
}

pub(super) fn whole(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let said: String = connection
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(StoreError::sql(path))?;
    if said == "ok" {
        Ok(())
    } else {
        Err(StoreError::Corrupt {
            path: path.to_owned(),
            why: said.lines().next().unwrap_or("").to_owned(),
        })
    }
}

/// Reads every page and every row of every database of the folder.
///
/// # Errors
/// The first that is damaged, foreign, newer or older.
pub fn verify(folder: &Folder) -> Result<(), StoreError> {
    for schema in all() {
        if folder.has(schema.file)? {
            whole(&open(folder, schema)?, &folder.file(schema.file))?;
        }
    }
    Ok(())
}

/// Everything that is wrong with what is stored, for `check`: damaged files and rows, and what earlier starts set aside. What is not
/// there yet is not wrong.
///
/// # Errors
/// When the folder cannot be listed.
pub fn audit(folder: &Folder) -> Result<Vec<String>, StoreError> {
    let mut problems = Vec::new();
    if let Err(error) = archive::refuse_half_restored(folder) {
        return Ok(vec![error.to_string()]);
    }
    for schema in all() {
        let path = folder.file(schema.file);
        let looked = folder.has(schema.file).and_then(|there| {
            if !there {
                return Ok(Vec::new());
            }
            whole(&open(folder, schema)?, &path)?;
            if schema.file == super::live_db::SCHEMA.file {
                Ok(super::LiveDb::open_reader(folder)?.load()?.damaged)
            } else {
                let mut db = super::InventoryDb::open(folder)?.leaving_out_damaged();
                db.load()?;
                Ok(db.take_damaged())
            }
        });
        match looked {
            Ok(rows) => problems.extend(rows.into_iter().map(|row| {
                format!(
                    "{}: {row} is damaged and left out; `cordwainer restore FILE` brings back an older state",
                    path.display()
                )
            })),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if let Err(error) = super::key::look(folder) {
        problems.push(error.to_string());
    }
    for name in folder.names()? {
        if name.starts_with("damaged-") || name.starts_with("server.key.bad-") {
            problems.push(format!(
                "{} was set aside as damaged; a restart went on with what could be saved of it. When nothing more is wanted of it, \
                 remove it",
                folder.file(&name).display()
            ));
        }
    }
    Ok(problems)
}

/// The CRC-32 of one row, kept beside it: SQLite has no checksums of its own, and a flipped bit must not become another machine's MAC.
pub(super) fn sum(parts: &[&[u8]]) -> u32 {
    let mut crc = flate2::Crc::new();
    for part in parts {
        crc.update(part);
        crc.update(&[0]);
    }
    crc.sum()
}

/// Moves a file of the folder to `aside`.
pub(super) fn set_aside(folder: &Folder, name: &str, aside: &Path) -> Result<(), StoreError> {
    let from = folder.file(name);
    match fs::rename(&from, aside.join(name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(StoreError::io(&from, "move it aside")),
    }
}

/// The names of our databases with what SQLite keeps beside them.
pub(super) fn names() -> impl Iterator<Item = (&'static Schema, [String; 3])> {
    all().into_iter().map(|schema| {
        let file = schema.file;
        (schema, [file.to_owned(), format!("{file}-wal"), format!("{file}-shm")])
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests look at the files")]
mod tests {
    use super::*;

    const OLD: Schema = Schema {
        file: "t.db",
        application: 7,
        page: 4096,
        steps: &["CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1);"],
    };
    const NEW: Schema = Schema {
        file: "t.db",
        application: 7,
        page: 4096,
        steps: &[
            "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1);",
            "ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 5;",
        ],
    };

    fn state() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("state")).unwrap();
        (dir, folder)
    }

    #[test]
    fn an_old_schema_is_copied_and_then_moved() {
        let (_dir, folder) = state();
        drop(open(&folder, &OLD).unwrap());
        assert!(matches!(
            open(&folder, &NEW),
            Err(StoreError::Older { found: 1, known: 2, .. })
        ));
        let now = Timestamp(1_795_269_791_204);
        let done = migrate_one(&folder, &NEW, now).unwrap().unwrap();
        assert_eq!((done.from, done.to), (1, 2));
        assert!(done.copy.ends_with("t.db.schema1-20261121T140311Z"));
        let y: i64 = open(&folder, &NEW)
            .unwrap()
            .query_row("SELECT y FROM a", [], |row| row.get(0))
            .unwrap();
        assert_eq!(y, 5);
        assert!(
            Connection::open(&done.copy)
                .unwrap()
                .prepare("SELECT y FROM a")
                .is_err()
        );
        assert_eq!(migrate_one(&folder, &NEW, now).unwrap(), None);
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let (_dir, folder) = state();
        drop(open(&folder, &NEW).unwrap());
        let before = fs::read(folder.file("t.db")).unwrap();
        assert!(matches!(
            open(&folder, &OLD),
            Err(StoreError::Newer { found: 2, known: 1, .. })
        ));
        assert!(matches!(
            migrate_one(&folder, &OLD, Timestamp(0)),
            Err(StoreError::Newer { .. })
        ));
        assert_eq!(fs::read(folder.file("t.db")).unwrap(), before);
    }

    #[test]
    fn what_is_not_ours_is_said_to_be_so() {
        let (_dir, folder) = state();
        fs::write(folder.file("t.db"), "these are not the pages of any database").unwrap();
        assert!(matches!(open(&folder, &OLD), Err(StoreError::Corrupt { .. })));
        fs::remove_file(folder.file("t.db")).unwrap();
        Connection::open(folder.file("t.db"))
            .unwrap()
            .execute_batch("CREATE TABLE z (a)")
            .unwrap();
        assert!(matches!(open(&folder, &OLD), Err(StoreError::NotOurs { .. })));
        fs::remove_file(folder.file("t.db")).unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.file("t.db")).unwrap();
        assert!(matches!(open(&folder, &OLD), Err(StoreError::Foreign { .. })));
    }

    #[test]
    fn files_are_for_the_owner_only() {
        use std::os::unix::fs::MetadataExt as _;
        let (_dir, folder) = state();
        let _connection = open(&folder, &OLD).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.path());
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["t.db", "t.db-shm", "t.db-wal"]);
        assert_eq!(folder.findings().unwrap(), []);
    }
}
