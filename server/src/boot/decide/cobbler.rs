//! What Cobbler's clients ask by its URLs, and what koan is told to start an installation.
//!
//! The rules are the same as for our own URLs: an answer file of a system goes to the machine itself while it is armed, one of a profile
//! to anyone only where the profile says so, and what changes something comes from the machine's own address or with its token.

use super::{Deciding, cobbler_pages, files, script};
use crate::boot::preview::{preview, template_of};
use crate::boot::{Answer, AnswerFile, CobblerAsk, Dialect, Effect, Facts, FoundBy, When, World, paths};
use crate::install::{Act, Arm, Input, Stage, Token, TokenKind};
use crate::inventory::{self, Entry, Layer, Resolved, Sourced, is_anonymous};
use crate::model::{Binding, Dict, DictValue, Mac, Name, System};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Chooses the answer to one of Cobbler's questions.
pub(super) fn choose(deciding: &mut Deciding<'_>, ask: &CobblerAsk) -> Answer {
    match ask {
        CobblerAsk::Answer {
            system: true,
            name,
            token,
            file,
        } => of_system(deciding, name, token.as_deref(), file.as_deref()),
        CobblerAsk::Answer {
            system: false,
            name,
            file,
            ..
        } => of_profile(deciding, name, file.as_deref()),
        CobblerAsk::Autodetect => match deciding.system.clone() {
            Some(system) => of_system(deciding, system.name.as_str(), None, None),
            None => deciding.not_found("unknown machine", "no system has the address that asks"),
        },
        CobblerAsk::Ipxe {
            system: None,
            image: Some(image),
        } => ipxe_image(deciding, image),
        CobblerAsk::Ipxe { system, .. } => ipxe(deciding, system.as_deref()),
        CobblerAsk::Nopxe { system, token } => nopxe(deciding, system, token.as_deref()),
        CobblerAsk::Trigger { mode, system, token } => trigger(deciding, mode, system.as_deref(), token.as_deref()),
        CobblerAsk::List(what) => list(deciding, what),
        CobblerAsk::Yum { system, name } => yum(deciding, *system, name),
        CobblerAsk::Page(page) => cobbler_pages::choose(deciding, page),
        CobblerAsk::DebianTree { distro, path } => debian_tree(deciding, distro, path),
    }
}

/// The MAC by which the address that asks is the system's own.
fn own_mac(deciding: &Deciding<'_>, system: &System) -> Result<Mac, String> {
    let peer = deciding.facts.peer.ok_or("the request has no address to judge")?;
    let seen = deciding.installation_of(system);
    let mut why = format!("system {} has no MAC", system.name);
    for mac in system.macs() {
        match deciding.owns_address(mac, peer, seen.as_deref()) {
            Ok(_) => return Ok(mac),
            Err(cause) => why = cause,
        }
    }
    Err(why)
}

fn of_system(deciding: &mut Deciding<'_>, name: &str, token: Option<&str>, file: Option<&str>) -> Answer {
    let world = deciding.world;
    let Some(system) = world.inventory.system(name).cloned() else {
        return deciding.not_found("no such system", format!("there is no system {}", paths::shown(name)));
    };
    deciding.system = Some(system.clone());
    let state = deciding.state_of(&system);
    let arm = match deciding.arm_of(&system) {
        Some(arm) if state.is_open() && arm.is_in_force(world.now) => arm,
        _ => return deciding.not_found("not armed", format!("{} is {state}", system.name)),
    };
    let genuine = token.map(|text| Token::derive(&world.key, &arm.id, TokenKind::Install).matches(text));
    if genuine == Some(false) {
        return deciding.not_found("unknown token", "the token opens nothing");
    }
    let Some(peer) = deciding.facts.peer else {
        return deciding.not_found("wrong address", "the request has no address to judge");
    };
    if genuine.is_none() && world.config.binding_of(peer) == Binding::TokenOnly {
        return deciding.not_found("no token", "the subnet trusts the token alone, and none was shown");
    }
    let mac = match own_mac(deciding, &system) {
        Ok(mac) => mac,
        Err(why) => return deciding.not_found("wrong address", why),
    };
    let resolved = match inventory::resolve_system(&world.inventory, name) {
        Ok(resolved) => resolved,
        Err(broken) => return deciding.not_found("broken record", broken.to_string()),
    };
    let Some(answer) = rendered(deciding, resolved, file, Some((&arm, mac, peer))) else {
        return deciding.not_found(
            "no such answer file",
            format!("{} has no such answer file", system.name),
        );
    };
    deciding.trace.held(
        "answer file",
        format!("{} for {}, by Cobbler's URL", answer.template.value, system.name),
    );
    // Without the token it is only looked at, as koan does before it starts the installer.
    let begun = deciding.installation_of(&system).is_some_and(|seen| seen.arm == arm.id);
    if genuine == Some(true) && !begun {
        let asked = deciding.asked(mac);
        let launch = Input::Launch {
            mac,
            address: peer,
            behind: false,
            asked,
        };
        before(deciding, &arm, launch);
    }
    // What its loader, or a section of it, fetches beside is no sign that the installer has read its answers.
    let main = file.is_none_or(|file| file != paths::BOOT_CONFIG && !file.contains('/'));
    if main && (genuine == Some(true) || begun) {
        before(deciding, &arm, Input::AnswersFetched);
    }
    Answer::AnswerFile(Box::new(answer))
}

