//! Hostile values in every sink: nothing may end its word, its line or its section.

use super::embedded::scripts_of;
use super::fixture::{DHCP, FAMILIES, answer, assets, defaults, world};
use super::scripts::{DIALECTS, launch};
use super::validators;
use cordwainer::boot::{Dialect, Menu, MenuEntry, MenuGroup, Script};
use cordwainer::inventory::{Entry, Layer};
use cordwainer::model::Firmware;
use cordwainer::render;

const VALUES: [&str; 21] = [
    "x\nreboot",
    "x\r\nreboot",
    "x; reboot",
    "x && reboot",
    "x || reboot",
    "# x",
    "${net0/ip}",
    "$(reboot)",
    "`reboot`",
    "'; reboot; '",
    "\" ; reboot ; \"",
    "\"",
    "'",
    "\\",
    "x\\",
    "{ }",
    "%end\n%post\nreboot",
    "x\u{2028}%end\u{2028}%post",
    "x\u{85}%end",
    "a\u{0}b",
    "x \" init=/bin/sh",
];

fn entry(key: &str, value: &str) -> Entry {
    Entry {
        key: key.into(),
        values: Some(vec![value.into()]),
        layer: Layer::Settings,
    }
}

/// The lines of a script that do something, without what they are told.
fn shape(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split_whitespace().next().unwrap_or("").to_owned())
        .collect()
}

#[test]
fn options_never_change_what_a_script_does() {
    for dialect in DIALECTS {
        let plain = render::script(&Script::Launch(Box::new(launch(dialect, Some(Firmware::Bios), "a=b"))));
        for value in VALUES {
            let mut hostile = launch(dialect, Some(Firmware::Bios), "a=b");
            hostile.options = vec![entry("first", "1"), entry("evil", value), entry("last", "2")];
            let text = render::script(&Script::Launch(Box::new(hostile)));
            let mut seen = shape(&text);
            if text.contains("left out") {
                // One line more, on the console, after the greeting.
                let at = text.lines().position(|line| line.contains("left out")).unwrap();
                assert!(
                    !text.lines().nth(at).unwrap().contains("reboot"),
                    "{dialect:?} {value:?}: the value is said"
                );
                seen.remove(at);
            }
            assert_eq!(seen, shape(&plain), "{dialect:?} {value:?}:\n{text}");
            let line = text.lines().find(|line| line.contains("first=1")).unwrap();
            assert!(
                line.contains("last=2"),
                "{dialect:?} {value:?}: the options after it are lost: {line}"
            );
            if dialect == Dialect::Ipxe {
                assert!(!line.contains("${"), "{line}");
                let words: Vec<&str> = line.split(' ').collect();
                assert_eq!(
                    words
                        .iter()
                        .filter(|word| matches!(**word, "||" | "&&" | ";") || word.starts_with('#'))
                        .count(),
                    1,
                    "{line}"
                );
            }
            if dialect == Dialect::Grub {
                validators::grub(value, &text);
            }
        }
    }
}

/// The words of a line as GRUB splits it, single quotes only, as our encoder writes them.
fn grub_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.trim().chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => quoted = !quoted,
            '\\' if !quoted => words.last_mut().unwrap().extend(chars.next()),
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    assert!(!quoted, "{line}");
    words
}

#[test]
fn grub_gets_each_option_as_one_word() {
    for value in VALUES {
        let mut hostile = launch(Dialect::Grub, Some(Firmware::Bios), "");
        hostile.options = vec![entry("evil", value)];
        let text = render::script(&Script::Launch(Box::new(hostile)));
        let line = text.lines().find(|line| line.contains("if linux")).unwrap();
        let words = grub_words(line.trim().strip_suffix("; then").unwrap());
        assert!(words.len() <= 4, "{words:?}");
        if let Some(word) = words.get(3) {
            assert_eq!(*word, format!("evil={value}"));
        }
    }
}

#[test]
fn texts_for_people_stay_text() {
    for dialect in DIALECTS {
        for value in VALUES {
            for firmware in [Some(Firmware::Bios), Some(Firmware::UefiX64), None] {
                let local = |because: &str| {
                    render::script(&Script::Local {
                        dialect,
                        firmware,
                        because: because.into(),
                    })
                };
                assert_eq!(shape(&local(value)), shape(&local("plain")), "{dialect:?} {value:?}");
                let menu = |title: &str| {
                    let entries = vec![MenuEntry {
                        title: title.into(),
                        profile: "rocky9".parse().unwrap(),
                        group: Some(0),
                    }];
                    let groups = vec![MenuGroup {
                        title: title.into(),
                        parent: None,
                    }];
                    render::script(&Script::Menu(Menu {
                        dialect,
                        firmware,
                        entries,
                        groups,
                        timeout_ms: 1000,
                    }))
                };
                assert_eq!(shape(&menu(value)), shape(&menu("plain")), "{dialect:?} {value:?}");
                if dialect == Dialect::Grub {
                    validators::grub(value, &local(value));
                    validators::grub(value, &menu(value));
                }
            }
        }
    }
}

