//! `sync`: what Cobbler's scripts call after a change. Here every file is made when a machine asks for it, so there is nothing to write;
//! what can be done is to look whether all that is stored can be served, and whether the daemon serves it.

use super::args::Sync;
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::{link, object, preview};
use crate::inventory::repo_problems;
use crate::model::{Kind, Name};
use crate::render;
use crate::store::InventoryDb;
use serde_json::json;

pub(super) fn run(options: &Sync, desk: &Desk) -> Result<Ended, Failure> {
    let version = if desk.has_state()? {
        InventoryDb::open(&desk.folder()?)?.load()?.1
    } else {
        0
    };
    let world = desk.world(desk.inventory()?)?;
    let asked: Vec<(Kind, Name)> = if options.systems.is_empty() {
        preview::everyone(&world, usize::MAX)
    } else {
        let named = options.systems.iter().map(|name| {
            let known = world
                .inventory
                .system(name)
                .map(|system| (Kind::System, system.name.clone()));
            known.ok_or_else(|| object::unknown(&world.inventory, Kind::System, name))
        });
        named.collect::<Result<_, _>>()?
    };
    let mut problems = Vec::new();
    let mut files = 0_usize;
    for (kind, name) in asked {
        let resolved = match preview::resolve(kind, name.as_str(), &world.inventory) {
            Ok(resolved) => resolved,
            Err(broken) => {
                problems.push(format!("{kind} {name}: {}", broken.text().trim()));
                continue;
            }
        };
        for answer in preview::answers(&world, resolved) {
            files = files.saturating_add(1);
            if let Err(error) = render::answer_file(&answer, &world) {
                problems.push(format!("{kind} {name}: {}: {error}", answer.file));
            }
        }
    }
    problems.extend(repo_problems(&world.inventory));
    let runs = link::answers(&desk.settings.config.state);
    let served = runs && link::serves(&desk.settings.config.state, version);
    let daemon = match (runs, served) {
        (true, true) => "the daemon serves all that is stored",
        (true, false) => "the daemon does not serve yet what was stored last; cordwainer check says more",
        (false, _) => "the daemon does not run; once it does, it serves all that is stored",
    };
    let mut text: String = problems
        .iter()
        .map(|problem| format!("wrong     {problem}\n"))
        .collect();
    text.push_str(&format!(
        "checked   {} distros, {} profiles, {} systems: {files} answer files, {} problems\n",
        world.inventory.distros().count(),
        world.inventory.profiles().count(),
        world.inventory.system_count(),
        problems.len()
    ));
    text.push_str(&format!("served    {daemon}\n"));
    text.push_str("written   nothing: every boot file is made when a machine asks for it, so an edit counts at once\n");
    let value = json!({"files": files, "problems": problems, "daemon": runs, "served": served, "written": 0});
    desk.printer.either(&value, &text)?;
    for (given, what) in [(options.dhcp, "DHCP"), (options.dns, "DNS")] {
        if given {
            desk.printer.note(format!(
                "note      no other {what} server's configuration is written here"
            ));
        }
    }
    if let Ok(Some(daemon)) = link::daemon(&desk.settings.config.state)
        && let Err(error) = daemon.synced()
    {
        desk.printer
            .note(format!("warning   the hooks of a sync are not run: {error}"));
    }
    let well = problems.is_empty() && (served || !runs);
    Ok(if well { Ended::Well } else { Ended::No })
}
