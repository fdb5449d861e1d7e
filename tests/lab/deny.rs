//! Who gets the installer and its secrets, asked by hosts with real leases: only the armed machine, only from its address, only until done.
//! Everyone else gets what a path that never was gets, to the byte.

use std::time::{Duration, Instant};

use super::child;
use super::distro;
use super::events::seen;
use super::need;
use super::netns::{Host, Net};
use super::server::{ADDRESS, ADDRESS_NET, AUTHORITATIVE, Server, printed};

const MAC: &str = "52:54:00:c1:00:01";
const DASHED: &str = "52-54-00-c1-00-01";
const PATIENCE: Duration = Duration::from_secs(30);

/// A host that asks for its address as a machine does.
struct Client {
    host: Host,
    _script: tempfile::TempDir,
}

impl Client {
    fn new(net: &Net, name: &str, mac: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let host = net.host(name, None);
        host.ip(&["link", "set", "eth0", "address", mac]);
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("lease");
        // Only the address: the machine that runs the tests keeps its resolv.conf.
        let text = "#!/bin/sh\nif [ \"$1\" = bound ]; then ip addr add \"$ip/24\" dev \"$interface\"; fi\n";
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut udhcpc = host.command(distro::busybox().to_str().unwrap());
        udhcpc.args(["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "10", "-T", "1", "-s"]);
        child::run("udhcpc", udhcpc.arg(script), PATIENCE);
        Self { host, _script: folder }
    }

    /// The whole reply, status and headers too, but for the time of day.
    fn reply(&self, path: &str) -> String {
        reply(&self.host, path)
    }

    fn get(&self, path: &str) -> String {
        printed("curl", self.curl().arg(format!("http://{ADDRESS}{path}")))
    }

    fn curl(&self) -> std::process::Command {
        let mut curl = self.host.command("curl");
        curl.args(["-s", "-S", "--fail", "-m", "20"]);
        curl
    }

    fn script(&self) -> String {
        self.get(&format!("/b/{DASHED}/ipxe"))
    }
}

fn reply(host: &Host, path: &str) -> String {
    let mut curl = host.command("curl");
    curl.args(["-s", "-S", "-i", "-m", "20", &format!("http://{ADDRESS}{path}")]);
    let reply = printed("curl", &mut curl);
    reply
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("date:"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The path after `http://10.77.0.1` that starts with `start`.
fn path<'a>(text: &'a str, start: &str) -> &'a str {
    let at = text.find(start).unwrap_or_else(|| panic!("no {start} in\n{text}"));
    text[at..]
        .split(|c: char| c.is_whitespace() || c == '"')
        .next()
        .unwrap()
}

fn is_installer(script: &str) -> bool {
    script.contains("/boot/vmlinuz")
}

struct Site<'net> {
    server: Server<'net>,
    client: Client,
}

impl<'net> Site<'net> {
    fn new(net: &'net Net) -> Self {
        let mut server = Server::start(net, AUTHORITATIVE);
        server.import_lab();
        server.add_mac("web1", "lab", MAC, &[]);
        let client = Client::new(net, "web1", MAC);
        Self { server, client }
    }

    /// Boots as far as the boot script and returns the path of its answer file.
    fn launched(&self) -> String {
        let script = self.client.script();
        assert!(is_installer(&script), "{script}");
        path(&script, "/i/").to_owned()
    }

    /// Fetches the answer file and returns where it reports.
    fn begun(&self) -> String {
        let answer = self.client.get(&self.launched());
        path(&answer, "/r/").to_owned()
    }

