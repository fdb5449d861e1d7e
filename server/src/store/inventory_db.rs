//! inventory.db: objects and armings, written by CLI and daemon in short transactions, read by the daemon every 20 ms.
//!
//! Never judges a change (that is `inventory::edit`'s) and never holds a secret. Each commit has one version; every row carries the
//! version of its last change, and what was removed leaves a tombstone, so that a reader asks for what is newer and gets just that.

use super::database::{self, Schema, sum};
use super::folder::identity;
use super::{Folder, StoreError, clock, seen};
use crate::inventory::{Claim, Dates, Inventory, Refused, Row, RowChange, claims};
use crate::model::{Arm, Distro, Image, Kind, Menu, Name, Profile, Repo, System, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Armings lie among the objects as a kind of their own: one query finds everything that is newer.
pub(super) const SCHEMA: Schema = Schema {
    file: "inventory.db",
    application: 0x4377_496e,
    page: 4096,
    steps: &["CREATE TABLE objects (kind TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, body TEXT, sum INTEGER NOT NULL,
         PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID;
     CREATE INDEX objects_version ON objects (version);
     CREATE TABLE claims (kind TEXT NOT NULL, value TEXT NOT NULL, owner TEXT NOT NULL,
         PRIMARY KEY (kind, value)) STRICT, WITHOUT ROWID;
     CREATE INDEX claims_owner ON claims (owner);
     CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
     INSERT INTO meta VALUES ('version', 0);",
        "CREATE TABLE users (name TEXT PRIMARY KEY, role TEXT NOT NULL, hash TEXT NOT NULL, stamp INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
        "ALTER TABLE objects ADD COLUMN made INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE objects ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;"],
};

/// How the `kind` column names an arming.
const ARM: &str = "arm";

/// An open inventory.db with the inventory as it was last read.
#[derive(Debug)]
pub struct InventoryDb {
    connection: Connection,
    path: PathBuf,
    folder: Folder,
    /// Which file it is, to know when another lies in its place.
    identity: Option<(u64, u64)>,
    /// What [`InventoryDb::load`] and [`InventoryDb::commit`] know.
    known: Option<(Inventory, u64)>,
    /// `PRAGMA data_version` at the last poll.
    polled: Option<i64>,
    /// Damaged rows are left out and named here, instead of being an error.
    damaged: Option<Vec<String>>,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The version that holds it; the old one when nothing changed.
    pub version: u64,
    /// The rows that were written.
    pub rows: Vec<RowChange>,
}

/// What a poll found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polled {
    /// Every row that is newer, as it is now.
    pub rows: Vec<RowChange>,
    /// When each of these objects was made and last changed.
    pub dates: Vec<(Kind, Name, Dates)>,
    /// The version that they lead to.
    pub version: u64,
}

impl Polled {
    /// Moves it into an inventory; the version that this leads to. A start would hold a hundred thousand systems twice if it copied them.
    pub fn apply_to(self, inventory: &mut Inventory) -> u64 {
        self.rows.into_iter().for_each(|row| inventory.apply(row));
        for (kind, name, dates) in self.dates {
            inventory.date(kind, name, dates);
        }
        self.version
    }
}

impl InventoryDb {
    /// Opens inventory.db; makes it when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, foreign, newer, or older and to be migrated first.
    pub fn open(folder: &Folder) -> Result<Self, StoreError> {
        let connection = database::open(folder, &SCHEMA)?;
        let path = folder.path().join(SCHEMA.file);
        Ok(Self {
            connection,
            identity: identity(&path),
            path,
            folder: folder.clone(),
            known: None,
            polled: None,
            damaged: None,
        })
    }

    /// Leaves damaged rows out from now on: a daemon goes on serving all other machines. The machine of a damaged row is unknown and
    /// unarmed, and what hangs on a damaged profile is not installed. Who writes must not do so: it would write over what may be saved.
    #[must_use]
    pub fn leaving_out_damaged(self) -> Self {
        Self {
            damaged: Some(Vec::new()),
            ..self
        }
    }

