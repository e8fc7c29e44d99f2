//! The SQLite file: where it is and how it is opened. Knows nothing of what is in it.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};

use crate::store::seal::sync_folder;

/// How to reach one database file.
pub(super) struct Sqlite {
    pub path: PathBuf,
    /// How long a statement waits for another process' lock.
    pub busy_timeout: Duration,
}

impl Sqlite {
    /// Makes the file if it is missing, readable by its owner only; SQLite gives the files beside it the same mode.
    pub(super) fn make_file(&self) -> Result<(), String> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
        match made.and_then(|_| sync_folder(&self.path)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(format!("cannot be made: {error} (the folder must exist and be writable)"))
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

    /// A connection that cannot write.
    pub(super) async fn reader(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.options().pragma("query_only", "ON").connect().await
    }

    /// Switching a new file to WAL answers "locked" at once when two processes do it together, whatever the busy
    /// timeout says; so this one tries for as long.
    pub(super) async fn first_writer(&self) -> Result<SqliteConnection, sqlx::Error> {
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
