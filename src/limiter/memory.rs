//! Counters in this process's memory: a fixed number of shards, each a small map behind its own lock, held for one look-up.
//!
//! The number of cells is capped. A shard that is full drops its dead cells (those that are worth no more than a new one),
//! at most once for each moment at which one may have died; it never drops a live cell, because that would give an
//! attacker who can make up keys a way to wipe a counter. When none is dead, callers without a cell share one cell for
//! each bucket: memory stays flat and nobody is unlimited. The price is that during such a flood newcomers are limited
//! together.
//!
//! A node that shares its counters keeps here what it has seen of them, and counts here alone while they are away.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Tick;
use crate::limiter::algorithms::{self, Cell};
use crate::limiter::key::Naming;
use crate::limiter::{CellKey, Decision, Receipt, Rule, Source, Spending, Taken};
use crate::random;

/// Counters of this process.
pub struct Memory {
    first: Mutex<Shard>,
    others: Box<[Mutex<Shard>]>,
    /// Cells in each shard.
    capacity: usize,
    /// Odd and secret: nobody outside can tell which keys share a shard, and so fill the one of a victim.
    spread: u128,
    naming: Naming,
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
    origin: Origin,
}

/// Which shared counter a cell was copied from; [`Origin::ALONE`] once it was spent from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin(pub u64);

impl Origin {
    pub const ALONE: Self = Self(0);
}

/// What is remembered of a shared counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memento {
    pub cell: Cell,
    pub origin: Origin,
}

impl Memory {
    /// About 100 MB when full.
    pub const DEFAULT_CAPACITY: usize = 1_000_000;

    /// Keeps at most `capacity` cells, and one more for each bucket that ran over.
    pub fn new(capacity: usize) -> Self {
        let shards = (capacity / SMALLEST_SHARD).clamp(1, SHARDS);
        let others = std::iter::repeat_with(Mutex::default).take(shards - 1).collect();
        let spread = u128::from_be_bytes(random::bytes()) | 1;
        Self { first: Mutex::default(), others, capacity: (capacity / shards).max(1), spread, naming: Naming::default() }
    }

    /// The cell of these parts, where the counter is this memory's own and no copy of a shared one.
    pub fn key(&self, rule: &Rule, parts: &[&[u8]]) -> CellKey {
        self.naming.key(rule, parts)
    }

    /// Spends one, or says what that would come to.
    pub fn take(&self, rule: &Rule, key: CellKey, now: Tick, spending: Spending) -> Taken {
        let decision = match spending {
            Spending::Spend => self.spend(rule, key, now, 1),
            Spending::Peek => self.peek(rule, key, now, 1),
        };
        Taken { decision, receipt: Receipt { at: now, source: Source::Memory } }
    }

    /// Spends one; `nodes` as for [`algorithms::spend`].
    pub fn spend(&self, rule: &Rule, key: CellKey, now: Tick, nodes: u32) -> Decision {
        let (mut shard, slot) = self.place(rule, key, now);
        shard.spend(rule, slot, now, nodes)
    }

    pub fn peek(&self, rule: &Rule, key: CellKey, now: Tick, nodes: u32) -> Decision {
        let (shard, slot) = self.place(rule, key, now);
        shard.peek(rule, slot, now, nodes)
    }

    /// What went to a cell that a bucket shares is not given back: whose it was is not known, and less is safe.
    pub fn refund(&self, rule: &Rule, key: CellKey, spent_at: Tick, nodes: u32) {
        let slot = key.bits();
        if let Some(entry) = self.shard(slot).cells.get_mut(&slot) {
            entry.cell = algorithms::refund(entry.cell, spent_at, rule, nodes);
        }
    }

    /// What is known of a shared counter.
    pub fn recall(&self, key: CellKey) -> Memento {
        let slot = key.bits();
        let shard = self.shard(slot);
        shard.cells.get(&slot).map(|entry| Memento { cell: entry.cell, origin: entry.origin }).unwrap_or_default()
    }

    /// Remembers how a shared counter stands now. `told` is what was recalled before it was asked: what was spent here alone
    /// since then is not in its answer and stays, to be told next time. Where there is no room, nothing is remembered.
    pub fn learn(&self, key: CellKey, told: Memento, found: Memento, now: Tick, dead_at: Tick) {
        let slot = key.bits();
        let mut shard = self.shard(slot);
        let stays = match shard.cells.get(&slot) {
            Some(entry) => entry.origin == Origin::ALONE && entry.cell != told.cell,
            None => !shard.has_room(self.capacity, now),
        };
        if stays {
            return;
        }
        shard.cells.insert(slot, Entry { cell: found.cell, dead_at: dead_at.0, origin: found.origin });
        shard.sweep_at = shard.sweep_at.min(dead_at.0);
    }

    /// Drops every cell: they live by a clock that was wrong.
    pub fn forget(&self) {
        for shard in std::iter::once(&self.first).chain(&self.others) {
            *lock(shard) = Shard::default();
        }
    }

