//! Keeps the directory up to date with what other processes commit: looks into the table `changes` twice a second and
//! reads what changed again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlitePool;
use tokio::sync::{Mutex, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock;
use crate::store::directory::Directory;
use crate::store::read;

/// Whose turn it is to change the directory, with the number of the last change that it shows. The writer holds it from
/// its commit to the end of its update, the follower from its read to the end of its: so no one shows a record that is
/// older than the one that is shown.
pub(super) type Turn = Mutex<i64>;

pub(super) struct Follower {
    pub readers: SqlitePool,
    pub directory: Arc<Directory>,
    pub turn: Arc<Turn>,
    pub every: Duration,
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
                () = told_to_close(&mut closing) => return,
                _ = ticks.tick() => {}
            }
            let outcome = timeout(PATIENCE, self.catch_up()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
            match &outcome {
                Ok(()) if !was_well => tracing::info!("the store can be read again; its changes are followed"),
                Err(error) if was_well => tracing::warn!(%error, "the store cannot be read; its changes are not followed"),
                Ok(()) | Err(_) => {}
            }
            was_well = outcome.is_ok();
        }
    }

    /// Shows all that is committed by now.
    async fn catch_up(&self) -> Result<(), sqlx::Error> {
        let mut seen = self.turn.lock().await;
        let now = clock::now().wall;
        // One transaction, one snapshot: what is read of a record is at least as new as the change that told of it.
        let mut snapshot = self.readers.begin().await?;
        let newest = read::newest_change(&mut snapshot).await?;
        while *seen != newest {
            let changes = read::changes_after(&mut snapshot, *seen, CHANGES_AT_ONCE).await?;
            // Numbers are given without gaps. A gap was pruned before we came, a smaller number is an older database.
            let follows = changes.first().is_some_and(|(seq, _)| seen.checked_add(1) == Some(*seq));
            let singly = !changes.iter().any(|(_, record)| record.stands_for_all());
            let Some((last, _)) = changes.last().filter(|_| follows && singly) else {
                let (images, seq) = read::everything(&mut snapshot, now).await?;
                self.directory.replace(images);
                *seen = seq;
                break;
            };
            let last = *last;
            let records: BTreeSet<_> = changes.into_iter().map(|(_, record)| record).collect();
            for record in records {
                self.directory.show(read::image(&mut snapshot, record).await?);
            }
            *seen = last;
        }
        self.directory.set_followed_at(now);
        snapshot.rollback().await
    }
}

/// Waits until the store is closed, or dropped.
pub(super) async fn told_to_close(closing: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say so.
    let _ = closing.wait_for(|closing| *closing).await;
}

const CHANGES_AT_ONCE: i64 = 1000;

/// How long one look may take before it counts as failed; a full load of a large store fits well.
const PATIENCE: Duration = Duration::from_secs(60);
