//! Our read API beside that of a real Cobbler 3.3.10: the same calls make the same inventory on both, then every question is put to both,
//! and what both say of a field is the same, or stands in [`DIFFERENT`] with the reason.

use super::Server;
use super::real::Real;
use cordwainer::xmlrpc::{Value, members};
use std::collections::BTreeMap;

/// What differs on purpose: the method, the path of the field in its answer (`*` is one part of a path, `**` any number), and why.
const DIFFERENT: &[(&str, &str, &str)] = &[
    ("*", "**.ctime", "each side says when it made its own"),
    ("*", "**.mtime", "each side says when it changed its own"),
    ("*", "**.uid", "ours follows from kind and name, Cobbler's is random"),
    (
        "*",
        "**.interfaces.*.bonding_opts",
        "a mode's number is kept as its name, which bonds take as well and people read",
    ),
    (
        "*",
        "**.interfaces.*.virt_bridge",
        "none is the profile's, as nothing says of the others; Cobbler says that it is inherited, and resolves it from its settings",
    ),
    ("get_blended_data", "bonding_opts_bond0", "the same, flattened"),
    (
        "find_*",
        "",
        "Cobbler faults where it has nothing to compare by, or a number or flag to compare with, and finds no MAC by a glob; ours finds",
    ),
    (
        "get_distro resolved",
        "owners",
        "Cobbler adds `admin` of its settings; ours has users with roles",
    ),
    ("get_profile resolved", "owners", "the same"),
    ("get_system resolved", "owners", "the same"),
    (
        "get_profile resolved",
        "autoinstall",
        "without a template ours takes the one of the distro's family, Cobbler one that is called default.ks",
    ),
    ("get_profile resolved", "kickstart", "the same under its old name"),
    ("get_system resolved", "autoinstall", "the same"),
    ("get_system resolved", "kickstart", "the same"),
    ("get_system resolved", "virt_type", "Cobbler leaves this one unresolved"),
    (
        "get_system resolved",
        "virt_disk_driver",
        "Cobbler leaves this one unresolved",
    ),
    ("get_image resolved", "owners", "as get_profile with `resolved`"),
    (
        "get_image resolved",
        "autoinstall",
        "nothing renders an answer file for an image; Cobbler names one that is called default.ks",
    ),
    ("get_image resolved", "kickstart", "the same under its old name"),
    ("get_image resolved", "virt_type", "Cobbler leaves this one unresolved"),
    (
        "get_image_as_rendered",
        "",
        "Cobbler faults, for it cannot put its own answer into words; koan --image needs it",
    ),
    (
        "get_system_as_rendered",
        "",
        "the same of a system that stands on an image",
    ),
    (
        "get_*_as_rendered",
        "kernel",
        "a path that koan can fetch, not one on the server",
    ),
    ("get_*_as_rendered", "initrd", "the same"),
    (
        "get_*_as_rendered",
        "autoinstall_meta",
        "anyone may ask: only the tree, and as the struct that newer koans read; `ks_meta` is the text",
    ),
    (
        "get_*_as_rendered",
        "os_version",
        "what virt-install knows by this name; none where an old one may not",
    ),
    (
        "get_*_as_rendered",
        "virt_file_size",
        "koan takes `10` or `5,10`, and reads 10.0 as 1",
    ),
    (
        "get_*_as_rendered",
        "virt_cpus",
        "a sub-profile of ours inherits; Cobbler gives it 1",
    ),
    (
        "get_*_as_rendered",
        "name_servers",
        "the nearest list counts; Cobbler joins those of all layers, three of which an installer cannot use",
    ),
    ("find_system_by_dns_name", "kernel", "as get_system_as_rendered"),
    ("find_system_by_dns_name", "initrd", "as get_system_as_rendered"),
    (
        "find_system_by_dns_name",
        "autoinstall_meta",
        "as get_system_as_rendered",
    ),
    ("find_system_by_dns_name", "virt_file_size", "as get_system_as_rendered"),
    (
        "get_blended_data",
        "default_password_crypted",
        "a secret; Cobbler shows its own to anyone",
    ),
    ("get_blended_data", "owners", "as get_system with `resolved`"),
    (
        "get_blended_data",
        "redhat_management_server",
        "no address of somebody else's is a default here",
    ),
    (
        "get_blended_data",
        "repos",
        "a list for templates; Cobbler's is a text where there are none",
    ),
    (
        "get_blended_data",
        "hostname",
        "where none is given it is the system's name",
    ),
    ("get_blended_data", "name_servers", "as get_system_as_rendered"),
    ("extended_version", "gitstamp", "who answers"),
    ("extended_version", "gitdate", "when Cobbler was made"),
    ("extended_version", "builddate", "when Cobbler was made"),
    (
        "get_settings",
        "enable_menu",
        "strangers get a menu only where the configuration says so",
    ),
    (
        "get_settings",
        "manage_tftpd",
        "no TFTP server of anybody else's is managed: there is one inside",
    ),
    ("get_valid_archs", "", "those that are taken here"),
    ("get_valid_breeds", "", "the families that there are signatures of"),
    (
        "get_autoinstall_templates",
        "",
        "the templates that come with it; none of Cobbler's does",
    ),
];

