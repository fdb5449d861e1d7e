//! The canary: secrets that occur nowhere else, a whole installation, and then a look into everything that anybody can see.

use super::{SCRIPT, Site, token};
use std::collections::BTreeSet;

/// What a curious host asks for, beside what it finds in listings.
const NAMES: &[&str] = &[
    "",
    "metrics",
    "healthz",
    "status",
    "autoexec.ipxe",
    "b/ipxe",
    "b/52-54-00-00-00-02/ipxe",
    "b/52-54-00-00-00-02/grub.cfg",
    "pxelinux.cfg/default",
    "pxelinux.cfg/01-52-54-00-00-00-02",
    "grub/grub.cfg",
    "grub.cfg-01-52-54-00-00-00-02",
    "undionly.kpxe",
    "l/snponly.efi",
    "d/rocky9/",
    "d/rocky9/.treeinfo",
    "d/rocky9/../../session.toml",
    "d/rocky9/%2e%2e/session.toml",
    "../session.toml",
    "state/inventory.db",
    "inventory.db",
    "live.db",
    "key",
    "server.key",
    "session.toml",
    "cordwainer.toml",
    "etc/passwd",
    "i/",
    "i/x/ks.cfg",
    "r/x/done",
    "ks.cfg",
    "i/web1/ks.cfg",
    "cblr/svc/op/ks/system/web1",
    "cobbler_api",
    "api/v1/systems",
];

/// Paths that the listings lead to.
fn crawl(site: &Site) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let mut folders = vec!["d/rocky9/".to_owned()];
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

#[test]
fn no_secret_is_where_anybody_can_see_it() {
    let mut site = Site::new();
    let before = crawl(&site);
    assert!(before.contains("d/rocky9/images/pxeboot/vmlinuz"), "{before:?}");
    let mut seen: Vec<(String, String)> = Vec::new();
    let anonymous = |site: &Site, when: &str, seen: &mut Vec<(String, String)>| {
        for name in &before {
            for method in ["GET", "HEAD", "POST"] {
                seen.push((format!("{method} /{name} {when}"), site.ask(method, name)));
            }
            if !name.is_empty() {
                seen.push((format!("TFTP {name} {when}"), site.tftp(name)));
            }
        }
    };
    anonymous(&site, "while armed", &mut seen);
    // A whole installation, with all that goes wrong in one.
    let script = site.get(SCRIPT);
    let install = token(&script, "/i/");
    let answers = site.get(&format!("i/{install}/ks.cfg"));
    assert!(answers.contains("canarysalt"), "the bird sings: {answers}");
    let report = token(&answers, "/r/");
    assert_ne!(install, report);
    site.tftp(&format!("i/{install}/ks.cfg"));
    site.tftp(&format!("r/{report}/done"));
    for path in [
        format!("i/{report}/ks.cfg"),
        format!("i/{install}/nothing"),
        format!("i/{install}"),
        format!("x/{install}"),
        format!("i%2f{install}%2fks.cfg%zz"),
        format!("r/{install}/done"),
        format!("r/{report}/started?detail=http://x/i/{install}/ks.cfg"),
        format!("r/{report}/{install}"),
        format!("d/rocky9/{install}"),
        format!("l/{install}"),
        format!("b/{install}/ipxe"),
        format!("pxelinux.cfg/{install}"),
        format!("r/{report}/partitioning?detail={report}"),
    ] {
        site.get(&path);
        site.ask("POST", &path);
        site.tftp(&path);
    }
    anonymous(&site, "while installing", &mut seen);
    site.get(&format!("r/{report}/done"));
    assert!(site.get(&format!("i/{install}/ks.cfg")).starts_with("HTTP/1.1 404 "));
    anonymous(&site, "when done", &mut seen);
    for arguments in [
        &["export"][..],
        &["status"],
        &["--json", "status"],
        &["boot", "trace", "web1"],
        &["--json", "boot", "trace", "web1"],
        &["boot", "explain", "web1"],
        &["--json", "boot", "explain", "web1"],
        &["--json", "system", "report", "web1"],
        &["config", "show"],
        &["check"],
    ] {
        let ran = site.session.run(arguments);
        seen.push((arguments.join(" "), format!("{}{}", ran.out, ran.err)));
    }
    let process = format!("/proc/{}", site.daemon.id());
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("{process}/{file}")).unwrap();
        seen.push((file.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    // What is stored: neither tokens nor hashes; the key is the key's own file.
    site.daemon.terminate();
    site.daemon.wait_for_exit(std::time::Duration::from_secs(30));
    seen.push(("the log".to_owned(), site.daemon.lines().join("\n")));
    for entry in std::fs::read_dir(site.session.path("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            seen.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    let mut hits = Vec::new();
    for (place, text) in &seen {
        for (what, secret) in [
            ("the hash", "canarysalt"),
            ("the install token", install.as_str()),
            ("the report token", report.as_str()),
        ] {
            if let Some(line) = text.lines().find(|line| line.contains(secret)) {
                let line: String = line.chars().take(300).collect();
                hits.push(format!("{what} in {place}: {line}"));
            }
        }
    }
    assert!(hits.is_empty(), "{}", hits.join("\n"));
    assert!(seen.len() > 300, "{}", seen.len());
}
