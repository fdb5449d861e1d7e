//! A guest's serial console while it is installed: its last lines, and its timeline.
#![allow(clippy::disallowed_methods, reason = "IO: a thread that reads a console")]

use super::{Entry, Host, Listener, Message};
use crate::event::control::News;
use crate::guest::driver::is_kernel_chatter;
use crate::guest::flow::Power;
use crate::guest::protocol::Reply;
use crate::guest::spec::Uuid;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Between two attempts to read a console that somebody else has.
const AGAIN: Duration = Duration::from_secs(2);
/// Lines of one read that go into the timeline; a kernel says hundreds in a second.
const LINES: usize = 16;

impl Entry {
    /// True while what its console says is for somebody.
    fn is_heard(&self) -> bool {
        self.job.phase.is_open() || !self.listeners.is_empty()
    }
}

impl Host {
    /// Reads the consoles of guests that are being installed, or that somebody wants to follow, where nobody does.
    pub(super) fn read_consoles(&mut self) {
        let Some(hypervisor) = self.hypervisor() else { return };
        let now = Instant::now();
        for entry in self.guests.values_mut() {
            entry.listeners.retain(|listener| listener.there.strong_count() > 0);
            // libvirt gives a console to one at a time: it is not kept from people for nothing.
            if !entry.is_heard()
                && let Some(console) = entry.reading.take()
            {
                console.close();
            }
        }
        let wanted: Vec<Uuid> = self
            .guests
            .iter()
            .filter(|(_, entry)| entry.is_heard() && entry.job.power != Power::Off)
            .filter(|(_, entry)| entry.reading.is_none() && !entry.console_taken)
            .filter(|(_, entry)| entry.read_again.is_none_or(|at| at <= now))
            .map(|(uuid, _)| uuid.clone())
            .collect();
        for uuid in wanted {
            let Some(entry) = self.guests.get_mut(&uuid) else {
                continue;
            };
            entry.read_again = now.checked_add(AGAIN);
            let console = match hypervisor.console(&uuid, false) {
                Ok(console) => console,
                Err(error) => {
                    tracing::debug!(guest = %entry.spec.name, "its console is not read: {error}");
                    continue;
                }
            };
            entry.reading = Some(console.clone());
            let own = self.own.clone();
            self.spawn("console", move || {
                console.follow(|bytes| {
                    own.send(Message::Serial(uuid.clone(), bytes.to_vec()));
                    true
                });
                console.close();
                own.send(Message::SerialEnded(uuid));
            });
        }
    }

    pub(super) fn serial(&mut self, uuid: &Uuid, bytes: &[u8]) {
        let Some(entry) = self.guests.get_mut(uuid) else { return };
        let lines = entry.tail.take(bytes);
        for line in &lines {
            let reply = Reply::Serial { line: line.clone() };
            if !is_kernel_chatter(line) {
                entry
                    .followers
                    .retain(|follower| follower.creates || follower.to.send(reply.clone()).is_ok());
            }
            entry
                .listeners
                .retain(|listener| listener.to.send(reply.clone()).is_ok());
        }
        if !entry.job.phase.is_open() {
            return;
        }
        let system = entry.spec.system.clone();
        let lines: Vec<String> = lines.into_iter().filter(|line| !is_kernel_chatter(line)).collect();
        let skipped = lines.len().saturating_sub(LINES);
        for line in lines.into_iter().skip(skipped) {
            self.hub.tell(system.as_ref(), News::Serial(line));
        }
    }

    pub(super) fn serial_ended(&mut self, uuid: &Uuid) {
        if let Some(entry) = self.guests.get_mut(uuid) {
            entry.reading = None;
            entry.read_again = Instant::now().checked_add(AGAIN);
        }
    }

    pub(super) fn log(&mut self, uuid: &Uuid, to: &Sender<Vec<String>>, follow: Option<Listener>) {
        let lines = match self.guests.get_mut(uuid) {
            Some(entry) => {
                entry.listeners.extend(follow);
                entry.tail.lines()
            }
            None => Vec::new(),
        };
        drop(to.send(lines));
    }
}
