//! Cobbler's faces as Cobbler's users meet them: koan, Ansible's modules, Terraform's provider, cobbler-register, and those who mean no good.

mod beside;
mod differs;
mod hooks;
mod koan;
mod migrate;
mod moved;
mod pages;
mod power;
mod real;
mod refused;
mod replay;
mod texts;
mod virt;

use crate::cli::Session;
use crate::lab::child::Child;
use cordwainer::xmlrpc::decode::{self, Limits};
use cordwainer::xmlrpc::{Value, encode};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub const PASSWORD: &str = "a word for tests";
/// A key that a machine may be logged into with.
pub const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILG1BpV4l9FFuPehn0E7BvvPQNvBGhs3gtuNOZkiM1tp test@example";
const PATIENCE: Duration = Duration::from_secs(60);

/// The tree of a Red Hat and of a Debian distro, imported, with a user who may do everything.
pub fn furnish(session: &Session) {
    session.write(
        "el9/.treeinfo",
        "[general]\nname = Rocky Linux 9.4\nfamily = Rocky Linux\nversion = 9.4\narch = x86_64\nplatforms = x86_64,xen\n\
         [tree]\narch = x86_64\nplatforms = x86_64,xen\n\
         [images-x86_64]\nkernel = images/pxeboot/vmlinuz\ninitrd = images/pxeboot/initrd.img\n",
    );
    session.write("el9/repodata/repomd.xml", "<repomd/>");
    session.write("el9/images/pxeboot/vmlinuz", &"k".repeat(4096));
    session.write("el9/images/pxeboot/initrd.img", &"i".repeat(8192));
    session.write("deb/version.info", "Debian version: 12 (bookworm)\n");
    session.write("deb/debian-installer/amd64/linux", &"K".repeat(4096));
    session.write("deb/debian-installer/amd64/initrd.gz", &"I".repeat(8192));
    for (folder, name) in [("el9", "rocky9"), ("deb", "debian12")] {
        let tree = session.path(folder);
        session
            .run(&["import", "--path", tree.to_str().unwrap(), "--name", name])
            .succeeded();
    }
    session
        .run_with(&["user", "add", "admin"], &[], &format!("{PASSWORD}\n"))
        .succeeded();
    session
        .run_with(
            &["user", "add", "looker", "--role", "reader"],
            &[],
            &format!("{PASSWORD}\n"),
        )
        .succeeded();
}

/// A server on loopback that gives no addresses, and clients of its XML-RPC.
pub struct Server {
    pub session: Session,
    pub daemon: Child,
    pub port: u16,
}

impl Server {
    /// Starts it with this in its `[cobbler]` section.
    pub fn new(cobbler: &str) -> Self {
        Self::with(cobbler, "")
    }

    /// Starts it with this in its `[cobbler]` section, and these sections beside.
    pub fn with(cobbler: &str, more: &str) -> Self {
        Self::furnished(cobbler, more, |_| ())
    }

    /// The same, once this was done to its session.
    pub fn furnished(cobbler: &str, more: &str, before: impl FnOnce(&Session)) -> Self {
        let session = Session::new();
        let overrides = session.path("etc").display().to_string();
        session.write(
            "session.toml",
            &format!(
                "overrides = \"{overrides}\"\n[server]\nallow = [\"127.0.0.0/8\"]\n[dhcp]\nmode = \"off\"\n[[subnet]]\nnetwork = \"127.0.0.0/8\"\n\
                 binding = \"token-only\"\n[http]\nport = 0\n[tftp]\nport = 0\n[cobbler]\n{cobbler}\n{more}\
                 [defaults]\nssh_authorized_keys = [\"{KEY}\"]\n"
            ),
        );
        furnish(&session);
        before(&session);
        let mut daemon = Child::start("cordwainer", &mut session.command(&["serve"]));
        let serving = daemon.wait_for_line("serving: ", PATIENCE);
        let digits = serving.split("http port ").nth(1).unwrap();
        let port = digits.split(',').next().unwrap().parse().unwrap();
        Self { session, daemon, port }
    }

    /// Posts bytes, and gives the body of the answer.
    pub fn post(&self, body: &[u8]) -> Vec<u8> {
        post_to(self.port, "/cobbler_api", body)
    }

    /// Calls a method: its value, or the text of its fault.
    pub fn call(&self, method: &str, arguments: &[Value]) -> Result<Value, String> {
        let answer = self.post(encode::call(method, arguments).as_bytes());
        decode::answer(&answer, Limits::ANSWER)
            .unwrap_or_else(|error| panic!("{method}: {error}: {}", String::from_utf8_lossy(&answer)))
    }

    /// Calls that must succeed, with this token as their last argument.
    pub fn calls_with<'a>(&'a self, token: &'a Value) -> impl Fn(&str, &[Value]) -> Value + 'a {
        move |method, arguments| {
            let all = [arguments, std::slice::from_ref(token)].concat();
            self.call(method, &all)
                .unwrap_or_else(|fault| panic!("{method}{all:?}: {fault}"))
        }
    }

    pub fn login(&self, user: &str) -> Value {
        self.call("login", &[user.into(), PASSWORD.into()]).unwrap()
    }
}

/// Posts bytes to a port of loopback, and gives the body of the answer.
fn post_to(port: u16, path: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .unwrap();
    // Who sends too much is sent away before it is through.
    let _sent = stream.write_all(body);
    let mut answer = Vec::new();
    let _cut = stream.read_to_end(&mut answer);
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    answer.split_off(at + 4)
}

/// A member of a struct.
pub fn get<'v>(value: &'v Value, name: &str) -> &'v Value {
    value
        .members()
        .unwrap_or_else(|| panic!("no struct: {value:?}"))
        .get(name)
        .unwrap_or_else(|| panic!("no {name} in {value:?}"))
}
