//! One transfer as a state machine: datagrams and bytes of the file go in, datagrams and deadlines come out.
//!
//! Pure: it has no socket, no clock and no file. Times are durations since any fixed point, the same for all calls. The bytes of the
//! file are supplied by the caller piece by piece ([`Transfer::wants`], [`Transfer::supply`]), so that a transfer holds a few windows
//! and never a file. It never sends again because of a repeated ACK (the Sorcerer's Apprentice, RFC 1123 section 4.2.3.1), save for the
//! one case that RFC 7440 section 4 needs, and never sends more than [`UNPROVEN_SENDS`] packets to an address that has not answered.

use super::netascii;
use super::packet::{ErrorCode, Mode, Options, Packet, Request, put_data_head};
use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// The first wait for an answer; it doubles each time up to [`LONGEST_WAIT`].
pub const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait for an answer.
pub const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// How often a packet or window is sent before the transfer is given up.
pub const SENDS: u32 = 6;
/// The same while the peer has not answered at all: its address may be forged, and a reflector sends at most this many blocks.
pub const UNPROVEN_SENDS: u32 = 5;
/// A peer that only repeats its last ACK lives, and lacks what we sent: it is given more than [`SENDS`], but not for longer than this.
const STALL: Duration = Duration::from_secs(60);
/// The largest window that is granted (RFC 7440 allows 65535), in blocks.
pub const WINDOW_MAX: u16 = 64;
/// The shortest wait for a sign that a doubtful ACK told of a loss.
const SHORTEST_DOUBT: Duration = Duration::from_millis(20);
/// Without an option, a block has this many bytes (RFC 1350).
const BLKSIZE: u16 = 512;
/// IPv4 header without options, UDP header, TFTP header.
const HEADERS: u16 = 32;
/// Files are read in pieces of about this many bytes, or a window if that is more. A transfer holds two, and one that is being read.
const PIECE: usize = 32 * 1024;
/// At most this many bytes leave in one burst between two looks at the socket; what UDP GSO takes at once.
const BURST: usize = 60_000;

/// What the driver knows that bounds a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The path's MTU in bytes: no block makes a larger IPv4 packet.
    pub mtu: u16,
    /// Bytes of the file.
    pub size: u64,
    /// Sends to this peer, in earlier transfers, that it has not answered.
    pub unproven: u32,
}

/// A piece of the file that the transfer needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Where it starts in the file.
    pub offset: u64,
    /// How many bytes; never past the file's size.
    pub length: usize,
}

/// Datagrams to send, one behind the other in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// All have this many bytes, the last at most this many (the shape that UDP GSO takes).
    pub segment: usize,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The last block was acknowledged.
    Sent,
    /// The peer asked for the size, learned it and went away, as firmware does before it transfers.
    Probed,
    /// The peer ended it.
    Aborted {
        /// Its code.
        code: ErrorCode,
        /// Its text, escaped.
        message: String,
    },
    /// No answer came in all the tries.
    Silent {
        /// What was sent last.
        after: Reached,
    },
    /// The peer's port is closed: it went away without a word.
    Gone {
        /// What was sent last.
        after: Reached,
    },
    /// The file could not be read to its end.
    Unreadable(String),
    /// The same peer asked for something else.
    Replaced,
}

