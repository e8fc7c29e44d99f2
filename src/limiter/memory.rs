//! Counters in this process's memory: a fixed number of shards, each a small map behind its own lock, held for one look-up.
//!
//! The number of cells is capped. A shard that is full drops its dead cells (those that are worth no more than a new one),
//! at most once for each moment at which one may have died; it never drops a live cell, because that would give an
//! attacker who can make up keys a way to wipe a counter. When none is dead, callers without a cell share one cell for
//! each bucket: memory stays flat and nobody is unlimited. The price is that during such a flood newcomers are limited
//! together.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Tick;
use crate::config::Algorithm;
use crate::limiter::algorithms::{self, Cell};
use crate::limiter::{CellKey, Decision, Rule};

/// Counters of this process.
pub struct Memory {
    first: Mutex<Shard>,
    others: Box<[Mutex<Shard>]>,
    /// Cells in each shard.
    capacity: usize,
}

#[derive(Default)]
struct Shard {
    cells: HashMap<u128, Entry>,
    /// No cell dies before this tick.
    sweep_at: u64,
}

struct Entry {
    cell: Cell,
    /// From this tick on the cell is worth no more than a new one.
    dead_at: u64,
}

impl Memory {
    /// About 100 MB when full.
    pub const DEFAULT_CAPACITY: usize = 1_000_000;

    /// Keeps at most `capacity` cells, and one more for each bucket that ran over.
    pub fn new(capacity: usize) -> Self {
        let shards = (capacity / SMALLEST_SHARD).clamp(1, SHARDS);
        let others = std::iter::repeat_with(Mutex::default).take(shards - 1).collect();
        Self { first: Mutex::default(), others, capacity: (capacity / shards).max(1) }
    }

    pub fn spend(&self, rule: &Rule, key: CellKey, now: Tick) -> Decision {
        let (mut shard, slot) = self.place(rule, key, now);
        shard.spend(rule, slot, now)
    }

    pub fn peek(&self, rule: &Rule, key: CellKey, now: Tick) -> Decision {
        let (shard, slot) = self.place(rule, key, now);
        shard.peek(rule, slot, now)
    }

    /// What went to a shared cell is not given back: whose it was is not known, and less is safe.
    pub fn refund(&self, rule: &Rule, key: CellKey, spent_at: Tick) {
        let slot = slot(rule, key);
        if let Some(entry) = self.shard(slot).cells.get_mut(&slot) {
            entry.cell = algorithms::refund(entry.cell, spent_at, rule);
        }
    }

    /// How many cells there are, for metrics. Takes every lock in turn.
    pub fn cells(&self) -> usize {
        std::iter::once(&self.first).chain(&self.others).map(|shard| lock(shard).cells.len()).sum()
    }

    /// Where a spending goes: to the caller's own cell, or, where none may be made, to the one that its bucket shares.
    fn place(&self, rule: &Rule, key: CellKey, now: Tick) -> (MutexGuard<'_, Shard>, u128) {
        let own = slot(rule, key);
        let mut shard = self.shard(own);
        if shard.cells.contains_key(&own) || shard.has_room(self.capacity, now) {
            return (shard, own);
        }
        // Two locks at once could wait for each other.
        drop(shard);
        let common = slot(rule, CellKey::shared(&rule.bucket));
        (self.shard(common), common)
    }

    fn shard(&self, slot: u128) -> MutexGuard<'_, Shard> {
        let count = self.others.len() + 1;
        let index = usize::try_from(slot % u128::try_from(count).unwrap_or(1)).unwrap_or(0);
        lock(self.others.get(index).unwrap_or(&self.first))
    }
}

impl Shard {
    fn spend(&mut self, rule: &Rule, slot: u128, now: Tick) -> Decision {
        let entry = self.cells.entry(slot).or_insert(Entry { cell: Cell::default(), dead_at: now.0 });
        let (decision, cell) = algorithms::spend(entry.cell, now, rule);
        // Rounded up to the next microsecond. A time in the past (a late reading of the clock) never shortens a life.
        let dead_at = now.plus(decision.reset_after).0.saturating_add(1);
        *entry = Entry { cell, dead_at: entry.dead_at.max(dead_at) };
        // Under the lock.
        panic_point!("limiter");
        self.sweep_at = self.sweep_at.min(entry.dead_at);
        decision
    }

    fn peek(&self, rule: &Rule, slot: u128, now: Tick) -> Decision {
        let cell = self.cells.get(&slot).map(|entry| entry.cell).unwrap_or_default();
        algorithms::spend(cell, now, rule).0
    }

    /// Whether one more cell fits, after dropping the dead ones where that can help.
    fn has_room(&mut self, capacity: usize, now: Tick) -> bool {
        if self.cells.len() >= capacity && self.sweep_at <= now.0 {
            self.cells.retain(|_, entry| entry.dead_at > now.0);
            self.sweep_at = self.cells.values().map(|entry| entry.dead_at).min().unwrap_or(u64::MAX);
        }
        self.cells.len() < capacity
    }
}

/// A cell belongs to its key, the algorithm and the window. Two rules of one bucket that differ in one of these would
/// read each other's numbers wrongly, and a caller could reset the slow rule through the fast one. The key's bits are
/// those of a keyed hash, so mixing a number in keeps different keys apart.
fn slot(rule: &Rule, key: CellKey) -> u128 {
    let algorithm: u128 = match rule.algorithm {
        Algorithm::Gcra => 1,
        Algorithm::SlidingWindow => 2,
        Algorithm::FixedWindow => 3,
    };
    key.bits() ^ (algorithm << 120) ^ rule.quota.window.as_micros()
}

