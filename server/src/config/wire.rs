//! What cordwainer.toml may say, and the way from there to [`Config`]. Unknown keys are fatal, and every problem is named with its
//! file, line, key and remedy, all of them at once.
//!
//! Never opens a file, and never repeats a secret in a message.

use super::keys::Section;
use super::read::{At, Reader, Table, host, nearest, of, path, plain, word};
use super::{Config, DhcpListen, DhcpMode, Unknown};
use crate::model::{Advertise, Binding, Defaults, Dict, Hostname, Name, Pool, Secret, Span, Subnet};
use ipnet::Ipv4Net;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1, when the problem has one.
    pub line: Option<usize>,
    /// The key, what was expected, and the remedy.
    pub what: String,
}

/// Everything that is wrong with the file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

/// `FILE:LINE: what`, one a line.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match problem.line {
                Some(line) => write!(f, "{}:{line}: {}", self.file, problem.what)?,
                None => write!(f, "{}: {}", self.file, problem.what)?,
            }
        }
        Ok(())
    }
}

/// Reads the text of a configuration file. `file_name` is for messages only.
///
/// # Errors
/// [`ConfigError`] with every problem that was found.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigError> {
    let failed = |mut problems: Vec<Problem>| {
        problems.sort_by_key(|problem| problem.line);
        ConfigError {
            file: file_name.to_owned(),
            problems,
        }
    };
    let document = DeTable::parse(text).map_err(|error| {
        let reader = Reader::new(text);
        failed(vec![Problem {
            line: error.span().map(|span| reader.line(&span)),
            what: format!("this is not TOML: {}", error.message().replace('\n', ", ")),
        }])
    })?;
    let mut reader = Reader::new(text);
    let config = config(&mut reader, document.get_ref());
    if reader.problems.is_empty() {
        Ok(config)
    } else {
        Err(failed(reader.problems))
    }
}

/// The tables of one section: none, one, or (for `[[subnet]]`) several.
fn tables<'d>(reader: &mut Reader<'d>, document: &'d DeTable<'d>, section: Section) -> Vec<Table<'d>> {
    let mut found = Vec::new();
    for (key, value) in document {
        if key.get_ref().as_ref() != section.as_str() {
            continue;
        }
        let line = reader.line(&key.span());
        match (section, value.get_ref()) {
            (Section::Subnet, DeValue::Array(items)) => {
                for item in items.iter() {
                    let line = reader.line(&item.span());
                    match item.get_ref() {
                        DeValue::Table(table) => found.push(reader.table(section, line, table)),
                        _ => reader.problem(line, "`subnet` holds something else than sections; write [[subnet]]"),
                    }
                }
            }
            (Section::Subnet, DeValue::Table(_)) => {
                reader.problem(
                    line,
                    "[subnet] is written with two brackets: [[subnet]], once for each network",
                );
            }
            (_, DeValue::Table(table)) => found.push(reader.table(section, line, table)),
            _ => reader.problem(
                line,
                format!(
                    "`{}` is a section; write {section} on a line of its own",
                    section.as_str()
                ),
            ),
        }
    }
    found
}

