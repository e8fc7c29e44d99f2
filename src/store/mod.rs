//! Durable state: accounts, sessions, keys, signing keys, audit. What is acknowledged is on disk; what is on disk is in
//! the [`Directory`], which the request path reads without waiting.
//!
//! All SQL runs on the control plane's runtime; the methods may be called from any thread. The store decides nothing:
//! whether a session is still good or a key may be used is for others to judge.

mod change;
mod database;
mod directory;
mod execute;
mod follow;
mod listen;
mod maintain;
mod postgres;
mod read;
mod seal;
mod sql;
mod sqlite;
mod touches;
mod writer;

#[cfg(test)]
mod conformance;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock::{self, Timestamp};
use crate::config::StoreUrl;
use crate::identity::{Account, AccountId, ApiKey, Digest, KeyId, Secret};
use crate::observe::AuditEvent;
use crate::rejection::Failure;
use crate::store::database::{Database, Readers};
use crate::store::follow::{Follower, Turn};
use crate::store::listen::Listener;
use crate::store::seal::{Missing, Seal};
use crate::store::sql::Connection;
use crate::store::touches::Touches;
use crate::store::writer::{Job, Task, Writer};

pub use change::{Change, Session, WriteError};
pub use directory::Directory;
pub use maintain::{Condition, backup, check, migrate};

/// The store of one process. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// Where the store is, from `[store]`.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub url: StoreUrl,
    pub encryption_key_file: PathBuf,
}

/// Why the store cannot be opened. Says what is wrong, where, and what would be right; holds no secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the store {place}: {what}")]
    Database { place: String, what: String },
    #[error("the encryption key file {path}: {what}", path = path.display())]
    KeyFile { path: PathBuf, what: String },
    #[error("the backup {path}: {what}", path = path.display())]
    Backup { path: PathBuf, what: String },
}

/// What a login is judged by.
#[derive(Clone, Debug)]
pub struct LoginRecord {
    pub account: Arc<Account>,
    /// A PHC string; `None` when no password opens the account.
    pub password: Option<Secret>,
}

/// A key as lists show it.
#[derive(Clone, Debug)]
pub struct KeyRow {
    pub key: ApiKey,
    /// Up to a minute old.
    pub last_used_at: Option<Timestamp>,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many to leave out at the start.
    pub offset: u64,
    /// How many to answer at most; above [`Page::MAX_LIMIT`] it counts as that.
    pub limit: u32,
}

struct Inner {
    control: Handle,
    readers: Arc<Readers>,
    directory: Arc<Directory>,
    seal: Seal,
    jobs: mpsc::Sender<Job>,
    touches: Arc<Touches>,
    committed: watch::Receiver<i64>,
    wake: Arc<Notify>,
    closing: watch::Sender<bool>,
    running: Mutex<Vec<JoinHandle<()>>>,
    patience: Duration,
}

/// How patient the store is: constants, except in tests.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long a statement waits for a lock.
    busy_timeout: Duration,
    /// How long a read or a transaction may take in all, until its caller is told that the store is away.
    patience: Duration,
    follow_every: Duration,
}

impl Pace {
    const USUAL: Self = Self {
        busy_timeout: Duration::from_secs(5),
        patience: Duration::from_secs(10),
        follow_every: Duration::from_millis(500),
    };
}

impl Page {
    pub const MAX_LIMIT: u32 = 1000;
}

impl Store {
    /// Opens the store and loads the directory; makes the database and the encryption key file if they are missing.
    pub async fn open(options: StoreOptions, control: Handle) -> Result<Self, OpenError> {
        Self::open_at(options, control, Pace::USUAL).await
    }

