//! The thread of one hypervisor: it owns the flows of its guests, and does what they say.
//!
//! What happens is looked at, never believed: an event only says that it is time to look. What libvirt does not take is not taken as done:
//! the connection is then given up, and all is found out anew once it is back.
#![allow(clippy::disallowed_methods, reason = "IO: a thread that speaks with libvirt")]

mod begin;
mod serial;

use super::hub::{Hub, lock};
use super::launch::{self, Materials};
use crate::event::control::News;
use crate::guest::driver::{Console, DriverError, Hypervisor, Known, Seen, Tail, Watch};
use crate::guest::flow::{self, Boot, Effect, Heard, Input, Job, Observed, Phase, Power, Proof, Tale};
use crate::guest::metadata::Metadata;
use crate::guest::protocol::Reply;
use crate::guest::spec::{Origin, Spec, Uuid};
use crate::guest::{domain_xml, spec};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Between two attempts to connect: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often time is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long an unanswered question may be open before another is asked.
const ASKED: Duration = Duration::from_secs(15);
/// Between two looks at a hypervisor that said something strange.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Who is told how a guest's installation goes on.
#[derive(Debug, Clone)]
pub(super) struct Follower {
    pub(super) to: Sender<Reply>,
    /// Only until it runs.
    pub(super) creates: bool,
}

/// Who is told what a console says.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) to: Sender<Reply>,
    /// Gone when nobody listens any more.
    pub(super) there: Weak<()>,
}

/// What a host's thread hears.
pub(super) enum Message {
    /// libvirt says that something happened on the connection of this number.
    Seen(u64, Seen),
    /// Make a guest.
    Begin {
        spec: Box<Spec>,
        again: bool,
        told: Sender<Reply>,
    },
    /// Its disks are there, or not.
    Prepared(Uuid, Result<(), DriverError>),
    /// What its first boot needs is there, or not.
    Ready(Uuid, Result<spec::Boot, launch::NotReady>),
    /// What the server says, in answer to a question, or by itself.
    Standing(Uuid, Heard),
    /// An admin asks it to power off.
    AskedOff(Uuid),
    /// It is being taken away: nothing more is done for it.
    Forget(Uuid, Sender<()>),
    /// Tell how it goes on.
    Follow(Uuid, Follower),
    /// Its console said something.
    Serial(Uuid, Vec<u8>),
    /// Nobody reads its console any more.
    SerialEnded(Uuid),
    /// An admin takes its console: whether it is ours to give is told.
    TakeConsole(Uuid, Sender<bool>),
    /// He gave it back.
    ConsoleGiven(Uuid),
    /// Its console's last lines, and with a listener what comes.
    Log(Uuid, Sender<Vec<String>>, Option<Listener>),
    /// Look at everything anew.
    Resync,
    /// Somebody asks for it: an attempt to connect that is put off is made now.
    Retry,
}

/// Whether a hypervisor answers, for everybody: who asks never waits for its thread, which may be busy with a guest.
#[derive(Default)]
struct Status {
    /// The connection, while it stands.
    hypervisor: Option<Hypervisor>,
    /// Why there is none, once it was tried.
    why: Option<String>,
    /// How often it was heard how it stands.
    heard: u64,
}

/// The way to a host's thread.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) uri: String,
    sender: Sender<Message>,
    status: Arc<(Mutex<Status>, Condvar)>,
}

impl Handle {
    pub(super) fn send(&self, message: Message) {
        // An error means that the process is ending.
        drop(self.sender.send(message));
    }

    fn set(&self, hypervisor: Option<Hypervisor>, why: Option<String>) -> Status {
        let mut status = lock(&self.status.0);
        let heard = status.heard.wrapping_add(1);
        let new = Status { hypervisor, why, heard };
        let before = std::mem::replace(&mut *status, new);
        drop(status);
        self.status.1.notify_all();
        before
    }

    /// Its connection; the first attempt is waited for at most so long. An error is why there is none.
    pub(super) fn connection(&self, patience: Duration) -> Result<Hypervisor, String> {
        self.heard_of(patience, 0)
    }

