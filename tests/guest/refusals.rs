//! What no guest is made of: each refusal names the thing, what there is, and the remedy.

use cordwainer::guest::{
    Accel, Dhcp, Firmware, Forward, Host, Method, Network, NicSource, Options, Origin, Pool, Refused, Spec, plan,
};
use cordwainer::model::{Arch, Mac, Name, VirtWish};
use std::path::PathBuf;

fn host() -> Host {
    Host {
        uri: "qemu:///system".to_owned(),
        arch: Arch::X86_64,
        kvm: false,
        xen: false,
        pools: vec![
            Pool {
                name: "default".to_owned(),
                path: Some(PathBuf::from("/var/lib/libvirt/images")),
                active: true,
            },
            Pool {
                name: "cold".to_owned(),
                path: None,
                active: false,
            },
        ],
        networks: vec![Network {
            name: "default".to_owned(),
            bridge: Some("virbr0".to_owned()),
            address: Some("192.168.122.1".parse().unwrap()),
            dhcp: true,
            network: Some("192.168.122.0/24".parse().unwrap()),
            forward: Forward::Translated,
            active: true,
        }],
    }
}

fn name() -> Name {
    "web1".parse().unwrap()
}

fn made(virt: &VirtWish, change: impl FnOnce(&mut Options)) -> Result<Spec, Refused> {
    let mut options = Options {
        connect: "qemu:///system".to_owned(),
        dhcp: Dhcp::Ours,
        ..Options::default()
    };
    change(&mut options);
    plan(&name(), &options, virt, Some(&host()), &|_| None)
}

fn refused(change: impl FnOnce(&mut Options)) -> String {
    made(&VirtWish::default(), change).unwrap_err().to_string()
}

#[test]
fn each_refusal_says_what_to_do() {
    for (said, parts) in [
        (
            refused(|options| options.disks = vec!["20,pool=fast".parse().unwrap()]),
            vec!["no storage pool `fast`", "default, cold", "pool-create-as"],
        ),
        (
            refused(|options| options.disks = vec!["20,pool=cold".parse().unwrap()]),
            vec!["`cold`", "virsh -c qemu:///system pool-start cold"],
        ),
        (
            refused(|options| options.disks = vec!["backing=gold/x.qcow2".parse().unwrap()]),
            vec!["no storage pool `gold`"],
        ),
        (
            refused(|options| options.nics = vec!["network=lab".parse().unwrap()]),
            vec!["no network `lab`", "default"],
        ),
        (
            refused(|options| options.method = Some(Method::Pxe)),
            vec![
                "cannot boot by PXE",
                "libvirt gives the addresses of network default itself",
                "--method kernel",
            ],
        ),
        (
            refused(|options| {
                options.method = Some(Method::Pxe);
                options.nics = vec!["bridge=br0".parse().unwrap()];
                options.dhcp = Dhcp::NotOurs("this server does not serve br0".to_owned());
            }),
            vec!["does not serve br0", "--method kernel"],
        ),
        (
            refused(|options| {
                options.method = Some(Method::Pxe);
                options.nics = vec!["user".parse().unwrap()];
            }),
            vec!["QEMU's own network stack"],
        ),
        (
            refused(|options| options.method = Some(Method::XenPv)),
            vec!["cannot do --method xen-pv", "--connect xen:///system"],
        ),
        (
            refused(|options| options.method = Some(Method::Import)),
            vec!["no disk to start from", "backing="],
        ),
        (
            refused(|options| options.method = Some(Method::Iso)),
            vec!["no CD image", "--iso"],
        ),
        (
            refused(|options| options.accel = Some(Accel::Kvm)),
            vec!["no KVM", "--accel tcg"],
        ),
        (
            refused(|options| options.arch = Some(Arch::S390x)),
            vec!["s390x are not made"],
        ),
        (
            refused(|options| {
                options.arch = Some(Arch::Aarch64);
                options.firmware = Some(Firmware::Bios);
            }),
            vec!["aarch64 has no bios", "uefi"],
        ),
        (refused(|options| options.memory = Some(8)), vec!["8 MiB", "--memory"]),
        (
            refused(|options| {
                options.nics = vec![
                    "bridge=a,mac=52:54:00:00:00:01".parse().unwrap(),
                    "bridge=b,mac=52:54:00:00:00:01".parse().unwrap(),
                ];
            }),
            vec!["two network cards"],
        ),
        (
            refused(|options| {
                options.system = Some(name());
                options.interfaces = vec![("52:54:00:00:00:01".parse().unwrap(), None)];
                options.nics = vec!["bridge=a,mac=52:54:00:00:00:02".parse().unwrap()];
            }),
            vec!["does not have MAC 52:54:00:00:00:02", "system edit web1"],
        ),
    ] {
        for part in parts {
            assert!(said.contains(part), "{part:?} in {said:?}");
        }
    }
}

