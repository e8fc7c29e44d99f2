//! Counters that several nodes share. One call of `lua/counter.lua` is one decision: the script reads the counter, spends
//! from it and stores it, and says from what it spent; the decision is then computed here, by the same function as in memory.
//!
//! While the shared counters are away, or a request has waited for them as long as it may, each limit does what it is told
//! to. By default this node goes on alone, from what it has seen of each counter, and takes the others to do as it does.
//! Once they are back it tells each counter what was counted here, at the counter's next spending.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::{AbortHandle, JoinSet};

use crate::clock::{self, Tick};
use crate::config::{Algorithm, OnOutage};
use crate::counter::{Counters, Script, Unavailable};
use crate::limiter::algorithms::{self, Cell};
use crate::limiter::memory::{Memento, Origin};
use crate::limiter::node_clock::{NodeClock, Sight};
use crate::limiter::{CellKey, Memory, Receipt, Rule, Source, Spending, Taken};
use crate::observe::Metrics;
use crate::rejection::Failure;

/// Counters in a store that other nodes count in too.
pub struct Shared {
    counters: Counters,
    script: &'static Script,
    /// What this node has seen of the counters, and what it counts alone; by their clock.
    seen: Memory,
    clock: NodeClock,
    refunds: Sender<Refund>,
    tally: Arc<Tally>,
    refunding: AbortHandle,
}

/// How long a request has waited for the shared counters, over all its limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waited(Duration);

/// Decisions by who made them.
#[derive(Debug, Default)]
struct Tally {
    shared: AtomicU64,
    local: AtomicU64,
    open: AtomicU64,
    closed: AtomicU64,
    /// Refunds that nobody could be told of.
    lost: AtomicU64,
}

/// A unit on its way back.
struct Refund {
    name: String,
    arguments: [i64; 9],
    /// Later, nobody waits for it any more.
    until: Tick,
}

impl Shared {
    /// Counts in `counters`; what was given back is taken there by the control plane's runtime.
    pub fn new(counters: Counters, control: &Handle, metrics: &Metrics) -> Self {
        let tally = Arc::<Tally>::default();
        let (refunds, waiting) = mpsc::channel(REFUNDS);
        let refunding = control.spawn(give_back(counters.clone(), waiting, tally.clone())).abort_handle();
        let shown = tally.clone();
        let help = "Decisions of limits that nodes share, by who made them: the shared counters, or what their outage calls for";
        metrics.family("gateward_limit_decisions", help, "by", move || {
            let Tally { shared, local, open, closed, .. } = &*shown;
            let counts = [("shared", shared), ("local", local), ("open", open), ("closed", closed)];
            counts.into_iter().map(|(by, count)| (by, count.load(Ordering::Relaxed))).collect()
        });
        let shown = tally.clone();
        let help = "Units of limits that count failures, which a success could not give back to the shared counters";
        metrics.counter("gateward_limit_refunds_lost", help, move || shown.lost.load(Ordering::Relaxed));
        let (seen, clock) = (Memory::new(Memory::DEFAULT_CAPACITY), NodeClock::default());
        Self { counters, script: &COUNTER, seen, clock, refunds, tally, refunding }
    }

    /// How many counters this node remembers.
    pub fn cells(&self) -> usize {
        self.seen.cells()
    }

    /// Spends one, or says what that would come to and changes nothing. `None` where nothing is counted: the limit is open
    /// while the counters are away.
    ///
    /// # Errors
    /// [`Failure::CountersUnavailable`], where the limit is closed while they are away.
    pub async fn take(
        &self,
        rule: &Rule,
        on_outage: OnOutage,
        key: CellKey,
        spending: Spending,
        waited: &mut Waited,
    ) -> Result<Option<Taken>, Failure> {
        let outcome = match (self.ask(rule, key, spending, waited).await, on_outage) {
            (Ok(taken), _) => (&self.tally.shared, Ok(Some(taken))),
            (Err(_), OnOutage::Local) => (&self.tally.local, Ok(Some(self.take_alone(rule, key, spending)))),
            (Err(_), OnOutage::Open) => (&self.tally.open, Ok(None)),
            (Err(why), OnOutage::Closed) => (&self.tally.closed, Err(Failure::CountersUnavailable { detail: why.to_string() })),
        };
        if spending == Spending::Spend {
            outcome.0.fetch_add(1, Ordering::Relaxed);
        }
        outcome.1
    }

    async fn ask(&self, rule: &Rule, key: CellKey, spending: Spending, waited: &mut Waited) -> Result<Taken, Unavailable> {
        let patience = self.counters.timeout().saturating_sub(waited.0);
        if patience.is_zero() {
            return Err(Unavailable::TimedOut);
        }
        let told = self.seen.recall(key);
        let generation = self.counters.generation();
        let action = if spending == Spending::Spend { SPEND } else { PEEK };
        let asked = clock::now().tick;
        let arguments = spend_arguments(action, rule, told, told.origin.birth(generation));
        let answer = self.counters.run(self.script, key.name().as_bytes(), &arguments, patience).await;
        let answered = clock::now().tick;
        waited.0 += Duration::from_micros(answered.since(asked));
        let answer = Reply::read(&answer?.values, rule.algorithm).ok_or(Unavailable::Malformed)?;
        if self.clock.follow(asked, answered, answer.now) == Sight::Moved {
            self.seen.forget();
        }
        let (decision, cell) = algorithms::spend(answer.cell, answer.now, rule, 1);
        if spending == Spending::Spend {
            let found = Memento { cell, origin: Origin::of(answer.born, generation) };
            let dead_at = Tick(answer.now.plus(decision.reset_after).0.saturating_add(1));
            self.seen.learn(key, told, found, answer.now, dead_at);
        }
        Ok(Taken { decision, receipt: Receipt { at: answer.now, source: Source::Shared } })
    }