/// How they are asked.
struct Both {
    real: Real,
    ours: Server,
    real_token: Value,
    our_token: Value,
    compared: usize,
    only_ours: BTreeMap<String, usize>,
    only_real: BTreeMap<String, usize>,
    used: Vec<usize>,
    wrong: Vec<String>,
}

/// Stands for the token among the arguments.
const TOKEN: &str = "the token";

fn with(arguments: &[Value], token: &Value) -> Vec<Value> {
    let is_token = |value: &Value| value.text() == Some(TOKEN);
    arguments
        .iter()
        .map(|value| if is_token(value) { token.clone() } else { value.clone() })
        .collect()
}

/// True when `text` fits `pattern`: words between dots, `*` in them for a part of one or one, `**` for any number.
fn fits(pattern: &[&str], text: &[&str]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => (0..=text.len()).any(|skipped| fits(rest, &text[skipped..])),
        (Some((first, rest)), Some((word, more))) => {
            let parts: Vec<&str> = first.split('*').collect();
            let one = match parts.as_slice() {
                [all] => all == word,
                [start, end] => word.len() >= start.len() + end.len() && word.starts_with(start) && word.ends_with(end),
                _ => unreachable!("{first}"),
            };
            one && fits(rest, more)
        }
        _ => false,
    }
}

fn words(path: &str) -> Vec<&str> {
    path.split('.').filter(|word| !word.is_empty()).collect()
}

/// Values without what neither means: blanks at the end of a text, which order words of options stand in, and the repetitions that
/// Cobbler's lists gather.
fn plain(name: &str, value: &Value) -> Value {
    const WORDS: [&str; 4] = ["kernel_options", "kernel_options_post", "autoinstall_meta", "ks_meta"];
    match value {
        Value::Text(text) if WORDS.contains(&name) => {
            let mut words: Vec<&str> = text.split_whitespace().collect();
            words.sort_unstable();
            words.join(" ").into()
        }
        Value::Text(text) => text.trim_end().into(),
        Value::Array(items) => {
            let mut seen: Vec<Value> = Vec::new();
            for item in items.iter().map(|item| plain("", item)) {
                if !seen.contains(&item) {
                    seen.push(item);
                }
            }
            Value::Array(seen)
        }
        value => value.clone(),
    }
}

/// A list of objects by name, a list of names in order: neither side promises one.
fn ordered(value: Value) -> Value {
    let Value::Array(items) = value else { return value };
    let name = |item: &Value| item.members()?.get("name")?.text().map(str::to_owned);
    if !items.is_empty() && items.iter().all(|item| name(item).is_some()) {
        return members(items.into_iter().map(|item| (name(&item).unwrap(), item)));
    }
    let mut items = items;
    items.sort_by_key(|item| format!("{item:?}"));
    Value::Array(items)
}

impl Both {
    /// Asks both, and compares under `what`. Ours gets the token too where the real one needs none.
    fn ask(&mut self, what: &str, method: &str, arguments: &[Value]) {
        let real = self.real.call(method, &with(arguments, &self.real_token));
        let mut own = with(arguments, &self.our_token);
        if !own.contains(&self.our_token) {
            own.push(self.our_token.clone());
        }
        let ours = self.ours.call(method, &own);
        match (real, ours) {
            (Ok(real), Ok(ours)) => self.compare(what, "", &ordered(real), &ordered(ours)),
            (real, ours) if real == ours => self.compared += 1,
            (real, ours) => self.differ(what, "", &format!("{real:?}"), &format!("{ours:?}")),
        }
    }

