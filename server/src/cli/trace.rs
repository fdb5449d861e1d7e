//! `boot trace`: what a machine did, as the daemon heard it; with --follow, as it happens. Without a daemon, the last boot that was
//! stored.

use super::args::Trace;
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::explain::{Machine as Asked, armed, machine};
use super::link;
use crate::event::Event;
use crate::event::control::{Answer, Client};
use crate::event::timeline::{Machine, last_boot, timeline};
use crate::inventory::Inventory;
use crate::store::clock;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use std::time::Duration;

pub(super) fn run(options: &Trace, desk: &Desk) -> Result<Ended, Failure> {
    let word = options.place.as_deref().or(options.name.as_deref()).unwrap_or_default();
    let inventory = desk.inventory()?;
    let asked = machine(word, &inventory)?;
    let state = &desk.settings.config.state;
    match link::daemon(state).map_err(|error| Failure::said(error, ""))? {
        Some(client) => live(&client, word, options.follow, desk),
        None if options.follow => Err(Failure::said(
            format!(
                "the daemon does not run (no answer at {}), so there is nothing to follow",
                link::socket(state).display()
            ),
            "start it: systemctl start cordwainer; without --follow the last stored boot is shown",
        )),
        None => stored(&asked, &inventory, desk),
    }
}

/// Asks the daemon.
fn live(client: &Client, word: &str, follow: bool, desk: &Desk) -> Result<Ended, Failure> {
    let broken = |error| Failure::said(error, "");
    let mut about = Machine::default();
    let mut events: Vec<Event> = Vec::new();
    let mut printed = 0_usize;
    let mut following = false;
    for answer in client.trace(word, follow).map_err(broken)? {
        match answer.map_err(broken)? {
            Answer::Machine(machine) => about = *machine,
            Answer::Event(event) if following && desk.printer.json => desk.printer.json_line(&event)?,
            Answer::Event(event) => {
                events.push(*event);
                if following {
                    printed = show_new(&events, &about, printed, desk)?;
                }
            }
            Answer::Past => {
                following = true;
                if desk.printer.json {
                    for event in &events {
                        desk.printer.json_line(event)?;
                    }
                } else {
                    let told = timeline(&events, &about, clock::wall());
                    desk.printer.line(&told.heading)?;
                    printed = show_new(&events, &about, 0, desk)?;
                }
            }
            Answer::Dropped(count) => desk.printer.note(format!("  ({count} events were too fast to show)")),
            Answer::Seen(_) | Answer::Live(_) | Answer::Error(_) => {}
        }
    }
    if following {
        return Ok(Ended::Well);
    }
    show(&events, &about, desk)
}

/// Prints the lines of a followed boot that are final: the last may still change, as a transfer's progress does.
fn show_new(events: &[Event], about: &Machine, printed: usize, desk: &Desk) -> Result<usize, Failure> {
    let told = timeline(last_boot(events), about, clock::wall());
    // Another boot began: its lines start anew.
    let printed = if told.lines.len() < printed { 0 } else { printed };
    for line in told.lines.iter().skip(printed) {
        desk.printer.line(line)?;
    }
    Ok(told.lines.len())
}

fn show(events: &[Event], about: &Machine, desk: &Desk) -> Result<Ended, Failure> {
    if desk.printer.json {
        desk.printer.json(&events)?;
    } else {
        desk.printer.data(&format!(
            "{}\n",
            timeline(events, about, clock::wall()).to_string().trim_end()
        ))?;
    }
    Ok(Ended::Well)
}

/// The last boot in events.db.
fn stored(asked: &Asked, inventory: &Inventory, desk: &Desk) -> Result<Ended, Failure> {
    let path = desk.settings.config.state.join("events.db");
    desk.printer.note(format!(
        "the daemon does not run (no answer at {}): this is the last boot that was stored",
        link::socket(&desk.settings.config.state).display()
    ));
    let name = asked.system.as_ref().map(|system| system.name.clone());
    let look = || -> rusqlite::Result<Option<String>> {
        let connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(Duration::from_secs(1))?;
        connection
            .query_row(
                "SELECT events FROM boots WHERE system = ?1 OR mac = ?2 ORDER BY began DESC LIMIT 1",
                params![name.as_ref().map(|name| name.as_str()), asked.mac.to_string()],
                |row| row.get(0),
            )
            .optional()
    };
    let text = if path.try_exists().unwrap_or(false) {
        look().map_err(|error| {
            Failure::said(
                format!("{} cannot be read: {error}", path.display()),
                "run it as root, or as the owner of the state folder",
            )
        })?
    } else {
        None
    };
    let events: Vec<Event> = text
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let about = Machine {
        profile: asked.system.as_ref().map(|system| system.profile.clone()),
        standing: name
            .as_ref()
            .and_then(|name| inventory.arm(name.as_str()))
            .map(|arm| armed(arm, desk.now)),
        system: name,
        mac: Some(asked.mac),
        min_ram_mib: None,
    };
    show(&events, &about, desk)
}
