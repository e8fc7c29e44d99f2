//! The arithmetic of limits: pure functions from a cell, a moment and a rule to a decision and the next cell. A moment is
//! a [`Tick`] of the clock that the cell lives by: this process's, or that of the shared counters.
//!
//! GCRA keeps one number, the theoretical arrival time (ITU-T I.371), in nanoseconds: whole microseconds would round the
//! step of a fast rule by more than a per cent. The step is rounded up, so a rule admits at most what it says. Windows lie
//! on a grid that starts at tick zero and are counted in microseconds.
//!
//! `lua/counter.lua` does the same with the cells in Redis. Its numbers are exact up to 2^53, so no span of a rule is longer
//! than [`FARTHEST`], and an arrival crosses over as whole microseconds and the nanoseconds within.

use std::time::Duration;

use crate::clock::Tick;
use crate::config::Algorithm;
use crate::limiter::{Decision, Rule};

/// The state of one counter. The default is a counter that nothing was spent from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// GCRA: the theoretical arrival time in ns. Windows: the start of the current window in µs.
    at: u64,
    /// Windows: spent in the current window.
    used: u32,
    /// Sliding window: spent in the window before.
    before: u32,
}

/// Spends one from the cell. The next cell of a refused spending is worth the same as the one given.
///
/// `nodes` is 1, or how many nodes count alone while the shared counters are away. Each takes the others to do what it does
/// itself: what it admits counts so many times, and together they admit no more than the rule says. Each admits at
/// least one.
pub fn spend(cell: Cell, now: Tick, rule: &Rule, nodes: u32) -> (Decision, Cell) {
    match rule.algorithm {
        Algorithm::Gcra => gcra(cell, now, rule, nodes),
        Algorithm::SlidingWindow => sliding_window(cell, now, rule, nodes),
        Algorithm::FixedWindow => fixed_window(cell, now, rule, nodes),
    }
}

/// Takes back what [`spend`] took at `spent_at` for as many `nodes`; nothing when time has taken it back already.
pub fn refund(cell: Cell, spent_at: Tick, rule: &Rule, nodes: u32) -> Cell {
    let width = width(rule);
    let start = start_of(spent_at, width);
    let units = nodes.clamp(1, limit(rule));
    match rule.algorithm {
        Algorithm::Gcra if cell.at > nanos(spent_at) => {
            Cell { at: cell.at.saturating_sub(Pace::of(rule).step_of(nodes)), ..cell }
        }
        Algorithm::SlidingWindow | Algorithm::FixedWindow if start == cell.at => {
            Cell { used: cell.used.saturating_sub(units), ..cell }
        }
        Algorithm::SlidingWindow if start.saturating_add(width) == cell.at => {
            Cell { before: cell.before.saturating_sub(units), ..cell }
        }
        Algorithm::Gcra | Algorithm::SlidingWindow | Algorithm::FixedWindow => cell,
    }
}

impl Cell {
    /// As the shared counters keep it: GCRA's µs and the ns within, else the window's start, its count, and the one before.
    pub fn parts(self, algorithm: Algorithm) -> [u64; 3] {
        match algorithm {
            Algorithm::Gcra => [self.at / 1000, self.at % 1000, 0],
            Algorithm::SlidingWindow | Algorithm::FixedWindow => [self.at, self.used.into(), self.before.into()],
        }
    }

    pub fn of_parts([at, low, before]: [u64; 3], algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Gcra => Self { at: at.saturating_mul(1000).saturating_add(low), used: 0, before: 0 },
            Algorithm::SlidingWindow | Algorithm::FixedWindow => Self { at, used: count(low), before: count(before) },
        }
    }
}

