//! How installations stand, in Cobbler's words: by address the target, when it began, and one of `installing`, `finished`,
//! `unknown/stalled`. For `get_status` and for `cordwainer status --cobbler`; `cordwainer status` says more.
//!
//! Pure.

use super::fault::Fault;
use super::methods::Asked;
use super::read::seconds;
use super::value::{Value, members};
use crate::install::{self, Installation, Installs, Stage};
use crate::inventory::Inventory;
use crate::model::{State, Timestamp};
use std::collections::BTreeMap;

/// One address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `system:NAME`.
    pub target: String,
    /// When its installation began.
    pub start: Timestamp,
    /// When it ended, if it has.
    pub stop: Option<Timestamp>,
    /// How often it was begun.
    pub begun: u32,
    /// It was finished.
    pub finished: bool,
    /// In Cobbler's words.
    pub state: String,
}

impl Line {
    fn new(seen: &Installation, state: State, now: Timestamp) -> Self {
        let finished = seen.stage >= Some(Stage::Done) || matches!(state, State::Installed | State::Booted);
        let words = match state {
            _ if finished => "finished".to_owned(),
            State::Claimed | State::Installing => {
                let seconds = now.since(seen.claimed_at).as_secs();
                let minutes = seconds.checked_div(60).unwrap_or(0);
                format!("installing ({minutes}m {}s)", seconds.checked_rem(60).unwrap_or(0))
            }
            _ => "unknown/stalled".to_owned(),
        };
        Self {
            target: format!("system:{}", seen.system),
            start: seen.claimed_at,
            stop: (finished || !state.is_open()).then_some(seen.heard_at),
            begun: seen.attempts,
            finished,
            state: words,
        }
    }
}

/// Every installation whose machine has an address, by that; of several the latest.
#[must_use]
pub fn lines(inventory: &Inventory, installs: &Installs, now: Timestamp) -> BTreeMap<String, Line> {
    let mut all: BTreeMap<String, Line> = BTreeMap::new();
    for seen in installs.by_system.values() {
        let Some(address) = seen.bound else { continue };
        let arm = inventory.arm(seen.system.as_str()).map(|arm| &**arm);
        let line = Line::new(seen, install::state(arm, Some(seen), now), now);
        let address = address.to_string();
        if all.get(&address).is_none_or(|other| other.start <= line.start) {
            all.insert(address, line);
        }
    }
    all
}

/// As Cobbler prints them: columns of 15, 20, 17 and 17 between bars, no line feed at the end. Times are UTC.
#[must_use]
pub fn text(lines: &BTreeMap<String, Line>) -> String {
    let row =
        |ip: &str, target: &str, start: &str, state: &str| format!("{ip:<15}|{target:<20}|{start:<17}|{state:<17}");
    let mut text = row("ip", "target", "start", "state");
    for (ip, line) in lines {
        text.push('\n');
        text.push_str(&row(ip, &line.target, &asctime(line.start), &line.state));
    }
    text
}

/// `Sat Nov 21 20:20:33 2026`, as C's asctime writes it.
fn asctime(at: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = at.to_string();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or("");
    let days = usize::try_from(at.seconds().div_euclid(86_400).rem_euclid(7)).unwrap_or(0);
    let month: usize = part(5, 7).parse().unwrap_or(1);
    format!(
        "{} {} {:>2} {} {}",
        DAYS.get(days).unwrap_or(&""),
        MONTHS.get(month.saturating_sub(1)).unwrap_or(&""),
        part(8, 10).trim_start_matches('0'),
        part(11, 19),
        part(0, 4),
    )
}

/// `get_status(mode, token)`: by address when it began and ended, the target, how often each, and the state; with the mode `text` the table.
pub(super) fn status(asked: &Asked<'_>) -> Result<Value, Fault> {
    let world = asked.world;
    let lines = lines(&world.inventory, &world.installs, world.now);
    if asked.argument(0).and_then(Value::text) == Some("text") {
        return Ok(text(&lines).into());
    }
    Ok(members(lines.into_iter().map(|(address, line)| {
        let fields: Vec<Value> = vec![
            Value::Double(seconds(line.start.0)),
            Value::Double(line.stop.map_or(-1.0, |stop| seconds(stop.0))),
            line.target.into(),
            Value::Int(line.begun.into()),
            Value::Int(i64::from(line.finished)),
            line.state.into(),
        ];
        (address, Value::Array(fields))
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ArmId, Name};

    fn seen(name: &str, last: u8, state: State, stage: Option<Stage>) -> Installation {
        Installation {
            arm: ArmId(name.to_owned()),
            system: name.parse::<Name>().unwrap(),
            state,
            mac: None,
            bound: (last != 0).then(|| [192, 0, 2, last].into()),
            behind: false,
            stage,
            partitioned: false,
            attempts: 2,
            claimed_at: Timestamp(1_795_269_791_204),
            heard_at: Timestamp(1_795_269_851_204),
            reason: None,
        }
    }

    #[test]
    fn each_stand_has_one_of_cobblers_words() {
        let mut installs = Installs::default();
        for (name, last, state, stage) in [
            ("done", 4, State::Installed, Some(Stage::Done)),
            ("held", 3, State::Held, Some(Stage::Partitioning)),
            ("quiet", 0, State::Failed, None),
        ] {
            installs.put(seen(name, last, state, stage));
        }
        let lines = lines(&Inventory::default(), &installs, Timestamp(1_795_269_916_204));
        assert_eq!(
            text(&lines),
            "ip             |target              |start            |state            \n\
             192.0.2.3      |system:held         |Sat Nov 21 14:03:11 2026|unknown/stalled  \n\
             192.0.2.4      |system:done         |Sat Nov 21 14:03:11 2026|finished         "
        );
        let now = Timestamp(1_795_269_916_204);
        let going = Line::new(
            &seen("a", 5, State::Installing, Some(Stage::Packages)),
            State::Installing,
            now,
        );
        assert_eq!((going.state.as_str(), going.stop), ("installing (2m 5s)", None));
        // Armed anew: what its last installation came to, until it begins again.
        let again = Line::new(&seen("a", 5, State::Installed, Some(Stage::Booted)), State::Armed, now);
        assert_eq!(again.state, "finished");
        assert_eq!(
            asctime(Timestamp(951_782_400_000 + 86_400_000)),
            "Wed Mar  1 00:00:00 2000"
        );
    }
}
