//! A Cobbler of a thousand systems moves in: collections as Cobbler 3.3 stores them, with everything in them that moves badly.

use crate::cli::Session;
use cordwainer::inventory::resolve_system;
use cordwainer::store::{Folder, InventoryDb};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const SYSTEMS: usize = 1000;

/// Writes one object below `root`, as Cobbler writes it, and gives its fields.
fn object(root: &Path, folder: &str, name: &str, own: Value) -> Map<String, Value> {
    // What Cobbler writes for every object, beside its own.
    let mut all = json!({
        "name": name, "comment": "", "ctime": 1.0, "mtime": 2.0, "uid": "0123456789abcdef0123456789abcdef", "depth": 1, "parent": "",
        "kernel_options": "<<inherit>>", "kernel_options_post": "<<inherit>>", "autoinstall_meta": "<<inherit>>",
        "fetchable_files": "<<inherit>>", "boot_files": "<<inherit>>", "template_files": {}, "owners": "<<inherit>>",
        "mgmt_classes": "<<inherit>>", "mgmt_parameters": "<<inherit>>", "boot_loaders": "<<inherit>>", "is_subobject": false,
        "redhat_management_key": "<<inherit>>",
    });
    let all = all.as_object_mut().unwrap();
    all.extend(own.as_object().unwrap().clone());
    write(
        &root.join(format!("collections/{folder}/{name}.json")),
        &serde_json::to_string(&all).unwrap(),
    );
    all.clone()
}

/// Lays the options of one layer over those of the next, as Cobbler does.
fn overlay(under: &mut BTreeMap<String, Value>, layer: &Map<String, Value>) {
    for (key, value) in layer["kernel_options"].as_object().into_iter().flatten() {
        match key.strip_prefix('!') {
            Some(key) => drop(under.remove(key)),
            None => drop(under.insert(key.clone(), value.clone())),
        }
    }
}

