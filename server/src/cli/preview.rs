//! Answer files as admins see them before a machine does: `get-autoinstall`, `dumpvars`, and the look before arming.

use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::object::unknown;
use crate::boot::{AnswerFile, World, preview, previews};
use crate::inventory::{Inventory, Resolved, resolve_image, resolve_profile, resolve_system};
use crate::model::{Kind, Name};
use crate::render;
pub(super) use crate::render::{missing_template, remedy};
use serde_json::{Value, json};

/// An object with all that it inherits.
pub(super) fn resolve(kind: Kind, name: &str, inventory: &Inventory) -> Result<Resolved, Failure> {
    if inventory.row(kind, name).is_none() {
        return Err(unknown(inventory, kind, name));
    }
    Ok(match kind {
        Kind::System => resolve_system(inventory, name)?,
        Kind::Image => resolve_image(inventory, name)?,
        Kind::Profile | Kind::Distro | Kind::Repo | Kind::Menu => resolve_profile(inventory, name)?,
    })
}

/// Its answer file; none when no layer names a template.
pub(super) fn answer(world: &World, resolved: Resolved) -> Option<AnswerFile> {
    let local = local_address(world, &resolved);
    preview(world, resolved, local)
}

/// Its answer file and those that the installer asks for beside it, the main one first; none when no layer names a template.
pub(super) fn answers(world: &World, resolved: Resolved) -> Vec<AnswerFile> {
    let local = local_address(world, &resolved);
    previews(world, resolved, local)
}

/// The address of this host towards it.
pub(super) fn local_address(world: &World, resolved: &Resolved) -> std::net::Ipv4Addr {
    let system = resolved.system.as_ref();
    let address = system.and_then(|system| system.interfaces.values().find_map(|interface| interface.ip_address));
    super::host::local_address(&world.config, address)
}

/// Everyone who may be given an answer file: all profiles, then at most `systems` systems. A fault of a profile is a fault of all its
/// systems, so profiles come first.
pub(super) fn everyone(world: &World, systems: usize) -> Vec<(Kind, Name)> {
    let profiles = world.inventory.profiles().map(|one| (Kind::Profile, one.name.clone()));
    // An image has no answer file.
    let systems = world
        .inventory
        .systems()
        .filter(|system| system.image.is_none())
        .take(systems);
    profiles
        .chain(systems.map(|one| (Kind::System, one.name.clone())))
        .collect()
}

/// What its template sees, secrets hidden.
pub(super) fn variables(answer: &AnswerFile, world: &World) -> Vec<(String, Value)> {
    render::variables(answer, world)
        .into_iter()
        .map(|variable| (variable.name.to_string(), variable.shown()))
        .collect()
}

/// `get-autoinstall`: what the installer would fetch.
pub(super) fn get_autoinstall(kind: Kind, name: &str, desk: &Desk) -> Result<Ended, Failure> {
    let world = desk.world(desk.inventory_about(kind, name)?)?;
    let resolved = resolve(kind, name, &world.inventory)?;
    let Some(answer) = answer(&world, resolved) else {
        return Err(no_template(kind, name));
    };
    let text = rendered(&answer, &world)?;
    desk.printer.either(
        &json!({
            "name": name,
            "file": answer.file,
            "template": answer.template.value,
            "chosen_by": answer.template.layer.to_string(),
            "text": text,
        }),
        &text,
    )?;
    desk.printer.detail(format!(
        "{} from {}, chosen by {}",
        answer.file, answer.template.value, answer.template.layer
    ));
    Ok(Ended::Well)
}

/// The refusal where no layer names a template.
pub(super) fn no_template(kind: Kind, name: &str) -> Failure {
    Failure::said(
        format!("{kind} `{name}` has no answer file: neither it, nor what it inherits from, names a template"),
        format!("cordwainer {kind} edit {name} --autoinstall TEMPLATE; `cordwainer template list` names them"),
    )
}

/// The text of an answer file, or what is wrong with its template.
pub(super) fn rendered(answer: &AnswerFile, world: &World) -> Result<String, Failure> {
    render::answer_file(answer, world).map_err(|error| {
        let remedy = remedy(answer, &error.template, world);
        Failure::said(error, remedy)
    })
}
