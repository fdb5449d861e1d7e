//! Where a boot stands: over, going on, or stopped; and if it stopped, the step that is missing, the likely cause, the remedy.
//!
//! Pure. Every step that a boot goes through has one row of what should follow, how long that may take, and what its absence means.

use super::Machine;
use crate::event::{Event, What};
use crate::model::Timestamp;
use std::fmt;
use std::time::Duration;

/// Where a boot stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was ever heard.
    Nothing,
    /// It is over, in a sentence.
    Over(String),
    /// It goes on.
    GoingOn {
        /// How long nothing was heard.
        silent: Duration,
        /// What comes next.
        next: String,
    },
    /// It stopped.
    Stopped {
        /// What is missing, in a sentence.
        what: String,
        /// The step that should have come.
        next: String,
        /// The likely cause.
        likely: String,
        /// What to do.
        remedy: String,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => writeln!(f, "  nothing was heard of it"),
            Self::Over(how) => writeln!(f, "  {how}"),
            Self::GoingOn { silent, next } => {
                writeln!(f, "  now: nothing for {}.  Next expected: {next}.", span(*silent))
            }
            Self::Stopped {
                what,
                next,
                likely,
                remedy,
            } => {
                writeln!(f, "  stopped: {what}.")?;
                writeln!(f, "  Next expected: {next}.")?;
                writeln!(f, "  Likely: {likely}.")?;
                writeln!(f, "  Remedy: {remedy}.")
            }
        }
    }
}

