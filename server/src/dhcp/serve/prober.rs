//! Asks the wire who has the addresses that may be given next: ARP on the link (RFC 5227), ping through relays. No machine waits for it.
//!
//! It never asks for an address that somebody leases from us, asks for 32 at most at a time and subnet, and stops asking when its stock is full.
#![expect(
    clippy::disallowed_methods,
    reason = "opens sockets, keeps its rounds by the clock, and picks the identifier of its pings"
)]

use super::capture::Capture;
use super::socket::link_address;
use super::{Shared, count};
use crate::config::DhcpMode;
use crate::dhcp::Link;
use crate::dhcp::authoritative::is_spoken_for;
use crate::dhcp::leases::Found;
use crate::dhcp::stock::Heard;
use crate::event::{Event, What};
use crate::model::{Mac, Subnet, Timestamp};
use crate::ports::{Class, Commit, Live, LiveRow};
use arc_swap::ArcSwap;
use nix::libc;
use nix::sys::socket::{MsgFlags, sendto};
use pnet_packet::icmp;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::future::pending;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a round takes that has nothing to ask.
const PAUSE: Duration = Duration::from_secs(1);
/// When the second question follows the first: one may be lost.
const AGAIN: Duration = Duration::from_millis(400);
/// How long the answer to the second question is waited for.
const LAST: Duration = Duration::from_millis(600);

/// Keeps the stocks of the subnets on `link` for ever.
pub(super) async fn on_link(link: Arc<ArcSwap<Link>>, shared: Arc<Shared>) {
    if shared.worlds.world().config.dhcp != DhcpMode::Authoritative {
        return pending().await;
    }
    let wire = loop {
        let here = link.load_full();
        let wanted = |subnet: &Subnet| is_on(&here, subnet);
        match (here.mac, wanted_subnets(&shared, wanted).is_empty()) {
            (Some(mac), false) => match Arp::open(&here, mac) {
                Ok(wire) => break wire,
                Err(error) => {
                    let name = &here.name;
                    tracing::warn!(
                        "{name}: addresses are offered unprobed, for ARP cannot be heard ({error}; CAP_NET_RAW is missing)"
                    );
                    return pending().await;
                }
            },
            // An interface without hardware address has no ARP; the rest may come.
            _ => sleep(PAUSE).await,
        }
    };
    loop {
        let here = link.load_full();
        rounds(&shared, &here, &wire, |subnet| is_on(&here, subnet)).await;
    }
}

/// Keeps the stocks of the subnets behind relays for ever.
pub(super) async fn behind_relays(links: Vec<Arc<ArcSwap<Link>>>, shared: Arc<Shared>) {
    let remote = |subnet: &Subnet| !subnet.relays.is_empty() && !links.iter().any(|link| is_on(&link.load(), subnet));
    let authoritative = shared.worlds.world().config.dhcp == DhcpMode::Authoritative;
    let (Some(first), true) = (
        links.first(),
        authoritative && !wanted_subnets(&shared, remote).is_empty(),
    ) else {
        return pending().await;
    };
    let wire = match Ping::open() {
        Ok(wire) => wire,
        Err(error) => {
            tracing::warn!(
                "addresses behind relays are offered unprobed, for nobody can be pinged ({error}; CAP_NET_RAW is missing)"
            );
            return pending().await;
        }
    };
    loop {
        rounds(&shared, &first.load_full(), &wire, remote).await;
    }
}

fn is_on(link: &Link, subnet: &Subnet) -> bool {
    link.addresses.iter().any(|net| subnet.network.contains(&net.addr()))
}

fn wanted_subnets(shared: &Shared, wanted: impl Fn(&Subnet) -> bool) -> Vec<Subnet> {
    let config = shared.worlds.world().config;
    let subnets = config.subnets.iter();
    let probed = subnets.filter(|subnet| subnet.probe && subnet.pool.is_some() && wanted(subnet));
    probed.cloned().collect()
}

/// One round of each subnet, at least a second in all.
async fn rounds(shared: &Arc<Shared>, link: &Arc<Link>, wire: &impl Wire, wanted: impl Fn(&Subnet) -> bool) {
    let begun = Instant::now();
    for subnet in wanted_subnets(shared, wanted) {
        let plan = plan(shared, Arc::clone(link), subnet).await;
        if plan.is_empty() {
            continue;
        }
        let mut heard: BTreeMap<Ipv4Addr, Heard> = plan.into_iter().map(|address| (address, Heard::Nobody)).collect();
        for wait in [AGAIN, LAST] {
            // Silence after a question that did not leave, as on a link that is down, says nothing: such an address stays unprobed.
            heard.retain(|address, heard| {
                *heard != Heard::Nobody
                    || wire
                        .ask(*address, link)
                        .inspect(|()| count(&shared.counts.probes, 1))
                        .inspect_err(|error| tracing::debug!("{address} was not asked for: {error}"))
                        .is_ok()
            });
            let until = Instant::now().checked_add(wait).unwrap_or(begun);
            while let Ok((address, by)) = timeout_at(until, wire.answer()).await {
                if let Some(heard) = heard.get_mut(&address)
                    && by.is_none_or(|by| link.mac != Some(by))
                {
                    *heard = Heard::Somebody(by);
                }
            }
        }
        tell(shared, heard);
    }
    let took = Instant::now().saturating_duration_since(begun);
    sleep(PAUSE.saturating_sub(took)).await;
}

