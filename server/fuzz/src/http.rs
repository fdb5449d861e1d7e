//! HTTP from a request line to a reply: no panic, nothing outside a tree, no secret without its token, no installer unarmed.

use super::canary;
use super::input::Input;
use super::paths::below;
use super::world::{SERVER, address, mac, world};
use cordwainer::boot::{Effect, World};
use cordwainer::config::DhcpMode;
use cordwainer::http::listing::{self, Entry};
use cordwainer::http::range::{Conditions, FileFacts, Portion, judge};
use cordwainer::http::route::{percent_decode, percent_encode, route};
use cordwainer::http::{Body, HttpRequest, Method, Reply, Route, Source, respond};
use cordwainer::install::{Input as Heard, TokenKind};
use std::net::Ipv4Addr;
use std::path::Path;

/// Three bytes of circumstances, then lines: path, query, Range, If-Range, If-None-Match, If-Modified-Since; the rest is the body.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (flags, peer, neighbour) = (input.byte(), input.byte(), input.byte());
    let mut line = || input.line(b'\n');
    let (path, query, range, if_range, tags, date) = (line(), line(), line(), line(), line(), line());
    let request = HttpRequest {
        method: [Method::Get, Method::Get, Method::Head, Method::Post][usize::from(flags & 3)],
        path: &path,
        query: Some(query.as_str()).filter(|_| flags & 4 != 0),
        body: input.0,
        peer: if peer & 0x40 == 0 {
            address(peer & 15)
        } else {
            Ipv4Addr::new(10, 5, 0, peer & 15)
        },
        local: SERVER,
        neighbour: Some(mac(neighbour & 15)).filter(|_| neighbour & 0x10 != 0),
        served: flags & 8 == 0,
    };
    let mode = if flags & 16 == 0 {
        DhcpMode::Authoritative
    } else {
        DhcpMode::Proxy
    };
    let world = world(mode);
    let reply = respond(&world, &request);
    judge_reply(&world, &request, &reply);
    assert_eq!(respond(&world, &request), reply, "the same question has two answers");
    judge_range(&range, &if_range, &tags, &date, u64::from(peer) << (neighbour & 31));
    judge_listing(&path, &query);
}

