//! `boot trace`: what a machine did, as the daemon heard it; with --follow, as it happens. Without a daemon, the last boot that was
//! stored.

use super::args::Trace;
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::explain::{Machine as Asked, armed, machine};
use super::{link, print};
use crate::event::control::{Answer, Client};
use crate::event::sink::stored_boot;
use crate::event::timeline::{Line, Machine, last_boot, timeline};
use crate::event::{Event, What};
use crate::inventory::Inventory;
use crate::model::Firmware;
use crate::store::clock;

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

/// The firmware that a machine's last boot began with, as the daemon or else events.db has it.
pub(super) fn firmware_of(word: &str, asked: &Asked, desk: &Desk) -> Option<Firmware> {
    let state = &desk.settings.config.state;
    let told: Vec<Event> = match link::daemon(state).ok().flatten() {
        Some(client) => client
            .trace(word, false)
            .ok()?
            .filter_map(|answer| match answer {
                Ok(Answer::Event(event)) => Some(*event),
                _ => None,
            })
            .collect(),
        None => {
            let name = asked.system.as_ref().map(|system| &system.name);
            stored_boot(&state.join("events.db"), name, Some(asked.mac)).ok()?
        }
    };
    last_boot(&told).iter().find_map(|event| match &event.what {
        What::DhcpReceived { firmware, .. } => Firmware::displayed(firmware.as_deref()?),
        _ => None,
    })
}

/// Asks the daemon.
fn live(client: &Client, word: &str, follow: bool, desk: &Desk) -> Result<Ended, Failure> {
    let broken = |error| Failure::said(error, "");
    let mut about = Machine::default();
    let mut events: Vec<Event> = Vec::new();
    let mut shown: Option<Shown> = None;
    for answer in client.trace(word, follow).map_err(broken)? {
        match answer.map_err(broken)? {
            Answer::Machine(machine) => about = *machine,
            Answer::Event(event) => match &mut shown {
                Some(_) if desk.printer.json => desk.printer.json_line(&event)?,
                Some(shown) => {
                    events.push(*event);
                    shown.update(&events, &about, desk)?;
                }
                None => events.push(*event),
            },
            Answer::Past => {
                let mut now = Shown::default();
                if desk.printer.json {
                    for event in &events {
                        desk.printer.json_line(event)?;
                    }
                } else {
                    desk.printer.line(timeline(&events, &about, clock::wall()).heading)?;
                    now.update(&events, &about, desk)?;
                    // On a terminal it is drawn below the lines already, and anew with each of them.
                    if !print::to_terminal() {
                        desk.printer
                            .data(&timeline(last_boot(&events), &about, clock::wall()).ending.to_string())?;
                    }
                }
                shown = Some(now);
            }
            Answer::Dropped(count) => desk.printer.note(format!("  ({count} events were too fast to show)")),
            Answer::Seen(_)
            | Answer::Live(_)
            | Answer::Launching(_)
            | Answer::Bytes(_)
            | Answer::Standing(_)
            | Answer::Taken
            | Answer::Error(_) => {}
        }
    }
    if shown.is_some() {
        return Ok(Ended::Well);
    }
    show(&events, &about, desk)
}

/// The lines of a followed boot that are printed already.
#[derive(Default)]
struct Shown {
    lines: Vec<Line>,
    /// Lines below them on a terminal: what should come next.
    below: usize,
    /// How many events the boots before this one had.
    done: usize,
}

impl Shown {
    /// Prints what is new. A line may still change: a transfer's progress becomes its end, a repeat is counted. On a terminal it is
    /// drawn over; elsewhere progress waits until the transfer has ended.
    fn update(&mut self, events: &[Event], about: &Machine, desk: &Desk) -> Result<(), Failure> {
        let boot = last_boot(events);
        let done = events.len().saturating_sub(boot.len());
        if done != self.done {
            desk.printer.data(&print::back(self.below))?;
            if !self.lines.is_empty() {
                desk.printer.line("")?;
            }
            *self = Self {
                done,
                ..Self::default()
            };
        }
        let draws = print::to_terminal();
        let told = timeline(boot, about, clock::wall());
        let mut lines = told.lines;
        // A REQUEST is answered or refused at once, and told together with that.
        let under_way = boot.last().is_some_and(|event| match &event.what {
            What::HttpProgress { .. } | What::TftpProgress { .. } => true,
            What::DhcpReceived { message, .. } if message == "REQUEST" => {
                lines.last().is_some_and(|line| line.at == event.at && line.again == 0)
            }
            _ => false,
        });
        if under_way && !draws {
            lines.pop();
        }
        if draws {
            let same = self
                .lines
                .iter()
                .zip(&lines)
                .take_while(|(old, new)| old == new)
                .count();
            let old = self.lines.len().saturating_sub(same).saturating_add(self.below);
            desk.printer.data(&print::back(old))?;
            for line in lines.iter().skip(same) {
                desk.printer.line(line)?;
            }
            let below = told.ending.to_string();
            desk.printer.data(&below)?;
            self.below = below.lines().count();
        } else {
            // What is printed stays, so a transfer is told when it has ended, and nothing is told twice.
            lines.retain(|line| !line.text.ends_with(" so far"));
            let known = |line: &Line| {
                self.lines
                    .iter()
                    .any(|old| (old.at, &old.text) == (line.at, &line.text))
            };
            for line in lines.iter().filter(|line| !known(line)) {
                desk.printer.line(line)?;
            }
        }
        self.lines = lines;
        Ok(())
    }
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
    let events = stored_boot(&path, name.as_ref(), Some(asked.mac)).map_err(|error| {
        Failure::said(
            format!("{} cannot be read: {error}", path.display()),
            "run it as root, or as the owner of the state folder",
        )
    })?;
    let about = Machine {
        profile: asked
            .system
            .as_ref()
            .and_then(|system| system.base().map(|(_, name)| name.clone())),
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