    /// Damaged rows that were left out since this was last asked, each with what is wrong with it.
    pub fn take_damaged(&mut self) -> Vec<String> {
        self.damaged.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The whole inventory and its version. Its defaults are empty: they are the configuration's, so the caller sets them.
    ///
    /// # Errors
    /// When the file cannot be read, or a row is damaged.
    pub fn load(&mut self) -> Result<(Inventory, u64), StoreError> {
        let (mut inventory, since) = self.known.clone().unwrap_or_default();
        let newer = newer(&mut self.connection, &self.path, since, &mut self.damaged)?;
        let version = newer.apply_to(&mut inventory);
        self.known = Some((inventory.clone(), version));
        Ok((inventory, version))
    }

    /// Judges and writes a change in one transaction: `judge` sees the inventory as it is at this moment, nobody writes between it and
    /// the commit, and on disk is all of it or nothing.
    ///
    /// # Errors
    /// What `judge` refused, as [`StoreError::Refused`], or why it could not be stored. Then nothing was changed.
    pub fn commit(
        &mut self,
        judge: impl FnOnce(&Inventory) -> Result<Vec<RowChange>, Refused>,
    ) -> Result<Committed, StoreError> {
        // Most of what is not known yet is read before the lock, which others wait for.
        let (mut inventory, since) = self.load()?;
        let sql = StoreError::sql(&self.path);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&sql)?;
        let fresh = rows_since(&transaction, &self.path, since, &mut None)?;
        let version = fresh.apply_to(&mut inventory);
        let rows = judge(&inventory)?;
        if rows.is_empty() {
            self.known = Some((inventory, version));
            return Ok(Committed { version, rows });
        }
        let version = version.saturating_add(1);
        write(&transaction, &inventory, &rows, version).map_err(|wrong| wrong.told(&self.path))?;
        transaction.commit().map_err(&sql)?;
        // A restore may have put another file in its place meanwhile.
        self.in_place()?;
        seen::note(&self.folder, version);
        for row in &rows {
            inventory.apply(row.clone());
        }
        self.known = Some((inventory, version));
        Ok(Committed { version, rows })
    }

    /// The inventory as far as `systems` goes: every object but systems, and of systems and armings those named. Its defaults are empty.
    ///
    /// # Errors
    /// When the file cannot be read, or one of these rows is damaged.
    pub fn load_some(&mut self, systems: &BTreeSet<Name>) -> Result<Inventory, StoreError> {
        let transaction = self.connection.transaction().map_err(StoreError::sql(&self.path))?;
        some(&transaction, &self.path, systems)
    }

