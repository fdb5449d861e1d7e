//! From one change to the rows that it writes, before the whole is judged. Pure.

use super::check::{claims, unknown};
use super::fields::{
    NO_BREED, assign_distro, assign_image, assign_menu, assign_profile, assign_repo, assign_system, empty_profile,
    field,
};
use super::{Assignment, Change, Claim, Inventory, Refused, Row, RowChange, links, repos, resolve_system};
use crate::model::{Arch, Arm, Dict, Distro, Image, Inherit, Kind, Menu, Name, Parent, Repo, State, System};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The rows of `change`.
pub(super) fn plan(inventory: &Inventory, change: Change) -> Result<Vec<RowChange>, Refused> {
    match change {
        Change::Add { kind, name, fields } => {
            free(inventory, kind, &name)?;
            Ok(vec![RowChange::Put(new(kind, name, &fields)?)])
        }
        Change::Edit {
            kind,
            name,
            fields,
            in_place,
        } => {
            let row = assigned(find(inventory, kind, &name)?, &fields, in_place)?;
            Ok(vec![RowChange::Put(row)])
        }
        Change::Copy {
            kind,
            name,
            new_name,
            fields,
        } => {
            free(inventory, kind, &new_name)?;
            let copy = copied(find(inventory, kind, &name)?, new_name);
            Ok(vec![RowChange::Put(assigned(copy, &fields, false)?)])
        }
        Change::Rename { kind, name, new_name } => rename(inventory, kind, &name, &new_name),
        Change::Remove { kind, name, recursive } => remove(inventory, kind, &name, recursive),
        Change::Put(Row::Arm(arm)) => Err(Refused::NotArmed {
            name: arm.system.clone(),
            why: "an arming is never copied in; use `cordwainer system arm`".to_owned(),
        }),
        Change::Put(row) => Ok(vec![RowChange::Put(row)]),
        Change::Arm { arm, again, state } => arm_system(inventory, arm, again, state),
        Change::Disarm { system } => {
            find(inventory, Kind::System, &system)?;
            let armed = inventory.arm(system.as_str()).is_some();
            Ok(armed.then_some(RowChange::Disarm(system)).into_iter().collect())
        }
    }
}

fn find(inventory: &Inventory, kind: Kind, name: &Name) -> Result<Row, Refused> {
    inventory
        .row(kind, name.as_str())
        .ok_or_else(|| unknown(inventory, kind, name.as_str()))
}

fn free(inventory: &Inventory, kind: Kind, name: &Name) -> Result<(), Refused> {
    match inventory.row(kind, name.as_str()) {
        None => Ok(()),
        Some(_) => Err(Refused::Exists {
            kind,
            name: name.clone(),
        }),
    }
}

/// The last assignment of `wanted`, which a new object needs before it can be made.
fn given<'a>(kind: Kind, fields: &'a [Assignment], wanted: &str) -> Result<Option<&'a str>, Refused> {
    let mut found = None;
    for (typed, text) in fields {
        if field(kind, typed)?.name == wanted {
            found = Some(text.as_str());
        }
    }
    Ok(found)
}

fn named(field: &'static str, text: &str) -> Result<Name, Refused> {
    text.parse().map_err(|error: crate::model::BadName| Refused::BadValue {
        field: field.to_owned(),
        why: error.to_string(),
    })
}

