//! Follows inventory.db and the files on disk, and publishes what changed. An edit by the CLI is served within some 20 ms.

use super::hooks::{Act, Changed, Teller, Told};
use super::snapshots::Snapshots;
use crate::assets::watch::Watcher;
use crate::event::{Event, What};
use crate::inventory::{Inventory, Row, RowChange};
use crate::ports::Events;
use crate::store::InventoryDb;
use crate::store::clock::Clock;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How often inventory.db is asked whether it changed; the question costs a microsecond.
const PERIOD: Duration = Duration::from_millis(20);
/// How many questions later the files on disk are looked at again.
const LOOK: u32 = 100;

/// What is told of what is served, and who asks to look at once.
pub(super) struct Served {
    /// The version that is served.
    pub(super) live: watch::Sender<u64>,
    /// Somebody wrote, and waits.
    pub(super) look: Arc<Look>,
    /// Hears of every object that changed.
    pub(super) hooks: Teller,
}

/// Asks for a look before its time.
#[derive(Debug)]
pub(super) struct Look {
    now: Notify,
    /// How often the files were changed by ourselves, and which of these changes are served.
    wrote: AtomicU64,
    seen: watch::Sender<u64>,
}

impl Look {
    pub(super) fn new() -> Self {
        Self {
            now: Notify::new(),
            wrote: AtomicU64::new(0),
            seen: watch::Sender::new(0),
        }
    }

    /// At the database: something was stored.
    pub(super) fn at_database(&self) {
        self.now.notify_one();
    }

    /// At the files, one of which was changed. Resolves when that is served.
    pub(super) async fn at_files(&self) {
        let change = self.wrote.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        self.now.notify_one();
        // An error would mean that the sender, which is ours, is gone.
        drop(self.seen.subscribe().wait_for(|seen| *seen >= change).await);
    }
}

/// Runs until `stopped` says true. Blocking work happens on a thread of its own.
///
/// # Errors
/// Never by itself; a database that cannot be read is told once and asked again.
pub(super) async fn run(
    mut db: InventoryDb,
    mut version: u64,
    snapshots: Arc<Snapshots>,
    mut watcher: Watcher,
    events: Arc<dyn Events>,
    served: Served,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    let mut missing = BTreeSet::new();
    let mut failing = false;
    let mut rounds = 0_u32;
    tell_missing(&snapshots, &mut missing, &events);
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => (),
            () = served.look.now.notified() => (),
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        rounds = rounds.wrapping_add(1);
        let wrote = served.look.wrote.load(Ordering::Acquire);
        let look = rounds.is_multiple_of(LOOK) || wrote > *served.look.seen.borrow();
        let shared = snapshots.clone();
        let sink = events.clone();
        let step = tokio::task::spawn_blocking(move || {
            let polled = db.poll(version);
            let damaged = tell_damaged(&mut db, &sink, shared.clock);
            let changed = matches!(polled, Ok(Some(_)));
            // Files are looked at for what says which ones count; a thousand systems that are added one by one say nothing new.
            let files = match &polled {
                Ok(Some(polled)) => polled.rows.iter().any(says_of_files),
                _ => false,
            };
            let result = polled.map(|polled| {
                polled.map(|polled| {
                    let before = shared.inventory.load_full();
                    let mut inventory = (*before).clone();
                    let rows = u64::try_from(polled.rows.len()).unwrap_or(u64::MAX);
                    for change in &polled.rows {
                        tell(change, &before, &shared, &sink);
                    }
                    let objects: Vec<Changed> = polled
                        .rows
                        .iter()
                        .filter_map(|change| changed_object(change, &before))
                        // What is left out because it is damaged, nobody deleted.
                        .filter(|one| !(damaged && one.act == Act::Delete))
                        .collect();
                    let version = polled.apply_to(&mut inventory);
                    shared.inventory.store(Arc::new(inventory));
                    (version, rows, objects)
                })
            });
            if look && !changed {
                // This connection polls for ever, so it is the one that must move the WAL.
                db.checkpoint();
            }
            if files || look {
                let assets = watcher.look(&shared.inventory.load());
                shared.assets.store(Arc::new(assets));
            }
            (db, watcher, result, files || look)
        });
        let (again, watched, result, looked) = step.await.map_err(|error| error.to_string())?;
        (db, watcher) = (again, watched);
        match result {
            Ok(Some((newer, rows, objects))) => {
                version = newer;
                served.live.send_replace(newer);
                if !objects.is_empty() {
                    served.hooks.tell(Told::Changed(objects));
                }
                events.emit(event(&snapshots, What::InventoryChanged { rows }));
                failing = false;
            }
            Ok(None) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    events.emit(event(
                        &snapshots,
                        What::StoreFailed {
                            error: error.to_string(),
                        },
                    ));
                }
            }
        }
        if looked {
            served.look.seen.send_replace(wrote);
            tell_missing(&snapshots, &mut missing, &events);
        }
    }
}