    /// [`InventoryDb::commit`] for a change that is about `systems` only: `judge` sees what [`InventoryDb::load_some`] gives, and gets it
    /// back in the answer as it was before. A claim that another system has is found by the table of claims.
    ///
    /// # Errors
    /// As for [`InventoryDb::commit`].
    pub fn commit_some(
        &mut self,
        systems: &BTreeSet<Name>,
        judge: impl FnOnce(&Inventory) -> Result<Vec<RowChange>, Refused>,
    ) -> Result<(Committed, Inventory), StoreError> {
        let sql = StoreError::sql(&self.path);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&sql)?;
        let before = some(&transaction, &self.path, systems)?;
        let version = version_of(&transaction).map_err(&sql)?;
        let rows = judge(&before)?;
        if rows.is_empty() {
            return Ok((Committed { version, rows }, before));
        }
        let version = version.saturating_add(1);
        write(&transaction, &before, &rows, version).map_err(|wrong| wrong.told(&self.path))?;
        transaction.commit().map_err(&sql)?;
        self.in_place()?;
        Ok((Committed { version, rows }, before))
    }

    /// What is newer than `since`, or nothing. Costs about a microsecond when no other process has written.
    ///
    /// # Errors
    /// When the file cannot be read, or a row is damaged.
    pub fn poll(&mut self, since: u64) -> Result<Option<Polled>, StoreError> {
        self.in_place()?;
        let current: i64 = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut query| query.query_row([], |row| row.get(0)))
            .map_err(StoreError::sql(&self.path))?;
        if self.polled == Some(current) {
            return Ok(None);
        }
        let newer = newer(&mut self.connection, &self.path, since, &mut self.damaged)?;
        // Only now: a read that failed is tried again. What is committed meanwhile has another data version.
        self.polled = Some(current);
        // What is known follows, or rows that nobody uses any more would stay in memory for as long as the daemon runs.
        if let Some((inventory, version)) = self.known.as_mut().filter(|(_, version)| since <= *version) {
            *version = newer.clone().apply_to(inventory);
        }
        Ok((newer.version > since).then_some(newer))
    }

    /// The file still lies where others look for it.
    fn in_place(&self) -> Result<(), StoreError> {
        if identity(&self.path) == self.identity {
            return Ok(());
        }
        Err(StoreError::Moved {
            path: self.path.clone(),
        })
    }

    /// True when a later version was stored once than this file holds: its log was lost, and with it perhaps that a machine was disarmed.
    pub(super) fn is_rolled_back(&mut self) -> Result<bool, StoreError> {
        let (_, version) = self.load()?;
        Ok(seen::latest(&self.folder).is_some_and(|seen| seen > version))
    }

    /// What the file holds counts from now on.
    pub(super) fn accept(&mut self) -> Result<(), StoreError> {
        let (_, version) = self.load()?;
        seen::note(&self.folder, version);
        Ok(())
    }

    /// A mark that a daemon left beside the objects; none when it left none.
    pub(super) fn mark(&self, key: &str) -> Result<Option<i64>, StoreError> {
        self.connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(StoreError::sql(&self.path))
    }

    /// Leaves a mark.
    pub(super) fn set_mark(&self, key: &str, value: i64) -> Result<(), StoreError> {
        self.connection
            .execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value])
            .map(drop)
            .map_err(StoreError::sql(&self.path))
    }

    /// Moves the WAL into the file without making anyone wait; best effort.
    pub fn checkpoint(&self) {
        let moved = self
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = moved {
            tracing::debug!("checkpoint of {} put off: {error}", self.path.display());
        }
    }
}

fn newer(
    connection: &mut Connection,
    path: &Path,
    since: u64,
    damaged: &mut Option<Vec<String>>,
) -> Result<Polled, StoreError> {
    let transaction = connection.transaction().map_err(StoreError::sql(path))?;
    rows_since(&transaction, path, since, damaged)
}

/// Every row newer than `since`, with the version that they lead to, from one snapshot. Damaged ones go to `damaged` if it is there, and
/// are taken out: what they said before may no longer hold, least of all an arming.
fn rows_since(
    transaction: &Transaction<'_>,
    path: &Path,
    since: u64,
    damaged: &mut Option<Vec<String>>,
) -> Result<Polled, StoreError> {
    let sql = StoreError::sql(path);
    let version = version_of(transaction).map_err(&sql)?;
    let (mut rows, mut dates) = (Vec::new(), Vec::new());
    if version <= since {
        return Ok(Polled { rows, dates, version });
    }
    let mut words = Words::default();
    let mut take = |row: &rusqlite::Row<'_>| {
        if let Some(change) = change_of(row, path, &mut words, damaged)? {
            dates.extend(dates_of(row, &change, path)?);
            rows.push(change);
        }
        Ok(())
    };
    if since == 0 {
        // Nothing is known that a tombstone could take out, and the table as it lies is read faster than by its versions.
        let all = "SELECT kind, name, body, sum, made, changed FROM objects WHERE body IS NOT NULL";
        each(transaction, path, all, [], &mut take)?;
    } else {
        let newer = "SELECT kind, name, body, sum, made, changed FROM objects WHERE version > ?1";
        each(transaction, path, newer, [stored(since)], &mut take)?;
    }
    Ok(Polled { rows, dates, version })
}

