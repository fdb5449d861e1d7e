//! What a template may see: Cobbler's names, ours, and every `autoinstall_meta` key, of one machine.
//!
//! The only place where the root password hash and the two URLs with tokens leave their hiding; [`Variable`] shows none of them.

use crate::boot::{AnswerFile, World};
use crate::inventory::network::{self, LinkKind, NetworkPlan};
use crate::inventory::{self, Layer, Merged, Sourced};
use crate::model::{Arch, Hostname, Name, Subnet};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;

/// One variable of a template.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: Cow<'static, str>,
    /// The value is one of the three that must not be printed, under whatever name.
    secret: bool,
    value: Value,
}

impl Variable {
    /// What may be printed: the value, or `(secret)`; an empty secret shows that it is empty. Judged only here: an answer file has sixty
    /// variables, and nobody looks at them.
    #[must_use]
    pub fn shown(&self) -> Value {
        if (self.secret || is_secret(&self.name, &self.value)) && self.value != json!("") {
            json!("(secret)")
        } else {
            self.value.clone()
        }
    }

    /// The value itself. Only the engine and the login check ask for it.
    pub(super) const fn value(&self) -> &Value {
        &self.value
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.shown())
    }
}

/// Names that `autoinstall_meta` cannot take: they say which machine this is and where it may report.
const FIXED: [&str; 15] = [
    "answer_url",
    "report_url",
    "base_url",
    "name",
    "system_name",
    "profile_name",
    "profile",
    "distro_name",
    "distro",
    "interfaces",
    "nics",
    "links",
    "mac",
    "netboot_enabled",
    "autoinstall",
];

/// Names whose value is always a list.
const LISTS: [&str; 7] = [
    "ssh_authorized_keys",
    "name_servers",
    "name_servers_search",
    "packages",
    "repos",
    "users",
    "post_commands",
];

/// Every variable that the template of `answer` sees, sorted by name.
#[must_use]
pub fn variables(answer: &AnswerFile, world: &World) -> Vec<Variable> {
    let mut set = Set(BTreeMap::new());
    objects(&mut set, answer);
    let subnet = own_subnet(answer, world);
    network_of(&mut set, answer, world, subnet);
    settings(&mut set, answer, world);
    urls(&mut set, answer);
    meta(&mut set, &answer.resolved.autoinstall_meta);
    repositories(&mut set, answer, world);
    derive(&mut set);
    let secret_values: Vec<Value> = ["root_password_hash", "answer_url", "report_url"]
        .iter()
        .filter_map(|name| set.0.get(*name).cloned())
        .filter(|value| *value != json!(""))
        .collect();
    set.0
        .into_iter()
        .map(|(name, value)| Variable {
            secret: secret_values.contains(&value),
            name,
            value,
        })
        .collect()
}

/// The values that must not be printed, as they may stand in a rendered text: those longer than a word that stands in any.
#[must_use]
pub fn secrets(answer: &AnswerFile, world: &World) -> Vec<String> {
    let secret = variables(answer, world).into_iter().filter(|variable| variable.secret);
    let texts = secret.filter_map(|variable| variable.value.as_str().map(str::to_owned));
    let mut all: Vec<String> = texts.filter(|text| text.len() >= 4).collect();
    // A secret that holds another goes first.
    all.sort_by_key(|text| std::cmp::Reverse(text.len()));
    all
}

/// By its name, or because it looks like a crypted password.
fn is_secret(name: &str, value: &Value) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "private",
        "credential",
    ]
    .iter()
    .any(|word| name.contains(word))
        || name.ends_with("_key")
        || name.ends_with("_url") && value.as_str().is_some_and(|text| text.contains('@'))
        || value.as_str().is_some_and(super::login::looks_crypted)
}

