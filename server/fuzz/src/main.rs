//! The fuzz binary: libFuzzer, and the target that CORDWAINER_FUZZ_TARGET names.
#![no_main]

use cordwainer_fuzz::measure::{Counting, bounded};
use cordwainer_fuzz::mutate::{Dice, mutate};
use cordwainer_fuzz::{TARGETS, Target, target};
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

// Instrumented code is several times slower.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bounded(chosen(), bytes, 4);
});

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
