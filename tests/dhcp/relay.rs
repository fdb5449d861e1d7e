//! Relays of other people between a client's network and the server's: dnsmasq's and ISC's, and one made by hand for what those two cannot
//! say. The client, the relay and the server each have a namespace of their own.

use super::server::{ADDRESS, Server};
use super::world::{Words, words};
use crate::lab::child::Child;
use crate::lab::need::{self, Need};
use crate::lab::netns::{Host, Net};
use cordwainer::dhcp::{MessageType, Packet, wall};
use cordwainer::model::{LeaseState, Mac};
use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

const BUSYBOX: Need = Need::Program("busybox", "busybox-static");
const DHCRELAY: Need = Need::Program("dhcrelay", "isc-dhcp-relay");
const PATIENCE: Duration = Duration::from_secs(60);

/// The relay's address on the server's network, and on the clients'.
const UPPER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const LOWER: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

/// The server's network, and one behind a relay. The relay's namespace routes: a renewal goes through it as any packet does.
struct Site {
    server: Server,
    clients: Net,
}

impl Site {
    fn new() -> Self {
        let far = "[[subnet]]\nnetwork = \"10.78.0.0/24\"\npool = \"10.78.0.100-10.78.0.199\"\nrouter = \"10.78.0.1\"\nlease = \"1h\"\n\
                   relays = [\"10.78.0.1\", \"10.77.0.2\"]\n";
        let server = Server::with_subnet("10.77.1.0-10.77.20.255", far);
        let clients = Net::new(&[&format!("{LOWER}/24")]);
        let near = &server.net;
        near.ip(&[
            "link",
            "add",
            "up0",
            "type",
            "veth",
            "peer",
            "name",
            "up0",
            "netns",
            clients.namespace(),
        ]);
        near.ip(&["link", "set", "up0", "master", "br0", "up"]);
        near.ip(&["route", "add", "10.78.0.0/24", "via", &UPPER.to_string()]);
        clients.ip(&["link", "set", "up0", "up"]);
        clients.ip(&["addr", "add", &format!("{UPPER}/16"), "dev", "up0"]);
        let mut forward = clients.command("sh");
        crate::lab::child::run(
            "forwarding",
            forward.args(["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]),
            PATIENCE,
        );
        Self { server, clients }
    }

    /// Prints each packet between relay and server.
    fn listen(&self) -> Child {
        let mut child = again(self.server.net.command(&program()), "run_listener", "br0");
        child.wait_for_line("listening", PATIENCE);
        child
    }

    fn dnsmasq(&self) -> Child {
        let mut command = self.clients.command("dnsmasq");
        command.args([
            "-d",
            "-q",
            "--port=0",
            "--conf-file=/dev/null",
            "--log-dhcp",
            "--user=root",
            "--leasefile-ro",
        ]);
        command.arg(format!("--dhcp-relay={LOWER},{ADDRESS}"));
        let mut child = Child::start("dnsmasq", &mut command);
        child.wait_for_line("DHCP relay from", PATIENCE);
        child
    }

    /// ISC's relay: it adds option 82 (`-a`), and drops an answer that does not bring it back. `upper` says how it knows the interface
    /// towards the server; one that is named in two ways makes it crash.
    fn dhcrelay(&self, upper: &str) -> Child {
        let mut command = self.clients.command("dhcrelay");
        command.args(["-4", "-d", "--no-pid", "-a", "-D", upper, "up0", "-id", "br0", ADDRESS]);
        let mut child = Child::start("dhcrelay", &mut command);
        child.wait_for_line("Sending on   Socket/fallback", PATIENCE);
        child
    }
}

fn program() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

const PLAN: &str = "CORDWAINER_DHCP_RELAY";

/// Starts this test program again, where `command` starts it, as what `part` does.
fn again(mut command: Command, part: &str, plan: &str) -> Child {
    command.args(["--exact", &format!("dhcp::relay::{part}"), "--ignored", "--nocapture"]);
    command.env(PLAN, plan);
    Child::start(part, &mut command)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
#[ignore = "the ear of other tests, which start it with its environment"]
fn run_listener() {
    let Ok(interface) = std::env::var(PLAN) else {
        return;
    };
    // ETH_P_ALL: what goes out is to be heard too.
    let every = i32::from(3_u16.to_be());
    let mut socket = socket2::Socket::new(
        socket2::Domain::PACKET,
        socket2::Type::DGRAM,
        Some(socket2::Protocol::from(every)),
    )
    .unwrap();
    println!("listening on {interface}");
    let mut bytes = [0; 2048];
    loop {
        let length = socket.read(&mut bytes).unwrap();
        // IPv4 without options, UDP to port 67: what relay and server say to each other.
        let bytes = &bytes[..length];
        if length < 28 || bytes[0] != 0x45 || bytes[9] != 17 || bytes[22..24] != [0, 67] {
            continue;
        }
        let Ok(packet) = wall::parse(&bytes[28..]) else {
            continue;
        };
        let way = if bytes[28] == 1 { "ASK" } else { "SAY" };
        println!(
            "{way} {:08x} {} giaddr {} 82 {}",
            packet.xid,
            packet.message().map_or("BOOTP", MessageType::as_str),
            packet.giaddr,
            packet.option(82).map_or_else(|| "none".to_owned(), hex)
        );
    }
}

/// The option 82 of every answer, by the listener's account; each is that of a question with the same number.
fn echoed(listener: &Child) -> Vec<String> {
    let lines = listener.lines();
    let heard = |way: &str| -> Vec<(String, String)> {
        let told = lines.iter().filter(|line| line.starts_with(way));
        told.map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[1].to_owned(), words[6].to_owned())
        })
        .collect()
    };
    let (asked, said) = (heard("ASK"), heard("SAY"));
    assert!(
        said.len() >= 4 && said.iter().all(|answer| asked.contains(answer)),
        "{lines:?}"
    );
    said.into_iter().map(|(_, option)| option).collect()
}

