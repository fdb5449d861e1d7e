//! cordwainer.toml: any text gives a configuration or problems that name their lines; what is printed reads back; no secret is repeated.

use cordwainer::config::{dump, wire};

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match wire::parse(&text, "f.toml") {
        Ok(config) => {
            let printed = dump(&config);
            if let Some(hash) = &config.defaults.root_password_hash {
                let bare = text.matches(hash.reveal().as_str()).count() == 1 && hash.reveal().len() > 8;
                assert!(
                    !bare || !printed.contains(hash.reveal().as_str()),
                    "the hash is printed"
                );
                return;
            }
            let again = wire::parse(&printed, "printed.toml").unwrap_or_else(|error| panic!("{error}\n{printed}"));
            assert_eq!(
                again, config,
                "what is printed reads back as something else:\n{printed}"
            );
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            let lines = text.lines().count() + 1;
            for problem in &error.problems {
                assert!(
                    problem.line.is_none_or(|line| (1..=lines).contains(&line)),
                    "line {:?} of {lines}",
                    problem.line
                );
                assert!(!problem.what.is_empty());
            }
            let said = error.to_string();
            // A value may be quoted, a secret never. A short one may stand in any sentence.
            if let Ok(document) = text.parse::<toml::Table>()
                && let Some(toml::Value::Table(defaults)) = document.get("defaults")
                && let Some(toml::Value::String(hash)) = defaults.get("root_password_hash")
                && hash.len() > 12
                && text.matches(hash.as_str()).count() == 1
            {
                assert!(!said.contains(hash.as_str()), "the hash is repeated: {said}");
            }
        }
    }
}
