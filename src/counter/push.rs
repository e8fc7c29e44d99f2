//! The word that a process has changed the store, so that the others look at once and not only with their next poll. It says
//! nothing else: whoever can write into the counters can make a node look at its store, and no more.

use std::sync::Arc;
use std::time::Duration;

use redis::{Value, cmd};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::counter::{Counters, Live, Shared};

impl Counters {
    /// From now on tells the other processes whenever `committed` changes, and calls `look` when one of them tells so, or may
    /// have without having been heard. Both can fail in silence while the counters are away: a poll stands behind it.
    pub fn share_changes(&self, committed: watch::Receiver<i64>, look: impl Fn() + Send + 'static) {
        let inner = &self.inner;
        let telling = until_closed(inner.closing.subscribe(), tell(inner.shared.clone(), committed));
        let hearing = until_closed(inner.closing.subscribe(), hear(inner.shared.clone(), look));
        let mut running = inner.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        running.push(inner.control.spawn(telling));
        running.push(inner.control.spawn(hearing));
    }
}

async fn until_closed(mut closing: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        _ = closing.wait_for(|closing| *closing) => {}
        () = work => {}
    }
}

/// Ends with the store that commits.
async fn tell(shared: Arc<Shared>, mut committed: watch::Receiver<i64>) {
    while committed.changed().await.is_ok() {
        if let Some(live) = shared.live.load_full() {
            let _ = timeout(PATIENCE, publish(&live, &shared.name)).await;
        }
    }
}

async fn publish(live: &Live, name: &str) {
    let mut message = cmd("PUBLISH");
    message.arg(CHANNEL).arg(name);
    if let Err(error) = live.link.clone().query::<i64>(&message).await {
        live.breaker.failed(&error.into());
    }
}

async fn hear(shared: Arc<Shared>, look: impl Fn()) {
    loop {
        shared.news.notified().await;
        look();
        // What comes meanwhile makes one more look, and a flood of messages no flood of queries.
        sleep(GAP).await;
    }
}

/// Whether what came over the channel was told by another process than the one of this name.
pub fn is_news(message: &[Value], own_name: &str) -> bool {
    match message {
        [Value::BulkString(channel), Value::BulkString(name)] => channel == CHANNEL.as_bytes() && name != own_name.as_bytes(),
        _ => false,
    }
}

pub const CHANNEL: &str = "gw:store";
const PATIENCE: Duration = Duration::from_millis(500);
const GAP: Duration = Duration::from_millis(20);
