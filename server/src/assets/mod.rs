//! What lies on the disk for machines to fetch: loaders, kernels, templates, snippets. A snapshot of facts, never the files.
//!
//! Pure. `watch` is the only reader; it looks again when something changes and publishes a new snapshot.

mod glob;
pub mod watch;

pub use glob::matches as glob_matches;

use crate::model::{Distro, Name, version_holds};
use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// One file that may be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub modified: i64,
}

/// A text that is rendered for machines: an answer-file template or a snippet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its text.
    pub text: Arc<str>,
    /// Where the text came from: a path of the admin's, or [`Template::BUILT_IN`].
    pub origin: String,
}

impl Template {
    /// The origin of a text that is part of the program.
    pub const BUILT_IN: &'static str = "built in";

    /// True for a text that is part of the program.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.origin == Self::BUILT_IN
    }
}

/// Kernel and initrds of one distro, as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// The kernel, or what is wrong with it.
    pub kernel: Result<Asset, String>,
    /// The initrds in loading order, each as found.
    pub initrd: Vec<Result<Asset, String>>,
    /// The root of its tree, where it may be served; or why not. None where it has no tree.
    pub tree: Option<Result<PathBuf, String>>,
}

impl Media {
    /// Whether files of the tree at `root` may be served.
    ///
    /// # Errors
    /// Why not.
    pub fn serves(&self, root: &Path) -> Result<(), String> {
        match &self.tree {
            Some(Ok(seen)) if seen == root => Ok(()),
            Some(Err(why)) => Err(why.clone()),
            _ => Err(format!("{} was not looked at yet", root.display())),
        }
    }
}

/// The file of an image, as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// The file.
    pub asset: Arc<Asset>,
    /// It is an ISO 9660 image.
    pub is_iso: bool,
}

/// Everything that can be served, as last looked at.
#[derive(Debug, Clone, Default)]
pub struct Assets {
    /// Loaders by the name that clients ask for: `undionly.kpxe`, `snponly.efi`, ...
    pub loaders: imbl::OrdMap<String, Arc<Asset>>,
    /// Kernels and initrds by distro.
    pub media: imbl::OrdMap<Name, Arc<Media>>,
    /// Files of images, by image, or what is wrong with each.
    pub images: imbl::OrdMap<Name, Arc<Result<ImageFile, String>>>,
    /// Answer-file templates by path below `kickstarts/`: `debian/preseed.cfg`, ...
    pub templates: imbl::OrdMap<String, Arc<Template>>,
    /// Snippets by path below `snippets/`: `report`, `per_system/network_config/web1`, ...
    pub snippets: imbl::OrdMap<String, Arc<Template>>,
    /// Signatures of distro families, by name.
    pub signatures: imbl::OrdMap<Name, Arc<SignatureFacts>>,
    /// Files that could not be used though they are there: (what, why and the remedy).
    pub problems: Vec<(String, String)>,
    /// What the renderer made of these templates and snippets.
    pub compiled: Compiled,
}

/// What is made of templates and snippets once, and kept as long as they stay what they are. The same for all who hold it.
#[derive(Clone, Default)]
pub struct Compiled(Arc<OnceLock<Arc<dyn Any + Send + Sync>>>);

impl Compiled {
    /// What is kept, made now if it is the first time. None when something of another type is kept.
    pub fn get_or_make<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        let kept = self.0.get_or_init(|| Arc::new(make()));
        Arc::downcast(kept.clone()).ok()
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() {
            "Compiled"
        } else {
            "Compiled(nothing yet)"
        })
    }
}

/// What a family's signature file says of booting and installing; the detection rules stay in `distro`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignatureFacts {
    /// kernel arguments of the installer
    pub kernel_args: Vec<VersionedArgs>,
    /// Path of the default answer-file template per version rule.
    pub autoinstall: Vec<(String, String)>,
    /// Smallest memory that the installer boots with, in MiB, per version rule.
    pub min_ram_mib: Vec<(String, u32)>,
    /// The installer reboots in mid-install, so another network boot past partitioning is no fault.
    pub reboots_midway: bool,
    /// The name of the answer file in its URL: `ks.cfg`, `preseed.cfg`, `answer`, or a folder's main file (`user-data`).
    pub answer_file: String,
    /// Further files of the folder that a token opens: (name in its URL, path of the template).
    pub answer_files: Vec<(String, String)>,
    /// Paths below the tree whose first fetch means a stage: (pattern, stage word). `*` stands for anything within a path component,
    /// `**` for anything; a pattern that ends in `/` stands for all below it. Judge them with [`SignatureFacts::stage_of`].
    pub inferred_stages: Vec<(String, String)>,
}

impl SignatureFacts {
    /// The stage word that a fetch of `path` (below the tree, without a leading slash) means, if any.
    #[must_use]
    pub fn stage_of(&self, path: &str) -> Option<&str> {
        let (_, stage) = self
            .inferred_stages
            .iter()
            .find(|(pattern, _)| glob_matches(pattern, path))?;
        Some(stage)
    }
}

/// Kernel arguments that hold for some versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedArgs {
    /// `*`, `>=9`, `<8`, `=12`, ... compared number by number.
    pub when: String,
    /// The arguments; `{answer_url}`, `{tree}`, `{report_url}`, `{hostname}`, `{domain}`, `{mac}`, `{dns}` stand for the machine's own.
    pub args: String,
    /// What follows the name of each initrd, in loading order: how iPXE is told a file's name in the initramfs, or a module's own
    /// arguments. Empty where none have any.
    pub initrd_args: Vec<String>,
}

impl Assets {
    /// The signature that recognised `distro`, if it has one and the file is there.
    #[must_use]
    pub fn signature_of(&self, distro: &Distro) -> Option<&Arc<SignatureFacts>> {
        distro.signature.as_ref().and_then(|name| self.signatures.get(name))
    }
}

impl SignatureFacts {
    /// Kernel arguments for a version: the first rule that holds.
    #[must_use]
    pub fn args_for(&self, version: &str) -> Option<&str> {
        self.rule_for(version).map(|rule| rule.args.as_str())
    }

    /// The boot rule for a version: the first that holds.
    #[must_use]
    pub fn rule_for(&self, version: &str) -> Option<&VersionedArgs> {
        self.kernel_args.iter().find(|rule| version_holds(&rule.when, version))
    }

    /// True when the installer of that version asks for an answer file; a live system or a memory test does not.
    #[must_use]
    pub fn asks_answers(&self, version: &str) -> bool {
        let asks = |text: &String| text.contains("{answer_url}");
        self.rule_for(version)
            .is_none_or(|rule| asks(&rule.args) || rule.initrd_args.iter().any(asks))
    }

    /// The default answer-file template for a version: the first rule that holds.
    #[must_use]
    pub fn autoinstall_for(&self, version: &str) -> Option<&str> {
        self.autoinstall
            .iter()
            .find(|(when, _)| version_holds(when, version))
            .map(|(_, path)| path.as_str())
    }

    /// The smallest memory for a version, in MiB: the first rule that holds.
    #[must_use]
    pub fn min_ram_for(&self, version: &str) -> Option<u32> {
        self.min_ram_mib
            .iter()
            .find(|(when, _)| version_holds(when, version))
            .map(|(_, mib)| *mib)
    }
}
