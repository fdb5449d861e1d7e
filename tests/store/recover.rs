//! What a start makes of state that is damaged, lost, rolled back or written under another clock. Nothing of it may lead to a wipe.

use super::*;
use cordwainer::install::{Installation, State};
use cordwainer::model::{Arm, ArmId};
use cordwainer::store::{LiveDb, Recovered, StateLock, StoreError, backup, prepare, recover, restore};
use std::time::Duration;

/// In 2100: the files' own times, which a start looks at, are of the true clock and must be before it.
pub const NOW: Timestamp = Timestamp(4_102_448_591_204);
const HOUR: Duration = Duration::from_secs(3600);

/// One start of the daemon on the folder, as far as the state goes.
pub fn start(folder: &Folder, now: Timestamp) -> Result<(Inventory, Recovered), StoreError> {
    let lock = StateLock::take(folder)?;
    prepare(folder, &lock, now)?;
    let mut db = InventoryDb::open(folder)?.leaving_out_damaged();
    let (mut inventory, _) = db.load()?;
    let recovered = recover(folder, &lock, &mut db, &mut inventory, now)?;
    let (stored, _) = db.load()?;
    assert!(
        stored.arms().eq(inventory.arms()),
        "the daemon serves other armings than are stored"
    );
    Ok((inventory, recovered))
}

pub fn arm_of(name: &str, bits: u64, at: Timestamp) -> Arm {
    Arm {
        id: ArmId::random(bits),
        system: name.parse().unwrap(),
        at,
        until: at.plus(4 * HOUR),
        by: "root".to_owned(),
    }
}

pub fn armed(db: &mut InventoryDb, number: u8, at: Timestamp) -> Arm {
    let name = format!("web{number}");
    let mac = format!("02:00:00:00:00:{number:02x}");
    if db.load().unwrap().0.system(&name).is_none() {
        db.commit(judged(add(Kind::System, &name, &[("profile", "p"), ("mac", &mac)])))
            .unwrap();
    }
    let arm = arm_of(&name, u64::from(number), at);
    let change = Change::Arm {
        arm: arm.clone(),
        again: true,
        state: State::Idle,
    };
    db.commit(judged(change)).unwrap();
    arm
}

pub fn installation(arm: &Arm, state: State, partitioned: bool) -> Installation {
    Installation {
        arm: arm.id.clone(),
        system: arm.system.clone(),
        state,
        mac: Some(Mac::new([2, 0, 0, 0, 0, 1])),
        bound: Some(Ipv4Addr::new(10, 0, 0, 1)),
        behind: false,
        stage: None,
        partitioned,
        attempts: 1,
        claimed_at: arm.at,
        heard_at: arm.at,
        reason: None,
    }
}

fn row(installation: Installation) -> LiveRow {
    LiveRow::Installation(Box::new(installation))
}

/// True when the machine of `arm` would be given the installer.
pub fn would_be_wiped(arm: &Arm, inventory: &Inventory, rows: &[Installation], now: Timestamp) -> bool {
    let known = rows.iter().find(|row| row.arm == arm.id);
    let in_force = inventory
        .arm(arm.system.as_str())
        .is_some_and(|known| known.id == arm.id && known.is_in_force(now));
    in_force && cordwainer::install::may_launch(known, None, now)
}

/// Three machines after a day's work: armed and never seen; given the installer; done.
struct Day {
    _dir: tempfile::TempDir,
    folder: Folder,
    armed: Arm,
    claimed: Arm,
    done: Arm,
    /// live.db without its log, as it lay there when the last machine was not done yet.
    old: Vec<u8>,
}

