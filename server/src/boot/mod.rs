//! The boot decision: one question, one answer, the reasons beside it. DHCP, TFTP, HTTP, `boot explain` and the page all ask here.
//!
//! Pure. It only chooses: it never renders, writes, blocks, or touches the lease table.

mod answer;
mod decide;
mod facts;
mod installer_network;
pub mod paths;
mod preview;
pub mod quirks;
mod trace;

pub use answer::{
    Answer, AnswerFile, BootFile, Decision, Dialect, Effect, ImageBoot, ImageStart, Launch, Menu, MenuEntry, MenuGroup,
    Script, When,
};
pub use decide::{KoanStart, decide, koan_start, still_stands};
pub use facts::{Ask, CobblerAsk, CobblerPage, Facts, FoundBy, Ipxe, Request, recognise};
pub use installer_network::LANGUAGES;
pub use preview::{missing_file, preview, previews};
pub use trace::{Rule, Trace};

use crate::assets::Assets;
use crate::config::Config;
use crate::install::{Installs, ServerKey};
use crate::inventory::Inventory;
use crate::model::Timestamp;
use std::sync::Arc;

/// Everything that a decision may look at: snapshots, swapped separately, and the time.
#[derive(Debug, Clone)]
pub struct World {
    /// What is true of this server.
    pub config: Arc<Config>,
    /// Objects and armings.
    pub inventory: Arc<Inventory>,
    /// Installations, lease holders, sightings.
    pub installs: Arc<Installs>,
    /// What can be served.
    pub assets: Arc<Assets>,
    /// Derives tokens.
    pub key: Arc<ServerKey>,
    /// Now.
    pub now: Timestamp,
}
