//! The server's side of RFC 2131, clause by clause, and proxyDHCP by the PXE specification.

use super::world::{NOW, SERVER, Site, add_system, answer, mac, subnet, why, words};
use cordwainer::config::{Config, DhcpMode};
use cordwainer::dhcp::{Destination, MessageType, Outcome, Packet};
use cordwainer::install::Sighting;
use cordwainer::model::{LeaseState, Mac};
use cordwainer::ports::LiveRow;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, last)
}

fn site() -> Site {
    Site::new(DhcpMode::Authoritative)
}

fn configure(site: &mut Site, change: impl FnOnce(&mut Config)) {
    change(Arc::make_mut(&mut site.world.config));
}

#[test]
fn discover_and_request_give_a_stored_lease() {
    let mut site = site();
    let offer = site.say(&words(mac(1), MessageType::Discover));
    assert!(offer.change.is_none(), "an OFFER needs no disk");
    let offered = answer(&offer);
    assert_eq!(offered.lease_seconds(), Some(43_200));
    assert_eq!(offered.option(58), Some(&21_600_u32.to_be_bytes()[..]), "T1, 4.4.5");
    assert_eq!(offered.option(59), Some(&37_800_u32.to_be_bytes()[..]), "T2, 4.4.5");
    assert_eq!(offered.option(1), Some(&[255, 255, 255, 0][..]));
    assert_eq!(offered.option(28), Some(&[192, 168, 77, 255][..]));
    assert_eq!(offered.option(3), Some(&[192, 168, 77, 1][..]));
    assert_eq!(offered.option(15), Some(&b"example.org"[..]));
    assert!(offered.file.is_empty() && offered.option(67).is_none());
    assert_eq!(
        offer.reply.unwrap().destination,
        Destination::Raw {
            mac: mac(1),
            address: offered.yiaddr
        }
    );
    let request = words(mac(1), MessageType::Request)
        .requested(offered.yiaddr)
        .server(SERVER)
        .with(12, *b"host\x1b[31m");
    let ack = site.say(&request);
    let Some(LiveRow::Lease(row)) = ack.change.as_ref().and_then(|change| change.rows.last()) else {
        panic!("{ack:?}");
    };
    assert_eq!(
        (row.address, row.mac, row.state),
        (offered.yiaddr, mac(1), LeaseState::Active)
    );
    assert_eq!(row.expires, NOW.plus(std::time::Duration::from_secs(43_200)));
    assert_eq!(row.hostname.as_deref(), Some("host\\x1b[31m"));
}

#[test]
fn selecting_another_server_lets_the_offer_go_and_names_the_other() {
    let mut site = site();
    configure(&mut site, |config| {
        config.subnets[0].pool = Some("192.168.77.100-192.168.77.100".parse().unwrap())
    });
    answer(&site.say(&words(mac(1), MessageType::Discover)));
    assert!(site.say(&words(mac(2), MessageType::Discover)).reply.is_none());
    let elsewhere = words(mac(1), MessageType::Request).requested(ip(180)).server(ip(254));
    let outcome = site.say(&elsewhere);
    assert!(outcome.reply.is_none());
    assert!(
        why(&outcome)
            .iter()
            .any(|line| line.contains("another DHCP server, 192.168.77.254"))
    );
    answer(&site.say(&words(mac(2), MessageType::Discover)));
}

#[test]
fn init_reboot_is_confirmed_refused_or_met_with_silence() {
    let mut site = site();
    let mine = site.lease(mac(1));
    let confirmed = answer(&site.say(&words(mac(1), MessageType::Request).requested(mine)));
    assert_eq!(confirmed.message(), Some(MessageType::Ack));
    // 4.3.2: wrong address of a known client, or the wrong network: NAK, broadcast.
    for wrong in [ip(199), Ipv4Addr::new(10, 0, 0, 9)] {
        let outcome = site.say(&words(mac(1), MessageType::Request).requested(wrong));
        assert_eq!(answer(&outcome).message(), Some(MessageType::Nak));
        assert_eq!(outcome.reply.unwrap().destination, Destination::Broadcast);
    }
    let other = site.lease(mac(2));
    let refused = answer(&site.say(&words(mac(1), MessageType::Request).requested(other)));
    assert_eq!(refused.message(), Some(MessageType::Nak));
    assert!(refused.option(51).is_none() && refused.yiaddr.is_unspecified());
    // 4.3.2: "no record of this client ... MUST remain silent".
    assert!(
        site.say(&words(mac(9), MessageType::Request).requested(ip(150)))
            .reply
            .is_none()
    );
}

