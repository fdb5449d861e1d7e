//! `import --path http://...`: fetched whole or not at all, taken up where it was cut off, and never from where it must not be.

use super::web::{Web, field, good, say};
use super::{Bench, lab, said};
use crate::iso::medium::{XORRISO, press};
use crate::lab::need;
use cordwainer::distro::checksum::Checksums;
use cordwainer::distro::download::{FetchError, Fetcher, Manners};
use cordwainer::distro::import::{Cause, ImportRequest, Place, tidy};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

fn manners() -> Manners {
    Manners {
        allow_local: true,
        patience: Some(Duration::from_secs(1)),
        ..Manners::default()
    }
}

/// The lab distro's tree, and an image of it with some megabytes more.
fn pressed() -> (Bench, Vec<u8>) {
    let bench = lab();
    let noise: Vec<u8> = (0..3_000_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::write(bench.tree().join("packages"), noise).unwrap();
    let image = bench.tree().with_file_name("lab.iso");
    press(&bench.tree(), &image, &["-r"]);
    let bytes = fs::read(image).unwrap();
    (bench, bytes)
}

fn of(bench: &Bench, url: String) -> ImportRequest {
    ImportRequest {
        path: PathBuf::from(url),
        manners: manners(),
        ..bench.request()
    }
}

fn downloads(bench: &Bench) -> Vec<String> {
    bench
        .in_state()
        .into_iter()
        .filter(|path| path.contains(".download-"))
        .collect()
}

#[test]
fn an_image_comes_from_a_url_and_leaves_no_part_behind() {
    if !need::all("import::url", &[&[XORRISO]]) {
        return;
    }
    let (mut bench, bytes) = pressed();
    let sum: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let web = Web::serving(bytes.clone(), "one");
    let mut request = of(&bench, web.url("pub/lab.iso"));
    let listed = format!("{sum}  lab.iso\n");
    let sums = Web::start(move |_, stream| {
        say(
            stream,
            &format!("200 OK\r\nContent-Length: {}", listed.len()),
            listed.as_bytes(),
        );
    });
    let text = Fetcher::new(&manners()).small(&sums.url("CHECKSUM"), 1000).unwrap();
    request.checksums = Some(Checksums::parse(std::str::from_utf8(&text).unwrap()).unwrap());
    let imported = bench.import(&request).unwrap();
    let tree = imported.distro.tree.clone().unwrap();
    assert_eq!(
        tree.root,
        fs::canonicalize(bench.state()).unwrap().join("distros/new/medium.iso")
    );
    assert!(!tree.in_place && tree.iso.is_some());
    assert!(fs::read(&tree.root).unwrap() == bytes);
    let text = said(&imported);
    assert!(
        text.contains("verified     its SHA-256 sum is one of the publisher's"),
        "{text}"
    );
    bench.store(&imported);
    imported.keep().unwrap();
    assert_eq!(bench.in_state(), ["distros/new", "distros/new/medium.iso"]);
    assert_eq!(web.counted(), (1, 0));
    // What its publisher does not vouch for is not kept, not even as a part.
    request.checksums = Some(Checksums::parse(&"0".repeat(64)).unwrap());
    let error = bench.import(&request).unwrap_err();
    assert!(matches!(error.0, Cause::Forged { .. }), "{error}");
    assert_eq!(bench.in_state(), ["distros/new", "distros/new/medium.iso"]);
    // The old copy is still served, and the next import replaces it.
    request.checksums = None;
    let again = bench.import(&request).unwrap();
    assert!(said(&again).contains("updated      distro new"), "{}", said(&again));
    bench.store(&again);
    again.keep().unwrap();
    assert_eq!(bench.in_state(), ["distros/new~2", "distros/new~2/medium.iso"]);
    let in_place = ImportRequest {
        place: Place::InPlace,
        ..request
    };
    let error = bench.import(&in_place).unwrap_err().to_string();
    assert!(error.contains("cannot be served from where it is"), "{error}");
}

#[test]
fn what_was_cut_off_goes_on_where_it_stopped_and_never_mixes_two_images() {
    if !need::all("import::resume", &[&[XORRISO]]) {
        return;
    }
    let (bench, bytes) = pressed();
    // The connection breaks after a megabyte, each time: one command takes it up again.
    let own = bytes.clone();
    let flaky = Web::start(move |head, stream| good(head, stream, &own, "one", 1_000_000));
    let imported = bench.import(&of(&bench, flaky.url("a.iso"))).unwrap();
    let root = imported.distro.tree.clone().unwrap().root;
    assert!(fs::read(root).unwrap() == bytes);
    let (asked, parts) = flaky.counted();
    assert!(asked >= 4 && parts == asked - 1, "{asked} {parts}");
    let heads = flaky.asked.lock().unwrap().clone();
    assert_eq!(field(&heads[1], "range").unwrap(), "bytes=1000000-");
    assert_eq!(field(&heads[1], "if-range").unwrap(), "\"one\"");
    imported.withdraw().unwrap();

    // A server that gives up in the middle: the part stays, and another command goes on.
    let (own, count) = (bytes.clone(), AtomicUsize::new(0));
    let dying = Web::start(move |head, stream| match count.fetch_add(1, Ordering::Relaxed) {
        0 => good(head, stream, &own, "two", 1_500_000),
        1 => {}
        _ => good(head, stream, &own, "two", usize::MAX),
    });
    let request = of(&bench, dying.url("a.iso"));
    let error = bench.import(&request).unwrap_err().to_string();
    assert!(error.contains("cannot be fetched: "), "{error}");
    assert_eq!(downloads(&bench).len(), 3, "{:?}", downloads(&bench));
    let imported = bench.import(&request).unwrap();
    assert!(fs::read(&imported.distro.tree.as_ref().unwrap().root).unwrap() == bytes);
    let heads = dying.asked.lock().unwrap().clone();
    assert_eq!(field(&heads[2], "range").unwrap(), "bytes=1500000-");
    imported.withdraw().unwrap();

    // Another image was put there in between: it begins anew.
    let (own, count) = (bytes.clone(), AtomicUsize::new(0));
    let changed = Web::start(move |head, stream| match count.fetch_add(1, Ordering::Relaxed) {
        0 => good(head, stream, &vec![7; own.len()], "old", 1_500_000),
        1 => {}
        _ => good(head, stream, &own, "new", usize::MAX),
    });
    let request = of(&bench, changed.url("a.iso"));
    assert!(bench.import(&request).is_err());
    let imported = bench.import(&request).unwrap();
    assert!(fs::read(&imported.distro.tree.as_ref().unwrap().root).unwrap() == bytes);
    imported.withdraw().unwrap();

    // An answer that begins elsewhere than was asked for is not joined to what is there.
    let (own, count) = (bytes.clone(), AtomicUsize::new(0));
    let wrong = Web::start(move |head, stream| match count.fetch_add(1, Ordering::Relaxed) {
        0 => good(head, stream, &own, "x", 1_500_000),
        1 => {
            let size = own.len();
            let range =
                format!("206 Partial Content\r\nETag: \"x\"\r\nContent-Length: 10\r\nContent-Range: bytes 5-14/{size}");
            say(stream, &range, &[0; 10]);
        }
        _ => good(head, stream, &own, "x", usize::MAX),
    });
    let imported = bench.import(&of(&bench, wrong.url("a.iso"))).unwrap();
    assert!(fs::read(&imported.distro.tree.as_ref().unwrap().root).unwrap() == bytes);
    assert_eq!(wrong.counted().0, 3);
    imported.withdraw().unwrap();

    // What came whole and was then refused is not fetched a second time.
    let web = Web::serving(bytes, "whole");
    let mut request = of(&bench, web.url("a.iso"));
    request.wishes.breed = Some("redhat".to_owned());
    for _ in 0..2 {
        let error = bench.import(&request).unwrap_err();
        assert!(matches!(error.0, Cause::Unfit { .. }), "{error}");
    }
    assert_eq!(web.counted(), (2, 1));
    request.wishes.breed = None;
    bench.import(&request).unwrap().withdraw().unwrap();
    // Nobody asks for a part for ever.
    let web = Web::start(|head, stream| good(head, stream, &[1; 5000], "z", 1000));
    assert!(bench.import(&of(&bench, web.url("b.iso"))).is_err());
    let parts = downloads(&bench);
    assert_eq!(parts.len(), 3, "{parts:?}");
    tidy(&bench.state(), || None).unwrap();
    assert_eq!(downloads(&bench).len(), 3, "it is young");
    let part = parts.iter().find(|path| path.ends_with("part")).unwrap();
    let part = fs::File::options().append(true).open(bench.state().join(part)).unwrap();
    part.set_modified(SystemTime::now() - Duration::from_secs(8 * 24 * 3600))
        .unwrap();
    tidy(&bench.state(), || None).unwrap();
    assert_eq!(downloads(&bench), [""; 0]);
}

#[test]
fn hosts_are_judged_by_their_addresses_and_redirects_again() {
    let web = Web::serving(vec![0; 100], "x");
    let strict = Fetcher::new(&Manners {
        allow_local: false,
        ..manners()
    });
    // A name that stands for this machine, and is not `localhost`.
    let host = fs::read_to_string("/etc/hostname")
        .unwrap_or_default()
        .trim()
        .to_owned();
    let own = format!("{host}:0");
    let resolved = std::net::ToSocketAddrs::to_socket_addrs(&own).map(|mut all| all.all(|one| one.ip().is_loopback()));
    if !host.is_empty() && resolved.unwrap_or(false) {
        let error = strict
            .reaches(&format!("http://{host}:{}/", web.address.port()))
            .unwrap_err();
        assert!(matches!(error, FetchError::Local(_)), "{error}");
    }
    for (host, what) in [
        ("127.0.0.1", "this machine"),
        ("localhost", "this machine"),
        ("169.254.169.254", "link"),
    ] {
        let error = strict
            .reaches(&format!("http://{host}:{}/", web.address.port()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(what) && error.contains("--allow-local-address"),
            "{error}"
        );
    }
    assert_eq!(web.counted(), (0, 0), "nobody was asked");
    let open = Fetcher::new(&manners());
    open.reaches(&web.url("x")).unwrap();
    let target = web.url("target");
    let redirecting = Web::start(move |head, stream| {
        let to = match head.split(' ').nth(1).unwrap() {
            "/good" => target.clone(),
            "/relative" => "/good".to_owned(),
            "/file" => "file:///etc/passwd".to_owned(),
            "/nowhere" => return say(stream, "302 Found\r\nContent-Length: 0", b""),
            round => round.to_owned(),
        };
        say(
            stream,
            &format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0"),
            b"",
        );
    });
    open.reaches(&redirecting.url("good")).unwrap();
    open.reaches(&redirecting.url("relative")).unwrap();
    let error = |path| open.reaches(&redirecting.url(path)).unwrap_err().to_string();
    assert!(error("file").contains("`file:` is not fetched"), "{}", error("file"));
    assert!(
        error("file").contains("redirected  by http://127.0.0.1"),
        "{}",
        error("file")
    );
    assert!(
        error("round").contains("redirects more than 5 times"),
        "{}",
        error("round")
    );
    assert!(
        error("nowhere").contains("does not say where to"),
        "{}",
        error("nowhere")
    );
}

#[test]
fn silence_and_a_trickle_are_given_up() {
    let (bench, _) = (lab(), ());
    let silent = Web::start(|_, stream| {
        say(stream, "200 OK\r\nContent-Length: 1000000", b"a");
        std::thread::sleep(Duration::from_secs(20));
    });
    let trickle = Web::start(|_, stream| {
        say(stream, "200 OK\r\nContent-Length: 1000000", b"");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let mute = Web::start(|_, _| std::thread::sleep(Duration::from_secs(20)));
    for web in [&silent, &trickle, &mute] {
        let error = bench.import(&of(&bench, web.url("a.iso"))).unwrap_err().to_string();
        assert!(error.contains("sends less than 1 KiB/s for 1 s"), "{error}");
    }
}
