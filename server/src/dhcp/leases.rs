//! The lease table: who has which address until when, what is on offer, and which address comes next.
//!
//! Pure. It changes only by value: `propose` holds in memory, `commit` returns the rows that must be on disk before the ACK leaves. One MAC
//! has one address on a subnet, whatever its firmware (option 97), iPXE (61 = 01+MAC) and installer (DUID) call themselves.

use super::pool::{Shelf, Standing};
use super::proxy::Attempts;
use super::stock::Heard;
use crate::model::{Lease, LeaseState, Mac, Pool, Subnet, Timestamp};
use crate::ports::LiveRow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long an offered address waits for its REQUEST. OVMF takes 3.7 s.
const HOLD: Duration = Duration::from_secs(10);

/// How long nobody gets an address that a client found in use.
pub const QUARANTINE: Duration = Duration::from_secs(3600);

/// Offers to strangers at a time. Beyond that the oldest gives way: memory is bounded whoever asks.
const STRANGERS: usize = 32_768;

/// A machine that answers for so many addresses answers for all of them, as a router with proxy ARP does: it has none of them.
const ANSWERS_FOR_ALL: usize = 16;

/// Most addresses of a pool that are kept for machines on record.
const KEPT: u64 = 1024;

/// How often it is said that a pool is empty.
const EXHAUSTED_AGAIN: Duration = Duration::from_secs(10);

/// How often it is said that another server is about.
const FOREIGN_AGAIN: Duration = Duration::from_secs(1);

/// An address on offer.
#[derive(Debug, Clone, Copy)]
struct Hold {
    mac: Mac,
    until: Timestamp,
}

/// Who looks for an address, and what it may have.
#[derive(Clone, Copy)]
pub(super) struct Seeker<'a> {
    /// The network it is on: the subnet that its relay or our address names, then those that share the link with it.
    pub(super) subnets: &'a [&'a Subnet],
    /// The machine.
    pub(super) mac: Mac,
    /// It is on record: strangers' offers give way to it when the pool is full of them.
    pub(super) known: bool,
    /// Its reservation on one of those subnets.
    pub(super) reserved: Option<Ipv4Addr>,
    /// What it asks for.
    pub(super) wanted: Option<Ipv4Addr>,
    /// How many machines are on record: strangers leave them so many addresses, at most a quarter of the pool.
    pub(super) on_record: usize,
    /// True for addresses that it must never have: other machines' reservations, the server's, the router's.
    pub(super) barred: &'a dyn Fn(Ipv4Addr) -> bool,
}

/// The pool of the seeker's network that holds `address`.
fn pool_of(seeker: &Seeker<'_>, address: Ipv4Addr) -> Option<Pool> {
    let mut pools = seeker.subnets.iter().filter_map(|subnet| subnet.pool);
    pools.find(|pool| pool.contains(address))
}

/// Why there is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAddress {
    /// No subnet of the network has a pool, and the machine no reservation.
    NoPool,
    /// Every address of every pool is somebody's.
    Exhausted,
    /// Only so many are free, and they are kept for machines on record.
    Kept(u64),
}

/// What a probe of an address leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing is to be said or stored.
    Nothing,
    /// Somebody has it who has no lease of it: nobody gets it for a while.
    InUse(Change),
    /// This machine answers for every address; it is believed no more.
    AnswersForAll(Mac),
}

/// A committed change and how to take it back if it could not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Rows for the disk, in order.
    pub rows: Vec<LiveRow>,
    /// Rows that put things back as they were, to be applied in reverse order.
    pub undo: Vec<LiveRow>,
}

fn on_one_of(subnets: &[&Subnet], address: Ipv4Addr) -> bool {
    subnets.iter().any(|subnet| subnet.network.contains(&address))
}

