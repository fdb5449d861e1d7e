//! `install-service`: writes units, account, folders, manual pages, completions and a first configuration, and says what to run next.
//!
//! Never overwrites a configuration.
#![expect(
    clippy::disallowed_methods,
    reason = "writes the files, and starts systemd's own tools by their argv"
)]

use super::args::InstallService;
use super::exit::{Ended, Failure};
use super::print::{Printer, table};
use super::{configuration, man};
use clap_complete::Shell;
use serde_json::json;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const UNIT: &str = include_str!("../../../systemd/cordwainer.service");
const GUESTS: &str = include_str!("../../../systemd/cordwainer-guests.service");
const SYSUSERS: &str = include_str!("../../../systemd/cordwainer.sysusers");
const TMPFILES: &str = include_str!("../../../systemd/cordwainer.tmpfiles");

/// One file to install.
struct Piece {
    path: &'static str,
    text: String,
    mode: u32,
    /// An admin's file: written only where there is none.
    keep: bool,
}

/// The unit `text`, starting `binary`.
fn unit(text: &str, binary: &Path) -> String {
    // In a unit file % starts a specifier, $ a variable, and quotes hold a path with blanks together.
    let path = binary
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('%', "%%")
        .replace('$', "$$")
        .replace('"', "\\\"");
    let path = if path.contains(char::is_whitespace) {
        format!("\"{path}\"")
    } else {
        path
    };
    text.replace("@BIN@", &path)
}

fn pieces(binary: &Path) -> Vec<Piece> {
    let piece = |path, text, mode, keep| Piece { path, text, mode, keep };
    let mut pieces = vec![
        piece(
            "etc/systemd/system/cordwainer.service",
            unit(UNIT, binary),
            0o644,
            false,
        ),
        piece("etc/sysusers.d/cordwainer.conf", SYSUSERS.to_owned(), 0o644, false),
        piece("etc/tmpfiles.d/cordwainer.conf", TMPFILES.to_owned(), 0o644, false),
        piece(
            "etc/cordwainer/cordwainer.toml",
            configuration::first_file(),
            0o640,
            true,
        ),
    ];
    if cfg!(feature = "libvirt") {
        let path = "etc/systemd/system/cordwainer-guests.service";
        pieces.push(piece(path, unit(GUESTS, binary), 0o644, false));
    }
    for page in man::pages() {
        let path = match page.section {
            "8" => "usr/local/share/man/man8/cordwainer.8",
            "5" => "usr/local/share/man/man5/cordwainer.toml.5",
            _ => "usr/local/share/man/man7/cordwainer-events.7",
        };
        pieces.push(piece(path, page.text, 0o644, false));
    }
    for (shell, path) in [
        (Shell::Bash, "usr/local/share/bash-completion/completions/cordwainer"),
        (Shell::Zsh, "usr/local/share/zsh/site-functions/_cordwainer"),
        (Shell::Fish, "usr/local/share/fish/vendor_completions.d/cordwainer.fish"),
    ] {
        pieces.push(piece(path, man::completions(shell), 0o644, false));
    }
    pieces
}

pub(super) fn install(options: &InstallService, printer: Printer) -> Result<Ended, Failure> {
    let root = std::path::absolute(&options.root)
        .map_err(|error| Failure::file("cannot make sense of", &options.root, error))?;
    let binary = std::env::current_exe().map_err(|error| Failure::file("cannot find", "the running binary", error))?;
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for piece in pieces(&binary) {
        let path = root.join(piece.path);
        let there = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(error) => return Err(Failure::file("cannot read", path, error)),
        };
        let what = match there {
            Some(bytes) if bytes == piece.text.as_bytes() => "unchanged",
            Some(_) if piece.keep => "kept",
            Some(_) => "replaced",
            None => "written",
        };
        if !options.dry_run && matches!(what, "replaced" | "written") {
            write_file(&path, piece.text.as_bytes(), piece.mode)?;
        }
        let word = match what {
            "replaced" | "written" if options.dry_run => "would write",
            other => other,
        };
        list.push(json!({"path": path, "action": word}));
        rows.push(vec![word.to_owned(), path.display().to_string()]);
    }
    let whole = root == Path::new("/");
    let mut next = Vec::new();
    for (program, arguments) in [
        ("systemd-sysusers", &["/etc/sysusers.d/cordwainer.conf"][..]),
        ("systemd-tmpfiles", &["--create", "/etc/tmpfiles.d/cordwainer.conf"]),
        ("systemctl", &["daemon-reload"]),
    ] {
        let line = format!("{program} {}", arguments.join(" "));
        if whole && !options.dry_run && ran(program, arguments) {
            list.push(json!({"command": line, "action": "ran"}));
            rows.push(vec!["ran".to_owned(), line]);
        } else {
            next.push(line);
        }
    }
    next.push("cordwainer check".to_owned());
    next.push("systemctl enable --now cordwainer".to_owned());
    if cfg!(feature = "libvirt") {
        next.push("systemctl enable --now cordwainer-guests   (for guests of libvirt)".to_owned());
    }
    if printer.json {
        printer.json(&json!({"files": list, "next": next}))?;
        return Ok(Ended::Well);
    }
    printer.data(&table(&rows))?;
    if whole && !binary.starts_with("/usr") && !binary.starts_with("/opt") {
        printer.note(format!(
            "note  the unit starts {}; if that is a build folder, copy the binary to /usr/local/bin and run this again",
            binary.display()
        ));
    }
    printer.note(format!("next  {}", next.join("\n      ")));
    Ok(Ended::Well)
}

/// True when the program is there and did it. What it says goes to standard error as it is.
fn ran(program: &str, arguments: &[&str]) -> bool {
    if program == "systemctl" && fs::metadata("/run/systemd/system").is_err() {
        return false;
    }
    let status = std::process::Command::new(program)
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Writes a file so that readers see the old or the new one, never a part; makes its folder.
pub(super) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Failure::file("cannot write", path, error)
    };
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temporary: PathBuf = dir.join(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            // The mode is asked for twice: the umask may have taken from it.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed(path)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_quotes_the_binary() {
        let unit = |binary| unit(UNIT, binary);
        assert!(unit(Path::new("/usr/local/bin/cordwainer")).contains("ExecStart=/usr/local/bin/cordwainer serve\n"));
        assert!(unit(Path::new("/a b/100%")).contains("ExecStart=\"/a b/100%%\" serve\n"));
        assert!(!unit(Path::new("/x")).contains("@BIN@"));
    }
}
