//! `backup`, `restore` and `state migrate`: the state as a whole.

use super::args::{Backup, Restore};
use super::desk::Desk;
use super::exit::{Ended, Failure};
use crate::store::{self, StateLock};
use serde_json::json;

pub(super) fn backup(options: &Backup, desk: &Desk) -> Result<Ended, Failure> {
    let target = std::path::absolute(&options.file)
        .map_err(|error| Failure::file("cannot make sense of", &options.file, error))?;
    if !desk.has_state()? {
        let state = &desk.settings.config.state;
        return Err(Failure::said(
            format!("there is no state in {}", state.display()),
            "name the state folder with --state, or in the configuration",
        ));
    }
    store::backup(&desk.folder()?, &target, desk.now)?;
    let text = format!(
        "backed up {} to {}\n",
        desk.settings.config.state.display(),
        target.display()
    );
    desk.printer.either(&json!({"file": target}), &text)?;
    desk.printer
        .note("note      it holds the server key and every record: keep it as private as the state itself");
    Ok(Ended::Well)
}

pub(super) fn restore(options: &Restore, desk: &Desk) -> Result<Ended, Failure> {
    let source = std::path::absolute(&options.file)
        .map_err(|error| Failure::file("cannot make sense of", &options.file, error))?;
    let restored = store::restore(&desk.folder()?, &source, desk.now)?;
    let text = format!(
        "restored  {}\nkept      what was there before is in {}\n",
        source.display(),
        restored.aside.display()
    );
    desk.printer.either(
        &json!({"file": source, "aside": restored.aside, "disarmed": restored.disarmed}),
        &text,
    )?;
    for name in &restored.disarmed {
        desk.printer.note(format!(
            "{name} was armed in the backup and is not any more: cordwainer system arm {name}"
        ));
    }
    for migrated in &restored.migrated {
        desk.printer.note(format!(
            "{} was brought from schema {} to {}",
            migrated.file.display(),
            migrated.from,
            migrated.to
        ));
    }
    Ok(Ended::Well)
}

/// `state migrate`.
pub(super) fn migrate(desk: &Desk) -> Result<Ended, Failure> {
    let folder = desk.folder()?;
    let lock = StateLock::take(&folder)?;
    let done = store::migrate(&folder, &lock, desk.now)?;
    let rows: Vec<_> = done
        .iter()
        .map(|one| json!({"file": one.file, "from": one.from, "to": one.to, "copy": one.copy}))
        .collect();
    let mut text: String = done
        .iter()
        .map(|one| {
            format!(
                "migrated  {} from schema {} to {}; the old one is {}\n",
                one.file.display(),
                one.from,
                one.to,
                one.copy.display()
            )
        })
        .collect();
    if done.is_empty() {
        text.push_str("nothing to migrate: every database has the newest schema\n");
    }
    desk.printer.either(&json!({"migrated": rows}), &text)?;
    Ok(Ended::Well)
}
