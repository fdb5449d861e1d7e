//! We give the addresses: the server's side of RFC 2131 section 4.3, with the boot part in the same reply.
//!
//! Pure. An ACK always comes with the rows that must be on disk before it leaves.

use super::emit::Draft;
use super::identity::By;
use super::leases::{Leases, NoAddress, Seeker};
use super::packet::{Client, MessageType, code};
use super::respond::{Asking, BootPart, Link, Outcome};
use crate::boot::{BootFile, World};
use crate::event::What;
use crate::model::{Firmware, Lease, LeaseState, Mac, Subnet, Timestamp};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The shortest lease given to a client that asks for a short one, in seconds.
const SHORTEST: u64 = 60;

/// How long after an ACK a client may find that its address is in use: it looks before it takes it, and later knows better.
const DECLINABLE: Duration = Duration::from_secs(60);

/// Answers `message` of `mac`; none is a client of before DHCP.
pub(super) fn respond(
    asking: &Asking<'_>,
    mac: Mac,
    message: Option<MessageType>,
    leases: &mut Leases,
    outcome: &mut Outcome,
) {
    let network = match &asking.network {
        Ok(network) => network.as_slice(),
        Err(why) => return asking.ignore(outcome, why),
    };
    let barred = |address| is_barred(asking, network, address);
    let server = Server {
        asking,
        network,
        seeker: Seeker {
            subnets: network,
            mac,
            known: asking.record.is_some(),
            on_record: asking.world.inventory.system_count(),
            reserved: reservation(asking, network),
            wanted: asking.packet.requested_address(),
            barred: &barred,
        },
    };
    match message {
        None => server.bootp(leases, outcome),
        Some(MessageType::Discover) => server.discover(leases, outcome),
        Some(MessageType::Request) => server.request(leases, outcome),
        Some(MessageType::Decline) => server.decline(leases, outcome),
        Some(MessageType::Release) => server.release(leases, outcome),
        Some(MessageType::Inform) => server.inform(outcome),
        Some(MessageType::Offer | MessageType::Ack | MessageType::Nak) => asking.ignore(outcome, "a server's message"),
    }
}

fn holds(network: &[&Subnet], address: Ipv4Addr) -> bool {
    network.iter().any(|subnet| subnet.network.contains(&address))
}

/// `192.0.2.0/24 or 198.51.100.0/24`.
fn named(network: &[&Subnet]) -> String {
    let names: Vec<String> = network.iter().map(|subnet| subnet.network.to_string()).collect();
    names.join(" or ")
}

/// The address that the machine's record gives it on this network.
fn reservation(asking: &Asking<'_>, network: &[&Subnet]) -> Option<Ipv4Addr> {
    let interface = asking.record.as_ref()?.interface()?;
    interface
        .ip_address
        .filter(|address| holds(network, *address) && !asking.is_us(*address))
}

/// Addresses that the machine must never get from the pool.
fn is_barred(asking: &Asking<'_>, network: &[&Subnet], address: Ipv4Addr) -> bool {
    asking.is_us(address)
        || is_infrastructure(network, address)
        || (asking.world.inventory.system_by_address(address).is_some()
            && !asking.record.as_ref().is_some_and(|record| record.has(address)))
}

/// Addresses of the network that no machine gets: none of its own, or what machines are told to use.
fn is_infrastructure(network: &[&Subnet], address: Ipv4Addr) -> bool {
    let infrastructure = |subnet: &&Subnet| {
        subnet.router == Some(address)
            || subnet.dns.contains(&address)
            || subnet.relays.contains(&address)
            || (subnet.network.prefix_len() < 31
                && (address == subnet.network.network() || address == subnet.network.broadcast()))
    };
    !holds(network, address) || network.iter().any(infrastructure)
}

/// Addresses that no stranger gets: there is no use in asking the wire for them.
pub(super) fn is_spoken_for(world: &World, link: &Link, network: &[&Subnet], address: Ipv4Addr) -> bool {
    world.config.address == Some(address)
        || link.addresses.iter().any(|net| net.addr() == address)
        || is_infrastructure(network, address)
        || world.inventory.system_by_address(address).is_some()
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
    network: &'a [&'a Subnet],
    seeker: Seeker<'a>,
}

