//! Who else gives addresses here? Asks once, as a client would, and listens for a while. Blocking; for the start of the server and `check`.
#![expect(
    clippy::disallowed_methods,
    reason = "sends a DISCOVER and waits for answers with a clock"
)]

use super::DhcpError;
use super::capture::{self, Capture};
use super::socket::{Batch, Udp};
use crate::dhcp::packet::{Op, code, escaped};
use crate::dhcp::{CLIENT_PORT, Link, MessageType, SERVER_PORT, wall};
use crate::model::Mac;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long an answer is waited for. dnsmasq pings an address for 3 s before it offers it, ISC dhcpd for 1 s.
pub const WAIT: Duration = Duration::from_secs(5);
/// How long others are waited for after the first answer.
const OTHERS: Duration = Duration::from_millis(500);

/// Another DHCP server that answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignServer {
    /// Its identifier, option 54.
    pub server: Ipv4Addr,
    /// The address that it offered.
    pub offered: Ipv4Addr,
    /// Its boot file, if it named one.
    pub file: Option<String>,
    /// The hardware address that its answer came from, where CAP_NET_RAW lets that be seen.
    pub hardware: Option<Mac>,
}

/// A DISCOVER of `mac` that wants its answer broadcast.
pub(super) fn discover(mac: Mac, xid: [u8; 4]) -> Vec<u8> {
    let mut discover = vec![1, 1, 6, 0];
    discover.extend(xid);
    discover.extend([0, 0, 0x80, 0]);
    discover.extend([0; 16]);
    discover.extend(mac.bytes());
    discover.resize(236, 0);
    discover.extend(dhcproto::v4::MAGIC);
    discover.extend([code::MESSAGE_TYPE, 1, MessageType::Discover.number()]);
    discover.extend([code::PARAMETER_LIST, 5, 1, 3, 54, 66, 67, 255]);
    discover.resize(300, 0);
    discover
}

/// Where each server that `capture` heard sent from.
fn hardware(capture: &Capture) -> BTreeMap<Ipv4Addr, Mac> {
    let (mut found, mut bytes) = (BTreeMap::new(), vec![0; 2048]);
    while let Ok((length, mac)) = capture.receive_one(&mut bytes) {
        let heard = bytes.get(..length).and_then(capture::datagram);
        let server = heard.and_then(|heard| {
            let packet = wall::parse(heard.payload).ok()?;
            Some(packet.server_id().unwrap_or_else(|| *heard.source.ip()))
        });
        found.extend(server.zip(mac));
    }
    found
}

/// Sends a DISCOVER on `link` and lists who offers an address within `wait`, this server left out. Returns early once somebody did.
///
/// Servers that only know registered machines, and proxies, stay unseen: they do not answer a stranger.
///
/// # Errors
/// [`DhcpError`] when port 68 cannot be used on the interface.
pub fn probe(link: &Link, wait: Duration) -> Result<Vec<ForeignServer>, DhcpError> {
    let failed = |source| DhcpError::Bind {
        interface: link.name.clone(),
        port: CLIENT_PORT,
        source,
    };
    let Some(mac) = link.mac else {
        return Ok(Vec::new());
    };
    let socket = Udp::bind(&link.name, CLIENT_PORT).map_err(failed)?;
    let mut xid = [0; 4];
    getrandom::fill(&mut xid).map_err(|error| failed(std::io::Error::other(error.to_string())))?;
    let discover = discover(mac, xid);
    // Best effort, for the hardware addresses alone.
    let capture = capture::servers(link).ok();
    let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
    socket
        .send(&discover, everyone, Ipv4Addr::UNSPECIFIED, link)
        .map_err(failed)?;

    let begun = Instant::now();
    let mut wait = wait;
    let (mut found, mut batch) = (BTreeMap::new(), Batch::new());
    loop {
        let left = wait.saturating_sub(Instant::now().saturating_duration_since(begun));
        if left.is_zero() {
            let heard = capture.as_ref().map(hardware).unwrap_or_default();
            let mut found: Vec<ForeignServer> = found.into_values().collect();
            for server in &mut found {
                server.hardware = heard.get(&server.server).copied();
            }
            return Ok(found);
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, timeout).map_err(|error| failed(error.into()))?;
        match socket.receive(link, &mut batch) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(failed(error)),
        }
        for (bytes, source) in batch.datagrams().flatten() {
            let Ok(packet) = wall::parse(bytes) else {
                continue;
            };
            let server = packet.server_id().unwrap_or_else(|| *source.ip());
            let ours = link.addresses.iter().any(|net| net.addr() == server);
            let asked = packet.op == Op::Reply && packet.xid == u32::from_be_bytes(xid);
            if asked && !packet.yiaddr.is_unspecified() && !ours {
                let file = packet.option(code::BOOT_FILE).unwrap_or(&packet.file);
                let other = ForeignServer {
                    server,
                    offered: packet.yiaddr,
                    file: Some(escaped(file)).filter(|file| !file.is_empty()),
                    hardware: None,
                };
                found.insert(server, other);
                let so_far = Instant::now().saturating_duration_since(begun);
                wait = wait.min(so_far.saturating_add(OTHERS));
            }
        }
    }
}
