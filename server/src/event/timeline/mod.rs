//! One boot as a person reads it: what happened when, what should come next, and where it stopped, the likely cause and the remedy.
//!
//! Pure. It reads events and nothing else, so a boot that was stored reads as it did live.

mod ending;
mod lines;

pub use ending::Ending;
pub use lines::Line;

use super::{Event, What};
use crate::model::{Mac, Name, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A pause after which a machine that shouts DHCP has been switched on anew.
const NEW_BOOT_AFTER: Duration = Duration::from_secs(600);

/// The machine that a timeline is about, as its records have it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Its record.
    pub system: Option<Name>,
    /// Its interface.
    pub mac: Option<Mac>,
    /// Its profile.
    pub profile: Option<Name>,
    /// Where it stands: `armed by root until ...`, `installed`, ...
    pub standing: Option<String>,
    /// Memory that its installer needs, in MiB.
    pub min_ram_mib: Option<u32>,
}

/// One boot, told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// The first line: which machine.
    pub heading: String,
    /// What happened.
    pub lines: Vec<Line>,
    /// Where it stands.
    pub ending: Ending,
}

/// Tells one boot, whose events stand in order. `now` is when it is told.
#[must_use]
pub fn timeline(events: &[Event], machine: &Machine, now: Timestamp) -> Timeline {
    Timeline {
        heading: heading(events, machine),
        lines: lines::lines(events),
        ending: ending::ending(events, machine, now),
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.heading)?;
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        write!(f, "{}", self.ending)
    }
}

/// `web1  52:54:00:7c:1d:4f  UEFI x64  profile rocky9  armed by root until 18:02`.
fn heading(events: &[Event], machine: &Machine) -> String {
    let seen_mac = || events.iter().find_map(|event| event.mac);
    let seen_name = || events.iter().find_map(|event| event.system.clone());
    let firmware = events.iter().find_map(|event| match &event.what {
        What::DhcpReceived { firmware, .. } => firmware.clone(),
        _ => None,
    });
    let mut parts: Vec<String> = Vec::new();
    parts.extend(machine.system.clone().or_else(seen_name).map(|name| name.to_string()));
    parts.extend(machine.mac.or_else(seen_mac).map(|mac| mac.to_string()));
    parts.extend(firmware);
    parts.extend(machine.profile.as_ref().map(|profile| format!("profile {profile}")));
    parts.extend(machine.standing.clone());
    // The lines have no date and no zone; whoever reads a boot of last week, or far from Greenwich, needs both.
    let day = events.first().map(|event| event.at.to_string());
    parts.extend(
        day.as_deref()
            .and_then(|at| at.split('T').next())
            .map(|day| format!("{day} UTC")),
    );
    parts.join("  ")
}

/// Cuts a machine's events into boots: each begins where its firmware asked for an address anew.
#[must_use]
pub fn boots(events: &[Event]) -> Vec<&[Event]> {
    let mut cut = Vec::new();
    let mut rest = events;
    let mut at = 0_usize;
    let mut open = Open::default();
    for event in events {
        if open.starts_anew(event) && at > 0 {
            let (boot, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            cut.push(boot);
            rest = tail;
            at = 0;
            open = Open::default();
        }
        open.take(event);
        at = at.saturating_add(1);
    }
    if !rest.is_empty() {
        cut.push(rest);
    }
    cut
}

/// The latest boot of a machine's events.
#[must_use]
pub fn last_boot(events: &[Event]) -> &[Event] {
    boots(events).pop().unwrap_or(&[])
}

/// A boot on its way, as far as telling where the next begins needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open {
    last: Option<Timestamp>,
    /// Past the first offers.
    moved: bool,
    /// A boot script was handed out: whoever asks as firmware after that starts over.
    scripted: bool,
    /// Installed, failed, held: nothing more belongs to it but what the installed system says.
    ended: bool,
}

impl Open {
    /// True when `event` begins another boot.
    #[must_use]
    pub fn starts_anew(&self, event: &Event) -> bool {
        let Some(last) = self.last else { return false };
        let What::DhcpReceived {
            message,
            firmware,
            client,
        } = &event.what
        else {
            // An admin's new arming is where the next story begins.
            return matches!(event.what, What::Armed { .. }) && (self.ended || self.moved);
        };
        if message != "DISCOVER" {
            return false;
        }
        if event.at.since(last) > NEW_BOOT_AFTER && firmware.is_some() {
            return true;
        }
        let ipxe = client.as_deref().is_some_and(|client| client.starts_with("iPXE"));
        match (firmware, ipxe) {
            // The installer and the installed system ask without option 93.
            (None, false) => false,
            // iPXE goes on where the ROM left off, unless it is the ROM.
            (_, true) => self.scripted || self.ended,
            (Some(_), false) => self.moved || self.ended,
        }
    }

    /// True once the machine did more than shout for an address.
    #[must_use]
    pub const fn has_moved(&self) -> bool {
        self.moved
    }

    /// Takes in an event of this boot. True when it ends the boot.
    pub fn take(&mut self, event: &Event) -> bool {
        self.last = Some(event.at);
        let ends = matches!(
            event.what,
            What::Installed | What::ImageBooted | What::Failed { .. } | What::Held { .. }
        );
        match &event.what {
            What::DhcpReceived { message, .. } => self.moved |= message == "REQUEST",
            What::DhcpAnswered { message, .. } => self.moved |= message == "ACK",
            What::DhcpIgnored { .. } | What::DhcpForeignServer { .. } | What::Armed { .. } | What::Disarmed => {}
            What::Script { .. } => {
                self.scripted = true;
                self.moved = true;
            }
            _ => self.moved = true,
        }
        self.ended |= ends;
        ends
    }
}

#[cfg(test)]
mod tests;
