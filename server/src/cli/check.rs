//! `check`: looks for everything that would keep machines from booting or installing, and names the remedy of each.
#![expect(clippy::disallowed_methods, reason = "looks at the modes of the configuration file")]

use super::desk::Desk;
use super::exit::{Ended, Failure};
use super::explain::roughly;
use super::{host, link, preview};
use crate::boot::World;
use crate::config::{Config, DhcpListen, DhcpMode};
use crate::dhcp::{Link, links, probe};
use crate::inventory::{is_anonymous, repo_problems, resolve_profile, resolve_system};
use crate::model::{Binding, ImageType};
use crate::{render, store};
use serde_json::json;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// Systems that are rendered one by one; what breaks one of more breaks many of these.
const TRIED: usize = 1000;

/// What was found.
#[derive(Default)]
struct Findings {
    problems: Vec<String>,
    /// What was looked at and is well, or could not be looked at.
    notes: Vec<String>,
    passed: usize,
}

impl Findings {
    /// One check: no problem means that it passed.
    fn check(&mut self, problems: Vec<String>) {
        if problems.is_empty() {
            self.passed = self.passed.saturating_add(1);
        }
        self.problems.extend(problems);
    }
}

pub(super) fn run(desk: &Desk) -> Result<Ended, Failure> {
    let config = &desk.settings.config;
    let mut found = Findings::default();
    let daemon = link::answers(&config.state);
    found.check(defaults(config));
    found.check(state(desk)?);
    found.check(config_file(desk));
    found.check(link::outdated(&desk.settings).into_iter().collect());
    let links = match links::served(config) {
        Ok(links) => {
            found.check(addressless(config, &links));
            links
        }
        Err(error) => {
            found.check(vec![error.to_string()]);
            Vec::new()
        }
    };
    found.check(unserved(config, &links));
    bindings(config, &mut found);
    ports(config, daemon, &mut found);
    rivals(config, &links, &mut found);
    let heard = link::rivals(&config.state, desk.now);
    found.check(
        heard
            .into_iter()
            .map(|(ago, what)| {
                format!(
                    "{what}, {} ago; the daemon heard it: stop that server, or use [dhcp] mode = \"proxy\"",
                    roughly(ago)
                )
            })
            .collect(),
    );
    match desk.inventory() {
        Ok(inventory) => served(&desk.world(inventory)?, &mut found),
        // Told already, with the rest of the state.
        Err(_) if !found.problems.is_empty() => {}
        Err(failure) => return Err(failure),
    }
    let problems = if found.problems.len() == 1 {
        "problem"
    } else {
        "problems"
    };
    let summary = format!("{} {problems}, {} checks passed", found.problems.len(), found.passed);
    if desk.printer.json {
        desk.printer.json(&json!({
            "problems": found.problems, "notes": found.notes, "passed": found.passed, "daemon": daemon,
        }))?;
    } else {
        let mut text = String::new();
        for (number, problem) in (1_usize..).zip(&found.problems) {
            text.push_str(&format!("{number}. {problem}\n"));
        }
        text.push_str(&format!("{summary}\n"));
        desk.printer.data(&text)?;
        for note in &found.notes {
            desk.printer.note(format!("note  {note}"));
        }
    }
    Ok(if found.problems.is_empty() {
        Ended::Well
    } else {
        Ended::No
    })
}

/// What the inventory leads to.
fn served(world: &World, found: &mut Findings) {
    found.check(loaders(world));
    found.check(
        world
            .assets
            .problems
            .iter()
            .map(|(what, why)| format!("{what}: {why}"))
            .collect(),
    );
    found.check(distros(world));
    found.check(images(world));
    found.check(chains(world));
    found.check(templates(world));
    found.check(repo_problems(&world.inventory));
    found.notes.extend(koan(world));
}

fn defaults(config: &Config) -> Vec<String> {
    if config.defaults.root_password_hash.is_some() || !config.defaults.ssh_authorized_keys.is_empty() {
        return Vec::new();
    }
    vec!["no default root password hash or SSH key: machines installed now could not be logged into ([defaults] in cordwainer.toml)".to_owned()]
}

