//! `guest create`, `clone` and `reinstall`: the system and its arming in the inventory, the guest at the supervisor; all or nothing.

use super::super::args::guest::{AccelWish, After, CloneGuest, Create, FirmwareWish, Phases, Reinstall, Shape};
use super::super::desk::{Desk, Served};
use super::super::exit::{Ended, Failure};
use super::super::{arm, link, object};
use super::{armed_line, client, command_line, console, follow, image, own, owner, reach, refused, tell, which};
use crate::guest::flow::{Job, Proof};
use crate::guest::protocol::{Reply, Request, Which};
use crate::guest::supervise::{Client, ClientError, Supervisor};
use crate::guest::wish::{self, DiskWish};
use crate::guest::{Accel, Boot, Firmware, Host, Medium, Method, Options, Spec, Uuid, domain_xml, plan};
use crate::inventory::{Assignment, Change, Inventory, Resolved, resolve_image, resolve_profile, resolve_system};
use crate::model::{ArmId, Image, ImageType, Kind, Mac, Name, VirtWish};
use std::path::PathBuf;
use std::sync::Arc;

/// What is to be made.
struct Wanted<'a> {
    name: Name,
    /// A system of this profile is made.
    profile: Option<Name>,
    /// It is this system.
    system: Option<Name>,
    method: Option<Method>,
    connect: &'a str,
    disks: Vec<DiskWish>,
    shape: &'a Shape,
    iso: Option<PathBuf>,
    /// It is made of this image.
    image: Option<Arc<Image>>,
    uuid: Option<Uuid>,
    after: &'a After,
}

/// What the inventory says of it.
struct Known {
    virt: VirtWish,
    resolved: Option<Resolved>,
    least_memory: Option<u32>,
    reboots_midway: bool,
    interfaces: Vec<(Mac, Option<String>)>,
}

/// The supervisor, where it is asked.
struct Asked {
    client: Client,
    /// Ours, for this command's life.
    own: Option<Supervisor>,
}

fn names(text: Option<&String>) -> Result<Option<Name>, Failure> {
    text.map(|text| object::named(text)).transpose()
}

pub(super) fn create(options: &Create, desk: &Desk) -> Result<Ended, Failure> {
    let name = object::named(options.place.as_deref().or(options.name.as_deref()).unwrap_or_default())?;
    let mut asked = None;
    if options.reinstall {
        let which = Which {
            guest: name.clone(),
            connect: Some(options.at.connect.clone()),
        };
        asked = ask_whom(desk, Some(&options.at.connect), &options.after)?;
        let there = asked.as_ref().map(|asked| asked.client.ask_one(&Request::Show(which)));
        if let Some(Ok(Reply::Guest(guest))) = there {
            let profile = names(options.profile.as_ref())?;
            return again(
                desk,
                guest.spec.map(|spec| *spec),
                &name,
                profile,
                &options.after,
                asked,
            );
        }
    }
    let uuid = options.uuid.as_ref().map(|text| text.parse::<Uuid>());
    let system = names(options.system.as_ref())?;
    let image = image::find(desk, options.image.as_ref(), system.as_ref())?;
    let wanted = Wanted {
        profile: names(options.profile.as_ref())?,
        system,
        method: image.as_ref().map(|image| image::method(image)).or(options.method),
        image,
        connect: &options.at.connect,
        disks: options.disks.clone(),
        shape: &options.shape,
        iso: options.iso.clone(),
        uuid: uuid.transpose().map_err(refused)?,
        after: &options.after,
        name,
    };
    make(desk, &wanted, asked)
}

