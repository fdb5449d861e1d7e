//! The state task on a real disk: order, groups, dropping, effects, the watchdog.

use super::*;
use cordwainer::boot::{Effect, When};
use cordwainer::event::What;
use cordwainer::install::{Act, Input, Stage, State};
use cordwainer::model::{Arm, ArmId};
use cordwainer::ports::{Class, Effects as _, StateQueue as _};
use cordwainer::store::{Clock, LiveDb, StateTask};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

struct Lab {
    _dir: tempfile::TempDir,
    folder: Folder,
    task: StateTask,
    thread: std::thread::JoinHandle<()>,
    heard: Receiver<Event>,
    clock: Clock,
}

fn lab(timeout: Duration) -> Lab {
    let (dir, folder) = state();
    let (events, heard) = Heard::listen();
    let clock = Clock::start();
    let (task, thread) = StateTask::start(LiveDb::open_writer(&folder).unwrap(), clock, timeout, events).unwrap();
    Lab {
        _dir: dir,
        folder,
        task,
        thread,
        heard,
        clock,
    }
}

/// A job that holds the task until the sender is dropped.
fn gate() -> (Job, Sender<()>) {
    let (open, closed) = channel::<()>();
    let job: Job = Box::new(move |_, _| {
        let _ = closed.recv_timeout(PATIENCE);
        nothing(|_| ())
    });
    (job, open)
}

fn nothing(then: impl FnOnce(Result<(), NotDurable>) + Send + 'static) -> Commit {
    Commit {
        rows: Vec::new(),
        undo: Vec::new(),
        then: Box::new(then),
    }
}

fn act(input: Input) -> Act {
    Act {
        arm: Arm {
            id: ArmId("a1".into()),
            system: "web1".parse().unwrap(),
            at: Timestamp(0),
            until: Timestamp(i64::MAX),
            by: "root".into(),
        },
        input,
    }
}

fn install(when: When, input: Input) -> Vec<Effect> {
    vec![Effect::Install { when, act: act(input) }]
}

fn launch() -> Input {
    Input::Launch {
        mac: lease(1).mac,
        address: lease(1).address,
        behind: false,
        asked: None,
    }
}

fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(PATIENCE, future).await.unwrap() })
}

#[test]
fn an_answer_leaves_only_when_its_row_is_on_disk_and_in_the_view() {
    let lab = lab(PATIENCE);
    let (told, answers) = channel();
    let view = lab.task.view();
    let reader = LiveDb::open_reader(&lab.folder).unwrap();
    for number in 0..50 {
        assert!(
            lab.task
                .submit(Class::Request, lab.clock.now(), grant(number, told.clone()))
        );
        answers.recv_timeout(PATIENCE).unwrap().1.unwrap();
        assert!(
            reader
                .load()
                .unwrap()
                .leases
                .iter()
                .any(|row| row.address == lease(number).address)
        );
        assert_eq!(
            view.load().holders.get(&lease(number).address),
            Some(&lease(number).mac)
        );
    }
}

