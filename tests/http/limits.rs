//! What a hostile or broken client may do, and what it must not reach: limits of security-reliability 3.2, each with its proof.

use super::{Lab, read_answer};
use cordwainer::event::What;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Everything that comes until the server closes, and how long that took.
fn answer_to(lab: &Lab, bytes: &[u8]) -> (String, Duration) {
    let mut stream = lab.connect();
    let began = Instant::now();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(read.is_ok(), "{read:?} after {:?}", String::from_utf8_lossy(&answer));
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}

#[test]
fn requests_that_two_readers_frame_differently_end_the_connection() {
    let lab = Lab::start();
    let smuggled = "GET /d/lab/boot/vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n";
    let report = format!("POST /r/{}/smuggled HTTP/1.1\r\nHost: x\r\n", lab.report.reveal());
    for (framing, status) in [
        ("Content-Length: 0\r\nContent-Length: 5\r\n\r\n", "400"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", "400"),
        (
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n", "411"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "411"),
        ("Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", "400"),
        ("Transfer-Encoding: identity, chunked\r\nX: y\r\n\r\n", "411"),
        ("Content-Length: 0\n\n", "400"),
        ("X: a\r\n b\r\nContent-Length: 0\r\n\r\n", "400"),
        ("Content-Length: 99999999999999999999999\r\n\r\n", "400"),
        ("Content-Length: 1048577\r\n\r\n", "413"),
        ("Expect: 200-ok\r\nContent-Length: 0\r\n\r\n", "417"),
    ] {
        let (answer, took) = answer_to(&lab, format!("{report}{framing}{smuggled}").as_bytes());
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{framing:?}: {answer}"
        );
        assert!(answer.contains("\r\nConnection: close\r\n"), "{framing:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{framing:?}: {answer}");
        assert!(
            !answer.contains("a kernel"),
            "the second request was heard: {framing:?}"
        );
        assert!(took < Duration::from_secs(4), "{framing:?} took {took:?}");
    }
    assert!(lab.record.before.lock().unwrap().is_empty(), "a report was taken");
}

#[test]
fn whoever_speaks_another_protocol_is_told_at_once() {
    let lab = Lab::start();
    let hello = [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3];
    for (bytes, status) in [
        (&hello[..], "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        (b"GET /healthz\r\n", "400"),
        (b"GET /healthz HTTP/3.0\r\n", "505"),
        (b"\0\0\0\0", "400"),
        (b"GET healthz HTTP/1.1\r\n\r\n", "400"),
    ] {
        let (answer, took) = answer_to(&lab, bytes);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{bytes:?}: {answer}"
        );
        // Well before any deadline of a header or a lingering close.
        assert!(took < Duration::from_secs(4), "{bytes:?} took {took:?}");
    }
    let (tls, _) = answer_to(&lab, &hello);
    assert!(
        tls.ends_with("the URL must begin with http://, not https://\n"),
        "{tls}"
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let lab = Lab::start();
    let mut stream = lab.connect();
    let mut asked = String::from("\r\n");
    for path in [
        "/healthz",
        "/d/lab/boot/vmlinuz",
        "http://other/d/lab/boot/initrd.img",
        "//d//lab/boot/vmlinuz",
    ] {
        asked.push_str(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    stream.write_all(asked.as_bytes()).unwrap();
    for body in [&b"ok\n"[..], b"a kernel", b"an initrd", b"a kernel"] {
        assert_eq!(read_answer(&mut stream, true).1, body);
    }
    // A body that nobody wants is not taken for a request.
    let inner = "GET /d/lab/boot/vmlinuz HTTP/1.1\r\n\r\n";
    let (answer, _) = answer_to(
        &lab,
        format!(
            "GET /healthz HTTP/1.1\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        )
        .as_bytes(),
    );
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"),
        "{answer}"
    );
}

#[test]
fn headers_are_bounded_in_number_and_size() {
    let lab = Lab::start();
    let request = |fields: usize| {
        format!(
            "GET /healthz HTTP/1.1\r\n{}Connection: close\r\n\r\n",
            "X: y\r\n".repeat(fields)
        )
    };
    assert!(answer_to(&lab, request(99).as_bytes()).0.starts_with("HTTP/1.1 200 "));
    assert!(answer_to(&lab, request(100).as_bytes()).0.starts_with("HTTP/1.1 431 "));
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(40_000));
    assert!(answer_to(&lab, long.as_bytes()).0.starts_with("HTTP/1.1 431 "));
}

#[test]
fn a_body_that_stalls_is_refused_and_its_report_is_not_taken() {
    let lab = Lab::with(|options| options.patience.body = Duration::from_millis(300));
    let head = |length: usize| {
        format!(
            "POST /r/{}/stalls HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n",
            lab.report.reveal()
        )
    };
    let (answer, took) = answer_to(&lab, format!("{}some", head(5)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(took >= Duration::from_millis(300), "{took:?}");
    // One byte now and then, each in time: in the end it is the whole that takes too long.
    let mut slow = lab.connect();
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    slow.write_all(head(500).as_bytes()).unwrap();
    let began = Instant::now();
    let answer = loop {
        let mut answer = [0; 12];
        // The server may have closed.
        let _ = slow.write_all(b"x");
        match slow.read(&mut answer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break answer,
        }
        assert!(began.elapsed() < Duration::from_secs(20), "a slow body is never cut");
    };
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert!(lab.record.before.lock().unwrap().is_empty());
}

#[test]
fn who_reads_too_slowly_is_cut_and_who_pauses_after_a_fast_start_is_not() {
    let lab = Lab::with(|options| {
        options.patience.grace = Duration::from_millis(200);
        options.patience.stall = Duration::from_secs(600);
    });
    File::create(lab.tree().join("boot/initrd.img"))
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    // What the kernels' buffers took counts as taken: with small ones a client that stops at once has had little.
    let ask = |lab: &Lab| {
        let mut stream = lab.connect();
        stream
            .write_all(b"GET /d/lab/boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        stream
    };
    let mut fast = ask(&lab);
    let mut taken = vec![0; 8 << 20];
    fast.read_exact(&mut taken).unwrap();
    // Eight MiB earn more than two hours; the pause of an installer that unpacks is a part of that.
    std::thread::sleep(Duration::from_millis(800));
    fast.read_exact(&mut taken).unwrap();
    assert!(
        !lab.record
            .events()
            .iter()
            .any(|event| matches!(event.what, What::HttpBroken { .. }))
    );
}

/// One request from an address of its own out of 127.0.0.0/8.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(20))?;
    Ok(socket.into())
}

#[test]
fn a_busy_address_is_turned_away_with_503_and_told_of_and_idle_ones_give_way() {
    let lab = Lab::with(|options| options.per_address = 3);
    File::create(lab.tree().join("boot/initrd.img"))
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    let mut busy: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = lab.connect();
            stream
                .write_all(b"GET /d/lab/boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
            stream.read_exact(&mut [0; 100]).unwrap();
            stream
        })
        .collect();
    for _ in 0..3 {
        let (answer, _) = answer_to(&lab, b"");
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 2\r\n"),
            "{answer}"
        );
    }
    let event = lab.record.wait(|what| matches!(what, What::HttpCrowded { .. }));
    assert_eq!(
        event.what.to_string(),
        "connection turned away: 3 of this address are busy"
    );
    let told = lab.record.events();
    assert_eq!(
        told.iter()
            .filter(|event| matches!(event.what, What::HttpCrowded { .. }))
            .count(),
        1
    );
    // Another address has a share of its own.
    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 9), lab.address).unwrap();
    other.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    read_answer(&mut other, true);
    // Once one is through and only waits, it gives way to the next.
    let mut rest = Vec::new();
    busy.truncate(2);
    // A connection counts as busy until the server has seen the end of it, or of its answer.
    let heard = || {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut stream = lab.connect();
            stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).unwrap();
            if &start == b"HTTP/1.1 200" {
                return stream;
            }
            assert!(Instant::now() < deadline, "nobody gives way");
        }
    };
    let mut idle = heard();
    let _next = heard();
    idle.read_to_end(&mut rest).unwrap();
}

#[test]
fn a_client_cannot_keep_a_descriptor_of_a_file_that_nobody_reads() {
    // The file is open only while it is sent: an idle connection costs one descriptor.
    let lab = Lab::start();
    let mut streams: Vec<_> = (0..50).map(|_| lab.connect()).collect();
    for stream in &mut streams {
        stream
            .write_all(b"GET /d/lab/boot/vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert_eq!(read_answer(stream, true).1, b"a kernel");
    }
    let kernel = lab.tree().join("boot/vmlinuz");
    let open = || {
        let folder = std::fs::read_dir("/proc/self/fd").unwrap();
        folder
            .filter(|fd| {
                fd.as_ref()
                    .is_ok_and(|fd| std::fs::read_link(fd.path()).is_ok_and(|at| at == kernel))
            })
            .count()
    };
    let end = Instant::now() + Duration::from_secs(20);
    while open() > 0 {
        assert!(Instant::now() < end, "{} descriptors stay open", open());
        std::thread::yield_now();
    }
    assert_eq!(streams.len(), 50);
}