fn config<'d>(reader: &mut Reader<'d>, document: &'d DeTable<'d>) -> Config {
    let mut config = Config::default();
    let top = reader.table(Section::Top, 1, document);
    set(&mut config.state, reader.checked(&top, "state", path));
    set(&mut config.overrides, reader.checked(&top, "overrides", path));
    for table in tables(reader, document, Section::Server) {
        set_list(
            &mut config.interfaces,
            reader.checked_list(&table, "interfaces", interface),
        );
        config.address = reader.checked(&table, "address", host).map(|at| at.value);
        config.guest_address = reader.checked(&table, "guest_address", host).map(|at| at.value);
        set_list(&mut config.allow, reader.checked_list(&table, "allow", network));
    }
    let mut mode_line = 1;
    for table in tables(reader, document, Section::Dhcp) {
        mode_line = table.line;
        let modes = [DhcpMode::Proxy, DhcpMode::Authoritative, DhcpMode::Off].map(|mode| (mode.as_str(), mode));
        if let Some(at) = reader.checked(&table, "mode", |text| word(text, &modes)) {
            (config.dhcp, mode_line) = (at.value, at.line);
        }
        let ways = [DhcpListen::Auto, DhcpListen::Udp, DhcpListen::Packet].map(|way| (way.as_str(), way));
        set(
            &mut config.dhcp_listen,
            reader.checked(&table, "listen", |text| word(text, &ways)),
        );
    }
    for table in tables(reader, document, Section::Http) {
        config.http_port = reader.port(&table, "port").unwrap_or(config.http_port);
        config.metrics_listen = reader.checked(&table, "metrics_listen", socket).map(|at| at.value);
    }
    for table in tables(reader, document, Section::Tftp) {
        config.tftp_port = reader.port(&table, "port").unwrap_or(config.tftp_port);
    }
    for table in tables(reader, document, Section::Boot) {
        let words = [Unknown::Local, Unknown::Menu].map(|unknown| (unknown.as_str(), unknown));
        set(
            &mut config.unknown,
            reader.checked(&table, "unknown", |text| word(text, &words)),
        );
        config.menu_default = reader.checked(&table, "menu_default", of::<Name>).map(|at| at.value);
        set_list(
            &mut config.loader_paths,
            reader.checked_list(&table, "loader_paths", path),
        );
    }
    for table in tables(reader, document, Section::Install) {
        set(&mut config.arm_for, reader.checked(&table, "arm_for", span));
        set(&mut config.install_timeout, reader.checked(&table, "timeout", span));
    }
    for table in tables(reader, document, Section::Cobbler) {
        let switch = [("on", true), ("off", false)];
        let face = &mut config.cobbler;
        set(&mut face.api, reader.checked(&table, "api", |text| word(text, &switch)));
        set(
            &mut face.register,
            reader.checked(&table, "register", |text| word(text, &switch)),
        );
        set(
            &mut face.power,
            reader.checked(&table, "power", |text| word(text, &switch)),
        );
        set(&mut face.session, reader.checked(&table, "session", span));
        face.port = reader.port(&table, "port").unwrap_or(face.port);
    }
    for table in tables(reader, document, Section::Defaults) {
        config.defaults = defaults(reader, &table, config.defaults);
    }
    let mut subnets = Vec::new();
    for table in tables(reader, document, Section::Subnet) {
        if let Some(subnet) = subnet(reader, &table, config.dhcp, &subnets) {
            subnets.push(subnet);
        }
    }
    shared(reader, document, &subnets);
    if config.dhcp == DhcpMode::Authoritative && subnets.is_empty() && reader.problems.is_empty() {
        let what = "authoritative mode has no network to give addresses on; add a [[subnet]] with network and pool, or use mode = \"proxy\"";
        reader.wrong(Section::Dhcp, "mode", mode_line, what);
    }
    config.subnets = subnets;
    config
}

fn set<T>(to: &mut T, from: Option<At<T>>) {
    if let Some(at) = from {
        *to = at.value;
    }
}

fn set_list<T>(to: &mut Vec<T>, from: Option<Vec<At<T>>>) {
    if let Some(values) = from {
        *to = values.into_iter().map(|at| at.value).collect();
    }
}

