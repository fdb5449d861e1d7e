//! DHCP on the wire: one socket per served interface and port, packets to the state task, replies back once their rows are on disk.
//!
//! It never answers from a packet that the wall refused, never sends an ACK before its lease is durable, and never ends for a bad packet.
#![expect(
    clippy::disallowed_methods,
    reason = "starts the tasks of its sockets and measures how long a commit takes"
)]

mod capture;
mod foreign;
pub mod links;
mod port;
pub mod probe;
mod prober;
mod socket;

use super::gate::{Gate, Glance, Judged};
use super::packet::{MessageType, Op, Packet};
use super::respond::{Link, Outcome, PROXY_PORT, Reply, SERVER_PORT, respond};
use super::wall;
use crate::boot::{Effect, World};
use crate::config::{Config, DhcpMode};
use crate::event::What;
use crate::install::Sighting;
use crate::model::Timestamp;
use crate::ports::{Class, Commit, Events, Job, Live, NotDurable, StateQueue, Worlds};
use arc_swap::ArcSwap;
use port::Port;
use socket::{Batch, Raw};
use std::future::Future;
use std::io;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How often the interfaces are looked at again: an address may change, an interface go and come back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why DHCP is not served.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// A port is not to be had.
    #[error(
        "port {port} of interface {interface} cannot be used: {source}; another DHCP server may run here (ss -ulpn; [dhcp] listen = \"packet\" goes past it), or CAP_NET_BIND_SERVICE is missing"
    )]
    Bind {
        /// The interface.
        interface: String,
        /// The UDP port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// A listener ended that must not.
    #[error("the DHCP listener of {0} ended")]
    Ended(String),
}

/// What DHCP counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Packets that came in.
    pub received: AtomicU64,
    /// Packets that the wall refused.
    pub rejected: AtomicU64,
    /// Options that were cut off, in packets that were served.
    pub bad_options: AtomicU64,
    /// Packets above a machine's rate.
    pub above_rate: AtomicU64,
    /// Packets of strangers above the rate of their port of a relay.
    pub above_port_rate: AtomicU64,
    /// Packets above the rate of all strangers.
    pub strangers_above_rate: AtomicU64,
    /// Addresses asked for on the wire.
    pub probes: AtomicU64,
    /// Addresses that somebody was found to have without a lease.
    pub in_use: AtomicU64,
    /// Addresses offered before the wire could be asked for them.
    pub unprobed: AtomicU64,
    /// Packets dropped because the state task had too much to do.
    pub dropped: AtomicU64,
    /// Replies sent.
    pub sent: AtomicU64,
    /// Replies that the kernel did not take.
    pub unsent: AtomicU64,
}

impl Counts {
    /// All of them, each with its word.
    #[must_use]
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("received", count(&self.received)),
            ("rejected", count(&self.rejected)),
            ("bad_options", count(&self.bad_options)),
            ("above_rate", count(&self.above_rate)),
            ("above_port_rate", count(&self.above_port_rate)),
            ("strangers_above_rate", count(&self.strangers_above_rate)),
            ("address_probes", count(&self.probes)),
            ("addresses_in_use", count(&self.in_use)),
            ("offered_unprobed", count(&self.unprobed)),
            ("dropped", count(&self.dropped)),
            ("sent", count(&self.sent)),
            ("unsent", count(&self.unsent)),
        ]
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// The DHCP server, bound.
pub struct Server {
    links: Vec<Bound>,
    shared: Arc<Shared>,
}

/// What every listener needs.
struct Shared {
    worlds: Arc<dyn Worlds>,
    queue: Arc<dyn StateQueue>,
    events: Arc<dyn Events>,
    raw: Option<Raw>,
    counts: Arc<Counts>,
    gate: Mutex<Gate>,
    /// Somebody else gives addresses, says a client: time to look.
    elsewhere: Notify,
}

/// One interface with its sockets.
struct Bound {
    link: Arc<ArcSwap<Link>>,
    ports: Vec<Arc<Port>>,
}

impl Server {
    /// Binds port 67 on every link, and in proxy mode port 4011. Call it inside the runtime.
    ///
    /// # Errors
    /// [`DhcpError::Bind`].
    pub fn bind(
        links: Vec<Link>,
        worlds: Arc<dyn Worlds>,
        queue: Arc<dyn StateQueue>,
        events: Arc<dyn Events>,
    ) -> Result<Self, DhcpError> {
        let config = worlds.world().config;
        let links = links
            .into_iter()
            .map(|link| Bound::new(link, &config))
            .collect::<Result<_, _>>()?;
        let raw = Raw::open()
            .inspect_err(|error| {
                tracing::warn!("no AF_PACKET socket ({error}; CAP_NET_RAW is missing): clients without an address are answered by broadcast");
            })
            .ok();
        Ok(Self {
            links,
            shared: Arc::new(Shared {
                worlds,
                queue,
                events,
                raw,
                counts: Arc::default(),
                gate: Mutex::default(),
                elsewhere: Notify::new(),
            }),
        })
    }

