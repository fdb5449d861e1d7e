//! live.db: leases and installations, written by the daemon only.
//!
//! A row is on disk (fsync of the WAL) when [`LiveDb::write`] returns. It never rewrites a schema that is newer than its own.

use super::database::{self, Schema, sum};
use super::{Folder, StoreError};
use crate::install::Installation;
use crate::model::{Lease, LeaseState, Mac, Timestamp};
use crate::ports::LiveRow;
use rusqlite::{Connection, OpenFlags, Transaction, params};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Leases in columns, for who looks with other tools; installations as they are serialized.
pub(super) const SCHEMA: Schema = Schema {
    file: "live.db",
    application: 0x4377_4c76,
    steps: &[
        "CREATE TABLE leases (address INTEGER PRIMARY KEY, mac BLOB NOT NULL, client_id BLOB NOT NULL, hostname TEXT,
         granted INTEGER NOT NULL, expires INTEGER NOT NULL, state INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
     CREATE TABLE installations (system TEXT PRIMARY KEY, body TEXT NOT NULL, sum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
     CREATE TABLE heartbeat (one INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;",
    ],
};

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
    /// Opens for the daemon; makes the file when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, foreign, newer, or older and to be migrated first.
    pub fn open_writer(folder: &Folder) -> Result<Self, StoreError> {
        Ok(Self {
            connection: database::open(folder, &SCHEMA)?,
            path: folder.path().join(SCHEMA.file),
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
            Self { connection, path }
        };
        db.connection
            .pragma_update(None, "query_only", "ON")
            .map_err(StoreError::sql(&db.path))?;
        Ok(db)
    }

    /// A second connection to the same file, for checkpoints beside the one that writes.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn aside(&self) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(StoreError::sql(&self.path))?;
        Ok(Self {
            connection,
            path: self.path.clone(),
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
                    row.get::<_, String>(0).unwrap_or_default()
                )),
            }
        }
        Ok(())
    }

    /// Writes `rows` in one transaction. On disk when it returns.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of `rows` was written.
    pub fn write(&mut self, rows: &[&LiveRow]) -> Result<(), StoreError> {
        let write = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            for row in rows {
                put(&transaction, row)?;
            }
            transaction.commit()
        };
        write(&mut self.connection).map_err(|source| self.wrong(source))
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
    sound.then(|| serde_json::from_str(&body).ok()).flatten()
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
