//! An arming: an admin's wish that a machine be installed. Only an admin makes one (DESIGN 6).

use super::{Name, Timestamp};
use serde::{Deserialize, Serialize};

/// Names one arming for ever; both tokens derive from it. Lower-case letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ArmId(pub String);

impl ArmId {
    /// An id from 64 random bits: 13 letters and digits.
    #[must_use]
    pub fn random(bits: u64) -> Self {
        Self(base32(&bits.to_be_bytes()))
    }
}

/// An admin's wish that a machine be installed. Lives in inventory.db; only an admin makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// Names this arming.
    pub id: ArmId,
    /// The machine.
    pub system: Name,
    /// When it was armed.
    pub at: Timestamp,
    /// When the arming lapses if the machine has not come.
    pub until: Timestamp,
    /// Who armed it.
    pub by: String,
}

/// RFC 4648 base32 in lower case without padding.
#[must_use]
pub fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let mut block = [0_u8; 8];
        for (to, from) in block.iter_mut().skip(3).zip(chunk) {
            *to = *from;
        }
        let bits = u64::from_be_bytes(block);
        for shift in [35_u32, 30, 25, 20, 15, 10, 5, 0] {
            let index = usize::try_from((bits >> shift) & 31).unwrap_or(0);
            text.push(LETTERS.get(index).copied().map_or('a', char::from));
        }
    }
    text
}
