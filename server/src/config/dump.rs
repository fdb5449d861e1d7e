//! The effective configuration as a file that could be read again, every key with its value, secrets as `(secret)`.

use super::Config;
use crate::model::Binding;
use std::fmt::{Display, Write as _};

fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

/// A key with its value, or the key as a comment when it has none.
fn line(out: &mut String, name: &str, value: Option<String>) {
    let _ = match value {
        Some(value) => writeln!(out, "{name} = {value}"),
        None => writeln!(out, "# {name} is not set"),
    };
}

const fn binding(binding: Binding) -> &'static str {
    match binding {
        Binding::Lease => "lease",
        Binding::Neighbour => "neighbour",
        Binding::Guest => "guest",
        Binding::TokenOnly => "token-only",
    }
}

/// The whole of `config`. Reads back as the same configuration, but for a root password hash, which is hidden.
#[must_use]
pub fn dump(config: &Config) -> String {
    let mut out = String::new();
    let to = &mut out;
    line(to, "state", Some(quoted(config.state.display())));
    line(to, "overrides", Some(quoted(config.overrides.display())));
    to.push_str("\n[server]\n");
    line(to, "interfaces", Some(list(&config.interfaces)));
    line(to, "address", config.address.map(quoted));
    line(to, "guest_address", config.guest_address.map(quoted));
    line(to, "allow", Some(list(&config.allow)));
    to.push_str("\n[dhcp]\n");
    line(to, "mode", Some(quoted(config.dhcp.as_str())));
    line(to, "listen", Some(quoted(config.dhcp_listen.as_str())));
    for subnet in &config.subnets {
        to.push_str("\n[[subnet]]\n");
        line(to, "network", Some(quoted(subnet.network)));
        line(to, "pool", subnet.pool.map(quoted));
        line(to, "router", subnet.router.map(quoted));
        line(to, "dns", Some(list(&subnet.dns)));
        line(to, "domain", subnet.domain.as_ref().map(quoted));
        line(to, "lease", Some(quoted(subnet.lease)));
        line(to, "relays", Some(list(&subnet.relays)));
        line(to, "binding", Some(quoted(binding(subnet.binding))));
        line(
            to,
            "router_advertisements",
            Some(quoted(subnet.router_advertisements.as_str())),
        );
        line(to, "shared", subnet.shared.as_ref().map(quoted));
        let probe = if subnet.probe { "on" } else { "off" };
        line(to, "probe", Some(quoted(probe)));
    }
    to.push_str("\n[http]\n");
    line(to, "port", Some(config.http_port.to_string()));
    line(to, "metrics_listen", config.metrics_listen.map(quoted));
    to.push_str("\n[tftp]\n");
    line(to, "port", Some(config.tftp_port.to_string()));
    to.push_str("\n[boot]\n");
    line(to, "unknown", Some(quoted(config.unknown.as_str())));
    line(to, "menu_default", config.menu_default.as_ref().map(quoted));
    line(
        to,
        "loader_paths",
        Some(list(config.loader_paths.iter().map(|path| path.display()))),
    );
    to.push_str("\n[install]\n");
    line(to, "arm_for", Some(quoted(config.arm_for)));
    line(to, "timeout", Some(quoted(config.install_timeout)));
    to.push_str("\n[cobbler]\n");
    let switch = |on: bool| Some(quoted(if on { "on" } else { "off" }));
    line(to, "api", switch(config.cobbler.api));
    line(to, "port", Some(config.cobbler.port.to_string()));
    line(to, "register", switch(config.cobbler.register));
    line(to, "power", switch(config.cobbler.power));
    line(to, "session", Some(quoted(config.cobbler.session)));
    to.push_str("\n[defaults]\n");
    let defaults = &config.defaults;
    line(to, "ssh_authorized_keys", Some(list(&defaults.ssh_authorized_keys)));
    line(
        to,
        "root_password_hash",
        defaults.root_password_hash.as_ref().map(quoted),
    );
    line(to, "kernel_options", Some(quoted(&defaults.kernel_options)));
    line(to, "autoinstall_meta", Some(quoted(&defaults.autoinstall_meta)));
    line(to, "name_servers", Some(list(&defaults.name_servers)));
    line(to, "name_servers_search", Some(list(&defaults.name_servers_search)));
    line(to, "timezone", Some(quoted(&defaults.timezone)));
    line(to, "locale", Some(quoted(&defaults.locale)));
    line(to, "keyboard", Some(quoted(&defaults.keyboard)));
    line(to, "proxy", defaults.proxy.as_ref().map(quoted));
    out
}