    fn boots_its_own_disk(&self, state: &str) {
        assert_eq!(self.server.state("web1"), state);
        let script = self.client.script();
        assert!(!is_installer(&script), "{state}:\n{script}");
        assert!(!script.contains("/i/"), "{state}:\n{script}");
        assert_eq!(self.server.state("web1"), state);
    }
}

fn ready(test: &str) -> bool {
    need::all(
        test,
        &[need::NETWORK, need::DISTRO, &[need::Need::Program("curl", "curl")]],
    )
}

#[test]
fn only_an_armed_machine_gets_the_installer() {
    if !ready("only_an_armed_machine_gets_the_installer") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let site = Site::new(&net);
    site.boots_its_own_disk("idle");

    site.server.arm("web1");
    let report = site.begun();
    site.client.get(&format!("{report}/done"));
    site.boots_its_own_disk("installed");

    site.server.cli(&["system", "arm", "web1", "--again"]);
    let report = site.begun();
    site.client.get(&format!("{report}/failed?detail=no%20disk"));
    site.boots_its_own_disk("failed");

    site.server.cli(&["system", "arm", "web1", "--again"]);
    let report = site.begun();
    site.client.get(&format!("{report}/partitioning"));
    let script = site.client.script();
    assert!(!is_installer(&script), "{script}");
    site.boots_its_own_disk("held");

    site.server.cli(&["system", "arm", "web1", "--again"]);
    site.launched();
    site.server.cli(&["system", "disarm", "web1"]);
    let script = site.client.script();
    assert!(!is_installer(&script), "{script}");
}

#[test]
fn a_token_from_elsewhere_after_done_or_expired_is_an_unknown_path() {
    if !ready("a_token_from_elsewhere_after_done_or_expired_is_an_unknown_path") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let site = Site::new(&net);
    let leased = Client::new(&net, "other", "52:54:00:c1:00:02");
    let fixed = net.host("fixed", Some("10.77.0.9/24"));
    let unknown = site.client.reply("/never/was");
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    for nobody in [
        "/i/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/answer",
        "/r/x/done",
        "/i/x",
    ] {
        assert_eq!(site.client.reply(nobody), unknown, "{nobody}");
    }

    let mut refused = site.server.events("web1");
    site.server.arm("web1");
    let answer = site.launched();
    // The MAC alone is a claim: from another address it yields no token.
    let claimed = leased.get(&format!("/b/{DASHED}/ipxe"));
    assert!(!claimed.contains("/i/") && !is_installer(&claimed), "{claimed}");
    for host in [&leased.host, &fixed] {
        assert_eq!(reply(host, &answer), unknown, "from another address");
    }
    let own = site.client.reply(&answer);
    assert!(own.starts_with("HTTP/1.1 200"), "{own}");
    assert_eq!(site.client.reply(&answer), own, "the same again");
    let report = path(&own, "/r/").to_owned();
    assert_eq!(
        reply(&fixed, &answer.replace("/i/", "/r/").replace("/answer", "/done")),
        unknown,
        "an install token reports nothing"
    );
    assert_eq!(
        site.client
            .reply(&report.replace("/r/", "/i/").replace("/report", "/answer")),
        unknown,
        "a report token opens nothing"
    );
    // A report may come from any address.
    assert!(reply(&fixed, &format!("{report}/started")).starts_with("HTTP/1.1 20"));
    site.client.get(&format!("{report}/done"));
    assert_eq!(site.client.reply(&answer), unknown, "after done");

    site.server.cli(&["system", "arm", "web1", "--again", "--for", "4s"]);
    let answer = site.launched();
    assert!(site.client.reply(&answer).starts_with("HTTP/1.1 200"));
    let deadline = Instant::now() + PATIENCE;
    while site.client.reply(&answer).starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "the arming of 4 s did not run out");
    }
    assert_eq!(site.client.reply(&answer), unknown, "expired");
    let script = site.client.script();
    assert!(!is_installer(&script), "{script}");

    // What the client is not told, the timeline and the log tell.
    // The machine that is being installed is told who showed its token.
    refused.wait_for(&[
        seen(
            "ANSWER_REFUSED",
            &[("cause", "10.77.0.9 showed its token: we have no active lease")],
        ),
        seen("ANSWER_REFUSED", &[("cause", "installed")]),
        seen("ANSWER_REFUSED", &[("cause", "ran out")]),
    ]);
    let log = site.server.log().join("\n");
    for cause in ["our lease of", "we have no active lease of 10.77.0.9"] {
        assert!(log.contains(&format!("refused: {cause}")), "{cause} is not in\n{log}");
    }
}
