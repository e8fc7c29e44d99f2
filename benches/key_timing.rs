//! Does the time of a comparison tell how much of a key is right? (security case H3)
//!
//! Two classes of wrong keys, one that differs from the stored one in its first letter and one that differs in its last,
//! are compared in random order; Welch's t-test says whether their times differ (dudect: Reparaz, Balasch, Verbauwhede,
//! "Dude, is my code constant time?", 2017). Below 4.5 there is no evidence that they do. Prints t for all measurements
//! and for those below a percentile, because interrupts make the slowest ones noise.
//!
//!     cargo bench --bench key_timing
#![expect(clippy::print_stdout, reason = "the figure is what the bench is for")]

#[path = "../src/identity/secret.rs"]
#[expect(dead_code, unused_imports, reason = "only the comparison is measured")]
mod secret;

use std::hint::black_box;
use std::time::Instant;

use secret::Digest;

const PAIRS: usize = 20_000;
/// Comparisons in one measurement: a clock tells tens of nanoseconds at best.
const TIMES: u32 = 16;
const KEY: &str = "gw_live_abcdef0123_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg_3cWgOT";

fn main() {
    let stored = Digest::of(KEY);
    let (first, last) = (KEY.replacen("_0123456789A", "_9123456789A", 1), KEY.replace("abcdefg_3", "abcdefh_3"));
    assert!([&first, &last].iter().all(|key| *key != KEY && !stored.is(&Digest::of(key))) && stored.is(&Digest::of(KEY)));
    let (mut of_first, mut of_last) = (Vec::new(), Vec::new());
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..2 * PAIRS {
        chance = next(chance);
        let (key, times) = if chance >> 63 == 1 { (&first, &mut of_first) } else { (&last, &mut of_last) };
        times.push(measured(&stored, key));
    }
    println!("{PAIRS} pairs of {TIMES} comparisons, medians {:.1} and {:.1} ns", median(&of_first), median(&of_last));
    for part in [1.0, 0.99, 0.95, 0.9, 0.75] {
        let limit = percentile(&[of_first.as_slice(), &of_last].concat(), part);
        let fastest = |times: &[f64]| times.iter().copied().filter(|time| *time <= limit).collect::<Vec<_>>();
        let (one, other) = (fastest(&of_first), fastest(&of_last));
        println!("t = {:+.2} of the fastest {:.0} %", t(&one, &other), part * 100.0);
    }
}

/// Nanoseconds of one comparison.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn measured(stored: &Digest, key: &str) -> f64 {
    let start = Instant::now();
    for _ in 0..TIMES {
        black_box(stored.is(&Digest::of(black_box(key))));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
}

/// Welch's t.
fn t(one: &[f64], other: &[f64]) -> f64 {
    let of = |times: &[f64]| {
        let count = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean, error), (other_mean, other_error)) = (of(one), of(other));
    (mean - other_mean) / (error + other_error).sqrt()
}

fn median(times: &[f64]) -> f64 {
    percentile(times, 0.5)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
fn percentile(times: &[f64], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = f64::from(u32::try_from(sorted.len() - 1).unwrap_or(u32::MAX));
    sorted.get((last * part) as usize).copied().unwrap_or(f64::NAN)
}

/// xorshift64: which class is next need not be secret, only evenly drawn.
fn next(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}
