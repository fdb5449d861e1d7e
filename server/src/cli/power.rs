//! `system poweron`, `poweroff`, `reboot` and `powerstatus`: for guests of libvirt, through their supervisor. Power controllers of
//! machines (IPMI and others) are not spoken to; who has none of our guests is told so.

use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::object::unknown;
use crate::guest::protocol::{Reply, Request};
use crate::guest::supervise::Client;
use crate::model::{Kind, Power};
use serde_json::json;

pub(super) fn run(power: Power, name: &str, desk: &Desk) -> Result<Ended, Failure> {
    let inventory = desk.inventory_about(Kind::System, name)?;
    let system = inventory
        .system(name)
        .ok_or_else(|| unknown(&inventory, Kind::System, name))?;
    let request = Request::Power {
        system: system.name.clone(),
        power,
    };
    let (on, changed, guest, connect) = match Client::connect(&desk.settings.config.state)?.ask_one(&request)? {
        Reply::Power {
            on,
            changed,
            guest,
            connect,
        } => (on, changed, guest, connect),
        other => return Err(Failure::said(format!("the supervisor of guests says {other:?}"), "")),
    };
    let word = if on { "on" } else { "off" };
    let text = match power {
        Power::Status => format!("{word}\n"),
        _ if changed => format!("system {name} is {word}\n"),
        _ => format!("system {name} is {word} already\n"),
    };
    let value = json!({"system": name, "power": word, "changed": changed, "host": connect});
    desk.printer.either(&value, &text)?;
    // The supervisor starts it from its disk; an arming waits for a network boot.
    if matches!(power, Power::On | Power::Reboot) && inventory.arm(name).is_some_and(|arm| arm.is_in_force(desk.now)) {
        desk.printer.note(format!(
            "note      {name} is armed; a guest starts from its disk all the same: cordwainer guest reinstall {guest} installs it"
        ));
    }
    Ok(Ended::Well)
}
