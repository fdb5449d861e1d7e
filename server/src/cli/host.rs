//! What this host is: its address towards machines, free ports, who calls, which editor. Looks only; sends nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "reads the environment, draws random numbers, and tries ports by binding them for a moment"
)]

use crate::config::Config;
use crate::dhcp::links;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// The server's address as a machine at `machine` would reach it: the configured one, else one of a served interface, in the machine's
/// own network where there is one.
pub(super) fn local_address(config: &Config, machine: Option<Ipv4Addr>) -> Ipv4Addr {
    if let Some(address) = config.address {
        return address;
    }
    let mine: Vec<Ipv4Addr> = links::served(config)
        .into_iter()
        .flatten()
        .flat_map(|link| link.addresses)
        .map(|net| net.addr())
        .collect();
    let subnet = machine
        .and_then(|machine| config.subnet_of(machine))
        .or_else(|| config.subnets.first());
    let near = subnet.and_then(|subnet| mine.iter().find(|address| subnet.network.contains(*address)));
    near.or_else(|| mine.first()).copied().unwrap_or(Ipv4Addr::LOCALHOST)
}

/// Why a UDP port could not be had, if it could not.
pub(super) fn udp_taken(port: u16) -> Option<io::Error> {
    UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).err()
}

/// Why a TCP port could not be had, if it could not.
pub(super) fn tcp_taken(port: u16) -> Option<io::Error> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).err()
}

/// 64 bits that nobody can guess.
pub(super) fn random() -> Result<u64, getrandom::Error> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Who called sudo, where somebody did and the name is one.
pub(super) fn sudo_user() -> Option<String> {
    let user = std::env::var("SUDO_USER").ok()?;
    let plain =
        !user.is_empty() && user.len() <= 32 && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    plain.then_some(user)
}

/// True when standard error goes to the journal (sd-daemon(3)).
pub(super) fn journal_listens() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| !stream.is_empty())
}

/// The editor that the admin wants, as its argv.
pub(super) fn editor() -> Vec<String> {
    let wanted = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|text| !text.trim().is_empty()));
    let words: Vec<String> = wanted
        .unwrap_or_default()
        .split_whitespace()
        .map(ToOwned::to_owned)
        .collect();
    if words.is_empty() { vec!["vi".to_owned()] } else { words }
}

/// True when somebody types on standard input.
pub(super) fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdin())
}

/// The first line of standard input, at most 4 KiB of it.
pub(super) fn read_line() -> io::Result<String> {
    use std::io::{BufRead as _, Read as _};
    let mut line = String::new();
    io::BufReader::new(io::stdin().lock().take(4096)).read_line(&mut line)?;
    Ok(line)
}