/// `6 s`, `4 min`, `2 h`.
fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// How far a boot came.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reached<'a> {
    Nothing,
    Asked,
    Offered,
    Leased { file: Option<&'a str> },
    LoaderSent,
    Script,
    Kernel,
    Initrd,
    Answers,
    Stage(&'a str),
}

/// What each step waits for.
struct Wait {
    patience: u64,
    missing: &'static str,
    next: &'static str,
    likely: String,
    remedy: String,
}

pub(super) fn ending(events: &[Event], machine: &Machine, now: Timestamp) -> Ending {
    let Some(last) = events.last() else {
        return Ending::Nothing;
    };
    if let Some(over) = over_by(events).and_then(|what| over(what, machine)) {
        return over;
    }
    let silent = now.since(last.at);
    if let Some(stopped) = refused(events, machine) {
        return stopped;
    }
    let reached = reached(events);
    let wait = wait(&reached, events, machine);
    let since = match reached {
        // Firmware keeps asking, so silence is no measure.
        Reached::Offered => now.since(first_offer(events).unwrap_or(last.at)),
        _ => silent,
    };
    if since.as_secs() < wait.patience {
        return Ending::GoingOn {
            silent,
            next: wait.next.to_owned(),
        };
    }
    let mut what = format!("{} in {}", wait.missing, span(since));
    if reached == Reached::Offered {
        let offers = offers(events);
        let plural = if offers == 1 { "" } else { "s" };
        what.push_str(&format!(" ({offers} DISCOVER{plural} answered)"));
    }
    Ending::Stopped {
        what,
        next: wait.next.to_owned(),
        likely: wait.likely,
        remedy: wait.remedy,
    }
}

/// The event that ended the boot: the state's word, else the script that sends the machine to its disk. An installer that is handed
/// out after it begins anew.
fn over_by(events: &[Event]) -> Option<&What> {
    let since = events.rsplit(|event| matches!(&event.what, What::Script { .. } if !is_local(&event.what)));
    let attempt = since.into_iter().next().unwrap_or(&[]);
    let states = |event: &&Event| {
        matches!(
            event.what,
            What::Installed | What::ImageBooted | What::BootedFromDisk | What::Failed { .. } | What::Held { .. }
        )
    };
    let state = attempt.iter().rev().find(states);
    state
        .or_else(|| attempt.iter().rev().find(|event| is_local(&event.what)))
        .map(|event| &event.what)
}

fn is_local(what: &What) -> bool {
    matches!(what, What::Script { gives, .. } if gives.starts_with("local boot"))
}

/// The events after which a boot is over.
fn over(what: &What, machine: &Machine) -> Option<Ending> {
    let name = || {
        machine
            .system
            .as_ref()
            .map_or_else(|| "NAME".to_owned(), ToString::to_string)
    };
    match what {
        What::Installed => Some(Ending::Over(
            "installed: it boots from its disk from now on.".to_owned(),
        )),
        What::ImageBooted => Some(Ending::Over(
            "it booted its image once; what that does is not known here. It boots from its disk from now on."
                .to_owned(),
        )),
        What::BootedFromDisk => Some(Ending::Over("installed, and up from its own disk.".to_owned())),
        What::Script { gives, .. } if gives.starts_with("local boot") => {
            Some(Ending::Over(format!("it boots from its own disk ({gives}).")))
        }
        What::Failed { reason } => Some(Ending::Stopped {
            what: format!("the installation failed: {reason}"),
            next: "done".to_owned(),
            likely: "the lines above, and the installer's own console, say why".to_owned(),
            remedy: format!("mend that, then `cordwainer system arm {} --again`", name()),
        }),
        What::Held { reason } => Some(Ending::Stopped {
            what: format!("held: {reason}"),
            next: "an admin's decision".to_owned(),
            likely: "the installer did not report done, or the firmware boots from the network first".to_owned(),
            remedy: format!(
                "if it should be installed anew: `cordwainer system arm {} --again`; else set its disk first in the firmware",
                name()
            ),
        }),
        _ => None,
    }
}

/// A refusal or a fault of ours that is the last word so far.
fn refused(events: &[Event], machine: &Machine) -> Option<Ending> {
    let last = events.iter().rev().find(|event| {
        !matches!(
            event.what,
            What::DhcpReceived { .. } | What::HttpNotFound { .. } | What::TftpNotFound { .. }
        )
    });
    let stopped = |what: String, next: &str, likely: &str, remedy: String| {
        Some(Ending::Stopped {
            what,
            next: next.to_owned(),
            likely: likely.to_owned(),
            remedy,
        })
    };
    match &last?.what {
        What::DhcpIgnored { message, reason } => {
            let mac = events.iter().find_map(|event| event.mac);
            let remedy = match (&machine.system, mac) {
                (None, Some(mac)) => {
                    format!("if it should be served: `cordwainer system add --name NAME --profile PROFILE --mac-address {mac}`")
                }
                _ => "`cordwainer boot explain` names the rule; `cordwainer check` looks at the server".to_owned(),
            };
            stopped(format!("{message} was not answered"), "OFFER", reason, remedy)
        }
        What::PoolExhausted { subnet } => stopped(
            format!("no address is free in {subnet}"),
            "OFFER",
            "the pool is too small, or leases are too long",
            "enlarge the pool of that [[subnet]], or shorten its lease".to_owned(),
        ),
        What::AnswerRefused { cause } => stopped(
            "the answer file was refused".to_owned(),
            "answer file",
            cause,
            "if the machine is the right one: `cordwainer system arm NAME --again`; `cordwainer check` names the binding in force"
                .to_owned(),
        ),
        What::TemplateBroken { template, error } => stopped(
            "the answer file could not be rendered".to_owned(),
            "answer file",
            error,
            format!("mend {template}; `cordwainer system get-autoinstall --name NAME` shows the result"),
        ),
        What::AssetMissing { what, why } => stopped(
            format!("{what} is missing"),
            "that file",
            why,
            "`cordwainer check` names what is missing and where it comes from".to_owned(),
        ),
        _ => None,
    }
}

fn first_offer(events: &[Event]) -> Option<Timestamp> {
    let offer = |event: &&Event| matches!(&event.what, What::DhcpAnswered { message, .. } if message == "OFFER");
    events.iter().find(offer).map(|event| event.at)
}

fn offers(events: &[Event]) -> usize {
    let offer = |event: &&Event| matches!(&event.what, What::DhcpAnswered { message, .. } if message == "OFFER");
    events.iter().filter(offer).count()
}

fn reached(events: &[Event]) -> Reached<'_> {
    let mut reached = Reached::Nothing;
    for event in events {
        reached = match &event.what {
            What::DhcpReceived { message, .. } if message == "DISCOVER" && reached == Reached::Nothing => {
                Reached::Asked
            }
            What::DhcpAnswered { message, .. }
                if message == "OFFER" && matches!(reached, Reached::Asked | Reached::Nothing) =>
            {
                Reached::Offered
            }
            What::DhcpAnswered { message, file, .. } if message == "ACK" => match reached {
                Reached::Nothing | Reached::Asked | Reached::Offered | Reached::Leased { .. } | Reached::LoaderSent => {
                    Reached::Leased { file: file.as_deref() }
                }
                // The installer's own DHCP.
                later => later,
            },
            What::TftpSent { .. } => match reached {
                Reached::Script | Reached::Kernel | Reached::Initrd | Reached::Answers | Reached::Stage(_) => reached,
                _ => Reached::LoaderSent,
            },
            What::Script { .. } => Reached::Script,
            What::HttpSent { role, .. } => match (role.as_str(), reached) {
                ("loader", Reached::Asked | Reached::Offered | Reached::Leased { .. } | Reached::Nothing) => {
                    Reached::LoaderSent
                }
                ("kernel", _) => Reached::Kernel,
                ("initrd", _) => Reached::Initrd,
                (_, reached) => reached,
            },
            What::AnswerFile { .. } => match reached {
                Reached::Stage(_) => reached,
                _ => Reached::Answers,
            },
            // Kernel and initrd as stages say no more than their files do.
            What::Stage { stage, .. } if !matches!(stage.as_str(), "kernel" | "initrd" | "answers") => {
                Reached::Stage(stage)
            }
            _ => reached,
        };
    }
    reached
}

