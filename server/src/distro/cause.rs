//! Why nothing was imported: each with the thing, what was expected of it, and the remedy.
//!
//! Pure. Whatever an import refuses, it has changed nothing.

use super::checksum::Algorithm;
use super::detect::Unfit;
use super::download::FetchError;
use super::iso_source::OpenError;
use super::netboot::NetbootError;
use super::plan::Taken;
use super::survey::Failed;
use crate::event::size;
use std::io;
use std::path::PathBuf;

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
    /// A medium as Windows has it.
    #[error("{} keeps its files in UDF, which is not read; its ISO 9660 part holds {}\n  remedy      unpack it (7z x IMAGE -oFOLDER) and import the folder", .path.display(), .found)]
    Udf {
        /// The image.
        path: PathBuf,
        /// What is in its other file system.
        found: String,
    },
    /// `--in-place`, but the service has a folder of its own where it lies.
    #[error("{} lies in {}, and the service's sandbox has one of its own (PrivateTmp=)\n  remedy      move it elsewhere, to /srv say, or leave --in-place out to have it copied", .path.display(), .folder.display())]
    Hidden {
        /// What is imported.
        path: PathBuf,
        /// The folder.
        folder: PathBuf,
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
    /// What the URL names could not be fetched.
    #[error("{url} cannot be fetched: {error}")]
    Url {
        /// The URL.
        url: String,
        /// Why.
        error: Box<FetchError>,
    },
    /// A disc that holds too little, and nobody says where the rest is.
    #[error("{}: {why}\n  remedy      import a disc that holds the packages (the DVD), or name a mirror of the same version: --mirror URL, the folder with {holds}", .path.display())]
    NoPackages {
        /// The disc.
        path: PathBuf,
        /// What it lacks.
        why: String,
        /// What the mirror must hold.
        holds: String,
    },
    /// A disc that holds too little, and a mirror that does not answer.
    #[error("{}: {why}, and this one does not answer: {url}: {error}
  or          import a disc that holds the packages (the DVD), or give another mirror: --mirror URL", .path.display())]
    NoMirror {
        /// The disc.
        path: PathBuf,
        /// What it lacks.
        why: String,
        /// What was asked for.
        url: String,
        /// Why.
        error: Box<FetchError>,
    },
    /// A Debian disc without netboot files that fit it.
    #[error("{}: {error}", .path.display())]
    Netboot {
        /// The tree.
        path: PathBuf,
        /// Why.
        error: Box<NetbootError>,
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

pub(super) fn more(others: &usize) -> String {
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
