//! Whatever comes in: no panic, no address twice, one address per machine, and what is stored can be loaded.

use super::captures::{client_packets, files};
use super::world::{Site, Words, add_interface, add_system, mac, subnet, words};
use cordwainer::config::DhcpMode;
use cordwainer::dhcp::{Leases, MessageType, wall};
use cordwainer::model::{Lease, LeaseState, Mac};
use cordwainer::ports::LiveRow;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// xorshift64*: the same numbers for the same seed, so that a failure can be repeated.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let n = u64::try_from(n).unwrap();
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n).unwrap()
    }
}

pub fn seed() -> u64 {
    let seed = std::env::var("CORDWAINER_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        u64::try_from(now.as_nanos() % u128::from(u64::MAX)).unwrap()
    });
    println!("CORDWAINER_SEED={seed}");
    seed
}

fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(8) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
            1 => bytes[at] ^= 1 << dice.below(8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, u8::try_from(dice.below(256)).unwrap()),
            // Lengths and overload live after the cookie; aim there more often than chance would.
            4 if bytes.len() > 242 => {
                let at = 240 + dice.below(bytes.len() - 240);
                bytes[at] = [0, 1, 3, 52, 82, 255][dice.below(6)];
            }
            _ => {
                let tail = bytes.split_off(at);
                let copy = tail.clone();
                bytes.extend(tail);
                bytes.extend(copy.into_iter().take(300));
            }
        }
    }
}

#[test]
fn ten_thousand_mutated_packets_and_no_panic() {
    let mut dice = Dice::new(seed());
    let mut seeds: Vec<Vec<u8>> = files().iter().flat_map(|file| client_packets(file)).collect();
    let mut sites: Vec<Site> = [DhcpMode::Authoritative, DhcpMode::Proxy].map(Site::new).into();
    for site in &mut sites {
        let known: Mac = "52:54:00:d8:65:c9".parse().unwrap();
        add_system(&mut site.world, "web1", known, Some(Ipv4Addr::new(192, 168, 77, 115)));
        let port = serde_json::json!({"relay_circuit_id": "x", "ip_address": "10.9.0.9"});
        add_interface(&mut site.world, "port", &port);
        let mut far = subnet();
        far.network = "10.9.0.0/24".parse().unwrap();
        far.pool = Some("10.9.0.50-10.9.0.60".parse().unwrap());
        far.relays = vec![Ipv4Addr::new(10, 9, 0, 1)];
        Arc::make_mut(&mut site.world.config).subnets.push(far);
    }
    for plain in seeds.clone() {
        let mut relayed = plain;
        relayed[24..28].copy_from_slice(&[10, 9, 0, 1]);
        if relayed.last() == Some(&255) {
            relayed.pop();
        }
        relayed.extend([82, 9, 1, 1, b'x', 11, 4, 10, 9, 0, 1, 255]);
        seeds.push(relayed);
    }
    let (mut passed, mut answered, mut relayed) = (0, 0, 0);
    for round in 0..10_000 {
        let mut bytes = seeds[dice.below(seeds.len())].clone();
        mutate(&mut bytes, &mut dice);
        let Ok(packet) = wall::parse(&bytes) else {
            continue;
        };
        passed += 1;
        let port = [67, 4011][dice.below(2)];
        let packet = packet.arrived(SocketAddrV4::new(Ipv4Addr::new(192, 168, 77, 9), 68), port);
        let limit = usize::from(packet.max_size().unwrap_or(576)).min(1500) - 28;
        let site = &mut sites[round % 2];
        if let Some(reply) = site.ask(&packet).reply {
            answered += 1;
            assert!(
                (300..=limit.max(300)).contains(&reply.bytes.len()),
                "{} of {limit}",
                reply.bytes.len()
            );
            let read = wall::parse(&reply.bytes).unwrap();
            assert_eq!((read.xid, read.bad_options), (packet.xid, 0));
            let to_relay = !packet.giaddr.is_unspecified() && packet.message() != Some(MessageType::Inform);
            relayed += u32::from(to_relay);
            assert_eq!(read.option(82), packet.option(82).filter(|_| to_relay));
        }
        site.later(1);
    }
    assert!(
        passed > 2000 && answered > 500 && relayed > 100,
        "{passed} passed, {answered} answered, {relayed} by a relay: the mutations are too wild"
    );
}

/// What is on disk if every change is written in order.
#[derive(Default)]
struct Disk(BTreeMap<Ipv4Addr, Lease>);

impl Disk {
    fn write(&mut self, rows: &[LiveRow]) {
        for row in rows {
            match row {
                LiveRow::Lease(lease) => {
                    self.0.insert(lease.address, lease.clone());
                }
                LiveRow::LeaseGone(address) => {
                    self.0.remove(address);
                }
                LiveRow::Installation(_) => {}
            }
        }
    }
}

