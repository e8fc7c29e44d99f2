//! `gateward jwks`: the keys of other issuers, as the running server has them, or as they are fetched now.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::app::issuers::foreign_issuers;
use crate::app::load::Ready;
use crate::app::serve;
use crate::cli::arguments::Output;
use crate::cli::load::Invocation;
use crate::cli::output::{self, Form};
use crate::cli::server::{call, error_of};
use crate::clock;

#[derive(Debug, Subcommand)]
pub enum JwksCommand {
    /// Show the keys of every issuer, when they were fetched and what was left out; no key material
    #[command(
        after_help = "Examples:\n  gateward jwks show\n  gateward jwks show --offline   # fetches them itself: the way to try a config out"
    )]
    Show(JwksOptions),
    /// Have the running server fetch the keys of every issuer anew
    #[command(after_help = "Example:\n  gateward jwks refresh")]
    Refresh(RefreshOptions),
}

#[derive(Debug, Args)]
pub struct JwksOptions {
    /// Fetch the keys in this process instead of asking the running server
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct RefreshOptions {
    #[command(flatten)]
    output: Output,
}

pub fn run(invocation: &Invocation, command: &JwksCommand) -> anyhow::Result<()> {
    let ready = invocation.load()?;
    let (found, form) = match command {
        JwksCommand::Show(options) if options.offline => (offline(&ready)?, options.output.form()),
        JwksCommand::Show(options) => (ask(&ready, "GET", "/jwks")?, options.output.form()),
        JwksCommand::Refresh(options) => (ask(&ready, "POST", "/jwks/refresh")?, options.output.form()),
    };
    match form {
        Form::Json => output::json(&found)?,
        Form::Text => output::text(&as_text(&found))?,
    }
    let failed = found.iter().filter(|status| status.get("last_error").is_some_and(Value::is_string)).count();
    match failed {
        0 => Ok(()),
        1 => bail!("the keys of one issuer could not be fetched"),
        _ => bail!("the keys of {failed} issuers could not be fetched"),
    }
}

fn ask(ready: &Ready, method: &str, path: &str) -> anyhow::Result<Vec<Value>> {
    let (status, body) = call(ready.config.admin.address, method, path, "")?;
    match status {
        200 => serde_json::from_str(&body).context("the server's answer is no list of keys"),
        _ => bail!("{}", error_of(&body)),
    }
}

fn offline(ready: &Ready) -> anyhow::Result<Vec<Value>> {
    let control = serve::control_runtime()?;
    let mut out = Vec::new();
    for api in &ready.config.apis {
        for issuer in foreign_issuers(api)? {
            // What went wrong stands in the status.
            if issuer.keys.is_remote() {
                let _ = control.block_on(issuer.keys.refresh_now());
            }
            out.push(serde_json::to_value(issuer.keys.status(clock::now()))?);
        }
    }
    Ok(out)
}

fn as_text(found: &[Value]) -> String {
    if found.is_empty() {
        return "no API of the config accepts tokens of another issuer: there is no [[api.issuer]]\n".to_owned();
    }
    found.iter().map(issuer_text).collect()
}

fn issuer_text(status: &Value) -> String {
    let text = |name: &str| status.get(name).and_then(Value::as_str);
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!("{}\n", text("issuer").unwrap_or_default());
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(out, "  {name:<9} {what}");
    };
    line(
        "from",
        text("url").unwrap_or(if text("last_error").is_some() { "what the issuer says of itself" } else { "the config" }),
    );
    if let Some(at) = text("fetched_at") {
        let next = text("next_refresh").map_or_else(String::new, |next| format!(", next {next}"));
        line("fetched", &format!("{at}{next}"));
    }
    if let Some(error) = text("last_error") {
        line("FAILS", error);
    }
    for key in list(status.get("keys")) {
        let kid = key.get("kid").and_then(Value::as_str).filter(|kid| !kid.is_empty()).unwrap_or("(no kid)").to_owned();
        let algorithms: Vec<String> = list(key.get("algorithms")).iter().map(words).collect();
        line("key", &format!("{kid}  {}", algorithms.join(" ")));
    }
    for skipped in list(status.get("skipped")) {
        line("left out", &words(&skipped));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_names_source_keys_and_what_is_wrong() {
        let status = json!({
            "issuer": "https://idp.test", "url": "https://idp.test/keys", "fetched_at": "2026-01-01T00:00:00Z",
            "next_refresh": "2026-01-01T00:10:00Z", "last_error": "idp.test: no connection",
            "keys": [{ "kid": "a", "algorithms": ["RS256", "PS256"] }, { "kid": "", "algorithms": ["ES256"] }],
            "skipped": ["key \"b\": RSA of 1024 bits"],
        });
        assert_eq!(
            as_text(&[status]),
            "https://idp.test\n  from      https://idp.test/keys\n  fetched   2026-01-01T00:00:00Z, next 2026-01-01T00:10:00Z\n  \
             FAILS     idp.test: no connection\n  key       a  RS256 PS256\n  key       (no kid)  ES256\n  left out  key \"b\": RSA of 1024 bits\n"
        );
    }
}
