//! `user`: who may log in to Cobbler's XML-RPC. A password is read from standard input, never from the command line, where everyone on the
//! host could read it.

use super::args::{UserAdd, UserCommand};
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::host;
use crate::model::{Role, Secret};
use crate::store::Users;
use serde_json::{Value, json};

/// Longest name.
const NAME: usize = 64;
/// Shortest password.
const SHORTEST: usize = 8;

pub(super) fn run(command: &UserCommand, desk: &Desk) -> Result<Ended, Failure> {
    match command {
        UserCommand::Add(options) => add(options, desk),
        UserCommand::List => list(desk),
        UserCommand::Passwd(name) => {
            let name = named(name.get())?;
            let password = password(desk)?;
            let changed = Users::open(&desk.folder()?)?.change(name, &password, desk.now)?;
            done(desk, "changed", name, changed)
        }
        UserCommand::Remove(name) => {
            let removed = Users::open(&desk.folder()?)?.remove(name.get())?;
            done(desk, "removed", name.get(), removed)
        }
    }
}

fn named(text: &str) -> Result<&str, Failure> {
    let fits = !text.is_empty()
        && text.len() <= NAME
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
    if fits {
        return Ok(text);
    }
    Err(Failure::usage(
        format!(
            "`{}` is no name of a user",
            text.escape_debug().take(NAME).collect::<String>()
        ),
        "use letters, digits, dots, dashes, underscores and @, at most 64",
    ))
}

fn password(desk: &Desk) -> Result<Secret<String>, Failure> {
    if host::is_terminal() {
        desk.printer.note("password (it will be shown), then Enter:");
    }
    let line = host::read_line().map_err(|error| Failure::said(format!("no password was read: {error}"), ""))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.len() < SHORTEST {
        return Err(Failure::usage(
            format!("the password has fewer than {SHORTEST} characters"),
            "give a longer one on standard input: cordwainer user add NAME < FILE",
        ));
    }
    Ok(Secret::new(password.to_owned()))
}

fn add(options: &UserAdd, desk: &Desk) -> Result<Ended, Failure> {
    let name = named(options.name.get())?;
    let role: Role = options
        .role
        .parse()
        .map_err(|error: String| Failure::usage(error, ""))?;
    let password = password(desk)?;
    if !Users::open(&desk.folder()?)?.add(name, role, &password, desk.now)? {
        return Err(Failure::said(
            format!("user `{name}` exists"),
            format!("cordwainer user passwd {name}, or choose another name"),
        ));
    }
    done(desk, "added", name, true)
}

fn done(desk: &Desk, what: &str, name: &str, did: bool) -> Result<Ended, Failure> {
    if !did {
        return Err(Failure::said(
            format!("there is no user `{}`", name.escape_debug()),
            "cordwainer user list names them",
        ));
    }
    desk.printer.either(
        &json!({"changed": [{"action": what, "kind": "user", "name": name}]}),
        &format!("{what:9} user {name}\n"),
    )?;
    Ok(Ended::Well)
}

fn list(desk: &Desk) -> Result<Ended, Failure> {
    let users = if desk.has_state()? {
        Users::open(&desk.folder()?)?.list()?
    } else {
        Vec::new()
    };
    let rows: Vec<Value> = users
        .iter()
        .map(|(name, role)| json!({"name": name, "role": role}))
        .collect();
    let text: String = users.iter().map(|(name, role)| format!("{name}  {role}\n")).collect();
    desk.printer.either(&rows, &text)?;
    if users.is_empty() && !desk.printer.json {
        desk.printer
            .note("no user yet, so nobody can log in; make one: cordwainer user add NAME");
    }
    Ok(Ended::Well)
}
