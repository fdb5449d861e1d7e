//! A hypervisor of a test's own: a real libvirtd in a namespace of the lab, with its own sockets, state and storage pool.
//! It must never meet another libvirtd: each runs in a mount namespace where libvirt's folders are the test's, and what it started is
//! ended by number.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::child::{self, Child};
use super::need::Need;
use super::netns::{Host, Net};

pub const LIBVIRTD: Need = Need::Program("libvirtd", "libvirt-daemon-system");
pub const VIRSH: Need = Need::Program("virsh", "libvirt-clients");

const PATIENCE: Duration = Duration::from_secs(60);

/// Where libvirt looks, and the folder of the test that it finds there. In `/run/lock` it notes whose a terminal is: the next guest of
/// another libvirtd may get a terminal's number before the first has taken its note away.
const PLACES: [(&str, &str); 6] = [
    ("/run/libvirt", "run"),
    ("/var/lib/libvirt", "lib"),
    ("/etc/libvirt", "etc"),
    ("/var/log/libvirt", "log"),
    ("/var/cache/libvirt", "cache"),
    ("/run/lock", "lock"),
];

/// QEMU as root: the pool lies in a folder of root's, and libvirt asks QEMU again and again where its user may not open /dev/kvm.
const QEMU_CONF: &str =
    "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\ncgroup_controllers = []\nremember_owner = 0\n";
const LIBVIRTD_CONF: &str = "auth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\nlog_outputs = \"3:stderr\"\n";

/// Where it runs; either has a bridge `br0` for the taps of its guests.
enum Where<'net> {
    /// Beside the boot server.
    Server(&'net Net),
    /// On a host of its own.
    Host(Host),
}

pub struct Libvirtd<'net> {
    place: Where<'net>,
    folder: tempfile::TempDir,
    log: Option<Child>,
    daemon: Option<Child>,
    listens: bool,
    /// Its QEMU runs as nobody and has no KVM.
    humble: bool,
    /// It has a /dev/kvm that works, if this machine has one.
    kvm: bool,
    /// The folder that is another's outside.
    twin_at: Option<PathBuf>,
}

