//! Router advertisements that say "there is no router here": iPXE waits 16 s for an IPv6 router on every boot, and 0.05 s after this.
//!
//! The advertisement has lifetime 0 and no options (RFC 4861 section 4.2): it gives no gateway, no prefix and no address, so it
//! changes nothing for anybody who already has IPv6. It is sent only on links whose subnet says `router-advertisements = "on"`.
#![expect(clippy::disallowed_methods, reason = "moves packets through a raw ICMPv6 socket")]

use super::Link;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read as _};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// All nodes (RFC 4291 section 2.7.1): who hears the advertisement.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers: who is asked for one.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// ICMPv6 type of a router solicitation.
const SOLICITATION: u8 = 133;
/// ICMPv6 router advertisement, hop limit unspecified, no flags, router lifetime 0, timers unspecified. The kernel fills the checksum.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// How often it is sent unasked.
const PERIOD: Duration = Duration::from_secs(200);

/// Listens for solicitations on a link and answers them.
#[derive(Debug)]
pub struct Advertiser {
    socket: AsyncFd<Socket>,
    to: SockAddr,
}

impl Advertiser {
    /// Opens the raw socket on `link`. Must run inside the runtime.
    ///
    /// # Errors
    /// What the kernel says: no CAP_NET_RAW, or no IPv6 on that link.
    pub fn bind(link: &Link) -> io::Result<Self> {
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
        let to = SocketAddrV6::new(ALL_NODES, 0, 0, link.index).into();
        Ok(Self { socket, to })
    }

    /// Answers until `shutdown` turns true.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut unasked = interval(PERIOD);
        unasked.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = unasked.tick() => self.advertise(),
                asked = self.solicited() => if asked { self.advertise() },
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn solicited(&self) -> bool {
        let mut bytes = [0_u8; 1500];
        let Ok(mut ready) = self.socket.readable().await else {
            return false;
        };
        match ready.try_io(|socket| socket.get_ref().read(&mut bytes)) {
            Ok(Ok(length)) => length > 0 && bytes.first() == Some(&SOLICITATION),
            _ => false,
        }
    }

    fn advertise(&self) {
        // A link without carrier or address refuses; the next period, or the next solicitation, tries again.
        if let Err(error) = self.socket.get_ref().send_to(&ADVERTISEMENT, &self.to) {
            tracing::debug!("router advertisement not sent: {error}");
        }
    }
}
