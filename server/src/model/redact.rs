//! Tokens taken out of text that people, logs and consoles show.

/// `text` with every run that could be a token left out: for reasons and errors that quote what was asked.
#[must_use]
pub fn redact_text(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_alphanumeric() {
            run.push(c);
            continue;
        }
        kept.push_str(if looks_like_token(&run) { "(token)" } else { &run });
        run.clear();
        kept.push(c);
    }
    kept.pop();
    kept
}

/// True when `part` holds so long a run of base32 that it may be a token: 32 characters of it (install::Token).
#[must_use]
pub fn looks_like_token(part: &str) -> bool {
    let mut run = 0_usize;
    for byte in part.bytes() {
        let fits = matches!(byte.to_ascii_lowercase(), b'a'..=b'z' | b'2'..=b'7');
        run = if fits { run.saturating_add(1) } else { 0 };
        if run >= 30 {
            return true;
        }
    }
    false
}
