//! One value through each encoder of answer files, read back by a model of the sink: it stays one value.

use super::sinks;
use super::template::{answer, entry, put};
use super::world::world;
use cordwainer::boot::{AnswerFile, World};
use cordwainer::config::DhcpMode;
use cordwainer::render::answer_file;
use std::cell::RefCell;

type Judge = fn(&str, &str);

/// A template around the value, and who reads it.
const SINKS: [(&str, Judge); 9] = [
    ("{{ value|sh }}", sinks::shell),
    ("{{ value|ks }}", sinks::kickstart),
    ("{{ value|preseed }}", sinks::preseed),
    ("{{ value|json }}", sinks::json),
    ("{{ value|yaml }}", sinks::yaml),
    ("{{ value|xml }}", sinks::xml),
    ("{{ value|cdata }}", sinks::cdata),
    ("{{ value|data_url }}", sinks::data_url),
    ("{{ value|package }}", sinks::package),
];

/// One byte chooses the sink, the rest is the value.
pub fn run(bytes: &[u8]) {
    thread_local! {
        static GROUND: RefCell<Option<(World, AnswerFile)>> = const { RefCell::new(None) };
    }
    let (choice, value) = bytes.split_first().unwrap_or((&0, &[]));
    let place = usize::from(*choice) % SINKS.len();
    let value = String::from_utf8_lossy(value).into_owned();
    GROUND.with(|ground| {
        let mut ground = ground.borrow_mut();
        let (world, answer) = ground.get_or_insert_with(|| {
            let mut world = world(DhcpMode::Proxy);
            for (number, (template, _)) in SINKS.iter().enumerate() {
                put(&mut world, &format!("sink{number}"), template);
            }
            let answer = answer(&world, "sink0");
            (world, answer)
        });
        answer.template.value = format!("sink{place}");
        answer.resolved.autoinstall_meta.entries.push(entry("value", &value));
        let rendered = answer_file(answer, world);
        answer.resolved.autoinstall_meta.entries.pop();
        match rendered {
            // Cobbler's marks are replaced after the encoders, in values too: its imports say `tree=http://@@http_server@@/...`.
            // An encoder may take out what stood between the two letters.
            Ok(_) if value.matches('@').nth(3).is_some() => {}
            Ok(text) => SINKS[place].1(&text, &value),
            // Only names of packages are refused.
            Err(error) => assert_eq!(place, 8, "{error}"),
        }
    });
}
