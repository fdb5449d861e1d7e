//! Cobbler's settings by their names, as far as they mean something here: for `setting report` and for XML-RPC. No password is among them.

use super::Config;
use std::net::Ipv4Addr;

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// Every name, and the key of our configuration that decides it; empty where nothing does.
pub const SETTINGS: [(&str, &str); 15] = [
    ("allow_dynamic_settings", ""),
    ("default_virt_bridge", ""),
    ("default_virt_type", ""),
    ("enable_menu", "unknown in [boot]"),
    ("http_port", "port in [http]"),
    ("manage_dhcp", ""),
    ("manage_dhcp_v4", ""),
    ("manage_dns", ""),
    ("manage_tftpd", ""),
    ("next_server_v4", "address in [server]"),
    ("proxy_url_int", "proxy in [defaults]"),
    ("pxe_just_once", ""),
    ("register_new_installs", "register in [cobbler]"),
    ("run_install_triggers", ""),
    ("server", "address in [server]"),
];

/// The settings, `server` being the address that clients are told.
#[must_use]
pub fn settings(config: &Config, server: Ipv4Addr) -> Vec<(&'static str, Setting)> {
    let server = config.address.unwrap_or(server).to_string();
    SETTINGS
        .iter()
        .map(|(name, _)| {
            let value = match *name {
                "default_virt_bridge" => Setting::Text("virbr0".to_owned()),
                "default_virt_type" => Setting::Text("kvm".to_owned()),
                "enable_menu" => Setting::Flag(config.unknown == super::Unknown::Menu),
                "http_port" => Setting::Number(config.http_port.into()),
                "next_server_v4" | "server" => Setting::Text(server.clone()),
                "proxy_url_int" => Setting::Text(config.defaults.proxy.clone().unwrap_or_default()),
                "register_new_installs" => Setting::Flag(config.cobbler.register),
                // A machine is installed once for each arming, and its stages run the hooks.
                "pxe_just_once" | "run_install_triggers" => Setting::Flag(true),
                // Other daemons' configurations are never written.
                _ => Setting::Flag(false),
            };
            (*name, value)
        })
        .collect()
}
