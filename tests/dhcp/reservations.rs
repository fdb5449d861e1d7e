//! Addresses that wait for a machine: by its MAC, its client identifier, its port; several subnets on one link; clients of before DHCP.

use super::world::{NOW, SERVER, Site, Words, add_interface, add_system, answer, mac, subnet, why, words};
use cordwainer::config::DhcpMode;
use cordwainer::dhcp::{Destination, MessageType, Packet, wall};
use cordwainer::model::{Lease, LeaseState, Subnet};
use cordwainer::ports::LiveRow;
use serde_json::json;
use std::net::Ipv4Addr;
use std::sync::Arc;

const RELAY: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, last)
}

fn second(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 78, last)
}

fn site() -> Site {
    let mut site = Site::new(DhcpMode::Authoritative);
    Arc::make_mut(&mut site.world.config).subnets[0].relays = vec![RELAY];
    site
}

/// Two addresses on the first subnet, and a second one on the same link, where the server has no address of its own.
fn shared() -> Site {
    let mut site = site();
    let config = Arc::make_mut(&mut site.world.config);
    config.subnets[0].pool = Some("192.168.77.100-192.168.77.101".parse().unwrap());
    config.subnets[0].shared = Some("link".parse().unwrap());
    config.subnets.push(Subnet {
        network: "192.168.78.0/24".parse().unwrap(),
        pool: Some("192.168.78.100-192.168.78.101".parse().unwrap()),
        router: Some(second(1)),
        domain: Some("second.example.org".into()),
        lease: cordwainer::model::Span::seconds(600),
        shared: Some("link".parse().unwrap()),
        relays: Vec::new(),
        ..subnet()
    });
    site
}

/// DISCOVER and REQUEST with these further words; the address that was granted.
fn lease(site: &mut Site, more: impl Fn(MessageType) -> Words) -> Ipv4Addr {
    let offer = answer(&site.say(&more(MessageType::Discover)));
    let request = more(MessageType::Request).requested(offer.yiaddr).server(SERVER);
    let ack = answer(&site.say(&request));
    assert_eq!((ack.message(), ack.yiaddr), (Some(MessageType::Ack), offer.yiaddr));
    ack.yiaddr
}

fn at_port(last: u8, option: &'static [u8]) -> impl Fn(MessageType) -> Words {
    move |message| words(mac(last), message).relayed(RELAY).with(82, option)
}

#[test]
fn the_second_subnet_of_a_link_is_used_when_the_first_is_full() {
    let mut site = shared();
    let first: Vec<Ipv4Addr> = (1..=4).map(|last| site.lease(mac(last))).collect();
    assert!(first[..2].iter().all(|address| address.octets()[2] == 77), "{first:?}");
    assert!(first[2..].iter().all(|address| address.octets()[2] == 78), "{first:?}");
    let full = site.say(&words(mac(5), MessageType::Discover));
    assert!(full.reply.is_none());
    assert!(
        why(&full)
            .iter()
            .any(|line| line.contains("no free address in the pool of 192.168.77.0/24 or 192.168.78.0/24"))
    );
    // What belongs to an address is that of its own subnet.
    let again = answer(&site.say(&words(mac(3), MessageType::Discover)));
    assert_eq!(again.yiaddr, first[2]);
    assert_eq!(again.option(3), Some(&second(1).octets()[..]));
    assert_eq!(again.option(28), Some(&second(255).octets()[..]));
    assert_eq!(again.option(15), Some(&b"second.example.org"[..]));
    assert_eq!(again.lease_seconds(), Some(600));
    // It is at home on the link: confirmed after a reboot, renewed, and never told that it is on the wrong network.
    for request in [
        words(mac(3), MessageType::Request).requested(first[2]),
        words(mac(3), MessageType::Request).from(first[2]),
    ] {
        assert_eq!(answer(&site.say(&request)).message(), Some(MessageType::Ack));
    }
    let unknown = site.say(&words(mac(9), MessageType::Request).requested(second(150)));
    assert!(
        unknown.reply.is_none(),
        "no record, but the right link: silence, not NAK"
    );
    let wrong = site.say(&words(mac(9), MessageType::Request).requested(Ipv4Addr::new(192, 168, 79, 9)));
    assert_eq!(answer(&wrong).message(), Some(MessageType::Nak));
    assert!(
        why(&wrong)
            .iter()
            .any(|line| line.contains("is not on 192.168.77.0/24 or 192.168.78.0/24"))
    );
}

