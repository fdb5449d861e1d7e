//! Inheritance: settings < signature < distro < profile < sub-profile < system, each value with the layer that it came from.

use super::Inventory;
use crate::model::{Dict, DictValue, Distro, Image, Inherit, Kind, Name, Parent, Profile, System, VirtWish};
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
    /// The image.
    Image(Name),
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
            Self::Image(name) => write!(f, "image {name}"),
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
    /// The distro at the root; of an image what it says of itself in these words, with its file as the kernel. No such distro is stored.
    pub distro: Arc<Distro>,
    /// The image at the root, in place of profiles and distro. Nothing is rendered for it: it has no answer file.
    pub image: Option<Arc<Image>>,
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
    /// What it gets as a guest.
    pub virt: VirtWish,
}

/// An object whose ancestors are not all there.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Broken {
    /// No such object.
    #[error("there is no {kind} `{name}`; `cordwainer {kind} list` names those there are")]
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
    let system = inventory.system(name).ok_or_else(|| unknown(Kind::System, name))?;
    match system.base() {
        Some((Kind::Image, image)) => {
            let image = inventory
                .image(image.as_str())
                .ok_or_else(|| unknown(Kind::Image, image.as_str()))?;
            Ok(resolve(inventory, Root::of_image(image), Some(system)))
        }
        _ => Ok(resolve(
            inventory,
            Root::of_profile(inventory, system.profile_name())?,
            Some(system),
        )),
    }
}

/// Resolves the image `name` for itself.
///
/// # Errors
/// [`Broken`] when it is missing.
pub fn resolve_image(inventory: &Inventory, name: &str) -> Result<Resolved, Broken> {
    let image = inventory.image(name).ok_or_else(|| unknown(Kind::Image, name))?;
    Ok(resolve(inventory, Root::of_image(image), None))
}

/// Resolves the profile `name` for itself.
///
/// # Errors
/// [`Broken`] when it, a parent or the distro is missing.
pub fn resolve_profile(inventory: &Inventory, name: &str) -> Result<Resolved, Broken> {
    Ok(resolve(inventory, Root::of_profile(inventory, name)?, None))
}

fn unknown(kind: Kind, name: &str) -> Broken {
    Broken::Unknown {
        kind,
        name: name.to_owned(),
    }
}

/// The profiles from `name` down to the one on a distro, and the distro.
fn chain(inventory: &Inventory, name: &str) -> Result<(Vec<Arc<Profile>>, Arc<Distro>), Broken> {
    let mut profiles: Vec<Arc<Profile>> = Vec::new();
    let mut wanted = name.to_owned();
    loop {
        let profile = inventory
            .profile(&wanted)
            .ok_or_else(|| unknown(Kind::Profile, &wanted))?;
        if profiles.iter().any(|seen| seen.name == profile.name) {
            return Err(Broken::Cycle(profile.name.clone()));
        }
        profiles.push(Arc::clone(profile));
        match &profile.parent {
            Parent::Profile(parent) => wanted = parent.to_string(),
            Parent::Distro(distro) => {
                let distro = inventory
                    .distro(distro.as_str())
                    .ok_or_else(|| unknown(Kind::Distro, distro.as_str()))?;
                return Ok((profiles, Arc::clone(distro)));
            }
        }
    }
}

/// What a system stands on, or what is resolved for itself.
struct Root {
    profiles: Vec<Arc<Profile>>,
    distro: Arc<Distro>,
    image: Option<Arc<Image>>,
}

impl Root {
    fn of_profile(inventory: &Inventory, name: &str) -> Result<Self, Broken> {
        let (profiles, distro) = chain(inventory, name)?;
        Ok(Self {
            profiles,
            distro,
            image: None,
        })
    }

    fn of_image(image: &Arc<Image>) -> Self {
        let distro = Distro {
            name: image.name.clone(),
            arch: image.arch,
            breed: image.breed.clone(),
            os_version: image.os_version.clone(),
            kernel: image.file.clone(),
            initrd: Vec::new(),
            tree: None,
            signature: None,
            kernel_options: image.kernel_options.clone(),
            kernel_options_post: Dict::new(),
            autoinstall_meta: Dict::new(),
            boot_loaders: image.boot_loaders.clone(),
            comment: String::new(),
            owners: Vec::new(),
            extra: std::collections::BTreeMap::new(),
        };
        Self {
            profiles: Vec::new(),
            distro: distro.into(),
            image: Some(Arc::clone(image)),
        }
    }

