//! The calls that Ansible's community.general modules, Terraform's provider (cobblerclient) and cobbler-register make, in their order and
//! with their arguments: each is answered as those clients need it.

use super::{Server, get};
use cordwainer::xmlrpc::{Value, members};

fn text(value: &Value) -> &str {
    value.text().unwrap_or_else(|| panic!("{value:?} is no text"))
}

/// `cobbler_system`, state present, twice; then `cobbler_sync`, and state absent.
#[test]
fn ansibles_modules() {
    let server = Server::new("");
    let token = server.login("admin");
    let find = |name: &str| {
        let criteria = members([("name", name.into())]);
        let found = server.call("find_system", &[criteria, token.clone()]).unwrap();
        let Value::Array(mut found) = found else {
            panic!("{found:?}")
        };
        found.pop()
    };
    assert_eq!(find("web1"), None);
    let id = server.call("new_system", std::slice::from_ref(&token)).unwrap();
    let modify = |id: &Value, key: &str, value: Value| {
        let done = server.call("modify_system", &[id.clone(), key.into(), value, token.clone()]);
        assert_eq!(done, Ok(Value::Bool(true)), "{key}");
    };
    modify(&id, "name", "web1".into());
    modify(&id, "profile", "rocky9".into());
    modify(&id, "name_servers", ["192.0.2.3", "192.0.2.4"].into_iter().collect());
    modify(&id, "name_servers_search", "foo.com, bar.com".into());
    modify(
        &id,
        "kernel_options",
        members([
            ("console", ["tty0", "ttyS0"].into_iter().collect()),
            ("quiet", Value::Nil),
        ]),
    );
    let interfaces = members([
        ("macaddress-eth0", Value::from("00:01:02:03:04:05")),
        ("ipaddress-eth0", "192.0.2.44".into()),
        ("dnsname-eth0", "web1.foo.com".into()),
        ("static-eth0", true.into()),
        ("nosuchfield-eth0", "x".into()),
    ]);
    modify(&id, "modify_interface", interfaces);
    assert_eq!(
        server.call("save_system", &[id.clone(), token.clone()]),
        Ok(Value::Bool(true))
    );
    // What was written is read at once.
    let system = find("web1").unwrap();
    assert_eq!(
        get(&system, "name_servers"),
        &["192.0.2.3", "192.0.2.4"].into_iter().collect()
    );
    assert_eq!(
        get(get(&system, "kernel_options"), "console"),
        &["tty0", "ttyS0"].into_iter().collect()
    );
    let interface = get(get(&system, "interfaces"), "eth0");
    assert_eq!(text(get(interface, "mac_address")), "00:01:02:03:04:05");
    assert_eq!(get(interface, "static"), &Value::Bool(true));
    // New systems boot from their disk.
    assert_eq!(get(&system, "netboot_enabled"), &Value::Bool(false));
    // The second run changes one property; the handle is asked for with a token and, from 3.4 on, without.
    assert_eq!(server.call("version", &[]).unwrap(), Value::Double(3.31));
    let id = server
        .call("get_system_handle", &["web1".into(), token.clone()])
        .unwrap();
    assert_eq!(server.call("get_system_handle", &["web1".into()]), Ok(id.clone()));
    modify(&id, "netboot_enabled", true.into());
    assert_eq!(
        server.call("save_system", &[id.clone(), token.clone()]),
        Ok(Value::Bool(true))
    );
    assert_eq!(get(&find("web1").unwrap(), "netboot_enabled"), &Value::Bool(true));
    assert_eq!(
        server
            .session
            .run(&["system", "find", "--netboot-enabled=1"])
            .succeeded()
            .out,
        "web1\n"
    );
    let all = server.call("get_systems", &[]).unwrap();
    assert!(matches!(&all, Value::Array(all) if all.len() == 1), "{all:?}");
    assert_eq!(server.call("sync", std::slice::from_ref(&token)), Ok(Value::Bool(true)));
    modify(&id, "netboot_enabled", false.into());
    assert_eq!(server.call("save_system", &[id, token.clone()]), Ok(Value::Bool(true)));
    assert_eq!(server.session.run(&["system", "find", "--netboot-enabled=1"]).code, 1);
    assert_eq!(
        server.call("remove_system", &["web1".into(), token.clone()]),
        Ok(Value::Bool(true))
    );
    assert_eq!(find("web1"), None);
}

