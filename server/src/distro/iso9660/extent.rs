//! Where bytes lie in an image. Never reads them.

/// One run of bytes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

impl Extent {
    /// The first byte behind it.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// The bytes of one file: its extents in order. A file above 4 GiB has several (ECMA-119 section 6.5.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extents {
    runs: Vec<Extent>,
    size: u64,
}

impl From<Extent> for Extents {
    fn from(only: Extent) -> Self {
        let mut extents = Self::default();
        extents.push(only);
        extents
    }
}

impl Extents {
    /// Takes the next extent; one that follows the last without a gap becomes one with it.
    pub(super) fn push(&mut self, next: Extent) {
        self.size = self.size.saturating_add(next.length);
        match self.runs.last_mut() {
            _ if next.length == 0 => {}
            Some(last) if last.end() == next.offset => last.length = last.length.saturating_add(next.length),
            _ => self.runs.push(next),
        }
    }

    /// Bytes of the file.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The extents, in the order of the file's bytes; none for an empty file.
    #[must_use]
    pub fn runs(&self) -> &[Extent] {
        &self.runs
    }

    /// Where byte `offset` of the file lies, and how many bytes follow it there; none at and behind the end.
    #[must_use]
    pub fn locate(&self, offset: u64) -> Option<Extent> {
        let mut within = offset;
        for run in &self.runs {
            match run.length.checked_sub(within) {
                Some(left) if left > 0 => {
                    return Some(Extent {
                        offset: run.offset.saturating_add(within),
                        length: left,
                    });
                }
                _ => within = within.saturating_sub(run.length),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_file_has_its_place() {
        let mut extents = Extents::default();
        for (offset, length) in [(100, 10), (110, 5), (0, 0), (50, 7)] {
            extents.push(Extent { offset, length });
        }
        assert_eq!(extents.size(), 22);
        assert_eq!(extents.runs().len(), 2, "two that touch are one: {extents:?}");
        let places: Vec<u64> = (0..22).map(|at| extents.locate(at).unwrap().offset).collect();
        assert_eq!(places, (100..115).chain(50..57).collect::<Vec<_>>());
        assert_eq!(extents.locate(13).unwrap().length, 2);
        assert_eq!(extents.locate(22), None);
        assert_eq!(extents.locate(u64::MAX), None);
        assert_eq!(Extents::default().locate(0), None);
    }
}
