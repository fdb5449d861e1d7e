//! Walks a whole tree once before it is imported: how much it is, whether the service may read it, and what in it cannot be served.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: looks at every file of a tree that is imported, and opens none"
)]

use super::import::Progress;
use super::tree;
use nix::unistd::{Gid, User};
use std::ffi::CString;
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Who will read the tree: the service's user. Judged by mode bits alone; an access list that denies more shows when it is served.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) name: String,
    uid: u32,
    groups: Vec<u32>,
    /// Folders of which it has one of its own, so that it never sees what lies there.
    hidden: Vec<PathBuf>,
}

impl Reader {
    /// The user `name` where there is one, else the one that this process runs as.
    pub(super) fn of(name: &str) -> io::Result<Self> {
        if let Some(user) = User::from_name(name)? {
            let plain = CString::new(name).map_err(io::Error::other)?;
            let groups = nix::unistd::getgrouplist(&plain, user.gid)?;
            return Ok(Self {
                name: user.name,
                uid: user.uid.as_raw(),
                groups: groups.into_iter().map(Gid::as_raw).collect(),
                hidden: Vec::new(),
            });
        }
        let uid = nix::unistd::geteuid();
        let mut groups: Vec<u32> = nix::unistd::getgroups()?.into_iter().map(Gid::as_raw).collect();
        groups.push(nix::unistd::getegid().as_raw());
        Ok(Self {
            name: User::from_uid(uid)?.map_or_else(|| format!("user {uid}"), |user| user.name),
            uid: uid.as_raw(),
            groups,
            hidden: Vec::new(),
        })
    }

    /// The same, in a sandbox that hides `folders`.
    pub(super) fn not_seeing(self, folders: &[PathBuf]) -> Self {
        Self {
            hidden: folders.to_vec(),
            ..self
        }
    }

    /// True for a folder that its sandbox hides, whatever its mode.
    pub(super) fn hides(&self, folder: &Path) -> bool {
        self.hidden.iter().any(|hidden| hidden == folder)
    }

    /// May it do `bits` (4 read, 1 enter) to what `metadata` is of?
    fn may(&self, metadata: &Metadata, bits: u32) -> bool {
        let mode = metadata.mode();
        let own = if self.uid == 0 {
            return true;
        } else if metadata.uid() == self.uid {
            mode >> 6
        } else if self.groups.contains(&metadata.gid()) {
            mode >> 3
        } else {
            mode
        };
        own & bits == bits
    }

    pub(super) fn may_read(&self, metadata: &Metadata) -> bool {
        self.may(metadata, if metadata.is_dir() { 5 } else { 4 })
    }

    /// The first folder above `root` that it may not enter.
    pub(super) fn barred_above(&self, root: &Path) -> io::Result<Option<PathBuf>> {
        let mut above: Vec<&Path> = root.ancestors().skip(1).collect();
        above.reverse();
        for folder in above {
            if self.hides(folder) || !self.may(&std::fs::metadata(folder)?, 1) {
                return Ok(Some(folder.to_path_buf()));
            }
        }
        Ok(None)
    }
}

/// What kind of entry a walk met.
pub(super) enum Met<'a> {
    Folder,
    File,
    Link(PathBuf),
    Special(&'a FileType),
}

/// Calls `each` for everything below `root`, folders before what is in them; links are not followed. Paths are relative.
pub(super) fn walk<E: From<(PathBuf, io::Error)>>(
    root: &Path,
    each: &mut dyn FnMut(&Path, &Metadata, Met<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let full = root.join(&folder);
        let entries = std::fs::read_dir(&full).map_err(|error| E::from((full.clone(), error)))?;
        for entry in entries {
            let entry = entry.map_err(|error| E::from((full.clone(), error)))?;
            let (path, relative) = (entry.path(), folder.join(entry.file_name()));
            let metadata = entry.metadata().map_err(|error| E::from((path.clone(), error)))?;
            let kind = metadata.file_type();
            if kind.is_dir() {
                each(&relative, &metadata, Met::Folder)?;
                folders.push(relative);
            } else if kind.is_file() {
                each(&relative, &metadata, Met::File)?;
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&path).map_err(|error| E::from((path.clone(), error)))?;
                each(&relative, &metadata, Met::Link(target))?;
            } else {
                each(&relative, &metadata, Met::Special(&kind))?;
            }
        }
    }
    Ok(())
}

/// What a tree holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Survey {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The first thing that the service may not read.
    pub(super) unreadable: Option<PathBuf>,
    /// Links that lead out, with where to.
    pub(super) leads_out: Vec<(PathBuf, PathBuf)>,
    /// Sockets, devices and pipes, with the word for it.
    pub(super) special: Vec<(PathBuf, &'static str)>,
    /// Names that are not UTF-8, which no URL of ours can name.
    pub(super) odd_names: Vec<PathBuf>,
}

pub(super) struct Failed(pub(super) PathBuf, pub(super) io::Error);

impl From<(PathBuf, io::Error)> for Failed {
    fn from((path, error): (PathBuf, io::Error)) -> Self {
        Self(path, error)
    }
}

pub(super) fn survey(root: &Path, reader: &Reader, progress: &mut dyn FnMut(Progress)) -> Result<Survey, Failed> {
    let mut survey = Survey {
        unreadable: reader
            .barred_above(root)
            .map_err(|error| Failed(root.to_path_buf(), error))?,
        ..Survey::default()
    };
    let top = std::fs::metadata(root).map_err(|error| Failed(root.to_path_buf(), error))?;
    if survey.unreadable.is_none() && !reader.may_read(&top) {
        survey.unreadable = Some(root.to_path_buf());
    }
    walk::<Failed>(root, &mut |path, metadata, met| {
        if path.to_str().is_none() {
            survey.odd_names.push(path.to_path_buf());
        }
        match met {
            Met::Folder => {}
            Met::File => {
                survey.files = survey.files.saturating_add(1);
                survey.bytes = survey.bytes.saturating_add(metadata.len());
                if survey.files.is_multiple_of(1000) {
                    progress(Progress::Looking { files: survey.files });
                }
            }
            Met::Link(target) => {
                if leads_out(root, path, &target) {
                    survey.leads_out.push((path.to_path_buf(), target));
                }
                return Ok(());
            }
            Met::Special(kind) => {
                survey.special.push((path.to_path_buf(), word(kind)));
                return Ok(());
            }
        }
        if survey.unreadable.is_none() && !reader.may_read(metadata) {
            survey.unreadable = Some(root.join(path));
        }
        Ok(())
    })?;
    Ok(survey)
}

fn word(kind: &FileType) -> &'static str {
    if kind.is_fifo() {
        "pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

/// Does the link `path` with `target` leave the tree? What the kernel's own walk says counts; where nothing is, the text.
fn leads_out(root: &Path, path: &Path, target: &Path) -> bool {
    if target.is_absolute() {
        return true;
    }
    match path.to_str().map(|path| tree::look(root, path)) {
        Some(Ok(_)) => return false,
        Some(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => return true,
        _ => {}
    }
    let mut depth = path.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            std::path::Component::ParentDir => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return true,
            },
            std::path::Component::Normal(_) => depth = depth.saturating_add(1),
            _ => {}
        }
    }
    false
}
