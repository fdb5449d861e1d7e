//! Files: ranges, resuming, sizes beyond 4 GiB, folders, broken downloads, and what is told of them.

use super::{Lab, curl, curl_text, read_answer};
use cordwainer::boot::Effect;
use cordwainer::event::What;
use cordwainer::install::{Input, Stage};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

const GIB: u64 = 1 << 30;

/// Bytes that differ at every offset that a chunking mistake could mix up.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at * 31 + at / 251 + at / 65_536) % 256).unwrap())
        .collect()
}

#[test]
fn whole_files_ranges_and_resumes_are_the_files_own_bytes() {
    let lab = Lab::start();
    let bytes = pattern(3_000_001);
    std::fs::write(lab.tree().join("big"), &bytes).unwrap();
    let url = lab.url("d/lab/big");
    assert!(curl(&[&url]).stdout == bytes, "the whole file");
    for (range, from, to) in [
        ("0-0", 0, 1),
        ("262143-262145", 262_143, 262_146),
        ("-7", 2_999_994, 3_000_001),
        ("2999999-", 2_999_999, 3_000_001),
    ] {
        assert_eq!(curl(&["-r", range, &url]).stdout, &bytes[from..to], "{range}");
    }
    let partial = lab.dir.path().join("partial");
    std::fs::write(&partial, &bytes[..1_234_567]).unwrap();
    let out = partial.to_str().unwrap();
    assert!(curl(&["-C", "-", "-o", out, &url]).status.success());
    assert!(std::fs::read(&partial).unwrap() == bytes, "the resumed file");

    let head = curl_text(&["-I", &url]);
    let header = |name: &str| {
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("{name} in {head}"));
        line.trim().to_owned()
    };
    assert_eq!(header("Accept-Ranges: "), "bytes");
    let (etag, modified) = (header("ETag: "), header("Last-Modified: "));
    let status = |args: &[&str]| {
        curl_text(
            &[
                &["-o", "/dev/null", "-w", "%{http_code} %{size_download}"],
                args,
                &[&url],
            ]
            .concat(),
        )
    };
    assert_eq!(status(&["-H", &format!("If-None-Match: {etag}")]), "304 0");
    assert_eq!(status(&["-H", &format!("If-Modified-Since: {modified}")]), "304 0");
    assert_eq!(status(&["-r", "5-9", "-H", &format!("If-Range: {etag}")]), "206 5");
    assert_eq!(status(&["-r", "5-9", "-H", "If-Range: \"other\""]), "200 3000001");
    assert!(status(&["-r", "3000001-"]).starts_with("416 "));
}

#[test]
fn four_gibibytes_are_no_border() {
    let lab = Lab::start();
    let file = File::create(lab.tree().join("huge")).unwrap();
    file.set_len(6 * GIB).unwrap();
    file.write_all_at(b"abcd", 4 * GIB - 2).unwrap();
    file.write_all_at(b"end", 6 * GIB - 3).unwrap();
    let url = lab.url("d/lab/huge");
    assert!(curl_text(&["-I", &url]).contains("\r\nContent-Length: 6442450944\r\n"));
    for (range, bytes) in [
        ("4294967294-4294967297", "abcd"),
        ("4294967295-4294967295", "b"),
        ("4294967296-4294967297", "cd"),
        ("-3", "end"),
    ] {
        assert_eq!(curl_text(&["-r", range, &url]), bytes, "{range}");
    }
    let answer = curl_text(&["-i", "-r", "6442450941-", &url]);
    assert!(
        answer.contains("\r\nContent-Range: bytes 6442450941-6442450943/6442450944\r\n"),
        "{answer}"
    );
}

#[test]
fn folders_are_listed_with_links_that_work() {
    let lab = Lab::start();
    std::fs::write(lab.tree().join("pool/g++ 1/a:b&c.deb"), b"deb").unwrap();
    let moved = curl_text(&["-i", &lab.url("d/lab/pool")]);
    assert!(moved.starts_with("HTTP/1.1 301 "), "{moved}");
    assert!(moved.contains("\r\nLocation: /d/lab/pool/\r\n"), "{moved}");
    let page = curl_text(&["-L", &lab.url("d/lab")]);
    assert!(page.contains("<a href=\"boot/\">boot/</a>"), "{page}");
    assert!(
        !page.contains("out") && !page.contains("secret"),
        "a link that leads out is listed: {page}"
    );
    // wget follows the relative links of the pages down to the file.
    let down = tempfile::tempdir().unwrap();
    let wget = std::process::Command::new("wget")
        .args(["-q", "-r", "-np", "-nH", "-e", "robots=off", "-P"])
        .arg(down.path())
        .arg(lab.url("d/lab/pool/"))
        .status()
        .expect("wget is installed (apt install wget)");
    assert!(wget.success());
    assert_eq!(
        std::fs::read(down.path().join("d/lab/pool/g++ 1/a:b&c.deb")).unwrap(),
        b"deb"
    );
}

