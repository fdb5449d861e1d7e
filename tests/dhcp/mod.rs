//! DHCP: real firmware's packets and hostile ones through `respond`, and real clients against the real server.

mod captures;
pub mod clients;
mod conflict;
mod faults;
mod flood;
mod foreign;
mod installers;
mod kill;
mod options;
mod peers;
mod properties;
mod relay;
mod reservations;
mod rfc2131;
mod server;
mod small_disk;
mod world;

pub use properties::{Dice, seed};
