//! One peer's task: its requests one after the other. It opens what is asked for and hands the transfer to a driver, so that nothing
//! slow (a disk, the state task) ever stands between an ACK and the next block.
#![allow(clippy::disallowed_methods, reason = "IO: opens sockets and files")]

use super::Shared;
use super::content::{self, Asker, Content, Opened, Pending};
use super::registry::Seat;
use super::running::{Ended, Parts, Running};
use super::socket::{self, Link};
use crate::event::What;
use crate::tftp::packet::{ErrorCode, Packet, Request};
use crate::tftp::transfer::{Limits, Transfer};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Serves a peer until it has no more requests.
pub(super) async fn attend(shared: Arc<Shared>, mut seat: Seat) {
    let (peer, local) = seat.key;
    let mut unproven = 0;
    let mut waiting = VecDeque::new();
    while let Some(request) = waiting.pop_front().or_else(|| seat.next_or_leave()) {
        let (asker, opened) = content::open(&shared, *peer.ip(), local, &request.name).await;
        match opened {
            Opened::Found { content, size, pending } => {
                // The same request may have come again while the file was opened, and is answered with it. Another takes its place.
                while let Ok(again) = seat.requests.try_recv() {
                    if again != request || !waiting.is_empty() {
                        waiting.push_back(again);
                    }
                }
                if waiting.is_empty() {
                    let found = Found {
                        request,
                        asker,
                        content,
                        size,
                        pending,
                    };
                    unproven = transfer(&shared, &mut seat, found, unproven, &mut waiting).await;
                }
            }
            Opened::NotFound(reason) => {
                let error = Packet::error(ErrorCode::NOT_FOUND, "file not found");
                if let Err(error) = socket::send_once(local, peer, &error) {
                    tracing::debug!(%peer, %error, "TFTP error not sent");
                }
                let file = asker.file.clone();
                shared.emit(&asker, What::TftpNotFound { file, reason });
            }
            Opened::Silence(reason) => {
                let file = asker.file.clone();
                shared.emit(&asker, What::TftpFailed { file, reason });
            }
        }
    }
}

struct Found {
    request: Request,
    asker: Asker,
    content: Content,
    size: u64,
    pending: Pending,
}

/// Sees a transfer to its end; tells how many sends the peer has left unanswered. Requests that it did not judge come to `waiting`.
async fn transfer(
    shared: &Arc<Shared>,
    seat: &mut Seat,
    found: Found,
    unproven: u32,
    waiting: &mut VecDeque<Request>,
) -> u32 {
    let (peer, local) = seat.key;
    let asker = found.asker.clone();
    let failed = |reason| {
        let file = asker.file.clone();
        shared.emit(&asker, What::TftpFailed { file, reason });
    };
    let link = match Link::open(local, peer) {
        Ok(link) => link,
        Err(error) => {
            failed(format!("no socket from {local} to {peer}: {error}"));
            return unproven;
        }
    };
    let limits = Limits {
        mtu: shared.config.mtu.min(link.mtu().unwrap_or(u16::MAX)),
        size: found.size,
        unproven,
    };
    let (ended, mut end) = oneshot::channel();
    let running = Running::new(Parts {
        shared: Arc::clone(shared),
        transfer: Transfer::new(shared.now(), found.request, limits),
        link,
        asker: found.asker,
        content: found.content,
        pending: found.pending,
        size: found.size,
        ended,
    });
    let Some(ticket) = shared.drivers.begin(Box::new(running)) else {
        failed("no thread drives transfers".to_owned());
        return unproven;
    };
    let mut asked = Vec::new();
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut end => break ended,
            Some(request) = seat.requests.recv() => {
                ticket.ask(request.clone());
                asked.push(request);
            }
        }
    };
    ticket.over();
    let Ok(Ended {
        pending,
        unproven,
        judged,
        next,
    }) = ended
    else {
        failed("it died by a defect of ours".to_owned());
        return unproven;
    };
    waiting.extend(next.into_iter().chain(asked.into_iter().skip(judged)));
    // What fits one block was read before its reader had proved its address, and of an empty file nothing is.
    if let Some(pending) = pending
        && let Err(error) = pending.hold(shared, &asker).await
    {
        tracing::warn!(%peer, %error, "a file of one block was sent by TFTP");
    }
    unproven
}
