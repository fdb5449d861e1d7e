//! Answer files in YAML, XML and JSON, each against the schema or the parser of its own project.

use super::answers::{rendered, rendered_beside};
use super::validators;

fn texts(template: &str) -> Vec<(String, String)> {
    let all = rendered().into_iter().chain(rendered_beside());
    let found: Vec<_> = all
        .filter(|(family, ..)| family.template == template)
        .map(|(_, name, text)| (name, text))
        .collect();
    assert!(found.len() >= 2, "{template}");
    found
}

/// What stands below the only top-level key of a YAML file, two columns to the left.
fn below(text: &str, key: &str) -> String {
    let (_, inner) = text.split_once(&format!("\n{key}:\n")).unwrap();
    inner
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)))
        .collect()
}

#[test]
fn subiquity_would_take_every_autoinstall() {
    let all = texts("ubuntu/user-data");
    let inner: Vec<_> = all
        .iter()
        .map(|(name, text)| (name.clone(), below(text, "autoinstall")))
        .collect();
    validators::schema("autoinstall-schema.json", "yaml", &inner);
    // Its `user-data` is cloud-init's of the installed system, and the schema says nothing of it.
    let users: Vec<_> = inner
        .iter()
        .map(|(name, text)| (name.clone(), dedented(text, "user-data")))
        .collect();
    assert!(users.iter().all(|(_, text)| text.contains("\nusers:\n")));
    validators::schema("schema-cloud-config-v1.json", "yaml", &users);
    // A key that its schema does not list is a slip: it would be passed over.
    let known = [
        "version",
        "early-commands",
        "locale",
        "keyboard",
        "timezone",
        "network",
        "proxy",
        "apt",
        "storage",
        "ssh",
        "user-data",
        "packages",
        "late-commands",
        "error-commands",
        "shutdown",
    ];
    for (name, text) in inner {
        for line in text
            .lines()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        {
            let key = line.split(':').next().unwrap();
            assert!(known.contains(&key), "{name}: {key}");
        }
    }
}

/// The section `key` of a YAML file, two columns to the left.
fn dedented(text: &str, key: &str) -> String {
    let (_, rest) = text.split_once(&format!("\n{key}:\n")).unwrap();
    rest.lines()
        .take_while(|line| line.starts_with("  "))
        .map(|line| format!("{}\n", line.strip_prefix("  ").unwrap()))
        .collect()
}

#[test]
fn cloud_init_would_take_every_seed_file() {
    validators::schema("schema-cloud-config-v1.json", "yaml", &texts("ubuntu/vendor-data"));
    validators::cloud_config("vendor-data", &texts("ubuntu/vendor-data")[0].1);
    let user_data = texts("ubuntu/user-data");
    let stack = user_data.iter().find(|(name, _)| name == "ubuntu24-stack").unwrap();
    validators::cloud_config(&stack.0, &stack.1);
    // What the installed system is given goes through it as it stands.
    let users = dedented(&below(&stack.1, "autoinstall"), "user-data");
    validators::cloud_config("user-data", &format!("#cloud-config\n{users}"));
    let network: Vec<_> = texts("ubuntu/network-config")
        .into_iter()
        .map(|(name, text)| {
            let inner: String = text.lines().map(|line| format!("  {line}\n")).collect();
            (name, format!("network:\n{inner}"))
        })
        .collect();
    validators::schema("schema-network-config-v2.json", "yaml", &network);
    for (name, text) in &network {
        validators::netplan(name, text);
    }
    for (name, text) in texts("ubuntu/meta-data") {
        assert_eq!(
            text, "instance-id: \"cordwainer-web1\"\nlocal-hostname: \"web1\"\n",
            "{name}"
        );
    }
}

#[test]
fn autoyast_is_well_formed_and_typed() {
    validators::xmls(&texts("suse/autoinst.xml"));
    for (name, text) in texts("suse/autoinst.xml") {
        // A list or a truth without its type is read as a text, and AutoYaST stops.
        for list in [
            "partitioning",
            "users",
            "packages",
            "patterns",
            "pre-scripts",
            "postpartitioning-scripts",
            "chroot-scripts",
            "zones",
            "enable",
        ] {
            assert!(
                text.contains(&format!("<{list} config:type=\"list\">")),
                "{name}: {list}"
            );
        }
        for line in text.lines() {
            let value = line.trim().split('>').nth(1).unwrap_or("");
            if ["true<", "false<"].iter().any(|word| value.starts_with(word)) && !line.contains("show") {
                assert!(line.contains("config:type=\"boolean\""), "{name}: {line}");
            }
        }
    }
}

#[test]
fn agama_would_take_every_profile() {
    validators::schema("agama/profile.schema.json", "json", &texts("agama/profile.json"));
}

#[test]
fn ignition_would_take_every_config() {
    for template in ["coreos/config.ign", "coreos/live.ign"] {
        let all = texts(template);
        validators::schema("ignition-v3_5.json", "json", &all);
        for (name, text) in all {
            validators::ignition(&name, &text);
        }
    }
}
