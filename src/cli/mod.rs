//! WHAT AN OPERATOR TYPES. Reads the command line and the environment, runs one command and says how it ended: exit code
//! 0 done, 1 failed, 2 wrong usage, 78 invalid config. Data goes to stdout, everything else to stderr.

mod about;
mod arguments;
mod check;
mod demo;
mod diff;
mod explain;
mod jwks;
mod key;
mod load;
mod moments;
mod opened;
mod outcome;
mod output;
mod reload;
mod routes;
mod routes_match;
mod serve;
mod server;
mod store;
mod token;
mod user;
mod words;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::arguments::{Arguments, Command};
use crate::cli::load::Invocation;

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout and is no error; when nobody reads it, nothing is lost.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(outcome::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    outcome::end(dispatch(arguments))
}

fn dispatch(arguments: Arguments) -> anyhow::Result<()> {
    let invocation = Invocation { config: arguments.config };
    match arguments.command {
        Command::Serve(options) => serve::run(&invocation, &options),
        Command::Reload(options) => reload::run(&invocation, options),
        Command::Diff(options) => diff::run(&invocation, &options),
        Command::Demo(options) => demo::run(&invocation, &options),
        Command::Check(options) => check::run(&invocation, &options),
        Command::Routes(options) => routes::run(&invocation, &options),
        Command::Explain(options) => explain::run(&invocation, &options),
        Command::User(command) => user::run(&invocation, command),
        Command::Key(command) => key::run(&invocation, command),
        Command::Token(command) => token::run(&invocation, command),
        Command::Jwks(command) => jwks::run(&invocation, &command),
        Command::Store(command) => store::run(&invocation, &command),
        Command::Schema => about::schema(),
        Command::Completions(options) => about::completions(&options),
        Command::Version(options) => about::version(&options),
    }
}
