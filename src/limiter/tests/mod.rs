//! Limits that several nodes share, on real servers.

mod accuracy;
mod outage;
mod script;
mod trust;

use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock;
use crate::config::value::Quota;
use crate::config::{self, Algorithm, CountersUrl, OnOutage, RedisUrl, ServerAddress, Servers};
use crate::counter::Counters;
use crate::limiter::{CellKey, Rule, Shared, Spending, Taken, Waited};
use crate::observe::Metrics;
use crate::servers::Redis;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Gcra, Algorithm::SlidingWindow, Algorithm::FixedWindow];
/// 35 years: no test meets the edge of such a window, which is in 2041, or the step of such a rule.
const LONG: Duration = Duration::from_micros(1 << 50);

fn rule(bucket: &str, algorithm: Algorithm, count: u32, window: Duration) -> Rule {
    Rule { bucket: bucket.into(), quota: Quota { count, window }, burst: count, algorithm }
}

fn key(rule: &Rule) -> CellKey {
    CellKey::new(rule, &[b"bob"])
}

/// The connection of one of so many nodes, once it stands.
async fn counters(redis: &Redis, nodes: u64, timeout: Duration) -> Counters {
    let server = ServerAddress { host: redis.address.ip().to_string(), port: redis.address.port() };
    let url = RedisUrl { servers: Servers::Single(server), is_tls: false, username: None, password: None, database: 0 };
    let section = config::Counters { url: CountersUrl::Redis(url), timeout, nodes, ..config::Counters::default() };
    let counters = Counters::start(&section, Handle::current(), &Metrics::default()).unwrap().unwrap();
    until("the connection", || counters.is_up()).await;
    counters
}

/// One gateway's limiter.
struct Node {
    shared: Shared,
    counters: Counters,
    metrics: Metrics,
}

impl Node {
    async fn start(redis: &Redis, nodes: u64) -> Self {
        // More patience than a server that is well ever needs, on a machine that is busy.
        Self::patient(redis, nodes, Duration::from_millis(500)).await
    }

    async fn patient(redis: &Redis, nodes: u64, timeout: Duration) -> Self {
        let (counters, metrics) = (counters(redis, nodes, timeout).await, Metrics::default());
        Self { shared: Shared::new(counters.clone(), &Handle::current(), &metrics), counters, metrics }
    }

    async fn take(&self, rule: &Rule, spending: Spending) -> Taken {
        let taken = self.shared.take(rule, OnOutage::Local, key(rule), spending, &mut Waited::default()).await;
        taken.unwrap().unwrap()
    }

    async fn spend(&self, rule: &Rule) -> Taken {
        self.take(rule, Spending::Spend).await
    }

    /// How many of so many spendings are allowed.
    async fn admitted(&self, rule: &Rule, offered: u32) -> u32 {
        let mut admitted = 0;
        for _ in 0..offered {
            admitted += u32::from(self.spend(rule).await.decision.allowed);
        }
        admitted
    }

    fn refund(&self, rule: &Rule, taken: Taken) {
        self.shared.refund(rule, key(rule), taken.receipt);
    }

    async fn goes_away(&self) {
        until("the breaker", || !self.counters.is_up()).await;
    }

    async fn comes_back(&self) {
        until("the connection", || self.counters.is_up()).await;
    }
}

/// Asks until it is so; at most ten seconds.
async fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let end = clock::now().tick.plus(Duration::from_secs(10));
    while !ask() {
        assert!(clock::now().tick < end, "{what} took more than ten seconds");
        // waits for: another task or process; the whole wait is bounded above
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
