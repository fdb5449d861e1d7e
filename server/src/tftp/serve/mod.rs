//! Moves TFTP's bytes: listeners at the well-known port, a task for each peer that opens what it asks for, and a few threads that drive
//! the transfers (`driver`).
//!
//! It decides nothing: [`super::admit`] and [`super::open`] judge what arrives, [`crate::boot::decide`] what is sent, and
//! [`super::transfer`] how. A failed receive never ends a listener, and no peer can make another wait.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: the tasks of listeners and peers start here, and so does their clock"
)]

mod content;
mod driver;
mod peer;
mod registry;
mod running;
mod socket;

use super::admit::{NotServed, TRANSFERS_PER_ADDRESS, admit};
use super::open::{Arrival, arrive};
use super::packet::Packet;
use crate::boot::paths;
use crate::event::{Event, What};
use crate::ports::{Effects, Events, Worlds};
use driver::Drivers;
use ipnet::Ipv4Net;
use prometheus_client::metrics::gauge::Gauge;
use registry::{Offered, Registry};
use socket::{Listener, Received};
use std::io;
use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How long transfers may go on after the order to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How many pieces of files are read at the same time.
const READERS: usize = 4;
/// A listener that fails this often in a row waits a moment between two tries.
const FAILURES: u32 = 8;

/// Where TFTP is spoken, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TftpConfig {
    /// Addresses to listen at; 0.0.0.0 is every one, and answers leave from the one that was asked. Port 0 is any free one.
    pub listen: Vec<SocketAddrV4>,
    /// MTU of the served networks in bytes; the kernel's own idea of a path counts when it is smaller.
    pub mtu: u16,
    /// Networks of the served interfaces. Subnets and `[server] allow` come from the configuration in force.
    pub networks: Vec<Ipv4Net>,
}

/// TFTP cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TftpError {
    /// A listener could not be made.
    #[error(
        "TFTP cannot listen at {address}: {source}; is another TFTP server running, or is the port reserved for root?"
    )]
    Bind {
        /// Where.
        address: SocketAddrV4,
        /// Why.
        source: io::Error,
    },
    /// No address was given.
    #[error("TFTP has no address to listen at; name one, or 0.0.0.0 for all")]
    NoAddress,
    /// The threads that drive transfers could not be started.
    #[error("TFTP's threads cannot start: {0}; are threads (TasksMax) or open files (LimitNOFILE) limited?")]
    Threads(io::Error),
    /// A listener or a thread ended by a defect of ours.
    #[error("a TFTP listener died: {0}")]
    Died(String),
}

/// Bound listeners, not serving yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    config: TftpConfig,
    transfers: Gauge,
}

/// What all peers' tasks share.
struct Shared {
    worlds: Arc<dyn Worlds>,
    events: Arc<dyn Events>,
    effects: Arc<dyn Effects>,
    config: TftpConfig,
    /// Times of transfers count from here.
    began: Instant,
    readers: Arc<Semaphore>,
    transfers: Gauge,
    registry: Arc<Registry>,
    drivers: Drivers,
}

impl Shared {
    fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.began)
    }
}

impl Server {
    /// Opens the listeners; datagrams queue until [`Self::run`]. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub fn bind(config: TftpConfig) -> Result<Self, TftpError> {
        if config.listen.is_empty() {
            return Err(TftpError::NoAddress);
        }
        let listeners = config
            .listen
            .iter()
            .map(|address| {
                Listener::bind(*address).map_err(|source| TftpError::Bind {
                    address: *address,
                    source,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            listeners,
            config,
            transfers: Gauge::default(),
        })
    }

    /// Counts the transfers that are under way on `transfers`.
    #[must_use]
    pub fn counting(self, transfers: Gauge) -> Self {
        Self { transfers, ..self }
    }

    /// The address of the first listener, its port as the kernel gave it.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddrV4> {
        self.local_addrs().next()
    }

