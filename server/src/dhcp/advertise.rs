//! Router advertisements that say "there is no router here": iPXE waits 16 s for an IPv6 router on every boot, and 0.05 s after this.
//!
//! The advertisement has lifetime 0 and no options (RFC 4861 section 4.2): it gives no gateway, no prefix and no address, so it
//! changes nothing for anybody who already has IPv6. Unless the configuration insists, it is not sent while a router advertises itself
//! on the link, nor by a host that forwards IPv6 there: the router's own advertisements could carry the same source address, and then
//! "no router" would take it out of everybody's table.
#![expect(
    clippy::disallowed_methods,
    reason = "moves packets through a raw ICMPv6 socket, and looks whether the host forwards IPv6"
)]

use super::Link;
use nix::sys::socket::{SockaddrIn6, recvfrom};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// All nodes (RFC 4291 section 2.7.1): who hears the advertisement.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers: who is asked for one.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// ICMPv6 router solicitation without options (RFC 4861 section 4.1). The kernel fills the checksum.
const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
/// ICMPv6 router advertisement, hop limit unspecified, no flags, router lifetime 0, timers unspecified.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// How often it is sent unasked.
const PERIOD: Duration = Duration::from_secs(200);
/// A router answers a solicitation within half a second (RFC 4861 section 6.2.6); so long nothing is sent unasked.
const ANSWERED: Duration = Duration::from_secs(1);

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// Somebody looks for a router.
    Solicitation,
    /// Somebody is one for so long; zero: he is none any more.
    Router(Duration),
    /// Something else.
    Other,
}

impl Heard {
    /// Reads an ICMPv6 message, of which the kernel has judged the checksum.
    fn read(message: &[u8]) -> Self {
        match message {
            [133, 0, ..] => Self::Solicitation,
            [134, 0, _, _, _, _, high, low, ..] => {
                Self::Router(Duration::from_secs(u16::from_be_bytes([*high, *low]).into()))
            }
            _ => Self::Other,
        }
    }
}

/// A router that advertises itself, and until when.
#[derive(Debug, Clone, Copy, Default)]
struct Routers {
    known: Option<(Ipv6Addr, Instant)>,
}

impl Routers {
    /// Takes in an advertisement. True when the router is new here.
    fn heard(&mut self, router: Ipv6Addr, lifetime: Duration, now: Instant) -> bool {
        let is_known = self.known.is_some_and(|(known, until)| known == router && until > now);
        if lifetime.is_zero() {
            if is_known {
                self.known = None;
            }
            return false;
        }
        let is_new = !self.any(now);
        if is_known || is_new {
            self.known = now.checked_add(lifetime).map(|until| (router, until));
        }
        is_new
    }

    fn any(&self, now: Instant) -> bool {
        self.known.is_some_and(|(_, until)| until > now)
    }
}

/// Listens for solicitations on a link and answers them.
#[derive(Debug)]
pub struct Advertiser {
    socket: AsyncFd<Socket>,
    link: Link,
    insists: bool,
    routers: Routers,
}

