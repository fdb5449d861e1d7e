//! The state machine against a reader in every weather, and step by step where a single packet counts.
#![allow(
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "tests stop at the first surprise"
)]

use super::super::chaos::{Random, Weather, run};
use super::super::packet::FileName;
use super::*;

const T0: Duration = Duration::from_secs(100);

fn ask(options: Options) -> Request {
    Request {
        name: FileName::new(b"f").unwrap(),
        mode: Mode::Octet,
        options,
    }
}

fn sized(blksize: u64, windowsize: u64) -> Request {
    ask(Options {
        blksize: Some(blksize),
        windowsize: Some(windowsize),
        ..Options::default()
    })
}

fn transfer(request: Request, size: u64) -> Transfer {
    let limits = Limits {
        mtu: 1500,
        size,
        unproven: 0,
    };
    Transfer::new(T0, request, limits)
}

/// All that leaves at `now`, the file being `file`.
fn step(transfer: &mut Transfer, now: Duration, file: &[u8]) -> Vec<Vec<u8>> {
    let (mut out, mut all) = (Vec::new(), Vec::new());
    loop {
        if let Some(want) = transfer.wants() {
            let from = want.offset as usize;
            transfer.supply(Ok(Bytes::copy_from_slice(&file[from..from + want.length])));
        }
        match transfer.poll_transmit(now, &mut out) {
            Some(transmit) => all.extend(out.chunks(transmit.segment).map(<[u8]>::to_vec)),
            None => return all,
        }
    }
}