fn before(deciding: &mut Deciding<'_>, arm: &Arc<Arm>, input: Input) {
    deciding.effects.push(Effect::Install {
        when: When::Before,
        act: Act {
            arm: (**arm).clone(),
            input,
        },
    });
}

fn of_profile(deciding: &mut Deciding<'_>, name: &str, file: Option<&str>) -> Answer {
    let world = deciding.world;
    if !is_anonymous(&world.inventory, name) {
        let why = format!(
            "profile {} does not say anonymous-autoinstall = true",
            paths::shown(name)
        );
        return deciding.not_found("not for anyone", why);
    }
    let resolved = match inventory::resolve_profile(&world.inventory, name) {
        Ok(resolved) => resolved,
        Err(broken) => return deciding.not_found("broken record", broken.to_string()),
    };
    let Some(answer) = rendered(deciding, resolved, file, None) else {
        return deciding.not_found("no such answer file", "the profile has no such answer file");
    };
    deciding.trace.held(
        "answer file",
        format!("profile {} gives it to anyone", paths::shown(name)),
    );
    Answer::AnswerFile(Box::new(answer))
}

/// One answer file of a system that is being installed, or of a profile for anyone.
fn rendered(
    deciding: &Deciding<'_>,
    resolved: Resolved,
    file: Option<&str>,
    of: Option<(&Arc<Arm>, Mac, Ipv4Addr)>,
) -> Option<AnswerFile> {
    let world = deciding.world;
    let main = template_of(world, &resolved)?;
    let mut answer = preview(world, resolved, deciding.facts.local)?;
    if let Some(file) = file {
        let (template, name) = if let Some(script) = file.strip_prefix(paths::SCRIPT) {
            (own_template(world, format!("scripts/{script}"))?, script)
        } else if let Some(path) = file.strip_prefix(paths::TEMPLATE) {
            (templated(world, &answer.resolved, path)?, path)
        } else {
            (files::named(deciding, &answer.resolved, main, file)?, file)
        };
        answer.template = template;
        name.clone_into(&mut answer.file);
    }
    let base = &answer.base_url;
    if let Some((arm, mac, peer)) = of {
        let install = paths::answers(&Token::derive(&world.key, &arm.id, TokenKind::Install));
        let report = paths::report(&Token::derive(&world.key, &arm.id, TokenKind::Report));
        (answer.answer_url, answer.report_url) = (format!("{base}/{install}"), format!("{base}/{report}"));
        answer.arm = Some(arm.id.clone());
        (answer.mac, answer.address) = (Some(mac), Some(peer));
    } else if let Some(profile) = answer.resolved.profiles.first() {
        // Its other files are where this one is. Of whoever asks nothing is known, so nothing is reported.
        let answers = paths::cobbler_answer(None, &profile.name);
        (answer.answer_url, answer.report_url) = (format!("{base}/{answers}"), format!("{base}/r/none"));
    }
    Some(answer)
}

/// A template by its name, if there is one.
fn own_template(world: &World, name: String) -> Option<Sourced<String>> {
    world.assets.templates.contains_key(&name).then_some(Sourced {
        value: name,
        layer: Layer::Settings,
    })
}

