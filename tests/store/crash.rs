//! Processes killed in the middle of writing: what was said to be stored is stored, and the rest is whole or not there.

use super::*;
use cordwainer::ports::{Class, StateQueue as _};
use cordwainer::store::{Clock, LiveDb, StateTask};
use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::time::Duration;

const ROUNDS: usize = 12;

#[test]
#[ignore = "a role of the tests beside it"]
fn writer() {
    let Some(path) = role() else { return };
    let mut db = InventoryDb::open(&Folder::open(&path).unwrap()).unwrap();
    let begun: u64 = db.load().unwrap().0.system("a").unwrap().comment.parse().unwrap_or(0);
    for number in begun + 1.. {
        let text = number.to_string();
        let changes = ["a", "b"].map(|name| set(name, "comment", &text));
        db.commit(|inventory| edit_all(inventory, changes)).unwrap();
        say(&text);
    }
}

#[test]
fn a_killed_editor_leaves_the_old_or_the_new() {
    let (_dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    for name in ["a", "b"] {
        db.commit(judged(add(Kind::System, name, &[("profile", "p")]))).unwrap();
    }
    for round in 0..ROUNDS {
        let mut child = start_role("crash", "writer", folder.path());
        let lines = said(&mut child);
        let mut last = 0;
        for (count, line) in lines.enumerate() {
            last = line.parse::<u64>().unwrap();
            // Killed between two commits that it says, at a place that no one chose: somewhere within the next one.
            if count == round * 3 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let (inventory, _) = db.load().unwrap();
        let [a, b] = ["a", "b"].map(|name| inventory.system(name).unwrap().comment.parse::<u64>().unwrap());
        assert_eq!(a, b, "half a commit is there");
        assert!(a >= last, "{last} was said to be stored, {a} is");
        // Nothing of the killed one holds others up.
        db.commit(judged(set("a", "status", &round.to_string()))).unwrap();
    }
    cordwainer::store::verify(&folder).unwrap();
}

#[test]
#[ignore = "a role of the tests beside it"]
fn granter() {
    let Some(path) = role() else { return };
    let folder = Folder::open(&path).unwrap();
    let db = LiveDb::open_writer(&folder).unwrap();
    let begun = u32::try_from(db.load().unwrap().leases.len()).unwrap();
    let (events, _heard) = Heard::listen();
    let clock = Clock::start();
    let (task, _thread) = StateTask::start(db, clock, Duration::from_secs(60), events).unwrap();
    let (told, answers) = channel();
    for number in begun.. {
        assert!(task.submit(Class::Request, clock.now(), grant(number, told.clone())));
        // A few in flight, so that commits hold several.
        if (number - begun) % 8 == 7 {
            for (number, result) in answers.iter().take(8) {
                result.unwrap();
                say(&number.to_string());
            }
        }
    }
}

#[test]
fn no_lease_that_was_acknowledged_is_lost_by_a_kill() {
    let (_dir, folder) = state();
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = start_role("crash", "granter", folder.path());
        for (count, line) in said(&mut child).enumerate() {
            acknowledged.insert(line.parse::<u32>().unwrap());
            if count == 5 + round * 7 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let rows = LiveDb::open_reader(&folder).unwrap().load().unwrap();
        assert!(rows.damaged.is_empty());
        let stored: BTreeSet<Ipv4Addr> = rows.leases.iter().map(|lease| lease.address).collect();
        for number in &acknowledged {
            assert!(
                stored.contains(&lease(*number).address),
                "lease {number} was acknowledged and is gone"
            );
        }
    }
    println!("{} leases acknowledged over {ROUNDS} kills", acknowledged.len());
    assert!(acknowledged.len() >= ROUNDS * 5);
}
