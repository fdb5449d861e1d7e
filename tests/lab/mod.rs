//! The test lab: hosts as network namespaces, machines as QEMU guests with real firmware, a tiny distro that really installs.
//! It must never leave a process, a namespace or a file behind, never wait for readiness by time, and never touch the host's own network.
#![allow(dead_code, reason = "a harness offers more than the tests of one day use")]

pub mod child;
pub mod cpio;
pub mod distro;
pub mod events;
pub mod files;
pub mod guest_modules;
pub mod libvirtd;
pub mod lossy;
pub mod need;
pub mod netns;
pub mod peers;
pub mod server;
pub mod vm;
pub mod watch;
pub mod weather;
pub mod wire;

mod bad_weather;
mod debian;
mod deny;
mod grub_http;
mod guest_hosts;
mod guest_life;
mod guest_power;
mod guests;
mod images;
mod loops;
mod power_cut;
mod proof;
mod routers;
