//! Cobbler's Cheetah templates and snippets, turned into ours: `$name`, `#if`, `#for`, `#set`, `#def`, `#raw`, comments and SNIPPET.
//!
//! Pure, and one way only. What has no equal is marked in its place by a name that is not defined, so that the template cannot render
//! until an admin has looked at it; nothing is dropped or guessed.

mod directive;
mod expression;

use directive::Directive;
use expression::is_name;
use std::collections::BTreeSet;

/// Longest expression that is looked into, in bytes, and how deep its brackets may be: far above what people write.
const LONGEST: usize = 4096;
const DEEPEST: usize = 64;

/// A converted template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The template.
    pub text: String,
    /// What an admin must look at, in the order of its lines.
    pub notes: Vec<Note>,
}

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Line of the Cheetah template, from 1.
    pub line: usize,
    /// False where the result renders, but may mean something else.
    pub must: bool,
    /// What it is, and what to write.
    pub what: String,
}

/// The text is a template of ours already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it says `#template=jinja2`, so it is Jinja already; put it into kickstarts/ without that line")]
pub struct Jinja;

/// Converts the Cheetah template `text`.
///
/// # Errors
/// [`Jinja`].
pub fn convert(text: &str) -> Result<Converted, Jinja> {
    let head = text.lines().next().unwrap_or("");
    if let Some(engine) = head.strip_prefix("#template=") {
        if engine.trim().starts_with("jinja") {
            return Err(Jinja);
        }
        let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
        let mut converter = Converter::new(rest);
        converter.line = 2;
        return Ok(converter.run());
    }
    Ok(Converter::new(text).run())
}

struct Converter<'t> {
    /// What is still to do.
    rest: &'t str,
    /// The line that `rest` begins in.
    line: usize,
    /// What of that line is done.
    done: &'t str,
    /// Where that line begins.
    begun: usize,
    source: &'t str,
    out: String,
    notes: Vec<Note>,
    macros: BTreeSet<String>,
    /// Blocks that are open: what closes each.
    open: Vec<&'static str>,
}

impl<'t> Converter<'t> {
    fn new(source: &'t str) -> Self {
        // Macros may be called above the line that defines them.
        let macros = source.match_indices("#def ").filter_map(|(at, found)| {
            let name = source
                .get(at.saturating_add(found.len())..)?
                .trim_start()
                .trim_start_matches('$');
            let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            name.get(..end.unwrap_or(name.len())).map(str::to_owned)
        });
        Self {
            rest: source,
            line: 1,
            done: "",
            begun: 0,
            source,
            out: String::with_capacity(source.len()),
            notes: Vec::new(),
            macros: macros.collect(),
            open: Vec::new(),
        }
    }

    fn run(mut self) -> Converted {
        while let Some(next) = self.rest.chars().next() {
            self.step(next);
        }
        for close in std::mem::take(&mut self.open) {
            self.note(
                true,
                format!("a block is open at the end; `{{% {close} %}}` is missing"),
            );
        }
        Converted {
            text: self.out,
            notes: self.notes,
        }
    }

    /// Takes `length` bytes and gives them.
    fn take(&mut self, length: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.line = self.line.saturating_add(taken.matches('\n').count());
        let at = self.source.len().saturating_sub(rest.len());
        if let Some(newline) = taken.rfind('\n') {
            let from = self.source.len().saturating_sub(self.rest.len());
            self.begun = from.saturating_add(newline).saturating_add(1);
        }
        self.rest = rest;
        self.done = self.source.get(self.begun..at).unwrap_or_default();
        taken
    }

    fn note(&mut self, must: bool, what: impl Into<String>) {
        self.notes.push(Note {
            line: self.line,
            must,
            what: what.into(),
        });
    }

    fn step(&mut self, next: char) {
        let rest = self.rest;
        match next {
            '\\' if rest.starts_with("\\$") || rest.starts_with("\\#") => {
                self.take(1);
                let plain = self.take(1);
                self.plain(plain);
            }
            '#' if rest.starts_with("##") => self.comment(),
            '#' if rest.starts_with("#*") => {
                let end = rest.find("*#").map_or(rest.len(), |end| end.saturating_add(2));
                let comment = self.take(end).replace("#}", "# }");
                self.out.push_str(&format!("{{{comment}}}"));
            }
            '#' => match Directive::at(rest) {
                Some(directive) => self.directive(directive),
                None => {
                    self.take(1);
                    self.plain("#");
                }
            },
            '$' => self.placeholder(),
            'S' if rest.starts_with("SNIPPET::") => self.snippet(),
            '{' if ["{{", "{%", "{#"].iter().any(|mark| rest.starts_with(mark)) => {
                let mark = self.take(2);
                self.out.push_str(&format!("{{{{ '{mark}' }}}}"));
            }
            other => {
                let plain = self.take(other.len_utf8());
                self.plain(plain);
            }
        }
    }

