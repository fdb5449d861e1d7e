//! `boot explain`: asks the same `decide` that machines ask, and prints the answer, why, what was passed over, and the layer of each
//! kernel option. Changes nothing, shows no token.

use super::args::{Explain, StageOfBoot};
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::print::{table, with};
use super::{host, object};
use crate::boot::{
    Answer, Ask, BootFile, Decision, Dialect, Effect, Facts, FoundBy, Ipxe, Launch, Request, Script, World, decide,
};
use crate::config::DhcpMode;
use crate::install::{Input, Installation, Token, TokenKind, step};
use crate::inventory::Inventory;
use crate::model::{Arm, Firmware, Kind, Mac, System, Timestamp};
use crate::render;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// The firmware of a machine that was never seen: what most machines of today have.
const ASSUMED: Firmware = Firmware::UefiX64;

/// The machine that is asked about.
pub(super) struct Machine {
    /// The address that it would boot with.
    pub(super) mac: Mac,
    /// Its record.
    pub(super) system: Option<Arc<System>>,
}

/// Finds a machine by its name or MAC. A MAC that nobody has is an unknown machine, which is a fair question.
pub(super) fn machine(word: &str, inventory: &Inventory) -> Result<Machine, Failure> {
    if let Some(system) = inventory.system(word) {
        let Some(mac) = system.macs().next() else {
            let known = system
                .interfaces
                .values()
                .any(|interface| interface.client_id.is_some() || interface.relay_port().is_some());
            let only = if known {
                "; its client identifier or port chooses its address alone, what a machine boots goes by its MAC"
            } else {
                ""
            };
            return Err(Failure::said(
                format!("system `{word}` has no MAC address, so no machine can be recognised as it{only}"),
                format!("cordwainer system edit {word} --mac-address MAC"),
            ));
        };
        return Ok(Machine {
            mac,
            system: Some(Arc::clone(system)),
        });
    }
    match word.parse::<Mac>() {
        Ok(mac) => Ok(Machine {
            mac,
            system: inventory.system_by_mac(mac).cloned(),
        }),
        Err(_) => Err(object::unknown(inventory, Kind::System, word)),
    }
}

/// A world in which the machine that asks is where a real one would be at that stage.
struct Scene {
    world: World,
    machine: Machine,
    firmware: Firmware,
    local: Ipv4Addr,
    /// The machine's address, if it can be told.
    address: Option<Ipv4Addr>,
}

pub(super) fn run(options: &Explain, desk: &Desk) -> Result<Ended, Failure> {
    let world = desk.world(desk.inventory()?)?;
    let word = options.place.as_deref().or(options.name.as_deref()).unwrap_or_default();
    let machine = machine(word, &world.inventory)?;
    let reserved = machine
        .system
        .as_ref()
        .and_then(|system| system.interface_of(machine.mac))
        .and_then(|(_, interface)| interface.ip_address);
    let held = world
        .installs
        .holders
        .iter()
        .find(|(_, mac)| **mac == machine.mac)
        .map(|(address, _)| *address);
    let address = reserved.or(held);
    let firmware = options.arch.unwrap_or_else(|| {
        let seen = super::trace::firmware_of(word, &machine, desk);
        if seen.is_none() {
            desk.printer.note(format!(
                "no boot of {word} is known, so {ASSUMED} firmware is assumed; --arch bios, uefi, uefi-http or arm64 names it"
            ));
        }
        seen.unwrap_or(ASSUMED)
    });
    let scene = Scene {
        local: host::local_address(&world.config, address),
        world,
        machine,
        firmware,
        address,
    };
    let stages = match options.stage {
        Some(stage) => vec![stage],
        None => vec![
            StageOfBoot::Rom,
            StageOfBoot::Ipxe,
            StageOfBoot::Script,
            StageOfBoot::Answers,
        ],
    };
    let mut texts = Vec::new();
    let mut values = Vec::new();
    for stage in stages {
        let (world, decision) = ask(&scene, stage);
        texts.push(as_text(&scene, &world, stage, &decision, options.stage.is_none()));
        values.push(as_json(&scene, stage, &decision));
    }
    if desk.printer.json {
        let system = scene.machine.system.as_ref().map(|system| system.name.clone());
        desk.printer.json(&json!({"system": system, "mac": scene.machine.mac, "firmware": scene.firmware.to_string(), "stages": values}))?;
    } else {
        desk.printer.data(&texts.join("\n"))?;
    }
    Ok(Ended::Well)
}

