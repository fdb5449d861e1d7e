//! Power by XML-RPC: the daemon asks the supervisor of guests, which has libvirt's own test driver here; refused where nobody allowed it,
//! and of everything else the supervisor is closed to the daemon's account.

use super::{Server, get};
use crate::lab::child::Child;
use crate::lab::need::{self, Need};
use cordwainer::guest::protocol::{Act, Reply, Request, Which};
use cordwainer::guest::supervise::{Client, ClientError};
use cordwainer::xmlrpc::{Value, members};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// A domain that each connection to the test driver finds there.
const DRIVER: [&str; 2] = ["--connect", "test:///default"];

fn supervisor(server: &Server, more: &[&str]) -> Child {
    let mut command = server
        .session
        .command(&[&["guest", "supervise"], &DRIVER[..], more].concat());
    let mut child = Child::start("cordwainer guest supervise", &mut command);
    child.wait_for_line("supervising guests", PATIENCE);
    child
}

/// The ordinary guest that a system is, beside one that is none.
fn furnish(server: &Server) {
    for name in ["web1", "iron"] {
        let add = [
            "system",
            "add",
            "--name",
            name,
            "--profile",
            "rocky9",
            "--power-type",
            "ipmilanplus",
        ];
        server.session.run(&add).succeeded();
    }
    let adopt = [&["guest", "adopt", "test", "--system", "web1"], &DRIVER[..]].concat();
    server.session.run(&adopt).succeeded();
}

#[test]
fn the_power_of_a_guest_is_switched_by_cobblers_words() {
    let server = Server::new("power = \"on\"\n");
    let token = server.login("admin");
    let power = |system: &str, word: &str| {
        let handle = server.call("get_system_handle", &[system.into(), token.clone()])?;
        server.call("power_system", &[handle, word.into(), token.clone()])
    };
    server
        .session
        .run(&["system", "add", "--name", "early", "--profile", "rocky9"])
        .succeeded();
    let fault = power("early", "status").unwrap_err();
    assert!(
        fault.contains("systemctl start cordwainer-guests") && !fault.contains(".sock"),
        "{fault}"
    );

    let _supervisor = supervisor(&server, &[]);
    furnish(&server);
    let yes = Ok(Value::Bool(true));
    let no = Ok(Value::Bool(false));
    assert_eq!(power("web1", "status"), yes);
    assert_eq!(power("web1", "off"), yes);
    assert_eq!(power("web1", "status"), no);
    let cli = |word: &str| server.session.run(&["system", word, "web1"]).succeeded().out;
    assert_eq!(cli("powerstatus"), "off\n");
    assert_eq!(cli("poweroff"), "system web1 is off already\n");
    assert_eq!(power("web1", "reboot"), yes);
    assert_eq!(power("web1", "status"), yes);
    assert_eq!(cli("poweroff"), "system web1 is off\n");
    assert_eq!(power("web1", "on"), yes);
    assert_eq!(power("web1", "on"), yes, "once more changes nothing");
    assert_eq!(cli("powerstatus"), "on\n");

    let fault = power("iron", "off").unwrap_err();
    assert!(
        fault.contains("iron is no guest") && fault.contains("the machine's own controller"),
        "{fault}"
    );
    assert!(power("web1", "explode").unwrap_err().contains("on or off"));
    assert!(power("nobody", "on").is_err());
    // A new system has no power yet.
    let new = server.call("new_system", std::slice::from_ref(&token)).unwrap();
    let fault = server
        .call("power_system", &[new, "on".into(), token.clone()])
        .unwrap_err();
    assert!(fault.contains("not saved yet"), "{fault}");
    // Who may only look switches nothing.
    let looker = server.login("looker");
    let fault = server
        .call("power_system", &["system::web1".into(), "off".into(), looker])
        .unwrap_err();
    assert!(fault.contains("authorization failure"), "{fault}");
    assert_eq!(cli("powerstatus"), "on\n");

    let task = |systems: &[&str], word: &str| {
        let systems: Value = systems.iter().copied().collect();
        let options = members([("systems", systems), ("power", word.into())]);
        let id = server
            .call("background_power_system", &[options, token.clone()])
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Value::Array(status) = server.call("get_task_status", std::slice::from_ref(&id)).unwrap() else {
                panic!("no status")
            };
            if status[2] != Value::from("running") {
                let log = server.call("get_event_log", std::slice::from_ref(&id)).unwrap();
                return (status[2].text().unwrap().to_owned(), log.text().unwrap().to_owned());
            }
            assert!(Instant::now() < deadline, "{status:?}");
        }
    };
    let (state, log) = task(&["web1"], "off");
    assert_eq!(
        (state.as_str(), log.as_str()),
        ("complete", "web1: off\n*** TASK COMPLETE ***\n")
    );
    let (state, log) = task(&["iron", "web1"], "on");
    assert_eq!(state, "failed");
    assert!(
        log.starts_with("iron: system iron is no guest") && log.contains("\nweb1: on\n*** TASK FAILED ***"),
        "{log}"
    );
    let none = members([("systems", Value::Array(Vec::new())), ("power", "on".into())]);
    assert!(server.call("background_power_system", &[none, token.clone()]).is_err());
    let system = server.call("get_system", &["web1".into(), token.clone()]).unwrap();
    assert_eq!(
        get(&system, "power_type"),
        &Value::from("ipmilanplus"),
        "kept all the same"
    );
}

