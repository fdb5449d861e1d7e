//! A guest's serial console: read while it is installed, and handed to an admin who asks for it.
#![allow(
    clippy::disallowed_methods,
    reason = "IO: libvirt, pauses between two looks at a console"
)]

use super::events::{self, Received};
use super::{DriverError, Hypervisor};
use crate::guest::spec::Uuid;
use crate::model::redact_text;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use virt::stream::Stream;
use virt::sys;

/// Longest line that is read, and longest that is kept, in characters: tokens are taken out before a line is cut, for half a token is
/// not known for one.
const READ: usize = 4096;
const LONGEST: usize = 255;
/// Lines that are kept of a console.
const KEPT: usize = 400;

/// How long nothing may be there before it is looked again: soon after something was, later while nothing is.
const SOON: Duration = Duration::from_millis(2);
const LATER: Duration = Duration::from_millis(40);

/// A serial console, open. libvirt gives it to one at a time.
///
/// It never waits inside libvirt: before 10.3 (CVE-2024-4418) its client leaves a pointer to the stack of a thread that waits for a stream
/// which another thread ends, and uses it later. What the guest writes is brought by libvirt's event thread; here it is only looked whether
/// something is there.
#[derive(Clone)]
pub struct Console {
    stream: Stream,
    closed: Arc<AtomicBool>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console")
    }
}

impl Hypervisor {
    /// Opens the serial console of a running guest; `force` takes it from whoever has it.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn console(&self, uuid: &Uuid, force: bool) -> Result<Console, DriverError> {
        let domain = self.by_uuid(uuid)?;
        let what = format!("open the console of guest {}", self.named(&domain));
        let refuse = |error: virt::error::Error| self.error(&what, &error);
        let stream = Stream::new(&self.connect, sys::VIR_STREAM_NONBLOCK).map_err(refuse)?;
        let flags = if force { sys::VIR_DOMAIN_CONSOLE_FORCE } else { 0 };
        domain.open_console(None, &stream, flags).map_err(refuse)?;
        Ok(Console {
            stream,
            closed: Arc::default(),
        })
    }
}

impl Console {
    /// Gives `take` what the guest writes, until its end or until `take` says false: the guest stopped, somebody took the console, or it
    /// was given back.
    pub fn follow(&self, mut take: impl FnMut(&[u8]) -> bool) {
        let mut buffer = vec![0; 4096];
        let mut pause = SOON;
        while !self.closed.load(Ordering::SeqCst) {
            match events::receive(&self.stream, &mut buffer) {
                Received::Some(count) => {
                    if !buffer.get(..count).is_some_and(&mut take) {
                        return;
                    }
                    pause = SOON;
                }
                Received::NothingYet => {
                    std::thread::sleep(pause);
                    pause = pause.saturating_mul(2).min(LATER);
                }
                Received::End => return,
            }
        }
    }

    /// Types. False when the console is gone.
    #[must_use]
    pub fn write(&self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.closed.load(Ordering::SeqCst) {
                return false;
            }
            match events::send(&self.stream, rest) {
                Received::Some(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Received::NothingYet => std::thread::sleep(LATER),
                Received::End => return false,
            }
        }
        true
    }

    /// Gives the console back; whoever reads it gets its end.
    pub fn close(self) {
        self.closed.store(true, Ordering::SeqCst);
        drop(self.stream.abort());
    }
}

/// The last lines of a console, as a person reads them.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    line: String,
    escape: Escape,
}

/// Where in a control sequence the text stands (ECMA-48).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Sequence,
}

