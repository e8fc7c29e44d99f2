//! The servers of a Postgres database: which of them is the one that takes writes, and how it is spoken to. Knows nothing
//! of what is in the database.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgSslMode};
use tokio::time::timeout;

use crate::config::{PostgresHost, PostgresTls, PostgresUrl};

/// One database, on the first of its servers that answers and is no replica.
pub(super) struct Postgres {
    pub url: PostgresUrl,
    /// How long a statement waits for another's lock.
    lock_timeout: Duration,
    /// How long it runs, and how long a transaction may stand still: one whose gateway is gone must not keep the others
    /// from writing.
    patience: Duration,
    /// The position of the host that answered last: it is asked first.
    current: AtomicUsize,
    /// Grows when another host takes over.
    generation: AtomicU64,
    warned: AtomicBool,
}

impl Postgres {
    pub(super) fn new(url: PostgresUrl, lock_timeout: Duration, patience: Duration) -> Self {
        let (current, generation, warned) = Default::default();
        Self { url, lock_timeout, patience, current, generation, warned }
    }

    /// Which server's time it is: a connection that is older than this may lead to one that has been replaced and does
    /// not know.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Connects to the server that takes writes. A replica is passed over, so that one that was promoted is found.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let (first, count) = (self.current.load(Ordering::Relaxed), self.url.hosts.len());
        let in_turn = self.url.hosts.iter().enumerate().cycle().skip(first).take(count);
        let mut failures = Vec::new();
        for (position, host) in in_turn {
            let patience = self.connect_timeout();
            match timeout(patience, self.connect_to(host)).await {
                Ok(Ok(connection)) => {
                    if self.current.swap(position, Ordering::Relaxed) != position {
                        self.generation.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(connection);
                }
                Ok(Err(error)) => failures.push(format!("{host}: {error}")),
                Err(_) => failures.push(format!("{host}: no answer in {patience:?}")),
            }
        }
        Err(io::Error::other(failures.join("; ")).into())
    }

    /// A connection that hears the notifications of a channel.
    pub(super) async fn listen(&self, channel: &str) -> Result<PgListener, sqlx::Error> {
        // Finds out which server is the one.
        drop(self.connect().await?);
        let host = self.url.hosts.get(self.current.load(Ordering::Relaxed)).ok_or(sqlx::Error::PoolClosed)?;
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let pool = pool.acquire_timeout(self.connect_timeout()).connect_lazy_with(self.options(host));
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        Ok(listener)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.lock_timeout.min(CONNECT)
    }

    async fn connect_to(&self, host: &PostgresHost) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options(host).connect().await?;
        let ask = "SELECT pg_is_in_recovery(), current_setting('synchronous_commit') = 'off', current_setting('fsync') = 'off'";
        let (is_replica, loses_commits, loses_files): (bool, bool, bool) = sqlx::query_as(ask).fetch_one(&mut connection).await?;
        if is_replica {
            return Err(io::Error::other("it is a replica").into());
        }
        if loses_commits {
            // Raised only where it is off: `remote_apply` is more than `on`.
            sqlx::raw_sql("SET synchronous_commit = on").execute(&mut connection).await?;
        }
        if loses_files && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(%host, "the database server has fsync = off: what it acknowledges is lost with its machine");
        }
        Ok(connection)
    }

    /// All that the environment could say is said here: it is input that nobody asked for.
    fn options(&self, host: &PostgresHost) -> PgConnectOptions {
        let limits = [
            ("lock_timeout", self.lock_timeout),
            ("statement_timeout", self.patience),
            ("idle_in_transaction_session_timeout", self.patience),
        ];
        let options = PgConnectOptions::new_without_pgpass()
            .username(&self.url.user)
            .password(self.url.password.as_ref().map_or("", |password| password.expose()))
            .database(&self.url.database)
            .application_name("gateward")
            .ssl_mode(match self.url.tls {
                PostgresTls::Disable => PgSslMode::Disable,
                PostgresTls::Prefer => PgSslMode::Prefer,
                PostgresTls::Require => PgSslMode::Require,
                PostgresTls::VerifyCa => PgSslMode::VerifyCa,
                PostgresTls::VerifyFull => PgSslMode::VerifyFull,
            })
            .options(limits.map(|(name, limit)| (name, limit.as_millis())))
            .disable_statement_logging();
        let options = match &self.url.root_certificates {
            Some(path) => options.ssl_root_cert(path),
            None => options,
        };
        match host {
            PostgresHost::Tcp(host, port) => options.host(host).port(*port),
            PostgresHost::Unix(folder, port) => options.socket(folder).port(*port),
        }
    }
}

/// Per host: a server that is stopped, or a network that swallows everything, does not say no.
const CONNECT: Duration = Duration::from_secs(2);
