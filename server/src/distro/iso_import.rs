//! What an import asks of an ISO image: that it can be read whole, and by the service, where it lies. It is never unpacked.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: opens the image that is imported, and looks whether the service may read it"
)]

use super::import::{Cause, Place};
use super::iso_source::{Iso, OpenError};
use super::survey::{Reader, Survey};
use crate::model::Tree;
use std::path::{Path, PathBuf};

/// An image, and what a walk over all of it met.
pub(super) struct Medium {
    pub(super) iso: Iso,
    pub(super) survey: Survey,
}

/// Opens the image `root`, which the admin called `asked`, and judges it whole: what is cut off or lies is refused here.
pub(super) fn open(asked: &Path, root: &Path, reader: &Reader) -> Result<Medium, Cause> {
    let refused = |error: OpenError| Cause::Iso {
        path: asked.to_path_buf(),
        error,
    };
    let at = |error| Cause::Io {
        path: root.to_path_buf(),
        error,
    };
    let iso = Iso::open(root).map_err(refused)?;
    let contents = iso.walk().map_err(|error| refused(error.into()))?;
    let mut unreadable = reader.barred_above(root).map_err(at)?;
    if unreadable.is_none() && !reader.may_read(&std::fs::metadata(root).map_err(at)?) {
        unreadable = Some(root.to_path_buf());
    }
    let leads_out = contents.leads_out.into_iter();
    let survey = Survey {
        files: contents.files,
        bytes: contents.bytes,
        unreadable,
        leads_out: leads_out.map(|(path, target)| (path.into(), target.into())).collect(),
        special: contents
            .unservable
            .into_iter()
            .map(|(path, what)| (path.into(), what))
            .collect(),
        odd_names: contents.odd_names.into_iter().map(PathBuf::from).collect(),
    };
    Ok(Medium { iso, survey })
}

/// Where the image is served from: where it is, or not at all.
pub(super) fn settle(medium: &Medium, root: &Path, place: Place, reader: &Reader) -> Result<Tree, Cause> {
    if place == Place::Copy {
        return Err(Cause::Asked {
            why: format!("{} is an ISO image, which is served from where it is", root.display()),
            remedy: "put it where it shall stay, and leave --copy out".to_owned(),
        });
    }
    if let Some(path) = &medium.survey.unreadable {
        return Err(Cause::IsoBarred {
            path: path.clone(),
            user: reader.name.clone(),
        });
    }
    Ok(Tree {
        root: root.to_path_buf(),
        in_place: true,
        iso: Some(medium.iso.medium()),
    })
}