impl<'a> Server<'a, '_> {
    /// The subnet of an address that was found on this network.
    fn subnet_of(&self, address: Ipv4Addr) -> Option<&'a Subnet> {
        self.network
            .iter()
            .find(|subnet| subnet.network.contains(&address))
            .or_else(|| self.network.first())
            .copied()
    }

    /// RFC 951 and 1534: an address for good, and only one that is reserved; no DHCP option in the answer.
    fn bootp(&self, leases: &mut Leases, outcome: &mut Outcome) {
        let (asking, packet) = (self.asking, self.asking.packet);
        let Some(address) = self.seeker.reserved else {
            let why = "plain BOOTP, whose addresses are for good, and the machine has none reserved on this network: give its system an --ip-address";
            return asking.ignore(outcome, why);
        };
        if !leases.grantable(&self.seeker, address, asking.now) {
            return asking.ignore(
                outcome,
                format!("{address} is reserved for this machine, but another holds it still"),
            );
        }
        let Some((file, rule)) = self.boot(Some(address), outcome) else {
            return;
        };
        let is_stored = leases.row(address).is_some_and(|row| {
            row.mac == self.seeker.mac && row.state == LeaseState::Active && row.expires.since(asking.now) > LONGEST
        });
        let lease = Lease {
            address,
            mac: self.seeker.mac,
            client_id: Vec::new(),
            hostname: None,
            granted: asking.now,
            expires: expiry(asking.now, FOR_GOOD),
            state: LeaseState::Active,
        };
        outcome.change = Some(leases.commit(self.network, lease));
        let mut draft = Draft::bootp();
        draft.ciaddr = packet.ciaddr;
        draft.yiaddr = address;
        self.put_network(&mut draft, address);
        asking.put_boot(&mut draft, &file);
        let reply = asking.reply(&draft);
        outcome.fallback = is_stored.then(|| reply.clone());
        outcome.reply = Some(reply);
        asking.answered(outcome, &draft, self.rule(address, rule));
    }

    fn discover(&self, leases: &mut Leases, outcome: &mut Outcome) {
        let asking = self.asking;
        let address = match leases.propose(&self.seeker, asking.now) {
            Ok(address) => address,
            Err(NoAddress::NoPool) => {
                let why = format!("no reservation, and {} has no pool", named(self.network));
                return asking.ignore(outcome, why);
            }
            Err(NoAddress::Exhausted) => {
                if leases.tell_exhausted(asking.now) {
                    let subnet = named(self.network);
                    asking.say(outcome, What::PoolExhausted { subnet });
                }
                let why = format!("no free address in the pool of {}", named(self.network));
                return asking.ignore(outcome, why);
            }
            Err(NoAddress::Kept(kept)) => {
                let subnet = named(self.network);
                let why = format!("the last {kept} addresses of the pool of {subnet} are kept for machines on record");
                if leases.tell_exhausted(asking.now) {
                    asking.say(outcome, What::PoolKept { subnet, kept });
                }
                return asking.ignore(outcome, why);
            }
        };
        let Some((file, rule)) = self.boot(Some(address), outcome) else {
            return leases.drop_hold_of(self.seeker.mac);
        };
        let draft = self.granting(MessageType::Offer, address, self.lease_time(address), &file);
        outcome.reply = Some(asking.reply(&draft));
        asking.answered(outcome, &draft, self.rule(address, rule));
    }

    fn request(&self, leases: &mut Leases, outcome: &mut Outcome) {
        let (asking, packet) = (self.asking, self.asking.packet);
        let ciaddr = Some(packet.ciaddr).filter(|address| !address.is_unspecified());
        let stage = match (packet.server_id(), packet.requested_address(), ciaddr) {
            (Some(server), requested, _) if !asking.names_us(server) => {
                leases.drop_hold_of(self.seeker.mac);
                if asking.record.is_some() || leases.tell_foreign(asking.now) {
                    let offered = requested.or(ciaddr);
                    let (file, hardware) = (None, None);
                    asking.say(
                        outcome,
                        What::DhcpForeignServer {
                            server,
                            offered,
                            file,
                            hardware,
                        },
                    );
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
                let here = holds(self.network, address);
                let record = self
                    .seeker
                    .reserved
                    .or_else(|| leases.row_of(self.seeker.mac, self.network).map(|row| row.address));
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
            let why = if holds(self.network, address) {
                format!("{address} is not this machine's")
            } else {
                format!("{address} is not on {}", named(self.network))
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
        let time = self.lease_time(address);
        let client_id = match (&asking.record, leases.row(address)) {
            // Firmware has not the identifier by which the address was found; the row goes on to say whose it is.
            (Some(record), Some(row)) if record.by == By::Lease => row.client_id.clone(),
            _ => packet.option(code::CLIENT_ID).unwrap_or_default().to_vec(),
        };
        let lease = Lease {
            address,
            mac: self.seeker.mac,
            client_id,
            hostname: packet.hostname(),
            granted: asking.now,
            expires: expiry(asking.now, time),
            state: LeaseState::Active,
        };
        outcome.change = Some(leases.commit(self.network, lease));
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
        let mut draft = Draft::new(MessageType::Nak, asking.identifier);
        draft.put(code::MESSAGE, why.as_bytes());
        asking.put_client_id(&mut draft);
        outcome.reply = Some(asking.reply(&draft));
        asking.answered(outcome, &draft, why.to_owned());
    }

    /// RFC 2131 section 4.3.3. Whoever can send a packet can send this one in another machine's name, so it counts only where a client
    /// that tries its new address out can have sent it: soon after the ACK, and of exactly that lease.
    fn decline(&self, leases: &mut Leases, outcome: &mut Outcome) {
        let (asking, packet) = (self.asking, self.asking.packet);
        if let Err(why) = self.names_us() {
            return asking.ignore(outcome, why);
        }
        let Some(address) = packet.requested_address() else {
            return asking.ignore(outcome, "it names no address (option 50)");
        };
        let Some(row) = leases
            .row(address)
            .filter(|row| row.mac == self.seeker.mac && row.state == LeaseState::Active)
        else {
            return asking.ignore(outcome, format!("{address} is not one that we gave this machine"));
        };
        let age = asking.now.since(row.granted);
        if age > DECLINABLE {
            let why = format!(
                "our ACK of {address} is {} s old; a client finds out within {} s that an address is in use",
                age.as_secs(),
                DECLINABLE.as_secs()
            );
            return asking.ignore(outcome, why);
        }
        if let Some(change) = leases.quarantine(address, self.seeker.mac, asking.now) {
            outcome.change = Some(change);
            asking.say(outcome, What::DhcpDeclined { address });
        }
    }

    /// RFC 2131 section 4.3.4. It has to come from the address that it gives back, or by a relay of that network: a packet in another
    /// machine's name would take that machine's address away.
    fn release(&self, leases: &mut Leases, outcome: &mut Outcome) {
        let (asking, packet) = (self.asking, self.asking.packet);
        let address = packet.ciaddr;
        if let Err(why) = self.names_us() {
            return asking.ignore(outcome, why);
        }
        if packet.giaddr.is_unspecified() && *packet.source.ip() != address {
            let why = format!("it gives {address} back, but comes from {}", packet.source.ip());
            return asking.ignore(outcome, why);
        }
        if !holds(self.network, address) {
            return asking.ignore(outcome, format!("{address} is not on {}", named(self.network)));
        }
        match leases.release(address, self.seeker.mac, asking.now) {
            Some(change) => {
                outcome.change = Some(change);
                asking.say(outcome, What::DhcpReleased { address });
            }
            None => asking.ignore(outcome, format!("{address} is not this machine's")),
        }
    }

    /// RFC 2131 table 5: DECLINE and RELEASE name the server.
    fn names_us(&self) -> Result<(), String> {
        match self.asking.packet.server_id() {
            Some(server) if self.asking.names_us(server) => Ok(()),
            Some(server) => Err(format!("it is meant for {server} (option 54)")),
            None => Err("it names no server (option 54)".to_owned()),
        }
    }

    /// RFC 2131 section 4.3.5: no address and no lease time in the answer, which goes to the client's address whoever sent the question on.
    fn inform(&self, outcome: &mut Outcome) {
        let (asking, address) = (self.asking, self.asking.packet.ciaddr);
        if address.is_unspecified() {
            return asking.ignore(outcome, "it does not say which address it has (ciaddr)");
        }
        if !holds(self.network, address) {
            return asking.ignore(outcome, format!("{address} is not on {}", named(self.network)));
        }
        if let Some((file, rule)) = self.boot(Some(address), outcome) {
            let mut draft = Draft::new(MessageType::Ack, asking.identifier);
            draft.ciaddr = address;
            draft.past_relay = true;
            self.put_network(&mut draft, address);
            asking.put_client_id(&mut draft);
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
        let mut draft = Draft::new(message, asking.identifier);
        draft.yiaddr = address;
        if message == MessageType::Ack {
            draft.ciaddr = asking.packet.ciaddr;
        }
        draft.put_u32(code::LEASE_TIME, seconds);
        // RFC 2131 section 4.4.5: T1 at half, T2 at seven eighths.
        draft.put_u32(code::RENEWAL, seconds / 2);
        draft.put_u32(code::REBINDING, seconds.saturating_sub(seconds / 8));
        self.put_network(&mut draft, address);
        asking.put_client_id(&mut draft);
        asking.put_boot(&mut draft, file);
        if matches!(asking.packet.client(), Client::Ipxe(_)) {
            // 175.176 = no-pxedhcp: no other server has a say here, and waiting for one costs iPXE three seconds.
            draft.put(code::IPXE, [176, 1, 1]);
        }
        draft
    }

    /// What machines of the subnet of `address` are told, and the host name of who asks.
    fn put_network(&self, draft: &mut Draft, address: Ipv4Addr) {
        if let Some(subnet) = self.subnet_of(address) {
            draft.put(code::SUBNET_MASK, subnet.network.netmask().octets());
            draft.put(code::BROADCAST, subnet.network.broadcast().octets());
            draft.put_addresses(code::ROUTER, subnet.router.iter());
            draft.put_addresses(code::DNS, &subnet.dns);
            if let Some(domain) = &subnet.domain {
                draft.put(code::DOMAIN, domain.as_bytes());
            }
        }
        if let Some(record) = &self.asking.record
            && let Some(interface) = record.interface()
            && let Some(name) = record.system.hostname.as_ref().or(interface.dns_name.as_ref())
        {
            draft.put(code::HOSTNAME, name.as_str().as_bytes());
        }
    }

    /// The subnet's lease time, or less when the client asks for less.
    fn lease_time(&self, address: Ipv4Addr) -> Duration {
        let full = self.subnet_of(address).map_or(Duration::ZERO, |subnet| subnet.lease.0);
        let asked = self.asking.packet.lease_seconds().map(u64::from);
        asked.map_or(full, |asked| full.min(Duration::from_secs(asked.max(SHORTEST))))
    }

    fn rule(&self, address: Ipv4Addr, boot: String) -> String {
        let source = match &self.asking.record {
            Some(record) if self.seeker.reserved == Some(address) => match record.by {
                By::Mac => format!("reservation of {}", record.system.name),
                by => format!("reservation of {}, found {by}", record.system.name),
            },
            _ => format!(
                "pool of {}",
                self.subnet_of(address)
                    .map(|subnet| subnet.network.to_string())
                    .unwrap_or_default()
            ),
        };
        format!("{boot}; {source}")
    }
}

/// A lease of more was given for good.
const LONGEST: Duration = Duration::from_secs(0x7fff_ffff);

/// Option 51 carries 32 bits of seconds, of which all ones mean for ever; the row says the same.
const FOR_GOOD: Duration = Duration::from_secs(0xffff_ffff);

fn expiry(now: Timestamp, time: Duration) -> Timestamp {
    now.plus(time.min(FOR_GOOD))
}