fn subnet<'d>(reader: &mut Reader<'d>, table: &Table<'d>, mode: DhcpMode, others: &[Subnet]) -> Option<Subnet> {
    let section = Section::Subnet;
    let network_at = reader.checked(table, "network", network);
    let pool = reader.checked(table, "pool", of::<Pool>);
    let router = reader.checked(table, "router", host);
    let dns = reader.checked_list(table, "dns", host).unwrap_or_default();
    let domain = reader.checked(table, "domain", domain).map(|at| at.value);
    let lease = reader
        .checked(table, "lease", span)
        .map_or(Span::seconds(12 * 3600), |at| at.value);
    let relays = reader.checked_list(table, "relays", host).unwrap_or_default();
    let bindings = [
        ("lease", Binding::Lease),
        ("neighbour", Binding::Neighbour),
        ("token-only", Binding::TokenOnly),
    ];
    let binding = reader.checked(table, "binding", |text| word(text, &bindings));
    let choices = [Advertise::Auto, Advertise::On, Advertise::Off].map(|choice| (choice.as_str(), choice));
    let advertised = reader.checked(table, "router_advertisements", |text| word(text, &choices));
    let switch = [("on", true), ("off", false)];
    let shared = reader.checked(table, "shared", word_or_nothing);
    let probe = reader.checked(table, "probe", |text| word(text, &switch));
    let Some(At { value: network, line }) = network_at else {
        // A misspelt `network` is named already, with what was meant.
        if table.has("network")
            || reader
                .problems
                .iter()
                .any(|problem| problem.what.ends_with("did you mean `network`?"))
        {
            return None;
        }
        reader.problem(
            table.line,
            "[[subnet]] needs a network; write network = \"192.168.77.0/24\"",
        );
        return None;
    };
    if let Some(other) = others
        .iter()
        .find(|other| other.network.contains(&network.network()) || network.contains(&other.network.network()))
    {
        let why = format!(
            "{network} overlaps {}; an address belongs to one [[subnet]]",
            other.network
        );
        reader.wrong(section, "network", line, &why);
    }
    if let Some(At { value: pool, line }) = &pool {
        let inside = |address: &Ipv4Addr| network.hosts().next() <= Some(*address) && *address < network.broadcast();
        if !network.contains(&pool.first)
            || !network.contains(&pool.last)
            || !inside(&pool.first)
            || !inside(&pool.last)
        {
            let (first, last) = (network.hosts().next(), network.broadcast().to_bits().saturating_sub(1));
            let first = first.unwrap_or_else(|| network.network());
            let why = format!(
                "{pool} is not inside {network}; hosts there are {first}-{}",
                Ipv4Addr::from_bits(last)
            );
            reader.wrong(section, "pool", *line, &why);
        } else if let Some(router) = router.as_ref().filter(|router| pool.contains(router.value)) {
            let why = format!("{pool} holds the router {}; leave it out of the pool", router.value);
            reader.wrong(section, "pool", *line, &why);
        }
    }
    if let Some(At { value: router, line }) = &router
        && !network.contains(router)
    {
        let why = format!("{router} is not inside {network}; machines could not reach it");
        reader.wrong(section, "router", *line, &why);
    }
    let binding = match binding {
        Some(At {
            value: Binding::Lease,
            line,
        }) if mode != DhcpMode::Authoritative => {
            let why = "there are no leases of ours unless [dhcp] mode = \"authoritative\"; use \"neighbour\" or \"token-only\"";
            reader.wrong(section, "binding", line, why);
            Binding::Neighbour
        }
        Some(at) => at.value,
        None if mode == DhcpMode::Authoritative => Binding::Lease,
        None => Binding::Neighbour,
    };
    Some(Subnet {
        network,
        pool: pool.map(|at| at.value),
        router: router.map(|at| at.value),
        dns: dns.into_iter().map(|at| at.value).collect(),
        domain,
        lease,
        relays: relays.into_iter().map(|at| at.value).collect(),
        binding,
        router_advertisements: advertised.map(|at| at.value).unwrap_or_default(),
        shared: shared.and_then(|at| at.value),
        probe: probe.is_none_or(|at| at.value),
    })
}

