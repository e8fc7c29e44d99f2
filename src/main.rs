//! The binary: hands over to the command line, and its exit code to the system.

use std::process::ExitCode;

/// A request allocates and frees some two dozen pieces, which takes less than half of the instructions that the C library
/// takes for it. Without the huge pages that it would ask for: they hold more memory and make nothing faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gateward::run()
}
