//! The state task: one thread that owns leases and installations, commits whatever queued while the last fsync ran, and publishes the
//! read view. An answer that depends on a row leaves only after the row is on disk.
//!
//! It never waits for a timer to batch, and never blocks on anything but the disk.

use super::{Clock, LiveDb, StoreError};
use crate::boot::{Effect, When};
use crate::dhcp::Leases;
use crate::event::{Event, What};
use crate::install::{Act, Input, Installation, Installs, Sighting, Stage, State, step};
use crate::model::{Lease, LeaseState, Timestamp};
use crate::ports::{BoxFuture, Class, Commit, Effects, Events, Job, Live, LiveRow, NotDurable, StateQueue};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What runs when a job's rows are on disk.
type Then = Box<dyn FnOnce(Result<(), NotDurable>) + Send>;

/// Jobs that may wait. Past half of it DISCOVERs are dropped, at the end of it REQUESTs.
const QUEUE: usize = 4096;
/// Most jobs in one transaction.
const BATCH: usize = 256;
/// A REQUEST that waited longer is dropped: the client has asked again.
const STALE: Duration = Duration::from_secs(2);
/// How long a boot exchange says who has an address.
const SIGHTING: Duration = Duration::from_secs(60);
/// How often the task looks for what time has ended, and whether a failing disk is back.
const TICK: Duration = Duration::from_secs(1);

/// How often it is written down that an installer was heard of, while nothing else changes.
const HEARD: Duration = Duration::from_secs(5);

struct Queued {
    class: Class,
    received: Timestamp,
    job: Job,
}

/// The state task as the rest of the daemon sees it.
pub struct StateTask {
    queue: Sender<Queued>,
    depth: Arc<AtomicUsize>,
    view: Arc<ArcSwap<Installs>>,
    events: Arc<dyn Events>,
    clock: Clock,
}

impl StateTask {
    /// Loads what live.db holds and starts the thread. The thread ends when every handle is gone, after its queue is empty.
    ///
    /// # Errors
    /// [`StoreError`] when live.db cannot be read.
    pub fn start(
        db: LiveDb,
        clock: Clock,
        install_timeout: Duration,
        events: Arc<dyn Events>,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let rows = db.load()?;
        for what in rows.damaged {
            let why =
                "the row cannot be read and is left alone; `cordwainer restore` brings back an older state".to_owned();
            events.emit(bare(
                clock.now(),
                What::AssetMissing {
                    what: format!("{}: {what}", db.path().display()),
                    why,
                },
            ));
        }
        let now = clock.now();
        let mut installs = Installs::default();
        for installation in rows.installations {
            installs.put(installation);
        }
        for lease in &rows.leases {
            hold(&mut installs, lease, now);
        }
        let live = Live {
            leases: Leases::load(rows.leases),
            installs: installs.clone(),
            read_only: false,
        };
        let view = Arc::new(ArcSwap::from_pointee(installs));
        let (queue, jobs) = channel();
        let depth = Arc::new(AtomicUsize::new(0));
        let path = db.path().to_owned();
        let aside = db.aside()?;
        let (wrote, writes) = sync_channel::<()>(1);
        // Ends when the worker, which holds the sender, does.
        std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || writes.iter().for_each(|()| aside.checkpoint()))
            .map_err(StoreError::io(&path, "start the thread that checkpoints it"))?;
        let worker = Worker {
            wrote,
            written: false,
            live,
            db,
            clock,
            install_timeout,
            view: view.clone(),
            depth: depth.clone(),
            events: events.clone(),
            ticked: now,
            swept: now,
        };
        let thread = std::thread::Builder::new()
            .name("state".into())
            .spawn(move || worker.run(&jobs))
            .map_err(StoreError::io(&path, "start the thread that writes it"))?;
        Ok((
            Self {
                queue,
                depth,
                view,
                events,
                clock,
            },
            thread,
        ))
    }

    /// The published read view.
    #[must_use]
    pub fn view(&self) -> Arc<ArcSwap<Installs>> {
        self.view.clone()
    }

    fn send(&self, class: Class, received: Timestamp, job: Job) -> bool {
        self.depth.fetch_add(1, Ordering::Relaxed);
        let sent = self.queue.send(Queued { class, received, job }).is_ok();
        if !sent {
            self.depth.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }

    /// A job that applies `effects` and calls `done`.
    fn effects_job(&self, effects: Vec<Effect>, done: impl FnOnce(Result<(), NotDurable>) + Send + 'static) -> Job {
        let sink = self.events.clone();
        Box::new(move |live, now| {
            let Applied { rows, events, refused } = apply(live, &effects, now);
            let then: Then = Box::new(move |result| {
                if result.is_ok() {
                    events.into_iter().for_each(|event| sink.emit(event));
                }
                done(match refused {
                    Some(why) => result.and(Err(NotDurable(why))),
                    None => result,
                });
            });
            // Installations are persistent values: the worker puts the snapshot before the batch back.
            Commit {
                rows,
                undo: Vec::new(),
                then,
            }
        })
    }
}

