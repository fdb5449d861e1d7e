//! What all three boot loaders share: the kernel's own rules for its command line, URLs that need no quoting, plain console text.
//!
//! A word that the kernel could not read back as written is never passed on: an odd quote would swallow the options after it.

use crate::inventory::Entry;

/// One option of a kernel command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelOption {
    /// Before the `=`.
    pub(super) key: String,
    /// After the `=`; none for a flag.
    pub(super) value: Option<String>,
}

impl KernelOption {
    /// The option as one word for the kernel: blanks inside double quotes (`next_arg` in the kernel's lib/cmdline.c, which knows no
    /// escape). None when no spelling carries it.
    pub(super) fn word(&self) -> Option<String> {
        let plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_control());
        let blank = |c: char| c.is_ascii_whitespace();
        if !plain(&self.key) || self.key.contains(|c: char| blank(c) || c == '"') {
            return None;
        }
        let Some(value) = &self.value else {
            return Some(self.key.clone());
        };
        if value.contains(char::is_control) {
            return None;
        }
        match (value.contains('"'), value.contains(blank)) {
            (false, false) => Some(format!("{}={value}", self.key)),
            (false, true) => Some(format!("{}=\"{value}\"", self.key)),
            (true, _) if quotes_hold(value) => Some(format!("{}={value}", self.key)),
            (true, _) => None,
        }
    }
}

/// True when every quote is closed and every blank stands inside quotes.
fn quotes_hold(value: &str) -> bool {
    let mut inside = false;
    for c in value.chars() {
        if c == '"' {
            inside = !inside;
        } else if c.is_ascii_whitespace() && !inside {
            return false;
        }
    }
    !inside
}

/// The options in order, a repeated key as often as it has values.
pub(super) fn options(entries: &[Entry]) -> Vec<KernelOption> {
    let mut options = Vec::new();
    for entry in entries {
        let key = entry.key.clone();
        match &entry.values {
            None => options.push(KernelOption { key, value: None }),
            Some(values) => options.extend(values.iter().map(|value| KernelOption {
                key: key.clone(),
                value: Some(value.clone()),
            })),
        }
    }
    options
}

/// A URL of characters that no boot loader gives a meaning to; all others are percent-encoded. `%` stays: the URL is encoded already.
pub(super) fn url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/?@!*+=%&[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// One value inside a URL's query.
pub(super) fn query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A URL's authority and the path behind it, with its slash.
pub(super) fn split_url(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let at = rest.find('/')?;
    rest.split_at_checked(at)
}

/// One line of printable ASCII, at most 200 characters: loaders' consoles know no other.
pub(super) fn console(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| match c {
            ' '..='~' => c,
            c if c.is_whitespace() || c.is_control() => ' ',
            _ => '?',
        })
        .collect()
}

/// What the console says of options that a dialect cannot carry; the value stays unsaid.
pub(super) fn left_out(keys: &[String]) -> Option<String> {
    (!keys.is_empty()).then(|| {
        format!(
            "Cordwainer: left out, this loader cannot pass them on: {}",
            keys.join(" ")
        )
    })
}

/// The line that an admin types to have this machine installed.
pub(super) fn how_to_arm(profile: &str, mac: &str) -> String {
    format!("cordwainer system add --name NAME --profile {profile} --mac-address {mac} --netboot-enabled=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(key: &str, value: &str) -> Option<String> {
        KernelOption {
            key: key.into(),
            value: Some(value.into()),
        }
        .word()
    }

    #[test]
    fn the_kernel_reads_back_what_was_written() {
        assert_eq!(word("a", "b").as_deref(), Some("a=b"));
        assert_eq!(word("a", "b c").as_deref(), Some("a=\"b c\""));
        assert_eq!(word("a", "\"b c\"").as_deref(), Some("a=\"b c\""));
        assert_eq!(word("a", "").as_deref(), Some("a="));
        for value in ["\"", "x\" init=/bin/sh", "a\nb", "\"a\" b", "a\u{0}"] {
            assert_eq!(word("a", value), None, "{value:?}");
        }
        assert_eq!(word("a b", "c"), None);
        assert_eq!(word("", "c"), None);
    }

    #[test]
    fn urls_keep_only_harmless_characters() {
        assert_eq!(
            url("http://a/b c?d=e&f=%20$\u{7d}\u{7b}'\""),
            "http://a/b%20c?d=e&f=%20%24%7D%7B%27%22"
        );
        assert_eq!(split_url("http://a:81/b/c"), Some(("a:81", "/b/c")));
        assert_eq!(split_url("tftp://a/b"), None);
        assert_eq!(query("a+b:c"), "a%2Bb%3Ac");
    }

    #[test]
    fn consoles_get_one_plain_line() {
        assert_eq!(console("a\nb\u{e4}\u{1b}[2J"), "a b? [2J");
        assert_eq!(console(&"x".repeat(300)).len(), 200);
    }
}
