//! Keeps the counters connected: connects, tries a write, holds the connection until its breaker opens, and begins anew.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redis::{PushInfo, PushKind};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::clock::{self, Tick};
use crate::counter::breaker::{Backoff, Breaker};
use crate::counter::link::{Dialer, Ear, Link};
use crate::counter::push::{self, CHANNEL};
use crate::counter::{Live, Script, Shared, Unavailable};

pub struct Supervisor {
    pub dialer: Dialer,
    pub shared: Arc<Shared>,
}

impl Supervisor {
    /// Goes on until told to close, or nobody is left who could tell.
    pub async fn run(mut self, mut closing: watch::Receiver<bool>) {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => {}
            never = self.keep_up() => match never {},
        }
        self.shared.live.store(None);
    }

    /// Says once that the counters are away, with the cause, and once that they are back.
    async fn keep_up(&mut self) -> Infallible {
        let place = self.dialer.place();
        let probe = Script::new(PROBE);
        let mut backoff = Backoff::default();
        let mut generation = 0;
        let mut away_since: Option<Tick> = None;
        loop {
            sleep(backoff.next(clock::now().tick)).await;
            let cause = match self.connect(generation + 1, &probe).await {
                Ok(live) => {
                    let now = clock::now().tick;
                    generation = live.generation;
                    backoff.connected(now);
                    if let Some(since) = away_since.take() {
                        let after = Duration::from_micros(now.since(since));
                        tracing::info!("the shared counters at {place} are back after {after:.1?}");
                    }
                    self.hold(live, &probe).await
                }
                Err(cause) => cause,
            };
            if away_since.is_none() {
                away_since = Some(clock::now().tick);
                tracing::warn!("the shared counters at {place} are away: {cause}; each limit goes on as its on_outage says");
            }
        }
    }

    /// A new connection that takes writes as fast as requests want them.
    pub(super) async fn connect(&mut self, generation: u64, probe: &Script) -> Result<Live, Unavailable> {
        let breaker = Arc::new(Breaker::default());
        let mut link = self.dialer.dial(self.ear(breaker.clone())).await?;
        timeout(PATIENCE, link.subscribe(CHANNEL)).await.map_err(|_| Unavailable::TimedOut)??;
        write(&mut link, probe, self.shared.timeout).await?;
        Ok(Live { link, generation, breaker, complained: AtomicBool::new(false) })
    }

    /// Lets the workers use a connection until it is given up, and says why it was.
    async fn hold(&self, live: Live, probe: &Script) -> Unavailable {
        let (breaker, mut link) = (live.breaker.clone(), live.link.clone());
        self.shared.live.store(Some(Arc::new(live)));
        // Nobody listened while there was no connection.
        self.shared.news.notify_one();
        let cause = tokio::select! {
            cause = breaker.opened() => cause.clone(),
            cause = watch_over(&mut link, probe) => cause,
        };
        self.shared.live.store(None);
        cause
    }

    fn ear(&self, breaker: Arc<Breaker>) -> Ear {
        let shared = self.shared.clone();
        Arc::new(move |info: PushInfo| {
            if info.kind == PushKind::Disconnection {
                breaker.open(Unavailable::Lost { detail: "the connection ended".to_owned() });
            } else if info.kind == PushKind::Message && push::is_news(&info.data, &shared.name) {
                shared.news.notify_one();
            }
        })
    }
}

/// Finds out that a connection is of no use when no request does: the server is gone without a word, or takes no writes any
/// more.
async fn watch_over(link: &mut Link, probe: &Script) -> Unavailable {
    loop {
        sleep(HEARTBEAT).await;
        if let Err(why) = write(link, probe, PATIENCE).await {
            return why;
        }
    }
}

/// Writes as a limit does: a replica, a full memory or a cluster without a master answers a PING, and takes no write.
async fn write(link: &mut Link, probe: &Script, patience: Duration) -> Result<(), Unavailable> {
    for number in 0..link.probes() {
        let key = format!("gw:probe:{number}");
        timeout(patience, probe.run(link, key.as_bytes(), &[])).await.unwrap_or(Err(Unavailable::TimedOut))?;
    }
    Ok(())
}

/// Leaves nothing behind: the key is gone after a millisecond.
const PROBE: &str = "redis.call('SET', KEYS[1], 1, 'PX', 1) return {1}";
const HEARTBEAT: Duration = Duration::from_secs(1);
/// For what no request waits for.
const PATIENCE: Duration = Duration::from_millis(500);