#[test]
fn kernel_and_initrd_are_told_one_by_one_and_tree_files_in_sums() {
    let mut lab = Lab::start();
    for n in 0..50 {
        std::fs::write(lab.tree().join(format!("pool/{n}.deb")), pattern(n)).unwrap();
    }
    curl_text(&["-o", "/dev/null", &lab.url("d/lab/boot/vmlinuz")]);
    let kernel = lab
        .record
        .wait(|what| matches!(what, What::HttpSent { role, .. } if role == "kernel"));
    assert_eq!(kernel.system.unwrap().as_str(), "web1");
    let Some(Effect::Install { act, .. }) = lab.record.after.lock().unwrap().first().cloned() else {
        panic!("no stage was inferred");
    };
    assert_eq!(act.input, Input::Reached(Stage::Kernel));
    curl_text(&["-o", "/dev/null", "-r", "0-1", &lab.url("d/lab/boot/initrd.img")]);
    let initrd = lab
        .record
        .wait(|what| matches!(what, What::HttpSent { role, .. } if role == "initrd"));
    let What::HttpSent {
        bytes, size, status, ..
    } = initrd.what
    else {
        unreachable!()
    };
    assert_eq!((bytes, size, status), (2, 9, 206));
    curl_text(&["-o", "/dev/null", &format!("{}[0-49].deb", lab.url("d/lab/pool/"))]);
    lab.ask_to_stop();
    lab.finish();
    let sums: Vec<_> = lab
        .record
        .events()
        .into_iter()
        .filter_map(|event| match event.what {
            What::TreeSent { files, bytes, .. } => Some((files, bytes)),
            What::HttpSent { role, .. } => {
                assert_ne!(role, "tree", "a small tree file has an event of its own");
                None
            }
            _ => None,
        })
        .collect();
    let (files, bytes) = sums
        .iter()
        .fold((0, 0), |(f, b), (files, bytes)| (f + files, b + bytes));
    assert_eq!((files, bytes), (50, (0..50).sum::<u64>()));
    assert!(sums.len() < 10, "{sums:?}");
}

