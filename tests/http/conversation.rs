//! What is said on a connection: header bytes, refusals, reports, deadlines.

use super::{Lab, MAC, curl, curl_text, read_answer};
use cordwainer::boot::{Effect, When};
use cordwainer::event::What;
use cordwainer::install::{ArmId, Input, ServerKey, Stage, Token, TokenKind};
use cordwainer::inventory::Row;
use cordwainer::model::Inherit;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn the_header_is_what_grub_compares_byte_for_byte() {
    let lab = Lab::start();
    for path in [
        "d/lab/boot/vmlinuz",
        "b/ipxe",
        "l/snponly.efi",
        "nothing",
        "healthz",
        "metrics",
        "",
    ] {
        let answer = lab.get(path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 404 "),
            "{head}"
        );
        assert!(
            head.contains(&format!("\r\nContent-Length: {}", body.len())),
            "{path}: {head}"
        );
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(": ").unwrap();
            assert!(!value.trim().is_empty(), "{path}: empty value in {line}");
            let title = name
                .split('-')
                .all(|part| part.starts_with(|c: char| c.is_ascii_uppercase()));
            assert!(title, "{path}: {line} is not in title case");
        }
        assert!(!head.contains("Transfer-Encoding"), "{head}");
    }
}

#[test]
fn every_refusal_is_the_same_404_byte_for_byte() {
    let lab = Lab::start();
    let plain = |answer: String| -> String {
        let kept: Vec<&str> = answer
            .split("\r\n")
            .filter(|line| !line.starts_with("Date: "))
            .collect();
        kept.join("\r\n")
    };
    let unknown = plain(lab.get("no/such/path"));
    assert!(unknown.starts_with("HTTP/1.1 404 Not Found\r\n"), "{unknown}");
    let (install, report) = (lab.install.reveal(), lab.report.reveal());
    for path in [
        // The right token from the wrong address, and for a file that is none; then every wrong token.
        format!("i/{install}/ks.cfg"),
        format!("i/{install}/../../etc/passwd"),
        format!("i/{report}/ks.cfg"),
        format!("i/{}/ks.cfg", install.to_uppercase()),
        "i/aaaa/ks.cfg".into(),
        format!("i/{install}"),
        format!("r/{install}/done"),
        "r/aaaa/done".into(),
        "d/other/x".into(),
        "d/lab/missing".into(),
        "d/lab/out".into(),
        "d/lab/boot/vmlinuz/x".into(),
        "d/lab/%2e%2e/secret".into(),
        "l/none.efi".into(),
        "l/gone.efi".into(),
        "b/52-54-00-7c-1d-4f/nonsense".into(),
        "%00".into(),
        "a/".repeat(900),
    ] {
        assert_eq!(plain(lab.get(&path)), unknown, "{path}");
    }
    let events = format!("{:?}", lab.record.events());
    assert!(
        !events.contains(install) && !events.contains(report),
        "a token in an event"
    );
    assert!(
        !events.to_lowercase().contains(&install[2..]),
        "most of a token in an event"
    );
    lab.record.wait(|what| matches!(what, What::AnswerRefused { .. }));
    lab.record
        .wait(|what| matches!(what, What::AssetMissing { what, .. } if what == "loader gone.efi"));
    assert!(lab.record.before.lock().unwrap().is_empty());
}

#[test]
fn a_report_is_durable_before_it_is_answered() {
    let lab = Lab::start();
    let url = lab.url(&format!("r/{}/partitioning", lab.report.reveal()));
    assert_eq!(curl_text(&["-d", "sda with 2 parts\n", &url]), "ok\n");
    let stored = lab.record.before.lock().unwrap().clone();
    let [
        Effect::Install {
            when: When::Before,
            act,
        },
    ] = stored.as_slice()
    else {
        panic!("{stored:?}");
    };
    assert_eq!(act.input, Input::Reached(Stage::Partitioning));
    let event = lab.record.wait(|what| matches!(what, What::Stage { .. }));
    let What::Stage {
        stage,
        detail,
        reported,
    } = event.what
    else {
        unreachable!()
    };
    assert_eq!(
        (stage.as_str(), detail.as_deref(), reported),
        ("partitioning", Some("sda with 2 parts"), true)
    );
    assert_eq!(event.system.unwrap().as_str(), "web1");

    // A disk that takes nothing: the installer is not told that it was heard.
    lab.record.disk_full.store(true, Ordering::SeqCst);
    let done = lab.url(&format!("r/{}/done", lab.report.reveal()));
    assert_eq!(curl_text(&["-o", "/dev/null", "-w", "%{http_code}", &done]), "503");
    lab.record.disk_full.store(false, Ordering::SeqCst);
    assert_eq!(curl_text(&[&format!("{done}?detail=all+well")]), "ok\n");
    assert_eq!(lab.record.before.lock().unwrap().len(), 2);

    // A large body is taken in and answered; its first words are kept.
    let big = lab.dir.path().join("big");
    std::fs::write(&big, "x ".repeat(100_000)).unwrap();
    let progress = lab.url(&format!("r/{}/my-own-word", lab.report.reveal()));
    assert_eq!(
        curl_text(&["--data-binary", &format!("@{}", big.display()), &progress]),
        "ok\n"
    );
    let event = lab
        .record
        .wait(|what| matches!(what, What::Stage { stage, .. } if stage == "my-own-word"));
    assert!(matches!(event.what, What::Stage { detail: Some(detail), .. } if detail.len() == 1024));
}

