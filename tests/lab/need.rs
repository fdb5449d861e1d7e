//! What a test needs beyond this repository. A missing piece skips the test loudly, and fails it where `CORDWAINER_REQUIRE_ALL=1` is set.

use std::path::Path;

/// One thing that has to be on the machine.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// Namespaces, taps and bridges can be made.
    Root,
    /// A program on the search path, and the Debian package that has it.
    Program(&'static str, &'static str),
    /// A file, and the Debian package that has it.
    File(&'static str, &'static str),
}

pub const QEMU: Need = Need::Program("qemu-system-x86_64", "qemu-system-x86");
pub const IP: Need = Need::Program("ip", "iproute2");
pub const SETPRIV: Need = Need::Program("setpriv", "util-linux");
pub const DNSMASQ: Need = Need::Program("dnsmasq", "dnsmasq-base");
pub const OVMF: Need = Need::File("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf");
pub const IPXE_ROM: Need = Need::File("/usr/lib/ipxe/qemu/efi-virtio.rom", "ipxe-qemu");
pub const UNDIONLY: Need = Need::File("/usr/lib/ipxe/undionly.kpxe", "ipxe");
pub const SNPONLY: Need = Need::File("/usr/lib/ipxe/snponly.efi", "ipxe");
pub const GRUB_MKIMAGE: Need = Need::Program("grub-mkimage", "grub-common");
pub const GRUB_BIOS: Need = Need::File("/usr/lib/grub/i386-pc/boot.img", "grub-pc-bin");
pub const GRUB_EFI: Need = Need::File("/usr/lib/grub/x86_64-efi/modinfo.sh", "grub-efi-amd64-bin");
pub const DPKG_DEB: Need = Need::Program("dpkg-deb", "dpkg");

/// Hosts and a bridge.
pub const NETWORK: &[Need] = &[Need::Root, IP, SETPRIV];
/// A machine of any firmware.
pub const MACHINES: &[Need] = &[Need::Root, IP, SETPRIV, QEMU, OVMF, IPXE_ROM];
/// The lab distro.
pub const DISTRO: &[Need] = &[GRUB_MKIMAGE, GRUB_BIOS, GRUB_EFI, DPKG_DEB];

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::Program(name, _) => search_path()
                .iter()
                .any(|folder| Path::new(folder).join(name).is_file()),
            Self::File(path, _) => Path::new(path).is_file(),
        }
    }

    fn remedy(self) -> String {
        match self {
            Self::Root => "run the tests as root: they make network namespaces".to_owned(),
            Self::Program(name, package) => format!("{name} is missing: apt-get install {package}"),
            Self::File(path, package) => format!("{path} is missing: apt-get install {package}"),
        }
    }
}

fn search_path() -> Vec<String> {
    let given = std::env::var("PATH").unwrap_or_default();
    given
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(str::to_owned)
        .collect()
}

/// Whether all that `groups` name is there. The caller returns at once on `false`.
///
/// # Panics
/// Where something is missing and `CORDWAINER_REQUIRE_ALL=1`.
#[must_use]
pub fn all(test: &str, groups: &[&[Need]]) -> bool {
    let missing: Vec<String> = groups
        .iter()
        .flat_map(|group| group.iter())
        .filter(|need| !need.is_met())
        .map(|need| need.remedy())
        .collect();
    if missing.is_empty() {
        return true;
    }
    let why = missing.join("; ");
    assert!(
        std::env::var("CORDWAINER_REQUIRE_ALL").as_deref() != Ok("1"),
        "{test} cannot run: {why}"
    );
    eprintln!("SKIPPED {test}: {why}");
    false
}
