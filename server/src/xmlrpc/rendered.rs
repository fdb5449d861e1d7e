//! What koan reads of a profile or system: exactly the fields that koan 3.0.1 looks at, in the form that it needs them in, and nothing
//! that anyone may not see. Where an answer file may be had, its URL is among them.
//!
//! Pure. koan's own ways are behind each form here: a text where a struct would be nearer, nothing instead of an empty text.

use super::fault::Fault;
use super::item::{What, public};
use super::methods::{Asked, nothing};
use super::value::{Value, members};
use crate::boot::{KoanStart, koan_start, paths, recognise};
use crate::inventory::{Entry, Resolved, resolve_image, resolve_profile, resolve_system};
use crate::model::{Distro, Image, Kind};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Memory of a guest in MB where nothing says more.
const RAM: i64 = 2048;
/// Disk of a guest in GB where nothing says more.
const DISK: &str = "10";

pub(super) fn rendered(asked: &Asked<'_>) -> Result<Value, Fault> {
    let (what, at) = asked.what()?;
    let name = asked.text(at)?;
    let inventory = &asked.world.inventory;
    // What is not there is an empty struct: koan says so, and a fault would show it a traceback.
    let fields = match what {
        What::Kind(Kind::System) => resolve_system(inventory, name).ok().map(|found| system(asked, &found)),
        What::Kind(Kind::Profile) => resolve_profile(inventory, name)
            .ok()
            .map(|found| profile(asked, &found)),
        What::Kind(Kind::Distro) => inventory.distro(name).map(|found| of_distro(asked, found)),
        What::Kind(Kind::Image) => resolve_image(inventory, name).ok().map(|found| image(asked, &found)),
        What::Kind(kind @ (Kind::Repo | Kind::Menu)) => inventory.row(kind, name).map(|row| public(&row)),
        What::Other => None,
    };
    Ok(fields.map_or_else(nothing, Value::Struct))
}

pub(super) fn by_dns_name(asked: &Asked<'_>) -> Result<Value, Fault> {
    let wanted = asked.text(0)?.parse().ok();
    let found = wanted.and_then(|host| asked.world.inventory.system_by_hostname(&host));
    let resolved = found.and_then(|found| resolve_system(&asked.world.inventory, found.name.as_str()).ok());
    Ok(resolved.map_or_else(nothing, |resolved| Value::Struct(system(asked, &resolved))))
}

/// `koan --update-config`: there is no configuration management here, and koan reads that as nothing to do.
pub(super) fn config_data(_: &Asked<'_>) -> Result<Value, Fault> {
    Ok(r#"{"repos_enabled": false, "repo_data": [], "packages": {}, "files": {}}"#.into())
}

type Fields = BTreeMap<String, Value>;

fn put(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    fields.insert(name.to_owned(), value.into());
}

/// `http://ADDRESS[:PORT]` as the caller reaches us.
fn base(asked: &Asked<'_>) -> String {
    let config = &asked.world.config;
    paths::base_url(config.address.unwrap_or(asked.caller.local), config.http_port)
}

/// koan splits at blanks and knows no quotes, so an option whose value has either cannot be said to it.
fn line(options: &[Entry]) -> String {
    let plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    let words = options.iter().flat_map(|entry| match &entry.values {
        None => vec![entry.key.clone()],
        Some(values) => values.iter().map(|value| format!("{}={value}", entry.key)).collect(),
    });
    words.filter(|word| plain(word)).collect::<Vec<_>>().join(" ")
}

/// The keys that koan sets itself from the answer file's URL.
fn koans_own(breed: &str) -> &'static [&'static str] {
    match breed {
        "suse" => &["autoyast"],
        "debian" | "ubuntu" => &["auto-install/enable", "auto", "priority", "url", "preseed/url"],
        _ => &["ks"],
    }
}

