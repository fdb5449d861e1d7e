//! Opens ISO images on disk: what detection looks at, and files that are read at offsets without being unpacked.
//!
//! An image that was opened stays open, with the folders that were asked for, until the file behind its path is another one. It is only
//! ever read. A medium that is not the one that was imported is refused: its files would not be those that were promised.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: the only file that opens ISO images, for import, HTTP, TFTP and the watcher"
)]

use super::detect::{Entry, Look, Source};
use super::iso9660::{Bytes, Contents, Extent, Extents, Folder, Found, Image, IsoError, Keep, Listed, Volume};
use crate::model::Medium;
use nix::fcntl::OFlag;
use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Entries of folders that are kept per image: below 8 MiB, and more than the largest known folder.
const KEPT: usize = 32_768;
/// Images that stay open.
const OPEN: usize = 32;
/// The name by which an image is a file of its own tree, for installers that want it whole (Ubuntu, Agama). A file of that name inside
/// the image comes first.
pub const ITSELF: &str = "medium.iso";

/// Why an ISO cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A folder, a device or the like.
    #[error("it is neither a file nor a drive")]
    NotAFile,
    /// It is no ISO, or a broken one.
    #[error("{0}")]
    Iso(#[from] IsoError),
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => error,
            OpenError::NotAFile => Self::new(io::ErrorKind::PermissionDenied, error.to_string()),
            OpenError::Iso(error) => of(error),
        }
    }
}

/// What HTTP and TFTP make of an image's error.
fn of(error: IsoError) -> io::Error {
    let kind = match &error {
        IsoError::Read { error, .. } => error.kind(),
        IsoError::Missing(_) => io::ErrorKind::NotFound,
        IsoError::NotAFolder(_) => io::ErrorKind::NotADirectory,
        IsoError::NotAFile(_) => io::ErrorKind::IsADirectory,
        IsoError::BadPath => io::ErrorKind::InvalidInput,
        IsoError::LeadsOut(_) | IsoError::TooManyLinks { .. } | IsoError::Unservable { .. } => {
            io::ErrorKind::PermissionDenied
        }
        IsoError::Malformed { .. } | IsoError::Limit { .. } | IsoError::NotIso { .. } => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

/// An image file, read where it lies.
#[derive(Debug)]
struct OnDisk {
    file: Arc<File>,
    size: u64,
}

impl Bytes for OnDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

/// Which file this is: one that was replaced or written to is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Folders that were read, while they are few enough.
#[derive(Debug, Default)]
struct Kept {
    folders: BTreeMap<Extent, Arc<Folder>>,
    entries: usize,
}

impl Keep for Mutex<Kept> {
    fn get(&self, at: Extent) -> Option<Arc<Folder>> {
        let kept = self.lock().unwrap_or_else(PoisonError::into_inner);
        kept.folders.get(&at).cloned()
    }

    fn put(&self, at: Extent, folder: &Arc<Folder>) {
        // A folder counts even when it is empty.
        let entries = folder.nodes().len().saturating_add(1);
        if entries > KEPT {
            return;
        }
        let mut kept = self.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.entries.saturating_add(entries) > KEPT {
            *kept = Kept::default();
        }
        if kept.folders.insert(at, folder.clone()).is_none() {
            kept.entries = kept.entries.saturating_add(entries);
        }
    }
}

/// O_NONBLOCK: a FIFO must not wait for its writer, nor a drive for its disc.
fn opened(path: &Path) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// An ISO on disk, open.
#[derive(Debug)]
pub struct Iso {
    image: Image<OnDisk>,
    stamp: Stamp,
    kept: Mutex<Kept>,
}

/// A file inside an ISO, open.
#[derive(Debug, Clone)]
pub struct IsoFile {
    file: Arc<File>,
    extents: Arc<Extents>,
    stamp: Stamp,
}

/// What a path of an ISO is, open.
#[derive(Debug, Clone)]
pub enum Opened {
    /// A folder.
    Folder,
    /// A file.
    File(IsoFile),
}

impl Iso {
    /// Opens the image `path`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let (file, metadata) = opened(path)?;
        if metadata.is_file() {
            Self::of(file, Stamp::of(&metadata))
        } else {
            Err(OpenError::NotAFile)
        }
    }

    /// Opens the disc in the drive `path`, a block device.
    ///
    /// # Errors
    /// [`OpenError`]; without a disc the drive says so (ENOMEDIUM).
    pub fn of_drive(path: &Path) -> Result<Self, OpenError> {
        let (mut file, metadata) = opened(path)?;
        if !metadata.file_type().is_block_device() {
            return Err(OpenError::NotAFile);
        }
        // A device says its size where a file's metadata does.
        let size = file.seek(io::SeekFrom::End(0))?;
        let stamp = Stamp {
            size,
            ..Stamp::of(&metadata)
        };
        Self::of(file, stamp)
    }

    fn of(file: File, stamp: Stamp) -> Result<Self, OpenError> {
        let image = Image::open(OnDisk {
            file: Arc::new(file),
            size: stamp.size,
        })?;
        Ok(Self {
            image,
            stamp,
            kept: Mutex::default(),
        })
    }

    /// The image `path`, opened before or now.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn shared(path: &Path) -> Result<Arc<Self>, OpenError> {
        static SHELF: Mutex<Vec<(PathBuf, Arc<Iso>)>> = Mutex::new(Vec::new());
        let stamp = Stamp::of(&std::fs::metadata(path)?);
        {
            let mut shelf = SHELF.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = shelf.iter().position(|(known, _)| known == path) {
                let (known, iso) = shelf.remove(place);
                if iso.stamp == stamp {
                    shelf.push((known, iso.clone()));
                    return Ok(iso);
                }
            }
        }
        let iso = Arc::new(Self::open(path)?);
        let mut shelf = SHELF.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.retain(|(known, _)| known != path);
        if shelf.len() >= OPEN {
            // The one that was asked for longest ago; who still reads from it keeps it open.
            shelf.remove(0);
        }
        shelf.push((path.to_path_buf(), iso.clone()));
        Ok(iso)
    }

    /// What the image calls itself.
    #[must_use]
    pub const fn volume(&self) -> &Volume {
        self.image.volume()
    }

    /// The image itself.
    #[must_use]
    pub fn image(&self) -> &Image<impl Bytes + use<>> {
        &self.image
    }

    /// Which image this is.
    #[must_use]
    pub const fn medium(&self) -> Medium {
        Medium {
            size: self.stamp.size,
            modified: self.stamp.modified.0,
        }
    }

    /// Opens `path` inside the image.
    ///
    /// # Errors
    /// As [`Image::find`].
    pub fn at(&self, path: &str) -> Result<Opened, IsoError> {
        let whole = Extent {
            offset: 0,
            length: self.stamp.size,
        };
        let extents = match self.image.find(path, &self.kept) {
            Ok(Found::Folder(_)) => return Ok(Opened::Folder),
            Ok(Found::File(extents, _)) => extents,
            Err(IsoError::Missing(_)) if path.trim_matches('/') == ITSELF => Extents::from(whole),
            Err(error) => return Err(error),
        };
        Ok(Opened::File(IsoFile {
            file: self.image.source().file.clone(),
            extents: Arc::new(extents),
            stamp: self.stamp,
        }))
    }

    /// The folder `path`, sorted by name.
    ///
    /// # Errors
    /// As [`Image::list`].
    pub fn entries(&self, path: &str) -> Result<Vec<Listed>, IsoError> {
        let mut listed = self.image.list(path, &self.kept)?;
        let is_root = path.split('/').all(|part| part.is_empty() || part == ".");
        if is_root && !listed.iter().any(|entry| entry.name == ITSELF) {
            let place = listed.partition_point(|entry| entry.name.as_str() < ITSELF);
            let itself = Listed {
                name: ITSELF.to_owned(),
                is_folder: false,
                size: self.stamp.size,
                modified: self.stamp.modified.0,
            };
            listed.insert(place, itself);
        }
        Ok(listed)
    }

    /// Walks over all of it, and so judges it whole.
    ///
    /// # Errors
    /// As [`Image::walk`].
    pub fn walk(&self) -> Result<Contents, IsoError> {
        self.image.walk(&mut |_, _| {})
    }
}

