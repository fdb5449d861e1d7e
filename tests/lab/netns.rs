//! Networks of network namespaces: a bridge with the server's address, hosts and taps beside it.
//! Everything goes through `ip netns exec` and `ip -n`: the test's own process never changes its namespace.

use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::child;
use super::lossy::{Conditions, Lossy, Traffic};

const IP_DEADLINE: Duration = Duration::from_secs(30);
static SWEEP: Once = Once::new();
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A link layer with one server on it. Dropping it removes its namespaces.
pub struct Net {
    prefix: String,
    server: Namespace,
    taps: AtomicU32,
    megabits: Option<u32>,
    weather: Option<(Lossy, Namespace)>,
}

/// One host of a [`Net`] that is not the server.
pub struct Host {
    namespace: Namespace,
}

struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

impl Namespace {
    fn new(name: String) -> Self {
        SWEEP.call_once(remove_leftovers);
        ip(&["netns", "add", &name]);
        let namespace = Self(name);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.0], arguments].concat());
    }

    fn command(&self, program: &str) -> Command {
        let mut command = child::command("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }
}

impl Net {
    /// A bridge `br0` whose namespace, the server's, has these addresses (`"10.77.0.1/24"`), and `fe80::1` for router advertisements.
    #[must_use]
    pub fn new(addresses: &[&str]) -> Self {
        let prefix = format!("cw-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let server = Namespace::new(format!("{prefix}-srv"));
        server.ip(&["link", "add", "br0", "type", "bridge"]);
        // Duplicate address detection would hold back the first answers for a second or two.
        server.ip(&["link", "set", "br0", "addrgenmode", "none"]);
        server.ip(&["link", "set", "br0", "up"]);
        server.ip(&["addr", "add", "fe80::1/64", "dev", "br0", "nodad"]);
        for address in addresses {
            let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            server.ip(&[&["addr", "add", address, "dev", "br0"], nodad].concat());
        }
        Self {
            prefix,
            server,
            taps: AtomicU32::new(0),
            megabits: None,
            weather: None,
        }
    }

    /// The name of the server's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.server.0
    }

    /// A command that runs on the server, and dies with the calling thread.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.server.command(program)
    }

    /// Runs `ip` on the server.
    pub fn ip(&self, arguments: &[&str]) {
        self.server.ip(arguments);
    }

    /// A host beside the server, its `eth0` on the same bridge, with or without an address.
    #[must_use]
    pub fn host(&self, name: &str, address: Option<&str>) -> Host {
        let namespace = Namespace::new(format!("{}-{name}", self.prefix));
        let port = format!("p{}", self.taps.fetch_add(1, Ordering::Relaxed));
        self.machines().ip(&[
            "link",
            "add",
            &port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &namespace.0,
        ]);
        self.machines().ip(&["link", "set", &port, "master", "br0", "up"]);
        namespace.ip(&["link", "set", "eth0", "up"]);
        if let Some(address) = address {
            namespace.ip(&["addr", "add", address, "dev", "eth0"]);
        }
        Host { namespace }
    }

    /// Makes each tap from now on a link of so many megabits a second, as seen from the server.
    pub fn limit(&mut self, megabits: u32) {
        self.megabits = Some(megabits);
    }

    /// Puts each host and each machine from now on behind a lossy bridge, as seen from the server: in a namespace with a `br0` of its own.
    pub fn weather(&mut self, conditions: Conditions) {
        let (near, far) = (self.tap(), self.tap());
        let machines = Namespace::new(format!("{}-far", self.prefix));
        let lossy = Lossy::start(|program| self.command(program), &near, &far, conditions);
        machines.ip(&["link", "add", "br0", "type", "bridge"]);
        machines.ip(&["link", "set", "br0", "addrgenmode", "none"]);
        machines.ip(&["link", "set", "br0", "up"]);
        // The lossy bridge holds its end by a descriptor, wherever the tap is.
        self.server.ip(&["link", "set", &far, "netns", &machines.0]);
        machines.ip(&["link", "set", &far, "addrgenmode", "none"]);
        machines.ip(&["link", "set", &far, "master", "br0", "up"]);
        self.weather = Some((lossy, machines));
    }

    /// What went over the lossy bridge so far.
    ///
    /// # Panics
    /// Without [`Net::weather`].
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.weather.as_ref().expect("there is weather").0.traffic()
    }

    /// Where machines and hosts are plugged in: the server's own namespace, or behind the lossy bridge.
    fn machines(&self) -> &Namespace {
        self.weather.as_ref().map_or(&self.server, |(_, machines)| machines)
    }

    /// A command that runs where [`Net::tap`] makes its taps, and dies with the calling thread.
    #[must_use]
    pub fn machine_command(&self, program: &str) -> Command {
        self.machines().command(program)
    }

    /// A new tap on the bridge, for one machine.
    #[must_use]
    pub fn tap(&self) -> String {
        let name = format!("t{}", self.taps.fetch_add(1, Ordering::Relaxed));
        let place = self.machines();
        place.ip(&["tuntap", "add", "dev", &name, "mode", "tap"]);
        place.ip(&["link", "set", &name, "addrgenmode", "none"]);
        place.ip(&["link", "set", &name, "master", "br0", "up"]);
        if let Some(megabits) = self.megabits {
            let rate = format!("{megabits}mbit");
            let mut shape = self.machine_command("tc");
            shape.args(["qdisc", "add", "dev", &name, "root", "tbf", "rate", &rate]);
            shape.args(["burst", "64kb", "latency", "200ms"]);
            child::run("tc", &mut shape, IP_DEADLINE);
        }
        name
    }
}

