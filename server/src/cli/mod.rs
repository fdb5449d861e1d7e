//! What admins type: one file per noun, one definition of every option ([`args`]), one printer, one end.
//!
//! Works with the daemon up or down. Never prints but through [`print`], never decides what [`crate::inventory::edit`] or
//! [`crate::boot::decide`] decide.

pub mod args;
mod assign;
mod configuration;
pub mod exit;
pub mod man;
pub mod print;
mod service;
pub mod settings;

use args::{Cli, Command, ConfigCommand};
use clap::{CommandFactory as _, Parser as _};
use exit::{Ended, Failure};
use print::Printer;
use std::ffi::OsString;
use std::process::ExitCode;

/// Parses the command line, runs it, and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => exit::end(run(cli)),
        Err(error) => {
            // Help and version are data; everything else is an error. A reader that went away is no failure.
            let printed = error.print();
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            ExitCode::from(if printed.is_err() { 0 } else { code })
        }
    }
}

fn run(cli: Cli) -> Result<Ended, Failure> {
    let Cli { global, command } = cli;
    let printer = Printer::new(&global);
    let Some(command) = command else {
        printer.data(args::FIRST_STEPS)?;
        return Ok(Ended::Well);
    };
    match command {
        Command::Config(ConfigCommand::Check) => configuration::check(&global, printer),
        Command::Config(ConfigCommand::Show) => configuration::show(&global, printer),
        Command::InstallService(options) => service::install(&options, printer),
        Command::Man(options) => man::run(&options, printer),
        Command::Completions(options) => {
            printer.data(&man::completions(options.shell))?;
            Ok(Ended::Well)
        }
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let text = format!("cordwainer {version}\n");
            printer.either(&serde_json::json!({"name": "cordwainer", "version": version}), &text)?;
            Ok(Ended::Well)
        }
        _ => Err(Failure::said("not built", "")),
    }
}

/// The whole command line as clap sees it, for help, man page and completions.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}
