//! Models of what reads an answer file: each takes one value out of the text, as the installer's own parser would.

/// Where Python's `splitlines`, YAML 1.1 or XML end a line.
const LINE_ENDS: [char; 9] = [
    '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}',
];

fn one_line(text: &str) {
    assert!(
        !text.contains(LINE_ENDS) && !text.contains('\u{2029}'),
        "{text:?} is several lines"
    );
}

/// What every sink of one line makes of line ends and control characters.
fn blanked(value: &str) -> String {
    value
        .chars()
        .map(|c| {
            let ends = matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}');
            if c.is_control() || ends { ' ' } else { c }
        })
        .collect()
}

/// POSIX 2.2: single quotes, and a backslash outside of them.
pub fn shell_word(text: &str) -> String {
    let mut word = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next().expect("the quote is closed") {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '\\' => word.push(chars.next().expect("a backslash stands before something")),
            c => panic!("{c:?} stands outside of quotes in {text:?}"),
        }
    }
    word
}

pub fn shell(text: &str, value: &str) {
    one_line(text);
    assert_eq!(shell_word(text), blanked(value));
}

/// Python's shlex in POSIX mode: within double quotes a backslash escapes itself and the quote.
pub fn kickstart(text: &str, value: &str) {
    one_line(text);
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .expect("quotes");
    let (mut word, mut chars) = (String::new(), inner.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next().expect("a backslash stands before something") {
                c @ ('"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            '"' => panic!("the word ends early: {text:?}"),
            c => word.push(c),
        }
    }
    assert_eq!(word, blanked(value));
}

pub fn preseed(text: &str, value: &str) {
    one_line(text);
    assert!(!text.ends_with('\\'), "it joins the next line: {text:?}");
    let line = blanked(value);
    let mut left = line.trim_start();
    while let Some(rest) = left.strip_suffix(|c: char| c == '\\' || c.is_whitespace()) {
        left = rest;
    }
    assert_eq!(text, left);
}

pub fn json(text: &str, value: &str) {
    let read: String = serde_json::from_str(text).expect("JSON");
    assert_eq!(read, value);
    assert!(!text.contains(['<', '&']));
}

/// A double-quoted YAML scalar without anything that YAML 1.1 takes for a line end or does not print.
pub fn yaml(text: &str, value: &str) {
    one_line(text);
    json(text, value);
    for c in text.chars() {
        let printable =
            matches!(c, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
        assert!(printable && c != '\u{feff}', "{c:?} is not printable in YAML");
    }
}

/// What XML 1.0 can hold at all.
fn holdable(value: &str) -> String {
    value
        .chars()
        .filter(|c| !(*c < ' ' && !matches!(c, '\t' | '\n' | '\r') || matches!(c, '\u{fffe}' | '\u{ffff}')))
        .collect()
}

pub fn xml(text: &str, value: &str) {
    assert!(
        !text.contains(['<', '>', '"', '\'', '\n', '\r', '\t']),
        "{text:?} is markup"
    );
    let mut read = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        let (name, after) = after.split_once(';').expect("an entity ends");
        read.push_str(before);
        read.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            name => {
                let number = name.strip_prefix('#').and_then(|number| number.parse().ok());
                number.and_then(char::from_u32).expect("a character reference")
            }
        });
        rest = after;
    }
    read.push_str(rest);
    assert_eq!(read, holdable(value));
}

/// XML 1.0 section 2.11: a parser makes LF of CR and CR LF, so no CR comes through a CDATA section.
pub fn cdata(text: &str, value: &str) {
    let whole = format!("<![CDATA[{text}]]>");
    let (mut read, mut rest) = (String::new(), whole.as_str());
    while let Some(section) = rest.strip_prefix("<![CDATA[") {
        let (inside, after) = section.split_once("]]>").expect("the section ends");
        read.push_str(inside);
        rest = after;
    }
    assert!(rest.is_empty(), "{rest:?} stands outside of the section");
    assert_eq!(read, holdable(value).replace('\r', ""));
}

pub fn data_url(text: &str, value: &str) {
    let encoded = text.strip_prefix("data:,").expect("a data URL");
    assert!(
        encoded
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~/:%".contains(&byte))
    );
    let (mut read, mut bytes) = (Vec::new(), encoded.bytes());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let pair = [bytes.next().unwrap(), bytes.next().unwrap()];
            read.push(u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap());
        } else {
            read.push(byte);
        }
    }
    assert_eq!(read, value.as_bytes());
}

pub fn package(text: &str, value: &str) {
    assert_eq!(text, value);
    assert!(
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"@^._+:*-/~=".contains(&byte))
    );
    assert!(!text.starts_with(['%', '#', ' ']));
}