#[test]
fn a_download_that_breaks_off_is_told_with_what_had_left() {
    let lab = Lab::start();
    let size = 64 * 1024 * 1024;
    File::create(lab.tree().join("boot/initrd.img"))
        .unwrap()
        .set_len(size)
        .unwrap();
    let mut stream = lab.connect();
    stream
        .write_all(b"GET /d/lab/boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    stream.read_exact(&mut [0; 100_000]).unwrap();
    drop(stream);
    let broken = lab.record.wait(|what| matches!(what, What::HttpBroken { .. }));
    let What::HttpBroken { path, bytes, .. } = broken.what else {
        unreachable!()
    };
    assert_eq!(path, "boot/initrd.img");
    assert!(bytes >= 65_536 && bytes < size, "{bytes}");
    assert!(
        !lab.record
            .events()
            .iter()
            .any(|event| matches!(event.what, What::HttpSent { .. }))
    );
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let lab = Lab::with(|options| options.patience.stall = Duration::from_millis(300));
    File::create(lab.tree().join("boot/initrd.img"))
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    let mut stream = lab.connect();
    stream
        .write_all(b"GET /d/lab/boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    lab.record.wait(|what| matches!(what, What::HttpBroken { .. }));
}

#[test]
fn shutdown_lets_a_transfer_end_and_takes_no_new_client() {
    let mut lab = Lab::start();
    let bytes = pattern(30 << 20);
    std::fs::write(lab.tree().join("boot/initrd.img"), &bytes).unwrap();
    let mut idle = lab.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_answer(&mut idle, true);
    let mut stream = lab.connect();
    stream
        .write_all(b"GET /d/lab/boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut start = [0; 1];
    stream.read_exact(&mut start).unwrap();
    lab.ask_to_stop();
    // The idle connection is closed at once; once it is, shutdown has begun.
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
    let mut answer = Vec::from(start);
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(&bytes), "the transfer was cut at {}", answer.len());
    lab.finish();
    assert!(std::net::TcpStream::connect(lab.address).is_err());
}

#[test]
fn a_large_file_tells_how_far_it_is() {
    let lab = Lab::start();
    File::create(lab.tree().join("boot/initrd.img"))
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    curl(&[
        "-o",
        "/dev/null",
        "--limit-rate",
        "16M",
        &lab.url("d/lab/boot/initrd.img"),
    ]);
    let progress = lab.record.wait(|what| matches!(what, What::HttpProgress { .. }));
    let What::HttpProgress { role, bytes, size, .. } = progress.what else {
        unreachable!()
    };
    assert!(role == "initrd" && bytes < size && size == 64 << 20);
    let told = |events: Vec<cordwainer::event::Event>| {
        events
            .iter()
            .filter(|event| matches!(event.what, What::HttpProgress { .. }))
            .count()
    };
    lab.record.wait(|what| matches!(what, What::HttpSent { .. }));
    assert!(told(lab.record.events()) <= 60);
}

#[test]
fn a_file_that_changes_on_its_way_ends_short_and_never_mixed() {
    let lab = Lab::start();
    let path = lab.tree().join("boot/initrd.img");
    let url = "GET /d/lab/boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n";
    let size = 64 << 20;
    let cut: fn(&File) = |file| file.set_len(1 << 20).unwrap();
    let rewrite: fn(&File) = |file| file.write_all_at(b"other", 40 << 20).unwrap();
    for (change, why) in [(cut, "shorter"), (rewrite, "in place")] {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .unwrap();
        file.set_len(size).unwrap();
        let mut stream = lab.connect();
        stream.write_all(url.as_bytes()).unwrap();
        let mut got = vec![0; 100_000];
        stream.read_exact(&mut got).unwrap();
        assert!(
            got.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n"),
            "{why}"
        );
        // What the sockets hold is on its way already; the rest must not follow.
        change(&file);
        let read = stream.read_to_end(&mut got);
        assert!(got.len() < 60 << 20, "{why}: {} bytes came, {read:?}", got.len());
    }
    lab.record.wait(
        |what| matches!(what, What::HttpBroken { reason, .. } if reason.contains("it was changed while it was sent")),
    );
    // A file that is replaced, as an import does, is sent to its end as it was.
    let old = pattern(30 << 20);
    std::fs::write(&path, &old).unwrap();
    let mut stream = lab.connect();
    stream
        .write_all(url.replace("Host: x", "Connection: close").as_bytes())
        .unwrap();
    let mut got = vec![0; 100_000];
    stream.read_exact(&mut got).unwrap();
    std::fs::write(lab.tree().join("new"), b"another initrd").unwrap();
    std::fs::rename(lab.tree().join("new"), &path).unwrap();
    stream.read_to_end(&mut got).unwrap();
    assert!(got.ends_with(&old), "{} bytes", got.len());
}

#[test]
fn a_transfer_that_outlasts_the_grace_is_cut_and_told() {
    let mut lab = Lab::with(|options| options.grace = Duration::from_millis(300));
    let file = File::create(lab.tree().join("boot/initrd.img")).unwrap();
    file.set_len(64 << 20).unwrap();
    let mut stream = lab.connect();
    stream
        .write_all(b"GET /d/lab/boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    lab.ask_to_stop();
    lab.finish();
    let broken = lab.record.wait(|what| matches!(what, What::HttpBroken { .. }));
    assert!(broken.what.to_string().ends_with("the server stops"), "{}", broken.what);
}

#[test]
fn what_firmware_asks_is_answered_as_firmware_needs_it() {
    let lab = Lab::start();
    // shim asks with two slashes, GRUB with as many as its prefix leaves.
    for path in ["//l/snponly.efi", "/l//snponly.efi", "///l/snponly.efi"] {
        let mut stream = lab.connect();
        for method in ["HEAD", "GET"] {
            stream
                .write_all(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
                .unwrap();
            // The head comes in one piece, whatever the client's reads are.
            let mut head = vec![0; 4096];
            let length = stream.peek(&mut head).unwrap();
            let text = String::from_utf8_lossy(&head[..length]).into_owned();
            assert!(text.contains("\r\n\r\n"), "{method} {path}: {text}");
            assert!(
                text.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Type: application/efi\r\n"),
                "{method} {path}: {text}"
            );
            assert_eq!(
                read_answer(&mut stream, method == "GET").1.len(),
                if method == "GET" { 9 } else { 0 }
            );
        }
    }
    let options = cordwainer::http::Options::new(vec![], vec![]);
    assert!(options.patience.idle >= Duration::from_secs(60), "edk2#9920");
    // HTTP/1.0 loaders close by themselves unless they ask to stay.
    let old = String::from_utf8(lab.raw("GET /l/snponly.efi HTTP/1.0\r\n\r\n")).unwrap();
    assert!(
        old.starts_with("HTTP/1.1 200 ") && old.contains("\r\nConnection: close\r\n"),
        "{old}"
    );
}
