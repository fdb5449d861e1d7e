//! `signature report`: the families that import recognises, and what it looks for.

use super::args::MaybeNamed;
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::print::table;
use crate::config::nearest;
use crate::distro::library::Library;
use crate::distro::signature::Signature;
use serde_json::{Value, json};

pub(super) fn report(which: &MaybeNamed, desk: &Desk) -> Result<Ended, Failure> {
    let library = Library::load(&desk.settings.config.overrides);
    let wanted: Vec<_> = library
        .signatures
        .iter()
        .filter(|signature| {
            which
                .get()
                .is_none_or(|name| signature.name.as_str() == name || signature.breed == name)
        })
        .collect();
    if let (Some(name), true) = (which.get(), wanted.is_empty()) {
        let near = nearest(name, library.signatures.iter().map(|signature| signature.name.as_str()));
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(Failure::said(
            format!("there is no signature `{}`{hint}", name.escape_debug()),
            "cordwainer signature report names them all",
        ));
    }
    let values: Vec<Value> = wanted
        .iter()
        .map(|signature| json!({
            "name": signature.name, "breed": signature.breed, "tier": signature.tier, "verified": signature.tier == 1,
            "newest": signature.newest, "answer_file": signature.answer_file, "templates": templates(signature),
        }))
        .collect();
    let mut rows = vec![
        ["signature", "breed", "tier", "proven", "answer file", "templates"]
            .map(ToOwned::to_owned)
            .to_vec(),
    ];
    for signature in &wanted {
        rows.push(vec![
            signature.name.to_string(),
            signature.breed.clone(),
            signature.tier.to_string(),
            if signature.tier == 1 { "yes" } else { "unverified" }.to_owned(),
            signature.answer_file.clone(),
            templates(signature).join(" "),
        ]);
    }
    desk.printer.either(&values, &table(&rows))?;
    for (file, problem) in &library.problems {
        desk.printer.note(format!("warning   {file}: {problem}"));
    }
    Ok(Ended::Well)
}

/// The templates that it ships, each once.
fn templates(signature: &Signature) -> Vec<String> {
    let mut templates: Vec<String> = Vec::new();
    for (_, template) in signature.autoinstall.iter().chain(&signature.answer_files) {
        if !templates.contains(template) {
            templates.push(template.clone());
        }
    }
    templates
}
