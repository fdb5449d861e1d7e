//! One request in, one reply out: recognise who asks, let `boot::decide` choose, render what it chose.
//!
//! Pure: the same world and the same request give the same reply. A file is only named here; the shell opens it, and if it is not
//! there sends [`Reply::not_found`], which is the same 404, byte for byte, as for every refused cause.

use super::content_type;
use super::route::{Method, Route, redact, redact_text, route};
use crate::assets::Asset;
use crate::boot::{self, Answer, AnswerFile, Ask, CobblerAsk, Decision, Effect, Facts, Request, Script, World, paths};
use crate::event::{Event, What};
use crate::install::{Token, TokenKind};
use crate::model::{Mac, Medium, Name};
use crate::render;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

/// What a client asked, as far as an answer may depend on it.
#[derive(Debug, Clone, Copy)]
pub struct HttpRequest<'a> {
    /// The method.
    pub method: Method,
    /// The path as it came, percent-encoded.
    pub path: &'a str,
    /// The query as it came, without `?`.
    pub query: Option<&'a str>,
    /// What a POST carried, at least its first [`super::route::DETAIL`] bytes.
    pub body: &'a [u8],
    /// The client's address.
    pub peer: Ipv4Addr,
    /// The address of ours that it reached.
    pub local: Ipv4Addr,
    /// The kernel's neighbour entry of `peer`, read by the shell beforehand.
    pub neighbour: Option<Mac>,
    /// True when `peer` is in a served network. From elsewhere only reports are taken, and `/healthz` and `/metrics` answered.
    pub served: bool,
}

/// Which machine an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Its interface.
    pub mac: Option<Mac>,
    /// Its record.
    pub system: Option<Name>,
    /// Its address.
    pub peer: Ipv4Addr,
}

impl Who {
    /// An event of this machine.
    #[must_use]
    pub fn event(&self, at: crate::model::Timestamp, what: What) -> Event {
        Event {
            at,
            mac: self.mac,
            system: self.system.clone(),
            peer: Some(IpAddr::V4(self.peer)),
            what,
        }
    }
}

/// What a file is to the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The kernel of a distro.
    Kernel,
    /// An initrd of a distro.
    Initrd,
    /// A loader.
    Loader,
    /// The file of an image.
    Image,
    /// Any other file of a tree. An installation fetches thousands.
    Tree,
}

impl Role {
    /// The word of events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Loader => "loader",
            Self::Image => "image",
            Self::Tree => "tree",
        }
    }
}

/// Where a file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A loader, as the assets know it.
    Asset(Arc<Asset>),
    /// A path below a tree, which must not leave it.
    Tree {
        /// The tree's folder, or its ISO image.
        root: PathBuf,
        /// The image that `root` must be, where it was imported as one.
        iso: Option<Medium>,
        /// The folder whose files are seen before those of `root`.
        overlay: Option<PathBuf>,
        /// Path below it, without `..`; empty is the folder itself.
        path: String,
    },
}

/// A file to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    /// Where it lies.
    pub source: Source,
    /// What it is to the boot.
    pub role: Role,
    /// Its name for people: `vmlinuz`, or its path below the tree.
    pub label: String,
    /// True when the URL ends in `/`: then a folder can be listed as it is, else it is redirected there.
    pub slash: bool,
    /// The URL path without a slash at the end, percent-encoded, for that redirect.
    pub url: String,
}

/// What a reply carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// This text.
    Text(String),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file or folder, which the shell opens and judges the conditions of the request over.
    File(FileRef),
    /// The counters, which the shell holds.
    Metrics,
}

/// What to send, and what changes by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Further headers; none has an empty value (EDK2 locks up on one).
    pub headers: Vec<(&'static str, String)>,
    /// The body; a HEAD gets its length only.
    pub body: Body,
    /// What changes if it is sent.
    pub effects: Vec<Effect>,
    /// What happened, to be told once the reply is certain.
    pub events: Vec<What>,
    /// The same of other machines than the one that asks.
    pub elsewhere: Vec<(Who, What)>,
    /// Whom it is about.
    pub who: Who,
}