    async fn open_at(options: StoreOptions, control: Handle, pace: Pace) -> Result<Self, OpenError> {
        let database = Database::new(&options.url, pace);
        let ended = database.clone();
        let inner = control.clone().spawn(Inner::start(options, database, control, pace)).await;
        let inner = inner.map_err(|_| ended.error("opening it was cut short".to_owned()))??;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Accounts, keys and ended sessions in memory: lock-free, never waits.
    pub fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// Finds an account and its password by canonical user name, or by an email that is one account's only.
    pub async fn login_record(&self, realm: &str, login: &str) -> Result<Option<LoginRecord>, Failure> {
        let (realm, login) = (realm.to_owned(), login.to_owned());
        self.read(move |snapshot| Box::pin(async move { read::login_record(snapshot, &realm, &login).await })).await
    }

    /// Finds a session by the digest of its refresh token, an ended or expired one too.
    pub async fn session_by_refresh(&self, realm: &str, digest: &Digest) -> Result<Option<Session>, Failure> {
        let (realm, digest) = (realm.to_owned(), *digest);
        self.read(move |snapshot| Box::pin(async move { read::session_by_refresh(snapshot, &realm, &digest).await })).await
    }

    /// Writes a change and its audit event together. Returns when both are durable and the directory shows the change;
    /// other processes show it within two seconds.
    pub async fn write(&self, change: Change, audit: Option<AuditEvent>) -> Result<(), WriteError> {
        self.submit(Task::Change { change: Box::new(change), audit: audit.map(Box::new) }).await
    }

    /// One page of a realm's keys, of one owner or of all, newest first, revoked ones too; and how many there are.
    pub async fn keys(&self, realm: &str, owner: Option<&AccountId>, page: Page) -> Result<(Vec<KeyRow>, u64), Failure> {
        let (realm, owner) = (realm.to_owned(), owner.cloned());
        self.read(move |snapshot| Box::pin(async move { read::keys(snapshot, &realm, owner.as_ref(), page).await })).await
    }

    /// All accounts, of one realm or of all, by name.
    pub async fn accounts(&self, realm: Option<&str>) -> Result<Vec<Account>, Failure> {
        let realm = realm.map(str::to_owned);
        self.read(move |snapshot| Box::pin(async move { read::accounts(snapshot, realm.as_deref()).await })).await
    }

    /// The signing key of an API. The first call ever makes it; when several processes make one at once, all answer the
    /// same. It is encrypted at rest.
    pub async fn signing_key(
        &self,
        api: &str,
        algorithm: &str,
        make: impl FnOnce() -> Secret + Send + 'static,
    ) -> Result<Secret, Failure> {
        let name = sealed_name(api, algorithm);
        if let Some(sealed) = self.stored_signing_key(api, algorithm).await? {
            return self.inner.seal.open(&name, &sealed);
        }
        // Making an RSA key takes a second.
        let made = self.inner.control.spawn_blocking(make).await.map_err(|_| cut_short())?;
        let sealed = self.inner.seal.seal(&name, &made)?;
        let task = Task::SigningKey { api: api.to_owned(), algorithm: algorithm.to_owned(), sealed };
        self.submit(task).await.map_err(WriteError::into_failure)?;
        match self.stored_signing_key(api, algorithm).await? {
            Some(sealed) => self.inner.seal.open(&name, &sealed),
            None => Err(Failure::Internal { detail: format!("the signing key {name} was written and is not there") }),
        }
    }

    /// Notes that a key was used. Cheap, never waits; written about once a minute and when the store is closed.
    pub fn touch_key(&self, id: &KeyId, at: Timestamp) {
        self.inner.touches.note(id, at);
    }

    /// Whether the store can be read and written now.
    pub async fn health(&self) -> Result<(), Failure> {
        self.read(move |snapshot| Box::pin(async move { read::newest_change(snapshot).await })).await?;
        self.submit(Task::Probe).await.map_err(WriteError::into_failure)
    }

    /// The number of the newest change that this process committed and that others should look for: what a channel of
    /// news besides the database's own tells them.
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.inner.committed.clone()
    }

    /// Looks for other processes' changes now and not at the next half second.
    pub fn look_now(&self) {
        self.inner.wake.notify_one();
    }

    /// Writes what waits and closes the database. Later writes and reads fail; the directory stays.
    pub async fn close(&self) {
        self.inner.closing.send_replace(true);
        let running = std::mem::take(&mut *self.inner.running.lock().unwrap_or_else(PoisonError::into_inner));
        for task in running {
            // A task that panicked has nothing left to finish.
            let _ = task.await;
        }
        let readers = self.inner.readers.clone();
        let _ = self.inner.control.spawn(async move { readers.close().await }).await;
    }

    async fn stored_signing_key(&self, api: &str, algorithm: &str) -> Result<Option<Vec<u8>>, Failure> {
        let (api, algorithm) = (api.to_owned(), algorithm.to_owned());
        self.read(move |snapshot| Box::pin(async move { read::signing_key(snapshot, &api, &algorithm).await })).await
    }