fn day() -> Day {
    let (dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    let [armed, claimed, done] = [1, 2, 3].map(|number| armed(&mut db, number, NOW));
    drop(db);
    let (_, mut running) = start(&folder, NOW).unwrap();
    assert!(running.told.is_empty(), "{:?}", running.told);
    let live = &mut running.live;
    live.write(&[
        &row(installation(&claimed, State::Claimed, false)),
        &LiveRow::Lease(lease(7)),
    ])
    .unwrap();
    live.write(&[&row(installation(&done, State::Claimed, false))]).unwrap();
    live.checkpoint();
    let old = std::fs::read(live.path()).unwrap();
    live.write(&[&row(installation(&done, State::Installed, true))])
        .unwrap();
    Day {
        _dir: dir,
        folder,
        armed,
        claimed,
        done,
        old,
    }
}

impl Day {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts again; who would be wiped, and what was told.
    fn starts(&self) -> ([bool; 3], Vec<String>, Vec<Installation>, Vec<Lease>) {
        let (inventory, running) = start(&self.folder, NOW).unwrap();
        let told = running.told.iter().map(|event| event.what.to_string()).collect();
        let rows = running.live.load().unwrap();
        assert_eq!(rows.installations.len(), running.rows.installations.len());
        let wiped = [&self.armed, &self.claimed, &self.done]
            .map(|arm| would_be_wiped(arm, &inventory, &rows.installations, NOW));
        (wiped, told, rows.installations, rows.leases)
    }
}

#[test]
fn a_sound_state_is_left_as_it_is() {
    let day = day();
    for _ in 0..3 {
        let (wiped, told, rows, leases) = day.starts();
        assert_eq!((wiped, told), ([true, true, false], Vec::new()));
        assert_eq!((rows.len(), leases.len()), (2, 1));
    }
    assert_eq!(cordwainer::store::audit(&day.folder).unwrap(), Vec::<String>::new());
}

#[test]
fn a_lost_live_db_wipes_nothing_and_keeps_who_was_never_touched_armed() {
    let day = day();
    for name in ["live.db", "live.db-wal", "live.db-shm"] {
        let _ = std::fs::remove_file(day.file(name));
    }
    let (wiped, told, ..) = day.starts();
    assert_eq!(wiped, [true, false, false], "{told:?}");
    assert!(told.iter().any(|told| told.contains("live.db is gone")), "{told:?}");
    assert!(
        told.iter().filter(|told| told.contains("held")).count() == 2,
        "{told:?}"
    );
    let (wiped, told, ..) = day.starts();
    assert_eq!((wiped, told), ([true, false, false], Vec::new()));
}

#[test]
fn a_log_that_was_lost_wipes_nothing() {
    let day = day();
    // The file is whole, and says `claimed` of the machine that is done.
    std::fs::write(day.file("live.db"), &day.old).unwrap();
    let before = LiveDb::open_writer(&day.folder).unwrap().load().unwrap();
    assert!(
        before
            .installations
            .iter()
            .any(|row| row.arm == day.done.id && row.state == State::Claimed)
    );
    let (wiped, told, rows, leases) = day.starts();
    assert_eq!(wiped, [true, true, false], "{told:?}");
    let done = rows.iter().find(|row| row.arm == day.done.id).unwrap();
    assert_eq!((done.state, leases.len()), (State::Held, 1));
}

#[test]
fn what_is_lost_together_with_its_witness_holds_everyone() {
    let day = day();
    for name in ["live.db", "live.db-wal", "live.db-shm", "handed-out"] {
        let _ = std::fs::remove_file(day.file(name));
    }
    assert_eq!(day.starts().0, [false; 3]);
    // A witness that is lost alone is made anew from live.db.
    let day = self::day();
    std::fs::remove_file(day.file("handed-out")).unwrap();
    assert_eq!(day.starts().0, [true, true, false]);
    std::fs::remove_file(day.file("live.db")).unwrap();
    assert_eq!(day.starts().0, [true, false, false]);
}

#[test]
fn a_damaged_live_db_is_replaced_by_what_can_be_saved() {
    let day = day();
    let mut bytes = std::fs::read(day.file("live.db")).unwrap();
    // The header's page: nothing opens it any more.
    bytes[..100].fill(0xff);
    std::fs::write(day.file("live.db"), &bytes).unwrap();
    let (wiped, told, ..) = day.starts();
    assert_eq!(wiped, [true, false, false], "{told:?}");
    assert!(
        told[0].contains("live.db was damaged") && told[0].contains("restore"),
        "{told:?}"
    );
    let problems = cordwainer::store::audit(&day.folder).unwrap();
    assert!(problems.len() == 1 && problems[0].contains("damaged-"), "{problems:?}");
    assert_eq!(day.folder.findings().unwrap(), []);
}

#[test]
fn a_damaged_row_is_left_out_and_its_machine_held() {
    let day = day();
    drop(LiveDb::open_writer(&day.folder).unwrap());
    let raw = rusqlite::Connection::open(day.file("live.db")).unwrap();
    raw.execute_batch("UPDATE installations SET sum = sum + 1 WHERE system = 'web3'")
        .unwrap();
    drop(raw);
    let (wiped, told, ..) = day.starts();
    assert_eq!(wiped, [true, true, false], "{told:?}");
}

#[test]
fn a_key_of_another_length_is_set_aside_and_one_that_changed_is_told() {
    let day = day();
    let mut bytes = std::fs::read(day.file("server.key")).unwrap();
    bytes[5] ^= 4;
    std::fs::write(day.file("server.key"), &bytes).unwrap();
    let (_, told, ..) = day.starts();
    assert!(told.len() == 1 && told[0].contains("not the one of before"), "{told:?}");
    assert_eq!(day.starts().1, Vec::<String>::new());
    std::fs::write(day.file("server.key"), "short").unwrap();
    let problems = cordwainer::store::audit(&day.folder).unwrap();
    assert!(problems.len() == 1 && problems[0].contains("5 bytes"), "{problems:?}");
    let (wiped, told, ..) = day.starts();
    assert_eq!(wiped, [true, true, false]);
    assert!(told[0].contains("5 bytes instead of 32"), "{told:?}");
}

#[test]
fn leases_keep_their_remaining_time_over_a_leap_of_the_clock_and_no_arming_rises_again() {
    let (_dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    let arm = armed(&mut db, 1, NOW);
    drop(db);
    let (_, mut running) = start(&folder, NOW).unwrap();
    let mut own = lease(9);
    own.granted = NOW.plus(5 * HOUR);
    own.expires = NOW.plus(6 * HOUR);
    running.live.write(&[&LiveRow::Lease(own.clone())]).unwrap();
    drop(running);
    let year = 365 * 24 * HOUR;
    let remaining = |now: Timestamp| {
        let (inventory, running) = start(&folder, now).unwrap();
        let leases = running.live.load().unwrap().leases;
        assert_eq!(leases, running.rows.leases);
        let in_force = inventory.arm("web1").is_some_and(|known| known.is_in_force(now));
        (leases[0].expires.since(now), in_force, running.told.len())
    };
    // Ten years ahead, and back again, and ten years back: an hour is left each time. It was armed for four hours and five have gone by.
    for (step, now) in [
        NOW.plus(10 * year),
        NOW.plus(5 * HOUR),
        Timestamp(NOW.0 - 315_360_000_000),
        NOW.plus(5 * HOUR),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(remaining(now).0, HOUR, "step {step}");
        let (left, in_force, told) = remaining(now);
        assert_eq!((left, in_force, told), (HOUR, false, 0), "step {step}");
    }
    // Back to when the arming was young: it had lapsed, and stays so.
    let (left, in_force, told) = remaining(NOW.plus(HOUR));
    assert_eq!((left, in_force), (HOUR, false));
    assert_eq!(told, 2);
    assert!(arm.is_in_force(NOW.plus(HOUR)));
    // Time off is no leap.
    let (_, running) = start(&folder, NOW.plus(24 * HOUR)).unwrap();
    assert!(running.told.is_empty() && running.rows.leases[0].expires < NOW.plus(24 * HOUR));
}

/// A restore that a crash cut off: the state is the old one or the new one, and what was there is kept.
#[test]
fn a_restore_that_was_cut_off_is_finished_or_never_happened() {
    let (dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    drop(db);
    drop(start(&folder, NOW).unwrap());
    let file = dir.path().join("backup");
    backup(&folder, &file, NOW).unwrap();
    let mut db = InventoryDb::open(&folder).unwrap();
    db.commit(judged(add(Kind::System, "later", &[("profile", "p")])))
        .unwrap();
    drop(db);
    // What lies there between the moment that counts and the end, at every step: made by hand from a finished restore.
    let copy = dir.path().join("copy");
    let whole = restore(&folder, &file, NOW).unwrap();
    for done in 0..=3 {
        let _ = std::fs::remove_dir_all(&copy);
        std::fs::create_dir(&copy).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o700)).unwrap();
        let ready = copy.join(".replace");
        std::fs::create_dir(&ready).unwrap();
        std::fs::write(ready.join("aside"), "before-restore-x").unwrap();
        for (number, name) in ["inventory.db", "live.db", "server.key"].into_iter().enumerate() {
            let new = folder.path().join(name);
            if number < done {
                std::fs::copy(&new, copy.join(name)).unwrap();
            } else {
                std::fs::copy(&new, ready.join(name)).unwrap();
                std::fs::copy(whole.aside.join(name), copy.join(name)).unwrap();
            }
        }
        let half = Folder::open(&copy).unwrap();
        let refused = InventoryDb::open(&half).unwrap_err();
        assert!(matches!(refused, StoreError::HalfRestored(_)), "{refused}");
        let (inventory, running) = start(&half, NOW).unwrap();
        assert!(
            inventory.profile("p").is_some() && inventory.system("later").is_none(),
            "{done}"
        );
        assert!(running.told.is_empty(), "{:?}", running.told);
        assert!(!ready.exists());
        assert_eq!(copy.join("before-restore-x").join("inventory.db").exists(), done == 0);
    }
}

#[test]
fn a_folder_that_goes_away_underneath_is_told_and_nothing_is_promised_any_more() {
    let day = day();
    let (_, mut running) = start(&day.folder, NOW).unwrap();
    let mut db = InventoryDb::open(&day.folder).unwrap();
    let (_, version) = db.load().unwrap();
    std::fs::rename(day.folder.path(), day.folder.path().with_extension("gone")).unwrap();
    let error = running.live.write(&[&LiveRow::Lease(lease(8))]).unwrap_err();
    assert!(
        matches!(error, StoreError::Moved { .. }) && error.to_string().contains("restart"),
        "{error}"
    );
    assert!(matches!(running.live.probe(NOW), Err(StoreError::Moved { .. })));
    assert!(matches!(db.poll(version), Err(StoreError::Moved { .. })));
    let lost = db.commit(judged(set("web1", "comment", "x"))).unwrap_err();
    assert!(matches!(lost, StoreError::Moved { .. }), "{lost}");
}
