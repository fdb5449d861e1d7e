//! The only file that prints: data on standard output, everything else on standard error. Never a secret: what is printed was built
//! from values that hide them.

use super::args::Global;
use super::exit::Failure;
use serde::Serialize;
use serde_json::Value;
use std::io::{self, IsTerminal as _, Write as _};

/// Prints as the global options want it.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// JSON instead of text.
    pub json: bool,
    /// Results and errors only.
    pub quiet: bool,
    /// How much more to say.
    pub verbose: u8,
}

impl Printer {
    /// A printer for these options.
    #[must_use]
    pub const fn new(global: &Global) -> Self {
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
        }
    }

    /// Prints data as it is.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn data(&self, text: &str) -> Result<(), Failure> {
        raw(text.as_bytes())
    }

    /// Prints bytes as they are: what a guest's console writes.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        raw(bytes)
    }

    /// Prints one line of data.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn line(&self, text: impl std::fmt::Display) -> Result<(), Failure> {
        self.data(&format!("{text}\n"))
    }

    /// Prints `value` as JSON.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Output(error.into()))?;
        self.line(text)
    }

    /// Prints one JSON value on one line, as a stream of them needs it.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn json_line(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::Output(error.into()))?;
        self.line(text)
    }

    /// Prints `value` as JSON, or the text, as it was asked for.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn either(&self, value: &impl Serialize, text: &str) -> Result<(), Failure> {
        if self.json { self.json(value) } else { self.data(text) }
    }

    /// Says something beside the data, unless --quiet.
    pub fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            error(&format!("{text}\n"));
        }
    }

    /// Says something that only --verbose wants to hear.
    pub fn detail(&self, text: impl std::fmt::Display) {
        if self.verbose > 0 {
            error(&format!("{text}\n"));
        }
    }

    /// True when progress may be drawn: a person watches, and wants to.
    #[must_use]
    pub fn draws(&self) -> bool {
        !self.quiet && !self.json && io::stderr().is_terminal()
    }
}

/// Writes bytes to standard output.
fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Writes to standard error. Nobody is left to tell when that fails.
pub fn error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// True when a person reads standard output.
#[must_use]
pub fn to_terminal() -> bool {
    io::stdout().is_terminal()
}

/// What moves a terminal's cursor up by `lines` and clears from there on.
#[must_use]
pub fn back(lines: usize) -> String {
    if lines == 0 {
        String::new()
    } else {
        format!("\u{1b}[{lines}A\u{1b}[J")
    }
}

/// True when a person reads standard error, and colour is welcome there.
#[must_use]
pub fn errors_to_terminal() -> bool {
    io::stderr().is_terminal()
}

/// `value` with the members of `more` beside its own.
#[must_use]
pub fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(own), Value::Object(more)) = (&mut value, more) {
        own.extend(more);
    }
    value
}

/// Rows with their columns aligned, two blanks apart, nothing after the last.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let rows = [
            vec!["a".to_owned(), "bb".into(), "c".into()],
            vec!["aaaa".into(), "b".into()],
        ];
        assert_eq!(table(&rows), "a     bb  c\naaaa  b\n");
    }
}
