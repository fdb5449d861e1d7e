//! The real server and people who mean it no good: what leaks, and what a well-timed packet can do.

mod canary;
mod crawl;
mod imports;
mod measured;
mod media;
mod mold;
mod overtaken;

use crate::cli::Session;
use crate::lab::child::Child;
use crate::tftp::reader::Reader;
use cordwainer::tftp::packet::Packet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

/// A word that only the password hash has.
pub const HASH: &str =
    "$6$canarysalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/";
/// The script of web1.
pub const SCRIPT: &str = "b/52-54-00-00-00-01/ipxe";

/// A server on loopback that gives no addresses: `web1`, armed, and `web2`, which is not.
pub struct Site {
    pub session: Session,
    pub daemon: Child,
    pub http: u16,
    pub tftp: SocketAddrV4,
}

impl Site {
    pub fn new() -> Self {
        let session = Session::new();
        session.write("loaders/undionly.kpxe", "not a loader");
        session.write("loaders/snponly.efi", "not a loader");
        session.write(
            "tree/.treeinfo",
            "[general]\nname = Rocky Linux 9.4\nfamily = Rocky Linux\nversion = 9.4\narch = x86_64\nplatforms = x86_64,xen\n\
             [tree]\narch = x86_64\nplatforms = x86_64,xen\n\
             [images-x86_64]\nkernel = images/pxeboot/vmlinuz\ninitrd = images/pxeboot/initrd.img\n",
        );
        session.write("tree/repodata/repomd.xml", "<repomd/>");
        session.write("tree/images/pxeboot/vmlinuz", &"k".repeat(4096));
        session.write("tree/images/pxeboot/initrd.img", &"i".repeat(8192));
        session.write(
            "session.toml",
            &format!(
                "overrides = \"{}\"\n[server]\nallow = [\"127.0.0.0/8\"]\n[dhcp]\nmode = \"off\"\n[[subnet]]\nnetwork = \"127.0.0.0/8\"\n\
                 binding = \"token-only\"\n[http]\nport = 0\n[tftp]\nport = 0\n[boot]\nloader_paths = [\"{}\"]\n\
                 [defaults]\nroot_password_hash = \"{HASH}\"\n",
                session.path("etc").display(),
                session.path("loaders").display()
            ),
        );
        let tree = session.path("tree");
        session
            .run(&["import", "--path", tree.to_str().unwrap(), "--name", "rocky9"])
            .succeeded();
        for (name, mac) in [("web1", "52:54:00:00:00:01"), ("web2", "52:54:00:00:00:02")] {
            session
                .run(&["system", "add", name, "--profile", "rocky9", "--mac-address", mac])
                .succeeded();
        }
        session.run(&["system", "arm", "web1"]).succeeded();
        let mut daemon = Child::start(
            "cordwainer",
            session.command(&["-vv", "serve"]).env("RUST_LOG", "trace"),
        );
        let serving = daemon.wait_for_line("serving: ", Duration::from_secs(60));
        let port = |mark: &str| -> u16 {
            let digits = serving.split(mark).nth(1).unwrap();
            let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        };
        let (http, tftp) = (port("http port "), port("tftp port "));
        Self {
            session,
            daemon,
            http,
            tftp: SocketAddrV4::new(Ipv4Addr::LOCALHOST, tftp),
        }
    }

    /// The whole answer to a request.
    pub fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(
            stream,
            "{method} /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        // Who guesses tokens is cut off.
        let _cut = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The whole answer to a POST of this body.
    pub fn post(&self, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(
            stream,
            "POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = Vec::new();
        let _cut = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn get(&self, path: &str) -> String {
        self.ask("GET", path)
    }

    /// A whole file by TFTP, or the error.
    pub fn tftp(&self, name: &str) -> String {
        let mut reader = Reader::new();
        // By hand: a well-behaved reader cannot even say `..`.
        let datagram = [b"\0\x01", name.as_bytes(), b"\0octet\0"].concat();
        reader.socket.send_to(&datagram, self.tftp).unwrap();
        let mut bytes = Vec::new();
        loop {
            match reader.hear() {
                (from, Packet::Data { block, bytes: data }) => {
                    let ends = data.len() < 512;
                    bytes.extend_from_slice(data);
                    reader.ack(from, block);
                    if ends {
                        return String::from_utf8_lossy(&bytes).into_owned();
                    }
                }
                (_, other) => return format!("{other:?}"),
            }
        }
    }
}

/// The token behind `/i/` or `/r/` in a text.
pub fn token(text: &str, mark: &str) -> String {
    let rest = text.split(mark).nth(1).unwrap_or_else(|| panic!("no {mark} in {text}"));
    rest.chars().take_while(char::is_ascii_alphanumeric).collect()
}