struct Set(BTreeMap<Cow<'static, str>, Value>);

impl Set {
    fn put(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or("")
    }
}

fn objects(set: &mut Set, answer: &AnswerFile) {
    let resolved = &answer.resolved;
    let profile = resolved.profiles.first().map_or("", |profile| profile.name.as_str());
    let system = resolved.system.as_deref();
    let distro = &resolved.distro;
    set.put("name", system.map_or(profile, |system| system.name.as_str()));
    set.put("system_name", system.map_or("", |system| system.name.as_str()));
    set.put("profile_name", profile);
    set.put("profile", profile);
    set.put("distro_name", distro.name.as_str());
    set.put("distro", distro.name.as_str());
    set.put("breed", distro.breed.as_str());
    set.put("os_version", distro.os_version.as_str());
    set.put("arch", distro.arch.as_str());
    set.put("debian_arch", distro.arch.debian());
    set.put("kernel", distro.kernel.as_str());
    set.put("initrd", distro.initrd.join(" "));
    set.put("kernel_options", line(&resolved.kernel_options));
    set.put("kernel_options_post", line(&resolved.kernel_options_post));
    set.put("netboot_enabled", answer.arm.is_some());
    set.put("autoinstall", answer.template.value.as_str());
    set.put("status", system.map_or("", |system| system.status.as_str()));
    let owners = system.map_or_else(|| distro.owners.clone(), |system| system.owners.clone());
    set.put("owners", owners);
    // Cobbler's settings that its templates ask for; what they switch is not here.
    for name in ["pxe_just_once", "run_install_triggers"] {
        set.put(name, true);
    }
    for name in ["anamon_enabled", "register_new_installs", "puppet_auto_setup"] {
        set.put(name, false);
    }
    for name in [
        "yum_repo_stanza",
        "yum_config_stanza",
        "redhat_management_key",
        "redhat_management_server",
    ] {
        set.put(name, "");
    }
    set.put("repos", Value::Array(Vec::new()));
    set.put("repo_data", Value::Array(Vec::new()));
    set.put("source_repos", Value::Array(Vec::new()));
}

fn line(merged: &Merged) -> String {
    let mut words = Vec::new();
    for entry in &merged.entries {
        match &entry.values {
            None => words.push(entry.key.clone()),
            Some(values) => words.extend(values.iter().map(|value| {
                if value.contains(char::is_whitespace) {
                    format!("{}=\"{value}\"", entry.key)
                } else {
                    format!("{}={value}", entry.key)
                }
            })),
        }
    }
    words.join(" ")
}

fn own_subnet<'a>(answer: &AnswerFile, world: &'a World) -> Option<&'a Subnet> {
    let of_system = answer.resolved.system.as_deref().and_then(|system| {
        let booting = answer.mac.and_then(|mac| system.interface_of(mac));
        booting
            .and_then(|(_, interface)| interface.ip_address)
            .or_else(|| system.interfaces.values().find_map(|interface| interface.ip_address))
    });
    of_system
        .into_iter()
        .chain(answer.address)
        .find_map(|address| world.config.subnet_of(address))
}

/// A value, unless it only comes from `[defaults]` and the subnet has its own.
fn above_settings<T: Clone>(sourced: Option<&Sourced<Vec<T>>>, subnet: Vec<T>, settings: &[T]) -> Vec<T> {
    match sourced {
        Some(found) if found.layer != Layer::Settings && !found.value.is_empty() => found.value.clone(),
        _ if !subnet.is_empty() => subnet,
        Some(found) if !found.value.is_empty() => found.value.clone(),
        _ => settings.to_vec(),
    }
}

