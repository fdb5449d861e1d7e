//! The stock of a pool: free addresses that were lately asked for on the wire and that nobody has, so that an OFFER takes one at once.
//!
//! Pure. It says which addresses are worth asking for next and keeps what came of it; it never waits, and never grows beyond its bounds.
//! While it is empty, as after a burst of newcomers, addresses go out unprobed.

use crate::model::{Mac, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Addresses of one pool that are kept probed.
const STOCK: usize = 128;
/// Addresses that are asked for at a time, which is once a second: a burst is made good at this rate, and the wire bears it.
const ROUND: usize = 32;
/// Addresses that one look goes through; a pool full of reservations must not hold up the task that answers machines.
const LOOK: usize = 1024;
/// How long an answer of the wire counts.
const FRESH: Duration = Duration::from_secs(600);

/// What the wire says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nobody answered.
    Nobody,
    /// Somebody has it: who, where that can be seen (ARP shows it, a ping through a router does not).
    Somebody(Option<Mac>),
}

/// The stock of one pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Stock {
    /// Probed, and nobody's: to be given.
    ready: BTreeSet<Ipv4Addr>,
    /// When which address was found free; an address on offer keeps this, for most offers of a flood are never taken.
    probed: BTreeMap<Ipv4Addr, Timestamp>,
    by_age: BTreeSet<(Timestamp, Ipv4Addr)>,
    /// Asked for by name: somebody wants exactly this one, or a client said that it is in use.
    wishes: BTreeSet<Ipv4Addr>,
    /// Where the next look begins.
    cursor: u32,
}

impl Stock {
    /// The probed address at `start`, or the nearest above it, or the lowest.
    pub(super) fn pick(&self, start: Ipv4Addr) -> Option<Ipv4Addr> {
        self.ready.range(start..).next().or_else(|| self.ready.first()).copied()
    }

    pub(super) fn has(&self, address: Ipv4Addr) -> bool {
        self.ready.contains(&address)
    }

    /// Where the next look begins.
    pub(super) const fn cursor(&self) -> u32 {
        self.cursor
    }

    /// Somebody is to be given `address`, or must not be.
    pub(super) fn gone(&mut self, address: Ipv4Addr) {
        self.ready.remove(&address);
    }

    /// `address` was not taken after all: what was found still counts.
    pub(super) fn back(&mut self, address: Ipv4Addr) {
        if self.probed.contains_key(&address) {
            self.ready.insert(address);
        }
    }

    /// `address` is or was somebody's: what was found before counts no more.
    pub(super) fn forget(&mut self, address: Ipv4Addr) {
        self.ready.remove(&address);
        if let Some(at) = self.probed.remove(&address) {
            self.by_age.remove(&(at, address));
        }
    }

    /// Asks for `address` in the next round.
    pub(super) fn wish(&mut self, address: Ipv4Addr) {
        if self.wishes.len() < ROUND {
            self.wishes.insert(address);
        }
    }

    /// Nobody answered for `address`, which is free.
    pub(super) fn found_free(&mut self, address: Ipv4Addr, now: Timestamp) {
        self.forget(address);
        self.probed.insert(address, now);
        self.by_age.insert((now, address));
        self.ready.insert(address);
    }

    /// What to ask for now: wishes, then as many of `free` as the stock lacks. `free` begins at the cursor.
    pub(super) fn plan(&mut self, free: impl Iterator<Item = Ipv4Addr>, now: Timestamp) -> Vec<Ipv4Addr> {
        while let Some((at, address)) = self.by_age.first().copied()
            && (now.since(at) >= FRESH || at > now || self.probed.len() > STOCK.saturating_mul(4))
        {
            self.forget(address);
        }
        let mut round: Vec<Ipv4Addr> = std::mem::take(&mut self.wishes).into_iter().collect();
        let full =
            |round: &Vec<Ipv4Addr>| round.len() >= ROUND || self.ready.len().saturating_add(round.len()) >= STOCK;
        if full(&round) {
            return round;
        }
        for address in free.take(LOOK) {
            self.cursor = address.to_bits().saturating_add(1);
            if !self.ready.contains(&address) && !round.contains(&address) {
                round.push(address);
            }
            if full(&round) {
                break;
            }
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> impl Iterator<Item = Ipv4Addr> + Clone {
        (0..1000_u32).map(|n| Ipv4Addr::from_bits(0x0a00_0000 | n))
    }

    #[test]
    fn it_fills_in_rounds_and_then_rests_until_what_it_knows_is_old() {
        let mut stock = Stock::default();
        let mut asked = 0;
        for second in 0..10 {
            let now = Timestamp(second * 1000);
            let from = stock.cursor();
            let round = stock.plan(pool().skip_while(move |address| address.to_bits() < from), now);
            assert!(round.len() <= ROUND);
            asked += round.len();
            for address in round {
                stock.found_free(address, now);
            }
        }
        assert_eq!((asked, stock.ready.len()), (STOCK, STOCK));
        assert!(
            !stock.plan(pool(), Timestamp(0).plus(FRESH)).is_empty(),
            "the first round is old"
        );
    }

    #[test]
    fn an_address_on_offer_comes_back_and_one_that_was_leased_is_asked_for_again() {
        let mut stock = Stock::default();
        let address = Ipv4Addr::new(10, 0, 0, 7);
        stock.found_free(address, Timestamp(0));
        assert_eq!(stock.pick(Ipv4Addr::new(10, 0, 0, 9)), Some(address), "it wraps");
        stock.gone(address);
        assert_eq!(stock.pick(address), None);
        stock.back(address);
        assert!(stock.has(address));
        stock.forget(address);
        stock.back(address);
        assert!(!stock.has(address));
    }

    #[test]
    fn wishes_come_first_and_are_bounded() {
        let mut stock = Stock::default();
        for n in 0..1000 {
            stock.wish(Ipv4Addr::from_bits(n));
        }
        assert_eq!(stock.plan(pool(), Timestamp(0)).len(), ROUND);
        assert!(stock.plan(std::iter::empty(), Timestamp(0)).is_empty());
    }

    #[test]
    fn a_flood_of_offers_makes_it_remember_no_more_than_its_bound() {
        let mut stock = Stock::default();
        for n in 0..100_000_u32 {
            let address = Ipv4Addr::from_bits(n);
            stock.found_free(address, Timestamp(n.into()));
            stock.gone(address);
            if n.is_multiple_of(32) {
                stock.plan(std::iter::empty(), Timestamp(n.into()));
            }
        }
        assert!(stock.probed.len() <= STOCK * 4 + 32, "{}", stock.probed.len());
    }
}