/// The fields that `cobblerclient` sends of each object, all of them, as `updateCobblerFields` does.
fn all_of(kind: &str) -> Vec<(&'static str, Value)> {
    let none = || Value::Struct(std::collections::BTreeMap::new());
    let inherit = || Value::from("<<inherit>>");
    let empty = || Value::Array(Vec::new());
    let mut fields = vec![
        ("comment", "made by terraform".into()),
        (
            "kernel_options",
            members([("a", Value::from("1")), ("quiet", "".into())]),
        ),
        ("kernel_options_post", none()),
        ("autoinstall_meta", none()),
        ("fetchable_files", inherit()),
        ("boot_files", inherit()),
        ("template_files", none()),
        ("owners", inherit()),
        ("mgmt_classes", empty()),
        ("mgmt_parameters", inherit()),
        ("boot_loaders", inherit()),
    ];
    if kind == "distro" {
        fields.extend([
            ("arch", "x86_64".into()),
            ("breed", "redhat".into()),
            ("os_version", "rhel9".into()),
            ("source_repos", empty()),
            ("tree_build_time", 0.0.into()),
            ("redhat_management_key", inherit()),
            ("remote_boot_kernel", "".into()),
            ("remote_boot_initrd", "".into()),
        ]);
        return fields;
    }
    fields.extend([
        ("autoinstall", inherit()),
        ("enable_ipxe", inherit()),
        ("name_servers", empty()),
        ("name_servers_search", empty()),
        ("next_server_v4", "<<inherit>>".into()),
        ("next_server_v6", "<<inherit>>".into()),
        ("filename", "".into()),
        ("proxy", inherit()),
        ("redhat_management_key", inherit()),
        ("server", inherit()),
        ("virt_auto_boot", inherit()),
        ("virt_cpus", 2_i64.into()),
        ("virt_disk_driver", inherit()),
        ("virt_file_size", 5.0.into()),
        ("virt_path", inherit()),
        ("virt_ram", 2048_i64.into()),
        ("virt_type", inherit()),
    ]);
    match kind {
        "profile" => fields.extend([
            ("dhcp_tag", "".into()),
            ("enable_menu", true.into()),
            ("menu", "".into()),
            ("repos", empty()),
            ("virt_bridge", inherit()),
        ]),
        _ => fields.extend([
            ("gateway", "".into()),
            ("hostname", "tf1.example.org".into()),
            ("ipv6_autoconfiguration", false.into()),
            ("ipv6_default_device", "".into()),
            ("netboot_enabled", false.into()),
            ("power_address", "".into()),
            ("power_id", "".into()),
            ("power_pass", "".into()),
            ("power_type", "ipmilanplus".into()),
            ("power_user", "".into()),
            ("power_options", "".into()),
            ("power_identity_file", "".into()),
            ("repos_enabled", false.into()),
            ("serial_device", (-1_i64).into()),
            ("serial_baud_rate", (-1_i64).into()),
            ("status", "production".into()),
            ("virt_pxe_boot", false.into()),
        ]),
    }
    fields
}

