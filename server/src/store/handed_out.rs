//! `handed-out`: for which armings the installer was handed out, and which of them may never get it again. The second witness beside
//! live.db: when that is lost, damaged or rolled back, an arming of which more is written here than there wipes nothing.
//!
//! Lines of text with a checksum each, appended and synced before the reply that hands anything out leaves. Never read while serving,
//! never a secret in it (an arming's id is none).

#![expect(clippy::disallowed_methods, reason = "keeps one file of the state folder")]

use super::StoreError;
use super::database::sum;
use super::folder::{Folder, write_into};
use crate::install::{ArmId, Installation};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Name of the file.
pub(super) const FILE: &str = "handed-out";
/// Of more armings than this, a start keeps only those that are still in the inventory.
const MOST: usize = 65_536;

/// How far an arming's installation went, as far as wiping is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Far {
    /// The installer was handed out.
    Launched,
    /// It must not be handed out again unasked: partitioning began, or it ended.
    Closed,
}

impl Far {
    pub(super) const fn of(installation: &Installation) -> Self {
        if installation.state.is_open() && !installation.partitioned {
            Self::Launched
        } else {
            Self::Closed
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Launched => "launched",
            Self::Closed => "closed",
        }
    }
}

/// What the file was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Whole.
    Sound,
    /// There was none.
    Missing,
    /// Some of its lines cannot be read.
    Damaged,
}

/// The file, read; after [`HandedOut::settle`] it can be written.
#[derive(Debug)]
pub(super) struct HandedOut {
    path: PathBuf,
    file: Option<File>,
    known: BTreeMap<ArmId, Far>,
    /// Where the next line goes.
    end: u64,
    /// What lies past the end is cut off first.
    torn: bool,
    /// It must be written anew.
    stale: bool,
}

