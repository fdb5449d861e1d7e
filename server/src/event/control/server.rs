//! The daemon's side of the control socket.
#![allow(
    clippy::disallowed_methods,
    reason = "IO: a unix socket, its permissions, and a task per question"
)]

mod guest;

use super::{Answer, LONGEST, MediaFile, News, Request, Seen, Standing};
use crate::distro::tree::{self, Opened, TreeFile};
use crate::event::sink::Sink;
use crate::event::timeline::{self, Ending, Machine};
use crate::event::{Event, What};
use crate::inventory::resolve_system;
use crate::model::{ArmId, Mac, Name, State};
use crate::ports::{Launches, Worlds};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

/// Questions at a time; more wait in the kernel.
const MOST: usize = 64;
/// How long a question may take to arrive, and a line of the answer to leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for a version, in milliseconds.
const LONGEST_WAIT: u64 = 30_000;

/// The control socket, bound.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    asked: Asked,
}

#[derive(Clone)]
struct Asked {
    sink: Arc<Sink>,
    worlds: Arc<dyn Worlds>,
    live: watch::Receiver<u64>,
    launches: Option<Arc<dyn Launches>>,
    synced: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked")
            .field("live", &*self.live.borrow())
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Binds `path`, for the owner and the group only. A socket that nobody answers at any more is taken over. Must be called within
    /// a tokio runtime.
    ///
    /// # Errors
    /// `AddrInUse` when a daemon answers there; else what the kernel says.
    pub fn bind(path: &Path, sink: Arc<Sink>, worlds: Arc<dyn Worlds>, live: watch::Receiver<u64>) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_socket() => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
                }
                std::fs::remove_file(path)?;
            }
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "it exists and is no socket",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            asked: Asked {
                sink,
                worlds,
                live,
                launches: None,
                synced: None,
            },
        })
    }

    /// Lets the supervisor of guests claim armings.
    #[must_use]
    pub fn launching(mut self, launches: Arc<dyn Launches>) -> Self {
        self.asked.launches = Some(launches);
        self
    }

    /// Calls this whenever a sync is asked for.
    #[must_use]
    pub fn hearing_syncs(mut self, synced: Arc<dyn Fn() + Send + Sync>) -> Self {
        self.asked.synced = Some(synced);
        self
    }

    /// Answers until `shutdown` is true or its sender is gone; then the socket is removed.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut talks = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if talks.len() < MOST => match accepted {
                    Ok((stream, _)) => {
                        talks.spawn(talk(stream, self.asked.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the control socket cannot be answered for now");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = talks.join_next() => {}
                // An error means that the sender is gone, and with it whoever could ask.
                () = async { drop(shutdown.wait_for(|asked| *asked).await) } => break,
            }
        }
        talks.shutdown().await;
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket was gone already");
        }
    }
}

/// Writes lines to one asker.
struct Lines(BufWriter<OwnedWriteHalf>);

impl Lines {
    async fn put(&mut self, answer: &Answer) -> io::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        timeout(PATIENCE, self.0.write_all(&line)).await?
    }

    async fn flush(&mut self) -> io::Result<()> {
        timeout(PATIENCE, self.0.flush()).await?
    }
}

async fn talk(stream: UnixStream, asked: Asked) {
    let (read, write) = stream.into_split();
    let mut lines = Lines(BufWriter::new(write));
    let mut read = BufReader::new(read);
    let ended = match timeout(PATIENCE, request(&mut read)).await {
        Ok(Ok(request)) => answer(request, &asked, &mut lines, read).await,
        Ok(Err(error)) => lines.put(&Answer::Error(error)).await,
        Err(_) => Ok(()),
    };
    // Whoever asked may have gone; that is his to know.
    if ended.is_ok() {
        let _ = lines.flush().await;
    }
}

async fn request(read: &mut BufReader<OwnedReadHalf>) -> Result<Request, String> {
    let mut line = String::new();
    let taken = read.take(LONGEST).read_line(&mut line).await;
    taken.map_err(|error| error.to_string())?;
    serde_json::from_str(&line).map_err(|_| {
        "the daemon does not know this question; are the command and the daemon of the same version?".to_owned()
    })
}

