//! The manual pages, made from the definitions that also parse: the command line, the table of keys, the catalogue of events.

use super::args::Man;
use super::exit::{Ended, Failure};
use super::print::{self, Printer};
use super::service::write_file;
use crate::config::{KEYS, Section};
use crate::event::{CATALOGUE, Level};
use clap::{Arg, Command};
use std::fmt::Write as _;

const TAIL_8: &str = include_str!("../../man/cordwainer.8.tail");
const HEAD_5: &str = include_str!("../../man/cordwainer.toml.5.head");
const HEAD_7: &str = include_str!("../../man/cordwainer-events.7.head");

/// One page: its section, its file name, its text in roff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// `8`.
    pub section: &'static str,
    /// `cordwainer.8`.
    pub file: &'static str,
    /// roff.
    pub text: String,
}

/// All pages.
#[must_use]
pub fn pages() -> [Page; 3] {
    [
        Page {
            section: "8",
            file: "cordwainer.8",
            text: page_8(),
        },
        Page {
            section: "5",
            file: "cordwainer.toml.5",
            text: page_5(),
        },
        Page {
            section: "7",
            file: "cordwainer-events.7",
            text: page_7(),
        },
    ]
}

pub(super) fn run(options: &Man, printer: Printer) -> Result<Ended, Failure> {
    let wanted = options.section.as_deref();
    let pages = pages()
        .into_iter()
        .filter(|page| wanted.is_none_or(|section| section == page.section));
    if let Some(dir) = &options.dir {
        let mut written = Vec::new();
        for page in pages {
            let path = dir.join(page.file);
            write_file(&path, page.text.as_bytes(), 0o644)?;
            written.push(path);
        }
        let text: String = written.iter().map(|path| format!("{}\n", path.display())).collect();
        printer.either(&written, &text)?;
        return Ok(Ended::Well);
    }
    let page = pages.into_iter().next();
    let file = page.as_ref().map(|page| page.file);
    let text = page.map(|page| page.text).unwrap_or_default();
    if printer.json {
        printer.json(&serde_json::json!({"file": file, "roff": text}))?;
        return Ok(Ended::Well);
    }
    if !(print::to_terminal() && shown_by_man(&text)) {
        printer.data(&text)?;
    }
    Ok(Ended::Well)
}

/// Hands the page to man(1); false when there is none.
#[expect(clippy::disallowed_methods, reason = "starts man(1), by its argv")]
fn shown_by_man(text: &str) -> bool {
    use std::io::Write as _;
    use std::process::Stdio;
    let Ok(mut child) = std::process::Command::new("man")
        .args(["-l", "-"])
        .stdin(Stdio::piped())
        .spawn()
    else {
        return false;
    };
    // The pager may be left before it read all.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
    child.wait().is_ok_and(|status| status.success())
}

/// The completion script of a shell.
#[must_use]
pub fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::definition(), "cordwainer", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Text as roff takes it literally.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let guard = if text.starts_with(['.', '\'']) { "\\&" } else { "" };
    format!("{guard}{text}")
}

fn header(title: &str, section: &str) -> String {
    format!(
        ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH {title} {section} \"\" \"Cordwainer {}\" \"Cordwainer\"\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn page_8() -> String {
    let mut command = super::definition();
    command.build();
    let mut text = header("CORDWAINER", "8");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(text, ".SH NAME\ncordwainer \\- {}\n.SH SYNOPSIS\n", roff(&about));
    let _ = writeln!(text, "\\fBcordwainer\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR ...");
    text.push_str(".SH DESCRIPTION\n");
    text.push_str(
        "Cordwainer answers machines that boot over the network, installs those that an admin armed, and lets all others boot from \
         their own disk. Without a command it names the first steps.\n",
    );
    // clap_mangen writes what every command shares; the commands themselves stand in one page, not one each.
    let mut shared = Vec::new();
    let global = Command::new("cordwainer").args(command.get_arguments().filter(|arg| arg.is_global_set()).cloned());
    let _ = clap_mangen::Man::new(global.disable_help_flag(true)).render_options_section(&mut shared);
    text.push_str(&String::from_utf8_lossy(&shared));
    text.push_str(".SH COMMANDS\n");
    commands(&mut text, &command, "");
    text.push_str(TAIL_8);
    text
}

/// Every command that does something, with its own options.
fn commands(text: &mut String, parent: &Command, path: &str) {
    for command in parent
        .get_subcommands()
        .filter(|command| command.get_name() != "help" && !command.is_hide_set())
    {
        let path = format!("{path}{} ", command.get_name());
        if command.has_subcommands() {
            commands(text, command, &path);
            continue;
        }
        let own = || {
            command
                .get_arguments()
                .filter(|arg| !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help")
        };
        let places: Vec<String> = own().filter(|arg| arg.is_positional()).map(placeholder).collect();
        let dots = if own().any(|arg| !arg.is_positional()) {
            " [OPTIONS]"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            ".SS \"cordwainer {}{}{}\"",
            roff(path.trim_end()),
            roff(dots),
            roff(&places.iter().map(|place| format!(" {place}")).collect::<String>())
        );
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "{}.", roff(&about));
        for arg in own().filter(|arg| !arg.is_positional()) {
            let _ = writeln!(text, ".TP\n{}", spelled(arg));
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "{}", roff(&help));
        }
    }
}

