//! Cobbler 3.3.10 itself, from PyPI, unmodified, in folders and a mount namespace of its own: what the long tests compare with.

use super::{PASSWORD, post_to};
use crate::cli::Session;
use crate::lab::child::{self, Child};
use cordwainer::xmlrpc::decode::{self, Limits};
use cordwainer::xmlrpc::{Value, encode};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A Cobbler that runs until it is dropped.
pub struct Real {
    daemon: Child,
    port: u16,
    folder: PathBuf,
}

impl Real {
    /// Lays out its files below the session's folder, does `before` with the folder, then starts it. It believes that its web server
    /// listens on `http_port` of 127.0.0.1; ours says 0 in a test. None where it is not installed, which is said, and a failure with CORDWAINER_REQUIRE_ALL=1.
    pub fn start(session: &Session, http_port: u16, before: impl FnOnce(&Path)) -> Option<Self> {
        let (script, venv) = (root().join("tests/cobbler/real"), root().join("target/cobbler"));
        if !venv.join("installed-3.3.10").exists() {
            assert!(
                std::env::var("CORDWAINER_REQUIRE_ALL").as_deref() != Ok("1"),
                "Cobbler 3.3.10 is missing: ./tests/cobbler/real install target/cobbler"
            );
            eprintln!("SKIPPED: Cobbler 3.3.10 is missing: ./tests/cobbler/real install target/cobbler");
            return None;
        }
        let folder = session.path("real");
        // Nobody else takes the port between here and its start but by a rare chance, and then it says so and the test fails.
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let done = Command::new(&script)
            .arg("prepare")
            .args([&folder, &venv])
            .args([port.to_string(), http_port.to_string(), "127.0.0.1".to_owned()])
            .status()
            .unwrap();
        assert!(done.success());
        before(&folder);
        let mut command = child::command(script.to_str().unwrap());
        command.arg("serve").args([&folder, &venv]);
        let mut daemon = Child::start("cobblerd", &mut command);
        daemon.wait_for_line("Cobbler startup completed", PATIENCE);
        Some(Self { daemon, port, folder })
    }

    /// Where its XML-RPC is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/RPC2", self.port)
    }

    /// Its `/var/lib/cobbler`.
    pub fn state(&self) -> PathBuf {
        self.folder.join("var/lib/cobbler")
    }

    /// What it said.
    pub fn said(&self) -> Vec<String> {
        self.daemon.lines()
    }

    /// Calls a method: its value, or the text of its fault.
    pub fn call(&self, method: &str, arguments: &[Value]) -> Result<Value, String> {
        let answer = post_to(self.port, "/RPC2", encode::call(method, arguments).as_bytes());
        decode::answer(&answer, Limits::ANSWER)
            .unwrap_or_else(|error| panic!("{method}: {error}: {}", String::from_utf8_lossy(&answer)))
    }

    /// A token of the one user that it has.
    pub fn login(&self) -> Value {
        self.call("login", &["admin".into(), PASSWORD.into()]).unwrap()
    }
}
