//! Processor architectures, and the firmwares that DHCP option 93 names.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The processor a distro is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// AMD64; Debian and Ubuntu spell it `amd64`.
    #[serde(rename = "x86_64", alias = "amd64")]
    X86_64,
    /// 32-bit Intel.
    #[serde(alias = "i686", alias = "i586")]
    I386,
    /// ARM 64; Debian and Ubuntu spell it `arm64`.
    #[serde(alias = "arm64")]
    Aarch64,
    /// POWER little endian; Debian spells it `ppc64el`.
    #[serde(alias = "ppc64el")]
    Ppc64le,
    /// IBM Z.
    S390x,
}

/// The text named no architecture that Cordwainer knows.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an architecture; use x86_64, i386, aarch64, ppc64le or s390x")]
pub struct BadArch(pub String);

impl Arch {
    /// The name that Red Hat, SUSE and Cobbler use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::Aarch64 => "aarch64",
            Self::Ppc64le => "ppc64le",
            Self::S390x => "s390x",
        }
    }

    /// The name that Debian and Ubuntu use in paths.
    #[must_use]
    pub const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::I386 => "i386",
            Self::Aarch64 => "arm64",
            Self::Ppc64le => "ppc64el",
            Self::S390x => "s390x",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Arch {
    type Err = BadArch;

    fn from_str(text: &str) -> Result<Self, BadArch> {
        match text.to_ascii_lowercase().as_str() {
            "x86_64" | "amd64" | "x64" | "x86-64" => Ok(Self::X86_64),
            "i386" | "i486" | "i586" | "i686" | "x86" => Ok(Self::I386),
            "aarch64" | "arm64" => Ok(Self::Aarch64),
            "ppc64le" | "ppc64el" => Ok(Self::Ppc64le),
            "s390x" => Ok(Self::S390x),
            _ => Err(BadArch(text.chars().take(64).collect())),
        }
    }
}

/// A client architecture as DHCP option 93 carries it (RFC 4578 section 2.1 and the IANA registry "Processor Architecture Types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ArchCode(pub u16);

/// What kind of firmware asks, judged from option 93 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// PC BIOS, code 0.
    Bios,
    /// UEFI on 32-bit Intel, code 6.
    UefiIa32,
    /// UEFI on x86-64: code 7 in the field, 9 in the registry's older table; both occur.
    UefiX64,
    /// UEFI on ARM 64, code 11.
    UefiArm64,
    /// UEFI HTTP Boot on x86-64, code 16.
    HttpX64,
    /// UEFI HTTP Boot on ARM 64, code 19.
    HttpArm64,
    /// A code that Cordwainer has no loader for.
    Other(u16),
}

impl From<ArchCode> for Firmware {
    fn from(code: ArchCode) -> Self {
        match code.0 {
            0 => Self::Bios,
            6 => Self::UefiIa32,
            7 | 9 => Self::UefiX64,
            11 => Self::UefiArm64,
            16 => Self::HttpX64,
            19 => Self::HttpArm64,
            other => Self::Other(other),
        }
    }
}

impl Firmware {
    /// True when the firmware fetches its boot file by HTTP (UEFI HTTP Boot).
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::HttpX64 | Self::HttpArm64)
    }

    /// True for every UEFI firmware, with PXE or HTTP Boot.
    #[must_use]
    pub const fn is_uefi(self) -> bool {
        matches!(
            self,
            Self::UefiIa32 | Self::UefiX64 | Self::UefiArm64 | Self::HttpX64 | Self::HttpArm64
        )
    }

    /// The firmware that a text of [`fmt::Display`] names, as events keep it.
    #[must_use]
    pub fn displayed(text: &str) -> Option<Self> {
        let code = text.strip_prefix("architecture ").and_then(|code| code.parse().ok());
        let named = [
            Self::Bios,
            Self::UefiIa32,
            Self::UefiX64,
            Self::UefiArm64,
            Self::HttpX64,
            Self::HttpArm64,
        ];
        named
            .into_iter()
            .find(|firmware| firmware.to_string() == text)
            .or_else(|| code.map(Self::Other))
    }

    /// The processor that this firmware boots, where it is certain.
    #[must_use]
    pub const fn arch(self) -> Option<Arch> {
        match self {
            Self::Bios | Self::UefiX64 | Self::HttpX64 => Some(Arch::X86_64),
            Self::UefiIa32 => Some(Arch::I386),
            Self::UefiArm64 | Self::HttpArm64 => Some(Arch::Aarch64),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bios => f.write_str("BIOS"),
            Self::UefiIa32 => f.write_str("UEFI IA32"),
            Self::UefiX64 => f.write_str("UEFI x64"),
            Self::UefiArm64 => f.write_str("UEFI arm64"),
            Self::HttpX64 => f.write_str("UEFI HTTP x64"),
            Self::HttpArm64 => f.write_str("UEFI HTTP arm64"),
            Self::Other(code) => write!(f, "architecture {code}"),
        }
    }
}

/// A text that names no firmware.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is no firmware; use bios, uefi, uefi-http, uefi-ia32, arm64, or the number that it sends as DHCP option 93",
    .0.escape_debug()
)]
pub struct BadFirmware(String);

impl FromStr for Firmware {
    type Err = BadFirmware;

    /// The words of `boot explain --arch`: `bios`, `uefi`, `uefi-x64`, `uefi-http`, `arm64`, or option 93's number.
    fn from_str(text: &str) -> Result<Self, BadFirmware> {
        match text.to_ascii_lowercase().as_str() {
            "bios" | "pc" | "x86_64-bios" => Ok(Self::Bios),
            "uefi" | "efi" | "uefi-x64" | "x64" | "x86_64" => Ok(Self::UefiX64),
            "uefi-ia32" | "ia32" => Ok(Self::UefiIa32),
            "uefi-http" | "http" | "http-x64" => Ok(Self::HttpX64),
            "uefi-arm64" | "arm64" | "aarch64" => Ok(Self::UefiArm64),
            "http-arm64" => Ok(Self::HttpArm64),
            other => other
                .parse::<u16>()
                .map(|code| ArchCode(code).into())
                .map_err(|_| BadFirmware(text.chars().take(64).collect())),
        }
    }
}
