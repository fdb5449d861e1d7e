//! What a tree holds that no rule fits, in the words of an admin who wonders why.
//!
//! Pure: it asks a [`Source`] for file names only.

use super::detect::Source;
use super::loader_config::{LoaderEntry, first_entry};
use std::fmt;

/// What an unknown tree holds, in short.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Paths that look like kernels.
    pub kernels: Vec<String>,
    /// Paths that look like initrds.
    pub initrds: Vec<String>,
    /// Other files.
    pub others: usize,
    /// True when there was more than was looked at.
    pub more: bool,
    /// What its own boot loader starts.
    pub own: Option<LoaderEntry>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self
            .kernels
            .iter()
            .chain(&self.initrds)
            .map(|path| shown(path))
            .collect();
        if named.is_empty() && self.others == 0 {
            return f.write_str("an empty folder");
        }
        f.write_str("a folder with ")?;
        if !named.is_empty() {
            write!(f, "{} and ", named.join(", "))?;
        }
        let least = if self.more { "more than " } else { "" };
        let other = if named.is_empty() { "" } else { "other " };
        let plural = if self.others == 1 { "" } else { "s" };
        write!(f, "{least}{} {other}file{plural}", thousands(self.others))?;
        if named.is_empty() {
            f.write_str(", none of them named like a kernel or an initrd")?;
        }
        Ok(())
    }
}

/// What a medium calls its files goes to a terminal: on one line, and not for ever.
fn shown(path: &str) -> String {
    path.chars().filter(|c| !c.is_control()).take(128).collect()
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(at);
        if at > 0 && left.is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A path as a shell takes it.
fn word(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        path.to_owned()
    } else {
        in_quotes(path)
    }
}

/// For a shell, on one line.
fn in_quotes(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(512).collect();
    format!("'{}'", text.replace('\'', "'\\''"))
}

pub(super) fn remedy(found: &Summary) -> String {
    let own = "add a file to /etc/cordwainer/distros";
    if let Some(entry) = &found.own {
        let initrds: Vec<String> = entry
            .initrd
            .iter()
            .map(|initrd| format!(" --initrd {}", word(initrd)))
            .collect();
        let args = if entry.args.is_empty() {
            String::new()
        } else {
            format!(" --kernel-options {}", in_quotes(&entry.args))
        };
        return format!(
            "its own {} starts it so (unverified): --breed generic --kernel {}{}{args}; or {own}",
            shown(&entry.from),
            word(&entry.kernel),
            initrds.concat()
        );
    }
    let kernel = found.kernels.first().map(|kernel| word(kernel));
    match (kernel, found.initrds.first().map(|initrd| word(initrd))) {
        (Some(kernel), Some(initrd)) => {
            format!("name it: --breed generic --kernel {kernel} --initrd {initrd}; or {own}")
        }
        (Some(kernel), None) => format!("name it: --breed generic --kernel {kernel}; or {own}"),
        _ => format!("give the folder that holds .treeinfo, dists or version.info; or {own}"),
    }
}

/// Looks at most at this many entries for a summary.
const SUMMARY_MOST: usize = 20_000;

/// What is in a tree, for an admin who wonders why it is unknown.
#[must_use]
pub fn summary(source: &dyn Source) -> Summary {
    let mut summary = Summary {
        own: first_entry(source),
        ..Summary::default()
    };
    let mut folders = std::collections::VecDeque::from([(String::new(), 0_usize)]);
    let mut seen = 0_usize;
    while let Some((folder, depth)) = folders.pop_front() {
        for entry in source.list(&folder).unwrap_or_default() {
            seen = seen.saturating_add(1);
            if seen > SUMMARY_MOST {
                summary.more = true;
                return summary;
            }
            let path = if folder.is_empty() {
                entry.name.clone()
            } else {
                format!("{folder}/{}", entry.name)
            };
            if entry.is_folder {
                // Links may lead in circles; no tree is that deep.
                if depth < 8 {
                    folders.push_back((path, depth.saturating_add(1)));
                }
                continue;
            }
            let name = entry.name.to_ascii_lowercase();
            let starts = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
            if starts(&["vmlinuz", "vmlinux", "bzimage"]) || name == "linux" || name == "linux26" {
                if summary.kernels.len() < 4 {
                    summary.kernels.push(path);
                }
            } else if starts(&["initrd", "initramfs"]) {
                if summary.initrds.len() < 4 {
                    summary.initrds.push(path);
                }
            } else {
                summary.others = summary.others.saturating_add(1);
            }
        }
    }
    summary
}
