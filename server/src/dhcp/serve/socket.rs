//! The sockets of one interface: UDP for most, AF_PACKET for clients that have no address yet.
//!
//! Every call returns at once. The one `unsafe` block builds a link-layer address, for which neither nix nor socket2 has a safe constructor.

use crate::dhcp::{CLIENT_PORT, Destination, Link, Reply, SERVER_PORT};
use crate::model::Mac;
use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrIn,
    SockaddrLike, recvmsg, sendmsg, sendto, setsockopt, socket,
};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, MutableIpv4Packet};
use pnet_packet::udp::{self, MutableUdpPacket};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Longer datagrams are no DHCP.
const LONGEST: usize = 4096;
/// Room for a storm of some thousand DISCOVERs while a disk syncs; the kernel caps it.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A UDP socket bound to one interface.
#[derive(Debug)]
pub(super) struct Udp(Socket);

/// A datagram as it came in.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) source: SocketAddrV4,
}

impl Udp {
    /// Binds `port` on the interface `name`, for any address.
    pub(super) fn bind(name: &str, port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
        Ok(Self(socket))
    }

    /// The same socket under another descriptor, for the runtime to wait on.
    pub(super) fn copy(&self) -> io::Result<Socket> {
        self.0.try_clone()
    }

    /// The next datagram; none when it was not for this interface or longer than any DHCP packet.
    pub(super) fn receive(&self, link: &Link) -> io::Result<Option<Received>> {
        let mut bytes = vec![0; LONGEST];
        let mut control = cmsg_space!(libc::in_pktinfo);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<SockaddrIn>(
            self.0.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let length = message.bytes;
        let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
        let here = message.cmsgs()?.all(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => u32::try_from(info.ipi_ifindex) == Ok(link.index),
            _ => true,
        });
        let source = message.address.map(SocketAddrV4::from);
        bytes.truncate(length);
        Ok(source
            .filter(|_| whole && here)
            .map(|source| Received { bytes, source }))
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

    fn send(&self, bytes: &[u8], to: Ipv4Addr, mac: Mac, from: Ipv4Addr, link: &Link) -> io::Result<()> {
        let packet = ip_packet(bytes, from, to).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let address = link_address(link.index, mac).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        sendto(self.0.as_raw_fd(), &packet, &address, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

/// Sends `reply`. A client without an address is reached by its hardware address, or by broadcast where AF_PACKET is refused.
pub(super) fn send(reply: &Reply, udp: &Udp, raw: Option<&Raw>, link: &Link) -> io::Result<()> {
    let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
    let broadcast = || udp.send(&reply.bytes, everyone, reply.source, link);
    match reply.destination {
        Destination::Relay(to) | Destination::Unicast(to) | Destination::ProxyUnicast(to) => {
            udp.send(&reply.bytes, to, reply.source, link)
        }
        Destination::Broadcast => broadcast(),
        Destination::Raw { mac, address } => match raw {
            Some(raw) => raw
                .send(&reply.bytes, address, mac, reply.source, link)
                .or_else(|_| broadcast()),
            None => broadcast(),
        },
    }
}

/// `payload` from port 67 of `from` to port 68 of `to`, with both checksums.
fn ip_packet(payload: &[u8], from: Ipv4Addr, to: Ipv4Addr) -> Option<Vec<u8>> {
    let udp_length = payload.len().checked_add(MutableUdpPacket::minimum_packet_size())?;
    let length = udp_length.checked_add(MutableIpv4Packet::minimum_packet_size())?;
    let mut datagram = MutableUdpPacket::owned(vec![0; udp_length])?;
    datagram.set_source(SERVER_PORT);
    datagram.set_destination(CLIENT_PORT);
    datagram.set_length(u16::try_from(udp_length).ok()?);
    datagram.set_payload(payload);
    let checksum = udp::ipv4_checksum(&datagram.to_immutable(), &from, &to);
    datagram.set_checksum(checksum);
    let mut packet = MutableIpv4Packet::owned(vec![0; length])?;
    packet.set_version(4);
    packet.set_header_length(5);
    packet.set_total_length(u16::try_from(length).ok()?);
    packet.set_ttl(64);
    packet.set_next_level_protocol(IpNextHeaderProtocols::Udp);
    packet.set_source(from);
    packet.set_destination(to);
    packet.set_payload(pnet_packet::Packet::packet(&datagram));
    let checksum = ipv4::checksum(&packet.to_immutable());
    packet.set_checksum(checksum);
    Some(pnet_packet::Packet::packet(&packet).to_vec())
}

/// The link-layer address of `mac` on interface `index`, for IPv4 packets.
fn link_address(index: u32, mac: Mac) -> Option<LinkAddr> {
    let [a, b, c, d, e, f] = mac.bytes();
    let raw = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).ok()?,
        sll_protocol: u16::try_from(libc::ETH_P_IP).ok()?.to_be(),
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
        let bytes = ip_packet(&[7; 301], from, to).unwrap();
        let ip = Ipv4Packet::new(&bytes).unwrap();
        assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
        let udp = UdpPacket::new(ip.payload()).unwrap();
        assert_eq!(udp.get_checksum(), udp::ipv4_checksum(&udp, &from, &to));
        assert_eq!((udp.get_source(), udp.get_destination()), (67, 68));
        assert_eq!(udp.payload(), [7; 301]);
    }

    #[test]
    fn a_link_address_names_interface_and_machine() {
        let address = link_address(3, Mac::new([2, 0, 0, 0, 0, 9])).unwrap();
        assert_eq!((address.ifindex(), address.addr()), (3, Some([2, 0, 0, 0, 0, 9])));
        assert_eq!(address.protocol(), u16::try_from(libc::ETH_P_IP).unwrap().to_be());
    }
}
