//! From what was recognised to the objects that import makes, and the sentences that say so.
//!
//! Pure.

use super::detect::{Detected, Found};
use super::signature::Signature;
use crate::event::size;
use crate::model::{Dict, DictValue, Distro, Inherit, Name, Parent, Profile, Tree, version_holds};

/// What the admin wants of the new objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// Answer-file template of the profile; none: the signature's.
    pub autoinstall: Option<String>,
    /// Where packages come from when the tree holds none: `http://deb.debian.org/debian`.
    pub mirror: Option<String>,
    /// More kernel arguments for the installer.
    pub kernel_options: Dict,
}

/// The objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The distro.
    pub distro: Distro,
    /// The profile; none when there is one already, which stays as the admin left it.
    pub profile: Option<Profile>,
    /// True when the distro was there before.
    pub updated: bool,
}

/// The profile's name is taken.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "there is a profile `{name}` already, and it stands on {stands_on}; import under another --name, or rename the profile first"
)]
pub struct Taken {
    /// The name.
    pub name: Name,
    /// `distro x` or `profile x`.
    pub stands_on: String,
}

/// Makes the objects for `detected`, to be served from `tree`. What the admin set on a distro or profile of that name is kept; what
/// the tree says is replaced.
///
/// # Errors
/// [`Taken`], when a profile of that name stands on something else.
pub fn plan(
    detected: &Detected,
    name: &Name,
    tree: Tree,
    flags: &Flags,
    old: (Option<&Distro>, Option<&Profile>),
) -> Result<Planned, Taken> {
    let (old_distro, old_profile) = old;
    if let Some(profile) = old_profile {
        let stands_on = match &profile.parent {
            Parent::Distro(distro) if distro == name => None,
            Parent::Distro(distro) => Some(format!("distro {distro}")),
            Parent::Profile(parent) => Some(format!("profile {parent}")),
        };
        if let Some(stands_on) = stands_on {
            return Err(Taken {
                name: name.clone(),
                stands_on,
            });
        }
    }
    let mut distro = old_distro.cloned().unwrap_or_else(|| Distro {
        name: name.clone(),
        arch: detected.arch,
        breed: String::new(),
        os_version: String::new(),
        kernel: String::new(),
        initrd: Vec::new(),
        tree: None,
        signature: None,
        kernel_options: Dict::new(),
        kernel_options_post: Dict::new(),
        autoinstall_meta: Dict::new(),
        boot_loaders: Vec::new(),
        comment: detected.to_string(),
        owners: Vec::new(),
        extra: std::collections::BTreeMap::new(),
    });
    distro.arch = detected.arch;
    distro.breed.clone_from(&detected.breed);
    distro.os_version.clone_from(&detected.os_version);
    distro.kernel.clone_from(&detected.kernel.path);
    distro.initrd = detected.initrd.iter().map(|initrd| initrd.path.clone()).collect();
    distro.tree = Some(tree);
    distro.signature = (detected.signature.as_str() != GENERIC).then(|| detected.signature.clone());
    distro.kernel_options.merge_in_place(&flags.kernel_options);
    let mirror = flags.mirror.as_deref().map(|url| mirror_words(&detected.breed, url));
    let mirror = mirror.into_iter().flatten();
    // A mirror that the admin names is where packages come from, whatever the tree holds.
    let of_tree = |key: &str| flags.mirror.is_none() || !matches!(key, "tree_is_mirror" | "unsigned_tree");
    let meta = detected.meta.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in meta.filter(|(key, _)| of_tree(key)).chain(mirror) {
        distro
            .autoinstall_meta
            .set(key, DictValue::Values(vec![value.to_owned()]));
    }
    let profile = old_profile.is_none().then(|| Profile {
        name: name.clone(),
        parent: Parent::Distro(name.clone()),
        autoinstall: flags.autoinstall.clone().map_or(Inherit::Inherit, Inherit::Set),
        autoinstall_meta: Dict::new(),
        kernel_options: Dict::new(),
        kernel_options_post: Dict::new(),
        name_servers: Inherit::Inherit,
        name_servers_search: Inherit::Inherit,
        proxy: Inherit::Inherit,
        boot_loaders: Inherit::Inherit,
        enable_menu: Inherit::Inherit,
        virt: crate::model::Virt::default(),
        comment: String::new(),
        owners: Vec::new(),
        extra: std::collections::BTreeMap::new(),
    });
    Ok(Planned {
        distro,
        profile,
        updated: old_distro.is_some(),
    })
}

/// The breed of a tree that the admin described himself; it has no signature.
pub const GENERIC: &str = "generic";

/// A name for a distro that was given none: `rocky-linux-9.4-x86_64`.
#[must_use]
pub fn name_for(detected: &Detected) -> Option<Name> {
    let text = format!("{} {} {}", detected.name, detected.version, detected.arch).to_lowercase();
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_matches(['-', '.']).replace("gnu-linux-", "").parse().ok()
}

/// One line of what import says: a word and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `recognised`, `kernel`, `serving`, `created`, `warning`, `next`, ...
    pub label: &'static str,
    /// One thing.
    pub text: String,
}

