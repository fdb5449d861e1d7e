//! The daemon as a process: crowds, descriptors that run out, restarts while clients download.

use super::{curl, read_answer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that serves the loaders of a folder. It dies with its test.
struct Daemon {
    child: Child,
    port: u16,
    lines: Receiver<String>,
}

impl Daemon {
    /// Starts it with its files below `folder`. `port` 0 takes any; `shell` runs before it, in its process.
    fn start(folder: &Path, port: u16, shell: &str) -> Self {
        fs::create_dir_all(folder.join("loaders")).unwrap();
        let config = format!(
            "[server]\nallow = [\"127.0.0.0/8\"]\n[dhcp]\nmode = \"off\"\n[tftp]\nport = 0\n[http]\nport = {port}\n\
             [boot]\nloader_paths = [\"{}\"]\n",
            folder.join("loaders").display()
        );
        fs::write(folder.join("cordwainer.toml"), config).unwrap();
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{shell} exec \"$@\""))
            .arg("sh")
            .arg(env!("CARGO_BIN_EXE_cordwainer"))
            .arg("--config")
            .arg(folder.join("cordwainer.toml"))
            .arg("--state")
            .arg(folder.join("state"))
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).all(|line| to.send(line).is_ok()));
        let mut daemon = Self { child, port, lines };
        let serving = daemon.line("serving: ");
        let port = serving
            .split("http port ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        daemon.port = port.unwrap().parse().unwrap();
        daemon
    }

    fn line(&self, wanted: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(wanted) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line holds `{wanted}`:\n{}", seen.join("\n"));
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    fn get(&self, path: &str) -> Duration {
        let began = Instant::now();
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (head, _) = read_answer(&mut stream, true);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        began.elapsed()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended as the test wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection from an address of its own out of 127.0.0.0/8.
fn connect_from(number: usize, to: SocketAddr) -> TcpStream {
    let [.., high, low] = (number / 60 + 257).to_be_bytes();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from = SocketAddr::from((Ipv4Addr::new(127, 9, high, low), 0));
    socket.bind(&from.into()).unwrap();
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

#[test]
fn twelve_thousand_idle_and_slow_clients_do_not_keep_a_machine_from_its_loader() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("loaders")).unwrap();
    fs::write(folder.path().join("loaders/snponly.efi"), vec![7; 200_000]).unwrap();
    let daemon = Daemon::start(folder.path(), 0, "");
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // Fewer where the system allows fewer, still far above what the server seats.
    let (idle, slow) = if hard >= 13_000 { (10_000, 2_000) } else { (700, 200) };
    let _idle: Vec<_> = (0..idle).map(|number| connect_from(number, daemon.address())).collect();
    let mut slow: Vec<_> = (idle..idle + slow)
        .map(|number| connect_from(number, daemon.address()))
        .collect();
    let mut times = Vec::new();
    let mut most = 0;
    for byte in b"GET /" {
        let second = Instant::now();
        for stream in &mut slow {
            // Those that were sent away stay away.
            let _ = stream.write(&[*byte]);
        }
        while second.elapsed() < Duration::from_secs(1) {
            times.push(daemon.get("/l/snponly.efi"));
            most = most.max(daemon.descriptors());
        }
    }
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    eprintln!(
        "{} requests beside {idle} idle and {} slow connections: median {:?}, p99 {p99:?}, at most {most} descriptors",
        times.len(),
        slow.len(),
        times[times.len() / 2]
    );
    assert!(most <= 8192 + 200, "{most} descriptors");
}

#[test]
fn descriptors_that_run_out_delay_a_client_and_end_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("loaders")).unwrap();
    fs::write(folder.path().join("loaders/snponly.efi"), b"MZ").unwrap();
    let daemon = Daemon::start(folder.path(), 0, "ulimit -n 64;");
    let held: Vec<_> = (0..200).map(|number| connect_from(number, daemon.address())).collect();
    daemon.line("HTTP connections cannot be accepted for now");
    // Who only waits gives his descriptor back, one every 50 ms, oldest first.
    daemon.get("/healthz");
    drop(held);
    daemon.get("/l/snponly.efi");
    assert!(daemon.descriptors() <= 64);
}

fn loader(folder: &Path, size: usize) -> Vec<u8> {
    fs::create_dir_all(folder.join("loaders")).unwrap();
    let bytes: Vec<u8> = (0..size)
        .map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap())
        .collect();
    fs::write(folder.join("loaders/large.efi"), &bytes).unwrap();
    bytes
}

#[test]
fn a_download_that_was_begun_ends_although_the_daemon_is_told_to_stop_and_the_next_one_binds_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = loader(folder.path(), 40 << 20);
    let mut daemon = Daemon::start(folder.path(), 0, "");
    let port = daemon.port;
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /l/large.efi HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = vec![0; 1 << 20];
    stream.read_exact(&mut answer).unwrap();
    daemon.signal(Signal::SIGTERM);
    daemon.line("STOPPING");
    // More than the sockets' buffers hold is still to come, and it comes.
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(&bytes), "cut at {}", answer.len());
    drop(stream);
    assert!(daemon.child.wait().unwrap().success());
    // The port has connections that linger in TIME_WAIT.
    let next = Daemon::start(folder.path(), port, "");
    next.get("/l/large.efi");
}

#[test]
fn a_download_that_a_crash_cut_is_resumed_from_the_next_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = loader(folder.path(), 40 << 20);
    let daemon = Daemon::start(folder.path(), 0, "");
    let port = daemon.port;
    let url = format!("http://127.0.0.1:{port}/l/large.efi");
    let out = folder.path().join("out");
    let mut first = Command::new("curl")
        .args(["-sS", "--limit-rate", "8M", "-o", out.to_str().unwrap(), &url])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    while fs::metadata(&out).map_or(0, |meta| meta.len()) < 1 << 20 {
        assert!(Instant::now() < end, "nothing arrives");
        std::thread::yield_now();
    }
    daemon.signal(Signal::SIGKILL);
    assert!(
        !first.wait().unwrap().success(),
        "a download that was cut is no success"
    );
    drop(daemon);
    let _next = Daemon::start(folder.path(), port, "");
    assert!(curl(&["-C", "-", "-o", out.to_str().unwrap(), &url]).status.success());
    assert!(fs::read(&out).unwrap() == bytes, "the resumed file");
}