#[test]
fn a_reservation_on_any_subnet_of_the_link_holds_and_one_machine_has_one_row() {
    let mut site = shared();
    let before = site.lease(mac(1));
    assert_eq!(before.octets()[2], 77);
    add_system(&mut site.world, "web1", mac(1), Some(second(20)));
    let moved = answer(&site.say(&words(mac(1), MessageType::Request).from(before)));
    assert_eq!(
        moved.message(),
        Some(MessageType::Nak),
        "its reservation is free, so it has to go there"
    );
    assert_eq!(site.lease(mac(1)), second(20));
    assert_eq!(site.leases.rows().count(), 1);
    // By the relay that the first subnet lists it is the same link.
    let offer = answer(&site.say(&words(mac(1), MessageType::Discover).relayed(RELAY)));
    assert_eq!(offer.yiaddr, second(20));
    // Not shared: another link's reservation is nothing here.
    Arc::make_mut(&mut site.world.config).subnets[1].shared = None;
    assert_eq!(
        answer(&site.say(&words(mac(1), MessageType::Discover))).yiaddr.octets()[2],
        77
    );
}

#[test]
fn a_client_identifier_finds_its_address_and_the_mac_comes_first() {
    let mut site = site();
    let duid = [255, 1, 2, 3, 4, 0, 4, 9, 9];
    let interface = json!({"client_id": "0xff010203040004:09:09", "ip_address": ip(21), "dns_name": "db.example.org"});
    add_interface(&mut site.world, "db", &interface);
    add_system(&mut site.world, "web1", mac(2), Some(ip(22)));
    let with_id = |last| move |message| words(mac(last), message).with(61, duid);
    assert_ne!(lease(&mut site, |message| words(mac(1), message)), ip(21));
    assert_eq!(lease(&mut site, with_id(1)), ip(21), "by what it says");
    assert_eq!(site.leases.rows().count(), 1, "one MAC, one row");
    let offer = site.say(&with_id(1)(MessageType::Discover));
    assert!(
        why(&offer)
            .iter()
            .any(|line| line.contains("reservation of db, found by its client identifier")),
        "{:?}",
        why(&offer)
    );
    assert_eq!(answer(&offer).option(12), Some(&b"db.example.org"[..]));
    // The same machine's firmware and iPXE, which have another identifier or none, get the same address and leave the row as it is.
    for id in [&[][..], &[1, 2, 0, 0, 0, 0, 1]] {
        let rom = |message| {
            let said = words(mac(1), message).pxe(0);
            if id.is_empty() { said } else { said.with(61, id) }
        };
        assert_eq!(lease(&mut site, rom), ip(21), "{id:?}");
        let row = site.leases.row(ip(21)).unwrap();
        assert_eq!((row.mac, row.client_id.as_slice()), (mac(1), &duid[..]));
    }
    // A MAC on record is that machine, whatever it says; another MAC with the identifier waits until the address is free.
    assert_eq!(lease(&mut site, with_id(2)), ip(22));
    assert_ne!(lease(&mut site, with_id(3)), ip(21));
    let other = answer(&site.say(&words(mac(4), MessageType::Discover).requested(ip(21))));
    assert_ne!(other.yiaddr, ip(21), "nobody else has it");
    let given_back = words(mac(1), MessageType::Release).from(ip(21)).server(SERVER);
    assert!(site.say(&given_back).change.is_some());
    assert_eq!(lease(&mut site, with_id(3)), ip(21));
}

#[test]
fn a_port_finds_its_address_even_when_the_renewal_goes_past_the_relay() {
    let mut site = site();
    let mut add = |name: &str, interface| add_interface(&mut site.world, name, &interface);
    add(
        "p7",
        json!({"relay_circuit_id": "ge-7", "relay_remote_id": "sw1", "ip_address": ip(27)}),
    );
    add("any7", json!({"relay_circuit_id": "ge-7", "ip_address": ip(37)}));
    add("sw2", json!({"relay_remote_id": "0x0102", "ip_address": ip(47)}));
    add("id", json!({"client_id": "me", "ip_address": ip(57)}));
    const P7: &[u8] = b"\x01\x04ge-7\x02\x03sw1";
    assert_eq!(lease(&mut site, at_port(1, P7)), ip(27), "port and switch");
    assert_eq!(
        lease(&mut site, at_port(2, b"\x02\x03sw9\x01\x04ge-7")),
        ip(37),
        "the port alone"
    );
    assert_eq!(
        lease(&mut site, at_port(3, b"\x01\x04ge-9\x02\x02\x01\x02")),
        ip(47),
        "the switch alone"
    );
    let named = |message| at_port(4, P7)(message).with(61, *b"me");
    assert_eq!(lease(&mut site, named), ip(57), "the identifier before the port");
    assert!(
        lease(&mut site, at_port(5, b"\x01\x04ge-9")).octets()[3] >= 100,
        "no record"
    );
    assert!(
        lease(&mut site, |message| words(mac(6), message).with(82, P7)).octets()[3] >= 100,
        "no relay sent it"
    );
    // RFC 2131 section 4.4.5: RENEWING is unicast and carries no option 82.
    let renewal = site.say(&words(mac(1), MessageType::Request).from(ip(27)));
    assert_eq!(
        answer(&renewal).message(),
        Some(MessageType::Ack),
        "{:?}",
        why(&renewal)
    );
    assert!(
        why(&renewal)
            .iter()
            .any(|line| line.contains("reservation of p7, found by the lease that it holds"))
    );
    // Moved to another port it has lost it; and nobody takes it over by renewing.
    let elsewhere = site.say(&at_port(1, b"\x01\x04ge-9")(MessageType::Request).from(ip(27)));
    assert_eq!(answer(&elsewhere).message(), Some(MessageType::Nak));
    let thief = site.say(&words(mac(9), MessageType::Request).from(ip(27)));
    assert_eq!(answer(&thief).message(), Some(MessageType::Nak));
}