/// What import says of `planned` (voice: one line, one thing). `serving` is the sentence of where the tree lies.
#[must_use]
pub fn sentences(detected: &Detected, signature: Option<&Signature>, planned: &Planned, serving: String) -> Vec<Line> {
    // Names of trees and of files in them are not ours, and each line is one line.
    let line = |label, text: String| Line {
        label,
        text: text.chars().filter(|c| !c.is_control()).collect(),
    };
    let name = &planned.distro.name;
    let shown = |found: &Found| {
        let bytes = found.size.map_or_else(|| "size unknown".to_owned(), size);
        format!("{} {bytes}", found.path)
    };
    let initrds: Vec<String> = detected.initrd.iter().map(shown).collect();
    let by = signature.map_or_else(
        || "as you described it, no signature".to_owned(),
        |signature| {
            let unverified = if signature.tier > 1 { ", unverified" } else { "" };
            format!("signature {}, tier {}{unverified}", signature.name, signature.tier)
        },
    );
    let mut lines = vec![
        line("recognised", format!("{detected}, {by}")),
        line(
            "kernel",
            format!("{}      initrd {}", shown(&detected.kernel), initrds.join(", ")),
        ),
        line("serving", serving),
    ];
    let verb = if planned.updated { "updated" } else { "created" };
    let template = template_of(signature, planned);
    let ram = signature.and_then(|signature| {
        let mut rules = signature.min_ram_mib.iter();
        rules
            .find(|(when, _)| version_holds(when, &planned.distro.os_version))
            .map(|(_, mib)| *mib)
    });
    let mut notes = Vec::new();
    if let Some(template) = &template {
        let file = template.rsplit('/').next().unwrap_or(template);
        let kind = if file.ends_with(".ks") { "kickstart" } else { "answers" };
        notes.push(format!("{kind} {file}"));
    }
    notes.extend(ram.map(|mib| format!("needs {} RAM in the machine", memory(mib))));
    let notes = if notes.is_empty() {
        String::new()
    } else {
        format!(" ({})", notes.join("; "))
    };
    lines.push(match planned.profile {
        Some(_) => line(verb, format!("distro {name}, profile {name}{notes}")),
        None => line(verb, format!("distro {name}; profile {name} stays as it is{notes}")),
    });
    lines.extend(detected.warnings.iter().map(|warning| line("warning", warning.clone())));
    if signature.is_some() && template.is_none() {
        lines.push(line(
            "warning",
            format!(
                "no answer file is shipped for {} {}: write one to /etc/cordwainer/kickstarts and name it with --autoinstall",
                detected.name, detected.version
            ),
        ));
    }
    if let Some(why) = &detected.no_packages {
        lines.push(line("warning", why.clone()));
        let usual = || by_parts(&planned.distro.breed).then(|| "http://deb.debian.org/debian".to_owned());
        lines.extend(mirror_of(&planned.distro).or_else(usual).map(|mirror| {
            let words = if by_parts(&planned.distro.breed) {
                "\"mirror_host=HOST mirror_directory=/PATH\""
            } else {
                "repository=URL"
            };
            line(
                "mirror",
                format!(
                    "{mirror}; another one: cordwainer distro edit --name {name} --in-place --autoinstall-meta {words}"
                ),
            )
        }));
    }
    lines.push(line(
        "next",
        format!("cordwainer system add --name NAME --profile {name} --mac-address MAC --netboot-enabled=1"),
    ));
    lines
}

fn template_of(signature: Option<&Signature>, planned: &Planned) -> Option<String> {
    let own = planned
        .profile
        .as_ref()
        .and_then(|profile| profile.autoinstall.own().cloned());
    own.or_else(|| {
        let mut rules = signature?.autoinstall.iter();
        let (_, template) = rules.find(|(when, _)| version_holds(when, &planned.distro.os_version))?;
        Some(template.clone())
    })
}

fn memory(mib: u32) -> String {
    if mib >= 1024 && mib.is_multiple_of(1024) {
        format!("{} GiB", mib / 1024)
    } else {
        format!("{mib} MiB")
    }
}

/// A mirror's URL as the templates of a breed take it: d-i is told its parts, others the whole.
fn mirror_words<'a>(breed: &str, url: &'a str) -> Vec<(&'static str, &'a str)> {
    if !by_parts(breed) {
        return vec![("repository", url.trim_end_matches('/'))];
    }
    let Some((_, rest)) = url.split_once("://") else {
        return Vec::new();
    };
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, directory) = rest.split_at_checked(at).unwrap_or((rest, ""));
    let directory = if directory.is_empty() { "/" } else { directory };
    vec![("mirror_host", host), ("mirror_directory", directory)]
}

fn by_parts(breed: &str) -> bool {
    matches!(breed, "debian" | "ubuntu")
}

/// Where the installer of `distro` fetches its packages, if not from the tree, as far as the distro says.
pub(super) fn mirror_of(distro: &Distro) -> Option<String> {
    let text = |key| distro.autoinstall_meta.text(key);
    if !by_parts(&distro.breed) {
        return text("repository").map(str::to_owned);
    }
    let host = text("mirror_host")?;
    Some(format!(
        "http://{host}{}",
        text("mirror_directory").unwrap_or("/debian")
    ))
}