fn state(desk: &Desk) -> Result<Vec<String>, Failure> {
    if !desk.has_state()? {
        return Ok(Vec::new());
    }
    let folder = match desk.folder() {
        Ok(folder) => folder,
        Err(failure) => return Ok(vec![failure.text().trim().trim_start_matches("error: ").to_owned()]),
    };
    let mut problems: Vec<String> = folder
        .findings()?
        .into_iter()
        .map(|finding| format!("{} {}", finding.path.display(), finding.what))
        .collect();
    problems.extend(store::audit(&folder)?);
    Ok(problems)
}

/// A configuration that holds a password hash is for its owner and the service.
fn config_file(desk: &Desk) -> Vec<String> {
    let Some(file) = &desk.settings.file else {
        return Vec::new();
    };
    let open = fs::metadata(file).is_ok_and(|meta| meta.mode() & 0o007 != 0);
    if open && desk.settings.config.defaults.root_password_hash.is_some() {
        let path = file.display();
        return vec![format!(
            "{path} holds a password hash and everyone may read it: chown root:cordwainer {path}; chmod 0640 {path}"
        )];
    }
    Vec::new()
}

fn addressless(config: &Config, links: &[Link]) -> Vec<String> {
    let without = links.iter().filter(|link| link.addresses.is_empty());
    let mut problems: Vec<String> = without
        .map(|link| {
            format!(
                "{} has no IPv4 address, so machines there could not fetch anything: ip address add ADDRESS/LEN dev {}",
                link.name, link.name
            )
        })
        .collect();
    if let Some(address) = config.address
        && !links::every()
            .iter()
            .any(|link| link.addresses.iter().any(|net| net.addr() == address))
    {
        problems.push(format!(
            "[server] address {address} is no address of this host: machines would be sent to somebody else"
        ));
    }
    problems
}

/// Subnets that no served interface is in and no relay reaches.
fn unserved(config: &Config, links: &[Link]) -> Vec<String> {
    if config.dhcp != DhcpMode::Authoritative {
        return Vec::new();
    }
    let on_link = |subnet: &crate::model::Subnet| {
        links
            .iter()
            .flat_map(|link| &link.addresses)
            .any(|net| subnet.network.contains(&net.addr()))
    };
    config
        .subnets
        .iter()
        .filter(|subnet| {
            config
                .network_of(subnet)
                .into_iter()
                .all(|subnet| subnet.relays.is_empty() && !on_link(subnet))
        })
        .map(|subnet| {
            format!("[[subnet]] {} is on no served interface and has no relays: nobody there is answered; give an interface an address in it, or name its relays", subnet.network)
        })
        .collect()
}

fn bindings(config: &Config, found: &mut Findings) {
    for subnet in &config.subnets {
        let (word, means) = match subnet.binding {
            Binding::Lease => (
                "lease",
                "answer files go to the machine that holds our lease of the address",
            ),
            Binding::Neighbour => (
                "neighbour",
                "answer files go to the machine whose MAC the kernel sees at the address; it must be on link",
            ),
            Binding::Guest => ("guest", "answer files go to guests of this host"),
            Binding::TokenOnly => (
                "token-only",
                "whoever learns the token gets the answer file: anyone who can listen on the way",
            ),
        };
        found.notes.push(format!("{} binds by {word}: {means}", subnet.network));
    }
    if config.subnets.is_empty() {
        found.notes.push(
            "no [[subnet]]: answer files are bound by the kernel's neighbour entry; machines must be on link"
                .to_owned(),
        );
    }
}

