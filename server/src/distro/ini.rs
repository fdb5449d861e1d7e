//! Reads the INI that distros describe themselves with: `.treeinfo`, old (`[general]` alone) and new (productmd 1.2).
//!
//! Pure and total: what it cannot read it skips, because a tree is judged by what can be found in it.

use std::collections::BTreeMap;

/// Sections and keys as written; both are case-sensitive, unlike most INI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ini {
    values: BTreeMap<(String, String), String>,
}

impl Ini {
    /// Reads `text`. `=` or `:` ends a key, whichever comes first; `#` and `;` start a comment line; a line that starts with a blank
    /// goes on with the value before it. Of a key that is there twice the last counts.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut ini = Self::default();
        let mut section = String::new();
        let mut last: Option<(String, String)> = None;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with([' ', '\t']) {
                if let Some(value) = last.as_ref().and_then(|key| ini.values.get_mut(key)) {
                    value.push('\n');
                    value.push_str(trimmed);
                }
                continue;
            }
            if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.trim().to_owned();
                last = None;
            } else if let Some((key, value)) = trimmed.split_once(['=', ':']) {
                let key = (section.clone(), key.trim().to_owned());
                ini.values.insert(key.clone(), value.trim().to_owned());
                last = Some(key);
            }
        }
        ini
    }

    /// The value of `key` in `section`, when there is one and it is not empty.
    #[must_use]
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        let value = self.values.get(&(section.to_owned(), key.to_owned()))?;
        (!value.is_empty()).then_some(value)
    }

    /// The value of `section.key`; the section ends at the last dot (`images-x86_64.kernel`), but for `.iso` and `.img` keys, which no
    /// rule asks for.
    #[must_use]
    pub fn at(&self, dotted: &str) -> Option<&str> {
        let (section, key) = dotted.rsplit_once('.')?;
        self.get(section, key)
    }

    /// The names of all sections that hold a key, in order.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        let mut before: Option<&str> = None;
        self.values.keys().filter_map(move |(section, _)| {
            let fresh = before != Some(section);
            before = Some(section);
            fresh.then_some(section.as_str())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_signs_end_a_key_and_case_counts() {
        let ini = Ini::parse(
            "\u{feff}; hello\n[release]\nname = Rocky Linux\nVersion: 9.4\nversion:9.5\nempty =\n\n[images-x86_64]\nkernel=a:b=c\n\
             # x\nboot.iso = images/boot.iso\nlist = one\n\ttwo\n  three\nnonsense\n[general]\nversion=1\nversion=2\n",
        );
        assert_eq!(ini.at("release.name"), Some("Rocky Linux"));
        assert_eq!(ini.at("release.Version"), Some("9.4"));
        assert_eq!(ini.at("release.version"), Some("9.5"));
        assert_eq!(ini.at("release.empty"), None);
        assert_eq!(ini.at("release.NAME"), None);
        assert_eq!(ini.at("images-x86_64.kernel"), Some("a:b=c"));
        assert_eq!(ini.get("images-x86_64", "boot.iso"), Some("images/boot.iso"));
        assert_eq!(ini.at("images-x86_64.list"), Some("one\ntwo\nthree"));
        assert_eq!(ini.at("general.version"), Some("2"));
        assert_eq!(ini.at("nodot"), None);
        let sections: Vec<_> = ini.sections().collect();
        assert_eq!(sections, ["general", "images-x86_64", "release"]);
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        for text in ["", "[", "]", "[]", "=", ":", "[a\n=b", " x", "\0\u{1}", "[a]\n =b\n"] {
            let _ = Ini::parse(text);
        }
    }
}
