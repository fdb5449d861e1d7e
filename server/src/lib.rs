//! Cordwainer, a network boot server. This page is the map.
//!
//! # What flows where
//!
//! A machine powers on, its firmware shouts DHCP, and from then on every question it asks takes the same way, one call deep:
//!
//! ```text
//! bytes -> parse -> Request { facts, ask } -> boot::decide(&World, &Request) -> Decision { answer, trace, effects } -> render -> bytes
//!
//! World { config, inventory, installs, assets, key, now }      snapshots, swapped separately
//! ```
//!
//! [`dhcp`] answers with an address and a boot file, [`tftp`] sends the loader, [`http`] sends the script, kernel, initrd, install tree
//! and answer file and takes the installer's reports. Each has a pure half, one function from bytes to bytes, and a `serve` that moves
//! the bytes. All three, and `boot explain`, ask the same [`boot::decide`]; silence is a decision with its reason.
//!
//! What is true comes from four places: [`config`] (the file), [`inventory`] (objects and armings, edited in one place,
//! [`inventory::edit`]), [`install`] (installations as a state machine) and [`assets`] (what lies on the disk). [`distro`] recognises
//! trees and imports them. [`store`] keeps inventory.db and live.db; one state task owns leases and installations, and an ACK leaves
//! only after its lease is on disk. [`guest`] makes machines of libvirt. [`event`] says what happened. [`cli`] is what admins type; [`daemon`] wires it all.
//!
//! [`xmlrpc`] speaks as Cobbler does: one gate, one table of methods, each change a [`inventory::Change`] like those of the command line.
//! [`http`] carries its bytes through [`ports::Rpc`]; Cobbler's URLs are paths like ours, decided by [`boot`].
//!
//! HTTP/1.1 is spoken by [`http`] itself, not by a framework: the kernel sends files from the page cache to the socket (sendfile), which
//! hyper has no way to do and which nginx, measured beside it, was up to half as fast again by; and what cannot be framed in one way only
//! is refused there at once. The page of numbers on
//! `metrics_listen`, which serves people and no machine, is axum's.
//!
//! # Images
//!
//! A system stands on a profile or on an image, a single file that reports nothing. To arm one that stands on an image means: boot it once.
//! Its script is handed out by the rules of every installer; that the machine then fetches the file spends the arming
//! ([`install::Input::ImageFetched`]), and its state is [`model::State::Booted`], for nobody knows what is on its disk now. The file itself
//! is for anyone, as trees are, but for `virt-clone`: the disk of a guest may hold what an installed system holds.
//!
//! # To see the boot
//!
//! Read [`boot`] in this order: `facts` (what is known of who asks), `decide` (one function for each thing that can be asked), `answer`
//! (all that can be answered), `quirks` (firmware that needs something else). [`render`] turns answers into scripts and answer files.
//! `tests/lab` boots real firmware through all of it; `tests/demo` shows that.
//!
//! # Invariants
//!
//! - **Pure core, thin shell.** Only `serve`, `store`, `import` (with `beside`, `download`, `library`, `netboot`, `place` and `survey`), `tree`, `watch`, `sink`, `control`,
//!   `advertise`, `daemon` and `cli` touch the world; each says so in its first lines, and clippy refuses it elsewhere. Time and randomness are arguments.
//! - **Rendering never writes.** State changes only through a decision's effects: values, idempotent, Before or After the reply.
//! - **Default deny.** A machine that nobody armed boots from its own disk. A claimed MAC never yields a secret.
//! - **No file is generated on disk for a client.** An edit takes effect at once.
//! - **Nothing from the wire is trusted**: no `unwrap`, index or `as` on it, never a shell, never a template.

pub mod assets;
pub mod boot;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dhcp;
pub mod distro;
pub mod event;
pub mod guest;
pub mod http;
pub mod install;
pub mod inventory;
pub mod model;
pub mod ports;
pub mod render;
pub mod store;
pub mod tftp;
pub mod xmlrpc;
