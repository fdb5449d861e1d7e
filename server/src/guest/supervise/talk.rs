//! One question to the supervisor, from who asks to the last line of the answer.
#![allow(clippy::disallowed_methods, reason = "IO: a unix socket, libvirt")]

use super::host::{Follower, Handle, Listener, Message};
use super::hub::Hub;
use super::{look, power};
use crate::guest::domain_xml;
use crate::guest::driver::{DriverError, Hypervisor};
use crate::guest::flow::{Job, Phase, Proof};
use crate::guest::metadata::Metadata;
use crate::guest::protocol::{Act, Guest, LONGEST, Reply, Request, Which};
use crate::guest::spec::{Origin, Spec, Uuid};
use crate::model::Power;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long a question may take to arrive, and a line of the answer to leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a hypervisor may take to give its connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The same where every hypervisor is looked at: a dead one holds up the list only so long.
const GLANCE: Duration = Duration::from_secs(3);
/// How long a guest that powers off may take to be off.
const OFF: Duration = Duration::from_secs(20);

/// What may be asked over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    /// All there is.
    Everything,
    /// [`Request::Power`].
    Power,
}

/// Why a question ends early.
pub(super) enum Stopped {
    /// Refused, in a sentence.
    Refused(String),
    /// Whoever asked has gone.
    Gone,
}

impl From<DriverError> for Stopped {
    fn from(error: DriverError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Answers one connection.
pub(super) fn talk(stream: &UnixStream, hub: &Arc<Hub>, may: May) {
    let ended = question(stream).and_then(|request| {
        let who = getsockopt(stream, PeerCredentials).map_or(u32::MAX, |peer| peer.uid());
        if changes(&request) {
            tracing::info!(uid = who, ?request, "asked");
        }
        if may == May::Power && !matches!(request, Request::Power { .. }) {
            return Err(Stopped::Refused(
                "root alone may ask this (--root-only); the server's own account may ask for the power of guests"
                    .to_owned(),
            ));
        }
        let mut lines = Lines(stream);
        answer(request, hub, &mut lines)
    });
    if let Err(Stopped::Refused(text)) = ended {
        drop(Lines(stream).put(&Reply::Refused { text }));
    }
}

const fn changes(request: &Request) -> bool {
    matches!(
        request,
        Request::Act { .. }
            | Request::Power {
                power: Power::On | Power::Off | Power::Reboot,
                ..
            }
            | Request::Delete { .. }
            | Request::Migrate { .. }
            | Request::Adopt { .. }
    )
}

fn question(stream: &UnixStream) -> Result<Request, Stopped> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    if line.is_empty() {
        return Err(Stopped::Gone);
    }
    serde_json::from_str(&line).map_err(|_| {
        Stopped::Refused(
            "the supervisor does not know this question; are the command and the supervisor of the same version?"
                .to_owned(),
        )
    })
}

/// Writes lines to one asker.
pub(super) struct Lines<'a>(&'a UnixStream);

impl Lines<'_> {
    pub(super) fn put(&mut self, reply: &Reply) -> Result<(), Stopped> {
        let mut line = serde_json::to_vec(reply).map_err(|error| Stopped::Refused(error.to_string()))?;
        line.push(b'\n');
        Ok(self.0.write_all(&line)?)
    }

    fn step(&mut self, text: impl Into<String>) -> Result<(), Stopped> {
        self.put(&Reply::Step { text: text.into() })
    }

    fn did(&mut self, text: impl Into<String>) -> Result<(), Stopped> {
        self.put(&Reply::Did { text: text.into() })
    }

    /// True when the asker has gone.
    fn is_gone(&self) -> bool {
        let mut byte = [0_u8; 1];
        if self.0.set_nonblocking(true).is_err() {
            return true;
        }
        let read = (&mut &*self.0).read(&mut byte);
        let blocking = self.0.set_nonblocking(false);
        matches!(read, Ok(0)) || blocking.is_err()
    }
}