/// The template that `template_files` of the nearest layer says makes the file of that mangled path.
fn templated(world: &World, resolved: &Resolved, path: &str) -> Option<Sourced<String>> {
    let own = resolved.system.as_ref().map(|system| &system.extra);
    let above = resolved.profiles.iter().map(|profile| &profile.extra);
    let layers = own.into_iter().chain(above).chain([&resolved.distro.extra]);
    let found = layers
        .filter_map(|extra| extra.get("template_files"))
        .find_map(|text| {
            let dict: Dict = text.parse().ok()?;
            let (template, _) = dict.iter().find(|(_, made)| match made {
                DictValue::Values(made) => made.iter().any(|made| paths::mangled(made) == path),
                DictValue::Flag | DictValue::Deleted => false,
            })?;
            Some(template.to_owned())
        })?;
    // Cobbler's are whole paths; here they are names below kickstarts/.
    let name = found.strip_prefix("/var/lib/cobbler/templates/").unwrap_or(&found);
    own_template(world, name.to_owned())
}

/// The script of an image is for who stands on it; whether it boots is judged as ever.
fn ipxe_image(deciding: &mut Deciding<'_>, name: &str) -> Answer {
    let stands = deciding
        .system
        .as_ref()
        .is_some_and(|system| system.image_name() == name);
    if stands {
        return script::choose(deciding, Dialect::Ipxe);
    }
    deciding.not_found(
        "not for this machine",
        format!("the machine that asks does not stand on image {}", paths::shown(name)),
    )
}

fn ipxe(deciding: &mut Deciding<'_>, system: Option<&str>) -> Answer {
    let found = system.and_then(|name| deciding.world.inventory.system(name)).cloned();
    let first = found.as_ref().and_then(|system| system.macs().next());
    let Some((system, mac)) = found.zip(first) else {
        return deciding.not_found("no such system", "there is no such system, or it has no MAC");
    };
    let own = deciding.facts.mac.filter(|own| system.macs().any(|mac| mac == *own));
    let facts = Facts {
        mac: Some(own.unwrap_or(mac)),
        found_by: FoundBy::Path,
        ..deciding.facts.clone()
    };
    let mut other = Deciding::new(deciding.world, &facts);
    let answer = script::choose(&mut other, Dialect::Ipxe);
    let Deciding {
        system, trace, effects, ..
    } = other;
    (deciding.system, deciding.trace) = (system, trace);
    deciding.effects.extend(effects);
    answer
}

/// The arming of a system that the asker may report for, with what stands against it otherwise.
fn reporter(deciding: &mut Deciding<'_>, name: &str, token: Option<&str>) -> Result<Arc<Arm>, String> {
    let world = deciding.world;
    let system = world.inventory.system(name).cloned();
    let system = system.ok_or_else(|| format!("there is no system {}", paths::shown(name)))?;
    deciding.system = Some(system.clone());
    let arm = deciding.arm_of(&system);
    let arm = arm.ok_or_else(|| format!("{} is not armed", system.name))?;
    let begun = deciding.installation_of(&system).filter(|seen| seen.arm == arm.id);
    begun.ok_or_else(|| format!("{} did not fetch its installer", system.name))?;
    if let Some(token) = token {
        let genuine = [TokenKind::Report, TokenKind::Install]
            .into_iter()
            .any(|kind| Token::derive(&world.key, &arm.id, kind).matches(token));
        return genuine
            .then_some(arm)
            .ok_or_else(|| "the token reports nothing".to_owned());
    }
    let trusts_address = deciding
        .facts
        .peer
        .is_some_and(|peer| world.config.binding_of(peer) != Binding::TokenOnly);
    if !trusts_address {
        return Err("the subnet trusts the token alone, and none was shown".to_owned());
    }
    own_mac(deciding, &system).map(|_| arm)
}

/// Cobbler answers with Python's words.
fn said(deciding: &mut Deciding<'_>, rule: &str, why: Result<String, String>) -> Answer {
    let (word, why) = match why {
        Ok(why) => ("True", why),
        Err(why) => ("False", why),
    };
    deciding.trace.held(rule, why);
    Answer::Text(word.to_owned())
}

