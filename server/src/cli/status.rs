//! `status`: how every machine stands, those first that somebody should look at; or the table that Cobbler prints.

use super::args::Status;
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::explain::roughly;
use super::link;
use super::print::table;
use crate::event::control::Seen;
use crate::install::{self, Stage};
use crate::inventory::Inventory;
use crate::model::{Name, State};
use crate::xmlrpc::status as cobbler;
use serde_json::{Value, json};

/// One machine.
struct Stand {
    name: Name,
    state: State,
    /// The furthest stage of the installation; `step` may say instead what the boot under way waits for.
    stage: Option<Stage>,
    step: String,
    since: Option<std::time::Duration>,
    from: Option<std::net::Ipv4Addr>,
    boots: u32,
    hint: String,
}

fn stand(name: &Name, inventory: &Inventory, desk: &Desk) -> Stand {
    let installs = desk.installs();
    let arm = inventory.arm(name.as_str());
    let seen = installs.by_system.get(name);
    let state = install::state(arm.map(|arm| &**arm), seen.map(|seen| &**seen), desk.now);
    // What is known of an earlier arming says nothing of the one in force.
    let seen = seen.filter(|seen| state != State::Armed || arm.is_none_or(|arm| arm.id == seen.arm));
    let step = match (state, seen) {
        (State::Armed, _) => "waits for its network boot".to_owned(),
        (State::Held, Some(seen)) if seen.partitioned => "partitioned, no done".to_owned(),
        (_, Some(seen)) => seen
            .stage
            .map_or_else(|| "boot script".to_owned(), |stage| stage.to_string()),
        (_, None) => "-".to_owned(),
    };
    let since = match (state, seen, arm) {
        (State::Armed, _, Some(arm)) => Some(desk.now.since(arm.at)),
        (_, Some(seen), _) => Some(desk.now.since(seen.heard_at)),
        _ => None,
    };
    let hint = match state {
        State::Held | State::Failed => format!("-> system arm {name} --again, or boot trace {name}"),
        State::Claimed | State::Installing if since.is_some_and(|since| since.as_secs() > 900) => {
            format!("-> boot trace {name}")
        }
        _ => String::new(),
    };
    Stand {
        name: name.clone(),
        state,
        stage: seen.and_then(|seen| seen.stage),
        step,
        since,
        from: seen.and_then(|seen| seen.bound),
        boots: seen.map_or(0, |seen| seen.attempts),
        hint,
    }
}

/// What the daemon sees of boots under way says more than what was stored.
fn refine(stand: &mut Stand, seen: &Seen) {
    if matches!(stand.state, State::Armed | State::Claimed | State::Installing) {
        stand.step.clone_from(&seen.step);
        if seen.stopped {
            stand.hint = format!("-> boot trace {}", stand.name);
        }
    }
    stand.boots = stand.boots.max(seen.boots);
}

/// Who needs an eye comes first.
const fn urgency(state: State) -> u8 {
    match state {
        State::Installing => 0,
        State::Claimed => 1,
        State::Held => 2,
        State::Failed => 3,
        State::Armed => 4,
        State::Installed => 5,
        State::Booted => 6,
        State::Idle => 7,
    }
}

/// Cobbler's table, and nothing beside it.
fn as_cobbler(inventory: &Inventory, desk: &Desk) -> Result<Ended, Failure> {
    let lines = cobbler::lines(inventory, &desk.installs(), desk.now);
    if desk.printer.json {
        let rows: Vec<Value> = lines
            .iter()
            .map(|(ip, line)| json!({"ip": ip, "target": line.target, "start": line.start.to_string(), "state": line.state}))
            .collect();
        desk.printer.json(&rows)?;
    } else {
        desk.printer.line(cobbler::text(&lines))?;
    }
    Ok(Ended::Well)
}

pub(super) fn run(options: &Status, desk: &Desk) -> Result<Ended, Failure> {
    let inventory = desk.inventory()?;
    if options.cobbler {
        return as_cobbler(&inventory, desk);
    }
    let mut stands: Vec<Stand> = inventory
        .systems()
        .map(|system| stand(&system.name, &inventory, desk))
        .collect();
    stands.sort_by(|a, b| (urgency(a.state), &a.name).cmp(&(urgency(b.state), &b.name)));
    let rivals = link::rivals(&desk.settings.config.state, desk.now);
    let client = link::daemon(&desk.settings.config.state).map_err(|error| Failure::said(error, ""))?;
    let daemon = client.is_some();
    if let Some(client) = client {
        for seen in client.status().map_err(|error| Failure::said(error, ""))? {
            if let Some(stand) = stands.iter_mut().find(|stand| stand.name == seen.system) {
                refine(stand, &seen);
            }
        }
    }
    if desk.printer.json {
        let machines: Vec<Value> = stands
            .iter()
            .map(|stand| {
                json!({
                    "machine": stand.name, "state": stand.state, "stage": stand.stage, "step": stand.step, "since_seconds": stand.since.map(|since| since.as_secs()),
                    "from": stand.from, "boots": stand.boots,
                })
            })
            .collect();
        desk.printer.json(&json!({
            "daemon": daemon, "machines": machines, "rivals": rivals.iter().map(|(_, what)| what).collect::<Vec<_>>(),
        }))?;
        return Ok(Ended::Well);
    }
    let quiet = |state: State| matches!(state, State::Idle | State::Installed | State::Booted);
    let mut rows = vec![
        ["machine", "state", "step", "since", "from", "boots", ""]
            .map(ToOwned::to_owned)
            .to_vec(),
    ];
    for stand in stands.iter().filter(|stand| options.all || !quiet(stand.state)) {
        rows.push(vec![
            stand.name.to_string(),
            stand.state.to_string(),
            stand.step.clone(),
            stand.since.map_or_else(|| "-".to_owned(), roughly),
            stand.from.map_or_else(|| "-".to_owned(), |from| from.to_string()),
            stand.boots.to_string(),
            stand.hint.clone(),
        ]);
    }
    let count = |state: State| stands.iter().filter(|stand| stand.state == state).count();
    let mut text = if rows.len() > 1 { table(&rows) } else { String::new() };
    text.push_str(&format!(
        "{} installed, {} idle\n",
        count(State::Installed),
        count(State::Idle)
    ));
    desk.printer.data(&text)?;
    for (ago, what) in rivals {
        desk.printer.note(format!(
            "warning   {what}, {} ago; two servers give one address twice: stop it, or use [dhcp] mode = \"proxy\"",
            roughly(ago)
        ));
    }
    if let Some(old) = link::outdated(&desk.settings) {
        desk.printer.note(format!("warning   {old}"));
    }
    if !daemon {
        desk.printer.note(format!(
            "the daemon does not run (no answer at {}): this is what it last stored",
            link::socket(&desk.settings.config.state).display()
        ));
    }
    Ok(Ended::Well)
}
