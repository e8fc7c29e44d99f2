//! HOW MANY MORE. Counts spendings against quotas and says what is left. The arithmetic is in `algorithms`, the cells
//! are in `memory`. Nothing here reads a clock, knows a request or decides what a refusal looks like.

mod algorithms;
mod key;
mod memory;
mod spending;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::config::Algorithm;
use crate::config::value::Quota;

pub use key::CellKey;
pub use memory::Memory;
pub use spending::{Counted, Spending, Spent, Subject};

/// One limit, ready to be spent from.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Limits of one bucket share their counters where algorithm and window are the same; otherwise each counts alone.
    pub bucket: Arc<str>,
    pub quota: Quota,
    /// GCRA: how many at once. The windows ignore it.
    pub burst: u32,
    pub algorithm: Algorithm,
}

/// What a spending came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// What `remaining` counts down from: the burst for GCRA, the count of the quota for the windows.
    pub limit: u32,
    /// How many more would be allowed right after this one.
    pub remaining: u32,
    /// Until everything that was spent has been forgotten.
    pub reset_after: Duration,
    /// Until one more would be allowed. Zero when this one was.
    pub retry_after: Duration,
}

/// Where counters are kept.
pub enum Limiter {
    Memory(Memory),
}

impl Limiter {
    /// How many counters there are.
    pub fn cells(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.cells(),
        }
    }

    /// Spends one. A refused spending costs nothing.
    pub fn spend(&self, rule: &Rule, key: CellKey, now: Tick) -> Decision {
        match self {
            Self::Memory(memory) => memory.spend(rule, key, now),
        }
    }

    /// What [`Limiter::spend`] would say; changes no counter.
    pub fn peek(&self, rule: &Rule, key: CellKey, now: Tick) -> Decision {
        match self {
            Self::Memory(memory) => memory.peek(rule, key, now),
        }
    }

    /// Takes one allowed spending back. `spent_at` is the tick that was given to [`Limiter::spend`], so that a spending
    /// whose window is over gives nothing to the window that follows. GCRA keeps one number and cannot tell spendings
    /// apart: it gives one step back unless all that was spent is forgotten already.
    pub fn refund(&self, rule: &Rule, key: CellKey, spent_at: Tick) {
        match self {
            Self::Memory(memory) => memory.refund(rule, key, spent_at),
        }
    }
}
