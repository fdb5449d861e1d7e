//! Globs of `find`: `*` stands for any text, `?` for one character, everything else for itself, in either case.

/// True when all of `text` fits `glob`.
#[must_use]
pub(super) fn matches(glob: &str, text: &str) -> bool {
    let glob: Vec<char> = glob.to_lowercase().chars().collect();
    let text: Vec<char> = text.to_lowercase().chars().collect();
    // Where to go on when what follows the last star does not fit: the star takes one more character.
    let (mut g, mut t, mut back) = (0_usize, 0_usize, None);
    while let Some(c) = text.get(t) {
        match glob.get(g) {
            Some('*') => {
                back = Some((g, t));
                g = g.saturating_add(1);
                continue;
            }
            Some(wanted) if *wanted == '?' || wanted == c => {
                (g, t) = (g.saturating_add(1), t.saturating_add(1));
                continue;
            }
            _ => {}
        }
        let Some((star, taken)) = back else { return false };
        back = Some((star, taken.saturating_add(1)));
        (g, t) = (star.saturating_add(1), taken.saturating_add(1));
    }
    glob.iter().skip(g).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_the_whole_text() {
        for (glob, text) in [
            ("*", ""),
            ("web*", "web12"),
            ("*1", "web1"),
            ("w?b*2", "web12"),
            ("WEB1", "web1"),
            ("a*b*c", "aXbbXc"),
            ("", ""),
        ] {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("web", "web1"), ("?", ""), ("*2", "web1"), ("a*b*c", "ab"), ("", "a")] {
            assert!(!matches(glob, text), "{glob} {text}");
        }
    }
}
