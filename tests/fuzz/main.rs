//! The fuzz targets of server/fuzz without an engine: the corpus replayed, and ten thousand mutated inputs for each target.
//!
//! A binary of its own, because it counts allocations. A failure prints the seed and leaves the input beside the build (`target/tmp`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests stop at the first surprise"
)]

mod seeds;
#[path = "../../server/fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use targets::measure::{Cost, Counting, bounded};
use targets::mutate::{Dice, mutate};
use targets::{TARGETS, Target, target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Inputs that are mutated for each target.
fn mutations(name: &str) -> usize {
    match name {
        // Each input is a story of dozens of packets, so these too are more than ten thousand, and they cost as much.
        "leases" => 1_000,
        _ => 10_000,
    }
}

/// Without optimization everything takes this much longer.
const SLACK: u32 = if cfg!(debug_assertions) { 4 } else { 1 };

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// The files of a target's corpus, by name.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = fs::read_dir(corpus(target))
        .unwrap_or_else(|error| panic!("{}: {error}", corpus(target).display()))
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    found.sort();
    found
}

/// Runs one input; when it fails, leaves it in a file and says where.
fn attempt(target: &Target, bytes: &[u8], origin: &str) -> Cost {
    catch_unwind(AssertUnwindSafe(|| bounded(target, bytes, SLACK))).unwrap_or_else(|panic| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}-{}", target.name, std::process::id()));
        fs::write(&file, bytes).unwrap();
        println!("{}, {origin}: the input is {}", target.name, file.display());
        resume_unwind(panic)
    })
}

fn replay(name: &str) {
    let target = target(name).unwrap();
    let all = inputs(name);
    assert!(!all.is_empty(), "{name} has no corpus");
    for (file, bytes) in &all {
        attempt(target, bytes, file);
    }
}

fn mutated(name: &str) {
    let target = target(name).unwrap();
    let seed = match std::env::var("CORDWAINER_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => {
            u64::from(std::process::id()) << 32 | u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos())
        }
    };
    println!("CORDWAINER_SEED={seed}");
    let mut pool: Vec<Vec<u8>> = inputs(name).into_iter().map(|(_, bytes)| bytes).collect();
    pool.extend(seeds::of(name));
    let mut dice = Dice::new(seed);
    let mut worst = Cost {
        time: Duration::ZERO,
        largest: 0,
    };
    // What a world, a database or a table of rules costs once is no input's.
    (target.run)(&pool[0]);
    let rounds = mutations(name);
    for round in 0..rounds {
        let mut bytes = pool[dice.below(pool.len())].clone();
        mutate(name, &mut bytes, &mut dice);
        bytes.truncate(target.longest);
        let cost = attempt(target, &bytes, &format!("CORDWAINER_SEED={seed}, round {round}"));
        worst.time = worst.time.max(cost.time);
        worst.largest = worst.largest.max(cost.largest);
    }
    println!(
        "{name}: {rounds} inputs, the worst took {:?} and {} bytes at once",
        worst.time, worst.largest
    );
}

macro_rules! each_target {
    ($($name:ident)*) => {
        $(mod $name {
            #[test]
            fn the_corpus_holds() {
                super::replay(stringify!($name));
            }

            #[test]
            fn mutated_inputs_hold() {
                super::mutated(stringify!($name));
            }
        })*

        #[test]
        fn every_target_is_tried() {
            let named: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(named, [$(stringify!($name)),*]);
        }
    };
}

each_target!(config detect dhcp document encoders http iso leases packet paths route rows scripts template tftp wall xmlrpc);

#[test]
fn the_corpus_is_small() {
    let mut total = 0;
    for target in &TARGETS {
        for (file, bytes) in inputs(target.name) {
            assert!(
                bytes.len() <= target.longest,
                "{}/{file} has {} bytes",
                target.name,
                bytes.len()
            );
            total += bytes.len();
        }
    }
    assert!(total < 1 << 20, "{total} bytes of corpus");
}

/// `CORDWAINER_SEEDS=FOLDER cargo test --test fuzz -- --ignored seeds_are_written`: what `tests/run --long` starts from beside the corpus.
#[test]
#[ignore = "a step of tests/run --long"]
fn seeds_are_written() {
    let folder = PathBuf::from(std::env::var("CORDWAINER_SEEDS").expect("CORDWAINER_SEEDS names the folder"));
    for target in &TARGETS {
        let own = folder.join(target.name);
        fs::create_dir_all(&own).unwrap();
        for (number, bytes) in seeds::of(target.name).iter().enumerate() {
            fs::write(
                own.join(format!("seed-{number:03}")),
                &bytes[..bytes.len().min(target.longest)],
            )
            .unwrap();
        }
    }
}
