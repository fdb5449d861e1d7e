//! `cordwainer guest supervise`: the only process that speaks with libvirt, and how the command line asks it.
//!
//! One thread for each hypervisor owns its guests' flows; a dead one holds up nobody else. What must last is in the domains' metadata,
//! so a supervisor that is killed at any moment finds everything again. It listens on a local socket only, never on the network.
#![allow(
    clippy::disallowed_methods,
    reason = "IO: a unix socket, a thread for each hypervisor and each question"
)]

mod client;
#[cfg(feature = "libvirt")]
mod host;
#[cfg(feature = "libvirt")]
mod hub;
#[cfg(feature = "libvirt")]
mod launch;
#[cfg(feature = "libvirt")]
mod listen;
#[cfg(feature = "libvirt")]
mod look;
#[cfg(feature = "libvirt")]
mod power;
#[cfg(feature = "libvirt")]
mod talk;

pub use client::{Client, ClientError, Replies};

use crate::model::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;

/// Gives the time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a supervisor works with.
#[derive(Clone)]
pub struct Options {
    /// The state folder: the daemon's socket is there, and ours.
    pub state: PathBuf,
    /// Gives the time.
    pub now: Now,
    /// Hypervisors that are watched from the start, beside those where a guest was made before.
    pub hosts: Vec<String>,
    /// Questions are taken from root alone. What may ask here is as good as root on the hypervisor, and the account that this runs as may
    /// also be the network boot server's.
    pub root_only: bool,
    /// The account that this runs as may ask for the power of guests all the same, and for nothing else.
    pub power: bool,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("state", &self.state)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// The supervisor cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// Built without libvirt.
    #[error(
        "this cordwainer was built without libvirt; build it with the feature `libvirt` (it needs libvirt-dev and pkg-config)"
    )]
    NoLibvirt,
    /// Another one runs.
    #[error("another supervisor of guests answers at {path}", path = .0.display())]
    Running(PathBuf),
    /// The socket.
    #[error("cannot listen on {path}: {source}", path = .path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// A thread or a signal handler.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
}

#[cfg(feature = "libvirt")]
pub use listen::{Supervisor, run, start};

/// A supervisor in this process.
#[cfg(not(feature = "libvirt"))]
#[derive(Debug)]
pub struct Supervisor;

/// Supervises until SIGTERM or SIGINT.
///
/// # Errors
/// [`SuperviseError::NoLibvirt`].
#[cfg(not(feature = "libvirt"))]
pub fn run(_options: Options) -> Result<(), SuperviseError> {
    Err(SuperviseError::NoLibvirt)
}

/// Supervises in this process.
///
/// # Errors
/// [`SuperviseError::NoLibvirt`].
#[cfg(not(feature = "libvirt"))]
pub fn start(_options: Options) -> Result<Supervisor, SuperviseError> {
    Err(SuperviseError::NoLibvirt)
}
