//! The two-phase flow of one guest: the first boot's configuration differs from all later ones, and nobody may lose the guest in between.
//!
//! Pure. The final configuration is defined first, then the installer is created with the same name and uuid; the guest is started from
//! its disk once the installer reported done *and* stopped, and autostart is set only then. [`step()`] takes what was heard, one thing
//! at a time, and says what to do; [`resume()`] finds out where a guest stands from what libvirt has of it. It must never ask for the
//! installer twice unless the server allows it, start a disk that nobody vouched for, or set autostart before success.

mod resume;

pub use resume::{Observed, resume};

pub use crate::event::control::Standing as Heard;

use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A done that arrives so long after the stop still counts as the same end.
pub const DONE_AFTER_STOP: Duration = Duration::from_secs(30);
/// A guest that reported done and still runs after so long is installed; it is started from its disk at its next stop.
pub const STOP_AFTER_DONE: Duration = Duration::from_secs(600);

/// What proves that the installation ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The installer tells the boot server.
    Report,
    /// Nobody tells: the medium is not ours, and the guest's own clean stop counts.
    Stop,
    /// The disk holds a system already.
    Disk,
}

/// What a running guest was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boot {
    /// The installing configuration.
    Installer,
    /// The final configuration.
    Disk,
}

/// Why a guest stopped (libvirt's `virDomainEventStoppedDetailType` and `virDomainShutoffReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// It powered off or rebooted: with `on_reboot` destroy both look the same, and so does a panic with `panic=`.
    Guest,
    /// An admin cut its power.
    Destroyed,
    /// It crashed; so does libvirt call a QEMU process that was killed.
    Crashed,
    /// The hypervisor's process did not come up, or died.
    Killed,
    /// Its memory was put aside: it goes on later, here or elsewhere.
    Aside,
    /// libvirt does not know, as after it was restarted itself.
    Unknown,
}

impl Stop {
    /// For a sentence: `it powered off or rebooted`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "it powered off or rebooted",
            Self::Destroyed => "its power was cut by an admin",
            Self::Crashed => "it crashed, or its QEMU process was killed",
            Self::Killed => "its QEMU process did not start or died",
            Self::Aside => "it was saved",
            Self::Unknown => "it stopped while nobody looked",
        }
    }
}

/// Whether it runs, and from what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// It is off.
    Off,
    /// It runs, or is paused.
    On(Boot),
}

/// Where a guest stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
pub enum Phase {
    /// Its final configuration is defined; disks and media are being made.
    Preparing,
    /// The installer is about to be created.
    Launching,
    /// It is not known whether the installer ran: the server is asked before it is created again.
    Unsure,
    /// The installer runs.
    Installing,
    /// The distro reboots in mid-install: it goes on from the disk, done is still to come.
    Midway {
        /// True once it was seen running from the disk.
        started: bool,
    },
    /// It stopped, and done is not known of: the server is asked, for a while.
    Stopped {
        /// When it was noticed.
        at: Timestamp,
        /// Why.
        how: Stop,
    },
    /// Done was reported; it still runs.
    Finishing {
        /// When done was heard.
        since: Timestamp,
    },
    /// Done was reported long ago and it still runs: installed, started from the disk at its next stop.
    Lingering,
    /// Done and stopped: it is being started from the disk.
    Starting,
    /// It is installed.
    Installed,
    /// It failed; the disk and the serial log are kept.
    Failed {
        /// Why, in a sentence.
        reason: String,
    },
    /// An admin ended it.
    Cancelled,
    /// It could not be made, and what was made of it is taken back.
    Refused {
        /// Why, in a sentence.
        reason: String,
    },
}

impl Phase {
    /// `installing`, as status shows it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Launching | Self::Unsure => "launching",
            Self::Installing => "installing",
            Self::Midway { .. } => "installing from disk",
            Self::Stopped { .. } => "stopped, done not heard yet",
            Self::Finishing { .. } => "done, still running",
            Self::Lingering => "installed, not restarted yet",
            Self::Starting => "starting from disk",
            Self::Installed => "installed",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Refused { .. } => "refused",
        }
    }

    /// True while something is still to happen by itself.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(
            self,
            Self::Installed | Self::Failed { .. } | Self::Cancelled | Self::Refused { .. }
        )
    }

    /// True while what the server knows of the installation decides what happens next.
    #[must_use]
    pub const fn needs_server(&self) -> bool {
        matches!(
            self,
            Self::Unsure | Self::Installing | Self::Midway { .. } | Self::Stopped { .. } | Self::Finishing { .. }
        )
    }

    /// True once the disk holds a finished system.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Installed | Self::Lingering)
    }
}

