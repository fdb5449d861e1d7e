//! The real server on a real disk that is too small, under a limit on its files, and on a database that is damaged: no fault is played.

use super::installers::{self, ask_for_lease};
use super::server::{ADDRESS, Server};
use crate::lab::child::Child;
use crate::lab::need::{self, Need};
use cordwainer::model::{Lease, Mac};
use cordwainer::store::{Folder, LiveDb};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// DESIGN 4: how soon after the disk all goes on.
const BACK: Duration = Duration::from_secs(5);

const fn stranger(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac::new([2, 0x7a, 0, 0, high, low])
}

/// The server with its state on a disk of its own, which goes with it: `size` as mount has it.
fn on_a_disk(server: &Server, size: &str) -> Child {
    let inner = server.command(&["--i-own-this-subnet"]);
    let mut command = crate::lab::child::command("unshare");
    command
        .args([
            "--mount",
            "sh",
            "-c",
            "state=$1 size=$2; shift 2; mount -t tmpfs -o size=$size,mode=0700 none \"$state\" && exec \"$@\"",
            "sh",
        ])
        .arg(server.state())
        .arg(size)
        .arg(inner.get_program())
        .args(inner.get_args());
    let mut child = Child::start("cordwainer", &mut command);
    child.wait_for_line("serving", Duration::from_secs(60));
    child
}

/// The process that serves: the child has become it, or is its parent.
fn serving(child: &Child) -> u32 {
    let name = |id: u32| std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    let mut id = child.id();
    while name(id).trim() != "cordwainer" {
        let below = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        id = below.split_whitespace().next().expect("nobody serves").parse().unwrap();
    }
    id
}

/// The state folder as the server sees it.
fn inside(child: &Child, state: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", serving(child)));
    root.join(state.strip_prefix("/").unwrap())
}

fn fill(folder: &Path) -> PathBuf {
    let ballast = folder.join("ballast");
    let mut file = File::create(&ballast).unwrap();
    for piece in [64 * 1024, 4096, 1] {
        while file.write_all(&vec![0; piece]).is_ok() {}
    }
    ballast
}

fn said(child: &Child, code: &str) -> usize {
    child.lines().iter().filter(|line| line.contains(code)).count()
}

/// `limit` takes the disk away and `lift` gives it back: who has a lease keeps it, newcomers wait, and after it all goes on.
fn breaks_no_promise(server: &Server, child: &mut Child, limit: impl FnOnce(&Child), lift: impl FnOnce(&Child)) {
    let host = server.net.host("machines", Some(&format!("{}/16", installers::RELAY)));
    installers::own_addresses(&host);
    let renewing = stranger(0);
    let (renewed, _) = ask_for_lease(&host, ADDRESS, renewing, None).expect("no lease on a sound disk");
    limit(child);
    // The log may have room for a few more rows.
    let refused = (1..400)
        .find(|number| ask_for_lease(&host, ADDRESS, stranger(*number), None).is_none())
        .expect("the disk never filled up");
    assert!(child.is_running(), "the server died");
    assert!(said(child, "STORE_FAILED") > 0, "{:?}", child.lines());
    let (address, seconds) = ask_for_lease(&host, ADDRESS, renewing, Some(renewed)).expect("a client was let down");
    assert!(
        address == renewed && (1..=3600).contains(&seconds),
        "{address} {seconds}"
    );
    lift(child);
    let begun = Instant::now();
    while ask_for_lease(&host, ADDRESS, stranger(refused), None).is_none() {
        assert!(begun.elapsed() < BACK, "still nothing is stored");
    }
    assert!(begun.elapsed() < BACK, "{:?}", begun.elapsed());
    // At the very edge a row fits, and the next one does not: each failure is told once, and so is its end.
    assert_eq!(
        said(child, "STORE_RECOVERED"),
        said(child, "STORE_FAILED"),
        "{:?}",
        child.lines()
    );
    println!(
        "{refused} new leases until it was full; back after {:?}",
        begun.elapsed()
    );
}

