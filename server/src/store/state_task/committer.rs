//! The thread that writes: one transaction at a time, so that OFFERs are worked out and sent while a disk syncs.
//!
//! It publishes the read view, which never shows more than what is on disk, and only then lets the answers go.

use super::Then;
use crate::install::{Installs, Sighting};
use crate::model::{Lease, LeaseState, Timestamp};
use crate::ports::{LiveRow, NotDurable};
use crate::store::{Clock, LiveDb, StoreError};
use arc_swap::ArcSwap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long nobody must have asked before the log is laid out.
const PAUSE: Duration = Duration::from_millis(100);

/// What is written and answered together.
#[derive(Default)]
pub(super) struct Batch {
    /// Rows of live.db, in order.
    pub(super) rows: Vec<LiveRow>,
    /// What waits for them.
    pub(super) waiting: Vec<Then>,
    /// The sightings to show from now on.
    pub(super) sightings: imbl::OrdMap<Ipv4Addr, Sighting>,
    /// Addresses whose leases have ended.
    pub(super) ended: Vec<Ipv4Addr>,
    /// True to try whether writing works again.
    pub(super) probe: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.waiting.is_empty() && self.ended.is_empty() && !self.probe
    }
}

/// What the disk said of a batch.
pub(super) enum Outcome {
    /// It was not asked.
    Nothing,
    /// There were no rows, but writing was tried.
    Probe(Result<(), NotDurable>),
    /// Rows were written, or not.
    Rows(Result<(), NotDurable>),
}

/// What the committer owns.
pub(super) struct Committer {
    pub(super) db: LiveDb,
    pub(super) clock: Clock,
    /// What is on disk, as it was last shown.
    pub(super) stored: Installs,
    pub(super) view: Arc<ArcSwap<Installs>>,
}

impl Committer {
    /// Writes batch after batch until there can be no more. `done` hears of each; of one that failed before its answers leave, so that
    /// whoever is told asks again of a memory that is put right.
    pub(super) fn run(mut self, batches: &Receiver<Batch>, done: impl Fn(Outcome)) {
        let mut grows = true;
        loop {
            let pause = if grows { PAUSE } else { Duration::MAX };
            let batch = match batches.recv_timeout(pause) {
                Ok(batch) => batch,
                // Nobody waits, so a piece of the log may be laid out; who comes meanwhile waits for no more than that.
                Err(RecvTimeoutError::Timeout) => {
                    grows = grows && self.db.lay_out_log();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let outcome = self.write(&batch);
            let result = match &outcome {
                Outcome::Rows(result) => result.clone(),
                // What needs no row is answered while the disk fails.
                Outcome::Probe(_) | Outcome::Nothing => Ok(()),
            };
            if result.is_ok() {
                self.take_in(batch.rows, &batch.ended);
            }
            self.stored.sightings = batch.sightings;
            self.view.store(Arc::new(self.stored.clone()));
            let mut told = Some(outcome);
            if result.is_err() {
                told.take().into_iter().for_each(&done);
            }
            for then in batch.waiting {
                then(result.clone());
            }
            told.into_iter().for_each(&done);
        }
        self.db.checkpoint();
    }

    fn write(&mut self, batch: &Batch) -> Outcome {
        let said = |result: Result<(), StoreError>| result.map_err(|error| NotDurable(error.to_string()));
        if !batch.rows.is_empty() {
            let rows: Vec<&LiveRow> = batch.rows.iter().collect();
            Outcome::Rows(said(self.db.write(&rows)))
        } else if batch.probe {
            Outcome::Probe(said(self.db.probe(self.clock.now())))
        } else {
            Outcome::Nothing
        }
    }

    fn take_in(&mut self, rows: Vec<LiveRow>, ended: &[Ipv4Addr]) {
        let now = self.clock.now();
        for address in ended {
            self.stored.holders.remove(address);
        }
        for row in rows {
            match row {
                LiveRow::Lease(lease) => hold(&mut self.stored, &lease, now),
                LiveRow::LeaseGone(address) => drop(self.stored.holders.remove(&address)),
                LiveRow::Installation(installation) => self.stored.put(*installation),
            }
        }
    }
}

/// Notes who has the address of a lease, while it has it.
pub(super) fn hold(installs: &mut Installs, lease: &Lease, now: Timestamp) {
    if lease.state == LeaseState::Active && lease.expires > now {
        installs.holders.insert(lease.address, lease.mac);
    } else {
        installs.holders.remove(&lease.address);
    }
}
