//! A generator of DHCP clients behind a relay, as a process of its own inside a test network: this test program, started again there.
//!
//! It says `ACK MAC ADDRESS` for each lease that it was granted, `AGAIN MAC ADDRESS` for each that was extended, `NAK MAC`. It never sleeps for
//! the server: while nobody answers it goes on asking, with new clients.

use super::properties::Dice;
use super::world::{Words, words};
use crate::lab::child::Child;
use crate::lab::netns::Host;
use cordwainer::dhcp::{MessageType, Packet, wall};
use cordwainer::model::Mac;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const PLAN: &str = "CORDWAINER_DHCP_CLIENTS";

/// Starts `rate` new clients per second on `host`, from its own address `relay`, asking `server`, until it is killed.
pub fn generate(host: &Host, relay: &str, server: &str, rate: u32, seed: u64) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = host.command(program.to_str().unwrap());
    command.args(["--exact", "dhcp::clients::run_clients", "--ignored", "--nocapture"]);
    command.env(PLAN, format!("{relay} {server} {rate} {seed}"));
    let mut child = Child::start("DHCP clients", &mut command);
    child.wait_for_line("asking", Duration::from_secs(60));
    child
}

/// So many there are; after the last the first comes again, as after a reboot.
const CLIENTS: u32 = 40_000;

fn client(number: u32) -> Mac {
    let number = number % CLIENTS;
    let [a, b, c, d] = number.to_be_bytes();
    Mac::new([2, 0x77, a, b, c, d])
}

fn number(mac: Mac) -> u32 {
    let [_, _, number @ ..] = mac.bytes();
    u32::from_be_bytes(number)
}

#[test]
#[ignore = "the clients of other tests, which start them with their environment"]
fn run_clients() {
    let Ok(plan) = std::env::var(PLAN) else {
        return;
    };
    let plan: Vec<&str> = plan.split(' ').collect();
    let relay: Ipv4Addr = plan[0].parse().unwrap();
    let server = SocketAddr::new(plan[1].parse().unwrap(), 67);
    let rate: u32 = plan[2].parse().unwrap();
    let mut dice = Dice::new(plan[3].parse().unwrap());
    let socket = UdpSocket::bind((relay, 67)).unwrap();
    println!("asking {server} as {relay}");

    let send = |words: Words| {
        // Refused while the server is away; the packet is lost, as on any wire.
        let _lost = socket.send_to(&words.relayed(relay).bytes(), server);
    };
    let (begun, mut sent, mut granted) = (Instant::now(), 0_u32, Vec::<(Mac, Ipv4Addr)>::new());
    let mut bytes = [0; 2048];
    loop {
        let due = Duration::from_secs(1) * sent / rate;
        let wait = due.saturating_sub(begun.elapsed());
        if wait.is_zero() {
            send(words(client(sent), MessageType::Discover));
            sent += 1;
            // Every tenth time an older client extends what it has.
            if !granted.is_empty() && sent.is_multiple_of(10) {
                let (mac, address) = granted[dice.below(granted.len())];
                send(words(mac, MessageType::Request).from(address));
            }
            continue;
        }
        socket.set_read_timeout(Some(wait)).unwrap();
        let Ok((length, _)) = socket.recv_from(&mut bytes) else {
            continue;
        };
        let reply = wall::parse(&bytes[..length]).unwrap();
        let mac = reply.mac().unwrap();
        match reply.message().unwrap() {
            MessageType::Offer => send(request(mac, &reply)),
            MessageType::Ack if reply.ciaddr.is_unspecified() => {
                println!("ACK {mac} {}", reply.yiaddr);
                granted.push((mac, reply.yiaddr));
            }
            MessageType::Ack => println!("AGAIN {mac} {}", reply.yiaddr),
            other => println!("{} {mac} (client {} of {sent})", other.as_str(), number(mac)),
        }
    }
}

const PXE: &str = "CORDWAINER_DHCP_PXE";

/// One BIOS PXE ROM at `mac` on `host`, which has its address from another server: it broadcasts DISCOVER, then asks `server` on port 4011.
/// It prints each answer as `OFFER|ACK SIADDR FILE OPTION60 YIADDR`.
pub fn pxe(host: &Host, mac: Mac, server: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = host.command(program.to_str().unwrap());
    command.args(["--exact", "dhcp::clients::run_pxe", "--ignored", "--nocapture"]);
    command.env(PXE, format!("{mac} {server}"));
    Child::start("PXE ROM", &mut command)
}