/// Asks what the machine would ask at that stage.
fn ask(scene: &Scene, stage: StageOfBoot) -> (World, Decision) {
    let mut world = scene.world.clone();
    let is_uefi_http = scene.firmware.is_http();
    let mut facts = Facts {
        mac: Some(scene.machine.mac),
        found_by: FoundBy::Chaddr,
        firmware: Some(scene.firmware),
        vendor_class: Some(if is_uefi_http { "HTTPClient" } else { "PXEClient" }.to_owned()),
        ..Facts::nobody(scene.local)
    };
    let asked = match stage {
        StageOfBoot::Rom => Ask::BootFile,
        StageOfBoot::Ipxe => {
            facts.ipxe = Some(Ipxe {
                http: true,
                bzimage: scene.firmware == Firmware::Bios,
                version: None,
            });
            Ask::BootFile
        }
        StageOfBoot::Script => {
            settle(scene, &mut world, &mut facts);
            Ask::Script(Dialect::Ipxe)
        }
        StageOfBoot::Answers => {
            settle(scene, &mut world, &mut facts);
            let (token, file) = claimed(scene, &mut world, &facts);
            Ask::AnswerFile { token, file }
        }
    };
    let request = Request { facts, ask: asked };
    let decision = decide(&world, &request);
    (world, decision)
}

/// Gives the machine its address, as a boot that came this far has one.
fn settle(scene: &Scene, world: &mut World, facts: &mut Facts) {
    let first = world
        .config
        .subnets
        .first()
        .and_then(|subnet| subnet.pool)
        .map(|pool| pool.first);
    // RFC 5737 names an address that nobody has, for a network of which nothing is known.
    let address = scene.address.or(first).unwrap_or(Ipv4Addr::new(192, 0, 2, 1));
    facts.peer = Some(address);
    facts.found_by = FoundBy::Path;
    facts.neighbour = Some(scene.machine.mac);
    Arc::make_mut(&mut world.installs)
        .holders
        .insert(address, scene.machine.mac);
}

/// The token and file that the boot script would name, and the installation that handing the script out would begin.
fn claimed(scene: &Scene, world: &mut World, facts: &Facts) -> (String, String) {
    let nothing = (String::new(), String::new());
    let Some(system) = &scene.machine.system else {
        return nothing;
    };
    let Some(arm) = world.inventory.arm(system.name.as_str()).cloned() else {
        return nothing;
    };
    let before = world.installs.by_system.get(&system.name).cloned();
    let launch = Input::Launch {
        mac: scene.machine.mac,
        address: facts.peer.unwrap_or(Ipv4Addr::UNSPECIFIED),
        behind: false,
        asked: None,
    };
    let open = before.as_ref().is_none_or(|seen| seen.arm != arm.id);
    let after: Option<Installation> = if open {
        step(&arm, before.as_deref(), &launch, world.now)
    } else {
        None
    };
    if let Some(installation) = after {
        Arc::make_mut(&mut world.installs).put(installation);
    }
    let file = super::preview::resolve(Kind::System, system.name.as_str(), &world.inventory)
        .ok()
        .and_then(|resolved| crate::boot::preview(world, resolved, scene.local))
        .map(|answer| answer.file);
    (
        Token::derive(&world.key, &arm.id, TokenKind::Install)
            .reveal()
            .to_owned(),
        file.unwrap_or_default(),
    )
}

/// `41 min`, `3 h`: how long ago, or how long still.
pub(super) fn roughly(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `db2 is armed until 2026-11-21T13:10:00Z (by root, 41 min ago)`.
pub(super) fn armed(arm: &Arm, now: Timestamp) -> String {
    if arm.is_in_force(now) {
        format!(
            "armed until {} (by {}, {} ago)",
            arm.until,
            arm.by,
            roughly(now.since(arm.at))
        )
    } else {
        arm.why_not(now)
    }
}

/// Tokens are for machines. The key of this process is none of the daemon's, and even so its tokens are not shown.
fn without_tokens(text: &str, world: &World) -> String {
    let mut text = text.to_owned();
    for arm in world.inventory.arms() {
        for kind in [TokenKind::Install, TokenKind::Report] {
            text = text.replace(Token::derive(&world.key, &arm.id, kind).reveal(), "<token>");
        }
    }
    text
}

const fn title(stage: StageOfBoot) -> &'static str {
    match stage {
        StageOfBoot::Rom => "firmware asks by DHCP",
        StageOfBoot::Ipxe => "iPXE asks by DHCP",
        StageOfBoot::Script => "iPXE asks for its boot script",
        StageOfBoot::Answers => "the installer asks for its answer file",
    }
}

