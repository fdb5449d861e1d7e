//! Decisions as text: boot scripts for iPXE, GRUB and PXELINUX, and answer files from templates.
//!
//! Pure. Rendering never writes, never fetches, never runs user data as a template; one encoder per sink keeps every value a value.

pub mod cheetah;
mod command_line;
mod encode;
mod engine;
mod grub;
mod installable;
mod ipxe;
mod links;
mod login;
mod methods;
mod overlay;
mod pxelinux;
mod rendering;
mod sized;
mod vars;

pub use engine::{ErrorKind, LONGEST, TemplateError, answer_file, well_formed};
pub use installable::{installable, missing_template, remedy};
pub use login::leaves_login;
pub use overlay::{BadOverlay, is_overlay, overlay};
pub use vars::{Variable, secrets, variables};

use crate::boot::{Dialect, Script};
use crate::inventory::Entry;

/// A kernel command line as one string, for a hypervisor that starts the kernel itself, and the keys of options that no spelling carries.
#[must_use]
pub fn kernel_command_line(options: &[Entry]) -> (String, Vec<String>) {
    let mut left_out = Vec::new();
    let mut words = Vec::new();
    for option in command_line::options(options) {
        match option.word() {
            Some(word) => words.push(word),
            None => left_out.push(option.key),
        }
    }
    (words.join(" "), left_out)
}

/// The text of a boot script. Total: what a dialect cannot carry is left out and said on the machine's console.
#[must_use]
pub fn script(script: &Script) -> String {
    let dialect = match script {
        Script::Launch(launch) => launch.dialect,
        Script::Image(boot) => boot.dialect,
        Script::Local { dialect, .. } => *dialect,
        Script::Menu(menu) => menu.dialect,
    };
    match (dialect, script) {
        (Dialect::Ipxe, Script::Launch(launch)) => ipxe::launch(launch),
        (Dialect::Ipxe, Script::Image(boot)) => ipxe::image(boot),
        (Dialect::Ipxe, Script::Local { firmware, because, .. }) => ipxe::local(*firmware, because),
        (Dialect::Ipxe, Script::Menu(menu)) => ipxe::menu(menu),
        (Dialect::Grub, Script::Launch(launch)) => grub::launch(launch),
        (Dialect::Grub, Script::Image(boot)) => grub::image(boot),
        (Dialect::Grub, Script::Local { firmware, because, .. }) => grub::local(*firmware, because),
        (Dialect::Grub, Script::Menu(menu)) => grub::menu(menu),
        (Dialect::Pxelinux, Script::Launch(launch)) => pxelinux::launch(launch),
        (Dialect::Pxelinux, Script::Image(boot)) => pxelinux::image(boot),
        (Dialect::Pxelinux, Script::Local { because, .. }) => pxelinux::local(because),
        (Dialect::Pxelinux, Script::Menu(menu)) => pxelinux::menu(menu),
    }
}
