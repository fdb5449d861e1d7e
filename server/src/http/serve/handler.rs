//! One request: facts gathered, [`respond()`] asked, effects made durable, the reply sent.
#![allow(clippy::disallowed_methods, reason = "IO: one request on its way through the shell")]

use super::Shared;
use super::connection::Conn;
use super::file::{FileBody, LARGE_PIECE, Opened, SMALL_PIECE, open_source, read_piece};
use super::transfer::Transfer;
use crate::boot::{Effect, When, World, still_stands};
use crate::distro::tree::TreeFile;
use crate::event::What;
use crate::event::metrics::Standing;
use crate::http::guesses::{self, Verdict};
use crate::http::range::{Conditions, FileFacts, Portion, judge};
use crate::http::{Body, FileRef, HttpRequest, Method, Reply, Role, Route, Who, listing, respond, route};
use crate::install::{State, Token, state};
use crate::model::Mac;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

/// Transfers up to which pieces are large and read ahead.
const ROOMY: i64 = 256;
/// Most of a report that is taken in before it is answered.
const MOST_BODY: usize = 256 * 1024;
/// How often a request is decided anew because an arming or an installation changed while its answer was made.
const DECISIONS: usize = 4;
/// How long a report's body may take.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Ends the connection without an answer: its client guesses tokens.
#[derive(Debug, thiserror::Error)]
#[error("too many wrong tokens from this address")]
pub(super) struct ShutOut;

/// Answers one request. Whatever goes wrong has an answer, but for who guesses tokens.
pub(super) async fn handle(
    shared: Arc<Shared>,
    conn: Conn,
    peer: IpAddr,
    local: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Sending>, ShutOut> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let method = Method::of(parts.method.as_str());
    let (path, query) = (parts.uri.path(), parts.uri.query());
    let asked = route::route(path, query, b"");
    let body = if method == Method::Post && (asked.takes_body() || asked.renders()) {
        take_body(body).await
    } else {
        Vec::new()
    };
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
    let installs = world.installs;
    let known = installs.sightings.contains_key(&peer) || installs.holders.contains_key(&peer);
    let ours = matches!(asked, Route::Boot { .. }) && served;
    let neighbour = if ours && (asked.judges_address() || !known) {
        shared.worlds.neighbour(peer)
    } else {
        None
    };
    let local = v4(local).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let asking = Arc::new(Asking {
        method,
        path: path.to_owned(),
        query: query.map(str::to_owned),
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
        if hold(&shared, &before).await {
            return Ok(finish(&shared, &conn, method, &parts.headers, &world, reply, started).await);
        }
        // The same answer twice: it is not that the world has moved on, the disk fails.
        if overtaken.replace(before.clone()) == Some(before) {
            break;
        }
    }
    // The disk fails, or rendering panicked, which the log has: the client may try again.
    Ok(text(&conn, method, Reply::unavailable(nobody(peer))))
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

/// The first part of a report's body; the rest is read and dropped. What arrived counts, even when the client then stalls.
async fn take_body(mut body: Incoming) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut seen = 0_usize;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Some(data) = frame.data_ref() else { continue };
            let room = route::DETAIL.saturating_mul(4).saturating_sub(kept.len());
            kept.extend_from_slice(data.get(..room.min(data.len())).unwrap_or(&[]));
            seen = seen.saturating_add(data.len());
            if seen > MOST_BODY {
                break;
            }
        }
    };
    let _ = timeout(BODY_TIME, reading).await;
    kept
}