#[test]
fn renewing_extends_and_goes_straight_to_the_client() {
    let mut site = site();
    let mine = site.lease(mac(1));
    site.later(20_000);
    let outcome = site.say(&words(mac(1), MessageType::Request).from(mine));
    let ack = answer(&outcome);
    assert_eq!(
        (ack.message(), ack.yiaddr, ack.ciaddr),
        (Some(MessageType::Ack), mine, mine)
    );
    assert_eq!(
        outcome.reply.unwrap().destination,
        Destination::Unicast(SocketAddrV4::new(mine, 68))
    );
    // Should the disk be full, the stored lease still has 23,200 s, and that much can be promised.
    let left = cordwainer::dhcp::wall::parse(&outcome.fallback.unwrap().bytes).unwrap();
    assert_eq!(left.lease_seconds(), Some(23_200));
    // REBINDING by another machine for the same address: no.
    let thief = answer(&site.say(&words(mac(2), MessageType::Request).from(mine)));
    assert_eq!(thief.message(), Some(MessageType::Nak));
}

#[test]
fn a_new_lease_that_cannot_be_stored_has_no_fallback_and_can_be_taken_back() {
    let mut site = site();
    let offered = answer(&site.say(&words(mac(1), MessageType::Discover))).yiaddr;
    let outcome = site.say(&words(mac(1), MessageType::Request).requested(offered).server(SERVER));
    assert!(outcome.fallback.is_none());
    let change = outcome.change.unwrap();
    change.undo.iter().rev().for_each(|row| site.leases.apply(row));
    assert_eq!(site.leases.rows().count(), 0);
}

#[test]
fn rebinding_without_a_record_is_trusted_where_the_address_is_free() {
    // 4.3.2, RENEWING: "the server will trust the client's ciaddr"; a lost database must not cut off a network.
    let mut site = site();
    let ack = answer(&site.say(&words(mac(1), MessageType::Request).from(ip(120))));
    assert_eq!((ack.message(), ack.yiaddr), (Some(MessageType::Ack), ip(120)));
}

#[test]
fn decline_release_and_inform() {
    let mut site = site();
    let mine = site.lease(mac(1));
    site.later(30);
    let declined = site.say(&words(mac(1), MessageType::Decline).requested(mine).server(SERVER));
    assert!(declined.reply.is_none() && declined.change.is_some());
    assert!(why(&declined).iter().any(|line| line.starts_with("DECLINE")));
    let next = site.lease(mac(1));
    assert_ne!(next, mine);
    let not_its_own = site.say(&words(mac(2), MessageType::Release).from(next).server(SERVER));
    assert!(not_its_own.change.is_none());
    let released = site.say(&words(mac(1), MessageType::Release).from(next).server(SERVER));
    assert!(released.reply.is_none() && released.change.is_some());
    assert_eq!(site.leases.row(next).unwrap().state, LeaseState::Released);
    assert_eq!(site.lease(mac(1)), next, "the row is kept, so it gets the same one");

    let outcome = site.say(&words(mac(3), MessageType::Inform).from(ip(30)).with(61, *b"me"));
    let ack = answer(&outcome);
    // 4.3.5: no lease time, yiaddr empty, to ciaddr.
    assert_eq!(
        (ack.message(), ack.yiaddr),
        (Some(MessageType::Ack), Ipv4Addr::UNSPECIFIED)
    );
    assert!([51, 58, 59].iter().all(|time| ack.option(*time).is_none()) && ack.option(6).is_some());
    assert_eq!(ack.option(61), Some(&b"me"[..]), "RFC 6842");
    assert_eq!(
        outcome.reply.unwrap().destination,
        Destination::Unicast(SocketAddrV4::new(ip(30), 68))
    );
}

