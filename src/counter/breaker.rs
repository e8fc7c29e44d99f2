//! When a connection is given up, and when the next one is tried. Knows no connection and reads no clock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Tick;
use crate::counter::Unavailable;

/// Judges one connection by how its calls end. Once open it stays open: the next connection has a breaker of its own.
#[derive(Default)]
pub struct Breaker {
    /// Calls without an answer since the last one that had one.
    silent: AtomicU32,
    cause: OnceLock<Unavailable>,
    opened: Notify,
}

impl Breaker {
    pub fn is_open(&self) -> bool {
        self.cause.get().is_some()
    }

    pub fn succeeded(&self) {
        // Most of the time there is nothing to forget, and no cache line to take from the other workers.
        if self.silent.load(Ordering::Relaxed) != 0 {
            self.silent.store(0, Ordering::Relaxed);
        }
    }

    /// A call that was sent has failed. One that is refused for what it is about says nothing about the others.
    pub fn failed(&self, why: &Unavailable) {
        match why {
            Unavailable::TimedOut => {
                if self.silent.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= SILENT_CALLS {
                    self.open(why.clone());
                }
            }
            Unavailable::Lost { .. } => self.open(why.clone()),
            Unavailable::Refused { .. } if why.is_of_all_calls() => self.open(why.clone()),
            Unavailable::Refused { .. } | Unavailable::Malformed | Unavailable::Away => {}
        }
    }

    /// Gives the connection up. The first cause stands.
    pub fn open(&self, cause: Unavailable) {
        if self.cause.set(cause).is_ok() {
            self.opened.notify_one();
        }
    }

    /// Waits until it is open, and says why. For one waiter.
    pub async fn opened(&self) -> &Unavailable {
        loop {
            if let Some(cause) = self.cause.get() {
                return cause;
            }
            self.opened.notified().await;
        }
    }
}

/// How long to wait before each try to connect: not at all for the first, then twice as long each time, to a bound. A
/// connection that did not hold counts as one more try that failed.
#[derive(Default)]
pub struct Backoff {
    wait: Duration,
    connected_at: Option<Tick>,
}

impl Backoff {
    pub fn connected(&mut self, now: Tick) {
        self.connected_at = Some(now);
    }

    /// After a try that failed, or a connection that was given up: what to wait before the next try.
    pub fn next(&mut self, now: Tick) -> Duration {
        let held = self.connected_at.take().is_some_and(|at| now >= at.plus(HELD));
        let wait = if held { Duration::ZERO } else { self.wait };
        self.wait = (wait * 2).clamp(SHORTEST, LONGEST);
        wait
    }
}

/// At 20 ms each, one after the other, they take 100 ms.
const SILENT_CALLS: u32 = 5;
const SHORTEST: Duration = Duration::from_millis(20);
/// A server that is back is used again within a second, the time of a try included.
const LONGEST: Duration = Duration::from_millis(300);
/// What a connection must last for its end to be news.
const HELD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Unavailable {
        Unavailable::Refused { code: code.to_owned() }
    }

    #[test]
    fn calls_without_an_answer_open_it_when_none_is_answered_between() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            (1..SILENT_CALLS).for_each(|_| breaker.failed(&Unavailable::TimedOut));
            breaker.succeeded();
        }
        (1..SILENT_CALLS).for_each(|_| breaker.failed(&Unavailable::TimedOut));
        assert!(!breaker.is_open());
        breaker.failed(&Unavailable::TimedOut);
        assert!(breaker.is_open());
    }

    #[test]
    fn what_is_said_of_all_calls_opens_it_at_once_and_what_is_said_of_one_never() {
        let lost = Unavailable::Lost { detail: "reset".to_owned() };
        for why in [refused("READONLY"), refused("OOM"), refused("CLUSTERDOWN"), lost] {
            let breaker = Breaker::default();
            breaker.failed(&why);
            assert!(breaker.is_open(), "{why}");
        }
        let breaker = Breaker::default();
        for why in [refused("WRONGTYPE"), refused("ERR"), Unavailable::Malformed] {
            (0..100).for_each(|_| breaker.failed(&why));
        }
        assert!(!breaker.is_open());
    }

    #[tokio::test]
    async fn the_first_cause_is_told() {
        let breaker = Breaker::default();
        breaker.open(refused("OOM"));
        breaker.open(Unavailable::TimedOut);
        breaker.succeeded();
        assert_eq!(*breaker.opened().await, refused("OOM"));
        assert!(breaker.is_open());
    }

    #[test]
    fn tries_come_at_once_then_ever_later_to_a_bound() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.next(Tick(0)).as_millis()).collect();
        assert_eq!(waits, [0, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn only_a_connection_that_held_makes_the_next_try_come_at_once() {
        let mut backoff = Backoff::default();
        assert_eq!([0; 3].map(|at| backoff.next(Tick(at)).as_millis()), [0, 20, 40]);
        backoff.connected(Tick(0));
        assert_eq!(backoff.next(Tick(999_999)).as_millis(), 80);
        backoff.connected(Tick(2_000_000));
        assert_eq!(backoff.next(Tick(3_000_000)).as_millis(), 0);
        assert_eq!(backoff.next(Tick(3_000_000)).as_millis(), 20);
    }
}
