//! `gateward user …`: accounts, on the store directly. A running server follows within two seconds.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::arguments::Output;
use crate::cli::load::Invocation;
use crate::cli::opened::{Opened, unknown, with_store};
use crate::cli::outcome::Usage;
use crate::cli::output::{self, Form, Table};
use crate::cli::words::{self, Attribute};
use crate::identity::{Account, AccountId, Membership, Secret, Status};
use crate::observe::AuditAction;
use crate::password::Passwords;
use crate::random;
use crate::store::Change;

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add an account; without --password-stdin a password is made and shown once
    #[command(after_help = "Example:\n  gateward user add alice --role admin --tenant prod=editor")]
    Add(Box<AddOptions>),
    /// List the accounts
    #[command(after_help = "Example:\n  gateward user list --json")]
    List(ListOptions),
    /// Disable an account: its sessions and keys end at once
    #[command(after_help = "Example:\n  gateward user disable alice")]
    Disable(NameOptions),
    /// Enable a disabled account; its earlier sessions stay ended
    #[command(after_help = "Example:\n  gateward user enable alice")]
    Enable(NameOptions),
    /// Set a new password and end all sessions
    #[command(after_help = "Example:\n  gateward user passwd alice --password-stdin < password.txt")]
    Passwd(PasswdOptions),
}

