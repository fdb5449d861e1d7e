//! One request: facts gathered, [`respond()`] asked, effects made durable, the reply sent.
#![allow(clippy::disallowed_methods, reason = "IO: one request on its way through the shell")]

use super::Shared;
use super::file::{Opened, Part, open_source};
use super::numbers;
use super::transfer::Transfer;
use crate::boot::{Effect, When, World, still_stands};
use crate::distro::tree::TreeFile;
use crate::event::What;
use crate::http::guesses::{self, Verdict};
use crate::http::head::Head;
use crate::http::range::{Conditions, FileFacts, Portion, judge};
use crate::http::{Body, FileRef, HttpRequest, Method, Reply, Role, Route, Who, listing, respond, route};
use crate::install::Token;
use crate::model::{Binding, Mac};
use crate::ports::Caller;
use nix::errno::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// How often a request is decided anew because an arming or an installation changed while its answer was made.
const DECISIONS: usize = 4;
/// Ends the connection without an answer: its client guesses tokens.
#[derive(Debug)]
pub(super) struct ShutOut;

/// An answer, ready to be sent.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// Further header fields.
    pub(super) fields: Vec<(&'static str, String)>,
    /// Bytes of the body, also where a HEAD keeps it back; none for a 304.
    pub(super) length: Option<u64>,
    pub(super) payload: Payload,
}

/// What follows the head of an answer.
pub(super) enum Payload {
    Nothing,
    Text(Vec<u8>),
    File(Part, Box<Transfer>),
}

/// True for a call of XML-RPC where it is answered.
pub(super) fn is_call(shared: &Shared, head: &Head) -> bool {
    head.method == Method::Post && shared.rpc.is_some() && route::route(&head.path, None, b"") == Route::Rpc
}

/// How much of a request's body is of any use, in bytes.
pub(super) fn keeps_of_body(head: &Head) -> usize {
    if head.method != Method::Post {
        return 0;
    }
    let asked = route::route(&head.path, head.query.as_deref(), b"");
    if asked.takes_body() || asked.renders() {
        route::DETAIL.saturating_mul(4)
    } else {
        0
    }
}

/// Answers one request. Whatever goes wrong has an answer, but for who guesses tokens.
pub(super) async fn handle(
    shared: &Arc<Shared>,
    peer: IpAddr,
    local: IpAddr,
    mut head: Head,
    body: Vec<u8>,
    started: Instant,
) -> Result<Answer, ShutOut> {
    let method = head.method;
    let asked = route::route(&head.path, head.query.as_deref(), b"");
    // Only IPv4 boots; an IPv6 client gets the pages that need no machine.
    let v4 = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    let peer_v4 = v4(peer);
    let peer = peer_v4.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let world = shared.worlds.world();
    if let Some(token) = asked.token()
        && !Token::is_genuine(&world.key, token)
    {
        let verdict = shared
            .guesses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wrong(peer, world.now);
        match verdict {
            Verdict::Answered => {}
            Verdict::Last => {
                let minutes = guesses::SHUT_OUT.as_secs() / 60;
                let cause = format!(
                    "{} wrong tokens within a minute; more from this address get no answer for {minutes} minutes",
                    guesses::MOST
                );
                shared
                    .events
                    .emit(nobody(peer).event(world.now, What::AnswerRefused { cause }));
            }
            Verdict::ShutOut => return Err(ShutOut),
        }
    }
    let served = peer_v4.is_some_and(|peer| shared.options.serves(peer));
    if asked == Route::Rpc
        && method == Method::Post
        && served
        && let Some(rpc) = &shared.rpc
    {
        let caller = Caller {
            peer,
            local: v4(local).unwrap_or(Ipv4Addr::UNSPECIFIED),
            neighbour: (world.config.binding_of(peer) == Binding::Neighbour)
                .then(|| shared.worlds.neighbour(peer))
                .flatten(),
        };
        let xml = rpc.call(caller, body).await;
        return Ok(Answer {
            status: 200,
            content_type: "text/xml",
            fields: Vec::new(),
            length: Some(u64::try_from(xml.len()).unwrap_or(u64::MAX)),
            payload: Payload::Text(xml.into_bytes()),
        });
    }
    let installs = world.installs;
    let sighted = installs.sightings.get(&peer);
    let known = sighted.is_some_and(|seen| seen.is_fresh(world.now)) || installs.holders.contains_key(&peer);
    let ours = matches!(asked, Route::Boot { .. }) && served;
    // The kernel gives the whole table as text: read where it judges, or where nothing else says whose the address is.
    let judges = asked.judges_address() && world.config.binding_of(peer) == Binding::Neighbour;
    let neighbour = if ours && (judges || !known) {
        shared.worlds.neighbour(peer)
    } else {
        None
    };
    let local = v4(local).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let asking = Arc::new(Asking {
        method,
        path: std::mem::take(&mut head.path),
        query: head.query.take(),
        body,
        peer,
        local,
        neighbour,
        served,
        renders: asked.renders(),
    });
    let mut overtaken = None;
    for _ in 0..DECISIONS {
        let world = shared.worlds.world();
        let Some(mut reply) = ask(&asking, &world).await else {
            break;
        };
        let (before, after) = std::mem::take(&mut reply.effects)
            .into_iter()
            .partition(|effect| matches!(effect, Effect::Install { when: When::Before, .. }));
        reply.effects = after;
        if hold(shared, &before).await {
            return Ok(finish(shared, &head, &world, reply, started).await);
        }
        // The same answer twice: it is not that the world has moved on, the disk fails.
        if overtaken.replace(before.clone()) == Some(before) {
            break;
        }
    }
    // The disk fails, or rendering panicked, which the log has: the client may try again.
    Ok(text(method, Reply::unavailable(nobody(peer))))
}

