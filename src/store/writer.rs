//! The one task that writes. It takes what waits in the queue and commits it as one transaction, so that a hundred
//! logins cost one sync of the disk; each caller is answered when its change is durable and the directory shows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::clock::{self, Timestamp};
use crate::observe::AuditEvent;
use crate::rejection::Failure;
use crate::store::change::{Change, Record, WriteError};
use crate::store::database::Database;
use crate::store::directory::Directory;
use crate::store::execute::{self, Fault};
use crate::store::follow::{Seen, Turn, no_answer, told_to_close};
use crate::store::listen::CHANNEL;
use crate::store::read;
use crate::store::sql::{Begin, Connection, query};
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
    pub database: Database,
    /// With its generation. `None` after trouble: the next transaction connects anew.
    pub connection: Option<(u64, Connection)>,
    pub directory: Arc<Directory>,
    pub turn: Arc<Turn>,
    pub touches: Arc<Touches>,
    /// Told the number of the newest change that this process committed.
    pub committed: watch::Sender<i64>,
    /// How long the database may take for a transaction of small changes.
    pub patience: Duration,
    pub was_well: bool,
}

/// What a transaction did: for each task its refusal, if any, and what changed.
#[derive(Default)]
struct Done {
    refusals: Vec<Option<WriteError>>,
    announced: Vec<(Seen, Record)>,
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
        if let Some((_, connection)) = self.connection.take() {
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

    /// Gives up in time. The connection is then dropped and with it the transaction, unless the database was just about to
    /// commit it: nobody knows, and the callers are told that it was not acknowledged.
    async fn transact(&mut self, tasks: &[Task]) -> Result<Vec<Option<WriteError>>, sqlx::Error> {
        let keys = tasks.iter().map(Task::bulk).sum();
        let patience = self.patience.saturating_add(PER_KEY.saturating_mul(keys));
        timeout(patience, self.transact_now(tasks)).await.unwrap_or_else(|_| Err(no_answer(patience)))
    }

    /// The connection comes back only from a transaction that went well: after an error its state is anyone's guess.
    async fn transact_now(&mut self, tasks: &[Task]) -> Result<Vec<Option<WriteError>>, sqlx::Error> {
        let (generation, mut connection) = self.begin().await?;
        let now = clock::now().wall;
        let mut done = Done::default();
        for task in tasks {
            connection.mark().await?;
            match run(&mut connection, task, now).await {
                Ok(announced) => {
                    connection.keep().await?;
                    done.announced.extend(announced);
                    done.refusals.push(None);
                }
                Err(Fault::Refused(refusal)) => {
                    connection.take_back().await?;
                    done.refusals.push(Some(refusal));
                }
                Err(Fault::Broken(error)) => return Err(error),
            }
        }
        self.finish(&mut connection, done.announced, now).await?;
        self.connection = Some((generation, connection));
        Ok(done.refusals)
    }

    /// Begins on the kept connection. If that one was cut, because the server was started anew or another took its place,
    /// nothing is lost yet: one more try with a new connection.
    async fn begin(&mut self) -> Result<(u64, Connection), sqlx::Error> {
        let generation = self.database.generation();
        if let Some((made_in, mut connection)) = self.connection.take().filter(|(made_in, _)| *made_in == generation) {
            match connection.begin(Begin::Write).await {
                Ok(()) => return Ok((made_in, connection)),
                Err(error) if !is_cut(&error) => return Err(error),
                Err(_) => {}
            }
        }
        let mut connection = self.database.writer().await?;
        let generation = self.database.generation();
        connection.begin(Begin::Write).await?;
        Ok((generation, connection))
    }

    /// Commits, and shows what was committed.
    async fn finish(
        &mut self,
        connection: &mut Connection,
        announced: Vec<(Seen, Record)>,
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        let (first, last) = (announced.first().map(|one| one.0), announced.last().map(|one| one.0));
        if let (Connection::Postgres(_), Some(last)) = (&*connection, last) {
            let notify = query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(last.seq.to_string());
            notify.execute(connection).await?;
        }
        // Read before the commit: nothing may fail between it and the answer.
        let everything = announced.iter().any(|(_, record)| record.stands_for_all());
        let mut images = Vec::new();
        if everything {
            (images, _) = read::everything(connection, now).await?;
        } else {
            for (_, record) in announced {
                images.push(read::image(connection, record).await?);
            }
        }
        let mut seen = self.turn.lock().await;
        // The follower has to look where others wrote before us, or where what it saw is not what there is.
        let follows = first.is_some_and(|first| seen.seq.checked_add(1) == Some(first.seq))
            && read::change_number(connection, seen.seq).await?.is_none_or(|there| there == *seen);
        connection.commit().await?;
        match everything {
            true => self.directory.replace(images),
            false => images.into_iter().for_each(|image| self.directory.show(image)),
        }
        if let Some(last) = last {
            if follows {
                *seen = last;
            }
            self.committed.send_replace(last.seq);
        }
        Ok(())
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

impl Task {
    /// How many records a task of unusual size has.
    fn bulk(&self) -> u32 {
        match self {
            Self::Change { change, .. } => change.bulk(),
            Self::SigningKey { .. } | Self::TouchKeys(_) | Self::Prune | Self::Probe => 0,
        }
    }
}

/// Whether the connection is of no use any more, or never was: no answer of a database, Postgres' classes 08 and 57, what
/// a server says that shuts down, or a server that takes no writes.
fn is_cut(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().map(|error| error.code().unwrap_or_default());
    code.is_none_or(|code| code.len() == 5 && (code.starts_with("08") || code.starts_with("57P")))
}

/// Does one task; answers what it changed.
async fn run(connection: &mut Connection, task: &Task, now: Timestamp) -> Result<Option<(Seen, Record)>, Fault> {
    match task {
        Task::Change { change, audit } => {
            execute::change(connection, change).await?;
            if let Some(event) = audit {
                execute::audit(connection, event).await?;
            }
            let Some(record) = change.record() else { return Ok(None) };
            let announced = execute::announce(connection, &record, now).await?;
            Ok(Some((announced, record)))
        }
        Task::SigningKey { api, algorithm, sealed } => {
            execute::signing_key(connection, (api, algorithm), sealed, now).await?;
            Ok(None)
        }
        Task::TouchKeys(touches) => {
            execute::touch_keys(connection, touches).await?;
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
/// What each key of many adds to the writer's patience: a hundred times what it takes.
const PER_KEY: Duration = Duration::from_millis(2);
