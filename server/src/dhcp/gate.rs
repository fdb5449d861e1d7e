//! At most so many packets of one machine per second reach the state task: a client gone mad, or a liar, costs a look-up and no more.
//!
//! Pure. Bounded: past the bound it forgets all and starts anew, which lets a storm of invented addresses gain nothing but that.

use crate::model::{Mac, Timestamp};
use std::collections::BTreeMap;

/// Packets per second that are let through for ever.
const RATE: i64 = 4;
/// Packets at once: three boot stages' worth of DISCOVER and REQUEST, with repeats.
const BURST: i64 = 16;
/// Machines that are told apart.
const MACHINES: usize = 65_536;

/// One bucket per machine, as the time at which it is full again.
#[derive(Debug, Default)]
pub(super) struct Gate(BTreeMap<Mac, Timestamp>);

impl Gate {
    /// True when a packet of `mac` may pass at `now`.
    pub(super) fn lets_pass(&mut self, mac: Mac, now: Timestamp) -> bool {
        const COST: i64 = 1000 / RATE;
        if self.0.len() >= MACHINES && !self.0.contains_key(&mac) {
            self.0.retain(|_, full| *full > now);
            if self.0.len() >= MACHINES {
                self.0.clear();
            }
        }
        let full = self.0.entry(mac).or_insert(now);
        let after = (*full).max(now).0.saturating_add(COST);
        if after.saturating_sub(now.0) > BURST.saturating_mul(COST) {
            return false;
        }
        *full = Timestamp(after);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_passes_and_a_flood_does_not() {
        let (mut gate, mac) = (Gate::default(), Mac::new([2, 0, 0, 0, 0, 1]));
        assert!((0..16).all(|_| gate.lets_pass(mac, Timestamp(0))));
        assert!(!gate.lets_pass(mac, Timestamp(0)));
        assert!(gate.lets_pass(Mac::new([2, 0, 0, 0, 0, 2]), Timestamp(0)));
        let passed = (0..10_000).filter(|at| gate.lets_pass(mac, Timestamp(*at))).count();
        assert!((39..=41).contains(&passed), "{passed} in 10 s");
    }

    #[test]
    fn it_stays_bounded() {
        let mut gate = Gate::default();
        for n in 0..70_000_u32 {
            let [_, a, b, c] = n.to_be_bytes();
            assert!(gate.lets_pass(Mac::new([2, 0, 0, a, b, c]), Timestamp(0)));
        }
        assert!(gate.0.len() <= MACHINES);
    }
}
