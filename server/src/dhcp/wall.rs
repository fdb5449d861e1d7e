//! The wall: bytes from the wire become a [`Packet`] or a reason. Nothing gets past it that could make a later step stumble.
//!
//! Pure and total. `dhcproto` reads the fixed fields only after their bounds are proved here: its `chaddr()` panics on a length above 16, and
//! its option decoder drops every option after a malformed one.

use super::packet::{Op, Packet, code};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes up to and including the magic cookie; RFC 951's least 300 are not insisted on.
const FIXED: usize = 240;

/// Why a packet was turned away.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum Rejected {
    /// Shorter than the fixed part.
    #[error("{0} bytes are no DHCP packet; the fixed part alone has 240")]
    Short(usize),
    /// Neither BOOTREQUEST nor BOOTREPLY.
    #[error("op {0} is neither a request (1) nor a reply (2)")]
    Op(u8),
    /// A hardware address that its field cannot hold.
    #[error("hardware address length {0} is above 16, the size of its field")]
    HardwareLength(u8),
    /// Something else where the cookie of DHCP stands, or nothing there and no BOOTP either.
    #[error("neither DHCP's magic cookie nor the empty vendor field of BOOTP")]
    Magic,
}

/// Reads one packet.
///
/// # Errors
/// [`Rejected`], for counting; a malformed option rejects only itself.
pub fn parse(bytes: &[u8]) -> Result<Packet, Rejected> {
    let (Some((fixed, tail)), Ok(message)) = (
        bytes.split_first_chunk::<FIXED>(),
        dhcproto::v4::borrowed::Message::new(bytes),
    ) else {
        return Err(Rejected::Short(bytes.len()));
    };
    let [op, htype, hlen, ..] = *fixed;
    let op = match op {
        1 => Op::Request,
        2 => Op::Reply,
        other => return Err(Rejected::Op(other)),
    };
    if hlen > 16 {
        return Err(Rejected::HardwareLength(hlen));
    }
    let cookie = fixed.ends_with(&dhcproto::v4::MAGIC);
    // RFC 951 knows no cookie; a client of its time leaves the vendor field as zeroes.
    let empty = fixed.ends_with(&[0; 4]) && tail.iter().all(|byte| *byte == 0);
    if !cookie && !empty {
        return Err(Rejected::Magic);
    }
    let mut options = BTreeMap::new();
    let mut bad_options = if cookie { walk(tail, &mut options) } else { 0 };
    let overload = match options.get(&code::OVERLOAD).map(Vec::as_slice) {
        Some([bits @ 1..=3]) => *bits,
        _ => 0,
    };
    // RFC 2131 section 4.1: first the options field, then `file`, then `sname`.
    let field = |from: usize, to: usize| fixed.get(from..to).unwrap_or_default();
    let (sname, file) = (field(44, 108), field(108, 236));
    if overload & 1 != 0 {
        bad_options = bad_options.saturating_add(walk(file, &mut options));
    }
    if overload & 2 != 0 {
        bad_options = bad_options.saturating_add(walk(sname, &mut options));
    }
    let file = if overload & 1 == 0 {
        file.split(|byte| *byte == 0).next().unwrap_or_default()
    } else {
        &[]
    };
    let mut chaddr = [0; 16];
    for (to, from) in chaddr.iter_mut().zip(field(28, 44)) {
        *to = *from;
    }
    Ok(Packet {
        op,
        htype,
        hlen,
        hops: message.hops(),
        xid: message.xid(),
        secs: message.secs(),
        flags: message.flags().into(),
        ciaddr: message.ciaddr(),
        yiaddr: message.yiaddr(),
        siaddr: message.siaddr(),
        giaddr: message.giaddr(),
        chaddr,
        file: file.to_vec(),
        options,
        bad_options,
        source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        port: 67,
        cookie,
    })
}

