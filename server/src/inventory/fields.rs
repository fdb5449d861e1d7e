//! The fields of each kind of object as users name them: one table feeds `edit`, the CLI's options and help, reports and exports.

use crate::model::Kind;

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldDoc {
    /// `kernel_options`; on the command line `--kernel-options`.
    pub name: &'static str,
    /// Other spellings: `kopts`, `kickstart`, `ksmeta`.
    pub aliases: &'static [&'static str],
    /// One line for help and man page.
    pub help: &'static str,
}

/// The fields of a kind, in the order that a report shows them.
#[must_use]
pub fn field_docs(kind: Kind) -> &'static [FieldDoc] {
    let _ = kind;
    &[]
}
