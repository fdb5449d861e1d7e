//! Cheetah's directives: `#if`, `#for`, `#set` and their like, on a line of their own or inside one.
//!
//! Pure. A block that cannot be converted keeps its place as a comment, so that what lies inside it still can be.

use super::expression::{is_name, quoted};
use super::{Converter, LONGEST, shown};

/// Names that start a directive. A `#` before any other word is text: shells and kickstarts are full of them.
const NAMES: [&str; 34] = [
    "if",
    "else if",
    "elif",
    "else",
    "unless",
    "for",
    "while",
    "repeat",
    "set global",
    "set",
    "def",
    "block",
    "macro",
    "raw",
    "include",
    "import",
    "from",
    "silent",
    "echo",
    "pass",
    "break",
    "continue",
    "slurp",
    "del",
    "attr",
    "try",
    "except",
    "finally",
    "return",
    "stop",
    "extends",
    "implements",
    "filter",
    "errorCatcher",
];
/// Blocks with an equal of ours, and what closes them.
const BLOCKS: [(&str, &str); 5] = [
    ("if", "endif"),
    ("unless", "endif"),
    ("for", "endfor"),
    ("def", "endmacro"),
    ("raw", "endraw"),
];

/// One directive as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Directive<'t> {
    /// Its name; for `#end if` that of its block.
    name: &'static str,
    is_end: bool,
    /// What follows the name, without the mark that may end it.
    words: &'t str,
    /// Bytes of all of it.
    length: usize,
    /// Ended by a `#`, not by the line.
    inside: bool,
}

impl<'t> Directive<'t> {
    /// The directive that `text` starts with; `text` starts with `#`.
    pub(super) fn at(text: &'t str) -> Option<Self> {
        let behind = text.strip_prefix('#')?;
        let (is_end, named) = match behind.strip_prefix("end") {
            Some(rest) if rest.starts_with([' ', '\t']) => (true, rest.trim_start_matches([' ', '\t'])),
            _ => (false, behind),
        };
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '=');
        let name = NAMES
            .into_iter()
            .find(|name| named.strip_prefix(name).is_some_and(ends))?;
        let words = named.get(name.len()..)?;
        let begun = text.len().checked_sub(words.len())?;
        let mut end = words.len();
        let mut inside = false;
        let (mut skip_to, mut depth) = (0, 0_usize);
        for (at, c) in words.char_indices() {
            if at < skip_to {
                continue;
            }
            if depth > 0 && at > LONGEST {
                break;
            }
            match c {
                '\n' if depth == 0 => {
                    end = at;
                    break;
                }
                '(' | '[' | '{' => depth = depth.saturating_add(1),
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                '#' => {
                    (end, inside) = (at, true);
                    break;
                }
                '"' | '\'' => {
                    let string = words.get(at..).and_then(quoted).map_or(1, str::len);
                    skip_to = at.saturating_add(string);
                }
                _ => {}
            }
        }
        if depth > 0 && end == words.len() {
            // A bracket that nothing closes must not swallow the template.
            end = words.find('\n').unwrap_or(end);
        }
        Some(Self {
            name,
            is_end,
            words: words.get(..end)?.trim(),
            length: begun.checked_add(end)?.checked_add(usize::from(inside))?,
            inside,
        })
    }
}

impl<'t> Converter<'t> {
    pub(super) fn directive(&mut self, directive: Directive<'t>) {
        let alone = self.done.trim().is_empty() && !directive.inside;
        let spelled = self.rest.get(..directive.length).unwrap_or_default();
        if directive.name == "raw" && !directive.is_end {
            self.raw(directive, alone);
            return;
        }
        let done = if directive.is_end {
            self.end(directive.name)
        } else {
            self.begin(directive, spelled)
        };
        let statement = match done {
            Ok(statement) => statement,
            Err(why) => {
                self.note(true, format!("{}: {why}", shown(spelled)));
                Statement::Left(format!("unconverted_line_{}()", self.line))
            }
        };
        self.take(directive.length);
        // Cheetah takes a directive's whole line away, and leaves the line of one that stands inside it.
        let (left, right) = if alone { ("{%", "%}") } else { ("{%+", "+%}") };
        match statement {
            Statement::Block(words) => self.out.push_str(&format!("{left} {words} {right}")),
            Statement::Value(words) => {
                self.out.push_str(&format!("{{{{ {words} }}}}"));
                if alone {
                    // The line goes with the directive, so the value's line ends with what follows.
                    self.gone();
                }
            }
            Statement::Left(mark) => {
                let words = spelled.replace("#}", "# }");
                self.out
                    .push_str(&format!("{{{{ {mark} }}}}{{# {} #}}", words.trim_matches('#')));
            }
            Statement::Nothing if alone => {
                let kept = self.out.trim_end_matches([' ', '\t']).len();
                self.out.truncate(kept);
                self.gone();
            }
            Statement::Nothing => {}
        }
    }

    /// Takes the end of a line that leaves nothing behind.
    fn gone(&mut self) {
        if self.rest.starts_with("\r\n") {
            self.take(2);
        } else if self.rest.starts_with('\n') {
            self.take(1);
        }
    }

