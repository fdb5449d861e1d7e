//! The state task: one thread that owns leases and installations and answers packets, one that writes. It commits whatever queued while
//! the last fsync ran, and publishes the read view. An answer that depends on a row leaves only after the row is on disk.
//!
//! It never waits for a timer to batch. While batch n is being written, batch n+1 is worked out on top of it; when n cannot be written, both
//! are taken back, the later first, so what is in memory is never more than what is on disk once the disk has spoken.

mod committer;
mod effects;
mod waiting;

use super::{Clock, LiveDb, StoreError};
use crate::boot::{Effect, When};
use crate::dhcp::Leases;
use crate::event::{Event, What};
use crate::install::{Act, Input, Installation, Installs, Sighting};
use crate::model::Timestamp;
use crate::ports::{BoxFuture, Class, Commit, Effects, Events, Job, Live, LiveRow, NotDurable, StateQueue};
use arc_swap::ArcSwap;
use committer::{Batch, Committer, Outcome, hold};
use effects::{Applied, apply};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use waiting::{Queued, Waiting};

/// What runs when a job's rows are on disk.
type Then = Box<dyn FnOnce(Result<(), NotDurable>) + Send>;

/// Jobs that may wait. Past half of it DISCOVERs are dropped, at the end of it REQUESTs.
const QUEUE: usize = 4096;
/// Most answers that wait for one transaction.
const BATCH: usize = 512;
/// Answers that may wait for the disk while DISCOVERs are still answered. Each OFFER is one more REQUEST soon: past this the disk has
/// enough to do, and more of them would only make all wait longer.
const AHEAD: usize = 64;
/// DISCOVERs answered before the next look for something begun.
const SLICE: usize = 8;
/// How long a boot exchange says who has an address.
const SIGHTING: Duration = Duration::from_secs(600);
/// Rows after which the log is moved into the database although more are being written.
const LONG_LOG: usize = 32_768;
/// How often the task looks for what time has ended, and whether a failing disk is back.
const TICK: Duration = Duration::from_secs(1);

/// What the state thread hears.
enum Message {
    /// Something to do.
    Job(Queued),
    /// What came of the batch that was being written.
    Written(Outcome),
    /// The last handle is gone: finish what waits, and end.
    Close,
}

/// The state task as the rest of the daemon sees it.
pub struct StateTask {
    queue: Sender<Message>,
    depth: Arc<AtomicUsize>,
    view: Arc<ArcSwap<Installs>>,
    events: Arc<dyn Events>,
    clock: Clock,
}

impl Drop for StateTask {
    fn drop(&mut self) {
        // An error means that the thread has ended already.
        drop(self.queue.send(Message::Close));
    }
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
            installs: without_holders(installs.clone()),
            read_only: false,
        };
        let view = Arc::new(ArcSwap::from_pointee(installs.clone()));
        let (queue, messages) = channel();
        let depth = Arc::new(AtomicUsize::new(0));
        let path = db.path().to_owned();
        let thread = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(run)
                .map_err(StoreError::io(&path, "start a thread that writes it"))
        };
        let aside = db.aside()?;
        let (wrote, writes) = sync_channel::<()>(1);
        // Ends when the worker, which holds the sender, does.
        thread(
            "checkpoint",
            Box::new(move || writes.iter().for_each(|()| aside.checkpoint_under_load())),
        )?;
        let committer = Committer {
            db,
            clock,
            stored: installs,
            view: view.clone(),
        };
        let (batches, to_write) = channel();
        let written = queue.clone();
        let writer = thread(
            "commit",
            Box::new(move || committer.run(&to_write, |outcome| drop(written.send(Message::Written(outcome))))),
        )?;
        let worker = Worker {
            waiting: Waiting::new(depth.clone(), now),
            shown: live.installs.sightings.clone(),
            live,
            clock,
            install_timeout,
            view: view.clone(),
            events: events.clone(),
            next: Batch::default(),
            undo: Vec::new(),
            writing: None,
            batches,
            ticked: now,
            swept: now,
            wrote,
            written: 0,
            ticked_at: 0,
        };
        let state = thread(
            "state",
            Box::new(move || {
                worker.run(&messages, &writer);
                drop(writer.join());
            }),
        )?;
        Ok((
            Self {
                queue,
                depth,
                view,
                events,
                clock,
            },
            state,
        ))
    }

    /// The published read view.
    #[must_use]
    pub fn view(&self) -> Arc<ArcSwap<Installs>> {
        self.view.clone()
    }

    fn send(&self, class: Class, received: Timestamp, job: Job) -> bool {
        self.depth.fetch_add(1, Ordering::Relaxed);
        let sent = self.queue.send(Message::Job(Queued { class, received, job })).is_ok();
        if !sent {
            self.depth.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }
}

