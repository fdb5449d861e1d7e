//! One encoder per sink of an answer file: shell, kickstart, preseed, JSON, XML, YAML, package lists. Templates call them as filters.
//!
//! A value that went through the encoder of its place cannot end its word, its line or its section.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};
use std::borrow::Cow;

/// Gives `env` the filters `sh`, `ks`, `preseed`, `json`, `xml`, `cdata`, `yaml`, `data_url`, `package` and `one_line`.
pub(super) fn add_filters(env: &mut Environment<'_>) {
    env.add_filter("sh", |value: Value| words(&value, sh));
    env.add_filter("ks", |value: Value| text(&value).map(|text| ks(&text)));
    env.add_filter("preseed", |value: Value| text(&value).map(|text| preseed(&text)));
    env.add_filter("json", |value: Value| json(&value));
    env.add_filter("yaml", |value: Value| json(&value).map(|text| yaml(&text)));
    env.add_filter("xml", |value: Value| text(&value).map(|text| xml(&text)));
    env.add_filter("cdata", |value: Value| text(&value).map(|text| cdata(&text)));
    env.add_filter("data_url", |value: Value| text(&value).map(|text| data_url(&text)));
    env.add_filter("package", |value: Value| package(&value));
    env.add_filter("one_line", |value: Value| text(&value).map(|text| one_line(&text)));
}

/// What a value is as text: scalars only, and nothing undefined.
fn text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Number | ValueKind::Bool => {
            Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        }
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        _ => Err(Error::new(ErrorKind::InvalidOperation, "not a text")),
    }
}

/// A list as words with blanks between, a scalar as one word.
fn words(value: &Value, encode: fn(&str) -> String) -> Result<String, Error> {
    if value.kind() != ValueKind::Seq {
        return text(value).map(|text| encode(&text));
    }
    let mut out = Vec::new();
    for item in value.try_iter()? {
        out.push(encode(&text(&item)?));
    }
    Ok(out.join(" "))
}

/// One shell word on one line (POSIX 2.2.2: in single quotes every character is itself). A line end inside it would let a value begin a line
/// with `%end`, which a kickstart obeys even between the quotes of its scripts.
fn sh(text: &str) -> String {
    format!("'{}'", one_line_of_text(text).replace('\'', "'\\''"))
}

/// Every control character and line end as a blank.
fn one_line_of_text(text: &str) -> Cow<'_, str> {
    // Nearly every value is a line already.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.into();
    }
    let blank = |c: char| if c.is_control() || is_line_end(c) { ' ' } else { c };
    text.chars().map(blank).collect()
}

/// One kickstart word: the installer splits lines with Python's shlex, where `\` escapes inside double quotes.
fn ks(text: &str) -> String {
    let text = one_line_of_text(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

/// Characters beyond the control characters at which Python's `splitlines` (pykickstart) or YAML 1.1 ends a line, or that XML and YAML
/// cannot hold.
const fn is_line_end(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

/// The rest of a preseed line: no line end, and no `\` at the end, which would join the next line.
fn preseed(text: &str) -> String {
    let line = one_line_of_text(text);
    let joins = |c: char| c == '\\' || c.is_whitespace();
    line.trim_start().trim_end_matches(joins).to_owned()
}

fn json(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let text = serde_json::to_string(value).map_err(|_| Error::new(ErrorKind::BadSerialization, "not JSON"))?;
    // `<` could close a script element, `&` begin an entity where JSON stands inside markup.
    Ok(text.replace('<', "\\u003c").replace('&', "\\u0026"))
}

/// JSON as a YAML flow value: what YAML 1.1 calls a line end or unprintable is escaped.
fn yaml(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\u{7f}' || ('\u{80}'..='\u{9f}').contains(&c) || is_line_end(c) || c == '\u{feff}' {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// XML 1.0 section 2.2 and 2.4: text or a quoted attribute.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(c))),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

/// XML 1.0 section 2.7: text inside `<![CDATA[...]]>`, where nothing but its end means anything.
fn cdata(text: &str) -> String {
    let text: String = text
        .chars()
        .filter(|c| (*c >= ' ' || matches!(c, '\t' | '\n')) && !matches!(c, '\u{fffe}' | '\u{ffff}'))
        .collect();
    text.replace("]]>", "]]]]><![CDATA[>")
}

/// RFC 2397: a whole text as a URL, as Ignition takes the contents of files.
fn data_url(text: &str) -> String {
    let mut out = String::from("data:,");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The name of a package, group or environment; anything else is refused, for `%end` or `%include` would be obeyed there.
fn package(value: &Value) -> Result<String, Error> {
    let text = text(value)?;
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '-' | '*'));
    let all_well = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "@^._+:*-/~=".contains(c));
    if starts_well && all_well && text.len() <= 200 {
        Ok(text)
    } else {
        Err(Error::new(ErrorKind::InvalidOperation, "not a package name"))
    }
}

/// A shell script as one line: preseed has no other place for one. Comments go; a line that leaves a construct open is joined by a blank,
/// all others by `;`. Here-documents and line ends inside quotes cannot be joined; shipped snippets have none.
fn one_line(script: &str) -> String {
    let mut out = String::new();
    for line in script.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let open = out.is_empty()
            || [
                " then", " do", " else", "{", "(", " in", ";;", "&&", "||", "|", ";", "&",
            ]
            .iter()
            .any(|end| out.ends_with(end));
        if !open {
            out.push(';');
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_word() {
        assert_eq!(sh("a\n%end\u{2028}%post"), "'a %end %post'");
        assert_eq!(sh("a'; reboot; '"), r"'a'\''; reboot; '\'''");
        assert_eq!(ks("a\" --x\n%end\\"), r#""a\" --x %end\\""#);
        assert_eq!(preseed("a\nd-i x/y boolean true\\"), "a d-i x/y boolean true");
        // Blanks between them must not leave one at the end.
        assert_eq!(preseed("a\\b \\\0\t\\ \\\n"), "a\\b");
        assert_eq!(preseed("\\ \\"), "");
        assert_eq!(xml("<a b='c'>&\u{1}"), "&lt;a b=&#39;c&#39;&gt;&amp;");
        assert_eq!(json(&Value::from("</x>\"\n")).unwrap(), r#""\u003c/x>\"\n""#);
        assert_eq!(cdata("a]]>b\u{1}\n"), "a]]]]><![CDATA[>b\n");
        assert_eq!(data_url("a b%\n\u{e4}"), "data:,a%20b%25%0A%C3%A4");
        assert_eq!(yaml("\"a\u{85}\u{2028}\""), r#""a\u0085\u2028""#);
        for name in ["%end", "a b", "a\n%end", "", "%include /x", "$(x)"] {
            assert!(package(&Value::from(name)).is_err(), "{name}");
        }
        assert_eq!(
            package(&Value::from("@^minimal-environment")).unwrap(),
            "@^minimal-environment"
        );
    }

    #[test]
    fn lists_are_words() {
        assert_eq!(words(&Value::from(vec!["a", "b c"]), sh).unwrap(), "'a' 'b c'");
        assert!(words(&Value::UNDEFINED, sh).is_err());
    }

    #[test]
    fn scripts_become_one_line() {
        let script = "# why\nf() {\n  a\n}\nfor x in 1 2; do\n  case $x in\n    1) b ;;\n    *) c ;;\n  esac\ndone\nif d; then\n  e\nelse\n  f\nfi\n";
        assert_eq!(
            one_line(script),
            "f() { a; }; for x in 1 2; do case $x in 1) b ;; *) c ;; esac; done; if d; then e; else f; fi"
        );
    }
}
