//! What a command works on: the configuration, the state folder, the clock. Every change goes through [`Desk::apply`], one transaction,
//! with the daemon up or down.

use super::exit::{Ended, Failure};
use super::print::Printer;
use super::settings::Settings;
use super::{host, link};
use crate::assets::Assets;
use crate::boot::World;
use crate::install::{Installs, ServerKey};
use crate::inventory::{Change, Inventory, Row, RowChange, edit_all, systems_about};
use crate::model::{Kind, LeaseState, Name, Timestamp};
use crate::store::{Folder, InventoryDb, LiveDb, LiveRows, StoreError, clock};
use nix::unistd::{User, getuid};
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rows that a message names before it only counts.
const NAMED: usize = 20;

/// Whether the daemon serves a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// The daemon serves it now.
    Live,
    /// It is stored; no daemon runs, or it has not taken it up yet.
    Stored,
    /// Nothing was stored: it was only planned.
    Planned,
}

impl Served {
    /// The word that is printed.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stored => "stored",
            Self::Planned => "planned only",
        }
    }
}

/// What a change did.
#[derive(Debug, Clone)]
pub(super) struct Applied {
    /// Each row: what happened, its kind, its name.
    pub(super) rows: Vec<(&'static str, &'static str, Name)>,
    /// Whether it is served.
    pub(super) served: Served,
    /// What the row that was renamed was called before.
    was: Option<Name>,
}

impl Applied {
    fn new(before: &Inventory, rows: &[RowChange], served: Served) -> Self {
        let told = |row: &RowChange| match row {
            RowChange::Put(row) => {
                let kind = row.kind()?;
                let known = before.row(kind, row.name().as_str()).is_some();
                Some((
                    if known { "changed" } else { "added" },
                    kind.as_str(),
                    row.name().clone(),
                ))
            }
            RowChange::Remove(kind, name) => Some(("removed", kind.as_str(), name.clone())),
            RowChange::Disarm(name) => Some(("disarmed", Kind::System.as_str(), name.clone())),
        };
        Self {
            rows: rows.iter().filter_map(told).collect(),
            served,
            was: None,
        }
    }

    /// Tells a renaming as what it is: to the store it is one row that goes and one that comes.
    fn renamed(mut self, kind: Kind, was: Name, name: &Name) -> Self {
        self.rows
            .retain(|(what, of, gone)| (*what, *of, gone) != ("removed", kind.as_str(), &was));
        for row in &mut self.rows {
            if (row.0, row.1, &row.2) == ("added", kind.as_str(), name) {
                row.0 = "renamed";
            }
        }
        self.was = Some(was);
        self
    }

    /// One line for each row.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (what, kind, name) in self.rows.iter().take(NAMED) {
            let was = match &self.was {
                Some(was) if *what == "renamed" => format!("{was} to "),
                _ => String::new(),
            };
            text.push_str(&format!("{what:9} {kind} {was}{name}, {}\n", self.served.as_str()));
        }
        let more = self.rows.len().saturating_sub(NAMED);
        if more > 0 {
            text.push_str(&format!("and       {more} more\n"));
        }
        text
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(what, kind, name)| match &self.was {
                Some(was) if *what == "renamed" => json!({"action": what, "kind": kind, "name": name, "was": was}),
                _ => json!({"action": what, "kind": kind, "name": name}),
            })
            .collect();
        json!({"changed": rows, "served": self.served.as_str()})
    }
}

/// What a command works on.
#[derive(Debug)]
pub(super) struct Desk {
    /// The configuration.
    pub(super) settings: Settings,
    /// Prints.
    pub(super) printer: Printer,
    /// The time when the command began.
    pub(super) now: Timestamp,
    live: OnceCell<Arc<Installs>>,
}

impl Desk {
    pub(super) fn new(settings: Settings, printer: Printer) -> Self {
        Self {
            settings,
            printer,
            now: clock::wall(),
            live: OnceCell::new(),
        }
    }

    /// The state folder, made if it is not there.
    pub(super) fn folder(&self) -> Result<Folder, Failure> {
        Ok(Folder::open(&self.settings.config.state)?)
    }

    /// True when there is a state folder to look into. Looking never makes one.
    pub(super) fn has_state(&self) -> Result<bool, Failure> {
        let path = &self.settings.config.state;
        path.join(".")
            .try_exists()
            .map_err(|error| Failure::file("cannot open", path, error))
    }

    /// The inventory as it is stored, under the configuration's defaults.
    pub(super) fn inventory(&self) -> Result<Inventory, Failure> {
        let mut inventory = if self.has_state()? {
            InventoryDb::open(&self.folder()?)?.load()?.0
        } else {
            Inventory::default()
        };
        inventory.defaults = Arc::new(self.settings.config.defaults.clone());
        Ok(inventory)
    }

    /// The inventory as far as these systems go: every distro and profile, and of systems and armings those named.
    pub(super) fn inventory_of(&self, systems: &BTreeSet<Name>) -> Result<Inventory, Failure> {
        let mut inventory = if self.has_state()? {
            InventoryDb::open(&self.folder()?)?.load_some(systems)?
        } else {
            Inventory::default()
        };
        inventory.defaults = Arc::new(self.settings.config.defaults.clone());
        Ok(inventory)
    }

