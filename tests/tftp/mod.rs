//! TFTP against real peers: what ROMs and tools do on a wire, and what a server must never do.

mod armed;
mod behaviour;
mod differential;
mod limits;
mod peers;
pub(crate) mod reader;
pub(crate) mod serving;
mod thousand;
mod weather;
