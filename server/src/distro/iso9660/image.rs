//! An image: where its root is, and which of its names are used.

use super::folder::{Folder, read_folder};
use super::record::Record;
use super::rock::{Rock, skip_of};
use super::volume::{self, Descriptors, Volume};
use super::{BootEntry, Budget, Bytes, Extent, IsoError, LOOKUP_BYTES, SECTOR, boot};

/// Which names of an image are used: the first of these that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// POSIX names; `skip` bytes of each system use area belong to others (SUSP 5.3).
    RockRidge {
        /// Bytes.
        skip: usize,
    },
    /// Names in UCS-2, looked up without regard to case where no name fits exactly.
    Joliet,
    /// The names of ISO 9660 in lower case, without version; looked up without regard to case.
    Plain,
}

/// An ISO 9660 image.
#[derive(Debug)]
pub struct Image<S> {
    source: S,
    size: u64,
    block: u64,
    volume: Volume,
    names: Names,
    root: Extent,
    catalog: Option<u64>,
}

impl<S: Bytes> Image<S> {
    /// Opens the image in `source`, reading its descriptors and the head of its root.
    ///
    /// # Errors
    /// [`IsoError::NotIso`], or what is wrong with it.
    pub fn open(source: S) -> Result<Self, IsoError> {
        let size = source.size();
        let Descriptors {
            volume,
            block,
            root,
            joliet,
            catalog,
        } = volume::read(&source)?;
        let mut image = Self {
            source,
            size,
            block,
            volume,
            names: Names::Plain,
            root,
            catalog,
        };
        if let Some(skip) = image.rock_ridge()? {
            image.names = Names::RockRidge { skip };
        } else if let Some(root) = joliet {
            (image.names, image.root) = (Names::Joliet, root);
        }
        // Whoever asks for the root gets its place without reading it.
        image.inside(image.root, image.root.offset, "the root folder inside the image")?;
        Ok(image)
    }

    /// What Rock Ridge skips, if the root's own record says that it is there.
    fn rock_ridge(&self) -> Result<Option<usize>, IsoError> {
        let offset = self.root.offset;
        let sector = self.bytes_at(offset, SECTOR.min(self.root.length), "the root folder inside the image")?;
        let own = sector
            .first()
            .and_then(|size| sector.get(..usize::from(*size)))
            .unwrap_or(&[]);
        let record = Record::parse(own, offset)?;
        let Some(skip) = skip_of(record.system_use) else {
            return Ok(None);
        };
        let mut budget = Budget::new(LOOKUP_BYTES);
        let rock = Rock::read(self, &record, skip, &mut budget)?;
        Ok(rock.present.then_some(skip))
    }

    /// What the image calls itself.
    pub const fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Which names are used.
    pub const fn names(&self) -> Names {
        self.names
    }

    /// Where its root folder lies.
    pub const fn root(&self) -> Extent {
        self.root
    }

    /// Where its bytes come from.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// What firmware boots from it (El Torito); none where it boots nothing.
    ///
    /// # Errors
    /// What is wrong with the catalog.
    pub fn boot_entries(&self) -> Result<Vec<BootEntry>, IsoError> {
        self.catalog
            .map_or_else(|| Ok(Vec::new()), |offset| boot::read(self, offset))
    }

    /// The entries of the folder that lies at `at`.
    ///
    /// # Errors
    /// What is wrong with it; a folder is whole or refused.
    pub fn folder(&self, at: Extent) -> Result<Folder, IsoError> {
        read_folder(self, at, &mut Budget::new(LOOKUP_BYTES))
    }

    pub(super) const fn block(&self) -> u64 {
        self.block
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// An extent that lies inside the image.
    pub(super) fn inside(&self, extent: Extent, at: u64, expected: &'static str) -> Result<Extent, IsoError> {
        match extent.offset.checked_add(extent.length) {
            Some(end) if end <= self.size => Ok(extent),
            _ => Err(IsoError::Malformed {
                offset: at,
                expected,
                found: format!("bytes {} to {} of {}", extent.offset, extent.end(), self.size),
            }),
        }
    }

    /// The bytes at `offset`; the caller has bounded `length`.
    pub(super) fn bytes_at(&self, offset: u64, length: u64, expected: &'static str) -> Result<Vec<u8>, IsoError> {
        self.inside(Extent { offset, length }, offset, expected)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = volume::fill(&self.source, offset, &mut bytes)?;
        if read < bytes.len() {
            return Err(IsoError::Malformed {
                offset,
                expected,
                found: format!("an end after {read} bytes"),
            });
        }
        Ok(bytes)
    }
}
