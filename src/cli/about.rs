//! `gateward schema`, `completions` and `version`: what the program says about itself.

use clap::CommandFactory;
use serde_json::json;

use crate::cli::arguments::{Arguments, CompletionOptions, Output};
use crate::cli::output::{self, Form};

pub fn schema() -> anyhow::Result<()> {
    output::json(&crate::config::schema())
}

pub fn completions(options: &CompletionOptions) -> anyhow::Result<()> {
    // Into memory first: the generator panics when nobody reads on.
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Arguments::command(), "gateward", &mut script);
    output::text(&String::from_utf8(script)?)
}

pub fn version(output: &Output) -> anyhow::Result<()> {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    match output.form() {
        Form::Text => output::text(&format!("gateward {VERSION}\n")),
        Form::Json => output::json(&json!({ "version": VERSION })),
    }
}
