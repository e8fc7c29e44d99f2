//! When keys are fetched, and what a token with an unknown `kid` is told meanwhile. A function of its arguments: fetches
//! nothing and reads no clock.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use crate::clock::Tick;

/// What a `kid` that no key answers to means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// A fetch that may bring its key is under way, was just asked for, or could not be made: nobody can say yet.
    Pending,
    /// The issuer has no such key.
    Unknown,
}

/// Why a fetch is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was time, or time to try again.
    Time,
    /// A token named a key that is not known.
    Kid,
    Operator,
}

/// A wish of unknown `kid`s for a fetch.
#[derive(Clone, Copy, Debug)]
enum Wish {
    None,
    Now,
    /// When the cooldown is over.
    At(Tick),
}

#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    /// When it is time again.
    next: Tick,
    wish: Wish,
    /// Since when a `kid` may have a fetch made again.
    cooled: Tick,
    /// How many fetches have begun; also the number of the newest.
    begun: u64,
    /// The number of the newest fetch that brought keys.
    good: u64,
    is_flying: bool,
    is_failing: bool,
    /// Failures in a row of fetches that were made because it was time.
    failures: u32,
    misses: Misses,
}

/// The `kid`s that were missed, each with the number of the newest fetch at that time. Kept as digests, so that a long
/// `kid` takes no more room than a short one.
#[derive(Debug, Default)]
struct Misses {
    first: HashMap<[u8; 32], u64>,
    /// Oldest first.
    order: VecDeque<[u8; 32]>,
}

impl Schedule {
    /// Nothing is fetched yet, and it is time to.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: Tick::default(),
            wish: Wish::None,
            cooled: Tick::default(),
            begun: 0,
            good: 0,
            is_flying: false,
            is_failing: false,
            failures: 0,
            misses: Misses::default(),
        }
    }

    /// When the next fetch is to begin, and why.
    pub fn due(&self) -> (Tick, Cause) {
        match self.wish {
            Wish::Now => (Tick::default(), Cause::Kid),
            Wish::At(at) if at < self.next => (at, Cause::Kid),
            Wish::At(_) | Wish::None => (self.next, Cause::Time),
        }
    }

    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// A fetch begins. It serves every wish that was made before.
    pub fn begin(&mut self, cause: Cause, now: Tick) {
        self.begun = self.begun.saturating_add(1);
        self.is_flying = true;
        self.wish = Wish::None;
        if cause == Cause::Kid {
            self.cooled = now.plus(COOLDOWN);
        }
    }

    /// The fetch that began last is over, however it ended.
    pub fn land(&mut self) {
        self.is_flying = false;
    }

    /// The fetch that began last brought keys that may be used for `max_age`. `chance` spreads the next one. Whether
    /// fetches failed before.
    pub fn succeeded(&mut self, max_age: Option<Duration>, now: Tick, chance: u16) -> bool {
        let pause = max_age.map_or(self.interval, |age| age.max(LEAST_AGE).min(self.interval));
        self.next = now.plus(spread(pause, chance));
        self.good = self.begun;
        self.failures = 0;
        std::mem::take(&mut self.is_failing)
    }

    /// It brought none. Whether that is news.
    ///
    /// Only a fetch whose time had come moves the next one: tokens with made-up `kid`s must not turn one failure into a
    /// row of quick attempts.
    pub fn failed(&mut self, cause: Cause, now: Tick, chance: u16) -> bool {
        if cause == Cause::Time {
            let doubled = LEAST_PAUSE.saturating_mul(2_u32.saturating_pow(self.failures));
            self.next = now.plus(spread(doubled.min(MOST_PAUSE), chance));
            self.failures = self.failures.saturating_add(1);
        }
        !std::mem::replace(&mut self.is_failing, true)
    }

    /// A token named this `kid`, and no key answers to it. Wishes for a fetch where that may help.
    pub fn miss(&mut self, kid: &str, now: Tick) -> Miss {
        // Begun after the first miss: the issuer was asked, and did not have it.
        let is_absent = self.good > self.misses.first(kid, self.begun);
        if !self.is_flying && matches!(self.wish, Wish::None) {
            // Also for an absent one: some issuers sign with a new key before they show it.
            self.wish = if self.cooled <= now { Wish::Now } else { Wish::At(self.cooled) };
        }
        let is_on_its_way = match self.wish {
            Wish::Now => true,
            Wish::At(at) => at <= now,
            Wish::None => false,
        };
        // Without a failure the keys are at most as old as the cooldown, and speak for the issuer.
        if !is_absent && (self.is_flying || is_on_its_way || self.is_failing) { Miss::Pending } else { Miss::Unknown }
    }
}