    fn compare(&mut self, what: &str, path: &str, real: &Value, ours: &Value) {
        let are_objects =
            |value: &Value| matches!(value, Value::Array(items) if items.iter().any(|item| item.members().is_some()));
        if are_objects(real) && are_objects(ours) {
            return self.compare(what, path, &ordered(real.clone()), &ordered(ours.clone()));
        }
        if let (Value::Struct(real), Value::Struct(ours)) = (real, ours) {
            for (name, value) in real {
                let below = format!("{path}.{name}");
                match ours.get(name) {
                    Some(own) => self.compare(what, &below, value, own),
                    None => *self.only_real.entry(name.clone()).or_default() += 1,
                }
            }
            for name in ours.keys().filter(|name| !real.contains_key(*name)) {
                *self.only_ours.entry(name.clone()).or_default() += 1;
            }
            return;
        }
        let name = path.rsplit('.').next().unwrap_or_default();
        self.compared += 1;
        if plain(name, real) != plain(name, ours) {
            self.differ(what, path, &format!("{real:?}"), &format!("{ours:?}"));
        }
    }

    fn differ(&mut self, what: &str, path: &str, real: &str, ours: &str) {
        let found = DIFFERENT
            .iter()
            .position(|(method, field, _)| fits(&[method], &[what]) && fits(&words(field), &words(path)));
        match found {
            Some(place) => self.used.push(place),
            None => self
                .wrong
                .push(format!("{what}{path}:\n    real {real}\n    ours {ours}")),
        }
    }

    /// Does the same on both; both take it.
    fn both(&self, method: &str, arguments: &[Value]) -> (Value, Value) {
        let real = self.real.call(method, &with(arguments, &self.real_token));
        let ours = self.ours.call(method, &with(arguments, &self.our_token));
        (
            real.unwrap_or_else(|fault| panic!("real {method}{arguments:?}: {fault}")),
            ours.unwrap_or_else(|fault| panic!("ours {method}{arguments:?}: {fault}")),
        )
    }

    /// Makes an object of both, or changes it, by the words that every client uses.
    fn make(&self, kind: &str, new: &str, name: &str, fields: &[(&str, Value)]) {
        let (real, ours) = self.both(new, &[TOKEN.into()]);
        let set = |field: &str, value: &Value| {
            let modify = format!("modify_{kind}");
            let real = self.real.call(
                &modify,
                &[real.clone(), field.into(), value.clone(), self.real_token.clone()],
            );
            let ours = self.ours.call(
                &modify,
                &[ours.clone(), field.into(), value.clone(), self.our_token.clone()],
            );
            assert_eq!(
                (&real, &ours),
                (&Ok(true.into()), &Ok(true.into())),
                "{kind} {name} {field}"
            );
        };
        set("name", &name.into());
        for (field, value) in fields {
            set(field, value);
        }
        let save = format!("save_{kind}");
        let real = self.real.call(&save, &[real.clone(), self.real_token.clone()]);
        let ours = self.ours.call(&save, &[ours.clone(), self.our_token.clone()]);
        assert_eq!((&real, &ours), (&Ok(true.into()), &Ok(true.into())), "{kind} {name}");
    }
}

