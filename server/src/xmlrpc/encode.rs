//! Values, answers, faults and calls as XML. Pure. What XML cannot carry (control characters) is left out: no answer breaks a client's parser.

use super::value::Value;
use std::fmt::Write as _;

/// True for a byte that [`text`] may have to write otherwise: control characters, `&`, `<`, `>`, and the first of those that encode U+FFFE
/// and U+FFFF.
const fn is_special(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'&' | b'<' | b'>' | 0xef)
}

/// Escapes text for the inside of an element. Most texts need nothing, and are copied whole.
fn text(out: &mut String, text: &str) {
    if !text.bytes().any(is_special) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A parser would read it as a line feed (XML 1.0 section 2.11).
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            c => out.push(c),
        }
    }
}

fn base64(out: &mut String, bytes: &[u8]) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let mut block = [0_u8; 4];
        for (to, from) in block.iter_mut().skip(1).zip(chunk) {
            *to = *from;
        }
        let bits = u32::from_be_bytes(block);
        for (place, shift) in [18_u32, 12, 6, 0].into_iter().enumerate() {
            let index = usize::try_from((bits >> shift) & 63).unwrap_or(0);
            if place <= chunk.len() {
                out.push(LETTERS.get(index).copied().map_or('A', char::from));
            } else {
                out.push('=');
            }
        }
    }
}

/// Writes one value. Nil is written as Cobbler writes it, `~`, for clients that know no nil.
fn value(out: &mut String, it: &Value) {
    out.push_str("<value>");
    match it {
        Value::Nil => out.push_str("<string>~</string>"),
        Value::Bool(flag) => {
            out.push_str(if *flag {
                "<boolean>1</boolean>"
            } else {
                "<boolean>0</boolean>"
            });
        }
        Value::Int(number) => {
            // A client that reads 32 bits only would stop at more.
            let kind = if i32::try_from(*number).is_ok() { "int" } else { "i8" };
            let _ = write!(out, "<{kind}>{number}</{kind}>");
        }
        Value::Double(number) => {
            let _ = write!(out, "<double>{number:?}</double>");
        }
        Value::Text(it) => {
            out.push_str("<string>");
            text(out, it);
            out.push_str("</string>");
        }
        Value::Time(it) => {
            out.push_str("<dateTime.iso8601>");
            text(out, it);
            out.push_str("</dateTime.iso8601>");
        }
        Value::Bytes(bytes) => {
            out.push_str("<base64>");
            base64(out, bytes);
            out.push_str("</base64>");
        }
        Value::Array(items) => {
            out.push_str("<array><data>");
            for item in items {
                value(out, item);
            }
            out.push_str("</data></array>");
        }
        Value::Struct(members) => {
            out.push_str("<struct>");
            for (name, member) in members {
                out.push_str("<member><name>");
                text(out, name);
                out.push_str("</name>");
                value(out, member);
                out.push_str("</member>");
            }
            out.push_str("</struct>");
        }
    }
    out.push_str("</value>");
}

const HEAD: &str = "<?xml version='1.0'?>\n";
/// About as much as an object takes, in bytes: a list of many is not copied again and again while it grows.
const OBJECT: usize = 7 * 1024;

/// The answer that carries `it`.
#[must_use]
pub fn answer(it: &Value) -> String {
    let mut out = format!("{HEAD}<methodResponse><params><param>");
    if let Value::Array(items) = it
        && let Some(Value::Struct(_)) = items.first()
    {
        out.reserve(items.len().saturating_mul(OBJECT));
    }
    value(&mut out, it);
    out.push_str("</param></params></methodResponse>\n");
    out
}

/// The answer that carries a fault. Cobbler's code is always 1.
#[must_use]
pub fn fault(said: &str) -> String {
    let members = super::value::members([("faultCode", Value::Int(1)), ("faultString", said.into())]);
    let mut out = format!("{HEAD}<methodResponse><fault>");
    value(&mut out, &members);
    out.push_str("</fault></methodResponse>\n");
    out
}

/// A call, for `migrate` from a live server, and for tests.
#[must_use]
pub fn call(method: &str, arguments: &[Value]) -> String {
    let mut out = format!("{HEAD}<methodCall><methodName>");
    text(&mut out, method);
    out.push_str("</methodName><params>");
    for argument in arguments {
        out.push_str("<param>");
        value(&mut out, argument);
        out.push_str("</param>");
    }
    out.push_str("</params></methodCall>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_wherever_the_odd_one_stands() {
        for (plain, written) in [
            ("", ""),
            ("plain \u{fe}\u{1f600} text", "plain \u{fe}\u{1f600} text"),
            ("<<inherit>>", "&lt;&lt;inherit&gt;&gt;"),
            ("a&b", "a&amp;b"),
            ("a\r\n\tb", "a&#13;\n\tb"),
            ("a\u{0}\u{1b}b", "ab"),
            ("a\u{fffe}\u{ffff}\u{fffd}b", "a\u{fffd}b"),
        ] {
            let mut out = String::new();
            text(&mut out, plain);
            assert_eq!(out, written, "{plain:?}");
        }
    }
}
