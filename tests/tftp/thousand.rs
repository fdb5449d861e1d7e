//! A thousand machines at once on a link that loses five of a hundred datagrams each way, doubles two and lets two be overtaken: every
//! one of them gets its file, byte for byte.
//!
//! The readers do what firmware does: they ask again, repeat their last ACK, and begin anew when nothing comes for long.

use super::reader::sized;
use super::serving::{Serving, pattern};
use cordwainer::tftp::packet::{FileName, Mode, Options, Packet, Request};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MACHINES: u32 = 1000;
const SEED: u64 = 20_261_121;
/// A reader says again where it is when nothing came for so long.
const IMPATIENCE: Duration = Duration::from_millis(900);
/// After so many times without an answer it begins anew.
const REPEATS: u32 = 12;
/// No machine may need longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// Random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// A socket behind the bad link.
struct Link {
    socket: UdpSocket,
    random: Random,
    /// Datagrams that others overtake, out and in.
    late_out: Option<(SocketAddrV4, Vec<u8>)>,
    came: VecDeque<(SocketAddrV4, Vec<u8>)>,
    late_in: Option<(SocketAddrV4, Vec<u8>)>,
    lost: u64,
}

enum Fate {
    Lost,
    Doubled,
    Late,
    Fine,
}

impl Link {
    fn fate(&mut self) -> Fate {
        match self.random.below(100) {
            0..5 => {
                self.lost += 1;
                Fate::Lost
            }
            5..7 => Fate::Doubled,
            7..9 => Fate::Late,
            _ => Fate::Fine,
        }
    }

    fn send(&mut self, to: SocketAddrV4, datagram: &[u8]) {
        let overtaken = self.late_out.take();
        // A port that is closed by now is the network's affair too.
        let transmit = |socket: &UdpSocket, to, datagram: &[u8]| drop(socket.send_to(datagram, to));
        match self.fate() {
            Fate::Lost => {}
            Fate::Doubled => {
                transmit(&self.socket, to, datagram);
                transmit(&self.socket, to, datagram);
            }
            Fate::Late => self.late_out = Some((to, datagram.to_vec())),
            Fate::Fine => transmit(&self.socket, to, datagram),
        }
        if let Some((to, datagram)) = overtaken {
            transmit(&self.socket, to, &datagram);
        }
    }

    /// The next datagram; none when nothing comes for [`IMPATIENCE`].
    fn receive(&mut self) -> Option<(SocketAddrV4, Vec<u8>)> {
        let mut buffer = [0; 2048];
        let deadline = Instant::now() + IMPATIENCE;
        loop {
            if let Some(came) = self.came.pop_front() {
                return Some(came);
            }
            if Instant::now() > deadline {
                return self.late_in.take();
            }
            let Ok((length, std::net::SocketAddr::V4(from))) = self.socket.recv_from(&mut buffer) else {
                return self.late_in.take();
            };
            let datagram = (from, buffer[..length].to_vec());
            let overtaken = self.late_in.take();
            match self.fate() {
                Fate::Lost => {}
                Fate::Doubled => self.came.extend([datagram.clone(), datagram]),
                Fate::Late => self.late_in = Some(datagram),
                Fate::Fine => self.came.push_back(datagram),
            }
            self.came.extend(overtaken);
        }
    }
}

