//! Opens and lists what lies below a tree's root, and nothing else: a path from the wire can never leave the tree.
//!
//! Symlinks inside a tree work while they stay beneath its root (Debian's `dists/stable`); one that leads out is refused. Only regular
//! files and folders are ever opened, so that a FIFO or a device in a tree cannot stop a server.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: the only file that opens trees, for HTTP, TFTP, import and the watcher"
)]

use super::detect::{Entry, Look, Source};
use super::iso_source::{self, Iso, IsoFile};
use super::iso9660::Extent;
use crate::model::Medium;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name, case as on disk.
    pub name: String,
    /// True for a folder.
    pub is_folder: bool,
    /// Bytes; 0 for a folder.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub modified: i64,
}

/// Opens `path` below `root` for reading; empty components (`a//b`) and `.` are skipped. The metadata says whether it is a folder.
///
/// # Errors
/// `NotFound`; `PermissionDenied` when the path or a symlink on it leads out of the tree, when the file may not be read, or when it is
/// neither file nor folder; `InvalidInput` for `..` and NUL.
pub fn open(root: &Path, path: &str) -> io::Result<(File, Metadata)> {
    let relative = relative(path)?;
    // O_NONBLOCK: opening a FIFO must not wait for its writer. For files and folders it changes nothing.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = open_beneath(root, &relative, flags)?;
    let metadata = file.metadata()?;
    if metadata.is_file() || metadata.is_dir() {
        Ok((file, metadata))
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{path} is neither a file nor a folder"),
        ))
    }
}

/// What `path` below `root` is, without opening it for reading, so that a file whose content may not be read can still be named.
///
/// # Errors
/// As [`open`], but for the right to read.
pub fn look(root: &Path, path: &str) -> io::Result<Metadata> {
    open_beneath(root, &relative(path)?, OFlag::O_PATH | OFlag::O_CLOEXEC)?.metadata()
}

/// The folder `path` below `root`, sorted by name. Left out: names that are not UTF-8, links that lead nowhere or out of the tree, and
/// what is neither file nor folder, since nobody could fetch them.
///
/// # Errors
/// As [`open`], and `NotADirectory`.
pub fn list(root: &Path, path: &str) -> io::Result<Vec<Listed>> {
    let (folder, metadata) = open(root, path)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mut listed = Vec::new();
    // Reading through the open descriptor: the folder that was judged is the one that is read.
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let metadata = match entry.file_type()? {
            kind if kind.is_symlink() => match look(root, &format!("{path}/{name}")) {
                Ok(metadata) => metadata,
                Err(_) => continue,
            },
            kind if kind.is_file() || kind.is_dir() => match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            },
            _ => continue,
        };
        if !metadata.is_file() && !metadata.is_dir() {
            continue;
        }
        listed.push(Listed {
            name,
            is_folder: metadata.is_dir(),
            size: if metadata.is_dir() { 0 } else { metadata.len() },
            modified: metadata.mtime(),
        });
    }
    listed.sort_unstable();
    Ok(listed)
}

/// A file of a tree, open: on disk, or inside an ISO image.
#[derive(Debug)]
pub enum TreeFile {
    /// On disk.
    Plain(File, Metadata),
    /// Inside an image.
    Inside(IsoFile),
}

/// What a path of a tree is, open.
#[derive(Debug)]
pub enum Opened {
    /// A folder.
    Folder,
    /// A file.
    File(TreeFile),
}

impl TreeFile {
    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Plain(_, metadata) => metadata.len(),
            Self::Inside(file) => file.size(),
        }
    }

    /// Modification time: seconds since 1970, and nanoseconds. Files of an image have its own.
    #[must_use]
    pub fn modified(&self) -> (i64, i64) {
        match self {
            Self::Plain(_, metadata) => (metadata.mtime(), metadata.mtime_nsec()),
            Self::Inside(file) => file.modified(),
        }
    }

    /// Tells it from others of the same size and time: its inode, or its place in the image.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self {
            Self::Plain(_, metadata) => metadata.ino(),
            Self::Inside(file) => file.number(),
        }
    }

    /// Reads at `offset` into `buffer`, and tells how many bytes; 0 only at the end.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file, _) => file.read_at(buffer, offset),
            Self::Inside(file) => file.read_at(buffer, offset),
        }
    }

    /// Where byte `offset` lies: the file that holds it, its place there, and how many bytes follow it there; none at and behind the end.
    #[must_use]
    pub fn run(&self, offset: u64) -> Option<(&File, Extent)> {
        match self {
            Self::Plain(file, metadata) => {
                let length = metadata.len().checked_sub(offset).filter(|left| *left > 0)?;
                Some((file, Extent { offset, length }))
            }
            Self::Inside(file) => file.run(offset),
        }
    }

    /// Looks whether the file, or the image that it is in, is still what was opened. Content that is rewritten in place while it is sent
    /// would reach a machine as a mixture of old and new.
    ///
    /// # Errors
    /// `InvalidData` when it was written to; what the system says.
    pub fn unchanged(&self) -> io::Result<()> {
        let same = match self {
            Self::Plain(file, then) => {
                let now = file.metadata()?;
                (now.len(), now.mtime(), now.mtime_nsec()) == (then.len(), then.mtime(), then.mtime_nsec())
            }
            Self::Inside(file) => file.unchanged()?,
        };
        if same {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it was changed while it was sent",
        ))
    }

    /// Reads at `offset` until `buffer` is full or the file ends, and tells how many bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn fill(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0_usize;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            match self.read_at(rest, at) {
                Ok(0) => break,
                Ok(read) => filled = filled.saturating_add(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Where a tree lies, in borrowed parts.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its folder, or its ISO image.
    pub root: &'a Path,
    /// The image that `root` must be, where it was imported as one.
    pub iso: Option<Medium>,
    /// The folder whose files are seen before those of `root`.
    pub overlay: Option<&'a Path>,
}

