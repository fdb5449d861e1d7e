//! Calls and answers from XML, with bounds on everything that a stranger could make large.
//!
//! Pure. One pass over the bytes, no document type, no entities but the five of XML and characters by number, attributes never read. A
//! text is copied once, an element costs its value and no more, so memory is bounded by a small multiple of the size.

use super::value::Value;
use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use std::collections::BTreeMap;

/// What is taken.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the whole.
    pub size: usize,
    /// Values within values.
    pub depth: usize,
    /// Elements in all.
    pub elements: usize,
}

impl Limits {
    /// For calls, from anyone.
    pub const CALL: Self = Self {
        size: 1024 * 1024,
        depth: 32,
        elements: 60_000,
    };
    /// For answers of a server that an admin named: a large inventory in one struct.
    pub const ANSWER: Self = Self {
        size: 512 * 1024 * 1024,
        depth: 32,
        elements: 100_000_000,
    };
}

/// Longest attributes of an element that are passed over, in bytes: a name space, say.
const ATTRIBUTES: usize = 512;
/// Longest name of a method or member, in bytes.
const NAME: usize = 256;

/// Why the bytes are no call. Says nothing of what stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadXml {
    /// Too many bytes.
    #[error("the call is longer than is taken")]
    Size,
    /// Too deep.
    #[error("values are nested deeper than 32")]
    Depth,
    /// Too many elements.
    #[error("there are more elements than are taken")]
    Elements,
    /// Attributes, of which XML-RPC has none.
    #[error("an element has attributes longer than are taken")]
    Attributes,
    /// A document type, which is where entities come from.
    #[error("a document type is not taken")]
    Doctype,
    /// An entity that XML itself does not know.
    #[error("an unknown entity")]
    Entity,
    /// No XML, or not what XML-RPC writes.
    #[error("this is no XML-RPC: {0}")]
    Form(&'static str),
}

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The method's name.
    pub method: String,
    /// Its arguments.
    pub arguments: Vec<Value>,
}

/// Reads a call.
///
/// # Errors
/// [`BadXml`].
pub fn call(bytes: &[u8], limits: Limits) -> Result<Call, BadXml> {
    let mut read = Read::new(bytes, limits)?;
    read.open("methodCall")?;
    read.open("methodName")?;
    let method = read.content(NAME)?.trim().to_owned();
    let arguments = match read.next_element()? {
        Some("params") => read.params()?,
        Some(_) => return Err(BadXml::Form("something else than params")),
        None => Vec::new(),
    };
    Ok(Call { method, arguments })
}

/// Reads an answer: its value, or the text of its fault.
///
/// # Errors
/// [`BadXml`].
pub fn answer(bytes: &[u8], limits: Limits) -> Result<Result<Value, String>, BadXml> {
    let mut read = Read::new(bytes, limits)?;
    read.open("methodResponse")?;
    match read.next_element()? {
        Some("params") => {
            let mut all = read.params()?;
            match (all.pop(), all.is_empty()) {
                (Some(value), true) => Ok(Ok(value)),
                _ => Err(BadXml::Form("an answer carries one value")),
            }
        }
        Some("fault") => {
            read.open("value")?;
            let value = read.value(0)?;
            let said = value
                .members()
                .and_then(|members| members.get("faultString"))
                .and_then(Value::text);
            Ok(Err(said.unwrap_or_default().to_owned()))
        }
        _ => Err(BadXml::Form("neither params nor fault")),
    }
}

struct Read<'b> {
    reader: Reader<&'b [u8]>,
    limits: Limits,
    elements: usize,
}

/// What comes next.
enum Token<'b> {
    Open(Tag),
    Close,
    Text(std::borrow::Cow<'b, str>),
    Character(char),
    End,
}

/// The elements of XML-RPC.
type Tag = &'static str;

