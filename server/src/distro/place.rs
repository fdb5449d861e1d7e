//! Copies a tree or a medium into the state folder so that it is there whole or not at all: staging folder, sync, one rename.
//!
//! A kill at any moment leaves at most a staging folder, whose name no distro can have; the next import removes it.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: writes copies of imported trees below the state folder, and nowhere else"
)]

use super::import::{Cause, Progress};
use super::survey::{Met, Reader, walk};
use crate::model::Name;
use std::fs::{File, FileTimes, Metadata, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Bytes between two reports of progress.
const CHUNK: u64 = 32 << 20;

/// Names of unfinished folders start so; a [`Name`] never starts with a dot.
const STAGING: &str = ".staging-";

/// The folder of copies, held by one import at a time.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    _lock: Held,
}

/// The lock of the folder of copies.
#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    /// Lets go of the lock itself, not only of our descriptor: a child that another thread has just forked holds a copy of that
    /// until it executes its program.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!("the import lock was not let go: {error}");
        }
    }
}

/// A copy that is in its place, while the one that it replaced is still kept.
#[derive(Debug)]
pub(super) struct Placed {
    shelf: Shelf,
    pub(super) root: PathBuf,
    aside: PathBuf,
    replaced: bool,
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> Cause + '_ {
    move |error| Cause::Io {
        path: path.to_path_buf(),
        error,
    }
}

impl Shelf {
    /// Opens `<state>/distros`, waits for nobody, and removes what a killed import left.
    pub(super) fn open(state: &Path) -> Result<Self, Cause> {
        let folder = state.join("distros");
        std::fs::create_dir_all(&folder).map_err(io_at(&folder))?;
        let lock_path = folder.join(".lock");
        let lock = File::create(&lock_path).map_err(io_at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Cause::Busy(folder)),
            Err(TryLockError::Error(error)) => return Err(io_at(&lock_path)(error)),
        }
        let shelf = Self {
            folder,
            _lock: Held(lock),
        };
        for entry in std::fs::read_dir(&shelf.folder).map_err(io_at(&shelf.folder))? {
            let entry = entry.map_err(io_at(&shelf.folder))?;
            if entry.file_name().to_string_lossy().starts_with(STAGING) {
                remove(&entry.path()).map_err(io_at(&entry.path()))?;
            }
        }
        Ok(shelf)
    }

    /// Where the copy of `name` lies.
    pub(super) fn place_of(&self, name: &Name) -> PathBuf {
        self.folder.join(name.as_str())
    }

    /// Has `fill` make the folder of `name` aside, and puts it in its place whole.
    pub(super) fn place(
        self,
        name: &Name,
        progress: &mut dyn FnMut(Progress),
        fill: impl FnOnce(&Path, &mut dyn FnMut(Progress)) -> Result<(), Cause>,
    ) -> Result<Placed, Cause> {
        let staging = self.folder.join(format!("{STAGING}{name}"));
        let target = self.place_of(name);
        let done = begin(&staging).and_then(|()| fill(&staging, progress)).and_then(|()| {
            progress(Progress::Syncing);
            let folder = File::open(&staging).map_err(io_at(&staging))?;
            nix::unistd::syncfs(&folder).map_err(|errno| io_at(&staging)(errno.into()))?;
            self.put(&staging, &target)
        });
        match done {
            Ok(replaced) => Ok(Placed {
                shelf: self,
                root: target,
                aside: staging,
                replaced,
            }),
            Err(cause) => {
                // The first error is the one to tell; what cannot be removed now goes at the next import.
                let _ = remove(&staging);
                Err(cause)
            }
        }
    }

    /// Puts the staging folder in its place in one step; true when it now holds what was there before.
    fn put(&self, staging: &Path, target: &Path) -> Result<bool, Cause> {
        let there = match std::fs::symlink_metadata(target) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(io_at(target)(error)),
        };
        if there {
            exchange(staging, target).map_err(io_at(target))?;
        } else {
            std::fs::rename(staging, target).map_err(io_at(target))?;
        }
        let folder = File::open(&self.folder).map_err(io_at(&self.folder))?;
        folder.sync_all().map_err(io_at(&self.folder))?;
        Ok(there)
    }
}

/// Swaps two folders at once, so that there is no moment without one (renameat2(2), RENAME_EXCHANGE).
#[cfg(target_env = "gnu")]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE)?;
    Ok(())
}

/// Without that call in the C library: three renames, and a moment without the folder.
#[cfg(not(target_env = "gnu"))]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    let aside = a.with_extension("swap");
    std::fs::rename(b, &aside)?;
    std::fs::rename(a, b)?;
    std::fs::rename(aside, a)
}

impl Placed {
    /// The objects are stored: what was replaced goes.
    pub(super) fn keep(self) -> io::Result<()> {
        if self.replaced { remove(&self.aside) } else { Ok(()) }
    }

