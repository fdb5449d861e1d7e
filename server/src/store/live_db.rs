//! live.db: leases and installations, written by the daemon only.
//!
//! A row is on disk (fsync of the WAL) when [`LiveDb::write`] returns. It never rewrites a schema that is newer than its own.

use super::database::{self, Schema, sum};
use super::folder::{identity, sync};
use super::handed_out::HandedOut;
use super::{Folder, StoreError};
use crate::install::Installation;
use crate::model::{Lease, LeaseState, Mac, Timestamp};
use crate::ports::LiveRow;
use rusqlite::{Connection, OpenFlags, Transaction, params};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Leases in columns, for who looks with other tools; installations as they are serialized.
pub(super) const SCHEMA: Schema = Schema {
    file: "live.db",
    application: 0x4377_4c76,
    // Machines get addresses all over a pool, so nearly every lease is on a page of its own.
    page: 1024,
    steps: &[
        "CREATE TABLE leases (address INTEGER PRIMARY KEY, mac BLOB NOT NULL, client_id BLOB NOT NULL, hostname TEXT,
         granted INTEGER NOT NULL, expires INTEGER NOT NULL, state INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
     CREATE TABLE installations (system TEXT PRIMARY KEY, body TEXT NOT NULL, sum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
     CREATE TABLE heartbeat (one INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;",
    ],
};

/// Pages of the log after which it is begun anew under load.
const LONG_LOG: i64 = 131_072;
/// Bytes of the log that are laid out before it is written: some 15,000 leases. It begins anew in each pause.
const LAID_OUT: u64 = 16 * 1024 * 1024;
/// Bytes that are laid out at once: a lease that comes meanwhile waits for them.
const PIECE: usize = 1024 * 1024;
/// How many times that must be free on the disk.
const ROOM: u64 = 64;
/// How long the connection aside waits for the one that writes.
const ASIDE: Duration = Duration::from_millis(200);
/// KiB of pages that the daemon's connection keeps: the leases of a hundred thousand machines.
const CACHE_KIB: i64 = 16_384;

/// An open live.db.
#[derive(Debug)]
pub struct LiveDb {
    pub(super) connection: Connection,
    path: PathBuf,
    /// Which file it is, to know when another lies in its place.
    identity: Option<(u64, u64)>,
    /// The second witness; the daemon's own connection has it.
    pub(super) handed_out: Option<HandedOut>,
}

/// What live.db holds.
#[derive(Debug, Default)]
pub struct LiveRows {
    /// Leases.
    pub leases: Vec<Lease>,
    /// The latest installation of each machine.
    pub installations: Vec<Installation>,
    /// Rows that could not be read, each named; they are left alone on disk and not served.
    pub damaged: Vec<String>,
}

impl LiveDb {
    /// Opens for the daemon; makes the file when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, foreign, newer, or older and to be migrated first.
    pub fn open_writer(folder: &Folder) -> Result<Self, StoreError> {
        let connection = database::open(folder, &SCHEMA)?;
        let path = folder.path().join(SCHEMA.file);
        Ok(Self {
            connection,
            identity: identity(&path),
            path,
            handed_out: None,
        })
    }

    /// Opens for looking, as the CLI does beside or without a daemon. Where no daemon ever ran there is nothing to see, which is no
    /// error.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, foreign, newer or older.
    pub fn open_reader(folder: &Folder) -> Result<Self, StoreError> {
        // WAL needs the -shm file, which a read-only connection cannot make: the file is opened for writing, and then made read-only.
        let db = if folder.has(SCHEMA.file)? {
            Self::open_writer(folder)?
        } else {
            let path = folder.path().join(SCHEMA.file);
            let connection = Connection::open_in_memory().map_err(StoreError::sql(&path))?;
            for step in SCHEMA.steps {
                connection.execute_batch(step).map_err(StoreError::sql(&path))?;
            }
            Self {
                connection,
                identity: None,
                path,
                handed_out: None,
            }
        };
        db.connection
            .pragma_update(None, "query_only", "ON")
            .map_err(StoreError::sql(&db.path))?;
        Ok(db)
    }

    /// A second connection to the same file, for checkpoints beside the one that writes, which makes none itself any more.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn aside(&self) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let aside = || -> rusqlite::Result<Connection> {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(ASIDE)?;
            self.connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            self.connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
            Ok(connection)
        };
        Ok(Self {
            connection: aside().map_err(|source| self.wrong(source))?,
            path: self.path.clone(),
            identity: self.identity,
            handed_out: None,
        })
    }

    /// Lays out one more piece of the log, so that writing it makes the file no longer: a file that grows takes its length through the file
    /// system's journal, and every sync waits for that. Only for who writes, between two transactions. Best effort: a log that grows is as
    /// good. False when there is nothing more to do.
    pub(super) fn lay_out_log(&self) -> bool {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        let laid_out = || -> std::io::Result<bool> {
            let log = OpenOptions::new().write(true).open(&path)?;
            let length = log.metadata()?.len();
            let disk = rustix::fs::fstatvfs(&log)?;
            if length >= LAID_OUT || disk.f_bavail.saturating_mul(disk.f_frsize) < LAID_OUT.saturating_mul(ROOM) {
                return Ok(false);
            }
            // What SQLite finds behind its last frame bears neither its salt nor its sum, and ends the log as the end of the file does.
            log.write_all_at(&vec![0; PIECE], length)?;
            log.sync_data()?;
            Ok(true)
        };
        laid_out().unwrap_or_else(|error| {
            tracing::debug!("the log of {} grows as it is written: {error}", self.path.display());
            false
        })
    }

    fn wrong(&self, source: rusqlite::Error) -> StoreError {
        StoreError::sql(&self.path)(source)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read; a single damaged row is named in [`LiveRows::damaged`] instead.
    pub fn load(&self) -> Result<LiveRows, StoreError> {
        let mut rows = LiveRows::default();
        self.load_into(&mut rows).map_err(|source| self.wrong(source))?;
        Ok(rows)
    }

    fn load_into(&self, rows: &mut LiveRows) -> rusqlite::Result<()> {
        let mut leases = self.connection.prepare(
            "SELECT address, mac, client_id, hostname, granted, expires, state, sum FROM leases ORDER BY address",
        )?;
        let mut found = leases.query([])?;
        while let Some(row) = found.next()? {
            match lease(row) {
                Some(lease) => rows.leases.push(lease),
                None => {
                    let address = row
                        .get::<_, i64>(0)
                        .map_or_else(|_| "?".to_owned(), |address| address.to_string());
                    rows.damaged.push(format!("lease row {address}"));
                }
            }
        }
        let mut installations = self.connection.prepare("SELECT system, body, sum FROM installations")?;
        let mut found = installations.query([])?;
        while let Some(row) = found.next()? {
            match installation(row) {
                Some(installation) => rows.installations.push(installation),
                None => rows.damaged.push(format!(
                    "installation of {}",
                    row.get::<_, String>(0).unwrap_or_default().escape_debug()
                )),
            }
        }
        Ok(())
    }

    /// Reads every page of it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when one is damaged.
    pub(super) fn whole(&self) -> Result<(), StoreError> {
        database::whole(&self.connection, &self.path)
    }

    /// Writes `rows` in one transaction. On disk when it returns.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of `rows` may be relied on, and what they answer must not leave.
    pub fn write(&mut self, rows: &[&LiveRow]) -> Result<(), StoreError> {
        let write = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            for row in rows {
                put(&transaction, row)?;
            }
            transaction.commit()
        };
        write(&mut self.connection).map_err(|source| self.wrong(source))?;
        self.in_place()?;
        let Some(handed_out) = &mut self.handed_out else {
            return Ok(());
        };
        // After the row, before the reply: an installer that left is known to both.
        handed_out.note(rows.iter().filter_map(|row| match row {
            LiveRow::Installation(installation) => Some(&**installation),
            LiveRow::Lease(_) | LiveRow::LeaseGone(_) => None,
        }))
    }

    /// What was written can be found again: the file still lies where the next start looks.
    fn in_place(&self) -> Result<(), StoreError> {
        if identity(&self.path) == self.identity {
            return Ok(());
        }
        Err(StoreError::Moved {
            path: self.path.clone(),
        })
    }

    /// Writes a mark, to see whether writing works again.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    pub fn probe(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO heartbeat (one, at) VALUES (1, ?1)",
                params![now.0],
            )
            .map(|_| ())
            .map_err(|source| self.wrong(source))?;
        self.in_place()
    }

    /// Moves the WAL into the database without making anyone wait. Best effort: it is tried again.
    pub fn checkpoint(&self) {
        let moved = self
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = moved {
            tracing::debug!("checkpoint of {} put off: {error}", self.path.display());
        }
    }

    /// The same for a file that is written to without a pause: a log that has grown long is begun anew, for which writers wait a moment.
    pub(super) fn checkpoint_under_load(&self) {
        let frames = |mode: &str| -> rusqlite::Result<i64> {
            self.connection
                .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(1))
        };
        let moved = frames("PASSIVE").and_then(|log| if log > LONG_LOG { frames("RESTART") } else { Ok(log) });
        if let Err(error) = moved {
            tracing::debug!("checkpoint of {} put off: {error}", self.path.display());
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl LiveRows {
    /// The latest time that any row knows of.
    pub(super) fn last_time(&self) -> Option<Timestamp> {
        let leases = self.leases.iter().map(|lease| lease.granted);
        let installations = self.installations.iter().map(|installation| installation.heard_at);
        leases.chain(installations).max()
    }
}

/// Makes a live.db in `folder`, which is nobody's state folder yet, with these rows. On disk when it returns.
pub(super) fn make(folder: &Path, rows: &[LiveRow]) -> Result<(), StoreError> {
    let folder = Folder::open(folder)?;
    let mut db = LiveDb::open_writer(&folder)?;
    db.write(&rows.iter().collect::<Vec<_>>())?;
    let path = db.path.clone();
    db.connection
        .close()
        .map_err(|(_, error)| StoreError::sql(&path)(error))?;
    sync(&path)
}

/// Every row of the damaged file `path` that can be read and whose checksum fits. Leaves the file as it is.
pub(super) fn salvage(path: &Path) -> LiveRows {
    let mut leases = BTreeMap::new();
    let mut installations = BTreeMap::new();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let Ok(connection) = Connection::open_with_flags(path, flags) else {
        return LiveRows::default();
    };
    // The log is read, and stays where it is.
    let _ = connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    let _ = connection.pragma_update(None, "cell_size_check", "ON");
    // A scan ends at the first page that cannot be read: the other way round finds what lies behind it.
    for order in ["ASC", "DESC"] {
        let scan = |query: String, each: &mut dyn FnMut(&rusqlite::Row<'_>)| -> rusqlite::Result<()> {
            let mut query = connection.prepare(&query)?;
            let mut found = query.query([])?;
            while let Some(row) = found.next()? {
                each(row);
            }
            Ok(())
        };
        let ends = [
            scan(
                format!(
                    "SELECT address, mac, client_id, hostname, granted, expires, state, sum FROM leases ORDER BY address {order}"
                ),
                &mut |row| drop(lease(row).map(|lease| leases.insert(lease.address, lease))),
            ),
            scan(
                format!("SELECT system, body, sum FROM installations ORDER BY system {order}"),
                &mut |row| {
                    drop(installation(row).map(|known| installations.insert(known.system.clone(), known)));
                },
            ),
        ];
        for error in ends.into_iter().filter_map(Result::err) {
            tracing::debug!("{}: {error}", path.display());
        }
    }
    LiveRows {
        leases: leases.into_values().collect(),
        installations: installations.into_values().collect(),
        damaged: Vec::new(),
    }
}

fn put(transaction: &Transaction<'_>, row: &LiveRow) -> rusqlite::Result<()> {
    match row {
        LiveRow::Lease(lease) => {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO leases (address, mac, client_id, hostname, granted, expires, state, sum)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    lease.address.to_bits(),
                    lease.mac.bytes().as_slice(),
                    lease.client_id,
                    lease.hostname,
                    lease.granted.0,
                    lease.expires.0,
                    state_code(lease.state),
                    lease_sum(lease)
                ])?;
        }
        LiveRow::LeaseGone(address) => {
            transaction
                .prepare_cached("DELETE FROM leases WHERE address = ?1")?
                .execute([address.to_bits()])?;
        }
        LiveRow::Installation(installation) => {
            let body = serde_json::to_string(installation)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO installations (system, body, sum) VALUES (?1, ?2, ?3)")?
                .execute(params![installation.system.as_str(), body, sum(&[body.as_bytes()])])?;
        }
    }
    Ok(())
}

