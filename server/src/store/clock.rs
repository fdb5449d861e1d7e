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
