//! Relays and options: RFC 3046, 3527, 5107, 3396, 2132, 4578 and 6842, each clause that a reply could break.

use super::world::{SERVER, Site, answer, mac, subnet, why, words};
use cordwainer::config::DhcpMode;
use cordwainer::dhcp::{Destination, MessageType, wall};
use cordwainer::model::{LeaseState, Subnet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);

/// A subnet 10.N.0.0/16 whose relay is [`RELAY`].
fn far(number: u8) -> Subnet {
    let mut far = subnet();
    far.network = format!("10.{number}.0.0/16").parse().unwrap();
    far.pool = Some(format!("10.{number}.9.1-10.{number}.9.99").parse().unwrap());
    far.router = Some(Ipv4Addr::new(10, number, 0, 1));
    far.relays = vec![RELAY];
    far
}

fn site(subnets: impl IntoIterator<Item = Subnet>) -> Site {
    let mut site = Site::new(DhcpMode::Authoritative);
    Arc::make_mut(&mut site.world.config).subnets.extend(subnets);
    site
}

fn sub(code: u8, value: &[u8]) -> Vec<u8> {
    [&[code, u8::try_from(value.len()).unwrap()], value].concat()
}

#[test]
fn the_link_that_the_relay_selects_counts_and_the_answer_goes_to_the_relay() {
    // RFC 3527: giaddr is the relay's own, 82.5 the client's link.
    let mut site = site([far(1), far(2)]);
    let asked = |option: &[u8]| words(mac(1), MessageType::Discover).relayed(RELAY).with(82, option);
    assert_eq!(answer(&site.say(&asked(&[]))).yiaddr.octets()[..2], [10, 1]);
    let selecting = [sub(9, b"v"), sub(5, &[10, 2, 0, 0]), sub(1, b"c")].concat();
    let outcome = site.say(&asked(&selecting));
    let offer = answer(&outcome);
    assert_eq!(offer.yiaddr.octets()[..2], [10, 2]);
    assert_eq!(offer.option(3), Some(&[10, 2, 0, 1][..]), "the router of that link");
    assert_eq!(offer.option(82), Some(selecting.as_slice()), "as it came, in its order");
    assert_eq!(
        outcome.reply.unwrap().destination,
        Destination::Relay(SocketAddrV4::new(RELAY, 67))
    );
    for (link, reason) in [
        ([10, 3, 0, 0], "selects the link of 10.3.0.0"),
        ([192, 168, 77, 0], "selects the link of 192.168.77.0"),
    ] {
        let nowhere = site.say(&asked(&sub(5, &link)));
        assert!(nowhere.reply.is_none(), "no [[subnet]] there lists the relay");
        assert!(
            why(&nowhere).iter().any(|line| line.contains(reason)),
            "{:?}",
            why(&nowhere)
        );
    }
}

#[test]
fn a_relay_that_could_mean_two_networks_is_told_to_say_which() {
    let mut site = site([far(2), far(3)]);
    let discover = words(mac(1), MessageType::Discover).relayed(RELAY);
    let unsure = site.say(&discover);
    assert!(unsure.reply.is_none());
    assert!(
        why(&unsure)
            .iter()
            .any(|line| line.contains("listed by several [[subnet]]s"))
    );
    answer(&site.say(&discover.clone().with(82, sub(5, &[10, 3, 0, 0]))));
    // On one link there is nothing to choose.
    for subnet in &mut Arc::make_mut(&mut site.world.config).subnets[1..] {
        subnet.shared = Some("link".parse().unwrap());
    }
    answer(&site.say(&discover));
}

#[test]
fn a_relay_that_stands_for_the_server_is_its_identity() {
    // RFC 5107: what 82.11 says goes out as option 54, comes back as our name, and is only ever believed of a relay that is listed.
    let mut site = site([far(1)]);
    let stand_in = Ipv4Addr::new(10, 1, 0, 1);
    let option = [sub(1, b"port 7"), sub(11, &stand_in.octets())].concat();
    let relayed = |message| words(mac(1), message).relayed(RELAY).with(82, option.as_slice());
    let offered = site.say(&relayed(MessageType::Discover));
    let offer = answer(&offered);
    assert_eq!(offer.server_id(), Some(stand_in));
    assert_eq!(offered.reply.unwrap().source, SERVER, "the packet still comes from us");
    assert!(offer.siaddr.is_unspecified() || offer.siaddr == SERVER);
    let request = relayed(MessageType::Request).requested(offer.yiaddr).server(stand_in);
    let ack = answer(&site.say(&request));
    assert_eq!(
        (ack.message(), ack.server_id()),
        (Some(MessageType::Ack), Some(stand_in))
    );
    // The renewal goes to the stand-in, and so by the relay; it is answered to the relay.
    let renewal = site.say(&relayed(MessageType::Request).from(offer.yiaddr));
    assert_eq!(answer(&renewal).server_id(), Some(stand_in));
    assert!(matches!(renewal.reply.unwrap().destination, Destination::Relay(_)));
    // Whoever is not behind the relay takes another server's offer by that name.
    let direct = words(mac(2), MessageType::Request)
        .requested(Ipv4Addr::new(192, 168, 77, 150))
        .server(stand_in);
    assert!(site.say(&direct.with(82, option.as_slice())).reply.is_none());
    let released = site.say(&relayed(MessageType::Release).from(offer.yiaddr).server(stand_in));
    assert!(released.change.is_some(), "{:?}", why(&released));
    assert_eq!(site.leases.row(offer.yiaddr).unwrap().state, LeaseState::Released);
}