fn judge_reply(world: &World, request: &HttpRequest<'_>, reply: &Reply) {
    assert!(matches!(reply.status, 200 | 404 | 405 | 500), "{}", reply.status);
    for (name, value) in &reply.headers {
        assert!(!value.is_empty() && !value.contains(['\r', '\n']), "{name}: {value:?}");
    }
    let decoded = percent_decode(request.path, false).unwrap_or_default();
    let shows = |kind, arm| decoded.contains(&canary::token(arm, kind));
    // Whatever is kept: no token, not even the one that was shown.
    for event in &reply.events {
        let text = event.to_string();
        canary::must_not_sing(text.to_ascii_lowercase().as_bytes(), "an event");
        assert!(
            !text.chars().any(char::is_control),
            "an event has control characters: {text:?}"
        );
    }
    let launch = reply
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Install { act, .. } if act.input.opens()));
    match &reply.body {
        Body::Text(text) => {
            // A script for web1 or web3, from the address that our lease gives it, holds its tokens; their answer files hold all.
            let script = [1, 3].into_iter().any(|last| request.peer == address(last));
            let answers = request.peer == address(3) && shows(TokenKind::Install, canary::ARMS[1]);
            assert!(
                reply.status == 200 || canary::found(text.as_bytes()).is_none(),
                "a refusal sings"
            );
            if let Some(what) = canary::found(text.as_bytes()) {
                assert!(script || answers, "{what} goes to {}", request.peer);
                assert!(
                    launch || request.method == Method::Head,
                    "{what} leaves and nobody notes it"
                );
            }
            if canary::holds(text.as_bytes(), canary::HASH.as_bytes()) {
                assert!(answers, "the password hash goes out without its token");
            }
            if canary::holds(text.as_bytes(), b"/i/") {
                assert!(
                    script || answers,
                    "an installer for a machine that is not armed: {text}"
                );
            }
        }
        Body::File(file) => {
            match &file.source {
                Source::Asset(asset) => {
                    assert!(asset.path.starts_with("/usr/lib/ipxe") || asset.path.starts_with("/srv/debian"))
                }
                Source::Tree { root, path, .. } => {
                    below(path);
                    assert_eq!(root, Path::new("/srv/rocky9"));
                }
            }
            assert!(
                file.url.starts_with('/') && !file.url.starts_with("//"),
                "{} leads elsewhere",
                file.url
            );
            assert!(
                !file.url.contains(['\r', '\n', '\\', ' ', '<', '"']),
                "{:?} is no URL",
                file.url
            );
            assert!(!file.label.chars().any(char::is_control));
        }
        Body::Bytes(_) => panic!("nobody here is installed by an archive"),
        Body::Metrics => {}
    }
    for effect in &reply.effects {
        if let Effect::Install { act, .. } = effect {
            let shown = canary::ARMS
                .iter()
                .any(|arm| *arm == act.arm.id.0 && (shows(TokenKind::Report, arm) || shows(TokenKind::Install, arm)));
            let machine = world
                .inventory
                .system(act.arm.system.as_str())
                .expect("an arming of a machine");
            let itself = machine
                .macs()
                .any(|mac| world.installs.holders.get(&request.peer) == Some(&mac));
            assert!(
                shown || itself || matches!(act.input, Heard::Reached(_)),
                "{:?} of {} by {}",
                act.input,
                act.arm.system,
                request.peer
            );
        }
        assert!(reply.status < 400 && request.method != Method::Head);
    }
    if !request.served {
        let report = matches!(route(request.path, request.query, request.body), ref route if route.takes_body());
        let known = matches!(
            route(request.path, None, b""),
            Route::Health | Route::Metrics | Route::Front
        );
        assert!(report || known || reply.status >= 400, "a stranger is answered");
    }
}

fn judge_range(range: &str, if_range: &str, tags: &str, date: &str, size: u64) {
    let file = FileFacts {
        size,
        modified: 1_700_000_000,
        modified_nanos: 5,
        inode: 77,
    };
    let given = |text: &'_ str| !text.is_empty();
    let conditions = Conditions {
        range: Some(range).filter(|text| given(text)),
        if_range: Some(if_range).filter(|text| given(text)),
        if_none_match: Some(tags).filter(|text| given(text)),
        if_modified_since: Some(date).filter(|text| given(text)),
    };
    match judge(&file, &conditions) {
        Portion::Part { first, last } => {
            assert!(first <= last && last < size, "bytes {first} to {last} of {size}");
            assert!(conditions.range.is_some());
        }
        Portion::Unsatisfiable => assert!(conditions.range.is_some()),
        Portion::NotModified => assert!(conditions.if_none_match.is_some() || conditions.if_modified_since.is_some()),
        Portion::Whole => {}
    }
}

/// Names of a medium are data: each link leads to its own name, and no name is markup.
fn judge_listing(title: &str, name: &str) {
    // A name of a folder's entry has no slash.
    let name = &name.replace('/', "_");
    let entry = |folder| Entry {
        name: name.to_owned(),
        folder,
        size: 7,
    };
    let page = listing::page(title, &[entry(false), entry(true)], false);
    let tags = page.matches('<').count();
    let plain = listing::page(
        "x",
        &[
            Entry {
                name: "x".into(),
                ..entry(false)
            },
            Entry {
                name: "x".into(),
                ..entry(true)
            },
        ],
        false,
    );
    assert_eq!(tags, plain.matches('<').count(), "a name is markup: {page}");
    let link = page
        .split("href=\"")
        .nth(2)
        .and_then(|rest| rest.split('"').next())
        .expect("a link");
    let dot = if name.contains(':') { "./" } else { "" };
    assert_eq!(link, format!("{dot}{}", percent_encode(name)));
}
