//! A hypervisor through libvirt: connections, domains, volumes. Every call blocks, and may take as long as the network does; callers have
//! threads of their own. It decides nothing: [`super::flow`] does.
#![allow(clippy::disallowed_methods, reason = "IO: libvirt")]

mod adopt;
mod console;
mod events;
mod facts;
mod volumes;

pub use console::{Console, Tail, is_kernel_chatter};
pub use events::{Seen, Watch};
pub use volumes::{Made, Media};

use super::element::Element;
use super::flow::{Boot, Observed, Power, Stop};
use super::metadata::{self, Metadata, NAMESPACE, PREFIX};
use super::protocol::{DiskState, Guest, Life};
use super::spec::{Spec, Uuid};
use crate::model::Mac;
use std::path::PathBuf;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::enumutil::Enum;
use virt::error::ErrorNumber;
use virt::sys;

/// Seconds between two signs of life of a connection, and how many may be missed: as virsh has it. A hypervisor under load is silent for
/// longer than one would think, and with its connection a migration ends.
const KEEPALIVE: (i32, u32) = (5, 6);

/// Looks at a guest that stops and starts while it is looked at.
const LOOKS: usize = 10;

/// libvirt refused, or cannot be reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DriverError {
    /// The connection does not come up, or is gone.
    #[error("{uri} does not answer: {why}")]
    Away {
        /// The hypervisor.
        uri: String,
        /// What libvirt says.
        why: String,
    },
    /// There is no such thing.
    #[error("there is no {what} on {uri}")]
    Missing {
        /// `guest web1`.
        what: String,
        /// The hypervisor.
        uri: String,
    },
    /// libvirt refused.
    #[error("{uri} refuses to {what}: {why}")]
    Refused {
        /// The hypervisor.
        uri: String,
        /// `start guest web1`.
        what: String,
        /// What libvirt says.
        why: String,
    },
    /// What it says cannot be read.
    #[error("{uri} says what cannot be understood of {what}: {why}")]
    Strange {
        /// The hypervisor.
        uri: String,
        /// Of what.
        what: String,
        /// Why.
        why: String,
    },
    /// We refuse.
    #[error("{0}")]
    Clash(String),
}

impl DriverError {
    /// True when the connection is gone, so that all is looked at anew once it is back.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// A connection to one hypervisor. Cheap to clone; libvirt's own calls are safe from several threads.
#[derive(Clone)]
pub struct Hypervisor {
    uri: String,
    connect: Connect,
}

impl std::fmt::Debug for Hypervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hypervisor").field(&self.uri).finish()
    }
}

/// A domain, as it is now.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its uuid.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// What we keep of it; none when it is not ours, an error when it cannot be read.
    pub kept: Result<Option<Metadata>, String>,
    /// What runs.
    pub observed: Observed,
}

