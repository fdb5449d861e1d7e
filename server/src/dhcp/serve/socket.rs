//! The sockets of one interface: UDP for most, AF_PACKET for clients that have no address yet.
//!
//! Every call returns at once. The one `unsafe` block builds a link-layer address, for which neither nix nor socket2 has a safe constructor.

use crate::dhcp::{CLIENT_PORT, Destination, Link, Reply, SERVER_PORT};
use crate::model::Mac;
use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, RcvBufForce};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, LinkAddr, MsgFlags, MultiHeaders, RecvMsg, SockFlag, SockType,
    SockaddrIn, SockaddrLike, recvmmsg, sendmsg, sendto, setsockopt, socket,
};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, MutableIpv4Packet};
use pnet_packet::udp::{self, MutableUdpPacket};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Longer datagrams are no DHCP.
const LONGEST: usize = 4096;
/// Datagrams that are taken with one call of the kernel: in a flood the call costs more than the look at the packet.
const BATCH: usize = 64;
/// Room for a storm of some thousand DISCOVERs while a disk syncs; the kernel caps it without CAP_NET_ADMIN.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A UDP socket bound to one interface.
#[derive(Debug)]
pub(super) struct Udp(Socket);

/// Datagrams as they came in, in memory that is used again.
pub(super) struct Batch {
    room: Vec<Vec<u8>>,
    /// Of each datagram in the order of `room`: its length and source, unless it is none for us.
    got: Vec<Option<(usize, SocketAddrV4)>>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            room: vec![vec![0; LONGEST]; BATCH],
            got: Vec::with_capacity(BATCH),
        }
    }

    /// The datagrams with their sources; none for one that was not for this interface, or longer than any DHCP packet.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Option<(&[u8], SocketAddrV4)>> {
        self.room.iter().zip(&self.got).map(|(bytes, got)| {
            let (length, source) = (*got)?;
            Some((bytes.get(..length)?, source))
        })
    }

    /// Takes what waits on `socket`; `source` reads each message's source, and says none when it is not for us.
    pub(super) fn fill<S: SockaddrLike + Copy>(
        &mut self,
        socket: RawFd,
        control: Option<Vec<u8>>,
        source: impl Fn(&RecvMsg<'_, '_, S>) -> Option<SocketAddrV4>,
    ) -> io::Result<()> {
        self.got.clear();
        let mut headers = MultiHeaders::<S>::preallocate(BATCH, control);
        let mut parts: Vec<[IoSliceMut<'_>; 1]> = self.room.iter_mut().map(|bytes| [IoSliceMut::new(bytes)]).collect();
        let messages = recvmmsg(socket, &mut headers, &mut parts, MsgFlags::MSG_DONTWAIT, None)?;
        self.got.extend(messages.map(|message| {
            let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
            let source = source(&message).filter(|_| whole)?;
            Some((message.bytes, source))
        }));
        Ok(())
    }
}

impl Udp {
    /// Binds `port` on the interface `name`, for any address.
    pub(super) fn bind(name: &str, port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.bind_device(Some(name.as_bytes()))?;
        if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
        Ok(Self(socket))
    }

    /// The same socket under another descriptor, for the runtime to wait on.
    pub(super) fn copy(&self) -> io::Result<Socket> {
        self.0.try_clone()
    }

    /// Takes the datagrams that wait.
    pub(super) fn receive(&self, link: &Link, batch: &mut Batch) -> io::Result<()> {
        batch.fill::<SockaddrIn>(self.0.as_raw_fd(), Some(cmsg_space!(libc::in_pktinfo)), |message| {
            let here = message.cmsgs().ok()?.all(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => u32::try_from(info.ipi_ifindex) == Ok(link.index),
                _ => true,
            });
            message.address.filter(|_| here).map(SocketAddrV4::from)
        })
    }

    /// Sends `bytes` from our address `from` on `link`.
    pub(super) fn send(&self, bytes: &[u8], to: SocketAddrV4, from: Ipv4Addr, link: &Link) -> io::Result<()> {
        let ours = link.addresses.iter().any(|net| net.addr() == from);
        let info = libc::in_pktinfo {
            ipi_ifindex: i32::try_from(link.index).unwrap_or(0),
            ipi_spec_dst: libc::in_addr {
                s_addr: if ours { u32::from_ne_bytes(from.octets()) } else { 0 },
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        sendmsg(
            self.0.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn::from(to)),
        )?;
        Ok(())
    }
}

/// Sends whole IP packets, from a UDP port that another server of this host has. The kernel finds the way and the hardware address.
#[derive(Debug)]
pub(super) struct RawIp(Socket);