const fn state_code(state: LeaseState) -> u8 {
    match state {
        LeaseState::Active => 0,
        LeaseState::Released => 1,
        LeaseState::Quarantined => 2,
    }
}

fn lease_sum(lease: &Lease) -> u32 {
    sum(&[
        &lease.address.octets(),
        &lease.mac.bytes(),
        &lease.client_id,
        lease.hostname.as_deref().unwrap_or("").as_bytes(),
        &lease.granted.0.to_be_bytes(),
        &lease.expires.0.to_be_bytes(),
        &[state_code(lease.state)],
    ])
}

fn lease(row: &rusqlite::Row<'_>) -> Option<Lease> {
    let lease = Lease {
        address: Ipv4Addr::from_bits(row.get(0).ok()?),
        mac: Mac::new(row.get(1).ok()?),
        client_id: row.get(2).ok()?,
        hostname: row.get(3).ok()?,
        granted: Timestamp(row.get(4).ok()?),
        expires: Timestamp(row.get(5).ok()?),
        state: match row.get::<_, i64>(6).ok()? {
            0 => LeaseState::Active,
            1 => LeaseState::Released,
            2 => LeaseState::Quarantined,
            _ => return None,
        },
    };
    (row.get::<_, u32>(7).ok()? == lease_sum(&lease)).then_some(lease)
}

