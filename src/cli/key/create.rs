//! `gateward key create`: the same rules as the endpoint's, with the owner as the one who asks.

use anyhow::{Context, bail};
use clap::Args;

use crate::app::signing::key_format;
use crate::cli::arguments::Output;
use crate::cli::key::{as_json, grant};
use crate::cli::load::Invocation;
use crate::cli::opened::{Opened, with_store};
use crate::cli::output::{self, Form};
use crate::cli::words::{self, Expiry};
use crate::contract::Api;
use crate::identity::{Account, ApiKey, Digest, KeyId, Networks, Scope, Secret};
use crate::observe::AuditAction;
use crate::store::{Change, KeyRow};

#[derive(Debug, Args)]
pub struct CreateOptions {
    /// Whose key it is: a login name, email or id
    #[arg(long, value_name = "NAME|ID")]
    owner: String,
    /// The realm; needed when the config has several
    #[arg(long)]
    realm: Option<String>,
    /// What lists call it
    #[arg(long, default_value = "operator", value_parser = words::name)]
    name: String,
    /// What it may do, at most what its owner may; by default what the contract says. May be repeated
    #[arg(long = "scope", value_name = "SCOPE", value_parser = words::scope)]
    scopes: Vec<Scope>,
    /// A tenant that it is good for; by default all of its owner's. May be repeated
    #[arg(long = "tenant", value_name = "TENANT", value_parser = words::word)]
    tenants: Vec<String>,
    /// A network that it may be used from; by default all. May be repeated
    #[arg(long = "allow-ip", value_name = "CIDR", value_parser = words::network)]
    allowed_ips: Vec<Networks>,
    /// When it ends: 90d, or 2030-01-31T00:00:00Z; by default never
    #[arg(long, value_name = "DURATION|MOMENT", value_parser = words::expiry)]
    expires: Option<Expiry>,
    /// Which API the key is for, by the environment that the config gives it; needed when a realm has several
    #[arg(long)]
    environment: Option<String>,
    /// Which API the key is for, by its name; needed when a realm has several
    #[arg(long)]
    api: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub fn run(invocation: &Invocation, options: &CreateOptions) -> anyhow::Result<()> {
    let (key, secret, now) = with_store(invocation, async |opened| {
        let realm = opened.realm(options.realm.as_deref())?;
        let api = grant::target(opened, &realm, options.api.as_deref(), options.environment.as_deref())?;
        let owner = opened.account(&realm, &options.owner).await?;
        if !owner.is_active() {
            bail!("the account {} ({}) is disabled: its keys are refused", owner.username, owner.id);
        }
        let (key, secret) = options.mint(opened, api, &owner)?;
        opened.write(Change::AddKey(key.clone()), &realm, AuditAction::KeyCreate, key.id.as_str()).await?;
        Ok((key, secret, opened.now))
    })?;
    if key.scopes.is_empty() {
        output::note("The key has no scopes: its owner has none of the contract's defaults. Give it some with --scope.");
    }
    match options.output.form() {
        Form::Json => {
            let mut shown = as_json(&KeyRow { key, last_used_at: None }, now);
            if let Some(members) = shown.as_object_mut() {
                members.insert("key".to_owned(), secret.expose().into());
            }
            output::json(&shown)
        }
        Form::Text => {
            output::text(&format!("id:  {}\nkey: {}\n", key.id, secret.expose()))?;
            output::note("The key is shown only now.");
            Ok(())
        }
    }
}

impl CreateOptions {
    fn mint(&self, opened: &Opened, api: &Api, owner: &Account) -> anyhow::Result<(ApiKey, Secret)> {
        let expires_at = self.expires.map(|expiry| expiry.moment(opened.now).context("--expires: that is over"));
        let minted = key_format(api).mint();
        let key = ApiKey {
            id: KeyId::new(api.ids.api_key.with(&minted.id_part)),
            realm: owner.realm.clone(),
            owner: owner.id.clone(),
            name: self.name.clone(),
            scopes: grant::scopes(api, owner, Some(self.scopes.as_slice()).filter(|scopes| !scopes.is_empty()))?,
            tenants: grant::tenants(api, owner, &self.tenants)?,
            allowed_ips: self.allowed_ips.iter().flat_map(Networks::iter).copied().collect(),
            environment: api.facts.environment.clone(),
            digest: Digest::of(minted.secret.expose()),
            created_at: opened.now,
            expires_at: expires_at.transpose()?,
            revoked_at: None,
        };
        Ok((key, minted.secret))
    }
}
