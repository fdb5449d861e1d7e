//! Looks at the disk and says what can be served: loaders, kernels and initrds, templates, snippets, signatures.
//!
//! The only reader of those places. A look is stat calls but for what changed; it is made when the inventory changes and every few
//! seconds. Nothing that is missing stops anything else: it is a problem text with its remedy. A look that itself lacked descriptors or
//! memory counts for nothing: what was seen before stands, for a template that "is gone" would install machines by another one.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: looks at the folders that hold loaders, templates and trees, and opens kernels to see that they can be read"
)]

mod private;

use super::{Asset, Assets, Compiled, ImageFile, Media, SignatureFacts, Template, VersionedArgs};
use crate::config::Config;
use crate::distro::library::Library;
use crate::distro::signature::Signature;
use crate::distro::tree;
use crate::inventory::Inventory;
use crate::model::{Distro, Image, Name};
use include_dir::{Dir, DirEntry, include_dir};
use nix::errno::Errno;
use private::{PRIVATE, Private};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../kickstarts");

/// Where distributions put loaders, in the order that they are searched: Debian's places, then those of the Red Hat family.
pub const LOADER_PATHS: [&str; 15] = [
    "/usr/lib/ipxe",
    "/usr/lib/PXELINUX",
    "/usr/lib/syslinux/modules/bios",
    "/usr/lib/syslinux",
    "/usr/lib/shim",
    "/usr/lib/grub/x86_64-efi-signed",
    "/usr/lib/grub/arm64-efi-signed",
    "/usr/lib/ipxe/arm64",
    "/usr/share/ipxe",
    "/usr/share/ipxe/arm64-efi",
    "/usr/share/syslinux",
    "/boot/efi/EFI/BOOT",
    "/boot/efi/EFI/redhat",
    "/boot/efi/EFI/fedora",
    "/boot/efi/EFI/rocky",
];

/// Endings of files that firmware or a loader loads; SYSLINUX's memdisk has none.
const LOADER_ENDINGS: [&str; 9] = [
    "memdisk",
    ".kpxe",
    ".kkpxe",
    ".pxe",
    ".0",
    ".c32",
    ".efi",
    ".lkrn",
    ".efi.signed",
];

/// Loaders that an installation tree may hold, beside its kernel or in `EFI/BOOT`.
const TREE_LOADERS: [&str; 9] = [
    "pxelinux.0",
    "bootnetx64.efi",
    "bootnetaa64.efi",
    "grubx64.efi",
    "grubaa64.efi",
    "BOOTX64.EFI",
    "BOOTAA64.EFI",
    "shimx64.efi",
    "shimaa64.efi",
];

/// Largest template or snippet, in bytes.
const LARGEST: u64 = 1 << 20;

/// What a file was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    size: u64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.len(),
            inode: metadata.ino(),
        }
    }
}

/// Templates and snippets as last published, and what was made of them: the same snapshot until one changes.
#[derive(Debug, Default)]
struct Texts {
    templates: imbl::OrdMap<String, Arc<Template>>,
    snippets: imbl::OrdMap<String, Arc<Template>>,
    compiled: Compiled,
}

impl Texts {
    fn become_these(&mut self, templates: BTreeMap<String, Arc<Template>>, snippets: BTreeMap<String, Arc<Template>>) {
        if same(&self.templates, &templates) && same(&self.snippets, &snippets) {
            return;
        }
        *self = Self {
            templates: templates.into_iter().collect(),
            snippets: snippets.into_iter().collect(),
            compiled: Compiled::default(),
        };
    }
}

/// Whether nothing was added, taken away or read anew.
fn same(before: &imbl::OrdMap<String, Arc<Template>>, now: &BTreeMap<String, Arc<Template>>) -> bool {
    before.len() == now.len()
        && before
            .iter()
            .zip(now)
            .all(|(before, now)| before.0 == now.0 && Arc::ptr_eq(before.1, now.1))
}

