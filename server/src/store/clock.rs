//! The clock of the running daemon: wall time at its start, advanced by `CLOCK_BOOTTIME`.
//!
//! A step of the wall clock (NTP, an admin) neither expires nor revives a lease or a token while the daemon runs, and time spent in
//! suspend counts.
#![expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]

use crate::model::Timestamp;
use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Gives the time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    boot: Duration,
}

impl Clock {
    /// A clock that starts at the wall time of now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            wall: wall(),
            boot: boottime(),
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall.plus(boottime().saturating_sub(self.boot))
    }
}

/// The wall time, for a process that only asks once.
#[must_use]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).plus(since)
}

fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}

/// A step of the wall clock between two runs that no time off explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leap {
    /// It is ahead by so much.
    Ahead(Duration),
    /// It went back by so much.
    Back(Duration),
}

/// A server is seldom off for longer; and when it was, every client has forgotten its lease, so that one that seems to hold harms nobody.
const AWAY: Duration = Duration::from_secs(30 * 86_400);
/// What NTP sets right after a start.
const ADJUSTED: Duration = Duration::from_secs(300);

/// Judges the clock at a start: `written` is the latest time that the state knows of. Time that passed while nothing ran is no leap.
pub(super) fn leap(written: Timestamp, now: Timestamp) -> Option<Leap> {
    let (ahead, back) = (now.since(written), written.since(now));
    if ahead > AWAY {
        Some(Leap::Ahead(ahead))
    } else if back > ADJUSTED {
        Some(Leap::Back(back))
    } else {
        None
    }
}

impl Leap {
    /// A time of before the leap, as the clock tells it now.
    pub(super) fn moved(self, time: Timestamp) -> Timestamp {
        let millis = |by: Duration| i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        match self {
            Self::Ahead(by) => Timestamp(time.0.saturating_add(millis(by))),
            // The end of time stays where it is.
            Self::Back(by) if time.0 < i64::MAX => Timestamp(time.0.saturating_sub(millis(by))),
            Self::Back(_) => time,
        }
    }
}

/// `20261121T140311Z`: a time in the name of a file.
pub(super) fn dated(now: Timestamp) -> String {
    now.to_string().replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_advances_and_never_goes_back() {
        let clock = Clock::start();
        let begun = clock.now();
        let mut last = begun;
        while last.since(begun) < Duration::from_millis(20) {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn names_of_files_have_no_colons() {
        assert_eq!(dated(Timestamp(1_795_269_791_204)), "20261121T140311Z");
    }
}
