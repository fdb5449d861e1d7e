//! Conditional and range requests (RFC 9110 sections 13 and 14): which part of a file a client gets, or that it has it already.
//!
//! Pure. UEFI HTTP Boot resumes with Range and the validators that it saw; `curl -C -` and iPXE do likewise.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is known of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// Bytes.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub modified: i64,
    /// Nanoseconds beside `modified`.
    pub modified_nanos: i64,
    /// Inode: a file that was replaced within the same second is another file.
    pub inode: u64,
}

impl FileFacts {
    /// A strong validator: size, modification time and inode.
    #[must_use]
    pub fn etag(&self) -> String {
        format!(
            "\"{:x}-{:x}.{:x}-{:x}\"",
            self.size, self.modified, self.modified_nanos, self.inode
        )
    }

    /// `Last-Modified` as an IMF-fixdate; none before 1970.
    #[must_use]
    pub fn last_modified(&self) -> Option<String> {
        let seconds = u64::try_from(self.modified).ok()?;
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
        // Past the year 9999 the format has no words.
        (seconds < 253_402_300_800).then(|| httpdate::fmt_http_date(at))
    }
}

/// The request headers that judge a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions<'a> {
    /// `Range`; only of a GET.
    pub range: Option<&'a str>,
    /// `If-Range`.
    pub if_range: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a str>,
}

/// What of a file is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// All of it, 200.
    Whole,
    /// Bytes `first..=last`, 206.
    Part {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// The client has it, 304.
    NotModified,
    /// No byte of it was asked for, 416.
    Unsatisfiable,
}

/// Judges `conditions` over the file.
#[must_use]
pub fn judge(file: &FileFacts, conditions: &Conditions<'_>) -> Portion {
    match (conditions.if_none_match, conditions.if_modified_since) {
        (Some(tags), _) if matches_any(tags, &file.etag()) => return Portion::NotModified,
        (None, Some(date)) if parse_date(date).is_some_and(|date| file.modified <= date) => {
            return Portion::NotModified;
        }
        _ => {}
    }
    let current = conditions.if_range.is_none_or(|validator| {
        let validator = validator.trim();
        // A weak tag never validates a range; a date does only when it is the very one that we gave.
        validator == file.etag() || file.last_modified().is_some_and(|date| date == validator)
    });
    match conditions.range {
        Some(range) if current => portion(range, file.size),
        _ => Portion::Whole,
    }
}

/// True when a list of tags holds `etag`, weak or not (RFC 9110 section 13.1.2 compares weakly here).
fn matches_any(tags: &str, etag: &str) -> bool {
    tags.trim() == "*"
        || tags
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == etag)
}

