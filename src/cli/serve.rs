//! `gateward serve`: runs the gateway until it is told to stop.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context as _;
use listenfd::ListenFd;

use crate::app::load::Ready;
use crate::app::serve::{self, Beginning, Given};
use crate::cli::arguments::ServeOptions;
use crate::cli::load::{self, Invocation};
use crate::observe::{AccessLog, Colour, Diagnostics};
use crate::pipeline::Pipeline;

pub fn run(invocation: &Invocation, options: &ServeOptions) -> anyhow::Result<()> {
    // First of all: it takes what it reads out of the environment, which no other thread may read meanwhile.
    let sockets = passed_sockets()?;
    let ready = invocation.load()?;
    let beginning = if options.takeover { Beginning::Takeover } else { Beginning::Afresh };
    start(Start { ready, environment: load::environment, sockets, beginning }, |_| {})
}

/// How the server is started.
pub struct Start {
    pub ready: Ready,
    /// What `${env:NAME}` asks.
    pub environment: fn(&str) -> Option<String>,
    pub sockets: Vec<TcpListener>,
    pub beginning: Beginning,
}

/// The sockets of systemd's socket units (`LISTEN_FDS`).
fn passed_sockets() -> anyhow::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let count = passed.len();
    let take = |at: usize| {
        let what = || format!("the socket with number {} that was passed is no listening TCP socket", at + FIRST_PASSED);
        passed.take_tcp_listener(at).with_context(what)?.with_context(what)
    };
    (0..count).map(take).collect()
}

/// `SD_LISTEN_FDS_START` of sd-daemon.h.
const FIRST_PASSED: usize = 3;

/// Starts the logs and the gateway. `started` is called once requests are taken.
pub fn start(start: Start, started: impl FnOnce(&Pipeline)) -> anyhow::Result<()> {
    let Start { ready, environment, sockets, beginning } = start;
    let no_color = load::environment("NO_COLOR").map(OsString::from);
    let colour = Colour::of(&io::stderr(), no_color.as_deref());
    let rust_log = load::environment("RUST_LOG");
    // Held until the end: dropping it writes what is still to be said.
    let diagnostics = Diagnostics::start(ready.config.log.level, rust_log.as_deref(), colour, Box::new(io::stderr()))?;
    let diagnostics = Arc::new(diagnostics);
    let colour = Colour::of(&io::stdout(), no_color.as_deref());
    let log = AccessLog::start(ready.config.log.access, colour, Box::new(io::stdout()))?;
    serve::serve(Given { ready, environment, log, diagnostics: diagnostics.clone(), sockets, beginning }, started)
}
