//! Importing: genuine and faithfully made trees, recognised, placed, and watched. Nothing here needs a network.

mod boot_media;
mod families;
pub mod family_trees;
mod genuine;
mod kill;
pub mod netboot;
mod oracle;
mod place;
mod recognise;
mod tls;
mod unverified;
mod url;
mod watch;
pub mod web;

use cordwainer::distro::detect::Wishes;
use cordwainer::distro::import::{ImportError, ImportRequest, Imported, import};
use cordwainer::distro::library::Library;
use cordwainer::inventory::{Change, Inventory, Row};
use std::path::{Path, PathBuf};

/// Where the package debian-installer-12-netboot-amd64 puts its tree.
pub const NETBOOT: &str = "/usr/lib/debian-installer/images/12/amd64";

/// A folder with a tree and a state folder in it.
pub struct Bench {
    dir: tempfile::TempDir,
    pub inventory: Inventory,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A service user must be able to reach what is below.
        set_mode(dir.path(), 0o755);
        for folder in ["tree", "state", "etc"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self {
            dir,
            inventory: Inventory::default(),
        }
    }

    /// A tree with these files; a path that ends in `/` is a folder.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let bench = Self::new();
        for (path, text) in files {
            bench.put(path, text);
        }
        bench
    }

    pub fn put(&self, path: &str, text: &str) {
        let full = self.tree().join(path);
        if path.ends_with('/') {
            std::fs::create_dir_all(full).unwrap();
            return;
        }
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(full, text).unwrap();
    }

    pub fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn etc(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    pub fn request(&self) -> ImportRequest {
        ImportRequest {
            path: self.tree(),
            name: Some("new".parse().unwrap()),
            ..ImportRequest::default()
        }
    }

    pub fn import(&self, request: &ImportRequest) -> Result<Imported, ImportError> {
        let library = Library::load(&self.etc());
        import(request, &self.state(), &library, &self.inventory, &mut |_| {})
    }

    pub fn imported(&self) -> Imported {
        self.import(&self.request()).unwrap()
    }

    pub fn wishing(&self, wishes: Wishes) -> Result<Imported, ImportError> {
        let request = ImportRequest {
            wishes,
            ..self.request()
        };
        self.import(&request)
    }

    /// Takes the import into the inventory, as the command does.
    pub fn store(&mut self, imported: &Imported) {
        for change in imported.changes() {
            let Change::Put(row) = change else { panic!("{change:?}") };
            assert!(matches!(row, Row::Distro(_) | Row::Profile(_)));
            self.inventory.put(row);
        }
    }

    /// Everything in the state folder, by relative path.
    pub fn in_state(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.state()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                found.push(path.strip_prefix(self.state()).unwrap().display().to_string());
                if path.symlink_metadata().unwrap().is_dir() {
                    folders.push(path);
                }
            }
        }
        found.retain(|path| !matches!(path.as_str(), "distros" | "distros/.lock"));
        found.sort();
        found
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What an import said, one `label text` per line.
pub fn said(imported: &Imported) -> String {
    let lines: Vec<String> = imported
        .lines
        .iter()
        .map(|line| format!("{:<12} {}", line.label, line.text))
        .collect();
    lines.join("\n")
}

/// A `.treeinfo` as productmd 1.2 writes it, with the section that keeps old readers alive.
pub fn treeinfo(name: &str, version: &str, arch: &str) -> String {
    format!(
        "[checksums]\nimages/pxeboot/initrd.img = sha256:00\n\n[general]\n; WARNING.0 = This section provides compatibility\n\
         arch = {arch}\nfamily = {name}\nname = {name} {version}\nversion = {version}\n\n[header]\ntype = productmd.treeinfo\n\
         version = 1.2\n\n[images-{arch}]\nboot.iso = images/boot.iso\ninitrd = images/pxeboot/initrd.img\n\
         kernel = images/pxeboot/vmlinuz\n\n[release]\nname = {name}\nshort = X\nversion = {version}\n\n[stage2]\n\
         mainimage = images/install.img\n\n[tree]\narch = {arch}\nbuild_timestamp = 1\nplatforms = {arch}\nvariants = BaseOS\n"
    )
}

/// The tree of an EL-like DVD.
pub fn el(name: &str, version: &str, arch: &str) -> Bench {
    Bench::with(&[
        (".treeinfo", &treeinfo(name, version, arch)),
        (".discinfo", &format!("1715.1\n{name} {version}\n{arch}\n")),
        ("BaseOS/repodata/repomd.xml", "<repomd/>"),
        ("images/pxeboot/vmlinuz", "kernel"),
        ("images/pxeboot/initrd.img", "initrd!"),
        ("images/install.img", "stage 2"),
        ("EFI/BOOT/BOOTX64.EFI", "shim"),
        ("EFI/BOOT/grubx64.efi", "grub"),
    ])
}

/// The lab distro's tree.
pub fn lab() -> Bench {
    Bench::with(&[
        (
            "lab/release",
            "[release]\nname = Lab Linux\nversion = 1\narch = x86_64\n",
        ),
        ("boot/vmlinuz", "kernel"),
        ("boot/initrd.img", "initrd!"),
    ])
}
