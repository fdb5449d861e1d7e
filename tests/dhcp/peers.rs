//! Other people's clients and servers on the same wire: busybox's udhcpc, Kea's perfdhcp, dnsmasq.

use super::clients;
use super::server::{ADDRESS, Server};
use crate::lab::child::{Child, run};
use crate::lab::need::{self, Need};
use crate::lab::netns::Host;
use crate::lab::peers;
use cordwainer::model::{LeaseState, Mac};
use std::time::Duration;

pub(super) const BUSYBOX: Need = Need::Program("busybox", "busybox-static");
const PERFDHCP: Need = Need::Program("perfdhcp", "kea-admin");
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The hardware address of a host's interface.
pub(super) fn hardware_address(host: &Host) -> String {
    let said = run("ip", host.command("ip").args(["link", "show", "eth0"]), PATIENCE);
    let mut words = said.split_whitespace().skip_while(|word| *word != "link/ether");
    words.nth(1).unwrap().to_owned()
}

/// Runs udhcpc until it has a lease; the address that it was given.
pub(super) fn udhcpc(host: &Host, more: &[&str]) -> String {
    let mut command = host.command("busybox");
    command.args([
        "udhcpc",
        "-i",
        "eth0",
        "-f",
        "-n",
        "-q",
        "-t",
        "5",
        "-T",
        "2",
        "-s",
        "/bin/true",
    ]);
    command.args(more);
    let said = run("udhcpc", &mut command, PATIENCE);
    let line = said
        .lines()
        .find(|line| line.contains("lease of"))
        .unwrap_or_else(|| panic!("no lease:\n{said}"));
    assert!(
        line.contains(&format!("obtained from {ADDRESS}, lease time 3600")),
        "{line}"
    );
    line.split_whitespace()
        .find(|word| word.starts_with("10.77."))
        .unwrap()
        .to_owned()
}

#[test]
fn udhcpc_gets_a_lease_and_the_same_one_after_release_and_restart() {
    if !need::all("udhcpc", &[need::NETWORK, &[BUSYBOX]]) {
        return;
    }
    let server = Server::new("10.77.1.10-10.77.1.99");
    let (client, other) = (server.net.host("c1", None), server.net.host("c2", None));
    let (mut running, _) = server.start();
    let first = udhcpc(&client, &[]);
    // -B: it asks for broadcast; without it the answer goes to its hardware address before it has an IP address.
    assert_eq!(udhcpc(&client, &["-B"]), first);
    assert_ne!(udhcpc(&other, &[]), first);
    // -R: it releases when it ends.
    assert_eq!(udhcpc(&client, &["-R"]), first);
    assert_eq!(
        udhcpc(&client, &["-r", "10.77.1.50"]),
        first,
        "one machine, one address"
    );
    running.terminate();
    assert!(running.wait_for_exit(PATIENCE).success());
    let on_disk = server.leases_on_disk();
    assert_eq!(on_disk.len(), 2);
    assert!(
        on_disk.iter().all(|lease| lease.state == LeaseState::Active),
        "{on_disk:?}"
    );
    let (_running, _) = server.start();
    assert_eq!(udhcpc(&client, &[]), first);
}

#[test]
fn perfdhcp_finds_no_address_twice() {
    if !need::all("perfdhcp", &[need::NETWORK, &[PERFDHCP]]) {
        return;
    }
    let server = Server::new("10.77.1.0-10.77.20.255");
    let relay = server.relay();
    let (_running, _) = server.start();
    let mut command = relay.command("perfdhcp");
    command.args([
        "-4", "-u", "-r", "200", "-R", "4000", "-n", "600", "-W", "2000000", "-l", "eth0",
    ]);
    command.args(["-b", "mac=02:01:00:00:00:00", ADDRESS]);
    let mut child = Child::start("perfdhcp", &mut command);
    // Its exit code 3 says that single packets were lost, which a busy machine may cause.
    let status = child.wait_for_exit(PATIENCE);
    let said = child.lines().join("\n");
    assert!(matches!(status.code(), Some(0 | 3)), "{status}\n{said}");
    let count = |name: &str| -> Vec<u64> {
        said.lines()
            .filter_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().parse().unwrap())
            .collect()
    };
    assert_eq!(count("non unique addresses:"), [0, 0], "{said}");
    let received = count("received packets:");
    assert!(received.iter().all(|received| *received >= 540), "{said}");
}

