//! The catalogue: per code its level, what it means, what to do, and its sentence. `man cordwainer-events` is made from it.

use super::{What, rate, size};
use std::fmt;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For a trace of one machine.
    Debug,
    /// Worth a line in the log.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Somebody must act.
    Error,
}

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeDoc {
    /// Stable for ever.
    pub code: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What happened, in a sentence.
    pub means: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Makes the catalogue and the link from each event to its entry, so that neither can miss one.
macro_rules! catalogue {
    ($($variant:ident $code:literal $level:ident $means:literal $remedy:literal)*) => {
        /// Every code, in the order of a boot.
        pub const CATALOGUE: &[CodeDoc] = &[$(CodeDoc { code: $code, level: Level::$level, means: $means, remedy: $remedy }),*];

        impl What {
            /// The catalogue's entry.
            #[must_use]
            pub const fn doc(&self) -> CodeDoc {
                match self {
                    $(Self::$variant { .. } => CodeDoc { code: $code, level: Level::$level, means: $means, remedy: $remedy }),*
                }
            }
        }
    };
}

catalogue! {
    DhcpReceived "DHCP_RECEIVED" Debug
        "A DHCP packet came in from a machine."
        "Nothing to do. If no answer follows, the next DHCP_IGNORED says why."
    DhcpAnswered "DHCP_ANSWERED" Info
        "A DHCP answer left, with the address, the boot file and the rule that chose it."
        "Nothing to do. If the machine does not come back with REQUEST, another DHCP server won."
    DhcpIgnored "DHCP_IGNORED" Debug
        "A DHCP packet was not answered, with the reason."
        "If the machine should be served: add it, or see the reason."
    DhcpForeignServer "DHCP_FOREIGN_SERVER" Warn
        "Another DHCP server answers on a served network."
        "Let that server leave network boot clients alone, or run as proxy: [dhcp] mode = \"proxy\"."
    DhcpDeclined "DHCP_DECLINED" Warn
        "A client found its address in use; nobody gets it for a while."
        "Find the machine that has the address without a lease, or take the address out of the pool."
    DhcpReleased "DHCP_RELEASED" Info
        "A client gave its address back."
        "Nothing to do."
    AddressInUse "ADDRESS_IN_USE" Warn
        "A machine has an address of the pool that it has no lease of; nobody else gets it for an hour, then it is asked for again."
        "Give that machine a reservation (--mac-address MAC --ip-address ADDRESS), another address, or take the address out of the pool."
    PoolKept "POOL_KEPT" Warn
        "Only few addresses of a pool are free; they are kept for machines on record, and new unknown machines get no answer."
        "Look who takes the addresses (lease list); then enlarge the pool of that [[subnet]], or shorten its lease."
    PoolExhausted "POOL_EXHAUSTED" Error
        "A pool has no free address; new machines get no answer."
        "Enlarge the pool of that [[subnet]], or shorten its lease."
    TftpProbed "TFTP_PROBED" Debug
        "Firmware asked for the size of a file before it transfers it."
        "Nothing to do."
    TftpSent "TFTP_SENT" Info
        "A file was sent by TFTP."
        "Nothing to do."
    TftpProgress "TFTP_PROGRESS" Debug
        "A TFTP transfer is under way."
        "Nothing to do."
    TftpFailed "TFTP_FAILED" Warn
        "A TFTP transfer broke off."
        "Look at the link and at firewalls: TFTP answers come from another port than 69."
    TftpNotFound "TFTP_NOT_FOUND" Debug
        "A file was asked for by TFTP that does not exist."
        "Loaders try several names; only the last one matters. `cordwainer check` names missing loaders."
    Script "SCRIPT" Info
        "A boot script was handed out."
        "Nothing to do. `cordwainer boot explain` shows why it says what it says."
    HttpSent "HTTP_SENT" Info
        "A file was sent by HTTP."
        "Nothing to do."
    TreeSent "TREE_SENT" Debug
        "Files of an install tree were sent, summed over some seconds."
        "Nothing to do. The log at level debug names each file."
    HttpProgress "HTTP_PROGRESS" Debug
        "A large file is being sent by HTTP."
        "Nothing to do."
    HttpBroken "HTTP_BROKEN" Warn
        "An HTTP download broke off before its end."
        "The machine lost its link or was switched off; it asks again when it is back."
    HttpNotFound "HTTP_NOT_FOUND" Debug
        "Something was asked for by HTTP that is not there, or not for this client."
        "If an installer needs it, the reason says what is missing."
    HttpCrowded "HTTP_CROWDED" Warn
        "A connection was turned away with 503 because its address, or all together, have as many open as they may, all of them busy."
        "One address with many: a NAT or a hypervisor with many guests, which come again by themselves, or a client gone wild."
    AnswerFile "ANSWER_FILE" Info
        "An answer file was rendered and handed out to the machine that its token is bound to."
        "Nothing to do."
    AnswerRefused "ANSWER_REFUSED" Warn
        "An answer file or a report was refused. The client got the same 404 as for an unknown path."
        "Wrong address: another machine tried, or the machine changed its address. Expired or done: arm it again if it should be installed."
    TemplateBroken "TEMPLATE_BROKEN" Error
        "A template could not be rendered for a machine."
        "Mend the line that is named; `cordwainer system get-autoinstall --name NAME` shows the result."
    Stage "STAGE" Info
        "An installer reached a stage, by its own report or as inferred from what it fetched."
        "Nothing to do."
    Armed "ARMED" Info
        "An admin armed the machine: its next network boot installs it."
        "Nothing to do."
    Disarmed "DISARMED" Info
        "The arming was withdrawn: the machine boots from disk."
        "Nothing to do."
    Claimed "CLAIMED" Info
        "The armed machine came and was given its installer."
        "Nothing to do."
    Installed "INSTALLED" Info
        "The installer reported done: the machine boots from disk from now on."
        "Nothing to do."
    ImageBooted "IMAGE_BOOTED" Info
        "The armed machine fetches the file of its image; that spends the arming, and its next boot is from disk."
        "Nothing to do. For another boot of the image: `cordwainer system arm NAME`."
    BootedFromDisk "BOOTED_FROM_DISK" Info
        "The installed system came up and said so."
        "Nothing to do."
    Failed "FAILED" Error
        "The installation failed."
        "See the reason; then `cordwainer system arm NAME --again`."
    Held "HELD" Error
        "The machine is held: it boots from disk until an admin decides, because wiping it again was not asked for."
        "`cordwainer boot trace NAME`, then `cordwainer system arm NAME --again` if it should be installed anew."
    AssetMissing "ASSET_MISSING" Error
        "A file that machines need is missing or unreadable; only what needs it is affected."
        "The message names the file and the package or command that brings it back."
    StoreFailed "STORE_FAILED" Error
        "State could not be written; new leases wait, existing ones are answered for their remaining time."
        "Free space or mend the disk of the state folder; service resumes by itself."
    StoreRecovered "STORE_RECOVERED" Info
        "State can be written again."
        "Nothing to do."
    StateDamaged "STATE_DAMAGED" Error
        "Stored state was damaged, lost or out of time; service goes on with what could be saved, and nothing is wiped on its account."
        "The message names what was lost and where the damaged file is kept; `cordwainer restore FILE` brings back an older state."
    Started "STARTED" Info
        "The server serves."
        "Nothing to do."
    Stopping "STOPPING" Info
        "The server stops: no new work, transfers end."
        "Nothing to do."
    Guest "GUEST" Info
        "A guest went on a step on its hypervisor, as `cordwainer guest supervise` tells."
        "Nothing to do."
    GuestStopped "GUEST_STOPPED" Error
        "A guest's installation stopped and does not go on by itself; its disk and its serial log are kept."
        "`cordwainer guest log NAME` shows the console's last lines; then `cordwainer guest reinstall NAME` or `cordwainer guest delete NAME`."
    GuestSerial "GUEST_SERIAL" Debug
        "A line of a guest's serial console while it is being installed."
        "Nothing to do."
    InventoryChanged "INVENTORY_CHANGED" Info
        "Objects were added, changed or removed; the change is served."
        "Nothing to do."
}

/// Writes the sentence of `what`.
pub(super) fn sentence(what: &What, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match what {
        What::DhcpReceived {
            message,
            firmware,
            client,
        } => {
            write!(f, "{message}")?;
            if let Some(client) = client {
                write!(f, " from {client}")?;
            }
            firmware.as_ref().map_or(Ok(()), |firmware| write!(f, ", {firmware}"))
        }
        What::DhcpAnswered {
            message,
            address,
            file,
            rule,
            durable_us,
        } => {
            write!(f, "{message}")?;
            if let Some(address) = address {
                write!(f, " {address}")?;
            }
            if let Some(file) = file {
                write!(f, ", {file}")?;
            }
            if let Some(micros) = durable_us {
                write!(f, " (durable in {}.{} ms)", micros / 1000, micros % 1000 / 100)?;
            }
            write!(f, "  rule: {rule}")
        }
        What::DhcpIgnored { message, reason } => write!(f, "{message} not answered: {reason}"),
        What::AddressInUse { address, by: Some(mac) } => {
            write!(
                f,
                "{address} is in use by {mac}, which has no lease of it; nobody else gets it for an hour"
            )
        }
        What::AddressInUse { address, by: None } => {
            write!(
                f,
                "{address} is in use by a machine without a lease of it; nobody else gets it for an hour"
            )
        }
        What::PoolKept { subnet, kept } => write!(
            f,
            "the last {kept} addresses of the pool of {subnet} are kept for machines on record; unknown machines get none"
        ),
        What::DhcpForeignServer {
            server,
            offered,
            file,
            hardware,
        } => {
            write!(f, "another DHCP server, {server}")?;
            if let Some(mac) = hardware {
                write!(f, " ({mac})")?;
            }
            f.write_str(", answered")?;
            if let Some(offered) = offered {
                write!(f, " and offered {offered}")?;
            }
            match file {
                Some(file) => write!(f, " with boot file {file}"),
                None => f.write_str(" without a boot file"),
            }
        }
        What::DhcpDeclined { address } => write!(f, "DECLINE: {address} is in use by another machine"),
        What::DhcpReleased { address } => write!(f, "RELEASE of {address}"),
        What::PoolExhausted { subnet } => write!(f, "no free address in the pool of {subnet}"),
        What::TftpProbed { file, size: bytes } => write!(f, "{file}  size asked, {}", size(*bytes)),
        What::TftpSent {
            file,
            bytes,
            millis,
            blksize,
            window,
        } => write!(
            f,
            "{file}  {} in {}.{:02} s, blocks of {blksize}, window {window}",
            size(*bytes),
            millis / 1000,
            millis % 1000 / 10
        ),
        What::TftpProgress { file, bytes, size: all } => write!(f, "{file}  {} of {}", size(*bytes), size(*all)),
        What::TftpFailed { file, reason } => write!(f, "{file} broke off: {reason}"),
        What::TftpNotFound { file, reason } => write!(f, "{file} not found: {reason}"),
        What::Script { dialect, gives, rule } => write!(f, "{dialect} script -> {gives}  rule: {rule}"),
        What::HttpSent {
            role,
            path,
            bytes,
            size: all,
            millis,
            status,
        } => {
            write!(f, "{role} {path}  {}", size(*bytes))?;
            if bytes < all {
                write!(f, " of {}", size(*all))?;
            }
            let rate = rate(*bytes, *millis);
            if !rate.is_empty() {
                write!(f, "  {rate}")?;
            }
            if *status == 200 {
                Ok(())
            } else {
                write!(f, "  ({status})")
            }
        }
        What::TreeSent {
            files,
            bytes,
            millis,
            last,
        } => {
            write!(f, "{files} tree files, {}", size(*bytes))?;
            let rate = rate(*bytes, *millis);
            if !rate.is_empty() {
                write!(f, "  {rate}")?;
            }
            write!(f, ", the last {last}")
        }
        What::HttpProgress {
            role,
            path,
            bytes,
            size: all,
        } => write!(f, "{role} {path}  {} of {}", size(*bytes), size(*all)),
        What::HttpBroken { path, bytes, reason } => write!(f, "{path} broke off after {}: {reason}", size(*bytes)),
        What::HttpNotFound { path, reason } => write!(f, "{path} not found: {reason}"),
        What::HttpCrowded { open, whose } => write!(f, "connection turned away: {open} of {whose} are busy"),
        What::AnswerFile { file, template, bytes } => write!(f, "answer file {file} from {template}, {}", size(*bytes)),
        What::AnswerRefused { cause } => write!(f, "refused: {cause}"),
        What::TemplateBroken { template, error } => write!(f, "template {template}: {error}"),
        What::Stage {
            stage,
            detail,
            reported,
        } => {
            f.write_str(stage)?;
            if let Some(detail) = detail {
                write!(f, ": {detail}")?;
            }
            f.write_str(if *reported {
                "  reported by the installer"
            } else {
                "  seen in its requests"
            })
        }
        What::Armed { by, until } => write!(f, "armed by {by} until {until}"),
        What::Disarmed => f.write_str("disarmed: boots from disk"),
        What::Claimed { address, attempt } if address.is_unspecified() => {
            write!(f, "installer handed to the hypervisor, attempt {attempt}")
        }
        What::Claimed { address, attempt } => {
            write!(f, "installer handed out, attempt {attempt}, token bound to {address}")
        }
        What::Installed => f.write_str("installed: boots from disk from now on"),
        What::ImageBooted => f.write_str("image fetched: the arming is spent, and it boots from disk from now on"),
        What::BootedFromDisk => f.write_str("installed and booted from disk"),
        What::Failed { reason } => write!(f, "failed: {reason}"),
        What::Held { reason } => write!(f, "held: {reason}"),
        What::AssetMissing { what, why } => write!(f, "{what}: {why}"),
        What::StoreFailed { error } => write!(f, "state could not be stored: {error}"),
        What::StateDamaged { what } => f.write_str(what),
        What::StoreRecovered => f.write_str("state is stored again"),
        What::Started { what } => write!(f, "serving: {what}"),
        What::Stopping => f.write_str("stopping"),
        What::Guest { host, step } => write!(f, "{step}  on {host}"),
        What::GuestStopped { host, reason } => write!(f, "{reason}  on {host}"),
        What::GuestSerial { line } => f.write_str(line),
        What::InventoryChanged { rows: 1 } => f.write_str("1 changed row is served"),
        What::InventoryChanged { rows } => write!(f, "{rows} changed rows are served"),
    }
}
