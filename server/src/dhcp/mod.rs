//! DHCP: the packet wall, the lease table, `respond`, and the sockets.
//!
//! The pure half goes from bytes to a reply and the rows that must be on disk before it leaves; `serve` moves the bytes.

mod advertise;
mod authoritative;
mod emit;
mod gate;
mod identity;
mod leases;
pub mod packet;
mod pool;
mod proxy;
mod respond;
mod serve;
mod stock;
pub mod wall;

pub use advertise::Advertiser;
pub use emit::{Draft, emit};
pub use leases::{Change, Found, Leases, QUARANTINE};
pub use packet::{Client, MessageType, Packet};
pub use respond::{CLIENT_PORT, Destination, Link, Outcome, PROXY_PORT, Reply, SERVER_PORT, respond};
pub use serve::links::LinkError;
pub use serve::probe::ForeignServer;
pub use serve::{Counts, DhcpError, Server, links, probe};
pub use stock::Heard;
