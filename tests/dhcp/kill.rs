//! The power cord: `kill -9` at random points while clients take leases. What a client was told is on disk, and stays true.

use super::clients;
use super::properties::{Dice, seed};
use super::server::{ADDRESS, RELAY, Server};
use crate::lab::child::Child;
use crate::lab::need;
use cordwainer::model::{LeaseState, Mac};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const RATE: u32 = 100;

/// What the clients were told so far, checked: no address went to two machines, no machine got two addresses, nobody was refused.
fn told(clients: &Child) -> BTreeMap<Ipv4Addr, Mac> {
    let (mut holders, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    for line in clients.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["ACK" | "AGAIN", mac, address] = words.as_slice() {
            let (mac, address): (Mac, Ipv4Addr) = (mac.parse().unwrap(), address.parse().unwrap());
            assert_eq!(
                *holders.entry(address).or_insert(mac),
                mac,
                "{address} went to two machines"
            );
            assert_eq!(
                *addresses.entry(mac).or_insert(address),
                address,
                "{mac} got two addresses"
            );
        }
        assert!(!line.starts_with("NAK"), "a granted lease was refused: {line}");
    }
    holders
}

/// Waits until more clients than `before` have a lease; how long that took.
fn wait_for_more(clients: &Child, before: usize) -> Duration {
    let begun = Instant::now();
    while told(clients).len() <= before {
        assert!(begun.elapsed() < Duration::from_secs(30), "no lease in 30 s");
        std::thread::sleep(Duration::from_millis(2));
    }
    begun.elapsed()
}

fn kill_again_and_again(test: &str, kills: usize) {
    if !need::all(test, &[need::NETWORK]) {
        return;
    }
    let seed = seed();
    let mut dice = Dice::new(seed);
    let server = Server::new("10.77.1.0-10.77.250.255");
    let relay = server.relay();
    let (mut running, _) = server.start();
    let clients = clients::generate(&relay, RELAY, ADDRESS, RATE, seed);
    let mut back = Vec::new();
    for kill in 0..kills {
        wait_for_more(&clients, told(&clients).len());
        // The point: any time within a few commits.
        std::thread::sleep(Duration::from_micros(u64::try_from(dice.below(300_000)).unwrap()));
        running.kill();
        let acked = told(&clients);
        let stored: BTreeMap<Ipv4Addr, Mac> = server
            .leases_on_disk()
            .into_iter()
            .filter(|lease| lease.state == LeaseState::Active)
            .map(|lease| (lease.address, lease.mac))
            .collect();
        for (address, mac) in &acked {
            assert_eq!(
                stored.get(address),
                Some(mac),
                "kill {kill}, seed {seed}: {mac} was told {address}"
            );
        }
        let begun = Instant::now();
        let ready;
        (running, ready) = server.start();
        wait_for_more(&clients, told(&clients).len());
        back.push((begun.elapsed(), ready));
    }
    let leases = told(&clients);
    let again = clients.lines().iter().filter(|line| line.starts_with("AGAIN")).count();
    drop(clients);
    assert!(
        leases.len() >= kills,
        "{} leases are too few to mean anything",
        leases.len()
    );
    assert!(again > 0, "no client ever extended its lease");
    back.sort_unstable();
    let (median, worst) = (back[back.len() / 2], back[back.len() - 1]);
    println!(
        "{kills} kills, {} leases, {again} extended; from start to the first ACK: median {:?}, worst {:?} (serving after {:?})",
        leases.len(),
        median.0,
        worst.0,
        worst.1
    );
    assert!(
        median.0 < Duration::from_secs(1),
        "half of the starts took {:?} or more",
        median.0
    );
}

#[test]
fn fifty_kills_lose_no_lease() {
    kill_again_and_again("fifty_kills_lose_no_lease", 50);
}

#[test]
#[ignore = "long: five hundred kills"]
fn five_hundred_kills_lose_no_lease() {
    kill_again_and_again("five_hundred_kills_lose_no_lease", 500);
}
