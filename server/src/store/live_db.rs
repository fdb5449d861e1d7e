//! live.db: leases and installations, written by the daemon only.
//!
//! A row is on disk (fsync of the WAL) when [`LiveDb::write`] returns. It never rewrites a schema that is newer than its own.

use crate::install::Installation;
use crate::model::{Lease, LeaseState, Mac, Timestamp};
use crate::ports::LiveRow;
use rusqlite::{Connection, OpenFlags, Transaction, params};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The schema that this program writes.
const SCHEMA: i64 = 1;

/// What went wrong with live.db.
#[derive(Debug, thiserror::Error)]
pub enum LiveDbError {
    /// SQLite says.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Written by a newer Cordwainer.
    #[error(
        "{path} has schema {found}, newer than {SCHEMA}, the newest this version knows; install the version that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
}

/// An open live.db.
#[derive(Debug)]
pub struct LiveDb {
    connection: Connection,
    path: PathBuf,
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
    /// Opens for the daemon, making the tables when the file is new.
    ///
    /// # Errors
    /// [`LiveDbError`]: not readable, damaged, or newer.
    pub fn open_writer(path: &Path) -> Result<Self, LiveDbError> {
        let mut db = Self::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        db.prepare().map_err(|source| db.wrong(source))?;
        db.check_schema()?;
        Ok(db)
    }

    /// Opens for looking, as the CLI does beside or without a daemon.
    ///
    /// # Errors
    /// [`LiveDbError`]: not there, not readable, damaged, or newer.
    pub fn open_reader(path: &Path) -> Result<Self, LiveDbError> {
        // WAL needs the -shm file; a read-only open can only use one that is there, so readers open read-write and never write.
        let db = Self::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .or_else(|_| Self::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
        db.check_schema()?;
        Ok(db)
    }

    fn open(path: &Path, flags: OpenFlags) -> Result<Self, LiveDbError> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            Ok(connection)
        };
        match open() {
            Ok(connection) => Ok(Self {
                connection,
                path: path.to_owned(),
            }),
            Err(source) => Err(LiveDbError::Sqlite {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn wrong(&self, source: rusqlite::Error) -> LiveDbError {
        LiveDbError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }

    fn prepare(&mut self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        // Checkpoints are made aside, when nothing is queued; this is only the ceiling.
        self.connection.pragma_update(None, "wal_autocheckpoint", 20_000)?;
        let transaction = self.connection.transaction()?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found == 0 {
            transaction.execute_batch(
                "CREATE TABLE leases (address INTEGER PRIMARY KEY, mac BLOB NOT NULL, client_id BLOB NOT NULL, hostname TEXT,
                     granted INTEGER NOT NULL, expires INTEGER NOT NULL, state INTEGER NOT NULL);
                 CREATE TABLE installations (system TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
                 CREATE TABLE heartbeat (one INTEGER PRIMARY KEY, at INTEGER NOT NULL);",
            )?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
        }
        transaction.commit()
    }

    fn check_schema(&self) -> Result<(), LiveDbError> {
        let found: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|source| self.wrong(source))?;
        if found > SCHEMA {
            return Err(LiveDbError::Newer {
                path: self.path.clone(),
                found,
            });
        }
        Ok(())
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`LiveDbError`] when the file cannot be read; a single damaged row is named in [`LiveRows::damaged`] instead.
    pub fn load(&self) -> Result<LiveRows, LiveDbError> {
        let mut rows = LiveRows::default();
        self.load_into(&mut rows).map_err(|source| self.wrong(source))?;
        Ok(rows)
    }

    fn load_into(&self, rows: &mut LiveRows) -> rusqlite::Result<()> {
        let mut leases = self.connection.prepare(
            "SELECT address, mac, client_id, hostname, granted, expires, state FROM leases ORDER BY address",
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
        let mut installations = self.connection.prepare("SELECT system, body FROM installations")?;
        let mut found = installations.query([])?;
        while let Some(row) = found.next()? {
            let body = row
                .get::<_, String>(1)
                .ok()
                .and_then(|body| serde_json::from_str(&body).ok());
            match body {
                Some(installation) => rows.installations.push(installation),
                None => rows.damaged.push(format!(
                    "installation of {}",
                    row.get::<_, String>(0).unwrap_or_default()
                )),
            }
        }
        Ok(())
    }

    /// Writes `rows` in one transaction. On disk when it returns.
    ///
    /// # Errors
    /// [`LiveDbError`]; then nothing of `rows` was written.
    pub fn write(&mut self, rows: &[&LiveRow]) -> Result<(), LiveDbError> {
        let write = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            for row in rows {
                put(&transaction, row)?;
            }
            transaction.commit()
        };
        write(&mut self.connection).map_err(|source| LiveDbError::Sqlite {
            path: self.path.clone(),
            source,
        })
    }

    /// Writes a mark, to see whether writing works again.
    ///
    /// # Errors
    /// [`LiveDbError`] when it does not.
    pub fn probe(&mut self, now: Timestamp) -> Result<(), LiveDbError> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO heartbeat (one, at) VALUES (1, ?1)",
                params![now.0],
            )
            .map(|_| ())
            .map_err(|source| self.wrong(source))
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

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn put(transaction: &Transaction<'_>, row: &LiveRow) -> rusqlite::Result<()> {
    match row {
        LiveRow::Lease(lease) => {
            let state = match lease.state {
                LeaseState::Active => 0,
                LeaseState::Released => 1,
                LeaseState::Quarantined => 2,
            };
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO leases (address, mac, client_id, hostname, granted, expires, state)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    lease.address.to_bits(),
                    lease.mac.bytes().as_slice(),
                    lease.client_id,
                    lease.hostname,
                    lease.granted.0,
                    lease.expires.0,
                    state
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
                .prepare_cached("INSERT OR REPLACE INTO installations (system, body) VALUES (?1, ?2)")?
                .execute(params![installation.system.as_str(), body])?;
        }
    }
    Ok(())
}

fn lease(row: &rusqlite::Row<'_>) -> Option<Lease> {
    Some(Lease {
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.db");
        let lease = Lease {
            address: Ipv4Addr::new(192, 0, 2, 9),
            mac: Mac::new([2, 0, 0, 0, 0, 1]),
            client_id: vec![1, 2],
            hostname: Some("web1".into()),
            granted: Timestamp(1),
            expires: Timestamp(i64::MAX),
            state: LeaseState::Quarantined,
        };
        let mut db = LiveDb::open_writer(&path).unwrap();
        db.write(&[&LiveRow::Lease(lease.clone())]).unwrap();
        let rows = LiveDb::open_reader(&path).unwrap().load().unwrap();
        assert_eq!(rows.leases, vec![lease.clone()]);
        db.write(&[&LiveRow::LeaseGone(lease.address)]).unwrap();
        assert!(LiveDb::open_writer(&path).unwrap().load().unwrap().leases.is_empty());
    }

    #[test]
    fn a_damaged_row_is_named_and_a_newer_schema_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.db");
        let db = LiveDb::open_writer(&path).unwrap();
        db.connection.execute_batch("INSERT INTO installations VALUES ('web1', '{'); INSERT INTO leases VALUES (1, x'00', x'', NULL, 1, 1, 0)").unwrap();
        assert_eq!(db.load().unwrap().damaged, ["lease row 1", "installation of web1"]);
        db.connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(
            LiveDb::open_writer(&path),
            Err(LiveDbError::Newer { found: 99, .. })
        ));
    }
}
