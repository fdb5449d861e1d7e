//! An answer file as its machine would get it, for admins who look before they arm. Opens nothing: its URLs hold no token.

use super::{AnswerFile, World, paths};
use crate::inventory::{Layer, Resolved, Sourced};
use std::net::Ipv4Addr;

/// What stands in a preview where a machine gets its token.
const NO_TOKEN: &str = "TOKEN";
/// What an installer may load whole.
pub(super) const WHOLE_FILES: [&str; 3] = ["iso", "rootfs", "modloop"];

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

/// The files that the installer of `resolved` asks for beside its main one, each with its template.
pub(super) fn beside(world: &World, resolved: &Resolved) -> Vec<(String, Sourced<String>)> {
    let name = resolved.distro.signature.as_ref();
    let Some((name, signature)) = name.zip(world.assets.signature_of(&resolved.distro)) else {
        return Vec::new();
    };
    let sourced = |template: &String| Sourced {
        value: template.clone(),
        layer: Layer::Signature(name.clone()),
    };
    let files = signature.answer_files.iter();
    files
        .map(|(file, template)| (file.clone(), sourced(template)))
        .collect()
}

/// The URL that stands for `{what}` (`iso`, `rootfs`) in the installer's arguments: what its variable names below the tree at `tree`, or
/// elsewhere. None where nothing names it.
pub(super) fn whole_file(resolved: &Resolved, what: &str, base_url: &str) -> Option<String> {
    let mut entries = resolved.autoinstall_meta.entries.iter();
    let named = entries.find(|entry| entry.key == what)?.values.as_ref()?.first()?;
    Some(match named.as_str() {
        "" => return None,
        url if url.contains("://") => url.to_owned(),
        path => format!(
            "{base_url}/{}",
            paths::tree(&resolved.distro.name, path.trim_start_matches('/'))
        ),
    })
}

/// What the installer of `resolved` loads whole and nothing names: `iso`, `rootfs`. Without it the machine stops soon after its kernel.
#[must_use]
pub fn missing_file(world: &World, resolved: &Resolved) -> Option<&'static str> {
    let signature = world.assets.signature_of(&resolved.distro)?;
    let args = signature.args_for(&resolved.distro.os_version)?;
    WHOLE_FILES
        .into_iter()
        .find(|what| args.contains(&format!("{{{what}}}")) && whole_file(resolved, what, "").is_none())
}

/// Every answer file of `resolved`, the main one first; empty when no layer names a template.
#[must_use]
pub fn previews(world: &World, resolved: Resolved, local: Ipv4Addr) -> Vec<AnswerFile> {
    let others = beside(world, &resolved);
    let Some(main) = preview(world, resolved, local) else {
        return Vec::new();
    };
    let with = |(file, template)| AnswerFile {
        file,
        template,
        ..main.clone()
    };
    let others: Vec<AnswerFile> = others.into_iter().map(with).collect();
    std::iter::once(main).chain(others).collect()
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