/// `CreateProfile`, `UpdateProfile`, `CreateSystem` with an interface, `UpdateSystem` without saving, `Sync`, reading back, deleting.
#[test]
fn terraforms_provider() {
    let server = Server::new("");
    let token = server.login("admin");
    let call = server.calls_with(&token);
    let version = server.call("extended_version", &[]).unwrap();
    assert!(matches!(get(&version, "version_tuple"), Value::Array(three) if three.len() == 3));
    let set = |kind: &str, id: &Value, first: &[(&'static str, Value)]| {
        for (field, value) in first.iter().cloned().chain(all_of(kind)) {
            let done = call(&format!("modify_{kind}"), &[id.clone(), field.into(), value]);
            assert_eq!(done, Value::Bool(true), "{kind} {field}");
        }
    };
    let kernel = server.session.path("el9/images/pxeboot/vmlinuz").display().to_string();
    let initrd = server
        .session
        .path("el9/images/pxeboot/initrd.img")
        .display()
        .to_string();
    let id = call("new_distro", &[]);
    set(
        "distro",
        &id,
        &[
            ("name", "tfd".into()),
            ("kernel", kernel.into()),
            ("initrd", initrd.into()),
        ],
    );
    assert_eq!(call("save_distro", &[id,]), Value::Bool(true));
    // The provider gives both ways to stand on something, one of them empty.
    let id = call("new_profile", &[]);
    set(
        "profile",
        &id,
        &[("name", "tfp".into()), ("parent", "".into()), ("distro", "tfd".into())],
    );
    call("save_profile", &[id]);
    let id = call("new_profile", &[]);
    set(
        "profile",
        &id,
        &[
            ("name", "tfsub".into()),
            ("parent", "tfp".into()),
            ("distro", "".into()),
        ],
    );
    call("save_profile", &[id]);
    assert_eq!(
        text(get(
            &call("get_profile", &["tfsub".into(), false.into(), false.into()]),
            "parent"
        )),
        "tfp"
    );
    // A system that there is not is `~`.
    assert_eq!(
        call("get_system", &["tf1".into(), false.into(), false.into()]),
        Value::from("~")
    );
    let id = call("new_system", &[]);
    set(
        "system",
        &id,
        &[
            ("name", "tf1".into()),
            ("profile", "tfsub".into()),
            ("image", "".into()),
        ],
    );
    assert_eq!(
        server.call("save_system", &[id, token.clone(), "new".into()]),
        Ok(Value::Bool(true))
    );
    let handle = call("get_item_handle", &["system".into(), "tf1".into()]);
    let interface = members([
        ("mac_address-eth0", Value::from("52:54:00:00:00:77")),
        ("ip_address-eth0", "192.0.2.77".into()),
        ("cnames-eth0", ["a", "b"].into_iter().collect()),
        ("interface_type-eth0", "na".into()),
        ("static_routes-eth0", Value::Array(Vec::new())),
        ("ipv6_secondaries-eth0", Value::Array(Vec::new())),
        ("static-eth0", true.into()),
        ("management-eth0", false.into()),
    ]);
    assert_eq!(
        call("modify_system", &[handle.clone(), "modify_interface".into(), interface]),
        Value::Bool(true)
    );
    server
        .call("save_system", &[handle.clone(), token.clone(), "bypass".into()])
        .unwrap();
    // An update is not saved by the provider: it counts from the sync on.
    assert_eq!(
        call("modify_system", &[handle, "comment".into(), "changed".into()]),
        Value::Bool(true)
    );
    assert_eq!(call("sync", &[]), Value::Bool(true));
    let system = call("get_system", &["tf1".into(), false.into(), false.into()]);
    assert_eq!(text(get(&system, "comment")), "changed");
    assert_eq!(text(get(&system, "power_type")), "ipmilanplus");
    assert_eq!(get(&system, "virt_ram"), &Value::Int(2048));
    assert_eq!(get(&system, "virt_file_size"), &Value::Double(5.0));
    assert_eq!(get(&system, "boot_loaders"), &Value::from("<<inherit>>"));
    let interface = get(get(&system, "interfaces"), "eth0").members().unwrap();
    // The client knows an interface by having just so many fields, the first of them this one.
    assert_eq!(
        (interface.len(), interface.keys().next().unwrap().as_str()),
        (23, "bonding_opts")
    );
    // Its menus, snippets and templates are read; a page, and names only.
    let page = call(
        "find_items_paged",
        &[
            "system".into(),
            members([("profile", "tf*".into())]),
            "name".into(),
            1_i64.into(),
            10_i64.into(),
        ],
    );
    assert_eq!(get(get(&page, "pageinfo"), "num_items"), &Value::Int(1));
    assert_eq!(
        call(
            "find_system",
            &[members([("mac_address", "52:54:00:00:00:77".into())]), false.into()]
        ),
        ["tf1"].into_iter().collect()
    );
    for (kind, name) in [
        ("system", "tf1"),
        ("profile", "tfsub"),
        ("profile", "tfp"),
        ("distro", "tfd"),
    ] {
        let done = server.call(&format!("remove_{kind}"), &[name.into(), token.clone(), false.into()]);
        assert_eq!(done, Ok(Value::Bool(true)), "{kind} {name}");
    }
    assert_eq!(call("logout", &[]), Value::Bool(true));
    assert!(server.call("get_settings", std::slice::from_ref(&token)).is_err());
}

fn registration(name: &str, mac: &str, address: &str) -> Value {
    let interface = |mac: &str, address: &str, bridge: i64| {
        members([
            ("ip_address", Value::from(address)),
            ("mac_address", mac.into()),
            ("netmask", "255.255.255.0".into()),
            ("bridge", bridge.into()),
            ("module", "".into()),
        ])
    };
    let interfaces = members([
        ("lo", interface("?", "127.0.0.1", 0)),
        ("eth0", interface(mac, address, 0)),
    ]);
    members([
        ("name", Value::from(name)),
        ("profile", "rocky9".into()),
        ("hostname", format!("{name}.example.org").into()),
        ("interfaces", interfaces),
    ])
}

/// `get_profiles`, then `register_new_system`; refused where it is off, never over what there is, never armed, and not without end.
#[test]
fn cobbler_register() {
    let server = Server::new("");
    let off = server.call(
        "register_new_system",
        &[registration("a1", "52:54:00:00:00:01", "192.0.2.1")],
    );
    assert!(off.unwrap_err().contains("registration is disabled"));
    let server = Server::new("register = \"on\"");
    let Value::Array(profiles) = server.call("get_profiles", &[]).unwrap() else {
        panic!()
    };
    assert!(profiles.iter().any(|profile| text(get(profile, "name")) == "rocky9"));
    let register =
        |name: &str, mac: &str, address: &str| server.call("register_new_system", &[registration(name, mac, address)]);
    assert_eq!(register("a1", "52:54:00:00:00:01", "192.0.2.1"), Ok(Value::Int(0)));
    let report = server
        .session
        .run(&["--json", "system", "report", "a1"])
        .succeeded()
        .json();
    assert_eq!(report[0]["netboot_enabled"], false);
    assert_eq!(report[0]["interfaces"]["eth0"]["mac_address"], "52:54:00:00:00:01");
    assert!(report[0]["interfaces"].get("lo").is_none());
    for (name, mac, address, why) in [
        ("a1", "52:54:00:00:00:02", "192.0.2.2", "system name conflicts"),
        ("a2", "52:54:00:00:00:01", "192.0.2.2", "mac conflict"),
        ("a2", "52:54:00:00:00:02", "192.0.2.1", "ip conflict"),
    ] {
        let fault = register(name, mac, address).unwrap_err();
        assert!(fault.contains(why), "{fault}");
    }
    let mut taken = registration("a3", "52:54:00:00:00:03", "192.0.2.3");
    if let Value::Struct(members) = &mut taken {
        members.insert("hostname".into(), "a1.example.org".into());
    }
    let fault = server.call("register_new_system", &[taken]).unwrap_err();
    assert!(fault.contains("hostname conflicts"), "{fault}");
    let many = (10..30).map(|n| {
        register(
            &format!("b{n}"),
            &format!("52:54:00:00:01:{n}"),
            &format!("192.0.2.{n}"),
        )
    });
    let refused: Vec<String> = many.filter_map(Result::err).collect();
    assert!(
        refused.len() >= 12 && refused[0].contains("too many registrations"),
        "{refused:?}"
    );
}

/// How Cobbler's own command line speaks to its daemon.
#[test]
fn cobblers_own_command_line() {
    let server = Server::new("");
    let token = server.login("admin");
    let edit = |name: &str, what: &str, fields: Value| {
        server.call(
            "xapi_object_edit",
            &["system".into(), name.into(), what.into(), fields, token.clone()],
        )
    };
    let add = members([
        ("name", Value::from("x1")),
        ("profile", "rocky9".into()),
        ("interface", "eth0".into()),
        ("mac_address", "52:54:00:00:00:21".into()),
        ("kernel_options", "a=1 b=2".into()),
    ]);
    assert_eq!(edit("x1", "add", add.clone()), Ok(Value::Bool(true)));
    assert!(edit("x1", "add", add).is_err());
    let more = members([("kernel_options", Value::from("c=3 !a")), ("in_place", true.into())]);
    assert_eq!(edit("x1", "edit", more), Ok(Value::Bool(true)));
    let x1 = server.call("get_system", &["x1".into(), token.clone()]).unwrap();
    assert_eq!(
        get(&x1, "kernel_options"),
        &members([("b", Value::from("2")), ("c", "3".into())])
    );
    assert_eq!(
        edit("x1", "copy", members([("newname", Value::from("x2"))])),
        Ok(Value::Bool(true))
    );
    assert_eq!(
        edit("x2", "rename", members([("newname", Value::from("x3"))])),
        Ok(Value::Bool(true))
    );
    assert_eq!(
        edit("x3", "remove", members([("name", Value::from("x3"))])),
        Ok(Value::Bool(true))
    );
    let id = server
        .call("background_sync", &[members([("verbose", true.into())]), token.clone()])
        .unwrap();
    let Value::Array(status) = server.call("get_task_status", std::slice::from_ref(&id)).unwrap() else {
        panic!()
    };
    assert_eq!(status[2], "complete".into());
    assert!(text(&server.call("get_event_log", &[id]).unwrap()).contains("TASK COMPLETE"));
    let id = server
        .call("background_validate_autoinstall_files", &[members::<String>([]), token])
        .unwrap();
    let log = server.call("get_event_log", &[id]).unwrap();
    assert!(text(&log).contains("TASK"), "{log:?}");
}
