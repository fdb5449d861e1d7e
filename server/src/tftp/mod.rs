//! TFTP: the few files that firmware fetches before it can speak HTTP. Read-only, and never a walk through a folder.
//!
//! The pure half: [`packet`] is the codec, [`open`] judges what arrives at the well-known port, [`admit`] who may ask at all, and
//! [`transfer`] is one transfer as a state machine without a socket. [`serve`] moves the bytes.
//!
//! What firmware needs and other servers lack is written down here once: a second request from the port of a size probe is answered
//! at once ([`open`]), the answer leaves from the address that was asked ([`serve`]), a peer that went away holds nothing for long.

pub mod admit;
pub mod netascii;
pub mod open;
pub mod packet;
pub mod serve;
pub mod transfer;

#[cfg(test)]
mod chaos;
