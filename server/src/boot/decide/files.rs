//! Files and reports: loaders, trees, and what a token opens.

use super::Deciding;
use crate::assets::Asset;
use crate::boot::preview::{beside, template_of};
use crate::boot::{Answer, AnswerFile, Effect, When, paths};
use crate::install::{Act, Arm, Input, Installation, Stage, State, Token, TokenKind};
use crate::inventory;
use crate::model::{Distro, Name};
use std::sync::Arc;

/// Longest reason that an installer can give for its failure.
const REASON: usize = 200;

/// A loader by its name.
pub(super) fn loader(deciding: &mut Deciding<'_>, name: &str) -> Answer {
    match deciding.world.assets.loaders.get(name).cloned() {
        Some(asset) => {
            deciding
                .trace
                .held("loader", format!("{name} is {}", asset.path.display()));
            if let Some((mac, address)) = deciding.facts.mac.zip(deciding.facts.peer) {
                deciding.effects.push(Effect::Seen {
                    mac,
                    address,
                    firmware: deciding.facts.firmware,
                    loader: true,
                });
            }
            within_image(deciding, &asset).unwrap_or(Answer::Loader(asset))
        }
        None => deciding.not_found("no such loader", format!("there is no loader {}", paths::shown(name))),
    }
}

/// The loader as a file of the image that holds it; none for one that lies on the disk as it is.
fn within_image(deciding: &Deciding<'_>, asset: &Asset) -> Option<Answer> {
    deciding.world.inventory.distros().find_map(|distro| {
        let tree = distro.tree.as_ref().filter(|tree| tree.iso.is_some())?;
        let path = asset.path.strip_prefix(&tree.root).ok()?.to_str()?;
        (!path.is_empty()).then(|| Answer::TreeFile {
            distro: distro.name.clone(),
            root: tree.root.clone(),
            iso: tree.iso,
            overlay: tree.overlay.clone(),
            path: path.to_owned(),
        })
    })
}

/// A file of a distro's tree, or its kernel and initrd where it has no tree.
pub(super) fn tree_file(deciding: &mut Deciding<'_>, name: &Name, path: &str) -> Answer {
    let Some(distro) = deciding.world.inventory.distro(name.as_str()).cloned() else {
        return deciding.not_found("no such distro", format!("there is no distro {name}"));
    };
    let by_name = path.strip_prefix(paths::IMAGE).map(|file| image_path(&distro, file));
    let path = match &by_name {
        Some(Some(path)) => path.as_str(),
        Some(None) => return deciding.not_found("no such file", format!("distro {name} has no such kernel or initrd")),
        None => path,
    };
    infer_stage(deciding, &distro, path);
    if let Some(tree) = &distro.tree {
        let media = deciding.world.assets.media.get(name);
        let serves = media.map_or_else(
            || Err("its files were not looked at yet".to_owned()),
            |media| media.serves(&tree.root),
        );
        if let Err(why) = serves {
            return deciding.not_found("not served", format!("distro {name}: {why}"));
        }
        deciding.trace.held("tree", format!("a file of distro {name}"));
        return Answer::TreeFile {
            distro: name.clone(),
            root: tree.root.clone(),
            iso: tree.iso,
            overlay: tree.overlay.clone(),
            path: path.to_owned(),
        };
    }
    let media = deciding.world.assets.media.get(name);
    let asset = match path {
        "-/kernel" => media.and_then(|media| media.kernel.clone().ok()),
        _ => path
            .strip_prefix("-/initrd")
            .and_then(|place| place.parse::<usize>().ok())
            .and_then(|place| {
                media
                    .and_then(|media| media.initrd.get(place).cloned())
                    .and_then(Result::ok)
            }),
    };
    match asset {
        Some(asset) => {
            deciding
                .trace
                .held("media", format!("{} of distro {name}", asset.path.display()));
            Answer::Loader(Arc::new(asset))
        }
        None => deciding.not_found("no such file", format!("distro {name} has no tree")),
    }
}

/// The path of the kernel or initrd that has this bare name.
fn image_path(distro: &Distro, file: &str) -> Option<String> {
    let bare = |path: &str| path.rsplit('/').next() == Some(file);
    let in_tree = distro.tree.is_some();
    if bare(&distro.kernel) {
        return Some(if in_tree {
            distro.kernel.clone()
        } else {
            "-/kernel".to_owned()
        });
    }
    let place = distro.initrd.iter().position(|path| bare(path))?;
    let path = distro.initrd.get(place)?;
    Some(if in_tree {
        path.clone()
    } else {
        format!("-/initrd{place}")
    })
}

/// The stage that fetching this file means for the machine's installation; noted once, never backwards.
fn infer_stage(deciding: &mut Deciding<'_>, distro: &Distro, path: &str) {
    let Some(system) = deciding.system.clone() else { return };
    let Some(arm) = deciding.arm_of(&system) else { return };
    let Some(seen) = deciding
        .installation_of(&system)
        .filter(|seen| seen.arm == arm.id && seen.state.is_open())
    else {
        return;
    };
    let inferred = if path == distro.kernel || path == "-/kernel" {
        Some(Stage::Kernel)
    } else if distro.initrd.iter().any(|initrd| initrd == path) || path.starts_with("-/initrd") {
        Some(Stage::Initrd)
    } else {
        deciding
            .world
            .assets
            .signature_of(distro)
            .and_then(|signature| signature.stage_of(path))
            .and_then(Stage::of)
    };
    if let Some(stage) = inferred.filter(|stage| seen.stage.is_none_or(|furthest| *stage > furthest)) {
        deciding.effects.push(Effect::Install {
            when: When::After,
            act: Act {
                arm: (*arm).clone(),
                input: Input::Reached(stage),
            },
        });
    }
}

