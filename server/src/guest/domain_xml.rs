//! The two configurations of a guest: the one that installs it and the one it has ever after.
//!
//! Pure. The finished one is defined first and the installing one started over it, with the same name and uuid, so that no moment is
//! left in which losing this server loses the guest (`virDomainDefineXML`, then `virDomainCreateXML`). Never a template: a tree of
//! typed values that one writer escapes.

use super::element::Element;
use super::flow::Job;
use super::metadata::Metadata;
use super::spec::{
    Accel, Boot, Bus, Disk, Firmware, Format, Graphics, Medium, Method, Nic, NicModel, NicSource, Order, Origin, Spec,
};
use super::xml_set::{self, BadEdit};
use crate::model::Arch;

/// The configuration of the first boot.
///
/// # Errors
/// [`BadEdit`] where an edit of the spec finds no place in it.
pub fn installing(spec: &Spec, boot: &Boot, state: &Job) -> Result<String, BadEdit> {
    with_edits(domain(spec, Some(boot), state), spec)
}

/// The configuration of every later boot; it is defined before the first.
///
/// # Errors
/// [`BadEdit`] where an edit of the spec finds no place in it.
pub fn finished(spec: &Spec, state: &Job) -> Result<String, BadEdit> {
    with_edits(domain(spec, None, state), spec)
}

fn with_edits(mut domain: Element, spec: &Spec) -> Result<String, BadEdit> {
    xml_set::apply(&mut domain, &spec.edits)?;
    Ok(domain.document())
}

fn leaf(name: &str, text: impl ToString) -> Element {
    Element::new(name).text(text)
}

const fn is_x86(spec: &Spec) -> bool {
    matches!(spec.arch, Arch::X86_64 | Arch::I386)
}

fn is_pv(spec: &Spec) -> bool {
    spec.method == Method::XenPv
}

/// `boot` is what the first boot needs; none for all others.
fn domain(spec: &Spec, boot: Option<&Boot>, state: &Job) -> Element {
    let kind = match spec.accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "qemu",
        Accel::Xen => "xen",
    };
    // An import has no installer whose reboot would have to be caught.
    let first = boot.is_some_and(|boot| *boot != Boot::Disk);
    let mut domain = Element::new("domain")
        .with("type", kind)
        .child(leaf("name", &spec.name))
        .child(leaf("uuid", &spec.uuid))
        .child(Element::new("metadata").child(Metadata::new(spec.clone(), state.clone()).in_domain()))
        .child(leaf("memory", spec.memory).with("unit", "MiB"))
        .child(leaf("vcpu", spec.vcpus));
    if is_pv(spec) && !first {
        domain.children.push(leaf("bootloader", "pygrub"));
    }
    domain.children.push(os(spec, boot));
    if !is_pv(spec) {
        domain.children.extend(processor(spec));
    }
    let (on_reboot, on_crash) = if first {
        ("destroy", "destroy")
    } else {
        ("restart", "restart")
    };
    domain
        .child(leaf("on_poweroff", "destroy"))
        .child(leaf("on_reboot", on_reboot))
        .child(leaf("on_crash", on_crash))
        .children((is_x86(spec) && !is_pv(spec)).then(no_sleep))
        .child(devices(spec, boot, first))
}

fn os(spec: &Spec, boot: Option<&Boot>) -> Element {
    let mut os = Element::new("os");
    let arch = match spec.arch {
        Arch::I386 => "i686",
        other => other.as_str(),
    };
    let (kind, machine) = match (is_pv(spec), is_x86(spec)) {
        (true, _) => ("linux", "xenpv"),
        (false, true) => ("hvm", "q35"),
        (false, false) => ("hvm", "virt"),
    };
    os.children
        .push(leaf("type", kind).with("arch", arch).with("machine", machine));
    if !is_pv(spec) && spec.firmware == Firmware::Uefi {
        os.set("firmware", "efi".to_owned());
        // Left to itself libvirt may choose the firmware with Microsoft's keys, which refuses unsigned loaders.
        let off = |name: &str| Element::new("feature").with("enabled", "no").with("name", name);
        os.children.push(
            Element::new("firmware")
                .child(off("enrolled-keys"))
                .child(off("secure-boot")),
        );
    }
    if let Some(Boot::Kernel {
        kernel,
        initrd,
        command_line,
    }) = boot
    {
        os.children.push(leaf("kernel", kernel.display()));
        if let Some(initrd) = initrd {
            os.children.push(leaf("initrd", initrd.display()));
        }
        os.children.push(leaf("cmdline", command_line));
    }
    if !is_pv(spec) && is_x86(spec) && spec.firmware == Firmware::Bios {
        let mut bios = Element::new("bios").with("useserial", "yes");
        // SeaBIOS halts for ever where nothing boots. In the first boot a reset is a stop, which somebody hears of.
        if matches!(boot, Some(Boot::Network(_))) {
            bios.set("rebootTimeout", "5000".to_owned());
        }
        os.children.push(bios);
    }
    os
}

