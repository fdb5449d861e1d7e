//! The control socket: how the command line asks the running daemon. Newline-delimited JSON, one request a connection.
//!
//! [`Control`] is the daemon's side, [`Client`] the command line's. It only tells; nothing can be changed through it.

mod client;
mod server;

pub use client::{Answers, Client, ClientError};
pub use server::Control;

use super::Event;
use super::timeline::Machine;
use crate::model::Name;
use serde::{Deserialize, Serialize};

/// Name of the socket below the state folder.
pub const SOCKET: &str = "cordwainer.sock";

/// Longest request, in bytes.
const LONGEST: u64 = 4096;

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
    /// Is this version of the inventory served?
    Live {
        /// The version.
        live: u64,
        /// How long to wait for it, in milliseconds; at most 30,000.
        #[serde(default)]
        wait: u64,
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