impl Rule {
    /// What the shared counters are told of the rule: GCRA's step and span, each as µs and the ns within; else the window's
    /// µs and the limit.
    pub fn parts(&self) -> [u64; 4] {
        match self.algorithm {
            Algorithm::Gcra => {
                let Pace { step, span } = Pace::of(self);
                [step / 1000, step % 1000, span / 1000, span % 1000]
            }
            Algorithm::SlidingWindow | Algorithm::FixedWindow => [width(self), limit(self).into(), 0, 0],
        }
    }

    /// What one spending takes that counts for as many nodes, for the shared counters: GCRA's µs and the ns within, else
    /// units and nothing.
    pub fn taken(&self, nodes: u32) -> [u64; 2] {
        match self.algorithm {
            Algorithm::Gcra => {
                let step = Pace::of(self).step_of(nodes);
                [step / 1000, step % 1000]
            }
            Algorithm::SlidingWindow | Algorithm::FixedWindow => [nodes.clamp(1, limit(self)).into(), 0],
        }
    }
}

/// 71 years in microseconds: no rule looks farther. A moment of this century and two spans of a rule stay below 2^53.
const FARTHEST: u64 = 1 << 51;

/// What a GCRA rule comes to in nanoseconds.
struct Pace {
    /// Between two spendings at the steady rate.
    step: u64,
    /// How far the arrival time may lie ahead of now: one step for each of the burst.
    span: u64,
}

impl Pace {
    fn of(rule: &Rule) -> Self {
        let window = width(rule) * 1000;
        let step = window.div_ceil(u64::from(rule.quota.count.max(1))).max(1);
        Self { step, span: step.saturating_mul(u64::from(rule.burst.max(1))).min(FARTHEST * 1000) }
    }

    /// What one spending takes that counts so many times.
    fn step_of(&self, nodes: u32) -> u64 {
        self.step.saturating_mul(u64::from(nodes.max(1))).min(FARTHEST * 1000)
    }
}

fn gcra(cell: Cell, now: Tick, rule: &Rule, nodes: u32) -> (Decision, Cell) {
    let pace = Pace::of(rule);
    let (span, taken) = (pace.span, pace.step_of(nodes));
    // Where the burst is smaller than the number of nodes, each may still take one, and then waits for all of them.
    let needed = taken.min(span);
    let now = nanos(now);
    let arrival = cell.at.max(now);
    let ahead = arrival - now;
    let allowed = ahead.saturating_add(needed) <= span;
    let after = if allowed { ahead + taken } else { ahead };
    let room = span.checked_sub(after.saturating_add(needed));
    let decision = Decision {
        allowed,
        limit: rule.burst.max(1),
        remaining: room.map_or(0, |room| count(room / taken).saturating_add(1)),
        reset_after: Duration::from_nanos(after),
        retry_after: Duration::from_nanos(if allowed { 0 } else { ahead.saturating_add(needed) - span }),
    };
    (decision, if allowed { Cell { at: arrival + taken, ..cell } } else { cell })
}

/// The window before counts with the share of it that a window ending now would still cover.
fn sliding_window(cell: Cell, now: Tick, rule: &Rule, nodes: u32) -> (Decision, Cell) {
    let width = width(rule);
    let mut cell = rolled(cell, now, width);
    let elapsed = now.0.saturating_sub(cell.at);
    let left = width - elapsed.min(width);
    let limit = limit(rule);
    let units = nodes.clamp(1, limit);
    let (full, old) = (wide(limit) * u128::from(width), wide(cell.before) * u128::from(left));
    let weight = |used: u32| old + wide(used) * u128::from(width);
    let fits = |used: u32| used <= limit - units;
    let allowed = fits(cell.used) && weight(cell.used + units) <= full;
    if allowed {
        cell.used += units;
    }
    let reset_after = match cell {
        Cell { used: 0, before: 0, .. } => 0,
        Cell { used: 0, .. } => left,
        Cell { .. } => left.saturating_add(width),
    };
    let decision = Decision {
        allowed,
        limit,
        remaining: u32::try_from(full.saturating_sub(weight(cell.used)) / (u128::from(width) * wide(units))).unwrap_or(u32::MAX),
        reset_after: Duration::from_micros(reset_after),
        retry_after: Duration::from_micros(if allowed {
            0
        } else if fits(cell.used) {
            fade(cell.before, limit - units - cell.used, width).saturating_sub(elapsed)
        } else {
            left.saturating_add(fade(cell.used, limit - units, width))
        }),
    };
    (decision, cell)
}

