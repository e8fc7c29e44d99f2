//! What all workers know together of the servers of one `[[upstream]]`: how much each is doing, and which of them fail.
//! Atomics alone, so that no request waits for another; it outlives the connections of a worker and a reload that leaves
//! the section as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::{Tick, tick};
use crate::config::{self, Balance};
use crate::outbound::ServerTls;
use crate::rejection::Failure;

/// The servers of one `[[upstream]]`, as all workers see them.
pub struct Fleet {
    pub config: config::Upstream,
    /// For those of its servers whose URL says `https`.
    pub tls: Option<ServerTls>,
    servers: Box<[Standing]>,
    /// Requests on all servers; counted only where they are limited.
    in_flight: AtomicU64,
    retrying: AtomicU64,
}

/// Two lines of a cache, so that workers which use different servers do not wait for each other's counts.
#[repr(align(128))]
#[derive(Default)]
struct Standing {
    in_flight: AtomicU64,
    /// Since the last answer that was none of [`Fault::Answer`].
    failures: AtomicU32,
    /// How often it was put out since it last answered.
    outs: AtomicU32,
    /// In microseconds of [`Tick`]; zero = it takes requests.
    out_until: AtomicU64,
    ejections: AtomicU64,
}

/// What speaks against a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It takes no connection: the next request would wait in vain as well.
    Connect,
    /// No answer, half of one, or a 502, 503 or 504: it may have been this one request.
    Answer,
}

/// Numbers of one server, for the metrics.
pub struct Reading {
    pub server: String,
    pub in_flight: u64,
    pub is_up: bool,
    pub ejections: u64,
}

/// A place among the requests of the upstream, until it is dropped.
pub struct Admitted(Arc<Fleet>);

/// A request that is on a server, until it is dropped.
pub struct Held {
    fleet: Arc<Fleet>,
    at: usize,
}

/// A request that is sent again, until it is dropped.
pub struct Again(Arc<Fleet>);

impl Fleet {
    pub fn new(config: config::Upstream, tls: Option<ServerTls>) -> Arc<Self> {
        let servers = config.servers.iter().map(|_| Standing::default()).collect();
        Arc::new(Self { config, tls, servers, in_flight: AtomicU64::default(), retrying: AtomicU64::default() })
    }

    /// Lets one more request in; `None` where they are not counted.
    ///
    /// # Errors
    /// [`Failure::UpstreamFull`] when as many as the config allows are on their way.
    pub fn admit(self: &Arc<Self>) -> Result<Option<Admitted>, Failure> {
        let Some(most) = self.config.limits.requests else { return Ok(None) };
        if self.in_flight.fetch_add(1, Relaxed) >= most {
            self.in_flight.fetch_sub(1, Relaxed);
            return Err(Failure::UpstreamFull { upstream: self.config.name.value.clone(), requests: most });
        }
        Ok(Some(Admitted(self.clone())))
    }

    /// A server for one more request, by two numbers that differ from request to request: `turn` by one, `chance` in
    /// no order. Where all are out, all are used: one that may fail is better than a certain refusal.
    pub fn choose(&self, turn: u64, chance: u64) -> usize {
        if self.servers.len() < 2 {
            return 0;
        }
        let mut up = self.servers.iter().filter(|server| !server.is_out()).count();
        let all_out = up == 0;
        if all_out {
            up = self.servers.len();
        }
        let nth = |n: u64| {
            let usable = self.servers.iter().enumerate().filter(|(_, server)| all_out || !server.is_out());
            usable.map(|(at, _)| at).nth(usize::try_from(n.checked_rem(up as u64).unwrap_or(0)).unwrap_or(0)).unwrap_or(0)
        };
        match self.config.balance {
            Balance::RoundRobin => nth(turn),
            Balance::LeastRequests => {
                // Two different ones, and the one that does less: with all equal, each gets its turn.
                let distance = chance.checked_rem((up as u64).saturating_sub(1)).unwrap_or(0) + 1;
                let (one, other) = (nth(turn), nth(turn.wrapping_add(distance)));
                if self.load(other) < self.load(one) { other } else { one }
            }
        }
    }

    fn load(&self, at: usize) -> u64 {
        self.servers.get(at).map_or(u64::MAX, |server| server.in_flight.load(Relaxed))
    }

    /// Counts a request on a server.
    pub fn hold(self: &Arc<Self>, at: usize) -> Held {
        if let Some(server) = self.servers.get(at) {
            server.in_flight.fetch_add(1, Relaxed);
        }
        Held { fleet: self.clone(), at }
    }

    /// Whether a request may be sent once more: a share of what is in flight, so that retries do not finish an upstream
    /// that is short of breath.
    pub fn again(self: &Arc<Self>) -> Option<Again> {
        let in_flight: u64 = self.servers.iter().map(|server| server.in_flight.load(Relaxed)).sum();
        let most = LEAST_RETRIES.max(in_flight / RETRY_SHARE);
        let again = Again(self.clone());
        (self.retrying.fetch_add(1, Relaxed) < most).then_some(again)
    }

    pub fn is_out(&self, at: usize) -> bool {
        self.servers.get(at).is_some_and(Standing::is_out)
    }

    /// A server has answered.
    pub fn succeeded(&self, at: usize, label: &str) {
        let Some(server) = self.servers.get(at) else { return };
        // Read before written: what does not change stays in every core's cache.
        if server.failures.load(Relaxed) != 0 {
            server.failures.store(0, Relaxed);
        }
        if server.outs.load(Relaxed) != 0 && server.outs.swap(0, Relaxed) != 0 {
            server.out_until.store(0, Relaxed);
            tracing::info!("upstream `{}`: {label} answers again", self.config.name.value);
        }
    }

