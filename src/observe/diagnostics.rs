//! The diagnostic log: what the gateway has to say of itself, on stderr, for people. Requests are the access log's.
//!
//! It goes through the same kind of queue as the access log: stderr is often the same pipe, and a worker that warns must
//! not wait for its reader.

use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::{Registry, reload};

use crate::config::Level;
use crate::observe::Colour;
use crate::observe::lines::Lines;

/// Keeps the diagnostic log running; dropping it writes what is queued, for at most one second.
pub struct Diagnostics {
    lines: Lines,
    filter: reload::Handle<Targets, Registry>,
    /// What RUST_LOG says, which no config changes.
    is_fixed: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum DiagnosticsError {
    #[error("RUST_LOG is `{text}`, which is no list like `info,hyper=warn`: {source}")]
    Filter { text: String, source: ParseError },
    #[error("the diagnostic log gets no thread: {0}")]
    Thread(#[from] io::Error),
    #[error("the diagnostic log is set up twice")]
    Twice(#[from] SetGlobalDefaultError),
}

impl Diagnostics {
    /// Sets the process's log up, once. `rust_log` is the variable RUST_LOG, which wins over `level`.
    ///
    /// # Errors
    /// When `rust_log` cannot be read, the system gives no thread, or it is the second call.
    pub fn start(
        level: Level,
        rust_log: Option<&str>,
        colour: Colour,
        sink: Box<dyn Write + Send>,
    ) -> Result<Self, DiagnosticsError> {
        let is_fixed = rust_log.is_some_and(|text| !text.trim().is_empty());
        let (filter, handle) = reload::Layer::new(filter(level, rust_log)?);
        let lines = Lines::start("diagnostics", sink)?;
        tracing::subscriber::set_global_default(subscriber(filter, colour, lines.clone()))?;
        panic::set_hook(Box::new(log_panic));
        Ok(Self { lines, filter: handle, is_fixed })
    }

    /// Shows messages from this level on, unless RUST_LOG says otherwise.
    pub fn set_level(&self, level: Level) {
        if !self.is_fixed {
            // Fails only where the subscriber is gone, and nobody listens then.
            let _ = self.filter.reload(own(level_filter(level)));
        }
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        self.lines.close(Duration::from_secs(1));
    }
}

/// Says where, and in which words only where those stand in the source: what a library formats into the message of its
/// panic may be a part of what a client sent.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map_or_else(String::new, ToString::to_string);
    let words = panic.payload().downcast_ref::<&'static str>().unwrap_or(&"its message may hold what a client sent");
    let thread = thread::current();
    tracing::error!(place, thread = thread.name().unwrap_or_default(), "a defect of the gateway: panicked: {words}");
}

fn subscriber(filter: reload::Layer<Targets, Registry>, colour: Colour, lines: Lines) -> impl tracing::Subscriber + Send + Sync {
    let layer = tracing_subscriber::fmt::layer().compact().with_ansi(colour == Colour::Ansi).with_writer(ToLines(lines));
    tracing_subscriber::registry().with(layer.with_filter(filter))
}

fn filter(level: Level, rust_log: Option<&str>) -> Result<Targets, DiagnosticsError> {
    match rust_log {
        Some(text) if !text.trim().is_empty() => {
            text.parse().map_err(|source| DiagnosticsError::Filter { text: text.to_owned(), source })
        }
        Some(_) | None => Ok(own(level_filter(level))),
    }
}

/// The level holds for our own messages; the libraries below speak up from warnings on.
fn own(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(env!("CARGO_PKG_NAME"), level)
}

fn level_filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

struct ToLines(Lines);

/// The formatter writes an event in one piece.
struct Event<'a>(&'a Lines);

impl<'a> MakeWriter<'a> for ToLines {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event(&self.0)
    }
}

impl Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let shown = bytes.get(..LINE_BYTES).unwrap_or(bytes);
        self.0.push(String::from_utf8_lossy(shown).trim_end_matches('\n').to_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const LINE_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples::Kept;

    fn logged(level: Level, rust_log: Option<&str>, speak: impl FnOnce()) -> String {
        let kept = Kept::default();
        let lines = Lines::start("test", Box::new(kept.clone())).unwrap();
        let (filter, _handle) = reload::Layer::new(filter(level, rust_log).unwrap());
        let subscriber = subscriber(filter, Colour::Plain, lines.clone());
        tracing::subscriber::with_default(subscriber, speak);
        assert!(lines.close(Duration::from_secs(30)));
        kept.text()
    }

    fn speak() {
        tracing::info!(listener.name = "public", "listening on\x1b[2J all");
        tracing::debug!("details");
        tracing::info!(target: "hyper", "a library's news");
        tracing::warn!(target: "hyper", "a library's warning");
    }

    /// The lines without their time.
    fn messages(text: &str) -> Vec<&str> {
        text.lines().map(|line| line.split_once(' ').unwrap().1.trim_start()).collect()
    }

    #[test]
    fn the_level_is_for_our_own_messages_and_libraries_only_warn() {
        let own = r#"INFO gateward::observe::diagnostics::tests: listening on\x1b[2J all listener.name="public""#;
        assert_eq!(messages(&logged(Level::Info, None, speak)), [own, "WARN hyper: a library's warning"]);
        assert_eq!(messages(&logged(Level::Info, Some(""), speak)).len(), 2);
        assert_eq!(logged(Level::Error, None, speak), "");
    }

    #[test]
    fn rust_log_wins_over_the_level() {
        let text = logged(Level::Error, Some("off,hyper=info"), speak);
        assert_eq!(messages(&text), ["INFO hyper: a library's news", "WARN hyper: a library's warning"]);
    }

    #[test]
    fn a_rust_log_that_cannot_be_read_is_an_error_that_shows_it() {
        let error = filter(Level::Info, Some("hyper=loud")).unwrap_err();
        assert!(error.to_string().starts_with("RUST_LOG is `hyper=loud`, which is no list like"), "{error}");
    }
}