/// Features, processor, clock.
fn processor(spec: &Spec) -> Vec<Element> {
    let mut features = Element::new("features");
    if is_x86(spec) {
        features = features.child(Element::new("acpi")).child(Element::new("apic"));
    } else if spec.firmware == Firmware::Uefi {
        // Without UEFI libvirt refuses ACPI on ARM.
        features = features.child(Element::new("acpi"));
    }
    let cpu = match spec.accel {
        Accel::Kvm => Element::new("cpu")
            .with("mode", "host-passthrough")
            .with("migratable", "on"),
        _ => Element::new("cpu").with("mode", "maximum"),
    };
    let mut clock = Element::new("clock").with("offset", "utc");
    if is_x86(spec) {
        let timer = |name: &str| Element::new("timer").with("name", name);
        clock = clock
            .child(timer("rtc").with("tickpolicy", "catchup"))
            .child(timer("pit").with("tickpolicy", "delay"))
            .child(timer("hpet").with("present", "no"));
    }
    let features = (!features.children.is_empty()).then_some(features);
    features.into_iter().chain([cpu, clock]).collect()
}

/// A server's guest never sleeps: nobody would wake it.
fn no_sleep() -> Element {
    let off = |name: &str| Element::new(name).with("enabled", "no");
    Element::new("pm")
        .child(off("suspend-to-mem"))
        .child(off("suspend-to-disk"))
}

fn devices(spec: &Spec, boot: Option<&Boot>, first: bool) -> Element {
    let mut devices = Element::new("devices");
    let (disk_order, other_order) = match boot {
        // The kernel is the firmware's first choice by itself, and pygrub knows no order.
        Some(Boot::Kernel { .. }) => (None, None),
        _ if is_pv(spec) => (None, None),
        None | Some(Boot::Disk) => (Some(1), None),
        Some(Boot::Network(order) | Boot::Cdrom(_, order)) => match order {
            Order::DiskFirst => (Some(1), Some(2)),
            Order::MediumFirst => (Some(2), Some(1)),
        },
    };
    let mut names = Names::default();
    for (place, disk) in spec.disks.iter().enumerate() {
        let order = disk_order.filter(|_| place == 0);
        devices.children.push(self::disk(disk, &mut names, order));
    }
    if let Some(Boot::Cdrom(medium, _)) = boot {
        devices.children.push(cdrom(spec, medium, &mut names, other_order));
    }
    let has_scsi = spec.disks.iter().any(|disk| disk.bus == Bus::Scsi);
    let cdrom_is_scsi = !is_x86(spec) && matches!(boot, Some(Boot::Cdrom(..)));
    if has_scsi || cdrom_is_scsi {
        devices.children.push(
            Element::new("controller")
                .with("type", "scsi")
                .with("index", 0)
                .with("model", "virtio-scsi"),
        );
    }
    let asks_network = matches!(boot, Some(Boot::Network(_)));
    for (place, nic) in spec.nics.iter().enumerate() {
        let order = other_order.filter(|_| asks_network && place == 0);
        devices.children.push(self::nic(spec, nic, order));
    }
    if is_pv(spec) {
        let target = Element::new("target").with("type", "xen").with("port", 0);
        devices
            .children
            .push(Element::new("console").with("type", "pty").child(target));
        devices.children.extend(screen(spec));
        return devices;
    }
    devices.children.push(
        Element::new("controller")
            .with("type", "usb")
            .with("model", "qemu-xhci"),
    );
    devices.children.push(serial(spec, first));
    devices.children.push(agent());
    devices.children.extend(screen(spec));
    devices.children.push(
        Element::new("rng")
            .with("model", "virtio")
            .child(leaf("backend", "/dev/urandom").with("model", "random")),
    );
    devices
        .children
        .push(Element::new("memballoon").with("model", "virtio"));
    if is_x86(spec) {
        devices.children.push(Element::new("panic").with("model", "isa"));
    }
    devices
}

/// Hands out the guest's names of disks: vda, vdb, ..., each prefix for itself.
#[derive(Default)]
struct Names {
    given: Vec<&'static str>,
}

impl Names {
    fn next(&mut self, bus: Bus) -> String {
        let prefix = match bus {
            Bus::Virtio => "vd",
            Bus::Scsi | Bus::Sata => "sd",
            Bus::Xen => "xvd",
        };
        let place = self.given.iter().filter(|given| **given == prefix).count();
        self.given.push(prefix);
        let letter = u8::try_from(place)
            .ok()
            .and_then(|place| b'a'.checked_add(place))
            .filter(u8::is_ascii_lowercase)
            .map_or('z', char::from);
        format!("{prefix}{letter}")
    }
}

fn ordered(element: Element, order: Option<u32>) -> Element {
    match order {
        Some(order) => element.child(Element::new("boot").with("order", order)),
        None => element,
    }
}

