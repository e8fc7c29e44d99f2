//! The SQLite file: where it is, how it is opened, which tables it has. Knows nothing of what is in them.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, SqlitePool};

use crate::store::OpenError;
use crate::store::seal::sync_folder;

/// How to reach one database file.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    pub path: PathBuf,
    /// How long a statement waits for another process' lock.
    pub busy_timeout: Duration,
}

impl Sqlite {
    /// Reads `sqlite:PATH`. The error shows the scheme only: what follows may hold a password.
    pub(super) fn parse(url: &str, folder: &Path, busy_timeout: Duration) -> Result<Self, OpenError> {
        let (scheme, path) = url.split_once(':').unwrap_or((url, ""));
        let refuse = |why| Err(OpenError::Url { scheme: scheme.to_owned(), why });
        match path {
            _ if scheme != "sqlite" => refuse("is not supported"),
            "" => refuse("names no file"),
            _ if path.starts_with("//") => refuse("takes a path right after the colon, without //"),
            _ if path.contains(['?', '#', '\0']) => refuse("takes a path and no options"),
            _ if path.starts_with(':') || path.ends_with('/') => refuse("must name a file: what is kept in memory is lost"),
            _ => Ok(Self { path: folder.join(path), busy_timeout }),
        }
    }

    /// Makes the file if it is missing, readable by its owner only; SQLite gives the files beside it the same mode.
    pub(super) fn make_file(&self) -> Result<(), OpenError> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
        match made.and_then(|_| sync_folder(&self.path)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(self.error(format!("cannot be made: {error} (the folder must exist and be writable)")))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The connection that writes. Never creates the file: one that vanished while we run is an error, not an empty
    /// store.
    pub(super) async fn writer(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.options()
            .journal_mode(SqliteJournalMode::Wal)
            // NORMAL would lose acknowledged writes when the power fails.
            .synchronous(SqliteSynchronous::Full)
            .connect()
            .await
    }

    pub(super) fn readers(&self) -> SqlitePool {
        SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(self.busy_timeout)
            .connect_lazy_with(self.options().pragma("query_only", "ON"))
    }

    /// Brings the tables up to date and answers the connection to write with. Processes that start at once take turns.
    pub(super) async fn prepare(&self) -> Result<SqliteConnection, OpenError> {
        let mut connection = self.first_writer().await.map_err(|error| self.error(error.to_string()))?;
        let mut turn = connection.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.error(error.to_string()))?;
        migrations().run_direct(None, &mut *turn, false).await.map_err(|error| {
            let MigrateError::VersionMissing(version) = error else {
                return self.error(format!("its tables cannot be brought up to date: {error}"));
            };
            self.error(format!("was last used by a newer gateward (its tables are at version {version}); start that one"))
        })?;
        turn.commit().await.map_err(|error| self.error(error.to_string()))?;
        Ok(connection)
    }

    pub(super) fn error(&self, what: String) -> OpenError {
        OpenError::Database { path: self.path.clone(), what }
    }

    /// Switching a new file to WAL answers "locked" at once when two processes do it together, whatever the busy
    /// timeout says; so this one tries for as long.
    async fn first_writer(&self) -> Result<SqliteConnection, sqlx::Error> {
        const PAUSE: Duration = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        loop {
            match self.writer().await {
                Err(error) if is_locked(&error) && waited < self.busy_timeout => tokio::time::sleep(PAUSE).await,
                outcome => return outcome,
            }
            waited += PAUSE;
        }
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(false)
            .foreign_keys(true)
            .busy_timeout(self.busy_timeout)
            .disable_statement_logging()
    }
}

/// SQLITE_BUSY, with or without its extension.
fn is_locked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code).and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

/// A new migration is a new file and a new line; a released one never changes.
fn migrations() -> Migrator {
    let one = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![one(1, "start", include_str!("migrations/sqlite/0001_start.sql"))])
}

const READERS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<PathBuf, String> {
        let parsed = Sqlite::parse(url, Path::new("/etc/gateward"), Duration::ZERO);
        parsed.map(|sqlite| sqlite.path).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_are_relative_to_the_folder_of_the_config_file() {
        assert_eq!(parse("sqlite:gateward.db"), Ok("/etc/gateward/gateward.db".into()));
        assert_eq!(parse("sqlite:data/gw.db"), Ok("/etc/gateward/data/gw.db".into()));
        assert_eq!(parse("sqlite:/var/lib/gw.db"), Ok("/var/lib/gw.db".into()));
    }

    #[test]
    fn other_urls_are_refused_without_showing_what_they_hold() {
        for (url, why) in [
            ("postgres://user:hunter2@db/gw", "`postgres:` is not supported"),
            ("gateward.db", "`gateward.db:` is not supported"),
            ("", "`:` is not supported"),
            ("SQLITE:gw.db", "`SQLITE:` is not supported"),
            ("sqlite:", "`sqlite:` names no file"),
            ("sqlite://gw.db", "`sqlite:` takes a path right after the colon, without //"),
            ("sqlite:gw.db?mode=memory", "`sqlite:` takes a path and no options"),
            ("sqlite::memory:", "`sqlite:` must name a file: what is kept in memory is lost"),
            ("sqlite:data/", "`sqlite:` must name a file: what is kept in memory is lost"),
        ] {
            let expected = format!("store.url: {why}; write \"sqlite:PATH\", relative to the folder of the config file");
            assert_eq!(parse(url), Err(expected), "{url}");
        }
    }
}
