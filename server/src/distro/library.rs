//! The signature files: those embedded in the binary, and the admin's own, which replace files of the same name.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: reads the admin's signature files; the rules themselves are pure"
)]

use super::signature::Signature;
use include_dir::{Dir, include_dir};
use std::collections::BTreeMap;
use std::path::Path;

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../distros");

/// Largest signature file that is read, in bytes.
const LARGEST: u64 = 256 * 1024;

/// Every usable signature, and what was wrong with the others.
#[derive(Debug, Clone, Default)]
pub struct Library {
    /// By name.
    pub signatures: Vec<Signature>,
    /// (file, what is wrong): the embedded file of the same name is used instead, if there is one.
    pub problems: Vec<(String, String)>,
}

impl Library {
    /// Reads the embedded files and those of `overrides/distros`. A folder that is not there is no problem.
    #[must_use]
    pub fn load(overrides: &Path) -> Self {
        let mut library = Self::default();
        let mut by_name = BTreeMap::new();
        let mut take = |library: &mut Self, file: &str, text: &str| match Signature::parse(file, text) {
            Ok(signature) => {
                by_name.insert(signature.name.clone(), signature);
            }
            Err(bad) => library.problems.push((file.to_owned(), bad.why)),
        };
        for file in EMBEDDED.files() {
            let name = file.path().display().to_string();
            if let Some(text) = file.contents_utf8().filter(|_| is_signature(&name)) {
                take(&mut library, &name, text);
            }
        }
        let folder = overrides.join("distros");
        let mut own = Vec::new();
        match std::fs::read_dir(&folder) {
            Ok(entries) => own.extend(entries.filter_map(Result::ok).map(|entry| entry.path())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => library
                .problems
                .push((folder.display().to_string(), format!("cannot be read: {error}"))),
        }
        own.sort();
        for path in own {
            let name = path.display().to_string();
            if !is_signature(&name) {
                continue;
            }
            match read(&path) {
                Ok(text) => take(&mut library, &name, &text),
                Err(why) => library.problems.push((name, why)),
            }
        }
        library.signatures = by_name.into_values().collect();
        library
    }

    /// The signature `name`.
    #[must_use]
    pub fn signature(&self, name: &str) -> Option<&Signature> {
        self.signatures.iter().find(|signature| signature.name.as_str() == name)
    }
}

fn is_signature(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.ends_with(".toml") && !name.starts_with('.')
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(format!("is no file of at most {} KiB", LARGEST / 1024));
    }
    std::fs::read_to_string(path).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::Stage;

    #[test]
    fn every_embedded_signature_is_whole() {
        let library = Library::load(Path::new("/nowhere"));
        assert_eq!(library.problems, []);
        let names: Vec<_> = library.signatures.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "agama",
                "alpine",
                "arch",
                "coreos",
                "debian",
                "esxi",
                "fedora",
                "fedora-live",
                "flatcar",
                "lab",
                "live",
                "memtest",
                "proxmox",
                "redhat",
                "suse",
                "talos",
                "ubuntu",
                "ubuntu-desktop",
                "ubuntu-live",
                "winpe",
                "xcp-ng",
            ]
        );
        for signature in &library.signatures {
            for (path, stage) in &signature.stages {
                assert!(Stage::of(stage).is_some(), "{}: {path} means {stage}", signature.name);
            }
            for (_, args, _) in &signature.boot {
                // A seed folder is named as such; the installer knows what is in it.
                let mut files = vec![signature.answer_file.as_str(), " "];
                files.extend(signature.answer_files.iter().map(|(name, _)| name.as_str()));
                if signature.autoinstall.is_empty() && !args.contains("{answer_url}") {
                    continue;
                }
                let named = |file: &&str| args.contains(&format!("{{answer_url}}/{file}"));
                assert!(files.iter().any(named), "{}", signature.name);
            }
        }
    }

    #[test]
    fn own_files_replace_and_a_broken_one_leaves_the_embedded() {
        let dir = tempfile::tempdir().unwrap();
        let distros = dir.path().join("distros");
        std::fs::create_dir(&distros).unwrap();
        let text = EMBEDDED.get_file("lab.toml").unwrap().contents_utf8().unwrap();
        std::fs::write(distros.join("lab.toml"), text.replace("tier = 1", "tier = 3")).unwrap();
        std::fs::write(distros.join("mine.toml"), text).unwrap();
        std::fs::write(distros.join("suse.toml"), "tier = [").unwrap();
        std::fs::write(distros.join("notes.txt"), "hello").unwrap();
        let library = Library::load(dir.path());
        assert_eq!(library.signature("lab").unwrap().tier, 3);
        assert!(library.signature("mine").is_some());
        assert_eq!(library.signature("suse").unwrap().breed, "suse");
        assert_eq!(library.problems.len(), 1);
        assert!(library.problems[0].0.ends_with("suse.toml"), "{:?}", library.problems);
        assert!(library.problems[0].1.starts_with("line 1: "), "{:?}", library.problems);
    }
}
