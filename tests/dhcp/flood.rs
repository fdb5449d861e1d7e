//! A storm of invented hardware addresses on a real wire, and one machine on record that wants to boot in the middle of it.
//!
//! How much the machine under test can be offered is a figure that is printed, never a condition: what is asserted is what became of it.

use super::clients;
use super::server::{ADDRESS, Server};
use super::world::words;
use crate::lab::child::Child;
use crate::lab::need;
use crate::lab::netns::Host;
use cordwainer::dhcp::MessageType;
use cordwainer::model::{LeaseState, Mac};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

const PLAN: &str = "CORDWAINER_DHCP_FLOOD";
const PATIENCE: Duration = Duration::from_secs(120);
/// Packets a second.
const RATE: u32 = 50_000;
const SECONDS: u64 = 4;
const POOL: &str = "10.77.1.0-10.77.4.231";
const POOL_SIZE: usize = 1_000;
const ON_RECORD: usize = 200;

/// Starts a flood from `host`; `round` makes its addresses others than those of another round.
fn flood(host: &Host, round: u8) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = host.command(program.to_str().unwrap());
    command.args(["--exact", "dhcp::flood::run_flood", "--ignored", "--nocapture"]);
    command.env(PLAN, round.to_string());
    let mut child = Child::start("flood", &mut command);
    child.wait_for_line("under way", PATIENCE);
    child
}

/// Every packet comes from another machine. Three of four look for an address; the fourth claims one that nobody offered it.
#[test]
#[ignore = "the flood of another test, which starts it with its environment"]
fn run_flood() {
    let Ok(round) = std::env::var(PLAN) else {
        return;
    };
    let round: u8 = round.parse().unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket2::SockRef::from(&socket).bind_device(Some(b"eth0")).unwrap();
    socket.connect((Ipv4Addr::BROADCAST, 67)).unwrap();
    let discover = words(Mac::new([2; 6]), MessageType::Discover).pxe(0).bytes();
    let claim = words(Mac::new([2; 6]), MessageType::Request)
        .server(ADDRESS.parse().unwrap())
        .requested(Ipv4Addr::UNSPECIFIED)
        .bytes();
    let (begun, mut sent) = (Instant::now(), 0_u32);
    println!("under way");
    while begun.elapsed() < Duration::from_secs(SECONDS) {
        let due = u32::try_from(begun.elapsed().as_micros()).unwrap() / (1_000_000 / RATE);
        while sent < due {
            let mac = [[2, round].as_slice(), &sent.to_be_bytes()].concat();
            let mut packet = if sent.is_multiple_of(4) {
                let mut claim = claim.clone();
                let address = [
                    10,
                    77,
                    u8::try_from(1 + sent / 4 / 256 % 4).unwrap(),
                    (sent / 4 % 256) as u8,
                ];
                let at = claim.len() - 5;
                claim[at..at + 4].copy_from_slice(&address);
                claim
            } else {
                discover.clone()
            };
            packet[28..34].copy_from_slice(&mac);
            // The link's queue is full now and then: that packet is lost, as on any wire.
            let _lost = socket.send(&packet);
            sent += 1;
        }
        std::thread::yield_now();
    }
    println!("offered {sent} in {} ms", begun.elapsed().as_millis());
}

/// Resident memory of a process in KiB.
fn memory(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn fifty_thousand_strangers_a_second_keep_no_machine_on_record_waiting() {
    if !need::all("flood", &[need::NETWORK]) {
        return;
    }
    let server = Server::new(POOL);
    let known: Mac = "52:54:00:00:00:50".parse().unwrap();
    server.add_system("web1", known);
    server.add_strangers_to_be(ON_RECORD);
    let (attacker, machine) = (server.net.host("flood", None), server.net.host("c1", None));
    let (mut running, _) = server.start();
    let quiet = memory(&running);

    let mut first = flood(&attacker, 1);
    assert!(first.wait_for_exit(PATIENCE).success());
    let after_one = memory(&running);

    let mut second = flood(&attacker, 2);
    let mut boots = clients::dora(&machine, known);
    let told = boots.wait_for_line("ACK", PATIENCE);
    let tries: Vec<u32> = told.split(' ').skip(2).map(|word| word.parse().unwrap()).collect();
    let in_the_middle = second.is_running();
    assert!(second.wait_for_exit(PATIENCE).success());
    let after_two = memory(&running);

    running.terminate();
    assert!(running.wait_for_exit(PATIENCE).success());
    let leases = server.leases_on_disk();
    let strangers = leases
        .iter()
        .filter(|lease| lease.mac != known && lease.state == LeaseState::Active)
        .count();
    let figure = |child: &Child| {
        child
            .lines()
            .into_iter()
            .find(|line| line.starts_with("offered"))
            .unwrap()
    };
    println!(
        "{}, then {}; the machine on record: {told}, {}; strangers hold {strangers} of {POOL_SIZE} addresses; \
         memory {quiet} KiB, {after_one} KiB after one flood, {after_two} KiB after two",
        figure(&first),
        figure(&second),
        if in_the_middle {
            "in the middle of it"
        } else {
            "after it"
        },
    );
    assert!(tries.iter().all(|tries| *tries <= 2), "{told}");
    assert!(
        leases
            .iter()
            .any(|lease| lease.mac == known && lease.state == LeaseState::Active)
    );
    assert!(strangers > 0, "no claim of a stranger ever arrived");
    assert!(strangers <= POOL_SIZE - ON_RECORD, "{strangers} strangers have a lease");
    assert!(after_two < quiet + 256 * 1024, "{quiet} KiB grew to {after_two} KiB");
    // What the first flood filled is what may be filled.
    assert!(
        after_two < after_one + 48 * 1024,
        "{after_one} KiB grew to {after_two} KiB"
    );
}
