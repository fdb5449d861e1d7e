//! The worlds that targets run in, built once per process and cloned by reference: a few machines in all states, and secrets to guard.

use super::canary::{ARMS, HASH, key};
use cordwainer::assets::watch::Watcher;
use cordwainer::assets::{Asset, Assets, Media};
use cordwainer::boot::World;
use cordwainer::config::{Config, DhcpMode, Unknown};
use cordwainer::dhcp::Link;
use cordwainer::install::{ArmId, Installation, Installs, Sighting, Stage, State};
use cordwainer::inventory::{Inventory, Row};
use cordwainer::model::{
    Advertise, Arm, Binding, Defaults, Distro, Firmware, Mac, Profile, Secret, Span, Subnet, System, Timestamp,
};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

pub const NOW: Timestamp = Timestamp(1_795_000_000_000);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// The relay of the second subnet.
pub const RELAY: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);

/// `52:54:00:00:00:NN`: web1 (1) is armed, web2 (2) is not, web3 (3) is installing, web4 (4) is installed.
pub const fn mac(last: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, last])
}

/// The address that our lease gives machine `last`.
pub const fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, 20u8.wrapping_add(last))
}

pub fn subnets() -> Vec<Subnet> {
    let subnet = |network: &str, pool: Option<&str>, router, relays, binding| Subnet {
        network: network.parse().unwrap(),
        pool: pool.map(|pool| pool.parse().unwrap()),
        router: Some(router),
        dns: vec![SERVER, Ipv4Addr::new(192, 0, 2, 53)],
        domain: Some("example.org".into()),
        lease: Span::seconds(3600),
        relays,
        binding,
        router_advertisements: Advertise::Auto,
        probe: true,
        shared: None,
    };
    vec![
        // The pool holds the server, the router of the relay, and reserved addresses; and is small enough to be used up.
        subnet(
            "192.168.77.0/24",
            Some("192.168.77.1-192.168.77.32"),
            SERVER,
            vec![Ipv4Addr::new(192, 168, 77, 5)],
            Binding::Lease,
        ),
        subnet(
            "10.5.0.0/24",
            Some("10.5.0.250-10.5.0.255"),
            RELAY,
            vec![RELAY],
            Binding::TokenOnly,
        ),
        subnet(
            "10.6.0.0/30",
            None,
            Ipv4Addr::new(10, 6, 0, 1),
            vec![RELAY],
            Binding::Neighbour,
        ),
    ]
}

pub fn link(mtu: u32) -> Link {
    Link {
        name: "eth0".into(),
        index: 2,
        addresses: vec!["192.168.77.1/24".parse().unwrap(), "172.20.0.1/16".parse().unwrap()],
        mac: Some(Mac::new([0xfe, 0x54, 0, 0xd8, 0x65, 0xc9])),
        mtu,
    }
}

pub fn defaults() -> Defaults {
    Defaults {
        ssh_authorized_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLE admin@example".into()],
        root_password_hash: Some(Secret::new(HASH.into())),
        name_servers: vec![SERVER],
        timezone: "Europe/Vienna".into(),
        locale: "en_US.UTF-8".into(),
        keyboard: "us".into(),
        ..Defaults::default()
    }
}

fn arm(id: &str, system: &str, at: Timestamp, until: i64) -> Row {
    Row::Arm(Arc::new(Arm {
        id: ArmId(id.into()),
        system: system.parse().unwrap(),
        at,
        until: Timestamp(NOW.0 + until),
        by: "admin".into(),
    }))
}

fn distro(value: Value) -> Row {
    let distro: Distro = serde_json::from_value(value).unwrap();
    Row::Distro(Arc::new(distro))
}

fn profile(value: Value) -> Row {
    let profile: Profile = serde_json::from_value(value).unwrap();
    Row::Profile(Arc::new(profile))
}

fn system(value: Value) -> Row {
    let system: System = serde_json::from_value(value).unwrap();
    Row::System(Arc::new(system))
}

