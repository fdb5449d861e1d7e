//! DHCP: the packet wall, the lease table, `respond`, and the sockets.

/// The lease table.
#[derive(Debug, Default)]
pub struct Leases {}
