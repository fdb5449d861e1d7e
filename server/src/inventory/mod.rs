//! The immutable snapshot of objects and armings, its lookups, inheritance, and `edit`, the only place where a change is defined.
//!
//! Pure. Readers hold an `Arc<Inventory>`; a change makes a new one that shares all it did not touch.

mod about;
mod check;
pub mod cobbler;
pub mod document;
mod edit;
mod extra;
mod fields;
mod flatten;
mod links;
pub mod network;
mod plan;
mod repos;
mod resolve;
mod value;

pub use about::systems_about;
pub use check::{Claim, claims, nearest};
pub use edit::{Assignment, Change, Refused, RowChange, edit, edit_all};
pub use extra::{ExtraDoc, Form, extra, extra_docs, is_anonymous, resolved_extra};
pub use fields::{FieldDoc, FieldValue, Shape, field, field_docs, field_values};
pub use flatten::flatten;
pub use plan::try_fields;
pub use repos::{Source, has_login, repo_problems, sources, sources_of};
pub use resolve::{
    Broken, Entry, Layer, Merged, Removed, Resolved, Sourced, resolve_image, resolve_profile, resolve_system,
};
pub use value::Shown;

use crate::model::{
    Arm, Defaults, Distro, Hostname, Image, Interface, Kind, Mac, Menu, Name, Octets, Profile, RelayPort, Repo, System,
    Timestamp,
};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// When an object was made and last changed, as the store noted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dates {
    /// When it was made; zero for what is older than these notes.
    pub made: Timestamp,
    /// When it was last written.
    pub changed: Timestamp,
}

/// Every object at one moment. Cloning is cheap; 100,000 systems share their rows between snapshots.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The root of every inheritance chain.
    pub defaults: Arc<Defaults>,
    distros: imbl::OrdMap<Name, Arc<Distro>>,
    profiles: imbl::OrdMap<Name, Arc<Profile>>,
    systems: imbl::OrdMap<Name, Arc<System>>,
    repos: imbl::OrdMap<Name, Arc<Repo>>,
    menus: imbl::OrdMap<Name, Arc<Menu>>,
    images: imbl::OrdMap<Name, Arc<Image>>,
    arms: imbl::OrdMap<Name, Arc<Arm>>,
    dates: imbl::OrdMap<(Kind, Name), Dates>,
    by_mac: imbl::OrdMap<Mac, Name>,
    by_address: imbl::OrdMap<Ipv4Addr, Name>,
    by_hostname: imbl::OrdMap<Hostname, Name>,
    by_client_id: imbl::OrdMap<Octets, Name>,
    by_relay_port: imbl::OrdMap<RelayPort, Name>,
}

impl Inventory {
    /// An empty inventory under `defaults`.
    #[must_use]
    pub fn new(defaults: Arc<Defaults>) -> Self {
        Self {
            defaults,
            ..Self::default()
        }
    }

    /// The distro `name`.
    #[must_use]
    pub fn distro(&self, name: &str) -> Option<&Arc<Distro>> {
        self.distros.get(name)
    }

    /// The profile `name`.
    #[must_use]
    pub fn profile(&self, name: &str) -> Option<&Arc<Profile>> {
        self.profiles.get(name)
    }

    /// The system `name`.
    #[must_use]
    pub fn system(&self, name: &str) -> Option<&Arc<System>> {
        self.systems.get(name)
    }

    /// The package repository `name`.
    #[must_use]
    pub fn repo(&self, name: &str) -> Option<&Arc<Repo>> {
        self.repos.get(name)
    }

    /// The menu `name`.
    #[must_use]
    pub fn menu(&self, name: &str) -> Option<&Arc<Menu>> {
        self.menus.get(name)
    }

    /// The image `name`.
    #[must_use]
    pub fn image(&self, name: &str) -> Option<&Arc<Image>> {
        self.images.get(name)
    }

    /// The arming of the system `name`, lapsed or not.
    #[must_use]
    pub fn arm(&self, name: &str) -> Option<&Arc<Arm>> {
        self.arms.get(name)
    }

    /// The system that owns `mac`.
    #[must_use]
    pub fn system_by_mac(&self, mac: Mac) -> Option<&Arc<System>> {
        self.by_mac.get(&mac).and_then(|name| self.systems.get(name))
    }

    /// The system that has `address` in its record.
    #[must_use]
    pub fn system_by_address(&self, address: Ipv4Addr) -> Option<&Arc<System>> {
        self.by_address.get(&address).and_then(|name| self.systems.get(name))
    }