/// What subnets of one link must agree on; and a name that only one of them has is a misspelling.
fn shared<'d>(reader: &mut Reader<'d>, document: &'d DeTable<'d>, subnets: &[Subnet]) {
    if !reader.problems.is_empty() {
        return;
    }
    let mut problems = Vec::new();
    for table in tables(reader, document, Section::Subnet) {
        let Some(At {
            value: Some(name),
            line,
        }) = reader.checked(&table, "shared", word_or_nothing)
        else {
            continue;
        };
        let of_link: Vec<&Subnet> = subnets
            .iter()
            .filter(|subnet| subnet.shared.as_ref() == Some(&name))
            .collect();
        let others = subnets.iter().filter_map(|subnet| subnet.shared.as_ref());
        if of_link.len() < 2 {
            let near = nearest(name.as_str(), others.filter(|other| **other != name).map(Name::as_str));
            let near = near
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            let why =
                format!("no other [[subnet]] has \"{name}\"; write the same word in each that lies on the link{near}");
            problems.push(("shared", line, why));
        } else if of_link
            .iter()
            .zip(of_link.iter().skip(1))
            .any(|(one, other)| one.router_advertisements != other.router_advertisements)
        {
            let why = format!("not the same in each [[subnet]] of \"{name}\"; it is one link, so write the same word");
            problems.push(("router_advertisements", line, why));
        }
    }
    for (key, line, why) in problems {
        reader.wrong(Section::Subnet, key, line, &why);
    }
}

fn defaults<'d>(reader: &mut Reader<'d>, table: &Table<'d>, built_in: Defaults) -> Defaults {
    let list = |found: Option<Vec<At<String>>>| found.unwrap_or_default().into_iter().map(|at| at.value).collect();
    let hash = reader.checked(table, "root_password_hash", password_hash);
    let servers = reader.checked_list(table, "name_servers", host).unwrap_or_default();
    let mut defaults = Defaults {
        ssh_authorized_keys: list(reader.checked_list(table, "ssh_authorized_keys", public_key)),
        root_password_hash: hash.and_then(|at| at.value),
        name_servers: servers.into_iter().map(|at| at.value).collect(),
        name_servers_search: list(reader.checked_list(table, "name_servers_search", domain)),
        proxy: reader.checked(table, "proxy", url).map(|at| at.value),
        ..built_in
    };
    set(
        &mut defaults.kernel_options,
        reader.checked(table, "kernel_options", of::<Dict>),
    );
    set(
        &mut defaults.autoinstall_meta,
        reader.checked(table, "autoinstall_meta", of::<Dict>),
    );
    let zone = |text: &str| plain(text, "a time zone", "Europe/Berlin");
    set(&mut defaults.timezone, reader.checked(table, "timezone", zone));
    let locale = |text: &str| plain(text, "a locale", "en_US.UTF-8");
    set(&mut defaults.locale, reader.checked(table, "locale", locale));
    let keyboard = |text: &str| plain(text, "a keyboard layout", "us");
    set(&mut defaults.keyboard, reader.checked(table, "keyboard", keyboard));
    defaults
}

fn word_or_nothing(text: &str) -> Result<Option<Name>, String> {
    if text.is_empty() { Ok(None) } else { of(text).map(Some) }
}

fn interface(text: &str) -> Result<String, String> {
    // IFNAMSIZ is 16 with the closing zero; the kernel refuses slashes, colons and blanks.
    let fits = (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':'))
        && !matches!(text, "." | "..");
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is not the name of an interface; write it like br0",
            text.escape_debug()
        ))
    }
}

fn network(text: &str) -> Result<Ipv4Net, String> {
    let network: Ipv4Net = text.parse().map_err(|_| {
        format!(
            "`{}` is not a network; write it like 192.168.77.0/24",
            text.escape_debug()
        )
    })?;
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(format!(
            "`{text}` is an address in a network; the network is {}",
            network.trunc()
        ))
    }
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "`{}` is not an address and port; write it like 127.0.0.1:9090",
            text.escape_debug()
        )
    })
}

fn span(text: &str) -> Result<Span, String> {
    let span: Span = of(text)?;
    if (1..=u64::from(u32::MAX)).contains(&span.0.as_secs()) {
        Ok(span)
    } else {
        Err(format!("`{text}` is not between 1s and 49710d"))
    }
}

fn domain(text: &str) -> Result<String, String> {
    text.parse::<Hostname>()
        .map(|name| name.to_string())
        .map_err(|_| format!("`{}` is not a domain; write it like lab.test", text.escape_debug()))
}

fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest)
            if !rest.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !b"\"'\\<>`{}|^".contains(&b)) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("this is not a URL; write it like http://proxy.lab.test:3128".to_owned()),
    }
}

/// A crypted password, or nothing. The message never repeats what was written: it may be the password itself.
fn password_hash(text: &str) -> Result<Option<Secret<String>>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let fits = text.starts_with('$')
        && text.split('$').count() >= 4
        && text.bytes().all(|b| b.is_ascii_graphic() && !b":\"'\\`".contains(&b));
    if fits {
        Ok(Some(Secret::new(text.to_owned())))
    } else {
        Err("this is not a crypted password (it is not shown here); make one with `openssl passwd -6`, it starts with $6$".to_owned())
    }
}

/// One line of an authorized_keys file. The message never repeats what was written: it may be a private key.
fn public_key(text: &str) -> Result<String, String> {
    const KINDS: [&str; 7] = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ];
    let text = text.trim();
    if text.contains("PRIVATE KEY") {
        return Err(
            "this is a private key (it is not shown here); give the public one, the line in the .pub file".to_owned(),
        );
    }
    let mut words = text.split_ascii_whitespace();
    let kind = words.next().is_some_and(|kind| KINDS.contains(&kind));
    let body = words.next().is_some_and(|body| {
        body.starts_with("AAAA")
            && body.len() >= 68
            && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
    });
    if kind && body && !text.contains(|c: char| c.is_control() || matches!(c, '"' | '\'' | '\\' | '`' | '$')) {
        Ok(text.to_owned())
    } else {
        Err(
            "this is not a public SSH key; give the line in the .pub file, like \"ssh-ed25519 AAAA... you@example\""
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::dump;
    use super::*;

    const SAMPLE: &str = r#"
state = "/var/lib/cordwainer"
[server]
interfaces = ["br0"]            # address told to clients: the interface's own, unless address = "..."
[dhcp]
mode = "authoritative"          # or "proxy" (the default), or "off"
[[subnet]]
network = "192.168.77.0/24"
pool = "192.168.77.100-192.168.77.200"
router = "192.168.77.1"
dns = ["192.168.77.1"]
domain = "lab.test"
lease = "12h"
shared = "lab"
[[subnet]]                      # a second network on the same link
network = "192.168.78.0/24"
shared = "lab"
[http]
port = 80
[tftp]
port = 69
[defaults]
ssh_authorized_keys = []
root_password_hash = ""
"#;

    fn wrong(text: &str) -> String {
        parse(text, "c.toml").unwrap_err().to_string()
    }

    #[test]
    fn the_sample_file_works_as_it_stands() {
        let config = parse(SAMPLE, "c.toml").unwrap();
        assert_eq!(config.dhcp, DhcpMode::Authoritative);
        assert_eq!(config.subnets[0].binding, Binding::Lease);
        assert_eq!(config.subnets[0].lease.to_string(), "12h");
        assert_eq!(config.defaults.root_password_hash, None);
        assert_eq!(parse("", "c.toml").unwrap(), Config::default());
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for text in [SAMPLE, ""] {
            let config = parse(text, "c.toml").unwrap();
            assert_eq!(parse(&dump(&config), "d.toml").unwrap(), config);
        }
        let config = parse("[defaults]\nroot_password_hash = \"$6$salt$verysecret\"", "c.toml").unwrap();
        assert!(dump(&config).contains("root_password_hash = \"(secret)\""));
    }

    #[test]
    fn every_documented_key_is_read_and_shown() {
        let shown = dump(&parse(SAMPLE, "c.toml").unwrap());
        for key in super::super::KEYS {
            assert!(shown.contains(key.name), "{} is not shown", key.name);
            let section = match key.section {
                Section::Top => String::new(),
                other => format!("{other}\n"),
            };
            // A date fits no key, so a key that is read complains of it.
            let text = format!("{section}{} = 2000-01-01", key.name);
            assert!(
                wrong(&text).contains("found a date, expected "),
                "{} is not read",
                key.name
            );
        }
    }

    #[test]
    fn unknown_keys_are_named_with_line_and_nearest() {
        let broken = SAMPLE.replacen("network =", "netwrok =", 1);
        assert_eq!(
            wrong(&broken),
            "c.toml:8: unknown key `netwrok` in [[subnet]]; did you mean `network`?"
        );
        assert_eq!(
            wrong("[[subnet]]\nlease = \"1h\""),
            "c.toml:1: [[subnet]] needs a network; write network = \"192.168.77.0/24\""
        );
        assert_eq!(
            wrong("[dhcp]\npool = \"x\""),
            "c.toml:2: unknown key `pool` in [dhcp]; it belongs in [[subnet]]"
        );
        assert_eq!(
            wrong("[htpp]\nport = 80"),
            "c.toml:1: unknown section `htpp`; did you mean `http`?"
        );
        assert_eq!(
            wrong("a = 1"),
            "c.toml:1: unknown key `a` in the top of the file; keys there are state, overrides"
        );
        assert!(wrong("[server\n").starts_with("c.toml:1: this is not TOML: "));
    }

    #[test]
    fn every_wrong_value_is_named_with_its_expectation() {
        let net = "[[subnet]]\nnetwork = \"10.0.0.0/24\"\n";
        for (text, expected) in [
            (
                "state = 3".to_owned(),
                ":1: `state` in the top of the file: found a number, expected an absolute path like",
            ),
            (
                "state = \"x\"".into(),
                ":1: `state` in the top of the file: `x` is not an absolute path",
            ),
            (
                "[http]\nport = 70000".into(),
                ":2: `port` in [http]: 70000 is not a port; expected a port number from 0 to 65535",
            ),
            ("[http]\nport = -1".into(), ":2: `port` in [http]: -1 is not a port"),
            (
                "[dhcp]\nmode = \"proxi\"".into(),
                ":2: `mode` in [dhcp]: `proxi` is not one of \"proxy\", \"authoritative\", \"off\"; did you mean \"proxy\"?",
            ),
            (
                "[dhcp]\nmode = \"authoritative\"".into(),
                ":2: `mode` in [dhcp]: authoritative mode has no network",
            ),
            (
                format!("{net}pool = \"10.0.1.1-10.0.1.9\""),
                ":3: `pool` in [[subnet]]: 10.0.1.1-10.0.1.9 is not inside 10.0.0.0/24; hosts there are 10.0.0.1-10.0.0.254",
            ),
            (
                format!("{net}pool = \"10.0.0.200-10.0.0.255\""),
                ":3: `pool` in [[subnet]]: 10.0.0.200-10.0.0.255 is not inside",
            ),
            (
                format!("{net}pool = \"10.0.0.0-10.0.0.9\""),
                ":3: `pool` in [[subnet]]: 10.0.0.0-10.0.0.9 is not inside",
            ),
            (
                format!("{net}pool = \"10.0.0.9-10.0.0.1\""),
                ":3: `pool` in [[subnet]]: `10.0.0.9-10.0.0.1` is not a range",
            ),
            (
                format!("{net}router = \"10.0.0.5\"\npool = \"10.0.0.1-10.0.0.9\""),
                ":4: `pool` in [[subnet]]: 10.0.0.1-10.0.0.9 holds the router 10.0.0.5",
            ),
            (
                format!("{net}router = \"10.0.9.5\""),
                ":3: `router` in [[subnet]]: 10.0.9.5 is not inside 10.0.0.0/24",
            ),
            (
                format!("{net}dns = [\"10.0.0.1\",\n \"ns\"]"),
                ":4: `dns` in [[subnet]]: `ns` is not an IPv4 address",
            ),
            (
                format!("{net}lease = \"soon\""),
                ":3: `lease` in [[subnet]]: `soon` is not a length of time",
            ),
            (
                format!("{net}lease = \"0\""),
                ":3: `lease` in [[subnet]]: `0` is not between",
            ),
            (
                format!("{net}binding = \"lease\""),
                ":3: `binding` in [[subnet]]: there are no leases of ours",
            ),
            (
                format!("{net}[[subnet]]\nnetwork = \"10.0.0.128/25\""),
                ":4: `network` in [[subnet]]: 10.0.0.128/25 overlaps 10.0.0.0/24",
            ),
            (
                format!("{net}shared = \"a b\""),
                ":3: `shared` in [[subnet]]: `a b` is not a name",
            ),
            (
                format!("{net}shared = \"floor\"\n[[subnet]]\nnetwork = \"10.0.1.0/24\"\nshared = \"flor\""),
                ":3: `shared` in [[subnet]]: no other [[subnet]] has \"floor\"; write the same word in each that lies on the link; did you mean \"flor\"?",
            ),
            (
                format!(
                    "{net}shared = \"f\"\nrouter_advertisements = \"on\"\n[[subnet]]\nnetwork = \"10.0.1.0/24\"\nshared = \"f\""
                ),
                ":3: `router_advertisements` in [[subnet]]: not the same in each [[subnet]] of \"f\"",
            ),
            (
                "[[subnet]]\nnetwork = \"10.0.0.1/24\"".into(),
                ":2: `network` in [[subnet]]: `10.0.0.1/24` is an address in a network; the network is 10.0.0.0/24",
            ),
            (
                "[subnet]\nnetwork = \"10.0.0.0/24\"".into(),
                ":1: [subnet] is written with two brackets",
            ),
            (
                "[server]\ninterfaces = \"br0\"".into(),
                ":2: `interfaces` in [server]: found a text, expected a list of interface names",
            ),
            (
                "[server]\ninterfaces = [\"a/b\"]".into(),
                ":2: `interfaces` in [server]: `a/b` is not the name of an interface",
            ),
            ("server = 1".into(), ":1: `server` is a section; write [server]"),
            (
                "[defaults]\ntimezone = \"a b\"".into(),
                ":2: `timezone` in [defaults]: `a b` is not a time zone",
            ),
            (
                "[defaults]\nproxy = \"ftp://x\"".into(),
                ":2: `proxy` in [defaults]: this is not a URL",
            ),
            (
                "[defaults]\nkernel_options = \"a=\\\"b\"".into(),
                ":2: `kernel_options` in [defaults]: a quote is not closed",
            ),
            (
                "[boot]\nmenu-default = \"a b\"".into(),
                ":2: `menu_default` in [boot]: `a b` is not a name",
            ),
            (
                "[boot]\nmenu-default = \"a\"\nmenu_default = \"b\"".into(),
                "is given twice",
            ),
        ] {
            let message = wrong(&text);
            assert!(
                message.contains(expected),
                "{text}\n  said     {message}\n  expected {expected}"
            );
            assert!(message.starts_with("c.toml:"), "{message}");
        }
    }

    #[test]
    fn no_message_repeats_a_secret() {
        for text in [
            "root_password_hash = \"hunter2\"",
            "root_password_hash = \"$6$hunter2\"",
            "ssh_authorized_keys = [\"-----BEGIN OPENSSH PRIVATE KEY----- hunter2\"]",
            "ssh_authorized_keys = [\"ssh-rsa hunter2\"]",
        ] {
            let message = wrong(&format!("[defaults]\n{text}"));
            assert!(message.starts_with("c.toml:2: `"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn binding_follows_the_mode() {
        let text = "[[subnet]]\nnetwork = \"10.0.0.0/24\"\n";
        assert_eq!(parse(text, "c").unwrap().subnets[0].binding, Binding::Neighbour);
        let text = format!(
            "{text}binding = \"token-only\"\nrouter-advertisements = \"on\"\n[dhcp]\nmode = \"authoritative\"\n"
        );
        let subnet = &parse(&text, "c").unwrap().subnets[0];
        assert_eq!(
            (subnet.binding, subnet.router_advertisements),
            (Binding::TokenOnly, Advertise::On)
        );
    }
}
