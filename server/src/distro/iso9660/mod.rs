//! Reads ISO 9660 images: levels 1 to 3 with files of several extents, Rock Ridge, Joliet, El Torito.
//!
//! Pure: bytes come from [`Bytes`], and what it gives of a file is where its bytes lie, so that a server sends them without unpacking.
//! Every byte of an image may be hostile. Nothing is allocated, followed or repeated because the image says so: each count has a limit
//! here, each place must lie inside the image, and a folder that breaks a rule is refused whole. Standards: ECMA-119 (ISO 9660),
//! SUSP and RRIP 1.12 (Rock Ridge), the Joliet specification, El Torito 1.0.

mod boot;
mod extent;
mod folder;
mod image;
mod record;
mod resolve;
mod rock;
mod volume;

pub use boot::{BootEntry, Platform};
pub use extent::{Extent, Extents};
pub use folder::{Folder, Node, What};
pub use image::{Image, Names};
pub use resolve::{Contents, Found, Keep, Listed};
pub use volume::Volume;

use std::io;

/// Where the bytes of an image come from.
pub trait Bytes {
    /// Bytes in all.
    fn size(&self) -> u64;
    /// Reads at `offset` into `buffer`, and tells how many bytes; 0 only at the end.
    ///
    /// # Errors
    /// What the medium says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Bytes for [u8] {
    fn size(&self) -> u64 {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|from| self.get(from..));
        let rest = rest.unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        if let Some((to, from)) = buffer.get_mut(..length).zip(rest.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }
}

impl<B: Bytes + ?Sized> Bytes for &B {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }
}

/// A sector: descriptors and directory records never cross one, whatever the block size is (ECMA-119 section 6.1.2).
const SECTOR: u64 = 2048;
/// Folders below one another.
const DEPTH: usize = 64;
/// Entries of one folder; the largest known (EL7's `Packages`) has 10,000.
const FOLDER_ENTRIES: usize = 100_000;
/// Entries of a whole image.
const IMAGE_ENTRIES: u64 = 1_000_000;
/// Continuation areas of one record.
const CONTINUATIONS: usize = 32;
/// Bytes of one continuation area; SUSP 5.1 keeps it within a block.
const CONTINUATION_BYTES: u64 = 32 * 1024;
/// Bytes of a Rock Ridge name.
const NAME: usize = 255;
/// Bytes of a symlink's target.
const TARGET: usize = 4096;
/// Symlinks that one path may pass.
const LINKS: usize = 40;
/// Steps that one operation may make while it follows paths and symlinks.
const STEPS: u64 = 1_000_000;
/// Extents of one file: enough for 4 TiB.
const FILE_EXTENTS: usize = 1024;
/// Things of one kind that are named; there may be more.
const NAMED: usize = 100;
/// Bytes of folders and continuation areas that one look-up or listing may read.
const LOOKUP_BYTES: u64 = 64 << 20;
/// The same for a walk over all of an image.
const WALK_BYTES: u64 = 128 << 20;

/// Why an image, or something in it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    /// The medium failed.
    #[error("offset {offset}: {wanted} bytes could not be read: {error}")]
    Read {
        /// Where.
        offset: u64,
        /// How many bytes were wanted.
        wanted: u64,
        /// What the medium said.
        error: io::Error,
    },
    /// The image breaks its format.
    #[error("offset {offset}: expected {expected}, found {found}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What the format has there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The image keeps to its format and asks for more than is given.
    #[error("offset {offset}: expected at most {most} {what}")]
    Limit {
        /// Where.
        offset: u64,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// It is another kind of file.
    #[error("offset 32768: expected an ISO 9660 volume descriptor (CD001), found {found}")]
    NotIso {
        /// What is there, in words.
        found: String,
        /// It is UDF.
        udf: bool,
    },
    /// Nothing has that name.
    #[error("{0} is not in the image")]
    Missing(String),
    /// A path goes on below a file.
    #[error("{0} is no folder")]
    NotAFolder(String),
    /// A folder where a file was wanted.
    #[error("{0} is no file")]
    NotAFile(String),
    /// A path, or a symlink on it, leaves the image.
    #[error("{0} leads out of the image")]
    LeadsOut(String),
    /// A path that nobody should ask for.
    #[error("a path in an image has no `..` and no NUL")]
    BadPath,
    /// Symlinks without end.
    #[error("{path} passes more than {LINKS} symlinks")]
    TooManyLinks {
        /// The path that was asked for.
        path: String,
    },
    /// It is there, and it is nothing that can be sent.
    #[error("{path} is {what}")]
    Unservable {
        /// The path.
        path: String,
        /// What it is.
        what: &'static str,
    },
}

/// What one operation may still read.
#[derive(Debug, Clone, Copy)]
struct Budget {
    bytes: u64,
    most: u64,
}

impl Budget {
    const fn new(most: u64) -> Self {
        Self { bytes: most, most }
    }

    fn spend(&mut self, offset: u64, bytes: u64) -> Result<(), IsoError> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(IsoError::Limit {
            offset,
            what: "bytes of folders in one operation",
            most: self.most,
        })?;
        Ok(())
    }
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*pair))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*four))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
