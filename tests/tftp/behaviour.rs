//! What ROMs do, step by step: size probes, repeated requests, strange ports, aborts, and names that are not served.

use super::reader::{Reader, request, sized};
use super::serving::{Serving, pattern};
use cordwainer::event::What;
use cordwainer::tftp::packet::{ErrorCode, Options, Packet};
use std::time::{Duration, Instant};

const PROBE: Options = Options {
    blksize: Some(1468),
    timeout: None,
    tsize: Some(0),
    windowsize: None,
};

/// Far below the 8 s and more that servers need which do not know of the size probe; the machine of the tests may be busy.
const AT_ONCE: Duration = Duration::from_secs(3);

#[test]
fn the_request_after_a_size_probe_is_answered_at_once_from_the_same_port() {
    let file = pattern(213 * 1024);
    let server = Serving::start([127, 0, 0, 1], &[("snponly.efi", &file)]);
    // Again and again from one port, as a ROM that is reset counts its ports from the same start; sometimes the second request is
    // the very same, sometimes it leaves the size out, sometimes the ROM forgets its error 8.
    let mut reader = Reader::new();
    for round in 0..30 {
        let probe = request("snponly.efi", PROBE);
        reader.ask(server.address, &probe);
        let (tid, granted) = reader.hear();
        assert_eq!(
            granted,
            Packet::OptionsGranted(Options {
                tsize: Some(file.len() as u64),
                ..PROBE
            })
        );
        let began = Instant::now();
        let second = match round % 3 {
            0 => probe,
            _ => request("snponly.efi", Options { tsize: None, ..PROBE }),
        };
        if round % 3 != 2 {
            reader.send(
                tid,
                &Packet::Error {
                    code: ErrorCode::OPTIONS,
                    message: "User aborted the transfer".to_owned(),
                },
            );
        }
        let got = reader.get(server.address, &second);
        assert!(got.bytes == file, "round {round}");
        assert_ne!(got.from, tid, "a new transfer has a port of its own");
        assert!(began.elapsed() < AT_ONCE, "round {round}: {:?}", began.elapsed());
    }
    let probed = server.heard.wait(|what| match what {
        What::TftpProbed { file: name, size } => Some((name.clone(), *size)),
        _ => None,
    });
    assert_eq!(probed, ("snponly.efi".to_owned(), 213 * 1024));
    let (bytes, blksize) = server.heard.wait(|what| match what {
        What::TftpSent { bytes, blksize, .. } => Some((*bytes, *blksize)),
        _ => None,
    });
    assert_eq!((bytes, blksize), (file.len() as u64, 1468));
    assert!(!server.heard.codes().contains(&"TFTP_FAILED"));
}

#[test]
fn the_answer_leaves_from_the_address_that_was_asked() {
    let file = pattern(70_000);
    let server = Serving::start([0, 0, 0, 0], &[("a", &file)]);
    for ip in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 9, 8, 7]] {
        let mut reader = Reader::new();
        let got = reader.get(server.at(ip), &request("a", sized(1024, 4)));
        assert_eq!(got.from.ip().octets(), ip);
        assert!(got.bytes == file);
        reader.ask(server.at(ip), &request("missing", Options::default()));
        assert_eq!(reader.hear().0.ip().octets(), ip, "errors too");
        reader.send(server.at(ip), &Packet::Write);
        assert_eq!(reader.hear().0.ip().octets(), ip, "and refusals");
    }
    // Two transfers from one port, one to each address.
    let mut reader = Reader::new();
    for ip in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        reader.ask(server.at(ip), &request("a", Options::default()));
        assert_eq!(reader.hear().0.ip().octets(), ip);
    }
}

