//! Points and spans of time as plain numbers. Nothing here reads a clock.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Wall time in milliseconds since 1970-01-01 UTC.
///
/// While the daemon runs, it advances by `CLOCK_BOOTTIME`, so that a step of the wall clock neither expires nor revives anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time and `span` later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// `14:03:11.204`, UTC.
    #[must_use]
    pub fn clock(self) -> String {
        let millis = self.0.rem_euclid(86_400_000);
        let (h, m) = (millis / 3_600_000, millis / 60_000 % 60);
        let (s, ms) = (millis / 1000 % 60, millis % 1000);
        format!("{h:02}:{m:02}:{s:02}.{ms:03}")
    }
}

/// `2026-11-21T14:03:11Z` (days to civil date after the proleptic Gregorian calendar).
impl fmt::Display for Timestamp {
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "days of 64-bit milliseconds: every term is below 2^43"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.div_euclid(86_400_000).saturating_add(719_468);
        let era = days.div_euclid(146_097);
        let doe = days.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        let clock = self.clock();
        let (clock, _) = clock.split_at_checked(8).unwrap_or((&clock, ""));
        write!(f, "{year:04}-{month:02}-{day:02}T{clock}Z")
    }
}

/// A length of time that a person writes: `90s`, `30m`, `12h`, `7d`, `1h30m`, or bare seconds. Prints in the largest unit that is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// The text was no length of time.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a length of time; write it like 90s, 30m, 12h or 7d")]
pub struct BadSpan(pub String);

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let bad = || BadSpan(text.chars().take(32).collect());
        let mut total: u64 = 0;
        let mut digits = String::new();
        let mut any = false;
        for c in text.trim().chars() {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            let unit = match c {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86_400,
                'w' => 604_800,
                _ => return Err(bad()),
            };
            let number: u64 = digits.parse().map_err(|_| bad())?;
            total = number
                .checked_mul(unit)
                .and_then(|n| n.checked_add(total))
                .ok_or_else(bad)?;
            digits.clear();
            any = true;
        }
        if !digits.is_empty() {
            if any {
                return Err(bad());
            }
            total = digits.parse().map_err(|_| bad())?;
        } else if !any {
            return Err(bad());
        }
        Ok(Self::seconds(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        for (unit, letter) in [(86_400_u64, 'd'), (3600, 'h'), (60, 'm')] {
            if seconds >= unit && seconds.is_multiple_of(unit) {
                return write!(f, "{}{letter}", seconds.checked_div(unit).unwrap_or(0));
            }
        }
        write!(f, "{seconds}s")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(951_782_400_000).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(Timestamp(1_795_269_791_204).to_string(), "2026-11-21T14:03:11Z");
        assert_eq!(Timestamp(1_795_269_791_204).clock(), "14:03:11.204");
    }

    #[test]
    fn spans_read_and_print() {
        for (text, seconds, printed) in [
            ("12h", 43_200, "12h"),
            ("90", 90, "90s"),
            ("1h30m", 5400, "90m"),
            ("7d", 604_800, "7d"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0.as_secs(), seconds);
            assert_eq!(span.to_string(), printed);
        }
        for text in ["", "h", "12x", "1h5", "99999999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
