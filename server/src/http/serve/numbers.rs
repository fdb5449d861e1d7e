//! `[http] metrics_listen`: a further address for those who watch, with `/metrics` and `/healthz`, and nothing that boots a machine.
//!
//! Never opens a file, never decides. Machines are served by the connection loop beside this; people and programs by axum.

use crate::boot::World;
use crate::event::metrics::{Metrics, Standing};
use crate::http::METRICS_TYPE;
use crate::install::{State, state};
use crate::ports::Worlds;
use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the pages are made of.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) worlds: Arc<dyn Worlds>,
    pub(super) metrics: Arc<Metrics>,
}

/// Serves until shutdown is asked for.
pub(super) async fn run(listener: TcpListener, watched: Watched, mut shutdown: watch::Receiver<bool>) {
    let page = move || {
        let text = watched.metrics.page(&standing(&watched.worlds.world()));
        let fields = [(CONTENT_TYPE, METRICS_TYPE), (CACHE_CONTROL, "no-store")];
        std::future::ready((fields, text).into_response())
    };
    let health = || std::future::ready(([(CACHE_CONTROL, "no-store")], "ok\n"));
    let routes = Router::new()
        .route("/metrics", get(page))
        .route("/healthz", get(health));
    let served = axum::serve(listener, routes)
        .with_graceful_shutdown(async move { super::asked(&mut shutdown).await })
        .await;
    if let Err(error) = served {
        tracing::warn!(%error, "the page of numbers is no longer served");
    }
}

/// Where all machines stand, for `/metrics`.
pub(super) fn standing(world: &World) -> Standing {
    let all = [
        State::Armed,
        State::Claimed,
        State::Installing,
        State::Installed,
        State::Failed,
        State::Held,
        State::Booted,
    ];
    let mut machines = all.map(|state| (state.as_str(), 0_u64));
    let seen = world.installs.by_system.keys();
    let armed = world.inventory.arms().map(|arm| &arm.system);
    let names: std::collections::BTreeSet<_> = seen.chain(armed).collect();
    for name in names {
        let arm = world.inventory.arm(name.as_str()).map(|arm| &**arm);
        let installation = world.installs.by_system.get(name).map(|seen| &**seen);
        let now = state(arm, installation, world.now);
        if let Some((_, count)) = machines.iter_mut().find(|(word, _)| *word == now.as_str()) {
            *count = count.saturating_add(1);
        }
    }
    Standing {
        machines: machines.to_vec(),
        leases: u64::try_from(world.installs.holders.len()).unwrap_or(u64::MAX),
    }
}
