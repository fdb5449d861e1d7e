//! The life of guests after they were made, on a real libvirtd and QEMU: nothing is installed here, the disk is a boot sector that answers on
//! its serial console. Each command is typed as an admin types it, and libvirt says what became of it.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::child::Child;
use super::guests::{Site, ready, until};
use super::libvirtd::Libvirtd;
use super::netns::Net;
use super::server::ADDRESS_NET;
use super::vm::PATIENCE;

/// Says a line on the first serial port, and sends back whatever comes from there.
pub(super) fn echo() -> Vec<u8> {
    let mut code = vec![
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x33, 0x7c, // mov si, text
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x05, // jz echo
        0xe8, 0x13, 0x00, // call put
        0xeb, 0xf6, // jmp next
        0xba, 0xfd, 0x03, // echo: mov dx, line status
        0xec, // in al, dx
        0xa8, 0x01, // test al, data ready
        0x74, 0xf8, // jz echo
        0xba, 0xf8, 0x03, // mov dx, data
        0xec, // in al, dx
        0xe8, 0x02, 0x00, // call put
        0xeb, 0xef, // jmp echo
        0x88, 0xc4, // put: mov ah, al
        0xba, 0xfd, 0x03, // mov dx, line status
        0xec, // wait: in al, dx
        0xa8, 0x20, // test al, transmitter empty
        0x74, 0xfb, // jz wait
        0xba, 0xf8, 0x03, // mov dx, data
        0x88, 0xe0, // mov al, ah
        0xee, // out dx, al
        0xc3, // ret
    ];
    assert_eq!(code.len(), 0x33);
    code.extend(b"echo: a guest speaks\r\n\0");
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code.resize(1 << 20, 0);
    code
}

pub(super) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

impl Site<'_> {
    /// Makes a guest on a thin copy of the boot sector's disk.
    pub(super) fn copies(&self, name: &str, more: &[&str]) -> Output {
        let disk = ["--method", "import", "--disk", "backing=echo.img"];
        self.create_output(name, &[&disk, more].concat())
    }

    pub(super) fn copied(&self, name: &str, more: &[&str]) -> String {
        let output = self.copies(name, more);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// `guest COMMAND NAME ...`, which must work; all that it printed.
    pub(super) fn guest(&self, command: &str, name: &str, more: &[&str]) -> String {
        let output = self.server.output(&[&["guest", command, name], more].concat());
        assert!(output.status.success(), "guest {command} {name}: {}", said(&output));
        said(&output)
    }

    /// The row of a guest in `guest list`.
    pub(super) fn row(&self, name: &str) -> serde_json::Value {
        let list = self.server.json(&["guest", "list"]);
        let rows = list["guests"].as_array().unwrap();
        rows.iter()
            .find(|row| row["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {list:#}"))
            .clone()
    }

    pub(super) fn lives(&self, name: &str) -> String {
        self.row(name)["life"].as_str().unwrap().to_owned()
    }

    /// Types on a guest's console until it has said `wanted`, then leaves it with Ctrl-].
    pub(super) fn types(&self, name: &str, more: &[&str], text: &str, wanted: &str) {
        let arguments = [&["guest", "console", name], more].concat();
        talk(self.server.command(&arguments), text, wanted);
    }
}

/// Types on the console that `command` opens until it has said `wanted`, then leaves it with Ctrl-]; all that was shown.
pub(super) fn talk(mut command: Command, text: &str, wanted: &str) -> String {
    {
        let mut console = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut keys, mut screen) = (console.stdin.take().unwrap(), console.stdout.take().unwrap());
        let (shows, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 256];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                let _gone = shows.send(bytes[..read].to_vec());
            }
        });
        let (deadline, mut seen) = (Instant::now() + PATIENCE, String::new());
        while !seen.contains(wanted) {
            assert!(Instant::now() < deadline, "nobody answers {wanted}: {seen:?}");
            // QEMU looks once a second whether anybody is at the other end of its terminal; what the guest says until then is lost.
            if keys.write_all(text.as_bytes()).is_err() {
                panic!("the console ended: {}", said(&console.wait_with_output().unwrap()));
            }
            let next = shown.recv_timeout(Duration::from_secs(2));
            seen.extend(next.iter().map(|bytes| String::from_utf8_lossy(bytes)));
            seen.extend(
                shown
                    .try_iter()
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            );
        }
        keys.write_all(&[0x1d]).unwrap();
        assert!(console.wait().unwrap().success(), "{seen}");
        seen
    }
}