impl Misses {
    /// The number that was kept with the first miss of a `kid`; now `number` when this is the first.
    fn first(&mut self, kid: &str, number: u64) -> u64 {
        let mut name = [0; 32];
        name.copy_from_slice(digest(&SHA256, kid.as_bytes()).as_ref());
        if let Some(&first) = self.first.get(&name) {
            return first;
        }
        if self.order.len() >= MOST_MISSES
            && let Some(oldest) = self.order.pop_front()
        {
            self.first.remove(&oldest);
        }
        self.first.insert(name, number);
        self.order.push_back(name);
        number
    }
}

/// Ten percent less to ten percent more, so that many gateways do not ask together.
fn spread(pause: Duration, chance: u16) -> Duration {
    (pause / 1000).saturating_mul(900 + u32::from(chance) % 201)
}

/// How long unknown `kid`s have no further fetch made after one.
const COOLDOWN: Duration = Duration::from_secs(30);
/// What an issuer says to be older after less is fetched this often, and no more.
const LEAST_AGE: Duration = Duration::from_secs(30);
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_mins(1);
const MOST_MISSES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// No spread.
    const EVEN: u16 = 100;
    const TEN_MINUTES: Duration = Duration::from_mins(10);

    #[derive(Clone, Copy, Debug)]
    enum Outcome {
        Keys,
        None,
    }

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000)
    }

    /// The first fetch brought keys at second 0; the next one is due at 600.
    fn settled() -> Schedule {
        let mut schedule = Schedule::new(TEN_MINUTES);
        fetch(&mut schedule, at(0), Outcome::Keys);
        schedule
    }

    /// Makes the fetch that is due.
    fn fetch(schedule: &mut Schedule, now: Tick, outcome: Outcome) {
        let (_, cause) = schedule.due();
        schedule.begin(cause, now);
        match outcome {
            Outcome::Keys => schedule.succeeded(None, now, EVEN),
            Outcome::None => schedule.failed(cause, now, EVEN),
        };
        schedule.land();
    }

    #[test]
    fn the_first_fetch_is_due_at_once() {
        assert_eq!(Schedule::new(TEN_MINUTES).due(), (at(0), Cause::Time));
    }

    #[test]
    fn keys_are_fetched_again_at_the_shorter_of_both_times_but_not_all_the_time() {
        for (max_age, expected) in
            [(None, 600), (Some(3600), 600), (Some(300), 300), (Some(30), 30), (Some(0), 30), (Some(u64::MAX), 600)]
        {
            let mut schedule = settled();
            schedule.begin(Cause::Time, at(0));
            schedule.succeeded(max_age.map(Duration::from_secs), at(0), EVEN);
            assert_eq!(schedule.due(), (at(expected), Cause::Time), "{max_age:?}");
        }
        let mut hasty = Schedule::new(Duration::from_secs(5));
        fetch(&mut hasty, at(0), Outcome::Keys);
        assert_eq!(hasty.due(), (at(5), Cause::Time), "the operator may ask more often");
    }

    #[test]
    fn failures_are_tried_again_after_a_growing_pause() {
        let mut schedule = Schedule::new(TEN_MINUTES);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            fetch(&mut schedule, at(0), Outcome::None);
            pauses.push(schedule.due().0);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60].map(at));
        fetch(&mut schedule, at(0), Outcome::Keys);
        fetch(&mut schedule, at(0), Outcome::None);
        assert_eq!(schedule.due(), (at(1), Cause::Time));
    }

    #[test]
    fn a_change_of_state_is_news_once() {
        let mut schedule = settled();
        let news = [
            schedule.failed(Cause::Time, at(1), EVEN),
            schedule.failed(Cause::Kid, at(2), EVEN),
            schedule.succeeded(None, at(3), EVEN),
            schedule.succeeded(None, at(4), EVEN),
        ];
        assert_eq!(news, [true, false, true, false]);
    }

    /// F15: a thousand tokens with the new key, and one fetch.
    #[test]
    fn a_new_kid_has_one_fetch_made_and_waits_for_it() {
        let mut schedule = settled();
        let misses = |schedule: &mut Schedule, now| (0..500).map(|_| schedule.miss("new", now)).all(|miss| miss == Miss::Pending);
        assert!(misses(&mut schedule, at(5)));
        // A request that came a little earlier, judged a little later.
        assert_eq!(schedule.miss("new", Tick(at(5).0 - 50)), Miss::Pending);
        assert_eq!(schedule.due(), (at(0), Cause::Kid));
        schedule.begin(Cause::Kid, at(5));
        assert!(misses(&mut schedule, at(6)));
        schedule.succeeded(None, at(6), EVEN);
        schedule.land();
        assert_eq!(schedule.due(), (at(606), Cause::Time));
    }

    #[test]
    fn a_kid_that_a_later_fetch_did_not_bring_is_unknown() {
        let mut schedule = settled();
        assert_eq!(schedule.miss("old", at(5)), Miss::Pending);
        fetch(&mut schedule, at(5), Outcome::Keys);
        assert_eq!(schedule.miss("old", at(6)), Miss::Unknown);
        assert_eq!(schedule.due(), (at(35), Cause::Kid), "asked about once more when the cooldown is over");
        schedule.begin(Cause::Kid, at(35));
        assert_eq!(schedule.miss("old", at(35)), Miss::Unknown, "and unknown meanwhile");
        schedule.failed(Cause::Kid, at(36), EVEN);
        schedule.land();
        assert_eq!(schedule.miss("old", at(36)), Miss::Unknown);
    }

    #[test]
    fn a_kid_first_seen_during_a_fetch_is_not_judged_by_it() {
        let mut schedule = settled();
        schedule.begin(Cause::Time, at(600));
        assert_eq!(schedule.miss("new", at(600)), Miss::Pending);
        schedule.succeeded(None, at(601), EVEN);
        schedule.land();
        assert_eq!(schedule.miss("new", at(601)), Miss::Pending);
        assert_eq!(schedule.due(), (at(0), Cause::Kid));
    }

    #[test]
    fn within_the_cooldown_fresh_keys_speak_for_the_issuer() {
        let mut schedule = settled();
        schedule.miss("one", at(5));
        fetch(&mut schedule, at(5), Outcome::Keys);
        assert_eq!(schedule.miss("two", at(6)), Miss::Unknown);
        assert_eq!(schedule.due(), (at(35), Cause::Kid));
        assert_eq!(schedule.miss("two", at(35)), Miss::Pending, "its turn has come");
        fetch(&mut schedule, at(35), Outcome::Keys);
        assert_eq!(schedule.miss("two", at(36)), Miss::Unknown);
    }

    /// G1: nobody can say whether a key exists, and good keys are not asked about here.
    #[test]
    fn while_fetches_fail_nothing_new_is_called_unknown() {
        let mut schedule = settled();
        schedule.miss("one", at(5));
        fetch(&mut schedule, at(5), Outcome::None);
        assert_eq!(schedule.due(), (at(600), Cause::Time), "a wish that failed does not hurry the next fetch");
        assert_eq!(schedule.miss("one", at(6)), Miss::Pending);
        assert_eq!(schedule.miss("two", at(6)), Miss::Pending);
        assert_eq!(schedule.due(), (at(35), Cause::Kid));
    }

    /// G1: 10,000 made-up kids over five minutes, and a host that fails.
    #[test]
    fn made_up_kids_have_at_most_one_fetch_made_in_each_cooldown() {
        let mut schedule = settled();
        let mut fetches = Vec::new();
        for number in 0..10_000_u64 {
            let now = Tick(number * 30_000);
            assert_eq!(schedule.miss(&format!("made-up-{number}"), now), Miss::Pending);
            let (due, cause) = schedule.due();
            if due <= now {
                fetches.push((now, cause));
                fetch(&mut schedule, now, Outcome::None);
            }
        }
        assert_eq!(fetches, (0..10).map(|turn| (at(turn * 30), Cause::Kid)).collect::<Vec<_>>());
        assert_eq!(schedule.misses.first.len(), MOST_MISSES);
        assert_eq!(schedule.misses.order.len(), MOST_MISSES);
    }

    #[test]
    fn what_an_operator_asks_for_serves_a_waiting_kid_and_starts_no_cooldown() {
        let mut schedule = settled();
        schedule.miss("new", at(5));
        schedule.begin(Cause::Operator, at(5));
        schedule.failed(Cause::Operator, at(5), EVEN);
        schedule.land();
        assert_eq!(schedule.due(), (at(600), Cause::Time));
        assert_eq!(schedule.miss("new", at(6)), Miss::Pending);
        assert_eq!(schedule.due(), (at(0), Cause::Kid));
    }

    proptest! {
        #[test]
        fn a_spread_pause_is_within_ten_percent(seconds in 1_u64..100_000, chance in any::<u16>()) {
            let (pause, found) = (Duration::from_secs(seconds), spread(Duration::from_secs(seconds), chance));
            prop_assert!(found >= pause * 9 / 10 && found <= pause * 11 / 10, "{:?}", found);
        }

        #[test]
        fn whatever_kids_do_fetches_stay_one_cooldown_apart(
            steps in prop::collection::vec((0_u64..20, 0_u8..30, prop_oneof![Just(Outcome::Keys), Just(Outcome::None)]), 1..200),
        ) {
            let mut schedule = Schedule::new(TEN_MINUTES);
            fetch(&mut schedule, at(0), Outcome::Keys);
            let (mut now, mut last) = (0, None);
            for (pause, kid, outcome) in steps {
                now += pause;
                schedule.miss(&kid.to_string(), at(now));
                let (due, cause) = schedule.due();
                if due <= at(now) {
                    if cause == Cause::Kid {
                        prop_assert!(last.is_none_or(|last| now >= last + 30));
                        last = Some(now);
                    }
                    fetch(&mut schedule, at(now), outcome);
                }
            }
        }
    }
}
