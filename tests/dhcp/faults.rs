//! The disk under the running server: full, failing, read-only. Who has a lease keeps it, nobody is promised what is not stored, no
//! installer and no secret leaves, and all goes on by itself when the disk does.

use super::installers::{self, ask_for_lease, mac, name};
use super::server::{ADDRESS, Server};
use crate::lab::child::Child;
use crate::lab::need::{self, Need};
use crate::lab::netns::Host;
use crate::store::shim::{EIO, ENOSPC, EROFS, Faults};
use cordwainer::install::State;
use cordwainer::model::Mac;
use cordwainer::store::{Folder, InventoryDb, LiveDb};
use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// DESIGN 4: how soon after the disk all goes on.
const BACK: Duration = Duration::from_secs(5);
const GCC: Need = Need::Program("gcc", "gcc");
const CURL: Need = Need::Program("curl", "curl");

/// The server on a disk that fails on demand, and the host whose addresses are the machines'.
struct Site {
    server: Server,
    host: Host,
    faults: Faults,
    daemon: Option<Child>,
    /// Machines that were used up.
    used: u8,
}

impl Site {
    fn new(machines: u8) -> Self {
        let server = Server::installing("10.77.32.0-10.77.250.255", machines);
        let host = server.net.host("machines", Some(&format!("{}/16", installers::RELAY)));
        installers::own_addresses(&host);
        Self {
            server,
            host,
            faults: Faults::new(),
            daemon: None,
            used: 0,
        }
    }

    fn launch(&self) -> Child {
        let mut command = self.server.command(&["--i-own-this-subnet"]);
        self.faults.rule(&mut command);
        Child::start("cordwainer", &mut command)
    }

    fn start(&mut self) {
        let mut child = self.launch();
        child.wait_for_line("serving", Duration::from_secs(60));
        self.daemon = Some(child);
    }

    fn log(&self) -> Vec<String> {
        self.daemon.as_ref().unwrap().lines()
    }

    fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cordwainer"));
        command
            .arg("--config")
            .arg(self.server.config())
            .arg("--state")
            .arg(self.server.state());
        self.faults.rule(&mut command);
        command.args(arguments).output().unwrap()
    }

    fn does(&self, arguments: &[&str]) {
        let output = self.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }

    /// What a machine at `from` gets: the status and the text.
    fn ask(&self, from: Ipv4Addr, method: &str, path: &str) -> (u16, String) {
        let url = format!("http://{ADDRESS}{path}");
        let mut curl = self.host.command("curl");
        let output = curl
            .args(["-s", "-m", "10", "-X", method, "-w", "\n%{http_code}", "--interface"])
            .args([&from.to_string(), &url])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn lease(&self, mac: Mac, has: Option<Ipv4Addr>) -> Option<(Ipv4Addr, u32)> {
        ask_for_lease(&self.host, ADDRESS, mac, has)
    }

    /// The next machine, armed and with a lease.
    fn armed(&mut self) -> Machine {
        self.used += 1;
        let (name, mac) = (name(self.used), mac(self.used));
        self.does(&["system", "arm", &name]);
        let (address, _) = self.lease(mac, None).expect("no lease on a sound disk");
        Machine { name, mac, address }
    }

    fn script(&self, machine: &Machine) -> (u16, String) {
        self.ask(machine.address, "GET", &format!("/b/{}/ipxe", machine.mac.dashed()))
    }

    /// Where the answer file is, after the installer was handed out.
    fn claim(&self, machine: &Machine) -> String {
        let (status, script) = self.script(machine);
        assert_eq!(status, 200, "{script}");
        let (_, rest) = script
            .split_once("/i/")
            .unwrap_or_else(|| panic!("no installer: {script}"));
        format!("/i/{}", rest.split_whitespace().next().unwrap())
    }

    fn answers(&self, machine: &Machine, path: &str) -> (u16, String) {
        self.ask(machine.address, "GET", path)
    }

    fn report(&self, machine: &Machine, to: &str, stage: &str) -> u16 {
        self.ask(machine.address, "POST", &format!("{to}/{stage}")).0
    }

    fn state_of(&self, machine: &Machine) -> State {
        let folder = Folder::open(&self.server.state()).unwrap();
        let rows = LiveDb::open_reader(&folder).unwrap().load().unwrap();
        let row = rows
            .installations
            .iter()
            .find(|row| row.system.as_str() == machine.name);
        row.unwrap().state
    }
}

