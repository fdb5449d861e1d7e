//! Which peers have a task, so that a peer's requests come to its own transfer and nobody has too many.
//!
//! It never waits for a task, and a task that leaves never loses a request that came meanwhile.
#![allow(clippy::disallowed_methods, reason = "IO: shared between tasks")]

use crate::tftp::admit::{TRANSFERS, TRANSFERS_PER_ADDRESS};
use crate::tftp::packet::Request;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// A peer and the address of ours that it asked.
pub(super) type Key = (SocketAddrV4, Ipv4Addr);

/// Requests of one peer that may wait; more are dropped, and repeated by the peer.
const WAITING: usize = 4;

#[derive(Debug, Default)]
struct Peers {
    senders: BTreeMap<Key, mpsc::Sender<Request>>,
    per_address: BTreeMap<Ipv4Addr, usize>,
}

/// All peers that have a task.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Peers>);

/// What became of a request.
#[derive(Debug)]
pub(super) enum Offered {
    /// The peer's task has it, or has enough of them.
    Taken,
    /// A task must be started with this.
    New(Seat),
    /// So many transfers are the limit.
    Full(usize),
}

/// A task's place among the peers; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) key: Key,
    pub(super) requests: mpsc::Receiver<Request>,
    registry: Arc<Registry>,
    left: bool,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Peers> {
        // A panic between two lines of this file cannot leave the maps half changed in a way that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands `request` to the task of `key`, or makes a place for a new one.
    pub(super) fn offer(self: &Arc<Self>, key: Key, request: Request) -> Offered {
        let mut peers = self.lock();
        if let Some(sender) = peers.senders.get(&key) {
            if sender.try_send(request).is_err() {
                tracing::debug!(peer = %key.0, "too many TFTP requests at once; one is dropped");
            }
            return Offered::Taken;
        }
        if peers.senders.len() >= TRANSFERS {
            return Offered::Full(TRANSFERS);
        }
        let count = peers.per_address.entry(*key.0.ip()).or_default();
        if *count >= TRANSFERS_PER_ADDRESS {
            return Offered::Full(TRANSFERS_PER_ADDRESS);
        }
        *count = count.saturating_add(1);
        let (sender, requests) = mpsc::channel(WAITING);
        // The channel is new and empty, so this cannot fail.
        let _ = sender.try_send(request);
        peers.senders.insert(key, sender);
        Offered::New(Seat {
            key,
            requests,
            registry: Arc::clone(self),
            left: false,
        })
    }

    fn remove(&self, peers: &mut Peers, key: &Key) {
        peers.senders.remove(key);
        if let Some(count) = peers.per_address.get_mut(key.0.ip()) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                peers.per_address.remove(key.0.ip());
            }
        }
    }
}

impl Seat {
    /// The next request that waits, or none, and then the place is free.
    pub(super) fn next_or_leave(&mut self) -> Option<Request> {
        let registry = Arc::clone(&self.registry);
        let mut peers = registry.lock();
        if let Ok(request) = self.requests.try_recv() {
            return Some(request);
        }
        if !std::mem::replace(&mut self.left, true) {
            registry.remove(&mut peers, &self.key);
        }
        None
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.left {
            let mut peers = self.registry.lock();
            self.registry.remove(&mut peers, &self.key);
        }
    }
}
