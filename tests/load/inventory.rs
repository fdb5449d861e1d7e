//! Fills a state folder: a distro with a tree, a profile of a shipped kickstart, and so many machines, armed or not.

use super::Arguments;
use cordwainer::inventory::{Change, Row, RowChange, edit_all};
use cordwainer::model::{Arm, ArmId, Kind, Mac};
use cordwainer::store::{Folder, InventoryDb, clock};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The hardware address of machine `number`.
pub fn mac(number: u32) -> Mac {
    let [_, a, b, c] = number.to_be_bytes();
    Mac::new([0x52, 0x54, 0, a, b, c])
}

/// `--state FOLDER --systems N --armed yes|no --tree FOLDER`.
pub fn make(arguments: &Arguments) {
    let state: PathBuf = arguments.get("state", "state");
    let systems: u32 = arguments.get("systems", "10");
    let armed: String = arguments.get("armed", "no");
    let tree: String = arguments.get("tree", "");
    let mut db = InventoryDb::open(&Folder::open(&state).unwrap()).unwrap();
    let add = |kind, name: &str, fields: &[(&str, &str)]| Change::Add {
        kind,
        name: name.parse().unwrap(),
        fields: fields.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
    };
    let mut changes = vec![
        add(
            Kind::Distro,
            "lab",
            &[
                ("breed", "redhat"),
                ("os_version", "rhel9"),
                ("signature", "redhat"),
                ("tree", &tree),
                ("kernel", "vmlinuz"),
                ("initrd", "initrd.img"),
            ],
        ),
        add(
            Kind::Profile,
            "lab",
            &[("distro", "lab"), ("autoinstall", "redhat/el9.ks")],
        ),
    ];
    changes.extend((0..systems).map(|number| {
        let (name, mac) = (format!("s{number}"), mac(number).to_string());
        add(
            Kind::System,
            &name,
            &[
                ("profile", "lab"),
                ("mac", &mac),
                ("hostname", &format!("{name}.lab.test")),
            ],
        )
    }));
    db.commit(|inventory| edit_all(inventory, changes)).unwrap();
    if armed == "yes" {
        let now = clock::wall();
        db.commit(|_| -> Result<_, cordwainer::inventory::Refused> {
            Ok((0..systems)
                .map(|number| {
                    RowChange::Put(Row::Arm(Arc::new(Arm {
                        id: ArmId(format!("arm{number}")),
                        system: format!("s{number}").parse().unwrap(),
                        at: now,
                        until: now.plus(Duration::from_secs(4 * 3600)),
                        by: "bench".to_owned(),
                    })))
                })
                .collect())
        })
        .unwrap();
    }
}
