//! A plain HTTP file server inside a test network, so that the lab can be proved without Cordwainer.
//! It must never be used where Cordwainer itself is under test.
//!
//! It is this very test program, started again in the server's namespace: a test process never changes its own namespace.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::child::Child;
use super::netns::Net;

const ROOT: &str = "CORDWAINER_LAB_FILES_ROOT";
const ADDRESS: &str = "CORDWAINER_LAB_FILES_ADDRESS";

/// Serves the folder `root` on `address` of the server: `/report/...` is an empty 200, all else a file. Each request is one line of its output.
#[must_use]
pub fn serve(net: &Net, address: &str, root: &Path) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = net.command(program.to_str().unwrap());
    command.args(["--exact", "lab::files::serve_files", "--ignored", "--nocapture"]);
    command.env(ROOT, root).env(ADDRESS, address);
    let mut child = Child::start("file server", &mut command);
    child.wait_for_line("serving on", Duration::from_secs(30));
    child
}

#[test]
#[ignore = "the file server of other tests, which start it with its environment"]
fn serve_files() {
    let (Ok(root), Ok(address)) = (std::env::var(ROOT), std::env::var(ADDRESS)) else {
        return;
    };
    let listener = TcpListener::bind(address).unwrap();
    println!("serving on {}", listener.local_addr().unwrap());
    let root = PathBuf::from(root);
    for stream in listener.incoming() {
        let root = root.clone();
        // A client that goes away in mid-transfer is that client's affair.
        thread::spawn(move || answer(stream.unwrap(), &root));
    }
}

fn answer(stream: TcpStream, root: &Path) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            header.clear();
        }
        let mut words = request.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Ok(());
        };
        println!("{method} {target}");
        let path = target.split('?').next().unwrap_or_default();
        let content = if path.starts_with("/report/") {
            Some(Vec::new())
        } else {
            file(root, path)
        };
        let status = if content.is_some() { "200 OK" } else { "404 Not Found" };
        let body = content.unwrap_or_default();
        write!(
            writer,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: application/octet-stream\r\n\r\n",
            body.len()
        )?;
        if method != "HEAD" {
            writer.write_all(&body)?;
        }
    }
}

fn file(root: &Path, path: &str) -> Option<Vec<u8>> {
    let relative = Path::new(path.trim_start_matches('/'));
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    fs::read(root.join(relative)).ok()
}