/// Keeps what was read, so that the next look reads only what changed.
#[derive(Debug)]
pub struct Watcher {
    config: Arc<Config>,
    loader_paths: Vec<PathBuf>,
    private: Private,
    built_in: (BTreeMap<String, Arc<Template>>, BTreeMap<String, Arc<Template>>),
    texts: BTreeMap<PathBuf, (Stamp, Arc<Template>)>,
    last: Texts,
    signature_stamps: Option<Vec<(PathBuf, Stamp)>>,
    signatures: imbl::OrdMap<Name, Arc<SignatureFacts>>,
    signature_problems: Vec<(String, String)>,
    /// What the last whole look saw.
    before: Option<Assets>,
    /// This look lacked descriptors or memory.
    short: Cell<bool>,
}

impl Watcher {
    /// Watches what `config` names, and the places where distributions put loaders.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self::with_loader_paths(config, LOADER_PATHS.iter().map(PathBuf::from).collect())
    }

    /// Watches `system` in place of the usual folders for loaders, after those of `config`.
    #[must_use]
    pub fn with_loader_paths(config: Arc<Config>, system: Vec<PathBuf>) -> Self {
        let mut loader_paths = config.loader_paths.clone();
        loader_paths.extend(system);
        Self {
            private: Private::of(&config),
            config,
            loader_paths,
            built_in: built_in(),
            texts: BTreeMap::new(),
            last: Texts::default(),
            signature_stamps: None,
            signatures: imbl::OrdMap::new(),
            signature_problems: Vec::new(),
            before: None,
            short: Cell::new(false),
        }
    }

    /// What can be served now; what could be before, when the look was cut short by a lack of descriptors.
    #[must_use]
    pub fn look(&mut self, inventory: &Inventory) -> Assets {
        self.short.set(false);
        let seen = self.look_once(inventory);
        if self.short.get() {
            // What was not read is not to be taken for unchanged.
            self.signature_stamps = None;
            return self.before.clone().unwrap_or(seen);
        }
        self.before = Some(seen.clone());
        seen
    }

    /// Passes `result` on, and remembers when it says that the server lacks what opening takes.
    fn told<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && let Some(errno) = error.raw_os_error().map(Errno::from_raw)
            && matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)
        {
            self.short.set(true);
        }
        result
    }

    fn look_once(&mut self, inventory: &Inventory) -> Assets {
        let mut problems = Vec::new();
        self.look_at_signatures();
        let overrides = self.config.overrides.clone();
        let mut kept = BTreeMap::new();
        let (templates, snippets) = self.built_in.clone();
        let templates = self.texts_of(&overrides.join("kickstarts"), templates, &mut kept, &mut problems);
        let snippets = self.texts_of(&overrides.join("snippets"), snippets, &mut kept, &mut problems);
        self.texts = kept;
        self.last.become_these(templates, snippets);
        problems.extend(self.signature_problems.iter().cloned());
        let mut media = imbl::OrdMap::new();
        for distro in inventory.distros() {
            media.insert(distro.name.clone(), Arc::new(self.media_of(distro)));
        }
        let images = inventory.images();
        let images = images.map(|image| (image.name.clone(), Arc::new(self.image_file(image))));
        Assets {
            loaders: self.loaders(inventory),
            images: images.collect(),
            media,
            templates: self.last.templates.clone(),
            snippets: self.last.snippets.clone(),
            signatures: self.signatures.clone(),
            problems,
            compiled: self.last.compiled.clone(),
        }
    }

    fn look_at_signatures(&mut self) {
        let folder = self.config.overrides.join("distros");
        let mut stamps: Vec<(PathBuf, Stamp)> = Vec::new();
        if let Ok(entries) = self.told(std::fs::read_dir(&folder)) {
            for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
                if let Ok(metadata) = std::fs::metadata(&path) {
                    stamps.push((path, Stamp::of(&metadata)));
                }
            }
        }
        stamps.sort_by(|a, b| a.0.cmp(&b.0));
        if self.signature_stamps.as_ref() == Some(&stamps) {
            return;
        }
        let library = Library::load(&self.config.overrides);
        self.signatures = library
            .signatures
            .iter()
            .map(|signature| (signature.name.clone(), Arc::new(facts(signature))))
            .collect();
        self.signature_problems = library
            .problems
            .into_iter()
            .map(|(file, why)| (format!("signature {file}"), format!("{why}; it is not used")))
            .collect();
        self.signature_stamps = Some(stamps);
    }

    /// The texts below `folder` over `built_in`. A file that cannot be read hides no built-in text.
    fn texts_of(
        &self,
        folder: &Path,
        built_in: BTreeMap<String, Arc<Template>>,
        kept: &mut BTreeMap<PathBuf, (Stamp, Arc<Template>)>,
        problems: &mut Vec<(String, String)>,
    ) -> BTreeMap<String, Arc<Template>> {
        let mut texts = built_in;
        let mut folders = vec![(folder.to_path_buf(), String::new(), 0_u8)];
        while let Some((path, prefix, depth)) = folders.pop() {
            let entries = match self.told(std::fs::read_dir(&path)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    problems.push((path.display().to_string(), format!("cannot be read: {error}")));
                    continue;
                }
            };
            for entry in entries.filter_map(Result::ok) {
                let path = entry.path();
                // Editors leave hidden files and `name~` beside what they edit.
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if name.starts_with('.') || name.ends_with('~') {
                    continue;
                }
                let name = format!("{prefix}{name}");
                match self.text_of(&path) {
                    Ok(Some((stamp, text))) => {
                        kept.insert(path, (stamp, text.clone()));
                        texts.insert(name, text);
                    }
                    Ok(None) if depth < 8 => folders.push((path, format!("{name}/"), depth.saturating_add(1))),
                    Ok(None) => {}
                    Err(why) if texts.contains_key(&name) => problems.push((
                        path.display().to_string(),
                        format!("{why}; what is built in is used instead"),
                    )),
                    Err(why) => problems.push((path.display().to_string(), why)),
                }
            }
        }
        texts
    }

    /// The text of one file, read again only when it changed; none when it is a folder.
    fn text_of(&self, path: &Path) -> Result<Option<(Stamp, Arc<Template>)>, String> {
        let cannot = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => "is no text in UTF-8, so it is not used".to_owned(),
            _ => format!("cannot be read ({error}), so it is not used"),
        };
        let metadata = self.told(std::fs::metadata(path)).map_err(cannot)?;
        if metadata.is_dir() {
            return Ok(None);
        }
        let stamp = Stamp::of(&metadata);
        if let Some((_, text)) = self.texts.get(path).filter(|(seen, _)| *seen == stamp) {
            return Ok(Some((stamp, text.clone())));
        }
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Err(format!("is no text of at most {} KiB; it is not used", LARGEST / 1024));
        }
        let text = self.told(std::fs::read_to_string(path)).map_err(cannot)?;
        let template = Template {
            // An editor of Windows ends lines so, and no shell of an installer can read them.
            text: text.replace("\r\n", "\n").into(),
            origin: path.display().to_string(),
        };
        Ok(Some((stamp, Arc::new(template))))
    }

    /// The first file of each name on the search path. What only a tree holds is found under its plain name too, and every loader of
    /// a tree under `<distro>/<file>`.
    fn loaders(&self, inventory: &Inventory) -> imbl::OrdMap<String, Arc<Asset>> {
        let mut loaders = BTreeMap::new();
        for folder in &self.loader_paths {
            let mut here: Vec<PathBuf> = self.told(std::fs::read_dir(folder)).map_or_else(
                |_| Vec::new(),
                |entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
            );
            // Signed files come first, so that `shimx64.efi` means the one that Secure Boot accepts.
            here.sort_by_key(|path| (path.extension().is_none_or(|ending| ending != "signed"), path.clone()));
            for path in here {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                    continue;
                };
                if !LOADER_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                    continue;
                }
                let name = name.strip_suffix(".signed").unwrap_or(name).to_owned();
                if loaders.contains_key(&name) {
                    continue;
                }
                if let Ok(metadata) = std::fs::metadata(&path)
                    && metadata.is_file()
                {
                    loaders.insert(name, Arc::new(asset(path, &metadata)));
                }
            }
        }
        for distro in inventory.distros() {
            let Some(tree) = &distro.tree else { continue };
            let beside = distro.kernel.rsplit_once('/').map_or("", |(folder, _)| folder);
            for folder in [beside, "EFI/BOOT"] {
                for name in TREE_LOADERS {
                    let path = format!("{folder}/{name}");
                    if tree.iso.is_some() {
                        // Its path is what it would be in the unpacked tree, which is how decide knows it for a file of the image.
                        if let Ok(tree::Opened::File(file)) = tree::Place::from(tree).fetch(&path) {
                            let found = Arc::new(Asset {
                                path: tree.root.join(path.trim_start_matches('/')),
                                size: file.size(),
                                modified: file.modified().0,
                            });
                            loaders.entry(name.to_owned()).or_insert_with(|| found.clone());
                            loaders.entry(format!("{}/{name}", distro.name)).or_insert(found);
                        }
                        continue;
                    }
                    let roots = tree.overlay.iter().chain([&tree.root]);
                    let mut found = roots.filter_map(|root| Some((root, self.told(tree::look(root, &path)).ok()?)));
                    let Some((root, metadata)) = found.find(|(_, metadata)| metadata.is_file()) else {
                        continue;
                    };
                    let found = Arc::new(asset(root.join(path.trim_start_matches('/')), &metadata));
                    loaders.entry(name.to_owned()).or_insert_with(|| found.clone());
                    loaders.entry(format!("{}/{name}", distro.name)).or_insert(found);
                }
            }
        }
        loaders.into_iter().collect()
    }

    fn media_of(&self, distro: &Distro) -> Media {
        let tree = distro.tree.as_ref().map(|tree| match self.private.holds_tree(&tree.root) {
            true => Err(format!(
                "{} holds what the server keeps to itself: its state or its templates; cordwainer distro edit --name {} --tree PATH",
                tree.root.display(),
                distro.name
            )),
            false => Ok(tree.root.clone()),
        });
        let of = |what, path| match &tree {
            Some(Err(why)) => Err(why.clone()),
            _ => self.media_file(distro, what, path),
        };
        Media {
            kernel: of("kernel", &distro.kernel),
            initrd: distro.initrd.iter().map(|path| of("initrd", path)).collect(),
            tree,
        }
    }

    /// Opens the file of an image: a file, not empty, that the service may read, and none of the state folder's own.
    fn image_file(&self, image: &Image) -> Result<ImageFile, String> {
        let again = format!("cordwainer image edit --name {} --file PATH", image.name);
        if image.file.is_empty() {
            return Err(format!("no file is named; {again}"));
        }
        let shown = &image.file;
        let told = |error: io::Error| match error.raw_os_error() {
            Some(nix::libc::ENOENT) => format!("{shown} is missing; bring it back, or {again}"),
            Some(nix::libc::EACCES) => {
                format!("{shown} may not be read by the service; chmod a+r it, and a+x the folders above it")
            }
            _ => format!("{shown} cannot be used: {error}; {again}"),
        };
        let path = self.told(std::fs::canonicalize(shown)).map_err(told)?;
        if self.private.holds_file(&path) {
            return Err(format!("{shown} {PRIVATE}; {again}"));
        }
        // What is no file is not opened: a pipe would never come back.
        let metadata = self.told(std::fs::metadata(&path)).map_err(told)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(format!("{shown} is no file, or an empty one; {again}"));
        }
        let file = self.told(std::fs::File::open(&path)).map_err(told)?;
        // The first volume descriptor stands in sector 16, its name behind one byte (ECMA-119 section 8.1).
        let mut id = [0_u8; 5];
        let is_iso = file.read_exact_at(&mut id, 32_769).is_ok() && id == *b"CD001";
        Ok(ImageFile {
            asset: Arc::new(asset(path, &metadata)),
            is_iso,
        })
    }

    /// Opens the file, for that it is there does not mean that it can be read.
    fn media_file(&self, distro: &Distro, what: &str, path: &str) -> Result<Asset, String> {
        let (full, opened) = match &distro.tree {
            Some(tree) => (
                tree.root.join(path.trim_start_matches('/')),
                tree::Place::from(tree).fetch(path).map(|opened| match opened {
                    tree::Opened::File(file) => Some((file.size(), file.modified().0)),
                    tree::Opened::Folder => None,
                }),
            ),
            None => {
                let full = PathBuf::from(path);
                if self.private.holds_file(&full) {
                    let name = &distro.name;
                    return Err(format!(
                        "{what} {path} {PRIVATE}; cordwainer distro edit --name {name} --{what} PATH"
                    ));
                }
                let opened = std::fs::File::open(&full).and_then(|file| file.metadata());
                let facts = |metadata: Metadata| metadata.is_file().then(|| (metadata.len(), metadata.mtime()));
                (full, opened.map(facts))
            }
        };
        let opened = self.told(opened);
        let shown = full.display();
        let again = match &distro.tree {
            Some(tree) if tree.in_place => format!(
                "bring {} back, or import the {} again: cordwainer import --path {} --name {}",
                tree.root.display(),
                if tree.iso.is_some() { "image" } else { "tree" },
                if tree.iso.is_some() { "ISO" } else { "TREE" },
                distro.name
            ),
            Some(_) => format!("import it again: cordwainer import --path TREE --name {}", distro.name),
            None => format!("cordwainer distro edit --name {} --{what} PATH", distro.name),
        };
        match opened {
            Ok(Some((0, _))) => Err(format!("{what} {shown} is empty; {again}")),
            Ok(Some((size, modified))) => Ok(Asset {
                path: full,
                size,
                modified,
            }),
            Ok(None) => Err(format!("{what} {shown} is a folder; {again}")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("{what} {shown} is missing; {again}")),
            Err(error) if error.raw_os_error() == Some(nix::libc::EACCES) => Err(format!(
                "{what} {shown} may not be read by the service; chmod a+r it, and a+x the folders above it"
            )),
            Err(error) => Err(format!("{what} {shown} cannot be used: {error}; {again}")),
        }
    }
}