/// One guest's installation, as it is kept in the metadata of its inactive configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Where it stands.
    #[serde(flatten)]
    pub phase: Phase,
    /// What proves the end.
    pub proof: Proof,
    /// The distro's signature declares a reboot in mid-install.
    #[serde(default)]
    pub reboots_midway: bool,
    /// Autostart is wanted.
    #[serde(default)]
    pub autostart: bool,
    /// Its disks are made by this job, so that a job which never began takes them back. False for a reinstallation.
    #[serde(default)]
    pub fresh: bool,
    /// The installer reported done.
    #[serde(default)]
    pub done: bool,
    /// An admin asked it to power off: its next stop is meant to last.
    #[serde(default)]
    pub leave_off: bool,
    /// What libvirt last said.
    #[serde(skip, default = "off")]
    pub power: Power,
}

const fn off() -> Power {
    Power::Off
}

impl Job {
    /// A job before anything was done.
    #[must_use]
    pub const fn new(proof: Proof) -> Self {
        Self {
            phase: Phase::Preparing,
            proof,
            reboots_midway: false,
            autostart: false,
            fresh: true,
            done: false,
            leave_off: false,
            power: Power::Off,
        }
    }

    /// When [`step()`] wants a [`Input::Tick`], if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Stopped { at, .. } => Some(at.plus(DONE_AFTER_STOP)),
            Phase::Finishing { since } => Some(since.plus(STOP_AFTER_DONE)),
            _ => None,
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Disks and media are there.
    Prepared,
    /// libvirt took the installing configuration.
    Launched,
    /// What was asked for last could not be done.
    Broken(String),
    /// It runs.
    Started(Boot),
    /// It stopped.
    Stopped(Stop),
    /// What the server says.
    Server(Heard),
    /// An admin asks it to power off.
    AskedOff,
    /// Time passed.
    Tick,
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make disks and bring the media.
    Prepare,
    /// Write the job, as it was when this was decided, into the inactive configuration. What follows is done only once that succeeded.
    Remember,
    /// Create the installer; the server is asked for its command line, and whether it may be started (again).
    Launch,
    /// Start the final configuration.
    StartFromDisk,
    /// Set autostart.
    Autostart,
    /// Ask the server how the installation stands.
    AskServer,
    /// Kernel and initrd are no longer needed by this guest.
    Release,
    /// Take back what was made: nothing ran.
    Undo,
    /// Tell people.
    Tell(Tale),
}

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tale {
    /// The installer runs.
    Installing,
    /// It stopped, and done is waited for.
    Waiting(Stop),
    /// Done, and it still runs.
    Done,
    /// It rebooted in mid-install, and goes on from its disk.
    GoesOn,
    /// It is started from its disk.
    Flipped,
    /// Installed, and it runs from its disk.
    Installed,
    /// Installed; it runs what its installer left, until its next stop.
    Lingers,
    /// Installed, and off because an admin wanted that.
    InstalledOff,
    /// Failed.
    Failed(String),
    /// An admin ended it.
    Cancelled,
}

impl fmt::Display for Tale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installing => f.write_str("installer started"),
            Self::Waiting(how) => write!(
                f,
                "{}, and done was not reported; waiting {} s for it",
                how.as_str(),
                DONE_AFTER_STOP.as_secs()
            ),
            Self::Done => f.write_str("done reported; waiting for it to stop"),
            Self::GoesOn => f.write_str("rebooted in mid-install, as its distro does; goes on from its disk"),
            Self::Flipped => f.write_str("done and stopped; starting from its disk"),
            Self::Installed => f.write_str("installed, runs from its disk"),
            Self::Lingers => {
                f.write_str("installed; still runs what the installer left, started from its disk at its next stop")
            }
            Self::InstalledOff => f.write_str("installed, and left off as an admin wanted"),
            Self::Failed(reason) => write!(f, "failed: {reason}; its disk and serial log are kept"),
            Self::Cancelled => f.write_str("cancelled: an admin cut its power"),
        }
    }
}

/// The job after `input`, and what to do. The same input twice changes nothing the second time.
#[must_use]
pub fn step(job: &Job, input: &Input, now: Timestamp) -> (Job, Vec<Effect>) {
    let mut next = job.clone();
    let effects = match input {
        Input::Prepared => prepared(&mut next),
        Input::Launched => started(&mut next, Boot::Installer),
        Input::Broken(reason) => broken(&mut next, reason),
        Input::Started(boot) => started(&mut next, *boot),
        Input::Stopped(how) => stopped(&mut next, *how, now),
        Input::Server(heard) => server(&mut next, heard, now),
        Input::AskedOff => asked_off(&mut next),
        Input::Tick => tick(&mut next, now),
    };
    (next, effects)
}

