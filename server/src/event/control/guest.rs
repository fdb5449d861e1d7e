//! What the supervisor of guests asks the daemon, and tells it. Typed values of the control socket; nothing here touches the world.
//!
//! The daemon never speaks with libvirt, and the supervisor never holds the server's key: the one gives a command line and bytes, the
//! other tells what became of the guest.

use crate::model::{ArmId, Name};
use serde::{Deserialize, Serialize};

/// What starts the installer of an armed guest by direct kernel boot. The command line holds the arming's token: it goes to libvirt and
/// nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launching {
    /// The arming that was claimed.
    pub arm: ArmId,
    /// The whole kernel command line.
    pub command_line: String,
    /// The kernel.
    pub kernel: MediaFile,
    /// The initrds in loading order.
    pub initrd: Vec<MediaFile>,
}

/// The command line would show the token.
impl std::fmt::Debug for Launching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launching")
            .field("arm", &self.arm)
            .field("kernel", &self.kernel)
            .field("initrd", &self.initrd)
            .finish_non_exhaustive()
    }
}

/// A kernel or an initrd of a distro.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaFile {
    /// The distro.
    pub distro: Name,
    /// Its path as the record has it.
    pub path: String,
}

/// How the installation of one arming stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is under way, or was not begun.
    Open {
        /// The disk is being changed, or was.
        partitioned: bool,
    },
    /// Done was reported.
    Done {
        /// The installed system came up and said so.
        booted: bool,
    },
    /// The installer failed, was silent for too long, or the machine is held.
    Failed(String),
    /// There is no such installation any more: disarmed, removed, or armed anew.
    Gone(String),
}

/// What happened to a guest, for its timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// A step of its flow.
    Step {
        /// Where it runs: the hypervisor's URI.
        host: String,
        /// In a sentence.
        step: String,
        /// True when somebody must look.
        #[serde(default)]
        bad: bool,
    },
    /// A line of its serial console, escaped.
    Serial(String),
}
