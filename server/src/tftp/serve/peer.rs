//! One peer's task: its requests one after the other, and the transfer that answers the last of them.
//!
//! All judgement is in [`Transfer`] and [`open`]; here are the waiting, the reading and the sending. Before a request of the peer is
//! judged, everything it sent to the running transfer is taken in, so that the order in which the peer spoke is kept.
#![allow(clippy::disallowed_methods, reason = "IO: waits for sockets, files and time")]

use super::Shared;
use super::content::{self, Asker, Content, Opened, Pending};
use super::registry::Seat;
use super::socket::{self, Heard, Link};
use crate::event::What;
use crate::tftp::open::{Opening, open, strange};
use crate::tftp::packet::{ErrorCode, Packet, Request};
use crate::tftp::transfer::{End, Limits, Transfer, Want};
use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Files above this size say now and then how far they are.
const LARGE: u64 = 1 << 20;
/// How often.
const PROGRESS: Duration = Duration::from_secs(1);
/// No packet of a reader is longer.
const LONGEST: usize = 2048;

/// Serves a peer until it has no more requests.
pub(super) async fn attend(shared: Arc<Shared>, mut seat: Seat) {
    let (peer, local) = seat.key;
    let mut unproven = 0;
    let mut next = seat.next_or_leave();
    while let Some(request) = next.take() {
        let (asker, opened) = content::open(&shared, *peer.ip(), local, &request.name).await;
        match opened {
            Opened::Found { content, size, pending } => match Link::open(local, peer) {
                Ok(link) => {
                    let limits = Limits {
                        mtu: shared.config.mtu.min(link.mtu().unwrap_or(u16::MAX)),
                        size,
                        unproven,
                    };
                    let mut running = Running {
                        transfer: Transfer::new(shared.now(), request, limits),
                        shared: &shared,
                        link,
                        asker,
                        pending: Some(pending),
                        size,
                        began: shared.now(),
                    };
                    let counted = Counted::new(&shared.transfers);
                    next = running.run(&content, &mut seat.requests).await;
                    drop(counted);
                    running.report();
                    // What fits one block was read before its reader had proved its address, and of an empty file nothing is.
                    if running.transfer.end() == Some(&End::Sent)
                        && let Some(pending) = running.pending.take()
                        && let Err(error) = pending.hold(&shared, &running.asker).await
                    {
                        tracing::warn!(%peer, %error, "a file of one block was sent by TFTP");
                    }
                    unproven = if running.transfer.is_proven() {
                        0
                    } else {
                        running.transfer.unanswered()
                    };
                }
                Err(error) => {
                    let reason = format!("no socket from {local} to {peer}: {error}");
                    shared.emit(
                        &asker,
                        What::TftpFailed {
                            file: asker.file.clone(),
                            reason,
                        },
                    );
                }
            },
            Opened::NotFound(reason) => {
                let error = Packet::error(ErrorCode::NOT_FOUND, "file not found");
                if let Err(error) = socket::send_once(local, peer, &error) {
                    tracing::debug!(%peer, %error, "TFTP error not sent");
                }
                shared.emit(
                    &asker,
                    What::TftpNotFound {
                        file: asker.file.clone(),
                        reason,
                    },
                );
            }
            Opened::Silence(reason) => {
                shared.emit(
                    &asker,
                    What::TftpFailed {
                        file: asker.file.clone(),
                        reason,
                    },
                );
            }
        }
        if next.is_none() {
            next = seat.next_or_leave();
        }
    }
}

/// A transfer under way; it counts until it is dropped, by a cut at the end of the grace too.
struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    fn new(transfers: &'a Gauge) -> Self {
        transfers.inc();
        Self(transfers)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

type Reading = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

struct Running<'a> {
    shared: &'a Arc<Shared>,
    transfer: Transfer,
    link: Link,
    asker: Asker,
    pending: Option<Pending>,
    size: u64,
    began: Duration,
}

impl Running<'_> {
    /// Runs the transfer to its end; gives the request that ended it, if one did.
    async fn run(&mut self, content: &Content, requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
        let mut burst = Vec::new();
        let mut reading: Option<Reading> = None;
        let mut told = self.began;
        // The same request may have come again while the file was opened; its answer is on the way now.
        while let Ok(request) = requests.try_recv() {
            if request != *self.transfer.request() {
                self.transfer.replace();
                return Some(request);
            }
        }
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm);
        loop {
            self.hear(false);
            if reading.is_none()
                && let Some(want) = self.transfer.wants()
            {
                reading = Some(self.read(content.clone(), want));
            }
            while let Some(transmit) = self.transfer.poll_transmit(self.shared.now(), &mut burst) {
                if self.link.send(&burst, transmit.segment).await.is_err() {
                    self.transfer.unreachable();
                }
            }
            if self.transfer.end().is_some() {
                return None;
            }
            let now = self.shared.now();
            if self.size > LARGE && now.saturating_sub(told) >= PROGRESS {
                told = now;
                self.tell_progress();
            }
            let deadline = self.transfer.poll_timeout().map(|deadline| {
                tokio::time::Instant::from_std(self.shared.began.checked_add(deadline).unwrap_or(self.shared.began))
            });
            if let Some(deadline) = deadline
                && (alarm.is_elapsed() || deadline < alarm.deadline())
            {
                alarm.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                ready = self.link.readable() => {
                    if let Err(error) = ready {
                        tracing::warn!(%error, "TFTP socket cannot be waited for");
                        self.transfer.unreachable();
                    }
                }
                Some(request) = requests.recv() => {
                    self.hear(true);
                    match open(Some(&self.transfer), &request, self.shared.now()) {
                        Opening::Start => return Some(request),
                        Opening::Replace => {
                            self.transfer.replace();
                            return Some(request);
                        }
                        Opening::Repeat => self.transfer.repeat_first_reply(),
                        Opening::Ignore => {}
                    }
                }
                piece = async { Some(reading.as_mut()?.await) }, if reading.is_some() => {
                    reading = None;
                    if let Some(piece) = piece {
                        self.transfer.supply(piece);
                    }
                }
                // An alarm that rings early, because an ACK moved the deadline meanwhile, costs less than moving it each time.
                () = &mut alarm, if deadline.is_some() => {}
            }
        }
    }

    /// Reads a piece; before the first for a peer that has proved its address, lets the decision's effects hold.
    fn read(&mut self, content: Content, want: Want) -> Reading {
        let shared = Arc::clone(self.shared);
        let pending = self
            .pending
            .take_if(|_| self.transfer.is_proven())
            .map(|pending| (pending, self.asker.clone()));
        Box::pin(async move {
            if let Some((pending, asker)) = pending {
                let held = pending.hold(&shared, &asker).await;
                held.map_err(|error| error.to_string())?;
            }
            content.piece(shared, want).await
        })
    }

    /// Takes in all that the peer sent.
    fn hear(&mut self, eager: bool) {
        let mut buffer = [0_u8; LONGEST];
        while self.transfer.end().is_none() {
            match self.link.receive(&mut buffer, eager) {
                Ok(Heard::Peer(length)) => {
                    let now = self.shared.now();
                    self.transfer.handle(now, buffer.get(..length).unwrap_or(&[]));
                }
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
    fn report(&self) {
        let file = self.asker.file.clone();
        let millis = self.shared.now().saturating_sub(self.began).as_millis();
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
}