    /// How many cells there are, for metrics. Takes every lock in turn.
    pub fn cells(&self) -> usize {
        std::iter::once(&self.first).chain(&self.others).map(|shard| lock(shard).cells.len()).sum()
    }

    /// Where a spending goes: to the caller's own cell, or, where none may be made, to the one that its bucket shares.
    fn place(&self, rule: &Rule, key: CellKey, now: Tick) -> (MutexGuard<'_, Shard>, u128) {
        let own = key.bits();
        let mut shard = self.shard(own);
        if shard.cells.contains_key(&own) || shard.has_room(self.capacity, now) {
            return (shard, own);
        }
        // Two locks at once could wait for each other.
        drop(shard);
        let common = CellKey::shared(rule).bits();
        (self.shard(common), common)
    }

    fn shard(&self, slot: u128) -> MutexGuard<'_, Shard> {
        let count = self.others.len() + 1;
        // The upper bits of the product depend on all bits of the slot.
        let index = usize::try_from(slot.wrapping_mul(self.spread) >> 96).unwrap_or(0) % count;
        lock(self.others.get(index).unwrap_or(&self.first))
    }
}

impl Shard {
    fn spend(&mut self, rule: &Rule, slot: u128, now: Tick, nodes: u32) -> Decision {
        let entry = self.cells.entry(slot).or_insert(Entry::new(now));
        let (decision, cell) = algorithms::spend(entry.cell, now, rule, nodes);
        // Rounded up to the next microsecond. A time in the past (a late reading of the clock) never shortens a life.
        let dead_at = now.plus(decision.reset_after).0.saturating_add(1);
        *entry = Entry { cell, dead_at: entry.dead_at.max(dead_at), origin: Origin::ALONE };
        // Under the lock.
        panic_point!("limiter");
        self.sweep_at = self.sweep_at.min(entry.dead_at);
        decision
    }

    fn peek(&self, rule: &Rule, slot: u128, now: Tick, nodes: u32) -> Decision {
        let cell = self.cells.get(&slot).map(|entry| entry.cell).unwrap_or_default();
        algorithms::spend(cell, now, rule, nodes).0
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

impl Entry {
    fn new(now: Tick) -> Self {
        Self { cell: Cell::default(), dead_at: now.0, origin: Origin::ALONE }
    }
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
    use crate::config::Algorithm;
    use crate::config::value::Quota;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000;

    fn rule(bucket: &str, algorithm: Algorithm, count: u32, seconds: u64) -> Rule {
        let quota = Quota { count, window: Duration::from_secs(seconds) };
        Rule { bucket: bucket.into(), quota, burst: count, algorithm }
    }

    fn key(rule: &Rule, name: &str) -> CellKey {
        CellKey::new(rule, &[name.as_bytes()])
    }

    #[test]
    fn callers_are_counted_apart() {
        let memory = Memory::new(100);
        let rule = rule("r", Algorithm::FixedWindow, 1, 1);
        let seen: Vec<bool> = ["a", "b", "a", "b"].map(|name| memory.spend(&rule, key(&rule, name), Tick(0), 1).allowed).into();
        assert_eq!(seen, [true, true, false, false]);
    }

    #[test]
    fn peek_says_what_spend_says_and_changes_nothing() {
        for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow, Algorithm::FixedWindow] {
            let memory = Memory::new(100);
            let rule = rule("r", algorithm, 3, 1);
            let a = key(&rule, "a");
            for tick in [0, 0, 0, 0, SECOND / 2, SECOND, SECOND * 2] {
                let peeked = [memory.peek(&rule, a, Tick(tick), 1), memory.peek(&rule, a, Tick(tick), 1)];
                let spent = memory.spend(&rule, a, Tick(tick), 1);
                assert_eq!(peeked, [spent, spent], "{algorithm:?} at {tick}");
            }
        }
    }

    #[test]
    fn a_refund_lets_one_more_in() {
        for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow, Algorithm::FixedWindow] {
            let memory = Memory::new(100);
            let rule = rule("r", algorithm, 2, 1);
            let a = key(&rule, "a");
            let allowed = |times: usize| (0..times).filter(|_| memory.spend(&rule, a, Tick(7), 1).allowed).count();
            assert_eq!(allowed(5), 2, "{algorithm:?}");
            memory.refund(&rule, a, Tick(7), 1);
            assert_eq!(allowed(5), 1, "{algorithm:?}");
        }
    }

    #[test]
    fn a_refund_to_an_unknown_caller_makes_no_cell() {
        let memory = Memory::new(100);
        let rule = rule("r", Algorithm::Gcra, 2, 1);
        memory.refund(&rule, key(&rule, "a"), Tick(0), 1);
        assert_eq!(memory.cells(), 0);
    }