/// The lease table.
#[derive(Debug, Clone, Default)]
pub struct Leases {
    rows: BTreeMap<Ipv4Addr, Lease>,
    by_mac: BTreeMap<Mac, BTreeSet<Ipv4Addr>>,
    holds: BTreeMap<Ipv4Addr, Hold>,
    hold_of: BTreeMap<Mac, Ipv4Addr>,
    hold_ends: BTreeSet<(Timestamp, Ipv4Addr)>,
    /// The same of strangers' offers alone.
    stranger_ends: BTreeSet<(Timestamp, Ipv4Addr)>,
    /// Who was found at an address without a lease.
    squatters: BTreeMap<Ipv4Addr, Mac>,
    /// Addresses offered since this was last read that the wire should have been asked for, and was not.
    unprobed: u64,
    shelves: Vec<Shelf>,
    /// When it was last said that a pool is empty.
    told_exhausted: Option<Timestamp>,
    /// When it was last said that another server is about.
    told_foreign: Option<Timestamp>,
    /// What boot clients beside another server were offered.
    pub(super) attempts: Attempts,
}

impl Leases {
    /// The table as live.db has it.
    #[must_use]
    pub fn load(rows: impl IntoIterator<Item = Lease>) -> Self {
        let mut leases = Self::default();
        for row in rows {
            leases.put(row);
        }
        leases
    }

    /// Every row, by address.
    pub fn rows(&self) -> impl Iterator<Item = &Lease> {
        self.rows.values()
    }

    /// The row of `address`.
    #[must_use]
    pub fn row(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.rows.get(&address)
    }

    /// The machine that holds `address` now.
    #[must_use]
    pub fn holder(&self, address: Ipv4Addr, now: Timestamp) -> Option<Mac> {
        self.rows
            .get(&address)
            .filter(|row| row.state == LeaseState::Active && row.expires > now)
            .map(|row| row.mac)
    }

    /// Takes in a row, replacing what its address had.
    pub fn put(&mut self, row: Lease) {
        let address = row.address;
        self.change(address, |leases| {
            leases.forget(address);
            if row.state != LeaseState::Quarantined {
                leases.by_mac.entry(row.mac).or_default().insert(address);
            }
            leases.rows.insert(address, row);
        });
    }

    /// Drops the row of `address`.
    pub fn remove(&mut self, address: Ipv4Addr) {
        self.change(address, |leases| leases.forget(address));
    }

    /// Takes in a row of a [`Change`], from its `rows` or its `undo`.
    pub fn apply(&mut self, row: &LiveRow) {
        match row {
            LiveRow::Lease(lease) => self.put(lease.clone()),
            LiveRow::LeaseGone(address) => self.remove(*address),
            LiveRow::Installation(_) => {}
        }
    }

    /// The row that `mac` has on a network of these subnets.
    pub(super) fn row_of(&self, mac: Mac, subnets: &[&Subnet]) -> Option<&Lease> {
        self.by_mac
            .get(&mac)?
            .iter()
            .filter(|address| on_one_of(subnets, **address))
            .filter_map(|address| self.rows.get(address))
            .max_by_key(|row| row.granted)
    }

    /// An address for the seeker, held for 10 s.
    ///
    /// The order: its reservation, the address it has or had, the one on offer to it, the one it asks for, one from the pool.
    pub(super) fn propose(&mut self, seeker: &Seeker<'_>, now: Timestamp) -> Result<Ipv4Addr, NoAddress> {
        self.lapse(now);
        let own = [
            seeker.reserved,
            self.row_of(seeker.mac, seeker.subnets).map(|row| row.address),
            self.hold_of.get(&seeker.mac).copied(),
        ];
        let own = own
            .into_iter()
            .flatten()
            .find(|address| self.may_have(seeker, *address, now))
            .or_else(|| {
                let wanted = seeker.wanted?;
                self.may_be_offered(seeker, wanted, now).then_some(wanted)
            });
        let address = match own {
            Some(address) => address,
            None => {
                let pools: Vec<Pool> = seeker.subnets.iter().filter_map(|subnet| subnet.pool).collect();
                if pools.is_empty() {
                    return Err(NoAddress::NoPool);
                }
                let mut open = Vec::new();
                let mut withheld = 0_u64;
                for pool in pools {
                    match self.withheld(seeker, pool, now) {
                        None => open.push(pool),
                        Some(kept) => withheld = withheld.saturating_add(kept),
                    }
                }
                if open.is_empty() {
                    return Err(NoAddress::Kept(withheld));
                }
                open.iter()
                    .find_map(|pool| self.search(seeker, *pool, now))
                    .or_else(|| open.iter().find_map(|pool| self.take_from_stranger(seeker, *pool, now)))
                    .ok_or(NoAddress::Exhausted)?
            }
        };
        self.hold(address, seeker, now);
        Ok(address)
    }

