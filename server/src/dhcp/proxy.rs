//! Boot information beside another server that gives the addresses (PXE 2.1 section 2.2, proxyDHCP).
//!
//! Pure. It never gives an address, never sends a NAK, and says nothing to who does not boot from the network.

use super::emit::Draft;
use super::leases::Leases;
use super::packet::{Client, MessageType, code};
use super::respond::{Asking, BootPart, Outcome, PROXY_PORT};
use crate::boot::BootFile;
use crate::install::Installs;
use crate::model::{Mac, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The shape of the offer to PXE firmware. Some take only the one, some only the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The boot file stands in the offer, with 43.6 = 8: no further discovery.
    InOffer,
    /// The offer names only the server; the client asks on port 4011.
    OnPort4011,
}

/// Answers `message` of `mac`.
pub(super) fn respond(asking: &Asking<'_>, mac: Mac, message: MessageType, leases: &mut Leases, outcome: &mut Outcome) {
    let packet = asking.packet;
    if !packet.giaddr.is_unspecified()
        && let Err(why) = &asking.network
    {
        return asking.ignore(outcome, why);
    }
    let client = packet.client();
    if client == Client::Other {
        return asking.ignore(
            outcome,
            "it does not boot from the network, and addresses are another server's",
        );
    }
    let to_us = packet.server_id().is_some_and(|server| asking.names_us(server));
    if packet.port == PROXY_PORT {
        if let Some(server) = packet.server_id().filter(|_| !to_us) {
            return asking.ignore(
                outcome,
                format!("it asks {server}, which is not this server (option 54)"),
            );
        }
        if !matches!(message, MessageType::Request | MessageType::Inform) {
            return asking.ignore(outcome, "port 4011 takes REQUEST and INFORM alone");
        }
    }
    let reply = match message {
        MessageType::Discover => MessageType::Offer,
        MessageType::Request | MessageType::Inform if packet.port == PROXY_PORT || to_us => MessageType::Ack,
        MessageType::Request => {
            // The client takes the address server's offer: the one moment when a proxy learns the address.
            let address = packet.requested_address();
            if let Some(address) = address {
                // What iPXE takes says nothing of the ROM that loaded it: its script is no file of that offer.
                if client == Client::Pxe {
                    leases.attempts.requested(mac, address, asking.now);
                }
                if asking.is_known() {
                    outcome.effects.push(asking.seen(mac, address));
                }
            }
            return asking.ignore(outcome, "addresses are another server's");
        }
        _ => return asking.ignore(outcome, "addresses are another server's"),
    };
    let address = Some(packet.ciaddr)
        .filter(|address| !address.is_unspecified())
        .or_else(|| Some(*packet.source.ip()).filter(|address| !address.is_unspecified()));
    let (file, rule) = match asking.boot(mac, address, outcome) {
        BootPart::Silence(why) => return asking.ignore(outcome, why),
        BootPart::File(BootFile::None, rule) => return asking.ignore(outcome, rule),
        BootPart::File(file, rule) => (file, rule),
    };
    let form = if client == Client::Pxe && reply == MessageType::Offer {
        leases.attempts.form(mac, &asking.world.installs, asking.now)
    } else {
        Form::InOffer
    };
    let mut draft = Draft::new(reply, asking.identifier);
    asking.put_client_id(&mut draft);
    if reply == MessageType::Ack {
        draft.ciaddr = packet.ciaddr;
    }
    asking.put_boot(&mut draft, &file);
    if client != Client::Http {
        draft.put(code::VENDOR_CLASS, *b"PXEClient");
        match form {
            Form::InOffer => draft.put(code::VENDOR, vendor(asking)),
            Form::OnPort4011 => {
                draft.file.clear();
                draft.options.remove(&code::BOOT_FILE);
                draft.options.remove(&code::TFTP_SERVER);
            }
        }
    }
    if reply == MessageType::Ack
        && let Some(address) = address
    {
        outcome.effects.push(asking.seen(mac, address));
        if client == Client::Pxe {
            leases.attempts.requested(mac, address, asking.now);
        }
    }
    outcome.reply = Some(asking.reply(&draft));
    let rule = match form {
        Form::InOffer => rule,
        Form::OnPort4011 => {
            format!("{rule}; nothing was fetched after the last offer, so this one points to port 4011")
        }
    };
    asking.answered(outcome, &draft, rule);
}