const TAGS: [Tag; 23] = [
    "methodCall",
    "methodName",
    "methodResponse",
    "params",
    "param",
    "fault",
    "value",
    "int",
    "i4",
    "i8",
    "i2",
    "i1",
    "boolean",
    "string",
    "double",
    "dateTime.iso8601",
    "base64",
    "nil",
    "struct",
    "member",
    "name",
    "array",
    "data",
];

impl<'b> Read<'b> {
    fn new(bytes: &'b [u8], limits: Limits) -> Result<Self, BadXml> {
        if bytes.len() > limits.size {
            return Err(BadXml::Size);
        }
        std::str::from_utf8(bytes).map_err(|_| BadXml::Form("it is not UTF-8"))?;
        let mut reader = Reader::from_reader(bytes);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.check_end_names = true;
        Ok(Self {
            reader,
            limits,
            elements: 0,
        })
    }

    fn tag(&mut self, start: &BytesStart<'_>) -> Result<Tag, BadXml> {
        self.elements = self.elements.saturating_add(1);
        if self.elements > self.limits.elements {
            return Err(BadXml::Elements);
        }
        if start.attributes_raw().len() > ATTRIBUTES {
            return Err(BadXml::Attributes);
        }
        let local = start.local_name();
        let name: &str = local.as_ref();
        TAGS.into_iter()
            .find(|tag| *tag == name)
            .ok_or(BadXml::Form("an element that XML-RPC does not have"))
    }

