//! Stored rows: whatever a database holds is read or named as damaged, never believed by halves; and what is stored loads as itself.

use super::input::Input;
use super::world::world;
use cordwainer::boot::{self, Ask, Facts, Request};
use cordwainer::config::DhcpMode;
use cordwainer::install::Installation;
use cordwainer::inventory::{Row, resolve_system};
use cordwainer::model::{Arm, Distro, Lease, LeaseState, Mac, Profile, System, Timestamp};
use cordwainer::ports::LiveRow;
use cordwainer::store::{Folder, InventoryDb, LiveDb};
use rusqlite::{Connection, params};
use serde_json as json;
use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A state folder in memory, and what is open in it.
struct State {
    _dir: tempfile::TempDir,
    folder: Folder,
    live: LiveDb,
    raw_inventory: Connection,
    raw_live: Connection,
    version: i64,
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

fn open() -> State {
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let folder = Folder::open(&dir.path().join("state")).unwrap();
    InventoryDb::open(&folder).unwrap();
    let live = LiveDb::open_writer(&folder).unwrap();
    let raw = |name: &str| {
        let raw = Connection::open(folder.path().join(name)).unwrap();
        raw.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA ignore_check_constraints=ON;")
            .unwrap();
        raw
    };
    State {
        live,
        raw_inventory: raw("inventory.db"),
        raw_live: raw("live.db"),
        version: 0,
        folder,
        _dir: dir,
    }
}

/// One byte chooses what is stored. Most inputs are bodies of rows, for databases are slow.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() {
        choice @ 0..=0xef => body(choice % 6, &String::from_utf8_lossy(input.0)),
        choice => STATE.with(|state| {
            let mut state = state.borrow_mut();
            let state = state.get_or_insert_with(open);
            match choice % 3 {
                0 => objects(state, input),
                1 => leases(state, input),
                _ => hostile_leases(state, input),
            }
        }),
    }
}

fn again<T>(text: &str) -> Option<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let row: T = json::from_str(text).ok()?;
    let stored = json::to_string(&row).expect("a row can be stored");
    let loaded: T = json::from_str(&stored).unwrap_or_else(|error| panic!("{error}: {stored}"));
    assert_eq!(loaded, row, "what was stored loads as something else: {stored}");
    Some(row)
}

fn body(kind: u8, text: &str) {
    let mut world = world(DhcpMode::Authoritative);
    match kind {
        0 => put(&mut world, again::<Distro>(text).map(|row| Row::Distro(Arc::new(row)))),
        1 => put(
            &mut world,
            again::<Profile>(text).map(|row| Row::Profile(Arc::new(row))),
        ),
        2 => put(&mut world, again::<System>(text).map(|row| Row::System(Arc::new(row)))),
        3 => put(&mut world, again::<Arm>(text).map(|row| Row::Arm(Arc::new(row)))),
        4 => {
            if let Some(installation) = again::<Installation>(text) {
                Arc::make_mut(&mut world.installs).put(installation);
                ask(&world);
            }
        }
        _ => {
            let _ = again::<Lease>(text);
        }
    }
}

fn put(world: &mut boot::World, row: Option<Row>) {
    let Some(row) = row else { return };
    Arc::make_mut(&mut world.inventory).put(row);
    ask(world);
}

/// Whatever the rows say, everything that can be asked has an answer.
fn ask(world: &boot::World) {
    let systems: Vec<_> = world.inventory.systems().cloned().collect();
    for system in systems {
        let _ = resolve_system(&world.inventory, system.name.as_str());
        for ask in [Ask::BootFile, Ask::Script(boot::Dialect::Ipxe)] {
            let facts = Facts {
                mac: system.macs().next(),
                ..Facts::nobody(super::world::SERVER)
            };
            let _ = boot::decide(world, &Request { facts, ask });
        }
    }
}

/// RFC 1952's CRC-32, over parts that each end with a zero.
fn sum(parts: &[&[u8]]) -> u32 {
    let mut crc = !0_u32;
    for byte in parts.iter().flat_map(|part| part.iter().chain(&[0])) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                (crc >> 1) ^ 0xedb8_8320
            };
        }
    }
    !crc
}

