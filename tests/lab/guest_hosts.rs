//! Hypervisors that are reached by ssh, by TLS and as an ordinary user's own: a real sshd and a real libvirtd on a host of the lab, keys and
//! certificates of the test. What stands in the way is said with its remedy, nothing waits for an answer on a terminal, and a host whose
//! network dies holds up no other. libvirt 9 brings its own far end for ssh, virt-ssh-helper.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::child::{self, Child};
use super::guest_life::{echo, said, talk};
use super::guests::{Site, ready, until};
use super::libvirtd::{Libvirtd, end_as};
use super::need::{self, Need};
use super::netns::Net;
use super::server::ADDRESS_NET;
use super::vm::PATIENCE;

const SSHD: Need = Need::File("/usr/sbin/sshd", "openssh-server");
const SSH: Need = Need::Program("ssh", "openssh-client");
const OPENSSL: Need = Need::Program("openssl", "openssl");

const FAR: &str = "10.77.0.2";

/// The far side's sshd and what the near side's ssh knows, in one folder.
struct Ssh {
    folder: tempfile::TempDir,
}

impl Ssh {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("server-{}-ssh-", std::process::id()))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let ssh = Self { folder };
        for key in ["host", "own"] {
            let mut keygen = child::command("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(ssh.path(key));
            child::run("ssh-keygen", &mut keygen, PATIENCE);
        }
        let config = format!(
            "Port 22\nListenAddress {FAR}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n",
            ssh.path("host").display(),
            ssh.path("authorized").display()
        );
        fs::write(ssh.path("sshd_config"), config).unwrap();
        let config = format!(
            "Host *\n  UserKnownHostsFile {}\n  IdentityFile {}\n  IdentitiesOnly yes\n",
            ssh.path("known").display(),
            ssh.path("own").display()
        );
        fs::write(ssh.path("ssh_config"), config).unwrap();
        ssh
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs its daemon on the hypervisor, where virt-ssh-helper meets libvirtd at its usual place.
    fn serve(&self, far: &Libvirtd<'_>) -> Child {
        let mut command = far.host_command("sh");
        command.args([
            "-c",
            "mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -f \"$0\"",
            self.path("sshd_config").to_str().unwrap(),
        ]);
        let mut sshd = Child::start("sshd", &mut command);
        sshd.wait_for_line("Server listening", PATIENCE);
        sshd
    }

    /// The same command where this is what ssh is set to.
    fn with(&self, command: &Command, net: &Net) -> Command {
        let mut within = net.command("sh");
        within.args(["-c", "mount --bind \"$0\" /etc/ssh/ssh_config && exec \"$@\""]);
        within.arg(self.path("ssh_config"));
        // `setpriv ... -- ip netns exec NAME PROGRAM ...`: all from PROGRAM on.
        let arguments: Vec<_> = command.get_args().collect();
        let netns = arguments.iter().position(|word| *word == "exec").unwrap();
        within.args(&arguments[netns + 2..]).current_dir("/");
        within
    }
}

fn supervised(site: &Site<'_>, near: &str, ssh: &Ssh) -> Child {
    let command = site.server.command(&["guest", "supervise", "--connect", near, "-v"]);
    let mut supervisor = Child::start("guest supervise", &mut ssh.with(&command, site.server.net()));
    supervisor.wait_for_line("connected", PATIENCE);
    supervisor
}

