//! Thousands of damaged state folders: a start never panics, never serves what nobody stored, never wipes, and names what it lost.

use super::recover::{NOW, armed, installation, start, would_be_wiped};
use super::*;
use crate::dhcp::{Dice, seed};
use cordwainer::install::State;
use cordwainer::model::Arm;
use cordwainer::store::{LiveDb, audit};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What is damaged; each has its turn.
const TARGETS: [&str; 7] = [
    "live.db",
    "live.db-wal",
    "inventory.db",
    "inventory.db-wal",
    "server.key",
    "handed-out",
    "state.lock",
];

/// A state folder as a kill leaves it: both databases with a log that holds half of what was promised.
struct Sound {
    files: BTreeMap<String, Vec<u8>>,
    leases: Vec<Lease>,
    inventory: Inventory,
    /// An arming that nobody came for, ones whose machine was given the installer, is partitioning, is done; one that was withdrawn.
    arms: [Arm; 5],
}

fn sound() -> Sound {
    let (_dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    let arms = [1, 2, 3, 4, 5].map(|number| armed(&mut db, number, NOW));
    let (_, mut running) = start(&folder, NOW).unwrap();
    let live = &mut running.live;
    let row = |arm: &Arm, state, partitioned| LiveRow::Installation(Box::new(installation(arm, state, partitioned)));
    let write = |live: &mut LiveDb, rows: &[LiveRow]| live.write(&rows.iter().collect::<Vec<_>>()).unwrap();
    let mut leases = Vec::new();
    let mut grant = |live: &mut LiveDb, number: u32| {
        leases.push(Lease {
            granted: NOW,
            hostname: Some(format!("host-{number}")),
            ..lease(number)
        });
        write(live, &[LiveRow::Lease(leases[leases.len() - 1].clone())]);
    };
    (0..120).for_each(|number| grant(live, number));
    for arm in &arms[1..4] {
        write(live, &[row(arm, State::Claimed, false)]);
    }
    live.checkpoint();
    db.checkpoint();
    (120..160).for_each(|number| grant(live, number));
    write(live, &[row(&arms[2], State::Installing, true)]);
    write(live, &[row(&arms[3], State::Installed, true)]);
    for number in 0..20 {
        db.commit(judged(set("web1", "comment", &number.to_string()))).unwrap();
    }
    let disarm = Change::Disarm {
        system: arms[4].system.clone(),
    };
    db.commit(judged(disarm)).unwrap();
    let inventory = db.load().unwrap().0;
    // As they lie there while everything is open, and the index of the log is not believed anyway.
    let files = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().to_str().unwrap().ends_with("-shm"))
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    Sound {
        files,
        leases,
        inventory,
        arms,
    }
}

fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) -> &'static str {
    let page = 4096.min(bytes.len().max(2) / 2);
    let pages = (bytes.len() / page.max(1)).max(1);
    match dice.below(9) {
        0 | 1 if !bytes.is_empty() => {
            for _ in 0..=dice.below(4) {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            "bits flipped"
        }
        2 => {
            bytes.truncate(dice.below(bytes.len() + 1));
            "cut off"
        }
        3 => {
            let from = dice.below(pages) * page;
            let to = (from + page).min(bytes.len());
            bytes[from..to].fill(0);
            "a page of zeros"
        }
        4 => {
            let (a, b) = (dice.below(pages) * page, dice.below(pages) * page);
            for at in 0..page.min(bytes.len() - a.max(b)) {
                bytes.swap(a + at, b + at);
            }
            "pages swapped"
        }
        5 => {
            let more = dice.below(9000);
            bytes.extend((0..more).map(|_| u8::try_from(dice.below(256)).unwrap()));
            "garbage at the end"
        }
        6 => {
            let from = dice.below(bytes.len() + 1);
            for byte in &mut bytes[from..] {
                *byte = u8::try_from(dice.below(256)).unwrap();
            }
            "garbage from the middle"
        }
        7 => {
            bytes.clear();
            "emptied"
        }
        _ => {
            // Fields of headers are few and matter most.
            for at in 0..100.min(bytes.len()) {
                if dice.below(20) == 0 {
                    bytes[at] = u8::try_from(dice.below(256)).unwrap();
                }
            }
            "the head overwritten"
        }
    }
}

