//! What a start makes of the state that it finds: sound, damaged, lost, rolled back, or older than the clock allows.
//!
//! At 2 a.m. the network must go on, and nothing may be wiped. So:
//! - **live.db that cannot be read** is moved into `damaged-DATE/` (with its log), and a new one takes its place in one step with every
//!   row of the old one that can be read and whose checksum fits. DHCP goes on at once: reservations come from the inventory, a client
//!   that extends a lease keeps it, and a machine of which nothing is known any more gets the address that its MAC leads to, which is
//!   most often the one that it had. An installation that was open in a damaged file is held: it may be older than the truth.
//! - **An installation that is lost never leads to a wipe.** `handed-out` tells for which armings the installer has left; one whose
//!   record in live.db is gone, or says less, is held, and only `system arm --again` installs that machine. Where that file is lost
//!   together with live.db, every arming is held.
//! - **inventory.db that cannot be read** is refused, with the remedy: without it nobody knows whose an address is, and an edit would
//!   write over what may be saved. A single damaged row is left out and named.
//! - **A log of inventory.db that is lost** is noticed by `inventory.seen`: every arming is withdrawn then, since the lost part may have
//!   withdrawn it. The end of live.db's log that is lost or damaged looks like the one that a power cut leaves, and is not noticed: its
//!   leases are unknown until their clients extend them, its installations are held (above).
//! - **A server key of the wrong length** is set aside and made anew; one that is not the key of before is told. Tokens of running
//!   installations open nothing then.
//! - **A clock that leapt** since the state was written moves the leases with it: they keep their remaining time. An arming that had
//!   lapsed stays lapsed.
//!
//! Never deletes what it sets aside, and never runs beside a daemon, which the lock proves.

use super::clock::{Leap, leap};
use super::handed_out::{Far, Found, HandedOut};
use super::{Folder, InventoryDb, LiveDb, LiveRows, Migrated, StateLock, StoreError, backup, database, key, live_db};
use crate::event::{Event, What};
use crate::install::{Installation, ServerKey, State};
use crate::inventory::{Inventory, RowChange};
use crate::model::{Arm, Mac, Name, Timestamp};
use crate::ports::LiveRow;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// A step of the clock that is none: that of a slow NTP client, and what a start takes.
const STEADY: Duration = Duration::from_secs(1);

/// Mark in inventory.db: a daemon has served from it, so that there was a live.db.
const SERVED: &str = "served";
/// Mark in inventory.db: which key the tokens were made with.
const KEY: &str = "key";
/// Mark in inventory.db: a start is at work on a state of which something is lost.
const MENDING: &str = "mending";

/// The state, as a start found and mended it.
#[derive(Debug)]
pub struct Recovered {
    /// live.db, open for the daemon.
    pub live: LiveDb,
    /// What it holds.
    pub rows: LiveRows,
    /// The server's key.
    pub key: ServerKey,
    /// What an admin should know.
    pub told: Vec<Event>,
}

/// Finishes what a crash interrupted and brings the databases to the schema of this program, before anything of the state is opened.
/// A live.db that is too damaged for that is left to [`recover`].
///
/// # Errors
/// When the state folder cannot be read or written, or a database is newer; inventory.db also when it is damaged.
pub fn prepare(folder: &Folder, lock: &StateLock, now: Timestamp) -> Result<Vec<Migrated>, StoreError> {
    folder.sweep()?;
    backup::finish_restore(folder)?;
    database::migrate_leniently(folder, lock, now)
}

