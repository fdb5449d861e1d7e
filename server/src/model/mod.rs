//! Plain values of the field: they parse, they print, and once they exist they cannot be wrong.
//!
//! Pure. Nothing here knows another module of ours, a clock, a file or a socket.

mod arch;
mod arm;
mod beside;
mod defaults;
mod dict;
mod image;
mod inherit;
mod lease;
mod link;
mod mac;
mod name;
mod object;
mod octets;
mod power;
mod redact;
mod role;
mod secret;
mod subnet;
mod text_path;
mod time;
mod version;
mod virt;

pub use arch::{Arch, ArchCode, BadArch, BadFirmware, Firmware};
pub use arm::{Arm, ArmId, State, base32};
pub use beside::{Menu, Repo};
pub use defaults::Defaults;
pub use dict::{BadDict, Dict, DictValue};
pub(crate) use dict::{quoted, words};
pub use image::{BadImageType, Image, ImageType};
pub use inherit::Inherit;
pub use lease::{Lease, LeaseState};
pub use link::{
    BOND_OPTIONS, BadLink, BondingOpts, BridgeOpts, InterfaceType, LONGEST_LINK_NAME, Mtu, StaticRoute, vlan_of,
};
pub use mac::{BadMac, Mac};
pub use name::{BadName, Hostname, Name};
pub use object::{Distro, Interface, Kind, Medium, Parent, Profile, System, Tree};
pub use octets::{BadOctets, Octets, RelayPort};
pub use power::Power;
pub use redact::{looks_like_token, redact_text};
pub use role::{Role, Standing};
pub use secret::Secret;
pub use subnet::{Advertise, BadPool, Binding, Pool, RelayAddress, Subnet};
pub use text_path::TextPath;
pub use time::{BadSpan, Span, Timestamp};
pub use version::{check_version_rule, version_holds, version_numbers};
pub use virt::{Virt, VirtWish};
