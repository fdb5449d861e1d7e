//! koan 3.0.1 as it is on PyPI, unmodified, in namespaces of its own: as root on a machine on record, and on another.

use super::{KEY, furnish};
use crate::cli::Session;
use crate::lab::child::{self, Child};
use crate::lab::netns::{Host, Net};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where `tests/run` puts koan; none where it is not, which is said, and a failure with CORDWAINER_REQUIRE_ALL=1.
pub(super) fn koan() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("target/koan/bin/koan");
    let found = std::env::var_os("CORDWAINER_KOAN").map(PathBuf::from).unwrap_or(own);
    if found.exists() {
        return Some(found);
    }
    assert!(
        std::env::var("CORDWAINER_REQUIRE_ALL").as_deref() != Ok("1"),
        "koan 3.0.1 is missing: ./tests/run --setup"
    );
    eprintln!("SKIPPED: koan 3.0.1 is missing: ./tests/run --setup");
    None
}

/// The server, `web1` which is on record, and a host that is not.
struct Lan {
    session: Session,
    _daemon: Child,
    web1: Host,
    stranger: Host,
    port: u16,
    koan: PathBuf,
    _net: Net,
}

/// How a run of koan ended.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn shows(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.out.contains(word), "no {word:?} in\n{}\n{}", self.out, self.err);
        }
        self
    }
}

