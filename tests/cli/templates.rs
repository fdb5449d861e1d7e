//! `template edit`: the admin's editor is a program of the test, and a template is put in place only once it renders.

use super::transcript::{KEY, prepared};
use super::{Ran, Session};
use std::os::unix::fs::PermissionsExt as _;

fn ready() -> Session {
    let session = prepared(&format!("ssh_authorized_keys = [\"{KEY}\"]"));
    let tree = session.path("tree");
    session
        .run(&["import", "--path", tree.to_str().unwrap(), "--name", "rocky9"])
        .succeeded();
    session
}

/// Runs `template edit` with an editor that is a script.
fn edit(session: &Session, name: &str, script: &str) -> Ran {
    let editor = session.write("editor", &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let tmp = session.path("tmp");
    std::fs::create_dir_all(&tmp).unwrap();
    let editor = format!("{editor} --wait");
    session.run_with(
        &["template", "edit", name],
        &[("VISUAL", &editor), ("TMPDIR", tmp.to_str().unwrap())],
        "",
    )
}

#[test]
fn a_good_edit_is_installed_and_used() {
    let session = ready();
    // The editor is called with its own arguments first, then the file.
    let ran = edit(
        &session,
        "redhat/el9.ks",
        "[ \"$1\" = --wait ] && echo '# ours' >> \"$2\"",
    )
    .succeeded();
    assert!(ran.out.starts_with("installed "), "{}", ran.out);
    let rendered = session.run(&["profile", "get-autoinstall", "rocky9"]).succeeded();
    assert!(rendered.out.ends_with("# ours\n"), "{}", rendered.out);
    assert!(
        std::fs::read_dir(session.path("tmp")).unwrap().next().is_none(),
        "the copy is left behind"
    );
}

#[test]
fn an_edit_that_does_not_render_is_kept_aside() {
    let session = ready();
    let ran = edit(&session, "redhat/el9.ks", "echo '{{ nobody_knows_this }}' >> \"$2\"").ended(1);
    assert!(
        ran.err.contains("does not render") && ran.err.contains("nobody_knows_this"),
        "{}",
        ran.err
    );
    assert!(!session.path("etc").exists());
    let kept = std::fs::read_dir(session.path("tmp"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert!(ran.err.contains(kept.to_str().unwrap()), "{}", ran.err);
    assert!(std::fs::read_to_string(kept).unwrap().contains("nobody_knows_this"));
}

#[test]
fn an_edit_that_changes_nothing_and_an_editor_that_fails_change_nothing() {
    let session = ready();
    assert_eq!(edit(&session, "snippets/report", "true").succeeded().out, "unchanged\n");
    let ran = edit(&session, "redhat/el9.ks", "echo x >> \"$2\"; exit 3").ended(1);
    assert!(ran.err.contains("exit status: 3"), "{}", ran.err);
    assert!(!session.path("etc").exists());
}

#[test]
fn templates_are_listed_and_shown_as_json() {
    let session = ready();
    let list = session.run(&["--json", "template", "list"]).succeeded().json();
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == "redhat/el9.ks" && one["from"] == "built in")
    );
    let shown = session
        .run(&["--json", "template", "show", "--name", "redhat/el9.ks"])
        .succeeded()
        .json();
    assert!(shown["text"].as_str().unwrap().contains("Enterprise Linux 9"));
}
