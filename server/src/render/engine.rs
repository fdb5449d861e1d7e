//! Answer files from templates: minijinja, strict, bounded in steps, depth and output.
//!
//! Texts are compiled once, when the first machine asks after a change: that costs more than all the rest of an answer. Never reads a
//! file, never runs a value as a template, never shows a value in an error: minijinja's own texts quote them, so only the place and the
//! kind of an error leave this file.

use super::vars::{Variable, variables};
use super::{encode, methods, sized};
use crate::assets::{Assets, Template};
use crate::boot::{AnswerFile, World};
use crate::inventory::Resolved;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, State, UndefinedBehavior, Value};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Longest answer file, in bytes.
pub const LONGEST: usize = 1024 * 1024;
/// Steps of one rendering, snippets included: about 50,000 turns of a small loop.
const FUEL: u64 = 200_000;
/// How deep macros and includes may call each other within one template, and snippets one another: together they bound the stack.
const DEPTH: usize = 24;
const SNIPPET_DEPTH: usize = 8;
const SNIPPETS: &str = "snippets/";

/// What went wrong in a template, in the field's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no template of that name.
    Missing,
    /// A snippet or included template is not there; its name where the template spells it out.
    NoSnippet(Option<String>),
    /// A name stands for nothing.
    Undefined {
        /// The expression, where it is known.
        name: Option<String>,
        /// The nearest that exists.
        nearest: Option<String>,
    },
    /// The text breaks the template language's rules.
    Syntax,
    /// An unknown filter, function, test or method, as the template writes it.
    Unknown(Option<String>),
    /// A value is of the wrong kind for what is done with it.
    Value,
    /// Too many steps, too deep, or too long an output.
    TooMuch,
}

/// A template could not be rendered. Never holds a value of a variable.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{template}{}: {kind}", if *.line == 0 { String::new() } else { format!(":{line}") })]
pub struct TemplateError {
    /// The template or snippet: a path below `kickstarts/`, snippets with `snippets/` in front.
    pub template: String,
    /// Line in it, from 1; 0 when the whole template is meant.
    pub line: usize,
    /// What is wrong.
    pub kind: ErrorKind,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => {
                f.write_str("there is no such template among those shipped and those in the overrides folder")
            }
            Self::NoSnippet(Some(name)) => write!(
                f,
                "there is no snippet `{name}` among those shipped and those in the overrides folder"
            ),
            Self::NoSnippet(None) => f.write_str("there is no snippet of that name"),
            Self::Undefined {
                name: Some(name),
                nearest: Some(nearest),
            } => {
                write!(f, "`{name}` is not defined; did you mean `{nearest}`?")
            }
            Self::Undefined {
                name: Some(name),
                nearest: None,
            } => {
                write!(
                    f,
                    "`{name}` is not defined; set it with --autoinstall-meta, or give it a default in the template"
                )
            }
            Self::Undefined { name: None, .. } => f.write_str("a name here is not defined"),
            Self::Syntax => f.write_str(
                "this is not the template language (Jinja): a brace, quote or `end...` is missing or misplaced",
            ),
            Self::Unknown(Some(name)) => write!(
                f,
                "`{name}` calls a filter, function, test or method that templates do not have"
            ),
            Self::Unknown(None) => {
                f.write_str("a filter, function, test or method here is not one that templates have")
            }
            Self::Value => f.write_str("a value here is not of the kind that this place needs"),
            Self::TooMuch => write!(
                f,
                "the template takes too many steps, calls too deep, or makes more than {} KiB; is there a loop?",
                LONGEST.div_ceil(1024)
            ),
        }
    }
}

/// Templates and snippets, and the environment that holds them compiled.
struct Compiled {
    texts: Texts,
    env: Environment<'static>,
}

/// Every text by the name that includes and errors give it.
#[derive(Clone)]
struct Texts {
    templates: imbl::OrdMap<String, Arc<Template>>,
    snippets: imbl::OrdMap<String, Arc<Template>>,
}