fn blocks(sent: &[Vec<u8>]) -> Vec<u16> {
    sent.iter()
        .map(|datagram| match Packet::decode(datagram).unwrap() {
            Packet::Data { block, .. } => block,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn ack(transfer: &mut Transfer, now: Duration, block: u16) {
    transfer.handle(now, &Packet::Ack { block }.to_bytes());
}

#[test]
fn options_are_granted_as_asked_or_smaller_or_not_at_all() {
    let granted = |options| {
        let mut transfer = transfer(ask(options), 70_000);
        match step(&mut transfer, T0, &vec![0; 70_000])
            .first()
            .map(|bytes| Packet::decode(bytes).unwrap())
        {
            Some(Packet::OptionsGranted(granted)) => granted,
            Some(Packet::Data { block: 1, .. }) => Options::default(),
            other => panic!("{other:?}"),
        }
    };
    let all = Options {
        blksize: Some(65_464),
        timeout: Some(1),
        tsize: Some(0),
        windowsize: Some(65_535),
    };
    assert_eq!(
        granted(all),
        Options {
            blksize: Some(1468),
            timeout: Some(1),
            tsize: Some(70_000),
            windowsize: Some(64)
        }
    );
    let none = Options::default();
    for (asked, given) in [
        (none, none),
        (
            Options {
                blksize: Some(7),
                ..none
            },
            none,
        ),
        (
            Options {
                blksize: Some(8),
                ..none
            },
            Options {
                blksize: Some(8),
                ..none
            },
        ),
        (
            Options {
                windowsize: Some(0),
                ..none
            },
            none,
        ),
        (
            Options {
                timeout: Some(6),
                ..none
            },
            none,
        ),
        (
            Options {
                timeout: Some(0),
                ..none
            },
            none,
        ),
        (
            Options { tsize: Some(9), ..none },
            Options {
                tsize: Some(70_000),
                ..none
            },
        ),
    ] {
        assert_eq!(granted(asked), given, "{asked:?}");
    }
    let mut text = ask(Options { tsize: Some(0), ..none });
    text.mode = Mode::Netascii;
    let sent = step(&mut transfer(text, 4), T0, b"a\nb\n");
    assert_eq!(
        sent,
        [b"\0\x03\0\x01a\r\nb\r\n".to_vec()],
        "a translated file has no size to tell"
    );
}

#[test]
fn waits_double_and_the_forged_get_five_packets() {
    let file = vec![7; 1000];
    let mut transfer = transfer(ask(Options::default()), 1000);
    assert_eq!(blocks(&step(&mut transfer, T0, &file)), [1]);
    let (mut now, mut waits) = (T0, Vec::new());
    while let Some(deadline) = transfer.poll_timeout() {
        assert!(step(&mut transfer, deadline - Duration::from_millis(1), &file).is_empty());
        waits.push((deadline - now).as_secs());
        now = deadline;
        let sent = step(&mut transfer, now, &file);
        assert_eq!(sent.len(), usize::from(transfer.end().is_none()));
    }
    assert_eq!(waits, [1, 2, 4, 8, 8]);
    assert_eq!(
        transfer.end(),
        Some(&End::Silent {
            after: Reached::FirstReply
        })
    );
}

#[test]
fn the_known_get_six_tries() {
    let file = vec![7; 2000];
    let mut transfer = transfer(ask(Options::default()), 2000);
    step(&mut transfer, T0, &file);
    ack(&mut transfer, T0, 1);
    let mut sends = 0;
    loop {
        let now = transfer.poll_timeout().unwrap_or(T0);
        let sent = step(&mut transfer, now, &file);
        if transfer.end().is_some() {
            break;
        }
        assert_eq!(blocks(&sent), [2]);
        sends += 1;
    }
    assert_eq!(sends, SENDS);
    assert_eq!(
        transfer.end(),
        Some(&End::Silent {
            after: Reached::Block(2)
        })
    );
    assert_eq!(transfer.acknowledged(), 512);
}

#[test]
fn who_repeats_its_ack_is_given_more_tries_but_not_for_ever_and_nothing_at_once() {
    let file = vec![7; 2000];
    let mut transfer = transfer(ask(Options::default()), 2000);
    step(&mut transfer, T0, &file);
    ack(&mut transfer, T0, 1);
    let (mut now, mut sends, mut last) = (T0, step(&mut transfer, T0, &file).len(), T0);
    while let Some(deadline) = transfer.poll_timeout() {
        // The reader's own clock: it says every second where it is.
        while now + Duration::from_secs(1) < deadline {
            now += Duration::from_secs(1);
            ack(&mut transfer, now, 1);
            assert!(
                step(&mut transfer, now, &file).is_empty(),
                "a repeated ACK brings nothing"
            );
        }
        now = deadline;
        let sent = step(&mut transfer, now, &file).len();
        sends += sent;
        if sent > 0 {
            last = now;
        }
        assert!(now - T0 < Duration::from_secs(200), "it never ends");
    }
    assert!(transfer.end().is_some());
    assert!(last - T0 > Duration::from_secs(60), "{:?}", last - T0);
    assert!((10..=16).contains(&sends), "{sends} in waits that double up to 8 s");
}

#[test]
fn no_sorcerers_apprentice() {
    let file = vec![7; 5000];
    let mut transfer = transfer(ask(Options::default()), 5000);
    step(&mut transfer, T0, &file);
    ack(&mut transfer, T0, 1);
    assert_eq!(blocks(&step(&mut transfer, T0, &file)), [2]);
    for stale in [1, 1, 0, 65_535, 7] {
        ack(&mut transfer, T0, stale);
        assert!(step(&mut transfer, T0, &file).is_empty(), "{stale}");
    }
}

#[test]
fn a_window_is_sent_again_once_for_its_first_block() {
    let file = vec![7; 100_000];
    let mut transfer = transfer(sized(512, 4), 100_000);
    step(&mut transfer, T0, &file);
    ack(&mut transfer, T0, 0);
    assert_eq!(blocks(&step(&mut transfer, T0, &file)), [1, 2, 3, 4]);
    ack(&mut transfer, T0, 4);
    assert_eq!(blocks(&step(&mut transfer, T0, &file)), [5, 6, 7, 8]);
    ack(&mut transfer, T0, 4);
    assert_eq!(
        blocks(&step(&mut transfer, T0, &file)),
        [5, 6, 7, 8],
        "block 5 was lost"
    );
    ack(&mut transfer, T0, 4);
    assert!(step(&mut transfer, T0, &file).is_empty(), "once per window");
    ack(&mut transfer, T0, 8);
    assert_eq!(blocks(&step(&mut transfer, T0, &file)), [9, 10, 11, 12]);
    ack(&mut transfer, T0, 8);
    assert!(
        step(&mut transfer, T0, &file).is_empty(),
        "the echo of the doubled window"
    );
    // In the middle of a window it slides, and as long as echoes are about, only silence brings blocks again.
    ack(&mut transfer, T0, 10);
    assert_eq!(blocks(&step(&mut transfer, T0, &file)), [13, 14]);
    let soon = transfer.poll_timeout().unwrap();
    assert!(soon < T0 + Duration::from_millis(100), "{:?}", soon - T0);
    assert_eq!(blocks(&step(&mut transfer, soon, &file)), [11, 12, 13, 14]);
    ack(&mut transfer, soon, 14);
    assert_eq!(blocks(&step(&mut transfer, soon, &file)), [15, 16, 17, 18]);
    ack(&mut transfer, soon, 18);
    assert_eq!(blocks(&step(&mut transfer, soon, &file)), [19, 20, 21, 22]);
    // No echoes any more: the window starts anew at once.
    ack(&mut transfer, soon, 20);
    assert_eq!(blocks(&step(&mut transfer, soon, &file)), [21, 22, 23, 24]);
}

#[test]
fn probes_and_aborts_are_told_apart() {
    let probe = ask(Options {
        tsize: Some(0),
        ..Options::default()
    });
    let file = vec![7; 9000];
    let begin = |request: Request, acks: &[u16]| {
        let mut transfer = transfer(request, 9000);
        step(&mut transfer, T0, &file);
        for block in acks {
            ack(&mut transfer, T0, *block);
            step(&mut transfer, T0, &file);
        }
        transfer
    };
    let error = |code| Packet::error(code, "no\nmore");
    let aborted = |code| End::Aborted {
        code,
        message: "no\\nmore".to_owned(),
    };
    for (request, acks, code, end) in [
        (&probe, &[][..], ErrorCode::OPTIONS, End::Probed),
        (&probe, &[], ErrorCode::OTHER, End::Probed),
        (&probe, &[0], ErrorCode::OPTIONS, End::Probed),
        (&probe, &[0], ErrorCode(3), aborted(ErrorCode(3))),
        (&probe, &[0, 1], ErrorCode::OPTIONS, aborted(ErrorCode::OPTIONS)),
        (&sized(600, 2), &[], ErrorCode::OPTIONS, aborted(ErrorCode::OPTIONS)),
        (
            &ask(Options::default()),
            &[1],
            ErrorCode::OTHER,
            aborted(ErrorCode::OTHER),
        ),
    ] {
        let mut transfer = begin(request.clone(), acks);
        transfer.handle(T0, &error(code));
        assert_eq!(transfer.end(), Some(&end), "{request:?} {acks:?}");
        assert!(step(&mut transfer, T0, &file).is_empty(), "an error is not answered");
        assert_eq!(transfer.poll_timeout(), None);
    }
    let mut gone = begin(probe.clone(), &[]);
    gone.unreachable();
    assert_eq!(gone.end(), Some(&End::Probed));
    let mut gone = begin(probe, &[0, 1]);
    gone.unreachable();
    assert_eq!(
        gone.end(),
        Some(&End::Gone {
            after: Reached::Block(2)
        })
    );
}

#[test]
fn a_file_that_breaks_is_said_to_the_peer() {
    for piece in [Err("I/O error".to_owned()), Ok(Bytes::from_static(b"short"))] {
        let mut transfer = transfer(ask(Options::default()), 1000);
        assert!(transfer.wants().is_some());
        assert!(transfer.wants().is_none(), "a piece is asked for once");
        transfer.supply(piece);
        assert!(matches!(transfer.end(), Some(End::Unreadable(_))));
        let mut out = Vec::new();
        transfer.poll_transmit(T0, &mut out).unwrap();
        assert!(matches!(
            Packet::decode(&out),
            Ok(Packet::Error {
                code: ErrorCode::OTHER,
                ..
            })
        ));
        assert!(transfer.poll_transmit(T0, &mut out).is_none());
    }
}

#[test]
fn block_numbers_start_again_at_zero() {
    let file = Random::new(1).bytes(8 * 150_000 + 3);
    for window in [1, 8, 64] {
        let outcome = run(1, &file, &sized(8, window), 1500, Weather::default());
        assert_eq!(outcome.end, Some(End::Sent));
        assert!(outcome.received == file, "window {window}");
        assert_eq!(outcome.blocks_sent, 150_001);
    }
}

#[test]
fn every_length_around_a_block_and_a_piece_arrives() {
    let file = Random::new(2).bytes(200_000);
    for length in [0, 1, 511, 512, 513, 1024, 65_535, 65_536, 65_537, 131_072, 200_000] {
        for request in [
            ask(Options::default()),
            sized(512, 3),
            sized(1468, 64),
            sized(65_464, 1),
        ] {
            let outcome = run(3, &file[..length], &request, 1500, Weather::default());
            assert_eq!(outcome.end, Some(End::Sent));
            assert!(outcome.received == file[..length], "{length} {request:?}");
        }
    }
}

#[test]
fn bytes_arrive_whole_in_any_weather() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let length = random.below(300_000) as usize;
        let file = random.bytes(length);
        let (blksize, window) = (8 + random.below(1500), 1 + random.below(70));
        let mut request = if random.chance(15) {
            ask(Options::default())
        } else {
            sized(blksize.max(200), window)
        };
        let mut expected = file.clone();
        if random.chance(20) {
            request.mode = Mode::Netascii;
            expected = netascii::encode(&file).to_vec();
        }
        let weather = Weather {
            loss: random.below(6),
            double: random.below(5),
            late: random.below(10),
            double_acks: 0,
        };
        let outcome = run(seed, &file, &request, 1500, weather);
        assert!(outcome.complete, "seed {seed}: {:?}", outcome.end);
        assert!(outcome.received == expected, "seed {seed}");
        // Pieces of a window or 64 KiB, at most two of them at a time, and one that is being read.
        let piece = 1468 * 65;
        assert!(
            outcome.most_held <= 3 * piece,
            "seed {seed}: {} bytes held",
            outcome.most_held
        );
    }
}

#[test]
fn doubled_acks_never_double_the_traffic() {
    let file = Random::new(4).bytes(400_000);
    let weather = Weather {
        double_acks: 100,
        ..Weather::default()
    };
    let one = run(5, &file, &ask(Options::default()), 1500, weather);
    assert!(one.received == file);
    assert_eq!(one.blocks_sent, 400_000 / 512 + 1, "every ACK came twice");
    let light = Weather {
        double_acks: 3,
        double: 3,
        ..Weather::default()
    };
    let eight = run(5, &file, &sized(512, 8), 1500, light);
    assert!(eight.received == file);
    assert!(eight.blocks_sent < 1000, "{} blocks for 782", eight.blocks_sent);
    assert!(eight.took < Duration::from_secs(5), "{:?}", eight.took);
}

/// A lost block costs a round trip or a moment of doubt; only the last block of a window, or its ACK, costs a full wait.
/// 341 and 43 windows at 2 % of such losses: about 7 and 1 waits of a second.
#[test]
fn losses_in_windows_are_mended_fast() {
    let file = Random::new(6).bytes(4_000_000);
    for (window, seconds) in [(8, 12), (64, 4)] {
        let weather = Weather {
            loss: 1,
            ..Weather::default()
        };
        let outcome = run(6, &file, &sized(1468, window), 1500, weather);
        assert!(outcome.received == file);
        assert!(
            outcome.took < Duration::from_secs(seconds),
            "window {window}: {:?}",
            outcome.took
        );
    }
}

/// No sequence of datagrams makes it panic, send without end, or send more than a window for one datagram.
#[test]
fn hostile_peers_get_no_more_than_a_window_each_time() {
    let file = vec![1; 90_000];
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let window = 1 + random.below(64);
        let mut transfer = transfer(sized(100, window), file.len() as u64);
        let mut now = T0;
        for _ in 0..300 {
            let datagram = match random.below(4) {
                0 => random.bytes(8),
                _ => Packet::Ack {
                    block: (random.below(200) as u16).wrapping_sub(50),
                }
                .to_bytes(),
            };
            transfer.handle(now, &datagram);
            now += Duration::from_millis(random.below(40));
            assert!(step(&mut transfer, now, &file).len() as u64 <= window.max(1));
        }
    }
}
