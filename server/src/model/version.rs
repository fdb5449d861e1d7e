//! Which rule of a signature holds for which version. Versions are compared number by number, never as text.
//!
//! Pure.

/// The numbers of a version: `rhel9` is 9, `9.4` is 9 and 4, `20.04` is 20 and 4, `sid` has none.
///
/// What stands before the first digit is the family's own prefix and is skipped; reading ends where no `.` and digit follow.
#[must_use]
pub fn version_numbers(version: &str) -> Vec<u64> {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(digits.len());
    let (digits, _) = digits.split_at_checked(end).unwrap_or((digits, ""));
    digits
        .split('.')
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().unwrap_or(u64::MAX))
        .collect()
}

/// True when the rule `when` holds for `version`.
///
/// A rule is `*`, or comparisons joined by commas that must all hold: `>=8,<10`, `=7`, `<6.5`. As many numbers are compared as the
/// rule writes, so `=12` holds for 12.5. A version without numbers (`sid`, `rawhide`) is newer than every number. A rule that cannot
/// be read never holds; signature files are checked with [`check_version_rule`] before they get here.
#[must_use]
pub fn version_holds(when: &str, version: &str) -> bool {
    let version = version_numbers(version);
    when.split(',').all(|part| holds_one(part.trim(), &version))
}

fn holds_one(rule: &str, version: &[u64]) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    if rule == "*" {
        return true;
    }
    let Some((sign, wanted)) = comparison(rule) else {
        return false;
    };
    let order = if version.is_empty() {
        Greater
    } else {
        let cut = version.iter().copied().chain(std::iter::repeat(0)).take(wanted.len());
        cut.cmp(wanted.iter().copied())
    };
    match sign {
        ">=" => order != Less,
        "<=" => order != Greater,
        ">" => order == Greater,
        "<" => order == Less,
        _ => order == Equal,
    }
}

fn comparison(rule: &str) -> Option<(&'static str, Vec<u64>)> {
    let (sign, rest) = [">=", "<=", ">", "<", "="]
        .into_iter()
        .find_map(|sign| rule.strip_prefix(sign).map(|rest| (sign, rest.trim())))?;
    let well = rest.starts_with(|c: char| c.is_ascii_digit()) && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let wanted = version_numbers(rest);
    (well && !wanted.is_empty()).then_some((sign, wanted))
}

/// Whether `when` is a rule that [`version_holds`] can judge.
///
/// # Errors
/// What a rule looks like.
pub fn check_version_rule(when: &str) -> Result<(), String> {
    let well = when
        .split(',')
        .all(|part| part.trim() == "*" || comparison(part.trim()).is_some());
    if well {
        Ok(())
    } else {
        Err(format!(
            "`{when}` is not a version rule; write \"*\", \">=9\", \"=12\" or \">=8,<10\""
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version_numbers("rhel9"), [9]);
        assert_eq!(version_numbers("9.4"), [9, 4]);
        assert_eq!(version_numbers("20.04 LTS"), [20, 4]);
        assert_eq!(version_numbers("el8-stream"), [8]);
        assert!(version_numbers("sid").is_empty());
        assert!(version_numbers("").is_empty());
        assert_eq!(version_numbers("99999999999999999999999"), [u64::MAX]);
    }

    #[test]
    fn rules_compare_number_by_number() {
        for (when, version, holds_so) in [
            ("*", "anything", true),
            (">=9", "rhel10", true),
            (">=9", "9.4", true),
            (">=9", "8.10", false),
            ("<8", "7.9", true),
            ("=12", "12.5", true),
            ("=12", "120", false),
            (">=8,<10", "9.9", true),
            (">=8,<10", "10", false),
            (">8", "8.5", false),
            ("<=8", "8.5", true),
            (">=9.10", "9.9", false),
            (">=9.10", "9.10", true),
            ("=9.0", "9", true),
            (">=13", "sid", true),
            ("=13", "sid", false),
            ("<13", "sid", false),
            ("nonsense", "9", false),
        ] {
            assert_eq!(version_holds(when, version), holds_so, "{version} {when}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_named() {
        for bad in ["", "9", ">=", ">=x", "=1,,", "=>9", ">= 9a"] {
            assert!(check_version_rule(bad).is_err(), "{bad}");
        }
        for good in ["*", ">=9", "= 12", ">=8, <10", "<6.5"] {
            assert!(check_version_rule(good).is_ok(), "{good}");
        }
    }
}
