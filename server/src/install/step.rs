//! The transitions of an installation. The only place where a machine's state changes, and it changes only by value.

use super::{Arm, Installation, Stage, State};
use crate::model::{Mac, Timestamp};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How often the installer is handed out again after it was handed out first, while nothing was partitioned.
pub const RETRIES: u32 = 3;

/// Scripts fetched again within this time belong to the same boot: loaders ask HEAD, then GET, and repeat after a lost packet.
const SAME_BOOT: Duration = Duration::from_secs(8);

/// What was heard of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The installer's boot script is about to be handed out.
    Launch {
        /// The interface that boots.
        mac: Mac,
        /// Its address, which the install token is bound to; 0.0.0.0 for a guest's kernel, which has none yet.
        address: Ipv4Addr,
        /// True when that is the address of its hypervisor, which a guest asks from behind it.
        behind: bool,
        /// When it last asked by DHCP, if that is known.
        asked: Option<Timestamp>,
    },
    /// The machine network-boots while it may not be wiped: at or past partitioning, or too often.
    BootedAgain,
    /// An answer file was handed out.
    AnswersFetched,
    /// The machine fetches the file of its image. An image reports nothing, so that is all that is ever known, and it is booted once.
    ImageFetched,
    /// A stage was reported, or inferred from a request.
    Reached(Stage),
    /// The installer is done.
    Done,
    /// The installer said that it failed.
    Failed(String),
    /// Nothing was heard for so long.
    Silent(Duration),
}

/// An input for one arming's installation: the effect of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The arming as the decision saw it.
    pub arm: Arm,
    /// What was heard.
    pub input: Input,
}

impl Input {
    /// True when the reply that this input came with must not leave if the input was refused: it carries the installer, or secrets.
    #[must_use]
    pub const fn opens(&self) -> bool {
        matches!(self, Self::Launch { .. } | Self::AnswersFetched)
    }
}

/// True when handing out the installer at `now` would start another attempt, rather than repeat the script of the same boot. `asked` is
/// when the machine last asked by DHCP: one that did so after its script was switched off and on again, however quickly.
#[must_use]
pub fn is_new_attempt(installation: &Installation, asked: Option<Timestamp>, now: Timestamp) -> bool {
    installation.stage.is_some()
        || now.since(installation.heard_at) > SAME_BOOT
        || asked.is_some_and(|asked| asked > installation.heard_at)
}

/// True when the installer may be handed out (again): nothing partitioned, and not too often.
#[must_use]
pub fn may_launch(installation: Option<&Installation>, asked: Option<Timestamp>, now: Timestamp) -> bool {
    installation.is_none_or(|seen| {
        seen.state.is_open() && !seen.partitioned && (!is_new_attempt(seen, asked, now) || seen.attempts <= RETRIES)
    })
}

/// The installation after `input`, or `None` when it changes nothing: an installation that has ended stays as it is.
#[must_use]
pub fn step(arm: &Arm, before: Option<&Installation>, input: &Input, now: Timestamp) -> Option<Installation> {
    let before = before.filter(|seen| seen.arm == arm.id);
    let mut after = match (before, input) {
        (Some(seen), _) => seen.clone(),
        (None, Input::Launch { .. }) => Installation {
            arm: arm.id.clone(),
            system: arm.system.clone(),
            state: State::Armed,
            mac: None,
            bound: None,
            behind: false,
            stage: None,
            partitioned: false,
            attempts: 0,
            claimed_at: now,
            heard_at: now,
            reason: None,
        },
        // Nothing was handed out for this arming, so nothing can be reported of it.
        (None, _) => return None,
    };
    // The installed system says `booted` after done; it is recorded and changes nothing else.
    if *input == Input::Reached(Stage::Booted) && after.state == State::Installed && after.stage != Some(Stage::Booted)
    {
        after.stage = Some(Stage::Booted);
        after.heard_at = now;
        return Some(after);
    }
    // A done that arrives late still tells the truth: the disk holds a finished system.
    let late_done = *input == Input::Done && matches!(after.state, State::Held | State::Failed);
    if !after.state.is_open() && !late_done {
        return None;
    }
    match input {
        // Judged once more: between the decision and now, partitioning may have begun, or the arming run out.
        Input::Launch { asked, .. } if !arm.is_in_force(now) || !may_launch(before, *asked, now) => return None,
        Input::Launch {
            mac,
            address,
            behind,
            asked,
        } => {
            if after.attempts == 0 || is_new_attempt(&after, *asked, now) {
                after.attempts = after.attempts.saturating_add(1);
                after.stage = None;
            }
            after.state = State::Claimed;
            after.mac = Some(*mac);
            // A guest's kernel starts before it has an address: the token is bound by the subnet's rule alone then.
            after.bound = (!address.is_unspecified()).then_some(*address);
            after.behind = *behind;
        }
        Input::BootedAgain => {
            after.state = State::Held;
            after.reason = Some(held_because(&after));
        }
        Input::ImageFetched => {
            after.state = State::Booted;
            after.stage = Some(Stage::Kernel);
            after.reason = None;
        }
        Input::AnswersFetched => {
            after.state = State::Installing;
            after.stage = after.stage.max(Some(Stage::Answers));
        }
        Input::Reached(stage) => {
            if *stage >= Stage::Answers {
                after.state = State::Installing;
            }
            after.partitioned |= *stage >= Stage::Partitioning;
            after.stage = after.stage.max(Some(*stage));
        }
        Input::Done => {
            after.state = State::Installed;
            after.stage = Some(Stage::Done);
            after.partitioned = true;
            after.reason = None;
        }
        Input::Failed(reason) => {
            after.state = State::Failed;
            after.reason = Some(reason.clone());
        }
        Input::Silent(silence) => {
            after.state = State::Failed;
            after.reason = Some(format!(
                "nothing was heard of the installer for {} minutes",
                silence.as_secs() / 60
            ));
        }
    }
    after.heard_at = now;
    Some(after)
}

