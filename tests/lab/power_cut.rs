//! Power that fails in mid-install, on real machines: what state is left, and what the next boot gets. Nothing is wiped twice unasked.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::events::{Events, Seen, seen};
use super::netns::Net;
use super::server::{ADDRESS_NET, AUTHORITATIVE, Server, ready};
use super::vm::{Firmware, Machine, sector};

const INSTALLER: Seen = seen("SCRIPT", &[("gives", "install")]);
const OWN_DISK: Seen = seen("SCRIPT", &[("gives", "local boot")]);
const HELD: Seen = seen("HELD", &[]);

fn stage(server: &Server<'_>) -> String {
    let row = server.status("web1");
    row["stage"]
        .as_str()
        .unwrap_or_else(|| panic!("no stage in {row:#}"))
        .to_owned()
}

fn changed(server: &Server<'_>, meta: &str) {
    server.cli(&["system", "edit", "--name", "web1", "--in-place", "--ks-meta", meta]);
}

/// What `system arm` says without --again.
fn arming_is_refused(server: &Server<'_>) {
    let refused = server.output(&["system", "arm", "web1"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--again"), "{said}");
}

fn attempt(events: &mut Events, number: u64) {
    let event = events.next(&seen("CLAIMED", &[]), super::vm::PATIENCE);
    assert_eq!(event["attempt"], number);
    events.wait_for(&[INSTALLER]);
}

#[test]
fn before_the_kernel_after_the_answer_file_and_in_partitioning() {
    if !ready("before_the_kernel_after_the_answer_file_and_in_partitioning", &[]) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut server = Server::start(&net, AUTHORITATIVE);
    server.import_lab();
    let mut machine = Machine::new("cut", Firmware::BiosIpxeRom);
    server.add("web1", "lab", &machine, &["--ks-meta", "lab_stop_at=started"]);
    server.arm("web1");
    let mut events = server.events("web1");

    // Before the kernel runs.
    let vm = machine.power_on(&net);
    attempt(&mut events, 1);
    vm.power_cut();
    assert_eq!(server.state("web1"), "claimed");
    events.none(seen("ANSWER_FILE", &[]));

    // After the answer file. It came back within seconds and had not started its kernel: another attempt all the same.
    let mut vm = machine.power_on(&net);
    attempt(&mut events, 2);
    events.wait_for(&[seen("ANSWER_FILE", &[]), seen("STAGE", &[("stage", "started")])]);
    vm.wait_for("lab-installer: stopped at started");
    vm.power_cut();
    assert_eq!(
        (server.state("web1"), stage(&server)),
        ("installing".into(), "started".into())
    );
    assert_eq!(sector(&machine.disks()[0], 0), [0; 512]);

    // In partitioning. The edit takes effect at the next request.
    changed(&server, "lab_stop_at=partitioning");
    let mut vm = machine.power_on(&net);
    attempt(&mut events, 3);
    events.wait_for(&[seen("ANSWER_FILE", &[]), seen("STAGE", &[("stage", "partitioning")])]);
    vm.wait_for("lab-installer: stopped at partitioning");
    vm.power_cut();
    assert_eq!(
        (server.state("web1"), stage(&server)),
        ("installing".into(), "partitioning".into())
    );

    // From here on it is held, across a restart of the server too.
    let vm = machine.power_on(&net);
    events.wait_for(&[HELD, OWN_DISK]);
    vm.power_cut();
    assert_eq!(server.state("web1"), "held");
    drop(events);
    server.kill();
    server.serve();
    assert_eq!(server.state("web1"), "held");
    let events = server.events("web1");
    // Boots before the restart are told too: this one's script is the one after now.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let vm = machine.power_on(&net);
    let script = events.settled("boot script after the restart", |all| {
        let is_new = |event: &&Value| event["at"].as_u64().is_some_and(|at| u128::from(at) >= now);
        all.iter()
            .find(|event| event["code"] == "SCRIPT" && is_new(event))
            .cloned()
    });
    vm.power_cut();
    assert!(
        script["gives"].as_str().unwrap().starts_with("local boot"),
        "{script:#}"
    );
    assert_eq!(server.state("web1"), "held");
    assert_eq!(
        sector(&machine.disks()[0], 0),
        [0; 512],
        "nothing was written to the disk"
    );
    arming_is_refused(&server);
}

#[test]
fn done_lost_then_armed_again_and_failed() {
    if !ready("done_lost_then_armed_again_and_failed", &[]) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut server = Server::start(&net, AUTHORITATIVE);
    server.import_lab();
    let mut machine = Machine::new("lost", Firmware::BiosIpxeRom);
    server.add("web1", "lab", &machine, &["--ks-meta", "lab_skip_done=1"]);

    // Nobody armed it.
    let mut events = server.events("web1");
    let vm = machine.power_on(&net);
    events.wait_for(&[OWN_DISK]);
    vm.power_cut();
    assert_eq!(server.state("web1"), "idle");
    events.none(INSTALLER);

    // All was installed, but nobody heard of it: held, and its own disk boots.
    server.arm("web1");
    let mut vm = machine.power_on(&net);
    attempt(&mut events, 1);
    events.wait_for(&[seen("STAGE", &[("stage", "bootloader")]), HELD, OWN_DISK]);
    vm.wait_for("lab-installer: done is skipped");
    vm.wait_for("lab-system: booted from disk web1");
    vm.power_cut();
    assert_eq!(server.state("web1"), "held");
    events.none(seen("INSTALLED", &[]));
    arming_is_refused(&server);

    // An admin wants it wiped; this time the installer fails.
    changed(&server, "lab_skip_done= lab_fail_at=packages");
    server.cli(&["system", "arm", "web1", "--again"]);
    let mut vm = machine.power_on(&net);
    attempt(&mut events, 1);
    events.wait_for(&[seen("FAILED", &[("reason", "asked to fail at packages")])]);
    vm.wait_for("lab-installer: failed: asked to fail at packages");
    vm.power_cut();
    assert_eq!(server.state("web1"), "failed");
    let vm = machine.power_on(&net);
    events.wait_for(&[OWN_DISK]);
    vm.power_cut();
    assert_eq!(server.state("web1"), "failed");
    assert_eq!(events.count(seen("CLAIMED", &[])), 2, "two armings, two installations");
    arming_is_refused(&server);
}