async fn answer(request: Request, asked: &Asked, lines: &mut Lines, read: BufReader<OwnedReadHalf>) -> io::Result<()> {
    match request {
        Request::Trace { trace, follow } => {
            let Some(whom) = whom(asked, &trace) else {
                let text = format!(
                    "there is no system `{trace}`, and it is no MAC address; `cordwainer system list` names them"
                );
                return lines.put(&Answer::Error(text)).await;
            };
            tell(asked, whom, follow, lines, read).await
        }
        Request::Status { .. } => {
            for event in asked.sink.rivals() {
                lines.put(&Answer::Event(Box::new(Event::clone(&event)))).await?;
            }
            for seen in seen(asked) {
                lines.put(&Answer::Seen(seen)).await?;
            }
            Ok(())
        }
        Request::Live { live, wait } => {
            let mut served = asked.live.clone();
            let wait = Duration::from_millis(wait.min(LONGEST_WAIT));
            let is = timeout(wait, served.wait_for(|version| *version >= live))
                .await
                .is_ok_and(|reached| reached.is_ok());
            // With no time to wait, what is true now counts.
            let is = is || *asked.live.borrow() >= live;
            lines.put(&Answer::Live(is)).await
        }
        Request::Synced { .. } => {
            if let Some(synced) = &asked.synced {
                synced();
            }
            lines.put(&Answer::Taken).await
        }
        Request::Launch {
            launch,
            mac,
            server,
            behind,
        } => {
            let Some(launches) = &asked.launches else {
                return lines
                    .put(&Answer::Error("this daemon starts no guests".to_owned()))
                    .await;
            };
            let answer = match launches.launch(launch, mac, server, behind).await {
                Ok(launching) => Answer::Launching(Box::new(launching)),
                Err(why) => Answer::Error(why),
            };
            lines.put(&answer).await
        }
        Request::Media { media } => guest::bytes(asked, media, lines).await,
        Request::Standing {
            standing,
            arm,
            unlike,
            wait,
        } => {
            let wait = Duration::from_millis(wait.min(LONGEST_WAIT));
            let now = guest::standing(asked, &standing, &arm, unlike.as_ref(), wait).await;
            lines.put(&Answer::Standing(now)).await
        }
        Request::Tell { tell, news } => {
            guest::take(asked, &tell, news);
            lines.put(&Answer::Taken).await
        }
    }
}

/// Who is meant.
struct Whom {
    system: Option<Name>,
    macs: Vec<Mac>,
}

impl Whom {
    fn is_of(&self, event: &Event) -> bool {
        let named = event.system.is_some() && event.system == self.system;
        named || event.mac.is_some_and(|mac| self.macs.contains(&mac))
    }
}

fn whom(asked: &Asked, text: &str) -> Option<Whom> {
    let world = asked.worlds.world();
    let mac = text.parse::<Mac>().ok();
    let system = world
        .inventory
        .system(text)
        .or_else(|| mac.and_then(|mac| world.inventory.system_by_mac(mac)));
    if let Some(system) = system {
        return Some(Whom {
            system: Some(system.name.clone()),
            macs: system.macs().collect(),
        });
    }
    mac.map(|mac| Whom {
        system: None,
        macs: vec![mac],
    })
}

/// Every event of a machine that is in memory.
fn remembered(sink: &Sink, whom: &Whom) -> Vec<Arc<Event>> {
    let mut events = sink.events_of(whom.system.as_ref(), None);
    for mac in &whom.macs {
        for event in sink.events_of(None, Some(*mac)) {
            if !events.iter().any(|seen| Arc::ptr_eq(seen, &event)) {
                events.push(event);
            }
        }
    }
    events.sort_by_key(|event| event.at);
    events
}

