//! What a request line asks for: method, path and query as they came, parsed once. Also how a path may be shown in a log.
//!
//! Pure. It must never let a token into a text that is kept: [`redact`] is the only way from a client's path to a log line.

use crate::boot::paths;
use crate::boot::paths::looks_like_token;
pub use crate::boot::paths::redact_text;
use crate::boot::{Ask, CobblerAsk, paths::Parsed};

/// Most of a report's own words that is kept, in bytes (DESIGN 6).
pub const DETAIL: usize = 1024;

/// What a client wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Give it.
    Get,
    /// Say how large it is: UEFI HTTP Boot, virt-install and yum ask this first. Changes nothing, ever.
    Head,
    /// Take this: a report.
    Post,
    /// Anything else.
    Other,
}

impl Method {
    /// The method of that name; methods are case-sensitive (RFC 9110 section 9.1).
    #[must_use]
    pub fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            _ => Self::Other,
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Something of a boot: one of the paths that we handed out, or a name that a loader tries by itself.
    Boot {
        /// What is asked, and the machine that the path names.
        parsed: Parsed,
        /// True when the path ends in `/`, so that a folder's relative links work.
        slash: bool,
    },
    /// `/metrics`.
    Metrics,
    /// `/healthz`.
    Health,
    /// `/`.
    Front,
    /// Cobbler's XML-RPC, by POST.
    Rpc,
}

impl Route {
    /// True when the body of a POST is of any use.
    #[must_use]
    pub const fn takes_body(&self) -> bool {
        matches!(
            self,
            Self::Boot {
                parsed: Parsed {
                    ask: Ask::Report { .. },
                    ..
                },
                ..
            }
        )
    }

    /// True when the answer depends on whose the address is, so that the neighbour entry must be read. Tree files are left out: there
    /// are thousands.
    #[must_use]
    pub const fn judges_address(&self) -> bool {
        let is_for_anyone = matches!(
            self,
            Self::Boot {
                parsed: Parsed {
                    ask: Ask::Cobbler(CobblerAsk::Page(_)),
                    ..
                },
                ..
            }
        );
        !is_for_anyone
            && matches!(
                self,
                Self::Boot {
                    parsed: Parsed {
                        ask: Ask::AnswerFile { .. } | Ask::Script(_) | Ask::ScriptAt(..) | Ask::Cobbler(_),
                        ..
                    },
                    ..
                }
            )
    }

    /// The token that is shown, if one is.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        match self {
            Self::Boot {
                parsed:
                    Parsed {
                        ask:
                            Ask::AnswerFile { token, .. }
                            | Ask::Report { token, .. }
                            | Ask::Cobbler(
                                CobblerAsk::Answer { token: Some(token), .. }
                                | CobblerAsk::Nopxe { token: Some(token), .. }
                                | CobblerAsk::Trigger { token: Some(token), .. },
                            ),
                        ..
                    },
                ..
            } => Some(token),
            _ => None,
        }
    }

    /// True when answering means rendering a template, which takes long enough to be kept off the reactor.
    #[must_use]
    pub const fn renders(&self) -> bool {
        matches!(
            self,
            Self::Boot {
                parsed: Parsed {
                    ask: Ask::AnswerFile { .. } | Ask::Cobbler(CobblerAsk::Answer { .. } | CobblerAsk::Autodetect),
                    ..
                },
                ..
            }
        )
    }
}

/// Reads the path and query of a request target in origin form (RFC 9112 section 3.2.1), still percent-encoded. Total.
///
/// `body` is what a POST carried; a report takes its words from there or from `?detail=`.
#[must_use]
pub fn route(path: &str, query: Option<&str>, body: &[u8]) -> Route {
    let unknown = || Route::Boot {
        parsed: Parsed {
            mac: None,
            ask: Ask::Unknown(redact(path)),
        },
        slash: false,
    };
    if path.len() > paths::LONGEST {
        return unknown();
    }
    // Firmware that joins a path by itself may write `\` bare; `%5C` is part of a name.
    let Some(decoded) = percent_decode(&path.replace('\\', "/"), false) else {
        return unknown();
    };
    match paths::normal(&decoded).as_deref() {
        None => return unknown(),
        Some("") => return Route::Front,
        Some("metrics") => return Route::Metrics,
        Some("healthz") => return Route::Health,
        Some("cobbler_api" | "cobbler_api_rw" | "RPC2") => return Route::Rpc,
        Some(_) => {}
    }
    // Cobbler's scripts are the one thing that is named in the query.
    let script = decoded
        .contains("/svc/op/script/")
        .then(|| query?.split('&').find_map(|pair| pair.strip_prefix("script=")))
        .flatten()
        .and_then(|name| percent_decode(cut(name, paths::LONGEST), true));
    let decoded = match script {
        Some(name) => format!("{}/script/{name}", decoded.trim_end_matches('/')),
        None => decoded,
    };
    Route::Boot {
        parsed: paths::parse_with(&decoded, detail(query, body)),
        slash: decoded.ends_with('/'),
    }
}

