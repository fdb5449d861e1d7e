//! Sockets: listeners that know which of our addresses was asked, and a connected one for each transfer that answers from it.
//!
//! ROMs on multi-homed servers drop answers that come from another address than the one they asked; so nothing here ever
//! lets the kernel choose a source.
#![expect(clippy::disallowed_methods, reason = "IO: opens, reads and writes UDP sockets")]

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, getsockopt, recvfrom, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Longer datagrams are no requests: RFC 2347 allows 512 bytes.
const LONGEST: usize = 2048;
/// A thousand requests at once, when a rack is switched on.
const QUEUE: usize = 1 << 20;
/// Datagrams that the kernel cuts from one buffer (`UDP_MAX_SEGMENTS` of the kernels before 6.9).
const SEGMENTS: usize = 64;

/// A socket at the well-known port.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UdpSocket,
    address: SocketAddrV4,
}

/// A datagram, who sent it, and which of our addresses he asked.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) peer: SocketAddrV4,
    pub(super) local: Ipv4Addr,
    pub(super) bytes: Vec<u8>,
}

impl Listener {
    pub(super) fn bind(address: SocketAddrV4) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        if let Err(error) = socket.set_recv_buffer_size(QUEUE) {
            tracing::debug!(%error, "the TFTP listener keeps the default queue");
        }
        socket.bind(&SocketAddr::V4(address).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let address = match socket.local_addr()? {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => address,
        };
        Ok(Self { socket, address })
    }

    pub(super) const fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// The next datagram that was sent to one of our own addresses; what went to a broadcast address is no request (RFC 1123
    /// section 4.2.3.5).
    pub(super) async fn receive(&self) -> io::Result<Received> {
        loop {
            self.socket.readable().await?;
            match self.socket.try_io(Interest::READABLE, || self.receive_now()) {
                Ok(Some(received)) => return Ok(received),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn receive_now(&self) -> io::Result<Option<Received>> {
        let mut buffer = [0_u8; LONGEST];
        let mut control = cmsg_space!(libc::in_pktinfo);
        let (length, peer, info) = {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let message = recvmsg::<SockaddrIn>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::empty(),
            )?;
            if message.flags.contains(MsgFlags::MSG_TRUNC) {
                return Ok(None);
            }
            let info = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
                _ => None,
            });
            (message.bytes, message.address, info)
        };
        let (Some(peer), Some(info)) = (peer, info) else {
            return Ok(None);
        };
        let asked = Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr));
        let own = Ipv4Addr::from_bits(u32::from_be(info.ipi_spec_dst.s_addr));
        // For a broadcast the two differ: the first is where it went, the second the address we would answer from.
        if asked != own {
            return Ok(None);
        }
        Ok(Some(Received {
            peer: peer.into(),
            local: own,
            bytes: buffer.get(..length).unwrap_or(&[]).to_vec(),
        }))
    }
}

/// Sends one datagram from any port of `local`. It is not tried again: the peer repeats its request.
pub(super) fn send_once(local: Ipv4Addr, peer: SocketAddrV4, datagram: &[u8]) -> io::Result<()> {
    let socket = StdSocket::bind((local, 0))?;
    socket.set_nonblocking(true)?;
    socket.send_to(datagram, peer).map(|_| ())
}

/// The socket of one transfer: from the address that was asked to the port that asked, and to no other.
#[derive(Debug)]
pub(super) struct Link {
    socket: UdpSocket,
    peer: SocketAddrV4,
    /// False once the kernel refused to cut a burst.
    offload: AtomicBool,
}

/// What became of a burst.
enum Sent {
    /// It left, or was lost as any datagram may be.
    Done,
    /// The kernel does not cut it.
    Refused,
}

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// So many bytes from the peer.
    Peer(usize),
    /// So many bytes from a stranger, who reached the port before it was connected.
    Stranger(SocketAddrV4, usize),
    /// Nothing more for now.
    Nothing,
    /// The peer's port is closed.
    Closed,
}

