//! HTTP: boot scripts, kernels, initrds, install trees and answer files go out, reports of installers come in.
//!
//! [`respond()`] is the pure half, from a request to a reply. [`Server`] moves the bytes; nothing else here touches the world.

pub mod content_type;
pub mod guesses;
pub mod head;
pub mod listing;
pub mod range;
mod respond;
pub mod route;
pub mod serve;

pub use respond::{Body, FileRef, HttpRequest, Reply, Role, Source, Who, respond};
pub use route::{Method, Route};
/// The content type of `/metrics`.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub use serve::{BindError, Options, Patience, Ports, Server};