#[test]
fn it_does_not_start_beside_another_server_unless_told_to() {
    if !need::all("beside dnsmasq", &[need::NETWORK, &[need::DNSMASQ]]) {
        return;
    }
    let server = Server::new("10.77.1.10-10.77.1.99");
    let other = server.net.host("dns", Some("10.77.0.9/24"));
    let _dnsmasq = peers::plain_dhcp(&other);
    let mut refused = Child::start("cordwainer", &mut server.command(&[]));
    let status = refused.wait_for_exit(PATIENCE);
    let said = refused.lines().join("\n");
    assert!(!status.success(), "{said}");
    assert!(
        said.contains("another DHCP server") && said.contains("10.77.0.9"),
        "{said}"
    );
    let (mut running, _) = server.start();
    assert!(running.is_running());
}

#[test]
fn an_interface_that_goes_and_comes_back_is_served_again() {
    if !need::all("interface", &[need::NETWORK, &[BUSYBOX]]) {
        return;
    }
    let server = Server::new("10.77.1.10-10.77.1.99");
    let client = server.net.host("c1", None);
    let (_running, _) = server.start();
    let address = udhcpc(&client, &[]);
    let net = &server.net;
    for flap in 0..3 {
        net.ip(&["link", "set", "br0", "down"]);
        net.ip(&["link", "set", "br0", "up"]);
        assert_eq!(udhcpc(&client, &[]), address, "flap {flap}");
    }
    // Another interface of that name: another index, and every old socket is deaf.
    net.ip(&["link", "del", "br0"]);
    net.ip(&["link", "add", "br0", "type", "bridge"]);
    net.ip(&["link", "set", "br0", "up"]);
    net.ip(&["addr", "add", &format!("{ADDRESS}/16"), "dev", "br0"]);
    net.ip(&["link", "set", "p0", "master", "br0", "up"]);
    assert_eq!(udhcpc(&client, &["-t", "20", "-T", "1"]), address);
}

#[test]
fn a_proxy_gives_the_boot_file_and_leaves_the_address_to_the_other_server() {
    if !need::all("proxy", &[need::NETWORK, &[need::DNSMASQ, BUSYBOX]]) {
        return;
    }
    let server = Server::proxy();
    let mac: Mac = "52:54:00:00:00:50".parse().unwrap();
    server.add_system("web1", mac);
    let (machine, other) = (
        server.net.host("c1", Some("10.77.0.50/24")),
        server.net.host("dns", Some("10.77.0.9/24")),
    );
    let (_running, _) = server.start();
    let mut rom = clients::pxe(&machine, mac, ADDRESS);
    rom.wait_for_line(&format!("OFFER {ADDRESS} undionly.kpxe PXEClient 0.0.0.0"), PATIENCE);
    rom.wait_for_line(&format!("ACK {ADDRESS} undionly.kpxe PXEClient 0.0.0.0"), PATIENCE);
    // Who does not boot from the network has to do with the other server alone.
    let _dnsmasq = peers::plain_dhcp(&other);
    let client = server.net.host("c2", None);
    let mut command = client.command("busybox");
    command.args([
        "udhcpc",
        "-i",
        "eth0",
        "-f",
        "-n",
        "-q",
        "-t",
        "10",
        "-T",
        "2",
        "-s",
        "/bin/true",
    ]);
    let said = run("udhcpc", &mut command, PATIENCE);
    assert!(said.contains("obtained from 10.77.0.9"), "{said}");
}
