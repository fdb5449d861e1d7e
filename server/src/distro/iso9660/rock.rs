//! Rock Ridge: POSIX names, kinds and symlinks in the system use area of records (SUSP and RRIP 1.12).
//!
//! Never follows a continuation twice: chains without end and lengths that lie are the oldest attack on readers (CVE-2014-9420).

use super::image::Image;
use super::record::Record;
use super::{Budget, Bytes, CONTINUATION_BYTES, CONTINUATIONS, IsoError, NAME, TARGET, le32, length};
use std::collections::BTreeSet;

/// What Rock Ridge says of one record.
#[derive(Debug, Default)]
pub(super) struct Rock {
    /// NM: its name.
    pub(super) name: Option<Vec<u8>>,
    /// PX: its mode, with the kind.
    pub(super) mode: Option<u32>,
    /// SL: what the symlink says.
    pub(super) target: Option<Vec<u8>>,
    /// CL: the block where the folder that stands here was moved to.
    pub(super) moved_to: Option<u64>,
    /// RE: it was moved here from deeper down, and is seen there.
    pub(super) moved_here: bool,
    /// ZF: its bytes are packed by zisofs.
    pub(super) packed: bool,
    /// ER or any entry that only Rock Ridge has.
    pub(super) present: bool,
    component_open: bool,
}

/// One entry of the area: signature, and what follows its four bytes of header.
struct Entry<'a> {
    offset: u64,
    signature: [u8; 2],
    data: &'a [u8],
}

impl Entry<'_> {
    fn short(&self, expected: &'static str) -> IsoError {
        IsoError::Malformed {
            offset: self.offset,
            expected,
            found: format!("{} bytes of data", self.data.len()),
        }
    }
}

/// CE: where more entries lie (SUSP 5.1).
struct Continuation {
    block: u64,
    within: u64,
    bytes: u64,
}

impl Continuation {
    /// Three numbers, each in both byte orders.
    fn of(entry: &Entry<'_>) -> Result<Self, IsoError> {
        let number = |at| {
            le32(entry.data, at)
                .map(u64::from)
                .ok_or_else(|| entry.short("24 bytes in CE"))
        };
        Ok(Self {
            block: number(0)?,
            within: number(8)?,
            bytes: number(16)?,
        })
    }
}

/// The `skip` of SP: bytes of other use before the first entry; none where the root has no SP, and so no Rock Ridge.
/// With `root_use`, the system use area of the root's own record.
pub(super) fn skip_of(root_use: &[u8]) -> Option<usize> {
    // Behind the 14 bytes of CD-ROM XA, SP stands there.
    [0_usize, 14].into_iter().find_map(|at| {
        let entry = root_use.get(at..)?.first_chunk::<7>()?;
        match entry {
            [b'S', b'P', 7, 1, 0xBE, 0xEF, skip] => Some(at.saturating_add(usize::from(*skip))),
            _ => None,
        }
    })
}

impl Rock {
    /// Reads what stands with `record`.
    pub(super) fn read<S: Bytes>(
        image: &Image<S>,
        record: &Record<'_>,
        skip: usize,
        budget: &mut Budget,
    ) -> Result<Self, IsoError> {
        let mut rock = Self::default();
        let area = record.system_use.get(skip..).unwrap_or(&[]);
        // Where exactly an entry stands within its record helps nobody: the record's place is told.
        let mut next = rock.take_area(area, record.offset, false)?;
        let mut seen = BTreeSet::new();
        while let Some(area) = next {
            let offset = area.block.saturating_mul(image.block()).saturating_add(area.within);
            let bytes = area.bytes;
            if seen.len() >= CONTINUATIONS || !seen.insert(offset) {
                return Err(IsoError::Limit {
                    offset,
                    what: "continuation areas of one record, each visited once",
                    most: u64::try_from(CONTINUATIONS).unwrap_or(u64::MAX),
                });
            }
            if bytes > CONTINUATION_BYTES {
                return Err(IsoError::Limit {
                    offset,
                    what: "bytes in a continuation area",
                    most: CONTINUATION_BYTES,
                });
            }
            budget.spend(offset, bytes)?;
            let area = image.bytes_at(offset, bytes, "a continuation area inside the image")?;
            next = rock.take_area(&area, offset, true)?;
        }
        if rock.component_open {
            return Err(record.malformed("the end of a symlink's component", "the end of its record".to_owned()));
        }
        Ok(rock)
    }

