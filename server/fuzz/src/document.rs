//! Inventory documents: what is read can be applied or is refused, prints back as itself, resolves, and never arms a machine.

use super::world::world;
use cordwainer::config::DhcpMode;
use cordwainer::inventory::document::{changes, parse, print};
use cordwainer::inventory::{edit_all, flatten, resolve_profile, resolve_system};

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let document = match parse(&text, "f.toml") {
        Ok(document) => document,
        Err(bad) => {
            let lines = text.lines().count() + 1;
            assert!(
                (1..=lines).contains(&bad.line) && !bad.why.is_empty(),
                "{bad} of {lines} lines"
            );
            return;
        }
    };
    let printed = print(&document.rows);
    let again = parse(&printed, "printed.toml").unwrap_or_else(|bad| panic!("{bad}\n{printed}"));
    assert_eq!(again.rows, document.rows, "{printed}");
    assert!(again.enabled.is_empty(), "what is printed enables a machine");
    let mut inventory = (*world(DhcpMode::Proxy).inventory).clone();
    let arms = inventory.arms().count();
    let put = changes(&document, &inventory);
    let Ok(rows) = edit_all(&inventory, put) else { return };
    for row in rows {
        inventory.apply(row);
    }
    assert!(inventory.arms().count() <= arms, "a document armed a machine");
    for system in inventory.systems() {
        let resolved = resolve_system(&inventory, system.name.as_str());
        let resolved = resolved.unwrap_or_else(|broken| panic!("{broken}, and the edit was let through\n{text}"));
        let _ = flatten(&resolved);
        for mac in system.macs() {
            assert_eq!(
                inventory.system_by_mac(mac).map(|found| &found.name),
                Some(&system.name),
                "{mac} is claimed twice"
            );
        }
    }
    for profile in inventory.profiles() {
        let resolved = resolve_profile(&inventory, profile.name.as_str());
        assert!(
            resolved.is_ok(),
            "{:?}, and the edit was let through\n{text}",
            resolved.err()
        );
    }
    // The same document once more changes nothing.
    let again = edit_all(&inventory, changes(&document, &inventory));
    let once = inventory.clone();
    let mut twice = inventory;
    for row in again.unwrap_or_else(|refused| panic!("the second time it is refused: {refused}\n{text}")) {
        twice.apply(row);
    }
    assert!(
        once.systems().eq(twice.systems())
            && once.profiles().eq(twice.profiles())
            && once.distros().eq(twice.distros())
    );
}