impl IsoFile {
    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.extents.size()
    }

    /// When the image was written last: seconds since 1970, and nanoseconds. A file changes only with its image.
    #[must_use]
    pub const fn modified(&self) -> (i64, i64) {
        self.stamp.modified
    }

    /// A number that no other file of the image has, unless it is the same bytes, and hardly one of another image.
    #[must_use]
    pub fn number(&self) -> u64 {
        let place = self.extents.runs().first().map_or(0, |run| run.offset);
        self.stamp.inode.rotate_left(40) ^ place
    }

    /// Where byte `offset` of the file lies in the image; none at and behind its end.
    #[must_use]
    pub fn run(&self, offset: u64) -> Option<(&File, Extent)> {
        Some((&self.file, self.extents.locate(offset)?))
    }

    /// True while the image is what it was when it was opened.
    ///
    /// # Errors
    /// What the system says.
    pub fn unchanged(&self) -> io::Result<bool> {
        Ok(Stamp::of(&self.file.metadata()?) == self.stamp)
    }

    /// Reads at `offset` into `buffer`, and tells how many bytes; 0 only at the end.
    ///
    /// # Errors
    /// What the medium says; `UnexpectedEof` when the image became shorter.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(run) = self.extents.locate(offset) else {
            return Ok(0);
        };
        let most = usize::try_from(run.length).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..most).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        match self.file.read_at(part, run.offset)? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the image became shorter while it was read",
            )),
            read => Ok(read),
        }
    }
}

impl Source for Iso {
    fn read(&self, path: &str, max: usize) -> Option<Vec<u8>> {
        let Opened::File(file) = self.at(path).ok()? else {
            return None;
        };
        let wanted = usize::try_from(file.size()).unwrap_or(usize::MAX).min(max);
        let mut bytes = vec![0; wanted];
        let mut filled = 0_usize;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let offset = u64::try_from(filled).ok()?;
            match file.read_at(rest, offset) {
                Ok(0) => break,
                Ok(read) => filled = filled.saturating_add(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        bytes.truncate(filled);
        Some(bytes)
    }

    fn list(&self, path: &str) -> Option<Vec<Entry>> {
        let listed = self.entries(path).ok()?;
        let entry = |listed: Listed| Entry {
            name: listed.name,
            is_folder: listed.is_folder,
        };
        Some(listed.into_iter().map(entry).collect())
    }

    fn look(&self, path: &str) -> Look {
        match self.at(path) {
            Ok(Opened::Folder) => Look::Folder,
            Ok(Opened::File(file)) => Look::File(file.size()),
            Err(IsoError::Missing(_) | IsoError::NotAFolder(_)) => Look::Missing,
            Err(error) => Look::Unreadable(format!("{path} cannot be read: {error}")),
        }
    }
}
