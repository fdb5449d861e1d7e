//! Backup beside a working daemon, restore without one.

use super::*;
use cordwainer::model::{Arm, ArmId, State};
use cordwainer::store::{LiveDb, StateLock, StoreError, backup, restore, server_key};

// In 2100, as in recover.rs.
const NOW: Timestamp = Timestamp(4_102_448_591_204);

fn arm(system: &str) -> Change {
    Change::Arm {
        arm: Arm {
            id: ArmId::random(7),
            system: system.parse().unwrap(),
            at: NOW,
            until: Timestamp(i64::MAX),
            by: "root".to_owned(),
        },
        again: false,
        state: State::Idle,
    }
}

#[test]
fn what_was_backed_up_comes_back_unarmed() {
    let (dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    let fields = [("profile", "p"), ("mac", "02:00:00:00:00:01")];
    db.commit(judged(add(Kind::System, "web1", &fields))).unwrap();
    db.commit(judged(arm("web1"))).unwrap();
    let mut live = LiveDb::open_writer(&folder).unwrap();
    live.write(&[&LiveRow::Lease(lease(7))]).unwrap();
    server_key(&folder).unwrap();
    let key = std::fs::read(folder.path().join("server.key")).unwrap();

    // A running daemon is no obstacle to a backup, only to a restore.
    let daemon = StateLock::take(&folder).unwrap();
    let file = dir.path().join("state.backup");
    backup(&folder, &file, NOW).unwrap();
    assert!(
        matches!(backup(&folder, &file, NOW), Err(StoreError::Exists(_))),
        "it would have been overwritten"
    );
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let refused = restore(&folder, &file, NOW).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Locked { holder: Some(pid), .. } if *pid == std::process::id()),
        "{refused}"
    );
    drop(daemon);

    db.commit(judged(add(Kind::System, "later", &[("profile", "p")])))
        .unwrap();
    live.write(&[&LiveRow::LeaseGone(lease(7).address)]).unwrap();
    drop((db, live));
    std::fs::write(folder.path().join("server.key"), [1; 32]).unwrap();
    let restored = restore(&folder, &file, NOW).unwrap();
    assert_eq!(restored.disarmed, ["web1".parse().unwrap()]);
    assert!(restored.migrated.is_empty());

    let (inventory, _) = InventoryDb::open(&folder).unwrap().load().unwrap();
    assert!(inventory.system("web1").is_some() && inventory.system("later").is_none());
    assert_eq!(inventory.arms().count(), 0);
    assert_eq!(LiveDb::open_reader(&folder).unwrap().load().unwrap().leases, [lease(7)]);
    assert_eq!(std::fs::read(folder.path().join("server.key")).unwrap(), key);
    // What was there before is kept.
    let aside = Folder::open(&restored.aside).unwrap();
    let (before, _) = InventoryDb::open(&aside).unwrap().load().unwrap();
    assert!(before.system("later").is_some());
    assert_eq!(before.arms().count(), 1);
    assert_eq!(folder.findings().unwrap(), []);
}

#[test]
fn a_damaged_state_is_replaced_and_a_torn_backup_is_not_believed() {
    let (dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    drop(db);
    let file = dir.path().join("state.backup");
    backup(&folder, &file, NOW).unwrap();
    std::fs::write(
        folder.path().join("inventory.db"),
        "garbage that is long enough to be looked at",
    )
    .unwrap();

    let sound = std::fs::read(&file).unwrap();
    let torn = dir.path().join("torn");
    for length in [0, 100, sound.len() / 2, sound.len() / 4 * 3] {
        std::fs::write(&torn, &sound[..length]).unwrap();
        let error = restore(&folder, &torn, NOW).unwrap_err();
        assert!(matches!(&error, StoreError::BadBackup { .. }), "{length}: {error}");
    }
    let mut flipped = 0;
    for at in (0..sound.len()).step_by(sound.len() / 40) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&torn, &bytes).unwrap();
        match restore(&folder, &torn, NOW) {
            Err(error) => {
                flipped += 1;
                assert!(error.to_string().contains("torn"), "{error}");
            }
            // The bit was of no part: an unused byte of a page. What came back is what was backed up.
            Ok(restored) => {
                assert!(
                    InventoryDb::open(&folder)
                        .unwrap()
                        .load()
                        .unwrap()
                        .0
                        .profile("p")
                        .is_some()
                );
                std::fs::remove_dir_all(restored.aside).unwrap();
            }
        }
    }
    assert!(flipped > 20, "{flipped}");
    let _ = restore(&folder, &file, Timestamp(NOW.0 + 1000)).unwrap();
    assert!(
        InventoryDb::open(&folder)
            .unwrap()
            .load()
            .unwrap()
            .0
            .profile("p")
            .is_some()
    );
}