impl RawIp {
    /// Opens the socket on the interface `name`; it needs CAP_NET_RAW.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.set_broadcast(true)?;
        Ok(Self(socket))
    }

    /// Sends `bytes` as a UDP datagram.
    pub(super) fn send(&self, bytes: &[u8], to: SocketAddrV4, from: SocketAddrV4) -> io::Result<()> {
        let packet = ip_packet(bytes, from, to).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.0.send_to(&packet, &to.into())?;
        Ok(())
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends IP packets to a hardware address that has no IP address yet. Receives nothing.
#[derive(Debug)]
pub(super) struct Raw(OwnedFd);

impl Raw {
    /// Opens the socket; it needs CAP_NET_RAW. Protocol 0, so that the kernel queues no packet on it.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        Ok(Self(socket(AddressFamily::Packet, SockType::Datagram, flags, None)?))
    }

    /// Sends `bytes` in a frame to `mac`.
    pub(super) fn send(
        &self,
        bytes: &[u8],
        to: SocketAddrV4,
        mac: Mac,
        from: SocketAddrV4,
        link: &Link,
    ) -> io::Result<()> {
        let packet = ip_packet(bytes, from, to).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let address = link_address(link.index, mac, libc::ETH_P_IP)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        sendto(self.0.as_raw_fd(), &packet, &address, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

/// Sends `reply`, by `port` to whoever has an address. A client without one is reached by its hardware address, or by broadcast where
/// AF_PACKET is refused.
pub(super) fn send(
    reply: &Reply,
    port: impl Fn(SocketAddrV4) -> io::Result<()>,
    raw: Option<&Raw>,
    link: &Link,
) -> io::Result<()> {
    let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
    let broadcast = || port(everyone);
    match reply.destination {
        Destination::Relay(to) | Destination::Unicast(to) | Destination::ProxyUnicast(to) => port(to),
        Destination::Broadcast => broadcast(),
        Destination::Raw { mac, address } => match raw {
            Some(raw) => {
                let (to, from) = (
                    SocketAddrV4::new(address, CLIENT_PORT),
                    SocketAddrV4::new(reply.source, SERVER_PORT),
                );
                raw.send(&reply.bytes, to, mac, from, link).or_else(|_| broadcast())
            }
            None => broadcast(),
        },
    }
}

/// `payload` as a UDP datagram in an IP packet, with both checksums.
pub(super) fn ip_packet(payload: &[u8], from: SocketAddrV4, to: SocketAddrV4) -> Option<Vec<u8>> {
    let udp_length = payload.len().checked_add(MutableUdpPacket::minimum_packet_size())?;
    let length = udp_length.checked_add(MutableIpv4Packet::minimum_packet_size())?;
    let mut datagram = MutableUdpPacket::owned(vec![0; udp_length])?;
    datagram.set_source(from.port());
    datagram.set_destination(to.port());
    datagram.set_length(u16::try_from(udp_length).ok()?);
    datagram.set_payload(payload);
    let checksum = udp::ipv4_checksum(&datagram.to_immutable(), from.ip(), to.ip());
    datagram.set_checksum(checksum);
    let mut packet = MutableIpv4Packet::owned(vec![0; length])?;
    packet.set_version(4);
    packet.set_header_length(5);
    packet.set_total_length(u16::try_from(length).ok()?);
    packet.set_ttl(64);
    packet.set_next_level_protocol(IpNextHeaderProtocols::Udp);
    packet.set_source(*from.ip());
    packet.set_destination(*to.ip());
    packet.set_payload(pnet_packet::Packet::packet(&datagram));
    let checksum = ipv4::checksum(&packet.to_immutable());
    packet.set_checksum(checksum);
    Some(pnet_packet::Packet::packet(&packet).to_vec())
}

/// The link-layer address of `mac` on interface `index`, for packets of `protocol` (ETH_P_IP, ...).
pub(super) fn link_address(index: u32, mac: Mac, protocol: i32) -> Option<LinkAddr> {
    let [a, b, c, d, e, f] = mac.bytes();
    let raw = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).ok()?,
        sll_protocol: u16::try_from(protocol).ok()?.to_be(),
        sll_ifindex: i32::try_from(index).ok()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    };
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).ok()?;
    #[expect(unsafe_code, reason = "LinkAddr has no other constructor")]
    // SAFETY: `raw` is a whole, initialised sockaddr_ll of `length` bytes that outlives the call; `from_raw` copies it and checks the family.
    unsafe {
        LinkAddr::from_raw((&raw const raw).cast(), Some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnet_packet::Packet as _;
    use pnet_packet::ipv4::Ipv4Packet;
    use pnet_packet::udp::UdpPacket;

    #[test]
    fn a_built_packet_checks() {
        let (from, to) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 9));
        let port = SocketAddrV4::new;
        let bytes = ip_packet(&[7; 301], port(from, 67), port(to, 68)).unwrap();
        let ip = Ipv4Packet::new(&bytes).unwrap();
        assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
        let udp = UdpPacket::new(ip.payload()).unwrap();
        assert_eq!(udp.get_checksum(), udp::ipv4_checksum(&udp, &from, &to));
        assert_eq!((udp.get_source(), udp.get_destination()), (67, 68));
        assert_eq!(udp.payload(), [7; 301]);
    }

    #[test]
    fn a_link_address_names_interface_and_machine() {
        let address = link_address(3, Mac::new([2, 0, 0, 0, 0, 9]), libc::ETH_P_IP).unwrap();
        assert_eq!((address.ifindex(), address.addr()), (3, Some([2, 0, 0, 0, 0, 9])));
        assert_eq!(address.protocol(), u16::try_from(libc::ETH_P_IP).unwrap().to_be());
    }
}