#[test]
fn a_disk_that_is_full_takes_nothing_back_and_goes_on_when_there_is_room() {
    let test = "a_disk_that_is_full_takes_nothing_back_and_goes_on_when_there_is_room";
    let unshare = Need::Program("unshare", "util-linux");
    if !need::all(test, &[need::NETWORK, &[unshare]]) {
        return;
    }
    let server = Server::installing("10.77.32.0-10.77.250.255", 1);
    let mut child = on_a_disk(&server, "8m");
    let state = inside(&child, &server.state());
    breaks_no_promise(
        &server,
        &mut child,
        |_| drop(fill(&state)),
        |_| std::fs::remove_file(state.join("ballast")).unwrap(),
    );
    // What lies there is whole, and says what the clients were told. The disk goes with the server, so it is copied before.
    let copy = tempfile::tempdir().unwrap();
    for name in ["live.db", "live.db-wal"] {
        std::fs::copy(state.join(name), copy.path().join(name)).unwrap();
    }
    let rows = leases(copy.path());
    assert!(rows.iter().any(|row| row.mac == stranger(0)), "{} rows", rows.len());
}

fn leases(folder: &Path) -> Vec<Lease> {
    let folder = Folder::open(folder).unwrap();
    let rows = LiveDb::open_reader(&folder).unwrap().load().unwrap();
    assert!(rows.damaged.is_empty(), "{:?}", rows.damaged);
    rows.leases
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk_and_no_death() {
    let test = "a_limit_on_the_size_of_files_is_a_full_disk_and_no_death";
    let prlimit = Need::Program("prlimit", "util-linux");
    if !need::all(test, &[need::NETWORK, &[prlimit]]) {
        return;
    }
    let server = Server::installing("10.77.32.0-10.77.250.255", 1);
    let (mut child, _) = server.start();
    let limit = |child: &Child, size: &str| {
        let done = Command::new("prlimit")
            .args([
                "--pid",
                &serving(child).to_string(),
                &format!("--fsize={size}:unlimited"),
            ])
            .status()
            .unwrap();
        assert!(done.success());
    };
    // The log is laid out far beyond that, and written from its front.
    breaks_no_promise(
        &server,
        &mut child,
        |child| limit(child, "100000"),
        |child| limit(child, "unlimited"),
    );
    child.kill();
    assert!(server.leases_on_disk().iter().any(|row| row.mac == stranger(0)));
}

#[test]
fn a_start_on_a_damaged_inventory_names_the_way_back() {
    if !need::all("a_start_on_a_damaged_inventory_names_the_way_back", &[need::NETWORK]) {
        return;
    }
    let server = Server::installing("10.77.32.0-10.77.250.255", 2);
    let backup = server.folder().join("backup");
    assert!(
        server
            .cli(&["backup", backup.to_str().unwrap()])
            .status()
            .unwrap()
            .success()
    );
    let file = server.state().join("inventory.db");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..4096].fill(0xa5);
    std::fs::write(&file, &bytes).unwrap();
    for name in ["inventory.db-wal", "inventory.db-shm"] {
        let _none = std::fs::remove_file(server.state().join(name));
    }
    let mut child = Child::start("cordwainer", &mut server.command(&["--i-own-this-subnet"]));
    let status = child.wait_for_exit(Duration::from_secs(30));
    let told = child.lines().join("\n");
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(
        told.contains("inventory.db") && told.contains("cordwainer restore"),
        "{told}"
    );
    assert_eq!(
        std::fs::read(&file).unwrap(),
        bytes,
        "what was damaged was written over"
    );
    let restored = server.cli(&["restore", backup.to_str().unwrap()]).output().unwrap();
    assert!(
        restored.status.success(),
        "{}",
        String::from_utf8_lossy(&restored.stderr)
    );
    server.start();
}
