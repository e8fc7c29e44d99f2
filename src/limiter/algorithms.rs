//! The arithmetic of limits: pure functions from a cell, a moment and a rule to a decision and the next cell.
//!
//! GCRA keeps one number, the theoretical arrival time (ITU-T I.371), in nanoseconds: whole microseconds would round the
//! step of a fast rule by more than a per cent. The step is rounded up, so a rule admits at most what it says. Windows lie
//! on a grid that starts at tick zero and are counted in microseconds.

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
pub fn spend(cell: Cell, now: Tick, rule: &Rule) -> (Decision, Cell) {
    match rule.algorithm {
        Algorithm::Gcra => gcra(cell, now, rule),
        Algorithm::SlidingWindow => sliding_window(cell, now, rule),
        Algorithm::FixedWindow => fixed_window(cell, now, rule),
    }
}

/// Takes back one that was spent at `spent_at`; nothing when time has taken it back already.
pub fn refund(cell: Cell, spent_at: Tick, rule: &Rule) -> Cell {
    let width = width(rule);
    let start = start_of(spent_at, width);
    match rule.algorithm {
        Algorithm::Gcra if cell.at > nanos(spent_at) => Cell { at: cell.at.saturating_sub(Pace::of(rule).step), ..cell },
        Algorithm::SlidingWindow | Algorithm::FixedWindow if start == cell.at => {
            Cell { used: cell.used.saturating_sub(1), ..cell }
        }
        Algorithm::SlidingWindow if start.saturating_add(width) == cell.at => {
            Cell { before: cell.before.saturating_sub(1), ..cell }
        }
        Algorithm::Gcra | Algorithm::SlidingWindow | Algorithm::FixedWindow => cell,
    }
}

/// What a GCRA rule comes to in nanoseconds.
struct Pace {
    /// Between two spendings at the steady rate.
    step: u64,
    /// How far the arrival time may lie ahead of now: one step for each of the burst.
    span: u64,
}

impl Pace {
    fn of(rule: &Rule) -> Self {
        // A quarter of the range: now + span + step then always fits. Only bursts over centuries are cut by it.
        const FARTHEST: u64 = u64::MAX / 4;
        let window = u64::try_from(rule.quota.window.as_nanos()).unwrap_or(u64::MAX).min(FARTHEST);
        let step = window.div_ceil(u64::from(rule.quota.count.max(1))).max(1);
        Self { step, span: step.saturating_mul(u64::from(rule.burst.max(1))).min(FARTHEST) }
    }
}

fn gcra(cell: Cell, now: Tick, rule: &Rule) -> (Decision, Cell) {
    let Pace { step, span } = Pace::of(rule);
    let now = nanos(now);
    let arrival = cell.at.max(now);
    let next = arrival.saturating_add(step);
    let ahead = next - now;
    let allowed = ahead <= span;
    let decision = Decision {
        allowed,
        limit: rule.burst.max(1),
        remaining: if allowed { count((span - ahead) / step) } else { 0 },
        reset_after: Duration::from_nanos(if allowed { ahead } else { arrival - now }),
        retry_after: Duration::from_nanos(ahead.saturating_sub(span)),
    };
    (decision, if allowed { Cell { at: next, ..cell } } else { cell })
}

/// The window before counts with the share of it that a window ending now would still cover.
fn sliding_window(cell: Cell, now: Tick, rule: &Rule) -> (Decision, Cell) {
    let width = width(rule);
    let mut cell = rolled(cell, now, width);
    let elapsed = now.0.saturating_sub(cell.at);
    let left = width - elapsed.min(width);
    let limit = rule.quota.count.max(1);
    let (full, old) = (wide(limit) * u128::from(width), wide(cell.before) * u128::from(left));
    let weight = |used: u32| old + wide(used) * u128::from(width);
    let allowed = cell.used < limit && weight(cell.used.saturating_add(1)) <= full;
    if allowed {
        cell.used += 1;
    }
    let reset_after = match cell {
        Cell { used: 0, before: 0, .. } => 0,
        Cell { used: 0, .. } => left,
        Cell { .. } => left.saturating_add(width),
    };
    let decision = Decision {
        allowed,
        limit,
        remaining: u32::try_from(full.saturating_sub(weight(cell.used)) / u128::from(width)).unwrap_or(u32::MAX),
        reset_after: Duration::from_micros(reset_after),
        retry_after: Duration::from_micros(if allowed {
            0
        } else if cell.used < limit {
            fade(cell.before, limit - cell.used - 1, width).saturating_sub(elapsed)
        } else {
            left.saturating_add(fade(cell.used, limit - 1, width))
        }),
    };
    (decision, cell)
}