    /// What it counts, for metrics.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.shared.counts)
    }

    /// Serves until `shutdown` resolves. What the state task already has is still answered.
    ///
    /// # Errors
    /// [`DhcpError::Ended`] when a listener ends by itself.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), DhcpError> {
        let mut tasks = JoinSet::new();
        let links = self.links.iter().map(|bound| Arc::clone(&bound.link)).collect();
        let relayed = prober::behind_relays(links, Arc::clone(&self.shared));
        tasks.spawn(async {
            relayed.await;
            "the relays".to_owned()
        });
        for bound in self.links {
            tasks.spawn(keep(bound, Arc::clone(&self.shared)));
        }
        tokio::select! {
            () = shutdown => Ok(()),
            ended = tasks.join_next() => match ended {
                Some(Ok(name)) => Err(DhcpError::Ended(name)),
                Some(Err(error)) => Err(DhcpError::Ended(error.to_string())),
                // No link at all: nothing to serve until the end.
                None => Err(DhcpError::Ended("no interface".to_owned())),
            },
        }
    }
}

const fn ports(mode: DhcpMode) -> &'static [u16] {
    match mode {
        DhcpMode::Proxy => &[SERVER_PORT, PROXY_PORT],
        DhcpMode::Authoritative | DhcpMode::Off => &[SERVER_PORT],
    }
}

