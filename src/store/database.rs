//! Which engine it is: opening connections, bringing the tables up to date, connections that read.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection as _, SqlSafeStr as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::StoreUrl;
use crate::store::postgres::Postgres;
use crate::store::sql::{Begin, Connection, query, take_turn};
use crate::store::sqlite::Sqlite;
use crate::store::{OpenError, Pace};

#[derive(Clone)]
pub(super) enum Database {
    Sqlite(Arc<Sqlite>),
    Postgres(Arc<Postgres>),
}

impl Database {
    pub(super) fn new(url: &StoreUrl, pace: Pace) -> Self {
        match url {
            StoreUrl::Sqlite(path) => Self::Sqlite(Arc::new(Sqlite { path: path.clone(), busy_timeout: pace.busy_timeout })),
            StoreUrl::Postgres(url) => Self::Postgres(Arc::new(Postgres::new(url.clone(), pace.busy_timeout, pace.patience))),
        }
    }

    pub(super) async fn writer(&self) -> Result<Connection, sqlx::Error> {
        match self {
            Self::Sqlite(file) => file.writer().await.map(Connection::Sqlite),
            Self::Postgres(server) => server.connect().await.map(Connection::Postgres),
        }
    }

    pub(super) async fn reader(&self) -> Result<Connection, sqlx::Error> {
        match self {
            Self::Sqlite(file) => file.reader().await.map(Connection::Sqlite),
            Self::Postgres(server) => server.connect().await.map(Connection::Postgres),
        }
    }

    /// Connections that were made in another generation are not used any more.
    pub(super) fn generation(&self) -> u64 {
        match self {
            Self::Sqlite(_) => 0,
            Self::Postgres(server) => server.generation(),
        }
    }

    /// Brings the tables up to date, and makes the file if there is none. Answers the connection to write with, and the
    /// version that the tables had, 0 for none. Processes that start at once take turns.
    pub(super) async fn prepare(&self) -> Result<(Connection, i64), OpenError> {
        let mut connection = match self {
            Self::Sqlite(file) => {
                file.make_file().map_err(|why| self.error(why))?;
                file.first_writer().await.map(Connection::Sqlite)
            }
            Self::Postgres(server) => server.connect().await.map(Connection::Postgres),
        }
        .map_err(|error| self.error(error.to_string()))?;
        let from = version(&mut connection).await.map_err(|error| self.error(error.to_string()))?;
        // Tables that are up to date are not touched: this user may be one who may make none.
        if from != NEWEST {
            migrate(&mut connection).await.map_err(|error| self.error(why_not_migrated(&error)))?;
        }
        Ok((connection, from))
    }

    pub(super) fn error(&self, what: String) -> OpenError {
        let place = match self {
            Self::Sqlite(file) => file.path.display().to_string(),
            Self::Postgres(server) => server.url.to_string(),
        };
        OpenError::Database { place, what }
    }
}

/// The version of the tables, 0 when there are none.
pub(super) async fn version(connection: &mut Connection) -> Result<i64, sqlx::Error> {
    let is_new = match connection {
        Connection::Sqlite(_) => "SELECT count(*) AS tables FROM sqlite_master WHERE name = '_sqlx_migrations'",
        Connection::Postgres(_) => "SELECT count(to_regclass('_sqlx_migrations')) AS tables",
    };
    match query(is_new).one(connection).await?.get("tables")? {
        0_i64 => Ok(0),
        _ => query("SELECT coalesce(max(version), 0) AS version FROM _sqlx_migrations").one(connection).await?.get("version"),
    }
}

async fn migrate(connection: &mut Connection) -> Result<(), MigrateError> {
    match connection {
        Connection::Sqlite(connection) => {
            let mut turn = connection.begin_with("BEGIN IMMEDIATE").await?;
            let migrations = [include_str!("migrations/sqlite/0001_start.sql")];
            migrator(migrations).run_direct(None, &mut *turn, false).await?;
            Ok(turn.commit().await?)
        }
        Connection::Postgres(connection) => {
            let mut turn = connection.begin().await?;
            // Another process may be at it, or a large table takes its time.
            sqlx::raw_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'").execute(&mut *turn).await?;
            take_turn(&mut turn).await?;
            let migrations = [include_str!("migrations/postgres/0001_start.sql")];
            migrator(migrations).run_direct(None, &mut *turn, false).await?;
            Ok(turn.commit().await?)
        }
    }
}

/// The migrations of one engine, from version 1. A new one is a new file for each engine; a released one never changes.
fn migrator<const COUNT: usize>(texts: [&'static str; COUNT]) -> Migrator {
    let one = |(version, text): (i64, &'static str)| {
        Migration::new(version, "gateward".into(), MigrationType::Simple, text.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations((1..).zip(texts).map(one).collect());
    // The writers' turn is the lock.
    migrator.set_locking(false);
    migrator
}

fn why_not_migrated(error: &MigrateError) -> String {
    let MigrateError::VersionMissing(version) = error else {
        return format!("its tables cannot be brought up to date: {error}");
    };
    format!("was last used by a newer gateward (its tables are at version {version}); start that one")
}

/// Connections that read, each kept for the next one who needs it.
pub(super) struct Readers {
    database: Database,
    turns: Semaphore,
    /// With the generation of each.
    idle: Mutex<Vec<(u64, Connection)>>,
}

/// A connection within a transaction whose reads all see one moment.
pub(super) struct Snapshot<'r> {
    connection: Connection,
    generation: u64,
    readers: &'r Readers,
    _turn: SemaphorePermit<'r>,
}

impl Readers {
    pub(super) fn new(database: Database, at_most: usize) -> Self {
        Self { database, turns: Semaphore::new(at_most), idle: Mutex::default() }
    }

    pub(super) async fn snapshot(&self) -> Result<Snapshot<'_>, sqlx::Error> {
        let turn = self.turns.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let generation = self.database.generation();
        while let Some((_, mut connection)) = self.take_idle().filter(|(made_in, _)| *made_in == generation) {
            if connection.begin(Begin::Snapshot).await.is_ok() {
                return Ok(Snapshot { connection, generation, readers: self, _turn: turn });
            }
            // The server was started anew or is away: the others lead there too.
            self.idle().clear();
        }
        let mut connection = self.database.reader().await?;
        connection.begin(Begin::Snapshot).await?;
        Ok(Snapshot { connection, generation, readers: self, _turn: turn })
    }

    /// Closes the connections; later reads fail.
    pub(super) async fn close(&self) {
        self.turns.close();
        while let Some((_, connection)) = self.take_idle() {
            // Nothing that was read can be lost.
            let _ = connection.close().await;
        }
    }

    fn take_idle(&self) -> Option<(u64, Connection)> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(u64, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot<'_> {
    /// Ends the transaction and keeps the connection. Without it the connection is dropped.
    pub(super) async fn end(mut self) -> Result<(), sqlx::Error> {
        self.connection.rollback().await?;
        self.readers.idle().push((self.generation, self.connection));
        Ok(())
    }
}

impl Deref for Snapshot<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Snapshot<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// The version that this program's tables have.
pub(super) const NEWEST: i64 = 1;