    /// As [`Handle::connection`], for who names it: one that did not answer is tried again now, for what stood in the way may be mended.
    pub(super) fn connection_now(&self, patience: Duration) -> Result<Hypervisor, String> {
        let status = lock(&self.status.0);
        let (is_away, heard) = (status.hypervisor.is_none() && status.why.is_some(), status.heard);
        drop(status);
        if is_away {
            self.send(Message::Retry);
        }
        self.heard_of(patience, heard)
    }

    /// Waits until it has a connection, or was heard of again since `seen`, where nothing stood then.
    fn heard_of(&self, patience: Duration, seen: u64) -> Result<Hypervisor, String> {
        let unknown = |status: &mut Status| status.hypervisor.is_none() && status.heard <= seen;
        let (status, _) = self
            .status
            .1
            .wait_timeout_while(lock(&self.status.0), patience, unknown)
            .unwrap_or_else(PoisonError::into_inner);
        status.hypervisor.clone().ok_or_else(|| {
            let why = status.why.clone();
            why.unwrap_or_else(|| format!("nothing was heard of it in {} s", patience.as_secs()))
        })
    }
}

/// Starts the thread of a hypervisor.
pub(super) fn start(uri: &str, hub: Arc<Hub>) -> Handle {
    let (sender, messages) = channel();
    let handle = Handle {
        uri: uri.to_owned(),
        sender,
        status: Arc::default(),
    };
    let host = Host {
        uri: uri.to_owned(),
        hub,
        own: handle.clone(),
        link: None,
        generation: 0,
        guests: BTreeMap::new(),
        media: Arc::new(Mutex::new(BTreeSet::new())),
        next_try: None,
        pause: FIRST_PAUSE,
        resync_at: None,
    };
    let spawned = std::thread::Builder::new()
        .name(format!("host {uri}").chars().take(15).collect())
        .spawn(move || host.run(&messages));
    if let Err(error) = spawned {
        handle.set(None, Some(format!("it has no thread: {error}")));
    }
    handle
}

/// A guest of this hypervisor.
struct Entry {
    spec: Spec,
    job: Job,
    followers: Vec<Follower>,
    tail: Tail,
    listeners: Vec<Listener>,
    /// A worker makes its disks or brings its media.
    busy: bool,
    /// When the server was asked last, while no answer has come.
    asked: Option<Instant>,
    /// Dropping it ends the thread that hears from the server.
    hearing: Option<Sender<()>>,
    /// Its console, while we read it.
    reading: Option<Console>,
    console_taken: bool,
    read_again: Option<Instant>,
}

impl Entry {
    fn new(spec: Spec, job: Job) -> Self {
        Self {
            spec,
            job,
            followers: Vec::new(),
            tail: Tail::default(),
            listeners: Vec::new(),
            busy: false,
            asked: None,
            hearing: None,
            reading: None,
            console_taken: false,
            read_again: None,
        }
    }
}

struct Link {
    hypervisor: Hypervisor,
    _watch: Watch,
}

struct Host {
    uri: String,
    hub: Arc<Hub>,
    own: Handle,
    link: Option<Link>,
    generation: u64,
    guests: BTreeMap<Uuid, Entry>,
    /// Kernels and initrds that were brought and are not in a domain's configuration yet. Held while any is brought or collected.
    media: Materials,
    next_try: Option<Instant>,
    pause: Duration,
    resync_at: Option<Instant>,
}

impl Host {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let now = Instant::now();
            if self.link.is_none() && self.next_try.is_none_or(|at| at <= now) {
                self.connect();
            }
            if self.link.is_some() && self.resync_at.is_some_and(|at| at <= now) {
                self.resync();
            }
            let until_try = self
                .next_try
                .filter(|_| self.link.is_none())
                .map_or(TICK, |at| at.saturating_duration_since(Instant::now()));
            match messages.recv_timeout(until_try.min(TICK)) {
                Ok(message) => self.hear(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tick();
        }
    }