impl<'a> From<&'a crate::model::Tree> for Place<'a> {
    fn from(tree: &'a crate::model::Tree) -> Self {
        Self {
            root: &tree.root,
            iso: tree.iso,
            overlay: tree.overlay.as_deref(),
        }
    }
}

impl Place<'_> {
    /// Opens `path`: out of the overlay where it has such a file, else out of the tree. A medium that is gone or another one is an error
    /// for the overlay's files too, for they start an installation that it could not go on with.
    ///
    /// # Errors
    /// As [`fetch`].
    pub fn fetch(&self, path: &str) -> io::Result<Opened> {
        let Some(overlay) = self.overlay else {
            return fetch(self.root, self.iso, path);
        };
        match fetch(overlay, None, path) {
            Ok(Opened::File(file)) => {
                let _there = fetch(self.root, self.iso, "")?;
                Ok(Opened::File(file))
            }
            Ok(Opened::Folder) => Ok(Opened::Folder),
            Err(_) => fetch(self.root, self.iso, path),
        }
    }

    /// The folder `path`, with what the overlay and the tree have in it, sorted by name.
    ///
    /// # Errors
    /// As [`entries`].
    pub fn entries(&self, path: &str) -> io::Result<Vec<Listed>> {
        let own = entries(self.root, self.iso, path);
        let Some(overlay) = self.overlay else { return own };
        match (entries(overlay, None, path), own) {
            (Ok(mut laid), Ok(own)) => {
                laid.extend(own);
                // Stable, so of two that have one name the overlay's stays.
                laid.sort_by(|a, b| a.name.cmp(&b.name));
                laid.dedup_by(|later, first| later.name == first.name);
                Ok(laid)
            }
            (Ok(laid), Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(laid),
            (_, own) => own,
        }
    }
}

/// Opens `path` of the tree `root`, which is a folder or an ISO image; `iso` is the image that it must be.
///
/// # Errors
/// As [`open`] and [`Iso::at`]; `InvalidData` when the image is not the one that was imported.
pub fn fetch(root: &Path, iso: Option<Medium>, path: &str) -> io::Result<Opened> {
    if let Some(image) = image(root, iso)? {
        return Ok(match image.at(path).map_err(iso_source::OpenError::from)? {
            iso_source::Opened::Folder => Opened::Folder,
            iso_source::Opened::File(file) => Opened::File(TreeFile::Inside(file)),
        });
    }
    let (file, metadata) = open(root, path)?;
    Ok(if metadata.is_dir() {
        Opened::Folder
    } else {
        Opened::File(TreeFile::Plain(file, metadata))
    })
}

/// The folder `path` of the tree `root`, as [`fetch`] sees it, sorted by name.
///
/// # Errors
/// As [`fetch`], and `NotADirectory`.
pub fn entries(root: &Path, iso: Option<Medium>, path: &str) -> io::Result<Vec<Listed>> {
    let Some(image) = image(root, iso)? else {
        return list(root, path);
    };
    let listed = image.entries(path).map_err(iso_source::OpenError::from)?;
    let entry = |listed: super::iso9660::Listed| Listed {
        name: listed.name,
        is_folder: listed.is_folder,
        size: listed.size,
        modified: listed.modified,
    };
    Ok(listed.into_iter().map(entry).collect())
}

/// The image that `root` is; none for a folder. What was only named (`distro edit --tree X.iso`) is an image by what it is.
fn image(root: &Path, iso: Option<Medium>) -> io::Result<Option<Arc<Iso>>> {
    let Some(medium) = iso else {
        return match std::fs::metadata(root) {
            Ok(metadata) if metadata.is_file() => Ok(Some(Iso::shared(root)?)),
            _ => Ok(None),
        };
    };
    let image = Iso::shared(root)?;
    if image.medium() == medium {
        return Ok(Some(image));
    }
    let differs = match image.medium().size {
        size if size == medium.size => "it was written to since".to_owned(),
        size => format!("{} bytes then, {size} now", medium.size),
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{} is another image than the one that was imported ({differs})",
            root.display()
        ),
    ))
}

