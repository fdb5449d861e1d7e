//! One question to the supervisor, from who asks to the last line of the answer.
#![allow(clippy::disallowed_methods, reason = "IO: a unix socket, libvirt")]

use super::host::{Follower, Handle, Listener, Message};
use super::hub::Hub;
use super::{look, power};
use crate::guest::driver::{DriverError, Hypervisor};
use crate::guest::flow::{Job, Phase, Proof};
use crate::guest::metadata::Metadata;
use crate::guest::protocol::{Act, Guest, LONGEST, Life, Reply, Request, Which};
use crate::guest::spec::{Origin, Spec, Uuid};
use crate::guest::{away, domain_xml, is_session};
use crate::model::Power;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How long a question may take to arrive, and a line of the answer to leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a hypervisor may take to give its connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The same where every hypervisor is looked at: a dead one holds up the list only so long.
const GLANCE: Duration = Duration::from_secs(3);
/// How long one may take to answer there: its network may have died a moment ago.
const ANSWER: Duration = Duration::from_secs(10);
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

/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(200);

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
            | Request::Shutdown { .. }
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
        Request::Host { connect, kvm } => {
            let hypervisor = connection(hub, &connect)?;
            let mut facts = hypervisor.facts()?;
            facts.kvm = facts.kvm && (!kvm || look::kvm_runs(&hypervisor)?);
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
        Request::Shutdown { which, seconds, force } => {
            let found = find(hub, &which)?;
            shut_down(&found, &which, (Duration::from_secs(seconds), force), lines)
        }
        Request::Migrate {
            which,
            to,
            copy_storage,
        } => migrate(&which, (&to, copy_storage), hub, lines),
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

/// A URI that may be given to libvirt.
fn checked(uri: &str) -> Result<&str, Stopped> {
    away::uri(uri).map_err(Stopped::Refused)?;
    if is_session(uri) && uri.starts_with("qemu:///") && !uri.contains("socket=") && nix::unistd::geteuid().is_root() {
        return Err(Stopped::Refused(format!(
            "{uri} of root is qemu:///system, and would be taken for another; name that one, or supervise as the user whose session it is, with a state folder of his: cordwainer --state FOLDER guest supervise"
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
        .connection_now(CONNECT)
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

/// What a hypervisor said, or why it said nothing.
type Said<T> = (Handle, Result<T, String>);

/// Asks each of these hypervisors, all at once, and returns what they say in the order of their URIs: one that is dead or slow holds up
/// nobody else. What has not come within [`ANSWER`] is an error, and within [`GLANCE`] where `enough` says so of what has.
fn ask_each<T: Send + 'static>(
    handles: Vec<Handle>,
    ask: impl Fn(&Hypervisor) -> Result<T, DriverError> + Clone + Send + 'static,
    enough: impl Fn(&T) -> bool,
) -> Result<Vec<Said<T>>, Stopped> {
    let (to, from) = channel();
    let mut waited: BTreeMap<String, Handle> = BTreeMap::new();
    for handle in handles {
        let (to, ask, of) = (to.clone(), ask.clone(), handle.clone());
        waited.insert(handle.uri.clone(), handle);
        std::thread::Builder::new()
            .name("ask".into())
            .spawn(move || {
                let said = of
                    .connection(GLANCE)
                    .and_then(|hypervisor| ask(&hypervisor).map_err(|error| error.to_string()));
                drop(to.send((of.uri, said)));
            })
            .map_err(|error| Stopped::Refused(error.to_string()))?;
    }
    drop(to);
    let started = Instant::now();
    let mut all = BTreeMap::new();
    let mut patience = ANSWER;
    while let Ok((uri, said)) = from.recv_timeout(patience.saturating_sub(started.elapsed())) {
        if said.as_ref().is_ok_and(&enough) {
            patience = GLANCE;
        }
        if let Some(handle) = waited.remove(&uri) {
            all.insert(uri, (handle, said));
        }
    }
    for (uri, handle) in waited {
        let why = format!("it said nothing in {} s", patience.as_secs());
        all.insert(uri, (handle, Err(why)));
    }
    Ok(all.into_values().collect())
}

/// Finds a guest by its name, on the hypervisor that is named or on any.
pub(super) fn find(hub: &Arc<Hub>, which: &Which) -> Result<Found, Stopped> {
    if let Some(uri) = &which.connect {
        let handle = hub.host(checked(uri)?);
        let hypervisor = answering(&handle)?;
        let uuid = hypervisor.find(which.guest.as_str())?.ok_or_else(|| {
            Stopped::Refused(format!(
                "there is no guest {} on {uri}; `cordwainer guest list --connect {uri}` names them",
                which.guest
            ))
        })?;
        return Ok(Found {
            handle,
            hypervisor,
            uuid,
        });
    }
    let name = which.guest.clone();
    let ask = move |hypervisor: &Hypervisor| {
        let uuid = hypervisor.find(name.as_str())?;
        Ok(uuid.map(|uuid| (hypervisor.clone(), uuid)))
    };
    let mut found: Option<Found> = None;
    let mut away = Vec::new();
    for (handle, said) in ask_each(hub.hosts(), ask, Option::is_some)? {
        match (said, &found) {
            (Err(why), _) => away.push(format!("{} does not answer: {why}", handle.uri)),
            (Ok(None), _) => {}
            (Ok(Some(_)), Some(other)) => {
                return Err(Stopped::Refused(format!(
                    "guest {} is on {} and on {}; say which: --connect URI",
                    which.guest, other.handle.uri, handle.uri
                )));
            }
            (Ok(Some((hypervisor, uuid))), None) => {
                found = Some(Found {
                    handle,
                    hypervisor,
                    uuid,
                });
            }
        }
    }
    found.ok_or_else(|| {
        let mut text = format!(
            "there is no guest {} on a hypervisor that is known here; `cordwainer guest list` names those, --connect URI looks at another",
            which.guest
        );
        for why in away {
            text.push_str("; ");
            text.push_str(&why);
        }
        Stopped::Refused(text)
    })
}

fn list(connect: Option<String>, hub: &Arc<Hub>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    let handles = match connect {
        Some(uri) => {
            let handle = hub.host(checked(&uri)?);
            // Tried again now, where it did not answer; what it says is told below.
            drop(handle.connection_now(CONNECT));
            vec![handle]
        }
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
    let said = ask_each(handles, Hypervisor::guests, |_| false)?;
    Ok(said.into_iter().map(|(handle, guests)| (handle.uri, guests)).collect())
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

/// Asks a guest to power off, and sees that it does.
fn shut_down(
    found: &Found,
    which: &Which,
    (patience, force): (Duration, bool),
    lines: &mut Lines<'_>,
) -> Result<(), Stopped> {
    let (hypervisor, uuid, name) = (&found.hypervisor, &found.uuid, &which.guest);
    match hypervisor.guest(uuid)?.life {
        Life::Defined | Life::Saved => return lines.did(format!("guest {name} is off already")),
        Life::Paused => {
            return Err(Stopped::Refused(format!(
                "guest {name} is suspended and hears nothing; cordwainer guest resume {name}, or cut its power: cordwainer guest destroy {name}"
            )));
        }
        Life::Running | Life::Stopping | Life::Crashed => {}
    }
    // It stays off then, also when its installation ends by it.
    found.handle.send(Message::AskedOff(uuid.clone()));
    let way = if hypervisor.shutdown(uuid)? {
        "its agent"
    } else {
        "ACPI, for no agent answers in it"
    };
    if patience.is_zero() {
        return lines.did(format!("guest {name}: asked to power off, by {way}"));
    }
    lines.step(format!("guest {name} is asked to power off, by {way}"))?;
    let started = Instant::now();
    while hypervisor.is_on(uuid)? {
        if started.elapsed() >= patience {
            let after = patience.as_secs();
            if !force {
                return Err(Stopped::Refused(format!(
                    "guest {name} still runs {after} s after it was asked by {way}: what runs in it does not listen, or takes longer; \
                     --timeout TIME waits longer, --force cuts its power after that, and so does now: cordwainer guest destroy {name}"
                )));
            }
            hypervisor.destroy(uuid)?;
            return lines.did(format!(
                "guest {name}: did not power off in {after} s, and its power was cut"
            ));
        }
        if lines.is_gone() {
            return Err(Stopped::Gone);
        }
        std::thread::sleep(LOOK);
    }
    lines.did(format!("guest {name}: is off"))
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

fn migrate(which: &Which, (to, copy): (&str, bool), hub: &Arc<Hub>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
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
    found
        .hypervisor
        .migrate(&found.uuid, &target, copy)
        .map_err(|error| not_moved(&error, which, to))?;
    if autostarts {
        target.autostart(&found.uuid, true)?;
    }
    found.handle.send(Message::Resync);
    there.send(Message::Resync);
    lines.did(format!("guest {} runs on {to}", which.guest))
}

/// Why libvirt did not move a guest, where a person can do something about it.
fn not_moved(error: &DriverError, which: &Which, to: &str) -> Stopped {
    let text = error.to_string();
    let remedy = if text.contains("shared storage") || text.contains("Unsafe migration") {
        format!(
            "its disks lie on this host alone; put them on storage that both hosts mount (NFS, Ceph, iSCSI), or copy them along: cordwainer guest migrate {} --to {to} --copy-storage",
            which.guest
        )
    } else if text.contains("Attempt to migrate guest to the same host") {
        "both URIs lead to one host (they have the same host_uuid); name another".to_owned()
    } else if text.contains("Unable to resolve address") || text.contains("Name or service not known") {
        "the hosts must know each other by name, or set migration_host in /etc/libvirt/qemu.conf of the other"
            .to_owned()
    } else if text.contains("cannot open file")
        || text.contains("No such file or directory")
        || text.contains("Cannot access")
    {
        "the other host does not have what the guest is made of at the same path".to_owned()
    } else {
        return Stopped::Refused(format!("{text}; guest {} runs on where it was", which.guest));
    };
    Stopped::Refused(format!("{text}; guest {} runs on where it was: {remedy}", which.guest))
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
