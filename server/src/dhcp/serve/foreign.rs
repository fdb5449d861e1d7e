//! Another DHCP server that appears while this one serves: heard when it speaks, and asked for now and then, so that it is named before
//! two machines have one address.
//!
//! Only where this server gives the addresses; a proxy stands beside another server by design and says nothing. It changes no state.
#![expect(
    clippy::disallowed_methods,
    reason = "opens a socket, looks at the interfaces of the host, and makes up a transaction number"
)]

use super::capture::{self, Capture};
use super::{Shared, links, probe};
use crate::config::DhcpMode;
use crate::dhcp::packet::{MessageType, Op, code, escaped};
use crate::dhcp::{CLIENT_PORT, Link, SERVER_PORT, wall};
use crate::event::{Event, What};
use crate::model::{Mac, Timestamp};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often others are asked for. A DISCOVER costs each of them an offer.
const PERIOD: Duration = Duration::from_secs(300);
/// How soon after a question the next may follow, when clients say that there is another server.
const AGAIN: Duration = Duration::from_secs(10);
/// How often the same server is told of.
const TOLD_AGAIN: Duration = Duration::from_secs(600);
/// Servers that are told apart; who invents more of them is no news.
const MOST: usize = 16;

/// Watches `link` for ever.
pub(super) async fn watch(link: Arc<ArcSwap<Link>>, shared: Arc<Shared>) {
    if shared.worlds.world().config.dhcp != DhcpMode::Authoritative {
        return pending().await;
    }
    let ears = match open(&link.load()) {
        Ok(ears) => ears,
        Err(error) => {
            let name = &link.load().name;
            tracing::warn!(
                "{name}: another DHCP server is noticed only by what clients say of it ({error}; CAP_NET_RAW is missing)"
            );
            return pending().await;
        }
    };
    let mut told = Told::default();
    let mut due = interval(PERIOD);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = due.tick() => {}
            () = shared.elsewhere.notified() => {
                let now = Instant::now();
                if asked.is_some_and(|asked| now.saturating_duration_since(asked) < AGAIN) {
                    continue;
                }
            }
            heard = hear(&ears) => {
                if let Some((what, server)) = heard {
                    let now = shared.worlds.world().now;
                    if told.is_news(server, now, || is_us(server, &shared)) {
                        shared.events.emit(Event { at: now, mac: None, system: None, peer: None, what });
                    }
                }
                continue;
            }
        }
        asked = Some(Instant::now());
        if let Err(error) = ask(&link.load(), &shared) {
            tracing::debug!("other DHCP servers were not asked for: {error}");
        }
    }
}

fn open(link: &Link) -> io::Result<AsyncFd<Capture>> {
    let capture = capture::servers(link)?;
    #[expect(
        unsafe_code,
        reason = "the caller's promise that the descriptor stays open; see SAFETY"
    )]
    // SAFETY: the `AsyncFd` owns the socket, never gives it away, and closes it only when it is dropped.
    let ears = unsafe { AsyncFd::register(capture)? };
    Ok(ears)
}

/// An address of this host: a relay repeats what we say ourselves.
fn is_us(server: Ipv4Addr, shared: &Shared) -> bool {
    let ours = |link: &Link| link.addresses.iter().any(|net| net.addr() == server);
    shared.worlds.world().config.address == Some(server) || links::every().iter().any(ours)
}

/// Sends a DISCOVER as this host's interface; who answers is heard.
fn ask(link: &Link, shared: &Shared) -> io::Result<()> {
    let (Some(mac), Some(raw)) = (link.mac, &shared.raw) else {
        return Ok(());
    };
    let mut xid = [0; 4];
    getrandom::fill(&mut xid).map_err(|error| io::Error::other(error.to_string()))?;
    let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
    let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
    raw.send(&probe::discover(mac, xid), everyone, Mac::new([0xff; 6]), nobody, link)
}

