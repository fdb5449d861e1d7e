//! Rendering: every boot script and shipped answer file against golden texts, independent validators, and hostile values.

mod answers;
mod behaviour;
mod cheetah;
mod debian_installer;
mod embedded;
pub mod fixture;
mod formats;
pub mod golden;
mod hostile;
mod scripts;
mod validators;
