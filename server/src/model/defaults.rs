//! The settings layer of inheritance: what `[defaults]` gives to every profile and system.

use super::{Dict, Secret};
use std::net::Ipv4Addr;

/// The root of every inheritance chain. Holds secrets, so it is never serialized.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Defaults {
    /// Public keys that may log in as root on what is installed.
    pub ssh_authorized_keys: Vec<String>,
    /// Crypted root password (`$6$`, `$y$`); empty: none.
    pub root_password_hash: Option<Secret<String>>,
    /// Kernel command line of every installer.
    pub kernel_options: Dict,
    /// Template variables of every answer file.
    pub autoinstall_meta: Dict,
    /// Resolvers, where neither profile nor subnet names any.
    pub name_servers: Vec<Ipv4Addr>,
    /// Search domains.
    pub name_servers_search: Vec<String>,
    /// Time zone of what is installed, as in tzdata.
    pub timezone: String,
    /// Locale of what is installed.
    pub locale: String,
    /// Keyboard layout of what is installed.
    pub keyboard: String,
    /// Proxy URL that installers use.
    pub proxy: Option<String>,
}
