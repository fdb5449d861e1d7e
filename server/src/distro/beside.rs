//! What an import lays beside a tree that cannot start an installation by itself: the netboot files of a Debian disc. And whether the
//! mirror answers that a disc with too few packages needs.
//!
//! It never touches the tree itself.

use super::cause::Cause;
use super::detect::{Detected, Source};
use super::download::{FetchError, Fetcher};
use super::import::{ImportRequest, Progress, enough_space};
use super::netboot::{Disc, Netboot, NetbootError};
use super::place::{Placed, Shelf};
use super::plan::{GENERIC, mirror_of};
use crate::model::{Distro, Name};
use std::path::{Path, PathBuf};

/// What a tree needs beside it.
#[derive(Debug)]
pub(super) enum Beside {
    /// Nothing.
    Nothing,
    /// These files, which are written when the tree is in its place.
    Files(Netboot),
    /// What an earlier import laid there.
    Kept(Netboot, PathBuf),
}

impl Beside {
    pub(super) const fn netboot(&self) -> Option<&Netboot> {
        match self {
            Self::Nothing => None,
            Self::Files(netboot) | Self::Kept(netboot, _) => Some(netboot),
        }
    }

    /// True when something has to be written.
    pub(super) const fn is_new(&self) -> bool {
        matches!(self, Self::Files(_))
    }

    /// Writes it below `place`, a folder that is new.
    pub(super) fn write(&self, place: &Path) -> Result<(), Cause> {
        match self {
            Self::Files(netboot) | Self::Kept(netboot, _) => Ok(netboot.write(&place.join(OVERLAY))?),
            Self::Nothing => Ok(()),
        }
    }

    /// Where it lies, once `place` is where the tree's folder is; none for a tree that has none.
    pub(super) fn overlay(&self, place: Option<&Path>) -> Option<PathBuf> {
        match (self, place) {
            (Self::Nothing, _) => None,
            (Self::Kept(_, overlay), None) => Some(overlay.clone()),
            (_, place) => place.map(|place| place.join(OVERLAY)),
        }
    }
}

/// The folder of a copy that is laid over the tree.
const OVERLAY: &str = "overlay";

/// The netboot files that the disc in `source` needs: those that were given, those of an earlier import, or those of an installed package.
pub(super) fn beside(request: &ImportRequest, source: &dyn Source, old: Option<&Distro>) -> Result<Beside, Cause> {
    let refused = |error| Cause::Netboot {
        path: request.path.clone(),
        error: Box::new(error),
    };
    let described = request.kernel.is_some() || request.wishes.breed.as_deref() == Some(GENERIC);
    let Some(disc) = Disc::of(source).filter(|_| !described) else {
        return match request.netboot {
            Some(_) => Err(refused(NetbootError::NotWanted)),
            None => Ok(Beside::Nothing),
        };
    };
    if let Some(number) = disc.later {
        return Err(Cause::Asked {
            why: format!(
                "{} is disc {number} of its set: it holds more packages, and neither an installer nor the base system",
                request.path.display()
            ),
            remedy: "import the first disc".to_owned(),
        });
    }
    let from_mirror = request.flags.mirror.is_some() || disc.netinst;
    let judged = |netboot: &Netboot| match from_mirror {
        true => Ok(()),
        false => netboot.fits(&disc, source),
    };
    if let Some(given) = &request.netboot {
        let netboot = Netboot::read(given, &disc).map_err(refused)?;
        judged(&netboot).map_err(refused)?;
        return Ok(Beside::Files(netboot));
    }
    let earlier = old.and_then(|distro| distro.tree.as_ref()?.overlay.clone());
    if let Some(overlay) = earlier
        && let Ok(netboot) = Netboot::read(&overlay, &disc)
        && judged(&netboot).is_ok()
    {
        return Ok(Beside::Kept(netboot, overlay));
    }
    let Some(images) = &request.installed else {
        return Err(refused(disc.needed()));
    };
    match Netboot::read(&disc.installed(images), &disc) {
        Ok(netboot) => {
            judged(&netboot).map_err(refused)?;
            Ok(Beside::Files(netboot))
        }
        Err(_) => Err(refused(disc.needed())),
    }
}

/// Refuses a medium with too few packages where nobody names a mirror, or the mirror does not answer: nobody could install from it.
/// `old` is the distro of an earlier import, whose mirror still holds.
pub(super) fn reaches_mirror(request: &ImportRequest, detected: &Detected, old: Option<&Distro>) -> Result<(), Cause> {
    let (Some(need), Some(why)) = (&detected.mirror, &detected.no_packages) else {
        return Ok(());
    };
    let given = request.flags.mirror.clone();
    let mirror = given.or_else(|| mirror_of(old?)).or_else(|| need.usual.clone());
    let Some(mirror) = mirror else {
        return Err(Cause::NoPackages {
            path: request.path.clone(),
            why: why.clone(),
            holds: need.holds.join(" or "),
        });
    };
    let fetcher = Fetcher::new(&request.manners);
    let mut missed = None;
    for file in &need.holds {
        let url = format!("{}/{file}", mirror.trim_end_matches('/'));
        match fetcher.reaches(&url) {
            Ok(()) => return Ok(()),
            // It answers, and may hold the next.
            Err(error @ FetchError::Status(_)) => missed = missed.or(Some((url, error))),
            Err(error) => {
                missed = Some((url, error));
                break;
            }
        }
    }
    missed.map_or(Ok(()), |(url, error)| {
        Err(Cause::NoMirror {
            path: request.path.clone(),
            why: why.clone(),
            url,
            error: Box::new(error),
        })
    })
}

/// Puts what a tree that stays where it is needs into a place of its own.
pub(super) fn lay_beside(
    state: &Path,
    name: &Name,
    beside: &Beside,
    progress: &mut dyn FnMut(Progress),
) -> Result<Placed, Cause> {
    let shelf = Shelf::open(state)?;
    if let Some(netboot) = beside.netboot() {
        enough_space(state, netboot.count().1)?;
    }
    shelf.place(name, progress, |staging, _| beside.write(staging))
}