impl Texts {
    fn source(&self, name: &str) -> Option<&Arc<Template>> {
        match name.strip_prefix(SNIPPETS) {
            Some(path) => self.snippets.get(path),
            None => self.templates.get(name),
        }
    }
}

/// What the parts of one rendering share.
struct Shared {
    compiled: Arc<Compiled>,
    /// Names of the objects whose own snippets come first: `per_system/x/web1`, ...
    layers: Vec<(&'static str, String)>,
    context: Value,
    fuel: AtomicU64,
    depth: AtomicUsize,
}

impl Shared {
    /// The name of the text of a snippet, in Cobbler's order: the system's own, the nearest profile's, the distro's, everybody's.
    fn snippet(&self, name: &str) -> Option<String> {
        let own = self
            .layers
            .iter()
            .map(|(folder, object)| format!("{folder}/{name}/{object}"));
        own.chain([name.to_owned()])
            .find(|path| self.compiled.texts.snippets.contains_key(path))
            .map(|path| format!("{SNIPPETS}{path}"))
    }

    /// Any text by the name that errors give it.
    fn source(&self, name: &str) -> Option<&Arc<Template>> {
        self.compiled.texts.source(name)
    }

    /// Renders the template `name`, on what fuel is left.
    fn render(&self, mut env: Environment<'_>, name: &str) -> Result<String, Error> {
        if self.depth.fetch_add(1, Ordering::Relaxed) > SNIPPET_DEPTH {
            return Err(Error::from(minijinja::ErrorKind::OutOfFuel));
        }
        env.set_fuel(Some(self.fuel.load(Ordering::Relaxed)));
        let mut out = Bounded(Vec::new());
        let captured = env
            .get_template(name)?
            .render_captured_to(self.context.clone(), &mut out)?;
        let used = captured.state().fuel_levels().map_or(0, |(used, _)| used);
        self.depth.fetch_sub(1, Ordering::Relaxed);
        // A snippet that costs nothing could still call itself for ever.
        let used = used.saturating_add(10);
        let _ = self.fuel.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_sub(used))
        });
        String::from_utf8(out.0).map_err(|_| Error::from(minijinja::ErrorKind::WriteFailure))
    }
}

/// A writer that refuses to grow past [`LONGEST`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > LONGEST {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Renders one answer file.
///
/// # Errors
/// [`TemplateError`] names the template, the line and the cause.
pub fn answer_file(answer: &AnswerFile, world: &World) -> Result<String, TemplateError> {
    let variables = variables(answer, world);
    let name = &answer.template.value;
    let fail = |kind| TemplateError {
        template: name.clone(),
        line: 0,
        kind,
    };
    let compiled = compiled(&world.assets).ok_or_else(|| fail(ErrorKind::Syntax))?;
    let shared = Arc::new(Shared {
        compiled: Arc::clone(&compiled),
        layers: layers(&answer.resolved),
        context: context(&variables),
        fuel: AtomicU64::new(FUEL),
        depth: AtomicUsize::new(0),
    });
    if shared.source(name).is_none() {
        return Err(fail(ErrorKind::Missing));
    }
    let rendered = shared
        .render(environment(&shared), name)
        .map_err(|error| explain(&error, name, &shared, &variables))?;
    let replaced = replace_marks(&rendered, &variables);
    if replaced.len() > LONGEST {
        return Err(fail(ErrorKind::TooMuch));
    }
    Ok(replaced)
}

/// Whether `text` would be a template, as far as that can be told before a machine asks for it. It is called `name` in the error.
///
/// # Errors
/// [`TemplateError`] names the line and the cause.
pub fn well_formed(name: &str, text: &str) -> Result<(), TemplateError> {
    let fail = |line, kind| TemplateError {
        template: name.to_owned(),
        line,
        kind,
    };
    if text.len() > LONGEST {
        return Err(fail(0, ErrorKind::TooMuch));
    }
    let compiled = compile(&Assets::default()).ok_or_else(|| fail(0, ErrorKind::Syntax))?;
    match compiled.env.template_from_named_str(name, text) {
        Ok(_) => Ok(()),
        Err(error) => Err(fail(error.line().unwrap_or(0), ErrorKind::Syntax)),
    }
}