impl Advertiser {
    /// Opens the raw socket on `link`. Must run inside the runtime. Who insists advertises beside a router too.
    ///
    /// # Errors
    /// What the kernel says: no CAP_NET_RAW, or no IPv6 on that link. That this host may be a router itself, unless `insists`.
    pub fn bind(link: &Link, insists: bool) -> io::Result<Self> {
        let forwards = std::fs::read(format!("/proc/sys/net/ipv6/conf/{}/forwarding", link.name));
        if !insists && forwards.is_ok_and(|set| set.first() == Some(&b'1')) {
            return Err(io::Error::other(
                "this host forwards IPv6 there and may be a router (router_advertisements = \"on\" sends them all the same)",
            ));
        }
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.bind_device(Some(link.name.as_bytes()))?;
        // RFC 4861 section 6.1.2: an advertisement that crossed a router, hop limit below 255, is ignored.
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_loop_v6(false)?;
        socket.join_multicast_v6(&ALL_ROUTERS, link.index)?;
        socket.set_nonblocking(true)?;
        #[expect(
            unsafe_code,
            reason = "the caller's promise that the descriptor stays open; see SAFETY"
        )]
        // SAFETY: the `AsyncFd` owns the socket, never gives it away, and closes it only when it is dropped.
        let socket = unsafe { AsyncFd::register(socket)? };
        Ok(Self {
            socket,
            link: link.clone(),
            insists,
            routers: Routers::default(),
        })
    }

    /// Answers until `shutdown` turns true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let begin = if self.insists {
            Instant::now()
        } else {
            self.send(&SOLICITATION, ALL_ROUTERS);
            Instant::now().checked_add(ANSWERED).unwrap_or_else(Instant::now)
        };
        let mut unasked = interval_at(begin, PERIOD);
        unasked.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = unasked.tick() => self.advertise(),
                (heard, from) = self.hear() => match heard {
                    Heard::Solicitation => self.advertise(),
                    Heard::Router(lifetime) => self.beside(from, lifetime),
                    Heard::Other => {}
                },
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// A router advertised itself.
    fn beside(&mut self, router: Ipv6Addr, lifetime: Duration) {
        if self.routers.heard(router, lifetime, Instant::now()) && !self.insists {
            tracing::info!(
                "{router} is an IPv6 router on {}: iPXE finds it, and is told nothing by us",
                self.link.name
            );
        }
    }

    async fn hear(&self) -> (Heard, Ipv6Addr) {
        let nothing = (Heard::Other, Ipv6Addr::UNSPECIFIED);
        let mut bytes = [0_u8; 1500];
        let Ok(mut ready) = self.socket.readable().await else {
            return nothing;
        };
        let received = ready.try_io(|socket| Ok(recvfrom::<SockaddrIn6>(socket.as_raw_fd(), &mut bytes)?));
        match received {
            Ok(Ok((length, from))) => {
                let from = from.map_or(Ipv6Addr::UNSPECIFIED, |from| from.ip());
                (Heard::read(bytes.get(..length).unwrap_or(&[])), from)
            }
            _ => nothing,
        }
    }

    fn advertise(&self) {
        if self.insists || !self.routers.any(Instant::now()) {
            self.send(&ADVERTISEMENT, ALL_NODES);
        }
    }

    fn send(&self, message: &[u8], to: Ipv6Addr) {
        let to: SockAddr = SocketAddrV6::new(to, 0, 0, self.link.index).into();
        // A link without carrier or address refuses; the next period, or the next solicitation, tries again.
        if let Err(error) = self.socket.get_ref().send_to(message, &to) {
            tracing::debug!("router advertisement not sent: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_silences_us_while_it_says_that_it_is_one() {
        let (now, one) = (Instant::now(), "fe80::1".parse().unwrap());
        let second = |count| now + Duration::from_secs(count);
        let mut routers = Routers::default();
        assert!(!routers.any(now));
        assert!(!routers.heard(one, Duration::ZERO, now), "our own like is no router");
        assert!(routers.heard(one, Duration::from_secs(30), now));
        assert!(!routers.heard(one, Duration::from_secs(30), second(10)), "told once");
        assert!(routers.any(second(39)) && !routers.any(second(40)));
        assert!(routers.heard(one, Duration::from_secs(30), second(50)), "it came back");
        routers.heard("fe80::2".parse().unwrap(), Duration::ZERO, second(51));
        assert!(routers.any(second(51)));
        routers.heard(one, Duration::ZERO, second(52));
        assert!(!routers.any(second(52)), "it said goodbye");
    }

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(Heard::read(&SOLICITATION), Heard::Solicitation);
        assert_eq!(Heard::read(&ADVERTISEMENT), Heard::Router(Duration::ZERO));
        let mut real = ADVERTISEMENT;
        real[6] = 7;
        real[7] = 8;
        assert_eq!(Heard::read(&real), Heard::Router(Duration::from_secs(1800)));
        for other in [&[][..], &[134], &[134, 0, 0, 0, 0, 0, 7], &[135, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Heard::read(other), Heard::Other);
        }
    }
}
