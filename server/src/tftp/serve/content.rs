//! From a request to bytes that can be sent: asks `boot::decide` and opens what it chose.
//!
//! The decision's effects wait until the peer has acknowledged something, its options or the first block: neither a forged request nor a
//! size probe may claim an installation, or hold one. Until then nothing of a script with effects leaves but comments.
//!
//! Answer files never travel by TFTP: whoever holds their token can speak HTTP.
#![expect(clippy::disallowed_methods, reason = "IO: opens loaders and files of trees")]

use super::Shared;
use crate::boot::{self, Answer, Ask, Decision, Effect, Script, When, paths};
use crate::distro::tree::{self, TreeFile};
use crate::event::{Event, What};
use crate::model::{Mac, Name};
use crate::ports::NotDurable;
use crate::tftp::packet::FileName;
use crate::tftp::transfer::Want;
use bytes::Bytes;
use nix::errno::Errno;
use rustix::io::{ReadWriteFlags, preadv2};
use std::fs::{File, Metadata};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Bytes of a block where no option says otherwise (RFC 1350).
const FIRST_BLOCK: usize = 512;

/// Who asks, for events.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) address: Ipv4Addr,
    pub(super) mac: Option<Mac>,
    pub(super) system: Option<Name>,
    /// What is asked for, fit for a log and without tokens.
    pub(super) file: String,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Text(Bytes),
    File(Arc<TreeFile>),
}

/// What must happen before, and when, the first byte leaves to a peer that has proved its address.
#[derive(Debug)]
pub(super) struct Pending {
    before: Vec<Effect>,
    after: Vec<Effect>,
    script: Option<What>,
}

/// What a request comes to.
#[derive(Debug)]
pub(super) enum Opened {
    /// These bytes.
    Found {
        content: Content,
        size: u64,
        pending: Pending,
    },
    /// Error 1.
    NotFound(String),
    /// No answer, for now.
    Silence(String),
}

impl Shared {
    /// Records what happened to `asker`.
    pub(super) fn emit(&self, asker: &Asker, what: What) {
        self.events.emit(Event {
            at: self.worlds.world().now,
            mac: asker.mac,
            system: asker.system.clone(),
            peer: Some(IpAddr::V4(asker.address)),
            what,
        });
    }
}

/// Decides and opens.
pub(super) async fn open(shared: &Arc<Shared>, address: Ipv4Addr, local: Ipv4Addr, name: &FileName) -> (Asker, Opened) {
    let nobody = Asker {
        address,
        mac: None,
        system: None,
        file: paths::redact_text(&name.to_string()),
    };
    let Some(text) = name.as_str().map(str::to_owned) else {
        return (nobody, Opened::NotFound("the name is not UTF-8".to_owned()));
    };
    let parsed = paths::parse(&text);
    let asker = Asker {
        file: match &parsed.ask {
            Ask::AnswerFile { file, .. } => format!("answer file {}", paths::shown(file)),
            Ask::Report { .. } => "a report".to_owned(),
            _ => nobody.file,
        },
        ..nobody
    };
    if matches!(parsed.ask, Ask::AnswerFile { .. } | Ask::Report { .. }) {
        return (
            asker,
            Opened::NotFound("answer files and reports travel by HTTP".to_owned()),
        );
    }
    let worlds = Arc::clone(&shared.worlds);
    let decided = tokio::task::spawn_blocking(move || {
        let neighbour = worlds.neighbour(address);
        let world = worlds.world();
        let facts = boot::recognise(&world, parsed.mac, address, local, neighbour);
        let mac = facts.mac;
        let system = mac
            .and_then(|mac| world.inventory.system_by_mac(mac))
            .map(|system| system.name.clone());
        let decision = boot::decide(&world, &boot::Request { facts, ask: parsed.ask });
        let opened = realise(&decision);
        (mac, system, decision, opened)
    })
    .await;
    let (mac, system, decision, opened) = match decided {
        Ok(decided) => decided,
        Err(error) => return (asker, Opened::Silence(format!("the decision died: {error}"))),
    };
    let asker = Asker { mac, system, ..asker };
    let opened = match opened {
        Ok((content, size)) => {
            let pending = Pending::of(decision);
            Opened::Found { content, size, pending }
        }
        // Reasons quote what was asked for.
        Err(Unopened::NotFound(why)) => Opened::NotFound(paths::redact_text(&why)),
        Err(Unopened::Silence(why)) => Opened::Silence(paths::redact_text(&why)),
    };
    (asker, opened)
}

impl Pending {
    fn of(decision: Decision) -> Self {
        let rule = decision.trace.verdict().map_or("", |rule| &rule.name).to_owned();
        let (before, after) = decision.effects.into_iter().partition(is_before);
        let script = match decision.answer {
            Answer::Script(script) => Some(match *script {
                Script::Launch(launch) => (launch.dialect, format!("install {}", launch.profile)),
                Script::Image(boot) => (boot.dialect, format!("image {}", boot.image)),
                Script::Local { dialect, .. } => (dialect, "local boot".to_owned()),
                Script::Menu(menu) => (menu.dialect, "menu".to_owned()),
            }),
            _ => None,
        };
        let script = script.map(|(dialect, gives)| What::Script {
            dialect: dialect.as_str().to_owned(),
            gives,
            rule,
        });
        Self { before, after, script }
    }