#[test]
fn a_repeated_request_is_answered_after_the_row_of_the_first() {
    let lab = lab(PATIENCE);
    let (gate, open) = gate();
    assert!(lab.task.submit(Class::Effect, lab.clock.now(), gate));
    let (told, answers) = channel();
    assert!(lab.task.submit(Class::Request, lab.clock.now(), grant(1, told.clone())));
    let again = told.clone();
    let reader = LiveDb::open_reader(&lab.folder).unwrap();
    assert!(lab.task.submit(
        Class::Request,
        lab.clock.now(),
        Box::new(move |live, now| {
            assert!(live.leases.holder(lease(1).address, now).is_some());
            nothing(move |result| {
                assert_eq!(reader.load().unwrap().leases.len(), 1);
                drop(again.send((2, result)));
            })
        })
    ));
    drop(open);
    let numbers: Vec<u32> = answers
        .iter()
        .take(2)
        .map(|(number, result)| result.map(|()| number).unwrap())
        .collect();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn a_full_queue_drops_discovers_first_and_effects_never() {
    let lab = lab(PATIENCE);
    let (gate, open) = gate();
    assert!(lab.task.submit(Class::Effect, lab.clock.now(), gate));
    let none = || -> Job { Box::new(|_, _| nothing(|_| ())) };
    let fill = |class| {
        (0..10_000)
            .take_while(|_| lab.task.submit(class, lab.clock.now(), none()))
            .count()
    };
    let (discovers, requests) = (fill(Class::Discover), fill(Class::Request));
    assert!(
        (1000..4096).contains(&discovers) && (1000..4096).contains(&requests),
        "{discovers} {requests}"
    );
    assert!(!lab.task.submit(Class::Discover, lab.clock.now(), none()));
    let (told, answers) = channel();
    assert!(lab.task.submit(Class::Effect, lab.clock.now(), grant(1, told)));
    drop(open);
    answers.recv_timeout(PATIENCE).unwrap().1.unwrap();
    assert!(lab.task.submit(Class::Discover, lab.clock.now(), none()));
}

#[test]
fn what_waited_too_long_is_not_answered() {
    let lab = lab(PATIENCE);
    let (told, answers) = channel();
    let old = Timestamp(lab.clock.now().0 - 2500);
    assert!(lab.task.submit(Class::Request, old, grant(1, told.clone())));
    assert!(lab.task.submit(Class::Discover, old, grant(2, told.clone())));
    assert!(lab.task.submit(Class::Effect, old, grant(3, told.clone())));
    assert!(lab.task.submit(Class::Request, lab.clock.now(), grant(4, told)));
    let numbers: Vec<u32> = answers.iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [3, 4]);
}

#[test]
fn an_installation_goes_its_way_and_says_so_once() {
    let lab = lab(PATIENCE);
    let view = lab.task.view();
    let standing = |expected: State| assert_eq!(view.load().by_system.get("web1").unwrap().state, expected);
    now_or_never(lab.task.before(install(When::Before, launch()))).unwrap();
    standing(State::Claimed);
    now_or_never(lab.task.before(install(When::Before, launch()))).unwrap();
    // Pieces of one file are one stage.
    for _ in 0..100 {
        lab.task.after(install(When::After, Input::Reached(Stage::Kernel)));
    }
    now_or_never(lab.task.before(install(When::Before, Input::AnswersFetched))).unwrap();
    now_or_never(
        lab.task
            .before(install(When::Before, Input::Reached(Stage::Partitioning))),
    )
    .unwrap();
    standing(State::Installing);
    now_or_never(lab.task.before(install(When::Before, Input::Done))).unwrap();
    now_or_never(lab.task.before(install(When::Before, Input::Done))).unwrap();
    standing(State::Installed);
    now_or_never(lab.task.before(install(When::Before, Input::Reached(Stage::Booted)))).unwrap();
    let stored = LiveDb::open_reader(&lab.folder).unwrap().load().unwrap().installations;
    assert_eq!(stored, [(**view.load().by_system.get("web1").unwrap()).clone()]);
    drop(lab.task);
    lab.thread.join().unwrap();
    let codes: Vec<&str> = lab.heard.iter().map(|event| event.code()).collect();
    assert_eq!(codes, ["CLAIMED", "STAGE", "INSTALLED", "BOOTED_FROM_DISK"]);

    // The next process knows all of it.
    let (events, _heard) = Heard::listen();
    let db = LiveDb::open_writer(&lab.folder).unwrap();
    let (task, _thread) = StateTask::start(db, lab.clock, PATIENCE, events).unwrap();
    assert_eq!(
        task.view().load().by_system.get("web1").unwrap().state,
        State::Installed
    );
}

#[test]
fn what_was_overtaken_opens_nothing() {
    let lab = lab(PATIENCE);
    let say = |input: Input| now_or_never(lab.task.before(install(When::Before, input)));
    say(launch()).unwrap();
    say(Input::Reached(Stage::Partitioning)).unwrap();
    let view = lab.task.view();
    let standing = || (**view.load().by_system.get("web1").unwrap()).clone();
    let before = standing();
    // Decided while nothing was partitioned, about to leave now.
    let refused = say(launch()).unwrap_err();
    assert!(refused.to_string().contains("web1 is installing by now"), "{refused}");
    assert_eq!(standing(), before);
    say(Input::Done).unwrap();
    assert!(say(Input::AnswersFetched).is_err());
    assert!(say(launch()).is_err());
    // A report that comes twice is no refusal: its sender is answered as before.
    say(Input::Done).unwrap();
    assert_eq!(standing().state, State::Installed);
}