fn placeholder(arg: &Arg) -> String {
    let name = arg
        .get_value_names()
        .and_then(|names| names.first())
        .map_or_else(|| arg.get_id().as_str().to_uppercase(), ToString::to_string);
    if arg.is_required_set() {
        name
    } else {
        format!("[{name}]")
    }
}

/// `--name VALUE, --alias VALUE`.
fn spelled(arg: &Arg) -> String {
    let mut names: Vec<String> = arg
        .get_short()
        .map(|short| format!("\\fB\\-{short}\\fR"))
        .into_iter()
        .collect();
    let longs = arg.get_long().into_iter().map(ToOwned::to_owned);
    let aliases = arg
        .get_visible_aliases()
        .unwrap_or_default()
        .into_iter()
        .map(ToString::to_string);
    names.extend(
        longs
            .chain(aliases)
            .map(|long| format!("\\fB{}\\fR", roff(&format!("--{long}")))),
    );
    let mut text = names.join(", ");
    if arg.get_action().takes_values()
        && let Some(value) = arg.get_value_names().and_then(|names| names.first())
    {
        let _ = write!(text, " \\fI{}\\fR", roff(value));
    }
    text
}

fn page_5() -> String {
    let mut text = header("CORDWAINER.TOML", "5");
    text.push_str(HEAD_5);
    for section in Section::ALL {
        let title = match section {
            Section::Top => "TOP OF THE FILE".to_owned(),
            other => other.to_string(),
        };
        let _ = writeln!(text, ".SH \"{}\"\n{}", roff(&title), roff(section.about()));
        for key in KEYS.iter().filter(|key| key.section == section) {
            let _ = writeln!(text, ".TP\n\\fB{}\\fR\n{}", roff(key.name), roff(key.help));
            let _ = writeln!(text, "Takes {}. Default: {}.", roff(key.expects), roff(key.default));
        }
    }
    text.push_str(".SH SEE ALSO\n\\fBcordwainer\\fR(8), \\fBcordwainer\\-events\\fR(7)\n");
    text
}

fn page_7() -> String {
    let mut text = header("CORDWAINER-EVENTS", "7");
    text.push_str(HEAD_7);
    for doc in CATALOGUE {
        let level = match doc.level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warning",
            Level::Error => "error",
        };
        let _ = writeln!(
            text,
            ".TP\n\\fB{}\\fR ({level})\n{}\n.br\n{}",
            roff(doc.code),
            roff(doc.means),
            roff(doc.remedy)
        );
    }
    text.push_str(".SH SEE ALSO\n\\fBcordwainer\\fR(8), \\fBjournalctl\\fR(1)\n");
    text
}

#[cfg(test)]
mod tests {
    use super::super::args::Cli;
    use super::*;
    use clap::Parser as _;

    #[test]
    fn the_definition_is_consistent_and_every_option_has_help() {
        fn look(command: &Command) {
            for arg in command.get_arguments() {
                assert!(
                    arg.get_help().is_some(),
                    "{} {} has no help",
                    command.get_name(),
                    arg.get_id()
                );
                assert!(
                    !arg.get_help().unwrap().to_string().ends_with('.'),
                    "{}: {}",
                    command.get_name(),
                    arg.get_id()
                );
            }
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            command.get_subcommands().for_each(look);
        }
        super::super::definition().debug_assert();
        look(&super::super::definition());
    }

    #[test]
    fn the_examples_of_the_page_parse() {
        let examples = TAIL_8.split_once(".nf").unwrap().1.split_once(".fi").unwrap().0;
        let mut count = 0;
        for line in examples.lines().filter(|line| !line.is_empty()) {
            let line = line.replace("\\-", "-");
            let words: Vec<String> = line.split(' ').map(|word| word.trim_matches('"').to_owned()).collect();
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{line}: {error}");
            }
            count += 1;
        }
        assert_eq!(count, 10);
    }

    #[test]
    fn the_sample_configuration_of_the_page_holds() {
        let sample = HEAD_5.split_once(".nf\n").unwrap().1.split_once(".fi").unwrap().0;
        crate::config::wire::parse(sample, "sample").unwrap();
    }

    #[test]
    fn each_page_names_all_it_is_about() {
        let [eight, five, seven] = pages();
        for word in [
            "system arm",
            "boot explain",
            "install\\-service",
            "EXIT STATUS",
            "SIGNALS",
        ] {
            assert!(eight.text.contains(word), "{word}");
        }
        assert!(KEYS.iter().all(|key| five.text.contains(&roff(key.name))));
        assert!(CATALOGUE.iter().all(|doc| seven.text.contains(doc.code)));
    }

    #[test]
    fn every_shell_gets_completions() {
        use clap::ValueEnum as _;
        for shell in clap_complete::Shell::value_variants() {
            assert!(completions(*shell).contains("cordwainer"), "{shell}");
        }
    }
}
