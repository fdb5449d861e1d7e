//! The terminal of the demo: what `boot trace --follow` prints of each machine as it comes, and below it where each machine stands now.
//! It must never draw on what is no terminal, and never invent a line of the timeline.

use std::io::IsTerminal;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::child::Child;
use super::events::{Events, seen};
use super::server::Server;

const GREEN: &str = "32";
const RED: &str = "31";
const BOLD: &str = "1";

/// Where lines go.
pub struct Screen {
    bars: MultiProgress,
    is_terminal: bool,
    has_colour: bool,
    columns: usize,
}

impl Screen {
    pub fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(10)),
            is_terminal,
            has_colour: is_terminal && std::env::var_os("NO_COLOR").is_none(),
            columns: columns.filter(|columns| *columns >= 40).unwrap_or(100),
        }
    }

    fn coloured(&self, colour: &str, text: &str) -> String {
        if self.has_colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn print(&self, line: &str) {
        if self.is_terminal {
            let _gone = self.bars.println(line);
        } else {
            println!("{line}");
        }
    }

    /// Prints text after a margin, broken between words; what follows is indented by `hang` more.
    fn wrapped(&self, margin: &str, width: usize, text: &str, hang: usize, colour: &str) {
        let room = self.columns.saturating_sub(width).max(30);
        for (index, part) in broken(text, room, hang).iter().enumerate() {
            let margin = if index == 0 {
                margin.to_owned()
            } else {
                " ".repeat(width)
            };
            let part = if colour.is_empty() {
                part.clone()
            } else {
                self.coloured(colour, part)
            };
            self.print(&format!("{margin}{part}"));
        }
    }

    pub fn say(&self, text: &str) {
        self.wrapped("", 0, text, 0, "");
    }

    pub fn title(&self, text: &str) {
        self.print("");
        self.wrapped("", 0, text, 0, BOLD);
    }

    pub fn command(&self, text: &str) {
        self.wrapped("$ ", 2, text, 4, BOLD);
    }

    pub fn output(&self, text: &str) {
        let indent = text.len() - text.trim_start().len();
        self.wrapped(&" ".repeat(indent + 2), indent + 2, text.trim(), 10, "");
    }

    pub fn good(&self, text: &str) {
        self.wrapped("", 0, text, 0, GREEN);
    }

    pub fn bad(&self, text: &str) {
        self.wrapped("", 0, text, 0, RED);
    }
}

/// Lines of at most `room` columns; those after the first begin with `hang` blanks.
fn broken(text: &str, room: usize, hang: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut rest = text;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start().len();
        let end = rest[blanks..].find(' ').map_or(rest.len(), |space| blanks + space);
        let (word, tail) = rest.split_at(end);
        rest = tail;
        let line = lines.last_mut().unwrap();
        if !line.trim().is_empty() && line.chars().count() + word.chars().count() > room {
            lines.push(format!("{}{}", " ".repeat(hang), word.trim_start()));
        } else {
            line.push_str(word);
        }
    }
    lines
}

/// One machine that is looked at.
pub struct Watched {
    name: String,
    label: String,
    timeline: Child,
    shown: usize,
    events: Events,
    bar: ProgressBar,
    heard: Instant,
    progress: String,
}

impl Watched {
    pub fn new(screen: &Screen, name: &str, server: &Server<'_>) -> Self {
        let colour = if name.starts_with("bios") { "36" } else { "35" };
        let bar = screen.bars.add(ProgressBar::new(0));
        bar.set_style(ProgressStyle::with_template("{prefix}  {spinner} {msg}").unwrap());
        bar.set_prefix(screen.coloured(colour, name));
        bar.set_message("powered on");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self {
            name: name.to_owned(),
            label: screen.coloured(colour, name),
            timeline: Child::start(
                &format!("boot trace {name}"),
                &mut server.command(&["boot", "trace", name, "--follow"]),
            ),
            shown: 0,
            events: server.events(name),
            bar,
            heard: Instant::now(),
            progress: String::new(),
        }
    }