fn refused(output: &Output, parts: &[&str]) {
    let text = said(output);
    assert!(!output.status.success(), "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

fn imports(site: &Site<'_>, name: &str, uri: &str) -> Output {
    let disk = ["--method", "import", "--disk", "backing=echo.img", "--memory", "128"];
    let rest = ["--network", "bridge=br0", "--accel", "tcg", "--connect", uri];
    site.server
        .output(&[&["guest", "create", name], &disk[..], &rest[..]].concat())
}

#[test]
fn over_ssh_and_its_network_dies() {
    let test = "over_ssh_and_its_network_dies";
    if !ready(test) || !need::all(test, &[&[SSHD, SSH]]) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let site = Site::unsupervised(&net);
    let near = site.libvirtd.uri();
    fs::write(site.libvirtd.pool().join("echo.img"), echo()).unwrap();
    let far = Libvirtd::start_on_host(&net, "hv2", FAR);
    fs::write(far.pool().join("echo.img"), echo()).unwrap();
    let ssh = Ssh::new();
    let uri = format!("qemu+ssh://root@{FAR}/system");
    let _supervisor = supervised(&site, &near, &ssh);
    let check = || site.server.output(&["guest", "show", "far1", "--connect", &uri]);

    // Each step of setting it up, left out: what is missing is said, and once it is there the next question finds it.
    refused(&check(), &["Connection refused", "ssh root@10.77.0.2 true"]);
    let sshd = ssh.serve(&far);
    refused(
        &check(),
        &["host key is not known", "say yes once", "ssh root@10.77.0.2 true"],
    );
    let key = ssh.text("host.pub");
    fs::write(ssh.path("known"), format!("{FAR} {}", ssh.text("own.pub"))).unwrap();
    refused(&check(), &["another than the one", "ssh-keygen -R 10.77.0.2"]);
    fs::write(ssh.path("known"), format!("{FAR} {key}")).unwrap();
    refused(&check(), &["Permission denied", "authorized_keys"]);
    fs::copy(ssh.path("own.pub"), ssh.path("authorized")).unwrap();
    let output = imports(&site, "far1", &uri);
    assert!(output.status.success(), "{}", said(&output));
    site.copied("near1", &[]);
    until("it speaks", || far.serial_log("far1").contains("a guest speaks"));
    site.types("far1", &[], "by ssh and back\r", "by ssh and back");

    // The cable is pulled: who asks for others is answered, and what is not known is said.
    far.host().ip(&["link", "set", "eth0", "down"]);
    let started = Instant::now();
    let list = site.server.output(&["guest", "list"]);
    let took = started.elapsed();
    assert!(said(&list).contains("near1"), "{}", said(&list));
    assert!(
        said(&list).contains(&format!("{uri} does not answer")),
        "{}",
        said(&list)
    );
    site.guest("suspend", "near1", &[]);
    site.guest("resume", "near1", &[]);
    // A dead network is told from a slow one by time alone: libvirt's own limit is above a minute.
    assert!(took < Duration::from_secs(45), "{took:?}");
    far.host().ip(&["link", "set", "eth0", "up"]);
    until("it is back", || {
        said(&site.server.output(&["guest", "show", "far1", "--connect", &uri])).contains("running")
    });

    // The daemon there is restarted: its connections end with it.
    drop(sshd);
    let _sshd = ssh.serve(&far);
    until("it is back", || {
        said(&site.server.output(&["guest", "show", "far1", "--connect", &uri])).contains("running")
    });
    site.guest("delete", "far1", &["--disks"]);
    assert_eq!(far.state("far1"), None);
    assert_eq!(far.volumes(), ["echo.img"]);
    assert_eq!(site.lives("near1"), "running");
}

/// A CA and what it issued, in a folder as `pkipath` has it.
struct Issued {
    folder: tempfile::TempDir,
}

impl Issued {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("server-{}-tls-", std::process::id()))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let issued = Self { folder };
        let ca = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=lab CA",
            "-addext",
            "keyUsage=critical,keyCertSign",
            "-keyout",
            "cakey.pem",
            "-out",
            "cacert.pem",
        ];
        issued.openssl(&ca);
        issued.issue(
            "server",
            &format!("subjectAltName=IP:{FAR}\nextendedKeyUsage=serverAuth\n"),
        );
        issued.issue("client", "extendedKeyUsage=clientAuth\n");
        issued
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = child::command("openssl");
        child::run("openssl", command.args(arguments).current_dir(self.path()), PATIENCE);
    }

    fn issue(&self, name: &str, extensions: &str) {
        let (key, request, certificate) = (
            format!("{name}key.pem"),
            format!("{name}.csr"),
            format!("{name}cert.pem"),
        );
        let file = format!("{name}.ext");
        fs::write(
            self.path().join(&file),
            format!("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n{extensions}"),
        )
        .unwrap();
        let subject = format!("/CN={name}");
        let new = [
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &subject,
        ];
        self.openssl(&[&new[..], &["-keyout", &key, "-out", &request]].concat());
        let sign = [
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "cacert.pem",
            "-CAkey",
            "cakey.pem",
            "-CAcreateserial",
        ];
        self.openssl(&[&sign[..], &["-days", "30", "-extfile", &file, "-out", &certificate]].concat());
    }
}

