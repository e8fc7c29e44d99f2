//! `gateward token`: what a token or a key says, whose it is, and whether it would be accepted now.

mod inspect;
mod judge;

use clap::{Args, Subcommand};

use crate::cli::arguments::Output;
use crate::cli::load::Invocation;

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Show a token or key, which API it belongs to, and whether it would be accepted now and why not
    #[command(after_help = "Examples:\n  gateward token inspect < token.txt\n  gateward token inspect \"$TOKEN\" --json\n\n\
        Its signature or secret part is never printed back. What stands on a command line shows in the system's list of\n\
        processes: standard input does not.")]
    Inspect(InspectOptions),
}

#[derive(Debug, Args)]
pub struct InspectOptions {
    /// The token or key; `-` or nothing reads it from standard input
    token: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub fn run(invocation: &Invocation, command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Inspect(options) => inspect::run(invocation, options),
    }
}
