//! Where the configuration comes from: --config, or the file at its usual place, or the defaults.
#![expect(clippy::disallowed_methods, reason = "reads the configuration file")]

use super::args::Global;
use super::exit::Failure;
use crate::config::{Config, wire};
use std::io;
use std::path::{Path, PathBuf};

/// Where the configuration is looked for.
pub const PLACE: &str = "/etc/cordwainer/cordwainer.toml";

/// The configuration, and the file that it was read from, if any.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is true.
    pub config: Config,
    /// The file; none: defaults.
    pub file: Option<PathBuf>,
}

/// Reads the configuration.
///
/// # Errors
/// A file that is wrong, unreadable, or named by --config and not there.
pub fn load(global: &Global) -> Result<Settings, Failure> {
    let path = global.config.as_deref().unwrap_or_else(|| Path::new(PLACE));
    let mut settings = match std::fs::read_to_string(path) {
        Ok(text) => Settings {
            config: wire::parse(&text, &path.display().to_string())?,
            file: Some(path.to_owned()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && global.config.is_none() => Settings {
            config: Config::default(),
            file: None,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = format!(
                "check the path; without --config, {PLACE} is read, and where that is missing the defaults hold"
            );
            let what = format!("there is no configuration file {}", path.display());
            return Err(Failure::said(what, remedy));
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Failure::said(
                format!("{} is not text", path.display()),
                "write it as TOML in UTF-8; man cordwainer.toml shows how",
            ));
        }
        Err(error) => return Err(Failure::file("cannot read", path, error)),
    };
    if let Some(state) = &global.state {
        settings.config.state =
            std::path::absolute(state).map_err(|error| Failure::file("cannot make sense of", state, error))?;
    }
    Ok(settings)
}
