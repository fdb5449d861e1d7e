//! The virt_* fields of profiles and systems: what a guest of theirs gets where nobody says otherwise. Field names are Cobbler's.

use super::Inherit;
use serde::{Deserialize, Serialize};

/// The virt_* fields of one object, as the admin wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Virt {
    /// `virt_type`: kvm, qemu, xenpv, xenfv, or another word of Cobbler's.
    #[serde(rename = "type", skip_serializing_if = "Inherit::is_inherited")]
    pub kind: Inherit<String>,
    /// `virt_ram`: memory in MiB.
    #[serde(skip_serializing_if = "Inherit::is_inherited")]
    pub ram: Inherit<u32>,
    /// `virt_cpus`: virtual processors.
    #[serde(skip_serializing_if = "Inherit::is_inherited")]
    pub cpus: Inherit<u32>,
    /// `virt_file_size`: sizes of the disks in GiB, one for each.
    #[serde(skip_serializing_if = "Inherit::is_inherited")]
    pub file_size: Inherit<Vec<u32>>,
    /// `virt_disk_driver`: qcow2 or raw.
    #[serde(skip_serializing_if = "Inherit::is_inherited")]
    pub disk_driver: Inherit<String>,
    /// `virt_path`: a storage pool, the folder of one, or a disk that is there.
    #[serde(skip_serializing_if = "Inherit::is_inherited")]
    pub path: Inherit<String>,
    /// `virt_bridge` of a profile; a system has it on each interface.
    #[serde(skip_serializing_if = "Inherit::is_inherited")]
    pub bridge: Inherit<String>,
    /// `virt_auto_boot`: start it with its host.
    #[serde(skip_serializing_if = "Inherit::is_inherited")]
    pub auto_boot: Inherit<bool>,
    /// `virt_pxe_boot`: install over PXE instead of with the kernel at hand.
    #[serde(skip_serializing_if = "Inherit::is_inherited")]
    pub pxe_boot: Inherit<bool>,
}

impl Virt {
    /// True when nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The same after inheritance: what somebody up the chain set, nothing where nobody did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VirtWish {
    /// `virt_type`.
    pub kind: Option<String>,
    /// `virt_ram`, MiB.
    pub ram: Option<u32>,
    /// `virt_cpus`.
    pub cpus: Option<u32>,
    /// `virt_file_size`, GiB each.
    pub file_size: Option<Vec<u32>>,
    /// `virt_disk_driver`.
    pub disk_driver: Option<String>,
    /// `virt_path`.
    pub path: Option<String>,
    /// `virt_bridge`.
    pub bridge: Option<String>,
    /// `virt_auto_boot`.
    pub auto_boot: Option<bool>,
    /// `virt_pxe_boot`.
    pub pxe_boot: Option<bool>,
}
