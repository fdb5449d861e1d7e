//! The variables of an object as Cobbler's `dumpvars` names them, flat and in order. Pure. Never holds a secret: `[defaults]` keeps its
//! own, and nothing here looks there.

use super::{Merged, Resolved, Sourced};
use crate::model::Name;

/// Joins the items of a list with blanks.
fn joined<T: ToString>(found: Option<&Sourced<Vec<T>>>) -> String {
    found.map_or_else(String::new, |found| {
        found.value.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
    })
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(String::new, T::to_string)
}

/// The flattened variables: objects' own fields, what is inherited, one group per interface (`mac_address_eth0`), then every key of
/// `autoinstall_meta` under its own name, as templates see it. A key never hides a field.
#[must_use]
pub fn flatten(resolved: &Resolved) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| all.push((name.to_owned(), value));
    let distro = &resolved.distro;
    let nearest = resolved.profiles.first();
    if let Some(system) = &resolved.system {
        put("system_name", system.name.to_string());
        put("hostname", text(system.hostname.as_ref()));
        put("gateway", text(system.gateway.as_ref()));
        put("status", system.status.clone());
    }
    if resolved.image.is_none() {
        put("profile_name", text(nearest.map(|profile| &profile.name)));
    }
    let parents: Vec<&str> = resolved
        .profiles
        .iter()
        .skip(1)
        .map(|profile| profile.name.as_str())
        .collect();
    if resolved.image.is_none() {
        put("parent_profiles", parents.join(" "));
    }
    match &resolved.image {
        None => put("distro_name", distro.name.to_string()),
        Some(image) => {
            put("image_name", image.name.to_string());
            put("image_type", image.image_type.to_string());
            put("file", image.file.clone());
        }
    }
    put("arch", distro.arch.to_string());
    put("breed", distro.breed.clone());
    put("os_version", distro.os_version.clone());
    if resolved.image.is_none() {
        put("kernel", distro.kernel.clone());
        put("initrd", distro.initrd.join(" "));
        put("signature", text(distro.signature.as_ref()));
    }
    put(
        "autoinstall",
        text(resolved.autoinstall.as_ref().map(|found| &found.value)),
    );
    put("autoinstall_meta", resolved.autoinstall_meta.to_string());
    put("kernel_options", resolved.kernel_options.to_string());
    put("kernel_options_post", resolved.kernel_options_post.to_string());
    put("name_servers", joined(resolved.name_servers.as_ref()));
    put("name_servers_search", joined(resolved.name_servers_search.as_ref()));
    put("proxy", text(resolved.proxy.as_ref().map(|found| &found.value)));
    put("boot_loaders", joined(resolved.boot_loaders.as_ref()));
    put("enable_menu", resolved.enable_menu.to_string());
    let virt = &resolved.virt;
    put("virt_type", text(virt.kind.as_ref()));
    put("virt_ram", text(virt.ram.as_ref()));
    put("virt_cpus", text(virt.cpus.as_ref()));
    let sizes = virt.file_size.iter().flatten().map(u32::to_string);
    put("virt_file_size", sizes.collect::<Vec<_>>().join(","));
    put("virt_disk_driver", text(virt.disk_driver.as_ref()));
    put("virt_path", text(virt.path.as_ref()));
    put("virt_bridge", text(virt.bridge.as_ref()));
    put("virt_auto_boot", text(virt.auto_boot.as_ref()));
    put("virt_pxe_boot", text(virt.pxe_boot.as_ref()));
    if let Some(system) = &resolved.system {
        for (name, interface) in &system.interfaces {
            let mut of = |field: &str, value: String| put(&interface_variable(field, name), value);
            of("mac_address", text(interface.mac_address.as_ref()));
            of("ip_address", text(interface.ip_address.as_ref()));
            of("netmask", text(interface.netmask.as_ref()));
            of("if_gateway", text(interface.if_gateway.as_ref()));
            of("static", interface.is_static.to_string());
            of("dns_name", text(interface.dns_name.as_ref()));
            of("virt_bridge", text(interface.virt_bridge.as_ref()));
            of("client_id", text(interface.client_id.as_ref()));
            of("relay_circuit_id", text(interface.relay_circuit_id.as_ref()));
            of("relay_remote_id", text(interface.relay_remote_id.as_ref()));
            of("interface_type", interface.kind().to_string());
            of("interface_master", text(interface.interface_master.as_ref()));
            of("bonding_opts", text(interface.bonding_opts.as_ref()));
            of("bridge_opts", text(interface.bridge_opts.as_ref()));
            let routes: Vec<String> = interface.static_routes.iter().map(ToString::to_string).collect();
            of("static_routes", routes.join(" "));
            of("mtu", text(interface.mtu.as_ref()));
            of("management", interface.management.to_string());
        }
    }
    let fields: std::collections::BTreeSet<String> = all.iter().map(|(name, _)| name.clone()).collect();
    all.extend(variables(&resolved.autoinstall_meta).filter(|(name, _)| !fields.contains(name)));
    all
}

fn interface_variable(field: &str, interface: &Name) -> String {
    format!("{field}_{interface}")
}

fn variables(merged: &Merged) -> impl Iterator<Item = (String, String)> {
    merged.entries.iter().map(|entry| {
        let value = entry
            .values
            .as_ref()
            .map_or_else(String::new, |values| values.join(" "));
        (entry.key.clone(), value)
    })
}
