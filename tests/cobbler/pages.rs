//! The rest of Cobbler's URLs, as scripts, Puppet, yum and ESXi ask for them: what is for anyone is given, and nothing else is.

use super::{Server, beside};
use crate::import::family_trees;
use cordwainer::xmlrpc::{Value, members};
use std::os::unix::fs::symlink;

/// Status, the header fields, and the body.
fn fetch(server: &Server, path: &str) -> (u16, String, String) {
    let answer = beside::http(server, path);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        head.to_owned(),
        body.to_owned(),
    )
}

fn body(server: &Server, path: &str) -> String {
    let (status, _, body) = fetch(server, path);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[test]
fn the_service_tells_anyone_what_is_no_secret() {
    let server = Server::with("", "");
    let run = |words: &[&str]| {
        server.session.run(words).succeeded();
    };
    for path in ["/cblr/svc/op/index", "/cblr/svc/", "/cblr/svc/op"] {
        assert_eq!(body(&server, path), "no mode specified", "{path}");
    }
    let settings: serde_json::Value = serde_json::from_str(&body(&server, "/cblr/svc/op/settings")).unwrap();
    assert_eq!(settings["server"], "127.0.0.1");
    assert_eq!(settings["pxe_just_once"], true);
    assert!(
        settings.as_object().unwrap().keys().all(|key| {
            ["pass", "secret", "crypt", "key", "token"]
                .iter()
                .all(|word| !key.contains(word))
        }),
        "{settings}"
    );
    // Tasks are told to logins alone: who knows an id reads its log.
    let token = server.login("admin");
    let task = server
        .call(
            "background_sync",
            &[members([("verbose", Value::Bool(false))]), token.clone()],
        )
        .unwrap();
    assert!(task.text().unwrap().contains("Sync"));
    for path in ["/cblr/svc/op/events", "/cblr/svc/op/events/user/admin"] {
        assert_eq!(body(&server, path), "[]", "{path}");
    }
    assert_eq!(fetch(&server, "/cblr/svc/op/debug/profile/rocky9").0, 404);
    assert_eq!(fetch(&server, "/cblr/svc/op/nosuch").0, 404);
    run(&[
        "profile",
        "edit",
        "rocky9",
        "--mgmt-classes",
        "base ntp",
        "--mgmt-parameters",
        "password=canary-puppet",
    ]);
    run(&[
        "system",
        "add",
        "web1",
        "--profile",
        "rocky9",
        "--hostname",
        "web1.example.org",
        "--mgmt-classes",
        "ntp \"od: d\"",
        "--status",
        "testing",
    ]);
    let classes = body(&server, "/cblr/svc/op/puppet/hostname/web1.example.org");
    assert_eq!(
        classes,
        "---\nclasses:\n- \"base\"\n- \"ntp\"\n- \"od: d\"\nenvironment: \"testing\"\n\
         # mgmt_parameters are given to logins only: get_blended_data of XML-RPC\n"
    );
    assert_eq!(
        body(&server, "/cblr/svc/op/puppet/hostname/nobody"),
        "---\nclasses: []\n"
    );
    assert_eq!(body(&server, "/cblr/svc/op/puppet"), "hostname is required");
    assert_eq!(body(&server, "/cblr/svc/op/list"), "web1\n");
    assert_eq!(
        server.call("get_status", &["text".into(), token.clone()]).unwrap(),
        Value::from("ip             |target              |start            |state            ")
    );
    assert_eq!(
        server.call("get_status", &["normal".into(), token]).unwrap(),
        members::<String>([])
    );
}

#[test]
fn a_settings_page_keeps_a_proxys_login() {
    let server = Server::furnished("", "", |session| {
        let file = session.path("session.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(
            &file,
            text + "proxy = \"http://me:canary-proxy@proxy.example.org:3128\"\n",
        )
        .unwrap();
    });
    let settings = body(&server, "/cblr/svc/op/settings");
    assert!(
        !settings.contains("canary") && !settings.contains("proxy_url_int"),
        "{settings}"
    );
}

#[test]
fn whoever_asks_for_a_mirrored_repository_is_sent_to_it() {
    let server = Server::new("");
    for (name, more) in [
        (
            "epel",
            &["--mirror", "https://mirror.example.org/epel/9/", "--breed", "yum"][..],
        ),
        (
            "lists",
            &[
                "--mirror",
                "https://mirror.example.org/list",
                "--mirror-type",
                "mirrorlist",
            ],
        ),
        ("copied", &["--mirror", "rsync://mirror.example.org/x"]),
        ("vars", &["--mirror", "http://mirror.example.org/$releasever/os"]),
    ] {
        let add = [&["repo", "add", "--name", name], more].concat();
        server.session.run(&add).succeeded();
    }
    for (path, to) in [
        ("/cobbler/repo_mirror/epel", "https://mirror.example.org/epel/9/"),
        (
            "/cobbler/repo_mirror/epel/repodata/repomd.xml",
            "https://mirror.example.org/epel/9/repodata/repomd.xml",
        ),
        ("/cblr/repo_mirror/epel//p/a%20b%25%0d.rpm", ""),
        (
            "/cblr/repo_mirror/epel//p/a%20b%25%3f.rpm",
            "https://mirror.example.org/epel/9/p/a%20b%25%3F.rpm",
        ),
        ("/cobbler/repo_mirror/epel/../../x", ""),
        ("/cobbler/repo_mirror/lists/repodata/repomd.xml", ""),
        ("/cobbler/repo_mirror/copied/x", ""),
        ("/cobbler/repo_mirror/vars/x", ""),
        ("/cobbler/repo_mirror/nosuch/x", ""),
        ("/cobbler/repo_mirror", ""),
    ] {
        let (status, head, _) = fetch(&server, path);
        let location = head
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .unwrap_or("");
        assert_eq!(
            (status, location),
            (if to.is_empty() { 404 } else { 302 }, to),
            "{path}: {head}"
        );
    }
}

#[test]
fn the_admins_own_folder_is_served_and_nothing_beside_it() {
    let server = Server::new("");
    assert_eq!(fetch(&server, "/cobbler/pub/").0, 404, "there is none yet");
    let secret = server.session.write("state/secret.txt", "canary-state");
    let file = server.session.write("state/pub/scripts/one & only.sh", "echo hello\n");
    server.session.write("state/pub/empty/.keep", "");
    let folder = server.session.path("state/pub");
    symlink(&secret, folder.join("out")).unwrap();
    symlink("../secret.txt", folder.join("up")).unwrap();
    symlink("/etc", folder.join("etc")).unwrap();
    symlink("one & only.sh", folder.join("scripts/again")).unwrap();
    assert!(file.contains("state/pub"));
    for prefix in ["/cobbler", "/cblr"] {
        assert_eq!(
            body(&server, &format!("{prefix}/pub/scripts/one%20&%20only.sh")),
            "echo hello\n"
        );
        assert_eq!(body(&server, &format!("{prefix}/pub/scripts/again")), "echo hello\n");
    }
    let listing = body(&server, "/cobbler/pub/");
    assert!(
        listing.contains("<a href=\"scripts/\">") && listing.contains("empty/"),
        "{listing}"
    );
    for hidden in ["out", "up", "\"etc", "../"] {
        assert!(!listing.contains(hidden), "{hidden} in {listing}");
    }
    let (status, head, _) = fetch(&server, "/cobbler/pub");
    assert!(status == 301 && head.contains("Location: /cobbler/pub/\r\n"), "{head}");
    for path in [
        "/cobbler/pub/out",
        "/cobbler/pub/up",
        "/cobbler/pub/etc/passwd",
        "/cobbler/pub/../inventory.db",
        "/cobbler/pub/%2e%2e/inventory.db",
        "/cobbler/pub/scripts/..%2f..%2f..%2fserver.key",
        "/cobbler/pub/nosuch",
    ] {
        let (status, _, body) = fetch(&server, path);
        assert!(status == 404 && !body.contains("canary"), "{path}: {status} {body}");
    }
}

#[test]
fn the_repositories_of_a_tree_have_files_for_yum() {
    let server = Server::new("");
    let base = format!("http://127.0.0.1:{}", server.port);
    let is = |stem: &str, url: &str| {
        let text = body(&server, &format!("/cobbler/distro_mirror/config/{stem}.repo"));
        assert_eq!(
            text,
            format!("[{stem}]\nname={stem}\nbaseurl={url}\nenabled=1\ngpgcheck=1\n")
        );
    };
    // The port of the configuration is what machines are told.
    let told = body(&server, "/cobbler/distro_mirror/config/rocky9-0.repo");
    let told = told
        .lines()
        .find_map(|line| line.strip_prefix("baseurl="))
        .unwrap()
        .to_owned();
    let tree = told.strip_suffix("/BaseOS").unwrap();
    assert!(
        tree.ends_with("/d/rocky9") && base.starts_with("http://127.0.0.1"),
        "{told}"
    );
    is("rocky9-1", &format!("{tree}/AppStream"));
    server
        .session
        .run(&[
            "distro",
            "edit",
            "rocky9",
            "--in-place",
            "--autoinstall-meta",
            "repository=https://m.example.org/9/BaseOS/x86_64/os",
        ])
        .succeeded();
    is("rocky9-0", "https://m.example.org/9/BaseOS/x86_64/os");
    is("rocky9-1", "https://m.example.org/9/AppStream/x86_64/os");
    for path in [
        "rocky9-2",
        "rocky9",
        "rocky9-x",
        "debian12-0",
        "nosuch-0",
        "-0",
        "rocky9--1",
    ] {
        assert_eq!(
            fetch(&server, &format!("/cobbler/distro_mirror/config/{path}.repo")).0,
            404,
            "{path}"
        );
    }
}

/// The boot.cfg of an ESXi machine: its modules by their places below the tree, its kickstart by a URL that opens.
#[test]
fn esxi_gets_its_boot_cfg_by_cobblers_url() {
    const MAC: &str = "52:54:00:00:0e:51";
    let server = Server::furnished("", "", |session| {
        let media = family_trees::media();
        let medium = media.iter().find(|medium| medium.title == "ESXi 8").unwrap();
        medium.write(&session.path("esxi"));
        let tree = session.path("esxi");
        session
            .run(&["import", "--path", tree.to_str().unwrap(), "--name", "esxi8"])
            .succeeded();
    });
    let run = |words: &[&str]| {
        server.session.run(words).succeeded();
    };
    let profile = "/cblr/svc/op/bootcfg/profile/esxi8";
    assert_eq!(fetch(&server, profile).0, 404, "not for anyone");
    run(&["profile", "edit", "esxi8", "--anonymous-autoinstall=1"]);
    let check = |config: &str| {
        let line = |key: &str| {
            let mut lines = config.lines();
            lines
                .find_map(|line| line.strip_prefix(key))
                .unwrap_or_else(|| panic!("no {key} in {config}"))
                .to_owned()
        };
        assert!(line("prefix=").ends_with("/d/esxi8"), "{config}");
        assert_eq!(line("kernel="), "b.b00");
        assert_eq!(
            line("modules="),
            "jumpstrt.gz --- useropts.gz --- features.gz --- k.b00"
        );
        // The configuration's port is any; the path is what opens.
        let kickstart = line("kernelopt=runweasel ks=");
        let path = kickstart.split_once("127.0.0.1").unwrap().1;
        body(&server, &path[path.find('/').unwrap()..])
    };
    let kickstart = check(&body(&server, profile));
    assert!(kickstart.contains("vmaccepteula"), "{kickstart}");
    // A machine's own, while it is armed, by its token.
    run(&[
        "system",
        "add",
        "esx1",
        "--profile",
        "esxi8",
        "--mac",
        MAC,
        "--ip-address",
        "127.0.0.1",
        "--netboot-enabled=1",
    ]);
    let url = "/cblr/svc/op/bootcfg/system/esx1";
    assert_eq!(fetch(&server, url).0, 404, "the subnet trusts the token alone");
    let script = body(&server, &format!("/b/{}/ipxe", MAC.replace(':', "-")));
    let token = script.split("/i/").nth(1).unwrap_or_else(|| panic!("{script}"));
    let token: String = token.chars().take_while(char::is_ascii_alphanumeric).collect();
    let config = body(&server, &format!("{url}/token/{token}"));
    assert!(config.contains(&format!("/i/{token}/ks.cfg")), "{config}");
    let kickstart = check(&config);
    assert!(kickstart.contains("vmaccepteula"), "{kickstart}");
    assert_eq!(fetch(&server, &format!("{url}/token/{}", "a".repeat(32))).0, 404);
    let token = server.login("admin");
    let Value::Struct(status) = server.call("get_status", &["normal".into(), token.clone()]).unwrap() else {
        panic!("no struct")
    };
    let Value::Array(line) = &status["127.0.0.1"] else {
        panic!("{status:?}")
    };
    assert_eq!(line[2], Value::from("system:esx1"));
    assert!(line[5].text().unwrap().starts_with("installing (0m "), "{line:?}");
    let table = server.call("get_status", &["text".into(), token]).unwrap();
    assert!(
        table
            .text()
            .unwrap()
            .contains("\n127.0.0.1      |system:esx1         |"),
        "{table:?}"
    );
}
