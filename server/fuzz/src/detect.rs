//! Recognising a distro in a tree that is only claimed: names and heads of files as an input has them. Also rules of signatures.

use super::paths::below;
use cordwainer::distro::detect::{Entry, Look, Source, Wishes, detect};
use cordwainer::distro::ini::Ini;
use cordwainer::distro::library::Library;
use cordwainer::distro::signature::Signature;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

/// Files by path.
struct Tree(BTreeMap<String, Vec<u8>>);

impl Source for Tree {
    fn read(&self, path: &str, max: usize) -> Option<Vec<u8>> {
        self.0.get(path).map(|bytes| bytes[..max.min(bytes.len())].to_vec())
    }

    fn list(&self, path: &str) -> Option<Vec<Entry>> {
        let below = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let mut seen = BTreeSet::new();
        let mut entries = Vec::new();
        for rest in self.0.keys().filter_map(|name| name.strip_prefix(&below)) {
            let name = rest.split('/').next().unwrap_or(rest);
            if seen.insert(name.to_owned()) {
                entries.push(Entry {
                    name: name.to_owned(),
                    is_folder: rest.contains('/'),
                });
            }
        }
        (path.is_empty() || !entries.is_empty()).then_some(entries)
    }

    fn look(&self, path: &str) -> Look {
        match self.0.get(path) {
            Some(bytes) if bytes == b"unreadable" => Look::Unreadable("it may not be read".into()),
            Some(bytes) => Look::File(bytes.len() as u64),
            None if self.list(path).is_some() => Look::Folder,
            None => Look::Missing,
        }
    }
}

fn signatures() -> &'static [Signature] {
    static SIGNATURES: OnceLock<Vec<Signature>> = OnceLock::new();
    SIGNATURES.get_or_init(|| Library::load(Path::new("/nonexistent")).signatures)
}

/// `=path` begins a file, lines up to the next one are its text. A first line of `[signature]` makes the rest a signature file.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(rules) = text.strip_prefix("[signature]\n") {
        match Signature::parse("f.toml", rules) {
            Ok(own) => judge(&Tree(BTreeMap::from([("a".into(), b"b".to_vec())])), &[own]),
            Err(bad) => assert!(!bad.to_string().is_empty()),
        }
        return;
    }
    let _ = Ini::parse(&text);
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.split_inclusive('\n') {
        if let Some(path) = line.strip_prefix('=') {
            let path = path.trim_end_matches('\n').to_owned();
            // A medium's reader gives names that are no paths (iso9660, tree).
            let clean = path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0');
            current = clean.then(|| path.clone());
            if clean {
                files.insert(path, Vec::new());
            }
        } else if let Some(file) = current.as_ref().and_then(|path| files.get_mut(path)) {
            file.extend(line.bytes());
        }
    }
    judge(&Tree(files), signatures());
}

fn judge(tree: &Tree, signatures: &[Signature]) {
    match detect(tree, signatures, &Wishes::default()) {
        Ok(found) => {
            for file in std::iter::once(&found.kernel).chain(&found.initrd) {
                below(&file.path);
                assert!(tree.0.contains_key(&file.path), "{} is not there", file.path);
            }
            assert!(!found.to_string().is_empty());
            // What becomes a field of the distro; it stands in paths, kernel arguments and logs.
            let version = &found.os_version;
            assert!(
                !version.is_empty() && version.len() < 256 && !version.contains(|c: char| c == '/' || c.is_control()),
                "os_version {version:?}"
            );
        }
        Err(unfit) => {
            let said = unfit.to_string();
            assert!(
                !said.is_empty() && said.len() < 16 * 1024,
                "{} bytes of reasons",
                said.len()
            );
        }
    }
}
