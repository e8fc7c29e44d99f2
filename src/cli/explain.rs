//! `gateward explain`: what would become of a request, stage by stage, or why one was refused. Asks the running server,
//! whose counters and records it shows; with `--offline` the config and the store alone.

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::app::load::Ready;
use crate::app::{build, serve};
use crate::cli::arguments::ExplainOptions;
use crate::cli::load::Invocation;
use crate::cli::outcome::Usage;
use crate::cli::output::{self, Form};
use crate::cli::server::{call, error_of};
use crate::clock;
use crate::config::AccessFormat;
use crate::observe::{AccessLog, Colour, Metrics};
use crate::pipeline::{Explanation, Question};

pub fn run(invocation: &Invocation, options: &ExplainOptions) -> anyhow::Result<()> {
    let ready = invocation.load()?;
    match options.target.as_slice() {
        [method, url] => {
            let question = question(options, method, url)?;
            let explanation = if options.offline { offline(&ready, &question)? } else { ask(&ready, &question)? };
            show(options, &explanation)
        }
        [id] => show_record(&ready, id),
        _ => Err(Usage("name a method and a URL, or the id of a request".to_owned()).into()),
    }
}

fn question(options: &ExplainOptions, method: &str, url: &str) -> anyhow::Result<Question> {
    let mut headers = Vec::new();
    for header in &options.headers {
        let Some((name, value)) = header.split_once(':') else {
            // What stands there may be a credential: it is not repeated.
            return Err(Usage("a header is written 'Name: value'".to_owned()).into());
        };
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(Question { method: method.to_uppercase(), url: url.to_owned(), headers, ip: options.ip, listener: None })
}

/// Evaluates the config and the store, without a server and its counters.
fn offline(ready: &Ready, question: &Question) -> anyhow::Result<Explanation> {
    let control = serve::control_runtime()?;
    let log = AccessLog::start(AccessFormat::Off, Colour::Plain, Box::new(std::io::sink()))?;
    let store = control.block_on(build::open_store(ready, control.handle().clone()))?;
    let foundation = control.block_on(async { build::Foundation::new(store.clone(), None, log, Metrics::default()) });
    let pipeline = control.block_on(build::pipeline(ready, &foundation, None))?;
    let issuers = pipeline.services.iter().flat_map(|service| service.authenticator.issuers.iter());
    for issuer in issuers.filter(|issuer| issuer.keys.is_remote()) {
        if let Err(why) = control.block_on(issuer.keys.refresh_now()) {
            output::note(&format!("the keys of {} cannot be fetched: {why}", issuer.label));
        }
    }
    let explanation = control.block_on(pipeline.explain(question, clock::now())).map_err(anyhow::Error::msg);
    control.block_on(store.close());
    explanation
}

fn ask(ready: &Ready, question: &Question) -> anyhow::Result<Explanation> {
    let (status, body) = call(ready.config.admin.address, "POST", "/explain", &serde_json::to_string(question)?)?;
    match status {
        200 => serde_json::from_str(&body).context("the server's answer is no explanation"),
        _ => bail!("{}", error_of(&body)),
    }
}

fn show(options: &ExplainOptions, explanation: &Explanation) -> anyhow::Result<()> {
    if options.output.form() == Form::Json {
        return output::json(explanation);
    }
    let mut lines: Vec<String> = explanation.steps.iter().map(|(stage, outcome)| format!("{stage:<13} {outcome}")).collect();
    let target = explanation.target.as_deref().unwrap_or_default();
    lines.push(match explanation.verdict.as_str() {
        "forward" => format!("→ forwarded to {target}"),
        "answer" => format!("→ answered by the gateway: {target}"),
        verdict => format!(
            "→ {verdict}d: {} {}",
            explanation.status.map_or_else(String::new, |status| status.to_string()),
            explanation.reason.as_deref().unwrap_or_default()
        ),
    });
    lines.extend(explanation.identity.iter().map(|(name, value)| format!("    {name}: {}", value.as_str().unwrap_or_default())));
    lines.extend(explanation.body.iter().map(|body| format!("    {body}")));
    output::text(&format!("{}\n", lines.join("\n")))
}

/// Shows the log record of a request that was refused not long ago.
fn show_record(ready: &Ready, id: &str) -> anyhow::Result<()> {
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(Usage("a request id is made of letters, digits, `-` and `_`".to_owned()).into());
    }
    let (status, body) = call(ready.config.admin.address, "GET", &format!("/requests/{id}"), "")?;
    match status {
        200 => output::json(&serde_json::from_str::<Value>(&body).context("the server's answer is no record")?),
        404 => bail!("the server remembers no refused request with the id {id}: it keeps the last 4096"),
        _ => bail!("{}", error_of(&body)),
    }
}
