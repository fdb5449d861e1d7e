//! Inheritance: settings < signature < distro < profile < sub-profile < system, each value with the layer that it came from.

use super::Inventory;
use crate::model::{Distro, Kind, Name, Profile, System};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// `[defaults]` of the configuration.
    Settings,
    /// The family's signature file.
    Signature(Name),
    /// The distro.
    Distro(Name),
    /// A profile or sub-profile.
    Profile(Name),
    /// The system itself.
    System(Name),
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings => f.write_str("settings"),
            Self::Signature(name) => write!(f, "signature {name}"),
            Self::Distro(name) => write!(f, "distro {name}"),
            Self::Profile(name) => write!(f, "profile {name}"),
            Self::System(name) => write!(f, "system {name}"),
        }
    }
}

/// A value and the layer that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Who set it.
    pub layer: Layer,
}

/// One key of a merged dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// `None` for a bare flag; several for a repeated key.
    pub values: Option<Vec<String>>,
    /// Who set it last.
    pub layer: Layer,
}

/// A key that a child deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The key.
    pub key: String,
    /// Who had set it.
    pub set_by: Layer,
    /// Who removed it.
    pub removed_by: Layer,
}

/// A dictionary after inheritance, in the order that the keys first appear from the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merged {
    /// What is left.
    pub entries: Vec<Entry>,
    /// What was deleted on the way, for `boot explain`.
    pub removed: Vec<Removed>,
}

/// A system (or profile) with everything that it inherits.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The system; none when a profile was resolved for itself.
    pub system: Option<Arc<System>>,
    /// The profiles from the nearest to the one on the distro.
    pub profiles: Vec<Arc<Profile>>,
    /// The distro at the root.
    pub distro: Arc<Distro>,
    /// Path of the answer-file template; none: the signature's.
    pub autoinstall: Option<Sourced<String>>,
    /// Template variables.
    pub autoinstall_meta: Merged,
    /// Kernel command line of the installer, without what the signature adds.
    pub kernel_options: Merged,
    /// Kernel command line of the installed system.
    pub kernel_options_post: Merged,
    /// Resolvers.
    pub name_servers: Option<Sourced<Vec<Ipv4Addr>>>,
    /// Search domains.
    pub name_servers_search: Option<Sourced<Vec<String>>>,
    /// Proxy URL.
    pub proxy: Option<Sourced<String>>,
    /// Loaders.
    pub boot_loaders: Option<Sourced<Vec<String>>>,
    /// In the menu.
    pub enable_menu: bool,
}

/// An object whose ancestors are not all there.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Broken {
    /// No such object.
    #[error("there is no {kind} `{name}`")]
    Unknown {
        /// Its kind.
        kind: Kind,
        /// What was asked for.
        name: String,
    },
    /// The chain comes back to itself.
    #[error("profile `{0}` is its own ancestor; give it another parent")]
    Cycle(Name),
}

/// Resolves the system `name`.
///
/// # Errors
/// [`Broken`] when it, a profile or the distro is missing.
pub fn resolve_system(inventory: &Inventory, name: &str) -> Result<Resolved, Broken> {
    let _ = inventory;
    Err(Broken::Unknown {
        kind: Kind::System,
        name: name.to_owned(),
    })
}

/// Resolves the profile `name` for itself.
///
/// # Errors
/// [`Broken`] when it, a parent or the distro is missing.
pub fn resolve_profile(inventory: &Inventory, name: &str) -> Result<Resolved, Broken> {
    let _ = inventory;
    Err(Broken::Unknown {
        kind: Kind::Profile,
        name: name.to_owned(),
    })
}
