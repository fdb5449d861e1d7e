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

/// Notes that whether a copy is wanted is known to the inventory alone start so.
const DOUBT: &str = ".doubt-";

/// Stands between a distro's name and the number of its copy, from the second one on; no [`Name`] holds it.
const AGAIN: char = '~';

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

/// A copy that is in its place, while it is not known yet whether the inventory will name it.
#[derive(Debug)]
pub(super) struct Placed {
    shelf: Shelf,
    pub(super) root: PathBuf,
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

    /// A place where nothing lies for a copy of `name`. A new copy never takes the place of an old one: which of them counts is what the
    /// inventory says, so that a kill at any moment leaves tree and objects that fit each other.
    fn free_place(&self, name: &Name) -> String {
        let free = |place: &String| std::fs::symlink_metadata(self.folder.join(place)).is_err();
        let places = (2_u32..).map(|number| format!("{name}{AGAIN}{number}"));
        std::iter::once(name.to_string())
            .chain(places)
            .find(free)
            .unwrap_or_default()
    }

    fn sync(&self) -> Result<(), Cause> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(io_at(&self.folder))
    }

    /// Notes that whether the copy in `place` is wanted is known to the inventory alone.
    pub(super) fn doubt(&self, place: &str) -> Result<(), Cause> {
        let note = self.folder.join(format!("{DOUBT}{place}"));
        File::create(&note).map_err(io_at(&note))?;
        self.sync()
    }

    /// It is known by now.
    fn settle(&self, place: &str) -> Result<(), Cause> {
        let note = self.folder.join(format!("{DOUBT}{place}"));
        match std::fs::remove_file(&note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(&note)(error)),
            _ => Ok(()),
        }
    }

    /// Removes the copy in `place`. Nothing to remove is no error.
    fn remove(&self, place: &str) -> Result<(), Cause> {
        let (from, aside) = (self.folder.join(place), self.folder.join(format!("{STAGING}{place}")));
        match std::fs::rename(&from, &aside) {
            Ok(()) => remove(&aside).map_err(io_at(&aside))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_at(&from)(error)),
        }
        self.settle(place)
    }

    /// Removes every copy of which a killed import left unknown whether it is wanted, and which is not: `wanted` tells, of a folder's path.
    fn tidy(&self, wanted: &dyn Fn(&Path) -> bool) -> Result<(), Cause> {
        for entry in std::fs::read_dir(&self.folder).map_err(io_at(&self.folder))? {
            let name = entry.map_err(io_at(&self.folder))?.file_name();
            let Some(place) = name.to_str().and_then(|name| name.strip_prefix(DOUBT)) else {
                continue;
            };
            if wanted(&self.folder.join(place)) {
                self.settle(place)?;
            } else {
                self.remove(place)?;
            }
        }
        Ok(())
    }

    /// Has `fill` make the folder of `name` aside, and puts it in its place whole.
    pub(super) fn place(
        self,
        name: &Name,
        progress: &mut dyn FnMut(Progress),
        fill: impl FnOnce(&Path, &mut dyn FnMut(Progress)) -> Result<(), Cause>,
    ) -> Result<Placed, Cause> {
        let staging = self.folder.join(format!("{STAGING}{name}"));
        let place = self.free_place(name);
        let target = self.folder.join(&place);
        let done = begin(&staging).and_then(|()| fill(&staging, progress)).and_then(|()| {
            progress(Progress::Syncing);
            let folder = File::open(&staging).map_err(io_at(&staging))?;
            nix::unistd::syncfs(&folder).map_err(|errno| io_at(&staging)(errno.into()))?;
            self.doubt(&place)?;
            std::fs::rename(&staging, &target).map_err(io_at(&target))?;
            self.sync()
        });
        match done {
            Ok(()) => Ok(Placed {
                shelf: self,
                root: target,
            }),
            Err(cause) => {
                // The first error is the one to tell; what cannot be removed now goes at the next import.
                let _ = remove(&staging);
                let _ = self.remove(&place);
                Err(cause)
            }
        }
    }
}

impl Placed {
    fn place(&self) -> String {
        let name = self.root.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Before the inventory stops naming the copy in `old`, which nothing will need then.
    pub(super) fn doubt(&self, old: &str) -> Result<(), Cause> {
        self.shelf.doubt(old)
    }

    /// The objects are stored: what they replaced goes.
    pub(super) fn keep(self, old: Option<&str>) -> Result<(), Cause> {
        self.shelf.settle(&self.place())?;
        old.map_or(Ok(()), |old| self.shelf.remove(old))
    }

    /// The objects were not stored: what was there before is still there.
    pub(super) fn withdraw(self, old: Option<&str>) -> Result<(), Cause> {
        self.shelf.remove(&self.place())?;
        old.map_or(Ok(()), |old| self.shelf.settle(old))
    }
}

/// The folder below `state` that `root` lies in or is, when it is one for copies of `name`.
pub(super) fn copy_of(name: &Name, root: &Path, state: &Path) -> Option<String> {
    let place = root.strip_prefix(state.join("distros")).ok()?.iter().next()?.to_str()?;
    let more = place.strip_prefix(name.as_str())?;
    let numbered = || {
        more.strip_prefix(AGAIN)
            .is_some_and(|number| number.parse::<u32>().is_ok())
    };
    (more.is_empty() || numbered()).then(|| place.to_owned())
}

/// Removes the copy in `place` below `state`, as after its distro was removed. Nothing to remove is no error.
pub(super) fn remove_copy(state: &Path, place: &str) -> Result<(), Cause> {
    Shelf::open(state)?.remove(place)
}

/// [`Shelf::doubt`] for who holds no shelf.
pub(super) fn doubt(state: &Path, place: &str) -> Result<(), Cause> {
    Shelf::open(state)?.doubt(place)
}

/// Removes what killed imports left below `state`. `inventory` is asked for the wanted folders once nobody else imports; none when they
/// cannot be known, and then only what is certain goes.
pub(super) fn tidy(state: &Path, wanted: impl FnOnce() -> Option<Vec<PathBuf>>) -> Result<(), Cause> {
    if std::fs::symlink_metadata(state.join("distros")).is_err() {
        return Ok(());
    }
    let shelf = match Shelf::open(state) {
        Ok(shelf) => shelf,
        // Another one is at work: it is not ours to judge.
        Err(Cause::Busy(_)) => return Ok(()),
        Err(cause) => return Err(cause),
    };
    match wanted() {
        // The state folder may be reached by more than one path: a place that any tree's path names is left alone.
        Some(roots) => shelf.tidy(&|place| {
            let name = place.file_name();
            roots.iter().any(|root| root.iter().any(|part| Some(part) == name))
        }),
        None => Ok(()),
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
pub(super) fn begin(staging: &Path) -> Result<(), Cause> {
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