    fn take_alone(&self, rule: &Rule, key: CellKey, spending: Spending) -> Taken {
        let now = self.clock.at(clock::now().tick);
        let nodes = self.counters.nodes();
        let decision = match spending {
            Spending::Spend => self.seen.spend(rule, key, now, nodes),
            Spending::Peek => self.seen.peek(rule, key, now, nodes),
        };
        Taken { decision, receipt: Receipt { at: now, source: Source::Alone } }
    }

    /// Takes one allowed spending back. The shared counters are told afterwards: nobody waits for that.
    pub fn refund(&self, rule: &Rule, key: CellKey, receipt: Receipt) {
        let nodes = if receipt.source == Source::Alone { self.counters.nodes() } else { 1 };
        self.seen.refund(rule, key, receipt.at, nodes);
        // What was counted here alone, the shared counter has not heard of.
        if receipt.source == Source::Alone && self.seen.recall(key).origin == Origin::ALONE {
            return;
        }
        let refund = Refund {
            name: key.name(),
            arguments: refund_arguments(rule, receipt.at, nodes),
            until: clock::now().tick.plus(REFUND_PATIENCE),
        };
        if self.refunds.try_send(refund).is_err() {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
impl Shared {
    pub fn forget(&self) {
        self.seen.forget();
    }

    /// Asks by a script of the test's, whose clock may be another.
    pub fn ask_by(&mut self, script: &'static Script) {
        self.script = script;
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.refunding.abort();
    }
}

impl Origin {
    /// A counter by its birth, and the connection over which it was seen: over the next one, the counters may have lost
    /// what they held, or part of it. The birth is in µs, and fits into 52 bits until 2112.
    fn of(born: u64, generation: u64) -> Self {
        Self(born << 12 | generation & 0xfff)
    }

    /// The birth to tell a counter; 0, which no counter has, where all that was counted is to be told.
    fn birth(self, generation: u64) -> u64 {
        if self.0 & 0xfff == generation & 0xfff { self.0 >> 12 } else { 0 }
    }
}

/// What the script answers to a spending.
struct Reply {
    now: Tick,
    born: u64,
    cell: Cell,
}

impl Reply {
    fn read(values: &[i64], algorithm: Algorithm) -> Option<Self> {
        let values: Vec<u64> = values.iter().map(|value| u64::try_from(*value).ok()).collect::<Option<_>>()?;
        let [now, born, parts @ ..] = values.as_slice() else { return None };
        Some(Self { now: Tick(*now), born: *born, cell: Cell::of_parts(*parts.as_array()?, algorithm) })
    }
}

/// Gives units back one after the other, several at a time. What was not sent is sent once the counters are there again; what
/// was sent is not sent twice, since nobody knows what became of it.
async fn give_back(counters: Counters, mut refunds: Receiver<Refund>, tally: Arc<Tally>) {
    let mut running = JoinSet::new();
    while let Some(refund) = refunds.recv().await {
        while running.len() >= REFUNDS_AT_ONCE {
            running.join_next().await;
        }
        while running.try_join_next().is_some() {}
        let (counters, tally) = (counters.clone(), tally.clone());
        running.spawn(async move {
            let mut outcome = give_back_one(&counters, &refund).await;
            while outcome == Err(Unavailable::Away) && clock::now().tick < refund.until {
                tokio::time::sleep(REFUND_PAUSE).await;
                outcome = give_back_one(&counters, &refund).await;
            }
            if outcome.is_err() {
                tally.lost.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

async fn give_back_one(counters: &Counters, refund: &Refund) -> Result<(), Unavailable> {
    counters.run(&COUNTER, refund.name.as_bytes(), &refund.arguments, REFUND_TIMEOUT).await.map(drop)
}

/// What the script takes to spend or to peek.
pub(super) fn spend_arguments(action: i64, rule: &Rule, told: Memento, birth: u64) -> [i64; 10] {
    let [a, b, c, d] = rule.parts();
    let [at, low, before] = told.cell.parts(rule.algorithm);
    [action, algorithm(rule), signed(a), signed(b), signed(c), signed(d), signed(birth), signed(at), signed(low), signed(before)]
}

/// What it takes to give back what was spent at a moment for as many nodes.
pub(super) fn refund_arguments(rule: &Rule, spent_at: Tick, nodes: u32) -> [i64; 9] {
    let [a, b, c, d] = rule.parts();
    let [taken, ns] = rule.taken(nodes);
    [REFUND, algorithm(rule), signed(a), signed(b), signed(c), signed(d), signed(spent_at.0), signed(taken), signed(ns)]
}

fn algorithm(rule: &Rule) -> i64 {
    match rule.algorithm {
        Algorithm::Gcra => 1,
        Algorithm::SlidingWindow => 2,
        Algorithm::FixedWindow => 3,
    }
}

/// Every number that crosses over is below 2^53.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

static COUNTER: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("lua/clock.lua"), include_str!("lua/counter.lua"))));
pub(super) const PEEK: i64 = 1;
pub(super) const SPEND: i64 = 2;
const REFUND: i64 = 3;

/// Units on their way back, at most; further ones are lost, which only makes a limit stricter.
const REFUNDS: usize = 4096;
const REFUNDS_AT_ONCE: usize = 32;
const REFUND_TIMEOUT: Duration = Duration::from_secs(1);
const REFUND_PAUSE: Duration = Duration::from_millis(250);
const REFUND_PATIENCE: Duration = Duration::from_secs(60);
