//! An arming: an admin's wish that a machine be installed. Only an admin makes one (DESIGN 6).

use super::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

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

/// How far the clocks of the admin's command and of the daemon may lie apart: the daemon's follows no step of the wall clock.
const SKEW: Duration = Duration::from_secs(300);

impl Arm {
    /// True while a machine may be installed by it: not lapsed, and not from the future. A clock that went back (a dead battery, a
    /// restored image) would otherwise bring a lapsed arming back to life, and wipe a machine that nobody armed.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        now < self.until && self.at <= now.plus(SKEW)
    }

    /// Why it is not in force at `now`, in a sentence.
    #[must_use]
    pub fn why_not(&self, now: Timestamp) -> String {
        if now >= self.until {
            return format!("the arming of {} ran out at {}", self.system, self.until);
        }
        format!(
            "the arming of {} is of {}, which is still to come by the server's clock ({now}); set the clock, restart cordwainer, and arm again",
            self.system, self.at
        )
    }
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

/// Where an installation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody armed the machine: it boots from disk.
    Idle,
    /// Armed; the machine has not come yet.
    Armed,
    /// The installer's boot script was handed out to this machine.
    Claimed,
    /// The installer fetched its answer file.
    Installing,
    /// Done was reported.
    Installed,
    /// The installer reported a failure, or fell silent.
    Failed,
    /// It booted again after partitioning without done: local boot until an admin decides.
    Held,
    /// It fetched its image, which spent the arming: local boot from then on. Nothing is known to be installed.
    Booted,
}

impl State {
    /// The word as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Armed => "armed",
            Self::Claimed => "claimed",
            Self::Installing => "installing",
            Self::Installed => "installed",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Booted => "booted",
        }
    }

    /// True while the machine may still get the installer.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Armed | Self::Claimed | Self::Installing)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
