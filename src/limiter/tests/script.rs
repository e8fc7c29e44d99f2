//! The script against the functions that count in memory: the same text with a clock of the test's.

use std::cell::RefCell;
use std::sync::LazyLock;

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;
use crate::clock::Tick;
use crate::counter::Script;
use crate::limiter::algorithms::{self, Cell};
use crate::limiter::memory::{Memento, Origin};
use crate::limiter::shared::{PEEK, SPEND, refund_arguments, spend_arguments};

/// The last argument is the clock. No counter expires by the server's own; how long it would live is put beside it.
static COUNTER: LazyLock<Script> = LazyLock::new(|| {
    let clock = "local now = tonumber(ARGV[#ARGV])
                 local server = redis
                 local redis = { pcall = server.pcall, call = function(command, key, value, how, life)
                     if how == 'PX' then server.call('SET', key .. ':life', life) end
                     return server.call(command, key, value)
                 end }\n";
    Script::new([clock, include_str!("../lua/counter.lua")].concat())
});
/// The counter as it is stored, and how long it lives.
static READ: LazyLock<Script> = LazyLock::new(|| {
    let text = "local found = {}
                for number in string.gmatch(redis.call('GET', KEYS[1]) or '', '%d+') do found[#found + 1] = tonumber(number) end
                if #found > 0 then found[#found + 1] = tonumber(redis.call('GET', KEYS[1] .. ':life') or 0) end
                return found";
    Script::new(text)
});
static LOSE: LazyLock<Script> = LazyLock::new(|| Script::new("redis.call('DEL', KEYS[1]) return {}"));

/// A server with a counter that is looked at.
pub struct Lab {
    runtime: Runtime,
    counters: Counters,
    _redis: Redis,
    name: RefCell<String>,
}

impl Lab {
    pub fn new() -> Self {
        let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
        let counters = runtime.block_on(counters(&redis, 1, Duration::from_secs(5)));
        Self { runtime, counters, _redis: redis, name: RefCell::default() }
    }

    /// A counter that nobody has spent from.
    pub fn anew(&self) {
        self.name.replace(crate::random::token());
    }

    fn run(&self, script: &Script, arguments: &[i64]) -> Vec<i64> {
        let name = self.name.borrow().clone();
        let run = self.counters.run(script, name.as_bytes(), arguments, Duration::from_secs(5));
        self.runtime.block_on(run).unwrap().values
    }

    fn run_at(&self, arguments: &[i64], now: Tick) -> Vec<i64> {
        self.run(&COUNTER, &[arguments, &[number(now.0)]].concat())
    }

    /// Spends as a node that remembers nothing; whether it was allowed.
    pub fn spend(&self, rule: &Rule, now: Tick) -> bool {
        let from = self.run_at(&spend_arguments(SPEND, rule, Memento::default(), 0), now);
        let cell = Cell::of_parts([from[2], from[3], from[4]].map(|part| u64::try_from(part).unwrap()), rule.algorithm);
        algorithms::spend(cell, now, rule, 1).0.allowed
    }

    fn read(&self) -> Vec<i64> {
        self.run(&READ, &[])
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap()
}

/// What a node remembers, of which the script makes something or nothing.
#[derive(Clone, Copy, Debug)]
enum Told {
    Nothing,
    Exactly,
    /// Of the same counter, but not what it holds now.
    Garbage(u64),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Spend(Told),
    Peek,
    /// The nth of the spendings so far.
    Refund(usize, u32),
    /// The server loses the counter; the next that spends remembers it.
    Lose,
}

fn steps() -> impl Strategy<Value = Step> {
    let told = prop_oneof![Just(Told::Nothing), Just(Told::Exactly), (1u64..1 << 40).prop_map(Told::Garbage)];
    prop_oneof![
        6 => told.prop_map(Step::Spend),
        1 => Just(Step::Peek),
        2 => (0usize..40, 1u32..4).prop_map(|(which, nodes)| Step::Refund(which, nodes)),
        1 => Just(Step::Lose),
    ]
}

/// Slow and fast rules: from one in a year to 7,000,000 in a second and more.
fn rules() -> impl Strategy<Value = Rule> {
    let algorithm = prop_oneof![Just(Algorithm::Gcra), Just(Algorithm::SlidingWindow), Just(Algorithm::FixedWindow)];
    let count = prop_oneof![1u32..8, 1u32..2000, Just(7_000_000), Just(u32::MAX)];
    let window = prop_oneof![1u64..50, 1u64..100_000, Just(1000), Just(3_600_000), Just(366 * 86_400_000)];
    let burst = prop_oneof![1u32..10, 1u32..5000, Just(u32::MAX)];
    (algorithm, count, window, burst).prop_map(|(algorithm, count, window, burst)| Rule {
        burst,
        ..rule("r", algorithm, count, Duration::from_millis(window))
    })
}

/// How far the clock goes, in thousandths of a step of the rule, of a window, or of two windows back.
fn gaps() -> impl Strategy<Value = (u8, u64)> {
    (prop_oneof![3 => Just(0u8), 4 => Just(1), 3 => Just(2), 1 => Just(3)], 0u64..3000)
}

fn moved(now: u64, (kind, part): (u8, u64), rule: &Rule) -> u64 {
    let window = u64::try_from(rule.quota.window.as_micros()).unwrap();
    match kind {
        0 => now,
        1 => now + window / u64::from(rule.quota.count) * part / 1000,
        2 => now + window / 1000 * part,
        _ => now.saturating_sub(window / 1000 * part),
    }
}

/// What the script does to a cell that a clock or a rule of before left too far ahead.
fn cut(cell: Cell, now: u64, rule: &Rule) -> Cell {
    let ([at, low, before], [first, _, span, span_ns]) = (cell.parts(rule.algorithm), rule.parts());
    let parts = match rule.algorithm {
        Algorithm::Gcra if (at, low) > (now + span, span_ns) => [now + span, span_ns, before],
        Algorithm::SlidingWindow | Algorithm::FixedWindow if at > now - now % first + first => [now - now % first, low, before],
        Algorithm::Gcra | Algorithm::SlidingWindow | Algorithm::FixedWindow => [at, low, before],
    };
    Cell::of_parts(parts, rule.algorithm)
}

fn assert_it_follows_memory(lab: &Lab, rule: &Rule, start: u64, course: &[((u8, u64), Step)]) {
    lab.anew();
    let (mut cell, mut born, mut now) = (Cell::default(), 0, start);
    let mut spent = Vec::new();
    let mut lost = true;
    for &(gap, step) in course {
        now = moved(now, gap, rule);
        match step {
            Step::Spend(told) => {
                // A counter that is lost is known to those alone who remember it.
                let told = match (told, lost) {
                    (Told::Exactly, _) | (_, true) => Memento { cell, origin: Origin(born) },
                    (Told::Nothing, false) => Memento::default(),
                    (Told::Garbage(at), false) => {
                        Memento { cell: Cell::of_parts([at, 7, 7], rule.algorithm), origin: Origin(born) }
                    }
                };
                let from = lab.run_at(&spend_arguments(SPEND, rule, told, told.origin.0), Tick(now));
                if lost {
                    born = now;
                    lost = false;
                }
                let (decision, next) = algorithms::spend(cut(cell, now, rule), Tick(now), rule, 1);
                let seen = Cell::of_parts([from[2], from[3], from[4]].map(|part| u64::try_from(part).unwrap()), rule.algorithm);
                assert_eq!(algorithms::spend(seen, Tick(now), rule, 1).0, decision, "{rule:?} at {now}");
                assert_eq!((from[0], from[1]), (number(now), number(born)));
                cell = next;
                let stored = lab.read();
                let expected = next.parts(rule.algorithm).map(number);
                assert_eq!((stored[0], &stored[1..4]), (number(born), expected.as_slice()), "{rule:?} at {now}");
                if decision.allowed {
                    // After a small step back of the clock, the time until then is added.
                    let early = number(next.parts(rule.algorithm)[0].saturating_sub(now) / 1000);
                    let early = if rule.algorithm == Algorithm::Gcra { 0 } else { early };
                    let life = number(u64::try_from(decision.reset_after.as_millis()).unwrap()) + 1;
                    assert!((life + early..=life + early + 1).contains(&stored[4]), "{rule:?} at {now}: {stored:?}");
                    spent.push(now);
                }
            }
            Step::Peek => {
                let before = lab.read();
                lab.run_at(&spend_arguments(PEEK, rule, Memento { cell, origin: Origin(born) }, born), Tick(now));
                assert_eq!(lab.read(), before);
            }
            Step::Refund(which, nodes) => {
                let Some(&at) = spent.get(which).filter(|_| !lost) else { continue };
                lab.run_at(&refund_arguments(rule, Tick(at), nodes), Tick(now));
                cell = algorithms::refund(cell, Tick(at), rule, nodes);
                assert_eq!(lab.read()[1..4], cell.parts(rule.algorithm).map(number));
            }
            Step::Lose => {
                lab.run(&LOSE, &[]);
                lost = true;
            }
        }
    }
}

/// M10: with one clock, the script and memory agree on every cell and every decision: for each algorithm, at any rate, when
/// units are given back, when the clock is set back, when the server loses the counter, and whatever a node remembers.
#[test]
fn the_script_counts_as_memory_does() {
    let lab = Lab::new();
    let course = prop::collection::vec((gaps(), steps()), 1..40);
    // From 2026 on; the grid of windows is met anywhere.
    let start = 1_780_000_000_000_000u64..1_790_000_000_000_000;
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(150));
    let outcome = runner.run(&(rules(), start, course), |(rule, start, course)| {
        assert_it_follows_memory(&lab, &rule, start, &course);
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
}
