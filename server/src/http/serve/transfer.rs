//! Keeps account of what is being sent: one event at the end, one a second on the way, and one per while for the thousands of small
//! files of an installation.
#![allow(clippy::disallowed_methods, reason = "IO: reads the clock to tell rates")]

use super::Shared;
use crate::event::What;
use crate::http::{Role, Who};
use crate::model::{Mac, Timestamp};
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Files larger than this tell how far they are.
const LARGE: u64 = 4 * 1024 * 1024;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long the files of a tree are summed before they are told.
const SUM_FOR: Duration = Duration::from_secs(5);
/// Most machines whose files are summed at once.
const MOST_SUMS: usize = 8192;

/// One file on its way to one client.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) shared: Arc<Shared>,
    pub(super) who: Who,
    pub(super) role: Role,
    pub(super) label: String,
    pub(super) status: u16,
    /// Bytes of the whole file.
    pub(super) size: u64,
    /// Bytes handed over so far.
    pub(super) sent: u64,
    pub(super) started: Instant,
    told: Instant,
    finished: bool,
}

impl Transfer {
    pub(super) fn new(
        shared: Arc<Shared>,
        who: Who,
        role: Role,
        label: String,
        status: u16,
        size: u64,
        started: Instant,
    ) -> Self {
        shared.metrics.http_transfers.inc();
        Self {
            shared,
            who,
            role,
            label,
            status,
            size,
            sent: 0,
            started,
            told: started,
            finished: false,
        }
    }

    /// Another piece was handed over.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(bytes);
        if self.size <= LARGE {
            return;
        }
        let now = Instant::now();
        if now.saturating_duration_since(self.told) >= PROGRESS_EVERY {
            self.told = now;
            self.tell(What::HttpProgress {
                role: self.role.as_str().to_owned(),
                path: self.label.clone(),
                bytes: self.sent,
                size: self.size,
            });
        }
    }

    fn tell(&self, what: What) {
        let at = self.shared.worlds.world().now;
        self.shared.events.emit(self.who.event(at, what));
    }

    fn millis(&self) -> u64 {
        let took = Instant::now().saturating_duration_since(self.started);
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
    }

    /// Everything left.
    pub(super) fn done(mut self: Box<Self>) {
        self.finished = true;
        let millis = self.millis();
        if self.role == Role::Tree && self.size <= LARGE {
            tracing::debug!(peer = %self.who.peer, file = %self.label, bytes = self.sent, millis, "tree file sent");
            self.shared.sums.add(&self, millis);
            return;
        }
        self.tell(What::HttpSent {
            role: self.role.as_str().to_owned(),
            path: self.label.clone(),
            bytes: self.sent,
            size: self.size,
            millis,
            status: self.status,
        });
    }

    /// It ended before its end.
    pub(super) fn broken(mut self, error: &io::Error) {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut};
        self.finished = true;
        self.tell_broken(&match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset => "the client went away".to_owned(),
            TimedOut => error.to_string(),
            _ => format!("the file could not be read: {error}"),
        });
    }

    fn tell_broken(&self, reason: &str) {
        self.tell(What::HttpBroken {
            path: self.label.clone(),
            bytes: self.sent,
            reason: reason.to_owned(),
        });
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.shared.metrics.http_transfers.dec();
        if !self.finished {
            let over = self.shared.over.load(Ordering::Relaxed);
            self.tell_broken(if over {
                "the server stops"
            } else {
                "the client went away"
            });
        }
    }
}

/// The small files of trees, summed per machine.
#[derive(Debug, Default)]
pub(super) struct Sums(Mutex<HashMap<(Option<Mac>, Ipv4Addr), Sum>>);

#[derive(Debug)]
struct Sum {
    who: Who,
    since: Instant,
    files: u64,
    bytes: u64,
    millis: u64,
    last: String,
}

impl Sum {
    fn what(&self) -> What {
        What::TreeSent {
            files: self.files,
            bytes: self.bytes,
            millis: self.millis,
            last: self.last.clone(),
        }
    }
}

impl Sums {
    fn add(&self, transfer: &Transfer, millis: u64) {
        let now = Instant::now();
        let key = (transfer.who.mac, transfer.who.peer);
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = sums.len() >= MOST_SUMS;
        let sum = sums.entry(key).or_insert_with(|| Sum {
            who: transfer.who.clone(),
            since: now,
            files: 0,
            bytes: 0,
            millis: 0,
            last: String::new(),
        });
        sum.files = sum.files.saturating_add(1);
        sum.bytes = sum.bytes.saturating_add(transfer.sent);
        sum.millis = now
            .saturating_duration_since(sum.since)
            .as_millis()
            .try_into()
            .unwrap_or(u64::MAX)
            .max(millis);
        sum.last.clone_from(&transfer.label);
        if full && let Some(sum) = sums.remove(&key) {
            drop(sums);
            transfer.tell(sum.what());
        }
    }

    /// Tells every sum that is old enough; with `all`, every one.
    pub(super) fn flush(&self, shared: &Shared, now: Timestamp, all: bool) {
        let clock = Instant::now();
        let due: Vec<Sum> = {
            let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let ripe = |sum: &Sum| all || clock.saturating_duration_since(sum.since) >= SUM_FOR;
            sums.extract_if(|_, sum| ripe(sum)).map(|(_, sum)| sum).collect()
        };
        for sum in due {
            shared.events.emit(sum.who.event(now, sum.what()));
        }
    }
}
