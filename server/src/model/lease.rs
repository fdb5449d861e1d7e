//! One lease: an address that a machine holds for a time. The row that must be on disk before the ACK leaves.

use super::{Mac, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What a lease row says of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// Held by the machine until it expires.
    Active,
    /// Given back; kept so that the machine gets the same address again.
    Released,
    /// A client found it in use (DHCPDECLINE): nobody gets it until it expires.
    Quarantined,
}

/// An address, the machine that holds it, and for how long. One MAC has one row on a subnet (DESIGN 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address; the key.
    pub address: Ipv4Addr,
    /// The machine.
    pub mac: Mac,
    /// Option 61 as last seen, for the record; identity is the MAC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_id: Vec<u8>,
    /// Option 12 as last seen, escaped, at most 255 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// When it was last granted.
    pub granted: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// What the row says.
    pub state: LeaseState,
}
