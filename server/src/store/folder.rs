//! The state folder: who owns it, which files of it are sound, and acting as its owner. Never follows a link in it.

#![expect(clippy::disallowed_methods, reason = "looks after the files of the state folder")]

use super::StoreError;
use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::marker::PhantomData;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The state folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    uid: u32,
    gid: u32,
}

/// Something about a file of the state folder that an admin should mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is wrong and the remedy.
    pub what: String,
}

/// While this lives, this thread's file accesses are the folder owner's. Bound to its thread, as the kernel's notion is.
pub(super) struct AsOwner {
    before: Option<(Uid, Gid)>,
    _this_thread: PhantomData<*const ()>,
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        if let Some((uid, gid)) = self.before {
            setfsuid(uid);
            setfsgid(gid);
        }
    }
}

impl Folder {
    /// Opens the folder, making it with mode 0700 if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or read, or others may write into it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let meta = match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(path)
                    .map_err(StoreError::io(path, "make the state folder"))?;
                fs::metadata(path)
            }
            other => other,
        }
        .map_err(StoreError::io(path, "open the state folder"))?;
        if !meta.is_dir() {
            return Err(StoreError::Io {
                path: path.to_owned(),
                doing: "open the state folder",
                source: ErrorKind::NotADirectory.into(),
            });
        }
        if meta.mode() & 0o022 != 0 {
            return Err(StoreError::OpenFolder {
                path: path.to_owned(),
                mode: meta.mode() & 0o7777,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            uid: meta.uid(),
            gid: meta.gid(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of one of its files.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Acts as the folder's owner until the guard goes, when root would act otherwise.
    pub(super) fn enter(&self) -> AsOwner {
        let before = (geteuid().is_root() && self.uid != 0).then(|| {
            let gid = setfsgid(Gid::from_raw(self.gid));
            (setfsuid(Uid::from_raw(self.uid)), gid)
        });
        AsOwner {
            before,
            _this_thread: PhantomData,
        }
    }

    /// True when the file is there and sound: a plain file of the folder's owner. False when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] when it is somebody else's, or a link.
    pub(super) fn has(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.file(name);
        let meta = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => other.map_err(StoreError::io(&path, "look at the file"))?,
        };
        let what = if meta.file_type().is_symlink() {
            "is a symbolic link".to_owned()
        } else if !meta.is_file() {
            "is not a plain file".to_owned()
        } else if meta.uid() != self.uid {
            format!("belongs to uid {}", meta.uid())
        } else {
            return Ok(true);
        };
        Err(StoreError::Foreign {
            path,
            what,
            expected: self.uid,
        })
    }

    /// Makes the file `name` with mode 0600, whole or not at all: `fill` writes it under another name first. When another process was
    /// faster, its file stays.
    pub(super) fn make(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _owner = self.enter();
        let temporary = self.temporary(name)?;
        let target = self.file(name);
        let linked = fill(&temporary).and_then(|()| {
            sync(&temporary)?;
            match fs::hard_link(&temporary, &target) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                other => other.map_err(StoreError::io(&target, "make the file")),
            }
        });
        let removed = fs::remove_file(&temporary).map_err(StoreError::io(&temporary, "remove the file"));
        linked.and(removed)?;
        sync(&self.path)
    }

    /// Puts a new file in the place of `name`, whole or not at all.
    pub(super) fn replace(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _owner = self.enter();
        let temporary = self.temporary(name)?;
        let target = self.file(name);
        let renamed = fill(&temporary)
            .and_then(|()| sync(&temporary))
            .and_then(|()| fs::rename(&temporary, &target).map_err(StoreError::io(&target, "replace it")));
        if renamed.is_err() {
            // The first error is the one to tell; the next start removes what is left over.
            let _ = fs::remove_file(&temporary);
        }
        renamed?;
        sync(&self.path)
    }

    /// An empty file under a name that nobody else uses, to become `name`.
    fn temporary(&self, name: &str) -> Result<PathBuf, StoreError> {
        // Threads of one process may make the same file too.
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let temporary = self.file(&format!(".{name}.{}.{number}.new", std::process::id()));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StoreError::io(&temporary, "remove the left-over file")(error));
            }
            _ => {}
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(StoreError::io(&temporary, "make the file"))?;
        Ok(temporary)
    }

    /// The names of everything in the folder.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        let failed = || StoreError::io(&self.path, "list the state folder");
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            names.push(entry.map_err(failed())?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Removes what processes that were killed while they made a file left behind. Best effort.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        let _owner = self.enter();
        for name in self.names()? {
            let Some(made) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new")) else {
                continue;
            };
            let maker = made.rsplit('.').nth(1).and_then(|pid| pid.parse::<u32>().ok());
            let at_work = maker.is_none_or(|pid| {
                pid == std::process::id() || Path::new("/proc").join(pid.to_string()).try_exists().unwrap_or(true)
            });
            if !at_work {
                for end in ["", "-journal", "-wal", "-shm"] {
                    let _ = fs::remove_file(self.file(&format!("{name}{end}")));
                }
            }
        }
        Ok(())
    }

    /// Everything in the folder that an admin should mend: files of others, and files that others can read.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn findings(&self) -> Result<Vec<Finding>, StoreError> {
        let mut findings = Vec::new();
        let failed = || StoreError::io(&self.path, "list the state folder");
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let meta = fs::symlink_metadata(&path).map_err(StoreError::io(&path, "look at the file"))?;
            let what = if meta.uid() != self.uid {
                format!(
                    "belongs to uid {}, the state folder to uid {}; chown it",
                    meta.uid(),
                    self.uid
                )
            } else if meta.is_file() && meta.mode() & 0o077 != 0 {
                format!(
                    "has mode {:04o}, so others can read state; chmod 0600 it",
                    meta.mode() & 0o7777
                )
            } else {
                continue;
            };
            findings.push(Finding { path, what });
        }
        findings.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(findings)
    }
}

/// Which file a path leads to now; none when to no file.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok()
}

/// Makes what was written to a file, or the names in a folder, survive a power cut.
pub(super) fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(StoreError::io(path, "write it to disk"))
}

/// Writes a whole file that `make` made.
pub(super) fn write_into(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(StoreError::io(path, "write the file"))
}
