//! Tests of `edit`: what is written, what is refused and in which words.

use super::*;
use crate::model::{ArmId, Kind::Distro, Kind::Profile, Kind::System, Mac, Timestamp};

fn fields(pairs: &[(&str, &str)]) -> Vec<Assignment> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn add(kind: Kind, of: &str, pairs: &[(&str, &str)]) -> Change {
    Change::Add {
        kind,
        name: name(of),
        fields: fields(pairs),
    }
}

fn edited(kind: Kind, of: &str, pairs: &[(&str, &str)]) -> Change {
    Change::Edit {
        kind,
        name: name(of),
        fields: fields(pairs),
        in_place: false,
    }
}

fn done(inventory: &mut Inventory, change: Change) -> Result<(), Refused> {
    for row in edit(inventory, change)? {
        inventory.apply(row);
    }
    Ok(())
}

/// A distro, a profile, a sub-profile, two systems.
fn lab() -> Inventory {
    let mut inventory = Inventory::default();
    for change in [
        add(
            Distro,
            "rocky9",
            &[("kernel", "vmlinuz"), ("initrd", "initrd.img, extra.img")],
        ),
        add(Profile, "base", &[("distro", "rocky9"), ("ksmeta", "a=1 b=2")]),
        add(Profile, "web", &[("parent", "base")]),
        add(
            System,
            "web1",
            &[
                ("profile", "web"),
                ("mac-address", "52-54-00-00-00-01"),
                ("ip_address", "192.0.2.1"),
                ("hostname", "web1"),
            ],
        ),
        add(System, "web2", &[("profile", "base"), ("mac", "525400000002")]),
    ] {
        done(&mut inventory, change).unwrap();
    }
    inventory
}

#[test]
fn typed_fields_become_values() {
    let lab = lab();
    assert_eq!(lab.distro("rocky9").unwrap().initrd, ["initrd.img", "extra.img"]);
    let system = lab.system_by_mac(Mac::new([0x52, 0x54, 0, 0, 0, 1])).unwrap();
    assert_eq!(system.name.as_str(), "web1");
    assert!(system.interfaces.contains_key("default"));
}

#[test]
fn dictionaries_change_whole_or_in_place() {
    let mut lab = lab();
    let in_place = |text: &str| Change::Edit {
        kind: Profile,
        name: name("base"),
        fields: fields(&[("autoinstall_meta", text)]),
        in_place: true,
    };
    done(&mut lab, in_place("b=3 c !a")).unwrap();
    assert_eq!(lab.profile("base").unwrap().autoinstall_meta.to_string(), "b=3 c");
    done(&mut lab, edited(Profile, "base", &[("ks_meta", "!x y")])).unwrap();
    assert_eq!(lab.profile("base").unwrap().autoinstall_meta.to_string(), "!x y");
    done(&mut lab, edited(Profile, "base", &[("ks_meta", "<<inherit>>")])).unwrap();
    assert!(lab.profile("base").unwrap().autoinstall_meta.is_empty());
}

#[test]
fn interfaces_are_selected_wherever_the_option_stands() {
    let mut lab = lab();
    let mac = "52:54:00:00:00:11";
    done(
        &mut lab,
        edited(
            System,
            "web2",
            &[("mac_address", mac), ("interface", "eth1"), ("static", "1")],
        ),
    )
    .unwrap();
    let eth1 = lab.system("web2").unwrap().interfaces.get("eth1").unwrap().clone();
    assert_eq!((eth1.mac_address, eth1.is_static), (Some(mac.parse().unwrap()), true));
    // Two interfaces, one of them `default`: that one is meant.
    done(&mut lab, edited(System, "web2", &[("ip", "192.0.2.9")])).unwrap();
    assert_eq!(
        lab.system_by_address([192, 0, 2, 9].into()).unwrap().name.as_str(),
        "web2"
    );
    done(
        &mut lab,
        edited(
            System,
            "web2",
            &[("rename_interface", "eth0"), ("interface", "default")],
        ),
    )
    .unwrap();
    let two = edit(&lab, edited(System, "web2", &[("netmask", "255.255.255.0")])).unwrap_err();
    assert!(
        two.to_string().contains("eth0, eth1; say which with --interface"),
        "{two}"
    );
    done(&mut lab, edited(System, "web2", &[("delete_interface", "eth0")])).unwrap();
    done(
        &mut lab,
        edited(System, "web2", &[("interface", "eth1"), ("delete-interface", "1")]),
    )
    .unwrap();
    assert!(lab.system("web2").unwrap().interfaces.is_empty());
    assert!(lab.system_by_mac(mac.parse().unwrap()).is_none());
}