    /// Hands a task to the writer and waits for its answer. A full queue refuses: a caller who waits behind thousands
    /// would be gone before its turn.
    async fn submit(&self, task: Task) -> Result<(), WriteError> {
        let (answer, answered) = oneshot::channel();
        let unavailable = |detail: &str| WriteError::Unavailable(Failure::StoreUnavailable { detail: detail.to_owned() });
        self.inner.jobs.try_send(Job { task, answer }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => unavailable("too many writes wait"),
            mpsc::error::TrySendError::Closed(_) => unavailable("it is closed"),
        })?;
        answered.await.unwrap_or_else(|_| Err(unavailable("it is closed")))
    }

    /// Runs a read on the control plane, in one snapshot.
    async fn read<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> Reading<'c, T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (readers, patience) = (self.inner.readers.clone(), self.inner.patience);
        let reading = async move {
            let mut snapshot = readers.snapshot().await?;
            let value = work(&mut snapshot).await?;
            snapshot.end().await?;
            Ok::<T, sqlx::Error>(value)
        };
        let outcome = self.inner.control.spawn(timeout(patience, reading)).await;
        let unavailable = |detail: String| Failure::StoreUnavailable { detail };
        outcome
            .map_err(|_| cut_short())?
            .map_err(|_| unavailable(format!("no answer in {patience:?}")))?
            .map_err(|error| unavailable(error.to_string()))
    }
}

impl Inner {
    async fn start(options: StoreOptions, database: Database, control: Handle, pace: Pace) -> Result<Self, OpenError> {
        let failed = |error: sqlx::Error| database.error(error.to_string());
        let (mut connection, _) = database.prepare().await?;
        let generation = database.generation();
        let seal = load_seal(&options, &database, &mut connection).await?;
        let readers = Arc::new(Readers::new(database.clone(), READERS));
        let directory = Arc::new(Directory::default());
        let now = clock::now().wall;
        let mut snapshot = readers.snapshot().await.map_err(failed)?;
        let (images, seen) = read::everything(&mut snapshot, now).await.map_err(failed)?;
        snapshot.end().await.map_err(failed)?;
        directory.replace(images);
        directory.set_followed_at(now);

        let (turn, touches, wake) = (Arc::new(Turn::new(seen)), Arc::new(Touches::default()), Arc::new(Notify::new()));
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let (closing, close) = watch::channel(false);
        let (committing, committed) = watch::channel(0);
        let writer = Writer {
            connection: Some((generation, connection)),
            database: database.clone(),
            directory: directory.clone(),
            turn: turn.clone(),
            touches: touches.clone(),
            committed: committing,
            patience: pace.patience,
            was_well: true,
        };
        let follower = Follower {
            readers: Readers::new(database.clone(), 1),
            directory: directory.clone(),
            turn,
            every: pace.follow_every,
            wake: wake.clone(),
            patience: pace.busy_timeout,
        };
        let mut running = vec![control.spawn(writer.run(waiting, close.clone())), control.spawn(follower.run(close.clone()))];
        if let Database::Postgres(server) = database {
            running.push(control.spawn(Listener { server, wake: wake.clone() }.run(close)));
        }
        let (running, patience) = (Mutex::new(running), pace.patience);
        Ok(Self { control, readers, directory, seal, jobs, touches, committed, wake, closing, running, patience })
    }
}

/// Loads the encryption key and tries it on what it should have encrypted: of several gateways on one database, all need
/// the same.
async fn load_seal(options: &StoreOptions, database: &Database, connection: &mut Connection) -> Result<Seal, OpenError> {
    let sealed = read::signing_keys(connection).await.map_err(|error| database.error(error.to_string()))?;
    let missing = if sealed.is_empty() { Missing::Make } else { Missing::Refuse };
    let seal = Seal::load(&options.encryption_key_file, missing)?;
    for (api, algorithm, sealed) in sealed {
        seal.open(&sealed_name(&api, &algorithm), &sealed).map_err(|error| database.error(error.to_string()))?;
    }
    Ok(seal)
}

/// What is read of one snapshot.
type Reading<'c, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

impl WriteError {
    fn into_failure(self) -> Failure {
        match self {
            Self::Unavailable(failure) => failure,
            Self::Conflict { .. } | Self::Conflicts { .. } | Self::Unknown { .. } => {
                Failure::Internal { detail: self.to_string() }
            }
        }
    }
}

/// What a signing key is sealed under: one that was moved to another row does not open.
fn sealed_name(api: &str, algorithm: &str) -> String {
    format!("{api}/{algorithm}")
}

fn cut_short() -> Failure {
    Failure::StoreUnavailable { detail: "the gateway is stopping".to_owned() }
}

/// How many writes may wait.
const QUEUE: usize = 4096;
const READERS: usize = 4;