#[derive(Debug, Args)]
pub struct AddOptions {
    /// The login name
    #[arg(value_parser = words::name)]
    name: String,
    /// The directory that the account lives in; by default the only one
    #[arg(long)]
    realm: Option<String>,
    #[arg(long, value_parser = words::email)]
    email: Option<String>,
    /// The id that the upstream knows the account by; by default one is made
    #[arg(long, value_parser = words::id)]
    id: Option<String>,
    #[arg(long, value_parser = words::name, value_name = "NAME")]
    display_name: Option<String>,
    /// A fact about the account for the upstream; may be repeated
    #[arg(long = "attribute", value_parser = words::attribute, value_name = "KEY=VALUE")]
    attributes: Vec<Attribute>,
    /// A role outside any tenant; may be repeated
    #[arg(long = "role", value_parser = words::word, value_name = "ROLE")]
    roles: Vec<String>,
    /// A role in one tenant; may be repeated
    #[arg(long = "tenant", value_parser = words::membership, value_name = "TENANT=ROLE")]
    tenants: Vec<Membership>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct ListOptions {
    /// Only this realm
    #[arg(long)]
    realm: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct NameOptions {
    /// The login name, email or id
    name: String,
    /// The directory that the account lives in; by default the only one
    #[arg(long)]
    realm: Option<String>,
}

#[derive(Debug, Args)]
pub struct PasswdOptions {
    #[command(flatten)]
    account: NameOptions,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

pub fn run(invocation: &Invocation, command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add(options) => add(invocation, *options),
        UserCommand::List(options) => list(invocation, &options),
        UserCommand::Disable(options) => set_status(invocation, &options, Status::Disabled),
        UserCommand::Enable(options) => set_status(invocation, &options, Status::Active),
        UserCommand::Passwd(options) => passwd(invocation, &options),
    }
}

fn add(invocation: &Invocation, options: AddOptions) -> anyhow::Result<()> {
    let given = options.password_stdin.then(read_password).transpose()?;
    let form = options.output.form();
    let (account, made) = with_store(invocation, async |opened| {
        let account = account(opened, options)?;
        let made = if given.is_none() { Some(Secret::new(random::word(ONE_TIME_LENGTH))) } else { None };
        let hash = Passwords::start(1, 1).hash(given.or(made.clone()).context("there is no password")?).await?;
        let (realm, id) = (account.realm.clone(), account.id.to_string());
        let change = Change::AddAccount { account: account.clone(), password: Some(hash) };
        opened.write(change, &realm, AuditAction::AccountCreate, &id).await?;
        Ok((account, made))
    })?;
    let password = made.as_ref().map(Secret::expose);
    match form {
        Form::Json => output::json(&json!({ "id": account.id.as_str(), "username": account.username, "password": password })),
        Form::Text => {
            let shown = password.map_or_else(String::new, |password| format!("password: {password}   (shown once)\n"));
            output::text(&format!("added {} with the id {}\n{shown}", account.username, account.id))
        }
    }
}

fn account(opened: &Opened, options: AddOptions) -> anyhow::Result<Account> {
    let realm = opened.realm(options.realm.as_deref())?;
    let api = opened.ready.apis_of(&realm).next().context("the realm has no API")?;
    for role in options.roles.iter().map(String::as_str).chain(options.tenants.iter().map(|membership| &*membership.role)) {
        let mut known: Vec<&str> =
            opened.ready.apis_of(&realm).flat_map(|api| api.vocabulary.roles.keys().map(|name| &**name)).collect();
        known.sort_unstable();
        if !known.contains(&role) {
            bail!("{}", unknown("role", role, &known));
        }
    }
    let mut attributes = BTreeMap::new();
    for Attribute { key, value } in options.attributes {
        if attributes.insert(key.clone(), value).is_some() {
            return Err(Usage(format!("the attribute `{key}` is given twice")).into());
        }
    }
    Ok(Account {
        id: AccountId::new(options.id.unwrap_or_else(|| api.ids.account.mint())),
        realm: realm.clone(),
        username: options.name,
        email: options.email,
        display_name: options.display_name,
        status: Status::Active,
        roles: options.roles.into_iter().map(Into::into).collect(),
        tenants: options.tenants,
        attributes,
        created_at: opened.now,
        sessions_valid_from: opened.now,
    })
}

fn list(invocation: &Invocation, options: &ListOptions) -> anyhow::Result<()> {
    let accounts = with_store(invocation, async |opened| {
        let realm = options.realm.as_ref().map(|name| opened.realm(Some(name))).transpose()?;
        Ok(opened.store.accounts(realm.as_deref()).await?)
    })?;
    if options.output.form() == Form::Json {
        return output::json(&accounts.iter().map(as_json).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["ID", "USERNAME", "EMAIL", "STATUS", "ROLES", "TENANTS", "CREATED", "REALM"]);
    for account in &accounts {
        table.row(vec![
            account.id.to_string(),
            account.username.clone(),
            account.email.clone().unwrap_or_default(),
            account.status.as_str().to_owned(),
            account.roles.join(","),
            account.tenants.iter().map(|m| format!("{}={}", m.tenant, m.role)).collect::<Vec<_>>().join(","),
            account.created_at.rfc3339(),
            account.realm.to_string(),
        ]);
    }
    output::text(&table.render())
}

fn as_json(account: &Account) -> serde_json::Value {
    json!({
        "id": account.id.as_str(),
        "realm": *account.realm,
        "username": account.username,
        "email": account.email,
        "display_name": account.display_name,
        "status": account.status.as_str(),
        "roles": account.roles.iter().map(|role| &**role).collect::<Vec<_>>(),
        "tenants": account.tenants.iter().map(|m| json!({ "id": *m.tenant, "role": *m.role })).collect::<Vec<_>>(),
        "attributes": account.attributes,
        "created_at": account.created_at.rfc3339(),
    })
}

fn set_status(invocation: &Invocation, options: &NameOptions, status: Status) -> anyhow::Result<()> {
    let account = with_store(invocation, async |opened| {
        let realm = opened.realm(options.realm.as_deref())?;
        let account = opened.account(&realm, &options.name).await?;
        let action = match status {
            Status::Active => AuditAction::AccountEnable,
            Status::Disabled => AuditAction::AccountDisable,
        };
        let change =
            Change::SetStatus { realm: realm.clone(), account: account.id.clone(), status, sessions_valid_from: opened.now };
        opened.write(change, &realm, action, account.id.as_str()).await?;
        Ok(account)
    })?;
    output::text(&format!("{} ({}) is {}\n", account.username, account.id, status.as_str()))
}

fn passwd(invocation: &Invocation, options: &PasswdOptions) -> anyhow::Result<()> {
    let given = options.password_stdin.then(read_password).transpose()?;
    let (account, made) = with_store(invocation, async |opened| {
        let realm = opened.realm(options.account.realm.as_deref())?;
        let account = opened.account(&realm, &options.account.name).await?;
        let made = if given.is_none() { Some(Secret::new(random::word(ONE_TIME_LENGTH))) } else { None };
        let password = Passwords::start(1, 1).hash(given.or(made.clone()).context("there is no password")?).await?;
        let change =
            Change::SetPassword { realm: realm.clone(), account: account.id.clone(), password, sessions_valid_from: opened.now };
        opened.write(change, &realm, AuditAction::PasswordChange, account.id.as_str()).await?;
        Ok((account, made))
    })?;
    let shown = made.map_or_else(String::new, |made| format!("password: {}   (shown once)\n", made.expose()));
    output::text(&format!("{} has a new password; all sessions ended\n{shown}", account.username))
}

/// The whole input without the line end at its end.
fn read_password() -> anyhow::Result<Secret> {
    let mut bytes = Vec::with_capacity(MAX_PASSWORD + 2);
    std::io::stdin().lock().take(MAX_PASSWORD as u64 + 2).read_to_end(&mut bytes).context("standard input cannot be read")?;
    let text = String::from_utf8(bytes).map_err(|_| Usage("the password is not UTF-8".to_owned()))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    match text.len() {
        length if length > MAX_PASSWORD => Err(Usage(format!("a password has at most {MAX_PASSWORD} bytes")).into()),
        _ if text.chars().count() < MIN_PASSWORD => {
            Err(Usage(format!("a password has at least {MIN_PASSWORD} characters")).into())
        }
        _ => Ok(Secret::new(text)),
    }
}

const MIN_PASSWORD: usize = 8;
/// The login takes no longer one.
const MAX_PASSWORD: usize = 1024;
/// 124 bits.
const ONE_TIME_LENGTH: usize = 24;
