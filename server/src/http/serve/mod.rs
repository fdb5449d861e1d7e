//! Moves the bytes of HTTP: connections, deadlines, files. What is answered is decided by [`super::respond()`].
//!
//! HTTP/1.1 over hyper with title-case header names: GRUB compares `Content-Length: ` byte for byte. Always a `Content-Length`, never
//! an empty header value (EDK2 locks up on one), never a close that the client did not ask for.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the shell of HTTP: it opens files, reads clocks and starts a task per connection"
)]

mod connection;
mod file;
mod handler;
mod transfer;

pub use connection::Patience;

use crate::event::metrics::Metrics;
use crate::http::guesses::Guesses;
use crate::ports::{Effects, Events, Worlds};
use connection::TimedStream;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use ipnet::Ipv4Net;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

/// What is listened on, and for whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses and ports; port 0 takes any free one.
    pub listen: Vec<SocketAddr>,
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
            served,
            per_address: 64,
            connections: 8192,
            patience: Patience {
                first: Duration::from_secs(15),
                header: Duration::from_secs(5),
                idle: Duration::from_secs(75),
                stall: Duration::from_secs(180),
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
}

/// What all connections share.
struct Shared {
    options: Options,
    worlds: Arc<dyn Worlds>,
    effects: Arc<dyn Effects>,
    events: Arc<dyn Events>,
    metrics: Arc<Metrics>,
    sums: transfer::Sums,
    seats: Mutex<Seats>,
    guesses: Mutex<Guesses>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Seats {
    taken: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// One connection's place; given back when dropped.
struct Seat {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Seat {
    fn take(shared: &Arc<Shared>, address: IpAddr) -> Option<Self> {
        let mut seats = shared.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let own = seats.by_address.get(&address).copied().unwrap_or(0);
        if seats.taken >= shared.options.connections || own >= shared.options.per_address {
            return None;
        }
        seats.taken = seats.taken.saturating_add(1);
        seats.by_address.insert(address, own.saturating_add(1));
        drop(seats);
        shared.metrics.http_connections.inc();
        Some(Self {
            shared: shared.clone(),
            address,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.shared.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.taken = seats.taken.saturating_sub(1);
        match seats.by_address.get(&self.address).copied() {
            Some(own) if own > 1 => {
                seats.by_address.insert(self.address, own.saturating_sub(1));
            }
            _ => {
                seats.by_address.remove(&self.address);
            }
        }
        self.shared.metrics.http_connections.dec();
    }
}

/// The HTTP server, bound and not yet serving: connections wait in the kernel until [`Server::run`].
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(TcpListener, SocketAddr)>,
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
        let shared = Shared {
            options,
            worlds: ports.worlds,
            effects: ports.effects,
            events: ports.events,
            metrics: ports.metrics,
            sums: transfer::Sums::default(),
            seats: Mutex::default(),
            guesses: Mutex::default(),
        };
        Ok(Self {
            listeners,
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

    /// Serves until `shutdown` is true (or its sender is gone), then lets transfers end for the grace of the options.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        for (listener, _) in self.listeners {
            tasks.spawn(accept(listener, self.shared.clone(), shutdown.clone()));
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
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = asked(&mut shutdown) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                let Some(seat) = Seat::take(&shared, peer.ip().to_canonical()) else {
                    shared.metrics.http_refused.inc();
                    tracing::debug!(%peer, "connection refused: too many are open");
                    continue;
                };
                connections.spawn(connection(stream, peer, seat, shutdown.clone()));
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "HTTP connections cannot be accepted for now");
                }
                // Out of descriptors or memory, most likely: some are given back soon.
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let now = Instant::now();
    let end = now.checked_add(shared.options.grace).unwrap_or(now);
    while let Ok(Some(_)) = timeout_at(end, connections.join_next()).await {}
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, peer: SocketAddr, seat: Seat, mut shutdown: watch::Receiver<bool>) {
    let shared = seat.shared.clone();
    let Ok(local) = stream.local_addr() else { return };
    if let Err(error) = tune(&stream) {
        tracing::debug!(%peer, %error, "connection lost before its first request");
        return;
    }
    let (stream, conn) = TimedStream::new(stream, shared.options.patience);
    let service = service_fn(|request| {
        conn.begin();
        handler::handle(shared.clone(), conn.clone(), peer.ip(), local.ip(), request)
    });
    let serving = http1::Builder::new()
        .title_case_headers(true)
        .keep_alive(true)
        .header_read_timeout(None)
        .max_header_size(16 * 1024)
        .max_buf_size(32 * 1024)
        .serve_connection(stream, service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = asked(&mut shutdown) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    // With Nagle, small files to one client take 50 ms each (measured).
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
