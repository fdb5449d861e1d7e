//! Volume descriptors: what the image calls itself, and where its roots are (ECMA-119 section 8, El Torito section 2).

use super::record::Record;
use super::{Budget, Bytes, Extent, IsoError, SECTOR, le16, le32};
use std::io;

/// Where descriptors begin: the first 16 sectors are the system's.
const FIRST: u64 = 16;
/// Descriptors that are looked at; five is already unusual.
const MOST: u64 = 64;

/// What the image calls itself, as trimmed text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    /// Label: `Rocky-9-4-x86_64-dvd`.
    pub id: String,
    /// The system that may use the first sectors: `LINUX`.
    pub system: String,
    /// Who published it.
    pub publisher: String,
    /// What made it, or what it is for.
    pub application: String,
    /// Bytes that the image says it has.
    pub declared: u64,
    /// A UDF file system is there too, which may hold more than this one (Windows).
    pub udf: bool,
}

/// What the descriptors say.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) volume: Volume,
    pub(super) block: u64,
    pub(super) root: Extent,
    pub(super) joliet: Option<Extent>,
    /// Offset of El Torito's catalog.
    pub(super) catalog: Option<u64>,
}

pub(super) fn read<S: Bytes>(source: &S) -> Result<Descriptors, IsoError> {
    let mut budget = Budget::new(SECTOR.saturating_mul(MOST));
    let mut primary: Option<Descriptors> = None;
    let mut joliet = None;
    let mut catalog = None;
    let mut udf = false;
    let mut ended = false;
    for number in FIRST..FIRST.saturating_add(MOST) {
        let offset = number.saturating_mul(SECTOR);
        budget.spend(offset, SECTOR)?;
        let mut sector = [0_u8; 2048];
        if fill(source, offset, &mut sector)? < sector.len() {
            break;
        }
        let Some((kind, rest)) = sector.split_first() else {
            break;
        };
        let standard = rest.get(..5).unwrap_or(&[]);
        match (standard, kind) {
            // ECMA-167: UDF's descriptors follow those of ISO 9660.
            (b"NSR02" | b"NSR03", _) => udf = true,
            (b"BEA01" | b"TEA01" | b"BOOT2", _) => {}
            (b"CD001", _) if ended => {}
            (b"CD001", 255) => ended = true,
            (b"CD001", 1) if primary.is_none() => primary = Some(describe(&sector, offset)?),
            (b"CD001", 2) if joliet.is_none() && is_joliet(&sector) => joliet = Some(describe(&sector, offset)?.root),
            (b"CD001", 0) if catalog.is_none() && rest.get(6..29) == Some(b"EL TORITO SPECIFICATION") => {
                catalog = le32(&sector, 71).map(|block| u64::from(block).saturating_mul(SECTOR));
            }
            (b"CD001", _) => {}
            _ => break,
        }
    }
    let Some(mut found) = primary else {
        return Err(IsoError::NotIso {
            udf,
            found: if udf {
                "UDF alone".to_owned()
            } else if source.size() < SECTOR.saturating_mul(FIRST.saturating_add(1)) {
                format!("a file of {} bytes", source.size())
            } else {
                "something else".to_owned()
            },
        });
    };
    found.volume.udf = udf;
    Ok(Descriptors {
        joliet,
        catalog,
        ..found
    })
}

/// Reads until `buffer` is full or the source ends.
pub(super) fn fill<S: Bytes>(source: &S, offset: u64, buffer: &mut [u8]) -> Result<usize, IsoError> {
    let wanted = super::length(buffer);
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        match source.read_at(at, rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(IsoError::Read {
                    offset: at,
                    wanted,
                    error,
                });
            }
        }
    }
    Ok(filled)
}

/// UCS-2 by its escape sequences, and no enhanced descriptor of ISO 9660:1999 (version 2).
fn is_joliet(sector: &[u8]) -> bool {
    sector.get(6) == Some(&1)
        && sector
            .get(88..91)
            .is_some_and(|escape| matches!(escape, b"%/@" | b"%/C" | b"%/E"))
}

fn describe(sector: &[u8], offset: u64) -> Result<Descriptors, IsoError> {
    let block = le16(sector, 128).map_or(0, u64::from);
    if !matches!(block, 512 | 1024 | 2048) {
        return Err(IsoError::Malformed {
            offset: offset.saturating_add(128),
            expected: "blocks of 512, 1024 or 2048 bytes",
            found: block.to_string(),
        });
    }
    let at = offset.saturating_add(156);
    let root = Record::parse(sector.get(156..190).unwrap_or(&[]), at)?;
    if !root.is_folder() {
        return Err(root.malformed("the record of the root folder", "a file's".to_owned()));
    }
    let blocks = le32(sector, 80).map_or(0, u64::from);
    Ok(Descriptors {
        volume: Volume {
            id: text(sector, 40, 72),
            system: text(sector, 8, 40),
            publisher: text(sector, 318, 446),
            application: text(sector, 574, 702),
            declared: blocks.saturating_mul(block),
            udf: false,
        },
        block,
        root: Extent {
            offset: root.block.saturating_mul(block),
            length: root.length,
        },
        joliet: None,
        catalog: None,
    })
}

/// A field as text: filled up with spaces, and whoever wrote it may have put anything there.
fn text(sector: &[u8], from: usize, to: usize) -> String {
    let field = sector.get(from..to).unwrap_or(&[]);
    let field = field.split(|byte| *byte == 0).next().unwrap_or(&[]);
    let clean = |c: char| if c.is_control() { '?' } else { c };
    String::from_utf8_lossy(field).trim().chars().map(clean).collect()
}
