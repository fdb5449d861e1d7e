//! A hardware address of six bytes. Never built from fewer or more.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// An Ethernet hardware address, `chaddr` of DHCP when `htype` is 1.
///
/// Prints as `52:54:00:7c:1d:4f`; parses colons, dashes, Cisco dots, bare hex, and the `01-` prefix that PXELINUX puts in front.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

/// The text was not a hardware address.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a MAC address; write six hex bytes like 52:54:00:7c:1d:4f")]
pub struct BadMac(pub String);

impl Mac {
    /// Takes the bytes as they are on the wire.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The bytes as they go on the wire.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// `52-54-00-7c-1d-4f`, as paths and iPXE's `${net0/mac:hexhyp}` write it.
    #[must_use]
    pub fn dashed(self) -> String {
        self.join('-')
    }

    /// True for group addresses and all zeroes, which no machine can own.
    #[must_use]
    pub fn is_unusable(self) -> bool {
        self.0 == [0; 6] || self.0[0] & 1 == 1
    }

    /// By hand, because every event of every packet is told with one, and the machinery of formatting costs twenty times as much.
    fn join(self, separator: char) -> String {
        let mut text = String::with_capacity(17);
        for byte in self.0 {
            if !text.is_empty() {
                text.push(separator);
            }
            let digits = [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
            text.extend(digits.into_iter().flatten());
        }
        text
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.join(':'))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.chars().take(64).collect());
        let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
        // PXELINUX and BOOTIF= prepend the hardware type: 01-52-54-...
        let digits = match digits.len() {
            14 => digits.strip_prefix("01").ok_or_else(bad)?,
            12 => digits.as_str(),
            _ => return Err(bad()),
        };
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let value = u64::from_str_radix(digits, 16).map_err(|_| bad())?;
        let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
        Ok(Self([a, b, c, d, e, f]))
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_one_address() {
        let mac: Mac = "52:54:00:7c:1d:4f".parse().unwrap();
        for text in [
            "52-54-00-7C-1D-4F",
            "5254.007c.1d4f",
            "5254007c1d4f",
            "01-52-54-00-7c-1d-4f",
        ] {
            assert_eq!(text.parse::<Mac>().unwrap(), mac, "{text}");
        }
        assert_eq!(mac.to_string(), "52:54:00:7c:1d:4f");
        assert_eq!(mac.dashed(), "52-54-00-7c-1d-4f");
    }

    #[test]
    fn wrong_addresses_are_named() {
        for text in [
            "",
            "52:54",
            "zz:54:00:7c:1d:4f",
            "02-52-54-00-7c-1d-4f",
            "52:54:00:7c:1d:4f:aa",
            "+12345678901",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