/// Asks the state task what is worth asking for.
async fn plan(shared: &Arc<Shared>, link: Arc<Link>, subnet: Subnet) -> Vec<Ipv4Addr> {
    let (tell, told) = oneshot::channel();
    let worlds = Arc::clone(&shared.worlds);
    let job = Box::new(move |live: &mut Live, now: Timestamp| {
        let world = worlds.world();
        let barred = |address| is_spoken_for(&world, &link, &[&subnet], address);
        // Whoever asked may be gone with its interface.
        drop(tell.send(live.leases.to_probe(&subnet, &barred, now)));
        Commit {
            rows: Vec::new(),
            undo: Vec::new(),
            then: Box::new(drop),
        }
    });
    shared.queue.submit(Class::Effect, shared.worlds.world().now, job);
    told.await.unwrap_or_default()
}

/// Tells the state task what was heard.
fn tell(shared: &Arc<Shared>, heard: BTreeMap<Ipv4Addr, Heard>) {
    let events = Arc::clone(&shared.events);
    let counts = Arc::clone(&shared.counts);
    let job = Box::new(move |live: &mut Live, now: Timestamp| {
        let (mut rows, mut undo, mut said) = (Vec::<LiveRow>::new(), Vec::new(), Vec::new());
        let mut for_all = None;
        for (address, heard) in heard {
            match live.leases.heard(address, heard, now) {
                Found::Nothing => {}
                Found::AnswersForAll(mac) => for_all = Some(mac),
                Found::InUse(change) => {
                    rows.extend(change.rows);
                    undo.extend(change.undo);
                    let by = match heard {
                        Heard::Somebody(by) => by,
                        Heard::Nobody => None,
                    };
                    said.push(What::AddressInUse { address, by });
                }
            }
        }
        if let Some(mac) = for_all {
            tracing::warn!(
                "{mac} answers ARP for more addresses than a machine has; it is not believed (proxy ARP? switch it off there, or set probe = \"off\")"
            );
        }
        let then = move |result: Result<(), _>| {
            if result.is_err() {
                return;
            }
            count(&counts.in_use, u64::try_from(said.len()).unwrap_or(0));
            for what in said {
                events.emit(Event {
                    at: now,
                    mac: None,
                    system: None,
                    peer: None,
                    what,
                });
            }
        };
        Commit {
            rows,
            undo,
            then: Box::new(then),
        }
    });
    shared.queue.submit(Class::Effect, shared.worlds.world().now, job);
}

/// A way to ask who has an address.
trait Wire {
    /// Asks once.
    fn ask(&self, address: Ipv4Addr, link: &Link) -> io::Result<()>;
    /// The next address that somebody has, and who.
    async fn answer(&self) -> (Ipv4Addr, Option<Mac>);
}

/// Waits for `fd` and reads from it until something is worth telling.
async fn next<T: AsRawFd, R>(fd: &AsyncFd<T>, mut read: impl FnMut(&T) -> io::Result<Option<R>>) -> R {
    loop {
        let Ok(mut ready) = fd.readable().await else {
            return pending().await;
        };
        match ready.try_io(|fd| read(fd.get_ref())) {
            Ok(Ok(Some(told))) => return told,
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => {
                tracing::debug!("probing: {error}");
                sleep(AGAIN).await;
            }
        }
    }
}

/// ARP on one link.
struct Arp {
    heard: AsyncFd<Capture>,
    own: Mac,
}

/// Ethernet, IPv4, lengths 6 and 4 (RFC 826).
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];

impl Arp {
    fn open(link: &Link, own: Mac) -> io::Result<Self> {
        #[expect(
            unsafe_code,
            reason = "the caller's promise that the descriptor stays open; see SAFETY"
        )]
        // SAFETY: the `AsyncFd` owns the socket, never gives it away, and closes it only when it is dropped.
        let heard = unsafe { AsyncFd::register(Capture::arp(link)?)? };
        Ok(Self { heard, own })
    }
}