    /// Who says what the root says.
    fn layer(&self) -> Layer {
        match &self.image {
            Some(image) => Layer::Image(image.name.clone()),
            None => Layer::Distro(self.distro.name.clone()),
        }
    }
}

/// The nearest own value, from the system over the profiles to what the root gives.
struct Nearest<'a> {
    system: Option<&'a System>,
    profiles: &'a [Arc<Profile>],
    image: Option<&'a Image>,
}

impl Nearest<'_> {
    fn of<T: Clone>(
        &self,
        of_system: fn(&System) -> &Inherit<T>,
        of_profile: fn(&Profile) -> &Inherit<T>,
    ) -> Option<Sourced<T>> {
        let own = self.system.and_then(|system| {
            Some(Sourced {
                value: of_system(system).own()?.clone(),
                layer: Layer::System(system.name.clone()),
            })
        });
        own.or_else(|| {
            self.profiles.iter().find_map(|profile| {
                Some(Sourced {
                    value: of_profile(profile).own()?.clone(),
                    layer: Layer::Profile(profile.name.clone()),
                })
            })
        })
    }
}

impl Nearest<'_> {
    /// The virt_* fields, each from the nearest that has one. An empty text is one, and means that nothing is wished.
    fn virt(&self) -> VirtWish {
        let text = |field: fn(&crate::model::Virt) -> &Inherit<String>| {
            self.virt_field(field).filter(|found| !found.is_empty())
        };
        VirtWish {
            kind: text(|virt| &virt.kind),
            ram: self.virt_field(|virt| &virt.ram),
            cpus: self.virt_field(|virt| &virt.cpus),
            file_size: self
                .virt_field(|virt| &virt.file_size)
                .filter(|found: &Vec<u32>| !found.is_empty()),
            disk_driver: text(|virt| &virt.disk_driver),
            path: text(|virt| &virt.path),
            bridge: text(|virt| &virt.bridge),
            auto_boot: self.virt_field(|virt| &virt.auto_boot),
            pxe_boot: self.virt_field(|virt| &virt.pxe_boot),
        }
    }

    fn virt_field<T: Clone>(&self, field: fn(&crate::model::Virt) -> &Inherit<T>) -> Option<T> {
        let of_system = self.system.iter().map(|system| &system.virt);
        let of_profiles = self.profiles.iter().map(|profile| &profile.virt);
        let of_image = self.image.iter().map(|image| &image.virt);
        let all = of_system.chain(of_profiles).chain(of_image);
        let mut all = all.filter(|virt| !virt.is_empty());
        all.find_map(|virt| field(virt).own()).cloned()
    }
}

/// What the root gives when it gives anything.
fn rooted<T>(value: T, layer: Layer, is_empty: bool) -> Option<Sourced<T>> {
    (!is_empty).then_some(Sourced { value, layer })
}

