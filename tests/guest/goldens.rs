//! Both configurations of a guest for every method, firmware and accelerator, golden, and judged by libvirt.

use super::schema;
use crate::render::golden;
use cordwainer::guest::flow::{Job, Proof};
use cordwainer::guest::{
    Accel, Boot, Dhcp, Firmware, Graphics, Medium, Metadata, Method, NicModel, Options, Order, Spec, XmlEdit,
    domain_xml, metadata, plan,
};
use cordwainer::model::{Arch, Name, VirtWish};
use std::path::PathBuf;

/// What an admin's options come to, with nothing known of the hypervisor.
fn spec(change: impl FnOnce(&mut Options)) -> Spec {
    let mut options = Options {
        connect: "qemu:///system".to_owned(),
        job: "mfrggzdfmztwq".to_owned(),
        owner: "boot1".to_owned(),
        system: Some("web1".parse().unwrap()),
        profile: Some("rocky9".parse().unwrap()),
        arch: Some(Arch::X86_64),
        server: Some("192.168.77.1".parse().unwrap()),
        kvm_guess: true,
        dhcp: Dhcp::Ours,
        nics: vec!["bridge=br0".parse().unwrap()],
        ..Options::default()
    };
    change(&mut options);
    let name: Name = "web1".parse().unwrap();
    plan(&name, &options, &VirtWish::default(), None, &|_| None).unwrap()
}

/// What the first boot of a guest of this method needs.
fn boot(spec: &Spec) -> Boot {
    match spec.method {
        Method::Kernel | Method::XenPv => Boot::Kernel {
            kernel: PathBuf::from("/var/lib/libvirt/images/cordwainer-2f0c.kernel"),
            initrd: Some(PathBuf::from("/var/lib/libvirt/images/cordwainer-91ab.initrd")),
            command_line: "inst.ks=http://192.168.77.1/i/TOKEN/ks.cfg panic=30 a=\"b <&> c\" console=ttyS0".to_owned(),
        },
        Method::Pxe => Boot::Network(spec.order()),
        Method::Iso => Boot::Cdrom(spec.medium.clone().unwrap(), spec.order()),
        Method::Import => Boot::Disk,
    }
}

fn state(spec: &Spec) -> Job {
    Job::new(match spec.method {
        Method::Import => Proof::Disk,
        _ => Proof::Report,
    })
}

/// Writes, judges and compares both configurations.
fn check(name: &str, spec: &Spec) {
    let state = state(spec);
    for (phase, xml) in [
        ("install", domain_xml::installing(spec, &boot(spec), &state).unwrap()),
        ("final", domain_xml::finished(spec, &state).unwrap()),
    ] {
        let name = format!("guests/{name}-{phase}.xml");
        schema::validate(&name, &xml);
        schema::define(&name, &xml);
        let found = metadata::parse(&xml).unwrap();
        assert_eq!(found, Some(Metadata::new(spec.clone(), state.clone())), "{name}");
        golden::check(&name, &xml);
    }
}

fn iso() -> Medium {
    Medium::File(PathBuf::from("/srv/iso/rocky 9.iso"))
}

#[test]
fn every_method_with_every_firmware() {
    for method in [Method::Kernel, Method::Pxe, Method::Iso, Method::Import] {
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            let spec = spec(|options| {
                options.method = Some(method);
                options.firmware = Some(firmware);
                options.medium = Some(iso());
                if method == Method::Import {
                    options.disks = vec!["path=/srv/images/golden.qcow2".parse().unwrap()];
                }
            });
            check(&format!("{method}-{firmware}"), &spec);
        }
    }
}

#[test]
fn the_translator_the_reinstallation_and_the_other_processors() {
    check("kernel-bios-tcg", &spec(|options| options.accel = Some(Accel::Tcg)));
    check(
        "pxe-bios-reinstall",
        &spec(|options| {
            options.method = Some(Method::Pxe);
            options.reinstall = true;
        }),
    );
    check(
        "iso-aarch64",
        &spec(|options| {
            options.method = Some(Method::Iso);
            options.arch = Some(Arch::Aarch64);
            options.accel = Some(Accel::Tcg);
            options.medium = Some(Medium::Http {
                host: "192.168.77.1".parse().unwrap(),
                port: 80,
                path: "/d/rocky9.iso".to_owned(),
            });
        }),
    );
    check("kernel-i386", &spec(|options| options.arch = Some(Arch::I386)));
}