/// The version as virt-install's database names it. What an old database may not know is left out: koan would put in a name that
/// virt-install refuses.
fn os_version(distro: &Distro) -> String {
    let version = distro.os_version.as_str();
    let major: String = version
        .trim_start_matches(|c: char| c.is_ascii_alphabetic())
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    match distro.breed.as_str() {
        "redhat" if !major.is_empty() && version.starts_with("fedora") => format!("fedora{major}"),
        "redhat" if !major.is_empty() => format!("rhel{major}"),
        _ => String::new(),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Where the installer's files are, for koan and virt-install: of Debian what looks like a mirror, for virt-install knows no other.
fn tree(base: &str, resolved: Option<&Resolved>, distro: &Distro) -> String {
    if distro.breed == "debian" {
        let suite = resolved.and_then(|resolved| resolved.autoinstall_meta.text("suite"));
        let codename = suite.unwrap_or_else(|| match distro.os_version.split('.').next().unwrap_or("") {
            "10" => "buster",
            "11" => "bullseye",
            "12" => "bookworm",
            "13" => "trixie",
            _ => "stable",
        });
        return format!(
            "{base}/{}",
            paths::debian_tree(&distro.name, codename, distro.arch.debian())
        );
    }
    format!("{base}/{}", paths::tree(&distro.name, ""))
}

fn of_distro(asked: &Asked<'_>, distro: &Distro) -> Fields {
    let mut fields = Fields::new();
    let base = base(asked);
    put(&mut fields, "name", distro.name.as_str());
    start_files(&mut fields, &base, None, distro);
    fields
}

fn start_files(fields: &mut Fields, base: &str, resolved: Option<&Resolved>, distro: &Distro) {
    let image = |path: &str| format!("/{}", paths::image(&distro.name, file_name(path)));
    put(fields, "distro", distro.name.as_str());
    put(fields, "breed", distro.breed.as_str());
    put(fields, "arch", distro.arch.to_string());
    put(fields, "os_version", os_version(distro));
    put(fields, "kernel", image(&distro.kernel));
    put(
        fields,
        "initrd",
        distro.initrd.first().map(|path| image(path)).unwrap_or_default(),
    );
    put(fields, "http_server", base.trim_start_matches("http://"));
    let named = resolved.and_then(|resolved| resolved.autoinstall_meta.text("tree"));
    let tree = match named {
        Some(url) if url.contains("://") => url.to_owned(),
        _ => tree(base, resolved, distro),
    };
    put(fields, "ks_meta", format!("tree={tree}"));
    put(
        fields,
        "autoinstall_meta",
        members([("tree", Value::Text(tree.clone()))]),
    );
    put(fields, "install_tree", tree);
}

fn image(asked: &Asked<'_>, resolved: &Resolved) -> Fields {
    let mut fields = Fields::new();
    put(&mut fields, "name", resolved.distro.name.as_str());
    launch(asked, &mut fields, resolved);
    fields
}

/// What koan needs of an image: its path, which a hypervisor sees under the same name. `network_count` is left out, for koan ties the cards
/// that it counts by it to a bridge called None; so are kernel and initrd, which an image does not have.
fn image_file(fields: &mut Fields, base: &str, image: &Image, distro: &Distro) {
    put(fields, "image", image.name.as_str());
    put(fields, "image_type", image.image_type.to_string());
    put(fields, "file", image.file.as_str());
    put(fields, "breed", image.breed.as_str());
    put(fields, "arch", image.arch.to_string());
    put(fields, "os_version", os_version(distro));
    put(fields, "http_server", base.trim_start_matches("http://"));
}

fn start(asked: &Asked<'_>, resolved: &Resolved) -> KoanStart {
    let caller = asked.caller;
    let mut facts = recognise(asked.world, None, caller.peer, caller.local, caller.neighbour);
    facts.neighbour = caller.neighbour;
    koan_start(asked.world, &facts, resolved)
}

fn profile(asked: &Asked<'_>, resolved: &Resolved) -> Fields {
    let mut fields = Fields::new();
    let name = resolved.profiles.first().map_or("", |profile| profile.name.as_str());
    put(&mut fields, "name", name);
    put(&mut fields, "profile", name);
    launch(asked, &mut fields, resolved);
    fields
}

/// What a start of the installer needs, and the virtual machine that koan may make for it.
fn launch(asked: &Asked<'_>, fields: &mut Fields, resolved: &Resolved) -> KoanStart {
    let distro = &resolved.distro;
    match &resolved.image {
        Some(image) => image_file(fields, &base(asked), image, distro),
        None => start_files(fields, &base(asked), Some(resolved), distro),
    }
    let start = start(asked, resolved);
    if let Some(url) = &start.answer {
        put(fields, "kickstart", url.as_str());
        put(fields, "autoinst", url.as_str());
    }
    let own = koans_own(&distro.breed);
    let options: Vec<Entry> = start
        .options
        .iter()
        .filter(|entry| start.answer.is_none() || !own.contains(&entry.key.as_str()))
        .cloned()
        .collect();
    put(fields, "kernel_options", line(&options));
    let signature = asked.world.assets.signature_of(distro);
    let least = signature.and_then(|signature| signature.min_ram_for(&distro.os_version));
    let ram = least.map_or(RAM, |mib| i64::from(mib).max(RAM));
    let virt = &resolved.virt;
    let text =
        |wish: &Option<String>, otherwise: &str| Value::Text(wish.clone().unwrap_or_else(|| otherwise.to_owned()));
    put(fields, "virt_type", text(&virt.kind, "kvm"));
    put(
        fields,
        "virt_ram",
        virt.ram.map_or(Value::Int(ram), |mib| Value::Int(mib.into())),
    );
    put(fields, "virt_cpus", Value::Int(virt.cpus.map_or(1, i64::from)));
    let sizes = virt.file_size.iter().flatten().map(u32::to_string).collect::<Vec<_>>();
    let sizes = if sizes.is_empty() {
        DISK.to_owned()
    } else {
        sizes.join(",")
    };
    put(fields, "virt_file_size", sizes);
    put(fields, "virt_disk_driver", text(&virt.disk_driver, "raw"));
    put(fields, "virt_path", text(&virt.path, ""));
    let bridge = virt.bridge.clone().filter(|bridge| !bridge.is_empty());
    put(fields, "virt_bridge", text(&bridge, "virbr0"));
    put(fields, "virt_auto_boot", virt.auto_boot.unwrap_or(false));
    put(fields, "virt_pxe_boot", virt.pxe_boot.unwrap_or(false));
    start
}

fn system(asked: &Asked<'_>, resolved: &Resolved) -> Fields {
    let mut fields = Fields::new();
    let Some(system) = &resolved.system else {
        return fields;
    };
    put(&mut fields, "name", system.name.as_str());
    put(&mut fields, "profile", system.profile_name());
    put(&mut fields, "image", system.image_name());
    let start = launch(asked, &mut fields, resolved);
    put(&mut fields, "netboot_enabled", start.armed);
    let hostname = system.hostname.as_ref().map_or("", |name| name.as_str());
    put(&mut fields, "hostname", hostname);
    let address = |address: Option<Ipv4Addr>| address.map(|address| address.to_string()).unwrap_or_default();
    put(&mut fields, "gateway", address(system.gateway));
    let servers = resolved.name_servers.as_ref().map(|found| found.value.as_slice());
    let servers: Vec<Value> = servers
        .unwrap_or_default()
        .iter()
        .map(|server| server.to_string().into())
        .collect();
    put(&mut fields, "name_servers", Value::Array(servers));
    let interfaces = system.interfaces.iter().map(|(name, interface)| {
        let kind = interface.interface_type.map(|kind| kind.to_string());
        let mac = interface.mac_address.map(|mac| mac.to_string()).unwrap_or_default();
        let dns = interface.dns_name.as_ref().map_or("", |name| name.as_str());
        let bridge = interface
            .virt_bridge
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let values = [
            ("mac_address", mac.into()),
            ("ip_address", Value::Text(address(interface.ip_address))),
            ("netmask", Value::Text(address(interface.netmask))),
            ("dns_name", dns.into()),
            ("interface_type", Value::Text(kind.unwrap_or_else(|| "na".to_owned()))),
            ("virt_bridge", Value::Text(bridge)),
        ];
        (name.to_string(), members(values))
    });
    put(&mut fields, "interfaces", members(interfaces));
    fields
}
