//! A world, a link and packets for DHCP tests, all by value.

use cordwainer::assets::{Asset, Assets};
use cordwainer::boot::World;
use cordwainer::config::{Config, DhcpMode};
use cordwainer::dhcp::{Leases, Link, MessageType, Outcome, Packet, respond, wall};
use cordwainer::install::{Installs, ServerKey};
use cordwainer::inventory::{Inventory, Row};
use cordwainer::model::{Binding, Mac, Span, Subnet, System, Timestamp};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
pub const NOW: Timestamp = Timestamp(1_795_000_000_000);

pub fn subnet() -> Subnet {
    Subnet {
        network: "192.168.77.0/24".parse().unwrap(),
        pool: Some("192.168.77.100-192.168.77.200".parse().unwrap()),
        router: Some(SERVER),
        dns: vec![SERVER],
        domain: Some("example.org".into()),
        lease: Span::seconds(43_200),
        relays: Vec::new(),
        binding: Binding::Lease,
        router_advertisements: cordwainer::model::Advertise::Off,
        shared: None,
        probe: true,
    }
}

pub fn link() -> Link {
    Link {
        name: "eth0".into(),
        index: 2,
        addresses: vec!["192.168.77.1/24".parse().unwrap()],
        mac: Some("fe:54:00:d8:65:c9".parse().unwrap()),
        mtu: 1500,
    }
}

/// A server in `mode` with every loader on its disk, and no systems.
pub fn world(mode: DhcpMode) -> World {
    let mut assets = Assets::default();
    for name in ["undionly.kpxe", "snponly.efi"] {
        let asset = Asset {
            path: format!("/usr/lib/ipxe/{name}").into(),
            size: 1,
            modified: 0,
        };
        assets.loaders.insert(name.into(), Arc::new(asset));
    }
    World {
        config: Arc::new(Config {
            dhcp: mode,
            subnets: vec![subnet()],
            http_port: 80,
            ..Config::default()
        }),
        inventory: Arc::new(Inventory::default()),
        installs: Arc::new(Installs::default()),
        assets: Arc::new(assets),
        key: Arc::new(ServerKey::new([7; 32])),
        now: NOW,
    }
}

/// Puts a system with one interface into the world.
pub fn add_system(world: &mut World, name: &str, mac: Mac, address: Option<Ipv4Addr>) {
    let mut interface = serde_json::json!({ "mac_address": mac });
    if let Some(address) = address {
        interface["ip_address"] = serde_json::json!(address);
    }
    add_interface(world, name, &interface);
}

/// Puts a system with the interface `interface` into the world.
pub fn add_interface(world: &mut World, name: &str, interface: &serde_json::Value) {
    let row = serde_json::json!({ "name": name, "profile": "p", "interfaces": { "eth0": interface } });
    let system: System = serde_json::from_value(row).unwrap();
    Arc::make_mut(&mut world.inventory).put(Row::System(Arc::new(system)));
}

/// What a client says, to be changed field by field.
#[derive(Debug, Clone)]
pub struct Words {
    pub mac: Mac,
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub flags: u16,
    pub htype: u8,
    pub options: Vec<(u8, Vec<u8>)>,
}

pub fn words(mac: Mac, message: MessageType) -> Words {
    Words {
        mac,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        flags: 0,
        htype: 1,
        options: vec![(53, vec![message.number()])],
    }
}

impl Words {
    pub fn with(mut self, code: u8, value: impl Into<Vec<u8>>) -> Self {
        self.options.push((code, value.into()));
        self
    }

    pub fn requested(self, address: Ipv4Addr) -> Self {
        self.with(50, address.octets())
    }

    pub fn server(self, address: Ipv4Addr) -> Self {
        self.with(54, address.octets())
    }

    pub fn from(mut self, ciaddr: Ipv4Addr) -> Self {
        self.ciaddr = ciaddr;
        self
    }

    pub fn relayed(mut self, giaddr: Ipv4Addr) -> Self {
        self.giaddr = giaddr;
        self
    }

    pub fn pxe(self, arch: u16) -> Self {
        let class = format!("PXEClient:Arch:{arch:05}:UNDI:003016");
        self.with(60, class.into_bytes()).with(93, arch.to_be_bytes())
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![1, self.htype, 6, 0, 1, 2, 3, 4, 0, 0];
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.ciaddr.octets());
        bytes.extend([0; 8]);
        bytes.extend(self.giaddr.octets());
        bytes.extend(self.mac.bytes());
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99]);
        for (code, value) in &self.options {
            bytes.extend([*code, u8::try_from(value.len()).unwrap()]);
            bytes.extend(value);
        }
        bytes.push(255);
        bytes
    }

    /// As it arrives: from the relay, from the client's address, or from nowhere yet.
    pub fn packet(&self) -> Packet {
        let source = if self.giaddr.is_unspecified() {
            SocketAddrV4::new(self.ciaddr, 68)
        } else {
            SocketAddrV4::new(self.giaddr, 67)
        };
        wall::parse(&self.bytes()).unwrap().arrived(source, 67)
    }
}

/// A server's whole state for a test: ask it, and read its replies with its own wall.
pub struct Site {
    pub world: World,
    pub link: Link,
    pub leases: Leases,
    pub now: Timestamp,
}

impl Site {
    pub fn new(mode: DhcpMode) -> Self {
        Self {
            world: world(mode),
            link: link(),
            leases: Leases::default(),
            now: NOW,
        }
    }

    pub fn ask(&mut self, packet: &Packet) -> Outcome {
        self.world.now = self.now;
        respond(&self.world, &self.link, &mut self.leases, packet, self.now)
    }

    pub fn say(&mut self, words: &Words) -> Outcome {
        self.ask(&words.packet())
    }

    pub fn later(&mut self, seconds: u64) {
        self.now = self.now.plus(std::time::Duration::from_secs(seconds));
    }

    /// DISCOVER and REQUEST; the address that was granted.
    pub fn lease(&mut self, mac: Mac) -> Ipv4Addr {
        let offer = answer(&self.say(&words(mac, MessageType::Discover)));
        let request = words(mac, MessageType::Request).requested(offer.yiaddr).server(SERVER);
        let ack = answer(&self.say(&request));
        assert_eq!(ack.message(), Some(MessageType::Ack));
        assert_eq!(ack.yiaddr, offer.yiaddr);
        ack.yiaddr
    }
}

/// The reply of an outcome, read back.
pub fn answer(outcome: &Outcome) -> Packet {
    let Some(reply) = &outcome.reply else {
        panic!("no reply: {:?}", why(outcome));
    };
    wall::parse(&reply.bytes).unwrap()
}

/// The sentences of an outcome's events.
pub fn why(outcome: &Outcome) -> Vec<String> {
    outcome.events.iter().map(|event| event.what.to_string()).collect()
}

pub fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last])
}
