//! A mark in the state folder that the daemon is alive: a restart that finds it fresh serves at once, without first looking for
//! another DHCP server, because a moment ago it was the one.
#![expect(clippy::disallowed_methods, reason = "keeps the time stamp of a file")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Name of the mark.
const FILE: &str = "alive";
/// How often it is renewed.
const PERIOD: Duration = Duration::from_secs(10);
/// An absence up to this long is a restart.
pub(super) const JUST_HERE: Duration = Duration::from_secs(120);

/// How long no daemon has been alive on this state; none when none ever was, or the clock went back.
pub(super) fn absent(state: &Path) -> Option<Duration> {
    let renewed = std::fs::metadata(state.join(FILE))
        .and_then(|meta| meta.modified())
        .ok()?;
    SystemTime::now().duration_since(renewed).ok()
}

/// Renews the mark until `stopped` says true.
pub(super) async fn run(state: PathBuf, mut stopped: watch::Receiver<bool>) {
    loop {
        // Best effort: without the mark the next start looks for other servers first, which is only slower.
        if let Err(error) = File::create(state.join(FILE)).and_then(|file| file.set_modified(SystemTime::now())) {
            tracing::debug!("the mark of being alive was not renewed: {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => (),
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}
