//! `validate-autoinstalls` and `template impact`: every answer file rendered strictly, before a machine asks for it.
//!
//! They only look. What they say of an answer file is what its machine would get, without its token.

use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::print::table;
use super::{preview, template};
use crate::assets::Template;
use crate::boot::World;
use crate::model::Kind;
use crate::render;
use serde_json::{Value, json};
use std::sync::Arc;

/// `validate-autoinstalls`.
pub(super) fn run(desk: &Desk) -> Result<Ended, Failure> {
    let world = desk.world(desk.inventory()?)?;
    let (mut checked, mut problems, mut warnings) = (0_usize, Vec::new(), Vec::new());
    let mut text = String::new();
    for (kind, name) in preview::everyone(&world, usize::MAX) {
        let mut problem = |file: &str, template: &str, line: usize, why: String, remedy: String| {
            let place = if file.is_empty() {
                String::new()
            } else {
                format!("  {file}")
            };
            text.push_str(&format!("{kind} {name}{place}: {why}\n  remedy  {remedy}\n"));
            problems.push(json!({
                "kind": kind.to_string(), "name": name, "file": file, "template": template, "line": line, "why": why, "remedy": remedy,
            }));
        };
        let resolved = match preview::resolve(kind, name.as_str(), &world.inventory) {
            Ok(resolved) => resolved,
            Err(broken) => {
                let remedy = format!("cordwainer {kind} report {name}");
                problem("", "", 0, broken.to_string(), remedy);
                continue;
            }
        };
        let answers = preview::answers(&world, resolved);
        if answers.is_empty() {
            warnings.push(format!("{kind} {name} has no answer file: no layer names a template"));
        }
        for (place, answer) in answers.iter().enumerate() {
            checked = checked.saturating_add(1);
            match render::answer_file(answer, &world) {
                Ok(text) if place == 0 && kind == Kind::System && !render::leaves_login(answer, &world, &text) => {
                    warnings.push(format!(
                        "{kind} {name}: nobody could log in after its installation, so it cannot be armed"
                    ));
                }
                Ok(_) => {}
                Err(error) => {
                    let remedy = preview::remedy(answer, &error.template, &world);
                    problem(&answer.file, &error.template, error.line, error.to_string(), remedy);
                }
            }
        }
    }
    if problems.is_empty() {
        text.push_str(&format!("all {checked} answer files render\n"));
    } else {
        text.push_str(&format!("{} of {checked} answer files are wrong\n", problems.len()));
    }
    let value = json!({"checked": checked, "problems": problems, "warnings": warnings});
    desk.printer.either(&value, &text)?;
    if !desk.printer.json {
        for warning in &warnings {
            desk.printer.note(format!("warning   {warning}"));
        }
    }
    Ok(if problems.is_empty() { Ended::Well } else { Ended::No })
}

/// Text that no template holds: where an answer file changes with it, the template is part of it.
const MARK: &str = "\ncordwainer template impact\n";

/// `template impact`: the profiles and systems whose answer files an edit of the template or snippet `name` can change.
pub(super) fn impact(world: &World, name: &str, desk: &Desk) -> Result<Ended, Failure> {
    let folder = world.config.overrides.display().to_string();
    let below = name.strip_prefix(&folder).unwrap_or(name).trim_start_matches('/');
    let below = below.strip_prefix("kickstarts/").unwrap_or(below);
    let (name, found) = template::find(&world.assets, below)?;
    let mut marked = world.clone();
    let changed = Arc::new(Template {
        text: format!("{}{MARK}", found.text).into(),
        origin: found.origin.clone(),
    });
    template::put(&mut marked, &name, changed);
    let (mut rows, mut values, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    let all = preview::everyone(world, usize::MAX);
    for (kind, object) in &all {
        let Ok(resolved) = preview::resolve(*kind, object.as_str(), &world.inventory) else {
            unknown.push(format!("{kind} {object}"));
            continue;
        };
        let mut files = Vec::new();
        for answer in preview::answers(world, resolved) {
            match (
                render::answer_file(&answer, world),
                render::answer_file(&answer, &marked),
            ) {
                (Ok(before), Ok(after)) if before == after => {}
                (Ok(_), _) => files.push(answer.file),
                // It does not render now, so nobody can tell but by its own template.
                (Err(error), _) if answer.template.value == name || error.template == name => files.push(answer.file),
                (Err(_), _) => unknown.push(format!("{kind} {object}")),
            }
        }
        if files.is_empty() {
            continue;
        }
        let armed = *kind == Kind::System && world.inventory.arm(object.as_str()).is_some();
        let note = if armed { "armed" } else { "" };
        rows.push(vec![
            kind.to_string(),
            object.to_string(),
            files.join(" "),
            note.to_owned(),
        ]);
        values.push(json!({"kind": kind.to_string(), "name": object, "files": files, "armed": armed}));
    }
    let value: Value = json!({"name": name, "from": found.origin, "changes": values, "unknown": unknown});
    let counted = format!("{} of {} profiles and systems use {name}\n", rows.len(), all.len());
    let text = if rows.is_empty() {
        counted
    } else {
        format!("{}{counted}", table(&rows))
    };
    desk.printer.either(&value, &text)?;
    if !desk.printer.json {
        for one in unknown {
            desk.printer.note(format!(
                "warning   {one} does not render now, so it is not known whether it uses {name}: cordwainer validate-autoinstalls"
            ));
        }
    }
    Ok(Ended::Well)
}
