//! HTTP over loopback: the real server, curl and bare sockets as its clients.

mod control;
mod conversation;
mod files;
mod limits;
mod process;

use cordwainer::assets::{Asset, Assets, Media, Template};
use cordwainer::boot::{Effect, World};
use cordwainer::config::Config;
use cordwainer::event::metrics::Metrics;
use cordwainer::event::{Event, What};
use cordwainer::http::{Options, Ports, Server};
use cordwainer::install::{Arm, ArmId, Installation, Installs, ServerKey, State, Token, TokenKind};
use cordwainer::inventory::{Inventory, Row};
use cordwainer::model::{Arch, Dict, Distro, Inherit, Interface, Mac, Parent, Profile, System, Timestamp, Tree};
use cordwainer::ports::{BoxFuture, Effects, Events, NotDurable, Worlds};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

pub const MAC: Mac = Mac::new([0x52, 0x54, 0, 0x7c, 0x1d, 0x4f]);

/// The ports of the server: one world that never changes, and a record of all that it is told.
pub struct Record {
    world: World,
    events: Mutex<Vec<Event>>,
    told: Condvar,
    pub before: Mutex<Vec<Effect>>,
    pub after: Mutex<Vec<Effect>>,
    pub disk_full: AtomicBool,
    /// True when the kernel says that whoever asks is the machine.
    pub on_link: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Record {
    /// Waits until an event is as wanted; every event so far is looked at.
    pub fn wait(&self, wanted: impl Fn(&What) -> bool) -> Event {
        let end = Instant::now() + Duration::from_secs(20);
        let mut events = self.events.lock().unwrap();
        loop {
            if let Some(event) = events.iter().find(|event| wanted(&event.what)) {
                return event.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such event among {events:#?}");
            events = self.told.wait_timeout(events, left).unwrap().0;
        }
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }
}

impl Worlds for Record {
    fn world(&self) -> World {
        self.world.clone()
    }

    fn neighbour(&self, _: Ipv4Addr) -> Option<Mac> {
        self.on_link.load(Ordering::SeqCst).then_some(MAC)
    }
}

impl Events for Record {
    fn emit(&self, event: Event) {
        self.metrics.count(&event);
        self.events.lock().unwrap().push(event);
        self.told.notify_all();
    }
}

impl Effects for Record {
    fn before(&self, effects: Vec<Effect>) -> BoxFuture<'_, Result<(), NotDurable>> {
        Box::pin(async move {
            if self.disk_full.load(Ordering::SeqCst) {
                return Err(NotDurable("No space left on device".into()));
            }
            self.before.lock().unwrap().extend(effects);
            Ok(())
        })
    }

    fn after(&self, effects: Vec<Effect>) {
        self.after.lock().unwrap().extend(effects);
    }
}

/// A served world: distro `lab` with a tree, system `web1` in the middle of an installation.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub record: Arc<Record>,
    pub address: SocketAddr,
    /// Where the numbers alone are served, if asked for.
    pub numbers: Option<SocketAddr>,
    pub install: Token,
    pub report: Token,
    stop: watch::Sender<bool>,
    running: Option<std::thread::JoinHandle<()>>,
}

fn world(root: &Path) -> World {
    let mut inventory = Inventory::new(Arc::default());
    inventory.put(Row::Distro(Arc::new(Distro {
        name: "lab".parse().unwrap(),
        arch: Arch::X86_64,
        breed: "lab".into(),
        os_version: "1".into(),
        kernel: "boot/vmlinuz".into(),
        initrd: vec!["boot/initrd.img".into()],
        tree: Some(Tree {
            root: root.join("tree"),
            in_place: true,
            iso: None,
            overlay: None,
        }),
        signature: None,
        kernel_options: Dict::default(),
        kernel_options_post: Dict::default(),
        autoinstall_meta: Dict::default(),
        boot_loaders: vec![],
        comment: String::new(),
        owners: vec![],
        extra: BTreeMap::new(),
    })));
    inventory.put(Row::Profile(Arc::new(Profile {
        name: "lab".parse().unwrap(),
        parent: Parent::Distro("lab".parse().unwrap()),
        autoinstall: Inherit::Set("lab/answer.cfg".into()),
        autoinstall_meta: Dict::default(),
        kernel_options: Dict::default(),
        kernel_options_post: Dict::default(),
        name_servers: Inherit::default(),
        name_servers_search: Inherit::default(),
        proxy: Inherit::default(),
        boot_loaders: Inherit::default(),
        enable_menu: Inherit::default(),
        virt: cordwainer::model::Virt::default(),
        comment: String::new(),
        owners: vec![],
        extra: BTreeMap::new(),
    })));
    let interface = Interface {
        mac_address: Some(MAC),
        ..Interface::default()
    };
    inventory.put(Row::System(Arc::new(System {
        name: "web1".parse().unwrap(),
        profile: "lab".parse().ok(),
        image: None,
        hostname: None,
        gateway: None,
        interfaces: BTreeMap::from([("eth0".parse().unwrap(), Box::new(interface))]),
        autoinstall: Inherit::default(),
        autoinstall_meta: Dict::default(),
        kernel_options: Dict::default(),
        kernel_options_post: Dict::default(),
        name_servers: Inherit::default(),
        name_servers_search: Inherit::default(),
        proxy: Inherit::default(),
        boot_loaders: Inherit::default(),
        virt: cordwainer::model::Virt::default(),
        status: String::new(),
        comment: String::new(),
        owners: vec![],
        extra: BTreeMap::new(),
    })));
    let arm = ArmId("a1".into());
    inventory.put(Row::Arm(Arc::new(Arm {
        id: arm.clone(),
        system: "web1".parse().unwrap(),
        at: Timestamp(0),
        until: Timestamp(14_400_000),
        by: "root".into(),
    })));
    let mut installs = Installs::default();
    installs.put(Installation {
        arm,
        system: "web1".parse().unwrap(),
        state: State::Claimed,
        mac: Some(MAC),
        // Not the address that the tests ask from.
        bound: Some(Ipv4Addr::new(192, 0, 2, 77)),
        behind: false,
        stage: None,
        partitioned: false,
        attempts: 1,
        claimed_at: Timestamp(1),
        heard_at: Timestamp(1),
        reason: None,
    });
    installs.holders.insert(Ipv4Addr::LOCALHOST, MAC);
    let loader = root.join("snponly.efi");
    std::fs::write(&loader, b"MZ loader").unwrap();
    let mut assets = Assets::default();
    for (name, path) in [("snponly.efi", loader), ("gone.efi", root.join("gone.efi"))] {
        let asset = Asset {
            path,
            size: 9,
            modified: 0,
        };
        assets.loaders.insert(name.into(), Arc::new(asset));
    }
    let file = |path: &str| {
        Ok(Asset {
            path: root.join("tree").join(path),
            size: 8,
            modified: 0,
        })
    };
    let media = Media {
        kernel: file("boot/vmlinuz"),
        initrd: vec![file("boot/initrd.img")],
        tree: Some(Ok(root.join("tree"))),
    };
    assets.media.insert("lab".parse().unwrap(), Arc::new(media));
    for (name, text) in [
        ("lab/answer.cfg", "host={{ name }}\nreport={{ report_url }}\n"),
        ("lab/broken.cfg", "one\n{{ no_such_thing }}\n"),
    ] {
        let template = Template {
            text: text.into(),
            origin: "a test".into(),
        };
        assets.templates.insert(name.into(), Arc::new(template));
    }
    World {
        config: Arc::new(Config::default()),
        inventory: Arc::new(inventory),
        installs: Arc::new(installs),
        assets: Arc::new(assets),
        key: Arc::new(ServerKey::new([7; 32])),
        now: Timestamp(1_000_000),
    }
}

impl Lab {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts a server with changed options.
    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::in_world(change, |_| {})
    }