impl Reply {
    fn text(who: Who, status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            content_type: content_type::TEXT,
            headers: Vec::new(),
            body: Body::Text(text.into()),
            effects: Vec::new(),
            events: Vec::new(),
            elsewhere: Vec::new(),
            who,
        }
    }

    /// The 404 of every cause.
    #[must_use]
    pub fn not_found(who: Who, event: What) -> Self {
        let mut reply = Self::text(who, 404, "not found\n");
        reply.events.push(event);
        reply
    }

    /// The 404 of a file that the decision named and the shell did not find.
    #[must_use]
    pub fn missing(who: Who, file: &FileRef, reason: &str) -> Self {
        let event = What::HttpNotFound {
            path: paths::shown(&file.label),
            reason: reason.to_owned(),
        };
        Self::not_found(who, event)
    }

    /// The state could not be stored: the client is asked to come again, and nothing has changed.
    #[must_use]
    pub fn unavailable(who: Who) -> Self {
        let mut reply = Self::text(who, 503, "the server cannot store its state; try again\n");
        reply.headers.push(("Retry-After", "2".to_owned()));
        reply
    }

    /// The server is out of descriptors or memory: a 404 would end an installation for good.
    #[must_use]
    pub fn busy(who: Who) -> Self {
        let mut reply = Self::text(who, 503, "the server is busy; try again\n");
        reply.headers.push(("Retry-After", "2".to_owned()));
        reply
    }

    fn fresh(mut self) -> Self {
        self.headers.push(("Cache-Control", "no-store".to_owned()));
        self
    }
}

/// Answers `request`.
#[must_use]
pub fn respond(world: &World, request: &HttpRequest<'_>) -> Reply {
    let route = route(request.path, request.query, request.body);
    let nobody = Who {
        mac: None,
        system: None,
        peer: request.peer,
    };
    match (&route, request.method) {
        (_, Method::Other) => return refused_method(nobody, &route),
        (Route::Boot { .. }, Method::Post) if !(route.takes_body() || route.renders()) => {
            return refused_method(nobody, &route);
        }
        (Route::Metrics | Route::Health | Route::Front, Method::Post) => return refused_method(nobody, &route),
        // A POST goes to the methods themselves, which the shell asks.
        (Route::Rpc, _) => return refused_method(nobody, &route),
        _ => {}
    }
    let (parsed, slash) = match route {
        Route::Health => return Reply::text(nobody, 200, "ok\n").fresh(),
        Route::Front => return front(world, nobody),
        Route::Metrics => {
            let mut reply = Reply::text(nobody, 200, "").fresh();
            reply.content_type = super::METRICS_TYPE;
            reply.body = Body::Metrics;
            return reply;
        }
        Route::Rpc => return Reply::text(nobody, 405, "method not allowed\n"),
        Route::Boot { parsed, slash } => (parsed, slash),
    };
    let facts = boot::recognise(world, parsed.mac, request.peer, request.local, request.neighbour);
    if !request.served && !matches!(parsed.ask, Ask::Report { .. }) {
        let who = who(world, &facts, None, request.peer);
        let reason = format!("{} is in no served network", request.peer);
        let path = redact(request.path);
        return Reply::not_found(who, What::HttpNotFound { path, reason });
    }
    let question = Request { facts, ask: parsed.ask };
    let decision = boot::decide(world, &question);
    let mut reply = render_answer(world, request, &question, &decision, slash);
    if reply.status < 400 {
        reply.effects = decision.effects;
    }
    if request.method == Method::Head {
        // A question for the size is no step of a boot.
        reply.effects.clear();
        reply.events.clear();
        reply.elsewhere.clear();
    }
    reply
}

fn refused_method(who: Who, route: &Route) -> Reply {
    let mut reply = Reply::text(who, 405, "method not allowed\n");
    let allow = if *route == Route::Rpc {
        "POST"
    } else if route.takes_body() || route.renders() {
        "GET, HEAD, POST"
    } else {
        "GET, HEAD"
    };
    reply.headers.push(("Allow", allow.to_owned()));
    reply
}

/// The page at `/`: that the server is there, and nothing about machines.
fn front(world: &World, who: Who) -> Reply {
    let mut text = String::from("Cordwainer, a network boot server.\n\nTrees:\n");
    for distro in world.inventory.distros() {
        if distro.tree.is_some() {
            text.push_str(&format!("  /{}/\n", paths::tree(&distro.name, "")));
        }
    }
    text.push_str("\nWhy a machine does not boot: cordwainer boot trace NAME\n");
    Reply::text(who, 200, text).fresh()
}