/// Fetches `name`; gives its bytes, and how often it began.
fn fetch(link: &mut Link, server: SocketAddrV4, name: &str, options: Options) -> (Vec<u8>, u64) {
    let request = Packet::Read(Request {
        name: FileName::new(name.as_bytes()).unwrap(),
        mode: Mode::Octet,
        options,
    })
    .to_bytes();
    let deadline = Instant::now() + DEADLINE;
    let mut begun = 0;
    'anew: loop {
        begun += 1;
        let (mut bytes, mut expected, mut in_window) = (Vec::new(), 1_u64, 0);
        let (mut blksize, mut window, mut tid) = (512, 1, None);
        let (mut repeats, mut gap_told) = (0, false);
        link.send(server, &request);
        loop {
            assert!(
                Instant::now() < deadline,
                "{name} {options:?}: block {expected} after {begun} tries"
            );
            let ack = |expected: u64| {
                let [.., high, low] = (expected - 1).to_be_bytes();
                Packet::Ack {
                    block: u16::from_be_bytes([high, low]),
                }
                .to_bytes()
            };
            let Some((from, datagram)) = link.receive() else {
                repeats += 1;
                if repeats > REPEATS {
                    continue 'anew;
                }
                in_window = 0;
                match tid {
                    Some(tid) => link.send(tid, &ack(expected)),
                    None => link.send(server, &request),
                }
                continue;
            };
            match Packet::decode(&datagram).unwrap() {
                // A second transfer, begun by an echo of the request, is not ours.
                _ if tid.is_some_and(|tid| tid != from) => continue,
                Packet::OptionsGranted(granted) if expected == 1 => {
                    tid = Some(from);
                    blksize = usize::try_from(granted.blksize.unwrap_or(512)).unwrap();
                    window = granted.windowsize.unwrap_or(1);
                    link.send(from, &ack(1));
                }
                Packet::Data { block, bytes: data } if u64::from(block) == expected => {
                    tid = Some(from);
                    bytes.extend_from_slice(data);
                    expected += 1;
                    in_window += 1;
                    repeats = 0;
                    gap_told = false;
                    let ends = data.len() < blksize;
                    if ends || in_window >= window {
                        in_window = 0;
                        link.send(from, &ack(expected));
                    }
                    if ends {
                        // The last ACK may be lost: whoever asks again hears it again.
                        while let Some((from, _)) = link.receive() {
                            link.send(from, &ack(expected));
                        }
                        return (bytes, begun);
                    }
                }
                Packet::Data { .. } if window == 1 || !gap_told => {
                    gap_told = true;
                    in_window = 0;
                    link.send(from, &ack(expected));
                }
                Packet::Data { .. } | Packet::OptionsGranted(_) => {}
                // Said to an ACK of a transfer that has ended for the server.
                Packet::Error { .. } => continue 'anew,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_thousand_transfers_through_bad_weather_arrive_whole() {
    // A socket for each reader, and a socket and a file for each transfer.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(16_384)), hard).unwrap();
    let file = pattern(24_000);
    let lengths = [1_usize, 511, 1468, 4096, 9000, 14_680, 20_000, 24_000];
    let names: Vec<String> = lengths.iter().map(|length| format!("f{length}")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .zip(lengths)
        .map(|(name, length)| (name.as_str(), &file[..length]))
        .collect();
    let server = Serving::start([0, 0, 0, 0], &files);
    let address = server.address_on_loopback();
    println!("seed {SEED}");
    let began = Instant::now();
    let (whole, lost, restarts) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let file = Arc::new(file);
    std::thread::scope(|scope| {
        for machine in 0..MACHINES {
            let (whole, lost, restarts, file, names) = (&whole, &lost, &restarts, &file, &names);
            std::thread::Builder::new()
                .stack_size(128 << 10)
                .spawn_scoped(scope, move || {
                    let socket = UdpSocket::bind((Ipv4Addr::from_bits(0x7f02_0001 + machine), 0)).unwrap();
                    socket.set_read_timeout(Some(IMPATIENCE)).unwrap();
                    let mut link = Link {
                        socket,
                        random: Random(SEED + u64::from(machine)),
                        late_out: None,
                        came: VecDeque::new(),
                        late_in: None,
                        lost: 0,
                    };
                    let which = usize::try_from(machine).unwrap();
                    let options = [
                        Options::default(),
                        sized(1468, 1),
                        sized(1468, 4),
                        sized(512, 8),
                        sized(1024, 64),
                    ][which % 5];
                    let (bytes, begun) = fetch(&mut link, address, &names[which % 8], options);
                    assert!(bytes == file[..lengths[which % 8]], "machine {machine}, {options:?}");
                    whole.fetch_add(1, Ordering::Relaxed);
                    lost.fetch_add(link.lost, Ordering::Relaxed);
                    restarts.fetch_add(begun - 1, Ordering::Relaxed);
                })
                .unwrap();
        }
    });
    println!(
        "{} transfers whole in {:?}; {} datagrams lost, {} transfers begun anew",
        whole.load(Ordering::Relaxed),
        began.elapsed(),
        lost.load(Ordering::Relaxed),
        restarts.load(Ordering::Relaxed)
    );
    assert_eq!(whole.load(Ordering::Relaxed), u64::from(MACHINES));
    assert!(lost.load(Ordering::Relaxed) > 200, "the weather was fine");
}
