//! What the lease table promises, by value.

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
        probe: true,
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
        on_record: 0,
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
fn strangers_leave_a_quarter_of_the_pool_to_as_many_machines_as_are_on_record() {
    let (mut subnet, mut leases) = (subnet(), Leases::default());
    subnet.pool = Some("192.0.2.10-192.0.2.29".parse().unwrap());
    let network = [&subnet];
    let stranger = |last| Seeker {
        on_record: 3,
        ..seeker(&network, last, &|_| false)
    };
    for last in 0..17 {
        let address = leases.propose(&stranger(last), Timestamp(0)).unwrap();
        leases.commit(&[&subnet], lease(address, last, 0));
    }
    assert_eq!(leases.propose(&stranger(50), Timestamp(1)), Err(NoAddress::Kept(3)));
    let free = Ipv4Addr::new(192, 0, 2, 10).to_bits()..=Ipv4Addr::new(192, 0, 2, 29).to_bits();
    let free = free
        .map(Ipv4Addr::from_bits)
        .find(|address| leases.row(*address).is_none())
        .unwrap();
    let wishing = Seeker {
        wanted: Some(free),
        ..stranger(50)
    };
    assert_eq!(
        leases.propose(&wishing, Timestamp(1)),
        Err(NoAddress::Kept(3)),
        "by name neither"
    );
    assert!(!leases.grantable(&wishing, free, Timestamp(1)), "nor without an offer");
    assert!(
        leases.propose(&stranger(4), Timestamp(1)).is_ok(),
        "who has one keeps it"
    );
    for last in 60..63 {
        let known = Seeker {
            known: true,
            ..stranger(last)
        };
        assert!(leases.propose(&known, Timestamp(2)).is_ok());
    }
    let many = Seeker {
        on_record: 100_000,
        ..stranger(70)
    };
    leases = Leases::default();
    for last in 0..15 {
        let address = leases.propose(&many, Timestamp(0)).unwrap();
        leases.commit(&[&subnet], lease(address, last, 0));
    }
    assert_eq!(
        leases.propose(&many, Timestamp(1)),
        Err(NoAddress::Kept(5)),
        "a quarter at most"
    );
}

#[test]
fn offers_to_strangers_are_bounded_and_the_oldest_gives_way() {
    let (mut subnet, mut leases) = (subnet(), Leases::default());
    subnet.network = "10.0.0.0/8".parse().unwrap();
    subnet.pool = Some("10.0.0.1-10.255.255.254".parse().unwrap());
    let network = [&subnet];
    for n in 0..40_000_u32 {
        let [a, b, c, d] = n.to_be_bytes();
        let seeker = Seeker {
            mac: Mac::new([2, 9, a, b, c, d]),
            ..seeker(&network, 0, &|_| false)
        };
        leases.propose(&seeker, Timestamp(n.into())).ok();
    }
    assert!(leases.holds.len() <= STRANGERS && leases.hold_of.len() == leases.holds.len());
    assert_eq!(leases.stranger_ends.len(), leases.hold_ends.len());
    leases.lapse(Timestamp(1_000_000));
    assert!(leases.holds.is_empty() && leases.stranger_ends.is_empty());
}

/// Asks the wire for everything, where `taken` has an answer.
fn probe(leases: &mut Leases, subnet: &Subnet, taken: &[(u8, Option<Mac>)], now: Timestamp) -> Vec<Found> {
    let mut found = Vec::new();
    for address in leases.to_probe(subnet, &|_| false, now) {
        let holder = taken.iter().find(|(last, _)| address.octets()[3] == *last);
        let heard = holder.map_or(Heard::Nobody, |(_, by)| Heard::Somebody(*by));
        found.push(leases.heard(address, heard, now));
    }
    found
}

#[test]
fn an_address_that_somebody_has_is_nobody_elses_and_his_own_on_request() {
    let (subnet, mut leases) = (subnet(), Leases::default());
    let network = [&subnet];
    let taken = Ipv4Addr::new(192, 0, 2, 11);
    let found = probe(&mut leases, &subnet, &[(11, Some(mac(99)))], Timestamp(0));
    assert_eq!(found.iter().filter(|found| matches!(found, Found::InUse(_))).count(), 1);
    assert_eq!(leases.row(taken).unwrap().mac, mac(99));
    for last in 1..=2 {
        let got = leases
            .propose(&seeker(&[&subnet], last, &|_| false), Timestamp(1))
            .unwrap();
        assert_ne!(got, taken);
    }
    assert_eq!(leases.take_unprobed(), 0);
    let at_home = Seeker {
        wanted: Some(taken),
        ..seeker(&network, 99, &|_| false)
    };
    assert_eq!(leases.propose(&at_home, Timestamp(2)), Ok(taken));
    // An hour later it is asked for again before anybody gets it, and he is still there.
    let later = Timestamp(0).plus(QUARANTINE);
    leases.lapse(later);
    for last in 1..=2 {
        let address = leases.propose(&seeker(&[&subnet], last, &|_| false), later).unwrap();
        leases.commit(&[&subnet], lease(address, last, later.0));
    }
    assert_eq!(
        leases.propose(&seeker(&[&subnet], 3, &|_| false), later),
        Err(NoAddress::Exhausted),
        "never unprobed"
    );
    let left = Duration::from_secs(10);
    let later = later.plus(left);
    let found = probe(&mut leases, &subnet, &[(11, Some(mac(99)))], later);
    assert!(matches!(found.as_slice(), [Found::InUse(_)]), "{found:?}");
    let at_last = later.plus(QUARANTINE + left);
    probe(&mut leases, &subnet, &[], at_last);
    assert_eq!(leases.propose(&seeker(&[&subnet], 3, &|_| false), at_last), Ok(taken));
}

#[test]
fn a_burst_gets_unprobed_addresses_and_what_a_client_wants_is_probed_first() {
    let (subnet, mut leases) = (subnet(), Leases::default());
    let network = [&subnet];
    assert_eq!(leases.to_probe(&subnet, &|_| false, Timestamp(0)).len(), 3);
    let wanted = Ipv4Addr::new(192, 0, 2, 12);
    let wishing = Seeker {
        wanted: Some(wanted),
        ..seeker(&network, 1, &|_| false)
    };
    leases.heard(Ipv4Addr::new(192, 0, 2, 10), Heard::Nobody, Timestamp(1));
    assert_ne!(leases.propose(&wishing, Timestamp(2)), Ok(wanted));
    assert_eq!(leases.take_unprobed(), 0);
    leases
        .propose(&seeker(&[&subnet], 2, &|_| false), Timestamp(2))
        .unwrap();
    assert_eq!(leases.take_unprobed(), 1);
    assert!(leases.to_probe(&subnet, &|_| false, Timestamp(3)).contains(&wanted));
}

#[test]
fn who_answers_for_every_address_has_none() {
    let (mut subnet, mut leases) = (subnet(), Leases::default());
    subnet.pool = Some("192.0.2.10-192.0.2.99".parse().unwrap());
    let router = Some(mac(254));
    let all: Vec<(u8, Option<Mac>)> = (10..=99).map(|last| (last, router)).collect();
    let mut found = Vec::new();
    for second in 0..4 {
        found.extend(probe(&mut leases, &subnet, &all, Timestamp(second)));
    }
    let in_use = found.iter().filter(|found| matches!(found, Found::InUse(_))).count();
    assert_eq!(in_use, ANSWERS_FOR_ALL);
    assert!(found.contains(&Found::AnswersForAll(mac(254))));
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