/// Collects the options of one area, joining those of the same code (RFC 3396). Returns how many were cut off.
fn walk(mut area: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) -> u32 {
    loop {
        area = match area {
            [] | [255, ..] => return 0,
            [0, rest @ ..] => rest,
            [code, length, rest @ ..] => match rest.split_at_checked(usize::from(*length)) {
                Some((value, rest)) => {
                    options.entry(*code).or_default().extend_from_slice(value);
                    rest
                }
                None => return 1,
            },
            [_] => return 1,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::packet::{Client, MessageType};
    use crate::model::Firmware;

    fn packet(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        bytes.extend([99, 130, 83, 99]);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn what_cannot_be_a_packet_is_named() {
        assert_eq!(parse(&[]), Err(Rejected::Short(0)));
        assert_eq!(parse(&packet(&[])[..239]), Err(Rejected::Short(239)));
        let mut op = packet(&[]);
        op[0] = 3;
        assert_eq!(parse(&op), Err(Rejected::Op(3)));
        let mut hlen = packet(&[]);
        hlen[2] = 17;
        assert_eq!(parse(&hlen), Err(Rejected::HardwareLength(17)));
        let mut magic = packet(&[]);
        magic[236] = 0;
        assert_eq!(parse(&magic), Err(Rejected::Magic));
    }

    #[test]
    fn an_empty_vendor_field_is_a_client_of_rfc_951() {
        let mut bytes = packet(&[]);
        bytes.resize(300, 0);
        bytes[236..240].copy_from_slice(&[0; 4]);
        let plain = parse(&bytes).unwrap();
        assert!(!plain.cookie && plain.message().is_none() && plain.mac().is_some());
        bytes[250] = 1;
        assert_eq!(parse(&bytes), Err(Rejected::Magic), "not empty");
    }

    #[test]
    fn a_bad_option_hides_no_other() {
        // A host name that is not UTF-8, an ASCII option 81 and a short option 94 stand before PXEClient, as printers and ROMs send them.
        let mut options = vec![53, 1, 1, 12, 3, 0xff, 0xfe, 0x80, 81, 2, 0, 0, 94, 1, 1];
        options.extend(b"\x3c\x20PXEClient:Arch:00007:UNDI:003016");
        options.extend([93, 2, 0, 7, 97, 200, 1]);
        let packet = parse(&packet(&options)).unwrap();
        assert_eq!(packet.message(), Some(MessageType::Discover));
        assert_eq!(packet.client(), Client::Pxe);
        assert_eq!(packet.firmware(), Some(Firmware::UefiX64));
        assert_eq!(packet.hostname().unwrap(), "\\xff\\xfe\\x80");
        assert_eq!(packet.bad_options, 1);
    }

    #[test]
    fn split_options_are_joined_across_gaps_and_fields() {
        // RFC 3396 section 7: options, then file, then sname.
        let mut bytes = packet(&[67, 2, b'a', b'b', 53, 1, 3, 67, 1, b'c', 52, 1, 3, 255]);
        bytes[108..113].copy_from_slice(&[67, 1, b'd', 0, 255]);
        bytes[44..48].copy_from_slice(&[67, 1, b'e', 255]);
        let packet = parse(&bytes).unwrap();
        assert_eq!(packet.option(67).unwrap(), b"abcde");
        assert!(packet.file.is_empty());
    }

    #[test]
    fn ipxe_says_so_in_three_ways() {
        for options in [
            &b"\x4d\x04iPXE\xaf\x06\x13\x01\x01\x18\x01\x01"[..],
            b"\x4d\x05\x04iPXE\xaf\x06\x13\x01\x01\x18\x01\x01",
            b"\xaf\x0b\x13\x01\x01\x18\x01\x01\xeb\x03\x01\x15\x01",
        ] {
            let Client::Ipxe(ipxe) = parse(&packet(options)).unwrap().client() else {
                panic!("{options:?}");
            };
            assert!(ipxe.http && ipxe.bzimage);
        }
    }

    #[test]
    fn the_uuid_is_swapped_as_smbios_stores_it() {
        let mut options = vec![97, 17, 0];
        options.extend(0..16);
        let packet = parse(&packet(&options)).unwrap();
        assert_eq!(packet.uuid().unwrap(), "03020100-0504-0706-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn the_architecture_may_stand_in_the_class_alone_and_the_fitting_one_counts() {
        let class = parse(&packet(b"\x3c\x20PXEClient:Arch:00011:UNDI:003016")).unwrap();
        assert_eq!(class.firmware(), Some(Firmware::UefiArm64));
        let http = parse(&packet(b"\x3c\x0aHTTPClient\x5d\x04\x00\x07\x00\x10")).unwrap();
        assert_eq!(http.firmware(), Some(Firmware::HttpX64));
    }
}
