//! Takes every event: counts it, keeps it in memory per machine, hands it to whoever follows, logs it, and stores finished boots.
//!
//! It never blocks whoever emits, and nothing waits for it: what cannot be kept is dropped and counted. Boots go to events.db, written
//! once a second by a thread of its own, without fsync: no lease waits for a story.
#![allow(
    clippy::disallowed_methods,
    reason = "IO: it writes events.db and renames a broken one aside"
)]

use super::metrics::Metrics;
use super::ring::{Boot, Bounds, Rings};
use super::{Event, Level, What};
use crate::model::{Mac, Name, Timestamp};
use crate::ports::Events;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::broadcast;

/// Events that a follower may lag behind before it loses some.
const FOLLOW: usize = 4096;
/// Boots that wait to be stored; more are dropped.
const WAITING: usize = 4096;
/// Events that may wait to be logged. Past it only warnings and errors are kept; the rest is counted as dropped.
const FRESH: usize = 65_536;
/// How long events gather before they are logged. A line a moment later is no worse, and a thread that is woken for each costs as much as
/// the packets that they are about.
const GATHER: Duration = Duration::from_millis(10);
/// Events that are put into the rings at once, before whoever reads them has a turn.
const AT_ONCE: usize = 256;
/// A boot of which nothing was heard for so long is stored as it is.
const SILENCE: Duration = Duration::from_secs(300);
/// A boot under way is stored as far as it came, this often and so many a second: what a crash of the server costs is the rest of it.
const DRAFT: Duration = Duration::from_secs(5);
const DRAFTS: usize = 64;
/// Largest sum of the stored stories, in bytes.
const LARGEST: i64 = 256 * 1024 * 1024;
/// Oldest story that is kept, in milliseconds.
const OLDEST: i64 = 180 * 86_400_000;

/// Other DHCP servers that are remembered.
const RIVALS: usize = 8;

/// Gives the time, to judge how long a machine has been silent.
pub type Now = Box<dyn Fn() -> Timestamp + Send + Sync>;

struct Kept {
    rings: Rings,
    waiting: Vec<Boot>,
    /// The last words of other DHCP servers that were heard themselves, the latest last.
    rivals: Vec<Arc<Event>>,
}

impl Kept {
    /// Keeps the latest of each server, and few in all.
    fn note_rival(&mut self, event: &Arc<Event>) {
        let server_of = |event: &Event| match event.what {
            What::DhcpForeignServer {
                server,
                hardware: Some(_),
                ..
            } => Some(server),
            _ => None,
        };
        if server_of(event).is_some() {
            self.rivals.retain(|other| server_of(other) != server_of(event));
            self.rivals.push(event.clone());
            let surplus = self.rivals.len().saturating_sub(RIVALS);
            self.rivals.drain(..surplus);
        }
    }
}

struct Inner {
    kept: Mutex<Kept>,
    /// Emitted, and neither logged nor in the rings yet.
    fresh: Mutex<Vec<Arc<Event>>>,
    /// Held by whoever takes `fresh` over, so that the order stays.
    order: Mutex<()>,
    follow: broadcast::Sender<Arc<Event>>,
    metrics: Arc<Metrics>,
    now: Now,
    /// True when finished boots go to a database.
    stores: bool,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs what was emitted and puts it into the rings.
    fn catch_up(&self) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        if fresh.is_empty() {
            return;
        }
        super::log::together(|| fresh.iter().for_each(|event| log(event)));
        let mut fresh = fresh.into_iter();
        while fresh.len() > 0 {
            let mut kept = self.lock();
            for event in fresh.by_ref().take(AT_ONCE) {
                kept.note_rival(&event);
                let ended = kept.rings.push(event);
                if !self.stores || ended.is_empty() {
                    continue;
                }
                let room = WAITING.saturating_sub(kept.waiting.len());
                let lost = ended.len().saturating_sub(room);
                kept.waiting.extend(ended.into_iter().take(room));
                if lost > 0 {
                    let lost = u64::try_from(lost).unwrap_or(u64::MAX);
                    self.metrics.events_dropped.inc_by(lost);
                }
            }
        }
    }
}

