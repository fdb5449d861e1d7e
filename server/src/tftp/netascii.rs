//! The netascii transfer mode (RFC 764 by way of RFC 1350): line ends and lone carriage returns as the NVT writes them.
//!
//! Pure. Every byte is translated by itself, so that pieces of a file may be translated one by one.

use bytes::Bytes;

/// `piece` as it goes on the wire: LF becomes CR LF, CR becomes CR NUL. At most twice as long.
#[must_use]
pub fn encode(piece: &[u8]) -> Bytes {
    let special = piece.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let mut out = Vec::with_capacity(piece.len().saturating_add(special));
    for byte in piece {
        match byte {
            b'\n' => out.extend_from_slice(b"\r\n"),
            b'\r' => out.extend_from_slice(b"\r\0"),
            other => out.push(*other),
        }
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_carriage_returns_are_told_apart() {
        assert_eq!(encode(b"a\nb\r\nc\r").as_ref(), b"a\r\nb\r\0\r\nc\r\0");
        assert_eq!(encode(b"").as_ref(), b"");
    }
}
