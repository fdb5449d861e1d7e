//! Changes that come over the network: judged and stored in inventory.db like those of the command line, and served before they are
//! answered, so that a client reads what it wrote.

use super::hooks::{Teller, Told};
use super::inventory_watch::Look;
use super::texts;
use crate::inventory::{Change, edit_all, systems_about};
use crate::model::{Secret, Standing};
use crate::ports::{BoxFuture, TextChange, Writes};
use crate::store::{Folder, InventoryDb, StoreError, Users};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// How long a stored change is waited for until it is served; the next look at the database is asked for at once.
const SERVED: Duration = Duration::from_secs(2);

/// Writes inventory.db.
pub(super) struct Writer {
    folder: Folder,
    /// Opened at the first change: most daemons never see one.
    db: Arc<Mutex<Option<InventoryDb>>>,
    /// The overrides folder, written to by one at a time.
    overrides: Arc<Mutex<PathBuf>>,
    look: Arc<Look>,
    served: watch::Receiver<u64>,
    hooks: Option<Teller>,
}

impl Writer {
    pub(super) fn new(folder: Folder, overrides: PathBuf, look: Arc<Look>, served: watch::Receiver<u64>) -> Self {
        Self {
            folder,
            db: Arc::default(),
            overrides: Arc::new(Mutex::new(overrides)),
            look,
            served,
            hooks: None,
        }
    }

    /// Tells hooks of what is asked for here and changes no object.
    pub(super) fn telling(mut self, hooks: Teller) -> Self {
        self.hooks = Some(hooks);
        self
    }

    async fn store(&self, changes: Vec<Change>) -> Result<(), String> {
        let (folder, db) = (self.folder.clone(), self.db.clone());
        let stored = spawn_blocking(move || {
            let mut db = db.lock().unwrap_or_else(PoisonError::into_inner);
            let stored = commit(&folder, &mut db, changes);
            if stored
                .as_ref()
                .is_err_and(|error| !matches!(error, StoreError::Refused(_)))
            {
                // Whatever it was, the next change opens the file anew.
                *db = None;
            }
            stored
        });
        let version = stored.await.map_err(|error| error.to_string())?;
        let version = version.map_err(|error| match error {
            StoreError::Refused(refused) => refused.to_string(),
            // Where the state lies is not for the network.
            other => {
                tracing::error!("a change over the network was not stored: {other}");
                "the change could not be stored; the server's log says why".to_owned()
            }
        })?;
        self.look.at_database();
        let mut served = self.served.clone();
        // It is stored in any case; who reads too early reads what was before.
        drop(tokio::time::timeout(SERVED, served.wait_for(|now| *now >= version)).await);
        Ok(())
    }
}

fn commit(folder: &Folder, slot: &mut Option<InventoryDb>, changes: Vec<Change>) -> Result<u64, StoreError> {
    let mut db = match slot.take() {
        Some(db) => db,
        None => InventoryDb::open(folder)?,
    };
    let version = match systems_about(&changes) {
        Some(systems) => {
            let (committed, _) = db.commit_some(&systems, |inventory| edit_all(inventory, changes))?;
            committed.version
        }
        // Any system may be touched. What is read for that is forgotten again.
        None => {
            let committed = InventoryDb::open(folder)?.commit(|inventory| edit_all(inventory, changes))?;
            committed.version
        }
    };
    *slot = Some(db);
    Ok(version)
}

impl Writes for Writer {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.store(changes))
    }

    fn text(&self, change: TextChange) -> BoxFuture<'_, Result<(), String>> {
        let overrides = self.overrides.clone();
        Box::pin(async move {
            let said = format!("{} {}", change.folder.one(), change.path);
            let written = spawn_blocking(move || {
                let overrides = overrides.lock().unwrap_or_else(PoisonError::into_inner);
                texts::put(&overrides, &change)
            })
            .await;
            match written
                .map_err(|error| error.to_string())
                .and_then(|written| written.map_err(|error| error.to_string()))
            {
                Ok(()) => {
                    // It is written in any case; a machine that asks too early gets what was before.
                    drop(tokio::time::timeout(SERVED, self.look.at_files()).await);
                    Ok(())
                }
                // Where they lie is not for the network.
                Err(error) => {
                    tracing::error!("{said} was not written: {error}");
                    Err(format!("{said} could not be written; the server's log says why"))
                }
            }
        })
    }

    fn synced(&self) {
        if let Some(hooks) = &self.hooks {
            hooks.tell(Told::Synced);
        }
    }

    fn verify(&self, user: String, password: Secret<String>) -> BoxFuture<'_, Option<Standing>> {
        let folder = self.folder.clone();
        Box::pin(async move {
            let judged = spawn_blocking(move || Users::open(&folder)?.verify(&user, &password)).await;
            told(judged)
        })
    }

    fn standing(&self, user: String) -> BoxFuture<'_, Option<Standing>> {
        let folder = self.folder.clone();
        Box::pin(async move {
            let judged = spawn_blocking(move || Users::open(&folder)?.standing(&user)).await;
            told(judged)
        })
    }
}

/// Who cannot be judged does not get in.
fn told(judged: Result<Result<Option<Standing>, StoreError>, tokio::task::JoinError>) -> Option<Standing> {
    match judged {
        Ok(Ok(standing)) => standing,
        Ok(Err(error)) => {
            tracing::error!("users cannot be read: {error}");
            None
        }
        Err(error) => {
            tracing::error!("users cannot be read: {error}");
            None
        }
    }
}
