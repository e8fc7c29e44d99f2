//! The binary: hands over to the command line, and its exit code to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    gateward::run()
}
