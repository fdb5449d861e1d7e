//! Answer files from templates: minijinja, strict, bounded in steps, depth and output.
//!
//! Texts are compiled once, when the first machine asks after a change: that costs more than all the rest of an answer. Never reads a
//! file, never runs a value as a template, never shows a value in an error: minijinja's own texts quote them, so only the place and the
//! kind of an error leave this file.

use super::rendering::{self, Rendering};
use super::vars::{Variable, variables};
use super::{encode, methods, sized};
use crate::assets::{Assets, Template};
use crate::boot::{AnswerFile, World};
use crate::inventory::Resolved;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Longest answer file, in bytes.
pub const LONGEST: usize = 1024 * 1024;
/// Steps of one rendering, snippets included: about 50,000 turns of a small loop.
const FUEL: u64 = 200_000;
/// How deep macros and includes may call each other within one template; how deep snippets, is the rendering's to say.
const DEPTH: usize = 24;
const SNIPPETS: &str = "snippets/";

/// An object as the folder of its own snippets and its name: `per_system`, `web1`.
pub(super) type Owner = (String, String);

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
pub(super) struct Compiled {
    pub(super) texts: Texts,
    env: Environment<'static>,
    /// The objects with snippets of their own: (`per_system`, `web1`), ...
    owners: BTreeSet<Owner>,
}

/// Every text by the name that includes and errors give it.
#[derive(Clone)]
pub(super) struct Texts {
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

    /// The name of the text of a snippet, in Cobbler's order: those of `layers`, the system's own first, then everybody's.
    pub(super) fn snippet(&self, layers: &[Owner], name: &str) -> Option<String> {
        let own = layers
            .iter()
            .map(|(folder, object)| format!("{folder}/{name}/{object}"));
        own.chain([name.to_owned()])
            .find(|path| self.snippets.contains_key(path))
            .map(|path| format!("{SNIPPETS}{path}"))
    }

    /// What `{% include %}` means by `name`: a text of that name, or what `snippet()` would find.
    fn included<'a>(&self, layers: &[Owner], name: &'a str) -> Cow<'a, str> {
        match self.source(name) {
            Some(_) => name.into(),
            None => self.snippet(layers, name).map_or_else(|| name.into(), Into::into),
        }
    }
}

/// Renders one answer file.
///
/// # Errors
/// [`TemplateError`] names the template, the line and the cause.
pub fn answer_file(answer: &AnswerFile, world: &World) -> Result<String, TemplateError> {
    let name = &answer.template.value;
    let fail = |kind| TemplateError {
        template: name.clone(),
        line: 0,
        kind,
    };
    let compiled = compiled(&world.assets).ok_or_else(|| fail(ErrorKind::Syntax))?;
    if compiled.texts.source(name).is_none() {
        return Err(fail(ErrorKind::Missing));
    }
    let layers = layers(&answer.resolved, &compiled.owners);
    // A clone of the environment is not free, so only who has snippets of its own gets one.
    let own = (!layers.is_empty()).then(|| with_own_snippets(&compiled, &layers));
    let rendering = Arc::new(Rendering::new(
        Arc::clone(&compiled),
        layers,
        variables(answer, world),
        FUEL,
    ));
    let rendered = rendering
        .render(own.as_ref().unwrap_or(&compiled.env), name)
        .map_err(|error| explain(&error, name, &compiled.texts, rendering.variables()))?;
    let replaced = replace_marks(rendered, rendering.variables());
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

/// The objects of a machine that have snippets of their own, the nearest first.
fn layers(resolved: &Resolved, owners: &BTreeSet<Owner>) -> Vec<Owner> {
    if owners.is_empty() {
        return Vec::new();
    }
    let mut layers = Vec::new();
    if let Some(system) = &resolved.system {
        layers.push(("per_system".to_owned(), system.name.to_string()));
    }
    layers.extend(
        resolved
            .profiles
            .iter()
            .map(|profile| ("per_profile".to_owned(), profile.name.to_string())),
    );
    layers.push(("per_distro".to_owned(), resolved.distro.name.to_string()));
    layers.retain(|layer| owners.contains(layer));
    layers
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
    env.set_fuel(Some(FUEL));
    env.add_function("snippet", rendering::snippet);
    let sources = texts.clone();
    env.set_loader(move |name| Ok(sources.source(name).map(|template| template.text.to_string())));
    let names = texts.clone();
    // {% include 'x' %} finds a snippet as snippet('x') does.
    env.set_path_join_callback(move |name, _| names.included(&[], name));
    // One that does not compile says so when it is rendered. Those of single objects can be as many as the machines: each as it is asked for.
    for name in texts.templates.keys() {
        let _ = env.get_template(name);
    }
    for path in texts.snippets.keys().filter(|path| !path.starts_with("per_")) {
        let _ = env.get_template(&format!("{SNIPPETS}{path}"));
    }
    let owners = texts
        .snippets
        .keys()
        .filter_map(|path| {
            let (folder, rest) = path.split_once('/')?;
            let (_, object) = rest.rsplit_once('/')?;
            Some((folder.to_owned(), object.to_owned()))
        })
        .collect();
    Some(Arc::new(Compiled { texts, env, owners }))
}

/// The compiled texts as a machine sees them whose objects have snippets of their own.
fn with_own_snippets(compiled: &Arc<Compiled>, layers: &[Owner]) -> Environment<'static> {
    let mut env = compiled.env.clone();
    let (names, layers) = (Arc::clone(compiled), layers.to_vec());
    env.set_path_join_callback(move |name, _| names.texts.included(&layers, name));
    env
}

/// Replaces `@@name@@` by the variable's text, as Cobbler does after rendering. Unknown names stay; what was put in is not looked at again.
fn replace_marks(text: String, variables: &[Variable]) -> String {
    // Looking for one letter is much quicker than for two, and there are few of it.
    let mark = |(at, _): (usize, &str)| text.get(at..).is_some_and(|rest| rest.starts_with("@@"));
    if !text.match_indices('@').any(mark) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
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
fn explain(error: &Error, template: &str, texts: &Texts, variables: &[Variable]) -> TemplateError {
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
    let text = texts.source(name).map_or("", |template| &template.text);
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
    let known: BTreeSet<&str> = variables.iter().map(|variable| &*variable.name).collect();
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
