//! Fuzz targets: each is one function from bytes, drives one pure half of the server, and stops at the first broken promise.
//!
//! The libFuzzer binary of this package and `tests/fuzz` of the server compile these same files, so whatever the one finds the other
//! replays. A target reads no clock, no randomness and no network: the same bytes lead to the same steps, whoever runs them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a target is a test, and a panic is how it tells what it found"
)]

mod canary;
mod config;
mod detect;
mod dhcp;
mod document;
mod encoders;
mod http;
pub mod input;
mod iso;
mod leases;
mod ledger;
pub mod measure;
pub mod mutate;
mod paths;
mod rows;
mod scripts;
mod sinks;
mod template;
mod tftp;
mod walls;
mod world;
mod xmlrpc;

use std::time::Duration;

/// One target.
pub struct Target {
    /// The name of its folder below `corpus/`.
    pub name: &'static str,
    /// What is tried. Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Longest input that is worth trying, in bytes.
    pub longest: usize,
    /// Processor time that one input may take, with optimization.
    pub time: Duration,
    /// Bytes of the largest single allocation that one input may cause.
    pub memory: usize,
}

const MIB: usize = 1 << 20;

/// What a datagram, a request or a small document may cost (the server's own bound for anything off the wire).
const fn small(name: &'static str, run: fn(&[u8]), longest: usize) -> Target {
    Target {
        name,
        run,
        longest,
        time: Duration::from_millis(50),
        memory: MIB,
    }
}

/// Every target, by name.
pub static TARGETS: [Target; 17] = [
    small("config", config::run, 2048),
    small("detect", detect::run, 8192),
    small("dhcp", dhcp::run, 2560),
    small("document", document::run, 2048),
    Target {
        // A render may take all its fuel, and its output a mebibyte in a buffer that doubles.
        time: Duration::from_millis(500),
        memory: 4 * MIB,
        ..small("encoders", encoders::run, 256)
    },
    small("http", http::run, 1024),
    Target {
        // A folder is read whole; the image itself is made by the target.
        memory: 4 * MIB,
        ..small("iso", iso::run, 64 * 1024)
    },
    small("leases", leases::run, 512),
    small("packet", walls::tftp, 768),
    small("paths", paths::run, 512),
    small("route", walls::http, 512),
    small("rows", rows::run, 1024),
    small("scripts", scripts::run, 512),
    Target {
        // The engine repeats a text to at most 100 MB before anyone can look at it.
        time: Duration::from_millis(1000),
        memory: 128 * MIB,
        ..small("template", template::run, 8192)
    },
    small("tftp", tftp::run, 1024),
    small("wall", walls::dhcp, 640),
    small("xmlrpc", xmlrpc::run, 4096),
];

/// The target called `name`.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The install and report tokens of an arming of the worlds: what only their owners can ask for.
#[must_use]
pub fn tokens(arm: &str) -> [String; 2] {
    use cordwainer::install::TokenKind;
    [TokenKind::Install, TokenKind::Report].map(|kind| canary::token(arm, kind))
}

/// An image as an input of the target `iso`.
#[must_use]
pub fn packed_image(image: &[u8]) -> Vec<u8> {
    iso::pack(image)
}
