//! `decide`: the one place where a machine's answer is chosen.

use super::{Answer, Decision, Request, Trace, World};

/// Chooses the answer to `request`. Total: every request has an answer, and silence has its reason.
#[must_use]
pub fn decide(world: &World, request: &Request) -> Decision {
    let _ = (world, request);
    Decision {
        answer: Answer::Silence,
        trace: Trace::default(),
        effects: Vec::new(),
    }
}