    fn token(&mut self) -> Result<Token<'b>, BadXml> {
        loop {
            let event = self
                .reader
                .read_event()
                .map_err(|_| BadXml::Form("the XML is not well formed"))?;
            return Ok(match event {
                Event::Start(start) => Token::Open(self.tag(&start)?),
                Event::End(_) => Token::Close,
                Event::Text(text) => Token::Text(text.xml10_content()),
                Event::CData(text) => Token::Text(text.into_inner()),
                Event::GeneralRef(reference) => Token::Character(character(&reference)?),
                Event::DocType(_) => return Err(BadXml::Doctype),
                Event::Eof => Token::End,
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::Empty(_) => continue,
            });
        }
    }

    /// The next element; none at the end of the one that is open. Blanks between elements mean nothing.
    fn next_element(&mut self) -> Result<Option<Tag>, BadXml> {
        loop {
            match self.token()? {
                Token::Open(tag) => return Ok(Some(tag)),
                Token::Close | Token::End => return Ok(None),
                Token::Text(text) if text.trim().is_empty() => {}
                Token::Text(_) | Token::Character(_) => return Err(BadXml::Form("text between elements")),
            }
        }
    }

    fn open(&mut self, wanted: Tag) -> Result<(), BadXml> {
        match self.next_element()? {
            Some(tag) if tag == wanted => Ok(()),
            _ => Err(BadXml::Form("an element is missing")),
        }
    }

    /// The end of the element that is open.
    fn close(&mut self) -> Result<(), BadXml> {
        match self.next_element()? {
            None => Ok(()),
            Some(_) => Err(BadXml::Form("one element too many")),
        }
    }

    /// The text of the element that is open, up to its end.
    fn content(&mut self, longest: usize) -> Result<String, BadXml> {
        let mut all = String::new();
        loop {
            match self.token()? {
                Token::Text(text) => all.push_str(&text),
                Token::Character(c) => all.push(c),
                Token::Close => return Ok(all),
                Token::Open(_) => return Err(BadXml::Form("an element within text")),
                Token::End => return Err(BadXml::Form("it ends too early")),
            }
            if all.len() > longest {
                return Err(BadXml::Form("a text is too long"));
            }
        }
    }

    fn params(&mut self) -> Result<Vec<Value>, BadXml> {
        let mut all = Vec::new();
        while let Some(tag) = self.next_element()? {
            if tag != "param" {
                return Err(BadXml::Form("something else than param"));
            }
            self.open("value")?;
            all.push(self.value(0)?);
            self.close()?;
        }
        Ok(all)
    }

    /// The value that is open, up to its end.
    fn value(&mut self, depth: usize) -> Result<Value, BadXml> {
        if depth >= self.limits.depth {
            return Err(BadXml::Depth);
        }
        let mut bare = String::new();
        loop {
            match self.token()? {
                Token::Text(text) => bare.push_str(&text),
                Token::Character(c) => bare.push(c),
                // Text without a type is a string.
                Token::Close => return Ok(Value::Text(bare)),
                Token::End => return Err(BadXml::Form("it ends too early")),
                Token::Open(tag) => {
                    if !bare.trim().is_empty() {
                        return Err(BadXml::Form("text beside a type"));
                    }
                    let value = self.typed(tag, depth)?;
                    self.close()?;
                    return Ok(value);
                }
            }
        }
    }

    fn typed(&mut self, tag: Tag, depth: usize) -> Result<Value, BadXml> {
        let below = depth.saturating_add(1);
        Ok(match tag {
            "struct" => {
                let mut members = BTreeMap::new();
                while let Some(tag) = self.next_element()? {
                    if tag != "member" {
                        return Err(BadXml::Form("something else than member"));
                    }
                    self.open("name")?;
                    let name = self.content(NAME)?;
                    self.open("value")?;
                    members.insert(name, self.value(below)?);
                    self.close()?;
                }
                Value::Struct(members)
            }
            "array" => {
                self.open("data")?;
                let mut items = Vec::new();
                while let Some(tag) = self.next_element()? {
                    if tag != "value" {
                        return Err(BadXml::Form("something else than value"));
                    }
                    items.push(self.value(below)?);
                }
                self.close()?;
                Value::Array(items)
            }
            "string" => Value::Text(self.content(self.limits.size)?),
            "nil" => {
                self.content(0)?;
                Value::Nil
            }
            "dateTime.iso8601" => Value::Time(self.content(64)?.trim().to_owned()),
            "base64" => Value::Bytes(bytes(&self.content(self.limits.size)?).ok_or(BadXml::Form("no base64"))?),
            "boolean" => match self.content(16)?.trim() {
                "1" | "true" => Value::Bool(true),
                "0" | "false" => Value::Bool(false),
                _ => return Err(BadXml::Form("a boolean is 1 or 0")),
            },
            "double" => {
                let number: f64 = self
                    .content(64)?
                    .trim()
                    .parse()
                    .map_err(|_| BadXml::Form("a double is no number"))?;
                Value::Double(number)
            }
            "int" | "i4" | "i8" | "i2" | "i1" => {
                let text = self.content(32)?;
                Value::Int(text.trim().parse().map_err(|_| BadXml::Form("an int is no number"))?)
            }
            _ => return Err(BadXml::Form("an unknown type")),
        })
    }
}

/// The character that a reference stands for.
fn character(reference: &BytesRef<'_>) -> Result<char, BadXml> {
    let name: &str = reference.as_ref();
    let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        other => match other.strip_prefix('#') {
            Some(digits) => match digits.strip_prefix('x') {
                Some(digits) => number(digits, 16),
                None => number(digits, 10),
            },
            None => None,
        },
    }
    .filter(|c| *c != '\0')
    .ok_or(BadXml::Entity)
}