    fn hypervisor(&self) -> Option<Hypervisor> {
        self.link.as_ref().map(|link| link.hypervisor.clone())
    }

    fn connect(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        let (generation, own) = (self.generation, self.own.clone());
        let opened = Hypervisor::open(&self.uri).and_then(|hypervisor| {
            let watch = hypervisor.watch(move |seen| own.send(Message::Seen(generation, seen)))?;
            Ok(Link {
                hypervisor,
                _watch: watch,
            })
        });
        match opened {
            Ok(link) => {
                self.link = Some(link);
                self.next_try = None;
                self.pause = FIRST_PAUSE;
                self.own.set(self.hypervisor(), None);
                tracing::info!(uri = %self.uri, "connected, looking at its guests");
                self.resync();
            }
            Err(error) => self.away(&reason(&error)),
        }
    }

    /// The connection is gone: it is tried again, later and later.
    fn away(&mut self, why: &str) {
        self.link = None;
        for entry in self.guests.values_mut() {
            entry.reading = None;
        }
        self.next_try = Instant::now().checked_add(self.pause);
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        let before = self.own.set(None, Some(why.to_owned()));
        if before.why.as_deref() != Some(why) {
            tracing::warn!(uri = %self.uri, "the hypervisor does not answer: {why}; it is tried again");
        }
    }

    /// Looks at every guest, and goes on with each from where it stands.
    fn resync(&mut self) {
        self.resync_at = None;
        let Some(hypervisor) = self.hypervisor() else { return };
        let all = match hypervisor.all() {
            Ok(all) => all,
            Err(error) => return self.trouble(&error),
        };
        let there: BTreeSet<Uuid> = all.iter().map(|known| known.uuid.clone()).collect();
        for known in all {
            self.take_up(known);
        }
        let gone: Vec<Uuid> = self
            .guests
            .iter()
            .filter(|(uuid, entry)| !there.contains(uuid) && !entry.busy)
            .map(|(uuid, _)| uuid.clone())
            .collect();
        for uuid in gone {
            self.vanished(&uuid);
        }
    }

    /// Goes on with a guest that libvirt has.
    fn take_up(&mut self, known: Known) {
        let metadata = match known.kept {
            Ok(Some(metadata)) => metadata,
            Ok(None) => return,
            Err(why) => {
                tracing::warn!(uri = %self.uri, guest = %known.name, "{why}");
                return;
            }
        };
        let uuid = known.uuid;
        if let Some(entry) = self.guests.get_mut(&uuid)
            && entry.busy
        {
            // Its worker tells in the end.
            return;
        }
        let (job, effects) = flow::resume(&metadata.state, known.observed, self.hub.now());
        if job.phase.is_open() || !effects.is_empty() {
            tracing::info!(uri = %self.uri, guest = %known.name, phase = job.phase.as_str(), "taken up");
        }
        match self.guests.get_mut(&uuid) {
            Some(entry) => {
                entry.spec = metadata.spec;
                entry.job = job.clone();
                entry.asked = None;
            }
            None => {
                self.guests.insert(uuid.clone(), Entry::new(metadata.spec, job.clone()));
            }
        }
        self.perform(&uuid, &job, effects);
        self.settle(&uuid);
    }

    /// Somebody took the domain away.
    fn vanished(&mut self, uuid: &Uuid) {
        let Some(entry) = self.guests.remove(uuid) else { return };
        let text = format!("guest {} was taken away from {}", entry.spec.name, self.uri);
        if entry.job.phase.is_open() {
            tracing::warn!("{text}");
            self.hub.tell(
                entry.spec.system.as_ref(),
                News::Step {
                    host: self.uri.clone(),
                    step: "the domain was taken away in mid-install".to_owned(),
                    bad: true,
                },
            );
        }
        for follower in entry.followers {
            drop(follower.to.send(Reply::Refused { text: text.clone() }));
        }
    }

