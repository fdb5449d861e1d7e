//! Guests of libvirt: domains that install themselves and then boot from their disk.
//!
//! [`spec`] holds what a guest is, in plain values that travel over the supervisor's socket and stand in the domain's metadata;
//! [`mod@plan`] makes one from an admin's options, the profile's virt_* fields and the hypervisor's facts; [`domain_xml`] writes the
//! two configurations of the two-phase flow; [`flow`] decides each of its steps; [`metadata`] reads back what was written, so that
//! everything can be rebuilt from libvirt alone; [`xml_set`] is the escape hatch; [`away`] says why a hypervisor does
//! not answer. All of these are pure: none knows libvirt.

pub mod away;
pub mod domain_xml;
#[cfg(feature = "libvirt")]
pub mod driver;
pub mod element;
pub mod flow;
pub mod metadata;
pub mod plan;
pub mod protocol;
pub mod spec;
pub mod supervise;
pub mod wish;
pub mod xml_set;

pub use metadata::Metadata;
pub use plan::{Dhcp, Forward, Host, Network, Options, Pool, Refused, is_session, mac_of, plan};
pub use spec::{
    Accel, Backing, Boot, Bus, Disk, Firmware, Format, Graphics, Medium, Method, Nic, NicModel, NicSource, Order,
    Origin, Spec, Uuid, XmlEdit,
};
