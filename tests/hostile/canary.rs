//! The canary: secrets that occur nowhere else, a whole installation with all that goes wrong in one, and then a look into everything
//! that anybody can see: answers, logs, timelines, commands, sockets, processes, files.

use super::crawl::{self, Objects};
use super::{HASH, SCRIPT, Site, token};
use cordwainer::xmlrpc::{METHODS, Value, encode};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// What an admin hides in template variables: a password, and a key as it would be pasted in.
const PASSWORD: &str = "canarypassword7391";
const PRIVATE: &str = "-----BEGIN-OPENSSH-PRIVATE-KEY-----canaryprivate7391";
/// Templates that fail over a secret, each in its own way.
const BROKEN: &[&str] = &[
    "{{ root_password_hash.no.such }}",
    "{{ root_password_hash | no_such_filter }}",
    "{{ root_password_hash + 1 }}",
    "{{ 1 + user_password }}",
    "{% include root_password_hash %}",
    "{% include user_password %}",
    "{% from host_private_key import x %}",
    "{{ root_password_hash[user_password].x }}",
    "{{ user_password | yaml(1, 2, 3) }}",
    "{{ host_private_key() }}",
    "{{ no_such(user_password) }}",
    "{% for x in root_password_hash - 1 %}{% endfor %}",
    "{% for x in range(user_password) %}{% endfor %}",
    "{{ user_password is nosuchtest }}",
    "{{ {root_password_hash: 1}[user_password].x }}",
];

/// What was looked at, and what it showed.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, shown: impl Into<Vec<u8>>) {
        self.0.push((place.into(), shown.into()));
    }

    /// What a command says, however it ends.
    fn command(&mut self, site: &Site, arguments: &[&str]) {
        let ran = site.session.run(arguments);
        self.add(arguments.join(" "), format!("{}{}", ran.out, ran.err));
    }

    /// Everything that somebody without any right can ask for.
    fn anonymous(&mut self, site: &Site, names: &BTreeSet<String>, when: &str) {
        for name in names {
            for method in ["GET", "HEAD", "POST", "PUT"] {
                self.add(format!("{method} /{name} {when}"), site.ask(method, name));
            }
            if !name.is_empty() {
                self.add(format!("TFTP {name} {when}"), site.tftp(name));
            }
        }
    }

    /// Every method of XML-RPC, with the names of everything and without a login.
    fn calls(&mut self, site: &Site, objects: &Objects, when: &str) {
        let names = [objects.systems.clone(), objects.profiles.clone()].concat();
        let mut arguments: Vec<Vec<Value>> = vec![vec![]];
        for name in &names {
            arguments.push(vec![name.as_str().into()]);
            for kind in ["system", "profile"] {
                arguments.push(vec![kind.into(), name.as_str().into()]);
            }
        }
        for method in METHODS.iter().filter(|method| method.name != "login") {
            for arguments in &arguments {
                let answer = site.post("cobbler_api", &encode::call(method.name, arguments));
                assert!(answer.contains("<methodResponse>"), "{}: {answer}", method.name);
                self.add(format!("{}{arguments:?} {when}", method.name), answer);
            }
        }
    }

    /// Every command that only looks, for people and for programs.
    fn commands(&mut self, site: &Site, objects: &Objects, when: &str) {
        let mut lines: Vec<Vec<&str>> = [
            "status",
            "status --all",
            "config show",
            "config check",
            "check",
            "validate-autoinstalls",
            "template list",
            "system list",
            "profile list",
            "distro list",
            "system find --netboot-enabled=1",
        ]
        .iter()
        .map(|line| line.split(' ').collect())
        .collect();
        for system in &objects.systems {
            for line in ["boot trace", "boot explain", "system dumpvars"] {
                lines.push(line.split(' ').chain([system.as_str()]).collect());
            }
        }
        for profile in &objects.profiles {
            for line in ["profile report", "profile dumpvars"] {
                lines.push(line.split(' ').chain([profile.as_str()]).collect());
            }
        }
        for line in lines {
            self.command(site, &line);
            self.command(site, &[&["--json"], &line[..]].concat());
        }
        for question in [
            r#"{"trace":"web1"}"#,
            r#"{"trace":"web2"}"#,
            r#"{"trace":"127.0.0.1"}"#,
            r#"{"status":{}}"#,
            r#"{"live":0}"#,
            r#"{"dump":{}}"#,
            "GET / HTTP/1.0",
        ] {
            let mut socket = UnixStream::connect(site.session.path("state/cordwainer.sock")).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            writeln!(socket, "{question}").unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            assert!(!answer.is_empty(), "{question}");
            self.add(format!("control socket {question} {when}"), answer);
        }
    }

    /// Each place that shows one of the secrets; `allowed` says where one may stand.
    fn hits(&self, secrets: &[(&str, Vec<u8>)], allowed: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let mut hits = Vec::new();
        for (place, shown) in &self.0 {
            for (what, secret) in secrets {
                let at = shown.windows(secret.len()).position(|window| window == &secret[..]);
                if let Some(at) = at.filter(|_| !allowed(what, place)) {
                    let around = &shown[at.saturating_sub(120)..(at + 80).min(shown.len())];
                    hits.push(format!("{what} in {place}: {}", String::from_utf8_lossy(around)));
                }
            }
        }
        hits
    }
}

