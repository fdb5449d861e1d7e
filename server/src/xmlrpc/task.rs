//! `background_*`: tasks with an id, a state and a log. What they do here is done at once, so each but that of power is over when its id is
//! given.
//!
//! Pure.

use super::fault::Fault;
use super::methods::{Asked, Outcome, nothing};
use super::read::{seconds, without_secrets};
use super::session::{Sessions, Task};
use super::value::{Value, members};
use super::write;
use crate::inventory::{resolve_profile, resolve_system};
use crate::model::base32;

/// Systems that are rendered one by one; what breaks one of more breaks many of these.
const TRIED: usize = 1000;

/// A task that is over.
fn over(asked: &Asked<'_>, name: &str, log: String, failed: bool) -> Task {
    Task {
        state: if failed { "failed" } else { "complete" },
        log,
        ..running(asked, name)
    }
}

/// A task that has begun. Its id cannot be guessed: its log is given to anyone who has it, as Cobbler's clients ask for it.
pub(super) fn running(asked: &Asked<'_>, name: &str) -> Task {
    let at = asked.world.now;
    let (day, time) = (at.to_string(), base32(asked.random.get(..10).unwrap_or(&[])));
    let stamp: String = day
        .chars()
        .filter(|c| c.is_ascii_digit() || *c == '-')
        .take(16)
        .collect();
    Task {
        id: format!("{stamp}_{}_{time}", name.replace(' ', "_")),
        name: name.to_owned(),
        at,
        state: "running",
        log: String::new(),
        read_by: Vec::new(),
    }
}

/// `background_sync(options, token)`.
pub(super) fn sync(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let outcome = write::sync(asked, sessions)?;
    let log = "sync: there is nothing to write; every answer is made when a machine asks\n\
               sync: what was changed is served\n*** TASK COMPLETE ***\n";
    let task = over(asked, "Sync", log.to_owned(), false);
    let id = Value::from(task.id.as_str());
    match outcome {
        Outcome::Store { changes, saved, .. } => Ok(Outcome::Store {
            changes,
            then: id,
            saved,
            task: Some(Box::new(task)),
        }),
        _ => {
            sessions.remember(task);
            Ok(Outcome::Done(id))
        }
    }
}

/// `background_validate_autoinstall_files(options, token)`: renders everyone's.
pub(super) fn validate(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let inventory = &asked.world.inventory;
    let profiles = inventory.profiles().map(|profile| {
        (
            format!("profile {}", profile.name),
            resolve_profile(inventory, profile.name.as_str()),
        )
    });
    let systems = inventory
        .systems()
        .filter(|system| system.image.is_none())
        .take(TRIED)
        .map(|system| {
            (
                format!("system {}", system.name),
                resolve_system(inventory, system.name.as_str()),
            )
        });
    let (mut log, mut broken) = (String::new(), false);
    for (what, resolved) in profiles.chain(systems) {
        let judged = resolved
            .map_err(|error| error.to_string())
            .and_then(|resolved| without_secrets(asked, resolved).map_err(|fault| fault.said().to_owned()));
        if let Err(why) = judged {
            broken = true;
            log.push_str(&format!("{what}: {why}\n"));
        }
    }
    log.push_str(if broken {
        "*** TASK FAILED ***\n"
    } else {
        "*** all render ***\n*** TASK COMPLETE ***\n"
    });
    let task = over(asked, "Validate autoinstall files", log, broken);
    let id = Value::from(task.id.as_str());
    sessions.remember(task);
    Ok(Outcome::Done(id))
}

/// When, what, how it stands, and who was told.
fn event(task: &Task) -> Value {
    Value::Array(vec![
        Value::Double(seconds(task.at.0)),
        task.name.as_str().into(),
        task.state.into(),
        task.read_by.iter().map(String::as_str).collect(),
    ])
}

/// `get_events(for_user)`: those that the user was not told of yet. Without a login there are none.
pub(super) fn events(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let Ok((known, token)) = asked.login() else {
        return Ok(Outcome::Done(nothing()));
    };
    let user = asked
        .argument(0)
        .and_then(Value::text)
        .filter(|user| *user != token && !user.is_empty());
    let mut all = Vec::new();
    for task in sessions.tasks() {
        if let Some(user) = user {
            if task.read_by.iter().any(|by| by == user) {
                continue;
            }
            if user == known {
                task.read_by.push(user.to_owned());
            }
        }
        all.push((task.id.clone(), event(task)));
    }
    Ok(Outcome::Done(members(all)))
}

pub(super) fn log(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let log = sessions.task(asked.text(0)?).map_or("?", |task| task.log.as_str());
    Ok(Outcome::Done(log.into()))
}

pub(super) fn status(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let task = sessions
        .task(asked.text(0)?)
        .ok_or_else(|| Fault::cx("no event with that id"))?;
    Ok(Outcome::Done(event(task)))
}
