//! Files and folders on their way out: opened below their root, judged, and handed from the page cache to the socket by the kernel.
//!
//! sendfile(2) copies nothing into this process, whatever the file's size and place: a file on disk is one run of bytes, one inside an
//! ISO image as many as it has extents. Bytes that are not in memory yet are fetched on the blocking pool, so that a slow disk delays
//! who asked for them and nobody else.
#![allow(
    clippy::disallowed_methods,
    reason = "IO: opens files and sends them; what may wait for a disk runs on the blocking pool"
)]

use crate::distro::tree::{self, TreeFile};
use crate::http::listing::Entry;
use crate::http::range::FileFacts;
use crate::http::{FileRef, Source};
use nix::fcntl::OFlag;
use rustix::fs::sendfile;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

/// Most bytes handed over before others have their turn on this thread.
const SPAN: u64 = 1024 * 1024;

/// What a path turned out to be.
pub(super) enum Opened {
    /// A file, open.
    File(Arc<TreeFile>, FileFacts),
    /// A folder, listed.
    Folder(Vec<Entry>),
}

/// Opens what `file` names. Blocks.
pub(super) fn open_source(file: &FileRef) -> io::Result<Opened> {
    match &file.source {
        // Loaders are often links to elsewhere, and the admin's own choice. O_NONBLOCK: a FIFO must not wait for its writer.
        Source::Asset(asset) => {
            let opened = OpenOptions::new()
                .read(true)
                .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
                .open(&asset.path)?;
            let meta = opened.metadata()?;
            if !meta.is_file() {
                return Err(io::Error::other("it is no regular file"));
            }
            Ok(with_facts(TreeFile::Plain(opened, meta)))
        }
        Source::Tree {
            root,
            iso,
            overlay,
            path,
        } => {
            let place = tree::Place {
                root,
                iso: *iso,
                overlay: overlay.as_deref(),
            };
            if let tree::Opened::File(opened) = place.fetch(path)? {
                return Ok(with_facts(opened));
            }
            let entry = |listed: tree::Listed| Entry {
                name: listed.name,
                folder: listed.is_folder,
                size: listed.size,
            };
            let listed = place.entries(path)?;
            Ok(Opened::Folder(listed.into_iter().map(entry).collect()))
        }
    }
}

fn with_facts(file: TreeFile) -> Opened {
    let (modified, modified_nanos) = file.modified();
    let facts = FileFacts {
        size: file.size(),
        modified,
        modified_nanos,
        inode: file.number(),
    };
    Opened::File(Arc::new(file), facts)
}

/// A part of a file that is being sent.
pub(super) struct Part {
    file: Arc<TreeFile>,
    /// The next byte.
    at: u64,
    /// The byte behind the last.
    end: u64,
}

impl Part {
    /// The bytes `at..end` of `file`.
    pub(super) const fn new(file: Arc<TreeFile>, at: u64, end: u64) -> Self {
        Self { file, at, end }
    }

    /// Bytes that have not left yet.
    pub(super) const fn left(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// Hands the socket as much as it takes, at most [`SPAN`], and tells how much that was, even where it ended in an error.
    pub(super) async fn push(&mut self, stream: &Arc<TcpStream>) -> (u64, io::Result<()>) {
        let span = Span {
            file: self.file.clone(),
            at: self.at,
            most: self.left().min(SPAN),
        };
        let (pushed, result) = if span.in_memory() {
            span.push(stream)
        } else {
            let stream = stream.clone();
            let pushing = spawn_blocking(move || span.push(&stream)).await;
            pushing.unwrap_or_else(|panicked| (0, Err(io::Error::other(panicked))))
        };
        self.at = self.at.saturating_add(pushed);
        (pushed, result)
    }
}

/// The next bytes of a part.
struct Span {
    file: Arc<TreeFile>,
    at: u64,
    most: u64,
}

impl Span {
    /// The run of bytes that is next.
    fn run(&self) -> io::Result<(&File, u64, u64)> {
        let (file, run) = self.file.run(self.at).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((file, run.offset, run.length.min(self.most)))
    }

    /// True when its first and its last byte can be read without waiting for a disk. Read-ahead works in long runs, so the rest is hardly
    /// ever elsewhere; where the file system cannot tell, it is false.
    fn in_memory(&self) -> bool {
        let here = |file: &File, at: u64| {
            let mut byte = [0];
            preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT).is_ok()
        };
        self.run()
            .is_ok_and(|(file, at, length)| here(file, at) && here(file, at.saturating_add(length.saturating_sub(1))))
    }

    /// Blocks for the disk, never for the socket.
    fn push(&self, stream: &TcpStream) -> (u64, io::Result<()>) {
        let run = self.file.unchanged().and_then(|()| self.run());
        let (file, mut at, length) = match run {
            Ok(run) => run,
            Err(error) => return (0, Err(error)),
        };
        let begin = at;
        let end = at.saturating_add(length);
        let tried = stream.try_io(Interest::WRITABLE, || {
            // Until the socket says that it is full: only then does the kernel tell when it is not.
            while at < end {
                let most = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
                match sendfile(stream, file, Some(&mut at), most) {
                    Ok(0) => {
                        let why = "it became shorter while it was sent";
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
                    }
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        });
        let result = match tried {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            tried => tried,
        };
        (at.saturating_sub(begin), result)
    }
}
