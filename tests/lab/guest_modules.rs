//! The kernel modules that a lab machine needs, in the order in which they load. Read from the modules themselves,
//! so that a kernel package that was only unpacked (no `depmod` run) will do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Network, disk and file system: small, because every one costs start time in emulation.
const WANTED: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "e1000",
    "e1000e",
    "ahci",
    "ata_piix",
    "sd_mod",
    "vfat",
    "nls_cp437",
    "nls_ascii",
];

/// One module: its file name without compression (`virtio_net.ko`), and its bytes.
pub struct Module {
    pub file: String,
    pub bytes: Vec<u8>,
}

/// All modules, and for each wanted driver the file names in load order.
pub struct Modules {
    pub all: Vec<Module>,
    pub order: BTreeMap<String, Vec<String>>,
}

/// Collects the modules below `root` (`/lib/modules/VERSION`).
#[must_use]
pub fn collect(root: &Path) -> Modules {
    collect_these(root, WANTED)
}

/// The same for other drivers.
#[must_use]
pub fn collect_these(root: &Path, wanted: &[&str]) -> Modules {
    let mut found = BTreeMap::new();
    list(&root.join("kernel"), &mut found);
    let mut modules = Modules {
        all: Vec::new(),
        order: BTreeMap::new(),
    };
    let mut loaded = BTreeMap::new();
    for &name in wanted {
        let mut order = Vec::new();
        add(name, &found, &mut loaded, &mut order);
        modules.order.insert(name.to_owned(), order);
    }
    modules.all = loaded
        .into_iter()
        .map(|(name, (_, bytes))| Module {
            file: format!("{name}.ko"),
            bytes,
        })
        .collect();
    modules
}

type Loaded = BTreeMap<String, (Vec<String>, Vec<u8>)>;

fn add(name: &str, found: &BTreeMap<String, PathBuf>, loaded: &mut Loaded, order: &mut Vec<String>) {
    // What is no file is part of the kernel itself.
    let Some(path) = found.get(name) else { return };
    if !loaded.contains_key(name) {
        let bytes = read(path);
        loaded.insert(name.to_owned(), (depends(&bytes), bytes));
    }
    for dependency in loaded[name].0.clone() {
        add(&dependency, found, loaded, order);
    }
    let file = format!("{name}.ko");
    if !order.contains(&file) {
        order.push(file);
    }
}

/// The `depends=` entry of the section `.modinfo`: NUL-terminated `key=value` texts.
fn depends(bytes: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(start) = bytes.windows(key.len()).position(|window| window == key) else {
        return Vec::new();
    };
    let value = bytes[start + key.len()..].split(|&byte| byte == 0).next().unwrap();
    let text = String::from_utf8(value.to_vec()).unwrap();
    text.split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

fn read(path: &Path) -> Vec<u8> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new("xz").args(["-dc"]).arg(path).output().unwrap();
        assert!(output.status.success(), "{} does not unpack", path.display());
        return output.stdout;
    }
    std::fs::read(path).unwrap()
}

fn list(folder: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), found);
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        if let Some((stem, _)) = name.split_once(".ko") {
            found.insert(stem.replace('-', "_"), entry.path());
        }
    }
}

#[test]
fn dependencies_are_read_from_the_module() {
    assert_eq!(
        depends(b"x\0license=GPL\0depends=fat,net-failover\0intree=Y\0"),
        ["fat", "net_failover"]
    );
    assert!(depends(b"x\0license=GPL\0depends=\0intree=Y\0").is_empty());
}
