//! `cordwainer guest supervise`: the only process that speaks with libvirt, and how the command line asks it.

mod client;

pub use client::{Client, ClientError, Replies};
