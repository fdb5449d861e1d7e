//! What nobody gets from us: traffic that was not asked for, half of two files, more than a share.

use super::reader::{Reader, request, sized};
use super::serving::{Serving, pattern};
use cordwainer::event::What;
use cordwainer::tftp::packet::{ErrorCode, Options, Packet};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const A_MOMENT: Duration = Duration::from_millis(300);

/// Bytes and datagrams that come until the server says that nobody answers.
fn until_given_up(server: &Serving, reader: &Reader, between: impl Fn(u32)) -> (usize, u32) {
    let mut buffer = [0; 65_536];
    let (mut bytes, mut datagrams, mut round) = (0, 0, 0);
    reader
        .socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        while let Ok(length) = reader.socket.recv(&mut buffer) {
            bytes += length;
            datagrams += 1;
        }
        if server.heard.codes().contains(&"TFTP_FAILED") {
            return (bytes, datagrams);
        }
        between(round);
        round += 1;
        assert!(Instant::now() < deadline, "it is never given up");
    }
}

#[test]
fn an_address_that_never_answers_gets_five_blocks_whatever_it_repeats() {
    let server = Serving::start([127, 0, 0, 1], &[("a", &pattern(100_000))]);
    // One request with nothing to negotiate: the first block is the answer.
    let reader = Reader::new();
    reader.ask(server.address, &request("a", Options::default()));
    let (bytes, datagrams) = until_given_up(&server, &reader, |_| {
        // And the same again and again, as a reflector's master would.
        reader.ask(server.address, &request("a", Options::default()));
    });
    assert!((1..=5).contains(&datagrams), "{datagrams} datagrams");
    assert!(bytes <= 5 * 516, "{bytes} bytes");
}

#[test]
fn the_largest_window_sends_nothing_but_its_offer_to_who_never_answers() {
    let server = Serving::start([127, 0, 0, 1], &[("a", &pattern(1_000_000))]);
    let reader = Reader::new();
    let greedy = |round: u32| request("a", sized(u64::from(1468 - round % 2), 65_535));
    reader.ask(server.address, &greedy(0));
    // Each repetition asks for something else, which must not begin the count anew.
    let (bytes, datagrams) = until_given_up(&server, &reader, |round| reader.ask(server.address, &greedy(round)));
    assert!((1..=5).contains(&datagrams), "{datagrams} datagrams");
    assert!(bytes <= 5 * 64, "{bytes} bytes");
}

#[test]
fn acks_that_come_thrice_bring_each_block_once() {
    let file = pattern(40_000);
    let server = Serving::start([127, 0, 0, 1], &[("a", &file)]);
    let mut reader = Reader::new();
    reader.ask(server.address, &request("a", Options::default()));
    let (mut bytes, mut got) = (0, Vec::new());
    for block in 1..=u16::try_from(file.len() / 512 + 1).unwrap() {
        let (tid, packet) = reader.hear();
        let Packet::Data {
            block: came,
            bytes: data,
        } = packet
        else {
            panic!("{packet:?}")
        };
        assert_eq!(came, block, "no block twice");
        bytes += data.len() + 4;
        got.extend_from_slice(data);
        for _ in 0..3 {
            reader.ack(tid, block);
        }
    }
    assert!(reader.is_silent(A_MOMENT));
    assert!(got == file);
    assert_eq!(bytes, file.len() + 4 * (file.len() / 512 + 1));
}