impl Hypervisor {
    /// Connects.
    ///
    /// # Errors
    /// [`DriverError::Away`].
    pub fn open(uri: &str) -> Result<Self, DriverError> {
        events::prepare();
        let away = |error: virt::error::Error| DriverError::Away {
            uri: uri.to_owned(),
            why: shortened(&super::away::explained(uri, error.message().trim(), &account())),
        };
        let connect = Connect::open(Some(&without_questions(uri))).map_err(away)?;
        // The test driver knows no keepalive, and local sockets need none.
        if let Err(error) = connect.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1) {
            tracing::debug!(%uri, "no keepalive: {}", said(&error));
        }
        Ok(Self {
            uri: uri.to_owned(),
            connect,
        })
    }

    /// Its URI, as the admin wrote it.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// True while the connection stands.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.connect.is_alive().unwrap_or(false)
    }

    /// Tells what happens to its domains, and its own end.
    ///
    /// # Errors
    /// [`DriverError`] when libvirt refuses.
    pub fn watch(&self, tell: impl Fn(Seen) + Send + Sync + 'static) -> Result<Watch, DriverError> {
        events::watch(&self.connect, Box::new(tell))
            .map_err(|error| self.error("tell what happens to its guests", &error))
    }

    fn error(&self, what: &str, error: &virt::error::Error) -> DriverError {
        let gone = matches!(
            code(error),
            Some(ErrorNumber::NoConnect | ErrorNumber::InvalidConn | ErrorNumber::Rpc | ErrorNumber::SystemError)
        ) && !self.is_alive();
        if gone {
            DriverError::Away {
                uri: self.uri.clone(),
                why: said(error),
            }
        } else {
            DriverError::Refused {
                uri: self.uri.clone(),
                what: what.to_owned(),
                why: said(error),
            }
        }
    }

    fn strange(&self, what: &str, why: impl ToString) -> DriverError {
        DriverError::Strange {
            uri: self.uri.clone(),
            what: what.to_owned(),
            why: why.to_string(),
        }
    }

    fn missing(&self, what: String, error: &virt::error::Error) -> DriverError {
        match code(error) {
            Some(ErrorNumber::NoDomain | ErrorNumber::NoStoragePool) => DriverError::Missing {
                what,
                uri: self.uri.clone(),
            },
            _ => self.error(&format!("look for {what}"), error),
        }
    }

    fn by_uuid(&self, uuid: &Uuid) -> Result<Domain, DriverError> {
        self.connect
            .lookup_domain_by_uuid_string(uuid.as_str())
            .map_err(|error| self.missing(format!("guest {uuid}"), &error))
    }

    /// The domain of this name, if there is one.
    ///
    /// # Errors
    /// [`DriverError`] when that cannot be told.
    pub fn find(&self, name: &str) -> Result<Option<Uuid>, DriverError> {
        match self.connect.lookup_domain_by_name(name) {
            Ok(domain) => self.uuid_of(&domain).map(Some),
            Err(error) => match self.missing(format!("guest {name}"), &error) {
                DriverError::Missing { .. } => Ok(None),
                other => Err(other),
            },
        }
    }

    /// The name of the domain with this uuid, if there is one.
    ///
    /// # Errors
    /// [`DriverError`] when that cannot be told.
    pub fn name_of(&self, uuid: &Uuid) -> Result<Option<String>, DriverError> {
        match self.by_uuid(uuid) {
            Ok(domain) => domain
                .name()
                .map(Some)
                .map_err(|error| self.error("name a guest", &error)),
            Err(DriverError::Missing { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn uuid_of(&self, domain: &Domain) -> Result<Uuid, DriverError> {
        let text = domain
            .uuid_string()
            .map_err(|error| self.error("name a guest", &error))?;
        text.parse().map_err(|bad| self.strange("a guest", bad))
    }

    fn domains(&self) -> Result<Vec<Domain>, DriverError> {
        self.connect
            .list_all_domains(0)
            .map_err(|error| self.error("list its guests", &error))
    }

    fn live_xml(&self, domain: &Domain) -> Result<String, DriverError> {
        domain.xml_desc(0).map_err(|error| self.error("show a guest", &error))
    }

    /// The configuration of the next boot; of a domain that has none, the running one.
    fn final_xml(&self, domain: &Domain) -> Result<String, DriverError> {
        domain
            .xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)
            .map_err(|error| self.error("show a guest", &error))
    }

    /// State and configuration are two questions, and a guest may stop between them: only the XML of a running one has an id.
    fn observe_domain(&self, domain: &Domain) -> Result<Observed, DriverError> {
        for _ in 0..LOOKS {
            let (state, reason) = raw_state(domain).ok_or_else(|| self.state_error())?;
            let how = match state {
                sys::VIR_DOMAIN_SHUTOFF => shutoff(reason),
                sys::VIR_DOMAIN_CRASHED => Stop::Crashed,
                _ => {
                    let boot = boot_of(&self.live_xml(domain)?).map_err(|why| self.strange("a guest", why))?;
                    let Some(boot) = boot else { continue };
                    return Ok(Observed {
                        power: Power::On(boot),
                        how: Stop::Unknown,
                    });
                }
            };
            return Ok(Observed { power: Power::Off, how });
        }
        Err(self.strange("a guest", "it runs, and it does not"))
    }

    fn state_error(&self) -> DriverError {
        self.error("tell how a guest stands", &virt::error::Error::last_error())
    }

    fn known(&self, domain: &Domain) -> Result<Known, DriverError> {
        let name = domain.name().map_err(|error| self.error("name a guest", &error))?;
        let kept = metadata::parse(&self.final_xml(domain)?).map_err(|bad| bad.to_string());
        Ok(Known {
            uuid: self.uuid_of(domain)?,
            name,
            kept,
            observed: self.observe_domain(domain)?,
        })
    }

    /// What `look` says of every domain; of one that goes away meanwhile nothing.
    fn of_each<T>(&self, look: impl Fn(&Self, &Domain) -> Result<T, DriverError>) -> Result<Vec<T>, DriverError> {
        let mut all = Vec::new();
        for domain in self.domains()? {
            match look(self, &domain) {
                Ok(seen) => all.push(seen),
                Err(error) if error.is_away() => return Err(error),
                Err(error) => tracing::debug!(%error, "a guest went away while it was looked at"),
            }
        }
        Ok(all)
    }

    /// Every domain. One that goes away while it is looked at is left out.
    ///
    /// # Errors
    /// [`DriverError`] when they cannot be listed.
    pub fn all(&self) -> Result<Vec<Known>, DriverError> {
        self.of_each(Self::known)
    }

    /// What a guest does now.
    ///
    /// # Errors
    /// [`DriverError`], also [`DriverError::Missing`].
    pub fn observe(&self, uuid: &Uuid) -> Result<Observed, DriverError> {
        self.observe_domain(&self.by_uuid(uuid)?)
    }

    /// What is kept of a guest, and what it does.
    ///
    /// # Errors
    /// [`DriverError`], also [`DriverError::Missing`].
    pub fn look(&self, uuid: &Uuid) -> Result<Known, DriverError> {
        self.known(&self.by_uuid(uuid)?)
    }

    /// Defines the configuration of every later boot.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn define(&self, name: &str, xml: &str) -> Result<(), DriverError> {
        self.connect
            .define_domain_xml(xml)
            .map(drop)
            .map_err(|error| self.error(&format!("define guest {name}"), &error))
    }

    /// Starts the installing configuration over the defined one. A guest's UEFI variables are its installation's: `anew` resets them.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn create(&self, name: &str, xml: &str, paused: bool, anew: bool) -> Result<(), DriverError> {
        let mut flags = sys::VIR_DOMAIN_NONE;
        if paused {
            flags |= sys::VIR_DOMAIN_START_PAUSED;
        }
        if anew {
            flags |= sys::VIR_DOMAIN_START_RESET_NVRAM;
        }
        self.connect
            .create_domain_xml(xml, flags)
            .map(drop)
            .map_err(|error| self.error(&format!("start guest {name}"), &error))
    }

    /// Writes what we keep of a guest into the configuration of its next boot.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn remember(&self, metadata: &Metadata) -> Result<(), DriverError> {
        let domain = self.by_uuid(&metadata.spec.uuid)?;
        let element = i32::try_from(sys::VIR_DOMAIN_METADATA_ELEMENT).unwrap_or(2);
        domain
            .set_metadata(
                element,
                Some(&metadata.fragment()),
                Some(PREFIX),
                Some(NAMESPACE),
                sys::VIR_DOMAIN_AFFECT_CONFIG,
            )
            .map_err(|error| self.error(&format!("note how guest {} stands", metadata.spec.name), &error))
    }

    /// Starts the defined configuration. One that runs already stays as it is.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn start(&self, uuid: &Uuid, paused: bool) -> Result<(), DriverError> {
        let domain = self.by_uuid(uuid)?;
        let flags = if paused {
            sys::VIR_DOMAIN_START_PAUSED
        } else {
            sys::VIR_DOMAIN_NONE
        };
        match domain.create_with_flags(flags) {
            Ok(()) => Ok(()),
            Err(_) if domain.is_active().unwrap_or(false) => Ok(()),
            Err(error) => Err(self.error(&format!("start guest {}", self.named(&domain)), &error)),
        }
    }

    fn named(&self, domain: &Domain) -> String {
        domain.name().unwrap_or_else(|_| "without a name".to_owned())
    }

    /// Does something to a domain, and says what when libvirt refuses.
    fn act(
        &self,
        uuid: &Uuid,
        what: &str,
        act: impl FnOnce(&Domain) -> Result<(), virt::error::Error>,
    ) -> Result<(), DriverError> {
        let domain = self.by_uuid(uuid)?;
        act(&domain).map_err(|error| self.error(&format!("{what} guest {}", self.named(&domain)), &error))
    }

    /// Sets or clears autostart.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn autostart(&self, uuid: &Uuid, on: bool) -> Result<(), DriverError> {
        self.act(uuid, "set autostart of", |domain| domain.set_autostart(on))
    }

    /// Asks it to power off: its agent where one answers, else ACPI. True when it was its agent.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn shutdown(&self, uuid: &Uuid) -> Result<bool, DriverError> {
        let domain = self.by_uuid(uuid)?;
        if domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_GUEST_AGENT).is_ok() {
            return Ok(true);
        }
        // Xen and the test driver know no ways.
        domain
            .shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
            .or_else(|_| domain.shutdown())
            .map(|()| false)
            .map_err(|error| {
                self.error(
                    &format!("ask for the power-off of guest {}", self.named(&domain)),
                    &error,
                )
            })
    }

    /// True while it runs.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn is_on(&self, uuid: &Uuid) -> Result<bool, DriverError> {
        self.by_uuid(uuid)?
            .is_active()
            .map_err(|error| self.error("tell whether a guest runs", &error))
    }

    /// Cuts its power.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn destroy(&self, uuid: &Uuid) -> Result<(), DriverError> {
        self.act(uuid, "cut the power of", |domain| match domain.destroy() {
            Err(_) if !domain.is_active().unwrap_or(true) => Ok(()),
            done => done,
        })
    }

    /// Asks it to reboot.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn reboot(&self, uuid: &Uuid) -> Result<(), DriverError> {
        self.act(uuid, "reboot", |domain| domain.reboot(sys::VIR_DOMAIN_REBOOT_DEFAULT))
    }

    /// Stops its processors.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn suspend(&self, uuid: &Uuid) -> Result<(), DriverError> {
        self.act(uuid, "suspend", |domain| domain.suspend())
    }

    /// Lets its processors run again.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn resume(&self, uuid: &Uuid) -> Result<(), DriverError> {
        self.act(uuid, "resume", |domain| domain.resume().map(drop))
    }

    /// Puts its memory on the hypervisor's disk and stops it.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn save(&self, uuid: &Uuid) -> Result<(), DriverError> {
        self.act(uuid, "save", |domain| domain.managed_save(0).map(drop))
    }

    /// True when its memory lies on the hypervisor's disk.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn is_saved(&self, uuid: &Uuid) -> Result<bool, DriverError> {
        let domain = self.by_uuid(uuid)?;
        Ok(domain.has_managed_save(0).unwrap_or(false))
    }

    /// Moves it to another hypervisor, running, with its configuration; its disks too where they are to be copied.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn migrate(&self, uuid: &Uuid, to: &Self, copy_storage: bool) -> Result<(), DriverError> {
        self.act(uuid, &format!("migrate to {} the", to.uri), |domain| {
            let mut flags = sys::VIR_MIGRATE_LIVE | sys::VIR_MIGRATE_PERSIST_DEST | sys::VIR_MIGRATE_UNDEFINE_SOURCE;
            if copy_storage {
                flags |= sys::VIR_MIGRATE_NON_SHARED_DISK;
            }
            domain.migrate(&to.connect, flags, None, None, 0).map(drop)
        })
    }

    /// Takes a domain away with all that libvirt keeps of it, but for its disks.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn undefine(&self, uuid: &Uuid) -> Result<(), DriverError> {
        let all = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
        self.act(uuid, "take away", |domain| {
            // Drivers without UEFI, and old ones, know fewer flags.
            domain
                .undefine_flags(all)
                .or_else(|_| domain.undefine_flags(sys::VIR_DOMAIN_UNDEFINE_NVRAM))
                .or_else(|_| domain.undefine())
        })
    }

    /// A guest as `guest show` has it.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn guest(&self, uuid: &Uuid) -> Result<Guest, DriverError> {
        let domain = self.by_uuid(uuid)?;
        let mut guest = self.tell_of(&domain)?;
        let kept = metadata::parse(&self.final_xml(&domain)?).unwrap_or(None);
        // It may have been moved here since it was made.
        guest.spec = kept.map(|kept| {
            Box::new(Spec {
                connect: self.uri.clone(),
                ..kept.spec
            })
        });
        Ok(guest)
    }

    /// Every guest as `guest list` has it.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn guests(&self) -> Result<Vec<Guest>, DriverError> {
        let mut all = self.of_each(Self::tell_of)?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn tell_of(&self, domain: &Domain) -> Result<Guest, DriverError> {
        let (state, _) = raw_state(domain).ok_or_else(|| self.state_error())?;
        let saved = domain.has_managed_save(0).unwrap_or(false);
        let life = match state {
            sys::VIR_DOMAIN_PAUSED | sys::VIR_DOMAIN_PMSUSPENDED => Life::Paused,
            sys::VIR_DOMAIN_SHUTDOWN => Life::Stopping,
            sys::VIR_DOMAIN_SHUTOFF if saved => Life::Saved,
            sys::VIR_DOMAIN_SHUTOFF => Life::Defined,
            sys::VIR_DOMAIN_CRASHED => Life::Crashed,
            _ => Life::Running,
        };
        let xml = self.final_xml(domain)?;
        let root = Element::parse(&xml).map_err(|bad| self.strange("a guest", bad))?;
        let kept = metadata::parse(&xml).unwrap_or(None);
        let devices = root.first("devices");
        let text = |name: &str| root.first(name).map(|element| element.text.clone());
        let kib: u64 = domain.max_memory().unwrap_or(0);
        Ok(Guest {
            name: domain.name().map_err(|error| self.error("name a guest", &error))?,
            uuid: self.uuid_of(domain)?,
            connect: self.uri.clone(),
            life,
            installation: kept.as_ref().map(|kept| kept.state.phase.clone()),
            system: kept.as_ref().and_then(|kept| kept.spec.system.clone()),
            profile: kept.as_ref().and_then(|kept| kept.spec.profile.clone()),
            autostart: domain.autostart().unwrap_or(false),
            memory: kib / 1024,
            vcpus: text("vcpu").and_then(|text| text.trim().parse().ok()).unwrap_or(0),
            macs: devices.map(macs).unwrap_or_default(),
            disks: with_backing(
                devices.map(disks).unwrap_or_default(),
                kept.as_ref().map(|kept| &kept.spec),
            ),
            serial_log: devices.and_then(serial_log),
            spec: None,
        })
    }

    /// Every hardware address on this hypervisor, and whose it is.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn macs(&self) -> Result<Vec<(Mac, Uuid, String)>, DriverError> {
        let mut all = Vec::new();
        for guest in self.guests()? {
            let (uuid, name) = (guest.uuid, guest.name);
            all.extend(guest.macs.into_iter().map(|mac| (mac, uuid.clone(), name.clone())));
        }
        Ok(all)
    }
}