pub(super) fn clone(options: &CloneGuest, desk: &Desk) -> Result<Ended, Failure> {
    let name = object::named(options.place.as_deref().or(options.name.as_deref()).unwrap_or_default())?;
    let (pool, volume) = match options.from.split_once('/') {
        Some((pool, volume)) => (Some(pool.to_owned()), volume.to_owned()),
        None => (None, options.from.clone()),
    };
    // Read as it would be typed, so that names are judged by the same rule.
    let mut disk: DiskWish = format!("backing={}", options.from)
        .parse()
        .map_err(|why| Failure::usage(format!("--from: {why}"), "name the golden volume as [POOL/]VOLUME"))?;
    disk.backing = Some((pool, volume));
    disk.pool.clone_from(&options.pool);
    disk.size = options
        .size
        .as_deref()
        .map(wish::size)
        .transpose()
        .map_err(|why| Failure::usage(format!("--size: {why}"), "write GiB, like 20"))?;
    let wanted = Wanted {
        profile: names(options.profile.as_ref())?,
        system: names(options.system.as_ref())?,
        method: Some(Method::Import),
        connect: &options.at.connect,
        disks: vec![disk],
        shape: &options.shape,
        iso: None,
        image: None,
        uuid: None,
        after: &options.after,
        name,
    };
    make(desk, &wanted, None)
}

pub(super) fn reinstall(options: &Reinstall, desk: &Desk) -> Result<Ended, Failure> {
    let guest = which(&options.guest)?;
    let name = guest.guest.clone();
    let profile = names(options.profile.as_ref())?;
    // Also what is only printed is printed of a guest that there is, which only a supervisor knows.
    let asked = match ask_whom(desk, guest.connect.as_deref(), &options.after)? {
        Some(asked) => asked,
        None => Asked {
            client: client(desk)?,
            own: None,
        },
    };
    match asked.client.ask_one(&Request::Show(guest))? {
        Reply::Guest(guest) => again(
            desk,
            guest.spec.map(|spec| *spec),
            &name,
            profile,
            &options.after,
            Some(asked),
        ),
        _ => Err(Failure::said(
            format!("there is no guest {name}"),
            "cordwainer guest list",
        )),
    }
}

const fn is_dry(after: &After) -> bool {
    after.print_xml.is_some() || after.dry_run
}

/// The supervisor: where nothing is made, only one that runs; else one of our own where none does.
fn ask_whom(desk: &Desk, connect: Option<&str>, after: &After) -> Result<Option<Asked>, Failure> {
    if is_dry(after) {
        let running = Client::connect(&desk.settings.config.state).ok();
        return Ok(running.map(|client| Asked { client, own: None }));
    }
    let (client, own) = own::reach(desk, connect)?;
    Ok(Some(Asked { client, own }))
}

/// Installs a guest anew that there is: what it was made of stays.
fn again(
    desk: &Desk,
    spec: Option<Spec>,
    name: &Name,
    profile: Option<Name>,
    after: &After,
    asked: Option<Asked>,
) -> Result<Ended, Failure> {
    let mut spec = spec.ok_or_else(|| {
        Failure::said(
            format!("guest {name} was not made here, so what it is made of is not known"),
            format!("cordwainer guest delete {name}, then create it"),
        )
    })?;
    if spec.method == Method::Import {
        return Err(Failure::said(
            format!("guest {name} was never installed: it started from a disk that was there"),
            format!("cordwainer guest delete {name}, then create it with --method kernel"),
        ));
    }
    spec.reinstall = true;
    let mut changes = Vec::new();
    if let (Some(profile), Some(system)) = (&profile, &spec.system) {
        changes.push(Change::Edit {
            kind: Kind::System,
            name: system.clone(),
            fields: vec![("profile".to_owned(), profile.to_string())],
            in_place: false,
        });
        spec.profile = Some(profile.clone());
    }
    match asked.filter(|_| !is_dry(after)) {
        Some(asked) => {
            let least = match &spec.system {
                Some(system) => least_memory(desk, &resolve_system(&desk.inventory()?, system.as_str())?)?,
                None => None,
            };
            store(desk, spec, changes, after, asked, (true, least))
        }
        None => print(desk, &spec, after, &desk.inventory()?, changes),
    }
}

