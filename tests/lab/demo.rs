//! The main job, watched: two machines install themselves from the network and boot from their own disks. `tests/demo` starts it.
//! It must never show anything but what Cordwainer printed itself, beside one line that says what was done to the machines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a program of the tests stops at the first surprise"
)]

#[path = "mod.rs"]
#[allow(unused_imports, reason = "the tests of the lab are not built here")]
mod lab;

// Loops of the lab press images with what the tests of images use.
#[path = "../iso/medium.rs"]
#[allow(dead_code, reason = "the tests of the lab are not built here")]
mod medium;

mod iso {
    pub(crate) use crate::medium;
}

use std::panic;
use std::process::ExitCode;
use std::time::Duration;

use lab::netns::Net;
use lab::server::{ADDRESS_NET, AUTHORITATIVE, Server};
use lab::vm::{Firmware, Machine};
use lab::watch::{self, Screen, Watched};
use lab::{distro, need};

/// After so long without news of a machine its timeline is asked why.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() != Some("show") {
        println!("this is the program behind ./tests/demo");
        return ExitCode::SUCCESS;
    }
    // A refusal is one sentence, not a backtrace.
    panic::set_hook(Box::new(|info| {
        let why = info
            .payload()
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| info.payload().downcast_ref::<&str>().map(|&text| text.to_owned()));
        eprintln!("\nthe demo failed: {}", why.unwrap_or_else(|| info.to_string()));
    }));
    match panic::catch_unwind(show) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn show() -> bool {
    let screen = Screen::new();
    if !need::all(
        "the demo",
        &[need::MACHINES, need::DISTRO, &[need::UNDIONLY, need::SNPONLY]],
    ) {
        return false;
    }
    screen.say(
        "Two machines, one BIOS and one UEFI, install themselves over the network and then boot from their own disks.",
    );
    screen.say("All of it happens in network namespaces of its own; this machine's own network is not touched. Each machine has a link of 20 Mbit/s.");
    let tree = distro::tree();
    let mut net = Net::new(&[ADDRESS_NET]);
    // Slow enough to see a download on its way.
    net.limit(20);
    let mut server = Server::new(&net, AUTHORITATIVE);
    screen.title("The server");
    screen.command("cordwainer serve &");
    server.serve();
    for line in server.log() {
        screen.output(&line);
    }
    screen.title("A distro and two machines");
    let run = |server: &Server<'_>, arguments: &[&str]| {
        screen.command(&format!("cordwainer {}", arguments.join(" ")));
        for line in server.cli(arguments).lines() {
            screen.output(line);
        }
    };
    run(&server, &["import", "--path", tree.to_str().unwrap(), "--name", "lab"]);
    let mut machines = [
        ("bios1", Machine::new("bios1", Firmware::BiosIpxeRom)),
        ("uefi1", Machine::new("uefi1", Firmware::OvmfPxe)),
    ];
    for (name, machine) in &machines {
        let mac = machine.mac_address();
        run(
            &server,
            &[
                "system",
                "add",
                "--name",
                name,
                "--profile",
                "lab",
                "--mac-address",
                mac,
            ],
        );
    }
    for (name, _) in &machines {
        run(&server, &["system", "arm", name]);
    }
    screen.title("Power on, network first in the boot order; QEMU without KVM, so firmware takes its time");
    for (name, _) in &machines {
        screen.command(&format!("cordwainer boot trace {name} --follow"));
    }
    let mut watched: Vec<Watched> = machines
        .iter()
        .map(|(name, _)| Watched::new(&screen, name, &server))
        .collect();
    let vms: Vec<_> = machines.iter_mut().map(|(_, machine)| machine.power_on(&net)).collect();
    let failed = watch::until_booted(&screen, &mut watched, PATIENCE);
    drop(vms);
    screen.title("The end");
    if failed.is_empty() {
        run(&server, &["status", "--all"]);
        for (name, _) in &machines {
            screen.good(&format!("{name}  installed and booted from disk"));
        }
        return true;
    }
    for (name, why) in &failed {
        screen.bad(&format!("{name}  {why}"));
        let trace = server.output(&["boot", "trace", name]);
        for line in String::from_utf8_lossy(&trace.stdout).lines() {
            screen.output(line);
        }
    }
    false
}