impl Bound {
    fn new(link: Link, config: &Config) -> Result<Self, DhcpError> {
        let shared = Arc::new(ArcSwap::from_pointee(link.clone()));
        let ports = ports(config.dhcp)
            .iter()
            .map(|number| {
                let port = Port::bind(Arc::clone(&shared), *number, config);
                port.map(Arc::new).map_err(|source| DhcpError::Bind {
                    interface: link.name.clone(),
                    port: *number,
                    source,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { link: shared, ports })
    }
}

/// Serves one interface for ever. When it goes and comes back under another index, its sockets are made anew.
async fn keep(mut bound: Bound, shared: Arc<Shared>) -> String {
    let name = bound.link.load().name.clone();
    loop {
        let mut listeners = JoinSet::new();
        for port in &bound.ports {
            listeners.spawn(listen(Arc::clone(port), Arc::clone(&shared)));
        }
        listeners.spawn(foreign::watch(Arc::clone(&bound.link), Arc::clone(&shared)));
        listeners.spawn(prober::on_link(Arc::clone(&bound.link), Arc::clone(&shared)));
        let changed = tokio::select! {
            _ = listeners.join_next() => return name,
            link = changed(&bound.link) => link,
        };
        listeners.shutdown().await;
        let config = shared.worlds.world().config;
        let mut link = Some(changed);
        // The old sockets hold no port of the new interface, so both may exist for a moment.
        bound = loop {
            match link.take().map(|link| Bound::new(link, &config)) {
                Some(Ok(bound)) => break bound,
                Some(Err(error)) => tracing::warn!("{error}"),
                None => {}
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            link = links::now(&name);
        };
        tracing::info!("interface {name} is back");
    }
}

/// Keeps the facts of `current` up to date; resolves when the interface is another one than before.
async fn changed(current: &ArcSwap<Link>) -> Link {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let before = current.load_full();
        match links::now(&before.name) {
            Some(link) if link.index != before.index => return link,
            Some(link) if link != *before => {
                let addresses: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
                let addresses = match addresses.as_slice() {
                    [] => "no IPv4 address".to_owned(),
                    some => some.join(", "),
                };
                tracing::info!("interface {} changed; it now has {addresses}", link.name);
                current.store(Arc::new(link));
            }
            // While it is away there is nothing to hear.
            Some(_) | None => {}
        }
    }
}

/// Takes packets from one socket for ever.
async fn listen(port: Arc<Port>, shared: Arc<Shared>) {
    let mut batch = Batch::new();
    loop {
        let link = port.link.load_full();
        if let Err(error) = port.receive(&link, &mut batch).await {
            // ENETDOWN and its like end by themselves; a pause keeps the log short until then.
            tracing::warn!("receiving on {} port {} failed: {error}", link.name, port.number);
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let world = shared.worlds.world();
        for taken in batch.datagrams() {
            match taken.and_then(|(bytes, source)| port.read(bytes, source, &link)) {
                Some((bytes, source)) => take(bytes, source, &world, &port, &link, &shared),
                None => count(&shared.counts.rejected, 1),
            }
        }
    }
}

/// One datagram: past the gate, through the wall, and to the state task.
fn take(bytes: &[u8], source: SocketAddrV4, world: &World, port: &Arc<Port>, link: &Arc<Link>, shared: &Arc<Shared>) {
    let counts = &shared.counts;
    count(&counts.received, 1);
    let glance = Glance::at(bytes);
    let known = glance
        .and_then(|glance| glance.mac)
        .is_some_and(|mac| world.inventory.system_by_mac(mac).is_some());
    if let Some(glance) = glance {
        let mut gate = shared.gate.lock().unwrap_or_else(PoisonError::into_inner);
        match gate.judge(&glance, known, world.now) {
            Judged::Passes => {}
            Judged::AboveRate => return count(&counts.above_rate, 1),
            Judged::AbovePortRate => return count(&counts.above_port_rate, 1),
            Judged::StrangersAboveRate => return count(&counts.strangers_above_rate, 1),
        }
    }
    let packet = match wall::parse(bytes) {
        Ok(packet) if packet.op == Op::Request => packet.arrived(source, port.number),
        Ok(_) => return,
        Err(error) => {
            count(&counts.rejected, 1);
            tracing::debug!("a packet from {source} was refused: {error}");
            return;
        }
    };
    count(&counts.bad_options, packet.bad_options.into());
    // When the queue fills, machines on record come first and DISCOVERs of strangers go first.
    let class = match packet.message() {
        Some(MessageType::Discover) if known => Class::KnownDiscover,
        Some(MessageType::Discover) => Class::Discover,
        _ => Class::Request,
    };
    let job = job(packet, Arc::clone(port), Arc::clone(link), Arc::clone(shared));
    if !shared.queue.submit(class, world.now, job) {
        count(&counts.dropped, 1);
    }
}

/// The work of one packet in the state task.
fn job(packet: Packet, port: Arc<Port>, link: Arc<Link>, shared: Arc<Shared>) -> Job {
    Box::new(move |live: &mut Live, now: Timestamp| {
        let begun = Instant::now();
        let mut world = shared.worlds.world();
        world.now = now;
        let mut outcome = respond(&world, &link, &mut live.leases, &packet, now);
        count(&shared.counts.unprobed, live.leases.take_unprobed());
        for effect in std::mem::take(&mut outcome.effects) {
            match effect {
                Effect::Seen {
                    mac,
                    address,
                    firmware,
                    loader,
                } => {
                    live.installs.saw(
                        address,
                        Sighting {
                            mac,
                            firmware,
                            loader,
                            asked: now,
                            at: now,
                        },
                    );
                }
                // A boot file claims nothing; only a script, a file or a report does.
                Effect::Install { .. } => {}
            }
        }
        let (rows, undo) = outcome
            .change
            .take()
            .map_or_else(Default::default, |change| (change.rows, change.undo));
        let stored = !rows.is_empty();
        let is_offer = outcome.reply.is_some() && !stored && packet.message() == Some(MessageType::Discover);
        let finish = move |result: Result<(), NotDurable>| {
            let took = stored.then(|| Instant::now().saturating_duration_since(begun));
            finish(outcome, result, took, &port, &link, &shared);
        };
        if is_offer {
            // It promises nothing beyond the hold in memory, so it waits for no disk.
            finish(Ok(()));
            return Commit {
                rows,
                undo,
                then: Box::new(|_| {}),
            };
        }
        Commit {
            rows,
            undo,
            then: Box::new(finish),
        }
    })
}

/// Sends what may be sent now, and says what happened.
fn finish(
    outcome: Outcome,
    result: Result<(), NotDurable>,
    took: Option<Duration>,
    port: &Port,
    link: &Link,
    shared: &Shared,
) {
    let reply = match &result {
        Ok(()) => outcome.reply,
        Err(_) => outcome.fallback,
    };
    if let Some(reply) = &reply {
        transmit(reply, port, link, shared);
    }
    for mut event in outcome.events {
        if matches!(event.what, What::DhcpForeignServer { .. }) {
            shared.elsewhere.notify_waiters();
        }
        match (&mut event.what, &result) {
            (What::DhcpAnswered { durable_us, .. }, Ok(())) => {
                *durable_us = took.and_then(|took| u64::try_from(took.as_micros()).ok());
            }
            (What::DhcpAnswered { rule, .. }, Err(error)) if reply.is_some() => {
                *rule = format!("{error}: only for the time that the stored lease has left");
            }
            (What::DhcpAnswered { message, .. }, Err(error)) => {
                let (message, reason) = (message.clone(), error.to_string());
                event.what = What::DhcpIgnored { message, reason };
            }
            _ => {}
        }
        shared.events.emit(event);
    }
}

fn transmit(reply: &Reply, port: &Port, link: &Link, shared: &Shared) {
    match port.send(reply, shared.raw.as_ref(), link) {
        Ok(()) => count(&shared.counts.sent, 1),
        Err(error) => {
            count(&shared.counts.unsent, 1);
            tracing::warn!(
                "a reply to {:?} on {} was not sent: {error}",
                reply.destination,
                link.name
            );
        }
    }
}