#[test]
fn option_82_of_who_is_no_relay_is_neither_believed_nor_returned() {
    let mut site = site([far(1)]);
    let forged = [sub(5, &[10, 1, 0, 0]), sub(11, &[10, 1, 0, 1])].concat();
    let offer = answer(&site.say(&words(mac(1), MessageType::Discover).with(82, forged.as_slice())));
    assert_eq!(offer.yiaddr.octets()[..2], [192, 168]);
    assert_eq!((offer.option(82), offer.server_id()), (None, Some(SERVER)));
    let unlisted = words(mac(1), MessageType::Discover)
        .relayed(Ipv4Addr::new(10, 1, 1, 2))
        .with(82, forged);
    let refused = site.say(&unlisted);
    assert!(refused.reply.is_none());
    assert!(
        why(&refused)
            .iter()
            .any(|line| line.contains("relay 10.1.1.2 is in no `relays`"))
    );
}

#[test]
fn option_82_stays_last_and_whole_when_the_reply_is_full() {
    // RFC 3046 section 2.1 and RFC 3396: longer than one option, and more than one reply of 576 bytes holds beside it.
    let mut site = site([far(1)]);
    Arc::make_mut(&mut site.world.config).subnets[1].dns = vec![RELAY; 20];
    let halves = [sub(1, &[7; 150]), sub(2, &[9; 140])];
    let discover = words(mac(1), MessageType::Discover).relayed(RELAY);
    let discover = halves
        .iter()
        .fold(discover, |words, half| words.with(82, half.as_slice()));
    let bytes = site.say(&discover).reply.unwrap().bytes;
    assert!(bytes.len() <= 548);
    let offer = wall::parse(&bytes).unwrap();
    assert_eq!(offer.option(82), Some(halves.concat().as_slice()));
    let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
    // 255 bytes and 39, each with its code and length: nothing stands behind them.
    assert_eq!(bytes[end - 41..end - 39], [82, 39]);
    assert_eq!(bytes[end - 298..end - 296], [82, 255]);
    assert!(offer.lease_seconds().is_some() && offer.server_id().is_some());
}

#[test]
fn the_client_says_how_long_a_reply_may_be_and_in_what_order() {
    let mut site = site([]);
    Arc::make_mut(&mut site.world.config).subnets[0].dns = vec![SERVER; 60];
    let length = |site: &mut Site, size: Option<u16>| {
        let mut discover = words(mac(1), MessageType::Discover)
            .pxe(0)
            .with(55, [15, 6, 3, 66, 67])
            .with(97, [0; 17]);
        if let Some(size) = size {
            discover = discover.with(57, size.to_be_bytes());
        }
        let reply = site.say(&discover).reply.unwrap();
        let read = wall::parse(&reply.bytes).unwrap();
        assert_eq!(
            read.option(97),
            Some(&[0; 17][..]),
            "RFC 4578: the client drops an offer without its own identifier"
        );
        assert_eq!(read.file, b"undionly.kpxe");
        (reply.bytes.len(), read.option(6).is_some())
    };
    assert_eq!(
        length(&mut site, Some(68)),
        length(&mut site, None),
        "RFC 2132 section 9.10: 576 is the least"
    );
    assert!(length(&mut site, None).0 <= 548);
    assert!(length(&mut site, Some(1472)).1 && length(&mut site, Some(1472)).0 > 480);
    let reply = site
        .say(&words(mac(2), MessageType::Discover).with(55, [28, 15, 3, 1]))
        .reply
        .unwrap();
    let place = |code: u8, first: &[u8]| {
        let wanted = [&[code, u8::try_from(first.len()).unwrap()], first].concat();
        reply
            .bytes
            .windows(wanted.len())
            .position(|window| window == wanted)
            .unwrap()
    };
    let order = [
        place(53, &[2]),
        place(1, &[255, 255, 255, 0]),
        place(28, &[192, 168, 77, 255]),
        place(15, b"example.org"),
        place(3, &SERVER.octets()),
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert!(reply.bytes.len() >= 300, "RFC 951");
}

#[test]
fn the_client_identifier_comes_back_in_every_answer() {
    // RFC 6842, for clients that tell their own questions apart by it.
    let id = [255, 1, 2, 3, 4, 0, 2, 0, 0];
    let mut site = site([]);
    let offer = answer(&site.say(&words(mac(1), MessageType::Discover).with(61, id)));
    assert_eq!(offer.option(61), Some(&id[..]));
    let request = words(mac(1), MessageType::Request).with(61, id).server(SERVER);
    assert_eq!(
        answer(&site.say(&request.clone().requested(offer.yiaddr))).option(61),
        Some(&id[..])
    );
    let nak = answer(&site.say(&request.requested(Ipv4Addr::new(10, 0, 0, 9))));
    assert_eq!((nak.message(), nak.option(61)), (Some(MessageType::Nak), Some(&id[..])));
    assert_eq!(
        answer(&site.say(&words(mac(1), MessageType::Discover))).option(61),
        None
    );
    let rom = answer(&site.say(&words(mac(1), MessageType::Discover).pxe(0).with(61, id)));
    assert_eq!(rom.option(61), Some(&id[..]));
}

#[test]
fn a_long_option_is_read_across_its_pieces_and_fields() {
    // RFC 3396: the class of a PXE client in two pieces, and its architecture in `file` by option 52.
    let mut site = site([]);
    let class = b"PXEClient:Arch:00000:UNDI:002001";
    let split = words(mac(1), MessageType::Discover)
        .with(60, &class[..4])
        .with(52, [1])
        .with(60, &class[4..]);
    let mut bytes = split.bytes();
    bytes[108..113].copy_from_slice(&[93, 2, 0, 0, 255]);
    let offer = answer(&site.ask(&wall::parse(&bytes).unwrap()));
    assert_eq!(offer.file, b"undionly.kpxe");
}
