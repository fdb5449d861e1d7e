//! Guests of libvirt as far as no hypervisor is needed: the configurations that are written, judged by libvirt's own schema and by its
//! test driver; what is refused; what the commands print; what Xen's PXE loader is served.

mod commands;
#[cfg(feature = "libvirt")]
mod flows;
mod goldens;
mod refusals;
mod schema;
mod xen;
