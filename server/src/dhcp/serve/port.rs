//! One DHCP port of one interface: a UDP socket, or, where another server of this host has the port, the packets of the link itself.
//!
//! Either way it takes what is for this host and sends from the same port; nobody beyond this file knows the difference.
#![allow(clippy::disallowed_methods, reason = "IO: the sockets of one port")]

use super::capture::{Capture, datagram};
use super::socket::{self, Batch, Raw, RawIp, Udp};
use crate::config::{Config, DhcpListen, DhcpMode};
use crate::dhcp::{Link, Reply};
use arc_swap::ArcSwap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;

/// One port, bound.
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) link: Arc<ArcSwap<Link>>,
    way: Way,
}

enum Way {
    /// The kernel gives us what comes to the port.
    Udp { udp: Udp, ready: UdpSocket },
    /// The port is another server's, or the admin wants it so.
    Packet {
        capture: AsyncFd<Capture>,
        out: RawIp,
        /// Where nobody has the port, somebody must, or the kernel tells clients that it is closed. Never read.
        _deaf: Option<Udp>,
    },
}

impl Port {
    /// Binds port `number` of the interface in the way that `config` says.
    pub(super) fn bind(link: Arc<ArcSwap<Link>>, number: u16, config: &Config) -> io::Result<Self> {
        let here = link.load_full();
        let udp = || -> io::Result<Way> {
            let udp = Udp::bind(&here.name, number)?;
            let ready = UdpSocket::from_std(udp.copy()?.into())?;
            Ok(Way::Udp { udp, ready })
        };
        let way = match config.dhcp_listen {
            DhcpListen::Udp => udp()?,
            DhcpListen::Packet => packets(&here, number)?,
            DhcpListen::Auto => match udp() {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && config.dhcp == DhcpMode::Proxy => {
                    tracing::info!(
                        "{}: another server of this host has UDP port {number}; packets are taken from the link, past it ([dhcp] listen = \"packet\")",
                        here.name
                    );
                    packets(&here, number)?
                }
                other => other?,
            },
        };
        Ok(Self { number, link, way })
    }

    /// Takes what waits; [`Port::read`] reads each.
    pub(super) async fn receive(&self, link: &Link, batch: &mut Batch) -> io::Result<()> {
        match &self.way {
            Way::Udp { udp, ready } => ready.async_io(Interest::READABLE, || udp.receive(link, batch)).await,
            Way::Packet { capture, .. } => {
                let take = |capture: &Capture| capture.receive(batch);
                capture.async_io(Interest::READABLE, take).await
            }
        }
    }

    /// The payload and source of one that was taken; none when it is not for this host.
    pub(super) fn read<'b>(
        &self,
        bytes: &'b [u8],
        source: SocketAddrV4,
        link: &Link,
    ) -> Option<(&'b [u8], SocketAddrV4)> {
        match &self.way {
            Way::Udp { .. } => Some((bytes, source)),
            Way::Packet { .. } => {
                let read = datagram(bytes)?;
                // The link also carries what this host only forwards, to another server behind it.
                let ours = |to: Ipv4Addr| {
                    to.is_broadcast()
                        || link
                            .addresses
                            .iter()
                            .any(|net| net.addr() == to || net.broadcast() == to)
                };
                ours(read.to).then_some((read.payload, read.source))
            }
        }
    }

    /// Sends `reply`.
    pub(super) fn send(&self, reply: &Reply, raw: Option<&Raw>, link: &Link) -> io::Result<()> {
        let from = SocketAddrV4::new(reply.source, self.number);
        let by_port = |to: SocketAddrV4| match &self.way {
            Way::Udp { udp, .. } => udp.send(&reply.bytes, to, reply.source, link),
            Way::Packet { out, .. } => out.send(&reply.bytes, to, from),
        };
        socket::send(reply, by_port, raw, link)
    }
}

fn packets(link: &Link, number: u16) -> io::Result<Way> {
    #[expect(
        unsafe_code,
        reason = "the caller's promise that the descriptor stays open; see SAFETY"
    )]
    // SAFETY: the `AsyncFd` owns the socket, never gives it away, and closes it only when it is dropped.
    let capture = unsafe { AsyncFd::register(Capture::udp(link, number)?)? };
    Ok(Way::Packet {
        capture,
        out: RawIp::open(&link.name)?,
        _deaf: Udp::bind(&link.name, number).ok(),
    })
}
