//! What happened, with a stable code and a sentence for people. One catalogue feeds the log, `boot trace`, the page and the man page.
//!
//! Pure, but for [`sink`], which takes events and keeps them, [`metrics`], which counts them, [`log`], which
//! prints lines, and [`control`], by which the command line asks.

mod catalogue;
pub mod control;
pub mod log;
pub mod metrics;
pub mod ring;
pub mod sink;
pub mod timeline;

pub use catalogue::{CATALOGUE, CodeDoc, Level};

use crate::model::{Mac, Name, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// The machine, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Name>,
    /// Where it came from or went to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Text from the wire is escaped and cut before it gets here; tokens never get here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum What {
    /// A DHCP packet came in.
    DhcpReceived {
        /// `DISCOVER`, `REQUEST`, ...
        message: String,
        /// `BIOS`, `UEFI x64`, ... when told.
        firmware: Option<String>,
        /// `PXEClient`, `iPXE`, `d-i`, ... what kind of client it says it is.
        client: Option<String>,
    },
    /// A DHCP answer left.
    DhcpAnswered {
        /// `OFFER`, `ACK`, `NAK`.
        message: String,
        /// The address given, when one is.
        address: Option<std::net::Ipv4Addr>,
        /// The boot file, when one is.
        file: Option<String>,
        /// The rule that decided.
        rule: String,
        /// Microseconds that making it durable took.
        durable_us: Option<u64>,
    },
    /// A DHCP packet was not answered.
    DhcpIgnored {
        /// `DISCOVER`, ...
        message: String,
        /// Why.
        reason: String,
    },
    /// Another DHCP server was seen.
    DhcpForeignServer {
        /// Its identifier.
        server: std::net::Ipv4Addr,
        /// What it offered.
        offered: Option<std::net::Ipv4Addr>,
        /// Its boot file, if any.
        file: Option<String>,
        /// The hardware address that its answer came from, when it was heard itself.
        #[serde(default)]
        hardware: Option<Mac>,
    },
    /// A client said that its address is in use.
    DhcpDeclined {
        /// The address.
        address: std::net::Ipv4Addr,
    },
    /// A client gave its address back.
    DhcpReleased {
        /// The address.
        address: std::net::Ipv4Addr,
    },
    /// Strangers got no more addresses of a pool: the rest is kept for machines on record.
    PoolKept {
        /// The subnet.
        subnet: String,
        /// How many addresses are kept.
        kept: u64,
    },
    /// Somebody has an address of a pool without a lease of it.
    AddressInUse {
        /// The address.
        address: std::net::Ipv4Addr,
        /// Who has it, where that can be seen.
        by: Option<Mac>,
    },
    /// A pool has no free address.
    PoolExhausted {
        /// The subnet.
        subnet: String,
    },
    /// The firmware asked how long a file is and went away, as PXE ROMs do before the transfer.
    TftpProbed {
        /// The file.
        file: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A TFTP transfer ended well.
    TftpSent {
        /// The file.
        file: String,
        /// Bytes.
        bytes: u64,
        /// Duration.
        millis: u64,
        /// Block size used.
        blksize: u16,
        /// Window used.
        window: u16,
    },
    /// A TFTP transfer is under way.
    TftpProgress {
        /// The file.
        file: String,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        size: u64,
    },
    /// A TFTP transfer broke off.
    TftpFailed {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A file was asked for by TFTP that is not there (or not for this client).
    TftpNotFound {
        /// The file.
        file: String,
        /// Why, for the log only.
        reason: String,
    },
    /// A boot script was handed out.
    Script {
        /// `ipxe`, `grub`, `pxelinux`.
        dialect: String,
        /// `install debian12`, `local boot`, `menu`.
        gives: String,
        /// The rule that decided.
        rule: String,
    },
    /// A file was sent by HTTP.
    HttpSent {
        /// `kernel`, `initrd`, `loader`, `tree`.
        role: String,
        /// Its path below the tree, or its name.
        path: String,
        /// Bytes sent.
        bytes: u64,
        /// Bytes of the whole.
        size: u64,
        /// Duration.
        millis: u64,
        /// HTTP status.
        status: u16,
    },
    /// Files of an install tree were sent, summed over some seconds: an installation fetches thousands.
    TreeSent {
        /// How many.
        files: u64,
        /// Bytes of all.
        bytes: u64,
        /// From the first to the last of them.
        millis: u64,
        /// The last one, below the tree.
        last: String,
    },
    /// A large file is being sent by HTTP.
    HttpProgress {
        /// `kernel`, `initrd`, `loader`, `tree`.
        role: String,
        /// Its path or name.
        path: String,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        size: u64,
    },
    /// An HTTP download broke off.
    HttpBroken {
        /// What.
        path: String,
        /// Bytes sent until then.
        bytes: u64,
        /// Why.
        reason: String,
    },
    /// An HTTP request found nothing.
    HttpNotFound {
        /// What was asked for, tokens left out.
        path: String,
        /// Why, for the log only.
        reason: String,
    },
    /// A connection was turned away because too many are open.
    HttpCrowded {
        /// How many are.
        open: u32,
        /// `this address` or `all addresses`.
        whose: String,
    },
    /// An answer file was handed out.
    AnswerFile {
        /// Which.
        file: String,
        /// The template.
        template: String,
        /// Bytes.
        bytes: u64,
    },
    /// An answer file was refused. The client got the same 404 as for an unknown path.
    AnswerRefused {
        /// Why: `wrong address`, `expired`, `done`, `unknown token`.
        cause: String,
    },
    /// A template could not be rendered.
    TemplateBroken {
        /// The template.
        template: String,
        /// Line and kind of the error, without values.
        error: String,
    },
    /// A stage was reported or inferred.
    Stage {
        /// The word.
        stage: String,
        /// More words of the installer.
        detail: Option<String>,
        /// True when the installer reported it, false when it was inferred from a request.
        reported: bool,
    },
    /// An admin armed the machine.
    Armed {
        /// Who.
        by: String,
        /// Until when.
        until: Timestamp,
    },
    /// The arming was withdrawn.
    Disarmed,
    /// The machine was recognised and its installation began.
    Claimed {
        /// The address that the token is bound to.
        address: std::net::Ipv4Addr,
        /// Which attempt this is.
        attempt: u32,
    },
    /// The installation is done.
    Installed,
    /// The armed machine fetches the file of its image.
    ImageBooted,
    /// The installed system came up and said so.
    BootedFromDisk,
    /// The installation failed.
    Failed {
        /// Why.
        reason: String,
    },
    /// The machine is held: local boot until an admin decides.
    Held {
        /// Why.
        reason: String,
    },
    /// A file that machines need is missing or unreadable.
    AssetMissing {
        /// What.
        what: String,
        /// Why, and the remedy.
        why: String,
    },
    /// State could not be stored.
    StoreFailed {
        /// Why.
        error: String,
    },
    /// State can be stored again.
    StoreRecovered,
    /// Stored state was found damaged, lost or out of time, and service goes on with what could be saved.
    StateDamaged {
        /// What was lost, what was saved, and the remedy.
        what: String,
    },
    /// The server serves.
    Started {
        /// What it does, in a sentence.
        what: String,
    },
    /// The server stops.
    Stopping,
    /// A guest went on a step, as its supervisor tells.
    Guest {
        /// Where it runs: the hypervisor's URI.
        host: String,
        /// In a sentence.
        step: String,
    },
    /// A guest's installation stopped and does not go on by itself.
    GuestStopped {
        /// Where it runs: the hypervisor's URI.
        host: String,
        /// In a sentence.
        reason: String,
    },
    /// A line of a guest's serial console.
    GuestSerial {
        /// Escaped.
        line: String,
    },
    /// The inventory changed.
    InventoryChanged {
        /// How many rows.
        rows: u64,
    },
}

impl Event {
    /// The stable code, `DHCP_ANSWERED`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.what.doc().code
    }

    /// How much it matters.
    #[must_use]
    pub fn level(&self) -> Level {
        self.what.doc().level
    }
}

/// A size as people read it: `213 KiB`, `13.2 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let mut unit = "B";
    let (mut whole, mut tenth) = (bytes, 0);
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        tenth = (whole % 1024).saturating_mul(10) / 1024;
        whole /= 1024;
        unit = next;
    }
    if unit == "B" || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenth} {unit}")
    }
}

/// Bytes over a duration as people read it: `212 MiB/s`; empty when too short to tell.
#[must_use]
pub fn rate(bytes: u64, millis: u64) -> String {
    match bytes.saturating_mul(1000).checked_div(millis) {
        Some(per_second) if millis >= 5 => format!("{}/s", size(per_second)),
        _ => String::new(),
    }
}

/// The sentence for people, without time and machine.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        catalogue::sentence(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_read_well() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(218_112), "213 KiB");
        assert_eq!(size(13_842_000), "13.2 MiB");
        assert_eq!(rate(10_485_760, 100), "100 MiB/s");
        assert_eq!(rate(1, 0), "");
    }

    #[test]
    fn the_stored_code_is_the_catalogues() {
        let event = Event {
            at: Timestamp(0),
            mac: None,
            system: None,
            peer: None,
            what: What::BootedFromDisk,
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["code"], event.code());
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
