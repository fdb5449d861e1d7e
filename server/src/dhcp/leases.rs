//! The lease table: who has which address until when, what is on offer, and which address comes next.
//!
//! Pure. It changes only by value: `propose` holds in memory, `commit` returns the rows that must be on disk before the ACK leaves. One MAC
//! has one address on a subnet, whatever its firmware (option 97), iPXE (61 = 01+MAC) and installer (DUID) call themselves.

use super::pool::{Shelf, Standing};
use super::proxy::Attempts;
use crate::model::{Lease, LeaseState, Mac, Subnet, Timestamp};
use crate::ports::LiveRow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long an offered address waits for its REQUEST. OVMF takes 3.7 s.
const HOLD: Duration = Duration::from_secs(10);

/// How long nobody gets an address that a client found in use.
pub const QUARANTINE: Duration = Duration::from_secs(3600);

/// How often it is said that a pool is empty.
const EXHAUSTED_AGAIN: Duration = Duration::from_secs(10);

/// How often it is said that another server is about.
const FOREIGN_AGAIN: Duration = Duration::from_secs(1);

/// An address on offer.
#[derive(Debug, Clone, Copy)]
struct Hold {
    mac: Mac,
    until: Timestamp,
    /// A machine on record holds it.
    known: bool,
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
    /// True for addresses that it must never have: other machines' reservations, the server's, the router's.
    pub(super) barred: &'a dyn Fn(Ipv4Addr) -> bool,
}

