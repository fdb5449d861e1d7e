//! `import`: recognises a tree, puts it where it can be served, and stores its distro and profile in one transaction.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: reads the publisher's checksum file, looks whether the unit is installed, and what the environment trusts"
)]

use super::args::Import;
use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::object::{named, warn_if_missing};
use super::print::{table, with};
use crate::distro::checksum::Checksums;
use crate::distro::detect::Wishes;
use crate::distro::download::{Fetcher, Manners};
use crate::distro::import::{ImportRequest, Place, Progress, import, tidy};
use crate::distro::library::Library;
use crate::distro::netboot::INSTALLED;
use crate::distro::plan::Flags;
use crate::distro::remote::is_url;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Largest checksum file that is read: those of whole mirrors have thousands of lines.
const LARGEST_CHECKSUMS: u64 = 16 << 20;

pub(super) fn run(options: &Import, desk: &Desk) -> Result<Ended, Failure> {
    let config = &desk.settings.config;
    let kernel_options = options.kernel_options.as_deref().unwrap_or_default();
    let manners = Manners {
        allow_local: options.allow_local_address,
        patience: options.timeout.map(Duration::from_secs),
        trust: std::env::var_os("SSL_CERT_FILE").map(PathBuf::from),
    };
    let request = ImportRequest {
        path: options.path.clone(),
        name: options.name.as_deref().map(named).transpose()?,
        wishes: Wishes {
            breed: options.breed.clone(),
            arch: options.arch,
            os_version: options.os_version.clone(),
        },
        place: if options.copy {
            Place::Copy
        } else if options.in_place {
            Place::InPlace
        } else {
            Place::Auto
        },
        kernel: options.kernel.clone(),
        initrd: options.initrd.clone(),
        flags: Flags {
            autoinstall: options.autoinstall.clone(),
            mirror: options.mirror.clone(),
            kernel_options: kernel_options
                .parse()
                .map_err(|error| Failure::said(format!("--kernel-options: {error}"), ""))?,
        },
        service_user: None,
        hidden: hidden(),
        checksums: options
            .checksum
            .as_deref()
            .map(|given| checksums(given, &manners))
            .transpose()?,
        netboot: options.netboot.clone(),
        installed: Some(INSTALLED.into()),
        manners,
    };
    let library = Library::load(&config.overrides);
    for (file, problem) in &library.problems {
        desk.printer.note(format!("warning   signature {file}: {problem}"));
    }
    if let Some(template) = &options.autoinstall {
        warn_if_missing(desk, template)?;
    }
    desk.folder()?;
    tidy(&config.state, || desk.inventory().ok()).map_err(|error| Failure::said(error, ""))?;
    let inventory = desk.inventory()?;
    let bar = bar(desk);
    let imported = import(&request, &config.state, &library, &inventory, &mut |progress| {
        draw(&bar, progress)
    });
    bar.finish_and_clear();
    let imported = imported.map_err(|error| Failure::said(error, ""))?;
    let applied = match desk.apply(imported.changes()) {
        Ok(applied) => applied,
        Err(failure) => {
            if let Err(error) = imported.withdraw() {
                desk.printer
                    .note(format!("warning   the copied tree is left behind: {error}"));
            }
            return Err(failure);
        }
    };
    let lines: Vec<Value> = imported
        .lines
        .iter()
        .map(|line| json!({"label": line.label, "text": line.text}))
        .collect();
    let more = json!({"distro": imported.distro, "profile": imported.profile, "lines": lines});
    let value = with(applied.json(), more);
    let rows: Vec<Vec<String>> = imported
        .lines
        .iter()
        .map(|line| vec![line.label.to_owned(), line.text.clone()])
        .collect();
    if let Err(error) = imported.keep() {
        desk.printer.note(format!(
            "warning   an earlier copy of this tree is left behind: {error}"
        ));
    }
    desk.printer.either(&value, &table(&rows))?;
    desk.printer.detail(applied.served.as_str());
    Ok(Ended::Well)
}

/// What the unit's PrivateTmp= hides from the service, where the unit is installed; a server that is started by hand sees all.
fn hidden() -> Vec<PathBuf> {
    let installed = ["/etc", "/usr/lib", "/lib"]
        .iter()
        .any(|place| std::fs::metadata(format!("{place}/systemd/system/cordwainer.service")).is_ok());
    if installed {
        vec!["/tmp".into(), "/var/tmp".into()]
    } else {
        Vec::new()
    }
}

/// `--checksum`: the sum itself, or a file or URL that holds it.
fn checksums(given: &str, manners: &Manners) -> Result<Checksums, Failure> {
    if let Ok(checksums) = Checksums::parse(given) {
        return Ok(checksums);
    }
    let failed = |why: String| Failure::said(format!("--checksum {given}: {why}"), "");
    let parsed = |text: &[u8]| Checksums::parse(&String::from_utf8_lossy(text)).map_err(|bad| failed(bad.to_string()));
    if is_url(given) {
        let text = Fetcher::new(manners).small(given, LARGEST_CHECKSUMS);
        return parsed(&text.map_err(|error| failed(error.to_string()))?);
    }
    let metadata = std::fs::metadata(given).map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > LARGEST_CHECKSUMS {
        return Err(failed(format!(
            "it is no file of at most {} MiB",
            LARGEST_CHECKSUMS >> 20
        )));
    }
    let text = std::fs::read(given).map_err(|error| failed(error.to_string()))?;
    parsed(&text)
}

fn bar(desk: &Desk) -> ProgressBar {
    if desk.printer.draws() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Turns `bar` to `doing`, which takes `all_bytes`.
fn measure(bar: &ProgressBar, doing: &str, all_bytes: u64) {
    if bar.length() != Some(all_bytes) || bar.prefix() != doing {
        bar.set_length(all_bytes);
        bar.set_prefix(doing.to_owned());
        bar.set_style(style(
            "{prefix} {bar:30} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left  {msg}",
        ));
    }
}

fn draw(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Looking { files } => {
            bar.set_message(format!("looking at the tree, {files} files"));
            bar.tick();
        }
        Progress::Copying {
            bytes,
            all_bytes,
            files,
            all_files,
        } => {
            measure(bar, "copying", all_bytes);
            bar.set_message(format!("{files} of {all_files} files"));
            bar.set_position(bytes);
        }
        Progress::Fetching { bytes, all_bytes } => {
            measure(bar, "fetching", all_bytes);
            bar.set_message("");
            bar.set_position(bytes);
        }
        Progress::Summing { bytes, all_bytes } => {
            measure(bar, "checksum", all_bytes);
            bar.set_message("");
            bar.set_position(bytes);
        }
        Progress::Syncing => {
            bar.set_style(style("{spinner} waiting for the disk"));
            bar.tick();
        }
    }
}