    /// A server has failed. What is over and over so takes no requests for a while, a longer one each time.
    pub fn failed(&self, at: usize, label: &str, fault: Fault) {
        let Some(server) = self.servers.get(at) else { return };
        let failures = server.failures.fetch_add(1, Relaxed).saturating_add(1);
        let out = self.servers.iter().filter(|server| server.is_out()).count();
        let is_due = match fault {
            Fault::Connect => true,
            // Faults of answers may be the requests' own: they never put out more than half of the servers.
            Fault::Answer => failures >= FAILURES && (out + 1) * 2 <= self.servers.len(),
        };
        if !is_due || self.servers.len() < 2 || server.is_out() {
            return;
        }
        let outs = server.outs.fetch_add(1, Relaxed).saturating_add(1);
        let time = REST.saturating_mul(outs).min(LONGEST_REST);
        server.out_until.store(tick().0.saturating_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)), Relaxed);
        server.failures.store(0, Relaxed);
        server.ejections.fetch_add(1, Relaxed);
        if outs == 1 {
            tracing::warn!("upstream `{}`: {label} fails and is passed over while others can be used", self.config.name.value);
        }
    }

    pub fn readings(&self) -> Vec<Reading> {
        let named = self.config.servers.iter().zip(&self.servers);
        named
            .map(|(url, server)| Reading {
                server: url.to_string(),
                in_flight: server.in_flight.load(Relaxed),
                is_up: !server.is_out(),
                ejections: server.ejections.load(Relaxed),
            })
            .collect()
    }
}

impl Standing {
    fn is_out(&self) -> bool {
        match self.out_until.load(Relaxed) {
            0 => false,
            until => tick() < Tick(until),
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(server) = self.fleet.servers.get(self.at) {
            server.in_flight.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.0.retrying.fetch_sub(1, Relaxed);
    }
}

/// Faults of answers in a row, after which a server is out.
const FAILURES: u32 = 5;
/// For how long, the first time; then twice as long, three times as long.
const REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Retries at once: a fifth of the requests in flight, and in any case these.
const RETRY_SHARE: u64 = 5;
const LEAST_RETRIES: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::report::{Located, Place};
    use crate::config::value::UpstreamUrl;
    use crate::config::{UpstreamLimits, UpstreamRetries, UpstreamTimeouts, UpstreamTls};

    fn fleet(servers: usize, balance: Balance) -> Arc<Fleet> {
        let config = config::Upstream {
            name: Located { value: "test".to_owned(), place: Place::default() },
            servers: vec![UpstreamUrl::parse("http://127.0.0.1:9").unwrap(); servers],
            balance,
            timeouts: UpstreamTimeouts::default(),
            limits: UpstreamLimits { requests: Some(2), ..UpstreamLimits::default() },
            retries: UpstreamRetries::default(),
            tls: UpstreamTls::default(),
            place: Place::default(),
        };
        Fleet::new(config, None)
    }

    #[test]
    fn the_server_that_does_less_is_chosen_of_any_two() {
        let fleet = fleet(3, Balance::LeastRequests);
        let busy = fleet.hold(1);
        let chosen: Vec<usize> = (0..12).map(|n| fleet.choose(n, n / 3)).collect();
        assert!(!chosen.contains(&1) && chosen.contains(&0) && chosen.contains(&2), "{chosen:?}");
        drop(busy);
        assert_eq!((0..6).map(|n| fleet.choose(n, 0)).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2], "equals take turns");
    }

    #[test]
    fn a_server_that_is_out_is_passed_over_until_all_are() {
        let fleet = fleet(3, Balance::RoundRobin);
        fleet.failed(0, "a", Fault::Connect);
        assert_eq!((0..4).map(|n| fleet.choose(n, 0)).collect::<Vec<_>>(), [1, 2, 1, 2]);
        fleet.failed(1, "b", Fault::Connect);
        fleet.failed(2, "c", Fault::Connect);
        assert_eq!((0..4).map(|n| fleet.choose(n, 0)).collect::<Vec<_>>(), [0, 1, 2, 0]);
        fleet.succeeded(1, "b");
        assert_eq!((0..3).map(|n| fleet.choose(n, 0)).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn faults_of_answers_put_out_half_at_most_and_only_in_a_row() {
        let fleet = fleet(2, Balance::RoundRobin);
        let fail = |at: usize, times: u32| (0..times).for_each(|_| fleet.failed(at, "x", Fault::Answer));
        fail(0, FAILURES - 1);
        fleet.succeeded(0, "x");
        fail(0, FAILURES - 1);
        assert!(!fleet.is_out(0));
        fail(0, 1);
        fail(1, 3 * FAILURES);
        assert_eq!((fleet.is_out(0), fleet.is_out(1)), (true, false));
        assert_eq!(fleet.readings().iter().map(|one| one.ejections).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn requests_and_retries_have_a_cap_and_places_come_back() {
        let fleet = fleet(2, Balance::RoundRobin);
        let admitted = [fleet.admit().unwrap(), fleet.admit().unwrap()];
        assert!(matches!(fleet.admit(), Err(Failure::UpstreamFull { requests: 2, .. })));
        drop(admitted);
        assert_eq!(fleet.in_flight.load(Relaxed), 0);
        let again: Vec<Option<Again>> = (0..5).map(|_| fleet.again()).collect();
        assert_eq!(again.iter().flatten().count(), 3);
        drop(again);
        assert_eq!(fleet.retrying.load(Relaxed), 0);
    }
}
