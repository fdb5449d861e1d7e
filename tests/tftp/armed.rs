//! An armed machine that fetches its script by TFTP: what it changes is durable before the first byte leaves, and nothing that a forged
//! datagram or a size probe can do changes anything.

use super::reader::{Reader, request, sized};
use super::serving::Serving;
use cordwainer::boot::{Effect, World};
use cordwainer::config::{Config, DhcpMode};
use cordwainer::event::What;
use cordwainer::install::{Act, Arm, ArmId, Input, Installs};
use cordwainer::inventory::Row;
use cordwainer::model::{Dict, Inherit, Interface, Mac, Parent, Profile, System, Timestamp};
use cordwainer::ports::{BoxFuture, Effects, NotDurable};
use cordwainer::tftp::packet::{ErrorCode, Options, Packet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

const MAC: Mac = Mac::new([0x52, 0x54, 0, 0x7c, 0x1d, 0x4f]);
const SCRIPT: &str = "b/52-54-00-7c-1d-4f/ipxe";
const A_MOMENT: Duration = Duration::from_millis(250);

/// A disk that is as slow as the test wants.
struct Disk {
    asked: Mutex<Vec<Effect>>,
    written: watch::Sender<Option<Result<(), NotDurable>>>,
}

impl Disk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            written: watch::Sender::new(None),
        })
    }

    fn launches(&self) -> usize {
        let launch = |effect: &&Effect| {
            matches!(effect, Effect::Install { act: Act { input: Input::Launch { mac, address, .. }, .. }, .. }
                if *mac == MAC && *address == Ipv4Addr::LOCALHOST)
        };
        self.asked.lock().unwrap().iter().filter(launch).count()
    }
}

impl Effects for Disk {
    fn before(&self, effects: Vec<Effect>) -> BoxFuture<'_, Result<(), NotDurable>> {
        self.asked.lock().unwrap().extend(effects);
        let mut written = self.written.subscribe();
        Box::pin(async move { written.wait_for(Option::is_some).await.unwrap().clone().unwrap() })
    }

    fn after(&self, _: Vec<Effect>) {}
}

fn armed(mut world: World) -> World {
    let name = |text: &str| text.parse().unwrap();
    let mut inventory = (*world.inventory).clone();
    inventory.put(Row::Profile(Arc::new(Profile {
        name: name("p1"),
        parent: Parent::Distro(name("d1")),
        autoinstall: Inherit::Inherit,
        autoinstall_meta: Dict::default(),
        kernel_options: Dict::default(),
        kernel_options_post: Dict::default(),
        name_servers: Inherit::Inherit,
        name_servers_search: Inherit::Inherit,
        proxy: Inherit::Inherit,
        boot_loaders: Inherit::Inherit,
        enable_menu: Inherit::Inherit,
        virt: cordwainer::model::Virt::default(),
        comment: String::new(),
        owners: Vec::new(),
        extra: std::collections::BTreeMap::new(),
    })));
    let interface = Interface {
        mac_address: Some(MAC),
        ..Interface::default()
    };
    inventory.put(Row::System(Arc::new(System {
        name: name("web1"),
        profile: Some(name("p1")),
        image: None,
        hostname: None,
        gateway: None,
        interfaces: [(name("eth0"), Box::new(interface))].into(),
        autoinstall: Inherit::Inherit,
        autoinstall_meta: Dict::default(),
        kernel_options: Dict::default(),
        kernel_options_post: Dict::default(),
        name_servers: Inherit::Inherit,
        name_servers_search: Inherit::Inherit,
        proxy: Inherit::Inherit,
        boot_loaders: Inherit::Inherit,
        virt: cordwainer::model::Virt::default(),
        status: String::new(),
        comment: String::new(),
        owners: Vec::new(),
        extra: std::collections::BTreeMap::new(),
    })));
    inventory.put(Row::Arm(Arc::new(Arm {
        id: ArmId("arm1".to_owned()),
        system: name("web1"),
        at: world.now,
        until: Timestamp(world.now.0 + 3_600_000),
        by: "root".to_owned(),
    })));
    world.inventory = Arc::new(inventory);
    let mut installs = Installs::default();
    installs.holders.insert(Ipv4Addr::LOCALHOST, MAC);
    world.installs = Arc::new(installs);
    world.config = Arc::new(Config {
        dhcp: DhcpMode::Authoritative,
        ..Config::default()
    });
    let media = |name: &str| {
        Ok(cordwainer::assets::Asset {
            path: name.into(),
            size: 1,
            modified: 0,
        })
    };
    let mut assets = (*world.assets).clone();
    assets.media.insert(
        name("d1"),
        Arc::new(cordwainer::assets::Media {
            kernel: media("linux"),
            initrd: vec![media("initrd.gz")],
            tree: world.assets.media.get("d1").and_then(|media| media.tree.clone()),
        }),
    );
    world.assets = Arc::new(assets);
    world
}

