//! The shipped preseed inside the genuine Debian 12 installer: its debconf reads the file, its shell runs the commands, its wget reports.

use super::fixture::{DHCP, FAMILIES, answer, assets, defaults, world};
use cordwainer::render;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

const INITRD: &str = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/initrd.gz";

/// The installer's root, unpacked; none when the package or the right to chroot is missing.
fn unpacked() -> Option<tempfile::TempDir> {
    let missing = |what: &str| {
        assert!(
            std::env::var_os("CORDWAINER_REQUIRE_ALL").is_none(),
            "{what}, and CORDWAINER_REQUIRE_ALL is set"
        );
        eprintln!("SKIPPED: {what}, so the preseed was not tried in the genuine installer");
    };
    if !Path::new(INITRD).is_file() {
        missing("the package debian-installer-12-netboot-amd64 is not installed");
        return None;
    }
    if !nix::unistd::geteuid().is_root() {
        missing("only root can chroot");
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    let script = "set -e; cd \"$1\"; zcat \"$2\" | cpio -idm --quiet --no-absolute-filenames";
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(root.path())
        .arg(INITRD)
        .status();
    assert!(
        root.path().join("bin/preseed_command").is_file(),
        "the initrd was not unpacked: {status:?}"
    );
    Some(root)
}

/// A server on loopback that answers everything with 200 and tells the paths.
fn listen() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/r/token", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => request.extend_from_slice(&buffer[..length]),
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
            let path = request
                .split(' ')
                .nth(1)
                .unwrap_or("")
                .rsplit('/')
                .next()
                .unwrap_or("")
                .to_owned();
            if tell.send(path).is_err() {
                break;
            }
        }
    });
    (url, told)
}

/// Runs `script` in the installer's root, for at most half a minute.
fn inside(root: &Path, script: &str) -> String {
    let output = Command::new("timeout")
        .arg("30")
        .arg("chroot")
        .arg(root)
        .args(["/bin/sh", "-c", script])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {:?} {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn disk(root: &Path, name: &str) -> PathBuf {
    let folder = root.join("sys/block").join(name);
    fs::create_dir_all(&folder).unwrap();
    for (file, text) in [("size", "1000"), ("ro", "0"), ("removable", "0")] {
        fs::write(folder.join(file), text).unwrap();
    }
    folder
}

#[test]
fn the_genuine_installer_obeys_the_preseed() {
    let Some(installer) = unpacked() else { return };
    let root = installer.path();
    let (url, told) = listen();
    let family = *FAMILIES.iter().find(|family| family.title == "debian13-iso").unwrap();
    let mut asked = answer(family, DHCP, "");
    asked.report_url = url;
    let text = render::answer_file(&asked, &world(defaults(), assets())).unwrap();
    fs::write(root.join("tmp/preseed.cfg"), &text).unwrap();
    // The two questions belong to components that the installer only loads later.
    let later = "Template: partman-auto/disk\nType: string\nDescription: x\n\nTemplate: grub-installer/bootdev\nType: string\nDescription: x\n";
    fs::write(root.join("tmp/later.templates"), later).unwrap();
    inside(
        root,
        "export DEBIAN_FRONTEND=none; for t in /var/lib/dpkg/info/*.templates /tmp/later.templates; do \
                  debconf-loadtemplate d-i $t; done 2> /dev/null; debconf-set-selections /tmp/preseed.cfg",
    );
    for key in ["preseed/early_command", "partman/early_command", "preseed/late_command"] {
        let written = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("d-i {key} string ")))
            .unwrap();
        assert_eq!(
            inside(root, &format!("debconf-get {key}")).trim_end(),
            written,
            "{key} was not read as written"
        );
    }
    let run = |key: &str| inside(root, &format!("sh -c \"$(debconf-get {key})\""));

    run("preseed/early_command");
    assert_eq!(heard(&told), "started");
    inside(
        root,
        "/usr/lib/base-installer.d/05cordwainer && /usr/lib/post-base-installer.d/05cordwainer",
    );
    assert_eq!(heard(&told), "packages");
    let unsigned = root.join("target/etc/apt/apt.conf.d/00cordwainer-unsigned");
    assert_eq!(
        fs::read_to_string(&unsigned).unwrap(),
        "Acquire::AllowInsecureRepositories true;\n"
    );

    disk(root, "vda");
    run("partman/early_command");
    assert_eq!(heard(&told), "partitioning?detail=vda");
    assert_eq!(
        inside(
            root,
            "debconf-get partman-auto/disk; debconf-get grub-installer/bootdev"
        ),
        "/dev/vda\n/dev/vda\n"
    );

    run("preseed/late_command");
    assert_eq!([heard(&told), heard(&told)], ["finishing", "done"]);
    assert!(
        !unsigned.exists(),
        "the exception for unsigned trees outlives the installation"
    );
    let keys = fs::read_to_string(root.join("target/root/.ssh/authorized_keys")).unwrap();
    assert_eq!(keys.trim_end(), super::fixture::KEY);

    // With a second disk it reports and waits, until it is stopped here.
    disk(root, "vdb");
    let mut waiting = Command::new("timeout")
        .args(["30", "chroot"])
        .arg(root)
        .args(["/bin/sh", "-c", "sh -c \"$(debconf-get partman/early_command)\""])
        .spawn()
        .unwrap();
    let report = heard(&told);
    assert!(waiting.try_wait().unwrap().is_none(), "it did not wait");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(waiting.id().try_into().unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    waiting.wait().unwrap();
    assert!(
        report.starts_with("failed?detail=this%20machine%20has%202%20disks:%20vda%20vdb"),
        "{report}"
    );
}

/// The next report; on a busy machine the installer's shell takes its time, but not for ever.
fn heard(told: &mpsc::Receiver<String>) -> String {
    told.recv_timeout(Duration::from_secs(60)).unwrap()
}