#[test]
#[ignore = "the PXE ROM of other tests, which start it with its environment"]
fn run_pxe() {
    let Ok(plan) = std::env::var(PXE) else {
        return;
    };
    let (mac, server) = plan.split_once(' ').unwrap();
    let (mac, server): (Mac, Ipv4Addr) = (mac.parse().unwrap(), server.parse().unwrap());
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    socket.set_broadcast(true).unwrap();
    // Without a default route the limited broadcast has no way but this.
    socket2::SockRef::from(&socket).bind_device(Some(b"eth0")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let ask = |words: &Words, to: (Ipv4Addr, u16)| {
        let mut bytes = [0; 2048];
        for _ in 0..10 {
            socket.send_to(&words.bytes(), to).unwrap();
            if let Ok((length, _)) = socket.recv_from(&mut bytes) {
                let reply = wall::parse(&bytes[..length]).unwrap();
                println!(
                    "{} {} {} {} {}",
                    reply.message().unwrap().as_str(),
                    reply.siaddr,
                    String::from_utf8_lossy(&reply.file),
                    reply.vendor_class().unwrap_or_default(),
                    reply.yiaddr
                );
                return;
            }
        }
        println!("no answer from {to:?}");
    };
    let mut discover = words(mac, MessageType::Discover).pxe(0);
    discover.flags = 0x8000;
    ask(&discover, (Ipv4Addr::BROADCAST, 67));
    let own = socket.local_addr().unwrap().ip();
    assert!(own.is_unspecified(), "the kernel chooses the source by its route");
    ask(&words(mac, MessageType::Request).pxe(0), (server, 4011));
}

const DORA: &str = "CORDWAINER_DHCP_DORA";

/// A machine at `mac` on `host` that wants an address, as a PXE ROM does: it asks again after 4 s.
/// It prints `ACK ADDRESS DISCOVERs REQUESTs`.
pub fn dora(host: &Host, mac: Mac) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = host.command(program.to_str().unwrap());
    command.args(["--exact", "dhcp::clients::run_dora", "--ignored", "--nocapture"]);
    command.env(DORA, mac.to_string());
    Child::start("a machine", &mut command)
}

#[test]
#[ignore = "a machine of other tests, which start it with its environment"]
fn run_dora() {
    let Ok(mac) = std::env::var(DORA) else {
        return;
    };
    let mac: Mac = mac.parse().unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket2::SockRef::from(&socket).bind_device(Some(b"eth0")).unwrap();
    let ask = |mut words: Words, expected: MessageType| {
        // Its interface has another hardware address than it says: only a broadcast reaches it.
        words.flags = 0x8000;
        for tries in 1..=5 {
            socket.send_to(&words.bytes(), (Ipv4Addr::BROADCAST, 67)).unwrap();
            let until = Instant::now() + Duration::from_secs(4);
            let mut bytes = [0; 2048];
            while let Some(left) = until
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            {
                socket.set_read_timeout(Some(left)).unwrap();
                let Ok((length, _)) = socket.recv_from(&mut bytes) else {
                    continue;
                };
                let reply = wall::parse(&bytes[..length]).unwrap();
                if reply.mac() == Some(mac) && reply.message() == Some(expected) {
                    return (reply, tries);
                }
            }
        }
        panic!("no {}", expected.as_str());
    };
    let (offer, discovers) = ask(words(mac, MessageType::Discover).pxe(0), MessageType::Offer);
    let (ack, requests) = ask(request(mac, &offer).pxe(0), MessageType::Ack);
    println!("ACK {} {discovers} {requests}", ack.yiaddr);
}

const CHOICE: &str = "CORDWAINER_DHCP_CHOICE";

/// A client on `host` that tells everyone once a second that it takes `address` from the server `other`.
pub fn chooses(host: &Host, mac: Mac, other: &str, address: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = host.command(program.to_str().unwrap());
    command.args(["--exact", "dhcp::clients::run_choice", "--ignored", "--nocapture"]);
    command.env(CHOICE, format!("{mac} {other} {address}"));
    Child::start("a client that chooses", &mut command)
}

#[test]
#[ignore = "a client of other tests, which start it with its environment"]
fn run_choice() {
    let Ok(plan) = std::env::var(CHOICE) else {
        return;
    };
    let plan: Vec<&str> = plan.split(' ').collect();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket2::SockRef::from(&socket).bind_device(Some(b"eth0")).unwrap();
    let request = words(plan[0].parse().unwrap(), MessageType::Request)
        .requested(plan[2].parse().unwrap())
        .server(plan[1].parse().unwrap());
    loop {
        socket.send_to(&request.bytes(), (Ipv4Addr::BROADCAST, 67)).unwrap();
        println!("said");
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn request(mac: Mac, offer: &Packet) -> Words {
    words(mac, MessageType::Request)
        .requested(offer.yiaddr)
        .server(offer.server_id().unwrap())
}
