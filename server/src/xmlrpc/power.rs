//! `power_system` and `background_power_system`: for systems that are guests of libvirt. Whether one is, their supervisor knows.
//!
//! Pure: what is wished leaves as an [`Outcome::Power`].

use super::fault::Fault;
use super::methods::{Asked, Outcome};
use super::session::Sessions;
use super::task;
use super::value::Value;
use super::write;
use crate::model::{Kind, Name, Power};

/// Systems of one call.
const MOST: usize = 1000;

fn wished(value: Option<&Value>) -> Result<Power, Fault> {
    let word = value.and_then(Value::text).unwrap_or_default();
    word.parse().map_err(|why: String| Fault::cx(&why))
}

/// `power_system(handle, on|off|reboot|status, token)`: true when it was done; for `status` whether it has power.
pub(super) fn system(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    let draft = write::draft(asked, sessions, Kind::System, asked.text(0)?)?;
    let name = draft
        .of
        .ok_or_else(|| Fault::cx("it is not saved yet; save it first"))?;
    Ok(Outcome::Power {
        power: wished(asked.argument(1))?,
        systems: vec![name],
        task: None,
    })
}

/// `background_power_system({systems, power}, token)`: the id of a task, whose log says how each went.
pub(super) fn background(asked: &Asked<'_>, _: &mut Sessions) -> Result<Outcome, Fault> {
    let options = asked.argument(0).and_then(Value::members);
    let options = options.ok_or_else(|| Fault::argument("the options must be a struct"))?;
    let power = wished(options.get("power"))?;
    let names: Vec<&str> = match options.get("systems") {
        Some(Value::Text(text)) => text.split([',', ' ']).filter(|name| !name.is_empty()).collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::text).collect(),
        _ => Vec::new(),
    };
    if names.is_empty() || names.len() > MOST {
        return Err(Fault::cx(&format!("systems must name one system, and {MOST} at most")));
    }
    let systems: Result<Vec<Name>, Fault> = names
        .into_iter()
        .map(|name| write::named(asked, Kind::System, name))
        .collect();
    Ok(Outcome::Power {
        power,
        systems: systems?,
        task: Some(Box::new(task::running(asked, &format!("Power management ({power})")))),
    })
}