async fn tell(
    asked: &Asked,
    whom: Whom,
    follow: bool,
    lines: &mut Lines,
    mut read: BufReader<OwnedReadHalf>,
) -> io::Result<()> {
    // Subscribed first: what happens while the past is told is not lost.
    let mut coming = asked.sink.follow();
    lines.put(&Answer::Machine(Box::new(machine(asked, &whom)))).await?;
    let past = remembered(&asked.sink, &whom);
    let mut events: Vec<Event> = past.iter().map(|event| (**event).clone()).collect();
    if events.is_empty() {
        let (sink, system, macs) = (asked.sink.clone(), whom.system.clone(), whom.macs.clone());
        let look = move || sink.stored_boot(system.as_ref(), macs.first().copied());
        match spawn_blocking(look).await {
            Ok(Ok(stored)) => events = stored,
            Ok(Err(error)) => tracing::warn!(%error, "events.db cannot be read"),
            Err(error) => tracing::warn!(%error, "events.db cannot be read"),
        }
    }
    for event in timeline::last_boot(&events) {
        lines.put(&Answer::Event(Box::new(event.clone()))).await?;
    }
    if !follow {
        return Ok(());
    }
    lines.put(&Answer::Past).await?;
    lines.flush().await?;
    let mut rest = [0_u8; 64];
    loop {
        let received = tokio::select! {
            received = coming.recv() => received,
            // The asker says nothing more, so what is read is his end.
            read = read.read(&mut rest) => match read {
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => continue,
            },
        };
        match received {
            Ok(event) if whom.is_of(&event) && !past.iter().any(|told| Arc::ptr_eq(told, &event)) => {
                lines.put(&Answer::Event(Box::new((*event).clone()))).await?;
            }
            Ok(_) => continue,
            Err(broadcast::error::RecvError::Lagged(lost)) => lines.put(&Answer::Dropped(lost)).await?,
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
        lines.flush().await?;
    }
}

/// The machine as the records have it.
fn machine(asked: &Asked, whom: &Whom) -> Machine {
    let world = asked.worlds.world();
    let name = whom.system.as_ref().map_or("", Name::as_str);
    let system = world.inventory.system(name);
    let arm = world.inventory.arm(name);
    let installation = whom.system.as_ref().and_then(|name| world.installs.by_system.get(name));
    let standing = match (arm, installation) {
        (Some(arm), Some(seen)) if seen.arm == arm.id => Some(seen.state.to_string()),
        (Some(arm), _) if arm.is_in_force(world.now) => {
            let until = arm.until.clock();
            let (minute, _) = until.split_at_checked(5).unwrap_or((&until, ""));
            Some(format!("armed by {} until {minute}", arm.by))
        }
        (_, Some(seen)) => Some(seen.state.to_string()),
        _ => system.map(|_| "not armed".to_owned()),
    };
    let min_ram_mib = resolve_system(&world.inventory, name).ok().and_then(|resolved| {
        let signature = world.assets.signature_of(&resolved.distro)?;
        signature.min_ram_for(&resolved.distro.os_version)
    });
    Machine {
        system: whom.system.clone(),
        mac: whom.macs.first().copied(),
        profile: system.and_then(|system| system.base()).map(|(_, name)| name.clone()),
        standing,
        min_ram_mib,
    }
}

/// True when the machine itself did something; an arming alone is no boot.
fn came(boot: &[Event]) -> bool {
    let by_admin = |event: &Event| matches!(event.what, What::Armed { .. } | What::Disarmed);
    !boot.iter().all(by_admin)
}

/// The machines that were armed, as their latest boot in memory shows them.
fn seen(asked: &Asked) -> Vec<Seen> {
    let world = asked.worlds.world();
    let mut all = Vec::new();
    for arm in world.inventory.arms() {
        let events = asked.sink.events_of(Some(&arm.system), None);
        let events: Vec<Event> = events.iter().map(|event| (**event).clone()).collect();
        let boots = timeline::boots(&events);
        let Some(boot) = boots.last() else { continue };
        let machine = Machine {
            system: Some(arm.system.clone()),
            ..Machine::default()
        };
        let (step, stopped) = match timeline::timeline(boot, &machine, world.now).ending {
            Ending::Nothing => continue,
            Ending::Over(how) => (how.trim_end_matches('.').to_owned(), false),
            Ending::GoingOn { next, .. } => (format!("next: {next}"), false),
            Ending::Stopped { what, .. } => (what, true),
        };
        all.push(Seen {
            system: arm.system.clone(),
            step,
            stopped,
            boots: u32::try_from(boots.iter().filter(|boot| came(boot)).count()).unwrap_or(u32::MAX),
        });
    }
    all
}