    #[test]
    fn a_flood_of_keys_shares_one_cell_and_wipes_no_counter() {
        let memory = Memory::new(100);
        let rule = rule("r", Algorithm::FixedWindow, 5, 60);
        for _ in 0..5 {
            assert!(memory.spend(&rule, key(&rule, "victim"), Tick(0), 1).allowed);
        }
        let flood = |from: u32| {
            (from..from + 10_000).filter(|n| memory.spend(&rule, key(&rule, &n.to_string()), Tick(1), 1).allowed).count()
        };
        // 99 cells of their own, and five from the shared one.
        assert_eq!(flood(0), 99 + 5);
        assert_eq!(memory.cells(), 100 + 1);
        assert!(!memory.spend(&rule, key(&rule, "victim"), Tick(2), 1).allowed);
        let (peeked, spent) =
            (memory.peek(&rule, key(&rule, "new"), Tick(2), 1), memory.spend(&rule, key(&rule, "new"), Tick(2), 1));
        assert_eq!((peeked.allowed, spent.allowed), (false, false));
    }

    #[test]
    fn dead_cells_make_room() {
        let memory = Memory::new(100);
        let rule = rule("r", Algorithm::FixedWindow, 1, 60);
        for n in 0..200 {
            memory.spend(&rule, key(&rule, &n.to_string()), Tick(0), 1);
        }
        assert!(!memory.spend(&rule, key(&rule, "new"), Tick(60 * SECOND - 1), 1).allowed);
        assert!(memory.spend(&rule, key(&rule, "new"), Tick(60 * SECOND + 1), 1).allowed);
        assert_eq!(memory.cells(), 1);
    }

    #[test]
    fn rules_of_one_bucket_share_a_counter_only_where_their_numbers_mean_the_same() {
        let memory = Memory::new(100);
        let slow = rule("r", Algorithm::FixedWindow, 2, 60);
        let wider = rule("r", Algorithm::FixedWindow, 3, 60);
        let fast = rule("r", Algorithm::FixedWindow, 2, 1);
        let allowed = |rule: &Rule, now: Tick| memory.spend(rule, key(rule, "a"), now, 1).allowed;
        assert!(allowed(&slow, Tick(0)));
        assert!(allowed(&wider, Tick(0)));
        assert!(!allowed(&slow, Tick(0)), "the bucket is shared");
        for second in 1..10 {
            assert!(allowed(&fast, Tick(second * SECOND)), "another window counts alone");
            assert!(!allowed(&slow, Tick(second * SECOND)), "and resets nothing");
        }
    }

    /// A copy of a shared counter is exchanged for a newer one, unless something was spent from it meanwhile.
    #[test]
    fn what_was_spent_alone_is_told_before_it_is_exchanged() {
        let memory = Memory::new(100);
        let rule = rule("r", Algorithm::FixedWindow, 10, 60);
        let a = key(&rule, "a");
        let copy = |used: u64| Memento { cell: Cell::of_parts([0, used, 0], rule.algorithm), origin: Origin(7) };
        let left = || memory.peek(&rule, a, Tick(1), 1).remaining;
        assert_eq!(memory.recall(a), Memento::default());
        memory.learn(a, Memento::default(), copy(3), Tick(1), Tick(60 * SECOND));
        assert_eq!((memory.recall(a), left()), (copy(3), 6));
        memory.learn(a, copy(3), copy(1), Tick(1), Tick(60 * SECOND));
        assert_eq!((memory.recall(a), left()), (copy(1), 8), "another node gave two back");
        let told = memory.recall(a);
        memory.spend(&rule, a, Tick(1), 4);
        memory.learn(a, told, copy(2), Tick(1), Tick(60 * SECOND));
        assert_eq!((memory.recall(a), left()), (Memento { origin: Origin::ALONE, ..copy(5) }, 4), "nobody has heard of the four");
        memory.learn(a, memory.recall(a), copy(6), Tick(1), Tick(60 * SECOND));
        assert_eq!((memory.recall(a), left()), (copy(6), 3));
        memory.forget();
        assert_eq!((memory.recall(a), memory.cells()), (Memento::default(), 0));
    }

    /// A flood of callers makes no room for itself by being counted elsewhere.
    #[test]
    fn what_is_remembered_of_shared_counters_is_capped() {
        let memory = Memory::new(100);
        let rule = rule("r", Algorithm::FixedWindow, 5, 60);
        let found = Memento { cell: Cell::of_parts([0, 1, 0], rule.algorithm), origin: Origin(7) };
        for n in 0..10_000 {
            memory.learn(key(&rule, &n.to_string()), Memento::default(), found, Tick(1), Tick(60 * SECOND));
        }
        assert_eq!((memory.cells(), memory.recall(key(&rule, "0")).cell), (100, found.cell));
    }

    #[test]
    fn many_threads_together_get_no_more_than_the_limit() {
        let memory = Memory::new(100_000);
        let rule = rule("r", Algorithm::Gcra, 100, 3600);
        let a = key(&rule, "a");
        let spend = || (0..1000).filter(|_| memory.spend(&rule, a, Tick(0), 1).allowed).count();
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(spend)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 100);
    }
}
