//! The addresses of one pool that may be given: ranges never used, and used ones in the order of their expiry.
//!
//! Pure. Every step costs O(log n) of the ranges, never of the addresses; a /8 costs no more than a /24.

use super::stock::Stock;
use crate::model::{Mac, Pool, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Addresses that one look goes through, beside those that it needs.
const LOOK: usize = 1024;
/// How long after a lease's end the wire is not asked for its address: who gave it back says so first and lets go of it then, and
/// would be taken for a squatter.
const LEAVING: Duration = Duration::from_secs(10);

/// What is known of an address beside its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody has it or had it.
    Fresh,
    /// Somebody's, until then.
    Used(Timestamp),
    /// Offered right now.
    Held,
}

/// One pool's index. An address is in `fresh`, or in `used`, or set aside, or held and then nowhere.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    pool: Pool,
    fresh: BTreeMap<u32, u32>,
    used: BTreeSet<(Timestamp, Ipv4Addr)>,
    aside: BTreeSet<Ipv4Addr>,
    looked_again: Timestamp,
    /// How many addresses `fresh` holds.
    fresh_count: u64,
    /// What the wire said, where it is asked.
    stock: Option<Stock>,
}

impl Shelf {
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            pool,
            fresh: BTreeMap::from([(pool.first.to_bits(), pool.last.to_bits())]),
            used: BTreeSet::new(),
            aside: BTreeSet::new(),
            looked_again: Timestamp(i64::MIN),
            fresh_count: pool.size(),
            stock: None,
        }
    }

    pub(super) const fn pool(&self) -> Pool {
        self.pool
    }

    /// Takes `address` out, wherever it stands. `before` is how it was put in.
    pub(super) fn take(&mut self, address: Ipv4Addr, before: Standing) {
        self.aside.remove(&address);
        if let Some(stock) = &mut self.stock {
            stock.gone(address);
        }
        if let Standing::Used(until) = before {
            self.used.remove(&(until, address));
        }
        let bits = address.to_bits();
        let Some((first, last)) = self.range_of(bits) else {
            return;
        };
        self.fresh.remove(&first);
        self.fresh_count = self.fresh_count.saturating_sub(1);
        if let Some(below) = bits.checked_sub(1).filter(|below| *below >= first) {
            self.fresh.insert(first, below);
        }
        if let Some(above) = bits.checked_add(1).filter(|above| *above <= last) {
            self.fresh.insert(above, last);
        }
    }

    /// Puts `address` in as it stands now.
    pub(super) fn put(&mut self, address: Ipv4Addr, standing: Standing) {
        if !self.pool.contains(address) {
            return;
        }
        match standing {
            Standing::Held => {}
            Standing::Used(until) => {
                self.used.insert((until, address));
                if let Some(stock) = &mut self.stock {
                    stock.forget(address);
                }
            }
            Standing::Fresh => {
                let bits = address.to_bits();
                if self.range_of(bits).is_some() {
                    return;
                }
                if let Some(stock) = &mut self.stock {
                    stock.back(address);
                }
                self.fresh_count = self.fresh_count.saturating_add(1);
                let (mut first, mut last) = (bits, bits);
                if let Some((below, _)) = bits.checked_sub(1).and_then(|below| self.range_of(below)) {
                    self.fresh.remove(&below);
                    first = below;
                }
                if let Some((above, end)) = bits.checked_add(1).and_then(|above| self.range_of(above)) {
                    self.fresh.remove(&above);
                    last = end;
                }
                self.fresh.insert(first, last);
            }
        }
    }

    /// An address for `mac`, and whether the wire was asked for it. A probed one first; then the fresh one nearest to where its hash
    /// points, so that a machine gets the same one even after the state was lost; when all were used, the one that expired first. What
    /// `shunned` names is given only when it was probed.
    pub(super) fn next(
        &self,
        mac: Mac,
        now: Timestamp,
        shunned: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<(Ipv4Addr, bool)> {
        let start = self.start(mac);
        if let Some(address) = self
            .stock
            .as_ref()
            .and_then(|stock| stock.pick(Ipv4Addr::from_bits(start)))
        {
            return Some((address, true));
        }
        let fresh = match self.range_of(start) {
            Some(_) => Some(start),
            None => self
                .fresh
                .range(start..)
                .next()
                .or_else(|| self.fresh.iter().next())
                .map(|(first, _)| *first),
        };
        fresh
            .map(Ipv4Addr::from_bits)
            .or_else(|| self.expired(now).take(LOOK).find(|address| !shunned(*address)))
            .map(|address| (address, false))
    }

    /// Used addresses whose time is over, the longest first.
    fn expired(&self, now: Timestamp) -> impl Iterator<Item = Ipv4Addr> {
        self.used
            .range(..=(now, Ipv4Addr::BROADCAST))
            .map(|(_, address)| *address)
    }

    /// True when more than `kept` addresses could be given. Costs O(`kept`) when few are left.
    pub(super) fn has_more_than(&self, kept: u64, now: Timestamp) -> bool {
        let lacking = kept.saturating_add(1).saturating_sub(self.fresh_count);
        let lacking = usize::try_from(lacking).unwrap_or(usize::MAX);
        self.expired(now).take(lacking).count() >= lacking
    }

    /// The stock, where the wire is asked.
    pub(super) fn stock(&mut self) -> Option<&mut Stock> {
        self.stock.as_mut()
    }

    /// False when the wire is asked here and was not asked for `address` lately.
    pub(super) fn is_probed(&self, address: Ipv4Addr) -> bool {
        self.stock.as_ref().is_none_or(|stock| stock.has(address))
    }

    /// What to ask the wire for now. The first call says that it is asked at all.
    pub(super) fn plan(&mut self, barred: impl Fn(Ipv4Addr) -> bool, now: Timestamp) -> Vec<Ipv4Addr> {
        let mut stock = self.stock.take().unwrap_or_default();
        let cursor = stock.cursor();
        let from_cursor = |(first, last): (&u32, &u32)| (*first.max(&cursor)..=*last).map(Ipv4Addr::from_bits);
        let before = self.range_of(cursor).map_or(cursor, |(first, _)| first);
        let above = self.fresh.range(before..).flat_map(from_cursor);
        let below = self.fresh.range(..=cursor).flat_map(|(first, last)| {
            let last = (*last).min(cursor);
            (*first..=last).map(Ipv4Addr::from_bits)
        });
        let left = |(until, _): &&(Timestamp, Ipv4Addr)| until.plus(LEAVING) <= now;
        let left = self.used.iter().take_while(left).map(|(_, address)| *address);
        let free = above.chain(below).take(LOOK).chain(left.take(LOOK));
        let round = stock.plan(free.filter(|address| !barred(*address)), now);
        self.stock = Some(stock);
        round
    }

    /// Sets an address aside that must not be given for now: reserved, or the server's own.
    pub(super) fn set_aside(&mut self, address: Ipv4Addr, before: Standing) {
        self.take(address, before);
        self.aside.insert(address);
    }

    /// What was set aside, to be judged again; at most every 10 s, for reservations change seldom and this costs the size of the set.
    pub(super) fn look_again(&mut self, now: Timestamp) -> Option<BTreeSet<Ipv4Addr>> {
        if self.aside.is_empty() || now < self.looked_again.plus(Duration::from_secs(10)) {
            return None;
        }
        self.looked_again = now;
        Some(std::mem::take(&mut self.aside))
    }

    fn range_of(&self, bits: u32) -> Option<(u32, u32)> {
        self.fresh
            .range(..=bits)
            .next_back()
            .map(|(first, last)| (*first, *last))
            .filter(|(_, last)| *last >= bits)
    }

    /// FNV-1a of the hardware address over the pool.
    fn start(&self, mac: Mac) -> u32 {
        let hash = mac.bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The low bits of FNV carry the last byte alone into small pools; fold the high half in.
        let offset = (hash ^ (hash >> 32)).checked_rem(self.pool.size()).unwrap_or(0);
        self.pool
            .first
            .to_bits()
            .saturating_add(u32::try_from(offset).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(text: &str) -> Shelf {
        Shelf::new(text.parse().unwrap())
    }

    fn next(shelf: &Shelf, mac: Mac, now: i64) -> Option<Ipv4Addr> {
        shelf.next(mac, Timestamp(now), |_| false).map(|(address, _)| address)
    }

    #[test]
    fn a_pool_is_given_out_whole_and_once() {
        let mut shelf = shelf("192.0.2.10-192.0.2.73");
        let mut seen = BTreeSet::new();
        for last in 0..64 {
            let address = next(&shelf, Mac::new([2, 0, 0, 0, 1, last]), 0).unwrap();
            assert!(shelf.pool().contains(address) && seen.insert(address));
            shelf.take(address, Standing::Fresh);
        }
        assert_eq!(next(&shelf, Mac::new([2, 0, 0, 0, 2, 0]), 0), None);
        for address in &seen {
            shelf.put(*address, Standing::Fresh);
        }
        assert_eq!(shelf.fresh.len(), 1, "ranges grow together again");
    }

    #[test]
    fn the_longest_expired_goes_first_and_only_when_nothing_is_fresh() {
        let mut shelf = shelf("192.0.2.1-192.0.2.3");
        let [a, b, c] = [1, 2, 3].map(|last| Ipv4Addr::new(192, 0, 2, last));
        for (address, until) in [(a, 50), (b, 40)] {
            shelf.take(address, Standing::Fresh);
            shelf.put(address, Standing::Used(Timestamp(until)));
        }
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        assert_eq!(next(&shelf, mac, 100), Some(c));
        shelf.take(c, Standing::Fresh);
        assert_eq!(next(&shelf, mac, 100), Some(b));
        assert_eq!(next(&shelf, mac, 39), None);
    }

    #[test]
    fn the_ends_of_the_address_space_are_no_special_case() {
        let mut shelf = shelf("0.0.0.0-255.255.255.255");
        for address in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST] {
            shelf.take(address, Standing::Fresh);
            assert_eq!(shelf.range_of(address.to_bits()), None);
            shelf.put(address, Standing::Fresh);
        }
        assert_eq!(shelf.fresh.len(), 1);
    }

    #[test]
    fn it_counts_what_could_be_given() {
        let mut shelf = shelf("192.0.2.1-192.0.2.4");
        let [a, b, ..] = [1, 2, 3, 4].map(|last| Ipv4Addr::new(192, 0, 2, last));
        assert!(shelf.has_more_than(3, Timestamp(0)) && !shelf.has_more_than(4, Timestamp(0)));
        for (address, until) in [(a, 50), (b, 40)] {
            shelf.take(address, Standing::Fresh);
            shelf.put(address, Standing::Used(Timestamp(until)));
        }
        assert!(shelf.has_more_than(1, Timestamp(0)) && !shelf.has_more_than(2, Timestamp(0)));
        assert!(shelf.has_more_than(2, Timestamp(40)) && !shelf.has_more_than(3, Timestamp(40)));
    }

    #[test]
    fn a_probed_address_is_given_first_and_the_whole_pool_is_probed_in_time() {
        let mut shelf = shelf("192.0.2.1-192.0.2.50");
        let barred = |address: Ipv4Addr| address.octets()[3] == 9;
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let (_, probed) = shelf.next(mac, Timestamp(0), |_| false).unwrap();
        assert!(!probed);
        let mut seen = BTreeSet::new();
        for second in 0..4 {
            let now = Timestamp(second * 1000);
            for address in shelf.plan(barred, now) {
                assert!(seen.insert(address), "{address} twice");
                shelf.stock().unwrap().found_free(address, now);
            }
        }
        assert_eq!(seen.len(), 49);
        let (address, probed) = shelf.next(mac, Timestamp(0), |_| false).unwrap();
        assert!(probed && seen.contains(&address));
        shelf.take(address, Standing::Fresh);
        assert!(!shelf.is_probed(address));
        shelf.put(address, Standing::Fresh);
        assert!(shelf.is_probed(address), "an offer that was not taken");
        shelf.take(address, Standing::Fresh);
        shelf.put(address, Standing::Used(Timestamp(10)));
        assert!(!shelf.is_probed(address));
        assert!(shelf.plan(barred, Timestamp(9)).is_empty());
        assert!(
            shelf.plan(barred, Timestamp(10)).is_empty(),
            "its client may still answer"
        );
        let left = Timestamp(10).plus(LEAVING);
        assert_eq!(shelf.plan(barred, left), [address], "it was leased in between");
    }
}