impl Wire for Arp {
    fn ask(&self, address: Ipv4Addr, link: &Link) -> io::Result<()> {
        // RFC 5227 section 2.1.1: the sender's address is all zero, so that nobody's cache is changed by the question.
        let mut packet = ARP_HEAD.to_vec();
        packet.extend([0, 1]);
        packet.extend(self.own.bytes());
        packet.extend([0; 10]);
        packet.extend(address.octets());
        let everyone = link_address(link.index, Mac::new([0xff; 6]), libc::ETH_P_ARP)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        sendto(self.heard.as_raw_fd(), &packet, &everyone, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    async fn answer(&self) -> (Ipv4Addr, Option<Mac>) {
        let mut bytes = [0; 64];
        next(&self.heard, |heard| {
            let (length, _) = heard.receive_one(&mut bytes)?;
            Ok(bytes.get(..length).and_then(arp_holder))
        })
        .await
    }
}

/// Who says by this ARP packet, question or answer, that it has which address. A probe of somebody else says it too: it is about to take
/// the address (RFC 5227 section 2.1.1).
fn arp_holder(packet: &[u8]) -> Option<(Ipv4Addr, Option<Mac>)> {
    let (packet, _) = packet.split_first_chunk::<28>()?;
    let mac = Mac::new(packet.get(8..14)?.try_into().ok()?);
    let address = |at: usize| {
        Some(Ipv4Addr::from(
            <[u8; 4]>::try_from(packet.get(at..at.checked_add(4)?)?).ok()?,
        ))
    };
    let holder = Some(address(14)?)
        .filter(|sender| !sender.is_unspecified())
        .or_else(|| address(24))?;
    (packet.starts_with(&ARP_HEAD) && !mac.is_unusable()).then_some((holder, Some(mac)))
}

/// ICMP echo, through routers.
struct Ping {
    socket: AsyncFd<Socket>,
    id: [u8; 2],
}

impl Ping {
    fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(Protocol::ICMPV4))?;
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
        #[expect(
            unsafe_code,
            reason = "the caller's promise that the descriptor stays open; see SAFETY"
        )]
        // SAFETY: the `AsyncFd` owns the socket, never gives it away, and closes it only when it is dropped.
        let socket = unsafe { AsyncFd::register(socket)? };
        Ok(Self { socket, id })
    }
}

impl Wire for Ping {
    fn ask(&self, address: Ipv4Addr, _: &Link) -> io::Result<()> {
        let [a, b] = self.id;
        let mut packet = [8, 0, 0, 0, a, b, 0, 1];
        let checksum = icmp::IcmpPacket::new(&packet).map_or(0, |packet| icmp::checksum(&packet));
        let [high, low] = checksum.to_be_bytes();
        packet = [8, 0, high, low, a, b, 0, 1];
        self.socket
            .get_ref()
            .send_to(&packet, &SocketAddrV4::new(address, 0).into())?;
        Ok(())
    }

    async fn answer(&self) -> (Ipv4Addr, Option<Mac>) {
        let mut bytes = [0; 576];
        next(&self.socket, |mut socket| {
            let length = socket.read(&mut bytes)?;
            Ok(bytes.get(..length).and_then(|packet| echo(packet, self.id)))
        })
        .await
    }
}

/// Who answers our echo request with this IP packet.
fn echo(packet: &[u8], id: [u8; 2]) -> Option<(Ipv4Addr, Option<Mac>)> {
    let header = usize::from(packet.first()? & 0x0f).checked_mul(4)?;
    let source = <[u8; 4]>::try_from(packet.get(12..16)?).ok()?;
    let [0, 0, _, _, a, b, ..] = *packet.get(header..)? else {
        return None;
    };
    ([a, b] == id).then_some((source.into(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_a_question_and_a_probe_name_who_has_the_address() {
        let mut packet = ARP_HEAD.to_vec();
        packet.extend([0, 2, 2, 0, 0, 0, 0, 9, 192, 0, 2, 7]);
        packet.extend([2, 0, 0, 0, 0, 1, 192, 0, 2, 8]);
        let mac = Some(Mac::new([2, 0, 0, 0, 0, 9]));
        assert_eq!(arp_holder(&packet), Some((Ipv4Addr::new(192, 0, 2, 7), mac)));
        let mut probe = packet.clone();
        probe[14..18].fill(0);
        assert_eq!(arp_holder(&probe), Some((Ipv4Addr::new(192, 0, 2, 8), mac)));
        for length in 0..28 {
            assert_eq!(arp_holder(&packet[..length]), None);
        }
        packet[1] = 6;
        assert_eq!(arp_holder(&packet), None, "no Ethernet");
    }

    #[test]
    fn only_the_answer_to_our_own_ping_counts() {
        let mut packet = vec![0x45; 20];
        packet[12..16].copy_from_slice(&[192, 0, 2, 7]);
        packet.extend([0, 0, 1, 1, 7, 9, 0, 1]);
        assert_eq!(echo(&packet, [7, 9]), Some((Ipv4Addr::new(192, 0, 2, 7), None)));
        assert_eq!(echo(&packet, [7, 8]), None);
        packet[20] = 8;
        assert_eq!(echo(&packet, [7, 9]), None, "a question");
    }
}
