//! The template engine with hostile templates, snippets and values: it ends, stays within its bounds, and its errors show no value.

use super::canary;
use super::input::Input;
use super::world::{SERVER, address, mac, world};
use cordwainer::assets::Template;
use cordwainer::boot::{AnswerFile, World};
use cordwainer::config::DhcpMode;
use cordwainer::install::{ArmId, TokenKind};
use cordwainer::inventory::{Entry, Layer, Sourced, resolve_system};
use cordwainer::render::{LONGEST, answer_file};
use std::cell::RefCell;
use std::sync::Arc;

/// web3's answer file from the template `name`, with every secret in it.
pub fn answer(world: &World, name: &str) -> AnswerFile {
    let resolved = resolve_system(&world.inventory, "web3").unwrap();
    let token = |kind| canary::token(canary::ARMS[1], kind);
    AnswerFile {
        resolved,
        file: "ks.cfg".into(),
        template: Sourced {
            value: name.into(),
            layer: Layer::Settings,
        },
        arm: Some(ArmId(canary::ARMS[1].into())),
        base_url: format!("http://{SERVER}"),
        tree_url: format!("http://{SERVER}/d/rocky9"),
        answer_url: format!("http://{SERVER}/i/{}", token(TokenKind::Install)),
        report_url: format!("http://{SERVER}/r/{}", token(TokenKind::Report)),
        mac: Some(mac(3)),
        address: Some(address(3)),
    }
}

pub fn entry(key: &str, value: &str) -> Entry {
    Entry {
        key: key.into(),
        values: Some(vec![value.into()]),
        layer: Layer::Settings,
    }
}

pub fn put(world: &mut World, name: &str, text: &str) {
    let template = Arc::new(Template {
        text: text.into(),
        origin: "fuzz".into(),
    });
    let assets = Arc::make_mut(&mut world.assets);
    match name.strip_prefix("snippets/") {
        Some(snippet) => assets.snippets.insert(snippet.to_owned(), template),
        None => assets.templates.insert(name.to_owned(), template),
    };
}

/// Three texts, with a NUL between: a value, a snippet, the template.
pub fn run(bytes: &[u8]) {
    thread_local! {
        static GROUND: RefCell<Option<(World, AnswerFile)>> = const { RefCell::new(None) };
    }
    let (mut world, mut answer) = GROUND.with(|ground| {
        let mut ground = ground.borrow_mut();
        ground
            .get_or_insert_with(|| {
                let world = world(DhcpMode::Proxy);
                let answer = answer(&world, "own");
                (world, answer)
            })
            .clone()
    });
    let mut input = Input(bytes);
    let (value, snippet) = (input.line(0), input.line(0));
    put(&mut world, "snippets/own", &snippet);
    put(&mut world, "own", &String::from_utf8_lossy(input.0));
    answer.resolved.autoinstall_meta.entries.push(entry("value", &value));
    match answer_file(&answer, &world) {
        Ok(text) => assert!(text.len() <= LONGEST, "{} bytes", text.len()),
        Err(error) => {
            let said = format!("{error} {error:?}");
            canary::must_not_sing(said.as_bytes(), "an error of a template");
            assert!(error.to_string().len() < 1024);
        }
    }
}