#[test]
fn urls_stay_one_word() {
    for dialect in DIALECTS {
        for value in VALUES {
            let plain = launch(dialect, Some(Firmware::UefiX64), "");
            let mut hostile = launch(dialect, Some(Firmware::UefiX64), "");
            hostile.kernel = format!("http://192.168.77.1/d/{value}/vmlinuz");
            hostile.initrd = vec![format!("http://192.168.77.1/d/{value}/initrd")];
            let (hostile, plain) = [hostile, plain]
                .map(|launch| render::script(&Script::Launch(Box::new(launch))))
                .into();
            assert_eq!(shape(&hostile), shape(&plain), "{dialect:?} {value:?}");
            assert!(
                !hostile.contains("reboot\n") && !hostile.contains(" reboot"),
                "{hostile}"
            );
        }
    }
}

/// Every variable that an admin, or a machine's record, fills in.
fn hostile_meta(value: &str) -> cordwainer::inventory::Merged {
    let mut meta = cordwainer::inventory::Merged::default();
    for key in [
        "locale",
        "keyboard",
        "timezone",
        "disk",
        "proxy",
        "root_password_hash",
        "ssh_authorized_keys",
        "mirror_host",
        "mirror_directory",
        "suite",
        "domain",
        "lab_stop_at",
        "lab_poweroff",
        "product",
        "addons",
    ] {
        meta.entries.push(entry(key, value));
    }
    meta
}

#[test]
fn values_never_leave_their_place_in_an_answer_file() {
    let world = world(defaults(), assets());
    for family in FAMILIES {
        let plain = {
            let mut asked = answer(family, DHCP, "");
            asked.resolved.autoinstall_meta = hostile_meta("plain");
            render::answer_file(&asked, &world).unwrap()
        };
        for value in VALUES {
            let mut asked = answer(family, DHCP, "");
            asked.resolved.autoinstall_meta = hostile_meta(value);
            asked.resolved.kernel_options_post.entries = vec![entry("evil", value)];
            let text = render::answer_file(&asked, &world)
                .unwrap_or_else(|error| panic!("{} {value:?}: {error}", family.title));
            let sections = |text: &str| -> Vec<String> {
                // As Python's splitlines sees lines, and pykickstart with it.
                text.split(['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{85}', '\u{2028}', '\u{2029}'])
                    .filter(|line| line.starts_with('%'))
                    .map(str::to_owned)
                    .collect()
            };
            // XML and JSON have no lines.
            let lines = ["suse/", "agama/", "coreos/"];
            if !lines.iter().any(|folder| family.template.starts_with(folder)) {
                assert_eq!(sections(&text), sections(&plain), "{} {value:?}", family.title);
            }
            if family.template.starts_with("suse/") {
                // One element more for each word of `addons`.
                validators::xml(value, &text);
            } else if !family.template.starts_with("redhat/") {
                assert_eq!(
                    text.lines().count(),
                    plain.lines().count(),
                    "{} {value:?}:\n{text}",
                    family.title
                );
            }
            match family.title {
                "el9" => validators::kickstart(value, "RHEL9", &text),
                "debian13-iso" => validators::preseed(value, &text),
                _ => {}
            }
            let scripts = scripts_of(&text);
            assert_eq!(scripts.len(), scripts_of(&plain).len(), "{} {value:?}", family.title);
            for script in scripts
                .iter()
                .filter(|_| matches!(family.title, "el7" | "debian13-iso" | "ubuntu24" | "sles15" | "sles16"))
            {
                validators::shell(value, script);
            }
        }
    }
}

#[test]
fn a_package_that_is_none_is_refused() {
    let world = world(defaults(), assets());
    for value in ["%end", "%include=/etc/shadow", "$(reboot)", "a;b"] {
        // ESXi takes no packages beside its image.
        for family in FAMILIES
            .into_iter()
            .filter(|family| !["lab", "vmware"].contains(&family.breed))
        {
            let mut asked = answer(family, DHCP, "");
            asked.resolved.autoinstall_meta.entries.push(entry("packages", value));
            assert!(render::answer_file(&asked, &world).is_err(), "{} {value}", family.title);
        }
    }
}
