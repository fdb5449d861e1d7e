//! A lossy bridge: a process between two taps that carries frames as [`super::weather`] says, and counts them.
//! It must never change a frame, and never decide about one: that is the weather's part.
//!
//! It is this very test program, started again in the server's namespace: a test process never changes its own namespace.
//! The kernel finishes checksums and cuts large segments before it hands a frame to a tap, so each frame is as it would be on a cable.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::child::Child;
use super::weather::{Counted, Line, Weather};

const TAPS: &str = "CORDWAINER_LAB_LOSSY_TAPS";
const WEATHER: &str = "CORDWAINER_LAB_LOSSY_WEATHER";
const SEED: &str = "CORDWAINER_LAB_LOSSY_SEED";
const COUNTS: &str = "CORDWAINER_LAB_LOSSY_COUNTS";
const PATIENCE: Duration = Duration::from_secs(30);

/// The weather of a link: what machines send, and what comes to them.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    pub up: Weather,
    pub down: Weather,
    pub seed: u64,
}

impl Conditions {
    /// The same in both directions. `CORDWAINER_SEED` overrides the seed.
    #[must_use]
    pub fn both(weather: Weather, seed: u64) -> Self {
        Self {
            up: weather,
            down: weather,
            seed: seed_of_this_run(seed),
        }
    }
}

/// The seed that `CORDWAINER_SEED` names, else `usual`.
#[must_use]
pub fn seed_of_this_run(usual: u64) -> u64 {
    let given = std::env::var("CORDWAINER_SEED").ok();
    given.map_or(usual, |given| given.parse().expect("CORDWAINER_SEED is a number"))
}

/// What went over the bridge so far: from the machines up to the server, and down to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    pub up: Counted,
    pub down: Counted,
}

/// The running bridge. Dropping it ends it.
pub struct Lossy {
    _carrier: Child,
    folder: tempfile::TempDir,
}

impl Lossy {
    /// Carries frames between two taps. `command` starts this program in the namespace that has them.
    pub fn start(
        command: impl FnOnce(&str) -> std::process::Command,
        near: &str,
        far: &str,
        conditions: Conditions,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let mut command = command(program.to_str().unwrap());
        command.args(["--exact", "lab::lossy::carry_frames", "--ignored", "--nocapture"]);
        command.env(TAPS, format!("{near},{far}"));
        command.env(
            WEATHER,
            format!("{} {}", conditions.up.to_word(), conditions.down.to_word()),
        );
        command.env(SEED, conditions.seed.to_string());
        command.env(COUNTS, folder.path().join("counts"));
        println!("weather: {conditions:?}");
        let mut carrier = Child::start("lossy bridge", &mut command);
        carrier.wait_for_line("carrying frames", PATIENCE);
        Self {
            _carrier: carrier,
            folder,
        }
    }

    /// What it has carried so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let mut stream = UnixStream::connect(self.folder.path().join("counts")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

/// The two ends in the order of [`TAPS`]: the server's and the machines'.
struct Bridge {
    ends: [File; 2],
    /// What came in at each end.
    lines: [Line; 2],
    began: Instant,
}

impl Bridge {
    fn carry(&mut self, counts: &UnixListener) {
        let mut frame = [0; 65_536];
        loop {
            for (from, to) in [(0, 1), (1, 0)] {
                while let Some(frame) = self.lines[from].arrived(self.began.elapsed()) {
                    // An end that is being taken down is the end of the test.
                    let _down = self.ends[to].write(&frame);
                }
            }
            self.wait(counts);
            for end in [0, 1] {
                loop {
                    match self.ends[end].read(&mut frame) {
                        Ok(length) => {
                            self.lines[end].take(&frame[..length], self.began.elapsed());
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("the tap cannot be read: {error}"),
                    }
                }
            }
            while let Ok((mut asker, _)) = counts.accept() {
                let traffic = Traffic {
                    up: self.lines[1].counted(),
                    down: self.lines[0].counted(),
                };
                let _gone = asker.write_all(serde_json::to_string(&traffic).unwrap().as_bytes());
            }
        }
    }

    /// Until there is a frame, somebody who asks, or a frame that has arrived.
    fn wait(&self, counts: &UnixListener) {
        let due = self.lines.iter().filter_map(Line::next_due).min();
        let left = due.map(|due| due.saturating_sub(self.began.elapsed()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up: a wait of 0 ms would turn the last fraction into a busy loop.
            let millis = left.as_micros().div_ceil(1000);
            PollTimeout::try_from(u32::try_from(millis).unwrap()).unwrap()
        });
        let mut sources = [self.ends[0].as_fd(), self.ends[1].as_fd(), counts.as_fd()]
            .map(|source| PollFd::new(source, PollFlags::POLLIN));
        poll(&mut sources, timeout).unwrap();
    }
}

/// The user's end of a tap that exists.
#[expect(unsafe_code, reason = "a tap is had by an ioctl that no crate of this project wraps")]
fn tap(name: &str) -> File {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .unwrap();
    // SAFETY: all bytes zero is a value of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len());
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request outlives the call, and TUNSETIFF reads and writes nothing beyond it.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(result, 0, "{name}: {}", std::io::Error::last_os_error());
    file
}

#[test]
#[ignore = "the lossy bridge of other tests, which start it with its environment"]
fn carry_frames() {
    let Ok(taps) = std::env::var(TAPS) else {
        return;
    };
    let (near, far) = taps.split_once(',').unwrap();
    let words = std::env::var(WEATHER).unwrap();
    let (up, down) = words.split_once(' ').unwrap();
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let line = |word: &str, seed| Line::new(Weather::from_word(word).unwrap(), seed);
    let counts = UnixListener::bind(std::env::var(COUNTS).unwrap()).unwrap();
    counts.set_nonblocking(true).unwrap();
    let mut bridge = Bridge {
        ends: [tap(near), tap(far)],
        lines: [line(down, seed), line(up, !seed)],
        began: Instant::now(),
    };
    println!("carrying frames between {near} and {far}, seed {seed}");
    bridge.carry(&counts);
}
