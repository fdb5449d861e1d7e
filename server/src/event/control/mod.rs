//! The control socket: how the command line asks the running daemon. Newline-delimited JSON, one request a connection.
//!
//! [`Control`] is the daemon's side, [`Client`] the command line's and the guests' supervisor's. It tells; all that can be changed through
//! it is the installation of a guest that an admin has armed, which is claimed when its installer is about to start.

mod client;
mod guest;
mod server;

pub use client::{Answers, Client, ClientError};
pub use guest::{Launching, MediaFile, News, Standing};
pub use server::Control;

use super::Event;
use super::timeline::Machine;
use crate::model::{ArmId, Mac, Name};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Name of the socket below the state folder.
pub const SOCKET: &str = "cordwainer.sock";

/// Longest request, in bytes.
const LONGEST: u64 = 32 * 1024;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Request {
    /// The latest boot of a machine.
    Trace {
        /// A system, or a MAC address.
        trace: String,
        /// Go on with what comes.
        #[serde(default)]
        follow: bool,
    },
    /// How the machines that are under way are seen to stand.
    Status {
        /// No choice yet.
        status: Empty,
    },
    /// A sync was asked for: the hooks that wait for one are run. Answered at once.
    Synced {
        /// No choice yet.
        synced: Empty,
    },
    /// Is this version of the inventory served?
    Live {
        /// The version.
        live: u64,
        /// How long to wait for it, in milliseconds; at most 30,000.
        #[serde(default)]
        wait: u64,
    },
    /// The installer of an armed guest is about to start by direct kernel boot: claims the arming.
    Launch {
        /// Its system.
        launch: Name,
        /// The card that it has.
        mac: Mac,
        /// This server's address as the guest reaches it.
        server: Ipv4Addr,
        /// The address of its hypervisor, where the guest asks from that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        behind: Option<Ipv4Addr>,
    },
    /// The bytes of a kernel or an initrd.
    Media {
        /// Which.
        media: MediaFile,
    },
    /// How the installation of an arming stands.
    Standing {
        /// The system.
        standing: Name,
        /// The arming.
        arm: ArmId,
        /// Answer only once it stands otherwise than this, or after [`Request::Standing::wait`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unlike: Option<Standing>,
        /// How long to wait, in milliseconds; at most 30,000.
        #[serde(default)]
        wait: u64,
    },
    /// What happened to a guest.
    Tell {
        /// Its system.
        tell: Name,
        /// What.
        news: Vec<News>,
    },
}

/// `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Trace: whom it is about. The first line.
    Machine(Box<Machine>),
    /// Trace: one event.
    Event(Box<Event>),
    /// Trace: what follows happens now.
    Past,
    /// Trace: so many events were lost on the way, because the reader was slow.
    Dropped(u64),
    /// Status: one machine.
    Seen(Seen),
    /// Live: whether it is served.
    Live(bool),
    /// Launch: what starts the installer.
    Launching(Box<Launching>),
    /// Media: so many raw bytes follow this line.
    Bytes(u64),
    /// Standing: how it stands.
    Standing(Standing),
    /// Tell, synced: taken.
    Taken,
    /// The request cannot be answered: what, and the remedy.
    Error(String),
}

/// How a machine is seen to stand, by its latest boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its record.
    pub system: Name,
    /// `no REQUEST for our offer`, or what comes next.
    pub step: String,
    /// True when it does not go on by itself.
    pub stopped: bool,
    /// Boots in memory.
    pub boots: u32,
}
