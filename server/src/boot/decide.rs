//! `decide`: the one place where a machine's answer is chosen.
//!
//! Pure and total: every request has an answer, silence has its reason, and nothing changes but by the effects it returns.

mod bootfile;
mod cobbler;
mod cobbler_pages;
mod files;
mod image;
mod script;

pub use cobbler::{KoanStart, koan_start};

use super::{Answer, Ask, Decision, Effect, Facts, FoundBy, Request, Trace, World};
use crate::config::DhcpMode;
use crate::install::{self, Arm, Installation, State};
use crate::model::{Binding, Mac, System, Timestamp};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Chooses the answer to `request`.
#[must_use]
pub fn decide(world: &World, request: &Request) -> Decision {
    let of_address;
    let facts = match &request.ask {
        Ask::ScriptAt(_, address) => {
            // Who asks is somebody else; whether he may is judged below like every other request's address.
            of_address = Facts {
                mac: machine_at(world, *address),
                found_by: FoundBy::Lease,
                ..request.facts.clone()
            };
            &of_address
        }
        _ => &request.facts,
    };
    let mut deciding = Deciding::new(world, facts);
    let answer = match &request.ask {
        Ask::BootFile => bootfile::choose(&mut deciding),
        Ask::Script(dialect) => script::choose(&mut deciding, *dialect),
        Ask::ScriptAt(dialect, _) if deciding.facts.mac.is_some() => script::choose(&mut deciding, *dialect),
        Ask::ScriptAt(_, address) => deciding.not_found("unknown address", format!("no machine has {address}")),
        Ask::Loader(name) => files::loader(&mut deciding, name),
        Ask::ImageFile(name) => image::file(&mut deciding, name),
        Ask::TreeFile { distro, path } => files::tree_file(&mut deciding, distro, path),
        Ask::AnswerFile { token, file } => files::answer_file(&mut deciding, token, file),
        Ask::Report { token, stage, detail } => files::report(&mut deciding, token, stage, detail.as_deref()),
        Ask::Cobbler(ask) => cobbler::choose(&mut deciding, ask),
        Ask::Unknown(what) => deciding.not_found("unknown path", format!("nothing is served as {what}")),
    };
    Decision {
        answer,
        trace: deciding.trace,
        effects: deciding.effects,
    }
}

/// The machine that has `address`: by our lease, else by its record.
fn machine_at(world: &World, address: Ipv4Addr) -> Option<Mac> {
    let of_record = || {
        let system = world.inventory.system_by_address(address)?;
        let interface = system
            .interfaces
            .values()
            .find(|interface| interface.ip_address == Some(address))?;
        interface.mac_address
    };
    world.installs.holders.get(&address).copied().or_else(of_record)
}

/// True while the armings that `effects` open are still the machines' own and in force: what was decided a while ago may be sent.
/// Whether the installation itself has moved on meanwhile, the state task judges.
#[must_use]
pub fn still_stands(world: &World, effects: &[Effect]) -> bool {
    effects.iter().all(|effect| match effect {
        Effect::Install { act, .. } if act.input.opens() => world
            .inventory
            .arm(act.arm.system.as_str())
            .is_some_and(|arm| arm.id == act.arm.id && arm.is_in_force(world.now)),
        Effect::Install { .. } | Effect::Seen { .. } => true,
    })
}

/// One decision on its way: what it looks at, and what it has gathered.
struct Deciding<'a> {
    world: &'a World,
    facts: &'a Facts,
    /// The record of the machine, if there is one.
    system: Option<Arc<System>>,
    trace: Trace,
    effects: Vec<Effect>,
}

impl<'a> Deciding<'a> {
    fn new(world: &'a World, facts: &'a Facts) -> Self {
        let system = facts.mac.and_then(|mac| world.inventory.system_by_mac(mac)).cloned();
        Self {
            world,
            facts,
            system,
            trace: Trace::default(),
            effects: Vec::new(),
        }
    }

