//! Guests on a real libvirtd and QEMU: each way of making one installs the lab distro and leaves a guest that runs from its disk, whatever
//! happens to supervisor, libvirtd and QEMU meanwhile. What is asserted is what libvirt has in the end, never how long it took.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::child::{self, Child};
use super::distro;
use super::events::{Events, seen};
use super::libvirtd::{LIBVIRTD, Libvirtd, VIRSH};
use super::need::{self, Need};
use super::netns::Net;
use super::server::{ADDRESS_NET, AUTHORITATIVE, Server};
use super::vm::{PATIENCE, Place};
use crate::iso::medium::{XORRISO, press};

const IPXE_ISO: Need = Need::File("/usr/lib/ipxe/ipxe.iso", "ipxe");

/// Whether all is there that a guest needs.
pub(super) fn ready(test: &str) -> bool {
    need::all(test, &[need::MACHINES, need::DISTRO, &[LIBVIRTD, VIRSH, IPXE_ISO]])
}

/// A boot server, a hypervisor beside it, and the supervisor between them.
pub(super) struct Site<'net> {
    pub(super) server: Server<'net>,
    pub(super) libvirtd: Libvirtd<'net>,
    supervisor: Option<Child>,
    _place: Place,
}

impl<'net> Site<'net> {
    fn new(net: &'net Net) -> Self {
        let mut site = Self::unsupervised(net);
        site.server.import_lab();
        site.supervise();
        site
    }

    /// Nothing imported, and no supervisor.
    pub(super) fn unsupervised(net: &'net Net) -> Self {
        let place = Place::take();
        Self {
            libvirtd: Libvirtd::start(net),
            server: Server::start(net, AUTHORITATIVE),
            supervisor: None,
            _place: place,
        }
    }

    /// Starts the supervisor (again).
    pub(super) fn supervise(&mut self) {
        let uri = self.libvirtd.uri();
        let mut command = self.server.command(&["guest", "supervise", "--connect", &uri, "-v"]);
        let mut supervisor = Child::start("cordwainer guest supervise", &mut command);
        supervisor.wait_for_line("connected", PATIENCE);
        self.supervisor = Some(supervisor);
    }

    /// SIGKILL: nothing is told to anybody.
    fn kill_supervisor(&mut self) {
        drop(self.supervisor.take());
    }

    pub(super) fn create_command(&self, name: &str, more: &[&str]) -> Command {
        let uri = self.libvirtd.uri();
        let mut arguments = vec!["guest", "create", name, "--connect", &uri, "--accel", "tcg"];
        arguments.extend(["--network", "bridge=br0", "--memory", "512"]);
        arguments.extend(more);
        self.server.command(&arguments)
    }

    pub(super) fn create_output(&self, name: &str, more: &[&str]) -> Output {
        self.create_command(name, more).output().unwrap()
    }