#[test]
fn every_window_and_length_arrives_whole() {
    let file = pattern(500_000);
    let lengths = [0_usize, 1, 511, 512, 513, 65_535, 65_536, 500_000];
    let names: Vec<String> = lengths.iter().map(|length| format!("f{length}")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .zip(lengths)
        .map(|(name, length)| (name.as_str(), &file[..length]))
        .collect();
    let server = Serving::start([127, 0, 0, 1], &files);
    for (name, bytes) in files {
        for options in [
            Options::default(),
            sized(512, 1),
            sized(512, 8),
            sized(1468, 64),
            sized(8, 8),
        ] {
            if options.blksize == Some(8) && bytes.len() > 100_000 {
                continue;
            }
            let got = Reader::new().get(server.address, &request(name, options));
            assert!(got.bytes == bytes, "{name} {options:?}");
            let size = got.granted.and_then(|granted| granted.tsize);
            assert_eq!(size, options.tsize.map(|_| bytes.len() as u64));
        }
    }
}

#[test]
fn a_hundred_mebibytes_in_small_blocks_roll_over() {
    let file = pattern(100 << 20);
    let server = Serving::start([127, 0, 0, 1], &[("big", &file)]);
    for window in [1, 64] {
        let got = Reader::new().get(server.address, &request("big", sized(512, window)));
        assert_eq!(got.bytes.len(), file.len());
        assert!(got.bytes == file, "window {window}");
        if window == 1 {
            assert_eq!(got.datagrams, (100 << 20) / 512 + 2, "not one block twice");
        }
    }
}

#[test]
fn names_are_virtual_and_nothing_climbs() {
    let server = Serving::start(
        [127, 0, 0, 1],
        &[
            ("undionly.kpxe", b"loader"),
            ("images/linux", b"kernel"),
            ("images/a b", b"odd"),
        ],
    );
    let outside = server.folder.path().join("secret");
    std::fs::write(&outside, b"secret").unwrap();
    std::os::unix::fs::symlink(&outside, server.tree().join("way-out")).unwrap();
    std::os::unix::fs::symlink("images/linux", server.tree().join("way-in")).unwrap();
    let mut reader = Reader::new();
    for (name, bytes) in [
        ("undionly.kpxe", &b"loader"[..]),
        ("/l/undionly.kpxe", b"loader"),
        ("\\d\\d1\\images\\linux", b"kernel"),
        ("d//d1//images//linux", b"kernel"),
        ("d/d1/images/a b", b"odd"),
        ("d/d1/way-in", b"kernel"),
    ] {
        assert_eq!(
            reader.get(server.address, &request(name, Options::default())).bytes,
            bytes,
            "{name}"
        );
    }
    let raw = |name: &[u8]| [b"\0\x01", name, b"\0octet\0"].concat();
    for (name, code) in [
        (&b"no-such"[..], ErrorCode::NOT_FOUND),
        (b"revocations_sku.efi", ErrorCode::NOT_FOUND),
        (b"d/d1/way-out", ErrorCode::NOT_FOUND),
        (b"d/d1", ErrorCode::NOT_FOUND),
        (b"d/d1/images", ErrorCode::NOT_FOUND),
        (b"d/none/x", ErrorCode::NOT_FOUND),
        (b"i/sometoken/ks.cfg", ErrorCode::NOT_FOUND),
        (b"r/sometoken/done", ErrorCode::NOT_FOUND),
        (b"caf\xe9", ErrorCode::NOT_FOUND),
        (b"", ErrorCode::NOT_FOUND),
        (&[b'a'; 256], ErrorCode::NOT_FOUND),
        (b"../secret", ErrorCode::ACCESS),
        (b"d/d1/../../secret", ErrorCode::ACCESS),
        (b"d\\d1\\..\\..\\secret", ErrorCode::ACCESS),
        (b"/etc/passwd", ErrorCode::NOT_FOUND),
        (b"a\nb", ErrorCode::ACCESS),
    ] {
        let began = Instant::now();
        reader.socket.send_to(&raw(name), server.address).unwrap();
        assert_eq!(reader.hear_error(), code, "{}", name.escape_ascii());
        assert!(began.elapsed() < AT_ONCE);
    }
    assert!(!format!("{:?}", server.heard.codes()).contains("TFTP_FAILED"));
    let shown = server.heard.wait(|what| match what {
        What::TftpNotFound { file, .. } if file.contains("ks.cfg") => Some(file.clone()),
        _ => None,
    });
    assert_eq!(shown, "answer file ks.cfg", "no token in an event");
}

#[test]
fn boot_scripts_are_made_as_they_are_asked_for() {
    let server = Serving::start([127, 0, 0, 1], &[]);
    for (name, start) in [
        ("autoexec.ipxe", "#!ipxe"),
        ("b/52-54-00-7c-1d-4f/ipxe", "#!ipxe"),
        ("grub/grub.cfg", ""),
        ("pxelinux.cfg/01-52-54-00-7c-1d-4f", ""),
    ] {
        let got = Reader::new().get(server.address, &request(name, sized(512, 1)));
        let text = String::from_utf8(got.bytes).unwrap();
        assert!(!text.is_empty() && text.starts_with(start), "{name}: {text}");
        assert_eq!(got.granted.unwrap().tsize, Some(text.len() as u64));
        let dialect = server.heard.wait(|what| match what {
            What::Script { dialect, gives, .. } if gives == "local boot" => Some(dialect.clone()),
            _ => None,
        });
        assert!(!dialect.is_empty());
    }
}

#[test]
fn writers_strays_and_noise() {
    let server = Serving::start([127, 0, 0, 1], &[("a", b"abc")]);
    let mut reader = Reader::new();
    for (packet, code) in [
        (&b"\0\x02evil\0octet\0"[..], ErrorCode::ACCESS),
        (b"\0\x04\0\x01", ErrorCode::UNKNOWN_TID),
        (b"\0\x03\0\x01data", ErrorCode::UNKNOWN_TID),
        (b"\0\x01a\0mail\0", ErrorCode::ILLEGAL),
        (b"\0\x01a", ErrorCode::ILLEGAL),
    ] {
        reader.socket.send_to(packet, server.address).unwrap();
        assert_eq!(reader.hear_error(), code, "{}", packet.escape_ascii());
    }
    // Noise is not answered, and the next request is.
    for noise in [&b""[..], b"\0", b"\0\x05\0\0x\0", b"\0\x09", b"hello", &[0xff; 3000]] {
        reader.socket.send_to(noise, server.address).unwrap();
    }
    let got = reader.get(server.address, &request("a", Options::default()));
    assert_eq!((got.bytes.as_slice(), got.datagrams), (&b"abc"[..], 1));
    assert!(!server.tree().join("evil").exists());
}

#[test]
fn a_stranger_at_a_transfer_changes_nothing() {
    let file = pattern(3000);
    let server = Serving::start([127, 0, 0, 1], &[("a", &file)]);
    let mut reader = Reader::new();
    reader.ask(server.address, &request("a", sized(512, 1)));
    let (tid, _) = reader.hear();
    let stranger = Reader::new();
    stranger.ack(tid, 0);
    stranger.send(
        tid,
        &Packet::Error {
            code: ErrorCode::OTHER,
            message: "stop".to_owned(),
        },
    );
    reader.ack(tid, 0);
    assert!(reader.go_on().bytes == file);
}

#[test]
fn a_lost_first_reply_is_repeated_and_an_echo_is_not() {
    let file = pattern(3000);
    let server = Serving::start([127, 0, 0, 1], &[("a", &file)]);
    let mut reader = Reader::new();
    let ask = request("a", sized(512, 1));
    reader.ask(server.address, &ask);
    let (tid, _) = reader.hear();
    reader.ask(server.address, &ask);
    let (again, packet) = reader.hear();
    assert_eq!(again, tid, "the same transfer");
    assert!(matches!(packet, Packet::OptionsGranted(_)));
    reader.ack(tid, 0);
    assert!(matches!(reader.hear(), (from, Packet::Data { block: 1, .. }) if from == tid));
    reader.ask(server.address, &ask);
    assert!(reader.is_silent(Duration::from_millis(200)), "an echo of the network");
    reader.ack(tid, 1);
    assert!(matches!(reader.hear(), (from, Packet::Data { block: 2, .. }) if from == tid));
}

#[test]
fn one_address_has_eight_transfers_and_another_is_served_meanwhile() {
    let server = Serving::start([0, 0, 0, 0], &[("a", &pattern(3000))]);
    let ask = request("a", sized(512, 1));
    let mut busy: Vec<Reader> = (0..8).map(|_| Reader::new()).collect();
    let mut tids = Vec::new();
    for reader in &mut busy {
        reader.ask(server.address_on_loopback(), &ask);
        tids.push(reader.hear().0);
    }
    let mut ninth = Reader::new();
    ninth.ask(server.address_on_loopback(), &ask);
    server.heard.wait(|what| match what {
        What::TftpFailed { reason, .. } if reason.starts_with("8 transfers") => Some(()),
        _ => None,
    });
    let other = Reader::at([127, 0, 0, 5]).get(server.address_on_loopback(), &ask);
    assert_eq!(other.bytes.len(), 3000);
    // A place is free as soon as one has ended.
    busy[0].ack(tids[0], 0);
    busy[0].go_on();
    server
        .heard
        .wait(|what| matches!(what, What::TftpSent { .. }).then_some(()));
    assert_eq!(
        ninth.get_patiently(server.address_on_loopback(), &ask).bytes.len(),
        3000
    );
}

#[test]
fn a_lost_block_comes_again_and_long_transfers_say_how_far_they_are() {
    let file = pattern(3 << 20);
    let server = Serving::start([127, 0, 0, 1], &[("initrd.img", &file)]);
    let mut reader = Reader::new();
    reader.ask(server.address, &request("initrd.img", sized(1468, 1)));
    let (tid, _) = reader.hear();
    reader.ack(tid, 0);
    // The first block is lost; after a second it comes again.
    let began = Instant::now();
    assert!(matches!(reader.hear(), (_, Packet::Data { block: 1, .. })));
    assert!(matches!(reader.hear(), (_, Packet::Data { block: 1, .. })));
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    reader.ack(tid, 0);
    assert!(
        reader.is_silent(Duration::from_millis(200)),
        "a repeated ACK brings nothing"
    );
    reader.ack(tid, 1);
    reader.hear();
    let progress = server.heard.wait(|what| match what {
        What::TftpProgress { bytes, size, .. } => Some((*bytes, *size)),
        _ => None,
    });
    assert_eq!(progress.1, 3 << 20);
    assert!(progress.0 <= 1468, "{progress:?}");
}

#[test]
fn aborts_and_closed_ports_are_said() {
    let server = Serving::start([127, 0, 0, 1], &[("a", &pattern(9000))]);
    let mut reader = Reader::new();
    reader.ask(server.address, &request("a", sized(512, 4)));
    let (tid, _) = reader.hear();
    reader.ack(tid, 0);
    reader.hear();
    reader.send(
        tid,
        &Packet::Error {
            code: ErrorCode(3),
            message: "disk full\r\nreally".to_owned(),
        },
    );
    let reason = server.heard.wait(|what| match what {
        What::TftpFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, "the peer ended it with error 3 `disk full\\r\\nreally`");

    let mut gone = Reader::new();
    gone.ask(server.address, &request("a", Options::default()));
    let (tid, _) = gone.hear();
    gone.ack(tid, 1);
    drop(gone);
    let reason = server.heard.wait(|what| match what {
        What::TftpFailed { reason, .. } if reason.contains("closed") => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, "the peer closed its port before it answered block 2");
}

#[test]
fn a_transfer_under_way_ends_well_when_the_server_stops() {
    let file = pattern(200_000);
    let mut server = Serving::start([127, 0, 0, 1], &[("a", &file)]);
    let mut reader = Reader::new();
    reader.ask(server.address, &request("a", sized(512, 1)));
    let (tid, _) = reader.hear();
    server.stop();
    reader.ack(tid, 0);
    assert!(reader.go_on().bytes == file);
    server.join();
    let late = Reader::new();
    late.ask(server.address, &request("a", Options::default()));
    assert_eq!(server.heard.codes(), ["TFTP_SENT"]);
}

#[test]
fn a_port_in_use_is_named_with_its_remedy() {
    let server = Serving::start([127, 0, 0, 1], &[]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let refused = cordwainer::tftp::serve::Server::bind(cordwainer::tftp::serve::TftpConfig {
        listen: vec![server.address],
        mtu: 1500,
        networks: Vec::new(),
    })
    .unwrap_err()
    .to_string();
    assert!(
        refused.contains(&server.address.to_string()) && refused.contains("another TFTP server"),
        "{refused}"
    );
}
