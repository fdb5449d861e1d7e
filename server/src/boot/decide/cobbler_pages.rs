//! What Cobbler's web folder and its service give to anyone beside boot files: settings, classes, repository files, a folder of the
//! admin's. Nothing here changes anything, and nothing here is a secret: settings are an allow-list, parameters and tasks stay behind the login.

use super::Deciding;
use crate::boot::{Answer, CobblerPage, paths};
use crate::config::{Setting, settings};
use crate::inventory::{self, Resolved};
use crate::model::{Distro, version_holds, words};

/// The folder below that of the state whose files are at `/cobbler/pub`.
const PUBLIC: &str = "pub";

pub(super) fn choose(deciding: &mut Deciding<'_>, page: &CobblerPage) -> Answer {
    match page {
        CobblerPage::Index => text(deciding, "index", "no mode specified".to_owned()),
        CobblerPage::Settings => {
            let all = own_settings(deciding);
            text(deciding, "settings", all)
        }
        // Whoever has a task's id may read its log, so ids are for who is logged in, over XML-RPC.
        CobblerPage::Events => text(deciding, "events", "[]".to_owned()),
        CobblerPage::Debug => deciding.not_found("debug page", "Cobbler's debug page is not here"),
        CobblerPage::Puppet { hostname } => puppet(deciding, hostname.as_deref()),
        CobblerPage::RepoMirror { repo, path } => repo_mirror(deciding, repo, path),
        CobblerPage::Public { path } => {
            deciding.trace.held("public folder", "a file of the admin's for anyone");
            Answer::Public {
                root: deciding.world.config.state.join(PUBLIC),
                path: path.clone(),
            }
        }
        CobblerPage::DistroRepo { file } => distro_repo(deciding, file),
    }
}

fn text(deciding: &mut Deciding<'_>, rule: &str, text: String) -> Answer {
    deciding.trace.held(rule, "by Cobbler's URL, for anyone");
    Answer::Text(text)
}

/// Cobbler's settings as far as they mean something here, none of them a secret.
fn own_settings(deciding: &Deciding<'_>) -> String {
    let all: serde_json::Map<String, serde_json::Value> = settings(&deciding.world.config, deciding.facts.local)
        .into_iter()
        .filter(|(_, value)| !matches!(value, Setting::Text(url) if inventory::has_login(url)))
        .map(|(name, value)| {
            let value = match value {
                Setting::Text(text) => text.into(),
                Setting::Number(number) => number.into(),
                Setting::Flag(flag) => flag.into(),
            };
            (name.to_owned(), value)
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Object(all))
}

/// The classes of every layer, each once.
fn classes(resolved: &Resolved) -> Vec<String> {
    let layers = [&resolved.distro.extra]
        .into_iter()
        .chain(resolved.profiles.iter().rev().map(|profile| &profile.extra))
        .chain(resolved.system.iter().map(|system| &system.extra));
    let mut all: Vec<String> = Vec::new();
    for text in layers.filter_map(|extra| extra.get("mgmt_classes")) {
        for class in words(text, |c| c.is_whitespace() || c == ',').unwrap_or_default() {
            if class != crate::model::Inherit::<()>::MARK && !all.contains(&class) {
                all.push(class);
            }
        }
    }
    all
}

/// What Puppet asks of its external node classifier: YAML, of which JSON's texts are a part.
fn puppet(deciding: &mut Deciding<'_>, hostname: Option<&str>) -> Answer {
    let Some(hostname) = hostname else {
        return text(deciding, "puppet", "hostname is required".to_owned());
    };
    let inventory = &deciding.world.inventory;
    let found = hostname
        .parse()
        .ok()
        .and_then(|host| inventory.system_by_hostname(&host));
    let resolved = found.and_then(|found| inventory::resolve_system(inventory, found.name.as_str()).ok());
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut yaml = String::from("---\n");
    let classes = resolved.as_ref().map(classes).unwrap_or_default();
    if classes.is_empty() {
        yaml.push_str("classes: []\n");
    } else {
        yaml.push_str("classes:\n");
        for class in classes {
            yaml.push_str(&format!("- {}\n", quoted(&class)));
        }
    }
    let status = resolved
        .as_ref()
        .and_then(|resolved| resolved.system.as_ref())
        .map_or("", |system| system.status.as_str());
    if !status.is_empty() {
        yaml.push_str(&format!("environment: {}\n", quoted(status)));
    }
    let parameters = resolved
        .as_ref()
        .and_then(|resolved| inventory::resolved_extra(resolved, "mgmt_parameters"));
    if parameters.is_some() {
        // They may hold passwords, and anyone may ask this.
        yaml.push_str("# mgmt_parameters are given to logins only: get_blended_data of XML-RPC\n");
    }
    text(deciding, "puppet", yaml)
}

/// Nothing is mirrored here: whoever asks is sent to the repository itself.
fn repo_mirror(deciding: &mut Deciding<'_>, name: &str, path: &str) -> Answer {
    let Some(repo) = deciding.world.inventory.repo(name) else {
        return deciding.not_found("no such repo", format!("there is no repo {}", paths::shown(name)));
    };
    let mirror = repo.mirror.as_str();
    let kind = repo.extra.get("mirror_type").map_or("baseurl", String::as_str);
    let web = mirror.starts_with("http://") || mirror.starts_with("https://");
    let plain = !mirror.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, '$' | '?' | '#' | '\\'));
    let why_not = if !web {
        Some("its mirror is no http or https URL, and nothing is mirrored here")
    } else if inventory::has_login(mirror) {
        Some("its URL holds a login, which is not for anyone")
    } else if kind != "baseurl" {
        Some("its URL is a list of mirrors, and has nothing below it")
    } else if plain {
        None
    } else {
        Some("its URL has variables or a query, so that nothing can be below it")
    };
    if let Some(why) = why_not {
        return deciding.not_found("repo without a mirror", format!("repo {}: {why}", repo.name));
    }
    let url = match path {
        "" => mirror.to_owned(),
        path => format!("{}/{}", mirror.trim_end_matches('/'), paths::encode(path)),
    };
    deciding
        .trace
        .held("repo mirror", format!("repo {} is at its own URL", repo.name));
    Answer::Elsewhere(url)
}