const fn stage_word(stage: StageOfBoot) -> &'static str {
    match stage {
        StageOfBoot::Rom => "rom",
        StageOfBoot::Ipxe => "ipxe",
        StageOfBoot::Script => "script",
        StageOfBoot::Answers => "answers",
    }
}

/// The offer's address in words: only the daemon knows which of the pool it would be.
fn offer(scene: &Scene) -> String {
    if scene.world.config.dhcp != DhcpMode::Authoritative {
        return "proxy OFFER (another server gives the address)".to_owned();
    }
    match (scene.address, scene.world.config.subnets.first()) {
        (Some(address), _) => format!("OFFER {address}"),
        (None, Some(subnet)) => match subnet.pool {
            Some(pool) => format!("OFFER an address of {pool}"),
            None => format!(
                "nothing: {} has no pool, and the machine no --ip-address",
                subnet.network
            ),
        },
        (None, None) => "nothing: there is no [[subnet]]".to_owned(),
    }
}

/// What would be sent, in one line; for a script, its text follows.
fn sent(scene: &Scene, decision: &Decision) -> String {
    match &decision.answer {
        Answer::Silence => "nothing".to_owned(),
        Answer::NotFound => "404 not found, the same for every cause".to_owned(),
        Answer::BootFile(BootFile::Tftp { file, server }) => {
            format!("{}  file {file}  next-server {server}", offer(scene))
        }
        Answer::BootFile(BootFile::Url(url)) => format!("{}  URL {url}", offer(scene)),
        Answer::BootFile(BootFile::None) => format!("{}  without a boot file", offer(scene)),
        Answer::Script(script) => match &**script {
            Script::Launch(launch) => format!("a boot script that starts the installer of profile {}", launch.profile),
            Script::Image(boot) => format!("a boot script that boots image {}, once", boot.image),
            Script::Local { because, .. } => format!("a boot script that boots its own disk: {because}"),
            Script::Menu(menu) => format!(
                "a menu of {} profiles; its own disk after {} s",
                menu.entries.len(),
                menu.timeout_ms / 1000
            ),
        },
        Answer::Loader(asset) => format!("{} ({})", asset.path.display(), crate::event::size(asset.size)),
        Answer::TreeFile { distro, path, .. } => format!("{path} of distro {distro}"),
        Answer::AnswerFile(answer) => {
            format!(
                "answer file {} rendered from {} (chosen by {})",
                answer.file, answer.template.value, answer.template.layer
            )
        }
        Answer::Accepted => "the report is taken".to_owned(),
        Answer::Elsewhere(url) => format!("the way to {url}"),
        Answer::Public { path, .. } => format!("{path} of the public folder"),
        Answer::Text(text) => format!("the text {}", text.escape_debug()),
    }
}

/// Lines under a label: the label stands before the first.
fn labelled(label: &str, lines: &[String]) -> String {
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let label = if index == 0 { label } else { "" };
        text.push_str(format!("{label:11} {line}").trim_end());
        text.push('\n');
    }
    text
}

fn as_text(scene: &Scene, world: &World, stage: StageOfBoot, decision: &Decision, titled: bool) -> String {
    let mut text = if titled {
        format!("{}\n", title(stage))
    } else {
        String::new()
    };
    text.push_str(&labelled("would send", &[sent(scene, decision)]));
    let mut because: Vec<String> = Vec::new();
    match &scene.machine.system {
        Some(system) => match world.inventory.arm(system.name.as_str()) {
            Some(arm) if arm.is_in_force(world.now) => {
                because.push(format!("{} is {}", system.name, armed(arm, world.now)));
            }
            Some(arm) => because.push(arm.why_not(world.now)),
            None => because.push(format!("{} is not armed", system.name)),
        },
        None => because.push(format!("no system has {}", scene.machine.mac)),
    }
    because.extend(
        decision
            .trace
            .rules
            .iter()
            .filter(|rule| rule.held)
            .map(|rule| format!("{}: {}", rule.name, rule.why)),
    );
    text.push_str(&labelled("because", &because));
    let passed: Vec<String> = decision
        .trace
        .rules
        .iter()
        .filter(|rule| !rule.held)
        .map(|rule| format!("{}: {}", rule.name, rule.why))
        .collect();
    text.push_str(&labelled("passed over", &passed));
    let effects: Vec<String> = decision.effects.iter().filter_map(effect).collect();
    text.push_str(&labelled("would note", &effects));
    if let Answer::Script(script) = &decision.answer {
        if let Script::Launch(launch) = &**script {
            text.push_str(&options(launch));
        }
        text.push_str("the script\n");
        for line in render::script(script).lines() {
            text.push_str(format!("  {line}").trim_end());
            text.push('\n');
        }
    }
    without_tokens(&text, world)
}