fn bootp(last: u8) -> Words {
    let mut asked = words(mac(last), MessageType::Discover);
    asked.options.clear();
    asked
}

/// A client of RFC 951 that knows no cookie.
fn without_cookie(words: &Words) -> Packet {
    let mut bytes = words.bytes();
    bytes.truncate(236);
    bytes.resize(300, 0);
    wall::parse(&bytes).unwrap()
}

#[test]
fn a_client_of_before_dhcp_gets_its_reservation_for_good_and_strangers_nothing() {
    let mut site = site();
    let stranger = site.say(&bootp(1));
    assert!(stranger.reply.is_none() && stranger.change.is_none());
    assert!(
        why(&stranger)
            .iter()
            .any(|line| line.starts_with("BOOTP not answered: plain BOOTP") && line.contains("--ip-address")),
        "{:?}",
        why(&stranger)
    );
    add_system(&mut site.world, "old", mac(1), Some(ip(21)));
    let outcome = site.say(&bootp(1));
    let reply = answer(&outcome);
    assert_eq!((reply.yiaddr, reply.message()), (ip(21), None));
    let dhcp_only: Vec<u8> = reply
        .options
        .keys()
        .copied()
        .filter(|code| (50..=61).contains(code) || *code == 82)
        .collect();
    assert_eq!(dhcp_only, [0_u8; 0], "RFC 1534: none of DHCP's own options");
    assert_eq!(reply.option(1), Some(&[255, 255, 255, 0][..]));
    assert_eq!(reply.option(3), Some(&SERVER.octets()[..]));
    assert_eq!(outcome.reply.as_ref().unwrap().bytes.len(), 300);
    assert_eq!(
        outcome.reply.as_ref().unwrap().destination,
        Destination::Raw {
            mac: mac(1),
            address: ip(21)
        }
    );
    assert!(outcome.fallback.is_none(), "nothing is stored yet");
    let Some([LiveRow::Lease(row)]) = outcome.change.as_ref().map(|change| change.rows.as_slice()) else {
        panic!("{outcome:?}");
    };
    assert_eq!((row.address, row.mac, row.state), (ip(21), mac(1), LeaseState::Active));
    assert!(
        row.expires > NOW.plus(std::time::Duration::from_secs(100 * 365 * 86_400)),
        "for good"
    );
    // A later one, should the disk be full, has what is stored.
    assert!(site.say(&bootp(1)).fallback.is_some());
    // RFC 951 without a vendor field, through a relay: fixed fields alone, and to the relay.
    let plain = without_cookie(&bootp(1).relayed(RELAY));
    let outcome = site.ask(&plain);
    let bytes = outcome.reply.as_ref().unwrap().bytes.clone();
    assert_eq!((&bytes[16..20], &bytes[236..]), (&ip(21).octets()[..], &[0_u8; 64][..]));
    assert!(matches!(outcome.reply.unwrap().destination, Destination::Relay(_)));
    // The same machine by DHCP later: an ordinary lease again.
    assert_eq!(site.lease(mac(1)), ip(21));
    assert!(site.leases.row(ip(21)).unwrap().expires < NOW.plus(std::time::Duration::from_secs(86_400)));
}

#[test]
fn bootp_waits_for_an_address_that_another_machine_holds_and_is_nothing_to_a_proxy() {
    let mut site = site();
    site.leases = cordwainer::dhcp::Leases::load([Lease {
        address: ip(21),
        mac: mac(9),
        client_id: Vec::new(),
        hostname: None,
        granted: NOW,
        expires: NOW.plus(std::time::Duration::from_secs(600)),
        state: LeaseState::Active,
    }]);
    add_system(&mut site.world, "old", mac(1), Some(ip(21)));
    let held = site.say(&bootp(1));
    assert!(held.reply.is_none());
    assert!(
        why(&held).iter().any(|line| line.contains("another holds it still")),
        "{:?}",
        why(&held)
    );
    site.later(601);
    assert_eq!(answer(&site.say(&bootp(1))).yiaddr, ip(21));
    let mut proxy = Site::new(DhcpMode::Proxy);
    add_system(&mut proxy.world, "old", mac(1), Some(ip(21)));
    assert!(proxy.say(&bootp(1)).reply.is_none());
}