    /// How many addresses of `pool` are kept for machines on record, when that is all that is left and the seeker is none.
    fn withheld(&mut self, seeker: &Seeker<'_>, pool: Pool, now: Timestamp) -> Option<u64> {
        let on_record = u64::try_from(seeker.on_record).unwrap_or(u64::MAX);
        let kept = on_record.min(pool.size() / 4).min(KEPT);
        if seeker.known || kept == 0 {
            return None;
        }
        let place = self.shelf_of(pool);
        let enough = self
            .shelves
            .get(place)
            .is_none_or(|shelf| shelf.has_more_than(kept, now));
        (!enough).then_some(kept)
    }

    /// True when the seeker may be offered exactly `wanted`, which it never had here.
    fn may_be_offered(&mut self, seeker: &Seeker<'_>, wanted: Ipv4Addr, now: Timestamp) -> bool {
        if !self.may_have(seeker, wanted, now) {
            return false;
        }
        let Some(pool) = pool_of(seeker, wanted) else {
            return true;
        };
        if self.withheld(seeker, pool, now).is_some() {
            return false;
        }
        let place = self.shelf_of(pool);
        let at_home = self.squatters.get(&wanted) == Some(&seeker.mac);
        match self.shelves.get_mut(place) {
            Some(shelf) if !shelf.is_probed(wanted) && !at_home => {
                if let Some(stock) = shelf.stock() {
                    stock.wish(wanted);
                }
                false
            }
            _ => true,
        }
    }

    /// What to ask the wire for now in the pool of `subnet`; its answers come to [`Leases::heard`]. Ask about once a second. From the
    /// first call on, addresses of that pool are given from the stock. `barred` as in a machine's search.
    pub fn to_probe(&mut self, subnet: &Subnet, barred: &dyn Fn(Ipv4Addr) -> bool, now: Timestamp) -> Vec<Ipv4Addr> {
        let Some(pool) = subnet.pool else { return Vec::new() };
        let place = self.shelf_of(pool);
        self.shelves
            .get_mut(place)
            .map_or_else(Vec::new, |shelf| shelf.plan(barred, now))
    }

    /// Takes in what the wire said of `address`.
    pub fn heard(&mut self, address: Ipv4Addr, heard: Heard, now: Timestamp) -> Found {
        let row = self.rows.get(&address).cloned();
        let granted = row
            .as_ref()
            .is_some_and(|row| row.state == LeaseState::Active && row.expires > now);
        let by = match heard {
            // Its machine got it while the question was under way, and answers.
            _ if granted => return Found::Nothing,
            Heard::Nobody => {
                let set_apart = row.is_some_and(|row| row.state == LeaseState::Quarantined && row.expires > now);
                if !set_apart && !self.holds.contains_key(&address) {
                    self.found_free(address, now);
                }
                return Found::Nothing;
            }
            Heard::Somebody(by) => by,
        };
        let offered = self.holds.get(&address).is_some_and(|hold| Some(hold.mac) == by);
        if offered {
            return Found::Nothing;
        }
        if let Some(mac) = by {
            let has = |(address, of): (&Ipv4Addr, &Mac)| {
                *of == mac && self.rows.get(address).is_some_and(|row| row.expires > now)
            };
            if self.squatters.iter().filter(|entry| has(*entry)).count() >= ANSWERS_FOR_ALL {
                self.found_free(address, now);
                return Found::AnswersForAll(mac);
            }
            self.squatters.insert(address, mac);
        }
        self.drop_hold(address);
        Found::InUse(self.set_apart(address, by.unwrap_or(Mac::new([0; 6])), now))
    }

