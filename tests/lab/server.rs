//! Cordwainer itself in a test network: the real binary as a daemon in the server's namespace, and its command line beside it.
//! It must never reach into the daemon: what is known of it is what its command line, its log and its answers say.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::child::{self, Child};
use super::events::Events;
use super::netns::Net;
use super::vm::Machine;
use super::{distro, need};

/// The server's address in the networks of these tests.
pub const ADDRESS: &str = "10.77.0.1";
/// The same with the prefix, as [`Net::new`] takes it.
pub const ADDRESS_NET: &str = "10.77.0.1/24";

/// How long the daemon may take to say that it serves, and a command to end.
const PATIENCE: Duration = Duration::from_secs(60);

const COMMON: &str = r#"
[server]
interfaces = ["br0"]
[defaults]
root_password_hash = "$6$lab$7d0Vm0y5wZl1hKcxSxgTq2vYcO4jX1nQbNn3m5cW8nqk0eR5aPz6JrYvUoLx2sHfDgKiTtEw9uBpMcZa1XyVq/"
kernel_options = "console=tty0 console=ttyS0,115200"
"#;

/// Cordwainer as the DHCP server of the network.
pub const AUTHORITATIVE: &str = r#"
[dhcp]
mode = "authoritative"
[[subnet]]
network = "10.77.0.0/24"
pool = "10.77.0.50-10.77.0.99"
router = "10.77.0.1"
dns = ["10.77.0.1"]
domain = "lab.test"
lease = "12h"
"#;

/// Cordwainer beside another DHCP server.
pub const PROXY: &str = r#"
[dhcp]
mode = "proxy"
"#;

/// The daemon, its folder and its command line. Dropping it ends the daemon.
pub struct Server<'net> {
    net: &'net Net,
    folder: tempfile::TempDir,
    daemon: Option<Child>,
    systems: Vec<String>,
}

impl<'net> Server<'net> {
    /// Writes a configuration and starts the daemon in the server's namespace of `net`.
    ///
    /// # Panics
    /// When it does not say that it serves.
    #[must_use]
    pub fn start(net: &'net Net, mode: &str) -> Self {
        let mut server = Self::new(net, mode);
        server.serve();
        server
    }

    /// A server that is not started yet: its command line works already.
    #[must_use]
    pub fn new(net: &'net Net, mode: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("server-{}-", std::process::id()))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let server = Self {
            net,
            folder,
            daemon: None,
            systems: Vec::new(),
        };
        server.configure(mode);
        server
    }

    /// Writes another configuration, for the next start.
    pub fn configure(&self, mode: &str) {
        std::fs::write(self.folder.path().join("cordwainer.toml"), format!("{COMMON}{mode}")).unwrap();
    }

    /// Starts the daemon (again).
    pub fn serve(&mut self) {
        let mut command = self.command(&["serve"]);
        let mut daemon = Child::start("cordwainer serve", &mut command);
        daemon.wait_for_line(READY, PATIENCE);
        self.daemon = Some(daemon);
    }

    /// SIGKILL: nothing is flushed.
    pub fn kill(&mut self) {
        drop(self.daemon.take());
    }

    /// SIGTERM, and the way it ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.terminate();
        daemon.wait_for_exit(PATIENCE)
    }

    /// The network that it serves.
    #[must_use]
    pub const fn net(&self) -> &'net Net {
        self.net
    }

    /// Its state folder.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A command of Cordwainer in the server's namespace, with this server's state and configuration.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.net.command(env!("CARGO_BIN_EXE_cordwainer"));
        command.arg("--state").arg(self.state_folder());
        command.arg("--config").arg(self.folder.path().join("cordwainer.toml"));
        command.args(arguments).current_dir("/");
        command
    }

    /// What a command printed, however it ended.
    #[must_use]
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must end with 0, and returns what it printed as data.
    ///
    /// # Panics
    /// When it fails.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(
            output.status.success(),
            "cordwainer {} failed ({}):\n{}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must end with 0, with --json.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.cli(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} printed no JSON: {error}\n{text}"))
    }

    /// Imports the lab distro as `lab`.
    pub fn import_lab(&self) {
        self.import(distro::tree(), "lab");
    }

    /// Imports a tree.
    pub fn import(&self, tree: &Path, name: &str) {
        self.cli(&["import", "--path", tree.to_str().unwrap(), "--name", name]);
    }

    /// Adds a record for a machine, not armed.
    pub fn add(&mut self, name: &str, profile: &str, machine: &Machine, more: &[&str]) {
        self.add_mac(name, profile, machine.mac_address(), more);
    }

    /// As [`Server::add`], for a machine that is no QEMU guest.
    pub fn add_mac(&mut self, name: &str, profile: &str, mac: &str, more: &[&str]) {
        let add = [
            "system",
            "add",
            "--name",
            name,
            "--profile",
            profile,
            "--mac-address",
            mac,
        ];
        self.cli(&[&add[..], more].concat());
        self.systems.push(name.to_owned());
    }

    /// Arms a machine.
    pub fn arm(&self, name: &str) {
        self.cli(&["system", "arm", name]);
    }

    /// The events of a machine, from the first one kept on.
    #[must_use]
    pub fn events(&self, name: &str) -> Events {
        Events::of(name, self.command(&["boot", "trace", name, "--follow", "--json"]))
    }

    /// The row of a machine in `status`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn status(&self, name: &str) -> Value {
        let status = self.json(&["status", "--all"]);
        rows(&status)
            .iter()
            .find(|row| row["machine"] == name || row["name"] == name)
            .unwrap_or_else(|| panic!("status has no row for {name}: {status:#}"))
            .clone()
    }

    /// The state of a machine by `status`.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn state(&self, name: &str) -> String {
        let row = self.status(name);
        row["state"]
            .as_str()
            .unwrap_or_else(|| panic!("no state in {row:#}"))
            .to_owned()
    }

    /// Everything that the daemon logged since it was started last.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.daemon.as_ref().map(Child::lines).unwrap_or_default()
    }
}

/// What the daemon logs once it serves.
const READY: &str = "STARTED";

fn rows(status: &Value) -> &[Value] {
    status
        .as_array()
        .or_else(|| status["machines"].as_array())
        .map_or(&[], Vec::as_slice)
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        // Why it failed is in the timeline; the daemon's own drop shows its log.
        for name in &self.systems {
            if let Ok(output) = self.command(&["boot", "trace", name]).output() {
                eprintln!(
                    "$ cordwainer boot trace {name}\n{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
    }
}

/// Whether all is there that a loop with Cordwainer needs.
#[must_use]
pub fn ready(test: &str, more: &[need::Need]) -> bool {
    need::all(
        test,
        &[need::MACHINES, need::DISTRO, &[need::UNDIONLY, need::SNPONLY], more],
    )
}

/// Runs a command of another host to its end and returns what it printed.
#[must_use]
pub fn printed(name: &str, command: &mut Command) -> String {
    child::run(name, command, PATIENCE)
}
