//! The boot script: the installer for a machine that is armed and is who it says, its own disk for everyone else.

use super::{Deciding, image};
use crate::boot::installer_network::Wanted;
use crate::boot::preview::{missing_file, whole_file};
use crate::boot::{Answer, Dialect, Effect, LANGUAGES, Launch, Menu, MenuEntry, MenuGroup, Script, When, paths};
use crate::config::Unknown;
use crate::install::{self, Act, Arm, Input, State, Token, TokenKind};
use crate::inventory::network::NetworkPlan;
use crate::inventory::{self, Entry, Inventory, Layer, Resolved};
use crate::model::{Mac, Name, System};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// How long the menu waits for a key before the own disk boots, in milliseconds.
const MENU_TIMEOUT: u32 = 10_000;

/// Chooses the script.
pub(super) fn choose(deciding: &mut Deciding<'_>, dialect: Dialect) -> Answer {
    let Some((mac, system)) = deciding.facts.mac.zip(deciding.system.clone()) else {
        return unknown_machine(deciding, dialect);
    };
    let state = deciding.state_of(&system);
    let arm = match deciding.arm_of(&system) {
        Some(arm) if state.is_open() => arm,
        _ => return local(deciding, dialect, state.as_str(), because(state, &system)),
    };
    if let Some(answer) = already_begun(deciding, dialect, &arm, &system, mac) {
        return answer;
    }
    match deciding.facts.peer {
        // Only `explain` asks without an address; it drops the effects.
        None => deciding.trace.passed("binding", "no address to judge"),
        Some(peer) => match deciding.owns_address(mac, peer, None) {
            Ok(why) => deciding.trace.held("binding", why),
            Err(why) => return local(deciding, dialect, "wrong address", why),
        },
    }
    let script = match &system.image {
        Some(name) => image::boot(deciding, dialect, name, &system).map(|boot| Script::Image(Box::new(boot))),
        None => launch(deciding, dialect, &arm, &system, mac).map(|launch| Script::Launch(Box::new(launch))),
    };
    let script = match script {
        Ok(script) => script,
        Err(why) => {
            let rule = if system.image.is_some() {
                "cannot boot its image"
            } else {
                "cannot install"
            };
            return local(deciding, dialect, rule, why);
        }
    };
    deciding.trace.held(
        "armed",
        format!("{} is armed until {} by {}", system.name, arm.until, arm.by),
    );
    if let Some(address) = deciding.facts.peer {
        let asked = deciding.asked(mac);
        let input = Input::Launch {
            mac,
            address,
            behind: false,
            asked,
        };
        deciding.effects.push(Effect::Install {
            when: When::Before,
            act: Act {
                arm: (*arm).clone(),
                input,
            },
        });
    }
    Answer::Script(Box::new(script))
}

/// An installation that began and may not be launched again: expired, partitioned, or tried too often.
fn already_begun(
    deciding: &mut Deciding<'_>,
    dialect: Dialect,
    arm: &Arc<Arm>,
    system: &System,
    mac: Mac,
) -> Option<Answer> {
    let now = deciding.world.now;
    let seen = deciding.installation_of(system).filter(|seen| seen.arm == arm.id);
    if !arm.is_in_force(now) {
        return Some(local(deciding, dialect, "expired", arm.why_not(now)));
    }
    if install::may_launch(seen.as_deref(), deciding.asked(mac), now) {
        return None;
    }
    let midway = inventory::resolve_system(&deciding.world.inventory, system.name.as_str())
        .ok()
        .and_then(|resolved| deciding.world.assets.signature_of(&resolved.distro))
        .is_some_and(|signature| signature.reboots_midway);
    if midway {
        let why = "its installer reboots in mid-install and goes on from the disk";
        return Some(local(deciding, dialect, "reboots midway", why));
    }
    // Anybody can fetch this script; only the machine itself says by it that it booted again, which ends a running installation.
    if let Some(peer) = deciding.facts.peer
        && let Err(why) = deciding.owns_address(mac, peer, None)
    {
        return Some(local(deciding, dialect, "wrong address", why));
    }
    deciding.effects.push(Effect::Install {
        when: When::Before,
        act: Act {
            arm: (**arm).clone(),
            input: Input::BootedAgain,
        },
    });
    let why = if system.image.is_some() {
        format!(
            "{} got its script several times and never fetched its image",
            system.name
        )
    } else {
        format!(
            "{} boots again without done; `cordwainer system arm {} --again` would wipe it",
            system.name, system.name
        )
    };
    Some(local(deciding, dialect, "held", why))
}