/// udhcpc with an address that it really takes, so that it can renew by unicast.
fn udhcpc(site: &Site, host: &Host, more: &[&str]) -> Child {
    let script = site.server.folder().join("udhcpc.script");
    std::fs::write(
        &script,
        "#!/bin/sh\ncase $1 in bound|renew)\nip addr replace $ip/$mask dev $interface\nip route replace default via $router\n\
         echo $1 $ip by $serverid;; esac\n",
    )
    .unwrap();
    let mut mode = std::fs::metadata(&script).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let mut command = host.command("busybox");
    command.args(["udhcpc", "-i", "eth0", "-f", "-t", "10", "-T", "1", "-s"]);
    command.arg(&script).args(more);
    Child::start("udhcpc", &mut command)
}

fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let id = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(id, signal).unwrap();
}

/// A lease through the relay by its real name, a renewal past it, a release past it.
fn lease_renew_release(site: &Site) {
    use nix::sys::signal::Signal::{SIGUSR1, SIGUSR2};
    let host = site.clients.host("c1", None);
    let mut client = udhcpc(site, &host, &[]);
    let bound = client.wait_for_line("bound 10.78.0.", PATIENCE);
    let address = bound.split(' ').nth(1).unwrap().to_owned();
    assert!(bound.ends_with(&format!("by {ADDRESS}")), "{bound}");
    signal(&client, SIGUSR1);
    client.wait_for_line(&format!("renew {address} by {ADDRESS}"), PATIENCE);
    signal(&client, SIGUSR2);
    client.wait_for_line("entering released state", PATIENCE);
    // Our own client: the same by its own words, asking for broadcast as firmware does.
    let other = site.clients.host("c2", None);
    let mac: Mac = "52:54:00:00:00:77".parse().unwrap();
    let mut own = again(other.command(&program()), "run_client", &mac.to_string());
    for said in ["OFFER 10.78.0.", "ACK 10.78.0.", "RENEWED 10.78.0.", "released"] {
        own.wait_for_line(said, PATIENCE);
    }
    assert!(own.wait_for_exit(PATIENCE).success());
}