#[test]
fn nobody_gives_another_machines_address_back() {
    let mut site = site();
    let mine = site.lease(mac(1));
    let release = words(mac(1), MessageType::Release).from(mine).server(SERVER);
    let refused = |site: &mut Site, packet: Packet, why_not: &str| {
        let outcome = site.ask(&packet);
        assert!(outcome.change.is_none() && outcome.reply.is_none());
        let said = why(&outcome);
        assert!(said.iter().any(|line| line.contains(why_not)), "{said:?}");
        assert_eq!(site.leases.row(mine).unwrap().state, LeaseState::Active);
    };
    // In its name, from another address; from the same one without our name; meant for another server.
    let spoofed = release.packet().arrived(SocketAddrV4::new(ip(66), 68), 67);
    refused(&mut site, spoofed, "but comes from 192.168.77.66");
    refused(
        &mut site,
        words(mac(1), MessageType::Release).from(mine).packet(),
        "it names no server",
    );
    let other = words(mac(1), MessageType::Release).from(mine).server(ip(254)).packet();
    refused(&mut site, other, "it is meant for 192.168.77.254");
    // A DECLINE long after the ACK, of another address, by another machine, without our name.
    let decline = |last: u8, address| words(mac(last), MessageType::Decline).requested(address);
    refused(&mut site, decline(1, mine).packet(), "it names no server");
    refused(
        &mut site,
        decline(2, mine).server(SERVER).packet(),
        "not one that we gave this machine",
    );
    refused(
        &mut site,
        decline(1, ip(150)).server(SERVER).packet(),
        "not one that we gave this machine",
    );
    site.later(61);
    refused(&mut site, decline(1, mine).server(SERVER).packet(), "our ACK of");
    // An offer alone is no lease.
    let offered = answer(&site.say(&words(mac(2), MessageType::Discover))).yiaddr;
    refused(
        &mut site,
        decline(2, offered).server(SERVER).packet(),
        "not one that we gave this machine",
    );
    assert!(site.say(&release).change.is_some(), "the machine itself may");
}

#[test]
fn an_inform_by_a_relay_is_answered_to_the_client_without_the_relays_option() {
    let (relay, client) = (Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 77));
    let mut site = site();
    configure(&mut site, |config| {
        let mut far = subnet();
        far.network = "10.9.0.0/24".parse().unwrap();
        far.pool = None;
        far.relays = vec![relay];
        config.subnets.push(far);
    });
    let inform = words(mac(1), MessageType::Inform)
        .relayed(relay)
        .with(82, *b"\x01\x01x");
    let outcome = site.say(&inform.clone().from(client));
    let ack = answer(&outcome);
    assert_eq!((ack.ciaddr, ack.option(82)), (client, None));
    assert_eq!(
        outcome.reply.unwrap().destination,
        Destination::Unicast(SocketAddrV4::new(client, 68))
    );
    let nameless = site.say(&inform);
    assert!(
        nameless.reply.is_none()
            && why(&nameless)
                .iter()
                .any(|line| line.contains("does not say which address"))
    );
    let elsewhere = site.say(&inform.from(ip(5)));
    assert!(
        elsewhere.reply.is_none()
            && why(&elsewhere)
                .iter()
                .any(|line| line.contains("192.168.77.5 is not on 10.9.0.0/24"))
    );
}