    /// The same answer for every cause; only the trace, which no client sees, tells them apart.
    fn not_found(&mut self, rule: &str, why: impl Into<String>) -> Answer {
        self.trace.held(rule, why);
        Answer::NotFound
    }

    fn arm_of(&self, system: &System) -> Option<Arc<Arm>> {
        self.world.inventory.arm(system.name.as_str()).cloned()
    }

    fn installation_of(&self, system: &System) -> Option<Arc<Installation>> {
        self.world.installs.by_system.get(&system.name).cloned()
    }

    fn state_of(&self, system: &System) -> State {
        install::state(
            self.arm_of(system).as_deref(),
            self.installation_of(system).as_deref(),
            self.world.now,
        )
    }

    /// When the machine at the address that asks last asked by DHCP.
    fn asked(&self, mac: Mac) -> Option<Timestamp> {
        let seen = self.world.installs.sightings.get(&self.facts.peer?)?;
        (seen.mac == mac).then_some(seen.asked)
    }

    /// `http://ADDRESS[:PORT]` as this client reaches us.
    fn base_url(&self) -> String {
        super::paths::base_url(self.facts.local, self.world.config.http_port)
    }

    /// Judges whether the address that asks belongs to `mac`, by the rule of its subnet (DESIGN 6, binding).
    ///
    /// # Errors
    /// Why not, for the log.
    fn owns_address(
        &self,
        mac: Mac,
        peer: Ipv4Addr,
        installation: Option<&Installation>,
    ) -> Result<&'static str, String> {
        let bound = installation.and_then(|seen| seen.bound);
        let behind = bound.filter(|_| installation.is_some_and(|seen| seen.behind));
        if behind == Some(peer) {
            return Ok("its hypervisor has the address, and the guest is behind it");
        }
        let judged = self.by_subnet(mac, peer, bound);
        match behind {
            None => judged,
            Some(through) => judged.map_err(|why| format!("{why}; as a guest it was to ask from {through}")),
        }
    }

    fn by_subnet(&self, mac: Mac, peer: Ipv4Addr, bound: Option<Ipv4Addr>) -> Result<&'static str, String> {
        match self.world.config.binding_of(peer) {
            Binding::Lease | Binding::Guest => match self.world.installs.holders.get(&peer) {
                Some(holder) if *holder == mac => Ok("our lease of the address is this machine's"),
                Some(holder) => Err(format!("our lease of {peer} is {holder}'s, not {mac}'s")),
                None if self.is_own_static(peer) => {
                    Ok("its record has the address, and the neighbour entry is this machine's")
                }
                None => Err(format!("we have no active lease of {peer}")),
            },
            Binding::Neighbour => match self.facts.neighbour {
                Some(neighbour) if neighbour == mac => Ok("the neighbour entry of the address is this machine's"),
                Some(neighbour) => Err(format!("the neighbour entry of {peer} is {neighbour}, not {mac}")),
                None => Err(format!("{peer} has no neighbour entry: it is not on link")),
            },
            Binding::TokenOnly => match bound {
                Some(bound) if bound != peer => Err(format!("the token is bound to {bound}, not {peer}")),
                _ => Ok("the subnet trusts the token alone"),
            },
        }
    }

    /// An installer that set up the bond or VLAN of its record asks from an address that no lease is for. On our link the neighbour entry
    /// says whose it is, as in proxy mode.
    fn is_own_static(&self, peer: Ipv4Addr) -> bool {
        let Some((system, neighbour)) = self.system.as_ref().zip(self.facts.neighbour) else {
            return false;
        };
        let mut recorded = system.interfaces.values();
        recorded.any(|interface| interface.is_static && interface.ip_address == Some(peer))
            && system.macs().any(|mac| mac == neighbour)
    }

    fn is_proxy(&self) -> bool {
        self.world.config.dhcp != DhcpMode::Authoritative
    }
}

#[cfg(test)]
mod tests;
