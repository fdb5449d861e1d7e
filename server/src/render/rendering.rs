//! One rendering: the variables as its templates see them, the snippets that it calls, and the steps that it has left.
//!
//! The environment is everybody's, so what belongs to one rendering travels in its context, under a name that no template can spell.
//! Never holds a lock, never shows a value.

use super::engine::{Compiled, LONGEST, Owner};
use super::vars::Variable;
use minijinja::value::{Enumerator, Object, Serde};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// How deep snippets may call one another; with the depth of one template it bounds the stack.
const SNIPPET_DEPTH: usize = 8;
/// Where a template's context holds the rendering itself. No expression can name it: it is no identifier.
const ITSELF: &str = " rendering";

/// The context of a template and of all its snippets.
pub(super) struct Rendering {
    compiled: Arc<Compiled>,
    /// The objects whose own snippets come first.
    layers: Vec<Owner>,
    /// Sorted by name.
    variables: Vec<Variable>,
    /// Each as the engine has it, made when a template first asks: of sixty it asks for a dozen, and for some in every turn of a loop.
    asked: Vec<OnceLock<Value>>,
    fuel: AtomicU64,
    depth: AtomicUsize,
}

impl Rendering {
    /// `variables` sorted by name; `fuel` is what the environment gives to each of its templates, and what all of them have together.
    pub(super) fn new(compiled: Arc<Compiled>, layers: Vec<Owner>, variables: Vec<Variable>, fuel: u64) -> Self {
        Self {
            compiled,
            layers,
            asked: variables.iter().map(|_| OnceLock::new()).collect(),
            variables,
            fuel: AtomicU64::new(fuel),
            depth: AtomicUsize::new(0),
        }
    }

    pub(super) fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// Renders the template `name`, on what fuel is left.
    pub(super) fn render(self: &Arc<Self>, env: &Environment<'_>, name: &str) -> Result<String, Error> {
        if self.depth.fetch_add(1, Ordering::Relaxed) > SNIPPET_DEPTH {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
        let left = self.fuel.load(Ordering::Relaxed);
        let template = env.get_template(name)?;
        // Most texts come out about as long as they go in.
        let mut out = Bounded(Vec::with_capacity(template.source().len().min(LONGEST)));
        let captured = template.render_captured_to(Value::from_dyn_object(Arc::clone(self)), &mut out)?;
        let used = captured.state().fuel_levels().map_or(0, |(used, _)| used);
        self.depth.fetch_sub(1, Ordering::Relaxed);
        // The environment stops a single text; what it took beyond what the others left is too much all the same.
        if used >= left {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
        // A snippet that costs nothing could still call itself for ever.
        let used = used.saturating_add(10);
        let _ = self.fuel.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_sub(used))
        });
        String::from_utf8(out.0).map_err(|_| Error::from(ErrorKind::WriteFailure))
    }
}

impl Object for Rendering {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if key == ITSELF {
            return Some(Value::from_dyn_object(Arc::clone(self)));
        }
        let at = self
            .variables
            .binary_search_by(|variable| variable.name.as_ref().cmp(key))
            .ok()?;
        let (variable, asked) = (self.variables.get(at)?, self.asked.get(at)?);
        Some(asked.get_or_init(|| Value::from(Serde(variable.value()))).clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self
            .variables
            .iter()
            .map(|variable| Value::from(variable.name.as_ref()));
        Enumerator::Values(names.collect())
    }
}

impl fmt::Debug for Rendering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rendering")
    }
}

/// The function `snippet(name)` of templates: the text of the snippet, rendered with the same variables.
pub(super) fn snippet(state: &mut State<'_, '_>, name: String) -> Result<String, Error> {
    let rendering = state
        .lookup(ITSELF)
        .and_then(|itself| itself.downcast_object::<Rendering>());
    let found = rendering.and_then(|rendering| {
        let path = rendering.compiled.texts.snippet(&rendering.layers, &name)?;
        Some((rendering, path))
    });
    match found {
        Some((rendering, path)) => rendering.render(state.env(), &path),
        None => Err(Error::new(ErrorKind::TemplateNotFound, name)),
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