/// What sending it would change.
fn effect(effect: &Effect) -> Option<String> {
    match effect {
        Effect::Install { act, .. } => Some(match &act.input {
            Input::Launch { .. } => "the installer was handed out to this machine".to_owned(),
            Input::BootedAgain => "it booted again in mid-installation: held from then on".to_owned(),
            Input::ImageFetched => "it fetched its image, which spends the arming".to_owned(),
            Input::AnswersFetched => "it fetched its answer file".to_owned(),
            Input::Reached(stage) => format!("it reached {stage}"),
            Input::Done => "it is installed".to_owned(),
            Input::Failed(why) => format!("it failed: {why}"),
            Input::Silent(_) => "it fell silent".to_owned(),
        }),
        Effect::Seen { .. } => None,
    }
}

/// The kernel command line, each option with its layer, and what a layer took away.
fn options(launch: &Launch) -> String {
    let mut rows = Vec::new();
    for entry in &launch.options {
        let layer = entry.layer.to_string();
        match &entry.values {
            None => rows.push(vec![format!("  {}", entry.key), layer]),
            Some(values) => {
                rows.extend(
                    values
                        .iter()
                        .map(|value| vec![format!("  {}={value}", entry.key), layer.clone()]),
                );
            }
        }
    }
    for removed in &launch.removed {
        rows.push(vec![
            format!("  !{}", removed.key),
            format!("removed by {} (was set by {})", removed.removed_by, removed.set_by),
        ]);
    }
    // One long URL would push every layer out of sight.
    let width = rows
        .iter()
        .filter_map(|row| row.first())
        .map(|cell| cell.chars().count())
        .filter(|width| *width <= 48)
        .max()
        .unwrap_or(0);
    let mut text = String::from("kernel options, each with its layer\n");
    for row in &rows {
        let (cell, layer) = (
            row.first().cloned().unwrap_or_default(),
            row.last().cloned().unwrap_or_default(),
        );
        text.push_str(&format!("{cell:width$}  {layer}\n"));
    }
    if rows.is_empty() {
        text.push_str(&table(&[vec!["  none".to_owned()]]));
    }
    text
}

fn as_json(scene: &Scene, stage: StageOfBoot, decision: &Decision) -> Value {
    let rules: Vec<Value> = decision
        .trace
        .rules
        .iter()
        .map(|rule| json!({"rule": rule.name, "held": rule.held, "why": rule.why}))
        .collect();
    let mut value = json!({
        "stage": stage_word(stage),
        "would_send": without_tokens(&sent(scene, decision), &scene.world),
        "rules": rules,
        "would_note": decision.effects.iter().filter_map(effect).collect::<Vec<_>>(),
    });
    if let Answer::Script(script) = &decision.answer {
        value = with(
            value,
            json!({"script": without_tokens(&render::script(script), &scene.world)}),
        );
        if let Script::Launch(launch) = &**script {
            let options: Vec<Value> = launch
                .options
                .iter()
                .map(|entry| {
                    let values: Option<Vec<String>> = entry
                        .values
                        .as_ref()
                        .map(|values| values.iter().map(|value| without_tokens(value, &scene.world)).collect());
                    json!({"key": entry.key, "values": values, "layer": entry.layer.to_string()})
                })
                .collect();
            let removed: Vec<Value> = launch
                .removed
                .iter()
                .map(|removed| json!({"key": removed.key, "set_by": removed.set_by.to_string(), "removed_by": removed.removed_by.to_string()}))
                .collect();
            value = with(value, json!({"kernel_options": options, "removed": removed}));
        }
    }
    value
}
