//! The last events of each machine, in bounded memory: so many per machine, so many machines, so many in all.
//!
//! Pure. The machine that was silent longest gives way first.

use super::timeline::Open;
use super::{Event, What};
use crate::model::{Mac, Name, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What events are kept under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A machine that has a record.
    System(Name),
    /// A machine that has none.
    Mac(Mac),
    /// Somebody of whom only the address is known.
    Peer(IpAddr),
    /// The server itself.
    Server,
}

impl Key {
    /// The word that stored boots are found by.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::System(name) => name.to_string(),
            Self::Mac(mac) => mac.to_string(),
            Self::Peer(address) => address.to_string(),
            Self::Server => "-".to_owned(),
        }
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Events of one machine.
    pub per_machine: usize,
    /// Machines.
    pub machines: usize,
    /// Events in all: 512 of each of 10,000 machines would be more than a gigabyte.
    pub events: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            per_machine: 512,
            machines: 10_000,
            events: 200_000,
        }
    }
}

/// One boot of one machine, to be stored. A later one with the same beginning replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The machine.
    pub key: Key,
    /// Its events in order; never empty.
    pub events: Vec<Arc<Event>>,
}

#[derive(Debug, Default)]
struct Machine {
    events: VecDeque<Arc<Event>>,
    open: Open,
    /// How many of the events, from the end, belong to the current boot.
    current: usize,
    /// True when the current boot holds what was not given out to be stored.
    unsaved: bool,
    /// True when it holds what was not given out as a draft either.
    undrafted: bool,
    /// When its last draft was given out.
    drafted: Option<Timestamp>,
    /// Place in the order of use.
    used: u64,
}

impl Machine {
    fn boot(&self, key: &Key) -> Option<Boot> {
        let skip = self.events.len().saturating_sub(self.current);
        let events: Vec<_> = self.events.iter().skip(skip).cloned().collect();
        // A newcomer that shouts and is not served is no boot; the journal has it.
        let worth = matches!(key, Key::System(_)) || (self.open.has_moved() && events.iter().any(|event| boots(event)));
        (worth && !events.is_empty() && *key != Key::Server).then(|| Boot {
            key: key.clone(),
            events,
        })
    }
}

/// False for the DHCP of an operating system: a stranger that takes an address and is given nothing to boot is no boot either.
const fn boots(event: &Event) -> bool {
    !matches!(
        event.what,
        What::DhcpReceived { firmware: None, .. } | What::DhcpAnswered { file: None, .. } | What::DhcpIgnored { .. }
    )
}

/// All rings.
#[derive(Debug, Default)]
pub struct Rings {
    bounds: Bounds,
    machines: BTreeMap<Key, Machine>,
    order: BTreeMap<u64, Key>,
    by_mac: BTreeMap<Mac, Name>,
    uses: u64,
    total: usize,
}

