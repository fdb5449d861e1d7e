//! 100,000 systems: how long they take to load and how much memory they hold. Measured and printed; a benchmark asserts.

use super::*;
use std::time::Instant;

const SYSTEMS: u32 = 100_000;

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "a role of the test beside it"]
fn loader() {
    let Some(path) = role() else { return };
    let before = resident();
    let begun = Instant::now();
    let mut db = InventoryDb::open(&Folder::open(&path).unwrap()).unwrap();
    let (inventory, _) = db.load().unwrap();
    let loaded = begun.elapsed();
    let held = resident() - before;
    let begun = Instant::now();
    db.commit(judged(set("s77", "comment", "changed"))).unwrap();
    let edited = begun.elapsed();
    say(&format!(
        "{} systems loaded in {loaded:.2?}, {} MiB more resident; one edit then {edited:.2?}",
        inventory.system_count(),
        held / 1024
    ));
}

#[test]
fn a_hundred_thousand_systems_load() {
    let (_dir, folder) = state();
    let mut db = InventoryDb::open(&folder).unwrap();
    ground(&mut db);
    let systems = (0..SYSTEMS).map(|number| {
        let lease = lease(number);
        add(
            Kind::System,
            &format!("s{number}"),
            &[
                ("profile", "p"),
                ("mac", &lease.mac.to_string()),
                ("ip", &Ipv4Addr::from_bits(lease.address.to_bits() + 1).to_string()),
                ("hostname", &format!("s{number}.lab.test")),
            ],
        )
    });
    let begun = Instant::now();
    db.commit(|inventory| edit_all(inventory, systems)).unwrap();
    println!("{SYSTEMS} systems judged and written in {:.2?}", begun.elapsed());
    let size = std::fs::metadata(folder.path().join("inventory.db")).unwrap().len() >> 20;
    // A reader that follows gets one row, not all.
    let mut reader = InventoryDb::open(&folder).unwrap();
    let (_, version) = reader.load().unwrap();
    reader.poll(version).unwrap();
    let mut child = start_role("scale", "loader", folder.path());
    for line in said(&mut child) {
        println!(
            "{line} (file {size} MiB, {})",
            if cfg!(debug_assertions) {
                "unoptimised"
            } else {
                "optimised"
            }
        );
    }
    assert!(child.wait().unwrap().success());
    let begun = Instant::now();
    let polled = reader.poll(version).unwrap().unwrap();
    println!("the change was read in {:.2?}", begun.elapsed());
    assert_eq!(polled.rows.len(), 1);
    let mut idle = 0;
    let begun = Instant::now();
    while idle < 10_000 && reader.poll(polled.version).unwrap().is_none() {
        idle += 1;
    }
    println!("an idle poll takes {:.2?}", begun.elapsed() / 10_000);
    assert_eq!(idle, 10_000);
}
