//! A guest's serial console: read while it is installed, and handed to an admin who asks for it.
#![allow(clippy::disallowed_methods, reason = "IO: libvirt")]

use super::{DriverError, Hypervisor};
use crate::guest::spec::Uuid;
use std::collections::VecDeque;
use virt::stream::Stream;
use virt::sys;

/// Longest line that is kept, in characters.
const LONGEST: usize = 255;
/// Lines that are kept of a console.
const KEPT: usize = 400;

/// A serial console, open. libvirt gives it to one at a time.
#[derive(Clone)]
pub struct Console(Stream);

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
        let stream = Stream::new(&self.connect, 0).map_err(refuse)?;
        let flags = if force { sys::VIR_DOMAIN_CONSOLE_FORCE } else { 0 };
        domain.open_console(None, &stream, flags).map_err(refuse)?;
        Ok(Console(stream))
    }
}

impl Console {
    /// Waits for what the guest writes. 0 at the end: it stopped, or somebody took the console.
    pub fn read(&self, buffer: &mut [u8]) -> usize {
        self.0
            .recv(buffer)
            .ok()
            .and_then(|read| usize::try_from(read).ok())
            .unwrap_or(0)
    }

    /// Types. False when the console is gone.
    #[must_use]
    pub fn write(&self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.0.send(rest).ok().and_then(|sent| usize::try_from(sent).ok()) {
                Some(sent) if sent > 0 => rest = rest.get(sent..).unwrap_or_default(),
                _ => return false,
            }
        }
        true
    }

    /// Gives the console back; whoever reads it gets its end.
    pub fn close(self) {
        drop(self.0.abort());
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
                    if self.line.len() < LONGEST {
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
        let line = std::mem::take(&mut self.line);
        let line = line.trim_end().to_owned();
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
        let unfinished = (!self.line.trim().is_empty()).then(|| self.line.clone());
        self.lines.iter().cloned().chain(unfinished).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_reads_like_text() {
        let mut tail = Tail::default();
        assert_eq!(tail.take(b"\x1bc\x1b[2J\x1b[01;37Hhe"), Vec::<String>::new());
        assert_eq!(tail.take(b"\x1b[1mllo\r\n\r\nyou\x07\nth"), ["hello", "you"]);
        assert_eq!(tail.lines(), ["hello", "you", "th"]);
        assert_eq!(tail.take(&[b'x'; 1000]), Vec::<String>::new());
        assert_eq!(tail.take(b"\n"), [format!("th{}", "x".repeat(253))]);
        for number in 0..1000 {
            tail.take(format!("{number}\n").as_bytes());
        }
        assert_eq!(
            (tail.lines().len(), tail.lines().last().unwrap().as_str()),
            (KEPT, "999")
        );
    }
}