    /// The inventory as far as this object needs it; all of it where there is no such object, so that the nearest can be named.
    pub(super) fn inventory_about(&self, kind: Kind, name: &str) -> Result<Inventory, Failure> {
        let system = name.parse().ok().filter(|_| kind == Kind::System);
        let some = self.inventory_of(&system.into_iter().collect())?;
        if some.row(kind, name).is_some() {
            Ok(some)
        } else {
            self.inventory()
        }
    }

    /// Installations and leases as the daemon last stored them. What cannot be read is said once and counts as nothing.
    pub(super) fn installs(&self) -> Arc<Installs> {
        Arc::clone(self.live.get_or_init(|| Arc::new(self.read_live())))
    }

    fn read_live(&self) -> Installs {
        let mut installs = Installs::default();
        let path = self.settings.config.state.join("live.db");
        if !self.has_state().unwrap_or(false) {
            return installs;
        }
        let read = || LiveDb::open_reader(&Folder::open(&self.settings.config.state)?)?.load();
        let rows: LiveRows = match read() {
            Ok(rows) => rows,
            Err(error) => {
                self.printer
                    .note(format!("warning   installations and leases are not known: {error}"));
                return installs;
            }
        };
        for damaged in &rows.damaged {
            self.printer
                .note(format!("warning   {}: {damaged} cannot be read", path.display()));
        }
        for installation in rows.installations {
            installs.put(installation);
        }
        for lease in rows.leases {
            if lease.state == LeaseState::Active && self.now < lease.expires {
                installs.holders.insert(lease.address, lease.mac);
            }
        }
        installs
    }

    /// The world as this process sees it. Its key is none: tokens of this world open nothing.
    pub(super) fn world(&self, inventory: Inventory) -> Result<World, Failure> {
        let config = Arc::new(self.settings.config.clone());
        let assets: Assets = crate::assets::watch::Watcher::new(Arc::clone(&config)).look(&inventory);
        Ok(World {
            assets: Arc::new(assets),
            inventory: Arc::new(inventory),
            installs: self.installs(),
            key: Arc::new(ServerKey::new([0; 32])),
            now: self.now,
            config,
        })
    }

    /// Makes the changes, all or none.
    pub(super) fn apply(&self, changes: Vec<Change>) -> Result<Applied, Failure> {
        let folder = self.folder()?;
        let mut db = InventoryDb::open(&folder)?;
        let light = systems_about(&changes)
            .map(|systems| db.commit_some(&systems, |inventory| edit_all(inventory, changes.clone())));
        let (committed, before) = match light {
            // Who is refused is told the nearest name, which may be any.
            None | Some(Err(StoreError::Refused(_))) => {
                let (before, _) = db.load()?;
                (db.commit(|inventory| edit_all(inventory, changes))?, before)
            }
            Some(done) => done?,
        };
        let served = if link::serves(&self.settings.config.state, committed.version) {
            Served::Live
        } else {
            Served::Stored
        };
        let gone: Vec<Name> = committed
            .rows
            .iter()
            .filter_map(|row| match row {
                RowChange::Remove(Kind::Distro, name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        for distro in gone.iter().filter_map(|name| before.distro(name.as_str())) {
            // A distro that was renamed keeps its tree.
            let moved = committed
                .rows
                .iter()
                .any(|row| matches!(row, RowChange::Put(Row::Distro(new)) if new.tree == distro.tree));
            if !moved && let Err(error) = crate::distro::import::forget(distro, &self.settings.config.state) {
                self.printer.note(format!(
                    "warning   the copied tree of distro {} is left: {error}",
                    distro.name
                ));
            }
        }
        Ok(Applied::new(&before, &committed.rows, served))
    }

    /// What a plan would do.
    pub(super) fn only_planned(&self, rows: Vec<RowChange>) -> Applied {
        let before = self.inventory().unwrap_or_default();
        Applied::new(&before, &rows, Served::Planned)
    }

    /// Makes the changes and prints what happened.
    pub(super) fn change(&self, changes: Vec<Change>) -> Result<Ended, Failure> {
        self.tell(&self.apply(changes)?)
    }

    /// Gives an object another name and prints what happened.
    pub(super) fn rename(&self, kind: Kind, name: Name, new_name: Name) -> Result<Ended, Failure> {
        let change = Change::Rename {
            kind,
            name: name.clone(),
            new_name: new_name.clone(),
        };
        self.tell(&self.apply(vec![change])?.renamed(kind, name, &new_name))
    }

    fn tell(&self, applied: &Applied) -> Result<Ended, Failure> {
        let text = if applied.rows.is_empty() {
            "unchanged\n".to_owned()
        } else {
            applied.text()
        };
        self.printer.either(&applied.json(), &text)?;
        Ok(Ended::Well)
    }

    /// 64 random bits.
    pub(super) fn random(&self) -> Result<u64, Failure> {
        host::random().map_err(|error| Failure::said(format!("the system gives no random numbers: {error}"), ""))
    }

    /// Who is at work, as an arming notes it.
    pub(super) fn who(&self) -> String {
        let own = User::from_uid(getuid())
            .ok()
            .flatten()
            .map_or_else(|| format!("uid {}", getuid()), |user| user.name);
        match host::sudo_user() {
            Some(user) if getuid().is_root() && user != own => format!("{user} (as {own})"),
            _ => own,
        }
    }
}
