//! Every turn of an installation without a hypervisor: libvirt's test driver, a real supervisor in this process and a real daemon, which
//! hears from a machine that is a few requests of curl. The clock is the test's, so that ten minutes pass at once.

use crate::lab::child;
use crate::lab::need;
use crate::lab::netns::{Host, Net};
use crate::lab::server::{ADDRESS_NET, Server};
use cordwainer::guest::protocol::{Act, Reply, Request, Which};
use cordwainer::guest::supervise::{self, Client, Options as Supervising, Supervisor};
use cordwainer::guest::{Dhcp, Options, Spec, plan};
use cordwainer::model::{Name, Timestamp, VirtWish};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use virt::connect::Connect;
use virt::domain::Domain;

const CONNECT: &str = "test:///default";
const PATIENCE: Duration = Duration::from_secs(60);

/// Machines are believed by their token alone: curl is no machine with a lease.
const TRUSTING: &str = r#"
[dhcp]
mode = "off"
[[subnet]]
network = "10.77.0.0/24"
binding = "token-only"
"#;

struct Site<'net> {
    server: Server<'net>,
    machine: Host,
    client: Client,
    _supervisor: Supervisor,
    ahead: Arc<AtomicI64>,
    libvirt: Connect,
}

impl<'net> Site<'net> {
    fn new(net: &'net Net) -> Self {
        let server = Server::start(net, TRUSTING);
        server.import_lab();
        let ahead = Arc::new(AtomicI64::new(0));
        let (clock, state) = (ahead.clone(), server.state_folder());
        let options = Supervising {
            state: state.clone(),
            now: Arc::new(move || Timestamp(cordwainer::store::clock::wall().0 + clock.load(Ordering::SeqCst))),
            hosts: vec![CONNECT.to_owned()],
            root_only: false,
            power: false,
        };
        let supervisor = supervise::start(options).unwrap();
        Self {
            _supervisor: supervisor,
            machine: net.host("m1", Some("10.77.0.9/24")),
            client: Client::connect(&state).unwrap(),
            ahead,
            libvirt: Connect::open(Some(CONNECT)).unwrap(),
            server,
        }
    }

