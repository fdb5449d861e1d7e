//! A small world made by hand, and the shipped templates as they lie in the checkout.

use cordwainer::assets::{Assets, Template};
use cordwainer::boot::{AnswerFile, World};
use cordwainer::config::Config;
use cordwainer::install::{ArmId, Installs, ServerKey};
use cordwainer::inventory::{Entry, Inventory, Layer, Merged, Resolved, Sourced};
use cordwainer::model::{Binding, Defaults, Dict, DictValue, Distro, Profile, Secret, Span, Subnet, System, Timestamp};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const HASH: &str = "$6$cordwainer$0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
pub const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLEEXAMPLEEXAMPLEEXAMPLE admin@example";

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn texts(folder: &Path, below: &Path, out: &mut imbl::OrdMap<String, Arc<Template>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path != root().join("kickstarts/snippets") {
                texts(&path, below, out);
            }
        } else {
            let name = path.strip_prefix(below).unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap().into();
            out.insert(
                name,
                Arc::new(Template {
                    text,
                    origin: "built in".into(),
                }),
            );
        }
    }
}

/// What is shipped.
pub fn assets() -> Assets {
    let mut assets = Assets::default();
    let folder = root().join("kickstarts");
    texts(&folder, &folder, &mut assets.templates);
    let mut snippets = imbl::OrdMap::new();
    for entry in fs::read_dir(folder.join("snippets")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap().into();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        snippets.insert(
            name,
            Arc::new(Template {
                text,
                origin: "built in".into(),
            }),
        );
    }
    assets.snippets = snippets;
    assets
}

pub fn with_template(mut assets: Assets, name: &str, text: &str) -> Assets {
    assets.templates.insert(
        name.into(),
        Arc::new(Template {
            text: text.into(),
            origin: "test".into(),
        }),
    );
    assets
}

pub fn with_snippet(mut assets: Assets, name: &str, text: &str) -> Assets {
    assets.snippets.insert(
        name.into(),
        Arc::new(Template {
            text: text.into(),
            origin: "test".into(),
        }),
    );
    assets
}

pub fn defaults() -> Defaults {
    Defaults {
        ssh_authorized_keys: vec![KEY.into()],
        root_password_hash: Some(Secret::new(HASH.into())),
        name_servers: vec!["192.0.2.53".parse().unwrap()],
        timezone: "Europe/Vienna".into(),
        locale: "en_US.UTF-8".into(),
        keyboard: "us".into(),
        ..Defaults::default()
    }
}

pub fn world(defaults: Defaults, assets: Assets) -> World {
    let subnet = Subnet {
        network: "192.168.77.0/24".parse().unwrap(),
        pool: None,
        router: Some("192.168.77.1".parse().unwrap()),
        dns: vec!["192.168.77.2".parse().unwrap()],
        domain: Some("lab.test".into()),
        lease: Span::seconds(3600),
        relays: Vec::new(),
        binding: Binding::Lease,
        router_advertisements: cordwainer::model::Advertise::Off,
        shared: None,
        probe: true,
    };
    World {
        config: Arc::new(Config {
            subnets: vec![subnet],
            ..Config::default()
        }),
        inventory: Arc::new(Inventory::new(Arc::new(defaults))),
        installs: Arc::new(Installs::default()),
        assets: Arc::new(assets),
        key: Arc::new(ServerKey::new([7; 32])),
        now: Timestamp(0),
    }
}

pub fn merged(text: &str, layer: &Layer) -> Merged {
    let dict: Dict = text.parse().unwrap();
    Merged {
        entries: dict
            .iter()
            .map(|(key, value)| Entry {
                key: key.to_owned(),
                values: match value {
                    DictValue::Values(values) => Some(values.clone()),
                    _ => None,
                },
                layer: layer.clone(),
            })
            .collect(),
        removed: Vec::new(),
    }
}

/// One distro family in the tests.
#[derive(Clone, Copy)]
pub struct Family {
    pub title: &'static str,
    pub template: &'static str,
    pub breed: &'static str,
    pub version: &'static str,
    pub kernel: &'static str,
    /// Variables that import gives its distro.
    pub meta: &'static str,
}