impl Lan {
    fn new(koan: PathBuf, port: u16, cobbler: &str) -> Self {
        let net = Net::new(&["10.79.0.1/24"]);
        let (web1, stranger) = (
            net.host("web1", Some("10.79.0.11/24")),
            net.host("other", Some("10.79.0.12/24")),
        );
        web1.ip(&["link", "set", "eth0", "address", "52:54:00:00:00:01"]);
        let session = Session::new();
        let overrides = session.path("etc").display().to_string();
        for mode in ["pre", "post", "firstboot", "failed"] {
            // Each says how it was called; `$(...)` in an argument would show a shell.
            let said = session.path("hooks.said").display().to_string();
            let text = format!("#!/bin/sh\necho {mode} \"$@\" $CORDWAINER_EVENT $CORDWAINER_MAC >> {said}\n");
            let hook = session.write(&format!("etc/hooks/{mode}/10-say"), &text);
            std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        session.write(
            "session.toml",
            &format!(
                "overrides = \"{overrides}\"\n[server]\ninterfaces = [\"br0\"]\n[dhcp]\nmode = \"off\"\n[http]\nport = {port}\n[tftp]\nport = 0\n\
                 [cobbler]\n{cobbler}\n[defaults]\nssh_authorized_keys = [\"{KEY}\"]\n"
            ),
        );
        furnish(&session);
        session
            .run(&["profile", "edit", "debian12", "--anonymous-autoinstall=1"])
            .succeeded();
        session
            .run(&[
                "system",
                "add",
                "web1",
                "--profile",
                "rocky9",
                "--mac-address",
                "52:54:00:00:00:01",
                "--ip-address",
                "10.79.0.11",
                "--hostname",
                "web1.example.org",
                "--kernel-options",
                "console=ttyS0",
            ])
            .succeeded();
        for (name, kind, file) in [
            ("rescue", "iso", "/srv/rescue.iso"),
            ("golden", "virt-clone", "/srv/golden.qcow2"),
        ] {
            session
                .run(&[
                    "image",
                    "add",
                    name,
                    "--image-type",
                    kind,
                    "--file",
                    file,
                    "--virt-ram=512",
                    "--virt-bridge=br7",
                    "--network-count=2",
                ])
                .succeeded();
        }
        let plain = session.command(&["serve"]);
        let mut serve = net.command(plain.get_program().to_str().unwrap());
        serve.args(plain.get_args()).current_dir("/");
        let mut daemon = Child::start("cordwainer", &mut serve);
        daemon.wait_for_line("serving: ", PATIENCE);
        Self {
            session,
            _daemon: daemon,
            web1,
            stranger,
            port,
            koan,
            _net: net,
        }
    }

    /// The words that say where the server is.
    fn server(&self) -> Vec<String> {
        let mut words = vec!["--server=10.79.0.1".to_owned()];
        if self.port != 80 {
            words.push(format!("--port={}", self.port));
        }
        words
    }

    /// koan on a host, with stand-ins for the tools that it calls in front of the host's own.
    fn run(&self, host: &Host, arguments: &[&str]) -> Ran {
        let shims = self.session.path("shims");
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", shims.display());
        let mut command = host.command(self.koan.to_str().unwrap());
        command.args(self.server()).args(arguments);
        self.ran(command.env("PATH", path))
    }

    fn ran(&self, command: &mut Command) -> Ran {
        let output = command
            .env("LIBVIRT_DEFAULT_URI", "test:///default")
            .env("SHIMS", self.session.path("shims"))
            .output()
            .unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn shim(&self, name: &str, script: &str) {
        let path = self
            .session
            .write(&format!("shims/{name}"), &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the stand-in for virt-install was called with.
    fn virt_install(&self) -> String {
        std::fs::read_to_string(self.session.path("shims/virt-install.args")).unwrap_or_default()
    }

    /// GETs a path as a host, and gives status and body.
    fn get(&self, host: &Host, path: &str) -> String {
        let mut curl = host.command("curl");
        curl.args([
            "-s",
            "-w",
            " [%{http_code}]",
            &format!("http://10.79.0.1:{}{path}", self.port),
        ]);
        child::run("curl", &mut curl, PATIENCE)
    }
}

/// Guests of images: an ISO as a CD-ROM, and a disk that is there.
fn images(lan: &Lan, base: &str) {
    let ran = lan.run(&lan.stranger, &["--display", "--image=rescue"]);
    ran.shows(&["rescue", "virt_ram"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    let disk = lan.session.path("disk0").display().to_string();
    for (image, word) in [
        ("rescue", "--cdrom /srv/rescue.iso "),
        ("golden", "--import --arch x86_64 --disk path=/srv/golden.qcow2 "),
    ] {
        let arguments = [
            "--virt",
            &format!("--image={image}"),
            "--virt-name=g0",
            "--force-path",
            &format!("--virt-path={disk}"),
        ];
        let ran = lan.run(&lan.stranger, &arguments);
        assert_eq!(ran.code, 0, "{image}\n{}\n{}", ran.out, ran.err);
        let made = lan.virt_install();
        for word in [word, "--name g0", "--ram 512", "--network bridge=br7"] {
            assert!(made.contains(word), "no {word:?} in {made}");
        }
        assert!(!made.contains("bridge=None"), "{made}");
    }
    assert_eq!(
        lan.get(&lan.stranger, "/cblr/svc/op/list/what/images"),
        "golden\nrescue\n [200]",
        "{base}"
    );
}

fn all_points(port: u16) {
    let Some(koan) = koan() else { return };
    let lan = Lan::new(koan, port, "register = \"on\"");
    let base = if port == 80 {
        "http://10.79.0.1".to_owned()
    } else {
        format!("http://10.79.0.1:{port}")
    };
    // 1. Names, and nothing else.
    for (what, names) in [
        ("profiles", &["debian12", "rocky9"][..]),
        ("systems", &["web1"]),
        ("distros", &["debian12", "rocky9"]),
        ("images", &["golden", "rescue"]),
        ("repos", &[]),
    ] {
        let ran = lan.run(&lan.stranger, &[&format!("--list={what}")]);
        let listed: Vec<&str> = ran.out.lines().filter(|line| !line.starts_with("- ")).collect();
        assert_eq!((ran.code, listed.as_slice()), (0, names), "{what}\n{}", ran.err);
    }
    // 2. A profile that anyone may have, and a system that is not armed.
    let ran = lan.run(&lan.stranger, &["--display", "--profile=debian12"]);
    let answer = format!("{base}/cblr/svc/op/autoinstall/profile/debian12/preseed.cfg");
    ran.shows(&[
        &answer,
        "install_tree",
        "kernel_options",
        "/cobbler/images/debian12/linux",
    ]);
    assert_eq!(ran.code, 0);
    let ran = lan.run(&lan.stranger, &["--display", "--system=web1"]);
    ran.shows(&[
        "web1",
        "console=ttyS0",
        &format!("{base}/d/rocky9"),
        "netboot_enabled  : False",
    ]);
    assert!(!ran.out.contains("autoinst"), "{}", ran.out);
    // 3. What there is not.
    for target in ["--profile=nope", "--system=nope", "--image=nope"] {
        let ran = lan.run(&lan.stranger, &["--display", target]);
        ran.shows(&["No entry/entries found"]);
        assert_eq!(ran.code, 1);
        assert!(!ran.err.contains("Fault"), "{}", ran.err);
    }
    // 4. Guests. virt-install stands in; what koan asks of it is what counts.
    lan.shim(
        "virt-install",
        "case \"$*\" in\n*--version*) echo 4.1.0 ;;\n*'--os-variant list'*) echo 'rhel9.0, rhel9'; exit 1 ;;\n\
         *) echo \"$@\" > $SHIMS/virt-install.args ;;\nesac",
    );
    let disk = lan.session.path("disk").display().to_string();
    images(&lan, &base);
    let ran = lan.run(
        &lan.stranger,
        &[
            "--virt",
            "--profile=debian12",
            "--virt-name=g1",
            "--force-path",
            &format!("--virt-path={disk}"),
            "--virt-type=kvm",
        ],
    );
    let made = lan.virt_install();
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    let location = format!("--location {base}/cobbler/debian/debian12/dists/bookworm/main/installer-amd64/");
    for word in [
        "--name g1",
        &location,
        &format!("url={answer}"),
        "--ram 2048",
        "--network bridge=virbr0",
    ] {
        assert!(made.contains(word), "no {word:?} in {made}");
    }
    // What virt-install then asks for, with its two slashes.
    let tree = "/cobbler/debian/debian12/dists/bookworm/main/installer-amd64//current/images";
    assert!(lan.get(&lan.stranger, &format!("{tree}/MANIFEST")).contains("debian"));
    assert!(
        lan.get(&lan.stranger, &format!("{tree}/netboot/debian-installer/amd64/linux"))
            .starts_with("KKKK")
    );
    assert!(
        lan.get(
            &lan.stranger,
            &format!("{tree}/netboot/debian-installer/amd64/initrd.gz")
        )
        .starts_with("IIII")
    );
    assert!(
        lan.get(
            &lan.stranger,
            "/cobbler/debian/debian12/dists/bookworm/main/installer-amd64//.treeinfo"
        )
        .ends_with("[404]")
    );
    // A profile that does not give its answer file to anyone.
    assert!(
        lan.get(&lan.stranger, "/cblr/svc/op/ks/profile/rocky9")
            .ends_with("[404]")
    );
    assert!(
        lan.get(&lan.stranger, "/cblr/svc/op/ks/profile/debian12")
            .ends_with("[200]")
    );
    let check = lan.session.run(&["check"]);
    assert!(
        check.out.contains("anonymous-autoinstall") || check.err.contains("anonymous-autoinstall"),
        "{}{}",
        check.out,
        check.err
    );
    armed(&lan, &base);
    // 8. A machine that adds itself.
    let register = lan.koan.with_file_name("cobbler-register");
    let mut command = lan.stranger.command(register.to_str().unwrap());
    command.args([
        "-s",
        "10.79.0.1",
        "-p",
        &port.to_string(),
        "-P",
        "rocky9",
        "-f",
        "new1.example.org",
    ]);
    let ran = lan.ran(&mut command);
    ran.shows(&["registration successful"]);
    let report = lan.session.run(&["system", "report", "new1.example.org"]).succeeded();
    assert!(
        report.out.contains("10.79.0.12") && report.out.contains("netboot_enabled   : false")
            || report.out.contains(": false"),
        "{}",
        report.out
    );
    // 9. A TLS greeting on the plain port is answered at once, for koan waits for ever.
    let mut greeting = lan.stranger.command("python3");
    greeting.args([
        "-c",
        &format!(
            "import socket,time; s=socket.create_connection(('10.79.0.1',{port})); t=time.time(); s.sendall(b'\\x16\\x03\\x01\\x02\\x00\\x01'+b'x'*508); \
             a=s.recv(99); assert b' 400 ' in a, a; s.settimeout(5)\nwhile s.recv(999): pass\nassert time.time()-t < 2.5, time.time()-t"
        ),
    ]);
    child::run("a TLS greeting", &mut greeting, PATIENCE);
}

/// The machine is armed: it alone, from its own address, is told how to install itself.
fn armed(lan: &Lan, base: &str) {
    lan.session.run(&["system", "arm", "web1"]).succeeded();
    let hidden = lan.run(&lan.stranger, &["--display", "--system=web1"]);
    assert!(!hidden.out.contains("token"), "a stranger sees it: {}", hidden.out);
    assert!(lan.get(&lan.stranger, "/cblr/svc/op/ks/system/web1").ends_with("[404]"));
    let own = lan.run(&lan.web1, &["--display", "--system=web1"]);
    own.shows(&[
        "netboot_enabled  : True",
        &format!("autoinst  : {base}/cblr/svc/op/autoinstall/system/web1/token/"),
    ]);
    let url = own.out.lines().find(|line| line.contains("autoinst  :")).unwrap();
    let path = url
        .split_once("autoinst  : ")
        .unwrap()
        .1
        .trim()
        .strip_prefix(base)
        .unwrap()
        .to_owned();
    // 7. Found by its MAC, with no name given.
    let found = lan.run(&lan.web1, &["--display"]);
    found.shows(&["web1", &path]);
    // Looking starts nothing.
    assert!(lan.session.run(&["status"]).succeeded().out.contains("armed"));
    // 5. The machine installs itself anew from its own boot loader.
    for tool in ["update-grub", "kexec"] {
        lan.shim(tool, &format!("echo {tool} \"$@\" >> $SHIMS/called"));
    }
    lan.shim("grub-mkrelpath", "echo $1");
    let script = "mount -t tmpfs t /boot && mount -t tmpfs t /etc/grub.d && cp /etc/default/grub $SHIMS/default 2>/dev/null || \
                  echo GRUB_DEFAULT=0 > $SHIMS/default; \
                  [ -e /etc/default/grub ] && mount --bind $SHIMS/default /etc/default/grub; \"$@\"; code=$?; \
                  cat /etc/grub.d/42_koan $SHIMS/called 2>/dev/null; ls /boot; head -c 4 /boot/vmlinuz_koan; exit $code";
    let inside = |more: &[&str]| {
        let mut command = lan.web1.command("unshare");
        command.args(["-m", "sh", "-c", script, "sh", lan.koan.to_str().unwrap()]);
        command.args(lan.server()).args(more);
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", lan.session.path("shims").display());
        lan.ran(command.env("PATH", path))
    };
    let ran = inside(&["--replace-self", "--system=web1"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    ran.shows(&[
        &format!("url={base}/cobbler/images/rocky9/vmlinuz"),
        "menuentry \"web1\"",
        &format!("inst.ks={base}{path}"),
        &format!("inst.repo={base}/d/rocky9"),
        "console=ttyS0",
        "update-grub",
        "kkkk",
    ]);
    // 6. The same at once.
    let ran = inside(&["--replace-self", "--kexec", "--system=web1"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    ran.shows(&["kexec --load", "inst.ks="]);
    // The installer that was started so fetches its answer file: that claims the arming. A stranger with the same URL gets nothing.
    assert!(lan.get(&lan.stranger, &path).ends_with("[404]"));
    let answer = lan.get(&lan.web1, &path);
    assert!(answer.ends_with("[200]") && answer.contains("ssh-ed25519"), "{answer}");
    assert!(lan.session.run(&["status"]).succeeded().out.contains("installing"));
    // Who moved in from Cobbler reads its table.
    let table = || lan.session.run(&["status", "--cobbler"]).succeeded().out;
    let begun = table();
    assert!(
        begun.starts_with("ip             |target              |start            |state            \n10.79.0.11     |system:web1         |")
            && begun.contains("|installing (0m "),
        "{begun}"
    );
    // Its own address opens it without the token too, while it lasts; what changes something is taken from there only.
    assert!(lan.get(&lan.web1, "/cblr/svc/op/ks/system/web1").ends_with("[200]"));
    assert!(lan.get(&lan.web1, "/cblr/svc/op/findks").ends_with("[200]"));
    assert_eq!(lan.get(&lan.stranger, "/cblr/svc/op/nopxe/system/web1"), "False [200]");
    assert_eq!(
        lan.get(&lan.stranger, "/cblr/svc/op/trig/mode/post/system/web1"),
        "False [200]"
    );
    assert_eq!(
        lan.get(&lan.web1, "/cblr/svc/op/trig/mode/pre/system/web1"),
        "True [200]"
    );
    assert_eq!(lan.get(&lan.web1, "/cblr/svc/op/nopxe/system/web1"), "True [200]");
    assert!(
        lan.session
            .run(&["status", "--all"])
            .succeeded()
            .out
            .contains("installed")
    );
    assert!(table().trim_end().ends_with("|finished"), "{}", table());
    let rows = lan.session.run(&["status", "--cobbler", "--json"]).succeeded().json();
    assert_eq!(
        (&rows[0]["target"], &rows[0]["state"]),
        (&"system:web1".into(), &"finished".into())
    );
    assert!(lan.get(&lan.web1, &path).ends_with("[404]"));
    // Its hooks ran, once each, in this order.
    let wanted =
        "pre system web1 10.79.0.11 pre 52:54:00:00:00:01\npost system web1 10.79.0.11 post 52:54:00:00:00:01\n";
    let deadline = Instant::now() + PATIENCE;
    let mut said = String::new();
    while said != wanted {
        assert!(Instant::now() < deadline, "the hooks said {said:?}");
        std::thread::sleep(Duration::from_millis(50));
        said = std::fs::read_to_string(lan.session.path("hooks.said")).unwrap_or_default();
    }
    assert_eq!(lan.get(&lan.web1, "/cblr/svc/op/list/what/systems"), "web1\n [200]");
    assert!(
        lan.get(&lan.web1, "/cblr/svc/op/gpxe/system/web1")
            .starts_with("#!ipxe")
    );
    assert!(
        lan.get(&lan.web1, "/cblr/links/rocky9/images/pxeboot/vmlinuz")
            .starts_with("kkkk")
    );
}

#[test]
fn every_point_of_koans_holds_on_port_80() {
    all_points(80);
}

#[test]
fn every_point_of_koans_holds_on_another_port() {
    all_points(8085);
}

/// koan's first question to a port that it was given is TLS, on loopback as anywhere.
#[test]
fn a_tls_greeting_is_answered_at_once() {
    let server = super::Server::new("");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
    let began = Instant::now();
    stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).unwrap();
    assert!(
        answer[..read].starts_with(b"HTTP/1.1 400"),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
