//! Whether a machine installed by an answer file could be logged into (DESIGN 6: arming is refused otherwise).
//!
//! It looks at the rendered text, so that an admin's own template counts as much as a shipped one; comments do not count.

use super::vars::variables;
use crate::boot::{AnswerFile, World};
use serde_json::Value;

/// True for a crypted password as crypt(5) writes it: `$6$`, `$y$`, `$5$`, `$2b$`, `$gy$`, `$7$`, `$1$`.
pub(super) fn looks_crypted(text: &str) -> bool {
    const SCHEMES: [&str; 9] = ["$6$", "$y$", "$5$", "$2b$", "$2y$", "$2a$", "$gy$", "$7$", "$1$"];
    SCHEMES.iter().any(|scheme| {
        text.match_indices(scheme).any(|(at, _)| {
            text.get(at..).is_some_and(|hash| {
                hash.chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || "$./=,".contains(*c))
                    .count()
                    >= 20
            })
        })
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
                && !matches!(*value, "\"\"" | "''")
        }
        _ => false,
    }
}

/// Whether `rendered`, the answer file of `answer`, leaves somebody a way to log in: a password hash, an SSH key, or an account with a
/// password.
#[must_use]
pub fn leaves_login(answer: &AnswerFile, world: &World, rendered: &str) -> bool {
    let lines = || rendered.lines().filter(|line| !line.trim_start().starts_with('#'));
    if lines().any(|line| looks_crypted(line) || has_public_key(line) || has_account(line)) {
        return true;
    }
    // A hash of an old scheme, or a key of a new kind, that the settings name.
    let mut known: Vec<String> = Vec::new();
    for variable in variables(answer, world) {
        match (variable.name.as_str(), variable.value()) {
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
        .any(|text| lines().any(|line| line.contains(text)))
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
