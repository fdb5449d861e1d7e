//! An answer file that is an archive: Alpine's overlay (`NAME.apkovl.tar.gz`), packed from the text that its template renders.
//!
//! Pure: the same text makes the same bytes. The text names each file on a line of its own and has the contents below:
//!
//! ```text
//! ==> etc/local.d/install.start 755
//! #!/bin/sh
//! ==> etc/runlevels/default/local -> /etc/init.d/local
//! ```

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use std::io::{self, Write};

/// What begins the line that names a file.
const MARK: &str = "==> ";

/// True for the answer files that are archives.
#[must_use]
pub fn is_overlay(file: &str) -> bool {
    file.ends_with(".apkovl.tar.gz")
}

/// What one part of the text is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry<'a> {
    File { path: &'a str, mode: u32, text: String },
    Link { path: &'a str, to: &'a str },
}

/// The text says no archive: the line, from 1, and what is wrong with it.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {why}; write `==> PATH MODE` or `==> PATH -> TARGET` above the contents of each file")]
pub struct BadOverlay {
    /// The line.
    pub line: usize,
    /// What is wrong.
    pub why: &'static str,
}

fn clean(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && path.len() < 100
        && !path.split('/').any(|part| matches!(part, "" | "." | ".."))
        && path.chars().all(|c| c.is_ascii_graphic())
}

fn entries(text: &str) -> Result<Vec<Entry<'_>>, BadOverlay> {
    let mut entries = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let bad = |why| BadOverlay {
            line: place.saturating_add(1),
            why,
        };
        let Some(head) = line.strip_prefix(MARK) else {
            match entries.last_mut() {
                Some(Entry::File { text, .. }) => {
                    text.push_str(line);
                    text.push('\n');
                }
                Some(Entry::Link { .. }) | None if line.trim().is_empty() => {}
                _ => return Err(bad("this belongs to no file")),
            }
            continue;
        };
        let entry = match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [path, "->", to] if clean(path) => Entry::Link { path, to },
            [path, mode] if clean(path) => Entry::File {
                path,
                mode: u32::from_str_radix(mode, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o777)
                    .ok_or_else(|| bad("the mode is three octal digits"))?,
                text: String::new(),
            },
            _ => return Err(bad("no file can have that name")),
        };
        entries.push(entry);
    }
    Ok(entries)
}

fn packed(entries: &[Entry<'_>]) -> io::Result<Vec<u8>> {
    let gzip: GzEncoder<Vec<u8>> = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    let mut archive = tar::Builder::new(gzip);
    let mut folders: Vec<String> = Vec::new();
    for entry in entries {
        let (Entry::File { path, .. } | Entry::Link { path, .. }) = entry;
        // A folder before what is in it: Alpine's initramfs unpacks in order.
        for (at, _) in path.match_indices('/') {
            let folder = path.get(..=at).unwrap_or_default();
            if folders.iter().any(|known| known == folder) {
                continue;
            }
            let mut header = header(
                tar::EntryType::Directory,
                if folder == "root/" { 0o700 } else { 0o755 },
                0,
            );
            archive.append_data(&mut header, folder, io::empty())?;
            folders.push(folder.to_owned());
        }
        match entry {
            Entry::File { path, mode, text } => {
                let size = u64::try_from(text.len()).unwrap_or(0);
                archive.append_data(&mut header(tar::EntryType::Regular, *mode, size), path, text.as_bytes())?;
            }
            Entry::Link { path, to } => {
                archive.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, to)?;
            }
        }
    }
    let mut gzip = archive.into_inner()?;
    gzip.flush()?;
    gzip.finish()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Packs the rendered `text` of an overlay.
///
/// # Errors
/// [`BadOverlay`], with the line of the rendered text.
pub fn overlay(text: &str) -> Result<Vec<u8>, BadOverlay> {
    packed(&entries(text)?).map_err(|_| BadOverlay {
        line: 0,
        why: "it cannot be packed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;

    const TEXT: &str = "==> etc/hostname 644\nweb1\n==> etc/local.d/a.start 755\n#!/bin/sh\n\necho x\n\
        ==> etc/runlevels/default/local -> /etc/init.d/local\n";

    #[test]
    fn what_is_packed_unpacks_the_same_every_time() {
        let bytes = overlay(TEXT).unwrap();
        assert_eq!(bytes, overlay(TEXT).unwrap());
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let mut found = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let link = entry.link_name().unwrap().map(|to| to.display().to_string());
            found.insert(path, (entry.header().mode().unwrap(), link.unwrap_or(text)));
        }
        assert_eq!(found["etc/hostname"], (0o644, "web1\n".to_owned()));
        assert_eq!(
            found["etc/local.d/a.start"],
            (0o755, "#!/bin/sh\n\necho x\n".to_owned())
        );
        assert_eq!(found["etc/runlevels/default/local"].1, "/etc/init.d/local");
        assert_eq!(found.len(), 7, "{:?}", found.keys());
    }

    #[test]
    fn what_names_no_file_is_told_with_its_line() {
        for (text, line) in [
            ("x\n", 1),
            ("==> etc/a 644\n==> ../b 644\n", 2),
            ("==> /etc/a 644\n", 1),
            ("==> etc/a 9\n", 1),
            ("==> etc/a 1755\n", 1),
            ("==> etc/a\n", 1),
            ("==> a -> b\nc\n", 2),
        ] {
            assert_eq!(overlay(text).unwrap_err().line, line, "{text}");
        }
    }
}
