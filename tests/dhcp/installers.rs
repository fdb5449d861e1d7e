//! Machines that are armed, installed and armed again for as long as the test lasts, as a process of its own inside a test network: this
//! test program, started again there. Each thread is one machine with its admin.
//!
//! It says what was promised, one line each, after the promise was received: `armed NAME`, `claimed NAME ARM`, `reported NAME ARM STAGE`,
//! `edited NAME NUMBER`; and `BROKEN ...` when a promise is not kept. Whatever does not answer is asked again.

use super::world::{Words, words};
use crate::lab::child::Child;
use crate::lab::netns::Host;
use cordwainer::dhcp::{MessageType, wall};
use cordwainer::install::Token;
use cordwainer::model::Mac;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PLAN: &str = "CORDWAINER_DHCP_INSTALLERS";
/// The address of the host that speaks for them.
pub const RELAY: &str = "10.77.0.3";
/// What their addresses are, beside those of servers and relays.
pub const ADDRESSES: [&str; 3] = ["10.77.128.0/17", "10.77.64.0/18", "10.77.32.0/19"];

pub fn name(number: u8) -> String {
    format!("web{number}")
}

pub fn mac(number: u8) -> Mac {
    Mac::new([2, 0x78, 0, 0, 0, number])
}

/// Lets `host` speak as every machine.
pub fn own_addresses(host: &Host) {
    for addresses in ADDRESSES {
        host.ip(&["route", "add", "local", addresses, "dev", "lo"]);
    }
}

/// Starts `count` machines on `host`, whose server is `server` with this configuration and state.
pub fn start(host: &Host, server: &str, count: u8, config: &str, state: &str) -> Child {
    own_addresses(host);
    let program = std::env::current_exe().unwrap();
    let mut command = host.command(program.to_str().unwrap());
    command.args(["--exact", "dhcp::installers::run", "--ignored", "--nocapture"]);
    command.env(PLAN, format!("{server} {count} {config} {state}"));
    let mut child = Child::start("machines", &mut command);
    child.wait_for_line("machines are on", Duration::from_secs(60));
    child
}

#[test]
#[ignore = "the machines of other tests, which start them with their environment"]
fn run() {
    let Ok(plan) = std::env::var(PLAN) else { return };
    let [server, count, config, state] = plan.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let site = Site {
        server: server.parse().unwrap(),
        relay: UdpSocket::bind((RELAY, 67)).unwrap().into(),
        config,
        state,
    };
    println!("\nmachines are on");
    std::thread::scope(|scope| {
        for number in 1..=count.parse().unwrap() {
            let machine = Machine {
                site: &site,
                name: name(number),
                mac: mac(number),
            };
            scope.spawn(move || machine.live());
        }
    });
}

const ONE: &str = "CORDWAINER_DHCP_ONE";

/// What one client of `host` gets that asks for a lease, or for more of the one that it has: the address and its seconds, or nothing
/// within two seconds. The address becomes the host's.
pub fn ask_for_lease(host: &Host, server: &str, mac: Mac, has: Option<Ipv4Addr>) -> Option<(Ipv4Addr, u32)> {
    let program = std::env::current_exe().unwrap();
    let mut command = host.command(program.to_str().unwrap());
    command.args(["--exact", "dhcp::installers::one", "--ignored", "--nocapture"]);
    let has = has.map_or_else(|| "none".to_owned(), |address| address.to_string());
    let output = command.env(ONE, format!("{server} {mac} {has}")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = text.lines().find_map(|line| line.strip_prefix("LEASE "))?;
    let (address, seconds) = line.split_once(' ').unwrap();
    Some((address.parse().unwrap(), seconds.parse().unwrap()))
}

#[test]
#[ignore = "one client of other tests, which start it with its environment"]
fn one() {
    let Ok(plan) = std::env::var(ONE) else { return };
    let [server, mac, has] = plan.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let (server, mac): (Ipv4Addr, Mac) = (server.parse().unwrap(), mac.parse().unwrap());
    let relay: Ipv4Addr = RELAY.parse().unwrap();
    let socket = UdpSocket::bind((relay, 67)).unwrap();
    let exchange = |words: Words, wanted: MessageType| {
        let begun = Instant::now();
        let mut bytes = [0; 2048];
        // As a client does that lost a packet: once more.
        for _ in 0..4 {
            socket
                .send_to(&words.clone().relayed(relay).bytes(), (server, 67))
                .unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            while begun.elapsed() < Duration::from_secs(2)
                && let Ok((length, _)) = socket.recv_from(&mut bytes)
            {
                let reply = wall::parse(&bytes[..length]).unwrap();
                if reply.mac() == Some(mac) && reply.message() == Some(wanted) {
                    return Some(reply);
                }
            }
        }
        None
    };
    let request = match has.parse() {
        Ok(address) => Some(words(mac, MessageType::Request).from(address)),
        Err(_) => exchange(words(mac, MessageType::Discover), MessageType::Offer).map(|offer| {
            words(mac, MessageType::Request)
                .requested(offer.yiaddr)
                .server(offer.server_id().unwrap())
        }),
    };
    println!();
    if let Some(ack) = request.and_then(|request| exchange(request, MessageType::Ack)) {
        let time: [u8; 4] = ack.option(51).unwrap().try_into().unwrap();
        println!("LEASE {} {}", ack.yiaddr, u32::from_be_bytes(time));
    }
}

struct Site<'a> {
    server: Ipv4Addr,
    relay: Mutex<UdpSocket>,
    config: &'a str,
    state: &'a str,
}

