//! Tests of inheritance: who sets what, and who removed it.

use super::*;
use crate::inventory::{Change, edit_all, flatten};
use crate::model::{Defaults, Secret};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn lab() -> Inventory {
    let defaults = Defaults {
        kernel_options: "quiet settings=1".parse().unwrap(),
        name_servers: vec![[192, 0, 2, 53].into()],
        root_password_hash: Some(Secret::new("$6$canary".to_owned())),
        proxy: Some("http://192.0.2.3:3128".to_owned()),
        ..Defaults::default()
    };
    let mut inventory = Inventory::new(Arc::new(defaults));
    let add = |kind, of: &str, pairs: &[(&str, &str)]| Change::Add {
        kind,
        name: name(of),
        fields: pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
    };
    let changes = [
        add(
            Kind::Distro,
            "d",
            &[
                ("kernel", "k"),
                ("kernel_options", "console=tty0 console=ttyS0 distro"),
                ("boot_loaders", "grub"),
            ],
        ),
        add(
            Kind::Profile,
            "p",
            &[
                ("distro", "d"),
                ("kopts", "!quiet profile=1"),
                ("autoinstall", "p.ks"),
                ("ksmeta", "a=1 b=2"),
                ("name_servers", "192.0.2.54"),
                ("enable_menu", "0"),
            ],
        ),
        add(
            Kind::Profile,
            "q",
            &[("parent", "p"), ("kopts", "profile=2"), ("proxy", "")],
        ),
        add(
            Kind::System,
            "s",
            &[
                ("profile", "q"),
                ("kopts", "settings=9 !distro !inst.text"),
                ("ksmeta", "!a c"),
                ("mac", "52:54:00:00:00:01"),
            ],
        ),
    ];
    for row in edit_all(&inventory, changes).unwrap() {
        inventory.apply(row);
    }
    inventory
}

#[test]
fn every_value_knows_its_layer() {
    let lab = lab();
    let resolved = resolve_system(&lab, "s").unwrap();
    let options: Vec<String> = resolved
        .kernel_options
        .entries
        .iter()
        .map(|entry| format!("{}={:?} {}", entry.key, entry.values, entry.layer))
        .collect();
    assert_eq!(
        options,
        [
            "settings=Some([\"9\"]) system s",
            "console=Some([\"tty0\", \"ttyS0\"]) distro d",
            "profile=Some([\"2\"]) profile q",
        ]
    );
    let removed: Vec<String> = resolved
        .kernel_options
        .removed
        .iter()
        .map(|gone| format!("{} {} {}", gone.key, gone.set_by, gone.removed_by))
        .collect();
    assert_eq!(removed, ["quiet settings profile p", "distro distro d system s"]);
    assert_eq!(resolved.autoinstall.unwrap().layer, Layer::Profile(name("p")));
    assert_eq!(resolved.name_servers.unwrap().layer, Layer::Profile(name("p")));
    assert_eq!(resolved.boot_loaders.unwrap().layer, Layer::Distro(name("d")));
    assert_eq!(resolved.proxy, None);
    assert!(!resolved.enable_menu);
    assert_eq!(resolved.profiles.len(), 2);
    assert_eq!(
        resolve_profile(&lab, "p").unwrap().proxy.unwrap().layer,
        Layer::Settings
    );
}

#[test]
fn what_a_signature_adds_can_be_deleted_too() {
    let resolved = resolve_system(&lab(), "s").unwrap();
    assert_eq!(
        resolved.kernel_option_deleted_by("inst.text"),
        Some(Layer::System(name("s")))
    );
    assert_eq!(
        resolved.kernel_option_deleted_by("quiet"),
        Some(Layer::Profile(name("p")))
    );
    assert_eq!(resolved.kernel_option_deleted_by("console"), None);
}

#[test]
fn a_key_set_again_is_not_removed() {
    let mut lab = lab();
    let change = Change::Edit {
        kind: Kind::System,
        name: name("s"),
        fields: vec![("kopts".to_owned(), "quiet".to_owned())],
        in_place: true,
    };
    for row in edit_all(&lab, [change]).unwrap() {
        lab.apply(row);
    }
    let resolved = resolve_system(&lab, "s").unwrap();
    assert!(resolved.kernel_options.removed.iter().all(|gone| gone.key != "quiet"));
    assert!(resolved.kernel_options.to_string().ends_with(" quiet"));
}

#[test]
fn a_chain_with_a_hole_or_a_circle_is_broken() {
    let mut lab = lab();
    lab.remove(Kind::Distro, "d");
    assert_eq!(
        resolve_system(&lab, "s").unwrap_err().to_string(),
        "there is no distro `d`; `cordwainer distro list` names those there are"
    );
    let mut profile = lab.profile("p").unwrap().clone();
    Arc::make_mut(&mut profile).parent = Parent::Profile(name("q"));
    lab.put(crate::inventory::Row::Profile(profile));
    assert!(matches!(resolve_system(&lab, "s"), Err(Broken::Cycle(_))));
    assert!(matches!(resolve_profile(&lab, "none"), Err(Broken::Unknown { .. })));
}

#[test]
fn flat_variables_have_cobblers_names_and_no_secret() {
    let all = flatten(&resolve_system(&lab(), "s").unwrap());
    let get = |wanted: &str| {
        all.iter()
            .find(|(key, _)| key == wanted)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(get("system_name"), Some("s"));
    assert_eq!(get("mac_address_default"), Some("52:54:00:00:00:01"));
    assert_eq!(get("autoinstall"), Some("p.ks"));
    assert_eq!(
        get("kernel_options"),
        Some("settings=9 console=tty0 console=ttyS0 profile=2")
    );
    assert_eq!((get("a"), get("b"), get("c")), (None, Some("2"), Some("")));
    assert!(!format!("{all:?}").contains("canary"));
}
