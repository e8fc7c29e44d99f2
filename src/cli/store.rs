//! `gateward store`: the database as such, whether a server runs or not.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::app::serve;
use crate::cli::arguments::Output;
use crate::cli::load::Invocation;
use crate::cli::outcome::Usage;
use crate::cli::output::{self, Form};
use crate::config::{PostgresUrl, StoreUrl};
use crate::store::{self, Condition, StoreOptions};

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Make the tables or bring them up to date, as a start of the server does
    #[command(after_help = "Example:\n  gateward store migrate")]
    Migrate(MigrateOptions),
    /// Look whether the store can be reached, is whole and opens with the encryption key; changes nothing
    #[command(after_help = "Example:\n  gateward store check --json")]
    Check(StoreCheckOptions),
    /// Copy a SQLite store into a new file while the server runs; for Postgres, show how pg_dump does it
    #[command(after_help = "Example:\n  gateward store backup /var/backups/gateward.db\n\n\
        The encryption key file is not in it: keep a copy of that elsewhere. To restore, stop the server and put the copy in \
        the store's place, without the files -wal and -shm.")]
    Backup(BackupOptions),
}

#[derive(Debug, Args)]
pub struct MigrateOptions {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct StoreCheckOptions {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct BackupOptions {
    /// The copy; there must be no such file yet
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

pub fn run(invocation: &Invocation, command: &StoreCommand) -> anyhow::Result<()> {
    let options = invocation.load()?.store_options();
    let control = serve::control_runtime()?;
    match command {
        StoreCommand::Migrate(wanted) => control.block_on(migrate(&options, wanted.output.form())),
        StoreCommand::Check(wanted) => control.block_on(check(&options, wanted.output.form())),
        StoreCommand::Backup(wanted) => control.block_on(backup(&options, wanted)),
    }
}

async fn migrate(options: &StoreOptions, form: Form) -> anyhow::Result<()> {
    let migrated = store::migrate(options).await?;
    match form {
        Form::Json => output::json(&json!({ "from": migrated.from, "to": migrated.to })),
        Form::Text if migrated.from == migrated.to => output::text(&format!("the tables are at version {}\n", migrated.to)),
        Form::Text if migrated.from == 0 => output::text(&format!("made the tables, version {}\n", migrated.to)),
        Form::Text => output::text(&format!("brought the tables from version {} to {}\n", migrated.from, migrated.to)),
    }
}

async fn check(options: &StoreOptions, form: Form) -> anyhow::Result<()> {
    let condition = store::check(options).await?;
    match form {
        Form::Json => output::json(&json!({
            "store": condition.place,
            "version": condition.version,
            "wanted_version": condition.wanted,
            "rows": condition.rows.iter().map(|(table, rows)| ((*table).to_owned(), json!(rows))).collect::<serde_json::Map<_, _>>(),
            "clock_ahead_ms": condition.clock_ahead_ms,
            "problems": condition.problems,
        }))?,
        Form::Text => output::text(&as_text(&condition))?,
    }
    match condition.problems.as_slice() {
        [] => Ok(()),
        [one] => bail!("the store has a problem: {one}"),
        [..] => bail!("the store has {} problems", condition.problems.len()),
    }
}

fn as_text(condition: &Condition) -> String {
    let mut out = format!("{}: tables of version {}\n", condition.place, condition.version);
    for (table, rows) in &condition.rows {
        // Writing to a text does not fail.
        let _ = writeln!(out, "  {table}: {rows}");
    }
    match condition.problems.as_slice() {
        [] => out.push_str("no problems\n"),
        problems => problems.iter().for_each(|problem| out.push_str(&format!("problem: {problem}\n"))),
    }
    out
}

async fn backup(options: &StoreOptions, wanted: &BackupOptions) -> anyhow::Result<()> {
    if let StoreUrl::Postgres(url) = &options.url {
        let command = pg_dump(url, &wanted.file.display().to_string());
        return Err(Usage(format!("Postgres makes its own backups; run\n  {command}")).into());
    }
    store::backup(options, &wanted.file).await?;
    let (file, key_file) = (wanted.file.display().to_string(), options.encryption_key_file.display().to_string());
    match wanted.output.form() {
        Form::Json => output::json(&json!({ "file": file, "encryption_key_file": key_file })),
        Form::Text => output::text(&format!("copied to {file}; it is of no use without a copy of {key_file}\n")),
    }
}

/// The password is asked for, or comes from PGPASSWORD: a command line is no place for it.
fn pg_dump(url: &PostgresUrl, file: &str) -> String {
    format!("pg_dump --format=custom --file={} '{}'", in_shell(file), url.without_password())
}

/// One word for a shell.
fn in_shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_for_a_backup_shows_no_password_and_quotes_what_a_shell_would_read() {
        let url = StoreUrl::parse("postgres://g%27w:hunter2@db1,db2:6432/gw?sslmode=verify-full&sslrootcert=ca.pem").unwrap();
        let StoreUrl::Postgres(url) = url else { panic!("{url}") };
        assert_eq!(
            pg_dump(&url, "it's.dump"),
            "pg_dump --format=custom --file='it'\\''s.dump' \
             'postgresql://g%27w@db1:5432,db2:6432/gw?sslmode=verify-full&sslrootcert=ca%2Epem'"
        );
    }
}
