//! A domain that somebody else made, read as a guest of ours: as it is, to be left as it is.
#![allow(clippy::disallowed_methods, reason = "IO: libvirt")]

use super::{DriverError, Hypervisor, serial_log};
use crate::guest::element::Element;
use crate::guest::spec::{
    Accel, Bus, Disk, Firmware, Format, Graphics, Method, Nic, NicModel, NicSource, Origin, Spec, Uuid,
};
use crate::model::{Arch, Name};
use std::path::PathBuf;

impl Hypervisor {
    /// The spec of a domain as its XML has it. Its disks are its own: nothing of ours ever deletes them.
    ///
    /// # Errors
    /// [`DriverError`]; also where it has what a spec cannot say.
    pub fn adopted(&self, uuid: &Uuid, name: &Name, system: Option<Name>, owner: String) -> Result<Spec, DriverError> {
        let xml = self.final_xml(&self.by_uuid(uuid)?)?;
        let root = Element::parse(&xml).map_err(|bad| self.strange("the guest", bad))?;
        let text = |name: &str| root.first(name).map(|element| element.text.trim().to_owned());
        let kib: u64 = text("memory").and_then(|text| text.parse().ok()).unwrap_or(0);
        let os = root.first("os");
        let kind = os.and_then(|os| os.first("type"));
        let devices = root
            .first("devices")
            .cloned()
            .unwrap_or_else(|| Element::new("devices"));
        let uefi = os.is_some_and(|os| {
            os.attribute("firmware") == Some("efi") || os.first("loader").is_some() || os.first("nvram").is_some()
        });
        Ok(Spec {
            name: name.clone(),
            uuid: uuid.clone(),
            connect: self.uri.clone(),
            job: "adopted".to_owned(),
            owner,
            system,
            profile: None,
            method: Method::Import,
            arch: kind
                .and_then(|kind| kind.attribute("arch"))
                .and_then(|arch| arch.parse().ok())
                .unwrap_or(Arch::X86_64),
            accel: match root.attribute("type") {
                Some("kvm") => Accel::Kvm,
                Some("xen") => Accel::Xen,
                _ => Accel::Tcg,
            },
            firmware: if uefi { Firmware::Uefi } else { Firmware::Bios },
            memory: u32::try_from(kib / 1024).unwrap_or(u32::MAX),
            vcpus: text("vcpu").and_then(|text| text.parse().ok()).unwrap_or(1),
            disks: devices.all("disk").filter_map(disk).collect(),
            nics: devices.all("interface").filter_map(nic).collect(),
            graphics: match devices.first("graphics").and_then(|screen| screen.attribute("type")) {
                Some("vnc") => Graphics::Vnc,
                Some("spice") => Graphics::Spice,
                _ => Graphics::None,
            },
            autostart: false,
            start_paused: false,
            extra: String::new(),
            medium: None,
            serial_log: serial_log(&devices),
            reinstall: true,
            reboots_midway: false,
            server: None,
            behind: None,
            edits: Vec::new(),
        })
    }
}

fn disk(element: &Element) -> Option<Disk> {
    if matches!(element.attribute("device"), Some("cdrom" | "floppy")) {
        return None;
    }
    let source = element.first("source")?;
    let path = |name: &str| source.attribute(name).map(PathBuf::from);
    let origin = match (path("file"), path("dev"), source.attribute("pool")) {
        (Some(path), ..) => Origin::File { path },
        (_, Some(path), _) => Origin::Block { path },
        (_, _, Some(pool)) => Origin::Pool {
            pool: pool.to_owned(),
            volume: source.attribute("volume")?.to_owned(),
            path: None,
        },
        _ => return None,
    };
    let format = element.first("driver").and_then(|driver| driver.attribute("type"));
    let bus = element.first("target").and_then(|target| target.attribute("bus"));
    Some(Disk {
        size: None,
        origin,
        format: if format == Some("qcow2") {
            Format::Qcow2
        } else {
            Format::Raw
        },
        bus: match bus {
            Some("scsi") => Bus::Scsi,
            Some("sata" | "ide") => Bus::Sata,
            Some("xen") => Bus::Xen,
            _ => Bus::Virtio,
        },
        backing: None,
        existing: true,
    })
}

fn nic(element: &Element) -> Option<Nic> {
    let mac = element.first("mac")?.attribute("address")?.parse().ok()?;
    let source = element.first("source");
    let named = |name: &str| source.and_then(|source| source.attribute(name)).map(str::to_owned);
    let source = match element.attribute("type") {
        Some("bridge") => NicSource::Bridge(named("bridge")?),
        Some("network") => NicSource::Network(named("network")?),
        _ => NicSource::User,
    };
    let model = element.first("model").and_then(|model| model.attribute("type"));
    Some(Nic {
        mac,
        source,
        model: model.and_then(|model| model.parse().ok()).unwrap_or(NicModel::Virtio),
        vlan: None,
        openvswitch: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_cards_are_read_as_they_are() {
        let element = |xml: &str| Element::parse(xml).unwrap();
        let found = disk(&element(
            "<disk device='disk'><driver type='qcow2'/><source file='/a'/><target dev='sda' bus='sata'/></disk>",
        ))
        .unwrap();
        assert_eq!(
            (found.format, found.bus, found.existing),
            (Format::Qcow2, Bus::Sata, true)
        );
        assert!(disk(&element("<disk device='cdrom'><source file='/a'/></disk>")).is_none());
        let found = nic(&element(
            "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><model type='e1000e'/></interface>",
        ))
        .unwrap();
        assert_eq!(
            (found.source, found.model),
            (NicSource::Bridge("br0".into()), NicModel::E1000e)
        );
    }
}