fn inventory(both: &Both) {
    let kernel = both
        .ours
        .session
        .path("el9/images/pxeboot/vmlinuz")
        .display()
        .to_string();
    let initrd = both
        .ours
        .session
        .path("el9/images/pxeboot/initrd.img")
        .display()
        .to_string();
    both.make(
        "distro",
        "new_distro",
        "el9",
        &[
            ("kernel", kernel.as_str().into()),
            ("initrd", initrd.as_str().into()),
            ("arch", "x86_64".into()),
            ("breed", "redhat".into()),
            ("os_version", "rhel9".into()),
            (
                "kernel_options",
                "console=tty0 console=ttyS0,115200 lang=en rd.debug".into(),
            ),
            (
                "autoinstall_meta",
                members([("site", "one".into()), ("tree", "http://mirror.example.org/el9".into())]),
            ),
            ("kernel_options_post", "selinux=0".into()),
            ("comment", "a distro".into()),
        ],
    );
    both.make(
        "distro",
        "new_distro",
        "deb11",
        &[
            ("kernel", kernel.as_str().into()),
            ("initrd", initrd.as_str().into()),
            ("arch", "aarch64".into()),
            ("breed", "debian".into()),
            ("os_version", "bullseye".into()),
            ("boot_loaders", "grub".into()),
            ("mgmt_classes", "a b".into()),
            ("owners", "me you".into()),
            ("boot_files", "a=b".into()),
        ],
    );
    both.make(
        "profile",
        "new_profile",
        "base",
        &[
            ("distro", "el9".into()),
            ("autoinstall", "site.ks".into()),
            ("kernel_options", "quiet lang=de".into()),
            ("name_servers", "192.0.2.53 192.0.2.54".into()),
            ("name_servers_search", "example.org".into()),
            ("virt_ram", Value::Int(4096)),
            ("virt_cpus", Value::Int(2)),
            ("virt_file_size", "10".into()),
            ("virt_bridge", "br0".into()),
            ("proxy", "http://proxy.example.org:3128".into()),
            ("enable_menu", false.into()),
            ("dhcp_tag", "x".into()),
            ("comment", "c".into()),
        ],
    );
    both.make(
        "profile",
        "new_subprofile",
        "asub",
        &[
            ("parent", "base".into()),
            ("kernel_options", "!quiet net.ifnames=0".into()),
            ("autoinstall_meta", "k=v flag two=1 two=2".into()),
            ("virt_ram", "<<inherit>>".into()),
        ],
    );
    both.make("profile", "new_profile", "plain", &[("distro", "deb11".into())]);
    let interfaces = |fields: &[(&str, &str)]| members(fields.iter().map(|(name, value)| (*name, (*value).into())));
    both.make(
        "system",
        "new_system",
        "web1",
        &[
            ("profile", "base".into()),
            ("hostname", "web1.example.org".into()),
            ("gateway", "10.0.0.1".into()),
            ("status", "production".into()),
            ("kernel_options", "!lang nodes=3".into()),
            ("comment", "web".into()),
            (
                "modify_interface",
                interfaces(&[
                    ("macaddress-eth0", "52:54:00:00:00:01"),
                    ("ipaddress-eth0", "10.0.0.5"),
                    ("netmask-eth0", "255.255.255.0"),
                    ("dnsname-eth0", "web1.example.org"),
                    ("interfacetype-eth0", "bond_slave"),
                    ("interfacemaster-eth0", "bond0"),
                    ("mtu-eth0", "1500"),
                    ("ipaddress-bond0", "10.0.1.5"),
                    ("interfacetype-bond0", "bond"),
                    ("bondingopts-bond0", "mode=1 miimon=100"),
                    ("netmask-bond0", "255.255.0.0"),
                    ("static-bond0", "1"),
                    ("management-bond0", "1"),
                    ("staticroutes-bond0", "10.9.0.0/16:10.0.1.1"),
                    ("cnames-bond0", "a.example.org b.example.org"),
                ]),
            ),
        ],
    );
    both.make(
        "system",
        "new_system",
        "web2",
        &[
            ("profile", "asub".into()),
            ("virt_type", "qemu".into()),
            ("virt_ram", Value::Int(1024)),
            ("virt_file_size", "20".into()),
            ("virt_auto_boot", true.into()),
            ("virt_path", "/srv/guests".into()),
            ("power_address", "10.0.0.99".into()),
            ("power_user", "root".into()),
            ("serial_device", Value::Int(0)),
            ("serial_baud_rate", Value::Int(115_200)),
            ("name_servers", "192.0.2.1".into()),
            ("ipv6_autoconfiguration", true.into()),
            ("boot_loaders", "ipxe".into()),
            ("autoinstall_meta", "site=two".into()),
            ("owners", "ops".into()),
            (
                "modify_interface",
                interfaces(&[
                    ("macaddress-eth0", "52:54:00:00:00:02"),
                    ("virtbridge-eth0", "br7"),
                    ("dhcptag-eth0", "t"),
                    ("macaddress-eth1", "52:54:00:00:00:03"),
                    ("virtbridge-eth1", "<<inherit>>"),
                ]),
            ),
        ],
    );
    both.make("system", "new_system", "bare", &[("profile", "plain".into())]);
    let iso = both.ours.session.write("rescue.iso", "not looked at");
    both.make(
        "image",
        "new_image",
        "rescue",
        &[
            ("image_type", "iso".into()),
            ("file", iso.as_str().into()),
            ("arch", "x86_64".into()),
            ("breed", "redhat".into()),
            ("os_version", "rhel9".into()),
            ("network_count", Value::Int(2)),
            ("virt_ram", Value::Int(512)),
            ("virt_bridge", "br0".into()),
            ("virt_file_size", "5".into()),
            ("comment", "an image".into()),
            ("owners", "me".into()),
        ],
    );
    both.make("image", "new_image", "plain", &[("file", "/srv/none.bin".into())]);
    both.make("system", "new_system", "onimage", &[("image", "rescue".into())]);
}

