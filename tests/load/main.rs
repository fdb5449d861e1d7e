//! The load generators of `tests/bench`: one program, one word for what it plays. It prints figures, one line each, and never judges.
//!
//! Every generator also runs against an answerer of its own that does nothing but answer (`ceiling`): what it cannot reach there, no server
//! can show.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a load generator stops at the first surprise"
)]

mod cobbler;
mod dora;
mod http;
mod inventory;
mod oracle;
mod storm;
mod tftp;

use std::collections::BTreeMap;
use std::str::FromStr;

/// `--key value` pairs.
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// The value of `--key`, or `default`.
    pub fn get<T: FromStr>(&self, key: &str, default: &str) -> T {
        let text = self.0.get(key).map_or(default, String::as_str);
        text.parse().unwrap_or_else(|_| panic!("--{key} {text} cannot be read"))
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let part = words.next().unwrap_or_default();
    let mut pairs = BTreeMap::new();
    while let Some(key) = words.next() {
        let value = words.next().unwrap_or_else(|| panic!("{key} has no value"));
        pairs.insert(key.trim_start_matches("--").to_owned(), value);
    }
    let arguments = Arguments(pairs);
    match part.as_str() {
        "tftp" => tftp::run(&arguments),
        "tftp-ceiling" => tftp::answer(&arguments),
        "async-tftp" => oracle::run(&arguments),
        "dora" => dora::run(&arguments),
        "dora-ceiling" => dora::answer(&arguments),
        "http" => http::run(&arguments),
        "http-ceiling" => http::answer(&arguments),
        "cobbler" => cobbler::run(&arguments),
        "inventory" => inventory::make(&arguments),
        "storm" => storm::run(&arguments),
        _ => panic!("load tftp|dora|http|storm|inventory|cobbler, the first three with -ceiling, or async-tftp"),
    }
}

/// The value at `part` (0 to 1) of a sorted list.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}