    fn found_free(&mut self, address: Ipv4Addr, now: Timestamp) {
        for shelf in self.shelves.iter_mut().filter(|shelf| shelf.pool().contains(address)) {
            if let Some(stock) = shelf.stock() {
                stock.found_free(address, now);
            }
        }
    }

    /// How many addresses were offered unprobed since the last call, though the wire is asked for their pool.
    pub fn take_unprobed(&mut self) -> u64 {
        std::mem::take(&mut self.unprobed)
    }

    /// An address that is only on offer to a stranger: who invents hardware addresses can have every address of a pool on offer to
    /// nobody, and machines on record would never boot.
    fn take_from_stranger(&mut self, seeker: &Seeker<'_>, pool: Pool, now: Timestamp) -> Option<Ipv4Addr> {
        if !seeker.known {
            return None;
        }
        let address = self.stranger_ends.iter().map(|(_, address)| *address).find(|address| {
            let idle = self
                .rows
                .get(address)
                .is_none_or(|row| row.state == LeaseState::Released || row.expires <= now);
            idle && pool.contains(*address) && !(seeker.barred)(*address)
        })?;
        self.drop_hold(address);
        Some(address)
    }

    /// True when it is time to say again that a pool is empty: a flood is one piece of news, not thousands a second.
    pub(super) fn tell_exhausted(&mut self, now: Timestamp) -> bool {
        let again = self
            .told_exhausted
            .is_none_or(|told| now.since(told) >= EXHAUSTED_AGAIN);
        if again {
            self.told_exhausted = Some(now);
        }
        again
    }

    /// True when the seeker may have exactly `address`.
    pub(super) fn grantable(&mut self, seeker: &Seeker<'_>, address: Ipv4Addr, now: Timestamp) -> bool {
        // A machine whose reservation is free has to move there.
        let elsewhere = seeker
            .reserved
            .is_some_and(|reserved| reserved != address && self.is_free_for(seeker.mac, reserved, now));
        let may_have = self.may_have(seeker, address, now);
        // Who neither has it nor was offered it takes a new one out of the pool.
        let is_new = self.hold_of.get(&seeker.mac) != Some(&address)
            && self.rows.get(&address).is_none_or(|row| row.mac != seeker.mac);
        let withheld =
            is_new && pool_of(seeker, address).is_some_and(|pool| self.withheld(seeker, pool, now).is_some());
        !elsewhere && may_have && !withheld
    }

    /// Grants `lease`. The machine's other rows on the network of these subnets go.
    pub(super) fn commit(&mut self, subnets: &[&Subnet], lease: Lease) -> Change {
        let (mut rows, mut undo) = (Vec::new(), Vec::new());
        let others: Vec<Lease> = self
            .by_mac
            .get(&lease.mac)
            .into_iter()
            .flatten()
            .filter(|address| **address != lease.address && on_one_of(subnets, **address))
            .filter_map(|address| self.rows.get(address).cloned())
            .collect();
        for other in others {
            self.remove(other.address);
            rows.push(LiveRow::LeaseGone(other.address));
            undo.push(LiveRow::Lease(other));
        }
        undo.push(
            self.rows
                .get(&lease.address)
                .cloned()
                .map_or(LiveRow::LeaseGone(lease.address), LiveRow::Lease),
        );
        self.drop_hold(lease.address);
        self.drop_hold_of(lease.mac);
        self.squatters.remove(&lease.address);
        rows.push(LiveRow::Lease(lease.clone()));
        self.put(lease);
        Change { rows, undo }
    }

