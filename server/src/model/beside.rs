//! The objects beside those that machines are made of: package repositories, and menus that group profiles. Field names are Cobbler's.

use super::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A package repository that the machines of a profile get beside their tree. It is never copied: machines go to the mirror itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repo {
    /// Unique among repositories.
    pub name: Name,
    /// URL of the mirror: `http`, `https` or `ftp`; others are kept, and handed to no machine.
    pub mirror: String,
    /// `yum` or `apt`; `rsync`, `rhn` and `wget` are kept, and handed to no machine. Empty: what the machine's family reads.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub breed: String,
    /// Processor as Cobbler names it. Kept: the profile that names the repository decides.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// Suites of an apt mirror; none: the machine's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apt_dists: Vec<String>,
    /// Components of an apt mirror; none: main.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apt_components: Vec<String>,
    /// Priority among yum repositories: the lower counts, 99 where none is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Proxy URL of machines that read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proxy: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Free words, kept for Cobbler's users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// Fields of Cobbler's that mean nothing here, by name (`inventory::extra_docs`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

/// A group of profiles in the boot menu, at its top or within another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Menu {
    /// Unique among menus.
    pub name: Name,
    /// What the menu shows; empty: the name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// The menu that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Name>,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Free words, kept for Cobbler's users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// Fields of Cobbler's that mean nothing here, by name (`inventory::extra_docs`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}