impl StateQueue for StateTask {
    fn submit(&self, class: Class, received: Timestamp, job: Job) -> bool {
        let depth = self.depth.load(Ordering::Relaxed);
        let full = match class {
            Class::Discover => depth >= QUEUE / 2,
            Class::Request => depth >= QUEUE,
            Class::Effect => false,
        };
        !full && self.send(class, received, job)
    }
}

impl Effects for StateTask {
    fn before(&self, effects: Vec<Effect>) -> BoxFuture<'_, Result<(), NotDurable>> {
        if effects.is_empty() {
            return Box::pin(std::future::ready(Ok(())));
        }
        let (told, answer) = tokio::sync::oneshot::channel();
        let job = self.effects_job(effects, move |result| drop(told.send(result)));
        self.send(Class::Effect, self.clock.now(), job);
        Box::pin(async move {
            answer
                .await
                .unwrap_or_else(|_| Err(NotDurable("the server stops".into())))
        })
    }

    fn after(&self, effects: Vec<Effect>) {
        if !effects.is_empty() {
            let job = self.effects_job(effects, |_| ());
            self.send(Class::Effect, self.clock.now(), job);
        }
    }
}

struct Worker {
    live: Live,
    db: LiveDb,
    clock: Clock,
    install_timeout: Duration,
    view: Arc<ArcSwap<Installs>>,
    depth: Arc<AtomicUsize>,
    events: Arc<dyn Events>,
    ticked: Timestamp,
    swept: Timestamp,
    /// Wakes the thread that moves the WAL into the database, so that nobody here waits for it.
    wrote: SyncSender<()>,
    /// Something was written since it was last woken.
    written: bool,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Queued>) {
        loop {
            let first = match jobs.recv_timeout(TICK) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let batch: Vec<Queued> = first
                .into_iter()
                .chain(jobs.try_iter().take(BATCH.saturating_sub(1)))
                .collect();
            self.depth.fetch_sub(batch.len(), Ordering::Relaxed);
            self.work(batch);
            let now = self.clock.now();
            if now.since(self.ticked) >= TICK {
                self.ticked = now;
                self.tick(now);
            }
        }
        self.db.checkpoint();
    }

    fn work(&mut self, batch: Vec<Queued>) {
        let before = self.live.installs.clone();
        let mut rows: Vec<LiveRow> = Vec::new();
        let mut undo: Vec<LiveRow> = Vec::new();
        let mut waiting: Vec<Then> = Vec::new();
        for queued in batch {
            let now = self.clock.now();
            if queued.class != Class::Effect && now.since(queued.received) > STALE {
                continue;
            }
            let before_job = self.live.read_only.then(|| self.live.installs.clone());
            let commit = (queued.job)(&mut self.live, now);
            let writes = !commit.rows.is_empty();
            if queued.class == Class::Discover && !writes {
                // An OFFER promises nothing that must survive. An ACK without rows repeats one whose row may be in this batch: it waits.
                (commit.then)(Ok(()));
                continue;
            }
            match before_job {
                // While the disk fails, one job's row must not spoil the answers of others, which ask for none.
                Some(installs) if writes => {
                    self.take_back(installs, commit.undo);
                    (commit.then)(Err(NotDurable("the disk still fails".into())));
                    continue;
                }
                _ => {}
            }
            rows.extend(commit.rows);
            undo.extend(commit.undo);
            waiting.push(commit.then);
        }
        let result = self.store(&rows);
        match &result {
            Ok(()) => {
                let now = self.clock.now();
                for row in &rows {
                    match row {
                        LiveRow::Lease(lease) => hold(&mut self.live.installs, lease, now),
                        LiveRow::LeaseGone(address) => drop(self.live.installs.holders.remove(address)),
                        LiveRow::Installation(_) => (),
                    }
                }
            }
            Err(_) => self.take_back(before, undo),
        }
        self.publish();
        for then in waiting {
            then(result.clone());
        }
    }

    fn publish(&self) {
        self.view.store(Arc::new(self.live.installs.clone()));
    }

    /// Makes memory say again what the disk says. Sightings are memory's own and stay.
    fn take_back(&mut self, installs: Installs, undo: Vec<LiveRow>) {
        let sightings = std::mem::take(&mut self.live.installs.sightings);
        self.live.installs = installs;
        self.live.installs.sightings = sightings;
        for row in undo.into_iter().rev() {
            match row {
                LiveRow::Lease(lease) => self.live.leases.put(lease),
                LiveRow::LeaseGone(address) => self.live.leases.remove(address),
                LiveRow::Installation(_) => (),
            }
        }
    }

    fn store(&mut self, rows: &[LiveRow]) -> Result<(), NotDurable> {
        if rows.is_empty() {
            return Ok(());
        }
        self.written = true;
        let rows: Vec<&LiveRow> = rows.iter().collect();
        let result = self.db.write(&rows);
        self.judge(result)
    }

    /// Tells the admin once that the disk fails, and once that it works again.
    fn judge(&mut self, result: Result<(), StoreError>) -> Result<(), NotDurable> {
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.live.read_only) {
                    self.events.emit(bare(self.clock.now(), What::StoreRecovered));
                }
                Ok(())
            }
            Err(error) => {
                let error = error.to_string();
                if !std::mem::replace(&mut self.live.read_only, true) {
                    self.events
                        .emit(bare(self.clock.now(), What::StoreFailed { error: error.clone() }));
                }
                Err(NotDurable(error))
            }
        }
    }

    fn tick(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.written) {
            // A checkpoint that still runs will find these pages too, or the next one does.
            let _still_at_it = self.wrote.try_send(());
        }
        if self.live.read_only {
            let result = self.db.probe(now);
            drop(self.judge(result));
        }
        let old: Vec<_> = self
            .live
            .installs
            .sightings
            .iter()
            .filter(|(_, seen)| now.since(seen.at) > SIGHTING)
            .map(|(at, _)| *at)
            .collect();
        for address in old {
            self.live.installs.sightings.remove(&address);
        }
        // Leases and silent installers end by the minute, not by the second; a look at all of them is not made more often.
        if now.since(self.swept) >= TICK.saturating_mul(10) {
            self.swept = now;
            self.sweep(now);
        }
        self.publish();
    }

    fn sweep(&mut self, now: Timestamp) {
        let ended: Vec<_> = self
            .live
            .installs
            .holders
            .keys()
            .filter(|address| self.live.leases.holder(**address, now).is_none())
            .copied()
            .collect();
        for address in ended {
            self.live.installs.holders.remove(&address);
        }
        let silent: Vec<Arc<Installation>> = self
            .live
            .installs
            .by_system
            .values()
            .filter(|seen| seen.state.is_open() && now.since(seen.heard_at) > self.install_timeout)
            .cloned()
            .collect();
        for seen in silent {
            let act = Act {
                arm: arm_of(&seen),
                input: Input::Silent(now.since(seen.heard_at)),
            };
            let before = self.live.installs.clone();
            let Applied { rows, events, .. } = apply(
                &mut self.live,
                &[Effect::Install {
                    when: When::Before,
                    act,
                }],
                now,
            );
            match self.store(&rows) {
                Ok(()) => {
                    self.publish();
                    events.into_iter().for_each(|event| self.events.emit(event));
                }
                Err(_) => self.take_back(before, Vec::new()),
            }
        }
    }
}

