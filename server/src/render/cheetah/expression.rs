//! The Python expressions of Cheetah templates, as expressions of ours.
//!
//! Pure and total: what has no equal here is refused with its reason, never guessed.

use super::{DEEPEST, LONGEST};
use std::collections::BTreeSet;

/// Names of Cheetah's that need no parentheses there and do here: it calls whatever it finds.
const CALLED: [&str; 12] = [
    "keys",
    "values",
    "items",
    "strip",
    "lstrip",
    "rstrip",
    "lower",
    "upper",
    "split",
    "capitalize",
    "isdigit",
    "splitlines",
];
/// Functions with a filter of the same meaning.
const FILTERS: [(&str, &str); 10] = [
    ("len", "length"),
    ("str", "string"),
    ("int", "int"),
    ("float", "float"),
    ("bool", "bool"),
    ("list", "list"),
    ("sorted", "sort"),
    ("max", "max"),
    ("min", "min"),
    ("abs", "abs"),
];
/// Words of Python that start something which templates do not have.
const PYTHON: [&str; 8] = ["lambda", "for", "yield", "await", "async", "import", "print", "exec"];

/// Why an expression stays as it is.
pub(super) type Unfit = String;

/// One token; `spaced` says that a space stood before it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    kind: Kind,
    text: String,
    spaced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Name,
    Number,
    Text,
    Sign,
}

/// Turns `source` into an expression of ours. `macros` are the names that the template defines itself.
pub(super) fn convert(source: &str, macros: &BTreeSet<String>) -> Result<String, Unfit> {
    if source.len() > LONGEST {
        return Err(format!("an expression is longer than {} KiB", LONGEST / 1024));
    }
    let tokens = tokens(source)?;
    let (mut depth, mut deepest) = (0_usize, 0);
    for token in tokens.iter().filter(|token| token.kind == Kind::Sign) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth = depth.saturating_add(1),
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = depth.max(deepest);
    }
    if deepest > DEEPEST {
        return Err(format!(
            "its brackets are {deepest} deep, and at most {DEEPEST} are followed"
        ));
    }
    let done = series(&tokens, macros)?;
    if done.is_empty() {
        return Err("an expression is missing".to_owned());
    }
    Ok(done)
}

fn tokens(source: &str) -> Result<Vec<Token>, Unfit> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = source;
    let mut spaced = false;
    while let Some(first) = rest.chars().next() {
        let token = |kind, text: &str| Token {
            kind,
            text: text.to_owned(),
            spaced,
        };
        let length = match first {
            c if c.is_whitespace() => {
                rest = rest.trim_start();
                spaced = true;
                continue;
            }
            // The sigil says nothing here; `${name}` is `name`.
            '$' => {
                let behind = rest.get(1..).unwrap_or_default();
                let inner = behind.strip_prefix('{').and_then(|inner| inner.split_once('}'));
                match inner {
                    Some((name, after)) if is_name(name) => {
                        tokens.push(token(Kind::Name, name));
                        rest = after;
                        spaced = false;
                    }
                    _ if behind.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => rest = behind,
                    _ => return Err("a `$` stands before no name".to_owned()),
                }
                continue;
            }
            '"' | '\'' => {
                let text = quoted(rest).ok_or_else(|| "a quote is not closed".to_owned())?;
                let prefix = tokens.last().filter(|last| last.kind == Kind::Name && !spaced);
                match prefix.map(|prefix| prefix.text.as_str()) {
                    Some("u" | "U") => {
                        tokens.pop();
                    }
                    Some(_) => return Err("a string has a prefix that templates do not have".to_owned()),
                    None => {}
                }
                tokens.push(token(Kind::Text, text));
                text.len()
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                let name = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                tokens.push(token(Kind::Name, name));
                name.len()
            }
            c if c.is_ascii_digit() => {
                let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'));
                let number = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                tokens.push(token(Kind::Number, number));
                number.len()
            }
            _ => {
                let sign = ["==", "!=", "<=", ">=", "<>", "**", "//", "<<", ">>"]
                    .into_iter()
                    .find(|sign| rest.starts_with(sign));
                let sign = sign.unwrap_or_else(|| rest.get(..first.len_utf8()).unwrap_or_default());
                match sign {
                    "&" | "|" | "^" | "~" | "<<" | ">>" | "`" | "@" | ";" | "?" | "!" | "\\" => {
                        return Err(format!("`{sign}` is no operator of templates"));
                    }
                    "=" => return Err("an assignment stands inside an expression".to_owned()),
                    "<>" => tokens.push(token(Kind::Sign, "!=")),
                    sign if sign.is_ascii() => tokens.push(token(Kind::Sign, sign)),
                    sign => return Err(format!("`{sign}` is no operator of templates")),
                }
                sign.len()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
        spaced = false;
    }
    Ok(tokens)
}

pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The string that `text` starts with, quotes included. Triple quotes are not one.
pub(super) fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next()?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' => return None,
            c if c == quote => return text.get(..at.saturating_add(1)),
            _ => {}
        }
    }
    None
}