    /// Starts a server in a changed world.
    pub fn in_world(change: impl FnOnce(&mut Options), differ: impl FnOnce(&mut World)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("boot")).unwrap();
        std::fs::create_dir_all(tree.join("pool/g++ 1")).unwrap();
        std::fs::write(tree.join("boot/vmlinuz"), b"a kernel").unwrap();
        std::fs::write(tree.join("boot/initrd.img"), b"an initrd").unwrap();
        std::fs::write(tree.join("empty"), b"").unwrap();
        std::fs::write(dir.path().join("secret"), b"secret").unwrap();
        std::os::unix::fs::symlink("../secret", tree.join("out")).unwrap();
        let mut world = world(dir.path());
        differ(&mut world);
        let token = |kind| Token::derive(&world.key, &ArmId("a1".into()), kind);
        let (install, report) = (token(TokenKind::Install), token(TokenKind::Report));
        let metrics = Arc::new(Metrics::new());
        let record = Arc::new(Record {
            world,
            events: Mutex::default(),
            told: Condvar::new(),
            before: Mutex::default(),
            after: Mutex::default(),
            disk_full: AtomicBool::new(false),
            on_link: AtomicBool::new(false),
            metrics: metrics.clone(),
        });
        let mut options = Options::new(vec!["127.0.0.1:0".parse().unwrap()], vec![]);
        change(&mut options);
        let ports = Ports {
            worlds: record.clone(),
            effects: record.clone(),
            events: record.clone(),
            metrics,
            rpc: None,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let server = {
            let _entered = runtime.enter();
            Server::bind(options, ports).unwrap()
        };
        let address = server.local_addr().unwrap();
        let numbers = server.metrics_addr();
        let (stop, asked) = watch::channel(false);
        let running = std::thread::spawn(move || runtime.block_on(server.run(asked)));
        Self {
            dir,
            record,
            address,
            numbers,
            install,
            report,
            stop,
            running: Some(running),
        }
    }

    pub fn tree(&self) -> std::path::PathBuf {
        self.dir.path().join("tree")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Asks for shutdown; [`Lab::finish`] waits for it.
    pub fn ask_to_stop(&self) {
        self.stop.send(true).unwrap();
    }

    pub fn finish(&mut self) {
        self.running.take().unwrap().join().unwrap();
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// One request on its own connection, the whole answer as bytes.
    pub fn raw(&self, request: &str) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    pub fn get(&self, path: &str) -> String {
        let request = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        String::from_utf8(self.raw(&request)).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The server may be gone already.
        let _ = self.stop.send(true);
        if let Some(running) = self.running.take() {
            let ended = running.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}

/// Runs curl.
pub fn curl(args: &[&str]) -> Output {
    Command::new("curl")
        .args(["-sS", "--max-time", "60"])
        .args(args)
        .output()
        .expect("curl is installed (apt install curl)")
}

/// curl's standard output, which must be text.
pub fn curl_text(args: &[&str]) -> String {
    let output = curl(args);
    assert!(
        output.status.success(),
        "curl {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Reads one answer with a `Content-Length` from a connection that stays open.
pub fn read_answer(stream: &mut TcpStream, has_body: bool) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; if has_body { length.unwrap().parse().unwrap() } else { 0 }];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}