#[test]
fn over_tls_with_certificates_of_both_sides() {
    let test = "over_tls_with_certificates_of_both_sides";
    if !ready(test) || !need::all(test, &[&[OPENSSL]]) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::unsupervised(&net);
    site.supervise();
    let (issued, others) = (Issued::new(), Issued::new());
    let far = Libvirtd::start_with_tls(&net, "hv2", FAR, issued.path());
    fs::write(far.pool().join("echo.img"), echo()).unwrap();
    let uri = |folder: &Path| format!("qemu+tls://{FAR}/system?pkipath={}", folder.display());
    let check = |uri: &str| site.server.output(&["guest", "check", "--connect", uri]);

    refused(&check(&uri(Path::new("/nowhere"))), &["cacert.pem", "pkipath=FOLDER"]);
    // A server that the client does not believe, and a client whose certificate is another CA's.
    refused(
        &check(&uri(others.path())),
        &["verify peer's certificate", "the CA that the other side knows"],
    );
    let stranger = tempfile::tempdir().unwrap();
    fs::set_permissions(stranger.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::copy(issued.path().join("cacert.pem"), stranger.path().join("cacert.pem")).unwrap();
    for file in ["clientcert.pem", "clientkey.pem"] {
        fs::copy(others.path().join(file), stranger.path().join(file)).unwrap();
    }
    refused(
        &check(&uri(stranger.path())),
        &["failed validation", "issued by the CA"],
    );

    let uri = uri(issued.path());
    let output = imports(&site, "far1", &uri);
    assert!(output.status.success(), "{}", said(&output));
    until("it speaks", || far.serial_log("far1").contains("a guest speaks"));
    site.types("far1", &[], "by TLS and back\r", "by TLS and back");
    site.guest("delete", "far1", &["--disks"]);
    assert_eq!(far.volumes(), ["echo.img"]);
}

/// An ordinary user with a home of his own, his libvirtd, and his supervisor.
struct User {
    home: tempfile::TempDir,
    program: PathBuf,
}

const NOBODY: u32 = 65534;

impl User {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let program = home.path().join("cordwainer");
        fs::copy(env!("CARGO_BIN_EXE_cordwainer"), &program).unwrap();
        for folder in ["", "run", "state", "pool"] {
            let path = home.path().join(folder);
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::write(home.path().join("pool/echo.img"), echo()).unwrap();
        fs::write(home.path().join("cordwainer.toml"), "").unwrap();
        Self { home, program }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A program as he would run it.
    fn runs(&self, program: &str) -> Command {
        let mut command = child::command("setpriv");
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", program]);
        command
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.path("run"));
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME");
        command.current_dir("/");
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.runs(self.program.to_str().unwrap());
        command.arg("--state").arg(self.path("state"));
        command.arg("--config").arg(self.path("cordwainer.toml"));
        command.args(arguments);
        command
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // libvirt's daemons are started by its library, and end by themselves after two minutes only.
        let run = self.path("run/libvirt");
        let pids = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in pids(run.clone()).chain(pids(run.join("qemu/run"))) {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "pid")
                && let Some(id) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok())
            {
                for program in ["libvirtd", "virtlogd", "qemu"] {
                    end_as(id, program);
                }
            }
        }
    }
}