fn code(error: &virt::error::Error) -> Option<ErrorNumber> {
    match error.code() {
        Enum::Known(code) => Some(code),
        Enum::Unknown(_) => None,
    }
}

/// State and reason as libvirt numbers them.
fn raw_state(domain: &Domain) -> Option<(sys::virDomainState, i32)> {
    events::state(domain)
}

/// `virDomainShutoffReason`.
const fn shutoff(reason: i32) -> Stop {
    match reason {
        1 | 8 => Stop::Guest,
        2 => Stop::Destroyed,
        3 => Stop::Crashed,
        4 | 5 | 7 => Stop::Aside,
        6 => Stop::Killed,
        _ => Stop::Unknown,
    }
}

/// What a running domain was started with: only the installing configuration turns a reboot into a stop. None when it does not run.
fn boot_of(live: &str) -> Result<Option<Boot>, String> {
    let root = Element::parse(live).map_err(|bad| bad.to_string())?;
    if root.attribute("id").is_none() {
        return Ok(None);
    }
    let on_reboot = root.first("on_reboot").map(|element| element.text.trim().to_owned());
    Ok(Some(if on_reboot.as_deref() == Some("destroy") {
        Boot::Installer
    } else {
        Boot::Disk
    }))
}

fn macs(devices: &Element) -> Vec<Mac> {
    devices
        .all("interface")
        .filter_map(|nic| nic.first("mac")?.attribute("address")?.parse().ok())
        .collect()
}

