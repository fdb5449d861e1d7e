//! A child process of a test: it has a deadline, its output is kept, and it dies with the test's thread.
//! It must never outlive the test and never be waited for by time alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// After so many minutes the whole run is ended, naming what still ran. `CORDWAINER_RUN_MINUTES` sets another limit, for long runs.
const RUN_MINUTES: u64 = 20;

static RUNNING: Mutex<BTreeMap<u32, String>> = Mutex::new(BTreeMap::new());
static WATCH: OnceLock<()> = OnceLock::new();

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command whose process the kernel kills when the thread that starts it ends (`PR_SET_PDEATHSIG`).
///
/// Start it from the test's own thread: a short-lived thread would take the child with it.
#[must_use]
pub fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    open_streams: usize,
    seen: usize,
}

/// A running child with its output.
pub struct Child {
    name: String,
    process: std::process::Child,
    output: Arc<(Mutex<Output>, Condvar)>,
}

impl Child {
    /// Starts `command` under a name that messages use; both output streams are kept line by line.
    pub fn start(name: &str, command: &mut Command) -> Self {
        WATCH.get_or_init(|| {
            thread::spawn(end_an_endless_run);
        });
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error} ({command:?})"));
        lock(&RUNNING).insert(process.id(), name.to_owned());
        let output = Arc::new((
            Mutex::new(Output {
                open_streams: 2,
                ..Output::default()
            }),
            Condvar::new(),
        ));
        keep(process.stdout.take().unwrap(), &output);
        keep(process.stderr.take().unwrap(), &output);
        Self {
            name: name.to_owned(),
            process,
            output,
        }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All lines so far, of both streams in the order of their arrival.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        lock(&self.output.0).lines.clone()
    }

    /// The lines after the first `seen`.
    #[must_use]
    pub fn lines_after(&self, seen: usize) -> Vec<String> {
        lock(&self.output.0).lines.get(seen..).unwrap_or_default().to_vec()
    }

    /// The next line (after the one that the last call returned) that holds `text`.
    ///
    /// # Panics
    /// When the child ends or `within` passes first; the message holds the child's last lines.
    pub fn wait_for_line(&mut self, text: &str, within: Duration) -> String {
        let deadline = Instant::now() + within;
        let mut output = lock(&self.output.0);
        loop {
            if let Some(found) = output
                .lines
                .iter()
                .skip(output.seen)
                .position(|line| line.contains(text))
            {
                let index = output.seen + found;
                output.seen = index + 1;
                return output.lines[index].clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = output.open_streams == 0;
            if ended || left.is_zero() {
                let why = if ended { "ended" } else { "ran into its deadline" };
                let tail = output
                    .lines
                    .iter()
                    .rev()
                    .take(40)
                    .rev()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("\n  ");
                drop(output);
                panic!("{} {why} before it said {text:?}; its last lines:\n  {tail}", self.name);
            }
            output = self
                .output
                .1
                .wait_timeout(output, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until `found` finds something in the lines so far; `None` when the child ends or `within` passes first.
    pub fn wait_until<T>(&self, within: Duration, found: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + within;
        let mut output = lock(&self.output.0);
        loop {
            if let Some(value) = found(&output.lines) {
                return Some(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if output.open_streams == 0 || left.is_zero() {
                return None;
            }
            output = self
                .output
                .1
                .wait_timeout(output, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// When `within` passes first.
    pub fn wait_for_exit(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} did not end within {within:?}; its output:\n{}",
                self.name,
                self.lines().join("\n")
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// SIGTERM: the orderly end.
    pub fn terminate(&self) {
        let id = nix::unistd::Pid::from_raw(self.process.id().try_into().unwrap());
        let _gone = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
    }

    /// SIGKILL, and the process is gone on return.
    pub fn kill(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
        lock(&RUNNING).remove(&self.process.id());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let lines = self.lines();
            let tail = lines
                .iter()
                .rev()
                .take(60)
                .rev()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join("\n  ");
            eprintln!("output of {}:\n  {tail}", self.name);
        }
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
/// When it does not start, fails, or runs longer than `within`.
pub fn run(name: &str, command: &mut Command, within: Duration) -> String {
    let mut child = Child::start(name, command);
    let status = child.wait_for_exit(within);
    let mut output = lock(&child.output.0);
    while output.open_streams > 0 {
        output = child.output.1.wait(output).unwrap_or_else(PoisonError::into_inner);
    }
    let text = output.lines.join("\n");
    drop(output);
    assert!(status.success(), "{name} failed ({status}):\n{text}");
    text
}

fn keep(stream: impl Read + Send + 'static, output: &Arc<(Mutex<Output>, Condvar)>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            lock(&output.0)
                .lines
                .push(String::from_utf8_lossy(&line).trim_end().to_owned());
            output.1.notify_all();
            line.clear();
        }
        lock(&output.0).open_streams -= 1;
        output.1.notify_all();
    });
}

fn end_an_endless_run() {
    let given = std::env::var("CORDWAINER_RUN_MINUTES")
        .ok()
        .and_then(|minutes| minutes.parse().ok());
    let minutes = given.unwrap_or(RUN_MINUTES);
    thread::sleep(Duration::from_secs(minutes * 60));
    let names = lock(&RUNNING).values().cloned().collect::<Vec<_>>().join(", ");
    eprintln!("the tests have run for {minutes} minutes and are ended; still running: {names}");
    std::process::abort();
}
