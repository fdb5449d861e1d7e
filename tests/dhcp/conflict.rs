//! Addresses that somebody took by hand, on a real wire: nobody else gets one, and an event names the machine that has it.

use super::peers::{BUSYBOX, PATIENCE, hardware_address, udhcpc};
use super::server::Server;
use crate::lab::child::Child;
use crate::lab::need;
use cordwainer::model::LeaseState;
use std::collections::BTreeSet;

#[test]
fn an_address_that_a_host_took_by_hand_goes_to_nobody_else() {
    if !need::all("conflict", &[need::NETWORK, &[BUSYBOX]]) {
        return;
    }
    let server = Server::new("10.77.1.10-10.77.1.13");
    let squatter = server.net.host("static", Some("10.77.1.11/16"));
    let clients = [1, 2, 3, 4].map(|n| server.net.host(&format!("c{n}"), None));
    let (mut running, _) = server.start();
    let told = running.wait_for_line("10.77.1.11 is in use by", PATIENCE);
    assert!(told.contains(&hardware_address(&squatter)), "{told}");

    let got: BTreeSet<String> = clients.iter().take(3).map(|client| udhcpc(client, &[])).collect();
    let free = ["10.77.1.10", "10.77.1.12", "10.77.1.13"].map(str::to_owned);
    assert_eq!(got, BTreeSet::from(free));
    // The pool is empty now, and asking for the address by name does not help.
    let mut late = clients[3].command("busybox");
    late.args([
        "udhcpc",
        "-i",
        "eth0",
        "-f",
        "-n",
        "-q",
        "-t",
        "3",
        "-T",
        "1",
        "-s",
        "/bin/true",
    ]);
    late.args(["-r", "10.77.1.11"]);
    let mut late = Child::start("udhcpc", &mut late);
    let status = late.wait_for_exit(PATIENCE);
    assert!(!status.success(), "{}", late.lines().join("\n"));

    running.terminate();
    assert!(running.wait_for_exit(PATIENCE).success());
    let apart: Vec<String> = server
        .leases_on_disk()
        .iter()
        .filter(|lease| lease.state == LeaseState::Quarantined)
        .map(|lease| format!("{} {}", lease.address, lease.mac))
        .collect();
    assert_eq!(apart, [format!("10.77.1.11 {}", hardware_address(&squatter))]);
}

#[test]
fn with_probe_off_nobody_is_asked() {
    if !need::all("no probe", &[need::NETWORK, &[BUSYBOX]]) {
        return;
    }
    let server = Server::with_subnet("10.77.1.11-10.77.1.11", "probe = \"off\"\n");
    let _squatter = server.net.host("static", Some("10.77.1.11/16"));
    let client = server.net.host("c1", None);
    let (running, _) = server.start();
    assert_eq!(udhcpc(&client, &[]), "10.77.1.11");
    assert!(!running.lines().iter().any(|line| line.contains("in use")));
}
