//! Powering guests off, and talking to one from its first moment: a disk that listens to ACPI, one that does not, and QEMU's own agent in a
//! kernel that has nothing else.

use std::fs;
use std::path::Path;

use super::cpio::Archive;
use super::distro;
use super::guest_life::{echo, said, talk};
use super::guests::{Site, ready, until};
use super::need::{self, Need};
use super::netns::Net;
use super::server::ADDRESS_NET;

const AGENT: Need = Need::File("/usr/sbin/qemu-ga", "qemu-guest-agent");

/// A boot sector that says a line, waits for the power button (ACPI's PM1 event register, where SeaBIOS puts it on a q35), and powers off.
fn listens() -> Vec<u8> {
    let mut code = vec![
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x3c, 0x7c, // mov si, text
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x05, // jz enable
        0xe8, 0x1c, 0x00, // call put
        0xeb, 0xf6, // jmp next
        0xba, 0x02, 0x06, // enable: mov dx, PM1 enable
        0xb8, 0x00, 0x01, // mov ax, the power button
        0xef, // out dx, ax
        0xba, 0x00, 0x06, // wait: mov dx, PM1 status
        0xed, // in ax, dx
        0xf6, 0xc4, 0x01, // test ah, the power button
        0x74, 0xf7, // jz wait
        0xba, 0x04, 0x06, // mov dx, PM1 control
        0xb8, 0x01, 0x20, // mov ax, sleep, soft off
        0xef, // out dx, ax
        0xf4, // halt: hlt
        0xeb, 0xfd, // jmp halt
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
    assert_eq!(code.len(), 0x3c);
    code.extend(b"a guest listens\r\n\0");
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code.resize(1 << 20, 0);
    code
}

#[test]
fn a_guest_is_asked_to_power_off() {
    if !ready("a_guest_is_asked_to_power_off") {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::unsupervised(&net);
    fs::write(site.libvirtd.pool().join("echo.img"), echo()).unwrap();
    fs::write(site.libvirtd.pool().join("listens.img"), listens()).unwrap();
    site.supervise();

    // From its first moment on its console, which is left without ending it.
    let console = ["--method", "import", "--disk", "backing=echo.img", "--console"];
    let seen = talk(site.create_command("deaf1", &console), "here I am\r", "here I am");
    assert!(seen.contains("created   guest deaf1"), "{seen}");
    assert_eq!(site.lives("deaf1"), "running");

    let obeys = ["--method", "import", "--disk", "backing=listens.img"];
    let output = site.create_output("obeys1", &obeys);
    assert!(output.status.success(), "{}", said(&output));
    let listens = |times: usize| {
        until("it listens", || {
            site.libvirtd.serial_log("obeys1").matches("a guest listens").count() == times
        });
    };
    listens(1);
    let all = site.guest("shutdown", "obeys1", &[]);
    assert!(all.contains("by ACPI, for no agent answers in it"), "{all}");
    assert!(all.contains("guest obeys1: is off"), "{all}");
    assert_eq!(site.libvirtd.state("obeys1").as_deref(), Some("shut off"));
    assert!(site.guest("shutdown", "obeys1", &[]).contains("off already"));
    site.guest("start", "obeys1", &[]);
    listens(2);
    let all = site.guest("shutdown", "obeys1", &["--timeout", "0s"]);
    assert!(all.contains("asked to power off"), "{all}");
    site.wait_for_state("obeys1", "shut off");

    // One that does not listen runs on until somebody says otherwise.
    let refused = site.server.output(&["guest", "shutdown", "deaf1", "--timeout", "1s"]);
    let text = said(&refused);
    assert!(!refused.status.success(), "{text}");
    for part in [
        "still runs 1 s after",
        "by ACPI",
        "--force",
        "cordwainer guest destroy deaf1",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert_eq!(site.lives("deaf1"), "running");
    site.guest("suspend", "deaf1", &[]);
    let refused = site.server.output(&["guest", "shutdown", "deaf1"]);
    assert!(
        said(&refused).contains("cordwainer guest resume deaf1"),
        "{}",
        said(&refused)
    );
    site.guest("resume", "deaf1", &[]);
    let all = site.guest("shutdown", "deaf1", &["--timeout", "1s", "--force"]);
    assert!(all.contains("its power was cut"), "{all}");
    assert_eq!(site.lives("deaf1"), "defined");
}

/// A kernel, busybox, and QEMU's agent with the libraries that it needs.
fn agents_initrd(modules: &super::guest_modules::Modules) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in [
        "bin", "sbin", "lib", "lib64", "proc", "sys", "dev", "run", "var", "var/run", "modules",
    ] {
        archive.folder(folder);
    }
    archive.file("bin/busybox", true, &fs::read(distro::busybox()).unwrap());
    archive.link("bin/sh", "busybox");
    archive.file("sbin/qemu-ga", true, &fs::read("/usr/sbin/qemu-ga").unwrap());
    let listed = super::child::run(
        "ldd",
        super::child::command("ldd").arg("/usr/sbin/qemu-ga"),
        super::vm::PATIENCE,
    );
    for path in listed.split_whitespace().filter(|word| word.starts_with("/lib")) {
        archive.file(path.trim_start_matches('/'), true, &fs::read(path).unwrap());
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        if !path.starts_with("/lib64") {
            archive.file(&format!("lib/{name}"), true, &fs::read(path).unwrap());
        }
    }
    archive.file("sbin/shutdown", true, b"#!/bin/sh\n/bin/busybox poweroff -f\n");
    let mut init = String::from(
        "#!/bin/sh\nexport LD_LIBRARY_PATH=/lib\n/bin/busybox mount -t proc proc /proc\n/bin/busybox mount -t sysfs sys /sys\n\
         /bin/busybox mount -t devtmpfs dev /dev\n",
    );
    for order in modules.order.values() {
        for file in order {
            init.push_str(&format!("/bin/busybox insmod /modules/{file} 2>/dev/null\n"));
        }
    }
    init.push_str(
        "for port in /sys/class/virtio-ports/*; do\n\
         [ \"$(/bin/busybox cat $port/name)\" = org.qemu.guest_agent.0 ] && port=/dev/${port##*/} && break\ndone\n\
         echo \"agent at $port\"\n/sbin/qemu-ga -m virtio-serial -p $port -t /run\necho \"agent ended\"\n/bin/busybox sleep 1000\n",
    );
    archive.file("init", true, init.as_bytes());
    for module in &modules.all {
        archive.file(&format!("modules/{}", module.file), false, &module.bytes);
    }
    archive.finish()
}

#[test]
#[ignore = "long: a kernel starts under emulation"]
fn a_guests_agent_powers_it_off() {
    let test = "a_guests_agent_powers_it_off";
    if !ready(test) || !need::all(test, &[&[AGENT]]) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut site = Site::unsupervised(&net);
    site.supervise();
    let (kernel, modules) = distro::kernel_with(&["virtio_pci", "virtio_console"]);
    let pool = site.libvirtd.pool();
    fs::write(pool.join("kernel"), kernel).unwrap();
    fs::write(pool.join("initrd"), agents_initrd(&modules)).unwrap();
    let log = pool.join("agent1.log");
    // Somebody else's domain: a guest of ours would start from a disk.
    let xml = format!(
        "<domain type='qemu'><name>agent1</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{0}/kernel</kernel><initrd>{0}/initrd</initrd>\
         <cmdline>console=ttyS0 panic=1</cmdline></os><features><acpi/></features><cpu mode='maximum'/>\
         <devices><serial type='pty'><log file='{1}' append='off'/></serial>\
         <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>",
        pool.display(),
        log.display()
    );
    let file = pool.join("agent1.xml");
    fs::write(&file, xml).unwrap();
    site.libvirtd.virsh(&["define", file.to_str().unwrap()]);
    site.guest("start", "agent1", &[]);
    until("the agent answers", || {
        let console = fs::read(&log).unwrap_or_default();
        let console = String::from_utf8_lossy(&console).into_owned();
        assert!(
            !console.contains("Kernel panic") && !console.contains("agent ended"),
            "{console}"
        );
        site.libvirtd
            .virsh(&["dumpxml", "agent1"])
            .contains("name='org.qemu.guest_agent.0' state='connected'")
    });
    let all = site.guest("shutdown", "agent1", &[]);
    assert!(all.contains("by its agent"), "{all}");
    assert!(all.contains("guest agent1: is off"), "{all}");
    assert_eq!(site.libvirtd.state("agent1").as_deref(), Some("shut off"));
}