fn resolve(inventory: &Inventory, root: Root, system: Option<&Arc<System>>) -> Resolved {
    let root_layer = root.layer();
    let Root {
        profiles,
        distro,
        image,
    } = root;
    let defaults = &inventory.defaults;
    let nearest = Nearest {
        system: system.map(|system| &**system),
        profiles: &profiles,
        image: image.as_deref(),
    };
    // Lays one dictionary of every layer over the next, from the root.
    let merged =
        |settings: &Dict, of_distro: &Dict, of_profile: fn(&Profile) -> &Dict, of_system: fn(&System) -> &Dict| {
            let mut merged = Merged::default();
            merged.overlay(settings, &Layer::Settings);
            merged.overlay(of_distro, &root_layer);
            for profile in profiles.iter().rev() {
                merged.overlay(of_profile(profile), &Layer::Profile(profile.name.clone()));
            }
            if let Some(system) = system {
                merged.overlay(of_system(system), &Layer::System(system.name.clone()));
            }
            merged
        };
    let none = Dict::new();
    Resolved {
        autoinstall: nearest
            .of(|system| &system.autoinstall, |profile| &profile.autoinstall)
            .filter(|found| !found.value.is_empty() && image.is_none()),
        autoinstall_meta: merged(
            &defaults.autoinstall_meta,
            &distro.autoinstall_meta,
            |profile| &profile.autoinstall_meta,
            |system| &system.autoinstall_meta,
        ),
        kernel_options: merged(
            &defaults.kernel_options,
            &distro.kernel_options,
            |profile| &profile.kernel_options,
            |system| &system.kernel_options,
        ),
        kernel_options_post: merged(
            &none,
            &distro.kernel_options_post,
            |profile| &profile.kernel_options_post,
            |system| &system.kernel_options_post,
        ),
        name_servers: nearest
            .of(|system| &system.name_servers, |profile| &profile.name_servers)
            .or_else(|| {
                let given = &defaults.name_servers;
                rooted(given.clone(), Layer::Settings, given.is_empty())
            }),
        name_servers_search: nearest
            .of(
                |system| &system.name_servers_search,
                |profile| &profile.name_servers_search,
            )
            .or_else(|| {
                let given = &defaults.name_servers_search;
                rooted(given.clone(), Layer::Settings, given.is_empty())
            }),
        proxy: nearest
            .of(|system| &system.proxy, |profile| &profile.proxy)
            .or_else(|| rooted(defaults.proxy.clone()?, Layer::Settings, false))
            // An empty one is a wish too: no proxy, whatever an ancestor says.
            .filter(|found| !found.value.is_empty()),
        boot_loaders: nearest
            .of(|system| &system.boot_loaders, |profile| &profile.boot_loaders)
            .or_else(|| {
                let given = &distro.boot_loaders;
                rooted(given.clone(), root_layer.clone(), given.is_empty())
            })
            .filter(|found| !found.value.is_empty()),
        enable_menu: profiles
            .iter()
            .find_map(|profile| profile.enable_menu.own().copied())
            .unwrap_or(true),
        virt: nearest.virt(),
        system: system.cloned(),
        profiles,
        distro,
        image,
    }
}

impl Merged {
    /// Lays a layer's keys over what is there: the later layer wins, `!key` deletes.
    fn overlay(&mut self, dict: &Dict, layer: &Layer) {
        for (key, value) in dict.iter() {
            let old = self.entries.iter().position(|entry| entry.key == key);
            let values = match value {
                DictValue::Deleted => {
                    if let Some(old) = old {
                        let gone = self.entries.remove(old);
                        self.removed.push(Removed {
                            key: gone.key,
                            set_by: gone.layer,
                            removed_by: layer.clone(),
                        });
                    }
                    continue;
                }
                DictValue::Flag => None,
                DictValue::Values(values) => Some(values.clone()),
            };
            let entry = Entry {
                key: key.to_owned(),
                values,
                layer: layer.clone(),
            };
            self.removed.retain(|removed| removed.key != key);
            match old.and_then(|old| self.entries.get_mut(old)) {
                Some(old) => *old = entry,
                None => self.entries.push(entry),
            }
        }
    }

    /// The last value of `key`, when it has one.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        entry.values.as_ref()?.last().map(String::as_str)
    }
}

/// As it would be written on a command line.
impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut dict = Dict::new();
        for entry in &self.entries {
            let value = entry.values.clone().map_or(DictValue::Flag, DictValue::Values);
            dict.set(&entry.key, value);
        }
        dict.fmt(f)
    }
}

impl Resolved {
    /// The layer that wants the kernel option `key` gone, when the last word on it is `!key`: what a signature adds is added after
    /// all layers spoke, so it must ask.
    #[must_use]
    pub fn kernel_option_deleted_by(&self, key: &str) -> Option<Layer> {
        let of_system = self
            .system
            .iter()
            .map(|system| (&system.kernel_options, Layer::System(system.name.clone())));
        let of_profiles = self
            .profiles
            .iter()
            .map(|profile| (&profile.kernel_options, Layer::Profile(profile.name.clone())));
        let of_distro = (&self.distro.kernel_options, Layer::Distro(self.distro.name.clone()));
        of_system
            .chain(of_profiles)
            .chain([of_distro])
            .find_map(|(dict, layer)| Some((dict.get(key)?, layer)))
            .and_then(|(value, layer)| (*value == DictValue::Deleted).then_some(layer))
    }
}

#[cfg(test)]
mod tests;
