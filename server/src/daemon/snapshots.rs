//! The snapshots that every request reads: swapped whole, each by one writer, read by everyone without waiting.
#![expect(clippy::disallowed_methods, reason = "reads the kernel's neighbour table")]

use crate::assets::Assets;
use crate::boot::World;
use crate::config::Config;
use crate::install::{Installs, ServerKey};
use crate::inventory::Inventory;
use crate::model::Mac;
use crate::ports::Worlds;
use crate::store::clock::Clock;
use arc_swap::ArcSwap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Where the kernel shows its IPv4 neighbours.
const NEIGHBOURS: &str = "/proc/net/arp";

/// The current snapshots.
pub(super) struct Snapshots {
    pub(super) config: Arc<Config>,
    pub(super) inventory: ArcSwap<Inventory>,
    pub(super) installs: Arc<ArcSwap<Installs>>,
    pub(super) assets: ArcSwap<Assets>,
    pub(super) key: Arc<ServerKey>,
    pub(super) clock: Clock,
}

impl Worlds for Snapshots {
    fn world(&self) -> World {
        World {
            config: self.config.clone(),
            inventory: self.inventory.load_full(),
            installs: self.installs.load_full(),
            assets: self.assets.load_full(),
            key: self.key.clone(),
            now: self.clock.now(),
        }
    }

    fn neighbour(&self, address: Ipv4Addr) -> Option<Mac> {
        neighbour_of(&std::fs::read_to_string(NEIGHBOURS).ok()?, address)
    }
}

/// Finds `address` in the kernel's table: IP, type, flags, MAC, mask, device. Flag 2 says that the entry is complete.
fn neighbour_of(table: &str, address: Ipv4Addr) -> Option<Mac> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let ip: Ipv4Addr = columns.next()?.parse().ok()?;
        let flags = u32::from_str_radix(columns.nth(1)?.trim_start_matches("0x"), 16).ok()?;
        let mac: Mac = columns.next()?.parse().ok()?;
        (ip == address && flags & 2 != 0 && !mac.is_unusable()).then_some(mac)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_neighbours_count() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     192.0.2.10       0x1         0x2         52:54:00:00:00:01     *        br0\n\
                     192.0.2.11       0x1         0x0         00:00:00:00:00:00     *        br0\n";
        assert_eq!(
            neighbour_of(table, Ipv4Addr::new(192, 0, 2, 10)),
            Some(Mac::new([0x52, 0x54, 0, 0, 0, 1]))
        );
        assert_eq!(neighbour_of(table, Ipv4Addr::new(192, 0, 2, 11)), None);
        assert_eq!(neighbour_of(table, Ipv4Addr::new(192, 0, 2, 12)), None);
    }
}
