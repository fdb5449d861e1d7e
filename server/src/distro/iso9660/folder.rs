//! The entries of one folder: names chosen, extents of one file joined, everything that lies outside the image refused.

use super::image::{Image, Names};
use super::record::Record;
use super::rock::Rock;
use super::{Budget, Bytes, Extent, Extents, FILE_EXTENTS, FOLDER_ENTRIES, IsoError, NAMED, SECTOR};

/// Bytes that are read at once.
const CHUNK: u64 = 32 * SECTOR;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A folder, and where its records lie.
    Folder(Extent),
    /// A file, and where its bytes lie.
    File(Extents),
    /// A symlink, and what it says.
    Link(String),
    /// Something that is never served, in words.
    Other(&'static str),
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it is.
    pub what: What,
    /// Seconds since 1970.
    pub modified: i64,
}

/// The entries of one folder, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folder {
    nodes: Vec<Node>,
    /// Names that are not UTF-8, which no URL can name, as they may be shown; they are left out. The first 100.
    pub odd_names: Vec<String>,
    any_case: bool,
}

impl Folder {
    /// The entries, sorted by name.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// The entry `name`; where the image has no Rock Ridge, one that differs in case does if it is the only one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Node> {
        let exact = self.nodes.binary_search_by(|node| node.name.as_str().cmp(name));
        if let Ok(place) = exact {
            return self.nodes.get(place);
        }
        if !self.any_case {
            return None;
        }
        let mut alike = self.nodes.iter().filter(|node| node.name.eq_ignore_ascii_case(name));
        alike.next().filter(|_| alike.next().is_none())
    }
}

/// A file of which more extents follow.
struct Open {
    name: Vec<u8>,
    node: Option<Node>,
    extents: Extents,
    count: usize,
}

pub(super) fn read_folder<S: Bytes>(image: &Image<S>, at: Extent, budget: &mut Budget) -> Result<Folder, IsoError> {
    let at = image.inside(at, at.offset, "a folder inside the image")?;
    let mut reading = Reading {
        image,
        nodes: Vec::new(),
        odd_names: Vec::new(),
        entries: 0,
        open: None,
        started: false,
    };
    let mut offset = at.offset;
    while offset < at.end() {
        let to_boundary = CHUNK.saturating_sub(offset.checked_rem(SECTOR).unwrap_or(0));
        let wanted = to_boundary.min(at.end().saturating_sub(offset));
        budget.spend(offset, wanted)?;
        let bytes = image.bytes_at(offset, wanted, "a folder inside the image")?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let to_boundary = SECTOR.saturating_sub(offset.checked_rem(SECTOR).unwrap_or(0));
            let length = usize::try_from(to_boundary).unwrap_or(usize::MAX).min(rest.len());
            let (sector, after) = rest.split_at(length);
            reading.sector(sector, offset, budget)?;
            offset = offset.saturating_add(super::length(sector));
            rest = after;
        }
    }
    reading.finish(at)
}

struct Reading<'a, S> {
    image: &'a Image<S>,
    nodes: Vec<Node>,
    odd_names: Vec<String>,
    entries: usize,
    open: Option<Open>,
    started: bool,
}

