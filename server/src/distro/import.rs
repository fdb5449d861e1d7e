//! Imports a tree: recognise it by its metadata, put it where it can be served, and make its distro and profile.
//!
//! It never touches the inventory: it returns what to put there, and the caller stores both objects in one transaction, then says
//! [`Imported::keep`]; if storing failed, [`Imported::withdraw`].
#![expect(
    clippy::disallowed_methods,
    reason = "IO: looks at the tree that is imported, at the clock for its report, and has it copied"
)]

use super::checksum::{Algorithm, Checksums};
use super::detect::{Detected, Found, Look, Source, Unfit, Wishes, detect};
use super::iso_import;
use super::iso_source::OpenError;
use super::library::Library;
use super::place::{self, Placed, Shelf, copy_of, copy_tree, remove_copy};
use super::plan::{Flags, GENERIC, Line, Planned, Taken, name_for, plan, sentences};
use super::signature::clean;
use super::survey::{Failed, Reader, Survey, survey};
use super::tree::Folder;
use crate::event::size;
use crate::inventory::{Change, Inventory, Row};
use crate::model::{Arch, Distro, Name, Profile, Tree};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Where the tree shall be served from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// Where it is when the service may read all of it, else a copy.
    #[default]
    Auto,
    /// Where it is.
    InPlace,
    /// A copy that shares nothing with the original.
    Copy,
}

/// What the admin asks for.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// The tree.
    pub path: PathBuf,
    /// Name of distro and profile; none: made from what is found.
    pub name: Option<Name>,
    /// Architecture, breed, version: what the admin knows better.
    pub wishes: Wishes,
    /// Where it shall be served from.
    pub place: Place,
    /// With `--breed generic`: the kernel, a path below the tree.
    pub kernel: Option<String>,
    /// With `--breed generic`: the initrds.
    pub initrd: Vec<String>,
    /// Template, mirror, kernel arguments.
    pub flags: Flags,
    /// The user that the service runs as; none: `cordwainer`.
    pub service_user: Option<String>,
    /// The publisher's checksums, which must vouch for the image.
    pub checksums: Option<Checksums>,
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Looking at the tree.
    Looking {
        /// Files so far.
        files: u64,
    },
    /// Copying it.
    Copying {
        /// Files done.
        files: u64,
        /// Bytes done.
        bytes: u64,
        /// Files in all.
        all_files: u64,
        /// Bytes in all.
        all_bytes: u64,
    },
    /// Making the image's checksum.
    Summing {
        /// Bytes done.
        bytes: u64,
        /// Bytes in all.
        all_bytes: u64,
    },
    /// Waiting for the disk.
    Syncing,
}

