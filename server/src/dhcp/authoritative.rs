//! We give the addresses: the server's side of RFC 2131 section 4.3, with the boot part in the same reply.
//!
//! Pure. An ACK always comes with the rows that must be on disk before it leaves.

use super::emit::Draft;
use super::leases::{Leases, NoAddress, Seeker};
use super::packet::{Client, MessageType, code};
use super::respond::{Asking, BootPart, Outcome};
use crate::boot::BootFile;
use crate::event::What;
use crate::model::{Firmware, Lease, LeaseState, Mac, Subnet, Timestamp};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The shortest lease given to a client that asks for a short one, in seconds.
const SHORTEST: u64 = 60;

/// Answers `message` of `mac`.
pub(super) fn respond(asking: &Asking<'_>, mac: Mac, message: MessageType, leases: &mut Leases, outcome: &mut Outcome) {
    let subnet = match asking.subnet() {
        Ok(subnet) => subnet,
        Err(why) => return asking.ignore(outcome, why),
    };
    let barred = |address| is_barred(asking, subnet, mac, address);
    let server = Server {
        asking,
        subnet,
        seeker: Seeker {
            subnet,
            mac,
            known: asking.system.is_some(),
            reserved: reservation(asking, subnet, mac),
            wanted: asking.packet.requested_address(),
            barred: &barred,
        },
    };
    match message {
        MessageType::Discover => server.discover(leases, outcome),
        MessageType::Request => server.request(leases, outcome),
        MessageType::Decline => server.decline(leases, outcome),
        MessageType::Release => server.release(leases, outcome),
        MessageType::Inform => server.inform(outcome),
        MessageType::Offer | MessageType::Ack | MessageType::Nak => asking.ignore(outcome, "a server's message"),
    }
}

/// The address that the machine's record gives it on this subnet.
fn reservation(asking: &Asking<'_>, subnet: &Subnet, mac: Mac) -> Option<Ipv4Addr> {
    let (_, interface) = asking.system.as_ref()?.interface_of(mac)?;
    interface
        .ip_address
        .filter(|address| subnet.network.contains(address) && !asking.is_us(*address))
}

/// Addresses that `mac` must never get from the pool.
fn is_barred(asking: &Asking<'_>, subnet: &Subnet, mac: Mac, address: Ipv4Addr) -> bool {
    let infrastructure = asking.is_us(address)
        || subnet.router == Some(address)
        || subnet.dns.contains(&address)
        || subnet.relays.contains(&address)
        || !subnet.network.contains(&address)
        || (subnet.network.prefix_len() < 31
            && (address == subnet.network.network() || address == subnet.network.broadcast()));
    infrastructure
        || asking.world.inventory.system_by_address(address).is_some_and(|system| {
            let mine = |interface: &crate::model::Interface| {
                interface.ip_address == Some(address) && interface.mac_address == Some(mac)
            };
            !system.interfaces.values().any(mine)
        })
}

/// How a REQUEST came about (RFC 2131 section 4.3.2).
enum Stage {
    /// It takes an offer.
    Selecting(Ipv4Addr),
    /// It remembers an address from before a reboot.
    InitReboot(Ipv4Addr),
    /// It extends its lease; RENEWING and REBINDING differ only in who hears them.
    Extending(Ipv4Addr),
}

struct Server<'a, 'b> {
    asking: &'a Asking<'b>,
    subnet: &'a Subnet,
    seeker: Seeker<'a>,
}

impl Server<'_, '_> {
    fn discover(&self, leases: &mut Leases, outcome: &mut Outcome) {
        let asking = self.asking;
        let address = match leases.propose(&self.seeker, asking.now) {
            Ok(address) => address,
            Err(NoAddress::NoPool) => {
                let why = format!("no reservation, and {} has no pool", self.subnet.network);
                return asking.ignore(outcome, why);
            }
            Err(NoAddress::Exhausted) => {
                if leases.tell_exhausted(asking.now) {
                    let subnet = self.subnet.network.to_string();
                    asking.say(outcome, What::PoolExhausted { subnet });
                }
                let why = format!("no free address in the pool of {}", self.subnet.network);
                return asking.ignore(outcome, why);
            }
        };
        let Some((file, rule)) = self.boot(Some(address), outcome) else {
            return leases.drop_hold_of(self.seeker.mac);
        };
        let draft = self.granting(MessageType::Offer, address, self.lease_time(), &file);
        outcome.reply = Some(asking.reply(&draft));
        asking.answered(outcome, &draft, self.rule(address, rule));
    }

