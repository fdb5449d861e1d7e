//! Templates and snippets that came over the network, as files of the overrides folder: whole or not at all, and gone where they are taken
//! away. Never leaves that folder, and does not write where the admin did not let it.
#![expect(clippy::disallowed_methods, reason = "IO: writes files of the overrides folder")]

use crate::ports::TextChange;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Why a text is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum TextError {
    /// The folder is not the server's to write to: it is so from the start.
    #[error(
        "{path} may not be written by the server: to let XML-RPC write templates, make it and let the server's user write there, and where \
         systemd starts it name it in ReadWritePaths= of a drop-in; or put the file there yourself"
    )]
    NotLet {
        /// The folder.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{path}: {error}")]
    Io {
        /// What was to be written.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Makes the file of `change` below `overrides` what it should be.
///
/// # Errors
/// [`TextError`]; then what was before is still there.
pub(super) fn put(overrides: &Path, change: &TextChange) -> Result<(), TextError> {
    let mut target = overrides.join(change.folder.name());
    target.extend(change.path.parts());
    let place = target.parent().unwrap_or(overrides);
    let done = match &change.text {
        Some(text) => write(place, &target, text),
        None => match fs::remove_file(&target) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync(place)),
        },
    };
    done.map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => TextError::NotLet { path: place.into() },
        _ => TextError::Io {
            path: target.clone(),
            error,
        },
    })
}

fn write(place: &Path, target: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(place)?;
    let name = target.file_name().unwrap_or_default();
    // Hidden: what reads the folder passes it over, and the next try begins it anew.
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let new = target.with_file_name(hidden);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&new)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, target));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&new);
    }
    written?;
    sync(place)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