fn inventory() -> Inventory {
    let mut inventory = Inventory::new(Arc::new(defaults()));
    inventory.put(distro(json!({
        "name": "rocky9", "arch": "x86_64", "breed": "redhat", "os_version": "rhel9", "signature": "redhat",
        "kernel": "images/pxeboot/vmlinuz", "initrd": ["images/pxeboot/initrd.img"],
        "tree": {"root": "/srv/rocky9", "in_place": true},
    })));
    inventory.put(distro(json!({
        "name": "debian12", "arch": "x86_64", "breed": "debian", "os_version": "12", "signature": "debian",
        "kernel": "/srv/debian/linux", "initrd": ["/srv/debian/initrd.gz"],
    })));
    inventory.put(profile(json!({"name": "base", "parent": {"distro": "rocky9"}})));
    inventory.put(profile(json!({
        "name": "web", "parent": {"profile": "base"}, "kernel_options": "console=ttyS0",
    })));
    inventory.put(profile(json!({"name": "deb", "parent": {"distro": "debian12"}})));
    for (number, name, of) in [
        (1, "web1", "web"),
        (2, "web2", "web"),
        (3, "web3", "base"),
        (4, "web4", "deb"),
    ] {
        inventory.put(system(json!({
            "name": name, "profile": of, "hostname": format!("{name}.example.org"),
            "interfaces": {"eth0": {"mac_address": mac(number), "ip_address": address(number)}},
        })));
    }
    // Reservations elsewhere: on the relayed subnet, and on the server's own address, which must never be given.
    inventory.put(system(json!({
        "name": "far", "profile": "web", "interfaces": {
            "eth0": {"mac_address": mac(5), "ip_address": "10.5.0.252"},
            "eth1": {"mac_address": mac(6), "ip_address": SERVER},
        },
    })));
    inventory.put(arm(ARMS[0], "web1", NOW, 3_600_000));
    inventory.put(arm(ARMS[1], "web3", NOW, 3_600_000));
    inventory.put(arm(ARMS[2], "web4", Timestamp(NOW.0 - 7_200_000), -3_600_000));
    inventory
}

fn installs() -> Installs {
    let mut installs = Installs::default();
    let installation = |arm: &str, system: &str, last, state| Installation {
        arm: ArmId(arm.into()),
        system: system.parse().unwrap(),
        state,
        mac: Some(mac(last)),
        bound: Some(address(last)),
        behind: false,
        stage: Some(Stage::Kernel),
        partitioned: false,
        attempts: 1,
        claimed_at: NOW,
        heard_at: NOW,
        reason: None,
    };
    installs.put(installation(ARMS[1], "web3", 3, State::Installing));
    installs.put(installation(ARMS[2], "web4", 4, State::Installed));
    for last in 1..=4 {
        installs.holders.insert(address(last), mac(last));
    }
    installs.saw(
        address(9),
        Sighting {
            mac: mac(9),
            firmware: Some(Firmware::UefiX64),
            loader: true,
            at: NOW,
            asked: NOW,
        },
    );
    installs
}

/// Loaders, and everything that is embedded; nothing of this machine.
fn assets() -> Assets {
    let nowhere = Config {
        overrides: PathBuf::from("/nonexistent"),
        ..Config::default()
    };
    let mut assets = Watcher::with_loader_paths(Arc::new(nowhere), Vec::new()).look(&Inventory::default());
    let asset = |path: &str| Asset {
        path: path.into(),
        size: 1,
        modified: 0,
    };
    for name in ["undionly.kpxe", "snponly.efi", "ipxe.efi", "pxelinux.0"] {
        assets
            .loaders
            .insert(name.into(), Arc::new(asset(&format!("/usr/lib/ipxe/{name}"))));
    }
    let media = Media {
        kernel: Ok(asset("/srv/debian/linux")),
        initrd: vec![Ok(asset("/srv/debian/initrd.gz"))],
        tree: None,
    };
    let rocky = Media {
        kernel: Err("never looked at".into()),
        initrd: Vec::new(),
        tree: Some(Ok("/srv/rocky9".into())),
    };
    assets.media.insert("debian12".parse().unwrap(), Arc::new(media));
    assets.media.insert("rocky9".parse().unwrap(), Arc::new(rocky));
    assets
}

/// The world of a server that speaks DHCP in `mode`. Cheap after the first call.
pub fn world(mode: DhcpMode) -> World {
    static WORLDS: OnceLock<[World; 3]> = OnceLock::new();
    let worlds = WORLDS.get_or_init(|| {
        let shared = World {
            config: Arc::new(Config::default()),
            inventory: Arc::new(inventory()),
            installs: Arc::new(installs()),
            assets: Arc::new(assets()),
            key: Arc::new(key()),
            now: NOW,
        };
        [DhcpMode::Authoritative, DhcpMode::Proxy, DhcpMode::Off].map(|dhcp| World {
            config: Arc::new(Config {
                dhcp,
                subnets: subnets(),
                unknown: if dhcp == DhcpMode::Proxy {
                    Unknown::Menu
                } else {
                    Unknown::Local
                },
                defaults: defaults(),
                ..Config::default()
            }),
            ..shared.clone()
        })
    });
    match mode {
        DhcpMode::Authoritative => worlds[0].clone(),
        DhcpMode::Proxy => worlds[1].clone(),
        DhcpMode::Off => worlds[2].clone(),
    }
}