fn network_of(set: &mut Set, answer: &AnswerFile, world: &World, subnet: Option<&Subnet>) {
    let (resolved, defaults) = (&answer.resolved, &world.inventory.defaults);
    let system = resolved.system.as_deref();
    let dns = subnet.map_or_else(Vec::new, |subnet| subnet.dns.clone());
    let servers = above_settings(resolved.name_servers.as_ref(), dns, &defaults.name_servers);
    let search = above_settings(
        resolved.name_servers_search.as_ref(),
        subnet.and_then(|subnet| subnet.domain.clone()).into_iter().collect(),
        &defaults.name_servers_search,
    );
    let booting = system.and_then(|system| answer.mac.and_then(|mac| system.interface_of(mac)));
    let hostname = system.and_then(|system| {
        system
            .hostname
            .clone()
            .or_else(|| booting.and_then(|(_, interface)| interface.dns_name.clone()))
            .or_else(|| system.name.as_str().parse::<Hostname>().ok())
    });
    let domain = hostname
        .as_ref()
        .and_then(|hostname| hostname.domain().map(str::to_owned))
        .or_else(|| subnet.and_then(|subnet| subnet.domain.clone()))
        .or_else(|| search.first().cloned())
        .unwrap_or_default();
    set.put("hostname", hostname.as_ref().map_or("", Hostname::as_str));
    set.put("short_hostname", hostname.as_ref().map_or("", Hostname::short));
    set.put("domain", domain);
    set.put(
        "name_servers",
        servers.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>(),
    );
    set.put("name_servers_search", search);
    let gateway = system
        .and_then(|system| system.gateway)
        .or_else(|| booting.and_then(|(_, interface)| interface.if_gateway))
        .or_else(|| subnet.and_then(|subnet| subnet.router));
    set.put("gateway", text(gateway));
    set.put("mac", text(answer.mac));
    let subnet_of = |address: Ipv4Addr| world.config.subnet_of(address);
    let plan = system.map_or_else(NetworkPlan::default, |system| {
        NetworkPlan::of(system, answer.mac, &subnet_of)
    });
    set.put("links", super::links::links(&plan));
    let mut by_name = Map::new();
    let mut nics = Vec::new();
    for (name, interface) in system.iter().flat_map(|system| &system.interfaces) {
        let net = interface.ip_address.and_then(subnet_of);
        let netmask = network::netmask(interface, net);
        let boots = answer.mac.is_some() && answer.mac == interface.mac_address;
        let routes: Vec<String> = interface.static_routes.iter().map(ToString::to_string).collect();
        let fields = json!({
            "mac_address": text(interface.mac_address), "ip_address": text(interface.ip_address), "netmask": text(netmask),
            "if_gateway": text(interface.if_gateway), "static": interface.is_static,
            "dns_name": interface.dns_name.as_ref().map_or("", Hostname::as_str),
            "interface_type": interface.kind().as_str(),
            "interface_master": interface.interface_master.as_ref().map_or("", Name::as_str),
            "bonding_opts": text(interface.bonding_opts.as_ref()), "bridge_opts": text(interface.bridge_opts.as_ref()),
            "static_routes": routes, "mtu": text(interface.mtu), "management": interface.management,
        });
        for (field, value) in fields.as_object().into_iter().flatten() {
            set.put(format!("{field}_{name}"), value.clone());
        }
        by_name.insert(name.to_string(), fields);
        // What is no card is in `links` only.
        if plan.link(name.as_str()).is_none_or(|link| link.kind != LinkKind::Card) {
            continue;
        }
        let entry = json!({
            "name": name.as_str(), "mac": text(interface.mac_address), "ip": text(interface.ip_address), "netmask": text(netmask),
            "prefix": netmask.map_or(32, |mask| mask.to_bits().leading_ones()),
            "gateway": text(network::router(interface, net, gateway)),
            "static": interface.is_static && interface.ip_address.is_some() && netmask.is_some(), "boots": boots,
        });
        if boots {
            nics.insert(0, entry);
        } else {
            nics.push(entry);
        }
    }
    set.put("interfaces", by_name);
    set.put("nics", nics);
}

fn text<T: fmt::Display>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn settings(set: &mut Set, answer: &AnswerFile, world: &World) {
    let defaults = &world.inventory.defaults;
    let or = |value: &str, otherwise: &str| if value.is_empty() { otherwise } else { value }.to_owned();
    set.put("timezone", or(&defaults.timezone, "Etc/UTC"));
    set.put("locale", or(&defaults.locale, "en_US.UTF-8"));
    set.put("keyboard", or(&defaults.keyboard, "us"));
    set.put("ssh_authorized_keys", defaults.ssh_authorized_keys.clone());
    let hash = defaults.root_password_hash.as_ref().map_or("", |hash| hash.reveal());
    set.put("root_password_hash", hash);
    let proxy = answer.resolved.proxy.as_ref().map(|proxy| proxy.value.clone());
    set.put("proxy", proxy.or_else(|| defaults.proxy.clone()).unwrap_or_default());
    for name in ["disk", "after_install", "appstream"] {
        set.put(name, "");
    }
    for name in ["packages", "users", "post_commands"] {
        set.put(name, Value::Array(Vec::new()));
    }
}

