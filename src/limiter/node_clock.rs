//! The clock of the shared counters as this node knows it: read off every answer, and carried on by the monotonic clock
//! while they are away. The node's own wall clock has no say in it.

use std::sync::{Mutex, PoisonError};

use crate::clock::Tick;

/// How much the shared clock is ahead of this process's ticks, in µs; `None` before the first answer.
#[derive(Debug, Default)]
pub struct NodeClock(Mutex<Option<i64>>);

/// What an answer tells of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    Steady,
    /// It is not the clock that was carried on until now: what was counted by that is worth nothing.
    Moved,
}

impl NodeClock {
    /// Follows an answer that the shared clock read `shared` between two ticks of ours. Drift is followed; a clock that
    /// stands more than a second from where it should was set, or is another server's.
    pub fn follow(&self, asked: Tick, answered: Tick, shared: Tick) -> Sight {
        const STEP: i64 = 1_000_000;
        let (least, most) = (micros(shared) - micros(answered), micros(shared) - micros(asked));
        let most = most.max(least);
        let mut offset = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *offset {
            Some(known) if least - STEP <= known && known <= most + STEP => {
                *offset = Some(known.clamp(least, most));
                Sight::Steady
            }
            _ => {
                *offset = Some(least);
                Sight::Moved
            }
        }
    }

    /// What the shared clock reads at a tick of ours; before the first answer, the tick itself.
    pub fn at(&self, tick: Tick) -> Tick {
        let offset = self.0.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(0);
        Tick(tick.0.saturating_add_signed(offset))
    }
}

/// Half the range, so that a difference of two fits.
fn micros(tick: Tick) -> i64 {
    i64::try_from(tick.0).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Sight::{Moved, Steady};

    const SECOND: u64 = 1_000_000;
    const YEAR_2026: u64 = 1_780_000_000 * SECOND;

    /// M13: the shared clock is followed, wherever it stands; a step of it is noticed, and a slow answer is none.
    #[test]
    fn the_shared_clock_is_followed_and_a_step_noticed() {
        let clock = NodeClock::default();
        assert_eq!(clock.at(Tick(5)), Tick(5));
        let see = |asked: u64, answered: u64, shared: u64| {
            (clock.follow(Tick(asked), Tick(answered), Tick(shared)), clock.at(Tick(answered)).0.abs_diff(YEAR_2026))
        };
        assert_eq!(see(1000, 1400, YEAR_2026 + 1200), (Moved, 1200), "the first answer");
        assert_eq!(see(SECOND, SECOND + 300, YEAR_2026 + SECOND + 100), (Steady, SECOND + 100));
        // A drift of 0.9 s over an hour.
        assert_eq!(see(3600 * SECOND, 3600 * SECOND, YEAR_2026 + 3600 * SECOND + 900_000).0, Steady);
        assert_eq!(see(3601 * SECOND, 3601 * SECOND, YEAR_2026 + 3601 * SECOND + 900_000), (Steady, 3601 * SECOND + 900_000));
        // An answer that lay in a buffer for a minute.
        assert_eq!(see(3602 * SECOND, 3662 * SECOND, YEAR_2026 + 3602 * SECOND + 900_100).0, Steady);
        assert_eq!(see(3663 * SECOND, 3663 * SECOND, YEAR_2026 + 3663 * SECOND + 900_000).0, Steady);
        assert_eq!(see(3664 * SECOND, 3664 * SECOND, YEAR_2026 + 64 * SECOND), (Moved, 64 * SECOND), "an hour back");
        assert_eq!(see(3665 * SECOND, 3665 * SECOND, YEAR_2026 + 7265 * SECOND), (Moved, 7265 * SECOND), "and forth");
        assert_eq!(see(0, u64::MAX, u64::MAX).0, Steady);
    }
}