/// When the object of a row was made and last changed; none for an arming and for what is gone.
fn dates_of(
    row: &rusqlite::Row<'_>,
    change: &RowChange,
    path: &Path,
) -> Result<Option<(Kind, Name, Dates)>, StoreError> {
    let RowChange::Put(object) = change else {
        return Ok(None);
    };
    let Some(kind) = object.kind() else { return Ok(None) };
    let at = |index| row.get(index).map(Timestamp).map_err(StoreError::sql(path));
    let dates = Dates {
        made: at(4)?,
        changed: at(5)?,
    };
    Ok(Some((kind, object.name().clone(), dates)))
}

/// Every object but systems, and what is about `systems`.
fn some(transaction: &Transaction<'_>, path: &Path, systems: &BTreeSet<Name>) -> Result<Inventory, StoreError> {
    let mut inventory = Inventory::default();
    let mut words = Words::default();
    let mut take = |row: &rusqlite::Row<'_>| {
        let change = change_of(row, path, &mut words, &mut None)?;
        change.into_iter().for_each(|change| inventory.apply(change));
        Ok(())
    };
    let of_kind = "SELECT kind, name, body, sum FROM objects WHERE kind = ?1 AND body IS NOT NULL";
    for kind in [Kind::Distro, Kind::Profile, Kind::Repo, Kind::Menu, Kind::Image] {
        each(transaction, path, of_kind, [kind.as_str()], &mut take)?;
    }
    let named = "SELECT kind, name, body, sum FROM objects WHERE kind = ?1 AND name = ?2 AND body IS NOT NULL";
    for system in systems {
        for kind in [Kind::System.as_str(), ARM] {
            each(transaction, path, named, [kind, system.as_str()], &mut take)?;
        }
    }
    Ok(inventory)
}