    /// The system whose host name, or an interface's DNS name, this is.
    #[must_use]
    pub fn system_by_hostname(&self, hostname: &Hostname) -> Option<&Arc<System>> {
        self.by_hostname.get(hostname).and_then(|name| self.systems.get(name))
    }

    /// The interface whose machine calls itself so in option 61, with its system.
    #[must_use]
    pub fn interface_by_client_id(&self, id: &Octets) -> Option<(&Arc<System>, &Name)> {
        let system = self.by_client_id.get(id).and_then(|name| self.systems.get(name))?;
        named(system, |interface| interface.client_id.as_ref() == Some(id))
    }

    /// The interface that is recorded at exactly this port, with its system.
    #[must_use]
    pub fn interface_by_relay_port(&self, port: &RelayPort) -> Option<(&Arc<System>, &Name)> {
        let system = self.by_relay_port.get(port).and_then(|name| self.systems.get(name))?;
        named(system, |interface| interface.relay_port().as_ref() == Some(port))
    }

    /// When the object was made and last changed; none where that was not read.
    #[must_use]
    pub fn dates(&self, kind: Kind, name: &Name) -> Option<Dates> {
        self.dates.get(&(kind, name.clone())).copied()
    }

    /// Notes when an object was made and last changed.
    pub fn date(&mut self, kind: Kind, name: Name, dates: Dates) {
        self.dates.insert((kind, name), dates);
    }

    /// All distros by name.
    pub fn distros(&self) -> impl Iterator<Item = &Arc<Distro>> {
        self.distros.values()
    }

    /// All profiles by name.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.values()
    }

    /// All systems by name.
    pub fn systems(&self) -> impl Iterator<Item = &Arc<System>> {
        self.systems.values()
    }

    /// All package repositories by name.
    pub fn repos(&self) -> impl Iterator<Item = &Arc<Repo>> {
        self.repos.values()
    }

    /// All menus by name.
    pub fn menus(&self) -> impl Iterator<Item = &Arc<Menu>> {
        self.menus.values()
    }

    /// All images by name.
    pub fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.images.values()
    }

    /// All armings by system.
    pub fn arms(&self) -> impl Iterator<Item = &Arc<Arm>> {
        self.arms.values()
    }

    /// How many systems there are.
    #[must_use]
    pub fn system_count(&self) -> usize {
        self.systems.len()
    }

    /// Takes in one row as the store read it, replacing the row of that name. Indexes follow.
    pub fn put(&mut self, row: Row) {
        match row {
            Row::Distro(distro) => {
                self.distros.insert(distro.name.clone(), distro);
            }
            Row::Profile(profile) => {
                self.profiles.insert(profile.name.clone(), profile);
            }
            Row::System(system) => {
                self.unindex(&system.name);
                for claim in claims(&system) {
                    match claim {
                        Claim::Mac(mac) => self.by_mac.insert(mac, system.name.clone()),
                        Claim::Address(address) => self.by_address.insert(address, system.name.clone()),
                        Claim::Hostname(host) => self.by_hostname.insert(host, system.name.clone()),
                        Claim::ClientId(id) => self.by_client_id.insert(id, system.name.clone()),
                        Claim::RelayPort(port) => self.by_relay_port.insert(port, system.name.clone()),
                    };
                }
                self.systems.insert(system.name.clone(), system);
            }
            Row::Repo(repo) => {
                self.repos.insert(repo.name.clone(), repo);
            }
            Row::Menu(menu) => {
                self.menus.insert(menu.name.clone(), menu);
            }
            Row::Image(image) => {
                self.images.insert(image.name.clone(), image);
            }
            Row::Arm(arm) => {
                self.arms.insert(arm.system.clone(), arm);
            }
        }
    }

    /// Takes out the object of that kind and name.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        if let Some(name) = self.row(kind, name).map(|row| row.name().clone()) {
            self.dates.remove(&(kind, name));
        }
        match kind {
            Kind::Distro => {
                self.distros.remove(name);
            }
            Kind::Profile => {
                self.profiles.remove(name);
            }
            Kind::System => {
                if let Some(system) = self.systems.get(name).cloned() {
                    self.unindex(&system.name);
                    self.systems.remove(name);
                }
                self.arms.remove(name);
            }
            Kind::Repo => {
                self.repos.remove(name);
            }
            Kind::Menu => {
                self.menus.remove(name);
            }
            Kind::Image => {
                self.images.remove(name);
            }
        }
    }

    /// Takes out the arming of the system `name`.
    pub fn disarm(&mut self, name: &str) {
        self.arms.remove(name);
    }

    /// Takes in what [`edit()`] or a poll of the store gave.
    pub fn apply(&mut self, change: RowChange) {
        match change {
            RowChange::Put(row) => self.put(row),
            RowChange::Remove(kind, name) => self.remove(kind, name.as_str()),
            RowChange::Disarm(name) => self.disarm(name.as_str()),
        }
    }

    /// The object of that kind and name.
    #[must_use]
    pub fn row(&self, kind: Kind, name: &str) -> Option<Row> {
        match kind {
            Kind::Distro => self.distro(name).cloned().map(Row::Distro),
            Kind::Profile => self.profile(name).cloned().map(Row::Profile),
            Kind::System => self.system(name).cloned().map(Row::System),
            Kind::Repo => self.repo(name).cloned().map(Row::Repo),
            Kind::Menu => self.menu(name).cloned().map(Row::Menu),
            Kind::Image => self.image(name).cloned().map(Row::Image),
        }
    }

    /// The names of all objects of a kind, in order.
    pub fn names(&self, kind: Kind) -> Box<dyn Iterator<Item = &Name> + '_> {
        match kind {
            Kind::Distro => Box::new(self.distros.keys()),
            Kind::Profile => Box::new(self.profiles.keys()),
            Kind::System => Box::new(self.systems.keys()),
            Kind::Repo => Box::new(self.repos.keys()),
            Kind::Menu => Box::new(self.menus.keys()),
            Kind::Image => Box::new(self.images.keys()),
        }
    }

    /// Takes the system's entries out of the indexes. What another system has taken over meanwhile stays with it: rows of one
    /// commit arrive in any order.
    fn unindex(&mut self, name: &Name) {
        let Some(old) = self.systems.get(name).cloned() else {
            return;
        };
        for claim in claims(&old) {
            match claim {
                Claim::Mac(mac) if self.by_mac.get(&mac) == Some(name) => {
                    self.by_mac.remove(&mac);
                }
                Claim::Address(address) if self.by_address.get(&address) == Some(name) => {
                    self.by_address.remove(&address);
                }
                Claim::Hostname(host) if self.by_hostname.get(&host) == Some(name) => {
                    self.by_hostname.remove(&host);
                }
                Claim::ClientId(id) if self.by_client_id.get(&id) == Some(name) => {
                    self.by_client_id.remove(&id);
                }
                Claim::RelayPort(port) if self.by_relay_port.get(&port) == Some(name) => {
                    self.by_relay_port.remove(&port);
                }
                Claim::Mac(_) | Claim::Address(_) | Claim::Hostname(_) | Claim::ClientId(_) | Claim::RelayPort(_) => {}
            }
        }
    }
}

