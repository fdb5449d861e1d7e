//! A medium that is changed, replaced or gone after its import: its distro is named and served no more, others are; and what was on its way
//! ends short, never mixed.

use super::medium::{XORRISO, press};
use super::{lab_tree, serve};
use crate::cli::Session;
use crate::http::Lab;
use crate::lab::need;
use cordwainer::event::What;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

#[test]
fn an_image_that_changes_while_it_is_sent_ends_short_and_never_mixed() {
    if !need::all("iso::changed_on_its_way", &[&[XORRISO]]) {
        return;
    }
    let lab = Lab::start();
    let root = lab.dir.path().join("original");
    fs::create_dir_all(root.join("images")).unwrap();
    let old = vec![b'o'; 64 << 20];
    fs::write(root.join("images/install.img"), &old).unwrap();
    fs::remove_dir_all(lab.tree()).unwrap();
    let whole: fn(&Path) = |image| {
        let file = File::options().write(true).open(image).unwrap();
        let new = vec![b'n'; 1 << 20];
        // The second half: nothing of it is in a socket yet.
        for place in 40..60 {
            file.write_all_at(&new, place << 20).unwrap();
        }
    };
    let cut: fn(&Path) = |image| {
        File::options()
            .write(true)
            .open(image)
            .unwrap()
            .set_len(30 << 20)
            .unwrap()
    };
    let touched: fn(&Path) = |image| {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::options()
            .write(true)
            .open(image)
            .unwrap()
            .set_modified(then)
            .unwrap();
    };
    for (what, change) in [("rewritten", whole), ("cut", cut), ("touched", touched)] {
        press(&root, &lab.tree(), &["-r"]);
        let mut stream = lab.connect();
        stream
            .write_all(b"GET /d/lab/images/install.img HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut got = vec![0; 100_000];
        stream.read_exact(&mut got).unwrap();
        change(&lab.tree());
        let _reset = stream.read_to_end(&mut got);
        let body = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert!(
            got.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n"),
            "{what}"
        );
        assert!(got.len() < 60 << 20, "{what}: {} bytes came", got.len());
        assert!(
            got[body..].iter().all(|byte| *byte == b'o'),
            "{what}: bytes of both came"
        );
        fs::remove_file(lab.tree()).unwrap();
    }
    lab.record.wait(|what| {
        matches!(what, What::HttpBroken { path, reason, .. } if path.ends_with("install.img") && reason.contains("it was changed while it was sent"))
    });
    // One that is replaced, as by a new download that is renamed, is sent to its end as it was.
    press(&root, &lab.tree(), &["-r"]);
    let mut stream = lab.connect();
    stream
        .write_all(b"GET /d/lab/images/install.img HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut got = vec![0; 100_000];
    stream.read_exact(&mut got).unwrap();
    fs::write(root.join("images/install.img"), vec![b'n'; 1 << 20]).unwrap();
    let new = lab.tree().with_extension("new");
    press(&root, &new, &["-r"]);
    fs::rename(new, lab.tree()).unwrap();
    stream.read_to_end(&mut got).unwrap();
    assert!(got.ends_with(&old), "{} bytes", got.len());
}

/// The status and the body of a file of a distro.
fn get(port: u16, path: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET /d/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let status = String::from_utf8_lossy(&answer[9..12]).into_owned();
    (status, answer.split_off(body))
}

#[test]
fn a_medium_that_is_gone_or_another_degrades_its_distro_alone() {
    if !need::all("iso::degraded", &[&[XORRISO]]) {
        return;
    }
    let session = Session::new();
    lab_tree(&session);
    for name in ["one", "two"] {
        let image = session.path(&format!("{name}.iso"));
        press(&session.path("lab"), &image, &["-r"]);
        let imported = session
            .run(&["import", "--path", image.to_str().unwrap(), "--name", name])
            .succeeded();
        assert!(imported.out.contains("straight out of "), "{}", imported.out);
    }
    let (mut daemon, port, _) = serve(&session);
    let served = |name: &str| get(port, &format!("{name}/boot/vmlinuz"));
    let sound = ("200".to_owned(), b"kernel".to_vec());
    assert_eq!((served("one"), served("two")), (sound.clone(), sound.clone()));
    let (image, away) = (session.path("one.iso"), session.path("away.iso"));
    let problem = || {
        let checked = session.run(&["check"]);
        let lines = checked.out.lines().chain(checked.err.lines());
        let mut about = lines.filter(|line| line.contains("distro one cannot be booted: kernel "));
        about.next().map(str::to_owned)
    };
    assert_eq!(problem(), None);
    let image_name = image.display().to_string();

    // Taken away.
    fs::rename(&image, &away).unwrap();
    let event = daemon.wait_for_line("is missing; bring ", Duration::from_secs(30));
    assert!(
        event.contains("ASSET_MISSING") && event.contains(&image_name),
        "{event}"
    );
    let said = problem().unwrap();
    assert!(
        said.contains("is missing; bring ") && said.ends_with("cordwainer import --path ISO --name one"),
        "{said}"
    );
    assert_eq!(served("one").0, "404");
    assert_eq!(served("two"), sound, "the other one is not touched");

    // Brought back.
    fs::rename(&away, &image).unwrap();
    assert_eq!(problem(), None);
    assert_eq!(served("one"), sound);

    // Another one in its place, of the same length.
    session.write("lab/boot/vmlinuz", "KERNEL");
    let modified = fs::metadata(&image).unwrap().modified().unwrap();
    press(&session.path("lab"), &image, &["-r"]);
    let other = File::options().append(true).open(&image).unwrap();
    other.set_modified(modified + Duration::from_secs(5)).unwrap();
    let event = daemon.wait_for_line(
        "is another image than the one that was imported",
        Duration::from_secs(30),
    );
    assert!(event.contains("ASSET_MISSING"), "{event}");
    assert!(
        problem()
            .unwrap()
            .contains("is another image than the one that was imported")
    );
    let (status, body) = served("one");
    assert!(status != "200" && !body.ends_with(b"KERNEL"), "{status}");
    assert_eq!(served("two"), sound);
    let again = session
        .run(&["import", "--path", &image_name, "--name", "one"])
        .succeeded();
    assert!(again.out.contains("updated     distro one"), "{}", again.out);
    let fresh = ("200".to_owned(), b"KERNEL".to_vec());
    // `live` was said once the daemon serves it.
    assert_eq!(served("one"), fresh);
    assert_eq!(problem(), None);
    daemon.terminate();
    assert!(daemon.wait_for_exit(Duration::from_secs(30)).success());
}
