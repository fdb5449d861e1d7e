//! `guest wait` and `log`: what happens to a guest, as it happens.
#![expect(
    clippy::disallowed_methods,
    reason = "a thread reads the supervisor's lines, so that the wait can have an end"
)]

use super::super::desk::Desk;
use super::super::exit::{Ended, Failure};
use super::{client, tell};
use crate::guest::flow::Phase;
use crate::guest::protocol::{Reply, Request, Which};
use crate::guest::supervise::Client;
use crate::model::Span;
use std::sync::mpsc;
use std::time::Instant;

/// Prints the serial console's lines.
pub(super) fn log(which: Which, follow: bool, desk: &Desk) -> Result<Ended, Failure> {
    for reply in client(desk)?.ask(&Request::Log { which, follow })? {
        tell(&reply?, desk)?;
    }
    Ok(Ended::Well)
}

/// Shows an installation until it has ended, at most `limit` (none, or no time at all: without a limit).
pub(super) fn wait(client: &Client, which: Which, limit: Option<Span>, desk: &Desk) -> Result<Ended, Failure> {
    let name = which.guest.clone();
    let limit = limit.map(|span| span.0).filter(|limit| !limit.is_zero());
    let replies = client.ask(&Request::Follow(which))?;
    let (to, from) = mpsc::channel();
    let reader = std::thread::Builder::new().name("follow".to_owned());
    reader
        .spawn(move || {
            for reply in replies {
                if to.send(reply).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| Failure::said(format!("cannot start a thread: {error}"), ""))?;
    let started = Instant::now();
    loop {
        let reply = match limit {
            None => from.recv().ok(),
            Some(limit) => match from.recv_timeout(limit.saturating_sub(started.elapsed())) {
                Ok(reply) => Some(reply),
                Err(mpsc::RecvTimeoutError::Disconnected) => None,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(Failure::said(
                        format!("guest {name} is not installed after {}; it goes on", Span(limit)),
                        format!("cordwainer guest wait {name}, or see why: cordwainer boot trace {name}"),
                    ));
                }
            },
        };
        let Some(reply) = reply else {
            return Err(Failure::said(
                format!("the supervisor went away; guest {name} goes on, and is taken up again once it runs"),
                "systemctl start cordwainer-guests",
            ));
        };
        match reply? {
            Reply::Ended { phase } => return ended(&phase, name.as_str(), desk),
            Reply::Step { text } if !desk.printer.json => desk.printer.line(text)?,
            Reply::Serial { line } if !desk.printer.json => desk.printer.line(format!("  | {line}"))?,
            other => tell(&other, desk)?,
        }
    }
}

/// How it ended: 0 when it is installed.
fn ended(phase: &Phase, name: &str, desk: &Desk) -> Result<Ended, Failure> {
    if desk.printer.json {
        desk.printer.json_line(&Reply::Ended { phase: phase.clone() })?;
    }
    match phase {
        _ if phase.is_success() => {
            if !desk.printer.json {
                desk.printer.line(format!("installed {name}"))?;
            }
            Ok(Ended::Well)
        }
        _ if desk.printer.json => Ok(Ended::No),
        Phase::Failed { reason } | Phase::Refused { reason } => Err(Failure::said(
            format!("guest {name} was not installed: {reason}"),
            format!("cordwainer guest log {name}, then cordwainer guest reinstall {name}"),
        )),
        other => Err(Failure::said(
            format!("guest {name} was not installed: {}", other.as_str()),
            format!("cordwainer guest reinstall {name}"),
        )),
    }
}