/// Gives each row of a query on.
fn each(
    transaction: &Transaction<'_>,
    path: &Path,
    query: &str,
    parameters: impl rusqlite::Params,
    take: &mut dyn FnMut(&rusqlite::Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let sql = StoreError::sql(path);
    let mut query = transaction.prepare_cached(query).map_err(&sql)?;
    let mut found = query.query(parameters).map_err(&sql)?;
    while let Some(row) = found.next().map_err(&sql)? {
        take(row)?;
    }
    Ok(())
}

/// What a row of kind, name, body and sum says. A damaged one goes to `damaged` if it is there, and is taken out.
fn change_of(
    row: &rusqlite::Row<'_>,
    path: &Path,
    words: &mut Words,
    damaged: &mut Option<Vec<String>>,
) -> Result<Option<RowChange>, StoreError> {
    let sql = StoreError::sql(path);
    let text = |index| row.get_ref(index)?.as_str().map_err(Into::into);
    let (kind, name): (&str, &str) = (text(0).map_err(&sql)?, text(1).map_err(&sql)?);
    let body = row
        .get_ref(2)
        .and_then(|value| Ok(value.as_str_or_null()?))
        .map_err(&sql)?;
    let sum: i64 = row.get(3).map_err(&sql)?;
    match (read(kind, name, body, sum, words), damaged.as_mut()) {
        (Ok(change), _) => Ok(Some(change)),
        (Err(why), Some(damaged)) => {
            damaged.push(format!("{} {}: {why}", kind.escape_debug(), name.escape_debug()));
            Ok(gone(kind, name))
        }
        (Err(why), None) => Err(StoreError::BadRow {
            path: path.to_owned(),
            row: format!("{} {}", kind.escape_debug(), name.escape_debug()),
            why,
        }),
    }
}

fn version_of(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    transaction
        .prepare_cached("SELECT value FROM meta WHERE key = 'version'")?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(|version| u64::try_from(version).unwrap_or(0))
}

/// SQLite's integers are signed.
fn stored(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// Names that many rows share are kept once: 100,000 systems of one profile hold one copy of its name.
#[derive(Default)]
struct Words(HashSet<Name>);

impl Words {
    fn shared(&mut self, name: &Name) -> Name {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        self.0.insert(name.clone());
        name.clone()
    }
}

fn read(kind: &str, name: &str, body: Option<&str>, stored: i64, words: &mut Words) -> Result<RowChange, String> {
    let parsed: Name = name.parse().map_err(|_| "its name is no name".to_owned())?;
    if i64::from(row_sum(kind, name, body)) != stored {
        return Err("its checksum does not fit".to_owned());
    }
    let Some(body) = body else {
        return gone(kind, name).ok_or_else(|| "its kind is unknown".to_owned());
    };
    let row = match kind {
        "distro" => Row::Distro(Arc::new(json::<Distro>(body)?)),
        "profile" => Row::Profile(Arc::new(json::<Profile>(body)?)),
        "system" => {
            let mut system = json::<System>(body)?;
            system.profile = system.profile.map(|name| words.shared(&name));
            system.image = system.image.map(|name| words.shared(&name));
            system.interfaces = std::mem::take(&mut system.interfaces)
                .into_iter()
                .map(|(name, interface)| (words.shared(&name), interface))
                .collect();
            Row::System(Arc::new(system))
        }
        "repo" => Row::Repo(Arc::new(json::<Repo>(body)?)),
        "menu" => Row::Menu(Arc::new(json::<Menu>(body)?)),
        "image" => Row::Image(Arc::new(json::<Image>(body)?)),
        ARM => Row::Arm(Arc::new(json::<Arm>(body)?)),
        _ => return Err("its kind is unknown".to_owned()),
    };
    if row.name() == &parsed {
        Ok(RowChange::Put(row))
    } else {
        Err("it says another name".to_owned())
    }
}

/// The change that takes out what a row said.
fn gone(kind: &str, name: &str) -> Option<RowChange> {
    let name = name.parse().ok()?;
    match kind {
        ARM => Some(RowChange::Disarm(name)),
        kind => Kind::of(kind).map(|kind| RowChange::Remove(kind, name)),
    }
}

/// Where it is wrong, never what it says.
fn json<T: DeserializeOwned>(body: &str) -> Result<T, String> {
    serde_json::from_str(body).map_err(|error| format!("column {}: {:?} error", error.column(), error.classify()))
}

fn row_sum(kind: &str, name: &str, body: Option<&str>) -> u32 {
    sum(&[kind.as_bytes(), name.as_bytes(), body.unwrap_or("").as_bytes()])
}

/// Why rows were not written.
enum Wrong {
    Sql(rusqlite::Error),
    Claimed(Refused),
}

impl Wrong {
    fn told(self, path: &Path) -> StoreError {
        match self {
            Self::Sql(error) => StoreError::sql(path)(error),
            Self::Claimed(refused) => refused.into(),
        }
    }
}

impl From<rusqlite::Error> for Wrong {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

fn write(transaction: &Transaction<'_>, before: &Inventory, rows: &[RowChange], version: u64) -> Result<(), Wrong> {
    let mut drop_claims = transaction.prepare_cached("DELETE FROM claims WHERE owner = ?1")?;
    // All old claims go before any new one comes: systems may swap addresses in one commit.
    for row in rows {
        if let RowChange::Put(Row::System(_)) | RowChange::Remove(Kind::System, _) = row {
            drop_claims.execute([name_of(row).as_str()])?;
        }
    }
    let mut last = std::collections::BTreeMap::new();
    for row in rows {
        if let RowChange::Put(Row::System(system)) = row {
            last.insert(&system.name, Some(system));
        } else if let RowChange::Remove(Kind::System, name) = row {
            last.insert(name, None);
        }
    }
    for system in last.into_values().flatten() {
        for claim in claims(system) {
            claim_for(transaction, &claim, &system.name)?;
        }
    }
    let mut put = transaction.prepare_cached(
        "INSERT INTO objects (kind, name, version, body, sum, made, changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
         ON CONFLICT (kind, name) DO UPDATE SET version = ?3, body = ?4, sum = ?5,
         made = CASE WHEN body IS NULL THEN ?6 ELSE made END, changed = ?6",
    )?;
    let now = clock::wall().0;
    let mut put = |kind: &str, name: &Name, body: Option<String>| {
        let sum = row_sum(kind, name.as_str(), body.as_deref());
        put.execute(params![kind, name.as_str(), stored(version), body, sum, now])
    };
    for row in rows {
        let name = name_of(row);
        match row {
            RowChange::Put(Row::Distro(distro)) => put("distro", name, Some(text(&**distro)?))?,
            RowChange::Put(Row::Profile(profile)) => put("profile", name, Some(text(&**profile)?))?,
            RowChange::Put(Row::System(system)) => put("system", name, Some(text(&**system)?))?,
            RowChange::Put(Row::Repo(repo)) => put("repo", name, Some(text(&**repo)?))?,
            RowChange::Put(Row::Menu(menu)) => put("menu", name, Some(text(&**menu)?))?,
            RowChange::Put(Row::Image(image)) => put("image", name, Some(text(&**image)?))?,
            RowChange::Put(Row::Arm(arm)) => put(ARM, name, Some(text(&**arm)?))?,
            RowChange::Disarm(_) => put(ARM, name, None)?,
            RowChange::Remove(kind, _) => {
                if *kind == Kind::System && before.arm(name.as_str()).is_some() {
                    put(ARM, name, None)?;
                }
                put(kind.as_str(), name, None)?
            }
        };
    }
    transaction.execute("UPDATE meta SET value = ?1 WHERE key = 'version'", [stored(version)])?;
    Ok(())
}

/// The table is the last word: whatever judged the change, two systems never share a MAC, an address or a host name.
fn claim_for(transaction: &Transaction<'_>, claim: &Claim, owner: &Name) -> Result<(), Wrong> {
    let mut insert = transaction
        .prepare_cached("INSERT INTO claims (kind, value, owner) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?;
    let value = claim.value();
    if insert.execute(params![claim.kind(), value, owner.as_str()])? == 1 {
        return Ok(());
    }
    let other: String = transaction
        .prepare_cached("SELECT owner FROM claims WHERE kind = ?1 AND value = ?2")?
        .query_row(params![claim.kind(), value], |row| row.get(0))?;
    let owner = other.parse().unwrap_or_else(|_| owner.clone());
    Err(Wrong::Claimed(Refused::Claimed {
        what: claim.to_string(),
        owner,
    }))
}

fn name_of(row: &RowChange) -> &Name {
    match row {
        RowChange::Put(row) => row.name(),
        RowChange::Remove(_, name) | RowChange::Disarm(name) => name,
    }
}

fn text<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Withdraws every arming of a database that is about to come back from a backup, and says of which systems.
pub(super) fn disarm_all(path: &Path) -> Result<Vec<Name>, StoreError> {
    let sql = StoreError::sql(path);
    let mut connection = Connection::open(path).map_err(&sql)?;
    let transaction = connection.transaction().map_err(&sql)?;
    let version = version_of(&transaction).map_err(&sql)?.saturating_add(1);
    let mut armed: Vec<Name> = Vec::new();
    {
        let mut query = transaction
            .prepare("SELECT name FROM objects WHERE kind = 'arm' AND body IS NOT NULL ORDER BY name")
            .map_err(&sql)?;
        let names = query.query_map([], |row| row.get::<_, String>(0)).map_err(&sql)?;
        for name in names {
            armed.extend(name.map_err(&sql)?.parse::<Name>().ok());
        }
        let mut put = transaction
            .prepare("UPDATE objects SET version = ?1, body = NULL, sum = ?2 WHERE kind = 'arm' AND name = ?3")
            .map_err(&sql)?;
        for name in &armed {
            let sum = row_sum(ARM, name.as_str(), None);
            put.execute(params![stored(version), sum, name.as_str()])
                .map_err(&sql)?;
        }
        transaction
            .execute("UPDATE meta SET value = ?1 WHERE key = 'version'", [stored(version)])
            .map_err(&sql)?;
    }
    transaction.commit().map_err(&sql)?;
    connection.close().map_err(|(_, error)| sql(error))?;
    Ok(armed)
}
