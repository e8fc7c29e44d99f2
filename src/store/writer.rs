//! The one task that writes. It takes what waits in the queue and commits it as one transaction, so that a hundred
//! logins cost one sync of the disk; each caller is answered when its change is durable and the directory shows it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::clock::{self, Timestamp};
use crate::observe::AuditEvent;
use crate::rejection::Failure;
use crate::store::change::{Change, Record, WriteError};
use crate::store::directory::Directory;
use crate::store::execute::{self, Fault};
use crate::store::follow::{Turn, told_to_close};
use crate::store::read;
use crate::store::sqlite::Sqlite;
use crate::store::touches::Touches;

/// Something to write, and who waits for it.
pub(super) struct Job {
    pub task: Task,
    pub answer: oneshot::Sender<Result<(), WriteError>>,
}

pub(super) enum Task {
    Change {
        change: Box<Change>,
        audit: Option<Box<AuditEvent>>,
    },
    SigningKey {
        api: String,
        algorithm: String,
        sealed: Vec<u8>,
    },
    TouchKeys(Vec<(Arc<str>, Timestamp)>),
    Prune,
    /// Takes the write lock and lets it go: whether writing is possible.
    Probe,
}

pub(super) struct Writer {
    pub database: Sqlite,
    /// `None` after trouble: the next transaction connects anew.
    pub connection: Option<SqliteConnection>,
    pub directory: Arc<Directory>,
    pub turn: Arc<Turn>,
    pub touches: Arc<Touches>,
    pub was_well: bool,
}

/// What a transaction did: for each task its refusal, if any, and what changed.
#[derive(Default)]
struct Done {
    refusals: Vec<Option<WriteError>>,
    announced: Vec<(i64, Record)>,
}

impl Writer {
    /// Writes until told to close; what waits then is still written.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>, mut closing: watch::Receiver<bool>) {
        let mut upkeep = interval_at(Instant::now() + UPKEEP, UPKEEP);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                biased;
                () = told_to_close(&mut closing), if !jobs.is_closed() => jobs.close(),
                _ = upkeep.tick() => self.upkeep().await,
                count = jobs.recv_many(&mut batch, GROUP) => match count {
                    0 => break,
                    _ => self.serve(&mut batch, &mut jobs).await,
                },
            }
        }
        self.write_touches().await;
        if let Some(connection) = self.connection.take() {
            // Nothing is lost if this fails: the next start reads the log.
            let _ = connection.close().await;
        }
    }

    /// Commits the batch and answers. If that fails, all that waits is told so at once: each further try might take as
    /// long to fail.
    async fn serve(&mut self, batch: &mut Vec<Job>, jobs: &mut mpsc::Receiver<Job>) {
        let (tasks, answers): (Vec<Task>, Vec<_>) = batch.drain(..).map(|job| (job.task, job.answer)).unzip();
        // A caller that no longer waits is no error.
        match self.commit(&tasks).await {
            Ok(refusals) => {
                for (answer, refusal) in answers.into_iter().zip(refusals) {
                    let _ = answer.send(refusal.map_or(Ok(()), Err));
                }
            }
            Err(failure) => {
                let waiting = (0..jobs.len()).map_while(|_| jobs.try_recv().ok()).map(|job| job.answer);
                for answer in answers.into_iter().chain(waiting) {
                    let _ = answer.send(Err(WriteError::Unavailable(failure.clone())));
                }
            }
        }
    }

    /// One transaction; logs when trouble begins and ends.
    async fn commit(&mut self, tasks: &[Task]) -> Result<Vec<Option<WriteError>>, Failure> {
        match self.transact(tasks).await {
            Ok(refusals) => {
                if !self.was_well {
                    tracing::info!("the store can be written again");
                }
                self.was_well = true;
                Ok(refusals)
            }
            Err(error) => {
                if self.was_well {
                    tracing::warn!(%error, "the store cannot be written");
                }
                self.was_well = false;
                Err(Failure::StoreUnavailable { detail: error.to_string() })
            }
        }
    }

    /// The connection comes back only from a transaction that went well: after an error its state is anyone's guess.
    async fn transact(&mut self, tasks: &[Task]) -> Result<Vec<Option<WriteError>>, sqlx::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.writer().await?,
        };
        let now = clock::now().wall;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut done = Done::default();
        for task in tasks {
            let mut savepoint = transaction.begin().await?;
            match run(&mut savepoint, task, now).await {
                Ok(announced) => {
                    savepoint.commit().await?;
                    done.announced.extend(announced);
                    done.refusals.push(None);
                }
                Err(Fault::Refused(refusal)) => {
                    savepoint.rollback().await?;
                    done.refusals.push(Some(refusal));
                }
                Err(Fault::Broken(error)) => return Err(error),
            }
        }
        // Read before the commit: nothing may fail between it and the answer.
        let (first, last) = (done.announced.first().map(|one| one.0), done.announced.last().map(|one| one.0));
        let everything = done.announced.iter().any(|(_, record)| record.stands_for_all());
        let mut images = Vec::new();
        if everything {
            (images, _) = read::everything(&mut transaction, now).await?;
        } else {
            for (_, record) in done.announced {
                images.push(read::image(&mut transaction, record).await?);
            }
        }
        let mut seen = self.turn.lock().await;
        transaction.commit().await?;
        match everything {
            true => self.directory.replace(images),
            false => images.into_iter().for_each(|image| self.directory.show(image)),
        }
        if let (Some(first), Some(last)) = (first, last)
            && seen.checked_add(1) == Some(first)
        {
            *seen = last;
        }
        drop(seen);
        self.connection = Some(connection);
        Ok(done.refusals)
    }

    async fn upkeep(&mut self) {
        let now = clock::now().wall;
        self.write_touches().await;
        self.touches.forget_idle(now);
        self.directory.prune(now);
        // Trouble is logged by `commit`; the next upkeep tries again.
        let _ = self.commit(&[Task::Prune]).await;
    }

    async fn write_touches(&mut self) {
        let unwritten = self.touches.unwritten();
        // In parts, so that a login never waits for more than one of them.
        for part in unwritten.chunks(TOUCHES_AT_ONCE) {
            if self.commit(&[Task::TouchKeys(part.to_vec())]).await.is_err() {
                return;
            }
            self.touches.written(part);
        }
    }
}

/// Does one task; answers what it changed.
async fn run(connection: &mut SqliteConnection, task: &Task, now: Timestamp) -> Result<Option<(i64, Record)>, Fault> {
    match task {
        Task::Change { change, audit } => {
            execute::change(connection, change).await?;
            if let Some(event) = audit {
                execute::audit(connection, event).await?;
            }
            let Some(record) = change.record() else { return Ok(None) };
            let seq = execute::announce(connection, &record, now).await?;
            Ok(Some((seq, record)))
        }
        Task::SigningKey { api, algorithm, sealed } => {
            execute::signing_key(connection, (api, algorithm), sealed, now).await?;
            Ok(None)
        }
        Task::TouchKeys(touches) => {
            for (id, at) in touches {
                execute::touch_key(connection, id, *at).await?;
            }
            Ok(None)
        }
        Task::Prune => execute::prune(connection, now).await.map(|()| None),
        Task::Probe => Ok(None),
    }
}

/// How many tasks one transaction takes.
const GROUP: usize = 256;
const TOUCHES_AT_ONCE: usize = 1024;
const UPKEEP: Duration = Duration::from_secs(60);