    /// Makes a guest with a disk of its own, and returns once its installer runs.
    fn create(&self, name: &str, more: &[&str]) {
        let output = self.create_output(
            name,
            &[&["--profile", "lab", "--disk", "512M", "--autostart"], more].concat(),
        );
        assert!(
            output.status.success(),
            "guest create {name}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Waits until an installation has ended, and says whether it ended well.
    fn wait(&self, name: &str) -> bool {
        let mut wait = Child::start("guest wait", &mut self.server.command(&["guest", "wait", name]));
        let ended = wait.wait_for_exit(PATIENCE).success();
        eprintln!("guest wait {name}: {}", wait.lines().join("\n  "));
        ended
    }

    fn events(&self, name: &str) -> Events {
        self.server.events(name)
    }

    /// The phase as libvirt's metadata has it: what a supervisor that starts now would know.
    fn phase(&self, name: &str) -> String {
        let xml = self.libvirtd.inactive_xml(name);
        let phase = xml.split("phase=\"").nth(1).and_then(|rest| rest.split('"').next());
        phase.unwrap_or_else(|| panic!("no phase in {xml}")).to_owned()
    }

    /// Waits until libvirt's metadata has this phase.
    fn wait_for_phase(&self, name: &str, wanted: &str) {
        until(&format!("{name} is {wanted}"), || {
            self.libvirtd.state(name).is_some() && self.phase(name) == wanted
        });
    }

    pub(super) fn wait_for_state(&self, name: &str, wanted: &str) {
        until(&format!("{name} is {wanted}"), || {
            self.libvirtd.state(name).as_deref() == Some(wanted)
        });
    }

    /// A guest as an installation leaves it.
    fn is_installed(&self, name: &str) {
        assert_eq!(self.phase(name), "installed");
        let xml = self.libvirtd.inactive_xml(name);
        assert!(
            !xml.contains("<kernel>") && !xml.contains("<initrd>") && !xml.contains("<cmdline>"),
            "{xml}"
        );
        assert!(!xml.contains("device='cdrom'"), "{xml}");
        assert!(self.libvirtd.autostarts(name), "autostart was asked for");
    }

    /// It runs from its disk: what the installed system says on its console.
    fn runs_from_disk(&self, name: &str) {
        self.wait_for_state(name, "running");
        let wanted = format!("lab-system: booted from disk {name}");
        until(&wanted, || self.libvirtd.serial_log(name).contains(&wanted));
        self.is_installed(name);
    }

    /// Neither running nor ever started again by itself; the disk is kept.
    fn is_left_alone(&self, name: &str) {
        assert_eq!(self.libvirtd.state(name).as_deref(), Some("shut off"));
        assert!(!self.libvirtd.autostarts(name), "not before success");
        let volume = format!("{name}.qcow2");
        assert!(
            self.libvirtd.volumes().contains(&volume),
            "{:?}",
            self.libvirtd.volumes()
        );
    }
}

/// Looks until it is so.
///
/// # Panics
/// When [`PATIENCE`] ends first.
pub(super) fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn installs(more: &[&str], claims: bool) {
    let net = Net::new(&[ADDRESS_NET]);
    installs_at(&Site::new(&net), more, claims);
}

fn installs_at(site: &Site<'_>, more: &[&str], claims: bool) {
    site.create("web1", more);
    assert!(!site.libvirtd.autostarts("web1"), "not before success");
    assert!(site.wait("web1"), "it is installed");
    site.runs_from_disk("web1");
    assert_eq!(site.server.state("web1"), "installed");
    let mut events = site.events("web1");
    if claims {
        events.wait_for(&[seen("CLAIMED", &[])]);
    }
    events.wait_for(&[
        seen("GUEST_SERIAL", &[("line", "lab-installer: stage partitioning")]),
        seen("INSTALLED", &[]),
        seen("GUEST", &[("step", "done and stopped")]),
        seen("GUEST", &[("step", "installed, runs from its disk")]),
        seen("BOOTED_FROM_DISK", &[]),
    ]);
    assert_eq!(events.count(seen("CLAIMED", &[])), 1, "installed once");
    // Nothing of the kernel is left, and no token is in what people are shown.
    until("kernel and initrd are collected", || {
        site.libvirtd.volumes() == ["web1.qcow2"]
    });
    let log = site.server.cli(&["guest", "log", "web1"]);
    assert!(log.contains("lab-installer: stage partitioning"), "{log}");
    assert!(!log.contains("/i/") || log.contains("/i/(token)"), "{log}");
}

#[test]
fn by_a_kernel_that_lives_inside_an_image() {
    let test = "by_a_kernel_that_lives_inside_an_image";
    if !ready(test) || !need::all(test, &[&[XORRISO]]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let image = dir.path().join("lab.iso");
    press(distro::tree(), &image, &["-r", "-J", "-V", "LAB"]);
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::unsupervised(&net);
    let path = image.to_str().unwrap();
    site.server
        .cli(&["import", "--path", path, "--name", "lab", "--in-place"]);
    site.supervise();
    installs_at(&site, &["--method", "kernel"], true);
}

#[test]
fn by_pxe_with_bios() {
    if ready("by_pxe_with_bios") {
        installs(&["--method", "pxe"], true);
    }
}

#[test]
fn by_pxe_with_uefi() {
    if ready("by_pxe_with_uefi") {
        installs(&["--method", "pxe", "--firmware", "uefi"], true);
    }
}

#[test]
fn by_a_cd_and_then_from_a_copy_of_its_disk() {
    if !ready("by_a_cd_and_then_from_a_copy_of_its_disk") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let site = Site::new(&net);
    site.create("cd1", &["--method", "iso", "--iso", "/usr/lib/ipxe/ipxe.iso"]);
    assert!(site.libvirtd.virsh(&["dumpxml", "cd1"]).contains("device='cdrom'"));
    assert!(site.wait("cd1"));
    site.runs_from_disk("cd1");
    site.libvirtd.virsh(&["destroy", "cd1"]);
    // The same disk, thin, as another guest's.
    site.server
        .cli(&["guest", "delete", "cd1", "--connect", &site.libvirtd.uri()]);
    assert_eq!(site.libvirtd.state("cd1"), None);
    std::fs::rename(
        site.libvirtd.pool().join("cd1.qcow2"),
        site.libvirtd.pool().join("golden.qcow2"),
    )
    .unwrap();
    let output = site.create_output(
        "copy1",
        &[
            "--method",
            "import",
            "--disk",
            "backing=golden.qcow2",
            "--autostart",
            "--wait=4m",
        ],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    site.is_installed("copy1");
    site.wait_for_state("copy1", "running");
    until("the copy boots", || {
        site.libvirtd
            .serial_log("copy1")
            .contains("lab-system: booted from disk cd1")
    });
    // It stands on the golden volume and weighs what it wrote itself.
    let copy = std::fs::metadata(site.libvirtd.pool().join("copy1.qcow2")).unwrap();
    assert!(copy.len() < 4 << 20, "{} bytes", copy.len());
    site.libvirtd.virsh(&["destroy", "copy1"]);
    site.server
        .cli(&["guest", "delete", "copy1", "--disks", "--connect", &site.libvirtd.uri()]);
    assert_eq!(site.libvirtd.volumes(), ["golden.qcow2"]);
}

#[test]
fn the_supervisor_is_killed_in_mid_install_and_the_guest_is_not_lost() {
    if !ready("the_supervisor_is_killed_in_mid_install_and_the_guest_is_not_lost") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::new(&net);
    site.create("web1", &[]);
    assert_eq!(site.phase("web1"), "installing");
    site.kill_supervisor();
    // The whole installation passes, and its end, with nobody looking.
    site.wait_for_state("web1", "shut off");
    assert_eq!(site.server.state("web1"), "installed");
    assert_eq!(site.phase("web1"), "installing");
    assert!(!site.libvirtd.autostarts("web1"));
    site.supervise();
    site.runs_from_disk("web1");
}

#[test]
fn libvirtd_is_restarted_and_the_guest_reboots_meanwhile() {
    if !ready("libvirtd_is_restarted_and_the_guest_reboots_meanwhile") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::new(&net);
    site.create("web1", &[]);
    let before = site.libvirtd.qemu("web1");
    site.libvirtd.kill();
    site.libvirtd.serve();
    site.supervisor.as_mut().unwrap().wait_for_line("connected", PATIENCE);
    assert_eq!(site.libvirtd.qemu("web1"), before, "the guest ran on");
    // Gone again, until long after the guest is done.
    site.libvirtd.stop();
    let mut events = site.events("web1");
    events.wait_for(&[seen("INSTALLED", &[])]);
    until("the guest has rebooted", || {
        site.libvirtd.qemu_said("web1").contains("reboot: Restarting system")
    });
    site.libvirtd.serve();
    site.runs_from_disk("web1");
}

#[test]
fn its_qemu_is_killed_and_an_admin_cancels() {
    if !ready("its_qemu_is_killed_and_an_admin_cancels") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let site = Site::new(&net);
    site.create("web1", &[]);
    site.libvirtd.kill_qemu("web1");
    assert!(!site.wait("web1"), "it failed");
    assert_eq!(site.phase("web1"), "failed");
    site.is_left_alone("web1");
    let mut events = site.events("web1");
    events.wait_for(&[seen(
        "GUEST_STOPPED",
        &[("reason", "its QEMU process was killed, and done was never reported")],
    )]);
    site.create("web2", &["--kernel-options", "rdinit=/bin/true panic=0"]);
    site.server.cli(&["guest", "destroy", "web2"]);
    site.wait_for_phase("web2", "cancelled");
    site.is_left_alone("web2");
    // Twice, and somebody else's name, uuid, volume.
    for (arguments, says) in [
        (vec!["web1", "--system", "web1"], "web1"),
        (vec!["web3", "--profile", "lab", "--disk", "1T,format=raw"], "is full"),
    ] {
        let output = site.create_output(arguments[0], &arguments[1..]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
    assert_eq!(site.libvirtd.state("web3"), None, "nothing is left of it");
    assert_eq!(site.libvirtd.volumes(), ["web1.qcow2", "web2.qcow2"]);
    // Installed anew: the same guest, the same disk.
    let same = || {
        (
            site.libvirtd.virsh(&["domiflist", "web1"]),
            site.libvirtd.virsh(&["domuuid", "web1"]),
        )
    };
    let before = same();
    let mut again = Child::start(
        "guest reinstall",
        &mut site.server.command(&["guest", "reinstall", "web1", "--wait=4m"]),
    );
    let ended = again.wait_for_exit(PATIENCE);
    assert!(ended.success(), "{}", again.lines().join("\n"));
    site.runs_from_disk("web1");
    let card = |flist: &str| flist.split_whitespace().last().unwrap_or_default().to_owned();
    let after = same();
    assert_eq!((card(&after.0), after.1), (card(&before.0), before.1));
}

#[test]
fn a_panic_ends_and_nothing_loops() {
    if !ready("a_panic_ends_and_nothing_loops") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let site = Site::new(&net);
    // The kernel runs /bin/true as its init, which ends: it panics, and a second later it reboots.
    site.create("web1", &["--kernel-options", "rdinit=/bin/true panic=1"]);
    assert!(!site.wait("web1"), "it failed");
    assert_eq!(site.phase("web1"), "failed");
    site.is_left_alone("web1");
    let log = site.server.cli(&["guest", "log", "web1"]);
    assert!(log.contains("Kernel panic"), "{log}");
    assert_eq!(
        site.libvirtd.serial_log("web1").matches("Linux version").count(),
        1,
        "started once"
    );
    // One that is still on its console stays there, until an admin ends it.
    site.create("web2", &["--kernel-options", "rdinit=/bin/true panic=0"]);
    until("it panics", || {
        site.libvirtd.serial_log("web2").contains("Kernel panic")
    });
    assert_eq!(site.phase("web2"), "installing");
    assert_eq!(site.libvirtd.state("web2").as_deref(), Some("running"));
    site.server.cli(&["guest", "destroy", "web2"]);
    site.wait_for_phase("web2", "cancelled");
}

#[test]
fn two_hypervisors_at_once_while_a_third_is_dead() {
    if !ready("two_hypervisors_at_once_while_a_third_is_dead") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let site = Site::new(&net);
    let far = Libvirtd::start_on_host(&net, "hv2", "10.77.0.2");
    // Nobody has this address: connecting to it hangs.
    let dead = "qemu+tcp://10.77.0.200/system";
    let mut hangs = Child::start(
        "guest check",
        &mut site.server.command(&["guest", "check", "--connect", dead]),
    );
    site.create("near1", &[]);
    let tcp = "qemu+tcp://10.77.0.2/system";
    let output = site
        .server
        .command(&[
            "guest",
            "create",
            "far1",
            "--profile",
            "lab",
            "--connect",
            tcp,
            "--accel",
            "tcg",
            "--network",
            "bridge=br0",
            "--memory",
            "512",
            "--disk",
            "512M",
            "--autostart",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        far.volumes().iter().any(|name| name.ends_with("-kernel")),
        "{:?}",
        far.volumes()
    );
    assert!(site.wait("near1") && site.wait("far1"));
    site.runs_from_disk("near1");
    until("far1 boots its disk", || {
        far.serial_log("far1").contains("lab-system: booted from disk far1")
    });
    assert!(far.autostarts("far1"));
    let ended = hangs.wait_for_exit(PATIENCE);
    assert!(!ended.success(), "a dead hypervisor is an error: {:?}", hangs.lines());
    let list = site.server.output(&["guest", "list"]);
    let (list, missing) = (
        String::from_utf8_lossy(&list.stdout),
        String::from_utf8_lossy(&list.stderr),
    );
    assert!(list.contains("near1") && list.contains("far1"), "{list}");
    assert!(missing.contains("10.77.0.200"), "who is missing is said: {missing}");
}

#[test]
fn a_check_finds_what_runs_guests() {
    if !ready("a_check_finds_what_runs_guests") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let site = Site::new(&net);
    let uri = site.libvirtd.uri();
    site.libvirtd
        .virsh(&["pool-define-as", "idle", "dir", "--target", "/nowhere/at/all"]);
    let output = site.server.output(&["guest", "check", "--connect", &uri]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("storage pool default runs, emulated"), "{said}");
    assert!(said.contains("storage pool idle is not started"), "{said}");
    assert!(said.contains("KVM"), "{said}");
    assert!(site.libvirtd.volumes().is_empty(), "{:?}", site.libvirtd.volumes());
    assert!(site.libvirtd.virsh(&["list", "--all"]).is_empty());

    // A QEMU that is no root's, no KVM, and a folder that is another's.
    let humble = Libvirtd::start_humble(&net);
    let shut = humble.lib("shut");
    std::fs::create_dir(&shut).unwrap();
    std::fs::set_permissions(&shut, PermissionsExt::from_mode(0o700)).unwrap();
    humble.virsh(&["pool-create-as", "shut", "dir", "--target", shut.to_str().unwrap()]);
    let output = site.server.output(&["guest", "check", "--connect", &humble.uri()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("storage pool default runs, emulated"), "{said}");
    assert!(said.contains("disk in storage pool shut does not run"), "{said}");
    assert!(said.contains("must be able to enter"), "{said}");
    assert!(said.contains("offers no KVM"), "{said}");
    assert!(humble.virsh(&["list", "--all"]).is_empty());
}

#[test]
fn the_payload_is_what_its_source_says() {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guest/supervise/look");
    if !need::all(
        "the_payload_is_what_its_source_says",
        &[&[Need::Program("as", "binutils")]],
    ) {
        return;
    }
    let (object, image) = (folder.path().join("p.o"), folder.path().join("p.bin"));
    let mut assemble = child::command("as");
    assemble
        .arg("--64")
        .arg(source.join("payload.S"))
        .arg("-o")
        .arg(&object);
    child::run("as", &mut assemble, PATIENCE);
    let mut link = child::command("ld");
    link.args(["-Ttext", "0x7c00", "--oformat", "binary", "-e", "_start"]);
    child::run("ld", link.arg(&object).arg("-o").arg(&image), PATIENCE);
    assert_eq!(
        std::fs::read(&image).unwrap(),
        std::fs::read(source.join("payload.bin")).unwrap()
    );
}

/// Kills the supervisor so long after each `guest create`: before anything, while the disk is made, while the kernel travels, while the
/// installer starts, and after. Where each falls, the machine decides; that the guest is installed once, nothing may change.
fn killed_after(millis: &[u64]) {
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::new(&net);
    // Whether KVM runs guests is tried once a supervisor, and would take the time of all that is to be hit.
    for (number, millis) in millis.iter().enumerate() {
        let name = format!("kill{number}");
        let more = ["--profile", "lab", "--disk", "512M", "--autostart"];
        let mut create = Child::start("guest create", &mut site.create_command(&name, &more));
        until("it is asked for", || {
            site.server.json(&["status", "--all"]).to_string().contains(&name)
        });
        std::thread::sleep(Duration::from_millis(*millis));
        site.kill_supervisor();
        create.wait_for_exit(PATIENCE);
        let defined = site.libvirtd.state(&name);
        let phase = defined.as_ref().map(|_| site.phase(&name));
        eprintln!("killed after {millis} ms: {defined:?} {phase:?}");
        site.supervise();
        if defined.is_none() {
            // Nothing was made yet, and nobody was told otherwise.
            assert!(!site.libvirtd.volumes().contains(&format!("{name}.qcow2")));
            continue;
        }
        site.runs_from_disk(&name);
        let mut events = site.events(&name);
        events.wait_for(&[seen("BOOTED_FROM_DISK", &[])]);
        assert!(
            events.count(seen("STAGE", &[("stage", "partitioning")])) == 1,
            "partitioned once"
        );
        site.libvirtd.virsh(&["destroy", &name]);
    }
}

#[test]
#[ignore = "long: three installations each"]
fn the_supervisor_is_killed_before_it_did_much() {
    if ready("the_supervisor_is_killed_before_it_did_much") {
        killed_after(&[20, 60, 100]);
    }
}

#[test]
#[ignore = "long: three installations each"]
fn the_supervisor_is_killed_while_it_makes_and_brings() {
    if ready("the_supervisor_is_killed_while_it_makes_and_brings") {
        killed_after(&[150, 250, 400]);
    }
}

#[test]
#[ignore = "long: three installations each"]
fn the_supervisor_is_killed_when_the_installer_starts() {
    if ready("the_supervisor_is_killed_when_the_installer_starts") {
        killed_after(&[700, 1200, 3000]);
    }
}
