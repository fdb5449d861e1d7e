//! What an import asks of an ISO image: that it can be read whole, that its publisher vouches for it where the admin gave his checksums, and
//! that the service may read it where it lies; else it is copied. It is never unpacked.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: opens the image that is imported, looks whether the service may read it, and has it copied"
)]

use super::beside::{Beside, lay_beside};
use super::checksum::{Checksums, Verdict};
use super::download::Download;
use super::import::{Cause, ImportRequest, Place, Progress, enough_space};
use super::iso_source::{Iso, OpenError};
use super::iso9660::IsoError;
use super::place::{Placed, Shelf, copy_medium, copy_of};
use super::survey::{Reader, Survey};
use crate::model::{Name, Tree};
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes that are summed at once.
const PIECE: usize = 1 << 20;
/// What a copied image is called, below the folder of its distro.
const COPY: &str = "medium.iso";

/// An image, and what a walk over all of it met.
pub(super) struct Medium {
    pub(super) iso: Iso,
    pub(super) survey: Survey,
    /// The disc in a drive, which will be taken out.
    drive: bool,
    /// It was fetched, and is ours to move.
    download: Option<Download>,
}

/// Opens the image or drive `root`, which the admin called `asked`, and judges it whole: what is cut off or lies is refused here.
pub(super) fn open(asked: &Path, root: &Path, reader: &Reader, download: Option<Download>) -> Result<Medium, Cause> {
    let refused = |error: OpenError| match error {
        OpenError::Iso(IsoError::NotIso { udf: true, .. }) => Cause::Udf {
            path: asked.to_path_buf(),
            found: "nothing".to_owned(),
        },
        error => Cause::Iso {
            path: asked.to_path_buf(),
            error,
        },
    };
    let at = at(root);
    let metadata = std::fs::metadata(root).map_err(at)?;
    let drive = metadata.file_type().is_block_device();
    let iso = if drive { Iso::of_drive(root) } else { Iso::open(root) }.map_err(refused)?;
    let contents = iso.walk().map_err(|error| refused(error.into()))?;
    let mut unreadable = reader.barred_above(root).map_err(at)?;
    if unreadable.is_none() && !reader.may_read(&metadata) {
        unreadable = Some(root.to_path_buf());
    }
    let leads_out = contents.leads_out.into_iter();
    let survey = Survey {
        files: contents.files,
        bytes: contents.bytes,
        unreadable: unreadable.filter(|_| !drive),
        leads_out: leads_out.map(|(path, target)| (path.into(), target.into())).collect(),
        special: contents
            .unservable
            .into_iter()
            .map(|(path, what)| (path.into(), what))
            .collect(),
        odd_names: contents.odd_names.into_iter().map(PathBuf::from).collect(),
    };
    Ok(Medium {
        iso,
        survey,
        drive,
        download,
    })
}

fn at(path: &Path) -> impl Fn(io::Error) -> Cause + Copy + '_ {
    move |error| Cause::Io {
        path: path.to_path_buf(),
        error,
    }
}

fn open_to_all(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o644))
}

impl Medium {
    /// Where the image is served from: where it is, or a copy.
    pub(super) fn settle(
        &self,
        request: &ImportRequest,
        (root, state): (&Path, &Path),
        name: &Name,
        (reader, beside): (&Reader, &Beside),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Tree, Option<Placed>), Cause> {
        let own = copy_of(name, root, state).is_some_and(|place| root == state.join("distros").join(place).join(COPY));
        let in_state = root.starts_with(state.join("distros"));
        let stays = (own && !beside.is_new())
            || match (request.place, &self.survey.unreadable) {
                (Place::InPlace, _) if self.drive => {
                    return Err(Cause::Asked {
                        why: format!("{} is a drive, whose disc will be taken out", root.display()),
                        remedy: "leave --in-place out to have the disc copied".to_owned(),
                    });
                }
                (Place::InPlace, Some(folder)) if reader.hides(folder) => {
                    return Err(Cause::Hidden {
                        path: request.path.clone(),
                        folder: folder.clone(),
                    });
                }
                (Place::InPlace, Some(path)) => {
                    return Err(Cause::IsoBarred {
                        path: path.clone(),
                        user: reader.name.clone(),
                    });
                }
                (Place::InPlace, None) if own => false,
                (Place::InPlace, None) => true,
                (Place::Auto, unreadable) => unreadable.is_none() && !self.drive && !in_state,
                (Place::Copy, _) => false,
            };
        let called = request.path.file_name().unwrap_or_default().to_string_lossy();
        let checksums = request.checksums.as_ref();
        let bytes = self.bytes();
        if stays {
            vouched(checksums, (root, &request.path), &called, bytes, progress)?;
            let placed = match beside.is_new() {
                true => Some(lay_beside(state, name, beside, progress)?),
                false => None,
            };
            let tree = Tree {
                root: root.to_path_buf(),
                in_place: !own,
                iso: Some(self.iso.medium()),
                overlay: beside.overlay(placed.as_ref().map(|placed| placed.root.as_path())),
            };
            return Ok((tree, placed));
        }
        let shelf = Shelf::open(state)?;
        if self.download.is_none() {
            enough_space(state, bytes)?;
        }
        let placed = shelf.place(name, progress, |staging, progress| {
            let copy = staging.join(COPY);
            match &self.download {
                Some(download) => download
                    .give(&copy)
                    .and_then(|()| open_to_all(&copy))
                    .map_err(at(&copy))?,
                None => copy_medium(root, &copy, bytes, progress)?,
            }
            // The copy is what will be served, so it is the copy that must be right.
            vouched(checksums, (&copy, &request.path), &called, bytes, progress)?;
            beside.write(staging)
        })?;
        let copy = placed.root.join(COPY);
        let medium = match Iso::open(&copy) {
            Ok(iso) => iso.medium(),
            Err(error) => {
                placed.withdraw(None)?;
                return Err(Cause::Iso { path: copy, error });
            }
        };
        let tree = Tree {
            overlay: beside.overlay(Some(&placed.root)),
            root: copy,
            in_place: false,
            iso: Some(medium),
        };
        Ok((tree, Some(placed)))
    }

    /// Bytes of the medium. A drive may have more than the disc's file system, and they may be unreadable.
    fn bytes(&self) -> u64 {
        let (size, declared) = (self.iso.medium().size, self.iso.volume().declared);
        if self.drive && declared > 0 {
            size.min(declared)
        } else {
            size
        }
    }
}

/// Refuses the image `path`, which the admin called `asked`, unless `checksums` vouch for its first `all_bytes`.
fn vouched(
    checksums: Option<&Checksums>,
    (path, asked): (&Path, &Path),
    called: &str,
    all_bytes: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Cause> {
    let Some(checksums) = checksums else { return Ok(()) };
    let mut file = File::open(path).map_err(at(path))?.take(all_bytes);
    let mut summing = checksums.begin();
    let mut piece = vec![0; PIECE];
    let mut bytes = 0_u64;
    loop {
        let read = match file.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(at(path))?,
        };
        if read == 0 {
            break;
        }
        summing.take(piece.get(..read).unwrap_or_default());
        bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(0));
        progress(Progress::Summing { bytes, all_bytes });
    }
    match checksums.judge(summing, called) {
        Verdict::Vouched(_) => Ok(()),
        Verdict::Other { found, expected } => Err(Cause::Forged {
            path: asked.to_path_buf(),
            algorithm: checksums.algorithm(),
            found,
            expected,
        }),
    }
}