fn layers(resolved: &Resolved) -> Vec<(&'static str, String)> {
    let mut layers = Vec::new();
    if let Some(system) = &resolved.system {
        layers.push(("per_system", system.name.to_string()));
    }
    layers.extend(
        resolved
            .profiles
            .iter()
            .map(|profile| ("per_profile", profile.name.to_string())),
    );
    layers.push(("per_distro", resolved.distro.name.to_string()));
    layers
}

fn context(variables: &[Variable]) -> Value {
    let map: serde_json::Map<String, serde_json::Value> = variables
        .iter()
        .map(|variable| (variable.name.clone(), variable.value().clone()))
        .collect();
    Value::from(Serde(map))
}

/// The templates of `assets`, compiled now if nobody did so before. None is never seen: the syntax below is one that minijinja knows.
fn compiled(assets: &Assets) -> Option<Arc<Compiled>> {
    let kept = assets.compiled.get_or_make(|| compile(assets))?;
    let of_these = |compiled: &Compiled| {
        compiled.texts.templates.ptr_eq(&assets.templates) && compiled.texts.snippets.ptr_eq(&assets.snippets)
    };
    match &*kept {
        Some(compiled) if of_these(compiled) => Some(Arc::clone(compiled)),
        // A copy whose texts were changed by hand, as a preview of an edit does.
        _ => compile(assets),
    }
}

fn compile(assets: &Assets) -> Option<Arc<Compiled>> {
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .ok()?;
    let texts = Texts {
        templates: assets.templates.clone(),
        snippets: assets.snippets.clone(),
    };
    let mut env = Environment::new();
    env.set_debug(false);
    env.set_syntax(syntax);
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_recursion_limit(DEPTH);
    env.set_unknown_method_callback(methods::call);
    encode::add_filters(&mut env);
    sized::add_filters(&mut env);
    let sources = texts.clone();
    env.set_loader(move |name| Ok(sources.source(name).map(|template| template.text.to_string())));
    // One that does not compile says so when it is rendered. Those of single objects can be as many as the machines: each as it is asked for.
    for name in texts.templates.keys() {
        let _ = env.get_template(name);
    }
    for path in texts.snippets.keys().filter(|path| !path.starts_with("per_")) {
        let _ = env.get_template(&format!("{SNIPPETS}{path}"));
    }
    Some(Arc::new(Compiled { texts, env }))
}

/// The compiled texts as one rendering sees them: the snippets of its own objects first.
fn environment(shared: &Arc<Shared>) -> Environment<'static> {
    let mut env = shared.compiled.env.clone();
    let names = Arc::clone(shared);
    // {% include 'x' %} finds a snippet as snippet('x') does.
    env.set_path_join_callback(move |name, _| match names.source(name) {
        Some(_) => name.into(),
        None => names.snippet(name).map_or_else(|| name.into(), Into::into),
    });
    let snippets = Arc::clone(shared);
    env.add_function("snippet", move |state: &mut State<'_, '_>, name: String| {
        let Some(name) = snippets.snippet(&name) else {
            return Err(Error::new(minijinja::ErrorKind::TemplateNotFound, name));
        };
        snippets.render(state.env().clone(), &name)
    });
    env
}

