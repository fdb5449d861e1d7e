//! Packets as the link carries them, past the ports of this host: for DHCP where another server has port 67, for what other servers say, and
//! for ARP. AF_PACKET with a filter in the kernel, so that nothing else wakes this process.
//!
//! It never makes the interface promiscuous, and believes no length that a packet claims of itself. UDP checksums are not looked at: between
//! virtual interfaces they are not filled in, and on a wire the frame has its own.

use super::socket::{Batch, link_address};
use crate::dhcp::{CLIENT_PORT, Link};
use crate::model::Mac;
use nix::libc;
use nix::sys::socket::{LinkAddr, bind, recvfrom};
use socket2::{Domain, SockFilter, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A socket that hears the packets of one interface that pass its filter.
#[derive(Debug)]
pub(super) struct Capture(OwnedFd);

/// Where the offset in a filter's load means a fact of the frame and not its bytes (SKF_AD_OFF of linux/filter.h).
const FACTS: u32 = 0xffff_f000;
/// The kind of frame: 0 to us, 1 broadcast, 2 multicast, 3 somebody else's, 4 our own.
const KIND: u32 = FACTS.saturating_add(4);
/// Whether the frame had a VLAN tag: then it is the VLAN interface's.
const TAGGED: u32 = FACTS.saturating_add(48);

/// Loads 4, 2 or 1 bytes at an offset.
const LOAD_4: u16 = 0x20;
const LOAD_2: u16 = 0x28;
const LOAD_1: u16 = 0x30;
/// Loads 2 bytes at an offset from the index.
const LOAD_2_INDEXED: u16 = 0x48;
/// Loads the length of the IP header into the index.
const HEADER_LENGTH: u16 = 0xb1;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Passes whole UDP datagrams to `port` that are for this interface and that this host did not send.
fn udp_to(port: u16) -> [SockFilter; 13] {
    [
        SockFilter::new(LOAD_4, 0, 0, KIND),
        SockFilter::new(IF_AT_LEAST, 10, 0, 3),
        SockFilter::new(LOAD_4, 0, 0, TAGGED),
        SockFilter::new(IF_EQUAL, 0, 8, 0),
        SockFilter::new(LOAD_1, 0, 0, 9),
        SockFilter::new(IF_EQUAL, 0, 6, 17),
        SockFilter::new(LOAD_2, 0, 0, 6),
        SockFilter::new(IF_ANY_BIT, 4, 0, 0x3fff),
        SockFilter::new(HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(LOAD_2_INDEXED, 0, 0, 2),
        SockFilter::new(IF_EQUAL, 0, 1, port.into()),
        SockFilter::new(RETURN, 0, 0, 0xffff),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Passes everything of its protocol that this host did not send.
fn others() -> [SockFilter; 4] {
    [
        SockFilter::new(LOAD_4, 0, 0, KIND),
        SockFilter::new(IF_AT_LEAST, 1, 0, 3),
        SockFilter::new(RETURN, 0, 0, 0xffff),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

impl Capture {
    /// Hears UDP datagrams to `port` on `link`. Needs CAP_NET_RAW.
    pub(super) fn udp(link: &Link, port: u16) -> io::Result<Self> {
        Self::open(link, libc::ETH_P_IP, &udp_to(port), 4 << 20)
    }

    /// Hears ARP on `link`. Needs CAP_NET_RAW.
    pub(super) fn arp(link: &Link) -> io::Result<Self> {
        Self::open(link, libc::ETH_P_ARP, &others(), 256 << 10)
    }

    fn open(link: &Link, protocol: i32, filter: &[SockFilter], buffer: usize) -> io::Result<Self> {
        // Protocol 0 hears nothing until the filter is in place and the interface is known.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), None)?;
        socket.attach_filter(filter)?;
        socket.set_recv_buffer_size(buffer)?;
        let address = link_address(link.index, Mac::new([0; 6]), protocol)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self(socket.into()))
    }

    /// Takes the packets that wait; [`datagram`] reads each.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<()> {
        let unread = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        batch.fill::<LinkAddr>(self.0.as_raw_fd(), None, |_| Some(unread))
    }

    /// Takes one packet into `bytes`: its length, and the hardware address that it came from.
    pub(super) fn receive_one(&self, bytes: &mut [u8]) -> io::Result<(usize, Option<Mac>)> {
        let (length, from) = recvfrom::<LinkAddr>(self.0.as_raw_fd(), bytes)?;
        Ok((length, from.and_then(|from| from.addr()).map(Mac::new)))
    }
}

impl AsRawFd for Capture {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A UDP datagram as an IP packet holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    pub(super) source: SocketAddrV4,
    pub(super) to: Ipv4Addr,
    pub(super) payload: &'a [u8],
}

/// The datagram of an IP packet that holds a whole one.
pub(super) fn datagram(packet: &[u8]) -> Option<Datagram<'_>> {
    let header = usize::from(packet.first()? & 0x0f).checked_mul(4)?;
    let total = u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]);
    let address = |bytes: Option<&[u8]>| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes?).ok()?));
    let (source, to) = (address(packet.get(12..16))?, address(packet.get(16..20))?);
    // The link pads short packets.
    let (_, udp) = packet.get(..total.into())?.split_at_checked(header.max(20))?;
    let [a, b, _, _, c, d, ..] = *udp else { return None };
    let payload = udp.get(8..u16::from_be_bytes([c, d]).into())?;
    let source = SocketAddrV4::new(source, u16::from_be_bytes([a, b]));
    Some(Datagram { source, to, payload })
}

/// What other DHCP servers say on `link`.
pub(super) fn servers(link: &Link) -> io::Result<Capture> {
    Capture::udp(link, CLIENT_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_read_by_its_own_lengths_and_no_bytes_make_it_stumble() {
        let mut packet = vec![
            0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 9, 255, 255, 255, 255,
        ];
        packet.extend([0, 68, 0, 67, 0, 13, 0, 0]);
        packet.extend(*b"hello");
        packet.extend([0; 13]);
        let read = datagram(&packet).unwrap();
        assert_eq!(
            (read.source, read.payload),
            ("192.0.2.9:68".parse().unwrap(), b"hello".as_slice())
        );
        assert_eq!(read.to, Ipv4Addr::BROADCAST);
        for length in 0..33 {
            assert_eq!(datagram(&packet[..length]), None);
        }
        for at in 0..packet.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut other = packet.clone();
                other[at] = byte;
                let _ = datagram(&other);
            }
        }
        packet[0] = 0x40;
        assert!(datagram(&packet).is_some_and(|read| read.payload == b"hello"));
    }
}