/// The interface of `system` that `is` says, with the system.
fn named(system: &Arc<System>, is: impl Fn(&Interface) -> bool) -> Option<(&Arc<System>, &Name)> {
    let found = system.interfaces.iter().find(|(_, interface)| is(interface));
    found.map(|(name, _)| (system, name))
}

impl Row {
    /// The object's kind; none for an arming.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        match self {
            Self::Distro(_) => Some(Kind::Distro),
            Self::Profile(_) => Some(Kind::Profile),
            Self::System(_) => Some(Kind::System),
            Self::Repo(_) => Some(Kind::Repo),
            Self::Menu(_) => Some(Kind::Menu),
            Self::Image(_) => Some(Kind::Image),
            Self::Arm(_) => None,
        }
    }

    /// The object's name, or the name of the system that is armed.
    #[must_use]
    pub fn name(&self) -> &Name {
        match self {
            Self::Distro(distro) => &distro.name,
            Self::Profile(profile) => &profile.name,
            Self::System(system) => &system.name,
            Self::Repo(repo) => &repo.name,
            Self::Menu(menu) => &menu.name,
            Self::Image(image) => &image.name,
            Self::Arm(arm) => &arm.system,
        }
    }
}

/// One row of inventory.db.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A distro.
    Distro(Arc<Distro>),
    /// A profile.
    Profile(Arc<Profile>),
    /// A system.
    System(Arc<System>),
    /// A package repository.
    Repo(Arc<Repo>),
    /// A menu.
    Menu(Arc<Menu>),
    /// An image.
    Image(Arc<Image>),
    /// An arming.
    Arm(Arc<Arm>),
}