/// Option 43: discovery control 8 ("download what the offer names"), and the boot item that the client asked for, echoed.
fn vendor(asking: &Asking<'_>) -> Vec<u8> {
    let mut bytes = vec![6, 1, 8];
    if let Some([a, b, c, d]) = asking.packet.vendor_option(71).as_deref() {
        bytes.extend([71, 4, *a, *b, *c, *d]);
    }
    bytes.push(255);
    bytes
}

/// The most machines that are remembered.
const REMEMBERED: usize = 4096;
/// A client that comes later starts anew.
const FORGET: Duration = Duration::from_secs(300);
/// A client that took an address and fetched nothing within this time did not understand the offer.
const NO_TRANSFER: Duration = Duration::from_secs(3);
/// Firmware repeats DISCOVER after 4 s or more; iPXE after 1 s, which means nothing.
const REPEATED: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy)]
struct Attempt {
    form: Form,
    first: Timestamp,
    last: Timestamp,
    answered: u32,
    requested: Option<(Ipv4Addr, Timestamp)>,
}

/// What PXE firmware was offered lately and whether it led to a transfer. In memory only, bounded.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    by_mac: BTreeMap<Mac, Attempt>,
    by_age: BTreeSet<(Timestamp, Mac)>,
}

impl Attempts {
    /// The form of the offer that `mac` gets now: the other one than last time where no transfer followed.
    pub(super) fn form(&mut self, mac: Mac, installs: &Installs, now: Timestamp) -> Form {
        let fresh = |form| Attempt {
            form,
            first: now,
            last: now,
            answered: 0,
            requested: None,
        };
        let known = self.by_mac.get(&mac).copied();
        let mut attempt = match known.filter(|seen| now.since(seen.last) < FORGET) {
            None => fresh(Form::InOffer),
            Some(seen) => {
                let transferred = seen.requested.is_some_and(|(address, at)| {
                    installs
                        .sightings
                        .get(&address)
                        .is_some_and(|sighting| sighting.mac == mac && sighting.at > at)
                });
                let failed = match seen.requested {
                    Some((_, at)) => now.since(at) >= NO_TRANSFER,
                    None => seen.answered >= 2 && now.since(seen.first) >= REPEATED,
                };
                match (transferred, failed) {
                    (true, _) => fresh(seen.form),
                    (false, true) => fresh(seen.form.other()),
                    (false, false) => seen,
                }
            }
        };
        attempt.answered = attempt.answered.saturating_add(1);
        attempt.last = now;
        self.remember(mac, attempt);
        attempt.form
    }

    /// Notes that `mac` took `address`.
    pub(super) fn requested(&mut self, mac: Mac, address: Ipv4Addr, now: Timestamp) {
        if let Some(seen) = self.by_mac.get(&mac).copied() {
            let attempt = Attempt {
                requested: Some((address, now)),
                last: now,
                ..seen
            };
            self.remember(mac, attempt);
        }
    }

    fn remember(&mut self, mac: Mac, attempt: Attempt) {
        if let Some(old) = self.by_mac.insert(mac, attempt) {
            self.by_age.remove(&(old.last, mac));
        }
        self.by_age.insert((attempt.last, mac));
        while self.by_mac.len() > REMEMBERED
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_mac.remove(&oldest);
        }
    }
}

impl Form {
    const fn other(self) -> Self {
        match self {
            Self::InOffer => Self::OnPort4011,
            Self::OnPort4011 => Self::InOffer,
        }
    }
}