    /// The addresses of all listeners in the order of the configuration.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.listeners.iter().map(Listener::address)
    }

    /// Serves until `shutdown` says true (or its sender is gone), then lets transfers end for up to 10 s.
    ///
    /// # Errors
    /// When the threads of the transfers cannot start, or a listener or one of them died, which only a defect can cause.
    pub async fn run(
        self,
        worlds: Arc<dyn Worlds>,
        events: Arc<dyn Events>,
        effects: Arc<dyn Effects>,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(), TftpError> {
        let began = Instant::now();
        let (drivers, mut threads) = Drivers::start(began).map_err(TftpError::Threads)?;
        let shared = Arc::new(Shared {
            worlds,
            events,
            effects,
            config: self.config,
            began,
            readers: Arc::new(Semaphore::new(READERS)),
            transfers: self.transfers,
            registry: Arc::new(Registry::default()),
            drivers,
        });
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            tasks.spawn(listen(listener, Arc::clone(&shared), shutdown.clone()));
        }
        let listening = async {
            while let Some(ended) = tasks.join_next().await {
                ended.map_err(|error| TftpError::Died(error.to_string()))?;
            }
            Ok(())
        };
        tokio::select! {
            ended = listening => ended,
            () = threads.died() => Err(TftpError::Died("a thread that drives transfers is gone".to_owned())),
        }
    }
}

/// [`Server::bind`] and [`Server::run`] in one.
///
/// # Errors
/// As those two.
pub async fn serve(
    config: TftpConfig,
    worlds: Arc<dyn Worlds>,
    events: Arc<dyn Events>,
    effects: Arc<dyn Effects>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), TftpError> {
    Server::bind(config)?.run(worlds, events, effects, shutdown).await
}

async fn listen(listener: Listener, shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let mut peers = JoinSet::new();
    let mut failures: u32 = 0;
    loop {
        tokio::select! {
            () = stopped(&mut shutdown) => break,
            Some(ended) = peers.join_next(), if !peers.is_empty() => note(ended),
            received = listener.receive() => match received {
                Ok(received) => {
                    failures = 0;
                    arrived(&received, &shared, &mut peers);
                }
                Err(error) => {
                    tracing::warn!(address = %listener.address(), %error, "TFTP receive failed; going on");
                    failures = failures.saturating_add(1);
                    if failures >= FAILURES {
                        // An interface that is down fails at once, each time.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            },
        }
    }
    drop(listener);
    let rest = async {
        while let Some(ended) = peers.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(GRACE, rest).await.is_err() {
        tracing::warn!(
            transfers = peers.len(),
            "TFTP transfers are cut off: they did not end in time"
        );
        peers.shutdown().await;
    }
}

/// Resolves at the order to stop.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could give the order.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a TFTP transfer died");
    }
}

/// One datagram at the well-known port.
fn arrived(received: &Received, shared: &Arc<Shared>, peers: &mut JoinSet<()>) {
    let (peer, local) = (received.peer, received.local);
    let world = shared.worlds.world();
    let emit = |what| {
        shared.events.emit(Event {
            at: world.now,
            mac: None,
            system: None,
            peer: Some(IpAddr::V4(*peer.ip())),
            what,
        });
    };
    if let Err(why) = admit(&shared.config.networks, &world.config, peer, local) {
        tracing::debug!(%peer, %why, "TFTP datagram not answered");
        // Said for the machine whose network was forgotten; what is plainly forged is not worth an event.
        if let (NotServed::Network(_), Arrival::Read(request)) = (why, arrive(&received.bytes)) {
            let (file, reason) = (paths::redact_text(&request.name.to_string()), why.to_string());
            emit(What::TftpNotFound { file, reason });
        }
        return;
    }
    match arrive(&received.bytes) {
        Arrival::Read(request) => {
            let file = paths::redact_text(&request.name.to_string());
            match shared.registry.offer((peer, local), request) {
                Offered::Taken => {}
                Offered::New(seat) => {
                    peers.spawn(peer::attend(Arc::clone(shared), seat));
                }
                Offered::Full(limit) => {
                    let whose = if limit == TRANSFERS_PER_ADDRESS {
                        format!(" for {}, which machines behind one translating router share", peer.ip())
                    } else {
                        String::new()
                    };
                    let reason =
                        format!("{limit} transfers are under way already{whose}; the request waits for its repetition");
                    emit(What::TftpFailed { file, reason });
                }
            }
        }
        Arrival::Error { code, message } => {
            tracing::debug!(%peer, code = code.0, message, "TFTP datagram refused");
            if let Err(error) = socket::send_once(local, peer, &Packet::error(code, message)) {
                tracing::debug!(%peer, %error, "TFTP error not sent");
            }
        }
        Arrival::Noise => tracing::debug!(%peer, bytes = received.bytes.len(), "no TFTP request"),
    }
}
