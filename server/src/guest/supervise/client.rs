//! The command line's side of the supervisor's socket. It blocks, for the command line does nothing else meanwhile.
#![allow(clippy::disallowed_methods, reason = "IO: connects to the supervisor's socket")]

use crate::guest::protocol::{Reply, Request, SOCKET};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the supervisor may be silent where it has nothing to wait for; a hypervisor far away may be slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// The supervisor could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no supervisor of guests answers at {path}: {source}; start it: systemctl start cordwainer-guests, or: cordwainer guest supervise", path = .path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The socket is there and not for this user.
    #[error("{path} is not for this user; use sudo, or join the group that owns it", path = .0.display())]
    NotAllowed(PathBuf),
    /// It refuses, in its own words.
    #[error("{0}")]
    Refused(String),
    /// It went away in the middle, or speaks another version.
    #[error("the supervisor's answer broke off: {0}; what was begun goes on once it runs again")]
    Broken(String),
}

/// The way to the supervisor. Each question takes a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Looks whether a supervisor answers for the state folder `state`.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] or [`ClientError::NotAllowed`].
    pub fn connect(state: &Path) -> Result<Self, ClientError> {
        let client = Self {
            path: state.join(SOCKET),
        };
        client.open()?;
        Ok(client)
    }

    fn open(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed(self.path.clone()),
            _ => ClientError::NotRunning {
                path: self.path.clone(),
                source,
            },
        })
    }

    /// Asks. The replies end when the supervisor has no more to say; a [`Reply::Refused`] is an error, and the last.
    ///
    /// # Errors
    /// [`ClientError`] when it cannot be asked; later ones come out of the iterator.
    pub fn ask(&self, request: &Request) -> Result<Replies, ClientError> {
        let broken = |error: io::Error| ClientError::Broken(error.to_string());
        let mut stream = self.open()?;
        let endless = matches!(
            request,
            Request::Follow(_)
                | Request::Log { follow: true, .. }
                | Request::Console { .. }
                | Request::Migrate { .. }
                | Request::Shutdown { .. }
        );
        stream
            .set_read_timeout(if endless { None } else { Some(PATIENCE) })
            .map_err(broken)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
        let mut line = serde_json::to_string(request).map_err(|error| ClientError::Broken(error.to_string()))?;
        line.push('\n');
        stream.write_all(line.as_bytes()).map_err(broken)?;
        Ok(Replies {
            lines: BufReader::new(stream),
            ended: false,
        })
    }

    /// Asks what has one answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask_one(&self, request: &Request) -> Result<Reply, ClientError> {
        self.ask(request)?
            .last()
            .unwrap_or_else(|| Err(ClientError::Broken("it said nothing".to_owned())))
    }
}

/// The lines of an answer.
#[derive(Debug)]
pub struct Replies {
    lines: BufReader<UnixStream>,
    ended: bool,
}

impl Replies {
    /// The connection itself, after [`Reply::Console`]: what the guest writes is read from it, what is typed is written to it. The bytes
    /// that came with the last line are returned first.
    #[must_use]
    pub fn into_console(self) -> (Vec<u8>, UnixStream) {
        (self.lines.buffer().to_vec(), self.lines.into_inner())
    }
}

impl Iterator for Replies {
    type Item = Result<Reply, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut line = String::new();
        let reply = match self.lines.read_line(&mut line) {
            Ok(0) => {
                self.ended = true;
                return None;
            }
            Ok(_) => match serde_json::from_str(&line) {
                Ok(Reply::Refused { text }) => Err(ClientError::Refused(text)),
                Ok(reply) => Ok(reply),
                Err(error) => Err(ClientError::Broken(error.to_string())),
            },
            Err(error) => Err(ClientError::Broken(error.to_string())),
        };
        self.ended = reply.is_err();
        Some(reply)
    }
}