/// Which machine it is about: the one that the effects name by its token, else the one recognised.
fn who(world: &World, facts: &Facts, decision: Option<&Decision>, peer: Ipv4Addr) -> Who {
    let armed = decision.and_then(|decision| {
        decision.effects.iter().find_map(|effect| match effect {
            Effect::Install { act, .. } => Some(act.arm.system.clone()),
            Effect::Seen { .. } => None,
        })
    });
    let rendered = decision.and_then(|decision| match &decision.answer {
        Answer::AnswerFile(answer) => answer.resolved.system.as_ref().map(|system| system.name.clone()),
        Answer::Script(script) => match &**script {
            Script::Launch(launch) => Some(launch.system.clone()),
            Script::Image(boot) => Some(boot.system.clone()),
            Script::Local { .. } | Script::Menu(_) => None,
        },
        _ => None,
    });
    let by_mac = || {
        let system = facts.mac.and_then(|mac| world.inventory.system_by_mac(mac));
        system.map(|system| system.name.clone())
    };
    let system = armed.or(rendered).or_else(by_mac);
    // An address may have passed to another machine since; the token tells the truth.
    let mac = facts.mac.filter(|mac| {
        system
            .as_ref()
            .and_then(|name| world.inventory.system(name.as_str()))
            .is_none_or(|system| system.macs().any(|own| own == *mac))
    });
    Who { mac, system, peer }
}

fn render_answer(
    world: &World,
    request: &HttpRequest<'_>,
    question: &Request,
    decision: &Decision,
    slash: bool,
) -> Reply {
    let who = who(world, &question.facts, Some(decision), request.peer);
    let rule = || {
        decision
            .trace
            .verdict()
            .map_or_else(|| "no rule held".to_owned(), |rule| rule.name.clone())
    };
    match &decision.answer {
        Answer::NotFound | Answer::Silence | Answer::BootFile(_) => {
            let reason = decision
                .trace
                .verdict()
                .map_or_else(|| "no rule knows it".to_owned(), |rule| redact_text(&rule.why));
            let event = match question.ask {
                Ask::AnswerFile { .. } | Ask::Report { .. } | Ask::Cobbler(CobblerAsk::Answer { .. }) => {
                    What::AnswerRefused { cause: reason }
                }
                _ => What::HttpNotFound {
                    path: redact(request.path),
                    reason,
                },
            };
            let mut reply = Reply::not_found(who, event);
            if let Ask::AnswerFile { token, .. } = &question.ask {
                reply.elsewhere = refused_elsewhere(world, token, &reply);
            }
            reply
        }
        Answer::Script(script) => {
            let mut reply = Reply::text(who, 200, render::script(script)).fresh();
            let (dialect, gives) = gives(script);
            reply.events.push(What::Script {
                dialect: dialect.to_owned(),
                gives,
                rule: rule(),
            });
            reply
        }
        Answer::Loader(asset) => {
            let label = match &question.ask {
                Ask::Loader(name) => name.clone(),
                _ => asset
                    .path
                    .file_name()
                    .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            };
            // A distro without a tree gives its kernel and initrds one by one.
            let role = match &question.ask {
                Ask::TreeFile { path, .. } if path == "-/kernel" => Role::Kernel,
                Ask::TreeFile { .. } => Role::Initrd,
                Ask::ImageFile(_) => Role::Image,
                _ => Role::Loader,
            };
            file(request, who, Source::Asset(asset.clone()), role, label, slash)
        }
        Answer::TreeFile {
            distro,
            root,
            iso,
            overlay,
            path,
        } => {
            let role = role(world, distro, path);
            let source = Source::Tree {
                root: root.clone(),
                iso: *iso,
                overlay: overlay.clone(),
                path: path.clone(),
            };
            let label = if path.is_empty() {
                distro.to_string()
            } else {
                path.clone()
            };
            file(request, who, source, role, label, slash)
        }
        Answer::AnswerFile(answer) => answer_file(world, who, answer),
        Answer::Text(text) => Reply::text(who, 200, text.clone()).fresh(),
        Answer::Elsewhere(url) => {
            let mut reply = Reply::text(who, 302, "it is elsewhere\n").fresh();
            reply.headers.push(("Location", url.clone()));
            reply
        }
        Answer::Public { root, path } => {
            let source = Source::Tree {
                root: root.clone(),
                iso: None,
                overlay: None,
                path: path.clone(),
            };
            let label = if path.is_empty() { "pub" } else { path };
            file(request, who, source, Role::Tree, label.to_owned(), slash)
        }
        Answer::Accepted => {
            let mut reply = Reply::text(who, 200, "ok\n").fresh();
            if let Ask::Report { stage, detail, .. } = &question.ask {
                reply.events.push(What::Stage {
                    stage: stage_word(stage),
                    detail: detail.clone(),
                    reported: true,
                });
            }
            reply
        }
    }
}