fn prepared(job: &mut Job) -> Vec<Effect> {
    if job.phase != Phase::Preparing {
        return Vec::new();
    }
    if job.proof == Proof::Disk {
        job.phase = Phase::Starting;
        vec![Effect::Remember, Effect::StartFromDisk]
    } else {
        job.phase = Phase::Launching;
        vec![Effect::Remember, Effect::Launch]
    }
}

fn broken(job: &mut Job, reason: &str) -> Vec<Effect> {
    match job.phase {
        // Nothing ran: a job that made its disks takes them back, any other keeps what there was.
        Phase::Preparing | Phase::Launching if job.fresh && job.power == Power::Off => {
            job.phase = Phase::Refused {
                reason: reason.to_owned(),
            };
            vec![Effect::Undo, Effect::Tell(Tale::Failed(reason.to_owned()))]
        }
        Phase::Starting if job.proof == Proof::Disk && job.fresh => {
            job.phase = Phase::Refused {
                reason: reason.to_owned(),
            };
            vec![Effect::Undo, Effect::Tell(Tale::Failed(reason.to_owned()))]
        }
        Phase::Preparing | Phase::Launching | Phase::Unsure | Phase::Starting | Phase::Midway { .. } => {
            fail(job, reason.to_owned())
        }
        _ => Vec::new(),
    }
}

fn started(job: &mut Job, boot: Boot) -> Vec<Effect> {
    job.power = Power::On(boot);
    match (&job.phase, boot) {
        (Phase::Preparing | Phase::Launching | Phase::Unsure | Phase::Stopped { .. }, Boot::Installer) => {
            job.phase = Phase::Installing;
            vec![Effect::Remember, Effect::Tell(Tale::Installing), Effect::AskServer]
        }
        (Phase::Starting | Phase::Finishing { .. } | Phase::Lingering, Boot::Disk) => installed(job),
        // Somebody started the disk by hand; what it is worth, the server knows.
        (Phase::Failed { .. }, Boot::Disk) if job.done => installed(job),
        (Phase::Preparing, Boot::Disk) if job.proof == Proof::Disk => installed(job),
        (Phase::Preparing | Phase::Launching | Phase::Unsure, Boot::Disk) => {
            fail(job, "it was started from its disk before the installer ran".to_owned())
        }
        (Phase::Midway { started: false } | Phase::Stopped { .. } | Phase::Installing, Boot::Disk) => {
            job.phase = Phase::Midway { started: true };
            vec![Effect::Remember, Effect::Tell(Tale::GoesOn), Effect::AskServer]
        }
        _ => Vec::new(),
    }
}

fn stopped(job: &mut Job, how: Stop, now: Timestamp) -> Vec<Effect> {
    let ran = job.power;
    job.power = Power::Off;
    if how == Stop::Aside {
        return Vec::new();
    }
    match job.phase {
        // A stop that belongs to the boot before: what is to be started has not run yet.
        Phase::Starting | Phase::Midway { started: false } if ran == Power::Off => Vec::new(),
        Phase::Launching | Phase::Unsure | Phase::Installing | Phase::Midway { .. } => match how {
            Stop::Destroyed => cancel(job),
            Stop::Guest | Stop::Unknown if job.proof == Proof::Stop => flip(job),
            Stop::Crashed | Stop::Killed if job.proof == Proof::Stop => fail(job, how.as_str().to_owned()),
            _ => {
                job.phase = Phase::Stopped { at: now, how };
                vec![Effect::Remember, Effect::Tell(Tale::Waiting(how)), Effect::AskServer]
            }
        },
        Phase::Finishing { .. } | Phase::Lingering if how == Stop::Destroyed || job.leave_off => installed_off(job),
        Phase::Finishing { .. } | Phase::Lingering => flip(job),
        _ => Vec::new(),
    }
}

fn server(job: &mut Job, heard: &Heard, now: Timestamp) -> Vec<Effect> {
    match heard {
        Heard::Done { booted } => done(job, *booted, now),
        Heard::Failed(reason) if job.phase.needs_server() && !job.done => fail(job, reason.clone()),
        Heard::Gone(reason) if job.phase.needs_server() && !job.done => fail(job, reason.clone()),
        Heard::Open { partitioned } => still_open(job, *partitioned, now),
        Heard::Failed(_) | Heard::Gone(_) => Vec::new(),
    }
}