/// The sink of all events.
pub struct Sink {
    inner: Arc<Inner>,
    database: Option<PathBuf>,
    /// Wakes the thread that writes the log: a line costs a system call, and whoever emits has packets to answer. None when there is no
    /// such thread, and then it is done on the spot.
    scribe: Option<SyncSender<()>>,
    writer: Mutex<Option<(SyncSender<()>, JoinHandle<()>)>>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink")
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl Sink {
    /// Starts the sink. `database` is where finished boots go; none keeps them in memory only. A database that cannot be opened costs
    /// the stories of finished boots and nothing else.
    #[must_use]
    pub fn open(database: Option<PathBuf>, metrics: Arc<Metrics>, now: Now) -> Arc<Self> {
        let inner = Arc::new(Inner {
            kept: Mutex::new(Kept {
                rings: Rings::new(Bounds::default()),
                waiting: Vec::new(),
                rivals: Vec::new(),
            }),
            fresh: Mutex::default(),
            order: Mutex::default(),
            follow: broadcast::channel(FOLLOW).0,
            metrics,
            now,
            stores: database.is_some(),
        });
        let scribe = start_scribe(inner.clone());
        let writer = database
            .as_ref()
            .and_then(|path| start_writer(path.clone(), inner.clone()));
        Arc::new(Self {
            inner,
            database,
            scribe,
            writer: Mutex::new(writer),
        })
    }

    /// Other DHCP servers that were heard since the start, each with its latest event.
    #[must_use]
    pub fn rivals(&self) -> Vec<Arc<Event>> {
        self.inner.catch_up();
        self.inner.lock().rivals.clone()
    }

    /// Every event of a machine that is in memory, by its record's name or its hardware address, in order.
    #[must_use]
    pub fn events_of(&self, system: Option<&Name>, mac: Option<Mac>) -> Vec<Arc<Event>> {
        self.inner.catch_up();
        self.inner.lock().rings.of(system, mac)
    }

    /// The latest boot of a machine that events.db holds. Blocks.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn stored_boot(&self, system: Option<&Name>, mac: Option<Mac>) -> Result<Vec<Event>, rusqlite::Error> {
        match &self.database {
            Some(path) => stored_boot(path, system, mac),
            None => Ok(Vec::new()),
        }
    }

    /// Every event from now on. A follower that lags behind loses the oldest and is told how many.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Arc<Event>> {
        self.inner.follow.subscribe()
    }

    /// Stores what is not stored yet and stops the writer. Events after this stay in memory. Blocks until the disk has it.
    pub fn close(&self) {
        self.inner.catch_up();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = writer {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the writer of events.db ended in a panic");
            }
        }
    }
}

/// The latest boot of a machine that the events.db at `path` holds; nothing where there is no such file. Blocks.
///
/// # Errors
/// What SQLite says.
pub fn stored_boot(path: &Path, system: Option<&Name>, mac: Option<Mac>) -> Result<Vec<Event>, rusqlite::Error> {
    // A path that cannot be looked at is left to SQLite, which says why.
    if !path.try_exists().unwrap_or(true) {
        return Ok(Vec::new());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    let stored: Option<String> = connection
        .query_row(
            "SELECT events FROM boots WHERE system = ?1 OR mac = ?2 ORDER BY began DESC LIMIT 1",
            params![system.map(Name::as_str), mac.map(|mac| mac.to_string())],
            |row| row.get(0),
        )
        .optional()?;
    // A line that a later version wrote and this one does not know is left out.
    let events = stored.unwrap_or_default();
    Ok(events
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.close();
    }
}

impl Events for Sink {
    fn emit(&self, event: Event) {
        self.inner.metrics.count(&event);
        let event = Arc::new(event);
        // An error means that nobody follows.
        let _ = self.inner.follow.send(event.clone());
        let full = {
            let mut fresh = self.inner.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            let full = fresh.len() >= FRESH && event.level() < Level::Warn;
            if !full {
                fresh.push(event);
            }
            full
        };
        if full {
            self.inner.metrics.events_dropped.inc();
        }
        match &self.scribe {
            // A full channel means that the thread is awake already.
            Some(scribe) => drop(scribe.try_send(())),
            None => self.inner.catch_up(),
        }
    }
}

/// Starts the thread that logs. It ends with the sink.
fn start_scribe(inner: Arc<Inner>) -> Option<SyncSender<()>> {
    let (scribe, woken) = sync_channel::<()>(1);
    let write = move || {
        while woken.recv().is_ok() {
            std::thread::sleep(GATHER);
            inner.catch_up();
        }
    };
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(write)
        .inspect_err(|error| tracing::warn!(%error, "events are logged by whoever emits them: no thread"))
        .ok()
        .map(|_| scribe)
}

/// One line for one event.
fn log(event: &Event) {
    let machine = || match (&event.system, event.mac, event.peer) {
        (Some(name), ..) => name.to_string(),
        (None, Some(mac), _) => mac.to_string(),
        (None, None, Some(peer)) => peer.to_string(),
        (None, None, None) => String::new(),
    };
    let code = event.code();
    // What the filter leaves out is not even put into words.
    match event.level() {
        Level::Debug => tracing::debug!(target: "cordwainer::event", code, machine = machine(), "{}", event.what),
        Level::Info => tracing::info!(target: "cordwainer::event", code, machine = machine(), "{}", event.what),
        Level::Warn => tracing::warn!(target: "cordwainer::event", code, machine = machine(), "{}", event.what),
        Level::Error => tracing::error!(target: "cordwainer::event", code, machine = machine(), "{}", event.what),
    }
}

/// Opens events.db and starts its writer. None when neither it nor a fresh one can be had.
fn start_writer(path: PathBuf, inner: Arc<Inner>) -> Option<(SyncSender<()>, JoinHandle<()>)> {
    let connection = match open_database(&path) {
        Ok(connection) => connection,
        Err(error) => {
            // Nothing in it is needed to serve, so a broken one is put aside, never repaired.
            let aside = path.with_extension("db.broken");
            tracing::warn!(%error, file = %path.display(), "finished boots cannot be read; starting a new file, the old one is kept beside it");
            let renamed = std::fs::rename(&path, &aside).map_err(|error| error.to_string());
            for end in ["-wal", "-shm"] {
                let mut name = path.clone().into_os_string();
                name.push(end);
                // Most often there is none.
                let _ = std::fs::remove_file(name);
            }
            match renamed.and_then(|()| open_database(&path).map_err(|error| error.to_string())) {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(error, file = %path.display(), "finished boots will not be stored");
                    return None;
                }
            }
        }
    };
    let (stop, stopped) = sync_channel::<()>(0);
    let write = move || {
        let mut store = Store {
            connection,
            failing: false,
        };
        loop {
            let stopping = stopped.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Timeout);
            let silence = if stopping { Duration::ZERO } else { SILENCE };
            let now = (inner.now)();
            inner.catch_up();
            let boots = {
                let mut kept = inner.lock();
                let mut boots = std::mem::take(&mut kept.waiting);
                boots.extend(kept.rings.silent(now, silence));
                boots.extend(kept.rings.drafts(now, DRAFT, DRAFTS));
                boots
            };
            store.write(&boots, now, &inner.metrics);
            if stopping {
                break;
            }
        }
    };
    match std::thread::Builder::new().name("events".to_owned()).spawn(write) {
        Ok(thread) => Some((stop, thread)),
        Err(error) => {
            tracing::warn!(%error, "finished boots will not be stored: no thread");
            None
        }
    }
}

