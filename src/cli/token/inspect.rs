//! `gateward token inspect`: takes a credential apart without printing its signature or its secret part.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::cli::key;
use crate::cli::load::Invocation;
use crate::cli::moments::beside_now;
use crate::cli::opened::{Opened, with_store};
use crate::cli::output::{self, Form};
use crate::cli::token::InspectOptions;
use crate::cli::token::judge::Judge;
use crate::clock::{self, Timestamp};
use crate::contract::Api;
use crate::identity::{ApiKey, CredentialKind, Secret};
use crate::store::{KeyRow, Page};

/// What there is to say about a credential.
struct Findings {
    subject: Subject,
    /// The API whose key the credential names.
    belongs_to: Option<String>,
    verdicts: Vec<Verdict>,
    now: Timestamp,
}

enum Subject {
    Jwt { header: Value, claims: Value },
    Key { id: Option<String>, row: Option<Box<KeyRow>>, owner: Option<String> },
}

/// What one API would say.
struct Verdict {
    api: String,
    /// The account that it would stand for, or the code and the reason of the refusal.
    outcome: Result<String, (&'static str, String)>,
}

pub fn run(invocation: &Invocation, options: InspectOptions) -> anyhow::Result<()> {
    let form = options.output.form();
    let credential = read(options.token)?;
    let findings = with_store(invocation, async |opened| look(opened, &credential).await)?;
    match form {
        Form::Json => output::json(&findings.as_json()),
        Form::Text => output::text(&findings.as_text()),
    }
}

/// The credential of the command line, or of standard input; an `Authorization` value is taken without its scheme.
fn read(argument: Option<String>) -> anyhow::Result<Secret> {
    let text = match argument.map(Secret::new) {
        Some(text) if text.expose() != "-" => text,
        Some(_) | None => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                output::note("Token or key, then Ctrl-D:");
            }
            let mut text = String::with_capacity(MAX_BYTES);
            stdin.lock().take(MAX_BYTES as u64).read_to_string(&mut text)?;
            Secret::new(text)
        }
    };
    let trimmed = text.expose().trim();
    let bare = trimmed.strip_prefix("Bearer ").map_or(trimmed, str::trim_start);
    match bare.is_empty() {
        true => bail!("there is no token: give one as an argument or on standard input"),
        false => Ok(Secret::new(bare)),
    }
}

async fn look(opened: &Opened, credential: &Secret) -> anyhow::Result<Findings> {
    let text = credential.expose();
    let mut judges = Vec::new();
    for (section, api) in opened.ready.config.apis.iter().zip(&opened.ready.apis) {
        judges.push(Judge::new(&opened.ready, section, api, &opened.store).await?);
    }
    let (subject, belongs_to) = match take_apart(text) {
        Some((header, claims)) => {
            let kid = header.get("kid").and_then(Value::as_str);
            let signer = judges.iter().find(|judge| kid == Some(judge.signing.kid()));
            let signer = signer.map(|judge| judge.api.facts.name.to_string());
            (Subject::Jwt { header, claims }, signer)
        }
        None if opened.ready.apis.iter().any(|api| looks_like_key(api, text)) => find_key(opened, &judges, text).await?,
        None => bail!("this is neither a JSON Web Token nor begins like a key of an API of the config"),
    };
    let verdict = |judge: &Judge<'_>| Verdict {
        api: judge.api.facts.name.to_string(),
        outcome: match judge.accept(text, clock::now()) {
            Ok(principal) => Ok(format!("account {} ({})", principal.account.id, principal.account.username)),
            Err(rejection) => Err((rejection.code(), rejection.to_string())),
        },
    };
    Ok(Findings { subject, belongs_to, verdicts: judges.iter().map(verdict).collect(), now: opened.now })
}

fn looks_like_key(api: &Api, text: &str) -> bool {
    let prefixes = || std::iter::once(&api.tokens.key_prefix.whole).chain(&api.tokens.also_key_prefixes);
    api.kind_in_any_carrier(text) == Some(CredentialKind::ApiKey) || prefixes().any(|prefix| text.starts_with(prefix.as_str()))
}

/// Header and claims of a JWT, whoever signed it.
fn take_apart(text: &str) -> Option<(Value, Value)> {
    let mut parts = text.split('.');
    let (header, claims) = (parts.next()?, parts.next()?);
    let _signature = parts.next()?;
    let object = |part: &str| {
        let decoded: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
        decoded.is_object().then_some(decoded)
    };
    if parts.next().is_some() { None } else { Some((object(header)?, object(claims)?)) }
}