fn fixed_window(cell: Cell, now: Tick, rule: &Rule, nodes: u32) -> (Decision, Cell) {
    let width = width(rule);
    let mut cell = Cell { before: 0, ..rolled(cell, now, width) };
    let left = width - now.0.saturating_sub(cell.at).min(width);
    let limit = limit(rule);
    let units = nodes.clamp(1, limit);
    let allowed = cell.used <= limit - units;
    if allowed {
        cell.used += units;
    }
    let decision = Decision {
        allowed,
        limit,
        remaining: limit.saturating_sub(cell.used) / units,
        reset_after: Duration::from_micros(left),
        retry_after: Duration::from_micros(if allowed { 0 } else { left }),
    };
    (decision, cell)
}

/// The cell as it stands in the window of `now`. A `now` from before the cell's window (another thread was faster)
/// counts in the cell's.
fn rolled(cell: Cell, now: Tick, width: u64) -> Cell {
    let start = start_of(now, width);
    if start <= cell.at {
        cell
    } else if start - cell.at == width {
        Cell { at: start, used: 0, before: cell.used }
    } else {
        Cell { at: start, used: 0, before: 0 }
    }
}

/// How far into a window `old` spendings of the window before weigh no more than `room`.
fn fade(old: u32, room: u32, width: u64) -> u64 {
    let covered = (wide(room) * u128::from(width)).checked_div(wide(old)).unwrap_or(u128::MAX);
    width - u64::try_from(covered).unwrap_or(u64::MAX).min(width)
}

fn start_of(now: Tick, width: u64) -> u64 {
    now.0 - now.0 % width
}

/// In microseconds.
fn width(rule: &Rule) -> u64 {
    u64::try_from(rule.quota.window.as_micros()).unwrap_or(u64::MAX).clamp(1, FARTHEST)
}

fn limit(rule: &Rule) -> u32 {
    rule.quota.count.max(1)
}

fn nanos(tick: Tick) -> u64 {
    // 292 years after the start of the process.
    tick.0.saturating_mul(1000).min(u64::MAX / 2)
}

