//! Where a guest stands, found out from libvirt alone: the job in its metadata, whether it runs, and from what.
//!
//! Pure. Called for each guest when a supervisor starts, and when a connection to a hypervisor comes (back). Whatever step the supervisor
//! was killed at, what it had begun is ended here, and what it had not begun is begun.

use super::{Boot, Effect, Job, Phase, Power, Proof, Stop, cancel, fail, flip, installed_off, started, stopped};
use crate::model::Timestamp;

/// What libvirt has of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Whether it runs, and from what.
    pub power: Power,
    /// Why it is off, if it is.
    pub how: Stop,
}

/// The job as it stands now, and what to do. `kept` is what the metadata holds.
#[must_use]
pub fn resume(kept: &Job, observed: Observed, now: Timestamp) -> (Job, Vec<Effect>) {
    let mut job = kept.clone();
    job.power = observed.power;
    let effects = match observed.power {
        Power::On(boot) => runs(&mut job, boot),
        Power::Off => is_off(&mut job, observed.how, now),
    };
    (job, effects)
}

fn runs(job: &mut Job, boot: Boot) -> Vec<Effect> {
    let effects = started(job, boot);
    if effects.is_empty() && job.phase.needs_server() {
        return vec![Effect::AskServer];
    }
    effects
}

fn is_off(job: &mut Job, how: Stop, now: Timestamp) -> Vec<Effect> {
    match job.phase {
        Phase::Preparing => vec![Effect::Prepare],
        // A new domain has no other life that libvirt could remember.
        Phase::Launching | Phase::Unsure if job.fresh && how == Stop::Destroyed => cancel(job),
        Phase::Launching | Phase::Unsure if job.proof != Proof::Report => unwatched(job, how),
        Phase::Launching | Phase::Unsure => {
            job.phase = Phase::Unsure;
            vec![Effect::AskServer]
        }
        Phase::Midway { started: false } => vec![Effect::StartFromDisk],
        Phase::Installing | Phase::Midway { started: true } => {
            // As if it had just stopped: the server gets its time to hear of done.
            let effects = stopped(job, how, now);
            if effects.is_empty() {
                vec![Effect::AskServer]
            } else {
                effects
            }
        }
        Phase::Stopped { .. } => vec![Effect::AskServer],
        Phase::Finishing { .. } | Phase::Lingering if how == Stop::Aside => Vec::new(),
        Phase::Finishing { .. } | Phase::Lingering if how == Stop::Destroyed => installed_off(job),
        Phase::Finishing { .. } | Phase::Lingering => flip(job),
        // It was started, and an admin has cut its power since.
        Phase::Starting if job.fresh && how == Stop::Destroyed && job.done => installed_off(job),
        Phase::Starting => vec![Effect::StartFromDisk],
        Phase::Installed | Phase::Failed { .. } | Phase::Cancelled => Vec::new(),
        Phase::Refused { .. } => vec![Effect::Undo],
    }
}

/// Nobody hears of this installer, so nobody can say whether it ran: its medium is started once more only if it never ran.
fn unwatched(job: &mut Job, how: Stop) -> Vec<Effect> {
    match how {
        Stop::Unknown => {
            job.phase = Phase::Launching;
            vec![Effect::Launch]
        }
        Stop::Guest if job.fresh => flip(job),
        Stop::Aside => Vec::new(),
        _ => fail(
            job,
            "the supervisor was stopped while it started the installer, and nothing says whether it ran".to_owned(),
        ),
    }
}
