//! What stands of a guest in its domain's metadata: all that a supervisor which just started must know.
//!
//! Pure. The element's children have no namespace of their own: libvirt gives ours to the root only when it stores one.

use super::element::{BadXml, Element};
use super::flow::Job;
use super::spec::Spec;

/// The namespace of our element.
pub const NAMESPACE: &str = "urn:cordwainer:guest:1";

/// The prefix that libvirt's `virDomainSetMetadata` is given with it.
pub const PREFIX: &str = "cordwainer";

/// Our element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// How the installation stands. Its phase is also an attribute, for people who read the XML.
    pub state: Job,
    /// The whole guest, so that it can be made again.
    pub spec: Spec,
}

impl Metadata {
    /// The metadata of a guest.
    #[must_use]
    pub const fn new(spec: Spec, state: Job) -> Self {
        Self { state, spec }
    }

    fn element(&self, name: &str) -> Element {
        let json = |value: Result<String, serde_json::Error>| clean(&value.unwrap_or_default());
        Element::new(name)
            .with("job", &self.spec.job)
            .with("phase", self.state.phase.as_str())
            .with_some("profile", self.spec.profile.as_ref())
            .with_some("system", self.spec.system.as_ref())
            .with("owner", &self.spec.owner)
            .child(Element::new("state").text(json(serde_json::to_string(&self.state))))
            .child(Element::new("spec").text(json(serde_json::to_string(&self.spec))))
    }

    /// As it stands in a domain's XML, inside `<metadata>`.
    #[must_use]
    pub fn in_domain(&self) -> Element {
        let mut element = self.element(&format!("{PREFIX}:guest"));
        element
            .attributes
            .insert(0, (format!("xmlns:{PREFIX}"), NAMESPACE.to_owned()));
        element
    }

    /// As `virDomainSetMetadata` wants it: without prefix and namespace, which are its own arguments.
    #[must_use]
    pub fn fragment(&self) -> String {
        self.element("guest").document()
    }
}

/// XML must not hold most control characters, not even escaped.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Our element could not be read.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum BadMetadata {
    /// No XML.
    #[error(transparent)]
    Xml(#[from] BadXml),
    /// Something in it is not what we write.
    #[error("the guest's metadata is not what this version writes: {0}; `cordwainer guest adopt` writes it anew")]
    Content(String),
}

/// Reads our element out of a domain's XML, or out of what `virDomainGetMetadata` gave. None where a domain has none: it is not ours.
///
/// # Errors
/// [`BadMetadata`] where it is there and cannot be read.
pub fn parse(xml: &str) -> Result<Option<Metadata>, BadMetadata> {
    let root = Element::parse(xml)?;
    let element = match root.local() {
        "guest" => Some(&root),
        "metadata" => ours(&root),
        _ => root.first("metadata").and_then(ours),
    };
    element.map(read).transpose()
}

/// Our element among those of others: by the namespace that its prefix stands for.
fn ours(metadata: &Element) -> Option<&Element> {
    metadata.all("guest").find(|element| {
        let declared = match element.name.split_once(':') {
            Some((prefix, _)) => element.attribute(&format!("xmlns:{prefix}")),
            None => element.attribute("xmlns"),
        };
        declared == Some(NAMESPACE)
    })
}

fn read(element: &Element) -> Result<Metadata, BadMetadata> {
    let text = |what: &str| {
        let found = element.first(what).map(|element| element.text.as_str());
        found.ok_or_else(|| BadMetadata::Content(format!("its {what} is missing")))
    };
    let bad = |what: &str, error: serde_json::Error| BadMetadata::Content(format!("its {what}: {error}"));
    Ok(Metadata {
        state: serde_json::from_str(text("state")?).map_err(|error| bad("state", error))?,
        spec: serde_json::from_str(text("spec")?).map_err(|error| bad("spec", error))?,
    })
}
