//! Log lines on standard error: one line says one thing. For people, for the journal, or as JSON.
//!
//! What comes from the wire is escaped before it is an event; here every control character is escaped once more, so that no line can
//! pass for two.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How lines look. The environment and the terminal are the command line's to look at.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// JSON objects, one a line.
    pub json: bool,
    /// The journal reads us (`JOURNAL_STREAM`): a priority in front (`sd-daemon(3)`), no time of our own.
    pub journal: bool,
    /// Standard error is a terminal that shows colour.
    pub colour: bool,
    /// `info`, `debug`, `cordwainer::http=debug,info`, ...
    pub filter: String,
}

/// The log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter makes no sense.
    #[error("`{0}` is no log filter; write error, warn, info or debug, or cordwainer::dhcp=debug,info")]
    Filter(String),
    /// Somebody started it before.
    #[error("the log was started twice")]
    Twice,
}

/// Starts the log of this process.
///
/// # Errors
/// [`LogError`] for a filter that makes no sense.
pub fn init(options: &LogOptions) -> Result<(), LogError> {
    let words = if options.filter.is_empty() {
        "info"
    } else {
        &options.filter
    };
    let filter = EnvFilter::builder()
        .parse(words)
        .map_err(|_| LogError::Filter(words.to_owned()))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines)
        .with_ansi(options.colour);
    let started = if options.json {
        tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish())
    } else {
        let form = Form {
            journal: options.journal,
        };
        tracing::subscriber::set_global_default(lines.event_format(form).finish())
    };
    started.map_err(|_| LogError::Twice)
}

/// Bytes after which lines that are written together are written.
const TOGETHER: usize = 64 * 1024;

thread_local! {
    /// The lines that this thread writes together; none while it writes each by itself.
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Runs `say` and writes the lines of this thread together: a system call each is what a busy server has no time for.
pub fn together(say: impl FnOnce()) {
    LINES.set(Some(Vec::new()));
    say();
    if let Some(lines) = LINES.take() {
        // Whoever read the log has gone; there is nobody to tell.
        let _ = io::stderr().write_all(&lines);
    }
}

/// Standard error, by line or by many.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| match lines {
            None => io::stderr().write_all(bytes),
            Some(lines) => {
                lines.extend_from_slice(bytes);
                if lines.len() < TOGETHER {
                    return Ok(());
                }
                io::stderr().write_all(&std::mem::take(lines))
            }
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `2026-11-21T14:03:11.204Z WARN  web1: vmlinuz broke off  [HTTP_BROKEN]`.
struct Form {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        let (word, priority, colour) = if level == Level::ERROR {
            ("ERROR", 3, "31")
        } else if level == Level::WARN {
            ("WARN ", 4, "33")
        } else if level == Level::INFO {
            ("INFO ", 6, "32")
        } else {
            ("DEBUG", 7, "2")
        };
        if self.journal {
            write!(to, "<{priority}>")?;
        } else {
            SystemTime.format_time(&mut to)?;
            if to.has_ansi_escapes() {
                write!(to, " \u{1b}[{colour}m{word}\u{1b}[0m ")?;
            } else {
                write!(to, " {word} ")?;
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        writeln!(to, "{fields}")
    }
}

fn escaped(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
        text
    })
}

/// The parts of a line.
#[derive(Default)]
struct Fields {
    machine: String,
    code: String,
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

impl Fields {
    fn put(&mut self, name: &str, value: String) {
        // Nearly no line holds one, and a busy server writes tens of thousands a second.
        let value = if value.contains(char::is_control) {
            escaped(&value)
        } else {
            value
        };
        match name {
            "machine" => self.machine = value,
            "code" => self.code = value,
            "message" => self.message = value,
            name => {
                // Writing to a String cannot fail.
                let _ = write!(self.others, "  {name}={value}");
            }
        }
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.machine.is_empty() {
            write!(f, "{}: ", self.machine)?;
        }
        write!(f, "{}{}", self.message, self.others)?;
        if self.code.is_empty() {
            Ok(())
        } else {
            write!(f, "  [{}]", self.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Pot(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Pot {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(journal: bool, ansi: bool) -> String {
        let pot = Pot::default();
        let writer = pot.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(ansi)
            .event_format(Form { journal })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(code = "HTTP_BROKEN", machine = "web1", "vmlinuz broke off\nINFO forged");
            tracing::info!(port = 80, "serving");
        });
        let bytes = pot.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn one_line_says_one_thing() {
        assert_eq!(
            lines(true, false),
            "<4>web1: vmlinuz broke off\\nINFO forged  [HTTP_BROKEN]\n<6>serving  port=80\n"
        );
        let plain = lines(false, false);
        assert_eq!(plain.lines().count(), 2);
        assert!(
            plain.contains("Z WARN  web1: vmlinuz") && !plain.contains('\u{1b}'),
            "{plain}"
        );
        assert!(lines(false, true).contains("\u{1b}[33mWARN \u{1b}[0m web1"));
    }
}
