//! The shared fast store: a Redis (7 or newer) or Valkey that several gateways count in together, and that carries the word
//! that one of them has changed the store. It may be away at any time; nothing here waits for it longer than told, and
//! what happens then is for others to decide.
//!
//! A [`Supervisor`] on the control plane's runtime keeps one connection, which the workers share. A connection is used
//! only after it took a write, and given up by its [`Breaker`]; until the next one stands, calls are answered at once.

mod breaker;
mod link;
mod push;
mod script;
mod supervisor;
mod unavailable;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock;
use crate::config::{self, CountersUrl};
use crate::counter::breaker::Breaker;
use crate::counter::link::{Dialer, Link};
use crate::counter::supervisor::Supervisor;
use crate::observe::{Histogram, Metrics, Sharded};
use crate::random;

pub use link::OpenError;
pub use script::Script;
pub use unavailable::Unavailable;

/// The shared counters of one process. Clones share them; with the last one the connection ends.
#[derive(Clone)]
pub struct Counters {
    inner: Arc<Inner>,
}

/// What a script has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub values: Vec<i64>,
    /// Which connection it came over, from 1: between two numbers the counters were away, and may have lost what they held.
    pub generation: u64,
}

struct Inner {
    control: Handle,
    shared: Arc<Shared>,
    nodes: u32,
    /// Tells the tasks to end, also by going away.
    closing: watch::Sender<bool>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

/// What callers and tasks share.
struct Shared {
    timeout: Duration,
    /// The connection in use; none while the counters are away.
    live: ArcSwapOption<Live>,
    /// This process in the messages of all: what it has told itself is no news to it.
    name: String,
    /// Another process has changed the store, or may have.
    news: Notify,
    waits: Arc<Histogram>,
    calls: Sharded<OUTCOMES>,
}

/// A connection, from the first write that it took until it is given up.
struct Live {
    link: Link,
    generation: u64,
    breaker: Arc<Breaker>,
    /// That a call was refused for what it asked has been said.
    complained: AtomicBool,
}

impl Counters {
    /// Starts to connect to the counters that the config names; `None` where every process counts for itself. Never waits
    /// for them: counters that are away at the start are away as at any other time.
    ///
    /// # Errors
    /// When the config names a file that cannot be used.
    pub fn start(config: &config::Counters, control: Handle, metrics: &Metrics) -> Result<Option<Self>, OpenError> {
        let CountersUrl::Redis(url) = &config.url else { return Ok(None) };
        let shared = Arc::new(Shared {
            timeout: config.timeout,
            live: ArcSwapOption::empty(),
            name: random::word(16),
            news: Notify::new(),
            waits: Arc::default(),
            calls: Sharded::default(),
        });
        let ca_file = config.ca_file.as_ref().map(|file| file.value.as_path());
        let supervisor = Supervisor { dialer: Dialer::new(url, ca_file)?, shared: shared.clone() };
        register(&shared, metrics);
        let (closing, told) = watch::channel(false);
        let running = Mutex::new(vec![control.spawn(supervisor.run(told))]);
        let nodes = u32::try_from(config.nodes).unwrap_or(u32::MAX);
        Ok(Some(Self { inner: Arc::new(Inner { control, shared, nodes, closing, running }) }))
    }

    /// Runs a script on a key. Waits at most as long as `patience`, and not at all while the counters are away.
    ///
    /// # Errors
    /// When the script was not run, or nobody knows whether it was.
    pub async fn run(&self, script: &Script, key: &[u8], arguments: &[i64], patience: Duration) -> Result<Answer, Unavailable> {
        let shared = &self.inner.shared;
        let Some(live) = shared.live.load_full().filter(|live| !live.breaker.is_open()) else {
            shared.calls.add(AWAY, 1);
            return Err(Unavailable::Away);
        };
        let begun = clock::now().tick;
        let outcome = live.run(script, key, arguments, patience).await;
        shared.waits.observe(clock::now().tick.since(begun));
        match outcome {
            Ok(values) => {
                live.breaker.succeeded();
                shared.calls.add(ANSWERED, 1);
                Ok(Answer { values, generation: live.generation })
            }
            Err(why) => {
                shared.calls.add(row(&why), 1);
                // A call that got only the rest of a request's time says little about the counters.
                if why != Unavailable::TimedOut || patience >= shared.timeout / 2 {
                    live.breaker.failed(&why);
                }
                if !live.breaker.is_open() && why != Unavailable::TimedOut && !live.complained.swap(true, Ordering::Relaxed) {
                    tracing::warn!("a call to the shared counters failed by itself: {why}; said once for each connection");
                }
                Err(why)
            }
        }
    }

    /// What one request may wait for the counters, whatever it asks them.
    pub fn timeout(&self) -> Duration {
        self.inner.shared.timeout
    }

    /// How many gateways share the counters, this one among them; from 1.
    pub fn nodes(&self) -> u32 {
        self.inner.nodes
    }

    /// The number of the connection that the next call goes over, from 1; 0 where there is none.
    pub fn generation(&self) -> u64 {
        self.inner.shared.live.load().as_ref().map_or(0, |live| live.generation)
    }

    /// Ends the connection. Later calls find the counters away.
    pub async fn close(&self) {
        self.inner.closing.send_replace(true);
        let running = std::mem::take(&mut *self.inner.running.lock().unwrap_or_else(PoisonError::into_inner));
        for task in running {
            // A task that panicked has nothing left to finish.
            let _ = task.await;
        }
    }
}

impl Live {
    async fn run(&self, script: &Script, key: &[u8], arguments: &[i64], patience: Duration) -> Result<Vec<i64>, Unavailable> {
        // What cannot be waited for is not sent: it would count, and nobody would know.
        let time = patience.checked_sub(TIMER).filter(|time| !time.is_zero()).ok_or(Unavailable::TimedOut)?;
        let mut link = self.link.clone();
        timeout(time, script.run(&mut link, key, arguments)).await.unwrap_or(Err(Unavailable::TimedOut))
    }
}

#[cfg(test)]
impl Counters {
    /// Whether the next call will be sent.
    pub fn is_up(&self) -> bool {
        self.inner.shared.is_up()
    }
}

impl Shared {
    fn is_up(&self) -> bool {
        self.live.load().as_ref().is_some_and(|live| !live.breaker.is_open())
    }
}

fn register(shared: &Arc<Shared>, metrics: &Metrics) {
    let shown = shared.clone();
    metrics.gauge("gateward_counters_up", "Whether the shared counters are in use (1) or away (0)", move || {
        f64::from(u8::from(shown.is_up()))
    });
    let help = "What requests waited for the shared counters, each call by itself";
    metrics.histogram("gateward_counters_wait_seconds", help, shared.waits.clone());
    let shown = shared.clone();
    metrics.family("gateward_counters_calls", "Calls to the shared counters by what became of them", "outcome", move || {
        OUTCOME_NAMES.into_iter().zip(shown.calls.sums()).collect()
    });
}

fn row(why: &Unavailable) -> usize {
    match why {
        Unavailable::Away => AWAY,
        Unavailable::TimedOut => 2,
        Unavailable::Lost { .. } => 3,
        Unavailable::Refused { .. } | Unavailable::Malformed => 4,
    }
}

const ANSWERED: usize = 0;
const AWAY: usize = 1;
const OUTCOMES: usize = OUTCOME_NAMES.len();
const OUTCOME_NAMES: [&str; 5] = ["answered", "away", "timed_out", "lost", "refused"];
/// Timers go by milliseconds: a deadline is rounded up to one, and what waits for it is woken up to another one later.
const TIMER: Duration = Duration::from_millis(2);
