//! Whole sessions against golden transcripts: every line typed, what came back on both channels, the exit code.
//!
//! `UPDATE_GOLDEN=1` writes what happened into the golden files; read the difference before you keep it.

use super::Session;
use std::path::Path;
use std::process::Command;

/// A public key that looks like one; nobody has its other half.
pub(super) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFvYqg0mM4n0bq0mWl3m5sQ0gk2mYt1vWc3yJ4b6t8zN admin@example";

/// A session with a configuration, loaders and an install tree of a Red Hat family that holds only what import looks at.
pub(super) fn prepared(defaults: &str) -> Session {
    let session = Session::new();
    session.write("loaders/undionly.kpxe", "not a loader");
    session.write("loaders/snponly.efi", "not a loader");
    let config = format!(
        "[server]\naddress = \"192.0.2.1\"\ninterfaces = [\"lo\"]\n[dhcp]\nmode = \"authoritative\"\n[[subnet]]\nnetwork = \"192.0.2.0/24\"\n\
         pool = \"192.0.2.100-192.0.2.199\"\n[boot]\nloader_paths = [\"{}\"]\n[defaults]\n{defaults}\n",
        session.path("loaders").display()
    );
    session.write(
        "session.toml",
        &config.replace("[boot]", &format!("[boot]\n# {}", "loaders of this session")),
    );
    let overrides = session.path("etc");
    let text = std::fs::read_to_string(session.path("session.toml")).unwrap();
    session.write(
        "session.toml",
        &format!("overrides = \"{}\"\n{text}", overrides.display()),
    );
    session.write(
        "tree/.treeinfo",
        "[general]\nname = Rocky Linux 9.4\nfamily = Rocky Linux\nversion = 9.4\narch = x86_64\nplatforms = x86_64,xen\n\
         [release]\nname = Rocky Linux\nshort = Rocky\nversion = 9.4\n[tree]\narch = x86_64\nplatforms = x86_64,xen\n\
         [images-x86_64]\nkernel = images/pxeboot/vmlinuz\ninitrd = images/pxeboot/initrd.img\n",
    );
    session.write("tree/repodata/repomd.xml", "<repomd/>");
    session.write("tree/images/pxeboot/vmlinuz", &"k".repeat(4096));
    session.write("tree/images/pxeboot/initrd.img", &"i".repeat(8192));
    session.write(
        "objects/a.toml",
        "[[system]]\nname = \"web5\"\nprofile = \"rocky9\"\nnetboot_enabled = true\n",
    );
    session.write("netwrok.toml", "[[subnet]]\nnetwrok = \"192.0.2.0/24\"\n");
    session.write("broken/a.toml", "[[system]]\nname = \"web6\"\nprofil = \"rocky9\"\n");
    session
}

/// Splits like the transcripts are written: blanks separate, quotes join.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut inside, mut quote) = (String::new(), false, None);
    for c in line.chars() {
        match c {
            '"' | '\'' if quote.is_none() || quote == Some(c) => {
                quote = if quote.is_none() { Some(c) } else { None };
                inside = true;
            }
            ' ' if quote.is_none() => {
                if std::mem::take(&mut inside) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                inside = true;
            }
        }
    }
    if inside {
        words.push(word);
    }
    words
}

/// Takes out what differs from run to run: times, spans of time, sizes of the moment.
fn redacted(session: &Session, text: &str) -> String {
    let user = Command::new("id").arg("-un").output().unwrap();
    let user = String::from_utf8(user.stdout).unwrap();
    let text = session
        .redacted(text)
        .replace(&format!("by {}", user.trim()), "by USER");
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut out: Vec<String> = Vec::new();
        for word in line.split(' ') {
            let bare = word.trim_matches(['(', ')', ',', ';', '"', '.']);
            let is_time = bare.len() == 20 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T';
            let is_dated = bare.len() > 16 && bare.ends_with('Z') && bare.contains("-20");
            if is_time {
                out.push(word.replace(bare, "TIME"));
            } else if is_dated {
                let (stem, _) = bare.rsplit_once('-').unwrap();
                out.push(word.replace(bare, &format!("{stem}-TIME")));
            } else {
                out.push(word.to_owned());
            }
        }
        let line = out.join(" ");
        // `0.31 s` of an import, `12 s ago` of an arming.
        let line = match line.find(" s ago").or_else(|| line.find(" s);")) {
            Some(at) => {
                let start = line[..at].rfind(' ').unwrap() + 1;
                format!("{}N{}", &line[..start], &line[at..])
            }
            None => line,
        };
        lines.push(line);
    }
    lines.join("\n")
}

/// Plays the golden file's commands and compares everything that came back.
fn play(session: &Session, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cli").join(name);
    let golden = std::fs::read_to_string(&path).unwrap();
    let mut happened = String::new();
    for line in golden.lines() {
        let Some(typed) = line.strip_prefix("$ ") else {
            if line.starts_with('#') {
                happened.push_str(line);
                happened.push('\n');
            }
            continue;
        };
        let home = session.path("");
        let typed_here = typed.replace("HOME", home.to_str().unwrap().trim_end_matches('/'));
        let typed_words = words(&typed_here);
        let arguments: Vec<&str> = typed_words.iter().skip(1).map(String::as_str).collect();
        let ran = session.run(&arguments);
        happened.push_str(&format!("$ {typed}\n"));
        for (mark, text) in [("", &ran.out), ("! ", &ran.err)] {
            for line in redacted(session, text).lines() {
                happened.push_str(format!("{mark}{line}").trim_end());
                happened.push('\n');
            }
        }
        if ran.code != 0 {
            happened.push_str(&format!("[{}]\n", ran.code));
        }
    }
    if std::env::var("UPDATE_GOLDEN").as_deref() == Ok("1") {
        std::fs::write(&path, &happened).unwrap();
        return;
    }
    for (number, (expected, got)) in (1..).zip(golden.lines().zip(happened.lines())) {
        assert_eq!(got, expected, "{name}:{number}");
    }
    assert_eq!(
        happened.lines().count(),
        golden.lines().count(),
        "{name} is shorter or longer than what happened:\n{happened}"
    );
}

#[test]
fn from_a_tree_to_an_armed_machine() {
    play(
        &prepared(&format!("ssh_authorized_keys = [\"{KEY}\"]")),
        "armed.transcript",
    );
}

#[test]
fn what_is_refused_says_why_and_changes_nothing() {
    let session = prepared("");
    let latin = session.write("etc/kickstarts/latin.ks", "");
    std::fs::write(latin, b"rootpw \xe9\n").unwrap();
    play(&session, "refused.transcript");
}

#[test]
fn objects_are_copied_renamed_found_and_removed() {
    play(&prepared(""), "objects.transcript");
}

#[test]
fn repos_menus_and_all_kinds_at_once() {
    play(&prepared(""), "beside.transcript");
}
