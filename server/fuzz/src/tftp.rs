//! TFTP: whatever arrives at the port, and one transfer through every order of packets, pieces of the file and time.
//!
//! A model client checks each byte that leaves, and counts what leaves while nobody answers.

use super::input::Input;
use bytes::Bytes;
use cordwainer::tftp::netascii;
use cordwainer::tftp::open::{Arrival, Opening, arrive, open};
use cordwainer::tftp::packet::{ErrorCode, FileName, Mode, NAME_MAX, Options, Packet, Request};
use cordwainer::tftp::transfer::{End, Limits, SENDS, Transfer, UNPROVEN_SENDS, WINDOW_MAX};
use std::sync::OnceLock;
use std::time::Duration;

/// Steps of one input.
const STEPS: usize = 128;
/// How long a reader may repeat its last ACK and be sent the same again.
const STALL: Duration = Duration::from_secs(60);
/// The largest file: more than 65536 blocks of 8 bytes, so that their numbers begin anew.
const LARGEST: usize = 600_000;

/// Bytes that tell where they stand.
fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let mut bytes = vec![0; LARGEST];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let mixed = (at as u32).wrapping_mul(0x9e37_79b1);
            *byte = mixed.to_be_bytes()[0];
        }
        bytes
    })
}

/// How the file looks on the wire in netascii.
fn translated(size: usize) -> Bytes {
    netascii::encode(&file()[..size])
}

struct Site {
    transfer: Option<Transfer>,
    limits: Limits,
    now: Duration,
    out: Vec<u8>,
    /// Sends that this peer, in earlier transfers too, has not answered.
    unproven: u32,
    /// Bytes that left since the peer last answered.
    unanswered: usize,
    /// The largest packet of the transfers that this peer, unproven, began.
    largest: usize,
    /// Bytes of the stream that the peer acknowledged, before the last step.
    acknowledged: u64,
    /// When that last became more, or the transfer began.
    advanced: Duration,
    stream: Bytes,
}

/// The circumstances, then steps of one byte, with what they need.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mtu = [1500, 576, 68, 9000][usize::from(input.byte() & 3)];
    let size = (usize::from(input.word()) * usize::from(input.byte() & 15)).min(LARGEST);
    let mut site = Site {
        transfer: None,
        limits: Limits {
            mtu,
            size: size as u64,
            unproven: 0,
        },
        now: Duration::from_secs(3),
        out: Vec::new(),
        unproven: 0,
        unanswered: 0,
        largest: 0,
        acknowledged: 0,
        advanced: Duration::ZERO,
        stream: Bytes::new(),
    };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let step = input.byte();
        match step & 15 {
            0 => {
                let length = usize::from(input.word());
                site.arrive(input.take(length));
            }
            1 => {
                let length = usize::from(input.byte());
                let datagram = input.take(length);
                code_again(datagram);
                site.handle(datagram);
            }
            // The block that is expected next, and its neighbours.
            2..=8 => site.acknowledge(i64::from(step >> 4), 0),
            9 => site.acknowledge(i64::from(input.byte() as i8), i64::from(step >> 4)),
            10 => site.supply(step),
            11 => site.wait(Duration::from_millis(
                [1, 19, 200, 999, 1000, 3000, 8000, 60_000][usize::from(step >> 5)],
            )),
            12 => site.until_timeout(),
            13 => site.repeat(),
            14 => site.handle(&Packet::error(ErrorCode(u16::from(step >> 4)), "no")),
            _ if step & 0x10 != 0 => site.leave(Transfer::unreachable),
            _ => site.leave(Transfer::replace),
        }
        if step & 15 != 10 {
            // Disks are fast as a rule; what they are asked for late is a step of its own.
            if step & 0x80 == 0 {
                site.supply(0);
            }
            site.send();
        }
    }
    // Left alone, it ends.
    for _ in 0..64 {
        site.supply(0);
        site.send();
        if site.transfer.as_ref().is_none_or(|transfer| transfer.end().is_some()) {
            return;
        }
        site.until_timeout();
    }
    panic!("a transfer that nobody answers never ends");
}

/// A packet that is read can be written, and read again as the same.
fn code_again(datagram: &[u8]) {
    let Ok(packet) = Packet::decode(datagram) else { return };
    if let Packet::Read(request) = &packet {
        judge_name(&request.name);
    }
    let bytes = packet.to_bytes();
    match (&packet, Packet::decode(&bytes)) {
        (Packet::Write, again) => assert_eq!(again, Ok(Packet::Write)),
        // Its text is escaped once when it is read.
        (Packet::Error { code, message }, Ok(Packet::Error { code: again, .. })) => {
            assert!(*code == again && message.is_ascii() && message.len() <= 4 * 128);
        }
        (_, again) => assert_eq!(again.as_ref(), Ok(&packet)),
    }
}

