//! What all hypervisors' threads share: the way to the daemon, the clock, the list of hypervisors, and who tells the daemon's timeline.
#![allow(
    clippy::disallowed_methods,
    reason = "IO: the list of hypervisors, a thread that tells the daemon"
)]

use super::host::{self, Handle};
use super::{Now, Options, SuperviseError};
use crate::event::control::{Client as Daemon, ClientError, News, SOCKET};
use crate::model::{Name, Timestamp};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Name of the file below the state folder that lists hypervisors with guests of ours, a URI each line.
const HOSTS: &str = "guest-hosts";
/// News that wait for the daemon; more are dropped, for the flow does not depend on them.
const WAITING: usize = 4096;
/// News in one message.
const AT_ONCE: usize = 16;
/// How long news gather, and how long the daemon is left alone when it does not answer.
const GATHER: Duration = Duration::from_millis(50);
const AWAY: Duration = Duration::from_secs(1);

/// What all threads share.
pub(super) struct Hub {
    state: PathBuf,
    now: Now,
    hosts: Mutex<BTreeMap<String, Handle>>,
    news: SyncSender<(Name, News)>,
}

/// A lock that a thread which panicked left behind is as good as any: what it guards is replaced whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Starts the thread that tells the daemon, and one for each known hypervisor.
    pub(super) fn start(options: Options) -> Result<Arc<Self>, SuperviseError> {
        let (news, told) = sync_channel(WAITING);
        let hub = Arc::new(Self {
            state: options.state,
            now: options.now,
            hosts: Mutex::new(BTreeMap::new()),
            news,
        });
        let daemon = hub.daemon_path();
        std::thread::Builder::new()
            .name("news".into())
            .spawn(move || tell(&daemon, &told))
            .map_err(SuperviseError::Start)?;
        let known = std::fs::read_to_string(hub.state.join(HOSTS)).unwrap_or_default();
        let known = known.lines().map(str::trim).filter(|line| !line.is_empty());
        for uri in known.map(str::to_owned).chain(options.hosts) {
            hub.host(&uri);
        }
        Ok(hub)
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.now)()
    }

    fn daemon_path(&self) -> PathBuf {
        self.state.join(SOCKET)
    }

    /// The daemon, if it runs.
    pub(super) fn daemon(&self) -> Result<Daemon, ClientError> {
        Daemon::connect(&self.daemon_path())
    }

    /// The thread of a hypervisor, started when it is asked for first.
    pub(super) fn host(self: &Arc<Self>, uri: &str) -> Handle {
        let mut hosts = lock(&self.hosts);
        if let Some(handle) = hosts.get(uri) {
            return handle.clone();
        }
        let handle = host::start(uri, Arc::clone(self));
        hosts.insert(uri.to_owned(), handle.clone());
        handle
    }

    /// Every hypervisor that is known.
    pub(super) fn hosts(&self) -> Vec<Handle> {
        lock(&self.hosts).values().cloned().collect()
    }

    /// Writes down that a hypervisor has guests of ours, so that the next supervisor looks there. Called before the first is defined.
    pub(super) fn note_host(&self, uri: &str) -> std::io::Result<()> {
        let _one_writer = lock(&self.hosts);
        let path = self.state.join(HOSTS);
        let mut text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        if text.lines().any(|line| line.trim() == uri) {
            return Ok(());
        }
        text.push_str(uri);
        text.push('\n');
        let partial = self.state.join(format!("{HOSTS}.new"));
        std::fs::write(&partial, text)?;
        std::fs::File::open(&partial)?.sync_all()?;
        std::fs::rename(&partial, &path)
    }

    /// Tells the daemon's timeline of a system. Never waits.
    pub(super) fn tell(&self, system: Option<&Name>, news: News) {
        if let Some(system) = system
            && self.news.try_send((system.clone(), news)).is_err()
        {
            tracing::debug!("the daemon takes no more news");
        }
    }
}

/// Tells the daemon, in order, a few at a time. What it does not take, because it is down, it gets when it is up.
fn tell(path: &std::path::Path, told: &Receiver<(Name, News)>) {
    let mut waiting: Vec<(Name, News)> = Vec::new();
    loop {
        let next = if waiting.is_empty() {
            told.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            told.recv_timeout(GATHER)
        };
        match next {
            Ok(one) => {
                waiting.push(one);
                if waiting.len() < AT_ONCE {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if waiting.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => {}
        }
        while let Some((system, _)) = waiting.first() {
            let system = system.clone();
            let count = waiting.iter().take(AT_ONCE).take_while(|(of, _)| *of == system).count();
            let news = waiting.iter().take(count).map(|(_, news)| news.clone()).collect();
            let taken = Daemon::connect(path).and_then(|daemon| daemon.tell(&system, news));
            match taken {
                Ok(()) | Err(ClientError::Refused(_)) => drop(waiting.drain(..count)),
                Err(_) if waiting.len() >= WAITING => waiting.clear(),
                Err(_) => {
                    // It is down: what comes meanwhile is gathered.
                    match told.recv_timeout(AWAY) {
                        Ok(one) => waiting.push(one),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            }
        }
    }
}