/// An arming as far as the installation remembers it: enough for the watchdog, whose input needs no more than the id.
fn arm_of(seen: &Installation) -> crate::model::Arm {
    crate::model::Arm {
        id: seen.arm.clone(),
        system: seen.system.clone(),
        at: seen.claimed_at,
        until: seen.heard_at,
        by: String::new(),
    }
}

fn hold(installs: &mut Installs, lease: &Lease, now: Timestamp) {
    if lease.state == LeaseState::Active && lease.expires > now {
        installs.holders.insert(lease.address, lease.mac);
    } else {
        installs.holders.remove(&lease.address);
    }
}

fn bare(at: Timestamp, what: What) -> Event {
    Event {
        at,
        mac: None,
        system: None,
        peer: None,
        what,
    }
}

/// What effects come to.
#[derive(Default)]
struct Applied {
    /// The rows to write.
    rows: Vec<LiveRow>,
    /// The events to tell once they are written.
    events: Vec<Event>,
    /// Why the reply must not leave: the installation has moved on since it was decided.
    refused: Option<String>,
}

/// Applies effects to the live state.
fn apply(live: &mut Live, effects: &[Effect], now: Timestamp) -> Applied {
    let Applied {
        mut rows,
        mut events,
        mut refused,
    } = Applied::default();
    for effect in effects {
        match effect {
            Effect::Seen {
                mac,
                address,
                firmware,
                loader,
            } => {
                let seen = Sighting {
                    mac: *mac,
                    firmware: *firmware,
                    loader: *loader,
                    at: now,
                };
                live.installs.saw(*address, seen);
            }
            Effect::Install { when, act } => {
                let before = live.installs.by_system.get(&act.arm.system).cloned();
                let Some(after) = step(&act.arm, before.as_deref(), &act.input, now) else {
                    if act.input.opens() {
                        let state = before.map_or(State::Idle, |before| before.state);
                        refused = Some(format!("{} is {state} by now", act.arm.system));
                    }
                    continue;
                };
                if before
                    .as_deref()
                    .is_some_and(|before| only_heard_again(before, &after, &act.input))
                {
                    continue;
                }
                let new_attempt =
                    before.is_none_or(|before| before.arm != after.arm || before.attempts != after.attempts);
                if let Some(what) = told(&after, &act.input, *when, new_attempt) {
                    events.push(Event {
                        at: now,
                        mac: after.mac,
                        system: Some(after.system.clone()),
                        peer: after.bound.map(Into::into),
                        what,
                    });
                }
                live.installs.put(after.clone());
                rows.push(LiveRow::Installation(Box::new(after)));
            }
        }
    }
    Applied { rows, events, refused }
}

