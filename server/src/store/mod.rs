//! State on disk: `inventory.db` (objects and armings, written by CLI and daemon), `live.db` (leases and installations, written by the
//! daemon only), the server key, the state lock, backups; and the state task that owns the second of them.
//!
//! IO. Never decides anything: changes are judged by `inventory::edit` and `install::step`. Never keeps a secret in a database.
//!
//! Two files because a CLI that is stopped in mid-write must not hold up an ACK. Both are SQLite in WAL mode with synchronous=FULL: what
//! was committed survives a power cut. Whoever opens the state as root acts as the state folder's owner while files are made, so that
//! no file appears that the daemon cannot open and no link in the folder leads root astray.

mod backup;
pub mod clock;
mod database;
mod error;
mod folder;
mod handed_out;
mod inventory_db;
mod key;
mod live_db;
mod lock;
mod recover;
mod seen;
mod state_task;
mod users;

pub use backup::{Restored, backup, restore};
pub use clock::Clock;
pub use database::{Migrated, audit, migrate, verify};
pub use error::StoreError;
pub use folder::{Finding, Folder};
pub use inventory_db::{Committed, InventoryDb, Polled};
pub use key::server_key;
pub use live_db::{LiveDb, LiveRows};
pub use lock::StateLock;
pub use recover::{Recovered, prepare, recover};
pub use state_task::StateTask;
pub use users::Users;
