//! `system arm` and `disarm`. Arming is the one thing that destroys data, so it looks at everything first, says what will happen, and is
//! refused where the machine could not be logged into afterwards.

use super::desk::{Applied, Desk};
use super::exit::{Ended, Failure};
use super::print::with;
use super::{args, link, object, preview};
use crate::boot::World;
use crate::install;
use crate::inventory::{Change, Inventory, Refused, Row, RowChange, edit_all, systems_about};
use crate::model::{Arm, ArmId, Kind, Name, Span, State};
use crate::render;
use serde_json::json;

/// What the admin wishes beside the name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    /// For how long.
    pub(super) span: Option<Span>,
    /// Although there was an installation.
    pub(super) again: bool,
}

pub(super) fn arm(options: &args::Arm, desk: &Desk) -> Result<Ended, Failure> {
    let name = object::named(options.name.get())?;
    if options.span.is_some_and(|span| span.0.is_zero()) {
        return Err(Failure::usage(
            "an arming of no length arms nothing",
            "give --for a length of time like 30m or 4h",
        ));
    }
    let wish = Wish {
        span: options.span,
        again: options.again,
    };
    with_changes(desk, Vec::new(), &name, &wish)
}

pub(super) fn disarm(name: &str, desk: &Desk) -> Result<Ended, Failure> {
    let name = object::named(name)?;
    let inventory = desk.inventory_about(Kind::System, name.as_str())?;
    if inventory.system(name.as_str()).is_none() {
        return Err(object::unknown(&inventory, Kind::System, name.as_str()));
    }
    if inventory.arm(name.as_str()).is_none() {
        let text = format!("system {name} is not armed; it boots from its disk\n");
        desk.printer
            .either(&json!({"changed": [], "system": name, "armed": false}), &text)?;
        return Ok(Ended::Well);
    }
    desk.change(vec![Change::Disarm { system: name }])
}

/// Makes the changes and arms `name`, all or nothing.
pub(super) fn with_changes(desk: &Desk, changes: Vec<Change>, name: &Name, wish: &Wish) -> Result<Ended, Failure> {
    let alone = changes.is_empty();
    armed_with(desk, changes, name, wish).map_err(|failure| match failure {
        Failure::Refused(refused @ Refused::NotArmed { .. }) if !alone => Failure::said(
            refused,
            "nothing was stored; mend that, or leave --netboot-enabled out and arm it later",
        ),
        other => other,
    })
}

/// The inventory as far as arming `name` after these changes needs it.
fn known(desk: &Desk, changes: &[Change], name: &Name) -> Result<Inventory, Failure> {
    if let Some(mut systems) = systems_about(changes) {
        systems.insert(name.clone());
        let some = desk.inventory_of(&systems)?;
        let puts = |row: &RowChange| matches!(row, RowChange::Put(Row::System(system)) if system.name == *name);
        if edit_all(&some, changes.to_vec())
            .is_ok_and(|rows| some.system(name.as_str()).is_some() || rows.iter().any(puts))
        {
            return Ok(some);
        }
    }
    // Who is refused is told the nearest name, which may be any.
    desk.inventory()
}

/// An arming that was made.
pub(super) struct Armed {
    /// The arming.
    pub(super) arm: Arm,
    /// What was stored with it.
    pub(super) applied: Applied,
    /// The profile that is installed.
    pub(super) profile: String,
    /// The image that is booted instead.
    pub(super) image: String,
    /// The machine's addresses.
    pub(super) macs: Vec<String>,
    /// What would likely go wrong.
    pub(super) warnings: Vec<String>,
    /// How the machine stood before.
    before: State,
    span: Span,
}

impl Armed {
    /// For programs.
    pub(super) fn json(&self) -> serde_json::Value {
        json!({"system": self.arm.system, "profile": self.profile, "image": self.image, "until": self.arm.until.to_string(), "by": self.arm.by, "warnings": self.warnings})
    }
}