fn start(disk: &Arc<Disk>) -> Serving {
    let effects: Arc<dyn Effects> = Arc::<Disk>::clone(disk);
    Serving::start_with([127, 0, 0, 1], &[("linux", b"k"), ("initrd.gz", b"i")], effects, armed)
}

#[test]
fn the_claim_is_durable_before_the_script_leaves_and_a_probe_claims_nothing() {
    let disk = Disk::new();
    let server = start(&disk);
    let mut reader = Reader::new();
    let ask = request(SCRIPT, sized(512, 1));
    // A probe, or a request with a forged source: nobody acknowledges.
    reader.ask(server.address, &ask);
    let (tid, _) = reader.hear();
    reader.send(
        tid,
        &Packet::Error {
            code: ErrorCode::OPTIONS,
            message: String::new(),
        },
    );
    server
        .heard
        .wait(|what| matches!(what, What::TftpProbed { .. }).then_some(()));
    assert_eq!(disk.launches(), 0);
    // The real one.
    reader.ask(server.address, &ask);
    let (tid, _) = reader.hear();
    reader.ack(tid, 0);
    assert!(reader.is_silent(A_MOMENT), "the claim is not on disk yet");
    assert_eq!(disk.launches(), 1);
    disk.written.send_replace(Some(Ok(())));
    let got = reader.go_on();
    let text = String::from_utf8(got.bytes).unwrap();
    assert!(text.starts_with("#!ipxe") && text.contains("/d/d1/linux"), "{text}");
    let gives = server.heard.wait(|what| match what {
        What::Script { gives, .. } => Some(gives.clone()),
        _ => None,
    });
    assert_eq!(gives, "install p1");
    assert_eq!(disk.launches(), 1);
}

#[test]
fn without_options_nothing_of_worth_leaves_and_nothing_is_claimed_before_the_first_block_is_acknowledged() {
    let disk = Disk::new();
    let server = start(&disk);
    let mut reader = Reader::new();
    let ask = request(SCRIPT, Options::default());
    reader.ask(server.address, &ask);
    // Whoever forged this request has sent us to the machine with a block of comments.
    let (tid, packet) = reader.hear();
    let Packet::Data { block: 1, bytes } = packet else {
        panic!("{packet:?}")
    };
    assert_eq!(bytes.len(), 512);
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    let mut whole = text.to_owned();
    assert_eq!(disk.launches(), 0);
    reader.ack(tid, 1);
    assert!(reader.is_silent(A_MOMENT), "the claim is not on disk yet");
    // The impatient reader repeats itself, which claims nothing twice.
    reader.ack(tid, 1);
    assert!(reader.is_silent(A_MOMENT));
    assert_eq!(disk.launches(), 1);
    disk.written.send_replace(Some(Ok(())));
    for block in 2.. {
        let (_, Packet::Data { bytes, .. }) = reader.hear() else {
            panic!()
        };
        whole.push_str(std::str::from_utf8(bytes).unwrap());
        let ends = bytes.len() < 512;
        reader.ack(tid, block);
        if ends {
            break;
        }
    }
    assert!(
        whole.starts_with("#!ipxe\n") && whole.contains("/d/d1/linux"),
        "{whole}"
    );
    assert_eq!(disk.launches(), 1);
}

#[test]
fn what_cannot_be_stored_is_not_sent() {
    let disk = Disk::new();
    disk.written
        .send_replace(Some(Err(NotDurable("no space left on device".to_owned()))));
    let server = start(&disk);
    let mut reader = Reader::new();
    reader.ask(server.address, &request(SCRIPT, Options::default()));
    let (tid, _) = reader.hear();
    reader.ack(tid, 1);
    assert_eq!(reader.hear_error(), ErrorCode::OTHER);
    let reason = server.heard.wait(|what| match what {
        What::TftpFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.contains("no space left on device"), "{reason}");
    assert!(!server.heard.codes().contains(&"SCRIPT"));
}
