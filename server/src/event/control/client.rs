//! The command line's side of the control socket. It blocks, for the command line does nothing else meanwhile.
#![allow(clippy::disallowed_methods, reason = "IO: connects to the daemon's socket")]

use super::{Answer, Empty, Launching, MediaFile, News, Request, Seen, Standing};
use crate::event::Event;
use crate::model::{ArmId, Mac, Name};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the daemon may think.
const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the daemon does not answer at {path}: {source}; start it: systemctl start cordwainer", path = .path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The socket is there and not for this user.
    #[error("{path} is not for this user; use sudo, or join the group that owns it", path = .0.display())]
    NotAllowed(PathBuf),
    /// The daemon refuses, in its own words.
    #[error("{0}")]
    Refused(String),
    /// It went away in the middle, or speaks another version.
    #[error("the daemon's answer broke off: {0}")]
    Broken(String),
}

/// The way to the daemon. Each question takes a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Looks whether a daemon answers at `path`.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] or [`ClientError::NotAllowed`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let client = Self { path: path.to_owned() };
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

    fn ask(&self, request: &Request, patience: Option<Duration>) -> Result<Answers, ClientError> {
        let broken = |error: io::Error| ClientError::Broken(error.to_string());
        let mut stream = self.open()?;
        stream.set_read_timeout(patience).map_err(broken)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
        let mut line = serde_json::to_string(request).map_err(|error| ClientError::Broken(error.to_string()))?;
        line.push('\n');
        stream.write_all(line.as_bytes()).map_err(broken)?;
        Ok(Answers {
            lines: BufReader::new(stream),
            ended: false,
        })
    }

    /// The latest boot of a system or MAC address: [`Answer::Machine`], its events, and with `follow` [`Answer::Past`] and what comes,
    /// until the iterator is dropped.
    ///
    /// # Errors
    /// [`ClientError`] when the daemon cannot be asked; later ones come out of the iterator.
    pub fn trace(&self, of: &str, follow: bool) -> Result<Answers, ClientError> {
        let request = Request::Trace {
            trace: of.to_owned(),
            follow,
        };
        self.ask(&request, if follow { None } else { Some(PATIENCE) })
    }

    /// How the machines that are under way are seen to stand.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn status(&self) -> Result<Vec<Seen>, ClientError> {
        let mut all = Vec::new();
        for answer in self.ask(&Request::Status { status: Empty {} }, Some(PATIENCE))? {
            if let Answer::Seen(seen) = answer? {
                all.push(seen);
            }
        }
        Ok(all)
    }

    /// Says that a sync was asked for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn synced(&self) -> Result<(), ClientError> {
        for answer in self.ask(&Request::Synced { synced: Empty {} }, Some(PATIENCE))? {
            answer?;
        }
        Ok(())
    }

    /// Other DHCP servers that the daemon heard, each with its latest event.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn rivals(&self) -> Result<Vec<Event>, ClientError> {
        let mut all = Vec::new();
        for answer in self.ask(&Request::Status { status: Empty {} }, Some(PATIENCE))? {
            if let Answer::Event(event) = answer? {
                all.push(*event);
            }
        }
        Ok(all)
    }

    /// True once the daemon serves `version` of the inventory, false when it does not within `wait`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn live(&self, version: u64, wait: Duration) -> Result<bool, ClientError> {
        let request = Request::Live {
            live: version,
            wait: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        let patience = wait.saturating_add(PATIENCE);
        for answer in self.ask(&request, Some(patience))? {
            if let Answer::Live(is) = answer? {
                return Ok(is);
            }
        }
        Err(ClientError::Broken("it said nothing".to_owned()))
    }

    /// Claims the arming of a guest whose installer is about to start, and says what starts it.
    ///
    /// # Errors
    /// [`ClientError`]; refused where it is not armed, or may not be started again.
    pub fn launch(
        &self,
        system: &Name,
        mac: Mac,
        server: Ipv4Addr,
        behind: Option<Ipv4Addr>,
    ) -> Result<Launching, ClientError> {
        let request = Request::Launch {
            launch: system.clone(),
            mac,
            server,
            behind,
        };
        for answer in self.ask(&request, Some(PATIENCE))? {
            if let Answer::Launching(launching) = answer? {
                return Ok(*launching);
            }
        }
        Err(ClientError::Broken("it said nothing".to_owned()))
    }

    /// The bytes of a kernel or an initrd, at most `most` of them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn media(&self, media: &MediaFile, most: u64) -> Result<Vec<u8>, ClientError> {
        let request = Request::Media { media: media.clone() };
        let mut answers = self.ask(&request, Some(PATIENCE))?;
        let size = match answers.next() {
            Some(Ok(Answer::Bytes(size))) => size,
            Some(Ok(_)) | None => return Err(ClientError::Broken("it did not say how long the file is".to_owned())),
            Some(Err(error)) => return Err(error),
        };
        if size > most {
            return Err(ClientError::Broken(format!(
                "{} of distro {} has {size} bytes, and no kernel or initrd is longer than {most}",
                media.path, media.distro
            )));
        }
        let mut bytes = Vec::new();
        let read = answers.lines.by_ref().take(size).read_to_end(&mut bytes);
        match read {
            Ok(read) if u64::try_from(read).ok() == Some(size) => Ok(bytes),
            Ok(read) => Err(ClientError::Broken(format!("{read} of {size} bytes came"))),
            Err(error) => Err(ClientError::Broken(error.to_string())),
        }
    }

    /// How the installation of an arming stands: at once, or within `wait` as soon as it stands unlike what is known.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn standing(
        &self,
        system: &Name,
        arm: &ArmId,
        unlike: Option<Standing>,
        wait: Duration,
    ) -> Result<Standing, ClientError> {
        let request = Request::Standing {
            standing: system.clone(),
            arm: arm.clone(),
            unlike,
            wait: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        for answer in self.ask(&request, Some(wait.saturating_add(PATIENCE)))? {
            if let Answer::Standing(standing) = answer? {
                return Ok(standing);
            }
        }
        Err(ClientError::Broken("it said nothing".to_owned()))
    }

    /// Tells what happened to a guest.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn tell(&self, system: &Name, news: Vec<News>) -> Result<(), ClientError> {
        let request = Request::Tell {
            tell: system.clone(),
            news,
        };
        for answer in self.ask(&request, Some(PATIENCE))? {
            answer?;
        }
        Ok(())
    }
}

/// The lines of an answer.
#[derive(Debug)]
pub struct Answers {
    lines: BufReader<UnixStream>,
    ended: bool,
}

impl Iterator for Answers {
    type Item = Result<Answer, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut line = String::new();
        let answer = match self.lines.read_line(&mut line) {
            Ok(0) => {
                self.ended = true;
                return None;
            }
            Ok(_) => match serde_json::from_str(&line) {
                Ok(Answer::Error(text)) => Err(ClientError::Refused(text)),
                Ok(answer) => Ok(answer),
                Err(error) => Err(ClientError::Broken(error.to_string())),
            },
            Err(error) => Err(ClientError::Broken(error.to_string())),
        };
        self.ended = answer.is_err();
        Some(answer)
    }
}