const NAMES: [(&str, &[&str]); 4] = [
    ("distro", &["el9", "deb11"]),
    ("profile", &["base", "asub", "plain"]),
    ("system", &["web1", "web2", "bare", "onimage"]),
    ("image", &["rescue", "plain"]),
];

fn objects(both: &mut Both) {
    for (kind, names) in NAMES {
        let get = format!("get_{kind}");
        let rendered = format!("get_{kind}_as_rendered");
        for name in names.iter().copied().chain(["nobody"]) {
            both.ask(&get, &get, &[name.into(), false.into(), false.into(), TOKEN.into()]);
            both.ask(
                &format!("{get} resolved"),
                &get,
                &[name.into(), false.into(), true.into(), TOKEN.into()],
            );
            both.ask(
                &get,
                "get_item",
                &[kind.into(), name.into(), false.into(), false.into()],
            );
            both.ask("has_item", "has_item", &[kind.into(), name.into(), TOKEN.into()]);
            both.ask(&rendered, &rendered, &[name.into(), TOKEN.into()]);
        }
        let handle = format!("get_{kind}_handle");
        both.ask(&handle, &handle, &["nobody".into(), TOKEN.into()]);
        let (all, find) = (format!("get_{kind}s"), format!("find_{kind}"));
        both.ask(&all, &all, &["".into(), "".into(), TOKEN.into()]);
        both.ask(&all, "get_items", &[kind.into()]);
        both.ask("get_item_names", "get_item_names", &[kind.into()]);
        both.ask(&find, &find, &[members::<&str>([]), false.into(), TOKEN.into()]);
        for page in 1..=3_i64 {
            let size = Value::Int(2);
            both.ask(
                "paged",
                "find_items_paged",
                &[
                    kind.into(),
                    members([("comment", "*".into())]),
                    "name".into(),
                    page.into(),
                    size,
                    TOKEN.into(),
                ],
            );
        }
    }
}

fn searches(both: &mut Both) {
    let all: [(&str, &[(&str, Value)]); 3] = [
        (
            "find_system",
            &[
                ("name", "WEB1".into()),
                ("name", "w*".into()),
                ("hostname", "web1*".into()),
                ("hostname", "nobody".into()),
                ("mac_address", "52:54:00:00:00:02".into()),
                ("mac_address", "52:54:*".into()),
                ("ip_address", "10.0.0.5".into()),
                ("interface_type", "bond".into()),
                ("profile", "asub".into()),
                ("status", "production".into()),
                ("netboot_enabled", "1".into()),
                ("comment", "WEB".into()),
                ("kernel_options", "nodes=3".into()),
                ("name_servers", "192.0.2.1".into()),
                ("owners", "ops".into()),
                ("virt_ram", Value::Int(1024)),
                ("virt_ram", "1024".into()),
                ("nonsense", "x".into()),
            ],
        ),
        (
            "find_profile",
            &[
                ("name", "?ase".into()),
                ("distro", "el9".into()),
                ("parent", "base".into()),
                ("kernel_options", "quiet".into()),
                ("kernel_options", "lang=de quiet".into()),
                ("enable_menu", false.into()),
                ("name_servers", "192.0.2.53".into()),
                ("name_servers", "192.0.2.53 192.0.2.54".into()),
                ("virt_type", "kvm".into()),
            ],
        ),
        (
            "find_distro",
            &[
                ("breed", "redhat".into()),
                ("arch", "x86_64".into()),
                ("os_version", "rhel*".into()),
                ("kernel", "*vmlinuz".into()),
                ("mgmt_classes", "a".into()),
            ],
        ),
    ];
    for (method, criteria) in all {
        for (field, value) in criteria {
            let wanted = members([(*field, value.clone())]);
            both.ask(method, method, &[wanted.clone(), false.into(), TOKEN.into()]);
            both.ask(method, method, &[wanted, true.into(), TOKEN.into()]);
        }
    }
}