/// A new object from its fields alone.
pub(super) fn new(kind: Kind, name: Name, fields: &[Assignment]) -> Result<Row, Refused> {
    let missing = |field| Refused::Missing {
        kind,
        name: name.clone(),
        field,
    };
    match kind {
        Kind::Distro => {
            let kernel = given(kind, fields, "kernel")?.ok_or_else(|| missing("kernel"))?;
            let distro = Distro {
                name,
                arch: Arch::X86_64,
                breed: NO_BREED.to_owned(),
                os_version: String::new(),
                kernel: kernel.to_owned(),
                initrd: Vec::new(),
                tree: None,
                signature: None,
                kernel_options: Dict::new(),
                kernel_options_post: Dict::new(),
                autoinstall_meta: Dict::new(),
                boot_loaders: Vec::new(),
                comment: String::new(),
                owners: Vec::new(),
                extra: BTreeMap::new(),
            };
            assigned(Row::Distro(distro.into()), fields, false)
        }
        Kind::Profile => {
            let parent = match (given(kind, fields, "distro")?, given(kind, fields, "parent")?) {
                (Some(_), Some(_)) => {
                    return Err(Refused::BadValue {
                        field: "parent".to_owned(),
                        why: "a profile stands on a distro or on another profile, not on both; give one of them"
                            .to_owned(),
                    });
                }
                (Some(distro), None) => Parent::Distro(named("distro", distro)?),
                (None, Some(parent)) => Parent::Profile(named("parent", parent)?),
                (None, None) => return Err(missing("distro")),
            };
            let profile = empty_profile(name, parent);
            assigned(Row::Profile(profile.into()), fields, false)
        }
        Kind::System => {
            let given = |field| Ok::<_, Refused>(given(kind, fields, field)?.filter(|text| !text.is_empty()));
            match (given("profile")?, given("image")?) {
                (Some(_), Some(_)) => return Err(on_both()),
                (None, None) => return Err(missing("profile")),
                _ => {}
            }
            let system = System {
                profile: None,
                image: None,
                name,
                hostname: None,
                gateway: None,
                interfaces: BTreeMap::new(),
                autoinstall: Inherit::Inherit,
                autoinstall_meta: Dict::new(),
                kernel_options: Dict::new(),
                kernel_options_post: Dict::new(),
                name_servers: Inherit::Inherit,
                name_servers_search: Inherit::Inherit,
                proxy: Inherit::Inherit,
                boot_loaders: Inherit::Inherit,
                virt: crate::model::Virt::default(),
                status: String::new(),
                comment: String::new(),
                owners: Vec::new(),
                extra: BTreeMap::new(),
            };
            assigned(Row::System(system.into()), fields, false)
        }
        Kind::Repo => {
            let mirror = given(kind, fields, "mirror")?.ok_or_else(|| missing("mirror"))?;
            let repo = Repo {
                name,
                mirror: mirror.to_owned(),
                breed: String::new(),
                arch: String::new(),
                apt_dists: Vec::new(),
                apt_components: Vec::new(),
                priority: None,
                proxy: String::new(),
                comment: String::new(),
                owners: Vec::new(),
                extra: BTreeMap::new(),
            };
            assigned(Row::Repo(repo.into()), fields, false)
        }
        Kind::Menu => {
            let menu = Menu {
                name,
                display_name: String::new(),
                parent: None,
                comment: String::new(),
                owners: Vec::new(),
                extra: BTreeMap::new(),
            };
            assigned(Row::Menu(menu.into()), fields, false)
        }
        Kind::Image => assigned(Row::Image(Image::new(name).into()), fields, false),
    }
}

fn on_both() -> Refused {
    Refused::BadValue {
        field: "image".to_owned(),
        why: "a system stands on a profile or on an image, not on both; give one of them".to_owned(),
    }
}

/// Sets the fields of a system. Who gives it an image takes it off its profile, and the other way round.
fn assign_based(system: &mut System, fields: &[Assignment], in_place: bool) -> Result<(), Refused> {
    let said = |wanted: &str| {
        let found = given(Kind::System, fields, wanted)?;
        Ok::<_, Refused>(found.is_some_and(|text| !text.is_empty()))
    };
    let (profile, image) = (said("profile")?, said("image")?);
    if profile && image {
        return Err(on_both());
    }
    assign_system(system, fields, in_place)?;
    if profile {
        system.image = None;
    }
    if image {
        system.profile = None;
    }
    Ok(())
}

/// Whether an object of a kind could take these fields, whatever the rest of it is: references are not looked at.
///
/// # Errors
/// [`Refused`], as the change that sets them would be.
pub fn try_fields(kind: Kind, fields: &[Assignment]) -> Result<(), Refused> {
    let base = match kind {
        Kind::Distro => "kernel",
        Kind::Profile => "distro",
        Kind::System => "profile",
        Kind::Repo => "mirror",
        Kind::Menu => "display_name",
        Kind::Image => "file",
    };
    let stands = fields.iter().filter(|(_, text)| !text.is_empty()).any(|(field, _)| {
        field == base || (kind == Kind::Profile && field == "parent") || (kind == Kind::System && field == "image")
    });
    let mut all: Vec<Assignment> = fields.to_vec();
    if !stands {
        let any = if kind == Kind::Image { "/x" } else { "x" };
        all.push((base.to_owned(), any.to_owned()));
    }
    new(kind, named("name", "x")?, &all).map(|_| ())
}