fn make(desk: &Desk, wanted: &Wanted<'_>, asked: Option<Asked>) -> Result<Ended, Failure> {
    if wanted.shape.firmware == Some(FirmwareWish::UefiSecure) {
        return Err(Failure::said(
            "--firmware uefi-secure is not there yet: such a firmware starts signed loaders only, and this server hands its guests an \
             unsigned iPXE or a kernel",
            "use --firmware uefi",
        ));
    }
    let inventory = desk.inventory()?;
    let known = known(desk, wanted, &inventory)?;
    let dry = is_dry(wanted.after);
    let asked = match asked {
        None => ask_whom(desk, Some(wanted.connect), wanted.after)?,
        asked => asked,
    };
    let host = match &asked {
        Some(asked) => {
            // Who wants the translator does not wait for what KVM does.
            let kvm = wanted.shape.accel != AccelWish::Tcg && known.virt.kind.as_deref() != Some("qemu");
            host_of(&asked.client, wanted.connect, kvm, dry)?
        }
        None => None,
    };
    let mut options = options(desk, wanted, &known, host.as_ref())?;
    let owner_of = |mac: Mac| {
        let owner = inventory.system_by_mac(mac).map(|system| system.name.clone());
        owner.filter(|owner| Some(owner) != wanted.system.as_ref())
    };
    let planned =
        |options: &Options| plan(&wanted.name, options, &known.virt, host.as_ref(), &owner_of).map_err(refused);
    let first = planned(&options)?;
    for nic in first.nics.iter().filter(|_| host.is_some()) {
        reach::session_bridge(wanted.connect, &nic.source)?;
    }
    let installs = first.method.installs() && known.resolved.is_some();
    if installs && let Some(nic) = first.nics.first() {
        let config = &desk.settings.config;
        let reach = reach::find(config, (wanted.connect, first.method), &nic.source, host.as_ref())?;
        options.server = Some(reach.server);
        options.dhcp = reach.dhcp;
        options.behind = reach.behind;
    }
    let spec = planned(&options)?;
    let changes = changes(wanted, &spec, &inventory);
    if dry {
        return print(desk, &spec, wanted.after, &inventory, changes);
    }
    let Some(asked) = asked else {
        return Ok(Ended::Well);
    };
    store(desk, spec, changes, wanted.after, asked, (false, known.least_memory))
}

/// What the inventory says of the guest, and whether it may be made of it.
fn known(desk: &Desk, wanted: &Wanted<'_>, inventory: &Inventory) -> Result<Known, Failure> {
    let resolved = match (&wanted.system, &wanted.profile) {
        (None, None) if let Some(image) = &wanted.image => Some(resolve_image(inventory, image.name.as_str())?),
        (Some(system), _) => {
            let name = system.as_str();
            if inventory.system(name).is_none() {
                return Err(object::unknown(inventory, Kind::System, name));
            }
            Some(resolve_system(inventory, name)?)
        }
        (None, Some(profile)) => {
            let name = wanted.name.as_str();
            if inventory.system(name).is_some() {
                return Err(Failure::said(
                    format!("there is a system `{name}` already"),
                    format!("make that one a guest with --system {name}, or choose another name"),
                ));
            }
            if inventory.profile(profile.as_str()).is_none() {
                return Err(object::unknown(inventory, Kind::Profile, profile.as_str()));
            }
            Some(resolve_profile(inventory, profile.as_str())?)
        }
        (None, None) if matches!(wanted.method, Some(Method::Import | Method::Iso)) => None,
        (None, None) => {
            return Err(Failure::usage(
                "it is not said what is installed",
                "give --profile PROFILE, or --system SYSTEM; only --method import and iso need neither",
            ));
        }
    };
    let Some(resolved) = resolved else {
        return Ok(Known {
            virt: VirtWish::default(),
            resolved: None,
            least_memory: None,
            reboots_midway: false,
            interfaces: Vec::new(),
        });
    };
    let world = desk.world(inventory.clone())?;
    let signature = world.assets.signature_of(&resolved.distro);
    let interfaces = resolved.system.iter().flat_map(|system| system.interfaces.values());
    let interfaces = interfaces.filter_map(|interface| Some((interface.mac_address?, interface.virt_bridge.clone())));
    Ok(Known {
        virt: resolved.virt.clone(),
        least_memory: signature.and_then(|signature| signature.min_ram_for(&resolved.distro.os_version)),
        reboots_midway: signature.is_some_and(|signature| signature.reboots_midway),
        interfaces: interfaces.collect(),
        resolved: Some(resolved).filter(|resolved| resolved.image.is_none()),
    })
}