fn done(job: &mut Job, booted: bool, now: Timestamp) -> Vec<Effect> {
    if job.proof != Proof::Report {
        return Vec::new();
    }
    let first = !job.done;
    match (&job.phase, job.power) {
        (Phase::Finishing { .. }, Power::On(Boot::Installer)) if booted => {
            // The installer went over into the installed system without a reboot (kexec).
            lingers(job)
        }
        (Phase::Installing | Phase::Failed { .. } | Phase::Unsure, Power::On(Boot::Installer)) if first => {
            job.done = true;
            job.phase = Phase::Finishing { since: now };
            vec![Effect::Remember, Effect::Tell(Tale::Done)]
        }
        (
            Phase::Installing | Phase::Unsure | Phase::Stopped { .. } | Phase::Failed { .. } | Phase::Midway { .. },
            Power::Off,
        ) if first => {
            job.done = true;
            if job.leave_off { installed_off(job) } else { flip(job) }
        }
        (Phase::Midway { .. } | Phase::Failed { .. }, Power::On(Boot::Disk)) if first => {
            job.done = true;
            installed(job)
        }
        // An admin ended it; that it was finished by then is still true.
        (Phase::Cancelled, Power::Off) if first => {
            job.done = true;
            installed_off(job)
        }
        _ => Vec::new(),
    }
}

fn still_open(job: &mut Job, partitioned: bool, now: Timestamp) -> Vec<Effect> {
    match job.phase {
        // The server has heard of no change to the disk: it judges by itself how often the installer may be started.
        Phase::Unsure if job.power == Power::Off && !partitioned => {
            job.phase = Phase::Launching;
            vec![Effect::Remember, Effect::Launch]
        }
        Phase::Unsure if job.power == Power::Off => {
            job.phase = Phase::Stopped {
                at: now,
                how: Stop::Unknown,
            };
            still_open(job, partitioned, now)
        }
        Phase::Stopped { how, .. }
            if job.reboots_midway && partitioned && matches!(how, Stop::Guest | Stop::Unknown) && !job.leave_off =>
        {
            // Once only: from the disk on, a reboot is no stop any more.
            job.reboots_midway = false;
            job.phase = Phase::Midway { started: false };
            vec![Effect::Remember, Effect::StartFromDisk]
        }
        Phase::Stopped { at, how } if now.since(at) >= DONE_AFTER_STOP => {
            fail(job, format!("{}, and done was never reported", how.as_str()))
        }
        _ => Vec::new(),
    }
}

fn asked_off(job: &mut Job) -> Vec<Effect> {
    if !job.phase.is_open() || job.leave_off {
        return Vec::new();
    }
    job.leave_off = true;
    vec![Effect::Remember]
}

fn tick(job: &mut Job, now: Timestamp) -> Vec<Effect> {
    match job.phase {
        // Only the server can say that done was not reported: while it cannot be asked, nothing is failed.
        Phase::Stopped { at, .. } if now.since(at) >= DONE_AFTER_STOP => vec![Effect::AskServer],
        Phase::Finishing { since } if now.since(since) >= STOP_AFTER_DONE => lingers(job),
        _ => Vec::new(),
    }
}

fn lingers(job: &mut Job) -> Vec<Effect> {
    job.phase = Phase::Lingering;
    let mut effects = autostart(job);
    effects.extend([Effect::Remember, Effect::Tell(Tale::Lingers)]);
    effects
}

fn flip(job: &mut Job) -> Vec<Effect> {
    if job.leave_off {
        return installed_off(job);
    }
    job.phase = Phase::Starting;
    vec![Effect::Remember, Effect::Tell(Tale::Flipped), Effect::StartFromDisk]
}

fn installed(job: &mut Job) -> Vec<Effect> {
    job.phase = Phase::Installed;
    job.leave_off = false;
    let mut effects = autostart(job);
    effects.extend([Effect::Remember, Effect::Release, Effect::Tell(Tale::Installed)]);
    effects
}

fn installed_off(job: &mut Job) -> Vec<Effect> {
    job.phase = Phase::Installed;
    job.leave_off = false;
    let mut effects = autostart(job);
    effects.extend([Effect::Remember, Effect::Release, Effect::Tell(Tale::InstalledOff)]);
    effects
}

fn autostart(job: &Job) -> Vec<Effect> {
    if job.autostart {
        vec![Effect::Autostart]
    } else {
        Vec::new()
    }
}

fn fail(job: &mut Job, reason: String) -> Vec<Effect> {
    job.phase = Phase::Failed { reason: reason.clone() };
    vec![Effect::Remember, Effect::Release, Effect::Tell(Tale::Failed(reason))]
}

fn cancel(job: &mut Job) -> Vec<Effect> {
    job.phase = Phase::Cancelled;
    vec![Effect::Remember, Effect::Release, Effect::Tell(Tale::Cancelled)]
}

#[cfg(test)]
mod tests;
