//! Opens the state for a start. Waits for a disk that is full or fails, because nobody is at the keyboard when it has room again; what
//! waiting does not mend is refused at once.

use super::{DaemonError, Stops, heartbeat};
use crate::inventory::Inventory;
use crate::store::clock::Clock;
use crate::store::{self, Folder, InventoryDb, Recovered, StateLock, StoreError};
use std::path::Path;
use std::time::Duration;

/// How often a disk that fails is tried.
const AGAIN: Duration = Duration::from_secs(1);

/// The state, open and mended.
pub(super) struct Opened {
    pub(super) folder: Folder,
    pub(super) lock: StateLock,
    pub(super) db: InventoryDb,
    pub(super) inventory: Inventory,
    pub(super) version: u64,
    pub(super) recovered: Recovered,
    /// How long no daemon has been alive on it.
    pub(super) absent: Option<Duration>,
}

/// Opens the state, as often as it takes. None when a signal ended the waiting.
///
/// # Errors
/// What waiting does not mend.
pub(super) async fn open_with_patience(
    path: &Path,
    clock: Clock,
    stops: &mut Stops,
) -> Result<Option<Opened>, DaemonError> {
    let mut told = String::new();
    loop {
        let error = match open(path, clock) {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) if error.passes() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if told != error {
            tracing::error!("waiting for the state: {error}");
            told = error;
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => (),
            () = stops.first() => return Ok(None),
        }
    }
}

fn open(path: &Path, clock: Clock) -> Result<Opened, StoreError> {
    let folder = Folder::open(path)?;
    let absent = heartbeat::absent(folder.path());
    let lock = StateLock::take(&folder)?;
    for done in store::prepare(&folder, &lock, clock.now())? {
        tracing::info!(
            "{} went from schema {} to {}; the copy of before is {}",
            done.file.display(),
            done.from,
            done.to,
            done.copy.display()
        );
    }
    let mut db = InventoryDb::open(&folder)?.leaving_out_damaged();
    let (mut inventory, version) = db.load()?;
    let recovered = store::recover(&folder, &lock, &mut db, &mut inventory, clock.now())?;
    Ok(Opened {
        folder,
        lock,
        db,
        inventory,
        version,
        recovered,
        absent,
    })
}