fn open_database(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS boots (
            machine TEXT NOT NULL,
            began INTEGER NOT NULL,
            ended INTEGER NOT NULL,
            system TEXT,
            mac TEXT,
            last TEXT NOT NULL,
            events TEXT NOT NULL,
            PRIMARY KEY (machine, began)
        );
        CREATE INDEX IF NOT EXISTS boots_by_end ON boots (ended);
        CREATE INDEX IF NOT EXISTS boots_by_system ON boots (system, began);
        CREATE INDEX IF NOT EXISTS boots_by_mac ON boots (mac, began);",
    )?;
    Ok(connection)
}

struct Store {
    connection: Connection,
    failing: bool,
}

impl Store {
    fn write(&mut self, boots: &[Boot], now: Timestamp, metrics: &Metrics) {
        if boots.is_empty() {
            return;
        }
        match self.try_write(boots, now) {
            Ok(()) => self.failing = false,
            Err(error) => {
                metrics
                    .events_dropped
                    .inc_by(u64::try_from(boots.len()).unwrap_or(u64::MAX));
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "finished boots cannot be stored for now; they stay in memory");
                }
            }
        }
    }

    fn try_write(&mut self, boots: &[Boot], now: Timestamp) -> Result<(), rusqlite::Error> {
        let write = self.connection.transaction()?;
        for boot in boots {
            let (Some(first), Some(last)) = (boot.events.first(), boot.events.last()) else {
                continue;
            };
            let lines: Vec<String> = boot
                .events
                .iter()
                .filter_map(|event| serde_json::to_string(&**event).ok())
                .collect();
            let mac = boot.events.iter().rev().find_map(|event| event.mac);
            let system = boot.events.iter().rev().find_map(|event| event.system.clone());
            write.prepare_cached(
                "INSERT OR REPLACE INTO boots (machine, began, ended, system, mac, last, events) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                boot.key.word(),
                first.at.0,
                last.at.0,
                system.as_ref().map(Name::as_str),
                mac.map(|mac| mac.to_string()),
                last.code(),
                lines.join("\n"),
            ])?;
        }
        write.execute(
            "DELETE FROM boots WHERE ended < ?1",
            params![now.0.saturating_sub(OLDEST)],
        )?;
        // The file's own size is cheap to know; the oldest tenth goes when it is too large.
        let pages: i64 = write.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let free: i64 = write.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        let page: i64 = write.pragma_query_value(None, "page_size", |row| row.get(0))?;
        if pages.saturating_sub(free).saturating_mul(page) > LARGEST {
            write.execute(
                "DELETE FROM boots WHERE rowid IN (SELECT rowid FROM boots ORDER BY ended LIMIT (SELECT 1 + count(*) / 10 FROM boots))",
                [],
            )?;
        }
        write.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    fn event(at: i64, what: What) -> Event {
        Event {
            at: Timestamp(at),
            mac: Some(MAC),
            system: Some("web1".parse().unwrap()),
            peer: None,
            what,
        }
    }

    fn started(path: Option<PathBuf>) -> (Arc<Sink>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        let clock = Arc::new(AtomicI64::new(0));
        let now = Box::new(move || Timestamp(clock.fetch_add(1, Ordering::SeqCst)));
        (Sink::open(path, metrics.clone(), now), metrics)
    }

    #[test]
    fn a_finished_boot_outlives_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.db");
        let story = [
            event(
                1,
                What::Claimed {
                    address: "192.0.2.7".parse().unwrap(),
                    attempt: 1,
                },
            ),
            event(2, What::Installed),
            event(3, What::BootedFromDisk),
        ];
        let (first, _) = started(Some(path.clone()));
        for event in story.clone() {
            first.emit(event);
        }
        first.close();
        drop(first);
        let (second, _) = started(Some(path));
        assert!(second.events_of(None, Some(MAC)).is_empty());
        assert_eq!(second.stored_boot(None, Some(MAC)).unwrap(), story);
        assert_eq!(second.stored_boot(Some(&"web1".parse().unwrap()), None).unwrap(), story);
        assert!(
            second
                .stored_boot(Some(&"db2".parse().unwrap()), None)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_boot_under_way_outlives_a_crash_as_far_as_it_came() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.db");
        let claimed = event(
            1,
            What::Claimed {
                address: "192.0.2.7".parse().unwrap(),
                attempt: 1,
            },
        );
        let (sink, _) = started(Some(path.clone()));
        sink.emit(claimed.clone());
        let begun = std::time::Instant::now();
        // The sink is neither closed nor dropped: what is read is what a killed server leaves.
        while stored_boot(&path, None, Some(MAC)).unwrap() != [claimed.clone()] {
            assert!(begun.elapsed() < Duration::from_secs(30), "no draft was stored");
            std::thread::sleep(Duration::from_millis(50));
        }
        sink.emit(event(2, What::Installed));
        sink.close();
        assert_eq!(stored_boot(&path, None, Some(MAC)).unwrap().len(), 2);
        let rows: i64 = Connection::open(&path)
            .and_then(|db| db.query_row("SELECT count(*) FROM boots", [], |row| row.get(0)))
            .unwrap();
        assert_eq!(rows, 1, "the draft became the story");
    }

    #[test]
    fn where_no_boot_was_stored_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.db");
        assert_eq!(stored_boot(&path, None, Some(MAC)).unwrap(), []);
        assert!(!path.exists());
        std::fs::write(&path, "no database ".repeat(100)).unwrap();
        assert!(stored_boot(&path, None, Some(MAC)).is_err());
    }

    #[test]
    fn a_broken_database_costs_no_service() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.db");
        std::fs::write(
            &path,
            "not a database at all, but long enough to be looked at ".repeat(50),
        )
        .unwrap();
        let (sink, _) = started(Some(path.clone()));
        sink.emit(event(1, What::Installed));
        sink.close();
        assert_eq!(sink.stored_boot(None, Some(MAC)).unwrap().len(), 1);
        assert!(path.with_extension("db.broken").metadata().unwrap().len() > 1000);
        let (nowhere, _) = started(Some(dir.path().join("no/such/folder/events.db")));
        nowhere.emit(event(1, What::Installed));
        assert_eq!(nowhere.events_of(None, Some(MAC)).len(), 1);
    }

    #[test]
    fn followers_see_what_comes_and_learn_what_they_missed() {
        let (sink, metrics) = started(None);
        let mut quick = sink.follow();
        sink.emit(event(1, What::Disarmed));
        assert_eq!(quick.try_recv().unwrap().at, Timestamp(1));
        let mut slow = sink.follow();
        for at in 0..5000 {
            sink.emit(event(at, What::Disarmed));
        }
        assert!(matches!(
            slow.try_recv(),
            Err(broadcast::error::TryRecvError::Lagged(904))
        ));
        assert!(
            metrics
                .page(&super::super::metrics::Standing::default())
                .contains("{code=\"DISARMED\"} 5001")
        );
    }
}