fn event(snapshots: &Snapshots, what: What) -> Event {
    Event {
        at: snapshots.clock.now(),
        mac: None,
        system: None,
        peer: None,
        what,
    }
}

/// What a row does to an object; none for an arming.
fn changed_object(change: &RowChange, before: &Inventory) -> Option<Changed> {
    let (kind, name) = match change {
        RowChange::Put(row) => (row.kind()?, row.name()),
        RowChange::Remove(kind, name) => (*kind, name),
        RowChange::Disarm(_) => return None,
    };
    let act = match (change, before.row(kind, name.as_str())) {
        (RowChange::Put(_), Some(_)) => Act::Edit,
        (RowChange::Put(_), None) => Act::Add,
        (_, Some(_)) => Act::Delete,
        (_, None) => return None,
    };
    Some(Changed {
        act,
        kind,
        name: name.clone(),
    })
}

/// Names every row that was left out because it is damaged; true when there was one.
pub(super) fn tell_damaged(db: &mut InventoryDb, events: &Arc<dyn Events>, clock: Clock) -> bool {
    let damaged = db.take_damaged();
    let any = !damaged.is_empty();
    for row in damaged {
        let why =
            "the row is damaged and left out: its machine is not known, and not installed; bring back an older state \
                   with `cordwainer restore`"
                .to_owned();
        events.emit(Event {
            at: clock.now(),
            mac: None,
            system: None,
            peer: None,
            what: What::AssetMissing {
                what: format!("inventory.db: {row}"),
                why,
            },
        });
    }
    any
}

/// True for a row that names files: anything but a system whose answer file is its profile's.
fn says_of_files(change: &RowChange) -> bool {
    !matches!(change, RowChange::Put(Row::System(system)) if system.autoinstall.is_inherited())
}

/// Tells of armings that came and went, with the machine that they are about.
fn tell(change: &RowChange, before: &Inventory, snapshots: &Snapshots, events: &Arc<dyn Events>) {
    let (system, what) = match change {
        RowChange::Put(Row::Arm(arm)) => (
            &arm.system,
            What::Armed {
                by: arm.by.clone(),
                until: arm.until,
            },
        ),
        RowChange::Disarm(system) if before.arm(system.as_str()).is_some() => (system, What::Disarmed),
        _ => return,
    };
    let mac = before.system(system.as_str()).and_then(|record| record.macs().next());
    events.emit(Event {
        at: snapshots.clock.now(),
        mac,
        system: Some(system.clone()),
        peer: None,
        what,
    });
}

/// Tells once of every file that a distro or an image needs and that is not there; again when it comes back and goes.
fn tell_missing(snapshots: &Snapshots, known: &mut BTreeSet<String>, events: &Arc<dyn Events>) {
    let assets = snapshots.assets.load();
    let mut now = BTreeSet::new();
    for (distro, media) in &assets.media {
        for problem in std::iter::once(&media.kernel)
            .chain(&media.initrd)
            .filter_map(|file| file.as_ref().err())
        {
            let key = format!("distro {distro}: {problem}");
            if !known.contains(&key) {
                let what = What::AssetMissing {
                    what: format!("distro {distro}"),
                    why: problem.clone(),
                };
                events.emit(event(snapshots, what));
            }
            now.insert(key);
        }
    }
    for (image, file) in &assets.images {
        let Err(problem) = &**file else { continue };
        let what = format!("image {image}");
        let key = format!("{what}: {problem}");
        if !known.contains(&key) {
            let why = problem.clone();
            events.emit(event(snapshots, What::AssetMissing { what, why }));
        }
        now.insert(key);
    }
    *known = now;
}