impl Rings {
    /// Empty rings.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            ..Self::default()
        }
    }

    /// Takes in an event. Gives the boots that it ended, or pushed out of memory, to be stored.
    pub fn push(&mut self, event: Arc<Event>) -> Vec<Boot> {
        let mut ended = Vec::new();
        let key = self.key_of(&event);
        self.uses = self.uses.saturating_add(1);
        let uses = self.uses;
        let machine = self.machines.entry(key.clone()).or_default();
        self.order.remove(&machine.used);
        machine.used = uses;
        self.order.insert(uses, key.clone());
        if machine.open.starts_anew(&event) {
            if std::mem::take(&mut machine.unsaved) {
                ended.extend(machine.boot(&key));
            }
            machine.open = Open::default();
            machine.current = 0;
        }
        let ends = machine.open.take(&event);
        machine.events.push_back(event);
        machine.current = machine.current.saturating_add(1);
        machine.unsaved = !ends;
        machine.undrafted = !ends;
        self.total = self.total.saturating_add(1);
        if ends {
            ended.extend(machine.boot(&key));
        }
        if machine.events.len() > self.bounds.per_machine {
            machine.events.pop_front();
            machine.current = machine.current.min(machine.events.len());
            self.total = self.total.saturating_sub(1);
        }
        while self.machines.len() > self.bounds.machines || self.total > self.bounds.events {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            if let Some(machine) = self.machines.remove(&oldest) {
                self.total = self.total.saturating_sub(machine.events.len());
                if machine.unsaved {
                    ended.extend(machine.boot(&oldest));
                }
            }
        }
        if self.by_mac.len() > self.bounds.machines.saturating_mul(2) {
            let known = &self.machines;
            self.by_mac
                .retain(|_, name| known.contains_key(&Key::System(name.clone())));
        }
        ended
    }

    /// The boots that have been silent for `silence`, and not been given out as they are now; with no silence, all.
    pub fn silent(&mut self, now: Timestamp, silence: Duration) -> Vec<Boot> {
        let mut boots = Vec::new();
        for (key, machine) in &mut self.machines {
            let quiet = machine.events.back().is_some_and(|last| now.since(last.at) >= silence);
            if machine.unsaved && quiet {
                machine.unsaved = false;
                boots.extend(machine.boot(key));
            }
        }
        boots
    }

    /// Boots that are still under way and are worth storing as far as they came, so that a crash of the server costs a story its end and
    /// not all of it. At most `most`, the longest undrafted first, and none twice within `pause`.
    pub fn drafts(&mut self, now: Timestamp, pause: Duration, most: usize) -> Vec<Boot> {
        let due = |machine: &Machine| {
            let waited = machine.drafted.is_none_or(|drafted| now.since(drafted) >= pause);
            machine.unsaved && machine.undrafted && waited
        };
        let mut machines: Vec<_> = self.machines.iter_mut().filter(|(_, machine)| due(machine)).collect();
        machines.sort_by_key(|(_, machine)| machine.drafted);
        let mut boots = Vec::new();
        for (key, machine) in machines.into_iter().take(most) {
            machine.undrafted = false;
            machine.drafted = Some(now);
            boots.extend(machine.boot(key));
        }
        boots
    }

    /// Every event of a machine that is still in memory, by its record's name or its hardware address.
    #[must_use]
    pub fn of(&self, system: Option<&Name>, mac: Option<Mac>) -> Vec<Arc<Event>> {
        let named = system.or_else(|| mac.and_then(|mac| self.by_mac.get(&mac)));
        let keys = [named.cloned().map(Key::System), mac.map(Key::Mac)];
        let mut events: Vec<Arc<Event>> = Vec::new();
        for key in keys.into_iter().flatten() {
            let found = self.machines.get(&key).map(|machine| machine.events.iter().cloned());
            events.extend(found.into_iter().flatten());
        }
        events.sort_by_key(|event| event.at);
        events
    }

    /// How many events are held.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.total
    }

    /// True when nothing is held.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn key_of(&mut self, event: &Event) -> Key {
        if let Some(name) = &event.system {
            if let Some(mac) = event.mac {
                self.by_mac.insert(mac, name.clone());
                // What it did before it got its record belongs to it too; `of` puts the two together.
            }
            return Key::System(name.clone());
        }
        match (event.mac, event.peer) {
            (Some(mac), _) => Key::Mac(mac),
            (None, Some(peer)) => Key::Peer(peer),
            (None, None) => Key::Server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    fn event(at: i64, system: Option<&str>, mac: Option<Mac>, what: What) -> Arc<Event> {
        Arc::new(Event {
            at: Timestamp(at),
            mac,
            system: system.map(|name| name.parse().unwrap()),
            peer: None,
            what,
        })
    }

    fn discover() -> What {
        What::DhcpReceived {
            message: "DISCOVER".into(),
            firmware: Some("BIOS".into()),
            client: Some("PXEClient".into()),
        }
    }

    #[test]
    fn memory_is_bounded_and_the_longest_silent_gives_way() {
        let mut rings = Rings::new(Bounds {
            per_machine: 3,
            machines: 2,
            events: 5,
        });
        for at in 0..10 {
            rings.push(event(at, Some("a"), None, What::Disarmed));
        }
        assert_eq!(rings.len(), 3);
        rings.push(event(20, Some("b"), None, What::Disarmed));
        rings.push(event(21, Some("a"), None, What::Disarmed));
        // A third machine: b, silent longest, is dropped, and its boot given out.
        let dropped = rings.push(event(22, Some("c"), None, What::Disarmed));
        assert_eq!(dropped.len(), 1);
        assert_eq!(dropped[0].key.word(), "b");
        assert!(rings.of(Some(&"b".parse().unwrap()), None).is_empty());
        // Five events in all: 3 of a and 1 of c; two more of c push a out.
        rings.push(event(23, Some("c"), None, What::Disarmed));
        rings.push(event(24, Some("c"), None, What::Disarmed));
        assert_eq!(rings.len(), 3);
        assert!(rings.of(Some(&"a".parse().unwrap()), None).is_empty());
    }

    #[test]
    fn a_boot_is_given_out_when_it_ends_and_when_the_next_begins() {
        let mut rings = Rings::new(Bounds::default());
        assert!(rings.push(event(0, Some("web1"), Some(MAC), discover())).is_empty());
        let ended = rings.push(event(5, Some("web1"), Some(MAC), What::Installed));
        assert_eq!(ended[0].events.len(), 2);
        // What comes after the end is stored with it, under the same beginning.
        rings.push(event(9, Some("web1"), Some(MAC), What::BootedFromDisk));
        let anew = rings.push(event(20, Some("web1"), Some(MAC), discover()));
        assert_eq!(anew[0].events.len(), 3);
        assert_eq!(anew[0].events[0].at, ended[0].events[0].at);
        assert!(rings.silent(Timestamp(21), Duration::from_secs(600)).is_empty());
        assert_eq!(rings.silent(Timestamp(600_020), Duration::from_secs(600)).len(), 1);
        assert!(
            rings.silent(Timestamp(700_000), Duration::from_secs(600)).is_empty(),
            "given out once"
        );
    }

    #[test]
    fn a_boot_under_way_is_given_out_as_a_draft_now_and_then() {
        let mut rings = Rings::new(Bounds::default());
        let pause = Duration::from_secs(10);
        rings.push(event(0, Some("a"), None, discover()));
        rings.push(event(1, Some("b"), None, discover()));
        let drafts = rings.drafts(Timestamp(2), pause, 1);
        assert_eq!((drafts.len(), drafts[0].key.word()), (1, "a".to_owned()));
        rings.push(event(3, Some("a"), None, What::Disarmed));
        let drafts = rings.drafts(Timestamp(4), pause, 9);
        assert_eq!(
            (drafts.len(), drafts[0].key.word()),
            (1, "b".to_owned()),
            "a had its turn"
        );
        let drafts = rings.drafts(Timestamp(10_002), pause, 9);
        assert_eq!((drafts.len(), drafts[0].events.len()), (1, 2), "b has nothing new");
        // A draft is no end: the whole boot is given out when it is over.
        assert_eq!(rings.push(event(20_000, Some("a"), None, What::Installed)).len(), 1);
        assert!(rings.drafts(Timestamp(90_000), pause, 9).is_empty());
    }

    #[test]
    fn a_machine_is_found_by_name_and_by_mac_also_from_before_it_had_a_record() {
        let mut rings = Rings::new(Bounds::default());
        rings.push(event(0, None, Some(MAC), discover()));
        rings.push(event(5, Some("web1"), Some(MAC), What::Disarmed));
        rings.push(event(6, Some("web1"), None, What::Disarmed));
        assert_eq!(rings.of(None, Some(MAC)).len(), 3);
        assert_eq!(rings.of(Some(&"web1".parse().unwrap()), None).len(), 2);
        assert_eq!(rings.of(None, Some(Mac::new([2, 0, 0, 0, 0, 9]))).len(), 0);
        // A newcomer that is not served is no boot, and neither is an operating system that takes an address.
        let stranger = Some(Mac::new([2, 0, 0, 0, 0, 7]));
        let (request, ack) = (
            What::DhcpReceived {
                message: "REQUEST".into(),
                firmware: None,
                client: None,
            },
            |file: Option<&str>| What::DhcpAnswered {
                message: "ACK".into(),
                address: None,
                file: file.map(ToOwned::to_owned),
                rule: String::new(),
                durable_us: None,
            },
        );
        rings.push(event(7, None, stranger, request));
        rings.push(event(7, None, stranger, ack(None)));
        assert_eq!(rings.silent(Timestamp(9_000_000), Duration::ZERO).len(), 1);
        rings.push(event(9_000_001, None, stranger, ack(Some("undionly.kpxe"))));
        assert_eq!(rings.silent(Timestamp(19_000_000), Duration::ZERO).len(), 1);
    }
}