/// How far a transfer had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Nothing of ours was ever answered.
    FirstReply,
    /// Some blocks were acknowledged.
    Block(u64),
    /// All was sent, and all but the last window acknowledged.
    LastBlock,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstReply => f.write_str("our first packet"),
            Self::Block(block) => write!(f, "block {block}"),
            Self::LastBlock => f.write_str("the last block"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent => f.write_str("sent"),
            Self::Probed => f.write_str("size asked"),
            Self::Aborted { code, message } => write!(f, "the peer ended it with error {} `{message}`", code.0),
            Self::Silent { after } => write!(f, "no answer to {after}"),
            Self::Gone { after } => write!(f, "the peer closed its port before it answered {after}"),
            Self::Unreadable(why) => write!(f, "the file could not be read: {why}"),
            Self::Replaced => f.write_str("the peer asked for something else"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// The options granted wait for ACK 0.
    Granting,
    /// Blocks are sent.
    Sending,
    Ended(End),
}

/// One file on its way to one peer.
#[derive(Debug)]
pub struct Transfer {
    request: Request,
    granted: Options,
    blksize: u16,
    window: u16,
    size: u64,
    phase: Phase,
    held: Held,
    /// Bytes of the file that were asked of the caller so far.
    read: u64,
    reading: Option<Want>,
    /// The first block that is not acknowledged; blocks count from 1 and do not roll over here.
    base: u64,
    /// The next block to send.
    next: u64,
    /// One more than the highest block ever sent: what an ACK may name.
    high: u64,
    first_reply_due: bool,
    proven: bool,
    sends: u32,
    wait: Duration,
    deadline: Option<Duration>,
    /// An ACK came that may tell of a loss or be the echo of blocks that were on the way twice. Nobody can tell, so the window is
    /// sent again when nothing better comes until then.
    doubt: Option<Duration>,
    /// When the window was opened, for the round trip.
    opened: Duration,
    /// Smoothed time from the opening of a window to its ACK.
    round_trip: Duration,
    heard: Duration,
    /// When it last acknowledged something new, or the transfer began.
    advanced: Duration,
    /// Part of the window was sent more than once, so a repeated ACK says nothing of a loss.
    again: bool,
    /// The same of the window before.
    again_before: bool,
    last_words: Option<Vec<u8>>,
}

impl Transfer {
    /// Begins to answer `request`. The first packet comes from [`Self::poll_transmit`].
    #[must_use]
    pub fn new(now: Duration, request: Request, limits: Limits) -> Self {
        let largest = u64::from(limits.mtu.saturating_sub(HEADERS).max(8));
        let asked = &request.options;
        let granted = Options {
            blksize: asked.blksize.filter(|n| *n >= 8).map(|n| n.min(largest)),
            // A value may only be confirmed as it is (RFC 2349), and then binds us. curl asks for 6 s and U-Boot for 5, which would
            // make every lost block that dear; passed over, their own timers still run as they like.
            timeout: asked.timeout.filter(|n| *n == FIRST_WAIT.as_secs()),
            // Of a translated file nobody knows the length before it is sent.
            tsize: asked.tsize.filter(|_| request.mode == Mode::Octet).map(|_| limits.size),
            windowsize: asked
                .windowsize
                .filter(|n| *n >= 1)
                .map(|n| n.min(u64::from(WINDOW_MAX))),
        };
        let number = |granted: Option<u64>, otherwise| granted.and_then(|n| u16::try_from(n).ok()).unwrap_or(otherwise);
        Self {
            blksize: number(granted.blksize, BLKSIZE),
            window: number(granted.windowsize, 1),
            size: limits.size,
            phase: if granted.is_empty() {
                Phase::Sending
            } else {
                Phase::Granting
            },
            granted,
            request,
            held: Held::default(),
            read: 0,
            reading: None,
            base: 1,
            next: 1,
            high: 1,
            first_reply_due: true,
            proven: false,
            sends: limits.unproven,
            wait: FIRST_WAIT,
            deadline: None,
            doubt: None,
            opened: now,
            round_trip: Duration::ZERO,
            heard: now,
            advanced: now,
            again: false,
            again_before: false,
            last_words: None,
        }
    }

    /// What was asked for.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// Bytes in a block.
    #[must_use]
    pub const fn blksize(&self) -> u16 {
        self.blksize
    }

    /// Blocks in a window.
    #[must_use]
    pub const fn window(&self) -> u16 {
        self.window
    }

    /// How it ended; none while it runs. After the end, [`Self::poll_transmit`] may still have last words.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        match &self.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Bytes that the peer has acknowledged, as they were on the wire.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        let bytes = self.start_of(self.base);
        self.total().map_or(bytes, |total| bytes.min(total))
    }

    /// Bytes of the file that the transfer has taken in.
    #[cfg(test)]
    pub(super) const fn read_so_far(&self) -> u64 {
        self.read
    }

    /// True once the peer has answered: it is where it says it is.
    #[must_use]
    pub const fn is_proven(&self) -> bool {
        self.proven
    }

    /// Sends that the peer has not answered.
    #[must_use]
    pub const fn unanswered(&self) -> u32 {
        self.sends
    }

    /// When the peer was last heard, or the transfer began.
    #[must_use]
    pub const fn heard(&self) -> Duration {
        self.heard
    }

    /// Takes a datagram that came from the peer. What is not for a reader's transfer is ignored.
    pub fn handle(&mut self, now: Duration, datagram: &[u8]) {
        if self.end().is_some() {
            return;
        }
        match Packet::decode(datagram) {
            Ok(Packet::Ack { block }) => self.acknowledge(now, block),
            Ok(Packet::Error { code, message }) => {
                self.proven = true;
                let probe =
                    self.is_probe() || (code == ErrorCode::OPTIONS && self.granted.tsize.is_some() && self.base == 1);
                self.finish(if probe {
                    End::Probed
                } else {
                    End::Aborted { code, message }
                });
            }
            _ => {}
        }
    }

    /// The peer's request came a second time: its first reply is lost, and goes out once more. Counts as a send.
    pub fn repeat_first_reply(&mut self) {
        if !self.proven && self.sends < self.patience() {
            self.first_reply_due = true;
            self.next = self.base;
        }
    }

    /// The peer's port is closed.
    pub fn unreachable(&mut self) {
        let end = if self.is_probe() {
            End::Probed
        } else {
            End::Gone { after: self.reached() }
        };
        self.finish(end);
    }

    /// The same peer asked for something else.
    pub fn replace(&mut self) {
        let end = if self.is_probe() { End::Probed } else { End::Replaced };
        self.finish(end);
    }

    /// The piece of the file that is needed next; the same piece is asked for once. A probe needs none.
    pub fn wants(&mut self) -> Option<Want> {
        if self.phase != Phase::Sending || self.reading.is_some() || self.read >= self.size {
            return None;
        }
        // An address that may be forged gets the first block and no more, so no more is read for it either.
        let piece = if self.proven {
            self.piece()
        } else {
            usize::from(self.blksize)
        };
        let ahead = self.held.end.saturating_sub(self.start_of(self.base));
        if ahead >= u64::try_from(piece).unwrap_or(u64::MAX) {
            return None;
        }
        let rest = usize::try_from(self.size.saturating_sub(self.read)).unwrap_or(usize::MAX);
        let want = Want {
            offset: self.read,
            length: piece.min(rest),
        };
        self.reading = Some(want);
        Some(want)
    }

    /// Gives the piece that [`Self::wants`] asked for, or why it cannot be had. Fewer bytes mean that the file was cut meanwhile.
    pub fn supply(&mut self, piece: Result<Bytes, String>) {
        let Some(want) = self.reading.take() else { return };
        if self.end().is_some() {
            return;
        }
        match piece {
            Ok(bytes) if bytes.len() == want.length => {
                self.read = self.read.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                self.held.push(match self.request.mode {
                    Mode::Octet => bytes,
                    Mode::Netascii => netascii::encode(&bytes),
                });
            }
            Ok(_) => self.give_up("it became shorter while it was sent".to_owned()),
            Err(why) => self.give_up(why),
        }
    }

    /// When [`Self::poll_transmit`] must be called again if nothing comes in.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.phase {
            Phase::Ended(_) => None,
            _ => match (self.deadline, self.doubt) {
                (Some(deadline), Some(doubt)) => Some(deadline.min(doubt)),
                (deadline, doubt) => deadline.or(doubt),
            },
        }
    }

    /// Puts the next datagrams into `out`, which it clears first. To be called until it gives nothing, after every other call.
    pub fn poll_transmit(&mut self, now: Duration, out: &mut Vec<u8>) -> Option<Transmit> {
        out.clear();
        if self.doubt.is_some_and(|doubt| doubt <= now) {
            self.start_over();
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.wait = self.wait.saturating_mul(2).min(LONGEST_WAIT);
            self.start_over();
        }
        match self.phase {
            Phase::Ended(_) => {
                *out = self.last_words.take()?;
                return Some(Transmit { segment: out.len() });
            }
            Phase::Granting => {
                if !std::mem::take(&mut self.first_reply_due) {
                    return None;
                }
                Packet::OptionsGranted(self.granted).encode(out);
                self.sent(now);
                return Some(Transmit { segment: out.len() });
            }
            Phase::Sending => {}
        }
        let total = self.total();
        let last = self.last_block();
        let beyond = self.base.saturating_add(u64::from(self.window));
        let segment = usize::from(self.blksize).saturating_add(4);
        let opens_window = self.next == self.base;
        while self.next < beyond
            && last.is_none_or(|last| self.next <= last)
            && (out.is_empty() || out.len().saturating_add(segment) <= BURST)
        {
            let (from, to) = (self.start_of(self.next), self.start_of(self.next.saturating_add(1)));
            if total.map_or(to, |total| to.min(total)) > self.held.end {
                break;
            }
            let [.., high, low] = self.next.to_be_bytes();
            put_data_head(out, u16::from_be_bytes([high, low]));
            self.held.copy(from, to, out);
            self.next = self.next.saturating_add(1);
        }
        if out.is_empty() {
            return None;
        }
        self.high = self.high.max(self.next);
        if opens_window {
            self.sent(now);
        } else {
            self.deadline = Some(now.saturating_add(self.wait));
        }
        Some(Transmit { segment })
    }

    /// Something left that waits for an answer.
    fn sent(&mut self, now: Duration) {
        self.first_reply_due = false;
        self.opened = now;
        self.sends = self.sends.saturating_add(1);
        self.deadline = Some(now.saturating_add(self.wait));
    }

    fn acknowledge(&mut self, now: Duration, block: u16) {
        if self.phase == Phase::Granting {
            if block == 0 {
                self.round_trip = now.saturating_sub(self.opened);
                self.progress(now);
                self.phase = Phase::Sending;
            }
            return;
        }
        let [.., high, low] = self.base.wrapping_sub(1).to_be_bytes();
        let ahead = u64::from(block.wrapping_sub(u16::from_be_bytes([high, low])));
        let acked = self.base.saturating_add(ahead).saturating_sub(1);
        if acked >= self.high {
            return;
        }
        let doubtful = self.again || self.again_before;
        if ahead == 0 {
            if self.proven && now.saturating_sub(self.advanced) < STALL {
                self.sends = self.sends.min(1);
            }
            // RFC 7440 section 4: the window's first block is missing. In a window of one it would be the Sorcerer's Apprentice.
            if self.window > 1 && self.next > self.base {
                self.heard = now;
                if doubtful {
                    self.hesitate(now);
                } else {
                    self.rewind();
                }
            }
            return;
        }
        self.base = acked.saturating_add(1);
        self.held.release(self.start_of(self.base));
        self.progress(now);
        if self.last_block().is_some_and(|last| acked >= last) {
            self.finish(End::Sent);
        } else if self.base >= self.next {
            if !self.again {
                let sample = now.saturating_sub(self.opened);
                let sum = self.round_trip.saturating_mul(7).saturating_add(sample);
                self.round_trip = sum.checked_div(8).unwrap_or_default();
            }
            self.next = self.base;
            self.again_before = self.again;
            self.again = false;
        } else if doubtful {
            // Blocks were on the way twice. Plain readers acknowledge each double, and each such ACK, taken for a loss, would double
            // the next window too, for ever. The window slides, and only silence will say that the block was lost.
            self.deadline = Some(now.saturating_add(self.wait));
            self.hesitate(now);
        } else {
            // In the middle of a window the ACK says what was lost after it: the window starts anew from there.
            self.rewind();
        }
    }

    /// Sends the window from its first block, because the peer said that it lacks it.
    const fn rewind(&mut self) {
        self.again = true;
        self.next = self.base;
    }

    fn hesitate(&mut self, now: Duration) {
        let doubt = self
            .round_trip
            .saturating_mul(4)
            .clamp(SHORTEST_DOUBT, self.wait.max(SHORTEST_DOUBT));
        self.doubt.get_or_insert_with(|| now.saturating_add(doubt));
    }

    /// The peer answered what was sent.
    const fn progress(&mut self, now: Duration) {
        self.proven = true;
        self.heard = now;
        self.advanced = now;
        self.sends = 0;
        self.wait = FIRST_WAIT;
        self.deadline = None;
        self.doubt = None;
        self.first_reply_due = false;
    }

    /// No answer came in time: the packet or window goes out once more, or it is given up.
    fn start_over(&mut self) {
        self.deadline = None;
        self.doubt = None;
        if self.sends >= self.patience() {
            self.finish(End::Silent { after: self.reached() });
            return;
        }
        self.first_reply_due = true;
        self.rewind();
    }

    const fn patience(&self) -> u32 {
        if self.proven { SENDS } else { UNPROVEN_SENDS }
    }

    fn give_up(&mut self, why: String) {
        self.last_words = Some(Packet::error(ErrorCode::OTHER, "the file could not be read"));
        self.finish(End::Unreadable(why));
    }

    fn finish(&mut self, end: End) {
        if self.end().is_none() {
            self.phase = Phase::Ended(end);
            self.held.pieces.clear();
            self.deadline = None;
            self.doubt = None;
        }
    }

    /// True while the peer has learned the size and nothing else.
    fn is_probe(&self) -> bool {
        self.granted.tsize.is_some() && self.phase == Phase::Granting
    }

    fn reached(&self) -> Reached {
        if !self.proven {
            Reached::FirstReply
        } else if self.last_block().is_some_and(|last| self.next > last) {
            Reached::LastBlock
        } else {
            Reached::Block(self.base)
        }
    }

    /// Where `block` starts in the stream.
    fn start_of(&self, block: u64) -> u64 {
        block.saturating_sub(1).saturating_mul(u64::from(self.blksize))
    }

    /// Bytes of the stream, once they are known.
    fn total(&self) -> Option<u64> {
        match self.request.mode {
            Mode::Octet => Some(self.size),
            Mode::Netascii => (self.read >= self.size).then_some(self.held.end),
        }
    }

    /// The block that is shorter than the others, once it is known which.
    fn last_block(&self) -> Option<u64> {
        let total = self.total()?;
        let full = total.checked_div(u64::from(self.blksize))?;
        Some(full.saturating_add(1))
    }

    /// Bytes to read at once: whole blocks, at least a window.
    fn piece(&self) -> usize {
        let block = usize::from(self.blksize).max(1);
        let blocks = PIECE.checked_div(block).unwrap_or(1).max(usize::from(self.window));
        blocks.saturating_mul(block)
    }
}

/// The bytes of the stream between the first that is not acknowledged and the last that was read.
#[derive(Debug, Default)]
struct Held {
    pieces: VecDeque<Bytes>,
    start: u64,
    end: u64,
}

impl Held {
    fn push(&mut self, piece: Bytes) {
        self.end = self.end.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        self.pieces.push_back(piece);
    }

    /// Appends the bytes of the stream from `from` to `to`, or to its end.
    fn copy(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        let mut start = self.start;
        for piece in &self.pieces {
            let end = start.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            let within = |at: u64| usize::try_from(at.clamp(start, end).saturating_sub(start)).unwrap_or(0);
            out.extend_from_slice(piece.get(within(from)..within(to)).unwrap_or(&[]));
            start = end;
        }
    }

    /// Lets go of whole pieces before `before`.
    fn release(&mut self, before: u64) {
        while let Some(piece) = self.pieces.front() {
            let end = self
                .start
                .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if end > before {
                break;
            }
            self.start = end;
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
