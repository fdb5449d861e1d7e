//! What outlives the process: inventory.db, live.db, the server's key. The state task commits before anyone is answered.

pub mod clock;
mod live_db;
mod state_task;

pub use live_db::{LiveDb, LiveDbError, LiveRows};
pub use state_task::StateTask;