#[test]
fn a_mac_of_another_system_is_refused_and_a_made_one_goes_round_it() {
    let first = cordwainer::guest::mac_of(&name(), 0, 0, false);
    let owner: Name = "db1".parse().unwrap();
    let taken = |mac: Mac| (mac == first).then(|| owner.clone());
    let mut options = Options {
        connect: "qemu:///system".to_owned(),
        ..Options::default()
    };
    let spec = plan(&name(), &options, &VirtWish::default(), Some(&host()), &taken).unwrap();
    assert_eq!(spec.nics[0].mac, cordwainer::guest::mac_of(&name(), 0, 1, false));
    assert_eq!(spec.nics[0].mac.bytes()[..3], [0x52, 0x54, 0x00]);
    options.nics = vec![format!("bridge=a,mac={first}").parse().unwrap()];
    let said = plan(&name(), &options, &VirtWish::default(), Some(&host()), &taken)
        .unwrap_err()
        .to_string();
    assert!(said.contains("belongs to system `db1`"), "{said}");
    let all = |_: Mac| Some(owner.clone());
    options.nics.clear();
    let error = plan(&name(), &options, &VirtWish::default(), Some(&host()), &all).unwrap_err();
    assert_eq!(error, Refused::NoMac(name()));
}

#[test]
fn the_profile_says_what_the_admin_does_not() {
    let virt = VirtWish {
        kind: Some("qemu".to_owned()),
        ram: Some(4096),
        cpus: Some(3),
        file_size: Some(vec![8, 50]),
        disk_driver: Some("raw".to_owned()),
        path: Some("/var/lib/libvirt/images".to_owned()),
        bridge: Some("br7".to_owned()),
        auto_boot: Some(true),
        pxe_boot: Some(true),
    };
    let spec = made(&virt, |_| {}).unwrap();
    assert_eq!((spec.memory, spec.vcpus, spec.accel), (4096, 3, Accel::Tcg));
    assert_eq!(spec.disks.len(), 2);
    assert_eq!(spec.disks[1].size, Some(50 << 30));
    assert_eq!(
        spec.disks[1].origin,
        Origin::Pool {
            pool: "default".to_owned(),
            volume: "web1-1.raw".to_owned(),
            path: None
        }
    );
    assert_eq!(spec.nics[0].source, NicSource::Bridge("br7".to_owned()));
    assert!(spec.autostart);
    assert_eq!(spec.method, Method::Pxe);
    let spec = made(&virt, |options| {
        options.memory = Some(512);
        options.vcpus = Some(1);
        options.method = Some(Method::Kernel);
        options.disks = vec!["5G".parse().unwrap()];
        options.nics = vec!["bridge=br9".parse().unwrap()];
    })
    .unwrap();
    assert_eq!((spec.memory, spec.vcpus, spec.disks.len()), (512, 1, 1));
    assert_eq!(spec.nics[0].source, NicSource::Bridge("br9".to_owned()));
    assert_eq!(spec.method, Method::Kernel);
    for (kind, says) in [("vmware", "vmware are not made"), ("xenfv", "xenfv are not made")] {
        let virt = VirtWish {
            kind: Some(kind.to_owned()),
            ..VirtWish::default()
        };
        let said = made(&virt, |_| {}).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let elsewhere = VirtWish {
        path: Some("/srv/vm".to_owned()),
        ..VirtWish::default()
    };
    let said = made(&elsewhere, |_| {}).unwrap_err().to_string();
    assert!(
        said.contains("in /srv/vm") && said.contains("pool-create-as vm"),
        "{said}"
    );
    let device = VirtWish {
        path: Some("/dev/vg/web1".to_owned()),
        ..VirtWish::default()
    };
    let spec = made(&device, |_| {}).unwrap();
    assert!(spec.disks[0].existing && spec.reinstall, "{spec:?}");
}

#[test]
fn an_installer_that_needs_more_memory_gets_it() {
    let needs = |least| {
        made(&VirtWish::default(), |options| options.least_memory = Some(least))
            .unwrap()
            .memory
    };
    assert_eq!((needs(512), needs(3072)), (2048, 3072));
}
