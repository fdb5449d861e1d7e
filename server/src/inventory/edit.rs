//! `edit`: from what the admin wants to which rows change, or why not. CLI, import, apply and later faces build a [`Change`].

use super::{Inventory, Row, check, plan};
use crate::model::{Arm, Kind, Name, State};

/// A field assignment as it was typed: `kernel_options`, `"quiet console=ttyS0"`.
pub type Assignment = (String, String);

/// What somebody wants to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make a new object.
    Add {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// Field assignments.
        fields: Vec<Assignment>,
    },
    /// Change fields of an object.
    Edit {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// Field assignments.
        fields: Vec<Assignment>,
        /// Change single keys of dictionaries instead of the whole (`--in-place`).
        in_place: bool,
    },
    /// Make a copy under another name.
    Copy {
        /// Its kind.
        kind: Kind,
        /// What is copied.
        name: Name,
        /// The copy.
        new_name: Name,
        /// Field assignments on the copy.
        fields: Vec<Assignment>,
    },
    /// Give another name; children follow. A system's arming does not: what is known of its installation goes by the old name, so a
    /// machine that was just installed would count as not yet come, and be wiped.
    Rename {
        /// Its kind.
        kind: Kind,
        /// The old name.
        name: Name,
        /// The new name.
        new_name: Name,
    },
    /// Take an object out.
    Remove {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// Its children too.
        recursive: bool,
    },
    /// Put a whole object, as import and `apply` have it: added, or replaced.
    Put(Row),
    /// Arm a system (DESIGN 6).
    Arm {
        /// The arming.
        arm: Arm,
        /// The admin knows of the arming in force or of the installation that was, and wants another all the same (`--again`).
        again: bool,
        /// Where the machine stands now, by `install::state`.
        state: State,
    },
    /// Withdraw the arming of a system.
    Disarm {
        /// The system.
        system: Name,
    },
}

/// What happens to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// Written, new or over the old.
    Put(Row),
    /// Taken out; a tombstone stays for pollers.
    Remove(Kind, Name),
    /// The arming of this system is taken out.
    Disarm(Name),
}

/// Why a change was refused: the thing, what was expected, the remedy. For users, so never a secret in it.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// There is no such object.
    #[error("there is no {kind} `{name}`; {}", match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`cordwainer {kind} list` names those there are"),
    })]
    Unknown {
        /// Its kind.
        kind: Kind,
        /// What was asked for.
        name: String,
        /// The nearest name that exists.
        near: Option<Name>,
    },
    /// The name is taken.
    #[error("{kind} `{name}` exists; edit it, or choose another name")]
    Exists {
        /// Its kind.
        kind: Kind,
        /// The name.
        name: Name,
    },
    /// A field that this kind does not have.
    #[error("a {kind} has no field `{field}`{}", .near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    NoField {
        /// Its kind.
        kind: Kind,
        /// What was asked for.
        field: String,
        /// The nearest field.
        near: Option<String>,
    },
    /// A value that the field cannot take.
    #[error("{field}: {why}")]
    BadValue {
        /// The field.
        field: String,
        /// What is wrong and what was expected.
        why: String,
    },
    /// A field that must be given.
    #[error("{kind} `{name}` needs {field}; give --{}{}", .field.replace('_', "-"), match *field { "distro" => ", or --parent with a profile that it refines", "profile" => ", or --image with the image that it boots", _ => "" })]
    Missing {
        /// Its kind.
        kind: Kind,
        /// The object.
        name: Name,
        /// The field.
        field: &'static str,
    },
    /// It has children.
    #[error("{kind} `{name}` has {}; remove them first, or give --recursive", .children.join(", "))]
    HasChildren {
        /// Its kind.
        kind: Kind,
        /// The object.
        name: Name,
        /// `profile a`, `system b`, ...
        children: Vec<String>,
    },
    /// A MAC, address or host name that another system has.
    #[error("{what} belongs to system `{owner}`; take it from there first")]
    Claimed {
        /// `MAC 52:54:...`, `address 192.0.2.1`, `host name web1`.
        what: String,
        /// Who has it.
        owner: Name,
    },
    /// A sub-profile chain that comes back to itself.
    #[error("profile `{0}` would be its own ancestor; choose another parent")]
    Cycle(Name),
    /// The arming is refused.
    #[error("system `{name}` was not armed: {why}")]
    NotArmed {
        /// The system.
        name: Name,
        /// Why, and the remedy.
        why: String,
    },
}

/// Judges `change` against `inventory`: the rows that it would write, or why it is refused. Nothing is half done.
///
/// # Errors
/// [`Refused`], with the remedy.
pub fn edit(inventory: &Inventory, change: Change) -> Result<Vec<RowChange>, Refused> {
    edit_all(inventory, [change])
}

/// Judges several changes as one: each sees what those before it did, and whether references hold and nothing is claimed twice is
/// judged at the end, so that two systems may swap their addresses and a document may name its objects in any order.
///
/// # Errors
/// [`Refused`] of the first that cannot be done; then none is.
pub fn edit_all(inventory: &Inventory, changes: impl IntoIterator<Item = Change>) -> Result<Vec<RowChange>, Refused> {
    let mut after = inventory.clone();
    let mut rows = Vec::new();
    for change in changes {
        for row in plan::plan(&after, change)? {
            after.apply(row.clone());
            rows.push(row);
        }
    }
    check::check(inventory, &after, &rows)?;
    Ok(rows)
}

#[cfg(test)]
mod tests;
