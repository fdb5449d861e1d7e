//! Programs of the admin's that run when an installation begins, ends, fails, or its machine comes up: Cobbler's install triggers.
//!
//! `hooks/pre`, `post`, `firstboot` and `failed` below the folder of overrides; each executable file in the order of its name, called as
//! `FILE system NAME ADDRESS`. Never through a shell, never as another user than the daemon's, never waited for by a machine. What
//! somebody else than root or the daemon's user could have written is not run.
#![expect(
    clippy::disallowed_methods,
    reason = "lists a folder, looks at the owners of its files, and starts them"
)]

use crate::event::{Event, What};
use crate::model::Name;
use crate::ports::Worlds;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

/// The folder below that of overrides.
const FOLDER: &str = "hooks";
/// Calls that may wait; more are dropped, and said.
const WAITING: usize = 4096;
/// Calls that run at once.
const AT_ONCE: usize = 4;
/// How long one program may take before it and what it started are killed.
const LONGEST: Duration = Duration::from_secs(60);

/// One thing that hooks are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    mode: &'static str,
    system: Name,
    address: Option<IpAddr>,
    mac: String,
}

/// The folder of an event's hooks; most have none.
const fn mode(what: &What) -> Option<&'static str> {
    match what {
        What::Claimed { .. } => Some("pre"),
        What::Installed => Some("post"),
        What::BootedFromDisk => Some("firstboot"),
        What::Failed { .. } | What::Held { .. } => Some("failed"),
        _ => None,
    }
}

fn call_of(event: &Event, worlds: &dyn Worlds) -> Option<Call> {
    let (mode, system) = (mode(&event.what)?, event.system.clone()?);
    let claimed = match event.what {
        What::Claimed { address, .. } => Some(address),
        _ => worlds
            .world()
            .installs
            .by_system
            .get(&system)
            .and_then(|seen| seen.bound),
    };
    let known = claimed
        .filter(|address| *address != Ipv4Addr::UNSPECIFIED)
        .map(IpAddr::V4);
    Some(Call {
        mode,
        address: known.or(event.peer),
        mac: event.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        system,
    })
}

/// Runs hooks until `stopped` says true.
pub(super) async fn run(
    overrides: PathBuf,
    mut events: broadcast::Receiver<Arc<Event>>,
    worlds: Arc<dyn Worlds>,
    mut stopped: watch::Receiver<bool>,
) {
    let (queue, mut calls) = mpsc::channel::<Call>(WAITING);
    let mut running: JoinSet<()> = JoinSet::new();
    let folder = overrides.join(FOLDER);
    loop {
        tokio::select! {
            heard = events.recv() => match heard {
                Ok(event) => {
                    let call = call_of(&event, &*worlds);
                    if let Some(call) = call && let Err(error) = queue.try_send(call) {
                        tracing::warn!("a hook is left out, {WAITING} wait already: {error}");
                    }
                }
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!("{lost} events passed too fast to run hooks for them");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            Some(call) = calls.recv(), if running.len() < AT_ONCE => {
                running.spawn(all(folder.join(call.mode), call));
            }
            Some(_) = running.join_next() => (),
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// Runs every program of a folder, one after the other.
async fn all(folder: PathBuf, call: Call) {
    let programs = match programs(&folder) {
        Ok(programs) => programs,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!("the hooks in {} cannot be listed: {error}", folder.display());
            return;
        }
    };
    for program in programs {
        one(&program, &call).await;
    }
}

/// The executable files of a folder by name. Backups, hidden files, and what others may write are passed over.
fn programs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let trusted = |metadata: &std::fs::Metadata| {
        let owner = metadata.uid();
        (owner == 0 || owner == geteuid().as_raw()) && metadata.mode() & 0o022 == 0
    };
    if !trusted(&std::fs::metadata(folder)?) {
        let why = "others than root and the daemon's user may write to the folder; chmod go-w, chown root";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let plain = name
            .to_str()
            .is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        let shown = name.to_string_lossy().into_owned();
        if !plain || shown.starts_with('.') || shown.ends_with('~') || shown.ends_with(".rpmsave") {
            continue;
        }
        // A link that leads nowhere is one hook less, not a folder that is not there.
        let metadata = match std::fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::warn!("the hook {} is not run: {error}", entry.path().display());
                continue;
            }
        };
        if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
            continue;
        }
        if trusted(&metadata) {
            found.insert(name, entry.path());
        } else {
            tracing::warn!(
                "the hook {} is not run: others than root and the daemon's user may write to it",
                entry.path().display()
            );
        }
    }
    Ok(found.into_values().collect())
}

/// Runs one program, for a minute at most.
async fn one(program: &Path, call: &Call) {
    let address = call.address.map(|address| address.to_string()).unwrap_or_default();
    let child = Command::new(program)
        .args(["system", call.system.as_str(), &address])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CORDWAINER_EVENT", call.mode)
        .env("CORDWAINER_SYSTEM", call.system.as_str())
        .env("CORDWAINER_ADDRESS", &address)
        .env("CORDWAINER_MAC", &call.mac)
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!("the hook {} was not started: {error}", program.display());
            return;
        }
    };
    let group = i32::try_from(child.id()).ok().map(Pid::from_raw);
    let mut waits = tokio::task::spawn_blocking(move || child.wait());
    let ended = match tokio::time::timeout(LONGEST, &mut waits).await {
        Ok(ended) => ended,
        Err(_) => {
            if let Some(group) = group {
                // It may have ended in this moment.
                let _ = killpg(group, Signal::SIGKILL);
            }
            tracing::warn!(
                "the hook {} ran for {} s and was killed",
                program.display(),
                LONGEST.as_secs()
            );
            waits.await
        }
    };
    match ended {
        Ok(Ok(status)) if status.success() => {
            tracing::info!("hook {} {} {}: done", program.display(), call.system, call.mode);
        }
        Ok(Ok(status)) => tracing::warn!("the hook {} for {} ended with {status}", program.display(), call.system),
        Ok(Err(error)) => tracing::warn!("the hook {} was lost: {error}", program.display()),
        Err(error) => tracing::warn!("the hook {} was lost: {error}", program.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_what_others_cannot_write_is_run_in_the_order_of_names() {
        let dir = std::env::temp_dir().join(format!("cordwainer-hooks-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (name, mode) in [
            ("20-b", 0o755),
            ("10-a.sh", 0o700),
            ("30-open", 0o777),
            ("40-plain", 0o644),
            ("50-back~", 0o755),
            (".hidden", 0o755),
        ] {
            std::fs::write(dir.join(name), "").unwrap();
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.join("15-gone")).unwrap();
        let names: Vec<String> = programs(&dir)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["10-a.sh", "20-b"]);
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(programs(&dir).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