/// Both leases were given back, by unicast and from their own addresses.
fn both_released(site: &Site, listener: &Child, mut server: Child) {
    let releases = |lines: &[String]| {
        let mut clients: Vec<&str> = lines
            .iter()
            .filter(|line| line.contains(" RELEASE giaddr 0.0.0.0"))
            .filter_map(|line| line.split(' ').nth(1))
            .collect();
        clients.sort_unstable();
        clients.dedup();
        (clients.len() == 2).then_some(())
    };
    assert!(listener.wait_until(PATIENCE, releases).is_some());
    server.terminate();
    assert!(server.wait_for_exit(PATIENCE).success());
    let leases = site.server.leases_on_disk();
    assert_eq!(leases.len(), 2);
    assert!(
        leases.iter().all(|lease| lease.state == LeaseState::Released),
        "{leases:?}"
    );
}

#[test]
#[ignore = "the client of other tests, which start it with its environment"]
fn run_client() {
    let Ok(mac) = std::env::var(PLAN) else {
        return;
    };
    let mac: Mac = mac.parse().unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket2::SockRef::from(&socket).bind_device(Some(b"eth0")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let ask = |mut words: Words, to: Ipv4Addr| -> Packet {
        let mut bytes = [0; 2048];
        words.flags = if to.is_broadcast() { 0x8000 } else { 0 };
        for _ in 0..20 {
            socket.send_to(&words.bytes(), (to, 67)).unwrap();
            if let Ok((length, _)) = socket.recv_from(&mut bytes) {
                let reply = wall::parse(&bytes[..length]).unwrap();
                // It hears what its neighbour is told by broadcast, too.
                if reply.mac() == Some(mac) {
                    assert_eq!(reply.option(82), None, "the relay takes it out");
                    return reply;
                }
            }
        }
        panic!("no answer from {to}");
    };
    let offer = ask(words(mac, MessageType::Discover), Ipv4Addr::BROADCAST);
    println!("OFFER {}", offer.yiaddr);
    let server = offer.server_id().unwrap();
    let request = words(mac, MessageType::Request).requested(offer.yiaddr).server(server);
    let ack = ask(request, Ipv4Addr::BROADCAST);
    assert_eq!(ack.message(), Some(MessageType::Ack));
    println!("ACK {}", ack.yiaddr);
    for arguments in [
        &["addr", "add", &format!("{}/24", ack.yiaddr), "dev", "eth0"][..],
        &["route", "add", "default", "via", &LOWER.to_string()],
    ] {
        assert!(Command::new("ip").args(arguments).status().unwrap().success());
    }
    let renewed = ask(words(mac, MessageType::Request).from(ack.yiaddr), server);
    assert_eq!(renewed.message(), Some(MessageType::Ack));
    assert_eq!((renewed.giaddr, renewed.ciaddr), (Ipv4Addr::UNSPECIFIED, ack.yiaddr));
    println!("RENEWED {}", renewed.yiaddr);
    let release = words(mac, MessageType::Release).from(ack.yiaddr).server(server);
    let from = UdpSocket::bind((ack.yiaddr, 0)).unwrap();
    from.send_to(&release.bytes(), (server, 67)).unwrap();
    println!("released");
}

#[test]
fn through_dnsmasqs_relay() {
    if !need::all("through_dnsmasqs_relay", &[need::NETWORK, &[need::DNSMASQ, BUSYBOX]]) {
        return;
    }
    let site = Site::new();
    let (server, _) = site.server.start();
    let listener = site.listen();
    let _relay = site.dnsmasq();
    lease_renew_release(&site);
    let seen = echoed(&listener);
    assert!(seen.iter().all(|option| option == "none"), "{seen:?}");
    both_released(&site, &listener, server);
}

#[test]
fn through_iscs_relay_with_option_82() {
    if !need::all(
        "through_iscs_relay_with_option_82",
        &[need::NETWORK, &[DHCRELAY, BUSYBOX]],
    ) {
        return;
    }
    let site = Site::new();
    let (server, _) = site.server.start();
    let listener = site.listen();
    let _relay = site.dhcrelay("-iu");
    lease_renew_release(&site);
    let seen = echoed(&listener);
    // Sub-option 1: the name of the interface that the client is on.
    assert!(seen.iter().all(|option| option == "0103627230"), "{seen:?}");
    both_released(&site, &listener, server);
}

#[test]
fn iscs_relay_selects_the_link_when_its_own_address_is_elsewhere() {
    if !need::all("iscs_relay_selects_the_link", &[need::NETWORK, &[DHCRELAY, BUSYBOX]]) {
        return;
    }
    let site = Site::new();
    let (server, _) = site.server.start();
    let listener = site.listen();
    // RFC 3527: giaddr is 10.77.0.2, 82.5 is 10.78.0.1.
    let _relay = site.dhcrelay("-U");
    lease_renew_release(&site);
    assert!(
        listener
            .lines()
            .iter()
            .any(|line| line.contains("DISCOVER giaddr 10.77.0.2")),
        "{:?}",
        listener.lines()
    );
    let seen = echoed(&listener);
    // It hears what it routes as well, and relays each renewal once more for the wrong link; that does no harm.
    let client_link = seen.iter().filter(|option| *option == "010362723005040a4e0001").count();
    assert!(client_link >= 4, "{seen:?}");
    both_released(&site, &listener, server);
}

/// Sub-options in an order that no encoder would choose, one unknown and one empty, longer than one option holds, link selection and server
/// identifier override among them.
fn strange_option() -> Vec<u8> {
    let mut option = vec![
        11, 4, 10, 78, 0, 1, 2, 3, b's', b'w', b'1', 200, 0, 5, 4, 10, 78, 0, 0, 1, 200,
    ];
    option.extend([0xfe; 200]);
    option.extend([9, 60]);
    option.extend([7; 60]);
    option
}

#[test]
#[ignore = "the relay of another test, which starts it with its environment"]
fn run_relay() {
    if std::env::var(PLAN).is_err() {
        return;
    }
    let socket = UdpSocket::bind((UPPER, 67)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mac: Mac = "52:54:00:00:00:82".parse().unwrap();
    let option = strange_option();
    let send = |words: Words| {
        let (first, second) = option.split_at(255);
        let words = words.relayed(UPPER).with(82, first).with(82, second);
        socket.send_to(&words.bytes(), (ADDRESS, 67)).unwrap();
    };
    let ask = |words: Words| -> Packet {
        let mut bytes = [0; 2048];
        for _ in 0..20 {
            send(words.clone());
            if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                assert_eq!(from.ip().to_string(), ADDRESS);
                let bytes = &bytes[..length];
                let reply = wall::parse(bytes).unwrap();
                assert_eq!(reply.option(82), Some(option.as_slice()), "byte for byte");
                let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
                assert!(bytes[..end].ends_with(&option[255..]), "and last");
                assert_eq!(reply.server_id(), Some(LOWER), "RFC 5107");
                return reply;
            }
        }
        panic!("no answer");
    };
    let offer = ask(words(mac, MessageType::Discover));
    println!("OFFER {}", offer.yiaddr);
    let ack = ask(words(mac, MessageType::Request).requested(offer.yiaddr).server(LOWER));
    assert_eq!(ack.message(), Some(MessageType::Ack));
    println!("ACK {}", ack.yiaddr);
    // The client renews with whom it takes for the server, which is the relay.
    let renewed = ask(words(mac, MessageType::Request).from(ack.yiaddr));
    assert_eq!(
        (renewed.message(), renewed.yiaddr),
        (Some(MessageType::Ack), ack.yiaddr)
    );
    let nak = ask(words(mac, MessageType::Request)
        .requested(Ipv4Addr::new(10, 9, 9, 9))
        .server(LOWER));
    assert_eq!((nak.message(), nak.flags), (Some(MessageType::Nak), 0x8000));
    send(words(mac, MessageType::Release).from(ack.yiaddr).server(LOWER));
    // Answered after it: the release was taken before.
    ask(words("52:54:00:00:00:83".parse().unwrap(), MessageType::Discover));
    println!("released {}", ack.yiaddr);
}

#[test]
fn a_relay_that_says_all_that_a_relay_can() {
    if !need::all("a_relay_that_says_all_that_a_relay_can", &[need::NETWORK]) {
        return;
    }
    let site = Site::new();
    let (mut server, _) = site.server.start();
    let mut relay = again(site.clients.command(&program()), "run_relay", "go");
    relay.wait_for_line("OFFER 10.78.0.", PATIENCE);
    relay.wait_for_line("released 10.78.0.", PATIENCE);
    assert!(relay.wait_for_exit(PATIENCE).success());
    server.terminate();
    assert!(server.wait_for_exit(PATIENCE).success());
    let leases = site.server.leases_on_disk();
    assert_eq!((leases.len(), leases[0].state), (1, LeaseState::Released));
}

/// perfdhcp on the host of the relay of the near subnet, until it ended: most were answered, and no address was given twice.
fn perfdhcp(relay: &Host, more: &[String]) {
    let mut command = relay.command("perfdhcp");
    command.args([
        "-4", "-u", "-r", "100", "-R", "2000", "-n", "300", "-W", "1000000", "-l", "eth0",
    ]);
    command.args(more).arg(ADDRESS);
    let mut child = Child::start("perfdhcp", &mut command);
    let status = child.wait_for_exit(PATIENCE);
    let said = child.lines().join("\n");
    // 3: single packets were lost, which a busy machine may cause.
    assert!(matches!(status.code(), Some(0 | 3)), "{status}\n{said}");
    let count = |name: &str| -> Vec<u64> {
        let lines = said.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(|value| value.trim().parse().unwrap()).collect()
    };
    assert_eq!(count("non unique addresses:"), [0, 0], "{said}");
    assert_eq!(count("rejected leases:"), [0, 0], "{said}");
    let received = count("received packets:");
    assert!(received.iter().all(|received| *received >= 250), "{said}");
    assert_eq!(received.len(), 2, "{said}");
}

#[test]
fn perfdhcps_malformed_and_mixed_clients_are_served_all_the_same() {
    const PERFDHCP: Need = Need::Program("perfdhcp", "kea-admin");
    if !need::all("perfdhcps_malformed_and_mixed_clients", &[need::NETWORK, &[PERFDHCP]]) {
        return;
    }
    let site = Site::new();
    let relay = site.server.net.host("relay", Some("10.77.0.2/16"));
    let (mut server, _) = site.server.start();
    // Beside the usual options: a host name that is no UTF-8, short values, half an architecture, a remote-id beyond what option 82 holds,
    // an overload of empty fields.
    for mix in [
        &["-o", "12,fffe80", "-o", "81,00", "-o", "94,01"][..],
        &[
            "-o",
            "60,505845436c69656e743a",
            "-o",
            "93,00",
            "-o",
            "97,01",
            "-o",
            "57,0001",
        ],
        &["-o", "82,0104706f7274c8000b00", "-o", "43,47ff", "-o", "77,ff"],
        &["-o", "52,03", "-o", "116,0707", "-o", "255,01"],
    ] {
        let mix: Vec<String> = mix.iter().map(|word| (*word).to_owned()).collect();
        perfdhcp(&relay, &mix);
    }
    // Whole packets by template: what stands before the message type, an option that is cut off at the end, no end at all.
    let discover = template(
        1,
        &[0, 0, 12, 3, 0xff, 0xfe, 0x80, 81, 2, 0, 0, 94, 1, 1, 93, 3, 0, 0, 7],
        &[43, 200, 1],
    );
    let request = template(
        3,
        &[54, 4, 0, 0, 0, 0, 50, 4, 0, 0, 0, 0],
        &[12, 3, 0xff, 0xfe, 0x80, 82],
    );
    let mut arguments = Vec::new();
    for (name, bytes) in [("discover", &discover), ("request", &request)] {
        let file = site.server.folder().join(name);
        std::fs::write(&file, hex(bytes)).unwrap();
        arguments.extend(["-T".to_owned(), file.to_str().unwrap().to_owned()]);
    }
    // Where perfdhcp writes transaction, hardware address, server identifier and requested address.
    for words in ["-X4", "-X4", "-O33", "-O33", "-S243", "-I249"] {
        arguments.push(words.to_owned());
    }
    perfdhcp(&relay, &arguments);
    assert!(server.is_running());
}

/// A packet by the relay of the near subnet: message type, `first`, and what follows, all as it is.
fn template(message: u8, first: &[u8], last: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 1];
    bytes.resize(24, 0);
    bytes.extend(UPPER.octets());
    bytes.extend([2, 0x78, 0, 0, 0, 0]);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99, 53, 1, message]);
    bytes.extend(first);
    bytes.extend(last);
    bytes
}
