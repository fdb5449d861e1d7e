//! The few traits by which IO files meet. A serve.rs knows these and its own pure half, never another serve.rs.

use crate::boot::{Effect, World};
use crate::event::Event;
use crate::event::control::Launching;
use crate::install::Installation;
use crate::install::Installs;
use crate::inventory::Change;
use crate::model::{Lease, Mac, Name, Power, Secret, Standing, TextPath, Timestamp};
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;

/// Gives the snapshots of this moment.
pub trait Worlds: Send + Sync + 'static {
    /// The world now. Cheap: a few reference counts and a clock.
    fn world(&self) -> World;
    /// The kernel's neighbour entry (ARP) of `address`, read now. None when it is not on link or not known.
    fn neighbour(&self, address: Ipv4Addr) -> Option<Mac>;
}

/// Takes events. Never blocks; what the sink cannot hold it drops, and counts.
pub trait Events: Send + Sync + 'static {
    /// Records `event`.
    fn emit(&self, event: Event);
}

/// Who makes a call of XML-RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its address.
    pub peer: Ipv4Addr,
    /// The address of ours that it reached.
    pub local: Ipv4Addr,
    /// The kernel's neighbour entry of `peer`.
    pub neighbour: Option<Mac>,
}

/// Answers calls of Cobbler's XML-RPC.
pub trait Rpc: Send + Sync + 'static {
    /// The XML that answers this XML. Whatever goes wrong is a fault.
    fn call(&self, caller: Caller, body: Vec<u8>) -> BoxFuture<'_, String>;
}

/// The folders of an admin's templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFolder {
    /// `kickstarts/`.
    Templates,
    /// `snippets/`.
    Snippets,
}

impl TextFolder {
    /// Its name below the overrides folder.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Templates => "kickstarts",
            Self::Snippets => "snippets",
        }
    }

    /// What one of its files is called.
    #[must_use]
    pub const fn one(self) -> &'static str {
        match self {
            Self::Templates => "template",
            Self::Snippets => "snippet",
        }
    }
}

/// A template or snippet of the admin's that is to be as this says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextChange {
    /// What it is.
    pub folder: TextFolder,
    /// Where it lies.
    pub path: TextPath,
    /// Its text; none takes it away.
    pub text: Option<String>,
}

/// Takes changes of the inventory, and knows who may log in.
pub trait Writes: Send + Sync + 'static {
    /// Judges and stores the changes, all or none; resolves once they are served. An error says why not, for the one who asked.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), String>>;
    /// Writes or takes away a template or snippet; resolves once machines get the new one. An error says why not, for the one who asked.
    fn text(&self, change: TextChange) -> BoxFuture<'_, Result<(), String>>;
    /// A sync was asked for. There is nothing to write; hooks that wait for one are run.
    fn synced(&self);
    /// How `user` stands when `password` is his. Takes about as long for a user that there is not.
    fn verify(&self, user: String, password: Secret<String>) -> BoxFuture<'_, Option<Standing>>;
    /// How `user` stands now; none when there is no such user any more.
    fn standing(&self, user: String) -> BoxFuture<'_, Option<Standing>>;
}

/// Switches the power of systems.
pub trait Powers: Send + Sync + 'static {
    /// Does what is wished; true when the system has power then. An error says why not, and the remedy, for the one who asked.
    fn power(&self, system: Name, power: Power) -> BoxFuture<'_, Result<bool, String>>;
}

/// The state could not be made durable, so the reply must not leave.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the state was not stored: {0}")]
pub struct NotDurable(pub String);

/// A future that a port gives.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Takes the effects of decisions to the state task.
pub trait Effects: Send + Sync + 'static {
    /// Resolves when `effects` are on disk and in the published view. An error also when the installation has moved on since they were
    /// decided, so that the installer or a secret must not leave; the view then says what is true, and can be asked again.
    fn before(&self, effects: Vec<Effect>) -> BoxFuture<'_, Result<(), NotDurable>>;
    /// Hands `effects` over; they hold soon.
    fn after(&self, effects: Vec<Effect>);
}

/// Hands installers of armed guests to the supervisor.
pub trait Launches: Send + Sync + 'static {
    /// Claims the arming of `system`, durably, and says what starts its installer. `mac` is its card, `server` our address as it reaches us,
    /// `behind` the address of its hypervisor where it asks from that.
    /// An error is a sentence that says why not, and the remedy.
    fn launch(
        &self,
        system: Name,
        mac: Mac,
        server: Ipv4Addr,
        behind: Option<Ipv4Addr>,
    ) -> BoxFuture<'_, Result<Launching, String>>;
}

/// One row of live.db that a job wants written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveRow {
    /// Put this lease, replacing what its address had.
    Lease(Lease),
    /// Drop the row of this address.
    LeaseGone(Ipv4Addr),
    /// Put this installation, replacing its machine's.
    Installation(Box<Installation>),
}

/// Which jobs give way first when the queue fills (DESIGN 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// DHCPDISCOVER: dropped from half full on; the client asks again.
    Discover,
    /// DHCPDISCOVER of a machine on record: after what was begun, before strangers.
    KnownDiscover,
    /// DHCPREQUEST and the rest of DHCP: dropped when older than 2 s.
    Request,
    /// An effect of TFTP or HTTP: never dropped.
    Effect,
}

/// What a job wants stored, and what to do once it is (or is not) on disk.
pub struct Commit {
    /// Rows to write, in order.
    pub rows: Vec<LiveRow>,
    /// Rows that put `Live::leases` back as it was, applied in reverse order when `rows` could not be written: what is in memory is
    /// never more than what is on disk.
    pub undo: Vec<LiveRow>,
    /// Runs after the transaction that holds `rows`; an ACK leaves here. With no rows it runs once all that came before it is on disk.
    pub then: Box<dyn FnOnce(Result<(), NotDurable>) + Send>,
}

/// What the state task owns and jobs change.
#[derive(Debug, Default)]
pub struct Live {
    /// The lease table.
    pub leases: crate::dhcp::Leases,
    /// Installations and the read view that is published after each commit.
    pub installs: Installs,
    /// True while nothing can be written. A job that asks for rows fails then at once; one that answers a renewal for the remaining
    /// time asks for none.
    pub read_only: bool,
}

/// A job for the state task. It must not block.
pub type Job = Box<dyn FnOnce(&mut Live, Timestamp) -> Commit + Send>;

/// The state task as serve.rs sees it.
pub trait StateQueue: Send + Sync + 'static {
    /// Queues `job`; false when the queue is too full for its class, and the job is dropped.
    fn submit(&self, class: Class, received: Timestamp, job: Job) -> bool;
}
