//! `gateward serve`: runs the gateway until it is told to stop.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use crate::app::load::Ready;
use crate::app::serve::{self, Given};
use crate::cli::load::{self, Invocation};
use crate::observe::{AccessLog, Colour, Diagnostics};
use crate::pipeline::Pipeline;

pub fn run(invocation: &Invocation) -> anyhow::Result<()> {
    start(invocation.load()?, load::environment, |_| {})
}

/// Starts the logs and the gateway. `started` is called once requests are taken.
pub fn start(ready: Ready, environment: fn(&str) -> Option<String>, started: impl FnOnce(&Pipeline)) -> anyhow::Result<()> {
    let no_color = load::environment("NO_COLOR").map(OsString::from);
    let colour = Colour::of(&io::stderr(), no_color.as_deref());
    let rust_log = load::environment("RUST_LOG");
    // Held until the end: dropping it writes what is still to be said.
    let diagnostics = Diagnostics::start(ready.config.log.level, rust_log.as_deref(), colour, Box::new(io::stderr()))?;
    let diagnostics = Arc::new(diagnostics);
    let colour = Colour::of(&io::stdout(), no_color.as_deref());
    let log = AccessLog::start(ready.config.log.access, colour, Box::new(io::stdout()))?;
    serve::serve(Given { ready, environment, log, diagnostics: diagnostics.clone() }, started)
}