/// Rows of inventory.db: kind, name and body, each up to a NUL; a name that begins with `!` gets a wrong checksum.
fn objects(state: &mut State, mut input: Input<'_>) {
    state.raw_inventory.execute("DELETE FROM objects", []).unwrap();
    let mut stored = 0;
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let (kind, name, body) = (input.line(0), input.line(0), input.line(0));
        let wrong = name.starts_with('!');
        let name = name.trim_start_matches('!');
        let sum = sum(&[kind.as_bytes(), name.as_bytes(), body.as_bytes()]) ^ u32::from(wrong);
        state.version += 1;
        let version = state.version;
        let insert = "INSERT OR REPLACE INTO objects (kind, name, version, body, sum) VALUES (?1, ?2, ?3, ?4, ?5)";
        state
            .raw_inventory
            .execute(insert, params![kind, name, version, body, sum])
            .unwrap();
        stored += 1;
    }
    state
        .raw_inventory
        .execute("UPDATE meta SET value = ?1 WHERE key = 'version'", [state.version])
        .unwrap();
    let mut database = InventoryDb::open(&state.folder).unwrap().leaving_out_damaged();
    let (inventory, version) = database.load().expect("a damaged row is left out");
    assert_eq!(i64::try_from(version).unwrap(), state.version);
    let damaged = database.take_damaged().len();
    let loaded = inventory.distros().count()
        + inventory.profiles().count()
        + inventory.systems().count()
        + inventory.arms().count();
    assert!(loaded + damaged <= stored, "{loaded} and {damaged} of {stored} rows");
    for system in inventory.systems() {
        let _ = resolve_system(&inventory, system.name.as_str());
    }
}

fn lease(input: &mut Input<'_>) -> Lease {
    let mut six = [0; 6];
    six.copy_from_slice(&[0x52, 0x54, 0, input.byte(), 0, input.byte()]);
    let time = |input: &mut Input<'_>| {
        let mut eight = [0; 8];
        eight.iter_mut().for_each(|byte| *byte = input.byte());
        Timestamp(i64::from_le_bytes(eight))
    };
    let name = input.line(0);
    let length = usize::from(input.byte());
    Lease {
        address: Ipv4Addr::from([input.byte(), input.byte(), input.byte(), input.byte()]),
        mac: Mac::new(six),
        client_id: input.take(length).to_vec(),
        hostname: Some(name).filter(|name| !name.is_empty()),
        granted: time(input),
        expires: time(input),
        state: [LeaseState::Active, LeaseState::Released, LeaseState::Quarantined][usize::from(input.byte() % 3)],
    }
}

/// What is written is read back.
fn leases(state: &mut State, mut input: Input<'_>) {
    state.raw_live.execute("DELETE FROM leases", []).unwrap();
    let mut rows: Vec<Lease> = Vec::new();
    for _ in 0..4 {
        let lease = lease(&mut input);
        rows.retain(|row| row.address != lease.address);
        rows.push(lease);
    }
    rows.sort_by_key(|row| row.address);
    let all: Vec<LiveRow> = rows.iter().cloned().map(LiveRow::Lease).collect();
    state
        .live
        .write(&all.iter().collect::<Vec<_>>())
        .expect("rows can be stored");
    let loaded = state.live.load().expect("a sound file");
    assert_eq!(
        (loaded.leases, loaded.damaged),
        (rows, Vec::<String>::new()),
        "what was stored loads as something else"
    );
}

/// Rows that somebody else wrote.
fn hostile_leases(state: &mut State, mut input: Input<'_>) {
    state.raw_live.execute("DELETE FROM leases", []).unwrap();
    let row = lease(&mut input);
    let code = input.byte() % 5;
    let mac = input.line(0).into_bytes();
    let sum = sum(&[
        &row.address.octets(),
        &mac,
        &row.client_id,
        row.hostname.as_deref().unwrap_or("").as_bytes(),
        &row.granted.0.to_be_bytes(),
        &row.expires.0.to_be_bytes(),
        &[code],
    ]);
    let address = i64::from(row.address.to_bits()) + (i64::from(input.byte() & 1) << 32);
    let insert = "INSERT INTO leases (address, mac, client_id, hostname, granted, expires, state, sum)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (granted, expires) = (row.granted.0, row.expires.0);
    state
        .raw_live
        .execute(
            insert,
            params![address, mac, row.client_id, row.hostname, granted, expires, code, sum],
        )
        .unwrap();
    let loaded = state.live.load().expect("a damaged row is named");
    assert_eq!(loaded.leases.len() + loaded.damaged.len(), 1);
    let sound = mac.len() == 6 && code < 3 && u32::try_from(address).is_ok();
    assert_eq!(loaded.leases.len(), usize::from(sound), "{:?}", loaded.leases);
}
