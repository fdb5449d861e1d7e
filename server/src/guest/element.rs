//! A small XML document: elements with attributes and children, written and read through quick-xml.
//!
//! Pure. Never writes text that it did not escape, never reads a document type or an entity beyond XML's own five.

use quick_xml::escape::unescape;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer};

/// Deepest nesting that is read.
const DEEPEST: usize = 64;

/// One element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Its name, with the prefix if it has one.
    pub name: String,
    /// Attributes in order.
    pub attributes: Vec<(String, String)>,
    /// Elements inside, in order.
    pub children: Vec<Self>,
    /// Text inside; blanks around it are not kept.
    pub text: String,
}

/// The text is no XML that we read.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("this is not XML: {0}")]
pub struct BadXml(pub String);

impl Element {
    /// An empty element.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// With one more attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.set(name, value.to_string());
        self
    }

    /// With an attribute, where there is a value.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With text inside.
    #[must_use]
    pub fn text(mut self, text: impl ToString) -> Self {
        self.text = text.to_string();
        self
    }

    /// With one more element inside.
    #[must_use]
    pub fn child(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// With more elements inside.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// Sets an attribute, new or over the old.
    pub fn set(&mut self, name: &str, value: String) {
        match self.attributes.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((name.to_owned(), value)),
        }
    }

    /// The attribute's value.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first element inside of that name, prefix left out.
    #[must_use]
    pub fn first(&self, local: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.local() == local)
    }

    /// The elements inside of that name, prefix left out.
    pub fn all<'a>(&'a self, local: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.local() == local)
    }

    /// The name without its prefix.
    #[must_use]
    pub fn local(&self) -> &str {
        self.name.split_once(':').map_or(self.name.as_str(), |(_, local)| local)
    }

    /// The document, indented by two blanks, with a line's end behind it.
    #[must_use]
    pub fn document(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        // Writing to memory does not fail.
        drop(self.write(&mut writer));
        let mut text = String::from_utf8(writer.into_inner()).unwrap_or_default();
        text.push('\n');
        text
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let attributes = self
            .attributes
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let start = BytesStart::new(self.name.as_str()).with_attributes(attributes);
        if self.children.is_empty() && self.text.is_empty() {
            return writer.write_event(Event::Empty(start));
        }
        writer.write_event(Event::Start(start))?;
        if !self.text.is_empty() {
            writer.write_event(Event::Text(BytesText::new(&self.text)))?;
        }
        for child in &self.children {
            child.write(writer)?;
        }
        writer.write_event(Event::End(BytesEnd::new(self.name.as_str())))
    }

    /// Reads a document of one root element.
    ///
    /// # Errors
    /// [`BadXml`] says what stands in the way.
    pub fn parse(text: &str) -> Result<Self, BadXml> {
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Self> = Vec::new();
        loop {
            let event = reader.read_event().map_err(|error| BadXml(error.to_string()))?;
            let closed = match event {
                Event::Start(start) => {
                    if open.len() >= DEEPEST {
                        return Err(BadXml(format!("it nests deeper than {DEEPEST}")));
                    }
                    open.push(Self::started(&start)?);
                    None
                }
                Event::Empty(start) => Some(Self::started(&start)?),
                Event::End(_) => open.pop(),
                Event::Text(text) => {
                    append(&mut open, &text.xml10_content());
                    None
                }
                Event::CData(text) => {
                    append(&mut open, &text.xml10_content());
                    None
                }
                Event::GeneralRef(name) => {
                    let entity = format!("&{};", name.xml10_content());
                    let text = unescape(&entity).map_err(|error| BadXml(error.to_string()))?;
                    append(&mut open, &text);
                    None
                }
                Event::DocType(_) => return Err(BadXml("it declares a document type".to_owned())),
                Event::Eof => return Err(BadXml("it ends before its root element does".to_owned())),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => None,
            };
            let Some(mut element) = closed else { continue };
            if element.children.is_empty() && element.text.trim().is_empty() {
                element.text.clear();
            } else {
                element.text = element.text.trim().to_owned();
            }
            match open.last_mut() {
                Some(parent) => parent.children.push(element),
                None => return Ok(element),
            }
        }
    }

    fn started(start: &BytesStart<'_>) -> Result<Self, BadXml> {
        let mut element = Self::new(start.name().as_ref());
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| BadXml(error.to_string()))?;
            let value = unescape(&attribute.value).map_err(|error| BadXml(error.to_string()))?;
            element
                .attributes
                .push((attribute.key.as_ref().to_owned(), value.into_owned()));
        }
        Ok(element)
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let document = Element::new("a")
            .with("x", "<\"&'>")
            .child(Element::new("b").text("1 < 2 & \u{e4} ]]>"))
            .child(Element::new("p:c").with("xmlns:p", "urn:x"));
        assert_eq!(Element::parse(&document.document()).unwrap(), document);
    }

    #[test]
    fn hostile_documents_end_in_a_sentence() {
        let deep = "<a>".repeat(100);
        for text in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            "<a>&x;</a>",
            "<a b='&x;'/>",
            &deep,
        ] {
            assert!(Element::parse(text).is_err(), "{text}");
        }
    }
}
