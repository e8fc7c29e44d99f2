//! `gateward user`: accounts, on the store directly.

mod add;
mod password;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::arguments::Output;
use crate::cli::load::Invocation;
use crate::cli::opened::{Opened, with_store};
use crate::cli::output::{self, Form, Table};
use crate::identity::{Account, Membership, Status};
use crate::observe::AuditAction;
use crate::store::Change;

use add::AddOptions;
use password::{Passphrase, PasswordOptions};

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add an account; prints a one-time password unless --password-stdin gives one
    #[command(after_help = "Examples:\n  gateward user add alice --email alice@example.com --role admin\n  \
        gateward user add bob --tenant prod=viewer --password-stdin < bob.password")]
    Add(AddOptions),
    /// List the accounts
    #[command(after_help = "Example:\n  gateward user list --json")]
    List(ListOptions),
    /// Disable an account: its sessions end, its keys are refused
    #[command(after_help = "Example:\n  gateward user disable alice")]
    Disable(Named),
    /// Enable a disabled account; its old sessions stay ended
    #[command(after_help = "Example:\n  gateward user enable alice")]
    Enable(Named),
    /// Set another password: all sessions end; prints a one-time password unless --password-stdin gives one
    #[command(after_help = "Example:\n  gateward user passwd alice --password-stdin < alice.password")]
    Passwd(PasswdOptions),
}

#[derive(Debug, Args)]
pub struct ListOptions {
    /// Only the accounts of this realm
    #[arg(long)]
    realm: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// One account.
#[derive(Debug, Args)]
pub struct Named {
    /// Its login name, email or id
    #[arg(value_name = "NAME|ID")]
    account: String,
    /// Its realm; needed when the config has several
    #[arg(long)]
    realm: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct PasswdOptions {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    password: PasswordOptions,
}

pub fn run(invocation: &Invocation, command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add(options) => add::run(invocation, &options),
        UserCommand::List(options) => list(invocation, &options),
        UserCommand::Disable(named) => set_status(invocation, &named, Status::Disabled),
        UserCommand::Enable(named) => set_status(invocation, &named, Status::Active),
        UserCommand::Passwd(options) => passwd(invocation, &options),
    }
}

fn list(invocation: &Invocation, options: &ListOptions) -> anyhow::Result<()> {
    let accounts = with_store(invocation, async |opened| {
        let realm = options.realm.as_deref().map(|name| opened.realm(Some(name))).transpose()?;
        Ok(opened.store.accounts(realm.as_deref()).await?)
    })?;
    if options.output.form() == Form::Json {
        return output::json(&accounts.iter().map(as_json).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["REALM", "ID", "NAME", "EMAIL", "STATUS", "ROLES", "TENANTS", "CREATED"]);
    for account in &accounts {
        let membership = |one: &Membership| format!("{}={}", one.tenant, one.role);
        table.row(vec![
            account.realm.to_string(),
            account.id.to_string(),
            account.username.clone(),
            account.email.clone().unwrap_or_default(),
            account.status.as_str().to_owned(),
            account.roles.join(","),
            account.tenants.iter().map(membership).collect::<Vec<_>>().join(","),
            account.created_at.rfc3339(),
        ]);
    }
    output::text(&table.render())
}

fn set_status(invocation: &Invocation, named: &Named, status: Status) -> anyhow::Result<()> {
    let (action, done) = match status {
        Status::Active => (AuditAction::AccountEnable, "enabled"),
        Status::Disabled => (AuditAction::AccountDisable, "disabled"),
    };
    let account = with_store(invocation, async |opened| {
        let account = find(opened, named).await?;
        let (realm, id) = (account.realm.clone(), account.id.clone());
        let change = Change::SetStatus { realm, account: id, status, sessions_valid_from: opened.now };
        opened.write(change, &account.realm, action, account.id.as_str()).await?;
        Ok(Account { status, ..account })
    })?;
    match named.output.form() {
        Form::Json => output::json(&as_json(&account)),
        Form::Text => output::text(&format!("{done} {} ({}) in realm {}\n", account.username, account.id, account.realm)),
    }
}

fn passwd(invocation: &Invocation, options: &PasswdOptions) -> anyhow::Result<()> {
    let passphrase = options.password.choose()?;
    let account = with_store(invocation, async |opened| {
        let account = find(opened, &options.named).await?;
        let change = Change::SetPassword {
            realm: account.realm.clone(),
            account: account.id.clone(),
            password: passphrase.hash().await?,
            sessions_valid_from: opened.now,
        };
        opened.write(change, &account.realm, AuditAction::PasswordChange, account.id.as_str()).await?;
        Ok(account)
    })?;
    show("set another password for", &account, &passphrase, options.named.output.form())
}

async fn find(opened: &Opened, named: &Named) -> anyhow::Result<Account> {
    let realm = opened.realm(named.realm.as_deref())?;
    Ok((*opened.account(&realm, &named.account).await?).clone())
}

/// Shows an account, and its password where nobody else knows it yet.
fn show(done: &str, account: &Account, passphrase: &Passphrase, form: Form) -> anyhow::Result<()> {
    match form {
        Form::Json => {
            let mut shown = as_json(account);
            if let (Some(members), Some(made)) = (shown.as_object_mut(), passphrase.made()) {
                members.insert("password".to_owned(), made.into());
            }
            output::json(&shown)
        }
        Form::Text => {
            output::text(&format!("{done} {} ({}) in realm {}\n", account.username, account.id, account.realm))?;
            let Some(made) = passphrase.made() else { return Ok(()) };
            output::text(&format!("password: {made}\n"))?;
            output::note("The password is shown only now.");
            Ok(())
        }
    }
}

fn as_json(account: &Account) -> Value {
    let membership = |one: &Membership| json!({ "id": *one.tenant, "role": *one.role });
    json!({
        "realm": *account.realm,
        "id": account.id.as_str(),
        "username": account.username,
        "email": account.email,
        "display_name": account.display_name,
        "status": account.status.as_str(),
        "roles": account.roles.iter().map(|role| &**role).collect::<Vec<_>>(),
        "tenants": account.tenants.iter().map(membership).collect::<Vec<_>>(),
        "attributes": account.attributes,
        "created_at": account.created_at.rfc3339(),
    })
}