/// Opens live.db and the server key for the daemon, and mends what can be mended. `inventory` is `db` as it was loaded; what is withdrawn
/// of its armings is withdrawn in both.
///
/// # Errors
/// [`StoreError`] where going on would be unsafe, or the disk does not let us.
pub fn recover(
    folder: &Folder,
    _lock: &StateLock,
    db: &mut InventoryDb,
    inventory: &mut Inventory,
    now: Timestamp,
) -> Result<Recovered, StoreError> {
    let mut told = Told {
        now,
        events: Vec::new(),
    };
    let last_alive = newest(folder)?;
    let key = key::key_or_new(folder, now, &mut |what| told.say(what))?;
    let served_before = db.mark(SERVED)?.is_some();
    if db.mark(KEY)?.is_some_and(|known| known != key::fingerprint(&key)) {
        told.say(
            "the server key is not the one of before: the tokens of installations that run open nothing any more; \
             `cordwainer restore FILE` brings the key back, or arm those machines again"
                .to_owned(),
        );
    }
    if db.is_rolled_back()? {
        let armed: Vec<Name> = inventory.arms().map(|arm| arm.system.clone()).collect();
        withdraw(db, inventory, &armed)?;
        db.accept()?;
        told.say(format!(
            "the latest changes of inventory.db are lost with its log; whoever was armed is not any more, for it may have been \
             withdrawn: {}; look what is missing, or `cordwainer restore FILE`",
            listed(&armed)
        ));
    }
    let (mut live, rows, whole) = open_or_salvage(folder, served_before, &mut told)?;
    let mut rows = rows;
    let (mut handed_out, found) = HandedOut::read(folder)?;
    if found == Found::Damaged {
        told.say(format!(
            "{}: lines of it cannot be read",
            folder.file(super::handed_out::FILE).display()
        ));
    }
    let mut write = follow_clock(db, inventory, &mut rows, last_alive, &mut told)?;
    let trusted = (whole && db.mark(MENDING)?.is_none_or(|mending| mending == 0)) || found == Found::Sound;
    if !trusted {
        // Should this start be cut off, the next one must not take its beginnings for a sound state.
        db.set_mark(MENDING, 1)?;
    }
    let lost = rows_to_hold(inventory, &rows, &handed_out, trusted, now);
    for installation in lost {
        told.held(&installation, inventory);
        rows.installations.retain(|known| known.system != installation.system);
        rows.installations.push(installation.clone());
        write.push(LiveRow::Installation(Box::new(installation)));
    }
    if !write.is_empty() {
        live.write(&write.iter().collect::<Vec<_>>())?;
    }
    handed_out.settle(folder, |arm| inventory.arms().any(|known| known.id == *arm))?;
    handed_out.note(&rows.installations)?;
    live.handed_out = Some(handed_out);
    for (mark, value) in [(SERVED, 1), (KEY, key::fingerprint(&key)), (MENDING, 0)] {
        if db.mark(mark)? != Some(value) {
            db.set_mark(mark, value)?;
        }
    }
    Ok(Recovered {
        live,
        rows,
        key,
        told: told.events,
    })
}

struct Told {
    now: Timestamp,
    events: Vec<Event>,
}

impl Told {
    fn say(&mut self, what: String) {
        self.events.push(Event {
            at: self.now,
            mac: None,
            system: None,
            peer: None,
            what: What::StateDamaged { what },
        });
    }

    fn held(&mut self, installation: &Installation, inventory: &Inventory) {
        let mac = installation.mac.or_else(|| mac_of(inventory, &installation.system));
        self.events.push(Event {
            at: self.now,
            mac,
            system: Some(installation.system.clone()),
            peer: None,
            what: What::Held {
                reason: installation.reason.clone().unwrap_or_default(),
            },
        });
    }
}

fn mac_of(inventory: &Inventory, system: &Name) -> Option<Mac> {
    inventory
        .system(system.as_str())
        .and_then(|system| system.macs().next())
}

/// live.db with what it holds, and whether that is all it ever held as far as can be seen.
fn open_or_salvage(
    folder: &Folder,
    served_before: bool,
    told: &mut Told,
) -> Result<(LiveDb, LiveRows, bool), StoreError> {
    let there = folder.has(live_db::SCHEMA.file)?;
    if !there && served_before {
        told.say(format!(
            "{} is gone, and with it every lease; `cordwainer restore FILE` brings back an older state",
            folder.file(live_db::SCHEMA.file).display()
        ));
    }
    let opened = LiveDb::open_writer(folder).and_then(|db| {
        db.whole()?;
        let rows = db.load()?;
        Ok((db, rows))
    });
    let why = match opened {
        Ok((db, rows)) => {
            let whole = rows.damaged.is_empty() && (there || !served_before);
            return Ok((db, rows, whole));
        }
        Err(error) if error.is_damage() => error,
        Err(error) => return Err(error),
    };
    let mut rows = live_db::salvage(&folder.file(live_db::SCHEMA.file));
    for installation in &mut rows.installations {
        if installation.state.is_open() {
            installation.state = State::Held;
            installation.reason = Some(
                "its record was saved from a damaged file and may be older than the truth; its disk is not wiped again unasked"
                    .to_owned(),
            );
        }
    }
    let saved: Vec<LiveRow> = all(&rows);
    let aside = backup::replace(folder, "damaged", told.now, |fresh| live_db::make(fresh, &saved))?;
    let db = LiveDb::open_writer(folder)?;
    let why = match why {
        StoreError::Corrupt { why, .. } => why,
        other => other.to_string(),
    };
    told.say(format!(
        "live.db was damaged ({why}); {} leases and {} installations were saved from it, it is kept in {}; `cordwainer restore FILE` \
         brings back an older state instead",
        rows.leases.len(),
        rows.installations.len(),
        aside.display()
    ));
    Ok((db, rows, false))
}

