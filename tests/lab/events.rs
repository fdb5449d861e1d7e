//! The events of one machine, as `boot trace --follow --json` prints them: waited for in their order, and judged afterwards.
//! It must never judge times: an emulated machine on a loaded host is slow, and that is no fault.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::child::Child;
use super::vm::PATIENCE;

/// What an event must be: its code, and what its fields must hold.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    code: &'static str,
    fields: &'static [(&'static str, &'static str)],
}

/// An event with this code whose fields hold these texts (a number or a truth value is compared as its text).
#[must_use]
pub const fn seen(code: &'static str, fields: &'static [(&'static str, &'static str)]) -> Seen {
    Seen { code, fields }
}

impl Seen {
    /// Any event with this code.
    #[must_use]
    pub const fn coded(code: &'static str) -> Self {
        seen(code, &[])
    }

    fn is(&self, event: &Value) -> bool {
        event["code"] == self.code
            && self.fields.iter().all(|(field, wanted)| match &event[*field] {
                Value::String(text) => text.contains(wanted),
                Value::Null => wanted.is_empty(),
                Value::Bool(value) => wanted.parse() == Ok(*value),
                Value::Number(value) => wanted.parse().ok() == value.as_u64(),
                _ => false,
            })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)?;
        self.fields
            .iter()
            .try_for_each(|(field, wanted)| write!(f, " {field}~{wanted:?}"))
    }
}

/// The stream of one machine's events.
pub struct Events {
    name: String,
    follow: Child,
    read: usize,
}

impl Events {
    pub(super) fn of(name: &str, mut command: Command) -> Self {
        Self {
            name: name.to_owned(),
            follow: Child::start(&format!("boot trace {name}"), &mut command),
            read: 0,
        }
    }

    /// Every event so far.
    #[must_use]
    pub fn all(&self) -> Vec<Value> {
        self.follow.lines().iter().filter_map(|line| event(line)).collect()
    }

    /// Waits for each of `wanted`, in this order, each after the one before and after what the last call found.
    ///
    /// # Panics
    /// When [`PATIENCE`] passes between two of them.
    pub fn wait_for(&mut self, wanted: &[Seen]) {
        for wanted in wanted {
            self.next(wanted, PATIENCE);
        }
    }

    /// Waits for one event after what the last call found, and returns it.
    ///
    /// # Panics
    /// When `within` passes first; the message holds what was seen since.
    pub fn next(&mut self, wanted: &Seen, within: Duration) -> Value {
        let from = self.read;
        let found = self.follow.wait_until(within, |lines| {
            lines
                .iter()
                .enumerate()
                .skip(from)
                .find_map(|(index, line)| event(line).filter(|event| wanted.is(event)).map(|event| (index, event)))
        });
        let Some((index, event)) = found else {
            let lines = self.follow.lines();
            panic!(
                "{}: no {wanted} within {within:?}; since the last one that was wanted:\n  {}",
                self.name,
                lines[from.min(lines.len())..].join("\n  ")
            );
        };
        self.read = index + 1;
        event
    }

    /// Waits until `found` finds something in all events so far.
    ///
    /// # Panics
    /// When [`PATIENCE`] passes first; `what` says what was looked for.
    pub fn settled<T>(&self, what: &str, found: impl Fn(&[Value]) -> Option<T>) -> T {
        self.follow
            .wait_until(PATIENCE, |lines| {
                let events: Vec<Value> = lines.iter().filter_map(|line| event(line)).collect();
                found(&events)
            })
            .unwrap_or_else(|| panic!("{}: no {what} in\n  {}", self.name, self.follow.lines().join("\n  ")))
    }

    /// How many of the events so far are such.
    #[must_use]
    pub fn count(&self, wanted: Seen) -> usize {
        self.all().iter().filter(|event| wanted.is(event)).count()
    }

    /// Asserts that no event so far is such.
    ///
    /// # Panics
    /// When one is.
    pub fn none(&self, unwanted: Seen) {
        let found: Vec<Value> = self.all().into_iter().filter(|event| unwanted.is(event)).collect();
        assert!(found.is_empty(), "{}: {unwanted} was seen: {found:#?}", self.name);
    }
}

fn event(line: &str) -> Option<Value> {
    serde_json::from_str::<Value>(line)
        .ok()
        .filter(|value| value["code"].is_string())
}
