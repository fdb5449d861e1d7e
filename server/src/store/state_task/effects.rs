//! What the effects of decisions come to: rows of live.db and events, by the state machine of `install`.
//!
//! Touches nothing but the live state that it is given; what it puts there is taken back when its rows cannot be written.

use crate::boot::{Effect, When};
use crate::event::{Event, What};
use crate::install::{Input, Installation, Sighting, Stage, State, step};
use crate::model::Timestamp;
use crate::ports::{Live, LiveRow};
use std::time::Duration;

/// How often it is written down that an installer was heard of, while nothing else changes.
const HEARD: Duration = Duration::from_secs(5);

/// What effects come to.
#[derive(Default)]
pub(super) struct Applied {
    /// The rows to write.
    pub(super) rows: Vec<LiveRow>,
    /// The events to tell once they are written.
    pub(super) events: Vec<Event>,
    /// Why the reply must not leave: the installation has moved on since it was decided.
    pub(super) refused: Option<String>,
}

/// Applies effects to the live state.
pub(super) fn apply(live: &mut Live, effects: &[Effect], now: Timestamp) -> Applied {
    let Applied {
        mut rows,
        mut events,
        mut refused,
    } = Applied::default();
    for effect in effects {
        match effect {
            Effect::Seen {
                mac,
                address,
                firmware,
                loader,
            } => {
                let seen = Sighting {
                    mac: *mac,
                    firmware: *firmware,
                    loader: *loader,
                    asked: now,
                    at: now,
                };
                live.installs.saw(*address, seen);
            }
            Effect::Install { when, act } => {
                let before = live.installs.by_system.get(&act.arm.system).cloned();
                let Some(after) = step(&act.arm, before.as_deref(), &act.input, now) else {
                    if act.input.opens() {
                        let state = before.map_or(State::Idle, |before| before.state);
                        refused = Some(format!("{} is {state} by now", act.arm.system));
                    }
                    continue;
                };
                if before
                    .as_deref()
                    .is_some_and(|before| only_heard_again(before, &after, &act.input))
                {
                    continue;
                }
                let new_attempt =
                    before.is_none_or(|before| before.arm != after.arm || before.attempts != after.attempts);
                if let Some(what) = told(&after, &act.input, *when, new_attempt) {
                    events.push(Event {
                        at: now,
                        mac: after.mac,
                        system: Some(after.system.clone()),
                        peer: after.bound.map(Into::into),
                        what,
                    });
                }
                live.installs.put(after.clone());
                rows.push(LiveRow::Installation(Box::new(after)));
            }
        }
    }
    Applied { rows, events, refused }
}

/// True when all that is new is that something was heard a moment later. Installers fetch a kernel in pieces and packages by the
/// hundred; each is no row. The watchdog counts in minutes.
fn only_heard_again(before: &Installation, after: &Installation, input: &Input) -> bool {
    let same = Installation {
        heard_at: before.heard_at,
        ..after.clone()
    };
    matches!(input, Input::Reached(_) | Input::AnswersFetched)
        && same == *before
        && after.heard_at.since(before.heard_at) < HEARD
}

/// The event that a transition is worth. A reported stage is told by who took the report, with its details.
fn told(after: &Installation, input: &Input, when: When, new_attempt: bool) -> Option<What> {
    let reason = || after.reason.clone().unwrap_or_default();
    match input {
        Input::Launch { address, .. } => new_attempt.then_some(What::Claimed {
            address: *address,
            attempt: after.attempts,
        }),
        Input::Done => Some(What::Installed),
        Input::ImageFetched => Some(What::ImageBooted),
        Input::Reached(Stage::Booted) if after.state == State::Installed => Some(What::BootedFromDisk),
        Input::Reached(stage) if when == When::After => Some(What::Stage {
            stage: stage.to_string(),
            detail: None,
            reported: false,
        }),
        Input::Reached(_) | Input::AnswersFetched => None,
        Input::Failed(_) | Input::Silent(_) => Some(What::Failed { reason: reason() }),
        Input::BootedAgain => Some(What::Held { reason: reason() }),
    }
}
