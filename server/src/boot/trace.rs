//! The reasons of a decision: the rule that held, those passed over, in the order they were tried.

use std::fmt;

/// One rule and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A short stable name: `firmware uefi-x64`, `quirk broken-option-43`, `armed`.
    pub name: String,
    /// True when it gave the answer, false when it was passed over.
    pub held: bool,
    /// Why, in words for the admin. Never a secret.
    pub why: String,
}

/// The reasons, in order. The last rule that held is the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// Every rule that was looked at.
    pub rules: Vec<Rule>,
}

impl Trace {
    /// Notes a rule that gave (part of) the answer.
    pub fn held(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.rules.push(Rule {
            name: name.into(),
            held: true,
            why: why.into(),
        });
    }

    /// Notes a rule that did not apply.
    pub fn passed(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.rules.push(Rule {
            name: name.into(),
            held: false,
            why: why.into(),
        });
    }

    /// The rule that decided.
    #[must_use]
    pub fn verdict(&self) -> Option<&Rule> {
        self.rules.iter().rev().find(|rule| rule.held)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict() {
            Some(rule) => write!(f, "{}: {}", rule.name, rule.why),
            None => f.write_str("no rule held"),
        }
    }
}