    /// libvirt did not do what it was asked for, and what it did is not known.
    fn trouble(&mut self, error: &DriverError) {
        let alive = self.link.as_ref().is_some_and(|link| link.hypervisor.is_alive());
        if error.is_away() || !alive {
            self.away(&reason(error));
        } else {
            tracing::warn!(uri = %self.uri, "{error}; looking again in {} s", LOOK_AGAIN.as_secs());
            self.resync_at = Instant::now().checked_add(LOOK_AGAIN);
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Seen(generation, _) if generation != self.generation => {}
            Message::Seen(_, Seen::Closed) => self.away("it closed the connection"),
            Message::Seen(_, Seen::Domain(uuid)) => self.look(&uuid),
            Message::Begin { spec, again, told } => self.begin(*spec, again, told),
            Message::Prepared(uuid, result) => self.prepared(&uuid, result),
            Message::Ready(uuid, result) => self.ready(&uuid, result),
            Message::Standing(uuid, heard) => {
                if let Some(entry) = self.guests.get_mut(&uuid) {
                    entry.asked = None;
                    self.feed(&uuid, &Input::Server(heard));
                }
            }
            Message::AskedOff(uuid) => self.feed(&uuid, &Input::AskedOff),
            Message::Forget(uuid, done) => {
                self.guests.remove(&uuid);
                let _gone = done.send(());
            }
            Message::Follow(uuid, follower) => self.follow(&uuid, follower),
            Message::Serial(uuid, bytes) => self.serial(&uuid, &bytes),
            Message::SerialEnded(uuid) => self.serial_ended(&uuid),
            Message::TakeConsole(uuid, ours) => {
                let entry = self.guests.get_mut(&uuid);
                let reading = entry.is_some_and(|entry| {
                    entry.console_taken = true;
                    entry.reading.is_some()
                });
                let _gone = ours.send(reading);
            }
            Message::ConsoleGiven(uuid) => {
                if let Some(entry) = self.guests.get_mut(&uuid) {
                    entry.console_taken = false;
                }
            }
            Message::Log(uuid, to, follow) => self.log(&uuid, &to, follow),
            Message::Resync => self.resync_at = Some(Instant::now()),
            Message::Retry => self.next_try = None,
        }
    }

    /// Looks what a guest does, and tells its flow what is new.
    fn look(&mut self, uuid: &Uuid) {
        let Some(known) = self.guests.get(uuid).map(|entry| entry.job.power) else {
            return;
        };
        let Some(hypervisor) = self.hypervisor() else { return };
        match hypervisor.observe(uuid) {
            Ok(observed) => self.compare(uuid, known, observed),
            Err(DriverError::Missing { .. }) if self.guests.get(uuid).is_some_and(|entry| !entry.busy) => {
                self.vanished(uuid);
            }
            Err(DriverError::Missing { .. }) => {}
            Err(error) => self.trouble(&error),
        }
    }

    fn compare(&mut self, uuid: &Uuid, known: Power, observed: Observed) {
        if known == observed.power {
            return;
        }
        match observed.power {
            Power::On(boot) => self.feed(uuid, &Input::Started(boot)),
            Power::Off => self.feed(uuid, &Input::Stopped(observed.how)),
        }
    }

    fn tick(&mut self) {
        let now = self.hub.now();
        let due: Vec<Uuid> = self
            .guests
            .iter()
            .filter(|(_, entry)| entry.job.deadline().is_some_and(|at| at <= now))
            .filter(|(_, entry)| {
                entry
                    .asked
                    .is_none_or(|at| Instant::now().saturating_duration_since(at) > ASKED)
            })
            .map(|(uuid, _)| uuid.clone())
            .collect();
        if self.link.is_some() {
            for uuid in due {
                self.feed(&uuid, &Input::Tick);
            }
        }
        self.read_consoles();
    }

