//! Imports a tree: recognise it by its metadata, put it where it can be served, and make its distro and profile.
//!
//! It never touches the inventory: it returns what to put there, and the caller stores both objects in one transaction, then says
//! [`Imported::keep`]; if storing failed, [`Imported::withdraw`].
#![expect(
    clippy::disallowed_methods,
    reason = "IO: looks at the tree that is imported, at the clock for its report, and has it copied"
)]

use super::beside::{Beside, beside, lay_beside, reaches_mirror};
use super::cause::more;
pub use super::cause::{Cause, ImportError};
use super::checksum::Checksums;
use super::detect::{Detected, Found, Look, Source, Unfit, Wishes, detect};
use super::download::{self, Download, Fetcher, Manners};
use super::iso_import;
use super::library::Library;
use super::netboot::Over;
use super::place::{self, Placed, Shelf, copy_of, copy_tree, remove_copy};
use super::plan::{Flags, GENERIC, Line, Planned, name_for, plan, sentences};
use super::remote;
use super::signature::clean;
use super::survey::{Reader, Survey, survey};
use super::tree::Folder;
use crate::event::size;
use crate::inventory::{Change, Inventory, Row};
use crate::model::{Arch, Distro, Name, Profile, Tree};
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
    /// Folders of which the service's sandbox has one of its own: what lies there is copied.
    pub hidden: Vec<PathBuf>,
    /// The publisher's checksums, which must vouch for the image.
    pub checksums: Option<Checksums>,
    /// The netboot files of a Debian disc: a folder, netboot.tar.gz, or a package.
    pub netboot: Option<PathBuf>,
    /// Where packages install netboot files ([`super::netboot::INSTALLED`]), to be looked at when none are given; none: nowhere.
    pub installed: Option<PathBuf>,
    /// How web servers are asked, where the path is a URL.
    pub manners: Manners,
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
    /// Fetching the image from a URL.
    Fetching {
        /// Bytes that are here.
        bytes: u64,
        /// Bytes in all.
        all_bytes: u64,
    },
    /// Waiting for the disk.
    Syncing,
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
    download::tidy(state);
    let wanted = || {
        let inventory = inventory()?;
        let trees = inventory.distros().filter_map(|distro| distro.tree.as_ref());
        Some(
            trees
                .flat_map(|tree| [Some(&tree.root), tree.overlay.as_ref()])
                .flatten()
                .cloned()
                .collect(),
        )
    };
    Ok(place::tidy(state, wanted)?)
}

/// Removes the copy that an import made for `distro`; a tree that is served in place is the admin's and stays. Call it after the
/// distro left the inventory.
///
/// # Errors
/// When another import runs, or the system refuses.
pub fn forget(distro: &Distro, state: &Path) -> Result<(), ImportError> {
    let root = std::fs::canonicalize(state).unwrap_or_else(|_| state.to_path_buf());
    let tree = distro.tree.as_ref();
    if let Some(place) = tree.and_then(|tree| place_of(&distro.name, tree, &root)) {
        remove_copy(state, &place)?;
    }
    Ok(())
}

