//! Images: single files that machines are booted from as they are. Field names, words and defaults are Cobbler's.

use super::{Arch, Dict, Inherit, Name, Virt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What the file of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageType {
    /// A kernel, booted as it is: memtest86+, say.
    #[default]
    Direct,
    /// A CD or DVD.
    Iso,
    /// A floppy, a disk or a small CD that fits into the machine's memory.
    Memdisk,
    /// The disk of a guest, copied for each. Never sent to a machine: it may hold what an installed system holds.
    VirtClone,
}

/// The text named no type of image.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no type of image; use direct, iso, memdisk or virt-clone")]
pub struct BadImageType(pub String);

impl ImageType {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Iso, Self::Memdisk, Self::VirtClone];

    /// Cobbler's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Iso => "iso",
            Self::Memdisk => "memdisk",
            Self::VirtClone => "virt-clone",
        }
    }
}

impl fmt::Display for ImageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ImageType {
    type Err = BadImageType;

    fn from_str(text: &str) -> Result<Self, BadImageType> {
        // Cobbler writes the dash as an underscore where its own code names the type.
        let word = text.trim().to_ascii_lowercase().replace('_', "-");
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| BadImageType(text.chars().take(64).collect()))
    }
}

/// One file that machines are booted from as it is: no tree, no answer file, nothing that reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Unique among images.
    pub name: Name,
    /// What the file is.
    pub image_type: ImageType,
    /// Where it lies on the server: absolute. Empty while nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Processor it is built for.
    pub arch: Arch,
    /// Family, where it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub breed: String,
    /// Version within the family.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Cards that Cobbler gives a guest of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub network_count: u32,
    /// Kept for Cobbler's users: nothing renders an answer file for an image.
    #[serde(default, skip_serializing_if = "Inherit::is_inherited")]
    pub autoinstall: Inherit<String>,
    /// Command line of a kernel (`direct`).
    #[serde(default, skip_serializing_if = "Dict::is_empty")]
    pub kernel_options: Dict,
    /// The menu that it stands in. Kept: nobody boots an image by a menu, only who is armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub menu: Option<Name>,
    /// Loaders to use, first that fits; empty means that the server chooses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_loaders: Vec<String>,
    /// What a guest of it gets.
    #[serde(default, skip_serializing_if = "Virt::is_empty")]
    pub virt: Virt,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Free words, kept for Cobbler's users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// Fields of Cobbler's that mean nothing here, by name (`inventory::extra_docs`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field so")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Image {
    /// An image of that name of which nothing is known yet.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self {
            name,
            image_type: ImageType::default(),
            file: String::new(),
            arch: Arch::X86_64,
            breed: String::new(),
            os_version: String::new(),
            network_count: 0,
            autoinstall: Inherit::Inherit,
            kernel_options: Dict::new(),
            menu: None,
            boot_loaders: Vec::new(),
            virt: Virt::default(),
            comment: String::new(),
            owners: Vec::new(),
            extra: BTreeMap::new(),
        }
    }

    /// The bare name of its file.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_cobblers_words() {
        for kind in ImageType::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(
                serde_json::to_string(&kind).unwrap(),
                format!("\"{kind}\""),
                "what is stored is the same word"
            );
        }
        assert_eq!("VIRT_CLONE".parse(), Ok(ImageType::VirtClone));
        let why = "floppy".parse::<ImageType>().unwrap_err().to_string();
        assert!(why.contains("memdisk or virt-clone"), "{why}");
    }

    #[test]
    fn what_is_not_set_is_not_stored() {
        let image = Image::new("memtest".parse().unwrap());
        let text = serde_json::to_string(&image).unwrap();
        assert_eq!(text, r#"{"name":"memtest","image_type":"direct","arch":"x86_64"}"#);
        assert_eq!(serde_json::from_str::<Image>(&text).unwrap(), image);
    }
}