fn wait(reached: &Reached<'_>, events: &[Event], machine: &Machine) -> Wait {
    let row = |patience, missing, next, likely: &str, remedy: &str| Wait {
        patience,
        missing,
        next,
        likely: likely.to_owned(),
        remedy: remedy.to_owned(),
    };
    match reached {
        Reached::Nothing => row(
            300,
            "no DHCP request",
            "DISCOVER",
            "the machine is off, boots from its disk first, or is on another network",
            "put network boot first in its firmware, and look at its cable and VLAN",
        ),
        Reached::Asked => row(
            10,
            "no answer of ours",
            "OFFER",
            "the server was busy or just started",
            "wait for the next DISCOVER; if none is answered, `cordwainer check`",
        ),
        Reached::Offered => foreign(events),
        Reached::Leased { file: Some(file) } if file.starts_with("http") => row(
            60,
            "the script or loader was not fetched",
            "HTTP request for the boot file",
            "a firewall drops TCP to this server, or the machine has no route to it",
            "open the HTTP port of the server towards that network, and look at its router",
        ),
        Reached::Leased { file: Some(_) } => row(
            30,
            "the loader was not fetched",
            "TFTP request for the loader",
            "a firewall drops UDP 69 (or the answers, which come from another port), or another DHCP server's next-server won",
            "open UDP 69 and connection tracking for TFTP towards that network; `cordwainer check` looks for other DHCP servers",
        ),
        Reached::Leased { file: None } => row(
            u64::MAX,
            "nothing more",
            "nothing: it asked for an address only",
            "it is no network boot client",
            "none is needed",
        ),
        Reached::LoaderSent => row(
            60,
            "the loader was sent and no boot script was asked for",
            "boot script",
            "the loader does not run there: Secure Boot refuses it, or it has no driver for the network card",
            "turn Secure Boot off, or choose another loader with --boot-loaders",
        ),
        Reached::Script => row(
            60,
            "the boot script was sent and no kernel was fetched",
            "kernel",
            "the machine cannot reach this server by HTTP, or the kernel is missing",
            "open the HTTP port towards that network; `cordwainer check` looks at the files of the distro",
        ),
        Reached::Kernel => row(
            120,
            "the kernel was fetched and no initrd",
            "initrd",
            "the transfer broke off, or memory ran out",
            "look at the machine's console",
        ),
        Reached::Initrd => {
            let needs = machine.min_ram_mib.map_or_else(
                || "too little memory for the installer".to_owned(),
                |mib| format!("too little memory: the installer needs {mib} MiB"),
            );
            row(
                300,
                "kernel and initrd were fetched and no answer file",
                "answer file",
                &format!("{needs}; or the installer has no network (driver, DHCP, route)"),
                "give the machine more memory, and look at its console",
            )
        }
        Reached::Answers => row(
            900,
            "the answer file was fetched and no stage followed",
            "partitioning",
            "the installer waits at a question that the answer file does not answer",
            "look at the machine's console; `cordwainer system get-autoinstall --name NAME` shows what it was given",
        ),
        Reached::Stage(stage) => {
            let next = after(stage);
            row(
                1800,
                "the installer fell silent",
                next,
                "it waits at a question, or failed without saying so",
                "look at the machine's console",
            )
        }
    }
}

/// What follows a stage.
fn after(stage: &str) -> &'static str {
    match stage {
        "started" => "partitioning, then packages",
        "partitioning" => "packages, then done",
        "packages" => "bootloader, then done",
        "done" => "the installed system says that it is up",
        _ => "done",
    }
}

/// An offer that nobody took: another server won, or the firmware did not like it.
fn foreign(events: &[Event]) -> Wait {
    let seen = events.iter().rev().find_map(|event| match &event.what {
        What::DhcpForeignServer {
            server,
            offered,
            file,
            hardware,
        } => {
            let mut words = format!("another DHCP server won. {server}");
            if let Some(mac) = hardware {
                words.push_str(&format!(" ({mac})"));
            }
            match offered {
                Some(offered) => words.push_str(&format!(" offered {offered}")),
                None => words.push_str(" answered"),
            }
            match file {
                Some(file) => words.push_str(&format!(" with boot file {file}")),
                None => words.push_str(" without a boot file"),
            }
            words.push_str(&format!(" at {}", event.at.clock()));
            Some(words)
        }
        _ => None,
    });
    // A proxy offer carries no address: then another server gives it.
    let proxy = events.iter().any(|event| {
        matches!(&event.what, What::DhcpAnswered { message, address: None, file: Some(_), .. } if message == "OFFER")
    });
    let (next, likely, remedy) = match (proxy, seen) {
        (true, _) => (
            "the request for the boot file, after another server gave the address",
            "no DHCP server gives the machine an address, or a firewall drops UDP 67 and 4011".to_owned(),
            "look at the server that gives addresses there; open UDP 67 and 4011 to this one",
        ),
        (false, Some(seen)) => (
            "REQUEST",
            seen,
            "let that server leave this MAC alone, or run Cordwainer as proxy: [dhcp] mode = \"proxy\"",
        ),
        (false, None) => (
            "REQUEST",
            "another DHCP server won, or the answer did not reach the machine (firewall, VLAN, relay)".to_owned(),
            "`cordwainer check` looks for other DHCP servers; open UDP 67 and 68; look at the switch port",
        ),
    };
    Wait {
        patience: 60,
        missing: if proxy {
            "nobody came for the boot file of our offer"
        } else {
            "no REQUEST for our offer"
        },
        next,
        likely,
        remedy: remedy.to_owned(),
    }
}
