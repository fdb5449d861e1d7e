//! El Torito: what firmware boots from the image (El Torito 1.0 section 2; UEFI 2.10 section 13.3.2.1 for EFI).

use super::image::Image;
use super::{Bytes, Extent, IsoError, le16, le32};

/// Bytes of an entry.
const ENTRY: usize = 32;
/// Bytes of a catalog that are read: one sector, 64 entries.
const CATALOG: u64 = 2048;
/// What El Torito counts load sizes in.
const VIRTUAL_SECTOR: u64 = 512;

/// Who boots an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// PC firmware of old.
    Bios,
    /// UEFI; the image is a FAT file system.
    Efi,
    /// Another, by its number.
    Other(u8),
}

/// One bootable image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootEntry {
    /// Who boots it.
    pub platform: Platform,
    /// False when it is listed and not meant to boot.
    pub bootable: bool,
    /// True when it is loaded as it is, without posing as a floppy or a disk.
    pub no_emulation: bool,
    /// What is loaded at first. For EFI this is often shorter than the image, whose length its file system tells.
    pub load: Extent,
}

pub(super) fn read<S: Bytes>(image: &Image<S>, offset: u64) -> Result<Vec<BootEntry>, IsoError> {
    let catalog = image.bytes_at(offset, CATALOG, "the boot catalog inside the image")?;
    let mut entries = catalog.chunks_exact(ENTRY);
    let validation = entries.next().unwrap_or(&[]);
    let sum = validation
        .chunks_exact(2)
        .filter_map(|pair| le16(pair, 0))
        .fold(0_u16, u16::wrapping_add);
    if validation.first() != Some(&1) || validation.get(30..) != Some(&[0x55, 0xAA]) || sum != 0 {
        return Err(IsoError::Malformed {
            offset,
            expected: "a boot catalog that opens with a valid entry (01, 55 AA, sum 0)",
            found: format!("{:02x?}, sum {sum:04x}", validation.get(..4).unwrap_or(&[])),
        });
    }
    let mut platform = platform(validation.get(1));
    let mut found = Vec::new();
    let mut left = 1_u16;
    let mut last = false;
    for entry in entries {
        let Some(kind) = entry.first() else { break };
        match kind {
            // The extension of a section's entry.
            0x44 => {}
            0x00 | 0x88 if left > 0 => {
                left = left.saturating_sub(1);
                let bootable = *kind == 0x88;
                let block = le32(entry, 8).map_or(0, u64::from);
                let sectors = le16(entry, 6).map_or(0, u64::from);
                if block == 0 {
                    continue;
                }
                let load = Extent {
                    offset: block.saturating_mul(super::SECTOR),
                    length: sectors.saturating_mul(VIRTUAL_SECTOR),
                };
                found.push(BootEntry {
                    platform,
                    bootable,
                    no_emulation: entry.get(1).is_some_and(|media| media & 0x0F == 0),
                    load: image.inside(load, offset, "a boot image inside the image")?,
                });
            }
            0x90 | 0x91 if left == 0 && !last => {
                last = *kind == 0x91;
                platform = self::platform(entry.get(1));
                left = le16(entry, 2).unwrap_or(0);
            }
            _ => break,
        }
    }
    Ok(found)
}

fn platform(id: Option<&u8>) -> Platform {
    match id.copied().unwrap_or(0) {
        0x00 => Platform::Bios,
        0xEF => Platform::Efi,
        other => Platform::Other(other),
    }
}