/// The folder below `state` that an import made for `tree`: its copy, or what was laid beside it.
fn place_of(name: &Name, tree: &Tree, state: &Path) -> Option<String> {
    let copy = (!tree.in_place).then_some(&tree.root);
    copy.into_iter()
        .chain(&tree.overlay)
        .find_map(|path| copy_of(name, path, state))
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
    let url = request.path.to_str().filter(|path| remote::is_url(path));
    let download = match url {
        Some(url) => Some(fetched(request, url, state, progress)?),
        None => None,
    };
    let path = download.as_ref().map_or(&request.path, |download| &download.path);
    let root = std::fs::canonicalize(path).map_err(at(path))?;
    if root.parent().is_none() {
        // Before anything walks over the whole machine.
        return Err(Cause::Asked {
            why: "the root of this machine would be served to every client".to_owned(),
            remedy: "import the folder that holds the tree".to_owned(),
        });
    }
    let user = request.service_user.as_deref().unwrap_or("cordwainer");
    let reader = Reader::of(user).map_err(at(&root))?.not_seeing(&request.hidden);
    let medium = if std::fs::metadata(&root).map_err(at(&root))?.is_dir() {
        None
    } else {
        Some(iso_import::open(&request.path, &root, &reader, download)?)
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
    let known = request.name.as_ref().and_then(|name| inventory.distro(name.as_str()));
    let beside = beside(request, source, known.map(Arc::as_ref))?;
    let over = beside.netboot().map(|netboot| Over { netboot, source });
    let source: &dyn Source = match &over {
        Some(over) => over,
        None => source,
    };
    let udf = medium.as_ref().is_some_and(|medium| medium.iso.volume().udf);
    let detected = match recognise(request, source, library) {
        Err(Cause::Unfit {
            path,
            unfit: Unfit::NotRecognised { found, .. },
        }) if udf => {
            let found = found.to_string();
            return Err(Cause::Udf { path, found });
        }
        detected => detected?,
    };
    reaches_mirror(request, &detected, known.map(Arc::as_ref))?;
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
        overlay: None,
    })?;
    let mut detected_more = detected.clone();
    let state_root = std::fs::canonicalize(state).unwrap_or_else(|_| state.to_path_buf());
    let (tree, placed, survey) = match medium {
        Some(medium) => {
            let (tree, placed) = medium.settle(request, (&root, &state_root), &name, (&reader, &beside), progress)?;
            (tree, placed, medium.survey)
        }
        None => {
            let survey = survey(&root, &reader, progress)?;
            let (tree, placed) = settle(
                request,
                (&root, &state_root),
                &name,
                &survey,
                (&reader, &beside),
                progress,
            )?;
            (tree, placed, survey)
        }
    };
    if tree.in_place {
        warn_of(&survey, &mut detected_more);
    }
    let took = began.elapsed();
    let serving = serving(&request.path, &tree, &survey, took.as_millis());
    let own = |tree: &Tree| place_of(&name, tree, &state_root);
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
        mirror: None,
        meta: Vec::new(),
    })
}

/// Decides where the tree is served from, and copies it if it must.
fn settle(
    request: &ImportRequest,
    (root, state): (&Path, &Path),
    name: &Name,
    survey: &Survey,
    (reader, beside): (&Reader, &Beside),
    progress: &mut dyn FnMut(Progress),
) -> Result<(Tree, Option<Placed>), Cause> {
    let copy = copy_of(name, root, state).map(|place| state.join("distros").join(place));
    let own = copy.is_some_and(|copy| root == copy || root == copy.join(TREE));
    if own && !beside.is_new() {
        // The copy that an earlier import made: it is looked at again where it is.
        let tree = folder(root.to_path_buf(), false);
        return Ok((with(tree, beside.overlay(None)), None));
    }
    let in_state = root.starts_with(state.join("distros"));
    let in_place = match (request.place, &survey.unreadable) {
        (Place::InPlace, Some(folder)) if reader.hides(folder) => {
            return Err(Cause::Hidden {
                path: request.path.clone(),
                folder: folder.clone(),
            });
        }
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
        let tree = folder(root.to_path_buf(), true);
        if !beside.is_new() {
            return Ok((with(tree, beside.overlay(None)), None));
        }
        let placed = lay_beside(state, name, beside, progress)?;
        let overlay = beside.overlay(Some(&placed.root));
        return Ok((with(tree, overlay), Some(placed)));
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
        let tree = if beside.netboot().is_some() {
            staging.join(TREE)
        } else {
            staging.to_path_buf()
        };
        if beside.netboot().is_some() {
            place::begin(&tree)?;
        }
        copy_tree(root, &tree, size, (reader, may_link), progress)?;
        beside.write(staging)
    })?;
    let copied = if beside.netboot().is_some() {
        placed.root.join(TREE)
    } else {
        placed.root.clone()
    };
    let overlay = beside.overlay(Some(&placed.root));
    Ok((with(folder(copied, false), overlay), Some(placed)))
}

/// The folder of a copied tree, where something is laid beside it.
const TREE: &str = "tree";

/// Fetches the image that `url` names.
fn fetched(
    request: &ImportRequest,
    url: &str,
    state: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Download, Cause> {
    if request.place == Place::InPlace {
        return Err(Cause::Asked {
            why: format!("{url} cannot be served from where it is"),
            remedy: "leave --in-place out to have it fetched".to_owned(),
        });
    }
    Fetcher::new(&request.manners).image(url, state, request.checksums.is_some(), progress)
}

fn with(tree: Tree, overlay: Option<PathBuf>) -> Tree {
    Tree { overlay, ..tree }
}

const fn folder(root: PathBuf, in_place: bool) -> Tree {
    Tree {
        root,
        in_place,
        iso: None,
        overlay: None,
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
        let because = match &survey.unreadable {
            Some(barred) if !tree.in_place => format!(", because the service may not read {}", barred.display()),
            _ => String::new(),
        };
        return format!(
            "straight out of {copy}{} ({amount}){because}{keep}",
            tree.root.display()
        );
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