    /// Takes the entries of one area, and tells where the next one lies.
    fn take_area(&mut self, area: &[u8], base: u64, exact: bool) -> Result<Option<Continuation>, IsoError> {
        let mut next = None;
        let mut at = 0_usize;
        while let Some(header) = area.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
            let [one, two, size, _version] = *header;
            // Zeros fill an area up.
            if one == 0 {
                break;
            }
            let offset = if exact {
                base.saturating_add(length(area.get(..at).unwrap_or(&[])))
            } else {
                base
            };
            let end = at.saturating_add(usize::from(size));
            let data = area.get(at.saturating_add(4)..end).ok_or_else(|| IsoError::Malformed {
                offset,
                expected: "a system use entry of 4 bytes or more that ends within its area",
                found: format!("{size} bytes of {}", area.len().saturating_sub(at)),
            })?;
            let entry = Entry {
                offset,
                signature: [one, two],
                data,
            };
            match &entry.signature {
                b"ST" => break,
                b"CE" => next = Some(Continuation::of(&entry)?),
                _ => self.take(&entry)?,
            }
            at = end;
        }
        Ok(next)
    }

    fn take(&mut self, entry: &Entry<'_>) -> Result<(), IsoError> {
        match &entry.signature {
            b"ER" => self.present = true,
            b"PX" => {
                let mode = le32(entry.data, 0).ok_or_else(|| entry.short("a mode in PX"))?;
                self.mode = Some(mode);
                self.present = true;
            }
            b"NM" => self.take_name(entry)?,
            b"SL" => self.take_target(entry)?,
            b"CL" => {
                let block = le32(entry.data, 0).ok_or_else(|| entry.short("a block in CL"))?;
                self.moved_to = Some(u64::from(block));
            }
            b"RE" => self.moved_here = true,
            b"ZF" => self.packed = true,
            _ => {}
        }
        Ok(())
    }

    /// RRIP 4.1.4. Bits 1 and 2 mean `.` and `..`, which the record's own name says better.
    fn take_name(&mut self, entry: &Entry<'_>) -> Result<(), IsoError> {
        let (flags, text) = entry.data.split_first().ok_or_else(|| entry.short("flags in NM"))?;
        self.present = true;
        if flags & 0b110 != 0 {
            return Ok(());
        }
        let name = self.name.get_or_insert_default();
        name.extend_from_slice(text);
        if name.len() > NAME {
            return Err(IsoError::Limit {
                offset: entry.offset,
                what: "bytes in a name",
                most: u64::try_from(NAME).unwrap_or(u64::MAX),
            });
        }
        Ok(())
    }

    /// RRIP 4.1.3: components, each with flags and a length; one that goes on is finished by the next, perhaps in the next entry.
    fn take_target(&mut self, entry: &Entry<'_>) -> Result<(), IsoError> {
        let (_, mut rest) = entry.data.split_first().ok_or_else(|| entry.short("flags in SL"))?;
        let target = self.target.get_or_insert_default();
        while let Some((flags, after)) = rest.split_first() {
            let cut = || entry.short("a symlink's component that ends within SL");
            let (size, after) = after.split_first().ok_or_else(cut)?;
            let (text, after) = after.split_at_checked(usize::from(*size)).ok_or_else(cut)?;
            if !self.component_open && !target.is_empty() && target.last() != Some(&b'/') {
                target.push(b'/');
            }
            match flags & 0b1110 {
                0 => target.extend_from_slice(text),
                0b0010 => target.push(b'.'),
                0b0100 => target.extend_from_slice(b".."),
                0b1000 if target.is_empty() => target.push(b'/'),
                _ => return Err(entry.short("one meaning for a symlink's component")),
            }
            self.component_open = flags & 1 != 0;
            if target.len() > TARGET {
                return Err(IsoError::Limit {
                    offset: entry.offset,
                    what: "bytes in a symlink's target",
                    most: u64::try_from(TARGET).unwrap_or(u64::MAX),
                });
            }
            rest = after;
        }
        Ok(())
    }
}
