//! One transfer on its driver: its socket, its file and its state machine. Every call returns at once.
//!
//! All judgement is in [`Transfer`] and [`open`]; here bytes move. Before a request of the peer is judged, everything that it sent to the
//! running transfer is taken in, so that the order in which the peer spoke is kept.

use super::Shared;
use super::content::{Asker, Content, Pending};
use super::driver::{Inbox, Message, Scratch};
use super::socket::{Heard, Link};
use crate::event::What;
use crate::tftp::open::{Opening, open, strange};
use crate::tftp::packet::{Packet, Request};
use crate::tftp::transfer::{End, Transfer, Want};
use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Files above this size say now and then how far they are.
const LARGE: u64 = 1 << 20;
/// How often.
const PROGRESS: Duration = Duration::from_secs(1);
/// So many datagrams of one peer are taken in before the others have their turn.
const IN_A_ROW: usize = 64;
/// What a socket's queue holds at most of a reader's small packets.
const QUEUE: usize = 1024;

/// What a transfer needs next of its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// To be called when something comes in, or its alarm rings.
    GoesOn,
    /// As before, and from now on (or no longer) when the socket takes more.
    Blocked(bool),
    /// To be forgotten.
    Ended,
}

/// What is left of a transfer, for its peer's task.
#[derive(Debug)]
pub(super) struct Ended {
    /// The effects that did not hold yet of a file that was sent whole.
    pub(super) pending: Option<Pending>,
    /// Sends that the peer has not answered; 0 once it has answered any.
    pub(super) unproven: u32,
    /// How many of the peer's further requests were judged.
    pub(super) judged: usize,
    /// The one of them that asks for something else.
    pub(super) next: Option<Request>,
}

/// What a transfer is made of.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    pub(super) transfer: Transfer,
    pub(super) link: Link,
    pub(super) asker: Asker,
    pub(super) content: Content,
    pub(super) pending: Pending,
    pub(super) size: u64,
    pub(super) ended: oneshot::Sender<Ended>,
}

/// A transfer under way.
pub(super) struct Running {
    shared: Arc<Shared>,
    transfer: Transfer,
    link: Link,
    asker: Asker,
    content: Content,
    pending: Option<Pending>,
    size: u64,
    began: Duration,
    told: Duration,
    ended: Option<oneshot::Sender<Ended>>,
    judged: usize,
    next: Option<Request>,
    alarm: Option<Duration>,
    blocked: bool,
    runtime: Handle,
    place: Option<(u64, Arc<Inbox>)>,
    _counted: Counted,
}

impl Running {
    /// To be called inside the runtime, on which slow files are read.
    pub(super) fn new(parts: Parts) -> Self {
        let now = parts.shared.now();
        Self {
            _counted: Counted::new(&parts.shared.transfers),
            shared: parts.shared,
            transfer: parts.transfer,
            link: parts.link,
            asker: parts.asker,
            content: parts.content,
            pending: Some(parts.pending),
            size: parts.size,
            began: now,
            told: now,
            ended: Some(parts.ended),
            judged: 0,
            next: None,
            alarm: None,
            blocked: false,
            runtime: Handle::current(),
            place: None,
        }
    }

    /// A driver takes it as its `id`.
    pub(super) fn accept(&mut self, id: u64, inbox: Arc<Inbox>) {
        self.place = Some((id, inbox));
    }

    pub(super) fn id(&self) -> u64 {
        self.place.as_ref().map_or(0, |(id, _)| *id)
    }

    pub(super) const fn socket(&self) -> &UdpSocket {
        self.link.socket()
    }

    /// When to ring, if that is earlier than what was said before.
    pub(super) fn new_alarm(&mut self) -> Option<Duration> {
        let deadline = self.transfer.poll_timeout()?;
        if self.alarm.is_some_and(|alarm| alarm <= deadline) {
            return None;
        }
        self.alarm = Some(deadline);
        Some(deadline)
    }

    /// The alarm rang. It rings early where an ACK has moved the deadline since, which costs less than moving it with each ACK.
    pub(super) fn rung(&mut self, now: Duration, scratch: &mut Scratch) -> Turn {
        // An alarm that was overtaken by an earlier one says nothing new.
        if self.alarm.is_some_and(|alarm| alarm <= now) {
            self.alarm = None;
        }
        if self.transfer.poll_timeout().is_some_and(|deadline| deadline <= now) {
            // What did not leave until now is older than what is sent in its place.
            self.link.drop_unsent();
        }
        self.go_on(now, scratch)
    }

    /// The socket has something, or takes more.
    pub(super) fn ready(&mut self, now: Duration, scratch: &mut Scratch) -> Turn {
        // One block, one ACK: what follows it waits for its turn. A window may have been acknowledged in pieces, and only the last counts.
        let most = if self.transfer.window() == 1 { 1 } else { IN_A_ROW };
        self.hear(now, most, &mut scratch.heard);
        self.go_on(now, scratch)
    }

    /// The peer asked again.
    pub(super) fn asked(&mut self, now: Duration, request: Request, scratch: &mut Scratch) -> Turn {
        self.hear(now, QUEUE, &mut scratch.heard);
        self.judged = self.judged.saturating_add(1);
        match open(Some(&self.transfer), &request, now) {
            Opening::Start => self.next = Some(request),
            Opening::Replace => {
                self.transfer.replace();
                self.next = Some(request);
            }
            Opening::Repeat => self.transfer.repeat_first_reply(),
            Opening::Ignore => {}
        }
        self.go_on(now, scratch)
    }

