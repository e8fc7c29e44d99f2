//! `gateward key …`: API keys, on the store directly. A running server follows within two seconds.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::app::signing::key_format;
use crate::cli::arguments::Output;
use crate::cli::load::Invocation;
use crate::cli::opened::{Opened, unknown, with_store};
use crate::cli::outcome::Usage;
use crate::cli::output::{self, Form, Table};
use crate::cli::words::{self, Expiry};
use crate::clock::Timestamp;
use crate::contract::Api;
use crate::identity::{Account, ApiKey, Digest, KeyId, Networks, Scope, ScopeSet, Secret};
use crate::observe::AuditAction;
use crate::store::{Change, KeyRow, Page};

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Create a key and show it once
    #[command(after_help = "Example:\n  gateward key create --owner alice --name ci --expires 90d --allow-ip 10.0.0.0/8")]
    Create(Box<CreateOptions>),
    /// List the keys, newest first; their secrets are known to nobody
    #[command(after_help = "Example:\n  gateward key list --owner alice")]
    List(ListOptions),
    /// Revoke a key at once
    #[command(after_help = "Example:\n  gateward key revoke key-4f8a1c2b3d")]
    Revoke(RevokeOptions),
}

#[derive(Debug, Args)]
pub struct CreateOptions {
    /// The account whose rights bound the key's: its login name, email or id
    #[arg(long)]
    owner: String,
    /// The directory that the owner lives in; by default the only one
    #[arg(long)]
    realm: Option<String>,
    /// The API whose form and scopes the key has; by default the only one of the realm
    #[arg(long)]
    api: Option<String>,
    #[arg(long, value_parser = words::name, default_value = "command line")]
    name: String,
    /// A scope; may be repeated; by default those that the contract gives
    #[arg(long = "scope", value_parser = words::scope, value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// A tenant of the owner's; may be repeated; by default all of them
    #[arg(long = "tenant", value_parser = words::word, value_name = "TENANT")]
    tenants: Vec<String>,
    /// Where the key may be used from; may be repeated
    #[arg(long = "allow-ip", value_parser = words::network, value_name = "CIDR")]
    allowed_ips: Vec<Networks>,
    /// How long it is good for (90d), or until when (RFC 3339)
    #[arg(long, value_parser = words::expiry)]
    expires: Option<Expiry>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct ListOptions {
    /// The directory that the keys belong to; by default the only one
    #[arg(long)]
    realm: Option<String>,
    /// Only the keys of this account
    #[arg(long)]
    owner: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct RevokeOptions {
    /// The key's id, as `key list` shows it
    id: String,
    /// The directory that the key belongs to; by default the only one
    #[arg(long)]
    realm: Option<String>,
}

pub fn run(invocation: &Invocation, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create(options) => create(invocation, &options),
        KeyCommand::List(options) => list(invocation, &options),
        KeyCommand::Revoke(options) => revoke(invocation, &options),
    }
}

fn create(invocation: &Invocation, options: &CreateOptions) -> anyhow::Result<()> {
    let (key, secret) = with_store(invocation, async |opened| {
        let realm = opened.realm(options.realm.as_deref())?;
        let api = api_of(opened, &realm, options.api.as_deref())?;
        let owner = opened.account(&realm, &options.owner).await?;
        let (key, secret) = key(opened, options, api, &owner)?;
        let id = key.id.to_string();
        opened.write(Change::AddKey(key.clone()), &realm, AuditAction::KeyCreate, &id).await?;
        Ok((key, secret))
    })?;
    match options.output.form() {
        Form::Json => output::json(&json!({ "id": key.id.as_str(), "key": secret.expose() })),
        Form::Text => output::text(&format!("{}   (shown once)\nid: {}\n", secret.expose(), key.id)),
    }
}

fn api_of<'a>(opened: &'a Opened, realm: &str, named: Option<&str>) -> anyhow::Result<&'a Api> {
    let apis: Vec<&Api> = opened.ready.apis.iter().filter(|api| &*api.facts.realm == realm).collect();
    let names: Vec<&str> = apis.iter().map(|api| &*api.facts.name).collect();
    match (named, apis.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Usage(format!("say which API with --api: {}", names.join(", "))).into()),
        (Some(name), _) => match apis.iter().find(|api| &*api.facts.name == name) {
            Some(api) => Ok(api),
            None => bail!("{}", unknown("API", name, &names)),
        },
    }
}

fn key(opened: &Opened, options: &CreateOptions, api: &Api, owner: &Account) -> anyhow::Result<(ApiKey, Secret)> {
    let expires_at = options.expires.map(|expires| expires.moment(opened.now).context("--expires is in the past")).transpose()?;
    let minted = key_format(api).mint();
    let key = ApiKey {
        id: KeyId::new(api.ids.api_key.with(&minted.id_part)),
        realm: api.facts.realm.clone(),
        owner: owner.id.clone(),
        name: options.name.clone(),
        scopes: scopes(options, api, owner)?,
        tenants: tenants(options, api, owner)?,
        allowed_ips: options.allowed_ips.iter().flat_map(Networks::iter).copied().collect(),
        environment: api.facts.environment.clone(),
        digest: Digest::of(minted.secret.expose()),
        created_at: opened.now,
        expires_at,
        revoked_at: None,
    };
    Ok((key, minted.secret))
}