fn the_rest(both: &mut Both) {
    for (profile, system) in [
        ("base", ""),
        ("asub", ""),
        ("plain", ""),
        ("", "web1"),
        ("", "web2"),
        ("base", "web1"),
    ] {
        both.ask("get_blended_data", "get_blended_data", &[profile.into(), system.into()]);
    }
    for method in [
        "ping",
        "version",
        "extended_version",
        "get_valid_archs",
        "get_valid_breeds",
        "get_repos",
        "get_images",
        "get_menus",
        "get_mgmtclasses",
        "get_packages",
        "get_files",
    ] {
        both.ask(method, method, &[]);
    }
    for (method, arguments) in [
        ("token_check", vec![TOKEN.into()]),
        ("get_user_from_token", vec![TOKEN.into()]),
        ("check_access_no_fail", vec![TOKEN.into(), "sync".into()]),
        ("get_autoinstall_templates", vec![TOKEN.into()]),
        ("get_settings", vec![TOKEN.into()]),
        ("is_autoinstall_in_use", vec!["site.ks".into(), TOKEN.into()]),
        ("is_autoinstall_in_use", vec!["sample.ks".into(), TOKEN.into()]),
        ("find_system_by_dns_name", vec!["web1.example.org".into()]),
        ("get_valid_distro_boot_loaders", vec!["el9".into()]),
        ("get_valid_profile_boot_loaders", vec!["base".into()]),
        ("get_valid_system_boot_loaders", vec!["web1".into()]),
    ] {
        both.ask(method, method, &arguments);
    }
    // Last: Cobbler makes texts of what it serves from then on, and faults where it reads them again.
    for (kind, names) in NAMES {
        let get = format!("get_{kind}");
        for name in names {
            both.ask(&get, &get, &[(*name).into(), true.into(), false.into(), TOKEN.into()]);
        }
    }
}

#[test]
#[ignore = "long: needs Cobbler 3.3.10, which only the long run installs"]
fn what_cobbler_says_of_an_inventory_we_say_too() {
    let ours = Server::furnished("", "", |session| {
        session.write("etc/kickstarts/site.ks", "# of {{ hostname }}\n");
    });
    for kind in ["profile", "distro"] {
        for name in ["rocky9", "debian12"] {
            ours.session.run(&[kind, "remove", name]).succeeded();
        }
    }
    let template = |folder: &std::path::Path| {
        std::fs::write(folder.join("var/lib/cobbler/templates/site.ks"), "# of $hostname\n").unwrap();
    };
    let Some(real) = Real::start(&ours.session, 0, template) else {
        return;
    };
    let (real_token, our_token) = (real.login(), ours.login("admin"));
    let mut both = Both {
        real,
        ours,
        real_token,
        our_token,
        compared: 0,
        only_ours: BTreeMap::new(),
        only_real: BTreeMap::new(),
        used: Vec::new(),
        wrong: Vec::new(),
    };
    inventory(&both);
    objects(&mut both);
    searches(&mut both);
    the_rest(&mut both);
    println!(
        "{} values compared, {} differ for a reason in the table\nonly Cobbler: {:?}\nonly here: {:?}",
        both.compared,
        both.used.len(),
        both.only_real,
        both.only_ours
    );
    assert!(
        both.wrong.is_empty(),
        "{} differ:\n{}",
        both.wrong.len(),
        both.wrong.join("\n")
    );
    assert!(both.compared > 2000, "only {} values were compared", both.compared);
    for (place, (method, field, _)) in DIFFERENT.iter().enumerate() {
        assert!(
            both.used.contains(&place),
            "nothing differs any more in {method} {field}: take it out of the table"
        );
    }
}
