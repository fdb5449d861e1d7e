//! Which systems a change is about: with a hundred thousand of them, one edit must not read them all. Pure.

use super::{Change, Row};
use crate::model::{Kind, Name};
use std::collections::BTreeSet;

/// The systems whose rows judging these changes looks at, beside all distros and profiles; none when it may look at any. What another
/// system claims is not among them: the store's table of claims is the last word on that.
#[must_use]
pub fn systems_about(changes: &[Change]) -> Option<BTreeSet<Name>> {
    let mut systems = BTreeSet::new();
    for change in changes {
        match change {
            Change::Add { kind, name, .. } | Change::Edit { kind, name, .. } => {
                systems.extend((*kind == Kind::System).then(|| name.clone()));
            }
            Change::Copy {
                kind, name, new_name, ..
            } => {
                if *kind == Kind::System {
                    systems.extend([name.clone(), new_name.clone()]);
                }
            }
            Change::Rename {
                kind: Kind::System,
                name,
                new_name,
            } => systems.extend([name.clone(), new_name.clone()]),
            Change::Remove {
                kind: Kind::System,
                name,
                ..
            } => {
                systems.insert(name.clone());
            }
            // No system stands on these.
            Change::Rename {
                kind: Kind::Repo | Kind::Menu,
                ..
            }
            | Change::Remove {
                kind: Kind::Repo | Kind::Menu,
                ..
            } => {}
            // Systems stand on it, and any may.
            Change::Rename { .. } | Change::Remove { .. } => return None,
            Change::Put(Row::System(system)) => {
                systems.insert(system.name.clone());
            }
            Change::Put(_) => {}
            Change::Arm { arm, .. } => {
                systems.insert(arm.system.clone());
            }
            Change::Disarm { system } => {
                systems.insert(system.clone());
            }
        }
    }
    Some(systems)
}
