//! What the command line and the guests' supervisor say to each other: newline-delimited JSON over a local socket, one request a connection.
//!
//! Pure values. A secret never travels here: the supervisor gets command lines from the daemon itself.

use super::flow::Phase;
use super::plan::Host;
use super::spec::{Spec, Uuid};
use crate::model::{Mac, Name, Power};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Name of the socket below the state folder.
pub const SOCKET: &str = "guests.sock";

/// Longest request, in bytes: a spec with many disks and edits fits.
pub const LONGEST: u64 = 256 * 1024;

/// What is asked. `connect` is the hypervisor's URI; where it may be left out, every known hypervisor is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// What a hypervisor has. Answered by [`Reply::Host`].
    Host {
        /// Which.
        connect: String,
        /// Whether KVM runs guests there is tried, once: that may take half a minute.
        #[serde(default)]
        kvm: bool,
    },
    /// Makes a guest. Answered by [`Reply::Step`]s, then [`Reply::Created`] once it runs, or [`Reply::Refused`].
    Create {
        /// The guest.
        spec: Box<Spec>,
        /// It exists, is stopped if it runs, and is installed anew: MAC, uuid and disks stay, what is on them does not.
        #[serde(default)]
        again: bool,
    },
    /// Every guest. Answered by [`Reply::Guest`]s, and a [`Reply::Away`] for each hypervisor that does not answer.
    List {
        /// Of one hypervisor.
        #[serde(default)]
        connect: Option<String>,
    },
    /// One guest. Answered by [`Reply::Guest`].
    Show(Which),
    /// Something of a guest's life cycle. Answered by [`Reply::Did`].
    Act {
        /// Which.
        #[serde(flatten)]
        which: Which,
        /// What.
        act: Act,
    },
    /// Asks a guest to power off, and waits until it is off. Answered by [`Reply::Step`]s and [`Reply::Did`].
    Shutdown {
        /// Which.
        #[serde(flatten)]
        which: Which,
        /// How long it may take, in seconds; with 0 it is asked, and not waited for.
        seconds: u64,
        /// Its power is cut when it takes longer.
        #[serde(default)]
        force: bool,
    },
    /// Takes a guest away. Answered by [`Reply::Step`]s and [`Reply::Did`].
    Delete {
        /// Which.
        #[serde(flatten)]
        which: Which,
        /// The disks that were made for it too; those that were there before are never touched.
        #[serde(default)]
        disks: bool,
    },
    /// Moves a running guest to another hypervisor. Answered by [`Reply::Did`].
    Migrate {
        /// Which.
        #[serde(flatten)]
        which: Which,
        /// The URI of the other.
        to: String,
        /// Copy its disks there, for nothing is shared.
        #[serde(default)]
        copy_storage: bool,
    },
    /// Takes a domain that somebody else made, or whose metadata is not readable, as a guest: it is installed and left as it is. Answered
    /// by [`Reply::Did`].
    Adopt {
        /// Which.
        #[serde(flatten)]
        which: Which,
        /// The system of the inventory that it is.
        #[serde(default)]
        system: Option<Name>,
        /// This server's name, as it stands in specs.
        owner: String,
    },
    /// How an installation goes on, until it has ended. Answered by [`Reply::Step`]s and [`Reply::Serial`] lines, then [`Reply::Ended`].
    Follow(Which),
    /// The serial console's last lines. Answered by [`Reply::Serial`].
    Log {
        /// Which.
        #[serde(flatten)]
        which: Which,
        /// And what comes.
        #[serde(default)]
        follow: bool,
    },
    /// The serial console. Answered by [`Reply::Console`]; from then on the connection carries its bytes both ways.
    Console {
        /// Which.
        #[serde(flatten)]
        which: Which,
        /// Take it from whoever has it.
        #[serde(default)]
        force: bool,
    },
    /// Looks whether a hypervisor runs guests. Answered by [`Reply::Finding`]s.
    Check {
        /// Which.
        connect: String,
    },
    /// The power of the guest that a system is: the one question that the network boot server may ask, where the configuration says so.
    /// Answered by [`Reply::Power`].
    Power {
        /// The system of the inventory.
        system: Name,
        /// What is wished.
        power: Power,
    },
    /// Is anybody there? Answered by [`Reply::Did`].
    Hello,
}

/// Which guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    /// Its name.
    pub guest: Name,
    /// Its hypervisor, where the name alone does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
}

/// What can be done with a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Start it from its disk; one that was saved goes on where it was.
    Start,
    /// Cut its power. An installation that runs is cancelled by it.
    Destroy,
    /// Ask it to reboot.
    Reboot,
    /// Stop its processors.
    Suspend,
    /// Let them run again.
    Resume,
    /// Put its memory on the hypervisor's disk and stop it.
    Save,
    /// Start it from there.
    Restore,
    /// Start it with its host.
    Autostart,
    /// Do not.
    NoAutostart,
}