/// RFC 2131 table 4: what each kind of REQUEST carries, and what it gets, for a client with a lease, without one, on a wrong network.
#[test]
fn each_kind_of_request_is_told_by_what_it_carries() {
    let ack = |outcome: &Outcome| outcome.reply.is_some() && answer(outcome).message() == Some(MessageType::Ack);
    let nak = |outcome: &Outcome| outcome.reply.is_some() && answer(outcome).message() == Some(MessageType::Nak);
    let silent =
        |outcome: &Outcome| outcome.reply.is_none() && why(outcome).iter().any(|line| line.contains("not answered"));
    let foreign = Ipv4Addr::new(10, 0, 0, 9);
    let request = || words(mac(1), MessageType::Request);
    let mut site = site();
    let mine = site.lease(mac(1));
    let theirs = site.lease(mac(2));
    // SELECTING: server id, requested address, no ciaddr.
    assert!(ack(&site.say(&request().requested(mine).server(SERVER))));
    assert!(nak(&site.say(&request().requested(theirs).server(SERVER))));
    assert!(silent(&site.say(&request().requested(mine).server(ip(254)))));
    // INIT-REBOOT: requested address alone.
    assert!(ack(&site.say(&request().requested(mine))));
    assert!(nak(&site.say(&request().requested(theirs))));
    assert!(nak(&site.say(&request().requested(foreign))));
    // RENEWING and REBINDING: ciaddr alone; the one comes to our address, the other to everybody.
    assert!(ack(&site.say(&request().from(mine))));
    assert!(nak(&site.say(&request().from(theirs))));
    assert!(nak(&site.say(&request().from(foreign))));
    // Nothing at all.
    assert!(silent(&site.say(&request())));
    // Without a record of the client: silence to INIT-REBOOT on the right network, NAK on the wrong one, and who extends is trusted.
    let stranger = || words(mac(9), MessageType::Request);
    assert!(silent(&site.say(&stranger().requested(ip(150)))));
    assert!(nak(&site.say(&stranger().requested(foreign))));
    assert!(ack(&site.say(&stranger().from(ip(151)))));
    // An expired lease of a machine that comes back is its own still.
    site.later(50_000);
    assert!(ack(&site.say(&request().requested(mine))));
    // Beside another server nothing of this is ours to refuse.
    let mut proxy = Site::new(DhcpMode::Proxy);
    add_system(&mut proxy.world, "web1", mac(1), Some(mine));
    for asked in [
        request().requested(theirs).server(ip(254)),
        request().requested(foreign),
        request().from(theirs),
        request().from(foreign),
        stranger().requested(foreign),
    ] {
        assert!(silent(&proxy.say(&asked)) && silent(&proxy.say(&asked.pxe(0))));
    }
}

#[test]
fn firmware_ipxe_and_installer_are_one_machine() {
    let mut site = site();
    let firmware = words(mac(1), MessageType::Discover).pxe(7).with(97, [0; 17]);
    let first = answer(&site.say(&firmware)).yiaddr;
    let request = words(mac(1), MessageType::Request).requested(first).server(SERVER);
    answer(&site.say(&request.clone().pxe(7).with(97, [0; 17])));
    for client_id in [
        &[1, 2, 0, 0, 0, 0, 1][..],
        &[255, 1, 2, 3, 4, 0, 1, 0, 1, 9, 9, 9, 9, 2, 0, 0, 0, 0, 1],
    ] {
        let discover = words(mac(1), MessageType::Discover).with(61, client_id);
        assert_eq!(answer(&site.say(&discover)).yiaddr, first);
        answer(&site.say(&request.clone().with(61, client_id)));
    }
    assert_eq!(site.leases.rows().count(), 1);
}

#[test]
fn reservations_hold_and_others_never_get_them() {
    let mut site = site();
    configure(&mut site, |config| {
        config.subnets[0].pool = Some("192.168.77.100-192.168.77.101".parse().unwrap())
    });
    add_system(&mut site.world, "web1", mac(1), Some(ip(100)));
    add_system(&mut site.world, "web2", mac(2), Some(ip(21)));
    assert_eq!(site.lease(mac(3)), ip(101));
    assert!(site.say(&words(mac(4), MessageType::Discover)).reply.is_none());
    let exhausted = site.say(&words(mac(4), MessageType::Discover).requested(ip(100)));
    assert!(
        why(&exhausted)
            .iter()
            .any(|line| line.contains("no free address in the pool"))
    );
    assert_eq!(site.lease(mac(1)), ip(100));
    assert_eq!(site.lease(mac(2)), ip(21));
    let offer = site.say(&words(mac(1), MessageType::Discover));
    assert!(
        why(&offer).iter().any(|line| line.contains("reservation of web1")),
        "{:?}",
        why(&offer)
    );
}