/// The words of a report, escaped and cut: `detail` of the query, else the body of the POST.
fn detail(query: Option<&str>, body: &[u8]) -> Option<String> {
    let asked = query.and_then(|query| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("detail="))
            .and_then(|value| percent_decode(cut(value, DETAIL.saturating_mul(3)), true))
    });
    let words = asked.unwrap_or_else(|| {
        let body = body.get(..DETAIL.saturating_mul(4).min(body.len())).unwrap_or(&[]);
        let text = String::from_utf8_lossy(body);
        // `curl -d detail=...` sends a form.
        match text.strip_prefix("detail=") {
            Some(form) => percent_decode(form, true).unwrap_or_default(),
            None => subiquity(&text).unwrap_or_else(|| text.into_owned()),
        }
    });
    // An installer that fails says what it could not fetch, token and all. Before it is cut: half a token is half a secret.
    let words = redact_text(&words);
    let mut shown = String::new();
    for c in words.trim().chars() {
        let escaped: String = if c.is_control() || c == '\u{feff}' || is_bidi(c) {
            c.escape_default().collect()
        } else {
            c.to_string()
        };
        if shown.len().saturating_add(escaped.len()) > DETAIL {
            break;
        }
        shown.push_str(&escaped);
    }
    Some(shown).filter(|shown| !shown.is_empty())
}

/// Characters that reorder or hide what follows them in a terminal or page.
const fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

/// Subiquity's webhook posts one JSON object per event (`name`, `event_type`, `result`): its words in one line.
fn subiquity(text: &str) -> Option<String> {
    if !text.starts_with('{') {
        return None;
    }
    let event: serde_json::Value = serde_json::from_str(text).ok()?;
    let words: Vec<&str> = ["name", "event_type", "result"]
        .into_iter()
        .filter_map(|key| event.get(key).and_then(serde_json::Value::as_str))
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The longest prefix of at most `bytes` bytes that ends on a character, and not inside a `%XX`.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let kept = text.get(..end).unwrap_or("");
    match kept.rfind('%') {
        Some(at) if end < text.len() && kept.len().saturating_sub(at) < 3 => kept.get(..at).unwrap_or(""),
        _ => kept,
    }
}

/// Undoes percent-encoding (RFC 3986 section 2.1), in a form also `+` for space. `None` for a broken escape, NUL, or no UTF-8.
#[must_use]
pub fn percent_decode(text: &str, form: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()?
            }
            b'+' if form => b' ',
            byte => byte,
        });
    }
    let decoded = String::from_utf8(decoded).ok()?;
    (!decoded.contains('\0')).then_some(decoded)
}

