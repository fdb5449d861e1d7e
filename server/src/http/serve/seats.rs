//! Who is connected, and who has to go when there is no seat left: a connection on which no request is complete gives way to a new one,
//! so that ten thousand silent clients cannot keep one machine from its kernel. A connection that is answered keeps its seat.
#![allow(
    clippy::disallowed_methods,
    reason = "IO: reads the clock, to tell of a crowd once a minute"
)]

use super::Shared;
use crate::event::Event;
use crate::event::What;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a crowd is told of.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// All seats.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    taken: u32,
    by_address: HashMap<IpAddr, u32>,
    /// Who waits for a request, who has never made one first, then by how long it has been.
    waiting: BTreeMap<Place, Arc<Chair>>,
    next: u64,
    told: Option<Instant>,
}

/// True for who has made a request before, and when the waiting began.
type Place = (bool, u64);

#[derive(Debug)]
struct Chair {
    address: IpAddr,
    leave: Notify,
    /// The seat was given to another already.
    given: AtomicBool,
}

impl Table {
    fn free(&mut self, address: IpAddr) {
        self.taken = self.taken.saturating_sub(1);
        match self.by_address.get_mut(&address) {
            Some(own) if *own > 1 => *own = own.saturating_sub(1),
            _ => drop(self.by_address.remove(&address)),
        }
    }

    /// Sends one waiting connection away; of `address`, or of anyone. False when there is none.
    fn evict(&mut self, address: Option<IpAddr>) -> bool {
        let found = match address {
            None => self.waiting.first_key_value(),
            Some(address) => self.waiting.iter().find(|(_, chair)| chair.address == address),
        };
        let Some(place) = found.map(|(place, _)| *place) else {
            return false;
        };
        if let Some(chair) = self.waiting.remove(&place) {
            chair.given.store(true, Ordering::Relaxed);
            chair.leave.notify_one();
            self.free(chair.address);
        }
        true
    }
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees a descriptor, where one can be had.
    pub(super) fn make_room(&self) -> bool {
        self.lock().evict(None)
    }
}

/// One connection's place; given back when dropped.
pub(super) struct Seat {
    pub(super) shared: Arc<Shared>,
    chair: Arc<Chair>,
    place: Option<Place>,
    asked: bool,
}

impl Seat {
    /// A seat for `address`; none when it, or all, have as many as they may and each of them is being answered.
    pub(super) fn take(shared: &Arc<Shared>, address: IpAddr) -> Option<Self> {
        let mut table = shared.seats.lock();
        let own = table.by_address.get(&address).copied().unwrap_or(0);
        let crowd = if own >= shared.options.per_address && !table.evict(Some(address)) {
            Some((own, "this address"))
        } else if table.taken >= shared.options.connections && !table.evict(None) {
            Some((table.taken, "all addresses"))
        } else {
            None
        };
        if let Some((open, whose)) = crowd {
            let now = Instant::now();
            let silent = table
                .told
                .is_some_and(|told| now.saturating_duration_since(told) < TOLD_EVERY);
            if !silent {
                table.told = Some(now);
            }
            drop(table);
            shared.metrics.http_refused.inc();
            if !silent {
                shared.events.emit(Event {
                    at: shared.worlds.world().now,
                    mac: None,
                    system: None,
                    peer: Some(address),
                    what: What::HttpCrowded {
                        open,
                        whose: whose.to_owned(),
                    },
                });
            }
            return None;
        }
        table.taken = table.taken.saturating_add(1);
        let own = table.by_address.entry(address).or_insert(0);
        *own = own.saturating_add(1);
        drop(table);
        shared.metrics.http_connections.inc();
        let chair = Chair {
            address,
            leave: Notify::new(),
            given: AtomicBool::new(false),
        };
        Some(Self {
            shared: shared.clone(),
            chair: Arc::new(chair),
            place: None,
            asked: false,
        })
    }

    /// The connection waits for a request.
    pub(super) fn waits(&mut self) {
        let mut table = self.shared.seats.lock();
        let place = (self.asked, table.next);
        table.next = table.next.saturating_add(1);
        table.waiting.insert(place, self.chair.clone());
        self.place = Some(place);
    }

    /// A request is complete; false when the seat is another's meanwhile.
    pub(super) fn answers(&mut self) -> bool {
        self.asked = true;
        if let Some(place) = self.place.take() {
            self.shared.seats.lock().waiting.remove(&place);
        }
        !self.chair.given.load(Ordering::Relaxed)
    }

    /// Resolves when the seat was given to another.
    pub(super) fn given_away(&self) -> impl Future<Output = ()> + use<> {
        let chair = self.chair.clone();
        async move { chair.leave.notified().await }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.shared.seats.lock();
        if let Some(place) = self.place.take() {
            table.waiting.remove(&place);
        }
        if !self.chair.given.load(Ordering::Relaxed) {
            table.free(self.chair.address);
        }
        drop(table);
        self.shared.metrics.http_connections.dec();
    }
}
