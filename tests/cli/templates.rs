//! `template` and `validate-autoinstalls`. In `template edit` the admin's editor is a program of the test, and a template is put in place only once it renders.

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

#[test]
fn every_answer_file_is_validated_by_machine_file_and_line() {
    let session = ready();
    for (name, mac) in [("web1", "52:54:00:00:00:01"), ("web2", "52:54:00:00:00:02")] {
        let arguments = [
            "system",
            "add",
            "--name",
            name,
            "--profile",
            "rocky9",
            "--mac-address",
            mac,
        ];
        session.run(&arguments).succeeded();
    }
    let ran = session.run(&["validate-autoinstalls"]).succeeded();
    assert_eq!(ran.out, "all 3 answer files render\n");
    // A snippet of one machine alone.
    session.write("etc/snippets/per_system/ssh_keys/web2", "one\n{{ hostnam }}\n");
    let ran = session.run(&["validate-autoinstalls"]).ended(1);
    assert_eq!(
        ran.out,
        "system web2  ks.cfg: snippets/per_system/ssh_keys/web2:2: `hostnam` is not defined; did you mean `hostname`?\n  \
         remedy  cordwainer template edit snippets/per_system/ssh_keys/web2\n1 of 3 answer files are wrong\n"
    );
    let json = session.run(&["--json", "validate-autoinstalls"]).ended(1).json();
    assert_eq!(json["checked"], 3);
    let problem = &json["problems"][0];
    assert_eq!(
        (
            problem["name"].as_str(),
            problem["file"].as_str(),
            problem["line"].as_u64()
        ),
        (Some("web2"), Some("ks.cfg"), Some(2))
    );
    // What nobody could log into is said too.
    session.write("etc/kickstarts/redhat/el9.ks", "text\n");
    let ran = session.run(&["validate-autoinstalls"]).succeeded();
    assert!(ran.err.contains("system web1: nobody could log in"), "{}", ran.err);
}

#[test]
fn an_edit_tells_beforehand_whom_it_changes() {
    let session = ready();
    for (name, mac) in [("web1", "52:54:00:00:00:01"), ("web2", "52:54:00:00:00:02")] {
        let arguments = [
            "system",
            "add",
            "--name",
            name,
            "--profile",
            "rocky9",
            "--mac-address",
            mac,
        ];
        session.run(&arguments).succeeded();
    }
    session.write("etc/snippets/per_system/report/web2", "report() { :; }\n");
    session.write("etc/kickstarts/own.ks", "{{ snippet('ssh_keys') }}\n");
    let arguments = [
        "system",
        "edit",
        "--name",
        "web2",
        "--in-place",
        "--autoinstall",
        "own.ks",
    ];
    session.run(&arguments).succeeded();
    session.run(&["system", "arm", "web1"]).succeeded();
    let names = |file: &str| -> Vec<String> {
        let json = session.run(&["--json", "template", "impact", file]).succeeded().json();
        let changes = json["changes"].as_array().unwrap().iter();
        changes
            .map(|one| {
                format!(
                    "{}{}",
                    one["name"].as_str().unwrap(),
                    if one["armed"] == true { "!" } else { "" }
                )
            })
            .collect()
    };
    assert_eq!(names("redhat/el9.ks"), ["rocky9", "web1!"]);
    assert_eq!(names("own.ks"), ["web2"]);
    assert_eq!(names("report"), ["rocky9", "web1!"]);
    assert_eq!(names("snippets/ssh_keys"), ["rocky9", "web1!", "web2"]);
    assert_eq!(names("snippets/per_system/report/web2"), Vec::<String>::new());
    let path = session.path("etc/kickstarts/own.ks");
    assert_eq!(names(path.to_str().unwrap()), ["web2"]);
    let ran = session.run(&["template", "impact", "own.ks"]).succeeded();
    assert_eq!(
        ran.out,
        "system  web2  ks.cfg\n1 of 3 profiles and systems use own.ks\n"
    );
    let ran = session.run(&["template", "impact", "redhat/el19.ks"]).ended(1);
    assert!(ran.err.contains("did you mean `redhat/el"), "{}", ran.err);
}

#[test]
fn a_template_of_cobblers_is_converted_and_what_it_could_not_is_named() {
    let session = ready();
    let source = session.write("old.ks", "lang $locale\n#if $disk\nx $disk\n#end if\n#import random\n");
    let ran = session.run(&["template", "convert", &source]).ended(1);
    let head = "lang {{ locale }}\n{% if disk %}\nx {{ disk }}\n{% endif %}\n{{ unconverted_line_5() }}";
    assert!(ran.out.starts_with(head), "{}", ran.out);
    assert!(
        ran.err
            .contains("old.ks:5: not converted: `#import random`: templates import nothing")
            && ran.err.contains("1 to do: each is marked"),
        "{}",
        ran.err
    );
    let source = session.write("good.ks", "lang $locale\n");
    let target = session.path("etc/kickstarts/good.ks");
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    let ran = session
        .run(&["template", "convert", &source, "--output", target.to_str().unwrap()])
        .succeeded();
    assert_eq!(ran.out, format!("wrote {}\n", target.display()));
    session
        .run(&["profile", "edit", "--name", "rocky9", "--autoinstall", "good.ks"])
        .succeeded();
    let rendered = session.run(&["profile", "get-autoinstall", "rocky9"]).succeeded();
    assert_eq!(rendered.out, "lang en_US.UTF-8\n");
}