fn fixed_window(cell: Cell, now: Tick, rule: &Rule) -> (Decision, Cell) {
    let width = width(rule);
    let mut cell = Cell { before: 0, ..rolled(cell, now, width) };
    let left = width - now.0.saturating_sub(cell.at).min(width);
    let limit = rule.quota.count.max(1);
    let allowed = cell.used < limit;
    if allowed {
        cell.used += 1;
    }
    let decision = Decision {
        allowed,
        limit,
        remaining: limit.saturating_sub(cell.used),
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

/// A quarter of the range for the same reason as for GCRA.
fn width(rule: &Rule) -> u64 {
    u64::try_from(rule.quota.window.as_micros()).unwrap_or(u64::MAX).clamp(1, u64::MAX / 4)
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
    fn admitted(rule: &Rule, ticks: &[u64]) -> Vec<u64> {
        let mut cell = Cell::default();
        let mut out = Vec::new();
        for &tick in ticks {
            let (decision, next) = spend(cell, Tick(tick), rule);
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
            let allowed = admitted(&rule, &ticks);
            prop_assert!(most_in_any_window(&allowed, width) <= bound(&rule));
            if rule.algorithm != Algorithm::Gcra {
                for start in allowed.iter().map(|tick| tick - tick % width) {
                    let inside = allowed.iter().filter(|&&tick| tick >= start && tick < start + width).count();
                    prop_assert!(inside <= usize::try_from(rule.quota.count).unwrap());
                }
            }
        }

        #[test]
        fn a_refused_caller_gets_in_at_retry_after_and_not_a_microsecond_before(
            rule in any_rule(), gaps in prop::collection::vec(0u64..3 * MS, 1..100),
        ) {
            let (mut cell, mut now) = (Cell::default(), 0);
            for gap in gaps {
                now += gap;
                let (decision, next) = spend(cell, Tick(now), &rule);
                if !decision.allowed {
                    prop_assert_eq!(spend(next, Tick(now), &rule), (decision, next));
                    let wait = u64::try_from(decision.retry_after.as_nanos().div_ceil(1000)).unwrap();
                    prop_assert!(wait > 0);
                    prop_assert!(spend(next, Tick(now + wait), &rule).0.allowed);
                    prop_assert!(!spend(next, Tick(now + wait - 1), &rule).0.allowed);
                }
                cell = next;
            }
        }

        #[test]
        fn exactly_as_many_as_remaining_says_get_in_at_once(
            rule in any_rule(), gaps in prop::collection::vec(0u64..3 * MS, 1..60),
        ) {
            let (mut cell, mut now) = (Cell::default(), 0);
            for gap in gaps {
                now += gap;
                let (decision, next) = spend(cell, Tick(now), &rule);
                let (mut trial, mut more) = (next, 0);
                loop {
                    let (decision, after) = spend(trial, Tick(now), &rule);
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
                let (decision, next) = spend(cell, Tick(start), &rule);
                (cell, last) = (next, decision.reset_after);
            }
            let later = Tick(start + u64::try_from(last.as_nanos().div_ceil(1000)).unwrap());
            prop_assert_eq!(spend(cell, later, &rule).0, spend(Cell::default(), later, &rule).0);
        }

        #[test]
        fn a_refund_gives_back_exactly_one(rule in any_rule(), spendings in 1u32..30, now in 0u64..100 * MS) {
            let mut cell = Cell::default();
            for _ in 0..spendings {
                let (decision, next) = spend(cell, Tick(now), &rule);
                if decision.allowed {
                    prop_assert_eq!(spend(refund(next, Tick(now), &rule), Tick(now), &rule), (decision, next));
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
            let (decision, next) = spend(cell, Tick(at), &rule);
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
        let allowed = admitted(&rule, &ticks).len();
        assert!((299_700..=301_000).contains(&allowed), "{allowed}");
    }

    #[test]
    fn a_fixed_window_may_be_spent_twice_around_its_edge_and_never_more() {
        let rule = rule(Algorithm::FixedWindow, 5, 1000, 1);
        let edge = 1000 * MS;
        let ticks: Vec<u64> = std::iter::repeat_n(edge - 1, 50).chain(std::iter::repeat_n(edge, 50)).collect();
        assert_eq!(admitted(&rule, &ticks).len(), 10);
    }

    #[test]
    fn a_sliding_window_gives_nothing_new_at_its_edge() {
        let rule = rule(Algorithm::SlidingWindow, 5, 1000, 1);
        let edge = 1000 * MS;
        let ticks: Vec<u64> = std::iter::repeat_n(edge - 1, 50).chain(std::iter::repeat_n(edge, 50)).collect();
        assert_eq!(admitted(&rule, &ticks).len(), 5);
        let (decision, _) = spend(Cell { at: edge, used: 0, before: 5 }, Tick(edge + 199 * MS), &rule);
        assert_eq!((decision.allowed, decision.retry_after), (false, Duration::from_millis(1)));
        let (decision, _) = spend(Cell { at: edge, used: 0, before: 5 }, Tick(edge + 200 * MS), &rule);
        assert_eq!((decision.allowed, decision.remaining), (true, 0));
    }

    #[test]
    fn a_refund_after_the_window_gives_the_next_window_nothing() {
        for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::Gcra] {
            let rule = rule(algorithm, 2, 1000, 2);
            let (_, spent) = spend(Cell::default(), Tick(0), &rule);
            let (expected, full) = spend(spend(spent, Tick(5000 * MS), &rule).1, Tick(5000 * MS), &rule);
            assert!(expected.allowed);
            let again = spend(refund(full, Tick(0), &rule), Tick(5000 * MS), &rule).0;
            // The arrival time alone cannot tell the two spendings apart, so GCRA gives the one step back.
            assert_eq!(again.allowed, algorithm == Algorithm::Gcra, "{algorithm:?}");
        }
        let rule = rule(Algorithm::Gcra, 2, 1000, 2);
        let (_, spent) = spend(Cell::default(), Tick(0), &rule);
        let late = refund(spent, Tick(500 * MS), &rule);
        assert_eq!(late, spent);
    }

    #[test]
    fn a_clock_reading_from_another_thread_that_is_late_counts_in_the_current_window() {
        for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
            let rule = rule(algorithm, 1, 1000, 1);
            let (first, cell) = spend(Cell::default(), Tick(2000 * MS), &rule);
            let (second, _) = spend(cell, Tick(1999 * MS), &rule);
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
                    let (first, cell) = spend(Cell::default(), Tick(now), &rule);
                    assert!(first.allowed, "{rule:?} {now}");
                    let (_, cell) = spend(refund(cell, Tick(now), &rule), Tick(now), &rule);
                    let second = spend(cell, Tick(now), &rule).0;
                    assert!(!second.allowed || count.max(burst) > 1, "{rule:?} {now}");
                }
            }
        }
    }
}
