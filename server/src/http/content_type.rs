//! The `Content-Type` of a file by its name. UEFI HTTP Boot judges an image by it (EDK2 `HttpBootSupport.c`), exactly and without parameters.
//!
//! Pure.

/// Text for people and loaders: boot scripts, answer files, errors. Without a parameter: some installers compare it as it is.
pub const TEXT: &str = "text/plain";

/// The type of the file called `name`.
#[must_use]
pub fn of(name: &str) -> &'static str {
    let file = name.rsplit('/').next().unwrap_or(name);
    let Some((stem, extension)) = file.rsplit_once('.') else {
        return match file {
            "Release" | "Packages" | "Sources" | "SHA256SUMS" | "MD5SUMS" | "README" | "LICENSE" | "media" => TEXT,
            _ => "application/octet-stream",
        };
    };
    match extension.to_ascii_lowercase().as_str() {
        "efi" => "application/efi",
        // EDK2 boots these from RAM when they are the boot file itself.
        "iso" => "application/vnd.efi-iso",
        "img" => "application/octet-stream",
        "html" | "htm" => "text/html; charset=utf-8",
        "xml" => "application/xml",
        "json" => "application/json",
        "txt" | "cfg" | "ks" | "ipxe" | "asc" | "gpg" | "sig" | "conf" | "yaml" | "yml" | "toml" | "sha256" => TEXT,
        "treeinfo" | "discinfo" | "productmd" if stem.is_empty() => TEXT,
        "rpm" => "application/x-rpm",
        "deb" | "udeb" => "application/vnd.debian.binary-package",
        "gz" => "application/gzip",
        "xz" => "application/x-xz",
        "bz2" => "application/x-bzip2",
        "zst" => "application/zstd",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_gets_the_types_that_it_boots() {
        assert_eq!(of("snponly.efi"), "application/efi");
        assert_eq!(of("EFI/BOOT/BOOTX64.EFI"), "application/efi");
        assert_eq!(of("x.iso"), "application/vnd.efi-iso");
        assert_eq!(of("images/pxeboot/initrd.img"), "application/octet-stream");
        assert_eq!(of("images/pxeboot/vmlinuz"), "application/octet-stream");
        assert_eq!(of(".treeinfo"), "text/plain");
        assert_eq!(of("dists/bookworm/Release"), "text/plain");
        assert_eq!(of("undionly.kpxe"), "application/octet-stream");
    }
}
