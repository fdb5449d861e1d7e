//! Jobs that wait for the state task: what was begun comes before what is new, and nothing is answered that nobody waits for any more.
//!
//! The bound is one of time. Firmware asks again after some seconds, so a queue that clears within one is a burst worth waiting out; one
//! that does not clear is overload, where every answer would come as late as the queue is long and no more of them would leave. Then it is
//! kept short: the oldest DISCOVERs go, and whoever is answered is answered at once.

use crate::model::Timestamp;
use crate::ports::{Class, Job};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Work that waited longer is dropped: the client has asked again.
const STALE: Duration = Duration::from_secs(2);
/// How long the DISCOVERs of a burst may take to clear.
const BURST: Duration = Duration::from_millis(200);
/// How long a DISCOVER may wait once they do not clear any more.
const OVERLOAD: Duration = Duration::from_millis(5);

/// A job, as it was handed in.
pub(super) struct Queued {
    pub(super) class: Class,
    pub(super) received: Timestamp,
    pub(super) job: Job,
}

/// The jobs that wait.
pub(super) struct Waiting {
    begun: VecDeque<Queued>,
    known: VecDeque<Queued>,
    discovers: VecDeque<Queued>,
    /// When no DISCOVER waited for the last time.
    cleared: Timestamp,
    /// How many wait here or on the way here, for whoever hands in more.
    depth: Arc<AtomicUsize>,
}

impl Waiting {
    pub(super) const fn new(depth: Arc<AtomicUsize>, now: Timestamp) -> Self {
        Self {
            begun: VecDeque::new(),
            known: VecDeque::new(),
            discovers: VecDeque::new(),
            cleared: now,
            depth,
        }
    }

    pub(super) fn put(&mut self, queued: Queued) {
        match queued.class {
            Class::Discover => self.discovers.push_back(queued),
            Class::KnownDiscover => self.known.push_back(queued),
            Class::Request | Class::Effect => self.begun.push_back(queued),
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    pub(super) fn has_discovers(&self) -> bool {
        !self.known.is_empty() || !self.discovers.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.has_begun() && !self.has_discovers()
    }

    /// The oldest job of those that go on with something begun.
    pub(super) fn next_begun(&mut self, now: Timestamp) -> Option<Job> {
        while let Some(queued) = self.begun.pop_front() {
            self.gone();
            if queued.class == Class::Effect || now.since(queued.received) <= STALE {
                return Some(queued.job);
            }
        }
        None
    }

    /// The oldest DISCOVER that is still worth an answer, of a machine on record if there is one.
    pub(super) fn next_discover(&mut self, now: Timestamp) -> Option<Job> {
        while let Some(queued) = self.known.pop_front() {
            self.gone();
            if now.since(queued.received) <= STALE {
                return Some(queued.job);
            }
        }
        let patience = if now.since(self.cleared) > BURST {
            OVERLOAD
        } else {
            STALE
        };
        while let Some(queued) = self.discovers.pop_front() {
            self.gone();
            if now.since(queued.received) <= patience {
                return Some(queued.job);
            }
        }
        self.cleared = now;
        None
    }

    fn gone(&self) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{Commit, Live};
    use std::sync::Mutex;

    /// Answers with its number, for the tests to see which one was taken.
    fn queued(class: Class, received: i64, number: u32, seen: &Arc<Mutex<Vec<u32>>>) -> Queued {
        let seen = seen.clone();
        Queued {
            class,
            received: Timestamp(received),
            job: Box::new(move |_, _| {
                seen.lock().unwrap().push(number);
                Commit {
                    rows: Vec::new(),
                    undo: Vec::new(),
                    then: Box::new(|_| ()),
                }
            }),
        }
    }

    struct Bench {
        waiting: Waiting,
        depth: Arc<AtomicUsize>,
        seen: Arc<Mutex<Vec<u32>>>,
    }

    impl Bench {
        fn new() -> Self {
            let depth = Arc::new(AtomicUsize::new(0));
            Self {
                waiting: Waiting::new(depth.clone(), Timestamp(0)),
                depth,
                seen: Arc::default(),
            }
        }

        fn put(&mut self, class: Class, received: i64, number: u32) {
            self.depth.fetch_add(1, Ordering::Relaxed);
            self.waiting.put(queued(class, received, number, &self.seen));
        }

        /// Takes everything at `now`, what was begun first; the numbers in order.
        fn drain(&mut self, now: i64) -> Vec<u32> {
            let now = Timestamp(now);
            let mut live = Live::default();
            while let Some(job) = self.waiting.next_begun(now).or_else(|| self.waiting.next_discover(now)) {
                drop(job(&mut live, now));
            }
            std::mem::take(&mut *self.seen.lock().unwrap())
        }
    }

    #[test]
    fn what_was_begun_goes_first_and_in_order() {
        let mut bench = Bench::new();
        bench.put(Class::Discover, 0, 1);
        bench.put(Class::Request, 0, 2);
        bench.put(Class::Effect, 0, 3);
        bench.put(Class::KnownDiscover, 0, 5);
        bench.put(Class::Request, 0, 4);
        assert_eq!(bench.drain(1), [2, 3, 4, 5, 1]);
        assert_eq!(bench.depth.load(Ordering::Relaxed), 0);
        assert!(bench.waiting.is_empty());
    }

    #[test]
    fn a_burst_is_waited_out_and_overload_is_not() {
        let mut bench = Bench::new();
        for number in 0..100 {
            bench.put(Class::Discover, 0, number);
        }
        assert_eq!(bench.drain(150).len(), 100, "a burst clears");
        // From now on one always waits.
        for number in 0..60 {
            bench.put(Class::Discover, 150 + i64::from(number) * 10, number);
        }
        let job = bench.waiting.next_discover(Timestamp(160));
        assert!(job.is_some());
        let taken = bench.drain(742);
        assert_eq!(taken, [59], "overload: those that waited more than 5 ms are gone");
        bench.put(Class::Discover, 642, 7);
        assert_eq!(bench.drain(743), [7], "it cleared, so patience is back");
        assert_eq!(bench.depth.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn effects_are_never_too_old() {
        let mut bench = Bench::new();
        for (number, class) in [(1, Class::Request), (2, Class::Discover), (3, Class::Effect)] {
            bench.put(class, 0, number);
        }
        assert_eq!(bench.drain(2001), [3]);
    }
}