/// Replaces `@@name@@` by the variable's text, as Cobbler does after rendering. Unknown names stay; what was put in is not looked at again.
fn replace_marks(text: &str, variables: &[Variable]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("@@") {
        out.push_str(before);
        let found = after.split_once("@@").and_then(|(name, behind)| {
            let variable = variables.iter().find(|variable| variable.name == name)?;
            Some((plain(variable.value())?, behind))
        });
        match found {
            Some((value, behind)) if out.len().saturating_add(value.len()) <= LONGEST => {
                out.push_str(&value);
                rest = behind;
            }
            _ => {
                out.push_str("@@");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn plain(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Some(value.to_string()),
        serde_json::Value::Array(items) => {
            let words: Option<Vec<String>> = items.iter().map(plain).collect();
            words.map(|words| words.join(" "))
        }
        _ => None,
    }
}

/// An error of minijinja as ours: from its innermost cause, with words of the template and never of a value.
fn explain(error: &Error, template: &str, shared: &Shared, variables: &[Variable]) -> TemplateError {
    let mut innermost = error;
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(cause) = cause.downcast_ref::<Error>() {
            innermost = cause;
        }
        next = cause.source();
    }
    let name = innermost.name().or_else(|| error.name()).unwrap_or(template);
    let line = innermost.line().or_else(|| error.line()).unwrap_or(0);
    let text = shared.source(name).map_or("", |template| &template.text);
    let spelled = innermost
        .range()
        .map(|range| whole_of(text, range))
        .and_then(|range| text.get(range))
        .map(|words| words.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|words| !words.is_empty() && words.len() <= 80);
    use minijinja::ErrorKind as Kind;
    let kind = match innermost.kind() {
        Kind::UndefinedError => undefined(spelled, variables),
        Kind::TemplateNotFound => ErrorKind::NoSnippet(
            innermost
                .detail()
                .filter(|name| text.contains(*name) && name.len() <= 80)
                .map(str::to_owned),
        ),
        Kind::SyntaxError | Kind::BadEscape | Kind::InvalidDelimiter | Kind::UnknownBlock => ErrorKind::Syntax,
        Kind::UnknownFilter | Kind::UnknownFunction | Kind::UnknownMethod | Kind::UnknownTest => {
            ErrorKind::Unknown(spelled)
        }
        Kind::OutOfFuel | Kind::WriteFailure => ErrorKind::TooMuch,
        _ if innermost
            .detail()
            .is_some_and(|detail| detail.contains("recursion limit")) =>
        {
            ErrorKind::TooMuch
        }
        _ => ErrorKind::Value,
    };
    TemplateError {
        template: name.to_owned(),
        line,
        kind,
    }
}

/// The range of an expression, where minijinja names only the filter at its end: the value is what is wrong, not the filter.
fn whole_of(text: &str, range: Range<usize>) -> Range<usize> {
    let before = text.get(..range.start).unwrap_or_default();
    let opened = before.rfind("{{").filter(|_| before.trim_end().ends_with('|'));
    opened.map_or_else(|| range.clone(), |start| start..range.end)
}

/// The undefined name among the words of the failing expression, and its nearest neighbour among the variables.
fn undefined(spelled: Option<String>, variables: &[Variable]) -> ErrorKind {
    let known: BTreeSet<&str> = variables.iter().map(|variable| variable.name.as_str()).collect();
    let Some(spelled) = spelled else {
        return ErrorKind::Undefined {
            name: None,
            nearest: None,
        };
    };
    // The word behind a bar is a filter. A variable may be known and yet have no value here (`tree` of a distro without one).
    let names = || {
        spelled.split('|').enumerate().flat_map(|(segment, text)| {
            text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
                .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
                .skip(usize::from(segment > 0))
        })
    };
    let unknown = names()
        .find(|word| !known.contains(word))
        .or_else(|| names().next())
        .unwrap_or(&spelled)
        .to_owned();
    let nearest = known
        .iter()
        .filter(|name| **name != unknown)
        .map(|name| (strsim::damerau_levenshtein(name, &unknown), *name))
        .min()
        .filter(|(distance, _)| distance.saturating_mul(3) <= unknown.chars().count().max(3))
        .map(|(_, name)| name.to_owned());
    ErrorKind::Undefined {
        name: Some(unknown),
        nearest,
    }
}