/// MiB that the installer needs.
fn least_memory(desk: &Desk, resolved: &Resolved) -> Result<Option<u32>, Failure> {
    let world = desk.world(desk.inventory()?)?;
    let signature = world.assets.signature_of(&resolved.distro);
    Ok(signature.and_then(|signature| signature.min_ram_for(&resolved.distro.os_version)))
}

/// What the hypervisor has. Where nothing is made, one that does not answer is only told of.
fn host_of(client: &Client, connect: &str, kvm: bool, dry: bool) -> Result<Option<Host>, Failure> {
    let connect = connect.to_owned();
    match client.ask_one(&Request::Host { connect, kvm }) {
        Ok(Reply::Host(host)) => Ok(Some(*host)),
        Ok(_) => Ok(None),
        Err(_) if dry => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn options(desk: &Desk, wanted: &Wanted<'_>, known: &Known, host: Option<&Host>) -> Result<Options, Failure> {
    let shape = wanted.shape;
    let distro = known.resolved.as_ref().map(|resolved| &resolved.distro);
    let imported = distro
        .and_then(|distro| distro.tree.as_ref())
        .filter(|tree| tree.iso.is_some())
        .map(|tree| tree.root.clone());
    let profile = match &wanted.system {
        Some(_) => known
            .resolved
            .as_ref()
            .and_then(|resolved| resolved.system.as_ref())
            .and_then(|system| system.profile.clone()),
        None => wanted.profile.clone(),
    };
    let system = wanted
        .system
        .clone()
        .or_else(|| wanted.profile.as_ref().map(|_| wanted.name.clone()))
        // Nothing reports of an image, so that nobody is to wait for it.
        .filter(|_| wanted.image.is_none());
    let image = wanted.image.as_deref();
    let disks = match image.filter(|image| image.image_type == ImageType::VirtClone && wanted.disks.is_empty()) {
        Some(image) => vec![image::disk(image, host)?],
        None => wanted.disks.clone(),
    };
    let medium = image.and_then(image::medium);
    Ok(Options {
        connect: wanted.connect.to_owned(),
        job: ArmId::random(desk.random()?).0,
        owner: owner(),
        uuid: wanted.uuid.clone(),
        system,
        profile,
        arch: distro
            .map(|distro| distro.arch)
            .or_else(|| image.map(|image| image.arch)),
        least_memory: known.least_memory,
        reboots_midway: known.reboots_midway,
        interfaces: known.interfaces.clone(),
        method: wanted.method,
        accel: match shape.accel {
            AccelWish::Auto => None,
            AccelWish::Kvm => Some(Accel::Kvm),
            AccelWish::Tcg => Some(Accel::Tcg),
        },
        firmware: match shape.firmware {
            None => None,
            Some(FirmwareWish::Bios) => Some(Firmware::Bios),
            Some(FirmwareWish::Uefi | FirmwareWish::UefiSecure) => Some(Firmware::Uefi),
        },
        memory: shape.memory,
        vcpus: shape.vcpus,
        disks,
        nics: shape.networks.clone(),
        graphics: shape.graphics,
        autostart: shape.autostart,
        extra: shape.kernel_options.clone().unwrap_or_default(),
        start_paused: shape.start_paused,
        medium: wanted.iso.clone().or(imported).map(Medium::File).or(medium),
        edits: shape.xml_set.clone(),
        kvm_guess: reach::kvm_here(),
        ..Options::default()
    })
}

/// What the inventory learns: the system of --profile, or the address of a system that had none.
fn changes(wanted: &Wanted<'_>, spec: &Spec, inventory: &Inventory) -> Vec<Change> {
    let fields = |with_profile: bool| {
        let mut fields: Vec<Assignment> = Vec::new();
        if let (true, Some(profile)) = (with_profile, &wanted.profile) {
            fields.push(("profile".to_owned(), profile.to_string()));
        }
        let several = spec.nics.len() > 1;
        for (place, nic) in spec.nics.iter().enumerate() {
            // From the first on: fields that stand before an interface belong to it as well.
            if several {
                fields.push(("interface".to_owned(), format!("eth{place}")));
            }
            fields.push(("mac_address".to_owned(), nic.mac.to_string()));
        }
        fields
    };
    match &wanted.system {
        Some(name) => {
            let has_mac = inventory
                .system(name.as_str())
                .is_some_and(|system| system.macs().next().is_some());
            if has_mac {
                return Vec::new();
            }
            vec![Change::Edit {
                kind: Kind::System,
                name: name.clone(),
                fields: fields(false),
                in_place: false,
            }]
        }
        None if wanted.profile.is_some() => vec![Change::Add {
            kind: Kind::System,
            name: wanted.name.clone(),
            fields: fields(true),
        }],
        None => Vec::new(),
    }
}

/// Stores, arms, and has the guest made. What the supervisor refuses is taken back.
fn store(
    desk: &Desk,
    mut spec: Spec,
    changes: Vec<Change>,
    after: &After,
    asked: Asked,
    (again, least): (bool, Option<u32>),
) -> Result<Ended, Failure> {
    let adds = changes.iter().any(|change| matches!(change, Change::Add { .. }));
    let edits = changes.iter().any(|change| matches!(change, Change::Edit { .. }));
    let installs = spec.method.installs() && spec.system.is_some();
    let mut undo = Vec::new();
    let mut served = Served::Stored;
    if let (true, Some(system)) = (installs, spec.system.clone()) {
        if !link::answers(&desk.settings.config.state) {
            return Err(Failure::said(
                "the boot server does not run, and without it nothing is installed",
                "systemctl start cordwainer, or: cordwainer serve",
            ));
        }
        let wish = arm::Wish { span: None, again };
        let armed = arm::make(desk, changes, &system, &wish)?;
        spec.job.clone_from(&armed.arm.id.0);
        served = armed.applied.served;
        // Of a guest it is known whether it has the memory.
        let enough = format!("this installer needs {} MiB", least.unwrap_or(u32::MAX));
        let tells = |warning: &&String| least.is_none_or(|least| spec.memory < least) || !warning.starts_with(&enough);
        for warning in armed.warnings.iter().filter(tells) {
            desk.printer.note(format!("warning   {warning}"));
        }
        if desk.printer.json {
            desk.printer.json_line(&armed_line(&armed))?;
        }
        undo.push(Change::Disarm { system });
    } else if !changes.is_empty() {
        desk.apply(changes)?;
    }
    if installs && served != Served::Live {
        desk.printer
            .note("warning   the boot server has not taken the change up yet; the guest is made all the same");
    }
    if let (true, Some(system)) = (adds, spec.system.clone()) {
        undo.push(Change::Remove {
            kind: Kind::System,
            name: system,
            recursive: false,
        });
    }
    match ask(desk, &spec, &asked, again) {
        Err(Asking::Refused(why)) => {
            let taken_back = if undo.is_empty() {
                Ok(())
            } else {
                desk.apply(undo).map(drop)
            };
            let remedy = match taken_back {
                Ok(()) if edits => {
                    "nothing was made; its system keeps what was changed of it, and is not armed".to_owned()
                }
                Ok(()) => "nothing was made, and the inventory is as it was".to_owned(),
                Err(failure) => format!("the inventory could not be put back: {}", failure.text().trim_end()),
            };
            Err(Failure::said(why, remedy))
        }
        Err(Asking::Failed(failure)) => Err(failure),
        Ok(()) => {
            let which = Which {
                guest: spec.name.clone(),
                connect: Some(spec.connect.clone()),
            };
            then(desk, &spec, which, after, asked)
        }
    }
}

/// Why the supervisor did not make it.
enum Asking {
    /// It said no, and nothing is left.
    Refused(String),
    /// It was not understood, or went away: what is there is not known.
    Failed(Failure),
}

impl From<Failure> for Asking {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn ask(desk: &Desk, spec: &Spec, asked: &Asked, again: bool) -> Result<(), Asking> {
    let request = Request::Create {
        spec: Box::new(spec.clone()),
        again,
    };
    let replies = asked
        .client
        .ask(&request)
        .map_err(|error| Asking::Failed(error.into()))?;
    let mut is_made = false;
    for reply in replies {
        match reply {
            Err(ClientError::Refused(why)) => return Err(Asking::Refused(why)),
            Err(error) => return Err(Asking::Failed(error.into())),
            Ok(Reply::Created(guest)) => {
                is_made = true;
                if desk.printer.json {
                    desk.printer.json_line(&Reply::Created(guest))?;
                }
            }
            Ok(other) => tell(&other, desk)?,
        }
    }
    if is_made {
        Ok(())
    } else {
        Err(Asking::Failed(Failure::said(
            format!("the supervisor did not say whether guest {} was made", spec.name),
            format!("cordwainer guest show {}", spec.name),
        )))
    }
}

/// Says what there is now, and waits or talks where that was asked for.
fn then(desk: &Desk, spec: &Spec, which: Which, after: &After, asked: Asked) -> Result<Ended, Failure> {
    let name = &spec.name;
    let runs = match (spec.method.installs(), spec.start_paused) {
        (_, true) => "its processors are stopped",
        (true, false) => "its installer runs",
        (false, false) => "it runs from its disk",
    };
    if !desk.printer.json {
        desk.printer
            .line(format!("created   guest {name} on {}; {runs}", spec.connect))?;
        let macs: Vec<String> = spec.nics.iter().map(|nic| nic.mac.to_string()).collect();
        desk.printer.line(format!("network   {}", macs.join(", ")))?;
    }
    if spec.start_paused && !desk.printer.json {
        desk.printer.line(format!("next      cordwainer guest resume {name}"))?;
    }
    if after.console {
        let ended = console::attach(&asked.client, which.clone(), false, desk);
        match ended {
            ended if asked.own.is_none() => return ended,
            Ok(_) => {}
            // The guest needs its supervisor, which is this process, with a console or without.
            Err(failure) => desk.printer.note(failure.text().trim_end()),
        }
    }
    // A supervisor of our own ends when `asked` goes.
    if after.wait.is_some() || asked.own.is_some() {
        follow::wait(&asked.client, which, after.wait, desk)
    } else {
        if !desk.printer.json {
            desk.printer.line(format!("watch it  cordwainer guest wait {name}"))?;
        }
        Ok(Ended::Well)
    }
}

/// What the kernel's place is called where nothing was uploaded yet.
fn boot(spec: &Spec, command_line: String) -> Option<Boot> {
    Some(match spec.method {
        Method::Kernel | Method::XenPv => Boot::Kernel {
            kernel: PathBuf::from("/var/lib/libvirt/images/KERNEL"),
            initrd: Some(PathBuf::from("/var/lib/libvirt/images/INITRD")),
            command_line,
        },
        Method::Pxe => Boot::Network(spec.order()),
        Method::Iso => Boot::Cdrom(spec.medium.clone()?, spec.order()),
        Method::Import => Boot::Disk,
    })
}

/// `--print-xml` and `--dry-run`: nothing is stored, armed or made.
fn print(
    desk: &Desk,
    spec: &Spec,
    after: &After,
    inventory: &Inventory,
    changes: Vec<Change>,
) -> Result<Ended, Failure> {
    let proof = match (spec.method, &spec.system) {
        (Method::Import, _) => Proof::Disk,
        (_, Some(_)) => Proof::Report,
        (_, None) => Proof::Stop,
    };
    let state = Job::new(proof);
    let command_line = if spec.method.has_kernel() {
        command_line::preview(desk, inventory, spec, changes)?
    } else {
        String::new()
    };
    let boot = boot(spec, command_line);
    let install = match &boot {
        Some(boot) if spec.method.installs() => Some(domain_xml::installing(spec, boot, &state).map_err(refused)?),
        _ => None,
    };
    let finished = domain_xml::finished(spec, &state).map_err(refused)?;
    let Some(phases) = after.print_xml else {
        return dry(desk, spec, install.is_some());
    };
    if spec.method.has_kernel() && phases != Phases::Final {
        desk.printer.note(
            "note      KERNEL, INITRD and TOKEN are stand-ins: files are named after their content, and the token is the arming's",
        );
    }
    let mut texts = Vec::new();
    if phases != Phases::Final {
        texts.extend(install.clone());
    }
    if phases != Phases::Install || texts.is_empty() {
        texts.push(finished.clone());
    }
    let value = serde_json::json!({"install": install, "final": finished});
    desk.printer.either(&value, &texts.concat())?;
    Ok(Ended::Well)
}

/// What would be made, in words.
fn dry(desk: &Desk, spec: &Spec, two_phases: bool) -> Result<Ended, Failure> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |label: &str, text: String| rows.push(vec![label.to_owned(), text]);
    row(
        "guest",
        format!("{} on {}, uuid {}", spec.name, spec.connect, spec.uuid),
    );
    if let Some(system) = &spec.system {
        let profile = spec
            .profile
            .as_ref()
            .map_or_else(String::new, |profile| format!(", profile {profile}"));
        row("system", format!("{system}{profile}"));
    }
    row("method", spec.method.to_string());
    row(
        "made of",
        format!(
            "{} MiB of memory, {} processors ({}, {}), {} firmware",
            spec.memory, spec.vcpus, spec.arch, spec.accel, spec.firmware
        ),
    );
    for disk in &spec.disks {
        let size = disk.size.map_or_else(|| "as it is".to_owned(), crate::event::size);
        let place = match &disk.origin {
            crate::guest::Origin::Pool { pool, volume, .. } => format!("{pool}/{volume}"),
            crate::guest::Origin::File { path } | crate::guest::Origin::Block { path } => path.display().to_string(),
        };
        let backing = disk.backing.as_ref().map_or_else(String::new, |backing| {
            format!(", stands on {}/{}", backing.pool, backing.volume)
        });
        row(
            "disk",
            format!("{place}, {size}, {}, {}{backing}", disk.format, disk.bus),
        );
    }
    for nic in &spec.nics {
        let to = match &nic.source {
            crate::guest::NicSource::Bridge(bridge) => format!("bridge {bridge}"),
            crate::guest::NicSource::Network(network) => format!("network {network}"),
            crate::guest::NicSource::User => "QEMU's own network stack".to_owned(),
        };
        row("network", format!("{} on {to}", nic.mac));
    }
    if let Some(server) = spec.server {
        row("server", format!("this one, at {server}"));
    }
    row(
        "then",
        if two_phases {
            "installed, then started from its disk".to_owned()
        } else {
            "started from its disk".to_owned()
        },
    );
    let text = super::super::print::table(&rows);
    desk.printer.either(&serde_json::json!({"would_make": spec}), &text)?;
    Ok(Ended::Well)
}
