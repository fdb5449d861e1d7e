//! Another DHCP server on the wire: at the start, while we serve, after a restart. The rival is dnsmasq.

use super::clients;
use super::peers::{BUSYBOX, PATIENCE, hardware_address, udhcpc};
use super::server::{ADDRESS, RELAY, Server};
use crate::lab::child::{Child, run};
use crate::lab::{need, peers};
use std::time::{Duration, SystemTime};

const RIVAL: &str = "10.77.0.9";

#[test]
fn a_server_that_comes_while_we_serve_is_named_with_its_hardware_address() {
    if !need::all("rival", &[need::NETWORK, &[need::DNSMASQ]]) {
        return;
    }
    let server = Server::new("10.77.1.10-10.77.1.99");
    let other = server.net.host("dns", Some("10.77.0.9/24"));
    let (mut running, _) = server.start();
    let status = |what: &str| run("cordwainer", &mut server.cli(&[what]), PATIENCE);
    assert!(!status("status").contains("another DHCP server"));
    let _dnsmasq = peers::plain_dhcp(&other);
    // A client takes the other's offer and says so to everyone: a sign that costs nothing, and a reason to look at once.
    let client = server.net.host("c1", None);
    let _talks = clients::chooses(&client, "52:54:00:00:00:51".parse().unwrap(), RIVAL, "10.77.0.160");
    let mac = hardware_address(&other);
    let told = running.wait_for_line(&format!("another DHCP server, {RIVAL} ({mac}), answered"), PATIENCE);
    assert!(told.contains("without a boot file"), "{told}");
    let said = status("status");
    assert!(
        said.contains(&format!("{RIVAL} ({mac})")) && said.contains("proxy"),
        "{said}"
    );
    let mut check = Child::start("check", &mut server.cli(&["check"]));
    check.wait_for_line(&format!("another DHCP server, {RIVAL} ({mac})"), PATIENCE);
}

#[test]
fn beside_another_server_a_proxy_says_nothing_of_it() {
    if !need::all("rival of a proxy", &[need::NETWORK, &[need::DNSMASQ]]) {
        return;
    }
    let server = Server::proxy();
    let other = server.net.host("dns", Some("10.77.0.9/24"));
    let _dnsmasq = peers::plain_dhcp(&other);
    let (running, _) = server.start();
    let client = server.net.host("c1", None);
    let mut talks = clients::chooses(&client, "52:54:00:00:00:51".parse().unwrap(), RIVAL, "10.77.0.160");
    talks.wait_for_line("said", PATIENCE);
    // It has heard the client when it has answered a machine that spoke later.
    let mac = "52:54:00:00:00:50".parse().unwrap();
    server.add_system("web1", mac);
    let machine = server.net.host("c2", Some("10.77.0.50/24"));
    let mut rom = clients::pxe(&machine, mac, ADDRESS);
    rom.wait_for_line("OFFER", PATIENCE);
    let lines = running.lines().join("\n");
    assert!(!lines.contains("another DHCP server"), "{lines}");
}

#[test]
fn a_proxy_on_the_host_of_the_other_server_takes_its_packets_from_the_link() {
    if !need::all("same host", &[need::NETWORK, &[need::DNSMASQ, BUSYBOX]]) {
        return;
    }
    let server = Server::proxy();
    let mac = "52:54:00:00:00:50".parse().unwrap();
    server.add_system("web1", mac);
    let mut command = server.net.command("dnsmasq");
    command.args([
        "-d",
        "-q",
        "--port=0",
        "--conf-file=/dev/null",
        "--leasefile-ro",
        "--log-dhcp",
        "--user=root",
    ]);
    command.args(["--interface=br0", "--dhcp-range=10.77.0.150,10.77.0.199,255.255.0.0,1h"]);
    let mut dnsmasq = Child::start("dnsmasq", &mut command);
    dnsmasq.wait_for_line("DHCP, IP range", PATIENCE);
    let mut running = Child::start("cordwainer", &mut server.command(&[]));
    running.wait_for_line("has UDP port 67; packets are taken from the link", PATIENCE);
    running.wait_for_line("serving", PATIENCE);
    // The other server looks for 3 s whether an address is free; ours is the first answer.
    let machine = server.net.host("c1", Some("10.77.0.50/16"));
    let mut rom = clients::pxe(&machine, mac, ADDRESS);
    rom.wait_for_line(&format!("OFFER {ADDRESS} undionly.kpxe PXEClient 0.0.0.0"), PATIENCE);
    rom.wait_for_line(&format!("ACK {ADDRESS} undionly.kpxe PXEClient 0.0.0.0"), PATIENCE);
    // And who does not boot from the network still gets its address from the other.
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
    assert!(said.contains("10.77.0.1"), "{said}");
    assert!(running.is_running() && dnsmasq.is_running());
}

#[test]
fn leases_are_given_out_of_the_packets_of_the_link_too() {
    if !need::all("packets", &[need::NETWORK, &[BUSYBOX]]) {
        return;
    }
    let server = Server::with_dhcp("listen = \"packet\"\n", "10.77.1.10-10.77.1.99");
    let client = server.net.host("c1", None);
    let (_running, _) = server.start();
    let first = udhcpc(&client, &[]);
    assert_eq!(udhcpc(&client, &["-B"]), first);
    // A relay's packets come to our own address, and the answers go back to it.
    let relay = server.relay();
    let mut clients = clients::generate(&relay, RELAY, ADDRESS, 20, 7);
    clients.wait_for_line("ACK", PATIENCE);
}

/// The mark of being alive: who served here a moment ago serves at once and looks around meanwhile; later it looks first.
#[test]
fn a_restart_serves_at_once_and_still_names_a_rival_and_a_late_start_is_refused() {
    if !need::all("alive", &[need::NETWORK, &[need::DNSMASQ]]) {
        return;
    }
    let server = Server::new("10.77.1.10-10.77.1.99");
    let alive = server.state().join("alive");
    let start = || Child::start("cordwainer", &mut server.command(&[]));
    let mut first = start();
    first.wait_for_line("looking for other DHCP servers", PATIENCE);
    first.wait_for_line("serving", PATIENCE);
    while !alive.exists() {
        assert!(first.is_running());
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill();

    let other = server.net.host("dns", Some("10.77.0.9/24"));
    let _dnsmasq = peers::plain_dhcp(&other);
    let mut second = start();
    second.wait_for_line("serving", PATIENCE);
    let lines = second.lines().join("\n");
    assert!(!lines.contains("looking for other"), "{lines}");
    second.wait_for_line(&format!("another DHCP server, {RIVAL}"), PATIENCE);
    second.kill();

    // Nobody served for more than two minutes.
    let mark = std::fs::File::options().write(true).open(&alive).unwrap();
    mark.set_modified(SystemTime::now() - Duration::from_secs(121)).unwrap();
    let mut third = start();
    assert!(!third.wait_for_exit(PATIENCE).success());
    let lines = third.lines().join("\n");
    assert!(lines.contains("looking for other") && lines.contains(RIVAL), "{lines}");
    // Who was refused did not serve, and does not vouch for himself next time.
    let mut fourth = start();
    assert!(!fourth.wait_for_exit(PATIENCE).success());
}
