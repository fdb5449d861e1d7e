//! A run of the program, measured: how long it took, and how much memory it had at most.

use crate::lab::child;
use nix::libc;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How a run ended.
pub struct Measured {
    pub code: Option<i32>,
    pub said: String,
    pub took: Duration,
    /// Time on a processor, which a busy machine does not lengthen.
    pub worked: Duration,
    /// Most bytes in memory at once.
    pub memory: u64,
}

/// Runs the program with `args`, and kills it after `limit`.
pub fn run(dir: &Path, args: &[&str], limit: Duration) -> Measured {
    let errors = dir.join("stderr");
    let mut command = child::command(env!("CARGO_BIN_EXE_cordwainer"));
    command
        .arg("--config")
        .arg(dir.join("cordwainer.toml"))
        .arg("--state")
        .arg(dir.join("state"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&errors).unwrap());
    for name in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    let begun = Instant::now();
    let child = command.spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let (code, memory, worked) = loop {
        if let Some(ended) = wait(pid) {
            break ended;
        }
        if begun.elapsed() > limit {
            let _ended = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let took = begun.elapsed();
    // Waited for already: its handle must not wait again.
    std::mem::forget(child);
    Measured {
        code,
        said: String::from_utf8_lossy(&std::fs::read(errors).unwrap()).into_owned(),
        took,
        worked,
        memory,
    }
}

/// The exit code, none for a signal, the largest resident set in bytes, and the time on a processor, once the child `pid` has ended.
fn wait(pid: i32) -> Option<(Option<i32>, u64, Duration)> {
    let mut status = 0;
    #[expect(
        unsafe_code,
        reason = "wait4(2) alone tells the memory of one child; the standard library does not have it"
    )]
    // SAFETY: a struct of numbers, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    #[expect(
        unsafe_code,
        reason = "wait4(2) alone tells the memory of one child; the standard library does not have it"
    )]
    // SAFETY: both pointers are to locals that live through the call.
    let ended = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
    if ended == 0 {
        return None;
    }
    assert_eq!(ended, pid, "wait4: {}", std::io::Error::last_os_error());
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    let spent = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.try_into().unwrap()) + Duration::from_micros(time.tv_usec.try_into().unwrap())
    };
    let worked = spent(usage.ru_utime) + spent(usage.ru_stime);
    Some((code, u64::try_from(usage.ru_maxrss).unwrap() * 1024, worked))
}