/// What one start came to.
#[derive(Default)]
struct Tally {
    whole: usize,
    told: usize,
    refused: usize,
    lost: usize,
}

fn one(sound: &Sound, folder: &Folder, case: &str, tally: &mut Tally) {
    let started = catch_unwind(AssertUnwindSafe(|| {
        let problems = audit(folder).unwrap();
        (problems, start(folder, NOW))
    }));
    let (problems, started) = started.unwrap_or_else(|_| panic!("{case}: a panic"));
    let (inventory, running) = match started {
        Ok(started) => started,
        Err(error) => {
            tally.refused += 1;
            let said = error.to_string();
            let remedy = ["restore", "upgrade", "state migrate"]
                .iter()
                .any(|remedy| said.contains(remedy));
            assert!(remedy, "{case}: no remedy in: {said}");
            assert!(!problems.is_empty(), "{case}: check says nothing of: {said}");
            return;
        }
    };
    let rows = running.live.load().unwrap();
    for lease in &rows.leases {
        assert!(sound.leases.contains(lease), "{case}: nobody was ever told {lease:?}");
    }
    for system in inventory.systems() {
        let stored = sound.inventory.system(system.name.as_str()).unwrap();
        assert_eq!(system.interfaces, stored.interfaces, "{case}");
    }
    let [fresh, claimed, busy, done, withdrawn] = &sound.arms;
    let wiped = |arm| would_be_wiped(arm, &inventory, &rows.installations, NOW);
    for arm in [busy, done, withdrawn] {
        assert!(!wiped(arm), "{case}: {} would be wiped; {:?}", arm.system, running.told);
    }
    let told: Vec<String> = running.told.iter().map(|event| event.what.to_string()).collect();
    let lost = sound.leases.len() - rows.leases.len();
    let all_there = wiped(fresh) && wiped(claimed) && lost == 0;
    tally.lost += lost;
    if all_there && told.is_empty() {
        tally.whole += 1;
    } else {
        // The end of the log looks as a power cut leaves it.
        let tail = case.contains("live.db-wal");
        assert!(
            tail || all_there || !told.is_empty() || !problems.is_empty(),
            "{case}: {lost} leases were lost silently"
        );
        tally.told += 1;
    }
    drop(running);
    // Mended once, it is sound.
    let (_, again) = start(folder, NOW).unwrap();
    assert!(again.told.is_empty(), "{case}: {:?}", again.told);
}

fn mutate(times: usize) {
    let seed = seed();
    let mut dice = Dice::new(seed);
    let sound = sound();
    // In memory where there is a file system for that: thousands of starts need no disk.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap();
    let mut tally = Tally::default();
    let begun = Instant::now();
    for number in 0..times {
        let path = dir.path().join("state");
        let _old = std::fs::remove_dir_all(&path);
        let folder = Folder::open(&path).unwrap();
        let target = TARGETS[number % TARGETS.len()];
        let mut how = "";
        for (name, bytes) in &sound.files {
            let mut bytes = bytes.clone();
            if name == target {
                how = damage(&mut bytes, &mut dice);
            }
            let file = path.join(name);
            std::fs::write(&file, bytes).unwrap();
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        one(
            &sound,
            &folder,
            &format!("{number}, seed {seed}: {target}, {how}"),
            &mut tally,
        );
    }
    println!(
        "{times} damaged folders in {:.1?}: {} served as if nothing was, {} served and told, {} refused with a remedy; {} of {} leases \
         were lost in all",
        begun.elapsed(),
        tally.whole,
        tally.told,
        tally.refused,
        tally.lost,
        times * sound.leases.len()
    );
    assert!(tally.told > times / 20 && tally.refused > times / 50 && begun.elapsed() < Duration::from_secs(3600));
}

#[test]
fn damaged_state_is_mended_or_refused_and_never_believed() {
    mutate(700);
}

#[test]
#[ignore = "long: ten thousand damaged state folders"]
fn ten_thousand_damaged_states() {
    mutate(10_500);
}
