//! DISCOVER, OFFER, REQUEST, ACK at a fixed rate of newcomers, from the place of a relay: every machine is new, and none asks twice.

use super::{Arguments, quantile};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// A packet of machine `number` of this run.
fn packet(message: u8, run: u8, number: u32, relay: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0_u8; 240];
    bytes[..4].copy_from_slice(&[1, 1, 6, 1]);
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    bytes[24..28].copy_from_slice(&relay.octets());
    bytes[28] = 2;
    bytes[29] = run;
    bytes[30..34].copy_from_slice(&number.to_be_bytes());
    bytes[236..240].copy_from_slice(&COOKIE);
    bytes.extend([53, 1, message]);
    bytes.extend(options);
    bytes.extend([55, 4, 1, 3, 6, 51, 255]);
    bytes
}

/// The value of an option.
pub fn option(bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = bytes.get(240..)?;
    loop {
        match *rest {
            [0, ..] => rest = &rest[1..],
            [code, length, ref tail @ ..] if code != 255 => {
                let value = tail.get(..usize::from(length))?;
                if code == wanted {
                    return Some(value);
                }
                rest = &tail[usize::from(length)..];
            }
            _ => return None,
        }
    }
}

/// Prints `ACKs per second, p50 ms, p99 ms, offers per second, really offered per second`.
pub fn run(arguments: &Arguments) {
    let server: SocketAddrV4 = arguments.get("server", "127.0.0.1:67");
    let relay: SocketAddrV4 = arguments.get("relay", "127.0.0.1:67");
    let (rate, seconds): (u64, u64) = (arguments.get("rate", "1000"), arguments.get("seconds", "5"));
    let run: u8 = arguments.get("run", "0");
    let total = rate * seconds;
    let socket = Arc::new(UdpSocket::bind(relay).unwrap());
    socket2::SockRef::from(&*socket).set_recv_buffer_size(8 << 20).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let begun = Instant::now();
    let sent: Arc<Vec<AtomicU64>> = Arc::new((0..total).map(|_| AtomicU64::new(0)).collect());
    let offers = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let took: Arc<Mutex<Vec<f64>>> = Arc::default();
    let ears = {
        let (socket, sent, offers, stop, took) =
            (socket.clone(), sent.clone(), offers.clone(), stop.clone(), took.clone());
        std::thread::spawn(move || {
            let mut bytes = [0_u8; 2048];
            let mut times = Vec::with_capacity(sent.len());
            while !stop.load(Ordering::Relaxed) {
                let Ok(length) = socket.recv(&mut bytes) else { continue };
                let bytes = &bytes[..length];
                if length < 240 || bytes[0] != 2 {
                    continue;
                }
                let number = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
                match option(bytes, 53) {
                    Some([2]) => {
                        offers.fetch_add(1, Ordering::Relaxed);
                        let mut chosen = vec![50, 4];
                        chosen.extend(&bytes[16..20]);
                        chosen.extend([54, 4]);
                        chosen.extend(option(bytes, 54).unwrap());
                        let request = packet(3, run, number, *relay.ip(), &chosen);
                        drop(socket.send_to(&request, server));
                    }
                    Some([5]) => {
                        let began = sent[number as usize].swap(0, Ordering::Relaxed);
                        if began != 0 {
                            times.push((begun.elapsed().as_nanos() as u64 - began) as f64 / 1e6);
                        }
                    }
                    _ => {}
                }
            }
            *took.lock().unwrap() = times;
        })
    };
    for number in 0..total {
        let due = Duration::from_nanos(number * 1_000_000_000 / rate);
        // Sleeping in short pieces: packets of a millisecond leave together, which is how they come from a switch.
        while let Some(early) = due.checked_sub(begun.elapsed()) {
            std::thread::sleep(early.max(Duration::from_micros(200)));
        }
        sent[number as usize].store(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        drop(socket.send_to(&packet(1, run, number as u32, *relay.ip(), &[]), server));
    }
    let offered = total as f64 / begun.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    ears.join().unwrap();
    let mut times = took.lock().unwrap().clone();
    times.sort_by(f64::total_cmp);
    let per_second = |count: f64| count / seconds as f64;
    println!(
        "{:.0} {:.2} {:.2} {:.0} {offered:.0}",
        per_second(times.len() as f64),
        quantile(&times, 0.5),
        quantile(&times, 0.99),
        per_second(offers.load(Ordering::Relaxed) as f64),
    );
}

/// The answerer: an OFFER or ACK of an address made from the number, and nothing remembered.
pub fn answer(arguments: &Arguments) {
    let listen: SocketAddrV4 = arguments.get("listen", "127.0.0.1:67");
    let socket = UdpSocket::bind(listen).unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20).unwrap();
    println!("serving");
    let mut bytes = [0_u8; 2048];
    loop {
        let (length, peer) = socket.recv_from(&mut bytes).unwrap();
        let message = if option(&bytes[..length], 53) == Some(&[1]) {
            2
        } else {
            5
        };
        let mut reply = bytes[..240].to_vec();
        reply[0] = 2;
        reply[16..20].copy_from_slice(&[10, bytes[31], bytes[32], bytes[33]]);
        reply.extend([53, 1, message, 54, 4]);
        reply.extend(listen.ip().octets());
        reply.push(255);
        reply.resize(300, 0);
        drop(socket.send_to(&reply, peer));
    }
}
