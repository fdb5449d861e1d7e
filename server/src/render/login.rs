//! Whether a machine installed by an answer file could be logged into (DESIGN 6: arming is refused otherwise).
//!
//! It looks at the rendered text, so that an admin's own template counts as much as a shipped one; comments do not count.

use super::vars::variables;
use crate::boot::{AnswerFile, World};
use serde_json::Value;

/// True for a crypted password as crypt(5) writes it: `$6$`, `$y$`, `$5$`, `$2b$`, `$gy$`, `$7$`, `$1$`.
pub(super) fn looks_crypted(text: &str) -> bool {
    const SCHEMES: [&str; 9] = ["$6$", "$y$", "$5$", "$2b$", "$2y$", "$2a$", "$gy$", "$7$", "$1$"];
    text.match_indices('$')
        .filter_map(|(at, _)| text.get(at..))
        .filter(|rest| SCHEMES.iter().any(|scheme| rest.starts_with(scheme)))
        .any(|hash| {
            hash.bytes()
                .take_while(|byte| byte.is_ascii_alphanumeric() || b"$./=,".contains(byte))
                .count()
                >= 20
        })
}

fn has_public_key(line: &str) -> bool {
    [
        "ssh-ed25519 AAAA",
        "ssh-rsa AAAA",
        "ssh-dss AAAA",
        "ecdsa-sha2-",
        "sk-ssh-ed25519@",
        "sk-ecdsa-sha2-",
    ]
    .iter()
    .any(|kind| line.contains(kind))
}

/// Ways in that name neither hash nor key: a password in the clear, or an account that the template makes.
fn has_account(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["rootpw", rest @ ..] => rest.iter().any(|word| !word.starts_with("--")) && !rest.contains(&"--lock"),
        ["user", rest @ ..] => rest.iter().any(|word| word.starts_with("--password=")),
        [
            _,
            "passwd/root-password" | "passwd/user-password",
            "password",
            value,
            ..,
        ] => !matches!(*value, "!" | "*"),
        [key, value, ..] => {
            matches!(*key, "ssh_import_id:" | "plain_text_passwd:" | "user_password:")
                && !matches!(*value, "\"\"" | "''" | "!" | "*")
        }
        _ => false,
    }
}

/// AutoYaST's password, where it is one.
fn has_xml_password(line: &str) -> bool {
    let inner = line.split_once("<user_password>").map(|(_, rest)| rest);
    inner.is_some_and(|rest| !matches!(rest.split('<').next().unwrap_or("").trim(), "" | "!" | "*"))
}

/// What of an answer file can open a login, line by line. JSON has no comments, but its scripts do, so its texts are read as they will
/// be; XML's comments span lines.
fn lines_of(rendered: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(rendered) {
        json_lines("", &value, &mut lines);
    } else if rendered.trim_start().starts_with('<') {
        let mut rest = rendered;
        let mut text = String::new();
        while let Some((before, comment)) = rest.split_once("<!--") {
            text.push_str(before);
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
        }
        text.push_str(rest);
        lines.extend(text.lines().map(str::to_owned));
    } else {
        lines.extend(rendered.lines().map(str::to_owned));
    }
    lines.retain(|line| !line.trim_start().starts_with('#'));
    lines
}

/// The texts of a JSON value; the password of a user in the clear (Agama) as a line that [`has_account`] knows.
fn json_lines(parent: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::String(text) => lines.extend(text.lines().map(str::to_owned)),
        Value::Array(items) => items.iter().for_each(|item| json_lines(parent, item, lines)),
        Value::Object(map) => {
            for (key, value) in map {
                if let ("root" | "user", "password", Some(text)) = (parent, key.as_str(), value.as_str()) {
                    lines.push(format!("user_password: {text}"));
                } else {
                    json_lines(key, value, lines);
                }
            }
        }
        _ => {}
    }
}

/// Whether `rendered`, the answer file of `answer`, leaves somebody a way to log in: a password hash, an SSH key, or an account with a
/// password.
#[must_use]
pub fn leaves_login(answer: &AnswerFile, world: &World, rendered: &str) -> bool {
    let lines = lines_of(rendered);
    if lines
        .iter()
        .any(|line| looks_crypted(line) || has_public_key(line) || has_account(line) || has_xml_password(line))
    {
        return true;
    }
    // A hash of an old scheme, or a key of a new kind, that the settings name.
    let mut known: Vec<String> = Vec::new();
    for variable in variables(answer, world) {
        match (&*variable.name, variable.value()) {
            ("root_password_hash", Value::String(hash)) => known.push(hash.clone()),
            ("ssh_authorized_keys", Value::Array(keys)) => {
                known.extend(keys.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            _ => {}
        }
    }
    known
        .iter()
        .map(|text| text.trim())
        .filter(|text| text.len() >= 8)
        .any(|text| lines.iter().any(|line| line.contains(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_known_from_other_dollars() {
        assert!(looks_crypted("rootpw --iscrypted $6$abcdefgh$0123456789abcdef"));
        assert!(looks_crypted("x $y$j9T$abcdefgh$0123456789abcdef y"));
        for text in ["", "echo $1$2", "$6$", "price $5$ and more words here to be long"] {
            assert!(!looks_crypted(text), "{text}");
        }
    }

    fn opens(text: &str) -> bool {
        let opens =
            |line: &String| looks_crypted(line) || has_public_key(line) || has_account(line) || has_xml_password(line);
        lines_of(text).iter().any(opens)
    }

    #[test]
    fn each_format_is_read_as_its_installer_reads_it() {
        for text in [
            r#"{"root": {"password": "letmein"}}"#,
            r#"{"root": {"sshPublicKey": "ssh-ed25519 AAAAC3 a"}}"#,
            r#"{"passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["ssh-rsa AAAAB3 a"]}]}}"#,
            r#"{"scripts": {"post": [{"content": "x\necho ssh-rsa AAAAB3 a >> k\n"}]}}"#,
            "<?xml version=\"1.0\"?>\n<user_password>letmein</user_password>",
            "autoinstall:\n  ssh:\n    authorized-keys:\n      - ssh-rsa AAAAB3 a",
        ] {
            assert!(opens(text), "{text}");
        }
        for text in [
            r#"{"root": {"password": ""}, "user": {"password": "!"}}"#,
            r#"{"wireless": {"password": "letmein"}}"#,
            r##"{"scripts": {"post": [{"content": "x\n# ssh-rsa AAAAB3 a\n"}]}}"##,
            "<?xml version=\"1.0\"?>\n<!-- ssh-rsa AAAAB3\nssh-rsa AAAAB3 a -->\n<user_password>!</user_password>",
            "#cloud-config\n# ssh-rsa AAAAB3 a\n",
        ] {
            assert!(!opens(text), "{text}");
        }
    }

    #[test]
    fn accounts_need_a_password() {
        for line in [
            "rootpw letmein",
            "user --name=a --password=b",
            "d-i passwd/user-password password b",
        ] {
            assert!(has_account(line), "{line}");
        }
        for line in [
            "rootpw --lock",
            "rootpw",
            "user --name=a",
            "d-i passwd/root-password password !",
            "a b",
        ] {
            assert!(!has_account(line), "{line}");
        }
    }
}
