//! `gateward user add`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use clap::Args;

use crate::cli::arguments::Output;
use crate::cli::load::Invocation;
use crate::cli::opened::{Opened, unknown, with_store};
use crate::cli::user::password::PasswordOptions;
use crate::cli::user::show;
use crate::cli::words::{self, Attribute};
use crate::identity::{Account, AccountId, Membership, Status};
use crate::observe::AuditAction;
use crate::store::Change;

#[derive(Debug, Args)]
pub struct AddOptions {
    /// The login name
    #[arg(value_parser = words::name)]
    name: String,
    /// The realm; needed when the config has several
    #[arg(long)]
    realm: Option<String>,
    /// May be used to log in as well
    #[arg(long, value_parser = words::email)]
    email: Option<String>,
    /// The id that clients and upstreams see, where the account has one already; by default one is made
    #[arg(long, value_parser = words::id)]
    id: Option<String>,
    #[arg(long, value_parser = words::name)]
    /// What people call the account
    display_name: Option<String>,
    /// What the API shows of its users besides; may be repeated
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = words::attribute)]
    attributes: Vec<Attribute>,
    /// A role outside any tenant; may be repeated
    #[arg(long = "role", value_name = "ROLE", value_parser = words::word)]
    roles: Vec<String>,
    /// A role in one tenant; may be repeated
    #[arg(long = "tenant", value_name = "TENANT=ROLE", value_parser = words::membership)]
    tenants: Vec<Membership>,
    #[command(flatten)]
    password: PasswordOptions,
    #[command(flatten)]
    output: Output,
}

pub fn run(invocation: &Invocation, options: &AddOptions) -> anyhow::Result<()> {
    let passphrase = options.password.choose()?;
    let account = with_store(invocation, async |opened| {
        let account = options.account(opened)?;
        let change = Change::AddAccount { account: account.clone(), password: Some(passphrase.hash().await?) };
        let written = opened.write(change, &account.realm, AuditAction::AccountCreate, account.id.as_str()).await;
        written.with_context(|| format!("`{}` was not added to realm {}", account.username, account.realm))?;
        Ok(account)
    })?;
    show("added", &account, &passphrase, options.output.form())
}

impl AddOptions {
    fn account(&self, opened: &Opened) -> anyhow::Result<Account> {
        let realm = opened.realm(self.realm.as_deref())?;
        let roles = self.roles.iter().map(String::as_str);
        check_roles(opened, &realm, roles.chain(self.tenants.iter().map(|membership| &*membership.role)))?;
        once("--role", self.roles.iter().map(String::as_str))?;
        once("--tenant", self.tenants.iter().map(|membership| &*membership.tenant))?;
        once("--attribute", self.attributes.iter().map(|attribute| attribute.key.as_str()))?;
        let made = || opened.ready.apis_of(&realm).next().map(|api| api.ids.account.mint());
        let id = self.id.clone().or_else(made).context("the realm has no API")?;
        Ok(Account {
            id: AccountId::new(id),
            realm: realm.clone(),
            username: self.name.clone(),
            email: self.email.clone(),
            display_name: self.display_name.clone(),
            status: Status::Active,
            roles: self.roles.iter().map(|role| role.as_str().into()).collect(),
            tenants: self.tenants.clone(),
            attributes: self.attributes.iter().map(|one| (one.key.clone(), one.value.clone())).collect::<BTreeMap<_, _>>(),
            created_at: opened.now,
            sessions_valid_from: opened.now,
        })
    }
}

/// A role that no API of the realm knows would count for nothing, in silence.
fn check_roles<'a>(opened: &Opened, realm: &str, mut roles: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let apis = opened.ready.apis_of(realm);
    let known: BTreeSet<&str> = apis.flat_map(|api| api.vocabulary.roles.keys().map(|role| &**role)).collect();
    match roles.find(|role| !known.contains(role)) {
        Some(role) => bail!("{}", unknown("role", role, &known.iter().copied().collect::<Vec<_>>())),
        None => Ok(()),
    }
}

fn once<'a>(option: &str, names: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => bail!("{option}: `{name}` stands there twice"),
        None => Ok(()),
    }
}
