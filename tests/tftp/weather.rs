//! Real peers behind a link that loses, doubles and reorders datagrams: whatever arrives must be whole.

use super::peers::fetched;
use super::reader::{Reader, request, sized};
use super::serving::{Serving, pattern};
use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A relay in user space for one reader at a time. Of a hundred datagrams it loses two, doubles two, and lets two be overtaken.
struct Relay {
    address: SocketAddrV4,
    stop: Arc<AtomicBool>,
    pub lost: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    fn start(server: SocketAddrV4, seed: u64) -> Self {
        let inside = UdpSocket::bind("127.0.0.1:0").unwrap();
        let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
        inside.set_nonblocking(true).unwrap();
        outside.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let SocketAddr::V4(address) = inside.local_addr().unwrap() else {
            unreachable!()
        };
        let (stop, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, losing) = (Arc::clone(&stop), Arc::clone(&lost));
        let thread = std::thread::spawn(move || {
            let mut random = seed;
            let mut late: VecDeque<(bool, Vec<u8>)> = VecDeque::new();
            let (mut reader, mut tid) = (None, SocketAddr::V4(server));
            let mut buffer = [0; 2048];
            while !stopping.load(Ordering::Relaxed) {
                let (to_server, datagram) = if let Ok((length, from)) = inside.recv_from(&mut buffer) {
                    reader = Some(from);
                    // A request starts a new transfer.
                    if buffer[1] == 1 {
                        tid = SocketAddr::V4(server);
                    }
                    (true, buffer[..length].to_vec())
                } else if let Ok((length, from)) = outside.recv_from(&mut buffer) {
                    tid = from;
                    (false, buffer[..length].to_vec())
                } else {
                    match late.pop_front() {
                        Some(datagram) => datagram,
                        None => continue,
                    }
                };
                let send = |datagram: &[u8]| {
                    let _ = match (to_server, reader) {
                        (true, _) => outside.send_to(datagram, tid),
                        (false, Some(reader)) => inside.send_to(datagram, reader),
                        (false, None) => Ok(0),
                    };
                };
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                match (random >> 33) % 100 {
                    0 | 1 => {
                        losing.fetch_add(1, Ordering::Relaxed);
                    }
                    2 | 3 => {
                        send(&datagram);
                        send(&datagram);
                    }
                    4 | 5 => late.push_back((to_server, datagram)),
                    _ => send(&datagram),
                }
            }
        });
        Self {
            address,
            stop,
            lost,
            thread: Some(thread),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn real_peers_get_it_whole_through_a_bad_link() {
    let file = pattern(80_000);
    let server = Serving::start([127, 0, 0, 1], &[("snponly.efi", &file)]);
    let relay = Relay::start(server.address, 1);
    let port = relay.address.port().to_string();
    let url = format!("tftp://{}/snponly.efi", relay.address);
    fetched("curl", &["-sS", "-o", "out", "--tftp-blksize", "1428", &url], &file);
    let window = [
        "--option",
        "blksize 1428",
        "--option",
        "windowsize 8",
        "-g",
        "-r",
        "snponly.efi",
        "-l",
        "out",
        "127.0.0.1",
        &port,
    ];
    fetched("atftp", &window, &file);
    let busybox = [
        "tftp",
        "-g",
        "-b",
        "1428",
        "-r",
        "snponly.efi",
        "-l",
        "out",
        "127.0.0.1",
        &port,
    ];
    fetched("busybox", &busybox, &file);
    assert!(relay.lost.load(Ordering::Relaxed) > 0, "the weather was fine");
}

/// Sixty-four machines at once, windows of eight, through one server.
#[test]
fn a_rack_that_is_switched_on_is_served() {
    let file = Arc::new(pattern(1_000_000));
    let server = Serving::start([0, 0, 0, 0], &[("undionly.kpxe", &file)]);
    let address = server.address_on_loopback();
    let machines: Vec<_> = (1..=64)
        .map(|machine| {
            let file = Arc::clone(&file);
            std::thread::spawn(move || {
                let mut reader = Reader::at([127, 0, 1, machine]);
                assert!(reader.get(address, &request("undionly.kpxe", sized(1468, 8))).bytes == *file);
            })
        })
        .collect();
    for machine in machines {
        machine.join().unwrap();
    }
    let codes = server.heard.codes();
    assert!(!codes.contains(&"TFTP_FAILED"), "{codes:?}");
}