fn parse_date(text: &str) -> Option<i64> {
    let at: SystemTime = httpdate::parse_http_date(text.trim()).ok()?;
    i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// One range of a file of `size` bytes. Several ranges, other units and nonsense give the whole file, as RFC 9110 section 14.2 allows.
fn portion(range: &str, size: u64) -> Portion {
    let Some((unit, spec)) = range.trim().split_once('=') else {
        return Portion::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Portion::Whole;
    }
    let Some((from, to)) = spec.trim().split_once('-') else {
        return Portion::Whole;
    };
    let (from, to) = (number(from), number(to));
    let end = size.saturating_sub(1);
    match (from, to) {
        (Number::Is(first), Number::Is(last)) if last < first => Portion::Whole,
        (Number::Is(first), Number::Is(_) | Number::Empty) if first >= size => Portion::Unsatisfiable,
        (Number::Is(first), Number::Is(last)) => Portion::Part {
            first,
            last: last.min(end),
        },
        (Number::Is(first), Number::Empty) => Portion::Part { first, last: end },
        (Number::Empty, Number::Is(_)) if size == 0 => Portion::Unsatisfiable,
        (Number::Empty, Number::Is(0)) => Portion::Unsatisfiable,
        (Number::Empty, Number::Is(suffix)) => Portion::Part {
            first: size.saturating_sub(suffix),
            last: end,
        },
        _ => Portion::Whole,
    }
}

/// A number of a range; one beyond 64 bits is as good as the largest.
enum Number {
    Empty,
    Is(u64),
    Bad,
}

fn number(text: &str) -> Number {
    let text = text.trim();
    if text.is_empty() {
        Number::Empty
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Number::Is(text.parse().unwrap_or(u64::MAX))
    } else {
        Number::Bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileFacts = FileFacts {
        size: 1000,
        modified: 951_782_400,
        modified_nanos: 5,
        inode: 77,
    };

    fn ranged(range: &str, size: u64) -> Portion {
        judge(
            &FileFacts { size, ..FILE },
            &Conditions {
                range: Some(range),
                ..Conditions::default()
            },
        )
    }

    #[test]
    fn single_ranges() {
        let part = |first, last| Portion::Part { first, last };
        for (range, size, expected) in [
            ("bytes=0-0", 1000, part(0, 0)),
            ("bytes=0-99", 1000, part(0, 99)),
            ("Bytes = 10-", 1000, part(10, 999)),
            ("bytes=-10", 1000, part(990, 999)),
            ("bytes=-2000", 1000, part(0, 999)),
            ("bytes=990-5000", 1000, part(990, 999)),
            ("bytes=990-99999999999999999999999", 1000, part(990, 999)),
            ("bytes=1000-", 1000, Portion::Unsatisfiable),
            ("bytes=99999999999999999999999-", 1000, Portion::Unsatisfiable),
            ("bytes=-0", 1000, Portion::Unsatisfiable),
            ("bytes=0-", 0, Portion::Unsatisfiable),
            ("bytes=-5", 0, Portion::Unsatisfiable),
            ("bytes=5-4", 1000, Portion::Whole),
            ("bytes=0-1,3-4", 1000, Portion::Whole),
            ("bytes=-", 1000, Portion::Whole),
            ("bytes=a-b", 1000, Portion::Whole),
            ("bytes=--5", 1000, Portion::Whole),
            ("lines=0-5", 1000, Portion::Whole),
            ("bytes", 1000, Portion::Whole),
            // 4 GiB and around it.
            (
                "bytes=4294967295-4294967297",
                6_442_450_944,
                part(4_294_967_295, 4_294_967_297),
            ),
            ("bytes=-1", 6_442_450_944, part(6_442_450_943, 6_442_450_943)),
        ] {
            assert_eq!(ranged(range, size), expected, "{range} of {size}");
        }
    }

    #[test]
    fn if_range_keeps_a_resume_from_mixing_two_files() {
        let with = |if_range: &str| {
            judge(
                &FILE,
                &Conditions {
                    range: Some("bytes=5-"),
                    if_range: Some(if_range),
                    ..Conditions::default()
                },
            )
        };
        let part = Portion::Part { first: 5, last: 999 };
        assert_eq!(with(&FILE.etag()), part);
        assert_eq!(with(&FILE.last_modified().unwrap()), part);
        assert_eq!(with(&format!("W/{}", FILE.etag())), Portion::Whole);
        assert_eq!(with("\"other\""), Portion::Whole);
        assert_eq!(with("Wed, 01 Mar 2000 00:00:00 GMT"), Portion::Whole);
    }

    #[test]
    fn validators() {
        assert_eq!(FILE.last_modified().unwrap(), "Tue, 29 Feb 2000 00:00:00 GMT");
        let none_match = |tags: &str| {
            judge(
                &FILE,
                &Conditions {
                    if_none_match: Some(tags),
                    range: Some("bytes=0-1"),
                    ..Conditions::default()
                },
            )
        };
        assert_eq!(none_match(&format!("\"a\", W/{}", FILE.etag())), Portion::NotModified);
        assert_eq!(none_match("*"), Portion::NotModified);
        assert_eq!(none_match("\"a\""), Portion::Part { first: 0, last: 1 });
        let since = |date: &str, tags: Option<&str>| {
            judge(
                &FILE,
                &Conditions {
                    if_none_match: tags,
                    if_modified_since: Some(date),
                    ..Conditions::default()
                },
            )
        };
        assert_eq!(since("Tue, 29 Feb 2000 00:00:00 GMT", None), Portion::NotModified);
        assert_eq!(since("Mon, 28 Feb 2000 23:59:59 GMT", None), Portion::Whole);
        assert_eq!(since("yesterday", None), Portion::Whole);
        // If-None-Match prevails over the date.
        assert_eq!(since("Tue, 29 Feb 2000 00:00:00 GMT", Some("\"a\"")), Portion::Whole);
        let replaced = FileFacts { inode: 78, ..FILE };
        assert_ne!(replaced.etag(), FILE.etag());
        assert_eq!(FileFacts { modified: -5, ..FILE }.last_modified(), None);
    }
}