/// `path` without empty components and `.`; `.` alone when nothing is left.
fn relative(path: &str) -> io::Result<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a path in a tree has no `..`",
                ));
            }
            part if part.contains('\0') => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path has no NUL"));
            }
            part => parts.push(part),
        }
    }
    Ok(if parts.is_empty() {
        ".".to_owned()
    } else {
        parts.join("/")
    })
}

fn open_beneath(root: &Path, relative: &str, flags: OFlag) -> io::Result<File> {
    let folder = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).bits())
        .open(root)?;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // openat2(2): EAGAIN when something was renamed meanwhile; it is tried again, but not for ever.
    for _ in 0..16 {
        match openat2(&folder, relative, how) {
            Ok(fd) => return Ok(fd.into()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(Errno::EXDEV) => return Err(leads_out(relative)),
            // Kernels before 5.6 and seccomp filters that do not know the call.
            Err(Errno::ENOSYS | Errno::EPERM) => return open_resolved(root, relative, flags),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

fn leads_out(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{path} leads out of the tree"))
}

/// Where the kernel cannot guard: resolve first, judge, then open without following a last link. Who can win the race between the two
/// can write into the tree, which only the admin can.
fn open_resolved(root: &Path, relative: &str, flags: OFlag) -> io::Result<File> {
    let root = std::fs::canonicalize(root)?;
    let path = std::fs::canonicalize(root.join(relative))?;
    if !path.starts_with(&root) {
        return Err(leads_out(relative));
    }
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags((flags | OFlag::O_NOFOLLOW).bits())
        .open(path)
}

/// A folder on disk, as detection looks at it.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The tree below `root`.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

impl Source for Folder {
    fn read(&self, path: &str, max: usize) -> Option<Vec<u8>> {
        let (file, metadata) = open(&self.root, path).ok()?;
        if !metadata.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        let max = u64::try_from(max).unwrap_or(u64::MAX);
        file.take(max).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn list(&self, path: &str) -> Option<Vec<Entry>> {
        let listed = list(&self.root, path).ok()?;
        let entry = |listed: Listed| Entry {
            name: listed.name,
            is_folder: listed.is_folder,
        };
        Some(listed.into_iter().map(entry).collect())
    }

    fn look(&self, path: &str) -> Look {
        let denied = |error: io::Error| Look::Unreadable(format!("{path} cannot be read: {error}"));
        match look(&self.root, path) {
            Ok(metadata) if metadata.is_dir() => Look::Folder,
            Ok(_) => match open(&self.root, path) {
                Ok((_, metadata)) => Look::File(metadata.len()),
                Err(error) => denied(error),
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Look::Missing
            }
            Err(error) => denied(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/File"), b"hello").unwrap();
        std::fs::write(dir.path().join("secret"), b"secret").unwrap();
        symlink("b", root.join("a/link")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        symlink(".", root.join("debian")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("a/up/../secret", root.join("sly")).unwrap();
        symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        dir
    }

    type Opener = fn(&Path, &str, OFlag) -> io::Result<File>;

    #[test]
    fn links_work_inside_and_never_lead_out() {
        let dir = tree();
        let root = dir.path().join("tree");
        let openers: [Opener; 2] = [open_beneath, open_resolved];
        for opener in openers {
            for path in ["a/b/File", "a/link/File", "a/up/a/b/File", "debian/debian/a/b/File"] {
                let mut text = String::new();
                let mut file = opener(&root, path, OFlag::O_RDONLY).unwrap();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text, "hello", "{path}");
            }
            for path in ["out", "sly", "absolute", "../secret", "a/up/../secret"] {
                let error = opener(&root, path, OFlag::O_RDONLY).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path}: {error}");
            }
        }
        assert_eq!(open(&root, "//a/.//b//File").unwrap().1.len(), 5);
        assert!(open(&root, "").unwrap().1.is_dir());
        assert_eq!(open(&root, "a/b/file").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(
            open(&root, "../secret").unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(open(&root, "a\0b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            open(&dir.path().join("gone"), "x").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_fifo_neither_blocks_nor_opens() {
        let dir = tree();
        let root = dir.path().join("tree");
        nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = open(&root, "fifo").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let names = |path| -> Vec<_> {
            let listed = list(&root, path).unwrap();
            listed.into_iter().map(|entry| (entry.name, entry.is_folder)).collect()
        };
        assert_eq!(names(""), [("a".to_owned(), true), ("debian".to_owned(), true)]);
        assert_eq!(names("a//link"), [("File".to_owned(), false)]);
        assert_eq!(list(&root, "a/b").unwrap()[0].size, 5);
        assert_eq!(
            list(&root, "a/b/File").unwrap_err().kind(),
            io::ErrorKind::NotADirectory
        );
    }
}