/// Why there is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAddress {
    /// No subnet of the network has a pool, and the machine no reservation.
    NoPool,
    /// Every address of every pool is somebody's.
    Exhausted,
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
            seeker.wanted,
        ];
        let own = own
            .into_iter()
            .flatten()
            .find(|address| self.may_have(seeker, *address, now));
        let address = match own {
            Some(address) => address,
            None => {
                let pools = || seeker.subnets.iter().filter_map(|subnet| subnet.pool);
                if pools().next().is_none() {
                    return Err(NoAddress::NoPool);
                }
                pools()
                    .find_map(|pool| self.search(seeker, pool, now))
                    .or_else(|| pools().find_map(|pool| self.take_from_stranger(seeker, pool, now)))
                    .ok_or(NoAddress::Exhausted)?
            }
        };
        self.hold(address, seeker, now);
        Ok(address)
    }

    /// An address that is only on offer to a stranger: who invents hardware addresses can have every address of a pool on offer to
    /// nobody, and machines on record would never boot.
    fn take_from_stranger(
        &mut self,
        seeker: &Seeker<'_>,
        pool: crate::model::Pool,
        now: Timestamp,
    ) -> Option<Ipv4Addr> {
        if !seeker.known {
            return None;
        }
        let address = self.hold_ends.iter().map(|(_, address)| *address).find(|address| {
            let strangers = self.holds.get(address).is_some_and(|hold| !hold.known);
            let idle = self
                .rows
                .get(address)
                .is_none_or(|row| row.state == LeaseState::Released || row.expires <= now);
            strangers && idle && pool.contains(*address) && !(seeker.barred)(*address)
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
    pub(super) fn grantable(&self, seeker: &Seeker<'_>, address: Ipv4Addr, now: Timestamp) -> bool {
        // A machine whose reservation is free has to move there.
        let elsewhere = seeker
            .reserved
            .is_some_and(|reserved| reserved != address && self.is_free_for(seeker.mac, reserved, now));
        !elsewhere && self.may_have(seeker, address, now)
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
        Some(Change {
            rows: vec![LiveRow::Lease(quarantined)],
            undo: vec![row.map_or(LiveRow::LeaseGone(address), LiveRow::Lease)],
        })
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
            LeaseState::Quarantined => row.expires > now,
        });
        !held_by_another && !taken
    }

    fn search(&mut self, seeker: &Seeker<'_>, pool: crate::model::Pool, now: Timestamp) -> Option<Ipv4Addr> {
        let place = self.shelf_of(pool);
        loop {
            let shelf = self.shelves.get(place)?;
            let Some(address) = shelf.next(seeker.mac, now) else {
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
                return Some(address);
            }
            let standing = self.standing(address);
            self.shelves.get_mut(place)?.set_aside(address, standing);
        }
    }

    /// The place of the shelf of `pool`, made at its first use from the rows and holds that lie in it.
    fn shelf_of(&mut self, pool: crate::model::Pool) -> usize {
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
        let until = now.plus(HOLD);
        self.change(address, |leases| {
            leases.holds.insert(address, Hold { mac, until, known });
        });
        self.hold_of.insert(mac, address);
        self.hold_ends.insert((until, address));
    }

    fn drop_hold(&mut self, address: Ipv4Addr) {
        self.change(address, |leases| {
            if let Some(hold) = leases.holds.remove(&address) {
                leases.hold_of.remove(&hold.mac);
                leases.hold_ends.remove(&(hold.until, address));
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
mod tests {
    use super::*;
    use crate::model::{Binding, Span};

    fn subnet() -> Subnet {
        Subnet {
            network: "192.0.2.0/24".parse().unwrap(),
            pool: Some("192.0.2.10-192.0.2.12".parse().unwrap()),
            router: None,
            dns: Vec::new(),
            domain: None,
            lease: Span::seconds(600),
            relays: Vec::new(),
            binding: Binding::Lease,
            router_advertisements: crate::model::Advertise::Off,
            shared: None,
        }
    }

    fn mac(last: u8) -> Mac {
        Mac::new([2, 0, 0, 0, 0, last])
    }

    fn seeker<'a>(subnets: &'a [&'a Subnet], last: u8, barred: &'a dyn Fn(Ipv4Addr) -> bool) -> Seeker<'a> {
        Seeker {
            subnets,
            mac: mac(last),
            known: false,
            reserved: None,
            wanted: None,
            barred,
        }
    }

    fn lease(address: Ipv4Addr, last: u8, now: i64) -> Lease {
        Lease {
            address,
            mac: mac(last),
            client_id: Vec::new(),
            hostname: None,
            granted: Timestamp(now),
            expires: Timestamp(now).plus(Duration::from_secs(600)),
            state: LeaseState::Active,
        }
    }

    #[test]
    fn an_offer_holds_ten_seconds_and_the_same_machine_gets_it_again() {
        let (subnet, mut leases) = (subnet(), Leases::default());
        let first = leases
            .propose(&seeker(&[&subnet], 1, &|_| false), Timestamp(0))
            .unwrap();
        assert_eq!(
            leases.propose(&seeker(&[&subnet], 1, &|_| false), Timestamp(9_999)),
            Ok(first)
        );
        let others: BTreeSet<_> = [2, 3]
            .into_iter()
            .map(|last| {
                leases
                    .propose(&seeker(&[&subnet], last, &|_| false), Timestamp(10_000))
                    .unwrap()
            })
            .collect();
        assert!(others.len() == 2 && !others.contains(&first));
        assert_eq!(
            leases.propose(&seeker(&[&subnet], 4, &|_| false), Timestamp(10_000)),
            Err(NoAddress::Exhausted)
        );
        assert_eq!(
            leases.propose(&seeker(&[&subnet], 4, &|_| false), Timestamp(19_999)),
            Ok(first)
        );
    }

    #[test]
    fn a_machine_has_one_row_on_a_subnet_and_a_change_can_be_taken_back() {
        let (subnet, mut leases) = (subnet(), Leases::default());
        let [a, b] = [10, 11].map(|last| Ipv4Addr::new(192, 0, 2, last));
        leases.commit(&[&subnet], lease(a, 1, 0));
        let change = leases.commit(&[&subnet], lease(b, 1, 1));
        assert_eq!(change.rows, [LiveRow::LeaseGone(a), LiveRow::Lease(lease(b, 1, 1))]);
        assert_eq!(leases.rows().count(), 1);
        change.undo.iter().rev().for_each(|row| leases.apply(row));
        assert_eq!(leases.rows().collect::<Vec<_>>(), [&lease(a, 1, 0)]);
    }

    #[test]
    fn released_and_expired_addresses_wait_for_their_machine_until_they_are_needed() {
        let (subnet, mut leases) = (subnet(), Leases::default());
        for (last, at) in [(1, 0), (2, 1), (3, 2)] {
            leases.commit(&[&subnet], lease(Ipv4Addr::new(192, 0, 2, 9 + last), last, at));
        }
        let b = Ipv4Addr::new(192, 0, 2, 11);
        assert_eq!(leases.release(b, mac(1), Timestamp(5)), None);
        leases.release(b, mac(2), Timestamp(5)).unwrap();
        assert_eq!(
            leases.clone().propose(&seeker(&[&subnet], 2, &|_| false), Timestamp(6)),
            Ok(b)
        );
        assert_eq!(leases.propose(&seeker(&[&subnet], 9, &|_| false), Timestamp(6)), Ok(b));
    }

    #[test]
    fn a_declined_address_is_nobodys_for_a_while() {
        let (subnet, mut leases) = (subnet(), Leases::default());
        let a = Ipv4Addr::new(192, 0, 2, 10);
        leases.commit(&[&subnet], lease(a, 1, 0));
        assert_eq!(leases.quarantine(a, mac(2), Timestamp(1)), None, "not its address");
        leases.quarantine(a, mac(1), Timestamp(1)).unwrap();
        assert_ne!(leases.propose(&seeker(&[&subnet], 1, &|_| false), Timestamp(2)), Ok(a));
        let loaded = Leases::load(leases.rows().cloned());
        assert!(!loaded.is_free_for(mac(1), a, Timestamp(2)));
        assert!(loaded.is_free_for(mac(1), a, Timestamp(1).plus(QUARANTINE)));
    }

    #[test]
    fn reservations_are_passed_over_until_they_move_away() {
        let (subnet, mut leases) = (subnet(), Leases::default());
        let reserved = |address: Ipv4Addr| address.octets()[3] != 12;
        let only = Ipv4Addr::new(192, 0, 2, 12);
        assert_eq!(
            leases.propose(&seeker(&[&subnet], 1, &reserved), Timestamp(0)),
            Ok(only)
        );
        assert_eq!(
            leases.propose(&seeker(&[&subnet], 2, &reserved), Timestamp(1)),
            Err(NoAddress::Exhausted)
        );
        assert!(
            leases
                .propose(&seeker(&[&subnet], 2, &|_| false), Timestamp(10_001))
                .is_ok()
        );
    }

    #[test]
    fn a_free_reservation_is_where_the_machine_has_to_go() {
        let (subnet, mut leases) = (subnet(), Leases::default());
        let (home, pool) = (Ipv4Addr::new(192, 0, 2, 200), Ipv4Addr::new(192, 0, 2, 10));
        leases.commit(&[&subnet], lease(pool, 1, 0));
        let network = [&subnet];
        let moved = Seeker {
            reserved: Some(home),
            ..seeker(&network, 1, &|_| false)
        };
        assert!(!leases.grantable(&moved, pool, Timestamp(1)));
        assert_eq!(leases.propose(&moved, Timestamp(1)), Ok(home));
        leases.commit(&[&subnet], lease(home, 2, 1));
        assert!(
            leases.grantable(&moved, pool, Timestamp(2)),
            "someone else is still there"
        );
    }

    #[test]
    fn offers_to_strangers_give_way_to_a_machine_on_record_and_their_leases_do_not() {
        let (subnet, mut leases) = (subnet(), Leases::default());
        let leased = Ipv4Addr::new(192, 0, 2, 10);
        leases.commit(&[&subnet], lease(leased, 1, 0));
        for stranger in 1..=3 {
            leases
                .propose(&seeker(&[&subnet], stranger, &|_| false), Timestamp(1))
                .unwrap();
        }
        assert_eq!(
            leases.propose(&seeker(&[&subnet], 4, &|_| false), Timestamp(2)),
            Err(NoAddress::Exhausted)
        );
        let network = [&subnet];
        let known = |last| Seeker {
            known: true,
            ..seeker(&network, last, &|_| false)
        };
        let got: BTreeSet<_> = [8, 9]
            .into_iter()
            .map(|last| leases.propose(&known(last), Timestamp(3)).unwrap())
            .collect();
        assert!(got.len() == 2 && !got.contains(&leased), "{got:?}");
        assert_eq!(
            leases.propose(&known(7), Timestamp(4)),
            Err(NoAddress::Exhausted),
            "what is on offer to machines on record stays theirs"
        );
        assert!(!leases.grantable(&seeker(&[&subnet], 2, &|_| false), *got.first().unwrap(), Timestamp(5)));
        let told: Vec<bool> = [0, 1, 9_999, 10_000, 10_001]
            .into_iter()
            .map(|at| leases.tell_exhausted(Timestamp(at)))
            .collect();
        assert_eq!(told, [true, false, false, true, false]);
    }

    #[test]
    fn a_big_pool_costs_no_more() {
        let mut subnet = subnet();
        subnet.network = "10.0.0.0/8".parse().unwrap();
        subnet.pool = Some("10.0.0.1-10.255.255.254".parse().unwrap());
        let mut leases = Leases::default();
        let network = [&subnet];
        for n in 0..20_000_u32 {
            let [_, _, a, b] = n.to_be_bytes();
            let seeker = Seeker {
                mac: Mac::new([2, 0, 0, 0, a, b]),
                ..seeker(&network, 0, &|_| false)
            };
            let address = leases.propose(&seeker, Timestamp(0)).unwrap();
            leases.commit(
                &[&subnet],
                Lease {
                    mac: seeker.mac,
                    ..lease(address, 0, 0)
                },
            );
        }
        assert_eq!(leases.rows().count(), 20_000);
    }
}
