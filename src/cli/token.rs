//! `gateward token inspect`: what a token or a key says, whose it is, and whether it would be accepted now.

use std::io::Read;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::app::signing::{key_format, signing_key, verifier};
use crate::cli::arguments::Output;
use crate::cli::key::state;
use crate::cli::load::Invocation;
use crate::cli::moments::beside_now;
use crate::cli::opened::{Opened, with_store};
use crate::cli::outcome::Usage;
use crate::cli::output::{self, Form};
use crate::clock::Timestamp;
use crate::contract::Api;
use crate::identity::{CredentialKind, Secret};
use crate::pipeline::Authenticator;
use crate::rejection::{Denial, Rejection};

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Show what a token or key says and whether it would be accepted now
    #[command(after_help = "Example:\n  echo \"$TOKEN\" | gateward token inspect -")]
    Inspect(InspectOptions),
}

#[derive(Debug, Args)]
pub struct InspectOptions {
    /// The token or key; `-` reads it from standard input, where no list of processes shows it
    #[arg(default_value = "-")]
    token: String,
    #[command(flatten)]
    output: Output,
}

pub fn run(invocation: &Invocation, command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::Inspect(options) = command;
    let token = read(&options)?;
    let report = with_store(invocation, async |opened| {
        let mut verdicts = Vec::new();
        for api in &opened.ready.apis {
            verdicts.push(judge(opened, api, &token).await?);
        }
        Ok(json!({ "decoded": decode(token.expose(), opened), "apis": verdicts }))
    })?;
    match options.output.form() {
        Form::Json => output::json(&report),
        Form::Text => output::text(&as_text(&report)),
    }
}

fn read(options: &InspectOptions) -> anyhow::Result<Secret> {
    let text = match options.token.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().lock().take(MAX_BYTES).read_to_string(&mut text).context("standard input cannot be read")?;
            text.trim().to_owned()
        }
        given => given.trim().to_owned(),
    };
    let text = text.strip_prefix("Bearer ").map_or(text.as_str(), str::trim);
    if text.is_empty() { Err(Usage("there is no token".to_owned()).into()) } else { Ok(Secret::new(text)) }
}

/// Header and claims of a JWT, unverified; nothing of a key beyond its form.
fn decode(token: &str, opened: &Opened) -> Value {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return json!({ "form": "opaque" });
    };
    let object = |part: &str| -> Option<Map<String, Value>> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
    match (object(header), object(claims)) {
        (Some(header), Some(claims)) => {
            let times: Map<String, Value> = ["iat", "nbf", "exp"]
                .into_iter()
                .filter_map(|name| {
                    Some((name.to_owned(), beside_now(Timestamp::from_seconds(claims.get(name)?.as_u64()?), opened.now).into()))
                })
                .collect();
            json!({ "form": "jwt", "header": header, "claims": claims, "times": times })
        }
        _ => json!({ "form": "three parts that are no JWT" }),
    }
}

/// What one API would say of it, by the very code that judges requests.
async fn judge(opened: &Opened, api: &Api, token: &Secret) -> anyhow::Result<Value> {
    let signing = signing_key(api, &opened.store).await?;
    let authenticator = Authenticator { tokens: verifier(api, &signing), keys: key_format(api), store: opened.store.clone() };
    let kind = api.kind_of(token.expose());
    let verdict = match kind {
        Some(kind) => authenticator.judge(api, kind, token, opened.now).map(|principal| {
            json!({
                "account": principal.account.id.as_str(),
                "username": principal.account.username,
                "credential": &*principal.credential_id,
                "expires_at": principal.expires_at.map(Timestamp::rfc3339),
            })
        }),
        None => Err(Denial::CredentialMalformed { what: "no kind has this form" }.into()),
    };
    let (accepted, principal, refusal) = match verdict {
        Ok(principal) => (true, principal, Value::Null),
        Err(rejection) => (false, Value::Null, refusal_json(&rejection)),
    };
    let key = if kind == Some(CredentialKind::ApiKey) { key_json(opened, api, token) } else { Value::Null };
    Ok(json!({
        "api": *api.facts.name,
        "kind": kind.map(CredentialKind::as_str),
        "signing_key": signing.kid(),
        "accepted": accepted,
        "principal": principal,
        "refusal": refusal,
        "key": key,
    }))
}

fn refusal_json(rejection: &Rejection) -> Value {
    json!({ "reason": rejection.code(), "detail": rejection.to_string() })
}

fn key_json(opened: &Opened, api: &Api, token: &Secret) -> Value {
    let format = key_format(api);
    let id = format.parse(token.expose()).map(|part| api.ids.api_key.with(part));
    let Ok(Some(key)) = id.map(|id| opened.store.directory().key(&api.facts.realm, &id)) else { return Value::Null };
    // Whoever has not the whole key learns nothing about it.
    if !key.digest.matches(token.expose()) {
        return Value::Null;
    }
    json!({
        "id": key.id.as_str(),
        "name": key.name,
        "owner": key.owner.as_str(),
        "state": state(&key, opened.now),
        "scopes": key.scopes.to_spaced(),
        "tenants": key.tenants.iter().map(|tenant| &**tenant).collect::<Vec<_>>(),
    })
}

fn as_text(report: &Value) -> String {
    let mut out = String::new();
    let mut section = |name: &str, value: &Value| {
        if let Some(object) = value.as_object().filter(|object| !object.is_empty()) {
            out.push_str(&format!("{name}\n"));
            for (key, value) in object {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                out.push_str(&format!("  {key:<12} {value}\n"));
            }
        }
    };
    let decoded = report.get("decoded").unwrap_or(&Value::Null);
    for part in ["header", "claims", "times"] {
        section(part, decoded.get(part).unwrap_or(&Value::Null));
    }
    for api in report.get("apis").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| api.get(name).and_then(Value::as_str).unwrap_or("unknown form").to_owned();
        let verdict = if api.get("accepted") == Some(&Value::Bool(true)) { "accepted" } else { "refused" };
        let title = format!("API {}: {verdict} as {} (signing key {})", text("api"), text("kind"), text("signing_key"));
        let parts: Map<String, Value> = ["principal", "refusal", "key"]
            .into_iter()
            .filter_map(|part| api.get(part)?.as_object())
            .flat_map(|object| object.iter().map(|(name, value)| (name.clone(), value.clone())))
            .collect();
        section(&title, &Value::Object(parts));
    }
    out
}

/// A token has at most 8 KiB; what is longer is shown to be refused.
const MAX_BYTES: u64 = 16 << 10;
