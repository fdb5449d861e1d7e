//! The look before a machine is armed: what would keep its installation from ending well, found before its disk is wiped.
//!
//! Pure.

use super::{answer_file, leaves_login};
use crate::boot::{AnswerFile, World, missing_file, previews};
use crate::inventory::resolve_system;
use crate::model::{Image, ImageType, Name};
use std::net::Ipv4Addr;

/// What would go wrong with the installation of `name`: gives back what is only likely.
///
/// # Errors
/// What is certain, with the remedy.
pub fn installable(world: &World, name: &Name, local: Ipv4Addr) -> Result<Vec<String>, String> {
    let resolved = resolve_system(&world.inventory, name.as_str()).map_err(|broken| broken.to_string())?;
    if let Some(image) = &resolved.image {
        return bootable(world, image);
    }
    let distro = resolved.distro.clone();
    let Some(media) = world.assets.media.get(&distro.name) else {
        return Err(format!(
            "nothing is known of the files of distro `{}`; check its kernel and initrd: cordwainer distro report {}",
            distro.name, distro.name
        ));
    };
    for found in std::iter::once(&media.kernel).chain(&media.initrd) {
        if let Err(why) = found {
            return Err(format!("distro `{}` cannot be booted: {why}", distro.name));
        }
    }
    let mut warnings = Vec::new();
    if let Some(ram) = world
        .assets
        .signature_of(&distro)
        .and_then(|signature| signature.min_ram_for(&distro.os_version))
    {
        warnings.push(format!(
            "this installer needs {ram} MiB of RAM in the machine; with less it stops without a word"
        ));
    }
    if let Some(what) = missing_file(world, &resolved) {
        return Err(format!(
            "its installer loads the whole {what} of distro `{0}`, and nothing names it: cordwainer distro edit --name {0} --in-place \
             --autoinstall-meta {what}=URL (a URL, or a path below the tree)",
            distro.name
        ));
    }
    let asks = world
        .assets
        .signature_of(&distro)
        .is_none_or(|signature| signature.asks_answers(&distro.os_version));
    if !asks && resolved.autoinstall.is_none() {
        warnings.push(format!(
            "distro `{}` installs nothing and reports nothing: the machine starts it until it is disarmed or the arming ends",
            distro.name
        ));
        return Ok(warnings);
    }
    let answers = previews(world, resolved, local);
    let Some(answer) = answers.first() else {
        return Err(
            "no layer names an answer file; give its profile one: cordwainer profile edit PROFILE --autoinstall TEMPLATE"
                .to_owned(),
        );
    };
    let mut texts = Vec::new();
    for answer in &answers {
        texts.push(answer_file(answer, world).map_err(|error| {
            let remedy = remedy(answer, &error.template, world);
            format!("its answer file does not render: {error}; {remedy}")
        })?);
    }
    if !texts.first().is_some_and(|text| leaves_login(answer, world, text)) {
        return Err(
            "nobody could log in afterwards: its answer file sets neither a root password nor an SSH key; set \
             ssh_authorized_keys or root_password_hash in [defaults] of the configuration"
                .to_owned(),
        );
    }
    Ok(warnings)
}

/// What would go wrong with a boot of this image.
fn bootable(world: &World, image: &Image) -> Result<Vec<String>, String> {
    let name = &image.name;
    let found = world.assets.images.get(name);
    let found = found.ok_or_else(|| format!("nothing is known of the file of image `{name}`"))?;
    let file = found
        .as_ref()
        .as_ref()
        .map_err(|why| format!("image `{name}` cannot be booted: {why}"))?;
    let mut warnings = Vec::new();
    match image.image_type {
        ImageType::VirtClone => {
            return Err(format!(
                "image `{name}` is the disk of guests, which no machine boots: cordwainer guest create NAME --image {name}"
            ));
        }
        ImageType::Iso if !file.is_iso => {
            return Err(format!(
                "the file of image `{name}` is no ISO 9660 image: cordwainer image edit --name {name} --image-type memdisk (a floppy or disk) \
                 or direct (a kernel)"
            ));
        }
        ImageType::Iso => warnings.push(
            "what is on the ISO sees no drive any more once a kernel's own drivers take over: it must have all it needs in its initrd"
                .to_owned(),
        ),
        ImageType::Memdisk if !file.is_iso => {
            warnings.push(format!("image `{name}` boots on a BIOS only; with UEFI the machine boots its own disk"));
        }
        ImageType::Memdisk | ImageType::Direct => {}
    }
    Ok(warnings)
}

/// What to do about a template that does not render.
#[must_use]
pub fn remedy(answer: &AnswerFile, template: &str, world: &World) -> String {
    if world.assets.templates.contains_key(&answer.template.value) {
        format!("cordwainer template edit {template}")
    } else {
        missing_template(&answer.template.value, world)
    }
}

/// What to do about a template that cannot be had: its file is not there, or is there and cannot be read.
#[must_use]
pub fn missing_template(name: &str, world: &World) -> String {
    let file = world
        .config
        .overrides
        .join("kickstarts")
        .join(name)
        .display()
        .to_string();
    match world.assets.problems.iter().find(|(what, _)| *what == file) {
        Some((_, why)) => format!("mend {file}: it {why}"),
        None => format!("write it to {file}, or name another: `cordwainer template list` shows those there are"),
    }
}
