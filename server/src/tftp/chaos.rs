//! For the tests: a reader, a network that loses, doubles and reorders, and a clock, all made of numbers and one seed.
#![allow(
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "tests stop at the first surprise"
)]

use super::packet::{Packet, Request};
use super::transfer::{End, Limits, Transfer};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// Random numbers from a seed (splitmix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`; 0 when that is 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }

    /// True in so many of a hundred.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// What the network does to datagrams, each in so many of a hundred, both ways.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    pub(super) loss: u64,
    pub(super) double: u64,
    pub(super) late: u64,
    /// Of the reader's datagrams only, on top of `double`.
    pub(super) double_acks: u64,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) end: Option<End>,
    pub(super) received: Vec<u8>,
    pub(super) complete: bool,
    /// Data blocks that the server sent.
    pub(super) blocks_sent: u64,
    pub(super) took: Duration,
    pub(super) most_held: u64,
}

enum Happens {
    ToServer(Vec<u8>),
    ToReader(Vec<u8>),
    Supplied(Bytes),
    ReaderWaited(u64),
}

/// A reader after RFC 1350 and RFC 7440 that acknowledges doubles again, as plain implementations do.
struct Reader {
    blksize: usize,
    window: u64,
    received: Vec<u8>,
    expected: u64,
    in_window: u64,
    gap_told: bool,
    complete: bool,
    last_ack: Option<u16>,
    /// Counts what came in, so that an old alarm is told from the current one.
    moves: u64,
}

impl Reader {
    fn ack(&mut self, out: &mut Vec<Vec<u8>>) {
        let block = (self.expected - 1) as u16;
        self.in_window = 0;
        self.last_ack = Some(block);
        out.push(Packet::Ack { block }.to_bytes());
    }

    fn hear(&mut self, asked: &Request, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        match Packet::decode(datagram).expect("the server sends packets only") {
            Packet::OptionsGranted(granted) => {
                let ask = asked.options;
                assert!(!granted.is_empty());
                for (granted, asked) in [
                    (granted.blksize, ask.blksize),
                    (granted.windowsize, ask.windowsize),
                    (granted.timeout, ask.timeout),
                ] {
                    if let Some(granted) = granted {
                        assert!(granted <= asked.expect("only what was asked for is granted"));
                    }
                }
                assert!(granted.tsize.is_none() || ask.tsize.is_some());
                if self.expected == 1 {
                    self.blksize = granted.blksize.unwrap_or(512) as usize;
                    self.window = granted.windowsize.unwrap_or(1);
                    self.moves += 1;
                    self.ack(&mut out);
                }
            }
            Packet::Data { block, bytes } => {
                assert!(bytes.len() <= self.blksize);
                if block == self.expected as u16 && !self.complete {
                    self.received.extend_from_slice(bytes);
                    self.expected += 1;
                    self.in_window += 1;
                    self.gap_told = false;
                    self.moves += 1;
                    self.complete = bytes.len() < self.blksize;
                    if self.complete || self.in_window >= self.window {
                        self.ack(&mut out);
                    }
                } else if self.window == 1 || self.complete || !self.gap_told {
                    self.gap_told = true;
                    self.ack(&mut out);
                }
            }
            Packet::Error { code, message } => panic!("error {} {message}", code.0),
            other => panic!("{other:?}"),
        }
        out
    }
}

struct Sky {
    random: Random,
    weather: Weather,
    queue: BTreeMap<(Duration, u64), Happens>,
    count: u64,
}

impl Sky {
    fn at(&mut self, when: Duration, what: Happens) {
        self.count += 1;
        self.queue.insert((when, self.count), what);
    }

    fn fly(&mut self, now: Duration, datagram: &[u8], to_server: bool) {
        let double = self.weather.double + if to_server { self.weather.double_acks } else { 0 };
        let copies = if self.random.chance(self.weather.loss) {
            0
        } else if self.random.chance(double) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let mut delay = Duration::from_micros(200);
            if self.random.chance(self.weather.late) {
                delay += Duration::from_micros(self.random.below(2000));
            }
            let what = if to_server {
                Happens::ToServer(datagram.to_vec())
            } else {
                Happens::ToReader(datagram.to_vec())
            };
            self.at(now + delay, what);
        }
    }
}

/// Transfers `file` through `weather`.
pub(super) fn run(seed: u64, file: &[u8], request: &Request, mtu: u16, weather: Weather) -> Outcome {
    let limits = Limits {
        mtu,
        size: file.len() as u64,
        unproven: 0,
    };
    let mut sky = Sky {
        random: Random::new(seed),
        weather,
        queue: BTreeMap::new(),
        count: 0,
    };
    let mut now = Duration::from_secs(3);
    let mut transfer = Transfer::new(now, request.clone(), limits);
    let mut reader = Reader {
        blksize: 512,
        window: 1,
        received: Vec::new(),
        expected: 1,
        in_window: 0,
        gap_told: false,
        complete: false,
        last_ack: None,
        moves: 0,
    };
    let (mut blocks_sent, mut most_held) = (0, 0);
    let began = now;
    let mut out = Vec::new();
    loop {
        if let Some(want) = transfer.wants() {
            let from = want.offset as usize;
            let piece = Bytes::copy_from_slice(&file[from..from + want.length]);
            let delay = Duration::from_micros(sky.random.below(500));
            sky.at(now + delay, Happens::Supplied(piece));
        }
        while let Some(transmit) = transfer.poll_transmit(now, &mut out) {
            assert!(
                transmit.segment + 28 <= usize::from(mtu).max(544),
                "no packet is larger than the path"
            );
            for datagram in out.chunks(transmit.segment) {
                blocks_sent += u64::from(datagram[1] == 3);
                sky.fly(now, datagram, false);
            }
        }
        let read_ahead = (transfer.read_so_far()).saturating_sub(transfer.acknowledged());
        most_held = most_held.max(read_ahead);
        if transfer.end().is_some() {
            break;
        }
        let next = sky.queue.keys().next().map(|(at, _)| *at);
        let deadline = transfer.poll_timeout();
        match (next, deadline) {
            (None, None) => panic!("seed {seed}: nothing will ever happen"),
            (Some(at), Some(deadline)) if deadline < at => now = deadline,
            (None, Some(deadline)) => now = deadline,
            (Some(at), _) => {
                now = at;
                let ((_, _), what) = sky.queue.pop_first().unwrap();
                let moves = reader.moves;
                match what {
                    Happens::ToServer(datagram) => transfer.handle(now, &datagram),
                    Happens::Supplied(piece) => transfer.supply(Ok(piece)),
                    Happens::ToReader(datagram) => {
                        for ack in reader.hear(request, &datagram) {
                            sky.fly(now, &ack, true);
                        }
                    }
                    Happens::ReaderWaited(when) if when == reader.moves && !reader.complete => {
                        if let Some(block) = reader.last_ack {
                            let ack = Packet::Ack { block }.to_bytes();
                            sky.fly(now, &ack, true);
                        }
                        sky.at(now + Duration::from_millis(1300), Happens::ReaderWaited(when));
                    }
                    Happens::ReaderWaited(_) => {}
                }
                if moves != reader.moves && !reader.complete {
                    sky.at(now + Duration::from_millis(1300), Happens::ReaderWaited(reader.moves));
                }
            }
        }
        assert!(now - began < Duration::from_secs(3600), "seed {seed}: it never ends");
    }
    Outcome {
        end: transfer.end().cloned(),
        received: reader.received,
        complete: reader.complete,
        blocks_sent,
        took: now - began,
        most_held,
    }
}