#[test]
fn relays_are_believed_only_where_they_are_listed() {
    let (relay, relayed) = (Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 0));
    let mut site = site();
    let discover = words(mac(1), MessageType::Discover)
        .relayed(relay)
        .with(82, *b"\x01\x03abc");
    let refused = site.say(&discover);
    assert!(refused.reply.is_none());
    assert!(
        why(&refused)
            .iter()
            .any(|line| line.contains("relay 10.9.0.1 is in no `relays`"))
    );
    configure(&mut site, |config| {
        let mut far = subnet();
        far.network = ipnet::Ipv4Net::new(relayed, 24).unwrap();
        far.pool = Some("10.9.0.50-10.9.0.60".parse().unwrap());
        far.relays = vec![relay];
        config.subnets.push(far);
    });
    let outcome = site.say(&discover);
    let offer = answer(&outcome);
    assert_eq!(offer.yiaddr.octets()[..3], [10, 9, 0]);
    assert_eq!(offer.giaddr, relay);
    assert_eq!(offer.option(82), Some(&b"\x01\x03abc"[..]));
    assert_eq!(
        outcome.reply.unwrap().destination,
        Destination::Relay(SocketAddrV4::new(relay, 67))
    );
    // A NAK through a relay carries the broadcast flag (4.3.2), and goes to the relay.
    let wrong = words(mac(1), MessageType::Request)
        .relayed(relay)
        .requested(ip(9))
        .server(SERVER);
    let outcome = site.say(&wrong);
    let nak = answer(&outcome);
    assert_eq!((nak.message(), nak.flags), (Some(MessageType::Nak), 0x8000));
    // 4.4.5: the renewal comes from the client itself, past the relay.
    answer(
        &site.say(
            &words(mac(1), MessageType::Request)
                .relayed(relay)
                .requested(offer.yiaddr)
                .server(SERVER),
        ),
    );
    let renewal = answer(&site.say(&words(mac(1), MessageType::Request).from(offer.yiaddr)));
    assert_eq!(
        (renewal.message(), renewal.yiaddr),
        (Some(MessageType::Ack), offer.yiaddr)
    );
}

#[test]
fn who_cannot_take_a_frame_is_answered_by_broadcast() {
    let mut site = site();
    let mut flagged = words(mac(1), MessageType::Discover);
    flagged.flags = 0x8000;
    let mut strange = words(mac(2), MessageType::Discover);
    strange.htype = 6;
    for words in [flagged, strange] {
        assert_eq!(site.say(&words).reply.unwrap().destination, Destination::Broadcast);
    }
}

#[test]
fn uefi_is_never_offered_an_address_without_a_boot_file() {
    let mut site = site();
    Arc::make_mut(&mut site.world.assets).loaders.remove("snponly.efi");
    let outcome = site.say(&words(mac(1), MessageType::Discover).pxe(7));
    assert!(outcome.reply.is_none());
    assert!(
        why(&outcome)
            .iter()
            .any(|line| line.contains("UEFI takes no offer without a boot file"))
    );
    let bios = site.say(&words(mac(1), MessageType::Discover).pxe(0));
    assert_eq!(answer(&bios).file, b"undionly.kpxe");
}

#[test]
fn a_proxy_leaves_addresses_alone_and_learns_them() {
    let mut site = Site::new(DhcpMode::Proxy);
    add_system(&mut site.world, "web1", mac(1), None);
    for message in [MessageType::Discover, MessageType::Request, MessageType::Inform] {
        assert!(site.say(&words(mac(1), message).requested(ip(50))).reply.is_none());
    }
    let taken = site.say(
        &words(mac(1), MessageType::Request)
            .pxe(0)
            .requested(ip(50))
            .server(ip(254)),
    );
    assert!(taken.reply.is_none(), "never a NAK");
    assert_eq!(
        taken.effects.len(),
        1,
        "the address is tied to the machine: {:?}",
        taken.effects
    );
}

