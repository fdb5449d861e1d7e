//! `guest check`: whether a hypervisor really runs guests. What libvirt advertises is a promise; a tiny guest keeps it or does not.
#![allow(clippy::disallowed_methods, reason = "IO: libvirt, a thread that reads a console")]

use super::hub::lock;
use crate::guest::driver::{DriverError, Hypervisor, Media};
use crate::guest::element::Element;
use crate::guest::plan::Host;
use crate::guest::protocol::Reply;
use crate::model::Arch;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A boot sector that enters long mode as a kernel does, takes an exception, and speaks on the serial port (payload.S is its source).
const PAYLOAD: &[u8] = include_bytes!("look/payload.bin");
/// What it says.
const SAYS: &str = "cordwainer: a guest runs here";
/// How long it may take: emulated, on a busy host, it takes a second.
const DEADLINE: Duration = Duration::from_secs(20);
/// libvirt takes a third of a second to start a guest; where it takes so long, it probes QEMU again and again.
const SLOW: Duration = Duration::from_secs(10);
/// Size of the payload's disk, in bytes.
const DISK: usize = 1 << 20;
/// Pools that are tried; each costs a guest.
const POOLS: usize = 4;

/// Hypervisors whose KVM was tried.
static TRIED: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
static COUNT: AtomicU32 = AtomicU32::new(1);

/// What became of the payload.
enum Ran {
    /// It spoke; libvirt took so long to start it.
    Well(Duration),
    /// It did not.
    Badly(String),
}

/// Whether KVM, which the hypervisor advertises, runs a guest. Tried once while the supervisor runs.
pub(super) fn kvm_runs(hypervisor: &Hypervisor) -> Result<bool, DriverError> {
    if let Some(known) = lock(&TRIED).get(hypervisor.uri()) {
        return Ok(*known);
    }
    let facts = hypervisor.facts()?;
    // Without a pool nothing can be tried, and nothing can be made either.
    let Some(pool) = facts.pools.iter().find(|pool| pool.active) else {
        return Ok(facts.kvm);
    };
    let runs = match run(hypervisor, "kvm", &pool.name)? {
        Ran::Well(_) => true,
        Ran::Badly(why) => {
            tracing::warn!(
                uri = hypervisor.uri(),
                "KVM is advertised and runs no guests: {why}; guests are emulated"
            );
            false
        }
    };
    lock(&TRIED).insert(hypervisor.uri().to_owned(), runs);
    Ok(runs)
}

fn good(text: impl Into<String>) -> Reply {
    Reply::Finding {
        good: true,
        text: text.into(),
        remedy: None,
    }
}

fn bad(text: impl Into<String>, remedy: impl Into<String>) -> Reply {
    Reply::Finding {
        good: false,
        text: text.into(),
        remedy: Some(remedy.into()),
    }
}

/// Everything that is worth a line.
pub(super) fn findings(hypervisor: &Hypervisor) -> Vec<Reply> {
    let uri = hypervisor.uri();
    let facts = match hypervisor.facts() {
        Ok(facts) => facts,
        Err(error) => {
            return vec![bad(
                error.to_string(),
                format!("look at libvirt there: virsh -c {uri} version"),
            )];
        }
    };
    let mut findings = vec![good(format!("{uri} answers: {}", facts.arch))];
    pools(uri, &facts, &mut findings);
    networks(uri, &facts, &mut findings);
    if facts.xen || facts.arch != Arch::X86_64 {
        findings.push(good(format!(
            "no guest was tried: the payload is for QEMU on x86_64, and this is {}",
            if facts.xen { "Xen" } else { facts.arch.as_str() }
        )));
        return findings;
    }
    guests(hypervisor, &facts, &mut findings);
    findings
}

