//! A folder of a tree as a page with links, as `wget -r`, reposync, lftp and people read it.
//!
//! Pure. Names are data from a medium that somebody else made: each is encoded for its place.

use super::route::percent_encode;
use std::fmt::Write as _;

/// Most entries that one page shows; a pool folder of a DVD has about 2,000.
pub const MOST: usize = 20_000;

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// True for a folder.
    pub folder: bool,
    /// Bytes of a file.
    pub size: u64,
}

/// The page of the folder `title`, entries by name, folders with a slash. Links are relative, so the URL must end in `/`.
#[must_use]
pub fn page(title: &str, entries: &[Entry], top: bool) -> String {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort();
    let left_out = sorted.len().saturating_sub(MOST);
    sorted.truncate(MOST);
    let title = escape(title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>Index of {title}</title></head>\n<body><h1>Index of {title}</h1><pre>\n"
    );
    if !top {
        html.push_str("<a href=\"../\">../</a>\n");
    }
    for entry in sorted {
        let slash = if entry.folder { "/" } else { "" };
        // `./` in front keeps a name like `a:b` from reading as a scheme (RFC 3986 section 4.2).
        let dot = if entry.name.contains(':') { "./" } else { "" };
        let link = percent_encode(&entry.name);
        let size = if entry.folder {
            "-".to_owned()
        } else {
            entry.size.to_string()
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            html,
            "<a href=\"{dot}{link}{slash}\">{}{slash}</a>  {size}",
            escape(&entry.name)
        );
    }
    if left_out > 0 {
        let _ = writeln!(html, "and {left_out} more");
    }
    html.push_str("</pre></body></html>\n");
    html
}

/// Text for HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out() {
        let entry = |name: &str, folder| Entry {
            name: name.into(),
            folder,
            size: 5,
        };
        let html = page(
            "d/<x>",
            &[
                entry("b\"><script>", false),
                entry("a b", true),
                entry("1:2.deb", false),
            ],
            false,
        );
        assert!(
            !html.contains("<script>") && html.contains("Index of d/&lt;x&gt;"),
            "{html}"
        );
        assert!(html.contains("<a href=\"a%20b/\">a b/</a>  -"), "{html}");
        assert!(html.contains("<a href=\"./1%3A2.deb\">1:2.deb</a>  5"), "{html}");
        assert!(html.contains("href=\"../\""));
        assert!(!page("d", &[], true).contains("../"));
    }
}
