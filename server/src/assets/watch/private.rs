//! What is never sent to anyone, whatever path an object names: the databases and the key, the configuration and the templates.
//!
//! An admin may err, and who changes objects over the network is not root here. What is imported, and the public folder, lie in folders of
//! the state folder, which may be sent.
#![expect(clippy::disallowed_methods, reason = "IO: asks where a path really leads")]

use crate::config::Config;
use std::path::{Path, PathBuf};

/// Why such a file is not sent.
pub(super) const PRIVATE: &str = "is one that the server keeps to itself: its state, its configuration or a template";

/// Where the server keeps what it sends to nobody.
#[derive(Debug)]
pub(super) struct Private {
    state: PathBuf,
    overrides: PathBuf,
}

/// Where a path really leads; as it is written where that cannot be told.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

impl Private {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            state: config.state.clone(),
            overrides: config.overrides.clone(),
        }
    }

    /// True for a file in the state folder, but not in a folder of it; and for one anywhere below the configuration.
    pub(super) fn holds_file(&self, path: &Path) -> bool {
        let path = real(path);
        path.parent() == Some(&real(&self.state)) || path.starts_with(real(&self.overrides))
    }

    /// True for a tree that has such a file in it.
    pub(super) fn holds_tree(&self, root: &Path) -> bool {
        let (root, overrides) = (real(root), real(&self.overrides));
        real(&self.state).starts_with(&root) || overrides.starts_with(&root) || root.starts_with(&overrides)
    }
}