#[test]
fn nothing_is_claimed_twice() {
    let lab = lab();
    for (field, text, what) in [
        ("mac_address", "52:54:00:00:00:01", "MAC 52:54:00:00:00:01"),
        ("ip_address", "192.0.2.1", "address 192.0.2.1"),
        ("hostname", "WEB1", "host name web1"),
        ("dns_name", "web1", "host name web1"),
    ] {
        let refused = edit(&lab, edited(System, "web2", &[(field, text)])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("{what} belongs to system `web1`; take it from there first")
        );
    }
    let both = [
        ("interface", "a"),
        ("mac", "52:54:00:00:00:09"),
        ("interface", "b"),
        ("mac", "52:54:00:00:00:09"),
    ];
    let refused = edit(&lab, edited(System, "web2", &both)).unwrap_err();
    assert!(refused.to_string().contains("on the interfaces a and b"), "{refused}");
}

#[test]
fn identifiers_are_read_in_both_forms_found_and_claimed_once() {
    let mut lab = lab();
    let at = |fields: &[(&str, &str)]| edited(System, "web1", fields);
    done(
        &mut lab,
        at(&[
            ("client-id", "0x01:02:ab"),
            ("relay-circuit-id", "ge-0/0/7"),
            ("relay_remote_id", "sw1"),
        ]),
    )
    .unwrap();
    let octets = |bytes: &[u8]| crate::model::Octets::new(bytes).unwrap();
    let port = |circuit: &[u8], remote: Option<&[u8]>| crate::model::RelayPort {
        circuit: Some(octets(circuit)),
        remote: remote.map(octets),
    };
    let found = |lab: &Inventory| {
        let client = lab
            .interface_by_client_id(&octets(&[1, 2, 0xab]))
            .map(|(system, _)| system.name.to_string());
        let port = lab
            .interface_by_relay_port(&port(b"ge-0/0/7", Some(b"sw1")))
            .map(|(system, _)| system.name.to_string());
        (client, port)
    };
    let web1 = Some("web1".to_owned());
    assert_eq!(found(&lab), (web1.clone(), web1));
    assert!(
        lab.interface_by_relay_port(&port(b"ge-0/0/7", None)).is_none(),
        "exactly this port"
    );
    for (fields, what) in [
        (&[("client_id", "0x0102ab")][..], "client identifier 0x0102ab"),
        (
            &[("relay_circuit_id", "ge-0/0/7"), ("relay_remote_id", "sw1")],
            "relay circuit-id ge-0/0/7 of remote-id sw1",
        ),
    ] {
        let refused = edit(&lab, edited(System, "web2", fields)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("{what} belongs to system `web1`; take it from there first")
        );
    }
    done(&mut lab, edited(System, "web2", &[("relay_circuit_id", "ge-0/0/7")])).unwrap();
    for (text, why) in [("0x1", "is not hex"), (&"x".repeat(256), "256 bytes are no identifier")] {
        let refused = edit(&lab, at(&[("client_id", text)])).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let both = [
        ("interface", "a"),
        ("client_id", "me"),
        ("interface", "b"),
        ("client_id", "me"),
    ];
    let refused = edit(&lab, edited(System, "web2", &both)).unwrap_err();
    assert!(
        refused.to_string().contains("`me` is on the interfaces a and b"),
        "{refused}"
    );
    // A document reads back, a copy is another machine, and what is taken out is found no more.
    let row = lab.row(System, "web1").unwrap();
    let printed = crate::inventory::document::print([&row]);
    assert!(
        printed.contains("client_id = \"0x0102ab\"") && printed.contains("relay_circuit_id = \"ge-0/0/7\""),
        "{printed}"
    );
    assert_eq!(crate::inventory::document::parse(&printed, "f").unwrap().rows, [row]);
    let copy = Change::Copy {
        kind: System,
        name: name("web1"),
        new_name: name("web9"),
        fields: Vec::new(),
    };
    done(&mut lab, copy).unwrap();
    done(
        &mut lab,
        at(&[("client_id", ""), ("relay_circuit_id", ""), ("relay_remote_id", "")]),
    )
    .unwrap();
    assert_eq!(found(&lab), (None, None));
}

#[test]
fn two_systems_swap_their_addresses_in_one_go_only() {
    let lab = lab();
    let (first, second) = (
        edited(System, "web1", &[("mac", "52:54:00:00:00:02")]),
        edited(System, "web2", &[("mac", "52:54:00:00:00:01")]),
    );
    assert!(edit(&lab, first.clone()).is_err());
    let mut after = lab.clone();
    // The rows reach readers in either order.
    let mut rows = edit_all(&lab, [first, second]).unwrap();
    rows.reverse();
    rows.into_iter().for_each(|row| after.apply(row));
    assert_eq!(
        after
            .system_by_mac(Mac::new([0x52, 0x54, 0, 0, 0, 2]))
            .unwrap()
            .name
            .as_str(),
        "web1"
    );
    assert_eq!(
        after
            .system_by_mac(Mac::new([0x52, 0x54, 0, 0, 0, 1]))
            .unwrap()
            .name
            .as_str(),
        "web2"
    );
    let same = "52:54:00:00:00:33";
    let twins = ["web1", "web2"].map(|of| edited(System, of, &[("mac", same)]));
    assert!(matches!(edit_all(&lab, twins), Err(Refused::Claimed { .. })));
}

#[test]
fn children_follow_a_rename() {
    let mut lab = lab();
    for (kind, old, new) in [
        (Distro, "rocky9", "rocky"),
        (Profile, "base", "ground"),
        (System, "web1", "www"),
    ] {
        let change = Change::Rename {
            kind,
            name: name(old),
            new_name: name(new),
        };
        done(&mut lab, change).unwrap();
    }
    assert_eq!(
        lab.profile("ground").unwrap().parent,
        crate::model::Parent::Distro(name("rocky"))
    );
    assert_eq!(
        lab.profile("web").unwrap().parent,
        crate::model::Parent::Profile(name("ground"))
    );
    assert_eq!(lab.system("web2").unwrap().profile, Some(name("ground")));
    assert_eq!(
        lab.system_by_hostname(&"web1".parse().unwrap()).unwrap().name,
        name("www")
    );
    assert!(lab.distro("rocky9").is_none() && lab.system("web1").is_none());
    let taken = Change::Rename {
        kind: System,
        name: name("www"),
        new_name: name("web2"),
    };
    assert!(matches!(edit(&lab, taken), Err(Refused::Exists { .. })));
}

#[test]
fn a_copy_has_nothing_that_one_system_only_may_have() {
    let mut lab = lab();
    done(&mut lab, edited(System, "web1", &[("netmask", "255.255.255.0")])).unwrap();
    let change = Change::Copy {
        kind: System,
        name: name("web1"),
        new_name: name("web3"),
        fields: fields(&[("mac", "52:54:00:00:00:03")]),
    };
    done(&mut lab, change).unwrap();
    let copy = lab.system("web3").unwrap();
    let interface = copy.interfaces.get("default").unwrap();
    assert_eq!((copy.hostname.is_none(), interface.ip_address), (true, None));
    assert!(interface.netmask.is_some() && interface.mac_address.is_some());
}

#[test]
fn removal_needs_leave_to_take_the_children() {
    let mut lab = lab();
    let remove = |recursive| Change::Remove {
        kind: Distro,
        name: name("rocky9"),
        recursive,
    };
    let refused = edit(&lab, remove(false)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "distro `rocky9` has profile `base`; remove them first, or give --recursive"
    );
    done(&mut lab, remove(true)).unwrap();
    assert_eq!((lab.profiles().count(), lab.system_count()), (0, 0));
    assert!(lab.system_by_mac(Mac::new([0x52, 0x54, 0, 0, 0, 1])).is_none());
}

#[test]
fn refusals_name_thing_and_remedy() {
    let lab = lab();
    for (change, words) in [
        (add(System, "web1", &[("profile", "base")]), "system `web1` exists"),
        (add(System, "x", &[]), "system `x` needs profile; give --profile"),
        (add(Profile, "x", &[]), "give --distro"),
        (add(Distro, "x", &[]), "give --kernel"),
        (
            add(Profile, "x", &[("distro", "rocky9"), ("parent", "base")]),
            "not on both",
        ),
        (
            add(Profile, "x", &[("distro", "rokcy9")]),
            "there is no distro `rokcy9`; did you mean `rocky9`?",
        ),
        (
            edited(System, "wbe1", &[]),
            "there is no system `wbe1`; did you mean `web1`?",
        ),
        (edited(System, "web1", &[("profile", "bsae")]), "did you mean `base`?"),
        (
            edited(System, "web1", &[("kernel-optoins", "x")]),
            "did you mean `kernel_options`?",
        ),
        (edited(System, "web1", &[("name", "x")]), "rename"),
        (edited(System, "web1", &[("netboot-enabled", "1")]), "system arm"),
        (
            edited(System, "web1", &[("mac", "52:54:00")]),
            "mac_address: `52:54:00` is not a MAC address",
        ),
        (edited(System, "web1", &[("mac", "ff:ff:ff:ff:ff:ff")]), "group address"),
        (edited(System, "web1", &[("gateway", "0.0.0.0")]), "gateway: `0.0.0.0`"),
        (
            edited(System, "web1", &[("netmask", "255.0.255.0")]),
            "is not a netmask",
        ),
        (
            edited(System, "web1", &[("kickstart", "../etc/shadow")]),
            "below kickstarts/",
        ),
        (edited(System, "web1", &[("comment", "a\nb")]), "control characters"),
        (edited(System, "web1", &[("kopts", "a=\"b")]), "a quote is not closed"),
        (edited(System, "web1", &[("proxy", "squid")]), "write its URL"),
        (edited(System, "web1", &[("static", "maybe")]), "write 1 or 0"),
        (
            edited(Profile, "base", &[("boot_loaders", "lilo")]),
            "write ipxe, grub or pxe",
        ),
        (
            edited(Profile, "base", &[("parent", "web")]),
            "would be its own ancestor",
        ),
        (
            edited(Profile, "base", &[("parent", "base")]),
            "would be its own ancestor",
        ),
    ] {
        let refused = edit(&lab, change.clone()).unwrap_err().to_string();
        assert!(refused.contains(words), "{change:?}\n{refused}");
    }
}

fn arming(of: &str, id: &str, again: bool, state: State) -> Change {
    Change::Arm {
        arm: Arm {
            id: ArmId(id.to_owned()),
            system: name(of),
            at: Timestamp(1),
            until: Timestamp(1000),
            by: "root".to_owned(),
        },
        again,
        state,
    }
}

#[test]
fn only_a_fresh_wish_arms() {
    let mut lab = lab();
    done(&mut lab, arming("web1", "a1", false, State::Idle)).unwrap();
    for state in [
        State::Armed,
        State::Claimed,
        State::Installing,
        State::Installed,
        State::Failed,
        State::Held,
    ] {
        let refused = edit(&lab, arming("web1", "a2", false, state)).unwrap_err();
        assert!(refused.to_string().contains("--again"), "{refused}");
        assert!(edit(&lab, arming("web1", "a2", true, state)).is_ok());
    }
    done(&mut lab, edited(System, "web2", &[("mac", "")])).unwrap();
    let refused = edit(&lab, arming("web2", "a3", true, State::Idle)).unwrap_err();
    assert!(refused.to_string().contains("has no MAC"), "{refused}");
    let copied = Change::Put(Row::Arm(lab.arm("web1").unwrap().clone()));
    assert!(matches!(edit(&lab, copied), Err(Refused::NotArmed { .. })));
    let disarm = Change::Disarm { system: name("web1") };
    done(&mut lab, disarm.clone()).unwrap();
    assert!(lab.arm("web1").is_none());
    assert!(edit(&lab, disarm).unwrap().is_empty());
}

#[test]
fn a_broken_profile_is_not_armed() {
    let mut lab = lab();
    lab.remove(Distro, "rocky9");
    let refused = edit(&lab, arming("web1", "a", false, State::Idle)).unwrap_err();
    assert!(refused.to_string().contains("there is no distro `rocky9`"), "{refused}");
}

#[test]
fn neither_rename_nor_removal_leaves_an_arming_behind() {
    for change in [
        Change::Rename {
            kind: System,
            name: name("web1"),
            new_name: name("www"),
        },
        Change::Remove {
            kind: System,
            name: name("web1"),
            recursive: false,
        },
    ] {
        let mut lab = lab();
        done(&mut lab, arming("web1", "a1", false, State::Idle)).unwrap();
        done(&mut lab, change).unwrap();
        assert_eq!(lab.arms().count(), 0);
    }
}

const BOND: [&[(&str, &str)]; 3] = [
    &[
        ("interface", "bond0"),
        ("interface_type", "bond"),
        ("bonding-opts", "mode=4 miimon=100"),
    ],
    &[
        ("interface", "eth0"),
        ("mac", "525400000011"),
        ("interface-type", "bond_slave"),
        ("interface-master", "bond0"),
    ],
    &[
        ("interface", "bond0.100"),
        ("static", "1"),
        ("ip", "192.0.2.9"),
        ("netmask", "255.255.255.0"),
        ("static-routes", "10.0.0.0/8:192.0.2.1, 172.16.0.0/12:192.0.2.2"),
        ("mtu", "9000"),
        ("management", "1"),
    ],
];

fn bonded() -> Inventory {
    let mut lab = lab();
    for pairs in BOND {
        done(&mut lab, edited(System, "web1", pairs)).unwrap();
    }
    lab
}

#[test]
fn interfaces_hang_together_only_as_they_can() {
    for (pairs, said) in [
        (
            &[("interface", "eth1"), ("interface_type", "bond_slave")][..],
            "nothing says of what",
        ),
        (
            &[
                ("interface", "eth1"),
                ("interface_type", "bond_slave"),
                ("interface_master", "bond9"),
            ],
            "which the system does not have; add it first: --interface bond9 --interface-type bond",
        ),
        (
            &[
                ("interface", "eth1"),
                ("interface_type", "bridge_slave"),
                ("interface_master", "bond0"),
            ],
            "a bridge_slave of `bond0`, which is a bond; add it first",
        ),
        (
            &[("interface", "eth1"), ("interface_master", "bond0")],
            "so its type is bond_slave",
        ),
        (
            &[("interface", "eth0"), ("static", "1")],
            "is part of `bond0`, which has the address of both",
        ),
        (
            &[("interface", "eth9.7"), ("static", "0")],
            "is VLAN 7 of `eth9`, which the system does not have",
        ),
        (&[("interface", "eth1"), ("bonding_opts", "mode=4")], "is no bond"),
        (&[("interface", "eth1"), ("bridge_opts", "stp=no")], "is no bridge"),
        (
            &[("interface", "bond0"), ("bonding_opts", "moed=4")],
            "`moed` is no option of a bond",
        ),
        (
            &[("interface", "a-very-long-bond"), ("interface_type", "bond")],
            "is no name that Linux gives",
        ),
        (
            &[("interface", "eth1"), ("interface_type", "trunk")],
            "is no type of an interface",
        ),
        (&[("interface", "eth1"), ("mtu", "100")], "is no MTU"),
        (
            &[("interface", "eth1"), ("static_routes", "default:192.0.2.1")],
            "is no route",
        ),
        (&[("delete_interface", "bond0")], "which the system does not have"),
    ] {
        let error = edit(&bonded(), edited(System, "web1", pairs)).unwrap_err().to_string();
        assert!(error.contains(said), "{pairs:?}: {error}");
    }
    let mut lab = bonded();
    let bridge = [("interface", "br0"), ("interface_type", "bridge")];
    done(&mut lab, edited(System, "web1", &bridge)).unwrap();
    let around = [
        ("interface", "br0.5"),
        ("interface_type", "bridge_slave"),
        ("interface_master", "br0"),
    ];
    let error = edit(&lab, edited(System, "web1", &around)).unwrap_err().to_string();
    assert!(error.contains("would stand on itself"), "{error}");
}

#[test]
fn what_belongs_to_an_interface_follows_its_new_name() {
    let mut lab = bonded();
    let renaming = [("interface", "bond0"), ("rename_interface", "uplink")];
    done(&mut lab, edited(System, "web1", &renaming)).unwrap();
    let system = lab.system("web1").unwrap();
    let names: Vec<&str> = system.interfaces.keys().map(Name::as_str).collect();
    assert_eq!(names, ["default", "eth0", "uplink", "uplink.100"]);
    assert_eq!(system.interfaces["eth0"].interface_master, Some(name("uplink")));
}

#[test]
fn a_bond_that_is_not_complete_is_stored_and_not_armed() {
    let mut lab = lab();
    done(&mut lab, edited(System, "web1", BOND[0])).unwrap();
    let error = edit(&lab, arming("web1", "a1", false, State::Idle))
        .unwrap_err()
        .to_string();
    assert!(error.contains("its bond `bond0` has no slaves"), "{error}");
    assert!(edit(&bonded(), arming("web1", "a1", false, State::Idle)).is_ok());
}

#[test]
fn every_field_shows_what_sets_it_again() {
    let lab = bonded();
    for (kind, of) in [(Distro, "rocky9"), (Profile, "base"), (System, "web1")] {
        let row = lab.row(kind, of).unwrap();
        let mut pairs = Vec::new();
        for value in crate::inventory::field_values(&row) {
            pairs.extend(
                value
                    .interface
                    .map(|interface| ("interface".to_owned(), interface.to_string())),
            );
            let text = value.value.to_string();
            // Of `distro` and `parent` one only is set.
            if value.field != "name" && !(text.is_empty() && matches!(value.field, "distro" | "parent")) {
                pairs.push((value.field.to_owned(), text));
            }
        }
        let change = Change::Edit {
            kind,
            name: name(of),
            fields: pairs,
            in_place: false,
        };
        assert_eq!(edit(&lab, change).unwrap(), vec![RowChange::Put(row)]);
    }
}

#[test]
fn a_system_stands_on_a_profile_or_on_an_image() {
    let mut lab = lab();
    let image = [("image_type", "iso"), ("file", "/srv/rescue.iso"), ("os-version", "12")];
    done(&mut lab, add(Kind::Image, "rescue", &image)).unwrap();
    done(&mut lab, add(System, "box", &[("image", "rescue"), ("profile", "")])).unwrap();
    assert_eq!(lab.system("box").unwrap().base(), Some((Kind::Image, &name("rescue"))));
    // Who is given the other one leaves the first.
    done(&mut lab, edited(System, "box", &[("profile", "web")])).unwrap();
    assert_eq!(lab.system("box").unwrap().base(), Some((Profile, &name("web"))));
    done(&mut lab, edited(System, "box", &[("image", "rescue")])).unwrap();
    assert_eq!(lab.system("box").unwrap().profile, None);
    for (change, words) in [
        (
            add(System, "b", &[("profile", "web"), ("image", "rescue")]),
            "a system stands on a profile or on an image, not on both; give one of them",
        ),
        (
            edited(System, "web1", &[("profile", "web"), ("image", "rescue")]),
            "not on both; give one of them",
        ),
        (
            add(System, "b", &[]),
            "needs profile; give --profile, or --image with the image that it boots",
        ),
        (edited(System, "box", &[("image", "")]), "needs profile"),
        (
            add(System, "b", &[("image", "rescu")]),
            "there is no image `rescu`; did you mean `rescue`?",
        ),
        (add(Kind::Image, "i", &[("image_type", "floppy")]), "use direct, iso"),
        (
            add(Kind::Image, "i", &[("file", "nas:/iso/x.iso")]),
            "is no file of this server; write its path from /",
        ),
        (
            add(Kind::Image, "i", &[("file", "/srv/../etc/shadow")]),
            "climbs with ..",
        ),
        (add(Kind::Image, "i", &[("menu", "none")]), "there is no menu `none`"),
        (
            Change::Remove {
                kind: Kind::Image,
                name: name("rescue"),
                recursive: false,
            },
            "image `rescue` has system `box`; remove them first, or give --recursive",
        ),
    ] {
        let why = edit(&lab, change).unwrap_err().to_string();
        assert!(why.contains(words), "{why}");
    }
    let renamed = Change::Rename {
        kind: Kind::Image,
        name: name("rescue"),
        new_name: name("first-aid"),
    };
    done(&mut lab, renamed).unwrap();
    assert_eq!(lab.system("box").unwrap().image, Some(name("first-aid")));
    let resolved = crate::inventory::resolve_system(&lab, "box").unwrap();
    assert_eq!(resolved.image.unwrap().file, "/srv/rescue.iso");
    assert!(resolved.profiles.is_empty() && resolved.autoinstall.is_none());
    let gone = Change::Remove {
        kind: Kind::Image,
        name: name("first-aid"),
        recursive: true,
    };
    done(&mut lab, gone).unwrap();
    assert!(lab.system("box").is_none() && lab.image("first-aid").is_none());
}

#[test]
fn an_image_gives_its_systems_what_a_guest_of_it_gets() {
    let mut lab = lab();
    let menu = add(Kind::Menu, "tools", &[]);
    let image = [
        ("virt_ram", "512"),
        ("virt_cpus", "1"),
        ("kopts", "a=1 b=2"),
        ("menu", "tools"),
    ];
    for change in [
        menu,
        add(Kind::Image, "memtest", &image),
        add(
            System,
            "box",
            &[("image", "memtest"), ("virt_ram", "1024"), ("kopts", "!a c")],
        ),
    ] {
        done(&mut lab, change).unwrap();
    }
    let resolved = crate::inventory::resolve_system(&lab, "box").unwrap();
    assert_eq!((resolved.virt.ram, resolved.virt.cpus), (Some(1024), Some(1)));
    assert_eq!(resolved.kernel_options.to_string(), "b=2 c");
    let removed = &resolved.kernel_options.removed[0];
    assert_eq!(removed.set_by.to_string(), "image memtest");
    let gone = Change::Remove {
        kind: Kind::Menu,
        name: name("tools"),
        recursive: false,
    };
    done(&mut lab, gone).unwrap();
    assert_eq!(lab.image("memtest").unwrap().menu, None);
}