impl Act {
    /// What was done, for a sentence: `started`.
    #[must_use]
    pub const fn done(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Destroy => "its power was cut",
            Self::Reboot => "asked to reboot",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Save => "saved",
            Self::Restore => "restored",
            Self::Autostart => "starts with its host",
            Self::NoAutostart => "no longer starts with its host",
        }
    }
}

/// What a domain does: libvirt's life cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// Its configuration is known, and it does not run.
    Defined,
    /// It runs.
    Running,
    /// Its processors are stopped.
    Paused,
    /// Its memory lies on the hypervisor's disk.
    Saved,
    /// It is powering off.
    Stopping,
    /// It crashed and was kept.
    Crashed,
}

impl Life {
    /// As `guest list` shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Defined => "defined",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Saved => "saved",
            Self::Stopping => "stopping",
            Self::Crashed => "crashed",
        }
    }
}

/// A guest as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// Its uuid.
    pub uuid: Uuid,
    /// Its hypervisor.
    pub connect: String,
    /// What it does.
    pub life: Life,
    /// How its installation stands; none for a domain that is not ours.
    pub installation: Option<Phase>,
    /// The system of the inventory.
    pub system: Option<Name>,
    /// Its profile.
    pub profile: Option<Name>,
    /// It starts with its host.
    pub autostart: bool,
    /// MiB.
    pub memory: u64,
    /// Processors.
    pub vcpus: u32,
    /// Hardware addresses.
    pub macs: Vec<Mac>,
    /// Its disks.
    pub disks: Vec<DiskState>,
    /// Where the hypervisor keeps the serial console's text.
    pub serial_log: Option<PathBuf>,
    /// As it was made, so that it can be made again; none for a domain that is not ours, and none in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Box<Spec>>,
}

/// A disk of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    /// The guest's name of it: `vda`.
    pub target: String,
    /// Where it is: a path, or `pool/volume`.
    pub source: String,
    /// The volume that a thin disk stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<String>,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// What a hypervisor has.
    Host(Box<Host>),
    /// Something went on.
    Step {
        /// In a sentence.
        text: String,
    },
    /// A line of the serial console.
    Serial {
        /// Escaped.
        line: String,
    },
    /// The guest runs: its installer, or its disk where nothing is installed.
    Created(Box<Guest>),
    /// A guest.
    Guest(Box<Guest>),
    /// A hypervisor does not answer.
    Away {
        /// Which.
        connect: String,
        /// Why, and since when.
        why: String,
    },
    /// It was done.
    Did {
        /// In a sentence.
        text: String,
    },
    /// A guest's power, as it is now.
    Power {
        /// It has power.
        on: bool,
        /// It had not before, or the other way round; true after a reboot.
        changed: bool,
        /// Its name.
        guest: String,
        /// Its hypervisor.
        connect: String,
    },
    /// An installation has ended.
    Ended {
        /// How.
        phase: Phase,
    },
    /// Bytes follow, both ways.
    Console,
    /// Something that was looked at.
    Finding {
        /// True when it is as it should be.
        good: bool,
        /// What was looked at and found.
        text: String,
        /// What to do about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remedy: Option<String>,
    },
    /// It cannot be done: the thing, the expectation and the remedy.
    Refused {
        /// In a sentence.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(value: &T) -> String {
        let text = serde_json::to_string(value).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
        text
    }

    #[test]
    fn every_line_is_read_back_as_it_was_written() {
        let which = Which {
            guest: "web1".parse().unwrap(),
            connect: None,
        };
        for request in [
            Request::Hello,
            Request::Show(which.clone()),
            Request::Follow(which.clone()),
            Request::Act {
                which: which.clone(),
                act: Act::NoAutostart,
            },
            Request::Delete {
                which: Which {
                    connect: Some("qemu:///system".into()),
                    ..which.clone()
                },
                disks: true,
            },
            Request::List { connect: None },
            Request::Power {
                system: "web1".parse().unwrap(),
                power: Power::Reboot,
            },
        ] {
            round(&request);
        }
        for reply in [
            Reply::Console,
            Reply::Step { text: "a\nb".into() },
            Reply::Ended {
                phase: Phase::Failed { reason: "x".into() },
            },
            Reply::Finding {
                good: false,
                text: "kvm".into(),
                remedy: None,
            },
        ] {
            round(&reply);
        }
        assert_eq!(
            round(&Request::Act { which, act: Act::Start }),
            r#"{"ask":"act","guest":"web1","act":"start"}"#
        );
    }
}
