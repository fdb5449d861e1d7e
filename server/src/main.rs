//! The `cordwainer` binary: parse, run, exit code. Everything else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    cordwainer::cli::main(std::env::args_os())
}
