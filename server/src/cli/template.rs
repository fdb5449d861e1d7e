//! `template list|show|edit|impact|convert`. An edited template is put in place only once it renders for everything that uses it.
#![expect(
    clippy::disallowed_methods,
    reason = "starts the admin's editor by its argv, and writes the template"
)]

use super::args::{ConvertTemplate, TemplateCommand};
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::print::table;
use super::service::write_file;
use super::{host, preview};
use crate::assets::{Assets, Template};
use crate::boot::World;
use crate::config::nearest;
use crate::render::{self, cheetah};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// How snippets are named among templates.
const SNIPPETS: &str = "snippets/";
/// Largest file that is converted, in bytes: ten times the largest that Cobbler ships.
const LARGEST: u64 = 256 << 10;
/// Systems that a changed template is tried with; each has variables of its own.
const TRIED: usize = 1000;

pub(super) fn run(command: &TemplateCommand, desk: &Desk) -> Result<Ended, Failure> {
    let world = || desk.world(desk.inventory()?);
    match command {
        TemplateCommand::Convert(options) => convert(options, desk),
        TemplateCommand::List => list(&world()?, desk),
        TemplateCommand::Show(name) => {
            let world = world()?;
            let (name, template) = find(&world.assets, name.get())?;
            desk.printer.either(
                &json!({"name": name, "from": template.origin, "text": &*template.text}),
                &template.text,
            )?;
            Ok(Ended::Well)
        }
        TemplateCommand::Edit(name) => edit(world()?, name.get(), desk),
        TemplateCommand::Impact(name) => super::validate::impact(&world()?, name.get(), desk),
    }
}

/// Converts one file; the result is printed also where something is left to do, since the rest of it is done.
fn convert(options: &ConvertTemplate, desk: &Desk) -> Result<Ended, Failure> {
    let file = &options.file;
    let metadata = fs::metadata(file).map_err(|error| Failure::file("cannot read", file, error))?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(Failure::said(
            format!("{} is no text of at most {} KiB", file.display(), LARGEST >> 10),
            "give one template or snippet of Cobbler's",
        ));
    }
    let bytes = fs::read(file).map_err(|error| Failure::file("cannot read", file, error))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::said(
            format!("{} is no UTF-8 text", file.display()),
            "convert it first: iconv -f latin1 -t utf8",
        )
    })?;
    let converted =
        cheetah::convert(&text).map_err(|jinja| Failure::said(format!("{}: {jinja}", file.display()), ""))?;
    let left = converted.notes.iter().filter(|note| note.must).count();
    for note in &converted.notes {
        let kind = if note.must { "not converted" } else { "look at" };
        desk.printer
            .note(format!("{}:{}: {kind}: {}", file.display(), note.line, note.what));
    }
    if let Some(output) = &options.output {
        write_file(output, converted.text.as_bytes(), 0o644)?;
    }
    let notes: Vec<Value> = converted
        .notes
        .iter()
        .map(|note| json!({"line": note.line, "must": note.must, "what": note.what}))
        .collect();
    let value = json!({"file": file, "text": converted.text, "notes": notes, "not_converted": left});
    let said = match &options.output {
        Some(output) => format!("wrote {}\n", output.display()),
        None => converted.text,
    };
    desk.printer.either(&value, &said)?;
    if left == 0 {
        return Ok(Ended::Well);
    }
    desk.printer.note(format!(
        "{left} to do: each is marked `unconverted_line_N()`, and the template does not render until none is left"
    ));
    Ok(Ended::No)
}

/// Every template and snippet under the name that `show` takes.
fn all(assets: &Assets) -> Vec<(String, &Arc<Template>)> {
    let templates = assets.templates.iter().map(|(name, template)| (name.clone(), template));
    let snippets = assets
        .snippets
        .iter()
        .map(|(name, template)| (format!("{SNIPPETS}{name}"), template));
    templates.chain(snippets).collect()
}

fn list(world: &World, desk: &Desk) -> Result<Ended, Failure> {
    let found = all(&world.assets);
    if desk.printer.json {
        let values: Vec<Value> = found
            .iter()
            .map(|(name, template)| json!({"name": name, "from": template.origin}))
            .collect();
        desk.printer.json(&values)?;
    } else {
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|(name, template)| vec![name.clone(), template.origin.clone()])
            .collect();
        desk.printer.data(&table(&rows))?;
    }
    Ok(Ended::Well)
}