fn answer(request: Request, hub: &Arc<Hub>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    match request {
        Request::Hello => lines.did("here"),
        Request::Host { connect } => {
            let hypervisor = connection(hub, &connect)?;
            let mut facts = hypervisor.facts()?;
            facts.kvm = facts.kvm && look::kvm_runs(&hypervisor)?;
            lines.put(&Reply::Host(Box::new(facts)))
        }
        Request::Create { spec, again } => create(*spec, again, hub, lines),
        Request::List { connect } => list(connect, hub, lines),
        Request::Show(which) => {
            let found = find(hub, &which)?;
            let guest = found.hypervisor.guest(&found.uuid)?;
            lines.put(&Reply::Guest(Box::new(guest)))
        }
        Request::Act { which, act } => {
            let found = find(hub, &which)?;
            do_act(&found, act)?;
            lines.did(format!("guest {}: {}", which.guest, act.done()))
        }
        Request::Power { system, power } => power::answer(&system, power, hub, lines),
        Request::Delete { which, disks } => delete(&which, disks, hub, lines),
        Request::Migrate { which, to } => migrate(&which, &to, hub, lines),
        Request::Adopt { which, system, owner } => adopt(&which, system, owner, hub, lines),
        Request::Follow(which) => {
            let found = find(hub, &which)?;
            let (to, from) = channel();
            let follower = Follower { to, creates: false };
            found.handle.send(Message::Follow(found.uuid, follower));
            forward(&from, lines)
        }
        Request::Log { which, follow } => log(&which, follow, hub, lines),
        Request::Console { which, force } => console(&which, force, hub, lines),
        Request::Check { connect } => {
            let hypervisor = connection(hub, &connect)?;
            for finding in look::findings(&hypervisor) {
                lines.put(&finding)?;
            }
            Ok(())
        }
    }
}

