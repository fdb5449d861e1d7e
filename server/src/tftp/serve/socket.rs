//! Sockets: listeners that know which of our addresses was asked, and a connected one for each transfer that answers from it.
//!
//! ROMs on multi-homed servers drop answers that come from another address than the one they asked; so nothing here ever
//! lets the kernel choose a source.
#![expect(clippy::disallowed_methods, reason = "IO: opens, reads and writes UDP sockets")]

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, getsockopt, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdSocket};
use std::os::fd::AsRawFd;
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
///
/// It is connected, so the kernel itself turns strangers away (with ICMP's port unreachable) before they can cost anything. Who came in
/// the moment between bind and connect is told from the peer here.
#[derive(Debug)]
pub(super) struct Link {
    socket: StdSocket,
    peer: SocketAddrV4,
    /// False once the kernel refused to cut a burst.
    offload: bool,
    /// What the socket did not take, and the size of its datagrams.
    rest: Vec<u8>,
    rest_segment: usize,
}

/// What became of a datagram or a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// It left, or was lost as any datagram may be.
    Done,
    /// The kernel does not cut it.
    Refused,
    /// The socket takes no more for now.
    Full,
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
        Ok(Self {
            socket,
            peer,
            offload: true,
            rest: Vec::new(),
            rest_segment: 0,
        })
    }

    pub(super) const fn socket(&self) -> &StdSocket {
        &self.socket
    }

    /// The kernel's idea of the path's MTU, when it has one.
    pub(super) fn mtu(&self) -> Option<u16> {
        let mtu = getsockopt(&self.socket, sockopt::IpMtu).ok()?;
        u16::try_from(mtu).ok().or_else(|| (mtu > 0).then_some(u16::MAX))
    }

    /// Takes in one datagram if there is one.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Heard> {
        match self.socket.recv_from(buffer) {
            Ok((length, SocketAddr::V4(from))) if from != self.peer => Ok(Heard::Stranger(from, length)),
            Ok((length, _)) => Ok(Heard::Peer(length)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
                io::ErrorKind::ConnectionRefused => Ok(Heard::Closed),
                _ => Err(error),
            },
        }
    }

    /// Sends `datagram` to someone else than the peer, once.
    pub(super) fn tell_stranger(&self, stranger: SocketAddrV4, datagram: &[u8]) {
        if let Err(error) = self.socket.send_to(datagram, stranger) {
            tracing::debug!(%stranger, %error, "TFTP error not sent");
        }
    }

    /// True while the socket has not taken all that was sent.
    pub(super) const fn is_blocked(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Lets go of what the socket has not taken.
    pub(super) fn drop_unsent(&mut self) {
        self.rest.clear();
    }

    /// Sends what the socket did not take before.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(super) fn send_rest(&mut self) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let rest = std::mem::take(&mut self.rest);
        self.send(&rest, self.rest_segment)
    }

    /// Sends what stands in `burst`, `segment` bytes in each datagram, all but the last of equal size. The kernel cuts a burst itself
    /// where it can (UDP GSO): one call in place of up to 64. What the socket does not take is kept, and [`Self::is_blocked`] says so.
    ///
    /// # Errors
    /// `ConnectionRefused` when the peer's port is closed. Other failures are losses, which the transfer mends.
    pub(super) fn send(&mut self, burst: &[u8], segment: usize) -> io::Result<()> {
        let segment = segment.max(1);
        let mut left = burst;
        while !left.is_empty() {
            let most = if self.offload {
                segment.saturating_mul(SEGMENTS)
            } else {
                segment
            };
            let (part, after) = left.split_at_checked(most).unwrap_or((left, &[]));
            let sent = match u16::try_from(segment) {
                Ok(size) if part.len() > segment => self.send_segments(part, size),
                _ => self.socket.send(part).map(|_| Sent::Done),
            };
            match self.lost(sent)? {
                Sent::Done => left = after,
                // A driver without checksum offload (EIO), a tunnel or an old kernel (EINVAL): never again on this socket.
                Sent::Refused => self.offload = false,
                Sent::Full => {
                    self.rest.clear();
                    self.rest.extend_from_slice(left);
                    self.rest_segment = segment;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn send_segments(&self, part: &[u8], segment: u16) -> io::Result<Sent> {
        let sent = sendmsg::<SockaddrIn>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(part)],
            &[ControlMessage::UdpGsoSegments(&segment)],
            MsgFlags::empty(),
            None,
        );
        match sent {
            Ok(_) => Ok(Sent::Done),
            Err(Errno::EIO | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT | Errno::EMSGSIZE) => {
                Ok(Sent::Refused)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells a closed port and a full socket from a loss.
    fn lost(&self, sent: io::Result<Sent>) -> io::Result<Sent> {
        sent.or_else(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => Err(error),
            io::ErrorKind::WouldBlock => Ok(Sent::Full),
            _ => {
                tracing::debug!(peer = %self.peer, %error, "TFTP datagram not sent");
                Ok(Sent::Done)
            }
        })
    }
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

    #[test]
    fn a_burst_arrives_in_the_same_pieces_with_and_without_offload() {
        let burst: Vec<u8> = (0..516 * 70 + 9).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for offload in [true, false] {
            let (mut link, peer) = pair();
            link.offload = offload;
            link.send(&burst, 516).unwrap();
            let datagrams = received(&peer, burst.len());
            let expected: Vec<&[u8]> = burst.chunks(516).collect();
            assert_eq!(datagrams, expected, "offload {offload}");
        }
    }

    #[test]
    fn what_the_kernel_cannot_cut_is_sent_piece_by_piece() {
        let (mut link, peer) = pair();
        // More than a datagram can hold: refused as a whole, and each piece is fine.
        let burst = vec![7_u8; 1500 * 50];
        link.send(&burst, 1500).unwrap();
        assert!(!link.offload, "it is not tried again");
        assert_eq!(received(&peer, burst.len()).len(), 50);
    }

    #[test]
    fn what_a_full_socket_does_not_take_is_kept_and_leaves_later() {
        let (mut link, peer) = pair();
        let full = link.lost(Err(io::ErrorKind::WouldBlock.into())).unwrap();
        assert_eq!(full, Sent::Full);
        link.rest = vec![9; 1000];
        link.rest_segment = 400;
        assert!(link.is_blocked());
        link.send_rest().unwrap();
        assert!(!link.is_blocked());
        let lengths: Vec<usize> = received(&peer, 1000).iter().map(Vec::len).collect();
        assert_eq!(lengths, [400, 400, 200]);
        let gone = link.lost(Err(io::ErrorKind::ConnectionRefused.into()));
        assert!(gone.is_err());
        assert_eq!(
            link.lost(Err(io::ErrorKind::HostUnreachable.into())).unwrap(),
            Sent::Done
        );
    }
}