pub const FAMILIES: [Family; 23] = [
    family("el7", "redhat/el7.ks", "redhat", "rhel7", "images/pxeboot/vmlinuz"),
    family("el8", "redhat/el8.ks", "redhat", "rhel8", "images/pxeboot/vmlinuz"),
    family("el9", "redhat/el9.ks", "redhat", "rhel9", "images/pxeboot/vmlinuz"),
    family("el10", "redhat/el10.ks", "redhat", "rhel10", "images/pxeboot/vmlinuz"),
    family(
        "fedora41",
        "redhat/fedora.ks",
        "redhat",
        "fedora41",
        "images/pxeboot/vmlinuz",
    ),
    family(
        "debian11-mirror",
        "debian/preseed.cfg",
        "debian",
        "11",
        "dists/bullseye/main/installer-amd64/current/images/netboot/debian-installer/amd64/linux",
    ),
    family(
        "debian12-netboot",
        "debian/preseed.cfg",
        "debian",
        "12",
        "debian-installer/amd64/linux",
    ),
    family(
        "debian13-iso",
        "debian/preseed.cfg",
        "debian",
        "13",
        "install.amd/vmlinuz",
    ),
    family(
        "debian13-netboot",
        "debian/preseed.cfg",
        "debian",
        "13",
        "debian-installer/amd64/linux",
    ),
    family(
        "ubuntu20-netboot",
        "debian/preseed.cfg",
        "ubuntu",
        "20.04",
        "ubuntu-installer/amd64/linux",
    ),
    family("lab", "lab/answer", "lab", "1.0", "boot/vmlinuz"),
    live("ubuntu20", "ubuntu/user-data", "20.04.6"),
    live("ubuntu22", "ubuntu/user-data", "22.04"),
    live("ubuntu24", "ubuntu/user-data", "24.04.1"),
    live("ubuntu26", "ubuntu/user-data", "26.04"),
    suse(
        "sles15",
        "suse/autoinst.xml",
        "suse15.6",
        "product=SLES addons=\"Basesystem Server-Applications\"",
    ),
    suse("leap15", "suse/autoinst.xml", "suse15.6", "product=Leap"),
    suse("sles16", "agama/profile.json", "suse16.0", "product=SLES iso=x.iso"),
    suse(
        "leap16",
        "agama/profile.json",
        "suse16.0",
        "product=openSUSE_Leap iso=x.iso",
    ),
    coreos("fcos44", "coreos/config.ign"),
    alpine("alpine318", "alpine3.18.9"),
    alpine("alpine322", "alpine3.22.1"),
    esxi("esxi8", "esxi/ks.cfg"),
];

/// Files that an installer asks for beside its main one.
pub const BESIDE: [Family; 5] = [
    live("ubuntu24-meta-data", "ubuntu/meta-data", "24.04.1"),
    live("ubuntu24-vendor-data", "ubuntu/vendor-data", "24.04.1"),
    live("ubuntu24-network-config", "ubuntu/network-config", "24.04.1"),
    coreos("fcos44-live", "coreos/live.ign"),
    esxi("esxi8-boot", "esxi/boot.cfg"),
];

const fn live(title: &'static str, template: &'static str, version: &'static str) -> Family {
    Family {
        meta: "iso=x.iso",
        ..family(title, template, "ubuntu", version, "casper/vmlinuz")
    }
}

const fn suse(title: &'static str, template: &'static str, version: &'static str, meta: &'static str) -> Family {
    Family {
        meta,
        ..family(title, template, "suse", version, "boot/x86_64/loader/linux")
    }
}

const fn alpine(title: &'static str, version: &'static str) -> Family {
    Family {
        meta: "modloop=boot/modloop-lts",
        ..family(title, "alpine/apkovl", "alpine", version, "boot/vmlinuz-lts")
    }
}

const fn esxi(title: &'static str, template: &'static str) -> Family {
    Family {
        meta: "esxi_kernel=/b.b00 esxi_modules=\"/jumpstrt.gz --- /useropts.gz --- /features.gz\"",
        ..family(title, template, "vmware", "esxi8.0.2", "mboot.c32")
    }
}

const fn coreos(title: &'static str, template: &'static str) -> Family {
    family(title, template, "redhat", "fcos44", "images/pxeboot/vmlinuz")
}

const fn family(
    title: &'static str,
    template: &'static str,
    breed: &'static str,
    version: &'static str,
    kernel: &'static str,
) -> Family {
    Family {
        title,
        template,
        breed,
        version,
        kernel,
        meta: "",
    }
}

/// How a machine gets its address.
pub const DHCP: &str = r#"{"mac_address": "52:54:00:7c:1d:4f"}"#;
pub const STATIC: &str = r#"{"mac_address": "52:54:00:7c:1d:4f", "ip_address": "192.168.77.21", "static": true}"#;

