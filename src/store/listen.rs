//! Hears of other processes' changes from Postgres, at once. What is not heard (a lost connection, a lost message) is found
//! by the follower's looks all the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::store::follow::told_to_close;
use crate::store::postgres::Postgres;

pub(super) struct Listener {
    pub server: Arc<Postgres>,
    /// Whom a notification wakes.
    pub wake: Arc<Notify>,
}

impl Listener {
    /// Listens until told to close. Trouble is not logged: the follower has the same and says so.
    pub(super) async fn run(self, mut closing: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = told_to_close(&mut closing) => return,
                _ = self.hear() => {}
            }
            tokio::select! {
                () = told_to_close(&mut closing) => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Wakes the follower for each notification until the connection is lost.
    async fn hear(&self) -> Result<(), sqlx::Error> {
        let mut listener = self.server.listen(CHANNEL).await?;
        // What was committed before the first word.
        self.wake.notify_one();
        loop {
            match timeout(SILENCE, listener.try_recv()).await {
                Ok(heard) => match heard? {
                    Some(_) => self.wake.notify_one(),
                    None => return Ok(()),
                },
                // A connection whose other end is gone is as silent as one on which nothing happens.
                Err(_) => {
                    let alive = sqlx::query("SELECT 1").execute(&mut listener);
                    timeout(self.server.connect_timeout(), alive).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
            }
        }
    }
}

pub(super) const CHANNEL: &str = "gateward_changes";
const PAUSE: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(15);