    /// Sets `address` apart after a DECLINE by `mac`; none when it neither has it nor was offered it.
    pub(super) fn quarantine(&mut self, address: Ipv4Addr, mac: Mac, now: Timestamp) -> Option<Change> {
        let row = self.rows.get(&address).filter(|row| row.mac == mac).cloned();
        let offered = self.hold_of.get(&mac) == Some(&address);
        if row.as_ref().is_some_and(|row| row.state == LeaseState::Quarantined) || (row.is_none() && !offered) {
            return None;
        }
        self.drop_hold_of(mac);
        let change = self.set_apart(address, mac, now);
        // Who has it? The wire says so, and an event names the machine.
        for shelf in self.shelves.iter_mut().filter(|shelf| shelf.pool().contains(address)) {
            if let Some(stock) = shelf.stock() {
                stock.wish(address);
            }
        }
        Some(change)
    }

    /// Lets nobody have `address` for a while; `mac` is who said so, or who has it.
    fn set_apart(&mut self, address: Ipv4Addr, mac: Mac, now: Timestamp) -> Change {
        let row = self.rows.get(&address).cloned();
        let quarantined = Lease {
            address,
            mac,
            client_id: Vec::new(),
            hostname: None,
            granted: now,
            expires: now.plus(QUARANTINE),
            state: LeaseState::Quarantined,
        };
        self.put(quarantined.clone());
        Change {
            rows: vec![LiveRow::Lease(quarantined)],
            undo: vec![row.map_or(LiveRow::LeaseGone(address), LiveRow::Lease)],
        }
    }

    /// Gives `address` back; the row stays, so that the machine gets the same one again. None when it is not that machine's.
    pub(super) fn release(&mut self, address: Ipv4Addr, mac: Mac, now: Timestamp) -> Option<Change> {
        let before = self
            .rows
            .get(&address)
            .filter(|row| row.mac == mac && row.state == LeaseState::Active)
            .cloned()?;
        let after = Lease {
            expires: now,
            state: LeaseState::Released,
            ..before.clone()
        };
        self.put(after.clone());
        Some(Change {
            rows: vec![LiveRow::Lease(after)],
            undo: vec![LiveRow::Lease(before)],
        })
    }

    /// Lets the offer to `mac` go: it took another server's.
    pub(super) fn drop_hold_of(&mut self, mac: Mac) {
        if let Some(address) = self.hold_of.get(&mac).copied() {
            self.drop_hold(address);
        }
    }

    /// True when it is time to say again that another server is about; a client that names one may be a liar, and have many names.
    pub(super) fn tell_foreign(&mut self, now: Timestamp) -> bool {
        let again = self.told_foreign.is_none_or(|told| now.since(told) >= FOREIGN_AGAIN);
        if again {
            self.told_foreign = Some(now);
        }
        again
    }

    fn may_have(&self, seeker: &Seeker<'_>, address: Ipv4Addr, now: Timestamp) -> bool {
        let given_out = seeker.reserved == Some(address)
            || (seeker
                .subnets
                .iter()
                .any(|subnet| subnet.pool.is_some_and(|pool| pool.contains(address)))
                && !(seeker.barred)(address));
        given_out && self.is_free_for(seeker.mac, address, now)
    }

    fn is_free_for(&self, mac: Mac, address: Ipv4Addr, now: Timestamp) -> bool {
        let held_by_another = self
            .holds
            .get(&address)
            .is_some_and(|hold| hold.mac != mac && hold.until > now);
        let taken = self.rows.get(&address).is_some_and(|row| match row.state {
            LeaseState::Active => row.mac != mac && row.expires > now,
            LeaseState::Released => false,
            // The machine that was found there is at home; where a DECLINE set it apart, nobody is.
            LeaseState::Quarantined => row.expires > now && self.squatters.get(&address) != Some(&mac),
        });
        !held_by_another && !taken
    }

