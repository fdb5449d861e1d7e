//! What an initrd says of its kernel: the release that its modules are for.
//!
//! Pure. It looks at names in the archive (cpio, form "newc") alone, as far as it must, and never trusts a length further than it reads.

use flate2::read::GzDecoder;
use std::io::{self, Read};

/// Most bytes that are unpacked in search of a module; Debian's netboot initrds have 150 MB.
const MOST: u64 = 512 << 20;
/// Bytes of an entry's head.
const HEAD: usize = 110;
/// Longest name that is read.
const NAME: u64 = 4096;

/// The release of the kernel whose modules the initrd `packed` (by gzip) holds: `6.1.0-50-amd64`. None where it holds none, or cannot be read.
#[must_use]
pub fn kernel_release(packed: &[u8]) -> Option<String> {
    let mut archive = GzDecoder::new(packed).take(MOST);
    loop {
        let mut head = [0; HEAD];
        archive.read_exact(&mut head).ok()?;
        if !head.starts_with(b"070701") && !head.starts_with(b"070702") {
            return None;
        }
        let number = |from: usize| {
            let digits = head.get(from..from.checked_add(8)?)?;
            u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let (size, name_size) = (number(54)?, number(94)?);
        if name_size == 0 || name_size > NAME {
            return None;
        }
        let mut name = Vec::new();
        archive.by_ref().take(name_size).read_to_end(&mut name).ok()?;
        let name = String::from_utf8_lossy(name.strip_suffix(&[0])?).into_owned();
        if name == "TRAILER!!!" {
            return None;
        }
        if let Some(release) = release_in(&name) {
            return Some(release.to_owned());
        }
        // Head and name together, and the content, each end at a multiple of four.
        let head_size = u64::try_from(HEAD).ok()?.checked_add(name_size)?;
        let pass = padding(head_size).checked_add(size)?.checked_add(padding(size))?;
        if io::copy(&mut archive.by_ref().take(pass), &mut io::sink()).ok()? < pass {
            return None;
        }
    }
}

const fn padding(length: u64) -> u64 {
    length.wrapping_neg() & 3
}

/// `lib/modules/RELEASE/...`, also below `usr`.
fn release_in(name: &str) -> Option<&str> {
    let name = name.trim_start_matches("./").trim_start_matches('/');
    let name = name.strip_prefix("usr/").unwrap_or(name);
    let release = name.strip_prefix("lib/modules/")?.split('/').next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_' | '~');
    (release.starts_with(|c: char| c.is_ascii_digit()) && release.len() <= 128 && release.chars().all(plain))
        .then_some(release)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn entry(name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = b"070701".to_vec();
        let fields = [
            0,
            0,
            0,
            0,
            1,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            name.len().saturating_add(1),
            0,
        ];
        for field in fields {
            bytes.extend(format!("{field:08X}").bytes());
        }
        bytes.extend(name.bytes());
        bytes.push(0);
        while !bytes.len().is_multiple_of(4) {
            bytes.push(0);
        }
        bytes.extend(content);
        while !bytes.len().is_multiple_of(4) {
            bytes.push(0);
        }
        bytes
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn the_release_is_that_of_the_modules() {
        for folder in ["lib/modules", "./usr/lib/modules"] {
            let archive = [
                entry("bin/busybox", b"12345"),
                entry("lib/modulesx", b"1"),
                entry(&format!("{folder}/6.1.0-50-amd64/kernel/a.ko"), b"module"),
                entry("TRAILER!!!", b""),
            ];
            let release = kernel_release(&packed(&archive.concat()));
            assert_eq!(release.as_deref(), Some("6.1.0-50-amd64"));
        }
    }

    #[test]
    fn what_holds_no_modules_or_lies_tells_nothing() {
        let mut lying = entry("a", b"123");
        lying[54..62].copy_from_slice(b"FFFFFFFF");
        let mut long = entry("a", b"123");
        long[94..102].copy_from_slice(b"FFFFFFFF");
        for bytes in [
            entry("TRAILER!!!", b""),
            [entry("lib/modules/../x/y", b""), entry("TRAILER!!!", b"")].concat(),
            lying,
            long,
            b"hello".to_vec(),
        ] {
            assert_eq!(kernel_release(&packed(&bytes)), None);
        }
        assert_eq!(kernel_release(b"no gzip"), None);
    }
}
