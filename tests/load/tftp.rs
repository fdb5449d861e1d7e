//! TFTP readers: each client fetches one file again and again for a while; the sum of their bytes is the figure.

use super::Arguments;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use std::io::{ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static BYTES: AtomicU64 = AtomicU64::new(0);

/// Prints `MB/s`. Clients have addresses from `--from` on, one each. With `--poll true` they look for packets without ever sleeping, as
/// firmware does, which has nothing else to do: then no core has to be woken for each window.
pub fn run(arguments: &Arguments) {
    let server: SocketAddrV4 = arguments.get("server", "127.0.0.1:69");
    let first: Ipv4Addr = arguments.get("from", "127.0.0.1");
    let clients: u32 = arguments.get("clients", "1");
    let seconds: f64 = arguments.get("seconds", "2");
    let file: String = arguments.get("file", "undionly.kpxe");
    let (window, blksize): (u16, usize) = (arguments.get("window", "1"), arguments.get("blksize", "1468"));
    let poll: bool = arguments.get("poll", "false");
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let readers: Vec<_> = (0..clients)
        .map(|number| {
            let (local, file) = (Ipv4Addr::from_bits(first.to_bits() + number), file.clone());
            std::thread::spawn(move || {
                while Instant::now() < end {
                    fetch(server, local, &file, (window, blksize, poll), end);
                }
            })
        })
        .collect();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    println!(
        "{:.1}",
        BYTES.load(Ordering::Relaxed) as f64 / 1e6 / begun.elapsed().as_secs_f64()
    );
}

/// Fetches the file once, or until `end`.
fn fetch(server: SocketAddrV4, local: Ipv4Addr, file: &str, (window, blksize, poll): (u16, usize, bool), end: Instant) {
    let socket = UdpSocket::bind((local, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut request = vec![0, 1];
    let (block, blocks) = (blksize.to_string(), window.to_string());
    let mut words = vec![file, "octet"];
    // Without options the oldest form of the protocol is measured, as shim's loader speaks it.
    if blksize != 512 {
        words.extend(["blksize", &block]);
    }
    if window != 1 {
        words.extend(["windowsize", &blocks]);
    }
    for word in words {
        request.extend(word.as_bytes());
        request.push(0);
    }
    let mut packet = vec![0_u8; 65_536];
    let (first, peer) = loop {
        socket.send_to(&request, server).unwrap();
        match socket.recv_from(&mut packet) {
            Ok(found) => break found,
            Err(_) if Instant::now() < end => {}
            Err(_) => return,
        }
    };
    socket.connect(peer).unwrap();
    socket.set_nonblocking(poll).unwrap();
    let (mut length, mut next, mut in_window) = (first, 1_u16, 0_u16);
    // A server that does not know windowsize leaves it out of its OACK.
    let granted = packet[1] == 6 && packet[..first].windows(10).any(|word| word == b"windowsize");
    let window = if granted { window } else { 1 };
    let mut count = 0_u64;
    let acknowledge = |block: u16| drop(socket.send(&[0, 4, (block >> 8) as u8, block as u8]));
    loop {
        match (packet[1], u16::from_be_bytes([packet[2], packet[3]])) {
            (6, _) => acknowledge(0),
            (3, block) if block == next => {
                let payload = length - 4;
                BYTES.fetch_add(payload as u64, Ordering::Relaxed);
                count += 1;
                (next, in_window) = (next.wrapping_add(1), in_window + 1);
                let last = payload < blksize;
                if in_window >= window || last {
                    acknowledge(block);
                    in_window = 0;
                }
                if last {
                    return;
                }
                if count.is_multiple_of(64) && Instant::now() >= end {
                    drop(socket.send(b"\0\x05\0\0enough\0"));
                    return;
                }
            }
            // A gap: what came in order is acknowledged, and the rest of the burst is let pass.
            (3, block) if block.wrapping_sub(next) < window => {
                acknowledge(next.wrapping_sub(1));
                in_window = 0;
            }
            (5, _) => panic!("{}", String::from_utf8_lossy(&packet[4..length])),
            _ => {}
        }
        length = match hear(&socket, &mut packet, poll) {
            Ok(length) => length,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) && Instant::now() < end =>
            {
                acknowledge(next.wrapping_sub(1));
                in_window = 0;
                packet[1] = 0;
                continue;
            }
            Err(_) => return,
        };
    }
}

/// The next packet, or after half a second the news that there is none.
fn hear(socket: &UdpSocket, packet: &mut [u8], poll: bool) -> std::io::Result<usize> {
    let mut since = None;
    loop {
        match socket.recv(packet) {
            Err(error) if poll && error.kind() == ErrorKind::WouldBlock => {
                let since = *since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_millis(500) {
                    return Err(error);
                }
                // The server may be on this core.
                std::thread::yield_now();
            }
            heard => return heard,
        }
    }
}

/// The answerer: blocks from one buffer, as fast as the socket takes them, with segmentation offload.
pub fn answer(arguments: &Arguments) {
    let listen: SocketAddrV4 = arguments.get("listen", "127.0.0.1:6970");
    let socket = UdpSocket::bind(listen).unwrap();
    println!("serving");
    let mut request = [0_u8; 2048];
    loop {
        let (length, peer) = socket.recv_from(&mut request).unwrap();
        let words: Vec<String> = request[2..length]
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let option = |name: &str| {
            words
                .iter()
                .position(|word| word == name)
                .map(|at| words[at + 1].clone())
        };
        let blksize: usize = option("blksize").map_or(512, |text| text.parse().unwrap());
        let window: usize = option("windowsize").map_or(1, |text| text.parse().unwrap());
        let oack = words.len() > 3;
        let local = *listen.ip();
        let SocketAddr::V4(peer) = peer else { continue };
        std::thread::spawn(move || blocks(local, peer, blksize, window, oack));
    }
}

fn blocks(local: Ipv4Addr, peer: SocketAddrV4, blksize: usize, window: usize, oack: bool) {
    let socket = UdpSocket::bind((local, 0)).unwrap();
    socket.connect(peer).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut heard = [0_u8; 512];
    let mut next = 1_u16;
    if oack {
        let text = format!("\0\x06blksize\0{blksize}\0windowsize\0{window}\0");
        socket.send(text.as_bytes()).unwrap();
        if socket.recv(&mut heard).is_err() {
            return;
        }
    }
    let mut burst = vec![0_u8; (blksize + 4) * window];
    loop {
        for (place, packet) in burst.chunks_mut(blksize + 4).enumerate() {
            let block = next.wrapping_add(place as u16).to_be_bytes();
            packet[..4].copy_from_slice(&[0, 3, block[0], block[1]]);
        }
        let most = 60_000 / (blksize + 4) * (blksize + 4);
        for part in burst.chunks(most) {
            let size = (blksize + 4) as u16;
            let sent = sendmsg::<SockaddrIn>(
                socket.as_raw_fd(),
                &[IoSlice::new(part)],
                &[ControlMessage::UdpGsoSegments(&size)],
                MsgFlags::empty(),
                None,
            );
            if sent.is_err() {
                return;
            }
        }
        match socket.recv(&mut heard) {
            Ok(4) if heard[1] == 4 => next = u16::from_be_bytes([heard[2], heard[3]]).wrapping_add(1),
            _ => return,
        }
    }
}
