//! The fuzz binary: libFuzzer, and the target that CORDWAINER_FUZZ_TARGET names.
#![no_main]
#![allow(
    clippy::disallowed_methods,
    reason = "the environment names the target, and the engine's own macro can write its input into a file"
)]

use cordwainer_fuzz::measure::{Cost, Counting, bounded};
use cordwainer_fuzz::mutate::{Dice, mutate};
use cordwainer_fuzz::{TARGETS, Target, target};
use std::cell::Cell;
use std::sync::OnceLock;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn chosen() -> &'static Target {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("CORDWAINER_FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            panic!(
                "CORDWAINER_FUZZ_TARGET=`{name}` is no target; there are {}",
                names.join(", ")
            )
        })
    })
}

thread_local! {
    /// Tenths of a millisecond of the slowest input, and bytes of the largest allocation, so far.
    static WORST: Cell<(u128, usize)> = const { Cell::new((0, 0)) };
}

/// Tells of each input that is slower or larger than all before it; the last of these lines is what the run came to.
fn tell(cost: Cost) {
    let (slowest, largest) = WORST.get();
    let now = (
        cost.time.as_micros().div_ceil(100).max(slowest),
        cost.largest.max(largest),
    );
    if now != (slowest, largest) {
        WORST.set(now);
        eprintln!("worst: {}.{} ms, {} bytes", now.0 / 10, now.0 % 10, now.1);
    }
}

// What was made once for all inputs (worlds, signatures) was no input's.
libfuzzer_sys::fuzz_target!(
    init: {
        (chosen().run)(&[]);
    },
    |bytes: &[u8]| {
        tell(bounded(chosen(), bytes, 1));
    }
);

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Half of all inputs are made by libFuzzer, which knows what the code compares with; half by who knows the formats.
    if seed & 1 == 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let mut bytes = data[..size].to_vec();
    mutate(chosen().name, &mut bytes, &mut Dice::new(u64::from(seed)));
    let length = bytes.len().min(max_size);
    data[..length].copy_from_slice(&bytes[..length]);
    length
});
