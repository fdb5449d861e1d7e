//! `guest`: thin callers of the guests' supervisor, which alone speaks with libvirt. Only what the inventory and the configuration say
//! is judged here; the rest of it asks and prints.

mod command_line;
mod console;
mod create;
mod follow;
mod image;
mod own;
mod reach;
mod show;

use super::args::guest::{GuestCommand, OneGuest};
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::object;
use crate::guest::protocol::{Act, Reply, Request, Which};
use crate::guest::supervise::{Client, ClientError};
use crate::inventory::Change;
use crate::model::{Kind, Name};
use nix::unistd::gethostname;
use serde_json::json;

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::said(error, "")
    }
}

pub(super) fn run(command: GuestCommand, desk: &Desk) -> Result<Ended, Failure> {
    if !cfg!(feature = "libvirt") && !needs_no_libvirt(&command) {
        return Err(Failure::said(
            "this build of cordwainer has no libvirt, so it makes no guests",
            "build it with the feature libvirt, which is on by default (packages libvirt-dev and pkg-config); --print-xml and --dry-run work without",
        ));
    }
    match command {
        GuestCommand::Create(options) => create::create(&options, desk),
        GuestCommand::Clone(options) => create::clone(&options, desk),
        GuestCommand::Reinstall(options) => create::reinstall(&options, desk),
        GuestCommand::List(options) => show::list(options.connect, desk),
        GuestCommand::Show(guest) => show::show(&guest, desk),
        GuestCommand::Start(guest) => act(&guest, Act::Start, desk),
        GuestCommand::Shutdown(options) => {
            let request = Request::Shutdown {
                which: which(&options.guest)?,
                seconds: options.timeout.0.as_secs(),
                force: options.force,
            };
            done(&request, desk)
        }
        GuestCommand::Destroy(guest) => act(&guest, Act::Destroy, desk),
        GuestCommand::Reboot(guest) => act(&guest, Act::Reboot, desk),
        GuestCommand::Suspend(guest) => act(&guest, Act::Suspend, desk),
        GuestCommand::Resume(guest) => act(&guest, Act::Resume, desk),
        GuestCommand::Save(guest) => act(&guest, Act::Save, desk),
        GuestCommand::Restore(guest) => act(&guest, Act::Restore, desk),
        GuestCommand::Autostart(options) => {
            let wish = if options.disable {
                Act::NoAutostart
            } else {
                Act::Autostart
            };
            act(&options.guest, wish, desk)
        }
        GuestCommand::Migrate(options) => {
            let which = which(&options.guest)?;
            let request = Request::Migrate {
                which,
                to: options.to,
                copy_storage: options.copy_storage,
            };
            done(&request, desk)
        }
        GuestCommand::Console(options) => console::attach(&client(desk)?, which(&options.guest)?, options.force, desk),
        GuestCommand::Log(options) => follow::log(which(&options.guest)?, options.follow, desk),
        GuestCommand::Wait(options) => follow::wait(&client(desk)?, which(&options.guest)?, options.timeout, desk),
        GuestCommand::Delete(options) => delete(&options.guest, options.disks, options.system, desk),
        GuestCommand::Adopt(options) => {
            let system = options.system.as_deref().map(object::named).transpose()?;
            if let Some(system) = &system {
                let inventory = desk.inventory_about(Kind::System, system.as_str())?;
                if inventory.system(system.as_str()).is_none() {
                    return Err(object::unknown(&inventory, Kind::System, system.as_str()));
                }
            }
            let request = Request::Adopt {
                which: which(&options.guest)?,
                system,
                owner: owner(),
            };
            done(&request, desk)
        }
        GuestCommand::Check(at) => show::check(at.connect, desk),
        GuestCommand::Supervise(options) => own::supervise(&options, desk),
    }
}

/// True for what only writes XML.
fn needs_no_libvirt(command: &GuestCommand) -> bool {
    let after = match command {
        GuestCommand::Create(options) => &options.after,
        GuestCommand::Clone(options) => &options.after,
        _ => return false,
    };
    after.print_xml.is_some() || after.dry_run
}

/// The way to the supervisor, which must run.
fn client(desk: &Desk) -> Result<Client, Failure> {
    Ok(Client::connect(&desk.settings.config.state)?)
}

/// Which guest is meant.
fn which(guest: &OneGuest) -> Result<Which, Failure> {
    Ok(Which {
        guest: object::named(guest.get())?,
        connect: guest.connect.clone(),
    })
}

/// What this server calls itself in a guest's metadata.
fn owner() -> String {
    gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

fn act(guest: &OneGuest, act: Act, desk: &Desk) -> Result<Ended, Failure> {
    let which = which(guest)?;
    done(&Request::Act { which, act }, desk)
}

/// Asks for something that is done, and prints that it was.
fn done(request: &Request, desk: &Desk) -> Result<Ended, Failure> {
    for reply in client(desk)?.ask(request)? {
        tell(&reply?, desk)?;
    }
    Ok(Ended::Well)
}

/// Prints one line of an answer.
fn tell(reply: &Reply, desk: &Desk) -> Result<(), Failure> {
    if desk.printer.json {
        return desk.printer.json_line(reply);
    }
    match reply {
        Reply::Step { text } => {
            desk.printer.note(text);
            Ok(())
        }
        Reply::Serial { line } => desk.printer.line(line),
        Reply::Did { text } => desk.printer.line(text),
        Reply::Away { connect, why } => {
            desk.printer.note(format!("warning   {connect} does not answer: {why}"));
            Ok(())
        }
        // Each has its own printer, where it can come.
        Reply::Host(_)
        | Reply::Created(_)
        | Reply::Guest(_)
        | Reply::Ended { .. }
        | Reply::Console
        | Reply::Finding { .. }
        | Reply::Power { .. }
        | Reply::Refused { .. } => Ok(()),
    }
}

fn delete(guest: &OneGuest, disks: bool, system: bool, desk: &Desk) -> Result<Ended, Failure> {
    let which = which(guest)?;
    let known = match client(desk)?.ask_one(&Request::Show(which.clone()))? {
        Reply::Guest(guest) => guest.system,
        _ => None,
    };
    done(&Request::Delete { which, disks }, desk)?;
    let Some(name) = known else {
        return Ok(Ended::Well);
    };
    let inventory = desk.inventory_about(Kind::System, name.as_str())?;
    if inventory.system(name.as_str()).is_none() {
        return Ok(Ended::Well);
    }
    if system {
        return desk.change(vec![Change::Remove {
            kind: Kind::System,
            name,
            recursive: false,
        }]);
    }
    // An arming without its guest would wait for any machine that claims the address.
    if inventory.arm(name.as_str()).is_some() {
        desk.apply(vec![Change::Disarm { system: name.clone() }])?;
    }
    desk.printer.note(stays(&name));
    Ok(Ended::Well)
}

fn stays(name: &Name) -> String {
    format!("note      system {name} stays in the inventory; cordwainer system remove {name} takes it out")
}

/// A refusal of the guests' pure half, as the command's end.
fn refused(error: impl std::fmt::Display) -> Failure {
    Failure::said(error, "")
}

/// What was made, for programs.
fn armed_line(armed: &super::arm::Armed) -> serde_json::Value {
    json!({"reply": "armed", "armed": armed.json(), "stored": armed.applied.json()})
}
