//! The command line beside a running daemon: what it says is live, what it is told, what it is refused.

use super::Session;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that answers no DHCP, on ports that were free. It dies with its test.
struct Daemon {
    child: Child,
    http: u16,
    lines: Receiver<String>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The lines of a stream as they come.
fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Waits for the line that holds `wanted`.
fn await_line(lines: &Receiver<String>, wanted: &str) -> String {
    let end = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        match lines.recv_timeout(left) {
            Ok(line) if line.contains(wanted) => return line,
            Ok(line) => seen.push(line),
            Err(_) => break,
        }
    }
    panic!("no line holds `{wanted}`:\n{}", seen.join("\n"));
}

const QUIET: &str = "[server]\nallow = [\"127.0.0.0/8\"]\n[dhcp]\nmode = \"off\"\n[http]\nport = 0\n[tftp]\nport = 0\n";

fn start(session: &Session) -> Daemon {
    session.write("session.toml", QUIET);
    start_with(session)
}

/// Starts it with the session's configuration as it is.
fn start_with(session: &Session) -> Daemon {
    let mut child = session
        .command(&["serve"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = lines_of(child.stderr.take().unwrap());
    let serving = await_line(&lines, "serving: ");
    let http = serving
        .split("http port ")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    Daemon { child, http, lines }
}

fn machine(session: &Session) {
    session.write("vmlinuz", "kernel");
    let kernel = session.path("vmlinuz");
    session
        .run(&[
            "distro",
            "add",
            "d1",
            "--arch",
            "x86_64",
            "--breed",
            "generic",
            "--kernel",
            kernel.to_str().unwrap(),
        ])
        .succeeded();
    session.run(&["profile", "add", "p1", "--distro", "d1"]).succeeded();
    session
        .run(&[
            "system",
            "add",
            "web1",
            "--profile",
            "p1",
            "--mac-address",
            "00:00:5e:00:53:01",
        ])
        .succeeded();
}

fn get(daemon: &Daemon, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.http)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_change_is_live_beside_a_daemon_and_stored_without_one() {
    let session = Session::new();
    machine(&session);
    assert_eq!(
        session
            .run(&["system", "edit", "web1", "--comment", "a"])
            .succeeded()
            .out,
        "changed   system web1, stored\n"
    );
    let daemon = start(&session);
    assert_eq!(
        session
            .run(&["system", "edit", "web1", "--comment", "b"])
            .succeeded()
            .out,
        "changed   system web1, live\n"
    );
    let ran = session
        .run(&["--json", "system", "edit", "web1", "--comment", "c"])
        .succeeded();
    assert_eq!(ran.json()["served"], "live");
    assert_eq!(session.run(&["--json", "status"]).succeeded().json()["daemon"], true);
    drop(daemon);
    assert_eq!(
        session
            .run(&["system", "edit", "web1", "--comment", "d"])
            .succeeded()
            .out,
        "changed   system web1, stored\n"
    );
    let status = session.run(&["status"]).succeeded();
    assert!(status.err.starts_with("the daemon does not run"), "{}", status.err);
}

#[test]
fn a_trace_tells_what_the_machine_did_and_follows_it() {
    let session = Session::new();
    machine(&session);
    let daemon = start(&session);
    let nothing = session.run(&["boot", "trace", "web1"]).succeeded();
    assert!(nothing.out.starts_with("web1  00:00:5e:00:53:01"), "{}", nothing.out);
    let mut follower = session
        .command(&["boot", "trace", "web1", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let followed = lines_of(follower.stdout.take().unwrap());
    await_line(&followed, "00:00:5e:00:53:01");
    assert!(get(&daemon, "/b/00-00-5e-00-53-01/ipxe").contains("#!ipxe"));
    await_line(&followed, "ipxe script -> local boot");
    follower.kill().unwrap();
    follower.wait().unwrap();
    let ran = session.run(&["boot", "trace", "00:00:5E:00:53:01"]).succeeded();
    assert!(
        ran.out.contains("HTTP") && ran.out.contains("ipxe script -> local boot"),
        "{}",
        ran.out
    );
    let events = session.run(&["--json", "boot", "trace", "web1"]).succeeded().json();
    assert!(
        events.as_array().unwrap().iter().any(|event| event["code"] == "SCRIPT"),
        "{events}"
    );
}

/// A template that lets somebody log in, so that arming is not refused for that.
fn armable(session: &Session) {
    session
        .run(&["profile", "edit", "p1", "--autoinstall", "lab/answer"])
        .succeeded();
    let tree = session.write("tree/vmlinuz", "kernel");
    let tree = tree.trim_end_matches("/vmlinuz");
    session
        .run(&["distro", "edit", "d1", "--tree", tree, "--kernel", "vmlinuz"])
        .succeeded();
    let hash = "[defaults]\nroot_password_hash = \"$6$salt$hash\"\n";
    session.write("session.toml", &format!("{QUIET}{hash}"));
}

#[test]
fn a_configuration_that_the_daemon_has_not_read_arms_nobody() {
    let session = Session::new();
    machine(&session);
    let daemon = start(&session);
    armable(&session);
    // The clock of files has ticks; what was written within one of them counts as old.
    let now = std::time::SystemTime::now() + Duration::from_secs(1);
    let file = std::fs::File::options()
        .append(true)
        .open(session.path("session.toml"))
        .unwrap();
    file.set_modified(now).unwrap();
    let ran = session.run(&["system", "arm", "web1"]).ended(1);
    assert!(
        ran.err.contains("was changed after the daemon started") && ran.err.contains("systemctl restart"),
        "{}",
        ran.err
    );
    assert!(
        session
            .run(&["status"])
            .succeeded()
            .err
            .contains("was changed after the daemon started")
    );
    assert!(
        session
            .run(&["check"])
            .ended(1)
            .out
            .contains("was changed after the daemon started")
    );
    drop(daemon);
    session.run(&["system", "arm", "web1"]).succeeded();
}

#[test]
fn a_variable_without_a_value_is_named_and_not_its_filter() {
    let session = Session::new();
    machine(&session);
    session
        .run(&["profile", "edit", "p1", "--autoinstall", "lab/answer"])
        .succeeded();
    let ran = session.run(&["system", "get-autoinstall", "web1"]).ended(1);
    assert!(ran.err.contains("`tree` is not defined; set it"), "{}", ran.err);
}

#[test]
fn an_arming_is_no_boot_and_a_trace_has_its_day() {
    let session = Session::new();
    machine(&session);
    armable(&session);
    let daemon = start_with(&session);
    session.run(&["system", "arm", "web1"]).succeeded();
    let status = |session: &Session| session.run(&["--json", "status"]).succeeded().json()["machines"][0].clone();
    assert_eq!(status(&session)["state"], "armed");
    assert_eq!(status(&session)["boots"], 0);
    get(&daemon, "/b/00-00-5e-00-53-01/ipxe");
    assert_eq!(status(&session)["boots"], 1);
    let trace = session.run(&["boot", "trace", "web1"]).succeeded().out;
    let heading = trace.lines().next().unwrap();
    let day = heading
        .strip_suffix(" UTC")
        .and_then(|rest| rest.rsplit("  ").next())
        .unwrap();
    assert!(day.len() == 10 && day.starts_with("20"), "{heading}");
}

#[test]
fn what_needs_the_state_for_itself_is_refused_beside_a_daemon() {
    let session = Session::new();
    machine(&session);
    let saved = session.path("saved");
    let daemon = start(&session);
    session.run(&["backup", saved.to_str().unwrap()]).succeeded();
    for arguments in [
        &["restore", saved.to_str().unwrap()][..],
        &["state", "migrate"],
        &["serve"],
    ] {
        let ran = session.run(arguments).ended(1);
        assert!(
            ran.err.contains("is held by process") && ran.err.contains("stop the daemon first"),
            "{arguments:?}: {}",
            ran.err
        );
    }
    drop(daemon);
    session.run(&["restore", saved.to_str().unwrap()]).succeeded();
    assert_eq!(session.run(&["system", "list"]).succeeded().out, "web1\n");
}

#[test]
fn the_files_of_the_state_are_for_the_owner_only() {
    let session = Session::new();
    machine(&session);
    let daemon = start(&session);
    get(&daemon, "/b/00-00-5e-00-53-01/ipxe");
    let found = session.run(&["--json", "check"]);
    let problems = found.json()["problems"].to_string();
    assert!(!problems.contains("has mode"), "{problems}");
}

#[test]
fn sigterm_ends_it_with_0() {
    let session = Session::new();
    let mut daemon = start(&session);
    let pid = daemon.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    await_line(&daemon.lines, "stopping");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
    assert!(!session.path("state/cordwainer.sock").exists());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let session = Session::new();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    session.write(
        "session.toml",
        &QUIET.replace("[http]\nport = 0", &format!("[http]\nport = {port}")),
    );
    let ran = session.run(&["serve"]).ended(1);
    assert!(ran.err.contains(&port.to_string()), "{}", ran.err);
    assert!(ran.err.contains("in use"), "{}", ran.err);
    let checked = session.run(&["check"]).ended(1);
    assert!(
        checked.out.contains(&format!("TCP port {port} (HTTP) is taken")),
        "{}",
        checked.out
    );
}