#[test]
fn a_guest_lives_through_every_state() {
    if !ready("a_guest_lives_through_every_state") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::unsupervised(&net);
    std::fs::write(site.libvirtd.pool().join("echo.img"), echo()).unwrap();
    let uri = site.libvirtd.uri();

    // Without a supervisor, the command is one as long as it takes, and says so.
    let all = site.copied("life1", &["--start-paused"]);
    assert!(all.contains("this command is one"), "{all}");
    assert!(all.contains("its processors are stopped"), "{all}");
    assert!(
        !site.server.state_folder().join("guests.sock").exists(),
        "it took its socket away"
    );
    assert_eq!(site.libvirtd.state("life1").as_deref(), Some("paused"));
    site.supervise();
    assert_eq!(site.lives("life1"), "paused");
    site.guest("resume", "life1", &[]);
    until("it speaks", || {
        site.libvirtd.serial_log("life1").contains("a guest speaks")
    });

    // Its console, to and fro; and what is said there is followed by another.
    site.types("life1", &[], "to and fro\r", "to and fro");
    let mut follow = Child::start(
        "guest log -f",
        &mut site.server.command(&["guest", "log", "life1", "-f"]),
    );
    site.guest("suspend", "life1", &[]);
    assert_eq!(site.lives("life1"), "paused");
    site.guest("resume", "life1", &[]);
    assert_eq!(site.lives("life1"), "running");
    site.libvirtd.virsh(&["reset", "life1"]);
    follow.wait_for_line("echo: a guest speaks", PATIENCE);
    // Our own reader gives way to a person.
    site.types("life1", &[], "once more\r", "once more");
    drop(follow);

    // Its memory on the disk and back.
    site.guest("save", "life1", &[]);
    assert_eq!(site.lives("life1"), "saved");
    assert!(site.libvirtd.lib("qemu/save/life1.save").exists());
    site.guest("restore", "life1", &[]);
    assert_eq!(site.lives("life1"), "running");
    assert!(!site.libvirtd.lib("qemu/save/life1.save").exists());
    site.types("life1", &[], "still there\r", "still there");
    let refused = site.server.output(&["guest", "restore", "life1"]);
    assert!(
        !refused.status.success() && said(&refused).contains("was not saved"),
        "{}",
        said(&refused)
    );

    site.guest("autostart", "life1", &[]);
    assert!(site.libvirtd.autostarts("life1"));
    site.guest("autostart", "life1", &["--disable"]);
    assert!(!site.libvirtd.autostarts("life1"));
    site.guest("reboot", "life1", &[]);
    site.guest("destroy", "life1", &[]);
    assert_eq!(site.lives("life1"), "defined");
    site.guest("start", "life1", &[]);
    assert_eq!(site.lives("life1"), "running");
    // Nothing was ever installed: it is as finished as it was.
    assert!(
        site.guest("wait", "life1", &["--timeout", "10s"])
            .contains("installed life1")
    );
    let refused = site.server.output(&["guest", "reinstall", "life1"]);
    assert!(said(&refused).contains("was never installed"), "{}", said(&refused));

    // Taken away with a snapshot, its saved memory and its own disk, and not the one that it stands on.
    site.libvirtd.virsh(&["snapshot-create-as", "life1", "before"]);
    site.guest("save", "life1", &[]);
    let all = site.guest("delete", "life1", &["--disks"]);
    assert!(all.contains("life1.qcow2"), "{all}");
    assert_eq!(site.libvirtd.state("life1"), None);
    assert!(!site.libvirtd.lib("qemu/save/life1.save").exists());
    assert_eq!(site.libvirtd.volumes(), ["echo.img"]);

    // What libvirt does not take is taken back.
    let output = site.copies("vlan1", &["--network", "bridge=br0,vlan=7"]);
    assert!(
        !output.status.success() && said(&output).contains("vlan"),
        "{}",
        said(&output)
    );
    assert_eq!(site.libvirtd.state("vlan1"), None);
    assert_eq!(site.libvirtd.volumes(), ["echo.img"]);

    of_an_image(&site);
    clones_and_adopts(&site, &uri);
}

/// A guest of a `virt-clone` image: its disk stands on the image's, which stays as it is.
fn of_an_image(site: &Site<'_>) {
    let golden = site.libvirtd.pool().join("echo.img");
    let before = std::fs::read(&golden).unwrap();
    let file = golden.to_str().unwrap();
    let image = [
        "image",
        "add",
        "--name",
        "golden",
        "--image-type",
        "virt-clone",
        "--file",
        file,
    ];
    assert!(site.server.output(&image).status.success());
    let made = site.create_output("image1", &["--image", "golden"]);
    assert!(made.status.success(), "{}", said(&made));
    until("it speaks", || {
        site.libvirtd.serial_log("image1").contains("a guest speaks")
    });
    let all = site.guest("delete", "image1", &["--disks"]);
    assert!(!all.contains("echo.img"), "{all}");
    assert_eq!(site.libvirtd.volumes(), ["echo.img"]);
    assert!(
        std::fs::read(&golden).unwrap() == before,
        "who boots of it writes to it"
    );
}