fn pools(uri: &str, facts: &Host, findings: &mut Vec<Reply>) {
    if !facts.pools.iter().any(|pool| pool.active) {
        let remedy = match facts.pools.first() {
            Some(pool) => format!("virsh -c {uri} pool-start {}", pool.name),
            None => format!(
                "virsh -c {uri} pool-create-as default dir --target /var/lib/libvirt/images; virsh pool-define-as makes it last"
            ),
        };
        findings.push(bad(
            "it has no storage pool that is started: no disk can be made",
            remedy,
        ));
    }
    for pool in facts.pools.iter().filter(|pool| !pool.active) {
        findings.push(bad(
            format!("storage pool {} is not started", pool.name),
            format!(
                "virsh -c {uri} pool-start {0}; virsh -c {uri} pool-autostart {0}",
                pool.name
            ),
        ));
    }
    if facts.pools.iter().any(|pool| pool.active) && !facts.pools.iter().any(|pool| pool.name == "default") {
        findings.push(bad(
            "it has no storage pool `default`, which disks without pool= go to",
            "name one with --disk SIZE,pool=NAME",
        ));
    }
}

fn networks(uri: &str, facts: &Host, findings: &mut Vec<Reply>) {
    for network in facts.networks.iter().filter(|network| !network.active) {
        findings.push(bad(
            format!("network {} is not started", network.name),
            format!("virsh -c {uri} net-start {0}; or tie guests to a bridge", network.name),
        ));
    }
}

/// Tries guests: emulated in each pool, which finds images that QEMU cannot read, and once under KVM.
fn guests(hypervisor: &Hypervisor, facts: &Host, findings: &mut Vec<Reply>) {
    let active = || facts.pools.iter().filter(|pool| pool.active).take(POOLS);
    for pool in active() {
        match run(hypervisor, "qemu", &pool.name) {
            Ok(Ran::Well(took)) if took < SLOW => {
                findings.push(good(format!("a guest with its disk in storage pool {} runs, emulated", pool.name)));
            }
            Ok(Ran::Well(took)) => findings.push(bad(
                format!("libvirt takes {} s to start a guest", took.as_secs()),
                "it probes QEMU again each time, as it does where QEMU's user may not open /dev/kvm: chgrp kvm /dev/kvm; chmod 660 /dev/kvm",
            )),
            Ok(Ran::Badly(why)) => findings.push(bad(
                format!("a guest with its disk in storage pool {} does not run: {why}", pool.name),
                readable(pool.path.as_deref(), &why),
            )),
            Err(error) => findings.push(bad(
                format!("a guest with its disk in storage pool {} cannot be tried: {error}", pool.name),
                readable(pool.path.as_deref(), &error.to_string()),
            )),
        }
    }
    let Some(pool) = active().next().filter(|_| facts.kvm) else {
        if !facts.kvm {
            findings.push(bad(
                "libvirt offers no KVM: guests are emulated, ten to fifty times slower",
                "load the module (modprobe kvm_intel or kvm_amd), switch on virtualisation in the firmware, and restart libvirtd",
            ));
        }
        return;
    };
    let ran = run(hypervisor, "kvm", &pool.name);
    lock(&TRIED).insert(hypervisor.uri().to_owned(), matches!(ran, Ok(Ran::Well(_))));
    findings.push(match ran {
        Ok(Ran::Well(_)) => good("a guest runs under KVM"),
        Ok(Ran::Badly(why)) => bad(
            format!("KVM is offered and runs no guest: {why}"),
            "guests are emulated (--accel tcg); this host may be a virtual machine itself, without nested virtualisation",
        ),
        Err(error) => bad(
            format!("KVM is offered and a guest does not start: {error}"),
            "guests are emulated (--accel tcg); this host may be a virtual machine itself, without nested virtualisation",
        ),
    });
}

fn readable(path: Option<&Path>, why: &str) -> String {
    let place = path.map_or_else(|| "the pool".to_owned(), |path| path.display().to_string());
    if why.to_ascii_lowercase().contains("permission denied") {
        format!(
            "QEMU's user (libvirt-qemu, `user` in qemu.conf) must be able to enter {place} and to read what is in it"
        )
    } else {
        format!("look at the log of the guest on that host: /var/log/libvirt/qemu, and at {place}")
    }
}