impl<'net> Libvirtd<'net> {
    /// Starts one in the server's namespace of `net`, with a storage pool `default`.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn start(net: &'net Net) -> Self {
        Self::start_with(Where::Server(net), None, false, true)
    }

    /// As [`Libvirtd::start`], on a machine without KVM: who asks what it can do is told of QEMU's translator only. koan takes KVM wherever
    /// it is offered, and here may be offered what runs no guest.
    #[must_use]
    pub fn start_without_kvm(net: &'net Net) -> Self {
        Self::start_with(Where::Server(net), None, false, false)
    }

    /// As [`Libvirtd::start`], with a QEMU that runs as nobody, as distributions have it, and without KVM.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn start_humble(net: &'net Net) -> Self {
        Self::start_with(Where::Server(net), None, true, true)
    }

    /// Starts one on a host of its own in `net`, which has `address` (`10.77.0.2`) on its bridge. It answers on TCP there as well, without
    /// asking who is there.
    #[must_use]
    pub fn start_on_host(net: &'net Net, name: &str, address: &str) -> Self {
        Self::start_on_host_with(net, name, address, "listen_tls = 0\n")
    }

    /// As [`Libvirtd::start_on_host`], and it answers on TLS too: `certificates` has cacert.pem, servercert.pem and serverkey.pem.
    #[must_use]
    pub fn start_with_tls(net: &'net Net, name: &str, address: &str, certificates: &Path) -> Self {
        let at = certificates.display();
        let more = format!(
            "listen_tls = 1\nca_file = \"{at}/cacert.pem\"\ncert_file = \"{at}/servercert.pem\"\nkey_file = \"{at}/serverkey.pem\"\n"
        );
        Self::start_on_host_with(net, name, address, &more)
    }

    /// As [`Libvirtd::start_on_host`], with a storage pool `twin` in the folder that is `near`'s pool, where it has another folder.
    #[must_use]
    pub fn start_with_twin(net: &'net Net, name: &str, address: &str, near: &Libvirtd<'_>) -> Self {
        let far = Self::start_there(net, name, address, "listen_tls = 0\n", Some(near.pool()));
        far.virsh(&[
            "pool-create-as",
            "twin",
            "dir",
            "--target",
            near.pool().to_str().unwrap(),
        ]);
        far
    }

    /// What its pool `twin` holds.
    #[must_use]
    pub fn twin(&self) -> PathBuf {
        self.folder.path().join("twin")
    }

    fn start_on_host_with(net: &'net Net, name: &str, address: &str, more: &str) -> Self {
        Self::start_there(net, name, address, more, None)
    }

    fn start_there(net: &'net Net, name: &str, address: &str, more: &str, twin: Option<PathBuf>) -> Self {
        let host = net.host(name, None);
        host.ip(&["link", "add", "br0", "type", "bridge"]);
        host.ip(&["link", "set", "br0", "addrgenmode", "none"]);
        host.ip(&["link", "set", "br0", "up"]);
        host.ip(&["link", "set", "eth0", "master", "br0"]);
        host.ip(&["addr", "add", &format!("{address}/24"), "dev", "br0"]);
        Self::start_so(Where::Host(host), Some((address, more)), false, true, twin)
    }

    fn start_with(place: Where<'net>, listen: Option<(&str, &str)>, humble: bool, kvm: bool) -> Self {
        Self::start_so(place, listen, humble, kvm, None)
    }

    fn start_so(
        place: Where<'net>,
        listen: Option<(&str, &str)>,
        humble: bool,
        kvm: bool,
        twin_at: Option<PathBuf>,
    ) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("server-{}-virt-", std::process::id()))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        for (_, name) in PLACES {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::create_dir(folder.path().join("pool")).unwrap();
        fs::create_dir(folder.path().join("twin")).unwrap();
        fs::create_dir(folder.path().join("lib/dnsmasq")).unwrap();
        // Where koan puts disks, and virt-install the kernels that it fetched.
        for name in ["images", "boot"] {
            fs::create_dir_all(folder.path().join("lib").join(name)).unwrap();
        }
        for name in ["nvram", "save", "dump", "channel/target", "snapshot", "ram"] {
            fs::create_dir_all(folder.path().join("lib/qemu").join(name)).unwrap();
        }
        fs::create_dir_all(folder.path().join("log/qemu")).unwrap();
        let mut qemu = QEMU_CONF.to_owned();
        if humble {
            qemu = qemu.replace(
                "user = \"root\"\ngroup = \"root\"",
                "user = \"nobody\"\ngroup = \"nogroup\"",
            );
            // libvirt would move what lies over /dev/kvm, and cannot.
            qemu.push_str("namespaces = []\n");
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
            // It cannot be opened, and who could finds no KVM: libvirt says the same each time that it looks.
            fs::write(folder.path().join("kvm"), "").unwrap();
            fs::set_permissions(folder.path().join("kvm"), fs::Permissions::from_mode(0o000)).unwrap();
        }
        let mut conf = LIBVIRTD_CONF.to_owned();
        if let Some((address, more)) = listen {
            // One that others reach may be where a guest is moved to: never to the same host, which is told by its uuid.
            qemu.push_str(&format!("migration_host = \"{address}\"\n"));
            conf.push_str("host_uuid = \"6c1f0f4a-3d0b-4a55-9a53-2f6d1c8e7b02\"\n");
            conf.push_str(&format!(
                "listen_tcp = 1\nauth_tcp = \"none\"\nlisten_addr = \"{address}\"\n{more}"
            ));
        }
        fs::write(folder.path().join("etc/libvirtd.conf"), conf).unwrap();
        fs::write(folder.path().join("etc/qemu.conf"), qemu).unwrap();
        let mut libvirtd = Self {
            place,
            folder,
            log: None,
            daemon: None,
            listens: listen.is_some(),
            humble,
            kvm,
            twin_at,
        };
        let mut virtlogd = libvirtd.inside("exec /usr/sbin/virtlogd -p /run/libvirt/virtlogd.pid");
        libvirtd.log = Some(Child::start("virtlogd", &mut virtlogd));
        libvirtd.serve();
        let pool = libvirtd.pool();
        libvirtd.virsh(&["pool-define-as", "default", "dir", "--target", pool.to_str().unwrap()]);
        libvirtd.virsh(&["pool-start", "default"]);
        libvirtd.virsh(&["pool-autostart", "default"]);
        libvirtd
    }

    /// A shell where libvirt's folders are this one's. `ip netns exec` gives each its own mount namespace.
    fn inside(&self, script: &str) -> Command {
        let mut prelude = String::from("set -e\n");
        for (place, name) in PLACES {
            let own = self.folder.path().join(name);
            prelude.push_str(&format!("mkdir -p {place}; mount --bind '{}' {place}\n", own.display()));
        }
        if let Some(at) = &self.twin_at {
            prelude.push_str(&format!(
                "mount --bind '{}' '{}'\n",
                self.twin().display(),
                at.display()
            ));
        }
        if self.humble && Path::new("/dev/kvm").exists() {
            let kvm = self.folder.path().join("kvm");
            prelude.push_str(&format!("mount --bind '{}' /dev/kvm\n", kvm.display()));
        }
        if !self.kvm {
            prelude.push_str("[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm\n");
        }
        let mut command = match &self.place {
            Where::Server(net) => net.command("sh"),
            Where::Host(host) => host.command("sh"),
        };
        command.args(["-c", &format!("{prelude}{script}")]).current_dir("/");
        command
    }

    /// The host that it has for itself.
    ///
    /// # Panics
    /// When it stands beside the boot server.
    #[must_use]
    pub fn host(&self) -> &Host {
        match &self.place {
            Where::Host(host) => host,
            Where::Server(_) => panic!("it has no host of its own"),
        }
    }

    /// A program on the hypervisor itself, which meets this libvirtd at its usual places.
    #[must_use]
    pub fn host_command(&self, program: &str) -> Command {
        let mut command = self.inside("exec \"$0\" \"$@\"");
        command.arg(program);
        command
    }

    /// Starts the daemon (again), and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn serve(&mut self) {
        let listen = if self.listens { " --listen" } else { "" };
        let mut command = self.inside(&format!("exec /usr/sbin/libvirtd -p /run/libvirt/libvirtd.pid{listen}"));
        self.daemon = Some(Child::start("libvirtd", &mut command));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.virsh_command(&["list"]).output().unwrap();
            if answer.status.success() {
                return;
            }
            assert!(
                Instant::now() < deadline && self.daemon.as_mut().unwrap().is_running(),
                "libvirtd does not answer: {}",
                String::from_utf8_lossy(&answer.stderr)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// SIGTERM: it ends, and its guests go on.
    pub fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("libvirtd runs");
        daemon.terminate();
        daemon.wait_for_exit(PATIENCE);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        drop(self.daemon.take());
    }

    /// Its URI for clients on this machine, in whatever namespace.
    #[must_use]
    pub fn uri(&self) -> String {
        format!(
            "qemu:///system?socket={}",
            self.folder.path().join("run/libvirt-sock").display()
        )
    }

    /// The folder of its storage pool `default`.
    #[must_use]
    pub fn pool(&self) -> PathBuf {
        self.folder.path().join("pool")
    }

    /// A file below /var/lib/libvirt of its namespace.
    #[must_use]
    pub fn lib(&self, path: &str) -> PathBuf {
        self.folder.path().join("lib").join(path)
    }

    fn virsh_command(&self, arguments: &[&str]) -> Command {
        let mut command = child::command("virsh");
        command.args(["-c", &self.uri(), "-q"]).args(arguments);
        command
    }

    /// What virsh prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn virsh(&self, arguments: &[&str]) -> String {
        let output = self.virsh_command(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "virsh {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// `running`, `shut off`, ...; none when there is no such domain.
    #[must_use]
    pub fn state(&self, guest: &str) -> Option<String> {
        let output = self.virsh_command(&["domstate", guest]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }

    /// True when a domain is started with its host.
    #[must_use]
    pub fn autostarts(&self, guest: &str) -> bool {
        self.virsh(&["dominfo", guest])
            .lines()
            .any(|line| line.starts_with("Autostart") && line.ends_with("enable"))
    }

    /// The configuration of a domain's next boot.
    #[must_use]
    pub fn inactive_xml(&self, guest: &str) -> String {
        self.virsh(&["dumpxml", "--inactive", guest])
    }

    /// The number of a guest's QEMU process, while it runs.
    #[must_use]
    pub fn qemu(&self, guest: &str) -> Option<i32> {
        let path = self.folder.path().join("run/qemu").join(format!("{guest}.pid"));
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// Kills a guest's QEMU process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_qemu(&self, guest: &str) {
        end(self.qemu(guest).expect("its QEMU runs"));
    }

    /// The same while libvirtd is down and cannot be asked where the log is.
    #[must_use]
    pub fn qemu_said(&self, guest: &str) -> String {
        let mut said = String::new();
        for entry in fs::read_dir(self.folder.path().join("log/qemu")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with(guest) && name.contains("serial") {
                said.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()));
            }
        }
        said
    }

    /// What the guest's serial console said, as the hypervisor kept it.
    #[must_use]
    pub fn serial_log(&self, guest: &str) -> String {
        let xml = self.inactive_xml(guest);
        let path = xml
            .split("<log file='")
            .nth(1)
            .and_then(|rest| rest.split('\'').next())
            .expect("a serial log");
        let inside = Path::new(path)
            .strip_prefix("/var/log/libvirt")
            .expect("below the log folder");
        let bytes = fs::read(self.folder.path().join("log").join(inside)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Volumes of the pool.
    #[must_use]
    pub fn volumes(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.pool())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Libvirtd<'_> {
    fn drop(&mut self) {
        drop(self.daemon.take());
        // Guests outlive libvirtd: each is ended by the number that it wrote down.
        for entry in fs::read_dir(self.folder.path().join("run/qemu"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.path().extension().is_some_and(|extension| extension == "pid")
                && let Some(id) = fs::read_to_string(entry.path())
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
            {
                end(id);
            }
        }
        drop(self.log.take());
        // A network's dnsmasq outlives it too.
        for entry in fs::read_dir(self.folder.path().join("run/network"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.path().extension().is_some_and(|extension| extension == "pid")
                && let Ok(text) = fs::read_to_string(entry.path())
                && let Ok(id) = text.trim().parse()
            {
                end_as(id, "dnsmasq");
            }
        }
    }
}

/// SIGKILL to a QEMU that this test's libvirtd started.
fn end(id: i32) {
    end_as(id, "qemu");
}

/// SIGKILL to a process of this name.
pub(super) fn end_as(id: i32, program: &str) {
    let is_it = fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.starts_with(program));
    if is_it {
        let id = nix::unistd::Pid::from_raw(id);
        let _gone = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL);
    }
}