#[test]
fn a_guest_moves_to_another_host() {
    if !ready("a_guest_moves_to_another_host") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::unsupervised(&net);
    let far = Libvirtd::start_on_host(&net, "hv2", "10.77.0.2");
    std::fs::write(site.libvirtd.pool().join("echo.img"), echo()).unwrap();
    site.supervise();
    // A disk that is written, and nobody says that both see it.
    site.copied("stays1", &[]);
    let refused = site
        .server
        .output(&["guest", "migrate", "stays1", "--to", "qemu+tcp://10.77.0.2/system"]);
    for part in [
        "runs on where it was",
        "storage that both hosts mount",
        "--copy-storage",
    ] {
        assert!(
            !refused.status.success() && said(&refused).contains(part),
            "{}",
            said(&refused)
        );
    }
    assert_eq!(site.lives("stays1"), "running");
    site.guest("delete", "stays1", &["--disks"]);
    // Both see the folder of the disk; libvirt believes that of network file systems only, or of a disk that nobody writes.
    site.copied("move1", &["--autostart", "--xml-set", "./devices/disk[1]/readonly=yes"]);
    until("it speaks", || {
        site.libvirtd.serial_log("move1").contains("a guest speaks")
    });
    let there = "qemu+tcp://10.77.0.2/system";
    site.guest("migrate", "move1", &["--to", there]);
    assert_eq!(site.libvirtd.state("move1"), None);
    assert_eq!(far.state("move1").as_deref(), Some("running"));
    assert!(far.autostarts("move1"));
    site.types("move1", &[], "went along\r", "went along");
    assert_eq!(site.row("move1")["connect"], there);
    let show = site.server.json(&["guest", "show", "move1"]);
    assert_eq!(show["spec"]["connect"], there, "it would be installed anew where it is");
    site.guest("delete", "move1", &[]);
    assert_eq!(far.state("move1"), None);
}

#[test]
#[ignore = "long: a disk is copied while its guest runs"]
fn a_guest_takes_its_disk_along() {
    if !ready("a_guest_takes_its_disk_along") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::unsupervised(&net);
    // Another machine: what lies in the near one's pool is not there.
    let far = Libvirtd::start_with_twin(&net, "hv2", "10.77.0.2", &site.libvirtd);
    std::fs::write(site.libvirtd.pool().join("echo.img"), echo()).unwrap();
    site.supervise();
    site.create_output("move1", &["--method", "import", "--disk", "volume=echo.img"]);
    until("it speaks", || {
        site.libvirtd.serial_log("move1").contains("a guest speaks")
    });
    let there = "qemu+tcp://10.77.0.2/system";
    site.guest("migrate", "move1", &["--to", there, "--copy-storage"]);
    assert_eq!(site.libvirtd.state("move1"), None);
    assert_eq!(far.state("move1").as_deref(), Some("running"));
    site.types("move1", &[], "went along\r", "went along");
    let copied = std::fs::read(far.twin().join("echo.img")).unwrap();
    assert_eq!(copied, echo(), "its disk is there too");
    // It boots from the copy.
    site.guest("destroy", "move1", &[]);
    site.guest("start", "move1", &[]);
    site.types("move1", &[], "once more\r", "once more");
    site.guest("delete", "move1", &[]);
}

/// A clone of a golden volume with UEFI, and a domain that somebody else made.
fn clones_and_adopts(site: &Site<'_>, uri: &str) {
    let more = [
        "--from",
        "echo.img",
        "--firmware",
        "uefi",
        "--accel",
        "tcg",
        "--memory",
        "128",
    ];
    let more = [&more[..], &["--network", "bridge=br0", "--connect", uri]].concat();
    site.guest("clone", "copy1", &more);
    assert_eq!(site.lives("copy1"), "running");
    let variables = || {
        let folder = std::fs::read_dir(site.libvirtd.lib("qemu/nvram")).unwrap();
        folder
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with("copy1")
            })
            .count()
    };
    assert_eq!(variables(), 1);
    let show = site.guest("show", "copy1", &[]);
    assert!(show.contains("stands on") && show.contains("echo.img"), "{show}");

    // Without our metadata it is anybody's.
    site.libvirtd
        .virsh(&["metadata", "copy1", "urn:cordwainer:guest:1", "--config", "--remove"]);
    site.libvirtd.virsh(&["destroy", "copy1"]);
    assert!(site.row("copy1")["installation"].is_null(), "{:#}", site.row("copy1"));
    let refused = site.server.output(&["guest", "delete", "copy1", "--disks"]);
    assert!(said(&refused).contains("was not made here"), "{}", said(&refused));
    let before = site.libvirtd.inactive_xml("copy1");
    site.guest("adopt", "copy1", &[]);
    assert_eq!(site.row("copy1")["installation"]["phase"], "installed");
    let after = site.libvirtd.inactive_xml("copy1");
    let devices = |xml: &str| xml.split("<devices>").nth(1).unwrap().to_owned();
    assert_eq!(devices(&before), devices(&after), "it stays as it was");
    // Its disk was there before we knew it.
    site.guest("delete", "copy1", &["--disks"]);
    assert_eq!(site.libvirtd.state("copy1"), None);
    assert_eq!(variables(), 0, "its UEFI variables are gone with it");
    assert_eq!(site.libvirtd.volumes(), ["copy1.qcow2", "echo.img"]);
}
