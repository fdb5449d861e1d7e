//! Distros: recognising a tree by its own metadata, and importing it.
//!
//! `signature`, `detect` and `plan` are pure: they judge a [`detect::Source`] (a folder or an ISO image) by the rules
//! of the files in `distros/`. [`tree`] opens and lists trees, [`import`] puts them where they can be served.

mod beside;
mod cause;
pub mod checksum;
pub mod detect;
pub mod download;
pub mod import;
pub mod ini;
pub mod initrd;
pub mod iso9660;
mod iso_import;
pub mod iso_source;
pub mod library;
pub mod loader_config;
pub mod netboot;
pub mod pattern;
mod place;
pub mod plan;
pub mod remote;
pub mod signature;
pub mod summary;
mod survey;
pub mod tree;