/// The rules of the endpoint: known to the contract, and held by the owner.
fn scopes(options: &CreateOptions, api: &Api, owner: &Account) -> anyhow::Result<ScopeSet> {
    let held = |scope: &Scope| api.vocabulary.account_may_anywhere(owner, scope);
    if options.scopes.is_empty() {
        return Ok(api.vocabulary.default.iter().filter(|scope| held(scope)).cloned().collect());
    }
    for scope in &options.scopes {
        if !api.vocabulary.known.contains(scope) {
            let known: Vec<&str> = api.vocabulary.known.iter().map(Scope::as_str).collect();
            bail!("{}", unknown("scope", scope.as_str(), &known));
        }
        if !held(scope) {
            bail!("{} does not have {scope}: a key never exceeds its owner", owner.username);
        }
    }
    Ok(options.scopes.iter().cloned().collect())
}

fn tenants(options: &CreateOptions, api: &Api, owner: &Account) -> anyhow::Result<Vec<Arc<str>>> {
    if options.tenants.is_empty() {
        return Ok(owner.tenants.iter().map(|membership| membership.tenant.clone()).collect());
    }
    match options.tenants.iter().find(|tenant| !api.vocabulary.is_member(owner, tenant)) {
        Some(tenant) => bail!("{} has no part in the tenant {tenant}: a key never exceeds its owner", owner.username),
        None => Ok(options.tenants.iter().map(|tenant| tenant.as_str().into()).collect()),
    }
}

fn list(invocation: &Invocation, options: &ListOptions) -> anyhow::Result<()> {
    let (rows, now) = with_store(invocation, async |opened| {
        let realm = opened.realm(options.realm.as_deref())?;
        let owner = match &options.owner {
            Some(name) => Some(opened.account(&realm, name).await?.id.clone()),
            None => None,
        };
        let mut rows: Vec<KeyRow> = Vec::new();
        loop {
            let page = Page { offset: rows.len() as u64, limit: Page::MAX_LIMIT };
            let (more, total) = opened.store.keys(&realm, owner.as_ref(), page).await?;
            let is_last = more.is_empty() || (rows.len() + more.len()) as u64 >= total;
            rows.extend(more);
            if is_last {
                return Ok((rows, opened.now));
            }
        }
    })?;
    if options.output.form() == Form::Json {
        return output::json(&rows.iter().map(|row| as_json(row, now)).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["ID", "NAME", "OWNER", "STATE", "SCOPES", "TENANTS", "ALLOWED IPS", "EXPIRES", "LAST USED"]);
    for row in &rows {
        let moment = |at: Option<Timestamp>| at.map_or_else(String::new, Timestamp::rfc3339);
        table.row(vec![
            row.key.id.to_string(),
            row.key.name.clone(),
            row.key.owner.to_string(),
            state(&row.key, now).to_owned(),
            row.key.scopes.to_spaced(),
            row.key.tenants.join(","),
            row.key.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            moment(row.key.expires_at),
            moment(row.last_used_at),
        ]);
    }
    output::text(&table.render())
}

fn as_json(row: &KeyRow, now: Timestamp) -> serde_json::Value {
    let key = &row.key;
    json!({
        "id": key.id.as_str(),
        "name": key.name,
        "owner": key.owner.as_str(),
        "state": state(key, now),
        "scopes": key.scopes.iter().map(Scope::as_str).collect::<Vec<_>>(),
        "tenants": key.tenants.iter().map(|tenant| &**tenant).collect::<Vec<_>>(),
        "allowed_ips": key.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "environment": *key.environment,
        "created_at": key.created_at.rfc3339(),
        "expires_at": key.expires_at.map(Timestamp::rfc3339),
        "revoked_at": key.revoked_at.map(Timestamp::rfc3339),
        "last_used_at": row.last_used_at.map(Timestamp::rfc3339),
    })
}

/// `live`, `revoked` or `expired`.
pub fn state(key: &ApiKey, now: Timestamp) -> &'static str {
    match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        (None, _) => "live",
    }
}

fn revoke(invocation: &Invocation, options: &RevokeOptions) -> anyhow::Result<()> {
    let was = with_store(invocation, async |opened| {
        let realm = opened.realm(options.realm.as_deref())?;
        let Some(key) = opened.store.directory().key(&realm, &options.id) else {
            bail!("there is no key `{}` in realm {realm}; `gateward key list` shows all", options.id);
        };
        let change = Change::RevokeKey { realm: realm.clone(), key: key.id.clone(), at: opened.now };
        opened.write(change, &realm, AuditAction::KeyRevoke, key.id.as_str()).await?;
        Ok(key)
    })?;
    match was.revoked_at {
        Some(at) => output::text(&format!("{} was revoked already, at {at}\n", was.id)),
        None => output::text(&format!("{} is revoked\n", was.id)),
    }
}