#[test]
fn every_device_that_can_be_asked_for() {
    let spec = spec(|options| {
        options.disks = [
            "20,pool=fast",
            "100G,bus=scsi,format=raw",
            "1T,bus=sata",
            "backing=golden/rocky9.qcow2",
        ]
        .map(|disk| disk.parse().unwrap())
        .into();
        options.nics = [
            "bridge=br0,mac=52:54:00:7c:1d:4f",
            "network=storage,model=e1000e",
            "bridge=ovs0,vlan=7,virtualport=openvswitch",
            "user",
        ]
        .map(|nic| nic.parse().unwrap())
        .into();
        options.graphics = Some(Graphics::Spice);
        options.memory = Some(65536);
        options.vcpus = Some(64);
        options.autostart = true;
        options.start_paused = true;
        options.edits = [
            "./cpu/feature[@name='vmx']/@policy=disable",
            "./devices/disk[1]/driver/@cache=none",
        ]
        .map(|edit| edit.parse::<XmlEdit>().unwrap())
        .into();
    });
    assert_eq!(spec.nics[1].model, NicModel::E1000e);
    check("devices", &spec);
    check(
        "session",
        &self::spec(|options| {
            options.connect = "qemu:///session".to_owned();
            options.nics.clear();
            options.graphics = Some(Graphics::Vnc);
        }),
    );
}

#[test]
fn xen_starts_with_a_kernel_and_goes_on_with_pygrub() {
    let spec = spec(|options| {
        options.connect = "xen:///system".to_owned();
        options.method = Some(Method::XenPv);
        options.disks = vec!["path=/dev/vg/web1".parse().unwrap(), "5".parse().unwrap()];
    });
    assert_eq!(spec.nics[0].mac.bytes()[..3], [0x00, 0x16, 0x3e]);
    check("xen-pv", &spec);
    let install = domain_xml::installing(&spec, &boot(&spec), &state(&spec)).unwrap();
    let after = domain_xml::finished(&spec, &state(&spec)).unwrap();
    assert!(install.contains("<kernel>") && !install.contains("pygrub"), "{install}");
    assert!(
        !after.contains("<kernel>") && after.contains("<bootloader>pygrub</bootloader>"),
        "{after}"
    );
}

#[test]
fn what_must_hold_of_every_pair() {
    for method in [Method::Kernel, Method::Pxe, Method::Iso] {
        let spec = spec(|options| {
            options.method = Some(method);
            options.medium = Some(iso());
            options.firmware = Some(Firmware::Uefi);
        });
        let install = domain_xml::installing(&spec, &boot(&spec), &state(&spec)).unwrap();
        let after = domain_xml::finished(&spec, &state(&spec)).unwrap();
        assert!(install.contains("<on_reboot>destroy</on_reboot>"), "{install}");
        assert!(after.contains("<on_reboot>restart</on_reboot>"), "{after}");
        for gone in ["<kernel>", "<initrd>", "<cmdline>", "cdrom", "TOKEN"] {
            assert!(!after.contains(gone), "{method}: {gone} in\n{after}");
        }
        for both in [&install, &after] {
            assert!(
                both.contains("<feature enabled=\"no\" name=\"secure-boot\"/>"),
                "{both}"
            );
            assert!(
                both.contains("<feature enabled=\"no\" name=\"enrolled-keys\"/>"),
                "{both}"
            );
            assert!(both.contains(spec.uuid.as_str()), "{both}");
        }
        // The ROM waits 16 s for a router: only who boots from the network has one.
        assert_eq!(
            install.contains("<rom enabled=\"no\"/>"),
            method != Method::Pxe,
            "{install}"
        );
        assert!(after.contains("<rom enabled=\"no\"/>"), "{after}");
    }
}

#[test]
fn a_guest_made_twice_is_the_same_guest() {
    let (one, two) = (spec(|_| {}), spec(|_| {}));
    assert_eq!(one, two);
    assert_eq!(one.uuid.as_str().len(), 36);
    assert_eq!(one.order(), Order::DiskFirst);
    let json = serde_json::to_string(&one).unwrap();
    assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), one);
}

#[test]
fn metadata_survives_what_libvirt_makes_of_it() {
    let spec = spec(|options| options.extra = "a=\"<&>\" 'x'".to_owned());
    let metadata = Metadata::new(spec.clone(), state(&spec));
    // virDomainSetMetadata gives the namespace and the prefix to the root only.
    let stored = metadata
        .fragment()
        .replacen(
            "<guest ",
            "<cordwainer:guest xmlns:cordwainer=\"urn:cordwainer:guest:1\" ",
            1,
        )
        .replace("</guest>", "</cordwainer:guest>");
    let domain = format!(
        "<domain type='kvm' id='3'><name>web1</name><metadata><x:guest xmlns:x='urn:other'>no</x:guest>{stored}</metadata></domain>"
    );
    assert_eq!(metadata::parse(&domain).unwrap(), Some(metadata.clone()));
    assert_eq!(metadata::parse(&metadata.fragment()).unwrap(), Some(metadata));
    assert_eq!(
        metadata::parse("<domain><metadata><a xmlns='urn:x'/></metadata></domain>").unwrap(),
        None
    );
    assert_eq!(metadata::parse("<domain/>").unwrap(), None);
    let damaged = domain
        .replace("&quot;method&quot;", "&quot;methodd&quot;")
        .replace("\"method\"", "\"methodd\"");
    let error = metadata::parse(&damaged).unwrap_err().to_string();
    assert!(error.contains("guest adopt"), "{error}");
}