/// A refused answer file, told in the timeline of the machine that is being installed with that token where somebody else asked: it is
/// the machine itself under another address, or a thief.
fn refused_elsewhere(world: &World, token: &str, reply: &Reply) -> Vec<(Who, What)> {
    let owner = Token::claimed_arm(token)
        .and_then(|arm| world.installs.of_arm(&arm).cloned())
        .filter(|seen| seen.state.is_open() && Some(&seen.system) != reply.who.system.as_ref())
        .filter(|seen| Token::derive(&world.key, &seen.arm, TokenKind::Install).matches(token));
    let told = owner.zip(reply.events.first()).and_then(|(owner, event)| {
        let What::AnswerRefused { cause } = event else {
            return None;
        };
        let who = Who {
            mac: owner.mac,
            system: Some(owner.system.clone()),
            peer: reply.who.peer,
        };
        let cause = format!("{} showed its token: {cause}", reply.who.peer);
        Some((who, What::AnswerRefused { cause }))
    });
    told.into_iter().collect()
}

/// A stage's word as it may be shown: letters, digits and dashes stay, the rest is escaped, 64 characters at most.
fn stage_word(stage: &str) -> String {
    paths::shown(&redact_text(stage)).chars().take(64).collect()
}

fn gives(script: &Script) -> (&'static str, String) {
    match script {
        Script::Launch(launch) => (launch.dialect.as_str(), format!("install {}", launch.profile)),
        Script::Image(boot) => (boot.dialect.as_str(), format!("image {}", boot.image)),
        Script::Local { dialect, because, .. } => (dialect.as_str(), format!("local boot: {because}")),
        Script::Menu(menu) => (menu.dialect.as_str(), format!("menu of {}", menu.entries.len())),
    }
}

fn role(world: &World, distro: &Name, path: &str) -> Role {
    let Some(distro) = world.inventory.distro(distro.as_str()) else {
        return Role::Tree;
    };
    let is = |named: &str| paths::normal(named).as_deref() == Some(path);
    if is(&distro.kernel) {
        Role::Kernel
    } else if distro.initrd.iter().any(|initrd| is(initrd)) {
        Role::Initrd
    } else {
        Role::Tree
    }
}

fn file(request: &HttpRequest<'_>, who: Who, source: Source, role: Role, label: String, slash: bool) -> Reply {
    let mut reply = Reply::text(who, 200, "");
    reply.content_type = content_type::of(&label);
    let url = super::route::percent_decode(request.path, false)
        .and_then(|path| paths::normal(&path))
        .map_or_else(String::new, |path| super::route::percent_encode(&path));
    reply.body = Body::File(FileRef {
        source,
        role,
        label: paths::shown(&label),
        slash,
        url: format!("/{url}"),
    });
    reply
}

fn answer_file(world: &World, who: Who, answer: &AnswerFile) -> Reply {
    match render::answer_file(answer, world) {
        Ok(text) => {
            let event = What::AnswerFile {
                file: paths::shown(&answer.file),
                template: answer.template.value.clone(),
                bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
            };
            if render::is_overlay(&answer.file) {
                return packed(who, answer, &text, event);
            }
            let mut reply = Reply::text(who, 200, text).fresh();
            reply.content_type = match content_type::of(&answer.file) {
                // AutoYaST and Agama read these by their form, not their type; text is what the rest expects.
                kind @ ("application/xml" | "application/json") => kind,
                _ => content_type::TEXT,
            };
            reply.events.push(event);
            reply
        }
        Err(error) => {
            let event = What::TemplateBroken {
                template: answer.template.value.clone(),
                error: error.to_string(),
            };
            let mut reply = Reply::text(
                who,
                500,
                "the answer file could not be rendered; the server's log names the line\n",
            )
            .fresh();
            reply.events.push(event);
            reply
        }
    }
}

/// An answer file that is an archive.
fn packed(who: Who, answer: &AnswerFile, text: &str, event: What) -> Reply {
    let mut reply = Reply::text(who, 200, "").fresh();
    match render::overlay(text) {
        Ok(bytes) => {
            reply.body = Body::Bytes(bytes);
            reply.content_type = content_type::of(&answer.file);
            reply.events.push(event);
        }
        Err(error) => {
            reply.status = 500;
            reply.body =
                Body::Text("the answer file could not be packed; the server's log names the line\n".to_owned());
            reply.events.push(What::TemplateBroken {
                template: answer.template.value.clone(),
                error: format!("as rendered, {error}"),
            });
        }
    }
    reply
}