/// Passes replies on until there are no more, or whoever asked has gone.
fn forward(from: &std::sync::mpsc::Receiver<Reply>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    loop {
        match from.recv_timeout(Duration::from_secs(1)) {
            Ok(reply) => {
                lines.put(&reply)?;
                if matches!(reply, Reply::Ended { .. } | Reply::Refused { .. } | Reply::Created(_)) {
                    return Ok(());
                }
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) if lines.is_gone() => return Err(Stopped::Gone),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// A URI that may be given to libvirt: one line of text.
fn checked(uri: &str) -> Result<&str, Stopped> {
    if uri.is_empty() || uri.len() > 1024 || uri.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Stopped::Refused(format!(
            "`{}` is no URI of a hypervisor; write it like qemu:///system or qemu+ssh://root@host/system",
            uri.escape_debug().take(80).collect::<String>()
        )));
    }
    Ok(uri)
}

fn connection(hub: &Arc<Hub>, uri: &str) -> Result<Hypervisor, Stopped> {
    answering(&hub.host(checked(uri)?))
}

/// The connection, or why there is none, for who asks.
fn answering(handle: &Handle) -> Result<Hypervisor, Stopped> {
    handle
        .connection(CONNECT)
        .map_err(|why| Stopped::Refused(format!("{} does not answer: {why}; nothing was changed", handle.uri)))
}

fn create(spec: Spec, again: bool, hub: &Arc<Hub>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    let handle = hub.host(checked(&spec.connect)?);
    // A dead hypervisor is said so at once; its thread may be busy with dialling for minutes.
    answering(&handle)?;
    let (told, from) = channel();
    handle.send(Message::Begin {
        spec: Box::new(spec),
        again,
        told,
    });
    forward(&from, lines)
}

/// A guest and the way to it.
pub(super) struct Found {
    handle: Handle,
    hypervisor: Hypervisor,
    uuid: Uuid,
}

/// Finds a guest by its name, on the hypervisor that is named or on any.
pub(super) fn find(hub: &Arc<Hub>, which: &Which) -> Result<Found, Stopped> {
    let handles = match &which.connect {
        Some(uri) => vec![hub.host(checked(uri)?)],
        None => hub.hosts(),
    };
    let patience = if which.connect.is_some() { CONNECT } else { GLANCE };
    let mut found: Option<Found> = None;
    let mut away = Vec::new();
    for handle in handles {
        let hypervisor = match handle.connection(patience) {
            Ok(hypervisor) => hypervisor,
            Err(why) => {
                away.push(format!("{} does not answer: {why}", handle.uri));
                continue;
            }
        };
        let Some(uuid) = hypervisor.find(which.guest.as_str())? else {
            continue;
        };
        if let Some(other) = &found {
            return Err(Stopped::Refused(format!(
                "guest {} is on {} and on {}; say which: --connect URI",
                which.guest, other.handle.uri, handle.uri
            )));
        }
        found = Some(Found {
            handle,
            hypervisor,
            uuid,
        });
    }
    found.ok_or_else(|| {
        let mut text = match &which.connect {
            Some(uri) => format!("there is no guest {} on {uri}", which.guest),
            None => format!("there is no guest {} on a hypervisor that is known here", which.guest),
        };
        for why in away {
            text.push_str("; ");
            text.push_str(&why);
        }
        text.push_str("; `cordwainer guest list` names them");
        Stopped::Refused(text)
    })
}

fn list(connect: Option<String>, hub: &Arc<Hub>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    let handles = match connect {
        Some(uri) => vec![hub.host(checked(&uri)?)],
        None => hub.hosts(),
    };
    for (connect, guests) in all(handles)? {
        match guests {
            Ok(guests) => {
                for guest in guests {
                    lines.put(&Reply::Guest(Box::new(guest)))?;
                }
            }
            Err(why) => lines.put(&Reply::Away { connect, why })?,
        }
    }
    Ok(())
}

/// What a hypervisor, by its URI, has; or why it does not answer.
pub(super) type Has = (String, Result<Vec<Guest>, String>);

/// The guests of each of these hypervisors.
pub(super) fn all(handles: Vec<Handle>) -> Result<Vec<Has>, Stopped> {
    // All at once: a dead one holds up the others by nothing.
    let (to, from) = channel();
    for handle in handles {
        let to = to.clone();
        std::thread::Builder::new()
            .name("list".into())
            .spawn(move || {
                let guests = handle
                    .connection(GLANCE)
                    .and_then(|hypervisor| hypervisor.guests().map_err(|error| error.to_string()));
                drop(to.send((handle.uri, guests)));
            })
            .map_err(|error| Stopped::Refused(error.to_string()))?;
    }
    drop(to);
    let mut all: Vec<_> = from.iter().collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

pub(super) fn do_act(found: &Found, act: Act) -> Result<(), Stopped> {
    let (hypervisor, uuid) = (&found.hypervisor, &found.uuid);
    match act {
        Act::Start | Act::Restore => {
            if act == Act::Restore && !hypervisor.is_saved(uuid)? {
                return Err(Stopped::Refused(
                    "it was not saved; cordwainer guest start starts it from its disk".to_owned(),
                ));
            }
            unfinished(hypervisor, uuid)?;
            hypervisor.start(uuid, false)?;
        }
        Act::Shutdown => {
            // It stays off then, also when its installation ends by it.
            found.handle.send(Message::AskedOff(uuid.clone()));
            hypervisor.shutdown(uuid)?;
        }
        Act::Destroy => hypervisor.destroy(uuid)?,
        Act::Reboot => hypervisor.reboot(uuid)?,
        Act::Suspend => hypervisor.suspend(uuid)?,
        Act::Resume => hypervisor.resume(uuid)?,
        Act::Save => hypervisor.save(uuid)?,
        Act::Autostart => {
            unfinished(hypervisor, uuid)?;
            hypervisor.autostart(uuid, true)?;
        }
        Act::NoAutostart => hypervisor.autostart(uuid, false)?,
    }
    Ok(())
}

/// Refuses what would boot a disk that nobody finished.
fn unfinished(hypervisor: &Hypervisor, uuid: &Uuid) -> Result<(), Stopped> {
    let known = hypervisor.look(uuid)?;
    let phase = match known.kept {
        Ok(Some(metadata)) => metadata.state.phase,
        Ok(None) | Err(_) => return Ok(()),
    };
    let half = matches!(
        phase,
        Phase::Preparing | Phase::Launching | Phase::Unsure | Phase::Stopped { .. }
    );
    if half && !hypervisor.is_saved(uuid)? {
        return Err(Stopped::Refused(format!(
            "guest {} is {}: its disk is not finished; wait for it (cordwainer guest wait {}), or install it anew",
            known.name,
            phase.as_str(),
            known.name
        )));
    }
    Ok(())
}

fn delete(which: &Which, disks: bool, hub: &Arc<Hub>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    let found = find(hub, which)?;
    let known = found.hypervisor.look(&found.uuid)?;
    let spec = known.kept.ok().flatten().map(|metadata| metadata.spec);
    if disks && spec.is_none() {
        return Err(Stopped::Refused(format!(
            "guest {} was not made here, so which of its disks are its own is not known; leave --disks out, and delete them with virsh",
            which.guest
        )));
    }
    // First the flow: nothing must start it again.
    let (done, forgotten) = channel();
    found.handle.send(Message::Forget(found.uuid.clone(), done));
    if forgotten.recv_timeout(OFF).is_err() {
        return Err(Stopped::Refused(format!("{} is busy; try again", found.handle.uri)));
    }
    let gone = (|| {
        found.hypervisor.destroy(&found.uuid)?;
        found.hypervisor.undefine(&found.uuid)
    })();
    if let Err(error) = gone {
        found.handle.send(Message::Resync);
        return Err(error.into());
    }
    lines.step(format!("guest {} is gone from {}", which.guest, found.handle.uri))?;
    let Some(spec) = spec.filter(|_| disks) else {
        return lines.did(format!("deleted guest {}; its disks are kept", which.guest));
    };
    for disk in spec.disks {
        match disk.origin {
            Origin::Pool { pool, volume, .. } if !disk.existing => {
                found.hypervisor.delete_volume(&pool, &volume)?;
                lines.step(format!("volume {volume} of storage pool {pool} is deleted"))?;
            }
            other => {
                let what = match &other {
                    Origin::Pool { pool, volume, .. } => format!("{pool}/{volume}"),
                    Origin::File { path } | Origin::Block { path } => path.display().to_string(),
                };
                lines.step(format!("{what} was there before the guest, and is kept"))?;
            }
        }
    }
    lines.did(format!("deleted guest {} and its disks", which.guest))
}

fn migrate(which: &Which, to: &str, hub: &Arc<Hub>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    let found = find(hub, which)?;
    let known = found.hypervisor.look(&found.uuid)?;
    if let Ok(Some(metadata)) = &known.kept
        && metadata.state.phase.is_open()
    {
        return Err(Stopped::Refused(format!(
            "guest {} is {}; it can be moved once it is installed",
            which.guest,
            metadata.state.phase.as_str()
        )));
    }
    let there = hub.host(checked(to)?);
    let target = answering(&there)?;
    hub.note_host(to)
        .map_err(|error| Stopped::Refused(format!("the list of hypervisors cannot be written: {error}")))?;
    // libvirt leaves that behind.
    let autostarts = found.hypervisor.guest(&found.uuid)?.autostart;
    lines.step(format!("moving guest {} to {to}", which.guest))?;
    found.hypervisor.migrate(&found.uuid, &target)?;
    if autostarts {
        target.autostart(&found.uuid, true)?;
    }
    found.handle.send(Message::Resync);
    there.send(Message::Resync);
    lines.did(format!("guest {} runs on {to}", which.guest))
}

fn adopt(
    which: &Which,
    system: Option<crate::model::Name>,
    owner: String,
    hub: &Arc<Hub>,
    lines: &mut Lines<'_>,
) -> Result<(), Stopped> {
    let found = find(hub, which)?;
    let known = found.hypervisor.look(&found.uuid)?;
    if let Ok(Some(metadata)) = &known.kept {
        return Err(Stopped::Refused(format!(
            "guest {} is one of ours already: {}",
            which.guest,
            metadata.state.phase.as_str()
        )));
    }
    let spec = found.hypervisor.adopted(&found.uuid, &which.guest, system, owner)?;
    // It runs, or could: nothing is left to do.
    let job = Job {
        phase: Phase::Installed,
        fresh: false,
        ..Job::new(Proof::Disk)
    };
    domain_xml::finished(&spec, &job).map_err(|bad| Stopped::Refused(bad.to_string()))?;
    hub.note_host(&found.handle.uri)
        .map_err(|error| Stopped::Refused(format!("the list of hypervisors cannot be written: {error}")))?;
    found.hypervisor.remember(&Metadata::new(spec, job))?;
    found.handle.send(Message::Resync);
    lines.did(format!(
        "guest {} is one of ours now; its configuration is as it was",
        which.guest
    ))
}

fn log(which: &Which, follow: bool, hub: &Arc<Hub>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    let found = find(hub, which)?;
    let (to, from) = channel();
    let (coming, comes) = channel();
    let here = Arc::new(());
    let listener = follow.then(|| Listener {
        to: coming,
        there: Arc::downgrade(&here),
    });
    found.handle.send(Message::Log(found.uuid.clone(), to, listener));
    let kept = from.recv_timeout(PATIENCE).unwrap_or_default();
    // What is read here begins with the supervisor; the hypervisor's own log with the guest.
    let said = match on_disk(&found) {
        Ok(said) if !follow || kept.is_empty() => said,
        Err(why) if !follow && kept.is_empty() => return Err(why),
        _ => kept,
    };
    for line in said {
        lines.put(&Reply::Serial { line })?;
    }
    if follow { forward(&comes, lines) } else { Ok(()) }
}

/// The console's text as the hypervisor keeps it, where that is this host and we may read it.
fn on_disk(found: &Found) -> Result<Vec<String>, Stopped> {
    let guest = found.hypervisor.guest(&found.uuid)?;
    let remedy = |path: &str, why: String| {
        Stopped::Refused(format!(
            "nothing of the console of guest {} was read by this supervisor, and {path} on its hypervisor cannot be: {why}",
            guest.name
        ))
    };
    let Some(path) = &guest.serial_log else {
        return Err(remedy("its log", "it has none".to_owned()));
    };
    // The same path on this host may be another guest's.
    let is_here = found
        .handle
        .uri
        .split_once("://")
        .is_some_and(|(_, rest)| rest.starts_with('/'));
    if !is_here {
        return Err(remedy(
            &path.display().to_string(),
            format!("it is on {}", found.handle.uri),
        ));
    }
    let bytes = std::fs::read(path).map_err(|error| remedy(&path.display().to_string(), error.to_string()))?;
    let mut tail = crate::guest::driver::Tail::default();
    tail.take(&bytes);
    Ok(tail.lines())
}

/// The serial console, both ways, until one end has gone.
fn console(which: &Which, force: bool, hub: &Arc<Hub>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    let found = find(hub, which)?;
    let (ours, is_ours) = channel();
    found.handle.send(Message::TakeConsole(found.uuid.clone(), ours));
    // Our own reader gives way; another admin must be told by --force.
    let force = force || is_ours.recv_timeout(PATIENCE).unwrap_or(false);
    let opened = found.hypervisor.console(&found.uuid, force);
    let console = match opened {
        Ok(console) => console,
        Err(error) => {
            found.handle.send(Message::ConsoleGiven(found.uuid));
            return Err(error.into());
        }
    };
    let ended = lines.put(&Reply::Console).and_then(|()| {
        let stream = lines.0;
        stream.set_read_timeout(None)?;
        let mut output = stream.try_clone()?;
        let (from_guest, handle, uuid) = (console.clone(), found.handle.clone(), found.uuid.clone());
        let reader = std::thread::Builder::new().name("console".into()).spawn(move || {
            from_guest.follow(|bytes| {
                handle.send(Message::Serial(uuid.clone(), bytes.to_vec()));
                output.write_all(bytes).is_ok()
            });
            drop(output.shutdown(std::net::Shutdown::Both));
        })?;
        let mut input = stream;
        let mut buffer = [0_u8; 1024];
        while let Ok(read @ 1..) = input.read(&mut buffer) {
            if !buffer.get(..read).is_some_and(|bytes| console.write(bytes)) {
                break;
            }
        }
        console.close();
        drop(reader.join());
        Ok(())
    });
    found.handle.send(Message::ConsoleGiven(found.uuid));
    ended
}