impl HandedOut {
    /// Reads the file, and changes nothing.
    pub(super) fn read(folder: &Folder) -> Result<(Self, Found), StoreError> {
        let _owner = folder.enter();
        let path = folder.file(FILE);
        let there = folder.has(FILE)?;
        let bytes = if there {
            fs::read(&path).map_err(StoreError::io(&path, "read it"))?
        } else {
            Vec::new()
        };
        let mut read = Self {
            path,
            file: None,
            known: BTreeMap::new(),
            end: 0,
            torn: false,
            stale: !there,
        };
        let (mut lines, mut bad) = (0_usize, false);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            lines = lines.saturating_add(1);
            let ended = line.ends_with(b"\n");
            match std::str::from_utf8(line).ok().map(str::trim_end).and_then(parse) {
                Some((arm, far)) => read.learn(arm, far),
                None => bad |= ended,
            }
            if ended {
                read.end = read.end.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
            } else {
                // A line that a crash cut off says what had not left yet; one that lacks nothing but its end is believed.
                read.torn = true;
                read.stale = true;
            }
        }
        read.stale |= bad || lines > MOST;
        let found = match (there, bad) {
            (false, _) => Found::Missing,
            (true, true) => Found::Damaged,
            (true, false) => Found::Sound,
        };
        Ok((read, found))
    }

    /// Makes the file sound, with what could be read of it, and opens it for writing. Of very many armings only those stay that `kept`
    /// still knows.
    pub(super) fn settle(&mut self, folder: &Folder, kept: impl Fn(&ArmId) -> bool) -> Result<(), StoreError> {
        let _owner = folder.enter();
        if self.stale {
            if self.known.len() > MOST {
                self.known.retain(|arm, _| kept(arm));
            }
            let text: String = self.known.iter().map(|(arm, far)| line(arm, *far)).collect();
            folder.replace(FILE, |temporary| write_into(temporary, text.as_bytes()))?;
            self.end = u64::try_from(text.len()).unwrap_or(u64::MAX);
            (self.stale, self.torn) = (false, false);
        }
        let file = OpenOptions::new()
            .write(true)
            .open(&self.path)
            .map_err(StoreError::io(&self.path, "open it"))?;
        self.file = Some(file);
        Ok(())
    }

    fn learn(&mut self, arm: ArmId, far: Far) {
        let known = self.known.entry(arm).or_insert(far);
        *known = (*known).max(far);
    }

    /// What is known of an arming.
    pub(super) fn far(&self, arm: &ArmId) -> Option<Far> {
        self.known.get(arm).copied()
    }

    /// Takes down what is new in these installations. On disk when it returns; costs nothing when nothing is new.
    pub(super) fn note<'a>(&mut self, all: impl IntoIterator<Item = &'a Installation>) -> Result<(), StoreError> {
        let mut new: BTreeMap<&ArmId, Far> = BTreeMap::new();
        for installation in all {
            let far = Far::of(installation);
            if self.far(&installation.arm).is_none_or(|known| known < far) {
                let entry = new.entry(&installation.arm).or_insert(far);
                *entry = (*entry).max(far);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let text: String = new.iter().map(|(arm, far)| line(arm, *far)).collect();
        let tried = self.append(text.as_bytes());
        self.torn = tried.is_err();
        tried.map_err(StoreError::io(&self.path, "write to it"))?;
        self.end = self.end.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        let new: Vec<_> = new.into_iter().map(|(arm, far)| (arm.clone(), far)).collect();
        for (arm, far) in new {
            self.learn(arm, far);
        }
        Ok(())
    }

    fn append(&self, text: &[u8]) -> std::io::Result<()> {
        let file = self.file.as_ref().ok_or(std::io::ErrorKind::NotConnected)?;
        if self.torn {
            file.set_len(self.end)?;
        }
        file.write_all_at(text, self.end)?;
        file.sync_data()
    }
}

fn line(arm: &ArmId, far: Far) -> String {
    format!("{} {} {:08x}\n", arm.0, far.as_str(), check(&arm.0, far))
}

fn check(arm: &str, far: Far) -> u32 {
    sum(&[arm.as_bytes(), far.as_str().as_bytes()])
}

fn parse(line: &str) -> Option<(ArmId, Far)> {
    let mut words = line.split(' ');
    let (arm, far, stored) = (words.next()?, words.next()?, words.next()?);
    let far = [Far::Launched, Far::Closed]
        .into_iter()
        .find(|known| known.as_str() == far)?;
    let sound = u32::from_str_radix(stored, 16).ok()? == check(arm, far) && words.next().is_none();
    sound.then(|| (ArmId(arm.to_owned()), far))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::State;
    use crate::model::Timestamp;

    fn installation(arm: &str, state: State, partitioned: bool) -> Installation {
        Installation {
            arm: ArmId(arm.into()),
            system: "web1".parse().unwrap(),
            state,
            mac: None,
            bound: None,
            behind: false,
            stage: None,
            partitioned,
            attempts: 1,
            claimed_at: Timestamp(0),
            heard_at: Timestamp(0),
            reason: None,
        }
    }

    fn open(folder: &Folder) -> (HandedOut, Found) {
        let (mut out, found) = HandedOut::read(folder).unwrap();
        out.settle(folder, |_| true).unwrap();
        (out, found)
    }

    fn state() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("state")).unwrap();
        (dir, folder)
    }

    #[test]
    fn what_was_noted_is_known_to_the_next_process_and_only_grows() {
        let (_dir, folder) = state();
        let (mut out, found) = open(&folder);
        assert_eq!(found, Found::Missing);
        let launched = installation("a1", State::Claimed, false);
        out.note([&launched]).unwrap();
        let size = fs::metadata(folder.file(FILE)).unwrap().len();
        out.note([&launched]).unwrap();
        assert_eq!(fs::metadata(folder.file(FILE)).unwrap().len(), size);
        out.note([
            &installation("a1", State::Installing, true),
            &installation("a2", State::Claimed, false),
        ])
        .unwrap();
        out.note([&launched]).unwrap();
        let (again, found) = open(&folder);
        assert_eq!(found, Found::Sound);
        assert_eq!(again.far(&ArmId("a1".into())), Some(Far::Closed));
        assert_eq!(again.far(&ArmId("a2".into())), Some(Far::Launched));
        assert_eq!(again.far(&ArmId("a3".into())), None);
    }

    #[test]
    fn a_torn_end_is_cut_off_and_a_damaged_line_is_told() {
        let (_dir, folder) = state();
        let (mut out, _) = open(&folder);
        out.note([&installation("a1", State::Held, false)]).unwrap();
        let path = folder.file(FILE);
        let sound = fs::read(&path).unwrap();
        for cut in 0..sound.len() {
            let mut torn = sound.clone();
            torn.extend_from_slice(&sound[..cut]);
            fs::write(&path, &torn).unwrap();
            let (mut out, found) = open(&folder);
            assert_eq!(found, Found::Sound, "{cut}");
            out.note([&installation("a2", State::Claimed, false)]).unwrap();
            let (again, found) = open(&folder);
            assert_eq!((found, again.known.len()), (Found::Sound, 2), "{cut}");
            assert_eq!(again.far(&ArmId("a1".into())), Some(Far::Closed));
        }
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let (again, found) = open(&folder);
            if at == sound.len() - 1 {
                // Only the line's end is gone: what it says is whole.
                assert!(again.far(&ArmId("a1".into())).is_some() || found == Found::Damaged);
            } else {
                assert_eq!((found, again.known.len()), (Found::Damaged, 0), "{at}");
            }
        }
    }
}
