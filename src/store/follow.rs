//! Keeps the directory up to date with what other processes commit: looks into the table `changes` twice a second, or at
//! once when it is told to, and reads what changed again.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock;
use crate::store::database::{Readers, Snapshot};
use crate::store::directory::{Directory, Image};
use crate::store::read;
use crate::store::sql::Connection;

/// Whose turn it is to change the directory, with the last change that it shows. The writer holds it from its commit to
/// the end of its update, the follower from its read to the end of its: so no one shows a record that is older than the
/// one that is shown.
pub(super) type Turn = Mutex<Seen>;

/// A change, by its number and by its time in milliseconds. A database that was put back to an older state, or a replica
/// that took over without the newest rows, gives the same numbers to other changes at another time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub seq: i64,
    pub at: i64,
}

pub(super) struct Follower {
    pub readers: Readers,
    pub directory: Arc<Directory>,
    pub turn: Arc<Turn>,
    pub every: Duration,
    /// Asks for a look now.
    pub wake: Arc<Notify>,
    /// How long the database may take to say what is new.
    pub patience: Duration,
}

impl Follower {
    /// Follows until told to close. Trouble is logged once when it begins and once when it ends; the directory goes on
    /// showing what it has.
    pub(super) async fn run(self, mut closing: watch::Receiver<bool>) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_well = true;
        loop {
            tokio::select! {
                () = told_to_close(&mut closing) => break,
                _ = ticks.tick() => {}
                () = self.wake.notified() => {}
            }
            let outcome = timeout(PATIENCE, self.catch_up()).await.unwrap_or_else(|_| Err(no_answer(PATIENCE)));
            match &outcome {
                Ok(()) if !was_well => tracing::info!("the store can be read again; its changes are followed"),
                Err(error) if was_well => tracing::warn!(%error, "the store cannot be read; its changes are not followed"),
                Ok(()) | Err(_) => {}
            }
            was_well = outcome.is_ok();
        }
        self.readers.close().await;
    }

    /// Shows all that is committed by now. The writer waits for the turn meanwhile, so that a server that has stopped is
    /// not waited for as long as a large store may take to load.
    async fn catch_up(&self) -> Result<(), sqlx::Error> {
        let mut seen = self.turn.lock().await;
        let now = clock::now().wall;
        let (mut snapshot, newest) = self.in_time(self.look()).await?;
        while *seen != newest {
            let Some((last, images)) = self.in_time(news(&mut snapshot, *seen)).await? else {
                let (images, newest) = read::everything(&mut snapshot, now).await?;
                self.directory.replace(images);
                *seen = newest;
                break;
            };
            images.into_iter().for_each(|image| self.directory.show(image));
            *seen = last;
        }
        self.directory.set_followed_at(now);
        drop(seen);
        snapshot.end().await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        timeout(self.patience, work).await.unwrap_or_else(|_| Err(no_answer(self.patience)))
    }

    /// One snapshot, so that what is read of a record is at least as new as the change that told of it; and the newest
    /// change in it.
    async fn look(&self) -> Result<(Snapshot<'_>, Seen), sqlx::Error> {
        let mut snapshot = self.readers.snapshot().await?;
        let newest = read::newest_change(&mut snapshot).await?;
        Ok((snapshot, newest))
    }
}

/// What changed next after `seen`, as it is now. `None` when that cannot be told and all is to be read: numbers are given
/// without gaps, so that a gap was pruned before we came, and a smaller number, or another change with the number of the
/// one that was seen, is of another history.
async fn news(snapshot: &mut Connection, seen: Seen) -> Result<Option<(Seen, Vec<Image>)>, sqlx::Error> {
    let mut changes = read::changes_from(snapshot, seen.seq, CHANGES_AT_ONCE).await?;
    let known = changes.first().is_none_or(|(first, _)| first.seq > seen.seq || *first == seen);
    changes.retain(|(change, _)| change.seq > seen.seq);
    let follows = changes.first().is_some_and(|(first, _)| seen.seq.checked_add(1) == Some(first.seq));
    let singly = !changes.iter().any(|(_, record)| record.stands_for_all());
    let Some(last) = changes.last().map(|(last, _)| *last).filter(|_| known && follows && singly) else { return Ok(None) };
    let records: BTreeSet<_> = changes.into_iter().map(|(_, record)| record).collect();
    let mut images = Vec::with_capacity(records.len());
    for record in records {
        images.push(read::image(snapshot, record).await?);
    }
    Ok(Some((last, images)))
}

/// Waits until the store is closed, or dropped.
pub(super) async fn told_to_close(closing: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say so.
    let _ = closing.wait_for(|closing| *closing).await;
}

pub(super) fn no_answer(patience: Duration) -> sqlx::Error {
    io::Error::other(format!("no answer in {patience:?}")).into()
}

/// With the seen one among them.
const CHANGES_AT_ONCE: i64 = 1001;

/// How long one look may take before it counts as failed; a full load of a large store fits well.
const PATIENCE: Duration = Duration::from_secs(60);