fn held_because(installation: &Installation) -> String {
    if installation.partitioned {
        "it booted from the network again after partitioning began, without done; its disk is not wiped again unasked"
            .to_owned()
    } else {
        format!(
            "the installer was started {} times and never got as far as partitioning",
            installation.attempts
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::ArmId;

    fn arm() -> Arm {
        Arm {
            id: ArmId("a1".into()),
            system: "web1".parse().unwrap(),
            at: Timestamp(0),
            until: Timestamp(14_400_000),
            by: "root".into(),
        }
    }

    fn launch() -> Input {
        Input::Launch {
            mac: Mac::new([2, 0, 0, 0, 0, 1]),
            address: Ipv4Addr::new(192, 0, 2, 10),
            behind: false,
            asked: None,
        }
    }

    /// The same by a machine that asked by DHCP at `asked`.
    fn launch_after(asked: i64) -> Input {
        Input::Launch {
            mac: Mac::new([2, 0, 0, 0, 0, 1]),
            address: Ipv4Addr::new(192, 0, 2, 10),
            behind: false,
            asked: Some(Timestamp(asked)),
        }
    }

    fn run(inputs: &[(i64, Input)]) -> Installation {
        let mut seen = None;
        for (at, input) in inputs {
            seen = step(&arm(), seen.as_ref(), input, Timestamp(*at)).or(seen);
        }
        seen.unwrap()
    }

    #[test]
    fn nothing_but_a_launch_starts_one() {
        for input in [
            Input::Done,
            Input::AnswersFetched,
            Input::BootedAgain,
            Input::Reached(Stage::Started),
        ] {
            assert_eq!(step(&arm(), None, &input, Timestamp(1)), None);
        }
    }

    #[test]
    fn the_whole_way() {
        let seen = run(&[
            (1, launch()),
            (2, Input::Reached(Stage::Kernel)),
            (3, Input::AnswersFetched),
            (4, Input::Reached(Stage::Partitioning)),
            (5, Input::Done),
            (6, Input::Reached(Stage::Booted)),
        ]);
        assert_eq!(
            (seen.state, seen.stage, seen.attempts),
            (State::Installed, Some(Stage::Booted), 1)
        );
    }

    #[test]
    fn a_finished_machine_stays_finished() {
        let seen = run(&[(1, launch()), (2, Input::Done)]);
        for input in [
            launch(),
            Input::Failed("x".into()),
            Input::BootedAgain,
            Input::Reached(Stage::Started),
            Input::Done,
        ] {
            assert_eq!(step(&arm(), Some(&seen), &input, Timestamp(3)), None, "{input:?}");
        }
    }

    #[test]
    fn the_same_script_twice_is_one_attempt_and_a_power_cut_is_another() {
        let seen = run(&[(1, launch()), (1000, launch())]);
        assert_eq!(seen.attempts, 1);
        let seen = run(&[(1, launch()), (2, Input::Reached(Stage::Kernel)), (1000, launch())]);
        assert_eq!((seen.attempts, seen.stage), (2, None));
        // A power cut before the kernel, and back within seconds: it asked by DHCP in between.
        let seen = run(&[(10, launch_after(5)), (1000, launch_after(5))]);
        assert_eq!(seen.attempts, 1);
        let seen = run(&[(10, launch_after(5)), (3000, launch_after(2900))]);
        assert_eq!(seen.attempts, 2);
        let seen = run(&[
            (1, launch()),
            (60_000, launch()),
            (120_000, launch()),
            (180_000, launch()),
        ]);
        assert_eq!(seen.attempts, 4);
        assert!(!may_launch(Some(&seen), None, Timestamp(240_000)));
    }

    #[test]
    fn past_partitioning_nothing_is_launched_again() {
        let seen = run(&[(1, launch()), (2, Input::Reached(Stage::Partitioning))]);
        assert!(!may_launch(Some(&seen), None, Timestamp(3)));
        // A script that was decided before and is only about to leave now.
        assert_eq!(step(&arm(), Some(&seen), &launch(), Timestamp(3)), None);
        assert_eq!(step(&arm(), None, &launch(), arm().until), None);
        let held = step(&arm(), Some(&seen), &Input::BootedAgain, Timestamp(4)).unwrap();
        assert_eq!(held.state, State::Held);
        let done = step(&arm(), Some(&held), &Input::Done, Timestamp(5)).unwrap();
        assert_eq!(done.state, State::Installed);
    }
}