fn urls(set: &mut Set, answer: &AnswerFile) {
    let http_server = answer.base_url.split_once("://").map_or("", |(_, rest)| rest);
    let (server, port) = http_server.split_once(':').unwrap_or((http_server, "80"));
    set.put("server", server);
    set.put("next_server", server);
    set.put("next_server_v4", server);
    set.put("http_server", http_server);
    set.put("http_port", port.parse::<u16>().unwrap_or(80));
    set.put("base_url", answer.base_url.as_str());
    set.put("answer_url", answer.answer_url.as_str());
    set.put("report_url", answer.report_url.as_str());
    // Without a tree the name stays undefined, so that a template which needs one says so.
    if !answer.tree_url.is_empty() {
        set.put("tree", answer.tree_url.as_str());
    }
}

fn meta(set: &mut Set, meta: &Merged) {
    for entry in &meta.entries {
        let name = entry.key.replace('-', "_");
        if FIXED.contains(&name.as_str()) {
            continue;
        }
        let value = match &entry.values {
            _ if LISTS.contains(&name.as_str()) => {
                let given = entry.values.clone().unwrap_or_default();
                if matches!(name.as_str(), "ssh_authorized_keys" | "post_commands") {
                    Value::from(given)
                } else {
                    let split = |text: &String| text.split([' ', ',']).map(str::to_owned).collect::<Vec<_>>();
                    let words: Vec<String> = given.iter().flat_map(split).filter(|word| !word.is_empty()).collect();
                    Value::from(words)
                }
            }
            None => Value::Bool(true),
            Some(values) => match values.as_slice() {
                [one] => Value::from(one.as_str()),
                several => Value::from(several.to_vec()),
            },
        };
        set.put(name, value);
    }
}