fn wide(number: u32) -> u128 {
    u128::from(number)
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Quota;
    use proptest::prelude::*;

    const MS: u64 = 1000;

    fn rule(algorithm: Algorithm, count: u32, window_ms: u64, burst: u32) -> Rule {
        let quota = Quota { count, window: Duration::from_millis(window_ms) };
        Rule { bucket: "r".into(), quota, burst, algorithm }
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let algorithm = prop_oneof![Just(Algorithm::Gcra), Just(Algorithm::SlidingWindow), Just(Algorithm::FixedWindow)];
        (algorithm, 1u32..20, 1u64..50, 1u32..10)
            .prop_map(|(algorithm, count, window, burst)| rule(algorithm, count, window, burst))
    }

    /// Spends at each of these ticks; the ticks of those that were allowed.
    fn admitted(rule: &Rule, ticks: &[u64], nodes: u32) -> Vec<u64> {
        let mut cell = Cell::default();
        let mut out = Vec::new();
        for &tick in ticks {
            let (decision, next) = spend(cell, Tick(tick), rule, nodes);
            cell = next;
            if decision.allowed {
                out.push(tick);
            }
        }
        out
    }

    fn most_in_any_window(ticks: &[u64], width: u64) -> usize {
        ticks.iter().map(|&from| ticks.iter().filter(|&&tick| tick >= from && tick < from + width).count()).max().unwrap_or(0)
    }

    /// The bound that the algorithm promises for any window of the quota's width, wherever it starts.
    fn bound(rule: &Rule) -> usize {
        match rule.algorithm {
            Algorithm::Gcra => usize::try_from(rule.quota.count + rule.burst - 1).unwrap(),
            Algorithm::SlidingWindow | Algorithm::FixedWindow => usize::try_from(rule.quota.count * 2).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_the_bound(rule in any_rule(), gaps in prop::collection::vec(0u64..8 * MS, 1..300)) {
            let ticks: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let width = width(&rule);
            let allowed = admitted(&rule, &ticks, 1);
            prop_assert!(most_in_any_window(&allowed, width) <= bound(&rule));
            if rule.algorithm != Algorithm::Gcra {
                for start in allowed.iter().map(|tick| tick - tick % width) {
                    let inside = allowed.iter().filter(|&&tick| tick >= start && tick < start + width).count();
                    prop_assert!(inside <= usize::try_from(rule.quota.count).unwrap());
                }
            }
        }

        /// M9: nodes that count alone admit together what one node would, or one each where that is more.
        #[test]
        fn nodes_that_count_alone_keep_the_bound_together(
            rule in any_rule(), nodes in 1u32..12, gaps in prop::collection::vec(0u64..8 * MS, 1..300),
        ) {
            let ticks: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let width = width(&rule);
            let allowed = admitted(&rule, &ticks, nodes);
            let (all, one_each) = (usize::try_from(nodes).unwrap(), Rule { burst: rule.burst.max(nodes), ..rule.clone() });
            if rule.algorithm == Algorithm::Gcra {
                prop_assert!(most_in_any_window(&allowed, width) * all <= bound(&one_each));
            }
            for start in allowed.iter().map(|tick| tick - tick % width).filter(|_| rule.algorithm != Algorithm::Gcra) {
                let inside = allowed.iter().filter(|&&tick| tick >= start && tick < start + width).count();
                prop_assert!(inside * all <= usize::try_from(rule.quota.count.max(nodes)).unwrap());
            }
        }

        /// M10: the decisions of the crate `governor`, for a rule of the same step.
        #[test]
        fn gcra_decides_as_governor_does(
            count in 1u32..5000, window in 1u64..100_000, burst in 1u32..40, gaps in prop::collection::vec(0u64..3000, 1..200),
        ) {
            let rule = rule(Algorithm::Gcra, count, window, burst);
            let step = Duration::from_nanos(Pace::of(&rule).step);
            let quota = governor::Quota::with_period(step).unwrap().allow_burst(burst.try_into().unwrap());
            let clock = governor::clock::FakeRelativeClock::default();
            let reference = governor::RateLimiter::direct_with_clock(quota, clock.clone());
            let (mut cell, mut now) = (Cell::default(), 0);
            for gap in gaps {
                // In thousandths of a step.
                let gap = u64::try_from(step.as_micros()).unwrap() * gap / 1000;
                clock.advance(Duration::from_micros(gap));
                now += gap;
                let (decision, next) = spend(cell, Tick(now), &rule, 1);
                prop_assert_eq!(decision.allowed, reference.check().is_ok());
                cell = next;
            }
        }

        /// They differ in the step alone: `governor` rounds it down to the nanosecond, and admits more than the rule says.
        #[test]
        fn a_step_is_that_of_governor_or_a_nanosecond_longer(count in 1u32..10_000_000) {
            let floor = governor::Quota::per_second(count.try_into().unwrap()).replenish_interval();
            let step = Duration::from_nanos(Pace::of(&rule(Algorithm::Gcra, count, 1000, 1)).step);
            prop_assert_eq!(step, floor + Duration::from_nanos(u64::from(1_000_000_000 % count > 0)));
        }

        #[test]
        fn a_refused_caller_gets_in_at_retry_after_and_not_a_microsecond_before(
            rule in any_rule(), nodes in 1u32..4, gaps in prop::collection::vec(0u64..3 * MS, 1..100),
        ) {
            let (mut cell, mut now) = (Cell::default(), 0);
            for gap in gaps {
                now += gap;
                let (decision, next) = spend(cell, Tick(now), &rule, nodes);
                if !decision.allowed {
                    prop_assert_eq!(spend(next, Tick(now), &rule, nodes), (decision, next));
                    let wait = u64::try_from(decision.retry_after.as_nanos().div_ceil(1000)).unwrap();
                    prop_assert!(wait > 0);
                    prop_assert!(spend(next, Tick(now + wait), &rule, nodes).0.allowed);
                    prop_assert!(!spend(next, Tick(now + wait - 1), &rule, nodes).0.allowed);
                }
                cell = next;
            }
        }

        #[test]
        fn exactly_as_many_as_remaining_says_get_in_at_once(
            rule in any_rule(), nodes in 1u32..4, gaps in prop::collection::vec(0u64..3 * MS, 1..60),
        ) {
            let (mut cell, mut now) = (Cell::default(), 0);
            for gap in gaps {
                now += gap;
                let (decision, next) = spend(cell, Tick(now), &rule, nodes);
                let (mut trial, mut more) = (next, 0);
                loop {
                    let (decision, after) = spend(trial, Tick(now), &rule, nodes);
                    if !decision.allowed { break }
                    (trial, more) = (after, more + 1);
                    prop_assert!(more <= 1000);
                }
                prop_assert_eq!(decision.remaining, more);
                cell = next;
            }
        }

        #[test]
        fn after_reset_the_cell_is_as_good_as_new(rule in any_rule(), spendings in 1u32..30, start in 0u64..100 * MS) {
            let (mut cell, mut last) = (Cell::default(), Duration::ZERO);
            for _ in 0..spendings {
                let (decision, next) = spend(cell, Tick(start), &rule, 1);
                (cell, last) = (next, decision.reset_after);
            }
            let later = Tick(start + u64::try_from(last.as_nanos().div_ceil(1000)).unwrap());
            prop_assert_eq!(spend(cell, later, &rule, 1).0, spend(Cell::default(), later, &rule, 1).0);
        }

        #[test]
        fn a_refund_gives_back_exactly_one(
            rule in any_rule(), nodes in 1u32..4, spendings in 1u32..30, now in 0u64..100 * MS,
        ) {
            let mut cell = Cell::default();
            for _ in 0..spendings {
                let (decision, next) = spend(cell, Tick(now), &rule, nodes);
                if decision.allowed {
                    let back = refund(next, Tick(now), &rule, nodes);
                    prop_assert_eq!(spend(back, Tick(now), &rule, nodes), (decision, next));
                }
                cell = next;
            }
        }
    }

    #[test]
    fn gcra_spends_its_burst_and_then_one_for_each_step() {
        let rule = rule(Algorithm::Gcra, 10, 1000, 3);
        let mut cell = Cell::default();
        let mut seen = Vec::new();
        for at in [0, 0, 0, 0, 100 * MS - 1, 100 * MS, 400 * MS] {
            let (decision, next) = spend(cell, Tick(at), &rule, 1);
            cell = next;
            seen.push((decision.allowed, decision.remaining, decision.retry_after.as_micros(), decision.reset_after.as_millis()));
        }
        let expected = [
            (true, 2, 0, 100),
            (true, 1, 0, 200),
            (true, 0, 0, 300),
            (false, 0, 100_000, 300),
            (false, 0, 1, 200),
            (true, 0, 0, 300),
            (true, 2, 0, 100),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_fast_gcra_rule_keeps_its_rate_within_a_thousandth() {
        let rule = rule(Algorithm::Gcra, 300_000, 1000, 1000);
        let ticks: Vec<u64> = (0..1_000_000).collect();
        let allowed = admitted(&rule, &ticks, 1).len();
        assert!((299_700..=301_000).contains(&allowed), "{allowed}");
    }

    #[test]
    fn a_fixed_window_may_be_spent_twice_around_its_edge_and_never_more() {
        let rule = rule(Algorithm::FixedWindow, 5, 1000, 1);
        let edge = 1000 * MS;
        let ticks: Vec<u64> = std::iter::repeat_n(edge - 1, 50).chain(std::iter::repeat_n(edge, 50)).collect();
        assert_eq!(admitted(&rule, &ticks, 1).len(), 10);
    }

    #[test]
    fn a_sliding_window_gives_nothing_new_at_its_edge() {
        let rule = rule(Algorithm::SlidingWindow, 5, 1000, 1);
        let edge = 1000 * MS;
        let ticks: Vec<u64> = std::iter::repeat_n(edge - 1, 50).chain(std::iter::repeat_n(edge, 50)).collect();
        assert_eq!(admitted(&rule, &ticks, 1).len(), 5);
        let (decision, _) = spend(Cell { at: edge, used: 0, before: 5 }, Tick(edge + 199 * MS), &rule, 1);
        assert_eq!((decision.allowed, decision.retry_after), (false, Duration::from_millis(1)));
        let (decision, _) = spend(Cell { at: edge, used: 0, before: 5 }, Tick(edge + 200 * MS), &rule, 1);
        assert_eq!((decision.allowed, decision.remaining), (true, 0));
    }

    #[test]
    fn a_refund_after_the_window_gives_the_next_window_nothing() {
        for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::Gcra] {
            let rule = rule(algorithm, 2, 1000, 2);
            let (_, spent) = spend(Cell::default(), Tick(0), &rule, 1);
            let (expected, full) = spend(spend(spent, Tick(5000 * MS), &rule, 1).1, Tick(5000 * MS), &rule, 1);
            assert!(expected.allowed);
            let again = spend(refund(full, Tick(0), &rule, 1), Tick(5000 * MS), &rule, 1).0;
            // The arrival time alone cannot tell the two spendings apart, so GCRA gives the one step back.
            assert_eq!(again.allowed, algorithm == Algorithm::Gcra, "{algorithm:?}");
        }
        let rule = rule(Algorithm::Gcra, 2, 1000, 2);
        let (_, spent) = spend(Cell::default(), Tick(0), &rule, 1);
        let late = refund(spent, Tick(500 * MS), &rule, 1);
        assert_eq!(late, spent);
    }

    #[test]
    fn a_clock_reading_from_another_thread_that_is_late_counts_in_the_current_window() {
        for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
            let rule = rule(algorithm, 1, 1000, 1);
            let (first, cell) = spend(Cell::default(), Tick(2000 * MS), &rule, 1);
            let (second, _) = spend(cell, Tick(1999 * MS), &rule, 1);
            assert_eq!((first.allowed, second.allowed), (true, false), "{algorithm:?}");
        }
    }

    #[test]
    fn absurd_rules_and_moments_neither_overflow_nor_open_the_gate() {
        let century = Duration::from_hours(24 * 36500);
        for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow, Algorithm::FixedWindow] {
            for (count, burst, window) in [
                (1, u32::MAX, century),
                (u32::MAX, u32::MAX, Duration::from_millis(1)),
                (0, 0, Duration::ZERO),
                (1, 1, Duration::MAX),
            ] {
                let rule = Rule { quota: Quota { count, window }, ..rule(algorithm, 1, 1, burst) };
                for now in [0, 1, u64::MAX / 2, u64::MAX] {
                    let (first, cell) = spend(Cell::default(), Tick(now), &rule, 1);
                    assert!(first.allowed, "{rule:?} {now}");
                    let (_, cell) = spend(refund(cell, Tick(now), &rule, 1), Tick(now), &rule, 1);
                    let second = spend(cell, Tick(now), &rule, 1).0;
                    assert!(!second.allowed || count.max(burst) > 1, "{rule:?} {now}");
                }
            }
        }
    }
}