    /// Returns when all that must be durable is.
    pub(super) async fn hold(self, shared: &Shared, asker: &Asker) -> Result<(), NotDurable> {
        if !self.before.is_empty() {
            let overtaken = || NotDurable("the machine was disarmed meanwhile".to_owned());
            // A reader may take its time between the request and its first ACK.
            if !boot::still_stands(&shared.worlds.world(), &self.before) {
                return Err(overtaken());
            }
            let opens = self.before.clone();
            shared.effects.before(self.before).await?;
            if !boot::still_stands(&shared.worlds.world(), &opens) {
                return Err(overtaken());
            }
        }
        if !self.after.is_empty() {
            shared.effects.after(self.after);
        }
        if let Some(script) = self.script {
            shared.emit(asker, script);
        }
        Ok(())
    }
}

const fn is_before(effect: &Effect) -> bool {
    matches!(effect, Effect::Install { when: When::Before, .. })
}

/// Puts comment lines behind the first line, more than one block of them. A request without options is answered with the first block at
/// once, though its address may be forged: so that block has nothing of worth, and the rest goes to who has acknowledged it.
fn spread(text: &mut String) {
    let first = text.find('\n').map_or(text.len(), |at| at.saturating_add(1));
    let mut comments = String::new();
    while comments.len() <= FIRST_BLOCK {
        comments.push_str("# The rest follows once this block is acknowledged.\n");
    }
    text.insert_str(first, &comments);
}

enum Unopened {
    NotFound(String),
    Silence(String),
}

/// Opens what was chosen.
fn realise(decision: &Decision) -> Result<(Content, u64), Unopened> {
    let not_found = |error: io::Error| match error.raw_os_error().map(Errno::from_raw) {
        // The file may well be there. Said to be missing, it would not be asked for again.
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EIO) => Unopened::Silence(error.to_string()),
        _ => Unopened::NotFound(error.to_string()),
    };
    let file = match &decision.answer {
        Answer::Script(script) => {
            let mut text = crate::render::script(script);
            if decision.effects.iter().any(is_before) {
                spread(&mut text);
            }
            let text = Bytes::from(text);
            let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
            return Ok((Content::Text(text), size));
        }
        Answer::Loader(asset) => File::open(&asset.path)
            .and_then(|file| Ok((file.metadata()?, file)))
            .and_then(|(metadata, file)| regular(file, metadata))
            .map_err(not_found)?,
        Answer::TreeFile {
            root,
            iso,
            overlay,
            path,
            ..
        } => match (tree::Place {
            root,
            iso: *iso,
            overlay: overlay.as_deref(),
        })
        .fetch(path)
        .map_err(not_found)?
        {
            tree::Opened::File(file) => file,
            tree::Opened::Folder => return Err(Unopened::NotFound("it is not a file".to_owned())),
        },
        Answer::Silence => return Err(Unopened::Silence(decision.trace.to_string())),
        Answer::NotFound => return Err(Unopened::NotFound(decision.trace.to_string())),
        Answer::BootFile(_)
        | Answer::AnswerFile(_)
        | Answer::Accepted
        | Answer::Text(_)
        | Answer::Elsewhere(_)
        | Answer::Public { .. } => {
            return Err(Unopened::NotFound("not served by TFTP".to_owned()));
        }
    };
    let size = file.size();
    Ok((Content::File(Arc::new(file)), size))
}

fn regular(file: File, metadata: Metadata) -> io::Result<TreeFile> {
    if metadata.is_file() {
        Ok(TreeFile::Plain(file, metadata))
    } else {
        Err(io::Error::other("it is not a file"))
    }
}

impl Content {
    /// The piece, if it is in memory: the text of a script, or what the kernel has cached of a file. Never waits for a disk.
    pub(super) fn piece_at_once(&self, want: Want) -> Option<Result<Bytes, String>> {
        match self {
            Self::Text(text) => {
                let from = usize::try_from(want.offset).unwrap_or(usize::MAX);
                let range = from.min(text.len())..from.saturating_add(want.length).min(text.len());
                Some(Ok(text.slice(range)))
            }
            Self::File(file) => {
                let (run, at) = file.run(want.offset)?;
                if at.length < u64::try_from(want.length).unwrap_or(u64::MAX) {
                    return None;
                }
                let mut piece = vec![0; want.length];
                let mut parts = [IoSliceMut::new(&mut piece)];
                // Fewer bytes may be the end of the cache as well as of the file.
                match preadv2(run, &mut parts, at.offset, ReadWriteFlags::NOWAIT) {
                    Ok(length) if length == want.length => Some(unchanged(file).map(|()| Bytes::from(piece))),
                    _ => None,
                }
            }
        }
    }

    /// Reads a piece, on one of the few threads that do so.
    pub(super) async fn piece(self, shared: Arc<Shared>, want: Want) -> Result<Bytes, String> {
        let file = match &self {
            Self::File(file) => Arc::clone(file),
            Self::Text(_) => return self.piece_at_once(want).unwrap_or_else(|| Ok(Bytes::new())),
        };
        let permit = Arc::clone(&shared.readers).acquire_owned().await;
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; want.length];
            let filled = file.fill(&mut piece, want.offset).map_err(|error| error.to_string())?;
            unchanged(&file)?;
            piece.truncate(filled);
            drop(permit);
            Ok(Bytes::from(piece))
        });
        read.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// Refuses what came of a file that was written to since it was opened, or of an image that was: half of the old and half of the new boots nothing.
fn unchanged(file: &TreeFile) -> Result<(), String> {
    file.unchanged().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => "it was written to while it was sent; replace files by renaming".to_owned(),
        _ => error.to_string(),
    })
}