/// Ports that somebody else has. A running daemon has them itself.
fn ports(config: &Config, daemon: bool, found: &mut Findings) {
    if daemon {
        found.notes.push("the daemon runs and has its ports".to_owned());
        return;
    }
    let mut udp = vec![(
        config.tftp_port,
        "TFTP",
        "another TFTP server runs (tftpd, dnsmasq): stop it",
    )];
    match config.dhcp {
        DhcpMode::Authoritative => udp.push((
            67,
            "DHCP",
            "another DHCP server runs on this host (dnsmasq, libvirt's, dhcpd): stop it",
        )),
        // Where another server has the port, the proxy takes its packets past it.
        DhcpMode::Proxy if config.dhcp_listen != DhcpListen::Udp => {}
        DhcpMode::Proxy => {
            udp.push((
                67,
                "DHCP",
                "another DHCP server runs on this host (dnsmasq, libvirt's, dhcpd): set [dhcp] listen = \"auto\"",
            ));
            udp.push((4011, "proxyDHCP", "another proxyDHCP server runs: stop it"));
        }
        DhcpMode::Off => {}
    }
    let tries = udp
        .into_iter()
        .map(|(port, what, remedy)| (host::udp_taken(port), format!("UDP port {port} ({what})"), remedy))
        .chain(std::iter::once((
            host::tcp_taken(config.http_port),
            format!("TCP port {} (HTTP)", config.http_port),
            "another web server runs: stop it, or set [http] port",
        )));
    for (taken, what, remedy) in tries {
        match taken {
            None => found.check(Vec::new()),
            Some(error) if error.kind() == io::ErrorKind::AddrInUse => {
                found.check(vec![format!("{what} is taken: {remedy}")])
            }
            Some(error) => found
                .notes
                .push(format!("{what} could not be tried ({error}); run check as root")),
        }
    }
}

/// Other DHCP servers: in authoritative mode one is a problem, in proxy mode none is worth a word.
fn rivals(config: &Config, links: &[Link], found: &mut Findings) {
    if config.dhcp == DhcpMode::Off {
        return;
    }
    let looks: Vec<_> = std::thread::scope(|scope| {
        let probes: Vec<_> = links
            .iter()
            .map(|link| (link, scope.spawn(|| probe::probe(link, probe::WAIT))))
            .collect();
        probes.into_iter().map(|(link, probe)| (link, probe.join())).collect()
    });
    for (link, look) in looks {
        let others = match look {
            Ok(Ok(others)) => others,
            Ok(Err(error)) => {
                found.notes.push(format!(
                    "{}: other DHCP servers could not be looked for ({error}); run check as root",
                    link.name
                ));
                continue;
            }
            Err(_) => {
                found
                    .notes
                    .push(format!("{}: other DHCP servers could not be looked for", link.name));
                continue;
            }
        };
        let name = &link.name;
        match (config.dhcp, others.first()) {
            (DhcpMode::Authoritative, Some(other)) => found.check(vec![format!(
                "{name}: another DHCP server answers at {}{}; authoritative mode will not start (stop it, use [dhcp] mode = \"proxy\", or serve --i-own-this-subnet)",
                other.server,
                other.hardware.map_or_else(String::new, |mac| format!(" ({mac})"))
            )]),
            (DhcpMode::Proxy, None) => found
                .notes
                .push(format!("{name}: no DHCP server offered an address to a stranger; in proxy mode somebody else must give addresses")),
            _ => found.check(Vec::new()),
        }
    }
}

/// Loaders that firmware asks for: without one of each group its machines stay dark.
fn loaders(world: &World) -> Vec<String> {
    let groups: [(&[&str], &str, &str); 2] = [
        (&["undionly.kpxe"], "BIOS", "ipxe"),
        (&["snponly.efi", "ipxe.efi"], "UEFI x64", "ipxe"),
    ];
    let mut problems: Vec<String> = groups
        .iter()
        .filter(|(names, _, _)| !names.iter().any(|name| world.assets.loaders.contains_key(*name)))
        .map(|(names, firmware, package)| {
            format!(
                "loader {} ({firmware}) is missing: apt install {package}",
                names.first().copied().unwrap_or("")
            )
        })
        .collect();
    let wants = |word: &str| {
        let by_system = world.inventory.systems().any(|system| {
            system
                .boot_loaders
                .own()
                .is_some_and(|loaders| loaders.iter().any(|loader| loader == word))
        });
        let by_profile = world.inventory.profiles().any(|profile| {
            profile
                .boot_loaders
                .own()
                .is_some_and(|loaders| loaders.iter().any(|loader| loader == word))
        });
        by_system
            || by_profile
            || world
                .inventory
                .distros()
                .any(|distro| distro.boot_loaders.iter().any(|loader| loader == word))
    };
    let has = |names: &[&str]| names.iter().any(|name| world.assets.loaders.contains_key(*name));
    if wants("pxe") && !has(&["lpxelinux.0", "pxelinux.0"]) {
        problems
            .push("loader pxelinux.0 (--boot-loaders pxe) is missing: apt install pxelinux syslinux-common".to_owned());
    }
    if wants("grub") && !has(&["bootnetx64.efi", "grubnetx64.efi", "grubx64.efi"]) {
        problems.push(
            "loader grubnetx64.efi (--boot-loaders grub) is missing: apt install grub-efi-amd64-signed shim-signed"
                .to_owned(),
        );
    }
    problems
}