    fn request(&self, leases: &mut Leases, outcome: &mut Outcome) {
        let (asking, packet) = (self.asking, self.asking.packet);
        let ciaddr = Some(packet.ciaddr).filter(|address| !address.is_unspecified());
        let stage = match (packet.server_id(), packet.requested_address(), ciaddr) {
            (Some(server), requested, _) if !asking.is_us(server) => {
                leases.drop_hold_of(self.seeker.mac);
                if asking.system.is_some() || leases.tell_foreign(asking.now) {
                    let offered = requested.or(ciaddr);
                    let file = None;
                    asking.say(outcome, What::DhcpForeignServer { server, offered, file });
                }
                return asking.ignore(outcome, format!("the client took the offer of {server}"));
            }
            // Some clients put the address into ciaddr as well, or only there; what counts is that they name a server.
            (Some(_), Some(requested), _) => Stage::Selecting(requested),
            (Some(_), None, Some(ciaddr)) => Stage::Selecting(ciaddr),
            (None, _, Some(ciaddr)) => Stage::Extending(ciaddr),
            (None, Some(requested), None) => Stage::InitReboot(requested),
            (_, None, None) => return asking.ignore(outcome, "it names no address"),
        };
        let address = match stage {
            Stage::Selecting(address) | Stage::Extending(address) => address,
            Stage::InitReboot(address) => {
                let here = self.subnet.network.contains(&address);
                let record = self
                    .seeker
                    .reserved
                    .or_else(|| leases.row_of(self.seeker.mac, self.subnet).map(|row| row.address));
                match record {
                    // RFC 2131 section 4.3.2: a server without a record of the client MUST remain silent.
                    None if here => return asking.ignore(outcome, format!("no record of this client and {address}")),
                    Some(record) if here && record != address => {
                        return self.nak(&format!("this machine's address is {record}"), outcome);
                    }
                    _ => address,
                }
            }
        };
        if !leases.grantable(&self.seeker, address, asking.now) {
            let why = if self.subnet.network.contains(&address) {
                format!("{address} is not this machine's")
            } else {
                format!("{address} is not on {}", self.subnet.network)
            };
            return self.nak(&why, outcome);
        }
        self.grant(address, leases, outcome);
    }

    fn grant(&self, address: Ipv4Addr, leases: &mut Leases, outcome: &mut Outcome) {
        let (asking, packet) = (self.asking, self.asking.packet);
        let Some((file, rule)) = self.boot(Some(address), outcome) else {
            return;
        };
        let stored = leases
            .row(address)
            .filter(|row| row.mac == self.seeker.mac && row.state == LeaseState::Active && row.expires > asking.now)
            .map(|row| row.expires.since(asking.now));
        let time = self.lease_time();
        let lease = Lease {
            address,
            mac: self.seeker.mac,
            client_id: packet.option(code::CLIENT_ID).unwrap_or_default().to_vec(),
            hostname: packet.hostname(),
            granted: asking.now,
            expires: expiry(asking.now, time),
            state: LeaseState::Active,
        };
        outcome.change = Some(leases.commit(self.subnet, lease));
        let draft = self.granting(MessageType::Ack, address, time, &file);
        outcome.reply = Some(asking.reply(&draft));
        outcome.fallback = stored
            .filter(|left| left.as_secs() >= 1)
            .map(|left| asking.reply(&self.granting(MessageType::Ack, address, left.min(time), &file)));
        if packet.client() != Client::Other {
            outcome.effects.push(asking.seen(self.seeker.mac, address));
        }
        asking.answered(outcome, &draft, self.rule(address, rule));
    }

    fn nak(&self, why: &str, outcome: &mut Outcome) {
        let asking = self.asking;
        let mut draft = Draft::new(MessageType::Nak, asking.server);
        draft.put(code::MESSAGE, why.as_bytes());
        self.put_client_id(&mut draft);
        outcome.reply = Some(asking.reply(&draft));
        asking.answered(outcome, &draft, why.to_owned());
    }

    /// RFC 2131 section 4.3.3.
    fn decline(&self, leases: &mut Leases, outcome: &mut Outcome) {
        let asking = self.asking;
        let ours = asking.packet.server_id().is_none_or(|server| asking.is_us(server));
        let change = asking
            .packet
            .requested_address()
            .filter(|_| ours)
            .and_then(|address| Some((address, leases.quarantine(address, self.seeker.mac, asking.now)?)));
        match change {
            Some((address, change)) => {
                outcome.change = Some(change);
                asking.say(outcome, What::DhcpDeclined { address });
            }
            None => asking.ignore(outcome, "the address is not one that we gave this machine"),
        }
    }

    /// RFC 2131 section 4.3.4.
    fn release(&self, leases: &mut Leases, outcome: &mut Outcome) {
        let (asking, address) = (self.asking, self.asking.packet.ciaddr);
        match leases.release(address, self.seeker.mac, asking.now) {
            Some(change) => {
                outcome.change = Some(change);
                asking.say(outcome, What::DhcpReleased { address });
            }
            None => asking.ignore(outcome, format!("{address} is not this machine's")),
        }
    }

