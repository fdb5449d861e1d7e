//! What takes long, off the hypervisor's thread: disks, kernels and initrds, and what the boot server says.
#![allow(clippy::disallowed_methods, reason = "IO: libvirt, and the daemon's socket")]

use super::host::{Handle, Message, media_of};
use super::hub::{Hub, lock};
use crate::event::control::{ClientError, Launching};
use crate::guest::driver::{DriverError, Hypervisor, Media};
use crate::guest::spec::{Boot, Method, Origin, Spec, Uuid};
use crate::model::{ArmId, Name};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Kernels and initrds that were brought for a guest that does not run yet. Held while any is brought or collected.
pub(super) type Materials = Arc<Mutex<BTreeSet<PathBuf>>>;

/// Largest kernel or initrd, in bytes.
const LARGEST: u64 = 2 << 30;
/// How long the server may wait before it says that nothing has changed.
const NEWS: Duration = Duration::from_secs(20);
/// How long it is left alone when it cannot be asked.
const AWAY: Duration = Duration::from_secs(1);
/// After a panic: long enough to read it on the console, and then a stop that somebody hears of.
const PANIC: &str = "panic=30";

/// What the first boot needs is not to be had.
#[derive(Debug)]
pub(super) enum NotReady {
    /// The hypervisor is away; it is tried again.
    Away,
    /// The daemon is away: a sentence that says so.
    ServerAway(String),
    /// A sentence with the remedy.
    Refused(String),
}

impl From<DriverError> for NotReady {
    fn from(error: DriverError) -> Self {
        if error.is_away() {
            Self::Away
        } else {
            Self::Refused(error.to_string())
        }
    }
}

impl From<ClientError> for NotReady {
    fn from(error: ClientError) -> Self {
        let text = format!("the installer cannot be started: {error}");
        match error {
            ClientError::NotRunning { .. } | ClientError::Broken(_) => Self::ServerAway(text),
            ClientError::NotAllowed(_) | ClientError::Refused(_) => Self::Refused(text),
        }
    }
}

/// Makes the disks.
pub(super) fn prepare(hypervisor: &Hypervisor, spec: &Spec) -> Result<(), DriverError> {
    for disk in spec.disks.iter().filter(|disk| !disk.existing) {
        hypervisor.make_disk(disk)?;
    }
    Ok(())
}

/// Gathers what the first boot needs.
pub(super) fn materials(
    hypervisor: &Hypervisor,
    hub: &Hub,
    brought: &Materials,
    spec: &Spec,
) -> Result<Boot, NotReady> {
    match spec.method {
        Method::Kernel | Method::XenPv => kernel(hypervisor, hub, brought, spec),
        Method::Pxe => Ok(Boot::Network(spec.order())),
        Method::Iso => match &spec.medium {
            Some(medium) => Ok(Boot::Cdrom(medium.clone(), spec.order())),
            None => Err(NotReady::Refused(format!("guest {} has no CD image", spec.name))),
        },
        Method::Import => Ok(Boot::Disk),
    }
}

fn kernel(hypervisor: &Hypervisor, hub: &Hub, brought: &Materials, spec: &Spec) -> Result<Boot, NotReady> {
    let refuse = |text: String| NotReady::Refused(text);
    let system = spec.system.as_ref().ok_or_else(|| {
        refuse(format!(
            "guest {} is no system of this server, so there is nothing to install it from; give --profile or --system",
            spec.name
        ))
    })?;
    let (nic, server) = spec.nics.first().zip(spec.server).ok_or_else(|| {
        refuse(format!(
            "guest {} has no network card, or no address of this server is known as it would reach it; set guest_address in [server] of the configuration",
            spec.name
        ))
    })?;
    let daemon = hub.daemon()?;
    let launching: Launching = daemon.launch(system, nic.mac, server, spec.behind)?;
    let kernel = Media::new("kernel", daemon.media(&launching.kernel, LARGEST)?);
    let mut initrd = Vec::new();
    for media in &launching.initrd {
        // The kernel takes several archives in one file, each beginning at a multiple of four bytes.
        while initrd.len() % 4 != 0 {
            initrd.push(0);
        }
        initrd.extend(daemon.media(media, LARGEST)?);
    }
    let pool = spec
        .disks
        .iter()
        .find_map(|disk| match &disk.origin {
            Origin::Pool { pool, .. } => Some(pool.as_str()),
            _ => None,
        })
        .unwrap_or("default");
    let mut held = lock(brought);
    let kernel = hypervisor.bring(pool, &kernel)?;
    held.insert(kernel.clone());
    let initrd = if initrd.is_empty() {
        None
    } else {
        let path = hypervisor.bring(pool, &Media::new("initrd", initrd))?;
        held.insert(path.clone());
        Some(path)
    };
    Ok(Boot::Kernel {
        kernel,
        initrd,
        command_line: command_line(&launching.command_line, &spec.extra),
    })
}

fn command_line(server: &str, extra: &str) -> String {
    let mut line = server.to_owned();
    let says_panic = |words: &str| words.split_whitespace().any(|word| word.starts_with("panic="));
    if !says_panic(server) && !says_panic(extra) {
        line.push(' ');
        line.push_str(PANIC);
    }
    if !extra.trim().is_empty() {
        line.push(' ');
        line.push_str(extra.trim());
    }
    line
}

/// The guest runs, or never will: its configuration says what it needs.
pub(super) fn brought(materials: &Materials, boot: &Boot) {
    let mut held = lock(materials);
    for path in media_of(boot) {
        held.remove(&path);
    }
}

/// Deletes kernels and initrds that nobody needs.
pub(super) fn collect(hypervisor: &Hypervisor, materials: &Materials) {
    let held = lock(materials);
    match hypervisor.collect(&held) {
        Ok(gone) if gone.is_empty() => {}
        Ok(gone) => tracing::info!(
            uri = hypervisor.uri(),
            "no guest needs {} any more: deleted",
            gone.join(", ")
        ),
        Err(error) => tracing::debug!("unused kernels stay for now: {error}"),
    }
}

/// Hears from the server how an installation stands, until `ended` is dropped on the other side.
pub(super) fn hear(hub: &Hub, own: &Handle, uuid: &Uuid, system: &Name, arm: &ArmId, ended: &Receiver<()>) {
    let mut known = None;
    let mut told = false;
    loop {
        let pause = match hub
            .daemon()
            .and_then(|daemon| daemon.standing(system, arm, known.clone(), NEWS))
        {
            Ok(heard) => {
                told = false;
                if known.as_ref() != Some(&heard) {
                    own.send(Message::Standing(uuid.clone(), heard.clone()));
                }
                known = Some(heard);
                Duration::ZERO
            }
            Err(error) => {
                if !told {
                    tracing::warn!(%system, "{error}; what its installer reports is heard once the daemon is back");
                }
                told = true;
                AWAY
            }
        };
        match ended.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_stop_unless_somebody_says_otherwise() {
        for (server, extra, expected) in [
            ("a b=c", "", "a b=c panic=30"),
            ("a panic=5", " x ", "a panic=5 x"),
            ("a", "panic=0", "a panic=0"),
        ] {
            assert_eq!(command_line(server, extra), expected);
        }
    }
}