impl StateQueue for StateTask {
    fn submit(&self, class: Class, received: Timestamp, job: Job) -> bool {
        let depth = self.depth.load(Ordering::Relaxed);
        let full = match class {
            Class::Discover => depth >= QUEUE / 2,
            Class::KnownDiscover => depth >= QUEUE - QUEUE / 4,
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
        let job = effects_job(self.events.clone(), effects, move |result| drop(told.send(result)));
        self.send(Class::Effect, self.clock.now(), job);
        Box::pin(async move {
            answer
                .await
                .unwrap_or_else(|_| Err(NotDurable("the server stops".into())))
        })
    }

    fn after(&self, effects: Vec<Effect>) {
        if !effects.is_empty() {
            let job = effects_job(self.events.clone(), effects, |_| ());
            self.send(Class::Effect, self.clock.now(), job);
        }
    }
}

struct Worker {
    live: Live,
    waiting: Waiting,
    clock: Clock,
    install_timeout: Duration,
    /// What is on disk, as the committer shows it.
    view: Arc<ArcSwap<Installs>>,
    events: Arc<dyn Events>,
    /// What is written next.
    next: Batch,
    /// How `next` is taken back.
    undo: Vec<LiveRow>,
    /// How what is being written is taken back; none while nothing is.
    writing: Option<Vec<LiveRow>>,
    batches: Sender<Batch>,
    /// The sightings that were shown last.
    shown: imbl::OrdMap<Ipv4Addr, Sighting>,
    ticked: Timestamp,
    swept: Timestamp,
    /// Wakes the thread that moves the WAL into the database, so that nobody here waits for it.
    wrote: SyncSender<()>,
    /// Rows written since it was last woken.
    written: usize,
    /// Of those, how many there were at the last tick.
    ticked_at: usize,
}

impl Worker {
    /// Works until nobody can ask any more and all is written, or the writer is dead.
    fn run(mut self, messages: &Receiver<Message>, writer: &JoinHandle<()>) {
        let mut closing = false;
        loop {
            if closing && self.waiting.is_empty() && self.writing.is_none() && self.has_nothing_to_write() {
                return;
            }
            let first = if self.has_work() {
                None
            } else {
                match messages.recv_timeout(TICK) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            };
            for message in first.into_iter().chain(messages.try_iter()) {
                match message {
                    Message::Job(queued) => self.waiting.put(queued),
                    Message::Written(outcome) => self.settle(outcome),
                    Message::Close => closing = true,
                }
            }
            self.work();
            let now = self.clock.now();
            if now.since(self.ticked) >= TICK {
                self.ticked = now;
                self.tick(now);
                if writer.is_finished() {
                    return;
                }
            }
            self.hand_over();
        }
    }

    /// True when no more answers may wait for one transaction.
    const fn is_full(&self) -> bool {
        self.next.waiting.len() >= BATCH
    }

    /// True when something can be done without hearing more.
    fn has_work(&self) -> bool {
        (self.waiting.has_begun() && !self.is_full()) || (self.waiting.has_discovers() && self.offers())
    }

    /// True while DISCOVERs are answered.
    const fn offers(&self) -> bool {
        self.next.waiting.len() < AHEAD
    }

    fn has_nothing_to_write(&self) -> bool {
        self.next.is_empty() && self.shown.ptr_eq(&self.live.installs.sightings)
    }

    /// Everything that was begun, and then a few DISCOVERs.
    fn work(&mut self) {
        while !self.is_full() {
            let now = self.clock.now();
            let Some(job) = self.waiting.next_begun(now) else { break };
            self.run_job(job, now, false);
        }
        // What was begun is written while DISCOVERs are answered.
        self.hand_over();
        for _ in 0..SLICE {
            if !self.offers() {
                break;
            }
            let now = self.clock.now();
            let Some(job) = self.waiting.next_discover(now) else {
                break;
            };
            self.run_job(job, now, true);
        }
    }

