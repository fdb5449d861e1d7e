//! Paths and names that we hand out: what is made is read back, what is read never climbs, what is shown holds no token.

use super::canary;
use cordwainer::boot::paths::{LONGEST, base_url, image_file, loader, normal, parse, redact_text, script, shown, tree};
use cordwainer::boot::{Ask, CobblerAsk, CobblerPage, Dialect};
use cordwainer::http::route::{percent_decode, percent_encode, redact};
use cordwainer::model::Mac;

/// The bytes are a path as TFTP has it; also text for people, and what a URL is made of.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parsed = parse(&text);
    match &parsed.ask {
        Ask::TreeFile { distro, path } => {
            below(path);
            let made = percent_decode(&tree(distro, path), false).expect("a path that we made");
            if made.len() <= LONGEST {
                assert_eq!(parse(&made), parsed, "what is made is not read back");
            }
        }
        Ask::Loader(name) => {
            assert!(
                !name.is_empty() && !name.contains('/'),
                "{name:?} is no name of a loader"
            );
            if name.len() + 2 <= LONGEST {
                assert_eq!(parse(&loader(name)), parsed);
            }
        }
        Ask::Script(dialect) => {
            if let Some(mac) = parsed.mac {
                assert_eq!(parse(&script(mac, *dialect)), parsed);
            }
        }
        Ask::ScriptAt(_, address) => {
            let asked = parse(&format!("pxelinux.cfg/{:08X}", address.to_bits()));
            assert_eq!(asked.ask, parsed.ask);
        }
        Ask::ImageFile(image) => assert_eq!(parse(&image_file(image)), parsed),
        Ask::AnswerFile { token, file } => {
            below(file);
            assert!(!token.contains('/') && !file.is_empty());
        }
        Ask::Report { token, stage, .. } => assert!(!token.contains('/') && !stage.contains('/')),
        Ask::Cobbler(ask) => match ask {
            CobblerAsk::Answer { name, token, file, .. } => {
                let parts = [Some(name), token.as_ref(), file.as_ref()];
                assert!(
                    parts
                        .into_iter()
                        .flatten()
                        .all(|part| !part.contains('/') && !part.is_empty())
                );
            }
            CobblerAsk::DebianTree { path, .. }
            | CobblerAsk::Page(CobblerPage::Public { path } | CobblerPage::RepoMirror { path, .. }) => below(path),
            CobblerAsk::Page(CobblerPage::DistroRepo { file }) => below(file),
            CobblerAsk::Page(
                CobblerPage::Index
                | CobblerPage::Settings
                | CobblerPage::Events
                | CobblerPage::Debug
                | CobblerPage::Puppet { .. },
            ) => {}
            CobblerAsk::Autodetect
            | CobblerAsk::Ipxe { .. }
            | CobblerAsk::Nopxe { .. }
            | CobblerAsk::Trigger { .. }
            | CobblerAsk::List(_)
            | CobblerAsk::Yum { .. } => {}
        },
        Ask::Unknown(_) => {}
        Ask::BootFile => panic!("no path asks for that"),
    }
    if let Some(clean) = normal(&text) {
        below(&clean);
        assert_eq!(
            normal(&clean).as_deref(),
            Some(clean.as_str()),
            "a regular path is no longer regular"
        );
    }
    // TFTP's names may have `\` for `/`, which is part of a name elsewhere.
    if let Some(clean) = normal(&text.replace('\\', "/")) {
        assert_eq!(parse(&clean), parsed, "two spellings of one path are told apart");
    }
    let decoded = percent_decode(&percent_encode(&text), false);
    assert_eq!(decoded.as_deref(), Some(&*text).filter(|text| !text.contains('\0')));
    for text in [shown(&text), redact(&text)] {
        assert!(
            text.chars().count() <= 255 && !text.chars().any(char::is_control),
            "{text:?}"
        );
        no_token(&text);
    }
    no_token(&redact_text(&text));
    assert_eq!(redact_text(&redact_text(&text)), redact_text(&text));
    let mut mac = [0; 6];
    mac.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    for dialect in [Dialect::Ipxe, Dialect::Grub, Dialect::Pxelinux] {
        let read = parse(&script(Mac::new(mac), dialect));
        if !Mac::new(mac).is_unusable() {
            assert_eq!((read.mac, read.ask), (Some(Mac::new(mac)), Ask::Script(dialect)));
        }
    }
    assert!(!base_url(std::net::Ipv4Addr::from([mac[0], mac[1], mac[2], mac[3]]), 80).ends_with('/'));
}

/// No text holds the proof of a token, in whatever case.
fn no_token(text: &str) {
    canary::must_not_sing(text.to_ascii_lowercase().as_bytes(), "a path as it is shown");
}

/// A path that stays below the place that it is looked up in.
pub fn below(path: &str) {
    assert!(!path.starts_with('/') && !path.contains('\0'), "{path:?} is not below");
    assert!(
        !path.split('/').any(|part| part == ".." || part == "."),
        "{path:?} climbs"
    );
}