async fn finish(
    shared: &Arc<Shared>,
    conn: &Conn,
    method: Method,
    headers: &HeaderMap,
    world: &World,
    mut reply: Reply,
    started: Instant,
) -> Response<Sending> {
    let file = match &reply.body {
        Body::Text(_) => None,
        Body::Metrics => {
            reply.body = Body::Text(shared.metrics.page(&standing(world)));
            None
        }
        Body::File(file) => {
            let file = file.clone();
            match open_file(shared, method, headers, &file).await {
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
    match file {
        None => text(conn, method, reply),
        Some((file, Ready::Folder(entries))) => folder(conn, method, reply, &file, &entries),
        Some((
            file,
            Ready::File {
                open,
                facts,
                portion,
                start,
                roomy,
            },
        )) => {
            let file = Outgoing {
                file,
                open,
                facts,
                portion,
                start,
                roomy,
            };
            send_file(shared, conn, method, reply, file, started)
        }
    }
}

/// Where all machines stand, for `/metrics`.
fn standing(world: &World) -> Standing {
    let all = [
        State::Armed,
        State::Claimed,
        State::Installing,
        State::Installed,
        State::Failed,
        State::Held,
    ];
    let mut machines = all.map(|state| (state.as_str(), 0_u64));
    let seen = world.installs.by_system.keys();
    let armed = world.inventory.arms().map(|arm| &arm.system);
    let names: std::collections::BTreeSet<_> = seen.chain(armed).collect();
    for name in names {
        let arm = world.inventory.arm(name.as_str()).map(|arm| &**arm);
        let installation = world.installs.by_system.get(name).map(|seen| &**seen);
        let now = state(arm, installation, world.now);
        if let Some((_, count)) = machines.iter_mut().find(|(word, _)| *word == now.as_str()) {
            *count = count.saturating_add(1);
        }
    }
    Standing {
        machines: machines.to_vec(),
        leases: u64::try_from(world.installs.holders.len()).unwrap_or(u64::MAX),
    }
}

/// What was opened for a reply, judged.
enum Ready {
    Folder(Vec<listing::Entry>),
    File {
        open: Arc<TreeFile>,
        facts: FileFacts,
        portion: Portion,
        start: Bytes,
        roomy: bool,
    },
}

/// Opens, judges and reads the first piece in one visit to the blocking pool.
async fn open_file(shared: &Arc<Shared>, method: Method, headers: &HeaderMap, file: &FileRef) -> io::Result<Ready> {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let range = header("range").filter(|_| method == Method::Get);
    let (if_range, if_none_match) = (header("if-range"), header("if-none-match"));
    let if_modified_since = header("if-modified-since");
    let roomy = shared.metrics.http_transfers.get() < ROOMY;
    let file = file.clone();
    let opening = move || {
        let (open, facts) = match open_source(&file)? {
            Opened::Folder(entries) => return Ok(Ready::Folder(entries)),
            Opened::File(open, facts) => (open, facts),
        };
        let conditions = Conditions {
            range: range.as_deref(),
            if_range: if_range.as_deref(),
            if_none_match: if_none_match.as_deref(),
            if_modified_since: if_modified_since.as_deref(),
        };
        let portion = judge(&facts, &conditions);
        let (first, end) = bounds(portion, facts.size);
        let start = if method == Method::Head {
            Bytes::new()
        } else {
            let len = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
            read_piece(&open, first, len.min(if roomy { LARGE_PIECE } else { SMALL_PIECE }))?
        };
        Ok(Ready::File {
            open,
            facts,
            portion,
            start,
            roomy,
        })
    };
    spawn_blocking(opening).await.map_err(io::Error::other)?
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
    if file.role == Role::Tree {
        return Reply::missing(who, file, &error.to_string());
    }
    let event = What::AssetMissing {
        what: format!("{} {}", file.role.as_str(), file.label),
        why: format!("{error}; bring it back, or import the distro again"),
    };
    Reply::not_found(who, event)
}

/// A folder: its page, or the way to the URL with a slash, where relative links work.
fn folder(
    conn: &Conn,
    method: Method,
    mut reply: Reply,
    file: &FileRef,
    entries: &[listing::Entry],
) -> Response<Sending> {
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
    text(conn, method, reply)
}

struct Outgoing {
    file: FileRef,
    open: Arc<TreeFile>,
    facts: FileFacts,
    portion: Portion,
    start: Bytes,
    roomy: bool,
}

fn send_file(
    shared: &Arc<Shared>,
    conn: &Conn,
    method: Method,
    mut reply: Reply,
    out: Outgoing,
    started: Instant,
) -> Response<Sending> {
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
            return build(conn, reply, None, Inner::Text(Full::default()), None);
        }
        Portion::Unsatisfiable => {
            reply.status = 416;
            reply.headers.push(("Content-Range", format!("bytes */{size}")));
            reply.content_type = crate::http::content_type::TEXT;
            reply.body = Body::Text("the file has no such byte\n".to_owned());
            return text(conn, method, reply);
        }
    }
    let length = end.saturating_sub(first);
    if method == Method::Head {
        return build(conn, reply, Some(length), Inner::Text(Full::default()), None);
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
    let body = FileBody::new(out.open, first, end, out.start, out.roomy);
    build(conn, reply, Some(length), Inner::File(body), Some(Box::new(transfer)))
}

/// A reply that is all text; a HEAD gets its length.
fn text(conn: &Conn, method: Method, mut reply: Reply) -> Response<Sending> {
    let text = match std::mem::replace(&mut reply.body, Body::Metrics) {
        Body::Text(text) => text,
        Body::File(_) | Body::Metrics => String::new(),
    };
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let sent = if method == Method::Head {
        Bytes::new()
    } else {
        Bytes::from(text)
    };
    build(conn, reply, Some(length), Inner::Text(Full::new(sent)), None)
}

fn build(
    conn: &Conn,
    reply: Reply,
    length: Option<u64>,
    inner: Inner,
    transfer: Option<Box<Transfer>>,
) -> Response<Sending> {
    let left = inner.left();
    let mut response = Response::new(Sending {
        inner,
        left,
        conn: conn.clone(),
        transfer,
    });
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(length) = length {
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    }
    for (name, value) in reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        // EDK2 locks the machine up on an empty value (edk2#7443).
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value))
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
    response
}

/// Where the bytes of a body come from.
enum Inner {
    Text(Full<Bytes>),
    File(FileBody),
}

impl Inner {
    fn left(&self) -> u64 {
        match self {
            Self::Text(text) => text.size_hint().exact().unwrap_or(0),
            Self::File(file) => file.size_hint().exact().unwrap_or(0),
        }
    }
}

/// A body on its way, which tells its connection when the last byte was handed over.
pub(super) struct Sending {
    inner: Inner,
    left: u64,
    conn: Conn,
    transfer: Option<Box<Transfer>>,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = match &mut self.inner {
            Inner::Text(text) => {
                ready!(Pin::new(text).poll_frame(cx)).map(|frame| frame.map_err(|never| match never {}))
            }
            Inner::File(file) => ready!(Pin::new(file).poll_frame(cx)),
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.left = self.left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
            let bytes = data.len();
            if let Some(transfer) = &mut self.transfer {
                transfer.sent(bytes);
            }
        }
        if let Some(Err(error)) = &frame
            && let Some(transfer) = self.transfer.take()
        {
            transfer.broken(&format!("the file could not be read: {error}"));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let transfer = self.transfer.take();
        if self.left == 0 {
            self.conn.end(transfer);
        } else if let Some(transfer) = transfer {
            transfer.broken("the client went away");
        }
    }
}
