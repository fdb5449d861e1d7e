//! Cobbler's commands that are not here: each is refused with what takes its place, not with a spelling hint.

use super::exit::Failure;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The word, why it is not here, and what to do instead.
const WORDS: &[(&str, &str, &str)] = &[
    (
        "mgmtclass",
        "configuration management is not done here",
        "let --autoinstall-meta post_commands=... start the tool that does it",
    ),
    (
        "package",
        "configuration management is not done here",
        "name packages with --autoinstall-meta packages=...",
    ),
    (
        "file",
        "configuration management is not done here",
        "render a file with --template-files TEMPLATE=/PATH, and fetch it in a section of the template",
    ),
    (
        "reposync",
        "repositories are not mirrored here",
        "mirror with dnf reposync or debmirror, and give the mirror's URL to cordwainer repo add",
    ),
    (
        "hardlink",
        "no mirrors are kept here",
        "an imported tree is served from where it lies",
    ),
    (
        "buildiso",
        "boot CDs are not made here",
        "boot the machine from ipxe.iso of the package ipxe",
    ),
    (
        "replicate",
        "servers are not replicated by a command",
        "cordwainer export on the one, cordwainer apply on the other, or backup and restore",
    ),
    (
        "aclsetup",
        "there are no lists of who may call this command",
        "cordwainer user add lets others in by XML-RPC",
    ),
    ("mkloaders", LOADERS, LOADERS_INSTEAD),
    ("get-loaders", LOADERS, LOADERS_INSTEAD),
    (
        "validateks",
        "this command has a new name",
        "cordwainer validate-autoinstalls",
    ),
    ("update", SIGNATURES, SIGNATURES_INSTEAD),
    ("reload", SIGNATURES, SIGNATURES_INSTEAD),
];

const LOADERS: &str = "loaders are not made or fetched here";
const LOADERS_INSTEAD: &str = "install the package ipxe; cordwainer check names each loader that is missing";
const SIGNATURES: &str = "signatures come with the program";
const SIGNATURES_INSTEAD: &str = "files in /etc/cordwainer/distros are read at once, and replace those of their names";

/// What to say of a command line that clap refused for a word of Cobbler's.
pub(super) fn refusal(error: &clap::Error) -> Option<Failure> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let (word, why, instead) = WORDS.iter().find(|(word, ..)| word == typed)?;
    Some(Failure::usage(format!("`{word}` of Cobbler's: {why}"), instead))
}
