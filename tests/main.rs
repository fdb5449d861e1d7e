//! The integration tests: one binary, a folder per subject. They drive the real `cordwainer`, real peers and real firmware.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests stop at the first surprise"
)]

mod cli;
mod cobbler;
mod dhcp;
mod guest;
mod hostile;
mod http;
mod import;
mod iso;
mod lab;
mod render;
mod store;
mod tftp;
mod tidy;
