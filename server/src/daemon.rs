//! `cordwainer serve`: the only file that wires everything. Binds first, loads, says READY, then serves until told to stop.
//!
//! A task that dies ends the process: there is no half-alive server. A missing kernel, loader or template never does.

mod guests;
mod heartbeat;
mod hooks;
mod inventory_watch;
mod power;
mod slice;
mod snapshots;
mod state;
mod texts;
mod writes;

use crate::assets::watch::Watcher;
use crate::config::{Config, DhcpMode};
use crate::dhcp::{self, Advertiser, Link};
use crate::event::control::{Control, SOCKET};
use crate::event::metrics::Metrics;
use crate::event::sink::Sink;
use crate::event::{Event, What};
use crate::http;
use crate::model::{Advertise, Subnet};
use crate::ports::{Events, Rpc, Worlds};
use crate::store::clock::Clock;
use crate::store::{StateTask, StoreError};
use crate::tftp;
use crate::xmlrpc::Face;
use arc_swap::ArcSwap;
use ipnet::Ipv4Net;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use snapshots::Snapshots;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Descriptors for 8,192 HTTP connections, a file for each, and 4,096 TFTP transfers with theirs.
const DESCRIPTORS: u64 = 32_768;

/// How the daemon is started, beside its configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Start as DHCP server although another one answers (`--i-own-this-subnet`).
    pub own_this_subnet: bool,
}

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An interface cannot be served.
    #[error(transparent)]
    Link(#[from] dhcp::LinkError),
    /// A DHCP socket.
    #[error(transparent)]
    Dhcp(#[from] dhcp::DhcpError),
    /// A TFTP socket.
    #[error(transparent)]
    Tftp(#[from] tftp::serve::TftpError),
    /// An HTTP socket.
    #[error(transparent)]
    Http(#[from] http::serve::BindError),
    /// The control socket.
    #[error("cannot listen at {path}: {source}; the CLI talks to the daemon there", path = .path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The runtime or a signal handler.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    /// Another DHCP server answers where we should give the addresses.
    #[error(
        "another DHCP server, {server}, answers on {interface}; two servers give the same address twice. Stop it, run as proxy ([dhcp] mode = \"proxy\"), or say --i-own-this-subnet"
    )]
    ForeignServer {
        /// Its identifier.
        server: Ipv4Addr,
        /// Where.
        interface: String,
    },
    /// A part died.
    #[error("{part} ended: {why}; the server stops, so that nothing is served by half")]
    Died {
        /// Which.
        part: &'static str,
        /// Why.
        why: String,
    },
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`], with the remedy.
pub fn serve(config: Config, options: Options) -> Result<(), DaemonError> {
    // Before the first thread: they take it over.
    if let Err(error) = slice::shorten() {
        tracing::debug!("on a busy host answers may wait for their turn: {error}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(DaemonError::Runtime)?;
    let result = runtime.block_on(run(Arc::new(config), options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Takes as many descriptors as the system lets us have: a shell gives 1,024, which 1,024 idle HTTP clients would use up, and then
/// no machine gets a TFTP socket.
fn take_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(DESCRIPTORS);
        if soft < wanted {
            setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
        } else {
            Ok(())
        }
    });
    if let Err(error) = raised {
        tracing::warn!("no more descriptors are to be had than the shell gave: {error}");
    }
}

/// A core dump would hold the server key and password hashes, wherever the kernel puts it.
fn leave_no_core() {
    let limited = setrlimit(Resource::RLIMIT_CORE, 0, 0).and_then(|()| nix::sys::prctl::set_dumpable(false));
    if let Err(error) = limited {
        tracing::warn!("a crash may leave a core dump, and secrets in it: {error}");
    }
}

async fn run(config: Arc<Config>, options: Options) -> Result<(), DaemonError> {
    leave_no_core();
    take_descriptors();
    let mut stops = Stops::new().map_err(DaemonError::Runtime)?;
    // A limit on the size of files (ulimit -f) would kill the process; heard, the signal lets the write fail as on a full disk.
    let _heard = signal(SignalKind::from_raw(nix::libc::SIGXFSZ)).map_err(DaemonError::Runtime)?;
    let clock = Clock::start();
    let Some(opened) = state::open_with_patience(&config.state, clock, &mut stops).await? else {
        return Ok(());
    };
    let absent = opened.absent;
    let metrics = Arc::new(Metrics::new());
    let sink = Sink::open(
        Some(config.state.join("events.db")),
        metrics.clone(),
        Box::new(move || clock.now()),
    );
    let events: Arc<dyn Events> = sink.clone();

    let links = match (config.dhcp, config.interfaces.is_empty()) {
        // Without DHCP nothing needs an interface by name.
        (DhcpMode::Off, true) => Vec::new(),
        _ => dhcp::links::served(&config)?,
    };
    let authoritative = config.dhcp == DhcpMode::Authoritative;
    let just_here = absent.is_some_and(|absent| absent < heartbeat::JUST_HERE);
    // We served here a moment ago: machines wait, and the DHCP server looks for others by itself once it serves.
    if authoritative && !options.own_this_subnet && !just_here {
        tracing::info!("looking for other DHCP servers for {} s", dhcp::probe::WAIT.as_secs());
        alone(&links, &events, clock).await?;
    }

    let state::Opened {
        folder,
        // Held until the end.
        lock: _lock,
        mut db,
        mut inventory,
        version,
        recovered,
        ..
    } = opened;
    inventory_watch::tell_damaged(&mut db, &events, clock);
    recovered.told.into_iter().for_each(|event| events.emit(event));
    let key = recovered.key;
    inventory.defaults = Arc::new(config.defaults.clone());
    let (state, state_thread) = StateTask::start(recovered.live, clock, config.install_timeout.0, events.clone())?;
    let state = Arc::new(state);
    let mut watcher = Watcher::new(config.clone());
    let assets = watcher.look(&inventory);
    let snapshots = Arc::new(Snapshots {
        config: config.clone(),
        inventory: ArcSwap::from_pointee(inventory),
        installs: state.view(),
        assets: ArcSwap::from_pointee(assets),
        key: Arc::new(key),
        clock,
    });
    let worlds: Arc<dyn Worlds> = snapshots.clone();

    // Bind everything before anything is served: a port that is taken is an error at once, not a server by half.
    let networks = served_networks(&links, &config);
    let any = Ipv4Addr::UNSPECIFIED;
    let tftp = tftp::serve::Server::bind(tftp::serve::TftpConfig {
        listen: vec![SocketAddrV4::new(any, config.tftp_port)],
        mtu: links
            .iter()
            .map(|link| link.mtu)
            .min()
            .and_then(|mtu| u16::try_from(mtu).ok())
            .unwrap_or(1500),
        networks: networks.clone(),
    })?
    .counting(metrics.tftp_transfers.clone());
    let (live, served) = watch::channel(version);
    let (hooks, told) = hooks::teller();
    let look = Arc::new(inventory_watch::Look::new());
    let mut listen = vec![SocketAddr::from((any, config.http_port))];
    if config.cobbler.api && config.cobbler.port != 0 {
        listen.push(SocketAddr::from((Ipv4Addr::LOCALHOST, config.cobbler.port)));
    }
    let http = http::serve::Server::bind(
        http::serve::Options {
            metrics_listen: config.metrics_listen,
            ..http::serve::Options::new(listen, networks)
        },
        http::serve::Ports {
            worlds: worlds.clone(),
            effects: state.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
            rpc: config.cobbler.api.then(|| {
                let writer =
                    writes::Writer::new(folder.clone(), config.overrides.clone(), look.clone(), served.clone())
                        .telling(hooks.clone());
                let powers = power::Supervised {
                    state: config.state.clone(),
                    allowed: config.cobbler.power,
                };
                let face: Arc<dyn Rpc> = Arc::new(Face::new(worlds.clone(), Arc::new(writer), Arc::new(powers)));
                face
            }),
        },
    )?;
    let dhcp = match config.dhcp {
        DhcpMode::Off => None,
        _ => Some(dhcp::Server::bind(
            links.clone(),
            worlds.clone(),
            state.clone(),
            events.clone(),
        )?),
    };
    let socket = config.state.join(SOCKET);
    let control = Control::bind(&socket, sink.clone(), worlds.clone(), served)
        .map_err(|source| DaemonError::Control { path: socket, source })?
        .launching(Arc::new(guests::Guests {
            worlds: worlds.clone(),
            effects: state.clone(),
        }))
        .hearing_syncs({
            let hooks = hooks.clone();
            Arc::new(move || hooks.tell(hooks::Told::Synced))
        });

    let what = describe(&config, &links, http.local_addr(), tftp.local_addr());
    let (stop, stopped) = watch::channel(false);
    let mut parts: JoinSet<(&'static str, Result<(), String>)> = JoinSet::new();
    parts.spawn(part(
        "TFTP",
        tftp.run(worlds.clone(), events.clone(), state.clone(), stopped.clone()),
    ));
    parts.spawn(part("HTTP", never_fails(http.run(stopped.clone()))));
    if let Some(dhcp) = dhcp {
        let counts = dhcp.counts();
        metrics.read_dhcp(Box::new(move || counts.read()));
        parts.spawn(part("DHCP", dhcp.run(until(stopped.clone()))));
    }
    for advertiser in advertisers(&links, &config) {
        parts.spawn(part(
            "router advertisements",
            never_fails(advertiser.run(stopped.clone())),
        ));
    }
    let watch = inventory_watch::run(
        db,
        version,
        snapshots.clone(),
        watcher,
        events.clone(),
        inventory_watch::Served { live, look, hooks },
        stopped.clone(),
    );
    parts.spawn(part("inventory watch", watch));
    if authoritative && !options.own_this_subnet {
        // Only who looked and found himself alone leaves the mark: a proxy's, or one left by force, would vouch for a stranger.
        let alive = heartbeat::run(folder.path().to_owned(), stopped.clone());
        parts.spawn(part("heartbeat", never_fails(alive)));
    }
    let state_ended = tokio::task::spawn_blocking(move || drop(state_thread.join()));
    tokio::pin!(state_ended);
    parts.spawn(part("control socket", never_fails(control.run(stopped.clone()))));
    parts.spawn(part(
        "watchdog",
        never_fails(watchdog(state.clone(), clock, stopped.clone())),
    ));

    parts.spawn(part(
        "hooks",
        never_fails(hooks::run(
            config.overrides.clone(),
            sink.follow(),
            told,
            worlds.clone(),
            stopped.clone(),
        )),
    ));

    events.emit(now(clock, What::Started { what }));
    ready();

    let ended = tokio::select! {
        () = stops.first() => Ok(()),
        Some(died) = parts.join_next() => Err(died),
        _ = &mut state_ended => Err(Ok(("the state task", Err("its thread ended".to_owned())))),
    };
    events.emit(now(clock, What::Stopping));
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
    stop.send_replace(true);
    let result = match ended {
        Ok(()) => {
            tokio::select! {
                () = async { while parts.join_next().await.is_some() {} } => (),
                // A second signal: at once.
                () = stops.first() => (),
                () = tokio::time::sleep(Duration::from_secs(12)) => (),
            }
            Ok(())
        }
        Err(Ok((part, result))) => Err(DaemonError::Died {
            part,
            why: result.err().unwrap_or_else(|| "without a reason".to_owned()),
        }),
        Err(Err(panicked)) => Err(DaemonError::Died {
            part: "a task",
            why: panicked.to_string(),
        }),
    };
    parts.shutdown().await;
    // The state task ends when its last handle is gone: everything queued is on disk then.
    drop((state, worlds, snapshots));
    if result.is_ok() {
        drop(tokio::time::timeout(Duration::from_secs(10), state_ended).await);
    }
    sink.close();
    result
}

/// The two signals that end the daemon.
struct Stops {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stops {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn first(&mut self) {
        tokio::select! {
            _ = self.term.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

async fn part<E: std::fmt::Display>(
    name: &'static str,
    run: impl Future<Output = Result<(), E>>,
) -> (&'static str, Result<(), String>) {
    (name, run.await.map_err(|error| error.to_string()))
}

async fn never_fails(run: impl Future<Output = ()>) -> Result<(), std::convert::Infallible> {
    run.await;
    Ok(())
}

async fn until(mut stopped: watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}

fn now(clock: Clock, what: What) -> Event {
    Event {
        at: clock.now(),
        mac: None,
        system: None,
        peer: None,
        what,
    }
}

/// Refuses to give addresses beside another server (DESIGN 5).
async fn alone(links: &[Link], events: &Arc<dyn Events>, clock: Clock) -> Result<(), DaemonError> {
    let probes = links
        .iter()
        .cloned()
        .map(|link| tokio::task::spawn_blocking(move || (dhcp::probe::probe(&link, dhcp::probe::WAIT), link.name)));
    for probe in probes.collect::<Vec<_>>() {
        let Ok((found, interface)) = probe.await else { continue };
        if let Some(other) = found?.into_iter().next() {
            let what = What::DhcpForeignServer {
                server: other.server,
                offered: Some(other.offered),
                file: other.file,
                hardware: other.hardware,
            };
            events.emit(now(clock, what));
            return Err(DaemonError::ForeignServer {
                server: other.server,
                interface,
            });
        }
    }
    Ok(())
}

/// Networks whose machines are served: the interfaces', every subnet, and what the admin allows beside (DESIGN 5).
fn served_networks(links: &[Link], config: &Config) -> Vec<Ipv4Net> {
    let mut networks: Vec<Ipv4Net> = links
        .iter()
        .flat_map(|link| link.addresses.iter().map(Ipv4Net::trunc))
        .collect();
    networks.extend(config.subnets.iter().map(|subnet| subnet.network));
    networks.extend(&config.allow);
    networks
}

fn advertisers(links: &[Link], config: &Config) -> Vec<Advertiser> {
    let wanted = |link: &Link| {
        let on_link = |subnet: &&Subnet| {
            let mut addresses = link.addresses.iter();
            addresses.any(|address| subnet.network.contains(&address.addr()))
        };
        let mut choices: Vec<Advertise> = config
            .subnets
            .iter()
            .filter(on_link)
            .map(|subnet| subnet.router_advertisements)
            .collect();
        // Beside another DHCP server the link is somebody else's.
        choices.retain(|choice| *choice != Advertise::Auto || config.dhcp == DhcpMode::Authoritative);
        [Advertise::On, Advertise::Auto]
            .into_iter()
            .find(|choice| choices.contains(choice))
    };
    let bind = |link: &Link| {
        let insists = wanted(link)? == Advertise::On;
        Advertiser::bind(link, insists)
            .inspect_err(|error| {
                let what = format!(
                    "no router advertisements on {}: {error}; iPXE waits 16 s there",
                    link.name
                );
                if insists {
                    tracing::warn!("{what}");
                } else {
                    tracing::info!("{what}");
                }
            })
            .ok()
    };
    links.iter().filter_map(bind).collect()
}

/// What is served, in a sentence, with the addresses that were really bound.
fn describe(config: &Config, links: &[Link], http: Option<SocketAddr>, tftp: Option<SocketAddrV4>) -> String {
    let interfaces: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    let dhcp = match config.dhcp {
        DhcpMode::Off => "no DHCP".to_owned(),
        DhcpMode::Proxy => format!(
            "proxyDHCP on {}: boot information for known machines, addresses are another server's",
            interfaces.join(", ")
        ),
        DhcpMode::Authoritative => format!("DHCP on {}", interfaces.join(", ")),
    };
    let port = |port: Option<u16>| port.map_or_else(|| "?".to_owned(), |port| port.to_string());
    format!(
        "{dhcp}; http port {}, tftp port {}",
        port(http.map(|at| at.port())),
        port(tftp.map(|at| at.port()))
    )
}

/// Tells systemd that everything is bound and loaded.
fn ready() {
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
}

/// Feeds systemd's watchdog through the state task's queue: a stuck packet loop or disk starves it, a timer alone would not.
async fn watchdog(state: Arc<StateTask>, clock: Clock, mut stopped: watch::Receiver<bool>) {
    use crate::ports::{Class, Commit, StateQueue as _};
    let Some(period) = sd_notify::watchdog_enabled().and_then(|limit| limit.checked_div(3)) else {
        return until(stopped).await;
    };
    loop {
        let fed = state.submit(
            Class::Effect,
            clock.now(),
            Box::new(|_, _| Commit {
                rows: Vec::new(),
                undo: Vec::new(),
                then: Box::new(|_| drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog]))),
            }),
        );
        if !fed {
            tracing::warn!("the state task takes no more work");
        }
        tokio::select! {
            () = tokio::time::sleep(period) => (),
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}
