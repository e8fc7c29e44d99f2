//! `gateward key`: API keys, on the store directly.

mod create;
mod grant;
mod import;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::arguments::Output;
use crate::cli::load::Invocation;
use crate::cli::opened::with_store;
use crate::cli::output::{self, Form, Table};
use crate::clock::Timestamp;
use crate::identity::{ApiKey, KeyId, Scope};
use crate::observe::AuditAction;
use crate::store::{Change, KeyRow, Page};

use create::CreateOptions;
use import::ImportOptions;

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Create an API key and print it, once; it never exceeds its owner
    #[command(after_help = "Examples:\n  gateward key create --owner alice --expires 90d\n  \
        gateward key create --owner ci --scope items:read --allow-ip 10.0.0.0/8 --json")]
    Create(CreateOptions),
    /// Import keys that clients already hold: all of a file, or none
    #[command(after_help = "Example:\n  gateward key import keys.jsonl --dry-run && gateward key import keys.jsonl\n\n\
        A line of the file:\n  {\"owner\": \"alice\", \"name\": \"ci\", \"scopes\": [\"items:read\"], \"expires\": \"2030-01-31T00:00:00Z\", \
        \"value\": \"ak_9f…\"}\n\nIn place of `value`, `sha256` takes \"sha256:\" and the SHA-256 of the whole key in hexadecimal. Left \
        out, `scopes` are the\ncontract's, `tenants` the owner's, and `expires` and `allow_ips` no limit.")]
    Import(ImportOptions),
    /// List API keys, revoked ones too
    #[command(after_help = "Example:\n  gateward key list --owner alice")]
    List(ListOptions),
    /// Revoke an API key
    #[command(after_help = "Example:\n  gateward key revoke key-k3v9x2m4q7")]
    Revoke(RevokeOptions),
}

#[derive(Debug, Args)]
pub struct ListOptions {
    /// The realm; needed when the config has several
    #[arg(long)]
    realm: Option<String>,
    /// Only the keys of this account: its login name, email or id
    #[arg(long, value_name = "NAME|ID")]
    owner: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct RevokeOptions {
    /// The key's id, as `gateward key list` shows it
    id: String,
    /// The realm; needed when the config has several
    #[arg(long)]
    realm: Option<String>,
}

pub fn run(invocation: &Invocation, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create(options) => create::run(invocation, &options),
        KeyCommand::Import(options) => import::run(invocation, &options),
        KeyCommand::List(options) => list(invocation, &options),
        KeyCommand::Revoke(options) => revoke(invocation, &options),
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
            let (more, _) = opened.store.keys(&realm, owner.as_ref(), page).await?;
            if more.is_empty() {
                return Ok((rows, opened.now));
            }
            rows.extend(more);
        }
    })?;
    if options.output.form() == Form::Json {
        return output::json(&rows.iter().map(|row| as_json(row, now)).collect::<Vec<_>>());
    }
    let mut table =
        Table::new(&["ID", "OWNER", "NAME", "STATUS", "SCOPES", "TENANTS", "ALLOWED IPS", "CREATED", "EXPIRES", "USED"]);
    for KeyRow { key, last_used_at } in &rows {
        table.row(vec![
            key.id.to_string(),
            key.owner.to_string(),
            key.name.clone(),
            status(key, now).to_owned(),
            key.scopes.to_spaced().replace(' ', ","),
            key.tenants.join(","),
            networks(key).join(","),
            key.created_at.rfc3339(),
            key.expires_at.map(Timestamp::rfc3339).unwrap_or_default(),
            last_used_at.map(Timestamp::rfc3339).unwrap_or_default(),
        ]);
    }
    output::text(&table.render())
}

fn revoke(invocation: &Invocation, options: &RevokeOptions) -> anyhow::Result<()> {
    let said = with_store(invocation, async |opened| {
        let realm = opened.realm(options.realm.as_deref())?;
        if let Some(at) = opened.store.directory().key(&realm, &options.id).and_then(|key| key.revoked_at) {
            return Ok(format!("{} was revoked already, at {at}\n", options.id));
        }
        let change = Change::RevokeKey { realm: realm.clone(), key: KeyId::new(options.id.as_str()), at: opened.now };
        let written = opened.write(change, &realm, AuditAction::KeyRevoke, &options.id).await;
        written.with_context(|| format!("`{}` was not revoked in realm {realm}", options.id))?;
        Ok(format!("revoked {} in realm {realm}\n", options.id))
    })?;
    output::text(&said)
}

/// What a request with this key would meet first.
pub fn status(key: &ApiKey, now: Timestamp) -> &'static str {
    match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        (None, Some(_) | None) => "active",
    }
}

/// Single addresses are shown without the length of their network.
pub fn networks(key: &ApiKey) -> Vec<String> {
    let shown = key.allowed_ips.iter().map(|network| match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    });
    shown.collect()
}

pub fn as_json(row: &KeyRow, now: Timestamp) -> Value {
    let key = &row.key;
    json!({
        "realm": *key.realm,
        "id": key.id.as_str(),
        "owner": key.owner.as_str(),
        "name": key.name,
        "status": status(key, now),
        "scopes": key.scopes.iter().map(Scope::as_str).collect::<Vec<_>>(),
        "tenants": key.tenants.iter().map(|tenant| &**tenant).collect::<Vec<_>>(),
        "allowed_ips": networks(key),
        "environment": *key.environment,
        "created_at": key.created_at.rfc3339(),
        "expires_at": key.expires_at.map(Timestamp::rfc3339),
        "revoked_at": key.revoked_at.map(Timestamp::rfc3339),
        "last_used_at": row.last_used_at.map(Timestamp::rfc3339),
    })
}