/// The words of a list.
fn words(set: &Set, name: &str) -> Vec<String> {
    let items = set.0.get(name).and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Repositories beside the tree: those of the profile's `repos`, then those of the variable `repos`, each `NAME=URL`, a URL alone, or the
/// name of a repository. Ours is `extra_repos`; the stanzas are what Cobbler's templates print.
fn repositories(set: &mut Set, answer: &AnswerFile, world: &World) {
    let mut sources = inventory::sources(&world.inventory, &answer.resolved);
    for word in words(set, "repos") {
        let more = inventory::sources_of(&world.inventory, &answer.resolved, &word, sources.len());
        sources.extend(more);
    }
    let mut stanza = String::new();
    for source in &sources {
        let quotable = |text: &str| !text.contains(|c: char| c == '"' || c.is_whitespace());
        if quotable(&source.url) && quotable(&source.proxy) {
            let _ = write!(stanza, "repo --name={} --{}={}", source.name, source.kind, source.url);
            if !source.proxy.is_empty() {
                let _ = write!(stanza, " --proxy={}", source.proxy);
            }
            stanza.push('\n');
        }
    }
    let what = match &answer.resolved.system {
        Some(system) => format!("system/{}", system.name),
        None => format!("profile/{}", set.text("profile_name")),
    };
    if !sources.is_empty() {
        let fetch = format!(
            "curl -fsS \"{}/cblr/svc/op/yum/{what}\" -o /etc/yum.repos.d/cobbler-config.repo\n",
            answer.base_url
        );
        set.put("yum_config_stanza", fetch);
    }
    set.put("yum_repo_stanza", stanza);
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    if words(set, "repos").is_empty() {
        set.put("repos", names);
    }
    let data = sources.iter().map(|source| {
        json!({"name": source.name, "mirror": source.url, "mirror_type": source.kind, "apt_dists": source.suite,
            "apt_components": source.components, "priority": source.priority, "proxy": source.proxy})
    });
    set.put("repo_data", data.collect::<Vec<_>>());
    let all = sources.iter().map(|source| {
        json!({"name": source.name, "url": source.url, "kind": source.kind, "suite": source.suite,
            "components": source.components, "proxy": source.proxy})
    });
    set.put("extra_repos", all.collect::<Vec<_>>());
}

/// What follows from the others, after `autoinstall_meta` had its say.
fn derive(set: &mut Set) {
    let hash = set.text("root_password_hash").to_owned();
    set.put("default_password_crypted", hash);
    let disk = set.text("disk").trim_start_matches("/dev/").to_owned();
    set.put("disk", disk);
    // `NAME`, or `NAME:GROUP:GROUP`.
    let accounts: Vec<Value> = words(set, "users")
        .iter()
        .map(|word| {
            let mut parts = word.split(':').filter(|part| !part.is_empty());
            let name = parts.next().unwrap_or_default();
            json!({"name": name, "groups": parts.collect::<Vec<_>>()})
        })
        .collect();
    set.put("accounts", accounts);
    let tree = set.text("tree").to_owned();
    let directory = tree
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .map_or_else(String::new, |(_, path)| format!("/{path}"));
    set.put("install_source_directory", directory.as_str());
    if set.text("repository").is_empty() && !tree.is_empty() {
        set.put("repository", tree.as_str());
    }
    if matches!(set.text("breed"), "debian" | "ubuntu") {
        debian(set, &tree, &directory);
    }
}

fn debian(set: &mut Set, tree: &str, directory: &str) {
    let kernel = set.text("kernel").to_owned();
    // An ISO keeps its kernel in install.<arch>, a mirror below dists/. A netboot package is no mirror.
    let on_iso = kernel.starts_with("install.") || kernel.starts_with("install/");
    let is_mirror = !tree.is_empty() && (on_iso || kernel.starts_with("dists/"));
    let mirrors = flag(set, "tree_is_mirror").unwrap_or(is_mirror);
    set.put("tree_is_mirror", mirrors);
    // The Release file of an ISO is not signed, so d-i and apt 3 must be told to take it (Debian 13).
    let unsigned = flag(set, "unsigned_tree").unwrap_or(mirrors && on_iso);
    set.put("unsigned_tree", unsigned);
    let host = tree
        .split_once("://")
        .and_then(|(_, rest)| rest.split('/').next())
        .unwrap_or("")
        .to_owned();
    let fallback = if mirrors {
        (host, directory.to_owned())
    } else {
        let (host, directory) = public_mirror(set.text("breed"));
        (host.to_owned(), directory.to_owned())
    };
    if set.text("mirror_host").is_empty() {
        set.put("mirror_host", fallback.0);
        set.put("mirror_directory", fallback.1);
    } else if set.text("mirror_directory").is_empty() {
        let (_, directory) = public_mirror(set.text("breed"));
        set.put("mirror_directory", directory);
    }
    if set.text("suite").is_empty() {
        let version = set.text("os_version").to_ascii_lowercase();
        let suite = match version.split('.').next().unwrap_or("").trim_start_matches("debian") {
            "10" => "buster",
            "11" => "bullseye",
            "12" => "bookworm",
            "13" => "trixie",
            _ => version.as_str(),
        };
        set.put("suite", suite.to_owned());
    }
    let arch = match set.text("arch").parse::<Arch>() {
        Ok(arch) => arch.debian(),
        Err(_) => "",
    };
    set.put("debian_arch", arch);
}

/// Where packages come from when the tree holds none.
fn public_mirror(breed: &str) -> (&'static str, &'static str) {
    if breed == "ubuntu" {
        ("archive.ubuntu.com", "/ubuntu")
    } else {
        ("deb.debian.org", "/debian")
    }
}

fn flag(set: &Set, name: &str) -> Option<bool> {
    match set.0.get(name)? {
        Value::Bool(value) => Some(*value),
        Value::String(text) => Some(!matches!(text.as_str(), "" | "0" | "no" | "false" | "off")),
        _ => None,
    }
}
