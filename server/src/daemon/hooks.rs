//! Programs of the admin's that run when an installation begins, ends, fails, or its machine comes up, and when objects were changed or a
//! sync was asked for: Cobbler's triggers.
//!
//! `hooks/pre`, `post`, `firstboot` and `failed` below the folder of overrides, called as `FILE system NAME ADDRESS`, several at once;
//! `hooks/add/KIND/post`, `delete/KIND/post` and `change`, called as `FILE NAME`, and `sync/pre` and `sync/post`, one after the other in the
//! order of the changes, by whomever they were made: this process sees them all when it takes them up. Never waited for by a machine or by
//! whoever makes a change. No hook refuses a change: the command line stores one without this process, so that such a rule would hold
//! only while it runs.

mod moments;
mod program;

pub(super) use moments::{Act, Changed, Teller, Told, teller};

use crate::event::{Event, What};
use crate::ports::Worlds;
use moments::Moments;
use program::{Call, all};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

/// The folder below that of overrides.
const FOLDER: &str = "hooks";
/// Calls that may wait; more are dropped, and said.
const WAITING: usize = 4096;
/// Calls of installations that run at once.
const AT_ONCE: usize = 4;

/// The folder of an event's hooks; most have none.
const fn mode(what: &What) -> Option<&'static str> {
    match what {
        What::Claimed { .. } => Some("pre"),
        What::Installed => Some("post"),
        What::BootedFromDisk => Some("firstboot"),
        What::Failed { .. } | What::Held { .. } => Some("failed"),
        _ => None,
    }
}

fn call_of(event: &Event, worlds: &dyn Worlds) -> Option<Call> {
    let (mode, system) = (mode(&event.what)?, event.system.clone()?);
    let claimed = match event.what {
        What::Claimed { address, .. } => Some(address),
        _ => worlds
            .world()
            .installs
            .by_system
            .get(&system)
            .and_then(|seen| seen.bound),
    };
    let known = claimed
        .filter(|address| *address != Ipv4Addr::UNSPECIFIED)
        .map(IpAddr::V4);
    let address = known
        .or(event.peer)
        .map(|address| address.to_string())
        .unwrap_or_default();
    let mac = event.mac.map(|mac| mac.to_string()).unwrap_or_default();
    Some(Call {
        folder: mode.to_owned(),
        arguments: vec!["system".to_owned(), system.to_string(), address.clone()],
        environment: vec![
            ("CORDWAINER_EVENT", mode.to_owned()),
            ("CORDWAINER_SYSTEM", system.to_string()),
            ("CORDWAINER_ADDRESS", address),
            ("CORDWAINER_MAC", mac),
        ],
    })
}

/// Runs hooks until `stopped` says true.
pub(super) async fn run(
    overrides: PathBuf,
    mut events: broadcast::Receiver<Arc<Event>>,
    mut told: mpsc::Receiver<Told>,
    worlds: Arc<dyn Worlds>,
    mut stopped: watch::Receiver<bool>,
) {
    let (queue, mut calls) = mpsc::channel::<Call>(WAITING);
    let mut running: JoinSet<()> = JoinSet::new();
    let mut lane: JoinSet<()> = JoinSet::new();
    let root = overrides.join(FOLDER);
    let mut moments = Moments::new(root.clone());
    moments.warn_of_refusers();
    loop {
        tokio::select! {
            heard = events.recv() => match heard {
                Ok(event) => {
                    let call = call_of(&event, &*worlds);
                    if let Some(call) = call && let Err(error) = queue.try_send(call) {
                        tracing::warn!("a hook is left out, {WAITING} wait already: {error}");
                    }
                }
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!("{lost} events passed too fast to run hooks for them");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            Some(call) = calls.recv(), if running.len() < AT_ONCE => {
                let root = root.clone();
                running.spawn(async move {
                    all(&root, &call).await;
                });
            }
            Some(_) = running.join_next() => (),
            Some(what) = told.recv() => moments.take(what),
            Some(_) = lane.join_next() => (),
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        if lane.is_empty()
            && let Some(next) = moments.next()
        {
            let root = root.clone();
            lane.spawn(async move {
                for call in next {
                    if !all(&root, &call).await && call.folder == moments::BEFORE_SYNC {
                        return;
                    }
                }
            });
        }
    }
}
