//! The command line as an admin meets it: the real binary, a state folder of its own, its exit codes, words and JSON.

mod daemon;
mod examples;
mod install;
mod sample_documents;
mod secrets;
mod systemd;
mod templates;
mod transcript;
mod usage;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One state folder, and commands run on it from `/`.
pub struct Session {
    home: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// What was typed.
    pub line: String,
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Session {
    /// An empty state folder.
    pub fn new() -> Self {
        let session = Self {
            home: tempfile::tempdir().unwrap(),
        };
        // The configuration of the host that the tests run on is none of theirs.
        session.write("session.toml", "");
        session
    }

    /// A path in this session's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file into this session's own folder.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A command that was not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cordwainer"));
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if !arguments.contains(&"--config") {
            command.arg("--config").arg(self.path("session.toml"));
        }
        command.arg("--state").arg(self.path("state")).args(arguments);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[], "")
    }

    /// Runs a command with an environment and standard input.
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Ran {
        let mut command = self.command(arguments);
        Self::to_its_end(command.envs(environment.iter().copied()), arguments, input)
    }

    /// Runs a command that is killed once it has taken so many seconds of a processor: however busy the machine is, that is its own doing.
    pub fn run_within(&self, seconds: u32, arguments: &[&str]) -> Ran {
        let ours = self.command(arguments);
        let mut command = Command::new("prlimit");
        command
            .arg(format!("--cpu={seconds}"))
            .arg(ours.get_program())
            .args(ours.get_args())
            .current_dir("/");
        Self::to_its_end(&mut command, arguments, "")
    }

    fn to_its_end(command: &mut Command, arguments: &[&str], input: &str) -> Ran {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        Ran {
            line: arguments.join(" "),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Text with this session's own paths taken out.
    pub fn redacted(&self, text: &str) -> String {
        text.replace(self.home.path().to_str().unwrap(), "HOME")
    }
}

impl Ran {
    /// Stops the test unless the command ended with 0.
    pub fn succeeded(self) -> Self {
        self.ended(0)
    }

    /// Stops the test unless the command ended with this code.
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "cordwainer {}\n{}{}", self.line, self.out, self.err);
        self
    }

    /// Standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("cordwainer {}: {error}\n{}", self.line, self.out))
    }
}

/// True when `tool` is not here and the test is left out, which is said; with CORDWAINER_REQUIRE_ALL=1 that is a failure.
pub fn missing_tool(tool: &str, package: &str) -> bool {
    let found = std::env::var("PATH")
        .unwrap_or_default()
        .split(':')
        .any(|folder| Path::new(folder).join(tool).exists());
    if !found {
        assert!(
            std::env::var("CORDWAINER_REQUIRE_ALL").as_deref() != Ok("1"),
            "{tool} is missing: apt install {package}"
        );
        eprintln!("SKIPPED: {tool} is missing: apt install {package}");
    }
    !found
}
