//! Images: how a machine that is armed boots the file of the image that it stands on, and who may fetch that file.

use super::Deciding;
use crate::boot::{Answer, Dialect, Effect, ImageBoot, ImageStart, When, paths};
use crate::install::{Act, Input};
use crate::inventory;
use crate::model::{Firmware, Image, ImageType, Name, System};
use std::sync::Arc;

/// SYSLINUX's loader of drives into memory, by the name of its file.
const MEMDISK: &str = "memdisk";

/// Gathers what the loader needs to boot the image `name`, or says what is against it.
pub(super) fn boot(
    deciding: &Deciding<'_>,
    dialect: Dialect,
    name: &Name,
    system: &System,
) -> Result<ImageBoot, String> {
    let world = deciding.world;
    let resolved =
        inventory::resolve_system(&world.inventory, system.name.as_str()).map_err(|broken| broken.to_string())?;
    let image = world.inventory.image(name.as_str());
    let image = image.ok_or_else(|| format!("there is no image {name}"))?;
    let found = world.assets.images.get(name);
    let found = found.ok_or_else(|| format!("the file of image {name} was not looked at yet"))?;
    let found = (**found).as_ref().map_err(|why| format!("image {name}: {why}"))?;
    let firmware = deciding.facts.firmware;
    let base = deciding.base_url();
    let memdisk = world
        .assets
        .loaders
        .contains_key(MEMDISK)
        .then(|| format!("{base}/{}", paths::loader(MEMDISK)));
    let start = start(image, found.is_iso, dialect, firmware, memdisk)?;
    Ok(ImageBoot {
        dialect,
        firmware,
        system: system.name.clone(),
        image: name.clone(),
        url: format!("{base}/{}", paths::image_file(name)),
        start,
        options: resolved.kernel_options.entries,
        removed: resolved.kernel_options.removed,
    })
}

/// How a file of that type is started by that loader.
fn start(
    image: &Image,
    is_iso: bool,
    dialect: Dialect,
    firmware: Option<Firmware>,
    memdisk: Option<String>,
) -> Result<ImageStart, String> {
    let name = &image.name;
    let is_uefi = firmware.is_some_and(Firmware::is_uefi);
    let by_ipxe = dialect == Dialect::Ipxe;
    match image.image_type {
        ImageType::Direct => Ok(ImageStart::Kernel),
        ImageType::VirtClone => Err(format!(
            "image {name} is the disk of guests, and is sent to no machine; cordwainer guest create NAME --image {name}"
        )),
        ImageType::Iso if !is_iso => Err(format!(
            "the file of image {name} is no ISO 9660 image; a floppy or a disk is --image-type memdisk, a kernel is direct"
        )),
        ImageType::Iso if by_ipxe => Ok(ImageStart::Drive),
        ImageType::Iso => Err(format!(
            "image {name} is an ISO, which iPXE alone boots; take grub and pxe out of boot_loaders"
        )),
        ImageType::Memdisk if is_uefi && by_ipxe && is_iso => Ok(ImageStart::Drive),
        ImageType::Memdisk if is_uefi => Err(format!(
            "image {name} needs a BIOS: memdisk runs on no UEFI, where iPXE boots ISO images alone"
        )),
        ImageType::Memdisk => match memdisk {
            Some(memdisk) => Ok(ImageStart::Memdisk {
                memdisk,
                words: if is_iso { "iso raw" } else { "raw" },
            }),
            // Its blocks come over the network then, for as long as the BIOS reads them.
            None if by_ipxe => Ok(ImageStart::Drive),
            None => Err(format!(
                "image {name} is loaded by memdisk, which is not on the disk: the package syslinux-common (syslinux on Red Hat) has it"
            )),
        },
    }
}

/// The file of an image. Anyone may have it who knows its name, as with a tree; but not the disk of a guest.
pub(super) fn file(deciding: &mut Deciding<'_>, name: &Name) -> Answer {
    let Some(image) = deciding.world.inventory.image(name.as_str()).cloned() else {
        return deciding.not_found("no such image", format!("there is no image {name}"));
    };
    if image.image_type == ImageType::VirtClone {
        return deciding.not_found("not for machines", format!("image {name} is the disk of guests"));
    }
    let found = deciding.world.assets.images.get(name);
    let asset = match found.map(|found| found.as_ref().as_ref()) {
        Some(Ok(found)) => Arc::clone(&found.asset),
        Some(Err(why)) => {
            let why = format!("image {name}: {why}");
            return deciding.not_found("no such file", why);
        }
        None => {
            return deciding.not_found(
                "no such file",
                format!("the file of image {name} was not looked at yet"),
            );
        }
    };
    spend(deciding, name);
    let path = asset.path.display().to_string();
    deciding.trace.held("image", format!("{path} of image {name}"));
    Answer::Loader(asset)
}

/// Whoever was given the script of this image and fetches its file has booted it: the arming is spent.
fn spend(deciding: &mut Deciding<'_>, name: &Name) {
    let Some(system) = deciding.system.clone() else { return };
    let Some(arm) = deciding.arm_of(&system) else { return };
    let given = deciding
        .installation_of(&system)
        .is_some_and(|seen| seen.arm == arm.id && seen.state.is_open());
    let own = deciding
        .facts
        .mac
        .zip(deciding.facts.peer)
        .is_some_and(|(mac, peer)| deciding.owns_address(mac, peer, None).is_ok());
    if given && own && system.image.as_ref() == Some(name) {
        deciding.effects.push(Effect::Install {
            when: When::Before,
            act: Act {
                arm: (*arm).clone(),
                input: Input::ImageFetched,
            },
        });
    }
}