impl Host {
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace.0
    }

    /// A command that runs on this host, and dies with the calling thread.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.namespace.command(program)
    }

    pub fn ip(&self, arguments: &[&str]) {
        self.namespace.ip(arguments);
    }
}

fn ip(arguments: &[&str]) {
    child::run("ip", child::command("ip").args(arguments), IP_DEADLINE);
}

/// Removes the namespaces and folders of test processes that no longer run.
fn remove_leftovers() {
    for entry in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("vm-").or_else(|| name.strip_prefix("server-"));
        if owner.is_some_and(has_ended) {
            let _gone = std::fs::remove_dir_all(entry.path());
        }
    }
    let listed = child::run(
        "ip netns list",
        child::command("ip").args(["netns", "list"]),
        IP_DEADLINE,
    );
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        if name.strip_prefix("cw-").is_some_and(has_ended) {
            let _gone = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// True when `rest` begins with the number of a process that no longer runs.
fn has_ended(rest: &str) -> bool {
    let owner = rest.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
    owner.is_some_and(|owner| !std::path::Path::new(&format!("/proc/{owner}")).exists())
}

#[test]
fn a_host_reaches_the_server_over_the_bridge() {
    if !super::need::all("a_host_reaches_the_server_over_the_bridge", &[super::need::NETWORK]) {
        return;
    }
    let net = Net::new(&["10.77.0.1/24"]);
    let host = net.host("c1", Some("10.77.0.9/24"));
    let route = child::run(
        "route",
        host.command("ip").args(["route", "get", "10.77.0.1"]),
        IP_DEADLINE,
    );
    assert!(route.contains("dev eth0 src 10.77.0.9"), "{route}");
    // A neighbour entry is made only by an answer to ARP: the bridge carries frames both ways.
    let probe = std::net::SocketAddr::from(([10, 77, 0, 1], 9));
    let mut connect = host.command("bash");
    let refused = child::Child::start(
        "connect",
        connect.args(["-c", &format!("exec 3<>/dev/tcp/{}/{}", probe.ip(), probe.port())]),
    )
    .wait_for_exit(IP_DEADLINE);
    assert!(!refused.success(), "nothing listens on port 9");
    let neighbours = child::run(
        "neighbours",
        host.command("ip").args(["neigh", "show", "10.77.0.1"]),
        IP_DEADLINE,
    );
    assert!(neighbours.contains("lladdr"), "{neighbours}");
    let name = net.namespace().to_owned();
    drop(host);
    drop(net);
    let listed = child::run(
        "ip netns list",
        child::command("ip").args(["netns", "list"]),
        IP_DEADLINE,
    );
    assert!(!listed.contains(&name), "{listed}");
}
