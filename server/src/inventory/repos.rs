//! What package repositories a machine gets beside its tree, and which objects name a repository or a menu.
//!
//! Pure. A profile's `repos` holds names of repositories and plain URLs; a name that nothing has is passed over, and `check` says so.

use super::{Inventory, Resolved, Row, resolved_extra, value};
use crate::model::{Dict, DictValue, Kind, Name, Profile, Repo, words};
use std::sync::Arc;

/// One repository as a machine reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A word: the repository's name, or `repo0` for the first URL.
    pub name: String,
    /// Where packages are.
    pub url: String,
    /// `baseurl`, `mirrorlist` or `metalink`: what yum is told that the URL is.
    pub kind: &'static str,
    /// The suite of an apt mirror; empty: the machine's own.
    pub suite: String,
    /// The components of an apt mirror, separated by blanks.
    pub components: String,
    /// Priority among yum repositories.
    pub priority: Option<u32>,
    /// Proxy URL; empty: none of its own.
    pub proxy: String,
    /// Further lines of a yum repository, `key=value`.
    pub options: Vec<(String, String)>,
}

impl Source {
    /// A repository of which only the URL is known.
    #[must_use]
    pub fn of_url(name: String, url: String) -> Self {
        Self {
            name,
            url,
            kind: "baseurl",
            suite: String::new(),
            components: "main".to_owned(),
            priority: None,
            proxy: String::new(),
            options: Vec::new(),
        }
    }
}

/// True for `scheme://user[:password]@host`.
#[must_use]
pub fn has_login(url: &str) -> bool {
    url.split_once("://")
        .and_then(|(_, rest)| rest.split('/').next())
        .is_some_and(|authority| authority.contains('@'))
}

/// The words of a profile's own `repos`.
fn named(profile: &Profile) -> Vec<String> {
    let text = profile.extra.get("repos").map_or("", String::as_str);
    words(text, value::separates_items).unwrap_or_default()
}

/// What machines read: a URL that a machine can fetch, in the language of its family.
fn serves(repo: &Repo, debian: bool) -> bool {
    let fetched = ["http://", "https://", "ftp://"]
        .iter()
        .any(|scheme| repo.mirror.starts_with(scheme));
    fetched
        && match repo.breed.as_str() {
            "" => true,
            "apt" => debian,
            "yum" => !debian,
            _ => false,
        }
}

/// Every repository that a profile or system gets, in the order of its `repos`; one for each suite of an apt mirror.
#[must_use]
pub fn sources(inventory: &Inventory, resolved: &Resolved) -> Vec<Source> {
    let text = resolved_extra(resolved, "repos").unwrap_or_default();
    let mut all = Vec::new();
    for word in words(&text, value::separates_items).unwrap_or_default() {
        all.extend(sources_of(inventory, resolved, &word, all.len()));
    }
    all
}

/// What one word means: `NAME=URL`, a URL alone, which is named by its `place`, or the name of a repository.
#[must_use]
pub fn sources_of(inventory: &Inventory, resolved: &Resolved, word: &str, place: usize) -> Vec<Source> {
    if word.contains("://") {
        let (name, url) = match word.split_once('=').filter(|(name, _)| !name.contains("://")) {
            Some((name, url)) => (name.to_owned(), url.to_owned()),
            None => (format!("repo{place}"), word.to_owned()),
        };
        let fits = name.parse::<Name>().is_ok();
        return fits.then(|| Source::of_url(name, url)).into_iter().collect();
    }
    let debian = matches!(resolved.distro.breed.as_str(), "debian" | "ubuntu");
    let repo = inventory.repo(word).filter(|repo| serves(repo, debian));
    repo.map(|repo| of_repo(repo, debian)).unwrap_or_default()
}

fn of_repo(repo: &Repo, debian: bool) -> Vec<Source> {
    let kind = match repo.extra.get("mirror_type").map(String::as_str) {
        Some("mirrorlist") => "mirrorlist",
        Some("metalink") => "metalink",
        _ => "baseurl",
    };
    let dict: Dict = repo
        .extra
        .get("yumopts")
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let options = dict.iter().filter_map(|(key, value)| match value {
        DictValue::Values(values) => Some((key.to_owned(), values.last()?.clone())),
        DictValue::Flag | DictValue::Deleted => None,
    });
    let one = Source {
        kind,
        components: match repo.apt_components.as_slice() {
            [] => "main".to_owned(),
            all => all.join(" "),
        },
        priority: repo.priority,
        proxy: repo.proxy.clone(),
        options: options.collect(),
        ..Source::of_url(repo.name.to_string(), repo.mirror.clone())
    };
    let suites = repo.apt_dists.iter().filter(|_| debian);
    let all: Vec<Source> = suites
        .enumerate()
        .map(|(place, suite)| Source {
            name: if place == 0 {
                one.name.clone()
            } else {
                format!("{}-{place}", one.name)
            },
            suite: suite.clone(),
            ..one.clone()
        })
        .collect();
    if all.is_empty() { vec![one] } else { all }
}

/// What is wrong with repositories and those who name them, a sentence each.
#[must_use]
pub fn repo_problems(inventory: &Inventory) -> Vec<String> {
    let mut all = Vec::new();
    for profile in inventory.profiles() {
        for word in named(profile) {
            if !word.contains("://") && inventory.repo(&word).is_none() {
                let (of, word) = (&profile.name, value::cut(&word));
                all.push(format!(
                    "profile {of} names the repo {word}, which there is not: cordwainer repo add --name {word} --mirror URL"
                ));
            }
        }
    }
    for repo in inventory.repos() {
        if !serves(repo, true) && !serves(repo, false) {
            all.push(format!(
                "repo {} is handed to no machine: that needs an http, https or ftp URL, and yum or apt",
                repo.name
            ));
        }
    }
    all
}

/// The profiles that name this repository or menu, with `to` in its place, or without it; and for a menu the menus and images
/// that stand in it.
pub(super) fn renamed(inventory: &Inventory, kind: Kind, name: &Name, to: Option<&Name>) -> Vec<Row> {
    let mut rows = Vec::new();
    for profile in inventory.profiles() {
        let (field, text) = match kind {
            Kind::Repo if named(profile).iter().any(|word| word == name.as_str()) => {
                let kept = named(profile).into_iter().filter_map(|word| {
                    if word == name.as_str() {
                        to.map(ToString::to_string)
                    } else {
                        Some(word)
                    }
                });
                ("repos", kept.collect::<Vec<_>>().join(" "))
            }
            Kind::Menu if profile.extra.get("menu").is_some_and(|menu| menu == name.as_str()) => {
                ("menu", to.map(ToString::to_string).unwrap_or_default())
            }
            _ => continue,
        };
        let mut profile = Arc::clone(profile);
        let own = &mut Arc::make_mut(&mut profile).extra;
        if text.is_empty() {
            own.remove(field);
        } else {
            own.insert(field.to_owned(), text);
        }
        rows.push(Row::Profile(profile));
    }
    if let (Kind::Menu, Some(to)) = (kind, to) {
        for menu in inventory.menus().filter(|menu| menu.parent.as_ref() == Some(name)) {
            let mut menu = Arc::clone(menu);
            Arc::make_mut(&mut menu).parent = Some(to.clone());
            rows.push(Row::Menu(menu));
        }
    }
    if kind == Kind::Menu {
        for image in inventory.images().filter(|image| image.menu.as_ref() == Some(name)) {
            let mut image = Arc::clone(image);
            Arc::make_mut(&mut image).menu = to.cloned();
            rows.push(Row::Image(image));
        }
    }
    rows
}