/// Tokens in a row, brackets and calls followed into.
fn series(tokens: &[Token], macros: &BTreeSet<String>) -> Result<String, Unfit> {
    let mut out = String::new();
    let mut rest = tokens;
    let mut before: Option<&Token> = None;
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        let is = |token: Option<&Token>, text: &str| {
            token.is_some_and(|token| token.text == text && token.kind == Kind::Sign)
        };
        if token.spaced && !out.is_empty() {
            out.push(' ');
        }
        match (token.kind, token.text.as_str()) {
            (Kind::Sign, open @ ("(" | "[" | "{")) => {
                let (inside, behind) = bracket(after)?;
                let close = match open {
                    "(" => ')',
                    "[" => ']',
                    _ => '}',
                };
                out.push_str(open);
                out.push_str(&series(inside, macros)?);
                out.push(close);
                rest = behind;
            }
            (Kind::Sign, "%") if before.is_some_and(|before| before.kind == Kind::Text) => {
                return Err("text is formatted with `%`; write it with `~`".to_owned());
            }
            (Kind::Sign, ")" | "]" | "}") => return Err("a bracket is closed that was never opened".to_owned()),
            (Kind::Sign, sign) => out.push_str(sign),
            (Kind::Number, text) => out.push_str(text),
            (Kind::Text, text) => {
                if before.is_some_and(|before| before.kind == Kind::Text) {
                    return Err("two strings stand side by side; write `~` between them".to_owned());
                }
                out.push_str(text);
            }
            (Kind::Name, name) => {
                let member = is(before, ".");
                let called = is(after.first(), "(") && !after.first().is_some_and(|next| next.spaced && !member);
                rest = if called {
                    call(name, member, after.get(1..).unwrap_or_default(), macros, &mut out)?
                } else if member && CALLED.contains(&name) {
                    out.push_str(name);
                    out.push_str("()");
                    after
                } else {
                    word(name, member, after, &mut out)?
                };
            }
        }
        before = Some(token);
    }
    Ok(out)
}

/// A name that is not called; what follows is returned.
fn word<'a>(name: &str, member: bool, after: &'a [Token], out: &mut String) -> Result<&'a [Token], Unfit> {
    if member {
        out.push_str(name);
        return Ok(after);
    }
    if PYTHON.contains(&name) {
        return Err(format!("`{name}` is Python, and templates do not have it"));
    }
    match name {
        "None" => out.push_str("none"),
        "True" => out.push_str("true"),
        "False" => out.push_str("false"),
        "is" => {
            let not = usize::from(after.first().is_some_and(|next| next.text == "not"));
            let what = after.get(not).map_or("", |what| what.text.as_str());
            let test = match what {
                "None" => "none",
                "True" => "true",
                "False" => "false",
                _ => return Err("`is` compares identities; write `==`".to_owned()),
            };
            out.push_str(if not == 1 { "is not " } else { "is " });
            out.push_str(test);
            return Ok(after.get(not.saturating_add(1)..).unwrap_or_default());
        }
        name => out.push_str(name),
    }
    Ok(after)
}

