//! The installer's command line as a guest that does not exist yet would get it: decided by the one decision, without a token.

use super::super::desk::Desk;
use super::super::exit::Failure;
use crate::boot::{Answer, Ask, Dialect, Facts, FoundBy, Request, Script, decide};
use crate::guest::Spec;
use crate::install::{Installs, Token, TokenKind};
use crate::inventory::{Change, Inventory, Row, edit_all};
use crate::model::{Arm, ArmId, Span};
use crate::render::kernel_command_line;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What stands where the token would.
const NO_TOKEN: &str = "TOKEN";

/// The command line, were the changes made and the system armed.
pub(super) fn preview(
    desk: &Desk,
    inventory: &Inventory,
    spec: &Spec,
    changes: Vec<Change>,
) -> Result<String, Failure> {
    let Some((system, nic)) = spec.system.as_ref().zip(spec.nics.first()) else {
        return Ok(spec.extra.clone());
    };
    let mut after = inventory.clone();
    for row in edit_all(inventory, changes)? {
        after.apply(row);
    }
    let arm = Arm {
        id: ArmId("preview".to_owned()),
        system: system.clone(),
        at: desk.now,
        until: desk.now.plus(Span::seconds(3600).0),
        by: desk.who(),
    };
    after.put(Row::Arm(Arc::new(arm.clone())));
    let mut world = desk.world(after)?;
    // What became of an earlier installation does not matter to a new one.
    world.installs = Arc::new(Installs::default());
    let facts = Facts {
        mac: Some(nic.mac),
        found_by: FoundBy::Path,
        ..Facts::nobody(spec.server.unwrap_or(Ipv4Addr::LOCALHOST))
    };
    let request = Request {
        facts,
        ask: Ask::Script(Dialect::Ipxe),
    };
    let because = match decide(&world, &request).answer {
        Answer::Script(script) => match *script {
            Script::Launch(launch) => {
                let (mut text, _) = kernel_command_line(&launch.options);
                for kind in [TokenKind::Install, TokenKind::Report] {
                    text = text.replace(Token::derive(&world.key, &arm.id, kind).reveal(), NO_TOKEN);
                }
                if !spec.extra.is_empty() {
                    text = format!("{text} {}", spec.extra);
                }
                return Ok(text);
            }
            Script::Image(boot) => format!("it boots image {}", boot.image),
            Script::Local { because, .. } => because,
            Script::Menu(_) => "it gets a menu".to_owned(),
        },
        _ => "it gets no boot script".to_owned(),
    };
    Err(Failure::said(
        format!("{system} would get no installer: {because}"),
        format!("cordwainer boot explain {system}"),
    ))
}