    /// Text that is text in both; a brace behind one that was just written would become a mark.
    fn plain(&mut self, text: &str) {
        if self.out.ends_with('{') && text == "#" {
            self.out.pop();
            self.out.push_str("{{ '{#' }}");
        } else {
            self.out.push_str(text);
        }
    }

    /// `## ...` to the end of the line. A whole line of it goes; behind text, only itself does.
    fn comment(&mut self) {
        let alone = self.done.trim().is_empty();
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let words = self.take(end).trim_start_matches('#').trim().replace("#}", "# }");
        if !alone {
            return;
        }
        let newline = self.rest.starts_with('\n');
        if newline {
            self.take(1);
        }
        // The template keeps the words, its output nothing of the line.
        let kept = self.out.trim_end_matches([' ', '\t']).len();
        self.out.truncate(kept);
        if !words.is_empty() {
            self.out
                .push_str(&format!("{{# {words} #}}{}", if newline { "\n" } else { "" }));
        }
    }

    fn snippet(&mut self) {
        let rest = self.rest.get("SNIPPET::".len()..).unwrap_or_default();
        let name = rest.trim_start_matches([' ', '\t']);
        let gap = rest.len().saturating_sub(name.len());
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-/.".contains(c);
        let end = name.find(|c| !fits(c)).unwrap_or(name.len());
        if end == 0 {
            let plain = self.take("SNIPPET::".len());
            self.plain(plain);
            return;
        }
        self.take("SNIPPET::".len().saturating_add(gap));
        let name = self.take(end);
        self.out.push_str(&format!("{{{{ snippet('{name}') }}}}"));
    }

    /// `$name...`, `${...}`, `$(...)`, `$[...]`; a `$` before anything else is text.
    fn placeholder(&mut self) {
        let behind = self.rest.get(1..).unwrap_or_default();
        let silent = behind.trim_start_matches(['!', '*']);
        let skipped = behind.len().saturating_sub(silent.len());
        let (length, inner) = match silent.chars().next() {
            Some(open @ ('{' | '(' | '[')) => match enclosed(silent) {
                Some(inner) => (inner.len().saturating_add(2), inner),
                None => {
                    self.note(true, format!("`${open}` is not closed"));
                    (0, "")
                }
            },
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let length = reach(silent);
                (length, silent.get(..length).unwrap_or_default())
            }
            _ => (0, ""),
        };
        if length == 0 {
            self.take(1);
            self.plain("$");
            return;
        }
        let spelled = self
            .rest
            .get(..length.saturating_add(skipped).saturating_add(1))
            .unwrap_or_default();
        let done = self.expression(inner, spelled);
        self.take(spelled.len());
        self.out.push_str(&format!("{{{{ {done} }}}}"));
    }

    /// `source` as ours; what cannot be is marked and noted with the words that stood there.
    fn expression(&mut self, source: &str, spelled: &str) -> String {
        match expression::convert(source, &self.macros) {
            Ok(done) => done,
            Err(why) => {
                self.note(true, format!("{}: {why}", shown(spelled)));
                format!("unconverted_line_{}()", self.line)
            }
        }
    }
}

/// The words of a template in a message.
fn shown(text: &str) -> String {
    let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = words.chars().take(60).collect();
    format!("`{cut}`")
}

/// What lies inside the bracket that `text` starts with; strings inside are looked through.
fn enclosed(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut skip_to = 0;
    for (at, c) in text.char_indices() {
        if at < skip_to {
            continue;
        }
        if at > LONGEST {
            return None;
        }
        match c {
            '{' | '(' | '[' => depth = depth.saturating_add(1),
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return text.get(1..at);
                }
            }
            '"' | '\'' => skip_to = at.saturating_add(expression::quoted(text.get(at..)?)?.len()),
            _ => {}
        }
    }
    None
}

/// How far `name.member(call)` or `name[index][index]` reaches; behind a call Cheetah takes no further bracket.
fn reach(text: &str) -> usize {
    let word = |text: &str| {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        end.unwrap_or(text.len())
    };
    let mut length = word(text);
    let mut called = false;
    loop {
        let rest = text.get(length..).unwrap_or_default();
        let step = match rest.chars().next() {
            Some('(' | '[') if called => 0,
            Some('(' | '[') => enclosed(rest).map_or(0, |inner| inner.len().saturating_add(2)),
            Some('.') => {
                let member = rest.get(1..).unwrap_or_default();
                let end = word(member);
                if member.get(..end).is_some_and(is_name) {
                    end.saturating_add(1)
                } else {
                    0
                }
            }
            _ => 0,
        };
        if step == 0 {
            return length;
        }
        called = rest.starts_with('(');
        length = length.saturating_add(step);
    }
}
