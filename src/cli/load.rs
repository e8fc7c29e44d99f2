//! Finds and loads the config for a command, and shows its mistakes. The one place of the command line that reads the
//! environment.

use std::path::{Path, PathBuf};

use crate::app::load::Ready;
use crate::cli::outcome::ConfigRefused;
use crate::cli::output;
use crate::config::report::Report;

/// What was said before the command itself.
#[derive(Debug)]
pub struct Invocation {
    /// `--config` or `GATEWARD_CONFIG`.
    pub config: Option<PathBuf>,
}

impl Invocation {
    /// Loads the config; its mistakes go to stderr.
    ///
    /// # Errors
    /// [`ConfigRefused`].
    pub fn load(&self) -> anyhow::Result<Ready> {
        let mut report = Report::default();
        let ready = crate::app::load::load(&self.path()?, &environment, &mut report);
        ready.ok_or_else(|| {
            output::note(&report.to_string());
            ConfigRefused(None).into()
        })
    }

    /// The config file to use.
    ///
    /// # Errors
    /// [`ConfigRefused`] when none is named and none is where it is looked for.
    pub fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.config {
            return Ok(path.clone());
        }
        let found = DEFAULTS.iter().map(Path::new).find(|path| path.exists());
        let why = || format!("there is no config: looked for {}; name one with --config FILE", DEFAULTS.join(" and "));
        Ok(found.ok_or_else(|| ConfigRefused(Some(why())))?.to_owned())
    }
}

/// A variable of the environment; one that is not UTF-8 counts as not set.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment for everybody")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

const DEFAULTS: [&str; 2] = ["gateway.toml", "/etc/gateward/gateway.toml"];
