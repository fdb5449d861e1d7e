//! The power of the guest that a system of the inventory is: for `system poweron` of the command line, and for Cobbler's `power_system`.

use super::hub::Hub;
use super::talk::{Lines, Stopped, all, do_act, find};
use crate::guest::protocol::{Act, Guest, Life, Reply, Which};
use crate::model::{Name, Power};
use std::sync::Arc;

/// True while it takes power.
const fn is_on(life: Life) -> bool {
    matches!(life, Life::Running | Life::Paused | Life::Stopping)
}

/// The one guest that the system is.
fn guest_of(system: &Name, hub: &Arc<Hub>) -> Result<Guest, Stopped> {
    let (mut found, mut away) = (Vec::new(), Vec::new());
    for (connect, guests) in all(hub.hosts())? {
        match guests {
            Ok(guests) => found.extend(guests.into_iter().filter(|guest| guest.system.as_ref() == Some(system))),
            Err(why) => away.push(format!("{connect} does not answer: {why}")),
        }
    }
    if found.len() > 1 {
        let on: Vec<&str> = found.iter().map(|guest| guest.connect.as_str()).collect();
        return Err(Stopped::Refused(format!(
            "system {system} is a guest on {}; say which: cordwainer guest start, destroy or show with --connect URI",
            on.join(" and on ")
        )));
    }
    found.pop().ok_or_else(|| {
        Stopped::Refused(match away.first() {
            Some(away) => format!("no guest is known to be system {system}, and {away}; let the hypervisor answer, then try again"),
            None => format!(
                "system {system} is no guest: only the power of libvirt guests is switched here, whatever its power_type says; use the \
                 machine's own controller; a domain that exists becomes a guest by cordwainer guest adopt"
            ),
        })
    })
}

pub(super) fn answer(system: &Name, power: Power, hub: &Arc<Hub>, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    let guest = guest_of(system, hub)?;
    let (steps, on): (&[Act], bool) = match (power, is_on(guest.life)) {
        (Power::Status, on) => (&[], on),
        (Power::On, false) | (Power::Reboot, false) => (&[Act::Start], true),
        (Power::Off, true) => (&[Act::Destroy], false),
        (Power::Reboot, true) => (&[Act::Destroy, Act::Start], true),
        (Power::On, true) => (&[], true),
        (Power::Off, false) => (&[], false),
    };
    if !steps.is_empty() {
        let which = Which {
            guest: guest
                .name
                .parse()
                .map_err(|bad: crate::model::BadName| Stopped::Refused(bad.to_string()))?,
            connect: Some(guest.connect.clone()),
        };
        let found = find(hub, &which)?;
        for step in steps {
            do_act(&found, *step)?;
        }
    }
    lines.put(&Reply::Power {
        on,
        changed: !steps.is_empty(),
        guest: guest.name,
        connect: guest.connect,
    })
}
