//! Templates and snippets that are kept over XML-RPC, as Terraform's `cobbler_template_file` and `cobbler_snippet` do.

use super::Server;
use cordwainer::xmlrpc::{Value, members};
use std::fs;

const OURS: &str = "lang en_US\nurl --url={{ tree }}\n{{ snippet('team/motd') }}\nreboot\n";

/// The one word that a failed call's fault must hold.
fn refused(server: &Server, method: &str, arguments: &[Value], word: &str) {
    let fault = server.call(method, arguments).unwrap_err();
    assert!(fault.contains(word), "{method}{arguments:?}: {fault}");
}

#[test]
fn a_template_is_written_used_and_removed() {
    let server = Server::new("");
    let token = server.login("admin");
    let call = server.calls_with(&token);
    let yes = Value::Bool(true);
    assert_eq!(
        call(
            "write_autoinstall_snippet",
            &["team/motd".into(), "# welcome to {{ name }}".into()]
        ),
        yes
    );
    assert_eq!(call("write_autoinstall_template", &["web.ks".into(), OURS.into()]), yes);
    // What was answered holds at once: it is read back, listed, and what machines get.
    assert_eq!(call("read_autoinstall_template", &["web.ks".into()]), OURS.into());
    assert_eq!(
        call("read_autoinstall_snippet", &["team/motd".into()]),
        "# welcome to {{ name }}".into()
    );
    let listed = call("get_autoinstall_templates", &[]);
    assert!(
        matches!(&listed, Value::Array(all) if all.contains(&"web.ks".into())),
        "{listed:?}"
    );
    let id = call("get_profile_handle", &["rocky9".into()]);
    call("modify_profile", &[id.clone(), "autoinstall".into(), "web.ks".into()]);
    call("save_profile", std::slice::from_ref(&id));
    let shown = call("generate_profile_autoinstall", &["rocky9".into()]);
    let shown = shown.text().unwrap();
    assert!(shown.contains("# welcome to rocky9\nreboot\n"), "{shown}");
    assert_eq!(
        call("write_autoinstall_template", &["web.ks".into(), "# another\n".into()]),
        yes
    );
    assert_eq!(
        call("generate_profile_autoinstall", &["rocky9".into()]),
        "# another\n".into()
    );
    // Nothing is left beside what was written.
    let folder = server.session.path("etc/kickstarts");
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["web.ks"]);

    let remove = |path: &str| [Value::from(path), token.clone()];
    refused(&server, "remove_autoinstall_template", &remove("web.ks"), "in use");
    call(
        "modify_profile",
        &[id.clone(), "autoinstall".into(), "<<inherit>>".into()],
    );
    call("save_profile", &[id]);
    assert_eq!(call("remove_autoinstall_template", &["web.ks".into()]), yes);
    assert_eq!(call("remove_autoinstall_snippet", &["team/motd".into()]), yes);
    refused(
        &server,
        "read_autoinstall_template",
        &remove("web.ks"),
        "there is no template",
    );
    refused(
        &server,
        "remove_autoinstall_snippet",
        &remove("team/motd"),
        "there is no snippet",
    );
    assert!(!folder.join("web.ks").exists());
}

#[test]
fn what_is_no_template_of_the_admins_is_neither_read_nor_written() {
    let server = Server::new("");
    let token = server.login("admin");
    server.session.write("secret", "a secret of the server's");
    for path in [
        "",
        "/etc/shadow",
        "../secret",
        "a/../../secret",
        "..",
        ".hidden",
        "a//b",
        "a\\b",
        "a b",
        "x\ny",
        &"a/".repeat(40),
        &"a".repeat(4000),
    ] {
        for kind in ["template", "snippet"] {
            for (verb, more) in [("read", None), ("remove", None), ("write", Some(Value::from("# x\n")))] {
                let arguments: Vec<Value> = [Some(path.into()), more, Some(token.clone())]
                    .into_iter()
                    .flatten()
                    .collect();
                let fault = server
                    .call(&format!("{verb}_autoinstall_{kind}"), &arguments)
                    .unwrap_err();
                assert!(!fault.contains("secret of"), "{fault}");
            }
        }
    }
    let write = |text: Value| [Value::from("x.ks"), text, token.clone()];
    refused(
        &server,
        "write_autoinstall_template",
        &write("{% if %}".into()),
        "x.ks:1: this is not the template language",
    );
    refused(
        &server,
        "write_autoinstall_template",
        &write(members([("a", Value::Nil)])),
        "must be a string",
    );
    // A template that is part of the program stays; one of the same name takes its place until it is taken away again.
    let built_in = [Value::from("debian/preseed.cfg"), token.clone()];
    refused(&server, "remove_autoinstall_template", &built_in, "built in");
    let before = server.call("read_autoinstall_template", &built_in).unwrap();
    let own = [Value::from("debian/preseed.cfg"), "# our own\n".into(), token.clone()];
    assert_eq!(server.call("write_autoinstall_template", &own), Ok(Value::Bool(true)));
    assert_eq!(
        server.call("read_autoinstall_template", &built_in),
        Ok("# our own\n".into())
    );
    assert_eq!(
        server.call("remove_autoinstall_template", &built_in),
        Ok(Value::Bool(true))
    );
    assert_eq!(server.call("read_autoinstall_template", &built_in), Ok(before));
    // Where it cannot be written, the fault says so and not where.
    let etc = server.session.path("etc");
    fs::remove_dir_all(&etc).unwrap();
    fs::write(&etc, "no folder").unwrap();
    let fault = server
        .call("write_autoinstall_template", &write("# x\n".into()))
        .unwrap_err();
    assert!(fault.contains("template x.ks could not be written"), "{fault}");
    assert!(!fault.contains(etc.to_str().unwrap()), "{fault}");
}