/// The repositories of a distro's own packages, as URLs: those of Red Hat's family from 8 on have two.
fn own_repos(deciding: &Deciding<'_>, distro: &Distro) -> Vec<String> {
    if !matches!(distro.breed.as_str(), "redhat" | "suse") {
        return Vec::new();
    }
    let named = distro.autoinstall_meta.text("repository");
    let base = match (named, &distro.tree) {
        (Some(url), _) => url.to_owned(),
        (None, Some(_)) => format!("{}/{}", deciding.base_url(), paths::tree(&distro.name, "")),
        (None, None) => return Vec::new(),
    };
    let version = distro.os_version.as_str();
    let two = distro.breed == "redhat" && !version.starts_with("fedora") && version_holds(">=8", version);
    match (two, base.contains("/BaseOS/")) {
        (false, _) => vec![base],
        // A mirror keeps it beside BaseOS, a DVD below itself.
        (true, true) => vec![base.clone(), base.replace("/BaseOS/", "/AppStream/")],
        (true, false) => vec![format!("{base}/BaseOS"), format!("{base}/AppStream")],
    }
}

/// `DISTRO-N.repo`, N from 0 on, as Cobbler's import writes one for each repository of the tree.
fn distro_repo(deciding: &mut Deciding<'_>, file: &str) -> Answer {
    let found = file.strip_suffix(".repo").and_then(|stem| {
        let (name, number) = stem.rsplit_once('-')?;
        let distro = deciding.world.inventory.distro(name)?.clone();
        let url = own_repos(deciding, &distro).into_iter().nth(number.parse().ok()?)?;
        Some((stem, url))
    });
    let Some((name, url)) = found else {
        let why = format!("{} is no repository of a distro's tree", paths::shown(file));
        return deciding.not_found("no such repository", why);
    };
    if inventory::has_login(&url) || url.contains(char::is_control) {
        return deciding.not_found("no such repository", format!("the URL of {name} is not for anyone"));
    }
    deciding.trace.held("repository", "of the distro's own tree");
    Answer::Text(format!("[{name}]\nname={name}\nbaseurl={url}\nenabled=1\ngpgcheck=1\n"))
}
