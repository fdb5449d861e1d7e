//! `serve`: starts the log and the daemon.

use super::args::Serve;
use super::exit::{Ended, Failure};
use super::print::Printer;
use super::settings::{PLACE, Settings};
use super::{host, print};
use crate::daemon;
use crate::event::log::{self, LogOptions};

pub(super) fn run(options: &Serve, settings: Settings, printer: Printer) -> Result<Ended, Failure> {
    // Whatever the daemon makes in its state folder is for its own user, also where no unit says so.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let level = match (printer.quiet, printer.verbose) {
        (true, _) => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    let log = LogOptions {
        json: printer.json,
        journal: host::journal_listens(),
        colour: print::errors_to_terminal(),
        filter: level.to_owned(),
    };
    log::init(&log).map_err(|error| Failure::said(error, ""))?;
    match &settings.file {
        Some(file) => tracing::info!("configuration {}", file.display()),
        None => tracing::info!("there is no {PLACE}: proxyDHCP on the interface of the default route"),
    }
    let daemon_options = daemon::Options {
        own_this_subnet: options.i_own_this_subnet,
    };
    daemon::serve(settings.config, daemon_options).map_err(|error| Failure::said(error, ""))?;
    Ok(Ended::Well)
}