#[test]
fn odd_input_to_convert_is_refused_or_converted_whole_and_never_waited_for() {
    let session = ready();
    let refused = |path: &str, why: &str| {
        let ran = session.run_within(5, &["template", "convert", path]).ended(1);
        assert!(ran.out.is_empty() && ran.err.contains(why), "{path}: {}", ran.err);
    };
    let at = |name: &str| session.path(name).to_str().unwrap().to_owned();
    refused(&at("nowhere.ks"), "No such file");
    refused(&at("loaders"), "is no text of at most 256 KiB");
    refused("/dev/zero", "is no text of at most 256 KiB");
    nix::unistd::mkfifo(&session.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&at("pipe"), "is no text of at most 256 KiB");
    std::fs::File::create(session.path("huge"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    refused(&at("huge"), "is no text of at most 256 KiB");
    std::fs::write(session.path("binary"), b"\x7fELF\x02\x01\xff\xfe\0\0").unwrap();
    refused(&at("binary"), "is no UTF-8 text");
    // As large as may be, of one line and of many, and of nothing but beginnings.
    let most = 256 << 10;
    for (name, text) in [
        ("one-line", "x".repeat(most)),
        ("many-lines", "#if $a\n".repeat(most / 7)),
        ("open", "$".repeat(most)),
        ("deep", "(".repeat(most)),
        ("deeper", format!("${{{}", "a[".repeat(most / 2 - 8))),
        (
            "nested",
            format!("#if {}$a{}\n#end if\n", "(".repeat(most / 3), ")".repeat(most / 3)),
        ),
        (
            "nested-less",
            format!("${{{}a{}}}\n", "(".repeat(1500), ")".repeat(1500)),
        ),
        ("braces", "${".repeat(most / 2)),
        ("calls", "$a(".repeat(most / 3)),
        ("unclosed", "#if (\n".repeat(most / 6)),
        (
            "sets",
            format!("{}{}", "#if $a\n".repeat(most / 16), "#set $x=1\n".repeat(most / 20)),
        ),
        ("empty", String::new()),
    ] {
        let source = session.write(name, &text);
        let ran = session.run_within(30, &["template", "convert", &source]);
        assert!(matches!(ran.code, 0 | 1), "{name}: {}", ran.err);
    }
    // Lines that end as on Windows are converted as the others.
    let text = "#set $a = 'x'\n#if $a == 'x'\nlang $locale\n#else\nlang C\n#end if\n## a note\n$SNIPPET('report')\n";
    let (unix, windows) = (
        session.write("unix.ks", text),
        session.write("windows.ks", &text.replace('\n', "\r\n")),
    );
    let converted = |path: &str| session.run(&["template", "convert", path]).succeeded().out;
    assert_eq!(converted(&windows).replace("\r\n", "\n"), converted(&unix));
}

#[test]
fn odd_templates_and_snippets_are_named_by_validate_and_change_no_other() {
    let session = ready();
    let validate = || session.run(&["validate-autoinstalls"]);
    assert_eq!(validate().succeeded().out, "all 1 answer files render\n");
    // Windows line ends never reach an installer's shell.
    session.write("etc/snippets/ssh_keys", "# one\r\n# two\r\n");
    validate().succeeded();
    let text = session.run(&["profile", "get-autoinstall", "rocky9"]).succeeded().out;
    assert!(text.contains("# one\n# two\n") && !text.contains('\r'), "{text}");
    for (what, snippet, why) in [
        ("itself", "{{ snippet('ssh_keys') }}", "etc/snippets/ssh_keys"),
        ("by another", "{{ snippet('round') }}", "snippets/"),
        ("nothing", "{{ snippet('nowhere') }}", "there is no snippet `nowhere`"),
        (
            "a loop",
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "snippets/ssh_keys",
        ),
    ] {
        session.write("etc/snippets/round", "{{ snippet('ssh_keys') }}");
        session.write("etc/snippets/ssh_keys", snippet);
        let began = std::time::Instant::now();
        let ran = validate().ended(1);
        assert!(began.elapsed().as_secs() < 20, "{what} took {:?}", began.elapsed());
        assert!(
            ran.out.starts_with("profile rocky9  ks.cfg: ") && ran.out.ends_with("1 of 1 answer files are wrong\n"),
            "{what}: {}",
            ran.out
        );
        let why = why.trim_start_matches("etc/");
        assert!(ran.out.contains(why), "{what}: {}", ran.out);
        // And an edit of it is still told by machine.
        let impact = session.run(&["template", "impact", "snippets/ssh_keys"]).succeeded();
        assert!(
            impact.out.contains("rocky9") || impact.err.contains("rocky9"),
            "{what}: {}{}",
            impact.out,
            impact.err
        );
    }
    // What is no text, or too large, is not used, and is said: what is built in stays.
    for (what, bytes) in [
        ("binary", b"\xff\xfe\0\0".to_vec()),
        ("huge", vec![b'x'; (1 << 20) + 1]),
    ] {
        std::fs::write(session.path("etc/snippets/ssh_keys"), bytes).unwrap();
        assert_eq!(validate().succeeded().out, "all 1 answer files render\n", "{what}");
        let check = session.run(&["check"]);
        assert!(
            format!("{}{}", check.out, check.err).contains("snippets/ssh_keys: is no text"),
            "{what}: {}{}",
            check.out,
            check.err
        );
    }
}