    fn search(&mut self, seeker: &Seeker<'_>, pool: Pool, now: Timestamp) -> Option<Ipv4Addr> {
        let place = self.shelf_of(pool);
        loop {
            let shelf = self.shelves.get(place)?;
            // What was set apart is asked for before it is given again, where the wire can be asked.
            let apart = |address| {
                let row = self.rows.get(&address);
                !shelf.is_probed(address) && row.is_some_and(|row| row.state == LeaseState::Quarantined)
            };
            let Some((address, probed)) = shelf.next(seeker.mac, now, apart) else {
                // Reservations that moved away since they were set aside are worth one more look.
                let aside = self.shelves.get_mut(place)?.look_again(now)?;
                let mut found = false;
                for address in aside {
                    let barred = (seeker.barred)(address);
                    found |= !barred;
                    let standing = self.standing(address);
                    let shelf = self.shelves.get_mut(place)?;
                    if barred {
                        shelf.set_aside(address, standing);
                    } else {
                        shelf.put(address, standing);
                    }
                }
                if found {
                    continue;
                }
                return None;
            };
            if !(seeker.barred)(address) {
                if !probed && !shelf.is_probed(address) {
                    self.unprobed = self.unprobed.saturating_add(1);
                }
                return Some(address);
            }
            let standing = self.standing(address);
            self.shelves.get_mut(place)?.set_aside(address, standing);
        }
    }

    /// The place of the shelf of `pool`, made at its first use from the rows and holds that lie in it.
    fn shelf_of(&mut self, pool: Pool) -> usize {
        if let Some(place) = self.shelves.iter().position(|shelf| shelf.pool() == pool) {
            return place;
        }
        let mut shelf = Shelf::new(pool);
        let held = self.holds.range(pool.first..=pool.last).map(|(address, _)| *address);
        let used = self.rows.range(pool.first..=pool.last).map(|(address, _)| *address);
        for address in held.chain(used) {
            shelf.take(address, Standing::Fresh);
            shelf.put(address, self.standing(address));
        }
        self.shelves.push(shelf);
        self.shelves.len().saturating_sub(1)
    }

    fn standing(&self, address: Ipv4Addr) -> Standing {
        match (self.holds.contains_key(&address), self.rows.get(&address)) {
            (true, _) => Standing::Held,
            (false, Some(row)) => Standing::Used(row.expires),
            (false, None) => Standing::Fresh,
        }
    }

    /// Makes a change to `address` and keeps the shelves in step with it.
    fn change(&mut self, address: Ipv4Addr, make: impl FnOnce(&mut Self)) {
        let before = self.standing(address);
        make(self);
        let after = self.standing(address);
        for shelf in self.shelves.iter_mut().filter(|shelf| shelf.pool().contains(address)) {
            shelf.take(address, before);
            shelf.put(address, after);
        }
    }

    fn forget(&mut self, address: Ipv4Addr) {
        if let Some(row) = self.rows.remove(&address)
            && let Some(addresses) = self.by_mac.get_mut(&row.mac)
        {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.by_mac.remove(&row.mac);
            }
        }
    }

    fn hold(&mut self, address: Ipv4Addr, seeker: &Seeker<'_>, now: Timestamp) {
        let Seeker { mac, known, .. } = *seeker;
        self.drop_hold_of(mac);
        if !known
            && self.stranger_ends.len() >= STRANGERS
            && let Some((_, oldest)) = self.stranger_ends.first().copied()
        {
            self.drop_hold(oldest);
        }
        let until = now.plus(HOLD);
        self.change(address, |leases| {
            leases.holds.insert(address, Hold { mac, until });
        });
        self.hold_of.insert(mac, address);
        self.hold_ends.insert((until, address));
        if !known {
            self.stranger_ends.insert((until, address));
        }
    }

    fn drop_hold(&mut self, address: Ipv4Addr) {
        self.change(address, |leases| {
            if let Some(hold) = leases.holds.remove(&address) {
                leases.hold_of.remove(&hold.mac);
                leases.hold_ends.remove(&(hold.until, address));
                leases.stranger_ends.remove(&(hold.until, address));
            }
        });
    }

    fn lapse(&mut self, now: Timestamp) {
        while let Some((until, address)) = self.hold_ends.first().copied()
            && until <= now
        {
            self.drop_hold(address);
        }
    }
}

#[cfg(test)]
mod tests;
