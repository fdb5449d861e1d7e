//! Several editors at once, and a reader that follows them.

use super::*;
use cordwainer::store::StoreError;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const EACH: u32 = 100;

/// Adds systems that all editors want to add with the same MACs; says how many it got.
fn edit_away(folder: &Folder, who: &str) -> u32 {
    let mut db = InventoryDb::open(folder).unwrap();
    let mut got = 0;
    for number in 0..EACH {
        let [.., a, b] = number.to_be_bytes();
        let change = add(
            Kind::System,
            &format!("{who}-{number}"),
            &[("profile", "p"), ("mac", &Mac::new([2, 0, 0, 0, a, b]).to_string())],
        );
        match db.commit(judged(change)) {
            Ok(_) => got += 1,
            Err(StoreError::Refused(refused)) => {
                assert!(refused.to_string().contains("belongs to system"), "{refused}")
            }
            Err(error) => panic!("{error}"),
        }
    }
    got
}

#[test]
#[ignore = "a role of the tests beside it"]
fn editor() {
    let Some(path) = role() else { return };
    let folder = Folder::open(&path).unwrap();
    say("ready");
    let got = edit_away(&folder, &format!("process{}", std::process::id()));
    say(&got.to_string());
}

#[test]
fn editors_at_once_never_share_a_mac_and_never_lose_a_change() {
    let (_dir, folder) = state();
    ground(&mut InventoryDb::open(&folder).unwrap());
    let mut processes: Vec<Child> = (0..2).map(|_| start_role("editing", "editor", folder.path())).collect();
    let mut sayings: Vec<_> = processes.iter_mut().map(said).collect();
    for lines in &mut sayings {
        assert_eq!(lines.next().unwrap(), "ready");
    }
    let threads: Vec<_> = (0..2)
        .map(|number| {
            let folder = folder.clone();
            std::thread::spawn(move || edit_away(&folder, &format!("thread{number}")))
        })
        .collect();
    let mut got: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    for (process, lines) in processes.iter_mut().zip(sayings) {
        got += lines.map(|line| line.parse::<u32>().unwrap()).sum::<u32>();
        assert!(process.wait().unwrap().success());
    }
    let (inventory, version) = InventoryDb::open(&folder).unwrap().load().unwrap();
    assert_eq!((got, inventory.system_count()), (EACH, EACH as usize));
    assert_eq!(version, u64::from(EACH) + 1);
    let owners: std::collections::BTreeSet<&str> = inventory
        .systems()
        .filter_map(|system| system.name.as_str().split('-').next())
        .collect();
    println!("{} of 4 editors got something", owners.len());
}

#[test]
fn a_reader_follows_every_change_and_ends_with_the_same_inventory() {
    let (_dir, folder) = state();
    let mut reader = InventoryDb::open(&folder).unwrap();
    let (mut seen, mut version) = reader.load().unwrap();
    assert_eq!(reader.poll(version).unwrap(), None);
    let (done, wake) = channel::<(u64, Instant)>();
    let writer = {
        let folder = folder.clone();
        std::thread::spawn(move || {
            let mut db = InventoryDb::open(&folder).unwrap();
            ground(&mut db);
            let of = |number: u32| format!("s{number}");
            for number in 0..60 {
                let mac = lease(number).mac.to_string();
                let changes = vec![
                    add(Kind::System, &of(number), &[("profile", "p"), ("mac", &mac)]),
                    Change::Rename {
                        kind: Kind::Profile,
                        name: "p".parse().unwrap(),
                        new_name: "q".parse().unwrap(),
                    },
                    Change::Rename {
                        kind: Kind::Profile,
                        name: "q".parse().unwrap(),
                        new_name: "p".parse().unwrap(),
                    },
                ];
                db.commit(|inventory| edit_all(inventory, changes)).unwrap();
                if number % 3 == 0 {
                    let change = Change::Rename {
                        kind: Kind::System,
                        name: of(number).parse().unwrap(),
                        new_name: format!("r{number}").parse().unwrap(),
                    };
                    db.commit(judged(change)).unwrap();
                }
                let change = if number % 4 == 1 {
                    Change::Remove {
                        kind: Kind::System,
                        name: of(number).parse().unwrap(),
                        recursive: false,
                    }
                } else {
                    set(&of(number / 3 * 3 + 2).min(of(2)), "comment", &number.to_string())
                };
                let version = match db.commit(judged(change)) {
                    Ok(committed) => committed.version,
                    Err(StoreError::Refused(_)) => continue,
                    Err(error) => panic!("{error}"),
                };
                done.send((version, Instant::now())).unwrap();
            }
        })
    };
    let mut waits = Vec::new();
    let mut expected: Vec<(u64, Instant)> = Vec::new();
    let mut open = true;
    while open || !expected.is_empty() {
        match wake.recv_timeout(Duration::from_millis(20)) {
            Ok(mark) => expected.push(mark),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => open = false,
        }
        if let Some(polled) = reader.poll(version).unwrap() {
            assert!(polled.version > version);
            version = polled.version;
            polled.rows.into_iter().for_each(|row| seen.apply(row));
        }
        // What was committed before a poll is in it: a mark that came first is seen now.
        let (now_seen, later): (Vec<_>, Vec<_>) = expected.into_iter().partition(|(mark, _)| *mark <= version);
        assert!(open || later.is_empty(), "committed and not seen: {later:?}");
        waits.extend(now_seen.into_iter().map(|(_, at)| at.elapsed()));
        expected = later;
    }
    writer.join().unwrap();
    waits.sort();
    println!(
        "{} changes seen, median {:?}, worst {:?}",
        waits.len(),
        waits[waits.len() / 2],
        waits[waits.len() - 1]
    );
    let (fresh, _) = InventoryDb::open(&folder).unwrap().load().unwrap();
    let (known, _) = reader.load().unwrap();
    assert_eq!(known.systems().collect::<Vec<_>>(), fresh.systems().collect::<Vec<_>>());
    assert_eq!(seen.systems().collect::<Vec<_>>(), fresh.systems().collect::<Vec<_>>());
    assert_eq!(
        seen.profiles().collect::<Vec<_>>(),
        fresh.profiles().collect::<Vec<_>>()
    );
    for system in fresh.systems() {
        for mac in system.macs() {
            assert_eq!(seen.system_by_mac(mac).unwrap().name, system.name);
        }
    }
    assert!(waits.len() > 30);
}