/// `name(...)`; `after` starts behind the bracket.
fn call<'a>(
    name: &str,
    member: bool,
    after: &'a [Token],
    macros: &BTreeSet<String>,
    out: &mut String,
) -> Result<&'a [Token], Unfit> {
    let (inside, behind) = bracket(after)?;
    let arguments: Vec<String> = commas(inside)
        .into_iter()
        .map(|argument| series(argument, macros))
        .collect::<Result<_, _>>()?;
    if member && name == "has_key" {
        return Err("write `KEY in MAP` instead of has_key".to_owned());
    }
    if member {
        out.push_str(&format!("{name}({})", arguments.join(", ")));
        return Ok(behind);
    }
    let filter = FILTERS.iter().find(|(function, _)| *function == name);
    match (name, arguments.as_slice()) {
        ("and" | "or" | "not" | "in" | "if" | "else", arguments) => {
            out.push_str(&format!("{name} ({})", arguments.join(", ")));
        }
        ("getVar", [variable]) => out.push_str(&unquoted(variable)?),
        ("getVar", [variable, fallback]) => {
            out.push_str(&format!("{}|default({fallback})", unquoted(variable)?));
        }
        ("varExists" | "hasVar", [variable]) => out.push_str(&format!("({} is defined)", unquoted(variable)?)),
        ("SNIPPET", [snippet]) => out.push_str(&format!("snippet({snippet})")),
        ("range", arguments) => out.push_str(&format!("range({})", arguments.join(", "))),
        (_, [argument]) if filter.is_some() => {
            let filter = filter.map_or("", |(_, filter)| filter);
            if is_name(argument) || argument.starts_with(['"', '\'']) && quoted(argument) == Some(argument) {
                out.push_str(&format!("{argument}|{filter}"));
            } else {
                out.push_str(&format!("({argument})|{filter}"));
            }
        }
        (name, arguments) if macros.contains(name) => out.push_str(&format!("{name}({})", arguments.join(", "))),
        (name, _) => return Err(format!("`{name}(...)` is no function of templates")),
    }
    Ok(behind)
}

/// The name inside quotes.
fn unquoted(text: &str) -> Result<String, Unfit> {
    let name = text.trim_matches(['"', '\'']).trim_start_matches('$');
    if name != text && is_name(name) {
        Ok(name.to_owned())
    } else {
        Err("the variable is named by an expression".to_owned())
    }
}

/// What lies inside a bracket that was opened, and what follows it.
fn bracket(tokens: &[Token]) -> Result<(&[Token], &[Token]), Unfit> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match (token.kind, token.text.as_str()) {
            (Kind::Sign, "(" | "[" | "{") => depth = depth.saturating_add(1),
            (Kind::Sign, ")" | "]" | "}") if depth == 0 => {
                let (inside, behind) = tokens.split_at_checked(at).unwrap_or((tokens, &[]));
                return Ok((inside, behind.get(1..).unwrap_or_default()));
            }
            (Kind::Sign, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Err("a bracket is not closed".to_owned())
}

/// The parts between commas that are in no bracket.
fn commas(tokens: &[Token]) -> Vec<&[Token]> {
    let mut parts = Vec::new();
    let (mut begun, mut depth) = (0, 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        match (token.kind, token.text.as_str()) {
            (Kind::Sign, "(" | "[" | "{") => depth = depth.saturating_add(1),
            (Kind::Sign, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            (Kind::Sign, ",") if depth == 0 => {
                parts.push(tokens.get(begun..at).unwrap_or_default());
                begun = at.saturating_add(1);
            }
            _ => {}
        }
    }
    let last = tokens.get(begun..).unwrap_or_default();
    if !last.is_empty() || !parts.is_empty() {
        parts.push(last);
    }
    parts
}
