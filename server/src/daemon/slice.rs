//! A short slice of the processor for every thread: what waits for a packet or for the disk goes on at once, also on a busy host.
//!
//! A host that runs guests has busy cores. There a thread that an interrupt wakes waits until the running one has used up its slice, which
//! is milliseconds, and an ACK sleeps four times on its way. The kernel (from 6.12 on) lets those with a short slice go first. The share of
//! the processor stays what it is, so nobody else loses any; and it is no privilege. Never touches the policy or the priority.
#![expect(unsafe_code, reason = "no crate of ours wraps sched_setattr(2); see SAFETY")]

use nix::errno::Errno;
use nix::libc;

/// The slice in nanoseconds; the kernel's own is 3 ms.
const SLICE: u64 = 250_000;

/// Shortens the slice of this thread, and of those that it starts from now on.
///
/// # Errors
/// What the kernel says; an old one takes it and does nothing.
pub(super) fn shorten() -> Result<(), Errno> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).map_err(|_| Errno::E2BIG)?;
    // SAFETY: it holds nothing but integers, for which all zeros are values.
    let mut asked: libc::sched_attr = unsafe { std::mem::zeroed() };
    let none: libc::c_uint = 0;
    let this: libc::pid_t = 0;
    // SAFETY: the kernel writes at most `size` bytes into `asked`, which lives beyond the call.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, this, &raw mut asked, size, none) };
    Errno::result(got)?;
    if asked.sched_policy != u32::try_from(libc::SCHED_OTHER).unwrap_or(0) {
        // Somebody chose another one, and knows why.
        return Ok(());
    }
    asked.size = size;
    asked.sched_runtime = SLICE;
    // SAFETY: the kernel reads `size` bytes of `asked`, which lives beyond the call.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, this, &raw const asked, none) };
    Errno::result(set).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_it_and_the_priority_stays() {
        let priority = || {
            // SAFETY: it takes and gives integers.
            unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
        };
        std::thread::spawn(move || {
            let before = priority();
            shorten().unwrap();
            assert_eq!(priority(), before);
        })
        .join()
        .unwrap();
    }
}