    fn begin(&mut self, directive: Directive<'t>, spelled: &str) -> Result<Statement, String> {
        let words = directive.words;
        let condition = |words: &'t str| words.strip_suffix(':').unwrap_or(words).trim();
        let block = |converter: &mut Self, statement: String| {
            let close = BLOCKS.iter().find(|(name, _)| *name == directive.name);
            converter.open.extend(close.map(|(_, close)| *close));
            Ok(Statement::Block(statement))
        };
        match directive.name {
            "if" if words.contains(" then ") && words.contains(" else ") => {
                let (asked, rest) = words.split_once(" then ").unwrap_or((words, ""));
                let (yes, no) = rest.split_once(" else ").unwrap_or((rest, "''"));
                let [asked, yes, no] = [asked, yes, no].map(|part| self.expression(part, spelled));
                Ok(Statement::Value(format!("{yes} if {asked} else {no}")))
            }
            "if" => {
                let asked = self.expression(condition(words), spelled);
                block(self, format!("if {asked}"))
            }
            "unless" => {
                let asked = self.expression(condition(words), spelled);
                block(self, format!("if not ({asked})"))
            }
            "else if" | "elif" => {
                let asked = self.expression(condition(words), spelled);
                Ok(Statement::Block(format!("elif {asked}")))
            }
            "else" => Ok(Statement::Block("else".to_owned())),
            "for" => {
                let (names, of) = condition(words).split_once(" in ").ok_or("`in` is missing")?;
                let names: Vec<&str> = names
                    .split(',')
                    .map(|name| name.trim().trim_start_matches('$'))
                    .collect();
                if !names.iter().all(|name| is_name(name)) {
                    return Err("its variable is no plain name".to_owned());
                }
                let of = self.expression(of, spelled);
                block(self, format!("for {} in {of}", names.join(", ")))
            }
            "def" => {
                let head = condition(words).trim_start_matches('$');
                let (name, arguments) = head.split_once('(').unwrap_or((head, ")"));
                let arguments = arguments
                    .trim_end()
                    .strip_suffix(')')
                    .ok_or("its bracket is not closed")?;
                let arguments = arguments.replace('$', "");
                if !is_name(name.trim()) || arguments.contains('*') {
                    return Err("its head is no `name(argument, argument=value)`".to_owned());
                }
                block(self, format!("macro {}({arguments})", name.trim()))
            }
            "set" | "set global" | "attr" => self.set(words, spelled),
            "echo" => {
                let value = self.expression(words, spelled);
                Ok(Statement::Value(value))
            }
            "pass" => Ok(Statement::Nothing),
            // Randomness and clocks are no business of an answer file, and what else was imported is named where it is used.
            "import" | "from" => Err("templates import nothing; what it gave must be written otherwise".to_owned()),
            "include" => Err("write {{ snippet('NAME') }} and put the file into snippets/".to_owned()),
            name => Err(format!("templates have no `{name}`")),
        }
    }

    fn set(&mut self, words: &str, spelled: &str) -> Result<Statement, String> {
        let at = words.find('=').ok_or("`=` is missing")?;
        let (target, value) = words.split_at_checked(at).ok_or("`=` is missing")?;
        let value = value.trim_start_matches('=').trim();
        let target = target.trim().trim_start_matches('$');
        let operator = target.trim_end_matches(|c: char| "+-*/".contains(c));
        let sign = target.get(operator.len()..).unwrap_or_default().to_owned();
        let name = operator.trim().to_owned();
        if !is_name(&name) {
            return Err("only a plain name can be set".to_owned());
        }
        let value = self.expression(value, spelled);
        if self.open.contains(&"endfor") {
            self.note(
                false,
                format!("`{name}` is set inside a loop: behind the loop it has its old value; a namespace() keeps it"),
            );
        }
        Ok(Statement::Block(match sign.as_str() {
            "" => format!("set {name} = {value}"),
            // Texts are joined, numbers added: which it is shows only when it is rendered.
            sign => format!("set {name} = {name} {sign} {value}"),
        }))
    }

    fn end(&mut self, name: &str) -> Result<Statement, String> {
        let close = BLOCKS.iter().find(|(block, _)| *block == name).map(|(_, close)| *close);
        let close = close.ok_or_else(|| format!("templates have no `{name}`"))?;
        match self.open.last() {
            Some(open) if *open == close => {
                self.open.pop();
                Ok(Statement::Block(close.to_owned()))
            }
            _ => Err("it closes no block that is open here".to_owned()),
        }
    }

    /// `#raw` to `#end raw`: text that is looked into by neither.
    fn raw(&mut self, directive: Directive<'t>, alone: bool) {
        self.take(directive.length);
        if alone {
            self.gone();
        }
        let (length, end) = match self.rest.find("#end raw") {
            Some(at) => (at, "#end raw".len()),
            None => {
                self.note(true, "`#raw` has no `#end raw`");
                (self.rest.len(), 0)
            }
        };
        let text = self.take(length);
        let last = self.done.trim().is_empty();
        self.take(end);
        let closes_line = self.rest.is_empty() || self.rest.starts_with(['\n', '\r']);
        // A line that holds only `#end raw` goes, with what stands before it on the line.
        let text = if last && closes_line {
            text.trim_end_matches([' ', '\t'])
        } else {
            text
        };
        if text.contains("endraw") {
            self.note(true, "text between `#raw` and `#end raw` holds `endraw`");
        }
        if !text.is_empty() {
            self.out.push_str(&format!("{{%+ raw +%}}{text}{{%+ endraw +%}}"));
        }
        if last && closes_line {
            self.gone();
        }
    }
}

/// What a directive becomes.
enum Statement {
    /// `{% ... %}`.
    Block(String),
    /// `{{ ... }}`.
    Value(String),
    /// A mark that must be looked at.
    Left(String),
    /// Nothing.
    Nothing,
}