#[test]
fn a_refused_change_changes_nothing() {
    let (_dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    let (_, version) = db.load().unwrap();
    let refused = db
        .commit(judged(add(Kind::System, "s", &[("profile", "none")])))
        .unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)));
    assert_eq!(db.commit(|_| Ok(Vec::new())).unwrap().version, version);
    let (inventory, after) = InventoryDb::open(&folder).unwrap().load().unwrap();
    assert_eq!((inventory.system_count(), after), (0, version));
}

#[test]
fn the_claims_table_is_the_last_word() {
    let (_dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    let one = [("profile", "p"), ("mac", "02:00:00:00:00:01"), ("hostname", "a")];
    db.commit(judged(add(Kind::System, "a", &one))).unwrap();
    // A judge that looks at nothing would let both have it.
    let careless = |_: &Inventory| edit(&Inventory::default(), add(Kind::Distro, "x", &[("kernel", "k")]));
    db.commit(careless).unwrap();
    let mut thief = (**db.load().unwrap().0.system("a").unwrap()).clone();
    thief.name = "b".parse().unwrap();
    let put = RowChange::Put(cordwainer::inventory::Row::System(thief.into()));
    let refused = db.commit(|_| Ok(vec![put])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "MAC 02:00:00:00:00:01 belongs to system `a`; take it from there first"
    );
}

#[test]
fn damage_is_named_with_its_remedy() {
    let (_dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    for number in 0..400 {
        db.commit(judged(add(
            Kind::System,
            &format!("s{number}"),
            &[("profile", "p"), ("comment", "some words")],
        )))
        .unwrap();
    }
    drop(db);
    let path = folder.path().join("inventory.db");
    let sound = std::fs::read(&path).unwrap();
    let load = || InventoryDb::open(&folder).and_then(|mut db| db.load());
    assert_eq!(load().unwrap().0.system_count(), 400);

    // One letter in one row, as a flipped bit on the disk would.
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute(
        "UPDATE objects SET body = replace(body, 'some words', 'some wordz') WHERE name = 's5'",
        (),
    )
    .unwrap();
    drop(raw);
    let error = load().unwrap_err().to_string();
    assert!(
        error.contains("system s5") && error.contains("checksum") && error.contains("cordwainer restore"),
        "{error}"
    );
    assert!(!error.contains("word"), "{error}");

    // The daemon serves all others, and names the one; what it is told later of a row that is damaged by then takes the object out.
    let mut daemon = InventoryDb::open(&folder).unwrap().leaving_out_damaged();
    let (mut seen, version) = daemon.load().unwrap();
    assert_eq!(seen.system_count(), 399);
    assert!(seen.system("s5").is_none());
    let named = daemon.take_damaged();
    assert!(
        matches!(named.as_slice(), [one] if one.starts_with("system s5: ")),
        "{named:?}"
    );
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch(
        "UPDATE meta SET value = value + 1 WHERE key = 'version';
         UPDATE objects SET version = (SELECT value FROM meta WHERE key = 'version'), sum = sum + 1 WHERE name = 's6';",
    )
    .unwrap();
    drop(raw);
    let polled = daemon.poll(version).unwrap().unwrap();
    assert_eq!(polled.rows, [RowChange::Remove(Kind::System, "s6".parse().unwrap())]);
    polled.rows.into_iter().for_each(|row| seen.apply(row));
    assert_eq!(seen.system_count(), 398);
    assert_eq!(daemon.take_damaged().len(), 1);
    drop(daemon);

    // Whole pages of something else, at every place: an error with a remedy or the truth, never a crash, never half.
    let mut errors = 0;
    for page in 0..sound.len() / 4096 {
        let mut bytes = sound.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
        std::fs::write(&path, &bytes).unwrap();
        match load() {
            Ok((inventory, _)) => assert_eq!(inventory.system_count(), 400),
            Err(error) => {
                errors += 1;
                assert!(error.to_string().contains("inventory.db"), "{error}");
            }
        }
    }
    println!("{errors} of {} damaged pages were noticed at load", sound.len() / 4096);
    assert!(errors > 3);
    for text in ["", "no database at all, whatever its name says"] {
        std::fs::write(&path, text).unwrap();
        let error = load().unwrap_err().to_string();
        assert!(error.contains("restore"), "{error}");
    }
}

#[test]
fn a_change_that_knows_what_it_is_about_is_judged_as_by_who_knows_all() {
    let (_dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    let fields = |number: u8| {
        [
            ("profile", "p".to_owned()),
            ("mac", format!("02:00:00:00:00:{number:02x}")),
            ("ip", format!("192.0.2.{number}")),
        ]
    };
    for number in 1..=3 {
        let fields = fields(number);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(field, text)| (*field, text.as_str())).collect();
        db.commit(judged(add(Kind::System, &format!("s{number}"), &fields)))
            .unwrap();
    }
    let name = |text: &str| text.parse::<cordwainer::model::Name>().unwrap();
    let system = |name: &str| Change::Remove {
        kind: Kind::System,
        name: name.parse().unwrap(),
        recursive: false,
    };
    let changes = [
        set("s1", "comment", "by itself"),
        set("s1", "mac", "02:00:00:00:00:02"),
        set("s9", "comment", "nobody"),
        add(Kind::System, "s1", &[("profile", "p")]),
        add(Kind::System, "s4", &[("profile", "q")]),
        add(Kind::System, "s4", &[("profile", "p"), ("ip", "192.0.2.3")]),
        add(Kind::System, "s4", &[("profile", "p"), ("mac", "02:00:00:00:00:04")]),
        add(Kind::Profile, "q", &[("parent", "p")]),
        add(Kind::Profile, "r", &[("parent", "x")]),
        Change::Rename {
            kind: Kind::System,
            name: name("s2"),
            new_name: name("s1"),
        },
        Change::Rename {
            kind: Kind::System,
            name: name("s2"),
            new_name: name("s5"),
        },
        Change::Copy {
            kind: Kind::System,
            name: name("s3"),
            new_name: name("s6"),
            fields: Vec::new(),
        },
        system("s3"),
        system("s3"),
        Change::Disarm { system: name("s1") },
    ];
    for change in changes {
        let systems = cordwainer::inventory::systems_about(std::slice::from_ref(&change)).unwrap();
        let (all, version) = db.load().unwrap();
        let expected = edit(&all, change.clone());
        let mut other = InventoryDb::open(&folder).unwrap();
        match (other.commit_some(&systems, judged(change.clone())), expected) {
            (Ok((committed, before)), Ok(rows)) => {
                assert_eq!(committed.rows, rows, "{change:?}");
                assert_eq!(committed.version, version + u64::from(!rows.is_empty()), "{change:?}");
                assert!(before.system_count() <= systems.len());
                // Whoever had read all of it before reads just that.
                let polled = db.poll(version).unwrap();
                assert_eq!(polled.map_or(0, |polled| polled.rows.len()), rows.len(), "{change:?}");
            }
            (Err(light), Err(full)) => {
                let (light, full) = (light.to_string(), full.to_string());
                // Only the nearest name may be missing, for which all names must be known: then the command that lists them is named.
                let what = light.split("; `cordwainer").next().unwrap();
                assert!(full.starts_with(what), "{light} / {full}");
                assert_eq!(db.load().unwrap().1, version);
            }
            (light, full) => panic!("{change:?}: {light:?} / {full:?}"),
        }
    }
    assert!(
        cordwainer::inventory::systems_about(&[Change::Remove {
            kind: Kind::Profile,
            name: name("p"),
            recursive: true,
        }])
        .is_none()
    );
}