fn assigned(row: Row, fields: &[Assignment], in_place: bool) -> Result<Row, Refused> {
    Ok(match row {
        Row::Distro(mut distro) => {
            assign_distro(Arc::make_mut(&mut distro), fields, in_place)?;
            Row::Distro(distro)
        }
        Row::Profile(mut profile) => {
            assign_profile(Arc::make_mut(&mut profile), fields, in_place)?;
            Row::Profile(profile)
        }
        Row::System(mut system) => {
            assign_based(Arc::make_mut(&mut system), fields, in_place)?;
            Row::System(system)
        }
        Row::Repo(mut repo) => {
            assign_repo(Arc::make_mut(&mut repo), fields, in_place)?;
            Row::Repo(repo)
        }
        Row::Menu(mut menu) => {
            assign_menu(Arc::make_mut(&mut menu), fields, in_place)?;
            Row::Menu(menu)
        }
        Row::Image(mut image) => {
            assign_image(Arc::make_mut(&mut image), fields, in_place)?;
            Row::Image(image)
        }
        Row::Arm(arm) => Row::Arm(arm),
    })
}

fn renamed(row: Row, to: Name) -> Row {
    match row {
        Row::Distro(mut distro) => {
            Arc::make_mut(&mut distro).name = to;
            Row::Distro(distro)
        }
        Row::Profile(mut profile) => {
            Arc::make_mut(&mut profile).name = to;
            Row::Profile(profile)
        }
        Row::System(mut system) => {
            Arc::make_mut(&mut system).name = to;
            Row::System(system)
        }
        Row::Repo(mut repo) => {
            Arc::make_mut(&mut repo).name = to;
            Row::Repo(repo)
        }
        Row::Menu(mut menu) => {
            Arc::make_mut(&mut menu).name = to;
            Row::Menu(menu)
        }
        Row::Image(mut image) => {
            Arc::make_mut(&mut image).name = to;
            Row::Image(image)
        }
        Row::Arm(arm) => Row::Arm(arm),
    }
}

/// A copy without what only one system may have.
fn copied(row: Row, to: Name) -> Row {
    match renamed(row, to) {
        Row::System(mut system) => {
            let copy = Arc::make_mut(&mut system);
            copy.hostname = None;
            for interface in copy.interfaces.values_mut() {
                interface.mac_address = None;
                interface.ip_address = None;
                interface.dns_name = None;
                interface.client_id = None;
                interface.relay_circuit_id = None;
                interface.relay_remote_id = None;
            }
            Row::System(system)
        }
        other => other,
    }
}

/// Sub-profiles and systems that stand directly on an object, and menus in a menu.
fn children(inventory: &Inventory, kind: Kind, name: &Name) -> Vec<Row> {
    let menus = inventory
        .menus()
        .filter(|menu| kind == Kind::Menu && menu.parent.as_ref() == Some(name));
    let on = |parent: &Parent| match (kind, parent) {
        (Kind::Distro, Parent::Distro(of)) | (Kind::Profile, Parent::Profile(of)) => of == name,
        _ => false,
    };
    let profiles = inventory.profiles().filter(|profile| on(&profile.parent));
    let systems = inventory.systems().filter(|system| system.base() == Some((kind, name)));
    profiles
        .cloned()
        .map(Row::Profile)
        .chain(systems.cloned().map(Row::System))
        .chain(menus.cloned().map(Row::Menu))
        .collect()
}

fn rename(inventory: &Inventory, kind: Kind, name: &Name, new_name: &Name) -> Result<Vec<RowChange>, Refused> {
    let row = find(inventory, kind, name)?;
    free(inventory, kind, new_name)?;
    // The old row goes first: what it claims is free for the new one then.
    let mut rows = vec![
        RowChange::Remove(kind, name.clone()),
        RowChange::Put(renamed(row, new_name.clone())),
    ];
    for child in children(inventory, kind, name) {
        rows.push(RowChange::Put(match child {
            Row::Profile(mut profile) => {
                Arc::make_mut(&mut profile).parent = match kind {
                    Kind::Distro => Parent::Distro(new_name.clone()),
                    _ => Parent::Profile(new_name.clone()),
                };
                Row::Profile(profile)
            }
            Row::System(mut system) => {
                let own = Arc::make_mut(&mut system);
                let base = if kind == Kind::Image {
                    &mut own.image
                } else {
                    &mut own.profile
                };
                *base = Some(new_name.clone());
                Row::System(system)
            }
            // Menus in a renamed one follow below, with the profiles that name it.
            other => other,
        }));
    }
    let naming = repos::renamed(inventory, kind, name, Some(new_name));
    rows.extend(naming.into_iter().map(RowChange::Put));
    Ok(rows)
}