#[test]
fn in_an_ordinary_users_session() {
    if !ready("in_an_ordinary_users_session") {
        return;
    }
    let _place = super::vm::Place::take();
    let user = User::new();
    let uri = "qemu:///session";
    let _supervisor = {
        let mut child = Child::start(
            "guest supervise",
            &mut user.command(&["guest", "supervise", "--connect", uri]),
        );
        child.wait_for_line("connected", PATIENCE);
        child
    };
    let create = |more: &[&str]| {
        let disk = [
            "guest",
            "create",
            "own1",
            "--method",
            "import",
            "--disk",
            "backing=echo.img",
        ];
        let rest = ["--memory", "128", "--accel", "tcg", "--connect", uri];
        user.command(&[&disk[..], &rest[..], more].concat())
    };
    refused(
        &create(&[]).output().unwrap(),
        &[
            "no storage pool `default`",
            "virsh -c qemu:///session pool-create-as default dir",
        ],
    );
    let mut pool = user.runs("virsh");
    pool.args(["-q", "-c", uri, "pool-create-as", "default", "dir", "--target"]);
    child::run("virsh", pool.arg(user.path("pool")), PATIENCE);
    refused(
        &create(&["--network", "bridge=br0"]).output().unwrap(),
        &["ordinary user's own libvirt", "--network user"],
    );
    refused(
        &create(&["--network", "network=default"]).output().unwrap(),
        &["makes no networks", "--network user"],
    );
    let output = create(&[]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let shown = talk(user.command(&["guest", "console", "own1"]), "mine\r", "mine");
    assert!(shown.contains("mine"), "{shown}");
    let output = user.command(&["guest", "delete", "own1", "--disks"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));

    // Of root there is none: libvirt would take it for the system's.
    let net = Net::new(&[ADDRESS_NET]);
    let server = super::server::Server::new(&net, "");
    fs::create_dir(server.state_folder()).unwrap();
    let output = server.output(&["guest", "list", "--connect", uri]);
    assert!(
        said(&output).contains("no supervisor of guests answers"),
        "{}",
        said(&output)
    );
    let output = server.output(&[
        "guest",
        "create",
        "r1",
        "--method",
        "import",
        "--disk",
        "path=/nowhere",
        "--connect",
        uri,
    ]);
    refused(&output, &["of root is qemu:///system"]);
}

#[test]
#[ignore = "long: an installation"]
fn an_installation_behind_another_hosts_address() {
    let test = "an_installation_behind_another_hosts_address";
    if !ready(test) || !need::all(test, &[&[Need::Program("iptables", "iptables"), need::DNSMASQ]]) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::unsupervised(&net);
    site.server.import_lab();
    site.supervise();
    let far = Libvirtd::start_on_host(&net, "hv2", FAR);
    let network = "<network><name>hidden</name><forward mode='nat'/><bridge name='virbr9'/>\
                   <ip address='10.9.0.1' netmask='255.255.255.0'><dhcp><range start='10.9.0.10' end='10.9.0.20'/></dhcp></ip></network>";
    let file = far.pool().join("hidden.xml");
    fs::write(&file, network).unwrap();
    far.virsh(&["net-define", file.to_str().unwrap()]);
    far.virsh(&["net-start", "hidden"]);
    let uri = format!("qemu+tcp://{FAR}/system");
    let create = |name: &str, more: &[&str]| {
        let rest = ["--connect", &uri, "--accel", "tcg", "--memory", "512", "--disk", "512M"];
        let network = ["--network", "network=hidden", "--profile", "lab"];
        site.server
            .output(&[&["guest", "create", name], &rest[..], &network[..], more].concat())
    };
    refused(
        &create("px1", &["--method", "pxe"]),
        &["cannot boot by PXE", "--method kernel"],
    );
    refused(
        &create("cd1", &["--method", "iso", "--iso", "/usr/lib/ipxe/ipxe.iso"]),
        &["ask from 10.77.0.2", "--method kernel"],
    );
    assert_eq!(far.state("cd1"), None);
    let output = create("nat1", &["--wait=4m"]);
    assert!(output.status.success(), "{}", said(&output));
    until("it boots its disk", || {
        far.serial_log("nat1").contains("lab-system: booted from disk nat1")
    });
    assert_eq!(site.server.state("nat1"), "installed");
    far.virsh(&["net-destroy", "hidden"]);
}