struct Machine<'a> {
    site: &'a Site<'a>,
    name: String,
    mac: Mac,
}

impl Machine<'_> {
    fn live(&self) {
        for round in 0_u64.. {
            if round.is_multiple_of(3) {
                self.cli(&[
                    "system",
                    "edit",
                    "--name",
                    &self.name,
                    "--in-place",
                    "--comment",
                    &round.to_string(),
                ]);
                println!("edited {} {round}", self.name);
            }
            self.cli(&["system", "arm", &self.name, "--again"]);
            println!("armed {}", self.name);
            let address = self.lease();
            // The arming holds until this machine comes, however often the server dies meanwhile.
            let files = self.installer(address);
            let Some(files) = files else {
                println!("BROKEN {} was armed and is told to boot from its disk", self.name);
                return;
            };
            let token = files.split('/').nth(2).unwrap();
            let arm = Token::claimed_arm(token).unwrap().0;
            println!("claimed {} {arm}", self.name);
            let answers = self.ask(address, "GET", &files);
            if answers.0 != 200 {
                println!("BROKEN {} does not get its answer file: {}", self.name, answers.0);
                return;
            }
            let Some(report) = report_of(&answers.1) else {
                println!("BROKEN {}: no place for reports in {}", self.name, answers.1);
                return;
            };
            println!("reported {} {arm} answers", self.name);
            let gives_up = round % 4 == 3;
            let stages: &[&str] = if gives_up {
                &["partitioning"]
            } else {
                &["started", "partitioning", "done"]
            };
            for stage in stages {
                let (status, said) = self.ask(address, "POST", &format!("/r/{report}/{stage}"));
                if status != 200 && status != 204 {
                    println!("BROKEN {}: report of {stage}: {status} {said}", self.name);
                    return;
                }
                println!("reported {} {arm} {stage}", self.name);
            }
            // Done, or gone on to partitioning: never the installer again.
            if self.installer(address).is_some() {
                println!(
                    "BROKEN {} is to be wiped again after {}",
                    self.name,
                    stages[stages.len() - 1]
                );
                return;
            }
        }
    }

    /// Runs a command until it succeeds.
    fn cli(&self, arguments: &[&str]) {
        loop {
            let output = Command::new(env!("CARGO_BIN_EXE_cordwainer"))
                .args(["--config", self.site.config, "--state", self.site.state])
                .args(arguments)
                .output()
                .unwrap();
            if output.status.success() {
                return;
            }
            println!(
                "refused {}: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr).replace('\n', " ")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn lease(&self) -> Ipv4Addr {
        let socket = self.site.relay.lock().unwrap();
        let relay: Ipv4Addr = RELAY.parse().unwrap();
        let exchange = |words: Words, wanted: MessageType| {
            drop(socket.send_to(&words.relayed(relay).bytes(), (self.site.server, 67)));
            let begun = Instant::now();
            let mut bytes = [0; 2048];
            loop {
                let left = Duration::from_millis(500)
                    .checked_sub(begun.elapsed())
                    .filter(|left| !left.is_zero())?;
                socket.set_read_timeout(Some(left)).unwrap();
                let length = socket.recv_from(&mut bytes).ok()?.0;
                let reply = wall::parse(&bytes[..length]).unwrap();
                if reply.mac() == Some(self.mac) && reply.message() == Some(wanted) {
                    return Some(reply);
                }
            }
        };
        loop {
            let Some(offer) = exchange(words(self.mac, MessageType::Discover).pxe(0), MessageType::Offer) else {
                continue;
            };
            let request = words(self.mac, MessageType::Request)
                .requested(offer.yiaddr)
                .server(offer.server_id().unwrap())
                .pxe(0);
            if let Some(ack) = exchange(request, MessageType::Ack) {
                println!("ACK {} {}", self.mac, ack.yiaddr);
                return ack.yiaddr;
            }
        }
    }

    /// Where the boot script says that the answer file is; none when it boots the disk.
    fn installer(&self, address: Ipv4Addr) -> Option<String> {
        let (status, script) = self.ask(address, "GET", &format!("/b/{}/ipxe", self.mac.dashed()));
        assert_eq!(status, 200, "{script}");
        let (_, rest) = script.split_once("/i/")?;
        Some(format!("/i/{}", rest.split_whitespace().next()?))
    }

    /// Asks until a whole answer comes that is none of a server in need.
    fn ask(&self, from: Ipv4Addr, method: &str, path: &str) -> (u16, String) {
        loop {
            match self.try_to_ask(from, method, path) {
                Ok((status, text)) if status < 500 => return (status, text),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn try_to_ask(&self, from: Ipv4Addr, method: &str, path: &str) -> std::io::Result<(u16, String)> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        let patience = Duration::from_secs(5);
        socket.connect_timeout(&SocketAddr::from((self.site.server, 80)).into(), patience)?;
        let mut stream = std::net::TcpStream::from(socket);
        stream.set_read_timeout(Some(patience))?;
        let server = self.site.server;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if length.is_some_and(|length| length != body.len()) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let status = head.get(9..12).and_then(|code| code.parse().ok());
        Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body.to_owned()))
    }
}

fn report_of(answers: &str) -> Option<String> {
    let (_, rest) = answers.split_once("/r/")?;
    let token: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    (!token.is_empty()).then_some(token)
}