fn disk(disk: &Disk, names: &mut Names, order: Option<u32>) -> Element {
    let (kind, source) = match &disk.origin {
        Origin::Pool {
            pool,
            volume,
            path: None,
        } => (
            "volume",
            Element::new("source").with("pool", pool).with("volume", volume),
        ),
        Origin::Pool { path: Some(path), .. } | Origin::File { path } | Origin::Block { path } => {
            if disk.origin.is_block() {
                ("block", Element::new("source").with("dev", path.display()))
            } else {
                ("file", Element::new("source").with("file", path.display()))
            }
        }
    };
    let driver = match (disk.bus, disk.origin.is_block(), disk.format) {
        (Bus::Xen, true, Format::Raw) => Element::new("driver").with("name", "phy"),
        (Bus::Xen, ..) => Element::new("driver").with("name", "qemu").with("type", disk.format),
        // Neither cache nor io: a pool on tmpfs or FUSE refuses O_DIRECT, and a guest that does not start is the greater evil.
        _ => Element::new("driver")
            .with("name", "qemu")
            .with("type", disk.format)
            .with("discard", "unmap"),
    };
    let bus = match disk.bus {
        Bus::Virtio => "virtio",
        Bus::Scsi => "scsi",
        Bus::Sata => "sata",
        Bus::Xen => "xen",
    };
    let target = Element::new("target")
        .with("dev", names.next(disk.bus))
        .with("bus", bus);
    let element = Element::new("disk")
        .with("type", kind)
        .with("device", "disk")
        .child(driver)
        .child(source)
        .child(target);
    ordered(element, order)
}

fn cdrom(spec: &Spec, medium: &Medium, names: &mut Names, order: Option<u32>) -> Element {
    let (kind, source) = match medium {
        Medium::File(path) => ("file", Element::new("source").with("file", path.display())),
        Medium::Http { host, port, path } => (
            "network",
            Element::new("source")
                .with("protocol", "http")
                .with("name", path)
                .child(Element::new("host").with("name", host).with("port", port)),
        ),
    };
    let bus = if is_x86(spec) { Bus::Sata } else { Bus::Scsi };
    let element = Element::new("disk")
        .with("type", kind)
        .with("device", "cdrom")
        .child(Element::new("driver").with("name", "qemu").with("type", "raw"))
        .child(source)
        .child(Element::new("target").with("dev", names.next(bus)).with("bus", bus))
        .child(Element::new("readonly"));
    ordered(element, order)
}

fn nic(spec: &Spec, nic: &Nic, order: Option<u32>) -> Element {
    let (kind, source) = match &nic.source {
        NicSource::Bridge(bridge) => ("bridge", Some(Element::new("source").with("bridge", bridge))),
        NicSource::Network(network) => ("network", Some(Element::new("source").with("network", network))),
        NicSource::User => ("user", None),
    };
    let mut element = Element::new("interface")
        .with("type", kind)
        .child(Element::new("mac").with("address", nic.mac))
        .children(source);
    if let Some(tag) = nic.vlan {
        let tag = Element::new("tag").with("id", tag);
        element.children.push(Element::new("vlan").child(tag));
    }
    if nic.openvswitch {
        element
            .children
            .push(Element::new("virtualport").with("type", "openvswitch"));
    }
    if nic.model != NicModel::Netfront {
        element.children.push(Element::new("model").with("type", nic.model));
    }
    // A ROM that is not there is no 16 seconds of waiting for a router, and no boot that nobody wanted.
    if order.is_none() && !is_pv(spec) {
        element.children.push(Element::new("rom").with("enabled", "no"));
    }
    ordered(element, order)
}

fn serial(spec: &Spec, first: bool) -> Element {
    let mut serial = Element::new("serial").with("type", "pty");
    if let Some(path) = &spec.serial_log {
        // What the installer said stays when the guest starts from its disk.
        let append = if first { "off" } else { "on" };
        serial
            .children
            .push(Element::new("log").with("file", path.display()).with("append", append));
    }
    serial.child(Element::new("target").with("port", 0))
}

fn agent() -> Element {
    Element::new("channel").with("type", "unix").child(
        Element::new("target")
            .with("type", "virtio")
            .with("name", "org.qemu.guest_agent.0"),
    )
}

fn screen(spec: &Spec) -> Vec<Element> {
    let kind = match spec.graphics {
        Graphics::None => return Vec::new(),
        Graphics::Vnc => "vnc",
        Graphics::Spice => "spice",
    };
    let listen = Element::new("listen")
        .with("type", "address")
        .with("address", "127.0.0.1");
    let graphics = Element::new("graphics")
        .with("type", kind)
        .with("autoport", "yes")
        .child(listen);
    if is_pv(spec) {
        return vec![graphics];
    }
    let mut screen = Vec::new();
    if spec.graphics == Graphics::Spice {
        let target = Element::new("target")
            .with("type", "virtio")
            .with("name", "com.redhat.spice.0");
        screen.push(Element::new("channel").with("type", "spicevmc").child(target));
    }
    let input = |kind: &str| Element::new("input").with("type", kind).with("bus", "usb");
    screen.extend([
        input("tablet"),
        input("keyboard"),
        graphics,
        Element::new("video").child(Element::new("model").with("type", "virtio")),
    ]);
    screen
}