fn because(state: State, system: &System) -> String {
    match state {
        State::Installed => format!("{} is installed", system.name),
        State::Failed => format!("the installation of {} failed; an admin decides", system.name),
        State::Held => format!("{} is held; an admin decides", system.name),
        State::Booted => format!("{} booted its image, once as it was armed for", system.name),
        _ => format!("{} is not armed", system.name),
    }
}

fn unknown_machine(deciding: &mut Deciding<'_>, dialect: Dialect) -> Answer {
    let who = deciding
        .facts
        .mac
        .map_or_else(|| "a machine without a name".to_owned(), |mac| mac.to_string());
    if deciding.world.config.unknown == Unknown::Menu {
        let (entries, groups) = menu_entries(deciding);
        deciding.trace.held(
            "unknown machine",
            format!("no system has {who}; [server] unknown = \"menu\""),
        );
        return Answer::Script(Box::new(Script::Menu(Menu {
            dialect,
            firmware: deciding.facts.firmware,
            entries,
            groups,
            timeout_ms: MENU_TIMEOUT,
        })));
    }
    local(deciding, dialect, "unknown machine", format!("no system has {who}"))
}

fn menu_entries(deciding: &Deciding<'_>) -> (Vec<MenuEntry>, Vec<MenuGroup>) {
    let inventory = &deciding.world.inventory;
    let first = deciding.world.config.menu_default.as_ref();
    let mut profiles: Vec<_> = inventory
        .profiles()
        .filter(|profile| {
            let resolved = inventory::resolve_profile(inventory, profile.name.as_str());
            resolved.is_ok_and(|resolved| resolved.enable_menu)
        })
        .collect();
    profiles.sort_by_key(|profile| (Some(&profile.name) != first, &profile.name));
    let mut groups = Vec::new();
    let mut places = BTreeMap::new();
    let entries = profiles.into_iter().map(|profile| {
        let said = |field: &str| profile.extra.get(field).filter(|text| !text.is_empty());
        // The one that stands first is to be seen at once, whatever menu it is in.
        let menu = said("menu").filter(|_| Some(&profile.name) != first);
        MenuEntry {
            title: said("display_name").map_or_else(|| profile.name.to_string(), Clone::clone),
            profile: profile.name.clone(),
            group: menu.and_then(|menu| group(inventory, menu, &mut groups, &mut places, 0)),
        }
    });
    (entries.collect(), groups)
}

/// The place of a menu among the groups; it and those that it stands in are added where they are not there yet. A circle cannot be
/// stored; 16 menus within each other end one all the same.
fn group(
    inventory: &Inventory,
    name: &str,
    groups: &mut Vec<MenuGroup>,
    places: &mut BTreeMap<Name, usize>,
    depth: usize,
) -> Option<usize> {
    let menu = inventory.menu(name).filter(|_| depth < 16)?;
    if let Some(place) = places.get(&menu.name) {
        return Some(*place);
    }
    let above = menu.parent.as_ref();
    let parent = above.and_then(|above| group(inventory, above.as_str(), groups, places, depth.saturating_add(1)));
    let title = if menu.display_name.is_empty() {
        menu.name.to_string()
    } else {
        menu.display_name.clone()
    };
    let place = groups.len();
    groups.push(MenuGroup { title, parent });
    places.insert(menu.name.clone(), place);
    Some(place)
}

fn local(deciding: &mut Deciding<'_>, dialect: Dialect, rule: &str, why: impl Into<String>) -> Answer {
    let because = why.into();
    deciding.trace.held(rule, because.clone());
    Answer::Script(Box::new(Script::Local {
        dialect,
        firmware: deciding.facts.firmware,
        because,
    }))
}