impl Tail {
    /// Takes what the guest wrote; gives the lines that were completed by it.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for byte in bytes {
            self.escape = match (self.escape, byte) {
                (Escape::None, 0x1b) => Escape::Begun,
                (Escape::Begun, b'[') => Escape::Sequence,
                // Such a sequence ends with a byte from @ to ~.
                (Escape::Sequence, byte) if !(0x40..=0x7e).contains(byte) => Escape::Sequence,
                (Escape::Begun | Escape::Sequence, _) => Escape::None,
                (Escape::None, b'\n' | b'\r') => {
                    whole.extend(self.end_line());
                    Escape::None
                }
                (Escape::None, b' '..=b'~') => {
                    if self.line.len() < READ {
                        self.line.push(char::from(*byte));
                    }
                    Escape::None
                }
                (Escape::None, _) => Escape::None,
            };
        }
        whole
    }

    fn end_line(&mut self) -> Option<String> {
        let line = shown(&std::mem::take(&mut self.line));
        if line.is_empty() {
            return None;
        }
        if self.lines.len() >= KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line.clone());
        Some(line)
    }

    /// The lines that are kept, and the one under way.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let unfinished = Some(shown(&self.line)).filter(|line| !line.is_empty());
        self.lines.iter().cloned().chain(unfinished).collect()
    }
}

/// A line as it may be shown: the kernel prints its command line, and in it stands the installation's token.
fn shown(line: &str) -> String {
    let mut line = line.to_owned();
    if line.len() >= READ {
        // What was cut off may have been the rest of a token.
        while line.pop().is_some_and(|c| c.is_ascii_alphanumeric()) {}
    }
    let text: String = redact_text(&line).chars().take(LONGEST).collect();
    text.trim_end().to_owned()
}

/// True for the kernel's own messages, of which a boot has hundreds. Those that say why it stops are not among them.
#[must_use]
pub fn is_kernel_chatter(line: &str) -> bool {
    let stamped = line.strip_prefix('[').is_some_and(|rest| {
        rest.split_once(']').is_some_and(|(stamp, _)| {
            stamp.contains('.')
                && stamp
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || matches!(byte, b' ' | b'.'))
        })
    });
    let grave = [
        "panic",
        "Oops",
        "BUG:",
        "Out of memory",
        "I/O error",
        "Restarting",
        "Power down",
        "Unable to mount",
    ];
    stamped && !grave.iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let token = "3xfzwzmwfxxdqaaacvil3wwbbxwws3xtey5ylg7ggyvrawcm";
        let mut tail = Tail::default();
        for before in [0, 200, 230, 250, READ - 20, READ - 40] {
            let line = format!(
                "{}lab.answer=http://10.77.0.1/i/{token}/answer",
                "- ".repeat(before / 2)
            );
            tail.take(line.as_bytes());
            let unfinished = tail.lines().join(" ");
            tail.take(b"\n");
            for shown in [unfinished, tail.lines().join(" ")] {
                assert!(
                    !shown.contains("3xfzwzmw") && !shown.contains("acvil3ww"),
                    "{before}: {shown}"
                );
            }
        }
    }

    #[test]
    fn what_says_why_a_kernel_stops_is_no_chatter() {
        for (line, chatter) in [
            ("[    0.016053] x86/cpu: User Mode Instruction Prevention", true),
            ("[   13.524439] reboot: Restarting system", false),
            (
                "[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs",
                false,
            ),
            ("lab-installer: stage packages", false),
            ("[OK] started", false),
        ] {
            assert_eq!(is_kernel_chatter(line), chatter, "{line}");
        }
    }

    #[test]
    fn a_console_reads_like_text() {
        let mut tail = Tail::default();
        assert_eq!(tail.take(b"\x1bc\x1b[2J\x1b[01;37Hhe"), Vec::<String>::new());
        assert_eq!(tail.take(b"\x1b[1mllo\r\n\r\nyou\x07\nth"), ["hello", "you"]);
        assert_eq!(tail.lines(), ["hello", "you", "th"]);
        let long = "x y ".repeat(250);
        assert_eq!(tail.take(long.as_bytes()), Vec::<String>::new());
        let cut: String = format!("th{long}").chars().take(255).collect();
        assert_eq!(tail.take(b"\n"), [cut.trim_end()]);
        for number in 0..1000 {
            tail.take(format!("{number}\n").as_bytes());
        }
        assert_eq!(
            (tail.lines().len(), tail.lines().last().unwrap().as_str()),
            (KEPT, "999")
        );
    }
}
