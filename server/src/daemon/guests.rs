//! Hands the installer of an armed guest to the supervisor: decided by the one decision that all machines get, claimed before it leaves.

use crate::boot::{self, Answer, Ask, Dialect, Effect, Facts, FoundBy, Script, When};
use crate::event::control::{Launching, MediaFile};
use crate::install::{Act, Input};
use crate::model::{Mac, Name};
use crate::ports::{BoxFuture, Effects, Launches, Worlds};
use crate::render;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What it takes to launch.
pub(super) struct Guests {
    pub(super) worlds: Arc<dyn Worlds>,
    pub(super) effects: Arc<dyn Effects>,
}

impl Launches for Guests {
    fn launch(
        &self,
        system: Name,
        mac: Mac,
        server: Ipv4Addr,
        behind: Option<Ipv4Addr>,
    ) -> BoxFuture<'_, Result<Launching, String>> {
        Box::pin(async move {
            let (launching, effect) = self.decide(&system, mac, server, behind)?;
            self.effects
                .before(vec![effect])
                .await
                .map_err(|error| format!("{system} cannot be started: {error}"))?;
            Ok(launching)
        })
    }
}

impl Guests {
    fn decide(
        &self,
        system: &Name,
        mac: Mac,
        server: Ipv4Addr,
        behind: Option<Ipv4Addr>,
    ) -> Result<(Launching, Effect), String> {
        let world = self.worlds.world();
        let record = world
            .inventory
            .system(system.as_str())
            .ok_or_else(|| format!("there is no system {system}; the daemon may not have taken it up yet"))?;
        if !record.macs().any(|own| own == mac) {
            return Err(format!("system {system} has no interface {mac}"));
        }
        let arm =
            world.inventory.arm(system.as_str()).cloned().ok_or_else(|| {
                format!("{system} is not armed, and only an admin arms: cordwainer system arm {system}")
            })?;
        let request = boot::Request {
            facts: Facts {
                mac: Some(mac),
                found_by: FoundBy::Path,
                ..Facts::nobody(server)
            },
            ask: Ask::Script(Dialect::Ipxe),
        };
        let decision = boot::decide(&world, &request);
        let Answer::Script(script) = decision.answer else {
            return Err(format!("{system} gets no installer"));
        };
        let launch = match *script {
            Script::Launch(launch) => launch,
            Script::Image(boot) => return Err(format!("{system} boots image {}, and no installer", boot.image)),
            Script::Local { because, .. } => return Err(because),
            Script::Menu(_) => return Err(format!("{system} gets a menu, and no installer")),
        };
        let resolved =
            crate::inventory::resolve_system(&world.inventory, system.as_str()).map_err(|broken| broken.to_string())?;
        let (command_line, left_out) = render::kernel_command_line(&launch.options);
        if !left_out.is_empty() {
            return Err(format!(
                "the kernel cannot be given these options as they are written: {}; mend the quotes in kernel_options",
                left_out.join(", ")
            ));
        }
        let file = |path: &String| MediaFile {
            distro: resolved.distro.name.clone(),
            path: path.clone(),
        };
        let launching = Launching {
            arm: arm.id.clone(),
            command_line,
            kernel: file(&resolved.distro.kernel),
            initrd: resolved.distro.initrd.iter().map(file).collect(),
        };
        let input = Input::Launch {
            mac,
            // A guest's kernel has no address yet; one behind its hypervisor will never be seen with another than that one's.
            address: behind.unwrap_or(Ipv4Addr::UNSPECIFIED),
            behind: behind.is_some(),
            asked: None,
        };
        let effect = Effect::Install {
            when: When::Before,
            act: Act {
                arm: (*arm).clone(),
                input,
            },
        };
        Ok((launching, effect))
    }
}