/// Runs the payload: a transient guest that leaves nothing behind.
fn run(hypervisor: &Hypervisor, kind: &str, pool: &str) -> Result<Ran, DriverError> {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("cordwainer-check-{}-{number}", std::process::id());
    let mut bytes = PAYLOAD.to_vec();
    bytes.resize(DISK, 0);
    let media = Media::new(&format!("check-{}-{number}", std::process::id()), bytes);
    let path = hypervisor.bring(pool, &media)?;
    let ran = boot(hypervisor, &name, kind, &path);
    hypervisor.delete_volume(pool, &media.name)?;
    ran
}

fn boot(hypervisor: &Hypervisor, name: &str, kind: &str, disk: &Path) -> Result<Ran, DriverError> {
    let began = Instant::now();
    match hypervisor.create(name, &domain(name, kind, disk), true, false) {
        Ok(()) => {}
        Err(error) if error.is_away() => return Err(error),
        Err(error) => return Ok(Ran::Badly(error.to_string())),
    }
    let took = Instant::now().saturating_duration_since(began);
    let Some(uuid) = hypervisor.find(name)? else {
        return Ok(Ran::Badly("it was gone at once".to_owned()));
    };
    // Its processors are stopped until somebody listens.
    let heard = hypervisor.console(&uuid, true).and_then(|console| {
        let (say, hears) = channel();
        let reader = console.clone();
        let read = std::thread::Builder::new().name("check".into()).spawn(move || {
            let mut text = String::new();
            reader.follow(|bytes| {
                text.push_str(&String::from_utf8_lossy(bytes));
                let said = text.contains(SAYS);
                if said {
                    let _gone = say.send(());
                }
                !said
            });
        });
        if let Err(error) = read {
            return Err(DriverError::Clash(format!("no thread to read its console: {error}")));
        }
        hypervisor.resume(&uuid)?;
        let heard = hears.recv_timeout(DEADLINE).is_ok();
        console.close();
        Ok(heard)
    });
    // It resets when it is through, which ends it; one that hangs is ended here.
    match hypervisor.destroy(&uuid) {
        Ok(()) | Err(DriverError::Missing { .. }) => {}
        Err(error) => tracing::debug!("{error}"),
    }
    match heard {
        Ok(true) => Ok(Ran::Well(took)),
        Ok(false) => Ok(Ran::Badly(format!(
            "it said nothing on its serial port in {} s",
            DEADLINE.as_secs()
        ))),
        Err(error) if error.is_away() => Err(error),
        Err(error) => Ok(Ran::Badly(error.to_string())),
    }
}

/// The smallest guest, with the processor that real ones get.
fn domain(name: &str, kind: &str, disk: &Path) -> String {
    let cpu = if kind == "kvm" { "host-passthrough" } else { "maximum" };
    let leaf = |name: &str, text: &str| Element::new(name).text(text);
    let disk = Element::new("disk")
        .with("type", "file")
        .with("device", "disk")
        .child(Element::new("driver").with("name", "qemu").with("type", "raw"))
        .child(Element::new("source").with("file", disk.display()))
        .child(Element::new("target").with("dev", "vda").with("bus", "virtio"));
    let serial = Element::new("serial")
        .with("type", "pty")
        .child(Element::new("target").with("port", 0));
    Element::new("domain")
        .with("type", kind)
        .child(leaf("name", name))
        .child(leaf("memory", "64").with("unit", "MiB"))
        .child(leaf("vcpu", "1"))
        .child(
            Element::new("os")
                .child(leaf("type", "hvm").with("arch", "x86_64").with("machine", "q35"))
                .child(Element::new("boot").with("dev", "hd")),
        )
        .child(
            Element::new("features")
                .child(Element::new("acpi"))
                .child(Element::new("apic")),
        )
        .child(Element::new("cpu").with("mode", cpu))
        .child(leaf("on_poweroff", "destroy"))
        .child(leaf("on_reboot", "destroy"))
        .child(leaf("on_crash", "destroy"))
        .child(
            Element::new("devices")
                .child(disk)
                .child(serial)
                .child(Element::new("memballoon").with("model", "none")),
        )
        .document()
}