#[test]
fn a_head_changes_nothing_and_the_connection_stays_open() {
    let lab = Lab::start();
    let mut stream = lab.connect();
    let report = format!("r/{}/done", lab.report.reveal());
    for (path, length) in [
        ("l/snponly.efi", "9"),
        ("d/lab/boot/vmlinuz", "8"),
        (report.as_str(), "3"),
        ("d/lab/empty", "0"),
    ] {
        stream
            .write_all(format!("HEAD /{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .unwrap();
        let (head, _) = read_answer(&mut stream, false);
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        assert!(
            head.contains(&format!("\r\nContent-Length: {length}\r\n")),
            "{path}: {head}"
        );
        assert!(!head.contains("Connection: close"), "{head}");
    }
    assert_eq!(
        (lab.record.before.lock().unwrap().len(), lab.record.events().len()),
        (0, 0)
    );
    stream
        .write_all(b"GET /l/snponly.efi HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let (head, body) = read_answer(&mut stream, true);
    assert!(head.contains("\r\nContent-Type: application/efi\r\n"), "{head}");
    assert_eq!(body, b"MZ loader");
    let event = lab.record.wait(|what| matches!(what, What::HttpSent { .. }));
    assert_eq!(event.mac, Some(MAC));

    let (one, two) = (lab.url("d/lab/boot/vmlinuz"), lab.url("d/lab/boot/initrd.img"));
    let counts = curl_text(&[
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        "-w",
        "%{num_connects} ",
        &one,
        &two,
    ]);
    assert_eq!(counts, "1 0 ", "the second request must use the first's connection");
}

#[test]
fn other_methods_are_refused_alike_whatever_the_path() {
    let lab = Lab::start();
    for (method, path, allow) in [
        ("POST", "d/lab/boot/vmlinuz", "GET, HEAD"),
        ("PUT", "d/lab/missing", "GET, HEAD"),
        ("DELETE", "r/aaaa/done", "GET, HEAD, POST"),
    ] {
        let answer = curl_text(&["-i", "-X", method, &lab.url(path)]);
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains(&format!("\r\nAllow: {allow}\r\n")), "{answer}");
    }
}

#[test]
fn a_client_that_is_slow_with_its_header_is_cut_and_an_idle_one_is_not() {
    let header = Duration::from_millis(300);
    let lab = Lab::with(|options| {
        options.patience.header = header;
        options.patience.idle = Duration::from_secs(3);
    });
    // One byte at a time, for ever: the connection is closed soon after the deadline.
    let mut slow = lab.connect();
    slow.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let began = Instant::now();
    let closed = loop {
        // Writing to a closed connection fails, which is the end that is waited for.
        let _ = slow.write_all(b"G");
        match slow.read(&mut [0; 64]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(0) | Err(_) => break began.elapsed(),
            Ok(_) => {}
        }
        assert!(began.elapsed() < Duration::from_secs(20), "a slow header is never cut");
    };
    assert!(closed >= header, "cut after {closed:?}");

    // Between two requests the header's deadline does not count.
    let mut idle = lab.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_answer(&mut idle, true);
    idle.set_read_timeout(Some(header * 3)).unwrap();
    let waited = idle.read(&mut [0; 64]).unwrap_err();
    assert!(
        matches!(waited.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{waited}"
    );
    idle.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_answer(&mut idle, true);
    // Then it ends, without a word.
    assert_eq!(idle.read(&mut [0; 64]).unwrap(), 0);
}

#[test]
fn who_guesses_tokens_is_no_longer_answered_and_a_stale_token_is_no_guess() {
    let lab = Lab::start();
    let stale = Token::derive(&ServerKey::new([7; 32]), &ArmId("longago".into()), TokenKind::Report);
    let status = |path: &str| lab.get(path).lines().next().unwrap_or("nothing").to_owned();
    for _ in 0..30 {
        assert_eq!(
            status(&format!("r/{}/booted", stale.reveal())),
            "HTTP/1.1 404 Not Found"
        );
    }
    for n in 0..20 {
        let guess = format!(
            "i/a1{}/ks.cfg",
            format!("{n:02}").replace(['0', '1', '8', '9'], "a").repeat(16)
        );
        assert_eq!(status(&guess), "HTTP/1.1 404 Not Found", "{n}");
    }
    assert_eq!(status("i/x/ks.cfg"), "nothing");
    assert_eq!(status("r/x/done"), "nothing");
    // All else goes on, the genuine tokens too: another machine may share the address.
    assert_eq!(status("d/lab/boot/vmlinuz"), "HTTP/1.1 200 OK");
    assert_eq!(status(&format!("r/{}/started", lab.report.reveal())), "HTTP/1.1 200 OK");
    lab.record.wait(
        |what| matches!(what, What::AnswerRefused { cause } if cause.starts_with("20 wrong tokens within a minute")),
    );
}

#[test]
fn a_header_above_16_kib_is_refused() {
    let lab = Lab::start();
    let small = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: {}\r\n\r\n",
        "a".repeat(8000)
    );
    assert!(lab.raw(&small).starts_with(b"HTTP/1.1 200 "));
    let large = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n",
        "a".repeat(17_000)
    );
    let mut stream = lab.connect();
    stream.write_all(large.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // The server may reset the connection, since it does not read on.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 431 ") || answer.is_empty());
    assert!(curl(&[&lab.url("healthz")]).status.success());
}

#[test]
fn one_address_has_its_share_of_connections_and_no_more() {
    let lab = Lab::with(|options| options.per_address = 3);
    let mut held: Vec<_> = (0..3).map(|_| lab.connect()).collect();
    for stream in &mut held {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        read_answer(stream, true);
    }
    let mut fourth = lab.connect();
    // Closed without an answer, by FIN or by RST.
    assert!(matches!(fourth.read(&mut [0; 16]), Ok(0) | Err(_)));
    held.clear();
    let end = Instant::now() + Duration::from_secs(20);
    while !curl(&[&lab.url("healthz")]).status.success() {
        assert!(Instant::now() < end, "seats are not given back");
    }
}

#[test]
fn from_outside_the_served_networks_only_reports_are_taken() {
    // Loopback is always served, so the rule is judged by the pure half.
    use cordwainer::http::{HttpRequest, Method, respond};
    use cordwainer::ports::Worlds;
    let lab = Lab::start();
    let world = lab.record.world();
    let ask = |path: &str, served| {
        let request = HttpRequest {
            method: Method::Get,
            path,
            query: None,
            body: b"",
            peer: "198.51.100.9".parse().unwrap(),
            local: "192.0.2.1".parse().unwrap(),
            neighbour: None,
            served,
        };
        respond(&world, &request).status
    };
    let report = format!("/r/{}/packages", lab.report.reveal());
    assert_eq!((ask(&report, true), ask(&report, false)), (200, 200));
    assert_eq!((ask("/d/lab/x", true), ask("/d/lab/x", false)), (200, 404));
    assert_eq!((ask("/b/ipxe", true), ask("/b/ipxe", false)), (200, 404));
}

#[test]
fn the_counters_are_served() {
    let lab = Lab::start();
    curl_text(&[&lab.url("d/lab/boot/vmlinuz")]);
    lab.record.wait(|what| matches!(what, What::HttpSent { .. }));
    let page = curl_text(&[&lab.url("metrics")]);
    for line in [
        "cordwainer_events_total{code=\"HTTP_SENT\"} 1",
        "cordwainer_sent_bytes_total{protocol=\"http\"} 8",
        "cordwainer_machines{state=\"claimed\"} 1",
        "cordwainer_leases 1",
        "cordwainer_http_connections 1",
    ] {
        assert!(page.lines().any(|seen| seen == line), "{line} in\n{page}");
    }
}

#[test]
fn the_machine_itself_gets_its_answer_file_once_it_is_noted_and_nobody_else_does() {
    let lab = Lab::start();
    let url = lab.url(&format!("i/{}/answer.cfg", lab.install.reveal()));
    let status = || curl_text(&["-o", "/dev/null", "-w", "%{http_code}", &url]);
    assert_eq!(status(), "404");
    lab.record.on_link.store(true, Ordering::SeqCst);
    let text = curl_text(&["-i", &url]);
    assert!(
        text.contains("\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n"),
        "{text}"
    );
    let report = lab.report.reveal();
    let base = lab.address.ip();
    assert!(
        text.ends_with(&format!("host=web1\nreport=http://{base}/r/{report}\n")),
        "{text}"
    );
    let stored = lab.record.before.lock().unwrap().clone();
    let [
        Effect::Install {
            when: When::Before,
            act,
        },
    ] = stored.as_slice()
    else {
        panic!("{stored:?}");
    };
    assert_eq!(act.input, Input::AnswersFetched);
    let event = lab.record.wait(|what| matches!(what, What::AnswerFile { .. }));
    assert_eq!(event.system.unwrap().as_str(), "web1");
    // Proxmox posts its facts for it; a HEAD tells the length and notes nothing.
    assert!(curl_text(&["-d", "{}", &url]).starts_with("host=web1"));
    assert!(curl_text(&["-I", &url]).contains("\r\nContent-Length: "));
    assert_eq!(lab.record.before.lock().unwrap().len(), 2);
    lab.record.disk_full.store(true, Ordering::SeqCst);
    assert_eq!(status(), "503");
    let events = format!("{:?}", lab.record.events());
    assert!(!events.contains(lab.install.reveal()) && !events.contains(report));
}

#[test]
fn a_template_that_cannot_be_rendered_is_named_to_the_admin_and_not_to_the_client() {
    let lab = Lab::in_world(
        |_| {},
        |world| {
            let mut inventory = (*world.inventory).clone();
            let mut profile = (**inventory.profile("lab").unwrap()).clone();
            profile.autoinstall = Inherit::Set("lab/broken.cfg".into());
            inventory.put(Row::Profile(Arc::new(profile)));
            world.inventory = Arc::new(inventory);
        },
    );
    lab.record.on_link.store(true, Ordering::SeqCst);
    let answer = lab.get(&format!("i/{}/broken.cfg", lab.install.reveal()));
    assert!(
        answer.starts_with("HTTP/1.1 500 ") && !answer.contains("no_such_thing"),
        "{answer}"
    );
    let event = lab.record.wait(|what| matches!(what, What::TemplateBroken { .. }));
    assert!(event.what.to_string().contains("lab/broken.cfg:2"), "{}", event.what);
    assert!(lab.record.before.lock().unwrap().is_empty());
}

#[test]
fn the_boot_script_of_an_armed_machine_is_a_claim_that_must_be_durable() {
    let lab = Lab::start();
    let url = lab.url("b/52-54-00-7c-1d-4f/ipxe");
    // From another address than the machine's it boots from disk, and nothing is noted.
    assert!(!curl_text(&[&url]).contains("vmlinuz"));
    lab.record.on_link.store(true, Ordering::SeqCst);
    lab.record.before.lock().unwrap().clear();
    lab.record.disk_full.store(true, Ordering::SeqCst);
    assert_eq!(curl_text(&["-o", "/dev/null", "-w", "%{http_code}", &url]), "503");
    lab.record.disk_full.store(false, Ordering::SeqCst);
    let script = curl_text(&[&url]);
    assert!(
        script.starts_with("#!ipxe\n") && script.contains("/d/lab/boot/vmlinuz"),
        "{script}"
    );
    let stored = lab.record.before.lock().unwrap().clone();
    assert!(
        matches!(stored.as_slice(), [Effect::Install { act, .. }] if matches!(act.input, Input::Launch { mac: MAC, .. })),
        "{stored:?}"
    );
    lab.record
        .wait(|what| matches!(what, What::Script { gives, .. } if gives == "install lab"));
}

#[test]
fn the_address_of_the_numbers_gives_them_and_nothing_that_boots() {
    let mut lab = Lab::with(|options| options.metrics_listen = Some("127.0.0.1:0".parse().unwrap()));
    let numbers = lab.numbers.unwrap();
    let page = curl_text(&[&format!("http://{numbers}/metrics")]);
    assert!(page.contains("cordwainer_"), "{page}");
    assert!(page.ends_with("# EOF\n"), "{page}");
    assert_eq!(curl_text(&[&format!("http://{numbers}/healthz")]), "ok\n");
    lab.record.on_link.store(true, Ordering::SeqCst);
    for path in [
        "",
        "d/lab/boot/vmlinuz",
        &format!("i/{}/answer.cfg", lab.install.reveal()),
    ] {
        assert!(
            !curl_text(&["-o", "/dev/null", "-w", "%{http_code}", &lab.url(path)]).starts_with("404"),
            "{path}"
        );
        let code = curl_text(&[
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &format!("http://{numbers}/{path}"),
        ]);
        assert_eq!(code, "404", "{path}");
    }
    lab.ask_to_stop();
    lab.finish();
    assert!(TcpStream::connect(numbers).is_err());
}
