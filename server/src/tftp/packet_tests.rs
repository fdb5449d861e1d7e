//! What the codec takes, refuses, and gives back unchanged.
#![allow(
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "tests stop at the first surprise"
)]

use super::*;

fn name(wire: &[u8]) -> Result<String, BadName> {
    FileName::new(wire).map(|name| name.to_string())
}

#[test]
fn names_are_made_regular() {
    for (wire, regular) in [
        (&b"snponly.efi"[..], "snponly.efi"),
        (b"/undionly.kpxe", "undionly.kpxe"),
        (b"\\boot\\x64\\wdsnbp.com", "boot/x64/wdsnbp.com"),
        (b"//b//./52-54-00-00-00-01/ipxe", "b/52-54-00-00-00-01/ipxe"),
        (b"snponly.efi\xff\xff", "snponly.efi"),
        (b"snponly.efi\xff/.\xff\xff/\\\xff", "snponly.efi"),
        (b"a..b/c...", "a..b/c..."),
    ] {
        assert_eq!(name(wire).as_deref(), Ok(regular));
    }
}

#[test]
fn names_that_climb_or_hide_are_refused() {
    assert_eq!(name(b"../etc/passwd"), Err(BadName::Climbs));
    assert_eq!(name(b"d/x\\..\\..\\y"), Err(BadName::Climbs));
    assert_eq!(name(b"a/.."), Err(BadName::Climbs));
    assert_eq!(name(b"a\nb"), Err(BadName::Control(b'\n')));
    assert_eq!(name(b"a\0b"), Err(BadName::Control(0)));
    assert_eq!(name(b"///"), Err(BadName::Empty));
    assert_eq!(name(b"\xff"), Err(BadName::Empty));
    assert_eq!(name(&[b'a'; 256]), Err(BadName::TooLong(256)));
    assert!(name(&[b'a'; 255]).is_ok());
}

#[test]
fn names_without_utf8_stay_bytes() {
    let name = FileName::new(b"caf\xe9.efi").unwrap();
    assert_eq!(name.as_str(), None);
    assert_eq!(name.to_string(), "caf\\xe9.efi");
}

fn read(wire: &[u8]) -> Request {
    match Packet::decode(wire) {
        Ok(Packet::Read(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_of_firmware_are_read() {
    let request = read(b"\0\x01/snponly.efi\0OCTET\0tsize\x000\0blksize\x001468\0windowsize\x004\0");
    assert_eq!(request.name.as_str(), Some("snponly.efi"));
    assert_eq!(request.mode, Mode::Octet);
    assert_eq!(
        request.options,
        Options {
            blksize: Some(1468),
            timeout: None,
            tsize: Some(0),
            windowsize: Some(4)
        }
    );
    // Filled up with NULs, as some ROMs do.
    let mut padded = b"\0\x01a\0octet\0blksize\x001024\0".to_vec();
    padded.resize(512, 0);
    assert_eq!(read(&padded).options.blksize, Some(1024));
}

#[test]
fn options_that_make_no_sense_are_not_asked_for() {
    for wire in [
        &b"\0\x01a\0octet\0blksize\0\0"[..],
        b"\0\x01a\0octet\0blksize\0-1\0",
        b"\0\x01a\0octet\0blksize\0+8\0",
        b"\0\x01a\0octet\0blksize\0 512\0",
        b"\0\x01a\0octet\0blksize\x0099999999999999999999999\0",
        b"\0\x01a\0octet\0blksize\x00512",
        b"\0\x01a\0octet\0utimeout\x00512\0",
    ] {
        assert!(read(wire).options.is_empty(), "{}", wire.escape_ascii());
    }
    // The first of two counts, and options after the sixteenth are not looked at.
    assert_eq!(
        read(b"\0\x01a\0octet\0blksize\x00600\0blksize\x00700\0")
            .options
            .blksize,
        Some(600)
    );
    let mut many = b"\0\x01a\0octet\0".to_vec();
    for _ in 0..16 {
        many.extend_from_slice(b"x\x001\0");
    }
    many.extend_from_slice(b"tsize\x000\0");
    assert!(read(&many).options.is_empty());
}

#[test]
fn impossible_requests_have_their_reply() {
    for (wire, code) in [
        (&b"\0\x01a"[..], Some(ErrorCode::ILLEGAL)),
        (b"\0\x01a\0octet", Some(ErrorCode::ILLEGAL)),
        (b"\0\x01a\0mail\0", Some(ErrorCode::ILLEGAL)),
        (b"\0\x01../a\0octet\0", Some(ErrorCode::ACCESS)),
        (b"\0\x01\0octet\0", Some(ErrorCode::NOT_FOUND)),
        (b"", None),
        (b"\0", None),
        (b"\0\x04\0", None),
        (b"\0\x09hello", None),
        (b"\x01\0hello", None),
    ] {
        let bad = Packet::decode(wire).unwrap_err();
        assert_eq!(bad.reply().map(|(code, _)| code), code, "{bad}");
    }
}

#[test]
fn acks_may_be_padded_and_errors_unterminated() {
    assert_eq!(
        Packet::decode(b"\0\x04\x12\x34\0\0\0"),
        Ok(Packet::Ack { block: 0x1234 })
    );
    assert_eq!(
        Packet::decode(b"\0\x05\0\x08User aborted\n"),
        Ok(Packet::Error {
            code: ErrorCode::OPTIONS,
            message: "User aborted\\n".to_owned()
        })
    );
    assert_eq!(Packet::decode(b"\0\x02anything"), Ok(Packet::Write));
}

/// Seeded random packets: what is encoded is decoded to the same, and no bytes make the codec panic.
#[test]
fn packets_come_back_and_noise_is_survived() {
    let mut random = super::super::chaos::Random::new(7);
    for _ in 0..20_000 {
        let options = Options {
            blksize: random.chance(50).then(|| random.below(70_000)),
            timeout: random.chance(50).then(|| random.below(300)),
            tsize: random.chance(50).then(|| random.below(u64::MAX)),
            windowsize: random.chance(50).then(|| random.below(70_000)),
        };
        let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.below(256) as u8).collect();
        let block = random.below(65_536) as u16;
        let packet = match random.below(5) {
            0 => Packet::Read(Request {
                name: FileName::new(b"d/rocky9/images/pxeboot/vmlinuz").unwrap(),
                mode: if random.chance(50) { Mode::Octet } else { Mode::Netascii },
                options,
            }),
            1 => Packet::Data { block, bytes: &bytes },
            2 => Packet::Ack { block },
            3 => Packet::Error {
                code: ErrorCode(block),
                message: "why not".to_owned(),
            },
            _ => Packet::OptionsGranted(options),
        };
        let mut wire = packet.to_bytes();
        assert_eq!(Packet::decode(&wire), Ok(packet));
        // Broken anywhere, it is still a packet or a reason.
        let at = random.below(wire.len() as u64) as usize;
        wire[at] = random.below(256) as u8;
        wire.truncate(random.below(wire.len() as u64 + 1) as usize);
        if let Ok(Packet::Read(request)) = Packet::decode(&wire) {
            assert!(request.name.as_bytes().len() <= NAME_MAX);
            assert!(
                !request
                    .name
                    .as_bytes()
                    .split(|b| *b == b'/')
                    .any(|part| part == b".." || part.is_empty())
            );
        }
    }
}
