//! ISO 9660 images: read whole, looked up and listed; every extent lies inside, every refusal is one sentence.

use super::input::Input;
use cordwainer::distro::iso9660::{Found, Image, IsoError, What};

const SECTOR: usize = 2048;
/// Sectors of the largest image.
const SECTORS: usize = 256;

/// Pieces of an image: a word of the sector, a word of the length, the bytes; all else is zero, so that a whole image is a small input.
pub fn unpack(bytes: &[u8]) -> Vec<u8> {
    let mut input = Input(bytes);
    let mut image = vec![0; usize::from(input.word()).min(SECTORS) * SECTOR];
    while !input.is_empty() {
        let (at, length) = (usize::from(input.word()) * SECTOR, usize::from(input.word()));
        let piece = input.take(length);
        if let Some(to) = image.get_mut(at..at + piece.len()) {
            to.copy_from_slice(piece);
        }
    }
    image
}

/// The input that [`unpack`] makes `image` of.
pub fn pack(image: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(image.len().div_ceil(SECTOR))
        .unwrap()
        .to_le_bytes()
        .to_vec();
    for (number, sector) in image.chunks(SECTOR).enumerate() {
        let used = sector.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        if used > 0 {
            bytes.extend(u16::try_from(number).unwrap().to_le_bytes());
            bytes.extend(u16::try_from(used).unwrap().to_le_bytes());
            bytes.extend(&sector[..used]);
        }
    }
    bytes
}

pub fn run(bytes: &[u8]) {
    let bytes = unpack(bytes);
    let image = match Image::open(bytes.as_slice()) {
        Ok(image) => image,
        Err(error) => return judge_error(&error),
    };
    if let Err(error) = image.boot_entries() {
        judge_error(&error);
    }
    let within = |run: &cordwainer::distro::iso9660::Extent| {
        assert!(
            run.end() <= bytes.len() as u64 && run.offset <= run.end(),
            "{run:?} lies outside"
        );
    };
    for path in [
        "",
        "a/b/file",
        "debian/debian/dists/stable/Release",
        "DISTS",
        "loop",
        "winding",
        "many",
    ] {
        match image.find(path, &()) {
            Ok(Found::File(extents, _)) => extents.runs().iter().for_each(within),
            Ok(Found::Folder(at)) => within(&at),
            Err(error) => judge_error(&error),
        }
    }
    for folder in ["", "many", "dists/stable"] {
        if let Err(error) = image.list(folder, &()) {
            judge_error(&error);
        }
    }
    let mut served = 0_u64;
    let walked = image.walk(&mut |path, node| {
        assert!(
            !path.split('/').any(|part| matches!(part, "" | "." | "..")),
            "{path:?} is no path below"
        );
        assert!(!path.contains('\0'));
        if let What::File(extents) = &node.what {
            extents.runs().iter().for_each(within);
            let length: u64 = extents.runs().iter().map(|run| run.length).sum();
            assert_eq!(length, extents.size());
            served += extents.size();
        }
    });
    match walked {
        Ok(contents) => assert_eq!(contents.bytes, served),
        Err(error) => judge_error(&error),
    }
}

fn judge_error(error: &IsoError) {
    let said = error.to_string();
    // A path that was asked for may stand in it; a symlink's target is at most 4096 bytes.
    assert!(!said.is_empty() && said.len() < 20_000, "{} bytes of error", said.len());
    assert!(!said.chars().any(|c| c.is_control()), "control characters in {said:?}");
}