/// Gathers what the loader needs, or says what is missing.
fn launch(deciding: &Deciding<'_>, dialect: Dialect, arm: &Arm, system: &System, mac: Mac) -> Result<Launch, String> {
    let world = deciding.world;
    let resolved =
        inventory::resolve_system(&world.inventory, system.name.as_str()).map_err(|broken| broken.to_string())?;
    let distro = &resolved.distro;
    let media = world
        .assets
        .media
        .get(&distro.name)
        .ok_or_else(|| format!("the files of distro {} were not looked at yet", distro.name))?;
    for file in std::iter::once(&media.kernel).chain(&media.initrd) {
        file.as_ref()
            .map_err(|problem| format!("distro {}: {problem}", distro.name))?;
    }
    if let Some(what) = missing_file(world, &resolved) {
        return Err(format!(
            "distro {}: its installer loads the whole {what}, and nothing names it (--autoinstall-meta {what}=URL)",
            distro.name
        ));
    }
    let base = deciding.base_url();
    let file_url = |path: &str, stand_in: &str| match &distro.tree {
        Some(_) => format!("{base}/{}", paths::tree(&distro.name, path)),
        None => format!("{base}/{}", paths::tree(&distro.name, stand_in)),
    };
    let rule = world
        .assets
        .signature_of(distro)
        .and_then(|signature| signature.rule_for(&distro.os_version));
    let named = rule.map_or(&[][..], |rule| &rule.initrd_args);
    if !named.is_empty() && dialect != Dialect::Ipxe {
        return Err(format!(
            "distro {} starts only through iPXE, which tells each file its name; take grub and pxe out of boot_loaders",
            distro.name
        ));
    }
    let hostname = hostname(system);
    let subject = Subject {
        urls: Some(urls(deciding, arm)),
        hostname: &hostname,
        mac: Some(mac),
    };
    let values = values(deciding, &resolved, &subject);
    let initrd_args = named.iter().map(|args| fill(args, &values)).collect();
    let (options, removed) = options(deciding, &resolved, &subject);
    Ok(Launch {
        dialect,
        firmware: deciding.facts.firmware,
        system: system.name.clone(),
        profile: system
            .base()
            .map_or_else(|| system.name.clone(), |(_, name)| name.clone()),
        kernel: file_url(&distro.kernel, "-/kernel"),
        initrd: distro
            .initrd
            .iter()
            .enumerate()
            .map(|(place, path)| file_url(path, &format!("-/initrd{place}")))
            .collect(),
        initrd_args,
        options,
        removed,
    })
}

/// The installer's command line: what its family needs, then what the layers say, the nearer one winning key by key.
fn options(
    deciding: &Deciding<'_>,
    resolved: &Resolved,
    subject: &Subject<'_>,
) -> (Vec<Entry>, Vec<inventory::Removed>) {
    let own = &resolved.kernel_options;
    let mut removed = own.removed.clone();
    let mut entries = Vec::new();
    for entry in signature_options(deciding, resolved, subject) {
        if own.entries.iter().any(|own| own.key == entry.key) {
            continue;
        }
        match resolved.kernel_option_deleted_by(&entry.key) {
            None => entries.push(entry),
            Some(removed_by) => removed.push(inventory::Removed {
                key: entry.key,
                set_by: entry.layer,
                removed_by,
            }),
        }
    }
    entries.extend(own.entries.iter().cloned());
    (entries, removed)
}

/// Whom a command line is for.
pub(super) struct Subject<'a> {
    /// Where its answer file is, and where it reports; none for who may not have them.
    pub(super) urls: Option<(String, String)>,
    /// With or without a domain.
    pub(super) hostname: &'a str,
    /// The card that it boots by, where one is known.
    pub(super) mac: Option<Mac>,
}