    fn run_job(&mut self, job: Job, now: Timestamp, discover: bool) {
        let before = self.live.read_only.then(|| self.live.installs.clone());
        let commit = job(&mut self.live, now);
        let writes = !commit.rows.is_empty();
        if discover && !writes {
            // An OFFER promises nothing that must survive. An ACK without rows repeats one whose row may be on its way: it waits.
            (commit.then)(Ok(()));
            return;
        }
        if let Some(installs) = before.filter(|_| writes) {
            // While the disk fails, one job's row must not spoil the answers of others, which ask for none.
            self.take_back(installs, commit.undo);
            (commit.then)(Err(NotDurable("the disk still fails".into())));
            return;
        }
        self.next.rows.extend(commit.rows);
        self.undo.extend(commit.undo);
        self.next.waiting.push(commit.then);
    }

    /// Has the next batch written, unless one is being written.
    fn hand_over(&mut self) {
        if self.writing.is_some() || self.has_nothing_to_write() {
            return;
        }
        self.shown = self.live.installs.sightings.clone();
        self.written = self.written.saturating_add(self.next.rows.len());
        self.writing = Some(std::mem::take(&mut self.undo));
        let batch = Batch {
            sightings: self.shown.clone(),
            ..std::mem::take(&mut self.next)
        };
        // A writer that is dead is found by the tick.
        drop(self.batches.send(batch));
    }

    /// Takes note of what came of the batch that was being written.
    fn settle(&mut self, outcome: Outcome) {
        let undo = self.writing.take().unwrap_or_default();
        if let Outcome::Rows(Err(error)) = &outcome {
            // What was worked out meanwhile stands on what is not on disk, so it goes too, and it goes first.
            let later = std::mem::take(&mut self.next);
            let undo = undo.into_iter().chain(std::mem::take(&mut self.undo)).collect();
            let stored = self.view.load_full();
            self.take_back((*stored).clone(), undo);
            self.judge(Err(error.clone()));
            for then in later.waiting {
                then(Err(error.clone()));
            }
            return;
        }
        match outcome {
            Outcome::Rows(result) | Outcome::Probe(result) => self.judge(result),
            Outcome::Nothing => {}
        }
    }

    /// Makes memory say again what the disk says. Sightings are memory's own and stay.
    fn take_back(&mut self, installs: Installs, undo: Vec<LiveRow>) {
        let sightings = std::mem::take(&mut self.live.installs.sightings);
        self.live.installs = without_holders(installs);
        self.live.installs.sightings = sightings;
        for row in undo.into_iter().rev() {
            match row {
                LiveRow::Lease(lease) => self.live.leases.put(lease),
                LiveRow::LeaseGone(address) => self.live.leases.remove(address),
                LiveRow::Installation(_) => (),
            }
        }
    }

    /// Tells the admin once that the disk fails, and once that it works again.
    fn judge(&mut self, result: Result<(), NotDurable>) {
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.live.read_only) {
                    self.events.emit(bare(self.clock.now(), What::StoreRecovered));
                }
            }
            Err(NotDurable(error)) => {
                if !std::mem::replace(&mut self.live.read_only, true) {
                    self.events.emit(bare(self.clock.now(), What::StoreFailed { error }));
                }
            }
        }
    }

    fn tick(&mut self, now: Timestamp) {
        // A checkpoint and a transaction that sync at once wait for each other, so it waits for a pause, or until the log is long.
        let pauses = self.written > 0 && self.written == self.ticked_at;
        if pauses || self.written >= LONG_LOG {
            self.written = 0;
            // A checkpoint that still runs will find these pages too, or the next one does.
            let _still_at_it = self.wrote.try_send(());
        }
        self.ticked_at = self.written;
        self.next.probe = self.live.read_only;
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
    }

    fn sweep(&mut self, now: Timestamp) {
        let shown = self.view.load_full();
        let ended = shown.holders.keys().copied();
        self.next.ended = ended
            .filter(|address| self.live.leases.holder(*address, now).is_none())
            .collect();
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
            let effect = Effect::Install {
                when: When::Before,
                act,
            };
            let job = effects_job(self.events.clone(), vec![effect], |_| ());
            self.run_job(job, now, false);
        }
    }
}

/// What works on leases and installations; who holds an address is the read view's alone.
fn without_holders(mut installs: Installs) -> Installs {
    installs.holders = imbl::OrdMap::new();
    installs
}

/// A job that applies `effects` and calls `done`.
fn effects_job(
    sink: Arc<dyn Events>,
    effects: Vec<Effect>,
    done: impl FnOnce(Result<(), NotDurable>) + Send + 'static,
) -> Job {
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
        // Installations are persistent values: the worker puts those of the disk back.
        Commit {
            rows,
            undo: Vec::new(),
            then,
        }
    })
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

fn bare(at: Timestamp, what: What) -> Event {
    Event {
        at,
        mac: None,
        system: None,
        peer: None,
        what,
    }
}
