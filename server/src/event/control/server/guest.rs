//! What the guests' supervisor asks: bytes of kernels, and how an installation stands; and what it tells.
#![allow(
    clippy::disallowed_methods,
    reason = "IO: opens kernels and initrds, on disk or inside an image"
)]

use super::{Answer, ArmId, Asked, Lines, MediaFile, Name, News, Opened, PATIENCE, Standing, State, TreeFile, tree};
use crate::event::{Event, What};
use crate::model::redact_text;
use crate::ports::Events as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes of a kernel that are read at a time.
const CHUNK: usize = 256 * 1024;
/// News of one message that are taken; a serial console can say much.
const NEWS: usize = 64;
/// Longest line that is kept, in characters.
const LONGEST_LINE: usize = 255;

/// Opens a kernel or an initrd that the distro's record names; nothing else can be had here.
fn open(asked: &Asked, media: &MediaFile) -> io::Result<TreeFile> {
    let world = asked.worlds.world();
    let refused = |why: String| io::Error::new(io::ErrorKind::NotFound, why);
    let distro = world
        .inventory
        .distro(media.distro.as_str())
        .ok_or_else(|| refused(format!("there is no distro {}", media.distro)))?;
    let place = distro.initrd.iter().position(|path| *path == media.path);
    if distro.kernel != media.path && place.is_none() {
        return Err(refused(format!(
            "distro {} has no kernel or initrd {}",
            distro.name, media.path
        )));
    }
    if let Some(tree) = &distro.tree {
        return match tree::fetch(&tree.root, tree.iso, &media.path)? {
            Opened::File(file) => Ok(file),
            Opened::Folder => Err(refused(format!("{} is a folder", media.path))),
        };
    }
    let known = world.assets.media.get(&distro.name);
    let asset = known.and_then(|known| match place {
        None => known.kernel.clone().ok(),
        Some(place) => known.initrd.get(place).cloned().and_then(Result::ok),
    });
    let asset = asset.ok_or_else(|| refused(format!("{} of distro {} is not there", media.path, distro.name)))?;
    let file = std::fs::File::open(&asset.path)?;
    let metadata = file.metadata()?;
    Ok(TreeFile::Plain(file, metadata))
}

/// Sends the bytes of a kernel or an initrd.
pub(super) async fn bytes(asked: &Asked, media: MediaFile, lines: &mut Lines) -> io::Result<()> {
    let (asking, wanted) = (asked.clone(), media.clone());
    let opened = spawn_blocking(move || open(&asking, &wanted)).await?;
    let file = match opened {
        Ok(file) => Arc::new(file),
        Err(error) => {
            let text = format!("{} of distro {} cannot be read: {error}", media.path, media.distro);
            return lines.put(&Answer::Error(text)).await;
        }
    };
    let size = file.size();
    lines.put(&Answer::Bytes(size)).await?;
    let mut at = 0_u64;
    while at < size {
        let (file, from) = (file.clone(), at);
        let chunk = spawn_blocking(move || {
            let mut buffer = vec![0; CHUNK];
            let read = file.fill(&mut buffer, from)?;
            buffer.truncate(read);
            Ok::<_, io::Error>(buffer)
        })
        .await??;
        let left = size.saturating_sub(at);
        let take = usize::try_from(left).unwrap_or(CHUNK).min(chunk.len());
        let Some(part) = chunk.get(..take).filter(|part| !part.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        timeout(PATIENCE, lines.0.write_all(part)).await??;
        at = at.saturating_add(u64::try_from(take).unwrap_or(left));
    }
    Ok(())
}

/// How the installation of an arming stands now.
fn now(asked: &Asked, system: &Name, arm: &ArmId) -> Standing {
    let world = asked.worlds.world();
    let armed = world.inventory.arm(system.as_str()).filter(|known| known.id == *arm);
    let seen = world
        .installs
        .by_system
        .get(system)
        .filter(|installation| installation.arm == *arm);
    let reason = |otherwise: &str| {
        seen.and_then(|seen| seen.reason.clone())
            .unwrap_or_else(|| otherwise.to_owned())
    };
    match (seen.map(|seen| seen.state), armed) {
        (Some(State::Installed), _) => Standing::Done {
            booted: seen
                .and_then(|seen| seen.stage)
                .is_some_and(|stage| stage.as_str() == "booted"),
        },
        (Some(State::Failed), _) => Standing::Failed(reason("the installation failed")),
        (Some(State::Held), _) => Standing::Failed(reason("the machine is held")),
        (seen_state, Some(armed)) if seen_state.is_some() || armed.is_in_force(world.now) => Standing::Open {
            partitioned: seen.is_some_and(|seen| seen.partitioned),
        },
        (_, Some(armed)) => Standing::Gone(armed.why_not(world.now)),
        (_, None) => Standing::Gone(format!(
            "{system} is not armed for this installation any more; arm it again: cordwainer guest reinstall {system}"
        )),
    }
}

/// How it stands: at once, or as soon as it is unlike what the asker knows, or when `wait` has passed.
pub(super) async fn standing(
    asked: &Asked,
    system: &Name,
    arm: &ArmId,
    unlike: Option<&Standing>,
    wait: Duration,
) -> Standing {
    // Subscribed first: what changes while it is looked at is not missed.
    let mut coming = asked.sink.follow();
    let until = Instant::now().checked_add(wait).unwrap_or_else(Instant::now);
    loop {
        let standing = now(asked, system, arm);
        if unlike != Some(&standing) {
            return standing;
        }
        let changed = async {
            loop {
                match coming.recv().await {
                    Ok(event) if event.system.as_ref() == Some(system) => return true,
                    Ok(_) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => return true,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return false,
                }
            }
        };
        match timeout_at(until, changed).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return now(asked, system, arm),
        }
    }
}

/// Takes news of a guest into its timeline.
pub(super) fn take(asked: &Asked, system: &Name, news: Vec<News>) {
    let world = asked.worlds.world();
    // A guest without a record has a name all the same; the ring keeps it by that.
    let mac = world
        .inventory
        .system(system.as_str())
        .and_then(|system| system.macs().next());
    let clean = |text: String| -> String {
        redact_text(&text)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(LONGEST_LINE)
            .collect()
    };
    for one in news.into_iter().take(NEWS) {
        let what = match one {
            News::Step { host, step, bad: false } => What::Guest {
                host: clean(host),
                step: clean(step),
            },
            News::Step { host, step, bad: true } => What::GuestStopped {
                host: clean(host),
                reason: clean(step),
            },
            News::Serial(line) => What::GuestSerial { line: clean(line) },
        };
        asked.sink.emit(Event {
            at: world.now,
            mac,
            system: Some(system.clone()),
            peer: None,
            what,
        });
    }
}
