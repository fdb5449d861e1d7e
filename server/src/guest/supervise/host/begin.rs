//! A guest is made: what stands in its way is found before anything is defined.
#![allow(clippy::disallowed_methods, reason = "IO: libvirt")]

use super::{Entry, Follower, Host};
use crate::guest::domain_xml;
use crate::guest::driver::{DriverError, Hypervisor};
use crate::guest::flow::{Effect, Job, Proof};
use crate::guest::protocol::Reply;
use crate::guest::spec::{Method, Origin, Spec};
use std::sync::mpsc::Sender;

impl Host {
    /// Defines the final configuration of a guest, and lets its flow begin.
    pub(super) fn begin(&mut self, spec: Spec, again: bool, told: Sender<Reply>) {
        let refuse = |text: String| drop(told.send(Reply::Refused { text }));
        let Some(hypervisor) = self.hypervisor() else {
            return refuse(format!("{} does not answer; nothing was changed", self.uri));
        };
        if let Err(error) = self.hub.note_host(&self.uri) {
            return refuse(format!(
                "the list of hypervisors cannot be written, and without it a guest could be lost: {error}"
            ));
        }
        let defined = stands_in_the_way(&hypervisor, &spec, again)
            .and_then(|()| with_places(&hypervisor, spec))
            .and_then(|spec| define(&hypervisor, spec, again));
        match defined {
            Ok((spec, job)) => {
                let uuid = spec.uuid.clone();
                let text = format!("defined on {}", self.uri);
                drop(told.send(Reply::Step { text }));
                let mut entry = Entry::new(spec, job.clone());
                entry.followers.push(Follower {
                    to: told,
                    creates: true,
                });
                self.guests.insert(uuid.clone(), entry);
                self.perform(&uuid, &job, vec![Effect::Prepare]);
            }
            Err(error) => {
                refuse(error.to_string());
                if error.is_away() {
                    self.trouble(&error);
                }
            }
        }
    }
}

/// What would be hit: a guest of this name or uuid, a volume, a hardware address.
fn stands_in_the_way(hypervisor: &Hypervisor, spec: &Spec, again: bool) -> Result<(), DriverError> {
    let clash = |text: String| Err(DriverError::Clash(text));
    let (name, uri) = (&spec.name, hypervisor.uri());
    match hypervisor.find(name.as_str())? {
        Some(there) if again && there == spec.uuid => {}
        Some(there) if there == spec.uuid => {
            return clash(format!(
                "guest {name} is on {uri} already; look at it: cordwainer guest show {name}, or install it anew: cordwainer guest reinstall {name}"
            ));
        }
        Some(there) => {
            return clash(format!(
                "{uri} has another guest called {name}, with uuid {there}; choose another name, or take that one away: cordwainer guest delete {name}"
            ));
        }
        None if again => {
            return clash(format!(
                "there is no guest {name} on {uri} that could be installed anew; cordwainer guest create {name} makes one"
            ));
        }
        None => {}
    }
    if !again && let Some(other) = hypervisor.name_of(&spec.uuid)? {
        return clash(format!(
            "{uri} has a guest {other} with the uuid {}; a guest was renamed: give another MAC address (--network ...,mac=MAC), or take {other} away",
            spec.uuid
        ));
    }
    for (mac, uuid, other) in hypervisor.macs()? {
        if uuid != spec.uuid && spec.nics.iter().any(|nic| nic.mac == mac) {
            return clash(format!(
                "guest {other} on {uri} has the MAC address {mac} already; leave mac= out, and another is made"
            ));
        }
    }
    for disk in spec.disks.iter().filter(|disk| !disk.existing && !again) {
        if let Origin::Pool { pool, volume, .. } = &disk.origin
            && hypervisor.has_volume(pool, volume)?
        {
            return clash(format!(
                "storage pool {pool} of {uri} has a volume {volume} already; use it with --disk pool={pool},volume={volume}, or delete it: virsh -c {uri} vol-delete {volume} --pool {pool}"
            ));
        }
    }
    Ok(())
}

/// The spec with each volume's path where its pool has paths: confinement of libvirt follows paths.
fn with_places(hypervisor: &Hypervisor, mut spec: Spec) -> Result<Spec, DriverError> {
    for disk in &mut spec.disks {
        if let Origin::Pool { pool, volume, path } = &mut disk.origin
            && path.is_none()
        {
            *path = hypervisor.place_of(pool, volume)?;
        }
    }
    Ok(spec)
}

fn define(hypervisor: &Hypervisor, spec: Spec, again: bool) -> Result<(Spec, Job), DriverError> {
    let proof = match (spec.method, &spec.system) {
        (Method::Import, _) => Proof::Disk,
        (_, Some(_)) => Proof::Report,
        (_, None) => Proof::Stop,
    };
    let job = Job {
        autostart: spec.autostart,
        reboots_midway: spec.reboots_midway,
        fresh: !again,
        ..Job::new(proof)
    };
    let xml = domain_xml::finished(&spec, &job).map_err(|bad| DriverError::Clash(bad.to_string()))?;
    if again {
        // Not with its host before it is installed again.
        hypervisor.autostart(&spec.uuid, false)?;
        hypervisor.destroy(&spec.uuid)?;
    }
    hypervisor.define(spec.name.as_str(), &xml)?;
    Ok((spec, job))
}
