//! `guest supervise`, and the supervisor that `guest create` starts for its own life where none runs.

use super::super::args::guest::Supervise;
use super::super::desk::Desk;
use super::super::exit::{Ended, Failure};
use super::super::{host, print};
use crate::event::log::{self, LogOptions};
use crate::guest::supervise::{self, Client, ClientError, Options, Supervisor};
use crate::store::clock;
use std::sync::Arc;

fn options(desk: &Desk, hosts: Vec<String>, root_only: bool) -> Options {
    Options {
        root_only,
        power: desk.settings.config.cobbler.power,
        state: desk.settings.config.state.clone(),
        now: Arc::new(clock::wall),
        hosts,
    }
}

/// Supervises until stopped.
pub(super) fn supervise(wish: &Supervise, desk: &Desk) -> Result<Ended, Failure> {
    // The socket and whatever else is made is for its own user and group, also where no unit says so.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let level = match (desk.printer.quiet, desk.printer.verbose) {
        (true, _) => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    let log = LogOptions {
        json: desk.printer.json,
        journal: host::journal_listens(),
        colour: print::errors_to_terminal(),
        filter: level.to_owned(),
    };
    log::init(&log).map_err(|error| Failure::said(error, ""))?;
    supervise::run(options(desk, wish.connect.clone(), wish.root_only)).map_err(|error| Failure::said(error, ""))?;
    Ok(Ended::Well)
}

/// The way to a supervisor, and the supervisor itself where it is ours: then it ends with this command.
pub(super) fn reach(desk: &Desk, connect: Option<&str>) -> Result<(Client, Option<Supervisor>), Failure> {
    let state = &desk.settings.config.state;
    match Client::connect(state) {
        Ok(client) => Ok((client, None)),
        Err(ClientError::NotRunning { .. }) => {
            let own = supervise::start(options(desk, connect.map(str::to_owned).into_iter().collect(), false))
                .map_err(|error| Failure::said(error, ""))?;
            desk.printer.note(
                "note      no supervisor of guests runs, so this command is one until the guest is installed; do not end it before.\n          \
                 systemctl enable --now cordwainer-guests lets it return at once",
            );
            Ok((Client::connect(state)?, Some(own)))
        }
        Err(error) => Err(error.into()),
    }
}
