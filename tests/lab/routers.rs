//! Router advertisements: they come where no IPv6 router is, give nobody a route, cease beside a router, and save iPXE its wait.

use std::time::{Duration, Instant};

use super::child;
use super::events::seen;
use super::need;
use super::netns::{Host, Net};
use super::peers;
use super::server::{ADDRESS_NET, AUTHORITATIVE, PROXY, Server, printed, ready};
use super::vm::{Firmware, Machine};

const PATIENCE: Duration = Duration::from_secs(30);

/// A counter of a host's kernel.
fn counter(host: &Host, name: &str) -> u64 {
    let counters = printed("snmp6", host.command("cat").arg("/proc/net/snmp6"));
    let line = counters.lines().find(|line| line.starts_with(name));
    line.unwrap().split_whitespace().last().unwrap().parse().unwrap()
}

/// How many router advertisements a host has taken in.
fn heard(host: &Host) -> u64 {
    counter(host, "Icmp6InRouterAdvertisements")
}

/// Waits until a host has asked for a router twice: the second time comes seconds after the first, which nobody has answered then.
fn asked_in_vain(host: &Host) {
    until("a second solicitation", || counter(host, "Icmp6OutRouterSolicits") > 1);
    assert_eq!(heard(host), 0);
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_host_is_told_that_there_is_no_router_and_gets_none() {
    if !need::all("a_host_is_told_that_there_is_no_router_and_gets_none", &[need::NETWORK]) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let _server = Server::start(&net, AUTHORITATIVE);
    // The kernel looks for a router as soon as its interface is up.
    let host = net.host("c1", Some("10.77.0.9/24"));
    until("an advertisement", || heard(&host) > 0);
    for family in ["-4", "-6"] {
        let route = child::run(
            "route",
            host.command("ip").args([family, "route", "show", "default"]),
            PATIENCE,
        );
        assert_eq!(route, "", "{family}");
    }
    let addresses = child::run(
        "addr",
        host.command("ip")
            .args(["-6", "-o", "addr", "show", "dev", "eth0", "scope", "global"]),
        PATIENCE,
    );
    assert_eq!(addresses, "");
}

#[test]
fn nothing_is_advertised_beside_a_router_nor_beside_another_dhcp_server() {
    if !need::all(
        "nothing_is_advertised_beside_a_router_nor_beside_another_dhcp_server",
        &[need::NETWORK, &[need::DNSMASQ]],
    ) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let router = net.host("router", None);
    let dnsmasq = peers::router(&router);
    let server = Server::start(&net, AUTHORITATIVE);
    until("the router's being heard", || {
        server
            .log()
            .iter()
            .any(|line| line.contains("is an IPv6 router on br0"))
    });
    // dnsmasq is gone without a goodbye: what this host hears from now on could only be ours.
    drop(dnsmasq);
    let host = net.host("c1", None);
    asked_in_vain(&host);
    drop(server);

    let net = Net::new(&[ADDRESS_NET]);
    let _server = Server::start(&net, PROXY);
    let host = net.host("c1", None);
    asked_in_vain(&host);
}

#[test]
#[ignore = "long: measures what the advertisement saves, figures in its output"]
fn an_advertisement_saves_ipxe_its_wait() {
    if !ready("an_advertisement_saves_ipxe_its_wait", &[]) {
        return;
    }
    let to_script = |mode: &str| {
        let net = Net::new(&[ADDRESS_NET]);
        let mut server = Server::start(&net, mode);
        server.import_lab();
        let mut machine = Machine::new("wait", Firmware::BiosIpxeRom);
        server.add("web1", "lab", &machine, &[]);
        let mut events = server.events("web1");
        let began = Instant::now();
        let vm = machine.power_on(&net);
        events.wait_for(&[seen("SCRIPT", &[])]);
        let took = began.elapsed();
        vm.power_cut();
        took
    };
    let auto = to_script(AUTHORITATIVE);
    let off = to_script(&format!("{AUTHORITATIVE}router_advertisements = \"off\"\n"));
    println!("power on to boot script: auto {auto:?}, off {off:?}");
    assert!(auto + Duration::from_secs(10) < off, "auto {auto:?}, off {off:?}");
}
