//! The supervisor's socket: bound for its owner and group, a thread for each question, until it is stopped.
#![allow(clippy::disallowed_methods, reason = "IO: a unix socket, signals, threads")]

use super::hub::Hub;
use super::talk::May;
use super::{Options, SuperviseError, talk};
use crate::guest::protocol::SOCKET;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Questions at a time; more are turned away.
const MOST: usize = 64;
/// The same of the network boot server.
const MOST_FOR_SERVER: usize = 8;

/// A supervisor in this process. Dropping it ends it: what was begun goes on once the next supervisor runs.
#[derive(Debug)]
pub struct Supervisor {
    path: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The one who accepts looks up.
        drop(UnixStream::connect(&self.path));
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(%error, "the socket was gone already");
    }
}

/// Supervises until SIGTERM or SIGINT.
///
/// # Errors
/// [`SuperviseError`], with the remedy.
pub fn run(options: Options) -> Result<(), SuperviseError> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Before any thread starts: all inherit it, and the signal waits for this one.
    signals
        .thread_block()
        .map_err(|error| SuperviseError::Start(error.into()))?;
    let supervisor = start(options)?;
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    let signal = signals.wait().map_err(|error| SuperviseError::Start(error.into()))?;
    tracing::info!("{signal}: stopping; guests go on, and are taken up again by the next supervisor");
    drop(supervisor);
    Ok(())
}

/// Supervises in this process.
///
/// # Errors
/// [`SuperviseError`], with the remedy.
pub fn start(options: Options) -> Result<Supervisor, SuperviseError> {
    let path = options.state.join(SOCKET);
    let door = Door {
        root_only: options.root_only,
        power: options.power,
    };
    let listener = bind(&path)?;
    let hub = Hub::start(options)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    std::thread::Builder::new()
        .name("listen".into())
        .spawn(move || accept(&listener, &hub, &stopped, door))
        .map_err(SuperviseError::Start)?;
    tracing::info!("supervising guests; asked at {}", path.display());
    Ok(Supervisor { path, stop })
}

/// Binds `path` for the owner and the group only. A socket that nobody answers at any more is taken over.
fn bind(path: &Path) -> Result<UnixListener, SuperviseError> {
    let socket = |source: io::Error| SuperviseError::Socket {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            if UnixStream::connect(path).is_ok() {
                return Err(SuperviseError::Running(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(socket)?;
        }
        Ok(_) => {
            return Err(socket(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it exists and is no socket",
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(socket(error)),
    }
    let listener = UnixListener::bind(path).map_err(socket)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(socket)?;
    Ok(listener)
}

/// Who is let in.
#[derive(Debug, Clone, Copy)]
struct Door {
    root_only: bool,
    power: bool,
}

impl Door {
    /// What whoever is at the other end may ask; none: nothing.
    fn opens(self, stream: &UnixStream) -> Option<May> {
        let peer = getsockopt(stream, PeerCredentials).ok()?;
        match (peer.uid() == 0 || !self.root_only, self.power) {
            (true, _) => Some(May::Everything),
            (false, true) if peer.uid() == geteuid().as_raw() => Some(May::Power),
            (false, _) => None,
        }
    }
}

/// A place among the questions under way, given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    /// None when there are `most` already.
    fn take(busy: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        if busy.load(Ordering::SeqCst) >= most {
            return None;
        }
        busy.fetch_add(1, Ordering::SeqCst);
        Some(Self(Arc::clone(busy)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn accept(listener: &UnixListener, hub: &Arc<Hub>, stopped: &AtomicBool, door: Door) {
    let (busy, busy_for_server) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for stream in listener.incoming() {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "the supervisor's socket cannot be answered for now");
                continue;
            }
        };
        let place = match door.opens(&stream) {
            Some(May::Everything) => Place::take(&busy, MOST).map(|place| (place, May::Everything)),
            // It never takes the places of those who may ask everything.
            Some(May::Power) => Place::take(&busy_for_server, MOST_FOR_SERVER).map(|place| (place, May::Power)),
            None => {
                tracing::warn!("a question from another account than root was not answered (--root-only)");
                None
            }
        };
        let Some((place, may)) = place else { continue };
        let hub = Arc::clone(hub);
        let spawned = std::thread::Builder::new().name("question".into()).spawn(move || {
            talk::talk(&stream, &hub, may);
            drop(place);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a question");
        }
    }
}
