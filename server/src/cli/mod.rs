//! What admins type: one file per noun, one definition of every option ([`args`]), one printer, one end.
//!
//! Works with the daemon up or down. Never prints but through [`mod@print`], never decides what [`crate::inventory::edit`] or
//! [`crate::boot::decide`] decide.

mod absent;
pub mod args;
mod arm;
mod assign;
mod check;
mod configuration;
mod desk;
mod document;
pub mod exit;
mod explain;
mod guest;
mod host;
mod import_tree;
mod keep;
mod link;
pub mod man;
mod migrate;
mod object;
mod overview;
mod power;
mod preview;
pub mod print;
mod serve;
mod service;
mod setting;
pub mod settings;
mod signature;
mod status;
mod sync;
mod template;
mod trace;
mod user;
mod validate;
mod wild;

use args::{
    BootCommand, Cli, Command, ConfigCommand, MigrateCommand, ProfileCommand, SettingCommand, SignatureCommand,
    StateCommand, SystemCommand,
};

use crate::model::{Kind, Power};
use clap::{CommandFactory as _, Parser as _};
use desk::Desk;
use exit::{Ended, Failure};
use print::Printer;
use std::ffi::OsString;
use std::process::ExitCode;

/// Parses the command line, runs it, and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => exit::end(run(cli)),
        Err(error) => {
            if let Some(failure) = absent::refusal(&error) {
                return exit::end(Err(failure));
            }
            // Help and version are data, with exit code 0; everything else is an error. A reader that went away is no failure.
            drop(error.print());
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
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
        Command::Serve(options) => serve::run(&options, settings::load(&global)?, printer),
        other => at_desk(other, &Desk::new(settings::load(&global)?, printer)),
    }
}

/// Commands that work on the state.
fn at_desk(command: Command, desk: &Desk) -> Result<Ended, Failure> {
    match command {
        Command::Check => check::run(desk),
        Command::Import(options) => import_tree::run(&options, desk),
        Command::Distro(command) => object::run(command, desk),
        Command::Profile(ProfileCommand::Object(command)) => object::run(command, desk),
        Command::Profile(ProfileCommand::GetAutoinstall(name)) => {
            preview::get_autoinstall(Kind::Profile, name.get(), desk)
        }
        Command::System(SystemCommand::Object(command)) => object::run(command, desk),
        Command::System(SystemCommand::GetAutoinstall(name)) => {
            preview::get_autoinstall(Kind::System, name.get(), desk)
        }
        Command::System(SystemCommand::Arm(options)) => arm::arm(&options, desk),
        Command::System(SystemCommand::Disarm(name)) => arm::disarm(name.get(), desk),
        Command::System(SystemCommand::Poweron(name)) => power::run(Power::On, name.get(), desk),
        Command::System(SystemCommand::Poweroff(name)) => power::run(Power::Off, name.get(), desk),
        Command::System(SystemCommand::Reboot(name)) => power::run(Power::Reboot, name.get(), desk),
        Command::System(SystemCommand::Powerstatus(name)) => power::run(Power::Status, name.get(), desk),
        Command::Repo(command) => object::run(command, desk),
        Command::Menu(command) => object::run(command, desk),
        Command::Image(command) => object::run(command, desk),
        Command::List => overview::list(desk),
        Command::Report(which) => overview::report(which.get(), desk),
        Command::Find(options) => overview::find(&options, desk),
        Command::Sync(options) => sync::run(&options, desk),
        Command::Setting(SettingCommand::Report(which)) => setting::report(which.get(), desk),
        Command::Setting(SettingCommand::Edit(options)) => setting::edit(&options),
        Command::Guest(command) => guest::run(command, desk),
        Command::Template(command) => template::run(&command, desk),
        Command::ValidateAutoinstalls => validate::run(desk),
        Command::Signature(SignatureCommand::Report(which)) => signature::report(&which, desk),
        Command::Status(options) => status::run(&options, desk),
        Command::Boot(BootCommand::Explain(options)) => explain::run(&options, desk),
        Command::Boot(BootCommand::Trace(options)) => trace::run(&options, desk),
        Command::Apply(options) => document::apply(&options, desk),
        Command::Export(options) => document::export(&options, desk),
        Command::Migrate(MigrateCommand::Cobbler(options)) => migrate::cobbler(&options, desk),
        Command::User(command) => user::run(&command, desk),
        Command::Backup(options) => keep::backup(&options, desk),
        Command::Restore(options) => keep::restore(&options, desk),
        Command::State(StateCommand::Migrate) => keep::migrate(desk),
        // Handled before: they need no state.
        Command::Serve(_)
        | Command::Config(_)
        | Command::InstallService(_)
        | Command::Man(_)
        | Command::Completions(_)
        | Command::Version => Ok(Ended::Well),
    }
}

/// The whole command line as clap sees it, for help, man page and completions.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}