    /// A piece came that could not be had at once.
    pub(super) fn supplied(&mut self, now: Duration, piece: Result<Bytes, String>, scratch: &mut Scratch) -> Turn {
        self.transfer.supply(piece);
        self.go_on(now, scratch)
    }

    /// It cannot go on, for a cause of our own.
    pub(super) fn break_off(&mut self, why: &str) -> Turn {
        let file = self.asker.file.clone();
        let reason = format!("its socket cannot be waited for: {why}");
        self.shared.emit(&self.asker, What::TftpFailed { file, reason });
        self.transfer.unreachable();
        self.leave()
    }

    /// Sends what can be sent, and reads what comes after it.
    pub(super) fn go_on(&mut self, now: Duration, scratch: &mut Scratch) -> Turn {
        if self.link.send_rest().is_err() {
            self.transfer.unreachable();
        }
        loop {
            while !self.link.is_blocked() {
                let Some(transmit) = self.transfer.poll_transmit(now, &mut scratch.burst) else {
                    break;
                };
                if self.link.send(&scratch.burst, transmit.segment).is_err() {
                    self.transfer.unreachable();
                }
            }
            if self.transfer.end().is_some() {
                self.report(now);
                return self.leave();
            }
            let Some(want) = self.transfer.wants() else { break };
            match self.read(want) {
                Some(piece) => self.transfer.supply(piece),
                None => break,
            }
        }
        if self.size > LARGE && now.saturating_sub(self.told) >= PROGRESS {
            self.told = now;
            self.tell_progress();
        }
        if self.blocked == self.link.is_blocked() {
            Turn::GoesOn
        } else {
            self.blocked = self.link.is_blocked();
            Turn::Blocked(self.blocked)
        }
    }

    /// A piece that is in memory already; another comes through the inbox. Before the first for a peer that has proved its address, the
    /// decision's effects must hold.
    fn read(&mut self, want: Want) -> Option<Result<Bytes, String>> {
        let pending = self.pending.take_if(|_| self.transfer.is_proven());
        if pending.is_none()
            && let Some(piece) = self.content.piece_at_once(want)
        {
            return Some(piece);
        }
        let (id, inbox) = self.place.clone()?;
        let pending = pending.map(|pending| (pending, self.asker.clone()));
        let (shared, content) = (Arc::clone(&self.shared), self.content.clone());
        self.runtime.spawn(async move {
            let piece = async {
                if let Some((pending, asker)) = pending {
                    let held = pending.hold(&shared, &asker).await;
                    held.map_err(|error| error.to_string())?;
                }
                content.piece(Arc::clone(&shared), want).await
            };
            inbox.post(Message::Piece(id, piece.await));
        });
        None
    }

    /// Takes in what the peer sent, up to `most` datagrams.
    fn hear(&mut self, now: Duration, most: usize, buffer: &mut [u8]) {
        for _ in 0..most {
            if self.transfer.end().is_some() {
                return;
            }
            match self.link.receive(buffer) {
                Ok(Heard::Peer(length)) => self.transfer.handle(now, buffer.get(..length).unwrap_or(&[])),
                Ok(Heard::Stranger(stranger, length)) => {
                    tracing::debug!(%stranger, "a stranger at a TFTP transfer");
                    let packet = Packet::decode(buffer.get(..length).unwrap_or(&[]));
                    if let Some((code, message)) = packet.ok().and_then(|packet| strange(&packet)) {
                        self.link.tell_stranger(stranger, &Packet::error(code, message));
                    }
                }
                Ok(Heard::Nothing) => return,
                Ok(Heard::Closed) => self.transfer.unreachable(),
                Err(error) => {
                    tracing::debug!(peer = %self.asker.address, %error, "TFTP receive failed; going on");
                    return;
                }
            }
        }
    }

    fn tell_progress(&self) {
        self.shared.emit(
            &self.asker,
            What::TftpProgress {
                file: self.asker.file.clone(),
                bytes: self.transfer.acknowledged(),
                size: self.size,
            },
        );
    }

    /// Says how it ended.
    fn report(&self, now: Duration) {
        let file = self.asker.file.clone();
        let millis = now.saturating_sub(self.began).as_millis();
        let what = match self.transfer.end() {
            Some(End::Sent) => What::TftpSent {
                file,
                bytes: self.transfer.acknowledged(),
                millis: u64::try_from(millis).unwrap_or(u64::MAX),
                blksize: self.transfer.blksize(),
                window: self.transfer.window(),
            },
            Some(End::Probed) => What::TftpProbed { file, size: self.size },
            Some(other) => What::TftpFailed {
                file,
                reason: other.to_string(),
            },
            // It runs until it ends.
            None => return,
        };
        self.shared.emit(&self.asker, what);
    }

    /// Hands what is left to the peer's task.
    fn leave(&mut self) -> Turn {
        let sent = self.transfer.end() == Some(&End::Sent);
        if let Some(ended) = self.ended.take() {
            // Nobody may wait any more.
            let _ = ended.send(Ended {
                pending: self.pending.take().filter(|_| sent),
                unproven: if self.transfer.is_proven() {
                    0
                } else {
                    self.transfer.unanswered()
                },
                judged: self.judged,
                next: self.next.take(),
            });
        }
        Turn::Ended
    }
}

/// A transfer that is counted until it is dropped, by a cut too.
struct Counted(Gauge);

impl Counted {
    fn new(transfers: &Gauge) -> Self {
        transfers.inc();
        Self(transfers.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
