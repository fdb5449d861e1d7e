//! An answer file as its machine would get it, for admins who look before they arm. Opens nothing: its URLs hold no token.

use super::{AnswerFile, World, paths};
use crate::inventory::{Layer, Resolved, Sourced};
use std::net::Ipv4Addr;

/// What stands in a preview where a machine gets its token.
const NO_TOKEN: &str = "TOKEN";

/// The answer-file template: the nearest layer's, else the family's own.
pub(super) fn template_of(world: &World, resolved: &Resolved) -> Option<Sourced<String>> {
    resolved.autoinstall.clone().or_else(|| {
        let (name, signature) = resolved
            .distro
            .signature
            .as_ref()
            .zip(world.assets.signature_of(&resolved.distro))?;
        let value = signature.autoinstall_for(&resolved.distro.os_version)?.to_owned();
        Some(Sourced {
            value,
            layer: Layer::Signature(name.clone()),
        })
    })
}

/// The answer file of `resolved` as a machine that reaches the server at `local` would get it; `None` when no layer names a template.
#[must_use]
pub fn preview(world: &World, resolved: Resolved, local: Ipv4Addr) -> Option<AnswerFile> {
    let template = template_of(world, &resolved)?;
    let base_url = paths::base_url(local, world.config.http_port);
    let file = world
        .assets
        .signature_of(&resolved.distro)
        .map(|signature| signature.answer_file.clone())
        .filter(|file| !file.is_empty())
        .unwrap_or_else(|| template.value.rsplit('/').next().unwrap_or("").to_owned());
    let interface = resolved.system.as_ref().and_then(|system| {
        system
            .interfaces
            .values()
            .find(|interface| interface.mac_address.is_some())
    });
    Some(AnswerFile {
        file,
        template,
        tree_url: match resolved.distro.tree {
            Some(_) => format!("{base_url}/{}", paths::tree(&resolved.distro.name, "")),
            None => String::new(),
        },
        answer_url: format!("{base_url}/i/{NO_TOKEN}"),
        report_url: format!("{base_url}/r/{NO_TOKEN}"),
        base_url,
        arm: None,
        mac: interface.and_then(|interface| interface.mac_address),
        address: interface.and_then(|interface| interface.ip_address),
        resolved,
    })
}