    /// The objects were not stored: what was there before comes back.
    pub(super) fn withdraw(self) -> io::Result<()> {
        if self.replaced {
            exchange(&self.aside, &self.root)?;
        } else {
            std::fs::rename(&self.root, &self.aside)?;
        }
        File::open(&self.shelf.folder)?.sync_all()?;
        remove(&self.aside)
    }
}

/// Removes the copy of `name` below `state`, as after its distro was removed. Nothing to remove is no error.
pub(super) fn remove_copy(state: &Path, name: &Name) -> Result<(), Cause> {
    let shelf = Shelf::open(state)?;
    let place = shelf.place_of(name);
    let aside = shelf.folder.join(format!("{STAGING}{name}"));
    match std::fs::rename(&place, &aside) {
        Ok(()) => remove(&aside).map_err(io_at(&aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_at(&place)(error)),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

struct Count {
    files: u64,
    bytes: u64,
    all_files: u64,
    all_bytes: u64,
}

impl Count {
    const fn progress(&self) -> Progress {
        Progress::Copying {
            files: self.files,
            bytes: self.bytes,
            all_files: self.all_files,
            all_bytes: self.all_bytes,
        }
    }
}

/// An empty folder at `staging`, open to all.
fn begin(staging: &Path) -> Result<(), Cause> {
    remove(staging).map_err(io_at(staging))?;
    std::fs::create_dir(staging).map_err(io_at(staging))?;
    std::fs::set_permissions(staging, Permissions::from_mode(0o755)).map_err(io_at(staging))
}

/// Copies the tree `source` into `staging`. Files that `reader` may read are linked when `may_link`, since they cost nothing then.
pub(super) fn copy_tree(
    source: &Path,
    staging: &Path,
    (all_files, all_bytes): (u64, u64),
    (reader, may_link): (&Reader, bool),
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Cause> {
    let here = std::fs::metadata(staging).map_err(io_at(staging))?.dev();
    let open_to_all = Permissions::from_mode(0o755);
    let mut count = Count {
        files: 0,
        bytes: 0,
        all_files,
        all_bytes,
    };
    progress(count.progress());
    walk::<Cause>(source, &mut |path, metadata, met| {
        let (from, to) = (source.join(path), staging.join(path));
        match met {
            Met::Folder => {
                std::fs::create_dir(&to).map_err(io_at(&to))?;
                std::fs::set_permissions(&to, open_to_all.clone()).map_err(io_at(&to))
            }
            Met::Link(target) => symlink(target, &to).map_err(io_at(&to)),
            // The survey refused these; one that came since is left out.
            Met::Special(_) => Ok(()),
            Met::File => {
                let linked = may_link && metadata.dev() == here && reader.may_read(metadata);
                if !linked || std::fs::hard_link(&from, &to).is_err() {
                    copy_file(&from, &to, metadata, &mut count, progress)?;
                } else {
                    count.bytes = count.bytes.saturating_add(metadata.len());
                }
                count.files = count.files.saturating_add(1);
                progress(count.progress());
                Ok(())
            }
        }
    })
}

/// Copies the image or disc `from` to `to`: its first `bytes`.
pub(super) fn copy_medium(from: &Path, to: &Path, bytes: u64, progress: &mut dyn FnMut(Progress)) -> Result<(), Cause> {
    let metadata = std::fs::metadata(from).map_err(io_at(from))?;
    let mut count = Count {
        files: 0,
        bytes: 0,
        all_files: 1,
        all_bytes: bytes,
    };
    copy_file(from, to, &metadata, &mut count, progress)?;
    if count.bytes < bytes {
        return Err(io_at(from)(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// Copies inside the kernel where it can, which shares blocks on filesystems that do (copy_file_range(2)).
fn copy_file(
    from: &Path,
    to: &Path,
    metadata: &Metadata,
    count: &mut Count,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Cause> {
    let source = File::open(from).map_err(io_at(from))?;
    let mut copy = File::create_new(to).map_err(io_at(to))?;
    // A disc ends where its file system ends: what a drive has behind it may be unreadable.
    let mut left = if metadata.is_file() { u64::MAX } else { count.all_bytes };
    while left > 0 {
        let part = left.min(CHUNK);
        let wrote = io::copy(&mut (&source).take(part), &mut copy).map_err(io_at(from))?;
        count.bytes = count.bytes.saturating_add(wrote);
        left = left.saturating_sub(wrote);
        if wrote < part {
            break;
        }
        progress(count.progress());
    }
    let plain = !metadata.is_file() || metadata.mode() & 0o111 == 0;
    let mode = if plain { 0o644 } else { 0o755 };
    copy.set_permissions(Permissions::from_mode(mode)).map_err(io_at(to))?;
    if let Ok(modified) = metadata.modified() {
        copy.set_times(FileTimes::new().set_modified(modified))
            .map_err(io_at(to))?;
    }
    Ok(())
}