/// The arming and installation that a token belongs to, if it proves its right.
fn by_token(
    deciding: &Deciding<'_>,
    text: &str,
    kind: TokenKind,
) -> Result<(Arc<Arm>, Arc<Installation>), &'static str> {
    let world = deciding.world;
    let installation = Token::claimed_arm(text)
        .and_then(|arm| world.installs.of_arm(&arm).cloned())
        .ok_or("unknown token")?;
    if !Token::derive(&world.key, &installation.arm, kind).matches(text) {
        return Err("unknown token");
    }
    let arm = world
        .inventory
        .arm(installation.system.as_str())
        .filter(|arm| arm.id == installation.arm)
        .cloned()
        .ok_or("disarmed")?;
    Ok((arm, installation))
}

/// An answer file of one installation.
pub(super) fn answer_file(deciding: &mut Deciding<'_>, token: &str, file: &str) -> Answer {
    let (arm, installation) = match by_token(deciding, token, TokenKind::Install) {
        Ok(found) => found,
        Err(cause) => return deciding.not_found(cause, "the token opens nothing"),
    };
    // The token, not the address, says which machine this is.
    deciding.system = deciding.world.inventory.system(installation.system.as_str()).cloned();
    if !installation.state.is_open() {
        let rule = if installation.state == State::Installed {
            "done"
        } else {
            "over"
        };
        return deciding.not_found(rule, format!("{} is {}", installation.system, installation.state));
    }
    if !arm.is_in_force(deciding.world.now) {
        return deciding.not_found("expired", arm.why_not(deciding.world.now));
    }
    let (Some(mac), Some(peer)) = (installation.mac, deciding.facts.peer) else {
        return deciding.not_found("wrong address", "the request has no address to judge");
    };
    match deciding.owns_address(mac, peer, Some(&installation)) {
        Ok(why) => deciding.trace.held("binding", why),
        Err(why) => return deciding.not_found("wrong address", why),
    }
    let resolved = match inventory::resolve_system(&deciding.world.inventory, installation.system.as_str()) {
        Ok(resolved) => resolved,
        Err(broken) => return deciding.not_found("broken record", broken.to_string()),
    };
    let Some(template) = template_of(deciding.world, &resolved) else {
        return deciding.not_found(
            "no template",
            format!("profile of {} names no answer file", installation.system),
        );
    };
    let template = named(deciding, &resolved, template, file);
    let Some(template) = template else {
        return deciding.not_found(
            "no such answer file",
            format!("{} is not a file of this installation", paths::shown(file)),
        );
    };
    deciding.trace.held(
        "answer file",
        format!(
            "{} for {}, chosen by {}",
            template.value, installation.system, template.layer
        ),
    );
    deciding.effects.push(Effect::Install {
        when: When::Before,
        act: Act {
            arm: (*arm).clone(),
            input: Input::AnswersFetched,
        },
    });
    let world = deciding.world;
    let base_url = deciding.base_url();
    Answer::AnswerFile(Box::new(AnswerFile {
        file: file.to_owned(),
        template,
        tree_url: match resolved.distro.tree {
            Some(_) => format!("{base_url}/{}", paths::tree(&resolved.distro.name, "")),
            None => String::new(),
        },
        answer_url: format!(
            "{base_url}/{}",
            paths::answers(&Token::derive(&world.key, &arm.id, TokenKind::Install))
        ),
        report_url: format!(
            "{base_url}/{}",
            paths::report(&Token::derive(&world.key, &arm.id, TokenKind::Report))
        ),
        base_url,
        arm: Some(arm.id.clone()),
        mac: Some(mac),
        address: Some(peer),
        resolved,
    }))
}

/// The template of the file that is asked for, of those that this installation has.
pub(super) fn named(
    deciding: &Deciding<'_>,
    resolved: &inventory::Resolved,
    main: inventory::Sourced<String>,
    file: &str,
) -> Option<inventory::Sourced<String>> {
    let signature = deciding.world.assets.signature_of(&resolved.distro);
    let expected = signature.map(|signature| signature.answer_file.as_str());
    let own_name = main.value.rsplit('/').next().unwrap_or("");
    if file == own_name || expected == Some(file) {
        return Some(main);
    }
    let mut others = beside(deciding.world, resolved).into_iter();
    others.find_map(|(name, template)| (name == file).then_some(template))
}

/// A stage, done or failed, as an installer reports it.
pub(super) fn report(deciding: &mut Deciding<'_>, token: &str, word: &str, detail: Option<&str>) -> Answer {
    let (arm, installation) = match by_token(deciding, token, TokenKind::Report) {
        Ok(found) => found,
        Err(cause) => return deciding.not_found(cause, "the token reports nothing"),
    };
    deciding.system = deciding.world.inventory.system(installation.system.as_str()).cloned();
    let input = match (word, Stage::of(word)) {
        ("failed", _) => {
            let reason: String = detail.unwrap_or("the installer said so").chars().take(REASON).collect();
            Some(Input::Failed(reason))
        }
        (_, Some(Stage::Done)) => Some(Input::Done),
        (_, Some(stage)) => Some(Input::Reached(stage)),
        // A word of the template's own: shown in the trace, changes nothing.
        (_, None) => None,
    };
    deciding.trace.held(
        "report",
        format!("{} reports {}", installation.system, paths::shown(word)),
    );
    if let Some(input) = input {
        deciding.effects.push(Effect::Install {
            when: When::Before,
            act: Act {
                arm: (*arm).clone(),
                input,
            },
        });
    }
    Answer::Accepted
}