/// Nothing was imported and nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{0}\nnothing was changed")]
pub struct ImportError(#[from] pub Cause);

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Not recognised, or recognised and refused.
    #[error("{}: {unfit}", .path.display())]
    Unfit {
        /// The tree.
        path: PathBuf,
        /// Why.
        unfit: Unfit,
    },
    /// The path is a file, and no ISO image that can be served.
    #[error("{} cannot be imported as an ISO image: {error}\n  remedy      give the folder of a tree, or an ISO image; one that is cut off must be downloaded again", .path.display())]
    Iso {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: OpenError,
    },
    /// `--in-place`, but the service may not read the image.
    #[error("{} may not be read by the service (user {user})\n  remedy      chmod a+r the image and a+x the folders above it, or leave --in-place out to have it copied", .path.display())]
    IsoBarred {
        /// The first thing that it may not read.
        path: PathBuf,
        /// The service's user.
        user: String,
    },
    /// The publisher does not vouch for the image.
    #[error("{} is not what its publisher made: its {algorithm} sum is {found}{}\n  remedy      download it again; give the checksum file of the same release", .path.display(), instead(.expected.as_deref()))]
    Forged {
        /// The image.
        path: PathBuf,
        /// How the sum is made.
        algorithm: Algorithm,
        /// The image's sum.
        found: String,
        /// The publisher's sum of a file of that name.
        expected: Option<String>,
    },
    /// Kernel or initrd may not be read.
    #[error("{why}\n  remedy      import as a user that may read it, or change its mode")]
    Unreadable {
        /// What and why.
        why: String,
    },
    /// `--in-place`, but the service may not read it.
    #[error("{} may not be read by the service (user {user})\n  remedy      chmod -R a+rX the tree and a+x the folders above it, or leave --in-place out to have it copied", .path.display())]
    Barred {
        /// The first thing that it may not read.
        path: PathBuf,
        /// The service's user.
        user: String,
    },
    /// A link that leads out of a tree that must be copied.
    #[error("{} leads out of the tree, to {}{}\n  remedy      make it relative and inside the tree, or remove it", .path.display(), .target.display(), more(.others))]
    LeadsOut {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// How many others do.
        others: usize,
    },
    /// A device, socket or pipe in a tree that must be copied.
    #[error("{} is a {kind}{}\n  remedy      a distro's tree holds files and folders; remove it", .path.display(), more(.others))]
    Special {
        /// The thing.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
        /// How many others there are.
        others: usize,
    },
    /// The disk is too small.
    #[error("the copy needs {} and {} has {} free\n  remedy      make room, or let the service read the tree where it is (chmod -R a+rX)", size(*.needs), .path.display(), size(*.free))]
    NoSpace {
        /// The folder of copies.
        path: PathBuf,
        /// Bytes that it takes.
        needs: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Another import holds the folder of copies.
    #[error("another import is at work in {}\n  remedy      wait for it", .0.display())]
    Busy(PathBuf),
    /// What was asked for cannot be.
    #[error("{why}\n  remedy      {remedy}")]
    Asked {
        /// What is wrong.
        why: String,
        /// What to write instead.
        remedy: String,
    },
    /// The profile's name is taken.
    #[error("{0}")]
    Taken(#[from] Taken),
    /// The system refused.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

fn instead(expected: Option<&str>) -> String {
    expected.map_or_else(
        || ", which is in none of his lines".to_owned(),
        |expected| format!(", not {expected}"),
    )
}

fn more(others: &usize) -> String {
    match others {
        0 => String::new(),
        others => format!(" (and {others} more like it)"),
    }
}

impl From<(PathBuf, io::Error)> for Cause {
    fn from((path, error): (PathBuf, io::Error)) -> Self {
        Self::Io { path, error }
    }
}

impl From<Failed> for Cause {
    fn from(Failed(path, error): Failed) -> Self {
        Self::Io { path, error }
    }
}

/// A tree that is in its place, and the objects that make it known.
#[derive(Debug)]
pub struct Imported {
    /// The distro.
    pub distro: Distro,
    /// The profile, when there was none of that name.
    pub profile: Option<Profile>,
    /// What was recognised.
    pub detected: Detected,
    /// What to say, line by line.
    pub lines: Vec<Line>,
    /// Files in the tree.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    placed: Option<Placed>,
    /// The copy of an earlier import of that name, which nothing needs any more: state folder and place.
    abandoned: Option<(PathBuf, String)>,
}

impl Imported {
    /// What to put into the inventory, in one transaction.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = vec![Change::Put(Row::Distro(Arc::new(self.distro.clone())))];
        changes.extend(
            self.profile
                .iter()
                .map(|profile| Change::Put(Row::Profile(Arc::new(profile.clone())))),
        );
        changes
    }

    /// The objects are stored: what an earlier import of that name left is removed.
    ///
    /// # Errors
    /// When the old copy cannot be removed; the import stands.
    pub fn keep(self) -> Result<(), Cause> {
        match (self.placed, &self.abandoned) {
            (Some(placed), old) => placed.keep(old.as_ref().map(|(_, place)| place.as_str())),
            (None, Some((state, place))) => remove_copy(state, place),
            (None, None) => Ok(()),
        }
    }

    /// The objects could not be stored: the copy is taken back, and what it was to replace is still there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn withdraw(self) -> Result<(), Cause> {
        match self.placed {
            Some(placed) => placed.withdraw(self.abandoned.as_ref().map(|(_, place)| place.as_str())),
            None => Ok(()),
        }
    }
}

/// Removes what killed imports left below `state`: unfinished copies, and finished ones that the inventory does not name. `inventory` is
/// asked for once nobody else imports; where it cannot be read, only the unfinished ones go.
///
/// # Errors
/// When the system refuses.
pub fn tidy(state: &Path, inventory: impl FnOnce() -> Option<Inventory>) -> Result<(), ImportError> {
    let wanted = || {
        let inventory = inventory()?;
        let trees = inventory.distros().filter_map(|distro| distro.tree.as_ref());
        Some(trees.map(|tree| tree.root.clone()).collect())
    };
    Ok(place::tidy(state, wanted)?)
}

/// Removes the copy that an import made for `distro`; a tree that is served in place is the admin's and stays. Call it after the
/// distro left the inventory.
///
/// # Errors
/// When another import runs, or the system refuses.
pub fn forget(distro: &Distro, state: &Path) -> Result<(), ImportError> {
    let tree = distro.tree.as_ref().filter(|tree| !tree.in_place);
    let root = std::fs::canonicalize(state).unwrap_or_else(|_| state.to_path_buf());
    if let Some(place) = tree.and_then(|tree| copy_of(&distro.name, &tree.root, &root)) {
        remove_copy(state, &place)?;
    }
    Ok(())
}

/// Imports `request.path` below `state`. `inventory` tells what there is under that name already; it is not changed.
///
/// # Errors
/// [`ImportError`]; whatever it says, nothing was changed.
pub fn import(
    request: &ImportRequest,
    state: &Path,
    library: &Library,
    inventory: &Inventory,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported, ImportError> {
    Ok(run(request, state, library, inventory, progress)?)
}

fn run(
    request: &ImportRequest,
    state: &Path,
    library: &Library,
    inventory: &Inventory,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported, Cause> {
    let began = Instant::now();
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |error| Cause::Io { path, error }
    };
    let root = std::fs::canonicalize(&request.path).map_err(at(&request.path))?;
    let user = request.service_user.as_deref().unwrap_or("cordwainer");
    let reader = Reader::of(user).map_err(at(&root))?;
    let medium = if std::fs::metadata(&root).map_err(at(&root))?.is_dir() {
        None
    } else {
        Some(iso_import::open(&request.path, &root, &reader)?)
    };
    if medium.is_none() && request.checksums.is_some() {
        return Err(Cause::Asked {
            why: format!("{} is a folder; publishers sum their images", request.path.display()),
            remedy: "leave --checksum out, or import the ISO image".to_owned(),
        });
    }
    if std::fs::metadata(state.join("distros")).is_ok() {
        // What a killed import left goes now, wherever this tree will lie. Where another one is at work, it is not ours to judge.
        match Shelf::open(state) {
            Ok(_) | Err(Cause::Busy(_)) => {}
            Err(cause) => return Err(cause),
        }
    }
    let folder = Folder::new(root.clone());
    let source: &dyn Source = match &medium {
        Some(medium) => &medium.iso,
        None => &folder,
    };
    let detected = recognise(request, source, library)?;
    let name = match &request.name {
        Some(name) => name.clone(),
        None => name_for(&detected).ok_or_else(|| Cause::Asked {
            why: format!("`{}` makes no name", detected.name),
            remedy: "give one: --name NAME".to_owned(),
        })?,
    };
    let old_distro = inventory.distro(name.as_str()).map(Arc::as_ref);
    let old = (old_distro, inventory.profile(name.as_str()).map(Arc::as_ref));
    let planned = |tree| plan(&detected, &name, tree, &request.flags, old);
    // Whether the name is free is known before anything is copied.
    planned(Tree {
        root: root.clone(),
        in_place: true,
        iso: None,
    })?;
    let mut detected_more = detected.clone();
    let state_root = std::fs::canonicalize(state).unwrap_or_else(|_| state.to_path_buf());
    let (tree, placed, survey) = match medium {
        Some(medium) => {
            let (tree, placed) = medium.settle(request, (&root, &state_root), &name, &reader, progress)?;
            (tree, placed, medium.survey)
        }
        None => {
            let survey = survey(&root, &reader, progress)?;
            let (tree, placed) = settle(request, (&root, &state_root), &name, &survey, &reader, progress)?;
            (tree, placed, survey)
        }
    };
    if tree.in_place {
        warn_of(&survey, &mut detected_more);
    }
    let took = began.elapsed();
    let serving = serving(&request.path, &tree, &survey, took.as_millis());
    let own = |tree: &Tree| copy_of(&name, &tree.root, &state_root).filter(|_| !tree.in_place);
    let abandoned = old_distro
        .and_then(|distro| distro.tree.as_ref())
        .and_then(own)
        .filter(|old| own(&tree).as_ref() != Some(old))
        .map(|place| (state_root.clone(), place));
    match (&placed, &abandoned) {
        (Some(placed), Some((_, old))) => placed.doubt(old)?,
        (None, Some((state, old))) => place::doubt(state, old)?,
        (_, None) => {}
    }
    let planned: Planned = match planned(tree) {
        Ok(planned) => planned,
        Err(taken) => {
            if let Some(placed) = placed {
                placed.withdraw(abandoned.as_ref().map(|(_, place)| place.as_str()))?;
            }
            return Err(taken.into());
        }
    };
    let signature = library.signature(detected.signature.as_str());
    let mut lines = sentences(&detected_more, signature, &planned, serving);
    if let Some(checksums) = &request.checksums {
        let text = format!("its {} sum is one of the publisher's", checksums.algorithm());
        lines.insert(
            1,
            Line {
                label: "verified",
                text,
            },
        );
    }
    Ok(Imported {
        distro: planned.distro,
        profile: planned.profile,
        detected: detected_more,
        lines,
        files: survey.files,
        bytes: survey.bytes,
        placed,
        abandoned,
    })
}

fn recognise(request: &ImportRequest, source: &dyn Source, library: &Library) -> Result<Detected, Cause> {
    let detected = if request.kernel.is_some() || request.wishes.breed.as_deref() == Some(GENERIC) {
        described(request, source)?
    } else {
        detect(source, &library.signatures, &request.wishes).map_err(|unfit| Cause::Unfit {
            path: request.path.clone(),
            unfit,
        })?
    };
    for found in std::iter::once(&detected.kernel).chain(&detected.initrd) {
        match source.look(&found.path) {
            Look::File(_) => {}
            Look::Unreadable(why) => return Err(Cause::Unreadable { why }),
            Look::Missing | Look::Folder => {
                return Err(Cause::Asked {
                    why: format!("{} is no file below {}", found.path, request.path.display()),
                    remedy: "name the kernel and initrd by their paths below the tree".to_owned(),
                });
            }
        }
    }
    Ok(detected)
}

/// A tree as the admin describes it, for what no signature knows.
fn described(request: &ImportRequest, source: &dyn Source) -> Result<Detected, Cause> {
    let asked = |why: &str, remedy: &str| Cause::Asked {
        why: why.to_owned(),
        remedy: remedy.to_owned(),
    };
    let breed = request.wishes.breed.as_deref().unwrap_or(GENERIC);
    if breed != GENERIC {
        return Err(asked(
            "--kernel describes a tree that no signature knows",
            "say --breed generic, or leave --kernel out",
        ));
    }
    let kernel = request.kernel.as_deref();
    let kernel = kernel.ok_or_else(|| asked("--breed generic needs a kernel", "give --kernel PATH below the tree"))?;
    let found = |path: &String| -> Result<Found, Cause> {
        let path =
            clean(path).ok_or_else(|| asked(&format!("`{path}` is no path below the tree"), "leave `..` out"))?;
        let size = match source.look(&path) {
            Look::File(size) => Some(size),
            _ => None,
        };
        Ok(Found { path, size })
    };
    Ok(Detected {
        signature: GENERIC.parse().map_err(|_| asked("generic", "generic"))?,
        breed: GENERIC.to_owned(),
        name: "Linux".to_owned(),
        version: request.wishes.os_version.clone().unwrap_or_default(),
        os_version: request
            .wishes
            .os_version
            .clone()
            .unwrap_or_else(|| "unknown".to_owned()),
        arch: request.wishes.arch.unwrap_or(Arch::X86_64),
        by: "--kernel".to_owned(),
        tier: 3,
        kernel: found(&kernel.to_owned())?,
        initrd: request.initrd.iter().map(found).collect::<Result<_, _>>()?,
        warnings: vec![
            "it boots with the kernel arguments that you give, and answers nothing by itself: set --kernel-options"
                .to_owned(),
        ],
        no_packages: None,
        meta: Vec::new(),
    })
}

/// Decides where the tree is served from, and copies it if it must.
fn settle(
    request: &ImportRequest,
    (root, state): (&Path, &Path),
    name: &Name,
    survey: &Survey,
    reader: &Reader,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Tree, Option<Placed>), Cause> {
    let copy = copy_of(name, root, state).map(|place| state.join("distros").join(place));
    if copy.as_deref() == Some(root) {
        // The copy that an earlier import made: it is looked at again where it is.
        return Ok((folder(root.to_path_buf(), false), None));
    }
    let in_state = root.starts_with(state.join("distros"));
    let in_place = match (request.place, &survey.unreadable) {
        (Place::InPlace, Some(path)) => {
            return Err(Cause::Barred {
                path: path.clone(),
                user: reader.name.clone(),
            });
        }
        (Place::InPlace, None) => true,
        (Place::Auto, unreadable) => unreadable.is_none() && !in_state,
        (Place::Copy, _) => false,
    };
    if in_place {
        if root.parent().is_none() {
            return Err(Cause::Asked {
                why: "the root of this machine would be served to every client".to_owned(),
                remedy: "import the folder that holds the tree".to_owned(),
            });
        }
        return Ok((folder(root.to_path_buf(), true), None));
    }
    copyable(root, state, survey)?;
    let shelf = Shelf::open(state)?;
    let may_link = request.place == Place::Auto;
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    // Files that can be linked take no room; those that cannot show it while they are copied.
    if !may_link || device(root) != device(state) {
        enough_space(state, survey.bytes)?;
    }
    let size = (survey.files, survey.bytes);
    let placed = shelf.place(name, progress, |staging, progress| {
        copy_tree(root, staging, size, (reader, may_link), progress)
    })?;
    Ok((folder(placed.root.clone(), false), Some(placed)))
}

const fn folder(root: PathBuf, in_place: bool) -> Tree {
    Tree {
        root,
        in_place,
        iso: None,
    }
}

fn copyable(root: &Path, state: &Path, survey: &Survey) -> Result<(), Cause> {
    if state.starts_with(root) {
        return Err(Cause::Asked {
            why: format!("the state folder {} lies inside the tree", state.display()),
            remedy: "import the folder that holds the distro alone".to_owned(),
        });
    }
    if let Some((path, target)) = survey.leads_out.first() {
        return Err(Cause::LeadsOut {
            path: path.clone(),
            target: target.clone(),
            others: survey.leads_out.len().saturating_sub(1),
        });
    }
    if let Some((path, kind)) = survey.special.first() {
        return Err(Cause::Special {
            path: path.clone(),
            kind,
            others: survey.special.len().saturating_sub(1),
        });
    }
    Ok(())
}

pub(super) fn enough_space(state: &Path, needs: u64) -> Result<(), Cause> {
    let path = state.join("distros");
    let told = nix::sys::statvfs::statvfs(&path).map_err(|errno| Cause::Io {
        path: path.clone(),
        error: errno.into(),
    })?;
    let free = told.blocks_available().saturating_mul(told.fragment_size());
    if needs > free {
        return Err(Cause::NoSpace { path, needs, free });
    }
    Ok(())
}

/// What a tree that stays in place holds and cannot be served.
fn warn_of(survey: &Survey, detected: &mut Detected) {
    let and = |all: usize| more(&all.saturating_sub(1));
    if let Some((path, target)) = survey.leads_out.first() {
        detected.warnings.push(format!(
            "{} leads out of the tree, to {}, and is not served{}",
            path.display(),
            target.display(),
            and(survey.leads_out.len())
        ));
    }
    if let Some((path, kind)) = survey.special.first() {
        let and = and(survey.special.len());
        detected
            .warnings
            .push(format!("{} is a {kind} and is not served{and}", path.display()));
    }
    if let Some(path) = survey.odd_names.first() {
        let and = and(survey.odd_names.len());
        detected.warnings.push(format!(
            "the name of {} is not UTF-8, so it is not served{and}",
            path.display()
        ));
    }
}

fn serving(asked: &Path, tree: &Tree, survey: &Survey, millis: u128) -> String {
    let time = format!("{}.{:02} s", millis / 1000, millis % 1000 / 10);
    let amount = format!("{} in {} files, {time}", size(survey.bytes), survey.files);
    if tree.iso.is_some() {
        let keep = if tree.in_place { "; keep the image there" } else { "" };
        let copy = if tree.in_place { "" } else { "a copy, " };
        return format!("straight out of {copy}{} ({amount}){keep}", tree.root.display());
    }
    if tree.in_place {
        return format!(
            "in place from {} ({amount}); keep the folder there",
            tree.root.display()
        );
    }
    match &survey.unreadable {
        Some(barred) => format!(
            "a copy in {} ({amount}), because the service may not read {}",
            tree.root.display(),
            barred.display()
        ),
        None if asked == tree.root => format!("the copy in {} ({amount})", tree.root.display()),
        None => format!("a copy in {} ({amount})", tree.root.display()),
    }
}
