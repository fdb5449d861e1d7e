//! Cobbler's XML-RPC: for koan without a login, for scripts with one.
//!
//! [`admit()`] is the one gate: it looks a method up in the one table of methods ([`METHODS`]) and judges what it needs; what is not in the
//! table does not exist. [`look`] answers what only reads, [`keep`] what is remembered or changed; a change leaves here as a
//! [`Change`](crate::inventory::Change), which [`Face`] has judged and stored. Pure but for [`Face`].
//!
//! Never gives out a secret: what is read without a login is a projection (the fields that koan reads), what is read with one holds
//! nothing that [`Secret`](crate::model::Secret) hides.

pub mod decode;
pub mod encode;
mod fault;
mod item;
mod methods;
mod power;
mod read;
mod register;
mod rendered;
mod resolved;
mod serve;
mod session;
pub mod status;
mod task;
mod text;
mod value;
mod write;

pub use fault::Fault;
pub use methods::{Admitted, Asked, METHODS, Method, Needs, Outcome, admit, keep, look};
pub use serve::Face;
pub use session::{Draft, Sessions, Task};
pub use value::{Value, members};
