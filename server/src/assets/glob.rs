//! Patterns of paths: `*` within a component, `**` across components.
//!
//! Pure. Linear in pattern times path, whatever the pattern: both may come from an admin's file and from the wire.

/// True when `pattern` fits the whole of `path`. A pattern that ends in `/` fits everything below that folder.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => Token::Any,
            '*' => Token::Within,
            c => Token::Is(c),
        });
    }
    if pattern.ends_with('/') {
        tokens.push(Token::Any);
    }
    // reach[i]: the tokens before i fit what was read of the path.
    let mut reach = vec![false; tokens.len().saturating_add(1)];
    if let Some(first) = reach.first_mut() {
        *first = true;
    }
    skip_stars(&tokens, &mut reach);
    let mut next = reach.clone();
    for c in path.chars() {
        next.fill(false);
        for (at, token) in tokens.iter().enumerate() {
            if !reach.get(at).copied().unwrap_or(false) {
                continue;
            }
            let (stays, moves) = match token {
                Token::Is(wanted) => (false, *wanted == c),
                Token::Within => (c != '/', false),
                Token::Any => (true, false),
            };
            for (place, reached) in [(at, stays), (at.saturating_add(1), moves)] {
                if let Some(slot) = next.get_mut(place) {
                    *slot |= reached;
                }
            }
        }
        skip_stars(&tokens, &mut next);
        std::mem::swap(&mut reach, &mut next);
    }
    reach.last().copied().unwrap_or(false)
}

enum Token {
    Is(char),
    Within,
    Any,
}

/// A star may stand for nothing.
fn skip_stars(tokens: &[Token], reach: &mut [bool]) {
    for (at, token) in tokens.iter().enumerate() {
        let skips = !matches!(token, Token::Is(_)) && reach.get(at).copied().unwrap_or(false);
        if let Some(next) = reach.get_mut(at.saturating_add(1)) {
            *next |= skips;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stay_within_a_component_and_two_do_not() {
        for (pattern, path, fits) in [
            ("dists/*/InRelease", "dists/bookworm/InRelease", true),
            ("dists/*/InRelease", "dists/a/b/InRelease", false),
            (
                "dists/*/main/binary-*/",
                "dists/trixie/main/binary-amd64/Packages.xz",
                true,
            ),
            (
                "dists/*/main/binary-*/",
                "dists/trixie/main/debian-installer/binary-amd64/Packages",
                false,
            ),
            ("**.rpm", "AppStream/Packages/b/bash.rpm", true),
            ("**.rpm", "x.rpm.sig", false),
            ("pool/**.deb", "pool/main/b/bash.deb", true),
            ("pool/**.deb", "pool/main/b/bash.udeb", false),
            ("", "", true),
            ("*", "", true),
            ("a", "ab", false),
            ("a*c*e", "abcde", true),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
        let long = "a".repeat(4000);
        assert!(!matches(&"**a".repeat(60), &format!("{long}b")));
    }
}
