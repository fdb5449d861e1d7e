//! The programs of one folder of hooks: which of them are run, and how.
//!
//! Never through a shell, never as another user than the daemon's, each for a minute at most. What somebody else than root or the
//! daemon's user could have written is not run.
#![expect(
    clippy::disallowed_methods,
    reason = "lists a folder, looks at the owners of its files, and starts them"
)]

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long one program may take before it and what it started are killed.
const LONGEST: Duration = Duration::from_secs(60);

/// One call of every program of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The folder, below that of all hooks.
    pub(super) folder: String,
    /// What follows the program's name.
    pub(super) arguments: Vec<String>,
    /// What it finds in its environment beside PATH.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// Runs every program of a folder, one after the other. True when each did well, also where there is none.
pub(super) async fn all(root: &Path, call: &Call) -> bool {
    let programs = match programs(root, &call.folder) {
        Ok(programs) => programs,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
        Err(error) => {
            tracing::warn!(
                "the hooks in {} cannot be listed: {error}",
                root.join(&call.folder).display()
            );
            return false;
        }
    };
    let mut well = true;
    for program in programs {
        well &= one(&program, call).await;
    }
    well
}

/// The executable files of a folder by name. Backups, hidden files, and what others may write are passed over.
fn programs(root: &Path, below: &str) -> io::Result<Vec<PathBuf>> {
    let trusted = |metadata: &std::fs::Metadata| {
        let owner = metadata.uid();
        (owner == 0 || owner == geteuid().as_raw()) && metadata.mode() & 0o022 == 0
    };
    let folder = root.join(below);
    // Who may write to one above could put another in its place.
    for above in folder.ancestors().take_while(|above| above.starts_with(root)) {
        if !trusted(&std::fs::metadata(above)?) {
            let why = format!(
                "others than root and the daemon's user may write to {}; chmod go-w, chown root",
                above.display()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
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

/// Runs one program, for a minute at most. True when it ended well.
async fn one(program: &Path, call: &Call) -> bool {
    let what = call.arguments.join(" ");
    let child = Command::new(program)
        .args(&call.arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(call.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!("the hook {} was not started: {error}", program.display());
            return false;
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
            tracing::info!("hook {} {what}: done", program.display());
            return true;
        }
        Ok(Ok(status)) => tracing::warn!("the hook {} {what} ended with {status}", program.display()),
        Ok(Err(error)) => tracing::warn!("the hook {} was lost: {error}", program.display()),
        Err(error) => tracing::warn!("the hook {} was lost: {error}", program.display()),
    }
    false
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
        let names: Vec<String> = programs(&dir, "")
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["10-a.sh", "20-b"]);
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(programs(&dir, "").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