    fn feed(&mut self, uuid: &Uuid, input: &Input) {
        let now = self.hub.now();
        let Some(entry) = self.guests.get_mut(uuid) else { return };
        let (job, effects) = flow::step(&entry.job, input, now);
        if job.phase != entry.job.phase {
            tracing::debug!(guest = %entry.spec.name, ?input, phase = ?job.phase, "goes on");
        }
        entry.job = job.clone();
        self.perform(uuid, &job, effects);
        self.settle(uuid);
    }

    /// Does what the flow says. What libvirt refuses to write down ends it: all is looked at anew.
    fn perform(&mut self, uuid: &Uuid, job: &Job, effects: Vec<Effect>) {
        for effect in effects {
            let Some(entry) = self.guests.get_mut(uuid) else { return };
            let Some(hypervisor) = self.link.as_ref().map(|link| link.hypervisor.clone()) else {
                return;
            };
            match effect {
                Effect::Remember => {
                    let metadata = Metadata::new(entry.spec.clone(), job.clone());
                    if let Err(error) = hypervisor.remember(&metadata) {
                        return self.trouble(&error);
                    }
                }
                Effect::Autostart => {
                    if let Err(error) = hypervisor.autostart(uuid, true) {
                        return self.trouble(&error);
                    }
                }
                Effect::Prepare => {
                    entry.busy = true;
                    let (own, spec, uuid) = (self.own.clone(), entry.spec.clone(), uuid.clone());
                    self.spawn("prepare", move || {
                        own.send(Message::Prepared(uuid, launch::prepare(&hypervisor, &spec)));
                    });
                }
                Effect::Launch => {
                    entry.busy = true;
                    let (own, spec, uuid) = (self.own.clone(), entry.spec.clone(), uuid.clone());
                    let (hub, media) = (Arc::clone(&self.hub), Arc::clone(&self.media));
                    self.spawn("launch", move || {
                        own.send(Message::Ready(
                            uuid,
                            launch::materials(&hypervisor, &hub, &media, &spec),
                        ));
                    });
                }
                Effect::StartFromDisk => return self.start_from_disk(uuid, &hypervisor),
                Effect::AskServer => self.ask_server(uuid),
                Effect::Release => self.release(&hypervisor),
                Effect::Undo => self.undo(uuid, &hypervisor),
                Effect::Tell(tale) => self.tell(uuid, &tale),
            }
        }
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) {
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            tracing::error!(uri = %self.uri, "no thread to {name} a guest: {error}");
        }
    }

    fn prepared(&mut self, uuid: &Uuid, result: Result<(), DriverError>) {
        let Some(entry) = self.guests.get_mut(uuid) else { return };
        entry.busy = false;
        match result {
            Ok(()) => self.feed(uuid, &Input::Prepared),
            // Nobody refused: it is made once the hypervisor is back.
            Err(error) if error.is_away() => self.resync_at = Some(Instant::now()),
            Err(error) => self.feed(uuid, &Input::Broken(error.to_string())),
        }
    }

    /// What the first boot needs is there: the installer is created over the final configuration.
    fn ready(&mut self, uuid: &Uuid, result: Result<spec::Boot, launch::NotReady>) {
        let Some(entry) = self.guests.get_mut(uuid) else { return };
        entry.busy = false;
        let boot = match result {
            Ok(boot) => boot,
            Err(launch::NotReady::Away) => {
                self.resync_at = Some(Instant::now());
                return;
            }
            // Who waits for it is told; what was begun before is begun again once the daemon is back.
            Err(launch::NotReady::ServerAway(_)) if !entry.followers.iter().any(|follower| follower.creates) => {
                self.resync_at = Instant::now().checked_add(LOOK_AGAIN);
                return;
            }
            Err(launch::NotReady::ServerAway(why) | launch::NotReady::Refused(why)) => {
                return self.feed(uuid, &Input::Broken(why));
            }
        };
        let (spec, job) = (entry.spec.clone(), entry.job.clone());
        if job.phase != Phase::Launching || job.power != Power::Off {
            return;
        }
        let Some(hypervisor) = self.hypervisor() else { return };
        let created = match domain_xml::installing(&spec, &boot, &job) {
            Ok(xml) => hypervisor.create(spec.name.as_str(), &xml, spec.start_paused, resets_variables(&spec)),
            Err(bad) => return self.feed(uuid, &Input::Broken(bad.to_string())),
        };
        match created {
            Ok(()) => self.feed(uuid, &Input::Launched),
            Err(error) if error.is_away() => self.trouble(&error),
            // It may run all the same: somebody was faster, or the answer was lost.
            Err(error) => match hypervisor.observe(uuid) {
                Ok(Observed {
                    power: Power::On(boot), ..
                }) => self.feed(uuid, &Input::Started(boot)),
                _ => self.feed(uuid, &Input::Broken(error.to_string())),
            },
        }
        launch::brought(&self.media, &boot);
    }

    fn start_from_disk(&mut self, uuid: &Uuid, hypervisor: &Hypervisor) {
        // Where nothing was installed this is the first boot, which somebody may want to see from its first byte.
        let entry = self.guests.get(uuid);
        let paused = entry.is_some_and(|entry| entry.job.proof == Proof::Disk && entry.spec.start_paused);
        let started = hypervisor.start(uuid, paused);
        match (started, hypervisor.observe(uuid)) {
            (Ok(()), Ok(observed)) => {
                let known = self.guests.get(uuid).map_or(Power::Off, |entry| entry.job.power);
                match observed.power {
                    // It ran, and is off already: a disk that does not boot switches itself off at once.
                    Power::Off if known == Power::Off => self.feed(uuid, &Input::Started(Boot::Disk)),
                    _ => self.compare(uuid, known, observed),
                }
            }
            (Err(error), _) | (_, Err(error)) if error.is_away() => self.trouble(&error),
            (Err(error), _) => self.feed(uuid, &Input::Broken(error.to_string())),
            (Ok(()), Err(error)) => self.trouble(&error),
        }
    }

    /// Asks the server once, and from now on hears from it by itself while the job is open.
    fn ask_server(&mut self, uuid: &Uuid) {
        let Some(entry) = self.guests.get_mut(uuid) else { return };
        let Some(system) = entry.spec.system.clone() else {
            return;
        };
        entry.asked = Some(Instant::now());
        let arm = crate::model::ArmId(entry.spec.job.clone());
        let (own, hub, uuid) = (self.own.clone(), Arc::clone(&self.hub), uuid.clone());
        self.spawn("ask", move || {
            match hub
                .daemon()
                .and_then(|daemon| daemon.standing(&system, &arm, None, Duration::ZERO))
            {
                Ok(heard) => own.send(Message::Standing(uuid, heard)),
                Err(error) => tracing::debug!(%system, "the daemon cannot be asked: {error}"),
            }
        });
    }

    /// Kernels and initrds that no guest needs any more go.
    fn release(&self, hypervisor: &Hypervisor) {
        let (hypervisor, media) = (hypervisor.clone(), Arc::clone(&self.media));
        self.spawn("collect", move || launch::collect(&hypervisor, &media));
    }

    /// Takes back what was made of a guest that never ran.
    fn undo(&mut self, uuid: &Uuid, hypervisor: &Hypervisor) {
        let Some(entry) = self.guests.get(uuid) else { return };
        let spec = entry.spec.clone();
        if let Err(error) = hypervisor.undefine(uuid)
            && !matches!(error, DriverError::Missing { .. })
        {
            return self.trouble(&error);
        }
        for disk in spec.disks.iter().filter(|disk| !disk.existing) {
            if let Origin::Pool { pool, volume, .. } = &disk.origin
                && let Err(error) = hypervisor.delete_volume(pool, volume)
            {
                tracing::warn!(guest = %spec.name, "{error}; delete it by hand");
            }
        }
        self.release(hypervisor);
    }

    fn tell(&mut self, uuid: &Uuid, tale: &Tale) {
        let Some(entry) = self.guests.get_mut(uuid) else { return };
        let bad = matches!(tale, Tale::Failed(_));
        let text = match tale {
            Tale::Failed(reason) if matches!(entry.job.phase, Phase::Refused { .. }) => {
                format!("not started, and taken back: {reason}")
            }
            tale => tale.to_string(),
        };
        tracing::info!(uri = %self.uri, guest = %entry.spec.name, "{text}");
        entry
            .followers
            .retain(|follower| follower.to.send(Reply::Step { text: text.clone() }).is_ok());
        self.hub.tell(
            entry.spec.system.as_ref(),
            News::Step {
                host: self.uri.clone(),
                step: text,
                bad,
            },
        );
    }

    /// After each step: who follows is told of an end, and threads that the phase needs run, and no others.
    fn settle(&mut self, uuid: &Uuid) {
        let Some(entry) = self.guests.get_mut(uuid) else { return };
        let creates = entry.followers.iter().any(|follower| follower.creates);
        let guest = self
            .link
            .as_ref()
            .filter(|_| creates)
            .map(|link| link.hypervisor.guest(uuid));
        let phase = entry.job.phase.clone();
        let runs = entry.job.power != Power::Off || phase.is_success();
        if let Phase::Refused { reason } = &phase {
            for follower in entry.followers.drain(..) {
                drop(follower.to.send(Reply::Refused { text: reason.clone() }));
            }
            self.guests.remove(uuid);
            return;
        }
        let ended = !phase.is_open() || phase == Phase::Lingering;
        if runs && let Some(Ok(guest)) = guest {
            entry.followers.retain(|follower| {
                if follower.creates {
                    drop(follower.to.send(Reply::Created(Box::new(guest.clone()))));
                }
                !follower.creates
            });
        }
        if ended {
            for follower in entry.followers.drain(..) {
                drop(follower.to.send(Reply::Ended { phase: phase.clone() }));
            }
        }
        if phase.needs_server() && entry.hearing.is_none() {
            self.hear_from_server(uuid);
        } else if !phase.is_open() {
            entry.hearing = None;
        }
    }

    /// A thread that hears from the server what becomes of an installation, until the job is closed.
    fn hear_from_server(&mut self, uuid: &Uuid) {
        let Some(entry) = self.guests.get_mut(uuid) else { return };
        let Some(system) = entry.spec.system.clone() else {
            return;
        };
        let (keep, ended) = channel();
        entry.hearing = Some(keep);
        let arm = crate::model::ArmId(entry.spec.job.clone());
        let (own, hub, uuid) = (self.own.clone(), Arc::clone(&self.hub), uuid.clone());
        self.spawn("standing", move || {
            launch::hear(&hub, &own, &uuid, &system, &arm, &ended)
        });
    }

    fn follow(&mut self, uuid: &Uuid, follower: Follower) {
        let Some(entry) = self.guests.get_mut(uuid) else {
            let text = "it has no installation that this supervisor knows of".to_owned();
            drop(follower.to.send(Reply::Refused { text }));
            return;
        };
        let phase = entry.job.phase.clone();
        if !phase.is_open() || phase == Phase::Lingering {
            drop(follower.to.send(Reply::Ended { phase }));
            return;
        }
        let text = phase.as_str().to_owned();
        if follower.to.send(Reply::Step { text }).is_ok() {
            entry.followers.push(follower);
        }
    }
}

/// Why a hypervisor is away, without its name.
fn reason(error: &DriverError) -> String {
    match error {
        DriverError::Away { why, .. } => why.clone(),
        other => other.to_string(),
    }
}

/// UEFI variables are of one installation: another one begins without them.
fn resets_variables(spec: &Spec) -> bool {
    spec.firmware == spec::Firmware::Uefi && spec.reinstall
}

/// Paths of kernel and initrd of a first boot.
pub(super) fn media_of(boot: &spec::Boot) -> Vec<PathBuf> {
    match boot {
        spec::Boot::Kernel { kernel, initrd, .. } => std::iter::once(kernel).chain(initrd).cloned().collect(),
        _ => Vec::new(),
    }
}
