//! The real server as DHCP server of a test network: it can be killed and started again on the same state.

use super::installers;
use crate::lab::child::Child;
use crate::lab::netns::{Host, Net};
use cordwainer::inventory::{Change, Row, RowChange, edit_all};
use cordwainer::model::{Kind, Lease, Mac};
use cordwainer::store::{Folder, InventoryDb, LiveDb};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The server's address on every network here.
pub const ADDRESS: &str = "10.77.0.1";
/// The address of the host that speaks for a relay's clients.
pub const RELAY: &str = "10.77.0.2";

/// One state folder with its configuration, and the network that it serves.
pub struct Server {
    pub net: Net,
    folder: tempfile::TempDir,
}

impl Server {
    /// A server that gives out `pool` of 10.77.0.0/16.
    pub fn new(pool: &str) -> Self {
        Self::with_subnet(pool, "")
    }

    /// A server that gives out `pool` of 10.77.0.0/16, with these further sections.
    pub fn with_subnet(pool: &str, sections: &str) -> Self {
        Self::configured(&format!(
            "[server]\ninterfaces = [\"br0\"]\n[dhcp]\nmode = \"authoritative\"\n[[subnet]]\nnetwork = \"10.77.0.0/16\"\n\
             pool = \"{pool}\"\nrouter = \"{ADDRESS}\"\nlease = \"1h\"\nrelays = [\"{RELAY}\"]\n{sections}"
        ))
    }

    /// The same, with machines 1 to `count` of [`installers`] on record, ready to be armed.
    pub fn installing(pool: &str, count: u8) -> Self {
        let server = Self::configured(&format!(
            "[server]\ninterfaces = [\"br0\"]\n[defaults]\nssh_authorized_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE{:A>43}\"]\n\
             [dhcp]\nmode = \"authoritative\"\n[[subnet]]\nnetwork = \"10.77.0.0/16\"\npool = \"{pool}\"\nrouter = \"{ADDRESS}\"\n\
             lease = \"1h\"\nrelays = [\"{RELAY}\", \"{}\"]\n",
            "",
            installers::RELAY
        ));
        let tree = server.folder.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        for file in ["vmlinuz", "initrd.img"] {
            std::fs::write(tree.join(file), file).unwrap();
        }
        let add = |kind, name: &str, fields: &[(&str, &str)]| Change::Add {
            kind,
            name: name.parse().unwrap(),
            fields: fields.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        };
        let distro = [
            ("breed", "redhat"),
            ("os_version", "rhel9"),
            ("signature", "redhat"),
            ("tree", tree.to_str().unwrap()),
            ("kernel", "vmlinuz"),
            ("initrd", "initrd.img"),
        ];
        let mut changes = vec![
            add(Kind::Distro, "lab", &distro),
            add(
                Kind::Profile,
                "lab",
                &[("distro", "lab"), ("autoinstall", "redhat/el9.ks")],
            ),
        ];
        changes.extend((1..=count).map(|number| {
            let mac = installers::mac(number).to_string();
            add(
                Kind::System,
                &installers::name(number),
                &[("profile", "lab"), ("mac", &mac)],
            )
        }));
        let mut db = InventoryDb::open(&Folder::open(&server.state()).unwrap()).unwrap();
        db.commit(|inventory| edit_all(inventory, changes)).unwrap();
        server
    }

    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("cordwainer.toml")
    }

    /// The same, with `more` lines in its `[dhcp]`.
    pub fn with_dhcp(more: &str, pool: &str) -> Self {
        Self::configured(&format!(
            "[server]\ninterfaces = [\"br0\"]\n[dhcp]\nmode = \"authoritative\"\n{more}[[subnet]]\nnetwork = \"10.77.0.0/16\"\n\
             pool = \"{pool}\"\nrouter = \"{ADDRESS}\"\nlease = \"1h\"\nrelays = [\"{RELAY}\"]\n"
        ))
    }

    /// A proxy beside another server.
    pub fn proxy() -> Self {
        Self::configured("[server]\ninterfaces = [\"br0\"]\n[dhcp]\nmode = \"proxy\"\n")
    }

    fn configured(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let loaders = folder.path().join("loaders");
        std::fs::create_dir(&loaders).unwrap();
        std::fs::write(loaders.join("undionly.kpxe"), "a loader").unwrap();
        let config = format!("{config}[boot]\nloader_paths = [\"{}\"]\n", loaders.display());
        std::fs::write(folder.path().join("cordwainer.toml"), config).unwrap();
        let state = folder.path().join("state");
        std::fs::DirBuilder::new().mode(0o700).create(state).unwrap();
        Self {
            net: Net::new(&[&format!("{ADDRESS}/16")]),
            folder,
        }
    }

    /// Puts a machine on record, before or while the server runs.
    pub fn add_system(&self, name: &str, mac: Mac) {
        let row = serde_json::json!({
            "name": name, "profile": "p",
            "interfaces": { "eth0": { "mac_address": mac } },
        });
        let system = Row::System(Arc::new(serde_json::from_value(row).unwrap()));
        let folder = Folder::open(&self.state()).unwrap();
        let mut db = InventoryDb::open(&folder).unwrap();
        db.commit(|_| Ok(vec![RowChange::Put(system)])).unwrap();
    }

    /// Puts so many machines on record that have not been seen yet.
    pub fn add_strangers_to_be(&self, count: usize) {
        let rows = (0..count).map(|n| {
            let row = serde_json::json!({
                "name": format!("later{n}"), "profile": "p",
                "interfaces": { "eth0": { "mac_address": format!("52:54:01:00:{:02x}:{:02x}", n / 256, n % 256) } },
            });
            RowChange::Put(Row::System(Arc::new(serde_json::from_value(row).unwrap())))
        });
        let folder = Folder::open(&self.state()).unwrap();
        let mut db = InventoryDb::open(&folder).unwrap();
        let rows: Vec<RowChange> = rows.collect();
        db.commit(|_| Ok(rows.clone())).unwrap();
    }

    /// The host with the relay's address.
    pub fn relay(&self) -> Host {
        self.net.host("relay", Some(&format!("{RELAY}/16")))
    }

    /// A folder that lasts as long as this.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The command that starts it.
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = self.net.command(env!("CARGO_BIN_EXE_cordwainer"));
        command.arg("--config").arg(self.folder.path().join("cordwainer.toml"));
        command.arg("--state").arg(self.state());
        command.arg("serve").args(options);
        command
    }

    /// A command of the command line beside it, on its state.
    pub fn cli(&self, words: &[&str]) -> Command {
        let mut command = self.net.command(env!("CARGO_BIN_EXE_cordwainer"));
        command.arg("--config").arg(self.config());
        command.arg("--state").arg(self.state()).args(words);
        command
    }

    /// Starts it beside nobody; how long it took until it served.
    pub fn start(&self) -> (Child, Duration) {
        let begun = Instant::now();
        let mut child = Child::start("cordwainer", &mut self.command(&["--i-own-this-subnet"]));
        child.wait_for_line("serving", Duration::from_secs(60));
        (child, begun.elapsed())
    }

    /// The leases on disk. Only while no server runs.
    pub fn leases_on_disk(&self) -> Vec<Lease> {
        let folder = Folder::open(&self.state()).unwrap();
        let rows = LiveDb::open_reader(&folder).unwrap().load().unwrap();
        assert!(rows.damaged.is_empty(), "{:?}", rows.damaged);
        rows.leases
    }
}
