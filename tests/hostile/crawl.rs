//! Every name that anybody can ask for, made from the product's own tables: its routes, its paths, its objects, its loaders.
//!
//! The lists below are made by matches without a wildcard: a new route, question or dialect does not compile until it is crawled too.

use super::Site;
use cordwainer::boot::{Ask, CobblerAsk, CobblerPage, Dialect, paths};
use cordwainer::http::Route;
use cordwainer::http::route::route;
use cordwainer::model::{Mac, Name};
use std::collections::BTreeSet;

/// What the inventory holds, as `export` names it.
pub struct Objects {
    pub macs: Vec<Mac>,
    pub distros: Vec<Name>,
    pub profiles: Vec<String>,
    pub systems: Vec<String>,
}

impl Objects {
    pub fn of(site: &Site) -> Self {
        let export = site.session.run(&["export"]).succeeded().out;
        let table: toml::Table = export.parse().unwrap();
        let names = |kind: &str| -> Vec<String> {
            let rows = table[kind].as_array().unwrap();
            rows.iter()
                .map(|row| row["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let macs: BTreeSet<Mac> = export.split('"').filter_map(|text| text.parse().ok()).collect();
        assert!(!macs.is_empty(), "{export}");
        Self {
            macs: macs.into_iter().collect(),
            distros: names("distro").iter().map(|name| name.parse().unwrap()).collect(),
            profiles: names("profile"),
            systems: names("system"),
        }
    }
}

const DIALECTS: [Dialect; 3] = [Dialect::Ipxe, Dialect::Grub, Dialect::Pxelinux];
const ROUTES: [Route; 4] = [Route::Metrics, Route::Health, Route::Front, Route::Rpc];

/// How loaders spell the script of `mac` by themselves, beside the path that is handed out.
fn spellings(dialect: Dialect, mac: Mac) -> Vec<String> {
    let dashed = mac.dashed();
    match dialect {
        Dialect::Ipxe => vec!["b/ipxe".to_owned(), "autoexec.ipxe".to_owned()],
        Dialect::Grub => vec![
            "grub/grub.cfg".to_owned(),
            format!("grub/grub.cfg-01-{dashed}"),
            format!("grub.cfg-01-{dashed}"),
            "EFI/rocky/grub.cfg".to_owned(),
        ],
        Dialect::Pxelinux => vec!["pxelinux.cfg/default".to_owned(), format!("pxelinux.cfg/01-{dashed}")],
    }
}

/// The paths by which a route is reached that is not a boot's.
fn paths_of(route: &Route) -> &'static str {
    match route {
        Route::Metrics => "metrics",
        Route::Health => "healthz",
        Route::Front => "",
        Route::Rpc => "cobbler_api",
        Route::Boot { .. } => unreachable!("asked by what it asks"),
    }
}

/// The paths by which each kind of question is asked, for every object that there is. Questions with a token are asked with none of ours.
fn asked_by(ask: &Ask, objects: &Objects, loaders: &[String]) -> Vec<String> {
    let tokens = [objects.systems.clone(), objects.profiles.clone(), vec!["x".to_owned()]].concat();
    match ask {
        // DHCP has no paths; its answers are in the log and the timelines.
        Ask::BootFile => Vec::new(),
        Ask::Script(dialect) => objects
            .macs
            .iter()
            .flat_map(|mac| [vec![paths::script(*mac, *dialect)], spellings(*dialect, *mac)].concat())
            .collect(),
        // Every address of a small network, whoever has it.
        Ask::ScriptAt(..) => (0..=255_u32)
            .map(|host| format!("pxelinux.cfg/{:08X}", 0xC000_0200 + host))
            .collect(),
        Ask::Loader(_) => loaders
            .iter()
            .flat_map(|name| [paths::loader(name), name.clone()])
            .collect(),
        Ask::TreeFile { .. } => objects
            .distros
            .iter()
            .flat_map(|distro| {
                ["", ".treeinfo", "-/kernel", "-/initrd0", "../../session.toml"].map(|file| paths::tree(distro, file))
            })
            .collect(),
        Ask::ImageFile(_) => tokens.iter().map(|name| format!("images2/{name}")).collect(),
        Ask::AnswerFile { .. } => tokens.iter().map(|token| format!("i/{token}/ks.cfg")).collect(),
        Ask::Report { .. } => tokens.iter().map(|token| format!("r/{token}/done")).collect(),
        Ask::Cobbler(ask) => cobbler_paths(ask, objects),
        Ask::Unknown(_) => UNKNOWN.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// The paths by which Cobbler's clients ask each of their questions.
fn cobbler_paths(ask: &CobblerAsk, objects: &Objects) -> Vec<String> {
    let of = |op: &str, kind: &str, names: &[String], tail: &str| -> Vec<String> {
        let one = |name: &String| format!("cblr/svc/op/{op}/{kind}/{name}{tail}");
        names.iter().map(one).collect()
    };
    match ask {
        CobblerAsk::Answer { .. } => ["ks", "autoinstall"]
            .iter()
            .flat_map(|op| {
                [
                    of(op, "system", &objects.systems, ""),
                    of(op, "system", &objects.systems, "/ks.cfg"),
                    of(op, "system", &objects.systems, "/token/x"),
                    of(op, "profile", &objects.profiles, ""),
                    of(op, "profile", &objects.profiles, "/user-data"),
                ]
                .concat()
            })
            .chain(
                [
                    ("script", "/script/finish"),
                    ("template", "/path/_etc_shadow"),
                    ("bootcfg", ""),
                ]
                .into_iter()
                .flat_map(|(op, tail)| {
                    [
                        of(op, "system", &objects.systems, tail),
                        of(op, "profile", &objects.profiles, tail),
                    ]
                    .concat()
                }),
            )
            .collect(),
        CobblerAsk::Autodetect => ["autodetect", "find_autoinstall", "findks"]
            .map(|op| format!("cblr/svc/op/{op}"))
            .to_vec(),
        CobblerAsk::Ipxe { .. } => [
            of("ipxe", "system", &objects.systems, ""),
            of("gpxe", "system", &objects.systems, ""),
        ]
        .concat(),
        CobblerAsk::Nopxe { .. } => of("nopxe", "system", &objects.systems, ""),
        CobblerAsk::Trigger { .. } => ["pre", "post", "firstboot"]
            .iter()
            .flat_map(|mode| of(&format!("trig/mode/{mode}"), "system", &objects.systems, ""))
            .collect(),
        CobblerAsk::List(_) => ["systems", "profiles", "distros", "images", "settings"]
            .map(|what| format!("cblr/svc/op/list/what/{what}"))
            .to_vec(),
        CobblerAsk::Yum { .. } => [
            of("yum", "system", &objects.systems, ""),
            of("yum", "profile", &objects.profiles, ""),
        ]
        .concat(),
        CobblerAsk::Page(page) => page_paths(page, objects),
        CobblerAsk::DebianTree { .. } => objects
            .distros
            .iter()
            .map(|distro| format!("{}/current/images/MANIFEST", paths::debian_tree(distro, "x", "amd64")))
            .collect(),
    }
}

/// The paths of what is the same for anyone.
fn page_paths(page: &CobblerPage, objects: &Objects) -> Vec<String> {
    match page {
        CobblerPage::Index => vec!["cblr/svc/op/index".to_owned(), "cblr/svc".to_owned()],
        CobblerPage::Settings => vec!["cblr/svc/op/settings".to_owned()],
        CobblerPage::Events => ["", "/user/admin"]
            .map(|user| format!("cblr/svc/op/events{user}"))
            .to_vec(),
        CobblerPage::Debug => vec!["cblr/svc/op/debug".to_owned()],
        CobblerPage::Puppet { .. } => objects
            .systems
            .iter()
            .map(|name| format!("cblr/svc/op/puppet/hostname/{name}"))
            .collect(),
        CobblerPage::RepoMirror { .. } => ["epel", "x"]
            .map(|repo| format!("cobbler/repo_mirror/{repo}/repodata/repomd.xml"))
            .to_vec(),
        CobblerPage::Public { .. } => ["", "/", "/../inventory.db", "/%2e%2e/server.key"]
            .map(|path| format!("cobbler/pub{path}"))
            .to_vec(),
        CobblerPage::DistroRepo { .. } => objects
            .distros
            .iter()
            .map(|distro| format!("cobbler/distro_mirror/config/{distro}-0.repo"))
            .collect(),
    }
}

/// What a curious host tries that no rule knows.
const UNKNOWN: &[&str] = &[
    "d/rocky9/%2e%2e/session.toml",
    "../session.toml",
    "..\\session.toml",
    "state/inventory.db",
    "state/server.key",
    "pxelinux.cfg/C0A800",
    "etc/passwd",
    "proc/self/environ",
    "cblr/svc/op/nosuch",
    "cblr/svc/op/script/system/web1",
    "cblr/svc/op/template/profile/rocky9",
    "api/v1/systems",
    "debug/pprof",
    "b/web1/ipxe",
];
/// Files of the server under their bare names, which are asked for like loaders.
const BARE: &[&str] = &[
    "inventory.db",
    "live.db",
    "events.db",
    "server.key",
    "session.toml",
    "cordwainer.toml",
    "cobbler_api",
    "ks.cfg",
];

/// One question of each kind; each has its paths in [`asked_by`].
fn questions() -> Vec<Ask> {
    let mut asks: Vec<Ask> = DIALECTS.map(Ask::Script).to_vec();
    asks.extend([
        Ask::BootFile,
        Ask::Loader(String::new()),
        Ask::TreeFile {
            distro: "x".parse().unwrap(),
            path: String::new(),
        },
        Ask::ScriptAt(Dialect::Pxelinux, std::net::Ipv4Addr::UNSPECIFIED),
        Ask::AnswerFile {
            token: String::new(),
            file: String::new(),
        },
        Ask::Report {
            token: String::new(),
            stage: String::new(),
            detail: None,
        },
        Ask::Unknown(String::new()),
    ]);
    let name = String::new;
    asks.extend(
        [
            CobblerAsk::Answer {
                system: true,
                name: name(),
                token: None,
                file: None,
            },
            CobblerAsk::Autodetect,
            CobblerAsk::Ipxe {
                system: None,
                image: None,
            },
            CobblerAsk::Nopxe {
                system: name(),
                token: None,
            },
            CobblerAsk::Trigger {
                mode: name(),
                system: None,
                token: None,
            },
            CobblerAsk::List(name()),
            CobblerAsk::Yum {
                system: true,
                name: name(),
            },
            CobblerAsk::DebianTree {
                distro: "x".parse().unwrap(),
                path: name(),
            },
        ]
        .map(Ask::Cobbler),
    );
    asks.extend(
        [
            CobblerPage::Index,
            CobblerPage::Settings,
            CobblerPage::Events,
            CobblerPage::Debug,
            CobblerPage::Puppet { hostname: None },
            CobblerPage::RepoMirror {
                repo: name(),
                path: name(),
            },
            CobblerPage::Public { path: name() },
            CobblerPage::DistroRepo { file: name() },
        ]
        .map(|page| Ask::Cobbler(CobblerAsk::Page(page))),
    );
    asks
}

/// Every name, and what the listings lead to.
pub fn names(site: &Site, objects: &Objects) -> BTreeSet<String> {
    let mut loaders: Vec<String> = std::fs::read_dir(site.session.path("loaders"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    loaders.extend(BARE.iter().map(|name| (*name).to_owned()));
    let mut found: BTreeSet<String> = ROUTES.iter().map(|route| paths_of(route).to_owned()).collect();
    for ask in questions() {
        for path in asked_by(&ask, objects, &loaders) {
            // The table is the product's: a path that is read as something else tests something else.
            let is_it = |read: &Ask| std::mem::discriminant(read) == std::mem::discriminant(&ask);
            let clean = !path.contains("..") && !path.contains('%');
            assert!(!clean || is_it(&paths::parse(&path).ask), "{path} is no {ask:?}");
            found.insert(path);
        }
    }
    for plain in ROUTES {
        assert_eq!(route(paths_of(&plain), None, b""), plain);
    }
    let mut folders: Vec<String> = objects
        .distros
        .iter()
        .map(|distro| format!("{}/", paths::tree(distro, "")))
        .collect();
    while let Some(folder) = folders.pop() {
        let page = site.get(&folder);
        for link in page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let path = format!("{folder}{link}");
            if !link.starts_with(['/', '.']) && found.insert(path.clone()) && link.ends_with('/') {
                folders.push(path);
            }
        }
    }
    found
}
