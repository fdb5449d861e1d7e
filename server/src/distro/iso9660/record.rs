//! One directory record (ECMA-119 section 9.1).

use super::{IsoError, le32};

/// Bytes before the name.
const FIXED: usize = 33;

/// A record as it stands in a folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// Where it stands in the image.
    pub(super) offset: u64,
    /// First block of its data.
    pub(super) block: u64,
    /// Bytes of its data.
    pub(super) length: u64,
    flags: u8,
    interleaved: bool,
    /// Seconds since 1970.
    pub(super) modified: i64,
    /// Its name as recorded.
    pub(super) name: &'a [u8],
    /// What follows the name: Rock Ridge's place.
    pub(super) system_use: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads `bytes`, which are the record's by its own length.
    pub(super) fn parse(bytes: &'a [u8], offset: u64) -> Result<Self, IsoError> {
        let short = || IsoError::Malformed {
            offset,
            expected: "a directory record of at least 34 bytes that holds its name",
            found: format!("{} bytes", bytes.len()),
        };
        let byte = |at: usize| bytes.get(at).copied().ok_or_else(short);
        let attributes = u64::from(byte(1)?);
        let block = u64::from(le32(bytes, 2).ok_or_else(short)?);
        let length = u64::from(le32(bytes, 10).ok_or_else(short)?);
        let date = bytes.get(18..25).ok_or_else(short)?;
        let name_length = usize::from(byte(32)?);
        let name_end = FIXED.saturating_add(name_length);
        let name = bytes.get(FIXED..name_end).filter(|name| !name.is_empty());
        let name = name.ok_or_else(short)?;
        // A name of even length is followed by a zero, so that what comes next begins at an even place.
        let padded = name_end.saturating_add(usize::from(name_length.is_multiple_of(2)));
        Ok(Self {
            offset,
            // The data begin behind the extended attribute record.
            block: block.saturating_add(attributes),
            length,
            flags: byte(25)?,
            interleaved: byte(26)? != 0 || byte(27)? != 0,
            modified: seconds(date),
            name,
            system_use: bytes.get(padded..).unwrap_or(&[]),
        })
    }

    pub(super) const fn is_folder(&self) -> bool {
        self.flags & 0x02 != 0
    }

    /// A resource fork or the like, under the name of the file that it belongs to.
    pub(super) const fn is_associated(&self) -> bool {
        self.flags & 0x04 != 0
    }

    /// Another extent of the same file follows.
    pub(super) const fn goes_on(&self) -> bool {
        self.flags & 0x80 != 0
    }

    /// Stored in pieces with gaps, which no writer has done for decades.
    pub(super) const fn is_interleaved(&self) -> bool {
        self.interleaved
    }

    /// The record of the folder itself.
    pub(super) fn is_self(&self) -> bool {
        self.name == [0]
    }

    /// The record of the folder above.
    pub(super) fn is_parent(&self) -> bool {
        self.name == [1]
    }

    pub(super) fn malformed(&self, expected: &'static str, found: String) -> IsoError {
        IsoError::Malformed {
            offset: self.offset,
            expected,
            found,
        }
    }
}

/// Seconds since 1970 of a recorded date: years since 1900, month, day, hour, minute, second, quarters of an hour east of Greenwich.
fn seconds(date: &[u8]) -> i64 {
    let field = |at: usize| i64::from(date.get(at).copied().unwrap_or(0));
    let (year, month, day) = (field(0).saturating_add(1900), field(1), field(2));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return 0;
    }
    let east = i64::from(date.get(6).map_or(0, |zone| zone.cast_signed()));
    // Days of the civil calendar, years counted from March so that the leap day comes last.
    let (year, month) = if month <= 2 {
        (year.saturating_sub(1), month.saturating_add(9))
    } else {
        (year, month.saturating_sub(3))
    };
    let days = year
        .saturating_mul(365)
        .saturating_add(year / 4)
        .saturating_sub(year / 100)
        .saturating_add(year / 400)
        .saturating_add(month.saturating_mul(153).saturating_add(2) / 5)
        .saturating_add(day)
        .saturating_sub(719_469);
    days.saturating_mul(86_400)
        .saturating_add(field(3).saturating_mul(3600))
        .saturating_add(field(4).saturating_mul(60))
        .saturating_add(field(5))
        .saturating_sub(east.saturating_mul(900))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        assert_eq!(seconds(&[70, 1, 1, 0, 0, 0, 0]), 0);
        assert_eq!(seconds(&[124, 2, 29, 12, 30, 15, 8]), 1_709_202_615);
        assert_eq!(seconds(&[124, 2, 29, 12, 30, 15, 248]), 1_709_217_015);
        assert_eq!(seconds(&[99, 12, 31, 23, 59, 59, 0]), 946_684_799);
        assert_eq!(seconds(&[0; 7]), 0);
        assert_eq!(seconds(&[255; 7]), 0);
        assert_eq!(seconds(&[]), 0);
    }

    #[test]
    fn a_record_that_cuts_its_name_off_is_refused() {
        let mut bytes = vec![0_u8; 40];
        bytes[32] = 7;
        assert_eq!(Record::parse(&bytes, 9).unwrap().name.len(), 7);
        bytes[32] = 8;
        let error = Record::parse(&bytes, 9).unwrap_err().to_string();
        assert!(error.starts_with("offset 9: expected a directory record"), "{error}");
        bytes[32] = 0;
        assert!(Record::parse(&bytes, 9).is_err());
        assert!(Record::parse(&bytes[..20], 9).is_err());
    }
}