/// linuxrc of SUSE asks this before it fetches its answer file, all others when they are done.
fn nopxe(deciding: &mut Deciding<'_>, name: &str, token: Option<&str>) -> Answer {
    let arm = match reporter(deciding, name, token) {
        Ok(arm) => arm,
        Err(why) => return said(deciding, "nopxe", Err(why)),
    };
    let stage = deciding
        .system
        .clone()
        .and_then(|system| deciding.installation_of(&system)?.stage);
    if stage.is_some_and(|stage| stage >= Stage::Answers) {
        before(deciding, &arm, Input::Done);
        return said(deciding, "nopxe", Ok("the installer says that it is done".to_owned()));
    }
    said(
        deciding,
        "nopxe",
        Ok("said before the answer file was fetched: the installer has only begun".to_owned()),
    )
}

fn trigger(deciding: &mut Deciding<'_>, mode: &str, system: Option<&str>, token: Option<&str>) -> Answer {
    let Some(name) = system else {
        return said(deciding, "trigger", Err("of a profile nothing is known".to_owned()));
    };
    let arm = match reporter(deciding, name, token) {
        Ok(arm) => arm,
        Err(why) => return said(deciding, "trigger", Err(why)),
    };
    let input = match mode {
        "pre" => Input::Reached(Stage::Started),
        "post" => Input::Done,
        "firstboot" => Input::Reached(Stage::Booted),
        _ => return said(deciding, "trigger", Err("no such mode".to_owned())),
    };
    before(deciding, &arm, input);
    said(
        deciding,
        "trigger",
        Ok(format!("{} reports {}", name, paths::shown(mode))),
    )
}

fn list(deciding: &mut Deciding<'_>, what: &str) -> Answer {
    let inventory = &deciding.world.inventory;
    let Some(kind) = what.strip_suffix('s').and_then(crate::model::Kind::of) else {
        deciding.trace.held("list", "there are none of these");
        return Answer::Text(String::new());
    };
    let names: String = inventory.names(kind).map(|name| format!("{name}\n")).collect();
    deciding.trace.held("list", "names");
    Answer::Text(names)
}

/// One section for each repository in `repos`.
fn yum(deciding: &mut Deciding<'_>, system: bool, name: &str) -> Answer {
    let inventory = &deciding.world.inventory;
    let resolved = if system {
        inventory::resolve_system(inventory, name)
    } else {
        inventory::resolve_profile(inventory, name)
    };
    let Ok(resolved) = resolved else {
        return deciding.not_found("no such object", "there is nothing of that name");
    };
    let mut text = String::new();
    for source in inventory::sources(inventory, &resolved) {
        // Anyone may ask for this.
        if inventory::has_login(&source.url) || inventory::has_login(&source.proxy) {
            continue;
        }
        let name = &source.name;
        let mut lines = vec![
            ("name".to_owned(), name.clone()),
            (source.kind.to_owned(), source.url.clone()),
            ("enabled".to_owned(), "1".to_owned()),
            ("gpgcheck".to_owned(), "1".to_owned()),
        ];
        lines.extend(
            source
                .priority
                .map(|number| ("priority".to_owned(), number.to_string())),
        );
        lines.extend((!source.proxy.is_empty()).then(|| ("proxy".to_owned(), source.proxy.clone())));
        for (key, value) in &source.options {
            lines.retain(|(known, _)| known != key);
            lines.push((key.clone(), value.clone()));
        }
        text.push_str(&format!("[{name}]\n"));
        for (key, value) in lines {
            text.push_str(&format!("{key}={value}\n"));
        }
        text.push('\n');
    }
    deciding.trace.held("repositories", "of the installed system");
    Answer::Text(text)
}

/// virt-install finds a Debian installer by these names (virtinst/install/urldetect.py reads MANIFEST, then fetches the two).
fn debian_tree(deciding: &mut Deciding<'_>, name: &Name, path: &str) -> Answer {
    let Some(distro) = deciding.world.inventory.distro(name.as_str()).cloned() else {
        return deciding.not_found("no such distro", format!("there is no distro {name}"));
    };
    let file = path.rsplit('/').next().unwrap_or("");
    let netboot = path.starts_with("current/images/netboot/");
    let image = match file {
        "MANIFEST" if path == "current/images/MANIFEST" => {
            let arch = distro.arch.debian();
            let text = format!(
                "netboot/debian-installer/{arch}/linux -- kernel of debian's installer\n\
                 netboot/debian-installer/{arch}/initrd.gz -- initrd of debian's installer\n"
            );
            deciding.trace.held("Debian's manifest", "for virt-install");
            return Answer::Text(text);
        }
        "linux" if netboot => Some(distro.kernel.clone()),
        "initrd.gz" if netboot => distro.initrd.first().cloned(),
        _ => None,
    };
    let image = image.and_then(|path| path.rsplit('/').next().map(|file| format!("{}{file}", paths::IMAGE)));
    match image {
        Some(image) => files::tree_file(deciding, name, &image),
        None => deciding.not_found("no such file", "a netboot image has no such file"),
    }
}