/// A poisoned lock is taken all the same: no code under the lock leaves a cell half written.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 256;
/// Below this many cells a shard's share of the keys is too uneven to cap.
const SMALLEST_SHARD: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Quota;
    use crate::limiter::Limiter;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000;

    fn rule(bucket: &str, algorithm: Algorithm, count: u32, seconds: u64) -> Rule {
        let quota = Quota { count, window: Duration::from_secs(seconds) };
        Rule { bucket: bucket.into(), quota, burst: count, algorithm }
    }

    fn key(rule: &Rule, name: &str) -> CellKey {
        CellKey::new(&rule.bucket, &[name.as_bytes()])
    }

    #[test]
    fn callers_are_counted_apart() {
        let limiter = Limiter::Memory(Memory::new(100));
        let rule = rule("r", Algorithm::FixedWindow, 1, 1);
        let seen: Vec<bool> = ["a", "b", "a", "b"].map(|name| limiter.spend(&rule, key(&rule, name), Tick(0)).allowed).into();
        assert_eq!(seen, [true, true, false, false]);
    }

    #[test]
    fn peek_says_what_spend_says_and_changes_nothing() {
        for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow, Algorithm::FixedWindow] {
            let limiter = Limiter::Memory(Memory::new(100));
            let rule = rule("r", algorithm, 3, 1);
            let a = key(&rule, "a");
            for tick in [0, 0, 0, 0, SECOND / 2, SECOND, SECOND * 2] {
                let peeked = [limiter.peek(&rule, a, Tick(tick)), limiter.peek(&rule, a, Tick(tick))];
                let spent = limiter.spend(&rule, a, Tick(tick));
                assert_eq!(peeked, [spent, spent], "{algorithm:?} at {tick}");
            }
        }
    }

    #[test]
    fn a_refund_lets_one_more_in() {
        for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow, Algorithm::FixedWindow] {
            let limiter = Limiter::Memory(Memory::new(100));
            let rule = rule("r", algorithm, 2, 1);
            let a = key(&rule, "a");
            let allowed = |times: usize| (0..times).filter(|_| limiter.spend(&rule, a, Tick(7)).allowed).count();
            assert_eq!(allowed(5), 2, "{algorithm:?}");
            limiter.refund(&rule, a, Tick(7));
            assert_eq!(allowed(5), 1, "{algorithm:?}");
        }
    }

    #[test]
    fn a_refund_to_an_unknown_caller_makes_no_cell() {
        let memory = Memory::new(100);
        let rule = rule("r", Algorithm::Gcra, 2, 1);
        memory.refund(&rule, key(&rule, "a"), Tick(0));
        assert_eq!(memory.cells(), 0);
    }

    #[test]
    fn a_flood_of_keys_shares_one_cell_and_wipes_no_counter() {
        let memory = Memory::new(100);
        let rule = rule("r", Algorithm::FixedWindow, 5, 60);
        for _ in 0..5 {
            assert!(memory.spend(&rule, key(&rule, "victim"), Tick(0)).allowed);
        }
        let flood = |from: u32| {
            (from..from + 10_000).filter(|n| memory.spend(&rule, key(&rule, &n.to_string()), Tick(1)).allowed).count()
        };
        // 99 cells of their own, and five from the shared one.
        assert_eq!(flood(0), 99 + 5);
        assert_eq!(memory.cells(), 100 + 1);
        assert!(!memory.spend(&rule, key(&rule, "victim"), Tick(2)).allowed);
        let (peeked, spent) = (memory.peek(&rule, key(&rule, "new"), Tick(2)), memory.spend(&rule, key(&rule, "new"), Tick(2)));
        assert_eq!((peeked.allowed, spent.allowed), (false, false));
    }

    #[test]
    fn dead_cells_make_room() {
        let memory = Memory::new(100);
        let rule = rule("r", Algorithm::FixedWindow, 1, 60);
        for n in 0..200 {
            memory.spend(&rule, key(&rule, &n.to_string()), Tick(0));
        }
        assert!(!memory.spend(&rule, key(&rule, "new"), Tick(60 * SECOND - 1)).allowed);
        assert!(memory.spend(&rule, key(&rule, "new"), Tick(60 * SECOND + 1)).allowed);
        assert_eq!(memory.cells(), 1);
    }

    #[test]
    fn rules_of_one_bucket_share_a_counter_only_where_their_numbers_mean_the_same() {
        let memory = Memory::new(100);
        let slow = rule("r", Algorithm::FixedWindow, 2, 60);
        let (a, wider) = (key(&slow, "a"), rule("r", Algorithm::FixedWindow, 3, 60));
        let fast = rule("r", Algorithm::FixedWindow, 2, 1);
        assert!(memory.spend(&slow, a, Tick(0)).allowed);
        assert!(memory.spend(&wider, a, Tick(0)).allowed);
        assert!(!memory.spend(&slow, a, Tick(0)).allowed, "the bucket is shared");
        for second in 1..10 {
            assert!(memory.spend(&fast, a, Tick(second * SECOND)).allowed, "another window counts alone");
            assert!(!memory.spend(&slow, a, Tick(second * SECOND)).allowed, "and resets nothing");
        }
    }

    #[test]
    fn many_threads_together_get_no_more_than_the_limit() {
        let memory = Memory::new(100_000);
        let rule = rule("r", Algorithm::Gcra, 100, 3600);
        let a = key(&rule, "a");
        let spend = || (0..1000).filter(|_| memory.spend(&rule, a, Tick(0)).allowed).count();
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(spend)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 100);
    }
}