/// At most this many children are named in a refusal.
const NAMED_CHILDREN: usize = 8;

fn remove(inventory: &Inventory, kind: Kind, name: &Name, recursive: bool) -> Result<Vec<RowChange>, Refused> {
    find(inventory, kind, name)?;
    let below = children(inventory, kind, name);
    if !below.is_empty() && !recursive {
        let mut named: Vec<String> = below
            .iter()
            .take(NAMED_CHILDREN)
            .filter_map(|child| Some(format!("{} `{}`", child.kind()?, child.name())))
            .collect();
        if let Some(more) = below.len().checked_sub(NAMED_CHILDREN).filter(|more| *more > 0) {
            named.push(format!("and {more} more"));
        }
        return Err(Refused::HasChildren {
            kind,
            name: name.clone(),
            children: named,
        });
    }
    let mut rows = Vec::new();
    let mut gone = BTreeSet::from([(kind, name.clone())]);
    let mut below: Vec<Row> = below;
    let mut queue = Vec::new();
    while let Some(child) = below.pop() {
        if let Some(child_kind) = child.kind()
            && gone.insert((child_kind, child.name().clone()))
        {
            queue.push((child_kind, child.name().clone()));
            below.extend(children(inventory, child_kind, child.name()));
        }
    }
    // A repository or menu leaves the profiles that name it; the profiles stay.
    let mut after = inventory.clone();
    for (kind, name) in &gone {
        for row in repos::renamed(&after, *kind, name, None) {
            after.put(row.clone());
            rows.push(RowChange::Put(row));
        }
    }
    // Children first: no reader ever sees one without its parent.
    rows.extend(
        queue
            .into_iter()
            .rev()
            .map(|(kind, name)| RowChange::Remove(kind, name)),
    );
    rows.push(RowChange::Remove(kind, name.clone()));
    Ok(rows)
}

fn arm_system(inventory: &Inventory, arm: Arm, again: bool, state: State) -> Result<Vec<RowChange>, Refused> {
    let name = arm.system.clone();
    let refused = |why: String| Refused::NotArmed {
        name: name.clone(),
        why,
    };
    let system = inventory
        .system(name.as_str())
        .ok_or_else(|| unknown(inventory, Kind::System, name.as_str()))?;
    if !claims(system).iter().any(|claim| matches!(claim, Claim::Mac(_))) {
        return Err(refused(format!(
            "it has no MAC, so no machine can be recognised as it; `cordwainer system edit --name {name} --mac-address MAC`"
        )));
    }
    resolve_system(inventory, name.as_str()).map_err(|broken| refused(broken.to_string()))?;
    if let Some(why) = links::incomplete(system) {
        return Err(refused(why));
    }
    if again {
        return Ok(vec![RowChange::Put(Row::Arm(arm.into()))]);
    }
    let known = match state {
        // What it was armed for is over, and an image is booted as often as it is armed.
        State::Idle | State::Booted => return Ok(vec![RowChange::Put(Row::Arm(arm.into()))]),
        State::Armed => match inventory.arm(name.as_str()) {
            Some(old) => format!("it is armed until {} by {}; disarm it first, or give --again", old.until, old.by),
            None => "it is armed; disarm it first, or give --again".to_owned(),
        },
        State::Claimed | State::Installing => {
            "it is being installed; `--again` starts over, which wipes what is written so far".to_owned()
        }
        State::Installed => "it was installed; `--again` installs it anew, which wipes its disk".to_owned(),
        State::Failed => "its last installation failed; `cordwainer boot trace` shows how, `--again` tries anew".to_owned(),
        State::Held => {
            "it is held, because its disk was being changed when it booted again; `--again` installs it anew, which wipes its disk"
                .to_owned()
        }
    };
    Err(refused(known))
}
