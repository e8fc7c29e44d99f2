//! The commands and their options. Every command's help ends with an example.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::jwks::JwksCommand;
use crate::cli::key::KeyCommand;
use crate::cli::output::Form;
use crate::cli::store::StoreCommand;
use crate::cli::token::TokenCommand;
use crate::cli::user::UserCommand;

/// A reverse-proxy authentication gateway: it checks credentials at the edge, spends limits, says who is calling and
/// forwards.
#[derive(Debug, Parser)]
#[command(name = "gateward", version, propagate_version = false, arg_required_else_help = true)]
#[command(after_help = "Example:\n  gateward check && gateward serve\n\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 78 invalid config.")]
pub struct Arguments {
    /// The config file; by default gateway.toml, then /etc/gateward/gateway.toml
    #[arg(long, global = true, env = "GATEWARD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    #[command(visible_alias = "run", after_help = "Example:\n  gateward serve --config /etc/gateward/gateway.toml")]
    Serve(ServeOptions),
    /// Have the running server read its config anew and take it over
    #[command(after_help = "Example:\n  gateward check && gateward reload")]
    Reload(Output),
    /// Show what a reload with another config would change; exit code 0 for nothing, 1 for something
    #[command(after_help = "Example:\n  gateward diff new.toml")]
    Diff(DiffOptions),
    /// Run a sample API with a gateway in front of it, and show lines to try
    #[command(after_help = "Examples:\n  gateward demo --dir /tmp/gateward-demo\n  gateward demo --api-only 127.0.0.1:9000")]
    Demo(DemoOptions),
    /// Show every mistake of the config and its contract files; starts nothing
    #[command(after_help = "Example:\n  gateward check gateway.toml")]
    Check(CheckOptions),
    /// Show who may call what, or which route a request would take
    #[command(after_help = "Examples:\n  gateward routes\n  gateward routes GET http://localhost:8080/items/42")]
    Routes(RoutesOptions),
    /// Show what would become of a request, or why one was refused
    #[command(after_help = "Examples:\n  \
        gateward explain GET http://localhost:8080/items -H 'Authorization: Bearer …'\n  \
        gateward explain 4bf92f3577b34da6a3ce929d0e0e4736")]
    Explain(ExplainOptions),
    /// Add, list, disable and enable accounts, and set passwords
    #[command(subcommand, after_help = "Example:\n  gateward user add alice --role admin")]
    User(UserCommand),
    /// Create, import, list and revoke API keys
    #[command(subcommand, after_help = "Example:\n  gateward key create --owner alice --expires 90d")]
    Key(KeyCommand),
    /// Look into tokens and keys
    #[command(subcommand, after_help = "Example:\n  gateward token inspect -")]
    Token(TokenCommand),
    /// Show and fetch the keys of other issuers
    #[command(subcommand, after_help = "Example:\n  gateward jwks show")]
    Jwks(JwksCommand),
    /// Bring the store's tables up to date, look whether it is sound, copy it
    #[command(subcommand, after_help = "Example:\n  gateward store check")]
    Store(StoreCommand),
    /// Print the JSON Schema of gateway.toml, for editors
    #[command(after_help = "Example:\n  gateward schema > gateway.schema.json")]
    Schema,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  gateward completions bash > /etc/bash_completion.d/gateward")]
    Completions(CompletionOptions),
    /// Print the version
    #[command(after_help = "Example:\n  gateward version --json")]
    Version(Output),
}

/// How data is written.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ServeOptions {
    /// Take the place of the process that serves this config now, by its `server.upgrade_socket`; no connection is lost
    #[arg(long)]
    pub takeover: bool,
}

#[derive(Debug, Args)]
pub struct DiffOptions {
    /// The config that would be taken over
    pub new: PathBuf,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct CheckOptions {
    /// The config file, in place of --config
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct DemoOptions {
    /// Where its files are kept; by default a new temporary folder
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Which built-in contract the sample API speaks
    #[arg(long, value_name = "NAME")]
    pub contract: Option<String>,
    /// Run the sample API alone, on this address: something to put gateways of your own in front of
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["dir", "contract"])]
    pub api_only: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct RoutesOptions {
    /// A method and a URL: shows the route that would take the request, and those that come near
    #[arg(value_name = "METHOD URL", num_args = 0..=2)]
    pub request: Vec<String>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ExplainOptions {
    /// A method and a URL, or the id of a request that was refused
    #[arg(value_name = "METHOD URL | REQUEST_ID", num_args = 1..=2, required = true)]
    pub target: Vec<String>,
    /// A header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "'NAME: VALUE'")]
    pub headers: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "ADDR")]
    pub ip: Option<IpAddr>,
    /// Ask the file alone, not the running server
    #[arg(long)]
    pub offline: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct CompletionOptions {
    /// The shell that the script is for
    pub shell: clap_complete::Shell,
}

impl Output {
    pub fn form(self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}