/// A template or snippet by the name that `show` takes, snippets also without their folder.
pub(super) fn find<'a>(assets: &'a Assets, name: &str) -> Result<(String, &'a Arc<Template>), Failure> {
    let found = all(assets);
    let exact = found.iter().find(|(known, _)| known == name).or_else(|| {
        found
            .iter()
            .find(|(known, _)| known.strip_prefix(SNIPPETS) == Some(name))
    });
    if let Some((known, template)) = exact {
        return Ok((known.clone(), template));
    }
    let near = nearest(name, found.iter().map(|(known, _)| known.as_str()));
    let hint = near
        .map(|known| format!("; did you mean `{known}`?"))
        .unwrap_or_default();
    Err(Failure::said(
        format!("there is no template `{}`{hint}", name.escape_debug()),
        "`cordwainer template list` names them; a new one is a file in the kickstarts/ folder of the configuration's `overrides`",
    ))
}

fn edit(world: World, name: &str, desk: &Desk) -> Result<Ended, Failure> {
    let (name, template) = find(&world.assets, name)?;
    let before = Arc::clone(&template.text);
    let copy = copy_of(&name, &before)?;
    let editor = host::editor();
    let (program, arguments) = editor
        .split_first()
        .ok_or_else(|| Failure::said("no editor is named", "set VISUAL or EDITOR"))?;
    let status = Command::new(program).args(arguments).arg(&copy).status();
    let kept = |what: String, remedy: &str| {
        Failure::said(
            what,
            format!(
                "{remedy}; nothing was changed, and your text is kept in {}",
                copy.display()
            ),
        )
    };
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            return Err(kept(
                format!("the editor `{program}` ended with {status}"),
                "edit it again",
            ));
        }
        Err(error) => {
            let _ = fs::remove_file(&copy);
            let what = format!("the editor `{program}` cannot be started: {error}");
            return Err(Failure::said(
                what,
                "set VISUAL or EDITOR to an editor that is installed; nothing was changed",
            ));
        }
    }
    let after = fs::read_to_string(&copy).map_err(|error| Failure::file("cannot read", &copy, error))?;
    if *after == *before {
        let _ = fs::remove_file(&copy);
        desk.printer
            .either(&json!({"name": name, "changed": false}), "unchanged\n")?;
        return Ok(Ended::Well);
    }
    let tried = try_with(&world, &name, &after).map_err(|why| kept(why, "mend it"))?;
    let folder = if name.starts_with(SNIPPETS) { "" } else { "kickstarts/" };
    let target = world.config.overrides.join(format!("{folder}{name}"));
    write_file(&target, after.as_bytes(), 0o644)
        .inspect_err(|_| desk.printer.note(format!("your text is kept in {}", copy.display())))?;
    let _ = fs::remove_file(&copy);
    let text = format!(
        "installed {} (rendered for {tried} profiles and systems that use it)\n",
        target.display()
    );
    desk.printer.either(
        &json!({"name": name, "changed": true, "file": target, "rendered_for": tried}),
        &text,
    )?;
    if tried == 0 {
        desk.printer
            .note("note      nothing uses it yet, so it was not rendered");
    }
    Ok(Ended::Well)
}

/// A private copy to edit, with the template's own ending so that editors know its language.
fn copy_of(name: &str, text: &str) -> Result<PathBuf, Failure> {
    let random =
        host::random().map_err(|error| Failure::said(format!("the system gives no random numbers: {error}"), ""))?;
    let base = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
    let path = std::env::temp_dir().join(format!("cordwainer-{random:016x}-{base}"));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::file("cannot write", &path, error))?;
    Ok(path)
}

/// Puts the template or snippet `name` in the place of what `world` has.
pub(super) fn put(world: &mut World, name: &str, template: Arc<Template>) {
    let assets = Arc::make_mut(&mut world.assets);
    match name.strip_prefix(SNIPPETS) {
        Some(snippet) => assets.snippets.insert(snippet.to_owned(), template),
        None => assets.templates.insert(name.to_owned(), template),
    };
}

/// Renders everything that uses the template with its new text: how many, or the first that fails.
fn try_with(world: &World, name: &str, text: &str) -> Result<usize, String> {
    let mut world = world.clone();
    let template = Arc::new(Template {
        text: text.into(),
        origin: "edited".to_owned(),
    });
    put(&mut world, name, template);
    let snippet = name.strip_prefix(SNIPPETS);
    let mut tried = 0_usize;
    for (kind, object) in preview::everyone(&world, TRIED) {
        let Ok(resolved) = preview::resolve(kind, object.as_str(), &world.inventory) else {
            continue;
        };
        let mut answers = preview::answers(&world, resolved);
        // A snippet may be part of any of them.
        answers.retain(|answer| snippet.is_some() || answer.template.value == name);
        for answer in &answers {
            render::answer_file(answer, &world)
                .map_err(|error| format!("{kind} `{object}` does not render with it: {error}"))?;
        }
        tried = tried.saturating_add(usize::from(!answers.is_empty()));
    }
    Ok(tried)
}