fn images(world: &World) -> Vec<String> {
    let files = world.assets.images.iter();
    let mut problems: Vec<String> = files
        .filter_map(|(image, file)| Some(format!("image {image} cannot be booted: {}", (**file).as_ref().err()?)))
        .collect();
    let wants = |image: &&std::sync::Arc<crate::model::Image>| image.image_type == ImageType::Memdisk;
    if world.inventory.images().any(|image| wants(&image)) && !world.assets.loaders.contains_key("memdisk") {
        problems.push(
            "memdisk is missing, so images of that type boot by iPXE only, block by block: install the package syslinux-common \
             (syslinux on Red Hat)"
                .to_owned(),
        );
    }
    problems
}

fn distros(world: &World) -> Vec<String> {
    let mut problems = Vec::new();
    for distro in world.inventory.distros() {
        let Some(media) = world.assets.media.get(&distro.name) else {
            continue;
        };
        for found in std::iter::once(&media.kernel).chain(&media.initrd) {
            if let Err(why) = found {
                problems.push(format!("distro {} cannot be booted: {why}", distro.name));
            }
        }
        if let Some(signature) = &distro.signature
            && !world.assets.signatures.contains_key(signature)
            && signature.as_str() != "generic"
        {
            problems.push(format!("distro {} was recognised by signature {signature}, which is gone: put it back, or import the tree again", distro.name));
        }
    }
    problems
}

/// Where koan is used: the profiles that `koan --profile` gets no answer file of.
fn koan(world: &World) -> Option<String> {
    let mut profiles = world.inventory.profiles();
    let used = world.config.cobbler.api
        && profiles.any(|profile| {
            ["anonymous_autoinstall", "koan_hosts"]
                .iter()
                .any(|field| profile.extra.contains_key(*field))
        });
    let closed: Vec<&str> = world
        .inventory
        .profiles()
        .filter(|profile| !is_anonymous(&world.inventory, profile.name.as_str()))
        .map(|profile| profile.name.as_str())
        .take(20)
        .collect();
    (used && !closed.is_empty()).then(|| {
        format!(
            "`koan --profile` gets no answer file of {}: only a profile with anonymous-autoinstall = true gives one to anyone, with all that \
             stands in it; `koan --system` needs none, from the armed machine itself or a host in koan-hosts",
            closed.join(", ")
        )
    })
}

/// Objects whose ancestors are not all there, and armings of machines that nobody can be.
fn chains(world: &World) -> Vec<String> {
    let profiles = world.inventory.profiles().filter_map(|profile| {
        resolve_profile(&world.inventory, profile.name.as_str())
            .err()
            .map(|why| format!("profile {} is broken: {why}", profile.name))
    });
    let systems = world.inventory.systems().filter_map(|system| {
        resolve_system(&world.inventory, system.name.as_str())
            .err()
            .map(|why| format!("system {} is broken: {why}", system.name))
    });
    profiles.chain(systems).collect()
}

fn templates(world: &World) -> Vec<String> {
    let mut problems = Vec::new();
    let mut said = std::collections::BTreeSet::new();
    for (kind, name) in preview::everyone(world, TRIED) {
        let Ok(resolved) = preview::resolve(kind, name.as_str(), &world.inventory) else {
            continue;
        };
        for answer in preview::answers(world, resolved) {
            if let Err(error) = render::answer_file(&answer, world)
                && said.insert(error.to_string())
            {
                let remedy = preview::remedy(&answer, &error.template, world);
                problems.push(format!("{error} (rendered for {kind} {name}): {remedy}"));
            }
        }
    }
    problems
}