fn all(rows: &LiveRows) -> Vec<LiveRow> {
    let leases = rows.leases.iter().cloned().map(LiveRow::Lease);
    let installations = rows
        .installations
        .iter()
        .cloned()
        .map(Box::new)
        .map(LiveRow::Installation);
    leases.chain(installations).collect()
}

/// Installations that must be held: an arming that may have been used, of which live.db says less than was promised.
fn rows_to_hold(
    inventory: &Inventory,
    rows: &LiveRows,
    handed_out: &HandedOut,
    trusted: bool,
    now: Timestamp,
) -> Vec<Installation> {
    let stored: BTreeMap<_, _> = rows.installations.iter().map(|row| (&row.arm, row)).collect();
    let hold = |arm: &Arm| {
        let known = stored.get(&arm.id).copied();
        let says = known.map(Far::of);
        let lost = match handed_out.far(&arm.id) {
            Some(far) => says.is_none_or(|says| says < far),
            None => says.is_none() && !trusted,
        };
        lost.then(|| Installation {
            arm: arm.id.clone(),
            system: arm.system.clone(),
            state: State::Held,
            mac: known.and_then(|known| known.mac),
            bound: known.and_then(|known| known.bound),
            behind: known.is_some_and(|known| known.behind),
            stage: known.and_then(|known| known.stage),
            partitioned: true,
            attempts: known.map_or(1, |known| known.attempts),
            claimed_at: known.map_or(now, |known| known.claimed_at),
            heard_at: now,
            reason: Some("what was known of its installation is lost; its disk is not wiped again unasked".to_owned()),
        })
    };
    inventory.arms().filter_map(|arm| hold(arm)).collect()
}

/// Lets leases keep their remaining time when the clock leapt since they were written, and armings that had lapsed stay so. The rows to
/// write.
fn follow_clock(
    db: &mut InventoryDb,
    inventory: &mut Inventory,
    rows: &mut LiveRows,
    last_alive: Option<Timestamp>,
    told: &mut Told,
) -> Result<Vec<LiveRow>, StoreError> {
    let now = told.now;
    let written = rows.last_time();
    let alive = last_alive.max(written).unwrap_or(now);
    // What ran out while the daemon lived must not run again because the clock went back.
    let risen: Vec<Name> = inventory
        .arms()
        .filter(|arm| arm.until <= alive && arm.is_in_force(now) && alive.since(now) > STEADY)
        .map(|arm| arm.system.clone())
        .collect();
    if !risen.is_empty() {
        withdraw(db, inventory, &risen)?;
        told.say(format!(
            "the clock went back, and armings that had lapsed would have held again; they are withdrawn: {}",
            listed(&risen)
        ));
    }
    let Some(leap) = written.and_then(|written| leap(written, now)) else {
        return Ok(Vec::new());
    };
    told.say(match leap {
        Leap::Ahead(by) => format!(
            "the clock is {} days ahead of what was last written; leases keep the time that they had left",
            by.as_secs() / 86_400
        ),
        Leap::Back(by) => format!(
            "the clock went back by {} minutes since the last lease was written; leases keep the time that they had left",
            by.as_secs() / 60
        ),
    });
    for lease in &mut rows.leases {
        lease.granted = leap.moved(lease.granted);
        lease.expires = leap.moved(lease.expires);
    }
    for installation in &mut rows.installations {
        installation.claimed_at = leap.moved(installation.claimed_at);
        installation.heard_at = leap.moved(installation.heard_at);
    }
    Ok(all(rows))
}

/// Disarms these, in the database and in what was loaded of it.
fn withdraw(db: &mut InventoryDb, inventory: &mut Inventory, systems: &[Name]) -> Result<(), StoreError> {
    if systems.is_empty() {
        return Ok(());
    }
    let withdrawn: Vec<RowChange> = systems.iter().cloned().map(RowChange::Disarm).collect();
    for row in db.commit(|_| Ok(withdrawn))?.rows {
        inventory.apply(row);
    }
    Ok(())
}

fn listed(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    }
}

/// When a file of the folder was last written: a daemon that is alive writes often.
fn newest(folder: &Folder) -> Result<Option<Timestamp>, StoreError> {
    let written = |name: String| {
        let modified = fs::symlink_metadata(folder.file(&name)).ok()?.modified().ok()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Timestamp(0).plus(since))
    };
    Ok(folder.names()?.into_iter().filter_map(written).max())
}
