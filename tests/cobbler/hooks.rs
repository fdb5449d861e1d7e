//! Cobbler's triggers for what admins do: programs that run after an object was added, changed or deleted, and around a sync, whoever did it.

use super::Server;
use cordwainer::xmlrpc::{Value, members};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A hook that says how it was called, and ends as the file `CODE` beside the log says.
fn hook(session: &crate::cli::Session, folder: &str) {
    let home = session.path("");
    let text = format!(
        "#!/bin/sh\necho {folder} \"$@\" / $CORDWAINER_EVENT $CORDWAINER_KIND $CORDWAINER_NAME >> {log}\nexit $(cat {code}/{flat} 2>/dev/null || echo 0)\n",
        log = home.join("said").display(),
        code = home.display(),
        flat = folder.replace('/', "-"),
    );
    let path = session.write(&format!("etc/hooks/{folder}/10-say"), &text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn wait_for(log: &Path, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        if said == wanted {
            return;
        }
        assert!(
            Instant::now() < deadline && wanted.starts_with(&said),
            "the hooks said\n{said}and not\n{wanted}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn hooks_hear_of_every_change_in_order_whoever_makes_it() {
    let server = Server::furnished("", "", |session| {
        for folder in [
            "add/system/post",
            "add/profile/post",
            "delete/system/post",
            "change",
            "sync/pre",
            "sync/post",
            // No hook refuses a change.
            "add/system/pre",
        ] {
            hook(session, folder);
        }
        // Anybody could have put these there.
        hook(session, "delete/profile/post");
        let open = session.path("etc/hooks/delete/profile");
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).unwrap();
    });
    let log = server.session.path("said");
    let run = |words: &[&str]| {
        server.session.run(words).succeeded();
    };
    let mut wanted = String::new();
    let mut then = |lines: &[&str]| {
        for line in lines {
            wanted.push_str(line);
            wanted.push('\n');
        }
        wait_for(&log, &wanted);
    };
    // What was there when the daemon started is no change. Armings are none either, nor what hooks have no folder for.
    run(&["repo", "add", "--name", "epel", "--mirror", "http://m.example.org/"]);
    then(&["change epel / add repo epel"]);
    run(&[
        "system",
        "add",
        "web1",
        "--profile",
        "rocky9",
        "--mac",
        "52:54:00:00:00:01",
    ]);
    run(&["system", "arm", "web1"]);
    run(&["system", "edit", "web1", "--comment", "$(touch /tmp/x)"]);
    then(&[
        "add/system/post web1 / add system web1",
        "change web1 / add system web1",
        "add/system/post web1 / edit system web1",
        "change web1 / edit system web1",
    ]);
    run(&["system", "rename", "web1", "--newname", "web2"]);
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_to_string(&log).unwrap().lines().count() < 9 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    let renamed = std::fs::read_to_string(&log).unwrap();
    for line in [
        "delete/system/post web1 / delete system web1",
        "change web1 / delete system web1",
        "add/system/post web2 / add system web2",
        "change web2 / add system web2",
    ] {
        assert!(renamed.lines().skip(5).any(|said| said == line), "{line} in {renamed}");
    }
    std::fs::remove_file(&log).unwrap();
    let mut wanted = String::new();
    let mut then = |lines: &[&str]| {
        for line in lines {
            wanted.push_str(line);
            wanted.push('\n');
        }
        wait_for(&log, &wanted);
    };
    // By XML-RPC, and a hook that fails holds up nothing.
    std::fs::write(server.session.path("add-profile-post"), "7").unwrap();
    let token = server.login("admin");
    let edit = [
        "profile".into(),
        "rocky9".into(),
        "edit".into(),
        members([("comment", Value::from("x"))]),
        token.clone(),
    ];
    assert_eq!(server.call("xapi_object_edit", &edit), Ok(Value::Bool(true)));
    then(&[
        "add/profile/post rocky9 / edit profile rocky9",
        "change rocky9 / edit profile rocky9",
    ]);
    assert_eq!(server.call("sync", std::slice::from_ref(&token)), Ok(Value::Bool(true)));
    then(&["sync/pre / sync", "sync/post / sync", "change / sync"]);
    run(&["sync"]);
    then(&["sync/pre / sync", "sync/post / sync", "change / sync"]);
    // One that fails before a sync keeps those after it from running.
    std::fs::write(server.session.path("sync-pre"), "1").unwrap();
    run(&["sync"]);
    then(&["sync/pre / sync"]);
    run(&["profile", "copy", "debian12", "--newname", "other"]);
    then(&[
        "add/profile/post other / add profile other",
        "change other / add profile other",
    ]);
    run(&["profile", "remove", "other"]);
    then(&["change other / delete profile other"]);
    let said = server.daemon.lines().join("\n");
    assert!(
        said.contains("add/system/pre are not run: no hook refuses a change"),
        "{said}"
    );
    assert!(
        said.contains("others than root and the daemon's user may write to"),
        "{said}"
    );
    assert!(
        said.contains("add/profile/post/10-say rocky9 ended with exit status: 7"),
        "{said}"
    );
    assert!(!Path::new("/tmp/x").exists());
}