const fn nobody(peer: Ipv4Addr) -> Who {
    Who {
        mac: None,
        system: None,
        peer,
    }
}

/// One question, to be asked again when the world has moved on before its answer could leave.
struct Asking {
    method: Method,
    path: String,
    query: Option<String>,
    body: Vec<u8>,
    peer: Ipv4Addr,
    local: Ipv4Addr,
    neighbour: Option<Mac>,
    served: bool,
    /// It takes long enough to be kept off the reactor.
    renders: bool,
}

/// The reply as `world` has it; none after a panic.
async fn ask(asking: &Arc<Asking>, world: &World) -> Option<Reply> {
    let (asking, world) = (asking.clone(), world.clone());
    let renders = asking.renders;
    let ask = move || {
        let request = HttpRequest {
            method: asking.method,
            path: &asking.path,
            query: asking.query.as_deref(),
            body: &asking.body,
            peer: asking.peer,
            local: asking.local,
            neighbour: asking.neighbour,
            served: asking.served,
        };
        respond(&world, &request)
    };
    if renders {
        spawn_blocking(ask).await.ok()
    } else {
        Some(ask())
    }
}

/// True when all that must hold before the reply leaves is on disk, and the armings that it opens are still the machines' own.
async fn hold(shared: &Shared, before: &[Effect]) -> bool {
    if before.is_empty() {
        return true;
    }
    if !still_stands(&shared.worlds.world(), before) {
        return false;
    }
    match shared.effects.before(before.to_vec()).await {
        Ok(()) => still_stands(&shared.worlds.world(), before),
        Err(error) => {
            tracing::debug!(%error, "a reply was held back");
            false
        }
    }
}

async fn finish(shared: &Arc<Shared>, head: &Head, world: &World, mut reply: Reply, started: Instant) -> Answer {
    let method = head.method;
    let file = match &reply.body {
        Body::Text(_) | Body::Bytes(_) => None,
        Body::Metrics => {
            reply.body = Body::Text(shared.metrics.page(&numbers::standing(world)));
            None
        }
        Body::File(file) => {
            let file = file.clone();
            match open_file(head, &file).await {
                Ok(ready) => Some((file, ready)),
                Err(error) => {
                    reply = missing(reply.who, &file, &error);
                    None
                }
            }
        }
    };
    let after = std::mem::take(&mut reply.effects);
    if !after.is_empty() {
        shared.effects.after(after);
    }
    for what in std::mem::take(&mut reply.events) {
        shared.events.emit(reply.who.event(world.now, what));
    }
    for (who, what) in std::mem::take(&mut reply.elsewhere) {
        shared.events.emit(who.event(world.now, what));
    }
    match file {
        None => text(method, reply),
        Some((file, Ready::Folder(entries))) => folder(method, reply, &file, &entries),
        Some((file, Ready::File { open, facts, portion })) => {
            let file = Outgoing {
                file,
                open,
                facts,
                portion,
            };
            send_file(shared, method, reply, file, started)
        }
    }
}

/// What was opened for a reply, judged.
enum Ready {
    Folder(Vec<listing::Entry>),
    File {
        open: Arc<TreeFile>,
        facts: FileFacts,
        portion: Portion,
    },
}