impl Link {
    pub(super) fn open(local: Ipv4Addr, peer: SocketAddrV4) -> io::Result<Self> {
        let socket = StdSocket::bind((local, 0))?;
        socket.connect(peer)?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self {
            socket,
            peer,
            offload: AtomicBool::new(true),
        })
    }

    /// The kernel's idea of the path's MTU, when it has one.
    pub(super) fn mtu(&self) -> Option<u16> {
        let mtu = getsockopt(&self.socket, sockopt::IpMtu).ok()?;
        u16::try_from(mtu).ok().or_else(|| (mtu > 0).then_some(u16::MAX))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes in one datagram if there is one. `eager` asks the kernel even when the runtime knows of nothing: a request of the peer
    /// that came to the listener must never overtake what the peer sent here before it.
    pub(super) fn receive(&self, buffer: &mut [u8], eager: bool) -> io::Result<Heard> {
        let mut direct = || -> io::Result<(usize, Option<SockaddrIn>)> {
            Ok(recvfrom::<SockaddrIn>(self.socket.as_raw_fd(), buffer)?)
        };
        let mut heard = if eager { direct() } else { Err(Errno::EAGAIN.into()) };
        if matches!(&heard, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            heard = self.socket.try_io(Interest::READABLE, direct);
        }
        match heard {
            Ok((length, Some(from))) if SocketAddrV4::from(from) == self.peer => Ok(Heard::Peer(length)),
            Ok((length, Some(from))) => Ok(Heard::Stranger(from.into(), length)),
            Ok((length, None)) => Ok(Heard::Peer(length)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
                io::ErrorKind::ConnectionRefused => Ok(Heard::Closed),
                _ => Err(error),
            },
        }
    }

    /// Sends `datagram` to someone else than the peer, once.
    pub(super) fn tell_stranger(&self, stranger: SocketAddrV4, datagram: &[u8]) {
        if let Err(error) = self.socket.try_send_to(datagram, SocketAddr::V4(stranger)) {
            tracing::debug!(%stranger, %error, "TFTP error not sent");
        }
    }

    /// Sends what stands in `burst`, `segment` bytes in each datagram, all but the last of equal size. The kernel cuts a burst itself
    /// where it can (UDP GSO): one call in place of up to 64.
    ///
    /// # Errors
    /// `ConnectionRefused` when the peer's port is closed. Other failures are losses, which the transfer mends.
    pub(super) async fn send(&self, burst: &[u8], segment: usize) -> io::Result<()> {
        let segment = segment.max(1);
        let size = u16::try_from(segment).ok();
        for part in burst.chunks(segment.saturating_mul(SEGMENTS)) {
            match size.filter(|_| part.len() > segment && self.offload.load(Ordering::Relaxed)) {
                Some(size) => match self.lost(self.send_segments(part, size).await)? {
                    Sent::Done => {}
                    Sent::Refused => {
                        // A driver without checksum offload (EIO), a tunnel or an old kernel (EINVAL): never again on this socket.
                        self.offload.store(false, Ordering::Relaxed);
                        self.send_each(part, segment).await?;
                    }
                },
                None => self.send_each(part, segment).await?,
            }
        }
        Ok(())
    }

    async fn send_each(&self, part: &[u8], segment: usize) -> io::Result<()> {
        for datagram in part.chunks(segment) {
            let sent = self.socket.send(datagram).await;
            self.lost(sent.map(|_| Sent::Done))?;
        }
        Ok(())
    }

    async fn send_segments(&self, part: &[u8], segment: u16) -> io::Result<Sent> {
        let send = || -> io::Result<usize> {
            Ok(sendmsg::<SockaddrIn>(
                self.socket.as_raw_fd(),
                &[IoSlice::new(part)],
                &[ControlMessage::UdpGsoSegments(&segment)],
                MsgFlags::MSG_DONTWAIT,
                None,
            )?)
        };
        match self.socket.async_io(Interest::WRITABLE, send).await {
            Ok(_) => Ok(Sent::Done),
            Err(error) if refuses_offload(&error) => Ok(Sent::Refused),
            Err(error) => Err(error),
        }
    }

    /// Tells a closed port from a loss.
    fn lost(&self, sent: io::Result<Sent>) -> io::Result<Sent> {
        sent.or_else(|error| {
            if error.kind() == io::ErrorKind::ConnectionRefused {
                return Err(error);
            }
            tracing::debug!(peer = %self.peer, %error, "TFTP datagram not sent");
            Ok(Sent::Done)
        })
    }
}

/// What the kernel says when it cannot cut a burst.
fn refuses_offload(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EIO | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT | Errno::EMSGSIZE)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Link, StdSocket) {
        let peer = StdSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        peer.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let SocketAddr::V4(address) = peer.local_addr().unwrap() else {
            panic!("an IPv4 socket has an IPv4 address");
        };
        (Link::open(Ipv4Addr::LOCALHOST, address).unwrap(), peer)
    }

    fn received(peer: &StdSocket, wanted: usize) -> Vec<Vec<u8>> {
        let mut buffer = [0_u8; 2048];
        let mut datagrams: Vec<Vec<u8>> = Vec::new();
        while datagrams.iter().map(Vec::len).sum::<usize>() < wanted {
            let length = peer.recv(&mut buffer).unwrap();
            datagrams.push(buffer[..length].to_vec());
        }
        datagrams
    }

    #[tokio::test]
    async fn a_burst_arrives_in_the_same_pieces_with_and_without_offload() {
        let burst: Vec<u8> = (0..516 * 70 + 9).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for offload in [true, false] {
            let (link, peer) = pair();
            link.offload.store(offload, Ordering::Relaxed);
            link.send(&burst, 516).await.unwrap();
            let datagrams = received(&peer, burst.len());
            let expected: Vec<&[u8]> = burst.chunks(516).collect();
            assert_eq!(datagrams, expected, "offload {offload}");
        }
    }

    #[tokio::test]
    async fn what_the_kernel_cannot_cut_is_sent_piece_by_piece() {
        let (link, peer) = pair();
        // More than a datagram can hold: refused as a whole, and each piece is fine.
        let burst = vec![7_u8; 1500 * 50];
        link.send(&burst, 1500).await.unwrap();
        assert!(!link.offload.load(Ordering::Relaxed), "it is not tried again");
        assert_eq!(received(&peer, burst.len()).len(), 50);
        let unlike = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(refuses_offload(&Errno::EIO.into()) && !refuses_offload(&unlike));
    }
}
