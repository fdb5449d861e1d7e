//! Guests of images: an ISO is the CD that they install from, the disk of a `virt-clone` is what theirs stands on.
//!
//! Only says what is to be made of an image; `create` makes it.

use super::super::desk::Desk;
use super::super::exit::Failure;
use super::super::object;
use crate::guest::wish::DiskWish;
use crate::guest::{Host, Medium, Method};
use crate::inventory::Inventory;
use crate::model::{Image, ImageType, Kind, Name};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The image that a guest is made of: the one named, or the one that its system stands on.
pub(super) fn find(desk: &Desk, image: Option<&String>, system: Option<&Name>) -> Result<Option<Arc<Image>>, Failure> {
    if image.is_none() && system.is_none() {
        return Ok(None);
    }
    let inventory = desk.inventory()?;
    let of_system = || {
        let system = inventory.system(system?.as_str())?;
        system.image.as_ref().map(ToString::to_string)
    };
    let name = image.cloned().or_else(of_system);
    name.map(|name| usable(&inventory, &name)).transpose()
}

fn usable(inventory: &Inventory, name: &str) -> Result<Arc<Image>, Failure> {
    let image = inventory.image(name);
    let image = image.ok_or_else(|| object::unknown(inventory, Kind::Image, name))?;
    if image.file.is_empty() {
        return Err(Failure::said(
            format!("image `{name}` names no file"),
            format!("cordwainer image edit --name {name} --file PATH"),
        ));
    }
    match image.image_type {
        ImageType::Iso | ImageType::VirtClone => Ok(Arc::clone(image)),
        other => Err(Failure::said(
            format!("image `{name}` is {other}, and a guest is made of an iso or of a virt-clone"),
            "boot it over the network instead: cordwainer system add --name NAME --image IMAGE --mac-address MAC, then system arm",
        )),
    }
}

/// How a guest of it comes to be.
pub(super) fn method(image: &Image) -> Method {
    match image.image_type {
        ImageType::VirtClone => Method::Import,
        _ => Method::Iso,
    }
}

/// The CD of it.
pub(super) fn medium(image: &Image) -> Option<Medium> {
    (image.image_type == ImageType::Iso).then(|| Medium::File(PathBuf::from(&image.file)))
}

/// The disk that stands on the image's: a volume of the pool that lies in its folder.
///
/// # Errors
/// Where no pool of the hypervisor does.
pub(super) fn disk(image: &Image, host: Option<&Host>) -> Result<DiskWish, Failure> {
    let folder = Path::new(&image.file).parent().unwrap_or_else(|| Path::new("/"));
    let pool = match host {
        // What is only printed is printed without a hypervisor too; its pools are mostly called after their folders.
        None => folder.file_name().map(|name| name.display().to_string()),
        Some(host) => {
            let found = host.pools.iter().find(|pool| pool.path.as_deref() == Some(folder));
            let found = found.ok_or_else(|| {
                Failure::said(
                    format!(
                        "no storage pool of {} lies in {}, where image `{}` is",
                        host.uri,
                        folder.display(),
                        image.name
                    ),
                    format!("make one: virsh pool-create-as NAME dir --target {}", folder.display()),
                )
            })?;
            Some(found.name.clone())
        }
    };
    Ok(DiskWish {
        backing: Some((pool, image.file_name().to_owned())),
        ..DiskWish::default()
    })
}