#[test]
fn power_stays_where_it_is_until_the_configuration_says_so() {
    let server = Server::new("");
    let _supervisor = supervisor(&server, &[]);
    furnish(&server);
    let token = server.login("admin");
    let fault = server
        .call("power_system", &["system::web1".into(), "off".into(), token])
        .unwrap_err();
    assert!(
        fault.contains("power = \"on\" into [cobbler]") || fault.contains("power = \\\"on\\\""),
        "{fault}"
    );
    assert_eq!(
        server.session.run(&["system", "powerstatus", "web1"]).succeeded().out,
        "on\n"
    );
}

/// The supervisor of the shipped unit answers root alone; with power allowed its own account, which is the daemon's, gets that and no more.
#[test]
fn the_servers_account_may_ask_for_power_and_for_nothing_else() {
    const NOBODY: u32 = 65_534;
    if !need::all("cobbler_power", &[&[Need::Root]]) {
        return;
    }
    for allowed in [true, false] {
        let session = crate::cli::Session::new();
        let power = if allowed { "on" } else { "off" };
        session.write("session.toml", &format!("[cobbler]\npower = \"{power}\"\n"));
        super::furnish(&session);
        session
            .run(&["system", "add", "--name", "web1", "--profile", "rocky9"])
            .succeeded();
        // The state is the account's, as the units have it.
        let home = session.path("");
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
        chown(session.path("state"), Some(NOBODY), Some(NOBODY)).unwrap();
        for file in std::fs::read_dir(session.path("state")).unwrap() {
            chown(file.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut command = session.command(&[&["guest", "supervise", "--root-only"], &DRIVER[..]].concat());
        command.uid(NOBODY).gid(NOBODY).env("HOME", session.path("state"));
        let mut supervisor = Child::start("cordwainer guest supervise", &mut command);
        supervisor.wait_for_line("supervising guests", PATIENCE);
        let adopt = [&["guest", "adopt", "test", "--system", "web1"], &DRIVER[..]].concat();
        session.run(&adopt).succeeded();
        let as_account = |arguments: &[&str]| {
            let mut command = session.command(arguments);
            let output = command.uid(NOBODY).gid(NOBODY).output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.success(), text(&output.stdout) + &text(&output.stderr))
        };
        let (asked, said) = as_account(&["system", "powerstatus", "web1"]);
        assert_eq!((asked, said == "on\n"), (allowed, allowed), "{said}");
        for refused in [
            vec!["guest", "list"],
            vec!["guest", "destroy", "test"],
            vec!["guest", "show", "test"],
            vec!["guest", "delete", "test", "--disks"],
        ] {
            let (done, said) = as_account(&refused);
            assert!(!done || !said.contains("test:///default"), "{refused:?}: {said}");
            if allowed {
                assert!(said.contains("root alone may ask this"), "{refused:?}: {said}");
            }
        }
        // Root asks whatever it likes.
        let client = Client::connect(&session.path("state")).unwrap();
        let which = Which {
            guest: "test".parse().unwrap(),
            connect: None,
        };
        let did = client.ask_one(&Request::Act {
            which,
            act: Act::Destroy,
        });
        assert!(matches!(did, Ok(Reply::Did { .. })), "{did:?}");
        let strange = client.ask_one(&Request::Power {
            system: "other".parse().unwrap(),
            power: cordwainer::model::Power::Status,
        });
        assert!(
            matches!(&strange, Err(ClientError::Refused(why)) if why.contains("no guest")),
            "{strange:?}"
        );
    }
}