/// One word for each value, in Cobbler's order of nothing: sorted.
fn words(options: &BTreeMap<String, Value>) -> Vec<String> {
    let mut words: Vec<String> = options
        .iter()
        .flat_map(|(key, value)| match value {
            Value::Null => vec![key.clone()],
            Value::Array(items) => items
                .iter()
                .map(|item| format!("{key}={}", item.as_str().unwrap()))
                .collect(),
            value => vec![format!("{key}={}", value.as_str().unwrap())],
        })
        .collect();
    words.sort();
    words
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What must be true of a system afterwards.
pub struct Expected {
    pub name: String,
    /// Its kernel options, each a word, sorted.
    pub options: Vec<String>,
    /// Its first card is one of a bond's.
    pub bonded: bool,
    /// The address of that card.
    pub address: String,
}

/// Writes the collections, templates and snippets of a site below `root`, its media below `media`.
pub fn tree(root: &Path, media: &Path) -> Vec<Expected> {
    let mirror = media.join("distro_mirror/el9").display().to_string();
    write(&media.join("distro_mirror/el9/images/pxeboot/vmlinuz"), "k");
    write(&media.join("distro_mirror/el9/images/pxeboot/initrd.img"), "i");
    let distro = object(
        root,
        "distros",
        "el9",
        json!({
            "kernel": format!("{mirror}/images/pxeboot/vmlinuz"), "initrd": format!("{mirror}/images/pxeboot/initrd.img"), "arch": "x86_64",
            "breed": "redhat", "os_version": "rhel9", "kernel_options": {"rd.debug": null, "lang": "en", "console": ["tty0", "ttyS0,115200"]},
            "autoinstall_meta": {"tree": "http://@@http_server@@/cblr/links/el9", "site": "one"}, "source_repos": [["a", "b"]], "tree_build_time": 0.0,
            "remote_boot_kernel": "", "remote_boot_initrd": "",
        }),
    );
    object(
        root,
        "distros",
        "exotic",
        json!({"kernel": "/x/k", "initrd": "/x/i", "arch": "x86_64", "breed": "vmware", "os_version": "esxi80"}),
    );
    let base = object(
        root,
        "profiles",
        "base",
        json!({
            "distro": "el9", "autoinstall": "site.ks", "kernel_options": {"quiet": null, "lang": "de"}, "virt_ram": 4096, "virt_cpus": 2,
            "virt_file_size": 10.0, "virt_auto_boot": "<<inherit>>", "virt_disk_driver": "raw", "name_servers": ["192.0.2.53"],
            "name_servers_search": [], "enable_menu": true, "enable_ipxe": "<<inherit>>", "repos": [], "proxy": "<<inherit>>",
        }),
    );
    let sub = object(
        root,
        "profiles",
        "asub",
        json!({"parent": "base", "distro": "el9", "kernel_options": {"!quiet": null, "net.ifnames": "0"}, "autoinstall": "<<inherit>>",
            "virt_cpus": 1}),
    );
    object(
        root,
        "images",
        "memtest",
        json!({"file": "/x", "image_type": "direct", "arch": "x86_64", "network_count": 0, "autoinstall": "<<inherit>>", "menu": "",
            "virt_ram": "<<inherit>>", "virt_type": "<<inherit>>", "virt_disk_driver": "raw", "virt_auto_boot": false, "boot_loaders": []}),
    );
    object(
        root,
        "images",
        "elsewhere",
        json!({"file": "nas:/iso/x.iso", "image_type": "iso"}),
    );
    object(root, "repos", "epel", json!({"mirror": "http://x"}));
    let mut expected = Vec::new();
    for n in 0..SYSTEMS {
        let name = format!("node{n:04}");
        let profile = if n % 2 == 0 { &base } else { &sub };
        let mut options = BTreeMap::new();
        overlay(&mut options, &distro);
        overlay(&mut options, &base);
        if n % 2 == 1 {
            overlay(&mut options, &sub);
        }
        let own = match n % 3 {
            0 => json!("<<inherit>>"),
            1 => json!({"!lang": null, "nodes": n.to_string()}),
            _ => json!({"console": "hvc0"}),
        };
        let (third, fourth) = (n / 250, n % 250 + 1);
        let mut interfaces = json!({
            "eth0": {"mac_address": format!("52:54:00:00:{third:02x}:{fourth:02x}"), "ip_address": format!("10.0.{third}.{fourth}"),
                "netmask": "255.255.0.0", "static": true, "dns_name": format!("{name}.example.org"), "interface_type": "na", "cnames": [],
                "management": false, "mtu": "", "virt_bridge": "", "static_routes": [], "bonding_opts": "", "interface_master": ""},
        });
        if n % 5 == 0 {
            interfaces["eth0"]["interface_type"] = json!("bond_slave");
            interfaces["eth0"]["interface_master"] = json!("bond0");
            interfaces["bond0"] = json!({"mac_address": "", "ip_address": format!("10.1.{third}.{fourth}"), "interface_type": "bond",
                "bonding_opts": "mode=1 miimon=100", "static": true, "netmask": "255.255.0.0"});
        }
        let record = object(
            root,
            "systems",
            &name,
            json!({
                "profile": profile["name"], "image": "", "hostname": name, "kernel_options": own, "interfaces": interfaces, "gateway": "10.0.0.1",
                "netboot_enabled": n == 7, "name_servers": [], "name_servers_search": [], "status": "production", "power_type": if n == 9 { "ipmilan" } else { "" },
                "power_user": "root", "power_pass": if n == 9 { "canary-power" } else { "" }, "serial_device": -1, "serial_baud_rate": -1,
                "virt_ram": "<<inherit>>", "virt_pxe_boot": false, "autoinstall": "<<inherit>>", "next_server_v4": "<<inherit>>",
                "filename": "<<inherit>>", "server": "<<inherit>>", "repos_enabled": false, "ipv6_autoconfiguration": false,
            }),
        );
        overlay(&mut options, &record);
        expected.push(Expected {
            name,
            options: words(&options),
            bonded: n % 5 == 0,
            address: format!("10.0.{third}.{fourth}"),
        });
    }
    object(
        root,
        "systems",
        "onimage",
        json!({"profile": "", "image": "memtest", "interfaces": {}}),
    );
    object(
        root,
        "systems",
        "twin",
        json!({"profile": "base", "interfaces": {"eth0": {"mac_address": "52:54:00:00:00:01"}}}),
    );
    write(
        &root.join("templates/site.ks"),
        "rootpw --iscrypted $default_password_crypted\n#if $getVar('site','') == 'one'\n# one\n#end if\n$SNIPPET('ours')\n",
    );
    write(&root.join("snippets/ours"), "echo $hostname\n");
    write(&root.join("snippets/per_system/ours/node0001"), "echo own\n");

    expected
}

#[test]
fn a_thousand_systems_move_in_and_keep_their_command_lines_and_interfaces() {
    let session = Session::new();
    let overrides = session.path("etc");
    session.write("session.toml", &format!("overrides = \"{}\"\n", overrides.display()));
    let expected = tree(&session.path("cobbler"), &session.path("www"));
    let from = session.path("cobbler").display().to_string();
    let planned = session
        .run(&["migrate", "cobbler", "--from", &from, "--dry-run"])
        .succeeded();
    assert!(
        planned.out.ends_with("1008 objects moved, 1 left (planned only)\n"),
        "{}",
        planned.out
    );
    assert_eq!(session.run(&["system", "list"]).out, "");
    assert!(!overrides.join("kickstarts/site.ks").exists());
    let moved = session.run(&["migrate", "cobbler", "--from", &from]).succeeded();
    for line in [
        "changed   distro el9: its tree is served from ",
        "moved     image memtest\n",
        "changed   image elsewhere: left out: file: `nas:/iso/x.iso` is no file of this server",
        "moved     repo epel\n",
        "moved     system onimage\n",
        "left      system twin: MAC 52:54:00:00:00:01 belongs to system `node0000`",
        "changed   system node0000: left out on eth0: static: it is part of `bond0`",
        "changed   system node0009: left out: power_pass: ",
        "snippet ours",
        "snippet per_system/ours/node0001",
        "1008 objects moved, 1 left\n",
    ] {
        assert!(
            moved.out.contains(line),
            "no `{line}` in\n{}",
            moved.out.chars().take(3000).collect::<String>()
        );
    }
    assert!(
        moved.err.contains("1 systems had netboot_enabled") && moved.err.contains("system arm node0007"),
        "{}",
        moved.err
    );
    assert!(!moved.out.contains("canary-power"));
    assert!(
        overrides.join("kickstarts/site.ks").exists() && overrides.join("snippets/per_system/ours/node0001").exists()
    );

    let folder = Folder::open(&session.path("state")).unwrap();
    let (inventory, _) = InventoryDb::open(&folder).unwrap().load().unwrap();
    assert_eq!((inventory.system_count(), inventory.arms().count()), (SYSTEMS + 1, 0));
    let on_image = inventory.system("onimage").unwrap();
    assert_eq!((on_image.profile_name(), on_image.image_name()), ("", "memtest"));
    for Expected {
        name,
        options,
        bonded,
        address,
    } in expected
    {
        let resolved = resolve_system(&inventory, &name).unwrap();
        let mut own: Vec<String> = resolved
            .kernel_options
            .to_string()
            .split(' ')
            .map(str::to_owned)
            .collect();
        own.sort();
        assert_eq!(own, options, "{name}");
        let system = resolved.system.unwrap();
        let eth0 = &system.interfaces["eth0"];
        assert_eq!(eth0.ip_address.unwrap().to_string(), address);
        // What belongs to a bond has no address of its own to keep.
        assert!(eth0.is_static != bonded && eth0.netmask.unwrap().to_string() == "255.255.0.0");
        assert_eq!(system.interfaces.contains_key("bond0"), bonded, "{name}");
        assert_eq!(resolved.virt.ram, Some(4096));
        assert_eq!(resolved.autoinstall.unwrap().value, "site.ks");
    }
    let bond = session.run(&["system", "report", "node0005"]).succeeded().out;
    for line in ["bonding_opts", "mode=active-backup miimon=100", "bond_slave"] {
        assert!(bond.contains(line), "{bond}");
    }
    // A second run finds everything there, and changes nothing.
    let again = session.run(&["migrate", "cobbler", "--from", &from]).succeeded();
    assert!(
        again.out.ends_with("0 objects moved, 1009 left\n"),
        "{}",
        again.out.lines().last().unwrap()
    );
}
