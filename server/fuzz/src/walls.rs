//! The three walls that any stranger's bytes meet first, each alone: a DHCP packet, a TFTP packet, an HTTP target. Cheap, so they are
//! tried most; what happens behind them is tried by `dhcp`, `tftp` and `http`.

use super::canary;
use super::dhcp::read_everything;
use super::paths::below;
use super::tftp::judge_arrival;
use cordwainer::boot::Ask;
use cordwainer::dhcp::wall::parse;
use cordwainer::http::Route;
use cordwainer::http::route::{DETAIL, redact, route};

/// The bytes are one packet.
pub fn dhcp(bytes: &[u8]) {
    let Ok(packet) = parse(bytes) else { return };
    assert!(packet.hlen <= 16, "a hardware address beyond its field");
    assert!(packet.file.len() <= 128);
    // Each value is made of bytes that came: what was said twice is joined (RFC 3396), and nothing is made up.
    let said: usize = packet.options.values().map(Vec::len).sum();
    assert!(said <= bytes.len(), "{said} bytes of options in {}", bytes.len());
    read_everything(&packet);
    assert_eq!(
        parse(bytes).as_ref(),
        Ok(&packet),
        "the same packet is read in two ways"
    );
}

/// The bytes are one datagram.
pub fn tftp(bytes: &[u8]) {
    judge_arrival(bytes);
}

/// Lines: the path, the query; the rest is the body.
pub fn http(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let (query, body) = rest.split_once('\n').unwrap_or((rest, ""));
    let found = route(path, Some(query), body.as_bytes());
    let Route::Boot { parsed, .. } = &found else { return };
    match &parsed.ask {
        Ask::TreeFile { path, .. } => below(path),
        Ask::Loader(name) => assert!(
            !name.is_empty() && !name.contains('/'),
            "{name:?} is no name of a loader"
        ),
        Ask::AnswerFile { token, file } => {
            below(file);
            assert!(!token.contains('/') && !file.is_empty());
        }
        Ask::Report { token, stage, detail } => {
            assert!(!token.contains('/') && !stage.contains('/'));
            let detail = detail.as_deref().unwrap_or("");
            assert!(
                detail.len() <= DETAIL && !detail.chars().any(char::is_control),
                "{detail:?}"
            );
            canary::must_not_sing(detail.to_ascii_lowercase().as_bytes(), "the words of a report");
        }
        // As it came; whoever shows it takes the tokens out.
        Ask::Unknown(name) => assert!(name.len() <= 2048, "{} letters of a name", name.len()),
        // `paths` judges what these ask.
        Ask::Cobbler(_) | Ask::Script(_) | Ask::ScriptAt(..) | Ask::ImageFile(_) | Ask::BootFile => {}
    }
    let shown = redact(path);
    assert!(
        shown.chars().count() <= 255 && !shown.chars().any(char::is_control),
        "{shown:?}"
    );
    canary::must_not_sing(shown.to_ascii_lowercase().as_bytes(), "a path in a log");
    assert_eq!(
        route(path, Some(query), body.as_bytes()),
        found,
        "the same target is read in two ways"
    );
}
