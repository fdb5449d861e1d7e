//! What one input costs: processor time of this thread, and the largest allocation that it asked for.
//!
//! The wall's clock would measure whoever else runs on the machine.
#![allow(
    unsafe_code,
    reason = "an allocator can only be written so; it hands everything on to the system's"
)]

use super::Target;
use nix::time::{ClockId, clock_gettime};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which notes the largest piece that this thread asked for.
pub struct Counting;

fn note(size: usize) {
    // Gone when a thread ends: then nobody asks any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: every call is handed on unchanged to the system's allocator, which keeps the contract, and the note touches a plain
// cell of this thread and neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's own promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's own promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's own promise.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's own promise.
        unsafe { System.dealloc(old, layout) }
    }
}

/// What an input cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Processor time of this thread.
    pub time: Duration,
    /// Bytes of the largest single allocation; 0 where [`Counting`] is not the allocator.
    pub largest: usize,
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Runs `target` on `bytes`.
pub fn run(target: &Target, bytes: &[u8]) -> Cost {
    LARGEST.with(|largest| largest.set(0));
    let from = processor_time();
    (target.run)(bytes);
    Cost {
        time: processor_time().saturating_sub(from),
        largest: LARGEST.with(Cell::get),
    }
}

/// The same; stops when the input costs more than the target allows, its time `slack` times over.
pub fn bounded(target: &Target, bytes: &[u8], slack: u32) -> Cost {
    let mut cost = run(target, bytes);
    if cost.time > target.time * slack {
        // A page fault or a first use may be to blame; the input itself is slow every time.
        cost.time = (0..3).map(|_| run(target, bytes).time).min().unwrap_or(cost.time);
    }
    assert!(
        cost.time <= target.time * slack,
        "{}: one input took {:?} of processor time, at most {:?} are allowed",
        target.name,
        cost.time,
        target.time * slack
    );
    assert!(
        cost.largest <= target.memory,
        "{}: one input allocated {} bytes at once, at most {} are allowed",
        target.name,
        cost.largest,
        target.memory
    );
    cost
}
