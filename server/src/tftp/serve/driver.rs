//! The few threads that drive all transfers: each sleeps in one epoll set, and what an ACK brings leaves before it looks at anything else.
//!
//! A window of one is a round trip for each block, so what counts is the time from an ACK to the next block: here it is one wake-up, one
//! receive and one send, and a wake-up is shared by all transfers that have something to do. Nothing here waits for a file or a state
//! task: what cannot be had at once is fetched on the runtime and comes back through the [`Inbox`]. A transfer that dies takes no other
//! with it.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: the threads of all transfers start here, and so does their clock"
)]

use super::running::{Running, Turn};
use crate::tftp::packet::Request;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// More threads than this never helped: the kernel's part of the work is in the network's own threads by then.
const MOST_THREADS: usize = 4;
/// No packet of a reader is longer.
const LONGEST: usize = 2048;
/// Sockets that are looked at between two looks at the deadlines.
const EVENTS: usize = 64;
/// So long a driver looks for the next ACK before it sleeps: waking a core takes tens of microseconds, and on a fast link that is most of
/// a block's time.
const SPIN: Duration = Duration::from_micros(50);
/// Each look that brought nothing doubles how many sleeps come before the next, up to 2 to the power of this: where answers take longer
/// than [`SPIN`] it costs next to nothing.
const MOST_DOUBLINGS: u32 = 6;
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// The inbox's own mark in the epoll set; transfers count from 1.
const INBOX: u64 = 0;

/// What others tell a driver.
pub(super) enum Message {
    /// A transfer begins.
    Start(Box<Running>),
    /// The peer of a transfer asked again.
    Ask(u64, Request),
    /// A piece of the file, or why there is none.
    Piece(u64, Result<Bytes, String>),
    /// Nobody waits for the end of this transfer any more.
    Cut(u64),
    /// All transfers are to be dropped.
    Quit,
}

/// Where others leave messages for a driver.
pub(super) struct Inbox {
    messages: Mutex<Vec<Message>>,
    bell: OwnedFd,
    /// Transfers that the driver has.
    busy: AtomicUsize,
}

impl Inbox {
    pub(super) fn post(&self, message: Message) {
        self.messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(message);
        // It fails only when the counter is full, and then it rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn take(&self) -> Vec<Message> {
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
        std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All drivers, for those who begin transfers.
pub(super) struct Drivers {
    inboxes: Vec<Arc<Inbox>>,
    last: AtomicU64,
}

/// Ends the drivers when it goes.
pub(super) struct Threads {
    inboxes: Vec<Arc<Inbox>>,
    ended: Vec<oneshot::Receiver<()>>,
}

/// A transfer that a driver has; dropping it before the end cuts the transfer off.
pub(super) struct Ticket {
    pub(super) id: u64,
    inbox: Arc<Inbox>,
    over: bool,
}

impl Drivers {
    /// Starts the threads. `began` is the point that all times of transfers count from.
    pub(super) fn start(began: Instant) -> io::Result<(Self, Threads)> {
        let count = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS));
        let mut threads = Threads {
            inboxes: Vec::new(),
            ended: Vec::new(),
        };
        for number in 0..count {
            let inbox = Arc::new(Inbox {
                messages: Mutex::default(),
                bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
                busy: AtomicUsize::new(0),
            });
            let driver = Driver::new(Arc::clone(&inbox), began)?;
            let (alive, ended) = oneshot::channel::<()>();
            std::thread::Builder::new()
                .name(format!("tftp-{number}"))
                .spawn(move || {
                    let _alive = alive;
                    driver.run();
                })?;
            threads.inboxes.push(inbox);
            threads.ended.push(ended);
        }
        let drivers = Self {
            inboxes: threads.inboxes.clone(),
            last: AtomicU64::new(INBOX),
        };
        Ok((drivers, threads))
    }

    /// Gives `running` to the driver with the least to do.
    pub(super) fn begin(&self, mut running: Box<Running>) -> Option<Ticket> {
        let id = self.last.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let inbox = self
            .inboxes
            .iter()
            .min_by_key(|inbox| inbox.busy.load(Ordering::Relaxed))?;
        inbox.busy.fetch_add(1, Ordering::Relaxed);
        running.accept(id, Arc::clone(inbox));
        inbox.post(Message::Start(running));
        Some(Ticket {
            id,
            inbox: Arc::clone(inbox),
            over: false,
        })
    }
}

impl Threads {
    /// Resolves when a driver is gone, which only a defect can cause.
    pub(super) async fn died(&mut self) {
        let mut waits = tokio::task::JoinSet::new();
        for ended in self.ended.drain(..) {
            waits.spawn(ended);
        }
        if waits.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for inbox in &self.inboxes {
            inbox.post(Message::Quit);
        }
    }
}

impl Ticket {
    /// Lets the driver judge a request that the same peer sent meanwhile.
    pub(super) fn ask(&self, request: Request) {
        self.inbox.post(Message::Ask(self.id, request));
    }

    /// The transfer has ended by itself.
    pub(super) fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.over {
            self.inbox.post(Message::Cut(self.id));
        }
    }
}

/// One thread's part.
struct Driver {
    inbox: Arc<Inbox>,
    began: Instant,
    epoll: OwnedFd,
    running: BTreeMap<u64, Box<Running>>,
    /// When to look at which transfer. A deadline that moves back, as one does with each ACK, leaves its alarm where it is.
    alarms: BinaryHeap<Reverse<(Duration, u64)>>,
    scratch: Scratch,
    spin: Spin,
}

/// Space that every transfer uses in its turn.
pub(super) struct Scratch {
    pub(super) burst: Vec<u8>,
    pub(super) heard: Vec<u8>,
}

