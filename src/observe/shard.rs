//! Counters that many threads raise at once: each thread has a cache line of its own, a reader adds them up.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// `N` counters.
pub struct Sharded<const N: usize> {
    shards: Box<[Shard<N>; SHARDS]>,
}

// Two lines: processors fetch lines in pairs.
#[repr(align(128))]
struct Shard<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Sharded<N> {
    fn default() -> Self {
        Self { shards: Box::new([const { Shard([const { AtomicU64::new(0) }; N]) }; SHARDS]) }
    }
}

impl<const N: usize> Sharded<N> {
    /// Raises a counter. One that does not exist stays as it is.
    pub fn add(&self, counter: usize, by: u64) {
        thread_local! {
            static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        let cell = self.shards.get(SHARD.with(|shard| *shard)).and_then(|shard| shard.0.get(counter));
        if let Some(cell) = cell {
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    pub fn sums(&self) -> [u64; N] {
        let mut sums = [0_u64; N];
        for shard in self.shards.iter() {
            for (sum, cell) in sums.iter_mut().zip(&shard.0) {
                *sum = sum.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
        sums
    }
}

const SHARDS: usize = 16;

static NEXT: AtomicUsize = AtomicUsize::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_threads() {
        let counters = Sharded::<3>::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..1000).for_each(|_| counters.add(1, 2)));
            }
        });
        counters.add(3, 1);
        assert_eq!(counters.sums(), [0, 40_000, 0]);
    }
}
