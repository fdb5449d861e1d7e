//! What stands of a guest in its domain's metadata: all that a supervisor which just started must know.
//!
//! Pure. The element's children have no namespace of their own: libvirt gives ours to the root only when it stores one.

use super::element::{BadXml, Element};
use super::spec::{Spec, words};
use crate::model::Name;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The namespace of our element.
pub const NAMESPACE: &str = "urn:cordwainer:guest:1";

/// The prefix that libvirt's `virDomainSetMetadata` is given with it.
pub const PREFIX: &str = "cordwainer";

words! {
    /// How far the guest is, as it is kept.
    Phase "phase of a guest" {
        /// Its installer runs, or is about to.
        Installing "installing",
        /// Done was reported; it is flipped to its disk at its next stop.
        Installed "installed",
        /// It runs from its disk, or did.
        Finished "finished",
        /// Its installation failed; disk and serial log are kept.
        Failed "failed",
        /// An admin ended its installation.
        Cancelled "cancelled",
    }
}

/// Our element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Names this making of the guest.
    pub job: String,
    /// How far it is.
    pub phase: Phase,
    /// When that began: seconds since 1970.
    pub since: u64,
    /// Reboots of the installer so far.
    pub reboots: u32,
    /// Why it failed, or what else is worth a word.
    pub why: Option<String>,
    /// The profile that installs it.
    pub profile: Option<Name>,
    /// The system of the inventory that it is.
    pub system: Option<Name>,
    /// The server that made it.
    pub owner: String,
    /// The whole guest, so that it can be made again; none in a domain that was adopted.
    pub spec: Option<Spec>,
}

impl Metadata {
    /// The metadata of a guest that is about to be made.
    #[must_use]
    pub fn new(spec: &Spec, phase: Phase) -> Self {
        Self {
            job: spec.job.clone(),
            phase,
            since: 0,
            reboots: 0,
            why: None,
            profile: spec.profile.clone(),
            system: spec.system.clone(),
            owner: spec.owner.clone(),
            spec: Some(spec.clone()),
        }
    }

    fn element(&self, name: &str) -> Element {
        let mut element = Element::new(name)
            .with("job", &self.job)
            .with("phase", self.phase)
            .with_some("since", (self.since > 0).then_some(self.since))
            .with_some("reboots", (self.reboots > 0).then_some(self.reboots))
            .with_some("profile", self.profile.as_ref())
            .with_some("system", self.system.as_ref())
            .with("owner", &self.owner);
        if let Some(why) = &self.why {
            element.children.push(Element::new("why").text(clean(why)));
        }
        if let Some(spec) = &self.spec {
            let json = serde_json::to_string(spec).unwrap_or_default();
            element.children.push(Element::new("spec").text(json));
        }
        element
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
    let missing = |what: &str| BadMetadata::Content(format!("{what} is missing"));
    let bad = BadMetadata::Content;
    let name = |what: &str| {
        let text = element.attribute(what);
        text.map(str::parse::<Name>)
            .transpose()
            .map_err(|error| bad(format!("{what}: {error}")))
    };
    let number = |what: &str| match element.attribute(what) {
        None => Ok(0),
        Some(text) => text.parse::<u64>().map_err(|_| bad(format!("{what} is no number"))),
    };
    let spec = element.first("spec").map(|spec| serde_json::from_str(&spec.text));
    Ok(Metadata {
        job: element.attribute("job").ok_or_else(|| missing("job"))?.to_owned(),
        phase: Phase::from_str(element.attribute("phase").ok_or_else(|| missing("phase"))?).map_err(bad)?,
        since: number("since")?,
        reboots: u32::try_from(number("reboots")?).map_err(|_| bad("reboots is too large".to_owned()))?,
        why: element.first("why").map(|why| why.text.clone()),
        profile: name("profile")?,
        system: name("system")?,
        owner: element.attribute("owner").unwrap_or_default().to_owned(),
        spec: spec.transpose().map_err(|error| bad(format!("spec: {error}")))?,
    })
}