struct Machine {
    name: String,
    mac: Mac,
    address: Ipv4Addr,
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const fn taken(status: u16) -> bool {
    status == 200 || status == 204
}

fn place_of_reports(answers: &str) -> String {
    let (_, rest) = answers.split_once("/r/").unwrap();
    let token: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    format!("/r/{token}")
}

/// What fails: the call, how, on which file, after how many calls that go well, and whether leases need it.
const CASES: [(&str, i32, &str, u32, bool); 6] = [
    ("any", ENOSPC, "live.db", 0, true),
    ("write", EIO, "live.db", 1, true),
    ("sync", EIO, "live.db", 0, true),
    ("any", EROFS, "live.db", 0, true),
    ("write", ENOSPC, "handed-out", 0, false),
    ("sync", EIO, "handed-out", 0, false),
];

#[test]
fn a_failing_disk_breaks_no_promise_and_recovers_by_itself() {
    let test = "a_failing_disk_breaks_no_promise_and_recovers_by_itself";
    if !need::all(test, &[need::NETWORK, &[GCC, CURL]]) {
        return;
    }
    let mut site = Site::new(32);
    site.start();
    let renewing = Mac::new([2, 0x79, 0, 0, 0, 1]);
    let (renewed, _) = site.lease(renewing, None).unwrap();
    for (number, (call, errno, part, skip, leases)) in CASES.into_iter().enumerate() {
        let case = format!("{call} fails with {errno} on {part}");
        // One machine of each kind: armed, claimed, and in the midst of partitioning.
        let [fresh, claimed, busy] = [(), (), ()].map(|()| site.armed());
        let claimed_at = site.claim(&claimed);
        let busy_at = site.claim(&busy);
        let (status, answers) = site.answers(&busy, &busy_at);
        assert_eq!(status, 200, "{answers}");
        let reports = place_of_reports(&answers);
        assert!(taken(site.report(&busy, &reports, "partitioning")));
        let so_far = site.log().len();

        site.faults.begin(call, errno, part, skip);
        let newcomer = Mac::new([2, 0x79, 0, 0, 1, u8::try_from(number).unwrap()]);
        let (status, script) = site.script(&fresh);
        assert!(
            status == 503 && !script.contains("/i/"),
            "{case}: the installer left: {status} {script}"
        );
        if leases {
            let (status, answers) = site.answers(&claimed, &claimed_at);
            assert!(
                status == 503 && !answers.contains("ssh-ed25519"),
                "{case}: a secret left: {status}"
            );
            assert_eq!(
                site.lease(newcomer, None),
                None,
                "{case}: a lease that is not stored was promised"
            );
            let (address, seconds) = site.lease(renewing, Some(renewed)).expect("a client was let down");
            assert!(
                address == renewed && (1..=3600).contains(&seconds),
                "{case}: {address} {seconds}"
            );
        } else {
            assert!(
                site.lease(newcomer, None).is_some(),
                "{case}: leases need nothing of it"
            );
        }
        for stage in ["packages", "done"] {
            // A stage past partitioning tells the second witness nothing new.
            let status = site.report(&busy, &reports, stage);
            assert!(
                status == 503 || !leases,
                "{case}: {stage} was acknowledged with {status}"
            );
        }
        let log = site.log();
        let failed: Vec<&String> = log[so_far..]
            .iter()
            .filter(|line| line.contains("STORE_FAILED"))
            .collect();
        assert!(
            !failed.is_empty() && (failed.len() == 1 || !leases),
            "{case}: {failed:?}"
        );

        site.faults.end();
        let begun = Instant::now();
        while !taken(site.report(&busy, &reports, "done")) {
            assert!(begun.elapsed() < BACK, "{case}: still not stored");
        }
        assert!(site.lease(newcomer, None).is_some(), "{case}");
        assert!(begun.elapsed() < BACK, "{case}: {:?}", begun.elapsed());
        site.claim(&fresh);
        assert_eq!(site.answers(&claimed, &claimed_at).0, 200, "{case}");
        let log = site.log();
        let back = log[so_far..].iter().any(|line| line.contains("STORE_RECOVERED"));
        assert!(back, "{case}: {:?}", &log[so_far..]);
        assert_eq!(site.state_of(&busy), State::Installed, "{case}");
        let (status, script) = site.script(&busy);
        assert!(status == 200 && !script.contains("/i/"), "{case}: {script}");
    }
    // What the disk holds is whole, and says the same to the next process.
    drop(site.daemon.take());
    site.start();
    assert!(
        !site
            .log()
            .iter()
            .any(|line| line.contains("STATE_DAMAGED") || line.contains("HELD"))
    );
    let folder = Folder::open(&site.server.state()).unwrap();
    assert_eq!(cordwainer::store::audit(&folder).unwrap(), Vec::<String>::new());
}

#[test]
fn a_start_waits_for_its_disk_and_says_so() {
    if !need::all("a_start_waits_for_its_disk_and_says_so", &[need::NETWORK, &[GCC, CURL]]) {
        return;
    }
    let mut site = Site::new(1);
    site.start();
    let machine = Mac::new([2, 0x79, 0, 0, 0, 1]);
    let (address, _) = site.lease(machine, None).unwrap();
    drop(site.daemon.take());
    for (call, errno, part) in [
        ("any", ENOSPC, "/state/"),
        ("any", EROFS, "/state/"),
        ("sync", EIO, "/state/"),
        ("rename", EIO, "/state/"),
    ] {
        // A first start has the most to write.
        for name in ["live.db-shm", "inventory.db-shm", "state.lock", "handed-out"] {
            let _gone = std::fs::remove_file(site.server.state().join(name));
        }
        site.faults.begin(call, errno, part, 0);
        let mut child = site.launch();
        let line = child.wait_for_line("", Duration::from_secs(20));
        let waits = child.lines().iter().any(|line| line.contains("waiting for the state"));
        let serves = || child.lines().iter().any(|line| line.contains("serving"));
        let begun = Instant::now();
        while !waits && !serves() && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        println!("{call} {errno}: {line}");
        site.faults.end();
        if !serves() {
            child.wait_for_line("serving", BACK);
        }
        site.daemon = Some(child);
        assert_eq!(
            site.lease(machine, Some(address)).map(|lease| lease.0),
            Some(address),
            "{call} {errno}"
        );
        drop(site.daemon.take());
    }
}

/// Each command that writes, with the fault that meets it.
#[test]
fn commands_on_a_failing_disk_change_all_or_nothing_and_say_why() {
    let test = "commands_on_a_failing_disk_change_all_or_nothing_and_say_why";
    if !need::all(test, &[need::NETWORK, &[GCC]]) {
        return;
    }
    let site = Site::new(2);
    let tree = site.server.state().with_file_name("tree");
    let backup = site.server.state().with_file_name("backup");
    let other = site.server.state().with_file_name("other");
    let (tree, backup, other) = (
        tree.to_str().unwrap(),
        backup.to_str().unwrap(),
        other.to_str().unwrap(),
    );
    let import = [
        "import",
        "--path",
        tree,
        "--name",
        "fresh",
        "--breed",
        "generic",
        "--kernel",
        "vmlinuz",
        "--initrd",
        "initrd.img",
        "--copy",
    ];
    site.does(&["backup", backup]);
    let commands: [&[&str]; 6] = [
        &["system", "arm", "web1"],
        &["system", "edit", "--name", "web1", "--in-place", "--comment", "changed"],
        &["system", "remove", "--name", "web2"],
        &import,
        &["backup", other],
        &["restore", backup],
    ];
    let look = || {
        let mut names: Vec<String> = std::fs::read_dir(site.server.state())
            .unwrap()
            .chain(std::fs::read_dir(site.server.state().with_file_name("")).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
            .collect();
        names.sort();
        let folder = Folder::open(&site.server.state()).unwrap();
        let (inventory, _) = InventoryDb::open(&folder).unwrap().load().unwrap();
        let objects = serde_json::to_string(&(
            inventory.systems().map(|it| (**it).clone()).collect::<Vec<_>>(),
            inventory.arms().map(|it| (**it).clone()).collect::<Vec<_>>(),
            inventory.distros().map(|it| (**it).clone()).collect::<Vec<_>>(),
        ));
        (objects.unwrap(), names)
    };
    let mut failed = 0;
    for command in commands {
        for (call, errno) in [("any", ENOSPC), ("sync", EIO), ("write", EROFS), ("rename", EIO)] {
            for skip in [0, 1, 3, 8] {
                let before = look();
                site.faults.begin(
                    call,
                    errno,
                    site.server.state().parent().unwrap().to_str().unwrap(),
                    skip,
                );
                let output = site.cli(command);
                site.faults.end();
                let case = format!(
                    "{} with {call} {errno} after {skip}: {}",
                    command.join(" "),
                    said(&output)
                );
                assert!(matches!(output.status.code(), Some(0 | 1)), "{case}");
                if said(&output).contains("is not finished") {
                    failed += 1;
                    // Past the moment that counts: nothing opens it before it is finished, and finished it is the backup.
                    assert_eq!(site.cli(&["system", "report"]).status.code(), Some(1), "{case}");
                    site.does(&["state", "migrate"]);
                    assert!(!site.server.state().join(".replace").exists(), "{case}");
                }
                let after = look();
                if said(&output).contains("is not finished") {
                    assert_eq!(after.0, before.0, "{case}");
                } else if output.status.success() {
                    // The fault came too late, or met nothing that matters.
                    site.does(&["restore", backup]);
                    let _none = std::fs::remove_file(other);
                } else {
                    failed += 1;
                    assert!(said(&output).contains("error"), "{case}");
                    assert!(!said(&output).contains("panicked"), "{case}");
                    assert_eq!(after.0, before.0, "{case}");
                    let new: Vec<&String> = after.1.iter().filter(|name| !before.1.contains(name)).collect();
                    assert!(new.is_empty() || *new == ["distros"], "{case}: left behind: {new:?}");
                }
                for entry in std::fs::read_dir(site.server.state()).unwrap() {
                    let path = entry.unwrap().path();
                    if path
                        .file_name()
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .starts_with("before-restore")
                    {
                        std::fs::remove_dir_all(path).unwrap();
                    }
                }
            }
        }
    }
    println!("{failed} commands failed, all of them as a whole");
    assert!(failed > 40, "{failed}");
}