/// What the store has for the key's text. APIs may have keys of one form in several realms.
async fn find_key(opened: &Opened, judges: &[Judge<'_>], text: &str) -> anyhow::Result<(Subject, Option<String>)> {
    let stored = judges.iter().find_map(|judge| {
        let key = judge.key(text, clock::now())?;
        (key.environment == judge.api.facts.environment).then_some((judge.api, key))
    });
    let Some((api, key)) = stored else {
        let id = judges.iter().find_map(|judge| judge.key_id(text));
        return Ok((Subject::Key { id, row: None, owner: None }, None));
    };
    let owner = opened.store.directory().account(&key.realm, &key.owner).map(|account| account.username.clone());
    let row = Some(Box::new(row(opened, &key).await?));
    Ok((Subject::Key { id: Some(key.id.to_string()), row, owner }, Some(api.facts.name.to_string())))
}

/// The key with the moment of its last use, which only the list knows.
async fn row(opened: &Opened, key: &ApiKey) -> anyhow::Result<KeyRow> {
    let mut offset = 0;
    loop {
        let page = Page { offset, limit: Page::MAX_LIMIT };
        let (rows, _) = opened.store.keys(&key.realm, Some(&key.owner), page).await.context("cannot read the key")?;
        offset += rows.len() as u64;
        let is_last = rows.is_empty();
        match rows.into_iter().find(|row| row.key.id == key.id) {
            Some(row) => return Ok(row),
            None if is_last => return Ok(KeyRow { key: key.clone(), last_used_at: None }),
            None => {}
        }
    }
}

impl Findings {
    fn as_json(&self) -> Value {
        let mut out = Map::new();
        match &self.subject {
            Subject::Jwt { header, claims } => {
                out.insert("kind".to_owned(), CredentialKind::Jwt.as_str().into());
                out.insert("header".to_owned(), header.clone());
                out.insert("claims".to_owned(), claims.clone());
                out.insert("signed_by".to_owned(), json!(self.belongs_to));
            }
            Subject::Key { id, row, owner } => {
                out.insert("kind".to_owned(), CredentialKind::ApiKey.as_str().into());
                out.insert("id".to_owned(), json!(id));
                out.insert("key".to_owned(), row.as_ref().map_or(Value::Null, |row| key::as_json(row, self.now)));
                out.insert("owner_name".to_owned(), json!(owner));
                out.insert("belongs_to".to_owned(), json!(self.belongs_to));
            }
        }
        let verdict = |verdict: &Verdict| match &verdict.outcome {
            Ok(who) => json!({ "api": verdict.api, "accepted": true, "as": who }),
            Err((code, reason)) => json!({ "api": verdict.api, "accepted": false, "code": code, "reason": reason }),
        };
        out.insert("verdicts".to_owned(), self.verdicts.iter().map(verdict).collect());
        Value::Object(out)
    }

    fn as_text(&self) -> String {
        let mut out = String::new();
        // Writing to a text does not fail.
        let _ = self.write_subject(&mut out);
        for Verdict { api, outcome } in &self.verdicts {
            let _ = match outcome {
                Ok(who) => writeln!(out, "{api}: would be accepted now, as {who}"),
                Err((code, reason)) => writeln!(out, "{api}: would be refused: {reason} ({code})"),
            };
        }
        out
    }

    fn write_subject(&self, out: &mut String) -> std::fmt::Result {
        match &self.subject {
            Subject::Jwt { header, claims } => {
                writeln!(out, "a JSON Web Token\n\nheader {header:#}\nclaims {claims:#}\n")?;
                for name in ["iat", "nbf", "exp"] {
                    let at = claims.get(name).and_then(Value::as_u64).map(Timestamp::from_seconds);
                    at.map_or(Ok(()), |at| writeln!(out, "{name}: {}", beside_now(at, self.now)))?;
                }
                let signer = match &self.belongs_to {
                    Some(api) => format!("names the signing key of API {api}"),
                    None => "names no signing key of an API of the config".to_owned(),
                };
                writeln!(out, "kid: {signer}\n")
            }
            Subject::Key { id: None, .. } => writeln!(out, "an API key that names no id; the store has no such key\n"),
            Subject::Key { id: Some(id), row: None, .. } => {
                writeln!(out, "an API key with the id {id}; the store has no such key\n")
            }
            Subject::Key { id: Some(id), row: Some(row), owner } => {
                let (key, at) = (&row.key, |at: Timestamp| beside_now(at, self.now));
                let owner = owner.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
                let api = self.belongs_to.as_deref().unwrap_or_default();
                writeln!(out, "an API key of API {api}\n\nid: {id}\nowner: {}{owner}\nname: {}", key.owner, key.name)?;
                writeln!(out, "realm: {}\nenvironment: {}", key.realm, key.environment)?;
                writeln!(out, "scopes: {}", or(key.scopes.to_spaced(), "none"))?;
                writeln!(out, "tenants: {}", or(key.tenants.join(" "), "all of its owner's"))?;
                writeln!(out, "allowed ips: {}", or(key::networks(key).join(" "), "all"))?;
                writeln!(out, "created: {}", at(key.created_at))?;
                let moments = [("expires", key.expires_at), ("revoked", key.revoked_at), ("last used", row.last_used_at)];
                let mut known = moments.iter().filter_map(|(name, moment)| Some((name, (*moment)?)));
                known.try_for_each(|(name, moment)| writeln!(out, "{name}: {}", at(moment)))?;
                writeln!(out, "status: {}\n", key::status(key, self.now))
            }
        }
    }
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

/// More than any token that is taken.
const MAX_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_apart_without_its_signature() {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = format!("{}.{}.c2ln", part(r#"{"alg":"HS256"}"#), part(r#"{"sub":"1"}"#));
        assert_eq!(take_apart(&token), Some((json!({ "alg": "HS256" }), json!({ "sub": "1" }))));
        let array = format!("{}.{}.c2ln", part("[]"), part("{}"));
        for text in ["", "a.b", "a.b.c", array.as_str(), format!("{token}.x").as_str(), "gw_live_abc"] {
            assert_eq!(take_apart(text), None, "{text}");
        }
    }

    #[test]
    fn a_credential_is_read_without_its_scheme_and_its_blanks() {
        for text in ["abc", " abc\n", "Bearer abc", "Bearer  abc\n"] {
            assert_eq!(read(Some(text.to_owned())).unwrap().expose(), "abc", "{text:?}");
        }
        assert_eq!(read(Some("  ".to_owned())).unwrap_err().to_string().split(':').next(), Some("there is no token"));
    }
}