#[test]
fn no_address_twice_one_machine_one_address_and_what_is_stored_loads() {
    let mut dice = Dice::new(seed());
    let mut site = Site::new(DhcpMode::Authoritative);
    // Reservations inside and outside the pool, and twice as many machines as the pool has addresses.
    for last in 0..20 {
        let address = Ipv4Addr::new(192, 168, 77, 95 + last);
        add_system(&mut site.world, &format!("m{last}"), mac(last), Some(address));
    }
    // Two subnets on the link, the second one small, and addresses that go by an identifier which any of twenty machines may say.
    let config = Arc::make_mut(&mut site.world.config);
    config.subnets[0].shared = Some("link".parse().unwrap());
    let mut second = config.subnets[0].clone();
    second.network = "192.168.78.0/24".parse().unwrap();
    second.pool = Some("192.168.78.100-192.168.78.110".parse().unwrap());
    config.subnets.push(second);
    for last in 0..4 {
        let interface = serde_json::json!({"client_id": format!("id{last}"), "ip_address": format!("192.168.78.{}", 105 + 2 * last)});
        add_interface(&mut site.world, &format!("c{last}"), &interface);
    }
    let mut disk = Disk::default();
    let mut granted: BTreeMap<Ipv4Addr, (Mac, cordwainer::model::Timestamp)> = BTreeMap::new();
    let mut acks = 0;
    for _ in 0..20_000 {
        let machine = mac(u8::try_from(dice.below(200)).unwrap());
        let net = [77, 77, 77, 78][dice.below(4)];
        let any = Ipv4Addr::new(192, 168, net, u8::try_from(90 + dice.below(115)).unwrap());
        let id = format!("id{}", dice.below(8));
        let named = |words: Words| {
            let [.., last] = machine.bytes();
            if (30..50).contains(&last) && any.octets()[3].is_multiple_of(2) {
                words.with(61, id.as_bytes())
            } else {
                words
            }
        };
        let own = site.leases.rows().find(|row| row.mac == machine).map(|row| row.address);
        let said = match dice.below(10) {
            0..=5 => {
                let discover = named(words(machine, MessageType::Discover).requested(any));
                let Some(reply) = site.say(&discover).reply else {
                    continue;
                };
                let offer = wall::parse(&reply.bytes).unwrap().yiaddr;
                site.later(u64::try_from(dice.below(14)).unwrap());
                named(words(machine, MessageType::Request))
                    .requested(offer)
                    .server(super::world::SERVER)
            }
            6 => words(machine, MessageType::Request).from(own.unwrap_or(any)),
            7 => words(machine, MessageType::Request).requested(own.unwrap_or(any)),
            8 => words(machine, MessageType::Release)
                .from(own.unwrap_or(any))
                .server(super::world::SERVER),
            _ => words(machine, MessageType::Decline)
                .requested(own.filter(|_| dice.below(2) == 0).unwrap_or(any))
                .server(super::world::SERVER),
        };
        let outcome = site.say(&said);
        if let Some(change) = &outcome.change {
            // Now and then the disk is full.
            if dice.below(20) == 0 {
                change.undo.iter().rev().for_each(|row| site.leases.apply(row));
                continue;
            }
            disk.write(&change.rows);
            for row in &change.rows {
                match row {
                    LiveRow::Lease(lease) if lease.state == LeaseState::Active => {
                        acks += 1;
                        if let Some((holder, until)) = granted.insert(lease.address, (lease.mac, lease.expires)) {
                            assert!(
                                holder == lease.mac || until <= site.now,
                                "{} went to two machines",
                                lease.address
                            );
                        }
                    }
                    LiveRow::Lease(lease) => {
                        granted.remove(&lease.address);
                    }
                    LiveRow::LeaseGone(address) => {
                        granted.remove(address);
                    }
                    LiveRow::Installation(_) => {}
                }
            }
        }
        let mut owners: BTreeMap<Mac, u32> = BTreeMap::new();
        for row in site.leases.rows().filter(|row| row.state != LeaseState::Quarantined) {
            *owners.entry(row.mac).or_default() += 1;
        }
        assert!(owners.values().all(|rows| *rows == 1), "one machine, one row");
        if dice.below(50) == 0 {
            site.later(u64::try_from(dice.below(30_000)).unwrap());
        }
        if dice.below(200) == 0 {
            // A crash: what was on disk is all there is.
            assert!(site.leases.rows().eq(disk.0.values()), "memory and disk say the same");
            let json = serde_json::to_string(&disk.0.values().collect::<Vec<_>>()).unwrap();
            let rows: Vec<Lease> = serde_json::from_str(&json).unwrap();
            site.leases = Leases::load(rows);
            assert!(site.leases.rows().eq(disk.0.values()));
        }
    }
    assert!(acks > 2000, "{acks} grants are too few to mean anything");
}