fn asset(path: PathBuf, metadata: &Metadata) -> Asset {
    Asset {
        path,
        size: metadata.len(),
        modified: metadata.mtime(),
    }
}

fn built_in() -> (BTreeMap<String, Arc<Template>>, BTreeMap<String, Arc<Template>>) {
    let (mut templates, mut snippets) = (BTreeMap::new(), BTreeMap::new());
    let mut folders = vec![&EMBEDDED];
    while let Some(folder) = folders.pop() {
        for entry in folder.entries() {
            match entry {
                DirEntry::Dir(inner) => folders.push(inner),
                DirEntry::File(file) => {
                    let Some((name, text)) = file.path().to_str().zip(file.contents_utf8()) else {
                        continue;
                    };
                    let template = Arc::new(Template {
                        text: text.into(),
                        origin: Template::BUILT_IN.to_owned(),
                    });
                    match name.strip_prefix("snippets/") {
                        Some(name) => snippets.insert(name.to_owned(), template),
                        None => templates.insert(name.to_owned(), template),
                    };
                }
            }
        }
    }
    (templates, snippets)
}

/// What `boot` may know of a signature.
fn facts(signature: &Signature) -> SignatureFacts {
    SignatureFacts {
        kernel_args: signature
            .boot
            .iter()
            .map(|(when, args, initrd_args)| VersionedArgs {
                when: when.clone(),
                args: args.clone(),
                initrd_args: initrd_args.clone(),
            })
            .collect(),
        autoinstall: signature.autoinstall.clone(),
        min_ram_mib: signature.min_ram_mib.clone(),
        reboots_midway: signature.reboots_midway,
        answer_file: signature.answer_file.clone(),
        answer_files: signature.answer_files.clone(),
        inferred_stages: signature.stages.clone(),
    }
}
