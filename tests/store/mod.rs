//! State on real disks with real processes: editing at once, killing, filling the disk, damage, backup, 100,000 systems.
//!
//! Some tests need a process of their own to kill or to measure: they start this test binary again in one of its *roles*, which are
//! tests marked `ignore` that do nothing unless the folder to work in is given.

mod backup;
mod crash;
mod editing;
mod full;
mod mutate;
mod owner;
mod recover;
mod scale;
pub mod shim;
mod state_task;

use cordwainer::event::Event;
use cordwainer::inventory::{Change, Inventory, RowChange, edit, edit_all};
use cordwainer::model::{Kind, Lease, LeaseState, Mac, Timestamp};
use cordwainer::ports::{Commit, Events, Job, LiveRow, NotDurable};
use cordwainer::store::{Folder, InventoryDb};
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;

/// Names the folder that a role works in.
const FOLDER: &str = "CORDWAINER_STORE_ROLE_FOLDER";

/// A state folder of this test's own.
fn state() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(&dir.path().join("state")).unwrap();
    (dir, folder)
}

/// The folder that this process was started for; none when somebody runs the ignored tests.
fn role() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// This test binary in the role `name` of the module `module`, which dies with this thread.
fn start_role(module: &str, name: &str, folder: &Path) -> Child {
    role_command(module, name, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn role_command(module: &str, name: &str, folder: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = crate::lab::child::command(this.to_str().unwrap());
    command
        .args([
            "--exact",
            &format!("store::{module}::{name}"),
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .stderr(Stdio::inherit());
    command
}

/// What a role says, line by line: what follows `: ` on lines that begin with `role`.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.split_once("role: ").map(|(_, text)| text.to_owned()))
}

/// Says something to the test that started this role.
fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "role: {text}").unwrap();
    out.flush().unwrap();
}

fn add(kind: Kind, name: &str, fields: &[(&str, &str)]) -> Change {
    Change::Add {
        kind,
        name: name.parse().unwrap(),
        fields: fields.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
    }
}

fn set(name: &str, field: &str, text: &str) -> Change {
    Change::Edit {
        kind: Kind::System,
        name: name.parse().unwrap(),
        fields: vec![(field.to_owned(), text.to_owned())],
        in_place: false,
    }
}

/// A distro and a profile, for systems to stand on.
fn ground(db: &mut InventoryDb) {
    db.commit(|inventory| {
        edit_all(
            inventory,
            [
                add(Kind::Distro, "d", &[("kernel", "k")]),
                add(Kind::Profile, "p", &[("distro", "d")]),
            ],
        )
    })
    .unwrap();
}

fn judged(change: Change) -> impl FnOnce(&Inventory) -> Result<Vec<RowChange>, cordwainer::inventory::Refused> {
    move |inventory| edit(inventory, change)
}

fn lease(number: u32) -> Lease {
    let [_, a, b, c] = number.to_be_bytes();
    Lease {
        address: Ipv4Addr::new(10, a, b, c),
        mac: Mac::new([2, 0, 0, a, b, c]),
        client_id: vec![1, 2, 3],
        hostname: None,
        granted: Timestamp(1),
        expires: Timestamp(i64::MAX),
        state: LeaseState::Active,
    }
}

/// A job that grants lease `number` and tells what came of it.
fn grant(number: u32, told: Sender<(u32, Result<(), NotDurable>)>) -> Job {
    Box::new(move |live, _| {
        let lease = lease(number);
        let undo = live
            .leases
            .row(lease.address)
            .cloned()
            .map_or(LiveRow::LeaseGone(lease.address), LiveRow::Lease);
        live.leases.put(lease.clone());
        Commit {
            rows: vec![LiveRow::Lease(lease)],
            undo: vec![undo],
            then: Box::new(move |result| drop(told.send((number, result)))),
        }
    })
}

/// Events as they come.
struct Heard(std::sync::Mutex<Sender<Event>>);

impl Heard {
    fn listen() -> (std::sync::Arc<dyn Events>, std::sync::mpsc::Receiver<Event>) {
        let (to, from) = std::sync::mpsc::channel();
        (std::sync::Arc::new(Self(std::sync::Mutex::new(to))), from)
    }
}

impl Events for Heard {
    fn emit(&self, event: Event) {
        drop(self.0.lock().unwrap().send(event));
    }
}
