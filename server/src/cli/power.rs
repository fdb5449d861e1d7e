//! `system poweron`, `poweroff`, `reboot` and `powerstatus`: for guests of libvirt, through their supervisor. Power controllers of
//! machines (IPMI and others) are not spoken to; who has none of our guests is told so.

use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::object::unknown;
use crate::guest::protocol::{Act, Guest, Life, Reply, Request, Which};
use crate::guest::supervise::Client;
use crate::model::{Kind, Name};
use serde_json::json;

/// What is wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    /// Switch it on.
    On,
    /// Cut its power.
    Off,
    /// Both, off first.
    Cycle,
    /// Only look.
    Status,
}

/// True while it takes power.
const fn is_on(life: Life) -> bool {
    matches!(life, Life::Running | Life::Paused | Life::Stopping)
}

/// The one guest that the system is.
fn guest_of(name: &Name, desk: &Desk) -> Result<Guest, Failure> {
    let mut found = Vec::new();
    let mut away = Vec::new();
    for reply in client(desk)?.ask(&Request::List { connect: None })? {
        match reply? {
            Reply::Guest(guest) if guest.system.as_ref() == Some(name) => found.push(*guest),
            Reply::Away { connect, why } => away.push(format!("{connect} does not answer: {why}")),
            _ => {}
        }
    }
    if found.len() > 1 {
        let on: Vec<&str> = found.iter().map(|guest| guest.connect.as_str()).collect();
        return Err(Failure::said(
            format!("system {name} is a guest on {}", on.join(" and on ")),
            "say which: cordwainer guest start, destroy or show with --connect URI",
        ));
    }
    found.pop().ok_or_else(|| match away.first() {
        Some(away) => Failure::said(
            format!("no guest is known to be system {name}, and {away}"),
            "let the hypervisor answer, then try again",
        ),
        None => Failure::said(
            format!("system {name} is no guest: only the power of libvirt guests is switched here"),
            "use the machine's own controller; a domain that exists becomes a guest by cordwainer guest adopt",
        ),
    })
}

fn client(desk: &Desk) -> Result<Client, Failure> {
    Ok(Client::connect(&desk.settings.config.state)?)
}

fn act(guest: &Guest, act: Act, desk: &Desk) -> Result<(), Failure> {
    let which = Which {
        guest: super::object::named(&guest.name)?,
        connect: Some(guest.connect.clone()),
    };
    for reply in client(desk)?.ask(&Request::Act { which, act })? {
        if let Reply::Step { text } = reply? {
            desk.printer.note(text);
        }
    }
    Ok(())
}

pub(super) fn run(power: Power, name: &str, desk: &Desk) -> Result<Ended, Failure> {
    let inventory = desk.inventory_about(Kind::System, name)?;
    let system = inventory
        .system(name)
        .ok_or_else(|| unknown(&inventory, Kind::System, name))?;
    let guest = guest_of(&system.name, desk)?;
    let was_on = is_on(guest.life);
    let (steps, on): (&[Act], bool) = match (power, was_on) {
        (Power::Status, on) => (&[], on),
        (Power::On, false) => (&[Act::Start], true),
        (Power::Off, true) => (&[Act::Destroy], false),
        (Power::Cycle, true) => (&[Act::Destroy, Act::Start], true),
        (Power::Cycle, false) => (&[Act::Start], true),
        (Power::On, true) => (&[], true),
        (Power::Off, false) => (&[], false),
    };
    for step in steps {
        act(&guest, *step, desk)?;
    }
    let word = if on { "on" } else { "off" };
    let text = match power {
        Power::Status => format!("{word}\n"),
        _ if steps.is_empty() => format!("system {name} is {word} already\n"),
        _ => format!("system {name} is {word}\n"),
    };
    let value = json!({"system": name, "power": word, "changed": !steps.is_empty(), "host": guest.connect});
    desk.printer.either(&value, &text)?;
    // The supervisor starts it from its disk; an arming waits for a network boot.
    if matches!(power, Power::On | Power::Cycle) && inventory.arm(name).is_some_and(|arm| arm.is_in_force(desk.now)) {
        desk.printer.note(format!(
            "note      {name} is armed; a guest starts from its disk all the same: cordwainer guest reinstall {} installs it",
            guest.name
        ));
    }
    Ok(Ended::Well)
}
