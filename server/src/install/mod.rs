//! One installation as a state machine (DESIGN 6): default deny, one arming, one token, never wiped twice unasked.
//!
//! Pure. Inputs are values with their time; the same input twice changes nothing the second time.

mod step;
mod token;

pub use step::{Act, Input, RETRIES, is_new_attempt, may_launch, step};
pub use token::{ServerKey, Token, TokenKind};

pub use crate::model::{Arm, ArmId, State};
use crate::model::{Firmware, Mac, Name, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// A step that every installer goes through, in this order; its own words are kept beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The kernel was fetched.
    Kernel,
    /// The initrd was fetched.
    Initrd,
    /// The answer file was fetched.
    Answers,
    /// The installer runs.
    Started,
    /// The disk is being changed: from here on nothing is wiped again unasked.
    Partitioning,
    /// Packages are being installed.
    Packages,
    /// The boot loader is being written.
    Bootloader,
    /// Last commands.
    Finishing,
    /// The installer is done.
    Done,
    /// The installed system came up and said so.
    Booted,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Self; 10] = [
        Self::Kernel,
        Self::Initrd,
        Self::Answers,
        Self::Started,
        Self::Partitioning,
        Self::Packages,
        Self::Bootloader,
        Self::Finishing,
        Self::Done,
        Self::Booted,
    ];

    /// The word that installers report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Answers => "answers",
            Self::Started => "started",
            Self::Partitioning => "partitioning",
            Self::Packages => "packages",
            Self::Bootloader => "bootloader",
            Self::Finishing => "finishing",
            Self::Done => "done",
            Self::Booted => "booted",
        }
    }

    /// The stage that a reported word means; `None` for a word of the template's own, which is shown and changes nothing.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }

    /// What usually comes after this one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage > self)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known of one arming's installation. Lives in live.db, written by the daemon only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// The arming.
    pub arm: ArmId,
    /// The machine.
    pub system: Name,
    /// Where it stands.
    pub state: State,
    /// The interface that claimed it.
    pub mac: Option<Mac>,
    /// The address that the install token is bound to.
    pub bound: Option<Ipv4Addr>,
    /// True when that is its hypervisor's address: a guest behind address translation, of which the supervisor told that it asks from
    /// there. It has no lease and no neighbour entry that could be looked at.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub behind: bool,
    /// The furthest stage seen in this attempt.
    pub stage: Option<Stage>,
    /// True from the first sign of partitioning, in any attempt.
    pub partitioned: bool,
    /// How often the installer was handed out.
    pub attempts: u32,
    /// When the first script was handed out.
    pub claimed_at: Timestamp,
    /// When something was last heard.
    pub heard_at: Timestamp,
    /// Why it failed or is held, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was last seen of a machine's boot, for identification and for proxy answers. In memory only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The machine.
    pub mac: Mac,
    /// Its firmware as it said.
    pub firmware: Option<Firmware>,
    /// True when it fetched one of our loaders since it was first seen.
    pub loader: bool,
    /// When it last asked by DHCP: a machine that does so after its boot script has started over.
    pub asked: Timestamp,
    /// When it was last seen.
    pub at: Timestamp,
}

impl Sighting {
    /// After this time an address may be another machine's: nobody is recognised by an older sighting.
    pub const LATELY: Duration = Duration::from_secs(60);

    /// True while whoever uses the address is taken for this machine.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.at) <= Self::LATELY
    }
}

/// The read view of live state that the state task publishes: one consistent snapshot, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Installs {
    /// The latest installation of each machine.
    pub by_system: imbl::OrdMap<Name, Arc<Installation>>,
    /// Which machine an arming belongs to, for those in `by_system`.
    by_arm: imbl::OrdMap<ArmId, Name>,
    /// Which machine an active lease of ours gives an address to.
    pub holders: imbl::OrdMap<Ipv4Addr, Mac>,
    /// Which machine's PXE exchange used an address; ask [`Sighting::is_fresh`] before you take it for that machine.
    pub sightings: imbl::OrdMap<Ipv4Addr, Sighting>,
}

impl Installs {
    /// Takes in the latest installation of its machine; the one before is forgotten.
    pub fn put(&mut self, installation: Installation) {
        if let Some(old) = self.by_system.get(&installation.system) {
            self.by_arm.remove(&old.arm);
        }
        self.by_arm
            .insert(installation.arm.clone(), installation.system.clone());
        self.by_system
            .insert(installation.system.clone(), Arc::new(installation));
    }

    /// Notes a machine's boot exchange from `address`. What it said of itself before is kept until it says otherwise.
    pub fn saw(&mut self, address: Ipv4Addr, seen: Sighting) {
        let known = self.sightings.get(&address).filter(|known| known.mac == seen.mac);
        let seen = Sighting {
            firmware: seen.firmware.or_else(|| known.and_then(|known| known.firmware)),
            loader: seen.loader || known.is_some_and(|known| known.loader),
            asked: known.filter(|_| seen.loader).map_or(seen.asked, |known| known.asked),
            ..seen
        };
        self.sightings.insert(address, seen);
    }

    /// The installation of an arming, if it is its machine's latest.
    #[must_use]
    pub fn of_arm(&self, arm: &ArmId) -> Option<&Arc<Installation>> {
        self.by_arm.get(arm).and_then(|system| self.by_system.get(system))
    }
}

/// Where a machine stands, judged from its arming and what is known of the installation.
#[must_use]
pub fn state(arm: Option<&Arm>, installation: Option<&Installation>, now: Timestamp) -> State {
    match (arm, installation) {
        (Some(arm), Some(installation)) if installation.arm == arm.id => installation.state,
        (Some(arm), _) if arm.is_in_force(now) => State::Armed,
        // A lapsed or withdrawn arming leaves what the last installation came to; one that never ended is over.
        (_, Some(installation)) if !installation.state.is_open() => installation.state,
        (None, Some(_)) => State::Failed,
        _ => State::Idle,
    }
}