#[test]
fn a_changed_request_takes_the_place_of_the_running_transfer() {
    let (one, two) = (pattern(30_000), pattern(9_000));
    let server = Serving::start([127, 0, 0, 1], &[("one", &one), ("two", &two)]);
    let mut reader = Reader::new();
    reader.ask(server.address, &request("one", sized(512, 1)));
    let (old, _) = reader.hear();
    reader.ack(old, 0);
    assert!(matches!(reader.hear(), (_, Packet::Data { block: 1, .. })));
    let got = reader.get(server.address, &request("two", sized(1024, 4)));
    assert!(got.bytes == two);
    assert_ne!(got.from, old);
    let reason = server.heard.wait(|what| match what {
        What::TftpFailed { file, reason } if file == "one" => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, "the peer asked for something else");
}

#[test]
fn a_flood_of_options_is_read_as_far_as_it_makes_sense() {
    let file = pattern(5000);
    let server = Serving::start([127, 0, 0, 1], &[("a", &file)]);
    let mut reader = Reader::new();
    let ask = |options: &[u8]| [b"\0\x01a\0octet\0", options].concat();
    let unknown = b"x\0y\0".repeat(300);
    for (options, granted) in [
        // The first of a kind counts.
        (b"blksize\x001024\0".repeat(100), Some(1024)),
        // What stands behind sixteen others is not looked at.
        ([unknown.as_slice(), b"blksize\x001024\0"].concat(), None),
        (b"blksize\x0099999999999999999999\0".to_vec(), None),
        (
            b"blksize\0\xff\xfe\0windowsize\x000\0timeout\x00256\0tsize\0-1\0".to_vec(),
            None,
        ),
        (b"blksize".to_vec(), None),
    ] {
        reader.socket.send_to(&ask(&options), server.address).unwrap();
        let (tid, packet) = reader.hear();
        match (packet, granted) {
            (Packet::OptionsGranted(options), Some(blksize)) => {
                let only = Options {
                    blksize: Some(blksize),
                    ..Options::default()
                };
                assert_eq!(options, only, "only what was asked for");
                reader.ack(tid, 0);
                reader.hear();
            }
            (Packet::Data { block: 1, bytes }, None) => assert_eq!(bytes.len(), 512),
            other => panic!("{other:?}"),
        }
        reader.send(
            tid,
            &Packet::Error {
                code: ErrorCode::OTHER,
                message: String::new(),
            },
        );
    }
    // Longer than any request: not answered at all.
    reader
        .socket
        .send_to(&ask(&b"x\0y\0".repeat(1000)), server.address)
        .unwrap();
    assert!(reader.is_silent(A_MOMENT));
    assert!(reader.get(server.address, &request("a", Options::default())).bytes == file);
}

#[test]
fn what_comes_from_a_port_of_another_service_is_not_answered() {
    let server = Serving::start([127, 0, 0, 1], &[("a", b"abc")]);
    let mut tried = 0;
    for port in [67, 69, 123] {
        // An address that no service of this host has; without root the port cannot be had.
        let Ok(socket) = UdpSocket::bind(SocketAddr::from(([127, 77, 77, 77], port))) else {
            eprintln!("SKIPPED: port {port} cannot be bound");
            continue;
        };
        tried += 1;
        socket.set_read_timeout(Some(A_MOMENT)).unwrap();
        for packet in [&b"\0\x01a\0octet\0"[..], b"\0\x02a\0octet\0", b"\0\x04\0\x01"] {
            socket.send_to(packet, server.address).unwrap();
        }
        assert!(socket.recv(&mut [0; 600]).is_err(), "port {port}");
    }
    let required = std::env::var_os("CORDWAINER_REQUIRE_ALL").is_some_and(|all| all == "1");
    assert!(tried == 3 || !required, "ports below 1024 need root");
    assert!(server.heard.codes().is_empty(), "forgeries are no events");
}

/// Asks for a large file, takes one block, changes the file, and gives how the transfer ends: all its bytes, or the error.
fn changed_midway(change: impl FnOnce(&std::path::Path)) -> (Vec<u8>, Result<Vec<u8>, ErrorCode>, String) {
    let file = pattern(2 << 20);
    let server = Serving::start([127, 0, 0, 1], &[("linux", &file)]);
    let mut reader = Reader::new();
    reader.ask(server.address, &request("linux", sized(1468, 1)));
    let (tid, _) = reader.hear();
    reader.ack(tid, 0);
    let mut got = Vec::new();
    let mut change = Some(change);
    let mut block = 0;
    let ended = loop {
        match reader.hear() {
            (_, Packet::Data { bytes, .. }) => {
                got.extend_from_slice(bytes);
                let ends = bytes.len() < 1468;
                if let Some(change) = change.take() {
                    change(&server.tree().join("linux"));
                }
                block += 1;
                reader.ack(tid, block);
                if ends {
                    break Ok(got);
                }
            }
            (_, Packet::Error { code, .. }) => break Err(code),
            other => panic!("{other:?}"),
        }
    };
    let said = server.heard.wait(|what| match what {
        What::TftpFailed { reason, .. } => Some(reason.clone()),
        What::TftpSent { .. } => Some("sent".to_owned()),
        _ => None,
    });
    (file, ended, said)
}

#[test]
fn a_file_that_is_written_to_while_it_is_sent_ends_in_an_error_and_never_in_a_mixture() {
    let (_, ended, said) = changed_midway(|path| {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(1 << 20).unwrap();
    });
    assert_eq!(ended.unwrap_err(), ErrorCode::OTHER);
    assert!(said.contains("written to") || said.contains("shorter"), "{said}");

    let (_, ended, said) = changed_midway(|path| {
        let length = usize::try_from(path.metadata().unwrap().len()).unwrap();
        std::fs::write(path, vec![0; length]).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() + Duration::from_secs(5))
            .unwrap();
    });
    assert_eq!(ended.unwrap_err(), ErrorCode::OTHER);
    assert!(said.contains("replace files by renaming"), "{said}");

    // As it should be done: the transfer keeps the file that it began with.
    let (file, ended, said) = changed_midway(|path| {
        let new = path.with_extension("new");
        std::fs::write(&new, b"another").unwrap();
        std::fs::rename(new, path).unwrap();
    });
    assert!(ended.unwrap() == file);
    assert_eq!(said, "sent");
}