fn judge_name(name: &FileName) {
    let bytes = name.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= NAME_MAX);
    assert!(!bytes.starts_with(b"/") && !bytes.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\'));
    for part in bytes.split(|byte| *byte == b'/') {
        assert!(!matches!(part, b"" | b"." | b".."), "{name} climbs");
    }
    assert_eq!(
        FileName::new(bytes).as_ref(),
        Ok(name),
        "a regular name is no longer regular"
    );
    assert!(name.to_string().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
}

/// A datagram at the well-known port, and the request that it is.
pub fn judge_arrival(datagram: &[u8]) -> Option<Request> {
    code_again(datagram);
    match arrive(datagram) {
        Arrival::Noise => None,
        Arrival::Error { code, message } => {
            let reply = Packet::error(code, message);
            assert!(reply.len() <= 64, "an error is no amplifier");
            assert!(
                !matches!(Packet::decode(datagram), Ok(Packet::Error { .. })),
                "an error is answered"
            );
            None
        }
        Arrival::Read(request) => Some(request),
    }
}

impl Site {
    /// Something at the well-known port.
    fn arrive(&mut self, datagram: &[u8]) {
        if let Some(request) = judge_arrival(datagram) {
            self.open(request);
        }
    }

    fn open(&mut self, request: Request) {
        match open(self.transfer.as_ref(), &request, self.now) {
            Opening::Start => {
                // Whoever comes after the end of a transfer comes as a new peer.
                (self.unproven, self.unanswered, self.largest) = (0, 0, 0);
                self.start(request);
            }
            Opening::Replace => {
                self.leave(Transfer::replace);
                self.start(request);
            }
            Opening::Repeat => self.repeat(),
            Opening::Ignore => {}
        }
    }

    fn start(&mut self, request: Request) {
        let size = self.limits.size as usize;
        if self.transfer.as_ref().is_some_and(Transfer::is_proven) {
            (self.unproven, self.unanswered, self.largest) = (0, 0, 0);
        }
        self.stream = match request.mode {
            Mode::Octet => Bytes::from_static(&file()[..size]),
            Mode::Netascii => translated(size),
        };
        self.limits.unproven = self.unproven;
        let asked = request.options;
        let transfer = Transfer::new(self.now, request, self.limits);
        let largest = u64::from(self.limits.mtu.saturating_sub(32).max(8)).max(512);
        assert!(u64::from(transfer.blksize()) <= largest && transfer.blksize() >= 8);
        assert!(asked.blksize.is_some() || transfer.blksize() == 512);
        assert!((1..=WINDOW_MAX).contains(&transfer.window()));
        // A grant, which repeats the options, or a window of blocks.
        let window = usize::from(transfer.window()) * (usize::from(transfer.blksize()) + 4);
        self.largest = self.largest.max(window).max(64);
        self.transfer = Some(transfer);
        self.acknowledged = 0;
        self.advanced = self.now;
    }

    fn repeat(&mut self) {
        if let Some(transfer) = &mut self.transfer {
            transfer.repeat_first_reply();
        }
    }

    fn leave(&mut self, how: fn(&mut Transfer)) {
        if let Some(transfer) = &mut self.transfer {
            how(transfer);
            assert!(transfer.end().is_some());
        }
        self.send();
    }

    fn handle(&mut self, datagram: &[u8]) {
        let Some(transfer) = &mut self.transfer else { return };
        let was = transfer.is_proven();
        // A reader that says its last ACK again is there, and lacks what left since; but not for ever.
        let last = (transfer.acknowledged() / u64::from(transfer.blksize())) as u16;
        let repeated = was
            && Packet::decode(datagram) == Ok(Packet::Ack { block: last })
            && self.now.saturating_sub(self.advanced) < STALL;
        transfer.handle(self.now, datagram);
        let more = transfer.acknowledged() > self.acknowledged || transfer.is_proven() != was;
        if more {
            self.advanced = self.now;
        }
        if more || repeated {
            self.unanswered = 0;
        }
        assert!(transfer.acknowledged() >= self.acknowledged, "an ACK takes an ACK back");
        self.acknowledged = transfer.acknowledged();
    }

    fn acknowledge(&mut self, ahead: i64, far: i64) {
        let Some(transfer) = &self.transfer else { return };
        let blksize = u64::from(transfer.blksize());
        let block = (transfer.acknowledged() / blksize) as i64 + ahead + far * 4096;
        self.handle(&Packet::Ack { block: block as u16 }.to_bytes());
    }

    fn supply(&mut self, how: u8) {
        let Some(transfer) = &mut self.transfer else { return };
        let Some(want) = transfer.wants() else { return };
        assert!(transfer.wants().is_none(), "the same piece is asked for twice");
        let from = want.offset as usize;
        assert!(
            want.length > 0 && from + want.length <= self.limits.size as usize,
            "a piece beyond the file"
        );
        assert!(
            want.length <= 64 * 1024 || want.length <= usize::from(WINDOW_MAX) * usize::from(transfer.blksize()),
            "a piece of {} bytes",
            want.length
        );
        let piece = &file()[from..from + want.length];
        transfer.supply(match how >> 4 {
            0..=12 => Ok(Bytes::from_static(piece)),
            13 => Ok(Bytes::from_static(&piece[..want.length / 2])),
            14 => Ok(Bytes::new()),
            _ => Err("the disk broke".to_owned()),
        });
        // Nobody asked for this one.
        transfer.supply(Ok(Bytes::from_static(b"unasked")));
    }

    fn wait(&mut self, span: Duration) {
        self.now += span;
    }

    fn until_timeout(&mut self) {
        if let Some(at) = self.transfer.as_ref().and_then(Transfer::poll_timeout) {
            self.now = self.now.max(at);
        }
    }

    /// Takes all that wants to leave, and judges it.
    fn send(&mut self) {
        for burst in 0.. {
            assert!(burst < 64, "it sends without end");
            let Some(transfer) = &mut self.transfer else { return };
            let Some(transmit) = transfer.poll_transmit(self.now, &mut self.out) else {
                assert!(self.out.is_empty());
                break;
            };
            assert!(!self.out.is_empty() && transmit.segment > 0);
            self.unanswered += self.out.len();
            let transfer = self.transfer.as_ref().unwrap();
            let out = self.out.as_slice();
            for datagram in out.chunks(transmit.segment) {
                // IP and UDP headers; RFC 1350's blocks of 512 go out whatever the path is.
                assert!(
                    datagram.len() + 28 <= usize::from(self.limits.mtu).max(544),
                    "no packet is larger than the path"
                );
                judge(datagram, transfer, &self.stream, &self.limits);
            }
            let sends = if transfer.is_proven() {
                SENDS + 2
            } else {
                UNPROVEN_SENDS
            };
            let most = self.largest * sends as usize;
            assert!(
                self.unanswered <= most + 64,
                "{} bytes left unanswered, at most {most}",
                self.unanswered
            );
            if !transfer.is_proven() {
                self.unproven = transfer.unanswered();
                assert!(
                    self.unproven <= UNPROVEN_SENDS.max(self.limits.unproven),
                    "{} sends",
                    self.unproven
                );
            }
        }
        if self.transfer.as_ref().is_some_and(Transfer::is_proven) {
            self.unproven = 0;
        }
        if let Some(End::Sent) = self.transfer.as_ref().and_then(Transfer::end) {
            assert_eq!(self.acknowledged, self.stream.len() as u64, "sent, and not all of it");
        }
    }
}

/// A datagram of ours says the truth.
fn judge(datagram: &[u8], transfer: &Transfer, stream: &Bytes, limits: &Limits) {
    let asked = transfer.request().options;
    match Packet::decode(datagram).expect("the server sends packets only") {
        Packet::OptionsGranted(granted) => {
            assert_ne!(granted, Options::default(), "nothing is granted");
            for (granted, asked) in [
                (granted.blksize, asked.blksize),
                (granted.windowsize, asked.windowsize),
                (granted.timeout, asked.timeout),
            ] {
                assert!(granted.is_none_or(|granted| asked.is_some_and(|asked| granted <= asked)));
            }
            assert!(
                granted
                    .tsize
                    .is_none_or(|size| asked.tsize.is_some() && size == limits.size)
            );
        }
        Packet::Data { block, bytes } => {
            let blksize = u64::from(transfer.blksize());
            let base = transfer.acknowledged() / blksize;
            // The window's blocks are base + 1 and those after it; numbers are what is left of them in 16 bits.
            let ahead = u64::from(block.wrapping_sub(base as u16));
            assert!(
                (1..=u64::from(transfer.window())).contains(&ahead),
                "block {ahead} of the window"
            );
            let from = ((base + ahead - 1) * blksize) as usize;
            let end = (from + blksize as usize).min(stream.len());
            assert!(from <= stream.len(), "a block beyond the end");
            assert_eq!(bytes, &stream[from..end], "block {} holds other bytes", base + ahead);
        }
        Packet::Error { .. } => assert!(matches!(transfer.end(), Some(End::Unreadable(_)))),
        other => panic!("the server sends {other:?}"),
    }
}