impl<S: Bytes> Reading<'_, S> {
    /// The records of one sector; a length of zero ends them.
    fn sector(&mut self, sector: &[u8], base: u64, budget: &mut Budget) -> Result<(), IsoError> {
        let mut at = 0_usize;
        while let Some(size) = sector.get(at).filter(|size| **size != 0) {
            let offset = base.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
            let end = at.saturating_add(usize::from(*size));
            let bytes = sector.get(at..end).ok_or_else(|| IsoError::Malformed {
                offset,
                expected: "a directory record that ends within its sector",
                found: format!("{size} bytes"),
            })?;
            let record = Record::parse(bytes, offset)?;
            if !std::mem::replace(&mut self.started, true) && !record.is_self() {
                return Err(record.malformed("a folder that opens with its own record", "another one".to_owned()));
            }
            self.entries = self.entries.saturating_add(1);
            if self.entries > FOLDER_ENTRIES {
                return Err(IsoError::Limit {
                    offset,
                    what: "entries in a folder",
                    most: u64::try_from(FOLDER_ENTRIES).unwrap_or(u64::MAX),
                });
            }
            if !record.is_self() && !record.is_parent() && !record.is_associated() {
                self.record(&record, budget)?;
            }
            at = end;
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, budget: &mut Budget) -> Result<(), IsoError> {
        if let Some(open) = self.open.take() {
            if open.name != record.name || record.is_folder() {
                return Err(record.malformed(
                    "the next extent of the file before",
                    format!("`{}`", String::from_utf8_lossy(record.name).escape_debug()),
                ));
            }
            return self.extent(open, record);
        }
        let rock = match self.image.names() {
            Names::RockRidge { skip } => Rock::read(self.image, record, skip, budget)?,
            Names::Joliet | Names::Plain => Rock::default(),
        };
        if rock.moved_here {
            return Ok(());
        }
        let Some(name) = self.name(record, &rock)? else {
            if self.odd_names.len() < NAMED {
                let shown = rock.name.as_deref().unwrap_or(record.name);
                self.odd_names.push(shown.escape_ascii().to_string());
            }
            if record.goes_on() && !record.is_folder() {
                self.extent(
                    Open {
                        name: record.name.to_vec(),
                        node: None,
                        extents: Extents::default(),
                        count: 0,
                    },
                    record,
                )?;
            }
            return Ok(());
        };
        let node = |what| Node {
            name: name.clone(),
            what,
            modified: record.modified,
        };
        if let Some(what) = self.rock_kind(record, &rock, budget)? {
            // A file of several extents that is nothing to serve: its other records go with it.
            if record.goes_on() {
                return Err(record.malformed("one extent", "several, of what is no file".to_owned()));
            }
            self.nodes.push(node(what));
            return Ok(());
        }
        if record.is_folder() {
            let extent = self.extent_of(record)?;
            self.nodes.push(node(What::Folder(extent)));
            return Ok(());
        }
        let open = Open {
            name: record.name.to_vec(),
            node: Some(node(What::File(Extents::default()))),
            extents: Extents::default(),
            count: 0,
        };
        self.extent(open, record)
    }

    /// What only Rock Ridge can say that a record is.
    fn rock_kind(&self, record: &Record<'_>, rock: &Rock, budget: &mut Budget) -> Result<Option<What>, IsoError> {
        if let Some(block) = rock.moved_to {
            return Ok(Some(What::Folder(self.moved(record, block, budget)?)));
        }
        let kind = rock.mode.map_or(0, |mode| mode & 0o170_000);
        if let Some(target) = &rock.target {
            let target = String::from_utf8(target.clone());
            let sound = target
                .ok()
                .filter(|target| !target.contains('\0') && !target.is_empty());
            return match sound {
                Some(target) => Ok(Some(What::Link(target))),
                None => Ok(Some(What::Other("a symlink whose target is no text"))),
            };
        }
        Ok(match kind {
            0o120_000 => Some(What::Other("a symlink without a target")),
            0o010_000 | 0o020_000 | 0o060_000 | 0o140_000 => Some(What::Other("a device, pipe or socket")),
            _ if record.is_folder() => None,
            _ if rock.packed => Some(What::Other("packed by zisofs, which is not unpacked")),
            _ if record.is_interleaved() => Some(What::Other("stored in pieces with gaps (interleaved)")),
            _ => None,
        })
    }

    /// The folder that CL points to: its length stands in its own first record (RRIP 4.1.5.1).
    fn moved(&self, record: &Record<'_>, block: u64, budget: &mut Budget) -> Result<Extent, IsoError> {
        let offset = block.saturating_mul(self.image.block());
        budget.spend(record.offset, 34)?;
        let bytes = self.image.bytes_at(offset, 34, "a moved folder inside the image")?;
        let own = Record::parse(&bytes, offset)?;
        if !own.is_self() || !own.is_folder() || own.block.saturating_mul(self.image.block()) != offset {
            return Err(own.malformed("the own record of a moved folder", "another one".to_owned()));
        }
        self.extent_of(&own)
    }

    fn extent_of(&self, record: &Record<'_>) -> Result<Extent, IsoError> {
        let extent = Extent {
            // Writers leave anything in the place of an empty file's data.
            offset: if record.length == 0 {
                0
            } else {
                record.block.saturating_mul(self.image.block())
            },
            length: record.length,
        };
        self.image.inside(
            extent,
            record.offset,
            "an extent inside the image, which may be cut off",
        )
    }

    fn extent(&mut self, mut open: Open, record: &Record<'_>) -> Result<(), IsoError> {
        open.count = open.count.saturating_add(1);
        if open.count > FILE_EXTENTS {
            return Err(IsoError::Limit {
                offset: record.offset,
                what: "extents of one file",
                most: u64::try_from(FILE_EXTENTS).unwrap_or(u64::MAX),
            });
        }
        open.extents.push(self.extent_of(record)?);
        if record.goes_on() {
            self.open = Some(open);
        } else if let Some(node) = open.node {
            self.nodes.push(Node {
                what: What::File(open.extents),
                ..node
            });
        }
        Ok(())
    }

    /// The name of a record; none where it is not UTF-8.
    fn name(&self, record: &Record<'_>, rock: &Rock) -> Result<Option<String>, IsoError> {
        let name = match (self.image.names(), &rock.name) {
            (Names::Joliet, _) => {
                let (pairs, odd) = record.name.as_chunks::<2>();
                let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
                match String::from_utf16(&units) {
                    Ok(name) if odd.is_empty() => without_version(&name).to_owned(),
                    _ => return Ok(None),
                }
            }
            (Names::RockRidge { .. }, Some(name)) => match String::from_utf8(name.clone()) {
                Ok(name) => name,
                Err(_) => return Ok(None),
            },
            (Names::RockRidge { .. } | Names::Plain, _) => match std::str::from_utf8(record.name) {
                Ok(name) => without_version(name).trim_end_matches('.').to_ascii_lowercase(),
                Err(_) => return Ok(None),
            },
        };
        if matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) {
            return Err(record.malformed("a name that is no path", format!("`{}`", name.escape_debug())));
        }
        Ok(Some(name))
    }

    fn finish(self, at: Extent) -> Result<Folder, IsoError> {
        let end = |expected, found: &str| IsoError::Malformed {
            offset: at.end(),
            expected,
            found: found.to_owned(),
        };
        if !self.started {
            return Err(end("a folder that opens with its own record", "an empty one"));
        }
        if self.open.is_some() {
            return Err(end("the last extent of a file", "the end of the folder"));
        }
        let mut nodes = self.nodes;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some([twice, _]) = nodes.array_windows::<2>().find(|[a, b]| a.name == b.name) {
            return Err(IsoError::Malformed {
                offset: at.offset,
                expected: "each name of a folder once",
                found: format!("`{}` twice", twice.name.escape_debug()),
            });
        }
        Ok(Folder {
            nodes,
            odd_names: self.odd_names,
            any_case: !matches!(self.image.names(), Names::RockRidge { .. }),
        })
    }
}

/// `NAME.EXT;1` without `;1` (ECMA-119 section 7.5.1).
fn without_version(name: &str) -> &str {
    match name.rsplit_once(';') {
        Some((stem, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => stem,
        _ => name,
    }
}
