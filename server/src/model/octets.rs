//! An identifier of a few bytes, as a client (option 61) or a relay (option 82) sends it. Written as text, or in hex after `0x`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// One to 255 bytes.
///
/// A slice, for three places for one in each interface of 100,000 machines count.
/// Prints as text where that reads back to the same bytes, else as `0x0108ab`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Octets(Box<[u8]>);

/// The text was no identifier.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum BadOctets {
    /// Nothing, or more than an option holds.
    #[error("{0} bytes are no identifier; it has 1 to 255 of them")]
    Length(usize),
    /// `0x` and then no hex.
    #[error("`{0}` is not hex; write two digits for each byte after 0x, like 0x01525400123456")]
    Hex(String),
}

impl Octets {
    /// Takes the bytes as they are on the wire; none for what no option can hold.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=255).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// The bytes as they are on the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text that reads back to these bytes, when they are text: printable, no blank at an end, and no `0x` in front.
    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()))
            .filter(|text| text.trim() == *text && !starts_like_hex(text))
    }
}

fn starts_like_hex(text: &str) -> bool {
    text.starts_with("0x") || text.starts_with("0X")
}

impl FromStr for Octets {
    type Err = BadOctets;

    /// Colons between the bytes of the hex form are allowed.
    fn from_str(text: &str) -> Result<Self, BadOctets> {
        let bytes = if let Some((_, digits)) = text.split_at_checked(2).filter(|_| starts_like_hex(text)) {
            let bad = || BadOctets::Hex(text.chars().take(64).flat_map(char::escape_debug).collect());
            let digits: Vec<u32> = digits
                .chars()
                .filter(|digit| *digit != ':')
                .map(|digit| digit.to_digit(16).ok_or_else(bad))
                .collect::<Result<_, _>>()?;
            let (pairs, rest) = digits.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(bad());
            }
            let byte = |[high, low]: &[u32; 2]| u8::try_from((high << 4) | low).map_err(|_| bad());
            pairs.iter().map(byte).collect::<Result<Vec<u8>, _>>()?
        } else {
            text.as_bytes().to_vec()
        };
        Self::new(&bytes).ok_or(BadOctets::Length(bytes.len()))
    }
}

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.text() {
            return f.write_str(text);
        }
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What a relay says of where a machine is connected (RFC 3046): its own port, itself, or both. At least one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayPort {
    /// Sub-option 1: the port of the relay or switch.
    pub circuit: Option<Octets>,
    /// Sub-option 2: the relay or switch, or what is behind the port.
    pub remote: Option<Octets>,
}

/// `circuit-id ge-0/0/7 of remote-id sw1`.
impl fmt::Display for RelayPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.circuit, &self.remote) {
            (Some(circuit), Some(remote)) => write!(f, "circuit-id {circuit} of remote-id {remote}"),
            (Some(circuit), None) => write!(f, "circuit-id {circuit}"),
            (None, Some(remote)) => write!(f, "remote-id {remote}"),
            (None, None) => f.write_str("no port"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bytes_read_back_from_what_is_printed() {
        for bytes in [
            &b"ge-0/0/7"[..],
            b"a b",
            b" a",
            b"0x12",
            b"0X",
            &[1, 0x52, 0x54, 0, 0x12, 0x34, 0x56],
            &[0xff; 255],
            "é".as_bytes(),
        ] {
            let octets = Octets::new(bytes).unwrap();
            let printed = octets.to_string();
            assert_eq!(printed.parse::<Octets>().unwrap(), octets, "{printed}");
            assert!(printed.is_ascii());
        }
        assert_eq!(Octets::new(b"ge-0/0/7").unwrap().to_string(), "ge-0/0/7");
        let colons: Octets = "0x01:52:54:00:12:34:56".parse().unwrap();
        assert_eq!(colons.to_string(), "0x01525400123456");
    }

    #[test]
    fn what_is_no_identifier_is_named() {
        assert_eq!("".parse::<Octets>(), Err(BadOctets::Length(0)));
        assert_eq!("0x".parse::<Octets>(), Err(BadOctets::Length(0)));
        assert!(matches!("0x123".parse::<Octets>(), Err(BadOctets::Hex(_))));
        assert!(matches!("0xzz".parse::<Octets>(), Err(BadOctets::Hex(_))));
        assert_eq!("x".repeat(256).parse::<Octets>(), Err(BadOctets::Length(256)));
    }
}
