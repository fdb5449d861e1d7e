//! An object with nothing inherited any more, as `get_system(name, flatten, resolved)` gives it when `resolved` is asked for.
//!
//! Pure. Goes by what each object says itself: dictionaries are laid over each other key by key, of everything else the nearest counts.

use super::item;
use super::value::Value;
use crate::inventory::{Inventory, Row};
use crate::model::{Inherit, Parent};
use std::collections::BTreeMap;

type Fields = BTreeMap<String, Value>;

const INHERIT: &str = Inherit::<()>::MARK;

fn inherits(value: &Value) -> bool {
    value.text() == Some(INHERIT)
}

/// The objects above this one, nearest first.
fn above(inventory: &Inventory, row: &Row) -> Vec<Fields> {
    let (mut profile, mut distro) = match row {
        Row::System(system) => (inventory.profile(system.profile_name()).cloned(), None),
        Row::Profile(profile) => match &profile.parent {
            Parent::Profile(name) => (inventory.profile(name.as_str()).cloned(), None),
            Parent::Distro(name) => (None, inventory.distro(name.as_str()).cloned()),
        },
        Row::Distro(_) | Row::Repo(_) | Row::Menu(_) | Row::Image(_) | Row::Arm(_) => (None, None),
    };
    let mut all = Vec::new();
    if let Row::System(system) = row {
        let image = inventory.image(system.image_name()).cloned();
        all.extend(image.map(|image| item::whole(inventory, &Row::Image(image), false)));
    }
    // A circle cannot be stored; 64 ends one all the same.
    while let Some(one) = profile.filter(|_| all.len() < 64) {
        (profile, distro) = match &one.parent {
            Parent::Profile(name) => (inventory.profile(name.as_str()).cloned(), None),
            Parent::Distro(name) => (None, inventory.distro(name.as_str()).cloned()),
        };
        all.push(item::whole(inventory, &Row::Profile(one), false));
    }
    all.extend(distro.map(|distro| item::whole(inventory, &Row::Distro(distro), false)));
    all
}

/// What counts where nobody says anything; with the server's own address.
fn otherwise(name: &str, server: &str) -> Value {
    match name {
        "server" | "next_server_v4" => server.into(),
        "next_server_v6" => "::1".into(),
        "enable_menu" => Value::Bool(true),
        "enable_ipxe" | "virt_auto_boot" | "virt_pxe_boot" => Value::Bool(false),
        "boot_loaders" => ["grub", "pxe", "ipxe"].into_iter().collect(),
        "owners" | "mgmt_classes" => Value::Array(Vec::new()),
        "kernel_options"
        | "kernel_options_post"
        | "autoinstall_meta"
        | "ks_meta"
        | "boot_files"
        | "fetchable_files"
        | "template_files"
        | "mgmt_parameters" => Value::Struct(BTreeMap::new()),
        "virt_type" => "kvm".into(),
        "virt_disk_driver" => "raw".into(),
        "virt_bridge" => "virbr0".into(),
        "virt_cpus" => Value::Int(1),
        "virt_ram" => Value::Int(2048),
        "virt_file_size" => Value::Double(10.0),
        _ => "".into(),
    }
}

/// Takes what `fields` of `row` inherit from the objects above it.
pub(super) fn resolve(inventory: &Inventory, row: &Row, server: &str, fields: &mut Fields) {
    let layers = above(inventory, row);
    for (name, value) in fields.iter_mut() {
        let of_layers = layers.iter().filter_map(|layer| layer.get(name));
        let is_dict = matches!(otherwise(name, server), Value::Struct(_));
        if is_dict && (inherits(value) || value.members().is_some()) {
            let own = std::iter::once(&*value);
            let mut all: Vec<&BTreeMap<String, Value>> = own.chain(of_layers).filter_map(Value::members).collect();
            all.reverse();
            *value = Value::Struct(overlay(&all));
        } else if inherits(value) {
            let mut said = of_layers.filter(|value| !inherits(value));
            *value = said.next().cloned().unwrap_or_else(|| otherwise(name, server));
        }
    }
}

/// Lays dictionaries over each other, the lowest first; `!key` takes a key out.
fn overlay(layers: &[&BTreeMap<String, Value>]) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for layer in layers {
        for (key, value) in *layer {
            match key.strip_prefix('!') {
                Some(key) => {
                    all.remove(key);
                }
                None => {
                    all.insert(key.clone(), value.clone());
                }
            }
        }
    }
    all
}
