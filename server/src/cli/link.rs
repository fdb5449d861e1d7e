//! The way to the running daemon: its control socket in the state folder. A daemon that does not run is an answer, not an error.
#![expect(clippy::disallowed_methods, reason = "looks at the times of two files")]

use super::settings::Settings;
use crate::event::control::{Client, ClientError, SOCKET};
use crate::model::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a change is waited for: the daemon looks every 20 ms.
const TAKEN_UP: Duration = Duration::from_secs(2);

/// Where the daemon listens.
pub(super) fn socket(state: &Path) -> PathBuf {
    state.join(SOCKET)
}

/// The daemon of this state folder; `None` where none runs.
///
/// # Errors
/// [`ClientError::NotAllowed`], when this user may not ask.
pub(super) fn daemon(state: &Path) -> Result<Option<Client>, ClientError> {
    match Client::connect(&socket(state)) {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// True when a daemon answers for this state folder.
pub(super) fn answers(state: &Path) -> bool {
    daemon(state).is_ok_and(|client| client.is_some())
}

/// Other DHCP servers that the running daemon heard within the last hour, each with when and what.
pub(super) fn rivals(state: &Path, now: Timestamp) -> Vec<(Duration, String)> {
    let heard = daemon(state).ok().flatten().and_then(|client| client.rivals().ok());
    let aged = heard
        .into_iter()
        .flatten()
        .map(|event| (now.since(event.at), event.what.to_string()));
    aged.filter(|(ago, _)| ago.as_secs() < 3600).collect()
}

/// What to say where a daemon runs that started before the configuration was changed: it serves the old one.
pub(super) fn outdated(settings: &Settings) -> Option<String> {
    let file = settings.file.as_ref()?;
    let state = &settings.config.state;
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    // The socket is made when the daemon starts.
    let old = answers(state) && changed(file)? > changed(&socket(state))?;
    old.then(|| {
        format!(
            "{} was changed after the daemon started, which still serves the old one; restart it: systemctl restart cordwainer",
            file.display()
        )
    })
}

/// True once a daemon serves this version of the inventory.
pub(super) fn serves(state: &Path, version: u64) -> bool {
    let client = daemon(state).ok().flatten();
    client.is_some_and(|client| client.live(version, TAKEN_UP).unwrap_or(false))
}
