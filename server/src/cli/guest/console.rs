//! `guest console`: the terminal on one side, a guest's serial console on the other. Ctrl-] ends it; the guest does not notice.

use super::super::desk::Desk;
use super::super::exit::{Ended, Failure};
use crate::guest::protocol::{Reply, Request, Which};
use crate::guest::supervise::Client;
use nix::sys::termios::{self, SetArg, Termios};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::Shutdown;

/// Ctrl-], as in telnet and virsh.
const ESCAPE: u8 = 0x1d;

/// A terminal set to raw, and back when this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn new() -> Self {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Self(None);
        }
        let Ok(before) = termios::tcgetattr(&stdin) else {
            return Self(None);
        };
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        let set = termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw);
        Self(set.is_ok().then_some(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nobody is left to tell when that fails.
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

pub(super) fn attach(client: &Client, which: Which, force: bool, desk: &Desk) -> Result<Ended, Failure> {
    let name = which.guest.clone();
    let mut replies = client.ask(&Request::Console { which, force })?;
    match replies.next() {
        Some(Ok(Reply::Console)) => {}
        Some(Err(error)) => return Err(error.into()),
        _ => return Err(Failure::said(format!("guest {name} has no console"), "")),
    }
    desk.printer
        .note(format!("console of {name}; Ctrl-] ends it, and the guest goes on"));
    let failed = |error: io::Error| Failure::said(format!("the console broke off: {error}"), "");
    let (first, mut socket) = replies.into_console();
    let mut typed = socket.try_clone().map_err(failed)?;
    let raw = Raw::new();
    desk.printer.bytes(&first)?;
    let typist = std::thread::Builder::new().name("typed".to_owned());
    typist
        .spawn(move || {
            let mut keys = [0_u8; 1024];
            while let Ok(count) = io::stdin().lock().read(&mut keys) {
                let keys = keys.get(..count).unwrap_or_default();
                let before = keys.split(|key| *key == ESCAPE).next().unwrap_or_default();
                let ends = count == 0 || before.len() < keys.len();
                if typed.write_all(before).is_err() || ends {
                    break;
                }
            }
            // Wakes the reader: the supervisor's side ends with ours.
            drop(typed.shutdown(Shutdown::Both));
        })
        .map_err(failed)?;
    let mut bytes = [0_u8; 4096];
    let end = loop {
        match socket.read(&mut bytes) {
            Ok(0) => break Ok(()),
            Ok(count) => desk.printer.bytes(bytes.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(failed(error)),
        }
    };
    drop(raw);
    end?;
    desk.printer.note("");
    Ok(Ended::Well)
}
