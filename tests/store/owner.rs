//! Root who opens the state of the service user: every file is the service user's, and no link in the folder leads root astray.

use super::*;
use crate::lab::need::{self, Need};
use cordwainer::store::{LiveDb, StateLock, StoreError, server_key};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

const SERVICE: u32 = 61_234;

#[test]
fn root_leaves_no_file_that_the_daemon_cannot_open() {
    if !need::all("root_leaves_no_file_that_the_daemon_cannot_open", &[&[Need::Root]]) {
        return;
    }
    let (dir, folder) = state();
    // The service user must be able to get there.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(folder.path(), Some(SERVICE), Some(SERVICE)).unwrap();
    let folder = Folder::open(folder.path()).unwrap();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    let live = LiveDb::open_writer(&folder).unwrap();
    server_key(&folder).unwrap();
    let lock = StateLock::take(&folder).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o777),
            (SERVICE, SERVICE, 0o600),
            "{name}"
        );
        names.push(name);
    }
    names.sort();
    assert_eq!(
        names,
        [
            "inventory.db",
            "inventory.db-shm",
            "inventory.db-wal",
            "inventory.seen",
            "live.db",
            "live.db-shm",
            "live.db-wal",
            "server.key",
            "state.lock"
        ]
    );
    assert_eq!(folder.findings().unwrap(), []);
    drop((db, live, lock));

    // Root is itself again afterwards.
    let mine = dir.path().join("mine");
    std::fs::write(&mine, "").unwrap();
    assert_eq!(std::fs::metadata(&mine).unwrap().uid(), 0);

    chown(folder.path().join("live.db"), Some(0), Some(0)).unwrap();
    let error = LiveDb::open_writer(&folder).unwrap_err();
    assert!(
        matches!(&error, StoreError::Foreign { expected: SERVICE, .. }),
        "{error}"
    );
    let found = folder.findings().unwrap();
    assert!(found.len() == 1 && found[0].what.contains("chown"), "{found:?}");
}

#[test]
fn links_and_open_folders_are_refused() {
    let (dir, folder) = state();
    let elsewhere = dir.path().join("elsewhere");
    std::fs::write(&elsewhere, "precious").unwrap();
    for name in ["inventory.db", "server.key", "state.lock"] {
        let link = folder.path().join(name);
        symlink(&elsewhere, &link).unwrap();
        let error = match name {
            "inventory.db" => InventoryDb::open(&folder).unwrap_err(),
            "server.key" => server_key(&folder).unwrap_err(),
            _ => StateLock::take(&folder).unwrap_err(),
        };
        assert!(matches!(&error, StoreError::Foreign { .. }), "{name}: {error}");
        std::fs::remove_file(link).unwrap();
    }
    // What SQLite keeps beside a database counts too.
    drop(InventoryDb::open(&folder).unwrap());
    symlink(&elsewhere, folder.path().join("inventory.db-wal")).unwrap();
    assert!(matches!(InventoryDb::open(&folder), Err(StoreError::Foreign { .. })));
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(
        Folder::open(folder.path()),
        Err(StoreError::OpenFolder { .. })
    ));
}

#[test]
fn the_key_is_made_once_and_stays() {
    let (_dir, folder) = state();
    let both: Vec<_> = (0..2)
        .map(|_| {
            let folder = folder.clone();
            std::thread::spawn(move || server_key(&folder).map(drop))
        })
        .collect();
    both.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    let path = folder.path().join("server.key");
    let first = std::fs::read(&path).unwrap();
    server_key(&folder).unwrap();
    assert_eq!((std::fs::read(&path).unwrap(), first.len()), (first.clone(), 32));
    assert_ne!(first, [0; 32]);
    std::fs::write(&path, "short").unwrap();
    assert!(matches!(server_key(&folder), Err(StoreError::BadKey { found: 5, .. })));
}