/// What koan is told to start an installation.
#[derive(Debug, Clone)]
pub struct KoanStart {
    /// The installer's command line, without what koan adds itself.
    pub options: Vec<Entry>,
    /// URL of the answer file, where the one who asks may have it.
    pub answer: Option<String>,
    /// True while the system is armed.
    pub armed: bool,
}

/// What koan at `facts.peer` is told of a system, or of a profile for itself. The URL of a system's answer file holds its token, so it is
/// given to the machine itself and to the hypervisors that its record names.
#[must_use]
pub fn koan_start(world: &World, facts: &Facts, resolved: &Resolved) -> KoanStart {
    let deciding = Deciding::new(world, facts);
    let base = deciding.base_url();
    let profile = resolved.profiles.first().map(|profile| profile.name.clone());
    let signature = world.assets.signature_of(&resolved.distro);
    let has_template = template_of(world, resolved).is_some();
    let file = signature
        .map(|signature| signature.answer_file.clone())
        .filter(|file| !file.is_empty());
    let mut mac = None;
    let arm = resolved.system.as_ref().and_then(|system| {
        let state = deciding.state_of(system);
        deciding
            .arm_of(system)
            .filter(|arm| state.is_open() && arm.is_in_force(world.now))
    });
    let armed = arm.is_some();
    let urls = match (&resolved.system, &profile) {
        (Some(system), Some(profile)) => {
            mac = own_mac(&deciding, system).ok().or_else(|| system.macs().next());
            let trusted = own_mac(&deciding, system).is_ok() && binds(&deciding) || hypervisor(&deciding, resolved);
            arm.filter(|_| trusted && has_template).map(|arm| {
                let token = Token::derive(&world.key, &arm.id, TokenKind::Install);
                let report = Token::derive(&world.key, &arm.id, TokenKind::Report);
                let answers = paths::cobbler_answer(Some((&system.name, &token)), profile);
                (
                    format!("{base}/{answers}"),
                    format!("{base}/{}", paths::report(&report)),
                )
            })
        }
        (None, Some(profile)) if has_template && is_anonymous(&world.inventory, profile.as_str()) => {
            let answers = paths::cobbler_answer(None, profile);
            Some((format!("{base}/{answers}"), format!("{base}/r/none")))
        }
        _ => None,
    };
    let hostname = resolved.system.as_ref().map_or_else(String::new, |system| {
        let own = system.hostname.as_ref().map(|name| name.as_str().to_owned());
        own.unwrap_or_else(|| system.name.to_string())
    });
    let own = &resolved.kernel_options;
    let subject = script::Subject {
        urls: urls.clone(),
        hostname: &hostname,
        mac,
    };
    let mut options: Vec<Entry> = script::signature_options(&deciding, resolved, &subject)
        .into_iter()
        .filter(|entry| own.entries.iter().all(|own| own.key != entry.key))
        .filter(|entry| resolved.kernel_option_deleted_by(&entry.key).is_none())
        .collect();
    options.extend(own.entries.iter().cloned());
    let answer = urls.map(|(answers, _)| match file {
        Some(file) => format!("{answers}/{file}"),
        None => answers,
    });
    KoanStart { options, answer, armed }
}

/// The address alone says who asks.
fn binds(deciding: &Deciding<'_>) -> bool {
    deciding
        .facts
        .peer
        .is_some_and(|peer| deciding.world.config.binding_of(peer) != Binding::TokenOnly)
}

/// The asker is a hypervisor whose koan may start this system's installation.
fn hypervisor(deciding: &Deciding<'_>, resolved: &Resolved) -> bool {
    let allowed = inventory::resolved_extra(resolved, "koan_hosts").unwrap_or_default();
    let Some(peer) = deciding.facts.peer else { return false };
    allowed
        .split([' ', ','])
        .filter_map(|address| address.trim_matches('"').parse::<Ipv4Addr>().ok())
        .any(|address| address == peer)
}
