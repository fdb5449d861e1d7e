//! The real server part on loopback, over a folder with a loader and a tree, its events kept.

use cordwainer::assets::{Asset, Assets, Media};
use cordwainer::boot::{Effect, World};
use cordwainer::config::Config;
use cordwainer::event::{Event, What};
use cordwainer::install::{Installs, ServerKey};
use cordwainer::inventory::{Inventory, Row};
use cordwainer::model::{Arch, Dict, Distro, Mac, Timestamp, Tree};
use cordwainer::ports::{BoxFuture, Effects, Events, NotDurable, Worlds};
use cordwainer::tftp::serve::{Server, TftpConfig};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

struct Fixed(World);

impl Worlds for Fixed {
    fn world(&self) -> World {
        World {
            now: now(),
            ..self.0.clone()
        }
    }

    fn neighbour(&self, _: Ipv4Addr) -> Option<Mac> {
        None
    }
}

/// Keeps events so that tests can wait for one.
#[derive(Default)]
pub struct Heard {
    events: Mutex<Vec<Event>>,
    more: Condvar,
}

impl Heard {
    /// Waits for the first event that `wanted` takes.
    pub fn wait<T>(&self, wanted: impl Fn(&What) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut events = self.events.lock().unwrap();
        loop {
            if let Some(found) = events.iter().find_map(|event| wanted(&event.what)) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such event; there were {events:#?}");
            events = self.more.wait_timeout(events, left).unwrap().0;
        }
    }

    /// The codes so far.
    pub fn codes(&self) -> Vec<&'static str> {
        self.events.lock().unwrap().iter().map(Event::code).collect()
    }
}

impl Events for Heard {
    fn emit(&self, event: Event) {
        self.events.lock().unwrap().push(event);
        self.more.notify_all();
    }
}

/// Takes effects; the test world has no machine whose state they could change.
pub struct Nowhere;

impl Effects for Nowhere {
    fn before(&self, effects: Vec<Effect>) -> BoxFuture<'_, Result<(), NotDurable>> {
        Box::pin(async move { Err(NotDurable(format!("{} effects without a state task", effects.len()))) })
    }

    fn after(&self, _: Vec<Effect>) {}
}

/// A running server. Dropping it stops it.
pub struct Serving {
    pub address: SocketAddrV4,
    pub heard: Arc<Heard>,
    pub folder: tempfile::TempDir,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
    ended: Option<tokio::task::JoinHandle<()>>,
}

impl Serving {
    /// Serves `files` as loaders and as the tree of distro `d1` at `ip`, at any port.
    pub fn start(ip: [u8; 4], files: &[(&str, &[u8])]) -> Self {
        Self::start_with(ip, files, Arc::new(Nowhere), |world| world)
    }

    /// [`Self::start`] with a world of the test's own.
    pub fn start_with(
        ip: [u8; 4],
        files: &[(&str, &[u8])],
        effects: Arc<dyn Effects>,
        change: impl FnOnce(World) -> World,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        std::fs::create_dir(&root).unwrap();
        let mut assets = Assets::default();
        for (name, bytes) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            if !name.contains('/') {
                assets.loaders.insert((*name).to_owned(), asset(&path));
            }
        }
        assets.media.insert("d1".parse().unwrap(), tree_of(&root));
        let mut inventory = Inventory::default();
        inventory.put(Row::Distro(Arc::new(distro(root))));
        let world = change(World {
            config: Arc::new(Config::default()),
            inventory: Arc::new(inventory),
            installs: Arc::new(Installs::default()),
            assets: Arc::new(assets),
            key: Arc::new(ServerKey::new([7; 32])),
            now: now(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (stop, stopping) = watch::channel(false);
        let heard = Arc::new(Heard::default());
        let (address, ended) = {
            let _inside = runtime.enter();
            let server = Server::bind(TftpConfig {
                listen: vec![SocketAddrV4::new(ip.into(), 0)],
                mtu: 1500,
                networks: Vec::new(),
            })
            .unwrap();
            let address = server.local_addr().unwrap();
            let events = Arc::clone(&heard);
            let run = server.run(Arc::new(Fixed(world)), events, effects, stopping);
            (address, runtime.spawn(async { run.await.unwrap() }))
        };
        Self {
            address,
            heard,
            folder,
            stop,
            runtime: Some(runtime),
            ended: Some(ended),
        }
    }

    /// The server's address under another of the host's addresses.
    pub fn at(&self, ip: [u8; 4]) -> SocketAddrV4 {
        SocketAddrV4::new(ip.into(), self.address.port())
    }

    /// The server at 127.0.0.1, wherever it listens.
    pub fn address_on_loopback(&self) -> SocketAddrV4 {
        self.at([127, 0, 0, 1])
    }

    /// The folder of distro `d1`.
    pub fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// Gives the order to stop.
    pub fn stop(&self) {
        self.stop.send(true).unwrap();
    }

    /// Waits until the server has ended.
    pub fn join(&mut self) {
        let ended = self.ended.take().unwrap();
        let runtime = self.runtime.as_ref().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, ended).await })
            .unwrap()
            .unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What is known of a distro whose tree may be served and whose kernel no test boots.
pub fn tree_of(root: &Path) -> Arc<Media> {
    Arc::new(Media {
        kernel: Err("no test boots it".to_owned()),
        initrd: Vec::new(),
        tree: Some(Ok(root.to_owned())),
    })
}

fn asset(path: &Path) -> Arc<Asset> {
    let size = std::fs::metadata(path).unwrap().len();
    Arc::new(Asset {
        path: path.to_owned(),
        size,
        modified: 0,
    })
}

fn distro(root: PathBuf) -> Distro {
    Distro {
        name: "d1".parse().unwrap(),
        arch: Arch::X86_64,
        breed: "debian".to_owned(),
        os_version: "12".to_owned(),
        kernel: "linux".to_owned(),
        initrd: vec!["initrd.gz".to_owned()],
        tree: Some(Tree {
            root,
            in_place: true,
            iso: None,
            overlay: None,
        }),
        signature: None,
        kernel_options: Dict::default(),
        kernel_options_post: Dict::default(),
        autoinstall_meta: Dict::default(),
        boot_loaders: Vec::new(),
        comment: String::new(),
        owners: Vec::new(),
        extra: std::collections::BTreeMap::new(),
    }
}

/// Bytes that no shift or repetition leaves the same.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