    /// RFC 2131 section 4.3.5: no address and no lease time in the answer.
    fn inform(&self, outcome: &mut Outcome) {
        let asking = self.asking;
        if !self.subnet.network.contains(&asking.packet.ciaddr) {
            let why = format!("{} is not on {}", asking.packet.ciaddr, self.subnet.network);
            return asking.ignore(outcome, why);
        }
        if let Some((file, rule)) = self.boot(Some(asking.packet.ciaddr), outcome) {
            let mut draft = Draft::new(MessageType::Ack, asking.server);
            draft.ciaddr = asking.packet.ciaddr;
            self.put_network(&mut draft);
            asking.put_boot(&mut draft, &file);
            outcome.reply = Some(asking.reply(&draft));
            asking.answered(outcome, &draft, rule);
        }
    }

    /// The boot file and the rule that chose it; none when there is to be no reply, and the reason is noted.
    fn boot(&self, address: Option<Ipv4Addr>, outcome: &mut Outcome) -> Option<(BootFile, String)> {
        let (asking, packet) = (self.asking, self.asking.packet);
        match asking.boot(self.seeker.mac, address, outcome) {
            BootPart::Silence(why) => asking.ignore(outcome, why),
            // Measured: OVMF repeats DISCOVER for a minute after an offer without a boot file, and goes on at once after silence.
            BootPart::File(BootFile::None, why)
                if packet.client() == Client::Http
                    || (packet.client() == Client::Pxe && packet.firmware().is_some_and(Firmware::is_uefi)) =>
            {
                asking.ignore(outcome, format!("UEFI takes no offer without a boot file; {why}"));
            }
            BootPart::File(file, rule) => return Some((file, rule)),
        }
        None
    }

    /// An OFFER or ACK of `address` for `time`.
    fn granting(&self, message: MessageType, address: Ipv4Addr, time: Duration, file: &BootFile) -> Draft {
        let asking = self.asking;
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let mut draft = Draft::new(message, asking.server);
        draft.yiaddr = address;
        if message == MessageType::Ack {
            draft.ciaddr = asking.packet.ciaddr;
        }
        draft.put_u32(code::LEASE_TIME, seconds);
        // RFC 2131 section 4.4.5: T1 at half, T2 at seven eighths.
        draft.put_u32(code::RENEWAL, seconds / 2);
        draft.put_u32(code::REBINDING, seconds.saturating_sub(seconds / 8));
        self.put_network(&mut draft);
        self.put_client_id(&mut draft);
        asking.put_boot(&mut draft, file);
        if matches!(asking.packet.client(), Client::Ipxe(_)) {
            // 175.176 = no-pxedhcp: no other server has a say here, and waiting for one costs iPXE three seconds.
            draft.put(code::IPXE, [176, 1, 1]);
        }
        draft
    }

    fn put_network(&self, draft: &mut Draft) {
        let subnet = self.subnet;
        draft.put(code::SUBNET_MASK, subnet.network.netmask().octets());
        draft.put(code::BROADCAST, subnet.network.broadcast().octets());
        draft.put_addresses(code::ROUTER, subnet.router.iter());
        draft.put_addresses(code::DNS, &subnet.dns);
        if let Some(domain) = &subnet.domain {
            draft.put(code::DOMAIN, domain.as_bytes());
        }
        let interface = self
            .asking
            .system
            .as_ref()
            .and_then(|system| Some((system, system.interface_of(self.seeker.mac)?.1)));
        if let Some((system, interface)) = interface
            && let Some(name) = system.hostname.as_ref().or(interface.dns_name.as_ref())
        {
            draft.put(code::HOSTNAME, name.as_str().as_bytes());
        }
    }

    /// RFC 6842: the identifier comes back. Boot firmware of before 2013 does not expect it, so it goes to the others only.
    fn put_client_id(&self, draft: &mut Draft) {
        if let Some(id) = self.asking.packet.option(code::CLIENT_ID)
            && self.asking.packet.client() == Client::Other
        {
            draft.put(code::CLIENT_ID, id);
        }
    }

    /// The subnet's lease time, or less when the client asks for less.
    fn lease_time(&self) -> Duration {
        let full = self.subnet.lease.0;
        let asked = self.asking.packet.lease_seconds().map(u64::from);
        asked.map_or(full, |asked| full.min(Duration::from_secs(asked.max(SHORTEST))))
    }

    fn rule(&self, address: Ipv4Addr, boot: String) -> String {
        let source = match &self.asking.system {
            Some(system) if self.seeker.reserved == Some(address) => format!("reservation of {}", system.name),
            _ => format!("pool of {}", self.subnet.network),
        };
        format!("{boot}; {source}")
    }
}

/// Option 51 carries 32 bits of seconds, of which all ones mean for ever; the row says the same.
fn expiry(now: Timestamp, time: Duration) -> Timestamp {
    now.plus(time.min(Duration::from_secs(u64::from(u32::MAX))))
}