    /// Shows what is new.
    fn show(&mut self, screen: &Screen) {
        let lines = self.timeline.lines();
        for line in lines.iter().skip(self.shown) {
            self.heard = Instant::now();
            if !line.trim().is_empty() {
                let width = self.name.len() + 2;
                // The text column of a timeline starts after time, gap and protocol.
                // Its heading begins with the machine's name, which stands before it already.
                let text = line.trim();
                let text = text.strip_prefix(&self.name).map_or(text, str::trim_start);
                screen.wrapped(&format!("{}  ", self.label), width, text, 29, "");
            }
        }
        self.shown = lines.len();
        let all = self.events.all();
        let Some(last) = all.last() else { return };
        let progress = standing(last);
        if progress == self.progress {
            return;
        }
        self.heard = Instant::now();
        self.progress.clone_from(&progress);
        if screen.is_terminal {
            self.bar.set_message(progress);
        } else if is_progress(last) {
            screen.print(&format!("{}  {progress}", self.name));
        }
    }

    fn is_done(&self) -> bool {
        self.events.count(seen("BOOTED_FROM_DISK", &[])) > 0
    }

    fn failure(&mut self) -> Option<String> {
        if !self.timeline.is_running() {
            return Some("its timeline broke off: the server ended".to_owned());
        }
        self.events.all().iter().find_map(|event| {
            let code = event["code"].as_str()?;
            let word = match code {
                "FAILED" => "failed",
                "HELD" => "held",
                _ => return None,
            };
            Some(format!(
                "{word}: {}",
                event["reason"].as_str().unwrap_or("no reason was given")
            ))
        })
    }
}

fn is_progress(event: &Value) -> bool {
    matches!(event["code"].as_str(), Some("HTTP_PROGRESS" | "TFTP_PROGRESS"))
}

/// Where a machine stands, in a few words.
fn standing(event: &Value) -> String {
    let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
    match event["code"].as_str().unwrap_or_default() {
        "HTTP_PROGRESS" | "TFTP_PROGRESS" => {
            let (bytes, size) = (
                event["bytes"].as_u64().unwrap_or(0),
                event["size"].as_u64().unwrap_or(0).max(1),
            );
            let done = usize::try_from(bytes.saturating_mul(24) / size).unwrap_or(0).min(24);
            let path = format!("{}{}", text("path"), text("file"));
            format!(
                "{}{} {:>3} %  {} of {}  {path}",
                "█".repeat(done),
                "░".repeat(24 - done),
                bytes.saturating_mul(100) / size,
                cordwainer::event::size(bytes),
                cordwainer::event::size(size),
            )
        }
        "ARMED" => "powered on, firmware starts".to_owned(),
        "DHCP_RECEIVED" | "DHCP_ANSWERED" => "asks for an address".to_owned(),
        "TFTP_SENT" | "TFTP_PROBED" => "loader starts".to_owned(),
        "SCRIPT" | "CLAIMED" => format!("boot script: {}", text("gives")),
        "HTTP_SENT" => format!("{} fetched, {}", text("role"), "the machine works on"),
        "ANSWER_FILE" => "installer has its answer file".to_owned(),
        "STAGE" if event["stage"] == "booted" => "booted from disk".to_owned(),
        "STAGE" => format!("installer: {}", text("stage")),
        "INSTALLED" => "installed, restarts".to_owned(),
        "BOOTED_FROM_DISK" => "booted from disk".to_owned(),
        "FAILED" | "HELD" => text("reason"),
        _ => "works".to_owned(),
    }
}

/// Shows the machines until each has booted from its disk, or one fails, or is silent for `patience`. Returns who failed, and why.
pub fn until_booted(screen: &Screen, machines: &mut [Watched], patience: Duration) -> Vec<(String, String)> {
    let mut failed = Vec::new();
    while failed.is_empty() && !machines.iter().all(Watched::is_done) {
        for machine in machines.iter_mut() {
            machine.show(screen);
            if let Some(why) = machine.failure() {
                failed.push((machine.name.clone(), why));
            } else if !machine.is_done() && machine.heard.elapsed() > patience {
                let why = format!("nothing was heard of it for {} minutes", patience.as_secs() / 60);
                failed.push((machine.name.clone(), why));
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    for machine in machines {
        // The text may lag behind the event by a moment.
        machine.timeline.wait_until(Duration::from_secs(3), |lines| {
            lines
                .iter()
                .any(|line| line.contains("from its disk") || line.contains("from disk"))
                .then_some(())
        });
        machine.show(screen);
        machine.bar.finish_and_clear();
    }
    failed
}

#[test]
fn lines_break_between_words() {
    assert_eq!(broken("one two  three", 9, 2), ["one two", "  three"]);
    assert_eq!(broken("abc", 2, 0), ["abc"]);
}
