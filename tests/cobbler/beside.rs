//! Repositories and menus by XML-RPC, and what becomes of them: the answer files, the repository file and the boot menu hold them.

use super::{Server, get};
use cordwainer::xmlrpc::{Value, members};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// GETs a path; the whole answer.
pub(super) fn http(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What Ansible, Terraform's `cobbler_repo` and scripts do with a repository; each field that they set is read back.
#[test]
fn a_repository_is_made_and_reaches_the_machines_of_a_profile() {
    let server = Server::new("");
    let token = server.login("admin");
    let call = server.calls_with(&token);
    let make = |kind: &str, name: &str, fields: &[(&str, Value)]| {
        let id = call(&format!("new_{kind}"), &[]);
        call(&format!("modify_{kind}"), &[id.clone(), "name".into(), name.into()]);
        for (field, value) in fields {
            let done = call(&format!("modify_{kind}"), &[id.clone(), (*field).into(), value.clone()]);
            assert_eq!(done, Value::Bool(true), "{field}");
        }
        call(&format!("save_{kind}"), &[id, "new".into()]);
    };
    let terraform = [
        ("apt_components", ["main", "contrib"].into_iter().collect::<Value>()),
        ("apt_dists", ["bookworm", "bookworm-updates"].into_iter().collect()),
        ("arch", "x86_64".into()),
        ("breed", "apt".into()),
        ("comment", "made by terraform".into()),
        ("createrepo_flags", members([("<<inherit>>", Value::Nil)])),
        ("environment", members([("a", "b")].map(|(k, v)| (k, Value::from(v))))),
        ("keep_updated", true.into()),
        ("mirror", "http://mirror.example.org/debian".into()),
        ("mirror_locally", true.into()),
        ("owners", ["admin"].into_iter().collect()),
        ("priority", 99_i64.into()),
        ("proxy", "".into()),
        ("rpm_list", Value::Array(Vec::new())),
    ];
    // Cobbler's createrepo flags are text, whatever a client makes of them.
    let terraform: Vec<(&str, Value)> = terraform
        .into_iter()
        .map(|(field, value)| {
            if field == "createrepo_flags" {
                (field, "-c cache".into())
            } else {
                (field, value)
            }
        })
        .collect();
    make("repo", "site", &terraform);
    let repo = call("get_repo", &["site".into()]);
    for (field, value) in &terraform {
        assert_eq!(get(&repo, field), value, "{field}");
    }
    for more in ["ctime", "mtime", "uid", "mirror_type", "yumopts"] {
        get(&repo, more);
    }
    make(
        "repo",
        "epel",
        &[
            (
                "mirror",
                "http://mirror.example.org/metalink?repo=epel-9&arch=x86_64".into(),
            ),
            ("mirror_type", "metalink".into()),
            ("breed", "yum".into()),
            ("priority", 20_i64.into()),
            ("yumopts", members([("gpgcheck", Value::from("0"))])),
        ],
    );
    // Without a login only the names are told.
    let Value::Array(open) = server.call("get_repos", &[]).unwrap() else {
        panic!()
    };
    assert_eq!(
        open,
        [
            members([("name", Value::from("epel"))]),
            members([("name", Value::from("site"))])
        ]
    );
    assert_eq!(
        call("find_repo", &[members([("breed", Value::from("y*"))]), false.into()]),
        ["epel"].into_iter().collect()
    );
    // What cannot be one is refused, and nothing of it kept.
    let id = call("new_repo", &[]);
    let refused = server.call(
        "modify_repo",
        &[
            id,
            "mirror".into(),
            "http://me:word@mirror.example.org/".into(),
            token.clone(),
        ],
    );
    assert!(refused.unwrap_err().contains("given to anyone"));
    for (profile, kind) in [("rocky9", "yum"), ("debian12", "apt")] {
        let id = call("get_profile_handle", &[profile.into()]);
        call(
            "modify_profile",
            &[id.clone(), "repos".into(), ["site", "epel"].into_iter().collect()],
        );
        call("save_profile", &[id]);
        let answer = server
            .session
            .run(&["profile", "get-autoinstall", profile])
            .succeeded()
            .out;
        let has = |text: &str| answer.contains(text);
        let both = [
            has(
                "repo --name=\"epel\" --metalink=\"http://mirror.example.org/metalink?repo=epel-9&arch=x86_64\" --install",
            ),
            has("http://mirror.example.org/debian bookworm main contrib")
                && has("http://mirror.example.org/debian bookworm-updates main contrib"),
        ];
        assert_eq!(both, [kind == "yum", kind == "apt"], "{answer}");
    }
    let file = http(&server, "/cblr/svc/op/yum/profile/rocky9");
    assert!(
        file.ends_with(
            "[epel]\nname=epel\nmetalink=http://mirror.example.org/metalink?repo=epel-9&arch=x86_64\nenabled=1\npriority=20\ngpgcheck=0\n\n"
        ),
        "{file}"
    );
    assert!(http(&server, "/cblr/svc/op/list/what/repos").ends_with("\r\n\r\nepel\nsite\n"));
    // Cobbler's own stanzas, for templates that were brought along.
    let variables = call("get_blended_data", &["rocky9".into(), "".into()]);
    assert_eq!(
        get(&variables, "yum_repo_stanza").text().unwrap(),
        "repo --name=epel --metalink=http://mirror.example.org/metalink?repo=epel-9&arch=x86_64\n"
    );
    // A repository that goes leaves the profiles, which stay.
    call("remove_repo", &["epel".into()]);
    assert_eq!(
        get(&call("get_profile", &["rocky9".into()]), "repos"),
        &["site"].into_iter().collect()
    );
    assert!(!http(&server, "/cblr/svc/op/yum/profile/rocky9").contains("epel"));
}

/// A stranger's menu, in each loader's language, while the configuration offers one.
#[test]
fn menus_group_what_a_stranger_may_choose() {
    let server = Server::with("", "[boot]\nunknown = \"menu\"\n");
    let run = |words: &[&str]| {
        server.session.run(words).succeeded();
    };
    run(&["menu", "add", "linux", "--display-name", "Linux machines"]);
    run(&[
        "menu",
        "add",
        "el",
        "--parent",
        "linux",
        "--display-name",
        "Red Hat's family",
    ]);
    run(&["menu", "add", "empty"]);
    run(&[
        "profile",
        "edit",
        "rocky9",
        "--menu",
        "el",
        "--display-name",
        "Rocky Linux 9",
    ]);
    let script = http(&server, "/b/ipxe");
    let body = script.split_once("\r\n\r\n").unwrap().1;
    let places: Vec<usize> = [
        "item own_disk ",
        "item menu_0 Linux machines >",
        "item profile_0 Install debian12",
        ":menu_0\nmenu Linux machines\nitem start Back\nitem menu_1 Red Hat's family >\n",
        ":menu_1\nmenu Red Hat's family\nitem menu_0 Back\nitem profile_1 Install Rocky Linux 9\n",
        ":profile_1\n",
    ]
    .iter()
    .map(|part| body.find(part).unwrap_or_else(|| panic!("no {part:?} in {body}")))
    .collect();
    assert!(places.is_sorted(), "{body}");
    assert!(!body.contains("empty"), "{body}");
    let grub = http(&server, "/grub/grub.cfg");
    assert!(
        grub.contains("submenu 'Linux machines' {\nsubmenu 'Red Hat'\\''s family' {\nmenuentry 'Install Rocky Linux 9"),
        "{grub}"
    );
    // By XML-RPC they are as Cobbler has them.
    let token = server.login("admin");
    let menu = server.call("get_menu", &["el".into(), false.into(), token.clone()]);
    let menu = menu.unwrap();
    assert_eq!(get(&menu, "parent").text(), Some("linux"));
    assert_eq!(get(&menu, "depth"), &Value::Int(1));
    let above = server.call("get_menu", &["linux".into(), false.into(), token]).unwrap();
    assert_eq!(get(&above, "children"), &["el"].into_iter().collect());
}

/// Scripts and files by Cobbler's URLs: of a profile only where anyone may have its answer file, of a system by the rules of its own.
#[test]
fn scripts_and_templated_files_are_rendered_for_whom_the_answer_file_is_for() {
    let server = Server::furnished("", "", |session| {
        session.write("etc/kickstarts/scripts/early", "echo {{ profile_name }} $HOME\n");
        session.write("etc/kickstarts/site/motd", "welcome to {{ distro }}\n");
    });
    let run = |words: &[&str]| {
        server.session.run(words).succeeded();
    };
    let body = |path: &str| {
        let answer = http(&server, path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
    };
    let script = "/cblr/svc/op/script/profile/rocky9?script=early";
    let file = "/cblr/svc/op/template/profile/rocky9/path/_etc_site__motd";
    run(&[
        "profile",
        "edit",
        "rocky9",
        "--template-files",
        "site/motd=/etc/site_motd",
    ]);
    for path in [script, file] {
        assert_eq!(body(path).0, "404", "{path}");
    }
    run(&["profile", "edit", "rocky9", "--anonymous-autoinstall=1"]);
    assert_eq!(body(script), ("200".to_owned(), "echo rocky9 $HOME\n".to_owned()));
    assert_eq!(body(file), ("200".to_owned(), "welcome to rocky9\n".to_owned()));
    for path in [
        "/cblr/svc/op/script/profile/rocky9?script=../el9.ks",
        "/cblr/svc/op/script/profile/rocky9?script=/etc/passwd",
        "/cblr/svc/op/script/profile/rocky9?script=late",
        "/cblr/svc/op/script/profile/rocky9",
        "/cblr/svc/op/template/profile/rocky9/path/_etc_shadow",
        "/cblr/svc/op/bootcfg/profile/rocky9",
    ] {
        assert_eq!(body(path).0, "404", "{path}");
    }
    run(&[
        "system",
        "add",
        "web1",
        "--profile",
        "rocky9",
        "--mac",
        "52:54:00:00:00:01",
        "--netboot-enabled=1",
    ]);
    // It is armed, and this is not its address.
    for path in [
        "/cblr/svc/op/script/system/web1?script=early",
        "/cblr/svc/op/template/system/web1/path/_etc_site__motd",
        "/cblr/svc/op/bootcfg/system/web1",
    ] {
        assert_eq!(body(path).0, "404", "{path}");
    }
    assert!(body("/images/rocky9/vmlinuz").1.starts_with("kkkk"));
}

/// `ctime` stays, `mtime` follows each change, and `get_*_since` asks for it.
#[test]
fn what_is_read_says_when_it_was_made_and_changed() {
    let server = Server::new("");
    let token = server.login("admin");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let dates = |name: &str| {
        let profile = server
            .call("get_profile", &[name.into(), false.into(), token.clone()])
            .unwrap();
        let date = |field: &str| match get(&profile, field) {
            Value::Double(seconds) => *seconds,
            other => panic!("{field}: {other:?}"),
        };
        (date("ctime"), date("mtime"))
    };
    let (made, changed) = dates("rocky9");
    assert!(
        made > now - 600.0 && made <= changed && changed < now + 60.0,
        "{made} {changed}"
    );
    server
        .session
        .run(&["profile", "edit", "rocky9", "--comment", "later"])
        .succeeded();
    let later = dates("rocky9");
    assert!(later.0 == made && later.1 >= changed, "{later:?}");
    let since = |seconds: f64| {
        let found = server.call("get_profiles_since", &[Value::Double(seconds), token.clone()]);
        match found.unwrap() {
            Value::Array(found) => found.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(since(now + 600.0), 0);
    assert_eq!(since(0.0), 2);
}

/// What scripts of Cobbler's do with an image: made, found, changed, copied, renamed, stood on, removed.
#[test]
fn an_image_is_kept_by_cobblers_words() {
    let server = Server::new("");
    let token = server.login("admin");
    let call = server.calls_with(&token);
    let id = call("new_image", &[]);
    let fields: [(&str, Value); 8] = [
        ("name", "rescue".into()),
        ("image_type", "iso".into()),
        ("file", "/srv/rescue.iso".into()),
        ("arch", "x86_64".into()),
        ("breed", "redhat".into()),
        ("os_version", "rhel9".into()),
        ("network_count", 2_i64.into()),
        ("virt_ram", 512_i64.into()),
    ];
    for (field, value) in &fields {
        let done = call("modify_image", &[id.clone(), (*field).into(), value.clone()]);
        assert_eq!(done, Value::Bool(true), "{field}");
    }
    assert_eq!(call("save_image", &[id]), Value::Bool(true));
    let image = call("get_image", &["rescue".into(), false.into(), false.into()]);
    for (field, value) in &fields {
        assert_eq!(get(&image, field), value, "{field}");
    }
    // Nobody logged in sees what koan needs, and no more.
    let anyone = server.call("get_image_as_rendered", &["rescue".into()]).unwrap();
    assert_eq!(get(&anyone, "file"), &Value::from("/srv/rescue.iso"));
    assert_eq!(get(&anyone, "virt_bridge"), &Value::from("virbr0"));
    assert_eq!(get(&anyone, "kernel_options"), &Value::from(""));
    let members_of = anyone.members().unwrap();
    for absent in ["network_count", "kernel", "initrd", "autoinst", "kickstart"] {
        assert!(!members_of.contains_key(absent), "{absent}");
    }
    let listed = server.call("get_images", &[]).unwrap();
    assert!(!format!("{listed:?}").contains("/srv"), "{listed:?}");
    assert_eq!(
        call("find_image", &[members([("image_type", "iso".into())]), false.into()]),
        ["rescue"].into_iter().collect()
    );
    let handle = call("get_image_handle", &["rescue".into()]);
    call("copy_image", &[handle, "second".into()]);
    let handle = call("get_image_handle", &["second".into()]);
    call("rename_image", &[handle, "third".into()]);
    let handle = call("get_item_handle", &["image".into(), "third".into()]);
    let wrong = server.call(
        "modify_image",
        &[handle, "image_type".into(), "tape".into(), token.clone()],
    );
    assert!(wrong.unwrap_err().to_string().contains("use direct, iso"));
    // A system that stands on it, as Terraform's provider says that: both, one of them empty.
    let id = call("new_system", &[]);
    for (field, value) in [("name", "box"), ("profile", ""), ("image", "third")] {
        call("modify_system", &[id.clone(), field.into(), value.into()]);
    }
    call("save_system", &[id]);
    let system = call("get_system", &["box".into()]);
    assert_eq!(
        (get(&system, "image"), get(&system, "profile")),
        (&Value::from("third"), &Value::from(""))
    );
    let rendered = server.call("get_system_as_rendered", &["box".into()]).unwrap();
    assert_eq!(get(&rendered, "file"), &Value::from("/srv/rescue.iso"));
    assert_eq!(get(&rendered, "netboot_enabled"), &Value::Bool(false));
    let vars = call("dump_vars", &["third".into()]);
    assert_eq!(get(&vars, "image_name"), &Value::from("third"));
    let refused = server.call("remove_image", &["third".into(), token.clone(), false.into()]);
    assert!(refused.unwrap_err().to_string().contains("system `box`"));
    call("remove_image", &["third".into(), true.into()]);
    assert_eq!(call("get_system", &["box".into()]), Value::from("~"));
    assert_eq!(
        call("get_item_names", &["image".into()]),
        ["rescue"].into_iter().collect()
    );
}

/// The file of an image is for anyone, whole and in parts; what is missing, a guest's disk and the server's own files are for nobody.
#[test]
fn an_images_file_is_served_and_what_is_not_for_machines_is_not() {
    let server = Server::furnished("", "", |session| {
        let file = session.write("tool.img", "0123456789");
        let key = session.path("state/server.key").display().to_string();
        let gone = session.path("gone.img").display().to_string();
        for (name, kind, file) in [
            ("tool", "memdisk", file.as_str()),
            ("golden", "virt-clone", &file),
            ("own", "direct", &key),
            ("gone", "direct", &gone),
        ] {
            session
                .run(&["image", "add", name, "--image-type", kind, "--file", file])
                .succeeded();
        }
        std::fs::write(session.path("state/server.key"), "canary-key").unwrap();
    });
    let get = |path: &str, more: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\n{more}Connection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let whole = get("/images2/tool", "");
    assert!(
        whole.starts_with("HTTP/1.1 200 ") && whole.ends_with("\r\n\r\n0123456789"),
        "{whole}"
    );
    let part = get("/images2/tool", "Range: bytes=2-4\r\n");
    assert!(
        part.starts_with("HTTP/1.1 206 ") && part.ends_with("\r\n\r\n234"),
        "{part}"
    );
    for image in ["golden", "own", "gone", "none", "tool/x", "..%2fsession.toml"] {
        let answer = get(&format!("/images2/{image}"), "");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{image}: {answer}");
        assert!(!answer.contains("canary"), "{answer}");
    }
    let serving = server
        .daemon
        .lines()
        .into_iter()
        .find(|line| line.contains("tftp port "))
        .unwrap();
    let port: String = serving
        .split("tftp port ")
        .nth(1)
        .unwrap()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let mut curl = std::process::Command::new("curl");
    let output = curl
        .args(["-s", &format!("tftp://127.0.0.1:{port}/images2/tool")])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"0123456789", "by TFTP: {output:?}");
    // A missing file is its own image's matter: told once, and found by `check`.
    let told = server.daemon.lines().join("\n");
    assert!(
        told.contains("image gone: ") && told.contains("ASSET_MISSING"),
        "{told}"
    );
    let check = server.session.run(&["check"]).out;
    for words in [
        "image gone cannot be booted: ",
        "image own cannot be booted: ",
        "is one that the server keeps to itself",
    ] {
        assert!(check.contains(words), "no {words} in {check}");
    }
    // What cannot boot is not armed, and says why.
    for (system, image, words) in [
        ("a", "gone", "is missing"),
        ("b", "golden", "is the disk of guests, which no machine boots"),
    ] {
        let mac = format!("52:54:00:00:01:0{system}");
        let add = ["system", "add", system, "--image", image, "--mac-address", &mac];
        server.session.run(&add).succeeded();
        let refused = server.session.run(&["system", "arm", system]).ended(1);
        assert!(refused.err.contains(words), "{}", refused.err);
    }
    let mac = "52:54:00:00:01:0c";
    let add = ["system", "add", "c", "--image", "tool", "--mac-address", mac];
    server.session.run(&add).succeeded();
    let armed = server.session.run(&["system", "arm", "c"]).succeeded();
    assert!(armed.out.contains("starts image tool, once"), "{}", armed.out);
    assert!(!armed.out.contains("WIPED"), "{}", armed.out);
    assert!(armed.err.contains("boots on a BIOS only"), "{}", armed.err);
}
