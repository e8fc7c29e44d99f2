//! HOW MANY MORE. Counts spendings against quotas and says what is left. The arithmetic is in `algorithms`; the cells
//! are in `memory`, or in the store that several nodes count in, which `shared` asks. Nothing here knows a request or
//! decides what a refusal looks like.

mod algorithms;
mod key;
mod memory;
mod node_clock;
mod shared;
mod spending;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::config::Algorithm;
use crate::config::value::Quota;

pub use key::CellKey;
pub use memory::Memory;
pub use shared::{Shared, Waited};
pub use spending::{Counted, Counting, Refusal, Spending, Spent, Subject};

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
    /// In this process, for itself alone.
    Memory(Memory),
    /// In one place for several nodes. What must never wait for that is still counted in `node`.
    Shared { node: Memory, shared: Box<Shared> },
}

/// What a limit has said of a request, and what a unit that was taken can be given back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub decision: Decision,
    pub receipt: Receipt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// By the clock of the source.
    at: Tick,
    source: Source,
}

/// What has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Memory,
    Shared,
    /// This node by itself, while the shared counters are away.
    Alone,
    /// This node by itself, because the shared counters did not answer: they may have counted it too.
    Unanswered,
}

impl Limiter {
    /// The counters that are this process's own in any case.
    pub fn node(&self) -> &Memory {
        match self {
            Self::Memory(node) | Self::Shared { node, .. } => node,
        }
    }

    /// The cell of these parts: named as all nodes name it, where they share it.
    fn key(&self, rule: &Rule, parts: &[&[u8]]) -> CellKey {
        match self {
            Self::Memory(memory) => memory.key(rule, parts),
            Self::Shared { .. } => CellKey::new(rule, parts),
        }
    }

    /// How many counters there are in this process.
    pub fn cells(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.cells(),
            Self::Shared { node, shared } => node.cells() + shared.cells(),
        }
    }

    /// Takes one allowed spending back, without waiting. A spending whose window is over gives nothing to the window that
    /// follows. GCRA keeps one number and cannot tell spendings apart: it gives one step back unless all that was spent is
    /// forgotten already.
    fn refund(&self, rule: &Rule, key: CellKey, receipt: Receipt) {
        match (self, receipt.source) {
            (Self::Shared { shared, .. }, Source::Shared | Source::Alone | Source::Unanswered) => {
                shared.refund(rule, key, receipt);
            }
            (Self::Memory(node) | Self::Shared { node, .. }, _) => node.refund(rule, key, receipt.at, 1),
        }
    }
}