    /// Time goes on.
    fn pass(&self, seconds: i64) {
        self.ahead.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// A guest by PXE, of a system that is armed.
    fn spec(&mut self, name: &str, mac: &str) -> Spec {
        self.server.add_mac(name, "lab", mac, &[]);
        self.server.arm(name);
        let report = self.server.json(&["status", "--all"]);
        assert!(report.to_string().contains(name), "{report}");
        let arm = arm_of(&self.server, name);
        let options = Options {
            connect: CONNECT.to_owned(),
            job: arm,
            owner: "test".to_owned(),
            system: Some(name.parse().unwrap()),
            profile: Some("lab".parse().unwrap()),
            method: Some("pxe".parse().unwrap()),
            interfaces: vec![(mac.parse().unwrap(), None)],
            disks: vec!["1,pool=default-pool".parse().unwrap()],
            nics: vec!["network=default".parse().unwrap()],
            autostart: true,
            dhcp: Dhcp::Ours,
            ..Options::default()
        };
        plan(&name.parse().unwrap(), &options, &VirtWish::default(), None, &|_| None).unwrap()
    }

    fn create(&self, spec: &Spec) -> Result<(), String> {
        let request = Request::Create {
            spec: Box::new(spec.clone()),
            again: false,
        };
        match self.client.ask_one(&request) {
            Ok(Reply::Created(_)) => Ok(()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn domain(&self, name: &str) -> Domain {
        self.libvirt.lookup_domain_by_name(name).unwrap()
    }

    /// What the machine fetches from the server.
    fn fetch(&self, url: &str) -> String {
        let mut curl = self.machine.command("curl");
        child::run("curl", curl.args(["-sS", "--fail", url]), PATIENCE)
    }

    /// The machine boots its installer, as far as its answer file; gives the URL of done.
    fn boots(&self, mac: &str) -> String {
        let script = self.fetch(&format!("http://10.77.0.1/b/{}/ipxe", mac.replace(':', "-")));
        let answer = word_after(&script, "lab.answer=");
        let answers = self.fetch(&answer);
        word_after(&answers, "done=")
    }

    /// `installing`, ... as the supervisor tells.
    fn phase(&self, name: &str) -> String {
        let which = Which {
            guest: name.parse().unwrap(),
            connect: None,
        };
        match self.client.ask_one(&Request::Show(which)).unwrap() {
            Reply::Guest(guest) => guest.installation.unwrap().as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn wait_for(&self, name: &str, phase: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.phase(name);
            if now == phase {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is {now}, and not {phase}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn runs(&self, name: &str) -> bool {
        self.domain(name).is_active().unwrap()
    }

    fn autostarts(&self, name: &str) -> bool {
        self.domain(name).autostart().unwrap()
    }
}

fn arm_of(server: &Server<'_>, name: &str) -> String {
    let folder = cordwainer::store::Folder::open(&server.state_folder()).unwrap();
    let (inventory, _) = cordwainer::store::InventoryDb::open(&folder).unwrap().load().unwrap();
    inventory.arm(name).unwrap().id.0.clone()
}

fn word_after(text: &str, before: &str) -> String {
    let rest = text
        .split(before)
        .nth(1)
        .unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn every_turn_of_an_installation() {
    if !need::all(
        "every_turn_of_an_installation",
        &[need::NETWORK, need::DISTRO, &[need::Need::Program("curl", "curl")]],
    ) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::new(&net);

    // Done, then the stop.
    let mac = "52:54:00:f1:00:01";
    let first = site.spec("flow1", mac);
    site.create(&first).unwrap();
    assert_eq!(site.phase("flow1"), "installing");
    assert!(site.runs("flow1") && !site.autostarts("flow1"));
    let done = site.boots(mac);
    site.fetch(&done);
    site.wait_for("flow1", "done, still running");
    assert!(!site.autostarts("flow1"), "not before it has stopped");
    site.domain("flow1").shutdown().unwrap();
    site.wait_for("flow1", "installed");
    assert!(site.runs("flow1") && site.autostarts("flow1"));
    let live = site.domain("flow1").xml_desc(0).unwrap();
    assert!(live.contains("<on_reboot>restart</on_reboot>"), "{live}");

    // The stop, then done.
    let mac = "52:54:00:f1:00:02";
    let spec = site.spec("flow2", mac);
    site.create(&spec).unwrap();
    let done = site.boots(mac);
    site.domain("flow2").shutdown().unwrap();
    site.wait_for("flow2", "stopped, done not heard yet");
    site.fetch(&done);
    site.wait_for("flow2", "installed");
    assert!(site.runs("flow2") && site.autostarts("flow2"));

    // The stop, and no done.
    let mac = "52:54:00:f1:00:03";
    let spec = site.spec("flow3", mac);
    site.create(&spec).unwrap();
    let done = site.boots(mac);
    site.domain("flow3").shutdown().unwrap();
    site.wait_for("flow3", "stopped, done not heard yet");
    site.pass(31);
    site.wait_for("flow3", "failed");
    assert!(!site.runs("flow3") && !site.autostarts("flow3"));
    // It comes all the same: what it says is true.
    site.fetch(&done);
    site.wait_for("flow3", "installed");

    // An admin's destroy.
    let mac = "52:54:00:f1:00:04";
    let spec = site.spec("flow4", mac);
    site.create(&spec).unwrap();
    site.domain("flow4").destroy().unwrap();
    site.wait_for("flow4", "cancelled");
    assert!(!site.runs("flow4") && !site.autostarts("flow4"));

    // Done, and no stop for ten minutes: installed, and started from its disk at its next stop.
    let mac = "52:54:00:f1:00:05";
    let spec = site.spec("flow5", mac);
    site.create(&spec).unwrap();
    site.fetch(&site.boots(mac));
    site.wait_for("flow5", "done, still running");
    site.pass(601);
    site.wait_for("flow5", "installed, not restarted yet");
    assert!(site.autostarts("flow5"));
    site.domain("flow5").shutdown().unwrap();
    site.wait_for("flow5", "installed");
    assert!(site.runs("flow5"));

    // It never reports, and the arming is withdrawn.
    let mac = "52:54:00:f1:00:06";
    let spec = site.spec("flow6", mac);
    site.create(&spec).unwrap();
    site.server.cli(&["system", "disarm", "flow6"]);
    site.wait_for("flow6", "failed");
    assert!(!site.autostarts("flow6"));

    reboots_and_no_reboot(&mut site);
    clashes(&mut site, &first);
    nothing_is_heard(&mut site);
}

/// A distro that reboots twice, and one that goes over into its result without a reboot.
fn reboots_and_no_reboot(site: &mut Site<'_>) {
    let mac = "52:54:00:f1:00:08";
    let mut spec = site.spec("flow8", mac);
    spec.reboots_midway = true;
    site.create(&spec).unwrap();
    let done = site.boots(mac);
    let report = done.strip_suffix("/done").unwrap();
    site.fetch(&format!("{report}/partitioning"));
    site.domain("flow8").shutdown().unwrap();
    site.wait_for("flow8", "installing from disk");
    assert!(site.runs("flow8") && !site.autostarts("flow8"));
    // From the disk on, a reboot is no stop any more.
    site.domain("flow8").reboot(0).unwrap();
    site.pass(31);
    assert_eq!(site.phase("flow8"), "installing from disk");
    assert!(!site.autostarts("flow8"));
    site.fetch(&done);
    site.wait_for("flow8", "installed");
    assert!(site.runs("flow8") && site.autostarts("flow8"));

    // kexec: what runs is the installed system, in the domain that its installer was started in.
    let mac = "52:54:00:f1:00:09";
    let spec = site.spec("flow9", mac);
    site.create(&spec).unwrap();
    let done = site.boots(mac);
    site.fetch(&done);
    site.wait_for("flow9", "done, still running");
    site.fetch(&done.replace("/done", "/booted"));
    site.wait_for("flow9", "installed, not restarted yet");
    assert!(site.runs("flow9") && site.autostarts("flow9"));
    site.domain("flow9").shutdown().unwrap();
    site.wait_for("flow9", "installed");
    assert!(site.runs("flow9"));
    let live = site.domain("flow9").xml_desc(0).unwrap();
    assert!(live.contains("<on_reboot>restart</on_reboot>"), "{live}");
}

/// An installer that says nothing more; the daemon was restarted meanwhile, and the supervisor found it again.
fn nothing_is_heard(site: &mut Site<'_>) {
    let mac = "52:54:00:f1:00:0a";
    let spec = site.spec("flow10", mac);
    site.create(&spec).unwrap();
    site.boots(mac);
    site.server.stop();
    site.server
        .configure(&format!("[install]\ntimeout = \"5s\"\n{TRUSTING}"));
    site.server.serve();
    site.wait_for("flow10", "failed");
    assert!(site.runs("flow10"), "somebody may still look at its console");
    assert!(!site.autostarts("flow10"));
    // Nobody starts it from its disk when it ends.
    site.domain("flow10").shutdown().unwrap();
    site.pass(31);
    assert_eq!(site.phase("flow10"), "failed");
    assert!(!site.runs("flow10"));
}

/// What stands in the way is found before anything is defined.
fn clashes(site: &mut Site<'_>, first: &Spec) {
    let said = site.create(first).unwrap_err();
    assert!(said.contains("already") && said.contains("guest show flow1"), "{said}");
    let other = site.spec("flow7", "52:54:00:f1:00:07");
    let with = |change: &dyn Fn(&mut Spec)| {
        let mut spec = other.clone();
        change(&mut spec);
        spec
    };
    let name: Name = "flow1".parse().unwrap();
    for (spec, says) in [
        (with(&|spec| spec.name = name.clone()), "another guest called flow1"),
        (with(&|spec| spec.uuid = first.uuid.clone()), "with the uuid"),
        (
            with(&|spec| spec.nics = first.nics.clone()),
            "has the MAC address 52:54:00:f1:00:01",
        ),
        (
            with(&|spec| spec.disks = first.disks.clone()),
            "has a volume flow1.qcow2 already",
        ),
        (
            with(&|spec| spec.connect = "qemu+tcp://127.0.0.1:1/system".to_owned()),
            "does not answer",
        ),
        (with(&|spec| spec.connect = "no uri".to_owned()), "is no URI"),
    ] {
        let said = site.create(&spec).unwrap_err();
        assert!(said.contains(says), "{says}: {said}");
        assert!(
            site.libvirt.lookup_domain_by_name("flow7").is_err(),
            "{says}: nothing is defined"
        );
    }
    let mut full = other.clone();
    full.disks[0].size = Some(1 << 60);
    full.disks[0].format = cordwainer::guest::Format::Raw;
    let said = site.create(&full).unwrap_err();
    assert!(said.contains("is full"), "{said}");
    assert!(
        site.libvirt.lookup_domain_by_name("flow7").is_err(),
        "what was defined is taken back"
    );
    // The life cycle of seed 001, as far as the test driver goes.
    let act = |act: Act| {
        let which = Which {
            guest: "flow1".parse().unwrap(),
            connect: Some(CONNECT.to_owned()),
        };
        site.client
            .ask_one(&Request::Act { which, act })
            .map_err(|error| error.to_string())
    };
    for (step, active) in [
        (Act::Suspend, true),
        (Act::Resume, true),
        (Act::Destroy, false),
        (Act::Start, true),
        (Act::NoAutostart, true),
    ] {
        act(step).unwrap();
        assert_eq!(site.runs("flow1"), active, "{step:?}");
    }
    assert!(!site.autostarts("flow1"));
    let delete = Request::Delete {
        which: Which {
            guest: "flow1".parse().unwrap(),
            connect: None,
        },
        disks: true,
    };
    site.client.ask_one(&delete).unwrap();
    assert!(site.libvirt.lookup_domain_by_name("flow1").is_err());
    let pool = site.libvirt.lookup_storage_pool_by_name("default-pool").unwrap();
    assert!(!pool.list_volumes().unwrap().contains(&"flow1.qcow2".to_owned()));
}