/// Undoes base64 (RFC 4648 section 4); blanks between are passed over.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut all = Vec::with_capacity(text.len().checked_div(4)?.saturating_mul(3));
    let (mut bits, mut have, mut padded) = (0_u32, 0_u32, false);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let digit = match byte {
            b'A'..=b'Z' => byte.wrapping_sub(b'A'),
            b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => byte.wrapping_sub(b'0').wrapping_add(52),
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padded = true;
                continue;
            }
            _ => return None,
        };
        if padded {
            return None;
        }
        bits = (bits << 6) | u32::from(digit);
        have = have.saturating_add(6);
        if let Some(left) = have.checked_sub(8) {
            have = left;
            all.push(u8::try_from((bits >> have) & 0xff).ok()?);
            bits &= (1_u32 << have).wrapping_sub(1);
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::super::value::members;
    use super::*;

    fn read(xml: &str) -> Result<Call, BadXml> {
        call(xml.as_bytes(), Limits::CALL)
    }

    fn argument(value: &str) -> Result<Value, BadXml> {
        let xml = format!("<methodCall><methodName>m</methodName><params><param>{value}</param></params></methodCall>");
        read(&xml).map(|mut call| call.arguments.remove(0))
    }

    #[test]
    fn every_type_is_read() {
        for (xml, value) in [
            ("<value><int>-7</int></value>", Value::Int(-7)),
            ("<value><i4> 7 </i4></value>", Value::Int(7)),
            ("<value><i8>8589934592</i8></value>", Value::Int(8_589_934_592)),
            ("<value><boolean>1</boolean></value>", Value::Bool(true)),
            ("<value><double>1.5</double></value>", Value::Double(1.5)),
            ("<value>plain &lt;&amp;&#65;&#x42;</value>", "plain <&AB".into()),
            ("<value><string> a\n</string></value>", " a\n".into()),
            ("<value/>", "".into()),
            ("<value><nil/></value>", Value::Nil),
            ("<value><string><![CDATA[<x>]]></string></value>", "<x>".into()),
            (
                "<value><base64>aGVs\nbG8=</base64></value>",
                Value::Bytes(b"hello".to_vec()),
            ),
            (
                "<value><dateTime.iso8601>20260101T00:00:00</dateTime.iso8601></value>",
                Value::Time("20260101T00:00:00".into()),
            ),
            (
                "<value> <array><data> <value><int>1</int></value><value>a</value></data></array></value>",
                Value::Array(vec![Value::Int(1), "a".into()]),
            ),
            (
                "<value><struct><member><name>a</name><value>b</value></member></struct></value>",
                members([("a", "b".into())]),
            ),
        ] {
            assert_eq!(argument(xml), Ok(value), "{xml}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let value = members([
            ("text", Value::from("a<b>&\"c'\r\n\tü")),
            (
                "list",
                Value::Array(vec![Value::Int(1 << 40), Value::Double(0.1), Value::Bool(false)]),
            ),
            ("bytes", Value::Bytes((0..=255).collect())),
            ("none", Value::Struct(BTreeMap::new())),
        ]);
        let xml = encode::call("m", std::slice::from_ref(&value));
        assert_eq!(read(&xml).unwrap().arguments, std::slice::from_ref(&value));
        assert_eq!(answer(encode::answer(&value).as_bytes(), Limits::ANSWER), Ok(Ok(value)));
        let fault = encode::fault("no <such> thing");
        assert_eq!(
            answer(fault.as_bytes(), Limits::ANSWER),
            Ok(Err("no <such> thing".into()))
        );
    }

    #[test]
    fn bombs_are_refused_at_once() {
        let laughs = "<!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]>\
                      <methodCall><methodName>&b;</methodName></methodCall>";
        assert_eq!(read(laughs), Err(BadXml::Doctype));
        assert_eq!(argument("<value>&b;</value>"), Err(BadXml::Entity));
        let deep = "<value><array><data>".repeat(50_000);
        assert_eq!(argument(&deep), Err(BadXml::Depth));
        let many = format!("<value {}/>", "a='1' ".repeat(80_000));
        assert_eq!(argument(&many), Err(BadXml::Attributes));
        let wide = format!(
            "<value><array><data>{}</data></array></value>",
            "<value/>".repeat(80_000)
        );
        assert_eq!(argument(&wide), Err(BadXml::Elements));
        assert_eq!(read(&"x".repeat(2_000_000)), Err(BadXml::Size));
        assert!(read("<methodCall><methodName>m</methodName><params><param><value>").is_err());
        assert!(read("").is_err());
        assert!(argument("<value><int>1</int>x</value>").is_err());
        assert!(call(b"\xff\xfe<methodCall/>", Limits::CALL).is_err());
    }
}
