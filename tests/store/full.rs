//! A disk that fills up and empties again under a running state task.

use super::*;
use crate::lab::need::{self, Need};
use cordwainer::event::What;
use cordwainer::ports::{Class, StateQueue as _};
use cordwainer::store::{Clock, LiveDb, StateTask};
use std::io::Write as _;
use std::sync::mpsc::channel;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs where `FOLDER` is a disk of 2 MiB.
#[test]
#[ignore = "a role of the test beside it"]
fn on_a_small_disk() {
    let Some(disk) = role() else { return };
    let folder = Folder::open(&disk.join("state")).unwrap();
    let (events, heard) = Heard::listen();
    let clock = Clock::start();
    let db = LiveDb::open_writer(&folder).unwrap();
    let (task, thread) = StateTask::start(db, clock, PATIENCE, events).unwrap();
    let (told, answers) = channel();
    let ask = |number: u32| {
        assert!(task.submit(Class::Request, clock.now(), grant(number, told.clone())));
        answers.recv_timeout(PATIENCE).unwrap().1
    };
    ask(1).unwrap();

    let ballast = disk.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    while file.write_all(&[0]).is_ok() {}
    // The WAL may have room for a few more rows.
    let failed = (2..2000)
        .find(|number| ask(*number).is_err())
        .expect("the disk never filled up");
    assert!(ask(failed + 1).is_err());
    let said = heard.try_iter().map(|event| event.what).collect::<Vec<_>>();
    assert!(matches!(said.as_slice(), [What::StoreFailed { .. }]), "{said:?}");

    // Memory says no more than the disk, and what needs no row is answered: renewals for their remaining time.
    let look = |number: u32| {
        let told = told.clone();
        let job: Job = Box::new(move |live, now| {
            let held = live.leases.holder(lease(number).address, now).is_some();
            let result = if held && live.read_only {
                Ok(())
            } else {
                Err(NotDurable(format!("held: {held}")))
            };
            Commit {
                rows: Vec::new(),
                undo: Vec::new(),
                then: Box::new(move |stored| drop(told.send((number, stored.and(result))))),
            }
        });
        assert!(task.submit(Class::Request, clock.now(), job));
        answers.recv_timeout(PATIENCE).unwrap().1
    };
    assert_eq!(look(failed).unwrap_err().0, "held: false");
    look(1).unwrap();
    // A new lease and a renewal that land in one batch do not spoil each other.
    let (block, blocked) = channel::<()>();
    assert!(task.submit(
        Class::Effect,
        clock.now(),
        Box::new(move |_, _| {
            let _ = blocked.recv_timeout(PATIENCE);
            Commit {
                rows: Vec::new(),
                undo: Vec::new(),
                then: Box::new(|_| ()),
            }
        })
    ));
    assert!(task.submit(Class::Request, clock.now(), grant(failed, told.clone())));
    let renewal = told.clone();
    assert!(task.submit(
        Class::Request,
        clock.now(),
        Box::new(move |_, _| Commit {
            rows: Vec::new(),
            undo: Vec::new(),
            then: Box::new(move |result| drop(renewal.send((0, result)))),
        })
    ));
    drop(block);
    let mut both: Vec<_> = answers
        .iter()
        .take(2)
        .map(|(number, result)| (number, result.is_ok()))
        .collect();
    both.sort_unstable();
    assert_eq!(both, [(0, true), (failed, false)]);

    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    let recovered = heard.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(recovered.what, What::StoreRecovered);
    ask(failed).unwrap();
    drop(task);
    thread.join().unwrap();
    assert!(heard.try_iter().next().is_none());
    let rows = LiveDb::open_reader(&folder).unwrap().load().unwrap();
    assert_eq!(rows.leases.len(), failed as usize);
    say("survived");
}

#[test]
fn a_full_disk_is_survived_without_a_restart() {
    let mount = Need::Program("unshare", "util-linux");
    if !need::all(
        "a_full_disk_is_survived_without_a_restart",
        &[&[Need::Root, need::SETPRIV, mount]],
    ) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let role = role_command("full", "on_a_small_disk", dir.path());
    // The disk is mounted in a namespace of the child's own and goes with it.
    let mut inside = crate::lab::child::command("unshare");
    inside
        .args([
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs -o size=2m,mode=0700 none \"$0\" && exec \"$@\"",
        ])
        .arg(dir.path())
        .arg(role.get_program())
        .args(role.get_args())
        .env(FOLDER, dir.path())
        .stdout(Stdio::piped());
    let mut child = inside.spawn().unwrap();
    let lines: Vec<String> = said(&mut child).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(lines, ["survived"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