/// The next thing that some DHCP server said to a client: what to tell of it, and which server.
async fn hear(ears: &AsyncFd<Capture>) -> Option<(What, Ipv4Addr)> {
    let mut bytes = [0; 2048];
    let Ok(mut ready) = ears.readable().await else {
        return pending().await;
    };
    match ready.try_io(|ears| ears.get_ref().receive_one(&mut bytes)) {
        Ok(Ok((length, hardware))) => said(bytes.get(..length)?, hardware),
        Ok(Err(error)) => {
            tracing::debug!("listening for other DHCP servers: {error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
            None
        }
        Err(_) => None,
    }
}

/// What a packet says of a server that gives addresses.
fn said(packet: &[u8], hardware: Option<Mac>) -> Option<(What, Ipv4Addr)> {
    let capture::Datagram { source, payload, .. } = capture::datagram(packet)?;
    let packet = wall::parse(payload).ok()?;
    let gives = matches!(packet.message(), Some(MessageType::Offer | MessageType::Ack));
    // Without an address it is a proxy's, or the answer to INFORM.
    if packet.op != Op::Reply || !gives || packet.yiaddr.is_unspecified() || source.port() != SERVER_PORT {
        return None;
    }
    let server = packet.server_id().unwrap_or_else(|| *source.ip());
    let file = packet.option(code::BOOT_FILE).unwrap_or(&packet.file);
    let what = What::DhcpForeignServer {
        server,
        offered: Some(packet.yiaddr),
        file: Some(escaped(file)).filter(|file| !file.is_empty()),
        hardware,
    };
    Some((what, server))
}

/// Which servers were told of, and when.
#[derive(Debug, Default)]
struct Told(BTreeMap<Ipv4Addr, Timestamp>);

impl Told {
    /// `is_us` is asked last: it costs a look at the interfaces.
    fn is_news(&mut self, server: Ipv4Addr, now: Timestamp, is_us: impl FnOnce() -> bool) -> bool {
        self.0.retain(|_, told| now.since(*told) < TOLD_AGAIN);
        if self.0.contains_key(&server) || self.0.len() >= MOST || is_us() {
            return false;
        }
        self.0.insert(server, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_of_every_ten_minutes_and_a_liars_thousand_are_not() {
        let mut told = Told::default();
        let other = Ipv4Addr::new(192, 0, 2, 9);
        let news: Vec<bool> = [0, 1, 599_999, 600_000]
            .into_iter()
            .map(|at| told.is_news(other, Timestamp(at), || false))
            .collect();
        assert_eq!(news, [true, false, false, true]);
        let many = (0..1000).filter(|n| told.is_news(Ipv4Addr::from_bits(*n), Timestamp(600_001), || false));
        assert_eq!(many.count(), MOST - 1);
        assert!(!Told::default().is_news(other, Timestamp(0), || true), "our own");
    }

    #[test]
    fn only_who_gives_an_address_is_another_server() {
        let frame = |message: u8, yiaddr: u8, port: u8| {
            let mut dhcp = vec![0; 236];
            dhcp[..3].copy_from_slice(&[2, 1, 6]);
            dhcp[16..20].copy_from_slice(&[192, 0, 2, yiaddr]);
            if yiaddr == 0 {
                dhcp[16..20].fill(0);
            }
            dhcp.extend([99, 130, 83, 99, 53, 1, message, 54, 4, 192, 0, 2, 9, 255]);
            let (from, to) = (
                SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 8), port.into()),
                SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
            );
            super::super::socket::ip_packet(&dhcp, from, to).unwrap()
        };
        let mac = Some(Mac::new([2, 0, 0, 0, 0, 9]));
        let (what, server) = said(&frame(2, 50, 67), mac).unwrap();
        assert_eq!(server, Ipv4Addr::new(192, 0, 2, 9));
        assert!(what.to_string().contains("02:00:00:00:00:09"), "{what}");
        assert!(said(&frame(5, 50, 67), mac).is_some());
        for (message, yiaddr, port) in [(2, 0, 67), (6, 50, 67), (2, 50, 68)] {
            assert!(said(&frame(message, yiaddr, port), mac).is_none());
        }
    }
}