/// True when all that is new is that something was heard a moment later. Installers fetch a kernel in pieces and packages by the
/// hundred; each is no row. The watchdog counts in minutes.
fn only_heard_again(before: &Installation, after: &Installation, input: &Input) -> bool {
    let same = Installation {
        heard_at: before.heard_at,
        ..after.clone()
    };
    matches!(input, Input::Reached(_) | Input::AnswersFetched)
        && same == *before
        && after.heard_at.since(before.heard_at) < HEARD
}

/// The event that a transition is worth. A reported stage is told by who took the report, with its details.
fn told(after: &Installation, input: &Input, when: When, new_attempt: bool) -> Option<What> {
    let reason = || after.reason.clone().unwrap_or_default();
    match input {
        Input::Launch { address, .. } => new_attempt.then_some(What::Claimed {
            address: *address,
            attempt: after.attempts,
        }),
        Input::Done => Some(What::Installed),
        Input::Reached(Stage::Booted) if after.state == State::Installed => Some(What::BootedFromDisk),
        Input::Reached(stage) if when == When::After => Some(What::Stage {
            stage: stage.to_string(),
            detail: None,
            reported: false,
        }),
        Input::Reached(_) | Input::AnswersFetched => None,
        Input::Failed(_) | Input::Silent(_) => Some(What::Failed { reason: reason() }),
        Input::BootedAgain => Some(What::Held { reason: reason() }),
    }
}
