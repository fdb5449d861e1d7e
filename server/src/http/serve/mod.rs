//! Moves the bytes of HTTP: connections, deadlines, files. What is answered is decided by [`super::respond()`].
//!
//! HTTP/1.1 is spoken to machines without a framework: what goes out are files, and the kernel sends those straight from the page cache,
//! which no framework lets it. Never a close that the client did not ask for, unless it is sent away.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the shell of HTTP: it opens files, reads clocks and starts a task per connection"
)]

mod calls;
mod connection;
mod file;
mod handler;
mod numbers;
mod seats;
mod transfer;

pub use connection::Patience;

use crate::event::metrics::Metrics;
use crate::http::guesses::Guesses;
use crate::ports::{Effects, Events, Rpc, Worlds};
use ipnet::Ipv4Net;
use seats::{Seat, Seats};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

/// Most clients that are told at a time that there is no seat; more are closed without a word.
const TURNED_AWAY: usize = 64;

/// What is listened on, and for whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses and ports; port 0 takes any free one.
    pub listen: Vec<SocketAddr>,
    /// A further address for `/metrics` and `/healthz` alone.
    pub metrics_listen: Option<SocketAddr>,
    /// Networks whose machines are served; empty means all. Reports, `/metrics` and `/healthz` are taken from everywhere.
    pub served: Vec<Ipv4Net>,
    /// Connections of one address at a time.
    pub per_address: u32,
    /// Connections in all.
    pub connections: u32,
    /// Deadlines of a connection.
    pub patience: Patience,
    /// How long transfers may go on after shutdown was asked for.
    pub grace: Duration,
}

impl Options {
    /// The production limits (threat model, HTTP rows).
    #[must_use]
    pub const fn new(listen: Vec<SocketAddr>, served: Vec<Ipv4Net>) -> Self {
        Self {
            listen,
            metrics_listen: None,
            served,
            per_address: 64,
            connections: 8192,
            patience: Patience {
                first: Duration::from_secs(15),
                header: Duration::from_secs(5),
                idle: Duration::from_secs(75),
                body: Duration::from_secs(10),
                stall: Duration::from_secs(600),
                grace: Duration::from_secs(60),
            },
            grace: Duration::from_secs(10),
        }
    }

    fn serves(&self, peer: Ipv4Addr) -> bool {
        self.served.is_empty() || peer.is_loopback() || self.served.iter().any(|network| network.contains(&peer))
    }
}

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address}: {source}{remedy}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the kernel says.
    pub source: io::Error,
    remedy: &'static str,
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse => "; `ss -ltnp` names the program that has it; stop that one, or set [http] port",
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need CAP_NET_BIND_SERVICE: start it by its unit, or set [http] port"
            }
            io::ErrorKind::AddrNotAvailable => "; no interface has this address",
            _ => "",
        };
        Self {
            address,
            source,
            remedy,
        }
    }
}

/// What HTTP needs of the rest.
#[derive(Clone)]
pub struct Ports {
    /// Snapshots.
    pub worlds: Arc<dyn Worlds>,
    /// The state task.
    pub effects: Arc<dyn Effects>,
    /// The event sink.
    pub events: Arc<dyn Events>,
    /// The counters of `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Cobbler's XML-RPC, where it is answered.
    pub rpc: Option<Arc<dyn Rpc>>,
}

/// What all connections share.
struct Shared {
    options: Options,
    worlds: Arc<dyn Worlds>,
    effects: Arc<dyn Effects>,
    events: Arc<dyn Events>,
    metrics: Arc<Metrics>,
    sums: transfer::Sums,
    seats: Seats,
    /// The time that transfers had after shutdown was asked for is over.
    over: AtomicBool,
    guesses: Mutex<Guesses>,
    rpc: Option<Arc<dyn Rpc>>,
    calls: Mutex<calls::Calls>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The HTTP server, bound and not yet serving: connections wait in the kernel until [`Server::run`].
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(TcpListener, SocketAddr)>,
    numbers: Option<(TcpListener, SocketAddr)>,
    shared: Arc<Shared>,
}

impl Server {
    /// Binds all addresses of `options`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] names the first address that could not be had.
    pub fn bind(options: Options, ports: Ports) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        for address in &options.listen {
            let bound = listen(*address).map_err(|error| BindError::new(*address, error))?;
            listeners.push(bound);
        }
        let numbers = match options.metrics_listen {
            Some(address) => Some(listen(address).map_err(|error| BindError::new(address, error))?),
            None => None,
        };
        let shared = Shared {
            options,
            worlds: ports.worlds,
            effects: ports.effects,
            events: ports.events,
            metrics: ports.metrics,
            sums: transfer::Sums::default(),
            seats: Seats::default(),
            over: AtomicBool::new(false),
            guesses: Mutex::default(),
            rpc: ports.rpc,
            calls: Mutex::default(),
        };
        Ok(Self {
            listeners,
            numbers,
            shared: Arc::new(shared),
        })
    }

    /// The addresses that are listened on, in the order of the options, with the ports that the kernel chose.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|(_, address)| *address)
    }

    /// The first of [`Server::local_addrs`].
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().next()
    }

    /// The address of the numbers alone, if one was asked for.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.numbers.as_ref().map(|(_, address)| *address)
    }

    /// Serves until `shutdown` is true (or its sender is gone), then lets transfers end for the grace of the options.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        for (listener, _) in self.listeners {
            tasks.spawn(accept(listener, self.shared.clone(), shutdown.clone()));
        }
        if let Some((listener, _)) = self.numbers {
            let watched = numbers::Watched {
                worlds: self.shared.worlds.clone(),
                metrics: self.shared.metrics.clone(),
            };
            tasks.spawn(numbers::run(listener, watched, shutdown.clone()));
        }
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.shared.sums.flush(&self.shared, self.shared.worlds.world().now, false),
                () = asked(&mut shutdown) => break,
            }
        }
        while tasks.join_next().await.is_some() {}
        self.shared
            .sums
            .flush(&self.shared, self.shared.worlds.world().now, true);
    }
}

/// Resolves once shutdown was asked for.
async fn asked(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever could ask.
    let _ = shutdown.wait_for(|asked| *asked).await;
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(1024)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut turned_away = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            Some(_) = turned_away.join_next() => continue,
            () = asked(&mut shutdown) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                if let Some(seat) = Seat::take(&shared, peer.ip().to_canonical()) {
                    connections.spawn(connection::serve(stream, peer, seat, shutdown.clone()));
                } else if turned_away.len() < TURNED_AWAY {
                    turned_away.spawn(connection::turn_away(stream, shared.options.patience));
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "HTTP connections cannot be accepted for now");
                }
                // Out of descriptors or memory, most likely: who only waits gives his back, and others soon do.
                shared.seats.make_room();
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let now = Instant::now();
    let end = now.checked_add(shared.options.grace).unwrap_or(now);
    while let Ok(Some(_)) = timeout_at(end, connections.join_next()).await {}
    shared.over.store(true, Ordering::Relaxed);
    connections.shutdown().await;
}