/// Percent-encodes one part of a path for a link.
#[must_use]
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~+@!$,=/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A client's path as it may stand in a log: decoded, escaped, cut, and every token (or what looks like one) left out.
#[must_use]
pub fn redact(path: &str) -> String {
    let decoded = percent_decode(cut(path, paths::LONGEST), false).unwrap_or_else(|| path.to_owned());
    let decoded = decoded.replace('\\', "/");
    let mut parts: Vec<String> = Vec::new();
    let mut hide_next = false;
    for part in decoded.split('/').filter(|part| !part.is_empty()) {
        // A token is 32 characters of base32 (install::Token); a part that holds so long a run is hidden wherever it stands.
        parts.push(if hide_next || looks_like_token(part) {
            "(token)".to_owned()
        } else {
            paths::shown(part)
        });
        hide_next = parts.len() == 1 && matches!(part, "i" | "r");
    }
    parts.join("/").chars().take(255).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz234567";

    fn ask(path: &str, query: Option<&str>, body: &[u8]) -> Ask {
        match route(path, query, body) {
            Route::Boot { parsed, .. } => parsed.ask,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths_are_decoded_and_collapsed() {
        assert_eq!(
            ask("//d/debian12//pool/g%2B%2B%20x.deb", None, b""),
            Ask::TreeFile {
                distro: "debian12".parse().unwrap(),
                path: "pool/g++ x.deb".into()
            }
        );
        let name = |name: &str| Ask::TreeFile {
            distro: "x".parse().unwrap(),
            path: name.into(),
        };
        assert_eq!(ask("/d/x\\pool\\y", None, b""), name("pool/y"));
        assert_eq!(ask("/d/x/a%5cb", None, b""), name("a\\b"));
        assert_eq!(route("/", None, b""), Route::Front);
        assert_eq!(route("//metrics", None, b""), Route::Metrics);
        assert_eq!(route("/healthz", None, b""), Route::Health);
        assert!(matches!(route("/d/x/", None, b""), Route::Boot { slash: true, .. }));
    }

    #[test]
    fn what_climbs_or_is_broken_is_unknown() {
        for path in [
            "/d/x/../../etc/passwd",
            "/d/x/%2e%2e/%2e%2e/etc/passwd",
            "/d/x/..\\..\\y",
            "/d/x/%00",
            "/d/x/%",
            "/d/x/%zz",
            "/d/x/%ff",
            "/d/x/a%0ab",
            &format!("/{}", "a".repeat(2000)),
        ] {
            assert!(matches!(ask(path, None, b""), Ask::Unknown(_)), "{path}");
        }
    }

    #[test]
    fn a_report_brings_its_words_in_the_query_or_the_body() {
        let detail = |query, body: &[u8]| match ask("/r/tok/packages", query, body) {
            Ask::Report { detail, .. } => detail,
            other => panic!("{other:?}"),
        };
        assert_eq!(detail(Some("detail=412+of%20612"), b"").as_deref(), Some("412 of 612"));
        assert_eq!(detail(Some("x=1&detail=a"), b"b").as_deref(), Some("a"));
        assert_eq!(
            detail(None, b"line\nbell\x07\xff").as_deref(),
            Some("line\\nbell\\u{7}\u{fffd}")
        );
        assert_eq!(detail(None, b"detail=no+disk").as_deref(), Some("no disk"));
        assert_eq!(
            detail(
                None,
                br#"{"name":"subiquity/Install","event_type":"finish","result":"FAIL","x":1}"#
            )
            .as_deref(),
            Some("subiquity/Install finish FAIL")
        );
        assert_eq!(
            detail(
                None,
                format!("cannot fetch http://192.0.2.1/i/a1{TOKEN}/ks.cfg").as_bytes()
            )
            .as_deref(),
            Some("cannot fetch http://192.0.2.1/i/(token)/ks.cfg")
        );
        let at_the_cut = format!("{} {TOKEN}", "x y ".repeat(252));
        assert!(!detail(None, at_the_cut.as_bytes()).unwrap().contains("abcdef"));
        assert_eq!(detail(None, b"  "), None);
        assert!(detail(None, "\u{7}".repeat(5000).as_bytes()).unwrap().len() <= DETAIL);
        assert!(
            detail(Some(&format!("detail={}", "%41".repeat(3000))), b"")
                .unwrap()
                .len()
                <= DETAIL
        );
    }

    #[test]
    fn tokens_are_never_shown() {
        for path in [
            format!("/i/{TOKEN}/ks.cfg"),
            format!("//r//{TOKEN}/done"),
            format!("/r%2f{TOKEN}/done"),
            format!("/i/{}/x", TOKEN.to_uppercase()),
            format!("/x/y/{TOKEN}"),
            format!("/i/{TOKEN}%zz"),
            format!("\\i\\{TOKEN}\\ks"),
            "/i/short/ks.cfg".to_owned(),
        ] {
            let shown = redact(&path);
            assert!(
                !shown.to_lowercase().contains(TOKEN) && !shown.contains("short"),
                "{path} -> {shown}"
            );
            assert!(!redact_text(&format!("no `{path}` here")).to_lowercase().contains(TOKEN));
        }
        assert_eq!(redact("/i/short/ks.cfg"), "i/(token)/ks.cfg");
        assert_eq!(redact("/d/debian12/x\u{7}"), "d/debian12/x\\u{7}");
        assert_eq!(redact_text("no such loader: a.efi"), "no such loader: a.efi");
    }

    #[test]
    fn links_survive() {
        let name = "g++ 100%<b>\"&.deb";
        let encoded = percent_encode(name);
        assert!(!encoded.contains(['<', '"', '&', ' ']));
        assert_eq!(percent_decode(&encoded, false).as_deref(), Some(name));
    }
}