/// All interfaces of a machine, where one alone will not do.
pub const BOND: &str = r#"{"interfaces": {
    "eth0": {"mac_address": "52:54:00:7c:1d:4f", "interface_type": "bond_slave", "interface_master": "bond0"},
    "eth1": {"mac_address": "52:54:00:7c:1d:50", "interface_type": "bond_slave", "interface_master": "bond0"},
    "bond0": {"interface_type": "bond", "bonding_opts": "mode=802.3ad miimon=100 lacp_rate=fast", "mtu": "9000",
        "ip_address": "192.168.77.21", "static": true}}}"#;
pub const VLAN: &str = r#"{"interfaces": {
    "eth0": {"mac_address": "52:54:00:7c:1d:4f"},
    "eth0.100": {"ip_address": "10.1.0.21", "netmask": "255.255.0.0", "if_gateway": "10.1.0.1", "static": true},
    "eth0.200": {}}}"#;
/// A bridge over a bond with a VLAN beside it, a bridge over a card, and routes.
pub const STACK: &str = r#"{"interfaces": {
    "eth0": {"mac_address": "52:54:00:7c:1d:4f", "interface_type": "bond_slave", "interface_master": "bond0"},
    "eth1": {"mac_address": "52:54:00:7c:1d:50", "interface_type": "bond_slave", "interface_master": "bond0"},
    "eth2": {"mac_address": "52:54:00:7c:1d:51", "interface_type": "bridge_slave", "interface_master": "br1"},
    "eth3": {"mac_address": "52:54:00:7c:1d:52"},
    "bond0": {"interface_type": "bonded_bridge_slave", "interface_master": "br0",
        "bonding_opts": "mode=1 arp_interval=100 arp_ip_target=192.168.77.1,192.168.77.2"},
    "bond0.7": {"ip_address": "10.7.0.21", "netmask": "255.255.255.0", "static": true},
    "br0": {"interface_type": "bridge", "bridge_opts": "stp=no forward_delay=4", "ip_address": "192.168.77.21", "static": true,
        "static_routes": ["10.0.0.0/8:192.168.77.254", "172.16.0.0/12:192.168.77.253"]},
    "br1": {"interface_type": "bridge"}}}"#;

/// An answer file of web1, with one `interface` or all `interfaces` as JSON, and `meta` as `k=v` words.
pub fn answer(family: Family, interface: &str, meta: &str) -> AnswerFile {
    let interface: serde_json::Value = serde_json::from_str(interface).unwrap();
    let interfaces = match interface.get("interfaces") {
        Some(all) => all.clone(),
        None => serde_json::json!({"eth0": interface}),
    };
    let system: System = serde_json::from_value(serde_json::json!({
        "name": "web1", "profile": "base", "hostname": "web1.lab.test", "interfaces": interfaces,
    }))
    .unwrap();
    let profile: Profile =
        serde_json::from_value(serde_json::json!({"name": "base", "parent": {"distro": family.title}})).unwrap();
    let distro: Distro = serde_json::from_value(serde_json::json!({
        "name": family.title, "arch": "x86_64", "breed": family.breed, "os_version": family.version, "kernel": family.kernel,
        "initrd": ["initrd.img"],
    }))
    .unwrap();
    let layer = Layer::System("web1".parse().unwrap());
    AnswerFile {
        resolved: Resolved {
            image: None,
            system: Some(Arc::new(system)),
            profiles: vec![Arc::new(profile)],
            distro: Arc::new(distro),
            autoinstall: None,
            autoinstall_meta: merged(&format!("{} {meta}", family.meta), &layer),
            kernel_options: Merged::default(),
            kernel_options_post: merged("console=ttyS0,115200 quiet", &layer),
            name_servers: None,
            name_servers_search: None,
            proxy: None,
            boot_loaders: None,
            enable_menu: true,
            virt: cordwainer::model::VirtWish::default(),
        },
        file: "answer".into(),
        template: Sourced {
            value: family.template.into(),
            layer,
        },
        arm: Some(ArmId("a1".into())),
        base_url: "http://192.168.77.1".into(),
        tree_url: format!("http://192.168.77.1/d/{}", family.title),
        answer_url: "http://192.168.77.1/i/installtokeninstalltokeninstallto".into(),
        report_url: "http://192.168.77.1/r/reporttokenreporttokenreporttoke".into(),
        mac: Some("52:54:00:7c:1d:4f".parse().unwrap()),
        address: Some("192.168.77.21".parse().unwrap()),
    }
}