/// Every file below a folder: its path and the rights that others than its owner have.
fn files(folder: &Path) -> Vec<(std::path::PathBuf, u32, bool)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.metadata().unwrap();
        let rights = kind.permissions().mode() & 0o7077;
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        }
        if !kind.is_dir() {
            found.push((entry.path(), rights, kind.file_type().is_socket()));
        }
    }
    found
}

/// The process: what it was started with, what it started, what a crash of it would leave.
fn process(site: &Site, seen: &mut Seen) {
    let own = format!("/proc/{}", site.daemon.id());
    for file in ["cmdline", "environ", "status", "maps"] {
        seen.add(file, std::fs::read(format!("{own}/{file}")).unwrap());
    }
    for task in std::fs::read_dir(format!("{own}/task")).unwrap() {
        let children = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap();
        assert_eq!(children, "", "the daemon starts no process");
    }
    let limits = std::fs::read_to_string(format!("{own}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(),
        ["0", "0"],
        "{core}"
    );
}

/// What is said about templates that fail over a secret: to the admin who wrote one, and to the machine that asks for its answers.
fn broken_templates(site: &Site, seen: &mut Seen) -> String {
    let template = "etc/kickstarts/own/web2.ks";
    let edit = ["system", "edit", "web2", "--autoinstall", "own/web2.ks"];
    site.session
        .write(template, "rootpw --iscrypted {{ root_password_hash }}\n");
    site.session.run(&edit).succeeded();
    for text in BROKEN {
        site.session.write(template, &format!("{text}\n"));
        let ran = site.session.run(&["system", "get-autoinstall", "web2"]).ended(1);
        seen.add(format!("the error of {text}"), format!("{}{}", ran.out, ran.err));
        for arguments in [
            &["system", "arm", "web2"][..],
            &["--json", "system", "arm", "web2"],
            &["validate-autoinstalls"],
            &["check"],
            &["system", "dumpvars", "web2"],
        ] {
            seen.command(site, arguments);
        }
    }
    site.session
        .write(template, "rootpw --iscrypted {{ root_password_hash }}\n");
    site.session.run(&["system", "arm", "web2"]).succeeded();
    let script = site.get(&SCRIPT.replace("-01/", "-02/"));
    let install = token(&script, "/i/");
    // The daemon renders as the command line does; a few show what it makes of the errors.
    for text in BROKEN.iter().step_by(4) {
        site.session.write(template, &format!("{text}\n"));
        // Until the daemon has noticed the new text, it serves the old one.
        let mark = Instant::now();
        loop {
            let answer = site.get(&format!("i/{install}/ks.cfg"));
            if answer.starts_with("HTTP/1.1 500 ") {
                seen.add(format!("the answer of {text}"), answer);
                break;
            }
            assert!(mark.elapsed() < PATIENCE, "{text}: {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
        site.session.write(template, "text of {{ system_name }}\n");
        while !site.get(&format!("i/{install}/ks.cfg")).starts_with("HTTP/1.1 200 ") {
            assert!(mark.elapsed() < PATIENCE * 2, "{text} stays");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    site.session.run(&["system", "disarm", "web2"]).succeeded();
    install
}

/// A whole installation of web1, with tokens in every place where one can be put. Returns both tokens.
fn installation(site: &Site) -> (String, String) {
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
    (install, report)
}

#[test]
fn no_secret_is_where_anybody_can_see_it() {
    let mut site = Site::new();
    let meta = format!("user_password={PASSWORD} host_private_key={PRIVATE}");
    for system in ["web1", "web2"] {
        let edit = ["system", "edit", system, "--autoinstall-meta", &meta];
        site.session.run(&edit).succeeded();
    }
    let objects = Objects::of(&site);
    let names = crawl::names(&site, &objects);
    assert!(names.contains("d/rocky9/images/pxeboot/vmlinuz"), "{names:?}");
    // On a subnet that trusts the token alone, whoever claims an armed machine's MAC gets its script, token and all; tests/lab/deny.rs has
    // the others. So the armed machine's own script, by whatever URL, is looked at once it is done.
    let mut others = names.clone();
    others.retain(|name| !name.contains("52-54-00-00-00-01") && !name.ends_with("pxe/system/web1"));
    assert!(others.len() < names.len());
    let mut seen = Seen::default();
    seen.anonymous(&site, &others, "while armed");
    seen.calls(&site, &objects, "while armed");
    let (install, report) = installation(&site);
    seen.anonymous(&site, &others, "while installing");
    seen.calls(&site, &objects, "while installing");
    seen.commands(&site, &objects, "while installing");
    site.get(&format!("r/{report}/done"));
    assert!(site.get(&format!("i/{install}/ks.cfg")).starts_with("HTTP/1.1 404 "));
    let second = broken_templates(&site, &mut seen);
    seen.anonymous(&site, &names, "when done");
    seen.calls(&site, &objects, "when done");
    seen.commands(&site, &objects, "when done");
    seen.command(&site, &["export"]);
    seen.command(&site, &["--json", "system", "report", "web1"]);
    seen.command(&site, &["system", "report", "web1"]);
    process(&site, &mut seen);
    let backup = site.session.path("backup");
    site.session.run(&["backup", backup.to_str().unwrap()]).succeeded();
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);

    // What is stored: neither tokens nor hashes; the key is the key's own file; and nothing is for others than the owner.
    site.daemon.terminate();
    site.daemon.wait_for_exit(Duration::from_secs(30));
    seen.add("the log", site.daemon.lines().join("\n"));
    for (path, rights, is_socket) in files(&site.session.path("state")) {
        assert!(
            is_socket || rights == 0,
            "{} is open to others: {rights:o}",
            path.display()
        );
        if !is_socket && !path.ends_with("server.key") {
            seen.add(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
    // What a panic would print of a value is its Debug text.
    let text = std::fs::read_to_string(site.session.path("session.toml")).unwrap();
    let config = cordwainer::config::wire::parse(&text, "session.toml").unwrap();
    seen.add("the configuration in a panic message", format!("{config:?}"));

    let key = std::fs::read(site.session.path("state/server.key")).unwrap();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let secrets = [
        ("the hash", b"canarysalt".to_vec()),
        ("the install token", install.into_bytes()),
        ("the report token", report.into_bytes()),
        ("web2's token", second.into_bytes()),
        ("the key", key),
        ("the key in hex", hex.into_bytes()),
        ("the user's password", b"canarypassword7391".to_vec()),
        ("the private key", b"canaryprivate7391".to_vec()),
    ];
    // Variables are the admin's own text: they stand in his record and his documents, and nowhere else.
    let mut control = Seen::default();
    control.add("a place that shows one", format!("x{HASH}y"));
    assert_eq!(control.hits(&secrets, |_, _| false).len(), 1);
    let hits = seen.hits(&secrets, |what, place| {
        let own = ["the user's password", "the private key"].contains(&what);
        own && (place == "export" || place.contains("system report") || place.contains("inventory.db"))
    });
    assert!(hits.is_empty(), "{}", hits.join("\n"));
    assert!(seen.0.len() > 900, "{}", seen.0.len());
}
