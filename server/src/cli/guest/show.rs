//! `guest list`, `show` and `check`: what the supervisor knows, printed.

use super::super::args::guest::OneGuest;
use super::super::desk::Desk;
use super::super::exit::{Ended, Failure};
use super::super::print::table;
use super::{client, tell, which};
use crate::guest::flow::Phase;
use crate::guest::protocol::{Guest, Reply, Request};
use serde_json::json;

/// The installation in words; the reason of a failure stands in `show`.
fn installation(guest: &Guest) -> String {
    match &guest.installation {
        Some(phase) => phase.as_str().to_owned(),
        None => "not made here".to_owned(),
    }
}

pub(super) fn list(connect: Option<String>, desk: &Desk) -> Result<Ended, Failure> {
    let mut guests = Vec::new();
    let mut away = Vec::new();
    for reply in client(desk)?.ask(&Request::List { connect })? {
        match reply? {
            Reply::Guest(guest) => guests.push(*guest),
            Reply::Away { connect, why } => away.push((connect, why)),
            other => tell(&other, desk)?,
        }
    }
    if desk.printer.json {
        let away: Vec<_> = away
            .iter()
            .map(|(connect, why)| json!({"connect": connect, "why": why}))
            .collect();
        desk.printer.json(&json!({"guests": guests, "away": away}))?;
    } else if guests.is_empty() {
        desk.printer
            .note("no guest yet; make one: cordwainer guest create NAME --profile PROFILE");
    } else {
        let mut rows = vec![
            ["guest", "state", "installation", "profile", "autostart", "host"]
                .map(ToOwned::to_owned)
                .to_vec(),
        ];
        rows.extend(guests.iter().map(|guest| {
            vec![
                guest.name.clone(),
                guest.life.as_str().to_owned(),
                installation(guest),
                guest
                    .profile
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), ToString::to_string),
                if guest.autostart { "yes" } else { "no" }.to_owned(),
                guest.connect.clone(),
            ]
        }));
        desk.printer.data(&table(&rows))?;
    }
    if !desk.printer.json {
        for (connect, why) in &away {
            desk.printer.note(format!("warning   {connect} does not answer: {why}"));
        }
    }
    Ok(if away.is_empty() { Ended::Well } else { Ended::No })
}

pub(super) fn show(guest: &OneGuest, desk: &Desk) -> Result<Ended, Failure> {
    let which = which(guest)?;
    match client(desk)?.ask_one(&Request::Show(which))? {
        Reply::Guest(guest) => {
            desk.printer.either(&*guest, &text(&guest))?;
            Ok(Ended::Well)
        }
        other => {
            tell(&other, desk)?;
            Ok(Ended::No)
        }
    }
}

/// Everything about one guest, a line each.
pub(super) fn text(guest: &Guest) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |label: &str, text: String| rows.push(vec![label.to_owned(), text]);
    row("guest", format!("{} on {}", guest.name, guest.connect));
    row("state", guest.life.as_str().to_owned());
    let why = match &guest.installation {
        Some(Phase::Failed { reason } | Phase::Refused { reason }) => format!(": {reason}"),
        _ => String::new(),
    };
    row("installed", format!("{}{why}", installation(guest)));
    row("uuid", guest.uuid.to_string());
    if let Some(system) = &guest.system {
        let profile = guest
            .profile
            .as_ref()
            .map_or_else(String::new, |profile| format!(", profile {profile}"));
        row("system", format!("{system}{profile}"));
    }
    let starts = if guest.autostart {
        "starts with its host"
    } else {
        "does not start with its host"
    };
    row(
        "made of",
        format!("{} MiB of memory, {} processors, {starts}", guest.memory, guest.vcpus),
    );
    for disk in &guest.disks {
        let backing = disk
            .backing
            .as_ref()
            .map_or_else(String::new, |backing| format!(", stands on {backing}"));
        row("disk", format!("{} {}{backing}", disk.target, disk.source));
    }
    for mac in &guest.macs {
        row("network", mac.to_string());
    }
    if let Some(log) = &guest.serial_log {
        row("serial", log.display().to_string());
    }
    table(&rows)
}

pub(super) fn check(connect: String, desk: &Desk) -> Result<Ended, Failure> {
    let mut findings = Vec::new();
    for reply in client(desk)?.ask(&Request::Check { connect })? {
        match reply? {
            Reply::Finding { good, text, remedy } => {
                // A boot takes its time; who waits sees each finding when it is made.
                if !desk.printer.json {
                    let word = if good { "good" } else { "bad" };
                    desk.printer.line(format!("{word:5} {text}"))?;
                    if let Some(remedy) = &remedy {
                        desk.printer.line(format!("      remedy  {remedy}"))?;
                    }
                }
                findings.push((good, json!({"good": good, "text": text, "remedy": remedy})));
            }
            other => tell(&other, desk)?,
        }
    }
    let bad = findings.iter().filter(|(good, _)| !good).count();
    if desk.printer.json {
        let all: Vec<_> = findings.iter().map(|(_, finding)| finding).collect();
        desk.printer.json(&json!({"findings": all, "problems": bad}))?;
    } else {
        let well = findings.len().saturating_sub(bad);
        desk.printer.line(format!("{bad} problems, {well} checks passed"))?;
    }
    Ok(if bad == 0 { Ended::Well } else { Ended::No })
}
