//! Boot scripts: dialect x firmware x {launch, local, menu}.

use super::fixture::merged;
use super::{golden, validators};
use cordwainer::boot::{Dialect, ImageBoot, ImageStart, Launch, Menu, MenuEntry, MenuGroup, Script};
use cordwainer::inventory::Layer;
use cordwainer::model::Firmware;
use cordwainer::render;

pub const DIALECTS: [Dialect; 3] = [Dialect::Ipxe, Dialect::Grub, Dialect::Pxelinux];

const FIRMWARE: [(&str, Option<Firmware>); 4] = [
    ("bios", Some(Firmware::Bios)),
    ("uefi-x64", Some(Firmware::UefiX64)),
    ("uefi-arm64", Some(Firmware::UefiArm64)),
    ("unknown", None),
];

pub fn launch(dialect: Dialect, firmware: Option<Firmware>, options: &str) -> Launch {
    Launch {
        dialect,
        firmware,
        system: "web1".parse().unwrap(),
        profile: "rocky9".parse().unwrap(),
        kernel: "http://192.168.77.1/d/rocky9/images/pxeboot/vmlinuz".into(),
        initrd: vec!["http://192.168.77.1/d/rocky9/images/pxeboot/initrd.img".into()],
        initrd_args: Vec::new(),
        options: merged(options, &Layer::Settings).entries,
        removed: Vec::new(),
    }
}

/// How a dialect may be told to start an image.
fn starts(dialect: Dialect) -> Vec<(&'static str, ImageStart)> {
    let memdisk = ImageStart::Memdisk {
        memdisk: "http://192.168.77.1/l/memdisk".into(),
        words: "iso raw",
    };
    let mut all = vec![("image-kernel", ImageStart::Kernel), ("image-memdisk", memdisk)];
    all.extend((dialect == Dialect::Ipxe).then_some(("image-drive", ImageStart::Drive)));
    all
}

fn all() -> Vec<(String, Script)> {
    let mut scripts = Vec::new();
    for dialect in DIALECTS {
        for (name, firmware) in FIRMWARE {
            let title = |what: &str| format!("scripts/{what}-{name}.{}", dialect.as_str());
            let options =
                "inst.ks=http://192.168.77.1/i/token/ks.cfg console=tty0 console=ttyS0,115200 quiet note=\"two words\"";
            scripts.push((
                title("launch"),
                Script::Launch(Box::new(launch(dialect, firmware, options))),
            ));
            for (what, start) in starts(dialect) {
                let boot = ImageBoot {
                    dialect,
                    firmware,
                    system: "bench".parse().unwrap(),
                    image: "memtest".parse().unwrap(),
                    url: "http://192.168.77.1/images2/memtest".into(),
                    start,
                    options: merged("console=ttyS0,115200 note=\"two words\"", &Layer::Settings).entries,
                    removed: Vec::new(),
                };
                scripts.push((title(what), Script::Image(Box::new(boot))));
            }
            let because = "web1 is not armed".to_owned();
            scripts.push((
                title("local"),
                Script::Local {
                    dialect,
                    firmware,
                    because,
                },
            ));
            let entry = |profile: &str, title: &str| MenuEntry {
                title: title.into(),
                profile: profile.parse().unwrap(),
                group: None,
            };
            let entries = vec![entry("debian12", "Debian 12"), entry("rocky9", "Rocky Linux 9.4")];
            scripts.push((
                title("menu"),
                Script::Menu(Menu {
                    dialect,
                    firmware,
                    entries,
                    groups: Vec::new(),
                    timeout_ms: 15_000,
                }),
            ));
            let within = |profile: &str, title: &str, group| MenuEntry {
                group: Some(group),
                ..entry(profile, title)
            };
            let group = |title: &str, parent| MenuGroup {
                title: title.into(),
                parent,
            };
            scripts.push((
                title("menus"),
                Script::Menu(Menu {
                    dialect,
                    firmware,
                    entries: vec![
                        entry("debian12", "Debian 12"),
                        within("rocky9", "Rocky Linux 9.4", 1),
                        within("rocky8", "Rocky Linux 8", 0),
                    ],
                    groups: vec![group("Red Hat's family", None), group("The new ones", Some(0))],
                    timeout_ms: 15_000,
                }),
            ));
        }
    }
    scripts
}

#[test]
fn every_script_is_the_golden_one() {
    for (name, script) in all() {
        golden::check(&name, &render::script(&script));
    }
}

#[test]
fn grub_reads_every_script() {
    for (name, script) in all().into_iter().filter(|(name, _)| name.ends_with(".grub")) {
        validators::grub(&name, &render::script(&script));
    }
}

#[test]
fn a_menu_never_starts_an_installer() {
    for (name, script) in all().into_iter().filter(|(name, _)| name.contains("/menu-")) {
        let text = render::script(&script);
        for word in ["vmlinuz", "kernel ", "KERNEL", "initrd", "  linux"] {
            assert!(!text.contains(word), "{name} has {word}");
        }
        assert!(
            text.contains("cordwainer system add --name NAME --profile rocky9"),
            "{name} does not say how to arm"
        );
    }
}

#[test]
fn a_bare_exit_never_ends_on_uefi() {
    for (name, script) in all().into_iter().filter(|(name, _)| name.ends_with("uefi-x64.ipxe")) {
        let text = render::script(&script);
        assert_eq!(text.lines().last(), Some("exit 1"), "{name}");
        let of_drive = name.contains("image-drive");
        assert!(of_drive || !text.contains("sanboot"), "{name}");
    }
}

#[test]
fn the_kernel_finds_every_initrd_by_its_own_name() {
    let mut launch = launch(Dialect::Ipxe, Some(Firmware::UefiX64), "--- quiet");
    launch.initrd = vec!["http://a/x/initrd.gz".into(), "http://a/firmware/initrd.gz".into()];
    let text = render::script(&Script::Launch(Box::new(launch)));
    let kernel = text.lines().find(|line| line.starts_with("kernel ")).unwrap();
    assert!(
        kernel.contains(" initrd=initrd.gz initrd=initrd-1 --- quiet ||"),
        "{kernel}"
    );
    assert!(
        text.contains("\ninitrd --name initrd.gz http://a/x/initrd.gz ||"),
        "{text}"
    );
    assert!(
        text.contains("\ninitrd --name initrd-1 http://a/firmware/initrd.gz ||"),
        "{text}"
    );
}
