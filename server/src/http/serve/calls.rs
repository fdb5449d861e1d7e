//! How many calls of XML-RPC are taken in at a time: their bodies are the only ones that are kept whole.
#![allow(clippy::disallowed_methods, reason = "IO: shared by all connections")]

use super::Shared;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

/// Calls of all addresses.
const MOST: u32 = 64;
/// Calls of one address.
const PER_ADDRESS: u32 = 16;

/// The calls that are under way, by address.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<IpAddr, u32>);

/// A call's place among them, given back when it is dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
    peer: IpAddr,
}

impl Place {
    /// A place for a call of `peer`; none when there are too many.
    pub(super) fn take(shared: &Arc<Shared>, peer: IpAddr) -> Option<Self> {
        let mut calls = shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let all = calls.0.values().fold(0_u32, |sum, count| sum.saturating_add(*count));
        let own = calls.0.get(&peer).copied().unwrap_or(0);
        if all >= MOST || own >= PER_ADDRESS {
            return None;
        }
        calls.0.insert(peer, own.saturating_add(1));
        Some(Self {
            shared: shared.clone(),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut calls = self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let left = calls.0.get(&self.peer).copied().unwrap_or(0).saturating_sub(1);
        if left == 0 {
            calls.0.remove(&self.peer);
        } else {
            calls.0.insert(self.peer, left);
        }
    }
}