fn disks(devices: &Element) -> Vec<DiskState> {
    devices
        .all("disk")
        .filter(|disk| disk.attribute("device") != Some("cdrom"))
        .filter_map(|disk| {
            Some(DiskState {
                target: disk.first("target")?.attribute("dev")?.to_owned(),
                source: source_of(disk.first("source")?)?,
                backing: disk
                    .first("backingStore")
                    .and_then(|backing| source_of(backing.first("source")?)),
            })
        })
        .collect()
}

/// What a thin disk stands on is told by libvirt while it is open only; we know it of those that we made.
fn with_backing(mut disks: Vec<DiskState>, spec: Option<&Spec>) -> Vec<DiskState> {
    let made = spec.map(|spec| spec.disks.as_slice()).unwrap_or_default();
    for (disk, made) in disks.iter_mut().zip(made) {
        let stands_on = made.backing.as_ref();
        disk.backing = disk
            .backing
            .take()
            .or_else(|| stands_on.map(|backing| format!("{}/{}", backing.pool, backing.volume)));
    }
    disks
}

/// A disk's source as one text: a path, or `pool/volume`.
fn source_of(source: &Element) -> Option<String> {
    let volume = || Some(format!("{}/{}", source.attribute("pool")?, source.attribute("volume")?));
    ["file", "dev"]
        .into_iter()
        .find_map(|name| source.attribute(name).map(str::to_owned))
        .or_else(volume)
}

