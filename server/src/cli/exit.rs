//! How a command ends: 0 done, 1 failed or "no", 2 not understood. Errors are shown here, once, with their whole chain and the remedy.

use crate::config::ConfigError;
use crate::inventory::{Broken, Refused};
use crate::store::StoreError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// How a command that ran ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did what it was asked for: 0.
    Well,
    /// It looked, and the answer is no, or there are problems; they are printed already: 1.
    No,
}

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense: exit 2.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to type instead.
        remedy: String,
    },
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The inventory does not take the change.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// An object's ancestors are not all there.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The state could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder.
    #[error("{doing} {}", .path.display())]
    File {
        /// `cannot read`, `cannot write`, ...
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// What to do about it; may be empty.
        remedy: String,
    },
    /// Anything else that has a remedy.
    #[error("{what}")]
    Said {
        /// What is wrong. Lines after the first are indented details.
        what: String,
        /// What to do about it; may be empty.
        remedy: String,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl Failure {
    /// A failure with a remedy.
    pub fn said(what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::Said {
            what: what.to_string(),
            remedy: remedy.to_string(),
        }
    }

    /// A command line that makes no sense.
    pub fn usage(what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::Usage {
            what: what.to_string(),
            remedy: remedy.to_string(),
        }
    }

    /// A failed look at, or change of, a file. The remedy follows from the cause.
    pub fn file(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::PermissionDenied => "run it as root, or as the owner of that file",
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::StorageFull => "make room on that disk",
            io::ErrorKind::IsADirectory => "name a file, not a folder",
            _ => "",
        };
        Self::File {
            doing,
            path: path.into(),
            source,
            remedy: remedy.to_owned(),
        }
    }

    /// True when whoever read our output went away, which is no failure (`cordwainer system list | head -1`).
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    fn remedy(&self) -> &str {
        match self {
            Self::Usage { remedy, .. } | Self::File { remedy, .. } | Self::Said { remedy, .. } => remedy,
            Self::Store(StoreError::BadBackup { .. }) => {
                "give a file that `cordwainer backup` made; nothing was changed"
            }
            Self::Config(_) | Self::Refused(_) | Self::Broken(_) | Self::Store(_) | Self::Output(_) => "",
        }
    }

    /// The lines for standard error.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = match self {
            // FILE:LINE: is where editors look for the place.
            Self::Config(error) => error.to_string(),
            other => format!("error: {other}"),
        };
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            // Some errors tell their cause themselves.
            let said = error.to_string();
            if !text.contains(&said) {
                text.push_str(&format!(": {said}"));
            }
            cause = error.source();
        }
        if !self.remedy().is_empty() {
            text.push_str("\n  remedy  ");
            text.push_str(self.remedy());
        }
        text.push('\n');
        text
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            _ => 1,
        }
    }
}

/// Maps the end of a command to the exit code and shows what failed.
pub fn end(result: Result<Ended, Failure>) -> ExitCode {
    match result {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::No) => ExitCode::from(1),
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            super::print::error(&failure.text());
            ExitCode::from(failure.code())
        }
    }
}