/// Opens on the blocking pool, since the folders on the way may be on a slow disk, and judges.
async fn open_file(head: &Head, file: &FileRef) -> io::Result<Ready> {
    let file = file.clone();
    let opened = spawn_blocking(move || open_source(&file))
        .await
        .map_err(io::Error::other)??;
    let (open, facts) = match opened {
        Opened::Folder(entries) => return Ok(Ready::Folder(entries)),
        Opened::File(open, facts) => (open, facts),
    };
    let conditions = Conditions {
        range: head.range.as_deref().filter(|_| head.method == Method::Get),
        if_range: head.if_range.as_deref(),
        if_none_match: head.if_none_match.as_deref(),
        if_modified_since: head.if_modified_since.as_deref(),
    };
    let portion = judge(&facts, &conditions);
    Ok(Ready::File { open, facts, portion })
}

/// First byte and the one after the last.
fn bounds(portion: Portion, size: u64) -> (u64, u64) {
    match portion {
        Portion::Whole => (0, size),
        Portion::Part { first, last } => (first, last.saturating_add(1)),
        Portion::NotModified | Portion::Unsatisfiable => (0, 0),
    }
}

fn missing(who: Who, file: &FileRef, error: &io::Error) -> Reply {
    let errno = error.raw_os_error().map(Errno::from_raw);
    if matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) {
        tracing::warn!(%error, file = %file.label, "a file could not be opened for now");
        return Reply::busy(who);
    }
    if file.role == Role::Tree {
        return Reply::missing(who, file, &error.to_string());
    }
    let event = What::AssetMissing {
        what: format!("{} {}", file.role.as_str(), file.label),
        why: format!(
            "{error}; bring it back{}",
            if file.role == Role::Image {
                ""
            } else {
                ", or import the distro again"
            }
        ),
    };
    Reply::not_found(who, event)
}

/// A folder: its page, or the way to the URL with a slash, where relative links work.
fn folder(method: Method, mut reply: Reply, file: &FileRef, entries: &[listing::Entry]) -> Answer {
    if file.slash {
        reply.content_type = "text/html; charset=utf-8";
        let top = file.url.matches('/').count() <= 2;
        reply.body = Body::Text(listing::page(file.url.trim_start_matches('/'), entries, top));
    } else {
        reply.status = 301;
        reply.content_type = crate::http::content_type::TEXT;
        reply.headers.push(("Location", format!("{}/", file.url)));
        reply.body = Body::Text("it is a folder\n".to_owned());
    }
    text(method, reply)
}

struct Outgoing {
    file: FileRef,
    open: Arc<TreeFile>,
    facts: FileFacts,
    portion: Portion,
}

fn send_file(shared: &Arc<Shared>, method: Method, mut reply: Reply, out: Outgoing, started: Instant) -> Answer {
    let size = out.facts.size;
    reply.headers.push(("Accept-Ranges", "bytes".to_owned()));
    reply.headers.push(("ETag", out.facts.etag()));
    if let Some(date) = out.facts.last_modified() {
        reply.headers.push(("Last-Modified", date));
    }
    let (first, end) = bounds(out.portion, size);
    match out.portion {
        Portion::Whole => {}
        Portion::Part { first, last } => {
            reply.status = 206;
            reply
                .headers
                .push(("Content-Range", format!("bytes {first}-{last}/{size}")));
        }
        Portion::NotModified => {
            reply.status = 304;
            return build(reply, None, Payload::Nothing);
        }
        Portion::Unsatisfiable => {
            reply.status = 416;
            reply.headers.push(("Content-Range", format!("bytes */{size}")));
            reply.content_type = crate::http::content_type::TEXT;
            reply.body = Body::Text("the file has no such byte\n".to_owned());
            return text(method, reply);
        }
    }
    let length = end.saturating_sub(first);
    if method == Method::Head {
        return build(reply, Some(length), Payload::Nothing);
    }
    let transfer = Transfer::new(
        shared.clone(),
        reply.who.clone(),
        out.file.role,
        out.file.label,
        reply.status,
        size,
        started,
    );
    let part = Part::new(out.open, first, end);
    build(reply, Some(length), Payload::File(part, Box::new(transfer)))
}

/// A reply that is all text; a HEAD gets its length.
fn text(method: Method, mut reply: Reply) -> Answer {
    let text = match std::mem::replace(&mut reply.body, Body::Metrics) {
        Body::Text(text) => text.into_bytes(),
        Body::Bytes(bytes) => bytes,
        Body::File(_) | Body::Metrics => Vec::new(),
    };
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let payload = if method == Method::Head {
        Payload::Nothing
    } else {
        Payload::Text(text)
    };
    build(reply, Some(length), payload)
}

fn build(reply: Reply, length: Option<u64>, payload: Payload) -> Answer {
    Answer {
        status: reply.status,
        content_type: reply.content_type,
        fields: reply.headers,
        length,
        payload,
    }
}