/// What stands for the placeholders of a signature.
type Values = Vec<(&'static str, String)>;

fn hostname(system: &System) -> String {
    let named = system.hostname.as_ref();
    named.map_or_else(|| system.name.to_string(), |name| name.as_str().to_owned())
}

fn urls(deciding: &Deciding<'_>, arm: &Arm) -> (String, String) {
    let base = deciding.base_url();
    let token = |kind| Token::derive(&deciding.world.key, &arm.id, kind);
    let answers = paths::answers(&token(TokenKind::Install));
    let report = paths::report(&token(TokenKind::Report));
    (format!("{base}/{answers}"), format!("{base}/{report}"))
}

fn values(deciding: &Deciding<'_>, resolved: &Resolved, subject: &Subject<'_>) -> Values {
    let distro = &resolved.distro;
    let base = deciding.base_url();
    let hostname = subject.hostname;
    let (short, domain) = hostname.split_once('.').unwrap_or((hostname, ""));
    let subnet = deciding
        .facts
        .peer
        .and_then(|peer| deciding.world.config.subnet_of(peer));
    let domain = if domain.is_empty() {
        subnet.and_then(|subnet| subnet.domain.as_deref()).unwrap_or("")
    } else {
        domain
    };
    let (answer_url, report_url) = subject.urls.clone().unwrap_or_default();
    let mac = subject.mac;
    let tree = format!("{base}/{}", paths::tree(&distro.name, ""));
    // A medium without packages brings its second stage all the same.
    let (repository, stage2) = match resolved.autoinstall_meta.text("repository") {
        Some(mirror) if mirror.contains("://") => (mirror.to_owned(), tree.clone()),
        _ => (tree.clone(), String::new()),
    };
    vec![
        ("answer_url", answer_url),
        ("report_url", report_url),
        ("tree", tree),
        ("repository", repository),
        ("stage2", stage2),
        ("iso", whole_file(resolved, "iso", &base).unwrap_or_default()),
        ("rootfs", whole_file(resolved, "rootfs", &base).unwrap_or_default()),
        ("modloop", whole_file(resolved, "modloop", &base).unwrap_or_default()),
        ("base_url", base.clone()),
        ("hostname", short.to_owned()),
        ("domain", domain.to_owned()),
        ("mac", mac.map(|mac| mac.to_string()).unwrap_or_default()),
        (
            "bootif",
            mac.map(|mac| format!("01-{}", mac.dashed())).unwrap_or_default(),
        ),
        ("dns", resolver(deciding, resolved).to_string()),
        ("arch", distro.arch.to_string()),
        ("version", distro.os_version.clone()),
    ]
}

/// What the family's installer needs on its command line. Where the subject has no URLs or no MAC, what needs them is left out.
pub(super) fn signature_options(deciding: &Deciding<'_>, resolved: &Resolved, subject: &Subject<'_>) -> Vec<Entry> {
    let world = deciding.world;
    let distro = &resolved.distro;
    let Some((name, signature)) = distro.signature.as_ref().zip(world.assets.signature_of(distro)) else {
        return Vec::new();
    };
    let Some(args) = signature.args_for(&distro.os_version) else {
        return Vec::new();
    };
    let values = values(deciding, resolved, subject);
    let (mac, hostname) = (subject.mac, subject.hostname);
    let wants = |word: &str, name: &str| word.contains(&format!("{{{name}}}"));
    let known = |word: &&str| {
        let needs_url = wants(word, "answer_url") || wants(word, "report_url");
        let needs_mac = wants(word, "mac") || wants(word, "bootif");
        let needs_stage2 = wants(word, "stage2");
        let empty_stage2 = || values.iter().any(|(name, value)| *name == "stage2" && value.is_empty());
        !(needs_url && subject.urls.is_none() || needs_mac && mac.is_none() || needs_stage2 && empty_stage2())
    };
    let words: Vec<&str> = args.split_whitespace().filter(known).collect();
    let layer = Layer::Signature(name.clone());
    let plan = resolved.system.as_deref().map_or_else(NetworkPlan::default, |system| {
        NetworkPlan::of(system, mac, &|address| world.config.subnet_of(address))
    });
    let wanted = Wanted {
        plan: &plan,
        hostname: hostname.split('.').next().unwrap_or_default(),
        dns: resolver(deciding, resolved),
        is_final: resolved.autoinstall_meta.text("installer_network") == Some("final"),
    };
    let words = words.into_iter().flat_map(|word| {
        let language = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
        match language.filter(|language| LANGUAGES.contains(language)) {
            Some(language) => wanted.words(language),
            None => vec![word.to_owned()],
        }
    });
    let mut entries: Vec<Entry> = Vec::new();
    let filled = words
        .filter_map(|word| {
            let filled = fill(&word, &values);
            let (key, value) = match filled.split_once('=') {
                // A machine without a domain, say: no option is better than an empty one.
                Some((_, "")) if !word.ends_with('=') => return None,
                Some((key, value)) => (key.to_owned(), Some(vec![value.to_owned()])),
                None => (filled, None),
            };
            Some(Entry {
                key,
                values: value,
                layer: layer.clone(),
            })
        })
        .collect::<Vec<Entry>>();
    // A key that is said twice (`ifname=`) is one entry with two values, as the layers' own are.
    for mut entry in filled {
        match (
            entries.iter_mut().find(|known| known.key == entry.key),
            &mut entry.values,
        ) {
            (
                Some(Entry {
                    values: Some(known), ..
                }),
                Some(more),
            ) => known.append(more),
            _ => entries.push(entry),
        }
    }
    entries
}

/// A resolver for the installer. d-i stops at a question without one (distros-installers, Debian), so our own address stands in.
fn resolver(deciding: &Deciding<'_>, resolved: &Resolved) -> Ipv4Addr {
    let config = &deciding.world.config;
    let own = resolved.name_servers.as_ref().and_then(|servers| servers.value.first());
    let subnet = deciding
        .facts
        .peer
        .and_then(|peer| config.subnet_of(peer))
        .and_then(|subnet| subnet.dns.first());
    own.or(subnet).copied().unwrap_or(deciding.facts.local)
}

/// Puts the values in for `{name}`. A name that is not known stays as it is; values are never read again.
fn fill(word: &str, values: &[(&str, String)]) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let known = after.split_once('}').and_then(|(name, tail)| {
            values
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (value, tail))
        });
        if let Some((value, tail)) = known {
            text.push_str(value);
            rest = tail;
        } else {
            text.push('{');
            rest = after;
        }
    }
    text.push_str(rest);
    text
}