fn serial_log(devices: &Element) -> Option<PathBuf> {
    devices
        .all("serial")
        .find_map(|serial| serial.first("log")?.attribute("file").map(PathBuf::from))
}

/// ssh must not ask for a password on a terminal that nobody sees.
fn without_questions(uri: &str) -> String {
    if !uri.contains("+ssh://") || uri.contains("no_tty=") {
        return uri.to_owned();
    }
    let sign = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{sign}no_tty=1")
}

/// Who this process is, as libvirt and ssh take it.
fn account() -> String {
    let id = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(id) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("\"#{id}\""),
    }
}

/// What libvirt says, as one line.
fn said(error: &virt::error::Error) -> String {
    let text = error.message().trim();
    let text = if text.is_empty() {
        "libvirt gives no reason"
    } else {
        text
    };
    shortened(text)
}

/// What a person reads of a long message: its beginning, and its end, where QEMU says why.
fn shortened(text: &str) -> String {
    const BEGINNING: usize = 240;
    const END: usize = 260;
    let chars: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match (chars.get(..BEGINNING), chars.len().checked_sub(END)) {
        (Some(beginning), Some(rest)) if rest > BEGINNING => {
            let end = chars.get(rest..).unwrap_or_default();
            beginning.iter().chain(&[' ', '.', '.', '.', ' ']).chain(end).collect()
        }
        _ => chars.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_its_end() {
        let long = format!("internal error: {}: Permission denied", "x".repeat(900));
        let short = shortened(&long);
        assert!(
            short.starts_with("internal error") && short.ends_with("Permission denied"),
            "{short}"
        );
        assert_eq!(short.chars().count(), 505);
        for text in ["", "short\nand plain", &"y".repeat(500)] {
            assert_eq!(shortened(text), text.replace('\n', " "));
        }
    }

    #[test]
    fn ssh_never_asks() {
        for (uri, expected) in [
            ("qemu:///system", "qemu:///system"),
            ("qemu+ssh://root@h/system", "qemu+ssh://root@h/system?no_tty=1"),
            (
                "qemu+ssh://h/system?keyfile=/k",
                "qemu+ssh://h/system?keyfile=/k&no_tty=1",
            ),
            ("qemu+ssh://h/system?no_tty=0", "qemu+ssh://h/system?no_tty=0"),
        ] {
            assert_eq!(without_questions(uri), expected);
        }
    }

    #[test]
    fn only_the_installing_configuration_turns_a_reboot_into_a_stop() {
        for (xml, boot) in [
            (
                "<domain id='1'><on_reboot>destroy</on_reboot></domain>",
                Some(Boot::Installer),
            ),
            (
                "<domain id='1'><on_reboot>restart</on_reboot></domain>",
                Some(Boot::Disk),
            ),
            ("<domain id='1'/>", Some(Boot::Disk)),
            ("<domain><on_reboot>restart</on_reboot></domain>", None),
        ] {
            assert_eq!(boot_of(xml), Ok(boot));
        }
    }
}