fn installation(row: &rusqlite::Row<'_>) -> Option<Installation> {
    let body: String = row.get(1).ok()?;
    let sound = row.get::<_, u32>(2).ok()? == sum(&[body.as_bytes()]);
    let installation: Installation = sound.then(|| serde_json::from_str(&body).ok()).flatten()?;
    (row.get_ref(0).ok()?.as_str().ok()? == installation.system.as_str()).then_some(installation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("state")).unwrap();
        (dir, folder)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (_dir, folder) = state();
        assert!(LiveDb::open_reader(&folder).unwrap().load().unwrap().leases.is_empty());
        let lease = Lease {
            address: Ipv4Addr::new(192, 0, 2, 9),
            mac: Mac::new([2, 0, 0, 0, 0, 1]),
            client_id: vec![1, 2],
            hostname: Some("web1".into()),
            granted: Timestamp(1),
            expires: Timestamp(i64::MAX),
            state: LeaseState::Quarantined,
        };
        let mut db = LiveDb::open_writer(&folder).unwrap();
        db.write(&[&LiveRow::Lease(lease.clone())]).unwrap();
        let mut reader = LiveDb::open_reader(&folder).unwrap();
        assert_eq!(reader.load().unwrap().leases, vec![lease.clone()]);
        assert!(reader.write(&[&LiveRow::LeaseGone(lease.address)]).is_err());
        db.write(&[&LiveRow::LeaseGone(lease.address)]).unwrap();
        assert!(LiveDb::open_writer(&folder).unwrap().load().unwrap().leases.is_empty());
    }

    #[test]
    fn a_log_that_is_laid_out_is_read_as_any_other_after_a_crash() {
        let (_dir, folder) = state();
        let mut db = LiveDb::open_writer(&folder).unwrap();
        let lease = |number: u8| {
            LiveRow::Lease(Lease {
                address: Ipv4Addr::new(192, 0, 2, number),
                mac: Mac::new([2, 0, 0, 0, 0, number]),
                client_id: Vec::new(),
                hostname: None,
                granted: Timestamp(1),
                expires: Timestamp(5),
                state: LeaseState::Active,
            })
        };
        let log = folder.path().join("live.db-wal");
        let length = || {
            let file = OpenOptions::new().read(true).open(&log).unwrap();
            file.metadata().unwrap().len()
        };
        db.write(&[&lease(1)]).unwrap();
        assert!(db.lay_out_log());
        db.write(&[&lease(2)]).unwrap();
        while db.lay_out_log() {}
        let laid_out = length();
        assert!(laid_out >= LAID_OUT, "{laid_out}: is the disk nearly full?");
        for number in 3..30 {
            db.write(&[&lease(number)]).unwrap();
        }
        assert_eq!(length(), laid_out, "it grows no more");
        // As it lies there while it is open.
        let (_dir, after) = state();
        for name in ["live.db", "live.db-wal"] {
            std::fs::copy(folder.path().join(name), after.path().join(name)).unwrap();
        }
        let found = LiveDb::open_writer(&after).unwrap().load().unwrap();
        assert_eq!(found.leases.len(), 29);
    }

    #[test]
    fn damaged_rows_are_named_and_never_believed() {
        let (_dir, folder) = state();
        let mut db = LiveDb::open_writer(&folder).unwrap();
        let lease = Lease {
            address: Ipv4Addr::new(0, 0, 0, 2),
            mac: Mac::new([2, 0, 0, 0, 0, 1]),
            client_id: Vec::new(),
            hostname: None,
            granted: Timestamp(1),
            expires: Timestamp(5),
            state: LeaseState::Active,
        };
        db.write(&[&LiveRow::Lease(lease)]).unwrap();
        db.connection
            .execute_batch(
                "INSERT INTO installations VALUES ('web1', '{', 0);
                 INSERT INTO leases VALUES (1, x'00', x'', NULL, 1, 1, 0, 0);
                 UPDATE leases SET mac = x'020000000002' WHERE address = 2;",
            )
            .unwrap();
        let rows = db.load().unwrap();
        assert_eq!(rows.damaged, ["lease row 1", "lease row 2", "installation of web1"]);
        assert!(rows.leases.is_empty() && rows.installations.is_empty());
    }
}