/// Whether it pays to look before sleeping.
#[derive(Debug, Default)]
struct Spin {
    doublings: u32,
    sleeps: u32,
}

impl Spin {
    /// True when this wait is to begin with looking.
    fn is_due(&mut self) -> bool {
        match self.sleeps.checked_sub(1) {
            Some(left) => {
                self.sleeps = left;
                false
            }
            None => true,
        }
    }

    fn found(&mut self, something: bool) {
        self.doublings = if something {
            0
        } else {
            self.doublings.saturating_add(1).min(MOST_DOUBLINGS)
        };
        self.sleeps = 1_u32.checked_shl(self.doublings).unwrap_or(1).saturating_sub(1);
    }
}

impl Driver {
    fn new(inbox: Arc<Inbox>, began: Instant) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &inbox.bell,
            epoll::EventData::new_u64(INBOX),
            epoll::EventFlags::IN,
        )?;
        Ok(Self {
            inbox,
            began,
            epoll,
            running: BTreeMap::new(),
            alarms: BinaryHeap::new(),
            scratch: Scratch {
                burst: Vec::new(),
                heard: vec![0; LONGEST],
            },
            spin: Spin::default(),
        })
    }

    fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.began)
    }

    fn run(mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        loop {
            match self.wait(&mut events) {
                Ok(()) => {}
                Err(Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "TFTP sockets cannot be waited for");
                    return;
                }
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    INBOX => {
                        if !self.open_inbox() {
                            return;
                        }
                    }
                    id => self.turn(id, |running, now, scratch| running.ready(now, scratch)),
                }
            }
            self.ring();
        }
    }

    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), Errno> {
        let now = self.now();
        let left = self.alarms.peek().map(|Reverse((at, _))| at.saturating_sub(now));
        if !self.running.is_empty() && left.is_none_or(|left| left > SPIN) && self.spin.is_due() {
            let until = now.saturating_add(SPIN);
            loop {
                if epoll::wait(&self.epoll, spare_capacity(events), Some(&NOW))? > 0 {
                    self.spin.found(true);
                    return Ok(());
                }
                if self.now() >= until {
                    break;
                }
                // Whoever else wants this core, first of all a peer on this machine, has it meanwhile.
                std::thread::yield_now();
            }
            self.spin.found(false);
        }
        let timeout = left.map(|left| {
            // A timeout is cut to milliseconds, and one too short would be waited for in circles.
            let left = left.saturating_add(Duration::from_micros(999));
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()).map(|_| ())
    }

    /// False at the order to quit.
    fn open_inbox(&mut self) -> bool {
        for message in self.inbox.take() {
            match message {
                Message::Start(running) => self.start(running),
                Message::Ask(id, request) => {
                    self.turn(id, |running, now, scratch| running.asked(now, request, scratch))
                }
                Message::Piece(id, piece) => {
                    self.turn(id, |running, now, scratch| running.supplied(now, piece, scratch))
                }
                Message::Cut(id) => self.forget(id),
                Message::Quit => return false,
            }
        }
        true
    }

    fn start(&mut self, running: Box<Running>) {
        let id = running.id();
        let added = epoll::add(
            &self.epoll,
            running.socket(),
            epoll::EventData::new_u64(id),
            epoll::EventFlags::IN,
        );
        self.running.insert(id, running);
        match added {
            Ok(()) => self.turn(id, |running, now, scratch| running.go_on(now, scratch)),
            Err(error) => self.turn(id, |running, _, _| running.break_off(&error.to_string())),
        }
    }

    /// Lets one transfer act, and sees to what it needs next.
    fn turn(&mut self, id: u64, act: impl FnOnce(&mut Running, Duration, &mut Scratch) -> Turn) {
        let now = self.now();
        let Some(running) = self.running.get_mut(&id) else {
            return;
        };
        let scratch = &mut self.scratch;
        let turn = catch_unwind(AssertUnwindSafe(|| act(running, now, scratch)));
        match turn {
            Ok(Turn::GoesOn) => {}
            Ok(Turn::Blocked(blocked)) => {
                let flags = if blocked {
                    epoll::EventFlags::IN | epoll::EventFlags::OUT
                } else {
                    epoll::EventFlags::IN
                };
                let data = epoll::EventData::new_u64(id);
                if let Err(error) = epoll::modify(&self.epoll, running.socket(), data, flags) {
                    tracing::warn!(%error, "TFTP socket cannot be waited for");
                }
            }
            Ok(Turn::Ended) => return self.forget(id),
            Err(_) => {
                tracing::error!("a TFTP transfer died");
                return self.forget(id);
            }
        }
        if let Some(at) = running.new_alarm() {
            self.alarms.push(Reverse((at, id)));
        }
    }

    fn forget(&mut self, id: u64) {
        // The socket leaves the epoll set as it closes.
        if self.running.remove(&id).is_some() {
            self.inbox.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Looks at those whose time has come.
    fn ring(&mut self) {
        if self.alarms.is_empty() {
            return;
        }
        let now = self.now();
        while let Some(Reverse((at, id))) = self.alarms.peek().copied() {
            if at > now {
                break;
            }
            self.alarms.pop();
            self.turn(id, |running, now, scratch| running.rung(now, scratch));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_that_brings_nothing_becomes_rare_and_one_find_brings_it_back() {
        let mut spin = Spin::default();
        let looks = |spin: &mut Spin, waits: u32, found: bool| {
            let mut looks = 0;
            for _ in 0..waits {
                if spin.is_due() {
                    looks += 1;
                    spin.found(found);
                }
            }
            looks
        };
        assert_eq!(looks(&mut spin, 1000, true), 1000);
        assert!(looks(&mut spin, 6400, false) < 110);
        while !spin.is_due() {}
        spin.found(true);
        assert_eq!(looks(&mut spin, 1000, true), 1000);
    }
}
