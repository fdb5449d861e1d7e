//! Recognises a distro by its own metadata.
//!
//! Pure.

/// One entry of a folder of a [`Source`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// True for a folder.
    pub is_folder: bool,
}

/// What a path of a [`Source`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing is there.
    Missing,
    /// A file that can be read, with its size in bytes.
    File(u64),
    /// A folder.
    Folder,
    /// Something that may not be read: the sentence says what and why.
    Unreadable(String),
}

/// Where a tree is looked at: a folder, later an ISO. Paths are relative to its root, `/`-separated, `` for the root.
pub trait Source {
    /// At most `max` bytes from the start of the file `path`; none when there is no such file or it cannot be read.
    fn read(&self, path: &str, max: usize) -> Option<Vec<u8>>;
    /// The entries of the folder `path`, by name; none when there is no such folder or it cannot be read.
    fn list(&self, path: &str) -> Option<Vec<Entry>>;
    /// What `path` is.
    fn look(&self, path: &str) -> Look;
}
