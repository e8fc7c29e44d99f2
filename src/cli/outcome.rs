//! How a command ends: what is said on stderr, and the exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::output::printable;

/// Wrong usage that only shows once the config is read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The config has mistakes. Without words: they were shown with their places.
#[derive(Debug, thiserror::Error)]
#[error("the config has mistakes{}", .0.as_ref().map_or_else(String::new, |why| format!(": {why}")))]
pub struct ConfigRefused(pub Option<String>);

/// Two configs differ, which was shown: no failure, but another exit code.
#[derive(Debug, thiserror::Error)]
#[error("the configs differ")]
pub struct Differs;

/// Says what went wrong, if anything, and answers the exit code.
pub fn end(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    // Who reads `gateward … | head` has read enough: that is no failure.
    let is_broken_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<io::Error>().is_some_and(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    if error.is::<Differs>() {
        return ExitCode::from(FAILED);
    }
    let (code, words) = match (error.downcast_ref::<Usage>(), error.downcast_ref::<ConfigRefused>()) {
        (Some(_), _) => (USAGE, Some(format!("{error:#}"))),
        (None, Some(ConfigRefused(why))) => (CONFIG, why.clone()),
        (None, None) => (FAILED, Some(format!("{error:#}"))),
    };
    if let Some(words) = words {
        // A stderr that is closed leaves the exit code to say it.
        let _ = writeln!(io::stderr().lock(), "error: {}", printable(&words));
    }
    ExitCode::from(code)
}

const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
/// `EX_CONFIG` of sysexits.h.
const CONFIG: u8 = 78;