#[test]
fn port_4011_answers_the_port_that_asked() {
    let mut site = Site::new(DhcpMode::Proxy);
    add_system(&mut site.world, "web1", mac(1), None);
    let source = SocketAddrV4::new(ip(50), 4011);
    let ask = words(mac(1), MessageType::Request)
        .pxe(0)
        .from(ip(50))
        .with(43, [71, 4, 0x80, 0, 0, 0, 255]);
    let elsewhere = site.ask(&ask.clone().server(ip(254)).packet().arrived(source, 4011));
    assert!(elsewhere.reply.is_none());
    assert!(
        why(&elsewhere)
            .iter()
            .any(|line| line.contains("it asks 192.168.77.254, which is not this server"))
    );
    let discover = site.ask(
        &words(mac(1), MessageType::Discover)
            .pxe(0)
            .packet()
            .arrived(source, 4011),
    );
    assert!(discover.reply.is_none());
    answer(&site.ask(&ask.clone().server(SERVER).packet().arrived(source, 4011)));
    let outcome = site.ask(&ask.packet().arrived(source, 4011));
    let ack = answer(&outcome);
    assert_eq!(ack.message(), Some(MessageType::Ack));
    assert_eq!((ack.file.as_slice(), ack.siaddr), (&b"undionly.kpxe"[..], SERVER));
    assert_eq!(ack.vendor_option(71).unwrap(), [0x80, 0, 0, 0]);
    assert_eq!(outcome.reply.unwrap().destination, Destination::ProxyUnicast(source));
}

#[test]
fn where_no_transfer_follows_the_next_discover_gets_the_other_form() {
    let mut site = Site::new(DhcpMode::Proxy);
    add_system(&mut site.world, "web1", mac(1), None);
    let in_offer = |site: &mut Site| {
        !answer(&site.say(&words(mac(1), MessageType::Discover).pxe(0)))
            .file
            .is_empty()
    };
    let take = |site: &mut Site| {
        let request = words(mac(1), MessageType::Request)
            .pxe(0)
            .requested(ip(50))
            .server(ip(254));
        assert!(site.say(&request).reply.is_none());
    };
    assert!(in_offer(&mut site));
    site.later(1);
    assert!(in_offer(&mut site), "a quick repeat means nothing");
    take(&mut site);
    site.later(30);
    assert!(!in_offer(&mut site), "it took an address and fetched nothing");
    take(&mut site);
    let sighting = Sighting {
        mac: mac(1),
        firmware: None,
        loader: true,
        asked: site.now,
        at: site.now.plus(std::time::Duration::from_millis(200)),
    };
    Arc::make_mut(&mut site.world.installs)
        .sightings
        .insert(ip(50), sighting);
    site.later(30);
    assert!(!in_offer(&mut site), "what worked is kept");
}

#[test]
fn a_second_boot_after_one_that_fetched_its_files_gets_the_same_form() {
    let mut site = Site::new(DhcpMode::Proxy);
    add_system(&mut site.world, "web1", mac(1), None);
    let discover = words(mac(1), MessageType::Discover).pxe(0);
    let request = |site: &mut Site, class: &[u8]| {
        let taken = words(mac(1), MessageType::Request).requested(ip(50)).server(ip(254));
        site.say(&taken.pxe(0).with(77, class));
    };
    for boot in 0..3 {
        let offer = site.say(&discover);
        assert!(!answer(&offer).file.is_empty(), "boot {boot}: {:?}", why(&offer));
        request(&mut site, b"");
        site.later(1);
        // The loader is fetched; then iPXE asks once more, takes the address, and its script is no file of the ROM's offer.
        let sighting = Sighting {
            mac: mac(1),
            firmware: None,
            loader: true,
            asked: site.now,
            at: site.now,
        };
        Arc::make_mut(&mut site.world.installs)
            .sightings
            .insert(ip(50), sighting);
        site.later(2);
        request(&mut site, b"iPXE");
        site.later(120);
    }
}

#[test]
fn the_servers_own_interface_and_group_addresses_get_nothing() {
    let mut site = site();
    let own = site.link.mac.unwrap();
    for mac in [own, Mac::new([1, 0, 0, 0, 0, 1]), Mac::new([0; 6])] {
        let outcome = site.say(&words(mac, MessageType::Discover));
        assert!(outcome.reply.is_none() && why(&outcome).iter().any(|line| line.contains("not answered")));
    }
}