/// Makes the changes and arms `name`, all or nothing, and prints nothing.
pub(super) fn make(desk: &Desk, mut changes: Vec<Change>, name: &Name, wish: &Wish) -> Result<Armed, Failure> {
    let before = known(desk, &changes, name)?;
    let mut after = before.clone();
    for row in edit_all(&before, changes.clone())? {
        after.apply(row);
    }
    if after.system(name.as_str()).is_none() {
        return Err(object::unknown(&after, Kind::System, name.as_str()));
    }
    let installs = desk.installs();
    let installation = installs.by_system.get(name).map(|seen| &**seen);
    let state = install::state(after.arm(name.as_str()).map(|arm| &**arm), installation, desk.now);
    let span = wish.span.unwrap_or(desk.settings.config.arm_for);
    let arm = Arm {
        id: ArmId::random(desk.random()?),
        system: name.clone(),
        at: desk.now,
        until: desk.now.plus(span.0),
        by: desk.who(),
    };
    let change = Change::Arm {
        arm: arm.clone(),
        again: wish.again,
        state,
    };
    // The inventory's own refusals (unknown, no MAC, held) come before those that need a look at the disk.
    edit_all(&after, [change.clone()])?;
    // What is judged below is the file; the daemon would serve what it read when it started.
    if let Some(why) = link::outdated(&desk.settings) {
        return Err(not_armed(name, why));
    }
    let world = desk.world(after)?;
    let warnings = judge(&world, name)?;
    changes.push(change);
    let applied = desk.apply(changes)?;
    let system = world.inventory.system(name.as_str());
    let profile = system
        .map(|system| system.profile_name().to_owned())
        .unwrap_or_default();
    let image = system.map(|system| system.image_name().to_owned()).unwrap_or_default();
    let macs: Vec<String> = system
        .map(|system| system.macs().map(|mac| mac.to_string()).collect())
        .unwrap_or_default();
    Ok(Armed {
        arm,
        applied,
        profile,
        image,
        macs,
        warnings,
        before: state,
        span,
    })
}

fn armed_with(desk: &Desk, changes: Vec<Change>, name: &Name, wish: &Wish) -> Result<Ended, Failure> {
    let armed = make(desk, changes, name, wish)?;
    let Armed {
        arm,
        applied,
        profile,
        image,
        macs,
        warnings,
        before: state,
        span,
    } = &armed;
    if desk.printer.json {
        desk.printer
            .json(&with(applied.json(), json!({"armed": armed.json()})))?;
        return Ok(Ended::Well);
    }
    let mut text = applied.text();
    text.push_str(&format!(
        "armed     system {name} until {} ({span}), {}\n",
        arm.until,
        applied.served.as_str()
    ));
    let macs = macs.join(", ");
    text.push_str(&if image.is_empty() {
        format!("at risk   its disk is WIPED on its next network boot ({macs}), and profile {profile} is installed\n")
    } else {
        format!(
            "at risk   its next network boot ({macs}) starts image {image}, once; its disk is in the hands of what the image holds\n"
        )
    });
    text.push_str(&format!("stop it   cordwainer system disarm {name}\n"));
    text.push_str(&format!("watch it  cordwainer boot trace {name} --follow\n"));
    desk.printer.data(&text)?;
    for warning in warnings {
        desk.printer.note(format!("warning   {warning}"));
    }
    if *state != State::Idle {
        desk.printer.detail(format!("it was {state} before"));
    }
    Ok(Ended::Well)
}

fn not_armed(name: &Name, why: String) -> Failure {
    Failure::Refused(Refused::NotArmed {
        name: name.clone(),
        why,
    })
}

/// What would go wrong with this installation: refuses what is certain, and gives back what is only likely.
fn judge(world: &World, name: &Name) -> Result<Vec<String>, Failure> {
    let resolved = preview::resolve(Kind::System, name.as_str(), &world.inventory)?;
    let local = preview::local_address(world, &resolved);
    render::installable(world, name, local).map_err(|why| not_armed(name, why))
}