#[test]
fn a_silent_installer_fails_by_the_watchdog() {
    let lab = lab(Duration::from_millis(50));
    now_or_never(lab.task.before(install(When::Before, launch()))).unwrap();
    let failed = lab
        .heard
        .iter()
        .find_map(|event| matches!(event.what, What::Failed { .. }).then_some(event))
        .unwrap();
    assert_eq!(failed.system.unwrap().as_str(), "web1");
    let view = lab.task.view();
    assert_eq!(view.load().by_system.get("web1").unwrap().state, State::Failed);
}

#[test]
fn sightings_are_published_and_need_no_disk() {
    let lab = lab(PATIENCE);
    let seen = Effect::Seen {
        mac: lease(1).mac,
        address: lease(1).address,
        firmware: None,
        loader: false,
    };
    now_or_never(lab.task.before(vec![seen])).unwrap();
    assert_eq!(
        lab.task.view().load().sightings.get(&lease(1).address).unwrap().mac,
        lease(1).mac
    );
}

#[test]
fn many_grants_share_their_fsyncs() {
    let lab = lab(PATIENCE);
    let (told, answers) = channel();
    let begun = Instant::now();
    for number in 0..2000 {
        assert!(
            lab.task
                .submit(Class::Request, lab.clock.now(), grant(number, told.clone()))
        );
    }
    drop(told);
    let granted = answers.iter().filter(|(_, result)| result.is_ok()).count();
    let took = begun.elapsed();
    println!(
        "{granted} durable grants in {took:.2?}: {:.0}/s",
        granted as f64 / took.as_secs_f64()
    );
    assert_eq!(granted, 2000);
}

#[test]
fn offers_leave_while_the_disk_is_busy_and_a_failed_write_takes_along_what_stood_on_it() {
    let lab = lab(PATIENCE);
    let (told, answers) = channel();
    let ask = |class, job| assert!(lab.task.submit(class, lab.clock.now(), job));
    // Another writer holds the database for as long as we say, which a daemon's disk that hangs looks like.
    let other = rusqlite::Connection::open(lab.folder.path().join("live.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    ask(Class::Request, grant(1, told.clone()));
    // The same machine's next word, and another machine's: worked out on top of what is being written.
    let release = told.clone();
    ask(
        Class::Request,
        Box::new(move |live, _| {
            live.leases.remove(lease(1).address);
            Commit {
                rows: vec![LiveRow::LeaseGone(lease(1).address)],
                undo: vec![LiveRow::Lease(lease(1))],
                then: Box::new(move |result| drop(release.send((10, result)))),
            }
        }),
    );
    ask(Class::Request, grant(2, told.clone()));
    let offered = told.clone();
    ask(
        Class::Discover,
        Box::new(move |live, now| {
            assert!(live.leases.holder(lease(2).address, now).is_some());
            nothing(move |result| drop(offered.send((3, result))))
        }),
    );
    let (first, result) = answers.recv_timeout(PATIENCE).unwrap();
    assert_eq!((first, result.is_ok()), (3, true), "an OFFER waits for no disk");
    let mut failed: Vec<u32> = (0..3)
        .map(|_| {
            let (number, result) = answers.recv_timeout(PATIENCE).unwrap();
            result.unwrap_err();
            number
        })
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, [1, 2, 10]);
    let look = told.clone();
    ask(
        Class::Discover,
        Box::new(move |live, now| {
            let held = [1, 2].map(|number| live.leases.holder(lease(number).address, now).is_some());
            nothing(move |_| drop(look.send((u32::from(held[0]) + 2 * u32::from(held[1]), Ok(())))))
        }),
    );
    assert_eq!(
        answers.recv_timeout(PATIENCE).unwrap().0,
        0,
        "memory says what the disk says"
    );
    assert!(lab.task.view().load().holders.is_empty());
    other.execute_batch("ROLLBACK").unwrap();
    // The disk is back, which the task finds by itself.
    let back = lab.heard.iter().find(|event| event.what == What::StoreRecovered);
    assert!(back.is_some());
    ask(Class::Request, grant(2, told));
    answers.recv_timeout(PATIENCE).unwrap().1.unwrap();
    let stored = LiveDb::open_reader(&lab.folder).unwrap().load().unwrap().leases;
    assert_eq!(stored, [lease(2)]);
}
